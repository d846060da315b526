//! Which signaling pattern two nodes use, and who dials: pure functions.
//!
//! * [`Policy::Paper`]: [`table1`] is the paper's Table 1, to the letter. A dual-stack node has no row there: [`paper`]
//!   picks the family that gives the better pattern (IPv6 first, then IPv4), which is this project's decision.
//! * [`Policy::Optimal`], this project's: see [`optimal`].

pub mod optimal;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How the NMS chooses routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Table 1.
    #[default]
    Paper,
    /// From what is observed of both networks.
    Optimal,
}

/// A signaling pattern (paper §2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Both nodes reach each other directly; the initiator dials.
    Direct,
    /// One node is behind a NAT, and dials.
    OneNat,
    /// Through a TRS.
    Relayed,
}

impl Pattern {
    /// The paper's number: 1, 2 or 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::OneNat => 2,
            Self::Relayed => 3,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// Where a node is, as Table 1 distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// IPv6.
    V6,
    /// Global IPv4 (IPv4-G).
    V4Global,
    /// Private IPv4 behind a NAT (IPv4-P).
    V4Private,
}

impl fmt::Display for Location {
    /// The paper's word for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6 => "IPv6",
            Self::V4Global => "IPv4-G",
            Self::V4Private => "IPv4-P",
        })
    }
}

/// The node that sends the Tunnel Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialer {
    /// The node that asked for the route.
    Initiator,
    /// The node that was asked for.
    Responder,
}

/// Table 1 of the paper: the pattern for a pair of single-stack nodes.
pub const fn table1(initiator: Location, responder: Location) -> Pattern {
    use Location::{V4Global, V4Private, V6};
    match (initiator, responder) {
        (V6, V6) | (V4Global, V4Global) => Pattern::Direct,
        (V4Global, V4Private) | (V4Private, V4Global) => Pattern::OneNat,
        (V4Private, V4Private) | (V6, _) | (_, V6) => Pattern::Relayed,
    }
}

/// The dialer (paper Figs. 3–5, 7–9): the initiator, except in pattern 2 with the responder behind the NAT.
pub const fn dialer(pattern: Pattern, responder: Location) -> Dialer {
    match (pattern, responder) {
        (Pattern::OneNat, Location::V4Private) => Dialer::Responder,
        _ => Dialer::Initiator,
    }
}

/// What the NMS knows of a node's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// A global IPv6 address.
    pub v6: Option<SocketAddr>,
    /// The IPv4 address at which the node is seen, and whether a NAT is in front of the node.
    pub v4: Option<(SocketAddr, bool)>,
    /// The IPv6 address is only the node's word: no packet has come from it.
    pub v6_is_claimed: bool,
    /// The IPv4 address is only the node's word.
    pub v4_is_claimed: bool,
}

impl Network {
    /// The rows or columns of Table 1 that this node could stand in, IPv6 first.
    pub fn locations(&self) -> impl Iterator<Item = Location> {
        let v4 = self.v4.map(|(_, nat)| if nat { Location::V4Private } else { Location::V4Global });
        self.v6.map(|_| Location::V6).into_iter().chain(v4)
    }

    /// The node is heard at another address before it has proved this one. If it does not come back, this one stays
    /// only claimed. A claimed IPv4 address counts as one behind a NAT, so the node itself has to dial.
    pub fn left(&mut self, unproved: SocketAddr) {
        if let Some((address, nat)) = &mut self.v4
            && self.v4_is_claimed
            && *address == unproved
        {
            *nat = true;
        }
    }

    /// The node is seen at another address now. That address replaces one that was only claimed. Behind a NAT it
    /// replaces the address at which peers find the node.
    pub fn seen_at(&mut self, remote: SocketAddr) {
        if remote.is_ipv6() && std::mem::take(&mut self.v6_is_claimed) {
            self.v6 = Some(remote);
        }
        if remote.is_ipv4()
            && std::mem::take(&mut self.v4_is_claimed)
            && let Some((address, _)) = &mut self.v4
        {
            *address = remote;
        }
        if let Some((address, true)) = &mut self.v4
            && remote.is_ipv4()
        {
            *address = remote;
        }
    }

    /// Whether the node's address in the family of `address` is only claimed.
    pub fn is_claimed(&self, address: SocketAddr) -> bool {
        if address.is_ipv4() { self.v4_is_claimed } else { self.v6_is_claimed }
    }

    /// Whether two nodes are in one network: they are seen behind one public IPv4 address, and their IPv6 addresses
    /// have one /64.
    pub fn is_beside(&self, other: &Self) -> bool {
        let behind =
            |network: &Self| network.v4.filter(|(_, nat)| *nat && !network.v4_is_claimed).map(|(at, _)| at.ip());
        let prefix = |network: &Self| match network.v6?.ip() {
            IpAddr::V6(v6) => Some(v6.to_bits() >> 64),
            IpAddr::V4(_) => None,
        };
        behind(self).is_some() && behind(self) == behind(other) && prefix(self) == prefix(other)
    }

    /// The address behind a location.
    pub fn address(&self, location: Location) -> Option<SocketAddr> {
        match location {
            Location::V6 => self.v6,
            Location::V4Global | Location::V4Private => self.v4.map(|(a, _)| a),
        }
    }
}

/// What was chosen for a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The signaling pattern.
    pub pattern: Pattern,
    /// The dialer.
    pub dialer: Dialer,
    /// The initiator's addresses, best first, for the responder to dial or to punch at. Empty in pattern 3, and if the
    /// responder must not send first.
    pub initiator_at: Vec<SocketAddr>,
    /// The responder's addresses, for the initiator.
    pub responder_at: Vec<SocketAddr>,
}

impl Choice {
    /// Whether the dialer is told of this way.
    pub fn takes(&self, way: &optimal::Considered) -> bool {
        let listeners = if self.dialer == Dialer::Initiator { &self.responder_at } else { &self.initiator_at };
        self.dialer == way.dialer && listeners.contains(&way.listener)
    }

    /// Pattern 3.
    pub const fn relayed() -> Self {
        Self {
            pattern: Pattern::Relayed,
            dialer: Dialer::Initiator,
            initiator_at: Vec::new(),
            responder_at: Vec::new(),
        }
    }
}

/// `policy = "paper"`: Table 1. For dual-stack nodes it is the lowest pattern of any pair of their locations, and IPv6
/// wins a tie. Returns the choice and the two locations; `None` if a node has no address.
pub fn paper(initiator: &Network, responder: &Network) -> Option<(Choice, (Location, Location))> {
    let mut best: Option<(Pattern, Location, Location)> = None;
    for i in initiator.locations() {
        for r in responder.locations() {
            let pattern = table1(i, r);
            if best.is_none_or(|(least, ..)| pattern < least) {
                best = Some((pattern, i, r));
            }
        }
    }
    let (pattern, i, r) = best?;
    if pattern == Pattern::Relayed {
        return Some((Choice::relayed(), (i, r)));
    }
    let at = |network: &Network, location| network.address(location).into_iter().collect();
    let (initiator_at, responder_at) = (at(initiator, i), at(responder, r));
    let dialer = dialer(pattern, if defect!(WrongDialer) { i } else { r });
    Some((Choice { pattern, dialer, initiator_at, responder_at }, (i, r)))
}

/// Whether an address is private (RFC 1918, RFC 4193) or shared (RFC 6598), so that it needs a NAT to the Internet.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_private() || (a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64),
        IpAddr::V6(a) => a.is_unique_local(),
    }
}

/// Whether a reply from `from` may be the answer to a packet that was sent to `dialed`. Port and address may differ,
/// because a NAT may give the reply another port or another one of its public addresses (a pool, RFC 4787 §4.1).
///
/// A private address does not stand for a public one. Such a reply comes from a NAT that hairpins with the inner source
/// address (RFC 4787 REQ-9). The sender's own packets do not take that way.
pub fn answers_for(from: SocketAddr, dialed: SocketAddr) -> bool {
    from.ip() == dialed.ip()
        || (from.is_ipv4() == dialed.is_ipv4() && !is_private(from.ip()) && !is_private(dialed.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_left_before_its_proof_is_the_nodes_word_only() {
        let [v4, v6]: [SocketAddr; 2] = ["192.0.2.9:4501", "[2001:db8::9]:4501"].map(|text| text.parse().unwrap());
        let seen = Network { v6: Some(v6), v6_is_claimed: true, v4: Some((v4, false)), v4_is_claimed: true };
        let mut gone = seen.clone();
        gone.left(v4);
        gone.seen_at(v6);
        assert_eq!(gone.locations().collect::<Vec<_>>(), [Location::V6, Location::V4Private]);
        let mut proved = seen;
        proved.seen_at(v4);
        proved.left(v4);
        assert_eq!(proved.locations().collect::<Vec<_>>(), [Location::V6, Location::V4Global]);
    }

    #[test]
    fn an_answer_may_have_another_port_or_public_address_of_the_same_nat() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let dialed = at("203.0.113.1:443");
        assert!(answers_for(dialed, dialed) && answers_for(at("203.0.113.1:5000"), dialed));
        assert!(answers_for(at("203.0.113.2:5000"), dialed), "a pool");
        assert!(!answers_for(at("100.64.0.7:443"), dialed), "turned around without translation");
        assert!(!answers_for(at("[2001:db8::1]:443"), dialed));
        assert!(answers_for(at("192.168.1.2:7"), at("192.168.1.2:443")) && !answers_for(dialed, at("192.168.1.2:443")));
    }

    #[test]
    fn table_1_is_the_papers_to_the_letter() {
        let csv = include_str!("../../../results/paper/table1-signaling-patterns.csv");
        let parse = |s: &str| match s {
            "IPv6" => Location::V6,
            "IPv4-G" => Location::V4Global,
            "IPv4-P" => Location::V4Private,
            other => panic!("{other}"),
        };
        let mut cells = 0;
        for line in csv.lines().skip(1) {
            let [i, r, p] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(table1(parse(i), parse(r)).number().to_string(), p, "{line}");
            cells += 1;
        }
        assert_eq!(cells, 9);
    }

    #[test]
    fn only_behind_a_nat_a_node_is_where_it_was_seen_last() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let mut natted = Network { v4: Some((at("203.0.113.1:443"), true)), ..Network::default() };
        natted.seen_at(at("203.0.113.1:5000"));
        natted.seen_at(at("[2001:db8::5]:443"));
        assert_eq!(natted, Network { v4: Some((at("203.0.113.1:5000"), true)), ..Network::default() });
        let mut global = Network { v4: Some((at("203.0.113.1:443"), false)), ..Network::default() };
        global.seen_at(at("203.0.113.1:5000"));
        assert_eq!(global.v4, Some((at("203.0.113.1:443"), false)));
    }

    #[test]
    fn a_dual_stack_pair_meets_on_the_best_family() {
        let v6 = Some("[2001:db8::5]:443".parse().unwrap());
        let nat = Some(("203.0.113.1:443".parse().unwrap(), true));
        let dual = Network { v6, v4: nat, ..Network::default() };
        assert_eq!(paper(&dual, &dual).unwrap().0.pattern, Pattern::Direct);
        let global = Network { v4: Some(("198.51.100.1:443".parse().unwrap(), false)), ..Network::default() };
        let (choice, _) = paper(&global, &dual).unwrap();
        assert_eq!((choice.pattern, choice.dialer), (Pattern::OneNat, Dialer::Responder));
        assert_eq!(paper(&global, &Network::default()), None);
    }
}
