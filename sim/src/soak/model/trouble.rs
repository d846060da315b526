//! The events of a network that may affect a row of packets.

use std::time::Duration;

use cyphonic_core::time::Instant;
use cyphonic_scenarios::{
    Action, Firewall, HostClock, Link, Pair, Probes, Reaction, Role, Scenario, ServiceName, Site,
};

use super::links::is_good;
use super::nats::{ends_mappings, nats};
use super::{BLIP, PAUSE, may_meet};

/// The longest time from a request for a tunnel until the tunnel is up: a fixed time, and a number of the network's
/// longest round trips. The slowest case is a relayed tunnel with its handshakes.
const TUNNEL_SET_UP: (Duration, u32) = (Duration::from_millis(1_500), 10);

/// The longest time for which an application resolves a peer's name.
pub(super) const RESOLVING: Duration = Duration::from_secs(60);

/// The longest duration of a transfer or a flow, on a slow link.
const TRANSFER: Duration = Duration::from_secs(60);

/// The time after a row of echoes in which signaling that its last echo started may still go on.
const AFTER: Duration = Duration::from_secs(10);

/// What has happened to a network so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// One [`BLIP`] or [`PAUSE`], and its end.
    Blip(Instant),
    /// One NAT forgot its mappings at this time.
    Reboot(Instant),
    /// One node moved at this time, by this action.
    Move(Instant, Action),
    /// One node was started anew at this time, by this action.
    Return(Instant, Action),
    /// One node's machine was suspended at this time, and woke up at that one.
    Sleep(Instant, Instant, HostClock),
    /// One service crashed, and started again at this time.
    Restart(Instant, ServiceName),
    /// More than one of these, or an event of another kind.
    Much,
}

/// What happens to a network until a time, in a run whose steps began at these times.
pub(super) fn trouble(scenario: &Scenario, began: &[Instant], until: Instant) -> Trouble {
    let services = &scenario.services;
    let links = [&services.auth, &services.nms, &services.trs].map(|service| &service.link);
    let sites = scenario.sites.iter().map(|site| &site.link);
    let mut links = links.into_iter().chain(sites).chain(scenario.carriers.iter().map(|carrier| &carrier.link));
    // Behind a NAT that ends a mapping on an ICMP error, path MTU discovery sometimes costs packets.
    let carriers = scenario.carriers.iter().map(|carrier| &carrier.nat);
    if scenario.sites.iter().flat_map(nats).chain(carriers).any(|nat| ends_mappings(nat.icmp_errors)) {
        return Trouble::Much;
    }
    if slows_down(scenario) {
        return Trouble::Much;
    }
    let doubles = |link: &Link| [&link.up, &link.down].iter().any(|way| way.duplicate > 0.0);
    if !links.all(|link| is_good(link) && !doubles(link)) {
        return Trouble::Much;
    }
    let mut trouble = Trouble::None;
    let mut down = None;
    for (&at, step) in began.iter().zip(&scenario.steps).filter(|(at, _)| **at < until) {
        match &step.action {
            Action::Start { nodes, .. } if nodes.iter().all(|node| scenario.nodes[*node].copy_of.is_none()) => {}
            action if disturbs_nobody(action) => {}
            // A clock step must not affect packets, and neither must a certificate that is renewed in time.
            Action::Clock { .. } | Action::RenewRunning(_) => {}
            Action::Pause { lasts, .. } if trouble == Trouble::None && *lasts <= PAUSE => {
                trouble = Trouble::Blip(at + *lasts);
            }
            Action::Suspend { role: Role::Node(_), lasts, clock } if trouble == Trouble::None => {
                trouble = Trouble::Sleep(at, at + *lasts, *clock);
            }
            Action::NatReboot(_) | Action::Rebind { .. } if trouble == Trouble::None => trouble = Trouble::Reboot(at),
            Action::Move { .. } | Action::Attach { .. } | Action::Detach { .. } if trouble == Trouble::None => {
                trouble = Trouble::Move(at, step.action.clone());
            }
            Action::Restart(Role::Service(service)) | Action::RestartInOrder(Role::Service(service))
                if trouble == Trouble::None =>
            {
                trouble = Trouble::Restart(at, *service);
            }
            Action::Restart(Role::Node(_)) | Action::RestartInOrder(Role::Node(_)) if trouble == Trouble::None => {
                trouble = Trouble::Return(at, step.action.clone());
            }
            Action::LinkUp { at: link, up: false } if trouble == Trouble::None => {
                down = Some((*link, at));
                trouble = Trouble::Much;
            }
            Action::LinkUp { at: link, up: true } => match down.take() {
                Some((place, since)) if place == *link && at <= since + BLIP => trouble = Trouble::Blip(at),
                _ => return Trouble::Much,
            },
            _ => return Trouble::Much,
        }
    }
    trouble
}

/// The duration of a row that begins at `at`, and what happens to the network until the row is over.
pub(super) fn row(scenario: &Scenario, began: &[Instant], at: Instant, probes: &Probes) -> (Duration, Trouble) {
    let lasts = probes.lasts();
    (lasts, trouble(scenario, began, at + lasts + AFTER))
}

/// Whether one of two nodes gets a new certificate while echoes between them are under way or wait for the peer's name
/// to resolve.
pub(super) fn is_readmitted(scenario: &Scenario, began: &[Instant], at: Instant, probes: &Probes) -> bool {
    let ends = at + probes.lasts() + RESOLVING;
    let mut during = began.iter().zip(&scenario.steps).filter(|(renewed, _)| at <= **renewed && **renewed < ends);
    let pair = [probes.pair.from, probes.pair.to];
    during.any(
        |(_, step)| matches!(step.action, Action::Renew(node) | Action::RenewRunning(node) if pair.contains(&node)),
    )
}

/// Whether two nodes asked for each other so early that they have a tunnel at the time `by`. During trouble, finding a
/// peer may take longer than applications wait.
pub(super) fn has_met(scenario: &Scenario, began: &[Instant], pair: Pair, by: Instant) -> bool {
    let longest = tunnel_set_up(scenario);
    let mut asked = began.iter().zip(&scenario.steps).filter(|(at, _)| **at + longest <= by);
    asked.any(|(at, step)| match &step.action {
        Action::Echo(Probes { pair: other, .. })
        | Action::Udp(Probes { pair: other, .. })
        | Action::Tcp { pair: other, .. } => {
            [(pair.from, pair.to), (pair.to, pair.from)].contains(&(other.from, other.to))
                && may_meet(scenario, began, *at, [pair.from, pair.to].map(|node| scenario.shown_name(node)))
        }
        _ => false,
    })
}

/// The longest time until a tunnel is up in this network, by [`TUNNEL_SET_UP`].
pub(super) fn tunnel_set_up(scenario: &Scenario) -> Duration {
    let one_way = |link: &Link| link.up.delay.max(link.down.delay);
    let services = &scenario.services;
    let services = [&services.auth, &services.nms, &services.trs].into_iter().map(|service| one_way(&service.link));
    let carrier =
        |site: &Site| site.carrier.map_or(Duration::ZERO, |carrier| one_way(&scenario.carriers[carrier].link));
    let sites = scenario.sites.iter().map(|site| one_way(&site.link) + carrier(site));
    let longest = services.max().unwrap_or_default() + sites.max().unwrap_or_default();
    TUNNEL_SET_UP.0 + 2 * longest * TUNNEL_SET_UP.1
}

/// Whether a firewall ever throttles conversations. A throttled conversation loses packets of a burst.
pub(super) fn slows_down(scenario: &Scenario) -> bool {
    let later = scenario.steps.iter().filter_map(|step| match &step.action {
        Action::Firewall { firewall, .. } => Some(&**firewall),
        _ => None,
    });
    let mut walls = scenario.sites.iter().filter_map(|site| site.firewall.as_ref()).chain(later);
    walls.any(|wall| {
        // The oracle judges what a firewall refuses.
        let Firewall { stateful: _, egress: _, refusal: _, inspect } = wall;
        inspect.iter().any(|rule| match rule.reaction {
            Reaction::Throttle => true,
            Reaction::Drop | Reaction::Reject | Reaction::Reset => false,
        })
    })
}

/// Whether a transfer or a flow may be under way at the same time as a row of echoes.
pub(super) fn is_crowded(scenario: &Scenario, began: &[Instant], at: Instant, probes: &Probes) -> bool {
    let ends = at + probes.lasts() + AFTER;
    let mut during = began.iter().zip(&scenario.steps).filter(|(began, _)| at <= **began + TRANSFER && **began < ends);
    during.any(|(_, step)| matches!(step.action, Action::Tcp { .. } | Action::BareTcp { .. } | Action::Udp(_)))
}

/// Whether an action is not an event of the network.
pub(super) fn disturbs_nobody(action: &Action) -> bool {
    let is_traffic = matches!(action, Action::Echo(_) | Action::Udp(_) | Action::Tcp { .. } | Action::BareTcp { .. });
    is_traffic || matches!(action, Action::Wait(_) | Action::Idle | Action::Rules(_))
}
