//! Captures of the simulated network, for Wireshark and for measurements.
//!
//! ```text
//! tap on a wire ── Vec<Tapped> ──┬─▶ pcapng ── a file for Wireshark, with the TLS secrets inside
//! TLS of every node ── Secrets ──┤
//!                                └─▶ dissect::quic ── frames ──▶ composition ── Table 3, field by field
//! ```
//!
//! Measurements use only the bytes on the wire and the logged secrets, as an observer with the key log would.

pub mod composition;
pub mod pcapng;

#[cfg(test)]
mod testing;
