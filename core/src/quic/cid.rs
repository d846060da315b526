//! Connection IDs: their length and how they are made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ring::hmac;

use crate::name::RelayCid;

/// Length of the connection IDs of a relayed end-to-end connection: the leg's 8 bytes and 4 random ones.
pub const RELAYED_CID_LEN: usize = 12;
/// Length of the connection IDs of connections whose packets travel on paths: 8 bytes and 8 random ones. A relayed
/// packet gives up the first 8 for the receiver's leg.
pub const PATHED_CID_LEN: usize = 16;
/// Length of all other connection IDs.
const DIRECT_CID_LEN: usize = 8;
/// Length of the random part of a connection ID of [`PATHED_CID_LEN`].
const RANDOM_LEN: usize = 8;

/// How an endpoint's own connection IDs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidScheme {
    /// 8 random bytes.
    Direct,
    /// The prefix by which a TRS finds this node, and 4 random bytes.
    Relayed(RelayCid),
    /// The same prefix, and 8 random bytes. The connection begins through a TRS, and may leave it later.
    Pathed(RelayCid),
    /// A keyed hash of 8 random bytes, then these bytes. Without the key nobody can link two IDs by their bytes. The
    /// node computes the hash again where a relay needed its place. It also recognises IDs that it issued before a
    /// restart.
    Marked,
}

impl CidScheme {
    fn len(self) -> usize {
        match self {
            Self::Direct => DIRECT_CID_LEN,
            Self::Relayed(_) => RELAYED_CID_LEN,
            Self::Pathed(_) | Self::Marked => PATHED_CID_LEN,
        }
    }

    /// The bytes before the random ones. A hash takes their place if the scheme has one.
    fn prefix(&self) -> &[u8] {
        match self {
            Self::Direct => &[],
            Self::Relayed(prefix) | Self::Pathed(prefix) => &prefix.0,
            Self::Marked => &[0; RANDOM_LEN],
        }
    }
}

/// Random bytes in a connection ID of a service; a keyed hash of them follows. By it the service recognises IDs that it
/// issued before a restart. An attacker needs 2⁴⁰ guesses for one ID that gets a stateless reset, and 2²⁴ of such IDs
/// until one of them belongs to a later connection: 2⁶⁴ packets.
const NONCE_LEN: usize = 3;

/// Most connection IDs of one link that are remembered. quinn issues eight at a time, and more when the peer retires
/// some.
pub(super) const MOST_MINTED: usize = 32;

/// The prefixes of the connection IDs that were issued last.
pub(super) type Minted = Arc<Mutex<VecDeque<RelayCid>>>;

/// Remembers an ID that was issued.
fn note(minted: &Minted, cid: &[u8]) {
    let Some(cid) = cid.first_chunk() else { return };
    let mut minted = minted.lock().expect("no panic holds this lock");
    minted.push_back(RelayCid(*cid));
    if minted.len() > MOST_MINTED {
        minted.pop_front();
    }
}

/// Makes `prefix ‖ random`, `random ‖ keyed hash` for a service, or `keyed hash ‖ random` for a node. Without the key,
/// nobody can tell the hash from random bytes.
pub(super) struct Generator {
    scheme: CidScheme,
    rng: ChaCha20Rng,
    memory: Option<hmac::Key>,
    /// The IDs that were issued, for code that needs this endpoint's own IDs.
    minted: Minted,
}

impl Generator {
    /// With `memory`, a key that survives restarts, the endpoint recognises its own connection IDs after a restart.
    pub(super) fn new(scheme: CidScheme, seed: [u8; 32], memory: Option<hmac::Key>, minted: &Minted) -> Self {
        Self { scheme, rng: ChaCha20Rng::from_seed(seed), memory, minted: Arc::clone(minted) }
    }
}

/// Puts the keyed hash of a connection ID's random bytes into its other bytes.
fn mark(key: &hmac::Key, scheme: CidScheme, cid: &mut [u8]) {
    let (random, hash) = match scheme {
        CidScheme::Marked => {
            let (hash, random) = cid.split_at_mut(RANDOM_LEN);
            (random, hash)
        }
        CidScheme::Direct | CidScheme::Relayed(_) | CidScheme::Pathed(_) => cid.split_at_mut(NONCE_LEN),
    };
    let tag = hmac::sign(key, random);
    hash.copy_from_slice(&tag.as_ref()[..hash.len()]);
}

/// Whether the connection IDs of a scheme contain a keyed hash.
fn is_marked(scheme: CidScheme) -> bool {
    matches!(scheme, CidScheme::Direct | CidScheme::Marked)
}

/// The first eight bytes of a [`CidScheme::Marked`] connection ID, computed from its other eight.
pub(super) fn mark_of(key: &hmac::Key, random: [u8; RANDOM_LEN]) -> RelayCid {
    let mut cid = [[0; RANDOM_LEN], random].concat();
    mark(key, CidScheme::Marked, &mut cid);
    RelayCid(*cid.first_chunk().expect("sixteen bytes"))
}

fn mint(rng: &mut ChaCha20Rng, prefix: &[u8], len: usize) -> ConnectionId {
    let mut bytes = [0; 20];
    rng.fill_bytes(&mut bytes[prefix.len()..len]);
    bytes[..prefix.len()].copy_from_slice(prefix);
    ConnectionId::new(&bytes[..len])
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let cid = mint(&mut self.rng, self.scheme.prefix(), self.scheme.len());
        note(&self.minted, &cid);
        let Some(key) = self.memory.as_ref().filter(|_| is_marked(self.scheme)) else { return cid };
        let mut bytes = cid.to_vec();
        mark(key, self.scheme, &mut bytes);
        ConnectionId::new(&bytes)
    }

    /// Whether this endpoint issued an ID before a restart. quinn asks only before it sends a stateless reset (RFC 9000
    /// §10.3). The reset spares the peer the idle timeout. Other packets get no answer: a port scan or a guess learns
    /// nothing.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let (Some(key), true) = (&self.memory, is_marked(self.scheme) && cid.len() == self.scheme.len()) else {
            return Err(InvalidCid);
        };
        let mut bytes = cid.to_vec();
        mark(key, self.scheme, &mut bytes);
        if bytes[..] == cid[..] { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        self.scheme.len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The destination connection IDs of a client's first packets: random, or with the peer's relay prefix in front, so
/// that the TRS can forward even the first packet.
pub(super) fn initial_destination(
    rng: &Arc<Mutex<ChaCha20Rng>>,
    prefix: Option<RelayCid>,
    is_pathed: bool,
) -> Arc<dyn Fn() -> ConnectionId + Send + Sync> {
    let rng = Arc::clone(rng);
    Arc::new(move || {
        let mut rng = rng.lock().expect("no panic holds this lock");
        match prefix {
            Some(p) => mint(&mut rng, &p.0, if is_pathed { PATHED_CID_LEN } else { RELAYED_CID_LEN }),
            None => mint(&mut rng, &[], DIRECT_CID_LEN),
        }
    })
}

/// The first eight bytes of a QUIC packet's destination connection ID, if it has that many (RFC 8999 §5).
pub fn destination_prefix(datagram: &[u8]) -> Option<RelayCid> {
    let first = *datagram.first()?;
    let cid = if first & 0x80 == 0 {
        datagram.get(1..9)?
    } else {
        let len = usize::from(*datagram.get(5)?);
        if len < 8 {
            return None;
        }
        datagram.get(6..14)?
    };
    Some(RelayCid(cid.try_into().expect("eight bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_cid_is_the_legs_prefix_and_four_changing_bytes() {
        let prefix = RelayCid(*b"leg to b");
        let mut generator = Generator::new(CidScheme::Relayed(prefix), [7; 32], None, &Minted::default());
        let (a, b) = (generator.generate_cid(), generator.generate_cid());
        assert_eq!((a.len(), &a[..8]), (RELAYED_CID_LEN, &prefix.0[..]));
        assert_eq!(&a[..8], &b[..8]);
        assert_ne!(a, b);
    }

    #[test]
    fn a_service_knows_the_ids_of_an_earlier_life_and_no_others() {
        let key = |byte| Some(hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]));
        let mut before = Generator::new(CidScheme::Direct, [1; 32], key(1), &Minted::default());
        let after = Generator::new(CidScheme::Direct, [2; 32], key(1), &Minted::default());
        let stranger = Generator::new(CidScheme::Direct, [2; 32], key(2), &Minted::default());
        let forgetful = Generator::new(CidScheme::Direct, [1; 32], None, &Minted::default());
        for _ in 0..100 {
            let cid = before.generate_cid();
            assert!(after.validate(&cid).is_ok());
            assert!(stranger.validate(&cid).is_err() && forgetful.validate(&cid).is_err());
            let mut bytes = [0; DIRECT_CID_LEN];
            bytes.copy_from_slice(&cid);
            bytes[7] ^= 1;
            assert!(after.validate(&ConnectionId::new(&bytes)).is_err());
        }
    }

    #[test]
    fn ids_of_tunnels_share_no_byte_and_are_known_after_a_restart_and_behind_a_relay() {
        let key = |byte| Some(hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]));
        let mut before = Generator::new(CidScheme::Marked, [1; 32], key(1), &Minted::default());
        let after = Generator::new(CidScheme::Marked, [2; 32], key(1), &Minted::default());
        let stranger = Generator::new(CidScheme::Marked, [1; 32], key(2), &Minted::default());
        let mut ids = Vec::new();
        for _ in 0..256 {
            let cid = before.generate_cid();
            assert_eq!(cid.len(), PATHED_CID_LEN);
            assert!(after.validate(&cid).is_ok() && stranger.validate(&cid).is_err());
            let random = *cid.last_chunk().unwrap();
            assert_eq!(mark_of(&key(1).unwrap(), random).0, cid[..8]);
            for at in 0..PATHED_CID_LEN {
                let mut bytes = cid.to_vec();
                bytes[at] ^= 1;
                assert!(after.validate(&ConnectionId::new(&bytes)).is_err(), "a guess gets no reset");
            }
            assert!(after.validate(&ConnectionId::new(&cid[..8])).is_err());
            ids.push(cid);
        }
        for at in 0..PATHED_CID_LEN {
            let values: std::collections::BTreeSet<u8> = ids.iter().map(|id| id[at]).collect();
            assert!(values.len() > 128, "byte {at} has {} values in 256 IDs", values.len());
        }
    }

    #[test]
    fn the_destination_prefix_is_read_from_long_and_short_headers() {
        let mut short = vec![0x40];
        short.extend_from_slice(b"12345678rest");
        assert_eq!(destination_prefix(&short), Some(RelayCid(*b"12345678")));
        let mut long = vec![0xc0, 0, 0, 0, 1, 12];
        long.extend_from_slice(b"12345678rest");
        assert_eq!(destination_prefix(&long), Some(RelayCid(*b"12345678")));
        long[5] = 7;
        assert_eq!(destination_prefix(&long), None);
        for cut in 0..9 {
            assert_eq!(destination_prefix(&short[..cut]), None);
        }
    }
}
