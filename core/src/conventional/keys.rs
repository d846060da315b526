//! Derives the keys of both directions from one [`Key128`].
//!
//! HKDF-SHA-256 (RFC 5869) makes four keys: AES-128 and HMAC-SHA-256, each once per direction. So encryption and
//! authentication never share a key, and the two ends of one key never share a keystream. The schedules are computed
//! once: sealing a packet does no key set-up.

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::KeyInit;
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::header::Flags;
use crate::key::Key128;

/// The name and version of the protocol, which are part of every derivation.
const SALT: &[u8] = b"cyphonic conventional 1";

/// The direction of a message, by its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the node to a service, or from a tunnel's initiator to its responder.
    FromInitiator,
    /// From a service to the node, or from a tunnel's responder to its initiator.
    FromResponder,
}

impl Direction {
    /// The direction that a header's flags state.
    pub fn of(flags: Flags) -> Self {
        if flags.from_responder() { Self::FromResponder } else { Self::FromInitiator }
    }

    /// The opposite one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::FromInitiator => Self::FromResponder,
            Self::FromResponder => Self::FromInitiator,
        }
    }

    /// The flags that state this direction.
    pub fn flags(self) -> Flags {
        match self {
            Self::FromInitiator => Flags(0),
            Self::FromResponder => Flags(Flags::FROM_RESPONDER),
        }
    }
}

/// The keys of one [`Key128`] in the form that [`crate::conventional::seal`] uses.
///
/// The AES schedules are wiped on drop. ring offers no way to wipe an HMAC key. The hash state of a derived key stays
/// in memory, which reveals neither the [`Key128`] nor any plaintext.
#[derive(Clone)]
pub struct Sealing {
    from_initiator: DirectionKeys,
    from_responder: DirectionKeys,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing(..)")
    }
}

/// One direction's keys.
#[derive(Clone)]
pub(super) struct DirectionKeys {
    /// AES-128, which encrypts bodies in counter mode.
    pub(super) cipher: Aes128Enc,
    /// HMAC-SHA256 over header and ciphertext.
    pub(super) mac: hmac::Key,
}

impl Sealing {
    /// Derives the keys of both directions.
    pub fn new(key: &Key128) -> Self {
        Self {
            from_initiator: DirectionKeys::derive(key, &[b"seal from initiator"]),
            from_responder: DirectionKeys::derive(key, &[b"seal from responder"]),
        }
    }

    /// The keys of both directions for one registration under a common key. Its epoch is never used again, so sequence
    /// numbers may start again without repeating a keystream or meeting another registration's replay window.
    pub fn of_registration(common: &Key128, epoch: u64) -> Self {
        let epoch = epoch.to_be_bytes();
        Self {
            from_initiator: DirectionKeys::derive(common, &[b"registration from initiator", &epoch]),
            from_responder: DirectionKeys::derive(common, &[b"registration from responder", &epoch]),
        }
    }

    pub(super) fn direction(&self, direction: Direction) -> &DirectionKeys {
        match direction {
            Direction::FromInitiator => &self.from_initiator,
            Direction::FromResponder => &self.from_responder,
        }
    }
}

impl DirectionKeys {
    /// An AES-128 and an HMAC key from `key`, different for every `purpose`. The joined parts of a purpose must be
    /// unambiguous.
    pub(super) fn derive(key: &Key128, purpose: &[&[u8]]) -> Self {
        let mut bytes = Zeroizing::new([0; 48]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
            .extract(&key.0)
            .expand(purpose, Length(bytes.len()))
            .and_then(|okm| okm.fill(&mut *bytes))
            .expect("48 bytes are fewer than HKDF's limit of 255 hashes");
        let (cipher, mac) = bytes.split_at(16);
        Self {
            cipher: Aes128Enc::new_from_slice(cipher).expect("16 bytes are an AES-128 key"),
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
        }
    }

    /// HMAC-SHA-256 over `message`, truncated to 16 bytes (RFC 2104 §5).
    pub(super) fn tag(&self, message: &[u8]) -> [u8; 16] {
        let tag = hmac::sign(&self.mac, message);
        *tag.as_ref().first_chunk().expect("SHA-256 gives 32 bytes")
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_and_every_key_has_its_own_keys() {
        let tags: Vec<_> = [(1, "a"), (1, "b"), (2, "a")]
            .map(|(key, purpose)| DirectionKeys::derive(&Key128([key; 16]), &[purpose.as_bytes()]).tag(b"message"))
            .into();
        assert!(tags[0] != tags[1] && tags[0] != tags[2] && tags[1] != tags[2]);
    }

    #[test]
    fn every_registration_under_a_common_key_has_its_own_keys() {
        let key = Key128([7; 16]);
        let tag = |sealing: &Sealing, direction| sealing.direction(direction).tag(b"message");
        let mut tags = std::collections::BTreeSet::new();
        for sealing in [Sealing::new(&key), Sealing::of_registration(&key, 1), Sealing::of_registration(&key, 2)] {
            for direction in [Direction::FromInitiator, Direction::FromResponder] {
                tags.insert(tag(&sealing, direction));
            }
        }
        assert_eq!(tags.len(), 6);
    }

    #[test]
    fn keys_are_never_printed() {
        assert_eq!(format!("{:?}", Sealing::new(&Key128([7; 16]))), "Sealing(..)");
    }

    #[test]
    fn flags_and_directions_are_the_same_thing() {
        for direction in [Direction::FromInitiator, Direction::FromResponder] {
            assert_eq!(Direction::of(direction.flags()), direction);
        }
    }
}
