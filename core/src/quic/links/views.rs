//! What can be asked of a link.

use std::net::SocketAddr;
use std::time::Duration;

use super::{LinkId, Links};
use crate::time::Instant;

impl Links {
    /// The version in which we write to the peer. `None` if the link is gone, or if nothing was received on it yet.
    pub fn version(&self, id: LinkId) -> Option<u8> {
        let theirs = self.links.get(&id)?.theirs?;
        Some(self.config.options.versions.towards(Some(theirs)).version)
    }

    /// The peer's address, as validated by the handshake or by path validation since (RFC 9000 §8).
    pub fn remote(&self, id: LinkId) -> Option<SocketAddr> {
        self.links.get(&id).map(|l| l.reached_at.unwrap_or(l.proved))
    }

    /// The source address of the last authentic packet, validated or not.
    pub fn present(&self, id: LinkId) -> Option<SocketAddr> {
        self.links.get(&id).map(|l| l.reached_at.unwrap_or(l.connection.remote_address()))
    }

    /// When the peer was heard last.
    pub fn heard_at(&self, id: LinkId) -> Option<Instant> {
        self.links.get(&id).map(|l| l.heard_at)
    }

    /// Our address on this link, for packets to [`Self::remote`].
    pub fn local(&self, id: LinkId) -> Option<SocketAddr> {
        self.links.get(&id).map(|l| l.local_for(l.proved))
    }

    /// The smoothed round trip to the peer (RFC 9002 §5.3).
    pub fn rtt(&self, id: LinkId) -> Option<Duration> {
        self.links.get(&id).filter(|l| l.connected).map(|l| l.connection.rtt())
    }

    /// The largest DATAGRAM frame content that the link takes now, bytes.
    pub fn max_datagram(&mut self, id: LinkId) -> Option<usize> {
        self.links.get_mut(&id).and_then(|l| l.connection.datagrams().max_size())
    }

    /// The addresses of the service that a link leads to, as they were given when it was opened.
    pub fn places(&self, id: LinkId) -> &[SocketAddr] {
        self.links.get(&id).and_then(|l| l.answers.as_ref()).map_or(&[], |answers| &answers.places)
    }
}
