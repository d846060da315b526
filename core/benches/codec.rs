//! Measures the codec of signaling: encoding and decoding the messages that set up a tunnel and the header, and reading
//! frames from a stream.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput};
use cyphonic_core::header::{Flags, HEADER_LEN, Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::message::{
    AtEnd, Credential, DirectionRequest, ErrorCode, FrameReader, Framing, LoginRequest, LoginResponse, Message,
    PeerRef, RegistrationRequest, RegistrationResponse, Relay, RelayEpoch, RelayMode, RelayRequest, RelayResponse,
    RouteConfirmation, RouteDirection, TunnelKeys, TunnelRequest, Want, WrappedKey,
};
use cyphonic_core::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};
use cyphonic_core::route::Pattern;

/// The messages of login, registration and route construction, each about as large as in a run.
fn messages() -> Vec<Message> {
    let alice: Fqdn = "alice.cyphonic.example".parse().expect("a name");
    let bob: Fqdn = "bob.cyphonic.example".parse().expect("a name");
    let v6: SocketAddr = "[2001:db8::7]:443".parse().expect("an address");
    let v4: SocketAddr = "192.0.2.7:443".parse().expect("an address");
    let addresses = Virtual { v4: [198, 18, 0, 1].into(), v6: [0x20; 16].into() };
    let cid = Some(RelayCid([8; 8]));
    let key = || Key128([7; 16]);
    let route = RouteDirection {
        peer: bob.clone(),
        virtual_addresses: addresses,
        pattern: Pattern::Relayed,
        dial: true,
        candidates: vec![v6, v4],
        keys: Some(TunnelKeys { tunnel: key(), temporary: key() }),
        relay: Some(Relay { addresses: vec![v6, v4], mode: RelayMode::Blind, cid }),
        want: None,
        permissions: AtEnd(None),
    };
    vec![
        Message::LoginRequest(LoginRequest {
            device: NodeId([1; 16]),
            credential: Credential::Password("correct horse battery staple".into()),
        }),
        Message::LoginResponse(LoginResponse {
            node: NodeId([1; 16]),
            fqdn: alice.clone(),
            common_key: Some(key()),
            nms: vec![v6, v4],
        }),
        Message::RegistrationRequest(RegistrationRequest { epoch: 9, addresses: vec![v6.ip(), v4.ip()], port: 443 }),
        Message::RegistrationResponse(RegistrationResponse { nat: true, addresses, survey: None }),
        Message::KeepAlive,
        Message::DirectionRequest(DirectionRequest { peer: PeerRef::Name(bob.clone()), want: Want::Any }),
        Message::RouteDirectionInitiator(route),
        Message::RouteConfirmation(RouteConfirmation { leg: cid }),
        Message::RelayRequest(RelayRequest {
            epoch: 1,
            forward: PathId::of(&alice, &bob),
            backward: PathId::of(&bob, &alice),
            tunnel_key: key(),
            granted: AtEnd(None),
        }),
        Message::RelayResponse(RelayResponse { accepted: true }),
        Message::RelayEpoch(RelayEpoch { last: 1 }),
        Message::TunnelRequest(TunnelRequest {
            from: alice,
            to: bob,
            wrapped_end_key: Some(WrappedKey([5; 32])),
            relay_cid: cid,
            framing: Framing::Compact,
        }),
        Message::Error(ErrorCode::NoRelay),
    ]
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("body");
    for message in messages() {
        let kind = message.kind();
        let body = message.encode_body();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("encode", kind.name()), |b| b.iter(|| black_box(&message).encode_body()));
        group.bench_function(BenchmarkId::new("decode", kind.name()), |b| {
            b.iter(|| Message::decode_body(kind, black_box(&body)));
        });
    }
    group.finish();
}

fn header(c: &mut Criterion) {
    let header = Header {
        transaction: 1,
        spoken: cyphonic_core::version::Spoken::FIRST,
        flags: Flags(0),
        kind: Kind::Capsule,
        count: 0,
        sequence: 2,
        length: 3,
        option: 0,
        id: [4; 16],
    };
    let bytes = header.encode();
    c.bench_function("header/encode", |b| b.iter(|| black_box(&header).encode()));
    c.bench_function("header/decode", |b| b.iter(|| Header::decode(black_box(&bytes))));
}

fn frames(c: &mut Criterion) {
    // An inner packet that fills a datagram of 1,500 bytes, about.
    let length = 1364;
    let header = Header {
        transaction: 1,
        spoken: cyphonic_core::version::Spoken::FIRST,
        flags: Flags(0),
        kind: Kind::Capsule,
        count: 0,
        sequence: 2,
        length,
        option: 0,
        id: [4; 16],
    };
    let frame = [&header.encode()[..], &vec![0; usize::from(length)]].concat();
    let stream = frame.repeat(100);
    let mut group = c.benchmark_group("frames");
    group.throughput(Throughput::Bytes((stream.len() - 100 * HEADER_LEN) as u64));
    for piece in [1200, 16_384] {
        group.bench_function(BenchmarkId::new("pieces", piece), |b| {
            b.iter(|| {
                let mut reader = FrameReader::default();
                stream
                    .chunks(piece)
                    .map(|bytes| {
                        reader.push(black_box(bytes));
                        reader.by_ref().count()
                    })
                    .sum::<usize>()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bodies(&mut criterion);
    header(&mut criterion);
    frames(&mut criterion);
    criterion.final_summary();
}
