//! What is wrong with `[sweep]` and `--set`.

use cyphonic_scenarios::Scenario;

use crate::{GOOD, ROOT_KEYS, error, set, with};

#[test]
fn a_sweep_goes_over_lists_of_keys_that_exist() {
    assert_eq!(
        with("[sweep]\nmethod = []"),
        "x.toml:42:10: `sweep.method`: the sweep's list is empty: give it a value, or take the key away"
    );
    assert_eq!(
        with("[sweep]\nmethod = \"proposed\""),
        r#"x.toml:42:10: `sweep.method`: the sweep's values have to be a list, such as ["proposed"]"#
    );
    assert_eq!(
        with("[sweep]\nseeds = [1, 2]"),
        "x.toml:42:1: `sweep.seeds`: this key cannot be swept: it is the same for the whole file"
    );
    assert_eq!(
        with("[sweep]\nmehtod = [\"proposed\"]"),
        [
            r#"x.toml:42:1: `mehtod`: unknown key: did you mean "method"? The keys here are "#,
            ROOT_KEYS,
            " (in the cell mehtod = proposed)"
        ]
        .concat()
    );
    assert_eq!(
        with("[sweep]\n\"site.hme.kind\" = [\"ipv6\"]"),
        r#"x.toml:42:1: `sweep.site.hme.kind`: unknown site "hme": did you mean "home"? The sites are "home", "office""#
    );
    assert_eq!(
        with("[sweep]\nsite.home.link.delay = [1]"),
        r#"x.toml:42:16: `site.home.link.delay`: unknown key: did you mean "delay_ms"? The keys here are "mtu", "black_hole", "up", "down", "delay_ms", "jitter_ms", "loss", "rate_mbps", "queue_ms", "queue_bytes", "burst_loss", "outages", "reorder", "reorder_ms", "duplicate", "corrupt" (in the cell site.home.link.delay = 1)"#
    );
    assert_eq!(
        with("[sweep]\n\"method, framing\" = [[\"proposed\"]]"),
        "x.toml:42:22: `sweep.method, framing`: this sweep goes over 2 keys together, so each value has to be a list of 2"
    );
    assert_eq!(
        with("[sweep]\nmethod = [\"proposed\"]\n\"method, framing\" = [[\"proposed\", \"compact\"]]"),
        "x.toml:43:1: `sweep.method, framing`: the sweep goes over this key twice: keep one"
    );
    assert_eq!(
        with("[sweep]\nsite.home.kind.x = [1]"),
        "x.toml:42:16: `sweep.site.home.kind.x`: `site.home.kind` is a value, not a table: it has no keys"
    );
    assert_eq!(
        with("[sweep]\nstep.7.count = [1]"),
        r#"x.toml:42:8: `sweep.step.7.count`: unknown key: the keys here are "0", "1""#
    );
    assert_eq!(
        with("[sweep]\n\"site..kind\" = [1]"),
        "x.toml:42:1: `sweep.site..kind`: a path needs a key between its dots"
    );
}

#[test]
fn a_cell_that_makes_no_sense_is_named() {
    assert_eq!(
        with("[sweep]\nmethod = [\"proposed\", \"conventional\"]\nframing = [\"compact\"]"),
        r#"x.toml:43:12: `framing`: the framing "compact" does not fit the method "conventional": use "udp4501" (in the cell method = conventional, framing = compact)"#
    );
}

#[test]
fn a_set_is_judged_as_if_it_were_in_the_file() {
    assert_eq!(
        set("mehtod", "proposed"),
        [
            r#"x.toml: --set mehtod=proposed: `mehtod`: unknown key: did you mean "method"? The keys here are "#,
            ROOT_KEYS,
        ]
        .concat()
    );
    assert_eq!(
        set("method", "propsed"),
        r#"x.toml: --set method=propsed: `method`: unknown value "propsed": did you mean "proposed"? The values are "conventional", "proposed""#
    );
    assert_eq!(
        set("site.hme.kind", "ipv6"),
        r#"x.toml: --set site.hme.kind=ipv6: `site.hme.kind`: unknown site "hme": did you mean "home"? The sites are "home", "office""#
    );
    assert_eq!(
        set("site.home.lnk.delay_ms", "3"),
        r#"x.toml: --set site.home.lnk.delay_ms=3: `site.home.lnk`: unknown key: did you mean "link"? The keys here are "name", "kind", "v4", "v6", "link", "broken", "carrier", "nat", "nat64", "nptv6", "nat66", "firewall""#
    );
    assert_eq!(
        set("site.home.link.delay_ms", "abc"),
        r#"x.toml: --set site.home.link.delay_ms=abc: `site.home.link.delay_ms`: invalid type: string "abc", expected a number"#
    );
    assert_eq!(
        set("step.1.cuont", "3"),
        r#"x.toml: --set step.1.cuont=3: `step.1.cuont`: unknown key: did you mean "count"? The keys here are "from", "to", "count", "interval_ms", "payload_bytes", "family", "do", "at_ms", "spread_ms", "skip""#
    );
    assert_eq!(
        set("site.office.firewall.egress", r#"["udp", "x"]"#),
        r#"x.toml: --set site.office.firewall.egress=["udp", "x"]: `site.office.firewall.egress.1`: "x" is no egress rule: write "udp/443", "tcp/443", or "udp", "tcp" or "icmp" for all of it"#
    );
    assert_eq!(
        set("services.nms", "{ delay = 1 }"),
        r#"x.toml: --set services.nms={ delay = 1 }: `services.nms.delay`: unknown key: did you mean "delay_ms"? The keys here are "mtu", "black_hole", "up", "down", "delay_ms", "jitter_ms", "loss", "rate_mbps", "queue_ms", "queue_bytes", "burst_loss", "outages", "reorder", "reorder_ms", "duplicate", "corrupt""#
    );
    assert_eq!(set("", "5"), "x.toml: --set =5: ``: a path needs a key between its dots");
    assert_eq!(
        set("sweep.method", "[]"),
        "x.toml: --set sweep.method=[]: `sweep.method`: the sweep's list is empty: give it a value, or take the key away"
    );
    assert_eq!(
        set("sweep", "5"),
        "x.toml: --set sweep=5: `sweep`: the sweep is a table: write [sweep] and keys below it, or --set 'sweep.KEY=[...]'"
    );
    assert_eq!(
        set("node.bob.site", "hme"),
        r#"x.toml: --set node.bob.site=hme: `node.bob.site`: unknown site "hme": did you mean "home"? The sites are "home", "office""#
    );
    assert_eq!(
        set("seeds", "5..1"),
        r#"x.toml: --set seeds=5..1: `seeds`: the seed range 5..1 is reversed: write "1..5""#
    );
}

#[test]
fn a_sweep_and_a_list_have_limits() {
    let list = |n: u32| (1281..=1280 + n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let sweep = format!("[sweep]\nport = [{}]\ntun_mtu = [{}]\nstep.1.count = [1, 2]\n", list(51), list(100));
    assert_eq!(
        with(&sweep),
        "x.toml:42:1: `sweep`: the sweep has 10200 cells, more than the limit of 10000: take values away, or make \
         several files"
    );
    let sites: Vec<String> = (0..253).map(|i| format!("[[site]]\nname = \"s{i}\"\nkind = \"ipv6\"\n")).collect();
    assert_eq!(with(&sites.concat()), "x.toml:8:1: `site`: 255 are more than the limit of 254");
}

#[test]
fn a_value_of_a_common_sweep_can_only_be_one_of_its_own() {
    let text = format!(
        "{GOOD}[sweep]\n\"method, login\" = [[\"proposed\", \"certificate\"], [\"conventional\", \"password\"]]"
    );
    assert_eq!(
        error(&text, &[("login", "none")]),
        "x.toml: --set login=none: `login`: the sweep has no value none for this key: its values are certificate, \
         password"
    );
}

#[test]
fn one_scenario_is_not_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, GOOD).unwrap();
    assert_eq!(Scenario::load(&file).unwrap().nodes.len(), 2);
    std::fs::write(&file, format!("{GOOD}[sweep]\nport = [1, 2]\n")).unwrap();
    let error = Scenario::load(&file).unwrap_err().to_string();
    let expected = ":41:1: `sweep`: this sweeps over 2 cells, and one scenario was asked for: take [sweep] away";
    assert!(error.ends_with(expected), "{error}");
}
