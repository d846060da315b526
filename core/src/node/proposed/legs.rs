//! Legs that are being opened. If the TRS does not answer, the other address family or another interface is tried
//! beside the first attempt.

use std::net::SocketAddr;

use super::tunnel::{Opening, TunnelState};
use super::{Owner, Proposed};
use crate::event::Failure;
use crate::message::RelayMode;
use crate::node::part::TunnelId;
use crate::quic::{LinkId, Load};
use crate::time::Instant;
use crate::timing::node::CLOUD_OTHER_PATH;

impl Proposed {
    /// Begins to open a leg to the TRS at these addresses.
    pub(super) fn open_leg(
        &mut self,
        now: Instant,
        at: &[SocketAddr],
        load: Load,
        owner: Owner,
    ) -> Result<Opening, Failure> {
        let name = self.services.trs_name.clone();
        let link = self.open(now, at, &name, load)?;
        self.owners.insert(link, owner);
        let round_trip = self.nms.and_then(|nms| self.links.rtt(nms)).unwrap_or_default();
        let patience = CLOUD_OTHER_PATH.max(2 * round_trip);
        Ok(Opening { links: vec![link], other_at: self.other_way(link, at).map(|_| now + patience) })
    }

    /// Another pair of addresses to reach the service of a link: of the other family, or from another address of ours.
    fn other_way(&self, link: LinkId, at: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
        let (local, remote) = (self.links.local(link)?, self.links.remote(link)?);
        let differs = |way: &(SocketAddr, SocketAddr)| *way != (local, remote);
        [self.places.first(at), self.places.other(at)].into_iter().flatten().find(differs)
    }

    /// Tries another pair of addresses, if it is time.
    pub(super) fn try_other_way(
        &mut self,
        now: Instant,
        opening: &mut Opening,
        at: &[SocketAddr],
        load: Load,
        owner: Owner,
    ) {
        if opening.other_at.is_none_or(|at| at > now) {
            return;
        }
        opening.other_at = None;
        let Some(way) = opening.links.first().and_then(|first| self.other_way(*first, at)) else { return };
        let (places, name) = (if self.shared.is_some() { at } else { &[] }, self.services.trs_name.clone());
        if let Some(link) = self.links.connect_service(now, way, places, &name, load) {
            self.owners.insert(link, owner);
            opening.links.push(link);
        }
    }

    /// Tries another pair of addresses for the leg of a tunnel, if the TRS has not answered in time.
    pub(super) fn tend_leg(&mut self, now: Instant, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let (TunnelState::LegOpening(opening), Some(relay)) = (&mut tunnel.state, &tunnel.relay) else { return };
        let mut opening = std::mem::replace(opening, Opening { links: Vec::new(), other_at: None });
        let (at, is_blind, name) = (relay.addresses.clone(), relay.mode == RelayMode::Blind, tunnel.name.clone());
        let load = if is_blind { Load::Signaling } else { self.load_to(&name) };
        self.try_other_way(now, &mut opening, &at, load, Owner::Leg(id));
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.state = TunnelState::LegOpening(opening);
        }
    }

    /// One handshake for the leg of a tunnel is done: the others are not needed.
    pub(super) fn settle_leg(&mut self, now: Instant, id: TunnelId, leg: LinkId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let TunnelState::LegOpening(opening) = &mut tunnel.state else { return };
        let others = std::mem::replace(opening, Opening::done(leg)).links;
        for other in others.into_iter().filter(|&other| other != leg) {
            self.close(now, other);
        }
    }

    /// Forgets a failed handshake for the leg of a tunnel. True if another one is under way.
    pub(super) fn opens_elsewhere(&mut self, id: TunnelId, failed: LinkId) -> bool {
        let Some(TunnelState::LegOpening(opening)) = self.tunnels.get_mut(&id).map(|tunnel| &mut tunnel.state) else {
            return false;
        };
        opening.links.retain(|&link| link != failed);
        !opening.links.is_empty()
    }
}
