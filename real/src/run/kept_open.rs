//! Files that a daemon writes to for as long as it runs: the event log, and secrets of TLS.
//!
//! Programs that rotate logs rename such a file and send SIGHUP. From then on lines go to a new file of the old name. A
//! file with a limit is rotated by the daemon itself: FILE becomes FILE.1, that before FILE.2, and so on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::privileges::Later;
use crate::error::Failure;
use crate::files;

/// How long a file may get, and how many earlier ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Bytes; 0: any number.
    bytes: u64,
    files: u16,
}

impl Limit {
    /// By the settings, or by default 64 MiB, and four earlier files: an hour of a busy node, a day of a calm one.
    pub(super) fn of(bytes: Option<u64>, files: Option<u16>) -> Self {
        Self { bytes: bytes.unwrap_or(64 << 20), files: files.unwrap_or(4) }
    }
}

pub(super) struct KeptOpen {
    path: PathBuf,
    /// The setting that names the file.
    key: &'static str,
    file: File,
    hangup: Signal,
    /// Whether a SIGHUP came since the file was opened.
    stale: bool,
    limit: Option<Limit>,
    /// Bytes in the file, if it has a limit.
    written: u64,
}

impl KeptOpen {
    /// Opens a file for appending. Only its owner may read it ([`files::append_private`]).
    pub(super) fn open(path: &Path, key: &'static str) -> Result<Self, Failure> {
        let hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        let file = files::append_private(path, key)?;
        Ok(Self { path: path.to_owned(), key, file, hangup, stale: false, limit: None, written: 0 })
    }

    /// The same file with a limit. A special file such as /dev/stderr has none.
    pub(super) fn limited(mut self, limit: Limit) -> Self {
        let facts = self.file.metadata().ok().filter(|facts| facts.is_file() && limit.bytes > 0);
        self.written = facts.as_ref().map_or(0, std::fs::Metadata::len);
        self.limit = facts.map(|_| limit);
        self
    }

    /// Renames the files, so that this one gets a new beginning, if it would get too long by so many bytes.
    fn rotate(&mut self, more: usize) {
        let Some(Limit { bytes, files }) = self.limit else { return };
        if self.written == 0 || self.written.saturating_add(more as u64) <= bytes {
            return;
        }
        let earlier = |number: u16| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let renamed = if files == 0 {
            std::fs::remove_file(&self.path)
        } else {
            for number in (1..files).rev() {
                // Some may not be there yet.
                let _ = std::fs::rename(earlier(number), earlier(number + 1));
            }
            std::fs::rename(&self.path, earlier(1))
        };
        match renamed {
            Ok(()) => self.stale = true,
            Err(error) => {
                let remedy = "let this user write in the folder, or set `event-log-bytes` to 0";
                tracing::warn!(%error, remedy, file = %self.path.display(), "cannot be renamed, and gets longer");
                // It is tried again after as many bytes.
                self.written = 0;
            }
        }
    }

    /// The files to reopen while the daemon runs. None for special files such as /dev/stderr.
    pub(super) fn later(path: &Path) -> Vec<Later> {
        if path.exists() && !path.is_file() { Vec::new() } else { vec![Later::write(path), Later::beside(path)] }
    }

    /// Writes a line to the file that has the name since the last SIGHUP. A line that cannot be written is lost.
    pub(super) fn write(&mut self, line: &str) {
        // No waker is needed, because the next line polls again.
        while let Poll::Ready(Some(())) = self.hangup.poll_recv(&mut Context::from_waker(Waker::noop())) {
            self.stale = true;
        }
        self.rotate(line.len());
        if self.stale {
            match files::append_private(&self.path, self.key) {
                Ok(file) => {
                    self.file = file;
                    self.stale = false;
                    self.written = self.file.metadata().map_or(0, |facts| facts.len());
                }
                Err(error) => {
                    tracing::warn!(%error, remedy = error.remedy(), "lines go on into the file that was renamed");
                }
            }
        }
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            tracing::warn!(%error, file = %self.path.display(), "cannot be written: its lines are lost");
        }
        self.written = self.written.saturating_add(line.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_hangup_lines_go_to_a_new_file_of_the_old_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("events"), folder.path().join("events.1"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut file = KeptOpen::open(&path, "event-log").unwrap();
            file.write("one\n");
            std::fs::rename(&path, &rotated).unwrap();
            file.write("two\n");
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
            // The runtime delivers a signal when it runs next.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            file.write("three\n");
        });
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&rotated), read(&path)), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
    }

    #[test]
    fn a_file_is_as_long_as_its_limit_at_most_and_as_many_earlier_ones_are_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        for (kept, wanted) in [
            (2, &[("events", "6\n7\n"), ("events.1", "4\n5\n"), ("events.2", "2\n3\n")][..]),
            (0, &[("events", "6\n7\n")]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events");
            let open = || KeptOpen::open(&path, "event-log").unwrap().limited(Limit::of(Some(5), Some(kept)));
            let mut file = open();
            (0..5).for_each(|n| file.write(&format!("{n}\n")));
            // A daemon that starts anew goes on where it was.
            let mut file = open();
            (5..8).for_each(|n| file.write(&format!("{n}\n")));
            let mut found: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
            found.sort_by_key(std::fs::DirEntry::file_name);
            let found: Vec<_> = found
                .iter()
                .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
                .collect();
            let wanted: Vec<_> = wanted.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_line_that_is_longer_than_the_limit_is_written_whole() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut file = KeptOpen::open(&path, "event-log").unwrap().limited(Limit::of(Some(3), Some(1)));
        for line in ["a long line\n", "another\n"] {
            file.write(line);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
        }
    }
}
