//! Attacks on the network that a run leaves. No fault of a network tests the defences against an attacker.
//!
//! * **Damage.** An attacker changes a bit of a datagram that has not arrived yet. No application may receive a packet
//!   (I1).
//! * **Blame.** A peer reports ICMP errors about packets that went to others. No application may receive them (I1).
//! * **Repetition.** An attacker replays datagrams that were on a wire. No packet may be delivered, and nothing else
//!   may happen (I6).
//! * **A stranger.** From another address, an attacker sends to the TRS what a node sent there. The TRS must not
//!   forward it (I3).
//! * **A spoofed handshake.** An attacker sends a first packet in a victim's name. The victim may receive at most three
//!   times its bytes (I4).
//! * **A flood.** An application asks for thousands of peers, or sends thousands of packets to one. No table and no
//!   queue may exceed its limit (I5).
//! * **Amnesia.** An attacker replays old registrations to an NMS that has lost its memory. The NMS must register
//!   nobody (I6).
//! * **A rebirth.** A node crashes, restarts, and sends before it knows its peers. No packet that waits for its tunnel
//!   may be lost (I7).
//! * **The end of time.** An attacker with a node's certificate or common key registers it with the greatest epoch. The
//!   node must be able to register again (I7).
//! * **A false address.** An attacker with a node's certificate or common key names a victim's addresses as its own,
//!   and
//!   forges datagrams from them. No node may send there, and the NMS only within its budget (I13).
//! * **Forged registrations.** An attacker sends thousands of them in the names of all nodes to an NMS that was
//!   restarted, from spoofed addresses, the nodes' own among them. All nodes must register again (I7), and the NMS may
//!   not look at all of them (I5). Conventional method.
//! * **An outlived grant.** The NMS is out of reach for longer than a grant lasts. The TRS may forward nothing after
//!   that (I3).
//! * **An expulsion.** A node's certificate is revoked. Within five seconds its peers must have ended their tunnels to
//!   it (I12).
//! * **A dead end.** An application asks for a peer that does not exist, while the NMS is out of reach. The node must
//!   give the peer up (I5).
//! * **An impostor.** A node was told another node's address. No application may receive a packet from that address
//!   (I1).
//!
//! No attack may cause a panic (I8).
//!
//! An attack is one input, and its effects are examined at the same instant, so no other event of the network counts as
//! its effect. The world is the one that the run left. Its bytes were compared before.

mod impostor;
mod insider;
mod outsider;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::Input;
use cyphonic_core::name::Party;
use cyphonic_core::node::{MAX_HELD_PACKETS, MAX_PEERS, Node, NodeCommand};
use cyphonic_core::time::Instant;
use cyphonic_core::timing::node::ROUTE_TIMEOUT;
use cyphonic_scenarios::{Family as FamilyWord, LinkAt, Pair, Scenario, ServiceName, VIRTUAL_V4};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::depth::Depth;
use super::model::{EXPULSION, hears_at_last, permits_at_last};
use super::violation::{Invariant, Violation, violation};
use super::wires::Kept;
use crate::host::apps::{App, Echo, EchoSize, Family, Target};
use crate::host::{Host, headers};
use crate::net::packet::{self, IpOptions, Transport};
use crate::net::{BoxInput, Direction, Tapped, WireConfig};
use crate::world::{Actor, Watch, World};

/// How many pairs of nodes have datagrams damaged.
const PAIRS: usize = 6;
/// How many datagrams of each pair are damaged.
const STOLEN: usize = 6;
/// How many bits of each datagram are changed, one at a time.
const PLACES: u32 = 16;
/// How many of the last datagrams at each host are replayed.
const REPEATED: usize = 120;
/// How many of the last datagrams at the TRS a stranger sends again.
const STRANGERS: usize = 60;
/// How many first packets are sent in a victim's name.
const SPOOFED: usize = 3;
/// For how long the packets to a victim are counted: longer than a service retransmits its part of a handshake.
const SPOOF_LASTS: Duration = Duration::from_secs(12);
/// The time in which a node must register again and get its tunnel.
const REBIRTH: Duration = Duration::from_secs(9);
/// How many packets wait for that tunnel.
const REBORN: u16 = 5;
/// How many peers that do not exist are asked for.
const ABANDONED: u32 = 16;
/// How many packets are sent to one peer that does not exist: more than may be held.
const HELD: usize = 4 * MAX_HELD_PACKETS;

/// A UDP datagram that arrived at a host, or was taken off the wire before it.
#[derive(Clone)]
struct Datagram {
    to: Actor,
    iface: usize,
    from: SocketAddr,
    local: SocketAddr,
    payload: Vec<u8>,
}

impl Datagram {
    /// The datagram of a packet. `None` if a host drops the packet because a checksum is wrong: the role never saw that
    /// datagram, so it may take an undamaged copy.
    fn parse(to: Actor, iface: usize, packet: &[u8]) -> Option<Self> {
        let ip = headers::ip(packet).ok()?;
        let Some(Transport::Udp { .. }) = ip.transport() else { return None };
        let udp = headers::udp(&ip).ok()?;
        Some(Self { to, iface, from: udp.source, local: udp.destination, payload: udp.payload.to_vec() })
    }

    /// A long header of type 0 (RFC 9000 §17.2.2).
    fn is_initial(&self) -> bool {
        self.payload.len() >= 1_000 && self.payload[0] & 0xf0 == 0xc0
    }
}

/// The violations that the attacks cause in the world that a run left. `kept` was on its wires; `watch` made the world.
pub(super) fn violations(
    scenario: &Scenario,
    depth: Depth,
    world: World,
    kept: &Kept,
    watch: &Watch,
) -> Vec<Violation> {
    let seed = *scenario.seeds.start();
    let mut assault =
        Assault { scenario, world, rng: ChaCha8Rng::seed_from_u64(seed), hosts: BTreeMap::new(), found: Vec::new() };
    for actor in assault.world.actors() {
        assault.hosts.insert(assault.world.station(actor).id, actor);
    }
    let arrived = assault.arrived(kept);
    assault.damage();
    assault.repeat(&arrived);
    assault.intrude(&arrived);
    assault.spoof(&arrived);
    assault.rebirth(seed, watch);
    // A node that cannot register would fail the following attacks as well.
    if assault.found.is_empty() {
        assault.blame();
        assault.expel(seed);
        assault.forget(seed, watch, &arrived);
        if depth.flood {
            assault.forge(seed, watch, &arrived);
        }
        assault.outlive();
        assault.abandon();
        if depth.flood {
            assault.flood();
        }
    }
    let mut found = assault.found;
    found.extend(impostor::violation(scenario, seed));
    found
}

struct Assault<'a> {
    scenario: &'a Scenario,
    world: World,
    rng: ChaCha8Rng,
    hosts: BTreeMap<crate::net::BoxId, Actor>,
    found: Vec<Violation>,
}

impl Assault<'_> {
    fn name(&self, actor: Actor) -> String {
        self.world.station(actor).name.clone()
    }

    fn wait(&mut self, time: Duration) {
        let until = self.world.now() + time;
        self.world.run_until(Instant::from_millis(until.as_nanos().div_ceil(1_000_000)));
    }

    fn break_of(&mut self, invariant: Invariant, sentence: String) {
        self.found.push(violation(invariant, sentence));
    }

    /// Every undamaged datagram that has arrived at a host so far, in order of arrival.
    fn arrived(&self, kept: &Kept) -> Vec<Datagram> {
        let network = self.world.network();
        let mut all = Vec::new();
        for (&direction, tapped) in kept {
            let (id, iface) = network.ends(direction)[1];
            let Some(&to) = self.hosts.get(&id) else { continue };
            let came = tapped.iter().filter_map(Tapped::arrival);
            let came = came.filter(|(at, _)| *at < self.world.now());
            all.extend(came.filter_map(|(at, packet)| Some((at, Datagram::parse(to, iface, packet)?))));
        }
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, datagram)| datagram).collect()
    }

    fn delivered(&self, actor: Actor) -> u64 {
        let Actor::Node(node) = actor else { return 0 };
        self.world.look(node, Host::delivered)
    }

    /// Injects a datagram into a host. Returns the number of packets that its applications got, and the events of its
    /// role.
    fn inject(&mut self, datagram: &Datagram, from: SocketAddr, payload: &[u8]) -> (u64, Vec<Event>) {
        let Some(packet) = packet::udp(from, datagram.local, IpOptions::default(), payload) else {
            return (0, Vec::new());
        };
        let (id, iface) = (self.world.station(datagram.to).id, datagram.iface);
        // What is due at this instant anyway comes first: a turn ends with the timer, and the datagram has no part in
        // that.
        self.world.engine().with_box(id, &mut |now, host| host.handle_input(now, BoxInput::Timeout));
        self.world.drain_events_of(datagram.to);
        let before = self.delivered(datagram.to);
        let mut packet = Some(packet);
        self.world.engine().with_box(id, &mut |now, host| {
            if let Some(packet) = packet.take() {
                host.handle_input(now, BoxInput::Packet { iface, packet });
            }
        });
        let events = self.world.drain_events_of(datagram.to).into_iter().map(|(_, event)| event).collect();
        (self.delivered(datagram.to) - before, events)
    }

    /// Pairs of nodes with a tunnel between them.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = &self.scenario.nodes;
        let all = (0..nodes.len()).flat_map(|a| (0..nodes.len()).map(move |b| (a, b))).filter(|(a, b)| a != b);
        let is_up = |&(a, b): &(usize, usize)| {
            let peers = self.world.look(a, |host: &Host<Node>| host.machine().peers());
            peers.iter().any(|peer| peer.peer == nodes[b].name.as_str() && peer.tunnel.is_some())
        };
        all.filter(is_up).take(PAIRS).collect()
    }

    /// Datagrams that carry tunnelled packets, taken off the last wire before they arrive.
    fn steal(&mut self, from: usize, to: usize) -> Vec<Datagram> {
        let network = self.world.network();
        let id = self.world.nodes[to].id;
        let wires: Vec<Direction> = network.directions().filter(|&wire| network.ends(wire)[1].0 == id).collect();
        let good: Vec<_> = wires.iter().map(|&wire| self.world.network().wire_config(wire)).collect();
        for (&wire, &config) in wires.iter().zip(&good) {
            self.world.network().take_tapped(wire);
            let _ = self.world.engine().set_wire(wire, WireConfig { loss: 1.0, ..config });
        }
        let echo = Echo {
            count: STOLEN as u32,
            interval: Duration::from_millis(10),
            size: EchoSize::Payload(56),
            timeout: Duration::from_secs(1),
        };
        let name = self.scenario.nodes[to].name.clone();
        self.world.node(from, |now, host| host.start(now, App::Echo(Target::Name(name, Family::V6), echo)));
        self.wait(Duration::from_millis(600));
        let mut stolen = Vec::new();
        for (&wire, &config) in wires.iter().zip(&good) {
            let _ = self.world.engine().set_wire(wire, config);
            let iface = self.world.network().ends(wire)[1].1;
            let lost = self.world.network().take_tapped(wire).into_iter().filter(|tapped| tapped.arrives.is_none());
            stolen.extend(lost.filter_map(|tapped| Datagram::parse(Actor::Node(to), iface, &tapped.packet)));
        }
        // A handshake's datagram holds several QUIC packets, of which one may be undamaged.
        stolen.retain(|datagram| datagram.payload.first().is_some_and(|first| first & 0x80 == 0) || self.is_sealed());
        stolen.truncate(STOLEN);
        stolen
    }

    fn is_sealed(&self) -> bool {
        self.scenario.method == cyphonic_scenarios::Method::Conventional
    }

    fn damage(&mut self) {
        for (from, to) in self.pairs() {
            let stolen = self.steal(from, to);
            let me = self.name(Actor::Node(to));
            for datagram in &stolen {
                for _ in 0..PLACES {
                    let mut payload = datagram.payload.clone();
                    let bit = self.rng.next_u32() as usize % (8 * payload.len());
                    payload[bit / 8] ^= 1 << (bit % 8);
                    let (delivered, events) = self.inject(datagram, datagram.from, &payload);
                    if delivered > 0 || !events.is_empty() {
                        let text =
                            format!("{me} took a datagram for its peer's of which bit {bit} was not: {events:?}");
                        return self.break_of(Invariant::I1, text);
                    }
                }
            }
            let mut delivered = 0;
            for datagram in &stolen {
                delivered += self.inject(datagram, datagram.from, &datagram.payload).0;
            }
            for datagram in stolen.iter().rev() {
                if self.inject(datagram, datagram.from, &datagram.payload).0 > 0 {
                    let text = format!("{me} delivered a packet again, of {delivered}, whose datagram came again");
                    return self.break_of(Invariant::I6, text);
                }
            }
        }
    }

    fn repeat(&mut self, arrived: &[Datagram]) {
        for actor in self.world.actors() {
            let mine: Vec<&Datagram> = arrived.iter().filter(|datagram| datagram.to == actor).collect();
            for datagram in &mine[mine.len().saturating_sub(REPEATED)..] {
                let (mut delivered, mut events) = self.repeat_one(actor, datagram);
                // A datagram may have been dropped when it came first: while its machine slept, before the keys of a
                // QUIC handshake (RFC 9000 §5.7), or before the node knew the leg that it came by. It is not old then,
                // only late, and may count now, but once only.
                if delivered > 0 || !events.is_empty() {
                    (delivered, events) = self.repeat_one(actor, datagram);
                }
                if delivered > 0 || !events.is_empty() {
                    let me = self.name(actor);
                    let text = format!("{me} got an old datagram again, and delivered {delivered}, said {events:?}");
                    return self.break_of(Invariant::I6, text);
                }
            }
        }
    }

    /// Injects a datagram again. Returns the number of packets that applications got, and the events that count.
    fn repeat_one(&mut self, actor: Actor, datagram: &Datagram) -> (u64, Vec<Event>) {
        let (delivered, mut events) = self.inject(datagram, datagram.from, &datagram.payload);
        // A message that came too early the first time may be accepted now. Its answer then counts as repeated.
        events.retain(|event| !matches!(event, Event::Signal(signal) if signal.repeated));
        events.retain(|event| !self.is_refusal(actor, event));
        // A node asks for a peer only because of its own packet: an application sent one at this instant.
        if events.iter().any(|event| matches!(event, Event::RouteRequested { .. })) {
            events.retain(|event| !is_request(event));
        }
        (delivered, events)
    }

    /// Whether an event is only a refusal: the NMS's to a node that is not registered, or the TRS's of an old epoch. A
    /// refusal may be repeated.
    fn is_refusal(&self, actor: Actor, event: &Event) -> bool {
        let Event::Signal(signal) = event else { return false };
        match (signal.what, &signal.to) {
            ("Error", Party::Node(name)) => actor == Actor::Nms && !self.world.is_registered(name),
            ("Relay Epoch", _) => actor == Actor::Trs,
            _ => false,
        }
    }

    /// An address that no host has and that never sent anything, in the family of `of`.
    fn stranger(of: SocketAddr, host: u8) -> SocketAddr {
        let v6 = [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, u16::from(host)];
        SocketAddr::new(if of.is_ipv4() { [198, 51, 100, host].into() } else { v6.into() }, 443)
    }

    fn intrude(&mut self, arrived: &[Datagram]) {
        let mine: Vec<&Datagram> = arrived.iter().filter(|datagram| datagram.to == Actor::Trs).collect();
        let mine = &mine[mine.len().saturating_sub(STRANGERS)..];
        self.sent(Actor::Trs);
        for datagram in mine {
            let stranger = Self::stranger(datagram.from, 201);
            self.inject(datagram, stranger, &datagram.payload);
            self.wait(Duration::from_millis(1));
            let forwarded = self.sent(Actor::Trs).into_iter().find(|(_, payload)| *payload == datagram.payload);
            if let Some((to, _)) = forwarded {
                let text = format!("the TRS forwarded to {to} what came from {stranger}, who is no leg of anybody's");
                return self.break_of(Invariant::I3, text);
            }
        }
    }

    /// The datagrams that a host sent since the last call, with their destinations. A link may double a packet: that is
    /// not the host's doing.
    fn sent(&self, actor: Actor) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut tapped = self.world.sent(self.world.station(actor));
        tapped.dedup_by(|next, before| next.departs == before.departs && next.packet == before.packet);
        let udp = tapped.iter().filter_map(|tapped| Datagram::parse(actor, 0, &tapped.packet));
        udp.map(|datagram| (datagram.local, datagram.payload)).collect()
    }

    fn spoof(&mut self, arrived: &[Datagram]) {
        for actor in self.world.actors() {
            let firsts = arrived.iter().filter(|datagram| datagram.to == actor && datagram.is_initial()).take(SPOOFED);
            let victims: Vec<_> =
                (222..).zip(firsts).map(|(host, first)| (Self::stranger(first.from, host), first)).collect();
            self.sent(actor);
            for (victim, first) in &victims {
                self.inject(first, *victim, &first.payload);
            }
            self.wait(SPOOF_LASTS);
            let sent = self.sent(actor);
            for (victim, first) in victims {
                let spent = first.payload.len();
                let got: usize = sent.iter().filter(|(to, _)| *to == victim).map(|(_, sent)| sent.len()).sum();
                if got > 3 * spent {
                    let text = format!("{} sent {got} bytes to {victim}, in whose name {spent} came", self.name(actor));
                    return self.break_of(Invariant::I4, text);
                }
            }
        }
    }

    fn rebirth(&mut self, seed: u64, watch: &Watch) {
        let permitted =
            |&(from, to): &(usize, usize)| permits_at_last(self.scenario, Pair { from, to, family: FamilyWord::Ipv6 });
        let Some((from, to)) = self.pairs().into_iter().find(permitted) else { return };
        let addresses = [from, to].map(|node| self.world.look(node, Host::virtual_addresses));
        let [Some(own), Some(peer)] = addresses else { return };
        self.end_of_time(seed, from);
        self.false_address(seed, watch, from, to);
        self.world.restart(self.scenario, seed, watch, Actor::Node(from));
        self.world.node(from, |now, host| host.command(now, NodeCommand::Start));
        self.wait(REBIRTH);
        if !self.world.look(from, |host| host.machine().virtual_addresses().is_some()) {
            let me = self.name(Actor::Node(from));
            return self.break_of(Invariant::I7, format!("{me} was registered by another and is shut out"));
        }
        let before = self.delivered(Actor::Node(to));
        for seq in 0..REBORN {
            let packet = packet::echo(own.v6.into(), peer.v6.into(), IpOptions::default(), 7, seq, b"first");
            let Some(packet) = packet else { return };
            self.world.node(from, |now, host| host.inject(now, Input::Packet(packet.into())));
        }
        self.wait(REBIRTH);
        let delivered = self.delivered(Actor::Node(to)) - before;
        if delivered < u64::from(REBORN) {
            let [from, to] = [from, to].map(|node| self.name(Actor::Node(node)));
            let text =
                format!("of {REBORN} packets that {from} sent to {to} after a restart, {delivered} were delivered");
            self.break_of(Invariant::I7, text);
        }
    }

    fn expel(&mut self, seed: u64) {
        // The attacks that follow need the first node.
        let Some((a, b)) = self.pairs().into_iter().next() else { return };
        let (expelled, peer) = if a == 0 { (b, a) } else { (a, b) };
        let name = self.scenario.nodes[expelled].name.clone();
        self.world.revoke(seed, &name);
        self.wait(EXPULSION);
        let peers = self.world.look(peer, |host| host.machine().peers());
        let has_tunnel = peers.iter().any(|other| other.peer == name.as_str() && other.tunnel.is_some());
        if has_tunnel && hears_at_last(self.scenario, peer) {
            let me = self.name(Actor::Node(peer));
            let text = format!("{me} still has a tunnel to {} five seconds after its revocation", name.short());
            self.break_of(Invariant::I12, text);
        }
    }

    fn abandon(&mut self) {
        let Some(own) = self.world.look(0, Host::virtual_addresses) else { return };
        self.world.set_link_up(LinkAt::Service(ServiceName::Nms), false);
        for host in 0..ABANDONED {
            let to = IpAddr::from(Ipv4Addr::from(u32::from(VIRTUAL_V4.network()) + 0x7000 + host));
            let Some(packet) = packet::echo(own.v4.into(), to, IpOptions::default(), 1, 1, b"anybody?") else { return };
            self.world.node(0, |now, host| host.inject(now, Input::Packet(packet.into())));
        }
        self.wait(4 * ROUTE_TIMEOUT);
        let peers = self.world.look(0, |host| host.machine().peers());
        let waiting = peers.iter().filter(|peer| peer.tunnel.is_none()).count();
        if waiting >= self.scenario.nodes.len() {
            let text = format!(
                "{} still waits for {waiting} peers, although it has long heard nothing of them",
                self.name(Actor::Node(0))
            );
            self.break_of(Invariant::I5, text);
        }
    }

    fn flood(&mut self) {
        let Some(own) = self.world.look(0, |host: &Host<Node>| host.virtual_addresses()) else { return };
        let (me, first) = (self.name(Actor::Node(0)), u32::from(VIRTUAL_V4.network()) + 0x8000);
        let ask = |world: &mut World, hosts: &mut dyn Iterator<Item = u32>| {
            world.node(0, |now, node| {
                for host in hosts {
                    let to = IpAddr::from(Ipv4Addr::from(first + host));
                    let packet = packet::echo(own.v4.into(), to, IpOptions::default(), 1, 1, &[0; 400]);
                    let Some(packet) = packet else { return };
                    node.inject(now, Input::Packet(packet.into()));
                }
            });
        };
        let full = |world: &World| {
            let drops = world.look(0, |host: &Host<Node>| host.drops().get(&DropReason::QueueFull).copied());
            drops.unwrap_or(0) as usize
        };
        let before = full(&self.world);
        ask(&mut self.world, &mut std::iter::repeat_n(0, HELD));
        let refused = full(&self.world) - before;
        if refused < HELD - MAX_HELD_PACKETS {
            let text = format!("of {HELD} packets for a peer who is not there, {me} refused {refused}");
            self.break_of(Invariant::I5, text);
        }
        ask(&mut self.world, &mut (0..MAX_PEERS as u32 + 100));
        let peers = self.world.look(0, |host: &Host<Node>| host.machine().peers().len());
        if peers > MAX_PEERS {
            self.break_of(Invariant::I5, format!("{me} keeps {peers} peers, of at most {MAX_PEERS}"));
        }
    }

    fn forget(&mut self, seed: u64, watch: &Watch, arrived: &[Datagram]) {
        self.world.restart(self.scenario, seed, watch, Actor::Nms);
        let mut old = BTreeSet::new();
        for datagram in arrived.iter().filter(|datagram| datagram.to == Actor::Nms) {
            // QUIC datagrams cannot be replayed outside of their connection, so only sealed ones count.
            if !self.is_sealed() || !old.insert(&datagram.payload) {
                continue;
            }
            let (_, events) = self.inject(datagram, Self::stranger(datagram.from, 203), &datagram.payload);
            // An Error that says "not registered" is allowed.
            let is_error = |event: &&Event| matches!(event, Event::Signal(signal) if signal.what == "Error");
            if let Some(event) = events.iter().find(|event| !is_error(event)) {
                let text = format!("an NMS without memory took an old datagram for a new one: {event:?}");
                return self.break_of(Invariant::I6, text);
            }
        }
    }
}

/// Whether an event is part of asking for a peer.
fn is_request(event: &Event) -> bool {
    match event {
        Event::RouteRequested { .. } => true,
        Event::Signal(signal) => signal.what == "Direction Request",
        _ => false,
    }
}
