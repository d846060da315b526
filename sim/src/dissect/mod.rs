//! Reading packets as an observer on the wire does: QUIC, TLS, and the frames inside.
//!
//! ```text
//! UDP payload ──┬─▶ initial ── anyone can open a client's Initial ──▶ frame ──▶ hello: server name, ALPN
//! Secrets ──────┴─▶ quic ───── 1-RTT packets, with logged secrets ──▶ frame
//! ```
//!
//! A firewall that inspects packets reads [`initial`] and [`hello`]; the measurement of Table 3 reads [`quic`]. This
//! folder knows neither the network nor the endpoints, and shares no code with the QUIC implementation under test.

pub mod frame;
pub mod hello;
pub mod initial;
pub mod quic;
mod secrets;

pub use secrets::Secrets;

#[cfg(test)]
pub(crate) mod testing;
