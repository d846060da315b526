//! Boxes and wires of a scenario.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::machine::Machine;
use cyphonic_core::message::Framing;
use cyphonic_core::store::Store;
use cyphonic_scenarios::{
    Action, Dependence as DependenceWord, Egress, Firewall as FirewallWords, Hairpin as HairpinWord,
    IcmpErrors as IcmpErrorsWord, Inspect, Nat as NatWords, Pooling as PoolingWord, PortChoice, Protocol,
    Reaction as ReactionWord, Refresh as RefreshWord, Scenario, Service, Site, SiteV4, Trait as TraitWord, Way,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::roles::{self, Cast};
use super::{LAN_DELAY, Station, Watch, addresses};
use crate::host::{Host, HostConfig, Interface, TunConfig};
use crate::net::nat::{Dependence, Hairpin, IcmpErrors, Nat, NatBox, NatConfig, Pooling, PortAllocation, Refresh};
use crate::net::packet::protocol;
use crate::net::{
    BoxId, BurstLoss, Direction, Firewall, FirewallBox, FirewallConfig, Forwarder, InspectionRule, MIN_DELAY, NetBox,
    Network, NetworkBuilder, QueueLimit, Reaction, Reorder, Router, Routes, Trait, WireConfig, WireFaults,
};
use crate::seeded;

/// The MTU of a LAN, unless its access link has a greater one.
const LAN_MTU: u16 = 1500;

pub(super) struct Built {
    pub(super) network: Network,
    pub(super) services: [Station; 3],
    pub(super) nodes: Vec<Station>,
    pub(super) store: Arc<dyn Store>,
    pub(super) places: Vec<Vec<usize>>,
    pub(super) mtus: Vec<Vec<usize>>,
}

pub(super) fn build(scenario: &Scenario, seed: u64, watch: &Watch) -> Built {
    let cast = Cast::new(scenario, seed, watch);
    let mut builder = NetworkBuilder::new(seed);
    builder.tap(watch.tap);
    let mut plan = Plan { scenario, seed, builder, uplinks: Vec::new() };
    let auth = plan.service("as", &scenario.services.auth, cast.auth(), Some(roles::LOGIN_PORT));
    let nms = plan.service("nms", &scenario.services.nms, cast.nms(), None);
    let trs = plan.service("trs", &scenario.services.trs, cast.trs(), None);
    let places: Vec<Vec<usize>> = (0..scenario.nodes.len()).map(|node| plan.sites_of(node)).collect();
    let mut nodes = Vec::new();
    let mut mtus = Vec::new();
    for (node, sites) in scenario.nodes.iter().zip(&places) {
        let start: Vec<IpAddr> = node.interfaces.iter().flat_map(addresses).collect();
        let node_mtus: Vec<usize> = sites.iter().map(|&site| plan.lan_mtu(&places, site)).collect();
        let interfaces = sites.iter().zip(&node_mtus).map(|(&site, &mtu)| {
            let place = node.interfaces.iter().find(|place| place.site == site);
            Interface { addresses: place.map(addresses).unwrap_or_default(), mtu, up: place.is_some() }
        });
        let mut config = HostConfig::new(interfaces.collect(), plan.host_seed(node.name.short()));
        config.udp_ports = vec![scenario.port];
        config.virtual_interface = Some(TunConfig {
            mtu: usize::from(scenario.tun_mtu),
            dns: SocketAddr::new(roles::overlay().dns_v4.into(), 53),
        });
        nodes.push((node.name.short(), plan.host(node.name.short(), config, cast.node(&node.name, start))));
        mtus.push(node_mtus);
    }
    for site in 0..scenario.sites.len() {
        plan.site(site, &places, &nodes);
    }
    let network = plan.finish();
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
        store: cast.store(),
        places,
        mtus,
    }
}

struct Plan<'a> {
    scenario: &'a Scenario,
    seed: u64,
    builder: NetworkBuilder,
    uplinks: Vec<Uplink>,
}

/// A wire to the core router, which is added last.
struct Uplink {
    from: (BoxId, usize),
    up: WireConfig,
    down: WireConfig,
    /// What the core finds there.
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
        name: &str,
        service: &Service,
        machine: M,
        listen_tcp: Option<u16>,
    ) -> BoxId {
        let addresses = roles::ips(service);
        let mut interface = Interface::new(addresses.clone());
        interface.mtu = usize::from(service.link.up.mtu.min(service.link.down.mtu));
        let mut config = HostConfig::new(vec![interface], self.host_seed(name));
        config.udp_ports = vec![self.scenario.port, roles::PROBE_PORT];
        config.listen_tcp = listen_tcp;
        let id = self.host(name, config, machine);
        let routes = addresses.into_iter().map(IpNet::from).collect();
        let (up, down) = (wire(&service.link.up, Duration::ZERO), wire(&service.link.down, Duration::ZERO));
        self.uplinks.push(Uplink { from: (id, 0), up, down, routes });
        id
    }

    /// The sites that a node is ever in: where it starts, then where it moves, each once.
    fn sites_of(&self, node: usize) -> Vec<usize> {
        let starts = self.scenario.nodes[node].interfaces.iter().map(|place| place.site);
        let moves = self.scenario.steps.iter().filter_map(|step| match &step.action {
            Action::Move { node: n, to } if *n == node => Some(to.site),
            _ => None,
        });
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
        nodes <= 1 && words.firewall.is_none() && !black_hole && !matches!(words.v4, Some(SiteV4::Private { .. }))
    }

    fn lan_mtu(&self, places: &[Vec<usize>], site: usize) -> usize {
        let link = &self.scenario.sites[site].link;
        let access = link.up.mtu.min(link.down.mtu);
        usize::from(if self.is_bare(places, site) { access } else { access.max(LAN_MTU) })
    }

    fn site(&mut self, index: usize, places: &[Vec<usize>], nodes: &[(&str, BoxId)]) {
        let site = &self.scenario.sites[index];
        let mut routes: Vec<IpNet> = site.v6.into_iter().map(IpNet::from).collect();
        match &site.v4 {
            Some(SiteV4::Global(prefix)) => routes.push((*prefix).into()),
            Some(SiteV4::Private { nat, .. }) => {
                routes.extend(outside(nat).map(|address| IpNet::from(IpAddr::from(address))));
            }
            None => {}
        }
        let members: Vec<(usize, usize)> = (0..nodes.len())
            .filter_map(|node| places[node].iter().position(|&s| s == index).map(|iface| (node, iface)))
            .collect();
        if members.is_empty() {
            return;
        }
        if self.is_bare(places, index) {
            let (node, iface) = members[0];
            let (up, down) = (wire(&site.link.up, Duration::ZERO), wire(&site.link.down, Duration::ZERO));
            return self.uplinks.push(Uplink { from: (nodes[node].1, iface), up, down, routes });
        }
        let lan = WireConfig { mtu: self.lan_mtu(places, index), ..WireConfig::new(LAN_DELAY) };
        let mut inside = Routes::new().with(DEFAULT_V4.into(), 0).with(DEFAULT_V6.into(), 0);
        for (port, &(node, _)) in members.iter().enumerate() {
            for address in self.addresses_in(node, index) {
                inside.add(address.into(), port + 1);
            }
        }
        let edge = self.edge(site, inside);
        for (port, &(node, iface)) in members.iter().enumerate() {
            self.builder.add_wire((nodes[node].1, iface), (edge, port + 1), lan, lan);
        }
        let mut spent = LAN_DELAY;
        let mut end = edge;
        if let Some(words) = &site.firewall {
            let mut routes_here = Routes::new().with(DEFAULT_V4.into(), 0).with(DEFAULT_V6.into(), 0);
            for &route in &routes {
                routes_here.add(route, 1);
            }
            let forwarder = Forwarder::new(routes_here, Vec::new());
            let firewall = Firewall::new(firewall_config(words));
            let filter = FirewallBox::new(firewall, forwarder, 0);
            end = self.builder.add_box(format!("{}-firewall", site.name), Box::new(filter));
            self.builder.add_wire((edge, 0), (end, 1), lan, lan);
            spent += LAN_DELAY;
        }
        let (up, down) = (wire(&site.link.up, spent), wire(&site.link.down, spent));
        self.uplinks.push(Uplink { from: (end, 0), up, down, routes });
    }

    /// Every address that a node ever has in a site.
    fn addresses_in(&self, node: usize, site: usize) -> Vec<IpAddr> {
        let starts = self.scenario.nodes[node].interfaces.iter();
        let moves = self.scenario.steps.iter().filter_map(|step| match &step.action {
            Action::Move { node: n, to } if *n == node => Some(to),
            _ => None,
        });
        starts.chain(moves).filter(|place| place.site == site).flat_map(addresses).collect()
    }

    /// The NAT or router of a site; interface 0 leads out.
    fn edge(&mut self, site: &Site, routes: Routes) -> BoxId {
        let own: Vec<IpAddr> =
            site.router_v6().map(Into::into).into_iter().chain(site.router_v4().map(Into::into)).collect();
        let netbox: Box<dyn NetBox> = match &site.v4 {
            Some(SiteV4::Private { nat, .. }) => {
                let rng = seeded::stream(self.seed, &site.name, "nat");
                let nat = Nat::new(nat_config(nat), rng);
                Box::new(NatBox::new(nat, Forwarder::new(routes, own), 0))
            }
            _ => Box::new(Router::new(routes, own)),
        };
        let kind = if matches!(site.v4, Some(SiteV4::Private { .. })) { "nat" } else { "router" };
        self.builder.add_box(format!("{}-{kind}", site.name), netbox)
    }

    /// Adds the core router, and wires everything to it.
    fn finish(mut self) -> Network {
        let mut routes = Routes::new();
        for (port, uplink) in self.uplinks.iter().enumerate() {
            for &route in &uplink.routes {
                routes.add(route, port);
            }
        }
        let core = self.builder.add_box("core", Box::new(Router::new(routes, CORE_ADDRESSES.to_vec())));
        for (port, uplink) in self.uplinks.into_iter().enumerate() {
            self.builder.add_wire(uplink.from, (core, port), uplink.up, uplink.down);
        }
        self.builder.build().expect("a scenario's network can be built")
    }
}

const DEFAULT_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
const DEFAULT_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
/// Where the core router's ICMP errors come from.
const CORE_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];

/// One direction of an access link, less what LAN wires already take.
fn wire(way: &Way, spent: Duration) -> WireConfig {
    WireConfig {
        delay: way.delay.saturating_sub(spent).max(MIN_DELAY),
        jitter: way.jitter,
        loss: way.loss,
        rate_bps: way.rate_bps,
        queue: QueueLimit::Time(way.queue),
        mtu: usize::from(way.mtu),
        black_hole: way.black_hole,
        faults: WireFaults {
            burst_loss: way.burst_loss.map(|burst| BurstLoss {
                enter: burst.enter,
                leave: burst.leave,
                loss_good: burst.loss_good,
                loss_bad: burst.loss_bad,
            }),
            reorder: (way.reorder > 0.0).then_some(Reorder { probability: way.reorder, by: way.reorder_by }),
            duplicate: way.duplicate,
            corrupt: way.corrupt,
        },
        ..WireConfig::new(MIN_DELAY)
    }
}

fn nat_config(words: &NatWords) -> NatConfig {
    let mut config =
        NatConfig::new(words.outside).with_behaviour(dependence(words.mapping), dependence(words.filtering));
    config.allocation = match words.ports {
        PortChoice::Preserve => PortAllocation::Preserving,
        PortChoice::Sequential => PortAllocation::Sequential,
        PortChoice::Random => PortAllocation::Random,
        PortChoice::Overloading => PortAllocation::Overloading,
    };
    config.external = outside(words).collect();
    config.pooling = match words.pooling {
        PoolingWord::Paired => Pooling::Paired,
        PoolingWord::Arbitrary => Pooling::Arbitrary,
    };
    config.times.idle.udp = words.idle;
    config.times.refresh = match words.refresh {
        RefreshWord::Outbound => Refresh::Outbound,
        RefreshWord::Inbound => Refresh::Inbound,
        RefreshWord::Both => Refresh::Both,
    };
    (config.times.lifetime, config.times.flush) = (words.lifetime, words.flush);
    config.hairpin = match words.hairpin {
        HairpinWord::Off => Hairpin::Off,
        HairpinWord::InternalSource => Hairpin::InternalSource,
        HairpinWord::ExternalSource => Hairpin::ExternalSource,
    };
    config.reuses_inbound = words.reuses_inbound;
    config.icmp_errors = match words.icmp_errors {
        IcmpErrorsWord::Carried => IcmpErrors::Carried,
        IcmpErrorsWord::Dropped => IcmpErrors::Dropped,
        IcmpErrorsWord::EndMapping => IcmpErrors::EndMapping,
    };
    config.fragments = words.fragments;
    config.answers.unsolicited = words.answers_unsolicited;
    (config.max_sessions, config.max_sessions_per_host) = (words.max_sessions, words.max_sessions_per_host);
    config
}

/// Every outer address of a NAT.
fn outside(words: &NatWords) -> impl Iterator<Item = Ipv4Addr> {
    std::iter::once(words.outside).chain(words.more_outside.iter().copied())
}

fn dependence(word: DependenceWord) -> Dependence {
    match word {
        DependenceWord::Endpoint => Dependence::EndpointIndependent,
        DependenceWord::Address => Dependence::AddressDependent,
        DependenceWord::AddressAndPort => Dependence::AddressAndPortDependent,
    }
}

fn firewall_config(words: &FirewallWords) -> FirewallConfig {
    let rule = |egress: &Egress| {
        let numbers: &[u8] = match egress.protocol {
            Protocol::Udp => &[protocol::UDP],
            Protocol::Tcp => &[protocol::TCP],
            Protocol::Icmp => &[protocol::ICMP, protocol::ICMPV6],
        };
        let port = egress.port;
        numbers.iter().map(move |&number| (number, port)).collect::<Vec<_>>()
    };
    FirewallConfig {
        inbound: !words.stateful,
        egress: words.egress.as_ref().map(|rules| rules.iter().flat_map(rule).collect()),
        inspection: words.inspect.iter().map(inspection).collect(),
        ..FirewallConfig::default()
    }
}

fn inspection(words: &Inspect) -> InspectionRule {
    let what = match &words.what {
        TraitWord::Quic => Trait::Quic,
        TraitWord::Version(version) => Trait::QuicVersion(*version),
        TraitWord::ServerName(name) => Trait::ServerName(name.clone()),
        TraitWord::Alpn(protocol) => Trait::Alpn(protocol.clone().into_bytes()),
    };
    let throttle = words.throttle;
    let reaction = match words.reaction {
        ReactionWord::Drop => Reaction::Drop,
        ReactionWord::Reject => Reaction::Reject,
        ReactionWord::Reset => Reaction::Reset,
        ReactionWord::Throttle => Reaction::Throttle {
            after_bytes: throttle.after_bytes,
            rate_bps: throttle.rate_bps,
            burst_bytes: throttle.burst_bytes,
        },
    };
    InspectionRule { what, reaction }
}
