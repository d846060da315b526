//! Timers of more than one role.

use std::time::Duration;

timings! {
    /// No wait before a retransmission is longer than this.
    ///
    /// Why: several parties wait for each other in one route construction. If one of them fell silent for longer, the
    /// others would have given up when it speaks again. The price is traffic to a peer that is gone: one datagram a
    /// second, for the 4 s to 12 s that the steps of a route construction take.
    LONGEST_RETRY: Duration = Duration::from_secs(1);

    /// After an epoch was refused as not newer, the next one is this much later; each further refusal makes it four
    /// times as much.
    ///
    /// Why: an epoch is civil time, and is refused if the clock was ahead before. A clock is often wrong by a time
    /// zone, that is by hours, and seldom by days. Leaps of 1 h, 4 h, 16 h and 64 h sum up to more than a day; eight
    /// leaps to more than a year.
    EPOCH_FIRST_LEAP: Duration = Duration::from_secs(3600);

    /// The longest leap; after it a refusal has another cause than a clock.
    ///
    /// Why: a little more than a year, which a clock is wrong by if its date was typed in wrongly. Each leap uses up
    /// numbers that never return, so there has to be an end.
    EPOCH_LONGEST_LEAP: Duration = Duration::from_secs(400 * 86_400);
}
