//! What a certificate says of itself. Nothing here is verified: use these only on certificates that TLS has verified,
//! or before a [`Judge`](super::Judge) verifies them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::name::{Fqdn, Virtual};

/// The DNS names in a certificate's subject alternative name extension; empty if it does not parse.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<Fqdn> {
    EndEntityCert::try_from(certificate)
        .map(|parsed| parsed.valid_dns_names().filter_map(|name| name.parse().ok()).collect())
        .unwrap_or_default()
}

/// The virtual addresses in a certificate: the first IPv4 and the first IPv6 address of its subject alternative names.
/// `None` unless it has both, or if it does not parse.
pub fn addresses(certificate: &CertificateDer<'_>) -> Option<Virtual> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let bytes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::IPAddress(bytes) => Some(*bytes),
        _ => None,
    });
    let (mut v4, mut v6) = (None, None);
    for bytes in bytes {
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            v4.get_or_insert(Ipv4Addr::from(octets));
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            v6.get_or_insert(Ipv6Addr::from(octets));
        }
    }
    Some(Virtual { v4: v4?, v6: v6? })
}

/// When a chain ends: the first second, since 1970, at which one of its certificates does not count any more. `None` if
/// the chain is empty or one of them does not parse.
pub fn ends(chain: &[CertificateDer<'_>]) -> Option<Duration> {
    let mut first = None;
    for certificate in chain {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        // The last second is included (RFC 5280 §4.1.2.5).
        let ends = u64::try_from(parsed.validity().not_after.timestamp().saturating_add(1)).unwrap_or(0);
        first = first.into_iter().chain([Duration::from_secs(ends)]).min();
    }
    first
}

/// The most characters of [`issuer`].
const MAX_ISSUER: usize = 64;

/// The name of the CA that a certificate gives as its issuer: the common name, or else the organization. Characters
/// that could disturb a terminal or a log are left out. `None` if it has no such name, or does not parse.
pub(super) fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let issuer = parsed.issuer();
    let name = issuer.iter_common_name().chain(issuer.iter_organization()).find_map(|name| name.as_str().ok())?;
    let is_harmless = |c: &char| c.is_ascii_alphanumeric() || " .,:()&+-_".contains(*c);
    Some(name.chars().filter(is_harmless).take(MAX_ISSUER).collect()).filter(|name: &String| !name.is_empty())
}

/// Whether two certificates are for the same key. False if one of them does not parse.
pub fn share_key(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    let (Ok((_, one)), Ok((_, other))) = (parse_x509_certificate(one), parse_x509_certificate(other)) else {
        return false;
    };
    one.tbs_certificate.subject_pki.raw == other.tbs_certificate.subject_pki.raw
}

/// The bytes of the public key in a certificate (RFC 5280 §4.1.2.7): 32 of an Ed25519 key. `None` if it does not parse.
pub fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(parsed.tbs_certificate.subject_pki.subject_public_key.data.to_vec())
}
