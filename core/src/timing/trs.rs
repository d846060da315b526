//! The TRS's timers.

use std::time::Duration;

timings! {
    /// A path of the conventional method that carries nothing for this long is forgotten.
    ///
    /// Why: six Keep Alives of the tunnel on it (`TUNNEL_KEEP_ALIVE`, 15 s). The nodes give the tunnel up after 10 s
    /// without an answer, so both have left when it is forgotten.
    PATH_IDLE: Duration = Duration::from_secs(90);

    /// The TRS stores an epoch that is this much later than the one it took.
    ///
    /// Why: a disk is written once in 10 s and not with each Relay Request. The price: a TRS that was restarted refuses
    /// the NMS's epochs of up to 10 s, and tells it the one to go on from.
    EPOCH_KEPT_AHEAD: Duration = Duration::from_secs(10);

    /// The TRS answers an old epoch at most this often.
    ///
    /// Why: an NMS asks again after 400 ms (`ROUTING_RETRY`), so it is answered each time. Somebody that replays a
    /// Relay Request from the NMS's address draws no more than ten answers a second.
    EPOCH_TOLD_EVERY: Duration = Duration::from_millis(100);

    /// A Tunnel Request that the other leg does not answer in this time is forgotten (proposed method).
    ///
    /// Why: longer than the initiator waits for it (`DIAL_STEP_TIMEOUT`, 4 s).
    BINDING_TIMEOUT: Duration = Duration::from_secs(5);

    /// A node may be ahead of its rate through the TRS by as many bytes as it may send in this time.
    ///
    /// Why: TCP sends a window at once; at 1 Gbit/s this is 31 MB, more than any.
    RELAY_BURST: Duration = Duration::from_millis(250);

    /// A node's bytes through the TRS are counted for this long.
    ///
    /// Why: `relay-hourly` is a number of bytes an hour.
    RELAY_COUNTED: Duration = Duration::from_secs(3600);
}
