//! From a scenario to a network of namespaces, as data: its hosts, their devices, addresses, routes and packet filters,
//! and the wires between them. [`super::build`] makes it real.
//!
//! ```text
//!   as     nms     trs          one namespace each
//!     \     |     /
//!        core                   the kernel routes; so it does in every box
//!       /      \
//!   r-SITE    c-CARRIER         nftables: NAT, packet filter
//!     |           \
//!    node        r-SITE ─ node
//! ```
//!
//! It is the simulator's network, wire for wire. A site with one node and no box has no router. If a site has a router,
//! the delay of the LAN's wires (1 ms) is taken from the access link's delay. Each wire joins two TUN devices, and the
//! impairment router carries packets between them. A node that moves has a device in every site that it is ever in. The
//! device is down while the node is elsewhere.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cyphonic_scenarios::{
    Action, Carrier, Dependence, Egress, Firewall, Interface, LinkAt, Nat, PortChoice, Protocol, Refusal, Scenario,
    Service, ServiceName, Site, SiteV4, SiteV6,
};
use cyphonic_wire::{MIN_DELAY, WireConfig, of_way};
use ipnet::IpNet;

/// The MTU of a LAN, unless its access link has a greater one.
const LAN_MTU: u16 = 1500;
/// The MTU of a device in front of a link that drops large packets silently. All packets have to reach the wire.
const ANY_MTU: u16 = 65_535;
/// The source of the core's ICMP errors, as in the simulator.
const CORE_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
/// The device that leads out of a box, and the only device of a host. For a node that moves, the device of its first
/// site.
pub(super) const OUT: &str = "out";

/// The first generation of a site's packet filter. It is not zero, because conntrack's mark is zero if no rule set it.
pub(super) const FIRST_GENERATION: u32 = 1;

/// A network of namespaces.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) hosts: Vec<Host>,
    pub(super) wires: Vec<Cable>,
}

/// A namespace.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name, without the lab's name.
    pub(super) name: String,
    pub(super) forwards: bool,
    /// Addresses on the loopback device: the host's own.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) devices: Vec<Device>,
    /// Prefixes that lead nowhere, unless there is a longer route.
    pub(super) discards: Vec<IpNet>,
    /// An nftables script. Empty if nothing is filtered or translated.
    pub(super) ruleset: String,
    /// Keys below /proc/sys, with dots.
    pub(super) sysctls: Vec<(&'static str, String)>,
}

/// A TUN device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) mtu: u16,
    /// The addresses of the host on this device.
    pub(super) addresses: Vec<IpAddr>,
    /// The prefixes behind this device.
    pub(super) routes: Vec<IpNet>,
    /// Whether it is up from the start.
    pub(super) up: bool,
}

/// A wire between two devices, each given by host and name.
#[derive(Debug)]
pub(super) struct Cable {
    /// The scenario's link that it is. None in a LAN.
    pub(super) at: Option<LinkAt>,
    /// The end further from the core.
    pub(super) inner: (String, String),
    pub(super) outer: (String, String),
    pub(super) up: WireConfig,
    pub(super) down: WireConfig,
    /// The part of the link's delay that the LAN's wires have.
    pub(super) spent: Duration,
}

impl Host {
    fn new(name: impl Into<String>, forwards: bool) -> Self {
        let (addresses, devices, discards) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), forwards, addresses, devices, discards, ruleset: String::new(), sysctls: Vec::new() }
    }
}

/// The namespace of a scenario's node.
pub(super) fn node_host(scenario: &Scenario, node: usize) -> &str {
    scenario.nodes[node].name.short()
}

/// The network of a scenario for which [`super::refuse::check`] found nothing to refuse.
pub(super) fn layout(scenario: &Scenario) -> Layout {
    let mut builder = Builder { scenario, layout: Layout::default(), uplinks: Vec::new() };
    for (which, service) in [
        (ServiceName::As, &scenario.services.auth),
        (ServiceName::Nms, &scenario.services.nms),
        (ServiceName::Trs, &scenario.services.trs),
    ] {
        builder.service(which, service);
    }
    for index in 0..scenario.sites.len() {
        builder.site(index);
    }
    for index in 0..scenario.carriers.len() {
        builder.carrier(index);
    }
    builder.core();
    builder.layout
}

/// An access link without its outer end.
struct Uplink {
    at: LinkAt,
    carrier: Option<usize>,
    /// Host and device.
    inner: (String, String),
    up: WireConfig,
    down: WireConfig,
    spent: Duration,
    routes: Vec<IpNet>,
}

struct Builder<'a> {
    scenario: &'a Scenario,
    layout: Layout,
    uplinks: Vec<Uplink>,
}

impl Builder<'_> {
    fn service(&mut self, which: ServiceName, service: &Service) {
        let addresses = vec![service.v6.into(), service.v4.into()];
        let (up, down) = (&service.link.up, &service.link.down);
        let mut host = Host::new(which.name(), false);
        host.devices.push(out(up.mtu.min(down.mtu), addresses.clone()));
        let inner = (host.name.clone(), OUT.to_owned());
        self.layout.hosts.push(host);
        let routes = addresses.into_iter().map(IpNet::from).collect();
        let (up, down) = (of_way(up, Duration::ZERO, None), of_way(down, Duration::ZERO, None));
        let at = LinkAt::Service(which);
        self.uplinks.push(Uplink { at, carrier: None, inner, up, down, spent: Duration::ZERO, routes });
    }

    fn site(&mut self, index: usize) {
        let scenario = self.scenario;
        let site = &scenario.sites[index];
        let members: Vec<usize> =
            (0..scenario.nodes.len()).filter(|node| sites_of(scenario, *node).contains(&index)).collect();
        if members.is_empty() {
            return;
        }
        let access = site.link.up.mtu.min(site.link.down.mtu);
        let (inner, spent) = if is_bare(scenario, index, members.len()) {
            (self.plug_in(members[0], index, access), Duration::ZERO)
        } else {
            let lan = WireConfig { mtu: usize::from(access.max(LAN_MTU)), ..WireConfig::new(MIN_DELAY) };
            let mut router = router(site);
            for (port, &node) in members.iter().enumerate() {
                let inner = self.plug_in(node, index, lan.mtu as u16);
                let name = format!("lan{port}");
                let routes = addresses_in(scenario, node, index).into_iter().map(IpNet::from).collect();
                let outer = (router.name.clone(), name.clone());
                router.devices.push(Device { name, mtu: lan.mtu as u16, addresses: Vec::new(), routes, up: true });
                self.layout.wires.push(Cable { at: None, inner, outer, up: lan, down: lan, spent: Duration::ZERO });
            }
            let inner = (router.name.clone(), OUT.to_owned());
            self.layout.hosts.push(router);
            (inner, MIN_DELAY)
        };
        let [up, down] = [&site.link.up, &site.link.down].map(|way| of_way(way, spent, site.broken));
        let routes = site.outer_prefixes();
        let at = LinkAt::Site(index);
        self.uplinks.push(Uplink { at, carrier: site.carrier, inner, up, down, spent, routes });
    }

    /// Gives a node its device in a site.
    fn plug_in(&mut self, node: usize, site: usize, mtu: u16) -> (String, String) {
        let host = node_host(self.scenario, node);
        let mut device = match self.scenario.nodes[node].interfaces.iter().find(|place| place.site == site) {
            Some(place) => out(mtu, addresses_of(place)),
            None => Device { up: false, ..out(mtu, Vec::new()) },
        };
        device.name = device_in(self.scenario, node, site);
        let end = (host.to_owned(), device.name.clone());
        let hosts = &mut self.layout.hosts;
        match hosts.iter_mut().find(|known| known.name == host) {
            Some(known) => known.devices.push(device),
            None => hosts.push(Host { devices: vec![device], ..Host::new(host, false) }),
        }
        end
    }

    fn carrier(&mut self, index: usize) {
        let carrier = &self.scenario.carriers[index];
        let all = std::mem::take(&mut self.uplinks).into_iter();
        let (sites, others): (Vec<_>, Vec<_>) = all.partition(|uplink| uplink.carrier == Some(index));
        self.uplinks = others;
        if sites.is_empty() {
            return;
        }
        let mut host = carrier_host(carrier);
        let mut routes: Vec<IpNet> = carrier.nat.addresses().map(IpNet::from).collect();
        for (port, site) in sites.into_iter().enumerate() {
            routes.extend(site.routes.iter().filter(|route| route.addr().is_ipv6()));
            self.join(site, &mut host, format!("site{port}"));
        }
        let [up, down] = [&carrier.link.up, &carrier.link.down].map(|way| of_way(way, Duration::ZERO, None));
        let (inner, at) = ((host.name.clone(), OUT.to_owned()), LinkAt::Carrier(index));
        self.layout.hosts.push(host);
        self.uplinks.push(Uplink { at, carrier: None, inner, up, down, spent: Duration::ZERO, routes });
    }

    fn core(&mut self) {
        let mut core = Host::new("core", true);
        core.addresses = CORE_ADDRESSES.to_vec();
        for (port, uplink) in std::mem::take(&mut self.uplinks).into_iter().enumerate() {
            self.join(uplink, &mut core, format!("port{port}"));
        }
        self.layout.hosts.push(core);
    }

    /// Gives an access link its outer end.
    fn join(&mut self, uplink: Uplink, to: &mut Host, device: String) {
        let Uplink { at, inner, up, down, spent, routes, .. } = uplink;
        let addresses = Vec::new();
        to.devices.push(Device { name: device.clone(), mtu: device_mtu(&down), addresses, routes, up: true });
        // A host is told the smaller MTU of both directions, a router only that of its own direction.
        let host = self.layout.hosts.iter_mut().find(|known| known.name == inner.0).expect("it was just made");
        if host.forwards {
            host.devices[0].mtu = device_mtu(&up);
        }
        let outer = (to.name.clone(), device);
        self.layout.wires.push(Cable { at: Some(at), inner, outer, up, down, spent });
    }
}

/// The MTU of the device in front of a wire.
pub(super) fn device_mtu(wire: &WireConfig) -> u16 {
    if wire.black_hole { ANY_MTU } else { u16::try_from(wire.mtu).unwrap_or(ANY_MTU) }
}

/// Whether a site's access link ends at its one node.
fn is_bare(scenario: &Scenario, site: usize, members: usize) -> bool {
    let words = &scenario.sites[site];
    // A host would know the MTU of its own wire. So a black hole, and a link that changes later, are behind a router.
    let black_hole = words.link.up.black_hole || words.link.down.black_hole;
    let changes = |action: &Action| matches!(action, Action::Link { at, .. } if *at == LinkAt::Site(site));
    let changes = scenario.steps.iter().any(|step| changes(&step.action));
    let global = !matches!(words.v4, Some(SiteV4::Private { .. })) && !matches!(words.v6, Some(SiteV6::Private { .. }));
    members == 1 && words.firewall.is_none() && !black_hole && !changes && global
}

/// The sites that a node is ever in: where it starts, then where it moves, each once.
pub(super) fn sites_of(scenario: &Scenario, node: usize) -> Vec<usize> {
    let mut sites: Vec<usize> = Vec::new();
    for place in places_of(scenario, node) {
        if !sites.contains(&place.site) {
            sites.push(place.site);
        }
    }
    sites
}

fn places_of(scenario: &Scenario, node: usize) -> impl Iterator<Item = &Interface> {
    scenario.nodes[node].interfaces.iter().chain(scenario.comes_to(node))
}

/// The name of a node's device in a site that it is ever in.
pub(super) fn device_in(scenario: &Scenario, node: usize, site: usize) -> String {
    match sites_of(scenario, node).iter().position(|known| *known == site) {
        Some(0) | None => OUT.to_owned(),
        Some(place) => format!("{OUT}{place}"),
    }
}

/// Every address that a node ever has in a site.
fn addresses_in(scenario: &Scenario, node: usize, site: usize) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        places_of(scenario, node).filter(|place| place.site == site).flat_map(addresses_of).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The addresses of an interface, IPv6 first.
pub(super) fn addresses_of(place: &Interface) -> Vec<IpAddr> {
    place.v6.map(Into::into).into_iter().chain(place.v4.map(Into::into)).collect()
}

/// A host's device with the default routes.
pub(super) fn out(mtu: u16, addresses: Vec<IpAddr>) -> Device {
    let families = [addresses.iter().any(IpAddr::is_ipv6), addresses.iter().any(IpAddr::is_ipv4)];
    Device { name: OUT.to_owned(), mtu, addresses, routes: defaults(families), up: true }
}

fn defaults([v6, v4]: [bool; 2]) -> Vec<IpNet> {
    let all = |address: IpAddr| IpNet::new(address, 0).expect("no prefix is shorter");
    let v6 = v6.then(|| all(Ipv6Addr::UNSPECIFIED.into()));
    v6.into_iter().chain(v4.then(|| all(Ipv4Addr::UNSPECIFIED.into()))).collect()
}

/// The name of [`router`].
pub(super) fn router_name(site: &Site) -> String {
    format!("r-{}", site.name)
}

/// The namespace between a site's LAN and its link: router, NAT and packet filter in one.
fn router(site: &Site) -> Host {
    let mut host = Host::new(router_name(site), true);
    host.addresses.extend(site.router_v6().map(IpAddr::from));
    host.addresses.extend(site.router_v4().map(IpAddr::from));
    host.discards.extend(site.v6.as_ref().map(|v6| IpNet::from(v6.prefix())));
    host.discards.extend(site.v4.as_ref().map(|v4| IpNet::from(v4.prefix())));
    let mut nats = Vec::new();
    if let Some(SiteV6::Private { nat, .. }) = &site.v6 {
        nats.push(nat);
    }
    if let Some(SiteV4::Private { nat, .. }) = &site.v4 {
        nats.push(nat);
    }
    host.devices.push(out(LAN_MTU, Vec::new()));
    host.devices[0].routes = defaults([site.v6.is_some(), site.v4.is_some()]);
    translate(&mut host, &nats);
    if let Some(firewall) = &site.firewall {
        host.ruleset.push_str(&filter(firewall, FIRST_GENERATION));
        host.sysctls.push(("net.netfilter.nf_conntrack_icmp_timeout", "60".to_owned()));
        host.sysctls.push(("net.netfilter.nf_conntrack_icmpv6_timeout", "60".to_owned()));
        if nats.is_empty() {
            idle(&mut host, Duration::from_secs(120));
        }
    }
    host
}

/// The name of a carrier's namespace.
pub(super) fn carrier_name(carrier: &Carrier) -> String {
    format!("c-{}", carrier.name)
}

fn carrier_host(carrier: &Carrier) -> Host {
    let mut host = Host::new(carrier_name(carrier), true);
    host.addresses = vec![carrier.inside.1.into(), carrier.inside.0.into()];
    host.devices.push(out(LAN_MTU, Vec::new()));
    host.devices[0].routes = defaults([true, true]);
    translate(&mut host, &[&carrier.nat]);
    host
}

/// Makes a host translate packets that leave it.
fn translate(host: &mut Host, nats: &[&Nat]) {
    for nat in nats {
        host.devices[0].addresses.push(nat.outside);
        host.ruleset.push_str(&nat_rules(nat));
    }
    if let Some(nat) = nats.first() {
        idle(host, nat.idle);
    }
}

/// The time for which conntrack remembers UDP.
fn idle(host: &mut Host, idle: Duration) {
    for key in ["net.netfilter.nf_conntrack_udp_timeout", "net.netfilter.nf_conntrack_udp_timeout_stream"] {
        host.sysctls.push((key, idle.as_secs().to_string()));
    }
}

/// A NAT in netfilter's terms. An unsolicited packet from outside must not make a conntrack entry: the entry would take
/// the mapping that a packet from inside needs.
fn nat_rules(nat: &Nat) -> String {
    let family = if nat.outside.is_ipv4() { "ip" } else { "ip6" };
    let address = nat.outside;
    let random = match nat.ports {
        PortChoice::Random => " fully-random",
        PortChoice::Preserve | PortChoice::Overloading | PortChoice::Sequential => "",
    };
    let unasked = if nat.answers_unsolicited { "reject" } else { "drop" };
    format!(
        "table {family} nat {{\n    chain out {{\n        type nat hook postrouting priority srcnat;\n        \
         oifname \"{OUT}\" snat to {address}{random}\n    }}\n}}\n\
         table {family} mapped {{\n    chain input {{\n        type filter hook input priority filter;\n        \
         iifname \"{OUT}\" ct state new {unasked}\n        {family} daddr {address} ct state new drop\n    }}\n}}\n"
    )
}

/// A stateful packet filter in netfilter's terms. Each conversation carries the generation of the filter that admitted
/// it, as conntrack's mark. A filter of another generation takes the conversation for a new one. The NAT's mappings,
/// which are in the same table, stay.
pub(super) fn filter(firewall: &Firewall, generation: u32) -> String {
    let mut rules = String::new();
    let mut rule = |text: &str| {
        let _ = writeln!(rules, "        {text}");
    };
    let accept = format!("ct mark set {generation} accept");
    // The filter is at the access link, so it ignores packets within the LAN.
    rule(&format!("iifname != \"{OUT}\" oifname != \"{OUT}\" accept"));
    rule(&format!("ct mark {generation} ct state established,related accept"));
    if firewall.stateful {
        rule(&format!("iifname \"{OUT}\" drop"));
    } else {
        rule(&format!("iifname \"{OUT}\" {accept}"));
    }
    if let Some(egress) = &firewall.egress {
        for Egress { protocol, port } in egress {
            let protocols = match protocol {
                Protocol::Udp => "udp",
                Protocol::Tcp => "tcp",
                Protocol::Icmp => "{ icmp, ipv6-icmp }",
            };
            match port {
                Some(port) => rule(&format!("meta l4proto {protocols} th dport {port} {accept}")),
                None => rule(&format!("meta l4proto {protocols} {accept}")),
            }
        }
        match firewall.refusal {
            Refusal::Drop => rule("drop"),
            Refusal::Reject => rule("reject with icmpx admin-prohibited"),
            Refusal::Reset => {
                rule("meta l4proto tcp reject with tcp reset");
                rule("reject with icmpx admin-prohibited");
            }
        }
    } else {
        rule(&accept);
    }
    // The filter stands outside of the NAT. The NAT never sees, and never answers, unsolicited packets that the filter
    // drops.
    let unasked =
        if firewall.stateful { format!("        iifname \"{OUT}\" ct state new drop\n") } else { String::new() };
    format!(
        "table inet filter {{\n    chain forward {{\n        type filter hook forward priority filter; policy accept;\n\
         {rules}    }}\n    chain input {{\n        type filter hook input priority filter - 1; policy accept;\n\
         {unasked}    }}\n}}\n"
    )
}

/// The script that replaces the packet filter atomically.
pub(super) fn refilter(firewall: &Firewall, generation: u32) -> String {
    format!("delete table inet filter\n{}", filter(firewall, generation))
}

/// Whether netfilter's only mapping behaviour is the one that a NAT should have. Netfilter maps by destination, to the
/// inner port if it is free there, or to a random one. The ports of a single inner host are always free. For it that is
/// one mapping for each inner port.
pub(super) fn maps_as_netfilter(nat: &Nat, inner_hosts: usize) -> bool {
    match (nat.mapping, nat.ports) {
        (Dependence::AddressAndPort, PortChoice::Random) => true,
        (Dependence::AddressAndPort, PortChoice::Overloading) | (Dependence::Endpoint, PortChoice::Preserve) => {
            inner_hosts <= 1
        }
        (Dependence::Address, _)
        | (Dependence::Endpoint, PortChoice::Sequential | PortChoice::Random | PortChoice::Overloading)
        | (Dependence::AddressAndPort, PortChoice::Sequential | PortChoice::Preserve) => false,
    }
}

/// The number of nodes that are ever in one of these sites.
pub(super) fn behind(scenario: &Scenario, is_there: impl Fn(usize) -> bool) -> usize {
    (0..scenario.nodes.len()).filter(|node| sites_of(scenario, *node).into_iter().any(&is_there)).count()
}

#[cfg(test)]
mod tests {
    use cyphonic_scenarios::{Document, Plan};

    use super::*;

    fn layout_of(text: &str) -> Layout {
        let plan = Plan::expand(&Document::parse("test.toml", text).unwrap(), &[]).unwrap();
        layout(&plan.cells[0].scenario)
    }

    fn host<'a>(layout: &'a Layout, name: &str) -> &'a Host {
        layout.hosts.iter().find(|host| host.name == name).unwrap()
    }

    const PAIR: &str = r#"
        title = "t"
        about = "a"
        measure = "outcome"
        [[site]]
        name = "a"
        kind = "ipv4-private"
        [site.link]
        delay_ms = 7
        mtu = 1400
        [site.firewall]
        egress = ["udp/443", "icmp"]
        reaction = "reset"
        [[site]]
        name = "b"
        kind = "ipv6"
        [[node]]
        name = "alice"
        site = "a"
        [[node]]
        name = "bob"
        site = "b"
        [[step]]
        do = "start"
        [[step]]
        do = "echo"
        from = "alice"
        to = "bob"
    "#;

    #[test]
    fn a_node_alone_is_at_the_end_of_its_link_and_one_behind_a_box_has_a_lan() {
        let layout = layout_of(PAIR);
        let names: Vec<_> = layout.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["as", "nms", "trs", "alice", "r-a", "bob", "core"]);
        let ends: Vec<_> = layout.wires.iter().map(|wire| (wire.inner.0.as_str(), wire.outer.0.as_str())).collect();
        let links = [("as", "core"), ("nms", "core"), ("trs", "core"), ("r-a", "core"), ("bob", "core")];
        assert_eq!(ends, [&[("alice", "r-a")][..], &links].concat());
        let delays: Vec<_> = layout.wires.iter().map(|wire| wire.up.delay.as_millis()).collect();
        assert_eq!(delays, [1, 1, 1, 1, 6, 1], "alice is 7 ms away from the core, her LAN included");
        assert_eq!(host(&layout, "alice").devices[0].mtu, 1500);
        assert_eq!(host(&layout, "r-a").devices[0].mtu, 1400);
        let core = host(&layout, "core");
        assert_eq!(core.devices.iter().map(|port| port.mtu).collect::<Vec<_>>(), [1500, 1500, 1500, 1400, 1500]);
    }

    #[test]
    fn nat_and_packet_filter_are_rules_of_netfilter() {
        let layout = layout_of(PAIR);
        let router = host(&layout, "r-a");
        let outside = router.devices[0].addresses[0];
        assert!(router.ruleset.contains(&format!("oifname \"out\" snat to {outside}\n")), "{}", router.ruleset);
        for rule in [
            "ct mark 1 ct state established,related accept",
            "iifname \"out\" drop",
            "meta l4proto udp th dport 443 ct mark set 1 accept",
            "meta l4proto { icmp, ipv6-icmp } ct mark set 1 accept",
            "meta l4proto tcp reject with tcp reset",
        ] {
            assert!(router.ruleset.contains(rule), "{rule}: {}", router.ruleset);
        }
        let core = host(&layout, "core");
        assert_eq!(core.devices[3].routes, [IpNet::from(outside)], "the LAN is nobody's business");
        assert!(core.ruleset.is_empty());
    }

    #[test]
    fn a_node_that_moves_has_a_device_in_every_site_that_it_is_ever_in() {
        let layout = layout_of(&format!("{PAIR}\n[[step]]\ndo = \"move\"\nnode = \"bob\"\nto = \"a\"\n"));
        let bob = host(&layout, "bob");
        let devices: Vec<_> = bob.devices.iter().map(|device| (device.name.as_str(), device.up)).collect();
        assert_eq!(devices, [("out1", false), ("out", true)]);
        assert!(bob.devices[0].addresses.is_empty() && bob.devices[0].routes.is_empty());
        let ends: Vec<_> = layout.wires.iter().map(|wire| (&wire.inner, &wire.outer)).collect();
        let joined = |inner: [&str; 2], outer: [&str; 2]| {
            let [inner, outer] = [inner, outer].map(|[host, device]| (host.to_owned(), device.to_owned()));
            ends.contains(&(&inner, &outer))
        };
        assert!(joined(["bob", "out1"], ["r-a", "lan1"]) && joined(["bob", "out"], ["core", "port4"]), "{ends:?}");
        let lan = host(&layout, "r-a").devices.iter().find(|device| device.name == "lan1").unwrap();
        assert_eq!(lan.routes.len(), 1, "the router knows where bob's address will be: {lan:?}");
    }

    #[test]
    fn another_packet_filter_judges_anew_what_the_one_before_let_begin() {
        let firewall = Firewall { stateful: true, egress: None, refusal: Refusal::Drop, inspect: Vec::new() };
        let text = refilter(&firewall, 7);
        assert!(text.starts_with("delete table inet filter\ntable inet filter {"), "{text}");
        assert!(text.contains("ct mark 7 ct state established,related accept"), "{text}");
        assert!(text.contains("        ct mark set 7 accept\n"), "{text}");
    }
}
