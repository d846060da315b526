//! Runs a scenario's steps on a lab, in the order and at the times of the simulator's harness.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cyphonic::error::Failure;
use cyphonic::files;
use cyphonic_scenarios::log::{self, Entry, What};
use cyphonic_scenarios::{Action, Link, LinkAt, Pair, Role, Scenario};
use cyphonic_wire::of_way;

use super::apps;
use super::build::Lab;
use super::daemons::{Daemons, wait_until};
use super::impair::{Impair, Order};
use super::layout::{Layout, device_mtu, node_host};
use super::refuse::Limit;

/// The port of a step's sink: of the first step; the others follow.
const SINK_PORT: u16 = 5001;
/// The port to which datagrams go: discard (RFC 863).
const DISCARD: u16 = 9;

/// A lab with everything that steps reach for.
pub(super) struct Stage<'a> {
    pub(super) lab: &'a Lab,
    pub(super) scenario: &'a Scenario,
    pub(super) layout: &'a Layout,
    pub(super) daemons: &'a Daemons<'a>,
    pub(super) impair: &'a Mutex<Impair>,
    pub(super) limit: &'a Limit,
}

/// What the steps showed.
pub(super) struct Shown {
    /// Beginnings and outcomes of steps.
    pub(super) entries: Vec<Entry>,
    /// What was not as it must be.
    pub(super) failures: Vec<String>,
}

impl Stage<'_> {
    /// Runs all steps; complete when each is.
    pub(super) fn run(&self) -> Shown {
        let begin = Instant::now();
        let end = begin + self.limit.after;
        let shown = Mutex::new(Shown { entries: Vec::new(), failures: Vec::new() });
        std::thread::scope(|scope| {
            let mut before: Option<Receiver<()>> = None;
            for (step, words) in self.scenario.steps.iter().enumerate() {
                match words.at {
                    Some(at) => {
                        let due = begin + Duration::from_nanos(at.as_nanos());
                        std::thread::sleep(due.min(end).saturating_duration_since(Instant::now()));
                    }
                    // The step before it; later ones may still be under way.
                    None => drop(before.take().map(|done| done.recv())),
                }
                let (done, next) = channel();
                before = Some(next);
                tell(&shown, What::Step { step });
                let shown = &shown;
                scope.spawn(move || {
                    match self.step(step, &words.action, end) {
                        Ok(Some(outcome)) => tell(shown, What::Outcome { step, outcome }),
                        Ok(None) => {}
                        Err(failure) => {
                            shown.lock().expect("no holder panics").failures.push(format!("step {step}: {failure}"));
                        }
                    }
                    let _ = done.send(());
                });
            }
        });
        let mut shown = shown.into_inner().expect("no holder panics");
        let idle = matches!(self.scenario.steps.last().map(|step| &step.action), Some(Action::Idle));
        if Instant::now() >= end && !(idle && self.limit.after == self.scenario.duration_limit) {
            shown.failures.push(format!("the run took {} s: {}", self.limit.after.as_secs(), self.limit.why));
        }
        shown
    }

    fn step(&self, step: usize, action: &Action, end: Instant) -> Result<Option<String>, Failure> {
        match action {
            Action::Start { nodes, give_up } => {
                self.start(nodes, give_up.map(|limit| Instant::now() + limit), end).map(|()| None)
            }
            Action::Echo(probes) => {
                let mut command = self.lab.command(node_host(self.scenario, probes.pair.from), "ping");
                let name = &self.scenario.nodes[probes.pair.to].name;
                let mut child = apps::ping(&mut command, name.as_str(), probes).map_err(Failure::other)?;
                wait_until(&mut child, end);
                let mut said = String::new();
                let _ = child.stdout.take().map(|mut output| output.read_to_string(&mut said));
                Ok(Some(log::echoes(apps::answered(&said), probes.count)))
            }
            Action::Tcp { pair, bytes } => {
                self.transfer(step, *pair, *bytes, end).map(|ok| Some(log::transfer(*bytes, ok)))
            }
            Action::Udp(probes) => {
                let micros = u64::try_from(probes.interval.as_micros()).unwrap_or(u64::MAX);
                let numbers = [u64::from(probes.count), micros, u64::from(probes.payload_bytes)].map(|n| n.to_string());
                let mut child = self.app(probes.pair, "flow", DISCARD, &numbers)?;
                let ok = wait_until(&mut child, end).is_some_and(|status| status.success());
                Ok(Some(log::datagrams(if ok { probes.count.into() } else { 0 })))
            }
            Action::Wait(duration) => {
                std::thread::sleep((Instant::now() + *duration).min(end).saturating_duration_since(Instant::now()));
                Ok(None)
            }
            Action::Idle => {
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
                Ok(None)
            }
            Action::Link { at, link } => self.set_link(*at, link).map(|()| None),
            Action::LinkUp { at, up } => {
                if let Some(wire) = self.wire(*at) {
                    self.impair.lock().expect("no holder panics").order(Order::Up(wire, *up));
                }
                Ok(None)
            }
            Action::Restart(role) => {
                let host = match role {
                    Role::Service(service) => service.name(),
                    Role::Node(node) => node_host(self.scenario, *node),
                };
                self.daemons.restart(host).map(|()| None)
            }
            Action::Stop(node) => {
                self.daemons.kill(node_host(self.scenario, *node));
                Ok(None)
            }
            Action::Revoke(_)
            | Action::Move { .. }
            | Action::ProbeMtu(_)
            | Action::NatReboot(_)
            | Action::Firewall { .. } => Err(Failure::other("this was to be refused")),
        }
    }

    fn start(&self, nodes: &[usize], give_up: Option<Instant>, end: Instant) -> Result<(), Failure> {
        let mut starting = Vec::new();
        for &node in nodes {
            starting.push(self.daemons.start(node_host(self.scenario, node))?);
        }
        let end = give_up.map_or(end, |at| at.min(end));
        for (started, &node) in starting.iter().zip(nodes) {
            let left = end.saturating_duration_since(Instant::now());
            if !self.daemons.wait(started, left)? && give_up.is_none() {
                return Err(Failure::other(format!("{} did not register", node_host(self.scenario, node))));
            }
        }
        Ok(())
    }

    /// This program in the namespace of the node that begins, told whom to talk to.
    fn app(&self, pair: Pair, app: &str, port: u16, numbers: &[String]) -> Result<std::process::Child, Failure> {
        let program = std::env::current_exe().map_err(Failure::other)?;
        let mut command = self.lab.command(node_host(self.scenario, pair.from), program);
        command.args(["app", app, self.scenario.nodes[pair.to].name.as_str(), &port.to_string(), pair.family.name()]);
        command.args(numbers).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(Failure::other)
    }

    fn transfer(&self, step: usize, pair: Pair, bytes: u64, end: Instant) -> Result<bool, Failure> {
        let port = SINK_PORT + u16::try_from(step).unwrap_or(0);
        let program = std::env::current_exe().map_err(Failure::other)?;
        let mut command = self.lab.command(node_host(self.scenario, pair.to), program);
        command.args(["app", "sink", &port.to_string(), pair.family.name()]);
        let mut sink = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Failure::other)?;
        let mut ready = String::new();
        let _ = sink.stdout.take().map(|output| BufReader::new(output).read_line(&mut ready));
        let mut sender = self.app(pair, "send", port, &[bytes.to_string()])?;
        let ok = wait_until(&mut sender, end).is_some_and(|status| status.success());
        // Whoever heard its hash needs it no more.
        let _ = sink.kill();
        let _ = sink.wait();
        Ok(ok)
    }

    /// The number of a link's wire.
    fn wire(&self, at: LinkAt) -> Option<usize> {
        self.layout.wires.iter().position(|wire| wire.at == Some(at))
    }

    fn set_link(&self, at: LinkAt, link: &Link) -> Result<(), Failure> {
        let Some(index) = self.wire(at) else { return Ok(()) };
        let wire = &self.layout.wires[index];
        let broken = match at {
            LinkAt::Site(site) => self.scenario.sites[site].broken,
            LinkAt::Service(_) | LinkAt::Carrier(_) => None,
        };
        let [up, down] = [&link.up, &link.down].map(|way| of_way(way, wire.spent, broken));
        self.impair.lock().expect("no holder panics").order(Order::Configure(index, Box::new([up, down])));
        for ((host, device), config) in [(&wire.inner, up), (&wire.outer, down)] {
            let mtu = device_mtu(&config).to_string();
            let mut command = std::process::Command::new("ip");
            let set = ["-n", &self.lab.namespace(host), "link", "set", "dev", device, "mtu", &mtu];
            super::build::run(command.args(set), "")?;
        }
        Ok(())
    }
}

/// Logs what a step does.
fn tell(shown: &Mutex<Shown>, what: What) {
    let at_ns = u64::try_from(files::since_epoch().as_nanos()).unwrap_or(u64::MAX);
    let entry = Entry { cell: 0, at_ns, host: "lab".to_owned(), what };
    shown.lock().expect("no holder panics").entries.push(entry);
}
