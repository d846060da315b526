//! The NMS's timers.

use std::time::Duration;

timings! {
    /// The NMS forgets a registered node of the conventional method that sends nothing for this long.
    ///
    /// Why: twenty Keep Alives (`NMS_KEEP_ALIVE`). The node gives the NMS up after 3.5 s without an answer, so a node
    /// that is forgotten here has left. Until then a Direction Request for it fails at the dialer instead of at the
    /// NMS.
    REGISTRATION_SILENCE: Duration = Duration::from_secs(60);

    /// The machine that is registered for a node counts as there for this long after it was heard. Meanwhile another
    /// machine with the node's name and key is refused, if that one knows of the first.
    ///
    /// Why: three Keep Alives (`NMS_KEEP_ALIVE`, `SIGNALING_KEEP_ALIVE`) and a second. So two may be lost. The price:
    /// the other machine waits so much longer once the first has gone without a word.
    OTHER_MACHINE_SILENCE: Duration = Duration::from_secs(10);

    /// The NMS tells the log of a second machine with one name and key this often, for each node.
    ///
    /// Why: the machine that is refused asks twice a minute. An administrator has to read of it once, and again if
    /// nothing was done about it.
    OTHER_MACHINE_TOLD: Duration = Duration::from_secs(600);

    /// The NMS remembers a route construction for this long, and answers a retransmitted request by the same Route
    /// Direction.
    ///
    /// Why: longer than a listener waits (`LISTEN_TIMEOUT`, 8 s), so that no tunnel is still being built when the
    /// construction is forgotten. Shorter than the initiator waits (`ROUTE_TIMEOUT`, 12 s), so that a refusal arrives
    /// in time.
    ROUTE_LIFETIME: Duration = Duration::from_secs(10);

    /// Up to this long after both nodes were told of a route construction, a Direction Request of the responder counts
    /// as simultaneous. The NMS answers it by that construction.
    ///
    /// Why: the responder sent such a request before the Route Direction reached it: within one round trip, or one
    /// retransmission (`LONGEST_RETRY`). A later request asks for something new.
    SIMULTANEOUS_REQUESTS: Duration = Duration::from_secs(1);

    /// The first wait before the NMS retransmits a Relay Request, or a Route Direction without a Confirmation
    /// (conventional method).
    ///
    /// Why: below the initiator's `DIRECTION_RETRY` (500 ms). The NMS knows which message is missing, and retransmits
    /// it before the initiator retransmits its request.
    ROUTING_RETRY: Duration = Duration::from_millis(400);

    /// The NMS retransmits an Access Ended at most this often, until the node acknowledges it (conventional method; the
    /// first time after `ROUTING_RETRY`, then with back-off).
    ///
    /// Why: eight retransmissions take 7 s. A node that received none of them has given up the NMS by then (3.5 s), and
    /// is told when it registers again; or its machine sleeps, and it is told when its next Keep Alive comes.
    ACCESS_ENDED_RETRIES: u8 = 8;

    /// The NMS remembers a proved address of a conventional node for this long after the node was heard at another one.
    /// If the node is heard there again, no new proof is needed.
    ///
    /// Why: a node that gets no answer tries its two address families in turn, every few seconds. A NAT keeps an idle
    /// mapping for at least two minutes (RFC 4787 REQ-5), so the address does not belong to another host yet.
    PLACE_KEPT: Duration = Duration::from_secs(30);

    /// A Probe Token proves an address for this long at least, and for twice this long at most.
    ///
    /// Why: long enough for a survey (1 s to 2 s) and all `REPORT_TRIES` of its Network Report. It also bounds how long
    /// a node can still name an address that it has left.
    TOKEN_PERIOD: Duration = Duration::from_secs(30);

    /// A grant of the NMS lets two nodes use the TRS for this long (proposed method).
    ///
    /// Why: two nodes whose access has ended, and that ignore it, can use the TRS for no longer than this. An NMS that
    /// is away for half of this costs no relayed tunnel (`GRANT_RENEWAL`).
    GRANT_TIME: Duration = Duration::from_secs(3600);

    /// An IPv6 address that a node only claims is challenged this often, when Table 1 wants it.
    ///
    /// Why: 59 bytes in ten seconds are no flood, even if the address is not the node's own.
    CHALLENGE_EVERY: Duration = Duration::from_secs(10);

    /// This many challenges may follow each other before `CHALLENGE_EVERY` applies.
    ///
    /// Why: a node asks for a route again after 0.2 s, 0.4 s, 0.8 s and 1.6 s (`ROUTE_FIRST_PAUSE`), and each request
    /// may draw a challenge. So three challenges may be lost.
    CHALLENGES_AT_ONCE: u8 = 4;

    /// A node may register once in this time, on average.
    ///
    /// Why: a registration costs a write to the database, some milliseconds of a slow disk. A node that gives the NMS
    /// up registers again after 3.5 s; one that moves registers in each network.
    REGISTRATION_EVERY: Duration = Duration::from_secs(1);

    /// As many registrations of a node as are due in this time may follow each other at once.
    ///
    /// Why: a network that comes and goes makes some in a second. Retransmissions are not counted.
    REGISTRATIONS_SAVED: Duration = Duration::from_secs(32);

    /// A node may ask for a route once in this time, on average.
    ///
    /// Why: a hundred a second are more than any application's peers, and less than a hundredth of what an NMS answers.
    REQUEST_EVERY: Duration = Duration::from_millis(10);

    /// As many Direction Requests of a node as are due in this time may follow each other at once.
    ///
    /// Why: a node that has moved asks for all of its peers at once, here a thousand. One with more asks for the rest
    /// again, which takes it some seconds more.
    REQUESTS_SAVED: Duration = Duration::from_secs(10);

    /// Work for a datagram that proves nothing is done once in this time, for all sources of one standing together.
    ///
    /// Why: it is a look into the database and a key derivation, 20 µs at most. A thousand a second are 2 % of a core.
    UNPROVED_EVERY: Duration = Duration::from_millis(1);

    /// The same for one source.
    ///
    /// Why: behind one address there may be many nodes, which all register when the NMS was restarted. Twenty a second
    /// leave strangers of fifty other addresses theirs.
    UNPROVED_FROM_ONE_EVERY: Duration = Duration::from_millis(50);

    /// As much of that work as is due in this time may be done at once.
    ///
    /// Why: a site of a hundred nodes registers at once after a power cut; 5,000 datagrams take a tenth of a second.
    UNPROVED_SAVED: Duration = Duration::from_secs(5);

    /// A source from which an authentic message came is known for this long.
    ///
    /// Why: it is still known when an NMS that was flooded, or a network that was away, is back.
    GOOD_SOURCE_KEPT: Duration = Duration::from_secs(3600);

    /// A node that returned a challenge is known for this long, by its address, port and transaction.
    ///
    /// Why: two retransmissions of a registration, which come within three seconds, and then some.
    THERE_SOURCE_KEPT: Duration = Duration::from_secs(60);
}
