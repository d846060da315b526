//! How quickly tunnels of the proposed method come up: the words of the key `signaling`.

use std::fmt;
use std::str::FromStr;

/// What nodes, NMS and TRS wait for while a tunnel of the proposed method comes up. Two nodes use the lower of their
/// two wishes, in the order below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signaling {
    /// The paper's sequences (Figs. 7–9).
    #[default]
    Paper,
    /// The paper's, but the NMS tells a dialing initiator only once the responder has confirmed, as in the conventional
    /// method (Fig. 3).
    Confirmed,
    /// This project's own: nobody waits for a message that an authenticated peer is bound to send.
    Fast,
}

impl Signaling {
    /// Every one, the lowest first.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Confirmed, Self::Fast];

    /// What two nodes use that want `self` and `other`.
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

impl FromStr for Signaling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|signaling| signaling.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is none of paper, confirmed, fast"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_use_the_lower_wish_and_a_word_is_read_as_it_is_written() {
        for one in Signaling::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
            for other in Signaling::ALL {
                let agreed = one.agreed(other);
                assert_eq!(agreed, other.agreed(one));
                assert!(agreed <= one && agreed <= other && (agreed == one || agreed == other));
            }
        }
        assert!("Fast".parse::<Signaling>().is_err());
    }
}
