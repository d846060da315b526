//! A congestion controller that never limits: [`super::Congestion::Open`].
//!
//! It is for framings in which the flows inside the tunnel see losses and react by their own congestion control: see
//! [`super::Congestion::of`]. Its window is above `u32::MAX`, which also turns quinn's pacing off.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::congestion::{Controller, ControllerFactory};

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
