//! Which of two nodes can dial the other directly: worked out from the boxes between them, and from nothing that the
//! NMS knows or decides, so that it can be held against what a policy chose.
//!
//! A site is seen from outside as an [`Outlook`], one for each family: the composition of every box on the way out.
//! Whether a dialer meets a listener then is a question about two outlooks ([`Outlook::dial`]):
//!
//! - Peers are told the address that the NMS sees. A box that maps by destination, and every box beyond it, sees the
//!   listener's own packets to the dialer as another conversation: a filter there stays shut at the address that is
//!   known.
//! - Its reply then comes from another port, unless its NAT replies through the mapping by which the request came. The
//!   dialer has sent to the address, not to that port: its own boxes let the reply in if they filter by address or not
//!   at all. If the reply may come from another address, they must not filter.
//! - A listener whose boxes filter has to send first (it *punches*), and must know where to. With
//!   address-and-port-dependent filtering the dialer's port must be the one that the NMS sees; with address-dependent
//!   filtering its address is enough.
//! - The site's firewall must let the sender send, punches too. Inspection must let the first packets of the method
//!   pass, on both sides.
//!
//! The oracle relies on no race between two packets: a dialer whose NAT would let it answer a punch through the mapping
//! by which the punch came may have dialed before.
//!
//! A node that cannot register by UDP may register by TCP ([`can_register`]): then it has no direct path, and the relay
//! is its only one.
//!
//! The oracle judges one moment: it ignores mappings that expire and tables that are full. Where several hosts may want
//! the same external port of a NAT that preserves ports, it relies on none of them to get it. Where they share the port
//! (overloading), it relies on none of them to be reached.

use std::fmt;

use cyphonic_scenarios::{
    Dependence, Egress, Family, Firewall, Hairpin, Method, Nat, Policy, Pooling, PortChoice, Protocol, Reaction,
    Scenario, Site, SiteV4, SiteV6, Trait,
};

/// The ALPN that the QUIC links of every role offer.
const ALPN: &str = "h3";
/// Where the AS takes logins over TCP, in the conventional method.
const LOGIN_PORT: u16 = 443;
/// Where every service proxies UDP over TCP.
const TCP_PORT: u16 = 443;

/// A node in a place.
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

/// The sources whose packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Everybody's.
    Open,
    /// Those of addresses that were sent to.
    Address,
    /// Those of addresses and ports that were sent to.
    AddressAndPort,
}

/// A site as it is seen from outside, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
pub struct Outlook {
    /// Whether a host's external port is the same for every peer.
    pub steady_port: bool,
    /// Whether its external address is.
    pub steady_address: bool,
    /// Whether replies go out through the mapping by which the question came, in every NAT that is not steady.
    pub reuses_inbound: bool,
    /// The strictest filter of all boxes.
    pub filter: Filter,
    /// The external port that the NMS sees, if that is certain.
    pub port: Option<u16>,
    /// The UDP ports that may be sent to; all if none.
    pub egress: Option<Vec<Option<u16>>>,
    /// Whether a box filters at which the port, or the address, is another one for each peer already: what the host
    /// sends first opens another mapping than the one that is known.
    pub is_shut: bool,
    /// Whether a reply that takes another mapping than its question is a new conversation for the firewall: the NAT
    /// that does so is behind it.
    pub replies_anew: bool,
    /// Whether the firewall, or a box beyond it, filters. If not, a punch from inside need not pass the firewall, as
    /// NATs inside have seen it by then; and one from outside begins a conversation there.
    pub is_guarded: bool,
}

/// How a dialer gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// The listener need not do anything; and, where its mapping is not endpoint-independent, must not: by sending
    /// first it would get another port for this dialer, and answer from there.
    Open,
    /// The listener has to send first.
    Punched,
}

/// Why a dialer does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A node has no address of the family.
    NoFamily,
    /// A site's packets of the family vanish.
    Broken,
    /// The dialer's firewall does not let it send to the listener's port.
    DialerEgress,
    /// The listener has another port for each peer: what it opens is not what is known to dial, or its reply comes from
    /// a port that the dialer's filter does not let in.
    ListenerUnsteady,
    /// The listener's firewall does not let it send first.
    ListenerEgress,
    /// The listener's filter wants the dialer's port, and nobody knows it.
    DialerUnsteady,
    /// The listener's filter wants the dialer's address, and nobody knows it.
    DialerAddress,
    /// Inspection refuses how the method begins.
    Inspected,
    /// A node cannot log in or register by UDP, so it has no direct path, even if it registers by TCP.
    NoSignaling,
    /// Both are behind one carrier, whose NAT does not turn packets back.
    NoHairpin,
    /// Both are behind one carrier, whose NAT turns packets back with an inner source: replies come straight from
    /// there.
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

/// One way to meet, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The dialer.
    pub dialer: usize,
    /// The listener.
    pub listener: usize,
    /// Where.
    pub medium: Medium,
    /// Whether it works, and why or why not.
    pub result: Result<Success, Obstacle>,
}

/// Every way in which two nodes may meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Best first: the LAN, IPv6, IPv4; of each, the first node dials first.
    pub attempts: Vec<Attempt>,
}

impl Verdict {
    /// Whether there is a direct path at all.
    pub fn is_direct(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.result.is_ok())
    }

    /// Whether a node can dial the other one, by a medium.
    pub fn may_dial(&self, dialer: usize, medium: Medium) -> bool {
        let mine = |attempt: &&Attempt| (attempt.dialer, attempt.medium) == (dialer, medium);
        self.attempts.iter().find(mine).is_some_and(|attempt| attempt.result.is_ok())
    }
}

/// What two nodes can do at two places.
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
            // An answer from an inner address is one from elsewhere.
            Hairpin::InternalSource => return Err(Obstacle::InternalHairpin),
            // As from outside, filter and all.
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
    /// Of a site, in a family; `None` if it has no way out in that family. IPv4 may be behind a NAT64.
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

    /// Nothing is in between. So it is behind NPTv6, too: each host has an address of its own.
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

    /// One more box: a NAT. `is_shared`: other hosts may want the same port of it.
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
            // A hairpin is judged between two sites; see `attempt`.
            hairpin: _,
            // This is about the moment: nothing expires, no table is full.
            idle: _,
            refresh: _,
            lifetime: _,
            flush: _,
            max_sessions: _,
            max_sessions_per_host: _,
            // No error and no fragment decides who can begin.
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
            // Every mapping has the inner port; but hosts with one port take each other's packets.
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
            // Otherwise it was spent on the AS, perhaps.
            PortChoice::Preserve => !is_shared && keeps,
            PortChoice::Overloading => true,
            PortChoice::Sequential | PortChoice::Random => false,
        });
        self
    }

    /// One more box: a firewall.
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

    /// Whether a host is at one address and port for every peer.
    pub fn is_steady(&self) -> bool {
        self.steady_port && self.steady_address
    }

    fn may_send_to(&self, port: Option<u16>) -> bool {
        allows(self.egress.as_deref(), port)
    }

    /// Whether what a listener without a steady mapping replies comes in here.
    fn hears_reply_of(&self, listener: &Self) -> bool {
        // By sending first it would take another mapping, and reply from there.
        listener.reuses_inbound && listener.filter == Filter::Open
            || match self.filter {
                Filter::Open => true,
                Filter::Address => listener.steady_address,
                Filter::AddressAndPort => false,
            }
    }

    /// Whether this one, dialing, gets through to a listener.
    pub fn dial(&self, listener: &Self) -> Result<Success, Obstacle> {
        let may_dial = self.may_send_to(listener.port);
        let may_punch = listener.may_send_to(self.port);
        // A conversation that the listener's punch began at a firewall that lets it in goes on both ways.
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

/// How many nodes ever start in such sites.
fn nodes_in(scenario: &Scenario, is_such: impl Fn(usize) -> bool) -> usize {
    scenario.nodes.iter().filter(|node| node.interfaces.iter().any(|place| is_such(place.site))).count()
}

/// The ports of a protocol that rules let out; any where there is none.
fn ports(rules: &[Egress], protocol: Protocol) -> Vec<Option<u16>> {
    rules.iter().filter(|rule| rule.protocol == protocol).map(|rule| rule.port).collect()
}

/// Whether rules let out what goes to this port; one that is not known may be any.
fn allows(rules: Option<&[Option<u16>]>, port: Option<u16>) -> bool {
    rules.is_none_or(|rules| rules.iter().any(|rule| rule.is_none() || port.is_some() && *rule == port))
}

/// Whether a node there can log in and register: by UDP, or by TCP where nodes do that.
pub fn can_register(scenario: &Scenario, site: &Site) -> bool {
    has_signaling(scenario, site) || has_tcp(scenario, site)
}

/// Whether a node there reaches every service by TCP, to which UDP is proxied. Inspection sees TLS with a server name
/// and another application protocol than that of QUIC.
fn has_tcp(scenario: &Scenario, site: &Site) -> bool {
    let Some(firewall) = &site.firewall else { return has_fallback(scenario) };
    let rules = firewall.egress.as_ref().map(|rules| ports(rules, Protocol::Tcp));
    let service = |name: &str| format!("{name}.{}", cyphonic_scenarios::ZONE);
    let is_refused = |name| refuses(Some(firewall), &service(name), false);
    has_fallback(scenario)
        && allows(rules.as_deref(), Some(TCP_PORT))
        && !["as", "nms", "trs"].into_iter().any(is_refused)
}

/// Whether nodes reach the services by TCP where UDP is blocked: it is no part of the paper's method.
fn has_fallback(scenario: &Scenario) -> bool {
    scenario.method == Method::Proposed && scenario.policy == Policy::Optimal
}

/// Whether a node there can log in and register by UDP (proposed method), or as the conventional method does.
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

/// Whether inspection ends a conversation that asks for `name` over QUIC or, without ALPN, TLS over TCP.
fn refuses(firewall: Option<&Firewall>, name: &str, is_quic: bool) -> bool {
    let fits = |what: &Trait| match what {
        Trait::Quic => is_quic,
        Trait::Version(version) => is_quic && *version == 1,
        Trait::ServerName(suffix) => {
            name.strip_suffix(suffix.as_str()).is_some_and(|host| host.is_empty() || host.ends_with('.'))
        }
        Trait::Alpn(protocol) => is_quic && protocol == ALPN,
    };
    // The first rule that fits counts.
    let rule = firewall.and_then(|firewall| firewall.inspect.iter().find(|rule| fits(&rule.what)));
    rule.is_some_and(|rule| match rule.reaction {
        Reaction::Drop | Reaction::Reject | Reaction::Reset => true,
        Reaction::Throttle => false,
    })
}

#[cfg(test)]
mod tests;
