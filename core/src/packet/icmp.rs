//! ICMP errors: those that the node makes for its applications, and the packet that an error is about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpNumber, IpSlice, Ipv4Slice, Ipv6ExtensionSlice, Ipv6Slice, PacketBuilder, icmpv6,
};

use super::{HOP_LIMIT, slice};

/// Longest ICMPv4 error, bytes (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;
/// Longest ICMPv6 error, bytes: IPv6's minimum MTU (RFC 4443 §2.4 c).
const MAX_V6: usize = 1280;
/// IP header (without options) and ICMP header of the answer, bytes.
const OVERHEAD_V4: usize = 20 + 8;
const OVERHEAD_V6: usize = 40 + 8;
/// Bytes of an ICMP error before the packet in it (RFC 792, RFC 4443 §3).
const BEFORE_QUOTE: usize = 8;

/// Tells the source of `packet` that only `mtu` bytes fit. The result is a whole IP packet from `from`: an ICMPv6
/// Packet Too Big (RFC 4443 §3.2), or for IPv4 with DF an ICMP Fragmentation Needed (RFC 1191 §4). It quotes as much of
/// `packet` as the RFCs permit.
///
/// `None` if no such message is due, because the packet
///
/// * fits;
/// * is IPv4 without DF ([`fragment_v4`](super::fragment_v4) is for those);
/// * is broken, or of another family than `from`;
/// * must not be answered by an error (RFC 1122 §3.2.2, RFC 4443 §2.4 e): an ICMP error, a fragment that is not the
///   first one, or a packet from or to an address that is not of a single host. RFC 4443 permits an answer to a
///   multicast packet, but the overlay carries none.
pub fn too_big(packet: &[u8], mtu: u16, from: IpAddr) -> Option<Vec<u8>> {
    if packet.len() <= usize::from(mtu) {
        return None;
    }
    let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    match (slice(packet)?, from) {
        (IpSlice::Ipv4(ip), IpAddr::V4(from)) if ip.header().dont_fragment() => v4(packet, &ip, from, needed),
        (IpSlice::Ipv6(ip), IpAddr::V6(from)) => v6(packet, &ip, from, Icmpv6Type::PacketTooBig { mtu: mtu.into() }),
        _ => None,
    }
}

/// Tells the source of `packet` that its destination is administratively prohibited, so that a connection fails at once
/// instead of after a timeout. The result is a whole IP packet from the destination: ICMP Destination Unreachable with
/// code 13 (RFC 1812 §5.2.7.1), or ICMPv6 with code 1 (RFC 4443 §3.1).
///
/// `None` if the packet must not be answered by an error: see [`too_big`].
pub fn prohibited(packet: &[u8]) -> Option<Vec<u8>> {
    match slice(packet)? {
        IpSlice::Ipv4(ip) => v4(packet, &ip, ip.header().destination_addr(), DestUnreachableHeader::FilterProhibited),
        IpSlice::Ipv6(ip) => {
            let prohibited = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Prohibited);
            v6(packet, &ip, ip.header().destination_addr(), prohibited)
        }
    }
}

fn v4(packet: &[u8], ip: &Ipv4Slice<'_>, from: Ipv4Addr, why: DestUnreachableHeader) -> Option<Vec<u8>> {
    let header = ip.header();
    let one_host = |a: Ipv4Addr| !(a.is_unspecified() || a.is_multicast() || a.is_broadcast());
    if header.fragments_offset().value() != 0 || !one_host(header.source_addr()) || !one_host(header.destination_addr())
    {
        return None;
    }
    let inside = ip.payload();
    if inside.ip_number == IpNumber::ICMP && !is_query_v4(*inside.payload.first()?) {
        return None;
    }
    let quote = &packet[..packet.len().min(MAX_V4 - OVERHEAD_V4)];
    let builder =
        PacketBuilder::ipv4(from.octets(), header.source(), HOP_LIMIT).icmpv4(Icmpv4Type::DestinationUnreachable(why));
    let mut answer = Vec::with_capacity(OVERHEAD_V4 + quote.len());
    builder.write_to_vec(&mut answer, quote).ok()?;
    Some(answer)
}

fn v6(packet: &[u8], ip: &Ipv6Slice<'_>, from: Ipv6Addr, why: Icmpv6Type) -> Option<Vec<u8>> {
    let header = ip.header();
    let one_host = |a: Ipv6Addr| !(a.is_unspecified() || a.is_multicast());
    let later_fragment = ip.extensions().clone().into_iter().any(|extension| match extension {
        Ipv6ExtensionSlice::Fragment(fragment) => fragment.fragment_offset().value() != 0,
        _ => false,
    });
    if later_fragment || !one_host(header.source_addr()) || !one_host(header.destination_addr()) {
        return None;
    }
    // Types below 128 are errors (RFC 4443 §2.1).
    let inside = ip.payload();
    if inside.ip_number == IpNumber::IPV6_ICMP && *inside.payload.first()? < 128 {
        return None;
    }
    let quote = &packet[..packet.len().min(MAX_V6 - OVERHEAD_V6)];
    let builder = PacketBuilder::ipv6(from.octets(), header.source(), HOP_LIMIT).icmpv6(why);
    let mut answer = Vec::with_capacity(OVERHEAD_V6 + quote.len());
    builder.write_to_vec(&mut answer, quote).ok()?;
    Some(answer)
}

/// Whether an ICMPv4 type asks or answers, rather than reporting an error (RFC 1122 §3.2.2): echo, router discovery,
/// timestamp, information, address mask. Types of unknown meaning count as errors, which is the safe side.
fn is_query_v4(icmp_type: u8) -> bool {
    matches!(icmp_type, 0 | 8 | 9 | 10 | 13..=18)
}

/// What an ICMP error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// The packet is no ICMP error. A fragment after the first is none either: without the first it is nothing.
    NoError,
    /// The source and the destination of the quoted packet.
    Of(IpAddr, IpAddr),
    /// The quoted packet has no addresses, the headers before it cannot be read, or the message is for one link only:
    /// redirect, router discovery or neighbour discovery.
    Unreadable,
}

/// Whether a packet is TCP or UDP straight after a plain IP header, and as long as that header says. Most are.
fn is_plain(packet: &[u8]) -> bool {
    const PROTOCOLS: [u8; 2] = [IpNumber::TCP.0, IpNumber::UDP.0];
    match packet {
        [0x45, _, high, low, _, _, _, _, _, protocol, ..] => {
            PROTOCOLS.contains(protocol)
                && packet.len() >= 20
                && packet.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        [first, _, _, _, high, low, next, ..] if first >> 4 == 6 => {
            PROTOCOLS.contains(next) && packet.len() == 40 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// The packet that an ICMP error is about.
pub fn quoted(packet: &[u8]) -> Quoted {
    if is_plain(packet) {
        return Quoted::NoError;
    }
    // Another IP stack may parse what this reader cannot, and find an ICMP error in it.
    let Some(ip) = slice(packet) else { return Quoted::Unreadable };
    let inside = ip.payload();
    let is_later = match &ip {
        IpSlice::Ipv4(ip) => ip.header().fragments_offset().value() != 0,
        IpSlice::Ipv6(ip) => ip.extensions().clone().into_iter().any(
            |extension| matches!(extension, Ipv6ExtensionSlice::Fragment(part) if part.fragment_offset().value() != 0),
        ),
    };
    let is_error = match (inside.ip_number, inside.payload.first()) {
        (IpNumber::ICMP, Some(kind)) => !is_query_v4(*kind),
        (IpNumber::IPV6_ICMP, Some(kind)) => *kind < 128,
        _ => false,
    };
    // Redirects, and what routers and neighbours on one link say to each other (RFC 792, RFC 1256, RFC 4861). No peer
    // is on our link.
    let is_of_link = match (inside.ip_number, inside.payload.first()) {
        (IpNumber::ICMP, Some(kind)) => matches!(kind, 5 | 9 | 10),
        (IpNumber::IPV6_ICMP, Some(kind)) => matches!(kind, 133..=137),
        _ => false,
    };
    if is_of_link && !is_later {
        return Quoted::Unreadable;
    }
    if is_later || !is_error {
        return Quoted::NoError;
    }
    let quote = inside.payload.get(BEFORE_QUOTE..).unwrap_or_default();
    match (quote.first().map(|first| first >> 4), &ip) {
        (Some(4), IpSlice::Ipv4(_)) => {
            let address = |at: usize| quote.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            match (address(12), address(16)) {
                (Some(source), Some(destination)) => Quoted::Of(Ipv4Addr::from(source).into(), destination.into()),
                _ => Quoted::Unreadable,
            }
        }
        (Some(6), IpSlice::Ipv6(_)) => {
            let address = |at: usize| quote.get(at..at + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            match (address(8), address(24)) {
                (Some(source), Some(destination)) => Quoted::Of(Ipv6Addr::from(source).into(), destination.into()),
                _ => Quoted::Unreadable,
            }
        }
        _ => Quoted::Unreadable,
    }
}
