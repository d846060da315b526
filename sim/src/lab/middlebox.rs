//! What a box that inspects QUIC does to each policy: what it recognises × how it reacts.
//!
//! The box stands in front of one node, or of both. It recognises QUIC by an Initial that decrypts, its version, the
//! server name, or the protocol offered (ALPN). It drops, rejects by ICMP, or throttles.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::{Engine, first_cell, two_nodes, write_whole};

use super::batch;
use crate::error::LabError;
use crate::host::apps::EchoReport;
use crate::manifest::{self, Request};
use crate::measure::last_tunnel;
use crate::run::run;
use crate::world::Watch;

/// The file in the folder of results.
const FILE: &str = "middlebox.csv";
const SEED: u64 = 1;
/// Echoes of a run.
const ECHOES: usize = 10;

/// What is recognised: a name, and the words of an `inspect` table.
const SIGNS: [(&str, &str); 5] = [
    ("nothing", ""),
    ("QUIC", "quic = true"),
    ("version 1", "version = 1"),
    ("server name", "sni = \"cyphonic.test\""),
    ("ALPN h3", "alpn = \"h3\""),
];
/// How the box reacts: a name, and more words of the table.
const REACTIONS: [(&str, &str); 3] = [
    ("drop", "reaction = \"drop\""),
    ("reject", "reaction = \"reject\""),
    ("throttle", "reaction = \"throttle\", rate_kbps = 64"),
];
/// Method and policy.
const WAYS: [(&str, &str, &str); 4] = [
    ("conventional", "paper", "framing = \"udp4501\""),
    ("conventional", "optimal", "framing = \"udp4501\""),
    ("proposed", "paper", "framing = \"stream\""),
    ("proposed", "optimal", "framing = \"stream\""),
];

/// One run.
struct Case {
    sign: &'static str,
    reaction: &'static str,
    boxes: &'static str,
    method: &'static str,
    policy: &'static str,
    text: String,
}

/// What came of it.
struct Seen {
    answered: usize,
    pattern: Option<u8>,
    mean_ms: Option<f64>,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (sign, words) in SIGNS {
        for (reaction, more) in if words.is_empty() { &REACTIONS[..1] } else { &REACTIONS[..] } {
            for (boxes, at_bob) in [("one node", false), ("both nodes", true)] {
                for (method, policy, settings) in WAYS {
                    let firewall = if words.is_empty() {
                        "firewall = { mode = \"stateful\" }".to_owned()
                    } else {
                        format!("firewall = {{ mode = \"stateful\", inspect = [{{ {words}, {more} }}] }}")
                    };
                    let open = String::from("kind = \"ipv4-private\"");
                    let boxed = format!("{open}\n{firewall}");
                    let sites = [&*boxed, if at_bob { &*boxed } else { &*open }];
                    let top = format!(
                        "engine = \"events\"\nduration_limit_s = 60\nlink = {{ delay_ms = 10 }}\npolicy = \"{policy}\"\n{settings}"
                    );
                    let steps = format!(
                        "[[step]]\ndo = \"start\"\ngive_up_s = 8\n\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n\
                         count = {ECHOES}\ninterval_ms = 500\n"
                    );
                    let reaction = if words.is_empty() { "none" } else { *reaction };
                    all.push(Case { sign, reaction, boxes, method, policy, text: two_nodes(&top, sites, &steps) });
                }
            }
        }
    }
    all
}

fn look(case: &Case) -> Result<Seen, LabError> {
    let scenario = first_cell("middlebox", &case.text)?;
    let run = run(&scenario, SEED, Engine::Events, &Watch::default());
    let pair = run.reports().next().map(|(pair, _)| *pair);
    let pattern = pair.and_then(|pair| last_tunnel(&scenario, &run, pair)).map(|(pattern, _)| pattern.number());
    let echo = run.reports().find_map(|(_, report)| report.echo());
    let rtts: Vec<f64> = echo.map_or(Vec::new(), |echo| echo.rtts_ns().map(|ns| ns as f64 / 1e6).collect());
    let mean_ms = (!rtts.is_empty()).then(|| rtts.iter().sum::<f64>() / rtts.len() as f64);
    Ok(Seen { answered: echo.map_or(0, EchoReport::answered), pattern, mean_ms })
}

/// Runs every case, writes the results where asked, and gives what to print.
///
/// # Errors
/// The results cannot be written.
pub fn middlebox(out: Option<&Path>) -> Result<String, LabError> {
    let cases = cases();
    let seen = batch::each("middlebox", &cases, look).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut csv = String::from("recognises,reaction,before,method,policy,pattern,echo_sent,echo_received,rtt_ms\n");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (case, seen) in cases.iter().zip(&seen) {
        let pattern = seen.pattern.map(|pattern| pattern.to_string()).unwrap_or_default();
        let rtt = seen.mean_ms.map(|ms| format!("{ms:.3}")).unwrap_or_default();
        let Case { sign, reaction, boxes, method, policy, .. } = case;
        let _ = writeln!(csv, "{sign},{reaction},{boxes},{method},{policy},{pattern},{ECHOES},{},{rtt}", seen.answered);
        let cell = if seen.answered == 0 {
            "-".to_owned()
        } else {
            format!("{}/{ECHOES} {pattern} {:.0}", seen.answered, seen.mean_ms.unwrap_or(0.0))
        };
        // The four ways of one box are beside each other.
        match rows.last_mut() {
            Some(row) if row.len() < 3 + WAYS.len() => row.push(cell),
            _ => rows.push(vec![(*sign).to_owned(), (*reaction).to_owned(), (*boxes).to_owned(), cell]),
        }
    }
    if let Some(out) = out {
        super::writable(out)?;
        let file = out.join(FILE);
        write_whole(&file, csv.as_bytes())?;
        let request = Request {
            command: "cyphonic-lab middlebox --out DIR".to_owned(),
            scenario: "built in: sim/src/lab/middlebox.rs",
            text: cases.iter().map(|case| case.text.as_str()).collect::<String>().into_bytes(),
            sets: &[],
            cells: cases.len(),
            seeds: SEED..=SEED,
            engines: [Engine::Events.name()].into(),
        };
        manifest::write(&file, &request.manifest(&file, csv.as_bytes()))?;
    }
    let ways: Vec<String> = WAYS.iter().map(|(method, policy, _)| format!("{method}, {policy}")).collect();
    let header: Vec<&str> =
        ["recognises", "reaction", "before"].into_iter().chain(ways.iter().map(String::as_str)).collect();
    Ok(format!(
        "A box that inspects QUIC, both nodes behind NATs\n{}\n10/10 3 62: ten of ten echoes, pattern 3, 62 ms on average. \
         -: none. The throttle lets 64 kbit/s through.\n",
        super::tables::grid(&header, 3, rows)
    ))
}
