//! Network address and port translation, IPv4 to IPv4.
//!
//! [`Nat`] is two functions: [`Nat::outgoing`] translates the source of a packet on its way out, [`Nat::incoming`] the
//! destination of one on its way in. What they remember is a *mapping* (an inside address and port and the external
//! port that stands for it) and in it *sessions* (a remote address and port that was spoken to). How widely a mapping
//! is shared is its mapping behaviour, whom it admits its filtering behaviour (RFC 4787); UDP, TCP (RFC 5382) and
//! ICMP echo (RFC 5508) are treated alike, the echo identifier being the port. [`NatBox`] puts it into the network:
//! it forwards as a router does, translates between its outside interface and all others, and puts fragments together
//! first.
//!
//! Time is looked at only when a packet comes: what has expired is as good as gone, and its place is reclaimed when
//! someone needs it.

mod netbox;
mod table;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

pub use netbox::NatBox;
pub use table::Nat;

use super::session::IdleTimes;

/// What a NAT's decision depends on; for mapping and filtering alike (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// Not on the remote side.
    EndpointIndependent,
    /// On the remote address.
    AddressDependent,
    /// On the remote address and port.
    AddressAndPortDependent,
}

/// Which external port a new mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortAllocation {
    /// The inside port if it is free, otherwise the next free one in sequence.
    Preserving,
    /// The next free one in sequence.
    Sequential,
    /// Any free one.
    Random,
}

/// How a NAT behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Its address outside.
    pub external: Ipv4Addr,
    /// When an inside address and port keeps its external port.
    pub mapping: Dependence,
    /// Who outside may use a mapping.
    pub filtering: Dependence,
    /// Which external port a new mapping gets.
    pub allocation: PortAllocation,
    /// The ports it allocates from; [`PortAllocation::Preserving`] also keeps one outside of these.
    pub ports: RangeInclusive<u16>,
    /// How long sessions are remembered. UDP and ICMP are refreshed from inside only (RFC 4787, REQ-6), TCP from both
    /// sides.
    pub idle: IdleTimes,
    /// The most sessions at once.
    pub max_sessions: usize,
}

impl NatConfig {
    /// A home router that keeps ports and filters by address and port (the common "port-restricted cone"), ports 1024
    /// and up, 65,536 sessions.
    pub fn new(external: Ipv4Addr) -> Self {
        Self {
            external,
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::AddressAndPortDependent,
            allocation: PortAllocation::Preserving,
            ports: 1024..=u16::MAX,
            idle: IdleTimes::default(),
            max_sessions: 65_536,
        }
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
