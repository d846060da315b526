//! A scenario as tables of words: the generator writes it, the shrinker edits it, and a person reads it.

use std::fmt::Write as _;

use cyphonic_scenarios::{Document, Plan, Scenario, ScenarioError};
use toml::{Table, Value};

/// Sections in the order in which they are written; other keys of the top come before them.
const SECTIONS: [&str; 6] = ["rules", "services", "carrier", "site", "node", "step"];
/// Keys that are written first, wherever they are.
const FIRST: [&str; 10] = ["title", "about", "measure", "expect", "name", "at_ms", "do", "kind", "node", "from"];

/// A scenario file that was not checked yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet(pub Table);

impl Sheet {
    /// Reads TOML, without checking the scenario.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| error.to_string())
    }

    /// The tables of a section; none without that section.
    pub fn section(&self, name: &str) -> impl Iterator<Item = &Table> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
    }

    /// As [`Self::section`], mutable. A missing section is made.
    pub fn section_mut(&mut self, name: &str) -> &mut Vec<Value> {
        let section = self.0.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        section.as_array_mut().expect("a section is a list")
    }

    /// A key at the top.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// The text of the file: sections in the order of the scenarios' README, one key in a line, nested tables inline.
    pub fn render(&self) -> String {
        let mut text = String::new();
        lines(&mut text, self.0.iter().filter(|(key, _)| !SECTIONS.contains(&key.as_str())));
        for name in SECTIONS {
            match self.0.get(name) {
                Some(Value::Table(table)) => {
                    let _ = writeln!(text, "\n[{name}]");
                    lines(&mut text, table.iter());
                }
                Some(Value::Array(tables)) => {
                    for table in tables.iter().filter_map(Value::as_table) {
                        let _ = writeln!(text, "\n[[{name}]]");
                        lines(&mut text, table.iter());
                    }
                }
                _ => {}
            }
        }
        text
    }

    /// The scenario that it describes.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        let plan = Plan::expand(&Document::parse("soak", &self.render())?, &[])?;
        Ok(plan.cells.into_iter().next().expect("a plan has a cell").scenario)
    }
}

fn lines<'a>(text: &mut String, keys: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut keys: Vec<_> = keys.collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    keys.sort_by_key(|(key, _)| rank(key));
    for (key, value) in keys {
        let _ = writeln!(text, "{key} = {}", inline(value));
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let inner: Vec<_> = table.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            if inner.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", inner.join(", ")) }
        }
        Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A table from keys and values.
pub(super) fn table<const N: usize>(keys: [(&str, Value); N]) -> Table {
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_what_it_was() {
        let text = "title = \"T\"\nabout = \"A\"\nmethod = \"proposed\"\n\n[services]\nas = { delay_ms = 2 }\n\n\
                    [[site]]\nname = \"a\"\nkind = \"ipv6\"\nfirewall = { egress = [\"udp/443\"] }\n\n\
                    [[step]]\nat_ms = 3\ndo = \"start\"\n";
        let sheet = Sheet::parse(text).unwrap();
        assert_eq!(sheet.render(), text);
        assert_eq!(Sheet::parse(&sheet.render()).unwrap(), sheet);
    }
}
