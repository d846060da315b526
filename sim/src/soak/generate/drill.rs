//! Drills: small networks without faults, so that everything can be demanded.
//!
//! | drill | what happens | what it shows |
//! |---|---|---|
//! | rest | echoes, a long silence, echoes, datagrams, a transfer | keep-alives of mappings, registrations, tunnels |
//! | blip | one link is down for a moment while tunnels are built | retransmission |
//! | move | a node moves before tunnels are built, meanwhile, or later | handover; stale state |
//! | interface | a node gets a second interface, or loses one of two | tunnels over another interface |
//! | rebind | a NAT gives one node other ports while tunnels are used | tunnels that follow a peer's new port |
//! | reboot | a NAT forgets its mappings while tunnels are used | detection of dead tunnels |
//! | restart | a service crashes and starts again while tunnels are used | which part depends on which service |
//! | pause | a role's process is stopped for a moment while tunnels are used | timers that give up too early |
//! | clock | a role's clock steps while tunnels are used; a service starts again | dependence on the time of day |
//!
//! When something happens, a TCP transfer is under way or begins. All its bytes must arrive.
//!
//! In a network in trouble, another defence often hides a missing one: a tunnel without keep-alives is rebuilt. A drill
//! shows it.

use super::trouble::CLOCKS_S;
use super::{Generator, NODES, SERVICES, int, table};

/// The most sites, and the most nodes.
pub(super) const MOST: u64 = 3;
/// Mostly NATs: they determine which node can dial which.
pub(super) const KINDS: [&str; 5] = ["ipv4-private", "ipv4-private", "ipv4-global", "dual-stack-private-v4", "ipv6"];
/// By this time every node is registered and has completed its survey.
const BEGIN_MS: u64 = 13_000;

impl Generator {
    pub(super) fn drill(&mut self) {
        let nodes = self.sheet.section("node").count() as u64;
        let names: Vec<toml::Value> = NODES[..nodes as usize].iter().map(|&name| name.into()).collect();
        self.step(0, "start", table([("nodes", names.into()), ("give_up_s", int(10))]));
        let end = match self.below(9) {
            0 => self.rest(nodes),
            1 => self.blip(nodes),
            2 => self.moves(nodes),
            3 => self.restarts(nodes),
            4 => self.pauses(nodes),
            5 => self.clocks(nodes),
            6 => self.interfaces(nodes),
            7 => self.rebinds(nodes),
            _ => self.reboot(nodes),
        };
        // A TCP connection without a peer ends only after its timeouts.
        self.finish(end + 120_000);
    }

    /// Every node sends echoes to every other node.
    fn round(&mut self, at: u64, nodes: u64, count: u64, interval_ms: u64) {
        for (number, (a, b)) in (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).enumerate() {
            self.echoes(at + number as u64, (a, b), count, interval_ms);
        }
    }

    /// A transfer that is under way, or has just ended, when something happens.
    fn transfer_before(&mut self, at: u64, nodes: u64) {
        let before = self.below(400);
        self.transfer(at.saturating_sub(before).max(BEGIN_MS), nodes);
    }

    fn rest(&mut self, nodes: u64) -> u64 {
        // Sometimes nodes ask for routes before their surveys are complete.
        let begin = self.pick(&[1_000, BEGIN_MS, BEGIN_MS]);
        self.round(begin, nodes, 3, 400);
        let again = BEGIN_MS + self.pick(&[40_000, 70_000, 130_000, 200_000]);
        self.round(again, nodes, 12, 1_000);
        if self.one_in(3) {
            let (at, rules) = (self.from(BEGIN_MS, again), self.rules());
            self.step(at, "rules", rules);
        }
        let within = self.below(12_000);
        self.flow(again + within, nodes);
        self.transfer(again + within, nodes);
        // Time for the last packets to arrive.
        self.step(again, "wait", table([("ms", int(30_000))]));
        again + 30_000
    }

    fn blip(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 13, 1_000);
        let index = self.below(self.first.len() as u64) as usize;
        let place = table([(self.first[index].key, self.first[index].name.clone().into())]);
        let down = BEGIN_MS + self.below(200);
        self.step(down, "link_down", place.clone());
        let up = down + self.from(40, 95);
        self.step(up, "link_up", place);
        let before = self.below(200);
        self.transfer(up - before, nodes);
        BEGIN_MS + 13_000
    }

    fn moves(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 30, 1_000);
        let (node, to) = (self.below(nodes), self.any_site());
        let at = BEGIN_MS - 500 + self.below(8_000) / self.pick(&[1, 8]);
        self.moves_to(at, node, to);
        self.transfer_before(at, nodes);
        BEGIN_MS + 30_000
    }

    fn any_site(&mut self) -> String {
        let sites = self.sheet.section("site").count() as u64;
        format!("site{}", self.from(1, sites))
    }

    fn interfaces(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 30, 1_000);
        let at = BEGIN_MS + self.below(8_000) / self.pick(&[1, 8]);
        let several = (0..nodes).find(|node| self.places[*node as usize].len() > 1);
        if let Some(node) = several {
            let which = self.below(2) as usize;
            let from = self.places[node as usize][which].clone();
            self.detach(at, node, &from);
        } else {
            let (node, to) = (self.below(nodes), self.any_site());
            if !self.places[node as usize].contains(&to) {
                self.attach(at, node, to);
            }
        }
        self.transfer_before(at, nodes);
        BEGIN_MS + 30_000
    }

    fn rebinds(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 42, 1_000);
        let at = BEGIN_MS + self.from(3_000, 14_000);
        self.rebinding(at, nodes);
        self.transfer_before(at, nodes);
        BEGIN_MS + 42_000
    }

    fn restarts(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 30, 1_000);
        let what = self.pick(&SERVICES);
        let at = BEGIN_MS + self.from(100, 9_000);
        let restart = self.perhaps_in_order(table([("what", what.into())]));
        self.step(at, "restart", restart);
        self.transfer_before(at, nodes);
        BEGIN_MS + 30_000
    }

    fn pauses(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 30, 1_000);
        let (what, at, ms) = (self.role(nodes), BEGIN_MS + self.from(0, 9_000), self.from(50, 3_000));
        self.step(at, "pause", table([("what", what.into()), ("ms", int(ms))]));
        self.transfer_before(at, nodes);
        BEGIN_MS + 30_000
    }

    fn clocks(&mut self, nodes: u64) -> u64 {
        self.round(BEGIN_MS, nodes, 30, 1_000);
        let (what, at, step) = (self.role(nodes), self.below(BEGIN_MS + 5_000), self.pick(&CLOCKS_S));
        self.step(at, "clock", table([("what", what.into()), ("step_s", step.into())]));
        if self.one_in(2) {
            let what = self.pick(&SERVICES);
            let again = at.max(BEGIN_MS) + self.from(100, 4_000);
            self.step(again, "restart", table([("what", what.into())]));
        }
        self.transfer_before(at, nodes);
        BEGIN_MS + 30_000
    }

    fn reboot(&mut self, nodes: u64) -> u64 {
        // Longer than QUIC's idle timeout.
        self.round(BEGIN_MS, nodes, 42, 1_000);
        let nats: Vec<usize> = (0..self.first.len()).filter(|&index| self.first[index].has_nat).collect();
        if let Some(place) = self.any(&nats) {
            let at = BEGIN_MS + self.from(11_000, 14_000);
            self.step(at, "nat_reboot", table([(place.key, place.name.into())]));
            self.transfer_before(at, nodes);
        }
        BEGIN_MS + 42_000
    }
}
