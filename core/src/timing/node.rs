//! The node's timers.

use std::time::Duration;

use super::nms::ROUTE_LIFETIME;

timings! {
    /// A node whose login or registration fails for the first time waits this long for each of the two steps.
    ///
    /// Why: half of [`CLOUD_STEP_TIMEOUT`], because the other address family may answer. The SYN of a conventional
    /// login is sent again after 1 s and 3 s (RFC 6298 §2), so two lost ones are still made up for.
    CLOUD_FIRST_STEP_TIMEOUT: Duration = Duration::from_secs(4);

    /// Login, and registration, may each take this long at the second attempt; twice as long at each further one, and
    /// never less than four round trips.
    ///
    /// Why: a TCP SYN is sent again after 1 s, 3 s and 7 s (RFC 6298 §2), so three lost ones are still made up for;
    /// QUIC's first packet is sent again four times in that time.
    CLOUD_STEP_TIMEOUT: Duration = Duration::from_secs(8);

    /// No login or registration is waited for longer than this, unless four round trips take longer.
    ///
    /// Why: a login over TCP takes three round trips: five where a packet of each of two of them is lost. That is 30 s
    /// at 6 s, which a satellite with full queues takes. Attempts stay open beside the next one, so more is not needed.
    CLOUD_LONGEST_STEP: Duration = Duration::from_secs(32);

    /// If a service does not answer for this long and two round trips, another address family or interface is tried
    /// beside.
    ///
    /// Why: happy eyeballs (RFC 8305 §5) wait 250 ms and twice that for what is slow; this is above the first three
    /// transmissions of QUIC's first packet, and a lost SYN is repeated just then (RFC 6298 §2). A family that dies in
    /// silence then costs one second instead of [`CLOUD_FIRST_STEP_TIMEOUT`].
    CLOUD_OTHER_PATH: Duration = Duration::from_secs(1);

    /// A node whose round trip to the services takes this long is slow: it says so, and all waits of route
    /// constructions with it are `SLOW_FACTOR` times as long.
    ///
    /// Why: the dialer's limit [`DIAL_STEP_TIMEOUT`] takes four round trips of this length. Below it, a satellite's
    /// 600 ms and a lost packet are nothing special.
    SLOW_ROUND_TRIP: Duration = Duration::from_secs(1);

    /// The first wait before a Registration Request or Keep Alive to the NMS is sent again (conventional method).
    ///
    /// Why: chosen. It is above the round trip of nearly every path, a satellite's 600 ms apart, so that hardly any
    /// answer is asked for twice; a lost one costs half a second.
    CLOUD_RETRY: Duration = Duration::from_millis(500);

    /// A registered node of the conventional method sends the NMS a Keep Alive this often.
    ///
    /// Why: a node whose NMS was restarted cannot be reached until it notices, so this bounds the outage. It is equal
    /// to `SIGNALING_KEEP_ALIVE` of the proposed method, so that both notice alike, and far below the 30 s after which
    /// middleboxes forget UDP mappings (RFC 9000 §10.1.2).
    NMS_KEEP_ALIVE: Duration = Duration::from_secs(3);

    /// After this many transmissions of a Keep Alive without an answer the registration counts as lost.
    ///
    /// Why: the waits are 0.5 s, then 1 s three times: an NMS is given up after 3.5 s. At 10 % loss each way, four in a
    /// row are lost once in 770 times.
    NMS_KEEP_ALIVE_TRIES: u8 = 4;

    /// An NMS that does not acknowledge for this long, and [`NMS_SILENCE_ROUND_TRIPS`] round trips, is tried by another
    /// family or interface beside (proposed method).
    ///
    /// Why: QUIC has sent three or four probes in that time (RFC 9002 §6.2). What is silent for no longer than
    /// `SIGNALING_KEEP_ALIVE` before is left after 4 s then.
    NMS_SILENCE: Duration = Duration::from_secs(1);

    /// See [`NMS_SILENCE`].
    ///
    /// Why: at a long round trip, one for the message and one for a probe, and as many again for a lost probe.
    NMS_SILENCE_ROUND_TRIPS: u8 = 4;

    /// A registration that is lost after less than this counts as a failure, and the pause before the next attempt
    /// grows.
    ///
    /// Why: two nodes with one identity put each other out as soon as each registers, which takes a few round trips.
    /// Above that, and below [`NMS_KEEP_ALIVE`], so that a loss that a Keep Alive found is no failure.
    REGISTRATION_STABLE: Duration = Duration::from_secs(2);

    /// The base of the pause after a failed login or registration; each further failure doubles it.
    ///
    /// Why: chosen. The pause is drawn from its upper half, so that nodes that lost one service do not all return at
    /// once.
    CLOUD_FIRST_PAUSE: Duration = Duration::from_millis(500);

    /// The longest pause after a failed login or registration.
    ///
    /// Why: chosen. A service that comes back has all of its nodes again after half a minute; one that is down is asked
    /// by each node two to four times a minute.
    CLOUD_LONGEST_PAUSE: Duration = Duration::from_secs(30);

    /// A Peer Report is sent this often in all, until the NMS acknowledges it (conventional method).
    ///
    /// Why: the waits are those of a Keep Alive ([`NMS_KEEP_ALIVE_TRIES`]), which gives the NMS up where it does not
    /// answer. Then another registration brings another report.
    PEER_REPORT_TRIES: u8 = 4;

    /// Probes that were not answered are sent again after this.
    ///
    /// Why: a quarter of [`SURVEY_LENGTH`]: all [`PROBE_TRIES`] fit, and the last has a quarter of a second for its
    /// answer.
    PROBE_RETRY: Duration = Duration::from_millis(250);

    /// A survey sends each Probe at most this often.
    ///
    /// Why: what is lost looks like what a filter blocked. At 10 % loss each way, four in a row are lost once in 770
    /// times.
    PROBE_TRIES: u8 = 4;

    /// A survey ends this long after its begin and two round trips.
    ///
    /// Why: [`PROBE_TRIES`] times [`PROBE_RETRY`]. The two round trips are for paths that are slower than that.
    SURVEY_LENGTH: Duration = Duration::from_secs(1);

    /// A node asks the NMS this often where it is seen.
    ///
    /// Why: below the 30 s after which some NATs forget a UDP mapping (RFC 9000 §10.1.2), so that the mapping lives;
    /// RFC 4787 REQ-5 forbids less than two minutes.
    PROBE_REFRESH: Duration = Duration::from_secs(20);

    /// The first wait before a Network Report is sent again (conventional method).
    ///
    /// Why: as [`CLOUD_RETRY`]: the same NMS on the same path.
    REPORT_RETRY: Duration = Duration::from_millis(500);

    /// A Network Report is sent at most this often.
    ///
    /// Why: a report that never arrives costs worse routes, not reachability, and the next survey reports again. An NMS
    /// that does not answer for the 5.5 s that this takes was given up by [`NMS_KEEP_ALIVE_TRIES`] before.
    REPORT_TRIES: u8 = 6;

    /// A packet or a DNS query waits this long for a route, from the first one on.
    ///
    /// Why: [`DIAL_STEP_TIMEOUT`] and [`LISTEN_TIMEOUT`], one after the other: an attempt may fail as slowly as it can,
    /// and another begin. A resolver that asks twice for 5 s each (resolv.conf(5)) has given up before.
    ROUTE_TIMEOUT: Duration = Duration::from_secs(12);

    /// A flow of UDP or ICMP that is silent for so long is over: an answer after that is not permitted by it.
    ///
    /// Why: a NAT keeps such a mapping for two minutes at least, and five are recommended (RFC 4787 REQ-5).
    FLOW_SILENCE: Duration = Duration::from_secs(300);

    /// The same of TCP.
    ///
    /// Why: a NAT keeps an established connection for 2 h 4 min at least, twice the keep-alive of TCP (RFC 5382 REQ-5).
    TCP_SILENCE: Duration = Duration::from_secs(7_440);

    /// Once a node has been without a registration for this long, DNS queries for peers wait no longer.
    ///
    /// Why: an NMS that was restarted has its nodes again within this ([`NMS_KEEP_ALIVE`] and a round trip), so such a
    /// query is answered well. A resolver asks again after 5 s (resolv.conf(5)); later answers are of no use.
    UNREGISTERED_GRACE: Duration = Duration::from_secs(4);

    /// The first wait before a Direction Request is sent again (conventional method).
    ///
    /// Why: as [`CLOUD_RETRY`], and longer than the NMS's own first retransmission to the responder (400 ms), which a
    /// repeated request would only double.
    DIRECTION_RETRY: Duration = Duration::from_millis(500);

    /// After this many transmissions of a Direction Request without an answer the node asks the NMS by a Keep Alive
    /// whether it still knows it.
    ///
    /// Why: one loss is ordinary. Two in a row, 1.5 s, cost less than half of [`NMS_KEEP_ALIVE`] and say more.
    DIRECTION_DOUBTFUL: u8 = 2;

    /// A Direction Request for something better than the tunnel that is up is given up after this many transmissions.
    ///
    /// Why: the waits sum up to 5.5 s, longer than the 3.5 s after which the NMS itself is given up; the tunnel carries
    /// meanwhile.
    DIRECTION_TRIES: u8 = 6;

    /// The pause after a Route Direction whose tunnel did not come up; each further failure doubles it.
    ///
    /// Why: an attempt that fails at once, because a port is closed, costs a few messages: so the first pause is short,
    /// and doubling bounds what a path that always fails costs.
    ROUTE_FIRST_PAUSE: Duration = Duration::from_millis(200);

    /// The longest pause between two attempts at a tunnel.
    ///
    /// Why: three doublings of [`ROUTE_FIRST_PAUSE`]. Attempts that fail at once are then about ten within
    /// [`ROUTE_TIMEOUT`].
    ROUTE_LONGEST_PAUSE: Duration = Duration::from_millis(1_600);

    /// A direct attempt has this much time before the relay is asked for as well (`policy = "optimal"`).
    ///
    /// Why: three round trips, which a direct tunnel takes from the Route Direction on, of paths up to 160 ms. Longer
    /// would keep applications waiting where no direct path is; shorter would load the relay for nothing.
    DIRECT_HEAD_START: Duration = Duration::from_millis(500);

    /// The first wait, after a relayed tunnel came up, before a direct one is tried; each later wait is twice as long.
    ///
    /// Why: chosen. The first attempt comes soon, because a survey may just have ended that found a better way. Later
    /// ones are rarer, because what failed twice will most likely fail again.
    FIRST_IMPROVEMENT: Duration = Duration::from_millis(500);

    /// The longest wait between two attempts at a direct tunnel; also how long a direct path that fell silent is left
    /// alone.
    ///
    /// Why: seven doublings of [`FIRST_IMPROVEMENT`]. An attempt costs some ten messages, and where the path falls
    /// silent again [`DIRECT_SILENCE`] without packets: 5 s of 69 s.
    LONGEST_IMPROVEMENT: Duration = Duration::from_secs(64);

    /// A node that sends into a direct tunnel, and hears nothing for this long, asks for the relay.
    ///
    /// Why: [`TUNNEL_SILENCE`] and two [`TUNNEL_DOUBT_RETRY`], so that two lost Keep Alives of the conventional method
    /// are no reason yet; below [`TUNNEL_DOUBT_TIMEOUT`], so that the relay is there before the tunnel is given up.
    /// QUIC has sent several probes in that time (RFC 9002 §6.2).
    DIRECT_SILENCE: Duration = Duration::from_secs(5);

    /// A tunnel that was replaced is kept until nothing has come by it for this long.
    ///
    /// Why: the peer changes over when it hears of the new tunnel, which may take as many retransmissions as fit in
    /// [`DIAL_STEP_TIMEOUT`].
    REPLACED_LINGER: Duration = Duration::from_secs(5);

    /// The transaction of a Route Direction that was obeyed is remembered for this long, so that a repetition is not
    /// obeyed.
    ///
    /// Why: the NMS repeats one for as long as it remembers the route construction, [`ROUTE_LIFETIME`]. Another 2 s
    /// cover what is still under way.
    DIRECTION_REMEMBERED: Duration = ROUTE_LIFETIME.saturating_add(Duration::from_secs(2));

    /// Each step of a dialer may take this long, from the Route Direction on.
    ///
    /// Why: a Tunnel Request is sent again after 0.3 s, 0.9 s, 1.9 s, 2.9 s and 3.9 s, QUIC's first packet after 0.3 s,
    /// 0.9 s and 2.1 s: three losses in a row are made up for. Then another way is better.
    DIAL_STEP_TIMEOUT: Duration = Duration::from_secs(4);

    /// A dialer whose handshake is not finished after this dials once more beside it, repeatedly (proposed method).
    ///
    /// Why: QUIC's first packet is sent again after 0.3 s and 0.9 s, and then only after 2.1 s: from here on another
    /// handshake sends sooner. On paths without loss that are faster than 700 ms nothing is dialed twice.
    DIAL_AGAIN: Duration = Duration::from_millis(1_500);

    /// A tunnel whose handshakes show life is built for at most this long.
    ///
    /// Why: three times [`DIAL_STEP_TIMEOUT`], and as long as a packet waits for a route ([`ROUTE_TIMEOUT`]).
    BUILD_LONGEST: Duration = Duration::from_secs(12);

    /// A listener waits this long for the dialer's Tunnel Request, from its own Route Direction on.
    ///
    /// Why: twice [`DIAL_STEP_TIMEOUT`]: the dialer may be told later than the listener by some retransmissions, and in
    /// the proposed method it has two steps, the handshake and the request.
    LISTEN_TIMEOUT: Duration = Duration::from_secs(8);

    /// The first wait before a Tunnel Request, or a Hole Punching to the TRS, is sent again (conventional method).
    ///
    /// Why: equal to QUIC's first probe timeout (RFC 9002 §6.2.1) at the initial round trip that this project sets, 3 ×
    /// 100 ms, so that a lost first packet costs both methods the same.
    TUNNEL_RETRY: Duration = Duration::from_millis(300);

    /// The first wait before a listener punches again towards its peer (`policy = "optimal"`).
    ///
    /// Why: a third of the time after which the dialer sends again ([`TUNNEL_RETRY`]), so that a lost first punch is
    /// made up for before the dialer's second packet comes.
    PUNCH_RETRY: Duration = Duration::from_millis(100);

    /// A conventional tunnel on which nothing else happens carries a Keep Alive this often.
    ///
    /// Why: the interval of ICE's keepalives (RFC 8445 §11), half of the 30 s after which middleboxes forget UDP
    /// mappings (RFC 9000 §10.1.2): one may be lost.
    TUNNEL_KEEP_ALIVE: Duration = Duration::from_secs(15);

    /// While a Keep Alive of a conventional tunnel waits for its answer it is sent again this often.
    ///
    /// Why: the longest wait of all retransmissions, `LONGEST_RETRY`: ten fit in [`TUNNEL_DOUBT_TIMEOUT`].
    TUNNEL_DOUBT_RETRY: Duration = Duration::from_secs(1);

    /// A conventional tunnel whose peer owes an answer for this long is down.
    ///
    /// Why: ten Keep Alives. A path that loses 30 % each way answers none of ten once in 840 times; an outage of a few
    /// seconds, such as a handover, is survived.
    TUNNEL_DOUBT_TIMEOUT: Duration = Duration::from_secs(10);

    /// A node that sends a packet into a conventional tunnel after this much silence sends a Keep Alive with it.
    ///
    /// Why: chosen. Lower, and flows in one direction draw a Keep Alive each time; higher, and a dead peer is noticed
    /// that much later, after this and [`TUNNEL_DOUBT_TIMEOUT`].
    TUNNEL_SILENCE: Duration = Duration::from_secs(3);

    /// A timer that fires this much too late says that the machine stood still: NMS and peers are asked at once.
    ///
    /// Why: far above the delays of a busy machine, and below the silence after which NATs and peers forget anything.
    SLEPT: Duration = Duration::from_secs(2);

    /// A timer that fires this much too late says that the machine has slept: the node registers and builds its tunnels
    /// anew.
    ///
    /// Why: peers give a tunnel up after 10 s without an answer ([`TUNNEL_DOUBT_TIMEOUT`], [`PATHLESS_LIMIT`]), and the
    /// NMS is asked each 3 s. To find out by silence what is left would take longer than to build it.
    SLEPT_LONG: Duration = Duration::from_secs(10);

    /// A conventional tunnel whose packets stop coming carries a Keep Alive after this, or half a second after the next
    /// packet would have come (`policy = "optimal"`).
    ///
    /// Why: a receiver that only answers cannot know that its NAT has forgotten it, and its peer cannot tell it.
    /// With two round trips, until the TRS has found the new port, the gap stays below two seconds. A flow that ends
    /// costs two packets.
    FLOW_STOPPED: Duration = Duration::from_secs(1);

    /// Packets that are this far apart, or less, are a flow. See [`FLOW_STOPPED`].
    ///
    /// Why: at `ping`'s pace of a second nothing is sent on top. Slower flows have their own gaps of that length.
    FLOW_GAP: Duration = Duration::from_secs(2);

    /// A link from a peer that the NMS has not announced yet may wait this long for the Route Direction.
    ///
    /// Why: longer than [`DIAL_STEP_TIMEOUT`], after which the dialer itself has given the link up.
    EARLY_LINK_TIMEOUT: Duration = Duration::from_secs(5);

    /// A path that is searched for its MTU, and is silent for this long and four round trips, counts as ended by the
    /// search.
    ///
    /// Why: QUIC acknowledges within 25 ms, so two seconds are several lost probes in a row (RFC 9002 §6.2.1 doubles
    /// 300 ms twice meanwhile). Half as long does where the path is given up anyway.
    MTU_SEARCH_SILENCE: Duration = Duration::from_secs(2);

    /// A tunnel with paths beneath it is down if none of them was proved for this long.
    ///
    /// Why: twice the 4 s after which a login over one family is given up, and some: a node that changes the family
    /// registers anew, and asks for a route, before its peer can hear of it.
    PATHLESS_LIMIT: Duration = Duration::from_secs(10);

    /// While no path of a tunnel works, the NMS is asked for the relay this often.
    ///
    /// Why: a leg to the TRS takes four round trips. On a path of 250 ms that is done before the next request.
    PATH_WANTED: Duration = Duration::from_secs(1);

    /// A server has to follow a client that migrates within this time, or the tunnel is built anew (`handover =
    /// "migrate"`).
    ///
    /// Why: RFC 9000 §8.2.4 gives path validation three probe timeouts. At a round trip of 200 ms they take 1.2 s; a
    /// lost packet is made up for.
    MIGRATION_LIMIT: Duration = Duration::from_secs(2);

    /// What QUIC has counted of losses is looked at this often while packets are sent.
    ///
    /// Why: a tenth of the second over which loss is judged.
    PATH_COUNTED: Duration = Duration::from_millis(100);

    /// A node asks for another grant for its leg to the TRS this long before the last one ends, and this often until it
    /// has one. A grant that is shorter than twice this is renewed at its half.
    ///
    /// Why: half of `GRANT_TIME`, so that an NMS may be away for as long; a minute apart while it does not answer.
    GRANT_RENEWAL: Duration = Duration::from_secs(1800);

    /// While a Grant Request is not answered, it is sent again this often.
    ///
    /// Why: thirty times in `GRANT_RENEWAL`; one small message a minute is no load.
    GRANT_RETRY: Duration = Duration::from_secs(60);

    /// A standing leg to the TRS that a tunnel took, or that is gone, is replaced after this.
    ///
    /// Why: the tunnel's own handshake is over by then on paths up to 300 ms, so that the leg's does not compete with
    /// it. A second relayed tunnel that begins within it opens a leg of its own.
    LEG_AGAIN: Duration = Duration::from_secs(1);

    /// A challenge of the NMS to an address of ours is answered at most this often.
    ///
    /// Why: forged ones cost the node one message to the NMS each. The NMS itself sends one in 200 ms at most.
    CHALLENGE_RETURNED: Duration = Duration::from_millis(100);
}
