//! The certificate authority as a folder.
//!
//! ```text
//! root.pem, root.key    the root: copy root.pem to every machine; keep root.key in a safe, nothing needs it any more
//! ca.pem, ca.key        the intermediate authority (the AS of paper §2.1), which signs all certificates
//! ca.toml               the facts in both certificates
//! issued, revoked       every certificate that was made, and every revoked one: serial number, time, name
//! crl.pem               the signed list of revoked certificates: for AS, NMS, TRS and every node
//! next/, old/           during a rotation: the authority that follows, and the one before
//! lock                  held while a command writes here
//! service.key           the key that NMS and TRS share in the conventional method
//! NAME.pem, NAME.key    made by `issue`: copy both to NAME's machine and delete NAME.key here
//! NAME.pem.~1~ …        what a renewal replaced
//! ```
//!
//! The keys of root and intermediate authority may be sealed by a passphrase ([`seal_anew`]).

mod book;
mod lists;
mod rotation;
mod sealed;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::name::{Fqdn, Virtual};
use cyphonic_core::pki::{Authority, PkiError, PublicKey, Subject, Validity};
use cyphonic_core::tls;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::drive;
use crate::error::{Code, Failure};
use crate::{files, names};
use book::{Entry, Lock, append, lock};

pub use lists::{Lacking, Published};
pub use rotation::{Step, rotate};
pub use sealed::{seal_anew, use_passphrase};

const DAY: u64 = 86_400;
/// How long the root and the intermediate authority last.
const AUTHORITY_DAYS: u64 = 3_650;
/// Certificates are valid from an hour before they are made, because clocks differ.
const BACKDATE: u64 = 3_600;
/// How long a certificate lasts by default, days.
pub const LEAF_DAYS: u64 = 90;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    zone: String,
    not_before: u64,
    not_after: u64,
    /// Tells the names of two CAs of one zone apart, so that their lists are not taken for each other's (RFC 5280
    /// §6.3.3: lists are found by their issuer's name). Those of 0.1.0 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl Facts {
    /// The name of a certificate of the CA, for `what` it is.
    fn title(&self, what: &str) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(" {tag}")).unwrap_or_default();
        format!("{} {what}{tag}", self.zone)
    }
}

/// The files that [`init`] makes. Losing one loses the authority, or something that all of its devices share.
const MADE: [&str; 7] = ["root.pem", "root.key", "ca.pem", "ca.key", "ca.toml", "service.key", "crl.pem"];

/// A folder with an authority in it.
pub struct Ca {
    folder: PathBuf,
    zone: Fqdn,
    authority: Authority,
    ends: u64,
    /// During a rotation: the CAs that are trusted beside this one, which follow it or stood before it.
    beside: Vec<Ca>,
}

fn pki(error: &PkiError) -> Failure {
    Failure::new(Code::Identity, error.to_string(), "make a new authority with `cyphonic ca init`")
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Failure> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(Failure::other)?;
    Ok(bytes)
}

fn now() -> u64 {
    drive::since_epoch().as_secs()
}

fn validity(from: u64, to: u64) -> Result<Validity, Failure> {
    Validity::new(Duration::from_secs(from), Duration::from_secs(to))
        .ok_or_else(|| Failure::new(Code::Usage, "that is no time for a certificate", "give --days between 1 and 3650"))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let text = files::read_secret(path)?;
    if let Some(seed) = sealed::opened(&text, path)? {
        return Ok(seed);
    }
    let mut seed = Zeroizing::new([0; 32]);
    let digits = text.trim();
    let good = digits.len() == 64
        && digits.is_ascii()
        && (0..32).all(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map(|byte| seed[i] = byte).is_ok());
    if good {
        return Ok(seed);
    }
    let what = format!("{}: this is no key of an authority", path.display());
    Err(Failure::new(Code::Identity, what, "give the folder that `cyphonic ca init` made"))
}

/// Makes a new authority in `folder`. Only the folder's owner can enter it then.
pub fn init(folder: &Path, zone: &Fqdn) -> Result<(), Failure> {
    make_folder(folder).map_err(|error| {
        Failure::new(Code::Config, format!("{}: {error}", folder.display()), "give a folder that you may write in")
    })?;
    refuse_remains(folder)?;
    let _lock = lock(folder)?;
    refuse_remains(folder)?;
    make_authority(folder, zone)?;
    files::write_secret(&folder.join("service.key"), &hex(&*random::<16>()?))?;
    Ca::open(folder)?.write_lists().map(drop)
}

/// Makes root and intermediate authority in a folder.
fn make_authority(folder: &Path, zone: &Fqdn) -> Result<(), Failure> {
    make_folder(folder).map_err(|error| {
        Failure::new(Code::Config, format!("{}: {error}", folder.display()), "give a folder that you may write in")
    })?;
    let facts = Facts {
        zone: zone.to_string(),
        not_before: now() - BACKDATE,
        not_after: now() + AUTHORITY_DAYS * DAY,
        tag: Some(hex(&*random::<4>()?).to_string()),
    };
    let (root_seed, seed) = (random::<32>()?, random::<32>()?);
    files::write_secret(&folder.join("root.key"), &sealed::written(&root_seed)?)?;
    files::write_secret(&folder.join("ca.key"), &sealed::written(&seed)?)?;
    let span = validity(facts.not_before, facts.not_after)?;
    let root = Authority::root(&root_seed, &facts.title("root"), span).map_err(|error| pki(&error))?;
    let authority = root.intermediate(&seed, &facts.title("AS"), span).map_err(|error| pki(&error))?;
    files::write_public(&folder.join("root.pem"), &pem_of(std::slice::from_ref(root.certificate())))?;
    files::write_public(&folder.join("ca.pem"), &pem_of(std::slice::from_ref(authority.certificate())))?;
    // This file comes last, so a folder that has it is complete.
    files::write_public(&folder.join("ca.toml"), &toml::to_string(&facts).map_err(Failure::other)?)
}

/// Makes a folder for secrets. Only its owner can enter a new or empty one. A folder in use keeps its mode, because
/// other users may need their files.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if std::fs::read_dir(folder)?.next().is_none() {
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Refuses a folder with any part of an authority, even with only a key that was left over.
fn refuse_remains(folder: &Path) -> Result<(), Failure> {
    let Some(there) = MADE.iter().map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    let (what, remedy) = if folder.join("ca.toml").exists() {
        (format!("{}: there is an authority already", folder.display()), "use it, or give another folder with --dir")
    } else {
        (
            format!("{}: it may belong to another authority", there.display()),
            "move it away, or give another folder with --dir",
        )
    };
    Err(Failure::new(Code::Duplicate, what, remedy))
}

impl Ca {
    /// Opens the folder that [`init`] made.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let mut ca = Self::open_one(folder)?;
        let beside = [rotation::OLD, rotation::NEXT].map(|name| folder.join(name));
        for folder in beside.iter().filter(|folder| folder.join("ca.toml").exists()) {
            ca.beside.push(Self::open_one(folder)?);
        }
        Ok(ca)
    }

    fn open_one(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("ca.toml");
        let missing = |error: &dyn std::fmt::Display| {
            let what = format!("{}: {error}", path.display());
            Failure::new(Code::Identity, what, "`cyphonic ca init` makes an authority; --dir says where")
        };
        let text = std::fs::read_to_string(&path).map_err(|error| missing(&error))?;
        let facts: Facts = toml::from_str(&text).map_err(|error| missing(&error))?;
        let zone = facts.zone.parse().map_err(|error| missing(&error))?;
        let span = validity(facts.not_before, facts.not_after)?;
        let certificate = files::certificates(&folder.join("ca.pem"))?.swap_remove(0);
        let key = seed(&folder.join("ca.key"))?;
        let authority = Authority::resumed(certificate, &key, &facts.title("AS"), span);
        let authority = authority.map_err(|error| pki(&error))?;
        Ok(Self { folder: folder.to_owned(), zone, authority, ends: facts.not_after, beside: Vec::new() })
    }

    /// Brings a folder of an earlier version up to date: only its owner can enter it, and its list names the owners of
    /// revoked certificates. Returns what was done.
    pub fn migrate(folder: &Path) -> Result<Vec<&'static str>, Failure> {
        let ca = Self::open(folder)?;
        let mut done = Vec::new();
        let fail = |error: std::io::Error| {
            let remedy = "give a folder that is this user's";
            Failure::new(Code::Config, format!("{}: {error}", folder.display()), remedy)
        };
        if folder.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(fail)?;
            done.push("only its owner can enter it (mode 0700)");
        }
        let _lock = lock(folder)?;
        let named: BTreeSet<_> = ca.revoked()?.into_iter().collect();
        if files::revoked_names(&folder.join("crl.pem")) != named {
            ca.write_lists()?;
            done.push("crl.pem names whose certificates it takes back: copy it to AS, NMS and TRS");
        }
        Ok(done)
    }

    /// The root that stands behind this CA, of those in root.pem.
    fn own_root(&self) -> Result<CertificateDer<'static>, Failure> {
        let path = self.folder.join("root.pem");
        let own = x509_parser::parse_x509_certificate(self.authority.certificate()).map_err(Failure::other)?.1;
        let is_ours = |root: &CertificateDer<'_>| {
            x509_parser::parse_x509_certificate(root)
                .is_ok_and(|(_, root)| root.subject().as_raw() == own.issuer().as_raw())
        };
        files::certificates(&path)?.into_iter().find(is_ours).ok_or_else(|| {
            let what = format!("{}: the root of ca.pem is not in it", path.display());
            Failure::new(Code::Identity, what, "put the root.pem of this CA's `cyphonic ca init` or `rotate` back")
        })
    }

    /// Tells this CA from others, also of its zone: SHA-256 of its certificate.
    pub fn id(&self) -> [u8; 32] {
        let id = ring::digest::digest(&ring::digest::SHA256, self.authority.certificate());
        *id.as_ref().first_chunk().expect("SHA-256 gives 32 bytes")
    }

    /// The zone of all names.
    pub fn zone(&self) -> &Fqdn {
        &self.zone
    }

    /// Makes key and certificate for a name of the zone. Returns where both were written. With `renew` the old files
    /// stay beside the new ones ([`files::write_secret`]), and the virtual addresses are those of the old one, if it
    /// has any.
    pub fn issue(&self, whom: impl Into<Subject>, days: u64, renew: bool) -> Result<(PathBuf, PathBuf), Failure> {
        let whom = self.subject(whom)?;
        let name = &whom.name;
        let (certificate, key) = (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
        let lock = lock(&self.folder)?;
        let there = [&certificate, &key].into_iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(there) = there.filter(|_| !renew) {
            let what = format!("{name} has a certificate or key already: {}", there.display());
            let remedy = "choose another name, or give --renew to replace it (a copy of the old one is kept)";
            return Err(Failure::new(Code::Duplicate, what, remedy));
        }
        let (serial, span) = self.next(&lock, name, days)?;
        let identity =
            self.authority.issue(whom.clone(), &*random::<32>()?, serial, span).map_err(|error| pki(&error))?;
        files::write_secret(&key, &key_pem(identity.key_pkcs8()))?;
        files::write_public(&certificate, &pem_of(&identity.chain))?;
        Ok((certificate, key))
    }

    /// Makes another certificate for the key that is there, with the virtual addresses of the one before, if it has
    /// any.
    pub fn issue_again(&self, whom: impl Into<Subject>, days: u64) -> Result<(PathBuf, PathBuf), Failure> {
        let whom = self.subject(whom)?;
        let name = &whom.name;
        let (certificate, key) = (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
        let seed = files::ed25519_seed(&key)?;
        let lock = lock(&self.folder)?;
        let (serial, span) = self.next(&lock, name, days)?;
        let identity = self.authority.issue(whom.clone(), &seed, serial, span).map_err(|error| pki(&error))?;
        files::write_public(&certificate, &pem_of(&identity.chain))?;
        Ok((certificate, key))
    }

    /// A certificate for a device whose public key this is, with the certificates between it and the root
    /// (PEM). `may` says whether it may still have one. It is asked while nothing can be revoked: a revocation before
    /// that counts, and a later one takes this certificate back, too.
    pub fn certify(
        &self,
        subject: Subject,
        key: PublicKey,
        days: u64,
        may: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        names::of_device(&subject.name, Some(&self.zone))?;
        self.certify_again(subject, key, days, may)
    }

    /// The same for a name of the zone that has a certificate for this key: a service's too.
    pub fn certify_again(
        &self,
        subject: Subject,
        key: PublicKey,
        days: u64,
        may: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        names::of_zone(&subject.name, &self.zone)?;
        let lock = lock(&self.folder)?;
        may()?;
        let (serial, span) = self.next(&lock, &subject.name, days)?;
        let chain = self.authority.certify(subject, key, serial, span).map_err(|error| pki(&error))?;
        Ok(pem_of(&chain))
    }

    /// A name of the zone, with the virtual addresses in its certificate file, or else with those that were given.
    fn subject(&self, whom: impl Into<Subject>) -> Result<Subject, Failure> {
        let whom = whom.into();
        names::of_zone(&whom.name, &self.zone)?;
        Ok(Subject { addresses: self.addresses(&whom.name).or(whom.addresses), ..whom })
    }

    /// The virtual addresses in a name's certificate file; none if it has none, or if there is no file.
    #[must_use]
    pub fn addresses(&self, name: &Fqdn) -> Option<Virtual> {
        let present = files::certificates(&self.folder.join(format!("{name}.pem"))).ok()?;
        present.first().and_then(tls::addresses)
    }

    /// The end of the authority (since 1970), if a certificate of this many days would end later.
    pub fn limits(&self, days: u64) -> Option<Duration> {
        (now().saturating_add(days.saturating_mul(DAY)) > self.ends).then_some(Duration::from_secs(self.ends))
    }

    /// Records a new serial number. Returns it, and the validity of its certificate.
    fn next(&self, lock: &Lock, name: &Fqdn, days: u64) -> Result<(u64, Validity), Failure> {
        if now() >= self.ends {
            let at = files::civil(Duration::from_secs(self.ends));
            let what = format!("{}: the CA ended at {at}, and nothing that it issues counts", self.folder.display());
            let remedy = format!("if this machine's clock is wrong, set it; if it is right, {}", files::NEW_AUTHORITY);
            return Err(Failure::new(Code::Clock, what, remedy));
        }
        let until = now().saturating_add(days.saturating_mul(DAY)).min(self.ends);
        let serial = u64::from_be_bytes(*random::<8>()?) >> 1 | 1;
        append(lock, &self.folder.join("issued"), &[Entry { serial, time: until, name: name.clone() }])?;
        Ok((serial, validity(now() - BACKDATE, until)?))
    }
}

/// A private key (PKCS#8 DER) as PEM.
pub fn key_pem(key: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", key)))
}

fn pem_of(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|certificate| pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))).collect()
}

/// The contents of a certificate file, in words.
pub fn print(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    for certificate in files::certificates(path)? {
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|error| {
            Failure::new(Code::Identity, format!("{}: {error}", path.display()), "this file is damaged")
        })?;
        let names: Vec<_> = tls::names(&certificate).iter().map(ToString::to_string).collect();
        let kind = if parsed.is_ca() { "authority" } else { "certificate" };
        let left = parsed.validity().not_after.timestamp() - i64::try_from(now()).unwrap_or(i64::MAX);
        let days = left / i64::try_from(DAY).unwrap_or(i64::MAX);
        let _ = writeln!(
            text,
            "{kind}  {}\n  names    {}\n  virtual  {}\n  issuer   {}\n  serial   {}\n  from     {}\n  to       {} ({days} days from now)\n  sha-256  {}",
            parsed.subject(),
            if names.is_empty() { "-".to_owned() } else { names.join(", ") },
            tls::addresses(&certificate).map_or_else(|| "-".to_owned(), |both| format!("{}, {}", both.v4, both.v6)),
            parsed.issuer(),
            parsed.raw_serial_as_string(),
            parsed.validity().not_before,
            parsed.validity().not_after,
            *hex(ring::digest::digest(&ring::digest::SHA256, &certificate).as_ref()),
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::book::entries;
    use super::*;

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    #[test]
    fn what_an_authority_issues_is_believed_by_its_root_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = two_authorities(folder.path());
        let a = name("a.example");
        let (certificate, key) = Ca::open(&ours).unwrap().issue(&a, 30, false).unwrap();
        let good = files::credentials(&a, &certificate, &key, &ours.join("root.pem"), None).unwrap();
        assert!(good.ends.own > drive::since_epoch() + Duration::from_secs(29 * DAY));
        let reason = |name: &Fqdn, certificate: &Path, key: &Path, roots: &Path| {
            let failure = files::credentials(name, certificate, key, roots, None).err().expect("refused");
            assert_eq!(failure.code, Code::Identity);
            failure.to_string()
        };
        assert!(reason(&a, &certificate, &key, &theirs.join("root.pem")).contains("was not issued by the CA"));
        assert!(reason(&name("b.example"), &certificate, &key, &ours.join("root.pem")).contains("not for b.example"));
        let printed = print(&certificate).unwrap();
        assert!(printed.contains("a.example") && printed.contains("authority"), "{printed}");
    }

    #[test]
    fn a_certificate_that_has_expired_or_does_not_count_yet_is_told_beside_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let a = name("a.example");
        for (from, to, verdict) in [
            (now() - 10 * DAY, now() - 5 * DAY, "it ended 5 days ago"),
            (now() + DAY + 60, now() + 9 * DAY, "it does not count for another 24 hours"),
        ] {
            let identity = ca.authority.issue(&a, &[1; 32], 5, validity(from, to).unwrap()).unwrap();
            let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
            files::write_secret(&key, &key_pem(identity.key_pkcs8())).unwrap();
            files::write_public(&certificate, &pem_of(&identity.chain)).unwrap();
            let (root, list) = (folder.path().join("root.pem"), folder.path().join("crl.pem"));
            let failure = files::credentials(&a, &certificate, &key, &root, Some(&list)).err().unwrap();
            assert_eq!(failure.code, Code::Clock);
            let said = failure.to_string();
            let [from, to] = [from, to].map(|at| files::civil(Duration::from_secs(at)));
            for part in [verdict, "this machine's clock says 20", &from, &to, "a.pem"] {
                assert!(said.contains(part), "{part} in {said}");
            }
            assert!(
                failure.remedy().contains("ca issue a.example --renew") && failure.remedy().contains("timedatectl")
            );
        }
        assert_eq!(files::civil(Duration::from_secs(1_700_000_000)), "2023-11-14 22:13:20 UTC");
    }

    #[test]
    fn a_list_names_those_whose_certificates_it_takes_back() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let list = folder.path().join("crl.pem");
        assert!(files::revoked_names(&list).is_empty());
        ca.issue(&name("a.example"), 30, false).unwrap();
        ca.revoke(&name("a.example")).unwrap();
        let names: Vec<_> = files::revoked_names(&list).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [name("a.example")]);
        assert!(
            files::roots(&folder.path().join("root.pem"), Some(&list), &[]).is_ok(),
            "the list itself is as before"
        );
    }

    #[test]
    fn what_was_revoked_does_not_count_and_what_was_renewed_since_does() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let (a, b) = (name("a.example"), name("b.example"));
        ca.issue(&b, 30, false).unwrap();
        let (certificate, key) = ca.issue(&a, 30, false).unwrap();
        let (root, list) = (folder.path().join("root.pem"), folder.path().join("crl.pem"));
        let check = || files::credentials(&a, &certificate, &key, &root, Some(&list)).map(drop);
        check().unwrap();
        assert_eq!(ca.revoke(&a).unwrap(), (list.clone(), 1));
        let failure = check().unwrap_err();
        assert_eq!(failure.code, Code::Identity);
        assert!(failure.to_string().contains("was revoked"), "{failure}");
        assert_eq!(ca.revoke(&a).unwrap().1, 0, "once is enough");
        ca.issue(&a, 30, true).unwrap();
        check().unwrap();
        assert_eq!(ca.revoke(&name("c.example")).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn names_revoked_and_issued_by_many_at_one_time_are_all_in_the_books_and_the_list() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let names: Vec<Fqdn> = (0..8).map(|n| name(&format!("n{n}.example"))).collect();
        for one in &names {
            Ca::open(folder.path()).unwrap().issue(one, 30, false).unwrap();
        }
        std::thread::scope(|scope| {
            for (n, one) in names.iter().enumerate() {
                let folder = folder.path();
                scope.spawn(move || {
                    let ca = Ca::open(folder).unwrap();
                    ca.revoke(one).unwrap();
                    ca.issue(&name(&format!("m{n}.example")), 30, false).unwrap();
                });
            }
        });
        let text = std::fs::read(folder.path().join("crl.pem")).unwrap();
        let block = pem::parse(&text).unwrap();
        let (_, list) = x509_parser::parse_x509_crl(block.contents()).unwrap();
        assert_eq!(list.iter_revoked_certificates().count(), names.len());
        assert_eq!(entries(&folder.path().join("issued")).unwrap().len(), 2 * names.len());
    }

    /// Every file of a folder with its contents.
    fn contents(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    }

    #[test]
    fn no_name_that_is_issued_renewed_or_signed_up_overwrites_the_authoritys_own_files() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example.org")).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let before = contents(folder.path());
        let stems = MADE.iter().filter_map(|file| file.strip_suffix(".pem").or(file.strip_suffix(".key")));
        for bad in stems.chain(["issued", "revoked", "lock", "example.org", "a.example.com", "aexample.org"]) {
            for renew in [false, true] {
                let failure = ca.issue(&name(bad), 30, renew).unwrap_err();
                assert_eq!(failure.code, Code::Usage, "{bad}: {failure}");
            }
            assert!(ca.certify((&name(bad)).into(), PublicKey([1; 32]), 30, || Ok(())).is_err(), "{bad}");
        }
        assert_eq!(contents(folder.path()), before);
        for service in ["as.example.org", "nms.example.org", "trs.example.org"] {
            let certified = ca.certify((&name(service)).into(), PublicKey([1; 32]), 30, || Ok(()));
            assert_eq!(certified.unwrap_err().code, Code::Usage);
            ca.issue(&name(service), 30, false).unwrap();
        }
    }

    #[test]
    fn what_a_renewal_replaces_is_kept_and_a_key_without_its_certificate_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let (certificate, key) = ca.issue(&name("a.example"), 30, false).unwrap();
        let before = [&certificate, &key].map(|path| std::fs::read(path).unwrap());
        std::fs::remove_file(&certificate).unwrap();
        assert_eq!(ca.issue(&name("a.example"), 30, false).unwrap_err().code, Code::Duplicate);
        assert_eq!(std::fs::read(&key).unwrap(), before[1]);
        std::fs::write(&certificate, &before[0]).unwrap();
        ca.issue(&name("a.example"), 30, true).unwrap();
        let kept = ["a.example.pem.~1~", "a.example.key.~1~"].map(|file| folder.path().join(file));
        assert_eq!(kept.map(|path| std::fs::read(path).unwrap()), before);
        assert_ne!(std::fs::read(&key).unwrap(), before[1]);
    }

    #[test]
    fn what_is_left_of_an_authority_is_not_overwritten_by_a_new_one_and_its_folder_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        for file in MADE {
            let pki = folder.path().join(file);
            std::fs::create_dir(&pki).unwrap();
            std::fs::write(pki.join(file), "what was there").unwrap();
            let failure = init(&pki, &name("example")).unwrap_err();
            assert_eq!(failure.code, Code::Duplicate, "{failure}");
            assert_eq!(contents(&pki), [(file.to_owned(), b"what was there".to_vec())].into(), "{file}");
        }
        let (new, empty) = (folder.path().join("new"), folder.path().join("empty"));
        std::fs::create_dir(&empty).unwrap();
        for pki in [new, empty] {
            init(&pki, &name("example")).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&pki), mode(&pki.join("lock"))), (0o700, 0o600));
        }
    }

    #[test]
    fn a_certificate_that_ends_with_the_authority_says_so_and_an_authority_that_has_ended_is_named_and_not_the_days() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let mut ca = Ca::open(folder.path()).unwrap();
        assert_eq!(ca.limits(90), None);
        for (ends, limited) in [(now() + 10 * DAY, true), (now() + 91 * DAY, false)] {
            ca.ends = ends;
            assert_eq!(ca.limits(90).is_some(), limited);
            let (certificate, _) = ca.issue(&name("a.example"), 90, true).unwrap();
            let chain = files::certificates(&certificate).unwrap();
            let own = files::Ends::of(&chain).unwrap().own.as_secs();
            assert_eq!(own == ends, limited, "{own} {ends}");
        }
        ca.ends = now() - 1;
        let failure = ca.issue(&name("b.example"), 90, false).unwrap_err();
        assert_eq!(failure.code, Code::Clock);
        assert!(failure.to_string().contains("the CA ended at 20") && failure.remedy().contains("ca rotate"));
    }

    /// Two authorities of one zone.
    fn two_authorities(folder: &Path) -> (PathBuf, PathBuf) {
        let both = (folder.join("ours"), folder.join("theirs"));
        init(&both.0, &name("example")).unwrap();
        init(&both.1, &name("example")).unwrap();
        both
    }

    #[test]
    fn lists_made_within_a_second_have_growing_numbers() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        let list = || files::list_number(&std::fs::read(folder.path().join("crl.pem")).unwrap()).unwrap();
        for device in ["a.example", "b.example", "c.example"] {
            let before = list();
            Ca::open(folder.path()).unwrap().issue(&name(device), 30, false).unwrap();
            Ca::open(folder.path()).unwrap().revoke(&name(device)).unwrap();
            assert!(list() > before);
        }
    }

    #[test]
    fn a_list_by_another_authority_under_our_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = two_authorities(folder.path());
        let a = name("a.example");
        let (certificate, key) = Ca::open(&ours).unwrap().issue(&a, 30, false).unwrap();
        let list = theirs.join("crl.pem");
        let failure = files::credentials(&a, &certificate, &key, &ours.join("root.pem"), Some(&list)).err().unwrap();
        assert!(failure.to_string().contains("crl.pem"), "{failure}");
    }

    #[test]
    fn a_name_gets_one_certificate_unless_it_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &name("example")).unwrap();
        assert_eq!(init(folder.path(), &name("example")).unwrap_err().code, Code::Duplicate);
        let ca = Ca::open(folder.path()).unwrap();
        let first = ca.issue(&name("a.example"), 1, false).unwrap();
        assert_eq!(ca.issue(&name("a.example"), 1, false).unwrap_err().code, Code::Duplicate);
        assert_eq!(ca.issue(&name("a.example"), 1, true).unwrap(), first);
    }

    #[test]
    fn a_fetched_list_takes_the_place_of_an_older_one_of_the_same_authority_only() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = two_authorities(folder.path());
        let a = name("a.example");
        let (certificate, key) = Ca::open(&ours).unwrap().issue(&a, 30, false).unwrap();
        let root = ours.join("root.pem");
        let chain = files::credentials(&a, &certificate, &key, &root, None).unwrap().identity.chain;
        let list = |number: u64| {
            let span = validity(now() - BACKDATE, now() + DAY).unwrap();
            let list = Ca::open(&ours).unwrap().authority.revoke(&[], number, span).unwrap();
            pem::encode(&pem::Pem::new("X509 CRL", list.to_vec()))
        };
        let copy = folder.path().join("crl.pem");
        let trust = files::TrustFiles::new(root, Some(copy.clone()));
        let renew = |text: &str| trust.take_whole(&chain, text);
        for (number, newer) in [(70_000, true), (70_000, false), (300, false), (70_001, true), (1 << 40, true)] {
            assert_eq!(renew(&list(number)).unwrap(), newer, "{number}");
        }
        let last = std::fs::read_to_string(&copy).unwrap();
        assert!(renew("no list").is_err());
        let foreign = std::fs::read_to_string(theirs.join("crl.pem")).unwrap();
        assert!(renew(&foreign).is_err() || std::fs::read_to_string(&copy).unwrap() == last, "another CA's");
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), last);
    }
}
