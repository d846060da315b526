//! Packets and DNS queries that wait for a tunnel. Both are bounded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::dns::Question;
use crate::event::DropReason;
use crate::time::Instant;

/// Most packets held for one peer.
pub const MAX_HELD_PACKETS: usize = 64;
/// Most bytes of packets held for one peer.
pub const MAX_HELD_BYTES: usize = 96 * 1024;
/// Most DNS queries held for one peer.
pub const MAX_HELD_QUERIES: usize = 32;

/// Whether `packets` of `bytes` leave room for one more packet of `len` bytes.
pub(in crate::node) const fn has_room(packets: usize, bytes: usize, len: usize) -> bool {
    packets < MAX_HELD_PACKETS && bytes + len <= MAX_HELD_BYTES
}

/// A DNS query that is answered when the tunnel is up.
pub(in crate::node) struct HeldQuery {
    /// The query, from which the answer is built. It is boxed, because queries are rare and packets are not: each
    /// packet moves through the same inputs and outputs of the parts.
    pub(in crate::node) question: Box<Question>,
    /// The application's address, to which the answer goes.
    pub(in crate::node) client: SocketAddr,
    /// The address that the query was sent to, from which the answer comes.
    pub(in crate::node) server: SocketAddr,
    /// Whether it came over TCP.
    pub(in crate::node) over_tcp: bool,
}

/// The packets and queries that wait for one peer's tunnel.
#[derive(Default)]
pub(super) struct Held {
    packets: VecDeque<Bytes>,
    bytes: usize,
    /// With the time at which each was asked, the oldest first.
    queries: VecDeque<(Instant, HeldQuery)>,
}

impl Held {
    /// Holds a packet. Without room the newest packet is refused, because the first packets of a flow open it.
    pub(super) fn push(&mut self, packet: Bytes) -> Result<(), DropReason> {
        if !has_room(self.packets.len(), self.bytes, packet.len()) && !defect!(HeldWithoutLimit) {
            return Err(DropReason::QueueFull);
        }
        self.bytes += packet.len();
        self.packets.push_back(packet);
        Ok(())
    }

    /// Keeps a DNS query that was asked at `asked`.
    pub(super) fn push_query(&mut self, asked: Instant, query: HeldQuery) -> Result<(), DropReason> {
        if self.queries.len() >= MAX_HELD_QUERIES {
            return Err(DropReason::QueueFull);
        }
        self.queries.push_back((asked, query));
        Ok(())
    }

    /// The queries that wait; the packets stay.
    pub(super) fn take_queries(&mut self) -> Vec<HeldQuery> {
        std::mem::take(&mut self.queries).into_iter().map(|(_, query)| query).collect()
    }

    /// When the next query has to be answered, if each may wait for `patience`.
    pub(super) fn query_due(&self, patience: Duration) -> Option<Instant> {
        self.queries.front().map(|(asked, _)| *asked + patience)
    }

    /// A query that has to be answered now, if each may wait for `patience`.
    pub(super) fn take_due_query(&mut self, now: Instant, patience: Duration) -> Option<HeldQuery> {
        self.query_due(patience).filter(|due| *due <= now)?;
        self.queries.pop_front().map(|(_, query)| query)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.queries.is_empty()
    }

    /// What waits: packets and queries, each in the order in which they came.
    pub(super) fn into_parts(mut self) -> (VecDeque<Bytes>, Vec<HeldQuery>) {
        let queries = self.take_queries();
        (self.packets, queries)
    }

    /// Takes over the packets and queries of another peer. Returns how many had no room and are lost.
    pub(super) fn absorb(&mut self, other: Self) -> usize {
        let mut lost = 0;
        for packet in other.packets {
            lost += usize::from(self.push(packet).is_err());
        }
        for (asked, query) in other.queries {
            lost += usize::from(self.push_query(asked, query).is_err());
        }
        self.queries.make_contiguous().sort_by_key(|(asked, _)| *asked);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_hold_refuses_the_newest_packet_and_keeps_the_oldest() {
        let mut held = Held::default();
        for i in 0..MAX_HELD_PACKETS {
            held.push(Bytes::from(vec![i as u8; 10])).unwrap();
        }
        assert_eq!(held.push(Bytes::from_static(b"late")), Err(DropReason::QueueFull));
        assert_eq!(held.packets[0][0], 0);
        let mut big = Held::default();
        big.push(Bytes::from(vec![0; MAX_HELD_BYTES])).unwrap();
        assert_eq!(big.push(Bytes::from_static(b"x")), Err(DropReason::QueueFull));
        assert_eq!(big.absorb(held), MAX_HELD_PACKETS);
    }
}
