use super::*;
use crate::rows::{Field, Row};
use crate::words::{Protocol, ServiceName, SiteKind, Towards};

const README: &str = include_str!("../../README.md");

/// The keys of a table, as serde knows them: it names them all when it meets one that it does not know.
fn keys<T: for<'de> Deserialize<'de>>() -> Vec<String> {
    let Err(error) = toml::from_str::<T>("no-such-key = 1") else { panic!("unknown keys are refused") };
    assert!(error.message().starts_with("unknown field"), "{error}");
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_readme_names_every_key() {
    let tables = [
        keys::<File>(),
        keys::<Services>(),
        keys::<Link>(),
        keys::<Way>(),
        keys::<Site>(),
        keys::<BurstLoss>(),
        keys::<Outages>(),
        keys::<Nat>(),
        keys::<Nat64>(),
        keys::<Nptv6>(),
        keys::<Carrier>(),
        keys::<Firewall>(),
        keys::<Inspect>(),
        keys::<Node>(),
        keys::<Start>(),
        keys::<Probes>(),
        keys::<Tcp>(),
        keys::<Move>(),
        keys::<Detach>(),
        keys::<Rebind>(),
        keys::<Path>(),
        keys::<Wait>(),
        keys::<ProbeMtu>(),
        keys::<Idle>(),
        keys::<Restart>(),
        keys::<Stop>(),
        keys::<OfNode>(),
        keys::<Renew>(),
        keys::<Pause>(),
        keys::<Clock>(),
        keys::<AccessRules>(),
        keys::<AccessRule>(),
        ["site", "service", "carrier", "off"].map(str::to_owned).to_vec(),
        ["at_ms", "spread_ms", "skip"].map(str::to_owned).to_vec(),
    ];
    assert_eq!(
        tables.iter().map(Vec::len).collect::<Vec<_>>(),
        [25, 4, 16, 14, 12, 4, 3, 16, 17, 1, 18, 5, 8, 4, 2, 6, 4, 2, 2, 2, 16, 1, 3, 0, 2, 2, 1, 2, 2, 2, 3, 3, 4, 3]
    );
    for key in tables.iter().flatten() {
        assert!(README.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn the_readme_names_every_word() {
    let words = [
        names(Engine::ALL, Engine::name),
        names(Method::ALL, Method::name),
        names(Login::ALL, Login::name),
        names(SiteKind::ALL, SiteKind::name),
        names(Dependence::ALL, Dependence::name),
        names(PortChoice::ALL, PortChoice::name),
        names(Pooling::ALL, Pooling::name),
        names(Refresh::ALL, Refresh::name),
        names(Hairpin::ALL, Hairpin::name),
        names(IcmpErrors::ALL, IcmpErrors::name),
        names(FirewallMode::ALL, FirewallMode::name),
        names(Reaction::ALL, Reaction::name),
        names(Refusal::ALL, Refusal::name),
        names(Policy::ALL, Policy::name),
        names(Openness::ALL, Openness::name),
        names(Congestion::ALL, Congestion::name),
        names(Signaling::ALL, Signaling::name),
        names(ServiceName::ALL, ServiceName::name),
        names(Family::ALL, Family::name),
        names(Measure::ALL, Measure::name),
        names(Protocol::ALL, Protocol::name),
        names(Towards::ALL, Towards::name),
        ACTIONS.to_vec(),
        vec!["udp4501", "stream", "datagram", "compact", "blind", "terminating"],
    ];
    for word in words.iter().flatten() {
        assert!(README.contains(&format!("`\"{word}\"`")), "{word}");
    }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|word| name(*word)).collect()
}

#[test]
fn the_readme_names_every_column_and_field() {
    let fields = Field::ALL.map(|field| toml::Value::try_from(field).unwrap().as_str().unwrap().to_owned());
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
