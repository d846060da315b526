//! Direction Requests: when one is sent, sent again, and refused.

use super::peer::{PeerState, PendingRequest};
use super::table::PeerId;
use super::{Answer, RouteOutput, Routes, lose, route_timeout, take_due};
use crate::event::{DropReason, Event, Failure};
use crate::message::{DirectionRequest, ErrorCode, Want};
use crate::node::part::{TunnelId, Turn};
use crate::timers::Backoff;
use crate::timing::node::{
    DIRECTION_DOUBTFUL, DIRECTION_RETRY, DIRECTION_TRIES, QUERY_PATIENCE, REPLACED_LINGER, ROUTE_TIMEOUT,
};
use crate::timing::patient;

impl Routes {
    /// Starts the search for a tunnel anew, with a fresh time limit.
    pub(super) fn want_route(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) {
        let own = self.slow;
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.slow |= own;
        peer.unknown_patience = if self.reliable { QUERY_PATIENCE } else { ROUTE_TIMEOUT };
        peer.search.until = turn.now + route_timeout(peer.slow);
        if self.registered {
            self.request(turn, id, Want::Any);
        } else {
            self.peers.rearm(id);
        }
    }

    /// Sends a Direction Request.
    pub(super) fn request(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, want: Want) {
        let transaction = turn.random.u32();
        let request =
            PendingRequest { transaction, want, since: turn.now, retry: Backoff::start(turn.now, DIRECTION_RETRY) };
        let Some(peer) = self.peers.find_mut(id) else { return };
        if want == Want::Relayed {
            peer.search.relay_at = None;
        }
        // The NMS forgets earlier requests at this one. To it, a retransmission of an earlier one would be a new
        // request.
        peer.origins_mut().for_each(|origin| origin.again = None);
        let peer = peer.reference.clone();
        self.peers.set_request(id, Some(request));
        self.peers.rearm(id);
        turn.push(RouteOutput::Request { transaction, count: 0, request: DirectionRequest { peer, want } });
    }

    /// Asks for everything that waited for a registration, or that an earlier session lost.
    pub(super) fn request_waiting(&mut self, turn: &mut Turn<'_, RouteOutput>) {
        for id in self.peers.ids() {
            let lost = self.peers.set_request(id, None).map(|request| request.want);
            let Some(peer) = self.peers.find_mut(id) else { continue };
            match (&peer.state, lost) {
                (PeerState::Wanted { .. } | PeerState::Requested(_), _) => {
                    // The wait for the registration does not count against the peer.
                    peer.search.until = peer.search.until.max(turn.now + ROUTE_TIMEOUT / 2);
                    self.request(turn, id, Want::Any);
                }
                (PeerState::Building { .. }, Some(Want::Relayed)) => self.request(turn, id, Want::Relayed),
                (PeerState::Up(up), _) if up.wanted.is_some() => self.request_wanted(turn, id),
                (PeerState::Building { .. } | PeerState::Up(_), _) => self.peers.rearm(id),
            }
        }
    }

    pub(super) fn on_refused(&mut self, turn: &mut Turn<'_, RouteOutput>, transaction: u32, code: ErrorCode) {
        let Some(id) = self.peers.by_transaction(transaction) else {
            return self.on_direction_void(turn, transaction, code);
        };
        let now = turn.now;
        let want = self.peers.set_request(id, None).map_or(Want::Any, |request| request.want);
        let Some(peer) = self.peers.find_mut(id) else { return };
        let PeerState::Wanted { retry } = &mut peer.state else {
            if matches!(want, Want::Direct(_)) && code == ErrorCode::NoDirectWay && self.relay_wanted(turn, id) {
                return;
            }
            // The request was for another tunnel than the present one.
            if matches!(want, Want::Direct(_)) {
                self.not_improved(turn, id, Failure::Refused(code));
            }
            return self.peers.rearm(id);
        };
        let pause = match code {
            ErrorCode::NoDirectWay if peer.search.until > now => Some(now),
            // A peer that is offline now may be moving. Then it registers again in a moment.
            ErrorCode::PeerOffline if peer.search.until > now + DIRECTION_RETRY && peer.addresses.is_some() => {
                Some(now + DIRECTION_RETRY)
            }
            _ => None,
        };
        if let Some(at) = pause {
            *retry = Some((at, Want::Any));
            self.peers.rearm(id);
        } else {
            self.give_up(turn, id, Failure::Refused(code));
        }
    }

    /// The NMS withdraws a Route Direction, because the peer has another address or is gone. Only an attempt ends. A
    /// tunnel that is up notices by itself.
    fn on_direction_void(&mut self, turn: &mut Turn<'_, RouteOutput>, transaction: u32, code: ErrorCode) {
        let Some((id, tunnel)) = self.peers.built_for(transaction) else {
            return turn.push(RouteOutput::dropped(DropReason::Unexpected));
        };
        let Some(origin) = self.peers.find_mut(id).and_then(|peer| peer.end_attempt(tunnel)) else { return };
        self.forget_tunnel(turn, id, tunnel);
        self.on_attempt_failed(turn, id, origin, Failure::Refused(code));
        self.peers.rearm(id);
    }

    /// The node's addresses changed, and the carriage has forgotten every tunnel but some: all others are built anew.
    /// What applications send meanwhile is held.
    pub(super) fn rebuild(&mut self, turn: &mut Turn<'_, RouteOutput>, kept: &[TunnelId]) {
        for id in self.peers.ids() {
            self.peers.set_request(id, None);
            if self.keep(id, kept) {
                continue;
            }
            let Some(peer) = self.peers.find_mut(id) else { continue };
            let tunnels: Vec<_> = peer.tunnels().map(|(tunnel, _)| tunnel).collect();
            peer.yielded = None;
            peer.give_up_tunnels();
            lose(turn, peer.ahead.take());
            let label = peer.label();
            for tunnel in &tunnels {
                self.peers.forget_tunnel(*tunnel);
            }
            if !tunnels.is_empty() {
                turn.push(RouteOutput::Event(Event::TunnelDown { peer: label, reason: Failure::Moved }));
            }
            self.want_route(turn, id);
        }
    }

    /// A timer of a peer is due.
    pub(super) fn peer_timeout(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) {
        let now = turn.now;
        let Some(peer) = self.peers.find_mut(id) else { return };
        let patience = peer.query_patience();
        while let Some(query) = peer.held.take_due_query(now, patience) {
            turn.push(RouteOutput::Answer(query, peer.addresses.map_or(Answer::Failed, Answer::Addresses)));
        }
        if defect!(RouteNeverGivenUp) {
            peer.search.until = peer.search.until.max(now + ROUTE_TIMEOUT);
        }
        // The NMS answers or refuses each request. If the peer is slow, the refusal comes late.
        if let PeerState::Requested(request) = &peer.state
            && self.registered
            && peer.search.until <= now
        {
            peer.search.until = peer.search.until.max(request.since + 2 * ROUTE_TIMEOUT);
        }
        if peer.has_no_way() && peer.search.until <= now {
            return self.give_up(turn, id, Failure::Timeout);
        }
        let has_request = peer.request().is_some();
        let tries_directly = peer.tries_directly();
        let (slow, traffic) = (peer.slow, peer.traffic);
        let relay = take_due(&mut peer.search.relay_at, now);
        let (mut want, mut replaced) = (None, None);
        match &mut peer.state {
            PeerState::Wanted { retry } => want = retry.take_if(|(at, _)| *at <= now).map(|(_, want)| want),
            PeerState::Requested(_) | PeerState::Building { .. } => {}
            PeerState::Up(up) => {
                replaced = up.replaced.take_if(|replaced| replaced.until <= now).map(|replaced| replaced.tunnel);
                if let Some(improve) = up.improve.as_mut().filter(|improve| improve.at <= now) {
                    // If this attempt gets no answer at all, another follows.
                    improve.at = now + improve.wait.max(patient(REPLACED_LINGER, slow));
                    want = Some(Want::Direct(improve.attempt)).filter(|_| !tries_directly && !has_request);
                }
                let relayed = up.origin.relayed;
                let renewed = up.renewal.as_mut().and_then(|renewal| renewal.due(now, relayed, traffic));
                want = renewed.filter(|_| up.attempts.is_empty() && !has_request).or(want);
            }
        }
        if relay && want.is_none() && peer.up().is_none() && !has_request {
            want = Some(Want::Relayed);
        }
        if let Some(tunnel) = replaced {
            peer.setbacks = 0;
            self.forget_tunnel(turn, id, tunnel);
        }
        self.request_again(turn, id);
        if let Some(want) = want.filter(|_| self.registered) {
            self.request(turn, id, want);
        }
    }

    /// Sends the requests again that are due.
    fn request_again(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) {
        let now = turn.now;
        let Some(peer) = self.peers.find_mut(id) else { return };
        let reference = peer.reference.clone();
        let mut due: Vec<(u32, Want, u8)> = Vec::new();
        if let Some(request) = peer.request_mut().filter(|request| request.retry.next <= now) {
            due.push((request.transaction, request.want, request.retry.sent));
            request.retry.again(now);
        }
        for origin in peer.origins_mut() {
            if let Some(again) = origin.again.as_mut().filter(|again| again.next <= now) {
                due.push((origin.transaction, origin.want.unwrap_or(Want::Any), again.sent));
                again.again(now);
            }
        }
        let is_up = peer.up().is_some();
        for (transaction, want, count) in due {
            if self.reliable || !self.registered {
                continue;
            }
            if is_up && count >= DIRECTION_TRIES {
                self.peers.set_request(id, None);
                continue;
            }
            let request = DirectionRequest { peer: reference.clone(), want };
            turn.push(RouteOutput::Request { transaction, count, request });
            if count >= DIRECTION_DOUBTFUL {
                turn.push(RouteOutput::DoubtNms);
            }
        }
    }
}
