//! A congestion controller that never limits: [`super::Congestion::Open`].
//!
//! It is for framings in which the flows inside the tunnel see losses, and react by their own congestion control
//! ([`super::Congestion::of`]). Its window is above `u32::MAX`, which also turns quinn's pacing off.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, NewRenoConfig};

/// A congestion window that never limits a sender, bytes: a terabyte in flight is beyond any path.
const WINDOW: u64 = 1 << 40;

/// Builds [`Open`].
pub(super) struct OpenFactory;

impl ControllerFactory for OpenFactory {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Open)
    }
}

/// A window that never closes.
#[derive(Clone)]
struct Open;

impl Controller for Open {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}
    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Builds `NewReno` for connections whose path may change beneath them.
///
/// quinn builds a new controller when it is told that the path has changed, and goes on counting what was in flight
/// before. If that is more than the first window, nothing is sent any more until all of it counts as lost: measured,
/// more than 12 s on a live path. So the window stays open until something that was sent since is acknowledged.
#[derive(Default)]
pub(super) struct ReopeningFactory(Arc<NewRenoConfig>);

impl ControllerFactory for ReopeningFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Reopening {
            born: now,
            is_open: true,
            arrived: None,
            inner: Arc::clone(&self.0).build(now, current_mtu),
        })
    }
}

/// A controller that limits nothing until the first acknowledgement.
struct Reopening {
    /// When the path began; after the first acknowledgement, when the packet was sent that is known to have arrived on
    /// it.
    born: Instant,
    /// Nothing is acknowledged that was sent since.
    is_open: bool,
    /// The last one that the first acknowledgement is for.
    arrived: Option<Instant>,
    inner: Box<dyn Controller>,
}

impl Controller for Reopening {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.arrived = self.arrived.max(Some(sent).filter(|sent| self.is_open && *sent >= self.born));
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        if let Some(arrived) = self.arrived.take() {
            (self.is_open, self.born) = (false, arrived);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        // What was lost on the path before, or while the peer was moving too, says nothing of this path. The first
        // acknowledgement finds most of it.
        if sent >= self.born {
            self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_open { WINDOW } else { self.inner.window() }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { born: self.born, is_open: self.is_open, arrived: self.arrived, inner: self.inner.clone_box() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
