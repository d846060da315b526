//! Keys of an authority that are sealed by a passphrase.
//!
//! Without one, `root.key` and `ca.key` have the key itself, and the mode of the file (0600) is their protection. A
//! copy of the folder, a backup or a stolen disk is then as good as the authority. With a passphrase such a copy is
//! worth nothing without it. A file has one line:
//!
//! ```text
//! sealed-1 ITERATIONS SALT NONCE CIPHERTEXT         hexadecimal but for the iterations
//! ```
//!
//! The passphrase becomes a key by PBKDF2 with HMAC-SHA-256 (RFC 8018 §5.2). AES-256-GCM seals the 32 bytes of the key
//! under it, together with what stands before the nonce.
//!
//! A process has one passphrase at most: of `--passphrase-file`, or of the AS's `ca-passphrase-file`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use zeroize::Zeroizing;

use super::rotation::{NEXT, OLD};
use super::{hex, random};
use crate::error::{Code, Failure};
use crate::files;

/// Iterations of PBKDF2: each guess costs about a fifth of a second of work, as for passwords of devices.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// The most iterations that a file may ask for: some seconds.
const MOST_ITERATIONS: u32 = 20_000_000;
/// The first word of a sealed key.
const SEALED: &str = "sealed-1";
/// The keys of an authority.
const KEYS: [&str; 2] = ["root.key", "ca.key"];

static PRESENT: OnceLock<Passphrase> = OnceLock::new();

/// A passphrase, and the keys that were derived from it.
struct Passphrase {
    text: Zeroizing<String>,
    derived: Mutex<Option<(Salt, Zeroizing<[u8; 32]>)>>,
}

/// What a key is derived by, besides the passphrase.
type Salt = (NonZeroU32, [u8; 16]);

/// Uses the passphrase in this file for all keys of authorities from now on. Only the first one of a process counts.
///
/// # Errors
/// [`Code::Identity`] if others can read the file, or if it has no line of 1 to 1,024 bytes.
pub fn use_passphrase(file: &Path) -> Result<(), Failure> {
    let _ = PRESENT.set(Passphrase::read(file)?);
    Ok(())
}

/// A key as its file shall have it: sealed, if there is a passphrase.
pub(super) fn written(seed: &[u8; 32]) -> Result<Zeroizing<String>, Failure> {
    match PRESENT.get() {
        Some(passphrase) => passphrase.seal(seed),
        None => Ok(hex(seed)),
    }
}

/// The key in the text of a file, if it is sealed; `None` if it is not.
pub(super) fn opened(text: &str, path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Failure> {
    if !text.starts_with(SEALED) {
        return Ok(None);
    }
    let Some(passphrase) = PRESENT.get() else {
        let what = format!("{}: the key is sealed by a passphrase", path.display());
        let remedy =
            "give a file with it: --passphrase-file, CYPHONIC_CA_PASSPHRASE_FILE, or the AS's `ca-passphrase-file`";
        return Err(Failure::new(Code::Identity, what, remedy));
    };
    passphrase.open(text, path).map(Some)
}

/// Seals the keys in an authority's folder by another passphrase, or (`None`) writes them as they are. Gives the files.
pub fn seal_anew(folder: &Path, by: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let by = by.map(Passphrase::read).transpose()?;
    let _lock = super::lock(folder)?;
    let folders = [folder.to_owned(), folder.join(OLD), folder.join(NEXT)];
    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| KEYS.map(|key| folder.join(key))).collect();
    let there: Vec<PathBuf> = files.into_iter().filter(|file| file.exists()).collect();
    // All are read before one is written.
    let seeds: Vec<_> = there.iter().map(|file| super::seed(file)).collect::<Result<_, _>>()?;
    for (file, seed) in there.iter().zip(seeds) {
        let text = match &by {
            Some(by) => by.seal(&seed)?,
            None => hex(&*seed),
        };
        files::replace_secret(file, &text)?;
    }
    Ok(there)
}

impl Passphrase {
    fn read(file: &Path) -> Result<Self, Failure> {
        Ok(Self { text: files::read_password(file)?, derived: Mutex::default() })
    }

    fn key(&self, salt: Salt) -> LessSafeKey {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let known = derived.as_ref().filter(|(known, _)| *known == salt).map(|(_, key)| key.clone());
        let key = known.unwrap_or_else(|| {
            let mut key = Zeroizing::new([0; 32]);
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, salt.0, &salt.1, self.text.as_bytes(), &mut *key);
            derived.insert((salt, key)).1.clone()
        });
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("32 bytes"))
    }

    fn seal(&self, seed: &[u8; 32]) -> Result<Zeroizing<String>, Failure> {
        let salt = (ITERATIONS, *random::<16>()?);
        let before = format!("{SEALED} {} {}", salt.0, *hex(&salt.1));
        let nonce = *random::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(seed.to_vec());
        self.key(salt)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&before), &mut *sealed)
            .map_err(Failure::other)?;
        Ok(Zeroizing::new(format!("{before} {} {}\n", *hex(&nonce), *hex(&sealed))))
    }

    fn open(&self, text: &str, path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let bad = |what: &str, remedy: &str| {
            Failure::new(Code::Identity, format!("{}: {what}", path.display()), remedy.to_owned())
        };
        let damaged = || bad("the sealed key is damaged", "restore the file from a copy of the folder");
        let words: Vec<&str> = text.trim_end().split(' ').collect();
        let &[name, iterations, salt, nonce, sealed] = &words[..] else { return Err(damaged()) };
        let iterations = iterations.parse().ok().filter(|n: &NonZeroU32| n.get() <= MOST_ITERATIONS);
        let (Some(n), Some(s), Some(nonce), Some(sealed)) =
            (iterations, bytes::<16>(salt), bytes::<NONCE_LEN>(nonce), bytes::<48>(sealed))
        else {
            return Err(damaged());
        };
        let before = format!("{name} {n} {salt}");
        let mut sealed = Zeroizing::new(sealed);
        let key = self.key((n, s));
        let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(&before), &mut *sealed);
        let opened = opened.ok().and_then(|seed| <[u8; 32]>::try_from(&*seed).ok().map(Zeroizing::new));
        opened.ok_or_else(|| {
            bad("the passphrase is not this key's", "give the one that it was sealed by: --passphrase-file")
        })
    }
}

/// Hexadecimal digits as bytes.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase { text: Zeroizing::new(text.to_owned()), derived: Mutex::default() }
    }

    #[test]
    fn a_sealed_key_is_opened_by_its_passphrase_only_and_no_byte_of_it_can_be_changed() {
        let (path, right) = (Path::new("ca.key"), passphrase("correct horse"));
        let text = right.seal(&[0xa5; 32]).unwrap();
        assert!(!text.contains("a5a5"));
        assert_eq!(*right.open(&text, path).unwrap(), [0xa5; 32]);
        let refused = passphrase("correct house").open(&text, path).unwrap_err();
        assert!(refused.to_string().contains("not this key's"), "{refused}");
        let good = text.trim_end();
        // Beyond the iterations and the salt, whose every change costs another derivation.
        for at in good.rfind(' ').unwrap() - 2 * NONCE_LEN..good.len() {
            let mut changed = good.as_bytes().to_vec();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(right.open(std::str::from_utf8(&changed).unwrap(), path).is_err(), "{at}");
        }
        for damaged in [&good[..good.len() - 1], "sealed-1", "sealed-1 0 0 0 0", &good.replace("600000", "99999999999")]
        {
            assert!(right.open(damaged, path).unwrap_err().to_string().contains("damaged"), "{damaged}");
        }
    }
}
