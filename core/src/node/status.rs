//! What a node knows of its peers now, for people.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use crate::message::{Framing, Want};
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
    /// How that one was chosen.
    pub choice: Option<ChoiceStatus>,
    /// Bytes of applications' packets sent into the tunnel.
    pub sent: u64,
    /// Bytes of packets handed to applications.
    pub received: u64,
}

/// How the way of a tunnel was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceStatus {
    /// What kind of way was asked for; `None` where Table 1 alone decides (`policy = "paper"`).
    pub want: Option<Want>,
    /// Whether this node asked for it, and not the peer. Who asked looks for a better way.
    pub asked: bool,
    /// When a direct way is tried for next; `None` where it is not, or not by this node.
    pub next_try: Option<Instant>,
    /// Whether one is being tried for now.
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
                choice: peer.up.map(|(_, origin)| ChoiceStatus {
                    want: origin.want,
                    asked: origin.initiator,
                    next_try: peer.improve.map(|improve| improve.at),
                    trying: origin.relayed && peer.building.values().any(|origin| !origin.relayed),
                }),
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

    /// The round trip to the NMS, as QUIC measures it; in the conventional method that of the last Keep Alive that was
    /// answered at once. `None` before there is one.
    pub fn nms_rtt(&self) -> Option<Duration> {
        self.carriage.nms_rtt().or_else(|| self.cloud.rtt())
    }

    /// Where the NMS can be reached, as the AS said; nothing before the login.
    pub fn nms_places(&self) -> Vec<SocketAddr> {
        self.cloud.login().map(|login| login.nms.clone()).unwrap_or_default()
    }

    /// Where the TRS can be reached, as far as the NMS had a reason to say: for a relayed tunnel, or for the survey of this
    /// node's network. Each once, in the order of addresses.
    pub fn trs_places(&self) -> Vec<SocketAddr> {
        let tunnels = self.peers().into_iter().filter_map(|peer| peer.tunnel).filter(|tunnel| tunnel.relayed);
        let mut places: Vec<_> = tunnels.map(|tunnel| tunnel.remote).chain(self.survey.trs_places()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Where the NMS is, and when it was heard last; `None` where the way to it is not open.
    pub fn nms_heard(&self) -> Option<(SocketAddr, Instant)> {
        self.carriage.nms_heard()
    }
}
