//! The 32-byte CYPHONIC header (paper Table 3 gives its size; the layout is this project's record of it).
//!
//! It stands in front of every signaling message of both methods and, in the paper's framings, of every tunnelled
//! packet. All integers are big-endian.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–3 | transaction id | chosen at random by the sender of a request; an answer repeats it |
//! | 4 | version | the version in which the message is written: [`Spoken::version`] |
//! | 5 | flags | bit 0: the direction ([`Flags::FROM_RESPONDER`]), which no nonce shares; bits 1 to 7: see [`Flags`] |
//! | 6 | type | [`Kind`] |
//! | 7 | count | which transmission of this message it is, from 0 |
//! | 8–11 | sequence number | counted for each key and direction; never reused with another content |
//! | 12–13 | message length | bytes of options and body, as plaintext, without the HMAC |
//! | 14 | next option | the type of the first option before the body; 0: none |
//! | 15 | newest version | the newest version that the sender speaks: [`Spoken::newest`] |
//! | 16–31 | id | node id, or path id once a path exists |
//!
//! # What never changes
//!
//! Two things are the same in every version, like the invariants of QUIC (RFC 8999). One is the place of every field
//! above. The other is the meaning of transaction, version, type, message length, newest version and id. So a receiver
//! can skip a message of an unknown type, and its Error can name that type.
//!
//! # Options
//!
//! An option stands between header and body: `type of the next option u8 · length u8 · data`. The header names the type
//! of the first one. A receiver skips every option that it does not know. Version 2 defines none. A later version puts
//! new fields of an old message there. A field that a receiver must not skip needs a new message type.

use thiserror::Error;

pub use crate::message::Kind;
use crate::paths::strategy::Handover;
use crate::signaling::Signaling;
pub use crate::version::{Spoken, Versions};

/// Length of the header, bytes.
pub const HEADER_LEN: usize = 32;
/// Length of the authentication tag behind a sealed message or capsule of the conventional method, in bytes.
pub const TAG_LEN: usize = 16;

/// The header's flag bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Sent by a service to a node, or by the tunnel's responder to its initiator. The flag separates the two
    /// directions of one key, so that no nonce is ever used twice.
    pub const FROM_RESPONDER: u8 = 1;
    /// In a Tunnel Request or Response on a leg to a TRS: the leg becomes one more path of a tunnel that is up.
    pub const ADDS: u8 = 8;
    /// In a Registration Request: the node was told that another machine has registered with its name and key. The NMS
    /// refuses the request while that machine is there.
    pub const YIELDS: u8 = 8;
    /// In a Registration Request: the node's first registration since it started, so the node has no tunnels.
    pub const AFRESH: u8 = 16;
    /// In a Route Direction to the initiator: the TRS relays only until a grant ends, which the initiator renews
    /// (conventional method).
    pub const GRANTED: u8 = 16;
    /// In a message to the NMS: the sender's round trip to the services is long. In a Route Direction: the round trip
    /// of one of the two nodes is long. Each wait for such a node is longer ([`crate::timing::SLOW_FACTOR`]).
    pub const SLOW: u8 = 32;
    /// The lowest bit of the number of a [`Handover`], which has two bits.
    const HANDOVER: u8 = 1;
    /// The lowest bit of the number of a [`Signaling`], which has two bits.
    const SIGNALING: u8 = 6;

    /// Whether [`Self::FROM_RESPONDER`] is set.
    pub fn from_responder(self) -> bool {
        self.0 & Self::FROM_RESPONDER != 0
    }

    /// These flags with the strategy for moves that the sender wants, or agrees to. [`Handover::Rebuild`] has no bit
    /// set, so a sender that knows no other strategy agrees to it. The flags have to be without a strategy.
    #[must_use]
    pub fn with_handover(self, handover: Handover) -> Self {
        Self(self.0 | ((handover as u8) << Self::HANDOVER))
    }

    /// The strategy for moves that the sender wants, or agrees to. An unknown number is read as the highest known one.
    pub fn handover(self) -> Handover {
        match (self.0 >> Self::HANDOVER) & 3 {
            0 => Handover::Rebuild,
            1 => Handover::Migrate,
            _ => Handover::Seamless,
        }
    }

    /// These flags with the signaling that a node wants (Registration Request), or that two nodes use (Route Direction,
    /// Tunnel Request and Response). [`Signaling::Paper`] has no bit set. The flags have to be without a signaling.
    #[must_use]
    pub fn with_signaling(self, signaling: Signaling) -> Self {
        Self(self.0 | ((signaling as u8) << Self::SIGNALING))
    }

    /// The signaling that is wanted, or used. An unknown number is read as the highest known one.
    pub fn signaling(self) -> Signaling {
        match self.0 >> Self::SIGNALING {
            0 => Signaling::Paper,
            1 => Signaling::Confirmed,
            _ => Signaling::Fast,
        }
    }

    /// Whether [`Self::AFRESH`] is set.
    pub fn afresh(self) -> bool {
        self.0 & Self::AFRESH != 0
    }

    /// Whether [`Self::YIELDS`] is set.
    pub fn yields(self) -> bool {
        self.0 & Self::YIELDS != 0
    }

    /// Whether [`Self::GRANTED`] is set.
    pub fn is_granted(self) -> bool {
        self.0 & Self::GRANTED != 0
    }

    /// Whether [`Self::SLOW`] is set.
    pub fn is_slow(self) -> bool {
        self.0 & Self::SLOW != 0
    }

    /// These flags with [`Self::SLOW`] set or cleared.
    #[must_use]
    pub fn with_slow(self, slow: bool) -> Self {
        Self(if slow { self.0 | Self::SLOW } else { self.0 & !Self::SLOW })
    }

    /// Whether [`Self::ADDS`] is set.
    pub fn adds(self) -> bool {
        self.0 & Self::ADDS != 0
    }
}

/// The header. `K` is [`Kind`], or `u8` where this version may not know the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<K = Kind> {
    /// Chosen at random by the sender of a request; an answer repeats it.
    pub transaction: u32,
    /// The version of this message, and the newest version that the sender speaks.
    pub spoken: Spoken,
    /// Flag bits.
    pub flags: Flags,
    /// Message type.
    pub kind: K,
    /// The number of this transmission of the message, from 0.
    pub count: u8,
    /// The sequence number, counted for each key and direction. In a capsule the replay window checks it.
    pub sequence: u32,
    /// The length of options and body as plaintext, bytes.
    pub length: u16,
    /// The type of the first option. 0 if there is none, or if options were skipped.
    pub option: u8,
    /// Node id, or path id.
    pub id: [u8; 16],
}

/// Why bytes are not a header of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("shorter than the 32-byte header")]
    Truncated,
    /// No such [`Kind`].
    #[error("message type {0} is not known")]
    Kind(u8),
}

impl Header {
    /// The header as 32 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        self.raw().encode()
    }

    /// Reads the first 32 bytes of `bytes`. The caller checks the version.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        Header::<u8>::read(bytes).ok_or(HeaderError::Truncated)?.known()
    }

    /// This header with its type as a number.
    pub fn raw(&self) -> Header<u8> {
        self.with_kind(self.kind as u8)
    }
}

impl Header<u8> {
    /// Reads the first 32 bytes of `bytes`, of any version and type. `None` if there are fewer.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<HEADER_LEN>()?;
        // The planted defect reads a byte beyond the end.
        let version = if defect!(PanicOnBadHeader) && !Versions::OURS.speaks(b[4]) { bytes[bytes.len()] } else { b[4] };
        Some(Self {
            transaction: u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
            spoken: Spoken { version, newest: b[15] },
            flags: Flags(b[5]),
            kind: b[6],
            count: b[7],
            sequence: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
            length: u16::from_be_bytes([b[12], b[13]]),
            option: b[14],
            id: b[16..32].try_into().expect("16 bytes"),
        })
    }

    /// The 32 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&self.transaction.to_be_bytes());
        out[4] = self.spoken.version;
        out[5] = self.flags.0;
        out[6] = self.kind;
        out[7] = self.count;
        out[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..14].copy_from_slice(&self.length.to_be_bytes());
        out[14] = self.option;
        out[15] = self.spoken.newest;
        out[16..32].copy_from_slice(&self.id);
        out
    }

    /// This header with its [`Kind`], if this version knows the type.
    pub fn known(&self) -> Result<Header, HeaderError> {
        Kind::from_number(self.kind).map(|kind| self.with_kind(kind)).ok_or(HeaderError::Kind(self.kind))
    }
}

impl<K> Header<K> {
    fn with_kind<L>(&self, kind: L) -> Header<L> {
        let Self { transaction, spoken, flags, count, sequence, length, option, id, .. } = *self;
        Header { transaction, spoken, flags, kind, count, sequence, length, option, id }
    }
}

/// Whether a datagram has the header of a message type that this version does not know.
pub fn is_unknown(datagram: &[u8]) -> bool {
    Header::<u8>::read(datagram).is_some_and(|header| header.known().is_err())
}

/// The length of the options at the front of `plaintext`, bytes; `first` is the type of the first one. `None` if an
/// option is longer than what is left.
pub fn options_len(first: u8, plaintext: &[u8]) -> Option<usize> {
    let (mut next, mut at) = (first, 0);
    while next != 0 {
        let [following, len] = *plaintext.get(at..at + 2)?.first_chunk()?;
        (next, at) = (following, at + 2 + usize::from(len));
    }
    (at <= plaintext.len()).then_some(at)
}
