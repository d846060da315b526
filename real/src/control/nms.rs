//! `cyphonic status` of an NMS: which access rules are in force.

use std::fmt::Write as _;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::fleet::OtherMachine;

/// The state of an NMS.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NmsStatus {
    /// Its name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The access rules that are in force.
    pub rules: AccessRules,
    /// The nodes whose name and key two machines use.
    #[serde(default)]
    pub twins: Vec<Twins>,
}

/// A node whose name and key two machines use.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Twins {
    /// Its name.
    pub name: String,
    /// Where the NMS sees the machine that is registered.
    pub served: Option<SocketAddr>,
    /// The other one.
    pub other: OtherMachine,
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
        for Twins { name, served, other } in &self.twins {
            let served = served.map_or_else(String::new, |served| format!(" is registered at {served};"));
            let _ = writeln!(text, "  warning  {name}{served} {}: is its key copied, or stolen?", other.describe());
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
        let twins = vec![Twins {
            name: "a.example".into(),
            served: Some("192.0.2.5:443".parse().unwrap()),
            other: OtherMachine { remote: "198.51.100.7:443".parse().unwrap(), refused_s: 7.2 },
        }];
        let status = NmsStatus { name: "nms.example".into(), version: "1".into(), rules, twins };
        assert!(
            status.describe().contains("  rules    closed, but for 2 rules (rules.toml)\n"),
            "{}",
            status.describe()
        );
        assert!(
            status.describe().ends_with(
                "  warning  a.example is registered at 192.0.2.5:443; another machine with its name and key was refused at \
                 198.51.100.7:443, 7 s ago: is its key copied, or stolen?\n"
            ),
            "{}",
            status.describe()
        );
        let rules = AccessRules { open: true, rules: 0, trouble: Some("rules.toml:1:1: no".into()), ..status.rules };
        let text = NmsStatus { rules, ..status }.describe();
        assert!(text.contains("everybody") && text.contains("as it is now: rules.toml:1:1: no\n"), "{text}");
    }
}
