//! `rules`: checks a file of access rules, and asks it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::{Glob, Permission, Rules};

use super::print;
use crate::error::{Code, Failure};
use crate::run::read_rules;

#[derive(Subcommand)]
pub(super) enum RulesCommands {
    /// Check that a file can be used, and say what it allows.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say which of two nodes may open flows to the other one, and by which rules.
    WhoMay {
        /// A node's whole name.
        a: String,
        /// Another node's.
        b: String,
        /// The file.
        #[arg(long, env = "CYPHONIC_RULES", default_value = "rules.toml")]
        rules: PathBuf,
    },
}

pub(super) fn run(command: RulesCommands) -> Result<(), Failure> {
    match command {
        RulesCommands::Check { file } => {
            print(&check(&file, &read_rules(&file)?));
            Ok(())
        }
        RulesCommands::WhoMay { a, b, rules } => {
            let (a, b) = (name(&a)?, name(&b)?);
            print(&who_may(&read_rules(&rules)?, &a, &b));
            Ok(())
        }
    }
}

fn name(text: &str) -> Result<Fqdn, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Code::Usage, format!("{text:?} is no name: {error}"), "give a node's whole name: a.example.net")
    })
}

fn check(file: &Path, rules: &Rules) -> String {
    let file = file.display();
    if rules.is_open() {
        return format!("{file}: good; open: everybody may talk to everybody\n");
    }
    let mut text = format!("{file}: good; closed, but for:\n");
    for (index, rule) in rules.allow().iter().enumerate() {
        let by: Vec<_> = rule.services.iter().map(ToString::to_string).collect();
        let by = if by.is_empty() { String::new() } else { format!(", by {}", by.join(", ")) };
        let _ = writeln!(text, "  rule {}: from {} to {}{by}", index + 1, list(&rule.from), list(&rule.to));
    }
    if rules.allow().is_empty() {
        text += "  nothing: nobody may talk to anybody\n";
    }
    text
}

/// Some patterns, and how many more there are.
fn list(globs: &[Glob]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = globs.iter().take(SHOWN).map(ToString::to_string).collect();
    match globs.len().saturating_sub(SHOWN) {
        0 if shown.is_empty() => "nobody".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn flows(permission: &Permission) -> String {
    match permission {
        Permission::Nothing | Permission::Everything => "flows".to_owned(),
        services @ Permission::Services(_) => format!("flows by {services}"),
    }
}

fn who_may(rules: &Rules, a: &Fqdn, b: &Fqdn) -> String {
    if rules.is_open() {
        return format!("{a} and {b} may talk: the rules are open\n");
    }
    let roles = [rules.roles(a), rules.roles(b)];
    let mut text = String::new();
    for (from, to, [own, peers]) in [(a, b, [&roles[0], &roles[1]]), (b, a, [&roles[1], &roles[0]])] {
        let (why, what) = (rules.why(own, peers), flows(&rules.permission(own, peers)));
        let numbers: Vec<_> = why.iter().map(ToString::to_string).collect();
        let why = match &numbers[..] {
            [] => {
                let _ = writeln!(text, "{from} may not open flows to {to}: no rule allows it");
                continue;
            }
            [one] => format!("rule {one}"),
            many => format!("rules {}", many.join(", ")),
        };
        let _ = writeln!(text, "{from} may open {what} to {to}: {why}");
    }
    if !rules.may_meet(&roles[0], &roles[1]) {
        text += "they have no tunnel, and neither is told the other's address\n";
    }
    text
}
