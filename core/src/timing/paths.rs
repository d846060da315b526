//! The timers of paths beneath a connection ([`crate::paths`]).

use std::time::Duration;

timings! {
    /// A node sends at most `SILENT_BYTES` in this time to an address that was only named and never answered.
    ///
    /// Why: ten bytes a second are no flood, whatever number of nodes is told to send them.
    SILENT_TIME: Duration = Duration::from_secs(600);

    /// A path is left for another one of its class only if that one's round trip is shorter by this, and by a fifth.
    ///
    /// Why: two paths of one LAN differ by less, and would take turns.
    GAIN_AT_LEAST: Duration = Duration::from_millis(5);

    /// The assumed lifetime of a NAT mapping without traffic, until it was observed.
    ///
    /// Why: RFC 4787 REQ-5 demands two minutes, but many middleboxes keep a mapping for 30 s only (RFC 9000 §10.1.2).
    ASSUMED_IDLE: Duration = Duration::from_secs(30);

    /// No NAT mapping is assumed to live shorter than this.
    ///
    /// Why: chosen. A shorter lifetime would need a keep-alive more often than each 3.2 s, and it would cost more than
    /// the traffic that it is for.
    LEAST_IDLE: Duration = Duration::from_secs(4);

    /// A path that ends younger than this says nothing about the lifetime of NAT mappings.
    ///
    /// Why: chosen. A path that ends sooner most likely failed for another reason.
    LEAST_ABSOLUTE: Duration = Duration::from_secs(20);

    /// A path that never answered is probed again after this, then after twice the previous wait each time.
    ///
    /// Why: chosen. It is below most round trips, so one lost probe costs little time. A probe has 48 bytes, so one too
    /// many costs little, too.
    PATH_FIRST_RETRY: Duration = Duration::from_millis(100);

    /// The longest wait before a path that does not answer, or that lost most packets, is probed again.
    ///
    /// Why: as `LONGEST_IMPROVEMENT`. A path that comes back is found after a minute at most.
    PATH_LAST_RETRY: Duration = Duration::from_secs(64);

    /// When a failed path comes back, it ranks behind the relay: for twice this after the first failure, then for twice
    /// as long each time.
    ///
    /// Why: equal to `PATH_LIFE`, after which a path without answers is given up. So a path that fails again does so
    /// before packets depend on it.
    PATH_TRIAL: Duration = Duration::from_secs(1);

    /// The failures of a path that has worked for this long are forgotten.
    ///
    /// Why: as long as the longest trial, `PATH_LAST_RETRY`.
    PATH_FORGIVEN: Duration = Duration::from_secs(64);

    /// A path that lost most packets is not used for this long, then for twice as long each time.
    ///
    /// Why: twice the two seconds over which loss is judged, so that another path carries the packets most of the time.
    PATH_FAST: Duration = Duration::from_secs(4);

    /// After packets changed from one path to another, they do not go back sooner than this.
    ///
    /// Why: chosen. It bounds how often two paths can take turns.
    PATH_DWELL: Duration = Duration::from_secs(2);

    /// A size that was too large for a path is tried again after this.
    ///
    /// Why: routes change. RFC 8899 §5.1.1 and quinn wait ten minutes, which is long for a node that moves.
    PATH_SIZE_AGAIN: Duration = Duration::from_secs(60);

    /// A node that has moved may send at once to each address of a peer from which it heard something within this time.
    ///
    /// Why: a node that was asleep or without a network for a minute finds its peers again. After a longer time another
    /// host may have the address.
    PATH_KNOWN: Duration = Duration::from_secs(120);

    /// A node keeps its last datagrams, to send them again on a new path. It keeps none if as many as it could keep
    /// leave in less than this.
    ///
    /// Why: so few datagrams would not cover one round trip, and copying each of them would cost throughput.
    PATH_TOO_FAST: Duration = Duration::from_millis(10);

    /// The time that a peer may take before it answers.
    ///
    /// Why: the default of QUIC's max_ack_delay (RFC 9000 §18.2).
    ANSWER_DELAY: Duration = Duration::from_millis(25);

    /// The silence of a path is never judged sooner than this.
    ///
    /// Why: a host that is scheduled out, or a burst of Wi-Fi retries, takes as long.
    PATH_PATIENCE: Duration = Duration::from_millis(200);

    /// A path without answers is never given up sooner than this.
    ///
    /// Why: five times `PATH_PATIENCE`: several probes in a row were lost.
    PATH_LIFE: Duration = Duration::from_secs(1);

    /// The loss of a path is judged over intervals of at least this length.
    ///
    /// Why: it is many round trips of most paths. Two such intervals in a row decide.
    PATH_LOSS_TIME: Duration = Duration::from_secs(1);

    /// Two notices within this time that the peer has moved are about the same move.
    ///
    /// Why: the peer sends the notice on each of its paths, and again until one of them is proved.
    PATH_TOLD: Duration = Duration::from_secs(3);

    /// After a change of path, QUIC is told of the new round trip if the two differ by the factor two and by at least
    /// this.
    ///
    /// Why: QUIC then begins with a new congestion window. A smaller difference it measures by itself within a few
    /// packets.
    OTHER_RTT_AT_LEAST: Duration = Duration::from_millis(20);

    /// A flight of a handshake that left within this time is also sent to places of the peer that become known now.
    ///
    /// Why: QUIC itself sends a flight again after 0.3 s and 0.9 s, and then only after 2.1 s.
    HANDSHAKE_FLIGHT: Duration = Duration::from_secs(1);

    /// While no path is known to work, one datagram in this time goes to every place.
    ///
    /// Why: a path is found within a few round trips, and the places are not flooded.
    PATH_SPREAD: Duration = Duration::from_millis(100);

    /// The rate of datagrams is measured over this time.
    ///
    /// Why: a few round trips of most paths.
    PATH_PACE_TIME: Duration = Duration::from_millis(100);

    /// A path on which the node sent nothing for this long counts as idle.
    ///
    /// Why: it is above `SIGNALING_KEEP_ALIVE`, and equal to `LEAST_IDLE`, the shortest lifetime of a mapping.
    PATH_QUIET: Duration = Duration::from_secs(4);

    /// A path that is neither used nor kept alive counts as working until this silence.
    ///
    /// Why: middleboxes forget UDP mappings from then on (RFC 9000 §10.1.2).
    PATH_COLD: Duration = Duration::from_secs(30);

    /// While no path works, every path is probed this often at most.
    ///
    /// Why: as `PATH_LIFE`.
    PATH_ALARM: Duration = Duration::from_secs(1);

    /// A path to which the peer seems to have moved is given up if it is not proved within this time.
    ///
    /// Why: as `PATH_TOLD`.
    PATH_BRIDGED: Duration = Duration::from_secs(3);

    /// A timer that fires this much too late shows that the process, or the machine, stood still.
    ///
    /// Why: a busy machine is late by less. After a sleep every mapping may be gone.
    PATH_ASLEEP: Duration = Duration::from_secs(2);

    /// An address of the peer that has not worked for this long is forgotten.
    ///
    /// Why: a NAT that comes back gives the same port within a minute, or another one.
    PATH_FORGOTTEN: Duration = Duration::from_secs(60);
}
