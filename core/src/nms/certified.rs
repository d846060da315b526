//! The virtual addresses that certificates have.
//!
//! The database says which name has which virtual addresses, and so does a certificate. The certificate counts, because
//! the database has a lower standing: a fault, an old copy or another program may change it. So the NMS remembers the
//! addresses in the certificates of nodes that have registered. An address leads to the node that has it in its
//! certificate. A name that has the same address in the database only is not registered under it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::registry::Registration;
use super::{MAX_NODES, Nms, Place};
use crate::event::Event;
use crate::message::ErrorCode;
use crate::name::{Fqdn, NodeId, Virtual};
use crate::store::StoreError;
use crate::time::Instant;

/// The owners of virtual addresses by their certificates.
#[derive(Default)]
pub(super) struct Certified(BTreeMap<IpAddr, Fqdn>);

fn both(addresses: Virtual) -> [IpAddr; 2] {
    [addresses.v4.into(), addresses.v6.into()]
}

impl Certified {
    pub(super) fn count(&self) -> usize {
        self.0.len() / 2
    }
}

impl Nms {
    /// The virtual addresses in a node's certificate. A fault or a manipulation of the database cannot change them.
    pub(super) fn certified(&mut self, place: Place, name: &Fqdn, stored: Virtual) -> Option<Virtual> {
        let Place::Proposed { link } = place else { return None };
        let shown = self.links.peer_addresses(link).filter(|_| !defect!(CertifiedAddressesIgnored))?;
        if shown != stored {
            self.out.push_back(super::Output::from(Event::AddressesDiffer { name: name.clone(), shown, stored }));
        }
        Some(shown)
    }

    /// Whether a name may be registered under these addresses, which its certificate has (`is_certified`) or only the
    /// database. If its certificate has them, another name that is registered under one of them loses its access.
    pub(super) fn claim(&mut self, now: Instant, name: &Fqdn, addresses: Virtual, is_certified: bool) -> bool {
        for address in both(addresses) {
            if !is_certified {
                if self.certified_owner(address).is_some_and(|owner| owner != *name) {
                    return false;
                }
                continue;
            }
            let stored = self.store.owner_of(address).ok().flatten().filter(|owner| owner != name);
            let registered = stored.and_then(|owner| self.nodes.get(&NodeId::of(&owner)));
            let other = registered.filter(|other| other.certified.is_none()).map(|other| other.name.clone());
            if let Some(other) = other {
                self.end_access(now, &other);
            }
            if defect!(CertifiedOwnerForgotten) {
                continue;
            }
            if self.certified.0.len() < 2 * MAX_NODES || self.certified.0.contains_key(&address) {
                self.certified.0.insert(address, name.clone());
            }
        }
        true
    }

    /// The device that has this virtual address in its certificate.
    fn certified_owner(&self, address: IpAddr) -> Option<Fqdn> {
        let owner = self.certified.0.get(&address)?;
        // The address of a removed device may be another one's some day.
        (!matches!(self.store.device(NodeId::of(owner)), Ok(None))).then(|| owner.clone())
    }

    /// The name that has a virtual address: by its certificate, or else by the database.
    pub(super) fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, ErrorCode> {
        match self.certified_owner(address) {
            Some(owner) => Ok(Some(owner)),
            None => self.store.owner_of(address).map_err(|_: StoreError| ErrorCode::Unavailable),
        }
    }

    /// The virtual addresses of a registered node.
    pub(super) fn addresses_of(&self, node: &Registration) -> Option<Virtual> {
        node.certified.or_else(|| self.store.addresses_of(&node.name).ok().flatten())
    }
}
