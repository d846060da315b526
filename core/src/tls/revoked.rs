//! Lists of revoked certificates (RFC 5280 §5), each read once.
//!
//! webpki reads a list anew for each TLS configuration, and verifies its signature anew for each peer. Both take time
//! in proportion to the list. So a list becomes its serial numbers in order: eight bytes for a certificate. All copies
//! of the [`Roots`](super::Roots) share them. The signature is verified once, when the first certificate of the list's
//! issuer is judged, and the bytes of the list are dropped then. A look-up costs O(log n).
//!
//! A list of a form that this module does not know stays with webpki: one that is not signed by Ed25519, one with
//! serial numbers of more than eight bytes, and one with extensions that change what an entry means.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use crate::der::{
    BIT_STRING, BOOLEAN, DELTA_LIST, EXTENSIONS, GENERALIZED_TIME, INTEGER, ISSUER_KEY, LIST_NUMBER, OBJECT_ID,
    SEQUENCE, UTC_TIME, contents, element, number,
};

/// The contents of an `AlgorithmIdentifier` of Ed25519 (RFC 8410 §3).
const ED25519_ID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// What stands before the key in the contents of a `SubjectPublicKeyInfo` of Ed25519.
const ED25519_SPKI: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Extensions of a list that say nothing about an entry.
const HARMLESS: [[u8; 3]; 3] = [ISSUER_KEY, LIST_NUMBER, DELTA_LIST];

/// What a list says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// The issuer's name, as it is encoded.
    pub issuer: Box<[u8]>,
    /// The list's number, which grows from list to list.
    pub number: u64,
    /// Of a delta list: the number of the list that it goes with.
    pub base: Option<u64>,
    /// How many certificates are on it.
    pub count: usize,
}

/// What a list says of itself. Nothing is verified. `None` if the list is not one of ours: see the
/// [`pki`](crate::pki::Authority::revoke).
pub fn list_facts(list: &CertificateRevocationListDer<'static>) -> Option<ListFacts> {
    let read = RevokedList::read(list)?;
    Some(ListFacts { issuer: read.issuer, number: read.number?, base: read.base, count: read.count })
}

/// One list.
struct RevokedList {
    /// The issuer's name, as it is encoded.
    issuer: Box<[u8]>,
    /// In order.
    serials: Box<[u64]>,
    /// How many entries there are.
    count: usize,
    number: Option<u64>,
    base: Option<u64>,
    /// Until the signature was found to be good.
    open: Mutex<Option<Open>>,
}

/// A list whose signature is not verified yet.
struct Open {
    der: CertificateRevocationListDer<'static>,
    signed: Range<usize>,
    signature: Box<[u8]>,
    /// The last key that did not make the signature.
    bad: Option<[u8; 32]>,
}

impl RevokedList {
    /// Reads a list; `None` if webpki has to.
    fn read(der: &CertificateRevocationListDer<'static>) -> Option<Self> {
        let mut whole = der.as_ref();
        let mut parts = contents(&mut whole, SEQUENCE).filter(|_| whole.is_empty())?;
        let before = der.len() - parts.len();
        let signed = element(&mut parts)?;
        let (tag, mut tbs) = (signed.tag, signed.contents);
        let signed = before..before + signed.whole.len();
        let is_ed25519 = |algorithm: Option<&[u8]>| algorithm.is_some_and(|found| found == ED25519_ID);
        if tag != SEQUENCE || !is_ed25519(contents(&mut parts, SEQUENCE)) {
            return None;
        }
        let signature = contents(&mut parts, BIT_STRING)?.strip_prefix(&[0])?.into();
        if contents(&mut tbs, INTEGER)? != [1] || !is_ed25519(contents(&mut tbs, SEQUENCE)) {
            return None;
        }
        let issuer = element(&mut tbs).filter(|issuer| issuer.tag == SEQUENCE)?.whole;
        let (mut serials, mut times) = (Vec::new(), 0);
        let (mut own, mut base) = (None, None);
        while !tbs.is_empty() {
            let part = element(&mut tbs)?;
            match part.tag {
                UTC_TIME | GENERALIZED_TIME if times < 2 => times += 1,
                SEQUENCE => serials = Self::entries(part.contents)?,
                EXTENSIONS => {
                    let mut extensions = part.contents;
                    let mut extensions = contents(&mut extensions, SEQUENCE)?;
                    while !extensions.is_empty() {
                        let mut extension = contents(&mut extensions, SEQUENCE)?;
                        let name = contents(&mut extension, OBJECT_ID)?;
                        HARMLESS.iter().find(|harmless| name == *harmless)?;
                        let mut value = element(&mut extension)?;
                        if value.tag == BOOLEAN {
                            value = element(&mut extension)?;
                        }
                        let integer = || contents(&mut &*value.contents, INTEGER).and_then(number);
                        if name == LIST_NUMBER {
                            own = integer();
                        } else if name == DELTA_LIST {
                            base = Some(integer()?);
                        }
                    }
                }
                _ => return None,
            }
        }
        let count = serials.len();
        serials.sort_unstable();
        serials.dedup();
        let open = Open { der: der.clone(), signed, signature, bad: None };
        let open = Mutex::new(Some(open));
        Some(Self { issuer: issuer.into(), serials: serials.into(), count, number: own, base, open })
    }

    /// The serial numbers; `None` if an entry has extensions.
    fn entries(mut entries: &[u8]) -> Option<Vec<u64>> {
        let mut serials = Vec::with_capacity(entries.len() / 24);
        while !entries.is_empty() {
            let mut entry = contents(&mut entries, SEQUENCE)?;
            serials.push(number(contents(&mut entry, INTEGER)?)?);
            element(&mut entry)?;
            if !entry.is_empty() {
                return None;
            }
        }
        Some(serials)
    }

    /// Whether the list is good: signed by the key that signed this certificate.
    fn is_good(&self, own: &X509Certificate<'_>, others: &[CertificateDer<'_>], roots: &RootCertStore) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = open.as_mut() else { return true };
        let Some(key) = issuing_key(own, others, roots).filter(|key| list.bad != Some(*key)) else { return false };
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(&list.der[list.signed.clone()], &list.signature);
        if verified.is_err() {
            list.bad = Some(key);
            return false;
        }
        *open = None;
        true
    }
}

/// The key that signed a certificate, of those in the certificates beside it and in the roots. webpki has verified that
/// a trusted CA of that name signed it. Other certificates of that name may lie in the chain, so the signature is
/// verified by each key.
fn issuing_key(own: &X509Certificate<'_>, others: &[CertificateDer<'_>], roots: &RootCertStore) -> Option<[u8; 32]> {
    let parsed = others.iter().filter_map(|other| parse_x509_certificate(other).ok());
    let named = parsed.filter(|(_, other)| other.subject().as_raw() == own.issuer().as_raw());
    let keys = named.map(|(_, other)| other.tbs_certificate.subject_pki.subject_public_key.data.to_vec());
    let mut name = own.issuer().as_raw();
    let name = contents(&mut name, SEQUENCE)?;
    let anchors = roots.roots.iter().filter(|anchor| anchor.subject.as_ref() == name);
    let anchors = anchors.filter_map(|anchor| anchor.subject_public_key_info.strip_prefix(&ED25519_SPKI));
    let mut keys = keys.chain(anchors.map(<[u8]>::to_vec)).filter_map(|key| <[u8; 32]>::try_from(key).ok());
    keys.find(|key| {
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(own.tbs_certificate.as_ref(), &own.signature_value.data).is_ok()
    })
}

/// All lists.
#[derive(Clone, Default)]
pub(super) struct Revoked {
    lists: Arc<[Arc<RevokedList>]>,
    /// Those that webpki reads.
    others: Arc<[CertificateRevocationListDer<'static>]>,
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.lists.iter().map(|list| list.serials.len()).collect();
        f.debug_struct("Revoked").field("counts", &counts).field("others", &self.others.len()).finish()
    }
}

impl Revoked {
    pub(super) fn new(lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>) -> Self {
        Self::default().and(lists)
    }

    /// These lists, and more.
    pub(super) fn and(&self, lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>) -> Self {
        let (mut known, mut others) = (self.lists.to_vec(), self.others.to_vec());
        for list in lists {
            match RevokedList::read(&list) {
                Some(read) => known.push(Arc::new(read)),
                None => others.push(list),
            }
        }
        Self { lists: known.into(), others: others.into() }
    }

    /// The lists that webpki reads.
    pub(super) fn others(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.others
    }

    /// Whether there is no list of this module.
    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Looks up the first certificate of a chain that leads to one of the roots.
    ///
    /// # Errors
    /// If it is on a list of its issuer, or if the signature of such a list is not its issuer's.
    pub(super) fn check(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        roots: &RootCertStore,
    ) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let (_, parsed) =
            parse_x509_certificate(own).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let serial = number(parsed.raw_serial());
        for list in self.lists.iter().filter(|list| *list.issuer == *parsed.issuer().as_raw()) {
            if !list.is_good(&parsed, others, roots) {
                return Err(CertRevocationListError::BadSignature.into());
            }
            if serial.is_some_and(|serial| list.serials.binary_search(&serial).is_ok()) {
                return Err(Error::InvalidCertificate(CertificateError::Revoked));
            }
        }
        Ok(())
    }
}

/// Verifies a client's certificate, then looks it up.
#[derive(Debug)]
pub(super) struct ClientLookup {
    /// Verifies chain, dates, name and key usage.
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    /// The CAs, for the keys of lists.
    pub(super) roots: Arc<RootCertStore>,
    /// The lists.
    pub(super) revoked: Revoked,
}

impl ClientCertVerifier for ClientLookup {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(own, others, now)?;
        self.revoked.check(own, others, &self.roots)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies a server's certificate, then looks it up.
#[derive(Debug)]
pub(super) struct ServerLookup {
    /// Verifies chain, dates, name and key usage.
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// The CAs, for the keys of lists.
    pub(super) roots: Arc<RootCertStore>,
    /// The lists.
    pub(super) revoked: Revoked,
}

impl ServerCertVerifier for ServerLookup {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(own, others, name, ocsp, now)?;
        self.revoked.check(own, others, &self.roots)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
