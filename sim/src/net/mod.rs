//! The simulated network: boxes and wires that carry whole IP packets.
//!
//! A box ([`NetBox`]) is a pure machine with numbered interfaces: a host, a [`Router`], a [`nat::NatBox`], a
//! [`FirewallBox`]. A wire joins two interfaces and has a behaviour of its own in each direction ([`WireConfig`]). A
//! [`NetworkBuilder`] puts them together, and one of two engines ([`engine`]) runs them:
//!
//! ```text
//! box ─ Send ─→ wire: up? MTU? queue, rate, loss, delay, jitter ─→ tap ─→ engine ─→ Packet ─→ box
//! ```
//!
//! Loss, delay and damage of a packet are decided when it is sent, from seeded random streams ([`seed`]) of that wire
//! alone. So the arrival of every packet is known in advance, and any two engines give the same run. Every packet that
//! does not arrive is counted under a named reason ([`NetDrop`]).

mod drop;
pub mod engine;
mod firewall;
mod forward;
pub mod nat;
mod netbox;
mod npt;
pub mod packet;
mod route;
mod router;
mod session;
mod tap;
mod topology;
mod wire;

pub use drop::{Drops, NetDrop};
pub use engine::{Engine, EventEngine, Storm, TurmoilEngine};
pub use firewall::{Firewall, FirewallBox, FirewallConfig, Flows};
pub use forward::Forwarder;
pub use netbox::{BoxInput, BoxOutput, NetBox};
pub use npt::{Npt, NptBox, NptError};
pub use route::Routes;
pub use router::Router;
pub use session::IdleTimes;
pub use tap::{TapMode, TapSummary, Tapped};
pub use topology::{BoxId, Direction, MAX_INTERFACES, Network, NetworkBuilder, TopologyError, WireId};
pub use wire::WireStats;

pub use cyphonic_wire::{
    BurstLoss, Faces, MAX_DELAY, MIN_DELAY, MIN_MTU, Outages, PathConfig, QueueLimit, Reorder, WireConfig, WireError,
    WireFaults, seed,
};
