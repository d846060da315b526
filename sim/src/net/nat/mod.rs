//! Network address and port translation.
//!
//! [`Nat`] is two functions: [`Nat::outgoing`] translates the source of a packet on its way out, [`Nat::incoming`] the
//! destination of one on its way in. The state is a table of *mappings*: an inside address and port, and the external
//! address and port that replace them. A mapping has *sessions*: the remote addresses and ports with which it has
//! exchanged packets. The mapping behaviour says for which destinations a mapping is used again, the filtering
//! behaviour which sources it admits (RFC 4787). UDP, TCP (RFC 5382) and ICMP echo (RFC 5508) are treated alike; the
//! identifier of an echo is its port. [`NatBox`] puts it into the network: it forwards as a router does, translates
//! between its outside interface and all others, and reassembles fragments before the translation.
//!
//! ```text
//! inside 10.0.0.1:5000 ─┬─ mapping 203.0.113.1:5000 ─┬─ session 198.51.100.1:443
//!                       │                            └─ session 198.51.100.2:443
//!                       └─ (more mappings where they depend on the remote side)
//! ```
//!
//! Inside and outside are of one family: IPv4, or IPv6 (NAPT66). [`Nat64`] does the same between IPv6 inside and IPv4
//! outside.
//!
//! There is no timer: an expired entry is ignored, and removed when its place is needed. Double NAT and carrier-grade
//! NAT are two boxes in a row.

mod nat64;
mod netbox;
mod ports;
#[cfg(test)]
mod rfc;
mod siit;
mod table;
mod translate;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use nat64::{Nat64, Nat64Box, WELL_KNOWN_PREFIX, dns64, embed, extract};
pub use netbox::NatBox;
pub use translate::Nat;

use super::session::IdleTimes;
pub use cyphonic_scenarios::{Dependence, Hairpin, IcmpErrors, Pooling, PortChoice, Refresh};

/// Properties of the inside port that an external port keeps even if it cannot be the same port (RFC 4787, sections
/// 4.2.1 and 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortLikeness {
    /// A well-known port (0 to 1023) is mapped to a well-known one, and any other to another.
    pub range: bool,
    /// Even stays even, odd stays odd.
    pub parity: bool,
}

/// The lifetime of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingTimes {
    /// Idle timeouts, from the last packet that refreshes.
    pub idle: IdleTimes,
    /// The directions in which packets refresh.
    pub refresh: Refresh,
    /// The time after the first packet at which a mapping ends, even if it is in use.
    pub lifetime: Option<Duration>,
    /// The mean time between losses of all mappings at once. Each time is random, uniform between zero and twice this.
    pub flush: Option<Duration>,
}

/// Which senders a NAT answers if it does not translate their packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// The outside sender of an unsolicited packet, at once: a TCP reset, or ICMP port unreachable.
    pub unsolicited: bool,
    /// The inside sender, where there is no room for a mapping: ICMP administratively prohibited (RFC 5508, REQ-8).
    pub full: bool,
}

/// How a NAT behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Its addresses outside; at least one, all of one family.
    pub external: Vec<IpAddr>,
    /// How a new mapping gets one of them.
    pub pooling: Pooling,
    /// The mapping behaviour: for which destinations an inside address and port keeps its external port.
    pub mapping: Dependence,
    /// The filtering behaviour: which outside sources may use a mapping.
    pub filtering: Dependence,
    /// How a new mapping gets its external port.
    pub allocation: PortChoice,
    /// The ports it allocates from; [`PortChoice::Preserve`] also keeps a port outside of this range.
    pub ports: RangeInclusive<u16>,
    /// Properties of the inside port that every external port keeps.
    pub likeness: PortLikeness,
    /// How long it remembers.
    pub times: MappingTimes,
    /// What happens to packets from inside to its external addresses.
    pub hairpin: Hairpin,
    /// Whether an admitted packet from a new remote address begins a session, so that the reply leaves by the same
    /// mapping. Otherwise, unless mapping is endpoint-independent, the reply gets a mapping of its own. Such a session
    /// ends with the mapping unless the reply refreshes it.
    pub reuses_inbound: bool,
    /// What happens to ICMP errors.
    pub icmp_errors: IcmpErrors,
    /// Whether fragments are reassembled, in any order, and translated. Otherwise they are dropped.
    pub fragments: bool,
    /// Which senders it answers if it does not translate their packet.
    pub answers: Answers,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// The most sessions at once of one inside host.
    pub max_sessions_per_host: usize,
}

impl NatConfig {
    /// A home router that keeps ports and filters by address and port (the common "port-restricted cone"): ports 1024
    /// and up, refreshed from inside only (RFC 4787, REQ-6), no hairpin, ICMP errors translated, no answer to
    /// unsolicited packets, 65,536 sessions.
    pub fn new(external: IpAddr) -> Self {
        Self {
            external: vec![external],
            pooling: Pooling::Paired,
            mapping: Dependence::Endpoint,
            filtering: Dependence::AddressAndPort,
            allocation: PortChoice::Preserve,
            ports: 1024..=u16::MAX,
            likeness: PortLikeness::default(),
            times: MappingTimes { idle: IdleTimes::default(), refresh: Refresh::Outbound, lifetime: None, flush: None },
            hairpin: Hairpin::Off,
            reuses_inbound: false,
            icmp_errors: IcmpErrors::Carried,
            fragments: true,
            answers: Answers { unsolicited: false, full: true },
            max_sessions: 65_536,
            max_sessions_per_host: usize::MAX,
        }
    }

    /// Whether its outside is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.external.first().is_some_and(IpAddr::is_ipv4)
    }

    fn check(&self) {
        assert!(!self.external.is_empty(), "a NAT has an external address");
        assert!(self.external.iter().all(|a| a.is_ipv4() == self.is_ipv4()), "external addresses are of one family");
    }

    /// The same with these behaviours.
    #[must_use]
    pub fn with_behaviour(mut self, mapping: Dependence, filtering: Dependence) -> Self {
        (self.mapping, self.filtering) = (mapping, filtering);
        self
    }
}

#[cfg(test)]
mod tests;
