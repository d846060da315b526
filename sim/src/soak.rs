//! The soak: random networks in trouble, held against what must never happen.
//!
//! ```text
//! seed ─▶ generate: a scenario ─▶ run ─▶ check: invariants, and what the model demands ─▶ results, one line a seed
//!                                   └──▶ assault: attackers at the network that it leaves
//!                                              │ one did not hold
//!                                              ▼
//!                                 shrink: the least scenario that fails alike ─▶ failures/soak-SEED.toml
//! ```
//!
//! A plan is a scenario like any other, as text: it replays with `cyphonic-lab run`, and `cyphonic-lab soak --replay`
//! holds the invariants against it. The [`model`] reads only the scenario, and knows nothing of the implementation. A
//! failure that was mended stays in `scenarios/regressions`, and is replayed by the tests.

mod assault;
pub mod campaign;
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
