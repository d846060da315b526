//! The path of a packet through a box that forwards: shared by router, NAT and firewall.
//!
//! The steps: check that the packet is intact and has a hop left, look up its route, check that it fits the MTU, take
//! one hop off, send. Failures are reported by ICMP from an address of the box. A box without an address of that family
//! sends no report. NAT and firewall work between these steps.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use super::nat::{Nat64Box, NatBox};
use super::packet::{IcmpError, Ip, decrement_ttl, echo_reply, fragment_ipv4, icmp_error, ipv4_header_is_intact};
use super::{BoxOutput, Drops, FirewallBox, NetBox, NetDrop, NptBox, Router, Routes, WireConfig};

/// The forwarding part of a box.
#[derive(Debug)]
pub struct Forwarder {
    routes: Routes,
    addresses: Vec<IpAddr>,
    /// Source addresses of ICMP errors in families in which the box has no address of its own.
    reports_from: Vec<IpAddr>,
    /// MTU by interface; no limit if none is set.
    mtus: Vec<usize>,
    /// Interfaces on which a packet that is too big is dropped without a report.
    black_holes: BTreeSet<usize>,
    reports_too_big: bool,
    forwarded: u64,
    drops: Drops,
    out: VecDeque<(usize, Vec<u8>)>,
}

impl Forwarder {
    /// A box with these routes, whose own addresses are `addresses`: it answers echo requests to them, and sends ICMP
    /// errors from the first of the family.
    pub fn new(routes: Routes, addresses: Vec<IpAddr>) -> Self {
        Self {
            routes,
            addresses,
            reports_from: Vec::new(),
            mtus: Vec::new(),
            black_holes: BTreeSet::new(),
            reports_too_big: true,
            forwarded: 0,
            drops: Drops::default(),
            out: VecDeque::new(),
        }
    }

    /// The same box, which in families without an own address sends ICMP errors from these addresses: those of another
    /// box of the same device.
    #[must_use]
    pub fn reporting_from(mut self, addresses: Vec<IpAddr>) -> Self {
        self.reports_from = addresses;
        self
    }

    /// The routing table, to be changed.
    pub fn routes_mut(&mut self) -> &mut Routes {
        &mut self.routes
    }

    /// Sets the largest packet that may leave by `iface`, in bytes. The network calls this when it is built and when a
    /// wire changes.
    pub fn set_mtu(&mut self, iface: usize, mtu: usize) {
        if self.mtus.len() <= iface {
            self.mtus.resize(iface + 1, usize::MAX);
        }
        self.mtus[iface] = mtu;
    }

    /// Whether a packet too big for `iface` is dropped without a report. The network calls this too.
    pub fn set_black_hole(&mut self, iface: usize, is_one: bool) {
        if is_one {
            self.black_holes.insert(iface)
        } else {
            self.black_holes.remove(&iface)
        };
    }

    /// Whether the sender of a packet that is too big gets a report; otherwise this box is a black hole. On by default.
    pub fn set_reports_too_big(&mut self, reports: bool) {
        self.reports_too_big = reports;
    }

    /// Packets forwarded; a packet that had to be fragmented counts once.
    pub fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// Packets dropped, by reason.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    pub(super) fn drop(&mut self, reason: NetDrop) {
        self.drops.count(reason);
    }

    pub(super) fn drop_many(&mut self, reason: NetDrop, packets: u64) {
        self.drops.add(reason, packets);
    }

    /// The next packet to send.
    pub(super) fn poll(&mut self) -> Option<BoxOutput> {
        self.out.pop_front().map(|(iface, packet)| BoxOutput::Send { iface, packet })
    }

    /// Everything a plain router does.
    pub(super) fn forward(&mut self, packet: Vec<u8>) {
        let Some((destination, ttl)) = self.intact(&packet).map(|ip| (ip.destination, ip.ttl)) else { return };
        if self.addresses.contains(&destination) {
            self.answer(&packet);
        } else if self.has_hop_left(ttl, &packet)
            && let Some(iface) = self.route(destination, &packet)
            && self.fits(iface, &packet)
        {
            self.send_on(iface, packet);
        }
    }

    /// Parses a packet. One that is not intact is counted and gives `None`.
    pub(super) fn intact<'a>(&mut self, packet: &'a [u8]) -> Option<Ip<'a>> {
        let ip = Ip::parse(packet).filter(|ip| ip.source.is_ipv6() || ipv4_header_is_intact(packet));
        if ip.is_none() {
            self.drop(NetDrop::BadPacket);
        }
        ip
    }

    /// Whether an address is one of the box's own.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Answers an echo request to the box itself.
    pub(super) fn answer(&mut self, packet: &[u8]) {
        match echo_reply(packet) {
            Some(reply) => self.originate(reply),
            None => self.drop(NetDrop::ForBox),
        }
    }

    /// Whether the packet has a hop left; if not, its sender gets a report.
    pub(super) fn has_hop_left(&mut self, ttl: u8, packet: &[u8]) -> bool {
        if ttl <= 1 {
            self.drop(NetDrop::TtlExpired);
            self.report(IcmpError::TimeExceeded, None, packet);
        }
        ttl > 1
    }

    /// The interface to `destination`; if there is none, the sender gets a report.
    pub(super) fn route(&mut self, destination: IpAddr, packet: &[u8]) -> Option<usize> {
        let iface = self.routes.lookup(destination);
        if iface.is_none() {
            self.drop(NetDrop::NoRoute);
            self.report(IcmpError::NoRoute, None, packet);
        }
        iface
    }

    /// The interface to `destination`, without a report.
    pub(super) fn lookup(&self, destination: IpAddr) -> Option<usize> {
        self.routes.lookup(destination)
    }

    /// Whether the packet fits or may be fragmented; if not, its sender gets a report.
    pub(super) fn fits(&mut self, iface: usize, packet: &[u8]) -> bool {
        let fits = self.fits_quietly(iface, packet);
        if !fits {
            self.too_big(iface, None, packet);
        }
        fits
    }

    pub(super) fn fits_quietly(&self, iface: usize, packet: &[u8]) -> bool {
        packet.len() <= self.mtu(iface) || Ip::parse(packet).is_some_and(|ip| !ip.dont_fragment)
    }

    /// Drops a packet that does not fit and reports it to its sender, from the address `from` if it is given.
    pub(super) fn too_big(&mut self, iface: usize, from: Option<IpAddr>, packet: &[u8]) {
        self.drop(NetDrop::TooBig);
        if self.reports_too_big && !self.black_holes.contains(&iface) {
            let mtu = self.mtu(iface) as u32;
            self.report(IcmpError::TooBig { mtu }, from, packet);
        }
    }

    /// Takes one hop off and sends the packet, in fragments if necessary.
    pub(super) fn send_on(&mut self, iface: usize, mut packet: Vec<u8>) {
        decrement_ttl(&mut packet);
        self.forwarded += 1;
        if packet.len() <= self.mtu(iface) {
            self.out.push_back((iface, packet));
        } else {
            let pieces = fragment_ipv4(&packet, self.mtu(iface)).unwrap_or_default();
            self.out.extend(pieces.into_iter().map(|piece| (iface, piece)));
        }
    }

    /// Reports an error to the sender of `packet`, from `from` or the first own address of its family.
    pub(super) fn report(&mut self, error: IcmpError, from: Option<IpAddr>, packet: &[u8]) {
        let is_ipv4 = packet.first().is_some_and(|b| b >> 4 == 4);
        let mut all = self.addresses.iter().chain(&self.reports_from);
        let own = all.find(|address| address.is_ipv4() == is_ipv4).copied();
        if let Some(from) = from.or(own)
            && let Some(report) = icmp_error(error, from, packet)
        {
            self.originate(report);
        }
    }

    /// Sends a packet of the box's own.
    pub(super) fn originate(&mut self, packet: Vec<u8>) {
        if let Some(iface) = Ip::parse(&packet).and_then(|ip| self.routes.lookup(ip.destination)) {
            self.out.push_back((iface, packet));
        }
    }

    /// The MTU of an interface, bytes.
    pub(super) fn mtu(&self, iface: usize) -> usize {
        self.mtus.get(iface).copied().unwrap_or(usize::MAX)
    }
}

/// Sets the MTU of one of a box's wires, and whether it is a black hole, if the box forwards.
pub(super) fn tell_mtu(netbox: &mut dyn NetBox, iface: usize, wire: &WireConfig) {
    let any = netbox.as_any_mut();
    let forwarder = if let Some(router) = any.downcast_mut::<Router>() {
        router.forwarder_mut()
    } else if let Some(nat) = any.downcast_mut::<NatBox>() {
        nat.forwarder_mut()
    } else if let Some(nat) = any.downcast_mut::<Nat64Box>() {
        nat.forwarder_mut()
    } else if let Some(npt) = any.downcast_mut::<NptBox>() {
        npt.forwarder_mut()
    } else if let Some(firewall) = any.downcast_mut::<FirewallBox>() {
        firewall.forwarder_mut()
    } else {
        return;
    };
    forwarder.set_mtu(iface, wire.mtu);
    forwarder.set_black_hole(iface, wire.black_hole);
}
