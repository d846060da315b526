//! The addresses that a node sends from, and which of them reaches which destination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::config::NodeConfig;

/// The addresses that a node sends from.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Real addresses, without a port. Empty while the node has no network.
    pub(super) addresses: Vec<IpAddr>,
    /// The UDP port on each of them.
    pub(super) port: u16,
    /// The first 96 bits of addresses that a NAT64 of the network translates (RFC 6052 §2.1).
    pub(super) nat64: Option<Ipv6Addr>,
    /// Whether IPv4 comes first, because an attempt over IPv6 failed.
    pub(super) prefer_v4: bool,
    /// Which of several addresses of one family comes first. It changes when both families have failed, or when no
    /// packet gets through from the one in use.
    pub(super) turn: usize,
}

impl Places {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let (addresses, port, nat64) = (config.addresses.clone(), config.port, config.nat64);
        Self { addresses, port, nat64, prefer_v4: false, turn: 0 }
    }

    /// The node's own address for packets to `remote`, and the address at which `remote` is reached from here, which
    /// differs behind NAT64. `None` without a common family.
    pub(super) fn towards(&self, remote: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        let remote = match remote.ip() {
            IpAddr::V4(v4) if !self.has(true) => SocketAddr::new(self.through_nat64(v4)?, remote.port()),
            _ => remote,
        };
        Some((self.local(remote.is_ipv4())?, remote))
    }

    /// The node's own address for packets of a family.
    pub(super) fn local(&self, v4: bool) -> Option<SocketAddr> {
        let of_family: Vec<IpAddr> = self.addresses.iter().copied().filter(|a| a.is_ipv4() == v4).collect();
        let local = of_family.get(self.turn.checked_rem(of_family.len())?)?;
        Some(SocketAddr::new(*local, self.port))
    }

    /// Whether there is another address of this family than the one that comes first.
    pub(super) fn has_other(&self, v4: bool) -> bool {
        self.addresses.iter().filter(|a| a.is_ipv4() == v4).count() > 1
    }

    /// Notes that an attempt failed. The other family comes first from now on. Once both have failed, other addresses
    /// do.
    pub(super) fn change(&mut self) {
        self.prefer_v4 = !self.prefer_v4;
        self.turn = self.turn.wrapping_add(usize::from(!self.prefer_v4));
    }

    /// Notes that a service at `remote`, as it is reached from here, answered to `local`. Packets to services are sent
    /// from this address and by this family first.
    pub(super) fn keep(&mut self, local: SocketAddr, remote: SocketAddr) {
        if self.has(false) && (self.has(true) || self.nat64.is_some()) {
            self.prefer_v4 = self.is_by_v4(remote);
        }
        let mut of_family = self.addresses.iter().filter(|a| a.is_ipv4() == local.is_ipv4());
        if self.local(local.is_ipv4()) != Some(local)
            && let Some(turn) = of_family.position(|&address| address == local.ip())
        {
            self.turn = turn;
        }
    }

    /// As [`Self::first`], but by another family if there is one. What a NAT64 translates counts as IPv4.
    pub(super) fn other(&self, remotes: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
        let first = self.first(remotes)?;
        let (others, by_v4) = (self.all(remotes), self.is_by_v4(first.1));
        let other_address = || {
            let turned = Self { turn: self.turn.wrapping_add(1), ..self.clone() };
            turned.towards(first.1).filter(|_| self.has_other(first.1.is_ipv4()))
        };
        others.into_iter().find(|(_, remote)| self.is_by_v4(*remote) != by_v4).or_else(other_address)
    }

    /// Every way to `remotes`: from each of the node's addresses, in the order of [`Self::all`].
    pub(super) fn every(&self, remotes: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        let mut ways = Vec::new();
        for turn in 0..self.addresses.len() {
            let turned = Self { turn: self.turn.wrapping_add(turn), ..self.clone() };
            let new: Vec<_> = turned.all(remotes).into_iter().filter(|way| !ways.contains(way)).collect();
            ways.extend(new);
        }
        ways
    }

    /// The first of `remotes` that the node has an address for, with that address. The preferred family comes first.
    pub(super) fn first(&self, remotes: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
        let preferred = remotes.iter().filter(|remote| self.prefer_v4 && remote.is_ipv4());
        preferred.chain(remotes).find_map(|&remote| self.towards(remote))
    }

    /// The order in which to try `remotes` at the `attempt`th time. Every second attempt begins with another address of
    /// each family. The family does not change here, because [`Self::prefer_v4`] changes with every failure: if both
    /// changed at once, some addresses would never have their turn.
    pub(super) fn in_turn(remotes: &[SocketAddr], attempt: usize) -> Vec<SocketAddr> {
        let is_v4_first = remotes.first().is_some_and(SocketAddr::is_ipv4);
        let (mut first, mut second): (Vec<_>, Vec<_>) = remotes.iter().partition(|r| r.is_ipv4() == is_v4_first);
        for family in [&mut first, &mut second] {
            let turn = attempt / 2 % family.len().max(1);
            family.rotate_left(turn);
        }
        first.append(&mut second);
        first
    }

    /// All of `remotes` that the node has an address for.
    pub(super) fn all(&self, remotes: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        remotes.iter().filter_map(|&remote| self.towards(remote)).collect()
    }

    /// The address of a proxy from here: one of the family of `target`, if there is one. Where one family is broken,
    /// the node asks a service by the other one. A proxy on the node's own machine is always reached.
    pub(super) fn proxy(&self, known: &[SocketAddr], target: SocketAddr) -> Option<SocketAddr> {
        let here = |&at: &SocketAddr| if at.ip().is_loopback() { Some(at) } else { Some(self.towards(at)?.1) };
        let (same, other): (Vec<_>, Vec<_>) = known.iter().partition(|at| at.is_ipv4() == target.is_ipv4());
        same.into_iter().chain(other).find_map(here)
    }

    fn has(&self, v4: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv4() == v4)
    }

    /// Whether packets to this address of a service, as it is reached from here, travel over IPv4, if only behind the
    /// NAT64 of this network.
    pub(super) fn is_by_v4(&self, remote: SocketAddr) -> bool {
        match remote.ip() {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => self.nat64.is_some_and(|prefix| prefix.octets()[..12] == v6.octets()[..12]),
        }
    }

    fn through_nat64(&self, v4: Ipv4Addr) -> Option<IpAddr> {
        let mut octets = self.nat64?.octets();
        octets[12..].copy_from_slice(&v4.octets());
        Some(IpAddr::V6(octets.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_turn_whatever_the_first_failure_was() {
        let remotes: Vec<SocketAddr> =
            ["[2001:db8::2]:443", "[2001:db8::3]:443", "192.0.2.2:443"].map(|text| text.parse().unwrap()).to_vec();
        let addresses = vec!["2001:db8::5".parse().unwrap(), "198.51.100.5".parse().unwrap()];
        for begin in 0..4 {
            let (port, nat64, prefer_v4, turn) = (443, None, false, 0);
            let mut places = Places { addresses: addresses.clone(), port, nat64, prefer_v4, turn };
            let mut tried = std::collections::BTreeSet::new();
            for attempt in begin..begin + 8 {
                tried.extend(places.first(&Places::in_turn(&remotes, attempt)).map(|(_, remote)| remote));
                places.prefer_v4 = !places.prefer_v4;
            }
            assert_eq!(tried.len(), remotes.len(), "from attempt {begin} on: {tried:?}");
        }
    }

    #[test]
    fn every_interface_has_its_turn_once_both_families_have_failed() {
        let addresses = ["192.168.1.5", "10.9.0.5", "2001:db8::5"].map(|text| text.parse().unwrap()).to_vec();
        let mut places = Places { addresses, port: 443, nat64: None, prefer_v4: false, turn: 0 };
        let remotes: [SocketAddr; 2] = ["[2001:db8::2]:443", "192.0.2.2:443"].map(|text| text.parse().unwrap());
        let mut used = Vec::new();
        for _ in 0..4 {
            used.push(places.first(&remotes).unwrap().0.ip().to_string());
            places.change();
        }
        assert_eq!(used, ["2001:db8::5", "192.168.1.5", "2001:db8::5", "10.9.0.5"]);
        assert!(places.has_other(true) && !places.has_other(false));
    }

    #[test]
    fn a_service_has_two_ways_where_a_nat64_translates_one_of_its_addresses() {
        let addresses = ["2001:db8:2::3", "2001:db8:1::2"].map(|text| text.parse().unwrap()).to_vec();
        let nat64 = Some("64:ff9b::".parse().unwrap());
        let mut places = Places { addresses, port: 443, nat64, prefer_v4: true, turn: 0 };
        let remotes: [SocketAddr; 2] = ["[2001:db8::4]:443", "192.0.2.4:443"].map(|text| text.parse().unwrap());
        let [native, translated] = [remotes[0], "[64:ff9b::192.0.2.4]:443".parse().unwrap()];
        assert_eq!(places.first(&remotes).unwrap().1, translated);
        assert_eq!(places.other(&remotes).unwrap().1, native);
        // The service answers by IPv6, so IPv6 comes first from now on.
        places.keep("[2001:db8:2::3]:443".parse().unwrap(), native);
        assert_eq!(places.first(&remotes).unwrap().1, native);
        assert_eq!(places.other(&remotes).unwrap().1, translated);
    }

    #[test]
    fn ipv4_is_reached_through_nat64_only_without_an_address_of_its_own() {
        let remote: SocketAddr = "192.0.2.33:443".parse().unwrap();
        let mut places = Places {
            addresses: vec!["2001:db8::5".parse().unwrap()],
            port: 443,
            nat64: Some("64:ff9b::".parse().unwrap()),
            prefer_v4: false,
            turn: 0,
        };
        let translated: SocketAddr = "[64:ff9b::192.0.2.33]:443".parse().unwrap();
        assert_eq!(places.towards(remote), Some(("[2001:db8::5]:443".parse().unwrap(), translated)));
        places.addresses.push("198.51.100.5".parse().unwrap());
        assert_eq!(places.towards(remote), Some(("198.51.100.5:443".parse().unwrap(), remote)));
        (places.addresses, places.nat64) = (vec!["2001:db8::5".parse().unwrap()], None);
        assert_eq!(places.towards(remote), None);
    }
}
