//! `cyphonic status` of an NMS: which access rules are in force.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The state of an NMS.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct NmsStatus {
    /// Its name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The access rules that are in force.
    pub rules: AccessRules,
}

/// The access rules that are in force.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct AccessRules {
    /// The file that they were read from; none if there is none.
    pub file: Option<String>,
    /// Whether everybody may talk to everybody.
    pub open: bool,
    /// The number of rules that allow something.
    pub rules: usize,
    /// Why the file as it is now is not in force, with the line and the column.
    pub trouble: Option<String>,
}

impl NmsStatus {
    pub(super) fn describe(&self) -> String {
        let AccessRules { file, open, rules, trouble } = &self.rules;
        let what = match (open, rules) {
            (true, _) => "open: everybody may talk to everybody".to_owned(),
            (false, 0) => "closed: nobody may talk to anybody".to_owned(),
            (false, 1) => "closed, but for one rule".to_owned(),
            (false, rules) => format!("closed, but for {rules} rules"),
        };
        let file = file.as_ref().map_or_else(|| "no file".to_owned(), Clone::clone);
        let mut text = format!("{}  running (version {})\n  rules    {what} ({file})\n", self.name, self.version);
        if let Some(trouble) = trouble {
            let _ = writeln!(text, "  warning  the file is not in force as it is now: {trouble}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_said_and_why_the_file_is_not() {
        let rules = AccessRules { file: Some("rules.toml".into()), open: false, rules: 2, trouble: None };
        let status = NmsStatus { name: "nms.example".into(), version: "1".into(), rules };
        assert!(
            status.describe().contains("  rules    closed, but for 2 rules (rules.toml)\n"),
            "{}",
            status.describe()
        );
        let rules = AccessRules { open: true, rules: 0, trouble: Some("rules.toml:1:1: no".into()), ..status.rules };
        let text = NmsStatus { rules, ..status }.describe();
        assert!(text.contains("everybody") && text.contains("as it is now: rules.toml:1:1: no\n"), "{text}");
    }
}
