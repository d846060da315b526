//! The simulated network: boxes and wires that carry whole IP packets.

mod drop;
mod netbox;
pub mod packet;
pub mod seed;

pub use drop::{Drops, NetDrop};
pub use netbox::{BoxInput, BoxOutput, NetBox};
