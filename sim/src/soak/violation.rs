//! An invariant that a run broke.

use std::fmt;

pub use cyphonic_scenarios::Invariant;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// A sentence that says what happened.
    pub sentence: String,
}

impl Violation {
    /// Whether two sentences describe the same failure: they agree except in numbers and additions.
    pub fn is_like(&self, other: &Self) -> bool {
        let words = |violation: &Self| {
            let text = violation.sentence.split(';').next().unwrap_or_default().to_owned();
            text.split(|c: char| c.is_ascii_digit() || c == '.').filter(|part| !part.is_empty()).collect::<String>()
        };
        self.invariant == other.invariant && words(self) == words(other)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.sentence)
    }
}

/// A broken invariant, with a sentence on what happened.
pub(super) fn violation(invariant: Invariant, sentence: String) -> Violation {
    Violation { invariant, sentence }
}
