//! The words of the format: enums whose variants are spelled the same in scenarios, on the command line and in tables.
//!
//! The settings of the daemons have some of them too. With the feature `clap` they are values of flags.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $text:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        #[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] #[cfg_attr(feature = "clap", value(name = $text))] $variant,)*
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How it is written.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    )*};
}

words! {
    /// Which engine drives the simulated network.
    Engine {
        /// turmoil: the reference network.
        Turmoil "turmoil",
        /// The discrete-event loop: the same boxes, much faster.
        Events "events",
    }

    /// Which of the paper's two methods runs.
    Method {
        /// Own UDP protocol on port 4501, keys from the cloud (paper §2.2).
        Conventional "conventional",
        /// CYPHONIC-over-QUIC (paper §3).
        Proposed "proposed",
    }

    /// Whether nodes may talk that no access rule names.
    Openness {
        /// Everybody may talk to everybody.
        Open "open",
        /// Only what a rule allows.
        Closed "closed",
    }

    /// The invariants, which must hold in every scenario.
    Invariant {
        /// A packet reaches an application only from the owner of its source address.
        I1 "I1",
        /// A virtual address has one owner for ever.
        I2 "I2",
        /// The TRS forwards only between a bound pair of nodes, and only to an address that a node has proved.
        I3 "I3",
        /// No unvalidated address ever receives more than three times the bytes it sent.
        I4 "I4",
        /// Every queue, table and log stays within its limit.
        I5 "I5",
        /// Each probe is delivered at most once, and only to its owner.
        I6 "I6",
        /// Once faults stop, every pair that may talk does so within a stated time.
        I7 "I7",
        /// No panic, no error in any log, and no secret in any output.
        I8 "I8",
        /// The same seed gives the same bytes, on both engines.
        I9 "I9",
        /// No plaintext on any wire.
        I10 "I10",
        /// No packet passes between two nodes that the access rules forbid to talk.
        I11 "I11",
        /// Access ends: within a stated time after a revocation or a certificate's end no packet passes.
        I12 "I12",
        /// An address that has not answered a challenge receives at most a stated number of bytes because somebody
        /// named it.
        I13 "I13",
    }

    /// How a node authenticates to the AS (paper §4.3).
    Login {
        /// A device certificate.
        Certificate "certificate",
        /// A password inside TLS; conventional method only.
        Password "password",
    }

    /// How the NMS chooses a route.
    Policy {
        /// Table 1 of the paper.
        Paper "paper",
        /// The NMS's observations of each node's network: direct wherever a direct path exists.
        Optimal "optimal",
    }

    /// What nodes do when one of them moves (proposed method).
    Handover {
        /// The connection is torn down, and another is built (paper §2.1).
        Rebuild "rebuild",
        /// The QUIC client migrates (RFC 9000 §9).
        Migrate "migrate",
        /// One connection, with paths beneath it.
        Seamless "seamless",
    }

    /// What is waited for while a tunnel comes up (proposed method).
    Signaling {
        /// The paper's sequences.
        Paper "paper",
        /// The NMS waits for the responder's Confirmation, as in the conventional method.
        Confirmed "confirmed",
        /// Nobody waits for what an authenticated peer is bound to send.
        Fast "fast",
    }

    /// The congestion control of the outer QUIC connection (proposed method).
    Congestion {
        /// NewReno (RFC 9002 §7), which RFC 9221 §5 asks for in every framing.
        NewReno "new-reno",
        /// None: only the flows inside the tunnel control their rate.
        None "none",
    }

    /// How the conventional method seals what it sends in a tunnel.
    Cipher {
        /// AES-128 in counter mode and HMAC-SHA-256, truncated: what the paper's Table 3 has room for.
        AesCtr "aes-ctr",
        /// AES-128-CBC with an IV and padding, and HMAC-MD5: what later public code of the method used.
        AesCbcMd5 "aes-cbc-md5",
    }

    /// The kinds of addresses of a site.
    SiteKind {
        /// IPv6 only.
        Ipv6 "ipv6",
        /// Global IPv4 only (the paper's IPv4-G).
        Ipv4Global "ipv4-global",
        /// Private IPv4 behind a NAT only (the paper's IPv4-P).
        Ipv4Private "ipv4-private",
        /// IPv6 and global IPv4.
        DualStack "dual-stack",
        /// IPv6, and private IPv4 behind a NAT.
        DualStackPrivateV4 "dual-stack-private-v4",
    }

    /// What a NAT's mapping or filtering depends on (RFC 4787 §4.1 and §5).
    Dependence {
        /// On the inner address and port only.
        Endpoint "endpoint-independent",
        /// On the remote address too.
        Address "address-dependent",
        /// On the remote address and port too.
        AddressAndPort "address-and-port-dependent",
    }

    /// How a NAT picks the outer port (RFC 4787 §4.2).
    PortChoice {
        /// The inner port where it is free.
        Preserve "preserve",
        /// The next one.
        Sequential "sequential",
        /// A random one.
        Random "random",
        /// The inner port even where it is taken.
        Overloading "overloading",
    }

    /// Which of several outer addresses a NAT takes (RFC 4787 §4.1).
    Pooling {
        /// One for each inner host.
        Paired "paired",
        /// Any, for each mapping.
        Arbitrary "arbitrary",
    }

    /// Which packets refresh a NAT's UDP mapping (RFC 4787 §4.3).
    Refresh {
        /// Those from inside.
        Outbound "outbound",
        /// Those from outside.
        Inbound "inbound",
        /// Both.
        Both "both",
    }

    /// What a NAT does with packets from inside to its own outer address (RFC 4787 §6).
    Hairpin {
        /// They are dropped.
        Off "off",
        /// They are sent back inside with their inner source.
        InternalSource "internal-source",
        /// They are sent back inside with their outer source.
        ExternalSource "external-source",
    }

    /// What a NAT does with ICMP errors.
    IcmpErrors {
        /// They are translated.
        Carried "carried",
        /// They are dropped.
        Dropped "dropped",
        /// They are translated, and end the mapping.
        EndMapping "end-mapping",
    }

    /// A common kind of firewall.
    FirewallMode {
        /// Everything out, only replies in (RFC 6092).
        Stateful "stateful",
        /// Only port 443 out, UDP and TCP.
        Only443 "only-443",
        /// Only TCP to port 443 out.
        OnlyTcp443 "only-tcp-443",
        /// Out only for a browser: TCP to ports 80 and 443, and DNS.
        Web "web",
        /// Only TCP to an HTTP proxy out.
        WebProxy "web-proxy",
    }

    /// The reaction of inspection to a conversation.
    Reaction {
        /// Drops its packets in silence.
        Drop "drop",
        /// Drops them, and tells the sender by ICMP.
        Reject "reject",
        /// Resets TCP at both ends; otherwise as reject.
        Reset "reset",
        /// Slows it down.
        Throttle "throttle",
    }

    /// The reaction of a firewall to packets that may not go out.
    Refusal {
        /// Drops it in silence.
        Drop "drop",
        /// Drops it, and tells the sender by ICMP.
        Reject "reject",
        /// Resets TCP; otherwise as reject.
        Reset "reset",
    }

    /// A service, as scenarios call it.
    ServiceName {
        /// The Authentication Service.
        As "as",
        /// The Node Management Service.
        Nms "nms",
        /// The Tunnel Relay Service.
        Trs "trs",
    }

    /// In which directions of a link.
    Towards {
        /// Towards the core.
        Up "up",
        /// From the core.
        Down "down",
        /// Both.
        Both "both",
    }

    /// What a TCP transfer goes over.
    Over {
        /// The overlay: between virtual addresses.
        Tunnel "tunnel",
        /// The underlay: between the nodes' own addresses, without a tunnel.
        Underlay "underlay",
    }

    /// The clock by which a role counts time, in a machine that is suspended.
    HostClock {
        /// It counts the time of the suspension (Linux's CLOCK_BOOTTIME).
        Boottime "boottime",
        /// It stands still meanwhile (Linux's CLOCK_MONOTONIC).
        Monotonic "monotonic",
    }

    /// A transport that a firewall's egress rule names.
    Protocol {
        /// UDP.
        Udp "udp",
        /// TCP.
        Tcp "tcp",
        /// ICMP and ICMPv6.
        Icmp "icmp",
    }

    /// A family of addresses: of the peer's virtual address that an application uses, or the broken one of a site.
    Family {
        /// IPv4.
        Ipv4 "ipv4",
        /// IPv6.
        Ipv6 "ipv6",
    }

    /// What is measured: which rows come out (see [`crate::rows`]).
    Measure {
        /// The pattern, the dialer, and the packets that got through.
        Outcome "outcome",
        /// One round-trip time for each echo.
        Rtt "rtt",
        /// The outcome of each row of datagrams, one way.
        Flow "flow",
        /// The fields of the largest packet on the wire.
        Composition "composition",
        /// What login, registration and tunnel set-up cost.
        Setup "setup",
        /// What a move costs traffic that is under way.
        Handover "handover",
        /// The packets of each host during the last `wait` step.
        Traffic "traffic",
    }
}

impl From<cyphonic_core::quic::Congestion> for Congestion {
    fn from(congestion: cyphonic_core::quic::Congestion) -> Self {
        match congestion {
            cyphonic_core::quic::Congestion::NewReno => Self::NewReno,
            cyphonic_core::quic::Congestion::Open => Self::None,
        }
    }
}

impl From<Cipher> for cyphonic_core::conventional::cipher::Cipher {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::AesCtr => Self::Ctr,
            Cipher::AesCbcMd5 => Self::CbcMd5,
        }
    }
}

impl From<Method> for cyphonic_core::method::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Conventional => Self::Conventional,
            Method::Proposed => Self::Proposed,
        }
    }
}

impl From<Policy> for cyphonic_core::route::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Paper => Self::Paper,
            Policy::Optimal => Self::Optimal,
        }
    }
}

impl From<Handover> for cyphonic_core::paths::strategy::Handover {
    fn from(handover: Handover) -> Self {
        match handover {
            Handover::Rebuild => Self::Rebuild,
            Handover::Migrate => Self::Migrate,
            Handover::Seamless => Self::Seamless,
        }
    }
}

impl From<Signaling> for cyphonic_core::signaling::Signaling {
    fn from(signaling: Signaling) -> Self {
        match signaling {
            Signaling::Paper => Self::Paper,
            Signaling::Confirmed => Self::Confirmed,
            Signaling::Fast => Self::Fast,
        }
    }
}

impl From<Congestion> for cyphonic_core::quic::Congestion {
    fn from(congestion: Congestion) -> Self {
        match congestion {
            Congestion::NewReno => Self::NewReno,
            Congestion::None => Self::Open,
        }
    }
}

impl Towards {
    /// Whether it is about the direction towards the core, or about that from there.
    pub const fn is(self, up: bool) -> bool {
        match self {
            Self::Up => up,
            Self::Down => !up,
            Self::Both => true,
        }
    }
}

impl SiteKind {
    /// Whether the site has IPv6.
    pub const fn has_v6(self) -> bool {
        matches!(self, Self::Ipv6 | Self::DualStack | Self::DualStackPrivateV4)
    }

    /// Whether the site has global IPv4.
    pub const fn has_global_v4(self) -> bool {
        matches!(self, Self::Ipv4Global | Self::DualStack)
    }

    /// Whether the site has private IPv4, and so a NAT.
    pub const fn has_private_v4(self) -> bool {
        matches!(self, Self::Ipv4Private | Self::DualStackPrivateV4)
    }
}
