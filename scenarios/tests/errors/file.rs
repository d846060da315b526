//! What is wrong with a file whatever it is about: spelling, types, words, ranges, choices.

use cyphonic_scenarios::Document;

use crate::{GOOD, ROOT_KEYS, error, replaced, with};

#[test]
fn a_text_that_is_no_toml_is_refused_at_its_place() {
    assert_eq!(
        replaced(r#"title = "t""#, "title = "),
        "x.toml:1:9: not TOML: string values must be quoted, expected literal string"
    );
}

#[test]
fn a_misspelled_key_is_answered_with_the_right_one() {
    assert_eq!(
        replaced(r#"title = "t""#, r#"titel = "t""#),
        [r#"x.toml:1:1: `titel`: unknown key: did you mean "title"? The keys here are "#, ROOT_KEYS].concat()
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nns = { delay_ms = 5 }"),
        r#"x.toml:6:1: `services.nns`: unknown key: did you mean "nms"? The keys here are "as", "nms", "trs", "proxy""#
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { up = { delay = 5 } }"),
        r#"x.toml:6:16: `services.nms.up.delay`: unknown key: did you mean "delay_ms"? The keys here are "mtu", "black_hole", "delay_ms", "jitter_ms", "loss", "rate_mbps", "queue_ms", "queue_bytes", "burst_loss", "outages", "reorder", "reorder_ms", "duplicate", "corrupt""#
    );
    assert_eq!(
        replaced("delay_ms = 5\nmtu = 1400", "dely_ms = 5"),
        r#"x.toml:13:1: `site.home.link.dely_ms`: unknown key: did you mean "delay_ms"? The keys here are "mtu", "black_hole", "up", "down", "delay_ms", "jitter_ms", "loss", "rate_mbps", "queue_ms", "queue_bytes", "burst_loss", "outages", "reorder", "reorder_ms", "duplicate", "corrupt""#
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\ncuont = 3"),
        r#"x.toml:39:1: `step.1.cuont`: unknown key: did you mean "count"? The keys here are "from", "to", "count", "interval_ms", "payload_bytes", "family", "do", "at_ms", "spread_ms", "skip""#
    );
    assert_eq!(
        replaced(r#"do = "start""#, "do = \"idle\"\nms = 5"),
        r#"x.toml:36:1: `step.0.ms`: unknown key: the keys here are "do", "at_ms", "spread_ms", "skip""#
    );
    assert_eq!(
        replaced(r#"do = "start""#, "do = \"start\"\nbytes = 5"),
        r#"x.toml:36:1: `step.0.bytes`: unknown key: the keys here are "nodes", "give_up_s", "do", "at_ms", "spread_ms", "skip""#
    );
}

#[test]
fn a_key_without_a_default_is_asked_for() {
    assert_eq!(replaced("title = \"t\"\n", ""), "x.toml:1:1: `title`: missing: this key has no default, write it");
    assert_eq!(
        replaced("kind = \"ipv4-private\"\n", ""),
        "x.toml:8:1: `site.home.kind`: missing: this key has no default, write it"
    );
    assert_eq!(
        replaced("do = \"start\"\n", ""),
        "x.toml:34:1: `step.0.do`: missing: this key has no default, write it"
    );
    assert_eq!(
        replaced(r#"do = "start""#, r#"do = "wait""#),
        "x.toml:34:1: `step.0.ms`: missing: this key has no default, write it"
    );
    assert_eq!(
        with("[[step]]\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\""),
        "x.toml:41:1: `step.2.bytes`: missing: this key has no default, write it"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_the_right_one() {
    assert_eq!(
        replaced(r#"title = "t""#, "title = 5"),
        "x.toml:1:9: `title`: invalid type: integer `5`, expected a string"
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nport = 70000"),
        "x.toml:4:8: `port`: invalid value: integer `70000`, expected a whole number up to 65535"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", r#"nms = { delay_ms = "5" }"#),
        r#"x.toml:6:20: `services.nms.delay_ms`: invalid type: string "5", expected a number"#
    );
    assert_eq!(
        replaced(r#"egress = ["udp/443"]"#, r#"egress = "udp/443""#),
        r#"x.toml:24:10: `site.office.firewall.egress`: invalid type: string "udp/443", expected a list"#
    );
    assert_eq!(
        replaced(r#"egress = ["udp/443"]"#, "stateful = 1"),
        "x.toml:24:12: `site.office.firewall.stateful`: invalid type: integer `1`, expected true or false"
    );
    assert_eq!(
        replaced(r#"do = "start""#, "do = 5"),
        "x.toml:35:6: `step.0.do`: invalid type: integer `5`, expected a string"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\ncount = \"3\""),
        r#"x.toml:39:9: `step.1.count`: invalid type: string "3", expected a whole number up to 4294967295"#
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\ncount = -3"),
        "x.toml:39:9: `step.1.count`: invalid value: integer `-3`, expected a whole number up to 4294967295"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\nat_ms = \"now\""),
        r#"x.toml:39:9: `step.1.at_ms`: invalid type: string "now", expected a whole number"#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nseeds = \"three\""),
        r#"x.toml:4:9: `seeds`: invalid value: string "three", expected a seed such as 7, or a range such as "1..20" with both ends included"#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nseeds = -1"),
        r#"x.toml:4:9: `seeds`: invalid value: integer `-1`, expected a seed such as 7, or a range such as "1..20" with both ends included"#
    );
}

#[test]
fn an_unknown_word_is_answered_with_the_known_ones() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, r#"measure = "rtts""#),
        r#"x.toml:3:11: `measure`: unknown value "rtts": did you mean "rtt"? The values are "outcome", "rtt", "flow", "composition", "setup", "handover", "traffic""#
    );
    assert_eq!(
        replaced(r#"mapping = "endpoint-independent""#, r#"mapping = "cone""#),
        r#"x.toml:17:11: `site.home.nat.mapping`: unknown value "cone": the values are "endpoint-independent", "address-dependent", "address-and-port-dependent""#
    );
    assert_eq!(
        replaced(r#"kind = "ipv4-private""#, r#"kind = "ipv5""#),
        r#"x.toml:10:8: `site.home.kind`: unknown value "ipv5": did you mean "ipv6"? The values are "ipv6", "ipv4-global", "ipv4-private", "dual-stack", "dual-stack-private-v4""#
    );
    assert_eq!(
        replaced(r#"do = "start""#, r#"do = "begin""#),
        r#"x.toml:35:6: `step.0.do`: unknown value "begin": the values are "start", "echo", "tcp", "udp", "move", "attach", "detach", "wait", "probe_mtu", "idle", "nat_reboot", "rebind", "firewall", "link", "path", "link_down", "link_up", "restart", "stop", "revoke", "expire", "renew", "pause", "suspend", "clock", "disk_full", "disk_free", "rules""#
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\nfamily = \"ipv5\""),
        r#"x.toml:39:10: `step.1.family`: unknown value "ipv5": did you mean "ipv6"? The values are "ipv4", "ipv6""#
    );
}

#[test]
fn a_number_out_of_range_is_told_the_range() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\ntun_mtu = 70000"),
        "x.toml:4:11: `tun_mtu`: 70000 is out of range: write 1280 to 65535"
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nduration_limit_s = 0"),
        "x.toml:4:20: `duration_limit_s`: 0 is out of range: write 1 to 1000000"
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nport = 0"),
        "x.toml:4:8: `port`: port 0 is no port: leave the key out for the default"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { loss = nan }"),
        "x.toml:6:16: `services.nms.loss`: NaN is out of range: write 0 to 1"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { down = { loss = 1.5 } }"),
        "x.toml:6:25: `services.nms.down.loss`: 1.5 is out of range: write 0 to 1"
    );
    assert_eq!(
        replaced("nms = { delay_ms = 5 }", "nms = { rate_mbps = 0 }"),
        "x.toml:6:21: `services.nms.rate_mbps`: 0 is out of range: write 0.001 to 1000000"
    );
    assert_eq!(
        replaced(r#"mapping = "endpoint-independent""#, "idle_s = 0"),
        "x.toml:17:10: `site.home.nat.idle_s`: 0 is out of range: write 1 to 1000000"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\ncount = 0"),
        "x.toml:39:9: `step.1.count`: 0 is out of range: write 1 to 1000000"
    );
}

#[test]
fn a_reversed_seed_range_is_refused() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nseeds = \"9..3\""),
        r#"x.toml:4:9: `seeds`: the seed range 9..3 is reversed: write "3..9""#
    );
}

#[test]
fn choices_that_do_not_fit_each_other_are_refused() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nmethod = \"conventional\"\nframing = \"compact\""),
        r#"x.toml:5:11: `framing`: the framing "compact" does not fit the method "conventional": use "udp4501""#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nmethod = \"proposed\"\nframing = \"udp4501\""),
        r#"x.toml:5:11: `framing`: the framing "udp4501" does not fit the method "proposed": use "compact", "datagram", "stream""#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nlogin = \"password\""),
        r#"x.toml:4:9: `login`: the proposed method has no password login: use "certificate", or method = "conventional""#
    );
    assert_eq!(
        replaced(
            r#"measure = "outcome""#,
            "measure = \"outcome\"\nmethod = \"conventional\"\nrelay_mode = \"terminating\""
        ),
        r#"x.toml:5:14: `relay_mode`: in the conventional method the TRS never holds the end key: use "blind", or method = "proposed""#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nframing = \"stream\"\ncipher = \"aes-cbc-md5\""),
        r#"x.toml:5:10: `cipher`: the proposed method has the cipher of QUIC: leave the key out, or use method = "conventional""#
    );
    assert_eq!(
        replaced(r#"measure = "outcome""#, "measure = \"outcome\"\nframing = \"udp4501\"\ncongestion = \"new-reno\""),
        r#"x.toml:5:14: `congestion`: the conventional method has no congestion control: use "none", or a framing of the proposed method"#
    );
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(error(GOOD, &[]), "no error");
}

#[test]
fn a_file_without_nodes_or_steps_is_refused() {
    let head = "title = \"t\"\nabout = \"a\"\nmeasure = \"rtt\"\n";
    let with = |more: &str| error(&format!("{head}{more}"), &[]);
    assert_eq!(with(""), "x.toml:1:1: no nodes: add a [[node]] with a name and a site");
    let node = "[[site]]\nname = \"s\"\nkind = \"ipv6\"\n[[node]]\nname = \"n\"\nsite = \"s\"";
    assert_eq!(with(node), "x.toml:1:1: no steps: add a [[step]], the first with do = \"start\"");
    assert_eq!(with("site = 5"), "x.toml:4:8: `site`: invalid type: integer `5`, expected a list");
    assert_eq!(with("step = 5"), "x.toml:4:8: `step`: steps are a list: write [[step]]");
    assert_eq!(with("step = [5]"), "x.toml:4:9: `step.0`: a step is a table: write [[step]]");
    assert_eq!(
        with("sweep = 5"),
        "x.toml:4:1: `sweep`: the sweep is a table: write [sweep] and keys below it, or --set 'sweep.KEY=[...]'"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Document::load("no/such.toml").unwrap_err().to_string();
    assert_eq!(missing, "no/such.toml: cannot read the file: No such file or directory (os error 2); check the path");
    assert_eq!(
        Document::embedded("tabel1").unwrap_err().to_string(),
        "tabel1: no scenario of that name is built in; there are \"bad-links\", \"blocked\", \"blocked-rtt\", \"cipher\", \"handover\", \"idle\", \"mobility\", \"paced\", \"paced-tcp\", \
         \"queue\", \"relay\", \"setup\", \"setup-loss\", \"table1\", \"table3\", \"table4\", \"throughput\""
    );
}

#[test]
fn columns_count_characters_not_bytes() {
    let text = GOOD.replace("nms = { delay_ms = 5 }", "nms = { 'é' = 1 }");
    assert_eq!(error(&text, &[]).split(": ").next(), Some("x.toml:6:9"));
    let text = GOOD.replace("nms = { delay_ms = 5 }", "\"nms\" = { mtu = 1400, 'é' = 1 }");
    assert_eq!(error(&text, &[]).split(": ").next(), Some("x.toml:6:23"));
}
