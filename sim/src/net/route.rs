//! Which interface leads to an address: longest prefix match, for both families.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A routing table.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    v4: Table,
    v6: Table,
}

/// The interface of routes that discard packets.
const NOWHERE: usize = usize::MAX;

/// By prefix length, longest first; within a length by the prefix's bits.
type Table = Vec<(u8, BTreeMap<u128, usize>)>;

impl Routes {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes `prefix` to `iface`, in place of any route for the same prefix.
    pub fn add(&mut self, prefix: IpNet, iface: usize) {
        let length = prefix.prefix_len();
        let key = bits(prefix.addr(), length);
        let table = self.table_mut(prefix.addr());
        let at = match table.binary_search_by(|(other, _)| length.cmp(other)) {
            Ok(at) => at,
            Err(at) => {
                table.insert(at, (length, BTreeMap::new()));
                at
            }
        };
        table[at].1.insert(key, iface);
    }

    /// The same, for building a table in one expression.
    #[must_use]
    pub fn with(mut self, prefix: IpNet, iface: usize) -> Self {
        self.add(prefix, iface);
        self
    }

    /// Discards packets to `prefix`, except to longer prefixes within it that have routes. A router needs this for the
    /// unused part of its own prefix: its default route would send such packets back to where they came from (RFC 7084
    /// WPD-5).
    #[must_use]
    pub fn discarding(self, prefix: IpNet) -> Self {
        self.with(prefix, NOWHERE)
    }

    /// Removes the route for exactly this prefix; false if there was none.
    pub fn remove(&mut self, prefix: IpNet) -> bool {
        let length = prefix.prefix_len();
        let key = bits(prefix.addr(), length);
        let table = self.table_mut(prefix.addr());
        let Ok(at) = table.binary_search_by(|(other, _)| length.cmp(other)) else { return false };
        let found = table[at].1.remove(&key).is_some();
        if table[at].1.is_empty() {
            table.remove(at);
        }
        found
    }

    /// The interface of the longest prefix that holds `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<usize> {
        let table = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let longest = table.iter().find_map(|(length, routes)| routes.get(&bits(address, *length)).copied());
        longest.filter(|&iface| iface != NOWHERE)
    }

    fn table_mut(&mut self, address: IpAddr) -> &mut Table {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// The first `length` bits of an address.
fn bits(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()), 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    };
    bits.checked_shr(width - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_in_either_family() {
        let mut routes = Routes::new()
            .with("0.0.0.0/0".parse().unwrap(), 0)
            .with("10.0.0.0/8".parse().unwrap(), 1)
            .with("10.1.0.0/16".parse().unwrap(), 2)
            .with("10.1.2.3/32".parse().unwrap(), 3)
            .with("2001:db8::/32".parse().unwrap(), 4)
            .with("2001:db8::1/128".parse().unwrap(), 5);
        let table = [
            ("192.0.2.1", Some(0)),
            ("10.9.9.9", Some(1)),
            ("10.1.9.9", Some(2)),
            ("10.1.2.3", Some(3)),
            ("2001:db8::2", Some(4)),
            ("2001:db8::1", Some(5)),
            ("2001:db9::1", None),
        ];
        for (address, iface) in table {
            assert_eq!(routes.lookup(address.parse().unwrap()), iface, "{address}");
        }
        let discarding = routes.clone().discarding("10.1.0.0/16".parse().unwrap());
        assert_eq!(discarding.lookup("10.1.9.9".parse().unwrap()), None, "the default route is not asked");
        assert_eq!(discarding.lookup("10.1.2.3".parse().unwrap()), Some(3), "what is in use is led there");
        assert!(routes.remove("10.1.2.3/32".parse().unwrap()));
        assert!(!routes.remove("10.1.2.3/32".parse().unwrap()));
        assert_eq!(routes.lookup("10.1.2.3".parse().unwrap()), Some(2));
        routes.add("10.1.0.0/16".parse().unwrap(), 9);
        assert_eq!(routes.lookup("10.1.2.3".parse().unwrap()), Some(9));
    }
}
