//! Route Directions: which ones the node obeys, and which tunnels they replace.

use std::net::IpAddr;
use std::time::Duration;

use super::peer::Origin;
use super::table::PeerId;
use super::{Answer, RouteOutput, Routes, route_timeout};
use crate::event::DropReason;
use crate::message::{PeerRef, RouteDirection, Want};
use crate::node::part::{Asked, TunnelId, Turn};
use crate::paths::strategy::Handover;
use crate::route::Pattern;
use crate::timers::Backoff;
use crate::timing::node::{DIRECT_HEAD_START, DIRECTION_RETRY, ROUTE_TIMEOUT};
use crate::timing::patient;
use crate::timing::quic::MTU_DISCOVERY;

impl Routes {
    pub(super) fn on_direction(
        &mut self,
        turn: &mut Turn<'_, RouteOutput>,
        count: u8,
        asked: Asked,
        mut direction: Box<RouteDirection>,
    ) {
        let now = turn.now;
        let Asked { initiator, transaction, slow, .. } = asked;
        if direction.peer == self.name {
            return turn.push(RouteOutput::dropped(DropReason::Unexpected));
        }
        if let Err(reason) = self.check_direction(transaction, &direction, initiator) {
            return turn.push(RouteOutput::dropped(reason));
        }
        // A reliable transport delivers each message once, so the duplicate check is skipped.
        if !initiator && !self.reliable && !self.peers.obeys(now, transaction) {
            return self.confirm_again(turn, transaction, count, &direction);
        }
        self.withdraw_request(transaction, &direction, initiator);
        let Some((id, lost)) =
            self.peers.identify(now + route_timeout(slow || self.slow), &direction.peer, direction.virtual_addresses)
        else {
            return turn.push(RouteOutput::dropped(DropReason::Limit));
        };
        for _ in 0..lost {
            turn.push(RouteOutput::dropped(DropReason::QueueFull));
        }
        let relayed = direction.pattern == Pattern::Relayed;
        self.make_room(turn, id, direction.want, relayed);
        let awaits_dial = initiator && !direction.dial && !self.reliable;
        let origin = Origin {
            initiator,
            relayed,
            want: direction.want,
            transaction,
            since: now,
            handover: Handover::Rebuild,
            again: awaits_dial.then(|| Backoff::start(now, DIRECTION_RETRY)),
        };
        let tunnel = self.peers.new_tunnel(id);
        let peer = self.peers.find_mut(id).expect("just identified");
        peer.permit(direction.permissions.0.take());
        peer.begin_attempt(tunnel, origin);
        peer.slow = slow;
        // A node that asks again and again after failures would otherwise never give the peer up. Where one of the two
        // is slow, it takes some failures until the timeouts have grown.
        if !initiator || slow || peer.search.failures == 0 {
            peer.search.until = peer.search.until.max(now + patient(ROUTE_TIMEOUT, slow) / 2);
        }
        // A tunnel to a slow peer takes longer than a resolver waits.
        let queries = if slow { peer.held.take_queries() } else { Vec::new() };
        for query in queries {
            turn.push(RouteOutput::Answer(query, Answer::Addresses(direction.virtual_addresses)));
        }
        // Whether this node asks for the relay. Usually the initiator asks. A peer that wants a direct tunnel already
        // has the relayed one, so it does not ask. If we have no tunnel at all, its relayed tunnel belongs to our time
        // before a restart, and we ask.
        let asks_for_relay = match direction.want {
            Some(Want::Any) => initiator,
            Some(Want::Direct(_)) => peer.up().is_none(),
            Some(Want::Relayed) | None => false,
        };
        if asks_for_relay && !relayed {
            peer.search.relay_at = Some(now + DIRECT_HEAD_START);
        }
        let searches = if peer.up().is_some() { MTU_DISCOVERY } else { Duration::ZERO };
        self.peers.rearm(id);
        turn.push(RouteOutput::Build { tunnel, asked: Asked { searches, ..asked }, direction });
    }

    /// Whether a Route Direction is believed. It has to answer a request of ours, and may not give a virtual address to
    /// another name, or a name another address, than before. This holds for as long as the peer is known.
    fn check_direction(&self, transaction: u32, direction: &RouteDirection, initiator: bool) -> Result<(), DropReason> {
        if initiator {
            // None: the direction is a repetition, or its request was given up.
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

    /// Sends the Confirmation again, because the NMS repeats a Route Direction and so lacks it. Obeying the direction
    /// again would take down a tunnel that is up or half built.
    fn confirm_again(
        &mut self,
        turn: &mut Turn<'_, RouteOutput>,
        transaction: u32,
        count: u8,
        direction: &RouteDirection,
    ) {
        let Some(id) = self.peers.by_name(&direction.peer) else { return };
        let of_it = |origin: &Origin| !origin.initiator && origin.transaction == transaction;
        let stands = self.peers.get(id).tunnels().any(|(_, origin)| of_it(origin));
        // A dialer needs no Confirmation: the Tunnel Request confirms, and the carriage retransmits it.
        if stands && !direction.dial {
            turn.push(RouteOutput::Confirm { transaction, count: count.max(1) });
        }
    }

    /// Ends the request that a Route Direction answers. The initiator's request has the direction's transaction. If
    /// both nodes asked at once and the NMS took the peer's request, the responder's own request for the same kind of
    /// tunnel ends.
    fn withdraw_request(&mut self, transaction: u32, direction: &RouteDirection, initiator: bool) {
        let answered = if initiator {
            self.peers.asked(transaction, &direction.peer)
        } else {
            self.peers.by_name(&direction.peer).filter(|&id| {
                let ours = self.peers.get(id).request().map(|request| request.want);
                ours.is_some_and(|ours| direction.want.unwrap_or(Want::Any).covers(ours))
            })
        };
        let Some(id) = answered else { return };
        let request = self.peers.set_request(id, None);
        if let Some(peer) = self.peers.find_mut(id) {
            peer.yielded = request.filter(|_| !initiator).map(|request| request.transaction);
        }
    }

    /// Forgets the tunnels that a new Route Direction replaces. These are all tunnels, or attempts at the same kind if
    /// only one kind was wanted.
    fn make_room(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, want: Option<Want>, relayed: bool) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        let one_kind = matches!(want, Some(Want::Relayed | Want::Direct(_)));
        let replaced: Vec<TunnelId> = if one_kind {
            peer.attempts().filter(|(_, origin)| origin.relayed == relayed).map(|(tunnel, _)| tunnel).collect()
        } else {
            peer.tunnels().map(|(tunnel, _)| tunnel).collect()
        };
        if !one_kind {
            peer.give_up_tunnels();
        }
        for tunnel in replaced {
            self.forget_tunnel(turn, id, tunnel);
        }
    }
}
