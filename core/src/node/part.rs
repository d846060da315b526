//! Shared by all parts of a node: one way in, and one way out.
//!
//! A part sees neither the other parts nor the carriage. Its inputs say what happened. Its outputs say what has to be
//! done, in this order and at once. [`Node`](super::Node), the composition, carries outputs out. Only there an output
//! of one part becomes an input of another. So each part is tested alone, by rows of (state, input) → (state, outputs).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timing::Due;

/// Names a tunnel within one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TunnelId(pub(super) u32);

/// How a Route Direction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// This node asked for it.
    pub(super) initiator: bool,
    /// The transaction of the Route Direction.
    pub(super) transaction: u32,
    /// One of the two nodes is slow: each wait is longer.
    pub(super) slow: bool,
    /// What both nodes wait for while the tunnel comes up.
    pub(super) signaling: Signaling,
}

/// A part of a node.
pub(super) trait Part {
    /// What can happen to it.
    type Input;
    /// What it wants to be done.
    type Output;

    /// Takes one input.
    fn handle(&mut self, turn: &mut Turn<'_, Self::Output>, input: Self::Input);

    /// The time of the next timeout, and its timer.
    fn next_timer(&self) -> Option<Due>;
}

/// One call of a part: the time, the randomness, and the receiver of its outputs.
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

    /// Adds an output behind the earlier ones.
    pub(super) fn push(&mut self, output: O) {
        self.out.push(output);
    }
}

/// The randomness that the parts of a node share: transaction numbers and pauses. It is one stream for all parts. So
/// transactions of one node with its NMS collide only by chance.
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

/// A separate random stream, so that one part never changes the draws of another.
pub(super) fn fork(rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}
