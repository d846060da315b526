//! The frames inside a QUIC packet (RFC 9000 §19, RFC 9221 §4, draft-ietf-quic-ack-frequency): the kind of each, the
//! length of its header, and the length of its data.

use bytes::{Buf, Bytes};

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame's kind.
    pub kind: FrameKind,
    /// The bytes from the frame's type up to `data`. A frame without data has these bytes only.
    pub header_len: usize,
    /// The data that it carries for others: TLS, a token, a stream, an application's datagram, or a reason phrase.
    pub data: Bytes,
}

impl Frame {
    /// Length of the whole frame, bytes.
    pub fn len(&self) -> usize {
        self.header_len + self.data.len()
    }

    /// Never: a frame has at least its type.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A run of PADDING frames, which have one byte each.
    Padding,
    /// PING.
    Ping,
    /// ACK, with or without ECN counts.
    Ack,
    /// `RESET_STREAM`.
    ResetStream,
    /// `STOP_SENDING`.
    StopSending,
    /// CRYPTO.
    Crypto {
        /// Where in the stream of TLS messages the data begin, bytes.
        offset: u64,
    },
    /// `NEW_TOKEN`.
    NewToken,
    /// STREAM.
    Stream {
        /// The stream.
        id: u64,
        /// Where in the stream the data begin, bytes.
        offset: u64,
        /// Whether the stream ends with them.
        fin: bool,
    },
    /// `MAX_DATA`.
    MaxData,
    /// `MAX_STREAM_DATA`.
    MaxStreamData,
    /// `MAX_STREAMS`, of either kind of stream.
    MaxStreams,
    /// `DATA_BLOCKED`.
    DataBlocked,
    /// `STREAM_DATA_BLOCKED`.
    StreamDataBlocked,
    /// `STREAMS_BLOCKED`, of either kind of stream.
    StreamsBlocked,
    /// `NEW_CONNECTION_ID`.
    NewConnectionId,
    /// `RETIRE_CONNECTION_ID`.
    RetireConnectionId,
    /// `PATH_CHALLENGE`.
    PathChallenge,
    /// `PATH_RESPONSE`.
    PathResponse,
    /// `CONNECTION_CLOSE`, by the transport or by the application.
    ConnectionClose,
    /// `HANDSHAKE_DONE`.
    HandshakeDone,
    /// `IMMEDIATE_ACK`.
    ImmediateAck,
    /// `ACK_FREQUENCY`.
    AckFrequency,
    /// DATAGRAM.
    Datagram,
}

/// All frames of a packet's plaintext, in order; `None` if there are none, one is cut short, or one is of a type that
/// is not listed in [`FrameKind`].
pub fn parse(mut plaintext: Bytes) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    while !plaintext.is_empty() {
        let before = plaintext.len();
        let (kind, data) = next(&mut plaintext)?;
        frames.push(Frame { kind, header_len: before - plaintext.len() - data.len(), data });
    }
    (!frames.is_empty()).then_some(frames)
}

/// Takes one frame off `rest`: its kind and its data, which are always its last bytes.
fn next(rest: &mut Bytes) -> Option<(FrameKind, Bytes)> {
    let kind = varint(rest)?;
    let bare = match kind {
        0x00 => {
            let run = rest.iter().take_while(|&&byte| byte == 0).count();
            rest.advance(run);
            FrameKind::Padding
        }
        0x01 => FrameKind::Ping,
        0x02 | 0x03 => {
            skip_ack(rest, kind == 0x03)?;
            FrameKind::Ack
        }
        0x04 => skip_varints(rest, 3, FrameKind::ResetStream)?,
        0x05 => skip_varints(rest, 2, FrameKind::StopSending)?,
        0x06 => {
            let offset = varint(rest)?;
            return Some((FrameKind::Crypto { offset }, with_length(rest)?));
        }
        0x07 => return Some((FrameKind::NewToken, with_length(rest)?)),
        0x08..=0x0f => {
            let id = varint(rest)?;
            let offset = if kind & 0x04 == 0 { 0 } else { varint(rest)? };
            let data = if kind & 0x02 == 0 { std::mem::take(rest) } else { with_length(rest)? };
            return Some((FrameKind::Stream { id, offset, fin: kind & 0x01 != 0 }, data));
        }
        0x10 => skip_varints(rest, 1, FrameKind::MaxData)?,
        0x11 => skip_varints(rest, 2, FrameKind::MaxStreamData)?,
        0x12 | 0x13 => skip_varints(rest, 1, FrameKind::MaxStreams)?,
        0x14 => skip_varints(rest, 1, FrameKind::DataBlocked)?,
        0x15 => skip_varints(rest, 2, FrameKind::StreamDataBlocked)?,
        0x16 | 0x17 => skip_varints(rest, 1, FrameKind::StreamsBlocked)?,
        0x18 => {
            skip_varints(rest, 2, ())?;
            let cid_len = rest.try_get_u8().ok()?;
            take(rest, u64::from(cid_len) + RESET_TOKEN_LEN)?;
            FrameKind::NewConnectionId
        }
        0x19 => skip_varints(rest, 1, FrameKind::RetireConnectionId)?,
        0x1a | 0x1b => {
            take(rest, 8)?;
            if kind == 0x1a { FrameKind::PathChallenge } else { FrameKind::PathResponse }
        }
        0x1c | 0x1d => {
            skip_varints(rest, if kind == 0x1c { 2 } else { 1 }, ())?;
            return Some((FrameKind::ConnectionClose, with_length(rest)?));
        }
        0x1e => FrameKind::HandshakeDone,
        0x1f => FrameKind::ImmediateAck,
        0x30 => return Some((FrameKind::Datagram, std::mem::take(rest))),
        0x31 => return Some((FrameKind::Datagram, with_length(rest)?)),
        0xaf => skip_varints(rest, 4, FrameKind::AckFrequency)?,
        _ => return None,
    };
    Some((bare, Bytes::new()))
}

/// Length of a stateless reset token, bytes.
const RESET_TOKEN_LEN: u64 = 16;

/// Largest acknowledged, delay, count of further ranges, first range; then gap and length of each; then three counts.
fn skip_ack(rest: &mut Bytes, ecn: bool) -> Option<()> {
    skip_varints(rest, 2, ())?;
    let ranges = varint(rest)?;
    varint(rest)?;
    for _ in 0..ranges {
        skip_varints(rest, 2, ())?;
    }
    if ecn { skip_varints(rest, 3, ()) } else { Some(()) }
}

fn skip_varints<T>(rest: &mut Bytes, count: usize, then: T) -> Option<T> {
    for _ in 0..count {
        varint(rest)?;
    }
    Some(then)
}

/// A variable-length integer (RFC 9000 §16).
pub(super) fn varint(rest: &mut Bytes) -> Option<u64> {
    let length = 1 << (rest.first()? >> 6);
    let bytes = take(rest, length)?;
    let value = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    Some(value & (u64::MAX >> (66 - 8 * length)))
}

/// A variable-length integer, and as many bytes.
fn with_length(rest: &mut Bytes) -> Option<Bytes> {
    let length = varint(rest)?;
    take(rest, length)
}

pub(super) fn take(rest: &mut Bytes, length: u64) -> Option<Bytes> {
    let length = usize::try_from(length).ok().filter(|&length| length <= rest.len())?;
    Some(rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kind, header length and data of each frame.
    fn parsed(bytes: &[u8]) -> Option<Vec<(FrameKind, usize, Vec<u8>)>> {
        let frames = parse(Bytes::copy_from_slice(bytes))?;
        Some(frames.into_iter().map(|f| (f.kind, f.header_len, f.data.to_vec())).collect())
    }

    #[test]
    fn integers_of_all_four_lengths_are_read() {
        // RFC 9000, appendix A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x40, 0x25], 37),
            (&[0x25], 37),
        ] {
            let mut rest = Bytes::from_static(bytes);
            assert_eq!(varint(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(varint(&mut Bytes::from_static(&bytes[..bytes.len() - 1])), None);
        }
    }

    /// One frame of every kind, and the lengths of its header and data.
    fn every_kind() -> Vec<(FrameKind, Vec<u8>, usize)> {
        use FrameKind as K;
        let cid = [&[0x18, 1, 0, 8][..], &[7; 8 + 16]].concat();
        vec![
            (K::Ping, vec![0x01], 0),
            (K::Ack, vec![0x02, 0x40, 0x80, 3, 1, 2, 5, 6], 0),
            (K::Ack, vec![0x03, 9, 3, 0, 2, 1, 2, 3], 0),
            (K::ResetStream, vec![0x04, 4, 1, 0x40, 0x40], 0),
            (K::StopSending, vec![0x05, 4, 1], 0),
            (K::Crypto { offset: 0 }, vec![0x06, 0, 3, 7, 7, 7], 3),
            (K::NewToken, vec![0x07, 2, 7, 7], 2),
            (K::Stream { id: 0, offset: 0, fin: false }, vec![0x0a, 0, 2, 7, 7], 2),
            (K::Stream { id: 4, offset: 64, fin: true }, vec![0x0f, 4, 0x40, 64, 2, 7, 7], 2),
            (K::MaxData, vec![0x10, 9], 0),
            (K::MaxStreamData, vec![0x11, 9, 9], 0),
            (K::MaxStreams, vec![0x12, 9], 0),
            (K::MaxStreams, vec![0x13, 9], 0),
            (K::DataBlocked, vec![0x14, 9], 0),
            (K::StreamDataBlocked, vec![0x15, 9, 9], 0),
            (K::StreamsBlocked, vec![0x16, 9], 0),
            (K::StreamsBlocked, vec![0x17, 9], 0),
            (K::NewConnectionId, cid, 0),
            (K::RetireConnectionId, vec![0x19, 9], 0),
            (K::PathChallenge, vec![0x1a, 1, 2, 3, 4, 5, 6, 7, 8], 0),
            (K::PathResponse, vec![0x1b, 1, 2, 3, 4, 5, 6, 7, 8], 0),
            (K::ConnectionClose, vec![0x1c, 1, 0, 2, b'n', b'o'], 2),
            (K::ConnectionClose, vec![0x1d, 1, 2, b'n', b'o'], 2),
            (K::HandshakeDone, vec![0x1e], 0),
            (K::ImmediateAck, vec![0x1f], 0),
            (K::Datagram, vec![0x31, 2, 7, 7], 2),
            (K::AckFrequency, vec![0x40, 0xaf, 1, 2, 3, 4], 0),
        ]
    }

    #[test]
    fn every_kind_of_frame_ends_where_the_next_begins() {
        let mut all = Vec::new();
        let mut expected = Vec::new();
        for (kind, bytes, data_len) in every_kind() {
            all.extend_from_slice(&bytes);
            all.extend_from_slice(&[0, 0]);
            let (header, data) = bytes.split_at(bytes.len() - data_len);
            expected.push((kind, header.len(), data.to_vec()));
            expected.push((FrameKind::Padding, 2, vec![]));
        }
        assert_eq!(parsed(&all).unwrap(), expected);
    }

    #[test]
    fn a_last_frame_without_a_length_carries_the_rest() {
        let stream = FrameKind::Stream { id: 0, offset: 0, fin: false };
        assert_eq!(parsed(&[0x01, 0x08, 0, 7, 7]).unwrap()[1], (stream, 2, vec![7, 7]));
        assert_eq!(parsed(&[0x30, 7, 7]).unwrap(), [(FrameKind::Datagram, 1, vec![7, 7])]);
    }

    #[test]
    fn a_frame_cut_short_an_unknown_type_and_nothing_at_all_are_refused() {
        for (kind, bytes, _) in every_kind() {
            for cut in 1..bytes.len() {
                assert_eq!(parsed(&bytes[..cut]), None, "{kind:?} cut to {cut}");
            }
        }
        assert_eq!(parsed(&[0x20]), None);
        assert_eq!(parsed(&[]), None);
    }

    proptest! {
        #[test]
        fn frames_of_arbitrary_bytes_cover_them_exactly_or_are_refused(bytes: Vec<u8>) {
            if let Some(frames) = parse(Bytes::from(bytes.clone())) {
                prop_assert_eq!(frames.iter().map(Frame::len).sum::<usize>(), bytes.len());
                prop_assert!(frames.iter().all(|f| !f.is_empty()));
            }
        }
    }
}
