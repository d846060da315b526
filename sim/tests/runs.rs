//! `cyphonic-lab run`: results are not lost, numbers are summarised, and failures name their reason.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn lab(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    command.args(arguments).current_dir(folder).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

const SEEDS: [&str; 4] = ["run", "table4", "--seed", "1..3"];
const SETS: [&str; 4] = ["--set", "framing=\"compact\"", "--engine", "events"];

fn run(folder: &Path, more: &[&str]) -> Output {
    lab(folder, &[&SEEDS[..], &SETS[..], more].concat())
}

#[test]
fn results_that_are_there_are_replaced_only_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    out(&run(folder.path(), &["--out", "mine"]));
    let first = std::fs::read(folder.path().join("mine/table4.csv")).unwrap();
    let again = run(folder.path(), &["--out", "mine"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--overwrite"));
    out(&run(folder.path(), &["--out", "mine", "--overwrite", "--jobs", "1"]));
    assert_eq!(std::fs::read(folder.path().join("mine/table4.csv")).unwrap(), first);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("mine")).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing but the results is left: {left:?}");
}

#[test]
fn a_command_that_was_killed_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = ["run", "table4", "--seed", "1..20"];
    let arguments = [&seeds[..], &SETS[..], &["--jobs", "1", "--out", "killed"]].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"));
    command.args(&arguments).current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let note = folder.path().join("killed/table4.csv.part.json");
    let has_begun = || std::fs::read_to_string(&note).is_ok_and(|note| !note.contains("\"runs\":0"));
    while !has_begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote anything");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A row that was cut off while it was written.
    let part = folder.path().join("killed/table4.csv.part");
    let mut file = std::fs::OpenOptions::new().append(true).open(&part).unwrap();
    file.write_all(b"compact,9,1").unwrap();
    let again = lab(folder.path(), &arguments);
    assert!(String::from_utf8_lossy(&again.stderr).contains("were made before"), "it went on");
    let whole = [&seeds[..], &SETS[..], &["--out", "whole"]].concat();
    out(&lab(folder.path(), &whole));
    let [killed, whole] =
        ["killed", "whole"].map(|of| std::fs::read(folder.path().join(of).join("table4.csv")).unwrap());
    assert!(killed == whole, "the rows are those of a run that was not killed");
    assert!(!part.exists() && !note.exists());
}

#[test]
fn many_rows_have_a_summary_above_them() {
    let text = out(&run(tempfile::tempdir().unwrap().path(), &["--set", "site.a.link.loss=0.1"]));
    let lines: Vec<&str> = text.lines().collect();
    let head = lines.iter().position(|line| line.contains("median")).expect("a summary");
    let heads: Vec<&str> = lines[head].split_whitespace().collect();
    assert_eq!(heads[heads.len() - 6..], ["of", "n", "lost", "median", "p95", "p99"]);
    let numbers: Vec<&str> = lines[head + 2].split_whitespace().collect();
    let lost: u32 = numbers[numbers.len() - 4].parse().unwrap();
    assert_eq!(numbers[numbers.len() - 5], "300", "3 seeds, 100 echoes each");
    assert!(lost > 0 && lost < 150, "{lost} of 300 at 10 % loss");
    assert!(lines[head..].iter().any(|line| line.contains("probe") && line.contains("rtt_ms")));
}

#[test]
fn tables_fit_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = ["run", "table1", "--seed", "1", "--set", "framing=\"compact\""];
    let text = Command::new(env!("CARGO_BIN_EXE_cyphonic-lab"))
        .args(scenario)
        .env("COLUMNS", "72")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = out(&text);
    let rows = text.lines().skip_while(|line| !line.starts_with("In every row: "));
    assert!(text.contains("In every row: ") && text.contains("tcp_bytes 1000000"), "{text}");
    let widest = rows.map(|line| line.chars().count()).max().expect("rows");
    assert!(widest <= 72, "{widest} columns");
}

#[test]
fn a_run_that_fails_names_the_node_the_service_and_the_firewall() {
    let folder = tempfile::tempdir().unwrap();
    let firewall = ["--set", "site.a.firewall={ mode = \"only-443\" }", "--set", "framing=\"udp4501\""];
    let places = ["--set", "site.a.kind=\"ipv6\"", "--set", "site.b.kind=\"ipv6\""];
    let output = lab(folder.path(), &[&["run", "table1", "--seed", "1"][..], &firewall, &places].concat());
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("alice is not registered: it failed at the NMS, by UDP 4501"), "{said}");
    assert!(said.contains("site a's firewall lets no UDP 4501 out"), "{said}");
    assert!(!said.contains("duration_limit_s"), "more time would not help: {said}");
}

#[test]
fn verify_holds_what_a_folder_has_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let none = lab(folder.path(), &["verify", "."]);
    assert_eq!(none.status.code(), Some(2));
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/sim/table3.csv");
    std::fs::copy(kept, folder.path().join("table3.csv")).unwrap();
    let text = out(&lab(folder.path(), &["verify", "."]));
    assert!(text.starts_with("1 files") && text.contains("Not there: ") && text.contains("table1.csv"), "{text}");
}

#[test]
fn the_program_says_its_name_and_completes() {
    let folder = tempfile::tempdir().unwrap();
    assert!(out(&lab(folder.path(), &["--version"])).starts_with("cyphonic-lab "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&lab(folder.path(), &["completions", shell])).contains("cyphonic-lab"), "{shell}");
    }
}
