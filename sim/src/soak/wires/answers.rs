//! I4 at a node: until a dialer has proved its address, the node sends it at most three times the bytes that it
//! received (RFC 9000 §8.1).
//!
//! A node also dials, and punches, to addresses that the NMS named, before it received anything from them. That is not
//! an answer. An answer is recognized by its destination connection ID: that of the client whose Initial came in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cyphonic_core::paths::probe::{self, ProbeKind};

use super::super::violation::{Invariant, Violation, violation as violated};
use super::Datagram;

/// The bytes that a node and an address have exchanged so far.
#[derive(Default)]
struct Account<'a> {
    /// The connection IDs of clients at this address.
    clients: BTreeSet<&'a [u8]>,
    received: usize,
    answered: usize,
    /// Answers so far. A copy is a duplicate by the wire, not by the node: encrypted datagrams are never equal.
    answers: BTreeSet<&'a [u8]>,
    /// Whether the node sent a path probe there that asks for an answer.
    is_asked: bool,
    /// Whether it sent a datagram that only a receiver of the node's datagrams can send.
    is_proved: bool,
}

pub(super) fn violation(node: &str, datagrams: &[Datagram<'_>]) -> Option<Violation> {
    let mut accounts: BTreeMap<SocketAddr, Account<'_>> = BTreeMap::new();
    // Source connection IDs of Initials that the node sent, as client or server; and as a client only.
    let (mut own, mut dialed) = (BTreeSet::<&[u8]>::new(), BTreeSet::<&[u8]>::new());
    for datagram in datagrams {
        let payload = datagram.payload;
        let account = accounts.entry(datagram.remote).or_default();
        match probe::kind_of(payload) {
            Some(ProbeKind::Hello | ProbeKind::Challenge) if datagram.is_out => account.is_asked = true,
            // Another path of a connection: both have the random token of the node's probe in them.
            Some(ProbeKind::Challenge | ProbeKind::Answer) if !datagram.is_out => {
                account.is_proved |= account.is_asked;
            }
            _ => {}
        }
        if !datagram.is_quic() {
            continue;
        }
        let ids = datagram.is_initial().then(|| connection_ids(payload)).flatten();
        if !datagram.is_out {
            account.received += payload.len();
            account.is_proved |= !datagram.is_initial();
            account.clients.extend(ids.filter(|(to, _)| !own.contains(to)).map(|(_, from)| from));
            continue;
        }
        let is_answer = account.clients.iter().any(|id| goes_to(payload, id));
        own.extend(ids.map(|(_, from)| from));
        dialed.extend(ids.filter(|_| !is_answer).map(|(_, from)| from));
        // A damaged Initial of a server may look like that of an unknown client.
        let is_of_dial = comes_from(payload).is_some_and(|id| dialed.contains(id));
        if account.is_proved || !is_answer || is_of_dial {
            continue;
        }
        if account.answers.insert(payload) {
            account.answered += payload.len();
        }
        let (answered, received) = (account.answered, account.received);
        if answered > 3 * received {
            let (remote, at) = (datagram.remote, datagram.at);
            let text = format!("{node} answered {answered} bytes to {remote}, from where {received} had come, at {at}");
            return Some(violated(Invariant::I4, text));
        }
    }
    None
}

/// Destination and source connection ID of a long header (RFC 9000 §17.2).
fn connection_ids(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = payload.get(5..)?.split_first()?;
    let (to, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first()?;
    Some((to, rest.get(..length.into())?))
}

fn is_long(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & 0x80 != 0)
}

/// Whether a datagram's first packet is for this connection ID.
fn goes_to(payload: &[u8], id: &[u8]) -> bool {
    if is_long(payload) {
        connection_ids(payload).is_some_and(|(to, _)| to == id)
    } else {
        payload[1..].starts_with(id)
    }
}

/// The connection ID that a datagram's first packet names as its sender's.
fn comes_from(payload: &[u8]) -> Option<&[u8]> {
    connection_ids(payload).filter(|_| is_long(payload)).map(|(_, from)| from)
}

#[cfg(test)]
mod tests {
    use cyphonic_core::time::Instant;

    use super::*;

    /// A datagram that begins with a long header.
    fn long(first: u8, to: &[u8], from: &[u8], len: usize) -> Vec<u8> {
        let mut payload = [&[first, 0, 0, 0, 1, to.len() as u8], to, &[from.len() as u8], from].concat();
        payload.resize(len, 7);
        payload
    }

    fn judge(datagrams: &[(bool, Vec<u8>)]) -> Option<Violation> {
        let remote = "203.0.113.9:443".parse().unwrap();
        let datagrams: Vec<_> = datagrams
            .iter()
            .enumerate()
            .map(|(i, (is_out, payload))| Datagram {
                at: Instant::from_millis(i as u64),
                is_out: *is_out,
                remote,
                payload,
            })
            .collect();
        violation("bob", &datagrams)
    }

    #[test]
    fn a_dialer_gets_three_times_what_it_sent_and_no_more_until_it_is_proved() {
        let came = (false, long(0xc0, b"random", b"client", 1200));
        let answer = |n: u8| (true, long(0xe0, b"client", &[n], 1200));
        let three = [came.clone(), answer(1), answer(2), answer(3)];
        assert_eq!(judge(&three), None);
        let four = [&three[..], &[answer(4)]].concat();
        assert_eq!(judge(&four).map(|violation| violation.invariant), Some(Invariant::I4));
        let doubled = [&three[..], &three[1..]].concat();
        assert_eq!(judge(&doubled), None, "by the wire");
        let short = [&three[..], &[(true, [b"\x40client", &[7; 600][..]].concat())]].concat();
        assert!(judge(&short).is_some(), "packets with short headers count as well");
        let proved = [&three[..], &[(false, long(0xe0, b"server", b"client", 80)), answer(4)]].concat();
        assert_eq!(judge(&proved), None);
    }

    #[test]
    fn a_path_that_answered_a_challenge_is_proved() {
        let came = (false, long(0xc0, b"random", b"client", 1200));
        let answer = |n: u8| (true, long(0xe0, b"client", &[n], 1200));
        let probe = |is_out: bool, form: u8| (is_out, vec![form; 48]);
        let four = [answer(1), answer(2), answer(3), answer(4)];
        for (probes, is_proved) in [
            (vec![probe(true, 0x20), probe(false, 0x21)], true),
            (vec![probe(true, 0x21), probe(false, 0x22)], true),
            (vec![probe(false, 0x22)], false),
            (vec![probe(true, 0x21), probe(false, 0x20)], false),
        ] {
            let all = [std::slice::from_ref(&came), &probes[..], &four[..]].concat();
            assert_eq!(judge(&all).is_none(), is_proved, "{probes:?}");
        }
    }

    #[test]
    fn dialing_and_punching_is_no_answer() {
        let dial = |n: u8| (true, long(0xc0, &[n], b"me", 1200));
        let punch = (true, vec![0; 32]);
        let server = (false, long(0xc0, b"me", b"server", 1200));
        let on = |n: u8| (true, long(0xe0, b"server", &[n], 1200));
        let all = [punch, dial(1), dial(2), server, on(1), on(2), on(3), on(4), on(5)];
        assert_eq!(judge(&all), None);
        let damaged = (false, long(0xc0, b"mf", b"server", 96));
        let on = |more: usize| (true, long(0xe0, b"server", b"me", 1200 + more));
        let all = [dial(1), damaged, on(1), dial(2), on(2)];
        assert_eq!(judge(&all), None);
    }
}
