//! Stateless translation between IPv4 and IPv6 packets (RFC 7915), to addresses and ports that the caller chose.
//! Checksums are corrected instead of computed anew, so that a damaged packet stays damaged.

use std::net::IpAddr;

use crate::net::packet::{
    Delta, IPV6_HEADER, IcmpError, Ip, IpOptions, Transport, header, protocol, transport_checksum,
};

/// The difference between the lengths of the two headers, bytes.
pub(super) const GROWTH: usize = IPV6_HEADER - 20;
/// The least MTU of an IPv6 link (RFC 8200, section 5), bytes.
pub(super) const LEAST_MTU_V6: usize = 1280;

/// The ends of a packet after translation; of an echo, the port is the identifier at the inside end.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    /// Address and port.
    pub(super) source: (IpAddr, u16),
    /// Address and port, of the same family as the source.
    pub(super) destination: (IpAddr, u16),
}

/// Translates a UDP, TCP or ICMP echo packet into the family of `ends`. `identification` is for IPv4 packets that may
/// be fragmented. `None` for other packets and for fragments. A packet that an ICMP error quotes (not `whole`) may be
/// cut short.
pub(super) fn translate(packet: &[u8], whole: bool, ends: Ends, identification: u16) -> Option<Vec<u8>> {
    let ip = if whole { Ip::parse(packet)? } else { Ip::parse_quoted(packet)? };
    let (source, destination) = (ends.source.0, ends.destination.0);
    let to_v4 = source.is_ipv4();
    if ip.fragment.is_some() || ip.source.is_ipv4() == to_v4 {
        return None;
    }
    let transport = ip.transport()?;
    let number = match (ip.protocol, to_v4) {
        (protocol::ICMPV6, true) => protocol::ICMP,
        (protocol::ICMP, false) => protocol::ICMPV6,
        (other, _) => other,
    };
    // The length comes from the header: a quoted packet may be cut short.
    let total = if to_v4 {
        IPV6_HEADER + usize::from(u16::from_be_bytes([packet[4], packet[5]]))
    } else {
        usize::from(u16::from_be_bytes([packet[2], packet[3]]))
    };
    let length = total.checked_sub(ip.header_len)?;
    let options = IpOptions {
        ttl: ip.ttl,
        // RFC 7915, section 5.1: a packet of at most 1,280 bytes may be fragmented on the IPv4 side.
        dont_fragment: total > LEAST_MTU_V6,
        identification,
        traffic_class: if to_v4 { packet[0] << 4 | packet[1] >> 4 } else { packet[1] },
    };
    let mut payload = ip.payload.to_vec();
    let pseudo = |source: IpAddr, destination: IpAddr, number| {
        let mut bytes = Vec::with_capacity(40);
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
            }
        }
        bytes.extend_from_slice(&(length as u32).to_be_bytes());
        bytes.extend_from_slice(&[0, number]);
        // ICMP for IPv4 has no pseudo-header.
        if number == protocol::ICMP { Vec::new() } else { bytes }
    };
    let (old, new) = (pseudo(ip.source, ip.destination, ip.protocol), pseudo(source, destination, number));
    let mut delta = Delta::default();
    delta.words(&old, &vec![0; old.len()]);
    delta.words(&vec![0; new.len()], &new);
    let mut replace = |at: usize, new: u16| {
        delta.word([payload[at], payload[at + 1]], new.to_be_bytes());
        payload[at..at + 2].copy_from_slice(&new.to_be_bytes());
    };
    let sum_at = match transport {
        Transport::Udp { .. } | Transport::Tcp { .. } => {
            replace(0, ends.source.1);
            replace(2, ends.destination.1);
            if ip.protocol == protocol::UDP { 6 } else { 16 }
        }
        Transport::Echo { request, .. } => {
            let kind: u8 = match (request, to_v4) {
                (true, true) => 8,
                (false, true) => 0,
                (true, false) => 128,
                (false, false) => 129,
            };
            replace(0, u16::from_be_bytes([kind, 0]));
            replace(4, if request { ends.source.1 } else { ends.destination.1 });
            2
        }
        Transport::IcmpError | Transport::Other => return None,
    };
    let is_udp = ip.protocol == protocol::UDP;
    if let Some(&[s0, s1]) = payload.get(sum_at..).and_then(<[u8]>::first_chunk::<2>) {
        let sum = match u16::from_be_bytes([s0, s1]) {
            // UDP over IPv6 needs a checksum, so one is added.
            0 if is_udp && whole => transport_checksum(source, destination, number, &payload),
            sum => delta.apply(sum),
        };
        let sum = if is_udp && sum == 0 { 0xffff } else { sum };
        payload[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    } else if whole {
        return None;
    }
    let mut translated = header(source, destination, number, options, length)?;
    translated.extend_from_slice(&payload);
    Some(translated)
}

/// Clears Don't Fragment: an IPv6 packet that arrived in fragments may be fragmented as IPv4 (RFC 7915, section 5.1.1).
pub(super) fn allow_fragments(packet: &mut [u8]) {
    let (old, new) = ([packet[6], packet[7]], [packet[6] & !0x40, packet[7]]);
    let mut delta = Delta::default();
    delta.word(old, new);
    let sum = delta.apply(u16::from_be_bytes([packet[10], packet[11]]));
    packet[6..8].copy_from_slice(&new);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Translates an ICMPv6 error into ICMP (RFC 7915, section 5.2); `None` if ICMP has no equivalent.
pub(super) fn error_to_v4(error: IcmpError) -> Option<IcmpError> {
    Some(match error {
        IcmpError::NoRoute | IcmpError::AddressUnreachable | IcmpError::Other { kind: 1, code: 2 } => {
            IcmpError::AddressUnreachable
        }
        IcmpError::Prohibited => IcmpError::Other { kind: 3, code: 10 },
        IcmpError::TooBig { mtu } => IcmpError::TooBig { mtu: mtu.saturating_sub(GROWTH as u32) },
        IcmpError::PortUnreachable | IcmpError::TimeExceeded => error,
        IcmpError::Other { .. } => return None,
    })
}

/// Translates an ICMP error into ICMPv6 (RFC 7915, section 4.2); `None` if ICMPv6 has no equivalent.
pub(super) fn error_to_v6(error: IcmpError) -> Option<IcmpError> {
    Some(match error {
        IcmpError::NoRoute | IcmpError::AddressUnreachable | IcmpError::Other { kind: 3, code: 5..=8 | 11 | 12 } => {
            IcmpError::NoRoute
        }
        IcmpError::Prohibited | IcmpError::Other { kind: 3, code: 9 | 10 } => IcmpError::Prohibited,
        IcmpError::TooBig { mtu } => {
            IcmpError::TooBig { mtu: mtu.saturating_add(GROWTH as u32).max(LEAST_MTU_V6 as u32) }
        }
        IcmpError::PortUnreachable | IcmpError::TimeExceeded => error,
        IcmpError::Other { .. } => return None,
    })
}
