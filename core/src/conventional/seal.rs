//! Sealing and opening one UDP message of the conventional method.
//!
//! ```text
//! 0              32                        32+n               48+n
//! ├─ header 32 ──┼─ AES-128-CTR(n bytes) ──┼─ HMAC-SHA-256/16 ┤
//! └────────── authenticated ───────────────┘
//! ```
//!
//! A tunnel may have another [`Cipher`](super::cipher::Cipher), which this page does not describe.
//!
//! The HMAC covers header and ciphertext and is verified, in constant time, before anything is decrypted.
//!
//! # Size
//!
//! CTR needs no padding and no IV in the message, so the overhead is 32 + 16 = 48 bytes. With it the sum of the paper's
//! Table 3 is right for a full-sized capsule:
//!
//! | IPv6 | UDP | header | inner IPv6 | inner payload | HMAC | sum |
//! |---|---|---|---|---|---|---|
//! | 40 | 8 | 32 | 40 | 1364 | 16 | 1500 |
//!
//! # No keystream is ever used for two plaintexts
//!
//! The first counter block is built from the header:
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | transaction id |
//! | 4–7 | sequence number |
//! | 8 | message type |
//! | 9–11 | first three bytes of the id |
//! | 12–15 | block counter, from 0 |
//!
//! 1. The two directions have two AES keys ([`Sealing`]), so only messages of one key and one direction can share a
//!    block.
//! 2. Within those, a sender never uses a sequence number for two contents (the rule of
//!    [`Header::sequence`]; [`Sequence`](super::replay::Sequence) keeps it and ends before it would repeat). Different
//!    sequence numbers differ in bytes 4–7.
//! 3. One message uses at most 4,096 blocks (65,535 bytes), so its 32-bit block counter never carries into the rest:
//!    blocks of messages that differ in bytes 0–11 are never equal.
//! 4. A retransmission keeps transaction, sequence, type and id, and changes only `count`, which is not in the block:
//!    it has the same keystream, and the same plaintext. An observer learns that it is a retransmission, which the
//!    header shows anyway. `count` is authenticated by the HMAC like every bit of the header.
//!
//! Transaction, type and id are in the block as a second line: a service that lost its count of sequence numbers in a
//! crash repeats a block only if the random transaction id repeats too.

use std::ops::Range;

use aes::Aes128Enc;
use aes::cipher::{InnerIvInit, StreamCipherCore};
use ctr::{CtrCore, flavors::Ctr32BE};
use subtle::ConstantTimeEq;

use super::cipher;
use super::keys::{Direction, Sealing};
use crate::event::DropReason;
use crate::header::{HEADER_LEN, Header, Kind, TAG_LEN, options_len};
use crate::version::Versions;

/// The bytes that sealing adds to a plaintext.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Longest plaintext that the header's length field can state, bytes.
pub const MAX_PLAINTEXT: usize = u16::MAX as usize;

/// The datagram that carries `plaintext`. [`Header::length`] is set to the plaintext's; the rest is taken as given.
///
/// # Panics
/// If the plaintext is longer than [`MAX_PLAINTEXT`].
pub fn seal(sealing: &Sealing, header: Header, plaintext: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(plaintext.len() + OVERHEAD);
    seal_into(sealing, header, plaintext, &mut datagram);
    datagram
}

/// As [`seal`], appended to `out`; allocates only if `out` lacks room.
///
/// # Panics
/// If the plaintext is longer than [`MAX_PLAINTEXT`].
pub fn seal_into(sealing: &Sealing, header: Header, plaintext: &[u8], out: &mut Vec<u8>) {
    seal_any(sealing, header.raw(), plaintext, out);
}

/// As [`seal_into`], for a header of any type. Options, if the header names one, are at the front of `plaintext`.
///
/// # Panics
/// If the plaintext is longer than [`MAX_PLAINTEXT`].
pub fn seal_any(sealing: &Sealing, header: Header<u8>, plaintext: &[u8], out: &mut Vec<u8>) {
    let keys = sealing.direction(Direction::of(header.flags));
    let more = if keys.cbc.is_some() { cipher::BLOCK + cipher::padding(plaintext.len()) } else { 0 };
    let len = plaintext.len() + more;
    assert!(len <= MAX_PLAINTEXT, "a plaintext of {} bytes cannot be sealed", plaintext.len());
    let header = Header { length: len as u16, ..header };
    let start = out.len();
    out.reserve(len + OVERHEAD);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(plaintext);
    if keys.cbc.is_some() {
        cipher::encrypt(&keys.cipher, first_block(&header), out, start + HEADER_LEN);
    } else if !(header.kind == Kind::Capsule as u8 && defect!(CapsulesInTheClear)) {
        apply_keystream(&keys.cipher, first_block(&header), &mut out[start + HEADER_LEN..]);
    }
    let tag = keys.tag(&out[start..]);
    out.extend_from_slice(&tag);
}

/// Verifies a `datagram` of any type and decrypts it in place. Returns the header, and the place of the plaintext with
/// its options.
///
/// The header's own flags choose the direction's keys. So our own message also opens if it is reflected to us. Use
/// [`open_from`] if only one direction is allowed.
///
/// # Errors
/// In this order: [`DropReason::BadHeader`], [`DropReason::UnknownVersion`], [`DropReason::BadLength`] (header and
/// datagram disagree), [`DropReason::BadHmac`]. The datagram is then unchanged. In CBC also [`DropReason::BadBody`], if
/// the padding is wrong.
pub fn open_any(
    sealing: &Sealing,
    versions: Versions,
    datagram: &mut [u8],
) -> Result<(Header<u8>, Range<usize>), DropReason> {
    let header = Header::<u8>::read(datagram).ok_or(DropReason::BadHeader)?;
    if !versions.speaks(header.spoken.version) {
        // The sealing of another version is not known.
        return Err(DropReason::UnknownVersion);
    }
    if datagram.len() != usize::from(header.length) + OVERHEAD {
        return Err(DropReason::BadLength);
    }
    let keys = sealing.direction(Direction::of(header.flags));
    let end = datagram.len() - TAG_LEN;
    let (message, tag) = datagram.split_at_mut(end);
    if !bool::from(keys.tag(message).ct_eq(tag)) && !defect!(HmacUnchecked) {
        return Err(DropReason::BadHmac);
    }
    if let Some(cbc) = &keys.cbc {
        let plaintext = cipher::decrypt(cbc, &mut message[HEADER_LEN..]).ok_or(DropReason::BadBody)?;
        let begin = HEADER_LEN + cipher::BLOCK;
        return Ok((header, begin..begin + plaintext));
    }
    if !(header.kind == Kind::Capsule as u8 && defect!(CapsulesInTheClear)) {
        apply_keystream(&keys.cipher, first_block(&header), &mut message[HEADER_LEN..]);
    }
    Ok((header, HEADER_LEN..end))
}

/// As [`open_any`], for a type that is known, in a version of ours; options are skipped.
///
/// # Errors
/// As [`open_any`]; then [`DropReason::UnknownType`], and [`DropReason::BadBody`] for options that do not end.
pub fn open(sealing: &Sealing, datagram: &mut [u8]) -> Result<(Header, Range<usize>), DropReason> {
    open_in(sealing, Versions::OURS, datagram)
}

fn open_in(sealing: &Sealing, versions: Versions, datagram: &mut [u8]) -> Result<(Header, Range<usize>), DropReason> {
    let (header, range) = open_any(sealing, versions, datagram)?;
    let known = header.known().map_err(|_| DropReason::UnknownType)?;
    let options = options_len(header.option, &datagram[range.clone()]).ok_or(DropReason::BadBody)?;
    let range = range.start + options..range.end;
    Ok((Header { option: 0, length: range.len() as u16, ..known }, range))
}

/// As [`open`], but only for a message `from` that end. A message of our own, reflected to us, is refused.
///
/// # Errors
/// As [`open`], and [`DropReason::Unexpected`] for the other direction.
pub fn open_from(
    sealing: &Sealing,
    from: Direction,
    datagram: &mut [u8],
) -> Result<(Header, Range<usize>), DropReason> {
    open_from_in(sealing, Versions::OURS, from, datagram)
}

/// As [`open_from`], for an end that speaks these versions.
///
/// # Errors
/// As [`open_from`].
pub fn open_from_in(
    sealing: &Sealing,
    versions: Versions,
    from: Direction,
    datagram: &mut [u8],
) -> Result<(Header, Range<usize>), DropReason> {
    is_from(from, datagram)?;
    open_in(sealing, versions, datagram)
}

/// Checks that a datagram's flags name this end as the sender.
pub fn is_from(from: Direction, datagram: &[u8]) -> Result<(), DropReason> {
    let header = Header::<u8>::read(datagram).ok_or(DropReason::BadHeader)?;
    if Direction::of(header.flags) == from { Ok(()) } else { Err(DropReason::Unexpected) }
}

/// The first counter block; see the module's table.
fn first_block(header: &Header<u8>) -> [u8; 16] {
    let mut block = [0; 16];
    block[0..4].copy_from_slice(&header.transaction.to_be_bytes());
    block[4..8].copy_from_slice(&header.sequence.to_be_bytes());
    block[8] = header.kind;
    block[9..12].copy_from_slice(&header.id[..3]);
    block
}

/// AES-128-CTR with a 32-bit big-endian block counter, in place; the same operation both ways.
fn apply_keystream(cipher: &Aes128Enc, block: [u8; 16], bytes: &mut [u8]) {
    CtrCore::<&Aes128Enc, Ctr32BE>::inner_iv_init(cipher, &block.into()).apply_keystream_partial(bytes.into());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::Flags;
    use crate::key::Key128;

    fn sealing() -> Sealing {
        Sealing::new(&Key128(*b"a 128-bit secret"))
    }

    fn header() -> Header {
        Header {
            transaction: 0x0102_0304,
            spoken: crate::version::Spoken::FIRST,
            flags: Flags::default(),
            kind: Kind::Capsule,
            count: 0,
            sequence: 7,
            length: 0,
            option: 0,
            id: [9; 16],
        }
    }

    #[test]
    fn what_was_sealed_opens_in_both_directions() {
        for direction in [Direction::FromInitiator, Direction::FromResponder] {
            let header = Header { flags: direction.flags(), ..header() };
            let mut datagram = seal(&sealing(), header, b"hello");
            let (opened, plaintext) = open_from(&sealing(), direction, &mut datagram).unwrap();
            assert_eq!(opened, Header { length: 5, ..header });
            assert_eq!(&datagram[plaintext], b"hello");
        }
    }

    #[test]
    fn a_full_sized_capsule_is_exactly_the_sum_of_table_3() {
        let inner = vec![0; 40 + 1364];
        let udp_payload = seal(&sealing(), header(), &inner).len();
        assert_eq!(udp_payload, 1452);
        assert_eq!(40 + 8 + udp_payload, 1500);
        assert_eq!(OVERHEAD, 32 + 16);
    }

    /// 1,500 bytes have room for 1,335 bytes of inner payload: 86 blocks, without a byte of padding and an IPv6 header.
    #[test]
    fn with_cbc_and_md5_an_iv_and_padding_take_their_room() {
        let sealing = Sealing::of_tunnel(&Key128(*b"a 128-bit secret"), cipher::Cipher::CbcMd5);
        for (inner, udp_payload) in [(40 + 1335, 32 + 16 + 1376 + 16), (40 + 1336, 32 + 16 + 1392 + 16)] {
            let plaintext = vec![7; inner];
            let mut datagram = seal(&sealing, header(), &plaintext);
            assert_eq!(datagram.len(), udp_payload);
            let sealed = datagram.clone();
            let (opened, range) = open_from(&sealing, Direction::FromInitiator, &mut datagram).unwrap();
            assert_eq!((usize::from(opened.length), &datagram[range]), (inner, &plaintext[..]));
            for at in [0, HEADER_LEN, HEADER_LEN + 16, sealed.len() - 17, sealed.len() - 1] {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(open_from(&sealing, Direction::FromInitiator, &mut damaged).is_err(), "byte {at}");
            }
            assert_eq!(
                open(&super::tests::sealing(), &mut sealed.clone()),
                Err(DropReason::BadHmac),
                "no other cipher"
            );
        }
        let mut again = header();
        again.sequence += 1;
        let [first, second] = [header(), again].map(|header| seal(&sealing, header, b"the same text"));
        assert_ne!(first[HEADER_LEN..HEADER_LEN + 32], second[HEADER_LEN..HEADER_LEN + 32], "another IV");
    }

    #[test]
    fn a_change_of_any_bit_is_refused_and_nothing_is_decrypted() {
        let whole = seal(&sealing(), header(), b"some plaintext that spans more than one block");
        for byte in 0..whole.len() {
            for bit in 0..8 {
                let mut datagram = whole.clone();
                datagram[byte] ^= 1 << bit;
                let damaged = datagram.clone();
                let reason = open(&sealing(), &mut datagram).unwrap_err();
                let expected = match byte {
                    4 => &[DropReason::UnknownVersion][..],
                    12 | 13 => &[DropReason::BadLength],
                    _ => &[DropReason::BadHmac],
                };
                assert!(expected.contains(&reason), "byte {byte} bit {bit}: {reason:?}");
                assert_eq!(datagram, damaged);
            }
        }
    }

    #[test]
    fn a_datagram_cut_short_or_lengthened_is_refused() {
        let whole = seal(&sealing(), header(), b"plaintext");
        for length in 0..whole.len() {
            let expected = if length < HEADER_LEN { DropReason::BadHeader } else { DropReason::BadLength };
            assert_eq!(open(&sealing(), &mut whole[..length].to_vec()).unwrap_err(), expected);
        }
        let mut longer = [&whole[..], &[0]].concat();
        assert_eq!(open(&sealing(), &mut longer).unwrap_err(), DropReason::BadLength);
    }

    #[test]
    fn a_message_turned_round_is_refused() {
        let mut reflected = seal(&sealing(), header(), b"plaintext");
        let answer = open_from(&sealing(), Direction::FromResponder, &mut reflected);
        assert_eq!(answer.unwrap_err(), DropReason::Unexpected);
        let mut relabelled = reflected;
        relabelled[5] ^= Flags::FROM_RESPONDER;
        let answer = open_from(&sealing(), Direction::FromResponder, &mut relabelled);
        assert_eq!(answer.unwrap_err(), DropReason::BadHmac);
    }

    #[test]
    fn another_key_does_not_open_it() {
        let mut datagram = seal(&sealing(), header(), b"plaintext");
        let other = Sealing::new(&Key128([0; 16]));
        assert_eq!(open(&other, &mut datagram).unwrap_err(), DropReason::BadHmac);
    }

    #[test]
    fn a_type_and_options_that_are_not_known_are_authentic_or_nothing() {
        let mut datagram = Vec::new();
        let head = Header { option: 200, ..header().raw() };
        seal_any(&sealing(), head, &[0, 2, 1, 1, 42], &mut datagram);
        let (opened, range) = open(&sealing(), &mut datagram).unwrap();
        assert_eq!((opened.option, opened.length, &datagram[range]), (0, 1, &[42][..]));
        let mut datagram = Vec::new();
        seal_any(&sealing(), Header { kind: 200, ..header().raw() }, &[1, 2, 3], &mut datagram);
        assert_eq!(open(&sealing(), &mut datagram.clone()), Err(DropReason::UnknownType));
        datagram[40] ^= 1;
        assert_eq!(open(&sealing(), &mut datagram), Err(DropReason::BadHmac));
        let mut endless = Vec::new();
        seal_any(&sealing(), Header { option: 1, ..header().raw() }, &[0, 9, 1], &mut endless);
        assert_eq!(open(&sealing(), &mut endless), Err(DropReason::BadBody));
    }

    /// The ciphertext of zeros is the keystream itself.
    fn keystream(header: Header, length: usize) -> Vec<u8> {
        let datagram = seal(&sealing(), header, &vec![0; length]);
        datagram[HEADER_LEN..HEADER_LEN + length].to_vec()
    }

    #[test]
    fn every_field_that_tells_contents_apart_changes_the_keystream() {
        let first = keystream(header(), 64);
        let others = [
            Header { transaction: 5, ..header() },
            Header { sequence: 8, ..header() },
            Header { kind: Kind::TunnelRequest, ..header() },
            Header { flags: Flags(Flags::FROM_RESPONDER), ..header() },
            Header { id: [8; 16], ..header() },
        ];
        for other in others {
            assert_ne!(keystream(other, 64), first, "{other:?}");
        }
    }

    #[test]
    fn a_retransmission_differs_only_in_count_and_hmac() {
        let first = seal(&sealing(), header(), b"same content");
        let second = seal(&sealing(), Header { count: 1, ..header() }, b"same content");
        let end = first.len() - TAG_LEN;
        assert_eq!(first[HEADER_LEN..end], second[HEADER_LEN..end]);
        assert_ne!(first[end..], second[end..]);
    }

    #[test]
    fn the_longest_message_never_runs_into_the_keystream_of_its_neighbours() {
        let blocks = |sequence| -> std::collections::BTreeSet<Vec<u8>> {
            let stream = keystream(Header { sequence, ..header() }, MAX_PLAINTEXT);
            stream.chunks_exact(16).map(<[u8]>::to_vec).collect()
        };
        let (one, two) = (blocks(1), blocks(2));
        assert_eq!(one.len(), MAX_PLAINTEXT / 16);
        assert!(one.is_disjoint(&two));
    }

    /// Computed from the module's description with Python's hmac and OpenSSL's AES, not with this code.
    #[test]
    fn the_bytes_on_the_wire_are_what_the_description_says() {
        let datagram = seal(&sealing(), header(), b"pinned");
        let tag = u128::from_be_bytes(datagram[HEADER_LEN + 6..].try_into().unwrap());
        assert_eq!(datagram[HEADER_LEN..HEADER_LEN + 6], [0xea, 0xf0, 0xd2, 0x66, 0x29, 0x37]);
        assert_eq!(tag, 0x2e26_72d5_96cc_a7dc_813c_3cba_b177_a64a);
    }

    #[test]
    #[should_panic(expected = "cannot be sealed")]
    fn a_plaintext_too_long_for_the_length_field_is_a_bug() {
        seal(&sealing(), header(), &vec![0; MAX_PLAINTEXT + 1]);
    }

    proptest! {
        #[test]
        fn anything_opens_to_what_was_sealed(plaintext: Vec<u8>, prefix: Vec<u8>, sequence: u32, id: [u8; 16]) {
            let header = Header { sequence, id, ..header() };
            let mut out = prefix.clone();
            seal_into(&sealing(), header, &plaintext, &mut out);
            prop_assert_eq!(&out[..prefix.len()], &prefix[..]);
            let datagram = &mut out[prefix.len()..];
            let (_, range) = open(&sealing(), datagram).unwrap();
            prop_assert_eq!(&datagram[range], &plaintext[..]);
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(mut bytes: Vec<u8>) {
            prop_assert!(open(&sealing(), &mut bytes).is_err());
        }
    }
}
