//! Draws NATs and firewalls from the words of the scenario crate. A new word of an existing key is drawn without a
//! change here.

use cyphonic_scenarios::{Dependence, FirewallMode, Hairpin, IcmpErrors, Pooling, PortChoice, Refresh, Refusal};
use toml::{Table, Value};

use super::{Generator, int, table};

/// Every word of a key except its default, which would change nothing.
fn unlike<T: Copy + PartialEq>(default: T, all: &[T]) -> Vec<T> {
    all.iter().copied().filter(|word| *word != default).collect()
}

impl Generator {
    pub(super) fn nat(&mut self) -> Table {
        let mut nat = Table::new();
        let mut put = |key: &str, value: Value| nat.insert(key.to_owned(), value);
        put("mapping", self.pick(Dependence::ALL).name().into());
        put("filtering", self.pick(Dependence::ALL).name().into());
        if self.one_in(2) {
            put("ports", self.pick(&unlike(PortChoice::Preserve, PortChoice::ALL)).name().into());
        }
        if self.one_in(3) {
            put("hairpin", self.pick(&unlike(Hairpin::Off, Hairpin::ALL)).name().into());
        }
        if self.one_in(5) {
            put("addresses", int(self.from(2, 6)));
            put("pooling", self.pick(Pooling::ALL).name().into());
        }
        if self.one_in(3) {
            put("idle_s", int(self.pick(&[30, 60, 300])));
            put("refresh", self.pick(Refresh::ALL).name().into());
        }
        if self.one_in(10) && !self.is_drill {
            put("lifetime_s", int(self.pick(&[40, 90, 200])));
        }
        if self.one_in(20) && !self.is_drill {
            put("flush_s", int(self.pick(&[20, 60, 200])));
        }
        if self.one_in(12) && !self.is_drill {
            let key = self.pick(&["max_sessions", "max_sessions_per_host"]);
            put(key, int(self.pick(&[4, 16, 64])));
        }
        // Derived from the seed and not drawn, so that later draws stay as they were.
        if self.is_drill && (self.seed / 17).is_multiple_of(5) {
            put("max_sessions_per_host", int([4, 5, 6, 8][(self.seed / 85 % 4) as usize]));
        }
        if self.one_in(6) {
            put("reuses_inbound", true.into());
        }
        if self.one_in(6) {
            put("icmp_errors", self.pick(&unlike(IcmpErrors::Carried, IcmpErrors::ALL)).name().into());
        }
        if self.one_in(8) {
            put("fragments", false.into());
        }
        if self.one_in(6) {
            put("answers_unsolicited", true.into());
        }
        nat
    }

    pub(super) fn firewall(&mut self) -> Table {
        let reaction = self.pick(Refusal::ALL).name();
        let mut firewall = match self.below(12) {
            0..=4 => table([("mode", FirewallMode::Stateful.name().into())]),
            5 => table([("mode", self.pick(FirewallMode::ALL).name().into())]),
            6 => table([("mode", FirewallMode::Only443.name().into())]),
            7 | 8 => table([("stateful", false.into())]),
            9 => table([("egress", vec![Value::from("udp"), Value::from("tcp/443")].into())]),
            10 => {
                let rule =
                    table([("alpn", "h3".into()), ("reaction", "throttle".into()), ("rate_kbps", Value::Float(500.0))]);
                table([("inspect", vec![Value::Table(rule)].into())])
            }
            _ => {
                // The services' names or QUIC itself. Derived from the seed and not drawn, so that later draws stay as
                // they were.
                let what = if (self.seed / 11).is_multiple_of(3) {
                    ("sni", Value::from("cyphonic.test"))
                } else {
                    ("quic", true.into())
                };
                let rule = table([what, ("reaction", reaction.into())]);
                table([("inspect", vec![Value::Table(rule)].into())])
            }
        };
        if self.one_in(3) {
            firewall.insert("reaction".to_owned(), reaction.into());
        }
        firewall
    }
}
