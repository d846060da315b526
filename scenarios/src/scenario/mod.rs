//! A valid scenario: names are resolved, addresses are allocated, defaults are filled in, and units are typed.
//!
//! The Internet is one core. AS, NMS and TRS are dual-stack hosts on it, each behind its own link. A site is a network
//! behind one access link. Its nodes are on its LAN. Between LAN and link are the site's translators (NAT, NAT64,
//! NPTv6, NAT66) and its firewall, if it has any. The link leads to the core, or to a carrier's NAT, which has its own
//! link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use cyphonic_core::message::{Framing, RelayMode};
use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::Rules;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address;
use crate::words::{
    Cipher, Congestion, Dependence, Engine, Family, FirewallMode, Hairpin, Handover, IcmpErrors, Invariant, Login,
    Measure, Method, Policy, Pooling, PortChoice, Protocol, Reaction, Refresh, Refusal, ServiceName, Signaling,
    SiteKind,
};

mod step;

pub use step::*;

/// One experiment, ready to run with any of its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One line that names the experiment.
    pub title: String,
    /// What it shows and why it is set up so.
    pub about: String,
    /// Each seed is a run of its own. Never empty.
    pub seeds: RangeInclusive<u64>,
    /// The engine that runs the network, unless the command line names another.
    pub engine: Engine,
    /// Which method runs.
    pub method: Method,
    /// How nodes authenticate to the AS.
    pub login: Login,
    /// How a tunnelled packet is carried; always one of `method`.
    pub framing: Framing,
    /// The congestion control of the outer QUIC connection; always none in the conventional method, which has no QUIC.
    pub congestion: Congestion,
    /// How packets in tunnels are sealed; always "aes-ctr" in the proposed method, which does not use it.
    pub cipher: Cipher,
    /// How the NMS chooses a route.
    pub policy: Policy,
    /// What nodes do when one of them moves; always "rebuild" in the conventional method, and where a TRS
    /// terminates connections.
    pub handover: Handover,
    /// What is waited for while a tunnel comes up; always "paper" in the conventional method.
    pub signaling: Signaling,
    /// How long a connection of two nodes carries packets before another one replaces it; under the paper's policy, and
    /// in the conventional method, it is never replaced.
    pub tunnel_lifetime: Duration,
    /// How the TRS relays; always blind in the conventional method, where it has no end key.
    pub relay_mode: RelayMode,
    /// UDP port of the protocol, on every role.
    pub port: u16,
    /// MTU of the nodes' virtual interfaces, bytes.
    pub tun_mtu: u16,
    /// The run ends here in any case.
    pub duration_limit: Duration,
    /// Which nodes may talk to which.
    pub rules: Rules,
    /// AS, NMS and TRS.
    pub services: Services,
    /// The carrier-grade NATs, in the order of the file.
    pub carriers: Vec<Carrier>,
    /// The sites, in the order of the file.
    pub sites: Vec<Site>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// What happens.
    pub steps: Vec<Step>,
    /// What rows come out.
    pub measure: Measure,
    /// The invariant that once did not hold: a run is held against all of them.
    pub expect: Option<Invariant>,
}

/// The three services.
#[derive(Clone, Debug, PartialEq)]
pub struct Services {
    /// The Authentication Service.
    pub auth: Service,
    /// The Node Management Service.
    pub nms: Service,
    /// The Tunnel Relay Service.
    pub trs: Service,
    /// The HTTP proxy, if a node uses one.
    pub proxy: Option<Service>,
}

impl Services {
    /// One of them.
    pub const fn of(&self, name: ServiceName) -> &Service {
        match name {
            ServiceName::As => &self.auth,
            ServiceName::Nms => &self.nms,
            ServiceName::Trs => &self.trs,
        }
    }
}

/// A dual-stack host on the Internet core.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its link to the core.
    pub link: Link,
}

/// A link to the Internet core.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Towards the core.
    pub up: Way,
    /// From the core.
    pub down: Way,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// One-way delay, at least a millisecond.
    pub delay: Duration,
    /// Each packet is delayed by up to this much more, uniformly.
    pub jitter: Duration,
    /// Probability that a packet is lost, 0 to 1.
    pub loss: f64,
    /// Rate in bits a second, of whole IP packets; unlimited if none.
    pub rate_bps: Option<u64>,
    /// The limit of the queue before the rate limit.
    pub queue: Queue,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Loss in bursts, beside `loss`.
    pub burst_loss: Option<BurstLoss>,
    /// Times in which packets are lost, beside these.
    pub outages: Option<Outages>,
    /// Probability that a packet is held back, 0 to 1.
    pub reorder: f64,
    /// For how long.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice, 0 to 1.
    pub duplicate: f64,
    /// Probability that a bit of a packet is inverted, 0 to 1.
    pub corrupt: f64,
    /// Whether packets that are too big are dropped without an ICMP error.
    pub black_hole: bool,
}

/// How long the queue in front of a rate limit may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// No packet waits longer.
    Time(Duration),
    /// No more bytes wait.
    Bytes(u64),
}

/// Times in which packets are lost. They do not depend on the packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outages {
    /// The mean time from the end of one to the beginning of the next: uniform between zero and twice this.
    pub every: Duration,
    /// How long each is.
    pub lasts: Duration,
    /// Probability of loss meanwhile, 0 to 1.
    pub loss: f64,
}

/// The model of Gilbert and Elliott; all are probabilities, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstLoss {
    /// Of a change to the bad state before a packet.
    pub enter: f64,
    /// Of a change to the good state before a packet.
    pub leave: f64,
    /// Of loss while good.
    pub loss_good: f64,
    /// Of loss while bad.
    pub loss_bad: f64,
}

/// A NAT that several sites share (RFC 6888), with [`CARRIER_V4`](crate::CARRIER_V4) inside. IPv6 is not translated.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    /// Its name.
    pub name: String,
    /// Its addresses towards the sites, from which it sends ICMP errors.
    pub inside: (Ipv4Addr, Ipv6Addr),
    /// How it translates.
    pub nat: Nat,
    /// Its link to the core.
    pub link: Link,
}

/// A network behind one access link.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// The kinds of its addresses.
    pub kind: SiteKind,
    /// IPv4, if it has any.
    pub v4: Option<SiteV4>,
    /// IPv6, if it has any.
    pub v6: Option<SiteV6>,
    /// The NAT64 of a site that has only IPv6.
    pub nat64: Option<Nat64>,
    /// The access link: to the core, or to the carrier.
    pub link: Link,
    /// Index into [`Scenario::carriers`] of the NAT behind which the access link ends. Only with private IPv4.
    pub carrier: Option<usize>,
    /// The family whose packets are lost at the access link, both ways, without an ICMP error. Only with two families.
    pub broken: Option<Family>,
    /// The firewall between the site's translators and the link.
    pub firewall: Option<Firewall>,
}

/// A site's IPv4.
#[derive(Clone, Debug, PartialEq)]
pub enum SiteV4 {
    /// Global addresses for everyone. The router is the first host.
    Global(Ipv4Net),
    /// A LAN behind a NAT. The NAT's inner address is the first host.
    Private {
        /// The LAN's prefix; other sites may have the same one.
        lan: Ipv4Net,
        /// The NAT in front of it.
        nat: Nat,
    },
}

impl SiteV4 {
    /// The prefix from which the site's nodes have their addresses.
    pub const fn prefix(&self) -> Ipv4Net {
        match self {
            Self::Global(prefix) | Self::Private { lan: prefix, .. } => *prefix,
        }
    }
}

/// A site's IPv6.
#[derive(Clone, Debug, PartialEq)]
pub enum SiteV6 {
    /// Global addresses for everyone. The router is the first host.
    Global(Ipv6Net),
    /// Inner addresses, each translated to an outer one of its own (NPTv6, RFC 6296).
    Prefix {
        /// The prefix that the nodes know (RFC 4193). The router is its first host.
        inside: Ipv6Net,
        /// The prefix that the rest of the network uses, of the same length.
        outside: Ipv6Net,
    },
    /// A LAN behind a NAT (NAPT66). The NAT's inner address is the first host.
    Private {
        /// The LAN's prefix (RFC 4193).
        lan: Ipv6Net,
        /// The NAT in front of it.
        nat: Nat,
    },
}

impl SiteV6 {
    /// The prefix from which the site's nodes have their addresses.
    pub const fn prefix(&self) -> Ipv6Net {
        match self {
            Self::Global(prefix) | Self::Prefix { inside: prefix, .. } | Self::Private { lan: prefix, .. } => *prefix,
        }
    }
}

/// A stateful translator from IPv6 inside to IPv4 outside (RFC 6146).
#[derive(Clone, Debug, PartialEq)]
pub struct Nat64 {
    /// The prefix of IPv4 addresses inside: a /96 (RFC 6052).
    pub prefix: Ipv6Net,
    /// How it translates.
    pub nat: Nat,
}

impl Site {
    /// The site's prefixes as seen from outside, IPv6 first.
    pub fn outer_prefixes(&self) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        match &self.v6 {
            Some(SiteV6::Global(prefix) | SiteV6::Prefix { outside: prefix, .. }) => prefixes.push((*prefix).into()),
            Some(SiteV6::Private { nat, .. }) => prefixes.extend(nat.addresses().map(IpNet::from)),
            None => {}
        }
        match &self.v4 {
            Some(SiteV4::Global(prefix)) => prefixes.push((*prefix).into()),
            Some(SiteV4::Private { nat, .. }) => prefixes.extend(nat.addresses().map(IpNet::from)),
            None => prefixes.extend(self.nat64.iter().flat_map(|nat64| nat64.nat.addresses()).map(IpNet::from)),
        }
        prefixes
    }

    /// The prefix of IPv4 addresses inside, if the site has a NAT64: the PREF64 of its router advertisements (RFC
    /// 8781).
    pub fn nat64_prefix(&self) -> Option<Ipv6Net> {
        self.nat64.as_ref().map(|nat64| nat64.prefix)
    }

    /// The router's or NAT's address on the LAN: the first host of the IPv4 prefix.
    pub fn router_v4(&self) -> Option<Ipv4Addr> {
        self.v4.as_ref().map(|v4| address::router_v4(v4.prefix()))
    }

    /// The router's address on the LAN: the first host of the IPv6 prefix.
    pub fn router_v6(&self) -> Option<Ipv6Addr> {
        self.v6.as_ref().map(|v6| address::router_v6(v6.prefix()))
    }
}

/// A network address translator (words as in RFC 4787).
#[derive(Clone, Debug, PartialEq)]
pub struct Nat {
    /// Its outer address: of the family of the outside; private only behind a carrier.
    pub outside: IpAddr,
    /// Further ones, of the same family.
    pub more_outside: Vec<IpAddr>,
    /// How a mapping gets one of them.
    pub pooling: Pooling,
    /// The mapping behaviour: when a new mapping is made.
    pub mapping: Dependence,
    /// The filtering behaviour: which packets come in through a mapping.
    pub filtering: Dependence,
    /// How the outer port is picked.
    pub ports: PortChoice,
    /// The idle timeout of UDP mappings.
    pub idle: Duration,
    /// The direction of the packets that refresh a mapping.
    pub refresh: Refresh,
    /// A mapping expires this long after it began.
    pub lifetime: Option<Duration>,
    /// The mean time after which all mappings are lost at once, at random.
    pub flush: Option<Duration>,
    /// What happens to packets from inside to its own outer address.
    pub hairpin: Hairpin,
    /// Whether a reply leaves by the mapping through which the request came in.
    pub reuses_inbound: bool,
    /// What happens to ICMP errors.
    pub icmp_errors: IcmpErrors,
    /// Whether fragments are translated.
    pub fragments: bool,
    /// Whether unsolicited packets are answered and not only dropped.
    pub answers_unsolicited: bool,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// The most sessions at once of one inner host.
    pub max_sessions_per_host: usize,
}

impl Nat {
    /// Every outer address.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.outside).chain(self.more_outside.iter().copied())
    }
}

/// A packet filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Firewall {
    /// Whether packets may come in only as replies.
    pub stateful: bool,
    /// The packets that may go out; `None`: all.
    pub egress: Option<Vec<Egress>>,
    /// The reaction to packets that may not go out.
    pub refusal: Refusal,
    /// The rules of inspection of the first packets of conversations.
    pub inspect: Vec<Inspect>,
}

/// A rule of inspection of the first packets of conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// What.
    pub what: Trait,
    /// The reaction to a conversation that matches.
    pub reaction: Reaction,
    /// Of [`Reaction::Throttle`].
    pub throttle: Throttle,
}

/// The property of a conversation that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trait {
    /// It is QUIC version 1.
    Quic,
    /// It is QUIC of this version.
    Version(u32),
    /// It asks for this server name or a subdomain of it.
    ServerName(String),
    /// It offers this protocol.
    Alpn(String),
}

/// How a conversation is throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// The bytes that pass before.
    pub after_bytes: u64,
    /// The rate after that, bits per second.
    pub rate_bps: u64,
    /// The largest burst, bytes.
    pub burst_bytes: u64,
}

/// A protocol, and perhaps a port, that may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Egress {
    /// The transport.
    pub protocol: Protocol,
    /// The destination port; any if none.
    pub port: Option<u16>,
}

impl FirewallMode {
    /// The packets that may go out; `None`: all.
    pub fn egress(self) -> Option<Vec<Egress>> {
        let list: &[(Protocol, u16)] = match self {
            Self::Stateful => return None,
            Self::Only443 => &[(Protocol::Udp, 443), (Protocol::Tcp, 443)],
            Self::OnlyTcp443 => &[(Protocol::Tcp, 443)],
            Self::WebProxy => &[(Protocol::Tcp, PROXY_PORT)],
            Self::Web => &[(Protocol::Tcp, 80), (Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Tcp, 53)],
        };
        Some(list.iter().map(|&(protocol, port)| Egress { protocol, port: Some(port) }).collect())
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name: the scenario's, in the zone [`ZONE`].
    pub name: Fqdn,
    /// Its interfaces at the start; at least one.
    pub interfaces: Vec<Interface>,
    /// Whether it reaches the services by TCP through the HTTP proxy ([`Services::proxy`]).
    pub proxy: bool,
    /// The server name in its TCP connections to services, in place of the service's.
    pub tcp_name: Option<Fqdn>,
    /// The node of which this is a second machine: its name, key, certificate and virtual addresses are that node's.
    pub copy_of: Option<usize>,
}

/// A node's place in a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index into [`Scenario::sites`].
    pub site: usize,
    /// Its IPv4 address there: behind the NAT, where there is one.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address there.
    pub v6: Option<Ipv6Addr>,
}

/// The port of the HTTP proxy.
pub const PROXY_PORT: u16 = 3128;

/// The zone of every node's name.
pub const ZONE: &str = "cyphonic.test";

impl Scenario {
    /// Every address of a far end, as the rest of the network sees it; of one family only, if `family` is given.
    pub fn seen_as(&self, far: Far, family: Option<Family>) -> Vec<IpNet> {
        let mut prefixes: Vec<IpNet> = match far {
            Far::Service(service) => {
                let Service { v4, v6, .. } = self.services.of(service);
                vec![IpAddr::from(*v6).into(), IpAddr::from(*v4).into()]
            }
            Far::Site(site) => {
                let site = &self.sites[site];
                let carried = site.carrier.iter().flat_map(|&carrier| self.carriers[carrier].nat.addresses());
                let own =
                    site.outer_prefixes().into_iter().filter(|own| site.carrier.is_none() || own.addr().is_ipv6());
                own.chain(carried.map(IpNet::from)).collect()
            }
        };
        prefixes.retain(|prefix| family.is_none_or(|family| prefix.addr().is_ipv4() == (family == Family::Ipv4)));
        prefixes
    }

    /// Every place to which steps move a node, in their order.
    pub fn comes_to(&self, node: usize) -> impl Iterator<Item = &Interface> {
        self.steps.iter().filter_map(move |step| match &step.action {
            Action::Move { node: mover, to } | Action::Attach { node: mover, to } => (*mover == node).then_some(to),
            _ => None,
        })
    }

    /// The node whose name, key, certificate and virtual addresses a machine has: itself, unless it is a copy.
    pub fn original(&self, node: usize) -> usize {
        self.nodes[node].copy_of.unwrap_or(node)
    }

    /// The name that a node shows to others.
    pub fn shown_name(&self, node: usize) -> &Fqdn {
        &self.nodes[self.original(node)].name
    }

    /// The node of that name, with or without the zone.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name.short() == name || n.name.as_str() == name)
    }
}
