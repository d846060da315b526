//! The file as it is written: one struct for each table, one field for each key. Unknown keys are refused.
//!
//! Only spelling and types are checked here. [`crate::resolve`] turns this into a [`crate::Scenario`], which is valid.
//! It has the defaults too, so that a key left out and a key set to its default are the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::words::{
    Cipher, Congestion, Dependence, Engine, Family, FirewallMode, Hairpin, Handover, IcmpErrors, Invariant, Login,
    Measure, Method, Openness, Policy, Pooling, PortChoice, Reaction, Refresh, Refusal, Signaling, SiteKind,
};

/// Tables that say how packets of one direction are treated: their own keys, and those that all of them have.
macro_rules! ways {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $key: $type,)*
            /// One-way delay, milliseconds. Of a link: at least 1, and 1 by default. Of a path: more delay, 0 by
            /// default.
            pub(crate) delay_ms: Option<f64>,
            /// Each packet is delayed by up to this much more, uniformly, milliseconds. Default 0.
            pub(crate) jitter_ms: Option<f64>,
            /// Probability that a packet is lost, 0 to 1. Default 0.
            pub(crate) loss: Option<f64>,
            /// Rate, Mbit/s. Default: unlimited.
            pub(crate) rate_mbps: Option<f64>,
            /// Longest queue in front of the rate limit, milliseconds. A packet that would wait longer is dropped.
            /// Default 100.
            pub(crate) queue_ms: Option<f64>,
            /// Instead: the most bytes in that queue.
            pub(crate) queue_bytes: Option<u64>,
            /// Loss in bursts, beside `loss`. Default: none.
            pub(crate) burst_loss: Option<BurstLoss>,
            /// Times in which packets are lost, beside these. Default: none.
            pub(crate) outages: Option<Outages>,
            /// Probability that a packet is held back by `reorder_ms`, 0 to 1. Default 0.
            pub(crate) reorder: Option<f64>,
            /// Milliseconds. Default 10.
            pub(crate) reorder_ms: Option<f64>,
            /// Probability that a packet arrives twice, 0 to 1. Default 0.
            pub(crate) duplicate: Option<f64>,
            /// Probability that a bit of a packet is turned over, 0 to 1. Default 0.
            pub(crate) corrupt: Option<f64>,
        }

        /// The keys that all of them have.
        impl From<&$name> for Way {
            fn from(keys: &$name) -> Self {
                Self {
                    mtu: None,
                    black_hole: None,
                    delay_ms: keys.delay_ms,
                    jitter_ms: keys.jitter_ms,
                    loss: keys.loss,
                    rate_mbps: keys.rate_mbps,
                    queue_ms: keys.queue_ms,
                    queue_bytes: keys.queue_bytes,
                    burst_loss: keys.burst_loss,
                    outages: keys.outages,
                    reorder: keys.reorder,
                    reorder_ms: keys.reorder_ms,
                    duplicate: keys.duplicate,
                    corrupt: keys.corrupt,
                }
            }
        }
    )*};
}

mod step;

pub(crate) use step::*;

/// The whole file. `step` is a list of tables whose keys depend on `do`, so each is read on its own ([`Action`]).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// One line that names the experiment.
    pub(crate) title: String,
    /// What it shows and why it is set up so.
    pub(crate) about: String,
    /// One number, or "A..B" with both ends included; each seed is a run of its own. Default 1.
    pub(crate) seeds: Option<SeedRange>,
    /// "turmoil" (default) or "events".
    pub(crate) engine: Option<Engine>,
    /// "conventional" or "proposed". Default: the one that `framing` belongs to, or "proposed".
    pub(crate) method: Option<Method>,
    /// "certificate" (default) or "password" (conventional only).
    pub(crate) login: Option<Login>,
    /// "udp4501" (conventional), "stream", "datagram" or "compact" (proposed). Default "udp4501" or "compact".
    pub(crate) framing: Option<Framing>,
    /// "new-reno" or "none" (the conventional method has none). Default by `framing`: "new-reno" for "stream", else
    /// "none".
    pub(crate) congestion: Option<Congestion>,
    /// "aes-ctr" (default) or "aes-cbc-md5" (conventional only).
    pub(crate) cipher: Option<Cipher>,
    /// "paper" (default) or "optimal".
    pub(crate) policy: Option<Policy>,
    /// What nodes do when one moves: "rebuild", "migrate" or "seamless". Default by `policy`: "seamless" for "optimal",
    /// else "rebuild". The conventional method, and where a TRS terminates connections, always rebuild.
    pub(crate) handover: Option<Handover>,
    /// What is waited for while a tunnel comes up: "paper", "confirmed" or "fast". Default by `policy`: "fast" for
    /// "optimal", else "paper". The conventional method has "paper" only.
    pub(crate) signaling: Option<Signaling>,
    /// After how long another connection replaces the one of two nodes (proposed method, `policy = "optimal"`),
    /// seconds. Default 3600.
    pub(crate) tunnel_lifetime_s: Option<u64>,
    /// "blind" (default) or "terminating" (proposed only).
    pub(crate) relay_mode: Option<RelayMode>,
    /// UDP port of the protocol. Default 4501 (conventional) or 443 (proposed).
    pub(crate) port: Option<u16>,
    /// MTU of the nodes' virtual interfaces, bytes. Default 1280.
    pub(crate) tun_mtu: Option<u32>,
    /// The run ends here in any case, simulated seconds. Default 300.
    pub(crate) duration_limit_s: Option<u64>,
    /// What rows come out.
    pub(crate) measure: Measure,
    /// The invariant that once did not hold: a run is held against all of them.
    pub(crate) expect: Option<Invariant>,
    /// Which nodes may talk to which. Default: everybody to everybody.
    #[serde(default)]
    pub(crate) rules: AccessRules,
    /// What every link is where it does not say otherwise, both ways.
    #[serde(default)]
    pub(crate) link: Way,
    /// The links of AS, NMS and TRS.
    pub(crate) services: Option<Services>,
    /// The carrier-grade NATs.
    #[serde(default)]
    pub(crate) carrier: Vec<Carrier>,
    /// The sites.
    #[serde(default)]
    pub(crate) site: Vec<Site>,
    /// The nodes.
    #[serde(default)]
    pub(crate) node: Vec<Node>,
    /// Read separately; it is here so that the key is known.
    #[serde(rename = "step")]
    pub(crate) _step: Option<IgnoredAny>,
    /// Read separately; it is here so that the key is known.
    #[serde(rename = "sweep")]
    pub(crate) _sweep: Option<IgnoredAny>,
}

/// `[rules]`, and the whole of a file of access rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessRules {
    /// "open" (default) or "closed": whether nodes may talk that no rule names.
    pub(crate) default: Option<Openness>,
    /// Names for lists of patterns.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    /// The rules.
    #[serde(default)]
    pub(crate) allow: Vec<AccessRule>,
}

/// `[[rules.allow]]`: these nodes may open flows to those.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessRule {
    /// Groups and patterns of the nodes that may open flows.
    pub(crate) from: Vec<String>,
    /// Groups and patterns of the nodes that they may open flows to.
    pub(crate) to: Vec<String>,
    /// By what, such as "tcp/443", "udp" or "icmp". Default: by everything.
    pub(crate) services: Option<Vec<String>>,
}

/// `[services]`: each is a dual-stack host on the Internet core.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Services {
    /// The Authentication Service's link.
    #[serde(rename = "as")]
    pub(crate) auth: Option<Link>,
    /// The Node Management Service's link.
    pub(crate) nms: Option<Link>,
    /// The Tunnel Relay Service's link.
    pub(crate) trs: Option<Link>,
    /// The HTTP proxy's link; there is a proxy if a node has `proxy`.
    pub(crate) proxy: Option<Link>,
}

ways! {
    /// A link to the Internet core: the same both ways, unless `up` or `down` says otherwise.
    Link {
        /// Largest IP packet, bytes. Default 1500.
        mtu: Option<u32>,
        /// Packets that are too big are dropped without an ICMP error. Default false.
        black_hole: Option<bool>,
        /// Towards the core, where it differs.
        up: Option<Way>,
        /// From the core, where it differs.
        down: Option<Way>,
    }

    /// One direction of a link: the same keys.
    Way {
        /// As in [`Link`].
        mtu: Option<u32>,
        /// As in [`Link`].
        black_hole: Option<bool>,
    }
}

/// `burst_loss` of a link: the model of Gilbert and Elliott. All are probabilities.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BurstLoss {
    /// To turn bad before a packet.
    pub(crate) enter: f64,
    /// To turn good again before a packet.
    pub(crate) leave: f64,
    /// Of loss while good. Default 0.
    pub(crate) loss_good: Option<f64>,
    /// Of loss while bad. Default 1.
    pub(crate) loss_bad: Option<f64>,
}

/// `outages` of a link: times in which packets are lost, whether or not there are any.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outages {
    /// From the end of one to the begin of the next on average: by chance, uniformly between nothing and twice this,
    /// milliseconds.
    pub(crate) every_ms: f64,
    /// How long each is, milliseconds.
    pub(crate) lasts_ms: f64,
    /// Probability of loss meanwhile. Default 1.
    pub(crate) loss: Option<f64>,
}

/// `[[site]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    /// Its name.
    pub(crate) name: String,
    /// What addresses it has.
    pub(crate) kind: SiteKind,
    /// IPv4 prefix: global, or of the LAN behind the NAT. Default: allocated.
    pub(crate) v4: Option<String>,
    /// IPv6 prefix. Default: allocated.
    pub(crate) v6: Option<String>,
    /// The access link.
    pub(crate) link: Option<Link>,
    /// A family whose packets vanish at the access link. Default: none.
    pub(crate) broken: Option<Family>,
    /// The carrier-grade NAT in front of it. Default: none.
    pub(crate) carrier: Option<String>,
    /// The NAT, of a site with private IPv4.
    pub(crate) nat: Option<Nat>,
    /// The NAT64, of a site that has only IPv6.
    pub(crate) nat64: Option<Nat64>,
    /// The prefix translator, of a site with IPv6.
    pub(crate) nptv6: Option<Nptv6>,
    /// The NAT for IPv6, of a site with IPv6.
    pub(crate) nat66: Option<Nat>,
    /// The firewall. Default: none.
    pub(crate) firewall: Option<Firewall>,
}

/// Tables of a NAT's keys and a few of their own.
macro_rules! nats {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $key: $type,)*
            /// Default "endpoint-independent".
            pub(crate) mapping: Option<Dependence>,
            /// Default "address-and-port-dependent".
            pub(crate) filtering: Option<Dependence>,
            /// Default "preserve".
            pub(crate) ports: Option<PortChoice>,
            /// A UDP mapping unused for this long is forgotten, seconds. Default 120.
            pub(crate) idle_s: Option<u64>,
            /// How many outer addresses it has, 1 to 14. Default 1.
            pub(crate) addresses: Option<u32>,
            /// Default "paired".
            pub(crate) pooling: Option<Pooling>,
            /// Default "outbound".
            pub(crate) refresh: Option<Refresh>,
            /// A mapping is forgotten so long after it began, in use or not, seconds. Default: never.
            pub(crate) lifetime_s: Option<u64>,
            /// All mappings are lost by chance, on average so often, seconds. Default: never.
            pub(crate) flush_s: Option<u64>,
            /// Default "off".
            pub(crate) hairpin: Option<Hairpin>,
            /// A reply goes out through the mapping by which the question came. Default false.
            pub(crate) reuses_inbound: Option<bool>,
            /// Default "carried".
            pub(crate) icmp_errors: Option<IcmpErrors>,
            /// Fragments are translated. Default true.
            pub(crate) fragments: Option<bool>,
            /// Unsolicited packets are refused, and not only dropped. Default false.
            pub(crate) answers_unsolicited: Option<bool>,
            /// Default 65536.
            pub(crate) max_sessions: Option<u64>,
            /// Default: no limit of its own.
            pub(crate) max_sessions_per_host: Option<u64>,
        }

        impl $name {
            /// The keys of a NAT alone.
            pub(crate) fn nat(&self) -> Nat {
                Nat {
                    mapping: self.mapping,
                    filtering: self.filtering,
                    ports: self.ports,
                    idle_s: self.idle_s,
                    addresses: self.addresses,
                    pooling: self.pooling,
                    refresh: self.refresh,
                    lifetime_s: self.lifetime_s,
                    flush_s: self.flush_s,
                    hairpin: self.hairpin,
                    reuses_inbound: self.reuses_inbound,
                    icmp_errors: self.icmp_errors,
                    fragments: self.fragments,
                    answers_unsolicited: self.answers_unsolicited,
                    max_sessions: self.max_sessions,
                    max_sessions_per_host: self.max_sessions_per_host,
                }
            }
        }
    )*};
}

nats! {
    /// `[site.nat]` and `[site.nat66]`.
    #[derive(Default)]
    Nat {}

    /// `[site.nat64]`.
    Nat64 {
        /// Where IPv4 is seen inside. Default "64:ff9b::/96".
        prefix: Option<String>,
    }

    /// `[[carrier]]`.
    Carrier {
        /// Its name.
        name: String,
        /// Its link to the core.
        link: Option<Link>,
    }
}

/// `[site.nptv6]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nptv6 {
    /// The prefix that the nodes know. Default: allocated.
    pub(crate) inside: Option<String>,
}

/// `[site.firewall]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Firewall {
    /// Let in only what answers something that went out. Default true.
    pub(crate) stateful: Option<bool>,
    /// What may go out, such as "udp/443", "tcp" or "icmp". Default: everything.
    pub(crate) egress: Option<Vec<String>>,
    /// Instead of `stateful` and `egress`.
    pub(crate) mode: Option<FirewallMode>,
    /// What is done about what may not go out. Default "drop".
    pub(crate) reaction: Option<Refusal>,
    /// How conversations may not begin. Default: anyhow.
    #[serde(default)]
    pub(crate) inspect: Vec<Inspect>,
}

/// `inspect` of a firewall: one of `quic`, `version`, `sni` and `alpn`, and what is done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inspect {
    /// QUIC version 1.
    pub(crate) quic: Option<bool>,
    /// This version of QUIC.
    pub(crate) version: Option<u32>,
    /// This server name, or one below it.
    pub(crate) sni: Option<String>,
    /// This protocol is offered.
    pub(crate) alpn: Option<String>,
    /// What is done.
    pub(crate) reaction: Reaction,
    /// Throttle: only after so many bytes. Default 0.
    pub(crate) after_bytes: Option<u64>,
    /// Throttle: to this rate, kbit/s.
    pub(crate) rate_kbps: Option<f64>,
    /// Throttle: so many bytes at once. Default 15000.
    pub(crate) burst_bytes: Option<u64>,
}

/// `[[node]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// First label of its FQDN.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) site: Option<String>,
    /// Where it is, with several interfaces; instead of `site`.
    pub(crate) interfaces: Option<Vec<String>>,
    /// It reaches the services by TCP through the HTTP proxy. Default false.
    pub(crate) proxy: Option<bool>,
    /// The server name that a network sees in its TCP connections to services. Default: the service's.
    pub(crate) tcp_name: Option<String>,
    /// The node whose name, key, certificate and virtual addresses this machine has as well. Default: none.
    pub(crate) copy_of: Option<String>,
}

/// As [`cyphonic_core::message::Framing`], with serde.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Framing {
    /// Conventional.
    Udp4501,
    /// QUIC STREAM frame and header.
    Stream,
    /// QUIC DATAGRAM frame and header.
    Datagram,
    /// QUIC DATAGRAM frame, no header.
    Compact,
}

impl From<Framing> for cyphonic_core::message::Framing {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Udp4501 => Self::Udp4501,
            Framing::Stream => Self::Stream,
            Framing::Datagram => Self::Datagram,
            Framing::Compact => Self::Compact,
        }
    }
}

/// As [`cyphonic_core::message::RelayMode`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RelayMode {
    /// The TRS sees the plaintext.
    Terminating,
    /// The TRS holds no key.
    Blind,
}

impl From<RelayMode> for cyphonic_core::message::RelayMode {
    fn from(mode: RelayMode) -> Self {
        match mode {
            RelayMode::Terminating => Self::Terminating,
            RelayMode::Blind => Self::Blind,
        }
    }
}

/// `7`, or `"1..20"`; the order of the ends is checked later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeedRange {
    /// The first.
    pub(crate) first: u64,
    /// The last, included.
    pub(crate) last: u64,
}

impl<'de> Deserialize<'de> for SeedRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeedVisitor)
    }
}

struct SeedVisitor;

impl Visitor<'_> for SeedVisitor {
    type Value = SeedRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a seed such as 7, or a range such as \"1..20\" with both ends included")
    }

    fn visit_i64<E: Error>(self, seed: i64) -> Result<SeedRange, E> {
        let first = u64::try_from(seed).map_err(|_| E::invalid_value(Unexpected::Signed(seed), &self))?;
        Ok(SeedRange { first, last: first })
    }

    fn visit_u64<E: Error>(self, first: u64) -> Result<SeedRange, E> {
        Ok(SeedRange { first, last: first })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SeedRange, E> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => Ok(SeedRange { first, last }),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests;
