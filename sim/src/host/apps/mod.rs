//! Applications on a node's virtual interface.
//!
//! A harness starts an [`App`] and reads its [`AppReport`] whenever it likes. An application whose target is a name
//! resolves the name first, by its own DNS query, and keeps the address. So a flow that was started before a move goes
//! to the same virtual address after it.
//!
//! Every application has its own slot. The slot determines its UDP and TCP port and its ICMP identifier, so an arriving
//! packet names its application. A payload is a random number of the application followed by repeated [`MARKER`]s, so
//! that a test can look for plaintext in any packet.

mod arrivals;
mod echo;
mod flow;
mod resolve;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::time::Instant;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub use arrivals::{Arrivals, FLOW_LIMIT};
pub use echo::{Echo, EchoReport, EchoSize, PROBE_LIMIT, Probe, ProbeOutcome};
pub(super) use flow::FlowHeader;
pub use flow::{Flow, FlowEnd, FlowReport};
pub use resolve::{Resolution, ResolveError};
pub(super) use transfer::{Content, TransferTask};
pub use transfer::{Transfer, TransferError, TransferReport};

use super::outlet::Outlet;
use super::stack::TcpStack;
use crate::net::packet::IcmpError;
use echo::EchoTask;
use flow::FlowTask;
use resolve::Resolver;

/// How many applications of one host may run, or have a report that was not yet taken, at once.
pub const APP_LIMIT: usize = 8192;

/// Repeated in every payload of an application. A test fails if it sees these bytes on an underlay wire.
pub const MARKER: [u8; 16] = *b"<cyphonic-plain>";

/// The slot of an application is its identifier modulo this number. It is twice the limit, so that at least
/// [`APP_LIMIT`] other applications start before a slot is used again.
const SLOTS: u64 = 2 * APP_LIMIT as u64;

/// The UDP and TCP port, and ICMP identifier, of slot zero.
const FIRST_PORT: u16 = 49_152;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The peer of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node, by name.
    Name(Fqdn, Family),
    /// A node, by virtual address.
    Address(IpAddr),
}

/// An application to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// Only resolves a name.
    Resolve(Fqdn, Family),
    /// Sends ICMP echo requests.
    Echo(Target, Echo),
    /// Sends UDP datagrams at a steady rate.
    Flow(Target, Flow),
    /// Sends bytes over TCP and has their hash checked.
    Transfer(Target, Transfer),
}

/// Names an application of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppId(pub u64);

/// What an application has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppReport {
    /// When it was started.
    pub started: Instant,
    /// When it had sent everything and waited for nothing more; `None` before that.
    pub finished: Option<Instant>,
    /// How its peer's name was resolved, if it was given a name.
    pub resolution: Option<Resolution>,
    /// What it was started for.
    pub outcome: Outcome,
}

/// What an application of each kind has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// See [`AppReport::resolution`].
    Resolve,
    /// Of [`App::Echo`].
    Echo(EchoReport),
    /// Of [`App::Flow`].
    Flow(FlowReport),
    /// Of [`App::Transfer`].
    Transfer(TransferReport),
}

impl AppReport {
    /// The echo report, if that is what ran.
    pub fn echo(&self) -> Option<&EchoReport> {
        if let Outcome::Echo(report) = &self.outcome { Some(report) } else { None }
    }

    /// The flow report, if that is what ran.
    pub fn flow(&self) -> Option<&FlowReport> {
        if let Outcome::Flow(report) = &self.outcome { Some(report) } else { None }
    }

    /// The transfer report, if that is what ran.
    pub fn transfer(&self) -> Option<&TransferReport> {
        if let Outcome::Transfer(report) = &self.outcome { Some(report) } else { None }
    }
}

/// A packet that arrived for an application.
pub(super) enum Inbound<'a> {
    Datagram {
        from: SocketAddr,
        payload: &'a [u8],
    },
    EchoReply {
        from: IpAddr,
        seq: u16,
        data: &'a [u8],
    },
    /// An ICMP error about a packet of this application; for an echo, `seq` says which.
    Error {
        error: IcmpError,
        seq: u16,
    },
}

/// Every application of one host.
pub(super) struct Apps {
    by_slot: BTreeMap<u16, (AppId, Running)>,
    running: BTreeSet<u16>,
    next: u64,
    rng: ChaCha8Rng,
}

impl Apps {
    pub(super) fn new(seed: u64) -> Self {
        Self { by_slot: BTreeMap::new(), running: BTreeSet::new(), next: 0, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    pub(super) fn start(&mut self, now: Instant, app: App) -> AppId {
        assert!(self.by_slot.len() < APP_LIMIT, "more than {APP_LIMIT} applications on one host: take their reports");
        while self.by_slot.contains_key(&slot_of(self.next)) {
            self.next += 1;
        }
        let id = AppId(self.next);
        let slot = slot_of(id.0);
        self.next += 1;
        let port = FIRST_PORT + slot;
        let running = Running::new(now, app, port, self.rng.next_u64());
        self.by_slot.insert(slot, (id, running));
        self.running.insert(slot);
        id
    }

    pub(super) fn report(&self, id: AppId) -> Option<&AppReport> {
        let (found, running) = self.by_slot.get(&slot_of(id.0))?;
        (*found == id).then_some(&running.report)
    }

    pub(super) fn take_report(&mut self, id: AppId) -> Option<AppReport> {
        self.report(id)?.finished?;
        self.by_slot.remove(&slot_of(id.0)).map(|(_, running)| running.report)
    }

    /// How many applications are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.running.len()
    }

    /// Gives a packet to the application with this port or ICMP identifier; true if the application expected it.
    pub(super) fn receive(&mut self, port: u16, inbound: &Inbound<'_>, now: Instant) -> bool {
        let slot = port.checked_sub(FIRST_PORT);
        let running = slot.and_then(|slot| self.by_slot.get_mut(&slot));
        running.is_some_and(|(_, running)| running.receive(inbound, now))
    }

    /// Lets every application do everything that is due.
    pub(super) fn wake(&mut self, outlet: &mut Outlet<'_>, stack: &mut TcpStack) {
        let Self { by_slot, running, .. } = self;
        running.retain(|slot| {
            let (_, running) = by_slot.get_mut(slot).expect("what runs has a slot");
            running.wake(outlet, stack);
            running.report.finished.is_none()
        });
    }

    /// Lets every application read and write its TCP connection; true if the stack must be polled again.
    pub(super) fn service(&mut self, now: Instant, stack: &mut TcpStack) -> bool {
        let Self { by_slot, running, .. } = self;
        let mut again = false;
        running.retain(|slot| {
            let (_, running) = by_slot.get_mut(slot).expect("what runs has a slot");
            again |= running.service(now, stack);
            running.report.finished.is_none()
        });
        again
    }

    /// The machine was suspended for so long. Rows of echoes go on where they were, as those of `ping` do.
    pub(super) fn stand_still(&mut self, lasted: Duration) {
        for (_, running) in self.by_slot.values_mut() {
            if let AppStage::Working(Task::Echo(task)) = &mut running.stage {
                task.stand_still(lasted);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.iter().filter_map(|slot| self.by_slot[slot].1.deadline()).min()
    }
}

fn slot_of(id: u64) -> u16 {
    (id % SLOTS) as u16
}

/// One application at work. Its task keeps the numbers in the report.
struct Running {
    plan: Plan,
    stage: AppStage,
    port: u16,
    nonce: u64,
    report: AppReport,
}

#[derive(Clone)]
enum Plan {
    Resolve,
    Echo(Echo),
    Flow(Flow),
    Transfer(Transfer),
}

enum AppStage {
    Resolving(Resolver),
    Ready(IpAddr),
    Working(Task),
    Finished,
}

enum Task {
    Echo(EchoTask),
    Flow(FlowTask),
    Transfer(Box<TransferTask>),
}

impl Running {
    fn new(started: Instant, app: App, port: u16, nonce: u64) -> Self {
        let (target, plan, outcome) = match app {
            App::Resolve(name, family) => (Target::Name(name, family), Plan::Resolve, Outcome::Resolve),
            App::Echo(target, echo) => (target, Plan::Echo(echo), Outcome::Echo(EchoReport::default())),
            App::Flow(target, flow) => (target, Plan::Flow(flow), Outcome::Flow(FlowReport::default())),
            App::Transfer(target, transfer) => {
                (target, Plan::Transfer(transfer), Outcome::Transfer(TransferReport::default()))
            }
        };
        let (stage, resolution) = match target {
            Target::Address(address) => (AppStage::Ready(address), None),
            Target::Name(name, family) => {
                (AppStage::Resolving(Resolver::new(started, &name, family, nonce as u16)), Some(Resolution::default()))
            }
        };
        Self { plan, stage, port, nonce, report: AppReport { started, finished: None, resolution, outcome } }
    }

    fn receive(&mut self, inbound: &Inbound<'_>, now: Instant) -> bool {
        match (&mut self.stage, &mut self.report) {
            (AppStage::Resolving(resolver), AppReport { resolution: Some(resolution), .. }) => {
                resolver.receive(inbound, now, resolution)
            }
            // An echo reply that arrives after the end is still counted: it may be a duplicate.
            (_, AppReport { outcome: Outcome::Echo(report), .. }) => report.receive(inbound, now, self.nonce),
            (_, AppReport { outcome: Outcome::Flow(report), .. }) => report.receive(inbound, now, self.nonce),
            (_, AppReport { outcome: Outcome::Transfer(report), .. }) => report.receive(inbound),
            _ => false,
        }
    }

    fn wake(&mut self, outlet: &mut Outlet<'_>, stack: &mut TcpStack) {
        let now = outlet.now;
        if let (AppStage::Resolving(resolver), Some(resolution)) = (&mut self.stage, &mut self.report.resolution) {
            resolver.wake(outlet, self.port, resolution);
            match resolution.result {
                None => return,
                Some(Err(_)) => self.finish(now),
                Some(Ok(address)) => self.stage = AppStage::Ready(address),
            }
        }
        if let AppStage::Ready(address) = self.stage {
            self.begin(address, outlet, stack);
        }
        if let AppStage::Working(task) = &mut self.stage {
            let finished = match (task, &mut self.report.outcome) {
                (Task::Echo(task), Outcome::Echo(report)) => task.wake(outlet, report),
                (Task::Flow(task), Outcome::Flow(report)) => task.wake(outlet, report),
                _ => false,
            };
            if finished {
                self.finish(now);
            }
        }
    }

    fn begin(&mut self, peer: IpAddr, outlet: &Outlet<'_>, stack: &mut TcpStack) {
        let now = outlet.now;
        match (&self.plan, &mut self.report.outcome) {
            (Plan::Echo(echo), _) => {
                self.stage =
                    AppStage::Working(Task::Echo(EchoTask::new(now, echo.clone(), peer, self.port, self.nonce)));
            }
            (Plan::Flow(flow), _) => {
                self.stage =
                    AppStage::Working(Task::Flow(FlowTask::new(now, flow.clone(), peer, self.port, self.nonce)));
            }
            (Plan::Transfer(transfer), Outcome::Transfer(report)) => {
                let local = outlet.source_for(peer).map(|address| SocketAddr::new(address, self.port));
                if let Some(task) =
                    local.ok().and_then(|local| TransferTask::new(stack, transfer, local, peer, Content::Marked))
                {
                    self.stage = AppStage::Working(Task::Transfer(Box::new(task)));
                } else {
                    report.result = Some(Err(TransferError::NoAddress));
                    self.finish(now);
                }
            }
            _ => self.finish(now),
        }
    }

    fn service(&mut self, now: Instant, stack: &mut TcpStack) -> bool {
        let (AppStage::Working(Task::Transfer(task)), Outcome::Transfer(report)) =
            (&mut self.stage, &mut self.report.outcome)
        else {
            return false;
        };
        let again = task.service(now, stack, report);
        if report.result.is_some() {
            self.finish(now);
        }
        again
    }

    fn finish(&mut self, now: Instant) {
        self.stage = AppStage::Finished;
        self.report.finished = Some(now);
    }

    fn deadline(&self) -> Option<Instant> {
        match (&self.stage, &self.report.outcome) {
            (AppStage::Resolving(resolver), _) => Some(resolver.deadline()),
            (AppStage::Working(Task::Echo(task)), Outcome::Echo(report)) => task.deadline(report),
            (AppStage::Working(Task::Flow(task)), _) => Some(task.deadline()),
            (AppStage::Working(Task::Transfer(task)), _) => task.deadline(),
            _ => None,
        }
    }
}

/// Fills `payload` after `head` bytes with [`MARKER`], over and over.
fn fill(head: &[u8], len: usize) -> Vec<u8> {
    head.iter().copied().chain(MARKER.iter().copied().cycle()).take(len).collect()
}
