//! Whom the daemon trusts while it runs: the files of roots and of revoked certificates, read again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::tls::Roots;
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::Failure;
use crate::files;

/// How often the files are looked at. A session of a revoked certificate ends within this time and a little after its list
/// was replaced.
const LOOK: Duration = Duration::from_secs(1);

/// Where trust comes from.
pub(super) struct Trust {
    pub(super) roots: PathBuf,
    pub(super) crl: Option<PathBuf>,
    /// Our own certificates: a list that cannot judge them is refused.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// What tells one content of a file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Trust {
    /// Tells whenever the files have changed, or a SIGHUP came, and they can be used.
    pub(super) fn watch<R: Send + 'static>(self, tell: mpsc::Sender<R>, wrap: fn(Roots) -> R) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        let mut before = self.stamps();
        tokio::spawn(async move {
            loop {
                let forced = tokio::select! {
                    () = tokio::time::sleep(LOOK) => false,
                    _ = hangup.recv() => true,
                };
                let stamps = self.stamps();
                if !forced && stamps == before {
                    continue;
                }
                before = stamps;
                match files::roots(&self.roots, self.crl.as_deref(), &self.chain) {
                    Ok(roots) => {
                        tracing::info!("roots and revoked certificates were read again");
                        if tell.send(wrap(roots)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::error!(%error, remedy = error.remedy(), "what was read before stays"),
                }
            }
        });
        Ok(())
    }

    fn stamps(&self) -> [Stamp; 2] {
        let stamp = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        [stamp(&self.roots), self.crl.as_deref().and_then(stamp)]
    }
}
