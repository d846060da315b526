use super::super::apps::*;
use super::*;
use crate::net::{BoxId, Engine, EventEngine, Network, NetworkBuilder, TapMode, TapSummary, TurmoilEngine, WireConfig};

/// Two hosts on a wire that delays, jitters, loses and has a rate.
fn network() -> (Network, [BoxId; 2]) {
    let mut builder = NetworkBuilder::new(11);
    let hosts = [0, 1].map(|side| {
        let host = Host::new(config(side, 7), Toy::new(side));
        builder.add_box(["a", "b"][side], Box::new(host))
    });
    let wire = WireConfig {
        jitter: Duration::from_micros(700),
        loss: 0.01,
        rate_bps: Some(20_000_000),
        ..WireConfig::new(Duration::from_micros(3100))
    };
    builder.tap(TapMode::Digest).add_wire((hosts[0], 0), (hosts[1], 0), wire, wire);
    (builder.build().unwrap(), hosts)
}

fn run(engine: &mut dyn Engine, hosts: [BoxId; 2]) -> (Vec<AppReport>, BTreeMap<String, TapSummary>) {
    for side in hosts {
        engine.with(side, |now, host: &mut Host<Toy>| host.command(now, Order::Register));
    }
    let b = |family| Target::Name(name("b.test"), family);
    let apps = [
        App::Echo(b(Family::V4), Echo { count: 3, ..Echo::default() }),
        App::Flow(
            b(Family::V6),
            Flow { count: 200, interval: Duration::from_millis(10), payload: 64, end: FlowEnd::Echo },
        ),
        App::Transfer(b(Family::V6), Transfer { bytes: 1_000_000, seed: 1, rate_bps: None }),
    ];
    let ids = engine.with(hosts[0], |now, host: &mut Host<Toy>| {
        let connect = StreamOutput::Connect { remote: socket("192.0.2.2:4433") };
        host.command(now, Order::Stream(StreamId(1), connect));
        host.command(now, Order::Stream(StreamId(1), StreamOutput::Write(vec![1; 5000])));
        apps.map(|app| host.start(now, app))
    });
    engine.run_until(ms(15_000));
    let reports = engine.with(hosts[0], |_, host: &mut Host<Toy>| {
        assert!(data_of_echo(host) == vec![1; 5000]);
        ids.map(|id| host.report(id).clone()).to_vec()
    });
    (reports, engine.network().taps())
}

fn data_of_echo(host: &Host<Toy>) -> Vec<u8> {
    let data = host.machine().streams.iter().filter_map(|(_, input)| match input {
        StreamInput::Data(data) => Some(data.clone()),
        _ => None,
    });
    data.flatten().collect()
}

#[test]
fn both_engines_give_the_same_reports_and_bytes() {
    let (network_a, hosts) = network();
    let events = run(&mut EventEngine::new(network_a), hosts);
    let (network_b, hosts) = network();
    let turmoil = run(&mut TurmoilEngine::new(network_b), hosts);
    assert_eq!(events.1.values().map(|tap| tap.packets).min().map(|packets| packets > 300), Some(true));
    assert!(events.0[2].transfer().unwrap().ok(), "{:?}", events.0[2]);
    assert!(events.0.iter().all(|report| report.finished.is_some()));
    assert!(events == turmoil);
}
