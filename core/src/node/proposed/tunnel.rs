//! Building and using a tunnel of the proposed method (paper Figs. 7–9).
//!
//! ```text
//! direct   dialer: Dialing ──handshake──▶ Requested ──Tunnel Response──▶ Up
//!          listener: Expecting ──────────Tunnel Request────────────────▶ Up
//! relayed  see [`super::relayed`]
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::ahead::Ahead;
use super::carrier::Carrier;
use super::end::End;
use super::{Owner, Proposed, farewells};
use crate::event::{DropReason, Failure, TunnelUp};
use crate::header::{Flags, Header};
use crate::machine::{Output, Transmit};
use crate::message::{Framing, Message, Relay, RelayMode, RouteConfirmation, RouteDirection, TunnelRequest};
use crate::name::{Fqdn, Party, PathId, RelayCid, Virtual};
use crate::node::carriage::{Carriage, CarriageOutput};
use crate::node::part::{Asked, TunnelId};
use crate::paths::strategy::Handover;
use crate::probe;
use crate::quic::{LinkId, Links, Load};
use crate::route::Pattern;
use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{DIAL_AGAIN, DIAL_STEP_TIMEOUT, LISTEN_TIMEOUT, MTU_SEARCH_SILENCE, PUNCH_RETRY};
use crate::timing::{Due, Timer, earliest, patient};

pub(super) struct Tunnel {
    /// The peer's FQDN. Its certificate must have it.
    pub(super) name: Fqdn,
    /// The peer's virtual addresses, as the NMS says.
    pub(super) addresses: Virtual,
    /// The pattern of the Route Direction (paper Table 1).
    pub(super) pattern: Pattern,
    /// Whether this node asked for the tunnel.
    pub(super) initiator: bool,
    /// Whether this node opens the connection to the peer.
    pub(super) dialer: bool,
    /// The leg's facts, in pattern 3.
    pub(super) relay: Option<Relay>,
    /// The transaction of the Route Direction. Confirmation and Tunnel Request repeat it.
    pub(super) transaction: u32,
    /// The path that leads to the peer. Its id is in the header of what we send.
    pub(super) outbound: PathId,
    /// Packs inner packets into frames.
    pub(super) carrier: Carrier,
    /// The step of the handshake, or the way of packets once the tunnel is up.
    pub(super) state: TunnelState,
    /// The handover strategy that both nodes agreed on.
    pub(super) agreed: Handover,
    /// The addresses at which the peer may be reached directly.
    pub(super) candidates: Vec<SocketAddr>,
    /// The pattern of a direct path of it, as the NMS told it last.
    pub(super) direct: Pattern,
    /// The tunnel that was up when our Tunnel Request was sent, if this one's leg is to become a path of it.
    pub(super) adds_to: Option<TunnelId>,
    /// When the Route Direction came.
    pub(super) since: Instant,
    /// The deadline for the server to follow, after the QUIC client of the connection has moved.
    pub(super) migrates: Option<Instant>,
    /// The transaction of the last Route Direction whose candidates this tunnel took over.
    pub(super) merged: Option<u32>,
    /// One of the two nodes is slow: each step may take longer.
    pub(super) slow: bool,
    /// The signaling that both nodes use.
    pub(super) signaling: Signaling,
    /// When the dialer starts one more handshake beside those under way, and whether the policy is `optimal`.
    pub(super) redial: Option<(Instant, bool)>,
    /// When building it counts as failed.
    pub(super) until: Instant,
}

pub(super) enum TunnelState {
    /// Handshakes with the peer are under way, on each way by which it may be reached. The first one done wins.
    Dialing(Vec<LinkId>),
    /// Our Tunnel Request is on its way on this link.
    Requested(LinkId),
    /// The peer will dial.
    Expecting(Option<Punch>),
    /// The handshake with the TRS is under way.
    LegOpening(Opening),
    /// Responder: the NMS knows our leg; the peer's Tunnel Request will come on it.
    LegWaiting(LinkId),
    /// Initiator: our Tunnel Request is on its way on the leg.
    LegRequested(LinkId),
    /// Through a blind TRS: both legs are bound, the end-to-end connection is being made.
    EndToEnd(EndToEnd),
    /// Packets flow.
    Up(Path),
}

/// Handshakes with the TRS for one leg. The first one done wins.
pub(super) struct Opening {
    /// The links, the first attempt first.
    pub(super) links: Vec<LinkId>,
    /// When another way is tried beside, if there is one.
    pub(super) other_at: Option<Instant>,
}

impl Opening {
    /// A leg of one link, on which nothing else has to be tried.
    pub(super) fn done(leg: LinkId) -> Self {
        Self { links: vec![leg], other_at: None }
    }
}

/// The packets that a listener sends so that filters in front of it let the dialer in (`policy = "optimal"`).
pub(super) struct Punch {
    /// Our addresses, and the peer's.
    to: Vec<(SocketAddr, SocketAddr)>,
    retry: Backoff,
}

/// An end-to-end connection through a blind TRS that is not up yet.
pub(super) struct EndToEnd {
    /// Our link to the TRS.
    pub(super) leg: LinkId,
    /// The id of our leg. The connection IDs of packets to this node begin with it.
    pub(super) cid: RelayCid,
    /// The QUIC endpoint whose packets go through the leg.
    pub(super) links: Box<Links>,
    /// The connection, once there is one.
    pub(super) link: Option<LinkId>,
    /// Initiator: our Tunnel Request is on its way on it.
    pub(super) is_requested: bool,
    /// Responder: what came ahead of the Tunnel Request on it.
    pub(super) ahead: Ahead,
}

/// The way that packets of a tunnel that is up take.
pub(super) enum Path {
    /// A link to the peer.
    Direct(LinkId),
    /// The leg to a TRS that terminates connections.
    Terminated(LinkId),
    /// An end-to-end link through a TRS that only forwards.
    Blind { leg: LinkId, cid: RelayCid, links: Box<Links>, link: LinkId },
}

impl TunnelState {
    /// The endpoint of its own of a tunnel through a blind TRS.
    pub(super) fn links(&self) -> Option<&Links> {
        match self {
            Self::EndToEnd(EndToEnd { links, .. }) | Self::Up(Path::Blind { links, .. }) => Some(links),
            _ => None,
        }
    }

    /// The beginning of the endpoint's connection IDs.
    pub(super) fn own_cid(&self) -> Option<RelayCid> {
        match self {
            Self::EndToEnd(EndToEnd { cid, .. }) | Self::Up(Path::Blind { cid, .. }) => Some(*cid),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(super) fn blind_links(&mut self) -> Option<&mut Links> {
        match self {
            Self::EndToEnd(EndToEnd { links, .. }) | Self::Up(Path::Blind { links, .. }) => Some(links),
            _ => None,
        }
    }
}

impl Tunnel {
    /// Until it is up; of a tunnel through a blind TRS also what its own endpoint waits for.
    pub(super) fn next_timer(&self) -> Option<Due> {
        let building = (!matches!(self.state, TunnelState::Up(_))).then(|| Timer::TunnelBuilding.at(self.until));
        let other = match &self.state {
            TunnelState::Dialing(_) => self.redial.map(|(at, _)| Timer::TunnelRetry.at(at)),
            TunnelState::Expecting(Some(punch)) => Some(Timer::PunchRetry.at(punch.retry.next)),
            TunnelState::LegOpening(opening) => opening.other_at.map(|at| Timer::OtherPath.at(at)),
            state => state.links().and_then(Links::next_timer),
        };
        earliest([building, other])
    }

    /// Whether it is up, or packets may go into it ahead of the Tunnel Response.
    pub(super) fn takes_packets(&self) -> bool {
        match &self.state {
            TunnelState::Up(_) => true,
            TunnelState::Requested(_) | TunnelState::EndToEnd(EndToEnd { is_requested: true, .. }) => {
                self.dialer && self.signaling == Signaling::Fast
            }
            _ => false,
        }
    }

    /// A step is done; the next one has time of its own.
    pub(super) fn progress(&mut self, now: Instant) {
        self.until = self.until.max(now + patient(DIAL_STEP_TIMEOUT, self.slow));
    }
}

impl Proposed {
    pub(super) fn start_tunnel(
        &mut self,
        now: Instant,
        id: TunnelId,
        direction: &RouteDirection,
        Asked { initiator, transaction, slow, signaling, searches, .. }: Asked,
    ) {
        self.remove(now, id);
        if signaling == Signaling::Confirmed && !initiator && !direction.dial && direction.relay.is_none() {
            let ready = Message::RouteConfirmation(RouteConfirmation { leg: None });
            self.send_nms(now, transaction, 0, ready);
        }
        if self.merge_direct(now, id, direction, transaction) {
            return;
        }
        let outbound = PathId::of(&self.name, &direction.peer);
        let mut tunnel = Tunnel {
            name: direction.peer.clone(),
            addresses: direction.virtual_addresses,
            pattern: direction.pattern,
            initiator,
            dialer: direction.dial,
            relay: direction.relay.clone(),
            transaction,
            outbound,
            carrier: Carrier::new(self.framing, outbound, self.quic.options.discovery.max(searches)),
            state: TunnelState::Expecting(None),
            agreed: Handover::Rebuild,
            candidates: direction.candidates.clone(),
            direct: if direction.relay.is_some() { Pattern::Direct } else { direction.pattern },
            adds_to: None,
            since: now,
            migrates: None,
            merged: None,
            slow,
            signaling,
            redial: None,
            until: now + patient(if direction.dial { DIAL_STEP_TIMEOUT } else { LISTEN_TIMEOUT }, slow),
        };
        let mut taken = None;
        let is_blind = tunnel.relay.as_ref().is_some_and(|relay| relay.mode == RelayMode::Blind);
        if signaling == Signaling::Fast && is_blind {
            let told = tunnel.relay.as_ref().and_then(|relay| relay.cid).filter(|_| !initiator);
            taken = self.take_standby(now, told);
            if told.is_some() && taken.is_none() {
                // The NMS told the peer a leg that is gone.
                let without = Message::RouteConfirmation(RouteConfirmation { leg: None });
                self.send_nms(now, transaction, 0, without);
                return self.out.push_back(CarriageOutput::TunnelDown(id, Failure::ConnectionLost));
            }
        }
        let mut begins = None;
        let opened = if let Some((opening, taken)) = taken {
            self.owners.extend(opening.links.iter().map(|&link| (link, Owner::Leg(id))));
            tunnel.state = TunnelState::LegOpening(opening);
            begins = Some(taken);
            Ok(())
        } else if let Some(relay) = &tunnel.relay {
            let addresses = relay.addresses.clone();
            // The end-to-end connection through a blind relay discovers its own path MTU.
            let load = if relay.mode == RelayMode::Blind { Load::Signaling } else { self.load_to(&tunnel.name) };
            let opening = self.open_leg(now, &addresses, load, Owner::Leg(id));
            opening.map(|opening| tunnel.state = TunnelState::LegOpening(opening))
        } else if direction.dial {
            let optimal = direction.want.is_some();
            tunnel.redial = Some((now + patient(DIAL_AGAIN, slow), optimal));
            self.dial(now, id, &direction.peer, &direction.candidates, optimal)
                .map(|links| tunnel.state = TunnelState::Dialing(links))
        } else {
            tunnel.state = TunnelState::Expecting(self.punch(now, direction, outbound));
            Ok(())
        };
        if let Err(reason) = opened {
            return self.out.push_back(CarriageOutput::TunnelDown(id, reason));
        }
        self.timers.set(id, tunnel.next_timer().map(|due| due.at));
        if matches!(tunnel.state, TunnelState::Expecting(_)) {
            self.expected.expect(&direction.peer, id);
        }
        self.tunnels.insert(id, tunnel);
        self.serve_early(now, &direction.peer);
        if let Some(taken) = begins {
            self.begin_on(now, id, taken);
        }
    }

    /// Sends the first punches, if this is a policy that has any.
    fn punch(&mut self, now: Instant, direction: &RouteDirection, path: PathId) -> Option<Punch> {
        direction.want?;
        let to = self.places.all(&direction.candidates);
        self.send_punches(&to, path);
        Some(Punch { to, retry: Backoff::start(now, PUNCH_RETRY) })
    }

    fn send_punches(&mut self, to: &[(SocketAddr, SocketAddr)], path: PathId) {
        for &(local, remote) in to {
            let transaction = probe::transaction(self.random());
            let payload = Message::HolePunching.to_bytes(transaction, Flags(0), 0, 0, path.0);
            self.out.push_back(CarriageOutput::Pass(Output::from(Transmit::new(local, remote, payload))));
        }
    }

    /// Forgets a tunnel and closes its links.
    pub(super) fn remove(&mut self, now: Instant, id: TunnelId) {
        let Some(mut tunnel) = self.tunnels.remove(&id) else { return };
        self.learn_from(now, &tunnel);
        self.searches.set(id, None);
        if self.expected.tunnel_of(&tunnel.name) == Some(id) {
            self.expected.end(&tunnel.name);
        }
        self.timers.set(id, None);
        if let TunnelState::LegWaiting(leg) = tunnel.state
            && let Some(cid) = self.links.relay_cid(leg)
        {
            self.by_leg.remove(&cid);
        }
        let links = match &mut tunnel.state {
            TunnelState::Expecting(_) => Vec::new(),
            TunnelState::Dialing(links) | TunnelState::LegOpening(Opening { links, .. }) => std::mem::take(links),
            TunnelState::Requested(link)
            | TunnelState::LegWaiting(link)
            | TunnelState::LegRequested(link)
            | TunnelState::Up(Path::Direct(link) | Path::Terminated(link)) => vec![*link],
            TunnelState::EndToEnd(EndToEnd { leg, cid, links, .. })
            | TunnelState::Up(Path::Blind { leg, cid, links, .. }) => {
                self.by_leg.remove(cid);
                links.close_all(now);
                if self.pathed.contains_key(&End::Own(id)) {
                    self.farewell(now, End::Own(id), links);
                } else {
                    self.out.extend(farewells(links));
                }
                vec![*leg]
            }
        };
        let bound = links.first().and_then(|link| self.pathed.get(&End::Shared(*link))?.bound);
        let own = self.pathed.get(&End::Own(id)).and_then(|pathed| pathed.bound);
        let links: Vec<_> = links.into_iter().chain(bound.or(own).map(|bound| bound.leg)).collect();
        self.forget_end(End::Own(id));
        for link in links {
            self.close(now, link);
        }
    }

    /// The link that packets use, or will use. The search for the path MTU concerns its path.
    fn searched<'a>(&'a self, tunnel: &'a Tunnel) -> Option<(&'a Links, LinkId)> {
        match &tunnel.state {
            TunnelState::Requested(link)
            | TunnelState::LegWaiting(link)
            | TunnelState::LegRequested(link)
            | TunnelState::Up(Path::Direct(link) | Path::Terminated(link)) => Some((self.of(*link), *link)),
            TunnelState::EndToEnd(EndToEnd { links, link: Some(link), .. })
            | TunnelState::Up(Path::Blind { links, link, .. }) => Some((links, *link)),
            _ => None,
        }
    }

    /// How long nothing was heard on a tunnel whose path is being searched for its MTU.
    fn silence_in_search(&self, now: Instant, tunnel: &Tunnel) -> Option<Duration> {
        self.searched(tunnel).and_then(|(links, link)| links.silence_in_search(now, link))
    }

    /// Notes that a tunnel is being forgotten. If the search for its path MTU seems to have ended its path, no further
    /// path to this peer is searched.
    fn learn_from(&mut self, now: Instant, tunnel: &Tunnel) {
        // A tunnel whose peer answered, and which was not up in time, may have been ended by the search again and
        // again.
        let is_late = !matches!(tunnel.state, TunnelState::Up(_)) && tunnel.until <= now;
        let stuck = is_late && self.searched(tunnel).is_some_and(|(links, link)| links.has_searched(link));
        let silent = || self.silence_in_search(now, tunnel).is_some_and(|silence| silence >= MTU_SEARCH_SILENCE / 2);
        if stuck || silent() {
            self.expected.do_not_search(&tunnel.name);
        }
    }

    /// A link with a peer is up, and the search for its path MTU begins.
    pub(super) fn watch_search(&mut self, now: Instant, id: TunnelId) {
        self.searches.set(id, Some(now + MTU_SEARCH_SILENCE));
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.carrier.discovers(now);
        }
    }

    /// Gives up a tunnel whose path seems to have been ended by the search for its path MTU. The NAT may have dropped
    /// our mapping, so a packet goes to the NMS, which learns the new one from it.
    pub(super) fn search_timeout(&mut self, now: Instant, id: TunnelId) {
        let silence = self.tunnels.get(&id).and_then(|tunnel| self.silence_in_search(now, tunnel));
        if silence.is_some_and(|silence| silence >= MTU_SEARCH_SILENCE) {
            self.fail(now, id, Failure::Timeout);
            if let Some(nms) = self.nms {
                self.links.ping(now, nms);
            }
        } else if silence.is_some() {
            self.searches.set(id, Some(now + MTU_SEARCH_SILENCE / 2));
        }
    }

    /// The load of a link to a peer.
    pub(super) fn load_to(&self, peer: &Fqdn) -> Load {
        if self.expected.is_searched(peer) { Load::Packets } else { Load::PacketsUnprobed }
    }

    /// A link of a direct tunnel is gone. While others are being dialed, nothing is lost.
    pub(super) fn on_direct_closed(&mut self, now: Instant, id: TunnelId, link: LinkId, reason: Failure) {
        if let Some(Tunnel { state: TunnelState::Dialing(links), .. }) = self.tunnels.get_mut(&id) {
            links.retain(|&other| other != link);
            if !links.is_empty() {
                return;
            }
        }
        self.fail(now, id, reason);
    }

    pub(super) fn fail(&mut self, now: Instant, id: TunnelId, reason: Failure) {
        self.remove(now, id);
        self.out.push_back(CarriageOutput::TunnelDown(id, reason));
    }

    /// The dialer's handshake is finished: the certificate names the peer that the NMS gave.
    pub(super) fn request_tunnel(&mut self, now: Instant, id: TunnelId, link: LinkId) {
        if self.tunnels.get(&id).is_some_and(|tunnel| tunnel.contradicts(self.of(link).peer_addresses(link))) {
            return self.refuse_addresses(now, id);
        }
        if let Some(remote) = self.of(link).remote(link) {
            self.silent.answered(remote.ip());
        }
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if let TunnelState::Dialing(links) = std::mem::replace(&mut tunnel.state, TunnelState::Requested(link)) {
            for other in links.into_iter().filter(|&other| other != link) {
                self.close(now, other);
            }
        }
        self.watch_search(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        tunnel.progress(now);
        let (to, request) = (Party::Node(tunnel.name.clone()), tunnel_request(&self.name, tunnel, None));
        let (transaction, path) = (tunnel.transaction, tunnel.outbound.0);
        let flags = Flags(0).with_handover(self.handover).with_signaling(tunnel.signaling);
        self.send_flagged(now, link, to, (transaction, flags), path, &request);
        self.ready(id);
    }

    pub(super) fn on_direct_message(
        &mut self,
        now: Instant,
        id: TunnelId,
        link: LinkId,
        header: &Header,
        message: &Message,
    ) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let answered = matches!(tunnel.state, TunnelState::Requested(l) if l == link);
        if *message == Message::TunnelResponse && answered && header.transaction == tunnel.transaction {
            self.agree(id, header.flags);
            self.up(now, id, Path::Direct(link));
        } else {
            self.dropped(DropReason::Unexpected);
        }
    }

    /// Both nodes take the lower of their two handover strategies, and of their two wishes for signaling.
    pub(super) fn agree(&mut self, id: TunnelId, flags: Flags) {
        let agreed = self.handover.agreed(flags.handover());
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.agreed = agreed;
            tunnel.signaling = tunnel.signaling.agreed(flags.signaling());
        }
    }

    /// The flags by which a listener tells what was agreed.
    pub(super) fn agreed(&self, id: TunnelId) -> Flags {
        let tunnel = &self.tunnels[&id];
        Flags(0).with_handover(tunnel.agreed).with_signaling(tunnel.signaling)
    }

    /// The dialer says how packets are framed.
    pub(super) fn adopt_framing(&mut self, id: TunnelId, framing: Framing) {
        if framing != Framing::Udp4501
            && let Some(tunnel) = self.tunnels.get_mut(&id)
        {
            tunnel.carrier.framing = framing;
        }
    }

    pub(super) fn up(&mut self, now: Instant, id: TunnelId, path: Path) {
        self.watch_search(now, id);
        let (next, remote) = match &path {
            Path::Blind { links, link, .. } => (links.next_timer(), links.remote(*link)),
            Path::Direct(link) | Path::Terminated(link) => (None, self.of(*link).remote(*link)),
        };
        let end = match &path {
            Path::Direct(link) => End::Shared(*link),
            Path::Terminated(_) | Path::Blind { .. } => End::Own(id),
        };
        let used = self.pathed.get(&end).and_then(|pathed| pathed.paths.used()).map(|way| way.remote);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(remote) = used.or(remote) else { return };
        tunnel.state = TunnelState::Up(path);
        self.timers.set(id, next.map(|due| due.at));
        let up = TunnelUp {
            peer: tunnel.name.clone(),
            pattern: tunnel.pattern,
            dialed: tunnel.dialer,
            framing: tunnel.carrier.framing,
            remote,
            handover: tunnel.agreed,
            signaling: tunnel.signaling,
        };
        let (agreed, candidates) = (tunnel.agreed, tunnel.candidates.clone());
        self.out.push_back(CarriageOutput::TunnelUp(id, Box::new(up)));
        self.pathed_up(now, id, end, agreed, &candidates);
    }

    pub(super) fn on_capsule_frame(&mut self, link: LinkId, packet: Bytes) {
        match self.tunnel_on(link) {
            Some((id, _)) => self.out.push_back(CarriageOutput::Packets(id, vec![packet])),
            None => self.on_unowned(link, packet, false),
        }
    }

    pub(super) fn on_datagram_frames(&mut self, link: LinkId, frames: Vec<Bytes>) {
        match self.tunnel_on(link) {
            Some((id, tunnel)) => {
                let (packets, bad) = tunnel.carrier.open_all(frames);
                self.take_packets(id, packets, bad);
            }
            None => frames.into_iter().for_each(|data| self.on_unowned(link, data, true)),
        }
    }

    /// Passes on packets of a tunnel, and says why others were dropped.
    pub(super) fn take_packets(&mut self, id: TunnelId, packets: Vec<Bytes>, bad: Vec<DropReason>) {
        for reason in bad {
            self.dropped(reason);
        }
        if !packets.is_empty() {
            self.out.push_back(CarriageOutput::Packets(id, packets));
        }
    }

    /// A packet on a link of no tunnel that is up.
    fn on_unowned(&mut self, link: LinkId, packet: Bytes, is_datagram: bool) {
        if matches!(self.owners.get(&link), Some(Owner::Inbound(_))) {
            self.on_unannounced(link, packet, is_datagram);
        } else {
            self.dropped(DropReason::Unexpected);
        }
    }

    /// The tunnel whose packets may come on this link: it is up, or its packets have overtaken the Tunnel Response.
    fn tunnel_on(&self, link: LinkId) -> Option<(TunnelId, &Tunnel)> {
        let (Owner::Direct(id) | Owner::Leg(id)) = *self.owners.get(&link)? else { return None };
        let tunnel = self.tunnels.get(&id)?;
        match &tunnel.state {
            TunnelState::Up(Path::Direct(l) | Path::Terminated(l)) | TunnelState::Requested(l) if *l == link => {
                Some((id, tunnel))
            }
            _ => None,
        }
    }

    pub(super) fn tunnel_timeout(&mut self, now: Instant, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let building = !matches!(tunnel.state, TunnelState::Up(_));
        if building
            && tunnel.until <= now
            && self.shows_life(now, id)
            && let Some(tunnel) = self.tunnels.get_mut(&id)
        {
            tunnel.until = now + DIAL_AGAIN;
        }
        self.dial_again(now, id);
        self.tend_leg(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if building && tunnel.until <= now || tunnel.migrates.is_some_and(|until| until <= now) {
            return self.fail(now, id, Failure::Timeout);
        }
        let mut punch = None;
        if building {
            if let TunnelState::Expecting(Some(Punch { to, retry })) = &mut tunnel.state
                && retry.next <= now
            {
                retry.again(now);
                punch = Some((to.clone(), tunnel.outbound));
            }
            // A step has ended since. `drain_blind` also checks the timers of an endpoint of its own.
            let next = tunnel.next_timer().map(|due| due.at);
            self.timers.set(id, next);
        }
        if let TunnelState::EndToEnd(EndToEnd { links, .. }) | TunnelState::Up(Path::Blind { links, .. }) =
            &mut tunnel.state
        {
            links.handle_timeout(now);
        }
        if let Some((to, path)) = punch {
            self.send_punches(&to, path);
        }
        self.drain_blind(now, id);
    }
}

/// The Tunnel Request of a tunnel. It has the other node's leg if it goes to the TRS.
pub(super) fn tunnel_request(from: &Fqdn, tunnel: &Tunnel, relay_cid: Option<RelayCid>) -> Message {
    Message::TunnelRequest(TunnelRequest {
        from: from.clone(),
        to: tunnel.name.clone(),
        wrapped_end_key: None,
        relay_cid,
        framing: tunnel.carrier.framing,
    })
}
