//! The daemon's trust anchors while it runs: the files of roots and of revoked certificates, read again when they
//! change. Where the AS gives the list out, it is fetched into the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cyphonic_core::name::Fqdn;
use cyphonic_core::tls::Roots;
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::privileges::Later;
use crate::error::{Code, Failure};
use crate::files::{Stamp, stamp};
use crate::{files, signup, tasks};

/// How often the files are checked. A session with a revoked certificate ends within this time and a moment more after
/// its list was replaced.
const LOOK: Duration = Duration::from_secs(1);

/// How often the node asks the AS for its list.
const FETCH: Duration = Duration::from_secs(10);

/// After a failed attempt, how long the same error is not logged again.
const SAY: Duration = Duration::from_secs(60);

/// The files and the source of trust anchors.
pub(super) struct Trust {
    files: Files,
    /// The file of our own certificates, if there are any. A list that says nothing about them is refused.
    own: Option<PathBuf>,
    /// The AS that the list is fetched from.
    source: Option<Source>,
}

/// The files of roots and of revoked certificates, and their stamps when reading began.
pub(super) struct Files {
    roots: PathBuf,
    crl: Option<PathBuf>,
    /// None until both were read to the end.
    read: Option<[Stamp; 2]>,
}

impl Files {
    /// Call this before the files are first read. A change in between is then read again.
    pub(super) fn new(roots: PathBuf, crl: Option<PathBuf>) -> Self {
        let mut files = Self { roots, crl, read: None };
        files.read = Some(files.stamps());
        files
    }

    pub(super) fn roots(&self) -> &Path {
        &self.roots
    }

    pub(super) fn crl(&self) -> Option<&Path> {
        self.crl.as_deref()
    }

    fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.roots), self.crl.as_deref().and_then(stamp)]
    }

    /// Reads both files by `read` if they have changed since, or if `forced`. After a failure the next call reads
    /// again, even if nothing has changed, because the system may have failed: no descriptor, or no memory.
    fn read_again(
        &mut self,
        forced: bool,
        read: impl FnOnce(&Path, Option<&Path>) -> Result<Roots, Failure>,
    ) -> Option<Result<Roots, Failure>> {
        let stamps = Some(self.stamps());
        if !forced && stamps == self.read {
            return None;
        }
        let roots = read(&self.roots, self.crl.as_deref());
        self.read = stamps.filter(|_| roots.is_ok());
        Some(roots)
    }
}

/// An AS that gives out its list.
#[derive(Clone)]
pub(super) struct Source {
    /// HOST:PORT.
    place: String,
    name: Fqdn,
    crl: PathBuf,
}

impl Source {
    /// The source that the settings `crl-from` and `crl` name, with the AS's name.
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

    /// Keeps the file up to date. Reports each newly revoked certificate's name.
    async fn follow<R>(
        self,
        roots: PathBuf,
        own: Option<PathBuf>,
        tell: mpsc::Sender<R>,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) {
        let mut last = None;
        let mut known = BTreeSet::new();
        loop {
            let chain = chain(own.as_deref());
            // A list that does not count must not keep a better one away. The new one is signed itself.
            let trusted = files::roots(&roots, Some(&self.crl), &chain).or_else(|_| files::roots(&roots, None, &chain));
            let fetched = match trusted {
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

/// The certificates in this file as they are now.
fn chain(own: Option<&Path>) -> Vec<CertificateDer<'static>> {
    own.and_then(|own| files::certificates(own).ok()).unwrap_or_default()
}

impl Trust {
    pub(super) fn new(files: Files, own: Option<PathBuf>, source: Option<Source>) -> Self {
        Self { files, own, source }
    }

    /// The files that are read or written again.
    pub(super) fn later(&self) -> Vec<Later> {
        let files = [&self.files.roots].into_iter().chain(&self.files.crl).map(|path| Later::read(path));
        let fetched = self.source.iter().map(|source| Later::beside(&source.crl));
        files.chain(fetched).collect()
    }

    /// Sends the roots by `wrap` whenever the files have changed, or a SIGHUP came, and they can be used. Sends the
    /// names of revoked certificates by `revoked`, if given: at first all, later the new ones.
    pub(super) fn watch<R: Send + 'static>(
        mut self,
        tell: mpsc::Sender<R>,
        wrap: fn(Roots) -> R,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        if let Some(source) = self.source.clone() {
            let fetches = source.follow(self.files.roots.clone(), self.own.clone(), tell.clone(), revoked);
            tasks::forever("fetches the list of revoked certificates", fetches);
        }
        tasks::forever("reads roots and revoked certificates again", async move {
            let mut said: Option<(String, Instant)> = None;
            let mut known = BTreeSet::new();
            let mut is_new = self.files.read.is_some();
            loop {
                if let (Some(wrap), Some(crl), true) = (revoked, self.files.crl(), std::mem::take(&mut is_new)) {
                    let names = files::revoked_names(crl);
                    let new: Vec<_> = names.difference(&known).map(|(name, _)| name.clone()).collect();
                    known = names;
                    if !new.is_empty() && tell.send(wrap(new)).await.is_err() {
                        return;
                    }
                }
                let forced = tokio::select! {
                    () = tokio::time::sleep(LOOK) => false,
                    _ = hangup.recv() => true,
                };
                match self.files.read_again(forced, |roots, crl| files::roots(roots, crl, &chain(self.own.as_deref())))
                {
                    None => {}
                    Some(Ok(roots)) => {
                        (said, is_new) = (None, true);
                        tracing::info!("roots and revoked certificates were read again");
                        if tell.send(wrap(roots)).await.is_err() {
                            return;
                        }
                    }
                    Some(Err(error)) => {
                        let words = error.to_string();
                        if said.as_ref().is_none_or(|(known, at)| *known != words || at.elapsed() >= SAY) {
                            let remedy = error.remedy();
                            tracing::error!(%error, remedy, "roots and revoked certificates stay as read before; the files are read again every second");
                            said = Some((words, Instant::now()));
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{self, Ca};

    #[test]
    fn a_list_of_revoked_certificates_that_could_not_be_read_once_is_read_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        ca::init(folder.path(), &"example".parse().unwrap()).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let name: Fqdn = "a.example".parse().unwrap();
        ca.issue(&name, 30, false).unwrap();
        let good = |roots: &Path, crl: Option<&Path>| files::roots(roots, crl, &[]);
        let bad = |_: &Path, _: Option<&Path>| Err(Failure::other("too many open files"));
        let mut files = Files::new(folder.path().join("root.pem"), Some(folder.path().join("crl.pem")));
        assert!(files.read_again(false, good).is_none(), "nothing has changed");
        ca.revoke(&name).unwrap();
        for _ in 0..3 {
            assert!(files.read_again(false, bad).unwrap().is_err(), "it is tried again and again");
        }
        assert!(files.read_again(false, good).unwrap().is_ok(), "although the file is as it was at the failure");
        assert!(files.read_again(false, good).is_none());
        assert!(files.read_again(true, bad).unwrap().is_err(), "SIGHUP, and the file has not changed");
        assert!(files.read_again(false, good).unwrap().is_ok());
    }
}
