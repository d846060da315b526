//! A NAT in the network.

use std::any::Any;

use cyphonic_core::time::Instant;

use super::Nat;
use super::siit::LEAST_MTU_V6;
use crate::net::packet::{End, IcmpError, Ip, Reassembled, Reassembler, Transport, fragment_ipv6, rewrite, tcp_reset};
use crate::net::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop};

/// A router that translates one family between one outside interface and all others. Packets of the other family, and
/// packets between two inside interfaces, are forwarded untranslated. Its external addresses answer no echo request.
#[derive(Debug)]
pub struct NatBox {
    nat: Nat,
    forwarder: Forwarder,
    outside: usize,
    reassembler: Reassembler,
    /// Identification of the last IPv6 packet that was fragmented again.
    identification: u32,
}

impl NatBox {
    /// `forwarder` has the routes of all sides and the inside addresses; `outside` is the interface whose packets are
    /// translated.
    pub fn new(nat: Nat, forwarder: Forwarder, outside: usize) -> Self {
        Self { nat, forwarder, outside, reassembler: Reassembler::default(), identification: 0 }
    }

    /// The translation itself.
    pub fn nat(&self) -> &Nat {
        &self.nat
    }

    /// The translation itself, to be changed: rebooted, or configured otherwise.
    pub fn nat_mut(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// Reboots: only counters remain.
    pub fn reboot(&mut self) {
        self.nat.reboot();
        self.reassembler = Reassembler::default();
    }

    /// Routes, MTUs, counters.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Routes, MTUs, counters, to be changed.
    pub fn forwarder_mut(&mut self) -> &mut Forwarder {
        &mut self.forwarder
    }

    fn handle_packet(&mut self, now: Instant, iface: usize, packet: Vec<u8>) {
        let Some(is_ipv4) = self.forwarder.intact(&packet).map(|ip| ip.source.is_ipv4()) else { return };
        if is_ipv4 != self.nat.config().is_ipv4() {
            return self.forwarder.forward(packet);
        }
        let is_fragment = Ip::parse(&packet).is_some_and(|ip| ip.fragment.is_some());
        if is_fragment && !self.nat.config().fragments {
            return self.forwarder.drop(NetDrop::NatUnsupported);
        }
        let packet = match self.reassembler.push(now, packet) {
            Reassembled::Untouched(packet) | Reassembled::Whole { packet, .. } => packet,
            Reassembled::Waiting => return,
            Reassembled::Dropped(reason) => return self.forwarder.drop(reason),
        };
        let cut = is_fragment && !is_ipv4;
        if iface == self.outside {
            self.handle_incoming(now, packet, cut);
        } else {
            self.handle_outgoing(now, packet, cut);
        }
    }

    /// Sends a packet that fits the MTU. An IPv6 packet that arrived in fragments (`cut`) leaves in fragments.
    fn send_on(&mut self, iface: usize, packet: Vec<u8>, cut: bool) {
        if !cut {
            return self.forwarder.send_on(iface, packet);
        }
        self.identification = self.identification.wrapping_add(1);
        for fragment in fragment_ipv6(&packet, LEAST_MTU_V6, self.identification).unwrap_or_default() {
            self.forwarder.send_on(iface, fragment);
        }
    }

    fn handle_outgoing(&mut self, now: Instant, mut packet: Vec<u8>, cut: bool) {
        let Some((destination, ttl)) = Ip::parse(&packet).map(|ip| (ip.destination, ip.ttl)) else { return };
        if self.forwarder.owns(destination) {
            return self.forwarder.answer(&packet);
        }
        if self.nat.is_external(destination) {
            return self.turn_back(now, ttl, packet, cut);
        }
        if !self.forwarder.has_hop_left(ttl, &packet) {
            return;
        }
        let Some(iface) = self.forwarder.route(destination, &packet) else { return };
        // This check comes before the translation, so that the report quotes the packet as its sender sent it.
        if !cut && !self.forwarder.fits(iface, &packet) {
            return;
        }
        if iface == self.outside
            && let Err(reason) = self.nat.outgoing(now, &mut packet)
        {
            return self.refuse_outgoing(reason, &packet);
        }
        self.send_on(iface, packet, cut);
    }

    /// Hairpins a packet from inside to an external address.
    fn turn_back(&mut self, now: Instant, ttl: u8, mut packet: Vec<u8>, cut: bool) {
        if !self.forwarder.has_hop_left(ttl, &packet) {
            return;
        }
        if let Err(reason) = self.nat.hairpin(now, &mut packet) {
            return self.refuse_outgoing(reason, &packet);
        }
        let inside = Ip::parse(&packet).map(|ip| ip.destination);
        match inside.and_then(|inside| self.forwarder.lookup(inside)) {
            Some(iface) if cut || self.forwarder.fits_quietly(iface, &packet) => self.send_on(iface, packet, cut),
            Some(_) => self.forwarder.drop(NetDrop::TooBig),
            None => self.forwarder.drop(NetDrop::NoRoute),
        }
    }

    fn refuse_outgoing(&mut self, reason: NetDrop, packet: &[u8]) {
        self.forwarder.drop(reason);
        if reason == NetDrop::NatTableFull && self.nat.config().answers.full {
            self.forwarder.report(IcmpError::Prohibited, None, packet);
        }
    }

    fn refuse_incoming(&mut self, reason: NetDrop, packet: &[u8]) {
        self.forwarder.drop(reason);
        let unsolicited = matches!(reason, NetDrop::NoMapping | NetDrop::NatFiltered);
        if !unsolicited || !self.nat.config().answers.unsolicited {
            return;
        }
        if let Some(reset) = tcp_reset(packet) {
            self.forwarder.originate(reset);
        } else {
            let external = Ip::parse(packet).map(|ip| ip.destination);
            self.forwarder.report(IcmpError::PortUnreachable, external, packet);
        }
    }

    fn handle_incoming(&mut self, now: Instant, mut packet: Vec<u8>, cut: bool) {
        let Some(ip) = Ip::parse(&packet) else { return };
        let (destination, ttl) = (ip.destination, ip.ttl);
        let port = match ip.transport() {
            Some(Transport::Udp { destination, .. } | Transport::Tcp { destination, .. }) => destination,
            Some(Transport::Echo { id, .. }) => id,
            _ => 0,
        };
        // Outside routers have no route to inside addresses.
        if !self.nat.is_external(destination) {
            return self.forwarder.drop(NetDrop::NoRoute);
        }
        if ttl <= 1 {
            self.forwarder.drop(NetDrop::TtlExpired);
            return self.forwarder.report(IcmpError::TimeExceeded, Some(destination), &packet);
        }
        if let Err(reason) = self.nat.incoming(now, &mut packet) {
            return self.refuse_incoming(reason, &packet);
        }
        let inside = Ip::parse(&packet).map(|ip| ip.destination);
        let Some(iface) = inside.and_then(|inside| self.forwarder.lookup(inside)) else {
            return self.forwarder.drop(NetDrop::NoRoute);
        };
        if cut || self.forwarder.fits_quietly(iface, &packet) {
            self.send_on(iface, packet, cut);
        } else if rewrite(&mut packet, End::Destination, destination, port).is_some() {
            // The report quotes the packet as its sender sent it.
            self.forwarder.too_big(iface, Some(destination), &packet);
        }
    }
}

impl NetBox for NatBox {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        if self.reassembler.next_expiry().is_some_and(|at| at <= now) {
            let expired = self.reassembler.expire(now);
            self.forwarder.drop_many(NetDrop::FragmentTimeout, expired);
        }
        if let BoxInput::Packet { iface, packet } = input {
            self.handle_packet(now, iface, packet);
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        self.forwarder.poll().unwrap_or_else(|| BoxOutput::Wait(self.reassembler.next_expiry()))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
