//! MD5 (RFC 1321) and HMAC-MD5 (RFC 2104), for [`Cipher::CbcMd5`](super::cipher::Cipher::CbcMd5) alone.
//!
//! MD5 is broken: collisions are made in seconds. It is here because later public code of the conventional method used
//! it, so that its packets can be measured. Nothing else uses it.

use zeroize::Zeroizing;

/// Bytes of a digest.
pub(super) const LEN: usize = 16;
/// Bytes of a block.
const BLOCK: usize = 64;
/// The first state (RFC 1321 §3.3).
const FIRST: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// By how many bits each step of a round rotates; four rounds of sixteen steps (RFC 1321 §3.4).
const ROTATE: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
/// The whole part of 2^32 × |sin(i)|, i from 1, in radians (RFC 1321 §3.4).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// A digest under way.
#[derive(Clone)]
struct Md5 {
    state: [u32; 4],
    /// Bytes that do not make up a block yet.
    rest: Vec<u8>,
    /// Bytes so far.
    len: u64,
}

impl Md5 {
    fn new() -> Self {
        Self { state: FIRST, rest: Vec::with_capacity(BLOCK), len: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() - self.rest.len() % BLOCK;
        for block in self.rest[..whole].chunks_exact(BLOCK) {
            self.state = compress(self.state, block);
        }
        self.rest.drain(..whole);
    }

    fn finish(mut self) -> [u8; LEN] {
        let bits = self.len.wrapping_mul(8).to_le_bytes();
        let zeros = (BLOCK + BLOCK - 9 - self.rest.len()) % BLOCK;
        let mut end = vec![0x80];
        end.resize(1 + zeros, 0);
        end.extend_from_slice(&bits);
        self.update(&end);
        let mut digest = [0; LEN];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

fn compress(state: [u32; 4], block: &[u8]) -> [u32; 4] {
    let word = |at: usize| block[4 * at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let [mut a, mut b, mut c, mut d] = state;
    for (step, sine) in SINES.iter().enumerate() {
        let round = step / 16;
        let (mixed, at) = match round {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), 7 * step % 16),
        };
        let sum = mixed.wrapping_add(a).wrapping_add(*sine).wrapping_add(word(at));
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(ROTATE[round][step % 4])));
    }
    let mut next = state;
    for (word, more) in next.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(more);
    }
    next
}

/// A key of HMAC-MD5.
#[derive(Clone)]
pub(super) struct HmacMd5 {
    /// At most one block.
    key: Zeroizing<Vec<u8>>,
}

impl HmacMd5 {
    /// A key of at most 64 bytes; the rest of a longer one is not used.
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: Zeroizing::new(key[..key.len().min(BLOCK)].to_vec()) }
    }

    /// The tag of a message.
    pub(super) fn tag(&self, message: &[u8]) -> [u8; LEN] {
        let padded = |with: u8| {
            let mut block = Zeroizing::new([with; BLOCK]);
            block.iter_mut().zip(self.key.iter()).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let mut inner = Md5::new();
        inner.update(&*padded(0x36));
        inner.update(message);
        let mut outer = Md5::new();
        outer.update(&*padded(0x5c));
        outer.update(&inner.finish());
        outer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> String {
        let mut md5 = Md5::new();
        // In pieces, so that blocks are put together.
        bytes.chunks(7).for_each(|piece| md5.update(piece));
        hex(&md5.finish())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// RFC 1321 appendix A.5.
    #[test]
    fn the_test_suite_of_rfc_1321() {
        let digits = b"1234567890".repeat(8);
        for (text, expected) in [
            (&b""[..], "d41d8cd98f00b204e9800998ecf8427e"),
            (b"a", "0cc175b9c0f1b6a831c399e269772661"),
            (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (b"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
            (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(digest(text), expected);
        }
    }

    /// RFC 2202 §2, test cases 1 to 4.
    #[test]
    fn the_test_cases_of_rfc_2202() {
        let counting: Vec<u8> = (1..=25).collect();
        for (key, message, expected) in [
            (&[0x0b; 16][..], &b"Hi There"[..], "9294727a3638bb1c13f48ef8158bfc9d"),
            (b"Jefe", b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"),
            (&[0xaa; 16], &[0xdd; 50], "56be34521d144c88dbb8c733f0e8b3f6"),
            (&counting, &[0xcd; 50], "697eaf0aca3a3aea3a75164746ffaa79"),
        ] {
            assert_eq!(hex(&HmacMd5::new(key).tag(message)), expected);
        }
    }
}
