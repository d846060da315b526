//! The ports of the services that every virtual interface has, and the parameters of TCP transfers.

use smoltcp::time::Duration;

/// The UDP echo service's port (RFC 862).
pub const UDP_ECHO_PORT: u16 = 7;
/// The UDP sink's port on every virtual interface (RFC 863, discard).
pub const UDP_SINK_PORT: u16 = 9;
/// The TCP sink's port on every virtual interface.
pub const TCP_SINK_PORT: u16 = 5001;

/// Bytes of TCP buffer in each direction of an application's connection.
pub(super) const BUFFER: usize = 256 * 1024;
/// Idle timeout of an application's connection: longer than any handover, so that the flow survives it.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
