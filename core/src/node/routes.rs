//! From the wish to talk to a peer to a tunnel, and to a better one.
//!
//! ```text
//! wanted ──registered──▶ requested ──Route Direction──▶ building ──▶ up
//!    ▲                       │ refused                     │ failed   │ lost: forgotten, until a packet wants it again
//!    └── pause, within ROUTE_TIMEOUT, else given up ◀──────┘          │
//!                                                                     │
//! optimal policy only                                                 ▼
//!    no tunnel, and a direct one is not up          ask for the relay beside it; the first one up carries
//!    after DIRECT_HEAD_START
//!    up, relayed, and we asked for it               ask for a direct one, again and again; once up it takes over
//! ```
//!
//! A tunnel that another has replaced is kept for a while: the peer changes over a little earlier or later than we, and
//! what is on its way arrives.

use std::net::IpAddr;

use super::Node;
use super::carriage::TunnelId;
use super::peers::{Improve, Origin, Peer, PeerId, Request};
use crate::event::{DropReason, Event, Failure, TunnelUp};
use crate::header::Header;
use crate::message::{DirectionRequest, ErrorCode, Message, PeerRef, RouteConfirmation, RouteDirection, Want};
use crate::route::Pattern;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    DIRECT_HEAD_START, DIRECT_SILENCE, DIRECTION_DOUBTFUL, DIRECTION_RETRY, DIRECTION_TRIES, FIRST_IMPROVEMENT,
    LONGEST_IMPROVEMENT, REPLACED_LINGER, ROUTE_FIRST_PAUSE, ROUTE_LONGEST_PAUSE, ROUTE_TIMEOUT,
};

impl Node {
    /// (Re)starts route construction with a fresh time limit.
    pub(super) fn want_route(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.until = now + ROUTE_TIMEOUT;
        if self.cloud.is_registered() {
            self.request_route(now, id, Want::Any);
        } else {
            self.peers.rearm(id);
        }
    }

    /// Sends a Direction Request.
    fn request_route(&mut self, now: Instant, id: PeerId, want: Want) {
        let transaction = self.random_u32();
        let request = Request { transaction, want, retry: Backoff::start(now, DIRECTION_RETRY) };
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.retry_at = None;
        if want == Want::Relayed {
            peer.relay_at = None;
        }
        // The NMS forgets what was asked before: to ask it again would be to ask anew.
        peer.building.values_mut().for_each(|origin| origin.again = None);
        let peer = peer.reference.clone();
        self.peers.set_request(id, Some(request));
        self.peers.rearm(id);
        self.carriage.send_nms(now, transaction, 0, Message::DirectionRequest(DirectionRequest { peer, want }));
    }

    /// After a registration: everything that was waiting for it, or whose request went to a lost session.
    pub(super) fn request_waiting_routes(&mut self, now: Instant) {
        for id in self.peers.ids() {
            let lost = self.peers.set_request(id, None).map(|request| request.want);
            let Some(peer) = self.peers.find_mut(id) else { continue };
            if peer.up.is_none() && peer.building.is_empty() {
                // The wait for the registration is not counted against it.
                peer.until = peer.until.max(now + ROUTE_TIMEOUT / 2);
                self.request_route(now, id, Want::Any);
            } else if let (None, Some(want @ Want::Relayed)) = (&peer.up, lost) {
                self.request_route(now, id, want);
            } else {
                self.peers.rearm(id);
            }
        }
    }

    pub(super) fn on_nms_message(&mut self, now: Instant, header: &Header, message: Message) {
        if self.on_cloud_message(now, header, &message) {
            return;
        }
        match message {
            Message::RouteDirectionInitiator(direction) => self.on_direction(now, header, direction, true),
            Message::RouteDirectionResponder(direction) => self.on_direction(now, header, direction, false),
            Message::Error(code) => self.on_route_refused(now, header.transaction, code),
            _ => self.dropped(DropReason::Unexpected),
        }
    }

    fn on_direction(&mut self, now: Instant, header: &Header, direction: RouteDirection, initiator: bool) {
        if direction.peer == self.name {
            return self.dropped(DropReason::Unexpected);
        }
        if let Err(reason) = self.check_direction(header.transaction, &direction, initiator) {
            return self.dropped(reason);
        }
        // A stream says nothing twice, however late.
        if !initiator && !self.carriage.is_reliable() && !self.peers.obeys(now, header.transaction) {
            return self.confirm_again(now, header, &direction);
        }
        self.withdraw_request(header.transaction, &direction, initiator);
        let until = now + ROUTE_TIMEOUT;
        let Some((id, lost)) = self.peers.identify(until, &direction.peer, direction.virtual_addresses) else {
            return self.dropped(DropReason::Limit);
        };
        for _ in 0..lost {
            self.dropped(DropReason::QueueFull);
        }
        let relayed = direction.pattern == Pattern::Relayed;
        self.make_room(now, id, direction.want, relayed);
        let awaits_dial = initiator && !direction.dial && !self.carriage.is_reliable();
        let origin = Origin {
            initiator,
            relayed,
            want: direction.want,
            transaction: header.transaction,
            since: now,
            again: awaits_dial.then(|| Backoff::start(now, DIRECTION_RETRY)),
        };
        let tunnel = self.peers.new_tunnel(id);
        let peer = self.peers.find_mut(id).expect("just identified");
        peer.building.insert(tunnel, origin);
        peer.until = peer.until.max(now + ROUTE_TIMEOUT / 2);
        peer.retry_at = None;
        // Who asks for a direct way only has the relay, and asks for no other. If we do not, the tunnel that it has is one with
        // us before we forgot everything.
        let asks_for_relay = match direction.want {
            Some(Want::Any) => initiator,
            Some(Want::Direct(_)) => peer.up.is_none(),
            Some(Want::Relayed) | None => false,
        };
        if asks_for_relay && !relayed {
            peer.relay_at = Some(now + DIRECT_HEAD_START);
        }
        self.peers.rearm(id);
        self.carriage.build(now, tunnel, direction, initiator, header.transaction);
    }

    /// A Route Direction answers the request that it repeats; and of us as the responder, one for the same: both nodes asked
    /// at once, and the NMS took the other's.
    fn withdraw_request(&mut self, transaction: u32, direction: &RouteDirection, initiator: bool) {
        let answered = if initiator {
            self.peers.asked(transaction, &direction.peer)
        } else {
            self.peers.by_name(&direction.peer).filter(|&id| {
                let ours = self.peers.get(id).request.as_ref().map(|request| request.want);
                ours.is_some_and(|ours| direction.want.unwrap_or(Want::Any).covers(ours))
            })
        };
        let Some(id) = answered else { return };
        let request = self.peers.set_request(id, None);
        if let Some(peer) = self.peers.find_mut(id) {
            peer.yielded = request.filter(|_| !initiator).map(|request| request.transaction);
        }
    }

    /// Forgets what a new Route Direction makes void: everything, or where only one kind of way was wanted, attempts at the
    /// same kind.
    fn make_room(&mut self, now: Instant, id: PeerId, want: Option<Want>, relayed: bool) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        let one_kind = matches!(want, Some(Want::Relayed | Want::Direct(_)));
        let void: Vec<TunnelId> = if one_kind {
            peer.building.iter().filter(|(_, origin)| origin.relayed == relayed).map(|(&id, _)| id).collect()
        } else {
            peer.tunnels().map(|(tunnel, _)| tunnel).collect()
        };
        if !one_kind {
            (peer.up, peer.old, peer.relay_at, peer.improve) = (None, None, None, None);
        }
        for tunnel in void {
            self.forget_tunnel(now, id, tunnel);
        }
    }

    fn forget_tunnel(&mut self, now: Instant, id: PeerId, tunnel: TunnelId) {
        if let Some(peer) = self.peers.find_mut(id) {
            peer.building.remove(&tunnel);
        }
        self.peers.forget_tunnel(tunnel);
        self.carriage.forget(now, tunnel);
    }

    /// The NMS repeats a Route Direction, so our Confirmation was lost or is late. To obey it again would take a tunnel that is
    /// up, or half built, away.
    fn confirm_again(&mut self, now: Instant, header: &Header, direction: &RouteDirection) {
        let Some(id) = self.peers.by_name(&direction.peer) else { return };
        let of_it = |origin: &Origin| !origin.initiator && origin.transaction == header.transaction;
        let stands = self.peers.get(id).tunnels().any(|(_, origin)| of_it(&origin));
        // Who dials answers by dialing, and goes on with that by itself.
        if stands && !direction.dial {
            let count = header.count.max(1);
            self.carriage.send_nms(
                now,
                header.transaction,
                count,
                Message::RouteConfirmation(RouteConfirmation { leg: None }),
            );
        }
    }

    /// Whether a Route Direction makes sense: it answers what was asked, and takes nobody's virtual address. A name keeps
    /// its addresses and an address its name, as long as we know them.
    fn check_direction(&self, transaction: u32, direction: &RouteDirection, initiator: bool) -> Result<(), DropReason> {
        if initiator {
            // None: a repetition, or an answer to a request that we gave up.
            let asked = self.peers.asked(transaction, &direction.peer).ok_or(DropReason::Unexpected)?;
            match &self.peers.get(asked).reference {
                PeerRef::Name(name) if *name == direction.peer => {}
                PeerRef::Virtual(address) if direction.virtual_addresses.contains(*address) => {}
                PeerRef::Name(_) | PeerRef::Virtual(_) => return Err(DropReason::WrongIdentity),
            }
        }
        let known = self.peers.by_name(&direction.peer);
        let addresses = direction.virtual_addresses;
        if known.and_then(|id| self.peers.get(id).addresses).is_some_and(|before| before != addresses) {
            return Err(DropReason::WrongIdentity);
        }
        for address in [IpAddr::from(addresses.v4), IpAddr::from(addresses.v6)] {
            let ours = self.own.is_some_and(|own| own.contains(address)) || self.overlay.is_dns(address);
            let owner = self.peers.owner_of(address);
            if ours || !self.overlay.contains(address) || owner.is_some_and(|owner| Some(owner) != known) {
                return Err(DropReason::WrongIdentity);
            }
        }
        Ok(())
    }

    fn on_route_refused(&mut self, now: Instant, transaction: u32, code: ErrorCode) {
        let Some(id) = self.peers.by_transaction(transaction) else {
            return self.on_direction_void(now, transaction, code);
        };
        let want = self.peers.set_request(id, None).map_or(Want::Any, |request| request.want);
        let Some(peer) = self.peers.find_mut(id) else { return };
        if peer.up.is_some() || !peer.building.is_empty() {
            // Something else was wanted than what there is.
            if matches!(want, Want::Direct(_)) {
                self.not_improved(now, id, Failure::Refused(code));
            }
            return self.peers.rearm(id);
        }
        if code == ErrorCode::NoDirectWay && peer.until > now {
            peer.retry_at = Some((now, Want::Any));
            return self.peers.rearm(id);
        }
        // A peer that is offline now may be moving: its own registration comes any moment.
        if code == ErrorCode::PeerOffline && peer.until > now + DIRECTION_RETRY && peer.addresses.is_some() {
            peer.retry_at = Some((now + DIRECTION_RETRY, Want::Any));
            self.peers.rearm(id);
        } else {
            self.fail_route(now, id, Failure::Refused(code));
        }
    }

    /// What a Route Direction told us holds no longer: the peer is somewhere else, or gone. A tunnel that is up tells that by
    /// itself.
    fn on_direction_void(&mut self, now: Instant, transaction: u32, code: ErrorCode) {
        let Some((id, tunnel)) = self.peers.built_for(transaction) else { return self.dropped(DropReason::Unexpected) };
        let Some(origin) = self.peers.find_mut(id).and_then(|peer| peer.building.remove(&tunnel)) else { return };
        self.forget_tunnel(now, id, tunnel);
        self.on_attempt_failed(now, id, origin, Failure::Refused(code));
        self.peers.rearm(id);
    }

    pub(super) fn on_tunnel_up(&mut self, now: Instant, tunnel: TunnelId, up: TunnelUp) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(peer) = self.peers.find_mut(id) else { return };
        let Some(origin) = peer.building.remove(&tunnel) else { return };
        let dead = peer.has_dead_tunnel(&origin);
        peer.building.values_mut().for_each(|origin| origin.again = None);
        (peer.relay_at, peer.failures) = (None, 0);
        let before = peer.up;
        // A direct path that came up and soon fell silent costs more than one that never comes up: it is left alone for long.
        let setback = before.filter(|(_, direct)| dead && !direct.relayed && now < peer.up_since + LONGEST_IMPROVEMENT);
        let worse = origin.relayed && !dead && before.is_some_and(|(_, before)| !before.relayed);
        let (taken, replaced) = if worse { (before, Some((tunnel, origin))) } else { (Some((tunnel, origin)), before) };
        peer.up = taken;
        if !worse {
            (peer.up_since, peer.unheard) = (now, None);
        }
        let displaced = replaced.and_then(|(id, origin)| peer.old.replace((id, origin, now + REPLACED_LINGER)));
        if !worse {
            let may_improve = origin.relayed && origin.initiator && origin.want.is_some();
            let may_improve = may_improve && !defect!(ImprovementForgotten);
            let (wait, attempt) = match (setback, peer.improve) {
                (Some((_, direct)), _) => (LONGEST_IMPROVEMENT, direct.attempt().wrapping_add(1)),
                (None, Some(improve)) => (improve.wait, improve.attempt),
                (None, None) => (FIRST_IMPROVEMENT, 0),
            };
            peer.improve = may_improve.then(|| Improve { at: now + wait, wait, attempt });
        }
        let held = std::mem::take(&mut peer.held);
        let addresses = peer.addresses;
        if let Some((displaced, ..)) = displaced {
            self.forget_tunnel(now, id, displaced);
        }
        self.peers.rearm(id);
        if !worse {
            self.event(Event::TunnelUp(up));
        }
        for query in held.queries {
            if let Some(addresses) = &addresses {
                self.answer(&query, |q| q.answer(addresses, crate::dns::TTL));
            }
        }
        for packet in held.packets.into_iter().skip(usize::from(defect!(HeldPacketLost))) {
            self.send_to(now, id, packet);
            self.carriage.settle(now);
        }
    }

    pub(super) fn on_tunnel_down(&mut self, now: Instant, tunnel: TunnelId, reason: Failure) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        self.peers.forget_tunnel(tunnel);
        let Some(peer) = self.peers.find_mut(id) else { return };
        if let Some(origin) = peer.building.remove(&tunnel) {
            self.on_attempt_failed(now, id, origin, reason);
        } else if peer.up.is_some_and(|(up, _)| up == tunnel) {
            self.on_tunnel_lost(now, id, reason);
        } else if peer.old.is_some_and(|(old, ..)| old == tunnel) {
            peer.old = None;
        }
        self.peers.rearm(id);
    }

    /// A tunnel was not built.
    fn on_attempt_failed(&mut self, now: Instant, id: PeerId, origin: Origin, reason: Failure) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        if peer.up.is_some() {
            if !origin.relayed {
                self.not_improved(now, id, reason);
            }
            return;
        }
        if !peer.building.is_empty() || peer.request.is_some() {
            return;
        }
        let fall_back = origin.initiator && !origin.relayed && origin.want.is_some();
        if fall_back && peer.until > now && self.cloud.is_registered() {
            return self.request_route(now, id, Want::Relayed);
        }
        let waits = !peer.held.packets.is_empty() || !peer.held.queries.is_empty();
        let pause = (ROUTE_FIRST_PAUSE * (1 << peer.failures.min(7))).min(ROUTE_LONGEST_PAUSE);
        if peer.until > now + pause && (origin.initiator || waits) {
            peer.failures = peer.failures.wrapping_add(1);
            // The NMS cannot know what is in the way: now and then the other node has to dial.
            let other = origin.want.is_some() && peer.failures % 2 == 1;
            let want = if other { Want::Direct(peer.failures) } else { Want::Any };
            peer.retry_at = Some((now + pause, want));
        } else {
            self.fail_route(now, id, reason);
        }
    }

    /// The tunnel that packets went into is gone.
    fn on_tunnel_lost(&mut self, now: Instant, id: PeerId, reason: Failure) {
        if defect!(LostTunnelKept) {
            return;
        }
        let Some(peer) = self.peers.find_mut(id) else { return };
        // The one that it replaced is still there: the improvement was none.
        let lost = peer.up.take();
        if let Some((old, origin, _)) = peer.old.take() {
            peer.up = Some((old, origin));
            let may_improve = origin.relayed && origin.initiator && origin.want.is_some();
            let wait = (FIRST_IMPROVEMENT * (1 << peer.setbacks.min(7))).min(LONGEST_IMPROVEMENT);
            let attempt = lost.map_or(0, |(_, direct)| direct.attempt());
            peer.improve = may_improve.then_some(Improve { at: now, wait, attempt });
            peer.setbacks = peer.setbacks.saturating_add(1);
            return self.not_improved(now, id, reason);
        }
        let label = peer.label();
        peer.improve = None;
        let hopeful = !peer.building.is_empty();
        // A direct attempt beside the relay now stands alone: as if it were the first.
        let alone = peer.building.values().all(|origin| !origin.relayed && origin.want.is_some());
        let began = peer.building.values().map(|origin| origin.since).min();
        peer.relay_at = began.filter(|_| alone).map(|began| began + DIRECT_HEAD_START);
        peer.until = now + ROUTE_TIMEOUT / 2;
        self.event(Event::TunnelDown { peer: label, reason });
        if !hopeful {
            self.peers.remove(id);
        }
    }

    /// A packet is about to go into the peer's tunnel. If it is a direct one, and silent for long, the relay is asked for
    /// beside it, and takes over.
    pub(super) fn watch_silence(&mut self, now: Instant, id: PeerId) {
        let registered = self.cloud.is_registered();
        let Some(peer) = self.peers.find_mut(id) else { return };
        let Some((tunnel, Origin { relayed: false, want: Some(_), .. })) = peer.up else { return };
        let heard = self.carriage.heard_at(tunnel);
        let silent = peer.unheard.filter(|since| heard.is_none_or(|heard| heard <= *since));
        match silent {
            Some(since) if now < since + DIRECT_SILENCE => {}
            Some(_) if self.carriage.is_answer_due(tunnel) => {
                if registered && peer.request.is_none() && peer.building.is_empty() {
                    self.request_route(now, id, Want::Relayed);
                }
            }
            Some(_) | None => peer.unheard = Some(now),
        }
    }

    /// A direct attempt beside the relay came to nothing.
    fn not_improved(&mut self, now: Instant, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        if let Some(improve) = &mut peer.improve {
            improve.at = now + improve.wait;
            improve.wait = (improve.wait * 2).min(LONGEST_IMPROVEMENT);
            improve.attempt = improve.attempt.wrapping_add(1);
        }
        let peer = peer.label();
        self.event(Event::StillRelayed { peer, reason });
    }

    /// Our network is another one, or better known: what was impossible may be possible.
    pub(super) fn improve_all(&mut self, now: Instant) {
        for id in self.peers.ids() {
            if let Some(improve) = self.peers.find_mut(id).and_then(|peer| peer.improve.as_mut()) {
                *improve = Improve { at: now, wait: FIRST_IMPROVEMENT, attempt: 0 };
                self.peers.rearm(id);
            }
        }
    }

    /// A packet came by this tunnel: if it was replaced, the peer has not changed over yet.
    pub(super) fn peer_on(&mut self, now: Instant, tunnel: TunnelId) -> Option<PeerId> {
        let id = self.peers.by_tunnel(tunnel)?;
        if let Some((old, _, until)) = self.peers.find_mut(id).and_then(|peer| peer.old.as_mut())
            && *old == tunnel
        {
            *until = now + REPLACED_LINGER;
            self.peers.rearm(id);
        }
        Some(id)
    }

    pub(super) fn fail_route(&mut self, now: Instant, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.remove(id) else { return };
        for (tunnel, _) in peer.tunnels() {
            self.forget_tunnel(now, id, tunnel);
        }
        let unknown = reason == Failure::Refused(ErrorCode::UnknownPeer);
        for query in &peer.held.queries {
            self.answer(query, |q| if unknown { q.name_error() } else { q.server_failure() });
        }
        for _ in &peer.held.packets {
            self.dropped(DropReason::NoTunnel);
        }
        self.event(Event::TunnelDown { peer: peer.label(), reason });
    }

    /// The node's addresses changed, and the carriage has forgotten everything: routes are built anew.
    pub(super) fn rebuild_routes(&mut self, now: Instant) {
        for id in self.peers.ids() {
            self.peers.set_request(id, None);
            let Some(peer) = self.peers.find_mut(id) else { continue };
            let tunnels: Vec<_> = peer.tunnels().map(|(tunnel, _)| tunnel).collect();
            peer.reset();
            for tunnel in &tunnels {
                self.peers.forget_tunnel(*tunnel);
            }
            if !tunnels.is_empty() {
                self.event(Event::TunnelDown { peer: self.peers.get(id).label(), reason: Failure::Moved });
            }
            self.want_route(now, id);
        }
    }

    pub(super) fn peers_timeout(&mut self, now: Instant) {
        while let Some(id) = self.peers.pop_due(now) {
            self.peer_timeout(now, id);
            self.peers.rearm(id);
        }
        self.drain_carriage(now);
    }

    fn peer_timeout(&mut self, now: Instant, id: PeerId) {
        let registered = self.cloud.is_registered();
        let Some(peer) = self.peers.find_mut(id) else { return };
        if defect!(RouteNeverGivenUp) {
            peer.until = peer.until.max(now + ROUTE_TIMEOUT);
        }
        if peer.up.is_none() && peer.building.is_empty() && peer.until <= now {
            return self.fail_route(now, id, Failure::Timeout);
        }
        let old = peer.old.take_if(|(.., until)| *until <= now);
        if old.is_some() {
            peer.setbacks = 0;
        }
        let retry = peer.retry_at.take_if(|(at, _)| *at <= now).map(|(_, want)| want);
        let relay = take_due(&mut peer.relay_at, now) && peer.up.is_none() && peer.request.is_none();
        let direct = peer.building.values().any(|origin| !origin.relayed);
        let improve = peer.improve.as_mut().filter(|improve| improve.at <= now).map(|improve| {
            // If nothing comes of it at all, again then.
            improve.at = now + improve.wait.max(REPLACED_LINGER);
            improve.attempt
        });
        let improve = improve.filter(|_| !direct && peer.request.is_none());
        let idle = peer.is_idle();
        if let Some((tunnel, ..)) = old {
            self.forget_tunnel(now, id, tunnel);
        }
        self.ask_again(now, id);
        if !registered {
            return;
        }
        if let Some(want) = retry.filter(|_| idle) {
            self.request_route(now, id, want);
        } else if relay {
            self.request_route(now, id, Want::Relayed);
        } else if let Some(attempt) = improve {
            self.request_route(now, id, Want::Direct(attempt));
        }
    }

    /// Sends requests again that are due.
    fn ask_again(&mut self, now: Instant, id: PeerId) {
        let reliable = self.carriage.is_reliable();
        let registered = self.cloud.is_registered();
        let Some(peer) = self.peers.find_mut(id) else { return };
        let reference = peer.reference.clone();
        let mut due: Vec<(u32, Want, u8)> = Vec::new();
        if let Some(request) = peer.request.as_mut().filter(|request| request.retry.next <= now) {
            due.push((request.transaction, request.want, request.retry.sent));
            request.retry.again(now);
        }
        for origin in peer.building.values_mut() {
            if let Some(again) = origin.again.as_mut().filter(|again| again.next <= now) {
                due.push((origin.transaction, origin.want.unwrap_or(Want::Any), again.sent));
                again.again(now);
            }
        }
        let better = peer.up.is_some();
        for (transaction, want, count) in due {
            if reliable || !registered {
                continue;
            }
            if better && count >= DIRECTION_TRIES {
                self.peers.set_request(id, None);
                continue;
            }
            let request = DirectionRequest { peer: reference.clone(), want };
            self.carriage.send_nms(now, transaction, count, Message::DirectionRequest(request));
            if count >= DIRECTION_DOUBTFUL {
                self.doubt_nms(now);
            }
        }
    }
}

/// Whether a deadline has come; then it is gone.
fn take_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

impl Peer {
    /// Whether the tunnel that is up is not worth keeping beside a relayed one that came of `origin`: the relay was asked for
    /// when it had been up for long, so because of silence. Both ends have to judge alike, or each would be left alone with
    /// its own: they go by when the Route Direction came, and neither by what it heard since.
    fn has_dead_tunnel(&self, origin: &Origin) -> bool {
        self.up.is_some() && origin.want == Some(Want::Relayed) && origin.since >= self.up_since + DIRECT_SILENCE / 2
    }

    /// The tunnel that packets go into.
    pub(super) fn tunnel(&self) -> Option<TunnelId> {
        self.up.map(|(tunnel, _)| tunnel)
    }
}
