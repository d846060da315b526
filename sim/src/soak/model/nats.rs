//! What the model demands behind a NAT, by each key of the NAT.
//!
//! All keys are destructured by name, and all words of a key are matched. With a new one this file does not compile
//! until it says whether delivery can be demanded behind such a NAT.

use cyphonic_scenarios::{Dependence, IcmpErrors, Nat, PortChoice, Site, SiteV4, SiteV6};

/// The sessions for which a NAT must have room: the few nodes of a scenario never need as many.
const ENOUGH_SESSIONS: usize = 1_000;
/// The sessions that one node with one peer needs: AS, NMS, TRS, and one to spare for the search for a direct path.
const FEW_SESSIONS: usize = 4;

/// Every NAT of a site.
pub(super) fn nats(site: &Site) -> impl Iterator<Item = &Nat> {
    let v4 = site.v4.iter().filter_map(|v4| if let SiteV4::Private { nat, .. } = v4 { Some(nat) } else { None });
    let v6 = site.v6.iter().filter_map(|v6| if let SiteV6::Private { nat, .. } = v6 { Some(nat) } else { None });
    v4.chain(v6).chain(site.nat64.iter().map(|nat64| &nat64.nat))
}

/// Whether nothing can be demanded of nodes behind a NAT. `is_shared`: whether several nodes are ever behind it.
/// `several_search`: whether more than two nodes search for better paths.
pub(super) fn is_fickle(nat: &Nat, is_shared: bool, several_search: bool) -> bool {
    let &Nat {
        mapping,
        ports,
        reuses_inbound,
        icmp_errors,
        lifetime,
        flush,
        max_sessions,
        max_sessions_per_host,
        // The oracle decides which node can dial, and filtered nodes have the relay.
        outside: _,
        more_outside: _,
        pooling: _,
        filtering: _,
        hairpin: _,
        // Nodes keep their mappings alive themselves.
        idle: _,
        refresh: _,
        // Fragments concern large packets only: see `permits_large`.
        fragments: _,
        // No node needs an answer to a packet that a NAT refuses.
        answers_unsolicited: _,
    } = nat;
    let forgets = lifetime.is_some() || flush.is_some();
    // `has_few_sessions` says what can be demanded behind those that have few.
    let is_small = max_sessions < FEW_SESSIONS || max_sessions_per_host < FEW_SESSIONS;
    let moves_answers = match mapping {
        Dependence::Endpoint => false,
        Dependence::Address | Dependence::AddressAndPort => reuses_inbound && several_search,
    };
    forgets || is_small || ends_mappings(icmp_errors) || confuses_nodes(ports, is_shared) || moves_answers
}

/// Whether a NAT has room for few sessions. A search for a better path, and every event, leaves sessions behind, which
/// the NAT keeps until they were idle for long enough.
pub(super) const fn has_few_sessions(nat: &Nat) -> bool {
    nat.max_sessions < ENOUGH_SESSIONS || nat.max_sessions_per_host < ENOUGH_SESSIONS
}

/// Whether packets to one node may arrive at another one: both have one outer port (RFC 4787 §4.2.2).
pub(super) const fn confuses_nodes(ports: PortChoice, is_shared: bool) -> bool {
    match ports {
        PortChoice::Overloading => is_shared,
        PortChoice::Preserve | PortChoice::Sequential | PortChoice::Random => false,
    }
}

/// Whether an ICMP error may end a mapping.
pub(super) const fn ends_mappings(icmp_errors: IcmpErrors) -> bool {
    match icmp_errors {
        IcmpErrors::Carried | IcmpErrors::Dropped => false,
        IcmpErrors::EndMapping => true,
    }
}

/// Whether fragments, and ICMP errors about path MTUs, get through.
pub(super) fn carries_large(nat: &Nat) -> bool {
    nat.fragments
        && match nat.icmp_errors {
            IcmpErrors::Carried => true,
            IcmpErrors::Dropped | IcmpErrors::EndMapping => false,
        }
}

/// Whether nodes with the same inner port compete for one outer port.
pub(super) const fn contests_ports(ports: PortChoice) -> bool {
    match ports {
        PortChoice::Preserve => true,
        // If they share the port, the NAT is fickle, and nothing is demanded.
        PortChoice::Overloading | PortChoice::Sequential | PortChoice::Random => false,
    }
}
