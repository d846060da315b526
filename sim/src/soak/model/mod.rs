//! The reference model: what a run must deliver. It is computed from the scenario alone, and far smaller than the
//! implementation.
//!
//! The model knows four things of every moment: which nodes have started, the sites of each node, the state of each
//! link and firewall, and the time of the last event. A *demand* is a packet or transfer that must arrive.
//!
//! **After trouble.** Two things are demanded of a network after its last event: the last echo of a row that takes
//! [`LASTING`] or more, and every byte of a TCP transfer. Both must begin [`HEALING`] or more after the last event, on
//! links that are up and lose nothing. By the [`oracle`] both nodes must be able to register. In addition:
//!
//! * Under the optimal policy they are always demanded, because there is a relay.
//! * Under the paper's policy they are demanded if Table 1 relays the two nodes, or chooses a path that no firewall or
//!   NAT blocks. The paper permits that Table 1 chooses a blocked path: then nothing is demanded. Nothing is demanded
//!   either if Table 1 has no row for the locations that the NMS sees: behind translators of IPv6, or with a broken
//!   family.
//!
//! **Before the first event.** As long as nothing has happened to a network without faults, more is demanded. A step of
//! a clock is no event.
//!
//! * Every small echo and UDP datagram of every row that begins [`BORN`] or more after the nodes started.
//! * The last echo of a row of large ones. Hosts know the path's MTU by then.
//! * Under the optimal policy a direct tunnel, if the oracle finds a path and nothing prevents the search for it.
//!
//! A node in two networks, of which one blocks UDP, may find the way of UDP later. Under `rebuild` and `migrate` it
//! then builds its tunnels anew. This happens once, and packets that are under way then may be lost.
//!
//! **During a single disturbance.** Echoes may be lost for no longer than the time below. A TCP transfer through a
//! tunnel that was up may lose nothing, even if it is under way: its bytes arrive late, but they arrive.
//!
//! | single disturbance | echoes may be lost for |
//! |---|---|
//! | a link is down for [`BLIP`], or a role is paused for [`PAUSE`] | [`PROMPT`] |
//! | a node moves, gets or loses an interface, or is started anew | [`MOVED`] |
//! | a NAT forgets its mappings or gives a node other ports, under the optimal policy | [`REBOOTED`] |
//! | a node's machine is suspended, by a clock that counts it | [`MOVED`] after it wakes up |
//! | the same, by a clock that stands still meanwhile | [`RESTORED`] after it wakes up |
//! | the AS or the TRS crashes and starts again | [`RESTORED`] |
//! | the AS or the NMS crashes, and a tunnel is up | not at all |
//!
//! **Silence** is demanded of two nodes after the certificate of one was revoked or has expired. It is demanded
//! [`EXPULSION`] later if nothing disturbed the network then or since, otherwise [`HEALING`] after the last fault. In
//! the proposed method it is demanded as soon as a certificate has expired, because each node checks the other's
//! certificate. Apart from that, three cases are exempt:
//!
//! * a node that logs in with a password, because the AS admits it again;
//! * two nodes that have both lost their access, because the NMS notifies neither;
//! * two nodes on one LAN without a path to the NMS, because the NMS cannot notify them.
//!
//! **Refusal.** Nothing may pass between two nodes that the access rules forbid to talk. If the rules have always
//! forbidden it, this holds at any time. After a change of the rules it holds from the same time on as silence, if one
//! of the two nodes hears the NMS. A change of the rules disturbs no other pair.
//!
//! **Without a tunnel.** A TCP transfer between two nodes' own addresses is complete if nothing ever happens to a
//! network without faults, the receiver's address is global, and neither node is behind a firewall.
//!
//! A node that gets a new certificate in time, and goes on running, disturbs nothing.
//!
//! **Two machines with one name and key.** The start of the second one is an event. As long as both run, the demands on
//! packets to their name are as above, if the network permits both machines to talk to the sender: one of the two
//! answers. Nothing is demanded of packets that they send, because it is not said which of them is served.
//!
//! **Exemptions.** The protocol cannot promise delivery everywhere (`core/PROTOCOL.md`, "Limits"):
//!
//! | exempt | not demanded | why |
//! |---|---|---|
//! | an impaired path from a site to one far end | everything | the relay may be that far end |
//! | conventional method, a NAT that drops fragments | large packets | the network has to fragment |
//! | a firewall that slows conversations down | all but the last echo, if it is alone | it loses packets |
//! | a NAT that forgets mappings at its own times | everything | no keep-alive holds its mappings |
//! | a NAT with room for few mappings, one node and one peer | a direct tunnel | earlier mappings fill its table |
//! | the same after an event, with several nodes or peers, or without UDP | everything | its table may be full |
//! | several nodes behind a NAT that overloads ports | everything | two nodes that use one service look the same |
//! | a NAT that ends a mapping on any ICMP error | everything | a search for a better path may end the path in use |
//! | three nodes, and a NAT that replies by the mapping of the request | everything | one attempt spoils the next |
//! | inspection for a name, where UDP reaches the services | everything | what was refused once stays refused |
//! | the paper's policy, IPv6 behind a firewall beside IPv4, after a fault | IPv6 | its address is never validated |

mod links;
mod moment;
mod nats;
mod rules;
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::Rules;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Family, Handover, Pair, Scenario};

use self::moment::Moment;
use self::rules::{Sent, Verdict};
use self::trouble::{Trouble, is_readmitted, row, trouble};
use crate::oracle::{self, Medium};

/// The time after the last fault by which every node must reach every other node. A silent connection is given up after
/// 30 s. The longest pause between two attempts is 30 s. If two services were lost one after the other, another 30 s
/// may pass.
pub const HEALING: Duration = Duration::from_secs(90);

/// The shortest row of echoes whose last echo is demanded. Packets under way may be lost while a tunnel comes up, or
/// while a better tunnel takes its place.
pub const LASTING: Duration = Duration::from_secs(10);

/// The time after their start by which nodes have registered and completed their surveys, without faults.
pub const BORN: Duration = Duration::from_secs(10);

/// The longest outage of a link after which no echoes may be lost for more than [`PROMPT`]. It is far below every
/// timer.
pub const BLIP: Duration = Duration::from_millis(100);
/// The longest pause of a role after which no echoes may be lost for more than [`PROMPT`]. It is below the shortest
/// time after which a peer counts as lost.
pub const PAUSE: Duration = Duration::from_secs(3);
/// How long echoes may be lost after a [`BLIP`] or [`PAUSE`]. Every lost message is retransmitted within two seconds.
pub const PROMPT: Duration = Duration::from_secs(6);

/// How long echoes may be lost after a single move or restart of a node. The node registers and rebuilds its tunnels.
pub const MOVED: Duration = Duration::from_secs(10);

/// How long echoes may be lost after a NAT has forgotten its mappings once. A direct tunnel is left for the relay after
/// five seconds of silence. A tunnel of the conventional method is given up after thirteen.
pub const REBOOTED: Duration = Duration::from_secs(20);

/// How long echoes may be lost after a service has crashed and started again once. A relayed tunnel of the conventional
/// method is given up after thirteen seconds of silence, and then built anew.
pub const RESTORED: Duration = Duration::from_secs(20);

/// The time by which a revocation has reached every node that can be reached.
pub const EXPULSION: Duration = Duration::from_secs(5);

/// The largest payload, in bytes, that fits every link of a scenario with all headers. The first larger packet may be
/// lost, because its sender learns the path's MTU from the loss.
const SMALL: u16 = 600;

/// A demand on a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The index of the step.
    pub step: usize,
    /// The two nodes.
    pub pair: Pair,
    /// The time since the last event.
    pub quiet: Duration,
    /// What is demanded.
    pub what: Wanted,
}

/// The kinds of demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The last of a row of echoes is answered.
    LastEcho,
    /// The last of a row of echoes is answered, and every one that was sent from this moment on.
    EchoesFrom(Instant),
    /// Every echo of a row is answered, because nothing ever happened to the network.
    EveryEcho {
        /// Whether a direct tunnel must carry them.
        is_direct: bool,
    },
    /// Every datagram of a flow arrives.
    EveryDatagram,
    /// A TCP transfer is complete.
    Transfer,
    /// Nothing is answered: the certificate of one of the two was revoked.
    Silence,
    /// Nothing arrives: the access rules forbid the two to talk.
    Refusal,
}

/// The demands on a run whose steps began at these times.
pub fn demands(scenario: &Scenario, began: &[Instant]) -> Vec<Demand> {
    let mut moment = Moment::new(scenario);
    let mut demands = Vec::new();
    for (step, (&at, action)) in began.iter().zip(scenario.steps.iter().map(|step| &step.action)).enumerate() {
        let wanted = match action {
            Action::Echo(probes) => moment.wanted_echo(scenario, began, at, probes).map(|what| (probes.pair, what)),
            Action::Udp(probes) => {
                let (_, trouble) = row(scenario, began, at, probes);
                let is_whole = trouble == Trouble::None && moment.is_born(at) && probes.payload_bytes <= SMALL;
                is_whole.then_some((probes.pair, Wanted::EveryDatagram))
            }
            Action::Tcp { pair, .. } => {
                moment.carries(scenario, began, step, *pair).then_some((*pair, Wanted::Transfer))
            }
            _ => None,
        };
        if let Some(sent) = Sent::of(scenario, action) {
            let pair = sent.pair;
            let is_calm = trouble(scenario, began, Instant::ZERO + scenario.duration_limit) == Trouble::None;
            let is_heard = |since| moment.is_quiet(at, since) && moment.can_be_told(pair);
            match moment.access.judge((scenario, began), at, sent, is_calm, is_heard) {
                Verdict::Allowed => {}
                Verdict::Refused => {
                    let quiet = at - moment.last.max(Instant::ZERO);
                    demands.push(Demand { step, pair, quiet, what: Wanted::Refusal });
                    moment.apply(at, action);
                    continue;
                }
                Verdict::Doubtful => {
                    moment.apply(at, action);
                    continue;
                }
            }
        }
        if let Action::BareTcp { from, to, .. } = *action {
            if moment.carries_bare(scenario, began, step) {
                let pair = Pair { from, to, family: Family::Ipv6 };
                demands.push(Demand { step, pair, quiet: at - moment.last, what: Wanted::Transfer });
            }
            continue;
        }
        let silence = match action {
            Action::Echo(probes)
                if moment.is_shut_out(at, probes.pair) && !is_readmitted(scenario, began, at, probes) =>
            {
                Some((probes.pair, Wanted::Silence))
            }
            _ => None,
        };
        let is_due = |(pair, _): &(Pair, Wanted)| moment.permits_all(*pair, action) && moment.is_due(*pair, action);
        if let Some((pair, what)) = wanted.filter(is_due).or(silence) {
            let quiet = at - moment.last.max(Instant::ZERO);
            demands.push(Demand { step, pair, quiet, what });
        }
        moment.apply(at, action);
    }
    demands
}

/// For a run in which nothing happens: whether each node stays registered and keeps its tunnels. `None` for other runs.
pub fn undisturbed(scenario: &Scenario, began: &[Instant]) -> Option<Vec<bool>> {
    let moment = Moment::new(scenario);
    let ends = Instant::ZERO + scenario.duration_limit;
    let is_calm = trouble(scenario, began, ends) == Trouble::None;
    is_calm.then(|| (0..scenario.nodes.len()).map(|node| moment.is_well(node)).collect())
}

/// Whether each node is ever in several networks, may find out there that UDP gets out of another one than the one in
/// use, and builds its tunnels anew then.
pub fn finds_udp_later(scenario: &Scenario) -> Vec<bool> {
    let mut moment = Moment::new(scenario);
    let mut finds = vec![false; scenario.nodes.len()];
    let mut note = |moment: &Moment| {
        for (node, finds) in finds.iter_mut().enumerate() {
            *finds |= scenario.handover != Handover::Seamless && moment.has_udp_in_part(node);
        }
    };
    note(&moment);
    for step in &scenario.steps {
        moment.apply(Instant::ZERO, &step.action);
        note(&moment);
    }
    finds
}

/// Whether echoes from one node to another are answered after the last step, and after an attack. An attack is an
/// event: a node that it restarts leaves sessions of its earlier life in its NAT.
pub fn permits_at_last(scenario: &Scenario, pair: Pair) -> bool {
    let mut moment = Moment::new(scenario);
    scenario.steps.iter().for_each(|step| moment.apply(Instant::ZERO, &step.action));
    moment.is_untouched = false;
    moment.permits(pair) && moment.access.allows(Sent::echo(pair))
}

/// Whether the access rules let two nodes talk, at a time of a run whose steps began at these times.
pub fn may_meet(scenario: &Scenario, began: &[Instant], at: Instant, names: [&Fqdn; 2]) -> bool {
    let [a, b] = names;
    let by = |rules: &Rules| rules.may_meet(&rules.roles(a), &rules.roles(b));
    let changes = began.iter().zip(&scenario.steps).filter_map(|(began, step)| match &step.action {
        Action::Rules(rules) => Some((*began, rules)),
        _ => None,
    });
    let (before, now): (Vec<_>, Vec<_>) = changes.filter(|(began, _)| *began <= at).partition(|(began, _)| *began < at);
    // A packet of the same moment as a change may have been sent before it.
    let last = before.last().map_or(&scenario.rules, |(_, rules)| rules);
    by(last) || now.iter().any(|(_, rules)| by(rules))
}

/// Whether a node can hear the NMS over good links after the last step.
pub fn hears_at_last(scenario: &Scenario, node: usize) -> bool {
    let mut moment = Moment::new(scenario);
    scenario.steps.iter().for_each(|step| moment.apply(Instant::ZERO, &step.action));
    moment.hears_nms(node)
}

/// Whether each direct way between two nodes works, by the oracle, keyed by dialer and family. `None` if the optimal
/// policy cannot observe what the oracle knows, or if nothing is certain: behind a NAT that preserves ports, the first
/// of several nodes keeps its port, and it is not known which node is first.
pub fn ways(scenario: &Scenario, pair: Pair) -> Option<BTreeMap<(usize, Family), bool>> {
    let moment = Moment::new(scenario);
    let (a, b) = (moment.plain(pair.from)?, moment.plain(pair.to)?);
    if a.site == b.site || moment.has_contested_port(a.site) || moment.has_contested_port(b.site) {
        return None;
    }
    let attempts = oracle::judge(scenario, a, b).attempts.into_iter();
    let across = attempts.filter_map(|attempt| match attempt.medium {
        Medium::Core(family) => Some(((attempt.dialer, family), attempt.result.is_ok())),
        Medium::Lan => None,
    });
    Some(across.collect())
}
