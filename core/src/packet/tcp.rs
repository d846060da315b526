//! TCP segments of the node's own DNS.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, IpSlice, PacketBuilder, TcpSlice};

use super::{HOP_LIMIT, slice};

/// The receive window that is announced, bytes: more than any query has.
const WINDOW: u16 = 8_192;

/// A TCP segment inside an IP packet. Options are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// The sequence number of its first byte, or of its SYN.
    pub sequence: u32,
    /// The sequence number that is expected next, if ACK is set.
    pub acknowledged: u32,
    /// Its flags.
    pub flags: TcpFlags,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The flags of a segment (RFC 9293 §3.1), as far as a server of DNS needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "that is what a TCP header has")]
pub struct TcpFlags {
    /// The first segment of a direction.
    pub syn: bool,
    /// Something is acknowledged.
    pub ack: bool,
    /// The application shall have it now.
    pub psh: bool,
    /// The last segment of a direction.
    pub fin: bool,
    /// There is no such connection.
    pub rst: bool,
}

/// The TCP segment in `packet`; `None` if it is none, a fragment, or its checksum is wrong.
pub fn tcp(packet: &[u8]) -> Option<Segment<'_>> {
    let ip = slice(packet)?;
    let inside = ip.payload();
    if inside.ip_number != IpNumber::TCP || inside.fragmented {
        return None;
    }
    let tcp = TcpSlice::from_slice(inside.payload).ok()?;
    let expected = match &ip {
        IpSlice::Ipv4(v4) => tcp.calc_checksum_ipv4(v4.header().source(), v4.header().destination()).ok()?,
        IpSlice::Ipv6(v6) => tcp.calc_checksum_ipv6(v6.header().source(), v6.header().destination()).ok()?,
    };
    let flags = TcpFlags { syn: tcp.syn(), ack: tcp.ack(), psh: tcp.psh(), fin: tcp.fin(), rst: tcp.rst() };
    (tcp.checksum() == expected).then(|| Segment {
        source: SocketAddr::new(ip.source_addr(), tcp.source_port()),
        destination: SocketAddr::new(ip.destination_addr(), tcp.destination_port()),
        sequence: tcp.sequence_number(),
        acknowledged: tcp.acknowledgment_number(),
        flags,
        // The same bytes as `tcp.payload()`, which live as long as the packet.
        payload: &inside.payload[usize::from(tcp.data_offset()) * 4..],
    })
}

/// An IP packet with a TCP segment, checksums and all. `None` if the addresses are of two families, or the payload does
/// not fit a packet.
pub fn build_tcp(segment: &Segment<'_>) -> Option<Vec<u8>> {
    let ip = match (segment.source.ip(), segment.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOP_LIMIT),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOP_LIMIT),
        _ => return None,
    };
    let TcpFlags { syn, ack, psh, fin, rst } = segment.flags;
    let mut builder = ip.tcp(segment.source.port(), segment.destination.port(), segment.sequence, WINDOW);
    for (set, flag) in [(syn, 0), (psh, 1), (fin, 2), (rst, 3)] {
        builder = match (set, flag) {
            (false, _) => builder,
            (true, 0) => builder.syn(),
            (true, 1) => builder.psh(),
            (true, 2) => builder.fin(),
            (true, _) => builder.rst(),
        };
    }
    if ack {
        builder = builder.ack(segment.acknowledged);
    }
    let mut packet = Vec::with_capacity(builder.size(segment.payload.len()));
    builder.write_to_vec(&mut packet, segment.payload).ok()?;
    Some(packet)
}
