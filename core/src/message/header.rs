//! The 32-byte CYPHONIC header (paper Table 3 gives its size; the layout is this project's record of it).
//!
//! It stands in front of every signaling message of both methods and, in the paper's framings, of every tunnelled
//! packet. All integers are big-endian.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–3 | transaction id | chosen at random by whoever asks; an answer repeats it |
//! | 4 | version | [`VERSION`] |
//! | 5 | flags | bit 0 [`Flags::FROM_RESPONDER`]: sent against the direction in which keys were made |
//! | 6 | type | [`Kind`] |
//! | 7 | count | which transmission of this message it is, from 0 |
//! | 8–11 | sequence number | per key and direction, never reused with another content |
//! | 12–13 | message length | bytes of plaintext that follow, without the HMAC |
//! | 14 | next option | 0: none |
//! | 15 | reserved | 0 |
//! | 16–31 | id | node id, or path id once a path exists |

use thiserror::Error;

pub use crate::message::Kind;

/// Length of the header, bytes.
pub const HEADER_LEN: usize = 32;
/// Length of the authentication tag behind a sealed message or capsule of the conventional method, in bytes.
pub const TAG_LEN: usize = 16;
/// The only protocol version.
pub const VERSION: u8 = 1;

/// The header's flag bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Sent by a service to a node, or by the tunnel's responder to its initiator. It separates the two directions of
    /// one key, so that no nonce is ever used twice.
    pub const FROM_RESPONDER: u8 = 1;

    /// Whether [`Self::FROM_RESPONDER`] is set.
    pub fn from_responder(self) -> bool {
        self.0 & Self::FROM_RESPONDER != 0
    }
}

impl TryFrom<u8> for Kind {
    type Error = HeaderError;
    fn try_from(value: u8) -> Result<Self, HeaderError> {
        Self::from_number(value).ok_or(HeaderError::Kind(value))
    }
}

/// The decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen at random by whoever asks; an answer repeats it.
    pub transaction: u32,
    /// Flag bits.
    pub flags: Flags,
    /// Message type.
    pub kind: Kind,
    /// Which transmission of this message, from 0.
    pub count: u8,
    /// Per key and direction; in a capsule also the replay window's number.
    pub sequence: u32,
    /// Bytes of plaintext after the header.
    pub length: u16,
    /// Node id, or path id.
    pub id: [u8; 16],
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("shorter than the 32-byte header")]
    Truncated,
    /// Not [`VERSION`].
    #[error("version {0} is not 1")]
    Version(u8),
    /// No such [`Kind`].
    #[error("message type {0} does not exist")]
    Kind(u8),
    /// Flags, option or reserved byte carry bits that have no meaning.
    #[error("reserved bits are set")]
    Reserved,
}

impl Header {
    /// The 32 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&self.transaction.to_be_bytes());
        out[4] = VERSION;
        out[5] = self.flags.0;
        out[6] = self.kind as u8;
        out[7] = self.count;
        out[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..14].copy_from_slice(&self.length.to_be_bytes());
        out[16..32].copy_from_slice(&self.id);
        out
    }

    /// Reads the first 32 bytes of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(b) = bytes.first_chunk::<HEADER_LEN>() else { return Err(HeaderError::Truncated) };
        if b[4] != VERSION {
            // A byte beyond the end.
            let version = if defect!(PanicOnBadHeader) { bytes[bytes.len()] } else { b[4] };
            return Err(HeaderError::Version(version));
        }
        if b[5] & !Flags::FROM_RESPONDER != 0 || b[14] != 0 || b[15] != 0 {
            return Err(HeaderError::Reserved);
        }
        Ok(Self {
            transaction: u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
            flags: Flags(b[5]),
            kind: Kind::try_from(b[6])?,
            count: b[7],
            sequence: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
            length: u16::from_be_bytes([b[12], b[13]]),
            id: b[16..32].try_into().expect("16 bytes"),
        })
    }
}
