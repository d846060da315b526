//! The records of an authority: the files `issued` and `revoked`, with one line for each certificate.
//!
//! A line is on the disk before the certificate, or the list of revoked ones, is given out. A line without its end was
//! being written when the machine crashed. It does not count, and is removed before the next line is written.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use cyphonic_core::name::Fqdn;

use crate::error::{Code, Failure};
use crate::files;

/// How long to wait for another process's lock. Work under the lock takes milliseconds, so a longer wait means a fault.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How much of a file's end is read at one time: more than its longest line, of 17 + 21 + 254 bytes.
const TAIL_BYTES: u64 = 512;

/// A line of the files `issued` (the time is the certificate's end) and `revoked` (the time is that of the revocation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of the certificate; written in hexadecimal.
    pub(super) serial: u64,
    /// Seconds since 1970.
    pub(super) time: u64,
    /// The name in the certificate.
    pub(super) name: Fqdn,
}

/// Locks an authority's files against other processes until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Config, format!("{}: {error}", path.display()), "check that this user may write there")
}

/// Locks the authority's files, waiting for other processes.
///
/// The lock is advisory, and any user that can open the file can hold the lock. So only its owner can open it.
///
/// # Errors
/// [`Code::Config`] if the file cannot be opened, or another process holds the lock for longer than [`LOCK_PATIENCE`].
pub(super) fn lock(folder: &Path) -> Result<Lock, Failure> {
    let path = folder.join("lock");
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).and_then(|file| {
        // An earlier version made it readable by all users.
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    let file = opened.map_err(|error| failed(&path, &error))?;
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let what = format!("{}: another program has held it for {} s", path.display(), LOCK_PATIENCE.as_secs());
                let remedy = format!("end that program (`fuser {}` shows it), and try again", path.display());
                return Err(Failure::new(Code::Config, what, remedy));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, &error)),
        }
    }
}

/// Appends entries. When it returns they are on the disk.
pub(super) fn append(_lock: &Lock, path: &Path, entries: &[Entry]) -> Result<(), Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let done = (|| {
        let mut lines = Vec::new();
        for Entry { serial, time, name } in entries {
            writeln!(lines, "{serial:016x} {time} {name}")?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        repair(&mut file)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        files::sync_folder(path)
    })();
    done.map_err(|error: std::io::Error| failed(path, &error))
}

/// Removes what follows the last whole line. It reads the end of the file only.
fn repair(file: &mut File) -> std::io::Result<()> {
    let len = file.metadata()?.len();
    let mut end = len;
    let mut piece = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        piece.clear();
        Read::by_ref(file).take(end - from).read_to_end(&mut piece)?;
        let kept = whole(&piece).len();
        if kept > 0 {
            end = from + u64::try_from(kept).unwrap_or(u64::MAX);
            break;
        }
        end = from;
    }
    if end < len {
        file.set_len(end)?;
    }
    Ok(())
}

/// The whole lines.
fn whole(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    &text[..end]
}

/// Every entry of a file; none if there is no file.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, Failure> {
    let bad = |what: &dyn std::fmt::Display| {
        let what = format!("{}: {what}", path.display());
        Failure::new(Code::Config, what, "each line is a serial number, a time and a name: mend it by hand")
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(bad(&error)),
    };
    let text = std::str::from_utf8(whole(&bytes)).map_err(|error| bad(&error))?;
    let lines = text.lines().enumerate();
    lines.map(|(n, line)| read(line).ok_or_else(|| bad(&format!("line {} is not understood: {line}", n + 1)))).collect()
}

fn read(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let serial = u64::from_str_radix(words.next()?, 16).ok()?;
    let entry = Entry { serial, time: words.next()?.parse().ok()?, name: words.next()?.parse().ok()? };
    words.next().is_none().then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: u64, name: &str) -> Entry {
        Entry { serial, time: 17, name: name.parse().unwrap() }
    }

    #[test]
    fn wherever_a_line_was_cut_off_the_ones_before_count_and_the_next_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issued");
        assert_eq!(entries(&path).unwrap(), []);
        let (first, torn, next) = (entry(1, "a.example"), entry(2, "b.example"), entry(3, "c.example"));
        append(&lock(folder.path()).unwrap(), &path, &[first.clone(), torn]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 2;
        for cut in line..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(entries(&path).unwrap(), std::slice::from_ref(&first), "cut at {cut}");
            append(&lock(folder.path()).unwrap(), &path, std::slice::from_ref(&next)).unwrap();
            assert_eq!(entries(&path).unwrap(), [first.clone(), next.clone()], "cut at {cut}");
        }
    }

    #[test]
    fn a_new_line_costs_as_much_in_a_file_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issued");
        let many: Vec<_> = (0..1_000).map(|serial| entry(serial, "a.example")).collect();
        append(&lock(folder.path()).unwrap(), &path, &many).unwrap();
        for torn in [0, 1, TAIL_BYTES - 1, TAIL_BYTES, 3 * TAIL_BYTES] {
            let mut file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
            let good = file.metadata().unwrap().len();
            file.write_all(&vec![b'x'; usize::try_from(torn).unwrap()]).unwrap();
            repair(&mut file).unwrap();
            assert_eq!(file.metadata().unwrap().len(), good, "{torn} bytes without an end");
            let read = file.stream_position().unwrap();
            assert!(read + torn + 2 * TAIL_BYTES > good, "the beginning is not read: {read} of {good}");
        }
        assert_eq!(entries(&path).unwrap(), many);
        std::fs::write(&path, "no end").unwrap();
        append(&lock(folder.path()).unwrap(), &path, &many[..1]).unwrap();
        assert_eq!(entries(&path).unwrap(), many[..1]);
    }

    #[test]
    fn a_local_user_who_holds_the_lock_of_an_authority_delays_a_revocation_by_seconds_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // As an earlier version left it: all users may open it.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let stranger = File::open(&path).unwrap();
        stranger.lock().unwrap();
        let begun = Instant::now();
        let failure = lock(folder.path()).unwrap_err();
        assert!(begun.elapsed() < LOCK_PATIENCE * 2, "{:?}", begun.elapsed());
        assert_eq!(failure.code, Code::Config);
        assert!(failure.to_string().contains("another program") && failure.remedy().contains("fuser"), "{failure}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "no other user opens it again"
        );
        drop(stranger);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn a_whole_line_that_is_not_understood_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issued");
        std::fs::write(&path, "0000000000000001 17 a.example\n00000000000000020000000000000003 17 c.example\n")
            .unwrap();
        let failure = entries(&path).unwrap_err();
        assert!(failure.to_string().contains("line 2 is not understood"), "{failure}");
    }
}
