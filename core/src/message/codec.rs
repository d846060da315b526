//! The bytes of a message body.
//!
//! Big-endian, without padding or alignment, and strict: every accepted body is the one encoding of its message, so
//! decoding and encoding again gives the same bytes. Unknown values, trailing bytes and lists that are too long are
//! errors. The paper names the fields only; the layout is this project's. It is in `PROTOCOL.md` ("Layout of
//! messages"), made from the table of [`super`].

use super::field::Reader;
use super::{DecodeError, Kind, MAX_BODY, Message};
use crate::header::{Flags, HEADER_LEN, Header, Spoken};

impl Message {
    /// Encodes the body alone, at most [`MAX_BODY`] bytes. A list longer than [`MAX_ADDRESSES`](super::MAX_ADDRESSES)
    /// is cut: lists are sorted best first. The bytes of some messages are secret: wipe them after use.
    ///
    /// # Panics
    ///
    /// If a password is longer than [`MAX_PASSWORD`](super::MAX_PASSWORD). Code that takes a password from a person
    /// checks its length.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_BODY);
        self.put(&mut out);
        out
    }

    /// The length of the body, bytes.
    pub fn body_len(&self) -> usize {
        zeroize::Zeroizing::new(self.encode_body()).len()
    }

    /// Reads a whole body of the given kind.
    pub fn decode_body(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        if body.len() > MAX_BODY {
            return Err(DecodeError::TooLong { what: "body", len: body.len(), max: MAX_BODY });
        }
        let mut reader = Reader::new(body);
        let message = Self::take(kind, &mut reader)?;
        match reader.remaining() {
            0 => Ok(message),
            more => Err(DecodeError::Trailing(more)),
        }
    }

    /// Encodes header and body. The header has the message's type, the body's length, and the arguments. Its version is
    /// the one for a peer whose versions are not known yet.
    ///
    /// # Panics
    ///
    /// As [`Self::encode_body`].
    pub fn to_bytes(&self, transaction: u32, flags: Flags, count: u8, sequence: u32, id: [u8; 16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + MAX_BODY);
        out.resize(HEADER_LEN, 0);
        self.put(&mut out);
        let length = u16::try_from(out.len() - HEADER_LEN).expect("a body is at most MAX_BODY long");
        let (spoken, kind) = (Spoken::FIRST, self.kind());
        let header = Header { transaction, spoken, flags, kind, count, sequence, length, option: 0, id };
        out[..HEADER_LEN].copy_from_slice(&header.encode());
        out
    }
}
