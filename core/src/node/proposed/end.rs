//! The identity of a connection with paths beneath it.

use crate::node::part::TunnelId;
use crate::quic::LinkId;

/// The end of a connection with paths beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// A link of the endpoint that all direct tunnels share.
    Shared(LinkId),
    /// A tunnel that began through a TRS, with an endpoint of its own.
    Own(TunnelId),
}
