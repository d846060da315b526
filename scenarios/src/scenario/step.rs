//! The steps of a scenario.

use std::time::Duration;

use cyphonic_core::rules::Rules;
use cyphonic_core::time::Instant;

#[cfg(doc)]
use super::Scenario;
use super::{Firewall, Interface, Link, Way};
use crate::words::{Family, HostClock, ServiceName, Towards};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The earliest time at which it starts; if none, it starts once the step before it is complete.
    pub at: Option<Instant>,
    /// The greatest random delay of its start, in whole milliseconds: see [`Self::starts`].
    pub spread: Duration,
    /// What happens.
    pub action: Action,
    /// The same for people, in the words of the file: `echo count 3 from a to b`.
    pub words: String,
}

impl Step {
    /// When it starts in a run of that seed; `index` is its own, from 0. The delay after [`Self::at`] is uniform over
    /// whole milliseconds from 0 to [`Self::spread`], and drawn from seed and index alone. So runs of one seed are
    /// disturbed at the same moment in all cells of a sweep, and can be compared in pairs.
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

/// The action of a step. Nodes are indices into [`Scenario::nodes`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nodes log in and register; complete when all are registered, or after `give_up`.
    Start {
        /// The nodes.
        nodes: Vec<usize>,
        /// It is complete after this time, even if some nodes are not registered.
        give_up: Option<Duration>,
    },
    /// ICMP echoes through the virtual interface; complete when the last was answered or given up.
    Echo(Probes),
    /// One TCP transfer with a checked hash; complete when it ended, well or not.
    Tcp {
        /// The two nodes.
        pair: Pair,
        /// The number of bytes.
        bytes: u64,
        /// The sender writes no faster than this, bits per second. `None`: as fast as TCP takes it.
        rate_bps: Option<u64>,
    },
    /// One TCP transfer between the nodes' own addresses, without a tunnel; complete when it ended. The nodes need not
    /// be started.
    BareTcp {
        /// The node that sends.
        from: usize,
        /// The node that receives.
        to: usize,
        /// The family of their addresses. `None`: the first one that both have, IPv6 before IPv4.
        family: Option<Family>,
        /// The number of bytes.
        bytes: u64,
        /// The sender writes no faster than this, bits per second. `None`: as fast as TCP takes it.
        rate_bps: Option<u64>,
    },
    /// UDP datagrams, one way; complete when the last was sent.
    Udp(Probes),
    /// A node leaves all its networks for another one; complete at once.
    Move {
        /// The node.
        node: usize,
        /// Its new place.
        to: Interface,
    },
    /// Complete after this long.
    Wait(Duration),
    /// Finds the largest inner packet that is carried in one outer packet, even above `tun_mtu`.
    ProbeMtu(Pair),
    /// No application traffic until the duration limit.
    Idle,
    /// NATs lose all their mappings; complete at once, like all actions below.
    NatReboot(NatAt),
    /// A site's firewall gets other settings, which apply to conversations under way too.
    Firewall {
        /// Index into [`Scenario::sites`]; it has a firewall.
        site: usize,
        /// Its new settings.
        firewall: Box<Firewall>,
    },
    /// A link gets other settings.
    Link {
        /// Which.
        at: LinkAt,
        /// Its new settings.
        link: Box<Link>,
    },
    /// A node gets an interface in one more network, and keeps those that it has.
    Attach {
        /// The node: index into [`Scenario::nodes`].
        node: usize,
        /// The additional interface.
        to: Interface,
    },
    /// A node loses its interface in one network; it may be the last one.
    Detach {
        /// The node: index into [`Scenario::nodes`].
        node: usize,
        /// The site that it leaves: index into [`Scenario::sites`].
        site: usize,
    },
    /// The NATs in front of a node give its UDP sockets other outer ports.
    Rebind {
        /// The node whose mappings are forgotten: index into [`Scenario::nodes`].
        node: usize,
        /// Only mappings towards this far end; `None`: all.
        to: Option<Far>,
    },
    /// The path between a site and one far end gets settings in addition to the site's access link.
    Path {
        /// The site with the access link: index into [`Scenario::sites`].
        site: usize,
        /// The other end; never the site itself.
        far: Far,
        /// In which directions of the link.
        towards: Towards,
        /// Only packets of this family; `None`: both.
        family: Option<Family>,
        /// The additional settings. `delay` is added to the link's; `mtu` and `black_hole` have no meaning.
        way: Box<Way>,
    },
    /// A link goes down or comes up again. Packets on the link arrive.
    LinkUp {
        /// Which.
        at: LinkAt,
        /// Whether it is up from now on.
        up: bool,
    },
    /// A role crashes and starts again with its memory lost; the services' database stays.
    Restart(Role),
    /// A node crashes and is gone until it is restarted: index into [`Scenario::nodes`].
    Stop(usize),
    /// As [`Self::Restart`], but with a graceful shutdown, which notifies all connected peers.
    RestartInOrder(Role),
    /// As [`Self::Stop`], but with a graceful shutdown, which notifies all connected peers.
    StopInOrder(usize),
    /// A node's certificate is revoked, and every role learns it at once: index into [`Scenario::nodes`].
    Revoke(usize),
    /// A node's certificate expires, because time passes on every clock: index into [`Scenario::nodes`].
    Expire(usize),
    /// A node starts again with a new certificate: index into [`Scenario::nodes`].
    Renew(usize),
    /// A node gets a new certificate for its key, and goes on running: index into [`Scenario::nodes`].
    RenewRunning(usize),
    /// A role's process is paused; its packets wait, as far as its buffer has room. Complete when it goes on.
    Pause {
        /// The node.
        role: Role,
        /// For how long.
        lasts: Duration,
    },
    /// A role's machine is suspended: it sends nothing, and packets to it are lost. Complete when it wakes up.
    Suspend {
        /// Whose.
        role: Role,
        /// For how long.
        lasts: Duration,
        /// The clock by which the role counts time.
        clock: HostClock,
    },
    /// A role's civil clock steps.
    Clock {
        /// Whose.
        role: Role,
        /// The step in seconds, forward or (negative) back.
        step_s: i32,
    },
    /// The disk with the database that AS and NMS share is full from now on, or has room again.
    DiskFull(bool),
    /// The NMS has other access rules from now on.
    Rules(Rules),
}

/// The place of NATs.
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

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A service.
    Service(ServiceName),
    /// A node: index into [`Scenario::nodes`].
    Node(usize),
}

/// Two nodes, and the direction of their traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The node that sends first.
    pub from: usize,
    /// The peer; never `from`.
    pub to: usize,
    /// Which of the peer's virtual addresses is used.
    pub family: Family,
}

/// A row of small packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// The two nodes.
    pub pair: Pair,
    /// The number of packets; at least one.
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
