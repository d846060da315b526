//! The kinds of sites that the matrix crosses, as words of scenarios.

use std::fmt::Write as _;

/// A kind of site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// In rows, columns and CSV.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Keys of a `[[site]]`, but for its name and link.
    words: &'static str,
    /// Keys of the `[[node]]` in it, but for its name and site.
    node: &'static str,
    /// Keys of the `[[carrier]]` in front of it, but for its name and link.
    carrier: Option<&'static str>,
    /// Both nodes of a pair share what can be shared; such a kind meets only itself.
    pub shared: Shared,
}

/// What the two nodes of a pair share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Nothing: each has a site of its own.
    Nothing,
    /// The site.
    Site,
    /// The carrier; each has a site of its own behind it.
    Carrier,
}

const fn kind(name: &'static str, about: &'static str, words: &'static str) -> Kind {
    Kind { name, about, words, node: "", carrier: None, shared: Shared::Nothing }
}

/// Every kind, the simplest first.
pub const KINDS: &[Kind] = &[
    kind("public", "IPv4 of its own, nothing in between", "kind = \"ipv4-global\""),
    kind(
        "firewall",
        "IPv4 of its own behind a stateful firewall",
        "kind = \"ipv4-global\"\nfirewall = { mode = \"stateful\" }",
    ),
    kind(
        "full-cone",
        "NAT: endpoint-independent mapping, no filter",
        "kind = \"ipv4-private\"\nnat = { filtering = \"endpoint-independent\" }",
    ),
    kind(
        "restricted",
        "NAT: endpoint-independent mapping, filters by address",
        "kind = \"ipv4-private\"\nnat = { filtering = \"address-dependent\" }",
    ),
    kind(
        "port-restr",
        "NAT: endpoint-independent mapping, filters by address and port",
        "kind = \"ipv4-private\"\nnat = { filtering = \"address-and-port-dependent\" }",
    ),
    kind(
        "symmetric",
        "NAT: another port for each destination",
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", ports = \"random\" }",
    ),
    kind(
        "symm-addr",
        "NAT: another port for each destination, filters by address",
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", filtering = \"address-dependent\", ports = \"random\" }",
    ),
    kind(
        "symm-open",
        "NAT: another port for each destination, no filter",
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", filtering = \"endpoint-independent\", ports = \"random\" }",
    ),
    kind("ipv6", "IPv6 only, nothing in between", "kind = \"ipv6\""),
    kind(
        "ipv6-home",
        "IPv6 only behind a stateful firewall (RFC 6092)",
        "kind = \"ipv6\"\nfirewall = { mode = \"stateful\" }",
    ),
    kind("nat64", "IPv6 only, with NAT64", "kind = \"ipv6\"\nnat64 = {}"),
    kind("nptv6", "IPv6 only, its prefix translated (NPTv6)", "kind = \"ipv6\"\nnptv6 = {}"),
    kind("nat66", "IPv6 only, behind a NAT with ports", "kind = \"ipv6\"\nnat66 = {}"),
    kind(
        "dual-home",
        "IPv6 behind a firewall, and IPv4 behind a NAT",
        "kind = \"dual-stack-private-v4\"\nfirewall = { mode = \"stateful\" }",
    ),
    kind(
        "dual-no-v6",
        "as dual-home, but IPv6 packets vanish",
        "kind = \"dual-stack-private-v4\"\nfirewall = { mode = \"stateful\" }\nbroken = \"ipv6\"",
    ),
    Kind {
        carrier: Some("filtering = \"endpoint-independent\""),
        ..kind("cgn", "NAT behind a carrier's NAT that filters nothing", "kind = \"ipv4-private\"")
    },
    Kind {
        carrier: Some("mapping = \"address-and-port-dependent\"\nports = \"random\""),
        ..kind("cgn-symm", "NAT behind a carrier's symmetric NAT", "kind = \"ipv4-private\"")
    },
    kind(
        "only-443",
        "IPv4 of its own; out goes what is for port 443",
        "kind = \"ipv4-global\"\nfirewall = { mode = \"only-443\" }",
    ),
    kind(
        "nat-443",
        "NAT with random ports; out goes what is for port 443",
        "kind = \"ipv4-private\"\nnat = { ports = \"random\" }\nfirewall = { mode = \"only-443\" }",
    ),
    kind(
        "tcp-443",
        "out goes TCP to port 443, and nothing else",
        "kind = \"ipv4-global\"\nfirewall = { mode = \"only-tcp-443\" }",
    ),
    Kind {
        node: "proxy = true",
        ..kind(
            "web-proxy",
            "NAT; out goes TCP to an HTTP proxy, and nothing else",
            "kind = \"ipv4-private\"\nfirewall = { mode = \"web-proxy\" }",
        )
    },
    kind(
        "quic-refused",
        "NAT, and inspection that refuses QUIC version 1",
        "kind = \"ipv4-private\"\nfirewall = { inspect = [{ quic = true, reaction = \"drop\" }] }",
    ),
    kind(
        "h3-refused",
        "NAT, and inspection that refuses who offers the protocol h3",
        "kind = \"ipv4-private\"\nfirewall = { inspect = [{ alpn = \"h3\", reaction = \"reject\" }] }",
    ),
    Kind { shared: Shared::Site, ..kind("one-lan", "both nodes behind one NAT", "kind = \"ipv4-private\"") },
    Kind {
        carrier: Some(""),
        shared: Shared::Carrier,
        ..kind("one-carrier", "both behind one carrier, which turns no packet around", "kind = \"ipv4-private\"")
    },
    Kind {
        carrier: Some("hairpin = \"external-source\""),
        shared: Shared::Carrier,
        ..kind("hairpin", "both behind one carrier, which turns packets around", "kind = \"ipv4-private\"")
    },
];

/// Every pair of kinds that can meet.
pub fn pairs() -> impl Iterator<Item = (&'static Kind, &'static Kind)> {
    let may_meet = |a: &Kind, b: &Kind| {
        (a.shared == Shared::Nothing && b.shared == Shared::Nothing) || (a.shared == b.shared && a.name == b.name)
    };
    KINDS.iter().flat_map(move |a| KINDS.iter().filter(move |b| may_meet(a, b)).map(move |b| (a, b)))
}

/// The scenario of a pair: both register, their networks become known, and Alice sends Bob echoes for a while.
pub fn scenario(a: &Kind, b: &Kind, method: &str, policy: &str) -> String {
    let link = "{ delay_ms = 10 }";
    let mut places = String::new();
    let mut place = |name: &str, kind: &Kind| {
        let carrier = kind.carrier.map(|words| {
            let carrier = if kind.shared == Shared::Carrier { "isp".to_owned() } else { format!("isp-{name}") };
            if kind.shared != Shared::Carrier || name == "a" {
                let _ = writeln!(places, "[[carrier]]\nname = \"{carrier}\"\nlink = {link}\n{words}\n");
            }
            format!("carrier = \"{carrier}\"\n")
        });
        let carrier = carrier.unwrap_or_default();
        let _ = writeln!(places, "[[site]]\nname = \"{name}\"\nlink = {link}\n{}\n{carrier}", kind.words);
    };
    place("a", a);
    if b.shared != Shared::Site {
        place("b", b);
    }
    let node = |kind: &Kind| if kind.node.is_empty() { String::new() } else { format!("{}\n", kind.node) };
    let bobs = if b.shared == Shared::Site { "a" } else { "b" };
    format!(
        r#"title = "{} to {}"
about = "A: {}. B: {}."
measure = "outcome"
engine = "events"
method = "{method}"
policy = "{policy}"
duration_limit_s = 60

[services]
as = {link}
nms = {link}
trs = {link}

{places}[[node]]
name = "alice"
site = "a"
{}
[[node]]
name = "bob"
site = "{bobs}"
{}

[[step]]
do = "start"
give_up_s = 12

[[step]]
do = "wait"
ms = 3000

[[step]]
do = "echo"
from = "alice"
to = "bob"
count = 32
interval_ms = 500
"#,
        a.name,
        b.name,
        a.about,
        b.about,
        node(a),
        node(b),
    )
}
