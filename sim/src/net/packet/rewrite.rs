//! Changes packets in place. Checksums are corrected instead of computed anew, so that a damaged packet stays damaged.

use std::net::IpAddr;

use super::checksum::Delta;
use super::{Ip, Transport, protocol};

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// Takes one hop off. False, and nothing is changed, if no hop is left.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    match packet.first().map(|b| b >> 4) {
        Some(4) if packet.len() >= super::IPV4_HEADER => {
            if packet[8] <= 1 {
                return false;
            }
            let mut delta = Delta::default();
            delta.word([packet[8], packet[9]], [packet[8] - 1, packet[9]]);
            packet[8] -= 1;
            patch(packet, 10, delta);
            true
        }
        Some(6) if packet.len() >= super::IPV6_HEADER => {
            if packet[7] <= 1 {
                return false;
            }
            packet[7] -= 1;
            true
        }
        _ => false,
    }
}

/// Replaces address and port of one end of a UDP, TCP or ICMP echo packet; in an echo, the identifier is the port of
/// both ends. In an ICMP error only the address is replaced. `None`, and nothing is changed, if the packet is none of
/// these or `address` is of the other family.
pub fn rewrite(packet: &mut [u8], end: End, address: IpAddr, port: u16) -> Option<()> {
    change(packet, true, end, address, port)
}

/// The same for the beginning of a packet.
pub(super) fn rewrite_quoted(packet: &mut [u8], end: End, address: IpAddr, port: u16) -> Option<()> {
    change(packet, false, end, address, port)
}

fn change(packet: &mut [u8], whole: bool, end: End, address: IpAddr, port: u16) -> Option<()> {
    let ip = if whole { Ip::parse(packet)? } else { Ip::parse_quoted(packet)? };
    if ip.source.is_ipv4() != address.is_ipv4() {
        return None;
    }
    let (at, protocol) = (ip.header_len, ip.protocol);
    let side = if end == End::Source { 0 } else { 2 };
    let (port_at, sum_at) = match ip.transport()? {
        Transport::Udp { .. } => (Some(at + side), at + 6),
        Transport::Tcp { .. } => (Some(at + side), at + 16),
        Transport::Echo { .. } => (Some(at + 4), at + 2),
        Transport::IcmpError => (None, at + 2),
        Transport::Other => return None,
    };
    // Only in a quoted TCP segment may the checksum be missing.
    let sum_at = (sum_at + 2 <= packet.len()).then_some(sum_at);
    if whole && sum_at.is_none() {
        return None;
    }

    let mut addresses = Delta::default();
    match address {
        IpAddr::V4(a) => {
            let at = if end == End::Source { 12 } else { 16 };
            addresses.words(&packet[at..at + 4], &a.octets());
            packet[at..at + 4].copy_from_slice(&a.octets());
            patch(packet, 10, addresses);
        }
        IpAddr::V6(a) => {
            let at = if end == End::Source { 8 } else { 24 };
            addresses.words(&packet[at..at + 16], &a.octets());
            packet[at..at + 16].copy_from_slice(&a.octets());
        }
    }
    // ICMP for IPv4 has no pseudo-header.
    let mut delta = if protocol == protocol::ICMP { Delta::default() } else { addresses };
    if let Some(at) = port_at {
        delta.word([packet[at], packet[at + 1]], port.to_be_bytes());
        packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
    if let Some(at) = sum_at {
        let unused = protocol == protocol::UDP && packet[at..at + 2] == [0, 0];
        if !unused {
            patch(packet, at, delta);
            if protocol == protocol::UDP && packet[at..at + 2] == [0, 0] {
                packet[at..at + 2].copy_from_slice(&[0xff, 0xff]);
            }
        }
    }
    Some(())
}

fn patch(packet: &mut [u8], at: usize, delta: Delta) {
    let sum = delta.apply(u16::from_be_bytes([packet[at], packet[at + 1]]));
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
