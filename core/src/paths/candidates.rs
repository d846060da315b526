//! Candidates: the addresses at which a peer may be reached, each with the address of ours to send from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Most candidates of one peer. Two interfaces in both families, an inside address and two relays give twelve.
pub const MAX_CANDIDATES: usize = 16;
/// Candidates that are reserved for relays, however many direct ones there are.
const FOR_RELAYS: usize = 4;

/// A pair of addresses: one of ours, and one of the peer's or of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Our address and port.
    pub local: SocketAddr,
    /// Where datagrams are sent; of the same family as `local`.
    pub remote: SocketAddr,
}

/// The kind of a candidate. At equal round trips the first kind in this order is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Inside the one network that both nodes are in.
    Inside,
    /// IPv6.
    V6,
    /// IPv4.
    V4,
    /// IPv4, reached by IPv6 through a NAT64 (RFC 6052).
    Nat64,
    /// Through a TRS.
    Relay,
}

/// A way by which the peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The pair of addresses.
    pub way: Way,
    /// Its kind.
    pub kind: Kind,
}

/// An address of the peer, as the NMS or the peer itself announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// An address inside the network, if the NMS sees both nodes behind the same NAT.
    Inside(SocketAddr),
    /// The address at which the NMS sees the peer.
    Seen(SocketAddr),
    /// A TRS to which the peer has a leg.
    Relay(SocketAddr),
}

/// Every pair of one of our addresses and one of the peer's announced ones: at most [`MAX_CANDIDATES`], the preferred
/// kinds first.
///
/// Every interface takes part, also if two have addresses of one family. An IPv4 address is reached through the NAT64
/// with the prefix `nat64` only if we have no IPv4 address.
pub fn pair(locals: &[SocketAddr], nat64: Option<Ipv6Addr>, announced: &[Announced]) -> Vec<Candidate> {
    let has_v4 = locals.iter().any(SocketAddr::is_ipv4);
    let mut all: Vec<Candidate> = Vec::new();
    for place in announced {
        let (Announced::Inside(at) | Announced::Seen(at) | Announced::Relay(at)) = *place;
        let translated = nat64.filter(|_| at.is_ipv4() && !has_v4).and_then(|prefix| through(prefix, at));
        let remote = translated.unwrap_or(at);
        let kind = match place {
            Announced::Inside(_) => Kind::Inside,
            Announced::Relay(_) => Kind::Relay,
            Announced::Seen(_) if translated.is_some() => Kind::Nat64,
            Announced::Seen(at) if at.is_ipv4() => Kind::V4,
            Announced::Seen(_) => Kind::V6,
        };
        for &local in locals.iter().filter(|local| local.is_ipv4() == remote.is_ipv4()) {
            let way = Way { local, remote };
            if all.iter().all(|other| other.way != way) {
                all.push(Candidate { way, kind });
            }
        }
    }
    // A stable sort: within a kind, the order of the announcements and of our addresses stays.
    all.sort_by_key(|candidate| candidate.kind);
    let (mut direct, mut relayed): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.kind != Kind::Relay);
    relayed.truncate(FOR_RELAYS);
    direct.truncate(MAX_CANDIDATES - relayed.len());
    direct.append(&mut relayed);
    direct
}

/// An IPv4 address as a NAT64 translates it (RFC 6052 §2.2, a prefix of 96 bits).
fn through(prefix: Ipv6Addr, place: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V4(v4) = place.ip() else { return None };
    let mut octets = prefix.octets();
    octets[12..].copy_from_slice(&v4.octets());
    Some(SocketAddr::new(IpAddr::V6(octets.into()), place.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_interface_takes_part_and_the_kinds_are_in_order() {
        let locals = [at("192.168.1.5:443"), at("10.9.0.5:443"), at("[2001:db8::5]:443")];
        let announced = [
            Announced::Relay(at("203.0.113.9:443")),
            Announced::Seen(at("198.51.100.7:1024")),
            Announced::Seen(at("[2001:db8:7::7]:443")),
            Announced::Inside(at("192.168.1.7:443")),
        ];
        let found = pair(&locals, Some("64:ff9b::".parse().unwrap()), &announced);
        let table: Vec<_> = found.iter().map(|c| (c.kind, c.way.local.to_string(), c.way.remote.to_string())).collect();
        let expected = [
            (Kind::Inside, "192.168.1.5:443", "192.168.1.7:443"),
            (Kind::Inside, "10.9.0.5:443", "192.168.1.7:443"),
            (Kind::V6, "[2001:db8::5]:443", "[2001:db8:7::7]:443"),
            (Kind::V4, "192.168.1.5:443", "198.51.100.7:1024"),
            (Kind::V4, "10.9.0.5:443", "198.51.100.7:1024"),
            (Kind::Relay, "192.168.1.5:443", "203.0.113.9:443"),
            (Kind::Relay, "10.9.0.5:443", "203.0.113.9:443"),
        ];
        assert_eq!(table, expected.map(|(kind, local, remote)| (kind, local.to_string(), remote.to_string())));
    }

    #[test]
    fn a_node_without_ipv4_reaches_ipv4_through_the_nat64() {
        let announced = [Announced::Seen(at("192.0.2.33:443")), Announced::Relay(at("192.0.2.34:443"))];
        let found = pair(&[at("[2001:db8::5]:443")], Some("64:ff9b::".parse().unwrap()), &announced);
        let table: Vec<_> = found.iter().map(|c| (c.kind, c.way.remote)).collect();
        assert_eq!(
            table,
            [(Kind::Nat64, at("[64:ff9b::192.0.2.33]:443")), (Kind::Relay, at("[64:ff9b::192.0.2.34]:443"))]
        );
        assert_eq!(pair(&[at("[2001:db8::5]:443")], None, &announced), []);
    }

    #[test]
    fn many_direct_candidates_leave_room_for_the_relays() {
        let seen = (1..=40).map(|n| Announced::Seen(at(&format!("198.51.100.{n}:443"))));
        let relays = (1..=9).map(|n| Announced::Relay(at(&format!("203.0.113.{n}:443"))));
        let announced: Vec<_> = seen.chain(relays).collect();
        let found = pair(&[at("10.0.0.1:443")], None, &announced);
        let relays = found.iter().filter(|c| c.kind == Kind::Relay).count();
        assert_eq!((found.len(), relays), (MAX_CANDIDATES, FOR_RELAYS));
    }

    #[test]
    fn a_place_that_is_announced_twice_is_one_candidate() {
        let place = Announced::Seen(at("198.51.100.7:443"));
        assert_eq!(pair(&[at("10.0.0.1:443")], None, &[place, place]).len(), 1);
    }
}
