//! Time for the roles: nanoseconds since the process began, and the civil time.

use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use cyphonic_core::time::Instant;
use cyphonic_core::tls::WallClock;

/// The clock of a driver.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: StdInstant::now() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}

/// The civil time, as the system has it.
#[derive(Debug)]
pub struct Wall;

impl WallClock for Wall {
    fn since_unix_epoch(&self) -> Duration {
        since_epoch()
    }
}

/// The civil time since 1970; zero if the system's clock is before that.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
