//! ICMP echo. A probe is one packet of exactly the given size. Its answer is compared byte for byte.

use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::time::Instant;

use super::{Inbound, fill};
use crate::host::headers::overhead;
use crate::host::outlet::{Outlet, Unsent};
use crate::net::packet::IcmpError;

/// Most probes of one application: sequence numbers have 16 bits (RFC 792).
pub const PROBE_LIMIT: u32 = 65_536;

/// ICMP echo requests to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// How many; at most [`PROBE_LIMIT`] are sent.
    pub count: u32,
    /// The time between two requests.
    pub interval: Duration,
    /// How large each is.
    pub size: EchoSize,
    /// How long each waits for its answer.
    pub timeout: Duration,
}

impl Default for Echo {
    /// As `ping`: 56 bytes of payload every second. Here ten times, and each waits ten seconds.
    fn default() -> Self {
        Self {
            count: 10,
            interval: Duration::from_secs(1),
            size: EchoSize::Payload(56),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The size of a probe in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoSize {
    /// Bytes after the ICMP header.
    Payload(usize),
    /// Bytes of the whole IP packet; at least 28 for IPv4, 48 for IPv6.
    Packet(usize),
}

/// The outcome of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// No answer yet.
    Waiting,
    /// The right answer came back.
    Answered {
        /// Round-trip time in nanoseconds.
        rtt_ns: u64,
    },
    /// No answer in time.
    Lost,
    /// Packet Too Big, or fragmentation needed.
    TooBig {
        /// The largest packet that would fit, in bytes, as the message says.
        mtu: u32,
    },
    /// Another ICMP error.
    Refused(IcmpError),
    /// The virtual interface did not take it: no address yet, or a full queue.
    Unsent,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent.
    pub sent: Instant,
    /// Its outcome.
    pub outcome: ProbeOutcome,
}

/// What an [`Echo`] has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EchoReport {
    /// Every probe, in the order sent.
    pub probes: Vec<Probe>,
    /// Bytes of each probe as an IP packet.
    pub packet_bytes: usize,
    /// Right answers to a probe that was answered before.
    pub duplicates: u64,
    /// Right answers that came after the timeout of their probe.
    pub late: u64,
    /// Answers with other bytes than were sent.
    pub corrupt: u64,
    peer: Option<IpAddr>,
}

impl EchoReport {
    /// Round-trip times in nanoseconds of the probes that were answered, in the order sent.
    pub fn rtts_ns(&self) -> impl Iterator<Item = u64> {
        self.probes.iter().filter_map(|probe| match probe.outcome {
            ProbeOutcome::Answered { rtt_ns } => Some(rtt_ns),
            _ => None,
        })
    }

    /// How many probes were answered.
    pub fn answered(&self) -> usize {
        self.rtts_ns().count()
    }

    pub(super) fn receive(&mut self, inbound: &Inbound<'_>, now: Instant, nonce: u64) -> bool {
        match *inbound {
            Inbound::EchoReply { from, seq, data } => {
                let len = self.packet_bytes.saturating_sub(overhead(from));
                let Some(probe) = self.probes.get_mut(usize::from(seq)) else { return false };
                if self.peer != Some(from) || data != payload(nonce, seq, len) {
                    self.corrupt += 1;
                    return true;
                }
                match probe.outcome {
                    ProbeOutcome::Answered { .. } => self.duplicates += 1,
                    ProbeOutcome::Lost => self.late += 1,
                    _ => {
                        let rtt_ns = now.as_nanos() - probe.sent.as_nanos();
                        probe.outcome = ProbeOutcome::Answered { rtt_ns };
                    }
                }
                true
            }
            Inbound::Error { error: IcmpError::TooBig { mtu }, seq } => {
                self.conclude(seq, ProbeOutcome::TooBig { mtu })
            }
            Inbound::Error { error, seq } => self.conclude(seq, ProbeOutcome::Refused(error)),
            Inbound::Datagram { .. } => false,
        }
    }

    fn conclude(&mut self, seq: u16, outcome: ProbeOutcome) -> bool {
        let Some(probe) = self.probes.get_mut(usize::from(seq)) else { return false };
        if probe.outcome == ProbeOutcome::Waiting {
            probe.outcome = outcome;
        }
        true
    }
}

/// The application's number, the probe's number, and filler, cut to the length.
fn payload(nonce: u64, seq: u16, len: usize) -> Vec<u8> {
    let mut head = [0; 12];
    head[..8].copy_from_slice(&nonce.to_be_bytes());
    head[8..].copy_from_slice(&u32::from(seq).to_be_bytes());
    fill(&head, len)
}

pub(super) struct EchoTask {
    echo: Echo,
    peer: IpAddr,
    ident: u16,
    nonce: u64,
    next: Instant,
    /// The first probe that may still be waiting: they time out in the order sent.
    oldest: usize,
}

impl EchoTask {
    pub(super) fn new(now: Instant, mut echo: Echo, peer: IpAddr, ident: u16, nonce: u64) -> Self {
        echo.count = echo.count.min(PROBE_LIMIT);
        Self { echo, peer, ident, nonce, next: now, oldest: 0 }
    }

    /// Sends due probes and gives up those that have waited too long; true if nothing is left to do.
    pub(super) fn wake(&mut self, outlet: &mut Outlet<'_>, report: &mut EchoReport) -> bool {
        while self.to_send(report) && self.next <= outlet.now {
            self.send(outlet, report);
            self.next += self.echo.interval;
        }
        while let Some(probe) = report.probes.get_mut(self.oldest) {
            if probe.outcome == ProbeOutcome::Waiting {
                if probe.sent + self.echo.timeout > outlet.now {
                    break;
                }
                probe.outcome = ProbeOutcome::Lost;
            }
            self.oldest += 1;
        }
        !self.to_send(report) && self.oldest == report.probes.len()
    }

    /// The machine was suspended for so long.
    pub(super) fn stand_still(&mut self, lasted: Duration) {
        self.next += lasted;
    }

    pub(super) fn deadline(&self, report: &EchoReport) -> Option<Instant> {
        let next = self.to_send(report).then_some(self.next);
        let timeout = report.probes.get(self.oldest).map(|probe| probe.sent + self.echo.timeout);
        [next, timeout].into_iter().flatten().min()
    }

    fn to_send(&self, report: &EchoReport) -> bool {
        report.probes.len() < self.echo.count as usize
    }

    fn send(&self, outlet: &mut Outlet<'_>, report: &mut EchoReport) {
        let seq = report.probes.len() as u16;
        let len = match self.echo.size {
            EchoSize::Payload(len) => len,
            EchoSize::Packet(len) => len.saturating_sub(overhead(self.peer)),
        };
        report.peer = Some(self.peer);
        report.packet_bytes = len + overhead(self.peer);
        let exact = matches!(self.echo.size, EchoSize::Packet(_));
        let outcome = match outlet.echo(self.peer, (self.ident, seq), &payload(self.nonce, seq, len), exact) {
            Ok(()) => ProbeOutcome::Waiting,
            Err(Unsent::TooBig) => ProbeOutcome::TooBig { mtu: outlet.config.mtu as u32 },
            Err(Unsent::NoAddress | Unsent::QueueFull) => ProbeOutcome::Unsent,
        };
        report.probes.push(Probe { sent: outlet.now, outcome });
    }
}
