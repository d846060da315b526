//! Passwords, as the AS keeps them: PBKDF2-HMAC-SHA-256 (RFC 8018 §5.2) with a salt per device.

use std::fmt;
use std::num::NonZeroU32;

use ring::pbkdf2;

/// Iterations for simulations and tests: few, so that runs are fast, and **not enough** against a stolen database. No
/// message depends on the number. A real AS uses several hundred thousand. Each record keeps its own number, so it can
/// be raised at any time.
pub const SIMULATION_ITERATIONS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// A password's hash and all that is needed to verify a password against it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// PBKDF2 iterations.
    pub iterations: NonZeroU32,
    /// Random, different for each device.
    pub salt: [u8; 16],
    /// The derived 32 bytes.
    pub hash: [u8; 32],
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    /// Hashes `password`. The caller takes `salt` from its source of randomness.
    pub fn new(password: &str, salt: [u8; 16], iterations: NonZeroU32) -> Self {
        let mut hash = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut hash);
        Self { iterations, salt, hash }
    }

    /// Whether this is the right password; compares in constant time.
    pub fn verify(&self, password: &str) -> bool {
        let Self { iterations, salt, hash } = self;
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, *iterations, salt, password.as_bytes(), hash).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_verifies_and_no_other() {
        let hash = PasswordHash::new("correct horse", [1; 16], SIMULATION_ITERATIONS);
        assert!(hash.verify("correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!hash.verify(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn salt_and_iterations_change_the_hash() {
        let hash = |salt, iterations| PasswordHash::new("same", [salt; 16], NonZeroU32::new(iterations).unwrap()).hash;
        assert_ne!(hash(1, 10), hash(2, 10));
        assert_ne!(hash(1, 10), hash(1, 11));
    }

    #[test]
    fn it_is_pbkdf2_as_published() {
        // Computed with Python: hashlib.pbkdf2_hmac("sha256", b"passwd", bytes(16), 1000).
        let hash = PasswordHash::new("passwd", [0; 16], NonZeroU32::new(1_000).unwrap()).hash;
        let (start, end) = (&hash[..4], &hash[28..]);
        assert_eq!((start, end), (&[0x35, 0xb7, 0x16, 0x5b][..], &[0x41, 0xb0, 0x38, 0x04][..]));
    }
}
