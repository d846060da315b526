//! Faults that a network must survive: lost packets, moves, restarts, silence, narrow links.
//!
//! Every scene has two nodes, Alice and Bob, and an echo from Alice to Bob. Each runs as every [`Cell`]: both methods,
//! all patterns, both relay modes. A failure prints the cell, the seed and the fault, by which it can be replayed.

#[path = "../common/mod.rs"]
mod common;
mod losses;
mod moves;
mod overtaking;
mod restarts;
mod scene;
mod search;
mod silence;
mod sizes;
