//! What boxes are told, from the words of a scenario.
//!
//! Every field is taken apart by name: a new key of a scenario does not compile until it is said here what a box makes
//! of it.

use cyphonic_scenarios::{Firewall as FirewallWords, Nat as NatWords};

use crate::net::FirewallConfig;
use crate::net::IdleTimes;
use crate::net::nat::{Answers, MappingTimes, NatConfig};

/// How a NAT translates.
pub(super) fn nat(words: &NatWords) -> NatConfig {
    let &NatWords {
        outside,
        more_outside: _,
        pooling,
        mapping,
        filtering,
        ports,
        idle,
        refresh,
        lifetime,
        flush,
        hairpin,
        reuses_inbound,
        icmp_errors,
        fragments,
        answers_unsolicited,
        max_sessions,
        max_sessions_per_host,
    } = words;
    let NatConfig { ports: range, likeness, times, answers, .. } = NatConfig::new(outside);
    NatConfig {
        external: words.addresses().collect(),
        pooling,
        mapping,
        filtering,
        allocation: ports,
        ports: range,
        likeness,
        times: MappingTimes { idle: IdleTimes { udp: idle, ..times.idle }, refresh, lifetime, flush },
        hairpin,
        reuses_inbound,
        icmp_errors,
        fragments,
        answers: Answers { unsolicited: answers_unsolicited, ..answers },
        max_sessions,
        max_sessions_per_host,
    }
}

/// What a firewall lets pass.
pub(super) fn firewall(words: &FirewallWords) -> FirewallConfig {
    let FirewallWords { stateful, egress, refusal, inspect } = words;
    FirewallConfig {
        egress: egress.clone(),
        refusal: *refusal,
        inbound: !stateful,
        inspection: inspect.clone(),
        ..FirewallConfig::default()
    }
}
