//! Both ends together, without a network.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

use super::capsule::put_varint;
use super::conduit::{Conduit, Plan};
use super::door::{DoorConfig, MAX_GUESTS_OF_ONE, MAX_HALF_OPEN, Served};
use super::http::{ALPN, connect_request, upgrade_request};
use super::{is_guest, pipe};
use crate::event::{DropReason, Event};
use crate::machine::{Input, Machine, Output, ServiceCommand, StreamId, StreamInput, StreamOutput, Tables, Transmit};
use crate::pki::{Authority, Validity};
use crate::time::Instant;
use crate::timing::Due;
use crate::timing::proxied::{DATAGRAM_WAIT, GUEST_IDLE, UPGRADE_TIMEOUT};
use crate::tls::channel::TlsChannel;
use crate::tls::{self, Environment, Identity, Roots, WallClock};
use crate::trouble::Trouble;

const DAY: u64 = 86_400;

#[derive(Debug)]
struct Clock;

impl WallClock for Clock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(1000 * DAY)
    }
}

fn environment() -> Environment {
    Environment { provider: Arc::new(rustls::crypto::ring::default_provider()), clock: Arc::new(Clock), key_log: None }
}

fn authority(number: u8) -> Authority {
    let validity = Validity::new(Duration::from_secs(DAY), Duration::from_secs(3000 * DAY)).unwrap();
    Authority::root(&[number; 32], &format!("root {number}"), validity).unwrap()
}

fn identity(authority: &Authority, name: &str) -> Identity {
    let validity = Validity::new(Duration::from_secs(DAY), Duration::from_secs(2000 * DAY)).unwrap();
    authority.issue(&name.parse().unwrap(), &[7; 32], 1, validity).unwrap()
}

fn roots(authority: &Authority) -> Roots {
    Roots::new([authority.certificate().clone()]).unwrap()
}

/// A service that returns every datagram, and answers "login" to the streams that the door passes on.
#[derive(Default)]
struct Echo {
    out: VecDeque<Output>,
    remotes: Vec<SocketAddr>,
}

impl Machine for Echo {
    type Command = ServiceCommand;

    fn feed(&mut self, _now: Instant, input: Input<ServiceCommand>) {
        match input {
            Input::Datagram { local, remote, payload } => {
                self.remotes.push(remote);
                self.out.push_back(Output::from(Transmit::new(local, remote, payload.to_vec())));
            }
            Input::Stream(id, StreamInput::Data(_)) => {
                self.out.push_back(Output::Stream(id, StreamOutput::Write(b"login".to_vec())));
            }
            _ => {}
        }
    }

    fn poll_output(&mut self) -> Output {
        self.out.pop_front().unwrap_or(Output::Wait(None))
    }

    fn next_timer(&self) -> Option<Due> {
        None
    }

    fn tables(&self) -> Tables {
        Vec::new()
    }
}

fn service(nms: &[&str], has_logins: bool) -> Served<Echo> {
    let root = authority(1);
    let door = DoorConfig {
        tls: environment(),
        roots: roots(&root),
        identity: identity(&root, "as.example"),
        port: 443,
        addresses: vec!["192.0.2.1".parse().unwrap()],
        nms: nms.iter().map(|text| text.parse().unwrap()).collect(),
        has_logins,
    };
    Served::new(Echo::default(), Some(door)).unwrap()
}

fn plan(port: u16) -> Plan {
    let root = authority(1);
    let name: crate::name::Fqdn = "as.example".parse().unwrap();
    let alice = identity(&root, "alice.example");
    let tls = tls::client_config_of(&environment(), &roots(&root), &alice, ALPN, &name).unwrap();
    Plan { tls: Arc::new(tls), outer: name.clone(), service: name, port, connect: None, has_credentials: false }
}

/// The bytes that a service wrote to a connection, whether it closed the connection, and the drops.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    bytes: Vec<u8>,
    closed: bool,
    dropped: Vec<DropReason>,
}

fn drain(served: &mut Served<Echo>, id: StreamId) -> Said {
    let mut said = Said::default();
    loop {
        match served.poll_output() {
            Output::Wait(_) => return said,
            Output::Stream(to, StreamOutput::Write(bytes)) if to == id => said.bytes.extend(bytes),
            Output::Stream(to, StreamOutput::Close) if to == id => said.closed = true,
            Output::Event(event) => {
                if let Event::Dropped(reason) = *event {
                    said.dropped.push(reason);
                }
            }
            Output::Transmit(transmit) => assert!(!is_guest(transmit.remote.ip()), "{transmit:?} reached the driver"),
            _ => {}
        }
    }
}

fn accept(now: Instant, served: &mut Served<Echo>, id: StreamId) {
    served.handle_input(now, Input::Stream(id, StreamInput::Accepted { remote: "198.51.100.7:5000".parse().unwrap() }));
}

/// Lets both ends work until neither has anything to send. Returns the datagrams at the client, and its trouble.
fn talk(now: Instant, client: &mut Conduit, served: &mut Served<Echo>) -> (Vec<Vec<u8>>, Option<Trouble>) {
    let (id, mut datagrams) = (StreamId(1 << 32 | client.stream().0), Vec::new());
    for _ in 0..50 {
        let up = client.flush(now);
        if !up.is_empty() {
            client.handle(now, StreamInput::Written(up.len()), &mut datagrams).unwrap();
            served.handle_input(now, Input::Stream(id, StreamInput::Data(up.clone())));
        }
        let said = drain(served, id);
        if !said.bytes.is_empty() {
            served.handle_input(now, Input::Stream(id, StreamInput::Written(said.bytes.len())));
            if let Err(trouble) = client.handle(now, StreamInput::Data(said.bytes), &mut datagrams) {
                return (datagrams.iter().map(|d| d.to_vec()).collect(), Some(trouble));
            }
        } else if up.is_empty() {
            break;
        }
    }
    (datagrams.iter().map(|d| d.to_vec()).collect(), None)
}

fn connected(now: Instant, plan: &Plan, served: &mut Served<Echo>, number: u64) -> Conduit {
    let mut client = Conduit::new(now, StreamId(number), plan).unwrap();
    client.handle(now, StreamInput::Connected, &mut Vec::new()).unwrap();
    accept(now, served, StreamId(1 << 32 | number));
    client
}

#[test]
fn datagrams_go_to_the_service_and_come_back_and_each_connection_has_an_address() {
    let now = Instant::ZERO;
    let mut served = service(&["192.0.2.2:443", "[2001:db8::2]:443"], false);
    let mut clients: Vec<Conduit> = (0..2).map(|n| connected(now, &plan(443), &mut served, n)).collect();
    for (client, text) in clients.iter_mut().zip(["one", "two"]) {
        client.send(now, text.as_bytes());
        client.send(now, &[9; 1452]);
        let (datagrams, trouble) = talk(now, client, &mut served);
        assert_eq!((datagrams, trouble), (vec![text.as_bytes().to_vec(), vec![9; 1452]], None));
        assert!(client.is_open());
        assert_eq!(client.take_nms().unwrap(), "192.0.2.2:443, [2001:db8::2]:443");
    }
    let remotes = &served.remotes;
    assert!(remotes.iter().all(|remote| is_guest(remote.ip())) && remotes[0] != remotes[2] && remotes[0] == remotes[1]);
}

#[test]
fn the_first_datagram_goes_two_round_trips_after_the_connection_was_asked_for() {
    let now = Instant::ZERO;
    let mut served = service(&[], false);
    let mut client = connected(now, &plan(443), &mut served, 1);
    client.send(now, b"initial");
    let id = StreamId(1 << 32 | 1);
    let hello = client.flush(now);
    served.handle_input(now, Input::Stream(id, StreamInput::Data(hello)));
    let flight = drain(&mut served, id).bytes;
    client.handle(now, StreamInput::Data(flight), &mut Vec::new()).unwrap();
    let request = client.flush(now);
    served.handle_input(now, Input::Stream(id, StreamInput::Data(request)));
    assert_eq!(served.remotes.len(), 1, "right behind Finished and request");
}

#[test]
fn another_target_than_the_services_own_port_is_refused() {
    let now = Instant::ZERO;
    for (plan, status) in [(plan(53), 403), (Plan { service: "evil.example".parse().unwrap(), ..plan(443) }, 403)] {
        let mut served = service(&[], false);
        let mut client = connected(now, &plan, &mut served, 1);
        client.send(now, b"x");
        let (datagrams, trouble) = talk(now, &mut client, &mut served);
        assert_eq!((datagrams, trouble), (vec![], Some(Trouble::Refused(status))));
        assert!(served.remotes.is_empty());
    }
}

/// A client without our code that sends `text` in TLS.
fn say(config: ClientConfig, text: &[u8], served: &mut Served<Echo>) -> (Vec<u8>, bool) {
    let id = StreamId(1 << 32);
    accept(Instant::ZERO, served, id);
    let mut client = TlsChannel::client(Arc::new(config), &"as.example".parse().unwrap()).unwrap();
    client.send(text);
    let (mut answer, mut closed) = (Vec::new(), false);
    for _ in 0..20 {
        let up = client.take_output();
        if !up.is_empty() {
            served.handle_input(Instant::ZERO, Input::Stream(id, StreamInput::Data(up)));
        }
        let said = drain(served, id);
        closed |= said.closed;
        let _ = client.receive(&said.bytes);
        answer.extend(client.read().unwrap_or_default());
    }
    (answer, closed)
}

#[test]
fn a_client_without_a_certificate_gets_what_a_plain_web_server_answers() {
    let root = authority(1);
    let name = "as.example".parse().unwrap();
    for text in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), upgrade_request(&name, 443, "as.example")] {
        let config = tls::client_config(&environment(), &roots(&root), None, ALPN).unwrap();
        let mut served = service(&["192.0.2.2:443"], true);
        let (answer, closed) = say(config, &text, &mut served);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\nContent-Type: text/html"), "{answer}");
        assert!(closed && !answer.to_lowercase().contains("cyphonic") && served.remotes.is_empty());
    }
}

#[derive(Debug, Default)]
struct Curious(Mutex<Vec<usize>>);

impl ResolvesClientCert for Curious {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().push(hints.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn the_request_for_a_certificate_names_no_ca() {
    let curious = Arc::new(Curious::default());
    let mut config = tls::client_config(&environment(), &roots(&authority(1)), None, ALPN).unwrap();
    config.client_auth_cert_resolver = curious.clone();
    say(config, b"GET / HTTP/1.1\r\n\r\n", &mut service(&[], false));
    assert_eq!(*curious.0.lock().unwrap(), [0]);
}

#[test]
fn a_client_that_offers_no_http_is_the_services_own() {
    let mut config = tls::client_config(&environment(), &roots(&authority(1)), None, b"").unwrap();
    config.alpn_protocols.clear();
    let mut served = service(&[], true);
    let id = StreamId(1 << 32);
    accept(Instant::ZERO, &mut served, id);
    let mut client = TlsChannel::client(Arc::new(config), &"as.example".parse().unwrap()).unwrap();
    let hello = client.take_output();
    for piece in hello.chunks(50) {
        assert_eq!(drain(&mut served, id), Said::default(), "not before the ClientHello is whole");
        served.handle_input(Instant::ZERO, Input::Stream(id, StreamInput::Data(piece.to_vec())));
    }
    assert_eq!(drain(&mut served, id).bytes, b"login");
}

/// A connection whose other end has accepted TCP.
fn fresh(now: Instant, connect: Option<Vec<u8>>, has_credentials: bool) -> Conduit {
    let mut client = Conduit::new(now, StreamId(1), &Plan { connect, has_credentials, ..plan(443) }).unwrap();
    client.handle(now, StreamInput::Connected, &mut Vec::new()).unwrap();
    client.flush(now);
    client
}

/// What a connection says of an end that is a service with a certificate of this CA, for this name.
fn said_of(other: &Authority, name: &str) -> Option<Trouble> {
    let now = Instant::ZERO;
    let door = DoorConfig {
        tls: environment(),
        roots: roots(other),
        identity: identity(other, name),
        port: 443,
        addresses: Vec::new(),
        nms: Vec::new(),
        has_logins: false,
    };
    let mut middlebox = Served::new(Echo::default(), Some(door)).unwrap();
    let mut client = connected(now, &plan(443), &mut middlebox, 1);
    talk(now, &mut client, &mut middlebox).1
}

#[test]
fn a_certificate_of_another_ca_is_told_from_one_for_another_name() {
    assert_eq!(said_of(&authority(2), "as.example"), Some(Trouble::Intercepted(Some("root 2".into()))));
    assert_eq!(said_of(&authority(1), "nms.example"), Some(Trouble::OtherName));
}

#[test]
fn what_stands_in_between_is_named() {
    let now = Instant::ZERO;
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://login.hotel/?u=1\r\n\r\n";
    let alert = "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{70}";
    for (bytes, trouble) in [
        (page, Trouble::CaptivePortal(None)),
        (redirect, Trouble::CaptivePortal(Some("login.hotel".into()))),
        ("<html>log in", Trouble::CaptivePortal(None)),
        ("SSH-2.0-OpenSSH_9\r\n", Trouble::NoTls),
        (alert, Trouble::TlsRefused(rustls::AlertDescription::UnrecognisedName)),
    ] {
        let said = fresh(now, None, false).handle(now, StreamInput::Data(bytes.into()), &mut Vec::new());
        assert_eq!(said, Err(trouble), "{bytes:?}");
    }
    let wants = |fields: &str| format!("HTTP/1.1 407 Proxy Authentication Required\r\n{fields}\r\n");
    let asked = |given| Trouble::ProxyWantsCredentials { given };
    for (bytes, given, trouble) in [
        (page.to_owned(), false, Trouble::CaptivePortal(None)),
        (redirect.to_owned(), false, Trouble::CaptivePortal(Some("login.hotel".into()))),
        ("HTTP/1.1 511 Log in\r\n\r\n".to_owned(), false, Trouble::CaptivePortal(None)),
        (wants("Proxy-Authenticate: Basic realm=\"a\"\r\n"), false, asked(false)),
        (wants("Proxy-Authenticate: Basic\r\n"), true, asked(true)),
        (wants(""), false, asked(false)),
        (wants("Proxy-Authenticate: Negotiate\r\n"), true, Trouble::ProxyWantsOther("Negotiate".into())),
        ("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned(), false, Trouble::ProxyRefuses(403)),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n".to_owned(), false, Trouble::ProxyRefuses(502)),
        ("SSH-2.0-OpenSSH_9\r\n".to_owned(), false, Trouble::NoProxy),
    ] {
        let mut client = fresh(now, Some(connect_request("192.0.2.1:443", None)), given);
        let said = client.handle(now, StreamInput::Data(bytes.clone().into()), &mut Vec::new());
        assert_eq!(said, Err(trouble), "{bytes:?}");
    }
}

#[test]
fn a_connection_that_ends_or_stays_silent_says_at_which_step() {
    let now = Instant::ZERO;
    let ends = |client: &mut Conduit| client.handle(now, StreamInput::Closed, &mut Vec::new()).unwrap_err();
    let mut unconnected = Conduit::new(now, StreamId(1), &plan(443)).unwrap();
    assert_eq!((unconnected.overdue(), unconnected.deadline()), (Some(Trouble::TcpSilent), now + UPGRADE_TIMEOUT));
    assert_eq!(ends(&mut unconnected), Trouble::TcpRefused);
    let unanswered = unconnected.handle(now, StreamInput::Unanswered, &mut Vec::new());
    assert_eq!(unanswered, Err(Trouble::TcpSilent), "the driver may give up first");
    let mut direct = fresh(now, None, false);
    assert_eq!((direct.overdue(), ends(&mut direct)), (Some(Trouble::Silent), Trouble::CutOff));
    let mut proxied = fresh(now, Some(connect_request("192.0.2.1:443", None)), false);
    assert_eq!((proxied.overdue(), ends(&mut proxied)), (Some(Trouble::ProxySilent), Trouble::NoProxy));
}

#[test]
fn through_a_proxy_connect_comes_first_and_what_follows_its_answer_is_tls() {
    let now = Instant::ZERO;
    let mut served = service(&[], false);
    let plan = Plan { connect: Some(connect_request("192.0.2.1:443", Some("Basic YTpi"))), ..plan(443) };
    let mut client = connected(now, &plan, &mut served, 1);
    let asked = String::from_utf8(client.flush(now)).unwrap();
    assert_eq!(
        asked,
        "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\nProxy-Authorization: Basic YTpi\r\n\r\n"
    );
    client.send(now, b"x");
    for byte in b"HTTP/1.1 200 Connection established\r\n\r\n" {
        client.handle(now, StreamInput::Data(vec![*byte]), &mut Vec::new()).unwrap();
    }
    assert_eq!(talk(now, &mut client, &mut served), (vec![b"x".to_vec()], None));
}

#[test]
fn ten_thousand_half_open_connections_do_not_keep_an_honest_node_out() {
    for has_logins in [false, true] {
        let now = Instant::ZERO;
        let mut served = service(&[], has_logins);
        for number in 0..10_000 {
            accept(now, &mut served, StreamId(1 << 33 | number));
        }
        let sizes: usize = served.tables().iter().map(|(_, size)| size).sum();
        assert!(sizes <= MAX_HALF_OPEN, "{sizes}");
        let mut client = connected(now, &plan(443), &mut served, 1);
        client.send(now, b"x");
        assert_eq!(talk(now, &mut client, &mut served), (vec![b"x".to_vec()], None));
        served.handle_input(now + UPGRADE_TIMEOUT, Input::Timeout);
        let sizes: usize = served.tables().iter().map(|(_, size)| size).sum();
        assert_eq!(sizes, 1, "the others have not asked in time");
    }
}

#[test]
fn strangers_that_connect_again_and_again_do_not_keep_out_a_node_on_a_slow_path() {
    for has_logins in [false, true] {
        let now = Instant::ZERO;
        let mut served = service(&[], has_logins);
        let strangers = |served: &mut Served<Echo>, from: u64| {
            for number in from..from + 2_000 {
                let remote = SocketAddr::new([203, 0, 113, (number % 8) as u8].into(), 5_000);
                served.handle_input(now, Input::Stream(StreamId(1 << 33 | number), StreamInput::Accepted { remote }));
            }
        };
        let mut client = connected(now, &plan(443), &mut served, 1);
        client.send(now, b"x");
        let id = StreamId(1 << 32 | 1);
        for round in 0..6 {
            strangers(&mut served, 2_000 * round);
            let up = client.flush(now);
            served.handle_input(now, Input::Stream(id, StreamInput::Data(up)));
            let down = drain(&mut served, id);
            assert!(!down.closed, "has_logins {has_logins}, round {round}");
            client.handle(now, StreamInput::Data(down.bytes), &mut Vec::new()).unwrap();
        }
        assert!(client.is_open());
    }
}

#[test]
fn a_certificate_has_few_connections_and_idle_or_revoked_ones_end() {
    let now = Instant::ZERO;
    let mut served = service(&[], false);
    let mut clients = Vec::new();
    for number in 0..=MAX_GUESTS_OF_ONE as u64 {
        let mut client = connected(now, &plan(443), &mut served, number);
        client.send(now, b"x");
        assert_eq!(talk(now, &mut client, &mut served).0.len(), 1);
        clients.push(client);
    }
    assert_eq!(served.tables()[0].1, MAX_GUESTS_OF_ONE);
    served.handle_input(now, Input::Command(ServiceCommand::Revoked(vec!["alice.example".parse().unwrap()])));
    assert_eq!(served.tables()[0].1, 0);
    let mut client = connected(now, &plan(443), &mut served, 99);
    client.send(now, b"x");
    talk(now, &mut client, &mut served);
    served.handle_input(now, Input::Command(ServiceCommand::Trust(roots(&authority(1)))));
    assert_eq!(served.tables()[0].1, 1, "its certificate is good as before");
    served.handle_input(now, Input::Command(ServiceCommand::Trust(roots(&authority(2)))));
    assert_eq!(served.tables()[0].1, 0);
    let mut served = service(&[], false);
    let mut client = connected(now, &plan(443), &mut served, 1);
    client.send(now, b"x");
    talk(now, &mut client, &mut served);
    served.handle_input(now + GUEST_IDLE, Input::Timeout);
    assert_eq!(served.tables()[0].1, 0);
}

#[test]
fn a_datagram_that_has_waited_too_long_for_tcp_is_dropped_and_later_ones_go() {
    let mut now = Instant::ZERO;
    let mut served = service(&[], false);
    let mut client = connected(now, &plan(443), &mut served, 1);
    client.send(now, b"first");
    talk(now, &mut client, &mut served);
    let mut written = 0;
    for number in 0..100_u8 {
        client.send(now, &[number; 1000]);
        written += client.flush(now).len();
    }
    assert!((pipe::WINDOW..pipe::WINDOW + 2_000).contains(&written), "{written} bytes were given to the driver");
    now += DATAGRAM_WAIT + Duration::from_millis(1);
    client.send(now, b"fresh");
    client.handle(now, StreamInput::Written(written), &mut Vec::new()).unwrap();
    let fresh = client.flush(now);
    assert!(fresh.len() < 100, "only the fresh one goes: {}", fresh.len());
    let dropped = client.take_dropped();
    assert!((60..75).contains(&dropped), "{dropped}");
    for _ in 0..1_000 {
        client.send(now, &[0; 1400]);
    }
    assert!(client.take_dropped() > 700, "the queue is bounded in bytes, too");
}

/// A client with a certificate, but without our code, that writes when it is told to.
struct Slow {
    id: StreamId,
    channel: TlsChannel,
    closed: bool,
}

impl Slow {
    /// Connected, but nothing is sent yet.
    fn new(now: Instant, served: &mut Served<Echo>, number: u64) -> Self {
        let (root, id) = (authority(1), StreamId(1 << 32 | number));
        let own = identity(&root, "mallory.example");
        let config = tls::client_config(&environment(), &roots(&root), Some(&own), ALPN).unwrap();
        accept(now, served, id);
        let channel = TlsChannel::client(Arc::new(config), &"as.example".parse().unwrap()).unwrap();
        Self { id, channel, closed: false }
    }

    fn say(&mut self, now: Instant, served: &mut Served<Echo>, text: &[u8]) {
        self.channel.send(text);
        for _ in 0..20 {
            let up = self.channel.take_output();
            if !up.is_empty() {
                self.push(now, served, up);
            }
        }
    }

    /// Sends bytes beneath TLS.
    fn push(&mut self, now: Instant, served: &mut Served<Echo>, bytes: Vec<u8>) {
        served.handle_input(now, Input::Stream(self.id, StreamInput::Data(bytes)));
        self.listen(served);
    }

    fn listen(&mut self, served: &mut Served<Echo>) {
        let said = drain(served, self.id);
        self.closed |= said.closed;
        let _ = self.channel.receive(&said.bytes);
    }
}

#[test]
fn a_capsule_that_trickles_in_holds_its_place_for_a_bounded_time_and_others_are_served() {
    let name = "as.example".parse().unwrap();
    let capsule = |kind: u64, length: u64| {
        let mut head = Vec::new();
        put_varint(&mut head, kind);
        put_varint(&mut head, length);
        head
    };
    // A datagram, one that is too long, a capsule of another type and of any length, and a head that never ends.
    let trickles =
        [capsule(0, 1_400), capsule(0, 1 << 20), capsule(0x17, 1 << 61), capsule(0, 0x3fff), capsule(1 << 61, 1 << 61)];
    for trickle in trickles {
        let mut served = service(&[], false);
        let mut slow = Slow::new(Instant::ZERO, &mut served, 1);
        slow.say(Instant::ZERO, &mut served, &upgrade_request(&name, 443, "as.example"));
        let mut honest = connected(Instant::ZERO, &plan(443), &mut served, 2);
        let mut ended = None;
        for second in 0..=GUEST_IDLE.as_secs() {
            let now = Instant::ZERO + Duration::from_secs(second);
            slow.say(now, &mut served, &[trickle.get(second as usize).copied().unwrap_or(0)]);
            honest.send(now, b"x");
            assert_eq!(talk(now, &mut honest, &mut served), (vec![b"x".to_vec()], None), "{trickle:?}, {second} s");
            served.handle_input(now, Input::Timeout);
            slow.listen(&mut served);
            ended = ended.or(slow.closed.then_some(second));
        }
        assert_eq!(ended, Some(GUEST_IDLE.as_secs()), "{trickle:?}");
        assert_eq!(served.tables()[0].1, 1, "the honest one");
    }
}

#[test]
fn a_request_or_a_handshake_that_trickles_in_is_given_up_in_time() {
    let name = "as.example".parse().unwrap();
    for has_logins in [false, true] {
        for in_tls in [false, true] {
            let mut served = service(&[], has_logins);
            let mut slow = Slow::new(Instant::ZERO, &mut served, 1);
            let request = upgrade_request(&name, 443, "as.example");
            let hello = slow.channel.take_output();
            if in_tls {
                slow.push(Instant::ZERO, &mut served, hello.clone());
            }
            let mut ended = None;
            for second in 0..20 {
                let now = Instant::ZERO + Duration::from_secs(second);
                if in_tls {
                    slow.say(now, &mut served, &request[second as usize..][..1]);
                } else {
                    slow.push(now, &mut served, vec![hello[second as usize]]);
                }
                served.handle_input(now, Input::Timeout);
                slow.listen(&mut served);
                ended = ended.or(slow.closed.then_some(second));
            }
            assert_eq!(ended, Some(UPGRADE_TIMEOUT.as_secs()), "{has_logins}, {in_tls}");
        }
    }
}

#[test]
fn nobody_pretends_by_udp_to_be_a_connection() {
    let now = Instant::ZERO;
    let mut served = service(&[], false);
    let (local, remote) = ("192.0.2.1:443".parse().unwrap(), "[100::1]:443".parse().unwrap());
    served.handle_input(now, Input::Datagram { local, remote, payload: b"x"[..].into() });
    assert!(served.remotes.is_empty());
    assert_eq!(drain(&mut served, StreamId(0)).dropped, [DropReason::Unexpected]);
}
