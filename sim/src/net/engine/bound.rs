//! The bound on the events of one box in a second. Packets that multiply without end stop the run, and the error names
//! the box.
//!
//! Each box counts its own events by its own clock, so both engines stop it at the same event. A stopped box takes and
//! sends nothing more. All others go on until the engine's run is over. The caller of the engine then asks
//! [`Network::storm`](crate::net::Network::storm).

use std::fmt;
use std::time::Duration;

use cyphonic_core::time::Instant;

/// Most events of a box in one second of simulated time: packets taken, packets sent and timeouts together. With
/// packets of 1,500 bytes that is a router that forwards 12 Gbit/s.
pub const MAX_EVENTS_PER_SECOND: u64 = 2_000_000;

const SECOND: Duration = Duration::from_secs(1);

/// A box that was stopped because it exceeded the bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// When it was stopped.
    pub at: Instant,
    /// Which box.
    pub netbox: String,
    /// The direction of a wire into which it sent most packets; `None` if it sent nothing.
    pub busiest: Option<String>,
    /// The number of its events in that second.
    pub events: u64,
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, netbox, busiest, events } = self;
        let into = busiest.as_ref().map(|wire| format!(", most of them on the wire {wire}")).unwrap_or_default();
        write!(f, "a storm that would not end: {netbox} had more than {events} packets in a second until {at}{into}")
    }
}

/// Counts the events of one box.
#[derive(Debug)]
pub(super) struct Bound {
    most: u64,
    /// The end of the second that is being counted.
    until: Instant,
    events: u64,
}

impl Bound {
    pub(super) fn new(most: u64) -> Self {
        Self { most, until: Instant::ZERO + SECOND, events: 0 }
    }

    /// Counts one event; false if it exceeds the bound.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if now >= self.until {
            let second = SECOND.as_nanos() as u64;
            self.until = Instant::from_nanos((now.as_nanos() / second + 1) * second);
            self.events = 0;
        }
        self.events += 1;
        self.events <= self.most
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        Engine, EventEngine, Network, NetworkBuilder, Router, Routes, TurmoilEngine, WireConfig, WireFaults,
        packet::{IpOptions, udp},
    };

    #[test]
    fn each_second_has_its_own_count() {
        let mut bound = Bound::new(2);
        let at = Instant::from_millis;
        assert!(bound.admits(at(10)) && bound.admits(at(999)) && !bound.admits(at(999)));
        assert!(bound.admits(at(5_000)) && bound.admits(at(5_999)) && !bound.admits(at(5_999)));
        assert!(bound.admits(at(6_000)));
    }

    /// Two routers whose default routes point to each other, and wires that duplicate every packet.
    fn endless(most: u64) -> Network {
        let mut builder = NetworkBuilder::new(1);
        builder.most_events(most);
        let router = || Box::new(Router::new(Routes::new().with("10.0.0.0/8".parse().unwrap(), 0), Vec::new()));
        let (left, right) = (builder.add_box("left", router()), builder.add_box("right", router()));
        let faults = WireFaults { duplicate: 1.0, ..WireFaults::default() };
        let wire = WireConfig { faults, ..WireConfig::new(Duration::from_millis(1)) };
        builder.add_wire((left, 0), (right, 0), wire, wire);
        builder.build().unwrap()
    }

    fn storm(mut engine: Box<dyn Engine>) -> Option<Storm> {
        let first = engine.network().boxes().next().unwrap();
        let packet = udp(
            "10.0.0.1:1".parse().unwrap(),
            "10.0.0.2:2".parse().unwrap(),
            IpOptions { ttl: 255, ..IpOptions::default() },
            b"x",
        );
        let mut packet = Some(packet.unwrap());
        engine.with_box(first, &mut |now, netbox| {
            let packet = packet.take().expect("an engine calls back once");
            netbox.handle_input(now, crate::net::BoxInput::Packet { iface: 0, packet });
        });
        engine.run_until(Instant::from_millis(400));
        engine.network().storm()
    }

    #[test]
    fn what_doubles_at_every_turn_is_stopped_at_the_same_event_on_both_engines_and_named() {
        let stopped = storm(Box::new(EventEngine::new(endless(10_000)))).expect("it doubles for ever");
        assert_eq!(storm(Box::new(TurmoilEngine::new(endless(10_000)))), Some(stopped.clone()));
        let wire = if stopped.netbox == "left" { "left:0>right:0" } else { "right:0>left:0" };
        assert_eq!(stopped.busiest.as_deref(), Some(wire));
        assert!(stopped.at < Instant::from_millis(20), "{stopped}");
        assert!(stopped.to_string().contains(wire), "{stopped}");
    }
}
