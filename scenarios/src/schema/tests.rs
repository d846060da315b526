use super::*;
use crate::rows::{Field, Row};
use crate::words::{Handover, HostClock, Over, Protocol, ServiceName, SiteKind, Towards};

const README: &str = include_str!("../../README.md");

/// The keys of a table, as serde knows them: it names them all when it meets one that it does not know.
fn keys<T: for<'de> Deserialize<'de>>() -> Vec<String> {
    let Err(error) = toml::from_str::<T>("no-such-key = 1") else { panic!("unknown keys are refused") };
    assert!(error.message().starts_with("unknown field"), "{error}");
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// Each table with its name, its keys, and how many they should be.
macro_rules! tables {
    ($($table:ident $count:literal,)*) => { [$((stringify!($table), keys::<$table>(), $count),)*] };
}

#[test]
fn the_readme_names_every_key() {
    let tables = tables![
        File 27,
        Services 4,
        Link 16,
        Way 14,
        Site 12,
        BurstLoss 4,
        Outages 3,
        Nat 16,
        Nat64 17,
        Nptv6 1,
        Carrier 18,
        Firewall 5,
        Inspect 8,
        Node 6,
        Start 2,
        Probes 6,
        Tcp 6,
        Move 2,
        Detach 2,
        Rebind 2,
        Path 16,
        Wait 1,
        ProbeMtu 3,
        Idle 0,
        Restart 2,
        Stop 2,
        OfNode 1,
        Renew 2,
        Pause 2,
        Suspend 3,
        Clock 2,
        AccessRules 3,
        AccessRule 3,
    ];
    for (name, keys, count) in &tables {
        assert_eq!(keys.len(), *count, "{name} has these keys: {keys:?}");
    }
    // `Where` and `Timing` are taken out of a step key by key, and a range of seeds is no table.
    let sources = concat!(include_str!("mod.rs"), include_str!("step.rs"));
    for name in sources.lines().filter_map(|line| line.strip_prefix("pub(crate) struct ")?.split([' ', ';']).next()) {
        let is_known =
            ["Where", "Timing", "SeedRange"].contains(&name) || tables.iter().any(|(known, ..)| *known == name);
        assert!(is_known, "the table `{name}` is not in this test");
    }
    let of_steps = ["site", "service", "carrier", "off", "at_ms", "spread_ms", "skip"].map(str::to_owned);
    for key in tables.iter().flat_map(|(_, keys, _)| keys).chain(&of_steps) {
        assert!(README.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn every_step_that_can_be_read_is_in_the_list_of_steps() {
    let reader = include_str!("../read.rs");
    let arms = reader.lines().filter(|line| line.trim_start().starts_with('"') && line.contains(" => "));
    let arms = arms.filter(|line| line.contains("keys_of_step") || line.contains("self.network("));
    let steps: Vec<&str> =
        arms.flat_map(|line| line.split(" => ").next().unwrap().split('"').skip(1).step_by(2)).collect();
    assert!(steps.len() > 20, "{steps:?}");
    for step in steps {
        assert!(ACTIONS.contains(&step), "ACTIONS in step.rs does not have \"{step}\"");
    }
}

/// Each enum of words with its name and its words.
macro_rules! words {
    ($($word:ident,)*) => { [$((stringify!($word), names($word::ALL, $word::name)),)*] };
}

/// The enums of `words.rs`, as its macro declares them, but those that no scenario writes.
fn enums() -> impl Iterator<Item = &'static str> {
    let declared = include_str!("../words.rs").split("\nwords! {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let names = declared.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"));
    names.filter(|name| !name.starts_with(' ') && !["Invariant"].contains(name))
}

#[test]
fn the_readme_names_every_word() {
    let words = words![
        Engine,
        Method,
        Login,
        SiteKind,
        Dependence,
        PortChoice,
        Pooling,
        Refresh,
        Hairpin,
        IcmpErrors,
        FirewallMode,
        Reaction,
        Refusal,
        Policy,
        Openness,
        Congestion,
        Cipher,
        Handover,
        Signaling,
        ServiceName,
        Family,
        Measure,
        Protocol,
        Towards,
        HostClock,
        Over,
    ];
    for name in enums() {
        assert!(words.iter().any(|(known, _)| *known == name), "the enum `{name}` is not in this test");
    }
    let others = ["udp4501", "stream", "datagram", "compact", "blind", "terminating"];
    let words = words.into_iter().flat_map(|(_, words)| words).chain(ACTIONS.iter().copied()).chain(others);
    for word in words {
        assert!(README.contains(&format!("`\"{word}\"`")), "{word}");
    }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|word| name(*word)).collect()
}

#[test]
fn the_readme_names_every_column_and_field() {
    let fields = Field::ALL.into_iter().chain(Field::OF_CBC);
    let fields = fields.map(|field| toml::Value::try_from(field).unwrap().as_str().unwrap().to_owned());
    let columns = Measure::ALL.iter().flat_map(|measure| Row::columns(*measure)).map(|&c| c.to_owned());
    for word in columns.chain(fields) {
        assert!(README.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_readmes_scenario_is_one() {
    let text = README.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let document = crate::Document::parse("README", text).unwrap();
    assert_eq!(crate::Plan::expand(&document, &[]).unwrap().cells.len(), 1);
    for sweep in README.split("```toml\n").skip(2) {
        let sweep = sweep.split("```").next().unwrap();
        let document = crate::Document::parse("README", &format!("{text}{sweep}")).unwrap();
        assert!(crate::Plan::expand(&document, &[]).unwrap().cells.len() > 1);
    }
}
