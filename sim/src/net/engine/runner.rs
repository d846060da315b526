//! One box with its inbox, its timer and the wires it sends into: the unit that both engines run.
//!
//! A runner handles all packets of an instant at once, in the order (interface, number on the wire), and its timer
//! after them. A daemon does the same: when it wakes up, it finds every packet that has arrived. A runner shares
//! nothing with other runners, so an engine may run it ahead of them, up to the earliest instant at which another
//! packet can arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cyphonic_core::time::Instant;

use super::bound::{Bound, MAX_EVENTS_PER_SECOND, Storm};
use crate::net::wire::Wire;
use crate::net::{BoxInput, BoxOutput, NetBox};

/// More packets than this in answer to one input count as an endless loop.
pub const MAX_SENDS_AT_ONCE: usize = 100_000;
/// More timeouts than this at one instant count as an endless loop.
pub const MAX_TIMEOUTS_AT_ONCE: usize = 10_000;

/// The outgoing direction of one wire.
pub(in crate::net) struct Lane {
    /// Box and interface of both ends: `alice:0>nat:1`.
    pub(in crate::net) name: String,
    /// Decides when a packet arrives, and whether.
    pub(in crate::net) wire: Wire,
    /// The receiving runner.
    pub(in crate::net) to: usize,
    /// The interface of the receiving box.
    pub(in crate::net) to_iface: u32,
}

/// A packet on its way to a runner.
pub(super) struct Flight {
    /// The index of the receiving runner.
    pub(super) to: usize,
    /// Queued at the receiving runner until its time has come.
    pub(super) arrival: Arrival,
}

/// A packet that arrives.
pub(super) struct Arrival {
    /// When it arrives.
    pub(super) at: Instant,
    /// The interface on which it arrives.
    pub(super) iface: u32,
    /// Its number on the wire.
    pub(super) sequence: u64,
    /// The IP packet.
    pub(super) packet: Vec<u8>,
}

impl Arrival {
    fn key(&self) -> (Instant, u32, u64) {
        (self.at, self.iface, self.sequence)
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A box with its queue of arrivals, its timer and its wires.
pub(in crate::net) struct Runner {
    name: String,
    netbox: Box<dyn NetBox>,
    inbox: BinaryHeap<Reverse<Arrival>>,
    /// By interface.
    lanes: Vec<Option<Lane>>,
    wake: Option<Instant>,
    /// The time of the last event.
    clock: Instant,
    timeouts_at_clock: usize,
    packets: u64,
    timeouts: u64,
    unwired: u64,
    /// Empty between uses; kept so that its memory is used again.
    batch: Vec<(usize, Vec<u8>)>,
    bound: Bound,
    /// Set if the box exceeded the bound and was stopped.
    storm: Option<Storm>,
}

impl Runner {
    pub(in crate::net) fn new(name: String, netbox: Box<dyn NetBox>) -> Self {
        Self {
            name,
            netbox,
            inbox: BinaryHeap::new(),
            lanes: Vec::new(),
            wake: None,
            clock: Instant::ZERO,
            timeouts_at_clock: 0,
            packets: 0,
            timeouts: 0,
            unwired: 0,
            batch: Vec::new(),
            bound: Bound::new(MAX_EVENTS_PER_SECOND),
            storm: None,
        }
    }

    pub(in crate::net) fn set_most_events(&mut self, most: u64) {
        self.bound = Bound::new(most);
    }

    /// Why the box was stopped, if it was.
    pub(in crate::net) fn storm(&self) -> Option<&Storm> {
        self.storm.as_ref()
    }

    /// Counts one event. Beyond the bound the runner is stopped.
    fn admits(&mut self, now: Instant) -> bool {
        if self.storm.is_none() && !self.bound.admits(now) {
            let lanes = self.lanes.iter().flatten().map(|lane| (lane.wire.stats().packets, lane));
            let busiest = lanes.filter(|(packets, _)| *packets > 0).max_by_key(|(packets, _)| *packets);
            self.storm = Some(Storm {
                at: now,
                netbox: self.name.clone(),
                busiest: busiest.map(|(_, lane)| lane.name.clone()),
                events: self.bound.most(),
            });
            self.inbox.clear();
        }
        self.storm.is_none()
    }

    pub(in crate::net) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::net) fn netbox_mut(&mut self) -> &mut dyn NetBox {
        self.netbox.as_mut()
    }

    pub(in crate::net) fn attach(&mut self, iface: usize, lane: Lane) {
        if self.lanes.len() <= iface {
            self.lanes.resize_with(iface + 1, || None);
        }
        self.lanes[iface] = Some(lane);
    }

    pub(in crate::net) fn lane(&self, iface: usize) -> Option<&Lane> {
        self.lanes.get(iface)?.as_ref()
    }

    pub(in crate::net) fn lane_mut(&mut self, iface: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(iface)?.as_mut()
    }

    /// Packets handled so far.
    pub(in crate::net) fn packets(&self) -> u64 {
        self.packets
    }

    /// Timeouts handled so far.
    pub(in crate::net) fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// Packets sent so far out of interfaces without a wire.
    pub(in crate::net) fn unwired(&self) -> u64 {
        self.unwired
    }

    /// Queues a packet that will arrive.
    pub(super) fn accept(&mut self, arrival: Arrival) {
        debug_assert!(arrival.at >= self.clock, "{}: a packet from the past", self.name);
        if self.storm.is_some() {
            return;
        }
        self.inbox.push(Reverse(arrival));
    }

    /// The time of the next event.
    pub(super) fn next(&self) -> Option<Instant> {
        let packet = self.inbox.peek().map(|Reverse(arrival)| arrival.at);
        let timer = self.wake.map(|wake| wake.max(self.clock));
        match (packet, timer) {
            (Some(packet), Some(timer)) => Some(packet.min(timer)),
            (packet, timer) => packet.or(timer),
        }
    }

    /// Handles every event before `limit`. Sent packets go to `flights`.
    pub(super) fn run(&mut self, limit: Instant, flights: &mut Vec<Flight>) {
        while let Some(now) = self.next().filter(|&now| now < limit) {
            if now > self.clock {
                self.timeouts_at_clock = 0;
            }
            self.clock = now;
            if !self.admits(now) {
                self.wake = None;
                return;
            }
            while let Some(Reverse(arrival)) = self.inbox.peek()
                && arrival.at <= now
                && (self.batch.is_empty() || self.admits(now))
            {
                let Reverse(Arrival { iface, packet, .. }) = self.inbox.pop().expect("just seen");
                self.batch.push((iface as usize, packet));
            }
            if self.batch.is_empty() {
                self.timeouts += 1;
                self.timeouts_at_clock += 1;
                assert!(
                    self.timeouts_at_clock <= MAX_TIMEOUTS_AT_ONCE,
                    "box {:?} wants to be woken again and again at {now}",
                    self.name
                );
                self.wake = None;
                self.netbox.handle_input(now, BoxInput::Timeout);
            } else {
                self.packets += self.batch.len() as u64;
                self.netbox.handle_packets(now, &mut self.batch);
                self.batch.clear();
            }
            self.drain(now, flights);
        }
    }

    /// Polls the box until it waits. It has to be called after every change to the box at `now`.
    pub(super) fn drain(&mut self, now: Instant, flights: &mut Vec<Flight>) {
        self.clock = now;
        let mut sent = 0;
        loop {
            match self.netbox.poll_output() {
                BoxOutput::Wait(wake) => {
                    self.wake = wake.filter(|_| self.storm.is_none());
                    return;
                }
                BoxOutput::Send { iface, packet } => {
                    sent += 1;
                    assert!(sent <= MAX_SENDS_AT_ONCE, "box {:?} sends without end at {now}", self.name);
                    if !self.admits(now) {
                        continue;
                    }
                    let Some(lane) = self.lanes.get_mut(iface).and_then(Option::as_mut) else {
                        self.unwired += 1;
                        continue;
                    };
                    let (to, iface) = (lane.to, lane.to_iface);
                    lane.wire.send(now, packet, |passage, packet| {
                        let (at, sequence) = (passage.arrives, passage.sequence);
                        flights.push(Flight { to, arrival: Arrival { at, iface, sequence, packet } });
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use super::*;

    /// A box that sends, or asks to be woken, without end.
    struct Endless {
        sends: bool,
    }

    impl NetBox for Endless {
        fn handle_input(&mut self, _now: Instant, _input: BoxInput) {}
        fn poll_output(&mut self) -> BoxOutput {
            if self.sends {
                BoxOutput::Send { iface: 0, packet: Vec::new() }
            } else {
                BoxOutput::Wait(Some(Instant::ZERO))
            }
        }
        fn as_any_mut(&mut self) -> &mut dyn Any {
            self
        }
    }

    #[test]
    #[should_panic(expected = "box \"loop\" sends without end")]
    fn a_box_that_sends_without_end_is_named() {
        Runner::new("loop".into(), Box::new(Endless { sends: true })).drain(Instant::ZERO, &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "box \"loop\" wants to be woken again and again")]
    fn a_box_that_is_woken_without_end_is_named() {
        let mut runner = Runner::new("loop".into(), Box::new(Endless { sends: false }));
        runner.drain(Instant::ZERO, &mut Vec::new());
        runner.run(Instant::from_millis(1), &mut Vec::new());
    }

    /// A box that records its inputs.
    #[derive(Default)]
    struct Log(Vec<(u64, Option<(usize, u8)>)>);

    impl NetBox for Log {
        fn handle_input(&mut self, now: Instant, input: BoxInput) {
            self.0.push((
                now.as_nanos(),
                match input {
                    BoxInput::Packet { iface, packet } => Some((iface, packet[0])),
                    BoxInput::Timeout => None,
                },
            ));
        }
        fn poll_output(&mut self) -> BoxOutput {
            BoxOutput::Wait((self.0.len() < 5).then_some(Instant::from_nanos(20)))
        }
        fn as_any_mut(&mut self) -> &mut dyn Any {
            self
        }
    }

    #[test]
    fn events_come_by_time_interface_and_number_and_the_timer_last() {
        let mut runner = Runner::new("log".into(), Box::new(Log::default()));
        runner.drain(Instant::ZERO, &mut Vec::new());
        for (at, iface, sequence) in [(20, 1, 2), (20, 1, 1), (20, 0, 9), (10, 5, 1), (30, 0, 10)] {
            let packet = vec![sequence as u8];
            runner.accept(Arrival { at: Instant::from_nanos(at), iface, sequence, packet });
        }
        runner.run(Instant::from_nanos(30), &mut Vec::new());
        assert_eq!(runner.next(), Some(Instant::from_nanos(30)));
        assert_eq!((runner.packets(), runner.timeouts()), (4, 1));
        let log = runner.netbox_mut().as_any_mut().downcast_mut::<Log>().unwrap();
        let expected = [(10, Some((5, 1))), (20, Some((0, 9))), (20, Some((1, 1))), (20, Some((1, 2))), (20, None)];
        assert_eq!(log.0, expected);
    }
}
