//! The strategies for a change of network.

use std::fmt;
use std::str::FromStr;

/// How a tunnel survives a change of network. Two nodes use the lower of their two strategies, in the order below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handover {
    /// The paper's way (§2.1): the connection is torn down, and another one is built from the new address.
    #[default]
    Rebuild,
    /// RFC 9000 §9 to the letter: a QUIC client migrates. Where the RFC has no answer, the tunnel is rebuilt.
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

impl FromStr for Handover {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|handover| handover.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is none of rebuild, migrate, seamless"))
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

    #[test]
    fn a_strategy_is_read_as_it_is_written() {
        for handover in Handover::ALL {
            assert_eq!(handover.to_string().parse(), Ok(handover));
        }
        assert!("Seamless".parse::<Handover>().is_err());
    }
}
