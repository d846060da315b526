//! What an experiment is, as data, and what a result row is.
//!
//! A scenario is a TOML file (the format is described key by key in this folder's README). It walks straight through:
//!
//! ```text
//! file → Document → Plan: --set and [sweep] laid over it → for each cell: spelling → sense → Scenario
//! ```
//!
//! A [`Scenario`] holds only valid values: an engine that runs it needs no further check. Its measurements come back as
//! [`Row`]s, which a [`Table`] writes to a results file and reads again, and its events as an event [`log`]. No engine
//! is in here, and no I/O but files.

mod address;
mod document;
mod embedded;
mod error;
mod keys;
pub mod log;
mod plan;
mod read;
mod resolve;
pub mod rows;
mod scenario;
mod schema;
mod sketch;
mod table;
mod words;

pub use address::{CARRIER_V4, NAT64_PREFIX, SERVICES_V4, SERVICES_V6, VIRTUAL_V4, VIRTUAL_V6};
pub use document::Document;
pub use embedded::EMBEDDED;
pub use error::{Place, Problem, ScenarioError};
pub use keys::{actions, firewall_keys, link_keys, nat_keys};
pub use plan::{Cell, MAX_CELLS, Plan};
pub use resolve::{LEAST_MTU_V4, LEAST_MTU_V6, MAX_NODES, MAX_SITES, MAX_STEPS};
pub use rows::Row;
pub use scenario::{
    Action, BurstLoss, Carrier, Egress, Far, Firewall, Inspect, Interface, Link, LinkAt, Nat, Nat64, NatAt, Node,
    Outages, Pair, Probes, Queue, Role, Scenario, Service, Services, Site, SiteV4, SiteV6, Step, Throttle, Trait, Way,
    ZONE,
};
pub use sketch::{first_cell, two_nodes};
pub use table::{Line, ResultsError, Table, write_whole};
pub use words::{
    Congestion, Dependence, Engine, Family, FirewallMode, Hairpin, IcmpErrors, Invariant, Login, Measure, Method,
    Policy, Pooling, PortChoice, Protocol, Reaction, Refresh, Refusal, ServiceName, SiteKind, Towards,
};
