//! Timers of more than one role.

use std::time::Duration;

timings! {
    /// No wait before a retransmission is longer than this.
    ///
    /// Why: several parties wait for each other in one route construction. If one of them paused for longer, the others
    /// would have given up before it sends again. The price is traffic to a peer that is gone: one datagram a second,
    /// for the 4 s to 12 s that the steps of a route construction take.
    LONGEST_RETRY: Duration = Duration::from_secs(1);

    /// How far ahead of the receiver's clock an epoch may be.
    ///
    /// Why: a clock in a wrong time zone is up to 14 h off, and such a sender should not cost a round trip. A sender
    /// that is further ahead is told the least epoch that is accepted. A greater value would only help a sender that
    /// lies.
    EPOCH_SLACK: Duration = Duration::from_secs(86_400);
}
