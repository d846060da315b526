//! Scenarios that a program writes: two nodes at two sites, and the scenario that a text describes.

use crate::document::Document;
use crate::error::ScenarioError;
use crate::plan::Plan;
use crate::scenario::Scenario;

/// The text of a scenario of two nodes: Alice at a site named `a`, Bob at one named `b`.
///
/// `top` is lines for the top of the file, and may end with tables such as `[services]`. `sites` are the keys of both
/// sites, their names excepted. `steps` are the `[[step]]` tables.
pub fn two_nodes(top: &str, sites: [&str; 2], steps: &str) -> String {
    let [a, b] = sites;
    format!(
        r#"title = "Two nodes"
about = "Alice and Bob, each at a site of their own."
measure = "outcome"
{top}

[[site]]
name = "a"
{a}

[[site]]
name = "b"
{b}

[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

{steps}"#
    )
}

/// The scenario of a text's first cell: the only one, if the text has no sweep. `name` stands for the file in errors.
///
/// # Errors
/// As [`Document::parse`] and [`Plan::expand`].
pub fn first_cell(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let plan = Plan::expand(&Document::parse(name, text)?, &[])?;
    Ok(plan.cells.into_iter().next().expect("a plan has a cell").scenario)
}
