//! The discrete-event loop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cyphonic_core::time::Instant;

use super::runner::Flight;
use super::{Engine, check_run};
use crate::net::{BoxId, Direction, MIN_DELAY, NetBox, Network, WireConfig, WireError};

/// Runs a network as fast as the machine can.
///
/// The box with the earliest event runs alone for [`MIN_DELAY`]. No other box has an earlier event, and a packet takes
/// at least that long, so no packet can arrive at it in that time.
pub struct EventEngine {
    network: Network,
    now: Instant,
    /// When each runner is to be run; entries that differ from `scheduled` are void.
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    scheduled: Vec<Option<Instant>>,
    /// Empty between uses; kept so that its memory is used again.
    flights: Vec<Flight>,
}

impl EventEngine {
    /// Polls every box at time zero.
    pub fn new(network: Network) -> Self {
        let count = network.runners.len();
        let mut engine = Self {
            network,
            now: Instant::ZERO,
            queue: BinaryHeap::new(),
            scheduled: vec![None; count],
            flights: Vec::new(),
        };
        for i in 0..count {
            engine.network.runners[i].borrow_mut().drain(Instant::ZERO, &mut engine.flights);
            engine.schedule(i);
        }
        engine.deliver();
        engine
    }

    /// Enters a runner's next event into the queue.
    fn schedule(&mut self, i: usize) {
        if let Some(at) = self.network.runners[i].borrow().next()
            && self.scheduled[i].is_none_or(|before| at < before)
        {
            self.scheduled[i] = Some(at);
            self.queue.push(Reverse((at, i)));
        }
    }

    fn deliver(&mut self) {
        for Flight { to, arrival } in self.flights.drain(..) {
            if self.scheduled[to].is_none_or(|before| arrival.at < before) {
                self.scheduled[to] = Some(arrival.at);
                self.queue.push(Reverse((arrival.at, to)));
            }
            self.network.runners[to].borrow_mut().accept(arrival);
        }
    }
}

impl Engine for EventEngine {
    fn now(&self) -> Instant {
        self.now
    }

    fn run_until(&mut self, until: Instant) {
        check_run(self.now, until);
        while let Some(&Reverse((at, i))) = self.queue.peek()
            && at < until
        {
            self.queue.pop();
            if self.scheduled[i] != Some(at) {
                continue;
            }
            self.scheduled[i] = None;
            self.network.runners[i].borrow_mut().run(until.min(at + MIN_DELAY), &mut self.flights);
            self.schedule(i);
            self.deliver();
        }
        self.now = until;
    }

    fn quiet_until(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    fn with_box(&mut self, id: BoxId, f: &mut dyn FnMut(Instant, &mut dyn NetBox)) {
        {
            let mut runner = self.network.runners[id.0].borrow_mut();
            f(self.now, runner.netbox_mut());
            runner.drain(self.now, &mut self.flights);
        }
        self.schedule(id.0);
        self.deliver();
    }

    fn set_wire(&mut self, direction: Direction, config: WireConfig) -> Result<(), WireError> {
        self.network.set_wire(direction, config)
    }

    fn set_wire_up(&mut self, direction: Direction, up: bool) {
        self.network.set_wire_up(direction, up);
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
