//! The NMS's timers.

use std::time::Duration;

timings! {
    /// A registered node of the conventional method that says nothing for this long is forgotten.
    ///
    /// Why: twenty Keep Alives (`NMS_KEEP_ALIVE`). The node itself gives the NMS up after 3.5 s without an answer, so
    /// what is forgotten here has left for good; until then a Direction Request for it fails at the dialer instead of
    /// at the NMS.
    REGISTRATION_SILENCE: Duration = Duration::from_secs(60);

    /// A route construction is remembered for this long: a repeated request gets the same answer.
    ///
    /// Why: longer than a listener waits (`LISTEN_TIMEOUT`, 8 s), so that no tunnel is still being built when it is
    /// forgotten; shorter than the initiator waits (`ROUTE_TIMEOUT`, 12 s), so that its refusal arrives in time.
    ROUTE_LIFETIME: Duration = Duration::from_secs(10);

    /// A Direction Request of the responder counts as simultaneous, and is answered by the route construction that both
    /// nodes were told of, up to this long after that.
    ///
    /// Why: the responder sent it before the Route Direction reached it. One round trip, or one retransmission
    /// (`LONGEST_RETRY`); later requests are new wishes.
    SIMULTANEOUS_REQUESTS: Duration = Duration::from_secs(1);

    /// The first wait before the NMS sends a Relay Request, or a Route Direction that waits for its Confirmation, again
    /// (conventional method).
    ///
    /// Why: below the initiator's own `DIRECTION_RETRY`, 500 ms: the NMS knows which of the messages is missing, and
    /// repeats that one before the initiator repeats the first.
    ROUTING_RETRY: Duration = Duration::from_millis(400);

    /// The NMS tells a node this often more that the access of a peer has ended, until the node acknowledges it
    /// (conventional method; after `ROUTING_RETRY`, then with back-off).
    ///
    /// Why: eight retransmissions take 7 s. A node that did not hear one of them has lost the NMS by then (3.5 s), and
    /// is told when it registers again.
    ACCESS_ENDED_RETRIES: u8 = 8;
}
