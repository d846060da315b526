//! Every mistake is answered with its place, its key and a remedy: the exact words.

use cyphonic_scenarios::{Document, Plan};
use proptest::prelude::*;

mod file;
mod network;
mod steps;
mod sweeps;

/// The keys at the top of a file.
const ROOT_KEYS: &str = r#""title", "about", "seeds", "engine", "method", "login", "framing", "congestion", "cipher", "policy", "handover", "signaling", "tunnel_lifetime_s", "relay_mode", "port", "tun_mtu", "duration_limit_s", "measure", "expect", "rules", "link", "services", "carrier", "site", "node", "step", "sweep""#;

/// A file without mistakes; the tests put one in.
const GOOD: &str = r#"title = "t"
about = "a"
measure = "outcome"

[services]
nms = { delay_ms = 5 }

[[site]]
name = "home"
kind = "ipv4-private"

[site.link]
delay_ms = 5
mtu = 1400

[site.nat]
mapping = "endpoint-independent"

[[site]]
name = "office"
kind = "ipv6"

[site.firewall]
egress = ["udp/443"]

[[node]]
name = "alice"
site = "home"

[[node]]
name = "bob"
site = "office"

[[step]]
do = "start"

[[step]]
do = "echo"
from = "alice"
to = "bob"
"#;

/// What comes of the good file with `old` replaced by `new`.
fn replaced(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} marks one place");
    error(&GOOD.replace(old, new), &[])
}

/// What comes of the good file with `more` behind it.
fn with(more: &str) -> String {
    error(&format!("{GOOD}{more}"), &[])
}

/// What comes of the good file with one `--set`.
fn set(key: &str, value: &str) -> String {
    error(GOOD, &[(key, value)])
}

fn error(text: &str, sets: &[(&str, &str)]) -> String {
    let sets: Vec<(String, String)> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match Document::parse("x.toml", text).and_then(|document| Plan::expand(&document, &sets)) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}
proptest! {
    /// If text is cut out of a good file or put into it, the answer is a scenario or an error with a place.
    #[test]
    fn no_damage_to_a_file_makes_a_panic(at in 0..GOOD.len(), cut in 0..40_usize, put in "[a-z0-9\\[\\]{}=\".,\n é-]{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let text = [&GOOD[..at], &put, &GOOD[end..]].concat();
        let answer = error(&text, &[]);
        prop_assert!(answer == "no error" || answer.starts_with("x.toml:"), "{answer}");
    }

    /// The same for what stands behind `--set`.
    #[test]
    fn no_set_makes_a_panic(key in "(site|node|step|sweep|services|port|x)(\\.(home|bob|0|link|up|kind|as|,|é)){0,4}", value in "[a-z0-9\\[\\]{}=\".,é-]{0,8}") {
        let answer = error(GOOD, &[("port", "5000"), (&key, &value)]);
        prop_assert!(answer == "no error" || answer.starts_with("x.toml"), "{answer}");
    }
}
