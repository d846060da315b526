//! The lab's command line.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use cyphonic_scenarios::Engine;
use cyphonic_sim::error::LabError;
use cyphonic_sim::lab::experiment::Extent;
use cyphonic_sim::lab::file::{RunRequest, run_file};
use cyphonic_sim::lab::{archive, compare, experiment, explain, matrix, middlebox, reproduce, scale, verify, view};
use cyphonic_sim::soak::campaign::{self, Campaign};
use cyphonic_sim::soak::results;

/// A simulation allocates every packet. With this allocator a sweep takes a tenth less time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs CYPHONIC and CYPHONIC-over-QUIC on a simulated network.
///
/// Without a command it reproduces the paper: it runs every experiment, writes their results and prints the paper's
/// tables beside ours. The same seed gives the same bytes, on every machine and on both engines.
#[derive(Parser)]
#[command(
    name = "cyphonic-lab",
    version,
    after_help = "Exit codes: 0 done · 2 a scenario or an option makes no sense · 3 a run failed, or came out otherwise \
than it must · 4 results cannot be written or read · 5 results differ from a fresh run, or a simulated run from a real one · \
6 there can be no real run here.\n\nExamples:\n  \
cyphonic-lab\n  cyphonic-lab run table1 --set 'site.a.kind=\"ipv6\"' --sequence\n  \
cyphonic-lab run scenarios/handover.toml --seed 1..20 --engine events\n  \
cyphonic-lab run table4 --set framing=stream --seed 1 --pcap --out captures\n  \
cyphonic-lab matrix --show public,symmetric >pair.toml\n  \
cyphonic-lab explain pair.toml --pair alice,bob\n  \
sudo target/debug/cyphonic-lab compare table1"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every experiment, writes results and prints the paper's tables beside ours (the default).
    Reproduce {
        /// Where the CSV files go.
        #[arg(long, value_name = "DIR", default_value = "results/sim")]
        out: PathBuf,
        /// Instead runs the experiments that take long, up to an hour, and writes theirs.
        #[arg(long)]
        full: bool,
    },
    /// Prints completions for a shell, to be sourced: `source <(cyphonic-lab completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Runs one scenario: every cell of its sweep with every seed. If the scenario has `expect`, all invariants are
    /// checked, on both engines. With --out the run can be stopped: the same command goes on where it stopped.
    Run {
        /// A scenario file, or the name of a built-in one (see `scenarios`).
        file: String,
        /// One seed, or a range that includes both ends.
        #[arg(long, value_name = "N|A..B", value_parser = seeds)]
        seed: Option<RangeInclusive<u64>>,
        /// The engine that drives the network. Both give the same bytes.
        #[arg(long, value_parser = engine)]
        engine: Option<Engine>,
        /// Sets a key of the scenario to a TOML value, such as `site.a.link.loss=0.1`. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = set)]
        sets: Vec<(String, String)>,
        /// The folder for the CSV file, captures and traces. Without it nothing is written.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Prints JSON, with every signaling message.
        #[arg(long)]
        json: bool,
        /// Prints the sequence of signaling messages.
        #[arg(long)]
        sequence: bool,
        /// Writes a pcapng capture of every wire, with the secrets that decrypt it, for Wireshark, and beside it a key
        /// log for the dissector core/wireshark/cyphonic.lua.
        #[arg(long)]
        pcap: bool,
        /// Writes a qlog trace of every QUIC connection.
        #[arg(long)]
        qlog: bool,
        /// The number of runs at a time. Default: one for each core.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        jobs: Option<u16>,
        /// Replaces results that are already in the folder.
        #[arg(long)]
        overwrite: bool,
        /// Writes one HTML page about the first run: the network, a timeline, the messages, the decisions, loss and
        /// gaps. No other run is made.
        #[arg(long, value_name = "FILE")]
        view: Option<PathBuf>,
    },
    /// Writes one HTML page about an event log, such as that of `cyphonic-netns run --json`.
    View {
        /// The log: a line of JSON for each event.
        log: PathBuf,
        /// The page.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Runs the experiments of a folder of results again, and compares the bytes.
    Verify {
        /// The folder.
        #[arg(value_name = "DIR", default_value = "results/sim")]
        folder: PathBuf,
        /// Also the experiments that take long.
        #[arg(long)]
        full: bool,
    },
    /// Runs every kind of site with every other, under both policies and both methods. Compares the decision of the
    /// optimal policy, the result of an oracle, and the path that packets took. Exit code 3 if they disagree.
    Matrix {
        /// The folder for matrix.csv. Without it nothing is written.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Instead prints the scenario of one pair of kinds, such as `public,symmetric`.
        #[arg(long, value_name = "A,B", conflicts_with = "json")]
        show: Option<String>,
        /// Prints JSON, with a description of every kind and each disagreement.
        #[arg(long)]
        json: bool,
    },
    /// Shows the effect of a box that inspects QUIC, by what it recognises, how it reacts, and the method and policy.
    Middlebox {
        /// The folder for middlebox.csv. Without it nothing is written.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Shows what signaling costs with 2 to 250 nodes, when all start at once and after a restart of the NMS. It takes
    /// some minutes.
    Scale {
        /// The folder for scale.csv. Without it nothing is written.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Explains why two nodes got their path: what was observed, which ways were considered and refused, which node
    /// dialed, and when.
    Explain {
        /// A scenario file, or the name of a built-in one (see `scenarios`). Of a sweep, the first cell is run.
        file: String,
        /// The short names of two nodes.
        #[arg(long, value_name = "A,B", value_parser = pair)]
        pair: (String, String),
        /// The seed. Default: the scenario's first one.
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Sets a key of the scenario to a TOML value, such as `policy="optimal"`. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = set)]
        sets: Vec<(String, String)>,
        /// Prints JSON: the nodes' observations, each decision and step, the outcome and the oracle's attempts.
        #[arg(long)]
        json: bool,
    },
    /// Runs a scenario in the simulator and with the daemons on a real kernel, and compares the two event logs. Exit
    /// code 5 if they differ, 6 if there can be no real run.
    ///
    /// `cyphonic-netns` (package `cyphonic`) makes the real run, in network namespaces of its own, as root. The
    /// messages with their sizes and their order, the patterns, and the outcome of every step are compared, but not
    /// times and repetitions. A scenario that a kernel cannot run exactly is refused, with the name of the key or step.
    #[command(after_help = "Examples:\n  \
cargo build --workspace && sudo target/debug/cyphonic-lab compare table1\n  \
sudo target/debug/cyphonic-lab compare table1 --set framing=stream --set 'site.a.kind=\"ipv6\"' --set 'site.b.kind=\"ipv6\"'\n  \
sudo target/debug/cyphonic-netns run my.toml --json >real.jsonl && cyphonic-lab compare my.toml --real real.jsonl")]
    Compare {
        /// A scenario file, or the name of a built-in one (see `scenarios`). Every cell is run, with its first seed.
        file: String,
        /// Sets a key of the scenario to a TOML value, such as `site.a.link.delay_ms=20`. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = set)]
        sets: Vec<(String, String)>,
        /// The event log of a real run that was made before.
        #[arg(long, value_name = "LOG")]
        real: Option<PathBuf>,
        /// The number of real runs at a time. Default: twice the number of cores.
        #[arg(long, value_name = "N", conflicts_with = "real")]
        jobs: Option<usize>,
    },
    /// Looks for bugs: runs random networks with faults, and checks invariants. Exit code 3 if one is broken.
    ///
    /// Each seed is a plan. It has up to twelve sites with NATs, carriers, firewalls and translators of every
    /// behaviour, and up to twelve nodes. There are traffic, moves, restarts and overlapping faults. Then the faults
    /// end, and after 90 s every pair of nodes exchanges echoes. The invariants I1 to I13 are: authenticity, fixed
    /// addresses, relaying, no amplification, limits, no replay, liveness, no panic and no secret in events,
    /// determinism, secrecy, access rules, end of access, and a limit of packets to addresses that were only named.
    /// Three seeds of seven are drills instead: small networks with hardly any fault, in which every echo is demanded.
    /// At its end a drill is attacked by damaged, replayed and spoofed packets, floods, and impostors. A plan that
    /// breaks an invariant is made as small as possible, and written to DIR/failures as an ordinary scenario.
    #[command(after_help = "Examples:\n  \
cyphonic-lab soak --seeds 1..1000 --out soaked           begin, or go on where it stopped\n  \
cyphonic-lab soak --seeds 1..1000000 --time 10m          as many as ten minutes allow\n  \
cyphonic-lab soak --seeds 1..1000000 --shard 3/8 --out soaked\n  \
sbatch --array=1-64 --wrap 'cyphonic-lab soak --seeds 1..1000000 --out soaked'\n  \
cyphonic-lab merge soaked                                what all shards found, tried and miss\n  \
cyphonic-lab soak --replay soaked/failures/soak-17.toml  every invariant, both engines\n  \
cyphonic-lab run soaked/failures/soak-17.toml --sequence what was said")]
    Soak {
        /// The range of seeds, which includes both ends.
        #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "1..1000")]
        seeds: RangeInclusive<u64>,
        /// Runs every Nth seed from the Ith on. In an array of tasks write `/N`: I is taken from SLURM_ARRAY_TASK_ID,
        /// JOB_COMPLETION_INDEX or HQ_TASK_ID. Under Slurm N is known, too.
        #[arg(long, value_name = "I/N")]
        shard: Option<String>,
        /// The number of runs at a time. Default: one for each core.
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
        /// Starts no run after this time, such as 90s, 10m or 2h.
        #[arg(long, value_name = "TIME", value_parser = time)]
        time: Option<std::time::Duration>,
        /// The folder for results and failing plans. With it, a soak goes on where it stopped.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Instead checks every invariant on one file, on both engines.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "shard", "jobs", "time", "out"])]
        replay: Option<String>,
        /// With --replay: writes one HTML page about the run.
        #[arg(long, value_name = "FILE", requires = "replay")]
        view: Option<PathBuf>,
        /// Instead prints the plan of a seed.
        #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "shard", "jobs", "time", "out", "replay"])]
        show: Option<u64>,
    },
    /// Joins the shards of a soak: the failures, the missing seeds, the coverage. Refuses to mix versions.
    Merge {
        /// Folders that soaks wrote to.
        #[arg(value_name = "DIR", required = true)]
        folders: Vec<PathBuf>,
        /// The folder for soak.csv, which has all shards. Without it nothing is written.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// The file for the totals of all shards, a small CSV file.
        #[arg(long, value_name = "FILE")]
        totals: Option<PathBuf>,
    },
    /// Lists the built-in scenarios.
    Scenarios,
    /// Copies the project and every package of Cargo.lock into a folder, which builds without a network.
    Archive {
        /// An empty or absent folder.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

fn time(text: &str) -> Result<std::time::Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)));
    let (number, seconds) = unit.ok_or("write a time with its unit, such as 90s, 10m or 2h")?;
    let number: u64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Ok(std::time::Duration::from_secs(number.saturating_mul(*seconds)))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (a, b) = text.split_once(',').ok_or("write the names of two nodes, with a comma between them")?;
    Ok((a.trim().to_owned(), b.trim().to_owned()))
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number =
        |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no seed: write a number, or a range A..B"));
    match text.split_once("..") {
        None => number(text).map(|n| n..=n),
        Some((a, b)) => {
            let (a, b) = (number(a)?, number(b.trim_start_matches('='))?);
            if a > b { Err(format!("the range {a}..{b} is reversed: write {b}..{a}")) } else { Ok(a..=b) }
        }
    }
}

fn engine(text: &str) -> Result<Engine, String> {
    Engine::ALL.iter().copied().find(|e| e.name() == text).ok_or_else(|| "write turmoil or events".to_owned())
}

fn set(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, with a value in TOML")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // On a terminal the progress is shown. Elsewhere standard error is for errors only.
    let announce = |line: &str| {
        if std::io::stderr().is_terminal() {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    };
    let result = match arguments.command.unwrap_or(Command::Reproduce { out: "results/sim".into(), full: false }) {
        Command::Reproduce { out, full } => {
            reproduce::reproduce(&out, if full { Extent::Full } else { Extent::Usual }, announce)
        }
        Command::Verify { folder, full } => verify::verify(&folder, full, announce),
        Command::Scenarios => list(),
        Command::Archive { out } => archive::archive(&out),
        Command::Run { file, seed: seeds, engine, sets, out, json, sequence, pcap, qlog, jobs, overwrite, view } => {
            let jobs = jobs.map(usize::from);
            let request =
                RunRequest { file, seeds, engine, sets, out, json, sequence, pcap, qlog, jobs, overwrite, view };
            run_file(&request, &mut std::io::stdout()).and_then(|failed| failed.map_or(Ok(String::new()), Err))
        }
        Command::Completions { shell } => {
            // The text is collected first, because the generator panics if standard output is closed.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "cyphonic-lab", &mut text);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Command::Matrix { show: Some(kinds), .. } => matrix::show(&kinds),
        Command::Matrix { out, show: None, json } => told(matrix::matrix(out.as_deref(), json)),
        Command::Middlebox { out } => middlebox::middlebox(out.as_deref()),
        Command::Scale { out } => scale::scale(out.as_deref()),
        Command::Compare { file, sets, real, jobs } => {
            told(compare::compare(&compare::CompareRequest { file, sets, real, jobs }))
        }
        Command::Soak { replay: Some(file), view, .. } => {
            view.map_or(Ok(()), |out| view::file(&file, &out)).and_then(|()| told(campaign::replay(&file)))
        }
        Command::View { log, out } => view::log_file(&log, &out),
        Command::Soak { show: Some(seed), .. } => Ok(cyphonic_sim::soak::generate::generate(seed).render()),
        Command::Soak { seeds, shard, jobs, time, out, .. } => soak(seeds, shard.as_deref(), jobs, time, out),
        Command::Merge { folders, out, totals } => told(results::merge(&folders, out.as_deref(), totals.as_deref())),
        Command::Explain { file, pair, seed, sets, json } => explain::explain(&file, &pair, seed, &sets, json),
    };
    match result {
        Ok(text) => {
            // A closed pipe, as with `| head`, is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            error.exit_code()
        }
    }
}

fn soak(
    seeds: RangeInclusive<u64>,
    shard: Option<&str>,
    jobs: Option<usize>,
    time: Option<std::time::Duration>,
    out: Option<PathBuf>,
) -> Result<String, LabError> {
    let shard = campaign::shard(shard, |name| std::env::var(name).ok()).map_err(LabError::Usage)?;
    told(Campaign { seeds, shard, jobs, time, out, broken: false }.run())
}

/// Prints the text even if something failed, and then returns the failure.
fn told(result: Result<(String, Option<LabError>), LabError>) -> Result<String, LabError> {
    match result? {
        (text, None) => Ok(text),
        (text, Some(failed)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            Err(failed)
        }
    }
}

fn list() -> Result<String, LabError> {
    let mut text = String::new();
    for plan in [experiment::plans(Extent::Usual)?, experiment::plans(Extent::Full)?].concat() {
        let runs = plan.cells.len() as u64 * (plan.seeds.end() - plan.seeds.start() + 1);
        let _ = writeln!(text, "{:<10} {:>4} runs  {}", plan.name, runs, plan.title);
    }
    Ok(text)
}
