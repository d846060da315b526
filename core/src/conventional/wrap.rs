//! Wraps the end key with the temporary key, for a Tunnel Request (paper §2.2.2).
//!
//! ```text
//! tag     = HMAC-SHA-256(mac key, EK), first 16 bytes        both keys: HKDF(MK, path)
//! wrapped = (EK xor AES-128(cipher key, tag)) ‖ tag
//! ```
//!
//! The tag is also the counter block of the single block of AES-CTR (the SIV construction, RFC 5297). So one temporary
//! key may wrap several end keys, for example after a lost answer, and no two of them share a keystream. To check the
//! tag, the key has to be decrypted first. That reveals nothing, because a key with a wrong tag is wiped and never
//! returned. The path is part of the derivation: a key that was wrapped for one path does not unwrap for another path,
//! or for the other direction.

use aes::cipher::BlockEncrypt;
use subtle::ConstantTimeEq;

use super::keys::DirectionKeys;
use crate::event::DropReason;
use crate::key::Key128;
use crate::message::WrappedKey;
use crate::name::PathId;

/// Wraps `end_key` in `temporary` for `path`.
pub fn wrap(temporary: &Key128, end_key: &Key128, path: PathId) -> WrappedKey {
    let keys = keys(temporary, path);
    let tag = keys.tag(&end_key.0);
    let encrypted = apply_keystream(&keys, tag, &end_key.0);
    let mut wrapped = [0; 32];
    wrapped[..16].copy_from_slice(&encrypted);
    wrapped[16..].copy_from_slice(&tag);
    WrappedKey(wrapped)
}

/// The end key that [`wrap`] wrapped in the same `temporary` for the same `path`.
///
/// # Errors [`DropReason::BadHmac`] if it was wrapped in another way, or was changed since.
pub fn unwrap(temporary: &Key128, wrapped: &WrappedKey, path: PathId) -> Result<Key128, DropReason> {
    let keys = keys(temporary, path);
    let (encrypted, tag) = wrapped.0.split_at(16);
    let (encrypted, tag) = (encrypted.try_into().expect("16 of 32 bytes"), tag.try_into().expect("16 of 32 bytes"));
    let end_key = Key128(apply_keystream(&keys, tag, &encrypted));
    if bool::from(keys.tag(&end_key.0).ct_eq(&tag)) { Ok(end_key) } else { Err(DropReason::BadHmac) }
}

fn keys(temporary: &Key128, path: PathId) -> DirectionKeys {
    DirectionKeys::derive(temporary, &[b"wrap end key", &path.0])
}

fn apply_keystream(keys: &DirectionKeys, counter: [u8; 16], bytes: &[u8; 16]) -> [u8; 16] {
    let mut block = counter.into();
    keys.cipher.encrypt_block(&mut block);
    std::array::from_fn(|i| block[i] ^ bytes[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MK: Key128 = Key128([1; 16]);
    const EK: Key128 = Key128([2; 16]);
    const PATH: PathId = PathId([3; 16]);

    #[test]
    fn a_wrapped_key_unwraps_to_itself() {
        assert_eq!(unwrap(&MK, &wrap(&MK, &EK, PATH), PATH), Ok(EK));
    }

    #[test]
    fn a_change_of_any_bit_is_refused() {
        for bit in 0..32 * 8 {
            let mut wrapped = wrap(&MK, &EK, PATH);
            wrapped.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&MK, &wrapped, PATH), Err(DropReason::BadHmac), "bit {bit}");
        }
    }

    #[test]
    fn it_belongs_to_one_temporary_key_and_one_path() {
        let wrapped = wrap(&MK, &EK, PATH);
        assert_eq!(unwrap(&Key128([9; 16]), &wrapped, PATH), Err(DropReason::BadHmac));
        assert_eq!(unwrap(&MK, &wrapped, PathId([9; 16])), Err(DropReason::BadHmac));
    }

    #[test]
    fn two_end_keys_under_one_temporary_key_do_not_betray_their_difference() {
        let other = Key128([4; 16]);
        let (a, b) = (wrap(&MK, &EK, PATH), wrap(&MK, &other, PATH));
        let difference = |x: &[u8], y: &[u8]| -> Vec<u8> { x.iter().zip(y).map(|(x, y)| x ^ y).collect() };
        assert_ne!(difference(&a.0[..16], &b.0[..16]), difference(&EK.0, &other.0));
    }
}
