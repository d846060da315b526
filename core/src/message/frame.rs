//! Reads frames from a byte stream: QUIC stream 0, or TLS over TCP.
//!
//! A frame is a [`Header`] and the `length` bytes after it. Frames follow each other without a gap. A [`FrameReader`]
//! takes the stream in pieces of any size, and returns whole frames. The length has the same place in every version of
//! the protocol. So the reader can skip a frame that it cannot read, and returns the frame's header.

use bytes::{Buf, Bytes, BytesMut};

use super::{ErrorCode, Kind, Message};
use crate::header::{Flags, HEADER_LEN, Header, options_len};
use crate::version::Versions;

/// A frame that was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its header.
    pub header: Header<u8>,
    /// Why it was not read.
    pub why: WhyUnread,
}

/// Why a message was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyUnread {
    /// This part does not speak its version.
    Version,
    /// This version does not know its type.
    Kind,
    /// The lengths of its options do not fit into the frame.
    Options,
}

/// The known header of a message that can be read, or the reason why it cannot.
pub fn readable(header: &Header<u8>, versions: Versions) -> Result<Header, WhyUnread> {
    // An Error has the same layout in every version, so parts without a common version can still send each other an
    // Error.
    if !versions.speaks(header.spoken.version) && header.kind != Kind::Error as u8 {
        return Err(WhyUnread::Version);
    }
    header.known().map_err(|_| WhyUnread::Kind)
}

impl Unread {
    /// The Error for the sender. `None` if the frame was an Error itself: an Error is never answered.
    pub fn answer(&self, versions: Versions) -> Option<Message> {
        let kind = self.header.kind;
        if kind == Kind::Error as u8 {
            return None;
        }
        Some(Message::Error(match self.why {
            // Version 1 has no code for an unknown version. This code never answers a login otherwise, so nodes of
            // version 1 report it as "does not speak as this node does", with the remedy "use the same version of
            // cyphonic on both sides".
            WhyUnread::Version if self.header.spoken.version < 2 => ErrorCode::NoDirectWay,
            WhyUnread::Version => ErrorCode::UnknownVersion(versions),
            WhyUnread::Kind => ErrorCode::UnknownType(kind),
            WhyUnread::Options => ErrorCode::Malformed(kind),
        }))
    }

    /// [`Self::answer`] as a frame. A sender whose version is older than all versions spoken here gets the frame in its
    /// own version. That is possible because an Error has had the same layout since version 1.
    pub fn answer_frame(&self, versions: Versions) -> Option<(Message, Vec<u8>)> {
        let (message, header) = (self.answer(versions)?, &self.header);
        let flags = Flags((header.flags.0 ^ Flags::FROM_RESPONDER) & Flags::FROM_RESPONDER);
        let mut frame = message.to_bytes(header.transaction, flags, 0, 0, header.id);
        let theirs = header.spoken;
        let spoken = versions.towards(Some(theirs));
        frame[4] = if theirs.version < versions.oldest { theirs.version } else { spoken.version };
        frame[15] = if theirs.version < 2 { 0 } else { spoken.newest };
        Some((message, frame))
    }
}

/// Cuts a byte stream into frames.
///
/// Call [`push`](Self::push) with the bytes that arrived, and then [`next`](Iterator::next) until it gives `None`. Then
/// the reader holds less than one frame: at most [`HEADER_LEN`] + 65,535 bytes, whatever the peer sends.
#[derive(Debug)]
pub struct FrameReader {
    versions: Versions,
    buffer: BytesMut,
    /// The header of the frame whose body is not complete yet.
    header: Option<Header<u8>>,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new(Versions::OURS)
    }
}

impl FrameReader {
    /// A reader at the start of a stream, for messages of these versions.
    pub fn new(versions: Versions) -> Self {
        Self { versions, buffer: BytesMut::new(), header: None }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes that wait for the rest of their frame, or for [`next`](Iterator::next).
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.header.map_or(0, |_| HEADER_LEN)
    }

    fn read(&self, header: Header<u8>, body: &mut Bytes) -> Result<Header, WhyUnread> {
        let known = readable(&header, self.versions)?;
        let options = options_len(header.option, body).ok_or(WhyUnread::Options)?;
        body.advance(options);
        Ok(Header { option: 0, length: body.len() as u16, ..known })
    }
}

impl Iterator for FrameReader {
    type Item = Result<(Header, Bytes), Unread>;

    /// The next whole frame: its header and its body, which is not copied. Options are skipped. `None` until more bytes
    /// are pushed.
    fn next(&mut self) -> Option<Self::Item> {
        let header = if let Some(header) = self.header {
            header
        } else {
            let header = Header::<u8>::read(&self.buffer)?;
            self.buffer.advance(HEADER_LEN);
            *self.header.insert(header)
        };
        let length = usize::from(header.length);
        if self.buffer.len() < length {
            return None;
        }
        self.header = None;
        let mut body = self.buffer.split_to(length).freeze();
        Some(match self.read(header, &mut body) {
            Ok(known) => Ok((known, body)),
            Err(why) => Err(Unread { header, why }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::header::Spoken;

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap();
        [&header(kind, length).encode()[..], body].concat()
    }

    fn header(kind: Kind, length: u16) -> Header {
        let (spoken, flags) = (Spoken::FIRST, Flags(0));
        Header { transaction: 7, spoken, flags, kind, count: 0, sequence: 9, length, option: 0, id: [3; 16] }
    }

    fn bodies(reader: &mut FrameReader) -> Vec<Vec<u8>> {
        reader.map(|frame| frame.unwrap().1.to_vec()).collect()
    }

    #[test]
    fn signaling_and_capsules_come_out_in_order() {
        let stream = [frame(Kind::Error, &[1]), frame(Kind::Capsule, &[2; 1500]), frame(Kind::KeepAlive, &[])].concat();
        let mut reader = FrameReader::default();
        reader.push(&stream);
        let kinds: Vec<_> = reader.by_ref().map(|f| f.unwrap()).map(|(h, body)| (h.kind, body.len())).collect();
        assert_eq!(kinds, [(Kind::Error, 1), (Kind::Capsule, 1500), (Kind::KeepAlive, 0)]);
        assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn a_body_is_not_copied_out_of_the_buffer() {
        let mut reader = FrameReader::default();
        reader.push(&[frame(Kind::Capsule, &[1; 900]), frame(Kind::Capsule, &[2; 900])].concat());
        let (_, first) = reader.next().unwrap().unwrap();
        let (_, second) = reader.next().unwrap().unwrap();
        assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 900 + HEADER_LEN);
    }

    #[test]
    fn a_frame_that_is_not_known_is_stepped_over_and_named() {
        let mut type_200 = frame(Kind::Error, &[2; 40]);
        type_200[6] = 200;
        let mut version_9 = frame(Kind::KeepAlive, &[3; 7]);
        version_9[4] = 9;
        let mut endless = frame(Kind::KeepAlive, &[1, 9, 0]);
        endless[14] = 1;
        let stream = [type_200, version_9, endless, frame(Kind::Error, &[1])].concat();
        let mut reader = FrameReader::default();
        reader.push(&stream);
        let unread: Vec<Unread> = reader.by_ref().take(3).map(|frame| frame.unwrap_err()).collect();
        let said = |number: usize| unread[number].answer(Versions::OURS);
        assert_eq!(said(0), Some(Message::Error(ErrorCode::UnknownType(200))));
        assert_eq!(said(1), Some(Message::Error(ErrorCode::UnknownVersion(Versions::OURS))));
        assert_eq!(said(2), Some(Message::Error(ErrorCode::Malformed(Kind::KeepAlive as u8))));
        assert_eq!(bodies(&mut reader), [vec![1]], "and the next one is read");
    }

    #[test]
    fn options_are_skipped_and_the_body_is_what_it_was() {
        let mut with_options = frame(Kind::Error, &[77, 3, 1, 2, 3, 0, 0, 5]);
        with_options[14] = 200;
        let mut reader = FrameReader::default();
        reader.push(&with_options);
        let (read, body) = reader.next().unwrap().unwrap();
        assert_eq!((read, &body[..]), (header(Kind::Error, 1), &[5][..]));
    }

    #[test]
    fn no_error_answers_an_error_and_version_1_is_answered_in_its_own_words() {
        let mut error = frame(Kind::Error, &[200]);
        error[14] = 1;
        let mut login = frame(Kind::LoginRequest, &[0; 17]);
        (login[4], login[15]) = (1, 0);
        let mut reader = FrameReader::default();
        reader.push(&[error, login].concat());
        assert_eq!(reader.next().unwrap().unwrap_err().answer(Versions::OURS), None);
        let (message, bytes) = reader.next().unwrap().unwrap_err().answer_frame(Versions::OURS).unwrap();
        assert_eq!(message, Message::Error(ErrorCode::NoDirectWay));
        assert_eq!((bytes[4], bytes[14], bytes[15], &bytes[HEADER_LEN..]), (1, 0, 0, &[7][..]));
    }

    #[test]
    fn the_longest_frame_that_a_header_can_announce_is_the_most_that_waits() {
        let whole = frame(Kind::Capsule, &vec![5; 65_535]);
        let mut reader = FrameReader::default();
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
            let mut reader = FrameReader::default();
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
            let mut reader = FrameReader::default();
            for piece in &pieces {
                reader.push(piece);
                reader.by_ref().for_each(drop);
                prop_assert!(reader.buffered() < HEADER_LEN + 65_535);
            }
        }
    }
}
