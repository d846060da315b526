//! Faults that a network must live through: lost packets, moves, restarts, silence, narrow links.
//!
//! Every scene is two nodes, Alice and Bob, and an echo from Alice to Bob; each runs as every [`Cell`]: both methods,
//! all patterns, both relay modes. A failure prints the cell, the seed and the fault, which replay it.

#[path = "../common/mod.rs"]
mod common;
mod losses;
mod moves;
mod restarts;
mod scene;
mod search;
mod silence;
mod sizes;
