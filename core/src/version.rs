//! Versions of the protocol, and how two parts agree on one. `PROTOCOL.md` has the rules ("Versions").

/// The versions that a part speaks: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Versions {
    /// The oldest that it speaks. Its first message is written in this version.
    pub oldest: u8,
    /// The newest that it speaks.
    pub newest: u8,
}

impl Versions {
    /// Those of this build. Version 1 has no versions, options or unknown types, and is not spoken any more.
    pub const OURS: Self = Self { oldest: 2, newest: 2 };

    /// Every version: for a receiver that only passes messages on.
    pub const ANY: Self = Self { oldest: 0, newest: u8::MAX };

    /// Whether messages of this version can be read.
    pub const fn speaks(self, version: u8) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// The versions for a message to a peer, from the peer's last message; `None` if there was none.
    ///
    /// The newest version that both speak. A peer whose message could be read speaks at least that message's version.
    pub fn towards(self, peer: Option<Spoken>) -> Spoken {
        let both = peer.map_or(self.oldest, |peer| self.newest.min(peer.newest.max(peer.version)));
        Spoken { version: both.max(self.oldest), newest: self.newest }
    }
}

/// The versions in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The one in which the message is written.
    pub version: u8,
    /// The newest one that its sender speaks; 0 of a sender that speaks version 1 only.
    pub newest: u8,
}

impl Spoken {
    /// The versions of this build's first message.
    pub const FIRST: Self = Self { version: Versions::OURS.oldest, newest: Versions::OURS.newest };

    /// Writes it into a whole message (header and body). The layout of every message is the same in all versions that
    /// there are; where that ends, the codec has to know the version.
    pub fn stamp(self, message: &mut [u8]) {
        if let Some(header) = message.first_chunk_mut::<32>() {
            (header[4], header[15]) = (self.version, self.newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_agree_on_the_newest_version_that_both_speak_after_one_message_each() {
        for (node, service, agreed) in
            [((2, 2), (2, 3), 2), ((2, 3), (2, 3), 3), ((2, 5), (3, 4), 4), ((2, 2), (2, 2), 2)]
        {
            let [node, service] = [node, service].map(|(oldest, newest)| Versions { oldest, newest });
            let first = node.towards(None);
            assert_eq!(first, Spoken { version: node.oldest, newest: node.newest });
            // A service that does not speak the node's oldest version says what it speaks, and hears from the node
            // again.
            let answer = service.towards(Some(first));
            assert_eq!(answer.version, agreed, "{node:?} {service:?}");
            assert!(node.speaks(answer.version));
            assert_eq!(node.towards(Some(answer)).version, agreed);
        }
    }

    #[test]
    fn nobody_writes_in_a_version_that_it_does_not_speak() {
        let ours = Versions { oldest: 3, newest: 4 };
        for version in 0..=u8::MAX {
            for newest in [0, 1, version, u8::MAX] {
                assert!(ours.speaks(ours.towards(Some(Spoken { version, newest })).version));
            }
        }
    }
}
