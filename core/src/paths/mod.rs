//! Paths beneath a tunnel: one QUIC connection for a pair of nodes, whatever network lies below (ours).
//!
//! The node's proposed carriage uses it where both nodes want `handover = "seamless"` ([`strategy`]). Its tests stand
//! in `core/tests/paths`, alone and under real QUIC connections ([`peer::Paths`]).
//!
//! ```text
//!   inner packets                                          inner packets
//!        │                                                       ▲
//!   ┌────▼─────┐   one connection, one constant peer address ┌───┴──────┐
//!   │   QUIC   │◀───────────────────────────────────────────▶│   QUIC   │
//!   └────┬─────┘                                             └───▲──────┘
//!  Transmit  Arrived, Delivery     PathChanged, Ping             │
//!   ┌────▼─────┐                                             ┌───┴──────┐
//!   │  Paths   │── used ── inside ───────────────────────────│  Paths   │
//!   │          │── warm ── through a TRS (blind) ────────────│          │
//!   │          │           IPv6, IPv4, NAT64, NAT's new port │          │
//!   └──────────┘   Hello ─▶  ◀─ Challenge  Answer ─▶         └──────────┘
//! ```
//!
//! # How a path is proved
//!
//! A *candidate* is a pair of one of our addresses and an address of the peer or of a TRS ([`candidates`]). UDP carried
//! in TCP 443 will be one more kind. To this layer it is a way like any other.
//!
//! The keys come from the tunnel's own TLS session (RFC 8446 §7.5), so nobody but the two ends can make a probe
//! ([`probe`]). Three small datagrams prove a path in both directions:
//!
//! 1. *Hello* carries a random token. It is small until the address has answered.
//! 2. *Challenge* repeats that token and carries another one. Now the first node has its proof, and a round trip.
//! 3. *Answer* repeats the second token. Now the other node has its proof. On a proved path, Answer follows Hello at
//!    once.
//!
//! The peer cannot predict a token either, so a peer that names a victim's address cannot answer for it. Each number is
//! accepted once, so a replay has no effect. A copy that overtakes the original only opens an account for its source
//! address ([`budget`]): three times its bytes, while the old path stays in use beside it.
//!
//! Limit: an attacker between the two nodes can forward every datagram faster than the path itself. Forwarded
//! challenges are answered, so the attacker's path may be chosen (RFC 9000 §21.1.1.3). The traffic stays sealed. When
//! the attacker stops, the old path takes over, as after any path that ended.
//!
//! # How a path is chosen, and left
//!
//! [`choice`] is a pure function: direct before relay, then the shorter round trip, with a margin. [`watch`] judges the
//! path in use by a timer from the first datagram that was not answered, and by QUIC's losses:
//!
//! | what | after | then |
//! |---|---|---|
//! | nothing heard, or a probe not answered | 1.5 probe timeouts, ≥ 200 ms | *doubt*: a second path too, all asked |
//! | no probe answered | four times that, ≥ 1 s | dead; it is asked again with back-off, then stands on trial |
//! | half of the packets lost, ≥ twice a second | 2 s | starved: the relay takes over; tried again after 4 s to 64 s |
//! | small probes answered, padded ones not | three tries | narrower: QUIC is told; below 1,200 bytes not used |
//! | its absolute lifetime, seen twice | nine tenths of it | a second path is used too, until it answers afterwards |
//! | a timer fires 2 s too late | at once | wake-up: every path is asked |
//!
//! So traffic is back within the doubt and one round trip if another path is alive, whatever the pattern of traffic.
//!
//! A node that moves greets the peer's known addresses at once ([`probe::Flags::MOVED`]), padded to 1,200 bytes. It
//! sends its data there without waiting. The peer answers with a challenge, and with data up to three times the bytes.
//! Then both use the new path.
//!
//! # When QUIC is told
//!
//! * `ping` at every switch: it ends a retransmission timeout that has grown. `path_changed` does not (measured).
//! * `path_changed` makes QUIC forget round trip, MTU and congestion window. It is called only if the new path takes
//!   less than QUIC sends, or if the round trip differs by the factor two and 20 ms. After it, a congestion controller
//!   that limits has to stay open until the first acknowledgement. Otherwise what was in flight before may hang the
//!   connection (measured).
//! * A move as such is never told: QUIC sees one peer address for life. Its own Retry and its own amplification limit
//!   therefore prove nothing for such a connection; [`budget`] takes their place.
//!
//! At a forced switch the last datagrams, up to [`recent::MAX_RECENT`], go out again on the new path. QUIC drops the
//! ones that arrive twice. A switch to a much shorter path could overtake more than 100 packets, and QUIC takes a
//! packet that is more than 129 numbers late for a repetition. So the first packets on such a path wait for the
//! difference.
//!
//! # What it costs
//!
//! One exchange has two packets of [`probe::PROBE_LEN`] bytes. A path behind a NAT or firewall needs one exchange in
//! 0.8 of the observed lifetime; other paths need none. A second path is kept warm only within
//! [`lifetime::WARM_PACKETS_PER_HOUR`].
//!
//! # Connection IDs, and what an observer can link
//!
//! A direct tunnel's connection IDs are `hash(8) ‖ random(8)`: a keyed hash of the random bytes, then these. The IDs of
//! a tunnel that began through a TRS are `leg(8) ‖ random(8)`, with the node's leg to the TRS. They are 8 bytes (4
//! through a TRS) longer than in tunnels without paths. A TRS forwards by the leg of the receiver, which the sender
//! puts into the place of the first 8 bytes. The receiver puts back what was there. A probe carries a tag of its
//! tunnel, which both ends derive from the TLS session.
//!
//! An observer of both networks of a node that moves can link them by the tag and the numbers of probes. It can also
//! link them by a connection ID that QUIC has not changed (RFC 9000 §9.5 asks for new IDs). It cannot link two tunnels
//! of one node by their IDs. Through a relay it sees legs.
//!
//! | file | what |
//! |---|---|
//! | [`candidates`] | the addresses at which a peer may be reached |
//! | [`probe`] | the wire format and its keys |
//! | [`budget`] | limits for addresses that are not validated |
//! | [`watch`], [`lifetime`] | whether a path still works, and for how long |
//! | [`choice`] | which path is used |
//! | [`recent`] | the datagrams that are sent again after a switch |
//! | [`peer`] | the state machine |
//! | [`strategy`] | rebuild, migrate or seamless |

pub mod budget;
pub mod candidates;
pub mod choice;
pub mod lifetime;
pub mod path;
pub mod peer;
pub mod probe;
pub mod recent;
pub mod strategy;
pub mod watch;
