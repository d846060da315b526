//! Access rules: at first, and later ones.

use toml::{Table, Value};

use super::{Generator, NODES, table};

impl Generator {
    /// One plan in four has access rules from the beginning.
    pub(super) fn rules_at_first(&mut self) {
        if self.one_in(4) {
            let rules = self.rules();
            self.sheet.set("rules", rules);
        }
    }

    /// Access rules: mostly some that let many pairs talk.
    pub(super) fn rules(&mut self) -> Table {
        if self.one_in(5) {
            return table([("default", "open".into())]);
        }
        let (mut rules, mut groups) = (table([("default", "closed".into())]), Table::new());
        for group in ["left", "right"] {
            let names = self.names();
            groups.insert(group.to_owned(), names);
        }
        rules.insert("groups".to_owned(), groups.into());
        let mut allow = Vec::new();
        for _ in 0..self.from(0, 3) {
            let mut rule = table([("from", self.side()), ("to", self.side())]);
            if self.one_in(3) {
                let services = self.pick(&["icmp", "tcp", "udp", "tcp/5001", "udp/1-9", "udp/10", "tcp/80-443"]);
                let more = self.pick(&["icmp", "icmp", "tcp", "udp"]);
                rule.insert("services".to_owned(), vec![Value::from(services), Value::from(more)].into());
            }
            allow.push(Value::from(rule));
        }
        rules.insert("allow".to_owned(), allow.into());
        rules
    }

    fn names(&mut self) -> Value {
        let nodes = self.sheet.section("node").count() as u64;
        (0..self.from(1, 3)).map(|_| Value::from(NODES[self.below(nodes) as usize])).collect::<Vec<_>>().into()
    }

    /// Everybody, a group, names, or the names that begin with a letter.
    fn side(&mut self) -> Value {
        let first = &NODES[self.below(6) as usize][..1];
        match self.below(6) {
            0 | 1 => vec![Value::from("*")].into(),
            2 | 3 => vec![Value::from(self.pick(&["left", "right"]))].into(),
            4 => self.names(),
            _ => vec![Value::from(format!("{first}*"))].into(),
        }
    }
}
