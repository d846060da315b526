//! Results files: their bytes, and what becomes of damaged ones.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_scenarios::rows::{Composition, Field, Millis, Outcome, Phase, Rtt, Setup, TcpFailure, Traffic};
use cyphonic_scenarios::{Document, Line, Measure, Over, Plan, Row, Table};
use proptest::prelude::*;

fn outcome(pattern: Option<Pattern>, tcp_us: Option<u64>) -> Row {
    Row::Outcome(Outcome {
        initiator: "alice".into(),
        responder: "bob".into(),
        pattern,
        dialer: pattern.map(|_| Dialer::Responder),
        echo_sent: 3,
        echo_received: 2,
        tcp_bytes: 1_000_000,
        tcp_ok: tcp_us.is_some(),
        tcp_ms: tcp_us.map(|micros| Millis { micros }),
        tcp_over: Some(Over::Tunnel),
        tcp_failed: tcp_us.is_none().then_some(TcpFailure::NoAnswer),
    })
}

fn outcomes() -> Table {
    let plan = Plan::expand(&Document::embedded("table1").unwrap(), &[]).unwrap();
    let mut table = Table::new(&plan);
    table.push(&plan.cells[0].labels, 1, outcome(Some(Pattern::OneNat), Some(12_345_678)));
    table.push(&plan.cells[17].labels, 1, outcome(None, None));
    table
}

const OUTCOMES: &str = "\
framing,a_kind,b_kind,seed,initiator,responder,pattern,dialer,echo_sent,echo_received,tcp_bytes,tcp_ok,tcp_ms,tcp_over,tcp_failed
udp4501,ipv6,ipv6,1,alice,bob,2,responder,3,2,1000000,true,12345.678,tunnel,
stream,ipv4-private,ipv4-private,1,alice,bob,,,3,2,1000000,false,,tunnel,no-answer
";

fn table(measure: Measure, columns: &[&str], rows: Vec<Row>) -> Table {
    let labels: Vec<String> = columns.iter().map(|c| format!("{c}-value")).collect();
    let lines = rows.into_iter().map(|row| Line { labels: labels.clone(), seed: 7, row }).collect();
    Table { measure, columns: columns.iter().map(|&c| c.to_owned()).collect(), lines }
}

fn text(table: &Table) -> String {
    String::from_utf8(table.to_csv()).unwrap()
}

fn parse(text: &str, measure: Measure) -> Result<Table, String> {
    Table::parse(Path::new("r.csv"), text.as_bytes(), measure).map_err(|error| error.to_string())
}

#[test]
fn outcomes_are_written_and_read_back() {
    assert_eq!(text(&outcomes()), OUTCOMES);
    assert_eq!(parse(OUTCOMES, Measure::Outcome).unwrap(), outcomes());
    assert!(outcomes().lines[1].has(&outcomes().columns, "a_kind", "ipv4-private"));
}

fn rtt(probe: u32, rtt_ms: Option<Millis>) -> Rtt {
    Rtt { step: 2, initiator: "a".into(), responder: "b".into(), probe, rtt_ms }
}

#[test]
fn numbers_have_fixed_decimals() {
    let rtts = vec![
        Row::Rtt(rtt(1, Some(Millis::new(Duration::from_nanos(4_000_499))))),
        Row::Rtt(rtt(2, None)),
        Row::Rtt(rtt(3, Some(Millis::new(Duration::from_nanos(999_500))))),
    ];
    let rtts = table(Measure::Rtt, &[], rtts);
    assert_eq!(
        text(&rtts),
        "seed,step,initiator,responder,probe,rtt_ms\n7,2,a,b,1,4.000\n7,2,a,b,2,\n7,2,a,b,3,1.000\n"
    );
    assert_eq!(parse(&text(&rtts), Measure::Rtt).unwrap(), rtts);

    let setup = Setup {
        phase: Phase::Tunnel,
        pattern: Some(Pattern::Relayed),
        ms: 120.0,
        round_trips: 3.0,
        packets: 12,
        bytes: 9_000,
        search_packets: 2,
        search_bytes: 2_708,
        service_packets: 5,
        service_bytes: 600,
        trs_packets: 7,
        trs_bytes: 800,
    };
    let login = Setup { phase: Phase::Login, pattern: None, ..setup };
    let setups = table(Measure::Setup, &["x"], vec![Row::Setup(login), Row::Setup(setup)]);
    let expected = "x,seed,phase,pattern,ms,round_trips,packets,bytes,search_packets,search_bytes,service_packets,\
                    service_bytes,trs_packets,trs_bytes\nx-value,7,login,,120.000,3.00,12,9000,2,2708,5,600,7,800\n\
                    x-value,7,tunnel,3,120.000,3.00,12,9000,2,2708,5,600,7,800\n";
    assert_eq!(text(&setups), expected);
    assert_eq!(parse(expected, Measure::Setup).unwrap(), setups);
}

#[test]
fn a_composition_has_a_row_for_each_field() {
    let rows = Field::ALL.map(|field| Row::Composition(Composition { field, bytes: 8 }));
    let composition = table(Measure::Composition, &[], rows.into());
    let fields: Vec<String> = text(&composition).lines().skip(1).map(|l| l.split(',').nth(1).unwrap().into()).collect();
    let expected = "real_ip_header udp_header quic_short_header quic_frame_header quic_tag cyphonic_header \
                    virtual_ip_header ip_payload hmac total";
    assert_eq!(fields.join(" "), expected);
    assert_eq!(parse(&text(&composition), Measure::Composition).unwrap(), composition);
}

#[test]
fn traffic_has_a_row_for_each_host() {
    let row = Traffic {
        host: "nms".into(),
        span_ms: Millis { micros: 3_600_000_000 },
        sent_packets: 1,
        sent_bytes: 100,
        received_packets: 2,
        received_bytes: 200,
        datagrams: 3,
    };
    let traffic = table(Measure::Traffic, &[], vec![Row::Traffic(row)]);
    let expected = "seed,host,span_ms,sent_packets,sent_bytes,received_packets,received_bytes,datagrams\n\
                    7,nms,3600000.000,1,100,2,200,3\n";
    assert_eq!(text(&traffic), expected);
    assert_eq!(parse(expected, Measure::Traffic).unwrap(), traffic);
}

#[test]
fn labels_with_commas_quotes_and_lines_come_back() {
    let mut strange = table(Measure::Rtt, &["a"], vec![Row::Rtt(rtt(1, None))]);
    strange.lines[0].labels[0] = "x,\"y\"\nz".into();
    assert_eq!(parse(&text(&strange), Measure::Rtt).unwrap(), strange);
}

#[test]
fn a_table_without_rows_is_a_header() {
    let empty = table(Measure::Rtt, &["a"], vec![]);
    assert_eq!(text(&empty), "a,seed,step,initiator,responder,probe,rtt_ms\n");
    assert_eq!(parse(&text(&empty), Measure::Rtt).unwrap(), empty);
}

#[test]
#[should_panic(expected = "a row of another measure")]
fn a_row_of_another_measure_is_a_bug() {
    let plan = Plan::expand(&Document::embedded("table1").unwrap(), &[]).unwrap();
    Table::new(&plan).push(&plan.cells[0].labels, 1, Row::Rtt(rtt(1, None)));
}

#[test]
fn a_damaged_file_is_refused_with_its_line() {
    let refused = |text: &str| parse(text, Measure::Outcome).unwrap_err();
    assert_eq!(refused(""), "r.csv: the file is empty; run the experiment again");
    assert_eq!(
        refused(&OUTCOMES[..OUTCOMES.len() - 1]),
        "r.csv:3: the file is cut off: its last line has no end; run the experiment again"
    );
    assert_eq!(
        refused(&OUTCOMES.replace(",no-answer\n", "\n")),
        "r.csv:3: 14 fields instead of 15: the file is damaged; run the experiment again"
    );
    assert_eq!(
        refused("seed,probe,rtt_ms\n1,1,4.000\n"),
        "r.csv:1: the header ends in \"seed,probe,rtt_ms\", not in \"seed,initiator,responder,pattern,dialer,echo_sent,\
         echo_received,tcp_bytes,tcp_ok,tcp_ms,tcp_over,tcp_failed\": these are no rows of the measure \"outcome\", or of another version"
    );
    assert_eq!(
        refused(&OUTCOMES.replace("ipv6,1,alice", "ipv6,one,alice")),
        "r.csv:2: \"one\" is no seed: the file is damaged; run the experiment again"
    );
    assert_eq!(
        refused(&OUTCOMES.replace("12345.678", "12345.67")),
        "r.csv:2: invalid value: string \"12345.67\", expected milliseconds with three decimals: the \
         file is damaged; run the experiment again"
    );
    assert_eq!(
        refused(&OUTCOMES.replace("bob,2,responder,3", "bob,2,responder,three")),
        "r.csv:2: column echo_sent: invalid digit found in string: the file is damaged; run the experiment again"
    );
    assert_eq!(
        refused(&OUTCOMES.replace("bob,2", "bob,4")),
        "r.csv:2: invalid value: string \"4\", expected a pattern, 1 to 3: the file is damaged; run \
         the experiment again"
    );
}

#[test]
fn a_file_is_written_whole_with_its_folders_and_nothing_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("results/sim/table1.csv");
    outcomes().write(&file).unwrap();
    table(Measure::Rtt, &[], vec![]).write(&file).unwrap();
    outcomes().write(&file).unwrap();
    assert_eq!(Table::read(&file, Measure::Outcome).unwrap(), outcomes());
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let root = tempfile::tempdir().unwrap();
    let blocked = root.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = outcomes().write(&blocked.join("table1.csv")).unwrap_err().to_string();
    let start = format!("cannot create the folder {}: ", blocked.display());
    assert!(error.starts_with(&start) && error.ends_with("; choose another with --out"), "{error}");
    let error = Table::read(&root.path().join("none.csv"), Measure::Rtt).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot read {}/none.csv: No such file or directory (os error 2); run the experiment again, or name another folder",
            root.path().display()
        )
    );
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_nothing_half_written() {
    let root = tempfile::tempdir().unwrap();
    // A folder stands where the file should go, so the renaming fails.
    let file = root.path().join("table1.csv");
    fs::create_dir_all(file.join("x")).unwrap();
    let error = outcomes().write(&file).unwrap_err().to_string();
    let start = format!("cannot write table1.csv in the folder {}: ", root.path().display());
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

proptest! {
    /// A file cut anywhere but at the end of a line is refused, and no damage makes a panic.
    #[test]
    fn no_cut_goes_unnoticed_within_a_line(at in 0..OUTCOMES.len(), byte in any::<u8>()) {
        let cut = parse(&OUTCOMES[..at], Measure::Outcome);
        prop_assert_eq!(cut.is_ok(), at > 0 && OUTCOMES.as_bytes()[at - 1] == b'\n');
        let mut damaged = OUTCOMES.as_bytes().to_vec();
        damaged[at] = byte;
        let _ = Table::parse(Path::new("r.csv"), &damaged, Measure::Outcome);
    }

    /// Durations come back as they were written.
    #[test]
    fn millis_come_back(micros in 0..u64::MAX / 1000) {
        let rtts = table(Measure::Rtt, &[], vec![Row::Rtt(rtt(1, Some(Millis { micros })))]);
        prop_assert_eq!(parse(&text(&rtts), Measure::Rtt).unwrap(), rtts);
    }
}
