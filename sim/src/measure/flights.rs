//! How many flights a result waited for, counted from the packets on the wires.
//!
//! A flight is a packet that one host sends and another host waits for. Hosts of the simulator answer at once, so the
//! packet that came last to a host caused what the host did. From the moment of completion, the chain of causes leads
//! back: the packet that came last, the host that sent it, the packet that had come there last, and so on until the
//! beginning. The links of that chain are the flights. Two flights are one round trip, however far apart the hosts are.
//! Time divided by some host's round trip would be wrong as soon as the hosts are not all equally far.

use std::collections::BTreeMap;

use cyphonic_core::time::Instant;

use crate::net::Tapped;
use crate::net::packet::{Ip, protocol};

/// The packets that hosts sent to each other. Hosts are numbers.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// For each host, in the order of time: when a packet came, who sent it, and when.
    arrivals: BTreeMap<usize, Vec<Arrival>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    sender: usize,
    sent: Instant,
}

impl Flights {
    /// Made of the packets that each host sent and received. A received packet is matched with a sent one by its
    /// content, because translators on the way change addresses.
    pub(super) fn new(sent: &[(usize, Vec<Tapped>)], came: &[(usize, Vec<Tapped>)]) -> Self {
        let mut senders: BTreeMap<Vec<u8>, Vec<(Instant, usize)>> = BTreeMap::new();
        for (host, packets) in sent {
            for tapped in packets {
                if let Some(content) = content(&tapped.packet) {
                    senders.entry(content).or_default().push((tapped.departs, *host));
                }
            }
        }
        let mut arrivals: BTreeMap<usize, Vec<Arrival>> = BTreeMap::new();
        for (host, packets) in came {
            for (at, packet) in packets.iter().filter_map(Tapped::arrival) {
                let known = content(packet).and_then(|content| senders.get(&content));
                // The relay forwards what it received, so the nearest sender counts.
                let nearest = known.into_iter().flatten().filter(|(sent, sender)| *sent < at && sender != host).max();
                if let Some(&(sent, sender)) = nearest {
                    arrivals.entry(*host).or_default().push(Arrival { at, sender, sent });
                }
            }
        }
        for list in arrivals.values_mut() {
            list.sort_unstable();
        }
        Self { arrivals }
    }

    /// The number of flights from `begin` until `host` had the result at `end`.
    pub(super) fn between(&self, begin: Instant, host: usize, end: Instant) -> u32 {
        self.count(begin, host, end, &mut BTreeMap::new())
    }

    fn count(&self, begin: Instant, host: usize, end: Instant, known: &mut BTreeMap<(usize, Instant), u32>) -> u32 {
        if let Some(&flights) = known.get(&(host, end)) {
            return flights;
        }
        let list = self.arrivals.get(&host).map_or(&[][..], Vec::as_slice);
        let before = &list[..list.partition_point(|arrival| arrival.at <= end)];
        let last = before.last().map(|arrival| arrival.at).filter(|at| *at > begin);
        // Several packets from different hosts may have come at that moment. The host may have waited for any of them.
        let causes = before.iter().rev().take_while(|arrival| Some(arrival.at) == last && arrival.sent >= begin);
        let flights = causes.map(|cause| 1 + self.count(begin, cause.sender, cause.sent, known)).max().unwrap_or(0);
        known.insert((host, end), flights);
        flights
    }
}

/// The bytes that translators do not change: of UDP the payload, of TCP the sequence numbers, flags and payload. None
/// for other packets.
fn content(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = Ip::parse(packet)?;
    match ip.protocol {
        protocol::UDP => ip.payload.get(8..).map(<[u8]>::to_vec),
        // Without the ports, and without the checksum behind the window.
        protocol::TCP => Some([ip.payload.get(4..16)?, ip.payload.get(18..)?].concat()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::{self, IpOptions};

    /// A UDP packet with this payload, and its times on the wire.
    fn tapped(text: &str, departs: u64, arrives: u64) -> Tapped {
        let [source, destination] = ["192.0.2.1:1", "192.0.2.2:2"].map(|at| at.parse().unwrap());
        let packet = packet::udp(source, destination, IpOptions::default(), text.as_bytes()).unwrap();
        let arrives = Some(Instant::from_millis(arrives));
        Tapped { departs: Instant::from_millis(departs), arrives, packet, damaged: None }
    }

    /// Host 0 asks 1 at once; 1 asks 2, which is far; 2 answers 0 directly.
    #[test]
    fn flights_are_counted_by_cause_and_not_by_time() {
        let packets =
            [(0, 1, tapped("ask", 5, 6)), (1, 2, tapped("pass on", 6, 106)), (2, 0, tapped("answer", 106, 116))];
        let list = |end: fn(&(usize, usize, Tapped)) -> usize| packets.iter().map(move |p| (end(p), vec![p.2.clone()]));
        let flights = Flights::new(&list(|p| p.0).collect::<Vec<_>>(), &list(|p| p.1).collect::<Vec<_>>());
        let at = Instant::from_millis;
        assert_eq!(flights.between(at(5), 0, at(116)), 3);
        assert_eq!(flights.between(at(5), 2, at(110)), 2);
        assert_eq!(flights.between(at(6), 0, at(116)), 2, "what was asked before does not count");
        assert_eq!(flights.between(at(5), 0, at(115)), 0, "nothing had come yet");
    }

    #[test]
    fn the_nearest_sender_of_the_same_bytes_is_the_relay() {
        let (there, on) = (tapped("sealed", 0, 10), tapped("sealed", 10, 20));
        let sent = [(0, vec![there.clone()]), (1, vec![on.clone()])];
        let flights = Flights::new(&sent, &[(1, vec![there]), (2, vec![on])]);
        assert_eq!(flights.between(Instant::ZERO, 2, Instant::from_millis(20)), 2);
    }
}
