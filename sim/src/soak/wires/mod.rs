//! Checks of the bytes on wires and of the log: no plaintext, no amplified answers, no forwarding to strangers, no
//! secrets.

mod answers;
mod questions;
mod relaying;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use cyphonic_core::conventional::keys::Sealing;
use cyphonic_core::conventional::{seal, wrap};
use cyphonic_core::header::{Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::message::Message;
use cyphonic_core::name::{NodeId, PathId};
use cyphonic_core::probe::is_probe;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Method, Scenario};

use super::violation::{Invariant, Violation, violation};
use crate::dissect::Secrets;
use crate::hex;
use crate::host::apps::MARKER;
use crate::net::packet::{Ip, Transport};
use crate::net::{Direction, Tapped};
use crate::run::Run;
use crate::world::{Station, service_key};

/// Most tunnels for which it is checked whether the TRS can read them.
const MOST_TUNNELS: usize = 16;
/// The number of consecutive bytes of a secret that count as a leak.
const TELLING: usize = 8;

/// The packets on every direction of every wire.
pub(super) type Kept = BTreeMap<Direction, Vec<Tapped>>;

/// I4, and I5 of path probes, for a run with these packets on its wires.
pub(super) fn amplified(scenario: &Scenario, run: &Run, kept: &Kept) -> Option<Violation> {
    let stations = [&run.world.auth, &run.world.nms, &run.world.trs];
    let ways = stations.into_iter().flat_map(|station| station.wires.iter().map(move |&wire| (&station.name, wire)));
    let mut packets: Vec<Seen<'_>> = Vec::new();
    for (service, wire) in ways {
        packets.extend(kept[&wire].iter().map(|t| Seen { at: t.departs, is_out: true, service, packet: &t.packet }));
        let back = kept[&wire.reversed()].iter().filter_map(Tapped::arrival);
        packets.extend(back.map(|(at, packet)| Seen { at, is_out: false, service, packet }));
    }
    // In the conventional method every datagram to a node is sealed with a key, so only the proposed method has dialers
    // to check.
    let dialed = run.world.nodes.iter().filter(|_| scenario.method == Method::Proposed);
    let mut by_nodes = dialed.filter_map(|node| {
        let datagrams = datagrams(node, kept);
        answers::violation(&node.name, &datagrams).or_else(|| questions::violation(&node.name, &datagrams))
    });
    by_services(scenario, packets).or_else(|| by_nodes.next())
}

/// I3, I8 and I10, for a run with these packets on its wires.
pub(super) fn violations(scenario: &Scenario, run: &Run, kept: &Kept, secrets: &Secrets) -> Vec<Violation> {
    let mut found = Vec::new();
    for (&direction, packets) in kept {
        if let Some(packet) = packets.iter().find(|tapped| shows(&tapped.packet)) {
            let wire = run.world.network().wire_name(direction);
            let text = format!("an application's plaintext was on the wire {wire} at {}", packet.departs);
            found.push(violation(Invariant::I10, text));
        }
    }
    found.extend(legible_to_relay(scenario, run, kept));
    let nodes: Vec<_> = run.world.nodes.iter().map(|node| datagrams(node, kept)).collect();
    found.extend(relaying::violation(scenario, run, &datagrams(&run.world.trs, kept), &nodes));
    if let Some(text) = told(scenario, run, secrets) {
        found.push(violation(Invariant::I8, text));
    }
    found
}

/// A whole UDP datagram at a host.
#[derive(Clone, Copy, Debug)]
struct Datagram<'a> {
    at: Instant,
    is_out: bool,
    /// The other end, as this host sees it.
    remote: SocketAddr,
    payload: &'a [u8],
}

impl Datagram<'_> {
    /// A long header of type 0 (RFC 9000 §17.2.2).
    fn is_initial(&self) -> bool {
        self.payload.first().is_some_and(|first| first & 0xf0 == 0xc0)
    }

    /// QUIC packets have the fixed bit set; no other message of this project has.
    fn is_quic(&self) -> bool {
        self.payload.first().is_some_and(|first| first & 0x40 != 0)
    }
}

/// The datagrams that a host sent and received, damaged or not, in order. At one instant, received ones come first.
fn datagrams<'a>(station: &Station, kept: &'a Kept) -> Vec<Datagram<'a>> {
    let mut all = Vec::new();
    for &wire in &station.wires {
        all.extend(kept[&wire].iter().filter_map(|tapped| datagram(tapped.departs, true, &tapped.packet)));
        let back = kept[&wire.reversed()].iter();
        all.extend(back.filter_map(Tapped::arrival).filter_map(|(at, packet)| datagram(at, false, packet)));
    }
    all.sort_by_key(|datagram| (datagram.at, datagram.is_out));
    all
}

fn datagram(at: Instant, is_out: bool, packet: &[u8]) -> Option<Datagram<'_>> {
    let ip = Ip::parse(packet).filter(|ip| ip.fragment.is_none())?;
    let Some(Transport::Udp { source, destination }) = ip.transport() else { return None };
    let remote = if is_out { (ip.destination, destination) } else { (ip.source, source) };
    Some(Datagram { at, is_out, remote: remote.into(), payload: ip.payload.get(8..)? })
}

/// Whether a packet contains the marker of applications' payloads.
fn shows(packet: &[u8]) -> bool {
    packet.windows(MARKER.len()).any(|window| window[0] == MARKER[0] && window == MARKER)
}

/// The bytes of UDP that services and an address have exchanged so far.
#[derive(Default)]
struct Account<'a> {
    /// The datagrams that were sent to it before it was validated.
    bytes: BTreeSet<&'a [u8]>,
    sent: u64,
    received: u64,
    /// Whether it sent a datagram that only a receiver of the service's datagrams can send.
    is_validated: bool,
}

/// A packet at a service.
struct Seen<'a> {
    at: Instant,
    is_out: bool,
    service: &'a str,
    packet: &'a [u8],
}

/// I4, for all services together, because one service may ask another to test an address. An address is validated by
/// any datagram that is not an Initial (RFC 9000 §8.1).
fn by_services(scenario: &Scenario, mut packets: Vec<Seen<'_>>) -> Option<Violation> {
    let services = &scenario.services;
    let known = [&services.auth, &services.nms, &services.trs];
    let is_known = |at: SocketAddr| known.iter().any(|s| at.ip() == s.v4 || at.ip() == s.v6);
    let mut accounts: BTreeMap<SocketAddr, Account<'_>> = BTreeMap::new();
    packets.sort_by_key(|seen| (seen.at, seen.is_out));
    for Seen { at, is_out, service, packet } in packets {
        let Some((ip, Some(Transport::Udp { source, destination }))) = Ip::parse(packet).map(|ip| (ip, ip.transport()))
        else {
            continue;
        };
        let payload = ip.payload.get(8..).unwrap_or_default();
        let remote = if is_out { (ip.destination, destination) } else { (ip.source, source) }.into();
        if is_known(remote) {
            continue;
        }
        let account = accounts.entry(remote).or_default();
        if !is_out {
            account.received += payload.len() as u64;
            // A long header of type 0 is an Initial (RFC 9000 §17.2.2). Conventional messages are sealed with a key.
            let is_initial = payload.first().is_some_and(|first| first & 0xf0 == 0xc0);
            account.is_validated |= scenario.method == Method::Conventional || !is_initial;
            continue;
        }
        // A copy is a duplicate by the wire, not by the service: sealed datagrams are never equal.
        if account.is_validated || !account.bytes.insert(payload) {
            continue;
        }
        // A challenge of an address that a node names is no answer. It has a budget of its own (I13).
        if is_probe(payload) && Header::decode(payload).is_ok_and(|header| header.kind == Kind::ProbeToken) {
            continue;
        }
        account.sent += payload.len() as u64;
        let (sent, received) = (account.sent, account.received);
        if sent > 3 * received {
            let text = format!("{service} sent {sent} bytes to {remote}, from where {received} had come, at {at}");
            return Some(violation(Invariant::I4, text));
        }
    }
    None
}

/// I10 in the conventional method: whether the TRS can unwrap an end key. The TRS knows the key that it shares with the
/// NMS, the NMS's messages, and the datagrams that it forwards. Any sixteen consecutive bytes of the NMS's messages may
/// be a key.
fn legible_to_relay(scenario: &Scenario, run: &Run, kept: &Kept) -> Option<Violation> {
    if scenario.method != Method::Conventional {
        return None;
    }
    let service = Sealing::new(&service_key(*scenario.seeds.start()));
    let (mut keys, mut tunnels) = (BTreeSet::new(), Vec::new());
    let arrived: Vec<&[u8]> =
        run.world.trs.wires.iter().flat_map(|wire| &kept[&wire.reversed()]).map(payload).collect();
    for datagram in &arrived {
        let Ok(Header { kind: Kind::RelayRequest, .. }) = Header::decode(datagram) else { continue };
        let mut copy = datagram.to_vec();
        let Ok((header, range)) = seal::open(&service, &mut copy) else { continue };
        let body = &copy[range];
        keys.extend(body.windows(16).filter_map(|window| window.first_chunk::<16>().copied()));
        if let Ok(Message::RelayRequest(request)) = Message::decode_body(header.kind, body)
            && tunnels.len() < MOST_TUNNELS
        {
            tunnels.push(Sealing::new(&request.tunnel_key));
        }
    }
    for datagram in &arrived {
        let Ok(header @ Header { kind: Kind::TunnelRequest, .. }) = Header::decode(datagram) else { continue };
        for tunnel in &tunnels {
            let mut copy = datagram.to_vec();
            let Ok((_, range)) = seal::open(tunnel, &mut copy) else { continue };
            let Ok(Message::TunnelRequest(request)) = Message::decode_body(header.kind, &copy[range]) else { continue };
            let Some(wrapped) = request.wrapped_end_key else { continue };
            if keys.iter().any(|key| wrap::unwrap(&Key128(*key), &wrapped, PathId(header.id)).is_ok()) {
                let text = format!("the TRS can unwrap the end key of {} and {}", request.from, request.to);
                return Some(violation(Invariant::I10, text));
            }
        }
    }
    None
}

/// The UDP payload of a packet; empty if it has none.
fn payload(tapped: &Tapped) -> &[u8] {
    match Ip::parse(&tapped.packet).map(|ip| (ip.transport(), ip.payload)) {
        Some((Some(Transport::Udp { .. }), datagram)) => datagram.get(8..).unwrap_or_default(),
        _ => &[],
    }
}

/// Whether an event contains a secret, as hexadecimal or as numbers of bytes; a sentence if so.
fn told(scenario: &Scenario, run: &Run, secrets: &Secrets) -> Option<String> {
    let log = secrets.to_sslkeylog();
    let mut secrets: Vec<String> = log.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect();
    let keys =
        scenario.nodes.iter().filter_map(|node| run.world.store.common_key(NodeId::of(&node.name)).ok().flatten());
    secrets.extend(keys.map(|key| hex(&key.0)));
    let mut text = String::new();
    for (.., event) in &run.events {
        let _ = writeln!(text, "{event:?}");
    }
    // Only the parts of events that look like bytes are compared; there are few.
    let squeezed: String = text.chars().filter(|c| c.is_ascii_hexdigit() || *c == ',' || *c == '\n').collect();
    let is_told = |secret: &&String| {
        let hex = secret.get(..2 * TELLING).unwrap_or(secret.as_str());
        let bytes = (0..TELLING).filter_map(|i| u8::from_str_radix(secret.get(2 * i..2 * i + 2)?, 16).ok());
        let numbers = bytes.map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
        squeezed.contains(hex) || squeezed.contains(&numbers)
    };
    secrets.iter().find(is_told).map(|_| "an event tells a secret of a TLS session, or a common key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_wherever_it_begins() {
        let mut packet = vec![b'<'; 40];
        assert!(!shows(&packet));
        packet[21..37].copy_from_slice(&MARKER);
        assert!(shows(&packet));
        assert!(!shows(&packet[..36]));
    }
}
