//! Deterministic cryptography: every byte of every handshake is a function of a seed.
//!
//! **For the simulator and for tests only.** All keys follow from the seed.
//!
//! Each node draws from its own streams. Each stream is a hash of (seed, node, purpose): see [`derive()`]. So a node's
//! draws change neither another node's draws nor its own draws for another purpose.
//!
//! | what TLS takes from randomness | here |
//! |---|---|
//! | randoms, session ids | a ChaCha20 stream as rustls' `SecureRandom` |
//! | X25519 ephemeral keys | the same stream, with x25519-dalek |
//! | signatures | Ed25519, which has no randomness (RFC 8032) |
//! | keys and serial numbers of certificates | [`derive()`] |
//! | the time | [`FixedClock`] |
//!
//! # What is remembered
//!
//! A third of the time of a sweep went into repeated computations: the same result at the other end, or at the last
//! handshake. These are remembered (`seeded/remember.rs`).
//!
//! # Streams without a leak
//!
//! rustls wants both sources as `&'static`, without any context. So streams live in slots that are leaked once and then
//! lent. An [`Environment`] borrows a slot, and the last holder of its clock gives it back. There are as many slots as
//! environments ever lived at the same time, however many runs one process makes.
//!
//! Configurations and connections made from an environment hold its clock, so they keep the slot. Only a bare copy of
//! the provider (`environment.provider`) does not: keep the environment beside it.

mod remember;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cyphonic_core::name::{Fqdn, Virtual};
use cyphonic_core::pki::{Authority, Subject, Validity};
use cyphonic_core::tls::{Environment, Identity, Roots, WallClock};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::{CipherSuite, Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};

use remember::Remembering;

pub use cyphonic_wire::seed::{derive, stream};

/// The civil time at which every simulation starts: 2027-01-15T08:00:00Z, since 1970.
pub const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// How long certificates of [`Pki`] count, before and after [`EPOCH`]: ten years.
const VALID_AROUND_EPOCH: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The environment of `node`, at [`EPOCH`].
pub fn environment(seed: u64, node: &str) -> Environment {
    environment_by(seed, node, SharedTime::at(EPOCH))
}

/// The environment of `node` with a clock that shows `time`.
///
/// A second call with the same arguments starts the same streams anew. A node that restarts within one run needs
/// another `node` label, or it repeats its keys.
pub fn environment_by(seed: u64, node: &str, time: SharedTime) -> Environment {
    let lease = Lease::new(derive(seed, node, "tls"));
    let slot = lease.0;
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = CryptoProvider {
        kx_groups: vec![slot],
        secure_random: slot,
        signature_verification_algorithms: *remember::ALGORITHMS,
        key_provider: &Remembering,
        ..provider
    };
    let clock = FixedClock { time, _lease: lease };
    Environment { provider: Arc::new(provider), clock: Arc::new(clock), key_log: None }
}

/// The time that a clock shows. All copies share it.
#[derive(Clone, Debug)]
pub struct SharedTime(Arc<AtomicU64>);

impl SharedTime {
    /// A clock that shows a time since 1970.
    pub fn at(since_unix_epoch: Duration) -> Self {
        let time = Self(Arc::default());
        time.set(since_unix_epoch);
        time
    }

    /// Sets it.
    pub fn set(&self, since_unix_epoch: Duration) {
        self.0.store(u64::try_from(since_unix_epoch.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it shows.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that stands still until it is set. It also holds the environment's slot.
#[derive(Debug)]
pub struct FixedClock {
    time: SharedTime,
    _lease: Lease,
}

impl WallClock for FixedClock {
    fn since_unix_epoch(&self) -> Duration {
        self.time.get()
    }
}

/// The root CA, the AS as intermediate CA, and the identities below it, all from one seed.
#[derive(Debug)]
pub struct Pki {
    seed: u64,
    /// The identities that [`Self::identity`] has issued.
    issued: Mutex<BTreeMap<Fqdn, Identity>>,
    /// The root CA.
    pub root: Authority,
    /// The AS (paper §2.1).
    pub authority: Authority,
}

/// The certificates of the network with this seed.
pub fn pki(seed: u64) -> Pki {
    let root = Authority::root(&derive(seed, "root", "key"), "CYPHONIC root", validity());
    let root = root.expect("a root can be made from any seed");
    let authority = root.intermediate(&derive(seed, "as", "authority key"), "CYPHONIC AS", validity());
    let authority = authority.expect("an authority can be made from any seed");
    remember::issued(authority.certificate(), root.certificate());
    Pki { seed, issued: Mutex::default(), root, authority }
}

thread_local! {
    static LAST: RefCell<Option<Arc<Pki>>> = const { RefCell::new(None) };
}

/// As [`pki`], but remembers the last one: a network may run again, or a role may restart.
pub(crate) fn shared_pki(seed: u64) -> Arc<Pki> {
    LAST.with_borrow_mut(|last| match last {
        Some(known) if known.seed == seed => known.clone(),
        _ => last.insert(Arc::new(pki(seed))).clone(),
    })
}

impl Pki {
    /// The trust anchor of every part: the root.
    pub fn roots(&self) -> Roots {
        Roots::new([self.root.certificate().clone()]).expect("the root parses")
    }

    /// The identity of a node or service. Every call gives the same one.
    pub fn identity(&self, name: &Fqdn) -> Identity {
        let mut issued = lock(&self.issued);
        let issue = || {
            let identity = self.identity_valid(name, validity());
            remember::issued(&identity.chain[0], self.authority.certificate());
            identity
        };
        issued.entry(name.clone()).or_insert_with(issue).clone()
    }

    /// As [`Self::identity`], for another validity, such as an expired one.
    pub fn identity_valid(&self, name: &Fqdn, validity: Validity) -> Identity {
        self.issue(name.into(), 0, validity)
    }

    /// The certificate of a name after `number` renewals, valid until `until` (time since 1970; `None`: as long as
    /// any). The first one without `until` is [`Self::identity`].
    pub(crate) fn renewed(&self, name: &Fqdn, number: u32, until: Option<Duration>) -> Identity {
        if (number, until) == (0, None) {
            return self.identity(name);
        }
        self.remembered(name.into(), number, until.unwrap_or(EPOCH + VALID_AROUND_EPOCH))
    }

    /// The next certificate of a name, with these virtual addresses in it.
    pub fn certified(&self, name: &Fqdn, addresses: Virtual) -> Identity {
        let subject = Subject { name: name.clone(), addresses: Some(addresses) };
        self.remembered(subject, 1, EPOCH + 2 * VALID_AROUND_EPOCH)
    }

    /// A certificate after `number` renewals, valid until `until`, whose verification is remembered.
    fn remembered(&self, subject: Subject, number: u32, until: Duration) -> Identity {
        let identity = self.issue(subject, number, validity_until(until));
        remember::issued(&identity.chain[0], self.authority.certificate());
        identity
    }

    fn issue(&self, subject: Subject, number: u32, validity: Validity) -> Identity {
        let key = derive(self.seed, subject.name.as_str(), "identity key");
        let serial = self.serial(&subject.name, number);
        self.authority.issue(subject, &key, serial, validity).expect("an identity can be made for any name")
    }

    /// The serial number of a name's certificate after this many renewals.
    fn serial(&self, name: &Fqdn, number: u32) -> u64 {
        let purpose = if number == 0 { "serial number".to_owned() } else { format!("serial number {number}") };
        let serial = derive(self.seed, name.as_str(), &purpose);
        u64::from_be_bytes(*serial.first_chunk().expect("32 bytes"))
    }

    /// As [`Self::roots`], with these certificates revoked: each a name, and its number of renewals.
    pub fn roots_without(&self, certificates: &[(&Fqdn, u32)]) -> Roots {
        let revoked: Vec<_> = certificates.iter().map(|(name, number)| (self.serial(name, *number), EPOCH)).collect();
        let list = self.authority.revoke(&revoked, 1, validity()).expect("a list can be made of any certificates");
        self.roots().revoking([list])
    }
}

fn validity() -> Validity {
    validity_until(EPOCH + VALID_AROUND_EPOCH)
}

fn validity_until(until: Duration) -> Validity {
    Validity::new(EPOCH.saturating_sub(VALID_AROUND_EPOCH), until).expect("a time that is not empty")
}

/// A place for one stream. It is leaked once, and then lent.
#[derive(Debug)]
struct Slot(Mutex<ChaCha20Rng>);

/// The slots that are free.
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to use one slot. Dropping it gives the slot back.
#[derive(Debug)]
struct Lease(&'static Slot);

impl Lease {
    fn new(seed: [u8; 32]) -> Self {
        let stream = ChaCha20Rng::from_seed(seed);
        if let Some(slot) = lock(&FREE).pop() {
            *lock(&slot.0) = stream;
            return Self(slot);
        }
        Self(Box::leak(Box::new(Slot(Mutex::new(stream)))))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&FREE).push(self.0);
    }
}

impl SecureRandom for Slot {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        lock(&self.0).fill_bytes(bytes);
        Ok(())
    }
}

impl SupportedKxGroup for Slot {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = [0; 32];
        lock(&self.0).fill_bytes(&mut bytes);
        let secret = StaticSecret::from(bytes);
        let public = remember::public(&secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Half of an X25519 exchange (RFC 7748).
struct Exchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let own = self.public.to_bytes();
        // Both ends compute the same secret.
        let pair = if own < peer { [own, peer] } else { [peer, own] };
        let shared = remember::shared(pair, || {
            let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
            // RFC 8446 §7.4.2: a result of all zeros must end the handshake.
            if !shared.was_contributory() {
                return Err(PeerMisbehaved::InvalidKeyShare);
            }
            Ok(shared.to_bytes())
        })?;
        Ok(SharedSecret::from(&shared[..]))
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_core::tls::channel::TlsChannel;
    use cyphonic_core::tls::{ClientAuth, client_config, server_config};

    use super::*;

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    /// Every byte of a mutually authenticated session with one message in each direction.
    fn session(seed: u64) -> Vec<Vec<u8>> {
        let pki = pki(seed);
        let (alice, service) = (environment(seed, "alice"), environment(seed, "as"));
        let identity = pki.identity(&name("alice.example"));
        let client = client_config(&alice, &pki.roots(), Some(&identity), b"login").unwrap();
        let identity = pki.identity(&name("as.example"));
        let server = server_config(&service, &pki.roots(), &identity, ClientAuth::Required, b"login").unwrap();
        let mut client = TlsChannel::client(Arc::new(client), &name("as.example")).unwrap();
        let mut server = TlsChannel::server(Arc::new(server)).unwrap();
        client.send(b"hello");
        let mut wire = Vec::new();
        loop {
            let (up, down) = (client.take_output(), server.take_output());
            if up.is_empty() && down.is_empty() {
                break;
            }
            server.receive(&up).unwrap();
            client.receive(&down).unwrap();
            wire.extend([up, down]);
        }
        assert_eq!(server.read().unwrap(), b"hello");
        assert_eq!(server.peer_names(), [name("alice.example")]);
        wire
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_on_the_wire_and_another_seed_others() {
        let first = session(1);
        assert_eq!(first, session(1));
        let other = session(2);
        assert_ne!(first[0], other[0], "the client's first flight differs");
        assert_ne!(first, other);
    }

    #[test]
    fn sessions_at_the_same_time_do_not_disturb_each_other() {
        let alone = session(3);
        let together: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| session(3))).map(|thread| thread.join().unwrap()).collect();
        assert!(together.iter().all(|wire| *wire == alone));
    }

    #[test]
    fn a_thousand_environments_in_turn_need_few_slots() {
        use std::collections::BTreeSet;
        let slots: BTreeSet<usize> = (0..1_000)
            .map(|run| {
                let env = environment(run, "alice");
                std::ptr::from_ref(env.provider.secure_random).cast::<u8>().addr()
            })
            .collect();
        // Other tests borrow from the same pool at the same time.
        assert!(slots.len() < 500, "{} slots", slots.len());
    }

    #[test]
    fn a_configuration_keeps_the_slot_when_its_environment_is_gone() {
        let env = environment(4, "alice");
        let slot = std::ptr::from_ref(env.provider.secure_random).cast::<u8>();
        let config = client_config(&env, &pki(4).roots(), None, b"login").unwrap();
        drop(env);
        let others: Vec<_> = (0..100).map(|run| environment(run, "bob")).collect();
        for other in &others {
            assert_ne!(std::ptr::from_ref(other.provider.secure_random).cast::<u8>(), slot);
        }
        drop(config);
    }

    #[test]
    fn labels_cannot_run_into_each_other() {
        assert_eq!(derive(1, "ab", "c"), derive(1, "ab", "c"));
        assert_ne!(derive(1, "ab", "c"), derive(1, "a", "bc"));
        assert_ne!(derive(1, "ab", "c"), derive(2, "ab", "c"));
        assert_ne!(derive(1, "", "abc"), derive(1, "abc", ""));
    }

    #[test]
    fn a_point_of_low_order_ends_the_handshake() {
        let env = environment(5, "alice");
        for share in [&[0; 32][..], &[0; 31]] {
            let exchange = env.provider.kx_groups[0].start().unwrap();
            assert!(matches!(exchange.complete(share), Err(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))));
        }
    }

    #[test]
    fn both_ends_of_an_exchange_have_one_secret_and_a_third_has_another() {
        let start = |seed, who| environment(seed, who).provider.kx_groups[0].start().unwrap();
        let (a, b, c) = (start(9, "a"), start(9, "b"), start(9, "c"));
        let [of_a, of_b, of_c] = [&a, &b, &c].map(|end| end.pub_key().to_vec());
        let (first, second) = (a.complete(&of_b).unwrap(), b.complete(&of_a).unwrap());
        assert_eq!(first.secret_bytes(), second.secret_bytes());
        let third = c.complete(&of_a).unwrap();
        assert_ne!(first.secret_bytes(), third.secret_bytes());
        let secret = |seed, who| {
            let mut bytes = [0; 32];
            ChaCha20Rng::from_seed(derive(seed, who, "tls")).fill_bytes(&mut bytes);
            StaticSecret::from(bytes)
        };
        let alone = secret(9, "a").diffie_hellman(&PublicKey::from(<[u8; 32]>::try_from(of_c).unwrap()));
        assert_eq!(alone.as_bytes(), third.secret_bytes());
    }

    #[test]
    fn an_identity_does_not_depend_on_what_was_issued_before_it() {
        let first = pki(6).identity(&name("alice.example"));
        let pki = pki(6);
        pki.identity(&name("bob.example"));
        let second = pki.identity(&name("alice.example"));
        assert_eq!((first.chain, first.name), (second.chain, second.name));
    }
}
