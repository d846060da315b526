//! Revocations, and the lists of them: one for each CA, all in one file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::book::{Entry, append, entries, lock};
use super::{BACKDATE, Ca, now, pki, validity};
use crate::error::{Code, Failure};
use crate::files::{self, Have};

/// Most certificates on delta lists. Beyond, the whole lists are sent: a delta is sent whole to everybody who has less,
/// and this many are some hundred kilobytes.
const MOST_SINCE: usize = 4_096;

fn list_pem(list: &CertificateRevocationListDer<'_>) -> String {
    pem::encode(&pem::Pem::new("X509 CRL", list.to_vec()))
}

/// The revocations of all CAs of a folder, read at one time.
pub struct Published {
    /// The contents of crl.pem.
    pub whole: String,
    /// Of that list.
    number: u64,
    cas: Vec<OfCa>,
    names: BTreeSet<Fqdn>,
}

/// The revocations of one CA, in the order in which they were made.
struct OfCa {
    ca: Ca,
    id: String,
    revoked: Vec<Entry>,
    serials: BTreeSet<u64>,
}

/// What somebody lacks.
pub enum Lacking {
    /// Nothing.
    Nothing,
    /// What was revoked since: delta lists (PEM), and the names, each since when (seconds since 1970).
    Since(String, Vec<(Fqdn, u64)>),
    /// So much, or of such an age, that it needs the whole lists.
    Whole,
}

impl Published {
    /// Every name of which a certificate was taken back, and since when (seconds since 1970).
    pub fn names(&self) -> impl Iterator<Item = (&Fqdn, u64)> {
        self.cas.iter().flat_map(|of| of.revoked.iter().map(|entry| (&entry.name, entry.time)))
    }

    /// Whether a certificate of this name was taken back after this time (seconds since 1970).
    pub fn has_since(&self, name: &Fqdn, time: u64) -> bool {
        self.names.contains(name) && self.names().any(|(revoked, since)| revoked == name && since > time)
    }

    /// Whether this certificate was taken back.
    pub fn has_revoked(&self, certificate: &CertificateDer<'_>) -> Result<bool, Failure> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(Failure::other)?;
        let serial = parsed.raw_serial().iter().fold(0, |serial: u128, byte| serial << 8 | u128::from(*byte));
        let serial = u64::try_from(serial).ok();
        Ok(serial.is_some_and(|serial| self.cas.iter().any(|of| of.serials.contains(&serial))))
    }

    /// What somebody lacks who has this.
    ///
    /// # Errors
    /// [`Code::Other`] if a delta list cannot be signed.
    pub fn lacking(&self, have: &[Have]) -> Result<Lacking, Failure> {
        let (mut lists, mut names, mut is_latest) = (String::new(), Vec::new(), true);
        for of in &self.cas {
            let Some(have) = have.iter().find(|have| have.issuer == of.id) else { return Ok(Lacking::Whole) };
            let since = of.revoked.get(have.count..);
            // A folder that was put back from a copy has fewer, or smaller numbers.
            let Some(since) = since.filter(|_| have.latest <= self.number && have.number <= self.number) else {
                return Ok(Lacking::Whole);
            };
            if since.len() > MOST_SINCE {
                return Ok(Lacking::Whole);
            }
            is_latest &= have.latest == self.number;
            if !since.is_empty() && have.number < self.number {
                let serials: Vec<_> =
                    since.iter().map(|entry| (entry.serial, Duration::from_secs(entry.time))).collect();
                let span = validity(now() - BACKDATE, of.ca.ends)?;
                let delta = of.ca.authority.revoke_since(have.number, &serials, self.number, span);
                lists += &list_pem(&delta.map_err(|error| pki(&error))?);
            }
            names.extend(since.iter().map(|entry| (entry.name.clone(), entry.time)));
        }
        Ok(match lists.is_empty() {
            _ if is_latest => Lacking::Nothing,
            // Nothing was revoked, but the CAs are others, or the list was written anew.
            true => Lacking::Whole,
            false => Lacking::Since(lists, names),
        })
    }
}

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

    /// What is revoked, to give it out.
    pub fn published(self) -> Result<Published, Failure> {
        let path = self.folder.join("crl.pem");
        let whole = std::fs::read_to_string(&path).map_err(|error| {
            let remedy = "`cyphonic ca init` wrote it, and `cyphonic ca revoke` writes it anew";
            Failure::new(Code::Config, format!("{}: {error}", path.display()), remedy)
        })?;
        let number = files::list_number(whole.as_bytes()).unwrap_or_default();
        let Self { beside, .. } = self;
        let cas = std::iter::once(Self { beside: Vec::new(), ..self }).chain(beside);
        let of = |ca: Self| {
            let revoked = entries(&ca.folder.join("revoked"))?;
            let (_, own) = x509_parser::parse_x509_certificate(ca.authority.certificate()).map_err(Failure::other)?;
            let id = files::issuer_id(own.subject().as_raw());
            let serials = revoked.iter().map(|entry| entry.serial).collect();
            Ok(OfCa { ca, id, revoked, serials })
        };
        let cas: Vec<OfCa> = cas.map(of).collect::<Result<_, Failure>>()?;
        let names = cas.iter().flat_map(|of| of.revoked.iter().map(|entry| entry.name.clone())).collect();
        Ok(Published { whole, number, cas, names })
    }

    /// The files on which [`Self::published`] depends.
    pub fn files_of_lists(folder: &Path) -> Vec<PathBuf> {
        let folders = [folder.to_owned(), folder.join(super::rotation::OLD), folder.join(super::rotation::NEXT)];
        let revoked = folders.iter().map(|folder| folder.join("revoked"));
        revoked.chain([folder.join("crl.pem"), folder.join("ca.toml")]).collect()
    }

    /// Writes crl.pem: a list of each CA that is trusted, this one's first.
    pub(super) fn write_lists(&self) -> Result<PathBuf, Failure> {
        let path = self.folder.join("crl.pem");
        // It grows even when two lists are made within a second.
        let before = std::fs::read(&path).ok().and_then(|text| files::list_number(&text));
        let number = before.map_or(0, |before| before.saturating_add(1)).max(now());
        let (mut names, mut lists) = (String::new(), String::new());
        for ca in self.all() {
            let revoked = entries(&ca.folder.join("revoked"))?;
            let serials: Vec<_> = revoked.iter().map(|entry| (entry.serial, Duration::from_secs(entry.time))).collect();
            let span = validity(now() - BACKDATE, ca.ends)?;
            let list = ca.authority.revoke(&serials, number, span).map_err(|error| pki(&error))?;
            // The names stand before the lists, as text (RFC 7468 §2): a list itself has serial numbers only.
            names += &files::lines(revoked.iter().map(|entry| (&entry.name, entry.time)));
            lists += &list_pem(&list);
        }
        // It follows from `revoked` alone, so no copy of the one before is kept.
        files::write_derived(&path, &(names + &lists))?;
        Ok(path)
    }
}
