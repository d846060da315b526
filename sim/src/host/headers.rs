//! Bytes that a host reads and writes itself: UDP and ICMP, over [`crate::net::packet`]. TCP is smoltcp's.

use std::net::{IpAddr, SocketAddr};

use super::count::Loss;
use crate::net::packet::{
    IcmpError, Ip, IpOptions, Transport, ipv4_header_is_intact, parse_icmp_error, protocol, transport_checksum,
};

/// IP and ICMP echo, or UDP, header bytes of a packet to `destination`.
pub(super) const fn overhead(destination: IpAddr) -> usize {
    if destination.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// Reads an IP packet and verifies the IPv4 header checksum.
pub(crate) fn ip(packet: &[u8]) -> Result<Ip<'_>, Loss> {
    let ip = Ip::parse(packet).ok_or(Loss::BadPacket)?;
    if ip.source.is_ipv4() && !ipv4_header_is_intact(packet) {
        return Err(Loss::BadChecksum);
    }
    Ok(ip)
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Udp<'a> {
    /// The IP header's address, and the UDP header's port.
    pub(crate) source: SocketAddr,
    /// The IP header's address, and the UDP header's port.
    pub(crate) destination: SocketAddr,
    /// As long as the UDP header says, without that header.
    pub(crate) payload: &'a [u8],
}

/// Reads UDP and verifies the checksum (RFC 768; required on IPv6 by RFC 8200 §8.1).
pub(crate) fn udp<'a>(ip: &Ip<'a>) -> Result<Udp<'a>, Loss> {
    let (&[s0, s1, d0, d1, l0, l1, c0, c1], _) = ip.payload.split_first_chunk::<8>().ok_or(Loss::BadPacket)?;
    let segment = ip.payload.get(..usize::from(u16::from_be_bytes([l0, l1]))).ok_or(Loss::BadPacket)?;
    let payload = segment.get(8..).ok_or(Loss::BadPacket)?;
    let unchecked = ip.source.is_ipv4() && [c0, c1] == [0, 0];
    if !unchecked && transport_checksum(ip.source, ip.destination, protocol::UDP, segment) != 0 {
        return Err(Loss::BadChecksum);
    }
    Ok(Udp {
        source: SocketAddr::new(ip.source, u16::from_be_bytes([s0, s1])),
        destination: SocketAddr::new(ip.destination, u16::from_be_bytes([d0, d1])),
        payload,
    })
}

/// An ICMP message that a host acts on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Icmp<'a> {
    /// An echo request.
    Request,
    /// An echo reply.
    Reply { ident: u16, seq: u16, data: &'a [u8] },
    /// An error about a packet that was sent from this port, or with this ICMP identifier. `seq` is the echo's sequence
    /// number; of anything else it means nothing.
    Error { error: IcmpError, port: u16, seq: u16 },
    /// Anything else.
    Other,
}

/// Reads ICMP of either family and verifies the checksum.
pub(super) fn icmp<'a>(ip: &Ip<'a>, packet: &[u8]) -> Result<Icmp<'a>, Loss> {
    let transport = ip.transport().ok_or(Loss::BadPacket)?;
    if transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload) != 0 {
        return Err(Loss::BadChecksum);
    }
    Ok(match (transport, ip.payload) {
        (Transport::Echo { request: true, .. }, _) => Icmp::Request,
        (Transport::Echo { request: false, id }, &[_, _, _, _, _, _, s0, s1, ref data @ ..]) => {
            Icmp::Reply { ident: id, seq: u16::from_be_bytes([s0, s1]), data }
        }
        (Transport::IcmpError, _) => quoted(packet).unwrap_or(Icmp::Other),
        _ => Icmp::Other,
    })
}

fn quoted<'a>(packet: &[u8]) -> Option<Icmp<'a>> {
    let quote = parse_icmp_error(packet)?;
    let about = Ip::parse_quoted(quote.packet)?;
    let (port, seq) = match about.transport()? {
        Transport::Udp { source, .. } | Transport::Tcp { source, .. } => (source, 0),
        Transport::Echo { request: true, id } => {
            let &[_, _, _, _, _, _, s0, s1] = about.payload.first_chunk::<8>()?;
            (id, u16::from_be_bytes([s0, s1]))
        }
        _ => return None,
    };
    Some(Icmp::Error { error: quote.error, port, seq })
}

/// How packets that must not be fragmented are sent: IPv4's DF set, identification zero (RFC 6864 §4.1).
pub(super) fn whole() -> IpOptions {
    IpOptions::default()
}

/// How packets that may be fragmented are sent.
pub(super) fn fragmentable(identification: u16) -> IpOptions {
    IpOptions { dont_fragment: false, identification, ..IpOptions::default() }
}
