//! The bytes of a message body.

use thiserror::Error;

/// Longest body, bytes.
pub const MAX_BODY: usize = 1200;
/// Most addresses in one list.
pub const MAX_ADDRESSES: usize = 16;

/// Why bytes are no message body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body ends too early.
    #[error("the body ends too early")]
    Truncated,
}
