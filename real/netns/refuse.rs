//! What a Linux kernel cannot do as a scenario has it. Nothing is done approximately: it is refused, by the name that
//! it has in the scenario.

use std::time::Duration;

use cyphonic_core::timing::node::TUNNEL_LIFETIME;
use cyphonic_scenarios::{
    Action, Cipher, Dependence, Firewall, Hairpin, IcmpErrors, LinkAt, Method, Nat, NatAt, Refresh, Scenario, SiteV4,
    SiteV6,
};

use super::layout::{behind, maps_as_netfilter};

/// For how long a run shows what the scenario says, and why not longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) after: Duration,
    pub(super) why: String,
}

/// Everything in a scenario that cannot be done, each with its reason; otherwise what limits the run.
pub(super) fn check(scenario: &Scenario) -> Result<Limit, Vec<String>> {
    let mut found = Vec::new();
    let duration_limit = Limit { after: scenario.duration_limit, why: "duration_limit_s is over".to_owned() };
    let mut limits = vec![duration_limit];
    if scenario.cipher != Cipher::AesCtr {
        found.push("cipher: no daemon has another one than \"aes-ctr\"".to_owned());
    }
    for (index, site) in scenario.sites.iter().enumerate() {
        let at = |what: &str| format!("site {:?}: {what}", site.name);
        let nodes = behind(scenario, |place| place == index);
        if let Some(SiteV4::Private { nat, .. }) = &site.v4 {
            limits.extend(check_nat(nat, nodes, &at("nat"), &mut found));
        }
        match &site.v6 {
            Some(SiteV6::Private { nat, .. }) => limits.extend(check_nat(nat, nodes, &at("nat66"), &mut found)),
            Some(SiteV6::Prefix { .. }) => {
                found.push(at("nptv6: netfilter translates prefixes with conntrack, not statelessly (RFC 6296)"));
            }
            Some(SiteV6::Global(_)) | None => {}
        }
        if site.nat64.is_some() {
            found.push(at("nat64: netfilter does not translate between families"));
        }
        if site.firewall.as_ref().is_some_and(|firewall| !firewall.inspect.is_empty()) {
            found.push(at("firewall.inspect: netfilter does not look into QUIC or TLS"));
        }
        if scenario.method == Method::Conventional && (site.link.up.black_hole || site.link.down.black_hole) {
            found.push(at(
                "link.black_hole: a kernel cannot both cut packets and keep silent about those it may not cut",
            ));
        }
    }
    for (index, carrier) in scenario.carriers.iter().enumerate() {
        let at = format!("carrier {:?}", carrier.name);
        let nodes = behind(scenario, |site| scenario.sites[site].carrier == Some(index));
        limits.extend(check_nat(&carrier.nat, nodes, &at, &mut found));
    }
    for node in scenario.nodes.iter().filter(|node| node.proxy) {
        found.push(format!("node {:?}: proxy: not built, no namespace has an HTTP proxy", node.name.short()));
    }
    for node in scenario.nodes.iter().filter(|node| node.copy_of.is_some()) {
        found.push(format!("node {:?}: copy_of: each namespace has a node with a key of its own", node.name.short()));
    }
    for node in scenario.nodes.iter().filter(|node| node.interfaces.len() > 1) {
        found.push(format!("node {:?}: in several sites at once, which is not built", node.name.short()));
    }
    if scenario.tunnel_lifetime != TUNNEL_LIFETIME {
        found.push("tunnel_lifetime_s: the daemons' connections have one lifetime, 3600 s".to_owned());
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        if let Some(why) = check_step(scenario, &step.action) {
            found.push(format!("step {index}: {why}"));
        }
    }
    if found.is_empty() {
        Ok(limits.into_iter().min_by_key(|limit| limit.after).expect("one at least"))
    } else {
        Err(found)
    }
}

fn check_nat(nat: &Nat, inner_hosts: usize, at: &str, found: &mut Vec<String>) -> Option<Limit> {
    let mut refuse = |key: &str, why: &str| found.push(format!("{at}.{key}: {why}"));
    // Every key by its name: a new one does not compile until it is said here or in `layout` what netfilter makes of
    // it.
    let &Nat {
        filtering,
        ref more_outside,
        hairpin,
        icmp_errors,
        fragments,
        lifetime,
        flush,
        max_sessions,
        max_sessions_per_host,
        refresh,
        idle,
        // Judged by `maps_as_netfilter`.
        mapping: _,
        ports: _,
        // There is one address to take.
        pooling: _,
        // With such a filter nobody outside asks first.
        reuses_inbound: _,
        // Built by `layout`.
        outside: _,
        answers_unsolicited: _,
    } = nat;
    match filtering {
        Dependence::AddressAndPort => {}
        Dependence::Endpoint | Dependence::Address => {
            refuse("filtering", "netfilter lets in only who was written to, address and port");
        }
    }
    if !maps_as_netfilter(nat, inner_hosts) {
        let why = "netfilter maps by destination, to the inner port where it is free there, or to a random one: \
                   endpoint-independent mapping with ports = \"preserve\" for one node, address-and-port-dependent mapping \
                   with ports = \"random\" for any";
        refuse("mapping", why);
    }
    if !more_outside.is_empty() {
        refuse("addresses", "netfilter takes its addresses by another rule than the scenario's");
    }
    match hairpin {
        Hairpin::Off => {}
        Hairpin::InternalSource | Hairpin::ExternalSource => {
            refuse("hairpin", "netfilter turns packets around only for ports that it was told of");
        }
    }
    match icmp_errors {
        IcmpErrors::Carried => {}
        IcmpErrors::Dropped | IcmpErrors::EndMapping => refuse("icmp_errors", "netfilter always translates them"),
    }
    if !fragments {
        refuse("fragments", "netfilter always puts fragments together");
    }
    if lifetime.is_some() || flush.is_some() {
        refuse("lifetime_s, flush_s", "netfilter forgets a mapping only when it was unused");
    }
    if max_sessions != 65_536 || max_sessions_per_host != usize::MAX {
        refuse("max_sessions", "netfilter counts by other rules");
    }
    let refreshes_otherwise = match refresh {
        Refresh::Both => false,
        Refresh::Outbound | Refresh::Inbound => true,
    };
    refreshes_otherwise.then(|| {
        let why = format!(
            "{at}.refresh: netfilter lets both sides refresh, so after idle_s it does not do as the scenario says"
        );
        Limit { after: idle, why }
    })
}

fn check_step(scenario: &Scenario, action: &Action) -> Option<String> {
    let why = match action {
        Action::Revoke(_) => {
            "revoke: daemons look at the list of revoked certificates once a second, each in its turn: who closes a session \
             first is chance, and in the simulator all look at once"
        }
        Action::RenewRunning(_) => "running: nodes of namespaces do not follow their certificates' files",
        Action::Expire(_) => "expire: namespaces share the machine's civil clock",
        Action::Clock { .. } => "clock: namespaces share the machine's civil clock",
        Action::Suspend { .. } => "suspend: namespaces share the machine, and no kernel suspends a part of it",
        Action::Rules(_) if !scenario.rules.are_set() => {
            "rules: the NMS reads a file again that it had at its start: begin with `[rules]`, perhaps with default = \"open\""
        }
        Action::DiskFull(_) => "disk_full, disk_free: not built, the database has no disk of its own",
        Action::Attach { .. } | Action::Detach { .. } => "attach, detach: a node in several sites at once is not built",
        Action::Rebind { .. } => "rebind: netfilter gives a node the port again that it had, where that is free",
        Action::RestartInOrder(_) | Action::StopInOrder(_) => {
            "graceful: when a daemon that ends in order is gone is its own business, and in the simulator it takes no time"
        }
        Action::Tcp { rate_bps: Some(_), .. } => {
            "tcp.rate_mbps: not built, the sender of namespaces writes as fast as it can"
        }
        Action::BareTcp { .. } => {
            "tcp.over: not built, the applications of namespaces ask their node for the peer's address"
        }
        Action::ProbeMtu(_) => "probe_mtu: a kernel's virtual interface takes no packet beyond its MTU",
        Action::NatReboot(NatAt::Site(site)) if filters(scenario, *site).any(remembers_more) => {
            "nat_reboot: conntrack is also the memory of the firewall, so the firewall would forget its conversations too"
        }
        Action::Firewall { firewall, .. } if !firewall.inspect.is_empty() => {
            "firewall.inspect: netfilter does not look into QUIC or TLS"
        }
        Action::Link { at: LinkAt::Service(_), link } if link.up.mtu != link.down.mtu || link.up.black_hole => {
            "link: a service's link with two MTUs or a black hole"
        }
        Action::Start { .. }
        | Action::Echo(_)
        | Action::Tcp { .. }
        | Action::Udp(_)
        | Action::Wait(_)
        | Action::Idle
        | Action::Move { .. }
        | Action::NatReboot(_)
        | Action::Firewall { .. }
        | Action::Link { .. }
        | Action::LinkUp { .. }
        | Action::Path { .. }
        | Action::Restart(_)
        | Action::Renew(_)
        | Action::Pause { .. }
        | Action::Rules(_)
        | Action::Stop(_) => return None,
    };
    Some(why.to_owned())
}

/// Every firewall that a site ever has.
fn filters(scenario: &Scenario, site: usize) -> impl Iterator<Item = &Firewall> {
    let later = scenario.steps.iter().filter_map(move |step| match &step.action {
        Action::Firewall { site: at, firewall } if *at == site => Some(&**firewall),
        _ => None,
    });
    scenario.sites[site].firewall.iter().chain(later)
}

/// Whether it lets answers out that it would not let out unasked.
fn remembers_more(firewall: &Firewall) -> bool {
    !firewall.stateful && firewall.egress.is_some()
}

#[cfg(test)]
mod tests {
    use cyphonic_scenarios::{Document, EMBEDDED, Plan};

    use super::*;

    fn checked(site: &str, step: &str) -> Result<Limit, Vec<String>> {
        let text = format!(
            "title = \"t\"\nabout = \"a\"\nmeasure = \"outcome\"\n[[site]]\nname = \"a\"\nkind = \"ipv4-private\"\n{site}\n\
             [[site]]\nname = \"b\"\nkind = \"ipv6\"\n[[node]]\nname = \"alice\"\nsite = \"a\"\n\
             [[node]]\nname = \"bob\"\nsite = \"b\"\n[[step]]\ndo = \"start\"\n\
             [[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n{step}"
        );
        let plan = Plan::expand(&Document::parse("test.toml", &text).unwrap(), &[]).unwrap();
        check(&plan.cells[0].scenario)
    }

    #[test]
    fn every_cell_of_table_1_can_be_built() {
        let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == "table1").unwrap();
        let plan = Plan::expand(&Document::parse(name, text).unwrap(), &[]).unwrap();
        assert_eq!(plan.cells.len(), 27);
        for cell in &plan.cells {
            assert!(check(&cell.scenario).is_ok(), "{}", cell.name());
        }
    }

    #[test]
    fn what_netfilter_cannot_do_is_refused_by_its_name() {
        for (site, name) in [
            ("[site.nat]\nfiltering = \"endpoint-independent\"", "site \"a\": nat.filtering: "),
            ("[site.nat]\nmapping = \"address-dependent\"", "site \"a\": nat.mapping: "),
            ("[site.nat]\nports = \"sequential\"", "site \"a\": nat.mapping: "),
            ("[site.nat]\nhairpin = \"external-source\"", "site \"a\": nat.hairpin: "),
            ("[site.nat]\nicmp_errors = \"dropped\"", "site \"a\": nat.icmp_errors: "),
            ("[site.nat]\nflush_s = 60", "site \"a\": nat.lifetime_s, flush_s: "),
            ("[[site.firewall.inspect]]\nsni = \"x.test\"\nreaction = \"drop\"", "site \"a\": firewall.inspect: "),
        ] {
            let found = checked(site, "").unwrap_err();
            assert!(found.iter().any(|refusal| refusal.starts_with(name)), "{site}: {found:?}");
        }
        for (site, step, name) in [
            ("", "do = \"revoke\"\nnode = \"alice\"", "step 2: revoke: "),
            ("", "do = \"clock\"\nwhat = \"nms\"\nstep_s = 5", "step 2: clock: "),
            ("", "do = \"suspend\"\nwhat = \"alice\"\nms = 5000", "step 2: suspend: "),
            ("", "do = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 9\nover = \"underlay\"", "step 2: tcp.over: "),
            ("", "do = \"probe_mtu\"\nfrom = \"alice\"\nto = \"bob\"", "step 2: probe_mtu: "),
            (
                "[site.firewall]\nstateful = false\negress = [\"udp/443\"]",
                "do = \"nat_reboot\"\nsite = \"a\"",
                "step 2: nat_reboot: ",
            ),
            (
                "[site.firewall]",
                "do = \"firewall\"\nsite = \"a\"\ninspect = [{ quic = true, reaction = \"drop\" }]",
                "step 2: firewall.inspect: ",
            ),
        ] {
            let found = checked(site, &format!("[[step]]\n{step}")).unwrap_err();
            assert!(found[0].starts_with(name), "{found:?}");
        }
    }

    #[test]
    fn nodes_that_move_nats_that_reboot_and_firewalls_that_change_can_be_built() {
        for (site, step) in [
            ("", "do = \"move\"\nnode = \"alice\"\nto = \"b\""),
            ("[site.firewall]", "do = \"nat_reboot\"\nsite = \"a\""),
            ("[site.firewall]", "do = \"firewall\"\nsite = \"a\"\nmode = \"only-443\""),
        ] {
            let limit = checked(site, &format!("[[step]]\n{step}"));
            assert!(limit.is_ok(), "{step}: {limit:?}");
        }
        // Two nodes behind one NAT, though not at the same time: the mappings of the first are still there.
        let crowded = checked("", "[[step]]\ndo = \"move\"\nnode = \"bob\"\nto = \"a\"").unwrap_err();
        assert!(crowded[0].starts_with("site \"a\": nat.mapping: "), "{crowded:?}");
    }

    #[test]
    fn a_nat_that_refreshes_as_netfilter_does_not_limits_the_run_to_its_idle_time() {
        let limit = checked("[site.nat]\nidle_s = 30", "").unwrap();
        assert_eq!(limit.after, Duration::from_secs(30));
        assert!(limit.why.contains("nat.refresh"), "{}", limit.why);
        let symmetric =
            "[site.nat]\nidle_s = 30\nrefresh = \"both\"\nmapping = \"address-and-port-dependent\"\nports = \"random\"";
        assert!(checked(symmetric, "").unwrap().after > Duration::from_secs(30));
    }
}
