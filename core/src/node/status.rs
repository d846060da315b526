//! The present state of a node and its peers, for people.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use crate::message::{Framing, Want};
use crate::name::{Party, Virtual};
use crate::paths::peer::PathStatus;
use crate::paths::strategy::Handover;
use crate::route::Pattern;
use crate::rules::Permissions;
use crate::signaling::Signaling;
use crate::time::Instant;

/// The state of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name; its virtual address, if the name was never learnt.
    pub peer: String,
    /// Its virtual addresses, once a Route Direction has told them.
    pub addresses: Option<Virtual>,
    /// What the access rules permit, if they forbid anything.
    pub permissions: Option<Permissions>,
    /// The tunnel, if it is up.
    pub tunnel: Option<TunnelStatus>,
    /// How that tunnel was chosen.
    pub choice: Option<ChoiceStatus>,
    /// Bytes of applications' packets sent into the tunnel.
    pub sent: u64,
    /// Bytes of packets handed to applications.
    pub received: u64,
}

/// How a tunnel was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceStatus {
    /// What kind of tunnel was asked for; `None` where Table 1 alone decides (`policy = "paper"`).
    pub want: Option<Want>,
    /// Whether this node asked for it, and not the peer. The node that asked tries for a direct tunnel.
    pub asked: bool,
    /// When a direct tunnel is tried for next; `None` if it is not, or not by this node.
    pub next_try: Option<Instant>,
    /// Whether a direct tunnel is being built now.
    pub trying: bool,
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
    /// This node's address.
    pub local: SocketAddr,
    /// The address that packets go to: the peer's, or the TRS's.
    pub remote: SocketAddr,
    /// The round trip to the other end, where the carrier measures it.
    pub rtt: Option<Duration>,
    /// What the two nodes do when one of them moves.
    pub handover: Handover,
    /// What the two nodes waited for while it came up.
    pub signaling: Signaling,
    /// Every path of the tunnel (`handover = "seamless"`).
    pub paths: Vec<PathStatus>,
}

impl Node {
    /// Every peer that the node keeps state for, in the order in which they were first asked for.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let peers = self.routes.status();
        peers
            .map(|(peer, tunnel)| PeerStatus { tunnel: tunnel.and_then(|id| self.carriage.status(id)), ..peer })
            .collect()
    }

    /// Whether the node is registered now.
    pub fn is_registered(&self) -> bool {
        self.cloud.is_registered()
    }

    /// The service that the last failure of login or registration was with, the AS or the NMS; `None` if there was
    /// none.
    pub fn trouble_with(&self) -> Option<&Party> {
        self.cloud.trouble()
    }

    /// The round trip to the NMS, as QUIC measures it; in the conventional method that of the last Keep Alive that was
    /// answered at once. `None` before there is one.
    pub fn nms_rtt(&self) -> Option<Duration> {
        self.carriage.nms_rtt().or_else(|| self.cloud.rtt())
    }

    /// The NMS's addresses, from the last login; none before it.
    pub fn nms_places(&self) -> Vec<SocketAddr> {
        self.cloud.nms().to_vec()
    }

    /// The addresses of the TRS that the NMS has told, for a relayed tunnel or for the survey of this node's network.
    /// Each is given once, in order.
    pub fn trs_places(&self) -> Vec<SocketAddr> {
        let tunnels = self.peers().into_iter().filter_map(|peer| peer.tunnel).filter(|tunnel| tunnel.relayed);
        let mut places: Vec<_> = tunnels.map(|tunnel| tunnel.remote).chain(self.survey.trs()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The NMS's address, and when it was last heard; `None` without a session with it.
    pub fn nms_heard(&self) -> Option<(SocketAddr, Instant)> {
        self.carriage.nms_heard()
    }
}
