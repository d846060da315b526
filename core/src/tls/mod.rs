//! Identities, trust anchors, and the TLS 1.3 settings that follow from them.
//!
//! Both methods use the same certificates. Every part of the system has an [`Identity`]: a chain from its own
//! certificate to a CA in [`Roots`]. The proposed method uses them for every QUIC connection, in both directions (paper
//! §3). The conventional method uses them for the login to the AS over TCP (paper §2.2.1).
//!
//! An [`Environment`] gives TLS its inputs: randomness and key exchange in the provider, the time in the clock. So the
//! core stays pure, and a simulator can repeat every byte of a handshake.
//!
//! [`server_config`] and [`client_config`] fix the rest, the same for everyone:
//! - TLS 1.3 only, `TLS_AES_128_GCM_SHA256` only: so both methods encrypt with AES-128 and can be compared;
//! - no tickets, no resumption, no 0-RTT: a replayed first flight can change nothing (RFC 8446 §8);
//! - peers are checked by webpki: chain, validity at the clock's time, key usage, revocation; a client also checks the
//!   server's name. A server that expects a certain client compares the [`names`] in the client's certificate.

pub mod channel;
mod facts;
mod named;
mod revoked;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, CipherSuite, ClientConfig, KeyLog, RootCertStore, ServerConfig};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::name::Fqdn;

use self::named::Named;
use self::revoked::{ClientLookup, Revoked, ServerLookup};

pub use facts::{addresses, ends, names, public_key, share_key};
pub use named::OtherCa;
pub use revoked::{ListFacts, list_facts};

/// The civil time, for the validity of certificates and tokens.
pub trait WallClock: Debug + Send + Sync {
    /// Time since 1970-01-01T00:00:00Z. Unlike [`crate::time::Instant`] it may step, in both directions.
    fn since_unix_epoch(&self) -> Duration;
}

/// Whether a certificate is refused because of the time: it has expired or is not valid yet.
pub fn is_about_dates(error: &CertificateError) -> bool {
    use CertificateError as Why;
    matches!(error, Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. })
}

/// The inputs of TLS and QUIC: cryptography, time, and where secrets are logged.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Randomness, key exchange and signatures.
    pub provider: Arc<CryptoProvider>,
    /// The civil time.
    pub clock: Arc<dyn WallClock>,
    /// Where traffic secrets are written, so that a capture can be decrypted. `None` unless the operator asked for it
    /// explicitly.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl Environment {
    /// The clock in the form that rustls needs.
    pub fn time_provider(&self) -> Arc<dyn TimeProvider> {
        Arc::new(ClockAdapter(self.clock.clone()))
    }

    /// The clock in the form that quinn-proto needs.
    pub fn time_source(&self) -> Arc<dyn quinn_proto::TimeSource> {
        Arc::new(ClockAdapter(self.clock.clone()))
    }

    /// Time since 1970, by which certificates are judged.
    pub fn judging(&self) -> Duration {
        judging(&*self.clock)
    }

    /// The provider, reduced to the one cipher suite that everyone uses.
    fn pinned_provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let wanted = CipherSuite::TLS13_AES_128_GCM_SHA256;
        let mut provider = CryptoProvider::clone(&self.provider);
        provider.cipher_suites.retain(|suite| suite.suite() == wanted);
        if provider.cipher_suites.is_empty() { Err(TlsError::NoSuite) } else { Ok(Arc::new(provider)) }
    }
}

/// The time since 1970 by which certificates are judged.
pub(crate) fn judging(clock: &dyn WallClock) -> Duration {
    let slow = if defect!(ExpiryMissed) { Duration::from_secs(2 * 86_400) } else { Duration::ZERO };
    clock.since_unix_epoch().saturating_sub(slow)
}

#[derive(Debug)]
struct ClockAdapter(Arc<dyn WallClock>);

impl TimeProvider for ClockAdapter {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(judging(&*self.0)))
    }
}

impl quinn_proto::TimeSource for ClockAdapter {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.0.since_unix_epoch()
    }
}

/// Why an identity, a set of roots or a configuration cannot be made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The proposed method needs a certificate (paper §4.3).
    #[error("the proposed method needs a certificate")]
    NoIdentity,
    /// A password has 1 to 1,024 bytes.
    #[error("a password has 1 to 1,024 bytes")]
    BadPassword,
    /// The chain is empty.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// The first certificate of the chain does not name its owner.
    #[error("the certificate does not name {0}")]
    NotNamed(Fqdn),
    /// The provider lacks the one cipher suite.
    #[error("the crypto provider has no TLS_AES_128_GCM_SHA256")]
    NoSuite,
    /// No root was given, so no peer could be verified, or a list of revoked certificates does not parse.
    #[error("peers cannot be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// A certificate or key does not parse, or they do not belong together.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// A name, the certificates that prove it, and the key behind them.
#[derive(Clone)]
pub struct Identity {
    /// The name that the first certificate carries.
    pub name: Fqdn,
    /// The owner's certificate, then the intermediate authorities; the root is left out.
    pub chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

impl Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts together a name, its chain (own certificate first) and its private key (PKCS#8 DER).
    ///
    /// [`server_config`] and [`client_config`] check whether the key fits the certificate.
    pub fn new(name: Fqdn, chain: Vec<CertificateDer<'static>>, key: Zeroizing<Vec<u8>>) -> Result<Self, TlsError> {
        let own = chain.first().ok_or(TlsError::EmptyChain)?;
        if !names(own).contains(&name) {
            return Err(TlsError::NotNamed(name));
        }
        Ok(Self { name, chain, key })
    }

    /// The private key, PKCS#8 DER, to write into a file that only its owner can read.
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.key
    }

    /// A key for another purpose, derived one-way from the private key.
    pub(crate) fn derive(&self, purpose: &[u8]) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, purpose).as_ref())
    }

    /// Whether this is another certificate for the same name and key.
    pub fn renews(&self, other: &Self) -> bool {
        self.name == other.name && self.key == other.key
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }
}

/// The trusted CAs, and their lists of revoked certificates (RFC 5280 §5).
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    revoked: Revoked,
}

impl Roots {
    /// Trusts these certificates (DER).
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate)?;
        }
        Ok(Self { store: Arc::new(store), revoked: Revoked::default() })
    }

    /// The same CAs with these lists of revoked certificates (DER), which replace earlier ones. A list applies to the
    /// certificates of the CA that signed it. [`Judge::check`] of the first of these verifies the list's signature.
    ///
    /// It takes time in proportion to the lists, and so does that first check. All later ones, and copies, do not.
    #[must_use]
    pub fn revoking(&self, lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>) -> Self {
        Self { store: self.store.clone(), revoked: Revoked::new(lists) }
    }

    /// The same with these lists besides: delta lists (RFC 5280 §5.2.4). It takes time in proportion to them.
    #[must_use]
    pub fn revoking_also(&self, lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>) -> Self {
        Self { store: self.store.clone(), revoked: self.revoked.and(lists) }
    }

    /// Whether at most the lists differ, and a look-up tells all that they change.
    pub(crate) fn trusts_the_same(&self, other: &Self) -> bool {
        let are_read = self.revoked.others().is_empty() && other.revoked.others().is_empty();
        are_read && self.store.roots == other.store.roots
    }

    /// The certificate verifier: judges a chain at the clock's time.
    pub fn judge(&self, env: &Environment) -> Result<Judge, TlsError> {
        let verifier = client_verifier(env.pinned_provider()?, self, ClientAuth::Required)?;
        Ok(Judge { verifier, clock: env.clock.clone(), roots: self.clone() })
    }
}

/// Verifies certificate chains, all by the rules for client certificates, which every certificate of this system fits.
#[derive(Clone, Debug)]
pub struct Judge {
    verifier: Arc<dyn ClientCertVerifier>,
    clock: Arc<dyn WallClock>,
    roots: Roots,
}

impl Judge {
    /// Whether this chain (own certificate first) leads to one of the CAs, is valid now and not revoked.
    pub fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let (own, others) = chain.split_first().ok_or(TlsError::EmptyChain)?;
        let now = UnixTime::since_unix_epoch(judging(&*self.clock));
        self.verifier.verify_client_cert(own, others, now)?;
        Ok(())
    }

    /// Whether a chain that was good is on no list: a look-up, without a signature.
    pub(crate) fn look_up(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let (own, others) = chain.split_first().ok_or(TlsError::EmptyChain)?;
        self.roots.revoked.check(own, others, &self.roots.store)?;
        Ok(())
    }
}

/// The verifier. Only the first certificate of a chain is looked up in the lists. A CA without a list has revoked
/// nothing.
fn client_verifier(
    provider: Arc<CryptoProvider>,
    roots: &Roots,
    client_auth: ClientAuth,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.store.clone(), provider)
        .with_crls(roots.revoked.others().iter().cloned())
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
    let inner = match client_auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
        ClientAuth::Unnamed => verifier.allow_unauthenticated().clear_root_hint_subjects(),
    }
    .build()?;
    if roots.revoked.is_empty() {
        return Ok(inner);
    }
    Ok(Arc::new(ClientLookup { inner, roots: roots.store.clone(), revoked: roots.revoked.clone() }))
}

fn server_verifier(provider: Arc<CryptoProvider>, roots: &Roots) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots.store.clone(), provider)
        .with_crls(roots.revoked.others().iter().cloned())
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status()
        .build()?;
    if roots.revoked.is_empty() {
        return Ok(inner);
    }
    Ok(Arc::new(ServerLookup { inner, roots: roots.store.clone(), revoked: roots.revoked.clone() }))
}

/// Whether a server requires a client certificate. A certificate that a client sends is verified in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A connection without a client certificate is refused (proposed method, paper §3.2).
    Required,
    /// A client may connect without a certificate and give a password (conventional login, paper §2.2.1).
    Optional,
    /// As [`Self::Optional`], but the request for a certificate names no CA. So a scanner does not learn whose service
    /// this is.
    Unnamed,
}

/// The settings of a TLS server; `alpn` is the one application protocol it speaks (RFC 7301).
pub fn server_config(
    env: &Environment,
    roots: &Roots,
    identity: &Identity,
    client_auth: ClientAuth,
    alpn: &[u8],
) -> Result<ServerConfig, TlsError> {
    let provider = env.pinned_provider()?;
    let verifier = client_verifier(provider.clone(), roots, client_auth)?;
    let mut config = ServerConfig::builder_with_details(provider, env.time_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.private_key())?;
    config.alpn_protocols = protocols(alpn);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(key_log) = &env.key_log {
        config.key_log = key_log.clone();
    }
    Ok(config)
}

/// The settings of a TLS client; without an `identity` it has no certificate to show.
pub fn client_config(
    env: &Environment,
    roots: &Roots,
    identity: Option<&Identity>,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let provider = env.pinned_provider()?;
    let verifier = server_verifier(provider.clone(), roots)?;
    let builder = ClientConfig::builder_with_details(provider, env.time_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.private_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    config.resumption = Resumption::disabled();
    if let Some(key_log) = &env.key_log {
        config.key_log = key_log.clone();
    }
    Ok(config)
}

/// The same settings, for a session that gives any name in its ClientHello (SNI): the server's certificate must name
/// `name` nevertheless.
pub fn client_config_of(
    env: &Environment,
    roots: &Roots,
    identity: &Identity,
    alpn: &[u8],
    name: &Fqdn,
) -> Result<ClientConfig, TlsError> {
    let verifier = server_verifier(env.pinned_provider()?, roots)?;
    let name = DnsName::try_from(name.as_str().to_owned())
        .map_err(|_| rustls::Error::General(format!("{name} is no DNS name")))?;
    let mut config = client_config(env, roots, Some(identity), alpn)?;
    config.dangerous().set_certificate_verifier(Arc::new(Named { verifier, name: ServerName::DnsName(name) }));
    Ok(config)
}

/// A list of one application protocol; an empty list for an empty name, as for the login over TCP.
fn protocols(alpn: &[u8]) -> Vec<Vec<u8>> {
    if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] }
}
