//! The conventional method's cryptography (paper §2.2): its own protection of UDP messages, and TLS over TCP to log in.
//!
//! ```text
//! Key128 ──HKDF──▶ Sealing ── seal ──▶ header 32 ‖ AES-128-CTR(plaintext) ‖ HMAC 16 ── open ──▶ header, plaintext
//!   CK, TK, EK                                                                         │
//! MK wraps EK (wrap)                                          ReplayWindow ◀── sequence┘
//! ```
//!
//! If the operator has set a key log, it contains these keys: see the module `key_log`.
//!
//! Login Request and Response travel in a [TLS session](crate::tls::channel). Everything after them goes through
//! [`seal`].

pub mod cipher;
mod key_log;
pub mod keys;
mod md5;
pub mod replay;
pub mod seal;
pub mod session;
pub mod wrap;
