//! Capsules (RFC 9297 §3.2). Only DATAGRAM with context 0 has a meaning here (RFC 9298 §5).
//!
//! ```text
//! type (varint) | length (varint) | value                      a capsule
//! 0x00          | 1 + n           | 0x00 (context) | n bytes   a UDP datagram of n bytes
//! ```
//!
//! A capsule of another type or context is skipped without being stored, and so is one that is longer than a datagram
//! may be. The reader's memory is bounded by one datagram, whatever the peer sends and however slowly.

use bytes::BytesMut;

/// The largest UDP payload that is carried, bytes. It is more than any of our links sends (`max_udp_payload`), and more
/// than the path to a service carries unfragmented.
pub const MAX_DATAGRAM: usize = 2048;
/// The type of a DATAGRAM capsule (RFC 9297 §3.5).
const DATAGRAM: u64 = 0;
/// The context of a UDP payload (RFC 9298 §5).
const UDP_PAYLOAD: u64 = 0;
/// The longest variable-length integer, bytes (RFC 9000 §16).
const MAX_VARINT: usize = 8;

/// A DATAGRAM capsule that has no room for its context (RFC 9297 §3.5, RFC 9298 §5): the stream is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Appends a variable-length integer in its shortest form (RFC 9000 §16).
///
/// # Panics
/// If `value` needs more than 62 bits.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    assert!(value < 1 << 62, "a variable-length integer has 62 bits");
    let (length, prefix) = match value {
        0..0x40 => (1, 0),
        0x40..0x4000 => (2, 1),
        0x4000..0x4000_0000 => (4, 2),
        _ => (8, 3),
    };
    let start = out.len();
    out.extend_from_slice(&value.to_be_bytes()[8 - length..]);
    out[start] |= prefix << 6;
}

/// Reads a variable-length integer: its value and its length in bytes. `None` if bytes are missing.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, length))
}

/// Appends the capsule of a UDP datagram.
pub fn put_datagram(out: &mut Vec<u8>, payload: &[u8]) {
    put_varint(out, DATAGRAM);
    put_varint(out, payload.len() as u64 + 1);
    put_varint(out, UDP_PAYLOAD);
    out.extend_from_slice(payload);
}

/// Reads capsules from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Capsules {
    /// The beginning of a capsule. The rest has not arrived.
    begun: Vec<u8>,
    /// The bytes of a capsule that are still to be skipped.
    skip: u64,
    passed_over: u64,
}

impl Capsules {
    /// Takes the next piece of the stream, and appends the datagrams that it completes.
    ///
    /// # Errors
    /// If a capsule is malformed. Datagrams before it were appended. The stream must not be read any further.
    pub fn push(&mut self, mut bytes: &[u8], datagrams: &mut Vec<BytesMut>) -> Result<(), Malformed> {
        loop {
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            bytes = &bytes[skipped..];
            self.skip -= skipped as u64;
            if bytes.is_empty() {
                return Ok(());
            }
            let Some((capsule, used)) = self.next(bytes)? else { return Ok(()) };
            bytes = &bytes[used..];
            match capsule {
                Some(datagram) => datagrams.push(datagram),
                None => self.passed_over += 1,
            }
        }
    }

    /// The number of capsules that were skipped because they have no meaning here.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// The number of stored bytes of an unfinished capsule.
    pub fn held(&self) -> usize {
        self.begun.len()
    }

    /// The datagram of the next capsule, or `None` for a skipped one, and how many of `bytes` it took. `None` if more
    /// bytes have to arrive.
    fn next(&mut self, bytes: &[u8]) -> Result<Option<(Option<BytesMut>, usize)>, Malformed> {
        let before = self.begun.len();
        // The head may be split at any byte.
        let head: Vec<u8> = self.begun.iter().chain(bytes).take(2 * MAX_VARINT).copied().collect();
        let parsed = varint(&head).and_then(|(kind, a)| Some((kind, a, varint(&head[a..])?)));
        let Some((kind, a, (length, b))) = parsed else {
            self.begun.extend_from_slice(bytes);
            return Ok(None);
        };
        let head = a + b;
        if kind != DATAGRAM || length > (MAX_DATAGRAM + MAX_VARINT) as u64 {
            self.begun.clear();
            self.skip = length;
            return Ok(Some((None, head - before)));
        }
        let missing = head + length as usize - before;
        if bytes.len() < missing {
            self.begun.extend_from_slice(bytes);
            return Ok(None);
        }
        self.begun.extend_from_slice(&bytes[..missing]);
        let value = &self.begun[head..];
        let (context, c) = varint(value).ok_or(Malformed)?;
        let payload = &value[c..];
        let datagram = (context == UDP_PAYLOAD && payload.len() <= MAX_DATAGRAM).then(|| BytesMut::from(payload));
        self.begun.clear();
        Ok(Some((datagram, missing)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), Malformed>, Capsules) {
        let (mut capsules, mut out) = (Capsules::default(), Vec::new());
        let result = pieces.iter().try_for_each(|piece| capsules.push(piece, &mut out));
        (out.iter().map(|datagram| datagram.to_vec()).collect(), result, capsules)
    }

    #[test]
    fn the_examples_of_rfc_9000_appendix_a_1_are_read_and_written() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None, "a byte is missing");
            let mut written = Vec::new();
            put_varint(&mut written, value);
            assert_eq!(written, bytes);
        }
        assert_eq!(varint(&[0x40, 0x25]), Some((37, 2)), "a longer form than needed is allowed");
    }

    #[test]
    fn a_datagram_capsule_is_laid_out_as_rfc_9298_says() {
        let mut out = Vec::new();
        put_datagram(&mut out, b"abc");
        assert_eq!(out, [0, 4, 0, b'a', b'b', b'c']);
        assert_eq!(read(&[&out]).0, [b"abc"]);
        assert_eq!(read(&[&[0, 1, 0]]).0, [b""], "an empty UDP payload is one");
    }

    #[test]
    fn other_types_other_contexts_and_oversized_capsules_are_passed_over() {
        let mut stream = vec![0x17, 3, 1, 2, 3];
        stream.extend([0, 3, 2, 9, 9]);
        put_varint(&mut stream, DATAGRAM);
        put_varint(&mut stream, 100_000);
        stream.extend(vec![0; 100_000]);
        put_datagram(&mut stream, b"at last");
        let (datagrams, result, capsules) = read(&[&stream]);
        assert_eq!((datagrams, result), (vec![b"at last".to_vec()], Ok(())));
        assert_eq!((capsules.passed_over(), capsules.held()), (3, 0));
    }

    #[test]
    fn a_datagram_without_a_context_breaks_the_stream() {
        let mut stream = Vec::new();
        put_datagram(&mut stream, b"good");
        stream.extend([0, 0]);
        let (datagrams, result, _) = read(&[&stream]);
        assert_eq!((datagrams, result), (vec![b"good".to_vec()], Err(Malformed)));
        assert_eq!(read(&[&[0, 1, 0x40]]).1, Err(Malformed), "the context is cut off");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_whatever_the_pieces(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=MAX_DATAGRAM), 0..8),
            cuts in prop::collection::vec(1_usize..700, 1..40),
        ) {
            let mut stream = Vec::new();
            for payload in &payloads {
                put_datagram(&mut stream, payload);
            }
            let (mut capsules, mut out, mut rest) = (Capsules::default(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                prop_assert_eq!(capsules.push(piece, &mut out), Ok(()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out.iter().map(|datagram| datagram.to_vec()).collect::<Vec<_>>(), payloads);
            prop_assert_eq!(capsules.held(), 0);
        }

        #[test]
        fn any_bytes_are_read_the_same_in_one_piece_and_byte_by_byte_and_hold_no_more_than_a_datagram(
            stream in prop::collection::vec(prop_oneof![Just(0_u8), Just(1_u8), Just(3_u8), any::<u8>()], 0..600),
        ) {
            let whole = read(&[&stream]);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            let pieces = read(&bytes);
            prop_assert_eq!(&whole.0, &pieces.0);
            prop_assert_eq!(whole.1, pieces.1);
            prop_assert!(whole.2.held() <= MAX_DATAGRAM + 3 * MAX_VARINT);
        }

        #[test]
        fn every_varint_is_read_as_it_was_written(value in 0_u64..1 << 62) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(varint(&out), Some((value, out.len())));
        }
    }
}
