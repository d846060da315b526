//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624).

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;

use super::{IPV4_HEADER, protocol};

/// The ones' complement of the ones' complement sum of `data`.
pub(super) fn checksum(data: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(data).ones_complement().to_be()
}

/// Whether the header checksum of an IPv4 packet is right. False for anything shorter than a header.
pub fn ipv4_header_is_intact(packet: &[u8]) -> bool {
    let header_len = packet.first().map_or(0, |b| usize::from(b & 15) * 4);
    header_len >= IPV4_HEADER && packet.get(..header_len).is_some_and(|header| checksum(header) == 0)
}

/// The checksum of a transport segment with its pseudo-header (ICMP for IPv4: without one). Zero over a segment whose
/// checksum field is filled in and right. The two addresses are of one family.
pub fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = Sum16BitWords::new();
    if protocol != protocol::ICMP {
        sum = match source {
            IpAddr::V4(a) => sum.add_4bytes(a.octets()),
            IpAddr::V6(a) => sum.add_16bytes(a.octets()),
        };
        sum = match destination {
            IpAddr::V4(a) => sum.add_4bytes(a.octets()),
            IpAddr::V6(a) => sum.add_16bytes(a.octets()),
        };
        sum = sum.add_2bytes([0, protocol]).add_4bytes((segment.len() as u32).to_be_bytes());
    }
    sum.add_slice(segment).ones_complement().to_be()
}

/// Collects what changed under a checksum, then corrects it (RFC 1624, equation 3).
#[derive(Clone, Copy, Default)]
pub(in crate::net) struct Delta(u32);

impl Delta {
    /// Two bytes at an even place changed.
    pub(in crate::net) fn word(&mut self, old: [u8; 2], new: [u8; 2]) {
        self.0 += u32::from(!u16::from_be_bytes(old)) + u32::from(u16::from_be_bytes(new));
    }

    /// An even number of bytes at an even place changed.
    pub(in crate::net) fn words(&mut self, old: &[u8], new: &[u8]) {
        for (o, n) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
            self.word([o[0], o[1]], [n[0], n[1]]);
        }
    }

    /// The checksum after the change.
    pub(in crate::net) fn apply(self, checksum: u16) -> u16 {
        let mut sum = u32::from(!checksum) + (self.0 & 0xffff) + (self.0 >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }
}
