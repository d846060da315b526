//! Compares the event log of a simulated run with that of a run on a real kernel: messages, order, sizes, patterns and
//! outcomes.
//!
//! Hosts are concurrent, and real ones have no common clock. For example, it is chance whether the NMS answers Alice's
//! registration before Bob's. So the comparison is not of one list, but of *threads*. In a thread each event follows
//! from earlier ones:
//!
//! * *A and B*: all messages between two parties, in both directions, of the whole run;
//! * *X in step n*: all messages that one party sends during one step. It is left out if several nodes start at once,
//!   or if steps overlap, because a service then serves several nodes at once;
//! * *X*: a party's reports: registrations, routes chosen, tunnels;
//! * *A and B, survey*: messages by which the optimal policy learns about networks, beside everything else;
//! * *step n*: its outcome.
//!
//! Times are not compared, and repetitions are left out, as in diagrams: both depend on the machine, not on the
//! protocol. A login that cannot succeed is tried again and again. An attempt without new messages is a repetition too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cyphonic_scenarios::log::{self, Entry, What};
use cyphonic_scenarios::{Action, Document, Plan, Scenario};

use super::batch;
use crate::error::LabError;
use crate::host::apps::Outcome;
use crate::run::{Run, StepOutcome, run};
use crate::world::Watch;

/// The program that runs scenarios on network namespaces.
const DRIVER: &str = "cyphonic-netns";
/// Its exit code if runs failed. Their event logs are complete nevertheless.
const RUNS_FAILED: i32 = 4;
/// Messages of surveys, which run beside everything else.
const SURVEY: [&str; 2] = ["Probe Request", "Network Report"];
/// The width of a column of the comparison.
const COLUMN: usize = 74;

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct CompareRequest {
    /// The scenario: a path, or the name of a built-in one.
    pub file: String,
    /// Keys and values that replace the scenario's.
    pub sets: Vec<(String, String)>,
    /// The real event log. Without it the driver makes one.
    pub real: Option<PathBuf>,
    /// The number of concurrent real runs.
    pub jobs: Option<usize>,
}

/// Compares every cell of a scenario, with its first seed. Returns the text to print, and the differences.
pub fn compare(request: &CompareRequest) -> Result<(String, Option<LabError>), LabError> {
    let plan = Plan::expand(&Document::open(&request.file)?, &request.sets)?;
    let (real, mut failed) = match &request.real {
        Some(file) => (read(file)?, None),
        None => drive(request, *plan.seeds.start())?,
    };
    let cells: Vec<usize> = (0..plan.cells.len()).collect();
    let seed = *plan.seeds.start();
    let simulated = batch::each(&plan.name, &cells, |&cell| {
        let scenario = &plan.cells[cell].scenario;
        entries(cell, scenario, &run(scenario, seed, scenario.engine, &Watch::default()))
    });
    let (mut text, mut different) = (String::new(), 0);
    for (cell, simulated) in simulated.iter().enumerate() {
        let real: Vec<Entry> = real.iter().filter(|entry| entry.cell == cell).cloned().collect();
        let name = batch::name_of(&plan, &plan.cells[cell], seed);
        let report = Comparison::new(&plan.cells[cell].scenario, simulated, &real);
        different += usize::from(!report.is_same());
        report.print(&name, plan.cells.len() == 1, &mut text);
    }
    let _ = writeln!(text, "{} of {} runs are the same, simulated and real", cells.len() - different, cells.len());
    if different > 0 {
        failed =
            Some(LabError::Differs(format!("{different} of {} runs differ: one of the two is wrong", cells.len())));
    }
    Ok((text, failed))
}

fn read(file: &Path) -> Result<Vec<Entry>, LabError> {
    let told = |what: &dyn std::fmt::Display| LabError::Usage(format!("--real {}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| told(&error))?;
    Entry::read(&text).map_err(|error| told(&error))
}

/// The driver that was built beside this program, or by the other profile.
fn driver() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let folder = here.parent()?;
    let others = ["release", "debug"].map(|profile| folder.with_file_name(profile));
    let folders = std::iter::once(folder.to_owned()).chain(others);
    folders.map(|folder| folder.join(DRIVER)).find(|path| path.is_file())
}

/// Runs the scenario on network namespaces.
fn drive(request: &CompareRequest, seed: u64) -> Result<(Vec<Entry>, Option<LabError>), LabError> {
    let program = std::env::var_os("CYPHONIC_NETNS").map(PathBuf::from).or_else(driver);
    let program = program.filter(|path| path.is_file()).ok_or_else(|| {
        LabError::Real(format!(
            "{DRIVER} was not built yet: `cargo build --release --workspace --bins`; or set CYPHONIC_NETNS to where it \
             is; or give a log with --real"
        ))
    })?;
    let mut command = Command::new(&program);
    command.args(["run", &request.file, "--json", "--seed", &seed.to_string()]);
    for (key, value) in &request.sets {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    if let Some(jobs) = request.jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    let output = command.output().map_err(|error| LabError::Real(format!("{}: {error}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("error: ").to_owned();
    let failed = match output.status.code() {
        Some(0) => None,
        Some(RUNS_FAILED) => Some(LabError::Failed(said)),
        _ => return Err(LabError::Real(said)),
    };
    let entries = Entry::read(&String::from_utf8_lossy(&output.stdout));
    Ok((entries.map_err(|error| LabError::Real(format!("{DRIVER} wrote no event log: {error}")))?, failed))
}

/// The event log of a simulated run.
pub fn entries(cell: usize, scenario: &Scenario, run: &Run) -> Vec<Entry> {
    let entry = |at_ns, host: &str, what| Entry { cell, at_ns, host: host.to_owned(), what };
    // Steps come first, because their effects at the same instant follow from them.
    let mut entries: Vec<Entry> = Vec::new();
    for (step, report) in run.steps.iter().enumerate() {
        entries.push(entry(report.started.as_nanos(), "lab", What::Step { step }));
    }
    for (at, host, event) in &run.events {
        entries.extend(What::of(event).map(|what| entry(at.as_nanos(), host, what)));
    }
    for (step, report) in run.steps.iter().enumerate() {
        let (StepOutcome::App(_, app) | StepOutcome::Bare(_, app)) = &report.outcome else { continue };
        let outcome = match (&scenario.steps[step].action, &app.outcome) {
            (Action::Echo(probes), Outcome::Echo(echo)) => log::echoes(echo.answered(), probes.count),
            (Action::Tcp { bytes, .. } | Action::BareTcp { bytes, .. }, Outcome::Transfer(transfer)) => {
                log::transfer(*bytes, transfer.ok())
            }
            (_, Outcome::Flow(flow)) => log::datagrams(flow.sent),
            _ => continue,
        };
        let at = report.completed.unwrap_or(run.ended);
        entries.push(entry(at.as_nanos(), "lab", What::Outcome { step, outcome }));
    }
    entries.sort_by_key(|entry| entry.at_ns);
    entries
}

/// Two logs of one run of a scenario.
struct Comparison {
    threads: BTreeMap<String, [Vec<String>; 2]>,
    messages: usize,
    bytes: usize,
}

impl Comparison {
    fn new(scenario: &Scenario, simulated: &[Entry], real: &[Entry]) -> Self {
        let (mut messages, mut bytes) = (0, 0);
        for entry in simulated {
            if let What::Signal(signal) = &entry.what
                && !signal.repeated
            {
                messages += 1;
                bytes += signal.bytes.unwrap_or(0);
            }
        }
        let mut threads: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
        for (side, entries) in [simulated, real].into_iter().enumerate() {
            for (thread, line) in lines(scenario, &without_repeated_attempts(entries)) {
                threads.entry(thread).or_default()[side].push(line);
            }
            let surveys = threads.iter_mut().filter(|(thread, _)| thread.ends_with(", survey"));
            surveys.for_each(|(_, lines)| lines[side].sort());
        }
        Self { threads, messages, bytes }
    }

    fn is_same(&self) -> bool {
        self.threads.values().all(|[simulated, real]| simulated == real)
    }

    /// All threads if `whole`, otherwise those that differ.
    fn print(&self, name: &str, whole: bool, text: &mut String) {
        let verdict = if self.is_same() { "same" } else { "DIFFERENT" };
        let _ = writeln!(text, "{verdict:<9}  {name}: {} messages, {} bytes", self.messages, self.bytes);
        if whole || !self.is_same() {
            let _ = writeln!(text, "      {:<COLUMN$} real", "simulated");
        }
        for (thread, [simulated, real]) in &self.threads {
            if !whole && simulated == real {
                continue;
            }
            let _ = writeln!(text, "  {thread}");
            for (left, right) in beside(simulated, real) {
                let mark = if left == right { ' ' } else { '≠' };
                let line = format!("    {mark} {:<COLUMN$} {}", left.unwrap_or("–"), right.unwrap_or("–"));
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
    }
}

/// A log without attempts to log in that repeat earlier ones.
///
/// An attempt is every message between an unregistered node and the services, until the node reports a failure or the
/// run ends. It is a repetition if earlier attempts had each of its messages.
fn without_repeated_attempts(entries: &[Entry]) -> Vec<Entry> {
    #[derive(Default)]
    struct Attempts {
        registered: bool,
        /// The messages since the node was registered last.
        said: BTreeSet<String>,
        current: Vec<(usize, String)>,
    }
    let mut nodes: BTreeMap<&str, Attempts> = BTreeMap::new();
    let mut repeated = vec![false; entries.len()];
    let is_service = |name: &str| ["as", "nms", "trs"].contains(&name);
    let mut end = |attempts: &mut Attempts| {
        let attempt = std::mem::take(&mut attempts.current);
        if attempt.iter().all(|(_, line)| attempts.said.contains(line)) {
            for (index, _) in &attempt {
                repeated[*index] = true;
            }
        }
        attempts.said.extend(attempt.into_iter().map(|(_, line)| line));
    };
    for (index, entry) in entries.iter().enumerate() {
        match &entry.what {
            What::Signal(signal) if !signal.repeated && !SURVEY.contains(&signal.what.as_str()) => {
                let node = match (is_service(&signal.from), is_service(&signal.to)) {
                    (false, true) => &signal.from,
                    (true, false) => &signal.to,
                    _ => continue,
                };
                let node = nodes.entry(node.as_str()).or_default();
                if !node.registered {
                    node.current.push((index, signal.to_string()));
                }
            }
            What::Registered { .. } => {
                nodes.insert(&entry.host, Attempts { registered: true, ..Attempts::default() });
            }
            What::Unregistered { reason } => {
                let node = nodes.entry(&entry.host).or_default();
                if node.registered {
                    *node = Attempts::default();
                } else {
                    node.current.push((index, reason.clone()));
                    end(node);
                }
            }
            _ => {}
        }
    }
    nodes.values_mut().filter(|node| !node.registered).for_each(&mut end);
    entries.iter().zip(repeated).filter(|(_, repeated)| !repeated).map(|(entry, _)| entry.clone()).collect()
}

/// Every line of a log with its thread. Some lines belong to two.
fn lines(scenario: &Scenario, entries: &[Entry]) -> Vec<(String, String)> {
    let overlap = scenario.steps.iter().any(|step| step.at.is_some());
    let mut step_now = None;
    let mut lines = Vec::new();
    for entry in entries {
        let host = &entry.host;
        let mut told = |line: String| lines.push((host.clone(), line));
        match &entry.what {
            What::Signal(signal) if signal.repeated => {}
            What::Signal(signal) if SURVEY.contains(&signal.what.as_str()) => {
                // The report names ports, which are random.
                let what =
                    format!("{} → {} {}, {} bytes", signal.from, signal.to, signal.what, signal.bytes.unwrap_or(0));
                lines.push((format!("{}, survey", between(signal)), what));
            }
            What::Signal(signal) => {
                lines.push((between(signal), signal.to_string()));
                let one_thing = step_now.filter(|&step: &usize| {
                    let action = scenario.steps.get(step).map(|step| &step.action);
                    !overlap && !matches!(action, Some(Action::Start { nodes, .. }) if nodes.len() > 1)
                });
                // A change of rules takes no time in the simulator: what a real NMS says of it counts to the next step.
                let is_change = |step: &usize| matches!(scenario.steps[*step].action, Action::Rules(_));
                if let Some(step) = one_thing.map(|step| step + usize::from(is_change(&step))) {
                    lines.push((format!("{} in step {step}", signal.from), signal.to_string()));
                }
            }
            What::Registered { nat } => told(format!("registered, NAT: {}", if *nat { "yes" } else { "no" })),
            What::Unregistered { reason } => told(format!("not registered: {reason}")),
            What::RouteChosen { initiator, responder, pattern } => {
                let pattern = pattern.map_or_else(|| "none".to_owned(), |pattern| pattern.to_string());
                told(format!("route from {initiator} to {responder}: pattern {pattern}"));
            }
            What::TunnelUp { peer, pattern, dialed, framing } => {
                let dialed = if *dialed { ", dialed" } else { "" };
                told(format!("tunnel to {peer} up: pattern {pattern}{dialed}, {framing}"));
            }
            What::TunnelDown { peer, reason } => told(format!("tunnel to {peer} down: {reason}")),
            What::Step { step } => step_now = Some(*step),
            What::Outcome { step, outcome } => lines.push((format!("step {step}"), outcome.clone())),
        }
    }
    lines
}

/// The two parties of a message, in either direction.
fn between(signal: &log::Signal) -> String {
    let (from, to) = (&signal.from, &signal.to);
    format!("{} and {}", from.min(to), from.max(to))
}

/// Two lists side by side, with equal lines in one row (by a longest common subsequence).
fn beside<'a>(left: &'a [String], right: &'a [String]) -> Vec<(Option<&'a str>, Option<&'a str>)> {
    let mut common = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            let best: usize = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if left[i] == right[j] { common[i + 1][j + 1] + 1 } else { best };
        }
    }
    let (mut i, mut j, mut rows) = (0, 0, Vec::new());
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            rows.push((Some(left[i].as_str()), Some(right[j].as_str())));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || i < left.len() && common[i + 1][j] >= common[i][j + 1] {
            rows.push((Some(left[i].as_str()), None));
            i += 1;
        } else {
            rows.push((None, Some(right[j].as_str())));
            j += 1;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table1() -> (Scenario, Vec<Entry>) {
        let sets = ["framing", "site.a.kind", "site.b.kind"].map(str::to_owned);
        let values = ["\"compact\"", "\"ipv6\"", "\"ipv4-private\""].map(str::to_owned);
        let sets: Vec<_> = sets.into_iter().zip(values).collect();
        let plan = Plan::expand(&Document::open("table1").unwrap(), &sets).unwrap();
        let scenario = plan.cells[0].scenario.clone();
        let ran = run(&scenario, 1, scenario.engine, &Watch::default());
        let entries = entries(0, &scenario, &ran);
        (scenario, entries)
    }

    /// The paper's motive: a firewall lets only port 443 out, so the conventional method logs in over TCP and never
    /// registers.
    #[test]
    fn logins_that_cannot_succeed_are_repetitions_and_what_they_say_is_compared() {
        let sets = [
            ("framing", "\"udp4501\""),
            ("site.a.kind", "\"ipv4-global\""),
            ("site.b.kind", "\"ipv4-global\""),
            ("site.a.firewall.mode", "\"only-443\""),
            ("step.0.give_up_s", "20"),
        ];
        let sets = sets.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let plan = Plan::expand(&Document::open("table1").unwrap(), &sets).unwrap();
        let scenario = plan.cells[0].scenario.clone();
        let simulated = entries(0, &scenario, &run(&scenario, 1, scenario.engine, &Watch::default()));
        let failed = |log: &[Entry]| log.iter().filter(|e| matches!(e.what, What::Unregistered { .. })).count();
        assert!(failed(&simulated) > 2 && failed(&without_repeated_attempts(&simulated)) == 1);
        // A slower machine makes fewer attempts. This one stops in the middle of the second.
        let first = simulated.iter().position(|e| matches!(e.what, What::Unregistered { .. })).unwrap();
        let of_alice = |entry: &Entry| match &entry.what {
            What::Signal(signal) => signal.from == "alice" || signal.to == "alice",
            What::Unregistered { .. } => true,
            _ => false,
        };
        let mut later = 0;
        let mut real: Vec<Entry> = Vec::new();
        for (index, entry) in simulated.iter().enumerate() {
            later += usize::from(index > first && of_alice(entry));
            if index <= first || !of_alice(entry) || later <= 2 {
                real.push(entry.clone());
            }
        }
        assert!(real.len() + 4 < simulated.len());
        let comparison = Comparison::new(&scenario, &simulated, &real);
        let mut text = String::new();
        comparison.print("x", true, &mut text);
        assert!(comparison.is_same(), "{text}");
        assert!(
            text.lines().nth(1).unwrap().trim_start().starts_with("simulated ")
                && text.lines().nth(1).unwrap().ends_with(" real")
        );
        // The messages of an attempt are compared all the same.
        let asked = real
            .iter()
            .position(|e| matches!(&e.what, What::Signal(s) if s.what == "Login Response" && s.to == "alice"));
        real.remove(asked.unwrap());
        assert!(!Comparison::new(&scenario, &simulated, &real).is_same());
    }

    #[test]
    fn a_run_is_the_same_as_itself_whatever_hosts_did_at_once_and_whenever() {
        let (scenario, simulated) = table1();
        assert!(simulated.iter().any(|entry| matches!(&entry.what, What::Outcome { outcome, .. }
            if outcome == "3 of 3 echoes answered")));
        let mut real = simulated.clone();
        // Bob registers after Alice, at later times and with a repetition.
        let of_bob = |entry: &Entry| {
            let What::Signal(signal) = &entry.what else { return false };
            [signal.from.as_str(), signal.to.as_str()].contains(&"bob")
        };
        let step_1 = real.iter().position(|entry| entry.what == What::Step { step: 1 }).unwrap();
        real[..step_1].sort_by_key(of_bob);
        if let Some(entry) = real.iter().find(|entry| of_bob(entry)).cloned() {
            let What::Signal(signal) = entry.what.clone() else { panic!() };
            let repeated = log::Signal { repeated: true, ..signal };
            real.push(Entry { what: What::Signal(repeated), ..entry });
        }
        for entry in &mut real {
            entry.at_ns += 1_000_000_000;
        }
        let comparison = Comparison::new(&scenario, &simulated, &real);
        assert!(comparison.is_same() && comparison.messages > 20 && comparison.bytes > 1000);
    }

    #[test]
    fn another_size_another_order_a_missing_message_and_another_outcome_are_differences() {
        let (scenario, simulated) = table1();
        let differs = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut real = simulated.clone();
            change(&mut real);
            let comparison = Comparison::new(&scenario, &simulated, &real);
            let mut text = String::new();
            comparison.print("x", false, &mut text);
            assert_eq!(text.starts_with("DIFFERENT"), !comparison.is_same());
            text
        };
        let step_1 = simulated.iter().position(|entry| entry.what == What::Step { step: 1 }).unwrap();
        let sent_by_nms: Vec<usize> = (step_1..simulated.len())
            .filter(|&i| matches!(&simulated[i].what, What::Signal(signal) if signal.from == "nms"))
            .collect();
        let text = differs(&|real| {
            let What::Signal(signal) = &mut real[sent_by_nms[0]].what else { panic!() };
            signal.bytes = signal.bytes.map(|bytes| bytes + 1);
        });
        assert!(text.contains("≠ nms → bob Route Direction"), "{text}");
        let text = differs(&|real| real.swap(sent_by_nms[0], sent_by_nms[1]));
        assert!(text.contains("nms in step 1") && !text.contains("  alice and nms"), "{text}");
        let text = differs(&|real| {
            real.remove(sent_by_nms[0]);
        });
        assert!(text.contains("  bob and nms") && text.contains("–"), "{text}");
        let text = differs(&|real| {
            let What::Outcome { outcome, .. } = &mut real.last_mut().unwrap().what else { panic!() };
            *outcome = log::transfer(1_000_000, false);
        });
        assert!(text.contains("≠ 1000000 bytes arrived unchanged"), "{text}");
    }
}
