//! The limits of a wire's settings, and the errors of those beyond.

use std::time::Duration;

/// The least delay of a wire: 1 ms.
pub const MIN_DELAY: Duration = Duration::from_millis(1);
/// The greatest delay or jitter of a wire: an hour.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);
/// The least MTU that IPv4 allows (RFC 791), in bytes.
pub const MIN_MTU: usize = 68;

/// A [`WireConfig`](crate::WireConfig) that cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum WireError {
    /// Below [`MIN_DELAY`].
    #[error("a delay of {0:?} is too short: at least {MIN_DELAY:?}")]
    DelayTooShort(Duration),
    /// Above [`MAX_DELAY`].
    #[error("a delay or jitter of {0:?} is too long: at most {MAX_DELAY:?}")]
    DelayTooLong(Duration),
    /// No probability.
    #[error("a loss of {0} is no probability: between 0 and 1")]
    Loss(f64),
    /// No probability, of a [`WireFaults`](crate::WireFaults).
    #[error("a chance of {0} is no probability: between 0 and 1")]
    Chance(f64),
    /// Outages that would never begin or never end.
    #[error("outages of no time, or without time between them: take the wire down instead")]
    Outages,
    /// No packet would ever arrive.
    #[error("a rate of 0 bit/s: take the wire down instead")]
    Rate,
    /// Below [`MIN_MTU`] or above 65,535.
    #[error("an MTU of {0} bytes: between {MIN_MTU} and 65535")]
    Mtu(usize),
}
