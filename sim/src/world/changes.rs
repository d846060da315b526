//! What changes between a node and the rest: where it is, its NATs' ports, and single paths.

use std::net::IpAddr;

use cyphonic_core::node::NodeCommand;
use cyphonic_scenarios::{Family, Far, Interface as Place, LinkAt, NatAt, Scenario, Towards, Way};

use super::boxes::NatPart;
use super::{World, addresses};
use crate::host::Interface;
use crate::net::nat::{Nat64Box, NatBox};
use crate::net::{Faces, PathConfig};

impl World {
    /// The NATs of every site in which a node is give its UDP other ports: all of it, or what it sends to one far end.
    pub fn rebind(&mut self, scenario: &Scenario, node: usize, to: Option<Far>) {
        let sites = &self.places[node];
        let places: Vec<(usize, Vec<IpAddr>)> = self.look(node, |host| {
            let all = sites.iter().zip(host.interfaces()).filter(|(_, interface)| interface.up);
            all.map(|(&site, interface)| (site, interface.addresses.clone())).collect()
        });
        let far = to.map(|far| scenario.seen_as(far, None));
        let is_far = |address: IpAddr| far.as_ref().is_none_or(|far| far.iter().any(|net| net.contains(&address)));
        for (site, addresses) in places {
            for (_, part) in self.parts.nats.iter().filter(|(place, _)| *place == NatAt::Site(site)) {
                for &address in &addresses {
                    match *part {
                        NatPart::Nat(id) => {
                            self.engine.with(id, |now, nat: &mut NatBox| nat.nat_mut().rebind(now, address, is_far));
                        }
                        NatPart::Nat64(id) => {
                            self.engine.with(id, |now, nat: &mut Nat64Box| nat.nat_mut().rebind(now, address, is_far));
                        }
                    }
                }
            }
        }
    }

    /// Lets what goes between a site and a far end fare otherwise, in the directions that are named, for what is sent
    /// from now on. `scenario` is that of which the world was made.
    pub fn set_path(&mut self, scenario: &Scenario, site: usize, path: &PathWords<'_>) {
        let at = LinkAt::Site(site);
        let Some(&(_, access)) = self.parts.links.iter().find(|(place, _)| *place == at) else { return };
        let name = path.name();
        for (direction, faces) in access.wire.both().into_iter().zip([Faces::Destination, Faces::Source]) {
            if path.towards.is(faces == Faces::Destination) {
                let far = scenario.seen_as(path.far, path.family);
                let config = PathConfig { far, faces, config: cyphonic_wire::of_path(path.way) };
                self.engine.set_path(direction, &name, Some(config)).expect("a scenario's paths can be simulated");
            }
        }
    }

    /// Moves a node: it leaves every network that it is in, and appears in another.
    pub fn move_node(&mut self, node: usize, to: &Place) {
        let leaves: Vec<usize> = self.places[node].iter().copied().filter(|&site| site != to.site).collect();
        self.change_places(node, &leaves, Some(to));
    }

    /// A node gets an interface in one more network.
    pub fn attach(&mut self, node: usize, to: &Place) {
        self.change_places(node, &[], Some(to));
    }

    /// A node loses its interface in a network.
    pub fn detach(&mut self, node: usize, site: usize) {
        self.change_places(node, &[site], None);
    }

    /// A node is no more in some sites, and is in another one from now on; it knows at once.
    fn change_places(&mut self, node: usize, leaves: &[usize], to: Option<&Place>) {
        let sites = self.places[node].clone();
        debug_assert!(to.is_none_or(|to| sites.contains(&to.site)), "built for every place");
        let (mtus, nat64s) = (self.mtus[node].clone(), self.nat64.clone());
        self.node(node, |now, host| {
            for (iface, (&site, &mtu)) in sites.iter().zip(&mtus).enumerate() {
                if leaves.contains(&site) {
                    host.set_interface(now, iface, Interface { addresses: Vec::new(), mtu, up: false });
                } else if let Some(to) = to.filter(|to| to.site == site) {
                    host.set_interface(now, iface, Interface { addresses: addresses(to), mtu, up: true });
                }
            }
            let up: Vec<_> = sites.iter().zip(host.interfaces()).filter(|(_, interface)| interface.up).collect();
            let nat64 = up.iter().find_map(|(site, _)| nat64s[**site]);
            let addresses = up.iter().flat_map(|(_, interface)| interface.addresses.iter().copied()).collect();
            host.command(now, NodeCommand::Network { addresses, nat64 });
        });
    }
}

/// The words of a path step, but for whose access link it is on.
pub struct PathWords<'a> {
    /// The other end.
    pub far: Far,
    /// In which directions of the link.
    pub towards: Towards,
    /// Only what goes by this family.
    pub family: Option<Family>,
    /// How it fares.
    pub way: &'a Way,
}

impl PathWords<'_> {
    /// Names the path on its link.
    fn name(&self) -> String {
        format!("{:?} {:?}", self.far, self.family)
    }
}
