//! Revocations, and the lists of them: one for each CA, all in one file.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use rustls::pki_types::CertificateDer;

use super::book::{Entry, append, entries, lock};
use super::{BACKDATE, Ca, now, pki, validity};
use crate::error::{Code, Failure};
use crate::files;

impl Ca {
    /// This CA, then those that are trusted beside it during a rotation.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// Takes back every certificate of a name that has not ended yet, and writes the lists anew; where to, and how many
    /// certificates it was.
    pub fn revoke(&self, name: &Fqdn) -> Result<(PathBuf, usize), Failure> {
        // Two at one time: the later one has both in its list.
        let lock = lock(&self.folder)?;
        let (mut is_known, mut count) = (false, 0);
        for ca in self.all() {
            let revoked = entries(&ca.folder.join("revoked"))?;
            let known: BTreeSet<u64> = revoked.iter().map(|entry| entry.serial).collect();
            let issued = entries(&ca.folder.join("issued"))?;
            let of_name: Vec<_> = issued.into_iter().filter(|entry| entry.name == *name).collect();
            is_known |= !of_name.is_empty();
            let new = of_name.into_iter().filter(|entry| entry.time >= now() && !known.contains(&entry.serial));
            let new: Vec<_> = new.map(|entry| Entry { time: now(), ..entry }).collect();
            append(&lock, &ca.folder.join("revoked"), &new)?;
            count += new.len();
        }
        if !is_known {
            let what = format!("{}: no certificate for {name} was made here", self.folder.display());
            return Err(Failure::new(
                Code::Usage,
                what,
                "give a name for which `cyphonic ca issue` made one, and --dir",
            ));
        }
        Ok((self.write_lists()?, count))
    }

    /// Every certificate that was taken back: whose it was, and since when (seconds since 1970).
    pub fn revoked(&self) -> Result<Vec<(Fqdn, u64)>, Failure> {
        let mut revoked = Vec::new();
        for ca in self.all() {
            revoked.extend(entries(&ca.folder.join("revoked"))?.into_iter().map(|entry| (entry.name, entry.time)));
        }
        Ok(revoked)
    }

    /// Whether this certificate was taken back.
    pub fn has_revoked(&self, certificate: &CertificateDer<'_>) -> Result<bool, Failure> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(Failure::other)?;
        let serial = parsed.raw_serial().iter().fold(0, |serial: u128, byte| serial << 8 | u128::from(*byte));
        for ca in self.all() {
            if entries(&ca.folder.join("revoked"))?.iter().any(|entry| u128::from(entry.serial) == serial) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes crl.pem: a list of each CA that is trusted, this one's first.
    pub(super) fn write_lists(&self) -> Result<PathBuf, Failure> {
        let path = self.folder.join("crl.pem");
        // It grows even when two lists are made within a second.
        let before = std::fs::read(&path).ok().and_then(|text| files::list_number(&text));
        let before = before.and_then(|number| Some(u64::from_be_bytes(*number.last_chunk()?)));
        let number = before.map_or(0, |before| before.saturating_add(1)).max(now());
        let (mut names, mut lists) = (String::new(), String::new());
        for ca in self.all() {
            let revoked = entries(&ca.folder.join("revoked"))?;
            let serials: Vec<_> = revoked.iter().map(|entry| (entry.serial, Duration::from_secs(entry.time))).collect();
            let span = validity(now() - BACKDATE, ca.ends)?;
            let list = ca.authority.revoke(&serials, number, span).map_err(|error| pki(&error))?;
            // The names stand before the lists, as text (RFC 7468 §2): a list itself has serial numbers only.
            for Entry { name, time, .. } in revoked {
                let _ = writeln!(names, "{} {name} {time}", files::REVOKED);
            }
            lists += &pem::encode(&pem::Pem::new("X509 CRL", list.to_vec()));
        }
        // It follows from `revoked` alone, so no copy of the one before is kept.
        files::write_derived(&path, &(names + &lists))?;
        Ok(path)
    }
}
