//! Boxes and wires of a scenario.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::machine::Machine;
use cyphonic_core::message::Framing;
use cyphonic_core::proxied::TCP_PORT;
use cyphonic_core::store::{MemoryStore, Store};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, LinkAt, NatAt, Scenario, Service, ServiceName, Site, SiteV4, SiteV6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::civil::Civil;
use super::disk::Disk;
use super::roles::{self, Cast};
use super::{LAN_DELAY, Station, Watch, addresses, config};
use crate::host::{Host, HostConfig, Interface, ProxyBox, TcpUse, TunConfig};
use crate::net::nat::{Nat, Nat64, Nat64Box, NatBox};
use crate::net::{
    BoxId, Direction, Firewall, FirewallBox, Forwarder, NetBox, Network, NetworkBuilder, Npt, NptBox, Router, Routes,
    WireConfig, WireId,
};
use crate::seeded;

/// The MTU of a LAN, unless its access link has a greater one.
const LAN_MTU: u16 = 1500;

/// A scenario as boxes and wires.
pub(super) struct Built {
    /// Every box with its wires.
    pub(super) network: Network,
    /// AS, NMS and TRS, in this order.
    pub(super) services: [Station; 3],
    /// In the scenario's order.
    pub(super) nodes: Vec<Station>,
    /// The database of AS and NMS. It survives their crashes.
    pub(super) disk: Arc<Disk>,
    /// The database of the TRS.
    pub(super) trs_store: Arc<dyn Store>,
    /// The civil clock of each role.
    pub(super) civil: Civil,
    /// Of each node: the sites in which it ever is, those of the start first.
    pub(super) places: Vec<Vec<usize>>,
    /// Of each node: the MTU in each of these sites.
    pub(super) mtus: Vec<Vec<usize>>,
    /// Boxes and links that steps change.
    pub(super) parts: Parts,
}

/// What a step can reach for.
#[derive(Default)]
pub(super) struct Parts {
    /// Links to the core or to a carrier; their forward direction leads there.
    pub(super) links: Vec<(LinkAt, Access)>,
    /// The firewall of each site that has one.
    pub(super) firewalls: BTreeMap<usize, BoxId>,
    /// The NATs of sites and carriers.
    pub(super) nats: Vec<(NatAt, NatPart)>,
}

/// A link as it was built.
#[derive(Clone, Copy)]
pub(super) struct Access {
    /// Both directions of it.
    pub(super) wire: WireId,
    /// The part of the link's delay that other wires have.
    pub(super) spent: Duration,
}

/// A box that translates with mappings.
#[derive(Clone, Copy)]
pub(super) enum NatPart {
    Nat(BoxId),
    Nat64(BoxId),
}

pub(super) fn build(scenario: &Scenario, seed: u64, watch: &Watch) -> Built {
    let disk = Arc::new(Disk::new(roles::database(scenario, seed)));
    let civil = roles::civil(scenario);
    let trs_store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let stores = [disk.clone(), trs_store.clone()];
    let cast = Cast::new(scenario, seed, watch, stores, civil.clone(), scenario.rules.clone(), Instant::ZERO);
    let mut builder = NetworkBuilder::new(seed);
    builder.tap(watch.tap);
    let mut plan = Plan { scenario, seed, builder, uplinks: Vec::new(), parts: Parts::default() };
    let door = roles::has_fallback(scenario).then_some(TCP_PORT);
    let auth = plan.service(ServiceName::As, &scenario.services.auth, cast.auth(), Some(roles::LOGIN_PORT));
    let nms = plan.service(ServiceName::Nms, &scenario.services.nms, cast.nms(), door);
    let trs = plan.service(ServiceName::Trs, &scenario.services.trs, cast.trs(), door);
    let places: Vec<Vec<usize>> = (0..scenario.nodes.len()).map(|node| plan.sites_of(node)).collect();
    let mut nodes = Vec::new();
    let mut mtus = Vec::new();
    for (index, (node, sites)) in scenario.nodes.iter().zip(&places).enumerate() {
        let nat64 = node.interfaces.iter().find_map(|place| scenario.sites[place.site].nat64_prefix());
        let nat64 = nat64.map(|prefix| prefix.network());
        let start: Vec<IpAddr> = node.interfaces.iter().flat_map(addresses).collect();
        let node_mtus: Vec<usize> = sites.iter().map(|&site| plan.lan_mtu(&places, site)).collect();
        let interfaces = sites.iter().zip(&node_mtus).map(|(&site, &mtu)| {
            let place = node.interfaces.iter().find(|place| place.site == site);
            Interface { addresses: place.map(addresses).unwrap_or_default(), mtu, up: place.is_some() }
        });
        let mut config = HostConfig::new(interfaces.collect(), plan.host_seed(node.name.short()));
        config.udp_ports = vec![scenario.port];
        if roles::has_fallback(scenario) {
            config.tcp = TcpUse::Datagrams;
        }
        config.virtual_interface = Some(TunConfig {
            mtu: usize::from(scenario.tun_mtu),
            dns: SocketAddr::new(roles::overlay().dns_v4.into(), 53),
        });
        nodes.push((node.name.short(), plan.host(node.name.short(), config, cast.node(index, start, nat64))));
        mtus.push(node_mtus);
    }
    for site in 0..scenario.sites.len() {
        plan.site(site, &places, &nodes);
    }
    if let Some(proxy) = &scenario.services.proxy {
        plan.proxy(proxy);
    }
    let (network, parts) = plan.finish();
    let station = |name: &str, id: BoxId| {
        let mut wires: Vec<(usize, Direction)> = network
            .directions()
            .map(|direction| (network.ends(direction)[0], direction))
            .filter(|((from, _), _)| *from == id)
            .map(|((_, iface), direction)| (iface, direction))
            .collect();
        wires.sort_by_key(|&(iface, _)| iface);
        Station { id, name: name.to_owned(), wires: wires.into_iter().map(|(_, direction)| direction).collect() }
    };
    Built {
        services: [station("as", auth), station("nms", nms), station("trs", trs)],
        nodes: nodes.iter().map(|&(name, id)| station(name, id)).collect(),
        network,
        disk,
        trs_store,
        civil,
        places,
        mtus,
        parts,
    }
}

struct Plan<'a> {
    scenario: &'a Scenario,
    seed: u64,
    builder: NetworkBuilder,
    uplinks: Vec<Uplink>,
    parts: Parts,
}

/// A wire to the core router, or to a carrier's NAT: they are added last.
struct Uplink {
    /// What steps call it; the proxy's has no name.
    at: Option<LinkAt>,
    carrier: Option<usize>,
    from: (BoxId, usize),
    up: WireConfig,
    down: WireConfig,
    spent: Duration,
    /// What the other end finds there.
    routes: Vec<IpNet>,
}

impl Plan<'_> {
    fn host_seed(&self, name: &str) -> u64 {
        u64::from_be_bytes(*seeded::derive(self.seed, name, "host").first_chunk().expect("32 bytes"))
    }

    fn host<M: Machine + 'static>(&mut self, name: &str, mut config: HostConfig, machine: M) -> BoxId {
        config.dont_fragment = match self.scenario.framing {
            // The conventional method knows nothing of path MTU: its datagrams may be cut.
            Framing::Udp4501 => |_| false,
            Framing::Stream | Framing::Datagram | Framing::Compact => |_| true,
        };
        self.builder.add_box(name, Box::new(Host::new(config, machine)))
    }

    fn service<M: Machine + 'static>(
        &mut self,
        which: ServiceName,
        service: &Service,
        machine: M,
        listen_tcp: Option<u16>,
    ) -> BoxId {
        let (name, spent) = (which.name(), Duration::ZERO);
        let addresses = roles::ips(service);
        let mut interface = Interface::new(addresses.clone());
        interface.mtu = usize::from(service.link.up.mtu.min(service.link.down.mtu));
        let mut config = HostConfig::new(vec![interface], self.host_seed(name));
        config.udp_ports = vec![self.scenario.port, roles::PROBE_PORT];
        config.listen_tcp = listen_tcp;
        if roles::has_fallback(self.scenario) {
            config.tcp = TcpUse::Datagrams;
        }
        let id = self.host(name, config, machine);
        let routes = addresses.into_iter().map(IpNet::from).collect();
        let (up, down) = (
            cyphonic_wire::of_way(&service.link.up, spent, None),
            cyphonic_wire::of_way(&service.link.down, spent, None),
        );
        let at = Some(LinkAt::Service(which));
        self.uplinks.push(Uplink { at, carrier: None, from: (id, 0), up, down, spent, routes });
        id
    }

    /// The HTTP proxy. It is the last host, so that it changes no other one's number.
    fn proxy(&mut self, service: &Service) {
        let addresses = roles::ips(service);
        let routes = addresses.iter().copied().map(IpNet::from).collect();
        let mut interface = Interface::new(addresses);
        interface.mtu = usize::from(service.link.up.mtu.min(service.link.down.mtu));
        let proxy = ProxyBox::new(interface, self.host_seed("proxy"));
        let id = self.builder.add_box("proxy", Box::new(proxy));
        let spent = Duration::ZERO;
        let [up, down] = [&service.link.up, &service.link.down].map(|way| cyphonic_wire::of_way(way, spent, None));
        self.uplinks.push(Uplink { at: None, carrier: None, from: (id, 0), up, down, spent, routes });
    }

    /// The sites that a node is ever in: where it starts, then where it moves, each once.
    fn sites_of(&self, node: usize) -> Vec<usize> {
        let starts = self.scenario.nodes[node].interfaces.iter().map(|place| place.site);
        let moves = self.scenario.comes_to(node).map(|place| place.site);
        let mut sites = Vec::new();
        for site in starts.chain(moves) {
            if !sites.contains(&site) {
                sites.push(site);
            }
        }
        sites
    }

    /// Whether a site's access link ends at its one node.
    fn is_bare(&self, places: &[Vec<usize>], site: usize) -> bool {
        let words = &self.scenario.sites[site];
        let nodes = places.iter().filter(|sites| sites.contains(&site)).count();
        // A node knows the MTU of its own wire: a black hole is behind a router.
        let black_hole = words.link.up.black_hole || words.link.down.black_hole;
        // So is a link that will be another one.
        let changes = |action: &Action| matches!(action, Action::Link { at, .. } if *at == LinkAt::Site(site));
        let changes = self.scenario.steps.iter().any(|step| changes(&step.action));
        let translates = matches!(words.v4, Some(SiteV4::Private { .. })) || translates_v6(words);
        nodes <= 1 && words.firewall.is_none() && !black_hole && !changes && !translates
    }

    fn lan_mtu(&self, places: &[Vec<usize>], site: usize) -> usize {
        let link = &self.scenario.sites[site].link;
        let access = link.up.mtu.min(link.down.mtu);
        usize::from(if self.is_bare(places, site) { access } else { access.max(LAN_MTU) })
    }

    fn site(&mut self, index: usize, places: &[Vec<usize>], nodes: &[(&str, BoxId)]) {
        let site = &self.scenario.sites[index];
        let members: Vec<(usize, usize)> = (0..nodes.len())
            .filter_map(|node| places[node].iter().position(|&s| s == index).map(|iface| (node, iface)))
            .collect();
        if members.is_empty() {
            return;
        }
        let routes = site.outer_prefixes();
        let (from, spent) = if self.is_bare(places, index) {
            let (node, iface) = members[0];
            ((nodes[node].1, iface), Duration::ZERO)
        } else {
            let lan = WireConfig { mtu: self.lan_mtu(places, index), ..WireConfig::new(LAN_DELAY) };
            let mut inside = Vec::new();
            for (port, &(node, _)) in members.iter().enumerate() {
                inside.extend(self.addresses_in(node, index).into_iter().map(|address| (address.into(), port + 1)));
            }
            let stages = self.stages(index, &inside);
            for (port, &(node, iface)) in members.iter().enumerate() {
                self.builder.add_wire((nodes[node].1, iface), (stages[0], port + 1), lan, lan);
            }
            for pair in stages.windows(2) {
                self.builder.add_wire((pair[0], 0), (pair[1], 1), lan, lan);
            }
            let last = *stages.last().expect("there is an edge box");
            ((last, 0), LAN_DELAY * stages.len() as u32)
        };
        let [up, down] = [&site.link.up, &site.link.down].map(|way| cyphonic_wire::of_way(way, spent, site.broken));
        let at = Some(LinkAt::Site(index));
        self.uplinks.push(Uplink { at, carrier: site.carrier, from, up, down, spent, routes });
    }

    /// Every address that a node ever has in a site.
    fn addresses_in(&self, node: usize, site: usize) -> Vec<IpAddr> {
        let starts = self.scenario.nodes[node].interfaces.iter();
        let moves = self.scenario.comes_to(node);
        starts.chain(moves).filter(|place| place.site == site).flat_map(addresses).collect()
    }

    /// The boxes of a site from its LAN to its link: router or NAT, translator of IPv6, firewall. Of each, interface 0
    /// leads out; `inside` are the routes to nodes.
    fn stages(&mut self, index: usize, inside: &[(IpNet, usize)]) -> Vec<BoxId> {
        let site = &self.scenario.sites[index];
        let own = || -> Vec<IpAddr> {
            site.router_v6().map(Into::into).into_iter().chain(site.router_v4().map(Into::into)).collect()
        };
        let prefixes = site.v4.as_ref().map(|v4| v4.prefix().into()).into_iter();
        let prefixes = prefixes.chain(site.v6.as_ref().map(|v6| v6.prefix().into()));
        let nowhere = prefixes.fold(default_routes(), Routes::discarding);
        let lan: Routes = inside.iter().fold(nowhere, |routes, &(prefix, port)| routes.with(prefix, port));
        let name = |kind: &str| format!("{}-{kind}", site.name);
        let mut stages = Vec::new();
        if let Some(SiteV4::Private { nat, .. }) = &site.v4 {
            let nat = Nat::new(config::nat(nat), seeded::stream(self.seed, &site.name, "nat"));
            let netbox = NatBox::new(nat, Forwarder::new(lan.clone(), own()), 0);
            let id = self.builder.add_box(name("nat"), Box::new(netbox));
            self.parts.nats.push((NatAt::Site(index), NatPart::Nat(id)));
            stages.push(id);
        }
        // Behind another box, everything inside is behind its one interface.
        let forwarder = |stages: &[BoxId]| {
            if stages.is_empty() {
                return Forwarder::new(lan.clone(), own()).reporting_from(outer_addresses(site));
            }
            let v6 = site.v6.as_ref().map(|v6| IpNet::from(v6.prefix()));
            let v4 = site.outer_prefixes().into_iter().filter(|prefix| prefix.addr().is_ipv4());
            let routes = v4.chain(v6).fold(default_routes(), |routes, prefix| routes.with(prefix, 1));
            let own = site.router_v6().map(IpAddr::from).into_iter().collect();
            Forwarder::new(routes, own).reporting_from(outer_addresses(site))
        };
        match (&site.v6, &site.nat64) {
            (Some(SiteV6::Prefix { inside, outside }), _) => {
                let npt = Npt::new(*inside, *outside).expect("the scenario's prefixes fit each other");
                let netbox = NptBox::new(npt, forwarder(&stages), 0);
                stages.push(self.builder.add_box(name("nptv6"), Box::new(netbox)));
            }
            (Some(SiteV6::Private { nat, .. }), _) => {
                let nat = Nat::new(config::nat(nat), seeded::stream(self.seed, &site.name, "nat66"));
                let id = self.builder.add_box(name("nat66"), Box::new(NatBox::new(nat, forwarder(&stages), 0)));
                self.parts.nats.push((NatAt::Site(index), NatPart::Nat(id)));
                stages.push(id);
            }
            (_, Some(nat64)) => {
                let rng = seeded::stream(self.seed, &site.name, "nat64");
                let nat = Nat64::new(config::nat(&nat64.nat), nat64.prefix, rng);
                let id = self.builder.add_box(name("nat64"), Box::new(Nat64Box::new(nat, forwarder(&stages))));
                self.parts.nats.push((NatAt::Site(index), NatPart::Nat64(id)));
                stages.push(id);
            }
            _ if stages.is_empty() => {
                let netbox: Box<dyn NetBox> = Box::new(Router::new(lan.clone(), own()));
                stages.push(self.builder.add_box(name("router"), netbox));
            }
            _ => {}
        }
        if let Some(words) = &site.firewall {
            let outer = site.outer_prefixes();
            let routes = outer.into_iter().fold(default_routes(), |routes, prefix| routes.with(prefix, 1));
            let forwarder = Forwarder::new(routes, Vec::new()).reporting_from(outer_addresses(site));
            let filter = FirewallBox::new(Firewall::new(config::firewall(words)), forwarder, 0);
            let id = self.builder.add_box(name("firewall"), Box::new(filter));
            self.parts.firewalls.insert(index, id);
            stages.push(id);
        }
        stages
    }

    /// Adds the carriers and the core router, and wires everything to them.
    fn finish(mut self) -> (Network, Parts) {
        for index in 0..self.scenario.carriers.len() {
            self.carrier(index);
        }
        let mut routes = Routes::new();
        for (port, uplink) in self.uplinks.iter().enumerate() {
            for &route in &uplink.routes {
                routes.add(route, port);
            }
        }
        let core = self.builder.add_box("core", Box::new(Router::new(routes, CORE_ADDRESSES.to_vec())));
        for (port, uplink) in std::mem::take(&mut self.uplinks).into_iter().enumerate() {
            self.wire(&uplink, (core, port));
        }
        (self.builder.build().expect("a scenario's network can be built"), self.parts)
    }

    fn wire(&mut self, uplink: &Uplink, to: (BoxId, usize)) {
        let wire = self.builder.add_wire(uplink.from, to, uplink.up, uplink.down);
        self.parts.links.extend(uplink.at.map(|at| (at, Access { wire, spent: uplink.spent })));
    }

    /// A carrier's NAT takes the uplinks of its sites, and has one of its own.
    fn carrier(&mut self, index: usize) {
        let carrier = &self.scenario.carriers[index];
        let all = std::mem::take(&mut self.uplinks).into_iter();
        let (sites, others): (Vec<_>, Vec<_>) = all.partition(|uplink| uplink.carrier == Some(index));
        self.uplinks = others;
        if sites.is_empty() {
            return;
        }
        let inside = sites.iter().enumerate().flat_map(|(port, site)| site.routes.iter().map(move |r| (*r, port + 1)));
        let routes = inside.fold(default_routes(), |routes, (prefix, port)| routes.with(prefix, port));
        let own = vec![carrier.inside.0.into(), carrier.inside.1.into()];
        let nat = Nat::new(config::nat(&carrier.nat), seeded::stream(self.seed, &carrier.name, "carrier"));
        let netbox = NatBox::new(nat, Forwarder::new(routes, own), 0);
        let id = self.builder.add_box(format!("{}-carrier", carrier.name), Box::new(netbox));
        self.parts.nats.push((NatAt::Carrier(index), NatPart::Nat(id)));
        let mut routes: Vec<IpNet> = carrier.nat.addresses().map(IpNet::from).collect();
        for (port, site) in sites.iter().enumerate() {
            routes.extend(site.routes.iter().filter(|route| route.addr().is_ipv6()));
            self.wire(site, (id, port + 1));
        }
        let spent = Duration::ZERO;
        let [up, down] = [&carrier.link.up, &carrier.link.down].map(|way| cyphonic_wire::of_way(way, spent, None));
        let at = Some(LinkAt::Carrier(index));
        self.uplinks.push(Uplink { at, carrier: None, from: (id, 0), up, down, spent, routes });
    }
}

fn default_routes() -> Routes {
    Routes::new().with(DEFAULT_V4.into(), 0).with(DEFAULT_V6.into(), 0)
}

/// Whether something stands between a site's IPv6 and the rest.
fn translates_v6(site: &Site) -> bool {
    site.nat64.is_some() || !matches!(site.v6, None | Some(SiteV6::Global(_)))
}

/// An address of each family that a site has outside: its router's, or its translator's.
fn outer_addresses(site: &Site) -> Vec<IpAddr> {
    let first = |prefix: Ipv6Net| Ipv6Addr::from(u128::from(prefix.network()) + 1);
    let v6 = site.v6.as_ref().map(|v6| match v6 {
        SiteV6::Global(prefix) | SiteV6::Prefix { outside: prefix, .. } => first(*prefix).into(),
        SiteV6::Private { nat, .. } => nat.outside,
    });
    let v4 = match (&site.v4, &site.nat64) {
        (Some(SiteV4::Private { nat, .. }), _) => Some(nat.outside),
        (None, Some(nat64)) => Some(nat64.nat.outside),
        _ => site.router_v4().map(IpAddr::from),
    };
    v6.into_iter().chain(v4).collect()
}

const DEFAULT_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
const DEFAULT_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
/// Where the core router's ICMP errors come from.
const CORE_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
