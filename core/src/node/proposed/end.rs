//! How a node identifies its end of a connection with paths beneath it.

use crate::node::part::TunnelId;
use crate::quic::LinkId;

/// This node's end of a connection with paths beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// A connection that began on a direct path: a link of the QUIC endpoint that all such tunnels share.
    Shared(LinkId),
    /// A connection that began through a TRS: its tunnel has a QUIC endpoint of its own.
    Own(TunnelId),
}
