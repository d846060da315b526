//! Allocates prefixes and addresses.
//!
//! Prefixes come from the ranges for documentation and benchmarks (RFC 5737, RFC 3849, RFC 2544), so that no capture
//! can be mistaken for traffic of the real Internet. They are given out in the order of the sites, and skip those that
//! the file names. Nodes are numbered within their sites in the order in which they first arrive.

use std::net::{Ipv4Addr, Ipv6Addr};

use cyphonic_core::route::is_private;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Problem;

/// The range of virtual IPv4 addresses.
pub const VIRTUAL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 16);
/// The range of virtual IPv6 addresses.
pub const VIRTUAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0), 64);
/// The prefix of the services' IPv4 addresses.
pub const SERVICES_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);
/// The prefix of the services' IPv6 addresses; the NMS is `::3`, as in the paper's experiment.
pub const SERVICES_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 64);

/// The addresses between a carrier's NAT and the sites behind it (RFC 6598).
pub const CARRIER_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// The default prefix of IPv4 addresses behind a NAT64 (RFC 6052 §2.1).
pub const NAT64_PREFIX: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Prefixes of global IPv4 are taken from these ranges, in this order.
const V4_POOLS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 19, 0, 0), 16),
];
/// The length of prefixes of global IPv4: each has room for 14 hosts, and there are enough for a hundred sites.
const V4_LENGTH: u8 = 28;
/// The number of a site's router, or of its NAT's inner side, within its prefixes.
pub(crate) const ROUTER: u32 = 1;

/// The global prefixes that are in use, with their owners.
pub(crate) struct Prefixes {
    taken: Vec<(IpNet, String)>,
}

impl Prefixes {
    /// The prefixes of the services and of the overlay.
    pub(crate) fn new() -> Self {
        let services = "AS, NMS and TRS";
        let nodes = "the nodes' virtual addresses";
        let taken = [
            (SERVICES_V4.into(), services),
            (SERVICES_V6.into(), services),
            (VIRTUAL_V4.into(), nodes),
            (VIRTUAL_V6.into(), nodes),
        ];
        Self { taken: taken.into_iter().map(|(net, owner): (IpNet, _)| (net, owner.to_owned())).collect() }
    }

    /// Gives a prefix that the file names to its owner, such as `the site "a"`.
    pub(crate) fn claim(&mut self, prefix: impl Into<IpNet>, owner: &str) -> Result<(), Problem> {
        let prefix = prefix.into();
        self.check(prefix)?;
        self.taken.push((prefix, owner.to_owned()));
        Ok(())
    }

    /// Checks that a prefix does not overlap one in use.
    pub(crate) fn check(&self, prefix: IpNet) -> Result<(), Problem> {
        match self.taken.iter().find(|(other, _)| overlap(prefix, *other)) {
            Some((other, owner)) => Err(Problem::Overlap { prefix, other: *other, owner: owner.clone() }),
            None => Ok(()),
        }
    }

    /// The next free prefix of global IPv4.
    pub(crate) fn next_v4(&mut self, owner: &str) -> Result<Ipv4Net, Problem> {
        let carved = V4_POOLS.iter().flat_map(|pool| pool.subnets(V4_LENGTH).into_iter().flatten());
        carved.into_iter().find(|prefix| self.claim(*prefix, owner).is_ok()).ok_or(Problem::NoPrefixLeft("global IPv4"))
    }

    /// The next free prefix of IPv6.
    pub(crate) fn next_v6(&mut self, owner: &str) -> Result<Ipv6Net, Problem> {
        (1..=u16::MAX)
            .map(|n| Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64))
            .find(|prefix| self.claim(*prefix, owner).is_ok())
            .ok_or(Problem::NoPrefixLeft("IPv6"))
    }
}

/// Whether two prefixes share an address.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The LAN of the site with this index, behind its NAT. Indices stay below [`crate::MAX_SITES`].
pub(crate) fn lan(site: usize) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, site as u8 + 1, 0), 24)
}

/// The IPv6 LAN of the site with this index, behind its translator: a prefix that RFC 4193 leaves to the site.
pub(crate) fn lan_v6(site: usize, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, site as u16 + 1, 0, 0, 0, 0, 0), length).trunc()
}

/// The prefix between the NAT of the site with this index and the carrier's NAT.
pub(crate) fn behind_carrier(site: usize) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, site as u8, 0), V4_LENGTH)
}

/// The addresses of the carrier with this index towards its sites; its ICMPv6 errors come from the services' prefix.
pub(crate) fn carrier_inside(carrier: usize) -> (Ipv4Addr, Ipv6Addr) {
    let v6 = host_v6(SERVICES_V6, 0x1000 + carrier as u32).unwrap_or(SERVICES_V6.network());
    (Ipv4Addr::new(100, 127, 255, 1), v6)
}

/// A host of a prefix, by number; neither the network's address nor broadcast.
pub(crate) fn host_v4(prefix: Ipv4Net, number: u32) -> Option<Ipv4Addr> {
    let address = u32::from(prefix.network()).checked_add(number)?;
    (number > 0 && address < u32::from(prefix.broadcast())).then(|| address.into())
}

/// A host of a prefix, by number.
pub(crate) fn host_v6(prefix: Ipv6Net, number: u32) -> Option<Ipv6Addr> {
    let address = Ipv6Addr::from(u128::from(prefix.network()).checked_add(u128::from(number))?);
    prefix.contains(&address).then_some(address)
}

/// The address of the site's router or NAT on its LAN.
pub(crate) fn router_v4(prefix: Ipv4Net) -> Ipv4Addr {
    host_v4(prefix, ROUTER).unwrap_or(prefix.network())
}

/// The address of the site's router on its LAN.
pub(crate) fn router_v6(prefix: Ipv6Net) -> Ipv6Addr {
    host_v6(prefix, ROUTER).unwrap_or(prefix.network())
}

/// Reads an IPv4 prefix of a site.
pub(crate) fn parse_v4(text: &str, private: bool) -> Result<Ipv4Net, Problem> {
    let example = if private { "192.168.7.0/24" } else { "203.0.113.16/28" };
    let bad = || Problem::BadPrefix { found: text.to_owned(), family: "IPv4", example };
    let prefix: Ipv4Net = text.parse().map_err(|_| bad())?;
    check_shape(prefix.into(), 8, 30)?;
    let ends = [prefix.network(), prefix.broadcast()];
    let strange =
        ends.iter().any(|a| a.is_loopback() || a.is_link_local() || a.octets()[0] == 0 || a.octets()[0] >= 224);
    match private {
        true if !ends.iter().all(|a| is_private((*a).into())) => Err(Problem::NotPrivate(prefix.into())),
        false if strange || ends.iter().any(|a| is_private((*a).into())) => Err(Problem::NotGlobal(prefix.into())),
        _ => Ok(prefix),
    }
}

/// Reads an IPv6 prefix of a site.
pub(crate) fn parse_v6(text: &str, private: bool) -> Result<Ipv6Net, Problem> {
    let example = if private { "fd00:0:7::/64" } else { "2001:db8:7::/64" };
    let prefix = parse_any_v6(text, example)?;
    check_shape(prefix.into(), 16, 120)?;
    // Unique local (RFC 4193 §3.1), or global unicast as IANA assigns it (RFC 4291 §2.4).
    let first = prefix.network().segments()[0];
    match private {
        true if first >> 8 != 0xfd => Err(Problem::NotUniqueLocal(prefix.into())),
        false if first >> 13 != 1 => Err(Problem::NotGlobal(prefix.into())),
        _ => Ok(prefix),
    }
}

/// Reads the prefix of a NAT64 (RFC 6052 §2.2; a /96 only).
pub(crate) fn parse_nat64(text: &str) -> Result<Ipv6Net, Problem> {
    let prefix = parse_any_v6(text, "64:ff9b::/96")?;
    let network = prefix.network();
    let is_odd = network.is_unspecified() || network.is_multicast() || network.is_unicast_link_local();
    if prefix.prefix_len() != 96 || prefix.addr() != network || is_odd {
        return Err(Problem::Nat64Prefix(prefix.into()));
    }
    Ok(prefix)
}

fn parse_any_v6(text: &str, example: &'static str) -> Result<Ipv6Net, Problem> {
    text.parse().map_err(|_| Problem::BadPrefix { found: text.to_owned(), family: "IPv6", example })
}

fn check_shape(prefix: IpNet, least: u8, most: u8) -> Result<(), Problem> {
    if prefix.addr() != prefix.network() {
        return Err(Problem::HostBits(prefix.trunc()));
    }
    let found = prefix.prefix_len();
    if !(least..=most).contains(&found) {
        return Err(Problem::PrefixLength { found, least, most });
    }
    Ok(())
}
