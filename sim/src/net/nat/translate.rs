//! The two translations within one family.

use std::net::IpAddr;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;

use super::table::{Inside, Key, Kind, Table};
use super::{Hairpin, IcmpErrors, NatConfig};
use crate::net::NetDrop;
use crate::net::packet::{End, Ip, Transport, ipv4_header_is_intact, parse_icmp_error, rewrite, rewrite_quote};

/// A NAT, pure: packets and time go in.
#[derive(Debug)]
pub struct Nat {
    table: Table,
}

impl Nat {
    /// `rng` gives random ports, random addresses, and the times of random losses of mappings.
    ///
    /// # Panics
    /// If there is no external address, or if the external addresses are of two families.
    pub fn new(config: NatConfig, rng: ChaCha20Rng) -> Self {
        config.check();
        Self { table: Table::new(config, rng) }
    }

    /// How it behaves.
    pub fn config(&self) -> &NatConfig {
        &self.table.config
    }

    /// Changes the configuration from now on; existing mappings stay.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn set_config(&mut self, config: NatConfig) {
        config.check();
        self.table.config = config;
    }

    /// Forgets every mapping. Port allocation goes on where it was.
    pub fn clear(&mut self) {
        self.table.clear();
    }

    /// Reboots: forgets every mapping and restarts port allocation.
    pub fn reboot(&mut self) {
        self.table.reboot();
    }

    /// Forgets the UDP mappings of an inside host to certain remote addresses, and gives it other ports from now on,
    /// unless the NAT overloads ports.
    pub fn rebind(&mut self, now: Instant, host: IpAddr, is_far: impl Fn(IpAddr) -> bool) {
        self.table.rebind(now, host, is_far);
    }

    /// The number of mappings that have not expired at `now`.
    pub fn live_mappings(&self, now: Instant) -> usize {
        self.table.live_mappings(now)
    }

    /// Whether an address is one of its external ones.
    pub fn is_external(&self, address: IpAddr) -> bool {
        self.config().external.contains(&address)
    }

    /// Whether the NAT translates the packet's family.
    fn translates(&self, ip: &Ip<'_>) -> Result<(), NetDrop> {
        if ip.source.is_ipv4() == self.config().is_ipv4() { Ok(()) } else { Err(NetDrop::NatUnsupported) }
    }

    /// Translates a whole packet on its way out. On an error the packet is to be dropped.
    pub fn outgoing(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        self.translates(&ip)?;
        if ip.transport() == Some(Transport::IcmpError) {
            return self.outgoing_error(now, packet);
        }
        let conversation = Conversation::of(&ip).ok_or(NetDrop::NatUnsupported)?;
        let Conversation { kind, source: inside, destination: remote, transport } = conversation;
        if matches!(transport, Transport::Echo { request: false, .. }) {
            return Err(NetDrop::NatUnsupported);
        }
        let (address, port) = self.table.outbound(now, kind, inside, remote, transport)?;
        rewrite(packet, End::Source, address, port).ok_or(NetDrop::BadPacket)
    }

    /// Translates a whole packet on its way in, whose destination is an external address. On an error the packet is to
    /// be dropped.
    pub fn incoming(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        self.translates(&ip)?;
        if ip.transport() == Some(Transport::IcmpError) {
            return self.incoming_error(now, packet);
        }
        let conversation = Conversation::of(&ip).ok_or(NetDrop::NatUnsupported)?;
        let Conversation { kind, source: remote, destination: external, transport } = conversation;
        if matches!(transport, Transport::Echo { request: true, .. }) {
            return Err(NetDrop::NoMapping);
        }
        let inside = self.table.inbound(now, kind, external, remote, transport)?;
        rewrite(packet, End::Destination, inside.0, inside.1).ok_or(NetDrop::BadPacket)
    }

    /// Turns a whole packet from inside to an external address back inside. On an error the packet is to be dropped.
    pub fn hairpin(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        let sender = match ip.transport() {
            Some(Transport::Udp { source, .. } | Transport::Tcp { source, .. }) => Some((ip.source, source)),
            _ => None,
        };
        if self.config().hairpin == Hairpin::Off {
            return Err(NetDrop::Hairpin);
        }
        self.outgoing(now, packet)?;
        self.incoming(now, packet)?;
        match sender {
            Some((address, port)) if self.config().hairpin == Hairpin::InternalSource => {
                rewrite(packet, End::Source, address, port).ok_or(NetDrop::BadPacket)
            }
            _ => Ok(()),
        }
    }

    /// Translates an ICMP error of an inside host about a packet that came in.
    fn outgoing_error(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let Conversation { kind, source: remote, destination: inside, .. } = Conversation::quoted(packet)?;
        let key = self.table.external_of(now, kind, inside, remote)?;
        let (address, port) = key.external;
        rewrite_quote(packet, End::Destination, address, port).ok_or(NetDrop::BadPacket)?;
        rewrite(packet, End::Source, address, 0).ok_or(NetDrop::BadPacket)?;
        self.carry_error(key)
    }

    /// Translates an ICMP error from outside, if the quoted packet belongs to a session.
    fn incoming_error(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let Conversation { kind, source, destination, .. } = Conversation::quoted(packet)?;
        let key = self.table.session(now, kind, source, destination)?;
        let (address, port) = self.table.inside_of(key);
        rewrite_quote(packet, End::Source, address, port).ok_or(NetDrop::BadPacket)?;
        rewrite(packet, End::Destination, address, 0).ok_or(NetDrop::BadPacket)?;
        self.carry_error(key)
    }

    fn carry_error(&mut self, about: Key) -> Result<(), NetDrop> {
        match self.config().icmp_errors {
            IcmpErrors::Carried => Ok(()),
            IcmpErrors::Dropped => Err(NetDrop::NatUnsupported),
            IcmpErrors::EndMapping => {
                self.table.forget(about);
                Ok(())
            }
        }
    }
}

/// The two ends of a packet. An echo has its identifier as the port of the end that sent the request, and no port at
/// the other end.
pub(super) struct Conversation {
    /// The protocol whose ports are translated.
    pub(super) kind: Kind,
    /// The source of the packet, port included.
    pub(super) source: Inside,
    /// The destination of the packet, port included.
    pub(super) destination: Inside,
    /// The transport header as it was read.
    pub(super) transport: Transport,
}

impl Conversation {
    /// Of a UDP, TCP or ICMP echo packet.
    pub(super) fn of(ip: &Ip<'_>) -> Option<Self> {
        let transport = ip.transport()?;
        let (kind, source, destination) = match transport {
            Transport::Udp { source, destination } => (Kind::Udp, source, destination),
            Transport::Tcp { source, destination, .. } => (Kind::Tcp, source, destination),
            Transport::Echo { request: true, id } => (Kind::Echo, id, 0),
            Transport::Echo { request: false, id } => (Kind::Echo, 0, id),
            Transport::IcmpError | Transport::Other => return None,
        };
        Some(Self { kind, source: (ip.source, source), destination: (ip.destination, destination), transport })
    }

    /// Of the packet that an ICMP error quotes, if the error and the quoted header are intact (RFC 5508, REQ-3).
    pub(super) fn quoted(packet: &[u8]) -> Result<Self, NetDrop> {
        let quote = parse_icmp_error(packet).ok_or(NetDrop::BadPacket)?;
        let ip = Ip::parse_quoted(quote.packet).ok_or(NetDrop::BadPacket)?;
        if ip.source.is_ipv4() && !ipv4_header_is_intact(quote.packet) {
            return Err(NetDrop::BadPacket);
        }
        Self::of(&ip).ok_or(NetDrop::NatUnsupported)
    }
}
