//! The lab as a user meets it: the built command, what it prints, its exit codes and the files it leaves.

mod qlog;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cyphonic_sim::lab::experiment::{self, Extent};
use cyphonic_sim::lab::extras::EXTRAS;
use cyphonic_sim::manifest::{self, Manifest};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tempfile::TempDir;

/// One cell of table4 with two echoes: a run takes some milliseconds.
const CELL: [&str; 8] =
    ["run", "table4", "--set", "framing=compact", "--set", "step.3.count=2", "--set", "step.3.interval_ms=50"];
/// Its first seed.
const SMALL: [&str; 10] = [
    "run",
    "table4",
    "--set",
    "framing=compact",
    "--set",
    "step.3.count=2",
    "--set",
    "step.3.interval_ms=50",
    "--seed",
    "1",
];

fn lab(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the lab starts")
}

/// What it prints when all is well.
#[track_caller]
fn prints(arguments: &[&str]) -> String {
    let output = lab(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when it ends with this exit code; then it prints nothing.
#[track_caller]
fn refuses(code: i32, arguments: &[&str]) -> String {
    let output = lab(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.starts_with("error: "), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
    errors
}

#[track_caller]
fn says(message: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(message.contains(piece), "{piece:?} is not in: {message}");
    }
}

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [base, more].concat()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The digests over all wires, one for each run.
fn wires(printed: &str) -> Vec<&str> {
    printed.lines().filter_map(|line| line.split_once(", wires ")).map(|(_, digest)| digest).collect()
}

/// Every file of results of `reproduce` but those of a folder of their own, in the order of their names.
fn results_of_reproduce() -> Vec<String> {
    let experiments =
        experiment::plans(Extent::Usual).unwrap().into_iter().map(|plan| PathBuf::from(plan.name + ".csv"));
    let extras = EXTRAS.iter().filter(|extra| extra.extent == Extent::Usual);
    let files = experiments.chain(extras.flat_map(|extra| (extra.names)()));
    let mut names: Vec<String> =
        files.filter(|file| file.components().count() == 1).map(|file| utf8(&file).to_owned()).collect();
    names.sort();
    names
}

/// A copy of the committed results.
fn results() -> TempDir {
    let copy = folder();
    for file in results_of_reproduce() {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/sim").join(&file);
        fs::copy(&committed, copy.path().join(&file))
            .unwrap_or_else(|error| panic!("{}: {error}", committed.display()));
    }
    copy
}

#[test]
fn help_teaches_every_command_and_exit_code() {
    let help = prints(&["--help"]);
    says(&help, &["Examples:", "--sequence"]);
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    says(
        &words,
        &["Exit codes: 0 done", "2 a scenario or an option", "3 a run failed", "4 results cannot", "5 results differ"],
    );
    for command in ["reproduce", "run", "verify", "scenarios"] {
        says(&prints(&[command, "--help"]), &[&format!("Usage: cyphonic-lab {command}")]);
    }
    let run = prints(&["run", "--help"]);
    says(&run, &["--seed <N|A..B>", "--engine", "--set <KEY=VALUE>", "--out <DIR>", "--json", "--pcap", "--qlog"]);
}

#[test]
fn scenarios_are_listed_with_a_line_each() {
    let list = prints(&["scenarios"]);
    let listed: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let plans = |extent| experiment::plans(extent).unwrap().into_iter().map(|plan| plan.name);
    assert_eq!(listed, plans(Extent::Usual).chain(plans(Extent::Full)).collect::<Vec<_>>());
    says(&list, &["27 runs  Table 1", "90 runs  Table 4"]);
}

#[test]
fn a_run_prints_its_rows_and_the_same_wires_on_both_engines() {
    let [turmoil, events] = ["turmoil", "events"].map(|engine| prints(&with(&SMALL, &["--engine", engine])));
    assert_eq!(turmoil, events);
    let [digest] = wires(&turmoil)[..] else { panic!("one run: {turmoil}") };
    assert_eq!(digest.len(), 32, "{digest}");
    let lines: Vec<&str> = turmoil.lines().collect();
    says(lines[0], &["table4 (framing=compact) seed 1: ", " ms simulated"]);
    let columns: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(columns, ["framing", "seed", "step", "initiator", "responder", "probe", "rtt_ms"]);
    let rows: Vec<Vec<&str>> = lines[3..].iter().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.iter().map(|row| (row[0], row[1], row[5])).eq([("compact", "1", "1"), ("compact", "1", "2")]));
    for row in rows {
        // Three links of 1 ms to 1.5 ms, to and fro, are at least 4 ms without what the LANs share of them.
        assert!((4.0..=9.0).contains(&row[6].parse::<f64>().unwrap()), "{row:?}");
    }
}

#[test]
fn each_seed_of_a_range_is_a_run_of_its_own() {
    let printed = prints(&with(&CELL, &["--engine", "events", "--seed", "1..3"]));
    let digests = wires(&printed);
    assert_eq!(digests.len(), 3);
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2], "{digests:?}");
    let second = prints(&with(&CELL, &["--engine", "events", "--seed", "2"]));
    assert_eq!(wires(&second), digests[1..2]);
}

#[test]
fn set_overrides_a_key_and_leaves_a_swept_key_that_value_alone() {
    let slow = prints(&with(&SMALL, &["--set", "site.a.link.delay_ms=50"]));
    let rtt =
        |printed: &str| printed.lines().last().unwrap().split_whitespace().last().unwrap().parse::<f64>().unwrap();
    assert!(rtt(&slow) > rtt(&prints(&SMALL)) + 90.0, "{slow}");
    assert_eq!(wires(&slow).len(), 1);
}

#[test]
fn json_holds_rows_wires_and_signals() {
    let text = prints(&with(&SMALL, &["--json"]));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let [run] = &json.as_array().expect("a list")[..] else { panic!("one run: {text}") };
    assert_eq!(run["scenario"], "table4");
    assert_eq!(run["cell"]["framing"], "compact");
    assert_eq!(run["seed"], 1);
    assert_eq!(run["rows"].as_array().unwrap().len(), 2);
    assert!(run["rows"][0]["rtt_ms"].is_f64());
    assert_eq!(run["wires"], wires(&prints(&SMALL))[0]);
    let signals = run["signals"].as_array().unwrap();
    assert!(signals.iter().any(|s| s["what"] == "Direction Request" && s["from"] == "alice" && s["to"] == "nms"));
}

#[test]
fn a_sequence_is_arrows_in_the_order_of_time() {
    let printed = prints(&with(&SMALL, &["--sequence"]));
    says(&printed, &["alice → nms   Direction Request", "nms   → bob   Route Direction", "(alice: tunnel to bob up)"]);
    let times: Vec<f64> = printed
        .lines()
        .filter_map(|line| line.trim_start().split_once(" ms  "))
        .map(|(ms, _)| ms.parse().unwrap())
        .collect();
    assert!(times.len() > 8 && times.is_sorted(), "{printed}");
    assert!(!prints(&SMALL).contains('→'));
}

#[test]
fn captures_traces_and_rows_are_written_whole() {
    let out = folder();
    let printed = prints(&with(&SMALL, &["--pcap", "--qlog", "--out", utf8(&out.path().join("new/folder"))]));
    let out = out.path().join("new/folder");
    let names = names(&out);
    let qlogs: Vec<_> =
        names.iter().filter(|name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "sqlog")).collect();
    assert!(qlogs.len() >= 6, "two ends of at least three connections: {names:?}");
    assert_eq!(
        names.len(),
        qlogs.len() + 5,
        "beside them rows, key log, and captures of all wires and of each: {names:?}"
    );
    for name in &qlogs {
        qlog::assert_is_valid(name, &fs::read(out.join(name)).unwrap());
    }
    // A node and a service are two links of 1 ms apart, one of them with a jitter, and a server answers at once.
    let first = |kind: &str| qlog::times(&fs::read(out.join("table4-0-seed1-alice-0_client.sqlog")).unwrap(), kind)[0];
    let (sent, received) = (first("quic:packet_sent"), first("quic:packet_received"));
    assert!((4.0..6.0).contains(&(received - sent)), "times are milliseconds: {sent} {received}");

    let capture = fs::read(out.join("table4-0-seed1.pcapng")).unwrap();
    // A section header block in this machine's byte order.
    assert_eq!(capture[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert_eq!(capture[8..12], 0x1a2b_3c4d_u32.to_ne_bytes());
    let csv = fs::read_to_string(out.join("table4.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("framing,seed,step,initiator,responder,probe,rtt_ms"));
    assert_eq!(csv.lines().count(), 3);
    assert_eq!(wires(&printed), wires(&prints(&SMALL)), "watching changes nothing");
}

#[test]
fn a_capture_has_the_packets_that_a_measurement_looked_at() {
    let out = folder();
    prints(&["run", "table3", "--set", "framing=compact", "--pcap", "--out", utf8(out.path())]);
    let file = fs::read(out.path().join("table3-0-seed1.pcapng")).unwrap();
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            packets.push(packet.interface_id);
        }
    }
    let is_alices =
        |option: &_| matches!(option, InterfaceDescriptionOption::IfName(name) if name.starts_with("alice:"));
    let alices = reader.interfaces().iter().position(|wire| wire.options.iter().any(is_alices)).unwrap();
    assert!(packets.iter().filter(|&&wire| wire as usize == alices).count() > 10, "wire {alices} in {packets:?}");
}

#[test]
fn a_scenario_or_an_option_that_makes_no_sense_is_told_with_its_place_and_remedy() {
    let run = |more: &[&str]| refuses(2, &with(&["run"], more));
    says(&run(&["tabel1"]), &["tabel1: ", "no scenario of that name", "\"table1\""]);
    says(&run(&["no/such.toml"]), &["no/such.toml: cannot read the file", "check the path"]);
    says(&run(&["table1", "--set", "site.a.knid=ipv6"]), &["--set site.a.knid=ipv6", "did you mean \"kind\"?"]);
    says(&run(&["table1", "--set", "site.c.kind=ipv6"]), &["`site.c.kind`", "the sites are \"a\", \"b\""]);
    says(&run(&["table1", "--set", "framing"]), &["--set <KEY=VALUE>", "write KEY=VALUE"]);
    says(&run(&["table1", "--seed", "5..1"]), &["--seed", "the range 5..1 is reversed: write 1..5"]);
    says(&run(&["table1", "--seed", "one"]), &["--seed", "\"one\" is no seed", "A..B"]);
    says(&run(&["table1", "--engine", "steam"]), &["'steam'", "--engine", "turmoil or events"]);
    says(&run(&["table1", "--pcap"]), &["--pcap", "--out DIR"]);
    says(&run(&["table1", "--qlog"]), &["--qlog", "--out DIR"]);
    says(&refuses(2, &["rnu", "table1"]), &["'rnu'", "--help"]);
}

#[test]
fn a_run_that_fails_is_named_at_the_end_and_the_others_are_made_all_the_same() {
    let unreachable = ["--set", "sweep.site.b.link.loss=[1, 0]", "--set", "duration_limit_s=5", "--engine", "events"];
    let output = lab(&with(&SMALL, &unreachable));
    assert_eq!(output.status.code(), Some(3));
    let (printed, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    says(&errors, &["error: 1 of 2 runs failed:", "table4 (framing=compact, b_loss=1) seed 1: ", "--sequence"]);
    assert_eq!(wires(&printed).len(), 2);
    assert_eq!(printed.lines().filter(|line| line.trim_start().starts_with("compact")).count(), 2, "{printed}");

    let output = lab(&with(&with(&SMALL, &unreachable), &["--json"]));
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json[0]["failed"].as_str().unwrap().contains("b_loss=1"), "{json}");
    assert_eq!((&json[1]["failed"], json[1]["rows"].as_array().unwrap().len()), (&serde_json::Value::Null, 2));
}

#[test]
fn a_mistake_in_a_file_is_told_with_its_line_and_column() {
    let folder = folder();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "title = \"mine\"\nmeasure = \"rtt\"\nsedes = 3\n").unwrap();
    says(&refuses(2, &["run", utf8(&file)]), &["mine.toml:3:1: `sedes`", "did you mean \"seeds\"?"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_told_before_anything_runs() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let below = file.join("below");
    for command in [&["run", "table4"][..], &["run", "table4", "--pcap"], &["reproduce"]] {
        let message = refuses(4, &with(command, &["--out", utf8(&below)]));
        says(&message, &[&format!("cannot create the folder {}", below.display()), "choose another with --out"]);
    }
    assert_eq!(names(folder.path()), ["file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn an_interrupted_reproduction_leaves_no_file_and_the_old_ones_as_they_were() {
    let out = folder();
    let results = out.path().join("results");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    let mut child = command.args(["reproduce", "--out", utf8(&results)]).stdout(Stdio::null()).spawn().unwrap();
    while !results.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was still at work");
    assert_eq!(names(&results), [""; 0]);
}

/// A committed file is what `reproduce` writes, or what `reproduce --full` writes, or no experiment's; never two of
/// them. Each has a manifest with its digest, and nothing else is there.
#[test]
fn every_committed_file_has_one_maker() {
    let of = |extent| experiment::plans(extent).unwrap().into_iter().map(|plan| PathBuf::from(plan.name + ".csv"));
    let elsewhere = experiment::ELSEWHERE.iter().map(|(file, _)| PathBuf::from(file));
    let extras = EXTRAS.iter().flat_map(|extra| (extra.names)());
    let mut known: Vec<PathBuf> = of(Extent::Usual).chain(of(Extent::Full)).chain(elsewhere).chain(extras).collect();
    known.sort();
    let makers = known.len();
    known.dedup();
    assert_eq!(known.len(), makers, "{known:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/sim");
    let mut there: Vec<PathBuf> = Vec::new();
    for name in names(&folder) {
        if folder.join(&name).is_dir() {
            there.extend(names(&folder.join(&name)).into_iter().map(|file| Path::new(&name).join(file)));
        } else {
            there.push(name.into());
        }
    }
    there.sort();
    let is_csv = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "csv");
    let (files, manifests): (Vec<PathBuf>, Vec<PathBuf>) = there.into_iter().partition(is_csv);
    assert_eq!(files, known);
    assert_eq!(manifests, known.iter().map(|file| manifest::beside(file)).collect::<Vec<_>>());
    for file in &known {
        let csv = folder.join(file);
        let manifest: Manifest = serde_json::from_slice(&fs::read(manifest::beside(&csv)).unwrap()).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!((&*manifest.file, manifest.sha256), (name, manifest::sha256(&fs::read(&csv).unwrap())), "{name}");
        assert!(manifest.command.starts_with("cyphonic-lab ") && manifest.build.sources.len() == 32, "{name}");
    }
}

#[test]
fn a_box_that_drops_quic_stops_the_proposed_method_and_one_that_sees_nothing_stops_none() {
    let out = folder();
    let printed = prints(&["middlebox", "--out", utf8(out.path())]);
    says(&printed, &["conventional, paper", "proposed, optimal", "server name"]);
    assert_eq!(names(out.path()), ["middlebox.csv", "middlebox.manifest.json"]);
    let csv = fs::read_to_string(out.path().join("middlebox.csv")).unwrap();
    let answered = |case: &str| {
        let line = csv.lines().find(|line| line.starts_with(case)).unwrap_or_else(|| panic!("no {case} in {csv}"));
        line.split(',').nth(7).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(answered("nothing,none,one node,proposed,paper,"), 10);
    assert_eq!(answered("QUIC,drop,one node,conventional,paper,"), 10);
    assert_eq!(answered("QUIC,drop,one node,proposed,paper,"), 0);
}

/// One file, and nothing from elsewhere: the topology, the timeline, the messages, the decisions and the flows are in
/// it. A failure of the soak and a real event log have a page, too.
#[test]
fn a_run_and_a_log_have_a_page_of_their_own() {
    let out = folder();
    let page = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    let run = out.path().join("run.html");
    prints(&with(&SMALL, &["--view", utf8(&run)]));
    let html = page("run.html");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/regressions/soak-1541.toml");
    prints(&["soak", "--replay", scenario, "--view", utf8(&out.path().join("soak.html"))]);
    let log = out.path().join("log.jsonl");
    let signal = r#"{"at_ns":1500000,"host":"alice","event":"signal","from":"alice","to":"as","what":"Login Request","bytes":49,"protection":"TLS"}"#;
    let tunnel = r#"{"at_ns":2500000,"host":"alice","event":"tunnel-up","peer":"bob","pattern":1,"dialed":true,"framing":"compact"}"#;
    fs::write(&log, format!("{signal}\n{tunnel}\n")).unwrap();
    says(&prints(&["view", utf8(&log), "--out", utf8(&out.path().join("log.html"))]), &["2 events", "log.html"]);
    for html in [&html, &page("soak.html"), &page("log.html")] {
        says(html, &["<svg id=\"net\"", "id=\"time\"", "class=\"message\"", "default-src 'none'", "\"kind\":\"node\""]);
        let outside = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://") && !outside.contains("https://") && !outside.contains("src=\""));
    }
    says(&html, &["chosen: pattern 1, alice dials", "echoes", "\"lost\":0", "\"name\":\"core\""]);
    says(&page("log.html"), &["tunnel to bob up: pattern 1", "Login Request"]);
    let refused = lab(&["view", scenario, "--out", utf8(&run)]);
    assert_eq!(refused.status.code(), Some(2));
}

/// What `run` was told is in the manifest, and its command gives the same bytes.
#[test]
fn a_manifest_has_the_command_that_makes_its_file_again() {
    let out = folder();
    let first = out.path().join("first");
    prints(&with(&CELL, &["--seed", "1..2", "--engine", "events", "--out", utf8(&first)]));
    let manifest: Manifest = serde_json::from_slice(&fs::read(first.join("table4.manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest.set, ["framing=compact", "step.3.count=2", "step.3.interval_ms=50"]);
    assert_eq!(
        (manifest.rows, manifest.seeds.as_str(), manifest.engines.as_slice()),
        (4, "1..2", &["events".into()][..])
    );
    let second = out.path().join("second");
    let command = manifest.command.replace("DIR", utf8(&second));
    prints(&command.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(manifest::sha256(&fs::read(second.join("table4.csv")).unwrap()), manifest.sha256);
}

/// The whole of the archive is checked by building it; here, that it has every committed file and every package, and
/// that cargo needs nothing else to resolve them.
#[test]
fn an_archive_has_all_that_a_build_needs() {
    let out = folder();
    let archive = out.path().join("archive");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    let made = command.args(["archive", "--out", utf8(&archive)]).current_dir(&root).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let check = Command::new("sha256sum").args(["--quiet", "--check", "SHA256SUMS"]).current_dir(&archive).output();
    assert!(check.unwrap().status.success());
    let empty = out.path().join("no registry");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(&archive);
    let resolved = cargo.env("CARGO_HOME", empty).output().unwrap();
    assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
    let again = lab(&["archive", "--out", utf8(&archive)]);
    assert_eq!(again.status.code(), Some(2));
    says(&String::from_utf8(again.stderr).unwrap(), &["is not empty", "--out"]);
}

#[test]
fn committed_results_are_what_a_fresh_run_gives() {
    let results = results();
    let printed = prints(&["verify", utf8(results.path())]);
    let files = results_of_reproduce();
    says(&printed, &[&format!("{} files", files.len()), "every byte is as a fresh run gives it"]);
    assert_eq!(names(results.path()), files);
}

#[test]
fn a_changed_digit_is_found_with_its_file_and_line() {
    let results = results();
    // The first file that is compared, so that the others need not run.
    let file = results.path().join("handover.csv");
    let csv = fs::read_to_string(&file).unwrap();
    let last = csv.lines().last().unwrap();
    let digit = last.rfind(|c: char| c.is_ascii_digit()).unwrap();
    let other = if &last[digit..=digit] == "7" { "8" } else { "7" };
    let changed = format!("{}{other}{}", &last[..digit], &last[digit + 1..]);
    fs::write(&file, csv.replace(last, &changed)).unwrap();
    let message = refuses(5, &["verify", utf8(results.path())]);
    let place = format!("{}:{}: differs from a fresh run", file.display(), csv.lines().count());
    says(&message, &[&place, &format!("file:  {changed}"), &format!("fresh: {last}"), "`cyphonic-lab reproduce`"]);
}

#[test]
fn a_truncated_file_is_told_as_such() {
    let results = results();
    let verify = || refuses(4, &["verify", utf8(results.path())]);
    // The last one that is compared: damage is told before anything runs.
    let file = results.path().join("table4.csv");
    let csv = fs::read(&file).unwrap();
    let place = |line: usize| format!("{}:{line}: ", file.display());

    fs::write(&file, &csv[..csv.len() - 3]).unwrap();
    let lines = csv.split(|b| *b == b'\n').count() - 1;
    says(&verify(), &[&place(lines), "the file is cut off", "run the experiment again"]);

    let comma = csv.iter().rposition(|b| *b == b',').unwrap();
    fs::write(&file, [&csv[..comma], b"\n"].concat()).unwrap();
    says(&verify(), &[&place(lines), "6 fields instead of 7", "the file is damaged"]);

    fs::write(&file, b"").unwrap();
    says(&verify(), &["table4.csv: the file is empty", "run the experiment again"]);
}

#[test]
fn explain_tells_what_was_weighed_and_what_came_of_it() {
    let folder = folder();
    let file = folder.path().join("pair.toml");
    fs::write(&file, prints(&["matrix", "--show", "public,symmetric"])).unwrap();
    let story = prints(&["explain", utf8(&file), "--pair", "alice,bob"]);
    says(
        &story,
        &[
            "What the nodes found out",
            "a port for each",
            "NMS is asked for any way from alice to bob",
            "the listener's NAT gives it another port for each destination",
            "chosen: pattern 2, bob dials",
            "In the end: direct, pattern 2; bob dialed.",
            "a direct path exists",
        ],
    );
    let story = prints(&["explain", "table1", "--pair", "alice,bob"]);
    says(&story, &["Table 1: IPv6 to IPv6", "In the end: direct, pattern 1; alice dialed."]);
    let story = prints(&["explain", "table1", "--pair", "alice,bob", "--json"]);
    let story: serde_json::Value = serde_json::from_str(&story).unwrap();
    assert_eq!(story["outcome"], serde_json::json!({ "pattern": "1", "path": "direct", "dialed": "alice" }));
    assert_eq!(story["oracle"]["direct"], true);
    let first = &story["moments"][0];
    assert!(
        first["ms"].as_f64() == Some(0.0) && first["what"].as_str().unwrap().starts_with("step 0: start"),
        "{first}"
    );
    says(&refuses(2, &["explain", "table1", "--pair", "alice,carol"]), &["carol", "its nodes are alice, bob"]);
    says(&refuses(2, &["matrix", "--show", "public,moon"]), &["\"moon\" is no kind of site", "full-cone"]);
}
