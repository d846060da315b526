//! Results of simulated cryptography that are remembered.
//!
//! A network verifies the same few certificates at every handshake, and verifies at one end what it has just signed at
//! the other. Both ends of a key exchange compute the same secret. A second run of a network, for a comparison or an
//! attack, makes the same keys and signatures again. Each result depends only on its arguments, so each thread
//! remembers it. What was not made here, or was changed on the way, is computed and verified as usual. The bytes on
//! every wire are the same.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::thread::LocalKey;

use rustls::crypto::{KeyProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use x25519_dalek::{PublicKey, StaticSecret};

/// Ed25519 (RFC 8032) that remembers, for each thread, the keys it loaded and the signatures it made or verified.
#[derive(Debug)]
pub(super) struct Remembering;

/// Most entries of each kind. Above this number all are forgotten. One network needs far fewer.
const REMEMBERED_LIMIT: usize = 4096;

fn make_room(held: usize, forget: impl FnOnce()) {
    if held >= REMEMBERED_LIMIT {
        forget();
    }
}

thread_local! {
    /// By [`fingerprint`] of key, message and signature.
    static GOOD: RefCell<BTreeSet<[u8; 32]>> = RefCell::default();
    /// By [`fingerprint`] of the key's DER.
    static LOADED: RefCell<BTreeMap<[u8; 32], Arc<dyn SigningKey>>> = RefCell::default();
    /// The secret that two public keys share, in order.
    static SHARED: RefCell<BTreeMap<[[u8; 32]; 2], [u8; 32]>> = RefCell::default();
    /// X25519 public keys, by private key.
    static PUBLIC: RefCell<BTreeMap<[u8; 32], [u8; 32]>> = RefCell::default();
    /// Signatures, by [`fingerprint`] of public key and message: Ed25519 has no randomness (RFC 8032 §5.1.6).
    static SIGNED: RefCell<BTreeMap<[u8; 32], Vec<u8>>> = RefCell::default();
}

/// The entry of `memory` at `key`. If there is none, `make` computes it.
fn remembered<K: Ord, V: Clone, E>(
    memory: &'static LocalKey<RefCell<BTreeMap<K, V>>>,
    key: K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    if let Some(value) = memory.with_borrow(|memory| memory.get(&key).cloned()) {
        return Ok(value);
    }
    let value = make()?;
    memory.with_borrow_mut(|memory| {
        make_room(memory.len(), || memory.clear());
        memory.insert(key, value.clone());
    });
    Ok(value)
}

/// SHA-256 over all parts, each with its length before it.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The secret of the ends of an exchange whose public keys these are, in order.
pub(super) fn shared<E>(pair: [[u8; 32]; 2], make: impl FnOnce() -> Result<[u8; 32], E>) -> Result<[u8; 32], E> {
    remembered(&SHARED, pair, make)
}

/// The X25519 public key of a private one.
pub(super) fn public(secret: &StaticSecret) -> PublicKey {
    let Ok(public) = remembered(&PUBLIC, secret.to_bytes(), || Ok::<_, Infallible>(PublicKey::from(secret).to_bytes()));
    public.into()
}

fn remember_good(fingerprint: [u8; 32]) {
    GOOD.with_borrow_mut(|good| {
        make_room(good.len(), || good.clear());
        good.insert(fingerprint);
    });
}

/// The head of an Ed25519 public key in a certificate, DER (RFC 8410 §4), before its 32 bytes.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// The name of Ed25519 and the head of a signature, before its 64 bytes (RFC 8410 §6).
const SIGNATURE: [u8; 10] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x41, 0];

/// Of a certificate (DER, RFC 5280 §4.1) that was issued here just now: its signature is good.
pub(super) fn issued(certificate: &[u8], issuer: &[u8]) {
    let key = issuer.windows(SPKI.len()).position(|window| window == SPKI).map(|at| &issuer[at + SPKI.len()..]);
    // A certificate is a sequence with a length of two bytes.
    let parts = certificate.get(4..).and_then(|body| body.split_last_chunk::<64>());
    let (Some(key), Some((body, signature))) = (key.and_then(|key| key.first_chunk::<32>()), parts) else { return };
    if let Some(message) = body.strip_suffix(&SIGNATURE) {
        remember_good(fingerprint(&[key, message, signature]));
    }
}

/// Everything that the default provider verifies, in its order (it is what a handshake offers), Ed25519 remembering.
pub(super) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let remember =
        |algorithm: &'static dyn SignatureVerificationAlgorithm| -> &'static dyn SignatureVerificationAlgorithm {
            let is_ed25519 = algorithm.signature_alg_id() == Remembering.signature_alg_id();
            if is_ed25519 { &Remembering } else { algorithm }
        };
    let given = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let all: Vec<_> = given.all.iter().map(|&algorithm| remember(algorithm)).collect();
    let mapping = given.mapping.iter().map(|&(scheme, algorithms)| {
        let algorithms: Vec<_> = algorithms.iter().map(|&algorithm| remember(algorithm)).collect();
        (scheme, &*algorithms.leak())
    });
    WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.collect::<Vec<_>>().leak() }
});

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let fingerprint = fingerprint(&[public_key, message, signature]);
        if !GOOD.with_borrow(|good| good.contains(&fingerprint)) {
            webpki::ring::ED25519.verify_signature(public_key, message, signature)?;
            remember_good(fingerprint);
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        webpki::ring::ED25519.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        webpki::ring::ED25519.signature_alg_id()
    }
}

impl KeyProvider for Remembering {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        remembered(&LOADED, fingerprint(&[der.secret_der()]), || {
            let key = rustls::crypto::ring::sign::any_supported_type(&der)?;
            let public = key.public_key().filter(|_| key.algorithm() == SignatureAlgorithm::ED25519);
            Ok(match public {
                // An Ed25519 key is the last 32 bytes of its SubjectPublicKeyInfo (RFC 8410 §4).
                Some(spki) => {
                    let public = *spki.last_chunk().expect("an Ed25519 key has 32 bytes");
                    Arc::new(RememberingKey { key, public })
                }
                None => key,
            })
        })
    }
}

/// An Ed25519 key whose signatures are good from the beginning.
#[derive(Debug)]
struct RememberingKey {
    key: Arc<dyn SigningKey>,
    public: [u8; 32],
}

impl SigningKey for RememberingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(RememberingSigner { signer, public: self.public }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct RememberingSigner {
    signer: Box<dyn Signer>,
    public: [u8; 32],
}

impl Signer for RememberingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = remembered(&SIGNED, fingerprint(&[&self.public, message]), || self.signer.sign(message))?;
        remember_good(fingerprint(&[&self.public, message, &signature]));
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_once_is_good_again_and_nothing_near_it_is() {
        use ring::signature::{Ed25519KeyPair, KeyPair};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let (key, signature) = (pair.public_key().as_ref(), pair.sign(b"message"));
        let mut forged = signature.as_ref().to_vec();
        forged[0] ^= 1;
        for _ in 0..2 {
            assert!(Remembering.verify_signature(key, b"message", signature.as_ref()).is_ok());
            assert!(Remembering.verify_signature(key, b"Message", signature.as_ref()).is_err());
            assert!(Remembering.verify_signature(key, b"message", &forged).is_err());
            assert!(Remembering.verify_signature(&forged[..32], b"message", signature.as_ref()).is_err());
            // Moved from one part to the next.
            assert!(Remembering.verify_signature(key, &signature.as_ref()[63..], &signature.as_ref()[..63]).is_err());
        }
    }

    #[test]
    fn of_an_issued_certificate_exactly_the_good_signature_is_remembered() {
        let pki = super::super::pki(1);
        let leaf = pki.identity(&"alice.example".parse().unwrap()).chain[0].to_vec();
        let good = |certificate: &[u8], issuer: &[u8]| {
            GOOD.with_borrow_mut(BTreeSet::clear);
            issued(certificate, issuer);
            GOOD.take()
        };
        // What a chain's verification remembers by itself.
        let (root, authority) = (pki.root.certificate(), pki.authority.certificate());
        let environment = super::super::environment(1, "alice");
        GOOD.with_borrow_mut(BTreeSet::clear);
        let chain = [leaf.clone().into(), authority.clone()];
        pki.roots().judge(&environment).unwrap().check(&chain).unwrap();
        let verified = GOOD.take();
        assert_eq!(verified.len(), 2);
        assert_eq!(&good(&leaf, authority) | &good(authority, root), verified);
        for short in [0, 3, 70] {
            assert_eq!(good(&leaf[..short], authority).len() + good(&leaf, &authority[..short]).len(), 0);
        }
    }

    #[test]
    fn what_was_signed_here_verifies_and_the_same_key_is_loaded_once() {
        // PKCS #8 as RFC 8410 §7 has it.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let pkcs8: Vec<u8> = head.into_iter().chain([8; 32]).collect();
        let load = || Remembering.load_private_key(PrivateKeyDer::Pkcs8(pkcs8.clone().into())).unwrap();
        let (key, again) = (load(), load());
        assert!(Arc::ptr_eq(&key, &again));
        let signer = key.choose_scheme(&[SignatureScheme::ED25519]).unwrap();
        let signature = signer.sign(b"message").unwrap();
        let spki = key.public_key().unwrap();
        let public = &spki[spki.len() - 32..];
        // The library agrees with what is remembered.
        assert!(webpki::ring::ED25519.verify_signature(public, b"message", &signature).is_ok());
        assert!(Remembering.verify_signature(public, b"message", &signature).is_ok());
        assert!(Remembering.verify_signature(public, b"another", &signature).is_err());
    }
}
