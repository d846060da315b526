//! Whom the daemon trusts while it runs: the files of roots and of revoked certificates, read again when they change.
//! Where the AS gives the list out, it is fetched into the file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::tls::Roots;
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::privileges::Later;
use crate::error::{Code, Failure};
use crate::{files, signup};

/// How often the files are looked at. A session of a revoked certificate ends within this time and a little after its
/// list was replaced.
const LOOK: Duration = Duration::from_secs(1);

/// How often the AS is asked for its list.
const FETCH: Duration = Duration::from_secs(10);

/// Where trust comes from.
pub(super) struct Trust {
    pub(super) roots: PathBuf,
    pub(super) crl: Option<PathBuf>,
    /// Our own certificates: a list that cannot judge them is refused.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Where the list is fetched from.
    pub(super) source: Option<Source>,
}

/// An AS that gives the list out.
#[derive(Clone)]
pub(super) struct Source {
    /// HOST:PORT.
    place: String,
    name: Fqdn,
    crl: PathBuf,
}

impl Source {
    /// As the settings `crl-from` and `crl` have it, with the AS's name.
    pub(super) fn new(place: Option<String>, crl: Option<&Path>, name: &Fqdn) -> Result<Option<Self>, Failure> {
        match (place, crl) {
            (None, _) => Ok(None),
            (Some(place), Some(crl)) => Ok(Some(Self { place, name: name.clone(), crl: crl.to_owned() })),
            (Some(_), None) => {
                let remedy = "set `crl` to the file into which it goes; `ca init` wrote the first one";
                Err(Failure::new(Code::Config, "`crl-from` is set, but `crl` is not", remedy))
            }
        }
    }

    /// Keeps the file up to date, and tells whose certificates were taken back since.
    async fn follow<R>(
        self,
        roots: PathBuf,
        chain: Vec<CertificateDer<'static>>,
        tell: mpsc::Sender<R>,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) {
        let mut last = None;
        let mut known = BTreeSet::new();
        loop {
            let fetched = match files::roots(&roots, Some(&self.crl), &chain) {
                Ok(trusted) => signup::list(&self.place, &self.name, &trusted).await,
                Err(error) => Err(error),
            };
            let done = match fetched {
                Ok(fetched) => {
                    let new: Vec<_> = fetched.names.difference(&known).map(|(name, _)| name.clone()).collect();
                    if let Some(wrap) = revoked.filter(|_| !new.is_empty())
                        && tell.send(wrap(new)).await.is_err()
                    {
                        return;
                    }
                    known = fetched.names;
                    files::renew_list(&roots, &self.crl, &chain, &fetched.list)
                }
                Err(error) => Err(error),
            };
            let trouble = done.as_ref().err().map(ToString::to_string);
            match &done {
                Ok(true) => tracing::info!(from = %self.place, "a newer list of revoked certificates was fetched"),
                Err(error) if trouble != last => {
                    tracing::warn!(%error, remedy = error.remedy(), from = %self.place, "the list of revoked certificates \
                        could not be fetched; the one before stays");
                }
                Ok(false) | Err(_) => {}
            }
            last = trouble;
            tokio::time::sleep(FETCH).await;
        }
    }
}

/// What tells one content of a file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Trust {
    /// What is read, or written, again.
    pub(super) fn later(&self) -> Vec<Later> {
        let files = [&self.roots].into_iter().chain(&self.crl).map(|path| Later::read(path));
        let fetched = self.source.iter().map(|source| Later::beside(&source.crl));
        files.chain(fetched).collect()
    }

    /// Tells whenever the files have changed, or a SIGHUP came, and they can be used; and whose certificates were taken
    /// back, where the list is fetched and somebody wants to know.
    pub(super) fn watch<R: Send + 'static>(
        self,
        tell: mpsc::Sender<R>,
        wrap: fn(Roots) -> R,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        let mut before = self.stamps();
        if let Some(source) = self.source.clone() {
            tokio::spawn(source.follow(self.roots.clone(), self.chain.clone(), tell.clone(), revoked));
        }
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
