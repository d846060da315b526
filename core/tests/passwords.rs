//! Passwords at the AS: a client that tries many of them is refused before they are checked.

mod common;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::auth::{Auth, AuthConfig};
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::header::Flags;
use cyphonic_core::machine::{Input, Machine, Output, StreamId, StreamInput, StreamOutput};
use cyphonic_core::message::{Credential, ErrorCode, FrameReader, LoginRequest, Message};
use cyphonic_core::name::NodeId;
use cyphonic_core::quic::QuicOptions;
use cyphonic_core::store::{Device, MemoryStore, PasswordHash, Store};
use cyphonic_core::time::Instant;
use cyphonic_core::tls::channel::TlsChannel;
use cyphonic_core::tls::{self, Environment, Roots};

use common::{Credentials, environment, name};

struct Scene {
    auth: Auth,
    environment: Environment,
    roots: Roots,
    streams: u64,
    dropped: Vec<DropReason>,
}

impl Scene {
    fn new() -> Self {
        Self::with_password("right")
    }

    fn with_password(password: &str) -> Self {
        let credentials = Credentials::new();
        let store = MemoryStore::default();
        let password = PasswordHash::new(password, [3; 16], NonZeroU32::new(600_000).unwrap());
        let device = Device { name: name("a"), password: Some(password), certificate_login: false };
        store.put_device(&device).unwrap();
        let config = AuthConfig {
            quic: credentials.quic("as", QuicOptions::default()),
            nms_conventional: Vec::new(),
            nms_proposed: Vec::new(),
            store: Arc::new(store),
            seed: [4; 32],
        };
        let (environment, roots) = (environment(), credentials.roots());
        Self { auth: Auth::new(config).unwrap(), environment, roots, streams: 1 << 32, dropped: Vec::new() }
    }

    /// What the AS answers to this password.
    fn log_in(&mut self, second: u64, from: &str, password: &str) -> Message {
        let now = Instant::ZERO + Duration::from_secs(second);
        let tls = tls::client_config(&self.environment, &self.roots, None, b"").unwrap();
        let mut client = TlsChannel::client(Arc::new(tls), &name("as")).unwrap();
        let device = NodeId::of(&name("a"));
        let request = LoginRequest { device, credential: Credential::Password(password.to_owned()) };
        client.send(&Message::LoginRequest(request).to_bytes(1, Flags(0), 0, 0, device.0));
        let id = StreamId(self.streams);
        self.streams += 1;
        let remote: SocketAddr = format!("{from}:1").parse().unwrap();
        self.auth.handle_input(now, Input::Stream(id, StreamInput::Accepted { remote }));
        let mut reader = FrameReader::default();
        loop {
            let bytes = client.take_output();
            assert!(!bytes.is_empty(), "the AS did not answer");
            self.auth.handle_input(now, Input::Stream(id, StreamInput::Data(bytes)));
            loop {
                match self.auth.poll_output() {
                    Output::Stream(_, StreamOutput::Write(bytes)) => client.receive(&bytes).unwrap(),
                    Output::Event(event) => {
                        if let Event::Dropped(reason) = *event {
                            self.dropped.push(reason);
                        }
                    }
                    Output::Wait(_) => break,
                    _ => {}
                }
            }
            if let Some(plaintext) = client.read() {
                reader.push(&plaintext);
            }
            if let Some(frame) = reader.next() {
                let (header, body) = frame.unwrap();
                return Message::decode_body(header.kind, &body).unwrap();
            }
        }
    }
}

#[test]
fn a_guesser_is_refused_unheard_after_a_few_tries_and_keeps_nobody_else_out() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        assert_eq!(scene.log_in(0, "192.0.2.1", "wrong"), Message::Error(ErrorCode::Unauthorized));
    }
    for _ in 0..20 {
        assert_eq!(scene.log_in(0, "192.0.2.1", "right"), Message::Error(ErrorCode::Unavailable));
    }
    assert_eq!(scene.dropped, [DropReason::TooManyPasswords; 20]);
    assert!(matches!(scene.log_in(0, "198.51.100.1", "right"), Message::LoginResponse(_)), "the device itself");
    assert!(matches!(scene.log_in(5, "192.0.2.1", "right"), Message::LoginResponse(_)), "five seconds later");
}

#[test]
fn an_empty_password_logs_nobody_in_though_the_device_was_given_it() {
    let mut scene = Scene::with_password("");
    assert_eq!(scene.log_in(0, "192.0.2.1", ""), Message::Error(ErrorCode::Unauthorized));
}

#[test]
fn a_device_that_logged_in_before_is_served_beside_guessers_at_many_addresses() {
    let mut scene = Scene::new();
    assert!(matches!(scene.log_in(0, "198.51.100.1", "right"), Message::LoginResponse(_)));
    for host in 1..=20 {
        scene.log_in(10, &format!("192.0.2.{host}"), "wrong");
    }
    assert_eq!(scene.log_in(10, "203.0.113.1", "right"), Message::Error(ErrorCode::Unavailable), "a stranger waits");
    assert!(matches!(scene.log_in(10, "198.51.100.1", "right"), Message::LoginResponse(_)));
}
