//! The strategies for a change of network.

use std::fmt;

/// How a tunnel survives a change of network. Two nodes use the lower of their two strategies, in the order below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handover {
    /// The paper's strategy (§2.1): the connection is forgotten, and another one is built from the new address.
    #[default]
    Rebuild,
    /// RFC 9000 §9 alone: a QUIC client migrates. If the server moves, or the tunnel is relayed, the tunnel is rebuilt.
    Migrate,
    /// This project's own: one QUIC connection, with paths beneath it.
    Seamless,
}

impl Handover {
    /// Every strategy, the lowest first.
    pub const ALL: [Self; 3] = [Self::Rebuild, Self::Migrate, Self::Seamless];

    /// The strategy of two nodes that want `self` and `other`.
    #[must_use]
    pub fn agreed(self, other: Self) -> Self {
        self.min(other)
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rebuild => "rebuild",
            Self::Migrate => "migrate",
            Self::Seamless => "seamless",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_agree_on_the_lower_strategy_whatever_the_order() {
        for one in Handover::ALL {
            for other in Handover::ALL {
                let agreed = one.agreed(other);
                assert_eq!(agreed, other.agreed(one));
                assert!(agreed <= one && agreed <= other && (agreed == one || agreed == other));
            }
        }
    }
}
