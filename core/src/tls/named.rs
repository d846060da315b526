//! The verifier of a session whose ClientHello may give another name than the server's.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::facts::issuer;

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
        use CertificateError as Why;
        let is_foreign = |why: &Why| matches!(why, Why::UnknownIssuer | Why::BadSignature);
        match self.verifier.verify_server_cert(own, others, &self.name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(why)) if is_foreign(&why) => {
                Err(Why::Other(OtherError(Arc::new(OtherCa(issuer(own))))).into())
            }
            verdict => verdict,
        }
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
