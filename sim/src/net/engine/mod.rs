//! The two drivers of a network. Both use the same runners and give the same bytes at one nanosecond on every wire;
//! a test holds them to it.
//!
//! - [`EventEngine`] is a plain discrete-event loop: for sweeps, long runs and many nodes.
//! - [`TurmoilEngine`] runs every box as a host of turmoil, the wires inside its UDP datagrams: the reference.
//!
//! Boxes need no global order of events. A wire delays by at least [`MIN_DELAY`](super::MIN_DELAY), so within that time
//! no box can reach another, and each can be run alone.

mod bound;
mod events;
pub(super) mod runner;
mod turmoil;

use cyphonic_core::time::Instant;

pub use bound::{MAX_EVENTS_PER_SECOND, Storm};
pub use events::EventEngine;
pub use runner::{MAX_SENDS_AT_ONCE, MAX_TIMEOUTS_AT_ONCE};
pub use turmoil::TurmoilEngine;

use super::{BoxId, Direction, NetBox, Network, PathConfig, WireConfig, WireError};

/// A driver of a network.
///
/// Time advances by runs: [`run_until`](Self::run_until) handles every event before an instant. Between runs the
/// harness acts at that instant, before the events of that instant.
pub trait Engine {
    /// Where the last run ended.
    fn now(&self) -> Instant;

    /// Handles every event before `until`.
    ///
    /// # Panics
    /// If `until` is no whole number of milliseconds, or before [`now`](Self::now).
    fn run_until(&mut self, until: Instant);

    /// The earliest instant at which something may happen by itself; `None` if nothing ever will. The present if the
    /// engine does not know.
    fn quiet_until(&self) -> Option<Instant> {
        Some(self.now())
    }

    /// Lets `f` act on a box at the present time, then sends what the box has to send.
    fn with_box(&mut self, id: BoxId, f: &mut dyn FnMut(Instant, &mut dyn NetBox));

    /// Changes how a direction of a wire behaves, for packets sent from now on.
    fn set_wire(&mut self, direction: Direction, config: WireConfig) -> Result<(), WireError>;

    /// Gives a path through a direction of a wire its own behaviour for packets sent from now on, or takes it away.
    fn set_path(&mut self, direction: Direction, name: &str, path: Option<PathConfig>) -> Result<(), WireError> {
        self.network().set_path(direction, name, path)
    }

    /// Takes a direction of a wire down or up. Packets that are already on the wire still arrive.
    fn set_wire_up(&mut self, direction: Direction, up: bool);

    /// Names, taps and counters.
    fn network(&self) -> &Network;
}

impl dyn Engine + '_ {
    /// Lets `f` act on a box that is known to be a `T`.
    ///
    /// # Panics
    /// If it is something else.
    pub fn with<T: NetBox + 'static, R>(&mut self, id: BoxId, f: impl FnOnce(Instant, &mut T) -> R) -> R {
        let (mut f, mut result) = (Some(f), None);
        self.with_box(id, &mut |now, netbox| {
            let netbox = netbox.as_any_mut().downcast_mut().expect("a box of the type asked for");
            result = f.take().map(|f| f(now, netbox));
        });
        result.expect("an engine calls back once")
    }

    /// Looks at a box that is known to be a `T`. It is cheap: the box is not polled.
    ///
    /// # Panics
    /// If it is something else.
    pub fn look<T: NetBox + 'static, R>(&self, id: BoxId, f: impl FnOnce(&T) -> R) -> R {
        let mut runner = self.network().runners[id.0].borrow_mut();
        f(runner.netbox_mut().as_any_mut().downcast_ref().expect("a box of the type asked for"))
    }
}

fn check_run(now: Instant, until: Instant) {
    assert!(until.as_nanos().is_multiple_of(1_000_000), "runs end at whole milliseconds, not at {until}");
    assert!(until >= now, "time does not go back from {now} to {until}");
}
