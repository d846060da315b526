//! Access rules: which nodes may talk to which (ours).
//!
//! A rule allows some nodes to open flows to others, perhaps by some protocols and ports only. Answers to these flows
//! are allowed with them. Two nodes may have a tunnel if a rule allows either of them something. Without rules
//! everybody may talk to everybody.
//!
//! The NMS decides about tunnels: it gives no Route Direction, and so tells no address, to nodes that may not meet. It
//! tells both nodes of a pair what each may open to the other, and both judge each packet by that ([`flows`]).
//!
//! Looking up a name costs one search among the names that rules spell out, and one comparison with each pattern that
//! has a `*`: [`MAX_GLOBS`] limits these.

pub mod flows;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::name::Fqdn;

pub use service::{MAX_SERVICES, NoService, Permission, Permissions, Protocol, Service};

/// Most rules.
pub const MAX_RULES: usize = 1_024;
/// Most different patterns with a `*` on one side of all rules: a name is compared with each.
pub const MAX_GLOBS: usize = 1_024;
/// Most patterns on one side of all rules, counted once for each rule. It bounds memory.
pub const MAX_PATTERNS: usize = 1 << 20;

/// A pattern of names: `*` stands for any number of characters, dots among them. All else stands for itself, in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(Box<str>);

/// Why a text is no [`Glob`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no pattern of names: write a name, with * for any characters")]
pub struct NoGlob(pub String);

impl std::str::FromStr for Glob {
    type Err = NoGlob;

    fn from_str(text: &str) -> Result<Self, NoGlob> {
        let pattern = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*".contains(c);
        if pattern.is_empty() || pattern.len() > 253 || !pattern.chars().all(is_good) {
            return Err(NoGlob(text.to_owned()));
        }
        // What no name can match is a mistake.
        if !pattern.contains('*') && pattern.parse::<Fqdn>().is_err() {
            return Err(NoGlob(text.to_owned()));
        }
        Ok(Self(pattern.into()))
    }
}

impl Glob {
    /// Whether it has a `*`.
    pub fn is_wild(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether it stands for a name.
    pub fn matches(&self, name: &Fqdn) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = name.as_str().strip_prefix(pieces.next().unwrap_or_default()) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The leftmost place is as good as any: it leaves most to the pieces after it.
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule: these nodes may open flows to those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// The nodes that may open flows.
    pub from: Vec<Glob>,
    /// The nodes that they may open flows to.
    pub to: Vec<Glob>,
    /// By what; by everything if it is empty.
    pub services: Vec<Service>,
}

/// Why there are too many rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TooMany {
    /// More than [`MAX_RULES`].
    #[error("more than {MAX_RULES} rules")]
    Rules,
    /// More than [`MAX_GLOBS`].
    #[error("more than {MAX_GLOBS} different patterns with a *")]
    Globs,
    /// More than [`MAX_PATTERNS`].
    #[error("more than {MAX_PATTERNS} patterns")]
    Patterns,
}

/// All rules. The default is that there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(State);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody has set any: everybody may talk to everybody.
    #[default]
    Unset,
    /// The rules let everybody talk to everybody.
    Open,
    Closed(Arc<Closed>),
}

#[derive(Debug, PartialEq, Eq)]
struct Closed {
    allow: Vec<Allow>,
    from: Side,
    to: Side,
}

/// One side of all rules, by name: which rules concern it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Side {
    exact: BTreeMap<Box<str>, Vec<u16>>,
    globs: BTreeMap<Glob, Vec<u16>>,
}

impl Side {
    fn new<'a>(sides: impl Iterator<Item = &'a Vec<Glob>>) -> Result<Self, TooMany> {
        let (mut side, mut count) = (Self::default(), 0);
        for (number, globs) in sides.enumerate() {
            count += globs.len();
            if count > MAX_PATTERNS {
                return Err(TooMany::Patterns);
            }
            for glob in globs {
                let rules = if glob.is_wild() {
                    side.globs.entry(glob.clone()).or_default()
                } else {
                    side.exact.entry(glob.0.clone()).or_default()
                };
                let number = u16::try_from(number).map_err(|_| TooMany::Rules)?;
                if rules.last() != Some(&number) {
                    rules.push(number);
                }
            }
        }
        if side.globs.len() > MAX_GLOBS { Err(TooMany::Globs) } else { Ok(side) }
    }

    /// The rules that concern a name here, in order.
    fn of(&self, name: &Fqdn) -> Vec<u16> {
        let mut rules = self.exact.get(name.as_str()).cloned().unwrap_or_default();
        for (_, more) in self.globs.iter().filter(|(glob, _)| glob.matches(name)) {
            rules.extend(more);
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// The rules that concern one name: as the one that opens flows, and as the one that they are opened to. For many
/// questions about one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    from: Vec<u16>,
    to: Vec<u16>,
}

impl Rules {
    /// Everybody may talk to everybody, until the rules change.
    pub fn open() -> Self {
        Self(State::Open)
    }

    /// Nobody may talk to anybody, but for these rules.
    pub fn closed(allow: Vec<Allow>) -> Result<Self, TooMany> {
        if allow.len() > MAX_RULES {
            return Err(TooMany::Rules);
        }
        let from = Side::new(allow.iter().map(|rule| &rule.from))?;
        let to = Side::new(allow.iter().map(|rule| &rule.to))?;
        Ok(Self(State::Closed(Arc::new(Closed { allow, from, to }))))
    }

    fn if_closed(&self) -> Option<&Closed> {
        if let State::Closed(closed) = &self.0 { Some(closed) } else { None }
    }

    /// Whether anybody has set them.
    pub fn are_set(&self) -> bool {
        self.0 != State::Unset
    }

    /// Whether everybody may talk to everybody.
    pub fn is_open(&self) -> bool {
        self.if_closed().is_none()
    }

    /// The rules, in order; none if everybody may talk to everybody.
    pub fn allow(&self) -> &[Allow] {
        self.if_closed().map_or(&[], |closed| &closed.allow)
    }

    /// The rules that concern a name.
    pub fn roles(&self, name: &Fqdn) -> Roles {
        let Some(closed) = self.if_closed() else { return Roles::default() };
        Roles { from: closed.from.of(name), to: closed.to.of(name) }
    }

    /// Whether two nodes may have a tunnel.
    pub fn may_meet(&self, a: &Roles, b: &Roles) -> bool {
        self.is_open() || shared(&a.from, &b.to).next().is_some() || shared(&b.from, &a.to).next().is_some()
    }

    /// What `from` may open to `to`.
    pub fn permission(&self, from: &Roles, to: &Roles) -> Permission {
        let Some(closed) = self.if_closed() else { return Permission::Everything };
        let mut services = Vec::new();
        for number in shared(&from.from, &to.to) {
            let rule = &closed.allow[usize::from(number)];
            if rule.services.is_empty() {
                return Permission::Everything;
            }
            services.extend_from_slice(&rule.services);
        }
        Permission::of(services)
    }

    /// What two nodes may open to each other, as `own` sees it.
    pub fn permissions(&self, serial: u64, own: &Roles, peers: &Roles) -> Permissions {
        Permissions { serial, out: self.permission(own, peers), back: self.permission(peers, own) }
    }

    /// The numbers of the rules that allow `from` to open flows to `to`: counted from 1, in order.
    pub fn why(&self, from: &Roles, to: &Roles) -> Vec<usize> {
        shared(&from.from, &to.to).map(|number| usize::from(number) + 1).collect()
    }
}

/// What two lists have in common; both are in order.
fn shared<'a>(a: &'a [u16], b: &'a [u16]) -> impl Iterator<Item = u16> {
    let mut b = b.iter().copied().peekable();
    a.iter().copied().filter(move |number| {
        while b.next_if(|other| other < number).is_some() {}
        b.peek() == Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allow(from: &[&str], to: &[&str]) -> Allow {
        Allow { from: globs(from), to: globs(to), services: Vec::new() }
    }

    fn meet(rules: &Rules, a: &str, b: &str) -> bool {
        rules.may_meet(&rules.roles(&name(a)), &rules.roles(&name(b)))
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (glob, matching, other) in [
            ("web.x.net", &["web.x.net"][..], &["web.x.nett", "aweb.x.net", "web.x", "web-x.net"][..]),
            ("*", &["a", "web.x.net"], &[]),
            ("*.x.net", &["web.x.net", "a.b.x.net"], &["x.net", "webx.net", "web.x.net.org"]),
            ("web*", &["web", "web1.x.net"], &["aweb"]),
            ("*1.x.net", &["web1.x.net", "11.x.net"], &["web12.x.net"]),
            ("a*b*c", &["abc", "aabbcc", "a.b.c", "abcbc"], &["acb", "ab", "bc", "a"]),
            ("a*a", &["aa", "aba", "a.a"], &["a", "ab"]),
            ("a*bc*bc", &["abcbc", "a-bc-bc"], &["abc"]),
        ] {
            let glob: Glob = glob.parse().unwrap();
            assert!(matching.iter().all(|text| glob.matches(&name(text))), "{glob}");
            assert!(!other.iter().any(|text| glob.matches(&name(text))), "{glob}");
        }
        assert_eq!("WEB.X.net.".parse::<Glob>().unwrap().to_string(), "web.x.net");
        for bad in ["", ".", "a b", "a_b", "web..net", "-a", "a?", "[ab]", "grüße", &"a".repeat(254)] {
            assert_eq!(bad.parse::<Glob>(), Err(NoGlob(bad.to_owned())));
        }
    }

    #[test]
    fn two_nodes_meet_if_a_rule_lets_either_open_something_to_the_other() {
        let rules = Rules::closed(vec![
            allow(&["*.staff.net"], &["web.net", "db*.net"]),
            allow(&["web.net"], &["db1.net"]),
            allow(&["admin.net"], &["*"]),
        ])
        .unwrap();
        for (a, b, may) in [
            ("ann.staff.net", "web.net", true),
            ("ann.staff.net", "db2.net", true),
            ("ann.staff.net", "bob.staff.net", false),
            ("web.net", "db1.net", true),
            ("web.net", "db2.net", false),
            ("db1.net", "db2.net", false),
            ("admin.net", "guest.net", true),
            ("guest.net", "web.net", false),
            ("staff.net", "web.net", false),
        ] {
            assert_eq!((meet(&rules, a, b), meet(&rules, b, a)), (may, may), "{a} {b}");
        }
        let roles = |text| rules.roles(&name(text));
        assert_eq!(rules.why(&roles("web.net"), &roles("db1.net")), [2]);
        assert_eq!(rules.why(&roles("db1.net"), &roles("web.net")), [] as [usize; 0]);
        assert_eq!(rules.why(&roles("admin.net"), &roles("web.net")), [3]);
    }

    #[test]
    fn what_one_node_may_open_to_another_is_the_union_of_the_rules_that_concern_them() {
        let by = |services: &[&str], rule: Allow| Allow {
            services: services.iter().map(|text| text.parse().unwrap()).collect(),
            ..rule
        };
        let rules = Rules::closed(vec![
            by(&["tcp/443", "icmp"], allow(&["a*"], &["web"])),
            by(&["tcp/80"], allow(&["*"], &["web"])),
            allow(&["admin"], &["web"]),
        ])
        .unwrap();
        let of = |a, b| rules.permission(&rules.roles(&name(a)), &rules.roles(&name(b))).to_string();
        assert_eq!(of("ann", "web"), "tcp/80, tcp/443, icmp");
        assert_eq!(of("bob", "web"), "tcp/80");
        assert_eq!(of("admin", "web"), "everything");
        assert_eq!(of("web", "ann"), "nothing");
        let seen = rules.permissions(3, &rules.roles(&name("web")), &rules.roles(&name("bob")));
        assert_eq!((seen.serial, seen.out, seen.back.to_string()), (3, Permission::Nothing, "tcp/80".to_owned()));
        assert!(!Rules::open().permissions(1, &Roles::default(), &Roles::default()).are_limits());
    }

    #[test]
    fn without_rules_everybody_meets_and_with_none_that_allow_nobody_does() {
        assert!(Rules::default().is_open() && meet(&Rules::default(), "a.net", "b.net"));
        let closed = Rules::closed(Vec::new()).unwrap();
        assert!(!closed.is_open() && !meet(&closed, "a.net", "b.net"));
    }

    #[test]
    fn rules_that_would_be_slow_are_refused() {
        let many = |count, text: fn(usize) -> String| (0..count).map(|i| text(i).parse().unwrap()).collect();
        let rules = vec![allow(&["a"], &["b"]); MAX_RULES + 1];
        assert_eq!(Rules::closed(rules), Err(TooMany::Rules));
        let rules =
            vec![Allow { from: many(MAX_GLOBS + 1, |i| format!("a{i}*")), to: globs(&["b"]), services: Vec::new() }];
        assert_eq!(Rules::closed(rules), Err(TooMany::Globs));
        let half = vec![
            Allow {
                from: globs(&["a"]),
                to: many(MAX_PATTERNS / 2 + 1, |i| format!("a{i}")),
                services: Vec::new()
            };
            2
        ];
        assert_eq!(Rules::closed(half), Err(TooMany::Patterns));
        let names = vec![Allow { from: globs(&["a"]), to: many(100_000, |i| format!("a{i}")), services: Vec::new() }];
        assert!(meet(&Rules::closed(names).unwrap(), "a", "a99999"));
    }
}
