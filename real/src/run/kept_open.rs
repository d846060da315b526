//! Files that a daemon writes to for as long as it runs: the event log, and secrets of TLS.
//!
//! Programs that rotate logs rename such a file and send SIGHUP. From then on lines go to a new file of the old name.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::privileges::Later;
use crate::error::Failure;
use crate::files;

pub(super) struct KeptOpen {
    path: PathBuf,
    /// The setting that names the file.
    key: &'static str,
    file: File,
    hangup: Signal,
    /// Whether a SIGHUP came since the file was opened.
    stale: bool,
}

impl KeptOpen {
    /// Opens a file for appending. Only its owner may read it ([`files::append_private`]).
    pub(super) fn open(path: &Path, key: &'static str) -> Result<Self, Failure> {
        let hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        Ok(Self { path: path.to_owned(), key, file: files::append_private(path, key)?, hangup, stale: false })
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
        if self.stale {
            match files::append_private(&self.path, self.key) {
                Ok(file) => {
                    self.file = file;
                    self.stale = false;
                }
                Err(error) => {
                    tracing::warn!(%error, remedy = error.remedy(), "lines go on into the file that was renamed");
                }
            }
        }
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            tracing::warn!(%error, file = %self.path.display(), "cannot be written: its lines are lost");
        }
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
}
