//! Random streams, one for each purpose.
//!
//! The seed of a stream is the hash of (seed, name, purpose). So a box or wire that draws more numbers, or is added,
//! does not change any other.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use ring::digest::{Context, SHA256};

/// The 32 bytes that belong to `purpose` of `name` in a run with this `seed`.
pub fn derive(seed: u64, name: &str, purpose: &str) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&seed.to_be_bytes());
    for part in [name, purpose] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

/// The random stream that belongs to `purpose` of `name` in a run with this `seed`.
pub fn stream(seed: u64, name: &str, purpose: &str) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(derive(seed, name, purpose))
}

#[cfg(test)]
mod tests {
    use super::derive;

    #[test]
    fn every_part_counts_and_parts_do_not_run_into_each_other() {
        let base = derive(1, "ab", "c");
        assert_eq!(base, derive(1, "ab", "c"));
        for other in [derive(2, "ab", "c"), derive(1, "a", "bc"), derive(1, "ab", "d"), derive(1, "abc", "")] {
            assert_ne!(base, other);
        }
    }
}
