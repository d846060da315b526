//! The table of peers, and the indexes into it: by name or address, by tunnel, by request, by timer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::peer::{Peer, PendingRequest};
use crate::machine::Tables;
use crate::message::PeerRef;
use crate::name::{Fqdn, Virtual};
use crate::node::part::TunnelId;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::node::DIRECTION_REMEMBERED;
use crate::timing::{Due, Timer, earliest};

/// Most peers a node keeps state for. It bounds what an application can make the node remember by asking for addresses.
pub const MAX_PEERS: usize = 4096;

/// Names a peer within one node; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node) struct PeerId(u32);

/// Every peer that the node keeps state for.
#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<PeerId, Peer>,
    by_reference: BTreeMap<PeerRef, PeerId>,
    by_virtual: BTreeMap<IpAddr, PeerId>,
    by_tunnel: BTreeMap<TunnelId, PeerId>,
    /// Direction Requests that wait for their answers.
    by_transaction: BTreeMap<u32, PeerId>,
    timers: Timers<PeerId>,
    /// Transactions of Route Directions that this node obeyed as the responder, and that may be repeated.
    obeyed: Timers<u32>,
    next_id: u32,
    next_tunnel: u32,
}

impl Peers {
    /// Every peer, in the order in which they were first asked for.
    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Takes the next access rules about each peer, whatever their number: they come in another registration.
    pub(super) fn follow_rules_anew(&mut self) {
        for flows in self.peers.values_mut().filter_map(|peer| peer.flows.as_mut()) {
            flows.follow_anew();
        }
    }

    /// Every peer, in the same order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Forgets everything. Identifiers are not used again, because the carriage may still name an old tunnel.
    pub(super) fn clear(&mut self) {
        let (next_id, next_tunnel) = (self.next_id, self.next_tunnel);
        *self = Self { next_id, next_tunnel, ..Self::default() };
    }

    /// A peer that is known to exist.
    pub(super) fn get(&self, id: PeerId) -> &Peer {
        &self.peers[&id]
    }

    pub(super) fn find_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    pub(super) fn by_name(&self, name: &Fqdn) -> Option<PeerId> {
        self.by_reference.get(&PeerRef::Name(name.clone())).copied()
    }

    /// The peer with this name. Otherwise the peer with this virtual address, or the one that is asked for by it.
    pub(super) fn by_reference(&self, reference: &PeerRef) -> Option<PeerId> {
        match reference {
            PeerRef::Name(name) => self.by_name(name),
            PeerRef::Virtual(address) => self.owner_of(*address).or_else(|| self.by_reference.get(reference).copied()),
        }
    }

    /// The peer that is known to have this virtual address.
    pub(super) fn owner_of(&self, address: IpAddr) -> Option<PeerId> {
        self.by_virtual.get(&address).copied()
    }

    pub(super) fn by_tunnel(&self, tunnel: TunnelId) -> Option<PeerId> {
        self.by_tunnel.get(&tunnel).copied()
    }

    /// The peer that a waiting Direction Request asks for.
    pub(super) fn by_transaction(&self, transaction: u32) -> Option<PeerId> {
        self.by_transaction.get(&transaction).copied()
    }

    /// The peer that a Direction Request asks for, or asked for before the NMS took the peer's own request.
    pub(super) fn asked(&self, transaction: u32, peer: &Fqdn) -> Option<PeerId> {
        let yielded = |id: &PeerId| self.get(*id).yielded == Some(transaction);
        self.by_transaction(transaction).or_else(|| self.by_name(peer).filter(yielded))
    }

    /// The tunnel of the Route Direction that answered a Direction Request of ours, whether it is up or being built.
    pub(super) fn built_for(&self, transaction: u32) -> Option<(PeerId, TunnelId)> {
        self.peers.iter().find_map(|(&id, peer)| {
            let (tunnel, _) = peer.tunnels().find(|(_, o)| o.initiator && o.transaction == transaction)?;
            Some((id, tunnel))
        })
    }

    /// The sizes of its tables.
    pub(super) fn tables(&self) -> Tables {
        vec![
            ("peers", self.peers.len().max(self.by_reference.len()).max(self.by_virtual.len() / 2)),
            ("tunnels of peers", self.by_tunnel.len()),
            ("requests", self.by_transaction.len()),
            ("timers of peers", self.timers.count()),
            ("directions obeyed", self.obeyed.count()),
        ]
    }

    /// Whether a Route Direction to this node as the responder is obeyed for the first time. Its keys are good for one
    /// tunnel, even if that one was never up.
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

    /// Takes one peer whose timer is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<PeerId> {
        while self.obeyed.pop_due(now).is_some() {}
        self.timers.pop_due(now)
    }

    /// Sets the peer's timer by its state. Every change of a peer has to end with it.
    pub(super) fn rearm(&mut self, id: PeerId) {
        self.timers.set(id, self.peers.get(&id).and_then(Peer::next_timer).map(|due| due.at));
    }

    pub(super) fn new_tunnel(&mut self, peer: PeerId) -> TunnelId {
        let tunnel = TunnelId(self.next_tunnel);
        self.next_tunnel += 1;
        self.by_tunnel.insert(tunnel, peer);
        tunnel
    }

    pub(super) fn forget_tunnel(&mut self, tunnel: TunnelId) {
        self.by_tunnel.remove(&tunnel);
    }

    /// Replaces the request of a peer. Returns the one before.
    pub(super) fn set_request(&mut self, id: PeerId, request: Option<PendingRequest>) -> Option<PendingRequest> {
        let peer = self.peers.get_mut(&id)?;
        if let Some(new) = &request {
            peer.yielded = None;
            self.by_transaction.insert(new.transaction, id);
        }
        let old = peer.replace_request(request);
        if let Some(old) = &old {
            self.by_transaction.remove(&old.transaction);
        }
        old
    }

    /// A new peer; `None` if there are too many.
    pub(super) fn insert(&mut self, until: Instant, reference: PeerRef) -> Option<PeerId> {
        if self.peers.len() >= MAX_PEERS && !defect!(PeersWithoutLimit) {
            return None;
        }
        let id = PeerId(self.next_id);
        self.next_id += 1;
        self.by_reference.insert(reference.clone(), id);
        self.peers.insert(id, Peer::new(reference, until));
        Some(id)
    }

    /// Forgets a peer. Its tunnels are the caller's to forget.
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

    /// Records the name and the addresses of a peer from a Route Direction, and joins what waited for it under the name
    /// with what waited under an address. `None` if there are too many peers. The number is how many held items had no
    /// room.
    pub(super) fn identify(&mut self, until: Instant, name: &Fqdn, addresses: Virtual) -> Option<(PeerId, usize)> {
        let id = match self.by_name(name) {
            Some(id) => id,
            None => self.insert(until, PeerRef::Name(name.clone()))?,
        };
        let mut lost = 0;
        for address in [IpAddr::from(addresses.v4), IpAddr::from(addresses.v6)] {
            if let Some(&unnamed) = self.by_reference.get(&PeerRef::Virtual(address)) {
                let unnamed = self.remove(unnamed).expect("indexed");
                lost += self.peers.get_mut(&id).expect("present").held.absorb(unnamed.held);
            }
            self.by_virtual.insert(address, id);
        }
        self.peers.get_mut(&id).expect("present").addresses = Some(addresses);
        Some((id, lost))
    }
}
