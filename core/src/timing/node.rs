//! The node's timers.

use std::time::Duration;

use super::nms::ROUTE_LIFETIME;

timings! {
    /// A node whose login or registration fails for the first time waits this long for each of the two steps.
    ///
    /// Why: half of [`CLOUD_STEP_TIMEOUT`], because the other address family may answer. The SYN of a conventional
    /// login is sent again after 1 s and 3 s (RFC 6298 §2), so two lost ones are still made up for.
    CLOUD_FIRST_STEP_TIMEOUT: Duration = Duration::from_secs(4);

    /// Login and registration may each take this long at the second attempt. Each further attempt may take twice as
    /// long. No limit is below four round trips.
    ///
    /// Why: a TCP SYN is sent again after 1 s, 3 s and 7 s (RFC 6298 §2), so three lost ones are still made up for;
    /// QUIC's first packet is sent again four times in that time.
    CLOUD_STEP_TIMEOUT: Duration = Duration::from_secs(8);

    /// No login or registration is waited for longer than this, unless four round trips take longer.
    ///
    /// Why: a login over TCP takes three round trips, or five if two packets are lost. At a round trip of 6 s, which a
    /// satellite with full queues has, five take 30 s. Attempts stay open beside the next one, so more is not needed.
    CLOUD_LONGEST_STEP: Duration = Duration::from_secs(32);

    /// If a service does not answer within this time, or within two round trips if these are longer, the node also
    /// tries another address family or interface.
    ///
    /// Why: QUIC has sent its first packet three times by then, and TCP sends a lost SYN again just then (RFC 6298 §2).
    /// Happy Eyeballs waits 250 ms (RFC 8305 §5), which is too short for a slow path. A family that is dead costs one
    /// second instead of [`CLOUD_FIRST_STEP_TIMEOUT`].
    CLOUD_OTHER_PATH: Duration = Duration::from_secs(1);

    /// A node whose round trip to the services takes this long is slow. It tells the NMS so, and every wait of a route
    /// construction with it is `SLOW_FACTOR` times as long.
    ///
    /// Why: four round trips of this length fill the dialer's limit [`DIAL_STEP_TIMEOUT`]. The 600 ms of a satellite
    /// are below it, and leave room for a lost packet.
    SLOW_ROUND_TRIP: Duration = Duration::from_secs(1);

    /// The first wait before a Registration Request or Keep Alive to the NMS is sent again (conventional method).
    ///
    /// Why: chosen. Nearly every path has a shorter round trip (a satellite's takes 600 ms), so few requests are sent
    /// twice without need. A lost request costs half a second.
    CLOUD_RETRY: Duration = Duration::from_millis(500);

    /// A registered node of the conventional method sends the NMS a Keep Alive this often.
    ///
    /// Why: a node whose NMS was restarted cannot be reached until it notices, so this bounds the outage. It is equal
    /// to `SIGNALING_KEEP_ALIVE` of the proposed method, so that both methods notice a restart equally soon. It is far
    /// below the 30 s after which middleboxes forget UDP mappings (RFC 9000 §10.1.2).
    NMS_KEEP_ALIVE: Duration = Duration::from_secs(3);

    /// After this many transmissions of a Keep Alive without an answer the registration counts as lost.
    ///
    /// Why: the waits are 0.5 s, then 1 s three times, so an NMS is given up after 3.5 s. At 10 % loss each way, four
    /// Keep Alives in a row stay unanswered once in 770 times.
    NMS_KEEP_ALIVE_TRIES: u8 = 4;

    /// If the NMS acknowledges nothing for this long plus [`NMS_SILENCE_ROUND_TRIPS`] round trips, the node also tries
    /// another family or interface (proposed method).
    ///
    /// Why: QUIC has sent three or four probes in that time (RFC 9002 §6.2). The first of them leaves within
    /// `SIGNALING_KEEP_ALIVE`, so where round trips are short a dead path is left after 4 s.
    NMS_SILENCE: Duration = Duration::from_secs(1);

    /// The number of round trips that are added to [`NMS_SILENCE`].
    ///
    /// Why: one round trip for the message, one for a probe, and two more if that probe is lost.
    NMS_SILENCE_ROUND_TRIPS: u8 = 4;

    /// A registration that is lost after less than this counts as a failure, and the pause before the next attempt
    /// grows.
    ///
    /// Why: if two machines of an older version have one identity, each registration ends the other machine's, after a
    /// few round trips. This is longer than those. It is shorter than [`NMS_KEEP_ALIVE`], so a registration whose loss
    /// a Keep Alive found is no failure.
    REGISTRATION_STABLE: Duration = Duration::from_secs(2);

    /// A node that was told of another machine with its name and key logs in again after this many attempts in a row
    /// that nobody answered.
    ///
    /// Why: in the conventional method a login ends the other machine's registration. The NMS answers this node as long
    /// as it remembers the node's last login, and a restarted NMS remembers none. Three attempts take half a minute, so
    /// an NMS that is away for less changes nothing. With the longest pause before them, the node has the place of a
    /// machine that went during a restart of the NMS after a minute.
    YIELDED_TRIES: u8 = 3;

    /// The pause after the first failed login or registration. Each further failure doubles it.
    ///
    /// Why: chosen. The actual pause is drawn between half of this and all of it, so that the nodes of a service that
    /// failed do not all return at once.
    CLOUD_FIRST_PAUSE: Duration = Duration::from_millis(500);

    /// The longest pause after a failed login or registration.
    ///
    /// Why: chosen. A service that comes back has all of its nodes again after half a minute. While a service is down,
    /// each node asks it two to four times a minute.
    CLOUD_LONGEST_PAUSE: Duration = Duration::from_secs(30);

    /// A Peer Report is sent at most this often, until the NMS acknowledges it (conventional method).
    ///
    /// Why: equal to [`NMS_KEEP_ALIVE_TRIES`], with the same waits. By then an NMS that does not answer was given up,
    /// and the next registration brings another report.
    PEER_REPORT_TRIES: u8 = 4;

    /// Probes that were not answered are sent again after this.
    ///
    /// Why: a quarter of [`SURVEY_LENGTH`]. So all [`PROBE_TRIES`] fit, and the last one has 250 ms for its answer.
    PROBE_RETRY: Duration = Duration::from_millis(250);

    /// A survey sends each Probe at most this often.
    ///
    /// Why: a lost Probe looks like one that a filter blocked. At 10 % loss each way, four Probes in a row stay
    /// unanswered once in 770 times.
    PROBE_TRIES: u8 = 4;

    /// A survey takes this long plus two round trips.
    ///
    /// Why: [`PROBE_TRIES`] times [`PROBE_RETRY`]. The two round trips let the last answer arrive on a slow path.
    SURVEY_LENGTH: Duration = Duration::from_secs(1);

    /// A node asks the NMS for its observed address this often.
    ///
    /// Why: some NATs forget a UDP mapping after 30 s (RFC 9000 §10.1.2), although RFC 4787 REQ-5 demands two minutes.
    /// So the question also keeps the mapping.
    PROBE_REFRESH: Duration = Duration::from_secs(20);

    /// The first wait before a Network Report is sent again (conventional method).
    ///
    /// Why: as [`CLOUD_RETRY`]: the same NMS on the same path.
    REPORT_RETRY: Duration = Duration::from_millis(500);

    /// A Network Report is sent at most this often.
    ///
    /// Why: all transmissions take 5.5 s. By then an NMS that does not answer was given up ([`NMS_KEEP_ALIVE_TRIES`]).
    /// A report that never arrives costs worse routes, not reachability, and the next survey reports again.
    REPORT_TRIES: u8 = 6;

    /// A packet or a DNS query waits this long for a route. The time begins with the first of them.
    ///
    /// Why: [`DIAL_STEP_TIMEOUT`] plus [`LISTEN_TIMEOUT`]: one attempt may fail as slowly as it can, and another one
    /// begin. A resolver that asks twice for 5 s each (resolv.conf(5)) gives up earlier.
    ROUTE_TIMEOUT: Duration = Duration::from_secs(12);

    /// A flow of UDP or ICMP that is silent for this long is over. It permits no answer after that.
    ///
    /// Why: a NAT keeps such a mapping for two minutes at least, and five are recommended (RFC 4787 REQ-5).
    FLOW_SILENCE: Duration = Duration::from_secs(300);

    /// The time of a flow's last packet is noted this often. So a flow may be over that much earlier.
    ///
    /// Why: to note it means to move the flow in the table of ages. Done for each packet, it took a twentieth of the
    /// throughput.
    FLOW_NOTED: Duration = Duration::from_secs(1);

    /// A TCP flow that is silent for this long is over.
    ///
    /// Why: a NAT keeps an established connection for 2 h 4 min at least, twice the keep-alive of TCP (RFC 5382 REQ-5).
    TCP_SILENCE: Duration = Duration::from_secs(7_440);

    /// A name query whose answer is known waits for a tunnel no longer than this.
    ///
    /// Why: less than the shortest time that a user can set for a resolver, 1 s (resolv.conf(5), `timeout`). After that
    /// time the resolver asks its next server. That server may be a stranger, who would learn the name and deny it.
    KNOWN_QUERY_PATIENCE: Duration = Duration::from_millis(900);

    /// A name query whose answer is not known is answered without an address after this time (proposed method; in the
    /// conventional method, where the NMS asks the peer first, after [`ROUTE_TIMEOUT`]).
    ///
    /// Why: as [`KNOWN_QUERY_PATIENCE`], for a resolver with its default of 5 s. A shorter wait would deny names of
    /// peers wherever the NMS is slow.
    QUERY_PATIENCE: Duration = Duration::from_secs(4);

    /// Once a node has been without a registration for this long, DNS queries for peers wait no longer.
    ///
    /// Why: a restarted NMS has its nodes again after [`NMS_KEEP_ALIVE`] and a round trip. So a query that waits over a
    /// restart is still answered by an address. A resolver asks again after 5 s (resolv.conf(5)), so a later answer is
    /// of no use.
    UNREGISTERED_GRACE: Duration = Duration::from_secs(4);

    /// The first wait before a Direction Request is sent again (conventional method).
    ///
    /// Why: as [`CLOUD_RETRY`]. It is longer than the 400 ms after which the NMS sends its own message to the responder
    /// again (`ROUTING_RETRY`): an earlier request would only make the NMS send that message twice.
    DIRECTION_RETRY: Duration = Duration::from_millis(500);

    /// After this many transmissions of a Direction Request without an answer, the node sends a Keep Alive, to find out
    /// whether the NMS still knows the node.
    ///
    /// Why: one loss is ordinary, and two in a row are rare. They take 1.5 s, half of [`NMS_KEEP_ALIVE`].
    DIRECTION_DOUBTFUL: u8 = 2;

    /// A Direction Request for something better than the tunnel that is up is given up after this many transmissions.
    ///
    /// Why: the waits sum up to 5.5 s. That is longer than the 3.5 s after which the NMS itself is given up. The
    /// present tunnel carries packets meanwhile.
    DIRECTION_TRIES: u8 = 6;

    /// The pause after a Route Direction whose tunnel did not come up. Each further failure doubles it.
    ///
    /// Why: an attempt that fails at once, because a port is closed, costs a few messages only, so the first pause is
    /// short. Doubling bounds the cost of a path that always fails.
    ROUTE_FIRST_PAUSE: Duration = Duration::from_millis(200);

    /// The longest pause between two attempts at a tunnel.
    ///
    /// Why: three doublings of [`ROUTE_FIRST_PAUSE`]. Attempts that fail at once are then about ten within
    /// [`ROUTE_TIMEOUT`].
    ROUTE_LONGEST_PAUSE: Duration = Duration::from_millis(1_600);

    /// A direct attempt has this much time before the relay is asked for as well (`policy = "optimal"`).
    ///
    /// Why: a direct tunnel takes three round trips from the Route Direction on, so those of up to 160 ms fit. A longer
    /// time would keep applications waiting where there is no direct path. A shorter one would load the relay for
    /// nothing.
    DIRECT_HEAD_START: Duration = Duration::from_millis(500);

    /// The first wait, after a relayed tunnel came up, before a direct one is tried. Each later wait is twice as long.
    ///
    /// Why: chosen. The first attempt comes soon, because a survey may just have ended that found a better way. Later
    /// ones are rarer, because what failed twice will most likely fail again.
    FIRST_IMPROVEMENT: Duration = Duration::from_millis(500);

    /// The longest wait between two attempts at a direct tunnel. A direct path that fell silent is not tried again for
    /// as long.
    ///
    /// Why: seven doublings of [`FIRST_IMPROVEMENT`]. An attempt costs some ten messages. If the direct path falls
    /// silent again, it also costs [`DIRECT_SILENCE`] without packets, which is 5 s of each 69 s.
    LONGEST_IMPROVEMENT: Duration = Duration::from_secs(64);

    /// A node that sends into a direct tunnel, and hears nothing for this long, asks for the relay.
    ///
    /// Why: [`TUNNEL_SILENCE`] plus two [`TUNNEL_DOUBT_RETRY`], so two lost Keep Alives of the conventional method are
    /// no reason to ask. It is below [`TUNNEL_DOUBT_TIMEOUT`], so the relay is there before the tunnel is given up.
    /// QUIC has sent several probes in that time (RFC 9002 §6.2).
    DIRECT_SILENCE: Duration = Duration::from_secs(5);

    /// A connection of two nodes carries packets for no longer than this, if the policy is `optimal` (proposed method).
    /// Then another one is built, with keys of its own, and replaces it.
    ///
    /// Why: a thief of the keys of a connection reads what it carried. OpenVPN makes new keys after the same time
    /// (`reneg-sec`). A connection costs some 10 KB.
    TUNNEL_LIFETIME: Duration = Duration::from_secs(3_600);

    /// If the attempt to replace an old connection failed, or the connection had carried nothing, the next attempt
    /// follows after this.
    ///
    /// Why: as [`LONGEST_IMPROVEMENT`]: the present tunnel carries packets meanwhile, and what failed may fail again.
    RENEWAL_RETRY: Duration = Duration::from_secs(64);

    /// A replaced tunnel is kept until nothing has arrived on it for this long.
    ///
    /// Why: the peer changes over when it learns of the new tunnel. That takes [`DIAL_STEP_TIMEOUT`] at most.
    REPLACED_LINGER: Duration = Duration::from_secs(5);

    /// The transaction of a Route Direction that was obeyed is remembered for this long, so that its retransmissions
    /// are not obeyed again.
    ///
    /// Why: the NMS retransmits a Route Direction for as long as it remembers the route construction
    /// ([`ROUTE_LIFETIME`]). Another 2 s cover a message that is still under way.
    DIRECTION_REMEMBERED: Duration = ROUTE_LIFETIME.saturating_add(Duration::from_secs(2));

    /// Each step of a dialer may take this long. The first one begins with the Route Direction.
    ///
    /// Why: a Tunnel Request is sent again after 0.3 s, 0.9 s, 1.9 s, 2.9 s and 3.9 s, and QUIC's first packet after
    /// 0.3 s, 0.9 s and 2.1 s. So three losses in a row are made up for. After that another path is more likely to
    /// work.
    DIAL_STEP_TIMEOUT: Duration = Duration::from_secs(4);

    /// Each time that a dialer's handshake is not finished after this, the dialer begins another one beside it
    /// (proposed method).
    ///
    /// Why: QUIC sends its first packet again after 0.3 s and 0.9 s, and then only after 2.1 s. Another handshake at
    /// 1.5 s sends sooner than that. On paths without loss and with a round trip below 700 ms there is no second
    /// handshake.
    DIAL_AGAIN: Duration = Duration::from_millis(1_500);

    /// The time limit of building a tunnel while the peer is heard.
    ///
    /// Why: three times [`DIAL_STEP_TIMEOUT`], and as long as a packet waits for a route ([`ROUTE_TIMEOUT`]).
    BUILD_LONGEST: Duration = Duration::from_secs(12);

    /// A listener waits this long, from its Route Direction on, for the dialer's Tunnel Request.
    ///
    /// Why: twice [`DIAL_STEP_TIMEOUT`]. The dialer may get its Route Direction later than the listener, by some
    /// retransmissions. In the proposed method the dialer also has two steps: the handshake and the request.
    LISTEN_TIMEOUT: Duration = Duration::from_secs(8);

    /// The first wait before a Tunnel Request, or a Hole Punching to the TRS, is sent again (conventional method).
    ///
    /// Why: equal to QUIC's first probe timeout (RFC 9002 §6.2.1), which is 3 × `INITIAL_RTT`. So a lost first packet
    /// costs both methods the same.
    TUNNEL_RETRY: Duration = Duration::from_millis(300);

    /// The first wait before a listener punches again towards its peer (`policy = "optimal"`).
    ///
    /// Why: a third of [`TUNNEL_RETRY`], after which the dialer sends again. So a lost first punch is made up for
    /// before the dialer's second packet comes.
    PUNCH_RETRY: Duration = Duration::from_millis(100);

    /// A conventional tunnel on which nothing else happens carries a Keep Alive this often.
    ///
    /// Why: the interval of ICE's keepalives (RFC 8445 §11). It is half of the 30 s after which middleboxes forget UDP
    /// mappings (RFC 9000 §10.1.2), so one may be lost.
    TUNNEL_KEEP_ALIVE: Duration = Duration::from_secs(15);

    /// The interval at which an unanswered Keep Alive of a conventional tunnel is sent again.
    ///
    /// Why: equal to `LONGEST_RETRY`. Ten transmissions fit in [`TUNNEL_DOUBT_TIMEOUT`].
    TUNNEL_DOUBT_RETRY: Duration = Duration::from_secs(1);

    /// A conventional tunnel whose peer owes an answer for this long is down.
    ///
    /// Why: ten Keep Alives. At 30 % loss each way, all ten stay unanswered once in 840 times. The tunnel survives an
    /// outage of a few seconds, such as a handover.
    TUNNEL_DOUBT_TIMEOUT: Duration = Duration::from_secs(10);

    /// A node that sends a packet into a conventional tunnel after this much silence sends a Keep Alive with it.
    ///
    /// Why: chosen. With a lower value, flows in one direction would draw more Keep Alives. With a higher one, a dead
    /// peer would be noticed later: it is noticed after this plus [`TUNNEL_DOUBT_TIMEOUT`].
    TUNNEL_SILENCE: Duration = Duration::from_secs(3);

    /// A timer that fires this much too late says that the machine stood still: NMS and peers are asked at once.
    ///
    /// Why: far above the delays of a busy machine, and below the silence after which NATs and peers forget a node.
    SLEPT: Duration = Duration::from_secs(2);

    /// A timer that fires this much too late says that the machine has slept: the node registers and builds its tunnels
    /// anew.
    ///
    /// Why: peers give a tunnel up after 10 s without an answer ([`TUNNEL_DOUBT_TIMEOUT`], [`PATHLESS_LIMIT`]). Waiting
    /// to see which tunnels are left would take longer than building them.
    SLEPT_LONG: Duration = Duration::from_secs(10);

    /// A conventional tunnel whose packets stop coming carries a Keep Alive after this, or half a second after the next
    /// packet would have come (`policy = "optimal"`).
    ///
    /// Why: a node that only receives cannot know that its NAT has lost the mapping, and its peer cannot tell it. Two
    /// round trips later the TRS has found the new port, so the gap stays below two seconds. The end of a flow costs
    /// two packets.
    FLOW_STOPPED: Duration = Duration::from_secs(1);

    /// Packets at most this far apart are a flow, for [`FLOW_STOPPED`].
    ///
    /// Why: `ping` sends one packet a second, so the next one comes before a Keep Alive is due. A slower flow has gaps
    /// of this length anyway.
    FLOW_GAP: Duration = Duration::from_secs(2);

    /// A link from a peer that the NMS has not announced yet may wait this long for the Route Direction.
    ///
    /// Why: longer than [`DIAL_STEP_TIMEOUT`], after which the dialer has given the link up.
    EARLY_LINK_TIMEOUT: Duration = Duration::from_secs(5);

    /// A path that is silent for this long plus four round trips during the search for its MTU counts as ended by the
    /// search.
    ///
    /// Why: QUIC acknowledges within 25 ms, and sends probes after 0.3 s, 0.9 s and 2.1 s (RFC 9002 §6.2.1). So in two
    /// seconds several probes in a row were lost.
    MTU_SEARCH_SILENCE: Duration = Duration::from_secs(2);

    /// A tunnel with paths beneath it is down if none of them was proved for this long.
    ///
    /// Why: a node that has to change the address family gives up one login after 4 s ([`CLOUD_FIRST_STEP_TIMEOUT`]),
    /// registers, and asks for a route, before its peer can hear of it. This is twice those 4 s, and 2 s more.
    PATHLESS_LIMIT: Duration = Duration::from_secs(10);

    /// While no path of a tunnel works, the NMS is asked for the relay this often.
    ///
    /// Why: a leg to the TRS takes four round trips. On a path of 250 ms that is done before the next request.
    PATH_WANTED: Duration = Duration::from_secs(1);

    /// A server has to follow a client that migrates within this time, or the tunnel is built anew (`handover =
    /// "migrate"`).
    ///
    /// Why: RFC 9000 §8.2.4 gives path validation three probe timeouts. At a round trip of 200 ms they take 1.2 s,
    /// which leaves time for a lost packet.
    MIGRATION_LIMIT: Duration = Duration::from_secs(2);

    /// While packets are sent, QUIC's count of losses is read this often.
    ///
    /// Why: a tenth of the second over which loss is judged.
    PATH_COUNTED: Duration = Duration::from_millis(100);

    /// A node asks for the next grant for its leg to the TRS this long before the last one ends. If a grant lasts less
    /// than twice this, the node asks at half of its time.
    ///
    /// Why: half of `GRANT_TIME`, so that an NMS may be away for half an hour without costing a tunnel.
    GRANT_RENEWAL: Duration = Duration::from_secs(1800);

    /// A node asks for the next grant of a relayed path this long after the tunnel came up. The answer says how long
    /// grants last (conventional method).
    ///
    /// Why: most searches for a direct path are over by then, and a tunnel that became a direct one asks for nothing.
    /// It is a third of the 90 s for which the TRS keeps a path without a grant (`PATH_IDLE`).
    GRANT_FIRST_RENEWAL: Duration = Duration::from_secs(30);

    /// While a Grant Request is not answered, it is sent again this often.
    ///
    /// Why: thirty requests fit in `GRANT_RENEWAL`, and one small message a minute is no load.
    GRANT_RETRY: Duration = Duration::from_secs(60);

    /// A standing leg to the TRS that a tunnel took, or that is gone, is replaced after this.
    ///
    /// Why: by then the tunnel's own handshake is over on paths up to 300 ms, so the leg's handshake does not compete
    /// with it. A second relayed tunnel that begins within this time opens a leg of its own.
    LEG_AGAIN: Duration = Duration::from_secs(1);

    /// A node answers challenges of the NMS to one of its addresses at most this often.
    ///
    /// Why: a forged challenge costs the node one message to the NMS. The NMS itself sends one in 200 ms at most.
    CHALLENGE_RETURNED: Duration = Duration::from_millis(100);
}
