//! Numbered UDP datagrams at a steady rate.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;

use super::arrivals::{Arrivals, FLOW_LIMIT};
use super::{Inbound, fill};
use crate::host::outlet::{Outlet, Unsent};
use crate::host::ports::{UDP_ECHO_PORT, UDP_SINK_PORT};
use crate::net::packet::IcmpError;

/// How long a flow waits for its last echoes.
const LINGER: Duration = Duration::from_secs(2);

/// UDP datagrams to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// How many datagrams; at most [`FLOW_LIMIT`] are sent.
    pub count: u64,
    /// Time between two.
    pub interval: Duration,
    /// UDP payload bytes of each; at least 16 are sent.
    pub payload: usize,
    /// What the peer does with them.
    pub end: FlowEnd,
}

/// What the peer does with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// The peer sends it back, and the sender's report counts the returned datagrams.
    Echo,
    /// The peer counts it ([`crate::host::Host::flows`]).
    Sink,
}

/// What a [`Flow`] has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the virtual interface did not take.
    pub unsent: u64,
    /// When the first was due.
    pub begun: Option<Instant>,
    /// What came back ([`FlowEnd::Echo`]).
    pub returned: Arrivals,
    /// The number of Packet Too Big messages from the path.
    pub too_big: u64,
    /// The number of other ICMP errors.
    pub refused: u64,
    /// Names this flow in the peer's [`crate::host::Host::flows`].
    pub flow: u64,
}

impl FlowReport {
    pub(super) fn receive(&mut self, inbound: &Inbound<'_>, now: Instant, nonce: u64) -> bool {
        match inbound {
            Inbound::Datagram { payload, .. } => {
                let header = FlowHeader::read(payload).filter(|header| header.flow == nonce);
                header.is_some_and(|header| self.returned.note(now, header.sequence))
            }
            Inbound::Error { error: IcmpError::TooBig { .. }, .. } => {
                self.too_big += 1;
                true
            }
            Inbound::Error { .. } => {
                self.refused += 1;
                true
            }
            Inbound::EchoReply { .. } => false,
        }
    }
}

/// The first 16 bytes of every datagram of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) struct FlowHeader {
    /// The sending application's random number.
    pub(in crate::host) flow: u64,
    /// Counts from zero.
    pub(in crate::host) sequence: u64,
}

impl FlowHeader {
    const LEN: usize = 16;

    pub(in crate::host) fn read(payload: &[u8]) -> Option<Self> {
        let (flow, rest) = payload.split_first_chunk()?;
        let sequence = rest.first_chunk()?;
        Some(Self { flow: u64::from_be_bytes(*flow), sequence: u64::from_be_bytes(*sequence) })
    }

    fn write(self, len: usize) -> Vec<u8> {
        let mut head = [0; Self::LEN];
        head[..8].copy_from_slice(&self.flow.to_be_bytes());
        head[8..].copy_from_slice(&self.sequence.to_be_bytes());
        fill(&head, len.max(Self::LEN))
    }
}

pub(super) struct FlowTask {
    flow: Flow,
    started: Instant,
    port: u16,
    nonce: u64,
    destination: SocketAddr,
    next: u64,
}

impl FlowTask {
    pub(super) fn new(started: Instant, mut flow: Flow, peer: IpAddr, port: u16, nonce: u64) -> Self {
        flow.count = flow.count.min(FLOW_LIMIT);
        let service = match flow.end {
            FlowEnd::Echo => UDP_ECHO_PORT,
            FlowEnd::Sink => UDP_SINK_PORT,
        };
        Self { flow, started, port, nonce, destination: SocketAddr::new(peer, service), next: 0 }
    }

    /// Sends due datagrams; true if nothing is left to do or to wait for.
    pub(super) fn wake(&mut self, outlet: &mut Outlet<'_>, report: &mut FlowReport) -> bool {
        report.flow = self.nonce;
        report.begun = Some(self.started);
        while self.next < self.flow.count && self.due(self.next) <= outlet.now {
            let datagram = FlowHeader { flow: self.nonce, sequence: self.next }.write(self.flow.payload);
            match outlet.udp(self.port, self.destination, &datagram) {
                Ok(()) => report.sent += 1,
                Err(Unsent::TooBig | Unsent::NoAddress | Unsent::QueueFull) => report.unsent += 1,
            }
            self.next += 1;
        }
        let everything_back = self.flow.end == FlowEnd::Sink || report.returned.received == report.sent;
        self.next == self.flow.count && (everything_back || outlet.now >= self.deadline())
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.next < self.flow.count { self.due(self.next) } else { self.due(self.next.saturating_sub(1)) + LINGER }
    }

    /// When a datagram has to be sent. It is computed from the start, so that rounding errors do not add up.
    fn due(&self, sequence: u64) -> Instant {
        let nanos = u128::from(sequence) * self.flow.interval.as_nanos();
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
