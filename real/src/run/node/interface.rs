//! The machine around a node: its real addresses, the virtual interface, and the system's resolver.
//!
//! * In: the machine's addresses ([`Interface::moved`]), and the virtual addresses ([`Interface::follow`]).
//! * Out: commands to the role; addresses and routes of the virtual interface; a resolver that knows the zone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cyphonic_core::name::Virtual;
use cyphonic_core::node::{Node, NodeCommand};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::super::dns::Resolver;
use super::super::ready;
use crate::error::Failure;
use crate::net::Network;

pub(super) struct Interface {
    network: Arc<Mutex<Network>>,
    /// Whether each peer needs a route of its own.
    needs_peers: Arc<AtomicBool>,
    resolver: Resolver,
    /// This machine's addresses.
    addresses: Vec<IpAddr>,
    /// The network's NAT64 prefix, if it has one.
    nat64: Option<Ipv6Addr>,
    /// The addresses that the virtual interface was given.
    configured: Option<Virtual>,
    /// Whether systemd was told that the node is ready.
    ready: bool,
}

impl Interface {
    pub(super) fn new(
        (network, needs_peers): (Arc<Mutex<Network>>, Arc<AtomicBool>),
        resolver: Resolver,
        addresses: Vec<IpAddr>,
        nat64: Option<Ipv6Addr>,
    ) -> Self {
        Self { network, needs_peers, resolver, addresses, nat64, configured: None, ready: false }
    }

    /// This machine's addresses, and the NAT64 prefix of its network.
    pub(super) fn underlay(&self) -> (&[IpAddr], Option<Ipv6Addr>) {
        (&self.addresses, self.nat64)
    }

    /// Takes the machine's present addresses. Returns the command for the role, if they have changed.
    pub(super) fn moved(&mut self, addresses: Vec<IpAddr>) -> Option<NodeCommand> {
        if addresses == self.addresses {
            return None;
        }
        tracing::info!(?addresses, "this machine's addresses have changed");
        self.addresses = addresses;
        Some(self.network_of(self.addresses.clone()))
    }

    /// The virtual interface as it is in the kernel.
    pub(super) fn network(&self) -> Arc<Mutex<Network>> {
        self.network.clone()
    }

    /// Makes a route into the virtual interface for each peer, if that is needed. It holds for every packet that comes
    /// afterwards.
    pub(super) fn lead(&self, machine: &Node) {
        if self.needs_peers.load(Ordering::Relaxed) {
            let addresses = machine.peers().into_iter().filter_map(|peer| peer.addresses);
            let peers: BTreeSet<IpAddr> = addresses.flat_map(|own| [own.v4.into(), own.v6.into()]).collect();
            Handle::current().block_on(async { self.network.lock().await.lead(peers).await });
        }
    }

    /// Where packets to this address go, if not into the virtual interface.
    pub(super) fn elsewhere(&self, to: IpAddr) -> Option<String> {
        Handle::current().block_on(async { self.network.lock().await.elsewhere(to).await })
    }

    /// The commands by which the role builds every connection anew: no network, then the same one again.
    pub(super) fn rebuild(&self) -> [NodeCommand; 2] {
        [Vec::new(), self.addresses.clone()].map(|addresses| self.network_of(addresses))
    }

    fn network_of(&self, addresses: Vec<IpAddr>) -> NodeCommand {
        NodeCommand::Network { addresses, nat64: self.nat64 }
    }

    /// Gives the virtual interface these addresses, unless it has them, and tells the resolver.
    pub(super) async fn follow(&mut self, own: Option<Virtual>) -> Result<(), Failure> {
        let Some(own) = own else { return Ok(()) };
        if self.configured != Some(own) {
            self.network.lock().await.configure(own).await?;
            self.configured = Some(own);
            self.resolver.install();
        }
        if !self.ready {
            self.ready = true;
            ready(&format!("registered as {} {}", own.v4, own.v6));
        }
        Ok(())
    }
}

/// Drop runs also if the daemon panics.
impl Drop for Interface {
    fn drop(&mut self) {
        self.resolver.restore();
    }
}
