//! The disk that the services' database is on.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cyphonic_core::key::Key128;
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, MemoryStore, Store, StoreError};

/// A database that can be read at any time, and written as long as there is room.
#[derive(Debug)]
pub(super) struct Disk {
    store: MemoryStore,
    is_full: AtomicBool,
}

impl Disk {
    pub(super) fn new(store: MemoryStore) -> Self {
        Self { store, is_full: AtomicBool::new(false) }
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// The database, to write to.
    fn with_room(&self) -> Result<&MemoryStore, StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            Err(StoreError::Backend("no space left on device".to_owned()))
        } else {
            Ok(&self.store)
        }
    }
}

impl Store for Disk {
    fn put_device(&self, device: &Device) -> Result<(), StoreError> {
        self.with_room()?.put_device(device)
    }

    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError> {
        self.store.device(node)
    }

    fn remove_device(&self, node: NodeId) -> Result<(), StoreError> {
        self.with_room()?.remove_device(node)
    }

    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError> {
        self.with_room()?.put_common_key(node, key, ends)
    }

    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError> {
        self.store.common_key(node)
    }

    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError> {
        self.store.common_key_ends(node)
    }

    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError> {
        match self.store.addresses_of(name)? {
            Some(addresses) => Ok(addresses),
            None => self.with_room()?.allocate(name),
        }
    }

    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError> {
        self.store.addresses_of(name)
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError> {
        self.store.owner_of(address)
    }

    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError> {
        self.with_room()?.accept_epoch(node, epoch)
    }

    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError> {
        self.store.last_epoch(node)
    }
}
