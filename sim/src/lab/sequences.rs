//! The messages of the paper's Figures 2 to 9, and the packets of its Figure 12, as our own runs give them.
//!
//! Each scene is one file of messages in `results/sim/sequences`, which `paper-figs` draws. Figure 12 is two files: the
//! packets that a capture at Node A lists, and the fields of the first of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cyphonic_core::event::{Event, Protection};
use cyphonic_core::header::HEADER_LEN;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, first_cell, two_nodes};
use cyphonic_sequence::{Arrow, Sequence, quoted};

use crate::dissect::Secrets;
use crate::dissect::frame::FrameKind;
use crate::dissect::quic::{OpenedPacket, Opener};
use crate::error::LabError;
use crate::hex;
use crate::host::apps::MARKER;
use crate::manifest::{Manifest, Request};
use crate::net::packet::{Ip, Transport};
use crate::net::{TapMode, Tapped};
use crate::run::{Run, run};
use crate::world::Watch;

/// The folder of these files, within the folder of the results.
pub const FOLDER: &str = "sequences";
const SEED: u64 = 1;
/// All links have the same delay, so that messages are in the order of cause and effect.
const LINK: &str = "{ delay_ms = 10 }";
const GLOBAL: &str = "ipv4-global";
const PRIVATE: &str = "ipv4-private";

/// A part of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Alice's login and registration.
    Joining,
    /// Alice's tunnel, from her Direction Request on.
    Building,
}

/// One figure.
struct Scene {
    /// The file's stem.
    name: &'static str,
    /// What it shows.
    title: &'static str,
    settings: &'static str,
    sites: [&'static str; 2],
    part: Part,
}

const fn scene(
    name: &'static str,
    title: &'static str,
    settings: &'static str,
    sites: [&'static str; 2],
    part: Part,
) -> Scene {
    Scene { name, title, settings, sites, part }
}

const CONVENTIONAL: &str = "framing = \"udp4501\"";
const PROPOSED: &str = "framing = \"stream\"\nrelay_mode = \"terminating\"";
const BLIND: &str = "framing = \"compact\"\nrelay_mode = \"blind\"";

const SCENES: [Scene; 11] = [
    scene("figure-2", "Figure 2. Login and registration, conventional", CONVENTIONAL, [GLOBAL, GLOBAL], Part::Joining),
    scene("figure-3", "Figure 3. Pattern 1, conventional", CONVENTIONAL, [GLOBAL, GLOBAL], Part::Building),
    scene(
        "figure-4-initiator",
        "Figure 4. Pattern 2, conventional, Node A behind a NAT",
        CONVENTIONAL,
        [PRIVATE, GLOBAL],
        Part::Building,
    ),
    scene(
        "figure-4-responder",
        "Figure 4. Pattern 2, conventional, Node B behind a NAT",
        CONVENTIONAL,
        [GLOBAL, PRIVATE],
        Part::Building,
    ),
    scene("figure-5", "Figure 5. Pattern 3, conventional", CONVENTIONAL, [PRIVATE, PRIVATE], Part::Building),
    scene("figure-6", "Figure 6. Login and registration, proposed", PROPOSED, [GLOBAL, GLOBAL], Part::Joining),
    scene("figure-7", "Figure 7. Pattern 1, proposed", PROPOSED, [GLOBAL, GLOBAL], Part::Building),
    scene(
        "figure-8-initiator",
        "Figure 8. Pattern 2, proposed, Node A behind a NAT",
        PROPOSED,
        [PRIVATE, GLOBAL],
        Part::Building,
    ),
    scene(
        "figure-8-responder",
        "Figure 8. Pattern 2, proposed, Node B behind a NAT",
        PROPOSED,
        [GLOBAL, PRIVATE],
        Part::Building,
    ),
    scene("figure-9", "Figure 9. Pattern 3, proposed", PROPOSED, [PRIVATE, PRIVATE], Part::Building),
    scene(
        "ours-blind-relay",
        "Ours: pattern 3 through a relay that holds no key",
        BLIND,
        [PRIVATE, PRIVATE],
        Part::Building,
    ),
];

/// The note at a message with a connection ID of the relay (`CID_`).
const DERIVED: &str = "ours: both ends derive the ID; the paper's TRS assigns it";

fn text(settings: &str, sites: [&str; 2], echoes: u8) -> String {
    let top = format!("engine = \"events\"\n{settings}\n[services]\nas = {LINK}\nnms = {LINK}\ntrs = {LINK}");
    let [a, b] = sites.map(|kind| format!("link = {LINK}\nkind = \"{kind}\""));
    let steps = format!(
        "[[step]]\ndo = \"start\"\n\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = {echoes}\ninterval_ms = 500\n"
    );
    two_nodes(&top, [&a, &b], &steps)
}

/// The messages among these events, without retransmissions.
pub fn arrows<'a>(events: impl Iterator<Item = (Instant, &'a Event)>) -> Vec<Arrow> {
    let arrow = |(at, event): (Instant, &Event)| {
        let Event::Signal(signal) = event else { return None };
        if signal.repeated {
            return None;
        }
        let protection = match &signal.protection {
            Protection::Handshake => "handshake".to_owned(),
            other => other.to_string(),
        };
        Some(Arrow {
            ms: at.as_millis_f64(),
            from: signal.from.to_string(),
            to: signal.to.to_string(),
            what: signal.what.to_owned(),
            detail: signal.detail.clone(),
            protection,
            bytes: signal.bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
            note: if signal.detail.contains("CID_") { DERIVED } else { "" }.to_owned(),
        })
    };
    events.filter_map(arrow).collect()
}

fn sequence(scene: &Scene) -> Result<Sequence, LabError> {
    let scenario = first_cell("sequences", &text(scene.settings, scene.sites, 1))?;
    let run = run(&scenario, SEED, Engine::Events, &Watch::default());
    let all = arrows(run.events.iter().map(|(at, _, event)| (*at, event)));
    let asks = |arrow: &Arrow| arrow.what == "Direction Request";
    let of_bob = |arrow: &Arrow| arrow.from == "bob" || arrow.to == "bob";
    let begins = all.iter().position(asks).unwrap_or(all.len());
    let part = match scene.part {
        Part::Joining => all[..begins].iter().filter(|arrow| !of_bob(arrow)).cloned().collect(),
        Part::Building => all[begins..].to_vec(),
    };
    Ok(Sequence::new(scene.title, part))
}

/// A packet of a capture, with its time, and what its QUIC packet has in it once opened.
struct Captured {
    tapped: Tapped,
    opened: OpenedPacket,
}

/// The first four packets with an echo at Alice's first interface, in the order of time: two round trips.
fn captured(run: &Run, secrets: &Arc<Secrets>) -> Vec<Captured> {
    let network = run.world.network();
    let wire = run.world.nodes[0].wires[0];
    let mut all: Vec<Tapped> = [wire, wire.reversed()].into_iter().flat_map(|wire| network.take_tapped(wire)).collect();
    all.sort_by_key(|tapped| tapped.departs);
    let mut opener = Opener::new(secrets);
    let carries = |opened: &OpenedPacket| {
        opened.frames.iter().any(|frame| frame.data.windows(MARKER.len()).any(|window| window == MARKER))
    };
    let open = |tapped: Tapped| {
        let ip = Ip::parse(&tapped.packet)?;
        let Some(Transport::Udp { .. }) = ip.transport() else { return None };
        let opened = opener.open(ip.payload.get(8..)?)?;
        carries(&opened).then_some(Captured { tapped, opened })
    };
    all.into_iter().filter_map(open).take(4).collect()
}

/// The text of a packet in the list, in its column `info`.
fn info(opened: &OpenedPacket) -> String {
    let name = |kind: &FrameKind| match kind {
        FrameKind::Stream { id, .. } => format!("STREAM({id})"),
        FrameKind::Ack => "ACK".to_owned(),
        other => format!("{other:?}"),
    };
    let names: Vec<String> = opened.frames.iter().map(|frame| name(&frame.kind)).collect();
    format!("Protected Payload (KP0), PKN: {}: {}", opened.packet_number, names.join(" "))
}

/// The files of Figure 12: the list of packets, and the fields of the first one.
fn capture() -> Result<[Vec<u8>; 2], LabError> {
    let scenario = first_cell("sequences", &text(PROPOSED, ["ipv6", "ipv6"], 2))?;
    let secrets = Arc::new(Secrets::default());
    let watch = Watch { tap: TapMode::Keep, secrets: Some(secrets.clone()), ..Watch::default() };
    let run = run(&scenario, SEED, Engine::Events, &watch);
    let packets = captured(&run, &secrets);
    let mut list = String::from("number,ms,from,to,bytes,protocol,info\n");
    for (index, Captured { tapped, opened }) in packets.iter().enumerate() {
        let ip = Ip::parse(&tapped.packet).ok_or_else(nothing)?;
        let (ms, bytes) = (tapped.departs.as_millis_f64(), tapped.packet.len());
        let line = [ip.source.to_string(), ip.destination.to_string(), bytes.to_string(), "QUIC".to_owned()];
        let _ = writeln!(list, "{},{ms:.3},{},{}", index + 1, line.join(","), quoted(&info(opened)));
    }
    let first = packets.first().ok_or_else(nothing)?;
    Ok([list.into_bytes(), fields(first).ok_or_else(nothing)?.into_bytes()])
}

fn nothing() -> LabError {
    LabError::Failed("the run of Figure 12 has no packet with an echo, which is a bug".to_owned())
}

/// The fields of a packet: where each begins, its length, its bytes on the wire, and its bytes once opened.
fn fields(packet: &Captured) -> Option<String> {
    let bytes = &packet.tapped.packet;
    let ip = Ip::parse(bytes)?;
    let mut parts: Vec<(String, Vec<u8>)> = vec![
        ("real IPv6 header".to_owned(), bytes[..ip.header_len].to_vec()),
        ("UDP header".to_owned(), bytes[ip.header_len..ip.header_len + 8].to_vec()),
    ];
    let quic = ip.header_len + 8;
    // Header protection hides the packet number: its bytes on the wire are not those of the number.
    parts.push(("QUIC short header".to_owned(), bytes[quic..quic + packet.opened.header_len].to_vec()));
    for frame in &packet.opened.frames {
        match frame.kind {
            FrameKind::Stream { id, .. } => {
                parts.push((format!("QUIC frame header STREAM({id})"), vec![0; frame.header_len]));
                let data = &frame.data;
                let inner = HEADER_LEN.min(data.len());
                parts.push(("CYPHONIC header".to_owned(), data[..inner].to_vec()));
                parts.push(("virtual IPv6 header".to_owned(), data.get(inner..inner + 40)?.to_vec()));
                parts.push(("ICMPv6 echo".to_owned(), data.get(inner + 40..)?.to_vec()));
            }
            other => parts.push((format!("QUIC frame {other:?}"), vec![0; frame.len()])),
        }
    }
    let mut text = String::from("field,offset,bytes,protected,wire,opened\n");
    let mut offset = 0;
    for (name, opened) in parts {
        let protected = offset >= quic + packet.opened.header_len;
        let wire = hex(&bytes[offset..offset + opened.len()]);
        // The opener keeps a frame's data, not its header.
        let opened_text = if name.starts_with("QUIC") { String::new() } else { hex(&opened) };
        let _ = writeln!(text, "{name},{offset},{},{protected},{wire},{opened_text}", opened.len());
        offset += opened.len();
    }
    let tag = &bytes[offset..];
    let _ = writeln!(text, "QUIC AEAD tag,{offset},{},true,{},", tag.len(), hex(tag));
    (tag.len() == packet.opened.tag_len).then_some(text)
}

/// Every file with its bytes, by its place in the folder of results.
pub fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>, LabError> {
    let mut files = BTreeMap::new();
    for scene in &SCENES {
        files.insert(Path::new(FOLDER).join(format!("{}.csv", scene.name)), sequence(scene)?.csv().into_bytes());
    }
    let [packets, fields] = capture()?;
    files.insert(Path::new(FOLDER).join("figure-12-packets.csv"), packets);
    files.insert(Path::new(FOLDER).join("figure-12-fields.csv"), fields);
    Ok(files)
}

/// The places of all files, in order.
pub fn names() -> Vec<PathBuf> {
    let captures = ["figure-12-packets", "figure-12-fields"].into_iter();
    let stems = SCENES.iter().map(|scene| scene.name).chain(captures);
    let mut names: Vec<_> = stems.map(|stem| Path::new(FOLDER).join(format!("{stem}.csv"))).collect();
    names.sort();
    names
}

/// The manifest of a file.
pub fn manifest(command: &str, file: &Path, bytes: &[u8]) -> Manifest {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let scene = SCENES.iter().find(|scene| scene.name == stem);
    let scenario =
        scene.map_or_else(|| text(PROPOSED, ["ipv6", "ipv6"], 2), |scene| text(scene.settings, scene.sites, 1));
    let request = Request {
        command: command.to_owned(),
        scenario: "built in: sim/src/lab/sequences.rs",
        text: scenario.into_bytes(),
        sets: &[],
        cells: 1,
        seeds: SEED..=SEED,
        engines: [Engine::Events.name()].into(),
    };
    request.manifest(file, bytes)
}
