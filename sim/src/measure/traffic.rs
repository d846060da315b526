//! The packets of each host during the last `wait` step.

use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::{Millis, Traffic};
use cyphonic_scenarios::{Action, Row, Scenario};

use super::MeasureError;
use crate::host::Host;
use crate::net::Tapped;
use crate::run::Run;
use crate::world::Actor;

pub(super) fn rows(scenario: &Scenario, run: &Run) -> Result<Vec<Row>, MeasureError> {
    let waits = scenario.steps.iter().zip(&run.steps).rev();
    let mut spans = waits.filter_map(|(step, report)| match step.action {
        Action::Wait(lasts) if !lasts.is_zero() => Some((report.started, report.started + lasts)),
        _ => None,
    });
    let (begin, end) = spans.next().ok_or(MeasureError::NoWait)?;
    let rows = run.world.actors().into_iter().map(|actor| row(scenario, run, actor, begin, end));
    Ok(rows.map(Row::Traffic).collect())
}

fn row(scenario: &Scenario, run: &Run, actor: Actor, begin: Instant, end: Instant) -> Traffic {
    let during = |at: &Instant| (begin..end).contains(at);
    let station = run.world.station(actor);
    let network = run.world.network();
    let sum = |lengths: Vec<usize>| (lengths.len() as u64, lengths.iter().sum::<usize>() as u64);
    let sent = run.world.sent(station).into_iter();
    let (sent_packets, sent_bytes) = sum(sent.filter(|p| during(&p.departs)).map(|p| p.packet.len()).collect());
    let came: Vec<Tapped> = station.wires.iter().flat_map(|wire| network.take_tapped(wire.reversed())).collect();
    let arrivals = came.iter().filter_map(Tapped::arrival);
    let (received_packets, received_bytes) =
        sum(arrivals.filter(|(at, _)| during(at)).map(|(_, packet)| packet.len()).collect());
    let (host, datagrams) = match actor {
        Actor::Auth => ("as".to_owned(), 0),
        Actor::Nms => ("nms".to_owned(), 0),
        Actor::Trs => ("trs".to_owned(), 0),
        Actor::Node(node) => {
            let arrived = |host: &Host<_>| {
                let flows = host.flows().map(|(.., arrivals)| arrivals);
                flows.map(|arrivals| arrivals.order().iter().filter(|(_, at)| during(at)).count()).sum::<usize>()
            };
            (scenario.nodes[node].name.short().to_owned(), run.world.look(node, arrived) as u64)
        }
    };
    Traffic {
        host,
        span_ms: Millis::new(end - begin),
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
        datagrams,
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_scenarios::{Engine, first_cell, two_nodes};

    use super::*;
    use crate::measure::{rows, watch_for};
    use crate::run::run;

    /// A flow of 100 datagrams a second, of which the step sees two seconds.
    fn traffic(steps: &str) -> Vec<Traffic> {
        let site = "kind = \"ipv6\"\nlink = { delay_ms = 5 }";
        let text = two_nodes("engine = \"events\"\nframing = \"udp4501\"", [site, site], steps);
        let text = text.replacen("measure = \"outcome\"", "measure = \"traffic\"", 1);
        let scenario = first_cell("traffic", &text).unwrap();
        let watch = watch_for(scenario.measure);
        let run = run(&scenario, 1, Engine::Events, &watch);
        let rows = rows(&scenario, &run, &watch).unwrap();
        let traffic = rows.into_iter().map(|row| match row {
            Row::Traffic(traffic) => traffic,
            other => panic!("{other:?}"),
        });
        traffic.collect()
    }

    #[test]
    fn what_flows_during_the_last_wait_is_counted_at_both_ends_and_nothing_before() {
        let start = "[[step]]\ndo = \"start\"\n\n[[step]]\ndo = \"wait\"\nms = 1000\n\n";
        let flow = "[[step]]\nat_ms = 3000\ndo = \"udp\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 500\ninterval_ms = 10\n\
                    payload_bytes = 100\n\n";
        let wait = "[[step]]\nat_ms = 4000\ndo = \"wait\"\nms = 2000\n";
        let rows = traffic(&format!("{start}{flow}{wait}"));
        assert_eq!(rows.iter().map(|row| row.host.as_str()).collect::<Vec<_>>(), ["as", "nms", "trs", "alice", "bob"]);
        let (alice, bob) = (&rows[3], &rows[4]);
        assert_eq!(alice.span_ms.to_string(), "2000.000");
        assert_eq!((alice.datagrams, bob.datagrams), (0, 200));
        // 40 IPv6, 8 UDP, 32 header, 40 + 8 + 100 inner, 16 HMAC; one keep-alive at most besides.
        assert!((200..=202).contains(&alice.sent_packets), "{alice:?}");
        assert!((200 * 244..200 * 244 + 500).contains(&alice.sent_bytes), "{alice:?}");
        assert_eq!((bob.received_packets, bob.received_bytes), (alice.sent_packets, alice.sent_bytes));
        assert_eq!((rows[2].sent_packets, rows[2].received_packets), (0, 0), "no relay has to do with it");
        let quiet = traffic(&format!("{start}{flow}{wait}\n[[step]]\nat_ms = 20000\ndo = \"wait\"\nms = 1000\n"));
        assert!(quiet.iter().all(|row| row.datagrams == 0), "{quiet:?}");
    }
}
