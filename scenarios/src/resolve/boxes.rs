//! NATs and firewalls.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Context;
use crate::address::{host_v4, host_v6};
use crate::error::{Problem, ScenarioError};
use crate::scenario::{Egress, Firewall, Inspect, Nat, Throttle, Trait};
use crate::schema;
use crate::words::{
    Dependence, FirewallMode, Hairpin, IcmpErrors, Pooling, PortChoice, Protocol, Reaction, Refresh, Refusal,
};

/// RFC 4787 REQ-5: a UDP mapping lives at least two minutes.
const DEFAULT_IDLE_S: u64 = 120;
const MOST_IDLE_S: f64 = 1_000_000.0;
/// What a /28 has besides its network and broadcast addresses.
const MOST_ADDRESSES: u32 = 14;
const DEFAULT_SESSIONS: u64 = 65_536;
const MOST_SESSIONS: f64 = 1e9;
/// Ten full packets.
const DEFAULT_BURST_BYTES: u64 = 15_000;
/// A bit a second, to a terabit a second.
const RATE_KBPS: (f64, f64) = (0.001, 1e9);

/// The NAT at `path`, whose outer addresses are the first of `outer`.
pub(super) fn nat(context: Context<'_, '_>, path: &str, nat: &schema::Nat, outer: IpNet) -> Result<Nat, ScenarioError> {
    let seconds = |key: &str, seconds: Option<u64>| {
        let within = |s: u64| context.within(&format!("{path}.{key}"), s as f64, 1.0, MOST_IDLE_S);
        seconds.map(|s| within(s).map(|_| Duration::from_secs(s))).transpose()
    };
    let sessions = |key: &str, sessions: Option<u64>, default: usize| {
        let Some(sessions) = sessions else { return Ok(default) };
        context.within(&format!("{path}.{key}"), sessions as f64, 1.0, MOST_SESSIONS)?;
        Ok::<_, ScenarioError>(sessions as usize)
    };
    let addresses = nat.addresses.unwrap_or(1);
    context.within(&format!("{path}.addresses"), f64::from(addresses), 1.0, f64::from(MOST_ADDRESSES))?;
    let address = |number| match outer {
        IpNet::V4(outer) => host_v4(outer, number).unwrap_or(outer.network()).into(),
        IpNet::V6(outer) => host_v6(outer, number).unwrap_or(outer.network()).into(),
    };
    let mut outside: Vec<IpAddr> = (1..=addresses).map(address).collect();
    Ok(Nat {
        outside: outside.remove(0),
        more_outside: outside,
        pooling: nat.pooling.unwrap_or(Pooling::Paired),
        mapping: nat.mapping.unwrap_or(Dependence::Endpoint),
        filtering: nat.filtering.unwrap_or(Dependence::AddressAndPort),
        ports: nat.ports.unwrap_or(PortChoice::Preserve),
        idle: seconds("idle_s", nat.idle_s)?.unwrap_or(Duration::from_secs(DEFAULT_IDLE_S)),
        refresh: nat.refresh.unwrap_or(Refresh::Outbound),
        lifetime: seconds("lifetime_s", nat.lifetime_s)?,
        flush: seconds("flush_s", nat.flush_s)?,
        hairpin: nat.hairpin.unwrap_or(Hairpin::Off),
        reuses_inbound: nat.reuses_inbound.unwrap_or(false),
        icmp_errors: nat.icmp_errors.unwrap_or(IcmpErrors::Carried),
        fragments: nat.fragments.unwrap_or(true),
        answers_unsolicited: nat.answers_unsolicited.unwrap_or(false),
        max_sessions: sessions("max_sessions", nat.max_sessions, DEFAULT_SESSIONS as usize)?,
        max_sessions_per_host: sessions("max_sessions_per_host", nat.max_sessions_per_host, usize::MAX)?,
    })
}

/// The firewall at `path`.
pub(super) fn firewall(
    context: Context<'_, '_>,
    path: &str,
    firewall: schema::Firewall,
) -> Result<Firewall, ScenarioError> {
    let schema::Firewall { stateful, egress: list, mode, reaction, inspect } = firewall;
    if mode.is_some() && (stateful.is_some() || list.is_some()) {
        return context.fail(&format!("{path}.mode"), Problem::ModeAndRules);
    }
    let rule = |(index, text): (usize, &String)| context.at(&format!("{path}.egress.{index}"), egress(text));
    let list = list.as_ref().map(|list| list.iter().enumerate().map(rule).collect::<Result<_, _>>()).transpose()?;
    let inspect = inspect.into_iter().enumerate();
    Ok(Firewall {
        stateful: stateful.unwrap_or(true),
        egress: list.or(mode.and_then(FirewallMode::egress)),
        refusal: reaction.unwrap_or(Refusal::Drop),
        inspect: inspect
            .map(|(index, rule)| inspection(context, &format!("{path}.inspect.{index}"), rule))
            .collect::<Result<_, _>>()?,
    })
}

/// One that lets everything pass.
pub(super) fn open() -> Firewall {
    Firewall { stateful: false, egress: None, refusal: Refusal::Drop, inspect: Vec::new() }
}

fn inspection(context: Context<'_, '_>, path: &str, rule: schema::Inspect) -> Result<Inspect, ScenarioError> {
    let quic = rule.quic.filter(|&quic| quic).map(|_| Trait::Quic);
    let (version, name) = (rule.version.map(Trait::Version), rule.sni.map(|n| Trait::ServerName(n.to_lowercase())));
    let mut traits = [quic, version, name, rule.alpn.map(Trait::Alpn)].into_iter().flatten();
    let (Some(what), None) = (traits.next(), traits.next()) else {
        return context.fail(path, Problem::InspectOne);
    };
    let throttles = rule.reaction == Reaction::Throttle;
    let named = rule.rate_kbps.is_some() || rule.after_bytes.is_some() || rule.burst_bytes.is_some();
    if throttles != rule.rate_kbps.is_some() || named && !throttles {
        return context.fail(path, Problem::ThrottleNeedsRate);
    }
    let (least, most) = RATE_KBPS;
    let kbps =
        rule.rate_kbps.map(|rate| context.within(&format!("{path}.rate_kbps"), rate, least, most)).transpose()?;
    let throttle = Throttle {
        after_bytes: rule.after_bytes.unwrap_or(0),
        rate_bps: (kbps.unwrap_or(0.0) * 1000.0).round() as u64,
        burst_bytes: rule.burst_bytes.unwrap_or(DEFAULT_BURST_BYTES),
    };
    Ok(Inspect { what, reaction: rule.reaction, throttle })
}

fn egress(text: &str) -> Result<Egress, Problem> {
    let bad = || Problem::BadEgress { found: text.to_owned() };
    let (protocol, port) = text.split_once('/').map_or((text, None), |(protocol, port)| (protocol, Some(port)));
    let protocol = *Protocol::ALL.iter().find(|p| p.name() == protocol).ok_or_else(bad)?;
    let port = match port.map(str::parse) {
        None => None,
        Some(Ok(port)) if port > 0 && protocol != Protocol::Icmp => Some(port),
        Some(_) => return Err(bad()),
    };
    Ok(Egress { protocol, port })
}
