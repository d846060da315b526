//! Building packets.

use std::net::{IpAddr, SocketAddr};

use super::checksum::{checksum, transport_checksum};
use super::{IPV4_HEADER, IPV6_HEADER, Ip, Transport, protocol};

/// The fields of the IP header that a sender chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpOptions {
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// IPv4's Don't Fragment flag.
    pub dont_fragment: bool,
    /// IPv4's identification; matters only without `dont_fragment`.
    pub identification: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

impl Default for IpOptions {
    /// 64 hops, Don't Fragment, all else zero.
    fn default() -> Self {
        Self { ttl: 64, dont_fragment: true, identification: 0, traffic_class: 0 }
    }
}

/// A packet of one payload. `None` if the families differ or it would be longer than 65,535 bytes.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, options: IpOptions, payload: &[u8]) -> Option<Vec<u8>> {
    let mut packet = header(source, destination, protocol, options, payload.len())?;
    packet.extend_from_slice(payload);
    Some(packet)
}

/// A header for `payload_len` bytes, with room for them.
pub(in crate::net) fn header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    options: IpOptions,
    payload_len: usize,
) -> Option<Vec<u8>> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(IPV4_HEADER + payload_len).ok()?;
            let mut h = [0; IPV4_HEADER];
            h[0] = 0x45;
            h[1] = options.traffic_class;
            h[2..4].copy_from_slice(&total.to_be_bytes());
            h[4..6].copy_from_slice(&options.identification.to_be_bytes());
            h[6] = if options.dont_fragment { 0x40 } else { 0 };
            h[8] = options.ttl;
            h[9] = protocol;
            h[12..16].copy_from_slice(&source.octets());
            h[16..20].copy_from_slice(&destination.octets());
            let sum = checksum(&h);
            h[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut packet = Vec::with_capacity(usize::from(total));
            packet.extend_from_slice(&h);
            Some(packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(payload_len).ok()?;
            let mut h = [0; IPV6_HEADER];
            h[0] = 0x60 | options.traffic_class >> 4;
            h[1] = options.traffic_class << 4;
            h[4..6].copy_from_slice(&length.to_be_bytes());
            h[6] = protocol;
            h[7] = options.ttl;
            h[8..24].copy_from_slice(&source.octets());
            h[24..40].copy_from_slice(&destination.octets());
            let mut packet = Vec::with_capacity(IPV6_HEADER + payload_len);
            packet.extend_from_slice(&h);
            Some(packet)
        }
        _ => None,
    }
}

/// A UDP datagram. `None` if the families differ or it would not fit into one packet.
pub fn udp(source: SocketAddr, destination: SocketAddr, options: IpOptions, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + 8).ok()?;
    let mut packet = header(source.ip(), destination.ip(), protocol::UDP, options, usize::from(length))?;
    let at = packet.len();
    packet.extend_from_slice(&source.port().to_be_bytes());
    packet.extend_from_slice(&destination.port().to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    // Zero would mean "no checksum" (RFC 768).
    let sum = match transport_checksum(source.ip(), destination.ip(), protocol::UDP, &packet[at..]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// An ICMP message: `body` is everything after the checksum. `None` as for [`ip`].
pub(super) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    options: IpOptions,
    kind: u8,
    code: u8,
    body: &[&[u8]],
) -> Option<Vec<u8>> {
    let protocol = if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    let length = 4 + body.iter().map(|part| part.len()).sum::<usize>();
    let mut packet = header(source, destination, protocol, options, length)?;
    let at = packet.len();
    packet.extend_from_slice(&[kind, code, 0, 0]);
    for part in body {
        packet.extend_from_slice(part);
    }
    let sum = transport_checksum(source, destination, protocol, &packet[at..]);
    packet[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// An ICMP echo request of the addresses' family. `None` as for [`ip`].
pub fn echo(
    source: IpAddr,
    destination: IpAddr,
    options: IpOptions,
    id: u16,
    sequence: u16,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let kind = if source.is_ipv4() { 8 } else { 128 };
    icmp(source, destination, options, kind, 0, &[&id.to_be_bytes(), &sequence.to_be_bytes(), payload])
}

/// The answer to an ICMP echo request; `None` if `packet` is not one.
pub fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let request = Ip::parse(packet)?;
    let Some(Transport::Echo { request: true, .. }) = request.transport() else { return None };
    if request.fragment.is_some() {
        return None;
    }
    let kind = if request.source.is_ipv4() { 0 } else { 129 };
    icmp(request.destination, request.source, IpOptions::default(), kind, 0, &[&request.payload[4..]])
}
