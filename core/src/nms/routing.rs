//! From a Direction Request to two Route Directions (paper Figs. 3–5 and 7–9).
//!
//! The table has the order of the messages. "Initiator" and "responder" stand for the Route Direction that the NMS
//! sends to that node, and "TRS" for the Relay Request. Where the table has "its Confirmation" or "its Response", the
//! NMS waits for that message before it goes on. `confirmed` and `fast` are values of `Signaling`. A standing leg is a
//! leg that a node keeps for its next relayed tunnel.
//!
//! | method | pattern | who dials | first | then | last |
//! |---|---|---|---|---|---|
//! | conventional | 1, 2 | initiator | responder | its Confirmation | initiator |
//! | conventional | 2 | responder | initiator | | responder |
//! | conventional | 3 | initiator | TRS, its Response | responder, its Confirmation | initiator |
//! | proposed | 1, 2 | either | responder | | initiator |
//! | proposed, `confirmed` | 1, 2 | initiator | responder | its Confirmation | initiator |
//! | proposed, `confirmed` | 2 | responder | initiator | | responder |
//! | proposed | 3 | initiator | responder | its Confirmation with CID_B | initiator |
//! | proposed, `fast`, the responder has a standing leg | 3 | initiator | responder | | initiator |
//!
//! * **Retransmission.** In the conventional method the NMS retransmits a message with back-off until it is answered. A
//!   retransmitted Direction Request makes the NMS repeat the Route Direction.
//! * **Simultaneous requests** count as one. While a construction is under way, a Direction Request of its responder
//!   starts another one only if it asks for a kind of route that this construction does not cover.
//! * **A new construction** between two nodes replaces earlier ones between them: all that the same node asked for, and
//!   those of the other node whose kind of route the new one covers.
//! * **If the responder registers anew** before the initiator is told, the construction starts again with the new
//!   address.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use rand_chacha::rand_core::RngCore;

use super::registry::Session;
use super::{Nms, Registration};
use crate::epoch;
use crate::event::{Basis, DropReason, Event, Protection, RouteChosen};
use crate::header::{Flags, Header, is_unknown};
use crate::key::Key128;
use crate::machine::{Output, Transmit};
use crate::message::{
    AtEnd, DirectionRequest, ErrorCode, Granted, Message, PeerRef, Relay, RelayEpoch, RelayMode, RelayOffer,
    RelayRequest, RelayResponse, RouteDirection, TunnelKeys, Want,
};
use crate::name::{NodeId, Party, PathId, RelayCid};
use crate::route::{self, Choice, Dialer, Pattern, Policy, optimal};
use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::nms::{ROUTE_LIFETIME, ROUTING_RETRY, SIMULTANEOUS_REQUESTS};
use crate::timing::{Due, Timer, patient};

/// The largest number of requests to the TRS that are remembered. A Relay Epoch is accepted only if it answers one of
/// them. Fewer requests than this are under way within one round trip. If a request is forgotten all the same, the
/// answer to a later one states the epoch.
const MAX_ASKED: usize = 64;
/// The largest number of route constructions under way.
pub const MAX_PENDING: usize = 65_536;
/// The largest number of route constructions under way that one node asked for.
pub const MAX_PENDING_PER_NODE: usize = 1024;

/// The identifier of a route construction, and the transaction id of its messages to the responder and the TRS. If both
/// nodes get their Route Directions at once (proposed method), it is also the initiator's transaction id. This shared
/// id tells both nodes to which Route Direction a link belongs.
pub(super) type PendingId = u32;

/// A route construction.
pub(super) struct Pending {
    initiator: NodeId,
    responder: NodeId,
    /// The initiator's transaction.
    transaction: u32,
    want: Want,
    choice: Choice,
    keys: Option<TunnelKeys>,
    conventional: bool,
    step: Step,
    /// When the present step began.
    since: Instant,
    started: Instant,
    /// Whether one of the two nodes is slow. If so, each wait is longer.
    slow: bool,
    /// The lower one of the two nodes' values. `Paper` in the conventional method.
    signaling: Signaling,
    /// Whether the tunnel is relayed and begins on the responder's standing leg.
    on_standby: bool,
    retry: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The TRS was asked and must answer (conventional pattern 3).
    AwaitRelay,
    /// The responder was told and must confirm.
    AwaitConfirmation,
    /// Both nodes were told. The value is the responder's leg, if the route is relayed and of the proposed method.
    Told(Option<RelayCid>),
}

impl Nms {
    pub(super) fn on_direction_request(
        &mut self,
        now: Instant,
        node: NodeId,
        header: &Header,
        request: &DirectionRequest,
    ) {
        let transaction = header.transaction;
        if !self.nodes.contains_key(&node) {
            return self.dropped(DropReason::UnknownId);
        }
        if !self.is_proved(node) {
            // The node asks again. By then it has answered the challenge.
            return self.dropped(DropReason::Unproved);
        }
        if let Some(&id) = self.asked.get(&(node, transaction)) {
            return self.repeat(now, id, header.count);
        }
        if !self.rates.may_ask(now, node) {
            // The node asks again.
            return self.dropped(DropReason::Busy);
        }
        let responder = match self.find_peer(node, &request.peer) {
            Ok(responder) => responder,
            Err(code) => {
                self.send(now, node, transaction, 0, &Message::Error(code));
                return;
            }
        };
        let between = self.between(node, responder);
        let leads_there = |id: &PendingId| {
            let pending = &self.pending[id];
            let is_fresh = !matches!(pending.step, Step::Told(_)) || now < pending.since + SIMULTANEOUS_REQUESTS;
            pending.initiator == responder && is_fresh && pending.want.covers(request.want)
        };
        if between.iter().any(leads_there) {
            return;
        }
        for id in between {
            let pending = &self.pending[&id];
            if pending.initiator == node || request.want.covers(pending.want) {
                self.forget_pending(id);
            }
        }
        self.start(now, node, responder, transaction, request.want);
    }

    /// The constructions under way between two nodes.
    fn between(&self, a: NodeId, b: NodeId) -> Vec<PendingId> {
        let is_theirs = |id: &PendingId| [self.pending[id].initiator, self.pending[id].responder].contains(&b);
        self.concerned_by(a).filter(is_theirs).collect()
    }

    fn concerned_by(&self, node: NodeId) -> impl Iterator<Item = PendingId> {
        self.concerned.range((node, 0)..=(node, PendingId::MAX)).map(|&(_, id)| id)
    }

    fn find_peer(&self, node: NodeId, peer: &PeerRef) -> Result<NodeId, ErrorCode> {
        let name = match peer {
            PeerRef::Name(name) => Some(name.clone()),
            PeerRef::Virtual(address) => self.owner_of(*address)?,
        };
        let name = name.ok_or(ErrorCode::UnknownPeer)?;
        let responder = NodeId::of(&name);
        if responder == node {
            return Err(ErrorCode::UnknownPeer);
        }
        // A removed device may still be registered; it counts as unknown. A registered node is reachable even while the
        // database fails.
        let registered = self.nodes.contains_key(&responder);
        match self.store.device(responder) {
            Ok(None) => Err(ErrorCode::UnknownPeer),
            // This answer also hides whether the peer is registered.
            Ok(Some(_)) | Err(_) if self.forbids(node, &name) => Err(ErrorCode::NotPermitted),
            Ok(Some(_)) | Err(_) if registered => Ok(responder),
            Ok(Some(_)) => Err(ErrorCode::PeerOffline),
            Err(_) => Err(ErrorCode::Unavailable),
        }
    }

    fn start(&mut self, now: Instant, initiator: NodeId, responder: NodeId, transaction: u32, want: Want) {
        self.look_where(initiator);
        self.look_where(responder);
        let own = self.concerned_by(initiator).filter(|id| self.pending[id].initiator == initiator).count();
        let room = self.pending.len() < MAX_PENDING && own < MAX_PENDING_PER_NODE;
        let choice = self.choose(now, initiator, responder, want);
        let (a, b) = (&self.nodes[&initiator], &self.nodes[&responder]);
        let conventional = matches!(a.session, Session::Conventional { .. });
        let slow = a.slow || b.slow;
        let wish = a.signaling.agreed(b.signaling);
        let signaling = if conventional { Signaling::Paper } else { wish };
        let one_method = matches!(b.session, Session::Conventional { .. }) == conventional;
        let usable = |choice: &Choice| choice.pattern != Pattern::Relayed || self.relay.is_some();
        let Some(choice) = choice.filter(|choice| one_method && room && usable(choice)) else {
            let code = if matches!(want, Want::Direct(_)) { ErrorCode::NoDirectWay } else { ErrorCode::NoRelay };
            self.send(now, initiator, transaction, 0, &Message::Error(code));
            return;
        };
        for (node, places) in [(initiator, &choice.initiator_at), (responder, &choice.responder_at)] {
            for &place in places {
                self.challenge(now, node, place);
            }
        }
        let (pattern, dialer) = (choice.pattern, choice.dialer);
        let leg = self.standing_leg(responder, signaling, pattern);
        let tells_both = !conventional && (pattern != Pattern::Relayed || leg.is_some());
        let mut id = if tells_both { transaction } else { self.rng.next_u32() };
        while self.pending.contains_key(&id) {
            id = self.rng.next_u32();
        }
        let mut keys = conventional.then(|| TunnelKeys { tunnel: self.new_key(), temporary: self.new_key() });
        if let Some(keys) = keys.as_mut().filter(|_| defect!(TemporaryKeyToldToRelay)) {
            keys.temporary = keys.tunnel.clone();
        }
        let step = Step::Told(None);
        let retry = Backoff::start(now, ROUTING_RETRY);
        let pending = Pending {
            initiator,
            responder,
            transaction,
            want,
            choice,
            keys,
            conventional,
            step,
            since: now,
            started: now,
            slow,
            signaling,
            on_standby: leg.is_some(),
            retry,
        };
        self.asked.insert((initiator, transaction), id);
        self.concerned.extend([(initiator, id), (responder, id)]);
        self.pending.insert(id, pending);
        self.pending_timers.set(id, Some(retry.next));
        if leg.is_some() {
            self.set_step(id, Step::Told(leg));
            self.tell_responder(now, id, leg, 0);
            return self.tell_initiator(now, id, leg, 0);
        }
        let confirms = conventional || signaling == Signaling::Confirmed;
        match (confirms, pattern, dialer) {
            (_, Pattern::Relayed, _) if conventional => {
                self.set_step(id, Step::AwaitRelay);
                self.ask_relay(now, id, 0);
            }
            (true, Pattern::Direct | Pattern::OneNat, Dialer::Responder) => {
                self.tell_initiator(now, id, None, 0);
                self.tell_responder(now, id, None, 0);
            }
            (_, Pattern::Relayed, _) | (true, _, Dialer::Initiator) => {
                self.set_step(id, Step::AwaitConfirmation);
                self.tell_responder(now, id, None, 0);
            }
            (false, _, _) => {
                self.tell_responder(now, id, None, 0);
                self.tell_initiator(now, id, None, 0);
            }
        }
    }

    /// The route that the policy chooses; `None` if there is none.
    fn choose(&mut self, now: Instant, initiator: NodeId, responder: NodeId, want: Want) -> Option<Choice> {
        let asker = |dialer| if dialer == Dialer::Initiator { initiator } else { responder };
        let is_by_tcp = self.is_by_tcp(initiator) || self.is_by_tcp(responder);
        let (a, b) = (&self.nodes[&initiator], &self.nodes[&responder]);
        let (choice, basis) = match self.policy {
            // One of the two nodes cannot be reached by UDP, so only a relay works.
            policy if is_by_tcp => {
                let relayed = self.relay.is_some() && !matches!(want, Want::Direct(_));
                let basis = if policy == Policy::Paper { Basis::Table1(None) } else { Basis::Ways(Vec::new()) };
                (relayed.then(Choice::relayed), basis)
            }
            Policy::Paper => {
                let (choice, locations) = route::paper(&a.network, &b.network).unzip();
                (choice, Basis::Table1(locations))
            }
            Policy::Optimal => {
                let mut ways = optimal::consider(&a.sight, &b.sight, self.main_port(&a.session));
                let told = &mut self.inside_told;
                ways.retain(|way| way.inside().is_none_or(|at| told.may_be_told(now, at, asker(way.dialer))));
                let relayed = self.relay.is_some().then(Choice::relayed);
                let choice = match want {
                    Want::Any => {
                        optimal::direct(&ways, false, 0).or(relayed).or_else(|| optimal::direct(&ways, true, 0))
                    }
                    Want::Relayed => relayed,
                    Want::Direct(round) => optimal::direct(&ways, true, round),
                };
                for way in ways.iter().filter(|way| choice.as_ref().is_some_and(|choice| choice.takes(way))) {
                    if let Some(at) = way.inside() {
                        self.inside_told.note(now, at, asker(way.dialer));
                    }
                }
                (choice, Basis::Ways(ways))
            }
        };
        let (initiator, responder) = (a.name.clone(), b.name.clone());
        let chosen = RouteChosen { initiator, responder, want, basis, choice: choice.clone() };
        self.out.push_back(Output::from(Event::RouteChosen(Box::new(chosen))));
        choice
    }

    pub(super) fn new_key(&mut self) -> Key128 {
        let mut key = Key128([0; 16]);
        self.rng.fill_bytes(&mut key.0);
        key
    }

    /// Takes the responder's standing leg, if a tunnel of this kind begins on one. Each standing leg is for one tunnel.
    fn standing_leg(&mut self, responder: NodeId, signaling: Signaling, pattern: Pattern) -> Option<RelayCid> {
        let can = signaling == Signaling::Fast && pattern == Pattern::Relayed && self.keeps_legs();
        self.nodes.get_mut(&responder).filter(|_| can)?.leg.take()
    }

    /// Whether relayed tunnels can begin on standing legs.
    fn keeps_legs(&self) -> bool {
        self.grants.is_some() && self.relay.as_ref().is_some_and(|relay| relay.mode == RelayMode::Blind)
    }

    /// Offers a node the TRS, so that the node keeps a standing leg there.
    pub(super) fn offer_relay(&mut self, now: Instant, node: NodeId) {
        if !self.keeps_legs() {
            return;
        }
        let addresses = self.relay.as_ref().map(|relay| relay.proposed.clone()).unwrap_or_default();
        let transaction = self.rng.next_u32();
        self.send(now, node, transaction, 0, &Message::RelayOffer(RelayOffer { addresses }));
    }

    fn set_step(&mut self, id: PendingId, step: Step) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.step = step;
        }
    }

    fn tell_initiator(&mut self, now: Instant, id: PendingId, cid: Option<RelayCid>, count: u8) {
        self.count_rules(now);
        let Some(direction) = self.direction(id, Dialer::Initiator, cid) else { return };
        let Pending { initiator, responder, transaction, slow, signaling, .. } = self.pending[&id];
        self.holds(initiator, responder);
        if signaling == Signaling::Fast
            && direction.relay.is_some()
            && let Some(registration) = self.nodes.get_mut(&initiator)
        {
            // The initiator uses its standing leg for this tunnel.
            registration.leg = None;
        }
        if let Some(leg) = cid
            && let Some(grant) = self.grant(now, initiator, &direction.peer, leg)
        {
            // The grant leaves first, so that the initiator has it when its leg is up.
            self.send(now, initiator, transaction, count, &grant);
        }
        let is_granted = direction.relay.is_some() && self.pending[&id].conventional && self.grants.is_some();
        let flags = Flags(if is_granted { Flags::GRANTED } else { 0 });
        let told = (transaction, count, flags.with_slow(slow).with_signaling(signaling));
        self.send_flagged(now, initiator, told, &Message::RouteDirectionInitiator(direction));
    }

    /// Sends the responder its Route Direction. `leg` is the responder's own standing leg, if the tunnel begins on it.
    fn tell_responder(&mut self, now: Instant, id: PendingId, leg: Option<RelayCid>, count: u8) {
        self.count_rules(now);
        let Some(direction) = self.direction(id, Dialer::Responder, leg) else { return };
        let Pending { initiator, responder, slow, signaling, .. } = self.pending[&id];
        self.holds(responder, initiator);
        let told = (id, count, Flags(0).with_slow(slow).with_signaling(signaling));
        self.send_flagged(now, responder, told, &Message::RouteDirectionResponder(direction));
    }

    /// The Route Direction for the initiator or the responder. `None` if the construction or one of its nodes is gone,
    /// or if the peer's virtual addresses are not known.
    fn direction(&self, id: PendingId, to: Dialer, cid: Option<RelayCid>) -> Option<RouteDirection> {
        let pending = self.pending.get(&id)?;
        let nodes = (self.nodes.get(&pending.initiator)?, self.nodes.get(&pending.responder)?);
        let (node, other, candidates) = match to {
            Dialer::Initiator => (nodes.0, nodes.1, &pending.choice.responder_at),
            Dialer::Responder => (nodes.1, nodes.0, &pending.choice.initiator_at),
        };
        let pattern = pending.choice.pattern;
        let relay = (pattern == Pattern::Relayed).then_some(self.relay.as_ref()).flatten().map(|relay| Relay {
            addresses: if pending.conventional { relay.conventional.clone() } else { relay.proposed.clone() },
            mode: relay.mode,
            cid,
        });
        Some(RouteDirection {
            peer: other.name.clone(),
            virtual_addresses: self.addresses_of(other)?,
            pattern,
            dial: pending.choice.dialer == to,
            candidates: candidates.iter().map(|&place| self.told(node, other, place)).collect(),
            keys: pending.keys.clone(),
            relay,
            want: (self.policy == Policy::Optimal).then_some(pending.want),
            permissions: AtEnd(self.permissions(&node.name, &other.name)),
        })
    }

    /// The address `place` of the node `of`, as the NMS tells it to the node `to`. An address without proof is replaced
    /// by the unspecified address, which has as many bytes. Under [`Policy::Optimal`] no choice contains such an
    /// address.
    ///
    /// Nodes in one network (`Network::is_beside`) are told each other's IPv6 addresses without proof, because a
    /// firewall may have stopped the challenge. A node that invents such an address can only invent one in its own
    /// network.
    fn told(&self, to: &Registration, of: &Registration, place: SocketAddr) -> SocketAddr {
        let nothing = if place.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let is_told =
            self.policy == Policy::Optimal || !of.network.is_claimed(place) || of.network.is_beside(&to.network);
        if is_told { place } else { SocketAddr::new(nothing, 0) }
    }

    fn ask_relay(&mut self, now: Instant, id: PendingId, count: u8) {
        let epoch = self.epochs.next(now);
        self.note_asked(id);
        let Some(pending) = self.pending.get(&id) else { return };
        let names = (self.nodes.get(&pending.initiator), self.nodes.get(&pending.responder));
        let (Some(Registration { name: a, .. }), Some(Registration { name: b, .. })) = names else { return };
        let Some(keys) = &pending.keys else { return };
        let seconds = self.grants.as_ref().map(|(_, seconds)| *seconds);
        let (initiator, responder) = (pending.initiator, pending.responder);
        let request = Message::RelayRequest(RelayRequest {
            epoch,
            forward: PathId::of(a, b),
            backward: PathId::of(b, a),
            tunnel_key: keys.tunnel.clone(),
            granted: AtEnd(seconds.map(|seconds| Granted { initiator, responder, seconds })),
        });
        self.send_trs(id, count, &request);
    }

    /// Sends the TRS a message of the conventional method.
    pub(super) fn send_trs(&mut self, transaction: u32, count: u8, message: &Message) {
        let (Some(relay), Some(session)) = (&self.relay, &mut self.trs) else { return };
        let place = relay.conventional.iter().find_map(|&remote| {
            let local = self.addresses.iter().find(|a| a.is_ipv4() == remote.is_ipv4())?;
            Some((SocketAddr::new(*local, self.conventional_port), remote))
        });
        let Some((local, remote)) = place else { return };
        let Some(payload) = session.seal(transaction, count, NodeId::of(&relay.name).0, message) else { return };
        self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
        self.signal(Party::Trs, message, Protection::ServiceKey, count);
    }

    /// Notes a request to the TRS. Its answer may be a Relay Epoch: the last epoch that the TRS accepted.
    pub(super) fn note_asked(&mut self, transaction: u32) {
        if self.asked_trs.len() >= MAX_ASKED {
            self.asked_trs.pop_front();
        }
        self.asked_trs.push_back(transaction);
    }

    pub(super) fn on_trs_datagram(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        mut payload: BytesMut,
    ) {
        let Some(session) = &mut self.trs else { return self.dropped(DropReason::UnknownId) };
        if is_unknown(&payload) {
            if let Some((_, answer)) = session.refuse_unknown(&mut payload) {
                self.out.push_back(Output::from(Transmit::new(local, remote, answer)));
            }
            return self.dropped(DropReason::UnknownType);
        }
        // No replay check is needed: the response is bound to the pending transaction. So a restarted TRS may begin its
        // sequence numbers again.
        match session.open_unnumbered(&mut payload) {
            Ok((header, Message::RelayResponse(RelayResponse { accepted }))) => {
                let id = header.transaction;
                if self.voids.answered(id) || self.path_was_granted(now, id, accepted) {
                    return;
                }
                let waiting = self.pending.get(&id).is_some_and(|p| p.step == Step::AwaitRelay);
                if waiting && accepted {
                    self.advance(now, id, Step::AwaitConfirmation);
                    self.tell_responder(now, id, None, 0);
                } else if waiting {
                    let (node, transaction) = (self.pending[&id].initiator, self.pending[&id].transaction);
                    self.send(now, node, transaction, 0, &Message::Error(ErrorCode::NoRelay));
                    self.forget_pending(id);
                } else {
                    self.dropped(DropReason::Unexpected);
                }
            }
            // A Relay Epoch counts if it answers any request since the last Relay Epoch: several requests may be under
            // way, and the TRS answers at most one of them in each `EPOCH_TOLD_EVERY`. All earlier requests are then
            // forgotten, so that a replayed Relay Epoch cannot set the epochs back.
            Ok((header, Message::RelayEpoch(RelayEpoch { last }))) => {
                if !self.asked_trs.contains(&header.transaction) {
                    return self.dropped(DropReason::Unexpected);
                }
                self.asked_trs.clear();
                self.epochs.told(now, epoch::least_after(Some(last)));
                let waiting = self.pending.get(&header.transaction).filter(|p| p.step == Step::AwaitRelay);
                if let Some(count) = waiting.map(|pending| pending.retry.sent) {
                    self.ask_relay(now, header.transaction, count);
                }
                self.grant_path_again(now, header.transaction);
            }
            Ok(_) => self.dropped(DropReason::Unexpected),
            Err(reason) => self.dropped(reason),
        }
    }

    /// Goes to the next step and restarts retransmission.
    fn advance(&mut self, now: Instant, id: PendingId, step: Step) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.step = step;
        pending.since = now;
        pending.retry = Backoff::start(now, ROUTING_RETRY);
        let next = pending.next_timer();
        self.pending_timers.set(id, Some(next));
    }

    pub(super) fn on_confirmation(&mut self, now: Instant, node: NodeId, id: u32, cid: Option<RelayCid>) {
        let waiting = self.pending.get(&id).is_some_and(|p| p.responder == node && p.step == Step::AwaitConfirmation);
        let is_without = |p: &Pending| p.responder == node && p.on_standby && cid.is_none();
        if let Some(Pending { initiator, transaction, .. }) = self.pending.get(&id).filter(|p| is_without(p)) {
            // The responder has lost the standing leg of this construction. The initiator asks again.
            let (initiator, transaction) = (*initiator, *transaction);
            self.forget_pending(id);
            self.send(now, initiator, transaction, 0, &Message::Error(ErrorCode::PeerOffline));
            return;
        }
        if !waiting {
            return self.dropped(DropReason::Unexpected);
        }
        if let Some(registration) = self.nodes.get_mut(&node) {
            // The leg may have been a standing leg, which this tunnel uses now.
            registration.leg.take_if(|leg| Some(*leg) == cid);
        }
        self.advance(now, id, Step::Told(cid));
        self.tell_initiator(now, id, cid, 0);
    }

    /// Repeats the Route Direction for a repeated Direction Request.
    fn repeat(&mut self, now: Instant, id: PendingId, count: u8) {
        let Some(pending) = self.pending.get(&id) else { return };
        if let Step::Told(cid) = pending.step {
            let responder_dials = pending.choice.dialer == Dialer::Responder;
            self.tell_initiator(now, id, cid, count);
            if responder_dials {
                self.tell_responder(now, id, None, count);
            }
        }
    }

    pub(super) fn pending_timeout(&mut self, now: Instant) {
        while let Some(id) = self.pending_timers.pop_due(now) {
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            if pending.over_at() <= now {
                let (initiator, transaction, step) = (pending.initiator, pending.transaction, pending.step);
                self.forget_pending(id);
                if !matches!(step, Step::Told(_)) {
                    self.send(now, initiator, transaction, 0, &Message::Error(ErrorCode::PeerOffline));
                }
                continue;
            }
            let count = pending.retry.sent;
            if pending.retry.next <= now {
                pending.retry.again(now);
            }
            let (step, conventional) = (pending.step, pending.conventional);
            let next = pending.next_timer();
            self.pending_timers.set(id, Some(next));
            match step {
                Step::AwaitRelay => self.ask_relay(now, id, count),
                Step::AwaitConfirmation if conventional => self.tell_responder(now, id, None, count),
                Step::AwaitConfirmation | Step::Told(_) => {}
            }
        }
    }

    /// The earliest timer of all route constructions.
    pub(super) fn next_pending_timer(&self) -> Option<Due> {
        let (at, id) = self.pending_timers.first()?;
        let over = self.pending.get(&id).is_none_or(|pending| pending.over_at() <= at);
        Some(if over { Timer::RouteForgotten } else { Timer::RoutingRetry }.at(at))
    }

    /// Ends every construction if `is_over` is true for its two nodes. The initiator is told, unless it has its Route
    /// Direction already.
    pub(super) fn void_pending(&mut self, now: Instant, mut is_over: impl FnMut(&Self, NodeId, NodeId) -> bool) {
        let all: Vec<_> = self.pending.iter().map(|(&id, p)| (id, p.initiator, p.responder)).collect();
        for (id, initiator, responder) in all {
            if is_over(self, initiator, responder) {
                let Pending { transaction, step, .. } = self.pending[&id];
                self.forget_pending(id);
                if !matches!(step, Step::Told(_)) {
                    self.send(now, initiator, transaction, 0, &Message::Error(ErrorCode::NotPermitted));
                }
            }
        }
    }

    fn forget_pending(&mut self, id: PendingId) {
        if let Some(pending) = self.pending.remove(&id) {
            self.asked.remove(&(pending.initiator, pending.transaction));
            self.concerned.remove(&(pending.initiator, id));
            self.concerned.remove(&(pending.responder, id));
            self.pending_timers.set(id, None);
        }
    }

    /// Voids the constructions that use a node's old address, because the node registered anew or is gone.
    ///
    /// If the node is the responder, the next step depends on the initiator's Route Direction:
    ///
    /// * not sent yet: the construction starts again with the new address, or the initiator is told that the peer is
    ///   offline;
    /// * sent, for a direct route or one that begins on a standing leg: the initiator is told that the peer is offline;
    /// * sent, for another relayed route: nothing is sent, because such a route does not use the responder's address.
    pub(super) fn void_pending_of(&mut self, now: Instant, node: NodeId) {
        let void: Vec<_> = self.concerned_by(node).collect();
        for id in void {
            let Pending { initiator, responder, transaction, want, step, ref choice, on_standby, .. } =
                self.pending[&id];
            let was_told = matches!(step, Step::Told(_));
            // A standing leg ends with the session in which it was told.
            let relayed = choice.pattern == Pattern::Relayed && !on_standby;
            self.forget_pending(id);
            if initiator == node || was_told && relayed {
                continue;
            }
            if !was_told && self.nodes.contains_key(&node) && self.nodes.contains_key(&initiator) {
                self.start(now, initiator, responder, transaction, want);
            } else {
                self.send(now, initiator, transaction, 0, &Message::Error(ErrorCode::PeerOffline));
            }
        }
    }
}

impl Pending {
    /// When the construction is forgotten.
    fn over_at(&self) -> Instant {
        self.started + patient(ROUTE_LIFETIME, self.slow)
    }

    fn next_timer(&self) -> Instant {
        let end = self.over_at();
        match self.step {
            Step::Told(_) => end,
            Step::AwaitRelay | Step::AwaitConfirmation => self.retry.next.min(end),
        }
    }
}
