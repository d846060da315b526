//! Every timer of the protocol: how long, how often, and why.
//!
//! There is one file for each role. Each constant has two paragraphs. The first says what it bounds. The second, after
//! "Why:", says where its value comes from: an RFC, a measurement, or arithmetic with other timers. A reason that
//! begins with "chosen" names what the value trades. The table in `PROTOCOL.md` is made of the same rows, and a test
//! holds the two equal.
//!
//! A message is retransmitted after the first wait, then after twice the previous wait each time, up to
//! [`common::LONGEST_RETRY`]: see [`Backoff`](crate::timers::Backoff).

use std::fmt;
use std::time::Duration;

/// Declares constants, and `rows()`, which has them as a table.
macro_rules! timings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $value:expr;)+) => {
        $($(#[doc = $doc])+ pub const $name: $kind = $value;)+

        /// These constants as rows of a table, in the order of the file.
        pub fn rows() -> Vec<$crate::timing::Row> {
            vec![$($crate::timing::Row::new(stringify!($name), $name, concat!($($doc, "\n"),+))),+]
        }
    };
}

pub mod auth;
pub mod common;
pub mod nms;
pub mod node;
pub mod paths;
pub mod proxied;
pub mod quic;
mod timer;
pub mod trs;

pub use timer::{Due, Timer, earliest};

/// How many times as long each wait of a route construction is, if one of the two nodes is slow
/// ([`node::SLOW_ROUND_TRIP`]).
///
/// Why: a dialer's limit of 4 s (`DIAL_STEP_TIMEOUT`) becomes 16 s: two round trips of 6 s, and a lost packet.
pub const SLOW_FACTOR: u32 = 4;

/// A wait of a route construction, if one of the two nodes may be slow.
pub fn patient(wait: Duration, slow: bool) -> Duration {
    if slow { wait * SLOW_FACTOR } else { wait }
}

/// A constant, as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How much it is.
    pub value: Value,
    /// What it bounds.
    pub what: String,
    /// Where its value comes from.
    pub why: String,
}

impl Row {
    fn new(name: &'static str, value: impl Into<Value>, doc: &str) -> Self {
        let (what, why) = doc.split_once("Why:").unwrap_or((doc, ""));
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { name, value: value.into(), what: line(what), why: line(why) }
    }
}

/// How much a constant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A time.
    Time(Duration),
    /// How often.
    Times(u8),
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl From<u8> for Value {
    fn from(times: u8) -> Self {
        Self::Times(times)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => match (time.as_secs(), time.subsec_millis()) {
                (days, 0) if days > 0 && days.is_multiple_of(86_400) => write!(f, "{} d", days / 86_400),
                (hours, 0) if hours > 0 && hours.is_multiple_of(3_600) => write!(f, "{} h", hours / 3_600),
                (0, _) => write!(f, "{} ms", time.as_millis()),
                _ => write!(f, "{} s", time.as_secs_f64()),
            },
            Self::Times(times) => write!(f, "{times} ×"),
        }
    }
}

/// All timers, by role.
pub fn table() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("every role", common::rows()),
        ("node", node::rows()),
        ("AS", auth::rows()),
        ("NMS", nms::rows()),
        ("TRS", trs::rows()),
        ("QUIC links", quic::rows()),
        ("paths", paths::rows()),
        ("UDP over TCP", proxied::rows()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    /// Around the table in `PROTOCOL.md`.
    const BEGIN: &str = "<!-- timers: `UPDATE=1 cargo test -p cyphonic-core timing` writes this table -->\n";
    const END: &str = "<!-- end of timers -->";

    fn as_markdown() -> String {
        let mut text = String::from("| timer | value | what it bounds | why this value |\n|---|---|---|---|\n");
        for (role, rows) in table() {
            writeln!(text, "| **{role}** | | | |").unwrap();
            for Row { name, value, what, why } in rows {
                let plain = |text: String| text.replace("[`", "`").replace("`]", "`");
                writeln!(text, "| `{name}` | {value} | {} | {} |", plain(what), plain(why)).unwrap();
            }
        }
        text
    }

    #[test]
    fn the_table_in_the_protocol_document_is_made_of_the_constants() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/PROTOCOL.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (before, rest) = document.split_once(BEGIN).expect("the begin of the table");
        let (written, after) = rest.split_once(END).expect("the end of the table");
        let table = as_markdown();
        if std::env::var_os("UPDATE").is_some() {
            return std::fs::write(path, [before, BEGIN, &table, END, after].concat()).unwrap();
        }
        for (written, true_) in written.lines().zip(table.lines()) {
            assert_eq!(written, true_, "run with UPDATE=1 and read the difference");
        }
        assert_eq!(written.lines().count(), table.lines().count(), "run with UPDATE=1 and read the difference");
    }

    #[test]
    fn each_timer_has_a_name_of_its_own_and_says_what_it_bounds_and_why_it_is_so_long() {
        let mut names = BTreeSet::new();
        for row in table().into_iter().flat_map(|(_, rows)| rows) {
            assert!(names.insert(row.name), "{} is the name of two", row.name);
            assert!(row.what.ends_with('.') && row.why.ends_with('.'), "{}: {} / {}", row.name, row.what, row.why);
        }
    }

    #[test]
    fn values_are_written_in_the_unit_that_a_reader_expects() {
        let texts =
            [5, 1_600, 8_000, 3_600_000, 400 * 86_400_000].map(|ms| Value::from(Duration::from_millis(ms)).to_string());
        assert_eq!(texts, ["5 ms", "1.6 s", "8 s", "1 h", "400 d"]);
    }
}
