use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::conventional::keys::Sealing;
use crate::conventional::seal;
use crate::header::{Flags, HEADER_LEN, Header, Spoken};
use crate::rules::MAX_SERVICES;

/// Whether a message has an error code of a later version. Its data are not kept, so its round trip is not compared.
fn is_later(message: &Message) -> bool {
    let (Message::Error(code) | Message::AccessEnded(AccessEnded { why: AtEnd(Some(code)), .. })) = message else {
        return false;
    };
    matches!(code, ErrorCode::Unknown(_))
}

/// Whether a message lacks a last field that it might have.
fn lacks_end(message: &Message) -> bool {
    format!("{message:?}").contains("AtEnd(None)")
}

/// The text of a message, as it was before it might have a last field that it lacks.
fn text(message: &Message) -> String {
    let text = format!("{message:?}");
    let Some(at) = text.find(": AtEnd(None)") else { return text };
    let before = text[..at].rfind(", ").unwrap_or(at);
    format!("{}{}", &text[..before], &text[at + ": AtEnd(None)".len()..])
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL)
}

proptest! {
    #[test]
    fn every_message_comes_back(message in any_message()) {
        let body = message.encode_body();
        prop_assert!(body.len() <= MAX_BODY);
        prop_assert_eq!(Message::decode_body(message.kind(), &body), Ok(message));
    }

    #[test]
    fn no_proper_prefix_of_a_body_is_a_body(message in any_message()) {
        let body = message.encode_body();
        for len in 0..body.len() {
            match Message::decode_body(message.kind(), &body[..len]) {
                // The last field may be missing.
                Ok(shorter) => prop_assert!(lacks_end(&shorter) && shorter.encode_body() == body[..len]),
                Err(error) => prop_assert_eq!(error, DecodeError::Truncated),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_another_message(
        message in any_message().prop_filter("a body", |message| !message.encode_body().is_empty()),
        place in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut body = message.encode_body();
        let place = place.index(body.len());
        body[place] ^= 1u8 << bit;
        if let Ok(other) = Message::decode_body(message.kind(), &body) {
            prop_assert_ne!(&other, &message);
            prop_assert!(other.encode_body() == body || is_later(&other));
        }
    }

    #[test]
    fn whatever_is_accepted_is_the_one_encoding(kind in kind(), body in vec(prop_oneof![0u8..8, any::<u8>()], 0..120)) {
        if let Ok(message) = Message::decode_body(kind, &body) {
            prop_assert_eq!(message.kind(), kind);
            prop_assert!(message.encode_body() == body || is_later(&message));
        }
    }

    #[test]
    fn header_and_body_fit_together(message in any_message(), transaction: u32, count: u8, sequence: u32, id: [u8; 16]) {
        let bytes = message.to_bytes(transaction, Flags(Flags::FROM_RESPONDER), count, sequence, id);
        let (head, body) = bytes.split_at(HEADER_LEN);
        let length = u16::try_from(body.len()).unwrap();
        let flags = Flags(Flags::FROM_RESPONDER);
        let (spoken, kind) = (Spoken::FIRST, message.kind());
        let header = Header { transaction, spoken, flags, kind, count, sequence, length, option: 0, id };
        prop_assert_eq!(Header::decode(head), Ok(header));
        prop_assert_eq!(Message::decode_body(header.kind, body), Ok(message));
    }
}

fn name(text: &str) -> Fqdn {
    text.parse().unwrap()
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let route = Message::RouteDirectionInitiator(RouteDirection {
        peer: name("bob.example"),
        virtual_addresses: Virtual { v4: [198, 18, 0, 2].into(), v6: "2001:db8::2".parse().unwrap() },
        pattern: Pattern::Relayed,
        dial: true,
        candidates: vec!["192.0.2.7:4501".parse().unwrap()],
        keys: Some(TunnelKeys { tunnel: Key128([0xaa; 16]), temporary: Key128([0xbb; 16]) }),
        relay: Some(Relay {
            addresses: vec!["[2001:db8::9]:443".parse().unwrap()],
            mode: RelayMode::Blind,
            cid: Some(RelayCid([0xcc; 8])),
        }),
        want: Some(Want::Direct(9)),
        permissions: AtEnd(None),
    });
    let expected = [
        &[11][..],
        b"bob.example",
        &[198, 18, 0, 2],
        &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[3, 1],
        &[1, 4, 192, 0, 2, 7, 0x11, 0x95],
        &[1],
        &[0xaa; 16],
        &[0xbb; 16],
        &[1],
        &[1, 6, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x01, 0xbb],
        &[2],
        &[1],
        &[0xcc; 8],
        &[1, 3, 9],
    ]
    .concat();
    assert_eq!(route.encode_body(), expected);

    let login =
        Message::LoginRequest(LoginRequest { device: NodeId([7; 16]), credential: Credential::Password("é".into()) });
    assert_eq!(login.encode_body(), [&[7; 16][..], &[1, 0, 2, 0xc3, 0xa9]].concat());

    let registration = RegistrationRequest { epoch: 0x0102, addresses: vec![], port: 443 };
    assert_eq!(Message::RegistrationRequest(registration).encode_body(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 1, 0xbb]);
}

#[test]
fn an_error_of_a_later_version_is_an_error() {
    assert_eq!(Message::Error(ErrorCode::StaleEpoch(0x0102)).encode_body(), [6, 0, 0, 0, 0, 0, 0, 1, 2]);
    let later = [&[200][..], b"whatever a later version says of it"].concat();
    let decoded = Message::decode_body(Kind::Error, &later);
    assert_eq!(decoded, Ok(Message::Error(ErrorCode::Unknown(200))));
    assert_eq!(ErrorCode::Unknown(200).number(), 200);
}

#[test]
fn every_pattern_travels_as_the_papers_number() {
    for pattern in [Pattern::Direct, Pattern::OneNat, Pattern::Relayed] {
        let mut out = Vec::new();
        pattern.put(&mut out);
        assert_eq!(out, [pattern.number()]);
    }
}

#[test]
fn the_longest_message_fits_the_longest_body() {
    let long = name(&[&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join("."));
    assert_eq!(long.as_str().len(), 253);
    let all = vec!["[2001:db8::1]:443".parse::<SocketAddr>().unwrap(); MAX_ADDRESSES];
    let service = Service { protocol: Protocol::Tcp, first: 1, last: 1 };
    let services = Permission::Services(vec![service; MAX_SERVICES]);
    let route = Message::RouteDirectionInitiator(RouteDirection {
        peer: long,
        virtual_addresses: Virtual { v4: [0; 4].into(), v6: [0; 16].into() },
        pattern: Pattern::Direct,
        dial: false,
        candidates: all.clone(),
        keys: Some(TunnelKeys { tunnel: Key128([0; 16]), temporary: Key128([0; 16]) }),
        relay: Some(Relay { addresses: all, mode: RelayMode::Blind, cid: Some(RelayCid([0; 8])) }),
        want: Some(Want::Direct(0)),
        permissions: AtEnd(Some(Permissions { serial: 0, out: services.clone(), back: services })),
    });
    let password = Credential::Password("p".repeat(MAX_PASSWORD));
    let login = Message::LoginRequest(LoginRequest { device: NodeId([0; 16]), credential: password });
    for message in [route, login] {
        let body = message.encode_body();
        assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        assert_eq!(Message::decode_body(message.kind(), &body), Ok(message));
    }
}

#[test]
fn only_the_best_addresses_of_a_long_list_travel() {
    let addresses: Vec<IpAddr> = (0..20).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    let long = RegistrationRequest { epoch: 1, addresses: addresses.clone(), port: 1 };
    let body = Message::RegistrationRequest(long).encode_body();
    let sent = RegistrationRequest { epoch: 1, addresses: addresses[..MAX_ADDRESSES].to_vec(), port: 1 };
    assert_eq!(Message::decode_body(Kind::RegistrationRequest, &body), Ok(Message::RegistrationRequest(sent)));
}

#[test]
#[should_panic(expected = "a password of more than 1024 bytes")]
fn a_password_that_cannot_travel_is_a_bug_of_whoever_took_it() {
    let credential = Credential::Password("p".repeat(MAX_PASSWORD + 1));
    Message::LoginRequest(LoginRequest { device: NodeId([0; 16]), credential }).encode_body();
}

#[test]
fn each_kind_of_nonsense_has_its_error() {
    use DecodeError::{Family, NoMessage, TooLong, Trailing, Truncated, Utf8, Value};
    let decode = |kind, body: &[u8]| Message::decode_body(kind, body).unwrap_err();
    let device = [0u8; 16];
    let login = |tail: &[u8]| [&device[..], tail].concat();
    assert_eq!(decode(Kind::Capsule, &[]), NoMessage(Kind::Capsule));
    assert_eq!(decode(Kind::KeepAlive, &[0; 3]), Trailing(3));
    assert_eq!(decode(Kind::KeepAlive, &[0; 1201]), TooLong { what: "body", len: 1201, max: MAX_BODY });
    assert_eq!(decode(Kind::Error, &[]), Truncated);
    assert_eq!(decode(Kind::Error, &[6, 0]), Truncated);
    assert_eq!(decode(Kind::RelayResponse, &[2]), Value { what: "boolean", value: 2 });
    assert_eq!(decode(Kind::RouteConfirmation, &[2]), Value { what: "boolean", value: 2 });
    assert_eq!(decode(Kind::LoginRequest, &login(&[3])), Value { what: "credential", value: 3 });
    assert_eq!(decode(Kind::LoginRequest, &login(&[1, 0, 1, 0xff])), Utf8);
    assert_eq!(decode(Kind::LoginRequest, &login(&[1, 4, 1])), TooLong { what: "text", len: 1025, max: MAX_PASSWORD });
    assert_eq!(decode(Kind::DirectionRequest, &[3]), Value { what: "peer", value: 3 });
    assert_eq!(decode(Kind::DirectionRequest, &[2, 5, 0, 0, 0, 0]), Family(5));
    assert_eq!(
        decode(Kind::RegistrationRequest, &[0, 0, 0, 0, 0, 0, 0, 1, 17]),
        TooLong { what: "list", len: 17, max: MAX_ADDRESSES }
    );
}

#[test]
fn a_name_has_one_spelling() {
    for bad in [&b"Bob"[..], b"bob.", b"", b"b_b", b"-b", b"a..b"] {
        let body = [&[1, u8::try_from(bad.len()).unwrap()], bad].concat();
        assert_eq!(Message::decode_body(Kind::DirectionRequest, &body), Err(DecodeError::Fqdn), "{bad:?}");
    }
    let good = Message::decode_body(Kind::DirectionRequest, b"\x01\x03bob\x01");
    let request = DirectionRequest { peer: PeerRef::Name(name("bob")), want: Want::Any };
    assert_eq!(good, Ok(Message::DirectionRequest(request)));
}

/// The part of a text between two marks.
fn between<'a>(text: &'a str, mark: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {mark} -->\n")).expect("the first mark");
    rest.split_once(&format!("<!-- end of {mark} -->")).expect("the second mark").0
}

#[test]
fn the_layout_in_protocol_md_and_in_the_dissector_is_what_the_table_says() {
    let files = [
        ("PROTOCOL.md", include_str!("../../PROTOCOL.md")),
        ("wireshark/cyphonic.lua", include_str!("../../wireshark/cyphonic.lua")),
    ];
    let expected = layout();
    for (file, text) in files {
        assert!(
            between(text, "layout").trim() == expected.trim(),
            "{file}, between the marks of the layout, has to be:\n\n{expected}"
        );
    }
}

#[test]
fn every_number_and_every_code_is_taken_once() {
    let numbers: std::collections::BTreeSet<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
    assert_eq!(numbers.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert_eq!(Kind::from_number(*kind as u8), Some(*kind));
    }
    let codes: std::collections::BTreeSet<u8> = error_rows().iter().map(|(number, ..)| *number).collect();
    assert_eq!(codes.len(), error_rows().len());
}

/// Every message of version 2: number of its type, frame, sealed datagram, and meaning. Lines are only added and never
/// changed, because every later version has to read all messages of this one.
const VERSION_2: &str = include_str!("fixtures/version-2.txt");

fn sealing() -> Sealing {
    Sealing::new(&Key128([0x5a; 16]))
}

fn fixture(message: &Message) -> String {
    let (flags, id) = (Flags(Flags::FROM_RESPONDER), [3; 16]);
    let frame = message.to_bytes(0x0102_0304, flags, 1, 7, id);
    let sealed = seal::seal(&sealing(), Header::decode(&frame).unwrap(), &frame[HEADER_LEN..]);
    format!("{} {} {} {}\n", message.kind() as u8, hex(&frame), hex(&sealed), text(message))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_message_that_a_version_has_ever_said_can_be_read() {
    let mut seen = std::collections::BTreeSet::new();
    for line in VERSION_2.lines() {
        let [kind, frame, sealed, text] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut reader = FrameReader::default();
        reader.push(&unhex(frame));
        let (header, body) = reader.next().unwrap().unwrap();
        let message = Message::decode_body(header.kind, &body).unwrap();
        assert_eq!((header.kind as u8).to_string(), kind);
        assert_eq!(self::text(&message), text);
        assert_eq!(hex(&message.encode_body()), frame[2 * HEADER_LEN..], "the secrets that the text does not show");
        let mut datagram = unhex(sealed);
        let (opened, range) = seal::open(&sealing(), &mut datagram).unwrap();
        assert_eq!(Message::decode_body(opened.kind, &datagram[range]), Ok(message));
        seen.insert(header.kind);
    }
    let mut missing = String::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    while missing.lines().count() < 1_000 && seen.len() + 1 < Kind::ALL.len() {
        let message = any_message().new_tree(&mut runner).unwrap().current();
        if seen.insert(message.kind()) {
            missing += &fixture(&message);
        }
    }
    assert!(missing.is_empty(), "add to fixtures/version-2.txt:\n{missing}");
}
