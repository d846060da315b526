//! Attacks. A hostile packet is dropped and counted under the name of its reason, and has no other effect.
//!
//! | | |
//! |---|---|
//! | [`garbage`] | arbitrary bytes and damaged copies of real packets, at every role |
//! | [`replays`] | everything that was ever on a wire, once more |
//! | [`insiders`] | nodes with valid certificates and keys that do what they may not |
//! | [`epochs`] | registrations from the end of time, and clocks that are wrong |
//! | [`misuse`] | links that are opened and not used, or used wrongly; a service that lies |
//! | [`addresses`] | a QUIC link whose packets come from elsewhere |
//! | [`revoked`] | certificates that are taken back while they are in use |
//! | [`rules`] | nodes that the access rules forbid to talk |
//! | [`lapses`] | certificates that end while they are in use, or are renewed |
//! | [`certified`] | a database that gives a node's virtual address to another one |
//! | [`grants`] | nodes that want the TRS without a grant of the NMS |
//! | [`reflection`] | insiders that name a victim's address as their own |
//! | [`amplification`] | spoofed addresses: what a victim would get |
//! | [`silence`] | paths that end without a word |
//! | [`twins`] | two machines with one name and key |
//! | [`versions`] | peers of a later and of an earlier version of the protocol |
//! | `guards` | every deliberate defect of the core is caught: by the soak, or by an attack from here |
//!
//! A scene that fails is replayed by its seed: every scene is deterministic, and proptest prints (and keeps) the input.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod amplification;
mod arena;
mod certified;
mod epochs;
mod garbage;
mod grants;
#[cfg(debug_assertions)]
mod guards;
mod insiders;
mod lapses;
mod misuse;
mod rates;
mod reflection;
mod replays;
mod revoked;
mod rogue;
mod rules;
mod silence;
mod twins;
mod versions;
