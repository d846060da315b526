//! The network at one moment of a scenario, and what it must deliver then.

use std::collections::{BTreeMap, BTreeSet};

use cyphonic_core::time::Instant;
use cyphonic_scenarios::{
    Action, Family, Far, HostClock, Interface, Link, LinkAt, Login, Method, Nat, Node, Pair, Policy, Probes, Role,
    Scenario, ServiceName, Site, SiteV4, SiteV6, Trait,
};

use super::links::{is_clear, is_good};
use super::nats::{carries_large, confuses_nodes, contests_ports, has_few_sessions, is_fickle, nats};
use super::rules::Access;
use super::trouble::{Trouble, disturbs_nobody, has_met, is_crowded, row, slows_down, trouble, tunnel_set_up};
use super::{BORN, EXPULSION, HEALING, LASTING, MOVED, PROMPT, REBOOTED, RESTORED, SMALL, Wanted};
use crate::oracle::{self, End, Medium, Obstacle, Success};

/// Most bytes that the conventional method adds to an application's packet.
const AROUND: u16 = 96;

/// Whether all packets of the action are small.
fn is_small(action: &Action) -> bool {
    matches!(action, Action::Echo(probes) | Action::Udp(probes) if probes.payload_bytes <= SMALL)
}

/// The network at one moment of the scenario.
#[derive(Clone)]
pub(super) struct Moment {
    /// The scenario, with firewalls, links and interfaces as they are now.
    now: Scenario,
    /// Of each node: whether it has started.
    started: Vec<bool>,
    /// The nodes whose certificates were revoked, and the time from which no packet may pass.
    revoked: BTreeMap<usize, Instant>,
    /// The nodes whose certificates have expired.
    expired: BTreeSet<usize>,
    /// Those of them for which it is known from when on no packet may pass, and that time.
    lapsed: BTreeMap<usize, Instant>,
    /// The nodes whose certificates may expire at any time, because a clock steps in the scenario.
    doubtful: BTreeSet<usize>,
    /// Whether the database can only be read.
    is_full: bool,
    /// Of each node: all sites in which it ever is.
    ever: Vec<BTreeSet<usize>>,
    /// Links that are down.
    down: Vec<LinkAt>,
    /// Impaired paths: the site, the far end, the family, and whether the direction is towards the core.
    bad_paths: Vec<(usize, Far, Option<Family>, bool)>,
    /// The access rules in force.
    pub(super) access: Access,
    /// The last event.
    pub(super) last: Instant,
    /// Whether nothing has happened yet but that nodes were started.
    pub(super) is_untouched: bool,
    /// When the last node started, or first came to a site where it can register.
    born: Instant,
}

impl Moment {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let started = vec![false; scenario.nodes.len()];
        let sites = |node: &Node| node.interfaces.iter().map(|place| place.site).collect();
        let mut ever: Vec<BTreeSet<usize>> = scenario.nodes.iter().map(sites).collect();
        for (node, sites) in ever.iter_mut().enumerate() {
            sites.extend(scenario.comes_to(node).map(|place| place.site));
        }
        let mut expiring = BTreeSet::new();
        let mut clocks = false;
        for step in &scenario.steps {
            match &step.action {
                Action::Expire(node) => drop(expiring.insert(*node)),
                Action::Clock { .. } => clocks = true,
                _ => {}
            }
        }
        Self {
            now: scenario.clone(),
            started,
            revoked: BTreeMap::new(),
            expired: BTreeSet::new(),
            lapsed: BTreeMap::new(),
            doubtful: if clocks { expiring } else { BTreeSet::new() },
            is_full: false,
            ever,
            down: Vec::new(),
            bad_paths: Vec::new(),
            access: Access::new(scenario),
            last: Instant::ZERO,
            is_untouched: true,
            born: Instant::ZERO,
        }
    }

    pub(super) fn apply(&mut self, at: Instant, action: &Action) {
        let mut until = at;
        match action {
            Action::Echo(_)
            | Action::Udp(_)
            | Action::Tcp { .. }
            | Action::BareTcp { .. }
            | Action::Wait(_)
            | Action::Idle => return,
            // A change of the rules disturbs no pair whose access it does not change.
            Action::Rules(rules) => {
                let expelled = self.expelled(at);
                return self.access.change(rules, at, expelled);
            }
            Action::ProbeMtu(_)
            | Action::NatReboot(_)
            | Action::Rebind { .. }
            | Action::Restart(Role::Service(_))
            | Action::RestartInOrder(Role::Service(_))
            | Action::Clock { .. } => {}
            Action::Pause { lasts, .. } | Action::Suspend { lasts, .. } => until = at + *lasts,
            Action::DiskFull(is_full) => self.is_full = *is_full,
            Action::Start { nodes, .. } => {
                for &node in nodes {
                    self.started[node] = true;
                }
                self.born = self.born.max(at);
            }
            Action::Restart(Role::Node(node)) | Action::RestartInOrder(Role::Node(node)) => {
                self.started[*node] = true;
            }
            Action::Stop(node) | Action::StopInOrder(node) => self.started[*node] = false,
            Action::Revoke(node) => {
                self.revoked.insert(*node, self.expelled(at));
            }
            Action::Expire(node) => {
                if !self.doubtful.contains(node) {
                    let since = if self.now.method == Method::Proposed { at } else { self.expelled(at) };
                    self.lapsed.entry(*node).or_insert(since);
                }
                self.expired.insert(*node);
            }
            Action::Renew(node) | Action::RenewRunning(node) => {
                let readmitted = [self.revoked.remove(node), self.lapsed.remove(node)].iter().any(Option::is_some);
                let readmitted = self.expired.remove(node) || readmitted;
                if matches!(action, Action::Renew(_)) {
                    self.started[*node] = true;
                } else if !readmitted {
                    return;
                }
            }
            Action::Move { node, to } => {
                let was_well = self.is_well(*node);
                self.now.nodes[*node].interfaces = vec![*to];
                self.may_be_born(at, *node, was_well);
            }
            Action::Attach { node, to } => {
                let was_well = self.is_well(*node);
                self.now.nodes[*node].interfaces.push(*to);
                self.may_be_born(at, *node, was_well);
            }
            Action::Detach { node, site } => {
                let was_well = self.is_well(*node);
                self.now.nodes[*node].interfaces.retain(|place| place.site != *site);
                self.may_be_born(at, *node, was_well);
            }
            Action::Path { site, far, towards, family, way } => {
                for up in [true, false].into_iter().filter(|up| towards.is(*up)) {
                    let path = (*site, *far, *family, up);
                    self.bad_paths.retain(|bad| *bad != path);
                    self.bad_paths.extend((!is_clear(way)).then_some(path));
                }
            }
            Action::Firewall { site, firewall } => self.now.sites[*site].firewall = Some((**firewall).clone()),
            Action::Link { at, link } => *self.link_mut(*at) = (**link).clone(),
            Action::LinkUp { at, up } => {
                self.down.retain(|down| down != at);
                self.down.extend((!up).then_some(*at));
            }
        }
        self.is_untouched &= matches!(action, Action::Start { .. });
        self.last = self.last.max(until);
    }

    /// The time by which every node knows of access that ends at `at`.
    fn expelled(&self, at: Instant) -> Instant {
        let is_calm = at >= self.last + HEALING;
        at + if is_calm { EXPULSION } else { HEALING }
    }

    /// A node that could not register before counts as just started.
    fn may_be_born(&mut self, at: Instant, node: usize, was_well: bool) {
        if self.started[node] && !was_well && self.is_well(node) {
            self.born = self.born.max(at);
        }
    }

    /// Whether every started node has had the time to register and to complete its survey.
    pub(super) fn is_born(&self, at: Instant) -> bool {
        at >= self.born + BORN
    }

    pub(super) fn wanted_echo(
        &self,
        scenario: &Scenario,
        began: &[Instant],
        at: Instant,
        probes: &Probes,
    ) -> Option<Wanted> {
        if slows_down(scenario) && is_crowded(scenario, began, at, probes) {
            return None;
        }
        let (lasts, trouble) = row(scenario, began, at, probes);
        if trouble != Trouble::None && self.is_tight(probes.pair) {
            return None;
        }
        // The end of the trouble, if it is known.
        let over = match &trouble {
            Trouble::None => Some(at),
            Trouble::Blip(end) => Some(*end + PROMPT),
            Trouble::Move(moved, action) | Trouble::Return(moved, action) => {
                self.permits_after(*moved, action, probes.pair, &Action::Echo(*probes)).then_some(*moved + MOVED)
            }
            Trouble::Sleep(_, wakes, HostClock::Boottime) => Some(*wakes + MOVED),
            Trouble::Sleep(_, wakes, HostClock::Monotonic) => Some(*wakes + RESTORED),
            Trouble::Reboot(at) => (scenario.policy == Policy::Optimal).then_some(*at + REBOOTED),
            // A restarted NMS answers "peer offline" until the peer has registered again.
            Trouble::Restart(_, ServiceName::Nms) | Trouble::Much => None,
            Trouble::Restart(again, _) => {
                let is_up = at >= *again || has_met(scenario, began, probes.pair, *again);
                is_up.then_some(*again + RESTORED)
            }
        };
        let over = over.filter(|over| at + lasts >= *over && self.is_born(at));
        let is_untouched = match &trouble {
            Trouble::None | Trouble::Restart(_, ServiceName::As) => true,
            Trouble::Restart(again, ServiceName::Nms) => at + tunnel_set_up(scenario) <= *again,
            _ => false,
        };
        if is_untouched && self.is_born(at) && probes.payload_bytes <= SMALL {
            let is_calm = trouble == Trouble::None && lasts >= LASTING;
            Some(Wanted::EveryEcho { is_direct: is_calm && self.has_direct_way(probes.pair) })
        } else if let Some(over) = over.filter(|_| lasts >= LASTING && probes.payload_bytes <= SMALL) {
            Some(Wanted::EchoesFrom(over.max(at + LASTING)))
        } else {
            let is_healed = at - self.last.max(Instant::ZERO) >= HEALING;
            ((is_healed || over.is_some()) && lasts >= LASTING).then_some(Wanted::LastEcho)
        }
    }

    /// Whether a TCP transfer that begins now arrives whole.
    pub(super) fn carries(&self, scenario: &Scenario, began: &[Instant], step: usize, pair: Pair) -> bool {
        let at = began[step];
        let ends = Instant::ZERO + scenario.duration_limit;
        if self.is_tight(pair) && trouble(scenario, began, ends) != Trouble::None {
            return false;
        }
        let is_over = match trouble(scenario, began, Instant::ZERO + scenario.duration_limit) {
            Trouble::Restart(_, ServiceName::Nms) | Trouble::Much => false,
            Trouble::None | Trouble::Blip(_) => true,
            Trouble::Restart(again, _) => has_met(scenario, began, pair, again),
            Trouble::Move(moved, action) | Trouble::Return(moved, action) => {
                has_met(scenario, began, pair, moved)
                    && self.permits_after(moved, &action, pair, &scenario.steps[step].action)
            }
            // The kernel's TCP of the other node may give up meanwhile.
            Trouble::Sleep(since, wakes, _) => at >= wakes && has_met(scenario, began, pair, since),
            Trouble::Reboot(at) => scenario.policy == Policy::Optimal && has_met(scenario, began, pair, at),
        };
        // The simulated hosts' TCP sends whole windows in spite of losses, so several transfers at once starve each
        // other.
        if slows_down(scenario) {
            return false;
        }
        let is_last = scenario.steps[step..].iter().all(|step| disturbs_nobody(&step.action));
        is_over && self.is_born(at) || is_last && at - self.last.max(Instant::ZERO) >= HEALING
    }

    /// Whether a TCP transfer without a tunnel that begins now arrives whole: nothing ever disturbs the network, and no
    /// box is in the way of a connection to the receiver's own address. Where there is a firewall, nothing is demanded.
    pub(super) fn carries_bare(&self, scenario: &Scenario, began: &[Instant], step: usize) -> bool {
        let Action::BareTcp { from, to, family, .. } = scenario.steps[step].action else { return false };
        let ([here], [there]) = (&self.now.nodes[from].interfaces[..], &self.now.nodes[to].interfaces[..]) else {
            return false;
        };
        let (here, there) = (&self.now.sites[here.site], &self.now.sites[there.site]);
        let is_open = |site: &Site| {
            site.firewall.is_none()
                && site.broken.is_none()
                && [&site.link.up, &site.link.down].iter().all(|w| w.mtu == 1500)
        };
        let by = |family: Family| match family {
            Family::Ipv6 => here.v6.is_some() && there.v6.is_some(),
            Family::Ipv4 => here.v4.is_some() && there.v4.is_some(),
        };
        let families = [Family::Ipv6, Family::Ipv4].into_iter().filter(|found| family.is_none_or(|one| one == *found));
        let is_reached = match families.into_iter().find(|family| by(*family)) {
            Some(Family::Ipv6) => {
                matches!(here.v6, Some(SiteV6::Global(_))) && matches!(there.v6, Some(SiteV6::Global(_)))
            }
            Some(Family::Ipv4) => {
                // From behind a NAT as well, but not behind one that may be full.
                matches!(there.v4, Some(SiteV4::Global(_)))
                    && here.carrier.is_none()
                    && self.is_well(from)
                    && !nats(here).any(has_few_sessions)
            }
            None => false,
        };
        is_reached
            && is_open(here)
            && is_open(there)
            && trouble(scenario, began, Instant::ZERO + scenario.duration_limit) == Trouble::None
    }

    /// Whether two nodes can communicate after a move as well, with packets of the action's size.
    fn permits_after(&self, moved: Instant, action: &Action, pair: Pair, sent: &Action) -> bool {
        let mut later = self.clone();
        later.apply(moved, action);
        later.permits_all(pair, sent)
    }

    /// Whether access that had to end by `since` has ended. After a disturbance a node may still not know of it.
    pub(super) fn is_quiet(&self, at: Instant, since: Instant) -> bool {
        since <= at && (self.last + EXPULSION <= since || self.last + HEALING <= at)
    }

    /// Whether two nodes must not communicate any more.
    pub(super) fn is_shut_out(&self, at: Instant, pair: Pair) -> bool {
        let quiet = |since: Instant| self.is_quiet(at, since);
        // The NMS notifies no node that has lost its own access.
        let told =
            |other: &usize| self.now.login == Login::Certificate && self.is_certified(*other) && self.hears_nms(*other);
        [(pair.from, pair.to), (pair.to, pair.from)].iter().any(|(node, other)| {
            let lost = self.revoked.get(node).into_iter().chain(self.lapsed.get(node)).any(|&since| quiet(since));
            let judged = self.now.method == Method::Proposed && self.lapsed.get(node).is_some_and(|&since| since <= at);
            lost && told(other) || judged
        })
    }

    /// Whether one of two nodes hears of a change of the access rules.
    pub(super) fn can_be_told(&self, pair: Pair) -> bool {
        let hears = |node: usize| self.started[node] && self.is_certified(node) && self.hears_nms(node);
        hears(pair.from) || hears(pair.to)
    }

    /// Whether a node's certificate is valid by every clock.
    fn is_certified(&self, node: usize) -> bool {
        let node = self.now.original(node);
        let lapsed = [&self.expired, &self.doubtful].iter().any(|without| without.contains(&node));
        !lapsed && !self.revoked.contains_key(&node)
    }

    /// Whether two nodes can communicate, with packets of the action's size.
    pub(super) fn permits_all(&self, pair: Pair, sent: &Action) -> bool {
        self.permits(pair) && (is_small(sent) || self.permits_large(pair))
    }

    /// Whether it is known which machines a demand is about. If two machines with the receiver's name and key run, both
    /// have to be able to answer. It is not known which of them is served, so nothing is demanded of what they send.
    pub(super) fn is_due(&self, pair: Pair, sent: &Action) -> bool {
        let mut twins = self.twins_of(pair.to);
        self.twins_of(pair.from).next().is_none() && twins.all(|to| self.permits_all(Pair { to, ..pair }, sent))
    }

    /// The other machines that run with a node's name and key.
    fn twins_of(&self, node: usize) -> impl Iterator<Item = usize> {
        let original = self.now.original(node);
        let is_one = move |&other: &usize| other != node && self.started[other] && self.now.original(other) == original;
        (0..self.now.nodes.len()).filter(is_one)
    }

    fn link_mut(&mut self, at: LinkAt) -> &mut Link {
        match at {
            LinkAt::Site(site) => &mut self.now.sites[site].link,
            LinkAt::Carrier(carrier) => &mut self.now.carriers[carrier].link,
            LinkAt::Service(ServiceName::As) => &mut self.now.services.auth.link,
            LinkAt::Service(ServiceName::Nms) => &mut self.now.services.nms.link,
            LinkAt::Service(ServiceName::Trs) => &mut self.now.services.trs.link,
        }
    }

    pub(super) fn permits(&self, pair: Pair) -> bool {
        let services = &self.now.services;
        let serves = [&services.auth, &services.nms, &services.trs].into_iter().all(|service| is_good(&service.link));
        let is_up = !self.down.iter().any(|at| matches!(at, LinkAt::Service(_)));
        serves
            && is_up
            && self.access.lets_meet(pair)
            && !self.is_full
            && self.bad_paths.is_empty()
            && [pair.from, pair.to]
                .into_iter()
                .all(|node| self.started[node] && self.is_certified(node) && self.is_well(node))
            && match self.now.policy {
                Policy::Optimal => true,
                Policy::Paper => self.paper_permits(pair.from, pair.to),
            }
    }

    /// Whether large packets can go between two nodes. The conventional method has no path MTU discovery. It relies on
    /// the network to fragment, and on NATs to let fragments through. Where a link is narrow it relies on ICMP errors,
    /// each of which costs a packet whenever the path changes.
    fn permits_large(&self, pair: Pair) -> bool {
        let wide = self.now.tun_mtu + AROUND;
        let is_wide = |link: &Link| link.up.mtu.min(link.down.mtu) >= wide;
        let sites = self.now.sites.iter().map(|site| &site.link);
        let carriers = self.now.carriers.iter().map(|carrier| &carrier.link);
        let is_wide = is_wide(&self.now.services.trs.link) && sites.chain(carriers).all(is_wide);
        self.now.method == Method::Proposed
            || is_wide
                && [pair.from, pair.to].into_iter().all(|node| {
                    self.now.nodes[node].interfaces.iter().all(|place| {
                        let site = &self.now.sites[place.site];
                        let carrier = site.carrier.map(|carrier| &self.now.carriers[carrier].nat);
                        nats(site).chain(carrier).all(carries_large)
                    })
                })
    }

    /// Whether the optimal policy must find a direct way for two nodes. Four things keep it from finding one:
    ///
    /// * It cannot observe that two homes share a carrier's NAT with several addresses.
    /// * It cannot observe what inspection refuses.
    /// * A NAT with several addresses may look endpoint-independent by chance.
    /// * A NAT that sends replies by the mapping of the request does so only towards addresses to which its nodes have
    ///   not sent before. So a failed attempt before the surveys were complete prevents a later one that would succeed.
    fn has_direct_way(&self, pair: Pair) -> bool {
        let (Some(a), Some(b)) = (self.plain(pair.from), self.plain(pair.to)) else { return false };
        let is_spoiled = |end: End| nats(&self.now.sites[end.site]).any(|nat| nat.reuses_inbound);
        let may_guess = !is_spoiled(a) && !is_spoiled(b);
        self.now.policy == Policy::Optimal && may_guess && oracle::judge(&self.now, a, b).is_direct()
    }

    pub(super) fn plain(&self, node: usize) -> Option<End> {
        let [place] = &self.now.nodes[node].interfaces[..] else { return None };
        let site = &self.now.sites[place.site];
        let has_pool = nats(site).any(|nat| !nat.more_outside.is_empty());
        let inspects = site.firewall.iter().any(|wall| !wall.inspect.is_empty());
        let is_small = self.nats_before(place.site).any(has_few_sessions);
        let is_plain = site.carrier.is_none() && site.broken.is_none() && !has_pool && !inspects && !is_small;
        (is_plain && self.is_well(node)).then_some(End { node, site: place.site })
    }

    /// Whether a node can register over good links in each of its sites.
    pub(super) fn is_well(&self, node: usize) -> bool {
        !self.now.nodes[node].interfaces.is_empty()
            && self.now.nodes[node].interfaces.iter().all(|place| {
                let site = &self.now.sites[place.site];
                let here = End { node, site: place.site };
                let signals = self.signals_by_udp(here);
                let is_shared = self.is_shared(place.site);
                let several_search = self.now.policy == Policy::Optimal && self.ever.len() > 2;
                let is_fickle = self.nats_before(place.site).any(|nat| is_fickle(nat, is_shared, several_search));
                // One node with one peer, to which nothing has happened, gets by with few sessions. Where UDP does not
                // reach the services, attempts by UDP take some of them, too.
                let gets_by = self.is_untouched && self.ever.len() == 2 && !is_shared && signals;
                let is_fickle = is_fickle || !gets_by && self.nats_before(place.site).any(has_few_sessions);
                let reads_names = site.firewall.iter().flat_map(|wall| &wall.inspect).any(|rule| match &rule.what {
                    Trait::ServerName(_) => true,
                    Trait::Quic | Trait::Version(_) | Trait::Alpn(_) => false,
                });
                // TCP may have to go through the proxy.
                let proxy = self.now.services.proxy.as_ref().filter(|_| self.now.nodes[node].proxy);
                let by_tcp = oracle::can_register(&self.now, here) && proxy.is_none_or(|proxy| is_good(&proxy.link));
                // A node that goes by TCP alone gives its own name, or asks the proxy, which is no TLS.
                let is_seen = reads_names && signals;
                (signals || by_tcp) && !is_fickle && !is_seen && self.is_online(place.site)
            })
    }

    /// Whether UDP reaches the services from one of a node's networks.
    fn signals_by_udp(&self, here: End) -> bool {
        oracle::judge(&self.now, here, here).attempts.iter().all(|a| a.result != Err(Obstacle::NoSignaling))
    }

    /// Whether UDP reaches the services from some, but not from all, of a node's networks.
    pub(super) fn has_udp_in_part(&self, node: usize) -> bool {
        let signals = |place: &Interface| self.signals_by_udp(End { node, site: place.site });
        let places = &self.now.nodes[node].interfaces;
        places.iter().any(signals) && !places.iter().all(signals)
    }

    /// Whether one of two nodes is behind a NAT with room for few sessions.
    fn is_tight(&self, pair: Pair) -> bool {
        let places = [pair.from, pair.to].into_iter().flat_map(|node| &self.now.nodes[node].interfaces);
        places.into_iter().any(|place| self.nats_before(place.site).any(has_few_sessions))
    }

    /// Whether a node can hear the NMS over good links, through firewalls as they are now.
    pub(super) fn hears_nms(&self, node: usize) -> bool {
        let places = &self.now.nodes[node].interfaces;
        let is_up = !self.down.contains(&LinkAt::Service(ServiceName::Nms)) && is_good(&self.now.services.nms.link);
        // What the NMS sends to a node may arrive at another one.
        let is_told_apart = |site| !self.nats_before(site).any(|nat| confuses_nodes(nat.ports, self.is_shared(site)));
        is_up
            && !places.is_empty()
            && places.iter().all(|place| {
                let gets_out = oracle::can_register(&self.now, End { node, site: place.site });
                gets_out && self.is_online(place.site) && is_told_apart(place.site)
            })
    }

    /// Every NAT between a site and the core.
    fn nats_before(&self, site: usize) -> impl Iterator<Item = &Nat> {
        let site = &self.now.sites[site];
        nats(site).chain(site.carrier.map(|carrier| &self.now.carriers[carrier].nat))
    }

    /// Whether several nodes are ever behind the NATs of a site.
    fn is_shared(&self, site: usize) -> bool {
        self.ever.iter().filter(|sites| sites.iter().any(|&other| self.meet(site, other))).count() > 1
    }

    /// Whether a site's way to the core is up and good.
    fn is_online(&self, site: usize) -> bool {
        let carrier = self.now.sites[site].carrier;
        let is_down = self.down.iter().any(|at| match *at {
            LinkAt::Site(down) => down == site,
            LinkAt::Carrier(down) => carrier == Some(down),
            LinkAt::Service(_) => false,
        });
        let links = [Some(&self.now.sites[site].link), carrier.map(|carrier| &self.now.carriers[carrier].link)];
        !is_down && links.into_iter().flatten().all(is_good)
    }

    /// Whether several nodes compete for one port of a site's NATs.
    pub(super) fn has_contested_port(&self, site: usize) -> bool {
        let visitors = self.ever.iter().filter(|sites| sites.contains(&site)).count();
        visitors > 1 && nats(&self.now.sites[site]).any(|nat| contests_ports(nat.ports))
    }

    /// Whether two sites share a NAT or are the same.
    fn meet(&self, a: usize, b: usize) -> bool {
        let carrier = self.now.sites[a].carrier;
        a == b || carrier.is_some() && carrier == self.now.sites[b].carrier
    }

    /// Whether Table 1 chooses a path that is not blocked, for both initiators.
    fn paper_permits(&self, a: usize, b: usize) -> bool {
        let ([from], [to]) = (&self.now.nodes[a].interfaces[..], &self.now.nodes[b].interfaces[..]) else {
            return false;
        };
        let (Some(from_rows), Some(to_rows)) = (self.rows(from.site), self.rows(to.site)) else { return false };
        let verdict = oracle::judge(&self.now, End { node: a, site: from.site }, End { node: b, site: to.site });
        let opens = |dialer: usize, family: Family| {
            let mut ways = verdict.attempts.iter().filter(|way| way.dialer == dialer);
            ways.any(|way| [Medium::Lan, Medium::Core(family)].contains(&way.medium) && way.result == Ok(Success::Open))
        };
        let both = |family| opens(a, family) && opens(b, family);
        // A fault may have made a node register over IPv4. Its firewall then drops the NMS's challenge to its IPv6
        // address, which Table 1 chooses all the same.
        let is_told = |place: &Interface| {
            let site = &self.now.sites[place.site];
            site.firewall.is_none() || site.v4.is_none() || self.last == Instant::ZERO
        };
        match (from_rows, to_rows) {
            ((true, _), (true, _)) => is_told(from) && is_told(to) && both(Family::Ipv6),
            ((_, Some(V4::Global)), (_, Some(V4::Global))) => both(Family::Ipv4),
            ((_, Some(V4::Private)), (_, Some(V4::Global))) => opens(a, Family::Ipv4),
            ((_, Some(V4::Global)), (_, Some(V4::Private))) => opens(b, Family::Ipv4),
            _ => true,
        }
    }

    /// The locations of a site's nodes in Table 1: IPv6, and the kind of IPv4; `None` if Table 1 has no row for them.
    fn rows(&self, site: usize) -> Option<(bool, Option<V4>)> {
        let site = &self.now.sites[site];
        let plain = site.broken.is_none() && site.nat64.is_none() && matches!(site.v6, None | Some(SiteV6::Global(_)));
        let v4 = site.v4.as_ref().map(|v4| match v4 {
            SiteV4::Global(_) => V4::Global,
            SiteV4::Private { .. } => V4::Private,
        });
        plain.then_some((site.v6.is_some(), v4))
    }
}

/// The kinds of IPv4 of Table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum V4 {
    Global,
    Private,
}
