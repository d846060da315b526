//! Derives the keys of both directions from one [`Key128`].
//!
//! HKDF-SHA-256 (RFC 5869) makes four keys: AES-128 and HMAC-SHA-256, each once per direction. So encryption and
//! authentication never share a key, and the two ends of one key never share a keystream. The schedules are computed
//! once: sealing a packet does no key set-up.

use std::fmt;

use aes::cipher::KeyInit;
use aes::{Aes128Dec, Aes128Enc};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::cipher::Cipher;
use super::md5::HmacMd5;
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
    /// AES-128, which encrypts bodies.
    pub(super) cipher: Aes128Enc,
    /// The same key for decryption, where the mode is CBC and not counter mode.
    pub(super) cbc: Option<Aes128Dec>,
    mac: Mac,
}

/// The key of the HMAC over header and ciphertext.
#[derive(Clone)]
enum Mac {
    Sha256(hmac::Key),
    Md5(HmacMd5),
}

impl Sealing {
    /// Derives the keys of both directions.
    pub fn new(key: &Key128) -> Self {
        Self::of_tunnel(key, Cipher::Ctr)
    }

    /// As [`Self::new`], for what is sent under the end key of a tunnel.
    pub fn of_tunnel(key: &Key128, cipher: Cipher) -> Self {
        let of = |purpose: &[u8]| DirectionKeys::derive_for(key, &[purpose], cipher);
        Self { from_initiator: of(b"seal from initiator"), from_responder: of(b"seal from responder") }
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
        Self::derive_for(key, purpose, Cipher::Ctr)
    }

    fn derive_for(key: &Key128, purpose: &[&[u8]], mode: Cipher) -> Self {
        let mut bytes = Zeroizing::new([0; 48]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
            .extract(&key.0)
            .expand(purpose, Length(bytes.len()))
            .and_then(|okm| okm.fill(&mut *bytes))
            .expect("48 bytes are fewer than HKDF's limit of 255 hashes");
        let (cipher, mac) = bytes.split_at(16);
        let is_key = "16 bytes are an AES-128 key";
        let (cbc, mac) = match mode {
            Cipher::Ctr => (None, Mac::Sha256(hmac::Key::new(hmac::HMAC_SHA256, mac))),
            Cipher::CbcMd5 => (Some(Aes128Dec::new_from_slice(cipher).expect(is_key)), Mac::Md5(HmacMd5::new(mac))),
        };
        Self { cipher: Aes128Enc::new_from_slice(cipher).expect(is_key), cbc, mac }
    }

    /// The HMAC over `message`: HMAC-SHA-256 is truncated to 16 bytes (RFC 2104 §5), HMAC-MD5 has as many.
    pub(super) fn tag(&self, message: &[u8]) -> [u8; 16] {
        match &self.mac {
            Mac::Sha256(key) => *hmac::sign(key, message).as_ref().first_chunk().expect("SHA-256 gives 32 bytes"),
            Mac::Md5(key) => key.tag(message),
        }
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
