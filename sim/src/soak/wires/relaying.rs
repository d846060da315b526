//! I3, from the wires of the TRS alone: it forwards only between two nodes that the NMS sent to it together, and only
//! to an address that one of them proved.
//!
//! A blind TRS, and one of the conventional method, forwards a datagram unchanged. So an outgoing datagram that came in
//! before was forwarded. Its owner is the node on whose wire it was first. A terminating TRS encrypts each datagram
//! anew, so its datagrams cannot be matched and are not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cyphonic_core::event::Event;
use cyphonic_core::route::Pattern;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Method, Scenario};

use super::super::violation::{Invariant, Violation, violation as violated};
use super::Datagram;
use crate::run::Run;

/// The state of an address, as the TRS can know it.
#[derive(Default)]
struct Place {
    /// All nodes that have sent from this address: a NAT may give an address to another node.
    nodes: BTreeSet<usize>,
    /// Whether the TRS sent its own datagram there.
    is_asked: bool,
    /// Whether that was answered.
    is_proved: bool,
}

pub(super) fn violation(
    scenario: &Scenario,
    run: &Run,
    trs: &[Datagram<'_>],
    nodes: &[Vec<Datagram<'_>>],
) -> Option<Violation> {
    let grants = grants(scenario, run);
    let granted = |a: usize, b: usize, at: Instant| {
        let (a, b) = (scenario.original(a), scenario.original(b));
        grants.get(&(a.min(b), a.max(b))).is_some_and(|since| *since <= at)
    };
    judge(scenario.method, trs, nodes, granted, |node| scenario.nodes[node].name.short())
}

/// The times from which two nodes may use the TRS, by the NMS's choices of routes.
fn grants(scenario: &Scenario, run: &Run) -> BTreeMap<(usize, usize), Instant> {
    let mut grants = BTreeMap::new();
    for (at, _, event) in &run.events {
        let Event::RouteChosen(chosen) = event else { continue };
        let pair = (scenario.node(chosen.initiator.short()), scenario.node(chosen.responder.short()));
        let is_relayed = chosen.choice.as_ref().is_some_and(|choice| choice.pattern == Pattern::Relayed);
        if let ((Some(a), Some(b)), true) = (pair, is_relayed) {
            grants.entry((a.min(b), a.max(b))).or_insert(*at);
        }
    }
    grants
}

fn judge<'s>(
    method: Method,
    trs: &[Datagram<'_>],
    nodes: &[Vec<Datagram<'_>>],
    granted: impl Fn(usize, usize, Instant) -> bool,
    name: impl Fn(usize) -> &'s str,
) -> Option<Violation> {
    let mut senders: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (node, datagrams) in nodes.iter().enumerate() {
        for sent in datagrams.iter().filter(|datagram| datagram.is_out) {
            senders.entry(sent.payload).or_insert(node);
        }
    }
    let came: BTreeMap<&[u8], SocketAddr> = trs.iter().filter(|d| !d.is_out).map(|d| (d.payload, d.remote)).collect();
    let went: BTreeSet<&[u8]> = trs.iter().filter(|datagram| datagram.is_out).map(|d| d.payload).collect();
    // The TRS's own datagrams may return to it if a wire damages an address.
    let mut is_own: BTreeMap<&[u8], bool> = BTreeMap::new();
    for datagram in trs {
        is_own.entry(datagram.payload).or_insert(datagram.is_out);
    }
    let mut places: BTreeMap<SocketAddr, Place> = BTreeMap::new();
    for &Datagram { at, is_out, remote, payload } in trs {
        let place = places.entry(remote).or_default();
        let is_forwarded = !is_own[payload] && went.contains(payload);
        if !is_out {
            place.nodes.extend(senders.get(payload));
            // Conventional messages are sealed with the tunnel's key, so the first one proves the address.
            place.is_proved |= method == Method::Conventional || (place.is_asked && !is_forwarded);
            continue;
        }
        if !is_forwarded {
            place.is_asked = true;
            continue;
        }
        if !place.is_proved {
            return Some(violated(
                Invariant::I3,
                format!("the TRS forwarded to {remote}, an address that is not validated, at {at}"),
            ));
        }
        let Some(&from) = senders.get(payload) else { continue };
        // Behind a NAT that overloads ports, neither sender nor receiver is certain.
        let place = &places[&remote];
        let neighbours = places.get(&came[payload]).into_iter().flat_map(|place| &place.nodes);
        let mut froms = neighbours.copied().chain([from]);
        if !froms.any(|from| place.nodes.iter().any(|&to| granted(from, to, at))) {
            let to: Vec<_> = place.nodes.iter().map(|&node| name(node)).collect();
            let (from, to) = (name(from), to.join(" or "));
            let text = format!(
                "the TRS forwarded from {from} to {to} at {remote}, although the NMS never directed the two to it, at {at}"
            );
            return Some(violated(Invariant::I3, text));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["alice", "bob", "eve"];

    fn place(node: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, node], 443))
    }

    /// Judges what the TRS saw: the direction, the node's address, and the bytes. All nodes sent the datagrams
    /// themselves.
    fn judged(method: Method, seen: &[(bool, u8, &'static [u8])]) -> Option<String> {
        let trs: Vec<_> = seen
            .iter()
            .enumerate()
            .map(|(i, &(is_out, node, payload))| Datagram {
                at: Instant::from_millis(i as u64),
                is_out,
                remote: place(node),
                payload,
            })
            .collect();
        let sent = |node: u8| {
            let mine = trs.iter().filter(move |datagram| !datagram.is_out && datagram.remote == place(node));
            mine.map(|datagram| Datagram { is_out: true, ..*datagram }).collect::<Vec<_>>()
        };
        // The NMS sent Alice and Bob to the TRS together.
        let granted = |a: usize, b: usize, _: Instant| (a.min(b), a.max(b)) == (0, 1);
        let violation = judge(method, &trs, &[sent(0), sent(1), sent(2)], granted, |node| NAMES[node]);
        violation.map(|violation| violation.sentence)
    }

    const OUT: bool = true;
    const IN: bool = false;

    #[test]
    fn what_the_trs_said_itself_is_not_forwarded_though_it_came_back() {
        let reply: [(bool, u8, &[u8]); 3] = [(OUT, 2, b"reply"), (IN, 1, b"reply"), (OUT, 2, b"reply")];
        assert_eq!(judged(Method::Proposed, &reply), None);
    }

    #[test]
    fn a_pair_that_was_brought_together_is_relayed_once_both_are_proved() {
        let legs: [(bool, u8, &[u8]); 6] =
            [(IN, 0, b"a1"), (OUT, 0, b"ta"), (IN, 0, b"a2"), (IN, 1, b"b1"), (OUT, 1, b"tb"), (IN, 1, b"b2")];
        let data: [(bool, u8, &[u8]); 2] = [(IN, 0, b"data"), (OUT, 1, b"data")];
        assert_eq!(judged(Method::Proposed, &[&legs[..], &data].concat()), None);
        let text = judged(Method::Proposed, &[&legs[..5], &data].concat()).unwrap();
        assert!(text.contains("203.0.113.1:443, an address that is not validated"), "{text}");
        assert_eq!(judged(Method::Conventional, &[&legs[..5], &data].concat()), None, "a sealed message proves");
    }

    #[test]
    fn nobody_else_is_relayed() {
        let legs: [(bool, u8, &[u8]); 6] =
            [(IN, 0, b"a1"), (OUT, 0, b"ta"), (IN, 0, b"a2"), (IN, 2, b"e1"), (OUT, 2, b"te"), (IN, 2, b"e2")];
        let text = judged(Method::Proposed, &[&legs[..], &[(IN, 2, b"data"), (OUT, 0, b"data")]].concat()).unwrap();
        assert!(text.contains("from eve to alice"), "{text}");
        let text = judged(Method::Conventional, &[(IN, 0, b"a1"), (IN, 2, b"data"), (OUT, 0, b"data")]).unwrap();
        assert!(text.contains("from eve to alice"), "{text}");
    }
}
