//! Expands a document into the cells of its sweep; each cell is a scenario.
//!
//! A key of `[sweep]` is a path, and its value is a list of values. Each combination of values is a cell. The first key
//! of the file changes slowest. If a key has several paths, separated by commas, they change together: its values are
//! lists with one item for each path.
//!
//! `--set` sets the value at a path before the sweep. If the path is swept, it then has that value only.
//! `--set sweep.PATH=[...]` replaces or adds a key of the sweep.

use std::ops::Range;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use crate::document::{Document, Source, Tree, indexed, label, put};
use crate::error::{Problem, ScenarioError};
use crate::resolve::resolve;
use crate::rows::Row;
use crate::scenario::Scenario;
use crate::words::Measure;

/// Most cells of a sweep.
pub const MAX_CELLS: usize = 10_000;

/// Keys that are the same for the whole file.
const NOT_SWEEPABLE: [&str; 6] = ["title", "about", "seeds", "measure", "expect", "sweep"];

/// All runs that a file describes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file's stem: also that of its results and its figure.
    pub name: String,
    /// One line that names the experiment.
    pub title: String,
    /// What it shows and why it is set up so.
    pub about: String,
    /// The kind of rows of the results.
    pub measure: Measure,
    /// Each seed is a run of each cell.
    pub seeds: RangeInclusive<u64>,
    /// The names of the sweep's columns, in the order of the file.
    pub columns: Vec<String>,
    /// The cells, the first key of the sweep changing slowest; at least one.
    pub cells: Vec<Cell>,
}

/// One combination of the sweep's values.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The columns with this cell's values.
    pub labels: Vec<(String, String)>,
    /// The scenario to run.
    pub scenario: Scenario,
}

impl Plan {
    /// Lays `overrides` (the keys and values of `--set`, in order) over a document and expands its sweep.
    pub fn expand(document: &Document, overrides: &[(String, String)]) -> Result<Self, ScenarioError> {
        let source = Source { document, sets: overrides };
        let mut tree = source.tree()?;
        let mut leaves = Vec::new();
        if let DeValue::Table(root) = tree.get_mut()
            && let Some((key, sweep)) = root.remove_entry("sweep")
        {
            if !sweep.get_ref().is_table() {
                return Err(sweep_error(source, &key.span(), "sweep", no_table()));
            }
            flatten(String::new(), &key.span(), sweep, &mut leaves);
        }
        let (for_sweep, for_tree): (Vec<usize>, Vec<usize>) =
            (0..overrides.len()).partition(|index| overrides[*index].0.starts_with("sweep."));
        for index in for_sweep {
            let name = overrides[index].0["sweep.".len()..].to_owned();
            leaves.retain(|leaf| leaf.name != name);
            leaves.push(Leaf { name, key: source.set_key(index), value: source.set_value(index) });
        }
        // The tree sorts its keys. The file's order is that of their places.
        leaves.sort_by_key(|leaf| leaf.key.start);
        let mut axes = axes(source, &tree, leaves)?;
        for index in for_tree {
            set(source, &mut tree, &mut axes, index)?;
        }
        let cells = cross(&axes);
        if cells > MAX_CELLS as u128 {
            let key = axes.first().map_or(0..0, |axis| axis.key.clone());
            return Err(sweep_error(source, &key, "sweep", Problem::TooManyCells { cells, limit: MAX_CELLS }));
        }
        let mut scenarios = Vec::new();
        for number in 0..cells as usize {
            scenarios.push(cell(source, &tree, &axes, number)?);
        }
        Ok(Self::named(document.stem(), &axes, scenarios))
    }

    /// [`Self::expand`] of a file.
    pub fn load(path: impl AsRef<Path>, overrides: &[(String, String)]) -> Result<Self, ScenarioError> {
        Self::expand(&Document::load(path)?, overrides)
    }

    /// The header of this plan's table: the sweep's columns, `seed`, and the columns of its measure.
    pub fn header(&self) -> Vec<String> {
        header(&self.columns, self.measure)
    }

    fn named(name: &str, axes: &[Axis<'_>], cells: Vec<(Vec<String>, Scenario)>) -> Self {
        let first = &cells[0].1;
        let (measure, seeds) = (first.measure, first.seeds.clone());
        let (title, about) = (first.title.clone(), first.about.clone());
        let names: Vec<&str> = axes.iter().flat_map(|axis| axis.names.iter().map(String::as_str)).collect();
        let columns = columns(&names, measure);
        let cells = cells.into_iter().map(|(values, scenario)| {
            let labels = columns.iter().cloned().zip(values).collect();
            Cell { labels, scenario }
        });
        Self { name: name.to_owned(), title, about, measure, seeds, cells: cells.collect(), columns }
    }
}

impl Cell {
    /// The name of this cell in messages: `method=proposed, a_kind=ipv6`; empty without a sweep.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(column, value)| format!("{column}={value}")).collect();
        labels.join(", ")
    }
}

impl Scenario {
    /// Reads a file that has no sweep.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let document = Document::load(path)?;
        let mut plan = Plan::expand(&document, &[])?;
        if !plan.columns.is_empty() {
            let source = Source { document: &document, sets: &[] };
            let problem = Problem::NotOneCell(plan.cells.len());
            return Err(source.error(&source.tree()?, "sweep", problem));
        }
        Ok(plan.cells.remove(0).scenario)
    }
}

/// The header of a table.
pub(crate) fn header(columns: &[String], measure: Measure) -> Vec<String> {
    let row = Row::columns(measure).iter().map(|&column| column.to_owned());
    columns.iter().cloned().chain(["seed".to_owned()]).chain(row).collect()
}

/// One key of `[sweep]`.
struct Leaf<'i> {
    name: String,
    key: Range<usize>,
    value: Tree<'i>,
}

/// Flattens the tables that dotted keys make within `[sweep]`.
fn flatten<'i>(name: String, key: &Range<usize>, value: Tree<'i>, leaves: &mut Vec<Leaf<'i>>) {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let at = key.span();
                let key = key.into_inner();
                let below = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                flatten(below, &at, value, leaves);
            }
        }
        value => leaves.push(Leaf { name, key: key.clone(), value: Spanned::new(span, value) }),
    }
}

/// A checked key of the sweep: paths that change together, and their values.
struct Axis<'i> {
    /// As written.
    names: Vec<String>,
    /// With indices.
    paths: Vec<String>,
    key: Range<usize>,
    choices: Vec<Vec<Tree<'i>>>,
}

fn sweep_error(source: Source<'_>, at: &Range<usize>, key: &str, problem: Problem) -> ScenarioError {
    ScenarioError::new(source.place(at.start), Some(key.to_owned()), problem)
}

fn no_table() -> Problem {
    Problem::WrongType("the sweep is a table: write [sweep] and keys below it, or --set 'sweep.KEY=[...]'".to_owned())
}

fn axes<'i>(source: Source<'i>, tree: &Tree<'i>, leaves: Vec<Leaf<'i>>) -> Result<Vec<Axis<'i>>, ScenarioError> {
    let mut axes: Vec<Axis<'i>> = Vec::new();
    for Leaf { name, key, value } in leaves {
        let fail = |at: &Range<usize>, problem| sweep_error(source, at, &format!("sweep.{name}"), problem);
        let names: Vec<String> = name.split(',').map(|path| path.trim().to_owned()).collect();
        let mut paths: Vec<String> = Vec::new();
        for path in &names {
            if NOT_SWEEPABLE.contains(&path.split('.').next().unwrap_or_default()) {
                return Err(fail(&key, Problem::NotSweepable));
            }
            let path = indexed(tree, path).map_err(|problem| fail(&key, problem))?;
            if paths.contains(&path) || axes.iter().any(|axis| axis.paths.contains(&path)) {
                return Err(fail(&key, Problem::SweepTwice));
            }
            paths.push(path);
        }
        let (span, text) = (value.span(), label(&value));
        let DeValue::Array(list) = value.into_inner() else {
            return Err(fail(&span, Problem::SweepNotList(format!("{text:?}"))));
        };
        if list.is_empty() {
            return Err(fail(&span, Problem::SweepEmpty));
        }
        let mut choices = Vec::new();
        for item in list {
            let at = item.span();
            let expected = paths.len();
            match item.into_inner() {
                item if expected == 1 => choices.push(vec![Spanned::new(at, item)]),
                DeValue::Array(items) if items.len() == expected => choices.push(items.into_iter().collect()),
                _ => return Err(fail(&at, Problem::SweepArity { expected })),
            }
        }
        axes.push(Axis { names, paths, key, choices });
    }
    Ok(axes)
}

/// Applies one `--set`.
fn set<'i>(source: Source<'i>, tree: &mut Tree<'i>, axes: &mut [Axis<'i>], index: usize) -> Result<(), ScenarioError> {
    let name = source.sets[index].0.as_str();
    let key = source.set_key(index);
    if name == "sweep" {
        return Err(sweep_error(source, &key, name, no_table()));
    }
    let value = source.set_value(index);
    let path = indexed(tree, name).map_err(|problem| sweep_error(source, &key, name, problem))?;
    for axis in axes {
        let Some(column) = axis.paths.iter().position(|swept| *swept == path) else { continue };
        if axis.paths.len() == 1 {
            axis.choices = vec![vec![value]];
            return Ok(());
        }
        let found = label(&value);
        let known: Vec<String> = axis.choices.iter().map(|choice| label(&choice[column])).collect();
        axis.choices.retain(|choice| label(&choice[column]) == found);
        if axis.choices.is_empty() {
            let mut known = known;
            known.dedup();
            return Err(sweep_error(source, &key, name, Problem::NotInSweep { found, known }));
        }
        return Ok(());
    }
    put(tree, &path, &key, value);
    Ok(())
}

/// How many cells there are.
fn cross(axes: &[Axis<'_>]) -> u128 {
    axes.iter().fold(1, |cells: u128, axis| cells.saturating_mul(axis.choices.len() as u128))
}

/// Builds the cell of that number; the last axis changes fastest.
fn cell<'i>(
    source: Source<'i>,
    tree: &Tree<'i>,
    axes: &[Axis<'i>],
    number: usize,
) -> Result<(Vec<String>, Scenario), ScenarioError> {
    let mut rest = number;
    let mut picks: Vec<&Vec<Tree<'i>>> = Vec::new();
    for axis in axes.iter().rev() {
        picks.push(&axis.choices[rest % axis.choices.len()]);
        rest /= axis.choices.len();
    }
    picks.reverse();
    let mut tree = tree.clone();
    let mut values = Vec::new();
    let mut words = Vec::new();
    for (axis, pick) in axes.iter().zip(picks) {
        for ((name, path), value) in axis.names.iter().zip(&axis.paths).zip(pick) {
            put(&mut tree, path, &axis.key, value.clone());
            values.push(label(value));
            words.push(format!("{name} = {}", label(value)));
        }
    }
    let words = (!words.is_empty()).then(|| words.join(", "));
    let scenario = resolve(source, &tree).map_err(|error| ScenarioError { cell: words, ..error })?;
    Ok((values, scenario))
}

/// Short names for the sweep's paths, or long ones if short ones would be equal.
fn columns(names: &[&str], measure: Measure) -> Vec<String> {
    let short: Vec<String> = names.iter().map(|name| short_column(name)).collect();
    let reserved = |column: &String| column == "seed" || Row::columns(measure).contains(&column.as_str());
    let taken = |column: &String| reserved(column) || short.iter().filter(|other| *other == column).count() > 1;
    let long = |name: &str| name.replace('.', "_");
    short.iter().zip(names).map(|(column, name)| if taken(column) { long(name) } else { column.clone() }).collect()
}

/// `site.a.link.delay_ms` is `a_delay_ms`, `step.0.count` is `count`, `method` is `method`.
fn short_column(name: &str) -> String {
    let words: Vec<&str> = name.split('.').collect();
    match words[..] {
        ["carrier" | "site" | "node" | "services", owner, .., key] => format!("{owner}_{key}"),
        ["step", _, .., key] => key.to_owned(),
        _ => name.replace('.', "_"),
    }
}
