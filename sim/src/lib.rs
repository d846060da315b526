//! The network in which the same core runs, and the lab that reproduces the paper.
//!
//! ```text
//! scenario ─▶ world (hosts, NATs, firewalls, wires) ─▶ engine: turmoil or events ─▶ run ─▶ measure ─▶ lab
//! ```

pub mod capture;
pub mod dissect;
pub mod error;
pub mod host;
pub mod lab;
pub mod manifest;
pub mod measure;
pub mod net;
pub mod oracle;
pub mod run;
pub mod seeded;
pub mod soak;
pub mod world;

/// Bytes as two digits each.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
