//! A node that was told another node's virtual addresses, and uses them as its own.
//!
//! The addresses belong to a device that never starts. So every packet that an application gets from them was sent by
//! the impostor.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::key::Key128;
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, Store, StoreError};
use cyphonic_scenarios::{Engine, Scenario, ZONE};

use crate::host::Host;
use crate::run;
use crate::soak::violation::{Invariant, Violation, violation as violated};
use crate::world::{Actor, Watch, World};

/// Checks I1 in a separate run.
pub(super) fn violation(scenario: &Scenario, seed: u64) -> Option<Violation> {
    let watch = Watch::default();
    let mut world = World::new(scenario, seed, Engine::Events, &watch);
    let who = scenario.nodes[seed as usize / 7 % scenario.nodes.len()].name.clone();
    let ghost: Fqdn = format!("ghost.{ZONE}").parse().expect("a name");
    world.store.put_device(&Device { name: ghost.clone(), password: None, certificate_login: true }).ok()?;
    let told = world.store.allocate(&ghost).ok()?;
    world.store = Arc::new(Liar { truth: world.store.clone(), who: who.clone(), told });
    world.restart(scenario, seed, &watch, Actor::Nms);
    let run = run::run_in(world, scenario, seed, &watch);
    for (node, member) in scenario.nodes.iter().enumerate().filter(|(_, member)| member.name != who) {
        for address in [IpAddr::from(told.v4), told.v6.into()] {
            if run.world.look(node, |host: &Host<_>| host.sources().contains(&address)) {
                let (me, who) = (member.name.short(), who.short());
                let text =
                    format!("an application of {me} got packets from {address}, which {who} sent and does not own");
                return Some(violated(Invariant::I1, text));
            }
        }
    }
    None
}

/// A database from which the NMS gives one node the other device's addresses, and all other nodes their own.
#[derive(Debug)]
struct Liar {
    truth: Arc<dyn Store>,
    who: Fqdn,
    told: Virtual,
}

impl Store for Liar {
    fn put_device(&self, device: &Device) -> Result<(), StoreError> {
        self.truth.put_device(device)
    }

    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError> {
        self.truth.device(node)
    }

    fn remove_device(&self, node: NodeId) -> Result<(), StoreError> {
        self.truth.remove_device(node)
    }

    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError> {
        self.truth.put_common_key(node, key, ends)
    }

    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError> {
        self.truth.common_key(node)
    }

    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError> {
        self.truth.common_key_ends(node)
    }

    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError> {
        let addresses = self.truth.allocate(name)?;
        Ok(if *name == self.who { self.told } else { addresses })
    }

    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError> {
        self.truth.addresses_of(name)
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError> {
        self.truth.owner_of(address)
    }

    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError> {
        self.truth.accept_epoch(node, epoch)
    }

    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError> {
        self.truth.last_epoch(node)
    }
}
