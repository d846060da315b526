//! Every command of the lab in every README is typed here. What would take long is asked for less, or for its help:
//! clap refuses an option that does not exist before it prints help.

use std::path::{Path, PathBuf};
use std::process::Command;

const LAB: &str = env!("CARGO_BIN_EXE_cyphonic-lab");

/// All documents with commands for the lab.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "sim/README.md",
    "scenarios/README.md",
    "paper-figs/README.md",
    "real/README.md",
    "real/OPERATIONS.md",
    ".github/CONTRIBUTING.md",
];

/// The words that come before the lab's own arguments.
const CALLS: [&str; 6] = [
    "cargo run --release --",
    "cargo run --",
    "cargo run --release",
    "target/release/cyphonic-lab",
    "target/debug/cyphonic-lab",
    "cyphonic-lab",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The arguments of one line of a block of commands, if it calls the lab.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim().strip_prefix("sudo ").unwrap_or(line.trim());
    let rest = CALLS.iter().find_map(|call| {
        let rest = line.strip_prefix(call)?;
        (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
    })?;
    let words = words(rest);
    // Another package's program, or another command behind it.
    (!words.iter().any(|word| word == "-p" || word == "&&" || word == "|")).then_some(words)
}

/// Splits as a shell does, as far as documents need it: single quotes, a comment, a redirection.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for (at, sign) in text.char_indices() {
        match sign {
            '\'' => quoted = !quoted,
            '#' | '>' if !quoted && text[..at].ends_with(' ') => break,
            ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            sign => word.push(sign),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Less of the same, in a moment.
fn shortened(mut words: Vec<String>) -> Vec<String> {
    let long = match words.first().map(String::as_str) {
        // An archive needs a clone of the project, and a page a log.
        None | Some("verify" | "reproduce" | "compare" | "archive" | "view" | "scale") => true,
        Some("matrix") => !words.iter().any(|word| word == "--show"),
        _ => false,
    };
    if long {
        words.push("--help".into());
    }
    for at in 1..words.len() {
        match words[at - 1].as_str() {
            "--time" => words[at] = "2s".into(),
            "--seeds" => words[at] = "1..4".into(),
            "--seed" => words[at] = "1..2".into(),
            _ => {}
        }
    }
    words
}

#[test]
fn every_command_of_every_readme_works_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("scenarios"), folder.path().join("scenarios")).unwrap();
    // What a soak that failed has left behind.
    let failures = folder.path().join("mine/failures");
    std::fs::create_dir_all(&failures).unwrap();
    for seed in [1, 4711] {
        let any = root().join("scenarios/table1.toml");
        std::fs::copy(any, failures.join(format!("soak-{seed}.toml"))).unwrap();
    }
    let mut typed = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for line in text.split("\n```").skip(1).step_by(2).flat_map(str::lines) {
            let Some(mut words) = arguments(line).map(shortened) else { continue };
            // A replay needs a file that says what to expect of it.
            if words.iter().any(|word| word == "--replay") {
                words.push("--help".into());
            }
            let output = Command::new(LAB).args(&words).current_dir(folder.path()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{document}: `{line}`: {words:?}: {said}");
            if let Some((_, file)) = line.split('#').next().unwrap().split_once("> ") {
                std::fs::write(folder.path().join(file.trim()), &output.stdout).unwrap();
            }
            typed += 1;
        }
    }
    assert!(typed > 15, "the documents have more commands than {typed}");
}

/// The lab's commands, as its help lists them.
fn commands() -> Vec<String> {
    let help = String::from_utf8(Command::new(LAB).arg("--help").output().unwrap().stdout).unwrap();
    let list = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // A line that goes on with the description of a command is indented further.
    let names =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_lab_is_among_those_of_its_readme() {
    let text = std::fs::read_to_string(root().join("sim/README.md")).unwrap();
    let lines = text.split("\n```").skip(1).step_by(2).flat_map(str::lines);
    let typed: Vec<String> = lines.filter_map(arguments).filter_map(|words| words.into_iter().next()).collect();
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        assert!(typed.contains(&command), "sim/README.md has no example of `cyphonic-lab {command}`");
    }
}

#[test]
fn every_module_of_the_lab_has_a_row_in_its_table() {
    let text = std::fs::read_to_string(root().join("sim/src/lab/mod.rs")).unwrap();
    for module in text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        let rows = text.lines().filter(|line| line.starts_with("//! | [`"));
        let named = rows.filter_map(|row| row.split('|').nth(1)).any(|cell| cell.contains(&format!("[`{module}`]")));
        assert!(named, "the table at the top of sim/src/lab/mod.rs has no row of `{module}`");
    }
}

#[test]
fn words_are_split_as_a_shell_does() {
    assert_eq!(words(" run a --set 'site.a.kind=\"nat\"'   # why"), ["run", "a", "--set", "site.a.kind=\"nat\""]);
    assert_eq!(words(" matrix --show a,b > pair.toml"), ["matrix", "--show", "a,b"]);
}
