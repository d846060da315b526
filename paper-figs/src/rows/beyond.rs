//! Rows of the experiments beyond the paper.

use serde::Deserialize;

use super::{Framing, SETUP, amount};
use crate::input::Row;

/// A row of `sim/setup-loss.csv`: how long one phase of a set-up took.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LossySetup {
    /// In which framing, and so under which method.
    pub framing: Framing,
    /// The kind of both sites.
    pub a_kind: String,
    /// Loss of a link, in each direction.
    #[serde(deserialize_with = "amount")]
    pub link_loss: f64,
    /// The most that a link delays a packet in addition, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub link_jitter_ms: f64,
    /// The seed of the run.
    pub seed: u64,
    /// Its duration, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub ms: f64,
}

impl Row for LossySetup {
    const COLUMNS: &'static [&'static str] = &["framing", "a_kind", "link_loss", "link_jitter_ms", "seed", "ms"];
    const KIND: &'static [&'static str] = SETUP;
    const POOLED: &'static [&'static str] = &["b_kind"];
}

/// A row of `sim/scale.csv`: what signaling cost until all nodes were registered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Scale {
    /// `conventional` or `proposed`.
    pub method: String,
    /// The number of nodes.
    #[serde(deserialize_with = "amount")]
    pub nodes: f64,
    /// `start`: all nodes begin at once; `nms_restart`: the NMS lost its memory.
    pub phase: String,
    /// Until the last node was registered, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub ms: f64,
    /// Bytes that left nodes, whole IP packets.
    #[serde(deserialize_with = "amount")]
    pub bytes: f64,
    /// Bytes that left AS and NMS.
    #[serde(deserialize_with = "amount")]
    pub service_bytes: f64,
}

impl Row for Scale {
    const COLUMNS: &'static [&'static str] = &["method", "nodes", "phase", "ms", "bytes", "service_bytes"];
    const KIND: &'static [&'static str] = &["registered", "packets", "service_packets"];
}
