//! Resolves the [`schema`] into a [`Scenario`]: checks values, fills in defaults, applies limits.

mod boxes;
mod hosts;
mod link;
mod rules;
mod site;
mod step;

use std::time::Duration;

use cyphonic_core::message::{Framing, RelayMode};
use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::Rules;
use cyphonic_core::timing::node::TUNNEL_LIFETIME;
use ipnet::IpNet;

use self::hosts::Hosts;
use crate::address::{SERVICES_V4, SERVICES_V6, host_v4, host_v6, overlap};
use crate::document::{Document, Source, Tree};
use crate::error::{Problem, ScenarioError};
use crate::read::{Spelled, read, read_rules};
use crate::scenario::{Interface, Node, Scenario, Service, Services, Site, SiteV4, SiteV6, ZONE};
use crate::schema::{self, File};
use crate::words::{Cipher, Congestion, Engine, Handover, Login, Method, Policy, ServiceName, Signaling};

/// Most sites of a scenario: each has a LAN of its own in 192.168.0.0/16.
pub const MAX_SITES: usize = 254;
/// Most nodes of a scenario.
pub const MAX_NODES: usize = 100_000;
/// Most steps of a scenario.
pub const MAX_STEPS: usize = 10_000;
/// The smallest MTU of a link that carries IPv6 (RFC 8200 §5), and of a virtual interface.
pub const LEAST_MTU_V6: u16 = 1280;
/// The smallest MTU of a link that carries only IPv4: what every host must take (RFC 791 §3.1).
pub const LEAST_MTU_V4: u16 = 576;
/// Longest delay, jitter, queue, interval or wait, milliseconds.
pub(crate) const MOST_MS: f64 = 3_600_000.0;
/// Longest run, simulated seconds.
const MOST_RUN_S: u64 = 1_000_000;

/// The least MTU of an IPv6 link (RFC 8200 §5), so that inner packets fit into one packet of most paths.
const DEFAULT_TUN_MTU: u32 = 1280;
/// A tunnel takes up to some seconds to come up where links are slow, seconds.
const LEAST_LIFETIME_S: f64 = 10.0;
/// Longer than any built-in experiment, seconds. A run that hangs ends there.
const DEFAULT_DURATION_LIMIT_S: u64 = 300;

/// Reads and checks a tree.
pub(crate) fn resolve(source: Source<'_>, tree: &Tree<'_>) -> Result<Scenario, ScenarioError> {
    let Spelled { file, steps } = read(source, tree)?;
    let context = Context { source, tree, link: &file.link };
    let (method, framing) = method_and_framing(context, &file)?;
    let (login, relay_mode, policy) = choices(context, &file, method)?;
    let congestion = congestion(context, &file, framing)?;
    let cipher = file.cipher.unwrap_or(Cipher::AesCtr);
    if (cipher, method) == (Cipher::AesCbcMd5, Method::Proposed) {
        return context.fail("cipher", Problem::CipherProposed);
    }
    let handover = match (method, file.handover, policy) {
        // A relay that reads is the end of a connection, and not a path of one.
        (Method::Proposed, ..) if relay_mode == RelayMode::Terminating => Handover::Rebuild,
        (Method::Conventional, ..) | (Method::Proposed, None, Policy::Paper) => Handover::Rebuild,
        (Method::Proposed, Some(handover), _) => handover,
        (Method::Proposed, None, Policy::Optimal) => Handover::Seamless,
    };
    let signaling = match (method, file.signaling, policy) {
        (Method::Conventional, ..) | (Method::Proposed, None, Policy::Paper) => Signaling::Paper,
        (Method::Proposed, Some(signaling), _) => signaling,
        (Method::Proposed, None, Policy::Optimal) => Signaling::Fast,
    };
    let tun_mtu = context.mtu("tun_mtu", file.tun_mtu.unwrap_or(DEFAULT_TUN_MTU), (LEAST_MTU_V6, "IPv6"))?;
    let duration_limit_s = file.duration_limit_s.unwrap_or(DEFAULT_DURATION_LIMIT_S);
    context.within("duration_limit_s", duration_limit_s as f64, 1.0, MOST_RUN_S as f64)?;
    let tunnel_lifetime_s = file.tunnel_lifetime_s.unwrap_or(TUNNEL_LIFETIME.as_secs());
    context.within("tunnel_lifetime_s", tunnel_lifetime_s as f64, LEAST_LIFETIME_S, MOST_RUN_S as f64)?;
    let seeds = file.seeds.map_or(1..=1, |seeds| seeds.first..=seeds.last);
    if seeds.is_empty() {
        let problem = Problem::SeedsReversed { first: *seeds.start(), last: *seeds.end() };
        return context.fail("seeds", problem);
    }
    if file.port == Some(0) {
        return context.fail("port", Problem::PortZero);
    }
    let has_proxy = file.node.iter().any(|node| node.proxy == Some(true));
    let services = services(context, file.services.unwrap_or_default(), has_proxy)?;
    let (carriers, sites) = site::sites(context, &file.carrier, file.site)?;
    let mut hosts = Hosts::default();
    let nodes = nodes(context, file.node, &sites, &mut hosts)?;
    let access = rules::rules(context, "rules", &file.rules, Some(ZONE))?;
    let measure = file.measure;
    let rules = step::Rules { carriers: &carriers, sites: &sites, nodes: &nodes, tun_mtu, duration_limit_s, measure };
    let steps = step::steps(context, steps, &rules, &mut hosts)?;
    Ok(Scenario {
        title: file.title,
        about: file.about.trim().to_owned(),
        seeds,
        engine: file.engine.unwrap_or(Engine::Turmoil),
        method,
        login,
        framing,
        congestion,
        cipher,
        policy,
        handover,
        signaling,
        tunnel_lifetime: Duration::from_secs(tunnel_lifetime_s),
        relay_mode,
        port: file.port.unwrap_or(match method {
            Method::Conventional => 4501,
            Method::Proposed => 443,
        }),
        tun_mtu,
        duration_limit: Duration::from_secs(duration_limit_s),
        rules: access,
        services,
        carriers,
        sites,
        nodes,
        steps,
        measure: file.measure,
        expect: file.expect,
    })
}

/// Reads a file of access rules, as the NMS has it: the same words as a scenario's `[rules]`, with whole names. It must
/// say `default`, so that a file that was cut off does not open the network. `file` is what errors call it.
pub fn access_rules(file: &str, text: &str) -> Result<Rules, ScenarioError> {
    let document = Document::parse(file, text)?;
    let source = Source { document: &document, sets: &[] };
    let tree = source.tree()?;
    let words = read_rules(source, &tree)?;
    rules::rules(Context { source, tree: &tree, link: &schema::Way::default() }, "", &words, None)
}

/// The context of errors.
#[derive(Clone, Copy)]
struct Context<'a, 'i> {
    source: Source<'i>,
    tree: &'a Tree<'i>,
    /// The defaults of all links.
    link: &'a schema::Way,
}

impl Context<'_, '_> {
    /// An error at a path with indices.
    fn error(self, path: &str, problem: Problem) -> ScenarioError {
        self.source.error(self.tree, path, problem)
    }

    /// [`Self::error`] as a result.
    fn fail<T>(self, path: &str, problem: Problem) -> Result<T, ScenarioError> {
        Err(self.error(path, problem))
    }

    /// Passes a problem on with its place.
    fn at<T>(self, path: &str, result: Result<T, Problem>) -> Result<T, ScenarioError> {
        result.map_err(|problem| self.error(path, problem))
    }

    /// Checks that a number is within its limits; NaN is not.
    fn within(self, path: &str, value: f64, least: f64, most: f64) -> Result<f64, ScenarioError> {
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            self.fail(path, Problem::OutOfRange { found: value.to_string(), least, most })
        }
    }

    /// An MTU that is not below the least, given with its reason.
    fn mtu(self, path: &str, found: u32, (least, family): (u16, &'static str)) -> Result<u16, ScenarioError> {
        if found < u32::from(least) {
            return self.fail(path, Problem::MtuTooSmall { found, least, family });
        }
        self.within(path, f64::from(found), f64::from(least), f64::from(u16::MAX)).map(|mtu| mtu as u16)
    }

    /// Checks that a list is not too long.
    fn at_most(self, path: &str, found: usize, limit: usize) -> Result<(), ScenarioError> {
        if found > limit { self.fail(path, Problem::TooMany { found, limit }) } else { Ok(()) }
    }
}

/// Which framings a method has; the first is its default.
const fn framings(method: Method) -> &'static [Framing] {
    match method {
        Method::Conventional => &[Framing::Udp4501],
        Method::Proposed => &[Framing::Compact, Framing::Datagram, Framing::Stream],
    }
}

fn method_and_framing(context: Context<'_, '_>, file: &File) -> Result<(Method, Framing), ScenarioError> {
    let framing = file.framing.map(Framing::from);
    let owner = |framing| Method::ALL.iter().copied().find(|m| framings(*m).contains(&framing));
    let method = file.method.or_else(|| framing.and_then(owner)).unwrap_or(Method::Proposed);
    let framing = framing.unwrap_or(framings(method)[0]);
    if !framings(method).contains(&framing) {
        let fitting = framings(method).iter().map(|f| f.name().to_owned()).collect();
        return context.fail("framing", Problem::FramingMethod { framing: framing.name(), method, fitting });
    }
    Ok((method, framing))
}

fn choices(context: Context<'_, '_>, file: &File, method: Method) -> Result<(Login, RelayMode, Policy), ScenarioError> {
    let login = file.login.unwrap_or(Login::Certificate);
    if (login, method) == (Login::Password, Method::Proposed) {
        return context.fail("login", Problem::PasswordProposed);
    }
    let relay_mode = file.relay_mode.map_or(RelayMode::Blind, RelayMode::from);
    if (relay_mode, method) == (RelayMode::Terminating, Method::Conventional) {
        return context.fail("relay_mode", Problem::TerminatingConventional);
    }
    Ok((login, relay_mode, file.policy.unwrap_or(Policy::Paper)))
}

fn congestion(context: Context<'_, '_>, file: &File, framing: Framing) -> Result<Congestion, ScenarioError> {
    let default = cyphonic_core::quic::Congestion::of(framing).into();
    let congestion = file.congestion.unwrap_or(default);
    if (congestion, framing) == (Congestion::NewReno, Framing::Udp4501) {
        return context.fail("congestion", Problem::CongestionConventional);
    }
    Ok(congestion)
}

fn services(context: Context<'_, '_>, services: schema::Services, has_proxy: bool) -> Result<Services, ScenarioError> {
    let service = |name: &str, number, link: Option<schema::Link>| {
        Ok(Service {
            v4: host_v4(SERVICES_V4, number).unwrap_or(SERVICES_V4.network()),
            v6: host_v6(SERVICES_V6, number).unwrap_or(SERVICES_V6.network()),
            link: link::link(context, &format!("services.{name}"), link, (LEAST_MTU_V6, "IPv6"))?,
        })
    };
    Ok(Services {
        auth: service("as", 2, services.auth)?,
        nms: service("nms", 3, services.nms)?,
        trs: service("trs", 4, services.trs)?,
        proxy: Some(service("proxy", 5, services.proxy)?).filter(|_| has_proxy),
    })
}

fn nodes(
    context: Context<'_, '_>,
    nodes: Vec<schema::Node>,
    sites: &[Site],
    hosts: &mut Hosts,
) -> Result<Vec<Node>, ScenarioError> {
    if nodes.is_empty() {
        return context.fail("", Problem::NoNodes);
    }
    context.at_most("node", nodes.len(), MAX_NODES)?;
    let mut names = std::collections::BTreeSet::new();
    let mut resolved: Vec<Node> = Vec::new();
    let all: Vec<(String, bool)> = nodes.iter().map(|node| (node.name.clone(), node.copy_of.is_some())).collect();
    for (index, node) in nodes.into_iter().enumerate() {
        let path = format!("node.{index}");
        let name = context.at(&format!("{path}.name"), fqdn(&node.name))?;
        if ServiceName::ALL.iter().any(|service| service.name() == name.short()) {
            return context.fail(&format!("{path}.name"), Problem::NameTaken(node.name));
        }
        if !names.insert(name.clone()) {
            return context.fail(&format!("{path}.name"), Problem::NameTaken(node.name));
        }
        let places = match (node.site, node.interfaces) {
            (Some(_), Some(_)) => return context.fail(&format!("{path}.interfaces"), Problem::SiteAndInterfaces),
            (Some(site), None) => vec![(format!("{path}.site"), site)],
            (None, Some(list)) => {
                let places = list.into_iter().enumerate();
                places.map(|(i, site)| (format!("{path}.interfaces.{i}"), site)).collect()
            }
            (None, None) => Vec::new(),
        };
        if places.is_empty() {
            return context.fail(&path, Problem::Nowhere);
        }
        let interfaces = interfaces(context, index, &places, sites, hosts)?;
        let tcp_name = |text: String| {
            let parsed = text.parse().map_err(|_| Problem::BadServerName(text));
            context.at(&format!("{path}.tcp_name"), parsed)
        };
        let tcp_name = node.tcp_name.map(tcp_name).transpose()?;
        let original = |of: String| {
            let Some(original) = all.iter().position(|(name, _)| *name == of) else {
                return Err(Problem::UnknownNode {
                    found: of,
                    known: all.iter().map(|(name, _)| name.clone()).collect(),
                });
            };
            if all[original].1 { Err(Problem::CopyOfCopy(of)) } else { Ok(original) }
        };
        let copy_of = node.copy_of.map(|of| context.at(&format!("{path}.copy_of"), original(of))).transpose()?;
        resolved.push(Node { name, interfaces, proxy: node.proxy.unwrap_or(false), tcp_name, copy_of });
    }
    Ok(resolved)
}

fn interfaces(
    context: Context<'_, '_>,
    node: usize,
    places: &[(String, String)],
    sites: &[Site],
    hosts: &mut Hosts,
) -> Result<Vec<Interface>, ScenarioError> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for (path, name) in places {
        let site = context.at(path, site::find(sites, name))?;
        if interfaces.iter().any(|other| other.site == site) {
            return context.fail(path, Problem::InterfaceTwice(name.clone()));
        }
        // Global prefixes never overlap; two LANs may, unless one node is in both.
        let v4 = |site: &Site| site.v4.as_ref().map(SiteV4::prefix).map(IpNet::from);
        let v6 = |site: &Site| site.v6.as_ref().map(SiteV6::prefix).map(IpNet::from);
        for other in &interfaces {
            let (site, other) = (&sites[site], &sites[other.site]);
            for (prefix, taken) in [(v4(site), v4(other)), (v6(site), v6(other))] {
                if let (Some(prefix), Some(other_prefix)) = (prefix, taken)
                    && overlap(prefix, other_prefix)
                {
                    let owner = format!("the site {:?}, where the node is too", other.name);
                    return context.fail(path, Problem::Overlap { prefix, other: other_prefix, owner });
                }
            }
        }
        interfaces.push(context.at(path, hosts.place(node, site, &sites[site]))?);
    }
    Ok(interfaces)
}

fn fqdn(name: &str) -> Result<Fqdn, Problem> {
    let bad = || Problem::BadName(name.to_owned());
    let plain = !name.contains('.') && !name.contains(char::is_uppercase);
    if plain { format!("{name}.{ZONE}").parse().map_err(|_| bad()) } else { Err(bad()) }
}
