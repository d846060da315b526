//! Errors of the program, each with a message, a remedy and an exit code.
//!
//! Every error that ends the program names the file, key or address in question, and has a remedy. Scripts use the exit
//! code. [`Code`] is the whole list, and the README repeats it.

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The reason why the program ends, as a number for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Code {
    /// An unexpected error: a bug, or a failure of the operating system.
    Other = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration is missing, incomplete or wrong.
    Config = 3,
    /// A certificate or key is missing, wrong, revoked or readable by others.
    Identity = 4,
    /// An address or port is taken, or not ours.
    Address = 5,
    /// The system refuses it: TUN, routes, low ports, or another user's control socket.
    Permission = 6,
    /// The database cannot be used: locked, damaged, full.
    Database = 7,
    /// A service or peer cannot be reached.
    Unreachable = 8,
    /// The name is taken.
    Duplicate = 9,
    /// No daemon answers on the control socket.
    NotRunning = 10,
    /// A certificate has expired or is not valid yet, or the clock is wrong.
    Clock = 11,
}

impl Code {
    /// Every code with its meaning, for `--help` and the README.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Other, "something unexpected"),
        (Self::Usage, "the command line makes no sense"),
        (Self::Config, "the configuration is missing, incomplete or wrong"),
        (Self::Identity, "a certificate or key is missing, wrong, revoked or readable by others"),
        (Self::Address, "an address or port is taken, or not this machine's"),
        (Self::Permission, "no permission for TUN, routes, ports or the control socket"),
        (Self::Database, "the database is locked, damaged or full"),
        (Self::Unreachable, "a service or peer cannot be reached"),
        (Self::Duplicate, "the name is taken"),
        (Self::NotRunning, "no daemon answers on the control socket"),
        (Self::Clock, "a certificate has expired, or the clock is wrong"),
    ];
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error with its remedy.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    what: String,
    remedy: String,
}

impl Failure {
    /// An error from what happened and its remedy.
    pub fn new(code: Code, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, what: what.into(), remedy: remedy.into() }
    }

    /// An unexpected error.
    pub fn other(what: impl fmt::Display) -> Self {
        let remedy = "check the system: disk, memory, permissions; a daemon says more with --log debug";
        Self::new(Code::Other, what.to_string(), remedy)
    }

    /// The remedy.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_all_different_and_stay_what_they_are() {
        let numbers = Code::ALL.map(|(code, _)| code as u8);
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn what_nobody_foresaw_has_a_remedy_that_fits_commands_without_a_log_too() {
        let failure = Failure::other("the disk fell off");
        assert_eq!(failure.code, Code::Other);
        assert!(!failure.remedy().contains("run again with --log"), "{}", failure.remedy());
        assert!(failure.remedy().contains("a daemon says more with --log debug"), "{}", failure.remedy());
    }

    #[test]
    fn the_readme_lists_every_exit_code() {
        let readme = include_str!("../README.md");
        for (code, meaning) in Code::ALL {
            let row = format!("| {} | {meaning} |", code as u8);
            assert!(readme.contains(&row), "{row}");
        }
    }
}
