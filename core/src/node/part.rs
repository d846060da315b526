//! The interface of all parts of a node: one input, and one output.
//!
//! A part knows neither the other parts nor the carriage. Its inputs say what happened. Its outputs say what has to be
//! done, at once and in this order. [`Node`](super::Node), the composition, carries the outputs out. Only there does an
//! output of one part become an input of another. So each part can be tested alone, by rows of (state, input) → (state,
//! outputs). Packets go a shorter way: see `packets`.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timing::Due;

/// The identifier of a tunnel within one node. It is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TunnelId(pub(super) u32);

/// The circumstances of a Route Direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether this node asked for it.
    pub(super) initiator: bool,
    /// The transaction of the Route Direction.
    pub(super) transaction: u32,
    /// Whether one of the two nodes is slow. Each wait is longer then.
    pub(super) slow: bool,
    /// Which messages both nodes wait for while the tunnel comes up.
    pub(super) signaling: Signaling,
    /// Whether the path at the TRS ends with a grant, which this node renews (conventional method).
    pub(super) granted: bool,
    /// How long the new tunnel counts at least as searching its path MTU: the stream carries large packets meanwhile. A
    /// tunnel that replaces one that is up loses no packet that the old one would carry.
    pub(super) searches: Duration,
}

/// A part of a node.
pub(super) trait Part {
    /// What can happen to the part.
    type Input;
    /// What the part wants to be done.
    type Output;

    /// Handles one input.
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

    /// Adds an output after the earlier ones.
    pub(super) fn push(&mut self, output: O) {
        self.out.push(output);
    }
}

/// The random numbers for transactions and pauses. All parts of a node share this one stream, so transactions of one
/// node with its NMS collide only by chance.
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

/// A random stream of its own, seeded from `rng`, so that its user does not change the later draws of `rng`.
pub(super) fn fork(rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use crate::machine::Output;
    use crate::node::carriage::CarriageOutput;
    use crate::quic::LinkOutput;

    /// Each packet is moved through each of these types. More than 128 bytes are moved by a call of `memcpy`, so what
    /// is large belongs into a box.
    #[test]
    fn what_each_packet_moves_through_is_small() {
        let sizes = [size_of::<LinkOutput>(), size_of::<CarriageOutput>(), size_of::<Output>()];
        assert!(sizes.iter().all(|size| *size <= 128), "{sizes:?}");
    }
}
