//! Dialing a peer: several handshakes beside each other, and how long they go on.

use std::net::SocketAddr;

use super::end::End;
use super::tunnel::{EndToEnd, Opening, TunnelState};
use super::{Owner, Proposed};
use crate::event::Failure;
use crate::name::Fqdn;
use crate::node::part::TunnelId;
use crate::quic::{LinkId, Links};
use crate::route::is_private;
use crate::time::Instant;
use crate::timing::node::{BUILD_LONGEST, DIAL_AGAIN, DIAL_STEP_TIMEOUT};
use crate::timing::patient;

/// What one attempt at a direct tunnel sends to an address that does not answer: QUIC's first packet and its two
/// retransmissions within `DIAL_STEP_TIMEOUT`, each 1,200 bytes, and one that leaves at its end.
const DIALED_BYTES: usize = 4 * 1_200;
/// Most handshakes of one dialer with one peer that are under way.
const MAX_DIALED: usize = 8;

impl Proposed {
    /// Dials the peer wherever it may be.
    pub(super) fn dial(
        &mut self,
        now: Instant,
        id: TunnelId,
        peer: &Fqdn,
        candidates: &[SocketAddr],
        optimal: bool,
    ) -> Result<Vec<LinkId>, Failure> {
        let load = self.load_to(peer);
        if let Some(shared) = &mut self.shared {
            let link = shared.connect_pathed(now, peer, None, load).ok_or(Failure::Protocol)?;
            self.begin_pathed(now, End::Shared(link), true, candidates);
            self.shared_touched = true;
            self.owners.insert(link, Owner::Direct(id));
            return Ok(vec![link]);
        }
        let mut links = Vec::new();
        for place in self.places.all(candidates) {
            // A peer's inside address is only its word. Elsewhere the NMS has seen the peer.
            let inside = optimal && is_private(place.1.ip());
            if inside && !self.silent.take(now, place.1.ip(), DIALED_BYTES) {
                continue;
            }
            if let Some(link) = self.connect(now, place, peer, load) {
                self.owners.insert(link, Owner::Direct(id));
                links.push(link);
            }
        }
        if links.is_empty() { Err(Failure::NoAddress) } else { Ok(links) }
    }

    /// A handshake that loses two packets in a row waits for seconds. One more beside it begins with short waits again;
    /// the first one done wins.
    pub(super) fn dial_again(&mut self, now: Instant, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let TunnelState::Dialing(links) = &tunnel.state else { return };
        let Some((_, optimal)) = tunnel.redial.filter(|(at, _)| *at <= now) else { return };
        let next = now + patient(DIAL_AGAIN, tunnel.slow);
        let (peer, candidates, room) = (tunnel.name.clone(), tunnel.candidates.clone(), links.len() < MAX_DIALED);
        let more = if room { self.dial(now, id, &peer, &candidates, optimal).unwrap_or_default() } else { Vec::new() };
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.redial = room.then_some((next, optimal));
            if let TunnelState::Dialing(links) = &mut tunnel.state {
                links.extend(more);
            }
        }
    }

    /// Whether something was heard lately on a way that is not up yet: then it only loses packets.
    pub(super) fn shows_life(&self, now: Instant, id: TunnelId) -> bool {
        let Some(tunnel) = self.tunnels.get(&id) else { return false };
        if now >= tunnel.since + patient(BUILD_LONGEST, tunnel.slow) {
            return false;
        }
        let lately = |links: &Links, link: LinkId| {
            links.was_heard(link).is_some_and(|at| now < at + patient(DIAL_STEP_TIMEOUT, tunnel.slow))
        };
        match &tunnel.state {
            TunnelState::Dialing(links) | TunnelState::LegOpening(Opening { links, .. }) => {
                links.iter().any(|&link| lately(self.of(link), link))
            }
            TunnelState::Requested(link) | TunnelState::LegRequested(link) => lately(self.of(*link), *link),
            TunnelState::EndToEnd(EndToEnd { links, link: Some(link), .. }) => lately(links, *link),
            // The dialer's handshake may be under way.
            TunnelState::Expecting(_) => self.shared.as_ref().unwrap_or(&self.links).has_half_open(),
            TunnelState::EndToEnd(EndToEnd { links, link: None, .. }) => links.has_half_open(),
            TunnelState::LegWaiting(_) | TunnelState::Up(_) => false,
        }
    }
}
