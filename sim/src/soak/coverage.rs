//! What a soak has tried: each transition, at each kind of site, with each method; and what it has not.

use std::collections::BTreeMap;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use cyphonic_scenarios::{Action, Dependence, LinkAt, Method, NatAt, Role, Scenario, Site, SiteV4, SiteV6};

/// What can happen.
pub const TRANSITIONS: [&str; 14] = [
    "start",
    "echo",
    "udp",
    "tcp",
    "leave",
    "arrive",
    "wait",
    "nat_reboot",
    "firewall",
    "link",
    "link_down",
    "link_up",
    "restart",
    "peace",
];
/// Where. A site is of every kind that fits; what concerns no site is at the services, or at a carrier.
pub const KINDS: [&str; 14] = [
    "v4", "nat", "symm", "cgn", "v6", "nat64", "nptv6", "nat66", "dual", "broken", "walled", "carrier", "services",
    "several",
];

/// How often each thing happened: by transition, kind and method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<(&'static str, &'static str, &'static str), u64>);

impl Coverage {
    /// Counts what a scenario does.
    pub fn add(&mut self, scenario: &Scenario) {
        let method = if scenario.method == Method::Conventional { METHODS[0] } else { METHODS[1] };
        let mut places: Vec<Vec<usize>> =
            scenario.nodes.iter().map(|node| node.interfaces.iter().map(|place| place.site).collect()).collect();
        let mut note = |what: &'static str, kinds: Vec<&'static str>| {
            for kind in kinds {
                *self.0.entry((what, kind, method)).or_default() += 1;
            }
        };
        let at = |sites: &[usize]| -> Vec<&'static str> {
            let mut kinds: Vec<_> = sites.iter().flat_map(|&site| kinds(&scenario.sites[site])).collect();
            kinds.extend((sites.len() > 1).then_some("several"));
            kinds
        };
        let link = |place: &LinkAt| match place {
            LinkAt::Site(site) => at(&[*site]),
            LinkAt::Service(_) => vec!["services"],
            LinkAt::Carrier(_) => vec!["carrier"],
        };
        for step in &scenario.steps {
            match &step.action {
                Action::Start { nodes, .. } => nodes.iter().for_each(|&node| note("start", at(&places[node]))),
                Action::Echo(probes) => {
                    for n in [probes.pair.from, probes.pair.to] {
                        note("echo", at(&places[n]));
                    }
                }
                Action::Udp(probes) => {
                    for n in [probes.pair.from, probes.pair.to] {
                        note("udp", at(&places[n]));
                    }
                }
                Action::Tcp { pair, .. } => [pair.from, pair.to].into_iter().for_each(|n| note("tcp", at(&places[n]))),
                Action::Move { node, to } => {
                    note("leave", at(&places[*node]));
                    places[*node] = vec![to.site];
                    note("arrive", at(&places[*node]));
                }
                Action::NatReboot(NatAt::Site(site)) => note("nat_reboot", at(&[*site])),
                Action::NatReboot(NatAt::Carrier(_)) => note("nat_reboot", vec!["carrier"]),
                Action::Firewall { site, .. } => note("firewall", at(&[*site])),
                Action::Link { at, .. } => note("link", link(at)),
                Action::LinkUp { at, up } => note(if *up { "link_up" } else { "link_down" }, link(at)),
                Action::Restart(Role::Node(node)) => note("restart", at(&places[*node])),
                Action::Restart(Role::Service(_)) => note("restart", vec!["services"]),
                Action::Wait(_) | Action::Idle => places.iter().for_each(|sites| note("wait", at(sites))),
                Action::ProbeMtu(_) => {}
            }
        }
        for sites in &places {
            note("peace", at(sites));
        }
    }

    /// The table: conventional and proposed in each cell, and a line that names what was never reached.
    pub fn render(&self) -> String {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([&[""], &KINDS[..]].concat());
        let mut never = Vec::new();
        for what in TRANSITIONS {
            let mut row = vec![what.to_owned()];
            for kind in KINDS {
                row.push(if may_be(what, kind) {
                    let [conventional, proposed] = METHODS.map(|method| {
                        let count = self.0.get(&(what, kind, method)).copied().unwrap_or_default();
                        if count == 0 {
                            never.push(format!("{what} {kind} {method}"));
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
        let never = if never.is_empty() { "nothing".to_owned() } else { never.join(", ") };
        format!("What happened where, conventional/proposed:\n{table}\nNever reached: {never}\n")
    }
}

const METHODS: [&str; 2] = ["conventional", "proposed"];

/// `12`, `3k`, `2M`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// Whether such a thing can happen there at all.
fn may_be(what: &str, kind: &str) -> bool {
    match kind {
        "services" => ["link", "link_down", "link_up", "restart"].contains(&what),
        "carrier" => ["link", "link_down", "link_up", "nat_reboot"].contains(&what),
        // Nobody arrives in two places at once.
        "several" => ["start", "echo", "udp", "tcp", "leave", "wait", "restart", "peace"].contains(&what),
        "v4" | "v6" => what != "nat_reboot",
        _ => true,
    }
}

/// Every kind that a site is of.
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
