//! All figures from small fixtures, through the library and through the command. The fixtures' numbers are invented,
//! but for `blocked` and `blocked-rtt`, which are rows of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use paper_figs::{DIAGRAMS, FIGURES};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture(file: &str) -> String {
    fs::read_to_string(fixtures().join(file)).unwrap()
}

/// A results folder of which one file is other than its fixture, or missing.
fn results_with(file: &str, text: Option<&str>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["sim", "sim/sequences", "paper", "real"] {
        fs::create_dir(folder.path().join(kind)).unwrap();
        for entry in fs::read_dir(fixtures().join(kind)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                continue;
            }
            fs::copy(entry.path(), folder.path().join(kind).join(entry.file_name())).unwrap();
        }
    }
    match text {
        Some(text) => fs::write(folder.path().join(file), text).unwrap(),
        None => fs::remove_file(folder.path().join(file)).unwrap(),
    }
    folder
}

/// The files of all diagrams.
fn diagrams() -> impl Iterator<Item = String> {
    DIAGRAMS.iter().flat_map(|diagram| {
        let is_sequence = diagram.draw(&fixtures()).unwrap().mermaid.is_some();
        let mermaid = is_sequence.then(|| format!("{}.mmd", diagram.name));
        [Some(format!("{}.svg", diagram.name)), mermaid].into_iter().flatten()
    })
}

fn svg(results: &Path, name: &str) -> Result<String, String> {
    let figure = FIGURES.iter().find(|figure| figure.name == name).unwrap();
    let drawing = (figure.prepare)(results).map_err(|error| error.to_string())?;
    Ok(drawing.svg().unwrap())
}

/// What is said of a file in which one piece of text is replaced, without the file's place and the remedy.
#[track_caller]
fn refusal(file: &str, from: &str, to: &str) -> String {
    let text = fixture(file);
    assert!(text.contains(from), "{file} has no {from:?}");
    let results = results_with(file, Some(&text.replace(from, to)));
    let figure = FIGURES.iter().find(|figure| figure.inputs.contains(&file)).unwrap();
    let error = svg(results.path(), figure.name).unwrap_err();
    let place = results.path().join(file).display().to_string();
    let error = error.strip_prefix(&place).unwrap_or_else(|| panic!("{error} does not name {place}"));
    error.rsplit_once("; ").unwrap().0.to_owned()
}

fn paper_figs(results: &Path, out: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paper-figs"));
    command.arg("--results").arg(results).arg("--out").arg(out).args(arguments).output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_same_results_give_the_same_bytes_in_two_processes() {
    let outs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for out in &outs {
        let output = paper_figs(&fixtures(), out.path(), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let figures = FIGURES.iter().flat_map(|f| ["png", "svg"].map(|kind| format!("{}.{kind}", f.name)));
    let mut expected: Vec<String> = figures.chain(diagrams()).collect();
    expected.sort();
    assert_eq!(names(outs[0].path()), expected);
    for name in expected {
        let [first, second] = outs.each_ref().map(|out| fs::read(out.path().join(&name)).unwrap());
        assert!(first == second, "{name} differs");
    }
}

#[test]
fn other_results_give_another_figure() {
    let before = svg(&fixtures(), "table4").unwrap();
    let text = fixture("sim/table4.csv");
    let changed = results_with("sim/table4.csv", Some(&text.replacen(",5.", ",3.", 1)));
    assert_ne!(svg(changed.path(), "table4").unwrap(), before);
}

#[test]
fn the_readme_has_a_row_of_every_figure() {
    let readme = include_str!("../README.md");
    for figure in FIGURES {
        let inputs = figure.inputs.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        let row = format!("| `{}` | {} | {inputs} | ", figure.name, figure.about);
        assert!(readme.contains(&row), "paper-figs/README.md has no row that begins with: {row}");
    }
}

#[test]
fn every_svg_is_well_formed_and_keeps_its_text() {
    let texts = [
        ("table1", ["Responder B", "A → B", "A ← B", "echo 3/3"]),
        ("table3", ["Proposed, compact", "1364", "QUIC AEAD tag", "Bytes of the packet, IP payload left out"]),
        ("table4", ["Round-trip time (ms)", "Share of echoes", "Proposed (n = 99)", "Compact (ours) (n = 99)"]),
        (
            "mobility",
            [
                "Longest gap (round trips between two hosts)",
                "Share of moves",
                "seamless (n = 4)",
                "Conventional (n = 4)",
            ],
        ),
        ("setup", ["Proposed, blind", "Compact, term.", "Size of IP packets (kB)", "Pattern 3"]),
        ("setup-loss", ["loss 2 % a link; pattern 1, direct", "Share of set-ups", "Time (s)", "Compact (ours)"]),
        ("scale", ["(a) Time until all are registered", "Nodes", "Proposed, NMS restarted", "Time (s)"]),
        ("handover", ["No move", "From IPv6 to IPv4-P", "Compact (ours)", "Time of the transfer (s)"]),
        ("throughput", ["RTT 10 ms, loss 0.5 % a link", "Proposed, new-reno", "Goodput (Mbit/s)", "Conventional"]),
        ("blocked", ["RTT 20 ms, loss 1 %", "TCP 443", "TCP, HTTP proxy", "Goodput (kbit/s)"]),
        ("blocked-rtt", ["RTT 20 ms, loss 5 %", "UDP", "TCP, HTTP proxy", "Round-trip time (ms)"]),
        (
            "docker",
            [
                "Pattern 3: relayed by the TRS; a ping every 1 s",
                "Proposed (n = 3)",
                "Compact (ours) (n = 3)",
                "Conventional (n = 3)",
            ],
        ),
        ("bench", ["CYPHONIC, compact (n = 3)", "CYPHONIC, udp4501 (n = 3)", "wireguard-go (n = 3)", BENCH_AXIS]),
        (
            "bench-cost",
            ["CYPHONIC, compact (n = 3)", "wireguard-go (n = 3)", "Processor time for a gigabyte (s)", "10"],
        ),
        (
            "bench-rtt",
            ["No tunnel (n = 3)", "CYPHONIC, stream (n = 3)", "0.1", "Median round-trip time of a round (ms)"],
        ),
        ("soak", ["link down (6)", "start (6)", "Occurrences of a combination", "10"]),
        ("matrix", ["(d) Proposed method, optimal policy", "tcp-443", "1161", MATRIX_COUNTS]),
    ];
    for figure in FIGURES {
        assert!(texts.iter().any(|(name, _)| *name == figure.name), "no texts to look for in {}", figure.name);
    }
    for (name, texts) in texts {
        let svg = svg(&fixtures(), name).unwrap();
        for text in texts {
            assert!(svg.contains(&format!(">\n{text}\n</text>")), "{name} does not say {text}");
        }
        assert_eq!(svg.matches("<text ").count(), svg.matches("</text>").count());
        assert!(svg.ends_with("</svg>\n") && svg.matches("<svg ").count() == 1);
    }
}

#[test]
fn a_diagram_names_every_message_of_its_run_and_a_damaged_one_its_line() {
    let figure_9 = DIAGRAMS.iter().find(|diagram| diagram.name == "figure-9").unwrap();
    let drawn = figure_9.draw(&fixtures()).unwrap();
    let messages = fixture("sim/sequences/figure-9.csv").lines().count() - 1;
    assert_eq!(drawn.svg.matches("class=\"message\"").count(), messages);
    assert!(drawn.svg.contains("both ends derive the ID") && drawn.caption.contains("Italic"));
    assert_eq!(drawn.mermaid.unwrap().matches("->>").count(), messages, "a handshake has an arrow, too");
    let damaged = fixture("sim/sequences/figure-9.csv").replacen('\n', "\nsoon,", 2);
    let results = results_with("sim/sequences/figure-9.csv", Some(&damaged));
    let error = figure_9.draw(results.path()).unwrap_err().to_string();
    assert!(error.contains("figure-9.csv:2: ") && error.contains("cargo run --release"), "{error}");
}

#[test]
fn without_captions_a_figure_is_lower_and_its_description_says_the_same() {
    let out = tempfile::tempdir().unwrap();
    let output = paper_figs(&fixtures(), out.path(), &["table4", "--no-captions", "--pdf"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(names(out.path()), ["table4.pdf", "table4.png", "table4.svg"]);
    let bare = fs::read_to_string(out.path().join("table4.svg")).unwrap();
    let whole = svg(&fixtures(), "table4").unwrap();
    assert!(bare.len() < whole.len() && bare.contains("<desc>Round-trip time of echoes"));
    assert!(!bare.contains(">\nRound-trip time of echoes through"), "no text of the caption is drawn");
}

/// One file without network; each claim has a verdict, a file and a command; what is missing is said.
#[test]
fn the_report_is_one_file_and_says_what_it_lacks() {
    let out = tempfile::tempdir().unwrap();
    let output = paper_figs(&fixtures(), out.path(), &["report"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(out.path()), ["report.html"]);
    let html = fs::read_to_string(out.path().join("report.html")).unwrap();
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for request in ["http://", "https://", "<script", "src=\"", "@import", "<link rel=\"stylesheet"] {
        assert!(!outside.contains(request), "{request}");
    }
    assert_eq!(html.matches("<figure ").count(), FIGURES.len() + DIAGRAMS.len());
    assert!(html.contains("Table 1 holds in the conventional method") && html.contains(">no results</td>"));
    // Identifiers are unique, or a drawing would have the arrows of another.
    let ids: Vec<&str> = html.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    let none = results_with("sim/table4.csv", None);
    let output = paper_figs(none.path(), out.path(), &["report"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(fs::read_to_string(out.path().join("report.html")).unwrap().contains("table4: "));
}

/// Pings of containers: the rounds are paired, and only the last run of a pattern counts.
#[test]
fn the_report_tests_pings_by_pairs_of_the_last_run() {
    let claim = |text: &str| {
        let results = results_with("real/pings.csv", Some(text));
        let all = paper_figs::report::claims(results.path());
        all.into_iter().find(|claim| claim.claim == "the same in Docker, pattern 1, a ping every 1 s").unwrap()
    };
    let header = "run,round,pattern,framing,interval_s,load_1min,sequence,rtt_ms\n";
    let rows = |run: &str, rounds: u32, more: &dyn Fn(u32) -> f64| -> String {
        let framings = [("udp4501", 0.0), ("stream", 1.0), ("compact", 0.0)];
        let row = |round: u32, framing: &str, share: f64| {
            let rtt = 0.3 + 0.1 * f64::from(round) + share * more(round);
            format!("{run},{round},1,{framing},1,0.1,1,{rtt:.4}\n{run},{round},1,{framing},1,0.1,2,\n")
        };
        (0..=rounds).flat_map(|round| framings.map(|(framing, share)| row(round, framing, share))).collect()
    };
    // The rounds differ far more than the framings do, and the pairs show it.
    let slower = claim(&format!("{header}{}", rows("1", 10, &|round| 0.0203 + 0.001 * f64::from(round))));
    assert_eq!(slower.verdict, paper_figs::report::Verdict::Differs, "{slower:?}");
    let words = "(0.850 ms), median of 10 rounds: +0.026 ms (+3 %), effect +1.00, p = 0.002; compact (ours): +0.000 ms";
    assert!(slower.ours.contains(words), "{}", slower.ours);
    // Three rounds prove nothing, whatever they show.
    let few = claim(&format!("{header}{}", rows("1", 3, &|_| 0.2)));
    assert_eq!(few.verdict, paper_figs::report::Verdict::Undecided, "{few:?}");
    let later = format!("{header}{}{}", rows("1", 10, &|_| 0.2), rows("2", 10, &|_| 0.0001));
    assert_eq!(claim(&later).verdict, paper_figs::report::Verdict::Reproduced, "{:?}", claim(&later));
}

/// The committed results: every number of the report comes from a file with a manifest, or from a real measurement.
#[test]
fn every_claim_about_the_committed_results_has_a_verdict_and_a_source() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results");
    let claims = paper_figs::report::claims(&results);
    assert!(claims.len() > 25, "{}", claims.len());
    for claim in claims {
        assert_ne!(claim.verdict, paper_figs::report::Verdict::Missing, "{claim:?}");
        assert!(!claim.ours.contains("NaN") && !claim.paper.contains("NaN") && !claim.paper.is_empty(), "{claim:?}");
        let is_measured = claim.source.starts_with("real/") && claim.source.contains(".manifest.json");
        let has_source = claim.source.contains("sha256 ") && (is_measured || claim.source.contains("; cyphonic-lab "));
        assert!(has_source || claim.source.ends_with("*.csv"), "{claim:?}");
    }
}

const BENCH_AXIS: &str = "Share of the throughput without a tunnel (%)";
const MATRIX_COUNTS: &str = "4 direct, 1 relayed, 2 needlessly relayed, 4 stranded, 7 cannot log in";

#[test]
fn captions_say_what_the_reader_must_know() {
    let caption = |name: &str, results: &Path| {
        let figure = FIGURES.iter().find(|figure| figure.name == name).unwrap();
        (figure.prepare)(results).unwrap().caption().to_owned()
    };
    assert!(caption("mobility", &fixtures()).ends_with("Never again (Compact (ours), seamless): 1."));
    assert!(caption("table4", &fixtures()).contains("The simulator has no CPU time"));
    assert!(caption("table4", &fixtures()).ends_with("Lost (Proposed): 1 of 100. Lost (Compact (ours)): 1 of 100."));
    assert!(caption("table1", &fixtures()).ends_with("Every pattern is that of the paper’s Table 1."));
    let other = fixture("sim/table1.csv").replacen("bob,1,initiator,3,3", "bob,3,initiator,3,2", 1);
    let other = results_with("sim/table1.csv", Some(&other));
    let caption = caption("table1", other.path());
    assert!(
        caption.contains("In 26 of 27 cells both got through. Outlined: 1 of 27 differs from the paper’s"),
        "{caption}"
    );
    assert!(svg(other.path(), "table1").unwrap().contains(">\n≠ 1\n</text>"));
}

#[test]
fn the_matrix_says_what_its_numbers_hide() {
    let caption = |results: &Path| {
        let figure = FIGURES.iter().find(|figure| figure.name == "matrix").unwrap();
        (figure.prepare)(results).unwrap().caption().to_owned()
    };
    let good = caption(&fixtures());
    assert!(good.contains("10 ms one way") && good.contains("was answered. Whether"), "{good}");
    let other = fixture("sim/matrix.csv").replacen("901.250,901.250,3,3", "901.250,950.000,3,2", 1);
    let other = caption(results_with("sim/matrix.csv", Some(&other)).path());
    assert!(
        other.contains("was answered in all but 1 of 36 cells. In 1 of 36 cells another tunnel replaced"),
        "{other}"
    );
}

#[test]
fn a_matrix_may_lack_kinds_that_meet_only_themselves() {
    let text: String = fixture("sim/matrix.csv")
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("one-carrier") && !line.starts_with("hairpin"))
        .collect();
    let svg = svg(results_with("sim/matrix.csv", Some(&text)).path(), "matrix").unwrap();
    assert!(svg.contains("4 direct, 0 relayed, 1 needlessly relayed, 4 stranded, 7 cannot log in"));
    assert!(!svg.contains("hairpin"));
}

#[test]
fn sweep_columns_may_be_others_and_fewer() {
    // One column `pattern_cell` for the three of relay mode and kinds.
    let reshape = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let cell = if fields[0] == "framing" { "pattern_cell".to_owned() } else { fields[1..4].join("/") };
        format!("{},{cell},{}\n", fields[0], fields[4..].join(","))
    };
    let text: String = fixture("sim/setup.csv").lines().map(reshape).collect();
    let results = results_with("sim/setup.csv", Some(&text));
    let svg = svg(results.path(), "setup").unwrap();
    assert!(svg.contains(">\nProposed, pattern_cell=") && !svg.contains("Proposed, blind"));
}

/// A swept cell is a series of its own, or it is refused; nothing is pooled without a word.
#[test]
fn a_swept_cell_is_a_series_of_its_own() {
    let lossy = |text: &str| -> String {
        let rows = text.lines().enumerate().flat_map(|(index, line)| {
            let (framing, rest) = line.split_once(',').unwrap();
            let values: &[&str] = if index == 0 { &["a_loss"] } else { &["0", "0.02"] };
            values.iter().map(move |value| format!("{framing},{value},{rest}\n")).collect::<Vec<_>>()
        });
        rows.collect()
    };
    let results = results_with("sim/table4.csv", Some(&lossy(&fixture("sim/table4.csv"))));
    let drawn = svg(results.path(), "table4").unwrap();
    for name in ["Conventional, a_loss=0 (n = 100)", "Proposed, a_loss=0.02 (n = 99)"] {
        assert!(drawn.contains(&format!(">\n{name}\n</text>")), "{name}");
    }
    let results = results_with("sim/setup.csv", Some(&lossy(&fixture("sim/setup.csv"))));
    assert!(svg(results.path(), "setup").unwrap().contains(">\nConventional, a_loss=0.02\n</text>"));
    let results = results_with("sim/table1.csv", Some(&lossy(&fixture("sim/table1.csv"))));
    let refused = svg(results.path(), "table1").unwrap_err();
    assert!(
        refused.contains(":3: another cell of the sweep than line 2: a_loss=0.02; this figure draws one"),
        "{refused}"
    );
}

#[test]
fn results_that_contradict_themselves_are_refused() {
    let differs = refusal("sim/table3.csv", "stream,1,quic_tag,16", "stream,1,quic_tag,17");
    assert_eq!(differs, ":12: the fields of this packet (stream) come to 1501 bytes, but its total is 1500");
    let twice = refusal("sim/table3.csv", "stream,1,quic_tag,16", "stream,1,hmac,16");
    assert_eq!(twice, ":20: this field of this packet is there twice");
    let two = "stream,1,total,1500\nstream,2,real_ip_header,1500\nstream,2,total,1500";
    let another = refusal("sim/table3.csv", "stream,1,total,1500", two);
    assert_eq!(another, ":22: this packet (stream) differs from another of its framing: which should be drawn?");
    let header = "framing,relay_mode,a_kind,b_kind,seed,phase,pattern,ms,round_trips,packets,bytes,\
                  service_packets,service_bytes,trs_packets,trs_bytes\n";
    let again = format!("{header}udp4501,blind,ipv4-global,ipv4-global,1,tunnel,1,1,1,1,1,1,1,1,1\n");
    let same = refusal("sim/setup.csv", header, &again);
    assert_eq!(same, ":5: the same run and phase as line 2: no column tells the two apart");
    let row = "udp4501,ipv6,ipv6,1,alice,bob,1,initiator";
    let other = format!("udp4501,ipv6,ipv6,0,alice,bob,3,initiator,3,3,1000000,true,1.000\n{row}");
    let pattern = refusal("sim/table1.csv", row, &other);
    assert_eq!(pattern, ":3: the pattern or dialer differs from that of line 2, the same pair");
    let again = refusal("sim/matrix.csv", "public,firewall,", "public,public,");
    assert_eq!(again, ":6: the same pair, method and policy as line 2");
    let path = refusal("sim/matrix.csv", "relayed,901.250", "direct,901.250");
    assert_eq!(path, ":67: pattern 3 is the relayed one, and the path says otherwise");
}

#[test]
fn results_that_lack_something_are_refused() {
    let total = refusal("sim/table3.csv", "compact,1,total,1500\n", "");
    assert_eq!(total, ":32: this packet (compact) has no total");
    assert_eq!(refusal("sim/table3.csv", "compact,", "datagram,"), ":32: this field of this packet is there twice");
    assert_eq!(refusal("sim/table4.csv", "stream,", "udp4501,"), NO_ECHO);
    assert_eq!(refusal("sim/table1.csv", "stream,ipv6,ipv6", "stream,ipv6,ipv4-global"), TWO_PATTERNS);
    let none = refusal("sim/setup.csv", "stream,blind,ipv4-global,ipv4-global,1,tunnel,1", NO_PATTERN);
    assert!(none.ends_with(": this tunnel has no pattern: it was never set up"), "{none}");
    let phase =
        refusal("sim/setup.csv", "udp4501,blind,ipv4-global,ipv4-global,1,login,", "udp4501,blind,a,b,1,login,");
    assert!(phase.contains("the run that begins here has no row of the phase "), "{phase}");
    let no_move = refusal("sim/mobility.csv", "compact,migrate,", "stream,migrate,");
    assert_eq!(no_move, ": there is no move in the framing compact under migrate");
    assert_eq!(refusal("paper/table4-rtt.csv", "stddev", "mean"), ": there is no row stddev");
    assert_eq!(refusal("paper/table1-signaling-patterns.csv", "IPv4-P,IPv4-P", "IPv6,IPv6"), NO_PAPER_ROW);
    assert_eq!(refusal("sim/matrix.csv", "tcp-443,public,proposed,optimal,,,none,,,0,0,relay,\n", ""), NO_MEETING);
    let none = refusal("sim/matrix.csv", "one-carrier,one-carrier,", "one-carrier,public,");
    assert!(none.starts_with(": there is no row public to one-carrier of the "), "{none}");
    let digits = refusal("sim/soak.csv", "start,v4,1,proposed,15", "start,v4,1,proposed,many");
    assert_eq!(digits, ":9: this count is no number");
    let framing = refusal("real/pings.csv", "0,1,udp4501,1,0.50,1,", "0,1,udp,1,0.50,1,");
    assert_eq!(framing, ":2: unknown variant `udp`, expected one of `udp4501`, `stream`, `datagram`, `compact`");
    let rate = refusal("real/bench.csv", ",10000,2010,", ",10000,fast,");
    assert_eq!(rate, ":3: `fast` is not a finite number of at least 0");
    let word = refusal("sim/matrix.csv", "relay,likely", "relay,maybe");
    assert_eq!(word, ":67: unknown variant `maybe`, expected one of `yes`, `likely`, `perhaps`, `no`");
}

const NO_ECHO: &str = ": no echo in the framing stream came back: there is nothing to draw";
const TWO_PATTERNS: &str = ": there is no row of the framing stream for IPv6 to IPv6";
const NO_PATTERN: &str = "stream,blind,ipv4-global,ipv4-global,1,tunnel,";
const NO_MEETING: &str = ": there is no row tcp-443 to public of the proposed method and the optimal policy";
const NO_PAPER_ROW: &str = ": there is no row IPv4-P to IPv4-P";

#[test]
fn a_missing_file_costs_its_own_figure_only() {
    let (results, out) = (results_with("sim/table3.csv", None), tempfile::tempdir().unwrap());
    let output = paper_figs(results.path(), out.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("table3: ") && message.contains("sim/table3.csv: cannot be read: "), "{message}");
    assert!(message.ends_with("; make it with `cargo run --release`\n"), "{message}");
    assert_eq!(names(out.path()).len(), 2 * (FIGURES.len() - 1) + diagrams().count());
}

#[test]
fn a_truncated_file_leaves_the_figure_that_was_there() {
    let text = fixture("sim/table4.csv");
    let results = results_with("sim/table4.csv", Some(&text[..text.len() / 2]));
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("table4.svg"), "before").unwrap();
    let output = paper_figs(results.path(), out.path(), &["table4"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("sim/table4.csv:") && message.contains("the file is cut off"), "{message}");
    assert_eq!(names(out.path()), ["table4.svg"]);
    assert_eq!(fs::read_to_string(out.path().join("table4.svg")).unwrap(), "before");
}

#[test]
fn a_folder_that_cannot_be_written_is_another_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = paper_figs(&fixtures(), &file.join("out"), &["table4"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("cannot be written") && message.contains("--out"), "{message}");
}

#[test]
fn the_list_names_every_figure_and_a_wrong_name_is_told_them() {
    let out = tempfile::tempdir().unwrap();
    let list = String::from_utf8(paper_figs(&fixtures(), out.path(), &["--list"]).stdout).unwrap();
    let output = paper_figs(&fixtures(), out.path(), &["table9"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    for diagram in DIAGRAMS {
        assert!(list.contains(diagram.name) && message.contains(diagram.name), "{list} {message}");
    }
    for figure in FIGURES {
        assert!(list.contains(figure.name) && list.contains(figure.about) && list.contains(figure.inputs[0]), "{list}");
        assert!(message.contains(figure.name), "{message}");
    }
    assert_eq!(names(out.path()), [""; 0]);
}
