//! Whom a TLS session believes, seen through the login channel: scenes between a node and the AS.
//!
//! Randomness comes from the operating system here; nothing asserted depends on it.

use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::{Authority, Validity};
use cyphonic_core::tls::channel::{MAX_UNREAD, MAX_UNSENT, TlsChannel, TlsFailure};
use cyphonic_core::tls::{self, ClientAuth, Environment, Identity, Roots, TlsError, WallClock, list_facts};
use rustls::{AlertDescription, CertificateError, InvalidMessage};

const ALPN: &[u8] = b"login";
const NOW: u64 = 1_000_000;

#[derive(Debug)]
struct Clock(u64);

impl WallClock for Clock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(self.0)
    }
}

fn environment_at(seconds: u64) -> Environment {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Environment { provider, clock: Arc::new(Clock(seconds)), key_log: None }
}

fn name(text: &str) -> Fqdn {
    text.parse().unwrap()
}

fn validity(not_before: u64, not_after: u64) -> Validity {
    Validity::new(Duration::from_secs(not_before), Duration::from_secs(not_after)).unwrap()
}

/// A root and an AS below it, valid around [`NOW`]; another number, another root.
struct World {
    root: Authority,
    authority: Authority,
}

impl World {
    fn new(number: u8) -> Self {
        Self::named(number, &format!("root {number}"))
    }

    fn named(number: u8, root: &str) -> Self {
        let around = validity(NOW - 1_000, NOW + 1_000);
        let root = Authority::root(&[number; 32], root, around).unwrap();
        let authority = root.intermediate(&[number + 1; 32], "as", around).unwrap();
        Self { root, authority }
    }

    fn roots(&self) -> Roots {
        Roots::new([self.root.certificate().clone()]).unwrap()
    }

    fn identity(&self, owner: &str) -> Identity {
        self.identity_valid(owner, validity(NOW - 500, NOW + 500))
    }

    fn identity_valid(&self, owner: &str, validity: Validity) -> Identity {
        self.authority.issue(&name(owner), &[77; 32], 1, validity).unwrap()
    }
}

/// Both ends of a session, and the roots and the time each of them goes by.
struct Scene {
    client_identity: Option<Identity>,
    server_identity: Identity,
    client_roots: Roots,
    server_roots: Roots,
    client_auth: ClientAuth,
    client_time: u64,
    server_time: u64,
}

impl Scene {
    /// Alice, with a good certificate, logs in to the AS.
    fn good() -> Self {
        let world = World::new(1);
        Self {
            client_identity: Some(world.identity("alice.example")),
            server_identity: world.identity("as.example"),
            client_roots: world.roots(),
            server_roots: world.roots(),
            client_auth: ClientAuth::Required,
            client_time: NOW,
            server_time: NOW,
        }
    }

    fn ends(&self) -> (TlsChannel, TlsChannel) {
        let client_env = environment_at(self.client_time);
        let server_env = environment_at(self.server_time);
        let client = tls::client_config(&client_env, &self.client_roots, self.client_identity.as_ref(), ALPN).unwrap();
        let server =
            tls::server_config(&server_env, &self.server_roots, &self.server_identity, self.client_auth, ALPN).unwrap();
        let client = TlsChannel::client(Arc::new(client), &name("as.example")).unwrap();
        (client, TlsChannel::server(Arc::new(server)).unwrap())
    }

    /// Runs the session until it is silent.
    fn play(&self) -> (TlsChannel, TlsChannel) {
        let (mut client, mut server) = self.ends();
        exchange(&mut client, &mut server);
        (client, server)
    }

    fn client_failure(&self) -> TlsFailure {
        let (client, server) = self.play();
        assert!(!server.handshake_complete());
        assert_eq!(client.peer_names(), []);
        client.failure().expect("the client refuses").clone()
    }

    fn server_failure(&self) -> TlsFailure {
        let (client, server) = self.play();
        assert!(matches!(client.failure(), Some(TlsFailure::Refused(_))), "{:?}", client.failure());
        assert_eq!(server.peer_names(), []);
        server.failure().expect("the server refuses").clone()
    }
}

/// Carries bytes both ways until there are none. What comes of them, the ends know.
fn exchange(client: &mut TlsChannel, server: &mut TlsChannel) {
    loop {
        let (up, down) = (client.take_output(), server.take_output());
        if up.is_empty() && down.is_empty() {
            return;
        }
        let _ = server.receive(&up);
        let _ = client.receive(&down);
    }
}

#[test]
fn a_node_and_the_as_know_each_other_by_name_and_exchange_messages() {
    let (mut client, mut server) = Scene::good().play();
    assert!(client.handshake_complete() && server.handshake_complete());
    assert_eq!(client.peer_names(), [name("as.example")]);
    assert_eq!(server.peer_names(), [name("alice.example")]);
    client.send(b"login request");
    exchange(&mut client, &mut server);
    assert_eq!(server.read().unwrap(), b"login request");
    assert_eq!(server.read(), None);
    server.send(b"login response");
    server.close();
    exchange(&mut client, &mut server);
    assert_eq!(client.read().unwrap(), b"login response");
    assert!(client.peer_closed() && !server.peer_closed());
}

#[test]
fn a_request_sent_before_the_handshake_waits_for_it_and_arrives() {
    let (mut client, mut server) = Scene::good().ends();
    client.send(b"early");
    exchange(&mut client, &mut server);
    assert_eq!(server.read().unwrap(), b"early");
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let (mut client, mut server) = Scene::good().ends();
    client.send(b"slow");
    for _ in 0..4 {
        client.take_output().iter().for_each(|byte| server.receive(&[*byte]).unwrap());
        server.take_output().iter().for_each(|byte| client.receive(&[*byte]).unwrap());
    }
    assert_eq!(server.read().unwrap(), b"slow");
}

#[test]
fn a_client_without_a_certificate_is_let_in_only_where_that_is_optional() {
    let mut scene = Scene { client_identity: None, client_auth: ClientAuth::Optional, ..Scene::good() };
    let (client, server) = scene.play();
    assert!(client.handshake_complete() && server.handshake_complete());
    assert_eq!(server.peer_names(), []);
    scene.client_auth = ClientAuth::Required;
    assert_eq!(scene.server_failure(), TlsFailure::NoCertificate);
}

#[test]
fn a_chain_to_another_root_is_refused_on_both_sides() {
    // The second one even calls itself what the right one is called.
    let others = [
        (World::new(50), TlsFailure::Untrusted(CertificateError::UnknownIssuer)),
        (World::named(50, "root 1"), TlsFailure::Untrusted(CertificateError::BadSignature)),
    ];
    for (other, refusal) in others {
        let scene = Scene { server_identity: other.identity("as.example"), ..Scene::good() };
        assert_eq!(scene.client_failure(), refusal);
        for client_auth in [ClientAuth::Required, ClientAuth::Optional] {
            let client_identity = Some(other.identity("alice.example"));
            let scene = Scene { client_identity, client_auth, ..Scene::good() };
            assert_eq!(scene.server_failure(), refusal);
        }
    }
}

#[test]
fn a_chain_without_its_intermediate_authority_is_refused() {
    let mut identity = World::new(1).identity("alice.example");
    identity.chain.truncate(1);
    let scene = Scene { client_identity: Some(identity), ..Scene::good() };
    assert_eq!(scene.server_failure(), TlsFailure::Untrusted(CertificateError::UnknownIssuer));
}

#[test]
fn an_expired_certificate_is_refused_on_both_sides() {
    let expired = |failure| {
        assert!(
            matches!(failure, TlsFailure::Untrusted(CertificateError::ExpiredContext { .. })),
            "not expired but {failure:?}"
        );
    };
    let old = validity(NOW - 500, NOW - 1);
    let scene = Scene { server_identity: World::new(1).identity_valid("as.example", old), ..Scene::good() };
    expired(scene.client_failure());
    let client_identity = Some(World::new(1).identity_valid("alice.example", old));
    expired(Scene { client_identity, ..Scene::good() }.server_failure());
}

/// [`World::new`] gives every certificate the serial number 1.
fn without(world: &World, serial: u64) -> Roots {
    let list = world.authority.revoke(&[(serial, Duration::from_secs(NOW - 9))], 1, validity(NOW - 9, NOW + 9));
    world.roots().revoking([list.unwrap()])
}

#[test]
fn a_revoked_certificate_is_refused_on_both_sides_and_another_is_not() {
    let world = World::new(1);
    let scene = Scene { client_roots: without(&world, 1), ..Scene::good() };
    assert_eq!(scene.client_failure(), TlsFailure::Untrusted(CertificateError::Revoked));
    for client_auth in [ClientAuth::Required, ClientAuth::Optional] {
        let scene = Scene { server_roots: without(&world, 1), client_auth, ..Scene::good() };
        assert_eq!(scene.server_failure(), TlsFailure::Untrusted(CertificateError::Revoked));
    }
    let scene = Scene { client_roots: without(&world, 2), server_roots: without(&world, 2), ..Scene::good() };
    assert!(scene.play().1.handshake_complete());
}

#[test]
fn a_list_of_two_hundred_thousand_is_read_and_a_delta_adds_to_it() {
    let world = World::new(1);
    let env = environment_at(NOW);
    let around = || validity(NOW - 9, NOW + 9);
    let entry = |serial: u64| (serial, Duration::from_secs(NOW - 9));
    // [`World::new`] gives every certificate the serial number 1.
    let many: Vec<_> = (1..=200_000_u64).map(|n| entry(n * 46_116_860_184_273)).collect();
    let list = world.authority.revoke(&many, 7, around()).unwrap();
    let (alice, roots) = (world.identity("alice.example").chain, world.roots());

    // `benches/revoked.rs` and `cyphonic`'s tests measure how long it takes.
    let revoking = roots.revoking([list]);
    revoking.judge(&env).unwrap().check(&alice).unwrap();
    let delta = world.authority.revoke_since(7, &[entry(1)], 8, around()).unwrap();
    let refused = revoking.revoking_also([delta]).judge(&env).unwrap().check(&alice);
    assert!(refused.is_err_and(|error| error.to_string().contains("Revoked")));
    assert!(revoking.judge(&env).unwrap().check(&alice).is_ok(), "the earlier roots are as they were");
}

#[test]
fn every_certificate_of_a_list_is_found_and_no_other() {
    let world = World::new(1);
    let env = environment_at(NOW);
    let serials = [0, 1, 2, 127, 128, 255, 256, 65_535, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];
    let chain = |serial| world.authority.issue(&name("a.example"), &[7; 32], serial, validity(NOW - 9, NOW + 9));
    for listed in serials {
        let judge = without(&world, listed).judge(&env).unwrap();
        for serial in serials {
            let is_good = judge.check(&chain(serial).unwrap().chain).is_ok();
            assert_eq!(is_good, serial != listed, "{serial} by a list with {listed}");
        }
    }
}

#[test]
fn a_delta_list_of_another_key_or_with_a_changed_entry_revokes_nothing_and_is_no_list() {
    let (world, other) = (World::new(1), World::named(50, "root 1"));
    let env = environment_at(NOW);
    let chain = world.identity("alice.example").chain;
    let around = || validity(NOW - 9, NOW + 9);
    let delta = |by: &World, serial| {
        by.authority.revoke_since(1, &[(serial, Duration::from_secs(NOW - 9))], 2, around()).unwrap()
    };
    let facts = list_facts(&delta(&world, 5)).unwrap();
    assert_eq!((facts.number, facts.base, facts.count), (2, Some(1), 1));
    let issuer = facts.issuer;
    let judged = |list| without(&world, 2).revoking_also([list]).judge(&env).unwrap().check(&chain);
    assert!(judged(delta(&world, 5)).is_ok());
    assert!(judged(delta(&world, 1)).is_err_and(|error| error.to_string().contains("Revoked")));
    assert!(judged(delta(&other, 1)).is_err_and(|error| !error.to_string().contains("Revoked")));
    let good = delta(&world, 5).to_vec();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let facts = list_facts(&changed.clone().into());
        let roots = without(&world, 2).revoking_also([changed.into()]);
        match roots.judge(&env).and_then(|judge| judge.check(&chain)) {
            // It is another issuer's list now, and says nothing of this one's certificates.
            Ok(()) => assert!(facts.is_some_and(|facts| facts.issuer != issuer), "byte {at}"),
            Err(error) => assert!(!error.to_string().contains("Revoked"), "byte {at}: {error}"),
        }
    }
}

#[test]
fn who_judges_by_a_list_of_another_key_says_so_instead_of_good_or_revoked() {
    let (world, other) = (World::new(1), World::named(50, "root 1"));
    let chain = world.identity("alice.example").chain;
    let env = environment_at(NOW);
    let list = other.authority.revoke(&[], 1, validity(NOW - 9, NOW + 9)).unwrap();
    assert!(world.roots().judge(&env).unwrap().check(&chain).is_ok());
    assert!(world.roots().revoking([list]).judge(&env).unwrap().check(&chain).is_err());
    assert!(other.roots().judge(&env).unwrap().check(&chain).is_err());
    assert!(matches!(world.roots().judge(&env).unwrap().check(&[]), Err(TlsError::EmptyChain)));
}

#[test]
fn the_clock_that_is_given_decides_and_a_certificate_can_be_too_new() {
    let early = Scene { client_time: NOW - 501, ..Scene::good() };
    let failure = early.client_failure();
    assert!(matches!(failure, TlsFailure::Untrusted(CertificateError::NotValidYetContext { .. })), "{failure:?}");
    for edge in [NOW - 500, NOW + 500] {
        let scene = Scene { client_time: edge, server_time: edge, ..Scene::good() };
        assert!(scene.play().1.handshake_complete(), "valid at both ends of its time");
    }
    let late = Scene { server_time: NOW + 501, ..Scene::good() };
    let failure = late.server_failure();
    assert!(matches!(failure, TlsFailure::Untrusted(CertificateError::ExpiredContext { .. })), "{failure:?}");
}

#[test]
fn a_server_with_another_name_is_refused() {
    let scene = Scene { server_identity: World::new(1).identity("mallory.example"), ..Scene::good() };
    let failure = scene.client_failure();
    let wrong_name = |e: &CertificateError| matches!(e, CertificateError::NotValidForNameContext { .. });
    assert!(matches!(&failure, TlsFailure::Untrusted(e) if wrong_name(e)), "{failure:?}");
}

#[test]
fn the_as_cannot_make_further_authorities() {
    let world = World::new(1);
    let around = validity(NOW - 500, NOW + 500);
    let third = world.authority.intermediate(&[9; 32], "third", around).unwrap();
    let client_identity = Some(third.issue(&name("alice.example"), &[10; 32], 1, around).unwrap());
    let failure = Scene { client_identity, ..Scene::good() }.server_failure();
    assert!(matches!(failure, TlsFailure::Untrusted(_)), "{failure:?}");
}

#[test]
fn a_leaf_cannot_act_as_an_authority() {
    let world = World::new(1);
    let leaf = world.identity("alice.example");
    let around = validity(NOW - 500, NOW + 500);
    // The authority with the leaf's key and subject signs; the chain shows the leaf in its place.
    let false_authority = world.root.intermediate(&[77; 32], "alice", around).unwrap();
    let mut chain = false_authority.issue(&name("mallory.example"), &[10; 32], 1, around).unwrap().chain;
    chain[1] = leaf.chain[0].clone();
    chain.push(leaf.chain[1].clone());
    let key = zeroize::Zeroizing::new(
        false_authority.issue(&name("mallory.example"), &[10; 32], 1, around).unwrap().key_pkcs8().to_vec(),
    );
    let client_identity = Some(Identity::new(name("mallory.example"), chain, key).unwrap());
    let failure = Scene { client_identity, ..Scene::good() }.server_failure();
    assert!(matches!(failure, TlsFailure::Untrusted(_)), "{failure:?}");
}

#[test]
fn an_identity_has_a_chain_that_names_it_and_a_key_that_fits() {
    let world = World::new(1);
    let alice = world.identity("alice.example");
    let key = || zeroize::Zeroizing::new(alice.key_pkcs8().to_vec());
    let empty = Identity::new(name("alice.example"), Vec::new(), key());
    assert!(matches!(empty, Err(TlsError::EmptyChain)));
    let misnamed = Identity::new(name("bob.example"), alice.chain.clone(), key());
    assert!(matches!(misnamed, Err(TlsError::NotNamed(_))));
    let around = validity(NOW - 500, NOW + 500);
    let other_key = world.authority.issue(&name("alice.example"), &[78; 32], 1, around).unwrap();
    let foreign = zeroize::Zeroizing::new(other_key.key_pkcs8().to_vec());
    let mismatched = Identity::new(name("alice.example"), alice.chain.clone(), foreign).unwrap();
    let config = tls::client_config(&environment_at(NOW), &world.roots(), Some(&mismatched), ALPN);
    assert!(matches!(config, Err(TlsError::Rustls(_))));
}

#[test]
fn the_one_cipher_suite_is_aes_128_gcm_and_without_it_there_is_no_configuration() {
    let world = World::new(1);
    let mut env = environment_at(NOW);
    let config = tls::client_config(&env, &world.roots(), None, ALPN).unwrap();
    let suites: Vec<_> =
        config.crypto_provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
    assert_eq!(suites, [rustls::CipherSuite::TLS13_AES_128_GCM_SHA256]);
    Arc::make_mut(&mut env.provider).cipher_suites.clear();
    assert!(matches!(tls::client_config(&env, &world.roots(), None, ALPN), Err(TlsError::NoSuite)));
}

#[test]
fn the_same_settings_serve_quic_and_leave_no_ticket_and_no_early_data() {
    let scene = Scene::good();
    let env = environment_at(NOW);
    let client = tls::client_config(&env, &scene.client_roots, scene.client_identity.as_ref(), ALPN).unwrap();
    let server =
        tls::server_config(&env, &scene.server_roots, &scene.server_identity, ClientAuth::Required, ALPN).unwrap();
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!client.enable_early_data && !server.session_storage.can_cache());
    quinn_proto::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    quinn_proto::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
}

#[test]
fn secrets_are_written_down_only_for_whoever_asked() {
    #[derive(Debug, Default)]
    struct Log(std::sync::Mutex<Vec<String>>);
    impl rustls::KeyLog for Log {
        fn log(&self, label: &str, _client_random: &[u8], _secret: &[u8]) {
            self.0.lock().unwrap().push(label.to_owned());
        }
    }
    let (world, log) = (World::new(1), Arc::new(Log::default()));
    let env = Environment { key_log: Some(log.clone()), ..environment_at(NOW) };
    let config = tls::client_config(&env, &world.roots(), Some(&world.identity("alice.example")), ALPN).unwrap();
    let mut client = TlsChannel::client(Arc::new(config), &name("as.example")).unwrap();
    let (_, mut server) = Scene::good().ends();
    exchange(&mut client, &mut server);
    assert!(log.0.lock().unwrap().iter().any(|label| label == "CLIENT_TRAFFIC_SECRET_0"));
    let silent = tls::client_config(&environment_at(NOW), &world.roots(), None, ALPN).unwrap();
    assert!(!silent.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
}

#[test]
fn different_application_protocols_do_not_meet() {
    let world = World::new(1);
    let config = tls::client_config(&environment_at(NOW), &world.roots(), None, b"other").unwrap();
    let mut client = TlsChannel::client(Arc::new(config), &name("as.example")).unwrap();
    let (_, mut server) = Scene::good().ends();
    exchange(&mut client, &mut server);
    assert_eq!(client.failure(), Some(&TlsFailure::Refused(AlertDescription::NoApplicationProtocol)));
}

#[test]
fn a_change_of_any_byte_of_a_record_is_a_named_failure_for_good() {
    let length = {
        let (mut client, _) = Scene::good().play();
        client.send(b"login request");
        client.take_output().len()
    };
    // Bytes 0 to 2, outer type and version, say nothing: the true type is encrypted (RFC 8446 §5.2). See the next test.
    for position in 3..length {
        let (mut client, mut server) = Scene::good().play();
        client.send(b"login request");
        let mut record = client.take_output();
        record[position] ^= 1;
        let first = server.receive(&record);
        // A length made greater only makes the server wait: the bytes that come next complete the record, and break it.
        let answer = first.and_then(|()| server.receive(&vec![0; 20_000]));
        assert!(matches!(answer, Err(TlsFailure::Protocol(_))), "byte {position}: {answer:?}");
        assert_eq!(server.read(), None, "byte {position}");
        assert_eq!(server.receive(b"more"), answer);
        assert!(!server.handshake_complete());
    }
}

#[test]
fn a_change_of_a_records_outer_type_or_version_never_changes_what_is_read() {
    for position in 0..3 {
        for bit in 0..8 {
            let (mut client, mut server) = Scene::good().play();
            client.send(b"login request");
            let mut record = client.take_output();
            record[position] ^= 1 << bit;
            match server.receive(&record) {
                Ok(()) => assert_eq!(server.read().unwrap(), b"login request", "byte {position} bit {bit}"),
                Err(_) => assert_eq!(server.read(), None, "byte {position} bit {bit}"),
            }
        }
    }
}

#[test]
fn bytes_that_are_no_tls_are_a_named_failure() {
    let (_, mut server) = Scene::good().ends();
    let failure = server.receive(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert_eq!(failure, TlsFailure::Protocol(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)));
    assert!(!server.take_output().is_empty(), "the peer is told");
}

#[test]
fn a_damaged_handshake_never_completes_and_never_panics() {
    let (mut client, _) = Scene::good().ends();
    let hello = client.take_output();
    for position in 0..hello.len() {
        let (_, mut server) = Scene::good().ends();
        let mut damaged = hello.clone();
        damaged[position] ^= 0x55;
        let _ = server.receive(&damaged);
        let flight = server.take_output();
        let (mut other_client, _) = Scene::good().ends();
        other_client.take_output();
        let _ = other_client.receive(&flight);
        let _ = server.receive(&other_client.take_output());
        assert!(!server.handshake_complete(), "byte {position}");
    }
}

#[test]
fn what_waits_is_bounded_in_both_directions() {
    let (mut client, _) = Scene::good().ends();
    client.send(&vec![0; MAX_UNSENT]);
    assert_eq!(client.failure(), None);
    client.send(&[0]);
    assert_eq!(client.failure(), Some(&TlsFailure::Overflow));

    let (mut client, mut server) = Scene::good().play();
    let mut sent = 0;
    let answer = loop {
        client.send(&[0; 10_000]);
        sent += 10_000;
        let answer = server.receive(&client.take_output());
        if answer.is_err() {
            break answer;
        }
    };
    assert_eq!(answer, Err(TlsFailure::Overflow));
    assert!(sent > MAX_UNREAD && sent <= MAX_UNREAD + 10_000);
    assert!(server.read().unwrap().len() <= MAX_UNREAD);
}
