//! Scenarios on a real kernel: network namespaces, nftables, the daemons, and an impairment router for the links.
//!
//! ```text
//! scenario ─▶ refuse: what a kernel cannot do ─▶ layout: hosts, devices, rules, wires ─▶ build: ip, nft
//!                                                          │
//!             impair: packets between TUN devices  ◀───────┘
//!             daemons: cyphonic as, nms, trs, node ─▶ event log ┐
//!             steps: ping, TCP, UDP, ...           ─▶ outcomes ─┴▶ one log
//! ```

mod apps;
mod build;
mod daemons;
mod impair;
mod layout;
mod refuse;
mod run;
mod steps;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use cyphonic::error::{Code, Failure};
use cyphonic_scenarios::{Document, Plan};

use build::{LABS, Lab};
use run::{Problem, Runner};

/// Runs scenarios on a real kernel, with the daemons.
///
/// Needs root, /dev/net/tun, ip, nft and ping. Everything happens in network namespaces that it makes and takes down;
/// the machine's own network is not touched.
#[derive(Parser)]
#[command(
    name = "cyphonic-netns",
    version,
    after_help = "Exit codes: 0 done · 1 something unexpected · 2 a scenario or an option makes no sense · 3 a kernel cannot do \
what the scenario says: it is named · 4 a run failed · 6 no permission, or something is not installed.\n\nExamples:\n  \
cyphonic-netns run table1\n  cyphonic-netns run scenarios/table4.toml --set framing=stream --json >real.jsonl\n  \
cyphonic-netns up table1 --set framing=stream --set 'site.a.kind=\"ipv4-private\"' --set 'site.b.kind=\"ipv6\"'\n  \
cyphonic-netns down"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the network of a scenario, starts services and nodes, and leaves it so until Ctrl-C.
    Up {
        #[command(flatten)]
        scenario: Words,
    },
    /// Runs a scenario: every cell of its sweep, with its first seed.
    Run {
        #[command(flatten)]
        scenario: Words,
        /// Prints the event log, one JSON object a line, for `cyphonic-lab compare --real`.
        #[arg(long)]
        json: bool,
        /// How many cells at once; without it twice as many as there are cores.
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
    },
    /// Takes down what a killed run left behind.
    Down,
    /// What runs inside a namespace.
    #[command(hide = true)]
    App {
        #[command(subcommand)]
        app: apps::App,
    },
}

#[derive(Args)]
struct Words {
    /// A scenario file, or the name of a built-in one.
    file: String,
    /// Puts a TOML value at a key of the scenario, such as `site.a.link.loss=0.1`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = set)]
    sets: Vec<(String, String)>,
    /// The seed of what is random on the links; without it the scenario's first one.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keeps keys, configurations and logs in /run/cyphonic-netns.
    #[arg(long)]
    keep: bool,
}

fn set(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, with a value in TOML")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::from(problem.exit_code())
        }
    }
}

fn execute(command: Command) -> Result<(), Problem> {
    match command {
        Command::App { app } => Ok(app.run()?),
        Command::Down => down(),
        Command::Up { scenario } => {
            let plan = plan(&scenario)?;
            if plan.cells.len() > 1 {
                let what = format!("{} has {} cells: choose one with --set", plan.name, plan.cells.len());
                return Err(Problem::Usage(what));
            }
            runner(&plan, &scenario)?.up()
        }
        Command::Run { scenario, json, jobs } => {
            let plan = plan(&scenario)?;
            let (text, failed) = runner(&plan, &scenario)?.run(jobs, json)?;
            // A closed standard output is ignored.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if failed.is_empty() { Ok(()) } else { Err(Problem::Failed(failed.join("\n  "))) }
        }
    }
}

fn plan(words: &Words) -> Result<Plan, Problem> {
    let document = Document::open(&words.file).map_err(|error| Problem::Usage(error.to_string()))?;
    Plan::expand(&document, &words.sets).map_err(|error| Problem::Usage(error.to_string()))
}

fn runner<'a>(plan: &'a Plan, words: &Words) -> Result<Runner<'a>, Problem> {
    let runner = Runner::new(plan, words.seed.unwrap_or(*plan.seeds.start()), words.keep)?;
    match build::obstacle() {
        Some(obstacle) => {
            Err(Problem::Real(Failure::new(Code::Permission, obstacle, "run as root, with these installed")))
        }
        None => Ok(runner),
    }
}

/// Takes down every lab whose program has ended.
fn down() -> Result<(), Problem> {
    if let Some(obstacle) = build::obstacle() {
        return Err(Problem::Real(Failure::new(Code::Permission, obstacle, "run as root")));
    }
    for entry in fs::read_dir(LABS).into_iter().flatten().flatten() {
        let pid = fs::read_to_string(entry.path().join("pid")).unwrap_or_default();
        if pid.is_empty() || !Path::new("/proc").join(&pid).exists() {
            let lab = Lab(entry.file_name().to_string_lossy().into_owned());
            build::down(&lab, false);
            let _ = writeln!(std::io::stdout(), "{} is down", lab.0);
        }
    }
    Ok(())
}
