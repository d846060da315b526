//! Long silence, and simultaneous requests.

use std::time::Duration;

use cyphonic_core::time::Instant;

use crate::scene::{CELLS, first_answer, play, story, tunnels_up};

#[test]
fn after_five_minutes_of_silence_the_tunnel_is_still_there() {
    let steps = r#"
[[step]]
do = "echo"
from = "alice"
to = "bob"
[[step]]
do = "wait"
ms = 300000
[[step]]
do = "echo"
from = "bob"
to = "alice"
[[step]]
do = "echo"
from = "alice"
to = "bob"
"#;
    for cell in &CELLS {
        let settings = format!("{}\nduration_limit_s = 400", cell.settings);
        let scenario = crate::common::scene_with(&settings, cell.pair, "{ delay_ms = 10 }", steps);
        let run = play(&scenario, 1, |_| {});
        for step in [3, 4] {
            let time = first_answer(&run, step);
            assert!(time.is_some_and(|t| t < Duration::from_millis(100)), "{cell}: {time:?}\n{}", story(&run));
        }
        for node in ["alice", "bob"] {
            assert_eq!(tunnels_up(&run, node, Instant::ZERO), 1, "{cell}: {}", story(&run));
        }
    }
}

/// The size of each table of each role, two minutes after Alice moved to and fro this many times.
fn tables_after(cell: &crate::scene::Cell, moves: usize) -> Vec<(String, &'static str, usize)> {
    let round = |to: &str| {
        format!(
            "[[step]]\ndo = \"move\"\nnode = \"alice\"\nto = \"{to}\"\n[[step]]\ndo = \"wait\"\nms = 4000\n\
             [[step]]\ndo = \"echo\"\nfrom = \"bob\"\nto = \"alice\"\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n"
        )
    };
    let rounds: String = ["b", "a"].iter().cycle().take(moves).map(|to| round(to)).collect();
    let steps = rounds + "[[step]]\ndo = \"wait\"\nms = 120000\n";
    let settings = format!("{}\nduration_limit_s = 3000", cell.settings);
    let scenario = crate::common::scene_with(&settings, cell.pair, "{ delay_ms = 10 }", &steps);
    let run = play(&scenario, 1, |_| {});
    assert!(run.complete, "{cell}: {}", story(&run));
    let tables = run.world.tables();
    let all = tables.iter().flat_map(|(host, tables)| tables.iter().map(|&(table, n)| ((*host).to_owned(), table, n)));
    all.collect()
}

#[test]
fn no_table_is_larger_after_many_moves_than_after_few() {
    for cell in &CELLS {
        let (few, many) = (tables_after(cell, 4), tables_after(cell, 60));
        assert!(few.iter().any(|(.., count)| *count > 0));
        for (before, after) in few.iter().zip(&many) {
            assert!(after.2 <= before.2, "{cell}: {before:?}, and later {after:?}");
        }
    }
}

#[test]
fn both_nodes_may_ask_for_each_other_at_the_same_time() {
    for cell in &CELLS {
        for (delay, gap) in
            [(10, 0), (10, 1), (10, 15), (10, 50), (10, 200), (120, 0), (120, 100), (120, 400), (120, 900), (120, 1500)]
        {
            let steps = format!(
                "[[step]]\ndo = \"echo\"\nat_ms = 9000\nfrom = \"alice\"\nto = \"bob\"\ncount = 10\n\
                 [[step]]\ndo = \"echo\"\nat_ms = {}\nfrom = \"bob\"\nto = \"alice\"\ncount = 10\n",
                9_000 + gap
            );
            let run = play(&cell.scene(&format!("{{ delay_ms = {delay} }}"), &steps), 1, |_| {});
            for step in [1, 2] {
                let time = first_answer(&run, step);
                // The longest construction has some twenty trips over two links.
                let limit = Duration::from_millis(1_000 + delay * 45);
                assert!(time.is_some_and(|t| t < limit), "{cell}, {delay} ms, {gap} ms: {time:?}\n{}", story(&run));
            }
        }
    }
}
