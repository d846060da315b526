//! The timers of QUIC links that this project sets. All others are those of RFC 9000 and RFC 9002.

use std::time::Duration;

timings! {
    /// An incoming connection whose handshake takes longer is closed.
    ///
    /// Why: a client with [`INITIAL_RTT`] sends its first packet again after 0.3 s, 0.9 s, 2.1 s, 4.5 s, 9.3 s and 18.9
    /// s (RFC 9002 §6.2.1). So six losses in a row are made up for, and three round trips of 6 s fit. The limit bounds
    /// how long a flood holds half-open connections.
    HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

    /// The estimate of the round-trip time before the first measurement.
    ///
    /// Why: with the 333 ms of RFC 9002 §6.2.2 a lost first packet costs a second. A relayed tunnel needs three
    /// handshakes one after another while an application waits, which is too long. The price: where the round trip is
    /// longer than 300 ms, the first packet is sent twice without need.
    INITIAL_RTT: Duration = Duration::from_millis(100);

    /// How long path MTU discovery on a tunnel may take.
    ///
    /// Why: it takes some round trips, and a few more if probes are lost.
    MTU_DISCOVERY: Duration = Duration::from_secs(2);

    /// A client sends something this often on a link to a service.
    ///
    /// Why: a restarted service answers that it does not know the link, and the node registers again. It is equal to
    /// the conventional `NMS_KEEP_ALIVE`, so that both methods notice a restart equally soon.
    SIGNALING_KEEP_ALIVE: Duration = Duration::from_secs(3);

    /// A client sends something this often on a link that carries packets, unless the configuration says otherwise.
    ///
    /// Why: a third of [`LINK_IDLE_TIMEOUT`], so two in a row may be lost. It is below the 30 s after which middleboxes
    /// forget UDP mappings (RFC 9000 §10.1.2).
    LINK_KEEP_ALIVE: Duration = Duration::from_secs(10);

    /// A link on which nothing was heard for this long is lost, unless the configuration says otherwise.
    ///
    /// Why: middleboxes forget a UDP mapping after this silence (RFC 9000 §10.1.2), so a link that is silent for longer
    /// cannot be relied on.
    LINK_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    /// A peer that acknowledges one packet of many may delay an acknowledgement for this long.
    ///
    /// Why: with the default of 25 ms (RFC 9000 §18.2) a sender of few packets would learn of a loss late, and would
    /// measure the round trip badly.
    ACK_DELAY: Duration = Duration::from_millis(5);

    /// A link without traffic compares the civil time with the end of the peer's certificate this often.
    ///
    /// Why: a link has a timer for the end of the certificate. This is for a clock that is set forward while that timer
    /// runs. A link with traffic looks at the clock at each packet.
    CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

    /// A link waits at least this long for the end of the peer's certificate.
    ///
    /// Why: a civil clock may run slower than the timers. Without this, a link would look at the clock again and again
    /// in the last moment. Each packet is judged by the clock itself, so none passes too late.
    CERTIFICATE_WAIT: Duration = Duration::from_millis(1);

    /// A peer's renewed certificates are verified no more often than this on one link.
    ///
    /// Why: verifying a chain takes two signatures, about 0.1 ms. Honest nodes renew a certificate after weeks.
    RENEWAL_EVERY: Duration = Duration::from_secs(1);

    /// A service, and a node on its tunnels, sends stateless resets to all sources together no more often than this,
    /// after the first 2,048.
    ///
    /// Why: after a restart all nodes send at once, and each has to learn that its link is gone. One that gets no reset
    /// waits for its next keep-alive, or for the idle timeout. A reset is shorter than the packet that drew it, so it
    /// amplifies nothing, and a loop of resets ends by itself (RFC 9000 §10.3.3). Beyond the first 2,048, the limit
    /// keeps a flood with forged sources from becoming as many resets.
    RESET_EVERY: Duration = Duration::from_millis(1);

    /// One source (an IPv4 address, or a /64 of IPv6) gets a stateless reset no more often than this, after the first
    /// 256.
    ///
    /// Why: a twentieth of the resets of all sources together ([`RESET_EVERY`]). 256 nodes behind one address learn of
    /// a restart at once, and a thousand within twenty seconds, which is below their idle timeout. A flood from one
    /// address draws fifty small packets a second.
    RESET_OF_ONE_EVERY: Duration = Duration::from_millis(20);
}
