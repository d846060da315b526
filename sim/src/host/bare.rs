//! TCP without a tunnel: transfers between the host's own addresses, a baseline for those inside of the overlay.
//!
//! The packets go by the same interfaces, links, NATs and firewalls as the underlay of the role. The TCP stack, its
//! buffers and its sink are as on the virtual interface. The bytes have no
//! [`MARKER`](super::apps::MARKER): they are sent in the clear on purpose.

use std::net::{IpAddr, SocketAddr};

use cyphonic_core::time::Instant;

use super::apps::{AppReport, Content, Outcome, Transfer, TransferError, TransferReport, TransferTask};
use super::count::{Loss, Losses, count};
use super::ports::TCP_SINK_PORT;
use super::sink::{SinkRecord, Sinks};
use super::stack::TcpStack;
use crate::net::packet::{Ip, Transport};

/// The local port of the first transfer: the begin of Linux's ephemeral ports. A role's connections have others.
const FIRST_PORT: u16 = 32_768;
/// Most transfers that one host begins.
pub const BARE_LIMIT: usize = 8192;

/// Transfers of one host without a tunnel.
pub(super) struct Bare {
    stack: TcpStack,
    sinks: Sinks,
    transfers: Vec<(Option<TransferTask>, AppReport)>,
    dirty: bool,
    deadline: Option<Instant>,
}

impl Bare {
    /// `mtu` determines the MSS.
    pub(super) fn new(seed: u64, mtu: usize, addresses: impl Iterator<Item = IpAddr>) -> Self {
        let mut bare = Self {
            stack: TcpStack::new(seed, mtu),
            sinks: Sinks::default(),
            transfers: Vec::new(),
            dirty: true,
            deadline: None,
        };
        bare.set_addresses(addresses);
        bare
    }

    /// Connections on an address that is gone are closed.
    pub(super) fn set_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.stack.set_addresses(addresses);
        self.dirty = true;
    }

    /// The machine wakes up after a suspension.
    pub(super) fn wake(&mut self, lasted: std::time::Duration) {
        self.stack.stand_still(lasted);
        self.dirty = true;
    }

    /// Begins a transfer between two addresses, of one family; `None` if there are none. Gives its number.
    pub(super) fn start(&mut self, now: Instant, ends: Option<(IpAddr, IpAddr)>, transfer: &Transfer) -> usize {
        assert!(self.transfers.len() < BARE_LIMIT, "more than {BARE_LIMIT} transfers of one host");
        let number = self.transfers.len();
        let port = FIRST_PORT + u16::try_from(number).expect("the limit is smaller");
        let task = ends.and_then(|(local, remote)| {
            TransferTask::new(&mut self.stack, transfer, SocketAddr::new(local, port), remote, Content::Unmarked)
        });
        let mut report = TransferReport::default();
        if task.is_none() {
            report.result = Some(Err(TransferError::NoAddress));
        }
        let finished = task.is_none().then_some(now);
        let report = AppReport { started: now, finished, resolution: None, outcome: Outcome::Transfer(report) };
        self.transfers.push((task, report));
        self.dirty = true;
        number
    }

    /// The connections to its sink, in the order accepted.
    pub(super) fn records(&self) -> &[SinkRecord] {
        self.sinks.records()
    }

    pub(super) fn report(&self, number: usize) -> &AppReport {
        &self.transfers[number].1
    }

    /// Whether a TCP packet to this host is one of its transfers'.
    pub(super) fn owns(packet: &[u8]) -> bool {
        let ports = FIRST_PORT..FIRST_PORT + BARE_LIMIT as u16;
        match Ip::parse(packet).and_then(|ip| ip.transport()) {
            Some(Transport::Tcp { destination, .. }) => destination == TCP_SINK_PORT || ports.contains(&destination),
            _ => false,
        }
    }

    pub(super) fn receive(&mut self, packet: Vec<u8>, losses: &mut Losses) {
        if !self.stack.receive(packet) {
            count(losses, Loss::QueueFull);
        }
        self.dirty = true;
    }

    /// Does everything that is due.
    pub(super) fn work(&mut self, now: Instant, losses: &mut Losses) {
        if !self.dirty && self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.dirty = false;
        loop {
            self.stack.poll(now);
            let mut again = self.sinks.service(now, &mut self.stack, losses);
            for (place, report) in &mut self.transfers {
                let (Some(task), Outcome::Transfer(seen)) = (&mut *place, &mut report.outcome) else { continue };
                again |= task.service(now, &mut self.stack, seen);
                if seen.result.is_some() {
                    report.finished = Some(now);
                    *place = None;
                }
            }
            if !again {
                break;
            }
        }
        let resumes = self.transfers.iter().filter_map(|(task, _)| task.as_ref()?.deadline());
        self.deadline = self.stack.deadline(now).into_iter().chain(resumes).min();
    }

    /// The next packet to send, and its source.
    pub(super) fn sent(&mut self) -> Option<(IpAddr, Vec<u8>)> {
        let packet = self.stack.sent()?;
        let source = Ip::parse(&packet).expect("smoltcp makes IP packets").source;
        Some((source, packet))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.dirty { Some(Instant::ZERO) } else { self.deadline }
    }
}
