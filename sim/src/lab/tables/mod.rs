//! The paper's tables beside ours.

mod beyond;
mod handover;
mod layout;
mod mobility;
mod paper;
mod setup;
mod table1;
mod table3;
mod table4;
mod throughput;

use cyphonic_scenarios::Table;

pub(super) use layout::grid;
pub(super) use paper::comparison;

use super::experiment::Done;
use crate::error::LabError;

/// The whole report of `reproduce`. It is an error if the result of an experiment is not the expected one.
pub fn report(all: &[Done]) -> Result<String, LabError> {
    let mut text = String::new();
    let table = |name: &str| all.iter().find(|done| done.plan.name == name).map(|done| &done.table);
    if let Some(table) = table("table1") {
        table1::print(&mut text, table)?;
    }
    if let Some(table) = table("table3") {
        table3::print(&mut text, table);
    }
    if let Some(table) = table("table4") {
        table4::print(&mut text, table);
    }
    if let Some(table) = table("setup") {
        setup::print(&mut text, table);
    }
    if let Some(table) = table("handover") {
        handover::print(&mut text, table)?;
    }
    if let Some(table) = table("throughput") {
        throughput::print(&mut text, table);
    }
    if let Some(table) = table("queue") {
        beyond::print_queue(&mut text, table);
    }
    if let (Some(datagrams), Some(tcp)) = (table("paced"), table("paced-tcp")) {
        beyond::print_paced(&mut text, datagrams, tcp);
    }
    if let Some(table) = table("cipher") {
        beyond::print_cipher(&mut text, table);
    }
    if let Some(table) = table("setup-loss") {
        beyond::print_losses(&mut text, table);
    }
    if let Some(table) = table("idle") {
        beyond::print_idle(&mut text, table);
    }
    if let Some(table) = table("relay") {
        beyond::print_relay(&mut text, table);
    }
    if let Some(table) = table("mobility") {
        mobility::print(&mut text, table);
    }
    Ok(text)
}

/// The rows of any experiment as a grid, for `run`.
pub fn plain(table: &Table) -> String {
    let header = table.header();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = table.records().collect();
    let fits = |width| layout::natural_width(&header, &rows) <= usize::from(width);
    if rows.len() < 2 || layout::width().is_none_or(fits) {
        return grid(&header, table.columns.len(), rows).to_string();
    }
    // If the grid is too wide, columns with one value for all rows are printed once, above it.
    let (same, varied): (Vec<usize>, Vec<usize>) =
        (0..header.len()).partition(|&at| rows.iter().all(|row| row[at] == rows[0][at]));
    let above: Vec<String> = same.iter().map(|&at| format!("{} {}", header[at], rows[0][at])).collect();
    let header: Vec<&str> = varied.iter().map(|&at| header[at]).collect();
    let text = varied.iter().filter(|&&at| at < table.columns.len()).count();
    let rows = rows.iter().map(|row| varied.iter().map(|&at| row[at].clone()).collect()).collect();
    format!("{}\n{}", layout::wrapped("In every row: ", &above), grid(&header, text, rows))
}

/// A line of a table as an object: numbers and truth values as such, an empty field as null.
pub fn object(columns: &[impl AsRef<str>], record: &[String]) -> serde_json::Value {
    let fields = columns.iter().zip(record).map(|(column, value)| (column.as_ref().to_owned(), typed(value)));
    serde_json::Value::Object(fields.collect())
}

/// A field as a JSON value.
fn typed(text: &str) -> serde_json::Value {
    match text {
        "" => serde_json::Value::Null,
        "true" => serde_json::json!(true),
        "false" => serde_json::json!(false),
        number => number
            .parse::<u64>()
            .map(|n| serde_json::json!(n))
            .or_else(|_| number.parse::<f64>().map(|n| serde_json::json!(n)))
            .unwrap_or_else(|_| serde_json::json!(text)),
    }
}
