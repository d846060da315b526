//! Proof of addresses. A Route Direction names only addresses at which a node has proved that it receives packets. The
//! last two points have the exceptions.
//!
//! * **The address of a QUIC link** is proved by QUIC: by the handshake, and by path validation after a move (RFC 9000
//!   §8).
//! * **The source of a Registration Request** (conventional method): the Registration Response has an unpredictable
//!   sequence number. The node's own sequence numbers continue from it, as a TCP client acknowledges the initial
//!   sequence number (RFC 9293 §3.4.1).
//! * **Another source of later messages** (conventional method; a NAT has given the node a new mapping): a Keep Alive
//!   with an unpredictable transaction, which the node acknowledges.
//! * **The address of the other family** (`policy = "optimal"`): a Probe Token, which the node returns in its Network
//!   Report. Under `policy = "paper"` the same exchange proves an IPv6 address that the node only claims, if Table 1
//!   wants that address.
//! * **An address that a node only claims** has no proof. Table 1 still uses it to choose the pattern, but the NMS
//!   tells it to no peer, except an IPv6 address to a peer in the same network (`Network::is_beside`).
//! * **An address inside the node's network** (`policy = "optimal"`) cannot be proved. It is told only to peers that
//!   the NMS sees at the same public address.
//!
//! The NMS sends an address without a proof at most three times the bytes that came from it, plus [`UNPROVED_BYTES`].

use std::net::{IpAddr, SocketAddr};

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::message::AddressProof;
use crate::name::NodeId;
use crate::paths::budget::Allowance;
use crate::time::Instant;
use crate::timing::nms::TOKEN_PERIOD;

/// Bytes that the NMS sends to an unproved address in addition to three times the bytes that came from it. The limit
/// holds for each registration and each new source address.
///
/// 1,200 bytes suffice for a Registration Response (at most 220 bytes), and for a Route Direction (at most 500 bytes)
/// that the NMS sends, and retransmits once, before the node's first message. The smallest datagram with which a QUIC
/// client begins also has 1,200 bytes (RFC 9000 §14.1).
pub(super) const UNPROVED_BYTES: usize = 1_200;
/// This many sequence numbers, from the one in the Registration Response on, prove the source of a registration. The
/// node numbers its messages from there, and fewer than this many of them may be lost or reordered. The first number is
/// one of 2^30, so one guess in 16 million is right.
const NUMBERED: u32 = 64;

/// Whether a node of the conventional method is where its datagrams come from.
pub(super) enum Proof {
    /// The node is there.
    Given,
    /// Not known yet. `spare`: what is left of [`UNPROVED_BYTES`].
    Open { how: How, allowance: Allowance, spare: usize },
}

/// How an address is proved.
pub(super) enum How {
    /// By a message whose sequence number follows this one.
    Numbered(u32),
    /// By the answer to a Keep Alive with this transaction.
    Asked(u32),
}

impl Proof {
    /// A proof that is still open, after a message of this many bytes from the address.
    pub(super) fn open(how: How, received: usize) -> Self {
        let mut allowance = Allowance::default();
        allowance.received(received);
        Self::Open { how, allowance, spare: UNPROVED_BYTES }
    }

    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given)
    }

    /// Counts authentic bytes that came from the address.
    pub(super) fn received(&mut self, len: usize) {
        if let Self::Open { allowance, .. } = self {
            allowance.received(len);
        }
    }

    /// Whether this many bytes may go to the address. If they may, they are counted.
    pub(super) fn take(&mut self, len: usize) -> bool {
        let Self::Open { allowance, spare, .. } = self else { return true };
        if allowance.take(len) {
            return true;
        }
        let good = len <= *spare;
        *spare -= if good { len } else { 0 };
        good
    }

    /// Whether a message from the address proves the address. The message does so by its sequence number or, if it is a
    /// Keep Alive Ack, by its transaction (`acknowledged`).
    pub(super) fn is_proved_by(&self, sequence: u32, acknowledged: Option<u32>) -> bool {
        match self {
            Self::Given => false,
            Self::Open { how: How::Numbered(first), .. } => {
                sequence.checked_sub(*first).is_some_and(|ahead| ahead < NUMBERED)
            }
            Self::Open { how: How::Asked(transaction), .. } => acknowledged == Some(*transaction),
        }
    }
}

/// Makes and checks tokens that prove an address. The key is new at each start of the NMS.
pub(super) struct Tokens(hmac::Key);

impl Tokens {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let secret = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), b"cyphonic proof of addresses");
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
    }

    /// The first sequence number of the NMS in a registration. It is below 2^30, because [`super::Nms::tell_forgotten`]
    /// uses higher ones.
    pub(super) fn first_number(&self, node: NodeId, epoch: u64) -> u32 {
        let tag = hmac::sign(&self.0, &[&b"first"[..], &node.0, &epoch.to_be_bytes()].concat());
        u32::from_be_bytes(*tag.as_ref().first_chunk().expect("32 bytes")) >> 2
    }

    /// The token that a node has to return, as proof of the address at which the NMS sees it.
    pub(super) fn token(&self, now: Instant, node: NodeId, epoch: u64, seen: SocketAddr) -> [u8; 8] {
        self.token_of(period(now), node, epoch, seen)
    }

    /// Whether the node received this token at that address, in this registration, within the last two periods.
    pub(super) fn is_good(&self, now: Instant, node: NodeId, epoch: u64, proof: &AddressProof) -> bool {
        let period = period(now);
        [period, period.wrapping_sub(1)]
            .into_iter()
            .any(|period| self.token_of(period, node, epoch, proof.seen).ct_eq(&proof.token).into())
    }

    /// The id of a Probe of this transaction to a source that has proved nothing. Only the NMS can make this id, and it
    /// does not have to remember it.
    pub(super) fn challenge(&self, now: Instant, seen: SocketAddr, transaction: u32) -> [u8; 16] {
        self.challenge_of(period(now), seen, transaction)
    }

    /// Whether `id` is the id of a Probe to this source in this [`TOKEN_PERIOD`] or the one before.
    pub(super) fn is_challenge(&self, now: Instant, seen: SocketAddr, transaction: u32, id: &[u8; 16]) -> bool {
        let period = period(now);
        let mut periods = [period, period.wrapping_sub(1)].into_iter();
        periods.any(|period| self.challenge_of(period, seen, transaction).ct_eq(id).into())
    }

    fn challenge_of(&self, period: u64, seen: SocketAddr, transaction: u32) -> [u8; 16] {
        let (port, transaction) = (seen.port().to_be_bytes(), transaction.to_be_bytes());
        let text = [&b"challenge"[..], &period.to_be_bytes(), &octets(seen.ip()), &port, &transaction].concat();
        *hmac::sign(&self.0, &text).as_ref().first_chunk().expect("32 bytes")
    }

    fn token_of(&self, period: u64, node: NodeId, epoch: u64, seen: SocketAddr) -> [u8; 8] {
        let address = octets(seen.ip());
        let numbers = [period.to_be_bytes(), epoch.to_be_bytes()].concat();
        let text = [&b"token"[..], &numbers, &node.0, &address, &seen.port().to_be_bytes()].concat();
        *hmac::sign(&self.0, &text).as_ref().first_chunk().expect("32 bytes")
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn period(now: Instant) -> u64 {
    (now.as_nanos() / TOKEN_PERIOD.as_nanos() as u64) + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_counts_for_its_node_registration_and_address_and_not_for_long() {
        let (tokens, node, at) = (Tokens::new(&[7; 32]), NodeId([1; 16]), "192.0.2.1:443".parse().unwrap());
        let now = Instant::from_millis(5_000);
        let proof = |seen| AddressProof { seen, token: tokens.token(now, node, 9, at) };
        assert!(tokens.is_good(now, node, 9, &proof(at)));
        assert!(tokens.is_good(now + Duration::from_secs(30), node, 9, &proof(at)));
        assert!(!tokens.is_good(now + 2 * TOKEN_PERIOD, node, 9, &proof(at)));
        assert!(!tokens.is_good(now, NodeId([2; 16]), 9, &proof(at)));
        assert!(!tokens.is_good(now, node, 10, &proof(at)));
        for other in ["192.0.2.1:444", "192.0.2.2:443", "[2001:db8::1]:443"] {
            assert!(!tokens.is_good(now, node, 9, &proof(other.parse().unwrap())), "{other}");
        }
        assert!(!Tokens::new(&[8; 32]).is_good(now, node, 9, &proof(at)), "another life of the NMS");
    }

    #[test]
    fn an_open_proof_is_given_by_the_next_numbers_or_by_the_right_acknowledgement() {
        let numbered = Proof::open(How::Numbered(1_000), 80);
        assert!(numbered.is_proved_by(1_000, None) && numbered.is_proved_by(1_000 + NUMBERED - 1, None));
        assert!(![0, 999, 1_000 + NUMBERED, u32::MAX].iter().any(|&number| numbered.is_proved_by(number, None)));
        let asked = Proof::open(How::Asked(5), 48);
        assert!(asked.is_proved_by(1, Some(5)) && !asked.is_proved_by(5, None) && !asked.is_proved_by(1, Some(6)));
    }

    #[test]
    fn an_unproved_address_gets_its_bytes_and_no_more() {
        let mut proof = Proof::open(How::Asked(5), 48);
        let sent: usize = (0..1_000).filter(|_| proof.take(48)).map(|_| 48).sum();
        assert_eq!(sent, 3 * 48 + UNPROVED_BYTES);
        proof.received(48);
        assert!(proof.take(144) && !proof.take(1));
        assert!(Proof::Given.take(1 << 20));
    }
}
