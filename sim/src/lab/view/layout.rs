//! Where boxes are drawn: services at the top, the core below them, and each site's boxes in a column down to its
//! nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cyphonic_scenarios::Scenario;
use serde::Serialize;

use crate::run::Run;

/// The distance between two columns, pixels.
const COLUMN: f64 = 150.0;
/// The distance between two rows, pixels.
const ROW: f64 = 78.0;
/// The space around the picture, pixels.
const MARGIN: f64 = 70.0;

/// Boxes and the wires between them.
#[derive(Serialize)]
pub(super) struct Topology {
    /// Services first, then all other boxes by name.
    pub(super) boxes: Vec<Place>,
    /// The two ends of each wire, as indices into `boxes`.
    pub(super) wires: Vec<[usize; 2]>,
    /// Of the picture with its margins, pixels.
    pub(super) width: f64,
    /// Of the picture with its margins, pixels.
    pub(super) height: f64,
}

/// A box of the network.
#[derive(Serialize)]
pub(super) struct Place {
    /// The name of the box. A node's is the first label of its FQDN.
    pub(super) name: String,
    /// `service`, `node`, or `box`: a NAT, firewall, translator or router.
    pub(super) kind: &'static str,
    /// The centre, pixels from the left edge.
    pub(super) x: f64,
    /// The centre, pixels from the upper edge.
    pub(super) y: f64,
}

impl Topology {
    /// The two ends of a direction such as `alice:0>nat:1` (box and interface of each end), as indices into `boxes`.
    pub(super) fn ends_of(&self, wire: &str) -> Option<[usize; 2]> {
        let (from, to) = wire.split_once('>')?;
        let find = |end: &str| self.boxes.iter().position(|place| place.name == name_of(end));
        Some([find(from)?, find(to)?])
    }
}

/// The name of the box in one end of a direction: `alice` of `alice:0`.
fn name_of(end: &str) -> &str {
    end.rsplit_once(':').map_or(end, |(name, _)| name)
}

fn is_service(name: &str) -> bool {
    ["as", "nms", "trs"].contains(&name)
}

/// The network of a run. The core is the box with the services' wires.
pub(super) fn of_run(scenario: &Scenario, run: &Run) -> Topology {
    let network = run.world.network();
    let wires: BTreeSet<[String; 2]> = network
        .directions()
        .filter_map(|direction| {
            let name = network.wire_name(direction);
            let (from, to) = name.split_once('>')?;
            let mut ends = [name_of(from).to_owned(), name_of(to).to_owned()];
            ends.sort();
            Some(ends)
        })
        .collect();
    let nodes: Vec<&str> = scenario.nodes.iter().map(|node| node.name.short()).collect();
    arranged(&wires, &nodes)
}

/// Hosts without a known network: each has a wire to the same core.
pub(super) fn of_hosts(hosts: &[String]) -> Topology {
    let wires = hosts.iter().map(|host| {
        let mut ends = ["core".to_owned(), host.clone()];
        ends.sort();
        ends
    });
    let nodes: Vec<&str> = hosts.iter().map(String::as_str).filter(|host| !is_service(host)).collect();
    arranged(&wires.collect(), &nodes)
}

fn arranged(wires: &BTreeSet<[String; 2]>, nodes: &[&str]) -> Topology {
    let mut beside: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for [a, b] in wires {
        beside.entry(a).or_default().push(b);
        beside.entry(b).or_default().push(a);
    }
    let services: Vec<&str> = beside.keys().copied().filter(|name| is_service(name)).collect();
    let core = services.iter().find_map(|service| beside[service].first().copied()).unwrap_or("core");
    // Breadth first from the core: each box hangs below the one that it was found from.
    let mut depth: BTreeMap<&str, usize> = BTreeMap::from([(core, 0)]);
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut queue = VecDeque::from([core]);
    while let Some(name) = queue.pop_front() {
        for &next in beside.get(name).into_iter().flatten() {
            if !is_service(next) && !depth.contains_key(next) {
                depth.insert(next, depth[name] + 1);
                below.entry(name).or_default().push(next);
                queue.push_back(next);
            }
        }
    }
    let deepest = depth.values().copied().max().unwrap_or(0).max(1);
    let mut columns = BTreeMap::new();
    let mut next = 0.0;
    column(core, &below, &mut columns, &mut next);
    let wide = next.max(services.len() as f64).max(1.0);
    let middle = (wide - 1.0) / 2.0;
    let shift = middle - columns.get(core).copied().unwrap_or(0.0);
    let mut boxes = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let x = middle + (index as f64 - (services.len() as f64 - 1.0) / 2.0);
        boxes.push(Place { name: (*service).to_owned(), kind: "service", x: MARGIN + COLUMN * x, y: MARGIN / 2.0 });
    }
    let shift = shift.max(0.0);
    for (&name, &row) in &depth {
        let is_node = nodes.contains(&name);
        // All nodes stand in the last row, however few boxes are between them and the core.
        let row = if is_node { deepest } else { row };
        let x = MARGIN + COLUMN * (columns.get(name).copied().unwrap_or(0.0) + shift);
        let kind = if is_node { "node" } else { "box" };
        boxes.push(Place { name: name.to_owned(), kind, x, y: MARGIN / 2.0 + ROW * (row + 1) as f64 });
    }
    let find = |name: &str| boxes.iter().position(|place| place.name == name);
    let ends = wires.iter().filter_map(|[a, b]| Some([find(a)?, find(b)?])).collect();
    let width = boxes.iter().map(|place| place.x).fold(0.0, f64::max) + MARGIN;
    Topology { wires: ends, width, height: MARGIN + ROW * (deepest + 1) as f64, boxes }
}

/// Gives a box and all below it their columns, and returns the box's. A box without boxes below it gets a column of its
/// own. Every other box gets the middle of the columns below it.
fn column<'a>(
    name: &'a str,
    below: &BTreeMap<&'a str, Vec<&'a str>>,
    columns: &mut BTreeMap<&'a str, f64>,
    next: &mut f64,
) -> f64 {
    let under = below.get(name).cloned().unwrap_or_default();
    let places: Vec<f64> = under.into_iter().map(|child| column(child, below, columns, next)).collect();
    let at = if let (Some(first), Some(last)) = (places.first(), places.last()) {
        f64::midpoint(*first, *last)
    } else {
        *next += 1.0;
        *next - 1.0
    };
    columns.insert(name, at);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_above_the_core_and_nodes_in_the_last_row_none_upon_another() {
        let wires =
            [["as", "core"], ["core", "nms"], ["core", "trs"], ["bob", "core"], ["core", "nat-a"], ["alice", "nat-a"]];
        let wires = wires.into_iter().map(|ends| ends.map(str::to_owned)).collect();
        let topology = arranged(&wires, &["alice", "bob"]);
        let of = |name: &str| topology.boxes.iter().find(|place| place.name == name).unwrap();
        assert!(of("nms").y < of("core").y && of("core").y < of("nat-a").y && of("nat-a").y < of("alice").y);
        assert!((of("alice").y - of("bob").y).abs() < 1e-9 && (of("alice").x - of("bob").x).abs() > 50.0);
        let places: BTreeSet<_> = topology.boxes.iter().map(|place| (place.x as i64, place.y as i64)).collect();
        assert_eq!(places.len(), 7);
        assert!(
            topology.boxes.iter().all(|place| place.x > 0.0 && place.x < topology.width && place.y < topology.height)
        );
        assert_eq!(topology.wires.len(), 6);
        assert_eq!(topology.ends_of("alice:0>nat-a:1").map(|ends| ends.len()), Some(2));
    }
}
