//! Table 2 of the paper, cell by cell: each verdict is computed from runs.
//!
//! A [`Finding`] is what one case showed: a firewall, an impostor, a service that was broken into, a path. The verdict
//! of a cell follows from the findings that count for it: those of the method as the paper has it. Other findings show
//! what a defence or this project's own variants change.
//!
//! | property | a case holds if | the cell says |
//! |---|---|---|
//! | communication on visited networks | every echo is answered | `yes` if all hold, `partial` if some, `no` |
//! | certificate distribution | a node logs in without a good certificate | `optional` if any holds, else `required` |
//! | authentication between nodes | the initiator talks to no impostor | `yes` if all hold, else `no` |
//! | security of cloud services | nothing of a tunnel can be read | `yes` if all hold, `partial` if some, `no` |
//! | throughput | at least 90 % of the conventional goodput | `yes` if all hold, `partial` if some, `no` |

mod cloud;
mod goodput;
mod identity;
mod visited;

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::Engine;

use super::tables;
use crate::error::LabError;
use crate::manifest::{Manifest, Request};

pub use cloud::{Relay, Taken, readable};
pub use identity::{Services, impostor};
pub use visited::passes;

/// The file in the folder of results.
pub const FILE: &str = "table2.csv";
/// The seed of every run but those of the throughput.
pub(crate) const SEED: u64 = 1;

/// A row of Table 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// "Communication on visited networks".
    Visited,
    /// "Certificate distribution to nodes".
    Certificates,
    /// "Authentication between nodes".
    Authentication,
    /// "Security of cloud services".
    Cloud,
    /// "Throughput performance".
    Throughput,
}

impl Property {
    /// Every row, in the paper's order.
    pub const ALL: [Self; 5] = [Self::Visited, Self::Certificates, Self::Authentication, Self::Cloud, Self::Throughput];

    /// Its name in `results/paper/table2-comparison.csv`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visited => "communication_on_visited_network",
            Self::Certificates => "certificate_distribution_to_nodes",
            Self::Authentication => "authentication_between_nodes",
            Self::Cloud => "security_of_cloud_services",
            Self::Throughput => "throughput_performance",
        }
    }
}

/// The two columns of Table 2.
pub const METHODS: [&str; 2] = ["conventional", "proposed"];

/// What one case showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The row of Table 2.
    pub property: Property,
    /// The column.
    pub method: &'static str,
    /// The case, without commas.
    pub case: String,
    /// Whether the verdict of the cell follows from it. The others are variants.
    pub counts: bool,
    /// Whether the property holds.
    pub holds: bool,
    /// What was measured, without commas.
    pub value: String,
}

/// Every finding, in the order of the table.
pub fn findings() -> Result<Vec<Finding>, LabError> {
    let mut all = visited::findings()?;
    all.extend(identity::certificates()?);
    all.extend(identity::authentication()?);
    all.extend(cloud::findings()?);
    all.extend(goodput::findings()?);
    Ok(all)
}

/// The verdict of a cell, as the paper words it.
pub fn verdict(findings: &[Finding], property: Property, method: &str) -> &'static str {
    let of = findings.iter().filter(|f| f.property == property && f.method == method && f.counts);
    let (held, all) = of.fold((0, 0), |(held, all), finding| (held + usize::from(finding.holds), all + 1));
    match property {
        Property::Certificates if held > 0 => "optional",
        Property::Certificates => "required",
        _ if held == all => "yes",
        Property::Authentication => "no",
        _ if held == 0 => "no",
        _ => "partial",
    }
}

/// How many of the findings of a cell hold, as `3 of 5`.
fn share(findings: &[Finding], property: Property, method: &str) -> String {
    let of: Vec<_> = findings.iter().filter(|f| f.property == property && f.method == method && f.counts).collect();
    format!("{} of {}", of.iter().filter(|finding| finding.holds).count(), of.len())
}

/// The results as CSV: a line for each finding, then a line for each cell with its verdict as the value.
pub fn csv(findings: &[Finding]) -> Vec<u8> {
    let mut text = String::from("property,method,case,counts,holds,value\n");
    for Finding { property, method, case, counts, holds, value } in findings {
        let _ = writeln!(text, "{},{method},{case},{counts},{holds},{value}", property.name());
    }
    for property in Property::ALL {
        for method in METHODS {
            let _ = writeln!(text, "{},{method},verdict,,,{}", property.name(), verdict(findings, property, method));
        }
    }
    text.into_bytes()
}

/// The manifest of [`csv`].
pub fn manifest(command: &str, file: &Path, bytes: &[u8]) -> Manifest {
    let texts = visited::texts() + &identity::texts() + &cloud::texts() + &goodput::texts();
    let request = Request {
        command: command.to_owned(),
        scenario: "built in: sim/src/lab/table2",
        cells: texts.matches("\nmeasure = ").count(),
        text: texts.into_bytes(),
        sets: &[],
        seeds: SEED..=goodput::SEEDS,
        engines: [Engine::Events.name()].into(),
    };
    request.manifest(file, bytes)
}

/// Table 2 beside the paper's, and what does not hold.
pub fn report(findings: &[Finding]) -> String {
    let printed = tables::comparison();
    let mut rows = Vec::new();
    for property in Property::ALL {
        let mut row = vec![property.name().replace('_', " ")];
        for (column, method) in METHODS.into_iter().enumerate() {
            let ours = verdict(findings, property, method);
            let paper = printed.get(property.name()).map_or("", |columns| columns[column].as_str());
            let mark = if ours == paper { "same" } else { "DIFFERS" };
            row.extend([paper.to_owned(), format!("{ours} {mark}"), share(findings, property, method)]);
        }
        rows.push(row);
    }
    let header = ["property", "paper", "conventional", "cases", "paper", "proposed", "cases"];
    let mut text = format!(
        "Table 2. Comparison of the methods (paper §4.3), each cell computed from runs\n{}\n\
         proposed: as in the paper, with a TRS at which both connections end (Fig. 9). Under \"certificate distribution\" \
         the cases\nare logins without a certificate that counts. All cases: results/sim/{FILE}.\n",
        tables::grid(&header, 1, rows)
    );
    for property in [Property::Visited, Property::Cloud] {
        let fails = |f: &&Finding| f.property == property && f.method == "proposed" && f.counts && !f.holds;
        let failing: Vec<String> = findings.iter().filter(fails).map(|f| f.case.clone()).collect();
        if let Some(first) = failing.first() {
            let name = property.name().replace('_', " ");
            let count = failing.len();
            let _ = writeln!(text, "{name}, proposed: {count} cases fail, such as: {first}.");
        }
    }
    text
}
