//! A small network for tests and benches of the engines: alice – NAT – router – bob, with simple UDP talkers.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::time::Instant;
use cyphonic_sim::net::nat::{Nat, NatBox, NatConfig};
use cyphonic_sim::net::packet::{Ip, IpOptions, Transport, udp};
use cyphonic_sim::net::{
    BoxId, BoxInput, BoxOutput, Forwarder, NetBox, Network, NetworkBuilder, Router, Routes, TapMode, WireConfig,
    WireId, seed,
};

/// Sends a burst of datagrams to a peer at each interval, and may send back what it receives.
pub(crate) struct Talker {
    local: SocketAddr,
    peer: Option<SocketAddr>,
    interval: Duration,
    burst: u32,
    payload: Vec<u8>,
    echoes: bool,
    next: Option<Instant>,
    pending: u32,
    replies: Vec<Vec<u8>>,
    /// Datagrams that were received.
    pub(crate) received: u64,
    /// The source of the last one.
    pub(crate) heard_from: Option<SocketAddr>,
}

/// The first byte of a payload that was sent back.
const ECHOED: u8 = 1;

impl Talker {
    /// A talker that only listens. It sends back what it receives if `echoes`.
    pub(crate) fn listener(local: &str, echoes: bool) -> Self {
        Self {
            local: local.parse().unwrap(),
            peer: None,
            interval: Duration::ZERO,
            burst: 0,
            payload: Vec::new(),
            echoes,
            next: None,
            pending: 0,
            replies: Vec::new(),
            received: 0,
            heard_from: None,
        }
    }

    /// A talker that sends `burst` datagrams of `payload` bytes to `peer` at each `interval`.
    pub(crate) fn speaker(local: &str, peer: &str, interval: Duration, burst: u32, payload: usize) -> Self {
        let mut talker = Self::listener(local, false);
        talker.peer = Some(peer.parse().unwrap());
        (talker.interval, talker.burst, talker.payload) = (interval, burst, vec![0; payload]);
        talker.next = Some(Instant::from_nanos(1_234_567));
        talker
    }

    /// Sends this many more at once.
    pub(crate) fn speak(&mut self, datagrams: u32) {
        self.pending += datagrams;
    }

    fn datagram(&self, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        udp(self.local, to, IpOptions::default(), payload).unwrap()
    }
}

impl NetBox for Talker {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        match input {
            BoxInput::Timeout => {
                if let Some(next) = self.next.filter(|&next| next <= now) {
                    self.pending += self.burst;
                    self.next = Some(next + self.interval);
                }
            }
            BoxInput::Packet { packet, .. } => {
                let Some(ip) = Ip::parse(&packet) else { return };
                let Some(Transport::Udp { source, destination }) = ip.transport() else { return };
                if SocketAddr::new(ip.destination, destination) != self.local {
                    return;
                }
                self.received += 1;
                let from = SocketAddr::new(ip.source, source);
                self.heard_from = Some(from);
                if self.echoes && ip.payload.get(8) != Some(&ECHOED) {
                    let mut payload = ip.payload[8..].to_vec();
                    payload[0] = ECHOED;
                    self.replies.push(self.datagram(from, &payload));
                }
            }
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        if let Some(packet) = self.replies.pop() {
            return BoxOutput::Send { iface: 0, packet };
        }
        if let (Some(peer), true) = (self.peer, self.pending > 0) {
            self.pending -= 1;
            return BoxOutput::Send { iface: 0, packet: self.datagram(peer, &self.payload) };
        }
        BoxOutput::Wait(self.next)
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The scene and the names of its parts.
pub(crate) struct Scene {
    /// Ready for an engine.
    pub(crate) network: Network,
    /// The speaker behind the NAT.
    pub(crate) alice: BoxId,
    /// The NAT.
    pub(crate) nat: BoxId,
    /// The public listener. It may send back what it receives.
    pub(crate) bob: BoxId,
    /// Between NAT and router.
    pub(crate) middle: WireId,
}

/// Alice, behind a NAT, sends to bob, behind a router.
pub(crate) fn scene(
    run_seed: u64,
    tap: TapMode,
    edge: WireConfig,
    middle: WireConfig,
    alice: Talker,
    echoes: bool,
) -> Scene {
    let prefix = |text: &str| text.parse().unwrap();
    let address = |text: &str| text.parse().unwrap();
    let mut builder = NetworkBuilder::new(run_seed);
    builder.tap(tap);
    let alice = builder.add_box("alice", Box::new(alice));
    let config = NatConfig::new("203.0.113.1".parse().unwrap());
    let routes = Routes::new().with(prefix("10.0.0.0/24"), 0).with(prefix("0.0.0.0/0"), 1);
    let nat = NatBox::new(
        Nat::new(config, seed::stream(run_seed, "nat", "nat ports")),
        Forwarder::new(routes, vec![address("10.0.0.254")]),
        1,
    );
    let nat = builder.add_box("nat", Box::new(nat));
    let routes = Routes::new().with(prefix("203.0.113.0/24"), 0).with(prefix("198.51.100.0/24"), 1);
    let router = builder.add_box("router", Box::new(Router::new(routes, vec![address("203.0.113.254")])));
    let bob = builder.add_box("bob", Box::new(Talker::listener("198.51.100.1:443", echoes)));
    builder.add_wire((alice, 0), (nat, 0), edge, edge);
    let middle = builder.add_wire((nat, 1), (router, 0), middle, middle);
    builder.add_wire((router, 1), (bob, 0), edge, edge);
    Scene { network: builder.build().unwrap(), alice, nat, bob, middle }
}
