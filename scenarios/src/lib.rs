//! Experiments as data, and result rows.
//!
//! A scenario is a TOML file (the README of this folder describes every key). It is read in these steps:
//!
//! ```text
//! file → Document → Plan: --set and [sweep] laid over it → for each cell: spelling → sense → Scenario
//! ```
//!
//! A [`Scenario`] holds only valid values: an engine that runs it needs no further check. An engine returns its
//! measurements as [`Row`]s, which a [`Table`] writes to a results file and reads again, and its events as an event
//! [`log`]. This crate has no engine, and no I/O except files.

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
pub use resolve::{LEAST_MTU_V4, LEAST_MTU_V6, MAX_NODES, MAX_SITES, MAX_STEPS, access_rules};
pub use rows::Row;
pub use scenario::{
    Action, BurstLoss, Carrier, Egress, Far, Firewall, Inspect, Interface, Link, LinkAt, Nat, Nat64, NatAt, Node,
    Outages, PROXY_PORT, Pair, Probes, Queue, Role, Scenario, Service, Services, Site, SiteV4, SiteV6, Step, Throttle,
    Trait, Way, ZONE,
};
pub use sketch::{first_cell, two_nodes};
pub use table::{Line, ResultsError, Table, write_whole};
pub use words::{
    Cipher, Congestion, Dependence, Engine, Family, FirewallMode, Hairpin, Handover, HostClock, IcmpErrors, Invariant,
    Login, Measure, Method, Openness, Over, Policy, Pooling, PortChoice, Protocol, Reaction, Refresh, Refusal,
    ServiceName, Signaling, SiteKind, Towards,
};
