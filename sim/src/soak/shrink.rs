//! Makes a failing plan small: removes every part without which it still fails in the same way.
//!
//! The search is greedy. An edit that gives an invalid scenario, or another failure, is undone. Steps go first, in
//! halves, quarters and so on; then nodes with all their steps, sites, carriers; then single words.

use toml::{Table, Value};

use super::sheet::Sheet;

/// Keys that every scenario must have.
const NEEDED: [&str; 4] = ["title", "about", "measure", "seeds"];

/// The smallest plan that was found, and the number of plans that were tried. `fails` says whether a plan still fails
/// as the first one did. It is called at most `budget` times.
pub fn shrink(sheet: &Sheet, budget: usize, fails: impl FnMut(&Sheet) -> bool) -> (Sheet, usize) {
    let mut shrinker = Shrinker { best: sheet.clone(), tried: 0, budget, fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.steps();
        shrinker.members("node");
        shrinker.homes();
        shrinker.members("site");
        shrinker.members("carrier");
        shrinker.words();
        if shrinker.best == before || shrinker.tried >= budget {
            return (shrinker.best, shrinker.tried);
        }
    }
}

struct Shrinker<F> {
    best: Sheet,
    tried: usize,
    budget: usize,
    fails: F,
}

impl<F: FnMut(&Sheet) -> bool> Shrinker<F> {
    /// Keeps an edit, if the failure is still there.
    fn attempt(&mut self, edit: impl FnOnce(&mut Sheet)) -> bool {
        let mut candidate = self.best.clone();
        edit(&mut candidate);
        // An invalid scenario costs no run, so it does not count.
        if self.tried >= self.budget || candidate == self.best || candidate.scenario().is_err() {
            return false;
        }
        self.tried += 1;
        let kept = (self.fails)(&candidate);
        if kept {
            self.best = candidate;
        }
        kept
    }

    fn len(&self, section: &str) -> usize {
        self.best.section(section).count()
    }

    fn steps(&mut self) {
        let mut size = self.len("step").div_ceil(2).max(1);
        loop {
            // From the end: the last steps mostly concern other pairs than the one that failed.
            let mut end = self.len("step");
            while end > 0 {
                let begin = end.saturating_sub(size);
                self.attempt(|sheet| drop(sheet.section_mut("step").drain(begin..end)));
                end = begin;
            }
            if size == 1 {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    /// Removes one member of a section after another, with every step that names it.
    fn members(&mut self, section: &str) {
        for index in (0..self.len(section)).rev() {
            let Some(name) = self.best.section(section).nth(index).and_then(name) else { continue };
            self.attempt(|sheet| {
                sheet.section_mut(section).remove(index);
                sheet.section_mut("step").retain(|step| !mentions(step, &name));
                for step in sheet.section_mut("step") {
                    forget(step, &name);
                }
                for section in ["node", "site"] {
                    for member in sheet.section_mut(section) {
                        forget(member, &name);
                    }
                }
                sheet.0.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
            });
        }
    }

    /// Moves each node to another node's site.
    fn homes(&mut self) {
        let homes: Vec<Value> = self.best.section("node").filter_map(|node| node.get("site").cloned()).collect();
        for index in 0..self.len("node") {
            for home in &homes {
                let put = |sheet: &mut Sheet| {
                    if let Some(node) = sheet.section_mut("node")[index].as_table_mut() {
                        node.remove("interfaces");
                        node.insert("site".to_owned(), home.clone());
                    }
                };
                let was = self.best.section("node").nth(index).and_then(|node| node.get("site").cloned());
                // In one direction only, or two nodes would swap sites for ever.
                let is_better = was.is_none_or(|was| position(&homes, &was) > position(&homes, home));
                if is_better && self.attempt(put) {
                    break;
                }
            }
        }
    }

    fn words(&mut self) {
        let top: Vec<String> = self.best.0.keys().filter(|key| !NEEDED.contains(&key.as_str())).cloned().collect();
        for key in top {
            if !self.best.0.get(&key).is_some_and(Value::is_array) {
                self.attempt(|sheet| drop(sheet.0.remove(&key)));
            }
        }
        if let Some(Value::Table(services)) = self.best.0.get("services").cloned() {
            self.tables(&services, &|sheet| sheet.0.get_mut("services").and_then(Value::as_table_mut));
        }
        for section in ["carrier", "site", "node", "step"] {
            for index in 0..self.len(section) {
                let Some(table) = self.best.section(section).nth(index).cloned() else { continue };
                self.tables(&table, &move |sheet| sheet.section_mut(section).get_mut(index)?.as_table_mut());
            }
        }
    }

    /// Removes each key of a table, and of the tables in it. If a key is needed, its number is made small.
    fn tables(&mut self, table: &Table, find: &dyn Fn(&mut Sheet) -> Option<&mut Table>) {
        for (key, value) in table {
            let gone = self.attempt(|sheet| {
                if let Some(table) = find(sheet) {
                    table.remove(key);
                }
            });
            if gone {
                continue;
            }
            match value {
                Value::Table(inner) => {
                    self.tables(inner, &|sheet| find(sheet)?.get_mut(key)?.as_table_mut());
                }
                Value::Integer(number) if *number > 1 && matches!(key.as_str(), "count" | "bytes" | "give_up_s") => {
                    self.attempt(|sheet| {
                        if let Some(table) = find(sheet) {
                            table.insert(key.clone(), Value::Integer(1));
                        }
                    });
                }
                _ => {}
            }
        }
    }
}

fn position(homes: &[Value], home: &Value) -> usize {
    homes.iter().position(|other| other == home).unwrap_or(homes.len())
}

fn name(table: &Table) -> Option<String> {
    table.get("name").and_then(Value::as_str).map(str::to_owned)
}

/// Whether a step names this member.
fn mentions(step: &Value, name: &str) -> bool {
    let about = ["node", "from", "to", "what", "site", "carrier"];
    step.as_table().is_some_and(|step| about.iter().any(|key| step.get(*key).and_then(Value::as_str) == Some(name)))
}

/// Removes a name from a member's lists, and as its carrier.
fn forget(member: &mut Value, name: &str) {
    let Some(table) = member.as_table_mut() else { return };
    for key in ["nodes", "interfaces"] {
        if let Some(Value::Array(list)) = table.get_mut(key) {
            list.retain(|item| item.as_str() != Some(name));
        }
    }
    if table.get("carrier").and_then(Value::as_str) == Some(name) {
        table.remove("carrier");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::generate::generate;

    #[test]
    fn what_does_not_matter_goes_and_what_matters_stays() {
        let sheet = (1..100).map(generate).find(|sheet| sheet.section("step").count() > 30).unwrap();
        let last = sheet.section("step").last().unwrap().clone();
        let needs = |sheet: &Sheet| {
            sheet
                .section("step")
                .any(|step| step.get("from") == last.get("from") && step.get("at_ms") == last.get("at_ms"))
        };
        let (least, tried) = shrink(&sheet, 2_000, needs);
        assert!(needs(&least) && tried < 2_000, "{tried}");
        assert!(least.section("step").count() <= 2 && least.section("node").count() == 2, "{}", least.render());
        assert_eq!(least.section("site").count(), 1, "{}", least.render());
        assert!(least.section("carrier").next().is_none() && least.0.get("services").is_none(), "{}", least.render());
    }
}
