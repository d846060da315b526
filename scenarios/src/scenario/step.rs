//! What happens in a scenario, and when.

use std::time::Duration;

use cyphonic_core::time::Instant;

#[cfg(doc)]
use super::Scenario;
use super::{Firewall, Interface, Link, Way};
use crate::words::{Family, ServiceName, Towards};

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The earliest time at which it starts; if none, it starts once the step before it is complete.
    pub at: Option<Instant>,
    /// It starts up to so much later, in whole milliseconds: see [`Self::starts`].
    pub spread: Duration,
    /// What happens.
    pub action: Action,
}

impl Step {
    /// When it starts in a run of that seed; `index` is its own, from 0. The delay after [`Self::at`] is uniform over
    /// whole milliseconds from 0 to [`Self::spread`], and drawn from seed and index alone: whatever else a sweep
    /// varies, runs of one seed are disturbed at the same moment, so that they can be compared in pairs.
    pub fn starts(&self, seed: u64, index: usize) -> Option<Instant> {
        let most = u64::try_from(self.spread.as_millis()).unwrap_or(u64::MAX);
        let drawn = mixed(mixed(seed) ^ index as u64) % most.saturating_add(1);
        self.at.map(|at| at + Duration::from_millis(drawn))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the result depends on every bit of `x`.
const fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What happens in a step. Nodes are indices into [`Scenario::nodes`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nodes log in and register; complete once all have, or some gave up.
    Start {
        /// Which ones.
        nodes: Vec<usize>,
        /// After so long it is complete, whoever is registered.
        give_up: Option<Duration>,
    },
    /// ICMP echoes through the virtual interface; complete when the last was answered or given up.
    Echo(Probes),
    /// One TCP transfer with a checked hash; complete when it ended, well or not.
    Tcp {
        /// Between whom.
        pair: Pair,
        /// How much, bytes.
        bytes: u64,
    },
    /// UDP datagrams, one way; complete when the last was sent.
    Udp(Probes),
    /// A node leaves every network it is in and appears in another; complete at once.
    Move {
        /// Who.
        node: usize,
        /// Its new place.
        to: Interface,
    },
    /// Complete after this long.
    Wait(Duration),
    /// Finds the largest inner packet that crosses in one outer packet, whatever `tun_mtu` allows.
    ProbeMtu(Pair),
    /// No application traffic until the duration limit.
    Idle,
    /// NATs lose all their mappings; complete at once, as all that follow.
    NatReboot(NatAt),
    /// A site's firewall behaves otherwise from now on, also towards conversations that are under way.
    Firewall {
        /// Index into [`Scenario::sites`]; it has a firewall.
        site: usize,
        /// What it is from now on.
        firewall: Box<Firewall>,
    },
    /// A link behaves otherwise from now on.
    Link {
        /// Which.
        at: LinkAt,
        /// What it is from now on.
        link: Box<Link>,
    },
    /// A node gets an interface in one more network, and keeps those that it has.
    Attach {
        /// Who: index into [`Scenario::nodes`].
        node: usize,
        /// Its further place; it is not there yet.
        to: Interface,
    },
    /// A node loses its interface in one network; it may be the last one.
    Detach {
        /// Who: index into [`Scenario::nodes`].
        node: usize,
        /// Where it is no more: index into [`Scenario::sites`].
        site: usize,
    },
    /// NATs in front of a node give its UDP other outer ports.
    Rebind {
        /// Whose mappings: index into [`Scenario::nodes`].
        node: usize,
        /// Only those by which it speaks to this far end.
        to: Option<Far>,
    },
    /// What goes between a site and one far end fares otherwise than what else is on the site's access link.
    Path {
        /// Whose access link: index into [`Scenario::sites`].
        site: usize,
        /// The other end; never the site itself.
        far: Far,
        /// In which directions of the link.
        towards: Towards,
        /// Only what goes by this family.
        family: Option<Family>,
        /// How, beside what the link does: `delay` is more delay, `mtu` and `black_hole` mean nothing.
        way: Box<Way>,
    },
    /// A link goes down or comes up again. Packets on the way arrive.
    LinkUp {
        /// Which.
        at: LinkAt,
        /// Whether it is up from now on.
        up: bool,
    },
    /// A role crashes and starts again with its memory lost; the services' database stays.
    Restart(Role),
    /// A node crashes and is away, until it is restarted: index into [`Scenario::nodes`].
    Stop(usize),
    /// As [`Self::Restart`], but in order: before it ends, it says so to all that it is connected with.
    RestartInOrder(Role),
    /// As [`Self::Stop`], but in order: before it is away, it says so to all that it is connected with.
    StopInOrder(usize),
    /// A node's certificate is taken back, and everybody learns it at once: index into [`Scenario::nodes`].
    Revoke(usize),
    /// A node's certificate comes to its end, for days pass on every clock: index into [`Scenario::nodes`].
    Expire(usize),
    /// A node starts again with a new certificate: index into [`Scenario::nodes`].
    Renew(usize),
    /// A role's process stands still; what comes for it waits, as far as there is room. Complete when it goes on.
    Pause {
        /// Who.
        role: Role,
        /// For how long.
        lasts: Duration,
    },
    /// A role's civil clock steps.
    Clock {
        /// Whose.
        role: Role,
        /// By so many seconds, ahead or back.
        step_s: i32,
    },
    /// The disk with the database that AS and NMS share is full from now on, or has room again.
    DiskFull(bool),
}

/// Where NATs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatAt {
    /// All of a site's: index into [`Scenario::sites`].
    Site(usize),
    /// A carrier's: index into [`Scenario::carriers`].
    Carrier(usize),
}

/// The other end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// A site: index into [`Scenario::sites`].
    Site(usize),
    /// A service.
    Service(ServiceName),
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkAt {
    /// The access link of a site: index into [`Scenario::sites`].
    Site(usize),
    /// A service's link to the core.
    Service(ServiceName),
    /// A carrier's link to the core: index into [`Scenario::carriers`].
    Carrier(usize),
}

/// Someone who has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A service.
    Service(ServiceName),
    /// A node: index into [`Scenario::nodes`].
    Node(usize),
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who begins.
    pub from: usize,
    /// Who answers; never `from`.
    pub to: usize,
    /// Which of the peer's virtual addresses is used.
    pub family: Family,
}

/// A row of small packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Between whom.
    pub pair: Pair,
    /// How many; at least one.
    pub count: u32,
    /// Time between two.
    pub interval: Duration,
    /// ICMP or UDP payload, bytes.
    pub payload_bytes: u16,
}

impl Probes {
    /// From the first to the last.
    pub fn lasts(&self) -> Duration {
        self.interval * (self.count - 1)
    }
}
