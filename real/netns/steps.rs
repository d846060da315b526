//! Runs a scenario's steps on a lab, in the order and at the times of the simulator's harness.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cyphonic::drive;
use cyphonic::error::Failure;
use cyphonic_scenarios::log::{self, Entry, What};
use cyphonic_scenarios::{
    Action, Family, Far, Interface, Link, LinkAt, NatAt, Pair, Role, Scenario, SiteV4, SiteV6, Towards, Way,
};
use cyphonic_wire::{Faces, PathConfig, of_path, of_way};
use rustix::process::Signal;

use super::apps;
use super::build::{self, Lab};
use super::daemons::{Daemons, wait_until};
use super::impair::{Impair, Order};
use super::layout::{
    FIRST_GENERATION, Layout, addresses_of, carrier_name, device_in, device_mtu, node_host, out, refilter, router_name,
};
use super::refuse::Limit;

/// The port of a step's sink: of the first step; the others follow.
const SINK_PORT: u16 = 5001;
/// The port to which datagrams go: discard (RFC 863).
const DISCARD: u16 = 9;

/// How long a node may take to notice that it is elsewhere.
const NOTICED: Duration = Duration::from_secs(5);

/// A lab with everything that steps reach for.
pub(super) struct StepRunner<'a> {
    pub(super) lab: &'a Lab,
    pub(super) scenario: &'a Scenario,
    pub(super) layout: &'a Layout,
    pub(super) daemons: &'a Daemons<'a>,
    pub(super) impair: &'a Mutex<Impair>,
    pub(super) limit: &'a Limit,
    /// Of the run: when steps with a spread start.
    pub(super) seed: u64,
}

/// What the steps showed.
pub(super) struct Shown {
    /// Beginnings and outcomes of steps.
    pub(super) entries: Vec<Entry>,
    /// What was not as it must be.
    pub(super) failures: Vec<String>,
}

impl StepRunner<'_> {
    /// Runs all steps; complete when each is.
    pub(super) fn run(&self) -> Shown {
        let begin = Instant::now();
        let end = begin + self.limit.after;
        let shown = Mutex::new(Shown { entries: Vec::new(), failures: Vec::new() });
        std::thread::scope(|scope| {
            // When the step before is complete: for the log, and by message.
            let mut before: Option<Receiver<u64>> = None;
            for (step, words) in self.scenario.steps.iter().enumerate() {
                let complete = match words.starts(self.seed, step) {
                    Some(at) => {
                        let due = begin + Duration::from_nanos(at.as_nanos());
                        std::thread::sleep(due.min(end).saturating_duration_since(Instant::now()));
                        None
                    }
                    // The step before it; later ones may still be under way.
                    None => before.take().and_then(|done| done.recv().ok()),
                };
                let (done, next) = channel();
                before = Some(next);
                let starts = complete.unwrap_or_else(now_ns);
                tell(&shown, starts, What::Step { step });
                let shown = &shown;
                scope.spawn(move || {
                    match self.step(step, &words.action, end) {
                        Ok(Some(outcome)) => tell(shown, now_ns(), What::Outcome { step, outcome }),
                        Ok(None) => {}
                        Err(failure) => {
                            shown.lock().expect("no holder panics").failures.push(format!("step {step}: {failure}"));
                        }
                    }
                    // A move is complete at once: what the node does about it belongs to what follows.
                    let is_move = matches!(words.action, Action::Move { .. });
                    let _ = done.send(if is_move { starts } else { now_ns() });
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
                // With the final dot no search list is tried after a refusal, as in the simulator.
                let mut child = apps::ping(&mut command, &format!("{name}."), probes).map_err(Failure::other)?;
                wait_until(&mut child, end);
                let mut said = String::new();
                let _ = child.stdout.take().map(|mut output| output.read_to_string(&mut said));
                Ok(Some(log::echoes(apps::answered(&said), probes.count)))
            }
            Action::Tcp { pair, bytes, .. } => {
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
            Action::Path { site, far, towards, family, way } => {
                self.set_path(*site, *far, *towards, *family, way);
                Ok(None)
            }
            Action::Restart(role) => self.daemons.restart(self.host_of(*role)).map(|()| None),
            Action::Renew(node) => {
                self.daemons.renew(node_host(self.scenario, *node), &self.scenario.nodes[*node].name).map(|()| None)
            }
            Action::Rules(rules) => self.daemons.change_rules(rules).map(|()| None),
            Action::Pause { role, lasts } => {
                let host = self.host_of(*role);
                self.daemons.signal(host, Signal::STOP);
                std::thread::sleep((Instant::now() + *lasts).min(end).saturating_duration_since(Instant::now()));
                self.daemons.signal(host, Signal::CONT);
                Ok(None)
            }
            Action::Stop(node) => {
                self.daemons.kill(node_host(self.scenario, *node));
                Ok(None)
            }
            Action::Move { node, to } => self.move_node(*node, to).map(|()| None),
            Action::NatReboot(at) => self.reboot_nats(*at).map(|()| None),
            Action::Firewall { site, firewall } => {
                // No two steps have the same.
                let generation = FIRST_GENERATION + 1 + u32::try_from(step).map_err(Failure::other)?;
                let router = router_name(&self.scenario.sites[*site]);
                build::rules(self.lab, &router, &refilter(firewall, generation)).map(|()| None)
            }
            Action::Revoke(_)
            | Action::Expire(_)
            | Action::RenewRunning(_)
            | Action::RestartInOrder(_)
            | Action::StopInOrder(_)
            | Action::Attach { .. }
            | Action::Detach { .. }
            | Action::Rebind { .. }
            | Action::BareTcp { .. }
            | Action::Suspend { .. }
            | Action::Clock { .. }
            | Action::DiskFull(_)
            | Action::ProbeMtu(_) => Err(Failure::other("this was to be refused")),
        }
    }

    fn host_of(&self, role: Role) -> &str {
        match role {
            Role::Service(service) => service.name(),
            Role::Node(node) => node_host(self.scenario, node),
        }
    }

    /// A node leaves the network that it is in for another one.
    fn move_node(&self, node: usize, to: &Interface) -> Result<(), Failure> {
        let name = node_host(self.scenario, node);
        let device = device_in(self.scenario, node, to.site);
        let host = self.layout.hosts.iter().find(|host| host.name == name).expect("every node has a host");
        let built = host.devices.iter().find(|known| known.name == device).expect("with a device for every move");
        let mut device = out(built.mtu, addresses_of(to));
        device.name.clone_from(&built.name);
        build::move_to(self.lab, host, &device)?;
        // The simulator's node knows at once; a daemon waits until the kernel has no more to tell.
        let end = Instant::now() + NOTICED;
        while !self.daemons.knows_its_addresses(name, &device.addresses).unwrap_or(true) {
            if Instant::now() >= end {
                return Err(Failure::other(format!("{name} did not notice that it is elsewhere")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Every NAT of a place forgets its mappings.
    fn reboot_nats(&self, at: NatAt) -> Result<(), Failure> {
        let (host, families) = match at {
            NatAt::Carrier(carrier) => (carrier_name(&self.scenario.carriers[carrier]), vec![true]),
            NatAt::Site(site) => {
                let site = &self.scenario.sites[site];
                let v4 = matches!(site.v4, Some(SiteV4::Private { .. })).then_some(true);
                let v6 = matches!(site.v6, Some(SiteV6::Private { .. })).then_some(false);
                (router_name(site), v4.into_iter().chain(v6).collect())
            }
        };
        families.into_iter().try_for_each(|ipv4| build::forget(self.lab, &host, ipv4))
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
        // The sender has the hash, so the sink is not needed any more.
        let _ = sink.kill();
        let _ = sink.wait();
        Ok(ok)
    }

    /// The number of a link's wire.
    fn wire(&self, at: LinkAt) -> Option<usize> {
        self.layout.wires.iter().position(|wire| wire.at == Some(at))
    }

    /// Lets what goes between a site and a far end fare otherwise.
    fn set_path(&self, site: usize, far: Far, towards: Towards, family: Option<Family>, way: &Way) {
        let Some(wire) = self.wire(LinkAt::Site(site)) else { return };
        let seen_as = self.scenario.seen_as(far, family);
        let path = |faces| PathConfig { far: seen_as.clone(), faces, config: of_path(way) };
        let up = towards.is(true).then(|| path(Faces::Destination));
        let down = towards.is(false).then(|| path(Faces::Source));
        let order = Order::Path { wire, name: format!("{far:?} {family:?}"), paths: Box::new([up, down]) };
        self.impair.lock().expect("no holder panics").order(order);
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
            build::run(command.args(set), "")?;
        }
        Ok(())
    }
}

fn now_ns() -> u64 {
    u64::try_from(drive::since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// Logs what a step does.
fn tell(shown: &Mutex<Shown>, at_ns: u64, what: What) {
    let entry = Entry { cell: 0, at_ns, host: "lab".to_owned(), what };
    shown.lock().expect("no holder panics").entries.push(entry);
}
