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

    /// For so long the NMS remembers that a conventional node was at an address, after the node was heard elsewhere. If
    /// it is heard there again, that needs no new proof.
    ///
    /// Why: a node that gets no answer tries its other family by turns, every few seconds. A NAT keeps an idle mapping
    /// for two minutes at least (RFC 4787 REQ-5), so the address has not become another host's.
    PLACE_KEPT: Duration = Duration::from_secs(30);

    /// A Probe Token proves an address for this long at least, and for twice this long at most.
    ///
    /// Why: a survey takes 1 s to 2 s, and its Network Report is sent again for `REPORT_TRIES`. A node that has left an
    /// address can name it for no longer than this.
    TOKEN_PERIOD: Duration = Duration::from_secs(30);

    /// The NMS grants two nodes the TRS for this long (proposed method).
    ///
    /// Why: two nodes that hide from the NMS that they still talk can use the TRS for no longer than this. An NMS that
    /// is away for half of it costs no relayed tunnel (`GRANT_RENEWAL`).
    GRANT_TIME: Duration = Duration::from_secs(3600);

    /// An IPv6 address that a node only claims is challenged this often, when Table 1 wants it.
    ///
    /// Why: 59 bytes in ten seconds are no flood, even if the address is not the node's own.
    CHALLENGE_EVERY: Duration = Duration::from_secs(10);

    /// So many of these challenges may follow each other at once.
    ///
    /// Why: a node asks for a route again after 0.2 s, 0.4 s, 0.8 s and 1.6 s (`ROUTE_FIRST_PAUSE`); three may be lost.
    CHALLENGES_AT_ONCE: u8 = 4;
}
