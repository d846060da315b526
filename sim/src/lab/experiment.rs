//! One experiment: its plan, run on every core, and on both engines where the scenario asks for the reference engine.

use cyphonic_scenarios::{Document, EMBEDDED, Engine, Plan, Table};

use super::batch::{self, Options, Outcome};
use crate::error::LabError;

/// One experiment, done.
pub struct Done {
    /// What was run.
    pub plan: Plan,
    /// Its rows.
    pub table: Table,
    /// How many runs were made on both engines.
    pub compared: usize,
}

/// The experiments that take too long for every reproduction. A committed file of `results/sim` is either one that
/// [`Extent::Usual`] writes, or that of an experiment named here, or one of [`ELSEWHERE`]; never two of them.
const FULL: [&str; 1] = ["mobility"];

/// Files of `results/sim` that no experiment writes, and the subcommand that does.
pub const ELSEWHERE: [(&str, &str); 1] = [("soak.csv", "soak, then merge --totals")];

/// Which experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those of every reproduction: less than a minute in a release build.
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

/// The experiments of one extent that are built in.
pub fn plans(extent: Extent) -> Result<Vec<Plan>, LabError> {
    let names = EMBEDDED.iter().map(|(name, _)| *name);
    let chosen = names.filter(|name| FULL.contains(name) == (extent == Extent::Full));
    chosen.map(|name| Ok(Plan::expand(&Document::embedded(name)?, &[])?)).collect()
}

/// Runs one experiment. An experiment on turmoil runs on the event loop as well, which must put the same bytes on every
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

/// How many runs both engines agree on: all, or it is an error that names the first that they do not.
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
