//! The timers of UDP proxied in HTTP over TCP.

use std::time::Duration;

timings! {
    /// UDP's head start: how long a service may be silent to the first datagrams of a node before the node opens a TCP
    /// connection to it as well, in a network whose treatment of UDP is unknown.
    ///
    /// Why: the Connection Attempt Delay of RFC 8305 §8. Where UDP works, nearly every service answers within it, so no
    /// TCP connection is opened.
    HEAD_START: Duration = Duration::from_millis(250);

    /// How long a service may be silent to three or more datagrams before its node opens a TCP connection, in a network
    /// that has let UDP through.
    ///
    /// Why: three retransmissions of QUIC at round trips up to 200 ms fit into it, so that a burst of lost packets
    /// opens no TCP connection; it is far below the idle timeout of a link.
    SUSPICION: Duration = Duration::from_secs(2);

    /// How long everything that was sent by UDP may be unanswered, peers and all, before a node asks the NMS for a
    /// sign; two round trips at least.
    ///
    /// Why: two probe timeouts of QUIC (RFC 9002 §6.2) at round trips up to 100 ms. Being asked costs the NMS two
    /// packets of some 40 bytes.
    DOUBT: Duration = Duration::from_millis(500);

    /// If the NMS does not answer either, TCP is raced so long after the silence began; four round trips at least.
    ///
    /// Why: with `DOUBT`, the time in which QUIC asks the NMS twice. A transfer's TCP repeats its data 1 s and 3 s
    /// after the last answer (RFC 6298 §2): three round trips later the second of them gets through.
    ALL_SILENT: Duration = Duration::from_secs(1);

    /// An NMS that has answered is not asked again before this time; then not before twice as long each time.
    ///
    /// Why: twice `DOUBT`. It is a peer that is silent, and the NMS has nothing to do with that.
    DOUBT_PAUSE: Duration = Duration::from_secs(1);

    /// The longest of these times. They begin anew after the same time without doubt.
    ///
    /// Why: the NMS notices two packets in 8 s no more than its Keep Alives.
    LONGEST_DOUBT_PAUSE: Duration = Duration::from_secs(8);

    /// A TCP connection to a service that carries no datagrams after this time is given up; so is one from a node.
    ///
    /// Why: TCP, TLS and the upgrade take three round trips, so one of 3 s is made up for. It bounds how long a
    /// half-open connection holds one of the places for them.
    UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long a datagram may wait for TCP before it is dropped.
    ///
    /// Why: the least retransmission timeout of Linux's TCP (200 ms). A sender that waits longer has sent the data
    /// again, so the older copy would only delay what follows it.
    DATAGRAM_WAIT: Duration = Duration::from_millis(200);

    /// How long TCP may leave a node's bytes unacknowledged before the connection is given up (the user timeout of
    /// RFC 5482); four times as long as it took to connect, at least.
    ///
    /// Why: where no round trip was measured yet, TCP repeats after 1 s and 3 s (RFC 6298 §2, §5.5), so two repetitions
    /// were lost. A new connection is sooner there than the third, whose turn is after 7 s. A NAT that has forgotten
    /// its mappings may leave two ends that each wait for the other and reset nothing.
    TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(6);

    /// A TCP connection on which no datagram went either way for so long is closed by the node.
    ///
    /// Why: longer than the Keep Alive interval of a link, so a connection that carries a link stays; that to the AS is
    /// closed soon after the login.
    CONDUIT_IDLE: Duration = Duration::from_secs(60);

    /// The same, by a service: the node closes first.
    ///
    /// Why: twice the node's time. It ends the connections of nodes that are gone without a word.
    GUEST_IDLE: Duration = Duration::from_secs(120);

    /// When a node whose network blocks UDP tries UDP for the first time; then after twice as long each time.
    ///
    /// Why: short enough that a person who has passed a captive portal gets UDP within moments; one datagram of 1,200
    /// bytes each time.
    FIRST_UDP_PROBE: Duration = Duration::from_secs(5);

    /// The longest time between two such attempts.
    ///
    /// Why: a network that has blocked UDP for minutes will most likely go on. A move to another network begins anew.
    LONGEST_UDP_PROBE: Duration = Duration::from_secs(300);

    /// How long a node waits for the answer to such an attempt.
    ///
    /// Why: as long as `SUSPICION`, which is more than any round trip for which the protocol works.
    UDP_PROBE_WAIT: Duration = Duration::from_secs(2);

    /// How long TCP connections stay open after UDP has begun to work again.
    ///
    /// Why: packets of peers and services still arrive by them until QUIC's path validation has moved every link, which
    /// takes a few round trips.
    LINGER: Duration = Duration::from_secs(5);

    /// A service to which no TCP connection could be made is not tried again by TCP before this time.
    ///
    /// Why: the pause that a node makes between attempts to register has at least this order; a service without TCP
    /// costs one connection attempt in this time.
    TCP_PAUSE: Duration = Duration::from_secs(5);
}
