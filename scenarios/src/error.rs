//! Errors in a scenario, with their places and remedies.
//!
//! The format resembles rustc's: `file:line:column`, the key as in `--set` and `[sweep]`, the problem, the remedy.

use std::fmt;

use ipnet::IpNet;
use thiserror::Error;

use crate::words::{Measure, Method, SiteKind};

/// A scenario that cannot be run.
#[derive(Debug, Error)]
pub struct ScenarioError {
    /// The place.
    pub place: Place,
    /// The key, as a dotted path; none for the file as a whole.
    pub key: Option<String>,
    /// What is wrong, and the remedy.
    pub problem: Box<Problem>,
    /// Which cell of the sweep it is in, such as `method = conventional`; none without a sweep.
    pub cell: Option<String>,
}

impl ScenarioError {
    pub(crate) fn new(place: Place, key: Option<String>, problem: Problem) -> Self {
        Self { place, key, problem: Box::new(problem), cell: None }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        write!(f, "{}", self.problem)?;
        self.cell.as_ref().map_or(Ok(()), |cell| write!(f, " (in the cell {cell})"))
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File {
        /// Its path, or the name of an embedded scenario.
        file: String,
    },
    /// A place in the file; both numbers from one.
    Text {
        /// Its path, or the name of an embedded scenario.
        file: String,
        /// The line.
        line: usize,
        /// The character in the line.
        column: usize,
    },
    /// An argument `--set key=value`.
    Set {
        /// The file it applies to.
        file: String,
        /// The argument.
        argument: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file } => f.write_str(file),
            Self::Text { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Set { file, argument } => write!(f, "{file}: --set {argument}"),
        }
    }
}

/// What is wrong with a scenario.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is described by its message, which names its fields")]
pub enum Problem {
    #[error("cannot read the file: {0}; check the path")]
    Read(#[from] std::io::Error),
    #[error("no scenario of that name is built in; there are {}", quoted(.known))]
    NotEmbedded { known: Vec<String> },
    #[error("not TOML: {0}")]
    Syntax(String),

    #[error("unknown key{}", hint(.found, .known, "keys here"))]
    UnknownKey { found: String, known: Vec<String> },
    #[error("missing: this key has no default, write it")]
    MissingKey,
    #[error("unknown value {found:?}{}", hint(.found, .known, "values"))]
    UnknownValue { found: String, known: Vec<String> },
    #[error("{0}")]
    WrongType(String),
    #[error("{found} is out of range: write {least} to {most}")]
    OutOfRange { found: String, least: f64, most: f64 },

    #[error("unknown site {found:?}{}", hint(.found, .known, "sites"))]
    UnknownSite { found: String, known: Vec<String> },
    #[error("unknown carrier {found:?}{}", hint(.found, .known, "carriers"))]
    UnknownCarrier { found: String, known: Vec<String> },
    #[error("unknown node {found:?}{}", hint(.found, .known, "nodes"))]
    UnknownNode { found: String, known: Vec<String> },
    #[error("the name {0:?} is taken: give each its own")]
    NameTaken(String),
    #[error("{0:?} is no name: use 1 to 63 of a-z, 0-9 and inner hyphens")]
    BadName(String),
    #[error("{0:?} is no server name: write one such as \"www.example\"")]
    BadServerName(String),

    #[error("no group {found:?}{}; or write a whole name, such as \"{found}.example.net\"", hint(.found, .known, "groups"))]
    UnknownGroup { found: String, known: Vec<String> },
    #[error("{0}")]
    BadPattern(#[from] cyphonic_core::rules::NoGlob),
    #[error("{0}")]
    BadService(#[from] cyphonic_core::rules::NoService),
    #[error("a rule by no service allows nothing: name some, or leave the key out for all")]
    NoServices,
    #[error("{0:?} is no name of a group: use letters, digits and hyphens, without dots")]
    BadGroup(String),
    #[error(
        "rules that allow something change nothing as long as everybody may talk to everybody: write default = \"closed\""
    )]
    RulesWithoutDefault,
    #[error("{0}: put names into patterns, and patterns into groups")]
    TooManyRules(#[from] cyphonic_core::rules::TooMany),

    #[error("no nodes: add a [[node]] with a name and a site")]
    NoNodes,
    #[error("no steps: add a [[step]], the first with do = \"start\"")]
    NoSteps,
    #[error("{found} are more than the limit of {limit}")]
    TooMany { found: usize, limit: usize },
    #[error("the node is nowhere: give it `site = \"...\"`, or `interfaces` with at least one site")]
    Nowhere,
    #[error("the node has both `site` and `interfaces`: keep one of them")]
    SiteAndInterfaces,
    #[error("the node has two interfaces in the site {0:?}: list each site once")]
    InterfaceTwice(String),
    #[error(
        "a site of kind \"{0}\" has no NAT: take this away, or make the kind \"ipv4-private\" or \"dual-stack-private-v4\""
    )]
    NatWithoutPrivateV4(SiteKind),
    #[error(
        "a site of kind \"{0}\" has no private IPv4 to share a NAT with: take the carrier away, or change the kind"
    )]
    CarrierWithoutPrivateV4(SiteKind),
    #[error("a NAT64 is for a site that has only IPv6: take this away, or make the kind \"ipv6\"")]
    Nat64WithV4,
    #[error("a site of kind \"{0}\" has no IPv6 to translate: take this away, or change the kind")]
    TranslatorWithoutV6(SiteKind),
    #[error("the site's IPv6 has another translator already: keep one of `nat64`, `nptv6` and `nat66`")]
    TwoTranslators,
    #[error("{found} is too long to be translated: NPTv6 takes prefixes up to /{most}")]
    NptTooLong { found: IpNet, most: u8 },
    #[error("{inside} and {outside} are not of one length: NPTv6 has an outer address for each inner one")]
    NptLengths { inside: IpNet, outside: IpNet },
    #[error("{0} is no prefix for NAT64: write a /96 such as \"64:ff9b::/96\"")]
    Nat64Prefix(IpNet),
    #[error(
        "a site of kind \"{0}\" has one family, so that one cannot be broken alone: take this away, or make it dual-stack"
    )]
    BrokenAlone(SiteKind),
    #[error("`queue_ms` and `queue_bytes` both limit the queue: keep one")]
    TwoQueues,
    #[error("this step needs a place: write one of {}", .0.join(", "))]
    NoPlace(&'static [&'static str]),
    #[error("the site {0:?} has no NAT: name another, or give it one")]
    NoNat(String),
    #[error("the node {0:?} is behind no NAT here: move it behind one first, or leave this step out")]
    NoNatInFront(String),
    #[error("the node {node:?} is in the site {site:?} already: name another one")]
    AlreadyThere { node: String, site: String },
    #[error("the node {node:?} is not in the site {site:?} here: name one in which it is")]
    NotThere { node: String, site: String },
    #[error("both ends are the site {0:?}: what stays in a site does not go over its access link")]
    SameSite(String),
    #[error("the site {0:?} has no firewall: give it one, perhaps an open one: firewall = {{ stateful = false }}")]
    NoFirewall(String),
    #[error("with `off` nothing else is said about the firewall: take the rest away")]
    OffAndRules,
    #[error("a site of kind \"{kind}\" has no {family}: take the prefix away, or change the kind")]
    PrefixWithoutFamily { kind: SiteKind, family: &'static str },
    #[error("{found:?} is no {family} prefix: write one such as \"{example}\"")]
    BadPrefix { found: String, family: &'static str, example: &'static str },
    #[error("the address has bits set behind the prefix: write \"{0}\"")]
    HostBits(IpNet),
    #[error("a prefix has to be /{least} to /{most}, not /{found}")]
    PrefixLength { found: u8, least: u8, most: u8 },
    #[error("{0} is not private: behind a NAT use 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10")]
    NotPrivate(IpNet),
    #[error("{0} is not private: inside a translator use a prefix of fd00::/8")]
    NotUniqueLocal(IpNet),
    #[error(
        "{0} is not global: use documentation addresses such as 203.0.113.0/24 or 2001:db8:1::/64, or leave the key out"
    )]
    NotGlobal(IpNet),
    #[error(
        "{prefix} overlaps {other}, which belongs to {owner}: choose another prefix, or leave the key out to get one"
    )]
    Overlap { prefix: IpNet, other: IpNet, owner: String },
    #[error("no room for another node in {prefix}: give the site a wider prefix")]
    SiteFull { prefix: IpNet },
    #[error("no {0} prefix is left for this site: give it one")]
    NoPrefixLeft(&'static str),
    #[error(
        "{found:?} is no egress rule: write \"udp/443\", \"tcp/443\", or \"udp\", \"tcp\" or \"icmp\" for all of it"
    )]
    BadEgress { found: String },
    #[error("a mode says what passes: leave out `stateful` and `egress`, or the mode")]
    ModeAndRules,
    #[error("inspection looks for one thing: write one of `quic = true`, `version`, `sni` and `alpn`")]
    InspectOne,
    #[error("`rate_kbps` goes with reaction = \"throttle\", and `after_bytes` and `burst_bytes` with it")]
    ThrottleNeedsRate,
    #[error("an MTU of {found} is below {least}, the least that {family} allows: raise it")]
    MtuTooSmall { found: u32, least: u16, family: &'static str },

    #[error("a delay of {found_ms} ms is below {least_ms} ms, the tick of the engines: raise it")]
    DelayTooSmall { found_ms: f64, least_ms: f64 },

    #[error("the seed range {first}..{last} is reversed: write \"{last}..{first}\"")]
    SeedsReversed { first: u64, last: u64 },
    #[error("the framing \"{framing}\" does not fit the method \"{method}\": use {}", quoted(.fitting))]
    FramingMethod { framing: &'static str, method: Method, fitting: Vec<String> },
    #[error("the proposed method has no password login: use \"certificate\", or method = \"conventional\"")]
    PasswordProposed,
    #[error("in the conventional method the TRS never holds the end key: use \"blind\", or method = \"proposed\"")]
    TerminatingConventional,
    #[error("the conventional method has no congestion control: use \"none\", or a framing of the proposed method")]
    CongestionConventional,
    #[error("the proposed method has the cipher of QUIC: leave the key out, or use method = \"conventional\"")]
    CipherProposed,
    #[error("port 0 is no port: leave the key out for the default")]
    PortZero,

    #[error("the node {0:?} is no original: name another node, which is no copy")]
    CopyOfCopy(String),
    #[error("the node {copy:?} is a copy of {of:?} and has no name of its own: write {of:?}")]
    CopyHasNoName { copy: String, of: String },

    #[error("the node {0:?} talks to itself: name another one")]
    SamePair(String),
    #[error("the node {0:?} was not started by an earlier step: put a step with do = \"start\" before this one")]
    NotStarted(String),
    #[error("the node {0:?} is started already: leave it out of this step")]
    StartedTwice(String),
    #[error("{at_ms} ms is before the step at {earlier_ms} ms: steps come in the order of their times")]
    TimeBackwards { at_ms: u64, earlier_ms: u64 },
    #[error("{at_ms} ms is not before the duration limit of {limit_s} s: raise `duration_limit_s`")]
    AfterTheEnd { at_ms: u64, limit_s: u64 },
    #[error("a spread without a time: write `at_ms` too")]
    SpreadAlone,
    #[error("{found} bytes of payload make an inner packet larger than tun_mtu = {tun_mtu}: at most {most} fit")]
    PayloadTooBig { found: u32, tun_mtu: u16, most: u16 },
    #[error("to measure \"{measure}\" a step with {} is needed: add one", quoted_actions(.steps))]
    MeasureNeeds { measure: Measure, steps: &'static [&'static str] },

    #[error("the sweep's values have to be a list, such as [{0}]")]
    SweepNotList(String),
    #[error("the sweep's list is empty: give it a value, or take the key away")]
    SweepEmpty,
    #[error("this sweep goes over {expected} keys together, so each value has to be a list of {expected}")]
    SweepArity { expected: usize },
    #[error("the sweep goes over this key twice: keep one")]
    SweepTwice,
    #[error("this key cannot be swept: it is the same for the whole file")]
    NotSweepable,
    #[error("the sweep has {cells} cells, more than the limit of {limit}: take values away, or make several files")]
    TooManyCells { cells: u128, limit: usize },
    #[error("the sweep has no value {found} for this key: its values are {}", .known.join(", "))]
    NotInSweep { found: String, known: Vec<String> },
    #[error("this sweeps over {0} cells, and one scenario was asked for: take [sweep] away")]
    NotOneCell(usize),
    #[error("`{within}` is a value, not a table: it has no keys")]
    NotATable { within: String },
    #[error("a path needs a key between its dots")]
    EmptyPath,
}

/// `: did you mean "a"? The sites are "a", "b"`.
fn hint(found: &str, known: &[String], what: &str) -> String {
    match (known, nearest(found, known)) {
        ([], _) => format!(": there are no {what}"),
        (_, Some(near)) => format!(": did you mean \"{near}\"? The {what} are {}", quoted(known)),
        (_, None) => format!(": the {what} are {}", quoted(known)),
    }
}

/// The known word that was probably meant.
fn nearest<'k>(found: &str, known: &'k [String]) -> Option<&'k str> {
    let likeness = |word: &str| strsim::jaro_winkler(&found.to_lowercase(), &word.to_lowercase());
    known
        .iter()
        .map(|word| (likeness(word), word.as_str()))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")
}

fn quoted_actions(steps: &[&str]) -> String {
    steps.iter().map(|s| format!("do = \"{s}\"")).collect::<Vec<_>>().join(" or ")
}
