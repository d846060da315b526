//! What is wrong with sites, nodes, links and addresses.

use crate::{replaced, with};

#[test]
fn a_delay_below_a_tick_is_refused() {
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { delay_ms = 0.5 }"),
        "x.toml:6:20: `services.nms.delay_ms`: a delay of 0.5 ms is below 1 ms, the tick of the engines: raise it"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { down = { delay_ms = 0 } }"),
        "x.toml:6:29: `services.nms.down.delay_ms`: a delay of 0 ms is below 1 ms, the tick of the engines: raise it"
    );
}

#[test]
fn an_mtu_below_that_of_the_family_is_refused() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\ntun_mtu = 1200"),
        "x.toml:4:11: `tun_mtu`: an MTU of 1200 is below 1280, the least that IPv6 allows: raise it"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { up = { mtu = 1000 } }"),
        "x.toml:6:22: `services.nms.up.mtu`: an MTU of 1000 is below 1280, the least that IPv6 allows: raise it"
    );
    assert_eq!(
        replaced("delay_ms = 5\nmtu = 1400", "mtu = 500"),
        "x.toml:13:7: `site.home.link.mtu`: an MTU of 500 is below 576, the least that IPv4 allows: raise it"
    );
}

#[test]
fn a_nat_needs_a_private_network() {
    assert_eq!(
        replaced(r#"kind = "ipv4-private""#, r#"kind = "ipv4-global""#),
        r#"x.toml:16:1: `site.home.nat`: a site of kind "ipv4-global" has no NAT: take this away, or make the kind "ipv4-private" or "dual-stack-private-v4""#
    );
}

#[test]
fn prefixes_have_to_fit_the_site() {
    assert_eq!(
        replaced(r#"kind = "ipv4-private""#, "kind = \"ipv4-private\"\nv4 = \"203.0.113.0/24\""),
        "x.toml:11:6: `site.home.v4`: 203.0.113.0/24 is not private: behind a NAT use 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"
    );
    assert_eq!(
        replaced(r#"kind = "ipv4-private""#, "kind = \"ipv4-private\"\nv4 = \"home\""),
        r#"x.toml:11:6: `site.home.v4`: "home" is no IPv4 prefix: write one such as "192.168.7.0/24""#
    );
    assert_eq!(
        replaced(r#"kind = "ipv4-private""#, "kind = \"ipv4-private\"\nv6 = \"2001:db8:7::/64\""),
        r#"x.toml:11:6: `site.home.v6`: a site of kind "ipv4-private" has no IPv6: take the prefix away, or change the kind"#
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"ipv6\"\nv4 = \"203.0.113.0/24\""),
        r#"x.toml:22:6: `site.office.v4`: a site of kind "ipv6" has no IPv4: take the prefix away, or change the kind"#
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"ipv6\"\nv6 = \"2001:db8::5/64\""),
        r#"x.toml:22:6: `site.office.v6`: the address has bits set behind the prefix: write "2001:db8::/64""#
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"ipv6\"\nv6 = \"fd00::/64\""),
        "x.toml:22:6: `site.office.v6`: fd00::/64 is not global: use documentation addresses such as 203.0.113.0/24 or 2001:db8:1::/64, or leave the key out"
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"ipv6\"\nv6 = \"2001:db8:7::/127\""),
        "x.toml:22:6: `site.office.v6`: a prefix has to be /16 to /120, not /127"
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"dual-stack\"\nv4 = \"10.0.0.0/24\""),
        "x.toml:22:6: `site.office.v4`: 10.0.0.0/24 is not global: use documentation addresses such as 203.0.113.0/24 or 2001:db8:1::/64, or leave the key out"
    );
    assert_eq!(
        with("[[site]]\nname = \"g\"\nkind = \"ipv4-global\"\nv4 = \"224.0.0.0/24\""),
        "x.toml:44:6: `site.g.v4`: 224.0.0.0/24 is not global: use documentation addresses such as 203.0.113.0/24 or 2001:db8:1::/64, or leave the key out"
    );
}

#[test]
fn overlapping_addresses_are_refused() {
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"ipv6\"\nv6 = \"2001:db8::/64\""),
        "x.toml:22:6: `site.office.v6`: 2001:db8::/64 overlaps 2001:db8::/64, which belongs to AS, NMS and TRS: choose another prefix, or leave the key out to get one"
    );
    assert_eq!(
        replaced(r#"kind = "ipv6""#, "kind = \"dual-stack\"\nv4 = \"198.18.4.0/24\""),
        "x.toml:22:6: `site.office.v4`: 198.18.4.0/24 overlaps 198.18.0.0/16, which belongs to the nodes' virtual addresses: choose another prefix, or leave the key out to get one"
    );
    assert_eq!(
        with(
            "[[site]]\nname = \"g\"\nkind = \"ipv6\"\nv6 = \"2001:db8:5::/48\"\n[[site]]\nname = \"h\"\nkind = \"ipv6\"\nv6 = \"2001:db8:5:1::/64\""
        ),
        r#"x.toml:48:6: `site.h.v6`: 2001:db8:5:1::/64 overlaps 2001:db8:5::/48, which belongs to the site "g": choose another prefix, or leave the key out to get one"#
    );
    assert_eq!(
        with(
            "[[node]]\nname = \"c\"\ninterfaces = [\"home\", \"lan\"]\n[[site]]\nname = \"lan\"\nkind = \"ipv4-private\"\nv4 = \"192.168.0.0/16\""
        ),
        r#"x.toml:43:23: `node.c.interfaces.1`: 192.168.0.0/16 overlaps 192.168.1.0/24, which belongs to the site "home", where the node is too: choose another prefix, or leave the key out to get one"#
    );
}

#[test]
fn a_full_site_is_refused() {
    assert_eq!(
        with(
            "[[site]]\nname = \"g\"\nkind = \"ipv4-global\"\nv4 = \"203.0.113.0/30\"\n[[node]]\nname = \"c\"\nsite = \"g\"\n[[node]]\nname = \"d\"\nsite = \"g\""
        ),
        "x.toml:50:8: `node.d.site`: no room for another node in 203.0.113.0/30: give the site a wider prefix"
    );
}

#[test]
fn an_egress_rule_has_to_be_one() {
    assert_eq!(
        replaced(r#"egress = ["udp/443"]"#, r#"egress = ["udp/443", "sctp"]"#),
        r#"x.toml:24:22: `site.office.firewall.egress.1`: "sctp" is no egress rule: write "udp/443", "tcp/443", or "udp", "tcp" or "icmp" for all of it"#
    );
    assert_eq!(
        replaced(r#"egress = ["udp/443"]"#, r#"egress = ["icmp/3"]"#),
        r#"x.toml:24:11: `site.office.firewall.egress.0`: "icmp/3" is no egress rule: write "udp/443", "tcp/443", or "udp", "tcp" or "icmp" for all of it"#
    );
    assert_eq!(
        replaced(r#"egress = ["udp/443"]"#, r#"egress = ["tcp/0"]"#),
        r#"x.toml:24:11: `site.office.firewall.egress.0`: "tcp/0" is no egress rule: write "udp/443", "tcp/443", or "udp", "tcp" or "icmp" for all of it"#
    );
}

#[test]
fn names_have_to_be_names_and_their_own() {
    assert_eq!(
        replaced(r#"name = "office""#, r#"name = "home""#),
        r#"x.toml:20:8: `site.home.name`: the name "home" is taken: give each its own"#
    );
    assert_eq!(
        replaced(r#"name = "office""#, r#"name = "Office 1""#),
        r#"x.toml:20:8: `site.Office 1.name`: "Office 1" is no name: use 1 to 63 of a-z, 0-9 and inner hyphens"#
    );
    assert_eq!(
        replaced(r#"name = "bob""#, r#"name = "alice""#),
        r#"x.toml:31:8: `node.alice.name`: the name "alice" is taken: give each its own"#
    );
    assert_eq!(
        replaced(r#"name = "bob""#, r#"name = "bob.example""#),
        r#"x.toml:31:8: `node.bob.example.name`: "bob.example" is no name: use 1 to 63 of a-z, 0-9 and inner hyphens"#
    );
    assert_eq!(
        replaced(r#"name = "bob""#, "name = \"bob\"\ntcp_name = \"www example\""),
        r#"x.toml:32:12: `node.bob.tcp_name`: "www example" is no server name: write one such as "www.example""#
    );
}

#[test]
fn a_copy_is_of_a_node_that_is_no_copy() {
    let copy = |of: &str| replaced(r#"name = "bob""#, &format!("name = \"bob\"\ncopy_of = \"{of}\""));
    assert_eq!(
        copy("alic"),
        r#"x.toml:32:11: `node.bob.copy_of`: unknown node "alic": did you mean "alice"? The nodes are "alice", "bob""#
    );
    assert_eq!(
        copy("bob"),
        r#"x.toml:32:11: `node.bob.copy_of`: the node "bob" is no original: name another node, which is no copy"#
    );
    assert!(
        copy("alice").ends_with(r#"the node "bob" is a copy of "alice" and has no name of its own: write "alice""#),
        "{}",
        copy("alice")
    );
}

#[test]
fn a_node_has_to_be_somewhere() {
    assert_eq!(
        replaced(r#"site = "office""#, r#"site = "ofice""#),
        r#"x.toml:32:8: `node.bob.site`: unknown site "ofice": did you mean "office"? The sites are "home", "office""#
    );
    assert_eq!(
        replaced("site = \"office\"\n", ""),
        r#"x.toml:30:1: `node.bob`: the node is nowhere: give it `site = "..."`, or `interfaces` with at least one site"#
    );
    assert_eq!(
        replaced(r#"site = "office""#, "interfaces = []"),
        r#"x.toml:30:1: `node.bob`: the node is nowhere: give it `site = "..."`, or `interfaces` with at least one site"#
    );
    assert_eq!(
        replaced(r#"site = "office""#, r#"interfaces = ["office", "office"]"#),
        r#"x.toml:32:25: `node.bob.interfaces.1`: the node has two interfaces in the site "office": list each site once"#
    );
    assert_eq!(
        replaced(r#"site = "office""#, "site = \"office\"\ninterfaces = [\"home\"]"),
        "x.toml:33:14: `node.bob.interfaces`: the node has both `site` and `interfaces`: keep one of them"
    );
}

#[test]
fn faults_of_a_link_are_probabilities() {
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { corrupt = 1.5 }"),
        "x.toml:6:19: `services.nms.corrupt`: 1.5 is out of range: write 0 to 1"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { up = { burst_loss = { enter = 0.1, leave = -1.0 } } }"),
        "x.toml:6:52: `services.nms.up.burst_loss.leave`: -1 is out of range: write 0 to 1"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { burst_loss = { enter = 0.1 } }"),
        "x.toml:6:22: `services.nms.burst_loss.leave`: missing: this key has no default, write it"
    );
}

#[test]
fn a_nat_has_as_many_addresses_as_its_prefix() {
    assert_eq!(
        replaced("[site.nat]", "[site.nat]\naddresses = 15"),
        "x.toml:17:13: `site.home.nat.addresses`: 15 is out of range: write 1 to 14"
    );
    assert_eq!(
        replaced("[site.nat]", "[site.nat]\nhairpin = \"on\""),
        r#"x.toml:17:11: `site.home.nat.hairpin`: unknown value "on": the values are "off", "internal-source", "external-source""#
    );
}

#[test]
fn a_firewall_has_a_mode_or_rules_and_looks_for_one_thing_at_a_time() {
    let firewall = |keys: &str| replaced("[site.nat]", &format!("[site.firewall]\n{keys}\n\n[site.nat]"));
    assert_eq!(
        firewall("mode = \"web\"\nstateful = true"),
        "x.toml:17:8: `site.home.firewall.mode`: a mode says what passes: leave out `stateful` and `egress`, or the mode"
    );
    assert_eq!(
        firewall("inspect = [{ quic = true, version = 1, reaction = \"drop\" }]"),
        "x.toml:17:12: `site.home.firewall.inspect.0`: inspection looks for one thing: write one of `quic = true`, `version`, `sni` and `alpn`"
    );
    assert_eq!(
        firewall("inspect = [{ sni = \"x\", reaction = \"throttle\" }]"),
        "x.toml:17:12: `site.home.firewall.inspect.0`: `rate_kbps` goes with reaction = \"throttle\", and `after_bytes` and `burst_bytes` with it"
    );
}

#[test]
fn translators_of_ipv6_need_ipv6_and_stand_alone() {
    let site = |keys: &str| replaced(r#"kind = "ipv6""#, &format!("kind = \"ipv6\"\n{keys}"));
    assert_eq!(
        replaced("[site.nat]", "[site.nat64]\n\n[site.nat]"),
        "x.toml:16:1: `site.home.nat64`: a NAT64 is for a site that has only IPv6: take this away, or make the kind \"ipv6\""
    );
    assert_eq!(
        replaced("[site.nat]", "[site.nptv6]\n\n[site.nat]"),
        "x.toml:16:1: `site.home.nptv6`: a site of kind \"ipv4-private\" has no IPv6 to translate: take this away, or change the kind"
    );
    assert_eq!(
        site("nptv6 = {}\nnat66 = {}"),
        "x.toml:23:9: `site.office.nat66`: the site's IPv6 has another translator already: keep one of `nat64`, `nptv6` and `nat66`"
    );
    assert_eq!(
        site("nat64 = { prefix = \"64:ff9b::/64\" }"),
        "x.toml:22:20: `site.office.nat64.prefix`: 64:ff9b::/64 is no prefix for NAT64: write a /96 such as \"64:ff9b::/96\""
    );
    assert_eq!(
        site("nat64 = { prefix = \"2001:db8::/96\" }"),
        "x.toml:22:20: `site.office.nat64.prefix`: 2001:db8::/96 overlaps 2001:db8::/64, which belongs to AS, NMS and TRS: choose another prefix, or leave the key out to get one"
    );
    assert_eq!(
        site("nptv6 = { inside = \"fd00::/48\" }"),
        "x.toml:22:20: `site.office.nptv6.inside`: fd00::/48 and 2001:db8:1::/64 are not of one length: NPTv6 has an outer address for each inner one"
    );
    assert_eq!(
        site("v6 = \"2001:db8:7::/64\"\nnat66 = {}"),
        "x.toml:22:6: `site.office.v6`: 2001:db8:7::/64 is not private: inside a translator use a prefix of fd00::/8"
    );
    assert_eq!(
        site("v6 = \"2001:db8:7::/120\"\nnptv6 = {}"),
        "x.toml:22:6: `site.office.v6`: 2001:db8:7::/120 is too long to be translated: NPTv6 takes prefixes up to /112"
    );
}

#[test]
fn a_carrier_has_to_be_there_and_only_family_is_not_broken() {
    let home = |keys: &str| replaced(r#"kind = "ipv4-private""#, &format!("kind = \"ipv4-private\"\n{keys}"));
    assert_eq!(
        home("carrier = \"cgn\""),
        "x.toml:11:11: `site.home.carrier`: unknown carrier \"cgn\": there are no carriers"
    );
    assert_eq!(
        with("[[carrier]]\nname = \"cgn\"\n[[site]]\nname = \"g\"\nkind = \"ipv4-global\"\ncarrier = \"cgn\""),
        "x.toml:46:11: `site.g.carrier`: a site of kind \"ipv4-global\" has no private IPv4 to share a NAT with: take the carrier away, or change the kind"
    );
    assert_eq!(
        with(
            "[[carrier]]\nname = \"cgn\"\n[[site]]\nname = \"g\"\nkind = \"ipv4-private\"\nv4 = \"100.64.0.0/24\"\ncarrier = \"cgn\""
        ),
        "x.toml:46:6: `site.g.v4`: 100.64.0.0/24 overlaps 100.64.0.0/10, which belongs to the carrier's side of the site's NAT: choose another prefix, or leave the key out to get one"
    );
    assert_eq!(
        with("[[carrier]]\nname = \"cgn\"\n[[carrier]]\nname = \"cgn\""),
        "x.toml:44:8: `carrier.cgn.name`: the name \"cgn\" is taken: give each its own"
    );
    assert_eq!(
        home("broken = \"ipv4\""),
        "x.toml:11:10: `site.home.broken`: a site of kind \"ipv4-private\" has one family, so that one cannot be broken alone: take this away, or make it dual-stack"
    );
}

#[test]
fn a_queue_has_one_limit_and_a_name_of_a_service_is_taken() {
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { queue_ms = 5, queue_bytes = 5 }"),
        "x.toml:6:37: `services.nms.queue_bytes`: `queue_ms` and `queue_bytes` both limit the queue: keep one"
    );
    assert_eq!(
        replaced(r#"name = "bob""#, r#"name = "nms""#),
        "x.toml:31:8: `node.nms.name`: the name \"nms\" is taken: give each its own"
    );
}
