//! ICMP errors: building them (RFC 792, RFC 1812, RFC 4443), reading them, and carrying them through a translation.

use std::net::IpAddr;

use super::build::{IpOptions, icmp};
use super::checksum::transport_checksum;
use super::rewrite::{End, rewrite_quoted};
use super::{Ip, Transport, protocol};

/// Longest error, bytes: for IPv4 by RFC 1812, section 4.3.2.3; for IPv6 by RFC 4443, section 2.4 (c).
const MAX_LEN_V4: usize = 576;
const MAX_LEN_V6: usize = 1280;

/// The meaning of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The hop limit ran out on the way.
    TimeExceeded,
    /// No route.
    NoRoute,
    /// The host does not answer.
    AddressUnreachable,
    /// No socket listens on that port.
    PortUnreachable,
    /// Forbidden by an administrator.
    Prohibited,
    /// ICMPv6 Packet Too Big; ICMPv4 "fragmentation needed and DF set".
    TooBig {
        /// The largest packet that fits, in bytes; from an old IPv4 router, 0.
        mtu: u32,
    },
    /// Another error.
    Other {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
}

impl IcmpError {
    fn encode_v4(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::TimeExceeded => (11, 0, [0; 4]),
            Self::NoRoute => (3, 0, [0; 4]),
            Self::AddressUnreachable => (3, 1, [0; 4]),
            Self::PortUnreachable => (3, 3, [0; 4]),
            Self::Prohibited => (3, 13, [0; 4]),
            Self::TooBig { mtu } => {
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                (3, 4, [0, 0, mtu[0], mtu[1]])
            }
            Self::Other { kind, code } => (kind, code, [0; 4]),
        }
    }

    fn encode_v6(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::TimeExceeded => (3, 0, [0; 4]),
            Self::NoRoute => (1, 0, [0; 4]),
            Self::AddressUnreachable => (1, 3, [0; 4]),
            Self::PortUnreachable => (1, 4, [0; 4]),
            Self::Prohibited => (1, 1, [0; 4]),
            Self::TooBig { mtu } => (2, 0, mtu.to_be_bytes()),
            Self::Other { kind, code } => (kind, code, [0; 4]),
        }
    }

    fn decode_v4(kind: u8, code: u8, field: [u8; 4]) -> Self {
        match (kind, code) {
            (11, 0) => Self::TimeExceeded,
            (3, 0) => Self::NoRoute,
            (3, 1) => Self::AddressUnreachable,
            (3, 3) => Self::PortUnreachable,
            (3, 13) => Self::Prohibited,
            (3, 4) => Self::TooBig { mtu: u32::from(u16::from_be_bytes([field[2], field[3]])) },
            _ => Self::Other { kind, code },
        }
    }

    fn decode_v6(kind: u8, code: u8, field: [u8; 4]) -> Self {
        match (kind, code) {
            (3, 0) => Self::TimeExceeded,
            (1, 0) => Self::NoRoute,
            (1, 3) => Self::AddressUnreachable,
            (1, 4) => Self::PortUnreachable,
            (1, 1) => Self::Prohibited,
            (2, _) => Self::TooBig { mtu: u32::from_be_bytes(field) },
            _ => Self::Other { kind, code },
        }
    }
}

/// The error `error` about `packet`, sent by `from` to its source. `None` where none may be sent: about another ICMP
/// error, a fragment that is not the first, or a packet whose source or destination is not one host
/// (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e)); and if `from` is of the other family.
pub fn icmp_error(error: IcmpError, from: IpAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let about = Ip::parse(packet)?;
    // Too big is the exception: RFC 4443 allows it for a multicast destination. No box here routes multicast.
    if !is_one_host(about.source) || !is_one_host(about.destination) {
        return None;
    }
    // A payload that is too short to be read may be an ICMP error.
    match about.transport() {
        None | Some(Transport::IcmpError) => return None,
        Some(_) => {}
    }
    icmp_error_quoting(error, from, about.source, packet)
}

/// The error `error` from one address to another, with as much of `packet` as there is room for. `None` if the two are
/// not of one family.
pub(in crate::net) fn icmp_error_quoting(error: IcmpError, from: IpAddr, to: IpAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let (kind, code, field, max) = match from {
        IpAddr::V4(_) => {
            let (kind, code, field) = error.encode_v4();
            (kind, code, field, MAX_LEN_V4 - 20)
        }
        IpAddr::V6(_) => {
            let (kind, code, field) = error.encode_v6();
            (kind, code, field, MAX_LEN_V6 - 40)
        }
    };
    let quote = &packet[..packet.len().min(max - 8)];
    icmp(from, to, IpOptions::default(), kind, code, &[&field, quote])
}

fn is_one_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// An ICMP error that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// What it says.
    pub error: IcmpError,
    /// The beginning of the packet that it is about; read it with [`Ip::parse_quoted`].
    pub packet: &'a [u8],
    /// Its offset in the error packet.
    pub at: usize,
}

/// Reads an ICMP error; `None` if `packet` is something else, or its checksum is wrong.
pub fn parse_icmp_error(packet: &[u8]) -> Option<Quote<'_>> {
    let ip = Ip::parse(packet)?;
    if ip.fragment.is_some() || ip.transport() != Some(Transport::IcmpError) {
        return None;
    }
    if transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload) != 0 {
        return None;
    }
    let &[kind, code, _, _, f0, f1, f2, f3] = ip.payload.first_chunk::<8>()?;
    let field = [f0, f1, f2, f3];
    let error = match ip.protocol {
        protocol::ICMP => IcmpError::decode_v4(kind, code, field),
        _ => IcmpError::decode_v6(kind, code, field),
    };
    Some(Quote { error, packet: &ip.payload[8..], at: ip.header_len + 8 })
}

/// Translates one end of the packet that an ICMP error quotes, and corrects the ICMP checksum. `None`, and the packet
/// is then unusable, if there is nothing to translate.
pub(in crate::net) fn rewrite_quote(packet: &mut [u8], end: End, address: IpAddr, port: u16) -> Option<()> {
    let at = parse_icmp_error(packet)?.at;
    rewrite_quoted(&mut packet[at..], end, address, port)?;
    let ip = Ip::parse(packet)?;
    let (source, destination, protocol, at) = (ip.source, ip.destination, ip.protocol, ip.header_len);
    packet[at + 2..at + 4].copy_from_slice(&[0, 0]);
    let sum = transport_checksum(source, destination, protocol, &packet[at..]);
    packet[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}
