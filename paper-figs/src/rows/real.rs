//! Rows of what was measured on real machines.

use serde::Deserialize;

use super::{Framing, Pattern, amount, optional_amount};
use crate::input::Row;

/// A row of `real/pings.csv`: a ping between two containers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ping {
    /// The run of the measuring script.
    pub run: String,
    /// The round of the run; 0 is no round: it is the measurement of everything.
    pub round: u32,
    /// The signaling pattern.
    pub pattern: Pattern,
    /// In which framing.
    pub framing: Framing,
    /// Seconds between two pings, as the file writes them.
    pub interval_s: String,
    /// The round-trip time, milliseconds; none if the ping was lost.
    #[serde(deserialize_with = "optional_amount")]
    pub rtt_ms: Option<f64>,
}

impl Row for Ping {
    const COLUMNS: &'static [&'static str] = &["run", "round", "pattern", "framing", "interval_s", "rtt_ms"];
    const KIND: &'static [&'static str] = &["load_1min", "sequence"];
}

/// A row of `real/bench.csv`: one tunnel in one round.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Bench {
    /// The run of the measuring script.
    pub run: String,
    /// The tunnel: a file of `real/bench/peers`.
    pub peer: String,
    /// Mbit/s of TCP without a tunnel, just before.
    #[serde(deserialize_with = "amount")]
    pub bare_tcp_mbps: f64,
    /// Mbit/s of TCP through the tunnel.
    #[serde(deserialize_with = "amount")]
    pub tcp_mbps: f64,
    /// Seconds of processor time of the tunnel's processes at both ends for each gigabyte; none without a tunnel.
    #[serde(deserialize_with = "optional_amount")]
    pub cpu_s_per_gb: Option<f64>,
    /// The median of the round-trip times, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub ping_median_ms: f64,
}

impl Row for Bench {
    const COLUMNS: &'static [&'static str] =
        &["run", "peer", "bare_tcp_mbps", "tcp_mbps", "cpu_s_per_gb", "ping_median_ms"];
    const KIND: &'static [&'static str] = &["round", "load_1min", "ping_min_ms"];
}
