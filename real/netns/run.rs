//! Runs the cells of a plan, each in namespaces of its own.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cyphonic::error::{Code, Failure};
use cyphonic_scenarios::Plan;
use cyphonic_scenarios::log::{Entry, What};

use super::build::{self, Lab};
use super::daemons::{self, Daemons};
use super::impair::Impair;
use super::layout::{layout, node_host};
use super::refuse::{self, Limit};
use super::steps::{Shown, StepRunner};

/// How long a node may take to register in `up`.
const REGISTRATION: Duration = Duration::from_secs(30);

/// The ways in which a run can end badly. Each has its exit code.
#[derive(Debug)]
pub(super) enum Problem {
    /// A scenario or an option is invalid.
    Usage(String),
    /// The scenario needs something that a kernel cannot do.
    Refused(String),
    /// Runs whose results were not the expected ones.
    Failed(String),
    /// The machine refuses something, or an unexpected error.
    Real(Failure),
}

impl Problem {
    /// See `--help`.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Failed(_) => 4,
            Self::Real(failure) if failure.code == Code::Permission => 6,
            Self::Real(_) => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Refused(what) => write!(f, "a Linux kernel cannot do this scenario:\n  {what}"),
            Self::Failed(what) => write!(f, "runs failed:\n  {what}"),
            Self::Real(failure) => write!(f, "{failure}\nremedy: {}", failure.remedy()),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Real(failure)
    }
}

/// Runs a plan whose cells can all be built.
pub(super) struct Runner<'a> {
    plan: &'a Plan,
    limits: Vec<Limit>,
    seed: u64,
    keep: bool,
    program: PathBuf,
}

impl<'a> Runner<'a> {
    /// Refuses what a kernel cannot do before anything is built.
    pub(super) fn new(plan: &'a Plan, seed: u64, keep: bool) -> Result<Self, Problem> {
        let (mut limits, mut refused) = (Vec::new(), Vec::new());
        for cell in &plan.cells {
            match refuse::check(&cell.scenario) {
                Ok(limit) => limits.push(limit),
                Err(found) => found.into_iter().for_each(|what| {
                    if !refused.contains(&what) {
                        refused.push(what);
                    }
                }),
            }
        }
        if !refused.is_empty() {
            return Err(Problem::Refused(refused.join("\n  ")));
        }
        Ok(Self { plan, limits, seed, keep, program: program()? })
    }

    /// Runs every cell. Returns the text to print, and the failures.
    pub(super) fn run(&self, jobs: Option<usize>, json: bool) -> Result<(String, Vec<String>), Problem> {
        // A cell waits most of the time.
        let default = || 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let workers = jobs.unwrap_or_else(default).max(1);
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Result<Shown, Failure>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..workers.min(self.plan.cells.len()) {
                scope.spawn(|| {
                    loop {
                        let cell = next.fetch_add(1, Ordering::Relaxed);
                        if cell >= self.plan.cells.len() {
                            return;
                        }
                        let shown = self.cell(cell);
                        done.lock().expect("no holder panics").push((cell, shown));
                    }
                });
            }
        });
        let mut done = done.into_inner().expect("no holder panics");
        done.sort_by_key(|(cell, _)| *cell);
        let (mut text, mut failed) = (String::new(), Vec::new());
        for (cell, shown) in done {
            let name = self.name(cell);
            let shown = shown.map_err(|failure| {
                Failure::new(failure.code, format!("{name}: {failure}"), failure.remedy().to_owned())
            })?;
            failed.extend(shown.failures.iter().map(|failure| format!("{name}: {failure}")));
            if json {
                shown.entries.iter().for_each(|entry| text.push_str(&entry.to_line()));
            } else {
                print(&mut text, &name, &shown.entries);
            }
        }
        Ok((text, failed))
    }

    /// Builds the only cell, and keeps it until Ctrl-C.
    pub(super) fn up(&self) -> Result<(), Problem> {
        let scenario = &self.plan.cells[0].scenario;
        let lab = lab(0);
        let _down = Down { lab: &lab, keep: self.keep };
        daemons::folder(&lab)?;
        let layout = layout(scenario);
        let _impair = Impair::start(build::up(&lab, &layout)?, self.seed).map_err(Failure::other)?;
        let daemons = Daemons::new(&lab, scenario, &self.program)?;
        daemons.serve()?;
        let nodes = 0..scenario.nodes.len();
        let started = nodes.map(|node| daemons.start(node_host(scenario, node))).collect::<Result<Vec<_>, _>>()?;
        for node in &started {
            if !daemons.wait(node, REGISTRATION)? {
                return Err(Problem::Failed("a node did not register: see the logs with --keep".to_owned()));
            }
        }
        let folder = lab.folder();
        let mut text = format!("up; files and logs are in {}\n", folder.display());
        for node in &scenario.nodes {
            let (host, name) = (lab.namespace(node.name.short()), node.name.short());
            let _ = writeln!(
                text,
                "  ip netns exec {host} bash      # {name}; status: --control {}/{name}.sock",
                folder.display()
            );
        }
        if let [first, second, ..] = &scenario.nodes[..] {
            let _ =
                writeln!(text, "for example: ip netns exec {} ping {}", lab.namespace(first.name.short()), second.name);
        }
        text.push_str("Ctrl-C takes it down\n");
        let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
        interrupted().map_err(Failure::other)?;
        Ok(daemons.stop()?)
    }

    fn name(&self, cell: usize) -> String {
        match self.plan.cells[cell].name().as_str() {
            "" => self.plan.name.clone(),
            labels => format!("{} ({labels})", self.plan.name),
        }
    }

    fn cell(&self, cell: usize) -> Result<Shown, Failure> {
        let scenario = &self.plan.cells[cell].scenario;
        let lab = lab(cell);
        // Declared first, so that it is dropped last.
        let _down = Down { lab: &lab, keep: self.keep };
        daemons::folder(&lab)?;
        let layout = layout(scenario);
        let impair = Mutex::new(Impair::start(build::up(&lab, &layout)?, self.seed).map_err(Failure::other)?);
        let daemons = Daemons::new(&lab, scenario, &self.program)?;
        daemons.serve()?;
        let limit = &self.limits[cell];
        let runner = StepRunner {
            lab: &lab,
            scenario,
            layout: &layout,
            daemons: &daemons,
            impair: &impair,
            limit,
            seed: self.seed,
        };
        let mut shown = runner.run();
        // The scenario has no events of daemons that stop, so later entries are not read.
        let logged = daemons.entries()?;
        if let Err(failure) = daemons.stop() {
            shown.failures.push(failure.to_string());
        }
        shown.entries.extend(logged);
        shown.entries.sort_by_key(|entry| entry.at_ns);
        shown.entries.iter_mut().for_each(|entry| entry.cell = cell);
        Ok(shown)
    }
}

/// The lab of a cell.
fn lab(cell: usize) -> Lab {
    Lab(format!("cyn{}-{cell}", std::process::id()))
}

/// Takes a lab down when it is dropped, also after an error.
struct Down<'a> {
    lab: &'a Lab,
    keep: bool,
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        build::down(self.lab, self.keep);
    }
}

/// The daemons' program: `CYPHONIC`, or the one beside this.
fn program() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("CYPHONIC").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("cyphonic"));
    let found = named.or_else(beside).filter(|path| path.is_file());
    found.ok_or_else(|| {
        let remedy = "`cargo build -p cyphonic` makes it; or set CYPHONIC";
        Failure::new(Code::Permission, "the program `cyphonic` is not there", remedy)
    })
}

/// Waits for SIGINT or SIGTERM.
fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = int.recv() => Ok(()),
            _ = term.recv() => Ok(()),
        }
    })
}

/// A run as a sequence diagram.
fn print(text: &mut String, name: &str, entries: &[Entry]) {
    let begin = entries.first().map_or(0, |entry| entry.at_ns);
    let _ = writeln!(text, "{name}");
    for entry in entries {
        let ms = (entry.at_ns - begin) as f64 / 1e6;
        let _ = match &entry.what {
            What::Signal(signal) if !signal.repeated => writeln!(text, "{ms:>12.3} ms  {signal}"),
            What::TunnelUp { peer, pattern, .. } => {
                writeln!(text, "{ms:>12.3} ms  ({}: tunnel to {peer} up, pattern {pattern})", entry.host)
            }
            What::Outcome { step, outcome } => writeln!(text, "{ms:>12.3} ms  (step {step}: {outcome})"),
            What::Unregistered { reason } => {
                writeln!(text, "{ms:>12.3} ms  ({}: not registered: {reason})", entry.host)
            }
            What::TunnelDown { peer, reason } => {
                writeln!(text, "{ms:>12.3} ms  ({}: tunnel to {peer} down: {reason})", entry.host)
            }
            What::Signal(_) | What::Registered { .. } | What::RouteChosen { .. } | What::Step { .. } => Ok(()),
        };
    }
}
