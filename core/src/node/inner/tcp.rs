//! The node's DNS over TCP (RFC 7766).
//!
//! A client that sets `use-vc`, or `dig +tcp`, opens a connection to the node's DNS. Only the virtual interface is
//! between the client's kernel and the node, and it does not reorder packets. It loses a packet only if its queue is
//! full. So this is the server's side of RFC 9293 without timers: the node repeats data only when the client sends a
//! segment that is not the next one, and it never repeats its FIN. Only the next segment in order is taken. Answers
//! have at most 514 bytes, which is less than the smallest maximum segment size, so windows and congestion do not
//! matter.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::super::part::Random;
use crate::packet::{self, Segment, TcpFlags};

/// Most connections at once. A new one replaces the one that has been silent for longest.
const CONNECTIONS: usize = 64;
/// The longest query that is accepted, bytes. A query for one name needs less.
const MAX_QUERY: usize = 1_232;

/// All connections. The one that was heard last is at the end.
#[derive(Default)]
pub(super) struct Connections {
    open: VecDeque<Connection>,
}

/// A connection, from the SYN on.
struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    /// The sequence number of the next byte from the client.
    expected: u32,
    /// The sequence number of the next byte to the client.
    next: u32,
    /// The bytes before `next` that the client has not acknowledged. A FIN counts as one byte and is not among them.
    unacknowledged: Vec<u8>,
    /// The part of the next query that was received.
    received: Vec<u8>,
    /// Queries without an answer.
    waiting: usize,
    /// Whether the client has sent its FIN. `closed`: whether we have sent ours.
    closing: bool,
    closed: bool,
}

/// The results of taking a segment.
#[derive(Default)]
pub(super) struct Taken {
    /// Packets for the client.
    pub(super) packets: Vec<Vec<u8>>,
    /// Queries, each in the form of a UDP payload.
    pub(super) queries: Vec<Vec<u8>>,
}

impl Connections {
    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a segment of a client.
    pub(super) fn take(&mut self, random: &mut Random, segment: &Segment<'_>) -> Taken {
        let mut taken = Taken::default();
        let at = self.open.iter().position(|one| (one.client, one.server) == (segment.source, segment.destination));
        let known = at.and_then(|at| self.open.remove(at));
        if segment.flags.rst {
            return taken;
        }
        if segment.flags.syn && !segment.flags.ack {
            let expected = segment.sequence.wrapping_add(1);
            let known = known.filter(|one| one.expected == expected && one.received.is_empty());
            let one = known.unwrap_or_else(|| Connection {
                client: segment.source,
                server: segment.destination,
                expected,
                next: random.u32().wrapping_add(1),
                unacknowledged: Vec::new(),
                received: Vec::new(),
                waiting: 0,
                closing: false,
                closed: false,
            });
            let flags = TcpFlags { syn: true, ack: true, ..TcpFlags::default() };
            taken.packets.extend(one.segment(one.next.wrapping_sub(1), flags, &[]));
            self.keep(one, &mut taken);
            return taken;
        }
        let Some(mut one) = known else {
            taken.packets.extend(reset(segment));
            return taken;
        };
        if !segment.flags.ack || one.take(segment, &mut taken).is_err() {
            taken.packets.extend(reset(segment));
        } else if !(one.closed && one.unacknowledged.is_empty() && segment.acknowledged == one.next) {
            self.keep(one, &mut taken);
        }
        taken
    }

    fn keep(&mut self, one: Connection, taken: &mut Taken) {
        self.open.push_back(one);
        if self.open.len() > CONNECTIONS
            && let Some(oldest) = self.open.pop_front()
        {
            let flags = TcpFlags { rst: true, ack: true, ..TcpFlags::default() };
            taken.packets.extend(oldest.segment(oldest.next, flags, &[]));
        }
    }

    /// Sends the answer to a query that [`Self::take`] gave, if the connection is still there.
    pub(super) fn answer(&mut self, client: SocketAddr, server: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
        let found = self.open.iter_mut().find(|one| (one.client, one.server) == (client, server));
        found.map(|one| one.answer(payload)).unwrap_or_default()
    }
}

/// The client violates the protocol.
struct Broken;

impl Connection {
    fn segment(&self, sequence: u32, flags: TcpFlags, payload: &[u8]) -> Option<Vec<u8>> {
        packet::build_tcp(&Segment {
            source: self.server,
            destination: self.client,
            sequence,
            acknowledged: self.expected,
            flags,
            payload,
        })
    }

    fn take(&mut self, segment: &Segment<'_>, taken: &mut Taken) -> Result<(), Broken> {
        // The bytes that were sent and are not acknowledged; our FIN counts as one.
        let left = self.next.wrapping_sub(segment.acknowledged) as usize;
        let outstanding = self.unacknowledged.len() + usize::from(self.closed);
        if left <= outstanding {
            let left = left.saturating_sub(usize::from(self.closed)).min(self.unacknowledged.len());
            self.unacknowledged.drain(..self.unacknowledged.len() - left);
        }
        if segment.payload.is_empty() && !segment.flags.fin {
            return Ok(());
        }
        let again = segment.sequence != self.expected;
        if !again && !self.closing {
            self.expected = self.expected.wrapping_add(segment.payload.len() as u32);
            self.received.extend_from_slice(segment.payload);
            if segment.flags.fin {
                self.expected = self.expected.wrapping_add(1);
                self.closing = true;
            }
            self.queries(taken)?;
        }
        let acknowledge = TcpFlags { ack: true, ..TcpFlags::default() };
        if again && !self.unacknowledged.is_empty() {
            // The client has not received our last bytes.
            let from = self.next.wrapping_sub(self.unacknowledged.len() as u32 + u32::from(self.closed));
            taken.packets.extend(self.segment(from, TcpFlags { psh: true, ..acknowledge }, &self.unacknowledged));
        } else {
            taken.packets.extend(self.segment(self.next, acknowledge, &[]));
        }
        taken.packets.extend(self.close());
        Ok(())
    }

    /// Takes whole queries out of the received bytes. Each has its length before it (RFC 1035 §4.2.2).
    fn queries(&mut self, taken: &mut Taken) -> Result<(), Broken> {
        while let Some((length, rest)) = self.received.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_QUERY {
                return Err(Broken);
            }
            let Some(query) = rest.get(..length) else { break };
            taken.queries.push(query.to_vec());
            self.waiting += 1;
            self.received.drain(..2 + length);
        }
        Ok(())
    }

    fn answer(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        self.waiting = self.waiting.saturating_sub(1);
        if self.closed {
            return Vec::new();
        }
        let Ok(length) = u16::try_from(payload.len()) else { return Vec::new() };
        let bytes = [&length.to_be_bytes()[..], payload].concat();
        let flags = TcpFlags { psh: true, ack: true, ..TcpFlags::default() };
        let packet = self.segment(self.next, flags, &bytes);
        self.next = self.next.wrapping_add(bytes.len() as u32);
        self.unacknowledged.extend(bytes);
        packet.into_iter().chain(self.close()).collect()
    }

    /// Our FIN, once the client has sent its own and every query is answered.
    fn close(&mut self) -> Option<Vec<u8>> {
        if !self.closing || self.closed || self.waiting > 0 {
            return None;
        }
        let packet = self.segment(self.next, TcpFlags { fin: true, ack: true, ..TcpFlags::default() }, &[]);
        self.next = self.next.wrapping_add(1);
        self.closed = true;
        packet
    }
}

/// The RST that answers a segment of no connection (RFC 9293 §3.10.7.1), or one that violates the protocol.
fn reset(segment: &Segment<'_>) -> Option<Vec<u8>> {
    let length = segment.payload.len() as u32 + u32::from(segment.flags.syn) + u32::from(segment.flags.fin);
    packet::build_tcp(&Segment {
        source: segment.destination,
        destination: segment.source,
        sequence: if segment.flags.ack { segment.acknowledged } else { 0 },
        acknowledged: segment.sequence.wrapping_add(length),
        flags: TcpFlags { rst: true, ack: true, ..TcpFlags::default() },
        payload: &[],
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// The flags and payload of a segment.
    type Heard = (TcpFlags, Vec<u8>);

    /// A client with the functions that these tests need.
    struct Client {
        connections: Connections,
        random: Random,
        port: u16,
        sequence: u32,
        acknowledged: u32,
    }

    const SYN: TcpFlags = TcpFlags { syn: true, ack: false, psh: false, fin: false, rst: false };
    const ACK: TcpFlags = TcpFlags { syn: false, ack: true, psh: false, fin: false, rst: false };
    const FIN: TcpFlags = TcpFlags { syn: false, ack: true, psh: false, fin: true, rst: false };

    impl Client {
        fn new() -> Self {
            let random = Random::new(ChaCha20Rng::from_seed([1; 32]));
            Self { connections: Connections::default(), random, port: 40_000, sequence: u32::MAX - 3, acknowledged: 0 }
        }

        fn at(&self) -> [SocketAddr; 2] {
            [([198, 18, 0, 2], self.port).into(), ([198, 18, 0, 1], 53).into()]
        }

        /// Sends a segment, and returns the flags and payloads that come back.
        fn send(&mut self, flags: TcpFlags, payload: &[u8]) -> (Vec<Heard>, Vec<Vec<u8>>) {
            let [source, destination] = self.at();
            let (sequence, acknowledged) = (self.sequence, if flags.ack { self.acknowledged } else { 0 });
            let segment = Segment { source, destination, sequence, acknowledged, flags, payload };
            let bytes = packet::build_tcp(&segment).unwrap();
            assert_eq!(packet::tcp(&bytes), Some(segment), "what is built is what is read");
            let taken = self.connections.take(&mut self.random, &segment);
            self.sequence = sequence.wrapping_add(payload.len() as u32 + u32::from(flags.syn) + u32::from(flags.fin));
            (self.hear(taken.packets), taken.queries)
        }

        fn hear(&mut self, packets: Vec<Vec<u8>>) -> Vec<Heard> {
            let mut heard = Vec::new();
            for bytes in packets {
                let segment = packet::tcp(&bytes).unwrap();
                let length = segment.payload.len() as u32 + u32::from(segment.flags.syn) + u32::from(segment.flags.fin);
                if !segment.flags.rst {
                    assert_eq!(segment.acknowledged, self.sequence);
                    assert!(segment.flags.syn || segment.sequence == self.acknowledged);
                    self.acknowledged = segment.sequence.wrapping_add(length);
                }
                heard.push((segment.flags, segment.payload.to_vec()));
            }
            heard
        }

        fn answer(&mut self, payload: &[u8]) -> Vec<Heard> {
            let [client, server] = self.at();
            let packets = self.connections.answer(client, server, payload);
            self.hear(packets)
        }
    }

    #[test]
    fn a_connection_takes_queries_in_pieces_answers_them_and_ends() {
        let mut client = Client::new();
        assert_eq!(client.send(SYN, &[]).0, [(TcpFlags { syn: true, ..ACK }, vec![])]);
        client.send(ACK, &[]);
        // First the length alone, then one query and a part of the next, then the rest. Meanwhile the sequence numbers
        // wrap around.
        assert_eq!(client.send(ACK, &[0, 3]).1, [[0; 0]; 0]);
        assert_eq!(client.send(ACK, b"one\x00\x03tw").1, [b"one"]);
        assert_eq!(client.send(ACK, b"o").1, [b"two"]);
        assert_eq!(client.answer(b"2"), [(TcpFlags { psh: true, ..ACK }, vec![0, 1, b'2'])]);
        // The client has no more queries. It gets its last answer, and then the FIN.
        assert_eq!(client.send(FIN, &[]).0, [(ACK, vec![])]);
        assert_eq!(client.answer(b"1").len(), 2);
        assert_eq!(client.connections.open.len(), 1);
        client.send(ACK, &[]);
        assert!(client.connections.open.is_empty());
        assert!(client.answer(b"late").is_empty());
    }

    #[test]
    fn what_was_lost_is_sent_again_when_the_client_asks_again() {
        let mut client = Client::new();
        client.send(SYN, &[]);
        let before = (client.sequence, client.acknowledged);
        assert_eq!(client.send(ACK, b"\x00\x01q").1, [b"q"]);
        let first = client.answer(b"a");
        (client.sequence, client.acknowledged) = before;
        let [source, destination] = client.at();
        let (sequence, acknowledged) = before;
        let again = Segment { source, destination, sequence, acknowledged, flags: ACK, payload: b"\x00\x01q" };
        let taken = client.connections.take(&mut client.random, &again);
        assert!(taken.queries.is_empty(), "a query is asked once");
        assert_eq!(packet::tcp(&taken.packets[0]).unwrap().payload, first[0].1);
    }

    #[test]
    fn what_belongs_to_no_connection_or_is_no_query_is_reset() {
        let mut client = Client::new();
        let reset = [(TcpFlags { rst: true, ..ACK }, vec![])];
        assert_eq!(client.send(ACK, b"x").0, reset);
        client.send(SYN, &[]);
        let huge = [&2_000_u16.to_be_bytes()[..], b"x"].concat();
        assert_eq!(client.send(ACK, &huge).0, reset);
        assert!(client.connections.open.is_empty());
        client.send(SYN, &[]);
        assert!(client.send(TcpFlags { rst: true, ..ACK }, &[]).0.is_empty());
        assert!(client.connections.open.is_empty());
    }

    #[test]
    fn of_too_many_connections_the_one_heard_longest_ago_gives_way() {
        let mut client = Client::new();
        for _ in 0..CONNECTIONS {
            client.send(SYN, &[]);
            client.port += 1;
        }
        let [source, destination] = client.at();
        let segment = Segment { source, destination, sequence: 1, acknowledged: 0, flags: SYN, payload: &[] };
        let taken = client.connections.take(&mut client.random, &segment);
        assert_eq!(client.connections.open.len(), CONNECTIONS);
        let out = packet::tcp(&taken.packets[1]).unwrap();
        assert!(out.flags.rst && out.destination.port() == 40_000);
    }
}
