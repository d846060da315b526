//! Whom a node talks to, or wants to.
//!
//! What a peer has is, at any time:
//!
//! ```text
//! a request      a Direction Request is under way                     ┐ until the first tunnel is up,
//! being built    tunnels of Route Directions that were obeyed         ┘ packets and queries are held
//! up             the tunnel that packets go into
//! old            a tunnel that a better one has replaced: what is still on its way arrives by it
//! ```
//!
//! How these follow each other is in `routes`. A peer without any of them, for which nothing waits, is forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Node;
use super::carriage::TunnelId;
use super::held::Held;
use crate::event::{DropReason, Event};
use crate::machine::Tables;
use crate::message::{PeerRef, Want};
use crate::name::{Fqdn, Virtual};
use crate::time::Instant;
use crate::timers::{Backoff, Timers};
use crate::timing::node::{DIRECTION_REMEMBERED, ROUTE_TIMEOUT};
use crate::timing::{Due, Timer, earliest};

/// Most peers a node keeps state for.
pub const MAX_PEERS: usize = 4096;

/// Names a peer within one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerId(u32);

pub(super) struct Peer {
    /// How it was first asked for; by name as soon as the name is known.
    pub(super) reference: PeerRef,
    pub(super) addresses: Option<Virtual>,
    pub(super) held: Held,
    /// Bytes of packets sent into its tunnels, and that came out of them.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) request: Option<Request>,
    /// The transaction of the last one, if it gave way to the peer's own: the NMS may still come back to it.
    pub(super) yielded: Option<u32>,
    pub(super) building: BTreeMap<TunnelId, Origin>,
    pub(super) up: Option<(TunnelId, Origin)>,
    /// Since when that one is.
    pub(super) up_since: Instant,
    /// With the time until which it is kept.
    pub(super) old: Option<(TunnelId, Origin, Instant)>,
    /// Without a tunnel: until when we try.
    pub(super) until: Instant,
    /// When to ask again, after a failure, and for what.
    pub(super) retry_at: Option<(Instant, Want)>,
    /// Attempts since the last tunnel that failed.
    pub(super) failures: u8,
    /// When to ask for the relay as well.
    pub(super) relay_at: Option<Instant>,
    /// The tunnel is relayed, and may not have to be.
    pub(super) improve: Option<Improve>,
    /// Direct tunnels, in a row, that took over from a relayed one and were lost at once.
    pub(super) setbacks: u8,
    /// Since when packets go into a direct tunnel and nothing comes out.
    pub(super) unheard: Option<Instant>,
}

/// A Direction Request under way.
pub(super) struct Request {
    pub(super) transaction: u32,
    pub(super) want: Want,
    pub(super) retry: Backoff,
}

/// The Route Direction that a tunnel comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) initiator: bool,
    pub(super) relayed: bool,
    /// `None` under the paper's policy.
    pub(super) want: Option<Want>,
    pub(super) transaction: u32,
    /// When that came.
    pub(super) since: Instant,
    /// Until the peer dials, what we asked is asked again: nobody else would notice that the NMS's word to the peer was
    /// lost (Fig. 4).
    pub(super) again: Option<Backoff>,
}

impl Origin {
    /// Which attempt at a direct path it was.
    pub(super) fn attempt(&self) -> u8 {
        match self.want {
            Some(Want::Direct(attempt)) => attempt,
            _ => 0,
        }
    }
}

/// When to try for a direct path next.
#[derive(Clone, Copy)]
pub(super) struct Improve {
    pub(super) at: Instant,
    /// After the next failure wait this long.
    pub(super) wait: Duration,
    /// Counts the attempts.
    pub(super) attempt: u8,
}

impl Peer {
    fn new(reference: PeerRef, until: Instant) -> Self {
        Self {
            reference,
            addresses: None,
            held: Held::default(),
            sent: 0,
            received: 0,
            request: None,
            yielded: None,
            building: BTreeMap::new(),
            up: None,
            up_since: until,
            old: None,
            until,
            retry_at: None,
            failures: 0,
            relay_at: None,
            improve: None,
            setbacks: 0,
            unheard: None,
        }
    }

    pub(super) fn label(&self) -> String {
        match &self.reference {
            PeerRef::Name(name) => name.to_string(),
            PeerRef::Virtual(address) => address.to_string(),
        }
    }

    /// Every tunnel to the peer.
    pub(super) fn tunnels(&self) -> impl Iterator<Item = (TunnelId, Origin)> {
        let building = self.building.iter().map(|(&id, &origin)| (id, origin));
        building.chain(self.up).chain(self.old.map(|(id, origin, _)| (id, origin)))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.up.is_none() && self.building.is_empty() && self.request.is_none()
    }

    /// Forgets what is under way and what stands; tunnels are the caller's to forget.
    pub(super) fn reset(&mut self) {
        (self.request, self.yielded, self.up, self.old) = (None, None, None, None);
        (self.retry_at, self.relay_at, self.improve, self.unheard) = (None, None, None, None);
        self.building.clear();
    }

    fn next_timer(&self) -> Option<Due> {
        let hopeless = (self.up.is_none() && self.building.is_empty()).then_some(self.until);
        let request = self.request.as_ref().map(|request| request.retry.next);
        let again = self.building.values().filter_map(|origin| origin.again.map(|again| again.next)).min();
        let timers = [
            (Timer::Route, hopeless),
            (Timer::DirectionRetry, request),
            (Timer::DirectionRetry, again),
            (Timer::RoutePause, self.retry_at.map(|(at, _)| at)),
            (Timer::DirectHeadStart, self.relay_at),
            (Timer::Improvement, self.improve.map(|improve| improve.at)),
            (Timer::ReplacedTunnel, self.old.map(|(.., until)| until)),
        ];
        earliest(timers.map(|(timer, at)| at.map(|at| timer.at(at))))
    }
}

#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<PeerId, Peer>,
    by_reference: BTreeMap<PeerRef, PeerId>,
    by_virtual: BTreeMap<IpAddr, PeerId>,
    by_tunnel: BTreeMap<TunnelId, PeerId>,
    /// Direction Requests under way.
    by_transaction: BTreeMap<u32, PeerId>,
    timers: Timers<PeerId>,
    /// Transactions of Route Directions that we obeyed as the responder, where one may come again.
    obeyed: Timers<u32>,
    next_id: u32,
    next_tunnel: u32,
}

impl Peers {
    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        let (next_id, next_tunnel) = (self.next_id, self.next_tunnel);
        *self = Self { next_id, next_tunnel, ..Self::default() };
    }

    pub(super) fn get(&self, id: PeerId) -> &Peer {
        &self.peers[&id]
    }

    pub(super) fn find_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    pub(super) fn by_name(&self, name: &Fqdn) -> Option<PeerId> {
        self.by_reference.get(&PeerRef::Name(name.clone())).copied()
    }

    /// The peer with this virtual address, or that is being looked for by it.
    pub(super) fn by_virtual(&self, address: IpAddr) -> Option<PeerId> {
        self.owner_of(address).or_else(|| self.by_reference.get(&PeerRef::Virtual(address)).copied())
    }

    /// The peer that is known to have this virtual address.
    pub(super) fn owner_of(&self, address: IpAddr) -> Option<PeerId> {
        self.by_virtual.get(&address).copied()
    }

    /// The name of the peer with this virtual address, once both are known.
    pub(super) fn name_at(&self, address: IpAddr) -> Option<Fqdn> {
        match &self.get(self.owner_of(address)?).reference {
            PeerRef::Name(name) => Some(name.clone()),
            PeerRef::Virtual(_) => None,
        }
    }

    pub(super) fn by_tunnel(&self, tunnel: TunnelId) -> Option<PeerId> {
        self.by_tunnel.get(&tunnel).copied()
    }

    /// Whom a Direction Request asks for.
    pub(super) fn by_transaction(&self, transaction: u32) -> Option<PeerId> {
        self.by_transaction.get(&transaction).copied()
    }

    /// Whom a Direction Request asks for, or asked for before it gave way to the peer's own.
    pub(super) fn asked(&self, transaction: u32, peer: &Fqdn) -> Option<PeerId> {
        let yielded = |id: &PeerId| self.get(*id).yielded == Some(transaction);
        self.by_transaction(transaction).or_else(|| self.by_name(peer).filter(yielded))
    }

    /// The tunnel being built, or built, by what a Direction Request of ours was answered with.
    pub(super) fn built_for(&self, transaction: u32) -> Option<(PeerId, TunnelId)> {
        let ours = |(_, origin): &(TunnelId, Origin)| origin.initiator && origin.transaction == transaction;
        self.peers.iter().find_map(|(&id, peer)| Some((id, peer.tunnels().find(ours)?.0)))
    }

    pub(super) fn tables(&self) -> Tables {
        vec![
            ("peers", self.peers.len().max(self.by_reference.len()).max(self.by_virtual.len() / 2)),
            ("tunnels of peers", self.by_tunnel.len()),
            ("requests", self.by_transaction.len()),
            ("timers of peers", self.timers.count()),
            ("directions obeyed", self.obeyed.count()),
        ]
    }

    /// Whether a Route Direction to us as the responder is obeyed for the first time. Its keys are good for one tunnel, even if
    /// that came to nothing.
    pub(super) fn obeys(&mut self, now: Instant, transaction: u32) -> bool {
        let first = !self.obeyed.contains(transaction);
        self.obeyed.set(transaction, Some(now + DIRECTION_REMEMBERED));
        first
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        let of_peer = self.timers.first().map(|(at, id)| {
            let due = self.peers.get(&id).and_then(Peer::next_timer);
            due.map_or(Timer::Route, |due| due.timer).at(at)
        });
        earliest([of_peer, self.obeyed.next().map(|at| Timer::DirectionForgotten.at(at))])
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<PeerId> {
        while self.obeyed.pop_due(now).is_some() {}
        self.timers.pop_due(now)
    }

    /// Sets the peer's timer by what it waits for. To be called after every change.
    pub(super) fn rearm(&mut self, id: PeerId) {
        self.timers.set(id, self.peers.get(&id).and_then(Peer::next_timer).map(|due| due.at));
    }

    pub(super) fn new_tunnel(&mut self, peer: PeerId) -> TunnelId {
        let id = TunnelId(self.next_tunnel);
        self.next_tunnel += 1;
        self.by_tunnel.insert(id, peer);
        id
    }

    pub(super) fn forget_tunnel(&mut self, tunnel: TunnelId) {
        self.by_tunnel.remove(&tunnel);
    }

    /// Puts a request in the place of the one before.
    pub(super) fn set_request(&mut self, id: PeerId, request: Option<Request>) -> Option<Request> {
        let peer = self.peers.get_mut(&id)?;
        if let Some(new) = &request {
            peer.yielded = None;
            self.by_transaction.insert(new.transaction, id);
        }
        let old = std::mem::replace(&mut peer.request, request);
        if let Some(old) = &old {
            self.by_transaction.remove(&old.transaction);
        }
        old
    }

    fn insert(&mut self, until: Instant, reference: PeerRef) -> Option<PeerId> {
        if self.peers.len() >= MAX_PEERS && !defect!(PeersWithoutLimit) {
            return None;
        }
        let id = PeerId(self.next_id);
        self.next_id += 1;
        self.by_reference.insert(reference.clone(), id);
        self.peers.insert(id, Peer::new(reference, until));
        Some(id)
    }

    /// Forgets a peer; its tunnels are the caller's to forget.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        self.set_request(id, None);
        let peer = self.peers.remove(&id)?;
        self.timers.set(id, None);
        self.by_reference.remove(&peer.reference);
        if let Some(addresses) = peer.addresses {
            self.by_virtual.remove(&addresses.v4.into());
            self.by_virtual.remove(&addresses.v6.into());
        }
        Some(peer)
    }

    /// Records what a Route Direction says of a peer, and joins what was waiting for it by name and by address.
    /// `None` when there are too many peers. Also tells how many held items had no room.
    pub(super) fn identify(&mut self, until: Instant, name: &Fqdn, addresses: Virtual) -> Option<(PeerId, usize)> {
        let id = match self.by_name(name) {
            Some(id) => id,
            None => self.insert(until, PeerRef::Name(name.clone()))?,
        };
        let mut lost = 0;
        for address in [IpAddr::from(addresses.v4), IpAddr::from(addresses.v6)] {
            if let Some(&stranger) = self.by_reference.get(&PeerRef::Virtual(address)) {
                let stranger = self.remove(stranger).expect("indexed");
                lost += self.peers.get_mut(&id).expect("present").held.absorb(stranger.held);
            }
            self.by_virtual.insert(address, id);
        }
        self.peers.get_mut(&id).expect("present").addresses = Some(addresses);
        Some((id, lost))
    }
}

impl Node {
    /// The peer's entry, made if there is none.
    pub(super) fn peer_for(&mut self, now: Instant, reference: PeerRef) -> Option<PeerId> {
        let known = match &reference {
            PeerRef::Name(name) => self.peers.by_name(name),
            PeerRef::Virtual(address) => self.peers.by_virtual(*address),
        };
        if known.is_some() {
            return known;
        }
        let Some(id) = self.peers.insert(now + ROUTE_TIMEOUT, reference) else {
            self.dropped(DropReason::Limit);
            return None;
        };
        self.event(Event::RouteRequested { peer: self.peers.get(id).label() });
        self.want_route(now, id);
        Some(id)
    }
}
