//! What the parts of a node have in common: one way in, and one way out.
//!
//! A part sees neither the other parts nor the carriage. Its inputs say what happened, its outputs say what is to be
//! done, in this order and at once: [`Node`](super::Node) is the composition that carries outputs out, and an output of
//! one part becomes an input of another only there. So a part is tested alone: rows of (state, input) → (state,
//! outputs).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::time::Instant;
use crate::timing::Due;

/// Names a tunnel within one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TunnelId(pub(super) u32);

/// A part of a node.
pub(super) trait Part {
    /// What can happen to it.
    type Input;
    /// What it wants to be done.
    type Output;

    /// Takes one input.
    fn handle(&mut self, turn: &mut Turn<'_, Self::Output>, input: Self::Input);

    /// When it wants to be told that time has passed, and what for.
    fn next_timer(&self) -> Option<Due>;
}

/// One call of a part: when it is, what it draws from, and where its outputs go.
pub(super) struct Turn<'a, O> {
    /// The time.
    pub(super) now: Instant,
    /// The randomness that the parts share.
    pub(super) random: &'a mut Random,
    out: &'a mut Vec<O>,
}

impl<'a, O> Turn<'a, O> {
    /// A call at `now`. Outputs are appended to `out`.
    pub(super) fn new(now: Instant, random: &'a mut Random, out: &'a mut Vec<O>) -> Self {
        Self { now, random, out }
    }

    /// Wants something to be done, after all that was wanted before.
    pub(super) fn push(&mut self, output: O) {
        self.out.push(output);
    }
}

/// The randomness that the parts of a node share: transaction numbers and pauses. It is one stream, so that a node's
/// transactions with its NMS do not collide more often than chance has it, whichever part begins them.
pub(super) struct Random(ChaCha20Rng);

impl Random {
    pub(super) fn new(rng: ChaCha20Rng) -> Self {
        Self(rng)
    }

    pub(super) fn u32(&mut self) -> u32 {
        if defect!(ProcessWideCounter) {
            static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            return CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.0.next_u32()
    }
}

/// A stream of randomness of its own, so that one part never disturbs another.
pub(super) fn fork(rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}
