//! The settings of a daemon. Flags override `CYPHONIC_*` variables, which override a TOML file.
//!
//! Each role has one table (`roles`) of its keys: name, type, help and example. From it come the flag `--key`, the
//! variable `CYPHONIC_KEY`, the key of the file, and the commented example. Paths in a file are relative to the file.

mod roles;
mod value;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use roles::{AuthSettings, NmsSettings, NodeSettings, TrsSettings};
pub use value::{
    Congestion, Dns, Framing, Handover, List, Located, LogFormat, Login, Method, Parsed, Policy, Relay, Renew, Short,
    Signaling,
};

use crate::error::{Code, Failure};

/// One key of a role's settings.
#[derive(Debug)]
pub struct Key {
    /// The field's name: words joined by `_`.
    pub field: &'static str,
    /// The help text, one or more lines.
    pub help: &'static str,
    /// A value in TOML.
    pub example: &'static str,
}

impl Key {
    /// The key's name in the file and on the command line: words joined by `-`.
    pub fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// Whether it may be left out, according to its help.
    pub fn is_optional(&self) -> bool {
        self.help.contains("Default:") || self.help.contains("Optional")
    }

    /// Whether it is always needed.
    pub fn is_needed(&self) -> bool {
        !self.is_optional() && !self.help.contains("Needed unless")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("CYPHONIC_{}", self.field.to_ascii_uppercase())
    }
}

/// The settings of one role. Each is optional until all sources are merged.
pub trait Settings: Sized + DeserializeOwned {
    /// The role's name, as on the command line.
    const ROLE: &'static str;
    /// Every key.
    const KEYS: &'static [Key];

    /// These settings, with missing ones from the argument.
    #[must_use]
    fn over(self, file: Self) -> Self;

    /// Relative paths become relative to `folder`.
    fn locate(&mut self, folder: &Path);

    /// The first key that is needed and not set.
    fn lacks(&self) -> Option<&'static str>;

    /// `self` (flags and variables) over the file, if there is one.
    fn with_file(self, file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            None => Ok(self),
            Some(path) => Ok(self.over(read(path)?)),
        }
    }
}

fn read<S: Settings>(path: &Path) -> Result<S, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("{}: cannot be read: {error}", path.display());
        // The remedy may only write a missing file. A file without permissions is an existing configuration.
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("`cyphonic config example {} > {}` writes one to begin with", S::ROLE, path.display())
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("let this user read it: `ls -l {}` shows its owner and mode", path.display())
            }
            _ => format!("`ls -l {}` shows what it is", path.display()),
        };
        Failure::new(Code::Config, what, remedy)
    })?;
    let mut settings: S = parse(&text, &path.display().to_string())?;
    settings.locate(path.parent().unwrap_or(Path::new("")));
    Ok(settings)
}

/// Reads settings. `file` is the name for messages.
pub fn parse<S: Settings>(text: &str, file: &str) -> Result<S, Failure> {
    toml::from_str(text).map_err(|error| {
        let help = format!("`cyphonic config example {}` shows every key", S::ROLE);
        let remedy = match unknown_key(error.message()) {
            Some(key) => match nearest::<S>(key) {
                Some(near) => format!("did you mean `{near}`? {help}"),
                None => help,
            },
            None => help,
        };
        Failure::new(Code::Config, format!("{file}: {}", error.to_string().trim_end()), remedy)
    })
}

fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn nearest<S: Settings>(key: &str) -> Option<String> {
    let names = S::KEYS.iter().map(Key::name).map(|name| (strsim::damerau_levenshtein(&name, key), name));
    names.filter(|(distance, _)| *distance <= 3).min().map(|(_, name)| name)
}

/// The value of a key that is needed.
pub fn required<S: Settings, T>(value: Option<T>, field: &str) -> Result<T, Failure> {
    value.ok_or_else(|| {
        let key = S::KEYS.iter().find(|key| key.field == field).expect("a key of this role");
        let (name, variable) = (key.name(), key.variable());
        let remedy = format!(
            "set `{name} = {}` in the file, or --{name}, or {variable}: {}",
            key.example,
            key.help.lines().next().unwrap_or_default().trim()
        );
        Failure::new(Code::Config, format!("{}: `{name}` is not set", S::ROLE), remedy)
    })
}

/// A commented file for a role: every key, with its help and an example.
pub fn example<S: Settings>() -> String {
    let mut text = format!("# cyphonic {}: every key, with an example. Flags (--key) and variables\n", S::ROLE);
    text.push_str("# (CYPHONIC_KEY) count before this file. Paths are relative to this file.\n");
    for key in S::KEYS {
        text.push('\n');
        for line in key.help.lines() {
            text.push_str("# ");
            text.push_str(line.trim());
            text.push('\n');
        }
        let _ = writeln!(text, "{}{} = {}", if key.is_optional() { "# " } else { "" }, key.name(), key.example);
    }
    text
}

/// The default configuration file of a role, if it exists.
pub fn default_file(role: &str) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/etc/cyphonic/{role}.toml"));
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example with every key set.
    fn uncommented<S: Settings>(text: &str) -> String {
        let is_key = |line: &&str| S::KEYS.iter().any(|key| line.starts_with(&format!("{} = ", key.name())));
        let lines = text.lines().map(|line| line.strip_prefix("# ").filter(is_key).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn example_reads<S: Settings>() {
        let text = example::<S>();
        parse::<S>(&text, "example").unwrap_or_else(|e| panic!("{e}\n{text}"));
        parse::<S>(&uncommented::<S>(&text), "uncommented").unwrap_or_else(|e| panic!("{e}\n{text}"));
        for key in S::KEYS {
            assert!(text.contains(&format!("{} = ", key.name())), "{}", key.name());
        }
    }

    #[test]
    fn every_example_can_be_read_with_and_without_its_comments() {
        example_reads::<NodeSettings>();
        example_reads::<AuthSettings>();
        example_reads::<NmsSettings>();
        example_reads::<TrsSettings>();
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        let failure = parse::<NodeSettings>("name = \"a.example\"\nmehtod = \"proposed\"\n", "node.toml").unwrap_err();
        assert_eq!(failure.code, Code::Config);
        let text = failure.to_string();
        assert!(text.starts_with("node.toml: ") && text.contains("line 2") && text.contains("mehtod"), "{text}");
        assert!(failure.remedy().starts_with("did you mean `method`?"), "{}", failure.remedy());
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key_and_what_is_wanted() {
        for (line, wanted) in [
            ("port = 70000", "70000"),
            ("method = \"quick\"", "conventional"),
            ("name = \"-bad-\"", "inner hyphens"),
            ("addresses = [\"nowhere\"]", "nowhere"),
        ] {
            let failure = parse::<NodeSettings>(line, "n.toml").unwrap_err();
            assert!(failure.to_string().contains(wanted), "{line}: {failure}");
            assert!(failure.to_string().contains("line 1"), "{line}: {failure}");
        }
    }

    #[test]
    fn a_file_is_whole_only_with_every_key_that_its_role_needs_with_what_else_is_set() {
        fn lacks<S: Settings>(text: &str) -> Option<&'static str> {
            parse::<S>(text, "f.toml").unwrap().lacks()
        }
        // Without any one of the needed keys, the example must be incomplete.
        fn each_is_needed<S: Settings>() {
            let text = example::<S>();
            assert_eq!(lacks::<S>(&text), None);
            for key in S::KEYS.iter().filter(|key| key.is_needed()) {
                let without: Vec<_> =
                    text.lines().filter(|line| !line.starts_with(&format!("{} = ", key.name()))).collect();
                assert_eq!(lacks::<S>(&without.join("\n")), Some(key.field));
            }
        }
        each_is_needed::<NodeSettings>();
        each_is_needed::<AuthSettings>();
        each_is_needed::<NmsSettings>();
        each_is_needed::<TrsSettings>();
        let node = "name = \"a.example\"\nas-addresses = [\"[::1]:1\"]\nroots = \"r\"\n";
        assert_eq!(lacks::<NodeSettings>(node), Some("certificate"));
        assert_eq!(lacks::<NodeSettings>(&format!("{node}certificate = \"c\"")), Some("key"));
        assert_eq!(lacks::<NodeSettings>(&format!("{node}login = \"password\"")), Some("password_file"));
        assert_eq!(lacks::<NodeSettings>(&format!("{node}login = \"password\"\npassword-file = \"p\"")), None);
        let nms = "certificate = \"c\"\nkey = \"k\"\nroots = \"r\"\ndatabase = \"d\"\n";
        assert_eq!(lacks::<NmsSettings>(nms), None);
        assert_eq!(lacks::<NmsSettings>(&format!("{nms}trs = [\"[::1]:1\"]")), Some("service_key"));
    }

    #[test]
    fn what_is_missing_is_named_with_all_three_ways_to_set_it() {
        let failure = required::<NodeSettings, ()>(None, "as_addresses").unwrap_err();
        assert_eq!(failure.to_string(), "node: `as-addresses` is not set");
        for way in ["`as-addresses = ", "--as-addresses", "CYPHONIC_AS_ADDRESSES"] {
            assert!(failure.remedy().contains(way), "{}", failure.remedy());
        }
    }

    #[test]
    fn flags_count_before_the_file_and_paths_in_it_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, "port = 1\nname = \"a.example\"\nkey = \"a.key\"\nroots = \"/abs.pem\"\n").unwrap();
        let flags = NodeSettings { port: Some(2), ..NodeSettings::default() };
        let merged = flags.with_file(Some(&file)).unwrap();
        assert_eq!(merged.port, Some(2));
        assert_eq!(merged.name.unwrap().0.as_str(), "a.example");
        assert_eq!(merged.key.unwrap(), folder.path().join("a.key"));
        assert_eq!(merged.roots.unwrap(), Path::new("/abs.pem"));
        let missing = NodeSettings::default().with_file(Some(&folder.path().join("none.toml"))).unwrap_err();
        assert!(missing.remedy().contains("config example node"), "{}", missing.remedy());
    }
}
