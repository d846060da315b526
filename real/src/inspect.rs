//! `cyphonic ca print --json`: the contents of a certificate file, for programs.

use std::net::IpAddr;
use std::path::Path;

use cyphonic_core::tls;
use serde::Serialize;

use crate::ca;
use crate::error::{Code, Failure};
use crate::files;

/// One certificate.
#[derive(Debug, Serialize)]
struct Certificate {
    /// Whether it may issue other certificates.
    authority: bool,
    subject: String,
    /// The names in the certificate.
    names: Vec<String>,
    /// The virtual addresses in the certificate: none, or one of each family.
    virtual_addresses: Vec<IpAddr>,
    issuer: String,
    /// Hexadecimal.
    serial: String,
    /// Seconds since 1970.
    from: i64,
    to: i64,
    sha256: String,
}

/// Every certificate in a file, in its order, as a JSON array.
pub fn json(path: &Path) -> Result<String, Failure> {
    let mut all = Vec::new();
    for certificate in files::certificates(path)? {
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|error| {
            Failure::new(Code::Identity, format!("{}: {error}", path.display()), "this file is damaged")
        })?;
        all.push(Certificate {
            authority: parsed.is_ca(),
            subject: parsed.subject().to_string(),
            names: tls::names(&certificate).iter().map(ToString::to_string).collect(),
            virtual_addresses: tls::addresses(&certificate)
                .iter()
                .flat_map(|both| [both.v4.into(), both.v6.into()])
                .collect(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            from: parsed.validity().not_before.timestamp(),
            to: parsed.validity().not_after.timestamp(),
            sha256: ca::hex(ring::digest::digest(&ring::digest::SHA256, &certificate).as_ref()).to_string(),
        });
    }
    serde_json::to_string_pretty(&all).map_err(Failure::other)
}
