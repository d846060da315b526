//! The secrets of TLS sessions, if an operator asks for them by a setting: `key-log` writes them to a file, and
//! `allow-capture` keeps them for captures. Without these settings TLS gives its secrets to nobody.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cyphonic_core::capture::key_log_line;
use rustls::KeyLog;
use zeroize::Zeroizing;

use super::kept_open::KeptOpen;
use crate::error::Failure;

/// Most secrets that are kept. A session has five. The oldest are dropped first.
const MAX_KEPT: usize = 8192;

/// Secrets as lines of a key log, in the order in which they came.
#[derive(Default)]
pub(super) struct Kept(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    /// How many secrets were dropped before the first one here.
    dropped: usize,
    lines: VecDeque<Zeroizing<String>>,
}

impl Kept {
    fn push(&self, line: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.lines.len() == MAX_KEPT {
            kept.lines.pop_front();
            kept.dropped += 1;
        }
        kept.lines.push_back(Zeroizing::new(line));
    }

    /// The secrets after the first `seen`, and how many there were in all.
    pub(super) fn since(&self, seen: usize) -> (Zeroizing<String>, usize) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = kept.lines.iter().skip(seen.saturating_sub(kept.dropped));
        let text = new.fold(Zeroizing::new(String::new()), |mut text, line| {
            text.push_str(line);
            text
        });
        (text, kept.dropped + kept.lines.len())
    }
}

/// Passes secrets to the file and to the store.
struct Listener {
    file: Option<Mutex<KeptOpen>>,
    kept: Option<Arc<Kept>>,
}

/// The listener of TLS secrets, and the secrets that are kept.
type Heard = (Option<Arc<dyn KeyLog>>, Option<Arc<Kept>>);

/// Makes the listener of TLS secrets, if one is wanted, and the store of secrets for captures.
pub(super) fn listen(file: Option<&Path>, keep: bool) -> Result<Heard, Failure> {
    if keep {
        tracing::warn!("CAPTURES ARE ALLOWED: every user of the control socket can read all traffic of this node");
    }
    let kept = keep.then(Arc::<Kept>::default);
    let file = file.map(open).transpose()?.map(Mutex::new);
    let wanted = keep || file.is_some();
    let listener = Listener { file, kept: kept.clone() };
    Ok((wanted.then(|| Arc::new(listener) as Arc<dyn KeyLog>), kept))
}

fn open(path: &Path) -> Result<KeptOpen, Failure> {
    let file = KeptOpen::open(path, "key-log")?;
    tracing::warn!(file = %path.display(), "TLS SECRETS ARE WRITTEN TO A FILE: every reader of the file can read all traffic");
    Ok(file)
}

impl KeyLog for Listener {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = key_log_line(label, client_random, secret);
        if let Some(Ok(mut file)) = self.file.as_ref().map(Mutex::lock) {
            file.write(&line);
        }
        if let Some(kept) = &self.kept {
            kept.push(line);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_unless_someone_asked() {
        let (log, kept) = listen(None, false).unwrap();
        assert!(log.is_none() && kept.is_none());
    }

    #[test]
    fn each_secret_is_given_once_and_the_oldest_make_room() {
        let (log, kept) = listen(None, true).unwrap();
        let (log, kept) = (log.unwrap(), kept.unwrap());
        log.log("A", &[1], &[2]);
        let (text, seen) = kept.since(0);
        assert_eq!((text.as_str(), seen), ("A 01 02\n", 1));
        assert_eq!(kept.since(seen).0.as_str(), "");
        for _ in 0..MAX_KEPT {
            log.log("B", &[1], &[2]);
        }
        assert_eq!(kept.since(seen).0.lines().count(), MAX_KEPT);
        assert_eq!(kept.since(0).0.lines().count(), MAX_KEPT, "the first is gone");
    }
}
