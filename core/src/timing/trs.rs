//! The TRS's timers.

use std::time::Duration;

timings! {
    /// The TRS forgets a path of the conventional method that carries nothing for this long.
    ///
    /// Why: six Keep Alives of the tunnel (`TUNNEL_KEEP_ALIVE`, 15 s). The nodes give a tunnel up after 10 s without an
    /// answer, so neither uses the path any more when it is forgotten.
    PATH_IDLE: Duration = Duration::from_secs(90);

    /// The TRS stores an epoch that is this much later than the one that it accepted.
    ///
    /// Why: so the TRS writes to its disk once in 10 s and not at each Relay Request. The price: a restarted TRS
    /// refuses the NMS's epochs of the next 10 s, and tells it the one to go on from.
    EPOCH_KEPT_AHEAD: Duration = Duration::from_secs(10);

    /// The TRS answers an old epoch at most this often.
    ///
    /// Why: an NMS asks again after 400 ms (`ROUTING_RETRY`), so each of its requests is answered. An attacker that
    /// replays a Relay Request from the NMS's address draws ten answers a second at most.
    EPOCH_TOLD_EVERY: Duration = Duration::from_millis(100);

    /// The TRS forgets a Tunnel Request that the other leg does not answer within this time (proposed method).
    ///
    /// Why: longer than the initiator waits for it (`DIAL_STEP_TIMEOUT`, 4 s).
    BINDING_TIMEOUT: Duration = Duration::from_secs(5);

    /// A node may exceed its rate through the TRS by the bytes of this time.
    ///
    /// Why: TCP sends a whole window at once. At 1 Gbit/s the bytes of this time are 31 MB, more than any window.
    RELAY_BURST: Duration = Duration::from_millis(250);

    /// The TRS counts a node's bytes over this time.
    ///
    /// Why: `relay-hourly` is a number of bytes an hour.
    RELAY_COUNTED: Duration = Duration::from_secs(3600);
}
