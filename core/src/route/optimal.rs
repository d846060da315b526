//! `policy = "optimal"`: a direct path wherever one is possible, dialed by the right node; a relay elsewhere. The
//! policy is this project's own.
//!
//! The NMS knows one [`Reach`] of a node for each address family: the external address, and the mapping and filtering
//! (RFC 4787) of all NATs and firewalls in front of the node together. Nodes learn these by probes from several
//! addresses and ports, in the manner of RFC 5780 (`node::survey`, `nms::survey`).
//!
//! The dialer sends first. A dialer D reaches a listener L if three things hold:
//!
//! 1. **Egress.** D's firewall lets it send to L's port.
//! 2. **The answer.** L's answer reaches D. If L's mapping depends on the destination, the answer comes from a port
//!    that D did not dial. Address-and-port-dependent filtering in front of D drops such an answer. Other filtering
//!    lets it in. D accepts it once L has proved itself, as ICE accepts a peer-reflexive candidate (RFC 8445 §7.3.1.3).
//! 3. **Filtering at L.** Either nothing filters in front of L, or L has sent a packet to D before (L *punches*). To
//!    punch, L must know D's address, and with address-and-port-dependent filtering D's port too. If L's mapping
//!    depends on the destination, a punch opens another port than the dialed one, and does not help.
//!
//! If one of these is not known, the verdict is [`Verdict::Perhaps`]: the pair is relayed, and tries directly
//! meanwhile.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Choice, Dialer, Pattern};

/// Most addresses that a node is told to dial or to punch at. The limit is needed because the NMS cannot check the
/// inner addresses that a peer reports.
pub const MAX_CANDIDATES: usize = 6;

/// How the external address and port of a node depend on the destination (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Neither depends on it, or there is no NAT.
    Independent,
    /// The port depends on it.
    Port,
    /// Port and address depend on it: a NAT has several addresses and does not pair them with inner hosts.
    Address,
}

/// The filtering behaviour (RFC 4787 §5): which sources may send to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// All sources.
    Independent,
    /// Addresses to which the node has sent, from any port.
    Address,
    /// Addresses and ports to which the node has sent. Stateful firewalls filter in this way.
    AddressAndPort,
}

/// What a node has learnt of its network in one address family. `None` where the probes gave no result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// How the node's external address depends on the destination.
    pub mapping: Option<Mapping>,
    /// Which sources may send to the node.
    pub filtering: Option<Filtering>,
    /// A packet that the node sends to its own external address comes back, with that address as its source.
    pub hairpin: bool,
    /// The node may send to ports other than the protocol's own.
    pub any_port: bool,
}

/// A node in one address family, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The node's external address, as the NMS sees it.
    pub seen: SocketAddr,
    /// The external address is none of the node's own: a NAT translates.
    pub translated: bool,
    /// The result of the node's survey; `None` until the node has reported it.
    pub behaviour: Option<Behaviour>,
}

/// All that the NMS knows of a node's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The node by IPv6.
    pub v6: Option<Reach>,
    /// The node by IPv4, perhaps through a NAT64.
    pub v4: Option<Reach>,
    /// The node's own addresses behind its NAT, by which its neighbours can reach it.
    pub inside: Vec<SocketAddr>,
}

impl Sight {
    /// The reach in the family of `address`.
    pub fn family(&mut self, address: IpAddr) -> &mut Option<Reach> {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// A way by which two nodes may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Inside the network that both nodes are in.
    Inside,
    /// Over IPv6.
    V6,
    /// Over IPv4.
    V4,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside => "inside",
            Self::V6 => "IPv6",
            Self::V4 => "IPv4",
        })
    }
}

/// Whether a way leads from dialer to listener. The order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does, by all that the NMS knows.
    Yes,
    /// Both nodes seem to be in one network.
    Likely,
    /// It may. The nodes try it while the relay carries their packets.
    Perhaps(Doubt),
    /// It does not.
    No(Refusal),
}

/// Why it is not certain whether a way works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The survey of the dialer's network is not finished, or had no result.
    DialerUnknown,
    /// The survey of the listener's network is not finished, or had no result.
    ListenerUnknown,
    /// The listener's mapping depends on the destination, and nothing filters there. The dialer's network filters. The
    /// way works if the listener's NAT sends a reply by the mapping by which the request came.
    ReplyMayReturn,
    /// The listener's mapping depends on the destination, and its filtering is address-dependent. If these are two NATs
    /// and the inner one filters, the listener's punch opens that filter for packets to the known port.
    FilterMayBeInside,
    /// Both nodes are behind one NAT. It is not known whether that NAT supports hairpinning.
    HairpinUnknown,
    /// The dialer's firewall does not let it send to the listener's port. The way works if the firewall takes the
    /// packet for an answer to the listener's punch.
    Egress,
    /// The listener must punch, or it answers from another port, but its firewall does not let it send to the dialer's
    /// port. The way works if the punch opens a filter before the firewall drops it, or if the firewall takes the
    /// listener's packet for an answer.
    CannotPunch,
}

/// Why a way leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The listener's external port depends on the destination.
    ListenerMoves,
    /// The listener must punch, but the dialer's external port is not known before the dialer dials.
    DialerMoves,
    /// Both nodes are behind one NAT, which does not support hairpinning.
    NoHairpin,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::Likely => "likely: both are seen at one address",
            Self::Perhaps(Doubt::DialerUnknown) => "perhaps: the dialer's network is not known",
            Self::Perhaps(Doubt::ListenerUnknown) => "perhaps: the listener's network is not known",
            Self::Perhaps(Doubt::ReplyMayReturn) => {
                "perhaps: the listener's NAT may answer by the mapping it was asked by"
            }
            Self::Perhaps(Doubt::FilterMayBeInside) => {
                "perhaps: the listener may be behind two NATs, of which the inner one filters"
            }
            Self::Perhaps(Doubt::HairpinUnknown) => "perhaps: one NAT for both, which may turn packets around",
            Self::Perhaps(Doubt::Egress) => {
                "perhaps: the dialer may not send to the listener's port, but may answer its punch"
            }
            Self::Perhaps(Doubt::CannotPunch) => {
                "perhaps: the listener must send first or from another port, and may not send to the dialer's port"
            }
            Self::No(Refusal::ListenerMoves) => "no: the listener's NAT gives it another port for each destination",
            Self::No(Refusal::DialerMoves) => {
                "no: the listener must punch to a port that the dialer's NAT has not chosen yet"
            }
            Self::No(Refusal::NoHairpin) => "no: both are behind one NAT, which does not turn packets around",
        })
    }
}

/// A way that was considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The node that would dial.
    pub dialer: Dialer,
    /// The way.
    pub way: Way,
    /// The address that the dialer would dial.
    pub listener: SocketAddr,
    /// The dialer's address, as the listener would see it.
    pub from: SocketAddr,
    /// Of an inside way: the public address behind which both nodes are.
    outside: Option<IpAddr>,
    /// The listener punches at `from`. It does so only where that is needed: some NATs map by destination, but send a
    /// reply by the mapping by which the request came. There a punch would make another mapping.
    pub punches: bool,
    /// Whether the way works.
    pub verdict: Verdict,
    /// No NAT translates either node's address on this way.
    plain: bool,
    /// The listener answers from another port than the dialed one.
    pub moves: bool,
}

impl Considered {
    /// Of an inside way: the public address of the network, and the listener's address in it.
    pub fn inside(&self) -> Option<(IpAddr, IpAddr)> {
        let unseen = IpAddr::from([0, 0, 0, 0]);
        (self.way == Way::Inside).then_some((self.outside.unwrap_or(unseen), self.listener.ip()))
    }
}

/// Every way between two nodes with its dialer, best first. `port` is the protocol's own.
///
/// The criteria of the order, most important first:
///
/// 1. Certain ways come before doubtful ones.
/// 2. The listener answers from the dialed port.
/// 3. The dialer is the paper's: the node behind the NAT if only one node is behind one, otherwise the initiator.
/// 4. Inside, then IPv6, then IPv4.
pub fn consider(initiator: &Sight, responder: &Sight, port: u16) -> Vec<Considered> {
    let mut ways = Vec::new();
    for dialer in [Dialer::Initiator, Dialer::Responder] {
        let (d, l) = match dialer {
            Dialer::Initiator => (initiator, responder),
            Dialer::Responder => (responder, initiator),
        };
        let mut outside = None;
        for (way, d_reach, l_reach) in [(Way::V6, &d.v6, &l.v6), (Way::V4, &d.v4, &l.v4)] {
            let (Some(d), Some(l)) = (d_reach, l_reach) else { continue };
            let shared = d.translated && l.translated && d.seen.ip() == l.seen.ip();
            outside = outside.or(shared.then_some(l.seen.ip()));
            let verdict = match dial(d, l, port) {
                open @ (Verdict::Yes | Verdict::Likely | Verdict::Perhaps(_)) if shared => through_one_nat(d, l, open),
                other => other,
            };
            let plain = !d.translated && !l.translated;
            let moves = l.behaviour.is_some_and(|b| b.mapping.is_some_and(|m| m != Mapping::Independent));
            let punches = l.behaviour.and_then(|b| b.filtering) != Some(Filtering::Independent)
                || verdict == Verdict::Perhaps(Doubt::Egress);
            let (listener, from, outside) = (l.seen, d.seen, None);
            ways.push(Considered { dialer, way, listener, from, outside, punches, verdict, plain, moves });
        }
        // An inside address cannot be validated. So it is told only if both nodes are behind one public address. Then
        // an address that a node invents is one in its own network.
        for &listener in l.inside.iter().filter(|_| outside.is_some() || defect!(NamedAddressBelieved)) {
            let neighbour = d.inside.iter().find(|a| a.is_ipv4() == listener.is_ipv4() && a.ip() != listener.ip());
            let Some(&from) = neighbour else { continue };
            let (way, verdict, punches, plain, moves) = (Way::Inside, Verdict::Likely, false, false, false);
            ways.push(Considered { dialer, way, listener, from, outside, punches, verdict, plain, moves });
        }
    }
    let natted = |sight: &Sight| [sight.v6, sight.v4].into_iter().flatten().all(|reach| reach.translated);
    let preferred = if natted(responder) && !natted(initiator) { Dialer::Responder } else { Dialer::Initiator };
    ways.sort_by_key(|w| (rank(w.verdict), w.moves, w.dialer != preferred, w.way));
    ways
}

/// Whether `d` can dial `l` in one family.
fn dial(d: &Reach, l: &Reach, port: u16) -> Verdict {
    let Some(db) = d.behaviour else { return Verdict::Perhaps(Doubt::DialerUnknown) };
    let Some(lb) = l.behaviour else { return Verdict::Perhaps(Doubt::ListenerUnknown) };
    let returns = match (lb.mapping, lb.filtering) {
        (Some(Mapping::Independent), _) => None,
        (Some(Mapping::Port), Some(Filtering::Independent))
            if matches!(db.filtering, Some(Filtering::Independent | Filtering::Address)) =>
        {
            None
        }
        (Some(Mapping::Address), Some(Filtering::Independent)) if db.filtering == Some(Filtering::Independent) => None,
        // The first answer may come from the dialed address by chance. The next one will not.
        (Some(Mapping::Address), Some(Filtering::Independent)) if db.filtering == Some(Filtering::Address) => {
            return Verdict::No(Refusal::ListenerMoves);
        }
        (Some(Mapping::Port | Mapping::Address), Some(Filtering::Independent)) => Some(Doubt::ReplyMayReturn),
        // If the dialer's mapping does not depend on the destination, the other node dials, and this way is not needed.
        (Some(mapping), Some(Filtering::Address))
            if db.mapping.is_some_and(|dialers| dialers != Mapping::Independent)
                && (db.filtering == Some(Filtering::Independent)
                    || db.filtering == Some(Filtering::Address) && mapping == Mapping::Port) =>
        {
            Some(Doubt::FilterMayBeInside)
        }
        (Some(Mapping::Port | Mapping::Address), _) => return Verdict::No(Refusal::ListenerMoves),
        (None, _) => Some(Doubt::ListenerUnknown),
    };
    let Some(filtering) = lb.filtering else { return Verdict::Perhaps(Doubt::ListenerUnknown) };
    // A node whose survey had no result may still be able to send to all ports.
    let limited = |b: &Behaviour| !b.any_port && (b.mapping.is_some() || b.filtering.is_some());
    let egress = (limited(&db) && l.seen.port() != port).then_some(Doubt::Egress);
    let punches = filtering != Filtering::Independent;
    let moves = lb.mapping.is_some_and(|mapping| mapping != Mapping::Independent);
    let stopped = ((punches || moves) && limited(&lb) && d.seen.port() != port).then_some(Doubt::CannotPunch);
    let doubt = returns.or(egress).or(stopped);
    match (filtering, db.mapping) {
        (Filtering::Independent, _)
        | (Filtering::Address, Some(Mapping::Independent | Mapping::Port))
        | (Filtering::AddressAndPort, Some(Mapping::Independent)) => doubt.map_or(Verdict::Yes, Verdict::Perhaps),
        (Filtering::Address | Filtering::AddressAndPort, None) => Verdict::Perhaps(Doubt::DialerUnknown),
        (Filtering::Address, Some(Mapping::Address))
        | (Filtering::AddressAndPort, Some(Mapping::Port | Mapping::Address)) => Verdict::No(Refusal::DialerMoves),
    }
}

/// Both nodes are seen at one address, so the NAT that has it must support hairpinning.
fn through_one_nat(d: &Reach, l: &Reach, open: Verdict) -> Verdict {
    match (d.behaviour, l.behaviour) {
        // A node behind a strict filter cannot observe hairpinning, but the other node may have observed it.
        (Some(d), Some(l)) if d.hairpin || l.hairpin => open,
        (Some(d), Some(l)) if d.mapping.is_some() && l.mapping.is_some() => Verdict::No(Refusal::NoHairpin),
        _ => Verdict::Perhaps(Doubt::HairpinUnknown),
    }
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Yes | Verdict::Likely => 0,
        Verdict::Perhaps(_) => 1,
        Verdict::No(_) => 2,
    }
}

/// The direct route to try now, if there is one. With `doubtful`, ways that may or may not work count too. `round` is
/// the number of this attempt of the pair, so that each doubtful dialer has its turn.
pub fn direct(ways: &[Considered], doubtful: bool, round: u8) -> Option<Choice> {
    // First each dialer with its certain ways, then each dialer with its doubtful ones too.
    let mut turns: Vec<(u8, Dialer)> = Vec::new();
    for way in ways.iter().filter(|w| rank(w.verdict) <= u8::from(doubtful)) {
        let turn = (rank(way.verdict), way.dialer);
        if !turns.contains(&turn) {
            turns.push(turn);
        }
    }
    let &(worst, dialer) = turns.get(usize::from(round) % turns.len().max(1))?;
    let mut taken: Vec<Considered> =
        ways.iter().filter(|w| w.dialer == dialer && rank(w.verdict) <= worst).copied().collect();
    taken.sort_by_key(|w| w.way);
    let plain = taken.iter().all(|w| w.plain);
    let mut listener: Vec<_> = taken.iter().map(|w| w.listener).collect();
    let mut from: Vec<_> = taken.iter().filter(|w| w.punches).map(|w| w.from).collect();
    from.dedup();
    listener.dedup();
    if defect!(CandidatesSwapped) {
        (listener, from) = (from, listener);
    }
    listener.truncate(MAX_CANDIDATES);
    from.truncate(MAX_CANDIDATES);
    let pattern = if plain { Pattern::Direct } else { Pattern::OneNat };
    let (initiator_at, responder_at) = match dialer {
        Dialer::Initiator => (from, listener),
        Dialer::Responder => (listener, from),
    };
    Some(Choice { pattern, dialer, initiator_at, responder_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 443;

    /// A node by its kind in the dialing table: public (P), firewalled (F), full cone (FC), restricted (RC),
    /// port-restricted (PR), symmetric (SY), symmetric without a filter (SO), symmetric with a filter by address (SA).
    fn site(kind: &str, host: u8) -> Sight {
        let (translated, mapping, filtering) = match kind {
            "P" => (false, Mapping::Independent, Filtering::Independent),
            "F" => (false, Mapping::Independent, Filtering::AddressAndPort),
            "SO" => (true, Mapping::Port, Filtering::Independent),
            "SA" => (true, Mapping::Port, Filtering::Address),
            "FC" => (true, Mapping::Independent, Filtering::Independent),
            "RC" => (true, Mapping::Independent, Filtering::Address),
            "PR" => (true, Mapping::Independent, Filtering::AddressAndPort),
            "SY" => (true, Mapping::Port, Filtering::AddressAndPort),
            other => panic!("{other}"),
        };
        let behaviour =
            Behaviour { mapping: Some(mapping), filtering: Some(filtering), hairpin: false, any_port: true };
        let seen = SocketAddr::from(([203, 0, 113, host], PORT));
        Sight { v4: Some(Reach { seen, translated, behaviour: Some(behaviour) }), ..Sight::default() }
    }

    fn verdict(dialer: &Sight, listener: &Sight) -> Verdict {
        dial(&dialer.v4.unwrap(), &listener.v4.unwrap(), PORT)
    }

    #[test]
    fn who_can_dial_whom_is_the_dialing_table() {
        const KINDS: [&str; 6] = ["P", "F", "FC", "RC", "PR", "SY"];
        for dialer in KINDS {
            let row: String = KINDS
                .iter()
                .map(|listener| if verdict(&site(dialer, 1), &site(listener, 2)) == Verdict::Yes { 'y' } else { '-' })
                .collect();
            // Every listener punches. So it lets a dialer in whose address and port are known before it dials.
            assert_eq!(row, if dialer == "SY" { "y-yy--" } else { "yyyyy-" }, "{dialer}");
        }
    }

    #[test]
    fn the_right_node_dials() {
        let dialer = |a: &str, b: &str| {
            direct(&consider(&site(a, 1), &site(b, 2), PORT), false, 0).map(|choice| (choice.dialer, choice.pattern))
        };
        assert_eq!(dialer("P", "P"), Some((Dialer::Initiator, Pattern::Direct)));
        assert_eq!(dialer("F", "F"), Some((Dialer::Initiator, Pattern::Direct)));
        assert_eq!(dialer("PR", "P"), Some((Dialer::Initiator, Pattern::OneNat)));
        assert_eq!(dialer("P", "PR"), Some((Dialer::Responder, Pattern::OneNat)), "as in the paper's pattern 2");
        assert_eq!(dialer("P", "SY"), Some((Dialer::Responder, Pattern::OneNat)), "only the symmetric one can");
        assert_eq!(dialer("RC", "SY"), Some((Dialer::Responder, Pattern::OneNat)));
        assert_eq!(dialer("PR", "PR"), Some((Dialer::Initiator, Pattern::OneNat)));
        assert_eq!(dialer("PR", "SY"), None);
        assert_eq!(dialer("SY", "SY"), None);
    }

    #[test]
    fn a_listener_that_moves_is_dialed_by_those_whose_filter_lets_its_answer_in() {
        let to_moving = |dialer| verdict(&site(dialer, 1), &site("SO", 2));
        for dialer in ["P", "FC", "RC", "SO", "SA"] {
            assert_eq!(to_moving(dialer), Verdict::Yes, "{dialer}");
        }
        for dialer in ["F", "PR", "SY"] {
            assert_eq!(to_moving(dialer), Verdict::Perhaps(Doubt::ReplyMayReturn), "{dialer}");
        }
        let mut pool = site("SO", 2);
        pool.v4.as_mut().unwrap().behaviour.as_mut().unwrap().mapping = Some(Mapping::Address);
        assert_eq!(verdict(&site("SO", 1), &pool), Verdict::Yes);
        assert_eq!(verdict(&site("SA", 1), &pool), Verdict::No(Refusal::ListenerMoves), "another address answers");
        assert_eq!(verdict(&site("SO", 1), &site("SA", 2)), Verdict::Perhaps(Doubt::FilterMayBeInside));
        assert_eq!(verdict(&site("SO", 1), &site("SY", 2)), Verdict::No(Refusal::ListenerMoves));
        // If one node has a mapping that does not depend on the destination, that node is dialed.
        let dialer = |a: &str, b: &str| direct(&consider(&site(a, 1), &site(b, 2), PORT), false, 0).unwrap().dialer;
        assert_eq!((dialer("FC", "SO"), dialer("SO", "FC")), (Dialer::Responder, Dialer::Initiator));
        assert_eq!((dialer("SO", "SA"), dialer("SA", "SO")), (Dialer::Responder, Dialer::Initiator));
    }

    #[test]
    fn what_is_not_known_is_tried_from_both_sides_in_turn_and_never_before_the_relay() {
        let mut unknown = site("PR", 1);
        unknown.v4.as_mut().unwrap().behaviour = None;
        let ways = consider(&unknown, &site("PR", 2), PORT);
        assert_eq!(direct(&ways, false, 0), None);
        let dialers: Vec<_> = (0..3).map(|round| direct(&ways, true, round).unwrap().dialer).collect();
        assert_eq!(dialers, [Dialer::Initiator, Dialer::Responder, Dialer::Initiator]);
    }

    #[test]
    fn who_may_send_to_the_own_port_only_needs_a_peer_that_is_seen_there() {
        let mut limited = site("F", 1);
        limited.v4.as_mut().unwrap().behaviour.as_mut().unwrap().any_port = false;
        let mut elsewhere = site("FC", 2);
        elsewhere.v4.as_mut().unwrap().seen.set_port(5000);
        assert_eq!(verdict(&limited, &site("FC", 2)), Verdict::Yes);
        assert_eq!(verdict(&limited, &elsewhere), Verdict::Perhaps(Doubt::Egress));
        assert_eq!(verdict(&elsewhere, &limited), Verdict::Perhaps(Doubt::CannotPunch));
    }

    #[test]
    fn neighbours_behind_one_nat_meet_inside_and_not_outside_unless_it_turns_packets_around() {
        let at = |host: u8| {
            let mut sight = site("PR", 9);
            sight.v4.as_mut().unwrap().seen.set_port(5000 + u16::from(host));
            sight.inside = vec![SocketAddr::from(([192, 168, 1, host], PORT))];
            sight
        };
        let ways = consider(&at(2), &at(3), PORT);
        let choice = direct(&ways, false, 0).unwrap();
        assert_eq!(choice.responder_at, ["192.168.1.3:443".parse().unwrap()]);
        let outside = ways.iter().find(|w| w.way == Way::V4).unwrap();
        assert_eq!(outside.verdict, Verdict::No(Refusal::NoHairpin));
    }
}
