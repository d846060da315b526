//! Peers, the requests for routes to them, and the choice of the tunnel that packets go into.
//!
//! [`Routes`] is a [`Part`]: [`RouteInput`] says what happened, [`RouteOutput`] says what is to be done. It does not
//! see the carriage, the cloud or the survey. Each peer has a state: see [`peer`].
//!
//! Three things are done only under `policy = "optimal"`:
//!
//! * If a direct tunnel is not up `DIRECT_HEAD_START` after its Route Direction, the relay is asked for beside it. The
//!   first tunnel that is up carries packets.
//! * While a relayed tunnel carries packets, its initiator tries for a direct one from time to time. Once up, the
//!   direct one carries packets.
//! * If a direct tunnel falls silent, the relay is asked for beside it. Once up, the relayed tunnel carries packets.

mod directions;
mod held;
mod paths;
mod peer;
mod requests;
mod table;
mod tunnels;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use self::peer::{Ahead, Traffic, Up};
use self::table::Peers;
use super::config::Overlay;
use super::part::{Asked, Part, TunnelId, Turn};
use super::status::{ChoiceStatus, PeerStatus};
use crate::event::{DropReason, Event, Failure, TunnelUp};
use crate::machine::Tables;
use crate::message::{DirectionRequest, ErrorCode, PeerRef, RouteDirection, Want};
use crate::name::{Fqdn, Virtual};
use crate::rules::Permissions;
use crate::time::Instant;
use crate::timing::Due;
use crate::timing::node::{ROUTE_TIMEOUT, UNREGISTERED_GRACE};

pub(super) use self::held::HeldQuery;
pub(super) use self::held::has_room;
pub use self::held::{MAX_HELD_BYTES, MAX_HELD_PACKETS, MAX_HELD_QUERIES};
pub(super) use self::peer::is_old;
pub use self::table::MAX_PEERS;
pub(super) use self::table::PeerId;

/// What can happen to [`Routes`].
pub(super) enum RouteInput {
    /// The NMS registered the node, under these virtual addresses. What was asked in an earlier session is lost.
    Registered(Virtual),
    /// Whether the way to the services, and so to any peer, is slow.
    Slow(bool),
    /// The registration is lost: no request can be sent.
    Unregistered,
    /// The node's own addresses changed. The carriage has forgotten every tunnel but these.
    Moved(Vec<TunnelId>),
    /// The survey of the node's network is complete: a direct way that failed before may work now.
    Surveyed,
    /// The node stops. The carriage closes the tunnels.
    Stop,
    /// Another machine with the node's name and key is registered in its place.
    Displaced,
    /// The access of a peer has ended, because of this.
    Revoked(Fqdn, ErrorCode),
    /// What this node and a peer may open to each other from now on.
    Permitted(Fqdn, Permissions),
    /// A peer has started anew, and has none of its tunnels any more.
    PeerRestarted(Fqdn),
    /// An application sends a packet to a virtual address of the overlay, and [`Routes::carry`] did not take it.
    Packet { to: IpAddr, packet: Bytes },
    /// An application asks for the addresses of a peer.
    Query { name: Fqdn, query: HeldQuery },
    /// A Route Direction came; `count` is the number of its earlier transmissions.
    Direction { count: u8, asked: Asked, direction: Box<RouteDirection> },
    /// The NMS answered a request by an error, or withdraws what it said in answer to one.
    Refused { transaction: u32, code: ErrorCode },
    /// Packets may go into a tunnel that is being built, ahead of the peer's answer.
    TunnelReady(TunnelId),
    /// A tunnel is ready.
    TunnelUp(TunnelId, TunnelUp),
    /// A tunnel is gone, or could not be built.
    TunnelDown(TunnelId, Failure),
    /// A tunnel that was to be built became one more path of the one that carries packets.
    Merged(TunnelId),
    /// The tunnel goes by another path now; whether that leads through a TRS.
    PathSwitched { tunnel: TunnelId, relayed: bool },
    /// No path of the tunnel works: it needs a Route Direction of this kind.
    PathWanted(TunnelId, Want),
    /// A path of the tunnel works again: no relay is needed.
    PathWorks(TunnelId),
    /// A packet is about to go into a tunnel for which [`RouteOutput::Send`] asked this.
    Sending {
        tunnel: TunnelId,
        /// When the peer was heard last on it.
        heard_at: Option<Instant>,
        /// Whether the peer has something to answer. A peer that was asked nothing is not silent.
        answer_due: bool,
    },
    /// Time has passed.
    Timeout,
}

/// What [`Routes`] wants to be done.
pub(super) enum RouteOutput {
    /// Send the NMS a Direction Request; `count` is the number of its earlier transmissions.
    Request { transaction: u32, count: u8, request: DirectionRequest },
    /// Send the NMS a Route Confirmation again.
    Confirm { transaction: u32, count: u8 },
    /// The NMS does not answer requests: find out whether it still knows this node.
    DoubtNms,
    /// Build a tunnel as the NMS directed.
    Build { tunnel: TunnelId, asked: Asked, direction: Box<RouteDirection> },
    /// Forget a tunnel, if it is there.
    Forget(TunnelId),
    /// Send a packet into a tunnel.
    Send(Carried, Bytes),
    /// Let what was sent leave before anything more is sent. Packets that waited for a tunnel do not wait for one
    /// another.
    Flush,
    /// Tell the application that the access rules do not permit its packet.
    Prohibited(Bytes),
    /// Answer a DNS query.
    Answer(HeldQuery, Answer),
    /// Tell the world.
    Event(Event),
}

impl RouteOutput {
    fn dropped(reason: DropReason) -> Self {
        Self::Event(Event::Dropped(reason))
    }
}

/// The tunnel that carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// The tunnel.
    pub(super) tunnel: TunnelId,
    /// Whether to tell first by [`RouteInput::Sending`] when the tunnel was heard.
    pub(super) watched: bool,
}

impl From<&Up> for Carried {
    fn from(up: &Up) -> Self {
        Self { tunnel: up.tunnel, watched: up.is_watched() }
    }
}

/// The answer to a DNS query for a peer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The peer has these addresses.
    Addresses(Virtual),
    /// There is no peer of that name.
    NoSuchName,
    /// It cannot be told now.
    Failed,
}

/// See the [module](self).
pub(super) struct Routes {
    name: Fqdn,
    overlay: Overlay,
    /// Whether messages to the NMS arrive without being sent again.
    reliable: bool,
    registered: bool,
    /// Whether the way to the services is slow.
    slow: bool,
    /// Since when not, if it ever was.
    unregistered: Option<Instant>,
    own: Option<Virtual>,
    /// How long a tunnel carries packets before another one replaces it; `None`: for as long as it is up.
    lifetime: Option<Duration>,
    peers: Peers,
}

impl Part for Routes {
    type Input = RouteInput;
    type Output = RouteOutput;

    fn handle(&mut self, turn: &mut Turn<'_, RouteOutput>, input: RouteInput) {
        match input {
            RouteInput::Registered(own) => {
                (self.own, self.registered, self.unregistered) = (Some(own), true, None);
                self.peers.follow_rules_anew();
                self.request_waiting(turn);
            }
            RouteInput::Slow(slow) => self.slow = slow,
            RouteInput::Unregistered => {
                self.registered = false;
                self.unregistered.get_or_insert(turn.now);
            }
            RouteInput::Moved(kept) => self.rebuild(turn, &kept),
            RouteInput::Merged(tunnel) => self.on_merged(turn, tunnel),
            RouteInput::PathSwitched { tunnel, relayed } => self.on_path_switched(turn, tunnel, relayed),
            RouteInput::PathWanted(tunnel, want) => self.on_path_wanted(turn, tunnel, want),
            RouteInput::PathWorks(tunnel) => self.on_path_works(tunnel),
            RouteInput::Surveyed => {
                self.improve_all(turn.now);
                self.try_directly(turn);
            }
            RouteInput::Stop => self.peers.clear(),
            RouteInput::Displaced => {
                for id in self.peers.ids() {
                    self.give_up(turn, id, Failure::Displaced);
                }
            }
            RouteInput::Revoked(name, why) => {
                if let Some(id) = self.peers.by_name(&name) {
                    self.give_up(turn, id, Failure::Refused(why));
                }
            }
            RouteInput::Permitted(name, permissions) => {
                if let Some(peer) = self.peers.by_name(&name).and_then(|id| self.peers.find_mut(id)) {
                    peer.permit(Some(permissions));
                }
            }
            RouteInput::PeerRestarted(name) => self.on_peer_restarted(turn, &name),
            RouteInput::Packet { to, packet } => {
                if let Some(id) = self.peer_for(turn, PeerRef::Virtual(to)) {
                    self.send(turn, id, packet);
                }
            }
            RouteInput::Query { name, query } => self.on_query(turn, name, query),
            RouteInput::Direction { count, asked, direction } => self.on_direction(turn, count, asked, direction),
            RouteInput::Refused { transaction, code } => self.on_refused(turn, transaction, code),
            RouteInput::TunnelReady(tunnel) => self.on_tunnel_ready(turn, tunnel),
            RouteInput::TunnelUp(tunnel, up) => self.on_tunnel_up(turn, tunnel, up),
            RouteInput::TunnelDown(tunnel, reason) => self.on_tunnel_down(turn, tunnel, reason),
            RouteInput::Sending { tunnel, heard_at, answer_due } => {
                self.watch_silence(turn, tunnel, heard_at, answer_due);
            }
            RouteInput::Timeout => {
                while let Some(id) = self.peers.pop_due(turn.now) {
                    self.peer_timeout(turn, id);
                    self.peers.rearm(id);
                }
            }
        }
    }

    fn next_timer(&self) -> Option<Due> {
        self.peers.next_timer()
    }
}

impl Routes {
    /// Without peers. `reliable`: messages to the NMS arrive without being sent again. `lifetime`: how long a tunnel
    /// carries packets before another one replaces it.
    pub(super) fn new(name: Fqdn, overlay: Overlay, reliable: bool, lifetime: Option<Duration>) -> Self {
        Self {
            name,
            overlay,
            reliable,
            registered: false,
            slow: false,
            unregistered: None,
            own: None,
            lifetime,
            peers: Peers::default(),
        }
    }

    /// The name of the peer with this virtual address, once both are known.
    pub(super) fn name_at(&self, address: IpAddr) -> Option<&Fqdn> {
        match &self.peers.get(self.peers.owner_of(address)?).reference {
            PeerRef::Name(name) => Some(name),
            PeerRef::Virtual(_) => None,
        }
    }

    /// The names of the peers to which there is a tunnel, or one is being built.
    pub(super) fn tunnelled(&self) -> Vec<Fqdn> {
        let tunnelled = self.peers.iter().filter(|peer| peer.tunnels().next().is_some());
        let names = tunnelled.filter_map(|peer| match &peer.reference {
            PeerRef::Name(name) => Some(name.clone()),
            PeerRef::Virtual(_) => None,
        });
        names.collect()
    }

    /// Every peer, in the order in which they were first asked for, with the tunnel that carries its packets. What that
    /// tunnel is, the carriage knows.
    pub(super) fn status(&self) -> impl Iterator<Item = (PeerStatus, Option<TunnelId>)> {
        self.peers.iter().map(|peer| {
            let up = peer.up();
            let choice = up.map(|up| ChoiceStatus {
                want: up.origin.want,
                asked: up.origin.initiator,
                next_try: up.improve.map(|improve| improve.at),
                trying: up.origin.relayed && peer.tries_directly(),
            });
            let Traffic { sent, received } = peer.traffic;
            let (label, addresses) = (peer.label(), peer.addresses);
            let permissions = peer.flows.as_ref().map(|flows| flows.permissions().clone());
            let permissions = permissions.filter(Permissions::are_limits);
            let status = PeerStatus { peer: label, addresses, permissions, tunnel: None, choice, sent, received };
            (status, up.map(|up| up.tunnel))
        })
    }

    /// See [`Machine::tables`](crate::machine::Machine::tables).
    pub(super) fn tables(&self) -> Tables {
        self.peers.tables()
    }

    /// The peer's entry. A new one begins with a request. `None` if there are too many peers.
    fn peer_for(&mut self, turn: &mut Turn<'_, RouteOutput>, reference: PeerRef) -> Option<PeerId> {
        let known = self.peers.by_reference(&reference);
        if known.is_some() {
            return known;
        }
        let Some(id) = self.peers.insert(turn.now + route_timeout(self.slow), reference) else {
            turn.push(RouteOutput::dropped(DropReason::Limit));
            return None;
        };
        turn.push(RouteOutput::Event(Event::RouteRequested { peer: self.peers.get(id).label() }));
        self.want_route(turn, id);
        Some(id)
    }

    /// The tunnel that carries a packet of an application to this virtual address now. `None`: no tunnel is up, or the
    /// access rules do not let the packet pass; then it has to become a [`RouteInput::Packet`].
    pub(super) fn carry(&mut self, now: Instant, to: IpAddr, packet: &[u8]) -> Option<Carried> {
        let peer = self.peers.find_mut(self.peers.owner_of(to)?)?;
        let carried = Carried::from(peer.up()?);
        peer.admits(now, true, packet).then(|| {
            peer.traffic.sent += packet.len() as u64;
            carried
        })
    }

    /// Sends a packet to a peer, or holds it until there is a tunnel.
    fn send(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, packet: Bytes) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        let ahead = peer.goes_ahead(packet.len());
        if (ahead.is_some() || peer.up().is_some()) && !peer.admits(turn.now, true, &packet) {
            turn.push(RouteOutput::Prohibited(packet));
            return turn.push(RouteOutput::dropped(DropReason::NotPermitted));
        }
        if let Some(tunnel) = ahead {
            peer.sent_ahead(packet.len());
            return turn.push(RouteOutput::Send(Carried { tunnel, watched: false }, packet));
        }
        if let Some(carried) = peer.up().map(Carried::from) {
            peer.traffic.sent += packet.len() as u64;
            turn.push(RouteOutput::Send(carried, packet));
        } else if let Err(reason) = peer.held.push(packet) {
            turn.push(RouteOutput::dropped(reason));
        }
    }

    /// Answers a query, or holds it until there is a tunnel: an application then does not have to send its first packet
    /// twice. Where a tunnel is known to take long, the answer does not wait for it. See
    /// [`Peer::query_patience`](peer::Peer::query_patience) for the longest wait.
    fn on_query(&mut self, turn: &mut Turn<'_, RouteOutput>, name: Fqdn, query: HeldQuery) {
        let hopeless = self.unregistered.is_some_and(|since| turn.now >= since + UNREGISTERED_GRACE);
        let is_up = |peers: &Peers| peers.by_name(&name).is_some_and(|id| peers.get(id).up().is_some());
        if hopeless && !is_up(&self.peers) {
            return turn.push(RouteOutput::Answer(query, Answer::Failed));
        }
        let Some(id) = self.peer_for(turn, PeerRef::Name(name)) else {
            return turn.push(RouteOutput::Answer(query, Answer::Failed));
        };
        let Some(peer) = self.peers.find_mut(id) else { return };
        let is_up = peer.up().is_some() || peer.ahead.is_some() || peer.slow || self.slow;
        if let (true, Some(addresses)) = (is_up, peer.addresses) {
            turn.push(RouteOutput::Answer(query, Answer::Addresses(addresses)));
        } else if let Err(reason) = peer.held.push_query(turn.now, query) {
            turn.push(RouteOutput::dropped(reason));
        } else {
            self.peers.rearm(id);
        }
    }

    /// Gives a peer up: its tunnels, and what waits for them.
    fn give_up(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.remove(id) else { return };
        for (tunnel, _) in peer.tunnels() {
            self.peers.forget_tunnel(tunnel);
            turn.push(RouteOutput::Forget(tunnel));
        }
        let is_stranded = peer.search.is_stranded && reason == Failure::Timeout;
        let reason = if is_stranded { Failure::Stranded } else { reason };
        let unknown = reason == Failure::Refused(ErrorCode::UnknownPeer);
        let label = peer.label();
        lose(turn, peer.ahead);
        let (packets, queries) = peer.held.into_parts();
        for query in queries {
            turn.push(RouteOutput::Answer(query, if unknown { Answer::NoSuchName } else { Answer::Failed }));
        }
        for packet in packets {
            if reason == Failure::Refused(ErrorCode::NotPermitted) {
                turn.push(RouteOutput::Prohibited(packet));
            }
            turn.push(RouteOutput::dropped(DropReason::NoTunnel));
        }
        turn.push(RouteOutput::Event(Event::TunnelDown { peer: label, reason }));
    }

    fn forget_tunnel(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, tunnel: TunnelId) {
        if let Some(peer) = self.peers.find_mut(id) {
            peer.end_attempt(tunnel);
            lose(turn, peer.ahead_lost(tunnel));
        }
        self.peers.forget_tunnel(tunnel);
        turn.push(RouteOutput::Forget(tunnel));
    }
}

/// How long a peer without a tunnel is searched for; `slow`: this node or the peer is.
fn route_timeout(slow: bool) -> Duration {
    if slow { 3 * ROUTE_TIMEOUT } else { ROUTE_TIMEOUT }
}

/// Counts the packets that went ahead into a tunnel that did not come up.
fn lose(turn: &mut Turn<'_, RouteOutput>, ahead: Option<Ahead>) {
    for _ in 0..ahead.map_or(0, |ahead| ahead.packets) {
        turn.push(RouteOutput::dropped(DropReason::NoTunnel));
    }
}

/// Whether a deadline has come; then it is gone.
fn take_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}
