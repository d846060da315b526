//! What boxes and wires are told, from the words of a scenario.

use cyphonic_scenarios::{
    Dependence as DependenceWord, Egress, Firewall as FirewallWords, Hairpin as HairpinWord,
    IcmpErrors as IcmpErrorsWord, Inspect, Nat as NatWords, Pooling as PoolingWord, PortChoice, Protocol,
    Reaction as ReactionWord, Refresh as RefreshWord, Refusal as RefusalWord, Trait as TraitWord,
};

use crate::net::nat::{Dependence, Hairpin, IcmpErrors, NatConfig, Pooling, PortAllocation, Refresh};
use crate::net::packet::protocol;
use crate::net::{FirewallConfig, InspectionRule, Reaction, Refusal, Trait};

/// How a NAT translates.
pub(super) fn nat(words: &NatWords) -> NatConfig {
    let mut config =
        NatConfig::new(words.outside).with_behaviour(dependence(words.mapping), dependence(words.filtering));
    config.allocation = match words.ports {
        PortChoice::Preserve => PortAllocation::Preserving,
        PortChoice::Sequential => PortAllocation::Sequential,
        PortChoice::Random => PortAllocation::Random,
        PortChoice::Overloading => PortAllocation::Overloading,
    };
    config.external = words.addresses().collect();
    config.pooling = match words.pooling {
        PoolingWord::Paired => Pooling::Paired,
        PoolingWord::Arbitrary => Pooling::Arbitrary,
    };
    config.times.idle.udp = words.idle;
    config.times.refresh = match words.refresh {
        RefreshWord::Outbound => Refresh::Outbound,
        RefreshWord::Inbound => Refresh::Inbound,
        RefreshWord::Both => Refresh::Both,
    };
    (config.times.lifetime, config.times.flush) = (words.lifetime, words.flush);
    config.hairpin = match words.hairpin {
        HairpinWord::Off => Hairpin::Off,
        HairpinWord::InternalSource => Hairpin::InternalSource,
        HairpinWord::ExternalSource => Hairpin::ExternalSource,
    };
    config.reuses_inbound = words.reuses_inbound;
    config.icmp_errors = match words.icmp_errors {
        IcmpErrorsWord::Carried => IcmpErrors::Carried,
        IcmpErrorsWord::Dropped => IcmpErrors::Dropped,
        IcmpErrorsWord::EndMapping => IcmpErrors::EndMapping,
    };
    config.fragments = words.fragments;
    config.answers.unsolicited = words.answers_unsolicited;
    (config.max_sessions, config.max_sessions_per_host) = (words.max_sessions, words.max_sessions_per_host);
    config
}

fn dependence(word: DependenceWord) -> Dependence {
    match word {
        DependenceWord::Endpoint => Dependence::EndpointIndependent,
        DependenceWord::Address => Dependence::AddressDependent,
        DependenceWord::AddressAndPort => Dependence::AddressAndPortDependent,
    }
}

/// What a firewall lets pass.
pub(super) fn firewall(words: &FirewallWords) -> FirewallConfig {
    let rule = |egress: &Egress| {
        let numbers: &[u8] = match egress.protocol {
            Protocol::Udp => &[protocol::UDP],
            Protocol::Tcp => &[protocol::TCP],
            Protocol::Icmp => &[protocol::ICMP, protocol::ICMPV6],
        };
        let port = egress.port;
        numbers.iter().map(move |&number| (number, port)).collect::<Vec<_>>()
    };
    FirewallConfig {
        inbound: !words.stateful,
        refusal: match words.refusal {
            RefusalWord::Drop => Refusal::Drop,
            RefusalWord::Reject => Refusal::Reject,
            RefusalWord::Reset => Refusal::Reset,
        },
        egress: words.egress.as_ref().map(|rules| rules.iter().flat_map(rule).collect()),
        inspection: words.inspect.iter().map(inspection).collect(),
        ..FirewallConfig::default()
    }
}

fn inspection(words: &Inspect) -> InspectionRule {
    let what = match &words.what {
        TraitWord::Quic => Trait::Quic,
        TraitWord::Version(version) => Trait::QuicVersion(*version),
        TraitWord::ServerName(name) => Trait::ServerName(name.clone()),
        TraitWord::Alpn(protocol) => Trait::Alpn(protocol.clone().into_bytes()),
    };
    let throttle = words.throttle;
    let reaction = match words.reaction {
        ReactionWord::Drop => Reaction::Drop,
        ReactionWord::Reject => Reaction::Reject,
        ReactionWord::Reset => Reaction::Reset,
        ReactionWord::Throttle => Reaction::Throttle {
            after_bytes: throttle.after_bytes,
            rate_bps: throttle.rate_bps,
            burst_bytes: throttle.burst_bytes,
        },
    };
    InspectionRule { what, reaction }
}
