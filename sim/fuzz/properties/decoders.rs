//! One property for each decoder: a value that was read is written and reads the same again, and nothing panics.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use cyphonic_core::conventional::keys::{Direction, Sealing};
use cyphonic_core::conventional::seal;
use cyphonic_core::header::{Flags, HEADER_LEN, Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::message::{FrameReader, MAX_BODY, Message};
use cyphonic_core::name::Virtual;
use cyphonic_core::packet::{Inner, clamp_mss, fragment_v4, too_big};
use cyphonic_core::quic::destination_prefix;
use cyphonic_core::time::Instant;
use cyphonic_core::{dns, probe};
use cyphonic_scenarios::{Document, Plan};
use cyphonic_sim::dissect::frame;
use cyphonic_sim::dissect::hello::ClientHello;
use cyphonic_sim::dissect::initial::{InitialKeys, LongHeader};
use cyphonic_sim::net::packet::{
    Ip, Reassembled, Reassembler, ReassemblyLimits, fragment_ipv4, fragment_ipv6, parse_icmp_error,
};

/// A header that was read is written as the same bytes.
pub fn header(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_LEN]);
    }
}

/// A body of the kind that the first byte names. If it can be read, it is written in as many bytes or fewer, and reads
/// the same.
pub fn message(bytes: &[u8]) {
    let Some((&kind, body)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    if let Ok(message) = Message::decode_body(kind, body) {
        assert_eq!(message.kind(), kind);
        let written = message.encode_body();
        assert!(written.len() <= MAX_BODY);
        assert_eq!(Message::decode_body(kind, &written), Ok(message));
    }
}

/// A stream gives the same frames, however it is cut into pieces. The first byte is the length of the pieces.
pub fn frames(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let mut whole = FrameReader::default();
    whole.push(stream);
    let expected: Vec<_> = whole.by_ref().collect();
    let mut reader = FrameReader::default();
    let mut read = Vec::new();
    for piece in stream.chunks(usize::from(piece) + 1) {
        reader.push(piece);
        read.extend(reader.by_ref());
        assert!(reader.buffered() <= HEADER_LEN + usize::from(u16::MAX));
    }
    assert_eq!(read, expected);
}

/// Only a sealed datagram opens. It opens as the plaintext that was sealed, and not with any bit changed.
///
/// The bytes are used twice: as a datagram, and as a plaintext whose first two bytes say which bit is changed.
pub fn sealed(bytes: &[u8]) {
    let sealing = Sealing::new(&Key128([7; 16]));
    let direction = Direction::FromInitiator;
    assert!(seal::open_from(&sealing, direction, &mut bytes.to_vec()).is_err());
    let [change, place, plaintext @ ..] = bytes else { return };
    let plaintext = &plaintext[..plaintext.len().min(2_000)];
    let header = Header {
        transaction: 1,
        spoken: cyphonic_core::version::Spoken::FIRST,
        flags: Flags(0),
        kind: Kind::Capsule,
        count: 0,
        sequence: 1,
        length: 0,
        option: 0,
        id: [2; 16],
    };
    let datagram = seal::seal(&sealing, header, plaintext);
    let mut intact = datagram.clone();
    let (_, range) = seal::open_from(&sealing, direction, &mut intact).expect("our own");
    assert_eq!(&intact[range], plaintext);
    if *change != 0 {
        let mut damaged = datagram;
        let place = usize::from(*place) * damaged.len() / 256;
        damaged[place] ^= change;
        let before = damaged.clone();
        assert!(seal::open_from(&sealing, direction, &mut damaged).is_err());
        assert_eq!(damaged, before, "what does not open is not touched");
    }
}

/// IP packets, their fragments and the errors about them, in the core and in the simulated network. The first two bytes
/// are an MTU.
pub fn inner(bytes: &[u8]) {
    let [high, low, packet @ ..] = bytes else { return };
    let mtu = u16::from_be_bytes([*high, *low]);
    let ours = [Ipv4Addr::new(198, 18, 0, 1).into(), Ipv6Addr::from(1).into()];
    let parsed = Inner::parse(packet);
    clamp_mss(&mut packet.to_vec(), mtu);
    let pieces = fragment_v4(packet, mtu);
    for from in ours {
        if let Some(error) = too_big(packet, mtu, from) {
            Inner::parse(&error).expect("an error is a packet");
        }
    }
    if let Some(pieces) = &pieces {
        let parsed = parsed.as_ref().expect("only packets are cut");
        for piece in pieces {
            let piece = Inner::parse(piece).expect("a piece is a packet");
            assert!(piece.len <= usize::from(mtu));
            assert_eq!((piece.source, piece.destination), (parsed.source, parsed.destination));
        }
    }
    let whole = Ip::parse(packet).is_some();
    Ip::parse_quoted(packet).and_then(|ip| ip.transport());
    parse_icmp_error(packet);
    let limits = ReassemblyLimits::default();
    Reassembler::new(limits).push(Instant::ZERO, packet.to_vec());
    for pieces in [fragment_ipv4(packet, mtu.into()), fragment_ipv6(packet, mtu.into(), 9)].into_iter().flatten() {
        assert!(whole);
        let mut reassembler = Reassembler::new(limits);
        let last = pieces.into_iter().map(|piece| reassembler.push(Instant::ZERO, piece)).last();
        if let Some(Reassembled::Whole { packet: again, .. }) = last {
            let (again, before) = (Ip::parse(&again).expect("whole"), Ip::parse(packet).expect("whole"));
            assert_eq!((again.source, again.payload), (before.source, before.payload));
        }
    }
}

/// A query that can be read gets an answer that can be read. Answers are read too.
pub fn dns(bytes: &[u8]) {
    let _ = dns::parse_answer(bytes);
    let Ok(mut question) = dns::parse(bytes) else { return };
    question.within(&"cyphonic.test".parse().expect("a name"));
    let addresses = Virtual { v4: Ipv4Addr::new(198, 18, 0, 9), v6: Ipv6Addr::from(9) };
    for answer in [question.answer(&addresses, dns::TTL), question.apex(), question.name_error(), question.no_address()]
    {
        let (id, ..) = dns::parse_answer(&answer).expect("our own answer");
        assert_eq!(id, question.id);
        assert!(dns::parse(&answer).is_err(), "an answer is no query");
    }
}

/// QUIC packets are read without keys, and with keys that everyone can compute.
pub fn quic(bytes: &[u8]) {
    destination_prefix(bytes);
    assert!(probe::is_not_quic(bytes) || !(probe::is_probe(bytes) || probe::is_punch(bytes)));
    if let Some(header) = LongHeader::read(bytes) {
        InitialKeys::of_client(&header.dcid).open(bytes);
    }
    ClientHello::read(bytes);
    if let Some(frames) = frame::parse(Bytes::copy_from_slice(bytes)) {
        let len: usize = frames.iter().map(|frame| frame.header_len + frame.data.len()).sum();
        assert_eq!(len, bytes.len(), "every byte belongs to a frame");
    }
}

/// Scenario files. A refused one is refused with a place and a reason.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let plan = Document::parse("fuzz.toml", text).and_then(|document| Plan::expand(&document, &[]));
    match plan {
        Ok(plan) => assert!(!plan.cells.is_empty()),
        Err(error) => assert!(error.to_string().contains("fuzz.toml"), "{error}"),
    }
}
