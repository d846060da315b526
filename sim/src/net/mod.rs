//! The simulated network: boxes and wires that carry whole IP packets.

mod drop;
pub mod engine;
mod firewall;
mod forward;
pub mod nat;
mod netbox;
pub mod packet;
mod route;
mod router;
pub mod seed;
mod session;
mod tap;
mod topology;
mod wire;

pub use drop::{Drops, NetDrop};
pub use engine::{Engine, EventEngine, TurmoilEngine};
pub use firewall::{Firewall, FirewallBox, FirewallConfig};
pub use forward::Forwarder;
pub use netbox::{BoxInput, BoxOutput, NetBox};
pub use route::Routes;
pub use router::Router;
pub use session::IdleTimes;
pub use tap::{TapMode, TapSummary, Tapped};
pub use topology::{BoxId, Direction, MAX_INTERFACES, Network, NetworkBuilder, TopologyError, WireId};
pub use wire::{MAX_DELAY, MIN_DELAY, MIN_MTU, QueueLimit, WireConfig, WireError, WireStats};
