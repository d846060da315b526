//! Stateful translation between IPv6 inside and IPv4 outside (RFC 6146), and the names that lead there (RFC 6147).
//!
//! Inside, the IPv4 address 198.51.100.1 is 64:ff9b::198.51.100.1. A packet to such an address leaves as IPv4, from the
//! external address and port of a mapping. Mappings work as in [`Nat`](super::Nat), by the same [`NatConfig`].

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cyphonic_core::time::Instant;
use ipnet::Ipv6Net;
use rand_chacha::ChaCha20Rng;

use super::NatConfig;
use super::siit::{Ends, GROWTH, LEAST_MTU_V6, allow_fragments, error_to_v4, error_to_v6, translate};
use super::table::{Key, Outside, Table};
use super::translate::Conversation;
use crate::net::packet::{
    IcmpError, Ip, Reassembled, Reassembler, Transport, fragment_ipv6, icmp_error_quoting, parse_icmp_error,
};
use crate::net::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop};

/// The default prefix of IPv4 addresses inside (RFC 6052, section 2.1).
pub const WELL_KNOWN_PREFIX: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// The inside form of an IPv4 address, under a /96 (RFC 6052, section 2.2).
pub fn embed(prefix: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    (u128::from(prefix.network()) | u128::from(u32::from(address))).into()
}

/// The IPv4 address whose inside form this is; `None` if it is outside of the prefix.
pub fn extract(prefix: Ipv6Net, address: Ipv6Addr) -> Option<Ipv4Addr> {
    prefix.contains(&address).then(|| Ipv4Addr::from(u128::from(address) as u32))
}

/// The answer of DNS64 to a query for AAAA (RFC 6147, section 5.1): the AAAA records of the name; if there are none,
/// the inside forms of its A records.
pub fn dns64(prefix: Ipv6Net, aaaa: &[Ipv6Addr], a: &[Ipv4Addr]) -> Vec<Ipv6Addr> {
    // IPv4-mapped addresses do not count (section 5.1.4).
    let real: Vec<_> = aaaa.iter().copied().filter(|address| address.to_ipv4_mapped().is_none()).collect();
    if real.is_empty() { a.iter().map(|&address| embed(prefix, address)).collect() } else { real }
}

/// A NAT64, pure: packets and time go in, packets of the other family come out.
#[derive(Debug)]
pub struct Nat64 {
    table: Table,
    prefix: Ipv6Net,
    /// Identification of the last packet that may be fragmented.
    identification: u32,
}

impl Nat64 {
    /// `prefix` is a /96; `rng` as for [`Nat::new`](super::Nat::new).
    ///
    /// # Panics
    /// If there is no external address, if one of them is IPv6, or if the prefix has another length.
    pub fn new(config: NatConfig, prefix: Ipv6Net, rng: ChaCha20Rng) -> Self {
        config.check();
        assert!(config.is_ipv4(), "the outside of a NAT64 is IPv4");
        assert_eq!(prefix.prefix_len(), 96, "IPv4 addresses are embedded in a /96");
        Self { table: Table::new(config, rng), prefix, identification: 0 }
    }

    /// How its mappings behave.
    pub fn config(&self) -> &NatConfig {
        &self.table.config
    }

    /// Reboots: forgets all mappings and restarts port allocation.
    pub fn reboot(&mut self) {
        self.table.reboot();
    }

    /// As [`Nat::rebind`](super::Nat::rebind).
    pub fn rebind(&mut self, now: Instant, host: IpAddr, is_far: impl Fn(IpAddr) -> bool) {
        self.table.rebind(now, host, is_far);
    }

    /// The number of mappings that have not expired at `now`.
    pub fn live_mappings(&self, now: Instant) -> usize {
        self.table.live_mappings(now)
    }

    fn next_identification(&mut self) -> u32 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    fn remote(&self, (address, port): (IpAddr, u16)) -> Result<Outside, NetDrop> {
        match address {
            IpAddr::V6(address) => {
                extract(self.prefix, address).map(|a| (a.into(), port)).ok_or(NetDrop::NatUnsupported)
            }
            IpAddr::V4(_) => Err(NetDrop::NatUnsupported),
        }
    }

    /// The IPv4 packet for a whole IPv6 packet to the prefix.
    pub fn outgoing(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        if ip.transport() == Some(Transport::IcmpError) {
            return self.outgoing_error(now, packet);
        }
        let Conversation { kind, source, destination, transport } =
            Conversation::of(&ip).ok_or(NetDrop::NatUnsupported)?;
        if matches!(transport, Transport::Echo { request: false, .. }) {
            return Err(NetDrop::NatUnsupported);
        }
        let remote = self.remote(destination)?;
        let external = self.table.outbound(now, kind, source, remote, transport)?;
        let ends = Ends { source: external, destination: remote };
        let identification = self.next_identification() as u16;
        translate(packet, true, ends, identification).ok_or(NetDrop::BadPacket)
    }

    /// The IPv6 packet for a whole IPv4 packet to an external address.
    pub fn incoming(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        if ip.transport() == Some(Transport::IcmpError) {
            return self.incoming_error(now, packet);
        }
        let Conversation { kind, source, destination, transport } =
            Conversation::of(&ip).ok_or(NetDrop::NatUnsupported)?;
        let (IpAddr::V4(remote), IpAddr::V4(_)) = (source.0, destination.0) else {
            return Err(NetDrop::NatUnsupported);
        };
        if matches!(transport, Transport::Echo { request: true, .. }) {
            return Err(NetDrop::NoMapping);
        }
        let inside = self.table.inbound(now, kind, destination, source, transport)?;
        let ends = Ends { source: (embed(self.prefix, remote).into(), source.1), destination: inside };
        translate(packet, true, ends, 0).ok_or(NetDrop::BadPacket)
    }

    fn outgoing_error(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, NetDrop> {
        let quoted = Conversation::quoted(packet)?;
        let remote = self.remote(quoted.source)?;
        let Key { external, .. } = self.table.external_of(now, quoted.kind, quoted.destination, remote)?;
        let ends = Ends { source: remote, destination: external };
        let outer = Ip::parse(packet).map(|ip| ip.destination).ok_or(NetDrop::BadPacket)?;
        let to = self.remote((outer, 0))?.0;
        carry_error(packet, error_to_v4, ends, external.0, to)
    }

    fn incoming_error(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, NetDrop> {
        let quoted = Conversation::quoted(packet)?;
        let IpAddr::V4(remote) = quoted.destination.0 else { return Err(NetDrop::NatUnsupported) };
        let key = self.table.session(now, quoted.kind, quoted.source, quoted.destination)?;
        let inside = self.table.inside_of(key);
        let destination = (embed(self.prefix, remote).into(), quoted.destination.1);
        let Some(IpAddr::V4(from)) = Ip::parse(packet).map(|ip| ip.source) else { return Err(NetDrop::BadPacket) };
        let ends = Ends { source: inside, destination };
        carry_error(packet, error_to_v6, ends, embed(self.prefix, from).into(), inside.0)
    }
}

/// Translates an ICMP error into the other family.
fn carry_error(
    packet: &[u8],
    turn: fn(IcmpError) -> Option<IcmpError>,
    ends: Ends,
    from: IpAddr,
    to: IpAddr,
) -> Result<Vec<u8>, NetDrop> {
    let quote = parse_icmp_error(packet).ok_or(NetDrop::BadPacket)?;
    let error = turn(quote.error).ok_or(NetDrop::NatUnsupported)?;
    let about = translate(quote.packet, false, ends, 0).ok_or(NetDrop::BadPacket)?;
    icmp_error_quoting(error, from, to, &about).ok_or(NetDrop::BadPacket)
}

/// A NAT64 in the network: IPv6 to its prefix leaves as IPv4, IPv4 to its external addresses enters as IPv6. All other
/// packets are forwarded untranslated.
#[derive(Debug)]
pub struct Nat64Box {
    nat: Nat64,
    forwarder: Forwarder,
    reassembler: Reassembler,
}

impl Nat64Box {
    /// `forwarder` has the routes of all sides in both families, and an address of each for its reports.
    pub fn new(nat: Nat64, forwarder: Forwarder) -> Self {
        Self { nat, forwarder, reassembler: Reassembler::default() }
    }

    /// The translation itself, to be changed.
    pub fn nat_mut(&mut self) -> &mut Nat64 {
        &mut self.nat
    }

    /// Routes, MTUs, counters.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Routes, MTUs, counters, to be changed.
    pub fn forwarder_mut(&mut self) -> &mut Forwarder {
        &mut self.forwarder
    }

    fn handle_packet(&mut self, now: Instant, packet: Vec<u8>) {
        let Some(ip) = self.forwarder.intact(&packet) else { return };
        let (destination, ttl) = (ip.destination, ip.ttl);
        let is_ours = match destination {
            IpAddr::V6(address) => self.nat.prefix.contains(&address),
            IpAddr::V4(_) => self.nat.config().external.contains(&destination),
        };
        if !is_ours {
            return self.forwarder.forward(packet);
        }
        let (packet, was_cut) = match self.reassembler.push(now, packet) {
            Reassembled::Untouched(packet) => (packet, false),
            Reassembled::Whole { packet, .. } => (packet, true),
            Reassembled::Waiting => return,
            Reassembled::Dropped(reason) => return self.forwarder.drop(reason),
        };
        if !self.forwarder.has_hop_left(ttl, &packet) {
            return;
        }
        let translated = match destination {
            IpAddr::V6(_) => self.nat.outgoing(now, &packet),
            IpAddr::V4(_) => self.nat.incoming(now, &packet),
        };
        match translated {
            Ok(mut translated) => {
                if was_cut && destination.is_ipv6() {
                    allow_fragments(&mut translated);
                }
                self.send(now, &packet, translated);
            }
            Err(reason) => self.forwarder.drop(reason),
        }
    }

    /// Sends a packet, whole as it came and as it is now.
    fn send(&mut self, now: Instant, came: &[u8], packet: Vec<u8>) {
        let Some(destination) = Ip::parse(&packet).map(|ip| ip.destination) else { return };
        // Hairpinning (RFC 6146, section 3.8): a packet to the external address of another inside host goes back
        // inside.
        if self.nat.config().external.contains(&destination) {
            return match self.nat.incoming(now, &packet) {
                Ok(back) => self.send(now, came, back),
                Err(reason) => self.forwarder.drop(reason),
            };
        }
        let Some(iface) = self.forwarder.route(destination, came) else { return };
        let mtu = self.forwarder.mtu(iface);
        let may_cut = Ip::parse(came).is_some_and(|ip| !ip.dont_fragment);
        if destination.is_ipv4() && (packet.len() <= mtu || self.forwarder.fits_quietly(iface, &packet)) {
            self.forwarder.send_on(iface, packet);
        } else if destination.is_ipv6() && may_cut && packet.len() > LEAST_MTU_V6 {
            // RFC 7915, section 4.
            let id = self.nat.next_identification();
            for fragment in fragment_ipv6(&packet, LEAST_MTU_V6, id).unwrap_or_default() {
                self.forwarder.send_on(iface, fragment);
            }
        } else if destination.is_ipv6() && packet.len() <= mtu {
            self.forwarder.send_on(iface, packet);
        } else {
            let mtu = if destination.is_ipv4() { mtu + GROWTH } else { mtu - GROWTH } as u32;
            let external = self.nat.config().external[0];
            self.forwarder.drop(NetDrop::TooBig);
            self.forwarder.report(IcmpError::TooBig { mtu }, destination.is_ipv6().then_some(external), came);
        }
    }
}

impl NetBox for Nat64Box {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        if self.reassembler.next_expiry().is_some_and(|at| at <= now) {
            let expired = self.reassembler.expire(now);
            self.forwarder.drop_many(NetDrop::FragmentTimeout, expired);
        }
        if let BoxInput::Packet { packet, .. } = input {
            self.handle_packet(now, packet);
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        self.forwarder.poll().unwrap_or_else(|| BoxOutput::Wait(self.reassembler.next_expiry()))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
