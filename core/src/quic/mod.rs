//! The proposed method's carriage: QUIC connections ("links") that carry signaling messages and tunnelled packets.
//!
//! A [`Links`] owns one quinn-proto endpoint and all of its connections. It does not know roles. A role asks it to
//! [`connect`](Links::connect), to send a message (on a stream, in order and reliably) or a packet (in a DATAGRAM
//! frame), and drains [`LinkOutput`]s.
//!
//! * Messages go on stream 0, which the client opens (the paper's Fig. 12 shows `STREAM(0)`). A server that sends first
//!   opens stream 1. Each message is a 32-byte header and a body, so the stream needs no other framing.
//! * Connection IDs have 8, 12 or 16 bytes ([`CidScheme`]). A relayed end-to-end connection has its own `Links`. Its
//!   connection IDs begin with the 8 bytes of this node's leg to the TRS. QUIC may change such an ID, and the TRS still
//!   finds the node by the prefix.
//! * quinn's random number generators use the operating system. They are replaced by generators with a given seed.
//! * Packets for unknown connection IDs are dropped without an answer. The exception is an endpoint that issued the ID
//!   before a restart: it answers by a stateless reset.

mod cid;
mod config;
mod congestion;
mod links;

pub use cid::{CidScheme, PATHED_CID_LEN, RELAYED_CID_LEN, destination_prefix};
pub use config::{Congestion, Load, QlogSink, QuicConfig, QuicOptions, Vantage};
pub use links::{
    DatagramRefused, LinkClosed, LinkId, LinkOutput, Links, MAX_HALF_OPEN, MAX_STREAM_BACKLOG, MOST_UNREAD, is_initial,
};

use std::sync::OnceLock;
use std::time::Instant as StdInstant;

use crate::time::Instant;

/// The origin of time for quinn-proto. quinn-proto wants `std`'s instants, which cannot be made from a number. One
/// arbitrary reading of the clock serves, because only differences to it are used.
fn origin() -> StdInstant {
    static ORIGIN: OnceLock<StdInstant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences are used")]
    *ORIGIN.get_or_init(StdInstant::now)
}

fn to_std(at: Instant) -> StdInstant {
    origin() + std::time::Duration::from_nanos(at.as_nanos())
}

fn from_std(at: StdInstant) -> Instant {
    Instant::ZERO + at.saturating_duration_since(origin())
}
