//! TCP resets (RFC 9293, section 3.5.2), as a host or firewall that refuses a connection sends them.

use super::build::{IpOptions, ip};
use super::checksum::transport_checksum;
use super::{Ip, protocol};

const HEADER: usize = 20;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The reset that answers a TCP packet, as if its destination sent it. `None` if the packet is not TCP or is a reset.
pub fn tcp_reset(packet: &[u8]) -> Option<Vec<u8>> {
    let segment = Segment::read(packet)?;
    let (sequence, acknowledgment, flags) = if segment.flags & ACK != 0 {
        (segment.acknowledgment, 0, RST)
    } else {
        (0, segment.sequence.wrapping_add(segment.length), RST | ACK)
    };
    let [source, destination] = segment.ports;
    segment.write(true, [destination, source], sequence, acknowledgment, flags)
}

/// The reset that replaces a TCP packet, as if its source sent it. `None` if the packet is not TCP or is a reset.
pub fn tcp_abort(packet: &[u8]) -> Option<Vec<u8>> {
    let segment = Segment::read(packet)?;
    segment.write(false, segment.ports, segment.sequence, segment.acknowledgment, RST | segment.flags & ACK)
}

struct Segment<'a> {
    ip: Ip<'a>,
    ports: [u16; 2],
    sequence: u32,
    acknowledgment: u32,
    /// The length of the segment in sequence numbers.
    length: u32,
    flags: u8,
}

impl<'a> Segment<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let ip = Ip::parse(packet).filter(|ip| ip.protocol == protocol::TCP && ip.fragment.is_none())?;
        let &[s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, ..] =
            ip.payload.first_chunk::<HEADER>()?;
        let data = ip.payload.len().checked_sub(usize::from(offset >> 4) * 4)?;
        let phantom = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (flags & RST == 0).then_some(Self {
            ip,
            ports: [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])],
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
            length: data as u32 + phantom,
            flags,
        })
    }

    fn write(&self, back: bool, ports: [u16; 2], sequence: u32, acknowledgment: u32, flags: u8) -> Option<Vec<u8>> {
        let (from, to) = (self.ip.source, self.ip.destination);
        let (from, to) = if back { (to, from) } else { (from, to) };
        let mut segment = [0; HEADER];
        segment[0..2].copy_from_slice(&ports[0].to_be_bytes());
        segment[2..4].copy_from_slice(&ports[1].to_be_bytes());
        segment[4..8].copy_from_slice(&sequence.to_be_bytes());
        segment[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
        segment[12] = (HEADER as u8 / 4) << 4;
        segment[13] = flags;
        let sum = transport_checksum(from, to, protocol::TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ip(from, to, protocol::TCP, IpOptions::default(), &segment)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpHeader};

    use super::*;

    fn tcp(packet: &[u8]) -> TcpHeader {
        let ip = Ip::parse(packet).unwrap();
        assert_eq!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
        TcpHeader::from_slice(ip.payload).unwrap().0
    }

    fn packet(flags: u8, data: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(1000, 443, 77, 1024);
        (header.syn, header.ack, header.rst) = (flags & SYN != 0, flags & ACK != 0, flags & RST != 0);
        header.acknowledgment_number = if header.ack { 55 } else { 0 };
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [198, 51, 100, 1], 64);
        builder.tcp_header(header).write(&mut packet, data).unwrap();
        packet
    }

    #[test]
    fn a_reset_has_the_numbers_that_its_receiver_accepts() {
        let answer = tcp_reset(&packet(SYN, b"")).unwrap();
        let header = tcp(&answer);
        assert_eq!((header.source_port, header.destination_port), (443, 1000));
        assert_eq!((header.rst, header.ack, header.sequence_number, header.acknowledgment_number), (true, true, 0, 78));
        assert_eq!(Ip::parse(&answer).unwrap().destination.to_string(), "10.0.0.1");

        let header = tcp(&tcp_reset(&packet(ACK, b"data")).unwrap());
        assert_eq!((header.rst, header.ack, header.sequence_number), (true, false, 55));

        let abort = tcp_abort(&packet(ACK, b"data")).unwrap();
        let header = tcp(&abort);
        assert_eq!((header.source_port, header.rst, header.ack, header.sequence_number), (1000, true, true, 77));
        assert_eq!(Ip::parse(&abort).unwrap().destination.to_string(), "198.51.100.1");
    }

    #[test]
    fn resets_are_not_answered_with_resets() {
        assert_eq!(tcp_reset(&packet(RST, b"")), None);
        assert_eq!(tcp_abort(&packet(RST | ACK, b"")), None);
        let datagram =
            super::super::udp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), IpOptions::default(), b"");
        assert_eq!(tcp_reset(&datagram.unwrap()), None);
    }
}
