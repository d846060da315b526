//! Every kind of site with every other: what the policies chose, what packets did, and what the rules of the networks
//! say.
//!
//! Three sources are held to each other for `policy = "optimal"`: the policy's verdict, from what it observed; the
//! oracle's, from the boxes' rules ([`crate::oracle`]); and the path that packets took in the end. They agree if
//!
//! * packets go directly exactly where the oracle sees a way, and through the TRS elsewhere, if both nodes reach it;
//! * the policy held no way to be certain that the oracle excludes, and none to be impossible that it allows.

pub mod kinds;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cyphonic_core::event::{Basis, Event};
use cyphonic_core::route::optimal::Verdict;
use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::Millis;
use cyphonic_scenarios::{Engine, Scenario, first_cell, write_whole};

use self::kinds::{KINDS, Kind, pairs};
use super::batch;
use crate::error::LabError;
use crate::host::apps::EchoReport;
use crate::manifest::{self, Manifest, Request};
use crate::measure::{echoes_asked, last_tunnel};
use crate::oracle::{self, End};
use crate::run::{Run, run};
use crate::world::Watch;

/// The file in the folder of results.
pub const FILE: &str = "matrix.csv";
/// The seed of every run.
const SEED: u64 = 1;
const METHODS: [&str; 2] = ["conventional", "proposed"];
const POLICIES: [&str; 2] = ["paper", "optimal"];

/// One pair under one method and policy.
pub struct Meeting {
    a: &'static Kind,
    b: &'static Kind,
    method: &'static str,
    policy: &'static str,
    seen: Seen,
}

/// What became of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether both nodes were registered.
    pub registered: bool,
    /// The tunnel that Alice used at the end.
    pub tunnel: Option<(Pattern, Dialer)>,
    /// From the first packet to the first tunnel, at Alice.
    pub setup: Option<Duration>,
    /// From the first packet to the tunnel that was used at the end: the column `settled_ms`.
    pub last_up: Option<Duration>,
    /// Echoes that the scenario asked for.
    pub sent: usize,
    /// Echoes answered.
    pub answered: usize,
    /// The best verdict of the policy about a direct way, the last time it was asked.
    pub verdict: Option<Verdict>,
    /// The oracle: whether a direct path exists.
    pub possible: bool,
    /// The oracle: whether both nodes can register.
    pub reachable: bool,
    /// Each thing that the three sources do not agree on; empty under the paper's policy, which claims nothing.
    pub disagreements: Vec<&'static str>,
}

/// Runs a scenario of two nodes, the first of which sends the second one echoes, and looks.
pub fn look(scenario: &Scenario, seed: u64, engine: Engine) -> (Seen, Run) {
    let run = run(scenario, seed, engine, &Watch::default());
    (seen(scenario, &run), run)
}

/// What a run of such a scenario showed.
pub fn seen(scenario: &Scenario, run: &Run) -> Seen {
    let registered = |node: usize| {
        let name = scenario.nodes[node].name.short();
        run.events.iter().any(|(_, host, event)| host == name && matches!(event, Event::Registered { .. }))
    };
    let registered = registered(0) && registered(1);
    let (pair, report) = run.reports().next().map_or((None, None), |(pair, report)| (Some(*pair), Some(report)));
    let began = report.map_or(Instant::ZERO, |report| report.started);
    let alice = scenario.nodes[0].name.short();
    // Another path of the same pattern is no other way of meeting.
    let mut last = None;
    let ups: Vec<Duration> = run
        .events
        .iter()
        .filter(|(_, host, event)| {
            let Some((_, pattern)) = event.path().filter(|_| host == alice) else { return false };
            let before = last.replace(pattern);
            matches!(event, Event::TunnelUp(_)) || before != Some(pattern)
        })
        .map(|&(at, ..)| at - began)
        .collect();
    let echo = report.and_then(|report| report.echo());
    let mut seen = Seen {
        registered,
        tunnel: pair.and_then(|pair| last_tunnel(scenario, run, pair)),
        setup: ups.first().copied(),
        last_up: ups.last().copied(),
        sent: pair.map_or(0, |pair| echoes_asked(scenario, pair) as usize),
        answered: echo.map_or(0, EchoReport::answered),
        verdict: verdict(run),
        reachable: [0, 1].into_iter().all(|node| oracle::can_register(scenario, End::start(scenario, node))),
        possible: oracle::judge(scenario, End::start(scenario, 0), End::start(scenario, 1)).is_direct(),
        disagreements: Vec::new(),
    };
    if scenario.policy == cyphonic_scenarios::Policy::Optimal {
        seen.disagreements = disagreements(&seen);
    }
    seen
}

/// The best way that the policy saw the last time it was asked.
fn verdict(run: &Run) -> Option<Verdict> {
    run.events.iter().rev().find_map(|(_, _, event)| match event {
        Event::RouteChosen(chosen) => match &chosen.basis {
            Basis::Ways(ways) => Some(ways.first().map(|way| way.verdict)),
            Basis::Table1(_) => None,
        },
        _ => None,
    })?
}

fn disagreements(seen: &Seen) -> Vec<&'static str> {
    let mut found = Vec::new();
    if !seen.registered {
        if seen.possible {
            found.push("the oracle sees a direct path, and a node could not register");
        } else if seen.reachable {
            found.push("the oracle says that both nodes can register, and one could not");
        }
        return found;
    }
    if !seen.reachable {
        found.push("the oracle says that a node cannot register, and both have");
    }
    let direct = seen.tunnel.map(|(pattern, _)| pattern != Pattern::Relayed);
    match (direct, seen.possible) {
        (None, _) => found.push("both nodes reach the relay, and there is no tunnel"),
        (Some(true), false) => found.push("packets go directly, and the oracle sees no way"),
        (Some(false), true) => found.push("packets are relayed, and the oracle sees a direct way"),
        (Some(true), true) | (Some(false), false) => {}
    }
    match (seen.verdict, seen.possible) {
        (Some(Verdict::Yes), false) => found.push("the policy is certain of a way that the oracle excludes"),
        (Some(Verdict::No(_)) | None, true) => found.push("the policy excludes what the oracle allows"),
        _ => {}
    }
    if direct.is_some() && seen.answered < seen.sent {
        found.push("echoes were lost");
    }
    found
}

impl Meeting {
    /// For people: which run.
    fn name(&self) -> String {
        format!("{} to {}, {}, {}", self.a.name, self.b.name, self.method, self.policy)
    }

    /// `2r 62`: pattern, who dialed, milliseconds.
    fn cell(&self) -> String {
        let Some((pattern, dialer)) = self.seen.tunnel.filter(|_| self.seen.answered > 0) else {
            return if self.seen.registered { "x" } else { "-" }.to_owned();
        };
        let dialer = if dialer == Dialer::Initiator { 'i' } else { 'r' };
        let setup = self.seen.setup.map_or(0, |setup| (setup.as_micros() + 500) / 1000);
        format!("{pattern}{dialer} {setup}")
    }
}

/// Runs every pair under every method and policy, in that order.
pub fn meetings() -> Result<Vec<Meeting>, LabError> {
    let mut jobs = Vec::new();
    for (a, b) in pairs() {
        for method in METHODS {
            for policy in POLICIES {
                let text = kinds::scenario(a, b, method, policy);
                jobs.push((a, b, method, policy, first_cell("matrix", &text)?));
            }
        }
    }
    let seen = batch::each("matrix", &jobs, |(.., scenario)| look(scenario, SEED, Engine::Events).0);
    let meet = |((a, b, method, policy, _), seen): ((_, _, _, _, _), Seen)| Meeting { a, b, method, policy, seen };
    Ok(jobs.into_iter().zip(seen).map(meet).collect())
}

/// The columns of [`FILE`].
const COLUMNS: [&str; 13] = [
    "initiator",
    "responder",
    "method",
    "policy",
    "pattern",
    "dialer",
    "path",
    "setup_ms",
    "settled_ms",
    "echo_sent",
    "echo_received",
    "oracle",
    "verdict",
];

impl Meeting {
    /// The fields of its line; as many as there are [`COLUMNS`].
    fn record(&self) -> [String; COLUMNS.len()] {
        let seen = &self.seen;
        let used = seen.tunnel.filter(|_| seen.answered > 0);
        let path = match used {
            Some((Pattern::Relayed, _)) => "relayed",
            Some(_) => "direct",
            None => "none",
        };
        let dialer = used.map_or("", |(_, dialer)| match dialer {
            Dialer::Initiator => "initiator",
            Dialer::Responder => "responder",
        });
        let verdict = seen.verdict.map_or("", |verdict| match verdict {
            Verdict::Yes => "yes",
            Verdict::Likely => "likely",
            Verdict::Perhaps(_) => "perhaps",
            Verdict::No(_) => "no",
        });
        let ms = |at: Option<Duration>| {
            at.filter(|_| used.is_some()).map(|at| Millis::new(at).to_string()).unwrap_or_default()
        };
        [
            self.a.name.to_owned(),
            self.b.name.to_owned(),
            self.method.to_owned(),
            self.policy.to_owned(),
            used.map(|(pattern, _)| pattern.to_string()).unwrap_or_default(),
            dialer.to_owned(),
            path.to_owned(),
            ms(seen.setup),
            ms(seen.last_up),
            seen.sent.to_string(),
            seen.answered.to_string(),
            if seen.possible { "direct" } else { "relay" }.to_owned(),
            verdict.to_owned(),
        ]
    }
}

/// The results as CSV: one line for each pair, method and policy.
pub fn csv(meetings: &[Meeting]) -> Vec<u8> {
    let lines = meetings.iter().map(|meeting| meeting.record().join(","));
    std::iter::once(COLUMNS.join(",")).chain(lines).flat_map(|line| (line + "\n").into_bytes()).collect()
}

/// The same for programs, with what every kind is and what the three sources do not agree on.
fn json(meetings: &[Meeting]) -> serde_json::Value {
    let pairs = meetings.iter().map(|meeting| {
        let mut pair = super::tables::object(&COLUMNS, &meeting.record());
        pair["registered"] = serde_json::json!(meeting.seen.registered);
        pair["disagreements"] = serde_json::json!(meeting.seen.disagreements);
        pair
    });
    let kinds = KINDS.iter().map(|kind| (kind.name.to_owned(), serde_json::json!(kind.about)));
    serde_json::json!({
        "kinds": kinds.collect::<serde_json::Map<_, _>>(), "pairs": pairs.collect::<Vec<_>>(),
    })
}

/// The manifest of [`csv`]: its scenarios are those that `matrix --show A,B` prints, with each method and policy.
pub fn manifest(command: &str, file: &Path, bytes: &[u8]) -> Manifest {
    let (mut text, mut cells) = (String::new(), 0);
    for (a, b) in pairs() {
        for method in METHODS {
            for policy in POLICIES {
                text.push_str(&kinds::scenario(a, b, method, policy));
                cells += 1;
            }
        }
    }
    let request = Request {
        command: command.to_owned(),
        scenario: "cyphonic-lab matrix --show A,B",
        text: text.into_bytes(),
        sets: &[],
        cells,
        seeds: SEED..=SEED,
        engines: [Engine::Events.name()].into(),
    };
    request.manifest(file, bytes)
}

/// One grid for each method and policy, what the kinds are, and how they compare.
pub fn report(meetings: &[Meeting]) -> String {
    let mut text = String::new();
    for method in METHODS {
        for policy in POLICIES {
            let cells: BTreeMap<(&str, &str), String> = meetings
                .iter()
                .filter(|m| m.method == method && m.policy == policy)
                .map(|m| ((m.a.name, m.b.name), m.cell()))
                .collect();
            let alone: Vec<&Kind> = KINDS.iter().filter(|kind| kind.shared == kinds::Shared::Nothing).collect();
            let header: Vec<&str> = ["from \\ to"].into_iter().chain(alone.iter().map(|kind| kind.name)).collect();
            let rows = alone.iter().map(|a| {
                let row = alone.iter().map(|b| cells.get(&(a.name, b.name)).cloned().unwrap_or_default());
                std::iter::once(a.name.to_owned()).chain(row).collect()
            });
            let _ = writeln!(text, "The {method} method, policy = \"{policy}\"");
            let _ = writeln!(text, "{}", super::tables::grid(&header, 1, rows.collect()));
            let shared = KINDS.iter().filter(|kind| kind.shared != kinds::Shared::Nothing);
            let shared: Vec<String> =
                shared.map(|kind| format!("{}: {}", kind.name, cells[&(kind.name, kind.name)])).collect();
            let _ = writeln!(text, " {}\n", shared.join("   "));
        }
    }
    let _ = writeln!(
        text,
        "2r 62: pattern 2, the responder dialed, 62 ms from the first packet to the first tunnel (1 direct, 2 direct through\n\
         NAT, 3 relayed; that of the tunnel used at the end). x: stranded, no tunnel carried a packet. -: a node could not log in.\n"
    );
    let kinds = KINDS.iter().map(|kind| vec![kind.name.to_owned(), kind.about.to_owned()]).collect();
    let _ = writeln!(text, "{}", super::tables::grid(&["kind", "what it is"], 2, kinds));
    let _ = writeln!(text, "{}", summary(meetings));
    text
}

/// How many pairs came out how, by method and policy: in the words and by the counts of the figure.
pub fn summary(meetings: &[Meeting]) -> String {
    let mut rows = Vec::new();
    for method in METHODS {
        for policy in POLICIES {
            let of: Vec<&Seen> =
                meetings.iter().filter(|m| m.method == method && m.policy == policy).map(|m| &m.seen).collect();
            let count = |test: &dyn Fn(&Seen) -> bool| of.iter().filter(|seen| test(seen)).count().to_string();
            let direct =
                |seen: &Seen| seen.answered > 0 && seen.tunnel.is_some_and(|(pattern, _)| pattern != Pattern::Relayed);
            let relayed =
                |seen: &Seen| seen.answered > 0 && seen.tunnel.is_some_and(|(pattern, _)| pattern == Pattern::Relayed);
            rows.push(vec![
                method.to_owned(),
                policy.to_owned(),
                of.len().to_string(),
                count(&direct),
                count(&|seen| relayed(seen) && !seen.possible),
                count(&|seen| relayed(seen) && seen.possible),
                count(&|seen| seen.registered && seen.answered == 0),
                count(&|seen| !seen.registered),
            ]);
        }
    }
    let header = ["method", "policy", "pairs", "direct", "relayed", "needlessly relayed", "stranded", "cannot log in"];
    super::tables::grid(&header, 2, rows).to_string()
}

/// The scenario of one pair of kinds, under the optimal policy.
pub fn show(names: &str) -> Result<String, LabError> {
    let (a, b) = names.split_once(',').unwrap_or((names, ""));
    let known = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    let find = |name: &str| {
        let kind = KINDS.iter().find(|kind| kind.name == name.trim());
        kind.ok_or_else(|| LabError::Usage(format!("{name:?} is no kind of site; write two of: {}", known())))
    };
    let (a, b) = (find(a)?, find(b)?);
    if !pairs().any(|pair| pair == (a, b)) {
        return Err(LabError::Usage(format!(
            "{} and {} do not meet: a kind that is shared meets only itself",
            a.name, b.name
        )));
    }
    Ok(kinds::scenario(a, b, "proposed", "optimal"))
}

/// Runs the matrix, writes it where asked, and gives what to print, on demand as JSON. Disagreements are an error.
pub fn matrix(out: Option<&Path>, as_json: bool) -> Result<(String, Option<LabError>), LabError> {
    if let Some(out) = out {
        super::writable(out)?;
    }
    let meetings = meetings()?;
    if let Some(out) = out {
        let (file, bytes) = (out.join(FILE), csv(&meetings));
        write_whole(&file, &bytes)?;
        manifest::write(&file, &self::manifest("cyphonic-lab matrix --out DIR", &file, &bytes))?;
    }
    if as_json {
        return Ok((format!("{:#}\n", json(&meetings)), agree(&meetings).err()));
    }
    let mut text = report(&meetings);
    let wrong = disagreeing(&meetings);
    let _ = writeln!(text, "\n{} runs; policy, oracle and traffic: {} disagreements", meetings.len(), wrong.len());
    Ok((text, agree(&meetings).err()))
}

fn disagreeing(meetings: &[Meeting]) -> Vec<String> {
    let each =
        |m: &Meeting| m.seen.disagreements.iter().map(|what| format!("{}: {what}", m.name())).collect::<Vec<_>>();
    meetings.iter().flat_map(each).collect()
}

/// That policy, oracle and traffic agree on all pairs, or an error that names those on which they do not.
pub fn agree(meetings: &[Meeting]) -> Result<(), LabError> {
    let wrong = disagreeing(meetings);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(LabError::Failed(format!(
        "{} disagreements among policy, oracle and traffic; look at one with `matrix --show A,B` and `explain`:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    )))
}
