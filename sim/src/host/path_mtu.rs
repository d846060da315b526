//! The path MTU cache of a host, as kernels keep it (RFC 1191, RFC 8201).
//!
//! A Packet Too Big about one of the host's packets bounds what goes to that destination for ten minutes. Larger
//! packets are fragmented at their source. TCP segments are cut, as segmentation offload does, so that a connection's
//! segment size follows the path. A probe of an exact size asks to be left alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::time::Instant;

use crate::net::packet::{
    IcmpError, Ip, allow_fragments, fragment_ipv4, fragment_ipv6, parse_icmp_error, protocol, segment,
};

/// Most destinations whose path MTU is known.
const DESTINATION_LIMIT: usize = 1024;
/// How long a path MTU holds (RFC 1191 §6.3, RFC 8201 §5.3).
const LIFETIME: Duration = Duration::from_secs(600);
/// No IPv6 path is narrower (RFC 8200 §5): a smaller number is discarded (RFC 8201 §4).
const LEAST_V6: usize = 1280;
/// Linux's `min_pmtu`: IPv4 packets are not made smaller than this.
const LEAST_V4: usize = 552;

/// What a host knows of the paths to its destinations.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    known: BTreeMap<IpAddr, (usize, Instant)>,
    identification: u32,
}

impl PathMtus {
    /// Takes an ICMP error. It counts if it is a Packet Too Big about a packet that `is_ours` sent.
    pub(super) fn learn(&mut self, now: Instant, error: &[u8], is_ours: impl Fn(IpAddr) -> bool) {
        let Some(quote) = parse_icmp_error(error) else { return };
        let (IcmpError::TooBig { mtu }, Some(about)) = (quote.error, Ip::parse_quoted(quote.packet)) else { return };
        let (to, mtu) = (about.destination, usize::try_from(mtu).unwrap_or(usize::MAX));
        if !is_ours(about.source) || to.is_ipv6() && mtu < LEAST_V6 {
            return;
        }
        self.known.retain(|_, (_, until)| *until > now);
        let before = self.known.get(&to).map(|(mtu, _)| *mtu);
        if before.is_none() && self.known.len() >= DESTINATION_LIMIT {
            return;
        }
        let mtu = if to.is_ipv4() { mtu.max(LEAST_V4) } else { mtu };
        if before.is_none_or(|before| mtu < before) {
            self.known.insert(to, (mtu, now + LIFETIME));
        }
    }

    /// The path MTU to a destination, if it is known.
    fn of(&self, now: Instant, to: IpAddr) -> Option<usize> {
        self.known.get(&to).filter(|(_, until)| *until > now).map(|(mtu, _)| *mtu)
    }

    /// A packet as it goes out: whole, or in pieces that the path takes. What cannot be cut goes out whole.
    pub(super) fn cut(&mut self, now: Instant, packet: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(ip) = Ip::parse(&packet) else { return vec![packet] };
        let Some(mtu) = self.of(now, ip.destination).filter(|mtu| packet.len() > *mtu) else { return vec![packet] };
        let pieces = if ip.protocol == protocol::TCP {
            segment(&packet, mtu)
        } else {
            self.identification = self.identification.wrapping_add(1);
            match ip.destination {
                IpAddr::V4(_) => {
                    let identification = (self.identification % 0xffff) as u16 + 1;
                    allow_fragments(&packet, identification).and_then(|packet| fragment_ipv4(&packet, mtu))
                }
                IpAddr::V6(_) => fragment_ipv6(&packet, mtu, self.identification),
            }
        };
        pieces.unwrap_or_else(|| vec![packet])
    }
}
