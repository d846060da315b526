//! Helpers on raw IP packets: read, build, rewrite, fragment, and the ICMP errors about them.
//!
//! A packet is a `Vec<u8>` whose first byte is the first of its IPv4 or IPv6 header and whose length is exactly what
//! that header says: the simulated wires have no padding. [`Ip::parse`] is the only way in, and the rest relies on its
//! checks. No function panics, whatever the bytes.

mod build;
mod checksum;
mod fragment;
mod icmp;
mod reset;
mod rewrite;
mod segment;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) use build::header;
pub use build::{IpOptions, echo, echo_reply, ip, udp};
pub(super) use checksum::Delta;
pub use checksum::{ipv4_header_is_intact, transport_checksum};
pub use fragment::{Reassembled, Reassembler, ReassemblyLimits, fragment_ipv4, fragment_ipv6};
pub use icmp::{IcmpError, Quote, icmp_error, parse_icmp_error};
pub(super) use icmp::{icmp_error_quoting, rewrite_quote};
pub use reset::{tcp_abort, tcp_reset};
pub use rewrite::{End, decrement_ttl, rewrite};
pub use segment::{allow_fragments, segment};

/// IP protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const DESTINATION: u8 = 60;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;

/// The IP header of a packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// The protocol above IP, after any IPv6 extension headers; see [`protocol`].
    pub protocol: u8,
    /// IPv4's Don't Fragment flag; true for IPv6, which routers never fragment.
    pub dont_fragment: bool,
    /// Set if this is a fragment.
    pub fragment: Option<Fragment>,
    /// Bytes before `payload`, extension headers included.
    pub header_len: usize,
    /// What is above IP.
    pub payload: &'a [u8],
}

/// Which part of a larger packet a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Shared by all fragments of one packet.
    pub id: u32,
    /// Its place in the whole payload, in bytes.
    pub offset: usize,
    /// Whether more fragments follow it.
    pub more: bool,
    /// IPv6: the offset of the fragment header.
    header_at: usize,
    /// IPv6: the offset of the "next header" byte that names the fragment header.
    pointer_at: usize,
}

/// The fields of the transport header by which boxes decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// FIN, SYN, RST, PSH, ACK, … from the lowest bit upwards (RFC 9293, section 3.1).
        flags: u8,
    },
    /// ICMP echo of either family.
    Echo {
        /// A request; otherwise a reply.
        request: bool,
        /// The identifier, which boxes treat as a port.
        id: u16,
    },
    /// An ICMP error message of either family.
    IcmpError,
    /// Anything else.
    Other,
}

impl<'a> Ip<'a> {
    /// Reads a packet; `None` if it is not one whole IPv4 or IPv6 packet.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        Self::read(packet, true)
    }

    /// Reads the beginning of a packet, as ICMP errors quote it: its end may be missing.
    pub fn parse_quoted(packet: &'a [u8]) -> Option<Self> {
        Self::read(packet, false)
    }

    fn read(packet: &'a [u8], whole: bool) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => read_ipv4(packet, whole),
            6 => read_ipv6(packet, whole),
            _ => None,
        }
    }

    /// Reads the transport header; `None` if it is cut short or in another fragment.
    pub fn transport(&self) -> Option<Transport> {
        if self.fragment.is_some_and(|f| f.offset > 0) {
            return None;
        }
        let p = self.payload;
        match (self.protocol, self.source.is_ipv4()) {
            (protocol::UDP, _) => {
                let [s0, s1, d0, d1, ..] = *p.first_chunk::<8>()?;
                Some(Transport::Udp { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) })
            }
            // Eight bytes are enough: an ICMP error need not quote more.
            (protocol::TCP, _) => {
                let [s0, s1, d0, d1, ..] = *p.first_chunk::<8>()?;
                Some(Transport::Tcp {
                    source: u16::from_be_bytes([s0, s1]),
                    destination: u16::from_be_bytes([d0, d1]),
                    flags: p.get(13).copied().unwrap_or(0),
                })
            }
            (protocol::ICMP, true) => read_icmp(p, 8, 0, |kind| matches!(kind, 3..=5 | 11 | 12)),
            (protocol::ICMPV6, false) => read_icmp(p, 128, 129, |kind| kind < 128),
            _ => Some(Transport::Other),
        }
    }
}

fn read_icmp(p: &[u8], request: u8, reply: u8, is_error: impl Fn(u8) -> bool) -> Option<Transport> {
    let &[kind, _, _, _, i0, i1, _, _] = p.first_chunk::<8>()?;
    Some(match kind {
        k if k == request || k == reply => Transport::Echo { request: k == request, id: u16::from_be_bytes([i0, i1]) },
        k if is_error(k) => Transport::IcmpError,
        _ => Transport::Other,
    })
}

fn read_ipv4(packet: &[u8], whole: bool) -> Option<Ip<'_>> {
    let h = packet.first_chunk::<IPV4_HEADER>()?;
    let header_len = usize::from(h[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
    if header_len < IPV4_HEADER || total < header_len || packet.len() < header_len || (whole && packet.len() != total) {
        return None;
    }
    let flags = u16::from_be_bytes([h[6], h[7]]);
    let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
    let id = u32::from(u16::from_be_bytes([h[4], h[5]]));
    Some(Ip {
        source: Ipv4Addr::new(h[12], h[13], h[14], h[15]).into(),
        destination: Ipv4Addr::new(h[16], h[17], h[18], h[19]).into(),
        ttl: h[8],
        protocol: h[9],
        dont_fragment: flags & 0x4000 != 0,
        fragment: (offset > 0 || more).then_some(Fragment { id, offset, more, header_at: 0, pointer_at: 0 }),
        header_len,
        payload: &packet[header_len..total.min(packet.len())],
    })
}

fn read_ipv6(packet: &[u8], whole: bool) -> Option<Ip<'_>> {
    let h = packet.first_chunk::<IPV6_HEADER>()?;
    let total = IPV6_HEADER + usize::from(u16::from_be_bytes([h[4], h[5]]));
    if whole && packet.len() != total {
        return None;
    }
    let packet = &packet[..total.min(packet.len())];
    let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*packet[at..].first_chunk::<16>()?)));
    let (mut next, mut pointer_at, mut header_len, mut fragment) = (h[6], 6, IPV6_HEADER, None);
    while matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT) {
        let &[following, length, o0, o1, id @ ..] = packet[header_len..].first_chunk::<8>()?;
        let at = header_len;
        if next == FRAGMENT {
            let word = u16::from_be_bytes([o0, o1]);
            let offset = usize::from(word & 0xfff8);
            let found = Fragment { id: u32::from_be_bytes(id), offset, more: word & 1 != 0, header_at: at, pointer_at };
            if fragment.replace(found).is_some() {
                return None;
            }
            header_len += 8;
        } else {
            header_len += (usize::from(length) + 1) * 8;
        }
        if header_len > packet.len() {
            return None;
        }
        (next, pointer_at) = (following, at);
        // The payload of a later fragment begins in the middle of the transport segment.
        if fragment.is_some_and(|f| f.offset > 0) {
            break;
        }
    }
    Some(Ip {
        source: address(8)?,
        destination: address(24)?,
        ttl: h[7],
        protocol: next,
        dont_fragment: true,
        fragment,
        header_len,
        payload: &packet[header_len..],
    })
}

#[cfg(test)]
mod tests;
