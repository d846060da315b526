//! The underlay side of a host: its interfaces, UDP in and out of whole IP packets, ICMP.
//!
//! A packet leaves by the interface that owns its source address, whatever its destination: the role chose the source
//! when it chose the path. A packet is accepted only by the interface that owns its destination (the strong host
//! model, RFC 1122 §3.3.4.2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use cyphonic_core::machine::Transmit;
use cyphonic_core::time::Instant;

use super::count::{Loss, Losses, count};
use super::headers::{self, Icmp};
use crate::net::packet::{
    self, IcmpError, Ip, Reassembled, Reassembler, echo_reply, fragment_ipv4, fragment_ipv6, icmp_error,
    parse_icmp_error, protocol, segment,
};

/// Most packets that wait to be sent.
pub const OUTBOX_LIMIT: usize = 65_536;

/// Most UDP ports of a role.
pub const PORT_LIMIT: usize = 256;

/// Most hosts whose path MTU is remembered.
pub(super) const PATH_LIMIT: usize = 1024;
/// The least MTU of a path, for IPv6 and IPv4 (RFC 8200 §5, RFC 791).
const LEAST_MTU: [usize; 2] = [1280, 68];

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses, the preferred one of each family first.
    pub addresses: Vec<IpAddr>,
    /// The largest IP packet in bytes.
    pub mtu: usize,
    /// Whether packets go in and out.
    pub up: bool,
}

impl Interface {
    /// An interface that is up, with an MTU of 1,500 bytes.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { addresses: addresses.into_iter().collect(), mtu: 1500, up: true }
    }
}

/// Whether a UDP datagram must not be fragmented, by the source or on the path (IPv4's DF). For IPv6 only the source
/// could.
pub type DontFragment = fn(&Transmit) -> bool;

/// Allows fragmentation for the conventional method's port only. That method has no path MTU discovery; QUIC must not
/// be fragmented (RFC 9000 §14).
pub fn all_but_port_4501(transmit: &Transmit) -> bool {
    transmit.local.port() != 4501 && transmit.remote.port() != 4501
}

/// An arrival for the role.
pub(super) enum Arrival {
    Datagram {
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
    },
    /// A whole IP packet with a TCP segment.
    Tcp(Vec<u8>),
}

pub(super) struct Underlay {
    interfaces: Vec<Interface>,
    outbox: VecDeque<(usize, Vec<u8>)>,
    ports: BTreeSet<u16>,
    dont_fragment: DontFragment,
    port_unreachable: bool,
    reassembler: Reassembler,
    identification: u32,
    /// Path MTUs smaller than the interface's, from ICMP errors (RFC 8201). They are used only for packets that may be
    /// fragmented: QUIC has its own discovery.
    path_mtu: BTreeMap<IpAddr, usize>,
}

impl Underlay {
    pub(super) fn new(
        interfaces: Vec<Interface>,
        ports: &[u16],
        dont_fragment: DontFragment,
        port_unreachable: bool,
    ) -> Self {
        Self {
            interfaces,
            outbox: VecDeque::new(),
            ports: ports.iter().copied().collect(),
            dont_fragment,
            port_unreachable,
            reassembler: Reassembler::default(),
            identification: 0,
            path_mtu: BTreeMap::new(),
        }
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    pub(super) fn interface_mut(&mut self, iface: usize) -> &mut Interface {
        &mut self.interfaces[iface]
    }

    /// Every address of an interface that is up, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces
            .iter()
            .filter(|interface| interface.up)
            .flat_map(|interface| interface.addresses.iter().copied())
    }

    /// The source for a new connection: the first address of `remote`'s family.
    pub(super) fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        self.addresses().find(|address| address.is_ipv4() == remote.is_ipv4())
    }

    pub(super) fn next_packet(&mut self) -> Option<(usize, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// Sends a role's datagram, in fragments if it must and may.
    pub(super) fn transmit(&mut self, transmit: &Transmit, losses: &mut Losses) {
        debug_assert!(transmit.segment.is_none(), "no role was told that datagrams can be joined here");
        let whole = (self.dont_fragment)(transmit);
        if self.ports.len() < PORT_LIMIT {
            self.ports.insert(transmit.local.port());
        }
        self.identification = self.identification.wrapping_add(1);
        // Identification zero is for packets with DF.
        let options =
            if whole { headers::whole() } else { headers::fragmentable((self.identification % 0xffff) as u16 + 1) };
        let Some(packet) = packet::udp(transmit.local, transmit.remote, options, &transmit.payload) else {
            let mixed = transmit.local.is_ipv4() != transmit.remote.is_ipv4();
            return count(losses, if mixed { Loss::MixedFamilies } else { Loss::LargerThanMtu });
        };
        let Some(iface) = self.way_out(transmit.local.ip(), losses) else { return };
        let mut mtu = self.interfaces[iface].mtu;
        if let Some(&path) = self.path_mtu.get(&transmit.remote.ip()).filter(|_| !whole) {
            mtu = mtu.min(path);
        }
        if packet.len() <= mtu {
            self.push(iface, packet, losses);
        } else if whole {
            count(losses, Loss::LargerThanMtu);
        } else {
            let pieces = match transmit.local {
                SocketAddr::V4(_) => fragment_ipv4(&packet, mtu),
                SocketAddr::V6(_) => fragment_ipv6(&packet, mtu, self.identification),
            };
            match pieces {
                Some(pieces) => pieces.into_iter().for_each(|piece| self.push(iface, piece, losses)),
                None => count(losses, Loss::LargerThanMtu),
            }
        }
    }

    /// Sends an IP packet that is never fragmented. A TCP segment is cut where the interface is narrower than when the
    /// host was made, or the path is known to be.
    pub(super) fn send(&mut self, source: IpAddr, packet: Vec<u8>, losses: &mut Losses) {
        let Some(iface) = self.way_out(source, losses) else { return };
        let interface = self.interfaces[iface].mtu;
        let path = Ip::parse(&packet).and_then(|ip| self.path_mtu.get(&ip.destination).copied());
        let mtu = path.map_or(interface, |path| path.min(interface));
        if packet.len() <= mtu {
            self.push(iface, packet, losses);
        } else if let Some(pieces) = segment(&packet, mtu) {
            for piece in pieces {
                self.push(iface, piece, losses);
            }
        } else if packet.len() <= interface {
            self.push(iface, packet, losses);
        } else {
            count(losses, Loss::LargerThanMtu);
        }
    }

    /// Takes a received IP packet, and answers ICMP echo requests.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        iface: usize,
        packet: Vec<u8>,
        losses: &mut Losses,
    ) -> Option<Arrival> {
        self.accept(now, iface, packet, losses).unwrap_or_else(|loss| {
            count(losses, loss);
            None
        })
    }

    fn accept(
        &mut self,
        now: Instant,
        iface: usize,
        mut packet: Vec<u8>,
        losses: &mut Losses,
    ) -> Result<Option<Arrival>, Loss> {
        let interface = self.interfaces.get(iface).filter(|interface| interface.up).ok_or(Loss::InterfaceDown)?;
        if !interface.addresses.contains(&headers::ip(&packet)?.destination) {
            return Err(Loss::NotOurs);
        }
        for _ in 0..self.reassembler.expire(now) {
            count(losses, Loss::FragmentTimeout);
        }
        packet = match self.reassembler.push(now, packet) {
            Reassembled::Untouched(packet) | Reassembled::Whole { packet, .. } => packet,
            Reassembled::Waiting => return Ok(None),
            Reassembled::Dropped(_) => return Err(Loss::BadFragment),
        };
        let ip = headers::ip(&packet)?;
        match ip.protocol {
            protocol::UDP => self.accept_udp(&ip, &packet, losses).map(Some),
            protocol::TCP => Ok(Some(Arrival::Tcp(packet))),
            protocol::ICMP | protocol::ICMPV6 => {
                let Icmp::Request = headers::icmp(&ip, &packet)? else {
                    self.learn_path_mtu(&packet);
                    return Err(Loss::Icmp);
                };
                if let Some(reply) = echo_reply(&packet) {
                    self.send(ip.destination, reply, losses);
                }
                Ok(None)
            }
            _ => Err(Loss::UnknownProtocol),
        }
    }

    fn accept_udp(&mut self, ip: &Ip<'_>, packet: &[u8], losses: &mut Losses) -> Result<Arrival, Loss> {
        let udp = headers::udp(ip)?;
        if !self.ports.contains(&udp.destination.port()) {
            if self.port_unreachable
                && let Some(error) = icmp_error(IcmpError::PortUnreachable, ip.destination, packet)
            {
                self.send(ip.destination, error, losses);
            }
            return Err(Loss::UnboundPort);
        }
        Ok(Arrival::Datagram { local: udp.destination, remote: udp.source, payload: BytesMut::from(udp.payload) })
    }

    /// Learns a path MTU from a Packet Too Big about one of our packets.
    fn learn_path_mtu(&mut self, packet: &[u8]) {
        let Some(quote) = parse_icmp_error(packet) else { return };
        let (IcmpError::TooBig { mtu }, Some(about)) = (quote.error, Ip::parse_quoted(quote.packet)) else { return };
        let known = self.path_mtu.contains_key(&about.destination);
        if self.addresses().any(|own| own == about.source) && (known || self.path_mtu.len() < PATH_LIMIT) {
            let least = LEAST_MTU[usize::from(about.destination.is_ipv4())];
            let mtu = usize::try_from(mtu).unwrap_or(usize::MAX).max(least);
            self.path_mtu.entry(about.destination).and_modify(|old| *old = mtu.min(*old)).or_insert(mtu);
        }
    }

    fn way_out(&self, source: IpAddr, losses: &mut Losses) -> Option<usize> {
        let owner = self.interfaces.iter().position(|interface| interface.addresses.contains(&source));
        match owner {
            Some(iface) if self.interfaces[iface].up => Some(iface),
            Some(_) => {
                count(losses, Loss::InterfaceDown);
                None
            }
            None => {
                count(losses, Loss::NoInterface);
                None
            }
        }
    }

    fn push(&mut self, iface: usize, packet: Vec<u8>, losses: &mut Losses) {
        if self.outbox.len() < OUTBOX_LIMIT {
            self.outbox.push_back((iface, packet));
        } else {
            count(losses, Loss::QueueFull);
        }
    }
}
