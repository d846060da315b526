//! One experiment: its plan, run on every core, and on both engines where the scenario asks for the reference engine.

use cyphonic_scenarios::{Document, EMBEDDED, Engine, Plan, Table};

use super::batch::{self, Options, Outcome};
use crate::error::LabError;

/// An experiment that was run.
pub struct Done {
    /// Its plan.
    pub plan: Plan,
    /// Its rows.
    pub table: Table,
    /// The number of runs that were made on both engines.
    pub compared: usize,
}

/// The experiments that take too long for every reproduction. A committed file of `results/sim` is of exactly one of
/// these: an experiment that [`Extent::Usual`] writes, an experiment named here, or [`ELSEWHERE`].
const FULL: [&str; 2] = ["idle", "mobility"];

/// Files of `results/sim` that no experiment writes, each with the subcommand that does.
pub const ELSEWHERE: [(&str, &str); 1] = [("soak.csv", "soak, then merge --totals")];

/// A set of experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The experiments of every reproduction: less than a minute in a release build.
    Usual,
    /// The others: up to an hour.
    Full,
}

impl Extent {
    /// The command that writes the files of this extent.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Usual => "cyphonic-lab reproduce",
            Self::Full => "cyphonic-lab reproduce --full",
        }
    }
}

/// The built-in experiments of one extent.
pub fn plans(extent: Extent) -> Result<Vec<Plan>, LabError> {
    let names = EMBEDDED.iter().map(|(name, _)| *name);
    let chosen = names.filter(|name| FULL.contains(name) == (extent == Extent::Full));
    chosen.map(|name| Ok(Plan::expand(&Document::embedded(name)?, &[])?)).collect()
}

/// Runs one experiment. An experiment on turmoil also runs on the event loop, which must put the same bytes on every
/// wire.
pub fn experiment(plan: Plan) -> Result<Done, LabError> {
    let reference = plan.cells.iter().any(|cell| cell.scenario.engine == Engine::Turmoil);
    let outcomes = batch::outcomes(&plan, &Options { digest: reference, ..Options::default() })?;
    let table = batch::table(&plan, &outcomes);
    let mut compared = 0;
    if reference {
        let options = Options { digest: true, engine: Some(Engine::Events), ..Options::default() };
        compared = compare(&plan, &outcomes, &batch::outcomes(&plan, &options)?)?;
    }
    Ok(Done { plan, table, compared })
}

/// The number of runs on which both engines agree. It is all of them, or an error names the first that differs.
fn compare(plan: &Plan, one: &[Outcome], other: &[Outcome]) -> Result<usize, LabError> {
    for (a, b) in one.iter().zip(other) {
        if a.digest != b.digest {
            let run = batch::name_of(plan, &plan.cells[a.cell], a.seed);
            return Err(LabError::Failed(format!(
                "{run}: the two engines put different bytes on the wires, which is a bug; \
                 look at both with `run {} --engine turmoil --pcap` and `--engine events --pcap`",
                plan.name
            )));
        }
    }
    Ok(one.len())
}
