//! Captures of the simulated network: written for others to read, and measured here.
//!
//! ```text
//! tap on a wire ── Vec<Tapped> ──┬─▶ pcapng ── a file for Wireshark, with the TLS secrets inside
//! TLS of every node ── Secrets ──┤
//!                                └─▶ dissect::quic ── frames ──▶ composition ── Table 3, field by field
//! ```
//!
//! What is measured comes from the bytes on the wire and the logged secrets, as an observer with the key log would
//! measure it.

pub mod composition;
pub mod pcapng;

#[cfg(test)]
mod testing;
