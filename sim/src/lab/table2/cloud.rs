//! Security of the cloud services: which tunnels can be read by an attacker with all packets and the memory of
//! services.
//!
//! Searching packets for plaintext cannot tell a service that could read from one that cannot. So the attacker here
//! uses keys: those that the services hold, and all that these keys open.

use std::sync::Arc;

use cyphonic_core::conventional::keys::{Direction, Sealing};
use cyphonic_core::conventional::seal;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::conventional::wrap;
use cyphonic_core::header::{Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::message::Message;
use cyphonic_core::name::{Fqdn, NodeId, PathId};
use cyphonic_scenarios::{Engine, Method, ZONE, first_cell};

use super::{Finding, Property, SEED};
use crate::dissect::Secrets;
use crate::dissect::quic::Opener;
use crate::error::LabError;
use crate::host::apps::MARKER;
use crate::net::packet::{Ip, Transport};
use crate::net::{TapMode, Tapped};
use crate::run::{Run, run};
use crate::world::{Watch, service_key};

const CONVENTIONAL: &str = "framing = \"udp4501\"";
const TERMINATING: &str = "framing = \"stream\"\nrelay_mode = \"terminating\"";
const BLIND: &str = "framing = \"stream\"\nrelay_mode = \"blind\"";
/// The kinds of both sites of each pattern.
const PATTERNS: [(u8, &str, &str); 3] =
    [(1, "ipv4-global", "ipv4-global"), (2, "ipv4-private", "ipv4-global"), (3, "ipv4-private", "ipv4-private")];
/// Echoes of a run, so packets with plaintext to read.
const ECHOES: usize = 5;

/// How the TRS relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// Both connections end at it, as in the paper.
    Terminating,
    /// It forwards what it cannot open.
    Blind,
}

/// What the attacker has beside every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All memory and state of AS, NMS and TRS while the tunnel is up.
    All,
    /// All memory and state of them after the nodes have logged in again.
    AllLater,
    /// The TRS's memory. In the conventional method the NMS gives it the tunnel key.
    Relay,
    /// The TRS's memory, under the other reading of the paper: the NMS gives it the temporary key as well.
    RelayWithTemporary,
}

fn text(settings: &str, (_, a, b): (u8, &str, &str)) -> String {
    format!(
        r#"title = "What services could read"
about = "Alice and Bob talk; somebody has recorded every packet, and takes the services' memory."
measure = "outcome"
engine = "events"
{settings}
link = {{ delay_ms = 10 }}

[[site]]
name = "a"
kind = "{a}"

[[site]]
name = "b"
kind = "{b}"

[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

[[step]]
do = "start"

[[step]]
do = "echo"
from = "alice"
to = "bob"
count = {ECHOES}
interval_ms = 100

[[step]]
do = "wait"
ms = 500
"#
    )
}

/// The nodes log in again, and the services keep nothing of the time before but their database.
const LATER: &str = r#"
[[step]]
do = "restart"
what = "alice"

[[step]]
do = "restart"
what = "bob"

[[step]]
do = "restart"
what = "nms"

[[step]]
do = "restart"
what = "trs"

[[step]]
do = "wait"
ms = 12000
"#;

fn scenario_text(method: Method, relay: Relay, pattern: u8, taken: Taken) -> String {
    let settings = match (method, relay) {
        (Method::Conventional, _) => CONVENTIONAL,
        (Method::Proposed, Relay::Terminating) => TERMINATING,
        (Method::Proposed, Relay::Blind) => BLIND,
    };
    let place = PATTERNS[usize::from(pattern) - 1];
    text(settings, place) + if taken == Taken::AllLater { LATER } else { "" }
}

/// How many of ten packets with an echo of a tunnel the attacker reads.
///
/// # Errors
/// Never for patterns 1 to 3.
pub fn readable(method: Method, relay: Relay, pattern: u8, taken: Taken) -> Result<usize, LabError> {
    let (run, mut secrets) = watched(&scenario_text(method, relay, pattern, taken), taken)?;
    if taken == Taken::AllLater {
        // The same run up to the logins: what TLS had logged by then, it has forgotten with the connections.
        let (_, earlier) = watched(&scenario_text(method, relay, pattern, Taken::All), Taken::All)?;
        secrets = Arc::new(secrets.without(&earlier));
    }
    let packets = recorded(&run);
    let bodies: Vec<Vec<u8>> = if method == Method::Conventional {
        let keys = match taken {
            Taken::All | Taken::AllLater => held_by_services(&run, &packets),
            Taken::Relay | Taken::RelayWithTemporary => {
                let temporary = held_by_services(&run, &packets).map(|keys| keys.temporary);
                held_by_relay(&packets).map(|tunnel| Keys {
                    // Under the paper's first reading the relay has one key, and tries that one.
                    temporary: temporary.filter(|_| taken == Taken::RelayWithTemporary).unwrap_or(tunnel.clone()),
                    tunnel,
                })
            }
        };
        keys.and_then(|keys| end_key(&keys, &packets)).map_or(Vec::new(), |key| opened_capsules(&key, &packets))
    } else {
        let mut opener = Opener::new(&secrets);
        let frames = packets.iter().filter_map(|packet| opener.open(packet)).flat_map(|opened| opened.frames);
        frames.map(|frame| frame.data.to_vec()).collect()
    };
    let mut seen: Vec<&[u8]> = bodies.iter().filter(|body| shows(body)).map(|body| inner(body)).collect();
    seen.sort_unstable();
    seen.dedup();
    Ok(seen.len())
}

/// A run, and the TLS secrets of the services that the attacker has.
fn watched(text: &str, taken: Taken) -> Result<(Run, Arc<Secrets>), LabError> {
    let scenario = first_cell("table2", text)?;
    let secrets = Arc::new(Secrets::default());
    let secrets_of = Some(services(taken));
    let watch = Watch { tap: TapMode::Keep, secrets: Some(secrets.clone()), secrets_of, ..Watch::default() };
    Ok((run(&scenario, SEED, Engine::Events, &watch), secrets))
}

/// Hosts whose TLS secrets the attacker has.
fn services(taken: Taken) -> Vec<String> {
    let all: &[&str] = if matches!(taken, Taken::All | Taken::AllLater) { &["as", "nms", "trs"] } else { &["trs"] };
    all.iter().map(|&name| name.to_owned()).collect()
}

/// Every UDP payload of every wire, by the time at which it was sent.
fn recorded(run: &Run) -> Vec<Vec<u8>> {
    let network = run.world.network();
    let mut all: Vec<Tapped> = network.directions().flat_map(|wire| network.take_tapped(wire)).collect();
    all.sort_by_key(|tapped| tapped.departs);
    let payload = |tapped: Tapped| {
        let ip = Ip::parse(&tapped.packet)?;
        matches!(ip.transport(), Some(Transport::Udp { .. })).then(|| ip.payload.get(8..).map(<[u8]>::to_vec))?
    };
    all.into_iter().filter_map(payload).collect()
}

/// Whether these bytes have an application's plaintext in them.
fn shows(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER)
}

/// The tunnelled packet, at the end: what precedes it differs by wire and framing. An echo of 56 bytes in IPv6.
fn inner(body: &[u8]) -> &[u8] {
    &body[body.len().saturating_sub(40 + 8 + 56)..]
}

/// The two keys that the NMS makes for a tunnel of the conventional method.
#[derive(Clone)]
struct Keys {
    tunnel: Key128,
    temporary: Key128,
}

/// The keys of a tunnel, as AS and NMS can find them: the common key, which both keep in the database, opens the
/// registration, and its keys open the Route Direction.
fn held_by_services(run: &Run, packets: &[Vec<u8>]) -> Option<Keys> {
    let alice: Fqdn = format!("alice.{ZONE}").parse().expect("a name");
    let common = run.world.store.common_key(NodeId::of(&alice)).ok()??;
    let opened = |key: &mut Session| -> Vec<Message> {
        packets.iter().filter_map(|packet| Some(key.open_unnumbered(&mut packet.clone()).ok()?.1)).collect()
    };
    let requests = opened(&mut Session::new(&common, Direction::FromResponder));
    let epochs = requests.into_iter().filter_map(|message| match message {
        Message::RegistrationRequest(request) => Some(request.epoch),
        _ => None,
    });
    epochs.into_iter().find_map(|epoch| {
        let told = opened(&mut Session::of_registration(&common, epoch, Direction::FromInitiator));
        told.into_iter().find_map(|message| match message {
            Message::RouteDirectionInitiator(direction) => {
                direction.keys.map(|keys| Keys { tunnel: keys.tunnel, temporary: keys.temporary })
            }
            _ => None,
        })
    })
}

/// The tunnel key, as the TRS has it from the NMS.
fn held_by_relay(packets: &[Vec<u8>]) -> Option<Key128> {
    let service = Sealing::new(&service_key(SEED));
    packets.iter().find_map(|packet| {
        let mut copy = packet.clone();
        let (header, range) = seal::open(&service, &mut copy).ok()?;
        match Message::decode_body(header.kind, &copy[range]).ok()? {
            Message::RelayRequest(request) => Some(request.tunnel_key),
            _ => None,
        }
    })
}

/// The end key of a tunnel: the tunnel key opens the Tunnel Request, the temporary key unwraps what is in it.
fn end_key(keys: &Keys, packets: &[Vec<u8>]) -> Option<Key128> {
    packets.iter().find_map(|packet| {
        let mut control = Session::new(&keys.tunnel, Direction::FromResponder);
        let (header, message) = control.open_unnumbered(&mut packet.clone()).ok()?;
        let Message::TunnelRequest(request) = message else { return None };
        wrap::unwrap(&keys.temporary, &request.wrapped_end_key?, PathId(header.id)).ok()
    })
}

/// What an end key opens.
fn opened_capsules(key: &Key128, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for packet in packets.iter().filter(|packet| Header::decode(packet).is_ok_and(|h| h.kind == Kind::Capsule)) {
        for ours in [Direction::FromInitiator, Direction::FromResponder] {
            let mut copy = packet.clone();
            if let Ok((_, range)) = Session::new(key, ours).open(&mut copy) {
                bodies.push(copy[range].to_vec());
            }
        }
    }
    bodies
}

/// Method, relay, pattern, what was taken, its words, and whether the verdict counts it.
fn cases() -> Vec<(Method, Relay, u8, Taken, &'static str, bool)> {
    let mut all = Vec::new();
    for (method, relay) in
        [(Method::Conventional, Relay::Blind), (Method::Proposed, Relay::Terminating), (Method::Proposed, Relay::Blind)]
    {
        let counts = method == Method::Conventional || relay == Relay::Terminating;
        for pattern in 1..=3 {
            all.push((method, relay, pattern, Taken::All, "all memory of AS NMS and TRS", counts));
            all.push((method, relay, pattern, Taken::AllLater, "all memory after both nodes logged in again", counts));
        }
        all.push((method, relay, 3, Taken::Relay, "memory of the TRS alone", counts));
        if method == Method::Conventional {
            let words = "memory of the TRS alone if the NMS gives it the temporary key too";
            all.push((method, relay, 3, Taken::RelayWithTemporary, words, false));
        }
    }
    all
}

pub(super) fn texts() -> String {
    cases()
        .into_iter()
        .map(|(method, relay, pattern, taken, ..)| scenario_text(method, relay, pattern, taken))
        .collect()
}

pub(super) fn findings() -> Result<Vec<Finding>, LabError> {
    let mut findings = Vec::new();
    for (method, relay, pattern, taken, words, counts) in cases() {
        let read = readable(method, relay, pattern, taken)?;
        let relay = match (method, relay) {
            (Method::Conventional, _) => "",
            (_, Relay::Terminating) => "; terminating relay",
            (_, Relay::Blind) => "; blind relay",
        };
        findings.push(Finding {
            property: Property::Cloud,
            method: method.name(),
            case: format!("{words}; pattern {pattern}{relay}"),
            counts,
            holds: read == 0,
            value: format!("{read} of {} packets read", 2 * ECHOES),
        });
    }
    Ok(findings)
}
