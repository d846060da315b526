//! How many flights a result waited for, counted from what was on the wires.
//!
//! A flight is what one host sends and another one waits for. Hosts of the simulator answer at once, so whatever a host
//! does was caused by what came to it last. From the moment at which something was complete, the chain of causes leads
//! back: the packet that came last, the host that sent it, the packet that had come there last, and so on until nothing
//! came any more since the beginning. The links of that chain are the flights, and two of them are a round trip,
//! however far apart the hosts are. Dividing time by some host's round trip would count wrong as soon as the hosts are
//! not all equally far.

use std::collections::BTreeMap;

use cyphonic_core::time::Instant;

use crate::net::Tapped;
use crate::net::packet::{Ip, protocol};

/// What hosts sent to each other; hosts are numbers.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// By host, in the order of time: when something came, and who sent it when.
    arrivals: BTreeMap<usize, Vec<Arrival>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    sender: usize,
    sent: Instant,
}

impl Flights {
    /// From what each host sent and what came to each host. What came is matched with what was sent by its content,
    /// because translators on the way change its addresses.
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
                // The relay sends on what it got: the nearest sender counts.
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

    /// How many flights led from `begin` to what `host` had at `end`.
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
        // Of several that came at that moment from different hosts, it may have waited for any.
        let causes = before.iter().rev().take_while(|arrival| Some(arrival.at) == last && arrival.sent >= begin);
        let flights = causes.map(|cause| 1 + self.count(begin, cause.sender, cause.sent, known)).max().unwrap_or(0);
        known.insert((host, end), flights);
        flights
    }
}

/// What translators leave as it is: of UDP the payload; of TCP sequence numbers, flags and payload. Nothing of other
/// packets.
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

    /// A UDP packet that says this, and when it was on the wire.
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
