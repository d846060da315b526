//! The virtual interface of a node, with its applications and services.
//!
//! The role's [`Output::Packets`](cyphonic_core::machine::Output::Packets) comes in here; what applications send goes
//! to the role as [`Input::Packet`](cyphonic_core::machine::Input::Packet). TCP is smoltcp's; UDP and ICMP are read and
//! written by hand, so that a probe is one packet of exactly the size asked for. Every packet of an application has DF
//! set, because it uses path MTU discovery: the host acts on a Packet Too Big as a kernel does ([`super::path_mtu`]).
//!
//! These services always run: ICMP echo, UDP echo (port 7, RFC 862), a TCP sink and a UDP sink.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::name::Virtual;
use cyphonic_core::time::Instant;

use super::apps::{Apps, Inbound};
use super::count::{Loss, Losses, count};
use super::headers::{self, Icmp};
use super::outlet::{Outlet, TUN_QUEUE_LIMIT, TunConfig};
use super::path_mtu::PathMtus;
use super::ports::{UDP_ECHO_PORT, UDP_SINK_PORT};
use super::sink::Sinks;
use super::stack::TcpStack;
use crate::net::packet::{Reassembled, Reassembler, echo_reply, protocol};

pub(super) struct Tun {
    config: TunConfig,
    addresses: Option<Virtual>,
    stack: TcpStack,
    /// Everything that the scenario starts on this host.
    pub(super) apps: Apps,
    /// What the TCP sink and the UDP sink received.
    pub(super) sinks: Sinks,
    paths: PathMtus,
    reassembler: Reassembler,
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
            paths: PathMtus::default(),
            reassembler: Reassembler::default(),
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            dirty: false,
            deadline: None,
        }
    }

    pub(super) fn addresses(&self) -> Option<Virtual> {
        self.addresses
    }

    /// Gives the interface its addresses. Idempotent for the same addresses.
    pub(super) fn configure(&mut self, addresses: Virtual) {
        if self.addresses != Some(addresses) {
            self.stack.set_addresses([addresses.v4.into(), addresses.v6.into()].into_iter());
            self.addresses = Some(addresses);
            self.dirty = true;
        }
    }

    /// The machine wakes up after a suspension.
    pub(super) fn resume(&mut self, lasted: Duration) {
        self.stack.stand_still(lasted);
        self.apps.stand_still(lasted);
        self.dirty = true;
    }

    /// Notes that applications must be woken.
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
        self.has_packet(now, losses);
        self.outbound.pop_front()
    }

    /// Whether there is a packet for the role. Applications run first.
    pub(super) fn has_packet(&mut self, now: Instant, losses: &mut Losses) -> bool {
        if self.dirty || self.deadline.is_some_and(|at| at <= now) {
            self.dirty = false;
            self.work(now, losses);
        }
        !self.outbound.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives received packets to applications one by one. A TCP stack that gets several segments at once acknowledges
    /// them by one packet, and the sender's slow start counts acknowledgements.
    fn work(&mut self, now: Instant, losses: &mut Losses) {
        while let Some(packet) = self.inbound.pop_front() {
            if let Err(loss) = self.accept(now, &packet, losses) {
                count(losses, loss);
            }
            self.serve(now, losses);
        }
        self.serve(now, losses);
        self.deadline = [self.stack.deadline(now), self.apps.deadline()].into_iter().flatten().min();
    }

    /// Runs applications and TCP at this instant.
    fn serve(&mut self, now: Instant, losses: &mut Losses) {
        let Self { config, addresses, stack, apps, sinks, outbound, paths, .. } = self;
        let mut outlet = Outlet { now, config, addresses: *addresses, paths, queue: outbound, losses };
        apps.wake(&mut outlet, stack);
        if addresses.is_some() {
            loop {
                stack.poll(now);
                let again = sinks.service(now, stack, outlet.losses) | apps.service(now, stack);
                while let Some(packet) = stack.sent() {
                    // The packet is smoltcp's, so it fits the MTU. A full queue is counted.
                    let _ = outlet.push(Some(packet));
                }
                if !again {
                    break;
                }
            }
        }
    }

    fn accept(&mut self, now: Instant, packet: &Bytes, losses: &mut Losses) -> Result<(), Loss> {
        let ip = headers::ip(packet)?;
        if !self.addresses.is_some_and(|ours| ours.contains(ip.destination)) {
            return Err(Loss::InnerNotOurs);
        }
        if ip.fragment.is_some() {
            self.reassembler.expire(now);
            return match self.reassembler.push(now, packet.to_vec()) {
                Reassembled::Whole { packet, .. } => self.accept(now, &packet.into(), losses),
                Reassembled::Waiting => Ok(()),
                Reassembled::Untouched(_) | Reassembled::Dropped(_) => Err(Loss::InnerFragment),
            };
        }
        let Self { config, addresses, apps, sinks, stack, outbound, paths, .. } = self;
        if let protocol::ICMP | protocol::ICMPV6 = ip.protocol
            && let Icmp::Error { .. } | Icmp::Other = headers::icmp(&ip, packet)?
        {
            paths.learn(now, packet, |source| addresses.is_some_and(|ours| ours.contains(source)));
        }
        let mut outlet = Outlet { now, config, addresses: *addresses, paths, queue: outbound, losses };
        let claimed = match ip.protocol {
            protocol::TCP => return if stack.receive(packet.to_vec()) { Ok(()) } else { Err(Loss::QueueFull) },
            protocol::UDP => {
                let udp = headers::udp(&ip)?;
                match udp.destination.port() {
                    // A datagram that cannot be sent back is lost, as on a real host.
                    UDP_ECHO_PORT => outlet.udp(UDP_ECHO_PORT, udp.source, udp.payload).is_ok(),
                    UDP_SINK_PORT => sinks.datagram(now, udp.source, udp.payload),
                    port => apps.receive(port, &Inbound::Datagram { from: udp.source, payload: udp.payload }, now),
                }
            }
            protocol::ICMP | protocol::ICMPV6 => match headers::icmp(&ip, packet)? {
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
