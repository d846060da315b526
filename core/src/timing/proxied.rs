//! The timers of UDP proxied in HTTP over TCP.

use std::time::Duration;

timings! {
    /// UDP's head start. In a network whose treatment of UDP is unknown, a node opens a TCP connection to a service
    /// that did not answer its first datagrams for this long.
    ///
    /// Why: the Connection Attempt Delay of RFC 8305 §8. Where UDP works, nearly every service answers within it, so no
    /// TCP connection is opened.
    HEAD_START: Duration = Duration::from_millis(250);

    /// In a network that has let UDP through, a node opens a TCP connection to a service that has left three or more
    /// datagrams unanswered for this long.
    ///
    /// Why: three retransmissions of QUIC fit into it at round trips up to 200 ms, so a burst of lost packets opens no
    /// TCP connection. It is far below the idle timeout of a link.
    SUSPICION: Duration = Duration::from_secs(2);

    /// If no datagram of a node, to a service or a peer, is answered for this long, the node sends a PING to the NMS.
    /// The time is two round trips at least.
    ///
    /// Why: two probe timeouts of QUIC (RFC 9002 §6.2) at round trips up to 100 ms. A PING costs two packets of some 40
    /// bytes.
    DOUBT: Duration = Duration::from_millis(500);

    /// If the NMS does not answer either, the node also tries TCP this long after the silence began. The time is four
    /// round trips at least.
    ///
    /// Why: together with `DOUBT` it leaves QUIC the time to ask the NMS twice. The TCP of an application sends its
    /// data again 1 s and 3 s after the last answer (RFC 6298 §2). The second of these gets through if the node's TCP
    /// connection is up within three round trips.
    ALL_SILENT: Duration = Duration::from_secs(1);

    /// After an answer of the NMS the node does not ask again for this long, then for twice as long each time.
    ///
    /// Why: twice `DOUBT`. If the NMS answers, a peer is silent, and asking the NMS again would not help.
    DOUBT_PAUSE: Duration = Duration::from_secs(1);

    /// The longest of these pauses. After the same time without silence, the next pause is the shortest one again.
    ///
    /// Why: two packets in 8 s are fewer than the Keep Alives of a node.
    LONGEST_DOUBT_PAUSE: Duration = Duration::from_secs(8);

    /// Node and service give up a TCP connection between them that does not carry datagrams after this time.
    ///
    /// Why: TCP, TLS and the upgrade take three round trips, so round trips of 3 s fit. The limit bounds how long an
    /// unfinished connection holds one of the places for them.
    UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long a datagram may wait for TCP before it is dropped.
    ///
    /// Why: the least retransmission timeout of Linux's TCP (200 ms). After that an application's TCP has sent the data
    /// again, so the older copy would only delay later packets.
    DATAGRAM_WAIT: Duration = Duration::from_millis(200);

    /// A node gives up a TCP connection on which its bytes stay unacknowledged for this long (the user timeout of RFC
    /// 5482). The time is at least four times that of connecting.
    ///
    /// Why: before the first measurement of the round trip TCP sends again after 1 s, 3 s and 7 s (RFC 6298 §2, §5.5).
    /// So two retransmissions were lost, and a new connection is faster than the third. Without a limit, a NAT that has
    /// lost its mappings could leave two ends that wait for each other for ever.
    TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(6);

    /// The node closes a TCP connection that carried no datagram for this long.
    ///
    /// Why: it is longer than the keep-alive interval of a link, so a connection that carries a link stays. The
    /// connection to the AS is closed soon after the login.
    CONDUIT_IDLE: Duration = Duration::from_secs(60);

    /// A service closes a TCP connection that carried no datagram for this long.
    ///
    /// Why: twice `CONDUIT_IDLE`, so that the node closes first. The limit ends connections of nodes that are gone
    /// without closing them.
    GUEST_IDLE: Duration = Duration::from_secs(120);

    /// A node whose network blocks UDP tries UDP again after this, then after twice as long each time.
    ///
    /// Why: a person who has passed a captive portal gets UDP within moments. An attempt costs one datagram of 1,200
    /// bytes.
    FIRST_UDP_PROBE: Duration = Duration::from_secs(5);

    /// The longest time between two such attempts.
    ///
    /// Why: a network that has blocked UDP for minutes will most likely go on. After a move to another network the
    /// first wait is `FIRST_UDP_PROBE` again.
    LONGEST_UDP_PROBE: Duration = Duration::from_secs(300);

    /// How long a node waits for the answer to such an attempt.
    ///
    /// Why: as `SUSPICION`. A round trip of more than 2 s is rare even on a satellite's path.
    UDP_PROBE_WAIT: Duration = Duration::from_secs(2);

    /// TCP connections stay open for this long after UDP has begun to work again. The time is four round trips at
    /// least.
    ///
    /// Why: packets of peers and services arrive by TCP until QUIC's path validation has moved every link, which takes
    /// a few round trips.
    LINGER: Duration = Duration::from_secs(5);

    /// A service to which no TCP connection could be made is not tried again by TCP before this time.
    ///
    /// Why: the pauses between attempts to register are as long. A service without TCP costs one connection attempt in
    /// this time.
    TCP_PAUSE: Duration = Duration::from_secs(5);
}
