//! UDP proxied in HTTP (RFC 9298), for networks that let no UDP out: both ends, pure.
//!
//! ```text
//! node                                                    service: AS, NMS or TRS
//!  QUIC ── datagram ──▶ Conduit ══ TCP 443, TLS 1.3 ══▶ Door ── datagram ──▶ QUIC
//!        ◀────────────          HTTP/1.1 Upgrade               ◀────────────
//!                               DATAGRAM capsules
//! ```
//!
//! The same QUIC packets travel as over UDP. Nothing in them is decrypted on the way. To a service, a node that came by
//! TCP has a [virtual address](GUESTS) of its own; otherwise the roles above see no difference. So a link that changes
//! from UDP to TCP, or back, has migrated (RFC 9000 §9).
//!
//! | | |
//! |---|---|
//! | [`capsule`] | RFC 9297: capsules, variable-length integers |
//! | [`http`] | requests and answers |
//! | `pipe` | what both ends share: TLS, capsules, and a short queue that drops the oldest |
//! | [`conduit`] | the node's end of one connection |
//! | [`door`] | a service's end of all connections, and [`door::Served`], the service behind it |
//! | [`crate::trouble`] | why there is no connection, for people |
//!
//! **Optimistic data.** A node sends capsules right behind its request (RFC 9298 §5): by then TLS has verified that the
//! other end is the service, so nothing else can take them for a request.
//!
//! **Head-of-line blocking** is bounded. A driver tells how many bytes it has handed to TCP
//! ([`StreamInput::Written`](crate::machine::StreamInput::Written)), and gets no more than [`pipe::WINDOW`] bytes
//! beyond these. The rest waits here, and the oldest datagram is dropped once it has waited
//! [`DATAGRAM_WAIT`](crate::timing::proxied::DATAGRAM_WAIT).

pub mod capsule;
pub mod conduit;
pub mod door;
pub mod http;
pub mod pipe;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The TCP port of every service.
pub const TCP_PORT: u16 = 443;

/// TCP sends no IP packet larger than this, in bytes, and asks the other end for none that is: RFC 9293 §3.7.1, by the
/// maximum segment size.
///
/// Why: 1,280 bytes pass every network of IPv6 (RFC 8200 §5). A kernel that sends larger ones relies on ICMP errors
/// (RFC 1191), and the networks that block UDP are those that most likely block ICMP as well.
pub const TCP_PACKET: usize = 1280;

/// The prefix of the addresses that stand for connections: no packet goes there (RFC 6666).
pub const GUESTS: (Ipv6Addr, u8) = (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64);

/// Whether an address stands for a connection.
pub fn is_guest(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..4] == GUESTS.0.segments()[..4])
}

/// The address of the connection of this number.
fn guest(number: u64) -> SocketAddr {
    let address = GUESTS.0.to_bits() | u128::from(number);
    SocketAddr::V6(SocketAddrV6::new(address.into(), TCP_PORT, 0, 0))
}
