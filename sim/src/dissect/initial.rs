//! A client's QUIC Initial packets. Every host on the path can decrypt them, because their keys come from the
//! connection ID that the client chose and wrote into the first of them (RFC 9001 §5.2).
//!
//! ```text
//! 0      1         5       6        6+d     7+d+s
//! ├ first ┼ version ┼─ d ─ DCID ┼─ s ─ SCID ┼ token length, token ┼ length ┼ packet number ┼ frames ... tag
//! ```

use bytes::{Buf, Bytes};
use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::hkdf;

use super::frame::{self, Frame, take, varint};
use super::quic::{Generation, SAMPLE_LEN, expand, expand_prk};

/// QUIC version 1.
pub const VERSION_1: u32 = 1;
/// The least size of a client's datagram with an Initial, bytes of UDP payload (RFC 9000 §14.1).
pub const LEAST_DATAGRAM: usize = 1200;
const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f,
    0x0a,
];
const INITIAL: u8 = 0;

/// The clear-text fields of a long header (RFC 8999 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The version.
    pub version: u32,
    /// The destination connection ID.
    pub dcid: Bytes,
}

impl LongHeader {
    /// Reads it at the start of a UDP payload. `None` if there is none. The fixed bit may be greased (RFC 9287).
    pub fn read(udp_payload: &[u8]) -> Option<Self> {
        let mut rest = Bytes::copy_from_slice(udp_payload.get(..(1 + 4 + 1 + 255).min(udp_payload.len()))?);
        let first = rest.try_get_u8().ok()?;
        let version = rest.try_get_u32().ok()?;
        let length = rest.try_get_u8().ok()?;
        (first & 0x80 != 0).then_some(Self { version, dcid: take(&mut rest, length.into())? })
    }
}

/// The keys of a client's Initials, version 1.
pub struct InitialKeys {
    header: HeaderProtectionKey,
    packet: Generation,
}

impl std::fmt::Debug for InitialKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InitialKeys")
    }
}

impl InitialKeys {
    /// The keys of the connection whose first Initial went to this connection ID.
    pub fn of_client(dcid: &[u8]) -> Self {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &SALT_V1).extract(dcid);
        let secret: [u8; 32] = expand_prk(&initial, "client in");
        let header = HeaderProtectionKey::new(&AES_128, &expand::<16>(&secret, "quic hp")).expect("16 bytes");
        Self { header, packet: Generation::new(secret) }
    }

    /// The frames of the first packet in a UDP payload, if it is an Initial of that client.
    pub fn open(&self, udp_payload: &[u8]) -> Option<Vec<Frame>> {
        let mut rest = Bytes::copy_from_slice(udp_payload);
        let first = rest.try_get_u8().ok()?;
        if first >> 7 != 1 || first >> 4 & 0x03 != INITIAL || rest.try_get_u32().ok()? != VERSION_1 {
            return None;
        }
        for _cid in 0..2 {
            let length = rest.try_get_u8().ok()?;
            take(&mut rest, length.into())?;
        }
        let token = varint(&mut rest)?;
        take(&mut rest, token)?;
        let length = varint(&mut rest)?;
        let number_at = udp_payload.len() - rest.len();
        let protected = take(&mut rest, length)?;
        let sample = protected.get(4..4 + SAMPLE_LEN)?;
        let mask = self.header.new_mask(sample).ok()?;
        let first = first ^ mask[0] & 0x0f;
        let number_len = usize::from(first & 0x03) + 1;
        let mut header = udp_payload[..number_at + number_len].to_vec();
        header[0] = first;
        header[number_at..].iter_mut().zip(&mask[1..]).for_each(|(byte, mask)| *byte ^= mask);
        // Initials are few, so their numbers are never cut short.
        let number = header[number_at..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        frame::parse(self.packet.open(number, &header, &protected[number_len..])?.into())
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_core::quic::CidScheme;

    use super::*;
    use crate::dissect::frame::FrameKind;
    use crate::dissect::testing::Pair;

    #[test]
    fn the_clients_first_packet_opens_and_no_bit_of_it_may_change() {
        let pair = Pair::new(1, CidScheme::Direct);
        let first = pair.udp_payloads(0).remove(0);
        assert!(first.len() >= LEAST_DATAGRAM);
        let header = LongHeader::read(&first).unwrap();
        assert_eq!(header.version, VERSION_1);
        let keys = InitialKeys::of_client(&header.dcid);
        let frames = keys.open(&first).unwrap();
        let crypto = frames.iter().find(|frame| matches!(frame.kind, FrameKind::Crypto { .. })).unwrap();
        assert_eq!(crypto.data[0], 1, "a ClientHello");
        for at in [0, 20, 100, first.len() - 1] {
            let mut damaged = first.clone();
            damaged[at] ^= 1;
            assert_eq!(keys.open(&damaged), None, "byte {at}");
        }
        assert_eq!(InitialKeys::of_client(b"another").open(&first), None);
        assert!((0..first.len()).all(|len| keys.open(&first[..len]).is_none()));
    }
}
