//! `policy = "optimal"`: a direct path wherever there can be one, dialed by the right node; a relay elsewhere. Ours.
//!
//! A node is seen from outside as one [`Reach`] for each address family: where it is, and how what stands between (NATs
//! and firewalls, whatever their number) treats it, in the words of RFC 4787. What is needed is learnt by probes from
//! several addresses and ports, in the manner of RFC 5780 (`node::survey`, `nms::survey`).
//!
//! The dialer sends first. So for a dialer D and a listener L:
//!
//! 1. D must be allowed to send to L's port.
//! 2. L's answer must reach D. If L's mapping depends on the peer, the answer comes from a port that D did not dial. A
//!    filter in front of D that looks at ports stops it; one that looks at addresses, or none, lets it in. D accepts it
//!    once L has proved itself, as ICE accepts a peer-reflexive candidate (RFC 8445 §7.3.1.3).
//! 3. What filters in front of L must let D in: it filters nothing; or L sent something to D before (it *punches*),
//!    which needs to know D's address, and where ports count too, D's port as well. A punch from a mapping that depends
//!    on the peer opens another port than the one that is dialed.
//!
//! What is not known makes a path [`Verdict::Perhaps`]: the pair is relayed, and tries directly meanwhile.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Choice, Dialer, Pattern};

/// Most addresses that a node is told to dial, or to punch at: what a peer says of its inner addresses nobody can
/// check.
pub const MAX_CANDIDATES: usize = 6;

/// How the external address of a node depends on whom it talks to (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Not at all; or there is no NAT.
    Independent,
    /// Its port does.
    Port,
    /// Its port and its address do: a NAT with several addresses that are not paired with inner hosts.
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

/// What a node has learnt of its network in one address family. `None`: it could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// How its external address depends on the destination.
    pub mapping: Option<Mapping>,
    /// Which sources may send to it.
    pub filtering: Option<Filtering>,
    /// What it sends to its own external address comes back, from there.
    pub hairpin: bool,
    /// It may send to ports other than the protocol's own.
    pub any_port: bool,
}

/// A node in one address family, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where the NMS sees it.
    pub seen: SocketAddr,
    /// That is not an address of its own: something translates.
    pub translated: bool,
    /// What it reported; `None` as long as it has not.
    pub behaviour: Option<Behaviour>,
}

/// All that the NMS knows of a node's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// By IPv6.
    pub v6: Option<Reach>,
    /// By IPv4, through NAT64 perhaps.
    pub v4: Option<Reach>,
    /// Its own addresses that nobody outside sees: where it is for its neighbours.
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
    /// Inside the network that both are in, if they are.
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
    /// It does, by all we know.
    Yes,
    /// Both seem to be in one network.
    Likely,
    /// It may: it costs nothing to try while the relay carries.
    Perhaps(Doubt),
    /// It cannot.
    No(Refusal),
}

/// What is not known of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The dialer's network has not been surveyed, or did not let itself be.
    DialerUnknown,
    /// The listener's.
    ListenerUnknown,
    /// The listener's NAT maps by destination but filters nothing, and the dialer's network lets in only what was sent
    /// to: if a reply takes the mapping that the question came by, the way leads through.
    ReplyMayReturn,
    /// The listener's network maps by destination and filters by address. If two NATs do that, and the one that filters
    /// is the inner one, the listener's punch opens it for what comes to the known port.
    FilterMayBeInside,
    /// Both are behind one NAT, and whether it turns packets around is not known.
    HairpinUnknown,
    /// The dialer may not send to the listener's port, unless its firewall takes that for an answer to the listener's
    /// punch.
    Egress,
    /// The listener must punch, or answers from another port, and may not send to the dialer's port; but the punch may
    /// do its work before it is stopped, and the answer may pass as one.
    CannotPunch,
}

/// Why a way leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The listener's external port depends on whom it talks to.
    ListenerMoves,
    /// The listener must punch, and the dialer's port is not to be known before it dials.
    DialerMoves,
    /// Both are behind one NAT, which does not turn packets around.
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
    /// How.
    pub way: Way,
    /// Where the dialer finds the listener.
    pub listener: SocketAddr,
    /// Where the dialer is seen.
    pub from: SocketAddr,
    /// The public address behind which both are, of an inside way.
    outside: Option<IpAddr>,
    /// The listener has to punch there. It does not where it need not: behind a NAT that maps by destination, but
    /// answers by the mapping that it was asked by, a punch would take another one.
    pub punches: bool,
    /// Whether it leads there.
    pub verdict: Verdict,
    /// Neither end is translated on it.
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

/// Every way that there is between two nodes, best first, and the dialer of each.
///
/// `port`: the protocol's own. The order: certain ways before doubtful ones; the paper's dialer (who is behind the NAT,
/// if only one is; else the initiator) before the other; inside before IPv6 before IPv4. A way on which the listener
/// answers from the dialed port comes before one on which it does not.
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
        // Nobody can prove an inside address. So it is told only where both nodes are seen behind one public address:
        // whatever a node names is in the network that it is in itself.
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
        // The answer may come from the dialed address by chance; the next one will not.
        (Some(Mapping::Address), Some(Filtering::Independent)) if db.filtering == Some(Filtering::Address) => {
            return Verdict::No(Refusal::ListenerMoves);
        }
        (Some(Mapping::Port | Mapping::Address), Some(Filtering::Independent)) => Some(Doubt::ReplyMayReturn),
        // Where the dialer's mapping does not depend on the peer, the listener dials.
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

/// Both are seen at one address: the NAT that it belongs to must turn packets around.
fn through_one_nat(d: &Reach, l: &Reach, open: Verdict) -> Verdict {
    match (d.behaviour, l.behaviour) {
        // A node whose filter admits no source cannot observe hairpinning, but the other node may.
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

/// The direct route to take now, if there is one. With `doubtful`, ways that only may lead there count too; `round`
/// counts the attempts of this pair, so that each doubtful dialer has its turn.
pub fn direct(ways: &[Considered], doubtful: bool, round: u8) -> Option<Choice> {
    // Each dialer with its certain ways, then each dialer with what it has besides.
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

    /// A node by its kind in the dialing table: public, firewalled, full cone, restricted, port-restricted, symmetric;
    /// and symmetric with a filter that is open, or that looks at addresses.
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
            // A punching listener (every one of ours does) lets in who can be punched to.
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
        // The steady one is dialed, where there is one.
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
