//! A store in memory, for simulations and tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Device, Store, StoreError, VirtualRange};
use crate::key::Key128;
use crate::name::{Fqdn, NodeId, Virtual};

/// The state of AS and NMS in memory. Its owner is the driver, so it survives a crash of a role.
#[derive(Debug, Default)]
pub struct MemoryStore {
    range: VirtualRange,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    devices: BTreeMap<NodeId, Device>,
    common_keys: BTreeMap<NodeId, (Key128, Option<Duration>)>,
    addresses: BTreeMap<Fqdn, Virtual>,
    owners: BTreeMap<IpAddr, Fqdn>,
    epochs: BTreeMap<NodeId, u64>,
}

impl MemoryStore {
    /// An empty store that gives out addresses of `range`.
    pub fn new(range: VirtualRange) -> Self {
        Self { range, tables: Mutex::default() }
    }

    /// A poisoned lock is ignored: no method leaves the tables half changed.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn put_device(&self, device: &Device) -> Result<(), StoreError> {
        let (mut tables, node) = (self.tables(), NodeId::of(&device.name));
        tables.devices.insert(node, device.clone());
        // Epoch and common key go together. Without the old common key, a recorded registration of the earlier device
        // does not decrypt, so a reset epoch is safe.
        tables.common_keys.remove(&node);
        tables.epochs.remove(&node);
        Ok(())
    }

    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError> {
        Ok(self.tables().devices.get(&node).cloned())
    }

    fn remove_device(&self, node: NodeId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.devices.remove(&node);
        tables.common_keys.remove(&node);
        Ok(())
    }

    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError> {
        self.tables().common_keys.insert(node, (key.clone(), ends));
        Ok(())
    }

    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError> {
        Ok(self.tables().common_keys.get(&node).map(|(key, _)| key.clone()))
    }

    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError> {
        Ok(self.tables().common_keys.get(&node).and_then(|(_, ends)| *ends))
    }

    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError> {
        let mut tables = self.tables();
        if let Some(addresses) = tables.addresses.get(name) {
            return Ok(*addresses);
        }
        // Pairs are never given back, so the number of names is the index of the next free pair.
        let index = u32::try_from(tables.addresses.len()).map_err(|_| StoreError::Exhausted)?;
        let index = if defect!(AddressGivenTwice) { index / 2 } else { index };
        let addresses = self.range.pair(index).ok_or(StoreError::Exhausted)?;
        tables.addresses.insert(name.clone(), addresses);
        tables.owners.insert(addresses.v4.into(), name.clone());
        tables.owners.insert(addresses.v6.into(), name.clone());
        Ok(addresses)
    }

    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError> {
        Ok(self.tables().addresses.get(name).copied())
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError> {
        Ok(self.tables().owners.get(&address).cloned())
    }

    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let newer = tables.epochs.get(&node).is_none_or(|last| epoch > *last);
        if newer {
            tables.epochs.insert(node, epoch);
        }
        Ok(newer)
    }

    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError> {
        Ok(self.tables().epochs.get(&node).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_store_conforms() {
        super::super::conformance(&|| Box::new(MemoryStore::default()));
    }

    #[test]
    fn a_full_range_refuses_new_names_and_still_serves_the_old_ones() {
        let range = VirtualRange::new([10, 0, 0, 0].into(), 27, "fd00::".parse().unwrap()).unwrap();
        let store = MemoryStore::new(range);
        let name = |n: u32| -> Fqdn { format!("node{n}.example").parse().unwrap() };
        let given: Vec<_> = (0..range.capacity()).map(|n| store.allocate(&name(n)).unwrap()).collect();
        assert_eq!(store.allocate(&name(range.capacity())), Err(StoreError::Exhausted));
        assert_eq!(store.addresses_of(&name(range.capacity())), Ok(None));
        for (n, addresses) in (0..).zip(given) {
            assert_eq!(store.allocate(&name(n)), Ok(addresses));
        }
    }

    #[test]
    fn a_store_prints_no_secret() {
        let store = MemoryStore::default();
        let name: Fqdn = "alice.example".parse().unwrap();
        let password = super::super::PasswordHash::new("p", [0xa5; 16], super::super::SIMULATION_ITERATIONS);
        let node = NodeId::of(&name);
        store.put_device(&Device { name, password: Some(password), certificate_login: true }).unwrap();
        store.put_common_key(node, &Key128([0xa5; 16]), None).unwrap();
        let printed = format!("{store:?}");
        assert!(printed.contains("Key128(..)") && printed.contains("PasswordHash(..)"), "{printed}");
        assert!(!printed.contains("165") && !printed.contains("a5"), "{printed}");
    }
}
