//! Frames out of a byte stream: QUIC stream 0, and TLS over TCP.
//!
//! A frame is a [`Header`] and the `length` bytes after it; frames follow each other without anything between. A
//! [`FrameReader`] takes the stream in any pieces and gives whole frames. After a bad header nobody can know where
//! the next one begins, so the reader is poisoned: the stream has to be closed.

use bytes::{Buf, Bytes, BytesMut};

use crate::header::{HEADER_LEN, Header, HeaderError};

/// Cuts a byte stream into frames.
///
/// Call [`push`](Self::push) with what arrived, and then [`next`](Iterator::next) until it gives `None`. What stays
/// inside after that is less than one frame: at most [`HEADER_LEN`] + 65,535 bytes, whatever the other side sends.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    /// The header of the frame whose body is not complete yet.
    header: Option<Header>,
    poisoned: bool,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. A poisoned reader ignores them.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.poisoned {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes that wait for the rest of their frame, or for [`next`](Iterator::next).
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.header.map_or(0, |_| HEADER_LEN)
    }

    /// Whether the stream had a bad header. Nothing comes out any more.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl Iterator for FrameReader {
    type Item = Result<(Header, Bytes), HeaderError>;

    /// The next whole frame: its header and its body, which is not copied. `None`: push more. An error comes once.
    fn next(&mut self) -> Option<Self::Item> {
        let header = match self.header {
            Some(header) => header,
            None if self.buffer.len() < HEADER_LEN => return None,
            None => match Header::decode(&self.buffer) {
                Ok(header) => {
                    self.buffer.advance(HEADER_LEN);
                    *self.header.insert(header)
                }
                Err(error) => {
                    self.poisoned = true;
                    self.buffer = BytesMut::new();
                    return Some(Err(error));
                }
            },
        };
        let length = usize::from(header.length);
        if self.buffer.len() < length {
            return None;
        }
        self.header = None;
        Some(Ok((header, self.buffer.split_to(length).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::header::{Flags, Kind};

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap();
        let header = Header { transaction: 7, flags: Flags(0), kind, count: 0, sequence: 9, length, id: [3; 16] };
        [&header.encode()[..], body].concat()
    }

    fn bodies(reader: &mut FrameReader) -> Vec<Vec<u8>> {
        reader.map(|frame| frame.unwrap().1.to_vec()).collect()
    }

    #[test]
    fn signaling_and_capsules_come_out_in_order() {
        let stream = [frame(Kind::Error, &[1]), frame(Kind::Capsule, &[2; 1500]), frame(Kind::KeepAlive, &[])].concat();
        let mut reader = FrameReader::new();
        reader.push(&stream);
        let kinds: Vec<_> = reader.by_ref().map(|f| f.unwrap()).map(|(h, body)| (h.kind, body.len())).collect();
        assert_eq!(kinds, [(Kind::Error, 1), (Kind::Capsule, 1500), (Kind::KeepAlive, 0)]);
        assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn a_body_is_not_copied_out_of_the_buffer() {
        let mut reader = FrameReader::new();
        reader.push(&[frame(Kind::Capsule, &[1; 900]), frame(Kind::Capsule, &[2; 900])].concat());
        let (_, first) = reader.next().unwrap().unwrap();
        let (_, second) = reader.next().unwrap().unwrap();
        assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 900 + HEADER_LEN);
    }

    #[test]
    fn a_bad_header_comes_once_and_nothing_after_it() {
        let mut reader = FrameReader::new();
        reader.push(&frame(Kind::Error, &[1]));
        let mut bad = frame(Kind::Error, &[2]);
        bad[4] = 9;
        reader.push(&bad);
        reader.push(&frame(Kind::Error, &[3]));
        assert!(reader.next().unwrap().is_ok());
        assert_eq!(reader.next(), Some(Err(HeaderError::Version(9))));
        assert!(reader.is_poisoned());
        reader.push(&frame(Kind::Error, &[4]));
        assert_eq!(reader.next(), None);
        assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn the_longest_frame_that_a_header_can_announce_is_the_most_that_waits() {
        let whole = frame(Kind::Capsule, &vec![5; 65_535]);
        let mut reader = FrameReader::new();
        for piece in whole[..whole.len() - 1].chunks(1000) {
            reader.push(piece);
            assert_eq!(reader.next(), None);
            assert!(reader.buffered() < HEADER_LEN + 65_535);
        }
        reader.push(&whole[whole.len() - 1..]);
        assert_eq!(bodies(&mut reader), [vec![5; 65_535]]);
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_matter(
            sent in vec(vec(any::<u8>(), 0..200), 0..8),
            cuts in vec(1usize..90, 1..12),
        ) {
            let stream = sent.iter().flat_map(|body| frame(Kind::Capsule, body)).collect::<Vec<_>>();
            let mut reader = FrameReader::new();
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                reader.push(piece);
                got.extend(bodies(&mut reader));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(reader.buffered(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pile_up(pieces in vec(vec(any::<u8>(), 0..100), 0..20)) {
            let mut reader = FrameReader::new();
            for piece in &pieces {
                reader.push(piece);
                reader.by_ref().for_each(drop);
                prop_assert!(reader.buffered() < HEADER_LEN + 65_535);
                prop_assert!(!reader.is_poisoned() || reader.buffered() == 0);
            }
        }
    }
}
