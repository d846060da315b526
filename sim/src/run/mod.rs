//! Runs the steps of a scenario on a network, and keeps what was seen.

mod probe;

use std::collections::BTreeMap;
use std::time::Duration;

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::node::{Node, NodeCommand};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Engine as EngineKind, Family as FamilyWord, Pair, Probes, Role, Scenario};

use crate::hex;
use crate::host::Host;
use crate::host::apps::{App, AppId, AppReport, Echo, EchoSize, Family, Flow, FlowEnd, Target, Transfer};
use crate::net::{Storm, TapSummary};
use crate::seeded;
use crate::world::{Actor, PathWords, Watch, World};

pub use probe::MtuProbe;

/// How long the harness lets a network run before it looks again whether a step is complete.
const SLICE: Duration = Duration::from_millis(10);
/// How long an echo waits for its answer.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// What one run of a scenario showed.
pub struct Run {
    /// Every event of every role, in order, with the host's name.
    pub events: Vec<(Instant, String, Event)>,
    /// What each step did.
    pub steps: Vec<StepReport>,
    /// When the run ended.
    pub ended: Instant,
    /// Whether every step was complete before the duration limit.
    pub complete: bool,
    /// What had to be stopped, because it would not have ended: then the run is not complete either.
    pub storm: Option<Storm>,
    /// How often each role dropped something.
    pub drops: BTreeMap<(String, DropReason), u64>,
    /// How long each table of each role was at most, at the start of any step and at the end.
    pub tables: BTreeMap<(String, &'static str), usize>,
    /// What was on every wire, by name.
    pub taps: BTreeMap<String, TapSummary>,
    /// The network, for what taps kept.
    pub world: World,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// When it started.
    pub started: Instant,
    /// When the harness saw that it was complete.
    pub completed: Option<Instant>,
    /// What its application saw.
    pub outcome: StepOutcome,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub enum StepOutcome {
    /// Steps without an application.
    None,
    /// Of echo, TCP and UDP.
    App(Pair, Box<AppReport>),
    /// Of TCP without a tunnel: the two nodes.
    Bare((usize, usize), Box<AppReport>),
    /// Of `probe_mtu`.
    Mtu(Pair, MtuProbe),
}

impl Run {
    /// One digest over everything on every wire: two runs with the same one had the same packets at the same times.
    pub fn digest(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for (name, tap) in &self.taps {
            context.update(name.as_bytes());
            context.update(&[0]);
            context.update(&tap.packets.to_be_bytes());
            context.update(&tap.digest);
        }
        hex(&context.finish().as_ref()[..16])
    }

    /// What the applications of echo, TCP and UDP steps saw, in order.
    pub fn reports(&self) -> impl Iterator<Item = (&Pair, &AppReport)> {
        self.steps.iter().filter_map(|step| match &step.outcome {
            StepOutcome::App(pair, report) => Some((pair, &**report)),
            StepOutcome::None | StepOutcome::Bare(..) | StepOutcome::Mtu(..) => None,
        })
    }

    /// What TCP without a tunnel saw, in order of the steps: the two nodes, and the report.
    pub fn bare(&self) -> impl Iterator<Item = ((usize, usize), &AppReport)> {
        self.steps.iter().filter_map(|step| match &step.outcome {
            StepOutcome::Bare(pair, report) => Some((*pair, &**report)),
            StepOutcome::None | StepOutcome::App(..) | StepOutcome::Mtu(..) => None,
        })
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, seed: u64, engine: EngineKind, watch: &Watch) -> Run {
    run_in(World::new(scenario, seed, engine, watch), scenario, seed, watch)
}

/// As [`run`], in a world that was made for this scenario and seed, and perhaps spoiled.
pub fn run_in(world: World, scenario: &Scenario, seed: u64, watch: &Watch) -> Run {
    let mut runner = Runner { scenario, seed, world, active: Vec::new(), steps: Vec::new(), tables: BTreeMap::new() };
    let complete = runner.run(watch);
    runner.measure();
    let Runner { mut world, active, mut steps, tables, .. } = runner;
    for (index, doing) in active {
        match doing {
            Doing::App { pair, app } => {
                let report = world.look(pair.from, |host| host.report(app).clone());
                steps[index].outcome = StepOutcome::App(pair, Box::new(report));
            }
            Doing::Bare { pair, number } => {
                let report = world.look(pair.0, |host| host.bare_report(number).clone());
                steps[index].outcome = StepOutcome::Bare(pair, Box::new(report));
            }
            Doing::Registration(..) | Doing::Until(_) | Doing::Probing(_) => {}
        }
    }
    let events = world.drain_events();
    let (drops, taps, storm) = (world.drops(), world.network().taps(), world.network().storm());
    Run { events, steps, ended: world.now(), complete: complete && storm.is_none(), storm, drops, tables, taps, world }
}

struct Runner<'a> {
    scenario: &'a Scenario,
    seed: u64,
    world: World,
    /// Steps under way.
    active: Vec<(usize, Doing)>,
    steps: Vec<StepReport>,
    /// See [`Run::tables`].
    tables: BTreeMap<(String, &'static str), usize>,
}

/// What a step under way waits for.
enum Doing {
    /// These nodes to be registered, or this time.
    Registration(Vec<usize>, Option<Instant>),
    /// An application of a node.
    App { pair: Pair, app: AppId },
    /// A transfer without a tunnel, by its number at the first node.
    Bare { pair: (usize, usize), number: usize },
    /// A time.
    Until(Instant),
    /// A search for the largest packet.
    Probing(Box<probe::Prober>),
}

impl Doing {
    /// When it has to be looked at, even if nothing happens in the network.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(*at),
            Self::Registration(_, give_up) => *give_up,
            Self::App { .. } | Self::Bare { .. } => None,
            // It acts by itself.
            Self::Probing(_) => Some(Instant::ZERO),
        }
    }
}

impl Runner<'_> {
    fn run(&mut self, watch: &Watch) -> bool {
        let scenario = self.scenario;
        let limit = Instant::ZERO + scenario.duration_limit;
        for (index, step) in scenario.steps.iter().enumerate() {
            let starts = step.starts(self.seed, index);
            let due = |this: &Self| match starts {
                Some(at) => this.world.now() >= at,
                // The step before it; later ones may still be under way.
                None => index == 0 || this.steps[index - 1].completed.is_some(),
            };
            while !due(self) {
                if self.world.now() >= limit || self.world.network().storm().is_some() {
                    return false;
                }
                self.advance(starts.into_iter().chain([limit]).min().unwrap_or(limit));
            }
            self.start(index, &step.action, watch);
        }
        while !self.active.is_empty() {
            if self.world.network().storm().is_some() {
                return false;
            }
            if self.world.now() >= limit {
                return matches!(scenario.steps.last().map(|s| &s.action), Some(Action::Idle));
            }
            self.advance(limit);
        }
        true
    }

    /// Lets the network run one slice, or until `at` if that comes first, and looks what is complete. Slices in which
    /// nothing can happen and nothing is due go by unseen.
    fn advance(&mut self, at: Instant) {
        let slice = |now: Instant| whole_millis((now + SLICE).min(at.max(now + Duration::from_millis(1))));
        let waits = self.active.iter().filter_map(|(_, doing)| doing.due());
        let due = waits.chain(self.world.quiet_until()).fold(at, Instant::min);
        let mut until = slice(self.world.now());
        while until < due {
            until = slice(until);
        }
        self.world.run_until(until);
        let mut active = std::mem::take(&mut self.active);
        active.retain_mut(|(index, doing)| !self.is_complete(*index, doing));
        self.active.append(&mut active);
    }

    /// Notes how long every table is.
    fn measure(&mut self) {
        for (host, tables) in self.world.tables() {
            for (table, count) in tables {
                let most = self.tables.entry((host.to_owned(), table)).or_default();
                *most = count.max(*most);
            }
        }
    }

    fn start(&mut self, index: usize, action: &Action, watch: &Watch) {
        self.measure();
        let now = self.world.now();
        self.steps.push(StepReport { started: now, completed: None, outcome: StepOutcome::None });
        let doing = match action {
            Action::Start { nodes, give_up } => {
                for &node in nodes {
                    self.world.node(node, |now, host| host.command(now, NodeCommand::Start));
                }
                Doing::Registration(nodes.clone(), give_up.map(|limit| now + limit))
            }
            Action::Echo(probes) => self.app(probes.pair, App::Echo(self.target(probes.pair), echo(probes))),
            Action::Udp(probes) => self.app(probes.pair, App::Flow(self.target(probes.pair), flow(probes))),
            Action::Tcp { pair, bytes, rate_bps } => {
                let transfer = self.content(index, *bytes, *rate_bps);
                self.app(*pair, App::Transfer(self.target(*pair), transfer))
            }
            Action::BareTcp { from, to, family, bytes, rate_bps } => {
                let transfer = self.content(index, *bytes, *rate_bps);
                let number = self.world.start_bare(*from, *to, *family, &transfer);
                Doing::Bare { pair: (*from, *to), number }
            }
            Action::Move { node, to } => {
                self.world.move_node(*node, to);
                Doing::Until(now)
            }
            Action::Attach { node, to } => {
                self.world.attach(*node, to);
                Doing::Until(now)
            }
            Action::Detach { node, site } => {
                self.world.detach(*node, *site);
                Doing::Until(now)
            }
            Action::Rebind { node, to } => {
                self.world.rebind(self.scenario, *node, *to);
                Doing::Until(now)
            }
            Action::Path { site, far, towards, family, way } => {
                let words = PathWords { far: *far, towards: *towards, family: *family, way };
                self.world.set_path(self.scenario, *site, &words);
                Doing::Until(now)
            }
            Action::NatReboot(at) => {
                self.world.reboot_nats(*at);
                Doing::Until(now)
            }
            Action::Firewall { site, firewall } => {
                self.world.set_firewall(*site, firewall);
                Doing::Until(now)
            }
            Action::Link { at, link } => {
                self.world.set_link(self.scenario, *at, link);
                Doing::Until(now)
            }
            Action::LinkUp { at, up } => {
                self.world.set_link_up(*at, *up);
                Doing::Until(now)
            }
            Action::Restart(role) | Action::RestartInOrder(role) => {
                if matches!(action, Action::RestartInOrder(_)) {
                    self.world.say_goodbye((*role).into());
                }
                self.world.restart(self.scenario, self.seed, watch, (*role).into());
                if let Role::Node(node) = *role {
                    self.world.node(node, |now, host| host.command(now, NodeCommand::Start));
                }
                Doing::Until(now)
            }
            Action::Stop(node) | Action::StopInOrder(node) => {
                if matches!(action, Action::StopInOrder(_)) {
                    self.world.say_goodbye(Actor::Node(*node));
                }
                // A new one, that nobody tells to start.
                self.world.restart(self.scenario, self.seed, watch, Role::Node(*node).into());
                Doing::Until(now)
            }
            Action::Revoke(node) => {
                self.world.revoke(self.seed, &self.scenario.nodes[*node].name);
                Doing::Until(now)
            }
            Action::Expire(_) => {
                self.world.expire();
                Doing::Until(now)
            }
            Action::Renew(node) => {
                self.world.renew(self.scenario, self.seed, watch, *node);
                self.world.node(*node, |now, host| host.command(now, NodeCommand::Start));
                Doing::Until(now)
            }
            Action::RenewRunning(node) => {
                self.world.renew_running(self.scenario, self.seed, watch, *node);
                Doing::Until(now)
            }
            Action::Pause { role, lasts } => {
                self.world.pause((*role).into(), now + *lasts);
                Doing::Until(now + *lasts)
            }
            Action::Suspend { role, lasts, clock } => {
                self.world.suspend((*role).into(), now + *lasts, *clock);
                Doing::Until(now + *lasts)
            }
            Action::Clock { role, step_s } => {
                self.world.step_clock(self.scenario, (*role).into(), *step_s);
                Doing::Until(now)
            }
            Action::DiskFull(is_full) => {
                self.world.set_disk_full(*is_full);
                Doing::Until(now)
            }
            Action::Rules(rules) => {
                self.world.set_rules(rules);
                Doing::Until(now)
            }
            Action::Wait(duration) => Doing::Until(now + *duration),
            Action::Idle => Doing::Until(Instant::ZERO + self.scenario.duration_limit),
            Action::ProbeMtu(pair) => {
                Doing::Probing(Box::new(probe::Prober::new(self.scenario, *pair, self.target(*pair), watch)))
            }
        };
        let mut doing = doing;
        if !self.is_complete(index, &mut doing) {
            self.active.push((index, doing));
        }
    }

    fn app(&mut self, pair: Pair, app: App) -> Doing {
        let app = self.world.node(pair.from, |now, host| host.start(now, app));
        Doing::App { pair, app }
    }

    fn content(&self, index: usize, bytes: u64, rate_bps: Option<u64>) -> Transfer {
        let seed = seeded::derive(self.seed, &format!("step {index}"), "tcp content");
        let seed = u64::from_be_bytes(*seed.first_chunk().expect("32 bytes"));
        Transfer { bytes, seed, rate_bps }
    }

    fn target(&self, pair: Pair) -> Target {
        let family = match pair.family {
            FamilyWord::Ipv4 => Family::V4,
            FamilyWord::Ipv6 => Family::V6,
        };
        Target::Name(self.scenario.shown_name(pair.to).clone(), family)
    }

    fn is_complete(&mut self, index: usize, doing: &mut Doing) -> bool {
        let now = self.world.now();
        let outcome = match doing {
            Doing::Until(at) => (*at <= now).then_some(StepOutcome::None),
            Doing::Registration(nodes, give_up) => {
                let done = give_up.is_some_and(|at| at <= now)
                    || nodes.iter().all(|&n| self.world.look(n, |host| host.virtual_addresses().is_some()));
                done.then_some(StepOutcome::None)
            }
            Doing::App { pair, app } => {
                let finished = |host: &Host<Node>| Some(host.report(*app)).filter(|r| r.finished.is_some()).cloned();
                self.world.look(pair.from, finished).map(|report| StepOutcome::App(*pair, Box::new(report)))
            }
            Doing::Bare { pair, number } => {
                let report = self.world.look(pair.0, |host| host.bare_report(*number).clone());
                report.finished.is_some().then(|| StepOutcome::Bare(*pair, Box::new(report)))
            }
            Doing::Probing(prober) => prober.advance(&mut self.world).map(|found| StepOutcome::Mtu(prober.pair, found)),
        };
        let Some(outcome) = outcome else { return false };
        self.steps[index].completed = Some(now);
        self.steps[index].outcome = outcome;
        true
    }
}

fn echo(probes: &Probes) -> Echo {
    Echo {
        count: probes.count,
        interval: probes.interval,
        size: EchoSize::Payload(usize::from(probes.payload_bytes)),
        timeout: ECHO_TIMEOUT,
    }
}

fn flow(probes: &Probes) -> Flow {
    Flow {
        count: u64::from(probes.count),
        interval: probes.interval,
        payload: usize::from(probes.payload_bytes),
        end: FlowEnd::Sink,
    }
}

/// The next whole millisecond at or after `at`.
fn whole_millis(at: Instant) -> Instant {
    Instant::from_millis(at.as_nanos().div_ceil(1_000_000))
}
