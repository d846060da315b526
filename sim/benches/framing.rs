//! What one packet costs its sender and its receiver, in each framing: inner packets of 1,280 bytes.
//!
//! `udp4501` is the conventional method's session; the others are two ends of one QUIC connection. "seal" is all that
//! the sender does, and "open" all that the receiver does: for QUIC, acknowledgements, loss recovery and timers are in
//! it. Nothing here is sent through sockets or the simulated network. Each batch travels in 1 ms, each packet once.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::measurement::{Measurement, WallTime};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::header::{Flags, HEADER_LEN, Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::name::Fqdn;
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, QuicOptions};
use cyphonic_core::time::Instant;
use cyphonic_sim::seeded;

/// Bytes of an inner packet: what every IPv6 path takes (RFC 8200 §5).
const PACKET: usize = 1280;
/// Packets between two looks at the clock.
const BATCH: usize = 64;
/// How long a batch is under way.
const DELAY: Duration = Duration::from_millis(1);
/// The identifier in headers.
const ID: [u8; 16] = [7; 16];

/// Two ends between which packets go one way.
trait Pair {
    /// Sends a batch of this packet: the datagrams for the other end.
    fn seal(&mut self, packet: &Bytes) -> Vec<BytesMut>;
    /// Receives these datagrams: how many packets came out.
    fn open(&mut self, datagrams: Vec<BytesMut>) -> usize;
}

/// The conventional method.
struct Conventional {
    sender: Session,
    receiver: Session,
}

impl Conventional {
    fn new() -> Self {
        let key = Key128([9; 16]);
        Self {
            sender: Session::new(&key, Direction::FromInitiator),
            receiver: Session::new(&key, Direction::FromResponder),
        }
    }
}

impl Pair for Conventional {
    fn seal(&mut self, packet: &Bytes) -> Vec<BytesMut> {
        let seal = |_| {
            let mut datagram = Vec::with_capacity(HEADER_LEN + packet.len() + 16);
            assert!(self.sender.seal_capsule(ID, packet, &mut datagram), "sequence numbers are left");
            BytesMut::from(Bytes::from(datagram))
        };
        (0..BATCH).map(seal).collect()
    }

    fn open(&mut self, datagrams: Vec<BytesMut>) -> usize {
        let opened = datagrams.into_iter().map(|mut datagram| {
            let (_, range) = self.receiver.open(&mut datagram).expect("sealed for this end, and new");
            usize::from(black_box(&datagram[range]).len() == PACKET)
        });
        opened.sum()
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Stream,
    Datagram,
    Compact,
}

/// The proposed method: the client sends.
struct Proposed {
    framing: Framing,
    now: Instant,
    client: Links,
    server: Links,
    link: LinkId,
    sequence: u32,
    /// For the client: acknowledgements.
    back: Vec<BytesMut>,
}

fn addresses() -> [SocketAddr; 2] {
    ["[2001:db8::1]:443", "[2001:db8::2]:443"].map(|address| address.parse().expect("an address"))
}

impl Proposed {
    fn new(framing: Framing) -> Self {
        let pki = seeded::pki(1);
        let name = |short: &str| -> Fqdn { format!("{short}.example").parse().expect("a name") };
        let end = |short: &str, accept: bool| {
            let config = QuicConfig {
                tls: seeded::environment(1, short),
                roots: pki.roots(),
                identity: pki.identity(&name(short)),
                alpn: b"bench".to_vec(),
                options: QuicOptions::default(),
            };
            Links::new(config, CidScheme::Direct, accept, &mut seeded::stream(1, short, "quic")).expect("good keys")
        };
        let (mut client, server) = (end("alice", false), end("bob", true));
        let [alice, bob] = addresses();
        let link = client.connect(Instant::ZERO, alice, bob, &name("bob"), None, Load::Packets).expect("a good name");
        let back = Vec::new();
        let mut pair = Self { framing, now: Instant::ZERO, client, server, link, sequence: 0, back };
        // The handshake and path MTU discovery.
        for _ in 0..2000 {
            let forth = pair.client_turn();
            pair.open(forth);
        }
        assert!(
            pair.client.max_datagram(link).is_some_and(|most| most >= HEADER_LEN + PACKET),
            "the path MTU is found"
        );
        pair
    }

    fn framed(&mut self, packet: &[u8]) -> Bytes {
        self.sequence = self.sequence.wrapping_add(1);
        let header = Header {
            transaction: 0,
            spoken: cyphonic_core::version::Spoken::FIRST,
            flags: Flags(0),
            kind: Kind::Capsule,
            count: 0,
            sequence: self.sequence,
            length: packet.len() as u16,
            option: 0,
            id: ID,
        };
        let mut frame = BytesMut::with_capacity(HEADER_LEN + packet.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(packet);
        frame.freeze()
    }

    /// The client takes what came back, and its timers; what it has to send.
    fn client_turn(&mut self) -> Vec<BytesMut> {
        let [alice, bob] = addresses();
        self.now += DELAY;
        for payload in std::mem::take(&mut self.back) {
            self.client.handle_datagram(self.now, alice, bob, payload);
        }
        self.client.handle_timeout(self.now);
        transmits(&mut self.client).0
    }
}

/// What an end has to send, and how many packets came out of it.
fn transmits(end: &mut Links) -> (Vec<BytesMut>, usize) {
    let (mut payloads, mut packets) = (Vec::new(), 0);
    while let Some(output) = end.poll() {
        match output {
            // A socket would copy; here the bytes only change hands.
            LinkOutput::Transmit(transmit) | LinkOutput::Bare(transmit) => {
                payloads.push(BytesMut::from(Bytes::from(transmit.payload)));
            }
            LinkOutput::Frame(_, header, body) => {
                packets += usize::from(header.kind == Kind::Capsule && black_box(&body).len() == PACKET);
            }
            LinkOutput::Datagrams(_, frames) => {
                for data in frames {
                    let packet = if data.len() == PACKET {
                        data
                    } else {
                        let header = Header::decode(&data).expect("the other end framed it");
                        data.slice(HEADER_LEN..HEADER_LEN + usize::from(header.length))
                    };
                    packets += usize::from(black_box(&packet).len() == PACKET);
                }
            }
            LinkOutput::Connected { .. } => {}
            LinkOutput::Closed(..) | LinkOutput::Dropped(_) | LinkOutput::Pathed(..) | LinkOutput::Followed(_) => {
                unreachable!("nothing is lost: {output:?}")
            }
        }
    }
    (payloads, packets)
}

impl Pair for Proposed {
    fn seal(&mut self, packet: &Bytes) -> Vec<BytesMut> {
        let mut forth = self.client_turn();
        for _ in 0..BATCH {
            let (now, link) = (self.now, self.link);
            match self.framing {
                Framing::Stream => {
                    let frame = self.framed(packet);
                    assert!(self.client.send_frame(now, link, frame), "there is room on the stream");
                }
                Framing::Datagram => {
                    let frame = self.framed(packet);
                    self.client.send_datagram(now, link, frame).expect("it fits");
                }
                Framing::Compact => self.client.send_datagram(now, link, packet.clone()).expect("it fits"),
            }
        }
        forth.extend(transmits(&mut self.client).0);
        forth
    }

    fn open(&mut self, datagrams: Vec<BytesMut>) -> usize {
        let [alice, bob] = addresses();
        self.now += DELAY;
        for payload in datagrams {
            self.server.handle_datagram(self.now, bob, alice, payload);
        }
        self.server.handle_timeout(self.now);
        let (back, packets) = transmits(&mut self.server);
        self.back = back;
        packets
    }
}

/// Seals and opens at least `packets`; the time of both, scaled to exactly that many.
fn time(pair: &mut dyn Pair, packet: &Bytes, packets: u64) -> [Duration; 2] {
    let mut sum = [Duration::ZERO; 2];
    let batches = packets.div_ceil(BATCH as u64);
    for _ in 0..batches {
        let start = WallTime.start();
        let datagrams = pair.seal(black_box(packet));
        sum[0] += WallTime.end(start);
        let start = WallTime.start();
        let opened = pair.open(datagrams);
        sum[1] += WallTime.end(start);
        assert_eq!(opened, BATCH, "every packet comes out once");
    }
    sum.map(|time| time.mul_f64(packets as f64 / (batches * BATCH as u64) as f64))
}

fn one(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, pair: &mut dyn Pair) {
    let packet = Bytes::from(vec![0x60; PACKET]);
    for (index, half) in ["seal", "open"].into_iter().enumerate() {
        group.bench_function(format!("{half}/{name}"), |bencher| {
            bencher.iter_custom(|packets| time(pair, &packet, packets)[index]);
        });
    }
}

fn framings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: PACKET as u64 });
    one(&mut group, "udp4501", &mut Conventional::new());
    for (name, framing) in [("stream", Framing::Stream), ("datagram", Framing::Datagram), ("compact", Framing::Compact)]
    {
        one(&mut group, name, &mut Proposed::new(framing));
    }
    group.finish();
}

criterion_group!(benches, framings);
criterion_main!(benches);
