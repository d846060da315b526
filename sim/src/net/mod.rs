//! The simulated network: boxes and wires that carry whole IP packets.

mod netbox;

pub use netbox::{BoxInput, BoxOutput, NetBox};
