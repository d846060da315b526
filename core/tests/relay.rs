//! A TRS between two legs: what comes at once on one leaves at once on the other, and path probes go on as they are.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::grant::Grants;
use cyphonic_core::header::Flags;
use cyphonic_core::key::Key128;
use cyphonic_core::machine::{Input, Machine, Output, Transmit};
use cyphonic_core::message::{Framing, Message, RelayMode, TunnelRequest};
use cyphonic_core::paths::probe::{Flags as ProbeFlags, Keys, Probe, ProbeKind, Secret};
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicOptions};
use cyphonic_core::time::Instant;
use cyphonic_core::trs::{Trs, TrsConfig};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use common::{Credentials, address, name};

/// A node, as far as a TRS knows one.
struct Leg {
    at: SocketAddr,
    links: Links,
    link: LinkId,
}

/// A TRS, and two legs that are bound to each other.
struct Relay {
    now: Instant,
    trs: Trs,
    legs: [Leg; 2],
    /// What the legs heard.
    heard: [Vec<LinkOutput>; 2],
}

impl Relay {
    fn new(mode: RelayMode) -> Self {
        Self::with(mode, None)
    }

    /// With a grant for so many seconds, at a TRS that wants one.
    fn with(mode: RelayMode, granted: Option<u16>) -> Self {
        let credentials = Credentials::new();
        let quic = |owner: &str| credentials.quic(owner, QuicOptions { segments: 10, ..QuicOptions::default() });
        let config = TrsConfig {
            store: None,
            quic: quic("trs"),
            conventional_port: 4501,
            service_key: Key128([0; 16]),
            mode,
            grants: granted.is_some(),
            limits: None,
            seed: [5; 32],
        };
        let leg = |owner: &str, host| {
            let mut rng = ChaCha20Rng::from_seed([host as u8; 32]);
            let mut links = Links::new(quic(owner), CidScheme::Direct, false, &mut rng).unwrap();
            let (at, trs) = (address(host), address(3));
            let link = links.connect(Instant::ZERO, at, trs, &name("trs"), None, Load::Packets).unwrap();
            Leg { at, links, link }
        };
        let legs = [leg("alice", 1), leg("bob", 2)];
        let mut relay = Self { now: Instant::ZERO, trs: Trs::new(config).unwrap(), legs, heard: [vec![], vec![]] };
        relay.pass(2_000);
        let relay_cid = relay.legs[1].links.relay_cid(relay.legs[1].link);
        if let Some(seconds) = granted {
            relay.grant(1, seconds);
        }
        let (from, to) = (name("alice"), name("bob"));
        let request = TunnelRequest { from, to, wrapped_end_key: None, relay_cid, framing: Framing::Compact };
        for (leg, message) in [(0, Message::TunnelRequest(request)), (1, Message::TunnelResponse)] {
            let Leg { links, link, .. } = &mut relay.legs[leg];
            let frame = message.to_bytes(7, Flags(0), 0, 0, [0; 16]);
            assert!(links.send_frame(relay.now, *link, frame.into()));
            relay.pass(100);
        }
        let said = |output: &LinkOutput| matches!(output, LinkOutput::Frame(..));
        assert!(relay.heard.iter().all(|heard| heard.iter().any(said)), "the legs are bound");
        relay.heard = [vec![], vec![]];
        relay
    }

    /// Alice shows the TRS a grant for bob's leg. The NMS makes one each three seconds.
    fn grant(&mut self, number: u64, seconds: u16) {
        let serial = number * 3_000_000_000;
        let leg = self.legs[1].links.relay_cid(self.legs[1].link).unwrap();
        let grant = Grants::new(&Key128([0; 16])).grant(name("alice"), name("bob"), leg, serial, seconds);
        let Leg { links, link, .. } = &mut self.legs[0];
        let frame = Message::RelayGrant(grant).to_bytes(8, Flags(0), 0, 0, [0; 16]);
        assert!(links.send_frame(self.now, *link, frame.into()));
        self.pass(100);
    }

    /// Where the TRS sends a path probe for bob that comes from there.
    fn probe(&mut self, keys: &mut Keys, from: SocketAddr) -> Vec<SocketAddr> {
        let bob = self.legs[1].links.relay_cid(self.legs[1].link).unwrap();
        let probe = Probe { kind: ProbeKind::Hello, token: 7, echo: 0, size: 0, flags: ProbeFlags::default() };
        let payload = keys.seal(bob, &probe, 1_200).unwrap();
        self.feed(&[Transmit::new(from, address(3), payload.clone())]);
        self.trs.finish(self.now);
        self.answers().into_iter().filter(|t| t.payload == payload).map(|t| t.remote).collect()
    }

    /// Lets time pass.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += Duration::from_millis(10);
            for leg in 0..2 {
                self.legs[leg].links.handle_timeout(self.now);
                let sent = self.sent(leg);
                self.feed(&sent);
                self.trs.finish(self.now);
            }
            self.trs.handle_input(self.now, Input::Timeout);
            let answers = self.answers();
            self.give(&answers);
        }
    }

    fn sent(&mut self, leg: usize) -> Vec<Transmit> {
        let mut sent = Vec::new();
        while let Some(output) = self.legs[leg].links.poll() {
            match output {
                LinkOutput::Transmit(transmit) => sent.push(*transmit),
                other => self.heard[leg].push(other),
            }
        }
        sent
    }

    fn feed(&mut self, sent: &[Transmit]) {
        for input in inputs(sent) {
            self.trs.feed(self.now, input);
        }
    }

    fn answers(&mut self) -> Vec<Transmit> {
        let mut answers = Vec::new();
        loop {
            match self.trs.poll_output() {
                Output::Transmit(transmit) => answers.push(*transmit),
                Output::Wait(_) => return answers,
                _ => {}
            }
        }
    }

    fn give(&mut self, answers: &[Transmit]) {
        for transmit in answers {
            let leg = self.legs.iter_mut().find(|leg| leg.at == transmit.remote).unwrap();
            for datagram in transmit.datagrams() {
                leg.links.take_datagram(self.now, transmit.remote, transmit.local, BytesMut::from(datagram));
            }
            leg.links.finish(self.now);
        }
    }

    /// What alice sends for packets that she is given at once.
    fn send(&mut self, packets: &[Bytes]) -> Vec<Transmit> {
        let Leg { links, link, .. } = &mut self.legs[0];
        for packet in packets {
            links.queue_datagram(self.now, *link, packet.clone()).unwrap();
        }
        links.finish(self.now);
        self.sent(0)
    }

    /// The packets that bob got.
    fn received(&mut self, answers: &[Transmit]) -> Vec<Bytes> {
        self.give(answers);
        assert!(self.sent(1).len() < 10, "acknowledgements");
        let heard = std::mem::take(&mut self.heard[1]).into_iter();
        heard.flat_map(|output| if let LinkOutput::Datagrams(_, all) = output { all } else { Vec::new() }).collect()
    }
}

/// As the TRS gets them.
fn inputs<C>(sent: &[Transmit]) -> impl Iterator<Item = Input<C>> {
    sent.iter().flat_map(|transmit| {
        let (local, remote) = (transmit.remote, transmit.local);
        transmit.datagrams().map(move |datagram| Input::Datagram { local, remote, payload: BytesMut::from(datagram) })
    })
}

#[test]
fn what_comes_at_once_on_a_leg_leaves_at_once_on_the_other() {
    let packets: Vec<Bytes> = (0..9).map(|n| vec![n; 1_000].into()).collect();
    let to_bob = |answers: &[Transmit]| answers.iter().filter(|transmit| transmit.remote == address(2)).count();

    let mut together = Relay::new(RelayMode::Terminating);
    let sent = together.send(&packets);
    together.feed(&sent);
    assert!(together.answers().is_empty(), "nothing is said before the turn is finished");
    together.trs.finish(together.now);
    let answers = together.answers();
    assert_eq!(to_bob(&answers), 1, "nine packets, one transmit");
    assert_eq!(together.received(&answers), packets);

    let mut apart = Relay::new(RelayMode::Terminating);
    let sent = apart.send(&packets);
    let mut answers = Vec::new();
    for input in inputs(&sent) {
        apart.trs.handle_input(apart.now, input);
        answers.extend(apart.answers());
    }
    assert!(to_bob(&answers) >= packets.len(), "each by itself, or with what acknowledges it");
    assert_eq!(apart.received(&answers), packets, "the same packets, in the same order");
}

#[test]
fn a_path_probe_goes_on_as_it_is_between_bound_legs_and_from_nowhere_else() {
    let mut relay = Relay::new(RelayMode::Blind);
    let bob = relay.legs[1].links.relay_cid(relay.legs[1].link).unwrap();
    let mut keys = Keys::new(&Secret([1; 32]), true);
    let probe = Probe { kind: ProbeKind::Hello, token: 7, echo: 0, size: 0, flags: ProbeFlags::default() };
    let mut pass = |relay: &mut Relay, tag, from: SocketAddr| {
        let payload = keys.seal(tag, &probe, 1_200).unwrap();
        relay.feed(&[Transmit::new(from, address(3), payload.clone())]);
        relay.trs.finish(relay.now);
        let forwarded: Vec<_> =
            relay.answers().into_iter().filter(|t| t.payload == payload).map(|t| t.remote).collect();
        forwarded
    };
    assert_eq!(pass(&mut relay, bob, address(1)), [address(2)], "by the tag, without a byte more");
    assert_eq!(pass(&mut relay, bob, address(9)), [], "from no leg");
    let mut other = bob;
    other.0[7] ^= 1;
    assert_eq!(pass(&mut relay, other, address(1)), [], "to no leg");
    let mut reading = Relay::new(RelayMode::Terminating);
    let bob = reading.legs[1].links.relay_cid(reading.legs[1].link).unwrap();
    assert_eq!(pass(&mut reading, bob, address(1)), [], "a TRS that reads forwards nothing");
}

#[test]
fn forwarding_ends_with_the_grant_and_a_newer_one_prolongs_it() {
    let mut relay = Relay::with(RelayMode::Blind, Some(4));
    let mut keys = Keys::new(&Secret([1; 32]), true);
    assert_eq!(relay.probe(&mut keys, address(1)), [address(2)]);
    relay.pass(2_000);
    relay.grant(2, 4);
    relay.pass(3_000);
    assert_eq!(relay.probe(&mut keys, address(1)), [address(2)], "it was prolonged");
    // The same grants again have no effect.
    relay.grant(2, 4);
    relay.grant(1, 4);
    relay.pass(1_500);
    let ended =
        |relay: &Relay| relay.heard.iter().all(|heard| heard.iter().any(|o| matches!(o, LinkOutput::Closed(..))));
    assert!(ended(&relay), "both nodes are told");
}
