//! Moves under `handover = "seamless"`: which connections move along with the node, and how a Route Direction becomes
//! more paths of a tunnel that is up.

use std::net::SocketAddr;

use super::end::End;
use super::pathed::Pathed;
use super::tunnel::{Path, Tunnel, TunnelState};
use super::{Owner, Proposed};
use crate::event::Event;
use crate::machine::Output;
use crate::message::{RouteDirection, Want};
use crate::name::{Fqdn, RelayCid};
use crate::node::carriage::{CarriageOutput, Kept};
use crate::node::part::TunnelId;
use crate::node::places::Places;
use crate::node::routes::is_old;
use crate::paths::candidates::Way;
use crate::paths::peer::Input;
use crate::paths::strategy::Handover;
use crate::quic::LinkId;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::node::MIGRATION_LIMIT;

impl Proposed {
    /// The tunnel to a peer that is up and whose paths may change, unless it is so old that another one replaces it.
    pub(super) fn standing(&self, now: Instant, peer: &Fqdn) -> Option<TunnelId> {
        let stands = |tunnel: &Tunnel| {
            tunnel.name == *peer
                && tunnel.agreed == Handover::Seamless
                && matches!(tunnel.state, TunnelState::Up(_))
                && !is_old(now, tunnel.since, self.tunnel_lifetime)
        };
        self.tunnels.iter().rev().find(|(_, tunnel)| stands(tunnel)).map(|(&id, _)| id)
    }

    /// Takes a Route Direction to a direct path as one more path of a tunnel that is up, if there is one. A direction
    /// to any path means that the peer has lost the tunnel.
    pub(super) fn merge_direct(
        &mut self,
        now: Instant,
        id: TunnelId,
        direction: &RouteDirection,
        transaction: u32,
    ) -> bool {
        if !matches!(direction.want, Some(Want::Direct(_))) || direction.relay.is_some() {
            return false;
        }
        let Some(standing) = self.standing(now, &direction.peer) else { return false };
        let Some(end) = self.end_of(standing) else { return false };
        if let Some(tunnel) = self.tunnels.get_mut(&standing) {
            (tunnel.merged, tunnel.direct) = (Some(transaction), direction.pattern);
        }
        self.tell_places(now, end, &direction.candidates);
        self.out.push_back(CarriageOutput::Merged(id));
        true
    }

    /// Makes the leg of a tunnel that is being built one more path of a tunnel that is up. False if that one is gone.
    pub(super) fn merge_leg(
        &mut self,
        now: Instant,
        id: TunnelId,
        standing: TunnelId,
        leg: LinkId,
        theirs: RelayCid,
    ) -> bool {
        let Some(end) = self.end_of(standing) else { return false };
        self.abandon(id);
        self.bind(now, standing, end, leg, theirs);
        self.tell_places(now, end, &[]);
        self.out.push_back(CarriageOutput::Merged(id));
        true
    }

    /// A service has seen our new address. Messages that waited for that can leave.
    pub(super) fn on_followed(&mut self, now: Instant, link: LinkId) {
        match self.owners.get(&link) {
            Some(Owner::Nms) => self.out.push_back(CarriageOutput::NmsReady),
            Some(&Owner::Leg(id)) => {
                let Some(end) = self.end_of(id) else { return };
                // The TRS dropped these packets, because it did not know our new address yet. They are sent again at
                // once.
                self.tell_places(now, end, &[]);
            }
            Some(&Owner::Direct(id)) => {
                let remote = self.links.remote(link);
                let Some((tunnel, remote)) = self.tunnels.get_mut(&id).zip(remote) else { return };
                tunnel.migrates = None;
                let (peer, pattern) = (tunnel.name.clone(), tunnel.pattern);
                self.timers.set(id, None);
                let event = Event::PathSwitched { peer, remote, pattern };
                self.out.push_back(CarriageOutput::Pass(Output::from(event)));
            }
            _ => {}
        }
    }

    /// The link of a direct tunnel.
    fn direct_link(&self, id: TunnelId) -> Option<LinkId> {
        if let TunnelState::Up(Path::Direct(link)) = self.tunnels.get(&id)?.state { Some(link) } else { None }
    }

    /// Whether a tunnel moves along with the node: its paths change, or we are the client of a connection whose address
    /// may change (RFC 9000 §9).
    fn moves_along(&self, id: TunnelId) -> bool {
        let tunnel = &self.tunnels[&id];
        match (tunnel.agreed, &tunnel.state) {
            (Handover::Seamless, TunnelState::Up(_)) => true,
            (Handover::Migrate, TunnelState::Up(Path::Direct(link))) if link.is_pathed() => tunnel.dialer,
            (Handover::Migrate, TunnelState::Up(Path::Direct(link))) => {
                tunnel.dialer && self.links.is_up(*link) && self.moved_way(*link).is_some()
            }
            _ => false,
        }
    }

    /// Our address for a link and the address that it leads to, if the link can move along. Where we have no address of
    /// that family any more, a link to a service may lead to another address of the service.
    fn moved_way(&self, link: LinkId) -> Option<(SocketAddr, SocketAddr)> {
        let remote = self.links.remote(link)?;
        let same = self.places.local(remote.is_ipv4()).map(|local| (local, remote));
        same.or_else(|| self.places.first(self.links.places(link)))
    }

    /// Takes the node's new network, if its tunnels have paths.
    pub(super) fn move_along(&mut self, now: Instant, places: &Places) -> Kept {
        self.places = places.clone();
        self.expected.search_all();
        self.standby.forget();
        self.inbound.clear();
        self.inbound_timers = Timers::default();
        self.expected.end_all();
        let (kept, gone): (Vec<_>, Vec<_>) = self.tunnels.keys().copied().partition(|id| self.moves_along(*id));
        for id in gone {
            self.abandon(id);
        }
        let ends: Vec<(TunnelId, End)> = kept.iter().filter_map(|&id| Some((id, self.end_of(id)?))).collect();
        // Links that are not needed any more, or cannot move along, end silently.
        let legs: Vec<LinkId> = ends.iter().filter_map(|(_, end)| Some(self.pathed[end].bound?.leg)).collect();
        let tunnels: Vec<LinkId> = kept.iter().filter_map(|id| self.direct_link(*id)).collect();
        let all: Vec<LinkId> = self.owners.keys().copied().collect();
        let mut moved = Vec::new();
        for link in all {
            if link.is_pathed() {
                if !tunnels.contains(&link) {
                    self.owners.remove(&link);
                }
                continue;
            }
            let needed = Some(link) == self.nms || legs.contains(&link) || tunnels.contains(&link);
            match self.moved_way(link).filter(|_| needed && self.links.is_up(link)) {
                Some(way) => moved.push((link, way)),
                None => _ = self.owners.remove(&link),
            }
        }
        let kept_main: Vec<LinkId> = moved.iter().map(|(link, _)| *link).collect();
        self.links.abandon_others(&kept_main);
        if let Some(shared) = &mut self.shared {
            shared.abandon_others(&tunnels);
        }
        let lost: Vec<End> =
            self.pathed.keys().copied().filter(|end| ends.iter().all(|(_, kept)| kept != end)).collect();
        for end in lost {
            self.forget_end(end);
        }
        self.nms = self.nms.filter(|nms| kept_main.contains(nms));
        self.forget_nms_links();
        for (link, way) in moved {
            if Some(link) == self.nms {
                // The session is tried there first, so another path begins with the other family.
                self.places.keep(way.0, way.1);
            }
            self.links.rebind(now, link, way);
            if let Some(Owner::Direct(id)) = self.owners.get(&link)
                && let Some(tunnel) = self.tunnels.get_mut(id)
            {
                tunnel.migrates = Some(now + MIGRATION_LIMIT);
                self.timers.set(*id, tunnel.migrates);
            }
            self.follow_leg(link, way);
        }
        for &(_, end) in &ends {
            let Some(pathed) = self.pathed.get_mut(&end) else { continue };
            if let Some(bound) = pathed.bound.take_if(|bound| !kept_main.contains(&bound.leg)) {
                self.by_bound.remove(&bound.ours);
            }
            self.tell_network(now, end);
        }
        self.drain_links(now);
        Kept { nms: self.nms.is_some(), tunnels: kept }
    }

    /// No path of a tunnel works. If the NMS is silent too, the sessions with it and with TRSs change to another
    /// address of ours, if there is one.
    pub(super) fn try_elsewhere(&mut self, now: Instant) {
        let Some(nms) = self.nms else { return };
        let Some((heard, remote)) = self.links.heard_at(nms).zip(self.links.remote(nms)) else { return };
        let unanswered = self.asked_nms.filter(|&asked| heard < asked);
        // Several tunnels may ask for this within one round trip to the NMS. Its silence means nothing so soon.
        if unanswered.is_some_and(|asked| now < asked + self.nms_patience(nms)) {
            return;
        }
        self.asked_nms = None;
        if unanswered.is_none() || !self.places.has_other(remote.is_ipv4()) {
            self.asked_nms = Some(now);
            return self.links.ping(now, nms);
        }
        self.places.turn = self.places.turn.wrapping_add(1);
        let links: Vec<LinkId> = self.owners.keys().copied().filter(|link| !link.is_pathed()).collect();
        for link in links {
            let Some(way) = self.moved_way(link).filter(|(local, _)| self.links.local(link) != Some(*local)) else {
                continue;
            };
            self.links.rebind(now, link, way);
            self.follow_leg(link, way);
        }
        let ends: Vec<End> = self.pathed.keys().copied().collect();
        for end in ends {
            self.tell_places(now, end, &[]);
        }
    }

    /// A TRS is reached by UDP again, after TCP. A path through it may pass less now than was found by TCP.
    pub(super) fn on_rerouted(&mut self, now: Instant, trs: SocketAddr) {
        let relayed =
            |(&end, pathed): (&End, &Pathed)| Some((end, pathed.bound?.way)).filter(|(_, way)| way.remote == trs);
        let all: Vec<(End, Way)> = self.pathed.iter().filter_map(relayed).collect();
        for (end, way) in all {
            self.give(now, end, Input::Rerouted(way));
        }
    }

    /// A leg has another way.
    fn follow_leg(&mut self, leg: LinkId, (local, remote): (SocketAddr, SocketAddr)) {
        for pathed in self.pathed.values_mut() {
            if let Some(bound) = pathed.bound.as_mut().filter(|bound| bound.leg == leg) {
                bound.way = Way { local, remote };
            }
        }
    }

    /// Forgets a tunnel without telling the peer.
    fn abandon(&mut self, id: TunnelId) {
        self.tunnels.remove(&id);
        self.by_leg.retain(|_, tunnel| *tunnel != id);
        self.blind_touched.remove(&id);
        self.timers.set(id, None);
        self.searches.set(id, None);
    }
}
