//! Valid and invalid files, read as rows of Table 4.

use super::*;
use crate::rows::{Framing, Rtt};

const GOOD: &str = "framing,a_loss,seed,probe,rtt_ms\n\
                    udp4501,0.02,7,1,4.018\n\
                    stream,0,7,1,\n";

fn read_text(text: &[u8]) -> Result<Vec<Line<Rtt>>, String> {
    let table = Table { path: "table4.csv".into(), lines: Vec::new(), origin: Origin::Simulator };
    parse(&table, text).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused(text: &[u8], problem: &str) {
    let expected = format!("table4.csv{problem}; make it with `cargo run --release`");
    assert_eq!(read_text(text).unwrap_err(), expected);
}

#[test]
fn columns_are_found_by_name_and_those_of_the_sweep_tell_the_run() {
    let lines = read_text(GOOD.as_bytes()).unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].row, Rtt { framing: Framing::Udp4501, rtt_ms: Some(4.018) });
    assert_eq!((lines[0].run.clone(), lines[0].cell.as_str()), (vec!["0.02".into(), "7".into()], "a_loss=0.02"));
    assert_eq!(lines[1].row, Rtt { framing: Framing::Stream, rtt_ms: None });
    assert_eq!(lines[1].number, 3);
}

#[test]
fn a_missing_file_names_itself_and_its_remedy() {
    let error = read::<Rtt>(Path::new("/nowhere"), Origin::Simulator, "table4").unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/sim/table4.csv: cannot be read: "), "{error}");
    assert!(error.ends_with("; make it with `cargo run --release`"), "{error}");
    let error = read::<Rtt>(Path::new("/nowhere"), Origin::Paper, "x").unwrap_err().to_string();
    assert!(error.ends_with("restore it with `git checkout -- results/paper`"), "{error}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    // Without the header's end there is no row. Without a row's end the row is cut off. Missing whole lines cannot be
    // noticed.
    for length in 0..GOOD.len() {
        let whole_lines = GOOD.as_bytes()[..length].ends_with(b"\n") && length > 40;
        assert_eq!(read_text(&GOOD.as_bytes()[..length]).is_ok(), whole_lines, "cut at {length}");
    }
}

#[test]
fn damage_is_refused_with_its_line_and_column() {
    assert_refused(b"", ": the file is empty");
    assert_refused(&GOOD.as_bytes()[..GOOD.len() - 1], ":3: the file is cut off: its last line has no end");
    assert_refused(b"framing,seed,probe,rtt_ms\n", ":1: there are no rows below the header");
    assert_refused(b"framing,seed,probe\nx,1,1\n", ":1: there is no column `rtt_ms`");
    assert_refused(b"framing,rtt_ms,rtt_ms\nstream,1,1\n", ":1: there are several columns `rtt_ms`");
    assert_refused(&GOOD.replace(",7,1,4", ",7,4").into_bytes(), ":2: 4 fields instead of 5");
    assert_refused(&GOOD.replace("4.018", "fast").into_bytes(), ":2: `fast` is not a finite number of at least 0");
    assert_refused(
        &GOOD.replace("stream", "quic").into_bytes(),
        ":3: unknown variant `quic`, expected one of `udp4501`, `stream`, `datagram`, `compact`",
    );
    assert_refused(b"framing,rtt_ms\nstream,\xff\n", ":2: this is no text");
}

#[test]
fn impossible_numbers_are_refused() {
    for bad in ["NaN", "inf", "-1", "1e999"] {
        assert!(read_text(GOOD.replace("4.018", bad).as_bytes()).is_err(), "{bad}");
    }
}
