//! Trouble: all events that can happen to a network, overlapping; then peace and the last round.

use toml::{Table, Value};

use super::{Generator, LARGE, MOST, NODES, Place, SERVICES, int, table};
use crate::soak::model::HEALING;

/// The number of echoes of each pair in the last round.
const LAST_ECHOES: u64 = 6;
const LAST_INTERVAL_MS: u64 = 2_000;
/// The time between the starts of two pairs, ms. If all began at one instant, a firewall that throttles QUIC could not
/// let all handshakes through.
const APART_MS: u64 = 1;
const APART_IF_SLOWED_MS: u64 = 2_300;
/// By how much clocks step, seconds.
pub(super) const CLOCKS_S: [i64; 6] = [-86_400, -3_600, -5, 5, 3_600, 86_400];

impl Generator {
    pub(super) fn trouble(&mut self) {
        let nodes = self.sheet.section("node").count() as u64;
        let sites = self.sheet.section("site").count() as u64;
        let early = self.from(2, nodes);
        let started = |from: u64, to: u64| -> Value {
            (from..to).map(|node| Value::from(NODES[node as usize])).collect::<Vec<_>>().into()
        };
        self.step(0, "start", table([("nodes", started(0, early)), ("give_up_s", 10.into())]));
        let mut now = self.from(0, 3) * 1_000;
        for _ in 0..self.from(1, 16) {
            now += self.pick(&[0, 1, 20, 300, 1_000, 4_000, 12_000]);
            self.transition(now, early, sites);
        }
        if early < nodes {
            // A node that starts late starts during the trouble.
            let at = self.below(now + 1);
            // From now on the end of a certificate is not known exactly.
            if self.one_in(4) && !self.has("expire") {
                let (late, step) = (NODES[self.from(early, nodes - 1) as usize], self.pick(&CLOCKS_S));
                self.step(at, "clock", table([("what", late.into()), ("step_s", step.into())]));
            }
            self.step(at, "start", table([("nodes", started(early, nodes)), ("give_up_s", 10.into())]));
        }
        if self.has_copy(nodes) {
            self.copy(now, nodes, sites);
        }
        now += self.pick(&[100, 3_000, 12_000]);
        let healed = self.peace(now);
        let apart = if self.is_slowed() { APART_IF_SLOWED_MS } else { APART_MS };
        let mut at = healed;
        for (a, b) in (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))) {
            self.echoes(at, (a, b), LAST_ECHOES, LAST_INTERVAL_MS);
            at += apart;
        }
        // A throttled transfer leaves no room for echoes.
        if !self.is_slowed() {
            let within = self.below(LAST_ECHOES * LAST_INTERVAL_MS);
            self.transfer(healed + within, nodes);
        }
        self.finish(at + 120_000);
    }

    /// Whether there is a second machine with the first node's name and key. Derived from the seed and not drawn, so
    /// that the plans of other seeds stay as they were. What an end of a certificate means for a copy of it is not
    /// modelled.
    fn has_copy(&self, nodes: u64) -> bool {
        let ends = ["expire", "renew", "revoke"].iter().any(|action| self.has(action));
        self.seed % 11 == 9 && nodes < MOST && !ends
    }

    /// A second machine with the first node's name and key. Each of the two may be stopped or started again, and the
    /// second one may move. The first does not, because its other steps are drawn already.
    fn copy(&mut self, now: u64, nodes: u64, sites: u64) {
        let (name, site) = (NODES[nodes as usize], format!("site{}", self.from(1, sites)));
        self.places.push(vec![site.clone()]);
        let node = table([("name", name.into()), ("site", site.into()), ("copy_of", NODES[0].into())]);
        self.sheet.section_mut("node").push(node.into());
        let mut at = self.below(now + 1);
        self.step(at, "start", table([("nodes", vec![Value::from(name)].into()), ("give_up_s", 10.into())]));
        for _ in 0..self.below(3) {
            at += self.pick(&[300, 5_000, 40_000]);
            let who = [name, NODES[0]][self.below(2) as usize];
            match self.below(3) {
                0 => {
                    let stop = self.perhaps_in_order(table([("node", who.into())]));
                    self.step(at, "stop", stop);
                }
                1 => {
                    let restart = self.perhaps_in_order(table([("what", who.into())]));
                    self.step(at, "restart", restart);
                }
                _ => {
                    let to = format!("site{}", self.from(1, sites));
                    self.moves_to(at, nodes, to);
                }
            }
        }
    }

    /// Whether some site's firewall ever slows QUIC down.
    fn is_slowed(&self) -> bool {
        let rules = self.sheet.section("site").filter_map(|site| site.get("firewall")?.get("inspect"));
        let later = self.sheet.section("step").filter_map(|step| step.get("inspect"));
        rules.chain(later).any(|rules| rules.to_string().contains("throttle"))
    }

    /// Draws one event; `nodes` nodes have started.
    fn transition(&mut self, at: u64, nodes: u64, sites: u64) {
        match self.below(43) {
            0..=4 => {
                let mut keys = self.pair(nodes);
                keys.insert("count".to_owned(), int(self.from(1, 6)));
                keys.insert("interval_ms".to_owned(), int(self.pick(&[50, 300, 1_000])));
                let payload = self.pick(&[0, 56, 600, LARGE]);
                keys.insert("payload_bytes".to_owned(), self.payload(payload));
                self.step(at, "echo", keys);
            }
            5 | 6 => self.flow(at, nodes),
            7 | 8 => self.transfer(at, nodes),
            9..=12 => {
                let to = format!("site{}", self.from(1, sites));
                let node = self.below(nodes);
                self.moves_to(at, node, to);
            }
            13 => {
                let ms = self.pick(&[500, 20_000, 70_000, 150_000]);
                self.step(at, "wait", table([("ms", int(ms))]));
            }
            14 | 15 => {
                let nats: Vec<usize> = (0..self.first.len()).filter(|&index| self.first[index].has_nat).collect();
                if let Some(place) = self.any(&nats) {
                    self.step(at, "nat_reboot", table([(place.key, place.name.into())]));
                }
            }
            16 | 17 => {
                let walls: Vec<usize> =
                    (0..self.first.len()).filter(|&index| self.first[index].firewall.is_some()).collect();
                if let Some(place) = self.any(&walls) {
                    let mut keys = if self.one_in(3) { table([("off", true.into())]) } else { self.firewall() };
                    keys.insert("site".to_owned(), place.name.into());
                    self.step(at, "firewall", keys);
                }
            }
            18 | 19 => {
                let index = self.below(self.first.len() as u64) as usize;
                let mut keys = self.first[index].good.clone();
                self.spoil(&mut keys);
                self.first[index].is_good = false;
                keys.insert(self.first[index].key.to_owned(), self.first[index].name.clone().into());
                self.step(at, "link", keys);
            }
            20 | 21 => {
                let index = self.below(self.first.len() as u64) as usize;
                let place = table([(self.first[index].key, self.first[index].name.clone().into())]);
                self.step(at, "link_down", place.clone());
                let up = at + self.pick(&[20, 700, 2_000, 8_000, 35_000]);
                self.step(up, "link_up", place);
            }
            22 | 23 => {
                // The node is gone for a while, or until the end.
                let node = NODES[self.below(nodes) as usize];
                let stop = self.perhaps_in_order(table([("node", node.into())]));
                self.step(at, "stop", stop);
                if !self.one_in(3) {
                    let back = at + self.pick(&[700, 8_000, 40_000]);
                    self.step(back, "restart", table([("what", node.into())]));
                }
            }
            24 => {
                // Revocation is final, and nothing can be demanded of revoked nodes, so it is rare.
                if self.one_in(2) {
                    let node = NODES[self.below(nodes) as usize];
                    self.step(at, "revoke", table([("node", node.into())]));
                }
            }
            25 | 26 => {
                let what = self.role(nodes);
                let restart = self.perhaps_in_order(table([("what", what.into())]));
                self.step(at, "restart", restart);
            }
            27 | 28 => {
                let (what, ms) = (self.role(nodes), self.pick(&[200, 1_000, 3_000, 10_000, 35_000]));
                // Derived from the seed and not drawn, so that later draws stay as they were: half of them suspend the
                // whole machine.
                let mut keys = table([("what", what.into()), ("ms", int(ms))]);
                match (self.seed / 3 + at) % 4 {
                    0 => self.step(at, "suspend", keys),
                    1 => {
                        keys.insert("clock".to_owned(), "monotonic".into());
                        self.step(at, "suspend", keys);
                    }
                    _ => self.step(at, "pause", keys),
                }
            }
            29 | 30 => {
                // From now on the end of a certificate is not known exactly.
                if !self.has("expire") {
                    let (what, step) = (self.role(nodes), self.pick(&CLOCKS_S));
                    self.step(at, "clock", table([("what", what.into()), ("step_s", step.into())]));
                }
            }
            33 | 34 => self.interface(at, nodes, sites),
            35 | 36 => self.rebinding(at, nodes),
            37..=39 => self.bad_path(at, sites),
            40 | 41 => {
                let rules = self.rules();
                self.step(at, "rules", rules);
            }
            31 => {
                self.step(at, "disk_full", Table::new());
                let free = at + self.pick(&[20, 2_000, 8_000, 35_000]);
                self.step(free, "disk_free", Table::new());
            }
            _ => {
                let node = NODES[self.below(nodes) as usize];
                let ends = self.one_in(2) && !self.has("clock");
                if ends {
                    self.step(at, "expire", table([("node", node.into())]));
                }
                if !ends || !self.one_in(3) {
                    let renewed = at + self.pick(&[0, 700, 8_000, 40_000]);
                    let mut keys = table([("node", node.into())]);
                    if self.one_in(2) {
                        keys.insert("running".to_owned(), true.into());
                    }
                    self.step(renewed, "renew", keys);
                }
            }
        }
    }

    /// One restart or stop in three is graceful.
    pub(super) fn perhaps_in_order(&mut self, mut keys: Table) -> Table {
        if self.one_in(3) {
            keys.insert("graceful".to_owned(), true.into());
        }
        keys
    }

    pub(super) fn any(&mut self, indices: &[usize]) -> Option<Place> {
        let index = *indices.get(self.below(indices.len() as u64) as usize)?;
        Some(self.first[index].clone())
    }

    /// A service, or one of the first nodes.
    pub(super) fn role(&mut self, nodes: u64) -> &'static str {
        let (service, node) = (self.pick(&SERVICES), NODES[self.below(nodes) as usize]);
        if self.one_in(3) { node } else { service }
    }

    /// Whether such a step was drawn.
    fn has(&self, action: &str) -> bool {
        self.steps.iter().any(|(_, step)| is(step, action))
    }

    /// Ends all faults after the last event. Gives the time at which the network must have recovered.
    fn peace(&mut self, at: u64) -> u64 {
        let at = self.steps.iter().map(|(at, step)| at + 1 + lasts_ms(step)).max().unwrap_or(0).max(at);
        let walls: Vec<String> =
            self.steps.iter().filter(|(_, step)| is(step, "firewall")).map(|(_, s)| site(s)).collect();
        for place in self.first.clone() {
            if !place.is_good {
                let mut keys = place.good.clone();
                keys.insert(place.key.to_owned(), place.name.clone().into());
                self.step(at, "link", keys);
            }
            if let Some(firewall) = place.firewall.filter(|_| walls.contains(&place.name)) {
                let mut keys = firewall;
                keys.insert("site".to_owned(), place.name.into());
                self.step(at, "firewall", keys);
            }
        }
        for path in std::mem::take(&mut self.bad_paths) {
            self.step(at, "path", path);
        }
        self.everybody_somewhere(at);
        let healed = at + HEALING.as_millis() as u64;
        self.step(at, "wait", table([("ms", int(HEALING.as_millis() as u64))]));
        healed
    }
}

fn is(step: &Table, action: &str) -> bool {
    step.get("do").and_then(Value::as_str) == Some(action)
}

fn site(step: &Table) -> String {
    step.get("site").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The least duration of a step.
fn lasts_ms(step: &Table) -> u64 {
    let ms = step.get("ms").filter(|_| is(step, "pause") || is(step, "suspend")).and_then(Value::as_integer);
    ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default()
}
