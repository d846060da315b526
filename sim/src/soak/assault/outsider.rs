//! Attacks that need no identity of their own, or no more than that of a peer: forged registrations, ICMP errors about
//! packets of others, and the use of a relay for longer than its grant.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::event::DropReason;
use cyphonic_core::key::Key128;
use cyphonic_core::machine::Input;
use cyphonic_core::message::{Message, RegistrationRequest};
use cyphonic_core::name::NodeId;
use cyphonic_core::timing::nms::{UNPROVED_EVERY, UNPROVED_FROM_ONE_EVERY, UNPROVED_SAVED};
use cyphonic_scenarios::{LinkAt, Policy, ServiceName, Signaling};

use super::{Assault, Datagram};
use crate::host::Host;
use crate::host::apps::{App, Echo, EchoSize, Family, Target};
use crate::net::packet::{self, IcmpError, IpOptions};
use crate::soak::model::hears_at_last;
use crate::soak::violation::Invariant;
use crate::world::{Actor, GRANT_TIME, Watch};

/// Forged datagrams at once: more than the NMS looks at.
const FORGED_AT_ONCE: u32 = 6_000;
/// Forged datagrams in each 10 ms after that: twice as many as the NMS looks at.
const FORGED: u32 = 20;
/// At most so many addresses of nodes are spoofed.
const SPOOFED: usize = 4;
/// A node notices that the NMS was restarted within 3.5 s, and sends its request again after 0.5 s, 1.5 s and 3.5 s.
const FORGING: Duration = Duration::from_secs(9);
/// A packet takes no longer from node to node.
const PASSAGE: Duration = Duration::from_millis(600);
/// Longer than between two Keep Alives of a tunnel.
const WATCHED: Duration = Duration::from_secs(20);
/// The time of a pair's first grant begins when the TRS sees it. One that the NMS made just before it was cut off takes
/// this long at most to get there, by way of the node.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// What a peer says of a packet that another node was sent.
const BLAMES: [IcmpError; 4] = [
    IcmpError::PortUnreachable,
    IcmpError::TooBig { mtu: 576 },
    IcmpError::TimeExceeded,
    IcmpError::Other { kind: 5, code: 1 },
];

impl Assault<'_> {
    /// Peers report errors about packets that went to others.
    pub(super) fn blame(&mut self) {
        for (from, to) in self.pairs() {
            let addresses = [from, to].map(|node| self.world.look(node, Host::virtual_addresses));
            let [Some(own), Some(victim)] = addresses else { continue };
            let before = self.delivered(Actor::Node(to));
            self.wait(PASSAGE);
            if self.delivered(Actor::Node(to)) > before {
                // Its applications get packets of their own.
                continue;
            }
            let others = [("198.18.200.200", "2001:db8:ffff::9999"), ("192.0.2.77", "2001:db8:77::1")];
            for (v4, v6) in others {
                let others: [IpAddr; 2] = [v4, v6].map(|other| other.parse().expect("an address"));
                let ours: [(IpAddr, IpAddr); 2] =
                    [(own.v4.into(), victim.v4.into()), (own.v6.into(), victim.v6.into())];
                for ((own, victim), other) in ours.into_iter().zip(others) {
                    let flow = [SocketAddr::new(victim, 5_000), SocketAddr::new(other, 443)];
                    let Some(about) = packet::udp(flow[0], flow[1], IpOptions::default(), b"hello") else { continue };
                    for error in BLAMES.into_iter().filter_map(|error| packet::icmp_error(error, own, &about)) {
                        self.world.node(from, |now, host| host.inject(now, Input::Packet(error.into())));
                    }
                }
            }
            self.wait(PASSAGE);
            let delivered = self.delivered(Actor::Node(to)) - before;
            if delivered > 0 {
                let [me, peer] = [to, from].map(|node| self.name(Actor::Node(node)));
                let text = format!("{me} took {delivered} ICMP errors from {peer} about packets to others");
                return self.break_of(Invariant::I1, text);
            }
        }
    }

    /// The NMS was restarted, and forged registrations come in the names of all nodes, from addresses of nobody and
    /// from the nodes' own. All nodes must be registered again, and the NMS must not look at all of these datagrams.
    pub(super) fn forge(&mut self, seed: u64, watch: &Watch, arrived: &[Datagram]) {
        let port = self.scenario.port;
        let is_meant = |datagram: &&Datagram| datagram.to == Actor::Nms && datagram.local.port() == port;
        let arrived = arrived.iter().filter(|_| self.is_sealed()).filter(is_meant);
        let seen: BTreeSet<_> = arrived.map(|datagram| (datagram.from, datagram.local, datagram.iface)).collect();
        let Some(&(_, local, iface)) = seen.iter().find(|(from, ..)| from.is_ipv4()).or(seen.first()) else { return };
        let names: Vec<_> = self.scenario.nodes.iter().map(|node| node.name.clone()).collect();
        let is_there = |this: &Self, node: usize| this.world.is_registered(&names[node]);
        let before: Vec<usize> = (0..names.len()).filter(|&node| is_there(self, node)).collect();
        self.world.restart(self.scenario, seed, watch, Actor::Nms);
        let refused =
            |this: &Self| this.world.drops().get(&(this.name(Actor::Nms), DropReason::Busy)).copied().unwrap_or(0);
        let (mut sent, none) = (0_u32, refused(self));
        let mut session = Session::new(&Key128([9; 16]), Direction::FromInitiator);
        let seen: Vec<_> = seen.into_iter().take(SPOOFED).collect();
        let mut forge = |this: &mut Self, many: u32| {
            for _ in 0..many {
                sent += 1;
                let id = NodeId::of(&names[sent as usize % names.len()]).0;
                let addresses = vec![Ipv4Addr::LOCALHOST.into()];
                let request = RegistrationRequest { epoch: u64::MAX / 2, addresses, port: 443 };
                let Some(payload) = session.seal(sent, 0, id, &Message::RegistrationRequest(request)) else { return };
                let nobody = SocketAddr::new(Ipv4Addr::from_bits(0xcb00_0000 + sent).into(), 4501);
                // One in four comes from a node's own address.
                let own = seen.get(sent as usize % (4 * seen.len()));
                let (from, local, iface) = match own {
                    Some(&own) => own,
                    None if local.is_ipv4() => (nobody, local, iface),
                    None => (Self::stranger(local, sent as u8), local, iface),
                };
                let datagram = Datagram { to: Actor::Nms, iface, from, local, payload };
                this.inject(&datagram, from, &datagram.payload);
            }
        };
        forge(self, FORGED_AT_ONCE);
        for _ in 0..FORGING.as_millis() / 10 {
            forge(self, FORGED);
            self.wait(Duration::from_millis(10));
        }
        let worked = u64::from(sent).saturating_sub(refused(self) - none);
        let within = |time: Duration, every: Duration| u64::try_from(time.as_nanos() / every.as_nanos()).unwrap_or(0);
        let per = |every| within(UNPROVED_SAVED + FORGING + Duration::from_secs(2), every);
        // A node's own address has a rate of its own, first as a stranger's, and then as that of a good source.
        if worked > per(UNPROVED_EVERY) + 2 * seen.len() as u64 * per(UNPROVED_FROM_ONE_EVERY) {
            let text = format!("the NMS looked at {worked} of {sent} forged registrations");
            return self.break_of(Invariant::I5, text);
        }
        for node in before {
            if !self.world.is_registered(&names[node]) && hears_at_last(self.scenario, node) {
                let text = format!("forged registrations keep {} out", names[node].short());
                return self.break_of(Invariant::I7, text);
            }
        }
    }

    /// The NMS is out of reach, and all nodes go on. When the grants are over, the TRS must forward nothing.
    pub(super) fn outlive(&mut self) {
        let is_fast = self.scenario.signaling == Signaling::Fast;
        if self.scenario.policy != Policy::Optimal && !is_fast {
            return;
        }
        if self.forwarded() == 0 {
            return;
        }
        self.world.set_link_up(LinkAt::Service(ServiceName::Nms), false);
        self.wait(GRANT_TIME + UNDER_WAY);
        let forwarded = self.forwarded();
        if forwarded > 0 {
            let text = format!("the TRS forwarded {forwarded} datagrams after every grant was over");
            self.break_of(Invariant::I3, text);
        }
    }

    /// How many datagrams the TRS forwards unchanged, while all nodes send each other something.
    fn forwarded(&mut self) -> usize {
        let echo = Echo { count: 2, interval: PASSAGE, size: EchoSize::Payload(56), timeout: Duration::from_secs(1) };
        let nodes = self.scenario.nodes.len();
        for (from, to) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let (name, echo) = (self.scenario.nodes[to].name.clone(), echo.clone());
            self.world.node(from, |now, host| host.start(now, App::Echo(Target::Name(name, Family::V6), echo)));
        }
        let into = |this: &Self| {
            let network = this.world.network();
            let trs = this.world.station(Actor::Trs).id;
            let wires: Vec<_> = network.directions().filter(|&wire| network.ends(wire)[1].0 == trs).collect();
            let tapped = wires.into_iter().flat_map(|wire| network.take_tapped(wire));
            let udp = tapped.filter_map(|tapped| Datagram::parse(Actor::Trs, 0, &tapped.packet));
            udp.map(|datagram| datagram.payload).collect::<BTreeSet<_>>()
        };
        into(self);
        self.sent(Actor::Trs);
        self.wait(WATCHED);
        let came = into(self);
        self.sent(Actor::Trs).into_iter().filter(|(_, payload)| came.contains(payload)).count()
    }
}
