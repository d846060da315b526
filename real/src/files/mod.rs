//! Certificates, keys and other secrets as files.
//!
//! A secret is written so that only its owner can read it. A secret that others can read is refused. No error or log
//! line contains a secret.

mod lists;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::key::Key128;
use cyphonic_core::message::MAX_PASSWORD;
use cyphonic_core::name::Fqdn;
use cyphonic_core::pki;
use cyphonic_core::tls::{Environment, Identity, Roots, TlsError, is_about_dates};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use crate::drive::{Wall, since_epoch};
use crate::error::{Code, Failure};

pub use lists::{Have, Told, TrustFiles, issuer_id, lines, list_number, revoked_names};

/// A certificate that ends within this time is worth a warning.
pub const RENEW_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// The same for the CA's certificate, which takes longer to replace: the new one has to reach every machine. This is as
/// long as certificates last. From then on they end with the CA.
pub const ROTATE_BEFORE: Duration = Duration::from_secs(90 * 86_400);

/// A daemon's identity and trust anchors, checked.
pub struct Credentials {
    /// Certificate and key.
    pub identity: Identity,
    /// The trust anchors.
    pub roots: Roots,
    /// When the certificate ends, since 1970.
    pub ends: Ends,
}

/// The ends of certificates, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The daemon's own.
    pub own: Duration,
    /// The first end among the CA's certificates behind it. No certificate counts after that.
    pub authority: Option<Duration>,
}

impl Ends {
    /// The ends of a chain, whose first certificate is our own.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (own, authorities) = chain.split_first()?;
        let authority = authorities.iter().filter_map(Span::of).map(|span| span.ends).min();
        Some(Self { own: Span::of(own)?.ends, authority })
    }

    /// Whether the certificate ends because the CA does. Renewing it is then of no use.
    pub fn is_limited(&self) -> bool {
        self.authority.is_some_and(|authority| self.own >= authority)
    }
}

/// Reads certificate, key, roots and the list of revoked certificates. Checks that they fit `name`, each other and the
/// time.
pub fn credentials(
    name: &Fqdn,
    certificate: &Path,
    key: &Path,
    roots: &Path,
    crl: Option<&Path>,
) -> Result<Credentials, Failure> {
    let chain = certificates(certificate)?;
    let anchors = certificates(roots)?;
    let own = verify(name, &chain, &anchors, certificate, roots)?;
    let key_der = private_key(key)?;
    fits(&chain, &key_der, certificate, key)?;
    let identity = Identity::new(name.clone(), chain, key_der).map_err(|e| bad_identity(&e, certificate))?;
    let roots = self::roots(roots, crl, &identity.chain)?;
    if let Some(Standing::Revoked) = standing(&roots, &identity.chain)? {
        let what = format!("{}: the certificate was revoked", certificate.display());
        return Err(Failure::new(Code::Identity, what, format!("`cyphonic ca issue {name} --renew` makes a new one")));
    }
    let authority = Ends::of(&identity.chain).and_then(|ends| ends.authority);
    Ok(Credentials { identity, roots, ends: Ends { own, authority } })
}

/// Refuses the key of another certificate. Otherwise every handshake would fail, and no error would say why.
fn fits(chain: &[CertificateDer<'static>], key_der: &[u8], certificate: &Path, key: &Path) -> Result<(), Failure> {
    // An unknown kind of key is reported at its use.
    let signing = PrivateKeyDer::try_from(key_der).ok().and_then(|key| ring::sign::any_supported_type(&key).ok());
    let Some(signing) = signing else { return Ok(()) };
    let pair = CertifiedKey::new(chain.to_vec(), signing);
    match pair.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let what = format!("{}: is not the key of {}", key.display(), certificate.display());
            let remedy = "certificate and key must be one pair, as `cyphonic ca issue` writes them";
            Err(Failure::new(Code::Identity, what, remedy))
        }
        _ => Ok(()),
    }
}

/// Reads the certificates of the CA, and its lists of revoked certificates: see [`TrustFiles::read`].
pub fn roots(path: &Path, crl: Option<&Path>, chain: &[CertificateDer<'static>]) -> Result<Roots, Failure> {
    TrustFiles::new(path.to_owned(), crl.map(Path::to_owned)).read(chain)
}

fn bad_list(crl: &Path, error: &dyn std::fmt::Display) -> Failure {
    let remedy = "use the crl.pem that `cyphonic ca init` or `ca revoke` wrote, beside root.pem";
    Failure::new(Code::Identity, format!("{}: {error}", crl.display()), remedy)
}

/// How the list judges our own certificate.
enum Standing {
    Good,
    Revoked,
}

/// How these roots judge a chain, if there is one. An error if they cannot.
fn standing(roots: &Roots, chain: &[CertificateDer<'static>]) -> Result<Option<Standing>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let env = Environment { provider, clock: Arc::new(Wall), key_log: None };
    let fail = |error: TlsError| Failure::new(Code::Identity, error.to_string(), "check `roots` and `crl`");
    let judge = roots.judge(&env).map_err(fail)?;
    if chain.is_empty() {
        return Ok(None);
    }
    match judge.check(chain) {
        Ok(()) => Ok(Some(Standing::Good)),
        Err(TlsError::Rustls(rustls::Error::InvalidCertificate(CertificateError::Revoked))) => {
            Ok(Some(Standing::Revoked))
        }
        // The clock is to blame for wrong dates, not the list.
        Err(TlsError::Rustls(rustls::Error::InvalidCertificate(why))) if is_about_dates(&why) => {
            Ok(Some(Standing::Good))
        }
        Err(error) => Err(fail(error)),
    }
}

fn trust(anchors: Vec<CertificateDer<'static>>, path: &Path) -> Result<Roots, Failure> {
    Roots::new(anchors).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        Failure::new(Code::Identity, what, "use the root.pem that `cyphonic ca init` wrote")
    })
}

/// An error of TLS settings, in words.
pub fn bad_identity(error: &TlsError, certificate: &Path) -> Failure {
    let remedy = "certificate and key must be one pair, as `cyphonic ca issue` writes them";
    Failure::new(Code::Identity, format!("{}: {error}", certificate.display()), remedy)
}

/// Every certificate of a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = fs::read(path).map_err(|error| {
        let what = format!("{}: the certificate cannot be read: {error}", path.display());
        Failure::new(Code::Identity, what, "`cyphonic ca issue NAME` makes certificate and key; check the path")
    })?;
    let blocks = pem::parse_many(&text).unwrap_or_default();
    let found: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    if found.is_empty() {
        let what = format!("{}: there is no certificate in it", path.display());
        return Err(Failure::new(Code::Identity, what, "it must be PEM with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = read_secret(path)?;
    let key = pem::parse(text.as_bytes()).ok().filter(|block| block.tag() == "PRIVATE KEY");
    key.map(|block| Zeroizing::new(block.into_contents())).ok_or_else(|| {
        let what = format!("{}: there is no private key in it", path.display());
        Failure::new(Code::Identity, what, "it must be PEM with -----BEGIN PRIVATE KEY-----")
    })
}

/// The 32 bytes from which an Ed25519 key in a file is made.
pub fn ed25519_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let key = private_key(path)?;
    let seed = key.last_chunk::<32>().map(|seed| Zeroizing::new(*seed));
    seed.filter(|seed| *pki::private_key(seed) == **key).ok_or_else(|| {
        let what = format!("{}: this is no Ed25519 key", path.display());
        Failure::new(Code::Identity, what, "use the key that `cyphonic signup` or `cyphonic ca issue` wrote")
    })
}

/// Checks that the chain leads to one of the anchors, names `name` and is valid now. Returns its end, since 1970.
fn verify(
    name: &Fqdn,
    chain: &[CertificateDer<'static>],
    anchors: &[CertificateDer<'static>],
    certificate: &Path,
    roots: &Path,
) -> Result<Duration, Failure> {
    let mut store = RootCertStore::empty();
    for anchor in anchors {
        store.add(anchor.clone()).map_err(|error| {
            let what = format!("{}: {error}", roots.display());
            Failure::new(Code::Identity, what, "use the root.pem that `cyphonic ca init` wrote")
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|error| Failure::new(Code::Identity, format!("{}: {error}", roots.display()), "check `roots`"))?;
    let server = ServerName::try_from(name.as_str().to_owned()).map_err(Failure::other)?;
    let now = UnixTime::since_unix_epoch(since_epoch());
    let file = certificate.display();
    verifier.verify_server_cert(&chain[0], &chain[1..], &server, &[], now).map_err(|error| match error {
        rustls::Error::InvalidCertificate(error) if is_about_dates(&error) => out_of_dates(name, chain, certificate),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let names = cyphonic_core::tls::names(&chain[0]);
            let what = format!("{file}: the certificate is for {names:?}, not for {name}");
            Failure::new(Code::Identity, what, "set `name` to the certificate's, or use this name's certificate")
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            let what = format!("{file}: the certificate was not issued by the CA in {}", roots.display());
            Failure::new(Code::Identity, what, "certificate and root must be of the same `cyphonic ca init`")
        }
        other => Failure::new(Code::Identity, format!("{file}: {other}"), "`cyphonic ca print` shows what is in it"),
    })?;
    Ok(Span::of(&chain[0]).map_or(Duration::MAX, |span| span.ends))
}

/// The remedy for a CA that has ended, or ends soon.
pub const NEW_AUTHORITY: &str = "`cyphonic ca rotate` makes a new CA beside it";

/// The clock and one of these certificates disagree. The error tells both, because either may be wrong.
fn out_of_dates(name: &Fqdn, chain: &[CertificateDer<'static>], file: &Path) -> Failure {
    let now = since_epoch();
    let mut spans = chain.iter().enumerate().filter_map(|(index, certificate)| Some((index, Span::of(certificate)?)));
    let found = spans.find_map(|(index, span)| Some((index, span, span.verdict(now)?)));
    let (whose, dates) = match &found {
        Some((0, span, verdict)) => ("the certificate", format!("which counts {span}: it {verdict}")),
        Some((_, span, verdict)) => ("its authority's certificate", format!("which counts {span}: it {verdict}")),
        None => ("a certificate", "whose dates cannot be read".to_owned()),
    };
    let (file, clock) = (file.display(), civil(now));
    let what = format!("{file}: this machine's clock says {clock}, and by that {whose} does not count, {dates}");
    let remedy = match found {
        Some((index, ..)) if index > 0 => {
            format!("if the clock is wrong, set it (`timedatectl`); if it is right, {NEW_AUTHORITY}")
        }
        _ => format!(
            "if the clock is wrong, set it (`timedatectl`); if it is right, `cyphonic ca issue {name} --renew` makes a new certificate"
        ),
    };
    Failure::new(Code::Clock, what, remedy)
}

/// The time in which a certificate is valid, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not before.
    pub begins: Duration,
    /// Not after.
    pub ends: Duration,
}

impl Span {
    /// The span of this certificate, if it can be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let at = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok().map(Duration::from_secs);
        Some(Self { begins: at(parsed.validity().not_before)?, ends: at(parsed.validity().not_after)? })
    }

    /// What is wrong at `now`, if anything is: "ended 5 days ago".
    pub fn verdict(&self, now: Duration) -> Option<String> {
        let early = self.begins.checked_sub(now).filter(|early| !early.is_zero());
        let late = now.checked_sub(self.ends).filter(|late| !late.is_zero());
        let early = early.map(|early| format!("does not count for another {}", in_words(early)));
        early.or_else(|| late.map(|late| format!("ended {} ago", in_words(late))))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from {} to {}", civil(self.begins), civil(self.ends))
    }
}

/// A time since 1970 in UTC, for people: "2026-11-22 05:41:42 UTC".
pub fn civil(at: Duration) -> String {
    let time = i64::try_from(at.as_secs()).ok().and_then(|at| x509_parser::time::ASN1Time::from_timestamp(at).ok());
    // "2026-11-22 5:41:42.0 +00:00:00"
    time.map_or_else(
        || format!("{} s after 1970", at.as_secs()),
        |time| {
            let time = time.to_datetime();
            let (month, day) = (u8::from(time.month()), time.day());
            let (hour, minute, second) = time.to_hms();
            format!("{}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC", time.year())
        },
    )
}

/// A duration in words.
fn in_words(time: Duration) -> String {
    let (count, unit) = long(time);
    format!("{count} {unit}")
}

/// A duration in the largest unit of which it has at least two.
fn long(time: Duration) -> (u64, &'static str) {
    let seconds = time.as_secs();
    let (unit, name) = match seconds {
        0..120 => (1, "seconds"),
        120..7_200 => (60, "minutes"),
        7_200..172_800 => (3_600, "hours"),
        _ => (86_400, "days"),
    };
    (seconds / unit, name)
}

/// The end of a certificate in words: "the certificate ends in 13 days".
pub fn ending(now: Duration, ends: Duration) -> String {
    match ends.checked_sub(now) {
        Some(left) => format!("the certificate ends in {}", in_words(left)),
        None => format!("the certificate ended {} ago", in_words(now.saturating_sub(ends))),
    }
}

/// How long a certificate stays valid after `now`: "valid for 89 more days".
pub fn validity_left(now: Duration, ends: Duration) -> String {
    match ends.checked_sub(now) {
        Some(left) => format!("valid for {} more {}", long(left).0, long(left).1),
        None => format!("ended {} ago", in_words(now.saturating_sub(ends))),
    }
}

/// The key that NMS and TRS share.
pub fn service_key(path: &Path) -> Result<Key128, Failure> {
    let text = read_secret(path)?;
    let digits = text.trim();
    let mut key = [0; 16];
    let good = digits.len() == 32
        && digits.is_ascii()
        && key.iter_mut().enumerate().all(|(i, byte)| {
            let pair = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16);
            pair.map(|value| *byte = value).is_ok()
        });
    if good {
        Ok(Key128(key))
    } else {
        let what = format!("{}: this is no key", path.display());
        Err(Failure::new(Code::Identity, what, "32 hexadecimal digits, as `cyphonic ca init` writes service.key"))
    }
}

/// Reads a secret, if nobody but its owner can read it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let describe = |error: std::io::Error| {
        let what = format!("{}: the secret cannot be read: {error}", path.display());
        Failure::new(Code::Identity, what, "check the path, and that this user owns the file")
    };
    let mut file = fs::File::open(path).map_err(describe)?;
    let facts = file.metadata().map_err(describe)?;
    let mode = facts.mode();
    if mode & 0o077 != 0 {
        let what = format!("{}: others can read this secret (mode {:04o})", path.display(), mode & 0o7777);
        let remedy = format!("chmod 600 {}; if others had access to it, make a new one", path.display());
        return Err(Failure::new(Code::Identity, what, remedy));
    }
    if !is_trusted(path, facts.uid()) {
        let what = format!("{}: this secret is another user's (number {})", path.display(), facts.uid());
        let remedy = format!("chown it to this user or root; if user {} had access to it, make a new one", facts.uid());
        return Err(Failure::new(Code::Identity, what, remedy));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(describe)?;
    Ok(text)
}

/// As [`read_secret`], for a password: one line of 1 to 1,024 bytes.
pub fn read_password(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read_secret(path)?;
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if (1..=MAX_PASSWORD).contains(&password.len()) {
        return Ok(password);
    }
    let what = format!("{}: a password has 1 to {MAX_PASSWORD} bytes, this one {}", path.display(), password.len());
    Err(Failure::new(Code::Identity, what, "put one into the file, on one line, here and at `cyphonic device add`"))
}

/// Whether a file's owner may own it: this user, root, or the folder's owner, who could have put any file there.
fn is_trusted(path: &Path, owner: u32) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    owner == 0
        || owner == rustix::process::geteuid().as_raw()
        || fs::metadata(folder).is_ok_and(|folder| folder.uid() == owner)
}

/// Opens a file for appending. A missing file is made for its owner only. A file that others can read is refused. `key`
/// is the setting that messages name.
pub fn append_private(path: &Path, key: &str) -> Result<fs::File, Failure> {
    let fail = |what: &dyn std::fmt::Display, remedy: String| {
        Failure::new(Code::Config, format!("`{key}`: {}: {what}", path.display()), remedy)
    };
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let opened = opened.and_then(|file| file.metadata().map(|facts| (file, facts)));
    let (file, facts) = opened.map_err(|error| fail(&error, format!("check `{key}`")))?;
    // A special file such as /dev/stderr stores nothing.
    if facts.is_file() && facts.mode() & 0o077 != 0 {
        let mode = facts.mode() & 0o7777;
        let what = format!("it is there already, and others can read it (mode {mode:04o})");
        return Err(fail(&what, format!("chmod 600 {}, or give a file that is not there yet", path.display())));
    }
    Ok(file)
}

/// Writes a file that only its owner can read. An existing file stays beside it, see `keep_old`.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o600, true)
}

/// Writes a secret in the place of one that must not stay.
pub fn replace_secret(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o600, false)
}

/// Makes a new file that only its owner can read. An existing file is an error.
pub fn create_secret(path: &Path) -> Result<fs::File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let what = format!("{}: cannot be made: {error}", path.display());
        Failure::new(Code::Config, what, "give a file that is not there yet, in a folder that this user may write in")
    })
}

/// Writes a file that everyone can read. An existing file stays beside it, see `keep_old`.
pub fn write_public(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o644, true)
}

/// Writes a file that everyone can read and that can be made again at any time. An existing file is lost.
pub fn write_derived(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o644, false)
}

/// Replaces `path` by `new`. The old file stays beside it.
pub fn replace(path: &Path, new: &Path) -> std::io::Result<()> {
    keep_old(path)?;
    fs::rename(new, path)?;
    sync_folder(path)
}

/// What tells one content of a file from another.
pub type Stamp = Option<(u64, u64, i64, i64)>;

/// The stamp of a file as it is now; `None` if there is none.
pub fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

/// The name of a copy: NAME.~1~, or another number.
pub fn name_of_copy(path: &Path, number: u32) -> PathBuf {
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".~{number}~"));
    copy.into()
}

/// Gives an existing file at `path` a second name: NAME.~1~, or the next free number.
fn keep_old(path: &Path) -> std::io::Result<()> {
    for number in 1_u32.. {
        let copy = name_of_copy(path, number);
        // Some file systems have no hard links.
        let kept = fs::hard_link(path, &copy).or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotFound => Err(error),
            _ => copy_to_new(path, &copy),
        });
        match kept {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            kept => return kept,
        }
    }
    Ok(())
}

/// Copies a file with its mode to a free name.
fn copy_to_new(path: &Path, copy: &Path) -> std::io::Result<()> {
    let mut old = fs::File::open(path)?;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(old.metadata()?.mode() & 0o777).open(copy)?;
    std::io::copy(&mut old, &mut new)?;
    new.sync_all()
}

/// Makes a new file name survive a crash of the machine.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Writes a file whole or not at all: a new file replaces the old one. `keeps`: the old one stays beside it.
fn write(path: &Path, text: &str, mode: u32, keeps: bool) -> Result<(), Failure> {
    // A name that no other process and no earlier run uses, because what is there is not ours to remove.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.{}.new", std::process::id(), since_epoch().as_nanos()));
    let temporary = PathBuf::from(temporary);
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if keeps {
            return replace(path, &temporary);
        }
        fs::rename(&temporary, path)?;
        sync_folder(path)
    })();
    result.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        let what = format!("{}: cannot be written: {error}", path.display());
        Failure::new(Code::Config, what, "check that the folder is there and that this user may write in it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_secret_is_its_owners_alone_and_is_refused_when_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.key");
        write_secret(&path, "000102030405060708090a0b0c0d0e0f\n").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(service_key(&path).unwrap().0[15], 15);
        for open in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let failure = service_key(&path).unwrap_err();
            assert_eq!(failure.code, Code::Identity);
            assert!(failure.to_string().contains("others can read") && failure.remedy().contains("chmod 600"));
            assert!(!failure.to_string().contains("0a0b0c"), "{failure}");
        }
    }

    #[test]
    fn a_secret_of_another_user_is_refused_unless_the_folder_is_his_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        write_secret(&path, "x").unwrap();
        let own = fs::metadata(&path).unwrap().uid();
        assert!(is_trusted(&path, own) && is_trusted(&path, 0) && !is_trusted(&path, own + 1));
        assert!(is_trusted(Path::new("k"), fs::metadata(".").unwrap().uid()));
        // Only root can change the owner of a file.
        if own == 0 {
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            let failure = read_secret(&path).unwrap_err();
            assert!(failure.to_string().contains("another user's (number 12345)"), "{failure}");
            std::os::unix::fs::chown(folder.path(), Some(12_345), None).unwrap();
            assert_eq!(read_secret(&path).unwrap().as_str(), "x");
        }
    }

    #[test]
    fn a_private_file_is_made_so_written_on_and_refused_when_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.log");
        for _ in 0..2 {
            append_private(&path, "key-log").unwrap().write_all(b"x").unwrap();
        }
        assert_eq!((mode(&path), fs::read(&path).unwrap().as_slice()), (0o600, &b"xx"[..]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = append_private(&path, "key-log").unwrap_err();
        assert!(failure.to_string().contains("`key-log`") && failure.remedy().contains("chmod 600"), "{failure}");
        assert!(append_private(Path::new("/dev/null"), "event-log").is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.key");
        for bad in ["", "hunter2", "zz0102030405060708090a0b0c0d0e0f", "é00102030405060708090a0b0c0d0e"] {
            write_secret(&path, bad).unwrap();
            let failure = service_key(&path).unwrap_err();
            assert!(failure.to_string().ends_with("this is no key"), "{failure}");
        }
    }

    #[test]
    fn what_is_left_of_a_certificate_is_told_in_the_largest_unit() {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        assert_eq!(validity_left(days(1), days(90)), "valid for 89 more days");
        assert_eq!(validity_left(days(90), days(91)), "valid for 24 more hours");
        assert_eq!(validity_left(days(95), days(90)), "ended 5 days ago");
    }

    #[test]
    fn a_rewritten_secret_stays_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        write_public(&path, "old").unwrap();
        assert_eq!(mode(&path), 0o644);
        write_secret(&path, "new").unwrap();
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o600, "new"));
    }

    #[test]
    fn a_file_that_is_replaced_stays_beside_the_new_one_however_often() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        for text in ["first", "second", "third"] {
            write_secret(&path, text).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!([read("k.~1~"), read("k.~2~"), read("k")], ["first", "second", "third"]);
        assert_eq!(mode(&folder.path().join("k.~1~")), 0o600);
        copy_to_new(&path, &folder.path().join("c")).unwrap();
        assert_eq!((mode(&folder.path().join("c")), read("c").as_str()), (0o600, "third"));
        assert_eq!(copy_to_new(&path, &folder.path().join("c")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        write_derived(&path, "fourth").unwrap();
        assert_eq!(read("k"), "fourth");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
    }
}
