//! Changes between a node and the rest of the network: its place, its NAT's ports, and single paths.

use toml::Table;

use super::{Generator, NODES, SERVICES, table};

impl Generator {
    /// A node leaves every network that it is in for another one, or the same.
    pub(super) fn moves_to(&mut self, at: u64, node: u64, to: String) {
        self.places[node as usize] = vec![to.clone()];
        self.step(at, "move", table([("node", NODES[node as usize].into()), ("to", to.into())]));
    }

    /// One of the first nodes gets an interface, or loses one, sometimes its last.
    pub(super) fn interface(&mut self, at: u64, nodes: u64, sites: u64) {
        let node = self.below(nodes);
        let to = format!("site{}", self.from(1, sites));
        let here = &self.places[node as usize];
        let (is_there, several) = (here.contains(&to), here.len() > 1);
        if is_there && (several || self.one_in(3)) {
            self.detach(at, node, &to);
        } else if !is_there {
            self.attach(at, node, to);
        }
    }

    pub(super) fn attach(&mut self, at: u64, node: u64, to: String) {
        self.places[node as usize].push(to.clone());
        self.step(at, "attach", table([("node", NODES[node as usize].into()), ("to", to.into())]));
    }

    pub(super) fn detach(&mut self, at: u64, node: u64, from: &str) {
        self.places[node as usize].retain(|place| place != from);
        self.step(at, "detach", table([("node", NODES[node as usize].into()), ("from", from.into())]));
    }

    /// A node without an interface returns to its first site.
    pub(super) fn everybody_somewhere(&mut self, at: u64) {
        for node in 0..self.places.len() {
            if self.places[node].is_empty() {
                let words = self.sheet.section("node").nth(node).expect("every node is in the sheet");
                let first = words.get("site").or_else(|| words.get("interfaces")?.get(0));
                let first = first.and_then(toml::Value::as_str).expect("every node begins somewhere").to_owned();
                self.attach(at, node as u64, first);
            }
        }
    }

    /// A NAT gives one of the first nodes other ports, towards all addresses or towards one far end.
    pub(super) fn rebinding(&mut self, at: u64, nodes: u64) {
        let node = self.below(nodes);
        let far = self.far();
        let has_nat = |site: &String| self.first.iter().any(|place| place.name == *site && place.has_nat);
        if self.places[node as usize].iter().any(has_nat) {
            let mut keys = table([("node", NODES[node as usize].into())]);
            if let Some(far) = far {
                keys.insert("to".to_owned(), far.into());
            }
            self.step(at, "rebind", keys);
        }
    }

    /// A site, a service, or `None` for all addresses.
    fn far(&mut self) -> Option<String> {
        let sites = self.sheet.section("site").count() as u64;
        match self.below(3) {
            0 => None,
            1 => Some(self.pick(&SERVICES).to_owned()),
            _ => Some(format!("site{}", self.from(1, sites))),
        }
    }

    /// Impairs the path between a site and one far end: often all packets are lost, and often only in one direction.
    pub(super) fn bad_path(&mut self, at: u64, sites: u64) {
        let site = format!("site{}", self.from(1, sites));
        let Some(far) = self.far().filter(|far| *far != site) else { return };
        let mut path = table([("site", site.into()), ("to", far.into())]);
        if self.one_in(4) {
            path.insert("family".to_owned(), self.pick(&["ipv4", "ipv6"]).into());
        }
        if !self.bad_paths.contains(&path) {
            self.bad_paths.push(path.clone());
        }
        let mut fate = Table::new();
        if self.one_in(2) {
            fate.insert("loss".to_owned(), toml::Value::Float(1.0));
        } else {
            self.spoil_way(&mut fate);
            // A path has no MTU of its own.
            for key in ["mtu", "black_hole"] {
                fate.remove(key);
            }
        }
        path.extend(fate);
        path.insert("towards".to_owned(), self.pick(&["up", "down", "both"]).into());
        self.step(at, "path", path);
    }
}
