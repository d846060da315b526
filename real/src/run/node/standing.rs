//! The state of a node: what its role reported and knows, in the words of [`crate::control`].
//!
//! * In: events ([`Standing::event`]), and the facts about the way to the AS ([`Standing::probed`]).
//! * Out: `status`, `netcheck`, numbers, the log lines about the registration.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cyphonic_core::event::{Event, Failure as Reason};
use cyphonic_core::machine::Machine;
use cyphonic_core::message::ErrorCode;
use cyphonic_core::method::Method;
use cyphonic_core::name::{Fqdn, Party, Virtual};
use cyphonic_core::node::{Node, PeerStatus};
use cyphonic_core::route::Pattern;
use cyphonic_core::route::optimal::{Behaviour, Filtering, Mapping};
use cyphonic_core::time::Instant;
use rustls::pki_types::CertificateDer;

use super::super::metrics::Page;
use super::super::trouble::{self, Facts, Failed, Probe, Trouble};
use super::super::{expiry, netcheck};
use super::{milliseconds, via};
use crate::control;
use crate::files::{Ends, Span};

/// Most peers that are named as forbidden, and as stranded.
const MOST_OUT_OF_REACH: usize = 32;

/// A node's names and settings, as they are shown.
pub(super) struct Shown {
    /// The FQDN of the node.
    pub(super) name: Fqdn,
    /// The method of its signaling and tunnels.
    pub(super) method: Method,
    /// The UDP port of the underlay.
    pub(super) port: u16,
    /// The name of the virtual interface.
    pub(super) tun: String,
}

pub(super) struct Standing {
    shown: Shown,
    facts: Facts,
    /// How long the NMS may be silent.
    patience: Duration,
    /// The virtual addresses, once it was registered.
    own: Option<Virtual>,
    /// Whether the NMS found a NAT, once it was registered.
    nat: Option<bool>,
    registered: bool,
    /// Why there is no registration: the role's reason, and the reason in words.
    trouble: Option<(Failed, Trouble)>,
    /// How the network treats the node in IPv6 and IPv4.
    behaviours: [Option<Behaviour>; 2],
    /// Peers that the access rules forbid, newest last; at most [`MOST_OUT_OF_REACH`].
    not_permitted: VecDeque<String>,
    /// Peers that no direct way leads to, where Table 1 knows no other; newest last, at most as many.
    stranded: VecDeque<String>,
    /// Why peers are still reached through the TRS, if a direct path was tried.
    still_relayed: BTreeMap<String, Reason>,
}

impl Standing {
    /// The node has these certificates from now on.
    pub(super) fn renewed(&mut self, chain: &[CertificateDer<'static>]) {
        self.facts.ends = Ends::of(chain);
        if let (Some((_, span)), Some(own)) = (&mut self.facts.certificate, chain.first()) {
            *span = Span::of(own);
        }
    }

    pub(super) fn new(shown: Shown, facts: Facts, patience: Duration) -> Self {
        Self {
            shown,
            facts,
            patience,
            own: None,
            nat: None,
            registered: false,
            trouble: None,
            behaviours: [None, None],
            not_permitted: VecDeque::new(),
            stranded: VecDeque::new(),
            still_relayed: BTreeMap::new(),
        }
    }

    /// Notes what came of the search for a peer; no reason if there is a tunnel.
    fn found(&mut self, peer: &str, reason: Option<&Reason>) {
        if note(&mut self.not_permitted, peer, reason == Some(&Reason::Refused(ErrorCode::NotPermitted))) {
            tracing::warn!(%peer, remedy = "ask the operator of the NMS: `cyphonic rules who-may` there shows the rules",
                "the access rules forbid this node to talk with a peer");
        }
        if note(&mut self.stranded, peer, reason == Some(&Reason::Stranded)) {
            tracing::warn!(%peer, remedy = trouble::STRANDED, "this node and a peer cannot meet under Table 1");
        }
    }

    /// Whether no way led to a peer under Table 1 when this node looked for one last.
    pub(super) fn is_stranded(&self, peer: &str) -> bool {
        self.stranded.iter().any(|known| known == peer)
    }

    pub(super) fn name(&self) -> &Fqdn {
        &self.shown.name
    }

    /// The virtual addresses, once it was registered.
    pub(super) fn own(&self) -> Option<Virtual> {
        self.own
    }

    /// Why there is no registration.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().map(|(_, trouble)| trouble)
    }

    /// Takes an event of the role. Returns the AS's addresses, if probing them would tell more.
    pub(super) fn event(&mut self, machine: &Node, now: Instant, event: &Event) -> Option<Vec<SocketAddr>> {
        let mut probe = None;
        match event {
            Event::Registered { addresses, nat } => {
                self.own = Some(*addresses);
                self.nat = Some(*nat);
                self.trouble = None;
                self.registered = true;
            }
            Event::Surveyed(report) => self.behaviours = [report.v6, report.v4],
            Event::Unregistered { reason } => {
                let stood = std::mem::take(&mut self.registered);
                if stood {
                    self.facts.lost(now);
                }
                let tcp = machine.fallback().and_then(|fallback| fallback.trouble);
                let failed = Failed { reason: reason.clone(), with: machine.trouble_with().cloned(), stood, tcp };
                if failed.reason == Reason::Timeout
                    && failed.with == Some(Party::As)
                    && self.shown.method == Method::Proposed
                {
                    probe = Some(self.facts.auth.clone());
                }
                self.explain(now, failed, None);
            }
            Event::NoTcp(why) if why.explains() => {
                // An attempt may end after the login has been given up.
                let failed = self.trouble.as_ref().map(|(failed, _)| failed.clone());
                if let Some(failed) = failed.filter(|failed| failed.tcp.as_ref() != Some(&**why)) {
                    self.explain(now, Failed { tcp: Some((**why).clone()), ..failed }, None);
                }
            }
            Event::StillRelayed { peer, reason } => {
                self.still_relayed.insert(peer.clone(), reason.clone());
            }
            Event::TunnelUp(up) => {
                self.found(up.peer.as_str(), None);
                if up.pattern != Pattern::Relayed {
                    self.still_relayed.remove(up.peer.as_str());
                }
            }
            Event::TunnelDown { peer, reason } => {
                self.found(peer, Some(reason));
                self.still_relayed.remove(peer);
            }
            _ => {}
        }
        probe
    }

    /// Takes the result of the probe of the AS, which had not answered by UDP.
    pub(super) fn probed(&mut self, now: Instant, probe: Probe) {
        let failed = self.trouble.as_ref().map(|(failed, _)| failed.clone());
        if let Some(failed) = failed.filter(|failed| failed.reason == Reason::Timeout) {
            self.explain(now, failed, Some(probe));
        }
    }

    /// Logs why there is no registration, once for each reason.
    fn explain(&mut self, now: Instant, failed: Failed, probe: Option<Probe>) {
        let trouble = self.facts.explain(now, &failed, probe);
        let known = self.trouble.as_ref().is_some_and(|(_, known)| *known == trouble);
        if known {
            tracing::debug!(reason = %trouble.what, "still not registered");
        } else {
            tracing::warn!(reason = %trouble.what, remedy = %trouble.remedy, "not registered; trying again");
        }
        self.trouble = Some((failed, trouble));
    }

    /// The answer to `cyphonic status`. `addresses` are the machine's. `dropped` counts drops by reason.
    pub(super) fn status(
        &self,
        machine: &Node,
        now: Instant,
        addresses: &[IpAddr],
        dropped: BTreeMap<String, u64>,
    ) -> control::Status {
        let [v6, v4] = self.behaviours;
        let known = [("IPv6", v6), ("IPv4", v4)];
        let known = known.into_iter().filter_map(|(family, how)| Some((family.to_owned(), behaviour(how?))));
        control::Status {
            name: self.shown.name.to_string(),
            method: self.shown.method.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: (now - Instant::ZERO).as_secs(),
            registered: machine.is_registered(),
            nat: self.nat,
            trouble: self.trouble().map(|trouble| trouble.what.clone()),
            remedy: self.trouble().map(|trouble| trouble.remedy.clone()),
            certificate_ends: self.facts.ends.map(|ends| ends.own.as_secs()),
            authority_ends: self.facts.ends.and_then(|ends| ends.authority).map(|ends| ends.as_secs()),
            nms: self.nms(machine, now),
            transport: trouble::transport(machine),
            network_behaviour: known.collect(),
            virtual_addresses: self.own.map(both).unwrap_or_default(),
            addresses: addresses.to_vec(),
            port: self.shown.port,
            tun: self.shown.tun.clone(),
            notices: Vec::new(),
            peers: machine.peers().iter().map(|status| self.peer(now, status)).collect(),
            not_permitted: self.not_permitted.iter().cloned().collect(),
            stranded: self.stranded.iter().cloned().collect(),
            dropped,
            next: machine.next_timer().map(|due| control::Next {
                timer: due.timer.to_string(),
                in_s: due.at.saturating_since(now).as_secs_f64(),
            }),
        }
    }

    /// Writes the node's own numbers to a page.
    pub(super) fn on(&self, machine: &Node, page: &mut Page) {
        expiry::on(page, self.facts.ends);
        let registered = f64::from(u8::from(machine.is_registered()));
        page.gauge("registered", "Whether the NMS knows where this node is.", [(Vec::new(), registered)]);
        let peers = machine.peers();
        let up =
            |relayed| peers.iter().filter_map(|peer| peer.tunnel.as_ref()).filter(|t| t.relayed == relayed).count();
        let tunnels = [false, true].map(|relayed| (vec![("via", via(relayed))], up(relayed) as f64));
        page.gauge("tunnels", "Tunnels that are up.", tunnels);
        let bytes = peers.iter().flat_map(|peer| {
            let row = |direction, bytes| (vec![("peer", peer.peer.as_str()), ("direction", direction)], bytes);
            [row("sent", peer.sent), row("received", peer.received)]
        });
        page.counter("peer_bytes_total", "Bytes of packets exchanged with a peer.", bytes);
    }

    fn nms(&self, machine: &Node, now: Instant) -> Option<control::Nms> {
        machine.nms_heard().map(|(remote, heard)| control::Nms {
            remote,
            silent_s: (now - heard).as_secs_f64(),
            lost_after_s: self.patience.as_secs_f64(),
            rtt_ms: machine.nms_rtt().map(milliseconds),
        })
    }

    fn peer(&self, now: Instant, status: &PeerStatus) -> control::Peer {
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
            handover: tunnel.map(|tunnel| tunnel.handover.to_string()),
            signaling: tunnel.map(|tunnel| tunnel.signaling.to_string()),
            paths: tunnel.map(|tunnel| tunnel.paths.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            may_open: status.permissions.as_ref().map(|permitted| permitted.out.to_string()),
            may_be_sent: status.permissions.as_ref().map(|permitted| permitted.back.to_string()),
            sent_bytes: status.sent,
            received_bytes: status.received,
        }
    }

    /// What is known of the network, and the addresses to ask for the rest. `addresses` and `nat64` are the machine's.
    pub(super) fn netcheck(
        &self,
        machine: &Node,
        now: Instant,
        (addresses, nat64): (&[IpAddr], Option<Ipv6Addr>),
    ) -> (control::Netcheck, Vec<netcheck::Target>) {
        let family = |v6: bool, how: Option<Behaviour>| control::Family {
            addresses: addresses.iter().copied().filter(|address| address.is_ipv6() == v6).collect(),
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
            trouble: self.trouble().map(|trouble| trouble.what.clone()),
            remedy: self.trouble().map(|trouble| trouble.remedy.clone()),
            nms: self.nms(machine, now),
            transport: trouble::transport(machine),
            nat: self.nat,
            port: self.shown.port,
            ipv6: family(true, v6),
            ipv4: family(false, v4),
            direct: tunnels(false),
            relayed: tunnels(true),
            ..control::Netcheck::default()
        };
        // NMS and TRS also speak QUIC in the conventional method. Only their own settings have the port, so the default
        // is taken, 443.
        let by_quic = |place: SocketAddr| match self.shown.method {
            Method::Conventional => SocketAddr::new(place.ip(), Method::Proposed.default_port()),
            Method::Proposed => place,
        };
        let targets = [
            ("as", self.facts.auth.clone()),
            ("nms", machine.nms_places().into_iter().map(by_quic).collect()),
            ("trs", machine.trs_places().into_iter().map(by_quic).collect()),
        ];
        let targets =
            targets.into_iter().flat_map(|(service, places)| netcheck::targets(service, places, addresses, nat64));
        (known, targets.collect())
    }
}

/// How a network treats a node, in words (RFC 4787 §4.1, §5).
fn behaviour(how: Behaviour) -> String {
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

/// Puts a peer at the end of a list, or takes it off. True if it is new there.
fn note(list: &mut VecDeque<String>, peer: &str, belongs: bool) -> bool {
    let was = list.iter().any(|known| known == peer);
    list.retain(|known| known != peer);
    if belongs {
        if list.len() >= MOST_OUT_OF_REACH {
            list.pop_front();
        }
        list.push_back(peer.to_owned());
    }
    belongs && !was
}

fn both(addresses: Virtual) -> Vec<IpAddr> {
    vec![addresses.v4.into(), addresses.v6.into()]
}
