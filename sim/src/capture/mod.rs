//! Captures of the simulated network: written for others to read, and read here to be measured.
//!
//! ```text
//! tap on a wire ── Vec<Tapped> ──┬─▶ pcapng ── a file for Wireshark, its keys inside
//! TLS of every node ── Secrets ──┤
//!                                └─▶ quic ── frames of a 1-RTT packet ──▶ composition ── Table 3, field by field
//! ```
//!
//! Nothing here knows the endpoints: what is measured comes from the bytes on the wire and the logged secrets, as an
//! observer with the key log would measure it. [`quic`] shares no code with the QUIC implementation under test.

pub mod composition;
pub mod frame;
pub mod hello;
pub mod initial;
pub mod pcapng;
pub mod quic;
mod secrets;

pub use secrets::Secrets;

#[cfg(test)]
pub(crate) mod testing;
