//! Rows of the experiments where UDP is blocked.

use serde::Deserialize;

use super::{ECHO, OUTCOME, optional_amount};
use crate::input::Row;

/// A row of `sim/blocked.csv`: a transfer through a firewall that may block UDP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BlockedTransfer {
    /// The mode of the firewall.
    pub a_mode: String,
    /// One-way delay of a link, milliseconds.
    pub link_delay_ms: f64,
    /// Loss of the node's link, in each direction.
    pub a_loss: f64,
    /// Bytes that arrived.
    pub tcp_bytes: f64,
    /// How long that took, milliseconds; none if the transfer did not end.
    #[serde(deserialize_with = "optional_amount")]
    pub tcp_ms: Option<f64>,
}

impl Row for BlockedTransfer {
    const COLUMNS: &'static [&'static str] = &["a_mode", "link_delay_ms", "a_loss", "tcp_bytes", "tcp_ms"];
    const KIND: &'static [&'static str] = OUTCOME;
    const POOLED: &'static [&'static str] = &["alice_proxy"];
}

/// A row of `sim/blocked-rtt.csv`: an echo through a firewall that may block UDP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BlockedEcho {
    /// The mode of the firewall.
    pub a_mode: String,
    /// One-way delay of a link, milliseconds.
    pub link_delay_ms: f64,
    /// Loss of the node's link, in each direction.
    pub a_loss: f64,
    /// The round-trip time, milliseconds; none if the echo was lost.
    #[serde(deserialize_with = "optional_amount")]
    pub rtt_ms: Option<f64>,
}

impl Row for BlockedEcho {
    const COLUMNS: &'static [&'static str] = &["a_mode", "link_delay_ms", "a_loss", "rtt_ms"];
    const KIND: &'static [&'static str] = ECHO;
    const POOLED: &'static [&'static str] = &["alice_proxy"];
}
