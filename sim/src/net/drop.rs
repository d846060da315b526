//! Why the network dropped a packet. Every reason has a name, and every box and wire counts its drops by reason.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum NetDrop { $($(#[$doc])* $name,)* }

        impl NetDrop {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in counters and results.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// A wire was down.
    WireDown "wire-down",
    /// A wire's queue was full (drop-tail).
    QueueFull "queue-full",
    /// A wire lost it.
    Lost "lost",
    /// Of the address family that the wire swallows.
    Swallowed "swallowed",
    /// Larger than the MTU of the wire.
    TooBig "too-big",
    /// Sent out of an interface that has no wire.
    NoWire "no-wire",
    /// Not an IP packet, or one with a wrong IPv4 header checksum.
    BadPacket "bad-packet",
    /// Its hop limit ran out.
    TtlExpired "ttl-expired",
    /// No route to its destination.
    NoRoute "no-route",
    /// Addressed to the box itself, which answers only echo requests.
    ForBox "for-box",
    /// A fragment that could not be used: overlapping, misshapen, or one too many.
    BadFragment "bad-fragment",
    /// The rest of its fragments did not arrive in time.
    FragmentTimeout "fragment-timeout",
    /// From outside to an address and port without a mapping.
    NoMapping "no-mapping",
    /// From outside to a mapping whose filter does not admit this sender.
    NatFiltered "nat-filtered",
    /// No room or no free port for another mapping or permission.
    NatTableFull "nat-table-full",
    /// A protocol or ICMP message that the NAT does not translate.
    NatUnsupported "nat-unsupported",
    /// From inside to the NAT's own external address.
    Hairpin "hairpin",
    /// From outside, and not a reply.
    InboundBlocked "inbound-blocked",
    /// To a protocol or port that may not be reached from inside.
    EgressBlocked "egress-blocked",
    /// Inspected, and dropped in silence.
    Inspected "inspected",
    /// Inspected, and refused by ICMP.
    Rejected "rejected",
    /// Inspected, and its connection reset.
    Reset "reset",
    /// Above the rate to which its flow is throttled.
    Throttled "throttled",
    /// No room for another flow.
    FlowTableFull "flow-table-full",
}

/// A counter for each reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; NetDrop::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; NetDrop::ALL.len()])
    }
}

impl Drops {
    /// Counts one packet.
    pub fn count(&mut self, reason: NetDrop) {
        self.0[reason as usize] += 1;
    }

    /// Counts `packets` at once.
    pub fn add(&mut self, reason: NetDrop, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Packets dropped for this reason.
    pub fn get(&self, reason: NetDrop) -> u64 {
        self.0[reason as usize]
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (NetDrop, u64)> + '_ {
        NetDrop::ALL.iter().map(|&reason| (reason, self.get(reason))).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Drops, NetDrop};

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let mut drops = Drops::default();
        for (i, &reason) in NetDrop::ALL.iter().enumerate() {
            drops.add(reason, i as u64);
        }
        drops.count(NetDrop::Lost);
        assert_eq!(drops.get(NetDrop::WireDown), 0);
        assert_eq!(drops.get(NetDrop::Lost), NetDrop::Lost as u64 + 1);
        assert_eq!(drops.iter().map(|(_, count)| count).sum::<u64>(), drops.total());
        let names: std::collections::BTreeSet<_> = NetDrop::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), NetDrop::ALL.len());
    }
}
