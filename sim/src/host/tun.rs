//! The virtual interface of a node and what runs on it.
//!
//! The role's [`Output::Packet`](cyphonic_core::machine::Output::Packet) comes in here; what applications send goes to
//! the role as [`Input::Packet`](cyphonic_core::machine::Input::Packet). TCP is smoltcp's; UDP and ICMP are read and
//! written by hand, so that a probe is one packet of exactly the size asked for. Every packet that applications send
//! forbids fragmentation, as path MTU discovery does everywhere today, and fragments are not taken.
//!
//! Three services answer without being started: ICMP echo, UDP echo (port 7, RFC 862), and two sinks, for TCP and UDP.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cyphonic_core::name::Virtual;
use cyphonic_core::time::Instant;

use super::apps::{Apps, Inbound};
use super::count::{Loss, Losses, count};
use super::sink::{Sinks, UDP_SINK_PORT};
use super::stack::TcpStack;
use super::wire::{self, Icmp};
use crate::net::packet::{self, echo_reply, protocol};

/// How many packets may wait between applications and the role, each way.
pub const TUN_QUEUE_LIMIT: usize = 16_384;

/// Where UDP is sent back unchanged (RFC 862).
pub const UDP_ECHO_PORT: u16 = 7;

/// The virtual interface of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// The largest packet in bytes. The TCP MSS follows it.
    pub mtu: usize,
    /// Where applications send DNS queries.
    pub dns: SocketAddr,
}

impl Default for TunConfig {
    /// 1,280 bytes, the least that IPv6 asks of a link (RFC 8200 §5), and DNS at 198.18.0.1.
    fn default() -> Self {
        Self { mtu: 1280, dns: SocketAddr::from(([198, 18, 0, 1], 53)) }
    }
}

/// The virtual interface as an application sees it: the way out.
pub(super) struct Outlet<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a TunConfig,
    pub(super) addresses: Option<Virtual>,
    pub(super) queue: &'a mut VecDeque<Bytes>,
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
    /// Our virtual address of the same family as `peer`.
    pub(super) fn source_for(&self, peer: IpAddr) -> Result<IpAddr, Unsent> {
        let ours = self.addresses.ok_or(Unsent::NoAddress)?;
        Ok(if peer.is_ipv4() { ours.v4.into() } else { ours.v6.into() })
    }

    pub(super) fn udp(&mut self, port: u16, destination: SocketAddr, payload: &[u8]) -> Result<(), Unsent> {
        let source = SocketAddr::new(self.source_for(destination.ip())?, port);
        self.push(packet::udp(source, destination, wire::whole(), payload))
    }

    pub(super) fn echo(&mut self, destination: IpAddr, ident: u16, seq: u16, data: &[u8]) -> Result<(), Unsent> {
        let source = self.source_for(destination)?;
        self.push(packet::echo(source, destination, wire::whole(), ident, seq, data))
    }

    fn push(&mut self, packet: Option<Vec<u8>>) -> Result<(), Unsent> {
        let packet = packet.filter(|packet| packet.len() <= self.config.mtu).ok_or(Unsent::TooBig)?;
        if self.queue.len() >= TUN_QUEUE_LIMIT {
            count(self.losses, Loss::QueueFull);
            return Err(Unsent::QueueFull);
        }
        self.queue.push_back(packet.into());
        Ok(())
    }
}

pub(super) struct Tun {
    config: TunConfig,
    addresses: Option<Virtual>,
    stack: TcpStack,
    pub(super) apps: Apps,
    pub(super) sinks: Sinks,
    inbound: VecDeque<Bytes>,
    outbound: VecDeque<Bytes>,
    dirty: bool,
    deadline: Option<Instant>,
}

impl Tun {
    pub(super) fn new(seed: u64, config: TunConfig) -> Self {
        Self {
            stack: TcpStack::new(seed, config.mtu),
            config,
            addresses: None,
            apps: Apps::new(seed),
            sinks: Sinks::default(),
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            dirty: false,
            deadline: None,
        }
    }

    pub(super) fn addresses(&self) -> Option<Virtual> {
        self.addresses
    }

    /// Gives the interface its addresses; once they are there, the same ones change nothing.
    pub(super) fn configure(&mut self, addresses: Virtual) {
        if self.addresses != Some(addresses) {
            self.stack.set_addresses([addresses.v4.into(), addresses.v6.into()].into_iter());
            self.addresses = Some(addresses);
            self.dirty = true;
        }
    }

    /// Something happened that applications must be woken for.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Takes a packet from the role.
    pub(super) fn receive(&mut self, packet: Bytes, losses: &mut Losses) {
        if self.inbound.len() < TUN_QUEUE_LIMIT {
            self.inbound.push_back(packet);
        } else {
            count(losses, Loss::QueueFull);
        }
        self.dirty = true;
    }

    /// The next packet for the role.
    pub(super) fn next(&mut self, now: Instant, losses: &mut Losses) -> Option<Bytes> {
        if self.dirty || self.deadline.is_some_and(|at| at <= now) {
            self.dirty = false;
            self.work(now, losses);
        }
        self.outbound.pop_front()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn work(&mut self, now: Instant, losses: &mut Losses) {
        while let Some(packet) = self.inbound.pop_front() {
            if let Err(loss) = self.accept(now, &packet, losses) {
                count(losses, loss);
            }
        }
        let Self { config, addresses, stack, apps, sinks, outbound, .. } = self;
        let mut outlet = Outlet { now, config, addresses: *addresses, queue: outbound, losses };
        apps.wake(&mut outlet, stack);
        if addresses.is_some() {
            loop {
                stack.poll(now);
                let again = sinks.service(now, stack, outlet.losses) | apps.service(now, stack);
                while let Some(packet) = stack.sent() {
                    // Only a packet of smoltcp's own; it keeps to the MTU, and a full queue is counted.
                    let _ = outlet.push(Some(packet));
                }
                if !again {
                    break;
                }
            }
        }
        self.deadline = [self.stack.deadline(now), self.apps.deadline()].into_iter().flatten().min();
    }

    fn accept(&mut self, now: Instant, packet: &Bytes, losses: &mut Losses) -> Result<(), Loss> {
        let ip = wire::ip(packet)?;
        if !self.addresses.is_some_and(|ours| ours.contains(ip.destination)) {
            return Err(Loss::InnerNotOurs);
        }
        if ip.fragment.is_some() {
            return Err(Loss::InnerFragment);
        }
        let Self { config, addresses, apps, sinks, stack, outbound, .. } = self;
        let mut outlet = Outlet { now, config, addresses: *addresses, queue: outbound, losses };
        let claimed = match ip.protocol {
            protocol::TCP => return if stack.receive(packet.to_vec()) { Ok(()) } else { Err(Loss::QueueFull) },
            protocol::UDP => {
                let udp = wire::udp(&ip)?;
                match udp.destination.port() {
                    // What cannot be sent back is lost, as it would be on a real host.
                    UDP_ECHO_PORT => outlet.udp(UDP_ECHO_PORT, udp.source, udp.payload).is_ok(),
                    UDP_SINK_PORT => sinks.datagram(now, udp.source, udp.payload),
                    port => apps.receive(port, &Inbound::Datagram { from: udp.source, payload: udp.payload }, now),
                }
            }
            protocol::ICMP | protocol::ICMPV6 => match wire::icmp(&ip, packet)? {
                Icmp::Request => outlet.push(echo_reply(packet)).is_ok(),
                Icmp::Reply { ident, seq, data } => {
                    apps.receive(ident, &Inbound::EchoReply { from: ip.source, seq, data }, now)
                }
                Icmp::Error { error, port, seq } => apps.receive(port, &Inbound::Error { error, seq }, now),
                Icmp::Other => return Err(Loss::Icmp),
            },
            _ => return Err(Loss::UnknownProtocol),
        };
        if claimed { Ok(()) } else { Err(Loss::InnerUnclaimed) }
    }
}
