//! The routes that a node wants, and the routes of other programs that meet the overlay's range. This file only
//! computes.
//!
//! Linux takes the most specific route, and of equally specific ones that with the lowest metric.
//!
//! | wanted | metric | why |
//! |---|---|---|
//! | the range is unreachable | the worst | no packet to a virtual address may leave unencrypted, also after a crash |
//! | the range leads into the virtual interface | the usual | unless a network of this machine has it |
//! | each peer, and the node's DNS | the best | only where a network of this machine has the range or a part of it |
//!
//! A route of another program is never changed, and never shadowed beyond single peers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{RouteMessageBuilder, packet_route::AddressFamily};

/// The protocol number of our routes. iproute2 has no name for it.
pub(super) const PROTOCOL: u8 = 233;
/// The metric that loses against every other.
const WORST: u32 = u32::MAX;
/// Routes of addresses that the kernel itself makes (`RTPROT_KERNEL`).
const KERNEL: u8 = 2;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// To an interface, by its index, with or without a gateway.
    Interface { index: u32, gateway: bool },
    /// To several interfaces or gateways.
    Several,
    /// To nothing: the sender gets a Destination Unreachable.
    Unreachable,
    /// Into another table, or to nothing without an answer.
    Other,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// The destination prefix.
    pub(super) to: IpNet,
    /// The kernel prefers the route with the smaller one.
    pub(super) metric: u32,
    /// The interface or gateway, or that there is none.
    pub(super) way: Way,
    /// The source address that the kernel chooses because of it.
    pub(super) source: Option<IpAddr>,
    /// The origin of the route, as an RTPROT number (rtnetlink(7)).
    pub(super) protocol: u8,
}

impl Route {
    /// A route as the kernel shows it. None for routes of other tables, and for those to this machine itself.
    pub(super) fn read(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let bits = match header.address_family {
            AddressFamily::Inet => IpNet::V4(ipnet::Ipv4Net::default()),
            AddressFamily::Inet6 => IpNet::V6(ipnet::Ipv6Net::default()),
            _ => return None,
        };
        let (mut to, mut table, mut metric) = (bits.addr(), u32::from(header.table), 0);
        let (mut index, mut gateway, mut several, mut source) = (None, false, false, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => to = plain(address)?,
                RouteAttribute::PrefSource(address) => source = plain(address),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
                RouteAttribute::MultiPath(_) => several = true,
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Table(id) => table = *id,
                _ => {}
            }
        }
        let way = match (header.kind, index) {
            (RouteType::Unicast, Some(index)) if !several => Way::Interface { index, gateway },
            (RouteType::Unicast, _) => Way::Several,
            (RouteType::Unreachable, _) => Way::Unreachable,
            (RouteType::BlackHole | RouteType::Prohibit | RouteType::Throw, _) => Way::Other,
            _ => return None,
        };
        let to = IpNet::new(to, header.destination_prefix_length).ok()?;
        let protocol = header.protocol.into();
        (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(Self { to, metric, way, source, protocol })
    }

    /// The route as a message to the kernel.
    pub(super) fn message(&self) -> RouteMessage {
        let mut message = match self.to {
            IpNet::V4(to) => {
                RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(to.addr(), to.prefix_len()).build()
            }
            IpNet::V6(to) => {
                RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(to.addr(), to.prefix_len()).build()
            }
        };
        message.header.protocol = RouteProtocol::from(self.protocol);
        let attributes = &mut message.attributes;
        if self.metric != 0 {
            attributes.push(RouteAttribute::Priority(self.metric));
        }
        attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        match self.way {
            Way::Interface { index, .. } => {
                attributes.push(RouteAttribute::Oif(index));
                // An IPv4 destination without a gateway is on the link.
                if self.to.addr().is_ipv4() {
                    message.header.scope = RouteScope::Link;
                }
            }
            _ => message.header.kind = RouteType::Unreachable,
        }
        message
    }

    fn is_ours(&self, index: u32) -> bool {
        self.keeps_in() || self.way == Way::Interface { index, gateway: false }
    }

    /// Whether it makes a range unreachable to which no other route leads.
    pub(super) fn keeps_in(&self) -> bool {
        self.way == Way::Unreachable && self.metric == WORST
    }

    /// Whether it does what `wanted` should. Another program may have chosen its MTU, or the segment size of TCP.
    fn does(&self, wanted: &Self) -> bool {
        (self.to, self.metric, self.way, self.source) == (wanted.to, wanted.metric, wanted.way, wanted.source)
    }
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// How a route of another program meets the overlay's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meets {
    /// Its destination is the whole range.
    Same,
    /// Its destination is a part of the range.
    Part,
    /// It is an interface's own network, which contains the range.
    Around,
    /// It leads into the virtual interface of another node.
    Node,
}

/// What a node of one address family knows.
pub(super) struct Known<'a> {
    /// The overlay's range.
    pub(super) range: IpNet,
    /// The address of the node's DNS.
    pub(super) dns: IpAddr,
    /// The virtual address, once there is one and the interface has it.
    pub(super) own: Option<IpAddr>,
    /// The virtual interface.
    pub(super) index: u32,
    /// The peers' virtual addresses.
    pub(super) peers: &'a BTreeSet<IpAddr>,
    /// All routes that meet the range.
    pub(super) routes: &'a [Route],
}

/// The changes that follow from [`Known`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Routes to add.
    pub(super) add: Vec<Route>,
    /// Routes to remove before that. All of them are our own.
    pub(super) remove: Vec<Route>,
    /// Routes of others that meet the range.
    pub(super) meet: Vec<(Meets, Route)>,
    /// All routes that are there in the end.
    pub(super) wanted: Vec<Route>,
}

impl Known<'_> {
    /// The changes that are needed.
    pub(super) fn plan(&self) -> Plan {
        let (ours, foreign): (Vec<_>, Vec<_>) = self.routes.iter().partition(|route| route.is_ours(self.index));
        let meet: Vec<_> = foreign.iter().filter_map(|route| Some((self.meets(route)?, (*route).clone()))).collect();
        let wanted = self.wanted(&meet);
        let add: Vec<_> = wanted.iter().filter(|wanted| !ours.iter().any(|have| have.does(wanted))).cloned().collect();
        let in_the_way = |have: &Route| add.iter().any(|new| (new.to, new.metric) == (have.to, have.metric));
        let remove = ours
            .into_iter()
            .filter(|have| self.range.contains(&have.to) && !wanted.iter().any(|wanted| have.does(wanted)))
            .filter(|have| have.protocol == PROTOCOL || in_the_way(have))
            .cloned()
            .collect();
        Plan { add, remove, meet, wanted }
    }

    fn meets(&self, route: &Route) -> Option<Meets> {
        let own_network = matches!(route.way, Way::Interface { gateway: false, .. }) && route.protocol == KERNEL;
        if own_network && route.to.prefix_len() == route.to.max_prefix_len() {
            // An address of this machine. Packets to it do not leave the machine.
            return None;
        }
        if route.protocol == PROTOCOL && self.range.contains(&route.to) {
            Some(Meets::Node)
        } else if route.to == self.range {
            Some(Meets::Same)
        } else if self.range.contains(&route.to) {
            Some(Meets::Part)
        } else {
            (own_network && route.to.prefix_len() > 0 && route.to.contains(&self.range)).then_some(Meets::Around)
        }
    }

    fn wanted(&self, meet: &[(Meets, Route)]) -> Vec<Route> {
        let has = |kind| meet.iter().any(|(meets, _)| *meets == kind);
        let mut wanted = Vec::new();
        if !has(Meets::Around) {
            let (metric, way) = (WORST, Way::Unreachable);
            wanted.push(Route { to: self.range, metric, way, source: None, protocol: PROTOCOL });
        }
        let Some(own) = self.own.filter(|_| !has(Meets::Node)) else { return wanted };
        let lead = |to, metric| {
            let way = Way::Interface { index: self.index, gateway: false };
            Route { to, metric, way, source: Some(own), protocol: PROTOCOL }
        };
        // The kernel's default metric, and the best metric.
        let (usual, best) = if own.is_ipv6() { (1024, 1) } else { (0, 0) };
        if !has(Meets::Same) && !has(Meets::Around) {
            wanted.push(lead(self.range, usual));
        }
        let single = self.peers.iter().chain([&self.dns]).filter(|address| **address != own);
        let lost = single.filter(|address| meet.iter().any(|(_, route)| route.to.contains(*address)));
        wanted.extend(lost.map(|address| lead(IpNet::from(*address), best)));
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: u32 = 7;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn via(to: &str, index: u32, protocol: u8) -> Route {
        Route { to: net(to), metric: 0, way: Way::Interface { index, gateway: false }, source: None, protocol }
    }

    fn planned(routes: &[Route]) -> Plan {
        let peers = ["198.18.0.11", "198.18.3.1"].map(|peer| peer.parse().unwrap()).into();
        let own = Some("198.18.0.10".parse().unwrap());
        let dns = "198.18.0.1".parse().unwrap();
        Known { range: net("198.18.0.0/16"), dns, own, index: INDEX, peers: &peers, routes }.plan()
    }

    fn leads(plan: &Plan) -> Vec<String> {
        plan.wanted.iter().filter(|one| !one.keeps_in()).map(|one| one.to.to_string()).collect()
    }

    #[test]
    fn alone_the_range_leads_into_the_interface_and_is_unreachable_beneath() {
        let plan = planned(&[via("192.0.2.0/24", 2, KERNEL)]);
        assert_eq!((plan.add.len(), plan.remove.len(), plan.meet.len()), (2, 0, 0));
        assert!(plan.add[0].keeps_in());
        assert_eq!(leads(&plan), ["198.18.0.0/16"]);
        // Once the routes are there nothing is left to do.
        let read: Vec<_> = plan.add.iter().map(|route| Route::read(&route.message()).unwrap()).collect();
        assert_eq!(planned(&read), Plan { wanted: plan.wanted, ..Plan::default() });
    }

    #[test]
    fn of_a_network_with_the_same_range_only_peers_and_the_name_server_are_taken() {
        let lan = via("198.18.0.0/16", 2, KERNEL);
        let mine = planned(&[]).wanted;
        let plan = planned(&[lan.clone(), mine[0].clone(), mine[1].clone()]);
        assert_eq!(plan.meet, [(Meets::Same, lan)]);
        assert_eq!(leads(&plan), ["198.18.0.11/32", "198.18.3.1/32", "198.18.0.1/32"]);
        assert_eq!(plan.remove, [mine[1].clone()], "our own only");
    }

    #[test]
    fn of_a_network_with_a_part_the_peers_in_it_are_taken_and_the_rest_of_the_range_is_ours() {
        let plan = planned(&[via("198.18.0.0/24", 2, KERNEL)]);
        assert_eq!(leads(&plan), ["198.18.0.0/16", "198.18.0.11/32", "198.18.0.1/32"]);
    }

    #[test]
    fn around_the_range_only_an_interfaces_own_network_counts() {
        let plan = planned(&[via("198.18.0.0/15", 2, KERNEL)]);
        assert_eq!(plan.meet[0].0, Meets::Around);
        assert_eq!(leads(&plan).len(), 3);
        assert!(!plan.wanted.iter().any(Route::keeps_in), "it would take the rest from the network");
        let others = [via("198.18.0.0/15", 2, 3), via("0.0.0.0/0", 2, KERNEL), via("198.18.0.9/32", 2, KERNEL)];
        for other in others {
            assert_eq!(planned(&[other]).meet, []);
        }
    }

    #[test]
    fn to_another_node_this_one_gives_way() {
        let plan = planned(&[via("198.18.0.0/16", 9, PROTOCOL)]);
        assert_eq!(plan.meet[0].0, Meets::Node);
        assert_eq!(leads(&plan), [""; 0]);
    }

    #[test]
    fn a_route_of_ours_that_somebody_changed_counts_by_all_that_it_does() {
        let mine = planned(&[]).wanted[1].clone();
        // Into another interface, from the same source: the route is another program's now.
        let taken = Route { way: Way::Interface { index: 2, gateway: false }, protocol: 4, ..mine.clone() };
        assert_eq!(planned(&[taken]).meet[0].0, Meets::Same);
        // From another source: it is mended. By another protocol: another program chose it.
        let wrong = Route { source: Some("192.0.2.1".parse().unwrap()), protocol: 4, ..mine.clone() };
        assert_eq!(planned(std::slice::from_ref(&wrong)).remove, [wrong]);
        assert_eq!(planned(&[Route { protocol: 4, ..mine }]).add.len(), 1);
    }
}
