//! The values of `signaling`: which messages are waited for while a tunnel of the proposed method comes up.

use std::fmt;

/// Which messages nodes, NMS and TRS wait for while a tunnel of the proposed method comes up. Each node wants one of
/// these values, and two nodes use the lower one, in the order below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signaling {
    /// The paper's sequences (Figs. 7–9).
    #[default]
    Paper,
    /// As the paper's, but the NMS sends a dialing initiator its Route Direction only once the responder has confirmed,
    /// as in the conventional method (Fig. 3).
    Confirmed,
    /// This project's own: nobody waits for a message that an authenticated peer is bound to send.
    Fast,
}

impl Signaling {
    /// Every value, the lowest first.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Confirmed, Self::Fast];

    /// The signaling of two nodes that want `self` and `other`.
    #[must_use]
    pub fn agreed(self, other: Self) -> Self {
        self.min(other)
    }
}

impl fmt::Display for Signaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Paper => "paper",
            Self::Confirmed => "confirmed",
            Self::Fast => "fast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_use_the_lower_wish_whatever_the_order() {
        for one in Signaling::ALL {
            for other in Signaling::ALL {
                let agreed = one.agreed(other);
                assert_eq!(agreed, other.agreed(one));
                assert!(agreed <= one && agreed <= other && (agreed == one || agreed == other));
            }
        }
    }
}
