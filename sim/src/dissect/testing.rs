//! Two nodes with one QUIC connection between them, in memory: real packets for the tests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::header::{Flags, HEADER_LEN, Header, Kind};
use cyphonic_core::name::{Fqdn, RelayCid};
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, QuicOptions};
use cyphonic_core::time::Instant;
use cyphonic_core::tls::Environment;

use super::Secrets;
use crate::seeded;

/// Each way takes this long.
const DELAY: Duration = Duration::from_millis(1);

/// A UDP datagram that an end sent.
pub(crate) struct Sent {
    /// When it left its sender.
    pub(crate) departs: Instant,
    /// When it reached its receiver.
    pub(crate) arrives: Instant,
    /// The source in its IP and UDP headers.
    pub(crate) from: SocketAddr,
    /// The destination in its IP and UDP headers.
    pub(crate) to: SocketAddr,
    /// Without IP and UDP headers.
    pub(crate) payload: Vec<u8>,
}

/// The client is end 0, the server end 1. IPv6 with 1,500-byte packets.
pub(crate) struct Pair {
    /// The TLS secrets of both ends.
    pub(crate) secrets: Arc<Secrets>,
    now: Instant,
    ends: [Links; 2],
    addresses: [SocketAddr; 2],
    link: LinkId,
    server_link: Option<LinkId>,
    /// What each end sent, in order.
    wires: [Vec<Sent>; 2],
    in_flight: [VecDeque<(Instant, Vec<u8>)>; 2],
}

impl Pair {
    /// Connected, with path MTU discovery finished.
    pub(crate) fn new(seed: u64, scheme: CidScheme) -> Self {
        Self::logging_to(Arc::default(), seed, scheme)
    }

    /// As [`Self::new`], beside other connections.
    pub(super) fn logging_to(secrets: Arc<Secrets>, seed: u64, scheme: CidScheme) -> Self {
        let pki = seeded::pki(seed);
        let name = |text: &str| -> Fqdn { text.parse().unwrap() };
        let end = |short: &str, accept: bool| {
            let config = QuicConfig {
                tls: Environment { key_log: Some(secrets.clone()), ..seeded::environment(seed, short) },
                roots: pki.roots(),
                identity: pki.identity(&name(&format!("{short}.example"))),
                alpn: b"test".to_vec(),
                options: QuicOptions::default(),
            };
            Links::new(config, scheme, accept, &mut seeded::stream(seed, short, "quic")).unwrap()
        };
        let mut ends = [end("alice", false), end("bob", true)];
        let addresses: [SocketAddr; 2] = ["[2001:db8::1]:443".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap()];
        let (via, cid_len): (Option<RelayCid>, usize) = match scheme {
            CidScheme::Direct => (None, 8),
            CidScheme::Marked => (None, 16),
            CidScheme::Relayed(prefix) => (Some(prefix), 12),
            CidScheme::Pathed(prefix) => (Some(prefix), 16),
        };
        let now = Instant::ZERO;
        let link = ends[0].connect(now, addresses[0], addresses[1], &name("bob.example"), via, Load::Packets).unwrap();
        let mut pair = Self {
            secrets,
            now,
            ends,
            addresses,
            link,
            server_link: None,
            wires: Default::default(),
            in_flight: Default::default(),
        };
        pair.run_ms(2_000);
        assert_eq!(pair.ends[0].max_datagram(link), Some(1452 - 30 - cid_len));
        pair
    }

    /// The client sends a DATAGRAM frame with `len` bytes, which are returned.
    pub(super) fn datagram(&mut self, len: usize) -> Bytes {
        let data = Bytes::from(vec![0xd6; len]);
        self.send_datagram(data.clone());
        data
    }

    /// The client sends this in a DATAGRAM frame.
    pub(crate) fn send_datagram(&mut self, data: Bytes) {
        self.ends[0].send_datagram(self.now, self.link, data).unwrap();
        self.exchange();
    }

    /// The server sends this in a DATAGRAM frame.
    pub(crate) fn send_server_datagram(&mut self, data: Bytes) {
        let link = self.server_link.expect("the connection stands");
        self.ends[1].send_datagram(self.now, link, data).unwrap();
        self.exchange();
    }

    /// The client sends a message with `len` bytes of body on the stream; header and body are returned.
    pub(super) fn message(&mut self, len: usize) -> Vec<u8> {
        let frame = capsule(&vec![0x5a; len]);
        assert!(self.ends[0].send_frame(self.now, self.link, frame.clone().into()));
        self.exchange();
        frame
    }

    /// The client sends a whole message on the stream.
    pub(crate) fn send_message(&mut self, frame: Vec<u8>) {
        assert!(self.ends[0].send_frame(self.now, self.link, frame.into()));
        self.exchange();
    }

    /// Lets time pass.
    pub(crate) fn run_ms(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            self.exchange();
            let arrivals = self.in_flight.iter().filter_map(|queue| queue.front().map(|&(at, _)| at));
            let timeouts = self.ends.iter().filter_map(|end| end.next_timer().map(|due| due.at));
            let next = arrivals.chain(timeouts).min().filter(|&at| at <= end);
            self.now = next.unwrap_or(end);
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
            if next.is_none() {
                return;
            }
        }
    }

    /// Puts on the wires what the ends have to send, and delivers what is due.
    fn exchange(&mut self) {
        for from in 0..2 {
            let to = 1 - from;
            while self.in_flight[to].front().is_some_and(|&(at, _)| at <= self.now) {
                let (_, payload) = self.in_flight[to].pop_front().unwrap();
                let payload = BytesMut::from(&payload[..]);
                self.ends[from].handle_datagram(self.now, self.addresses[from], self.addresses[to], payload);
            }
        }
        for from in 0..2 {
            while let Some(output) = self.ends[from].poll() {
                let transmit = match output {
                    LinkOutput::Transmit(transmit) => transmit,
                    LinkOutput::Connected { link, client: false, .. } => {
                        self.server_link = Some(link);
                        continue;
                    }
                    _ => continue,
                };
                let arrives = self.now + DELAY;
                self.in_flight[from].push_back((arrives, transmit.payload.clone()));
                self.wires[from].push(Sent {
                    departs: self.now,
                    arrives,
                    from: transmit.local,
                    to: transmit.remote,
                    payload: transmit.payload,
                });
            }
        }
    }

    /// The datagrams that an end sent so far.
    pub(crate) fn sent(&self, end: usize) -> &[Sent] {
        &self.wires[end]
    }

    /// The UDP payloads that an end sent so far.
    pub(super) fn udp_payloads(&self, end: usize) -> Vec<Vec<u8>> {
        self.wires[end].iter().map(|sent| sent.payload.clone()).collect()
    }
}

/// A capsule: header and body.
pub(crate) fn capsule(body: &[u8]) -> Vec<u8> {
    let header = Header {
        transaction: 0,
        spoken: cyphonic_core::version::Spoken::FIRST,
        flags: Flags(0),
        kind: Kind::Capsule,
        count: 0,
        sequence: 1,
        length: body.len() as u16,
        option: 0,
        id: [7; 16],
    };
    let mut frame = Vec::with_capacity(HEADER_LEN + body.len());
    frame.extend_from_slice(&header.encode());
    frame.extend_from_slice(body);
    frame
}
