//! Tables for the tests of the parts: rows of (state, input) → (state, outputs).

use std::fmt::Write;

use super::part::{Part, Random, Turn};
use crate::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// Transactions by the order in which they first appeared: `#0`, `#1`. Tables cannot name them otherwise, as they are
/// drawn.
#[derive(Default)]
pub(super) struct Numbers(Vec<u32>);

impl Numbers {
    /// How tables write a transaction that the part drew, or that the NMS did.
    pub(super) fn write(&mut self, transaction: u32) -> String {
        if transaction < 1_000 {
            return format!("@{transaction}");
        }
        let at = self.0.iter().position(|&known| known == transaction).unwrap_or_else(|| {
            self.0.push(transaction);
            self.0.len() - 1
        });
        format!("#{at}")
    }

    /// The transaction that a table means by `#0`, or by `@7` if the NMS drew it.
    pub(super) fn read(&self, word: &str) -> u32 {
        match word.split_at(1) {
            ("#", at) => self.0[at.parse::<usize>().expect("a number")],
            ("@", number) => number.parse().expect("a number"),
            _ => panic!("no transaction: {word}"),
        }
    }
}

/// A part under test, and how tables write what goes into it and what comes out.
pub(super) trait Rows {
    type Part: Part;
    fn part(&mut self) -> &mut Self::Part;
    fn input(&mut self, now: Instant, words: &[&str]) -> <Self::Part as Part>::Input;
    fn output(&mut self, output: <Self::Part as Part>::Output) -> String;
    /// Asks the part a question, if the words are one and no input. Returns its answer.
    fn ask(&mut self, _now: Instant, _words: &[&str]) -> Option<String> {
        None
    }
    fn state(&mut self) -> String;
}

/// Runs a table. Each row is `milliseconds | input | outputs | state after it`; outputs are divided by semicolons. A
/// row that differs fails the test, which then shows the whole table as it came out.
pub(super) fn check<R: Rows>(mut rows: R, table: &str) {
    let mut random = Random::new(ChaCha20Rng::from_seed([9; 32]));
    let mut came_out = String::new();
    let mut differs = false;
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let &[at, input, outputs, state] = &cells[..] else { panic!("not four columns: {row}") };
        let now = Instant::from_millis(at.parse().expect("milliseconds"));
        let words: Vec<&str> = input.split_whitespace().collect();
        let answer = rows.ask(now, &words);
        let actual = answer.unwrap_or_else(|| {
            let taken = rows.input(now, &words);
            let mut out = Vec::new();
            rows.part().handle(&mut Turn::new(now, &mut random, &mut out), taken);
            out.into_iter().map(|output| rows.output(output)).collect::<Vec<String>>().join("; ")
        });
        let after = rows.state();
        let same = actual == outputs && after == state;
        differs |= !same;
        let mark = if same { ' ' } else { '!' };
        writeln!(came_out, "{mark} {at:>6} | {input:<34} | {actual} | {after}").expect("a string");
    }
    assert!(!differs, "the table came out as:\n{came_out}");
}
