//! The NMS's file of access rules: read at the start, when it changes, and at a SIGHUP.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cyphonic_core::rules::Rules;
use cyphonic_scenarios::access_rules;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::privileges::Later;
use crate::control::AccessRules;
use crate::error::{Code, Failure};
use crate::files::{Stamp, stamp};
use crate::tasks;

/// How often the file is checked. A change is in force within this time and a moment more.
const LOOK: Duration = Duration::from_secs(1);

/// The same error is logged again only after this time.
const SAY: Duration = Duration::from_secs(60);

/// Longest file, bytes.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a file of access rules.
pub fn read_rules(path: &Path) -> Result<Rules, Failure> {
    let name = path.display().to_string();
    let remedy = "`cyphonic rules check FILE` reads it in the same way; OPERATIONS.md has an example";
    let fail = |what: String| Failure::new(Code::Config, what, remedy);
    let unread = |error: std::io::Error| fail(format!("{name}: {error}"));
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > MOST_BYTES {
        return Err(fail(format!("{name}: {bytes} bytes, more than {MOST_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    access_rules(&name, &text).map_err(|error| fail(error.to_string()))
}

/// The file, if there is one, and what is in force of it.
pub(super) struct RulesFile {
    path: Option<PathBuf>,
    /// The stamp of the file that was read. `None` after a failed attempt, until the file has been read.
    read: Option<Stamp>,
    /// The last error, and when it was logged.
    said: Option<(String, Instant)>,
    status: watch::Sender<AccessRules>,
}

impl Default for RulesFile {
    fn default() -> Self {
        let status = AccessRules { open: true, ..AccessRules::default() };
        Self { path: None, read: None, said: None, status: watch::Sender::new(status) }
    }
}

impl RulesFile {
    /// Reads the file for the first time.
    pub(super) fn read(path: Option<PathBuf>) -> Result<(Self, Rules), Failure> {
        let Some(path) = path else { return Ok((Self::default(), Rules::default())) };
        let read = Some(stamp(&path));
        let rules = read_rules(&path)?;
        let file = Self { path: Some(path), read, ..Self::default() };
        file.note(Ok(&rules));
        Ok((file, rules))
    }

    /// What is in force, now and later.
    pub(super) fn status(&self) -> watch::Receiver<AccessRules> {
        self.status.subscribe()
    }

    /// The file, which is read again.
    pub(super) fn later(&self) -> Option<Later> {
        self.path.as_deref().map(Later::read)
    }

    fn note(&self, read: Result<&Rules, &Failure>) {
        self.status.send_modify(|status| match read {
            Ok(rules) => {
                *status = AccessRules {
                    file: self.path.as_ref().map(|path| path.display().to_string()),
                    open: rules.is_open(),
                    rules: rules.allow().len(),
                    trouble: None,
                };
            }
            Err(error) => status.trouble = Some(error.to_string()),
        });
    }

    /// Reads the file again if it has changed, if it could not be read before, or if `forced`. A file that cannot be
    /// used changes nothing. It is read again and again, because the cause may be the system: no file descriptor or no
    /// memory left.
    fn look(&mut self, forced: bool) -> Option<Rules> {
        let path = self.path.clone()?;
        let now = Some(stamp(&path));
        if now == self.read && !forced {
            return None;
        }
        let read = read_rules(&path);
        self.read = read.is_ok().then_some(now).flatten();
        self.note(read.as_ref());
        match read {
            Ok(rules) => {
                self.said = None;
                tracing::info!(file = %path.display(), open = rules.is_open(), rules = rules.allow().len(),
                    "access rules were read again");
                Some(rules)
            }
            Err(error) => {
                let words = error.to_string();
                if self.said.as_ref().is_none_or(|(known, at)| *known != words || at.elapsed() >= SAY) {
                    tracing::error!(%error, remedy = error.remedy(), "access rules stay as read before");
                    self.said = Some((words, Instant::now()));
                }
                None
            }
        }
    }

    /// Sends the rules by `wrap` whenever they have changed.
    pub(super) fn watch<R: Send + 'static>(
        mut self,
        tell: mpsc::Sender<R>,
        wrap: fn(Rules) -> R,
    ) -> Result<(), Failure> {
        if self.path.is_none() {
            return Ok(());
        }
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        tasks::forever("reads access rules again", async move {
            loop {
                let forced = tokio::select! {
                    () = tokio::time::sleep(LOOK) => false,
                    _ = hangup.recv() => true,
                };
                if let Some(rules) = self.look(forced)
                    && tell.send(wrap(rules)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_keeps_the_rules_that_were_read_before_and_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("default = \"closed\"\n");
        let (mut file, rules) = RulesFile::read(Some(path.clone())).unwrap();
        assert!(!rules.is_open());
        let status = file.status();
        assert_eq!(file.look(false), None, "it has not changed");
        write("default = \"closed\"\n[[allow]]\nfrom = [\"a.example\"]\nto = [\"web\"]\n");
        assert_eq!(file.look(false), None);
        let trouble = status.borrow().trouble.clone().unwrap();
        assert!(trouble.contains("rules.toml:4:7: `allow.0.to.0`: no group \"web\""), "{trouble}");
        assert!(!status.borrow().open, "what counts is the file as it was before");
        // A file that was cut off does not open the network.
        write("");
        assert_eq!(file.look(false), None);
        assert!(status.borrow().trouble.as_ref().unwrap().contains("`default`: missing"), "{status:?}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.look(true), None);
        write("default = \"open\"\n");
        assert!(file.look(false).unwrap().is_open());
        assert_eq!((status.borrow().open, status.borrow().trouble.clone()), (true, None));
    }

    #[test]
    fn rules_that_could_not_be_read_once_are_read_when_they_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        // As long as each other, and of one time: to the NMS it is the same file that cannot be read for a while.
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        std::fs::write(&path, "default = \"open\"\n").unwrap();
        let (mut file, _) = RulesFile::read(Some(path.clone())).unwrap();
        write("default = \"cl");
        assert_eq!((file.look(false), file.look(false)), (None, None));
        write("default = 'closed'\n");
        assert_eq!(file.look(false).map(|rules| rules.is_open()), Some(false));
        write("default = 'cl sed'\n");
        assert_eq!((file.look(true), file.look(false)), (None, None));
        write("default = 'closed'\n");
        assert_eq!(file.look(false).map(|rules| rules.is_open()), Some(false), "the file seems not to have changed");
        assert_eq!(file.look(false), None, "it was read");
    }

    #[test]
    fn an_nms_does_not_start_with_rules_that_it_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let error = RulesFile::read(Some(folder.path().join("none.toml"))).err().unwrap();
        assert_eq!(error.code, Code::Config);
        assert!(error.to_string().contains("none.toml"), "{error}");
        assert!(RulesFile::read(None).unwrap().1.is_open());
    }
}
