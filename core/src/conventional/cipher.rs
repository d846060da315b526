//! How the conventional method seals what it sends under the end key of a tunnel.
//!
//! The paper names no mode of AES. [`Cipher::Ctr`] is what its Table 3 has room for. Later public code of the method
//! used AES-CBC with an IV and padding, and HMAC-MD5. [`Cipher::CbcMd5`] does the same, to show what Table 3 would then
//! be. It is written from these facts alone. It is an option of simulated scenarios; no daemon has it.
//!
//! ```text
//! 0              32        48                        48+n       64+n
//! ├─ header 32 ──┼─ IV 16 ──┼─ AES-128-CBC(n bytes) ──┼─ HMAC-MD5 ┤
//! └────────────────── authenticated ──────────────────┘
//! ```
//!
//! `n` is the plaintext and 1 to 16 bytes of padding (PKCS #7, RFC 5652 §6.3). The IV is the first counter block of
//! [`Cipher::Ctr`], encrypted under the same key: a nonce becomes an unpredictable IV that way (NIST SP 800-38A,
//! appendix C). The tag is checked before anything is decrypted, so the padding tells an attacker nothing.

use aes::cipher::{BlockDecrypt, BlockEncrypt};
use aes::{Aes128Dec, Aes128Enc};

/// The length of a block of AES, of the IV, and of the longest padding, bytes.
pub const BLOCK: usize = 16;

/// How packets and messages under the end key of a tunnel are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128 in counter mode, with HMAC-SHA-256 truncated to 16 bytes.
    #[default]
    Ctr,
    /// AES-128-CBC with an IV and padding, with HMAC-MD5.
    CbcMd5,
}

/// Encrypts what is in `out` from `start` on, and puts the IV in front of it.
pub(super) fn encrypt(cipher: &Aes128Enc, nonce: [u8; BLOCK], out: &mut Vec<u8>, start: usize) {
    let padding = padding(out.len() - start);
    out.extend(std::iter::repeat_n(padding as u8, padding));
    let mut before = nonce;
    cipher.encrypt_block((&mut before).into());
    out.splice(start..start, before);
    for block in out[start + BLOCK..].chunks_exact_mut(BLOCK) {
        block.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
        cipher.encrypt_block(block.into());
        before.copy_from_slice(block);
    }
}

/// Decrypts an IV and what follows it in place. The length of the plaintext, which begins behind the IV; `None` if the
/// length or the padding is wrong.
pub(super) fn decrypt(cipher: &Aes128Dec, bytes: &mut [u8]) -> Option<usize> {
    let (iv, blocks) = bytes.split_first_chunk_mut::<BLOCK>()?;
    if blocks.is_empty() || !blocks.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut before = *iv;
    for block in blocks.chunks_exact_mut(BLOCK) {
        let mut sealed = [0; BLOCK];
        sealed.copy_from_slice(block);
        cipher.decrypt_block((&mut *block).into());
        block.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
        before = sealed;
    }
    let padding = usize::from(*blocks.last()?);
    let plaintext = blocks.len().checked_sub(padding)?;
    let is_right =
        (1..=BLOCK).contains(&padding) && blocks[plaintext..].iter().all(|&byte| usize::from(byte) == padding);
    is_right.then_some(plaintext)
}

/// The bytes of padding behind a plaintext of this length.
pub const fn padding(plaintext: usize) -> usize {
    BLOCK - plaintext % BLOCK
}

#[cfg(test)]
mod tests {
    use aes::cipher::KeyInit;

    use super::*;

    /// NIST SP 800-38A, F.2.1: the first two blocks. The IV of this mode is an encrypted nonce, so the nonce is the IV
    /// of the example, decrypted.
    #[test]
    fn the_blocks_are_those_of_the_standard() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let (encrypt_with, decrypt_with) = (Aes128Enc::new_from_slice(&key), Aes128Dec::new_from_slice(&key));
        let (encrypt_with, decrypt_with) = (encrypt_with.unwrap(), decrypt_with.unwrap());
        let mut nonce: [u8; BLOCK] = std::array::from_fn(|at| at as u8);
        decrypt_with.decrypt_block((&mut nonce).into());
        let plaintext = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let mut out = plaintext.clone();
        encrypt(&encrypt_with, nonce, &mut out, 0);
        let expected =
            "000102030405060708090a0b0c0d0e0f7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2";
        assert_eq!(out[..48], hex(expected));
        assert_eq!(out.len(), 64, "a whole block of padding");
        assert_eq!(decrypt(&decrypt_with, &mut out), Some(32));
        assert_eq!(out[BLOCK..48], plaintext);
    }
}
