//! The packets that a host dropped, counted by reason.

use std::collections::BTreeMap;

macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Why a host dropped a packet, a datagram or a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Loss { $($(#[$doc])* $name,)* }

        impl Loss {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in counters and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

losses! {
    /// The bytes are not an IP packet, or the transport header does not parse.
    BadPacket "bad-packet",
    /// A checksum of IPv4, UDP or ICMP is wrong.
    BadChecksum "bad-checksum",
    /// The destination is not an address of the interface at which it arrived.
    NotOurs "not-ours",
    /// The interface at which it arrived, or by which it would leave, is down.
    InterfaceDown "interface-down",
    /// It arrived while the machine was suspended.
    Suspended "suspended",
    /// No interface owns the source address, or the host has none for the destination.
    NoInterface "no-interface",
    /// The two addresses are not of one family.
    MixedFamilies "mixed-families",
    /// It must not be fragmented and is larger than the interface's MTU.
    LargerThanMtu "larger-than-mtu",
    /// A fragment that was refused: it is malformed or overlaps, or too many packets are incomplete.
    BadFragment "bad-fragment",
    /// A fragment of a packet whose other fragments did not arrive in time.
    FragmentTimeout "fragment-timeout",
    /// A UDP datagram to a port that the role does not use.
    UnboundPort "unbound-port",
    /// A protocol that the host does not use on that interface.
    UnknownProtocol "unknown-protocol",
    /// On an underlay interface, any ICMP message but an echo request. A Packet Too Big sets the path MTU all the same.
    /// On the virtual interface, one that is neither an echo nor an error.
    Icmp "icmp",
    /// A queue was full.
    QueueFull "queue-full",
    /// The event log was full, or the list of the connections of a sink.
    LogFull "log-full",
    /// A role used a TCP connection beyond its limits.
    StreamLimit "stream-limit",
    /// A fragment on the virtual interface that was refused, as under [`Self::BadFragment`].
    InnerFragment "inner-fragment",
    /// A packet to the virtual interface that is not to one of its addresses, or came before it had any.
    InnerNotOurs "inner-not-ours",
    /// A packet to the virtual interface that no application waits for.
    InnerUnclaimed "inner-unclaimed",
}

/// How often each reason occurred.
pub type Losses = BTreeMap<Loss, u64>;

/// Counts one.
pub(super) fn count(losses: &mut Losses, loss: Loss) {
    *losses.entry(loss).or_default() += 1;
}
