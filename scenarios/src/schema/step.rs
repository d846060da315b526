//! Steps as they are written: one struct for each `do`.

use serde::Deserialize;

use super::{AccessRules, BurstLoss, Firewall, Link, Outages, Way};
use crate::words::{Family, HostClock, Over, ServiceName, Towards};

/// A `[[step]]` with its `do` and its [`Timing`] taken out.
#[derive(Debug)]
pub(crate) enum Action {
    /// `do = "start"`.
    Start(Start),
    /// `do = "echo"`.
    Echo(Probes),
    /// `do = "tcp"`.
    Tcp(Tcp),
    /// `do = "udp"`.
    Udp(Probes),
    /// `do = "move"`.
    Move(Move),
    /// `do = "wait"`.
    Wait(Wait),
    /// `do = "probe_mtu"`.
    ProbeMtu(ProbeMtu),
    /// `do = "idle"`.
    Idle,
    /// `do = "nat_reboot"`.
    NatReboot(Where),
    /// `do = "firewall"`: whose, whether `off`, and otherwise what it is from now on.
    Firewall(Where, bool, Firewall),
    /// `do = "link"`: which, and what it is from now on.
    Link(Where, Box<Link>),
    /// `do = "attach"`.
    Attach(Move),
    /// `do = "detach"`.
    Detach(Detach),
    /// `do = "rebind"`.
    Rebind(Rebind),
    /// `do = "path"`.
    Path(Box<Path>),
    /// `do = "link_down"`.
    LinkDown(Where),
    /// `do = "link_up"`.
    LinkUp(Where),
    /// `do = "restart"`.
    Restart(Restart),
    /// `do = "stop"`.
    Stop(Stop),
    /// `do = "revoke"`.
    Revoke(OfNode),
    /// `do = "expire"`.
    Expire(OfNode),
    /// `do = "renew"`.
    Renew(Renew),
    /// `do = "pause"`.
    Pause(Pause),
    /// `do = "suspend"`.
    Suspend(Suspend),
    /// `do = "clock"`.
    Clock(Clock),
    /// `do = "disk_full"`.
    DiskFull,
    /// `do = "disk_free"`.
    DiskFree,
    /// `do = "rules"`.
    Rules(AccessRules),
}

/// Which link or box of the network a step is about: one of these. They are taken out of the step before its other keys
/// are read.
#[derive(Debug, Default)]
pub(crate) struct Where {
    /// A site.
    pub(crate) site: Option<String>,
    /// "as", "nms" or "trs".
    pub(crate) service: Option<ServiceName>,
    /// A carrier.
    pub(crate) carrier: Option<String>,
}

/// When a step happens, and whether. These keys are taken out of the step before its other keys are read.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Milliseconds of the run. Default: when the step before it is complete.
    pub(crate) at_ms: Option<u64>,
    /// Up to so many milliseconds later, drawn from the seed; only with `at_ms`. Default 0.
    pub(crate) spread_ms: Option<u64>,
    /// Nothing happens instead, at the same time. Default false.
    pub(crate) skip: bool,
    /// The step's `do` and its other keys, for people.
    pub(crate) words: String,
}

/// Every value of a step's `do`.
pub(crate) const ACTIONS: &[&str] = &[
    "start",
    "echo",
    "tcp",
    "udp",
    "move",
    "attach",
    "detach",
    "wait",
    "probe_mtu",
    "idle",
    "nat_reboot",
    "rebind",
    "firewall",
    "link",
    "path",
    "link_down",
    "link_up",
    "restart",
    "stop",
    "revoke",
    "expire",
    "renew",
    "pause",
    "suspend",
    "clock",
    "disk_full",
    "disk_free",
    "rules",
];

/// Nodes log in and register.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// Which ones. Default: all.
    pub(crate) nodes: Option<Vec<String>>,
    /// After this many seconds the step is complete, even if some nodes are not registered. Default: never.
    pub(crate) give_up_s: Option<u64>,
}

/// ICMP echoes through the virtual interface, or UDP datagrams one way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probes {
    /// The node that sends.
    pub(crate) from: String,
    /// The node that receives, and answers an echo.
    pub(crate) to: String,
    /// How many. Default 1.
    pub(crate) count: Option<u32>,
    /// Time between two, milliseconds. Default 1000.
    pub(crate) interval_ms: Option<f64>,
    /// Payload of ICMP or UDP, bytes. Default 56.
    pub(crate) payload_bytes: Option<u32>,
    /// "ipv6" (default) or "ipv4".
    pub(crate) family: Option<Family>,
}

/// One TCP transfer with a checked hash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tcp {
    /// The node that connects and sends.
    pub(crate) from: String,
    /// The node that listens.
    pub(crate) to: String,
    /// How much, bytes.
    pub(crate) bytes: u64,
    /// "ipv6" (default) or "ipv4".
    pub(crate) family: Option<Family>,
    /// The sender writes no faster than this, Mbit/s. Default: as fast as TCP takes it.
    pub(crate) rate_mbps: Option<f64>,
    /// "tunnel" (default) or "underlay".
    pub(crate) over: Option<Over>,
}

/// A node leaves its network for another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    /// The node.
    pub(crate) node: String,
    /// The site where it goes.
    pub(crate) to: String,
}

/// A node loses an interface.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Detach {
    /// The node.
    pub(crate) node: String,
    /// The site that it leaves.
    pub(crate) from: String,
}

/// NATs give a node other ports.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebind {
    /// The node.
    pub(crate) node: String,
    /// A site, or "as", "nms" or "trs": only the mappings by which it speaks to that. Default: all.
    pub(crate) to: Option<String>,
}

ways! {
    /// The path between a site and a far end gets other settings. Keys have the same meaning as those of a link.
    Path {
        /// The site with the access link.
        site: String,
        /// The far end: a site, or "as", "nms" or "trs".
        to: String,
        /// In which direction. Default: both.
        towards: Option<Towards>,
        /// Only what goes by this family. Default: both.
        family: Option<Family>,
    }
}

/// Nothing is started for a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    /// How long, milliseconds.
    pub(crate) ms: u64,
}

/// Finds the largest inner packet that crosses in one outer packet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeMtu {
    /// The node that sends.
    pub(crate) from: String,
    /// The node that receives.
    pub(crate) to: String,
    /// "ipv6" (default) or "ipv4".
    pub(crate) family: Option<Family>,
}

/// A step without keys of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idle {}

/// A role loses its memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    /// "as", "nms", "trs", or a node.
    pub(crate) what: String,
    /// Whether it shuts down gracefully. Default false.
    pub(crate) graceful: Option<bool>,
}

/// A node stops.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    /// The node.
    pub(crate) node: String,
    /// Whether it shuts down gracefully. Default false.
    pub(crate) graceful: Option<bool>,
}

/// A node gets a new certificate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renew {
    /// The node.
    pub(crate) node: String,
    /// Whether it goes on running. Default false.
    pub(crate) running: Option<bool>,
}

/// A role is paused for a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// "as", "nms", "trs", or a node.
    pub(crate) what: String,
    /// How long, milliseconds.
    pub(crate) ms: u64,
}

/// A machine is suspended for a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suspend {
    /// "as", "nms", "trs", or a node.
    pub(crate) what: String,
    /// How long, milliseconds.
    pub(crate) ms: u64,
    /// The clock that the role reads. Default: "boottime", as the daemons do.
    pub(crate) clock: Option<HostClock>,
}

/// A role's clock steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clock {
    /// "as", "nms", "trs", or a node.
    pub(crate) what: String,
    /// The step in seconds; a negative one sets the clock back.
    pub(crate) step_s: i32,
}

/// An event of one node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfNode {
    /// The node.
    pub(crate) node: String,
}
