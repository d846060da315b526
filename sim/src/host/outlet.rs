//! The virtual interface as an application uses it: its configuration, and the queue to the role.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cyphonic_core::name::Virtual;
use cyphonic_core::time::Instant;

use super::count::{Loss, Losses, count};
use super::headers;
use super::path_mtu::PathMtus;
use crate::net::packet;

/// Most packets that wait between applications and the role, in each direction.
pub const TUN_QUEUE_LIMIT: usize = 16_384;

/// The virtual interface of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// The largest packet in bytes. The TCP MSS follows it.
    pub mtu: usize,
    /// Where applications send DNS queries.
    pub dns: SocketAddr,
}

impl Default for TunConfig {
    /// An MTU of 1,280 bytes, the least that IPv6 permits (RFC 8200 §5), and DNS at 198.18.0.1.
    fn default() -> Self {
        Self { mtu: 1280, dns: SocketAddr::from(([198, 18, 0, 1], 53)) }
    }
}

/// Lets an application send.
pub(super) struct Outlet<'a> {
    /// When the application sends.
    pub(super) now: Instant,
    /// The virtual interface's MTU and DNS.
    pub(super) config: &'a TunConfig,
    /// The source addresses. `None` before the first registration.
    pub(super) addresses: Option<Virtual>,
    /// The path MTUs that Packet Too Big messages told.
    pub(super) paths: &'a mut PathMtus,
    /// Packets that wait for the node to read them.
    pub(super) queue: &'a mut VecDeque<Bytes>,
    /// Counts the packets that are lost here.
    pub(super) losses: &'a mut Losses,
}

/// Why an application's packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The node has no virtual address yet.
    NoAddress,
    /// The packet is larger than the virtual interface's MTU.
    TooBig,
    /// The queue is full.
    QueueFull,
}

impl Outlet<'_> {
    /// This node's virtual address of the same family as `peer`.
    pub(super) fn source_for(&self, peer: IpAddr) -> Result<IpAddr, Unsent> {
        let ours = self.addresses.ok_or(Unsent::NoAddress)?;
        Ok(if peer.is_ipv4() { ours.v4.into() } else { ours.v6.into() })
    }

    pub(super) fn udp(&mut self, port: u16, destination: SocketAddr, payload: &[u8]) -> Result<(), Unsent> {
        let source = SocketAddr::new(self.source_for(destination.ip())?, port);
        self.push(packet::udp(source, destination, headers::whole(), payload))
    }

    /// `exact`: what is known of the path's MTU does not count, as for a socket that probes the path MTU itself.
    pub(super) fn echo(
        &mut self,
        destination: IpAddr,
        (ident, seq): (u16, u16),
        data: &[u8],
        exact: bool,
    ) -> Result<(), Unsent> {
        let source = self.source_for(destination)?;
        let packet = packet::echo(source, destination, headers::whole(), ident, seq, data);
        if exact { self.push_whole(packet) } else { self.push(packet) }
    }

    /// Queues a packet for the role, in pieces if the path's MTU is known to be smaller.
    pub(super) fn push(&mut self, packet: Option<Vec<u8>>) -> Result<(), Unsent> {
        let packet = packet.filter(|packet| packet.len() <= self.config.mtu).ok_or(Unsent::TooBig)?;
        for piece in self.paths.cut(self.now, packet) {
            self.push_whole(Some(piece))?;
        }
        Ok(())
    }

    fn push_whole(&mut self, packet: Option<Vec<u8>>) -> Result<(), Unsent> {
        let packet = packet.filter(|packet| packet.len() <= self.config.mtu).ok_or(Unsent::TooBig)?;
        if self.queue.len() >= TUN_QUEUE_LIMIT {
            count(self.losses, Loss::QueueFull);
            return Err(Unsent::QueueFull);
        }
        self.queue.push_back(packet.into());
        Ok(())
    }
}
