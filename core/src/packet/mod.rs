//! The inner packets: whole IP packets as applications send them into the virtual interface, and as tunnels carry them.
//!
//! Every packet goes through [`Inner::parse`], in both directions. It gives the virtual addresses between which the
//! packet runs, and checks that the packet is exactly as long as it claims. Otherwise packets of applications are left
//! alone, with five exceptions:
//!
//! - [`udp`] and [`build_udp`], [`tcp`] and [`build_tcp`]: DNS queries to the node itself, and their answers;
//! - [`too_big`]: a packet that does not fit its tunnel is answered by ICMP. So path MTU discovery works, and no packet
//!   is lost silently;
//! - [`prohibited`]: a packet that the access rules do not permit is answered by ICMP;
//! - [`fragment_v4`]: an IPv4 packet is cut into fragments, if it may be;
//! - [`clamp_mss`]: TCP learns the largest segment at its SYN, because path MTU discovery alone is slow and often
//!   filtered.
//!
//! etherparse reads and writes headers. No bytes make this code panic.

mod fragment;
mod icmp;
mod mss;
mod tcp;

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, IpSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, PacketBuilder, UdpSlice};

use crate::event::DropReason;

pub use fragment::fragment_v4;
pub use icmp::{Quoted, prohibited, quoted, too_big};
pub use mss::clamp_mss;
pub use tcp::{Segment, TcpFlags, build_tcp, tcp};

/// Hop limit of packets that the node itself makes (RFC 1700's recommended TTL).
const HOP_LIMIT: u8 = 64;

/// The facts of an IP packet that routing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The protocol number of IPv4, or the first next-header number of IPv6.
    pub protocol: u8,
    /// The length of the packet, bytes.
    pub len: usize,
}

impl Inner {
    /// Reads the IP header of a packet. [`DropReason::BadPacket`] unless the version is 4 or 6, the header is whole,
    /// and the length it states is that of the slice. Checksums are left to the stack that takes the packet; IPv6
    /// jumbograms are no packets.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let inner = match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = Ipv4HeaderSlice::from_slice(packet).map_err(|_| DropReason::BadPacket)?;
                let len = usize::from(header.total_len());
                if len < header.slice().len() {
                    return Err(DropReason::BadPacket);
                }
                let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
                Self { source, destination, protocol: header.protocol().0, len }
            }
            Some(6) => {
                let header = Ipv6HeaderSlice::from_slice(packet).map_err(|_| DropReason::BadPacket)?;
                let len = header.slice().len() + usize::from(header.payload_length());
                let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
                Self { source, destination, protocol: header.next_header().0, len }
            }
            _ => return Err(DropReason::BadPacket),
        };
        if inner.len == packet.len() { Ok(inner) } else { Err(DropReason::BadPacket) }
    }
}

/// Headers of a packet that [`Inner::parse`] takes, down to the transport; `None` too if IPv6 extension headers are
/// broken.
fn slice(packet: &[u8]) -> Option<IpSlice<'_>> {
    Inner::parse(packet).ok()?;
    IpSlice::from_slice(packet).ok()
}

/// A UDP datagram inside an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpView<'a> {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

/// The UDP datagram in `packet`; `None` if it is none, a fragment, or its checksum is wrong (RFC 768; RFC 8200 §8.1:
/// IPv6 must have one).
pub fn udp(packet: &[u8]) -> Option<UdpView<'_>> {
    let ip = slice(packet)?;
    let inside = ip.payload();
    if inside.ip_number != IpNumber::UDP || inside.fragmented {
        return None;
    }
    let udp = UdpSlice::from_slice(inside.payload).ok().filter(|udp| udp.length() != 0)?;
    let (header, payload) = (udp.to_header(), udp.payload());
    let expected = match &ip {
        IpSlice::Ipv4(_) if header.checksum == 0 => 0,
        IpSlice::Ipv4(v4) => {
            header.calc_checksum_ipv4_raw(v4.header().source(), v4.header().destination(), payload).ok()?
        }
        IpSlice::Ipv6(v6) => {
            header.calc_checksum_ipv6_raw(v6.header().source(), v6.header().destination(), payload).ok()?
        }
    };
    (header.checksum == expected).then(|| UdpView {
        source: SocketAddr::new(ip.source_addr(), udp.source_port()),
        destination: SocketAddr::new(ip.destination_addr(), udp.destination_port()),
        payload,
    })
}

/// An IP packet with a UDP datagram, checksums and all; IPv4 with DF. `None` if the addresses are of two families or
/// the payload does not fit a packet.
pub fn build_udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOP_LIMIT),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOP_LIMIT),
        _ => return None,
    };
    let builder = ip.udp(source.port(), destination.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write_to_vec(&mut packet, payload).ok()?;
    Some(packet)
}

#[cfg(test)]
mod tests;
