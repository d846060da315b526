//! Certificates: a root CA, the AS as intermediate CA (paper §2.1), and a leaf for each node and service.
//!
//! ```text
//! root CA ── signs ──▶ AS (may sign leaves only) ── signs ──▶ node, NMS, TRS, and the AS's own server certificate
//! ```
//!
//! Every certificate is a function of the arguments. A key is an Ed25519 key made from 32 secret bytes. The caller
//! gives the validity and the leaf's serial number. An authority's serial number is a hash of its public key. Ed25519
//! signatures have no randomness (RFC 8032), so equal arguments give equal certificates, byte for byte.
//!
//! A leaf names its owner in one DNS subject alternative name and serves as client and as server, because every node
//! is both in the proposed method. A node's leaf may also have its two virtual addresses (ours): then the node's peers
//! and the NMS believe these, and not a database.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType, SignatureAlgorithm,
    SigningKey,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::der;
use crate::name::{Fqdn, Virtual};
use crate::tls::{Identity, TlsError};

/// Seconds from 1970 to the end of the year 9999, the last date a certificate can carry (RFC 5280 §4.1.2.5).
const LAST_SECOND: u64 = 253_402_300_799;

/// PKCS#8 version 1 around an Ed25519 private key (RFC 8410 §7): these bytes, then the 32 of the seed.
const ED25519_PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The time in which a certificate is valid: whole seconds since 1970-01-01T00:00:00Z, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: Duration,
    not_after: Duration,
}

impl Validity {
    /// From `not_before` to `not_after`, without fractions of a second. None if that is an empty time, or ends after
    /// the year 9999.
    pub fn new(not_before: Duration, not_after: Duration) -> Option<Self> {
        let whole = |time: Duration| Duration::from_secs(time.as_secs());
        (not_before <= not_after && not_after.as_secs() <= LAST_SECOND)
            .then(|| Self { not_before: whole(not_before), not_after: whole(not_after) })
    }
}

/// Why a certificate cannot be made.
#[derive(Debug, Error)]
pub enum PkiError {
    /// Key or parameters were rejected.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate and key do not form an identity.
    #[error(transparent)]
    Identity(#[from] TlsError),
}

/// An Ed25519 public key: 32 bytes (RFC 8032 §5.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// Whom a leaf is for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The owner's name.
    pub name: Fqdn,
    /// A node's virtual addresses, for good. `None`: the NMS says them.
    pub addresses: Option<Virtual>,
}

impl From<&Fqdn> for Subject {
    fn from(name: &Fqdn) -> Self {
        Self { name: name.clone(), addresses: None }
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// A CA: the root, or an intermediate one.
pub struct Authority {
    certificate: CertificateDer<'static>,
    /// The intermediate authorities from this one up, this one included. Empty for the root.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Authority {
    /// A self-signed root with room for one level of intermediate authorities.
    pub fn root(seed: &[u8; 32], name: &str, validity: Validity) -> Result<Self, PkiError> {
        let key = key_pair(seed)?;
        let params = authority_params(name, validity, 1);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, chain: Vec::new(), issuer: Issuer::new(params, key) })
    }

    /// An authority under this one that may sign leaves, but no further authorities (path length 0).
    pub fn intermediate(&self, seed: &[u8; 32], name: &str, validity: Validity) -> Result<Self, PkiError> {
        let key = key_pair(seed)?;
        let mut params = authority_params(name, validity, 0);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let chain = std::iter::once(certificate.clone()).chain(self.chain.iter().cloned()).collect();
        Ok(Self { certificate, chain, issuer: Issuer::new(params, key) })
    }

    /// An intermediate authority from its certificate and its key, without the root's key. `name` and `validity` are
    /// those that it was made with.
    pub fn resumed(
        certificate: CertificateDer<'static>,
        seed: &[u8; 32],
        name: &str,
        validity: Validity,
    ) -> Result<Self, PkiError> {
        let issuer = Issuer::new(authority_params(name, validity, 0), key_pair(seed)?);
        Ok(Self { chain: vec![certificate.clone()], certificate, issuer })
    }

    /// This authority's own certificate; the root's goes into [`crate::tls::Roots`].
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A complete identity: the key made from `seed`, and its chain.
    ///
    /// `serial` must be new for this authority (RFC 5280 §4.1.2.2).
    pub fn issue(
        &self,
        subject: impl Into<Subject>,
        seed: &[u8; 32],
        serial: u64,
        validity: Validity,
    ) -> Result<Identity, PkiError> {
        let (subject, key) = (subject.into(), key_pair(seed)?);
        let chain = self.sign_leaf(&subject, &key, serial, validity)?;
        Ok(Identity::new(subject.name, chain, pkcs8(seed))?)
    }

    /// The chain for an owner who keeps the private key: the leaf first, the root left out.
    ///
    /// The caller must have verified that the owner holds the private key and may have the name.
    pub fn certify(
        &self,
        subject: impl Into<Subject>,
        key: PublicKey,
        serial: u64,
        validity: Validity,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        self.sign_leaf(&subject.into(), &key, serial, validity)
    }

    /// The list of all revoked certificates of this authority, each by serial number and time of revocation (RFC 5280
    /// §5). `number` has to grow from list to list. `validity` begins when this list is made and ends when the next one
    /// is due.
    pub fn revoke(
        &self,
        revoked: &[(u64, Duration)],
        number: u64,
        validity: Validity,
    ) -> Result<CertificateRevocationListDer<'static>, PkiError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let entry = |&(serial, since): &(u64, Duration)| RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: epoch + Duration::from_secs(since.as_secs()),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: epoch + validity.not_before,
            next_update: epoch + validity.not_after,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.der().clone())
    }

    /// A delta list (RFC 5280 §5.2.4): what was revoked since the list with the number `base`. The rest is as in
    /// [`Self::revoke`].
    pub fn revoke_since(
        &self,
        base: u64,
        revoked: &[(u64, Duration)],
        number: u64,
        validity: Validity,
    ) -> Result<CertificateRevocationListDer<'static>, PkiError> {
        let list = self.revoke(revoked, number, validity)?;
        // rcgen makes no delta lists. The delta is the same list with one more extension, signed anew.
        let delta = with_base(&list, base, |signed| self.issuer.key().sign(signed));
        Ok(delta.expect("rcgen's lists have extensions")?.into())
    }

    fn sign_leaf(
        &self,
        Subject { name, addresses }: &Subject,
        key: &impl PublicKeyData,
        serial: u64,
        validity: Validity,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        // The common name is only for people. It is limited to 64 characters, which a label never exceeds and a name
        // may.
        let mut params = params(name.short(), validity);
        let dns_name = name.as_str().try_into().map_err(PkiError::Certificate)?;
        let addresses = addresses.iter().flat_map(|both| [both.v4.into(), both.v6.into()]);
        params.subject_alt_names =
            std::iter::once(SanType::DnsName(dns_name)).chain(addresses.map(SanType::IpAddress)).collect();
        params.serial_number = Some(serial.into());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer)?.der().clone();
        Ok(std::iter::once(leaf).chain(self.chain.iter().cloned()).collect())
    }
}

/// A list with a base number among its extensions, as `sign` signs it. `None` if the list has no extensions.
fn with_base(
    list: &[u8],
    base: u64,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, rcgen::Error>,
) -> Option<Result<Vec<u8>, rcgen::Error>> {
    let mut parts = der::contents(&mut &*list, der::SEQUENCE)?;
    let mut fields = der::contents(&mut parts, der::SEQUENCE)?;
    let algorithm = der::element(&mut parts)?.whole;
    let mut before = Vec::new();
    let mut extensions = loop {
        let field = der::element(&mut fields)?;
        if field.tag == der::EXTENSIONS {
            break field.contents;
        }
        before.push(field.whole);
    };
    let extensions = der::contents(&mut extensions, der::SEQUENCE)?;
    let critical = der::wrap(der::BOOLEAN, &[&[0xff]]);
    let value = der::wrap(der::OCTET_STRING, &[&der::integer(base)]);
    let name = der::wrap(der::OBJECT_ID, &[&der::DELTA_LIST]);
    let indicator = der::wrap(der::SEQUENCE, &[&name, &critical, &value]);
    let extensions = der::wrap(der::SEQUENCE, &[extensions, &indicator]);
    let extensions = der::wrap(der::EXTENSIONS, &[&extensions]);
    before.push(&extensions);
    let signed = der::wrap(der::SEQUENCE, &before);
    Some(sign(&signed).map(|signature| {
        let signature = der::wrap(der::BIT_STRING, &[&[0], &signature]);
        der::wrap(der::SEQUENCE, &[&signed, algorithm, &signature])
    }))
}

/// The public half of the key made from `seed`.
pub fn public_key(seed: &[u8; 32]) -> Result<PublicKey, PkiError> {
    let key = key_pair(seed)?;
    Ok(PublicKey(key.public_key_raw().try_into().expect("an Ed25519 public key has 32 bytes")))
}

/// A request for a certificate for `name`, signed by the key made from `seed` (RFC 2986), DER.
pub fn request(name: &Fqdn, seed: &[u8; 32]) -> Result<Vec<u8>, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into().map_err(PkiError::Certificate)?)];
    Ok(params.serialize_request(&key_pair(seed)?)?.der().to_vec())
}

/// The private key made from `seed`, PKCS#8 DER: for writing it to a file that only its owner can read.
pub fn private_key(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    pkcs8(seed)
}

fn pkcs8(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut der = Zeroizing::new(Vec::with_capacity(ED25519_PKCS8_PREFIX.len() + seed.len()));
    der.extend_from_slice(&ED25519_PKCS8_PREFIX);
    der.extend_from_slice(seed);
    der
}

fn key_pair(seed: &[u8; 32]) -> Result<KeyPair, PkiError> {
    let der = pkcs8(seed);
    let der = PrivatePkcs8KeyDer::from(der.as_slice());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?)
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = epoch + validity.not_before;
    params.not_after = epoch + validity.not_after;
    params
}

fn authority_params(name: &str, validity: Validity, path_length: u8) -> CertificateParams {
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::names;

    fn validity() -> Validity {
        Validity::new(Duration::from_secs(1_000), Duration::from_secs(2_000)).unwrap()
    }

    fn alice() -> Fqdn {
        "alice.example".parse().unwrap()
    }

    #[test]
    fn equal_arguments_give_equal_certificates_and_any_other_argument_another() {
        let root = || Authority::root(&[1; 32], "root", validity()).unwrap();
        let service = || root().intermediate(&[2; 32], "as", validity()).unwrap();
        let issue = |seed: u8, serial| service().issue(&alice(), &[seed; 32], serial, validity()).unwrap().chain;
        assert_eq!(root().certificate(), root().certificate());
        assert_eq!(service().certificate(), service().certificate());
        assert_eq!(issue(3, 4), issue(3, 4));
        assert_ne!(issue(3, 4)[0], issue(3, 5)[0]);
        assert_ne!(issue(3, 4)[0], issue(4, 4)[0]);
    }

    #[test]
    fn a_leaf_carries_its_name_and_the_chain_up_to_but_without_the_root() {
        let root = Authority::root(&[1; 32], "root", validity()).unwrap();
        let service = root.intermediate(&[2; 32], "as", validity()).unwrap();
        let identity = service.issue(&alice(), &[3; 32], 1, validity()).unwrap();
        assert_eq!(identity.chain.len(), 2);
        assert_eq!(&identity.chain[1], service.certificate());
        assert_eq!(names(&identity.chain[0]), [alice()]);
        assert_eq!(names(root.certificate()), []);
    }

    #[test]
    fn an_authority_goes_on_without_the_roots_key() {
        let root = Authority::root(&[1; 32], "root", validity()).unwrap();
        let service = root.intermediate(&[2; 32], "as", validity()).unwrap();
        let resumed = Authority::resumed(service.certificate().clone(), &[2; 32], "as", validity()).unwrap();
        let issue = |authority: &Authority| authority.issue(&alice(), &[3; 32], 1, validity()).unwrap().chain;
        assert_eq!(issue(&service), issue(&resumed));
        let list = |authority: &Authority| authority.revoke(&[(1, Duration::from_secs(1_500))], 1, validity()).unwrap();
        assert_eq!(list(&service), list(&resumed));
    }

    #[test]
    fn certifying_a_public_key_gives_the_same_chain_as_issuing_from_its_seed() {
        let root = Authority::root(&[1; 32], "root", validity()).unwrap();
        let service = root.intermediate(&[2; 32], "as", validity()).unwrap();
        let issued = service.issue(&alice(), &[3; 32], 7, validity()).unwrap();
        let certified = service.certify(&alice(), public_key(&[3; 32]).unwrap(), 7, validity()).unwrap();
        assert_eq!(issued.chain, certified);
    }

    #[test]
    fn a_name_of_the_greatest_length_gets_a_certificate() {
        let label = "a".repeat(61);
        let long: Fqdn = [label.as_str(); 4].join(".").parse().unwrap();
        let root = Authority::root(&[1; 32], "root", validity()).unwrap();
        let identity = root.issue(&long, &[3; 32], 1, validity()).unwrap();
        assert_eq!(names(&identity.chain[0]), [long]);
    }

    #[test]
    fn a_validity_is_neither_empty_nor_endless() {
        let secs = Duration::from_secs;
        assert!(Validity::new(secs(2), secs(1)).is_none());
        assert!(Validity::new(secs(0), secs(LAST_SECOND + 1)).is_none());
        let last = Validity::new(secs(0), secs(LAST_SECOND)).unwrap();
        Authority::root(&[1; 32], "root", last).unwrap();
    }

    #[test]
    fn neither_an_identity_nor_an_authority_prints_its_key() {
        let seed = *b"the-secret-seed-of-this-testcase";
        let root = Authority::root(&seed, "root", validity()).unwrap();
        let identity = root.issue(&alice(), &seed, 1, validity()).unwrap();
        let printed = format!("{root:?} {identity:?}");
        assert_eq!(printed, "Authority { chain: 0, .. } Identity { name: alice.example, chain: 1, .. }");
    }
}
