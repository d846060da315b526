//! The timers of paths beneath a connection ([`crate::paths`]).

use std::time::Duration;

timings! {
    /// The time for which `SILENT_BYTES` have to do: what a node sends to an address that was only named, and never
    /// answered.
    ///
    /// Why: ten bytes a second are no flood, whatever number of nodes is told to send them.
    SILENT_TIME: Duration = Duration::from_secs(600);

    /// A path is left for another one of its class only if that one's round trip is shorter by this, and by a fifth.
    ///
    /// Why: two paths of one LAN differ by less, and would take turns.
    GAIN_AT_LEAST: Duration = Duration::from_millis(5);

    /// What the mapping of an idle path is taken to live, until its lifetime was observed.
    ///
    /// Why: RFC 4787 REQ-5 demands two minutes; many give half a minute (RFC 9000 §10.1.2).
    ASSUMED_IDLE: Duration = Duration::from_secs(30);

    /// No mapping is taken to live shorter than this.
    ///
    /// Why: chosen. A keep-alive more often than each 3.2 s would cost more than the traffic that it is for.
    LEAST_IDLE: Duration = Duration::from_secs(4);

    /// No absolute lifetime of a mapping is looked for below this age.
    ///
    /// Why: a path that ends sooner was just bad.
    LEAST_ABSOLUTE: Duration = Duration::from_secs(20);

    /// A path that never answered is asked again after this, then after twice as long each time.
    ///
    /// Why: chosen. Below most round trips, so that one lost probe costs little; a probe has 48 bytes.
    PATH_FIRST_RETRY: Duration = Duration::from_millis(100);

    /// The longest wait before a path that does not answer is asked again, and before a starved one is tried.
    ///
    /// Why: as `LONGEST_IMPROVEMENT`: a path that comes back is found within a minute.
    PATH_LAST_RETRY: Duration = Duration::from_secs(64);

    /// A path that had failed stands on trial for this when it comes back, twice as long each time.
    ///
    /// Why: the time after which a path without answers is dead, so a trial sees one failure.
    PATH_TRIAL: Duration = Duration::from_secs(1);

    /// A path that has stood for this long has no failures behind it any more.
    ///
    /// Why: as long as the longest trial, `PATH_LAST_RETRY`.
    PATH_FORGIVEN: Duration = Duration::from_secs(64);

    /// A path that lost most packets is left for this, then for twice as long each time.
    ///
    /// Why: twice the two seconds over which loss is judged, so that the relay carries most of the time.
    PATH_FAST: Duration = Duration::from_secs(4);

    /// Traffic does not go back to a path sooner than this after it left it.
    ///
    /// Why: chosen. It bounds how often two paths can take turns.
    PATH_DWELL: Duration = Duration::from_secs(2);

    /// A size that was too large for a path is tried again after this.
    ///
    /// Why: routes change; quinn waits ten minutes (RFC 8899 §5.1.1 gives the same), which is long for a node that
    /// moves.
    PATH_SIZE_AGAIN: Duration = Duration::from_secs(60);

    /// A place that answered, or was heard, within this time may be sent to from another address of ours at once.
    ///
    /// Why: a node that sleeps or is without a network for a minute finds its peers again; longer, and another host may
    /// have the address.
    PATH_KNOWN: Duration = Duration::from_secs(120);

    /// If as many datagrams as are kept leave in less than this, none is kept.
    ///
    /// Why: they would not reach back over one round trip, and copying each would cost throughput.
    PATH_TOO_FAST: Duration = Duration::from_millis(10);

    /// What the peer may take to answer, beyond the round trip.
    ///
    /// Why: QUIC's max_ack_delay (RFC 9000 §18.2).
    ANSWER_DELAY: Duration = Duration::from_millis(25);

    /// The silence of a path is never judged sooner than this.
    ///
    /// Why: a host that is scheduled out, or a burst of Wi-Fi retries, takes as long.
    PATH_PATIENCE: Duration = Duration::from_millis(200);

    /// A path without answers is never given up sooner than this.
    ///
    /// Why: five times `PATH_PATIENCE`: several probes in a row were lost.
    PATH_LIFE: Duration = Duration::from_secs(1);

    /// Loss is judged over stretches at least this long.
    ///
    /// Why: many round trips; two such stretches in a row decide.
    PATH_LOSS_TIME: Duration = Duration::from_secs(1);

    /// Within this time the word that the peer has moved is about the same move.
    ///
    /// Why: the peer says it on each of its paths, and again until one is proved.
    PATH_TOLD: Duration = Duration::from_secs(3);

    /// QUIC is told that the round trip is another one if the two paths differ by the factor two, and by this.
    ///
    /// Why: being told costs QUIC its congestion window; a smaller difference it measures within a few packets.
    OTHER_RTT_AT_LEAST: Duration = Duration::from_millis(20);

    /// A flight of a handshake goes to new places too if it left within this time.
    ///
    /// Why: QUIC itself sends a flight again after 0.3 s and 0.9 s.
    HANDSHAKE_FLIGHT: Duration = Duration::from_secs(1);

    /// If no path is known to work, one datagram goes everywhere this often at most.
    ///
    /// Why: it finds a path within a few round trips, and is no flood.
    PATH_SPREAD: Duration = Duration::from_millis(100);

    /// The pace of datagrams is counted over this time.
    ///
    /// Why: a few round trips of most paths.
    PATH_PACE_TIME: Duration = Duration::from_millis(100);

    /// A path on which we said nothing for this long was idle.
    ///
    /// Why: above `SIGNALING_KEEP_ALIVE`; no mapping lives shorter (`LEAST_IDLE`).
    PATH_QUIET: Duration = Duration::from_secs(4);

    /// A path that works, and is neither used nor kept warm, is not believed in any longer after this silence.
    ///
    /// Why: middleboxes forget UDP mappings from then on (RFC 9000 §10.1.2).
    PATH_COLD: Duration = Duration::from_secs(30);

    /// If nothing works, every path is asked this often at most.
    ///
    /// Why: as `PATH_LIFE`.
    PATH_ALARM: Duration = Duration::from_secs(1);

    /// A place where the peer only seems to be is given up as such after this.
    ///
    /// Why: as `PATH_TOLD`.
    PATH_BRIDGED: Duration = Duration::from_secs(3);

    /// A timer that is handled this much too late means that the process, or the machine, stood still.
    ///
    /// Why: a busy host is late by less; every mapping may be gone after a sleep.
    PATH_ASLEEP: Duration = Duration::from_secs(2);

    /// A place where the peer was seen, and that has been dead for this long, is forgotten.
    ///
    /// Why: a NAT that comes back gives the same port within a minute, or never.
    PATH_FORGOTTEN: Duration = Duration::from_secs(60);
}
