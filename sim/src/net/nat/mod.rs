//! Network address and port translation.
//!
//! [`Nat`] is two functions: [`Nat::outgoing`] translates the source of a packet on its way out, [`Nat::incoming`] the
//! destination of one on its way in. Their memory is the *mapping* (an inside address and port and the external
//! address and port that stand for it) and in it *sessions* (a remote address and port that was spoken to). How widely
//! a mapping is shared is its mapping behaviour, whom it admits its filtering behaviour (RFC 4787); UDP, TCP (RFC 5382)
//! and ICMP echo (RFC 5508) are treated alike, the echo identifier being the port. [`NatBox`] puts it into the network:
//! it forwards as a router does, translates between its outside interface and all others, and puts fragments together
//! first.
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
//! Time is looked at only when a packet comes: what has expired is as good as gone, and its place is reclaimed when
//! someone needs it. Double NAT and carrier-grade NAT are two boxes in a row.

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

/// In what an external port is like the inside one even where it cannot be the same (RFC 4787, sections 4.2.1 and
/// 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortLikeness {
    /// A well-known port (0 to 1023) stays one, and the others stay others.
    pub range: bool,
    /// Even stays even, odd stays odd.
    pub parity: bool,
}

/// How long a NAT remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingTimes {
    /// After the last packet that refreshes.
    pub idle: IdleTimes,
    /// Whose packets refresh.
    pub refresh: Refresh,
    /// After the first packet, in use or not.
    pub lifetime: Option<Duration>,
    /// On average so long after the last time all mappings are lost at once: by chance, uniformly between nothing and
    /// twice this.
    pub flush: Option<Duration>,
}

/// Whom a NAT tells of packets that it does not translate.
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
    /// Which of them a new mapping gets.
    pub pooling: Pooling,
    /// When an inside address and port keeps its external port.
    pub mapping: Dependence,
    /// Who outside may use a mapping.
    pub filtering: Dependence,
    /// Which external port a new mapping gets.
    pub allocation: PortChoice,
    /// The ports it allocates from; [`PortChoice::Preserve`] also keeps one outside of these.
    pub ports: RangeInclusive<u16>,
    /// In what any external port is like the inside one.
    pub likeness: PortLikeness,
    /// How long it remembers.
    pub times: MappingTimes,
    /// What becomes of packets from inside to its external addresses.
    pub hairpin: Hairpin,
    /// Whether an admitted packet from someone who was never spoken to begins a session, so that the reply goes out
    /// through the mapping by which it came in. Otherwise, unless mapping is endpoint-independent, the reply gets a
    /// mapping of its own. Such a session ends with the mapping unless the reply keeps it.
    pub reuses_inbound: bool,
    /// What becomes of ICMP errors.
    pub icmp_errors: IcmpErrors,
    /// Whether fragments are put together, in any order, and translated; otherwise they are dropped.
    pub fragments: bool,
    /// Whom it tells of what it does not translate.
    pub answers: Answers,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// The most sessions at once of one inside host.
    pub max_sessions_per_host: usize,
}

impl NatConfig {
    /// A home router that keeps ports and filters by address and port (the common "port-restricted cone"): ports 1024
    /// and up, refreshed from inside only (RFC 4787, REQ-6), no hairpin, ICMP errors carried, silent to outside, 65,536
    /// sessions.
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
