//! How a node stands, for who asks: what its role knows, in the words of [`crate::control`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::method::Method;
use cyphonic_core::name::Virtual;
use cyphonic_core::node::{Node, PeerStatus};
use cyphonic_core::route::optimal::{Behaviour, Filtering, Mapping};
use cyphonic_core::time::Instant;

use super::super::{netcheck, trouble};
use super::{NodeShell, via};
use crate::control;

impl NodeShell {
    pub(super) fn nms(&self, machine: &Node, now: Instant) -> Option<control::Nms> {
        machine.nms_heard().map(|(remote, heard)| control::Nms {
            remote,
            silent_s: (now - heard).as_secs_f64(),
            lost_after_s: self.patience.as_secs_f64(),
            rtt_ms: machine.nms_rtt().map(milliseconds),
        })
    }

    pub(super) fn peer(&self, now: Instant, status: &PeerStatus) -> control::Peer {
        let tunnel = status.tunnel.as_ref();
        control::Peer {
            peer: status.peer.clone(),
            virtual_addresses: status.addresses.map(both).unwrap_or_default(),
            up: tunnel.is_some(),
            pattern: tunnel.map(|tunnel| tunnel.pattern.number()),
            via: tunnel.map(|tunnel| via(tunnel.relayed).to_owned()),
            remote: tunnel.map(|tunnel| tunnel.remote),
            dialed: tunnel.map(|tunnel| tunnel.dialed),
            framing: tunnel.map(|tunnel| tunnel.framing.name().to_owned()),
            rtt_ms: tunnel.and_then(|tunnel| tunnel.rtt).map(milliseconds),
            why: tunnel
                .zip(status.choice.as_ref())
                .map(|(tunnel, choice)| trouble::why(now, tunnel, choice, self.still_relayed.get(&status.peer))),
            sent_bytes: status.sent,
            received_bytes: status.received,
        }
    }

    /// What is known of the network, and whom to ask for the rest.
    pub(super) fn netcheck(&self, machine: &Node, now: Instant) -> (control::Netcheck, Vec<netcheck::Target>) {
        let family = |v6: bool, how: Option<Behaviour>| control::Family {
            addresses: self.addresses.iter().copied().filter(|address| address.is_ipv6() == v6).collect(),
            mapping: how.and_then(|how| how.mapping).map(|mapping| mapped(mapping).to_owned()),
            filtering: how.and_then(|how| how.filtering).map(|filtering| filtered(filtering).to_owned()),
            ..control::Family::default()
        };
        let [v6, v4] = self.behaviours;
        let peers = machine.peers();
        let tunnels =
            |relayed| peers.iter().filter_map(|peer| peer.tunnel.as_ref()).filter(|one| one.relayed == relayed).count();
        let known = control::Netcheck {
            name: self.shown.name.to_string(),
            method: self.shown.method.name().to_owned(),
            registered: machine.is_registered(),
            trouble: self.trouble.as_ref().map(|(_, trouble)| trouble.what.clone()),
            remedy: self.trouble.as_ref().map(|(_, trouble)| trouble.remedy.clone()),
            nms: self.nms(machine, now),
            nat: self.nat,
            port: self.shown.port,
            ipv6: family(true, v6),
            ipv4: family(false, v4),
            direct: tunnels(false),
            relayed: tunnels(true),
            ..control::Netcheck::default()
        };
        // NMS and TRS speak QUIC beside the conventional method; where, only their own settings say, and 443 is the default.
        let by_quic = |place: SocketAddr| match self.shown.method {
            Method::Conventional => SocketAddr::new(place.ip(), Method::Proposed.default_port()),
            Method::Proposed => place,
        };
        let targets = [
            ("as", self.facts.auth.clone()),
            ("nms", machine.nms_places().into_iter().map(by_quic).collect()),
            ("trs", machine.trs_places().into_iter().map(by_quic).collect()),
        ];
        let targets = targets
            .into_iter()
            .flat_map(|(service, places)| netcheck::targets(service, places, &self.addresses, self.nat64));
        (known, targets.collect())
    }
}

/// How a network treats a node, in words (RFC 4787 §4.1, §5).
pub(super) fn behaviour(how: Behaviour) -> String {
    let mapping = how.mapping.map_or("mapping not known", mapped);
    let filtering = how.filtering.map_or("filtering not known", filtered);
    format!("{mapping}; {filtering}")
}

fn mapped(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::Independent => "mapping independent of the destination",
        Mapping::Port => "another port for each destination",
        Mapping::Address => "another address for each destination",
    }
}

fn filtered(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::Independent => "everybody may send in",
        Filtering::Address => "who was sent something may send in",
        Filtering::AddressAndPort => "who was sent something may send in, from that port only",
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(super) fn both(addresses: Virtual) -> Vec<IpAddr> {
    vec![addresses.v4.into(), addresses.v6.into()]
}
