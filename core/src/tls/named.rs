//! The verifier of a session whose ClientHello may give another name than the server's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::facts::{ends, issuer};
use super::is_about_dates;

/// A server's certificate is of a CA that is not trusted: the CA's name as the certificate has it, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherCa(pub Option<String>);

impl fmt::Display for OtherCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "it is of another CA, \"{name}\""),
            None => f.write_str("it is of another CA"),
        }
    }
}

impl std::error::Error for OtherCa {}

/// Whether a certificate is refused because it is not of a CA that is trusted, or is none that a CA would issue: one
/// that is its own CA, for example.
fn is_foreign(verdict: &Result<ServerCertVerified, rustls::Error>) -> bool {
    use CertificateError as Why;
    let Err(rustls::Error::InvalidCertificate(why)) = verdict else { return false };
    matches!(why, Why::UnknownIssuer | Why::BadSignature | Why::BadEncoding | Why::Other(_))
}

/// Verifies a server's certificate for one name, whatever name the ClientHello gives. A certificate of another CA is
/// refused as [`OtherCa`].
#[derive(Debug)]
pub(super) struct Named {
    /// Judges the chain and the name.
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    /// The name that the certificate must have.
    pub(super) name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _outer: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |at| self.verifier.verify_server_cert(own, others, &self.name, ocsp, at);
        let verdict = verify(now);
        // The dates are judged before the CA. A middlebox's certificate may have wrong dates, too.
        let is_foreign = match &verdict {
            Err(rustls::Error::InvalidCertificate(why)) if is_about_dates(why) => ends(std::slice::from_ref(own))
                .is_none_or(|end| {
                    let last = UnixTime::since_unix_epoch(end.saturating_sub(Duration::from_secs(1)));
                    is_foreign(&verify(last))
                }),
            verdict => is_foreign(verdict),
        };
        if is_foreign {
            return Err(CertificateError::Other(OtherError(Arc::new(OtherCa(issuer(own))))).into());
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Roots, server_verifier};
    use super::*;
    use crate::pki::{Authority, Validity};

    const DAY: u64 = 86_400;

    /// An authority of this name, and a certificate of it for "as.example" that begins and ends on these days.
    fn authority(name: &str, days: [u64; 2]) -> (Authority, CertificateDer<'static>) {
        let validity = |[begin, end]: [u64; 2]| {
            Validity::new(Duration::from_secs(begin * DAY), Duration::from_secs(end * DAY)).unwrap()
        };
        let root = Authority::root(&[name.len() as u8; 32], name, validity([1, 3000])).unwrap();
        let identity = root.issue(&"as.example".parse().unwrap(), &[7; 32], 1, validity(days)).unwrap();
        (root, identity.chain[0].clone())
    }

    /// What the verifier of a node that trusts "ours" says on day 1000.
    fn verdict(own: &CertificateDer<'static>, name: &str) -> Result<(), rustls::Error> {
        let (ours, _) = authority("ours", [1, 2000]);
        let roots = Roots::new([ours.certificate().clone()]).unwrap();
        let verifier = server_verifier(Arc::new(rustls::crypto::ring::default_provider()), &roots).unwrap();
        let named = Named { verifier, name: ServerName::try_from(name.to_owned()).unwrap() };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1000 * DAY));
        let outer = ServerName::try_from("www.example").unwrap();
        named.verify_server_cert(own, &[], &outer, &[], now).map(drop)
    }

    #[test]
    fn a_certificate_of_another_ca_is_called_so_whatever_else_is_wrong_with_it() {
        let foreign = |own: &CertificateDer<'static>, name: &str| match verdict(own, name) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
                other.0.downcast_ref::<OtherCa>().and_then(|OtherCa(name)| name.clone())
            }
            verdict => panic!("{verdict:?}"),
        };
        for days in [[1, 2000], [1, 999], [1001, 2000]] {
            let (root, own) = authority("evil \u{1b}[31m CA", days);
            assert_eq!(foreign(&own, "as.example").as_deref(), Some("evil 31m CA"), "{days:?}");
            assert_eq!(foreign(&own, "nms.example").as_deref(), Some("evil 31m CA"), "{days:?}");
            assert_eq!(foreign(root.certificate(), "as.example").as_deref(), Some("evil 31m CA"), "its own CA");
        }
        assert_eq!(foreign(&CertificateDer::from(vec![1, 2, 3]), "as.example"), None);
    }

    #[test]
    fn a_certificate_of_ours_keeps_its_own_reason() {
        assert_eq!(verdict(&authority("ours", [1, 2000]).1, "as.example"), Ok(()));
        for days in [[1, 999], [1001, 2000]] {
            let Err(rustls::Error::InvalidCertificate(why)) = verdict(&authority("ours", days).1, "as.example") else {
                panic!("{days:?}");
            };
            assert!(is_about_dates(&why), "{why:?}");
        }
        let Err(rustls::Error::InvalidCertificate(why)) = verdict(&authority("ours", [1, 2000]).1, "nms.example")
        else {
            panic!("another name");
        };
        assert!(matches!(why, CertificateError::NotValidForNameContext { .. }), "{why:?}");
    }
}
