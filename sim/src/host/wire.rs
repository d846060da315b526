//! Bytes that a host reads and writes itself: UDP and ICMP. TCP is smoltcp's.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, IpSlice, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    LaxIpSlice, PacketBuilder, UdpSlice,
};

use super::count::Loss;

/// Time to live, or hop limit, of every packet that a host makes.
const HOP_LIMIT: u8 = 64;

/// Bytes of an IPv4 header without options, and of an ICMP echo or UDP header: what surrounds a payload.
pub const IPV4_OVERHEAD: usize = 20 + 8;
/// The same for IPv6.
pub const IPV6_OVERHEAD: usize = 40 + 8;

/// IP, UDP or ICMP echo header bytes of a packet to `destination`.
pub const fn overhead(destination: IpAddr) -> usize {
    if destination.is_ipv4() { IPV4_OVERHEAD } else { IPV6_OVERHEAD }
}

/// What matters of an IP packet's header, and its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpNumber,
    /// Only a part of an IP packet.
    pub(super) fragment: bool,
    pub(super) payload: &'a [u8],
}

/// Parses a whole IP packet and verifies the IPv4 header checksum.
pub(super) fn view(packet: &[u8]) -> Result<View<'_>, Loss> {
    let ip = IpSlice::from_slice(packet).map_err(|_| Loss::BadPacket)?;
    if let Some(v4) = ip.ipv4() {
        let header = v4.header();
        if header.header_checksum() != header.to_header().calc_header_checksum() {
            return Err(Loss::BadChecksum);
        }
    }
    Ok(View {
        source: ip.source_addr(),
        destination: ip.destination_addr(),
        protocol: ip.payload_ip_number(),
        fragment: ip.is_fragmenting_payload(),
        payload: ip.payload().payload,
    })
}

/// A UDP datagram inside a [`View`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: &'a [u8],
}

/// Parses UDP and verifies the checksum (RFC 768; required on IPv6 by RFC 8200 §8.1).
pub(super) fn udp<'a>(ip: &View<'a>) -> Result<Udp<'a>, Loss> {
    let udp = UdpSlice::from_slice(ip.payload).map_err(|_| Loss::BadPacket)?;
    let unchecked = udp.checksum() == 0 && ip.source.is_ipv4();
    if !unchecked && !sums_to_zero(ip, udp.slice(), true) {
        return Err(Loss::BadChecksum);
    }
    Ok(Udp {
        source: SocketAddr::new(ip.source, udp.source_port()),
        destination: SocketAddr::new(ip.destination, udp.destination_port()),
        payload: udp.payload(),
    })
}

/// The flow that an ICMP error speaks of, as the packet it quotes shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoted {
    /// An ICMP echo request.
    Echo { ident: u16, seq: u16 },
    /// UDP from this port.
    Udp { port: u16 },
    /// TCP from this port.
    Tcp { port: u16 },
}

/// An ICMP message that a host acts on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Icmp<'a> {
    EchoRequest { ident: u16, seq: u16, data: &'a [u8] },
    EchoReply { ident: u16, seq: u16, data: &'a [u8] },
    /// ICMPv6 Packet Too Big (RFC 4443 §3.2), or ICMPv4 fragmentation needed (RFC 1191 §4).
    TooBig { mtu: u32, quoted: Quoted },
    /// Destination unreachable for another reason.
    Unreachable { code: u8, quoted: Quoted },
    /// Anything else.
    Other,
}

/// Parses ICMP or ICMPv6 and verifies the checksum.
pub(super) fn icmp<'a>(ip: &View<'a>) -> Result<Icmp<'a>, Loss> {
    let v4 = ip.source.is_ipv4();
    let Some((&[kind, code, _, _, a, b, c, d], data)) = ip.payload.split_first_chunk::<8>() else {
        return Err(Loss::BadPacket);
    };
    if !sums_to_zero(ip, ip.payload, !v4) {
        return Err(Loss::BadChecksum);
    }
    let (ident, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(match (v4, kind, code) {
        (true, 8, 0) | (false, 128, 0) => Icmp::EchoRequest { ident, seq, data },
        (true, 0, 0) | (false, 129, 0) => Icmp::EchoReply { ident, seq, data },
        (true, 3, 4) => quote(data).map_or(Icmp::Other, |quoted| Icmp::TooBig { mtu: u32::from(seq), quoted }),
        (false, 2, 0) => {
            let mtu = u32::from_be_bytes([a, b, c, d]);
            quote(data).map_or(Icmp::Other, |quoted| Icmp::TooBig { mtu, quoted })
        }
        (true, 3, _) | (false, 1, _) => quote(data).map_or(Icmp::Other, |quoted| Icmp::Unreachable { code, quoted }),
        _ => Icmp::Other,
    })
}

/// Reads the start of the packet that an ICMP error quotes.
fn quote(original: &[u8]) -> Option<Quoted> {
    let (ip, _) = LaxIpSlice::from_slice(original).ok()?;
    let &[a, b, _, _, e, f, g, h] = ip.payload().payload.first_chunk::<8>()?;
    let port = u16::from_be_bytes([a, b]);
    match (ip.payload_ip_number(), a) {
        (IpNumber::UDP, _) => Some(Quoted::Udp { port }),
        (IpNumber::TCP, _) => Some(Quoted::Tcp { port }),
        (IpNumber::ICMP, 8) | (IpNumber::IPV6_ICMP, 128) => {
            Some(Quoted::Echo { ident: u16::from_be_bytes([e, f]), seq: u16::from_be_bytes([g, h]) })
        }
        _ => None,
    }
}

/// Whether the Internet checksum over `segment` (and the pseudo header) comes out right (RFC 1071 §1).
fn sums_to_zero(ip: &View<'_>, segment: &[u8], pseudo: bool) -> bool {
    let mut sum = Sum16BitWords::new();
    if pseudo {
        sum = match (ip.source, ip.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => sum.add_4bytes(a.octets()).add_4bytes(b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => sum.add_16bytes(a.octets()).add_16bytes(b.octets()),
            _ => return false,
        };
        sum = sum.add_2bytes([0, ip.protocol.0]).add_4bytes((segment.len() as u32).to_be_bytes());
    }
    sum.add_slice(segment).ones_complement() == 0
}

/// Whether routers on the way may fragment a packet, and if so, its identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragments {
    /// IPv4: DF set, identification zero (RFC 6864 §4.1).
    Never,
    /// IPv4: DF clear, with this identification.
    Allowed(u16),
}

/// A UDP datagram as an IP packet. `None` if the families differ or it is longer than IP can say.
pub(super) fn udp_packet(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
    fragments: Fragments,
) -> Option<Vec<u8>> {
    let headers = ip_headers(source.ip(), destination.ip(), fragments)?;
    let builder = PacketBuilder::ip(headers).udp(source.port(), destination.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload).ok()?;
    Some(packet)
}

/// An ICMP echo request (`reply == false`) or reply as an IP packet that must not be fragmented.
pub(super) fn echo_packet(
    reply: bool,
    source: IpAddr,
    destination: IpAddr,
    (ident, seq): (u16, u16),
    data: &[u8],
) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ip(ip_headers(source, destination, Fragments::Never)?);
    let builder = match (source, reply) {
        (IpAddr::V4(_), false) => Builder::V4(builder.icmpv4_echo_request(ident, seq)),
        (IpAddr::V4(_), true) => Builder::V4(builder.icmpv4_echo_reply(ident, seq)),
        (IpAddr::V6(_), false) => Builder::V6(builder.icmpv6_echo_request(ident, seq)),
        (IpAddr::V6(_), true) => Builder::V6(builder.icmpv6_echo_reply(ident, seq)),
    };
    builder.finish(data)
}

/// An ICMP port unreachable that answers `original` (RFC 1122 §4.1.3.1, RFC 4443 §3.1).
pub(super) fn port_unreachable(source: IpAddr, destination: IpAddr, original: &[u8]) -> Option<Vec<u8>> {
    /// An error quotes as much as keeps it within what every path carries (RFC 1812 §4.3.2.3, RFC 4443 §3.1).
    const QUOTE: usize = 576 - IPV4_OVERHEAD;
    let builder = PacketBuilder::ip(ip_headers(source, destination, Fragments::Never)?);
    let builder = match source {
        IpAddr::V4(_) => Builder::V4(builder.icmpv4_raw(3, 3, [0; 4])),
        IpAddr::V6(_) => Builder::V6(builder.icmpv6_raw(1, 4, [0; 4])),
    };
    builder.finish(&original[..original.len().min(QUOTE)])
}

enum Builder {
    V4(etherparse::PacketBuilderStep<etherparse::Icmpv4Header>),
    V6(etherparse::PacketBuilderStep<etherparse::Icmpv6Header>),
}

impl Builder {
    fn finish(self, data: &[u8]) -> Option<Vec<u8>> {
        let mut packet = Vec::with_capacity(IPV6_OVERHEAD + data.len());
        match self {
            Self::V4(builder) => builder.write(&mut packet, data).ok()?,
            Self::V6(builder) => builder.write(&mut packet, data).ok()?,
        }
        Some(packet)
    }
}

fn ip_headers(source: IpAddr, destination: IpAddr, fragments: Fragments) -> Option<IpHeaders> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (dont_fragment, identification) = match fragments {
                Fragments::Never => (true, 0),
                Fragments::Allowed(identification) => (false, identification),
            };
            let header = Ipv4Header {
                identification,
                dont_fragment,
                fragment_offset: IpFragOffset::ZERO,
                time_to_live: HOP_LIMIT,
                source: source.octets(),
                destination: destination.octets(),
                ..Default::default()
            };
            Some(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                flow_label: Ipv6FlowLabel::ZERO,
                hop_limit: HOP_LIMIT,
                source: source.octets(),
                destination: destination.octets(),
                ..Default::default()
            };
            Some(IpHeaders::Ipv6(header, Ipv6Extensions::default()))
        }
        _ => None,
    }
}
