//! `core/wireshark/cyphonic.lua` in tshark: the messages that it reads in captures are the ones that the runs report.
//!
//! ```text
//! cyphonic-lab run --pcap --json ──┬─▶ pcapng, keys ── tshark, cyphonic.lua ──▶ messages ──┐
//!                                  └─▶ the run's own signals ──────────────────────────────┴─▶ equal
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, str};

use cyphonic_core::capture::CaptureWriter;
use cyphonic_core::header::{HEADER_LEN, Header, Kind};
use cyphonic_core::message::Message;
use cyphonic_core::name::{Fqdn, NodeId, PathId};
use cyphonic_core::packet::build_udp;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/wireshark/cyphonic.lua");
/// Every message of version 2: number, frame, the same frame sealed, and its meaning.
const FIXTURES: &str = include_str!("../../core/src/message/fixtures/version-2.txt");
/// Messages that no diagram shows.
const NO_SIGNALS: [&str; 5] = ["Keep Alive", "Keep Alive Ack", "Probe", "Probe Reply", "Capsule"];
/// The fields that are read of each frame.
const FIELDS: [&str; 24] = [
    "frame.interface_name",
    "udp.payload",
    "cyphonic.message",
    "cyphonic.framing",
    "cyphonic.transaction",
    "cyphonic.version",
    "cyphonic.flags",
    "cyphonic.type",
    "cyphonic.count",
    "cyphonic.sequence",
    "cyphonic.length",
    "cyphonic.newest_version",
    "cyphonic.id",
    "cyphonic.opened_by",
    "cyphonic.login_response.fqdn",
    "cyphonic.peer.name",
    "cyphonic.route_direction.peer",
    "cyphonic.route_direction.pattern",
    "cyphonic.tunnel_request.from",
    "cyphonic.tunnel_request.to",
    "icmpv6.type",
    "http3.frame_type",
    "cyphonic.malformed",
    "_ws.lua.error",
];

/// Prints that a test cannot run here. With `CYPHONIC_SKIP_NOTHING` set, that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("CYPHONIC_SKIP_NOTHING").is_none(), "skipped: {why}");
    eprintln!("skipped: {why}");
}

fn is_missing() -> bool {
    let found = Command::new("tshark").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = !found.is_ok_and(|status| status.success());
    if missing {
        skipped("tshark is missing (Debian and Ubuntu: apt install tshark)");
    }
    missing
}

fn tshark(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    // Without the preferences and plugins of this user.
    command.env("WIRESHARK_CONFIG_DIR", folder).arg("-X").arg(format!("lua_script:{SCRIPT}")).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("tshark starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("Lua"), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The fields of a frame, each with all its values.
type Read = BTreeMap<&'static str, Vec<String>>;

/// All frames that the filter admits.
fn read(folder: &Path, capture: &str, keys: Option<&str>, filter: &str) -> Vec<Read> {
    let log = format!("cyphonic.key_log:{}", keys.map(|keys| utf8(&folder.join(keys))).unwrap_or_default());
    let capture = utf8(&folder.join(capture));
    let mut arguments = vec!["-r", &capture, "-o", &log, "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"];
    arguments.extend(["-Y", filter]);
    for field in FIELDS {
        arguments.extend(["-e", field]);
    }
    let text = tshark(folder, &arguments);
    let values = |text: &str| text.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    text.lines().map(|line| FIELDS.into_iter().zip(line.split('|').map(values)).collect()).collect()
}

fn utf8(path: &Path) -> String {
    path.to_str().expect("a temporary folder's name is UTF-8").to_owned()
}

fn number(text: &str) -> u64 {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A message, from tshark or from the run: sender, name, and the names of nodes in it.
type Said = (String, String, Vec<String>);

/// Alice sends Bob two echoes. Returns the folder with capture and key log, and the messages that the run reports.
fn ran(settings: &str, site: &str) -> (TempDir, Vec<Said>) {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = format!("title = \"scene\"\nabout = \"two nodes\"\nmeasure = \"outcome\"\nseeds = 1\n{settings}\n");
    let pair = [("alice", "a"), ("bob", "b")].map(|(node, place)| {
        let site = format!("[[site]]\nname = \"{place}\"\nkind = \"{site}\"\n");
        site + &format!("[[node]]\nname = \"{node}\"\nsite = \"{place}\"\n")
    });
    scene += &pair.concat();
    scene += "[[step]]\ndo = \"start\"\n[[step]]\ndo = \"wait\"\nms = 1500\n";
    scene += "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 2\n";
    let file = folder.path().join("scene.toml");
    fs::write(&file, scene).unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    lab.arg("run").arg(&file).args(["--json", "--pcap", "--out"]).arg(folder.path()).stdin(Stdio::null());
    let output = lab.output().expect("the lab starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let signals = runs[0]["signals"].as_array().unwrap().iter().filter(|signal| {
        let what = signal["what"].as_str().unwrap();
        signal["bytes"].is_number() && signal["repeated"] == false && !NO_SIGNALS.contains(&what)
    });
    let said = signals.map(|signal| {
        let [from, what, detail] = ["from", "what", "detail"].map(|key| signal[key].as_str().unwrap().to_owned());
        // "{ peer: bob, pattern: 3, dial }"
        let shown = detail.trim_matches(['{', '}', ' ']).split(", ").filter_map(|field| field.split_once(": "));
        let shown = shown.filter(|(name, _)| ["peer", "pattern"].contains(name)).map(|(_, value)| value.to_owned());
        (from, what, shown.collect())
    });
    let said = said.collect();
    (folder, said)
}

/// "alice.cyphonic.test" is alice.
fn short(name: &str) -> String {
    name.split('.').next().unwrap().to_owned()
}

/// The messages that hosts sent on their first wire, in order, as in [`ran`].
fn said(frames: &[Read]) -> Vec<Said> {
    let mut said = Vec::new();
    for frame in frames {
        // "alice:0>a-nat:1"
        let wire = &frame["frame.interface_name"][0];
        for (at, message) in frame["cyphonic.message"].iter().enumerate() {
            if NO_SIGNALS.contains(&message.as_str()) || frame["cyphonic.count"][at] != "0" {
                continue;
            }
            let shown = match message.as_str() {
                "Direction Request" => frame["cyphonic.peer.name"].iter().map(|name| short(name)).collect(),
                "Route Direction" => {
                    vec![
                        short(&frame["cyphonic.route_direction.peer"][0]),
                        frame["cyphonic.route_direction.pattern"][0].clone(),
                    ]
                }
                _ => Vec::new(),
            };
            said.push((wire.split(':').next().unwrap().to_owned(), message.clone(), shown));
        }
    }
    said
}

/// The messages of one sender. Messages of several senders at one time have no order.
fn of<'a>(said: &'a [Said], host: &str) -> Vec<&'a Said> {
    said.iter().filter(|(from, ..)| from == host).collect()
}

/// The wires on which these hosts send.
fn sent_by(hosts: &[&str]) -> String {
    let wires: Vec<_> = hosts.iter().map(|host| format!("frame.interface_name matches \"^{host}:\"")).collect();
    format!("cyphonic && ({})", wires.join(" || "))
}

/// Compares tshark's messages with the run's, and checks what every capture must have.
fn holds(frames: &[Read], run: &[Said], hosts: &[&str]) {
    let read = said(frames);
    for host in hosts {
        assert_eq!(of(&read, host), of(run, host), "{host}");
    }
    for frame in frames {
        assert!(frame["cyphonic.malformed"].is_empty() && frame["_ws.lua.error"].is_empty(), "{frame:?}");
        assert!(frame["http3.frame_type"].is_empty(), "taken for HTTP/3: {frame:?}");
    }
    // Names, and the identifiers that are made from them.
    let first = |message: &str| {
        let is_it = |frame: &&Read| frame["cyphonic.message"].iter().any(|name| name == message);
        frames.iter().find(is_it).unwrap_or_else(|| panic!("no {message}"))
    };
    let names: Vec<&String> = frames.iter().flat_map(|frame| &frame["cyphonic.login_response.fqdn"]).collect();
    for frame in frames.iter().filter(|frame| !frame["cyphonic.login_response.fqdn"].is_empty()) {
        let name: Fqdn = frame["cyphonic.login_response.fqdn"][0].parse().unwrap();
        assert_eq!(frame["cyphonic.id"][0], hex(&NodeId::of(&name).0));
    }
    let request = first("Tunnel Request");
    let [from, to] = ["from", "to"].map(|end| request[&*format!("cyphonic.tunnel_request.{end}")][0].clone());
    assert_eq!([short(&from), short(&to)], ["alice", "bob"]);
    assert!(hosts.len() == 1 || names.len() == 2, "{names:?}");
    // An answer repeats its request's transaction.
    for (asked, answer) in [("Login Request", "Login Response"), ("Registration Request", "Registration Response")] {
        let all = |message: &str| {
            let is_it = |frame: &&Read| frame["cyphonic.message"].iter().any(|name| name == message);
            let mut all: Vec<_> = frames.iter().filter(is_it).map(|frame| &frame["cyphonic.transaction"][0]).collect();
            all.sort();
            all
        };
        assert!(hosts.len() == 1 || all(asked) == all(answer), "{asked}");
    }
    let echoes = frames.iter().flat_map(|frame| &frame["icmpv6.type"]).filter(|kind| *kind == "128");
    assert_eq!(echoes.count(), if hosts.contains(&"trs") { 4 } else { 2 }, "packets inside, of alice and of the TRS");
}

#[test]
fn the_conventional_method_is_read_with_the_key_log_and_its_headers_without() {
    if is_missing() {
        return;
    }
    let (folder, run) = ran("framing = \"udp4501\"", "ipv4-private");
    let hosts = ["alice", "bob", "as", "nms", "trs"];
    let capture = "scene-0-seed1.pcapng";
    let frames = read(folder.path(), capture, Some("scene-0-seed1.keys"), &sent_by(&hosts));
    holds(&frames, &run, &hosts);
    let mut labels: Vec<&str> = frames.iter().flat_map(|f| &f["cyphonic.opened_by"]).map(String::as_str).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, ["COMMON_KEY", "END_KEY", "REGISTRATION_KEY", "SERVICE_KEY", "TUNNEL_KEY"]);
    let sealed = frames.iter().filter(|frame| frame["cyphonic.framing"] == ["udp"]);
    for frame in sealed.clone() {
        assert_eq!(frame["cyphonic.opened_by"].len(), 1, "{frame:?}");
        let is_a_path = ["Tunnel Request", "Hole Punching"].contains(&frame["cyphonic.message"][0].as_str());
        if is_a_path && frame["frame.interface_name"][0].starts_with("alice") {
            let [from, to] =
                ["from", "to"].map(|end| frame[&*format!("cyphonic.tunnel_request.{end}")][0].parse().unwrap());
            assert_eq!(frame["cyphonic.id"][0], hex(&PathId::of(&from, &to).0));
        }
        let datagram = unhex(&frame["udp.payload"][0]);
        let header = Header::decode(&datagram).unwrap();
        let read = ["transaction", "version", "flags", "type", "count", "sequence", "length", "newest_version"]
            .map(|name| number(&frame[&*format!("cyphonic.{name}")][0]));
        let expected = [
            u64::from(header.transaction),
            header.spoken.version.into(),
            header.flags.0.into(),
            (header.kind as u8).into(),
            header.count.into(),
            header.sequence.into(),
            header.length.into(),
            header.spoken.newest.into(),
        ];
        assert_eq!(read, expected);
        assert_eq!(
            (&frame["cyphonic.message"][0], &frame["cyphonic.id"][0]),
            (&header.kind.name().to_owned(), &hex(&header.id))
        );
    }

    let closed = read(folder.path(), capture, None, &sent_by(&hosts));
    let headers = |frames: &[Read]| -> Vec<_> {
        frames.iter().map(|f| (f["cyphonic.message"].clone(), f["cyphonic.transaction"].clone())).collect()
    };
    assert_eq!(headers(&closed), headers(&frames));
    assert!(closed.iter().all(|frame| frame["cyphonic.opened_by"].is_empty() && frame["icmpv6.type"].is_empty()));
}

#[test]
fn the_proposed_method_is_read_out_of_its_quic_stream_and_is_no_http_3() {
    if is_missing() {
        return;
    }
    // Without a NAT a connection has the same addresses on all wires, so Wireshark can follow it on all at once.
    let (folder, run) = ran("framing = \"stream\"", "ipv4-global");
    let hosts = ["alice", "bob", "as", "nms"];
    let frames = read(folder.path(), "scene-0-seed1.pcapng", None, &sent_by(&hosts));
    holds(&frames, &run, &hosts);
    assert!(frames.iter().all(|frame| frame["cyphonic.framing"].iter().all(|how| how == "stream")));
}

#[test]
fn packets_in_datagram_frames_and_probes_beside_quic_are_read_too() {
    if is_missing() {
        return;
    }
    for (framing, carried) in [("compact", "compact"), ("datagram", "datagram")] {
        let settings = format!("framing = \"{framing}\"\npolicy = \"optimal\"");
        let (folder, run) = ran(&settings, "ipv4-private");
        // Behind a NAT: the wire of one host alone.
        let wires = std::fs::read_dir(folder.path().join("scene-0-seed1-wires")).unwrap();
        let mut wires = wires.map(|wire| wire.unwrap().file_name().into_string().unwrap());
        let own = format!("scene-0-seed1-wires/{}", wires.find(|wire| wire.contains("alice.")).unwrap());
        let frames = read(folder.path(), &own, Some("scene-0-seed1.keys"), &sent_by(&["alice"]));
        holds(&frames, &run, &["alice"]);
        let packets = frames.iter().filter(|frame| !frame["icmpv6.type"].is_empty());
        assert!(packets.clone().all(|frame| frame["cyphonic.framing"] == [carried]), "{framing}");
        let probes: Vec<_> = frames.iter().filter(|frame| frame["cyphonic.message"] == ["Probe"]).collect();
        assert!(probes.iter().any(|probe| probe["cyphonic.opened_by"] == ["SURVEY_KEY"]), "{probes:?}");
        assert!(probes.iter().any(|probe| probe["cyphonic.opened_by"].is_empty()), "to the TRS: {probes:?}");
    }
}

#[test]
fn every_quic_packet_of_every_wire_is_decrypted_in_all_nine_cells() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let less = ["--set", "step.2.bytes=20000", "--set", "framing=\"stream\"", "--seed", "1", "--engine", "events"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    let run = command.args(["run", "table1", "--pcap", "--out", "."]).args(less).current_dir(folder.path()).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (mut cells, mut packets) = (0, 0);
    let folders = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    for wires in folders.filter(|path| path.is_dir()) {
        cells += 1;
        for wire in std::fs::read_dir(&wires).unwrap().map(|entry| entry.unwrap().path()) {
            let read = ["-r", &utf8(&wire), "-Y", "quic", "-T", "fields", "-e", "quic.frame_type"];
            let text = tshark(folder.path(), &read);
            let whole = text.lines().filter(|line| !line.trim().is_empty()).count();
            assert_eq!(whole, text.lines().count(), "{}: some packets are not decrypted", wire.display());
            packets += whole;
        }
    }
    assert_eq!(cells, 9);
    assert!(packets > 2000, "{packets}");
}

#[test]
fn every_message_is_read_whole_sealed_or_not_and_one_cut_short_is_malformed() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = "5a".repeat(16);
    fs::write(folder.path().join("keys"), format!("CYPHONIC_TUNNEL_KEY {} {key}\n", "03".repeat(16))).unwrap();
    let mut writer = CaptureWriter::new(Vec::new(), "fixtures", "a test", ["wire"]).unwrap();
    let [from, to] = ["192.0.2.1:4501", "192.0.2.2:4501"].map(|place| place.parse().unwrap());
    // Of each datagram: its message, whether it is sealed, whether it is whole.
    let mut expected = Vec::new();
    for line in FIXTURES.lines() {
        let [kind, frame, sealed, _] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let kind = Kind::from_number(kind.parse().unwrap()).unwrap();
        let name = kind.name();
        let (frame, sealed) = (unhex(frame), unhex(sealed));
        let cut = (HEADER_LEN..frame.len()).map(|len| {
            let mut cut = frame[..len].to_vec();
            cut[12..14].copy_from_slice(&u16::try_from(len - HEADER_LEN).unwrap().to_be_bytes());
            // Without its last field a message may be whole.
            let is_whole = Message::decode_body(kind, &cut[HEADER_LEN..]).is_ok();
            (cut, false, is_whole)
        });
        for (datagram, is_sealed, is_whole) in
            [(frame.clone(), false, true), (sealed, true, true)].into_iter().chain(cut)
        {
            let packet = build_udp(from, to, &datagram).unwrap();
            writer.packet(0, std::time::Duration::ZERO, &packet, None).unwrap();
            expected.push((name.to_owned(), is_sealed, is_whole));
        }
    }
    fs::write(folder.path().join("capture"), writer.into_inner()).unwrap();
    let frames = read(folder.path(), "capture", Some("keys"), "frame");
    assert_eq!(frames.len(), expected.len());
    for (frame, expected) in frames.iter().zip(expected) {
        assert!(frame["_ws.lua.error"].is_empty(), "{frame:?}");
        let is_sealed = frame["cyphonic.opened_by"] == ["TUNNEL_KEY"];
        let read = (frame["cyphonic.message"].concat(), is_sealed, frame["cyphonic.malformed"].is_empty());
        assert_eq!(read, expected, "{frame:?}");
    }
}
