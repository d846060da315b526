//! Access rules: of a scenario, of a step, and of a file of the NMS.

use std::collections::BTreeMap;

use cyphonic_core::rules::{Allow, Glob, MAX_SERVICES, Rules, Service};

use super::Context;
use crate::error::{Problem, ScenarioError};
use crate::schema::{AccessRule, AccessRules};
use crate::words::Openness;

/// Reads the table of rules at `path`. Names without a dot are in `zone`; without a zone they are groups only.
pub(super) fn rules(
    context: Context<'_, '_>,
    path: &str,
    words: &AccessRules,
    zone: Option<&str>,
) -> Result<Rules, ScenarioError> {
    let key = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let mut reader = Reader { context, zone, groups: BTreeMap::new() };
    for (name, patterns) in &words.groups {
        let at = key(&format!("groups.{name}"));
        let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_good) {
            return context.fail(&at, Problem::BadGroup(name.clone()));
        }
        let globs = patterns.iter().enumerate().map(|(index, text)| reader.glob(&format!("{at}.{index}"), text));
        let globs = globs.collect::<Result<Vec<_>, _>>()?;
        reader.groups.insert(name.clone(), globs);
    }
    let mut allow = Vec::new();
    for (index, AccessRule { from, to, services }) in words.allow.iter().enumerate() {
        let at = key(&format!("allow.{index}"));
        allow.push(Allow {
            from: reader.side(&format!("{at}.from"), from)?,
            to: reader.side(&format!("{at}.to"), to)?,
            services: by(context, &format!("{at}.services"), services.as_deref())?,
        });
    }
    match words.default {
        None if zone.is_none() => context.fail(&key("default"), Problem::MissingKey),
        None if !allow.is_empty() => context.fail(&key("allow"), Problem::RulesWithoutDefault),
        None => Ok(Rules::default()),
        Some(Openness::Open) => Ok(Rules::open()),
        Some(Openness::Closed) => context.at(&key("allow"), Rules::closed(allow).map_err(Problem::from)),
    }
}

/// The services of a rule; none if it allows everything.
fn by(context: Context<'_, '_>, path: &str, words: Option<&[String]>) -> Result<Vec<Service>, ScenarioError> {
    let Some(words) = words else { return Ok(Vec::new()) };
    if words.is_empty() {
        return context.fail(path, Problem::NoServices);
    }
    context.at_most(path, words.len(), MAX_SERVICES)?;
    let service = |(index, word): (usize, &String)| {
        context.at(&format!("{path}.{index}"), word.parse::<Service>().map_err(Problem::from))
    };
    words.iter().enumerate().map(service).collect()
}

struct Reader<'a, 'i> {
    context: Context<'a, 'i>,
    zone: Option<&'a str>,
    groups: BTreeMap<String, Vec<Glob>>,
}

impl Reader<'_, '_> {
    /// One side of a rule: groups, and patterns.
    fn side(&self, path: &str, words: &[String]) -> Result<Vec<Glob>, ScenarioError> {
        let mut globs = Vec::new();
        for (index, word) in words.iter().enumerate() {
            match self.groups.get(word) {
                Some(group) => globs.extend_from_slice(group),
                None => globs.push(self.glob(&format!("{path}.{index}"), word)?),
            }
        }
        Ok(globs)
    }

    fn glob(&self, path: &str, word: &str) -> Result<Glob, ScenarioError> {
        let is_whole = word.contains('.') || word == "*";
        let text = match self.zone {
            Some(zone) if !is_whole => format!("{word}.{zone}"),
            None if !is_whole && !word.contains('*') => {
                let known = self.groups.keys().cloned().collect();
                return self.context.fail(path, Problem::UnknownGroup { found: word.to_owned(), known });
            }
            _ => word.to_owned(),
        };
        self.context.at(path, text.parse().map_err(Problem::from))
    }
}
