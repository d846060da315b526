//! Rows of the numbers that the paper prints.

use serde::Deserialize;

use super::{Field, Kind, Pattern, amount};
use crate::input::Row;

/// A row of the paper's Table 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PaperPattern {
    /// The initiator's network.
    pub initiator: Kind,
    /// The responder's network.
    pub responder: Kind,
    /// The pattern it prints.
    pub pattern: Pattern,
}

impl Row for PaperPattern {
    const COLUMNS: &'static [&'static str] = &["initiator", "responder", "pattern"];
}

/// A row of the paper's Table 3. Empty where the paper prints no number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PaperComposition {
    /// Which field.
    pub field: Field,
    /// The conventional method's bytes.
    pub conventional_bytes: Option<u32>,
    /// The proposed method's bytes.
    pub proposed_bytes: Option<u32>,
}

impl Row for PaperComposition {
    const COLUMNS: &'static [&'static str] = &["field", "conventional_bytes", "proposed_bytes"];
}

/// A row of the paper's Table 4.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PaperRtt {
    /// Which statistic.
    pub statistic: Statistic,
    /// The conventional method's milliseconds.
    #[serde(deserialize_with = "amount")]
    pub conventional_ms: f64,
    /// The proposed method's milliseconds.
    #[serde(deserialize_with = "amount")]
    pub proposed_ms: f64,
}

impl Row for PaperRtt {
    const COLUMNS: &'static [&'static str] = &["statistic", "conventional_ms", "proposed_ms"];
}

/// A statistic that the paper prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The smallest.
    Min,
    /// The arithmetic mean.
    Mean,
    /// The largest.
    Max,
    /// The standard deviation.
    Stddev,
}
