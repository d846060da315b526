//! Two hosts on one wire of 1 ms, with a role that only wraps packets into UDP.

mod apps;
mod engines;
mod underlay;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Input, Machine, Output, StreamId, StreamInput, StreamOutput, Tables, Transmit};
use cyphonic_core::name::{Fqdn, Virtual};
use cyphonic_core::time::Instant;
use cyphonic_core::timing::{Due, Timer};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};

use super::*;
use crate::net::packet::{IcmpError, Ip, IpOptions, icmp_error, protocol, udp};

/// The port of the toy tunnel.
const TUNNEL: u16 = 4501;
/// The port of the toy tunnel on which packets are never fragmented.
const QUIC: u16 = 443;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn virtual_of(side: usize) -> Virtual {
    let last = 2 + side as u16;
    Virtual { v4: Ipv4Addr::new(198, 18, 0, last as u8), v6: [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, last].into() }
}

fn underlay_of(side: usize) -> [IpAddr; 2] {
    [ip(["192.0.2.1", "192.0.2.2"][side]), ip(["2001:db8::1", "2001:db8::2"][side])]
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn name(text: &str) -> Fqdn {
    text.parse().unwrap()
}

/// A test's command to a [`Toy`].
enum Order {
    Register,
    /// Set up the tunnel: the remote address, and our own.
    Tunnel(SocketAddr, SocketAddr),
    Send(Transmit),
    Stream(StreamId, StreamOutput),
    /// Wake up at this time.
    Wake(Instant),
}

/// A role that wraps packets into UDP datagrams and echoes TCP.
struct Toy {
    addresses: Virtual,
    local: SocketAddr,
    remote: SocketAddr,
    /// Inner packets above this size are answered with Packet Too Big.
    largest: usize,
    /// The names that DNS answers. Other names do not exist.
    zone: BTreeMap<String, Virtual>,
    answers_dns: bool,
    outputs: VecDeque<Output>,
    datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    streams: Vec<(StreamId, StreamInput)>,
    largest_seen: usize,
    timer: Option<Instant>,
    woken: Vec<Instant>,
}

impl Toy {
    fn new(side: usize) -> Self {
        let zone = (0..2).map(|side| (["a.test.", "b.test."][side].to_owned(), virtual_of(side))).collect();
        Self {
            addresses: virtual_of(side),
            local: SocketAddr::new(underlay_of(side)[0], TUNNEL),
            remote: SocketAddr::new(underlay_of(1 - side)[0], TUNNEL),
            largest: usize::MAX,
            zone,
            answers_dns: true,
            outputs: VecDeque::new(),
            datagrams: Vec::new(),
            streams: Vec::new(),
            largest_seen: 0,
            timer: None,
            woken: Vec::new(),
        }
    }

    fn answer_dns(&self, packet: &[u8]) -> Option<Bytes> {
        let ip = Ip::parse(packet)?;
        let query = headers::udp(&ip).ok().filter(|udp| udp.destination.port() == 53)?;
        let question = Message::from_vec(query.payload).unwrap();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        let question = &question.queries[0];
        answer.add_query(question.clone());
        match (self.zone.get(&question.name().to_string()), question.query_type()) {
            (Some(found), RecordType::A) => {
                answer.add_answer(Record::from_rdata(question.name().clone(), 0, RData::A(A(found.v4))));
            }
            (Some(found), RecordType::AAAA) => {
                answer.add_answer(Record::from_rdata(question.name().clone(), 0, RData::AAAA(AAAA(found.v6))));
            }
            _ => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        let bytes = answer.to_vec().unwrap();
        Some(udp(query.destination, query.source, IpOptions::default(), &bytes).unwrap().into())
    }

    fn outgoing(&mut self, packet: &Bytes) {
        self.largest_seen = self.largest_seen.max(packet.len());
        if let Some(answer) = self.answer_dns(packet) {
            if self.answers_dns {
                self.outputs.push_back(Output::from(answer));
            }
        } else if packet.len() > self.largest {
            let source = if packet[0] >> 4 == 4 { ip("198.18.0.1") } else { ip("2001:db8:ffff::1") };
            let error = icmp_error(IcmpError::TooBig { mtu: self.largest as u32 }, source, packet).unwrap();
            self.outputs.push_back(Output::from(bytes::Bytes::from(error)));
            self.outputs.push_back(Output::from(Event::Dropped(DropReason::TooBig)));
        } else {
            let transmit = Transmit::new(self.local, self.remote, packet.to_vec());
            self.outputs.push_back(Output::from(transmit));
        }
    }
}

impl Machine for Toy {
    type Command = Order;

    fn tables(&self) -> Tables {
        Vec::new()
    }

    fn feed(&mut self, now: Instant, input: Input<Order>) {
        match input {
            Input::Packet(packet) => self.outgoing(&packet),
            Input::Datagram { local, remote, payload } => {
                if Ip::parse(&payload).is_some() {
                    self.outputs.push_back(Output::from(payload.freeze()));
                } else {
                    self.datagrams.push((local, remote, payload.to_vec()));
                }
            }
            Input::Stream(id, input) => {
                if let StreamInput::Data(data) = &input
                    && id.0 >= 1 << 32
                {
                    self.outputs.push_back(Output::Stream(id, StreamOutput::Write(data.clone())));
                }
                self.streams.push((id, input));
            }
            Input::Timeout => {
                assert!(self.timer.take_if(|at| *at <= now).is_some(), "woken without reason");
                self.woken.push(now);
            }
            Input::Command(Order::Wake(at)) => self.timer = Some(at),
            Input::Command(Order::Register) => {
                self.outputs.push_back(Output::from(Event::Registered { addresses: self.addresses, nat: false }));
            }
            Input::Command(Order::Tunnel(local, remote)) => (self.local, self.remote) = (local, remote),
            Input::Command(Order::Send(transmit)) => self.outputs.push_back(Output::from(transmit)),
            Input::Command(Order::Stream(id, output)) => self.outputs.push_back(Output::Stream(id, output)),
        }
    }

    fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(self.next_timer()))
    }

    fn next_timer(&self) -> Option<Due> {
        self.timer.map(|at| Timer::Quic.at(at))
    }
}

/// What the wire does with a packet.
enum Fate {
    Deliver,
    Lose,
    Double,
    Damage,
}

/// Two hosts, a wire of 1 ms, and the loop that drives them.
struct Pair {
    hosts: [Host<Toy>; 2],
    now: Instant,
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    /// Decides from the packet's number and sender.
    fate: fn(u64, usize) -> Fate,
    /// Every packet that was on the wire.
    tap: Vec<(Instant, usize, Vec<u8>)>,
}

const DELAY: Duration = Duration::from_millis(1);

fn config(side: usize, seed: u64) -> HostConfig {
    HostConfig {
        udp_ports: vec![TUNNEL, QUIC],
        listen_tcp: Some(4433),
        virtual_interface: Some(TunConfig::default()),
        ..HostConfig::new(vec![Interface::new(underlay_of(side))], seed + side as u64)
    }
}

impl Pair {
    /// A pair with both nodes registered.
    fn new() -> Self {
        Self::with(|side| Host::new(config(side, 7), Toy::new(side)))
    }

    fn with(host: impl Fn(usize) -> Host<Toy>) -> Self {
        let mut pair = Self {
            hosts: [host(0), host(1)],
            now: Instant::ZERO,
            flying: BTreeMap::new(),
            sent: 0,
            fate: |_, _| Fate::Deliver,
            tap: Vec::new(),
        };
        for side in 0..2 {
            pair.command(side, Order::Register);
        }
        pair
    }

    fn command(&mut self, side: usize, order: Order) {
        self.hosts[side].command(self.now, order);
        self.collect(side);
    }

    fn start(&mut self, side: usize, app: App) -> AppId {
        let id = self.hosts[side].start(self.now, app);
        self.collect(side);
        id
    }

    fn deliver(&mut self, side: usize, packet: Vec<u8>) {
        self.hosts[side].handle_input(self.now, BoxInput::Packet { iface: 0, packet });
        self.collect(side);
    }

    /// Takes the packets that a host sends. Returns when it has to be woken.
    fn collect(&mut self, side: usize) -> Option<Instant> {
        loop {
            match self.hosts[side].poll_output() {
                BoxOutput::Wait(until) => return until,
                BoxOutput::Send { iface, mut packet } => {
                    assert!(packet.len() <= self.hosts[side].interfaces()[iface].mtu);
                    self.tap.push((self.now, side, packet.clone()));
                    self.sent += 1;
                    let key = (self.now + DELAY, self.sent);
                    match (self.fate)(self.sent, side) {
                        Fate::Deliver => {}
                        Fate::Lose => continue,
                        Fate::Double => {
                            self.flying.insert((key.0 + DELAY, key.1), (1 - side, packet.clone()));
                        }
                        Fate::Damage => *packet.last_mut().unwrap() ^= 1,
                    }
                    self.flying.insert(key, (1 - side, packet));
                }
            }
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let wakes = [self.collect(0), self.collect(1)];
            let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
            let Some(next) = [wakes[0], wakes[1], arrival].into_iter().flatten().min().filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (side, packet)) = self.flying.pop_first().unwrap();
                self.deliver(side, packet);
            } else {
                let side = usize::from(wakes[0] != Some(next));
                self.hosts[side].handle_input(self.now, BoxInput::Timeout);
            }
        }
    }

    /// Runs until every application is finished.
    fn finish(&mut self, id: AppId) -> AppReport {
        for _ in 0..1000 {
            self.run_until(self.now + Duration::from_millis(100));
            if self.hosts[0].report(id).finished.is_some() {
                return self.hosts[0].report(id).clone();
            }
        }
        panic!("not finished after 100 s: {:?}", self.hosts[0].report(id));
    }

    fn datagrams(&self, side: usize) -> &[(SocketAddr, SocketAddr, Vec<u8>)] {
        &self.hosts[side].machine().datagrams
    }

    fn streams(&self, side: usize) -> &[(StreamId, StreamInput)] {
        &self.hosts[side].machine().streams
    }

    fn loss(&self, side: usize, loss: Loss) -> u64 {
        self.hosts[side].losses().get(&loss).copied().unwrap_or(0)
    }
}
