//! Every timer of the protocol: how long, how often, and why.
//!
//! One file for each role. Each constant has two paragraphs: what it bounds, and, after "Why:", where its value comes
//! from: an RFC, a measurement, or arithmetic with other timers. A value that was only chosen says what it trades. The
//! table in `PROTOCOL.md` is made of the same rows, and a test holds the two equal.
//!
//! What retransmits does so after the first wait, then after twice as long each time, up to [`common::LONGEST_RETRY`];
//! see [`Backoff`](crate::timers::Backoff).

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

pub mod nms;
pub mod node;

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
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Times(times) => write!(f, "{times} times"),
        }
    }
}

/// All of them, by role.
pub fn table() -> Vec<(&'static str, Vec<Row>)> {
    vec![("node", node::rows()), ("NMS", nms::rows())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_timer_has_a_name_of_its_own_and_says_what_it_is_and_why_it_is_so_long() {
        let mut names = BTreeSet::new();
        for row in table().into_iter().flat_map(|(_, rows)| rows) {
            assert!(names.insert(row.name), "{} is the name of two", row.name);
            assert!(row.what.ends_with('.') && row.why.ends_with('.'), "{}: {} / {}", row.name, row.what, row.why);
        }
    }
}
