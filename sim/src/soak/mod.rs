//! The soak: random networks in trouble, on which invariants are checked.
//!
//! ```text
//! seed ─▶ generate: a scenario ─▶ run ─▶ check: invariants, and what the model demands ─▶ results, one line a seed
//!                                   └──▶ assault: attackers at the network that it leaves
//!                                              │ one did not hold
//!                                              ▼
//!                                 shrink: the least scenario that fails alike ─▶ failures/soak-SEED.toml
//! ```
//!
//! A plan is an ordinary scenario, as text: `cyphonic-lab run` replays it, and `cyphonic-lab soak --replay` checks the
//! invariants on it. The [`model`] reads only the scenario; it is independent of the implementation. The scenario of a
//! failure that was mended stays in `scenarios/regressions`, and the tests replay it.

mod assault;
pub mod campaign;
mod changeover;
pub mod check;
pub mod coverage;
pub mod depth;
mod errors;
pub mod generate;
pub mod model;
pub mod results;
pub mod sheet;
pub mod shrink;
pub mod violation;
mod wires;
