//! The timers of QUIC links that this project sets. All others are those of RFC 9000 and RFC 9002.

use std::time::Duration;

timings! {
    /// An incoming connection whose handshake takes longer is closed.
    ///
    /// Why: a client at [`INITIAL_RTT`] sends its first packet again after 0.3 s, 0.9 s, 2.1 s, 4.5 s, 9.3 s and 18.9 s
    /// (RFC 9002 §6.2.1): six losses in a row are made up for, and three round trips of 6 s fit. It bounds how long a
    /// flood holds half-open connections.
    HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

    /// A round trip counts as this long before the first one was measured.
    ///
    /// Why: RFC 9002 §6.2.2 proposes 333 ms, so that a lost first packet costs a second. Three handshakes one after
    /// another, for which an application waits, have not the time; paths with longer round trips cost a needless
    /// retransmission.
    INITIAL_RTT: Duration = Duration::from_millis(100);

    /// A client says something this often on a link to a service.
    ///
    /// Why: a service that was restarted answers that it does not know the link, and the node registers again. Equal to
    /// the conventional `NMS_KEEP_ALIVE`, so that both methods notice alike.
    SIGNALING_KEEP_ALIVE: Duration = Duration::from_secs(3);

    /// A client says something this often on a link that carries packets, unless the configuration says otherwise.
    ///
    /// Why: a third of [`LINK_IDLE_TIMEOUT`]: two may be lost. Below the 30 s after which middleboxes forget UDP
    /// mappings (RFC 9000 §10.1.2).
    LINK_KEEP_ALIVE: Duration = Duration::from_secs(10);

    /// A link on which nothing was heard for this long is lost, unless the configuration says otherwise.
    ///
    /// Why: the value from which middleboxes forget a UDP mapping (RFC 9000 §10.1.2): a link that is silent for longer
    /// cannot be relied on anyway.
    LINK_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    /// A peer that acknowledges one packet of many may keep a few to itself for this long.
    ///
    /// Why: with RFC 9000's 25 ms (§18.2) an end that sends little would learn of a loss late, and of the round trip
    /// little.
    ACK_DELAY: Duration = Duration::from_millis(5);

    /// A link looks this often at the civil time, if nothing else happens on it, whether the peer's certificate has
    /// ended.
    ///
    /// Why: a link waits for the certificate's end itself. A clock that is set forward meanwhile is noticed with the
    /// next packet or keep-alive, so this is for a link that has neither.
    CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

    /// A link waits at least this long for the end of the peer's certificate.
    ///
    /// Why: a civil clock may run slower than the timers, and the last moment must not become many. Packets are looked
    /// at themselves, so nothing passes meanwhile.
    CERTIFICATE_WAIT: Duration = Duration::from_millis(1);

    /// A peer's renewed certificates are verified no more often than this on one link.
    ///
    /// Why: to verify one costs two signatures, about 0.1 ms, and certificates are renewed after weeks.
    RENEWAL_EVERY: Duration = Duration::from_secs(1);

    /// A service, and a node on its tunnels, sends stateless resets no more often than this.
    ///
    /// Why: after a restart all nodes ask at once, and each has to learn that its link is gone; quinn's 20 ms would let
    /// some wait for the idle timeout. A reset is shorter than the packet that drew it, so a loop of resets ends by
    /// itself (RFC 9000 §10.3.3).
    RESET_EVERY: Duration = Duration::from_millis(1);

    /// One source (an IPv4 address, or a /64 of IPv6) gets a stateless reset no more often than this, after the first
    /// 64.
    ///
    /// Why: a twentieth of what all sources together get ([`RESET_EVERY`]). A thousand nodes behind one address learn
    /// within twenty seconds that a service was restarted, below their idle timeout; a flood from one address is
    /// answered by fifty small packets a second.
    RESET_OF_ONE_EVERY: Duration = Duration::from_millis(20);
}
