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
//! A *candidate* is a pair of one of our addresses and a place of the peer or of a TRS ([`candidates`]). UDP carried in
//! TCP 443 will be one more kind: to this layer it is a way like any other.
//!
//! The keys come from the tunnel's own TLS session (RFC 8446 §7.5), so only the two ends can speak ([`probe`]). Three
//! small datagrams prove a path in both directions:
//!
//! 1. *Hello* carries a random token. It is small where nobody has answered yet.
//! 2. *Challenge* repeats that token and carries another. The first node has its proof and a round trip.
//! 3. *Answer* repeats the second token. The other node has its own. On a path that is proved, Answer follows Hello at
//!    once.
//!
//! A token is unpredictable for the peer too: a peer that names a victim's address cannot answer for it. Each number is
//! accepted once, so a replay says nothing. A copy that overtakes the original opens the account of its source address
//! and nothing else ([`budget`]): three times its bytes, while the old path stays in use beside it.
//!
//! Limit: somebody between the two nodes who sends on every datagram, faster than the path itself, answers challenges
//! by sending them on as well. He may carry the traffic, sealed as it is, for as long as he does (RFC 9000 §21.1.1.3).
//! When he stops, the old path takes over as from any path that ended.
//!
//! # How one is chosen, and left
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
//! A node that moves greets the peer's known places at once ([`probe::Flags::MOVED`]), padded to 1,200 bytes, and sends
//! its data there without waiting. The peer answers with data within three times the bytes, challenges, and changes
//! over.
//!
//! # When QUIC is told
//!
//! * `ping` at every switch: it ends a retransmission timeout that has grown. `path_changed` does not (measured).
//! * `path_changed` only where the new path takes less than QUIC sends, or where the round trip differs by the factor
//!   two and 20 ms: it forgets round trip, MTU and congestion window. A congestion controller that is not open has to
//!   stay open until the first acknowledgement after it, or what was in flight before may hang the connection
//!   (measured).
//! * Never for a move as such: QUIC sees one peer address for life. Its own Retry and its own amplification limit
//!   therefore prove nothing for such a connection; [`budget`] takes their place.
//!
//! At a forced switch the last datagrams, up to [`recent::MAX_RECENT`], go out again on the new path: QUIC drops what
//! arrives twice. At a switch to a path so much shorter that more than 100 packets would be overtaken, the first ones
//! wait for the difference, because QUIC takes for a repetition what is more than 129 packet numbers late.
//!
//! # What it costs
//!
//! One exchange has two packets of [`probe::PROBE_LEN`] bytes. A path behind a NAT or firewall needs one in 0.8 of the
//! observed lifetime, and none elsewhere; a second path is kept warm only within [`lifetime::WARM_PACKETS_PER_HOUR`].
//!
//! # Connection IDs, and what an observer can link
//!
//! Every connection ID is `tag(8) ‖ random(4)`. The tag of a node's direct tunnels is 64 unpredictable bits, drawn once
//! in the node's life; a tunnel that began through a TRS has the node's leg for a tag. It costs 4 bytes in each packet
//! beside tunnels without paths. A TRS forwards by the leg of the receiver, which the sender puts into the place of the
//! tag; the receiver puts its tag back. A probe has a tag of its tunnel, which follows from the TLS session.
//!
//! Somebody who sees both networks of a node that moves can link the two by its tag, and by the sequence of probe
//! numbers (RFC 9000 §9.5 asks for fresh IDs against that). He can also link the tunnels of one node, as he can by its
//! address and port. Through a relay he sees legs, and no tag.
//!
//! | file | what |
//! |---|---|
//! | [`candidates`] | where a peer may be |
//! | [`probe`] | the wire format and its keys |
//! | [`budget`] | what may go where nobody has proved to be |
//! | [`watch`], [`lifetime`] | is it still there, and for how long |
//! | [`choice`] | which one |
//! | [`recent`] | what is sent again |
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
