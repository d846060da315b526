//! Three faults of smoltcp 0.14, put right on the segments that go out and come in. Two made connections end by their
//! timeout where segments were lost, the third kept new ones from being made.
//!
//! * **A FIN is not sent again.** The third acknowledgement that repeats a number begins a fast retransmit (RFC 5681
//!   §3.2). smoltcp stops its retransmission timer then, and sends data only, not a FIN. A lost FIN would stay lost. So
//!   acknowledgements are withheld that only repeat that everything before the FIN has arrived.
//! * **Both ends send again.** smoltcp goes back to the first unacknowledged octet when its retransmission timer runs
//!   out, and numbers its bare acknowledgements from there. The peer has received later octets, so it must ignore such
//!   an acknowledgement (RFC 9293 §3.10.7.4). If that happens at both ends, neither ever learns what has arrived. So a
//!   bare acknowledgement gets the number after the last octet that was sent (SND.NXT of RFC 9293 §3.4).
//! * **A SYN on a connection gets no answer.** A NAT that has lost its mappings may give a new connection the port of
//!   an old one. The server still has the old one, and owes the SYN a challenge ACK (RFC 9293 §3.10.7.4, RFC 5961
//!   §4.2), which the client answers by a reset; its next SYN then makes the new connection. smoltcp drops the SYN. So
//!   the stack gets an acknowledgement of what was never sent in its place, which smoltcp does answer by a challenge
//!   ACK.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use smoltcp::wire::{TcpPacket, TcpSeqNumber};

use crate::net::packet::{Ip, protocol};

/// Most connections that are remembered. A stack has fewer.
const CONNECTION_LIMIT: usize = 4096;
/// So far after the last octet sent is an acknowledgement that smoltcp answers by a challenge ACK. No send buffer is as
/// large.
const NEVER_SENT: usize = 1 << 30;

/// What was sent on each connection, by local and remote address.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<(SocketAddr, SocketAddr), Sent>);

#[derive(Debug)]
struct Sent {
    /// The number after the last octet that was sent.
    next: TcpSeqNumber,
    /// The number of the FIN, if it was sent and not acknowledged.
    fin: Option<TcpSeqNumber>,
    /// Whether everything before the FIN was acknowledged.
    is_fin_alone: bool,
}

impl Segments {
    /// Takes a packet that the stack sends, and corrects it.
    pub(super) fn send(&mut self, packet: &mut [u8]) {
        let Some((source, destination, segment)) = segment(packet) else { return };
        let way = (source, destination);
        let (number, octets) = (segment.seq_number(), segment.segment_len());
        if segment.rst() {
            self.0.remove(&way);
            return;
        }
        if segment.syn() {
            self.0.remove(&way);
        }
        let end = number + octets;
        if self.0.len() >= CONNECTION_LIMIT && !self.0.contains_key(&way) {
            self.0.pop_first();
        }
        let sent = self.0.entry(way).or_insert(Sent { next: end, fin: None, is_fin_alone: false });
        if segment.fin() && sent.fin.is_none() {
            (sent.fin, sent.is_fin_alone) = (Some(end - 1), false);
        }
        if octets == 0 && number < sent.next {
            let next = sent.next;
            rewrite(packet, |segment| segment.set_seq_number(next));
        } else if octets != 1 || segment.fin() {
            // One octet may be a probe of a closed window, which is not sent in the sense of SND.NXT.
            sent.next = sent.next.max(end);
        }
    }

    /// Whether a packet for the stack only repeats that everything but the FIN has arrived.
    pub(super) fn is_repeated(&mut self, packet: &[u8]) -> bool {
        let Some((source, destination, segment)) = segment(packet) else { return false };
        let way = (destination, source);
        if segment.rst() {
            self.0.remove(&way);
            return false;
        }
        let Some(sent) = self.0.get_mut(&way) else { return false };
        let Some(fin) = sent.fin else { return false };
        if segment.ack_number() > fin {
            sent.fin = None;
            return false;
        }
        segment.segment_len() == 0 && segment.ack_number() == fin && std::mem::replace(&mut sent.is_fin_alone, true)
    }

    /// Turns a SYN that came on a connection into a segment that smoltcp answers by a challenge ACK.
    pub(super) fn challenge(&self, packet: &mut [u8]) {
        let Some((source, destination, _)) = segment(packet) else { return };
        let Some(sent) = self.0.get(&(destination, source)) else { return };
        rewrite(packet, |segment| {
            segment.set_syn(false);
            segment.set_ack(true);
            segment.set_ack_number(sent.next + NEVER_SENT);
        });
    }
}

/// The local and the remote end of the connection that a packet for the stack asks for; `None` if it is no first SYN.
pub(super) fn asked_for(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination, segment) = segment(packet)?;
    (segment.syn() && !segment.ack() && !segment.rst()).then_some((destination, source))
}

/// The TCP segment in a packet, and its source and destination.
fn segment(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, TcpPacket<&[u8]>)> {
    let ip = Ip::parse(packet).filter(|ip| ip.protocol == protocol::TCP && ip.fragment.is_none())?;
    let segment = TcpPacket::new_checked(ip.payload).ok()?;
    let source = SocketAddr::new(ip.source, segment.src_port());
    Some((source, SocketAddr::new(ip.destination, segment.dst_port()), segment))
}

/// Changes the TCP header in a packet.
fn rewrite(packet: &mut [u8], change: impl FnOnce(&mut TcpPacket<&mut [u8]>)) {
    let Some(ip) = Ip::parse(packet) else { return };
    let (from, to, start) = (ip.source.into(), ip.destination.into(), ip.header_len);
    let end = start + ip.payload.len();
    let mut segment = TcpPacket::new_unchecked(&mut packet[start..end]);
    change(&mut segment);
    segment.fill_checksum(&from, &to);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use cyphonic_core::time::Instant;
    use smoltcp::iface::SocketHandle;
    use smoltcp::socket::tcp::State;

    use super::super::stack::TcpStack;
    use super::segment;

    /// Two ends of a connection.
    struct Ends {
        stacks: [TcpStack; 2],
        sockets: [SocketHandle; 2],
    }

    impl Ends {
        fn connected(addresses: [&str; 2]) -> Self {
            let [one, two]: [IpAddr; 2] = addresses.map(|text| text.parse().unwrap());
            let mut stacks = [TcpStack::new(1, 1280), TcpStack::new(2, 1280)];
            stacks[0].set_addresses([one].into_iter());
            stacks[1].set_addresses([two].into_iter());
            let server = stacks[1].listen(80, 65_536).unwrap();
            let client = stacks[0].connect((one, 5_000).into(), (two, 80).into(), 65_536).unwrap();
            let mut ends = Self { stacks, sockets: [client, server] };
            ends.talk(0, |_| true);
            ends.talk(20, |_| true);
            ends
        }

        /// Lets both talk at one instant. `keep`: whether a packet arrives. Returns those of the first end that did.
        fn talk(&mut self, ms: u64, keep: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
            let (now, mut arrived) = (Instant::from_millis(ms), Vec::new());
            for _ in 0..20 {
                self.stacks.iter_mut().for_each(|stack| stack.poll(now));
                let sent = self.stacks.each_mut().map(|stack| std::iter::from_fn(|| stack.sent()).collect::<Vec<_>>());
                for (from, packets) in sent.into_iter().enumerate() {
                    for packet in packets.into_iter().filter(|packet| keep(packet)) {
                        arrived.extend((from == 0).then(|| packet.clone()));
                        self.stacks[1 - from].receive(packet);
                        self.stacks[1 - from].poll(now);
                    }
                }
            }
            arrived
        }

        fn socket(&mut self, end: usize) -> &mut smoltcp::socket::tcp::Socket<'static> {
            self.stacks[end].socket(self.sockets[end])
        }
    }

    const BOTH: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]];

    #[test]
    fn a_lost_fin_is_sent_again_whatever_arrives_late() {
        let has_fin = |packet: &[u8]| segment(packet).is_some_and(|(.., segment)| segment.fin());
        for addresses in BOTH {
            let mut ends = Ends::connected(addresses);
            ends.socket(0).send_slice(&[7; 10_000]).unwrap();
            let data: Vec<Vec<u8>> = (0..8).flat_map(|step| ends.talk(100 + 15 * step, |_| true)).collect();
            assert_eq!(ends.socket(0).send_queue(), 0);
            ends.socket(0).close();
            ends.talk(300, |packet| !has_fin(packet));
            // Older copies of the data arrive, and each is acknowledged once more.
            for packet in data.into_iter().rev().take(6) {
                ends.stacks[1].receive(packet);
                ends.talk(400, |packet| !has_fin(packet));
            }
            for second in 1..5 {
                ends.talk(1_000 * second, |_| true);
            }
            let server = ends.socket(1);
            assert_eq!((server.recv_queue(), server.state()), (10_000, State::CloseWait), "{addresses:?}");
            assert_eq!(ends.socket(0).state(), State::FinWait2, "{addresses:?}");
        }
    }

    #[test]
    fn two_ends_that_send_again_at_once_learn_what_has_arrived() {
        let is_bare = |packet: &[u8]| segment(packet).is_some_and(|(.., segment)| segment.payload().is_empty());
        for addresses in BOTH {
            let mut ends = Ends::connected(addresses);
            for end in [0, 1] {
                ends.socket(end).send_slice(&[7; 2_000]).unwrap();
            }
            for step in 0..8 {
                ends.talk(100 + 15 * step, |packet| !is_bare(packet));
            }
            for end in [0, 1] {
                assert_eq!(ends.socket(end).recv_queue(), 2_000);
                assert!(ends.socket(end).send_queue() > 0, "the acknowledgements were lost");
            }
            for step in 0..100 {
                ends.talk(1_000 + 100 * step, |_| true);
            }
            for end in [0, 1] {
                assert_eq!(ends.socket(end).send_queue(), 0, "{addresses:?}");
            }
        }
    }

    /// The client of a connection has lost it and opens another with the same port, as through a NAT that has rebooted.
    #[test]
    fn a_syn_on_a_connection_is_challenged_and_the_next_one_connects() {
        for addresses in BOTH {
            let mut ends = Ends::connected(addresses);
            ends.socket(0).send_slice(&[7; 2_000]).unwrap();
            ends.talk(40, |_| true);
            let [one, two]: [IpAddr; 2] = addresses.map(|text| text.parse().unwrap());
            ends.stacks[0] = TcpStack::new(3, 1280);
            ends.stacks[0].set_addresses([one].into_iter());
            let listener = ends.stacks[1].listen(80, 65_536).unwrap();
            ends.sockets[0] = ends.stacks[0].connect((one, 5_000).into(), (two, 80).into(), 65_536).unwrap();
            for step in 0..40 {
                ends.talk(100 + 100 * step, |_| true);
            }
            assert_eq!(ends.socket(1).state(), State::Closed, "{addresses:?}: the old connection");
            assert_eq!(ends.socket(0).state(), State::Established, "{addresses:?}: the new connection");
            assert_eq!(ends.stacks[1].socket(listener).state(), State::Established, "{addresses:?}");
        }
    }
}
