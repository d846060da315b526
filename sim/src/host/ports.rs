//! The services that every virtual interface has without being started, and what both ends of a TCP transfer agree on.

use smoltcp::time::Duration;

/// Where UDP is sent back unchanged (RFC 862).
pub const UDP_ECHO_PORT: u16 = 7;
/// The UDP sink's port on every virtual interface (RFC 863, discard).
pub const UDP_SINK_PORT: u16 = 9;
/// The TCP sink's port on every virtual interface.
pub const TCP_SINK_PORT: u16 = 5001;

/// Bytes of TCP buffer each way of an application's connection.
pub(super) const BUFFER: usize = 256 * 1024;
/// How long a peer may say nothing, so that a flow lives through any handover but not for ever.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
