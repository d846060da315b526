//! Network prefix translation, IPv6 to IPv6 (RFC 6296): one prefix inside, another of the same length outside, and one
//! outside address for each inside address. It keeps no state and changes no port. It adds the difference of the
//! prefixes to one word of the address, so that the checksums of UDP and TCP stay correct.
//!
//! [`Npt`] translates addresses. [`NptBox`] is a router that does so between one outside interface and all others.

use std::any::Any;
use std::net::{IpAddr, Ipv6Addr};

use cyphonic_core::time::Instant;
use ipnet::Ipv6Net;

use super::packet::{IPV6_HEADER, Ip, parse_icmp_error};
use super::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop};

/// Offsets of source and destination in an IPv6 header.
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

/// A prefix translator, pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Npt {
    inside: Ipv6Net,
    outside: Ipv6Net,
    /// The sum that is added to an address on its way out, in ones' complement.
    adjustment: u16,
}

/// Prefixes that cannot be translated into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NptError {
    /// The prefixes have different lengths, so their addresses cannot be paired.
    #[error("{0} and {1} are not of one length")]
    Lengths(Ipv6Net, Ipv6Net),
    /// The prefix is so long that no whole word is left for the correction.
    #[error("a prefix of /{0} is too long: at most /112")]
    TooLong(u8),
}

impl Npt {
    /// A translator between two prefixes.
    pub fn new(inside: Ipv6Net, outside: Ipv6Net) -> Result<Self, NptError> {
        if inside.prefix_len() != outside.prefix_len() {
            return Err(NptError::Lengths(inside, outside));
        }
        if inside.prefix_len() > 112 {
            return Err(NptError::TooLong(inside.prefix_len()));
        }
        let sum = |prefix: Ipv6Net| prefix.network().segments().into_iter().fold(0, add);
        Ok(Self { inside, outside, adjustment: add(sum(inside), !sum(outside)) })
    }

    /// The outside address of an inside address; `None` if the address is not inside or cannot be translated (RFC 6296,
    /// section 3.5).
    pub fn outward(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        translate(address, self.inside, self.outside, self.adjustment)
    }

    /// The inside address of an outside address; `None` if the address is not outside or cannot be translated.
    pub fn inward(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        translate(address, self.outside, self.inside, !self.adjustment)
    }

    /// Translates the source of a packet on its way out. On an error the packet is to be dropped.
    pub fn outgoing(&self, packet: &mut [u8]) -> Result<(), NetDrop> {
        change(packet, SOURCE, DESTINATION, |address| self.outward(address))
    }

    /// Translates the destination of a packet on its way in. On an error the packet is to be dropped.
    pub fn incoming(&self, packet: &mut [u8]) -> Result<(), NetDrop> {
        change(packet, DESTINATION, SOURCE, |address| self.inward(address))
    }
}

/// Ones' complement addition.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn translate(address: Ipv6Addr, from: Ipv6Net, to: Ipv6Net, adjustment: u16) -> Option<Ipv6Addr> {
    if !from.contains(&address) {
        return None;
    }
    let host = u128::from(address) & u128::from(from.hostmask());
    let mut words = Ipv6Addr::from(u128::from(to.network()) | host).segments();
    // The corrected word is the subnet if the prefix leaves one (section 3.4), or else a word of the interface
    // identifier (section 3.5).
    let place = match from.prefix_len() {
        0..=48 => 3,
        length => (4..8).find(|&word| word * 16 >= usize::from(length) && words[word] != 0xffff)?,
    };
    if words[place] == 0xffff {
        return None;
    }
    words[place] = match add(words[place], adjustment) {
        0xffff => 0,
        word => word,
    };
    Some(words.into())
}

/// Changes the address at `at`. In a packet that an ICMP error quotes, which went the other way, changes the address at
/// `quoted`.
fn change(
    packet: &mut [u8],
    at: usize,
    quoted: usize,
    translate: impl Fn(Ipv6Addr) -> Option<Ipv6Addr>,
) -> Result<(), NetDrop> {
    if Ip::parse(packet).is_none_or(|ip| ip.source.is_ipv4()) {
        return Err(NetDrop::NatUnsupported);
    }
    let quote = parse_icmp_error(packet).map(|quote| (quote.at, quote.packet.len()));
    let mut replace = |at: usize| -> Option<()> {
        let old: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        packet[at..at + 16].copy_from_slice(&translate(old.into())?.octets());
        Some(())
    };
    replace(at).ok_or(NetDrop::NoMapping)?;
    match quote {
        Some((start, len)) if len >= IPV6_HEADER => replace(start + quoted).ok_or(NetDrop::NoMapping),
        _ => Ok(()),
    }
}

/// A prefix translator in the network. It forwards IPv4, and packets between two inside interfaces, untranslated.
#[derive(Debug)]
pub struct NptBox {
    npt: Npt,
    forwarder: Forwarder,
    outside: usize,
}

impl NptBox {
    /// `forwarder` has the routes of all sides, the inside by its inside prefix.
    pub fn new(npt: Npt, forwarder: Forwarder, outside: usize) -> Self {
        Self { npt, forwarder, outside }
    }

    /// Routes, MTUs, counters.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Routes, MTUs, counters, to be changed.
    pub fn forwarder_mut(&mut self) -> &mut Forwarder {
        &mut self.forwarder
    }

    fn handle_packet(&mut self, iface: usize, mut packet: Vec<u8>) {
        let Some(ip) = self.forwarder.intact(&packet) else { return };
        let (IpAddr::V6(_), destination, ttl) = (ip.source, ip.destination, ip.ttl) else {
            return self.forwarder.forward(packet);
        };
        if self.forwarder.owns(destination) {
            return self.forwarder.answer(&packet);
        }
        let leaves = self.forwarder.lookup(destination) == Some(self.outside);
        if iface == self.outside {
            let before = packet.clone();
            if let Err(reason) = self.npt.incoming(&mut packet) {
                return self.forwarder.drop(reason);
            }
            let inside = Ip::parse(&packet).and_then(|ip| self.forwarder.lookup(ip.destination));
            match inside {
                _ if ttl <= 1 => {
                    self.forwarder.has_hop_left(ttl, &before);
                }
                None => self.forwarder.drop(NetDrop::NoRoute),
                Some(iface) if self.forwarder.fits_quietly(iface, &packet) => self.forwarder.send_on(iface, packet),
                Some(iface) => self.forwarder.too_big(iface, Some(destination), &before),
            }
        } else if !leaves {
            self.forwarder.forward(packet);
        } else if self.forwarder.has_hop_left(ttl, &packet) && self.forwarder.fits(self.outside, &packet) {
            match self.npt.outgoing(&mut packet) {
                Ok(()) => self.forwarder.send_on(self.outside, packet),
                Err(reason) => self.forwarder.drop(reason),
            }
        }
    }
}

impl NetBox for NptBox {
    fn handle_input(&mut self, _now: Instant, input: BoxInput) {
        if let BoxInput::Packet { iface, packet } = input {
            self.handle_packet(iface, packet);
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        self.forwarder.poll().unwrap_or(BoxOutput::Wait(None))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::Routes;
    use crate::net::packet::{IcmpError, IpOptions, icmp_error, transport_checksum, udp};

    fn npt(inside: &str, outside: &str) -> Npt {
        Npt::new(inside.parse().unwrap(), outside.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_rfcs_example_is_translated_so_and_back() {
        // RFC 6296, section 3.1 and figure: FD01:0203:0405::/48 and 2001:0DB8:0001::/48.
        let npt = npt("fd01:203:405::/48", "2001:db8:1::/48");
        let (inside, outside) = ("fd01:203:405:1::1234".parse().unwrap(), "2001:db8:1:d550::1234".parse().unwrap());
        assert_eq!(npt.outward(inside), Some(outside));
        assert_eq!(npt.inward(outside), Some(inside));
        assert_eq!(npt.outward(outside), None);
        assert_eq!(npt.outward("fd01:203:405:ffff::1".parse().unwrap()), None, "a subnet that cannot be");
    }

    #[test]
    fn prefixes_that_do_not_fit_are_refused() {
        let (a, b, c): (Ipv6Net, _, _) =
            ("fd00::/48".parse().unwrap(), "2001:db8::/56".parse().unwrap(), "fd00::/120".parse().unwrap());
        assert_eq!(Npt::new(a, b), Err(NptError::Lengths(a, b)));
        assert_eq!(Npt::new(c, c), Err(NptError::TooLong(120)));
    }

    proptest! {
        #[test]
        fn no_checksum_changes_and_every_address_comes_back(
            host: u128, length in 1u8..=112, a: u128, b: u128, payload: Vec<u8>
        ) {
            let prefix = |bits: u128| Ipv6Net::new(bits.into(), length).unwrap().trunc();
            let npt = Npt::new(prefix(a), prefix(b)).unwrap();
            let inside = Ipv6Addr::from(u128::from(npt.inside.network()) | host & u128::from(npt.inside.hostmask()));
            let Some(outside) = npt.outward(inside) else { return Ok(()) };
            let back = npt.inward(outside);
            // Zero and all ones are the same number in ones' complement. So a word of all ones cannot be translated
            // back, and is never a result.
            let is_ambiguous = |address: Ipv6Addr| address.segments().contains(&0xffff);
            prop_assert!(back == Some(inside) || is_ambiguous(inside) || is_ambiguous(outside));
            let mut packet = udp(
                (inside, 5000).into(), "[2001:db8:ffff::1]:80".parse().unwrap(), IpOptions::default(), &payload
            ).unwrap();
            npt.outgoing(&mut packet).unwrap();
            let ip = Ip::parse(&packet).unwrap();
            prop_assert_eq!(ip.source, IpAddr::V6(outside));
            prop_assert_eq!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
        }
    }

    #[test]
    fn the_box_translates_both_ways_and_errors_with_what_they_quote() {
        let npt = npt("fd01:203:405::/48", "2001:db8:1::/48");
        let routes = Routes::new().with("fd01:203:405::/48".parse().unwrap(), 0).with("::/0".parse().unwrap(), 1);
        let mut netbox = NptBox::new(npt, Forwarder::new(routes, vec!["fd01:203:405::ff".parse().unwrap()]), 1);
        let mut pass = |iface, packet: Vec<u8>| {
            netbox.handle_input(Instant::ZERO, BoxInput::Packet { iface, packet });
            match netbox.poll_output() {
                BoxOutput::Send { iface, packet } => Some((iface, packet)),
                BoxOutput::Wait(_) => None,
            }
        };
        let (host, server) = ("[fd01:203:405:1::1234]:5000", "[2001:db8:b::1]:80");
        let mut sent = udp(host.parse().unwrap(), server.parse().unwrap(), IpOptions::default(), b"out").unwrap();
        let (iface, outside) = pass(0, sent.clone()).unwrap();
        let seen = Ip::parse(&outside).unwrap().source;
        assert_eq!((iface, seen.to_string().as_str()), (1, "2001:db8:1:d550::1234"));

        // Any host may send to it: there is no filter.
        let unasked =
            udp("[2001:db8:c::1]:9".parse().unwrap(), (seen, 5000).into(), IpOptions::default(), b"in").unwrap();
        let (iface, inside) = pass(1, unasked).unwrap();
        assert_eq!((iface, Ip::parse(&inside).unwrap().destination.to_string().as_str()), (0, "fd01:203:405:1::1234"));

        let error = icmp_error(IcmpError::TooBig { mtu: 1280 }, "2001:db8:b::ff".parse().unwrap(), &outside).unwrap();
        let (_, error) = pass(1, error).unwrap();
        let quote = parse_icmp_error(&error).expect("its checksum is right still");
        assert!(crate::net::packet::decrement_ttl(&mut sent));
        assert_eq!(quote.packet, sent);
        assert_eq!(pass(1, sent), None, "nobody outside knows inside addresses");
    }
}
