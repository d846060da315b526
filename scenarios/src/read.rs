//! Reads the tree into the [`schema`]: checks spelling and types.
//!
//! A step's keys depend on its `do`. Serde's internally tagged enums would buffer the step and lose the places of its
//! values. So `do` and the keys of [`Timing`] are taken out of the tree first, and the rest is read as the struct of
//! that `do`.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::document::{Source, Tree, path_at};
use crate::error::{Problem, ScenarioError};
use crate::schema::{self, ACTIONS, Action, File, Timing, Where};

/// The keys that every step may have.
const OF_EVERY_STEP: [&str; 4] = ["do", "at_ms", "spread_ms", "skip"];

/// A file with correct spelling and types.
pub(crate) struct Spelled {
    /// Everything except the steps.
    pub(crate) file: File,
    /// The steps: when, and what happens.
    pub(crate) steps: Vec<(Timing, Action)>,
}

/// Reads a tree to which the sweep and `--set` were applied.
pub(crate) fn read(source: Source<'_>, tree: &Tree<'_>) -> Result<Spelled, ScenarioError> {
    let mut rest = tree.clone();
    let steps = match rest.get_mut() {
        DeValue::Table(table) => table.remove("step"),
        _ => None,
    };
    let reader = Reader { source, tree };
    let file = reader.typed("", rest, &[])?;
    let steps = match steps.map(Spanned::into_inner) {
        None => Vec::new(),
        Some(DeValue::Array(list)) => {
            list.into_iter().enumerate().map(|(i, step)| reader.step(i, step)).collect::<Result<_, _>>()?
        }
        Some(_) => {
            let problem = Problem::WrongType("steps are a list: write [[step]]".to_owned());
            return Err(source.error(tree, "step", problem));
        }
    };
    Ok(Spelled { file, steps })
}

/// A file of access rules with correct spelling and types.
pub(crate) fn read_rules(source: Source<'_>, tree: &Tree<'_>) -> Result<schema::AccessRules, ScenarioError> {
    Reader { source, tree }.typed("", tree.clone(), &[])
}

#[derive(Clone, Copy)]
struct Reader<'a, 'i> {
    source: Source<'i>,
    tree: &'a Tree<'i>,
}

impl Reader<'_, '_> {
    fn step(self, index: usize, step: Tree<'_>) -> Result<(Timing, Action), ScenarioError> {
        let path = format!("step.{index}");
        let span = step.span();
        let DeValue::Table(mut table) = step.into_inner() else {
            let problem = Problem::WrongType("a step is a table: write [[step]]".to_owned());
            return Err(self.source.error(self.tree, &path, problem));
        };
        let action = self.take::<String>(&mut table, &path, "do")?;
        let timing = Timing {
            at_ms: self.take(&mut table, &path, "at_ms")?,
            spread_ms: self.take(&mut table, &path, "spread_ms")?,
            skip: self.take(&mut table, &path, "skip")?.unwrap_or_default(),
            words: words(action.as_deref().unwrap_or_default(), &table),
        };
        let rest = Spanned::new(span, DeValue::Table(table));
        let Some(action) = action else {
            return Err(self.source.error(self.tree, &format!("{path}.do"), Problem::MissingKey));
        };
        let action = match action.as_str() {
            "nat_reboot" | "firewall" | "link" | "link_down" | "link_up" => self.network(&path, &action, rest)?,
            "restart" => Action::Restart(self.keys_of_step(&path, rest)?),
            "stop" => Action::Stop(self.keys_of_step(&path, rest)?),
            "revoke" => Action::Revoke(self.keys_of_step(&path, rest)?),
            "expire" => Action::Expire(self.keys_of_step(&path, rest)?),
            "renew" => Action::Renew(self.keys_of_step(&path, rest)?),
            "pause" => Action::Pause(self.keys_of_step(&path, rest)?),
            "suspend" => Action::Suspend(self.keys_of_step(&path, rest)?),
            "clock" => Action::Clock(self.keys_of_step(&path, rest)?),
            "disk_full" => self.keys_of_step::<schema::Idle>(&path, rest).map(|_| Action::DiskFull)?,
            "disk_free" => self.keys_of_step::<schema::Idle>(&path, rest).map(|_| Action::DiskFree)?,
            "rules" => Action::Rules(self.keys_of_step(&path, rest)?),
            "start" => Action::Start(self.keys_of_step(&path, rest)?),
            "echo" => Action::Echo(self.keys_of_step(&path, rest)?),
            "tcp" => Action::Tcp(self.keys_of_step(&path, rest)?),
            "udp" => Action::Udp(self.keys_of_step(&path, rest)?),
            "move" => Action::Move(self.keys_of_step(&path, rest)?),
            "attach" => Action::Attach(self.keys_of_step(&path, rest)?),
            "detach" => Action::Detach(self.keys_of_step(&path, rest)?),
            "rebind" => Action::Rebind(self.keys_of_step(&path, rest)?),
            "path" => Action::Path(self.keys_of_step(&path, rest)?),
            "wait" => Action::Wait(self.keys_of_step(&path, rest)?),
            "probe_mtu" => Action::ProbeMtu(self.keys_of_step(&path, rest)?),
            "idle" => self.keys_of_step::<schema::Idle>(&path, rest).map(|_| Action::Idle)?,
            _ => {
                let known = ACTIONS.iter().map(|&a| a.to_owned()).collect();
                let problem = Problem::UnknownValue { found: action, known };
                return Err(self.source.error(self.tree, &format!("{path}.do"), problem));
            }
        };
        Ok((timing, action))
    }

    /// Reads a step about the network. The keys that name the place are taken out, so that the rest is the table of a
    /// link or firewall.
    fn network(self, path: &str, action: &str, rest: Tree<'_>) -> Result<Action, ScenarioError> {
        let span = rest.span();
        let DeValue::Table(mut table) = rest.into_inner() else { unreachable!("a step is a table") };
        let places: &[&str] = match action {
            "nat_reboot" => &["site", "carrier"],
            "firewall" => &["site"],
            _ => &["site", "service", "carrier"],
        };
        let mut place = Where::default();
        for &key in places {
            match key {
                "site" => place.site = self.take(&mut table, path, key)?,
                "carrier" => place.carrier = self.take(&mut table, path, key)?,
                _ => place.service = self.take(&mut table, path, key)?,
            }
        }
        let off = if action == "firewall" { self.take(&mut table, path, "off")? } else { None };
        let rest = Spanned::new(span, DeValue::Table(table));
        let mut more = places.to_vec();
        more.extend((action == "firewall").then_some("off"));
        more.extend(OF_EVERY_STEP);
        Ok(match action {
            "firewall" => Action::Firewall(place, off.unwrap_or(false), self.typed(path, rest, &more)?),
            "link" => Action::Link(place, Box::new(self.typed(path, rest, &more)?)),
            _ => {
                self.typed::<schema::Idle>(path, rest, &more)?;
                match action {
                    "nat_reboot" => Action::NatReboot(place),
                    "link_down" => Action::LinkDown(place),
                    _ => Action::LinkUp(place),
                }
            }
        })
    }

    fn take<T: DeserializeOwned>(
        self,
        table: &mut DeTable<'_>,
        path: &str,
        key: &str,
    ) -> Result<Option<T>, ScenarioError> {
        table.remove(key).map(|value| self.typed(&format!("{path}.{key}"), value, &[])).transpose()
    }

    fn keys_of_step<T: DeserializeOwned>(self, path: &str, rest: Tree<'_>) -> Result<T, ScenarioError> {
        self.typed(path, rest, &OF_EVERY_STEP)
    }

    /// Reads the value at `path`; `more` are keys that were taken out of it.
    fn typed<T: DeserializeOwned>(self, path: &str, value: Tree<'_>, more: &[&str]) -> Result<T, ScenarioError> {
        let whole = value.span();
        T::deserialize(ValueDeserializer::from(value)).map_err(|error| {
            let span = error.span().unwrap_or(whole);
            let path = path_at(self.tree, &span).unwrap_or_else(|| path.to_owned());
            let (path, problem) = explain(error.message(), path, more);
            let place = self.source.place(span.start);
            ScenarioError { place, ..self.source.error(self.tree, &path, problem) }
        })
    }
}

/// Turns serde's message into ours; `path` is the place of the error.
fn explain(message: &str, path: String, more: &[&str]) -> (String, Problem) {
    let mut words = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if message.starts_with("unknown field") {
        let found = words.next().unwrap_or_default();
        let known = words.chain(more.iter().map(|&key| key.to_owned())).collect();
        // Tables that a path of `--set` made have the same place as the key below them.
        let cut = path.split('.').position(|segment| segment == found);
        let path = cut.map_or(path.clone(), |cut| path.split('.').take(cut + 1).collect::<Vec<_>>().join("."));
        (path, Problem::UnknownKey { found, known })
    } else if message.starts_with("unknown variant") {
        let found = words.next().unwrap_or_default();
        (path, Problem::UnknownValue { found, known: words.collect() })
    } else if message.starts_with("missing field") {
        (below(&words.next().unwrap_or_default()), Problem::MissingKey)
    } else {
        (path, Problem::WrongType(plain(message)))
    }
}

/// A type error without Rust's names of types.
fn plain(message: &str) -> String {
    let (head, expected) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let plain = match expected {
        "u64" => "a whole number",
        "u32" => "a whole number up to 4294967295",
        "u16" => "a whole number up to 65535",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    };
    match expected {
        "" => message.to_owned(),
        _ => format!("{head}expected {plain}"),
    }
}

/// A step as a person says it: its `do` and then its keys, as in `echo count 3 from a to b`.
fn words(action: &str, keys: &DeTable<'_>) -> String {
    let keys = keys.iter().map(|(key, value)| format!(" {} {}", key.get_ref(), spoken(value.get_ref())));
    std::iter::once(action.to_owned()).chain(keys).collect()
}

fn spoken(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => list.iter().map(|item| spoken(item.get_ref())).collect::<Vec<_>>().join(", "),
        DeValue::Table(table) => {
            let keys = table.iter().map(|(key, value)| format!("{} {}", key.get_ref(), spoken(value.get_ref())));
            format!("({})", keys.collect::<Vec<_>>().join(", "))
        }
    }
}
