//! The state that survives restarts of the AS and the NMS. The two share it: the NMS learns a node's common key through
//! the database (paper §2.2.1).
//!
//! A [`Store`] belongs to the driver: a role that crashes loses its own memory, but not the store. All methods take
//! `&self`, so that several roles can share one store. They return a [`StoreError`], so that a store can be a database.
//! [`MemoryStore`] is the one for simulations and tests; [`conformance`] tests a store.
//!
//! | record | key | written by | read by |
//! |---|---|---|---|
//! | [`Device`] | node id | the operator | AS |
//! | common key, and its end | node id | AS | NMS |
//! | [`Virtual`] addresses | FQDN, either address | NMS | NMS |
//! | registration epoch | node id | NMS | NMS |
//!
//! Two records can only grow. A pair of virtual addresses has one owner for ever (paper §2.1): it is never given to
//! another name, not even after the device is removed. An epoch never goes back, so a recorded registration is refused.

mod conform;
mod memory;
mod password;
mod range;

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use crate::key::Key128;
use crate::name::{Fqdn, NodeId, Virtual};

pub use conform::conformance;
pub use memory::MemoryStore;
pub use password::{PasswordHash, SIMULATION_ITERATIONS};
pub use range::{RangeError, VirtualRange};

/// A device that may log in: a row of the AS's device database. Its node id is [`NodeId::of`] its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The node's name.
    pub name: Fqdn,
    /// The password of logins (conventional method only); `None`: no login by password.
    pub password: Option<PasswordHash>,
    /// Whether it may log in by a certificate with its name.
    pub certificate_login: bool,
}

/// Why the store cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Every pair of virtual addresses has an owner.
    #[error("no virtual address is left")]
    Exhausted,
    /// The database behind the store failed; the text is for the log.
    #[error("the store failed: {0}")]
    Backend(String),
}

/// The shared database of AS and NMS. Every method is atomic.
pub trait Store: Debug + Send + Sync {
    /// Adds a device, or replaces the one of the same name. Its epoch and its common key are reset, so that an earlier
    /// device of this name has no influence. Its virtual addresses stay.
    fn put_device(&self, device: &Device) -> Result<(), StoreError>;

    /// The device with this id.
    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError>;

    /// Forgets the device and its common key; its virtual addresses and its epoch stay.
    fn remove_device(&self, node: NodeId) -> Result<(), StoreError>;

    /// Sets the node's common key, in place of the last login's, and when it ends: with the certificate of the login,
    /// in whole seconds since 1970. `None`: never.
    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError>;

    /// The node's common key; none if it never logged in.
    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError>;

    /// When the node's common key ends, since 1970; `None` if it does not, or if there is none.
    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError>;

    /// The node's virtual addresses: those that it has, or else the next free pair, which is its own from now on.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] if no pair is free.
    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError>;

    /// The virtual addresses that [`Self::allocate`] gave to this name; none if it never did.
    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError>;

    /// The name that owns this virtual address, of either family.
    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError>;

    /// Whether `epoch` is greater than every epoch accepted from this node before. If so, it becomes the greatest one.
    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError>;

    /// The greatest epoch accepted from this node; none if it never registered.
    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError>;
}
