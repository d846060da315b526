//! What a move costs: how long nothing was delivered, what was lost, and what was said until packets flowed again.
//!
//! The scenario has numbered datagrams under way in both directions when nodes move (`do = "udp"`). What arrived is
//! counted at their receivers. Signaling is what left a node from the move until both directions delivered again and
//! carried none of those datagrams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::event::{Event, TunnelUp};
use cyphonic_core::route::Pattern;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::{Handover, Millis, Mover, Used};
use cyphonic_scenarios::{Action, Pair, Probes, Row, Scenario, Service};

use super::MeasureError;
use crate::host::apps::{Arrivals, FlowReport};
use crate::net::packet::{Ip, Transport};
use crate::run::{Run, StepOutcome};

/// How many bytes a framing adds to a datagram inside a UDP datagram at most: the CYPHONIC header and HMAC (48), or a
/// short header with a connection ID of 12, a packet number, a STREAM frame's header and the tag (45) with the header,
/// and an ACK frame that rides along.
const MOST_OVERHEAD: usize = 110;

/// The first datagrams after a gap measure the path on which delivery began again; another may follow soon.
const SOON: Duration = Duration::from_millis(100);

/// One direction of the traffic.
struct Course<'a> {
    probes: &'a Probes,
    sent: &'a FlowReport,
    arrivals: Arrivals,
    /// When its first and its last datagram was sent.
    started: Instant,
    ended: Instant,
}

impl Course<'_> {
    fn lost(&self) -> u64 {
        (self.sent.sent + self.sent.unsent).saturating_sub(self.arrivals.received)
    }

    /// The shortest way of the datagrams that were sent soon after the gap, which is over at `over`. If none of these
    /// arrived: of all that were sent after the move.
    fn shortest_after(&self, moved: Instant, over: Instant) -> Option<Duration> {
        let sent = |number: u64| self.started + self.probes.interval * u32::try_from(number).unwrap_or(u32::MAX);
        let all = self.arrivals.order().iter().map(|&(number, at)| (sent(number), at));
        let from = over.max(moved);
        let soon = all.clone().filter(|(sent, _)| *sent >= from && *sent < from + SOON);
        let later = all.filter(|(sent, _)| *sent >= moved);
        let way = |(sent, at): (Instant, Instant)| at - sent;
        soon.map(way).min().or_else(|| later.map(way).min())
    }

    /// The longest time without delivery: its beginning and its end. What ends without delivery lasts to the last
    /// datagram.
    fn gap(&self) -> (Instant, Instant) {
        let tail = self.arrivals.last.map_or((self.ended, self.ended), |last| (last, self.ended.max(last)));
        let within = self.arrivals.longest_gap_began.map(|began| (began, began + self.arrivals.longest_gap));
        within.filter(|(began, over)| *over - *began >= tail.1 - tail.0).unwrap_or(tail)
    }
}

pub(super) fn rows(scenario: &Scenario, run: &Run) -> Result<Vec<Row>, MeasureError> {
    let (there, back) = courses(scenario, run).ok_or(MeasureError::NoFlows)?;
    let pair = there.probes.pair;
    let moved = scenario.steps.iter().zip(&run.steps).filter_map(|(step, report)| match step.action {
        Action::Move { node, .. } => Some((node, report.started)),
        _ => None,
    });
    let moved: Vec<(usize, Instant)> = moved.collect();
    let at = moved.first().map(|(_, at)| *at);
    let ups = tunnels(scenario, run, pair);
    let before = ups.iter().rfind(|(up_at, _)| at.is_none_or(|at| *up_at <= at)).map(|(_, up)| *up);
    // A node that moves changes over to another path at once.
    let after = |other: &Instant| at.is_some_and(|at| *other >= at);
    let rebuilt = ups.iter().any(|(up_at, _)| after(up_at));
    let paths = paths(scenario, run, pair);
    let used = match paths.iter().any(|(path_at, _)| after(path_at)) {
        _ if rebuilt => Some(Used::Rebuild),
        true if scenario.handover == cyphonic_scenarios::Handover::Migrate => Some(Used::Migrate),
        true => Some(Used::Seamless),
        false => None,
    };
    let gaps = [there.gap(), back.gap()];
    let over = gaps.iter().map(|gap| gap.1).max().unwrap_or(Instant::ZERO);
    let bound = at.and_then(|at| Some(there.shortest_after(at, over)? + back.shortest_after(at, over)?));
    let signaling = at.map(|at| signaling(scenario, run, there.probes, at..=over));
    let (packets, bytes) = signaling.unwrap_or_default();
    Ok(vec![Row::Handover(Handover {
        mover: mover(&moved.iter().map(|(node, _)| *node).collect::<Vec<_>>(), pair, before),
        pattern: paths.iter().rfind(|(path_at, _)| at.is_none_or(|at| *path_at < at)).map(|(_, pattern)| *pattern),
        pattern_after: paths.last().map(|(_, pattern)| *pattern),
        used,
        gap_ms: millis(gaps[0]),
        gap_back_ms: millis(gaps[1]),
        bound_ms: bound.map(Millis::new),
        sent: there.sent.sent + there.sent.unsent + back.sent.sent + back.sent.unsent,
        lost: there.lost() + back.lost(),
        duplicated: there.arrivals.duplicates + back.arrivals.duplicates,
        reordered: there.arrivals.reordered + back.arrivals.reordered,
        signaling_packets: packets,
        signaling_bytes: bytes,
    })])
}

fn millis((began, over): (Instant, Instant)) -> Millis {
    Millis::new(over - began)
}

/// The first flow, and the first one of the same pair in the other direction.
fn courses<'a>(scenario: &'a Scenario, run: &'a Run) -> Option<(Course<'a>, Course<'a>)> {
    let flows = || {
        scenario.steps.iter().zip(&run.steps).filter_map(|(step, report)| match (&step.action, &report.outcome) {
            (Action::Udp(probes), StepOutcome::App(_, app)) if probes.count > 1 => {
                Some((probes, app.flow()?, app.started))
            }
            _ => None,
        })
    };
    let course = |(probes, sent, started): (&'a Probes, &'a FlowReport, Instant)| {
        let arrivals = run.world.look(probes.pair.to, |host| {
            host.flows().find(|(_, flow, _)| *flow == sent.flow).map(|(_, _, arrivals)| arrivals.clone())
        });
        let ended = started + probes.interval * probes.count.saturating_sub(1);
        Course { probes, sent, arrivals: arrivals.unwrap_or_default(), started, ended }
    };
    let there = flows().next()?;
    let pair = there.0.pair;
    let back = flows().find(|(probes, ..)| (probes.pair.from, probes.pair.to) == (pair.to, pair.from))?;
    Some((course(there), course(back)))
}

/// When the pair's tunnels came up at its first node.
fn tunnels<'a>(scenario: &Scenario, run: &'a Run, pair: Pair) -> Vec<(Instant, &'a TunnelUp)> {
    let (from, to) = (&scenario.nodes[pair.from].name, &scenario.nodes[pair.to].name);
    let up = |(at, host, event): &'a (Instant, String, Event)| match event {
        Event::TunnelUp(up) if host == from.short() && up.peer == *to => Some((*at, up)),
        _ => None,
    };
    run.events.iter().filter_map(up).collect()
}

/// When packets began to go by another path at the pair's first node, and the pattern of that path.
fn paths(scenario: &Scenario, run: &Run, pair: Pair) -> Vec<(Instant, Pattern)> {
    let (from, to) = (&scenario.nodes[pair.from].name, &scenario.nodes[pair.to].name);
    let path = |(at, host, event): &(Instant, String, Event)| {
        let (_, pattern) = event.path().filter(|(peer, _)| host == from.short() && *peer == to)?;
        Some((*at, pattern))
    };
    run.events.iter().filter_map(path).collect()
}

/// Which side of the tunnel in use moved.
fn mover(moved: &[usize], pair: Pair, before: Option<&TunnelUp>) -> Mover {
    let dialer = before.map_or(pair.from, |up| if up.dialed { pair.from } else { pair.to });
    let has = |node| moved.contains(&node);
    match (has(pair.from), has(pair.to)) {
        (false, false) => Mover::None,
        (true, true) => Mover::Both,
        (first, _) if first == (dialer == pair.from) => Mover::Client,
        _ => Mover::Server,
    }
}

/// How many packets and bytes left the nodes in that time that carry none of the traffic's datagrams.
fn signaling(scenario: &Scenario, run: &Run, probes: &Probes, during: std::ops::RangeInclusive<Instant>) -> (u64, u64) {
    let (mut packets, mut bytes) = (0, 0);
    for station in &run.world.nodes {
        for tapped in run.world.sent(station).iter().filter(|tapped| during.contains(&tapped.departs)) {
            if !carries_traffic(scenario, probes, &tapped.packet) {
                packets += 1;
                bytes += tapped.packet.len() as u64;
            }
        }
    }
    (packets, bytes)
}

/// Whether a packet has the length of one with the traffic inside, and goes to where such packets go.
fn carries_traffic(scenario: &Scenario, probes: &Probes, packet: &[u8]) -> bool {
    let Some((ip, Some(Transport::Udp { source, destination }))) = Ip::parse(packet).map(|ip| (ip, ip.transport()))
    else {
        return false;
    };
    let [source, destination] = [SocketAddr::new(ip.source, source), SocketAddr::new(ip.destination, destination)];
    let is_of = |service: &Service| {
        [source, destination].iter().any(|at| at.ip() == IpAddr::V4(service.v4) || at.ip() == service.v6)
    };
    let payload = ip.payload.get(8..).unwrap_or_default();
    // IPv6 and UDP headers are inside.
    let inner = usize::from(probes.payload_bytes) + 48;
    let is_handshake = payload.first().is_some_and(|first| first & 0xc0 == 0xc0);
    let fits = (inner..=inner + MOST_OVERHEAD).contains(&payload.len());
    fits && !is_handshake && !is_of(&scenario.services.auth) && !is_of(&scenario.services.nms)
}

#[cfg(test)]
mod tests {
    use cyphonic_core::route::Pattern;
    use cyphonic_scenarios::{Document, Engine, Plan};

    use super::*;
    use crate::measure::{rows, watch_for};
    use crate::run::run;

    /// The rows of `mobility` with these values at its sweep, for one seed.
    fn measured(sets: &[(&str, &str)]) -> Vec<Handover> {
        let few = [("link.delay_ms", "12.5"), ("link.loss", "0")];
        let sets = few.iter().chain(sets).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let plan = Plan::expand(&Document::embedded("mobility").unwrap(), &sets.collect::<Vec<_>>()).unwrap();
        let watch = watch_for(plan.measure);
        let measure = |scenario: &Scenario| match &rows(scenario, &run(scenario, 1, Engine::Events, &watch), &watch)
            .unwrap()[..]
        {
            [Row::Handover(row)] => row.clone(),
            other => panic!("{other:?}"),
        };
        plan.cells.iter().map(|cell| measure(&cell.scenario)).collect()
    }

    /// Of the course whose mover, and kinds of networks before and after, these are: the row of a strategy.
    fn moved(framing: &str, handover: &str, skip: [&str; 2], sites: [&str; 4]) -> Handover {
        let [alice, bob, a_away, b_away] = sites;
        let sets = [
            ("framing", framing),
            ("handover", handover),
            ("step.4.skip", skip[0]),
            ("step.5.skip", skip[1]),
            ("node.alice.site", alice),
            ("node.bob.site", bob),
            ("step.4.to", a_away),
            ("step.5.to", b_away),
        ];
        let rows = measured(&sets);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    #[test]
    fn a_client_migrates_where_rfc_9000_has_an_answer_and_all_else_is_rebuilt_and_says_so() {
        let (client, server, both) = (["false", "true"], ["true", "false"], ["false", "false"]);
        let global = ["a-home-global", "b-home-global", "a-away-global", "b-away-global"];
        let nat = ["a-home-nat", "b-home-global", "a-away-nat", "b-away-global"];
        let relayed = ["a-home-nat", "b-home-nat", "a-away-nat", "b-away-nat"];
        let ends = ["a-home-v6", "b-home-v6", "a-away-nat", "b-away-v6"];
        let cases = [
            (client, global, Mover::Client, Used::Migrate),
            (client, nat, Mover::Client, Used::Migrate),
            (server, global, Mover::Server, Used::Rebuild),
            (both, global, Mover::Both, Used::Rebuild),
            (client, relayed, Mover::Client, Used::Rebuild),
            (client, ends, Mover::Client, Used::Rebuild),
        ];
        for framing in ["stream", "compact"] {
            for (skip, sites, mover, used) in cases {
                let row = moved(framing, "migrate", skip, sites);
                assert_eq!((row.mover, row.used), (mover, Some(used)), "{framing} {sites:?}: {row:?}");
                let longer = row.gap_ms.as_f64().max(row.gap_back_ms.as_f64());
                let (least, most) = if used == Used::Migrate { (50.0, 130.0) } else { (400.0, 900.0) };
                assert!((least..most).contains(&longer), "{framing} {sites:?}: {row:?}");
            }
        }
    }

    #[test]
    fn both_nodes_may_move_at_once_on_a_stream_and_wait_for_no_probe_timeout() {
        for sites in [
            ["a-home-nat", "b-home-nat", "a-away-nat", "b-away-nat"],
            ["a-home-global", "b-home-global", "a-away-nat", "b-away-nat"],
        ] {
            let row = moved("stream", "seamless", ["false", "false"], sites);
            assert_eq!((row.mover, row.used), (Mover::Both, Some(Used::Seamless)), "{row:?}");
            let longer = row.gap_ms.as_f64().max(row.gap_back_ms.as_f64());
            assert!(longer < 450.0, "{sites:?}: {row:?}");
        }
    }

    #[test]
    fn nobody_moves_and_nothing_is_missed() {
        let stays = [
            ("framing", "stream"),
            ("handover", "rebuild"),
            ("step.4.skip", "true"),
            ("step.5.skip", "true"),
            ("node.bob.site", "b-home-global"),
        ];
        for row in measured(&stays) {
            assert_eq!((row.mover, row.used, row.lost, row.sent), (Mover::None, None, 0, 2400), "{row:?}");
            assert_eq!((row.pattern, row.signaling_packets), (row.pattern_after, 0), "{row:?}");
            // Ten milliseconds, and what two links' jitter adds.
            assert!(row.gap_ms.as_f64() < 12.0 && row.gap_back_ms.as_f64() < 12.0, "{row:?}");
        }
    }

    #[test]
    fn a_move_interrupts_both_directions_and_is_told_from_the_traffic() {
        let moves = [
            ("framing", "compact"),
            ("handover", "rebuild"),
            ("step.4.skip", "false"),
            ("step.5.skip", "true"),
            ("step.4.to", "a-away-global"),
        ];
        let rows = measured(&moves);
        assert_eq!(rows.len(), 1, "{rows:?}");
        let row = &rows[0];
        // The new address is not proved yet, so delivery begins again through the relay: 100 ms.
        assert!(row.bound_ms.is_some_and(|bound| (99.0..104.0).contains(&bound.as_f64())), "{row:?}");
        assert_eq!((row.mover, row.used), (Mover::Client, Some(Used::Rebuild)), "{row:?}");
        assert_eq!((row.pattern, row.pattern_after), (Some(Pattern::Direct), Some(Pattern::Direct)), "{row:?}");
        // A round trip is 50 ms, and a registration and a tunnel take several.
        assert!(row.gap_ms.as_f64() > 100.0 && row.gap_back_ms.as_f64() > 100.0, "{row:?}");
        assert!(row.lost > 0 && row.lost < 400, "{row:?}");
        // Two handshakes of QUIC at least, each with three padded datagrams, and none of the datagrams of 600 bytes.
        assert!((4 * 1200..60_000).contains(&row.signaling_bytes) && row.signaling_packets > 8, "{row:?}");
    }
}
