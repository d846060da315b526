//! The coverage of a soak: the combinations of transition, kind of site, signaling pattern and method that it has
//! tried, and those that it has not.
//!
//! A transition of a node counts for every pattern by which the node ever had a tunnel in that run. A transition of a
//! site counts for the patterns of the nodes there; one of a carrier or a service, for the patterns of all nodes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use cyphonic_core::route::Pattern;
use cyphonic_scenarios::{Action, Dependence, LinkAt, Method, NatAt, Role, Scenario, Site, SiteV4, SiteV6};

/// Every transition: a step of a scenario, or one of its kinds.
pub const TRANSITIONS: [&str; 29] = [
    "start",
    "echo",
    "udp",
    "tcp",
    "bare_tcp",
    "move_from",
    "move_to",
    "attach",
    "detach",
    "wait",
    "nat_reboot",
    "rebind",
    "firewall",
    "link",
    "path",
    "link_down",
    "link_up",
    "restart",
    "stop",
    "revoke",
    "expire",
    "renew",
    "pause",
    "suspend",
    "clock",
    "disk_full",
    "disk_free",
    "rules",
    "peace",
];
/// The kinds of places. A site counts for every kind that fits. A transition that concerns no site counts for the
/// services or for a carrier.
pub const KINDS: [&str; 14] = [
    "v4", "nat", "symm", "cgn", "v6", "nat64", "nptv6", "nat66", "dual", "broken", "walled", "carrier", "services",
    "several",
];

/// Most combinations that are named as never reached. All are in the table.
const NAMED: usize = 30;

/// The patterns of each node's tunnels in a run: one digit for each node, in which bit 0 stands for pattern 1, and so
/// on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(Vec<u8>);

impl Paths {
    /// For this many nodes, without tunnels so far.
    pub fn new(nodes: usize) -> Self {
        Self(vec![0; nodes])
    }

    /// A node had a tunnel.
    pub fn note(&mut self, node: usize, pattern: Pattern) {
        self.0[node] |= 1 << (pattern.number() - 1);
    }

    /// From its digits.
    pub fn parse(text: &str) -> Option<Self> {
        text.bytes().map(|digit| (b'0'..b'8').contains(&digit).then(|| digit - b'0')).collect::<Option<_>>().map(Self)
    }

    fn of(&self, nodes: impl IntoIterator<Item = usize>) -> u8 {
        nodes.into_iter().filter_map(|node| self.0.get(node)).fold(0, |all, one| all | one)
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|bits| write!(f, "{bits}"))
    }
}

/// Counts by transition, kind of place, pattern and method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<(&'static str, &'static str, u8, &'static str), u64>);

impl Coverage {
    /// Counts what a scenario does.
    pub fn add(&mut self, scenario: &Scenario, paths: &Paths) {
        let method = if scenario.method == Method::Conventional { METHODS[0] } else { METHODS[1] };
        let nodes = 0..scenario.nodes.len();
        let mut places: Vec<Vec<usize>> =
            scenario.nodes.iter().map(|node| node.interfaces.iter().map(|place| place.site).collect()).collect();
        let mut note = |what: &'static str, kinds: &[&'static str], bits: u8| {
            for (kind, pattern) in kinds.iter().flat_map(|&kind| PATTERNS.map(|pattern| (kind, pattern))) {
                if bits & (1 << (pattern - 1)) != 0 {
                    *self.0.entry((what, kind, pattern, method)).or_default() += 1;
                }
            }
        };
        let at = |sites: &[usize]| -> Vec<&'static str> {
            let mut kinds: Vec<_> = sites.iter().flat_map(|&site| kinds(&scenario.sites[site])).collect();
            kinds.extend((sites.len() > 1).then_some("several"));
            kinds
        };
        for step in &scenario.steps {
            let to_node = |node: usize| (at(&places[node]), paths.of([node]));
            let to_site = |site: usize| {
                let here = nodes.clone().filter(|&node| places[node].contains(&site));
                (at(&[site]), paths.of(here))
            };
            let to_all = |kind| (vec![kind], paths.of(nodes.clone()));
            let to_link = |place: &LinkAt| match place {
                LinkAt::Site(site) => to_site(*site),
                LinkAt::Service(_) => to_all("services"),
                LinkAt::Carrier(_) => to_all("carrier"),
            };
            let to_role = |role: &Role| match role {
                Role::Node(node) => to_node(*node),
                Role::Service(_) => to_all("services"),
            };
            let (what, met) = match &step.action {
                Action::Start { nodes, .. } => ("start", nodes.iter().map(|&node| to_node(node)).collect()),
                Action::Echo(probes) => ("echo", vec![to_node(probes.pair.from), to_node(probes.pair.to)]),
                Action::Udp(probes) => ("udp", vec![to_node(probes.pair.from), to_node(probes.pair.to)]),
                Action::Tcp { pair, .. } => ("tcp", vec![to_node(pair.from), to_node(pair.to)]),
                Action::BareTcp { from, to, .. } => ("bare_tcp", vec![to_node(*from), to_node(*to)]),
                Action::Move { node, to } => {
                    let (left, bits) = to_node(*node);
                    note("move_from", &left, bits);
                    places[*node] = vec![to.site];
                    ("move_to", vec![(at(&places[*node]), bits)])
                }
                Action::Attach { node, to } => {
                    places[*node].push(to.site);
                    ("attach", vec![(at(&places[*node]), paths.of([*node]))])
                }
                Action::Detach { node, site } => {
                    places[*node].retain(|place| place != site);
                    ("detach", vec![(at(&[*site]), paths.of([*node]))])
                }
                Action::Rebind { node, .. } => {
                    let with_nat = |site: &&usize| has_nat(&scenario.sites[**site]);
                    let sites: Vec<usize> = places[*node].iter().filter(with_nat).copied().collect();
                    ("rebind", vec![(sites.iter().flat_map(|&site| at(&[site])).collect(), paths.of([*node]))])
                }
                Action::Path { site, .. } => ("path", vec![to_site(*site)]),
                Action::NatReboot(NatAt::Site(site)) => ("nat_reboot", vec![to_site(*site)]),
                Action::NatReboot(NatAt::Carrier(_)) => ("nat_reboot", vec![to_all("carrier")]),
                Action::Firewall { site, .. } => ("firewall", vec![to_site(*site)]),
                Action::Link { at, .. } => ("link", vec![to_link(at)]),
                Action::LinkUp { at, up } => (if *up { "link_up" } else { "link_down" }, vec![to_link(at)]),
                Action::Restart(role) | Action::RestartInOrder(role) => ("restart", vec![to_role(role)]),
                Action::Pause { role, .. } => ("pause", vec![to_role(role)]),
                Action::Suspend { role, .. } => ("suspend", vec![to_role(role)]),
                Action::Clock { role, .. } => ("clock", vec![to_role(role)]),
                Action::DiskFull(full) => (if *full { "disk_full" } else { "disk_free" }, vec![to_all("services")]),
                Action::Rules(_) => ("rules", vec![to_all("services")]),
                Action::Expire(node) => ("expire", vec![to_node(*node)]),
                Action::Renew(node) | Action::RenewRunning(node) => ("renew", vec![to_node(*node)]),
                Action::Stop(node) | Action::StopInOrder(node) => ("stop", vec![to_node(*node)]),
                Action::Revoke(node) => ("revoke", vec![to_node(*node)]),
                Action::Wait(_) | Action::Idle => ("wait", nodes.clone().map(to_node).collect()),
                Action::ProbeMtu(_) => continue,
            };
            for (kinds, bits) in met {
                note(what, &kinds, bits);
            }
        }
        for (node, sites) in places.iter().enumerate() {
            note("peace", &at(sites), paths.of([node]));
        }
    }

    fn count(&self, what: &'static str, kind: &'static str, pattern: u8, method: &'static str) -> u64 {
        self.0.get(&(what, kind, pattern, method)).copied().unwrap_or_default()
    }

    /// The number of combinations that were reached, and of those that are possible.
    pub fn reached(&self) -> (usize, usize) {
        let may = TRANSITIONS.iter().flat_map(|&what| KINDS.map(|kind| may_be(what, kind))).filter(|may| *may).count();
        (self.0.len(), may * PATTERNS.len() * METHODS.len())
    }

    /// A line for each possible combination, reached or not.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        for (what, kind) in TRANSITIONS.iter().flat_map(|&what| KINDS.map(|kind| (what, kind))) {
            for (pattern, method) in PATTERNS.iter().flat_map(|&pattern| METHODS.map(|method| (pattern, method))) {
                let count = self.count(what, kind, pattern, method);
                if may_be(what, kind) {
                    let _ = writeln!(text, "{what},{kind},{pattern},{method},{count}");
                }
            }
        }
        text
    }

    /// The table, with conventional and proposed in each cell, and a line with the combinations that were never
    /// reached.
    pub fn render(&self) -> String {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([&["", "pattern"], &KINDS[..]].concat());
        let mut never = Vec::new();
        for (what, pattern) in TRANSITIONS.iter().flat_map(|&what| PATTERNS.map(|pattern| (what, pattern))) {
            let mut row =
                vec![if pattern == PATTERNS[0] { what.to_owned() } else { String::new() }, pattern.to_string()];
            for kind in KINDS {
                row.push(if may_be(what, kind) {
                    let [conventional, proposed] = METHODS.map(|method| {
                        let count = self.count(what, kind, pattern, method);
                        if count == 0 {
                            never.push(format!("{what} {kind} pattern {pattern} {method}"));
                        }
                        short(count)
                    });
                    format!("{conventional}/{proposed}")
                } else {
                    String::new()
                });
            }
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_padding((0, 1));
        }
        let more = never.len().saturating_sub(NAMED);
        never.truncate(NAMED);
        let mut names = if never.is_empty() { "nothing".to_owned() } else { never.join(", ") };
        if more > 0 {
            let _ = write!(names, ", and {more} more: every 0 above");
        }
        format!(
            "What happened where, with tunnels of which pattern, conventional/proposed:\n{table}\nNever reached: {names}\n"
        )
    }
}

const PATTERNS: [u8; 3] = [1, 2, 3];
const METHODS: [&str; 2] = ["conventional", "proposed"];

/// `12`, `3k`, `2M`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// Whether a transition is possible at a kind of place.
fn may_be(what: &str, kind: &str) -> bool {
    match kind {
        "services" => {
            ["link", "link_down", "link_up", "restart", "pause", "suspend", "clock", "disk_full", "disk_free", "rules"]
                .contains(&what)
        }
        "carrier" => ["link", "link_down", "link_up", "nat_reboot"].contains(&what),
        _ if what.starts_with("disk") || what == "rules" => false,
        // A node arrives at one site at a time, and "several" has no boxes of its own.
        "several" => !["move_to", "detach", "nat_reboot", "rebind", "firewall", "link", "path", "link_down", "link_up"]
            .contains(&what),
        "v4" | "v6" => !["nat_reboot", "rebind"].contains(&what),
        _ => true,
    }
}

/// Whether a box of a site translates with mappings.
fn has_nat(site: &Site) -> bool {
    let v6 = matches!(site.v6, Some(SiteV6::Private { .. }));
    v6 || site.nat64.is_some() || matches!(site.v4, Some(SiteV4::Private { .. }))
}

/// All kinds of a site.
fn kinds(site: &Site) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let is_dual = site.v4.is_some() && site.v6.is_some();
    match &site.v4 {
        Some(SiteV4::Private { nat, .. }) => {
            kinds.push(if nat.mapping == Dependence::Endpoint { "nat" } else { "symm" });
        }
        Some(SiteV4::Global(_)) if !is_dual => kinds.push("v4"),
        _ => {}
    }
    match (&site.v6, &site.nat64) {
        (_, Some(_)) => kinds.push("nat64"),
        (Some(SiteV6::Prefix { .. }), _) => kinds.push("nptv6"),
        (Some(SiteV6::Private { .. }), _) => kinds.push("nat66"),
        (Some(SiteV6::Global(_)), _) if !is_dual => kinds.push("v6"),
        _ => {}
    }
    kinds.extend(is_dual.then_some("dual"));
    kinds.extend(site.broken.map(|_| "broken"));
    kinds.extend(site.firewall.as_ref().map(|_| "walled"));
    kinds.extend(site.carrier.map(|_| "cgn"));
    kinds
}
