//! What a node knows of its peers now, for people.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use crate::message::Framing;
use crate::name::{Party, Virtual};
use crate::route::Pattern;
use crate::time::Instant;

/// A peer as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// By name or, where the name was never learnt, virtual address.
    pub peer: String,
    /// Its virtual addresses, once the NMS told.
    pub addresses: Option<Virtual>,
    /// The tunnel, if it is up.
    pub tunnel: Option<TunnelStatus>,
    /// Bytes of applications' packets sent into the tunnel.
    pub sent: u64,
    /// Bytes of packets handed to applications.
    pub received: u64,
}

/// A tunnel that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelStatus {
    /// The signaling pattern that was used.
    pub pattern: Pattern,
    /// Whether this node sent the Tunnel Request.
    pub dialed: bool,
    /// How packets are carried.
    pub framing: Framing,
    /// Whether `remote` is a TRS.
    pub relayed: bool,
    /// Our address.
    pub local: SocketAddr,
    /// Where packets go: the peer, or the TRS.
    pub remote: SocketAddr,
    /// The round trip to the other end, where the carrier measures it.
    pub rtt: Option<Duration>,
}

impl Node {
    /// Every peer that the node keeps state for.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |id| {
            let peer = self.peers.get(id);
            PeerStatus {
                peer: peer.label(),
                addresses: peer.addresses,
                tunnel: peer.up.and_then(|(tunnel, _)| self.carriage.status(tunnel)),
                sent: peer.sent,
                received: peer.received,
            }
        };
        self.peers.ids().into_iter().map(status).collect()
    }

    /// Whether the node is registered now.
    pub fn is_registered(&self) -> bool {
        self.cloud.is_registered()
    }

    /// The service that the last failure of login or registration was with, the AS or the NMS; `None` if there was none.
    pub fn trouble_with(&self) -> Option<&Party> {
        self.cloud.trouble()
    }

    /// Where the NMS is, and when it was heard last; `None` where the way to it is not open.
    pub fn nms_heard(&self) -> Option<(SocketAddr, Instant)> {
        self.carriage.nms_heard()
    }
}
