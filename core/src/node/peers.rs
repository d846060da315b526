//! Whom a node talks to, or wants to: from the first query or packet to the tunnel and back.
//!
//! ```text
//! Wanted ──registered──▶ Requested ──Route Direction──▶ Building ──tunnel up──▶ Up
//!    ▲                      │ no answer                    │ failed             │ lost: forgotten, unless
//!    └────── moved ─────────┴──── within ROUTE_TIMEOUT ────┘                    │ packets wait
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Node;
use super::held::Held;
use crate::event::{DropReason, Event, Failure, TunnelUp};
use crate::header::Header;
use crate::message::{ErrorCode, Message, PeerRef, RouteDirection};
use crate::name::{Fqdn, Virtual};
use crate::time::Instant;
use crate::timers::{Backoff, Timers};

/// How long what waits for a route may wait, from the first query or packet.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(12);
/// Most peers a node keeps state for.
pub const MAX_PEERS: usize = 4096;
/// The first retransmission of a Direction Request; each later one waits twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// After so many transmissions of a Direction Request without an answer, the NMS may have forgotten us.
const DOUBTFUL: u8 = 2;
/// After a Route Direction whose tunnel did not come up, wait this long before asking again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Names a peer within one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerId(u32);

pub(super) struct Peer {
    /// How it was first asked for; by name as soon as the name is known.
    pub(super) reference: PeerRef,
    pub(super) addresses: Option<Virtual>,
    pub(super) state: PeerState,
    pub(super) held: Held,
    /// Bytes of packets sent into its tunnels, and that came out of them.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The transaction of the last Route Direction in which the peer was the initiator.
    directed: Option<u32>,
    /// Until when we try.
    until: Instant,
}

pub(super) enum PeerState {
    /// Waits for our registration, or for another try.
    Wanted,
    /// A Direction Request is under way.
    Requested { transaction: u32, retry: Backoff },
    /// The carriage is building the tunnel.
    Building {
        initiator: bool,
        /// Until the peer dials, what we asked is asked again: nobody else would notice that the NMS's word to the
        /// peer was lost (Fig. 4).
        again: Option<(u32, Backoff)>,
    },
    /// Packets flow.
    Up,
}

impl Peer {
    pub(super) fn label(&self) -> String {
        match &self.reference {
            PeerRef::Name(name) => name.to_string(),
            PeerRef::Virtual(address) => address.to_string(),
        }
    }
}

#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<PeerId, Peer>,
    by_reference: BTreeMap<PeerRef, PeerId>,
    by_virtual: BTreeMap<IpAddr, PeerId>,
    timers: Timers<PeerId>,
    next_id: u32,
}

impl Peers {
    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        let next_id = self.next_id;
        *self = Self { next_id, ..Self::default() };
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
        self.by_virtual.get(&address).or_else(|| self.by_reference.get(&PeerRef::Virtual(address))).copied()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn insert(&mut self, now: Instant, reference: PeerRef) -> Option<PeerId> {
        if self.peers.len() >= MAX_PEERS {
            return None;
        }
        let id = PeerId(self.next_id);
        self.next_id += 1;
        self.by_reference.insert(reference.clone(), id);
        let until = now + ROUTE_TIMEOUT;
        self.peers.insert(
            id,
            Peer {
                reference,
                addresses: None,
                state: PeerState::Wanted,
                held: Held::default(),
                sent: 0,
                received: 0,
                directed: None,
                until,
            },
        );
        Some(id)
    }

    fn remove(&mut self, id: PeerId) -> Option<Peer> {
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
    fn identify(&mut self, now: Instant, name: &Fqdn, addresses: Virtual) -> Option<(PeerId, usize)> {
        let id = match self.by_name(name) {
            Some(id) => id,
            None => self.insert(now, PeerRef::Name(name.clone()))?,
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
        let Some(id) = self.peers.insert(now, reference) else {
            self.dropped(DropReason::Limit);
            return None;
        };
        self.event(Event::RouteRequested { peer: self.peers.get(id).label() });
        self.want_route(now, id);
        Some(id)
    }

    /// (Re)starts route construction with a fresh time limit.
    pub(super) fn want_route(&mut self, now: Instant, id: PeerId) {
        let registered = self.cloud.is_registered();
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.until = now + ROUTE_TIMEOUT;
        peer.state = PeerState::Wanted;
        let until = peer.until;
        self.peers.timers.set(id, Some(until));
        if registered {
            self.request_route(now, id);
        }
    }

    /// Sends a Direction Request.
    fn request_route(&mut self, now: Instant, id: PeerId) {
        let transaction = self.random_u32();
        let Some(peer) = self.peers.find_mut(id) else { return };
        let retry = Backoff::start(now, FIRST_RETRY);
        peer.state = PeerState::Requested { transaction, retry };
        let (reference, next) = (peer.reference.clone(), retry.next.min(peer.until));
        self.peers.timers.set(id, Some(next));
        self.carriage.send_nms(now, transaction, 0, Message::DirectionRequest(reference));
    }

    /// After a registration: everything that was waiting for it, or whose request went to a lost session.
    pub(super) fn request_waiting_routes(&mut self, now: Instant) {
        for id in self.peers.ids() {
            let peer = self.peers.find_mut(id).expect("listed");
            if matches!(peer.state, PeerState::Wanted | PeerState::Requested { .. }) {
                // The wait for the registration is not counted against it.
                peer.until = peer.until.max(now + ROUTE_TIMEOUT / 2);
                self.request_route(now, id);
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
        if !initiator && self.was_directed(&direction.peer, header.transaction) {
            return self.confirm_again(now, header, direction.dial);
        }
        let Some((id, lost)) = self.peers.identify(now, &direction.peer, direction.virtual_addresses) else {
            return self.dropped(DropReason::Limit);
        };
        for _ in 0..lost {
            self.dropped(DropReason::QueueFull);
        }
        let awaits_dial = initiator && !direction.dial && !self.carriage.is_reliable();
        let peer = self.peers.find_mut(id).expect("just identified");
        let again = awaits_dial.then(|| (header.transaction, Backoff::start(now, FIRST_RETRY)));
        peer.state = PeerState::Building { initiator, again };
        peer.directed = (!initiator).then_some(header.transaction);
        peer.until = peer.until.max(now + ROUTE_TIMEOUT / 2);
        self.peers.timers.set(id, again.map(|(_, retry)| retry.next));
        self.carriage.build(now, id, direction, initiator, header.transaction);
    }

    /// Whether this Route Direction to us as the responder was obeyed before. To obey it again would take a tunnel that
    /// is up, or half built, away.
    fn was_directed(&self, peer: &Fqdn, transaction: u32) -> bool {
        let Some(id) = self.peers.by_name(peer) else { return false };
        let peer = self.peers.get(id);
        peer.directed == Some(transaction) && matches!(peer.state, PeerState::Building { .. } | PeerState::Up)
    }

    /// The NMS repeats a Route Direction, so our Confirmation was lost or is late.
    fn confirm_again(&mut self, now: Instant, header: &Header, dial: bool) {
        // Who dials answers by dialing, and goes on with that by itself.
        if !dial && !self.carriage.is_reliable() {
            let count = header.count.max(1);
            self.carriage.send_nms(now, header.transaction, count, Message::RouteConfirmation(None));
        }
    }

    /// Whether a Route Direction makes sense: it answers what was asked, and takes nobody's virtual address. A name keeps
    /// its addresses and an address its name, as long as we know them.
    fn check_direction(&self, transaction: u32, direction: &RouteDirection, initiator: bool) -> Result<(), DropReason> {
        if initiator {
            // None: a repetition, or an answer to a request that we gave up.
            match &self.asked(transaction).ok_or(DropReason::Unexpected)?.reference {
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
            let owner = self.peers.by_virtual.get(&address).copied();
            if ours || !self.overlay.contains(address) || owner.is_some_and(|owner| Some(owner) != known) {
                return Err(DropReason::WrongIdentity);
            }
        }
        Ok(())
    }

    /// Whom a Direction Request with this transaction asks for.
    fn asked(&self, transaction: u32) -> Option<&Peer> {
        let asked = |p: &&Peer| matches!(p.state, PeerState::Requested { transaction: t, .. } if t == transaction);
        self.peers.peers.values().find(asked)
    }

    fn on_route_refused(&mut self, now: Instant, transaction: u32, code: ErrorCode) {
        let asked = |p: &Peer| matches!(p.state, PeerState::Requested { transaction: t, .. } if t == transaction);
        let Some((&id, _)) = self.peers.peers.iter().find(|(_, p)| asked(p)) else {
            return self.dropped(DropReason::Unexpected);
        };
        // A peer that is offline now may be moving: its own registration comes any moment.
        let peer = self.peers.find_mut(id).expect("found");
        if code == ErrorCode::PeerOffline && peer.until > now + FIRST_RETRY && peer.addresses.is_some() {
            peer.state = PeerState::Wanted;
            self.peers.timers.set(id, Some(now + FIRST_RETRY));
        } else {
            self.fail_route(now, id, Failure::Refused(code));
        }
    }

    pub(super) fn on_tunnel_up(&mut self, now: Instant, id: PeerId, up: TunnelUp) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.state = PeerState::Up;
        let held = std::mem::take(&mut peer.held);
        let addresses = peer.addresses;
        self.peers.timers.set(id, None);
        self.event(Event::TunnelUp(up));
        for query in held.queries {
            if let Some(addresses) = &addresses {
                self.answer(&query, |q| q.answer(addresses, crate::dns::TTL));
            }
        }
        for packet in held.packets {
            self.send_to(now, id, packet);
        }
    }

    pub(super) fn on_tunnel_down(&mut self, now: Instant, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        match peer.state {
            PeerState::Up => {
                let label = peer.label();
                self.event(Event::TunnelDown { peer: label, reason });
                self.peers.remove(id);
            }
            PeerState::Building { initiator, .. } => {
                let waits = !peer.held.packets.is_empty() || !peer.held.queries.is_empty();
                if peer.until > now + RETRY_PAUSE && (initiator || waits) {
                    peer.state = PeerState::Wanted;
                    self.peers.timers.set(id, Some(now + RETRY_PAUSE));
                } else {
                    self.fail_route(now, id, reason);
                }
            }
            PeerState::Wanted | PeerState::Requested { .. } => {}
        }
    }

    fn fail_route(&mut self, now: Instant, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.remove(id) else { return };
        self.carriage.forget(now, id);
        let unknown = reason == Failure::Refused(ErrorCode::UnknownPeer);
        for query in &peer.held.queries {
            self.answer(query, |q| if unknown { q.name_error() } else { q.server_failure() });
        }
        for _ in &peer.held.packets {
            self.dropped(DropReason::NoTunnel);
        }
        self.event(Event::TunnelDown { peer: peer.label(), reason });
    }

    pub(super) fn peers_timeout(&mut self, now: Instant) {
        while let Some(id) = self.peers.timers.pop_due(now) {
            let registered = self.cloud.is_registered();
            let reliable = self.carriage.is_reliable();
            let Some(peer) = self.peers.find_mut(id) else { continue };
            let until = peer.until;
            let reference = peer.reference.clone();
            match &mut peer.state {
                _ if until <= now => self.fail_route(now, id, Failure::Timeout),
                PeerState::Wanted if registered => self.request_route(now, id),
                PeerState::Requested { transaction, retry }
                | PeerState::Building { again: Some((transaction, retry)), .. } => {
                    let (transaction, count) = (*transaction, retry.sent);
                    retry.again(now);
                    let next = retry.next.min(until);
                    self.peers.timers.set(id, Some(next));
                    if registered && !reliable {
                        self.carriage.send_nms(now, transaction, count, Message::DirectionRequest(reference));
                        if count >= DOUBTFUL {
                            self.doubt_nms(now);
                        }
                    }
                }
                PeerState::Wanted => self.peers.timers.set(id, Some(until)),
                PeerState::Building { again: None, .. } | PeerState::Up => {}
            }
        }
        self.drain_carriage(now);
    }
}
