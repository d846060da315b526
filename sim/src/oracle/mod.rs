//! Which of two nodes can dial the other directly.
//!
//! The oracle derives the answer from the boxes between the two nodes alone. It uses nothing that the NMS knows or
//! decides, so tests compare its answer with the choice of a policy.
//!
//! An [`Outlook`] is the composition of every box between a site's hosts and the core, for one address family. A dialer
//! reaches a listener if their two outlooks fit ([`Outlook::dial`]):
//!
//! - **The listener's filter.** Peers are told the address of the listener that the NMS sees. If a box of the listener
//!   maps by destination, its packets to the dialer take another mapping. So a filter at that box, or beyond it, stays
//!   closed at the address that peers know.
//! - **The reply.** If a box of the listener maps by destination, its reply comes from another port, unless the NAT
//!   sends replies by the mapping of the request. The dialer has sent to the listener's address, but not to that port.
//!   Its boxes let the reply in if their filtering is address-dependent or endpoint-independent. If the reply may come
//!   from another address too, filtering must be endpoint-independent.
//! - **Punching.** A listener whose boxes filter has to send first (it *punches*). With address-and-port-dependent
//!   filtering it needs the dialer's address and port, so these must be the ones that the NMS sees. With
//!   address-dependent filtering it needs the address only.
//! - **Firewalls.** The firewall of a site must let its node send, punches included. Inspection on both sides must let
//!   the first packets of the method pass.
//!
//! What the oracle does not count on:
//!
//! - **The order of two packets.** Some NATs would let a dialer answer a punch by the mapping by which the punch came.
//!   The dialer may have dialed before the punch came.
//! - **UDP in place of TCP.** A node that cannot register by UDP may register by TCP ([`can_register`]). It then has no
//!   direct path, only the relay.
//! - **Time and space.** Mappings do not expire, and tables are never full.
//! - **One port for several hosts.** If several hosts may want one external port of a NAT that preserves ports, none of
//!   them counts as its owner. If they share the port (overloading), none of them counts as reachable.

use std::fmt;

use cyphonic_scenarios::{
    Dependence, Egress, Family, Firewall, Hairpin, Method, Nat, Node, Policy, Pooling, PortChoice, Protocol, Reaction,
    Scenario, Site, SiteV4, SiteV6, Trait,
};

/// The ALPN that the QUIC links of every role offer.
const ALPN: &str = "h3";
/// The AS's TCP port for logins of the conventional method.
const LOGIN_PORT: u16 = 443;
/// Every service's TCP port for proxied UDP.
const TCP_PORT: u16 = 443;
/// The HTTP proxy's TCP port.
const PROXY_PORT: u16 = 3128;

/// A node at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Index into [`Scenario::nodes`].
    pub node: usize,
    /// Index into [`Scenario::sites`].
    pub site: usize,
}

impl End {
    /// A node at its first interface, where it starts.
    pub fn start(scenario: &Scenario, node: usize) -> Self {
        Self { node, site: scenario.nodes[node].interfaces[0].site }
    }
}

/// The filtering of a site: which sources may send to its hosts (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// All sources: endpoint-independent filtering.
    Open,
    /// Addresses to which the host has sent, from any port.
    Address,
    /// Addresses and ports to which the host has sent.
    AddressAndPort,
}

/// A site as it is seen from outside, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
pub struct Outlook {
    /// Whether a host's external port is the same for every peer.
    pub steady_port: bool,
    /// Whether a host's external address is the same for every peer.
    pub steady_address: bool,
    /// Whether every NAT whose mappings depend on the peer sends replies by the mapping of the request.
    pub reuses_inbound: bool,
    /// The strictest filter of all boxes.
    pub filter: Filter,
    /// The external port that the NMS sees; `None` if it is not certain.
    pub port: Option<u16>,
    /// The UDP ports to which the firewall lets hosts send. `None` if it has no such rules. An entry of `None` is a
    /// rule for every port.
    pub egress: Option<Vec<Option<u16>>>,
    /// Whether a box filters, and its own mappings or those of a box nearer to the host depend on the peer. A punch of
    /// the host then opens another mapping than the one that peers know.
    pub is_shut: bool,
    /// Whether the firewall takes a reply for a new conversation. That happens if a NAT on the host's side of the
    /// firewall gives the reply another mapping than that of the request.
    pub replies_anew: bool,
    /// Whether the firewall, or a box on its far side, filters. If not, two things hold: a punch need not get past the
    /// firewall, because every filtering box has seen it by then; and a punch from outside begins a conversation there.
    pub is_guarded: bool,
}

/// How a dialer reaches a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// The listener does not have to send first. If its mapping depends on the peer, it must not: a packet of its own
    /// would make another mapping, and its answers would come from there.
    Open,
    /// The listener has to send first.
    Punched,
}

/// Why a dialer does not reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A node has no address of the family.
    NoFamily,
    /// A site's packets of the family vanish.
    Broken,
    /// The dialer's firewall does not let it send to the listener's port.
    DialerEgress,
    /// The listener has another port for each peer. Its punch opens a port that peers do not know, or its reply comes
    /// from a port that the dialer's filter does not let in.
    ListenerUnsteady,
    /// The listener's firewall does not let it send first.
    ListenerEgress,
    /// A punch needs the dialer's port, which is not known before the dialer dials.
    DialerUnsteady,
    /// A punch needs the dialer's address, which is not known before the dialer dials.
    DialerAddress,
    /// Inspection refuses the first packets of the method.
    Inspected,
    /// A node cannot log in or register by UDP, so it has no direct path, even if it registers by TCP.
    NoSignaling,
    /// Both nodes are behind one carrier, whose NAT does not support hairpinning.
    NoHairpin,
    /// Both nodes are behind one carrier, whose NAT hairpins with the inner source address. Replies would go to that
    /// address, and would come from an inner address too.
    InternalHairpin,
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "gets through",
            Self::Punched => "gets through once the listener has sent first",
        })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFamily => "one of them has no address of this family",
            Self::Broken => "packets of this family vanish at one of the sites",
            Self::DialerEgress => "the dialer's firewall does not let it send to the listener's port",
            Self::ListenerUnsteady => "the listener's NAT has another port for each peer, and a filter is in the way",
            Self::ListenerEgress => "the listener has to send first, and its firewall does not let it",
            Self::DialerUnsteady => {
                "the listener has to send first, and the dialer's NAT has another port for each peer"
            }
            Self::DialerAddress => "the listener has to send first, and the dialer's NAT has several addresses",
            Self::Inspected => "inspection refuses how the method begins a conversation",
            Self::NoSignaling => "one of them cannot log in and register by UDP",
            Self::NoHairpin => "both are behind one carrier, whose NAT does not turn packets back",
            Self::InternalHairpin => "both are behind one carrier, and replies would come from an inner address of its",
        })
    }
}

/// Where two nodes may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// On the LAN of the site that both are in.
    Lan,
    /// Across the core, by this family.
    Core(Family),
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan => f.write_str("the LAN"),
            Self::Core(Family::Ipv6) => f.write_str("IPv6"),
            Self::Core(Family::Ipv4) => f.write_str("IPv4"),
        }
    }
}

/// One way for two nodes to meet, and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The dialer.
    pub dialer: usize,
    /// The listener.
    pub listener: usize,
    /// The network in which they meet.
    pub medium: Medium,
    /// Whether it works, and why or why not.
    pub result: Result<Success, Obstacle>,
}

/// Every way in which two nodes may meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Best first: the LAN, IPv6, IPv4. For each, the attempt in which the first node dials comes first.
    pub attempts: Vec<Attempt>,
}

impl Verdict {
    /// Whether there is a direct path at all.
    pub fn is_direct(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.result.is_ok())
    }

    /// Whether `dialer` can dial the other node in `medium`.
    pub fn may_dial(&self, dialer: usize, medium: Medium) -> bool {
        let mine = |attempt: &&Attempt| (attempt.dialer, attempt.medium) == (dialer, medium);
        self.attempts.iter().find(mine).is_some_and(|attempt| attempt.result.is_ok())
    }
}

/// Judges every attempt of two nodes at their sites to reach each other.
pub fn judge(scenario: &Scenario, a: End, b: End) -> Verdict {
    let media =
        if a.site == b.site { vec![Medium::Lan] } else { vec![Medium::Core(Family::Ipv6), Medium::Core(Family::Ipv4)] };
    let both = media.into_iter().flat_map(|medium| [(a, b, medium), (b, a, medium)]);
    let attempt = |(dialer, listener, medium): (End, End, Medium)| Attempt {
        dialer: dialer.node,
        listener: listener.node,
        medium,
        result: attempt(scenario, dialer, listener, medium),
    };
    Verdict { attempts: both.map(attempt).collect() }
}

fn attempt(scenario: &Scenario, dialer: End, listener: End, medium: Medium) -> Result<Success, Obstacle> {
    if ![dialer, listener].iter().all(|end| has_signaling(scenario, &scenario.sites[end.site])) {
        return Err(Obstacle::NoSignaling);
    }
    let Medium::Core(family) = medium else { return Ok(Success::Open) };
    let (from, to) = (&scenario.sites[dialer.site], &scenario.sites[listener.site]);
    if [from, to].iter().any(|site| site.broken == Some(family)) {
        return Err(Obstacle::Broken);
    }
    let outlook = |end: End| Outlook::of(scenario, end.site, family).ok_or(Obstacle::NoFamily);
    let (from_outlook, to_outlook) = (outlook(dialer)?, outlook(listener)?);
    if family == Family::Ipv4
        && let (Some(carrier), true) = (from.carrier, from.carrier == to.carrier)
    {
        match scenario.carriers[carrier].nat.hairpin {
            Hairpin::Off => return Err(Obstacle::NoHairpin),
            // The dialer does not accept an answer from an inner address.
            Hairpin::InternalSource => return Err(Obstacle::InternalHairpin),
            // The NAT treats the packets as it treats packets from outside.
            Hairpin::ExternalSource => {}
        }
    }
    let name = scenario.nodes[listener.node].name.as_str();
    let refused = |site: &Site| scenario.method == Method::Proposed && refuses(site.firewall.as_ref(), name, true);
    if refused(from) || refused(to) {
        return Err(Obstacle::Inspected);
    }
    from_outlook.dial(&to_outlook)
}

impl Outlook {
    /// The outlook of a site in one family; `None` if the site has no such family. IPv4 may be behind a NAT64.
    pub fn of(scenario: &Scenario, index: usize, family: Family) -> Option<Self> {
        let site = &scenario.sites[index];
        let mut nats: Vec<&Nat> = Vec::new();
        match family {
            Family::Ipv6 => {
                if let SiteV6::Private { nat, .. } = site.v6.as_ref()? {
                    nats.push(nat);
                }
            }
            Family::Ipv4 => match (&site.v4, &site.nat64) {
                (Some(SiteV4::Private { nat, .. }), _) => nats.push(nat),
                (Some(SiteV4::Global(_)), _) => {}
                (None, Some(nat64)) => nats.push(&nat64.nat),
                (None, None) => return None,
            },
        }
        let mut sharers = nodes_in(scenario, |site| site == index);
        let mut outlook = Self::public(scenario.port);
        for nat in nats {
            outlook = outlook.behind_nat(nat, sharers > 1);
        }
        if let Some(firewall) = &site.firewall {
            outlook = outlook.behind_firewall(firewall);
        }
        if let (Some(carrier), Family::Ipv4) = (site.carrier, family) {
            sharers = nodes_in(scenario, |site| scenario.sites[site].carrier == Some(carrier));
            outlook = outlook.behind_nat(&scenario.carriers[carrier].nat, sharers > 1);
        }
        Some(outlook)
    }

    /// The outlook without any box. A host behind NPTv6 has it too, because it has an external address of its own.
    pub fn public(port: u16) -> Self {
        Self {
            steady_port: true,
            steady_address: true,
            reuses_inbound: true,
            filter: Filter::Open,
            port: Some(port),
            egress: None,
            is_shut: false,
            replies_anew: false,
            is_guarded: false,
        }
    }

    /// Adds a NAT at the outer side. `is_shared`: other hosts may want the same port of it.
    #[must_use]
    pub fn behind_nat(mut self, nat: &Nat, is_shared: bool) -> Self {
        let &Nat {
            outside: _,
            ref more_outside,
            pooling,
            mapping,
            filtering,
            ports,
            reuses_inbound,
            // `attempt` judges hairpinning, because it concerns two sites.
            hairpin: _,
            // The oracle judges one moment: nothing expires, and no table is full.
            idle: _,
            refresh: _,
            lifetime: _,
            flush: _,
            max_sessions: _,
            max_sessions_per_host: _,
            // ICMP errors and fragments have no influence on a first packet.
            icmp_errors: _,
            fragments: _,
            answers_unsolicited: _,
        } = nat;
        let is_endpoint = match mapping {
            Dependence::Endpoint => true,
            Dependence::Address | Dependence::AddressAndPort => false,
        };
        let keeps = is_endpoint && self.is_steady();
        let is_single = more_outside.is_empty();
        let is_paired = match pooling {
            Pooling::Paired => true,
            Pooling::Arbitrary => false,
        };
        let overloads = match ports {
            PortChoice::Overloading => true,
            PortChoice::Preserve | PortChoice::Sequential | PortChoice::Random => false,
        };
        self.reuses_inbound &= if overloads {
            // Every mapping has the inner port. Several hosts with one inner port receive each other's packets.
            !is_shared && (is_endpoint || is_single || is_paired || reuses_inbound)
        } else {
            is_endpoint || reuses_inbound
        };
        self.steady_port = if overloads { !is_shared && self.steady_port } else { keeps };
        self.steady_address = keeps || is_single || is_paired && self.steady_address;
        let filter = match filtering {
            Dependence::Endpoint => Filter::Open,
            Dependence::Address => Filter::Address,
            Dependence::AddressAndPort => Filter::AddressAndPort,
        };
        self.filter = self.filter.max(filter);
        self.is_shut |= filter != Filter::Open && !self.is_steady();
        self.is_guarded |= self.egress.is_some() && filter != Filter::Open;
        self.port = self.port.filter(|_| match ports {
            // With a mapping for each peer, the NAT may have used the preserved port for the AS already.
            PortChoice::Preserve => !is_shared && keeps,
            PortChoice::Overloading => true,
            PortChoice::Sequential | PortChoice::Random => false,
        });
        self
    }

    /// Adds a firewall at the outer side.
    #[must_use]
    pub fn behind_firewall(mut self, firewall: &Firewall) -> Self {
        // The kind of refusal does not matter, because a refused packet never arrives. Inspection is handled in
        // `attempt`.
        let Firewall { stateful, egress, refusal: _, inspect: _ } = firewall;
        if *stateful {
            (self.filter, self.is_guarded) = (Filter::AddressAndPort, true);
            self.is_shut |= !self.is_steady();
        }
        self.replies_anew = !self.is_steady() && !self.reuses_inbound;
        self.egress = egress.as_ref().map(|rules| ports(rules, Protocol::Udp));
        self
    }

    /// Whether a host has the same external address and port for every peer.
    pub fn is_steady(&self) -> bool {
        self.steady_port && self.steady_address
    }

    fn may_send_to(&self, port: Option<u16>) -> bool {
        allows(self.egress.as_deref(), port)
    }

    /// Whether a reply of a listener whose mapping depends on the peer comes in here.
    fn hears_reply_of(&self, listener: &Self) -> bool {
        // A listener that has to send first makes another mapping by that, and replies by it.
        listener.reuses_inbound && listener.filter == Filter::Open
            || match self.filter {
                Filter::Open => true,
                Filter::Address => listener.steady_address,
                Filter::AddressAndPort => false,
            }
    }

    /// Whether a dialer with this outlook reaches a listener.
    pub fn dial(&self, listener: &Self) -> Result<Success, Obstacle> {
        let may_dial = self.may_send_to(listener.port);
        let may_punch = listener.may_send_to(self.port);
        // If the dialer's firewall lets the listener's punch in, the punch begins a conversation, in which the dialer
        // may answer.
        let is_invited = may_punch && !self.is_guarded && self.is_steady() && listener.is_steady();
        if !may_dial && !is_invited {
            return Err(Obstacle::DialerEgress);
        }
        if !listener.is_steady() && (listener.is_shut || !self.hears_reply_of(listener)) {
            return Err(Obstacle::ListenerUnsteady);
        }
        if listener.replies_anew && !may_punch {
            return Err(Obstacle::ListenerEgress);
        }
        match listener.filter {
            Filter::Open => return Ok(if may_dial { Success::Open } else { Success::Punched }),
            Filter::Address if !self.steady_address => return Err(Obstacle::DialerAddress),
            Filter::AddressAndPort if !self.is_steady() => return Err(Obstacle::DialerUnsteady),
            Filter::Address | Filter::AddressAndPort => {}
        }
        let opens = may_punch || !listener.is_guarded;
        if opens { Ok(Success::Punched) } else { Err(Obstacle::ListenerEgress) }
    }
}

/// How many nodes start in such a site.
fn nodes_in(scenario: &Scenario, is_such: impl Fn(usize) -> bool) -> usize {
    scenario.nodes.iter().filter(|node| node.interfaces.iter().any(|place| is_such(place.site))).count()
}

/// The ports to which rules let a protocol send. An entry of `None` is a rule for every port.
fn ports(rules: &[Egress], protocol: Protocol) -> Vec<Option<u16>> {
    rules.iter().filter(|rule| rule.protocol == protocol).map(|rule| rule.port).collect()
}

/// Whether rules let hosts send to this port. A port that is not known needs a rule for every port.
fn allows(rules: Option<&[Option<u16>]>, port: Option<u16>) -> bool {
    rules.is_none_or(|rules| rules.iter().any(|rule| rule.is_none() || port.is_some() && *rule == port))
}

/// Whether a node at a site can log in and register, by UDP or by TCP.
pub fn can_register(scenario: &Scenario, end: End) -> bool {
    let site = &scenario.sites[end.site];
    has_signaling(scenario, site) || has_tcp(scenario, site, &scenario.nodes[end.node])
}

/// Whether a node at a site can reach every service by UDP that is proxied over TCP. Inspection sees TLS with a server
/// name, which is the service's unless the node has another one, and an application protocol other than that of QUIC. A
/// node with an HTTP proxy opens TCP connections to the proxy only, and inspection sees the request to the proxy, which
/// is no TLS.
fn has_tcp(scenario: &Scenario, site: &Site, node: &Node) -> bool {
    let Some(firewall) = &site.firewall else { return has_fallback(scenario) };
    let rules = firewall.egress.as_ref().map(|rules| ports(rules, Protocol::Tcp));
    if node.proxy {
        return has_fallback(scenario) && allows(rules.as_deref(), Some(PROXY_PORT));
    }
    let service = |name: &str| format!("{name}.{}", cyphonic_scenarios::ZONE);
    let seen = |name| node.tcp_name.as_ref().map_or_else(|| service(name), ToString::to_string);
    let is_refused = |name| refuses(Some(firewall), &seen(name), false);
    has_fallback(scenario)
        && allows(rules.as_deref(), Some(TCP_PORT))
        && !["as", "nms", "trs"].into_iter().any(is_refused)
}

/// Whether nodes use TCP where UDP is blocked. The paper's method does not.
fn has_fallback(scenario: &Scenario) -> bool {
    scenario.method == Method::Proposed && scenario.policy == Policy::Optimal
}

/// Whether a node at a site can log in and register without proxied UDP.
fn has_signaling(scenario: &Scenario, site: &Site) -> bool {
    let Some(firewall) = &site.firewall else { return true };
    let may_send = |protocol, port| {
        let rules = firewall.egress.as_ref().map(|rules| ports(rules, protocol));
        allows(rules.as_deref(), Some(port))
    };
    let service = |name: &str| format!("{name}.{}", cyphonic_scenarios::ZONE);
    let refuses = |name, is_quic| refuses(Some(firewall), &service(name), is_quic);
    may_send(Protocol::Udp, scenario.port)
        && match scenario.method {
            Method::Proposed => !refuses("as", true) && !refuses("nms", true),
            Method::Conventional => may_send(Protocol::Tcp, LOGIN_PORT) && !refuses("as", false),
        }
}

/// Whether inspection ends a conversation in which a client asks for `name`, over QUIC or over TLS without QUIC's ALPN.
fn refuses(firewall: Option<&Firewall>, name: &str, is_quic: bool) -> bool {
    let fits = |what: &Trait| match what {
        Trait::Quic => is_quic,
        Trait::Version(version) => is_quic && *version == 1,
        Trait::ServerName(suffix) => {
            name.strip_suffix(suffix.as_str()).is_some_and(|host| host.is_empty() || host.ends_with('.'))
        }
        Trait::Alpn(protocol) => is_quic && protocol == ALPN,
    };
    // The first rule that matches decides.
    let rule = firewall.and_then(|firewall| firewall.inspect.iter().find(|rule| fits(&rule.what)));
    rule.is_some_and(|rule| match rule.reaction {
        Reaction::Drop | Reaction::Reject | Reaction::Reset => true,
        Reaction::Throttle => false,
    })
}

#[cfg(test)]
mod tests;
