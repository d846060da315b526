//! A 128-bit key that is never printed, and is wiped when it is dropped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 128-bit symmetric key of the conventional method (paper §2.2.2: common, tunnel, temporary and end key).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key128(pub [u8; 16]);

impl fmt::Debug for Key128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key128(..)")
    }
}
