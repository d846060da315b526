//! The packets that two ends of a QUIC connection sent, as a tap on their wire sees them: whole IP packets.

use crate::dissect::testing::{Pair, Sent};
use crate::net::Tapped;
use crate::net::packet::{IpOptions, udp};

/// The IP packets that an end sent so far.
pub(super) fn tapped(pair: &Pair, end: usize) -> Vec<Tapped> {
    let tap = |sent: &Sent| Tapped {
        departs: sent.departs,
        arrives: Some(sent.arrives),
        packet: packet(sent),
        damaged: None,
    };
    pair.sent(end).iter().map(tap).collect()
}

/// The last IP packet that the client sent.
pub(super) fn last(pair: &Pair) -> Vec<u8> {
    packet(pair.sent(0).last().expect("the client has sent something"))
}

/// A datagram as an IP packet.
pub(super) fn packet(sent: &Sent) -> Vec<u8> {
    udp(sent.from, sent.to, IpOptions::default(), &sent.payload).expect("a datagram fits a packet")
}
