//! Probes: small datagrams that share a port with QUIC or with sealed messages, outside of any session (ours;
//! `policy = "optimal"`).
//!
//! | datagram | from, to | protected by |
//! |---|---|---|
//! | Probe, Probe Reply | node and NMS | the survey key of the node's registration |
//! | Probe, Probe Reply | node and TRS | nothing: the random id shows that its sender saw the Probe |
//! | Hole Punching | listener to dialer (proposed method) | nothing: it has no content |
//!
//! Each begins with a [`Header`](crate::header) whose transaction id is below 2³⁰. So its first two bits are 0, as in
//! no QUIC packet (RFC 9000 §17; RFC 9443 shares ports in this way). That needs a fixed bit that is not greased (RFC
//! 9287): our endpoints do not offer to grease it.

use crate::header::{Header, Kind};

/// Transaction ids of probes lie below.
const TRANSACTIONS: u32 = 1 << 30;

/// A transaction id for a probe, of a random number.
pub const fn transaction(random: u32) -> u32 {
    random % TRANSACTIONS
}

/// Whether a datagram is a Probe or the answer to one.
pub fn is_probe(datagram: &[u8]) -> bool {
    is_plain(datagram, |kind| matches!(kind, Kind::Probe | Kind::ProbeReply | Kind::ProbeToken))
}

/// Whether a datagram is a Hole Punching outside of a session.
pub fn is_punch(datagram: &[u8]) -> bool {
    is_plain(datagram, |kind| kind == Kind::HolePunching)
}

/// Whether a datagram on a port of the proposed method is no QUIC packet.
pub fn is_not_quic(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xc0 == 0)
}

fn is_plain(datagram: &[u8], kind: impl FnOnce(Kind) -> bool) -> bool {
    is_not_quic(datagram) && Header::decode(datagram).is_ok_and(|header| kind(header.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Flags;
    use crate::message::{Answer, Message, Padding, Probe};

    #[test]
    fn a_probe_is_told_from_all_else_by_its_first_bits_and_its_kind() {
        let bytes = |message: &Message, transaction| message.to_bytes(transaction, Flags(0), 0, 0, [7; 16]);
        let probe = Message::Probe(Probe { answer: Answer::Here, padding: Padding });
        assert!(is_probe(&bytes(&probe, transaction(u32::MAX))));
        assert!(!is_probe(&bytes(&probe, TRANSACTIONS)), "that could be QUIC");
        assert!(!is_probe(&bytes(&Message::KeepAlive, 1)));
        assert!(is_punch(&bytes(&Message::HolePunching, 1)) && !is_probe(&bytes(&Message::HolePunching, 1)));
        assert!(!is_probe(&[]) && !is_probe(&[0; 31]));
    }
}
