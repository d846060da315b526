//! Cutting a TCP segment into smaller ones, as segmentation offload does (RFC 9293 §3.7.1), and letting an IPv4 packet
//! be fragmented.

use std::net::IpAddr;

use super::checksum::{checksum, transport_checksum};
use super::{IPV4_HEADER, Ip, protocol};

/// Length of the fixed IPv6 header, bytes.
const IPV6_HEADER: usize = 40;
/// Flags that only the last piece has: FIN and PSH.
const LAST: u8 = 0b1001;

/// Cuts a TCP packet into packets of at most `mtu` bytes. `None` if it is none, has IPv6 extension headers, or `mtu`
/// has no room for data.
pub fn segment(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let ip = Ip::parse(packet)?;
    let header = packet.len().checked_sub(ip.payload.len())?;
    let plain = if ip.source.is_ipv4() { header >= IPV4_HEADER } else { header == IPV6_HEADER };
    if ip.protocol != protocol::TCP || ip.fragment.is_some() || !plain {
        return None;
    }
    let offset = usize::from(*ip.payload.get(12)? >> 4) * 4;
    let (tcp, data) = ip.payload.split_at_checked(offset)?;
    let room = mtu.checked_sub(header + offset).filter(|room| *room > 0)?;
    let sequence = u32::from_be_bytes(*tcp.get(4..8)?.first_chunk()?);
    let pieces = data.chunks(room).enumerate().map(|(i, data)| {
        let mut piece = packet[..header].to_vec();
        let mut tcp = tcp.to_vec();
        tcp[4..8].copy_from_slice(&sequence.wrapping_add((i * room) as u32).to_be_bytes());
        if (i + 1) * room < ip.payload.len() - offset {
            tcp[13] &= !LAST;
        }
        tcp[16..18].fill(0);
        tcp.extend_from_slice(data);
        let sum = transport_checksum(ip.source, ip.destination, protocol::TCP, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        piece.extend_from_slice(&tcp);
        let len = piece.len();
        match ip.source {
            IpAddr::V4(_) => {
                piece[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                finish_ipv4(&mut piece[..header]);
            }
            IpAddr::V6(_) => piece[4..6].copy_from_slice(&((len - IPV6_HEADER) as u16).to_be_bytes()),
        }
        piece
    });
    Some(pieces.collect())
}

/// The same IPv4 packet without Don't Fragment. `None` if it is none.
pub fn allow_fragments(packet: &[u8], identification: u16) -> Option<Vec<u8>> {
    let ip = Ip::parse(packet).filter(|ip| ip.source.is_ipv4())?;
    let header = packet.len().checked_sub(ip.payload.len())?;
    let mut packet = packet.to_vec();
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6] &= !0x40;
    finish_ipv4(&mut packet[..header]);
    Some(packet)
}

fn finish_ipv4(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::{IpOptions, Reassembled, Reassembler, echo, ipv4_header_is_intact};
    use cyphonic_core::time::Instant;

    #[test]
    fn pieces_of_a_segment_are_whole_packets_that_carry_its_bytes_in_order() {
        for [source, to] in [["198.18.0.2:1000", "198.18.0.3:80"], ["[2001:db8::2]:1000", "[2001:db8::3]:80"]] {
            let (source, to): (std::net::SocketAddr, std::net::SocketAddr) =
                (source.parse().unwrap(), to.parse().unwrap());
            let data: Vec<u8> = (0..1_400u32).map(|i| i as u8).collect();
            let packet = cyphonic_core::packet::build_tcp(&cyphonic_core::packet::Segment {
                source,
                destination: to,
                sequence: u32::MAX - 100,
                acknowledged: 7,
                flags: cyphonic_core::packet::TcpFlags { psh: true, fin: true, ack: true, ..Default::default() },
                payload: &data,
            });
            let packet = packet.unwrap();
            let pieces = segment(&packet, 600).unwrap();
            let mut carried = Vec::new();
            let mut next = u32::MAX - 100;
            for (i, piece) in pieces.iter().enumerate() {
                assert!(piece.len() <= 600);
                let ip = Ip::parse(piece).unwrap();
                assert!(to.is_ipv6() || ipv4_header_is_intact(piece));
                assert_eq!(transport_checksum(ip.source, ip.destination, protocol::TCP, ip.payload), 0);
                assert_eq!(u32::from_be_bytes(*ip.payload[4..8].first_chunk().unwrap()), next);
                assert_eq!(ip.payload[13] & LAST != 0, i + 1 == pieces.len());
                let data = &ip.payload[usize::from(ip.payload[12] >> 4) * 4..];
                next = next.wrapping_add(data.len() as u32);
                carried.extend_from_slice(data);
            }
            assert_eq!(carried, data);
        }
    }

    #[test]
    fn an_ipv4_packet_that_may_be_fragmented_comes_together_again() {
        let (source, to) = ("198.18.0.2".parse().unwrap(), "198.18.0.3".parse().unwrap());
        let packet = echo(source, to, IpOptions::default(), 1, 1, &[7; 1_200]).unwrap();
        let free = allow_fragments(&packet, 9).unwrap();
        let mut reassembler = Reassembler::default();
        let mut last = None;
        for piece in crate::net::packet::fragment_ipv4(&free, 600).unwrap() {
            assert!(ipv4_header_is_intact(&piece));
            last = Some(reassembler.push(Instant::ZERO, piece));
        }
        let Some(Reassembled::Whole { packet: whole, .. }) = last else { panic!("{last:?}") };
        assert_eq!(Ip::parse(&whole).unwrap().payload, Ip::parse(&packet).unwrap().payload);
    }
}
