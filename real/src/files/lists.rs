//! Lists of revoked certificates as files: the whole list, and beside it what was revoked since.
//!
//! `crl.pem` has a list of each CA. Where a daemon fetches from the AS, the file stays as it is, and what was revoked
//! since is in `crl.pem.delta`: delta lists (RFC 5280 §5.2.4). So a revocation costs what it adds. Once the delta has
//! grown too long, the AS sends the whole list again. Lines before the lists name the owners of revoked certificates.
//!
//! A whole list is read once, and once more when its file changes. What was read is shared by all copies of
//! [`TrustFiles`].
//!
//! A list that was fetched counts even if it cannot be written, because the disk is full: it is kept in memory then.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cyphonic_core::name::Fqdn;
use cyphonic_core::tls::{ListFacts, Roots, list_facts};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::{Deserialize, Serialize};

use super::{Stamp, bad_list, certificates, stamp, standing, trust, write_derived};
use crate::error::Failure;

/// The beginning of a line before the list that names the owner of a revoked certificate.
const REVOKED: &str = "revoked:";

/// The file of what was revoked since the list in `crl`.
pub(super) fn delta_of(crl: &Path) -> PathBuf {
    let mut delta = crl.as_os_str().to_owned();
    delta.push(".delta");
    delta.into()
}

/// What a daemon has of one CA's revocations.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Have {
    /// The CA: SHA-256 of its name, hexadecimal.
    pub issuer: String,
    /// The number of the whole list.
    pub number: u64,
    /// How many certificates are on the whole list.
    pub count: usize,
    /// The number of the delta list, or else of the whole list.
    pub latest: u64,
}

/// A CA's name in [`Have::issuer`].
pub fn issuer_id(name: &[u8]) -> String {
    digest(&SHA256, name).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The lists in a file, in its order. `file` is for messages.
fn lists_in(text: &[u8], file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Failure> {
    let blocks = pem::parse_many(text).map_err(|error| bad_list(file, &error))?;
    let lists = blocks.into_iter().filter(|block| block.tag() == "X509 CRL");
    let lists: Vec<_> = lists.map(|block| block.into_contents().into()).collect();
    if lists.is_empty() {
        return Err(bad_list(file, &"there is no list of revoked certificates in it"));
    }
    Ok(lists)
}

/// Adds the lists in `text` to the roots. `crl` is the file that messages name.
fn revoking(
    roots: &Roots,
    text: &[u8],
    crl: &Path,
    chain: &[CertificateDer<'static>],
) -> Result<(Roots, Vec<ListFacts>), Failure> {
    let wrong = |error: &dyn std::fmt::Display| bad_list(crl, error);
    let lists = lists_in(text, crl)?;
    // Lists are found by their issuer's name: another CA's would say nothing of ours, without an error.
    let own = chain.first().and_then(|own| x509_parser::parse_x509_certificate(own).ok());
    let facts: Vec<Option<ListFacts>> = lists.iter().map(list_facts).collect();
    let is_ours = |list: &Option<ListFacts>| match (&own, list) {
        (Some((_, own)), Some(list)) => *list.issuer == *own.issuer().as_raw(),
        // Of another form: webpki finds out.
        _ => true,
    };
    if !facts.iter().any(is_ours) {
        return Err(wrong(&"it has no list of the CA that issued our certificate"));
    }
    let roots = roots.revoking(lists);
    standing(&roots, chain).map_err(|error| wrong(&error))?;
    Ok((roots, facts.into_iter().flatten().collect()))
}

/// The delta lists that go with the whole ones: the others are of an earlier or a later whole list.
fn fitting(
    whole: &[ListFacts],
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Vec<(CertificateRevocationListDer<'static>, ListFacts)> {
    let facts = lists.into_iter().filter_map(|list| list_facts(&list).map(|facts| (list, facts)));
    facts
        .filter(|(_, delta)| {
            let fits = |list: &ListFacts| list.number < delta.number && delta.base.is_some_and(|b| b <= list.number);
            whole.iter().any(|list| list.issuer == delta.issuer && fits(list))
        })
        .collect()
}

/// The names in the lines before the lists of a file, each with the time of revocation (seconds since 1970). The lines
/// are not signed, so they may end more than the lists say, and never less.
fn names_in(file: &Path) -> BTreeSet<(Fqdn, u64)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let words = text.lines().filter_map(|line| line.strip_prefix(REVOKED)?.trim().split_once(' '));
    words.filter_map(|(name, since)| Some((name.parse().ok()?, since.parse().ok()?))).collect()
}

/// The owners of revoked certificates that the files of a list name.
pub fn revoked_names(crl: &Path) -> BTreeSet<(Fqdn, u64)> {
    let mut names = names_in(crl);
    names.append(&mut names_in(&delta_of(crl)));
    names
}

/// The number of the first list (RFC 5280 §5.2.3). It only grows.
pub fn list_number(text: &[u8]) -> Option<u64> {
    list_facts(&pem::parse(text).ok()?.into_contents().into()).map(|facts| facts.number)
}

/// Revocations that were told already. Each is eight bytes of a hash.
#[derive(Debug, Default)]
pub struct Told {
    /// In order.
    known: Vec<u64>,
    /// The stamp of the whole list when it was told.
    whole: Option<Stamp>,
}

impl Told {
    /// Of these, the names that were not told yet. They are from now on.
    pub fn new_of(&mut self, names: impl IntoIterator<Item = (Fqdn, u64)>) -> Vec<Fqdn> {
        let mut new = Vec::new();
        let mut hashes = Vec::new();
        for (name, since) in names {
            let hash = digest(&SHA256, format!("{name} {since}").as_bytes());
            let hash = u64::from_be_bytes(*hash.as_ref().first_chunk().expect("32 bytes"));
            if self.known.binary_search(&hash).is_err() {
                hashes.push(hash);
                new.push(name);
            }
        }
        if !hashes.is_empty() {
            self.known.append(&mut hashes);
            self.known.sort_unstable();
            self.known.dedup();
            self.known.shrink_to_fit();
        }
        new
    }

    /// The names in the files of a list that were not told yet. The whole list is read only if its file has changed.
    pub fn new_in(&mut self, crl: &Path) -> Vec<Fqdn> {
        let at = Some(stamp(crl));
        let mut new = self.new_of(names_in(&delta_of(crl)));
        if at != self.whole {
            self.whole = at;
            new.extend(self.new_of(names_in(crl)));
        }
        new
    }
}

/// What was read of the whole lists, and the stamps of roots and list when reading began.
struct Whole {
    stamps: [Stamp; 2],
    roots: Roots,
    facts: Vec<ListFacts>,
}

/// A list that was fetched and could not be written. It counts in place of the one in its file, until the file changes.
struct Kept {
    text: Arc<[u8]>,
    /// Tells it from those before.
    number: u64,
    /// The stamp of the file.
    file: Stamp,
}

/// The lists that could not be written.
#[derive(Default)]
struct Unwritten {
    whole: Option<Kept>,
    delta: Option<Kept>,
    next: u64,
}

/// The files of roots and of revoked certificates.
#[derive(Clone)]
pub struct TrustFiles {
    roots: PathBuf,
    crl: Option<PathBuf>,
    whole: Arc<Mutex<Option<Whole>>>,
    unwritten: Arc<Mutex<Unwritten>>,
}

impl TrustFiles {
    /// Of these paths. Nothing is read.
    pub fn new(roots: PathBuf, crl: Option<PathBuf>) -> Self {
        Self { roots, crl, whole: Arc::default(), unwritten: Arc::default() }
    }

    /// The file of the roots.
    pub fn roots(&self) -> &Path {
        &self.roots
    }

    /// The file of the whole lists.
    pub fn crl(&self) -> Option<&Path> {
        self.crl.as_deref()
    }

    /// The stamps of roots, list and delta.
    pub fn stamps(&self) -> [Stamp; 3] {
        let delta = self.crl().and_then(|crl| stamp(&delta_of(crl)));
        let unwritten = self.unwritten();
        let kept = |kept: &Option<Kept>, file: Stamp| {
            let kept = kept.as_ref().filter(|kept| kept.file == file);
            kept.map_or(file, |kept| Some((u64::MAX, kept.number, 0, 0)))
        };
        let whole = self.crl().and_then(stamp);
        [stamp(&self.roots), kept(&unwritten.whole, whole), kept(&unwritten.delta, delta)]
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists that count: those in the file, or those that could not be written there.
    fn text(&self, file: &Path, list: impl FnOnce(&mut Unwritten) -> &mut Option<Kept>) -> std::io::Result<Arc<[u8]>> {
        let at = stamp(file);
        let kept = list(&mut self.unwritten()).as_ref().filter(|kept| kept.file == at).map(|kept| kept.text.clone());
        kept.map_or_else(|| fs::read(file).map(Into::into), Ok)
    }

    /// Writes lists to their file, or keeps them in memory.
    fn write(&self, file: &Path, text: &str, list: impl FnOnce(&mut Unwritten) -> &mut Option<Kept>) {
        let written = write_derived(file, text);
        let mut unwritten = self.unwritten();
        unwritten.next += 1;
        let kept = Kept { text: Arc::from(text.as_bytes()), number: unwritten.next, file: stamp(file) };
        *list(&mut unwritten) = written.is_err().then_some(kept);
        if let Err(error) = written {
            tracing::warn!(%error, remedy = error.remedy(), "a list of revoked certificates is kept in memory");
        }
    }

    /// Reads the files. A list with a bad signature is refused, because it would make every peer untrusted. `chain` is
    /// our own, or empty. It takes time in proportion to what has changed.
    ///
    /// # Errors
    /// [`Code::Identity`](crate::error::Code::Identity) if one of the files is missing, damaged, or another CA's.
    pub fn read(&self, chain: &[CertificateDer<'static>]) -> Result<Roots, Failure> {
        let (roots, facts) = self.whole(chain)?;
        let Some(delta) = self.crl().map(delta_of) else { return Ok(roots) };
        let text = match self.text(&delta, |unwritten| &mut unwritten.delta) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(roots),
            Err(error) => return Err(bad_list(&delta, &error)),
        };
        let (roots, _) = with_delta(&roots, &facts, &text, &delta, chain)?;
        Ok(roots)
    }

    /// The whole lists, as they were read, if the files have not changed since.
    fn whole(&self, chain: &[CertificateDer<'static>]) -> Result<(Roots, Vec<ListFacts>), Failure> {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let [roots, list, _] = self.stamps();
        if let Some(known) = whole.as_ref().filter(|known| known.stamps == [roots, list]) {
            return Ok((known.roots.clone(), known.facts.clone()));
        }
        let trusted = trust(certificates(&self.roots)?, &self.roots)?;
        let (trusted, facts) = match self.crl() {
            Some(crl) => {
                let text = self.text(crl, |unwritten| &mut unwritten.whole);
                let text = text.map_err(|error| bad_list(crl, &error))?;
                revoking(&trusted, &text, crl, chain)?
            }
            None => (trusted, Vec::new()),
        };
        *whole = Some(Whole { stamps: [roots, list], roots: trusted.clone(), facts: facts.clone() });
        Ok((trusted, facts))
    }

    /// What is there of the lists; empty if it has to be fetched whole.
    pub fn have(&self, chain: &[CertificateDer<'static>]) -> Vec<Have> {
        let (Some(crl), Ok((_, whole))) = (self.crl(), self.whole(chain)) else { return Vec::new() };
        let deltas = self.text(&delta_of(crl), |unwritten| &mut unwritten.delta);
        let deltas = deltas.ok().and_then(|text| lists_in(&text, crl).ok());
        let deltas = fitting(&whole, deltas.unwrap_or_default());
        let have = whole.into_iter().map(|list| {
            let delta = deltas.iter().find(|(_, delta)| delta.issuer == list.issuer);
            Have {
                issuer: issuer_id(&list.issuer),
                number: list.number,
                count: list.count,
                latest: delta.map_or(list.number, |(_, delta)| delta.number),
            }
        });
        have.collect()
    }

    /// Replaces the whole lists by fetched ones, if these are good and newer. Returns whether they were.
    pub fn take_whole(&self, chain: &[CertificateDer<'static>], fetched: &str) -> Result<bool, Failure> {
        let Some(crl) = self.crl() else { return Ok(false) };
        revoking(&trust(certificates(&self.roots)?, &self.roots)?, fetched.as_bytes(), crl, chain)?;
        let before = self.text(crl, |unwritten| &mut unwritten.whole).ok().and_then(|text| list_number(&text));
        let is_newer = list_number(fetched.as_bytes()) > before;
        if is_newer {
            self.write(crl, fetched, |unwritten| &mut unwritten.whole);
        }
        Ok(is_newer)
    }

    /// Replaces the delta lists by fetched ones with the lines of `names`, if they go with the whole ones.
    ///
    /// # Errors
    /// [`Code::Identity`](crate::error::Code::Identity) if they do not, or if they are not the CA's.
    pub fn take_delta(
        &self,
        chain: &[CertificateDer<'static>],
        fetched: &str,
        names: &BTreeSet<(Fqdn, u64)>,
    ) -> Result<(), Failure> {
        let Some(crl) = self.crl() else { return Ok(()) };
        let delta = delta_of(crl);
        let (roots, facts) = self.whole(chain)?;
        let (_, count) = with_delta(&roots, &facts, fetched.as_bytes(), &delta, chain)?;
        if count == 0 {
            return Err(bad_list(&delta, &"what the AS sent does not go with the list in `crl`"));
        }
        let text = lines(names.iter().map(|(name, since)| (name, *since))) + fetched;
        self.write(&delta, &text, |unwritten| &mut unwritten.delta);
        Ok(())
    }
}

/// The lines that name the owners of revoked certificates.
pub fn lines<'a>(names: impl IntoIterator<Item = (&'a Fqdn, u64)>) -> String {
    names.into_iter().fold(String::new(), |mut text, (name, since)| {
        let _ = writeln!(text, "{REVOKED} {name} {since}");
        text
    })
}

/// The roots with the delta lists of a text that go with the whole ones, and how many these are.
fn with_delta(
    roots: &Roots,
    whole: &[ListFacts],
    text: &[u8],
    file: &Path,
    chain: &[CertificateDer<'static>],
) -> Result<(Roots, usize), Failure> {
    let lists = fitting(whole, lists_in(text, file)?);
    let count = lists.len();
    let roots = roots.revoking_also(lists.into_iter().map(|(list, _)| list));
    standing(&roots, chain).map_err(|error| bad_list(file, &error))?;
    Ok((roots, count))
}
