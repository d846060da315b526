//! The daemon's trust anchors while it runs. The files of root certificates and of revoked certificates are read again
//! when they change. If the AS gives out the list of revoked certificates, the daemon fetches the list into its file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cyphonic_core::name::Fqdn;
use cyphonic_core::tls::Roots;
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::privileges::Later;
use crate::error::{Code, Failure};
use crate::files::{Stamp, Told, TrustFiles};
use crate::signup::Revoked;
use crate::{files, signup, tasks};

/// The files are checked this often. After the list of revoked certificates was replaced, a session with a revoked
/// certificate ends within this time and a moment more.
const LOOK: Duration = Duration::from_secs(1);

/// How often the node asks the AS for its list.
const FETCH: Duration = Duration::from_secs(10);

/// The same error is logged again only after this time. The files are read again every [`LOOK`] after a failure, and
/// each attempt may fail in the same way.
const SAY: Duration = Duration::from_secs(60);

/// The files and the source of trust anchors.
pub(super) struct Trust {
    files: Files,
    /// The file of our own certificates, if there are any. A list that says nothing about them is refused.
    own: Option<PathBuf>,
    /// The AS that the list is fetched from.
    source: Option<Source>,
}

/// The largest number of names that the role is told at one time. The role ends the access of each, and packets wait
/// meanwhile.
const TOLD_AT_ONCE: usize = 256;

/// The files of roots and of revoked certificates, and their stamps when reading began.
pub(super) struct Files {
    files: TrustFiles,
    /// `None` after a failed attempt, until all files have been read.
    read: Option<[Stamp; 3]>,
}

impl Files {
    /// Call this before the files are first read. If they change between this call and the reading, they are read
    /// again.
    pub(super) fn new(roots: PathBuf, crl: Option<PathBuf>) -> Self {
        let files = TrustFiles::new(roots, crl);
        let read = Some(files.stamps());
        Self { files, read }
    }

    pub(super) fn roots(&self) -> &Path {
        self.files.roots()
    }

    pub(super) fn crl(&self) -> Option<&Path> {
        self.files.crl()
    }

    /// The stamps of the files, if they have changed since they were read, or if `forced`.
    fn due(&self, forced: bool) -> Option<[Stamp; 3]> {
        let stamps = self.files.stamps();
        (forced || Some(stamps) != self.read).then_some(stamps)
    }

    /// Notes that the files with these stamps were read (`good`), or could not be read. After a failure they are due
    /// again even if they have not changed, because the cause may be the system: no file descriptor or no memory left.
    fn were_read(&mut self, stamps: [Stamp; 3], good: bool) {
        self.read = good.then_some(stamps);
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
                let remedy = "set `crl` to the file that the list is fetched into; `ca init` wrote the first one";
                Err(Failure::new(Code::Config, "`crl-from` is set, but `crl` is not", remedy))
            }
        }
    }

    /// Keeps the files up to date. Reports each newly revoked certificate's name.
    async fn follow<R>(
        self,
        files: TrustFiles,
        own: Option<PathBuf>,
        tell: mpsc::Sender<R>,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) {
        let mut last = None;
        let mut told = Told::default();
        loop {
            let done = self.fetch(&files, own.as_deref(), &mut told).await;
            let trouble = done.as_ref().err().map(ToString::to_string);
            match done {
                Ok(new) => {
                    if let Some(wrap) = revoked
                        && tell_all(&tell, wrap, new).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) if trouble != last => {
                    tracing::warn!(%error, remedy = error.remedy(), from = %self.place, "the list of revoked certificates \
                        could not be fetched; the earlier list stays in use");
                }
                Err(_) => {}
            }
            last = trouble;
            tokio::time::sleep(FETCH).await;
        }
    }

    /// Fetches what is new, and writes it into the files. Returns the names that the role was not told yet.
    async fn fetch(&self, files: &TrustFiles, own: Option<&Path>, told: &mut Told) -> Result<Vec<Fqdn>, Failure> {
        let chain = chain(own);
        let (known, shown, crl) = (files.clone(), chain.clone(), self.crl.clone());
        let (trusted, have) = beside(move || {
            // A list that cannot be used must not keep a better one away, so the AS is then verified with the roots
            // alone. The new list has a signature of its own.
            let trusted = known.read(&shown).or_else(|_| files::roots(known.roots(), None, &shown))?;
            Ok((trusted, if crl.exists() { known.have(&shown) } else { Vec::new() }))
        })
        .await?;
        let (names, is_new) = match signup::list(&self.place, &self.name, &trusted, have).await? {
            Revoked::Same => return Ok(Vec::new()),
            Revoked::Whole { list, names } => {
                let files = files.clone();
                (names, beside(move || files.take_whole(&chain, &list)).await?)
            }
            Revoked::Since { lists, names } => {
                let files = files.clone();
                let names = beside(move || files.take_delta(&chain, &lists, &names).map(|()| names)).await?;
                (names, true)
            }
        };
        if is_new {
            tracing::info!(from = %self.place, "a newer list of revoked certificates was fetched");
        }
        Ok(told.new_of(names))
    }
}

/// Does work on files in another thread, because the role's packets must not wait.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::other)?
}

/// Tells the role the names of revoked certificates, at most [`TOLD_AT_ONCE`] at a time.
async fn tell_all<R>(
    tell: &mpsc::Sender<R>,
    wrap: fn(Vec<Fqdn>) -> R,
    names: Vec<Fqdn>,
) -> Result<(), mpsc::error::SendError<R>> {
    for some in names.chunks(TOLD_AT_ONCE) {
        tell.send(wrap(some.to_vec())).await?;
    }
    Ok(())
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
        let files = [self.files.roots()].into_iter().chain(self.files.crl()).map(Later::read);
        let fetched = self.source.iter().map(|source| Later::beside(&source.crl));
        files.chain(fetched).collect()
    }

    /// Sends the roots, wrapped by `wrap`, whenever the files have changed or a SIGHUP came, if the files can be used.
    /// If `revoked` is given, sends the names of revoked certificates, wrapped by it: first all names, later the new
    /// ones.
    pub(super) fn watch<R: Send + 'static>(
        mut self,
        tell: mpsc::Sender<R>,
        wrap: fn(Roots) -> R,
        revoked: Option<fn(Vec<Fqdn>) -> R>,
    ) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        if let Some(source) = self.source.clone() {
            let fetches = source.follow(self.files.files.clone(), self.own.clone(), tell.clone(), revoked);
            tasks::forever("fetches the list of revoked certificates", fetches);
        }
        tasks::forever("reads roots and revoked certificates again", async move {
            let mut said: Option<(String, Instant)> = None;
            let mut told = Told::default();
            let mut is_new = self.files.read.is_some();
            loop {
                if let (Some(wrap), Some(crl), true) = (revoked, self.files.crl(), std::mem::take(&mut is_new)) {
                    let (crl, mut known) = (crl.to_owned(), std::mem::take(&mut told));
                    let read = beside(move || {
                        let new = known.new_in(&crl);
                        Ok((known, new))
                    });
                    let Ok((known, new)) = read.await else { return };
                    told = known;
                    if tell_all(&tell, wrap, new).await.is_err() {
                        return;
                    }
                }
                let forced = tokio::select! {
                    () = tokio::time::sleep(LOOK) => false,
                    _ = hangup.recv() => true,
                };
                let Some(stamps) = self.files.due(forced) else { continue };
                let (files, own) = (self.files.files.clone(), self.own.clone());
                let read = beside(move || files.read(&chain(own.as_deref()))).await;
                self.files.were_read(stamps, read.is_ok());
                match read {
                    Ok(roots) => {
                        (said, is_new) = (None, true);
                        tracing::info!("roots and revoked certificates were read again");
                        if tell.send(wrap(roots)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
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
    use std::net::Ipv4Addr;

    use cyphonic_core::store::VirtualRange;
    use cyphonic_core::tls::Environment;

    use super::*;
    use crate::ca::{self, Ca};
    use crate::drive::Wall;
    use crate::store::SqliteStore;

    #[test]
    fn a_list_of_revoked_certificates_that_could_not_be_read_once_is_read_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        ca::init(folder.path(), &"example".parse().unwrap()).unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let name: Fqdn = "a.example".parse().unwrap();
        ca.issue(&name, 30, false).unwrap();
        let mut files = Files::new(folder.path().join("root.pem"), Some(folder.path().join("crl.pem")));
        assert!(files.due(false).is_none(), "nothing has changed");
        ca.revoke(&name).unwrap();
        for _ in 0..3 {
            let stamps = files.due(false).expect("it is tried again and again");
            files.were_read(stamps, false);
        }
        let stamps = files.due(false).expect("due again although the file has not changed since the failure");
        let good = files.files.read(&[]).is_ok();
        files.were_read(stamps, good);
        assert!(files.due(false).is_none());
        let stamps = files.due(true).expect("due after a SIGHUP although the file has not changed");
        files.were_read(stamps, false);
        assert!(files.due(false).is_some());
    }

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    /// Adds certificates that were never issued to the CA's file of revoked certificates.
    fn revoke_many(pki: &Path, many: std::ops::Range<u32>) {
        use std::io::Write;
        let mut lines = Vec::new();
        for n in many {
            writeln!(lines, "{:016x} 1700000000 n{n}.example", u64::from(n) << 20 | 1).unwrap();
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(pki.join("revoked")).unwrap();
        file.write_all(&lines).unwrap();
    }

    #[test]
    fn two_hundred_thousand_revocations_are_fetched_once_and_then_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let (pki, node) = (folder.path().join("pki"), folder.path().join("node"));
        ca::init(&pki, &name("example")).unwrap();
        std::fs::create_dir(&node).unwrap();
        let issue = |who: &str| Ca::open(&pki).unwrap().issue(&name(who), 30, false).unwrap();
        let revoke = |who: &str| Ca::open(&pki).unwrap().revoke(&name(who)).unwrap();
        let [(certificate, key), (own, _), (b, _), (c, _), (d, _)] =
            ["as.example", "a.example", "b.example", "c.example", "d.example"].map(issue);
        let [roots, crl] = ["root.pem", "crl.pem"].map(|file| node.join(file));
        std::fs::copy(pki.join("root.pem"), &roots).unwrap();
        std::fs::copy(pki.join("crl.pem"), &crl).unwrap();
        revoke_many(&pki, 0..200_000);
        revoke("b.example");

        let credentials = files::credentials(&name("as.example"), &certificate, &key, &roots, None).unwrap();
        let open = || SqliteStore::serving(&folder.path().join("a.db"), VirtualRange::default()).unwrap();
        let desk = signup::Desk::new(&pki, open(), &credentials.roots, &credentials.identity).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let port = runtime.block_on(async { desk.open(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap().port() });
        let trust = TrustFiles::new(roots, Some(crl.clone()));
        let as_name = name("as.example");
        let source = Source::new(Some(format!("127.0.0.1:{port}")), Some(&crl), &as_name).unwrap().unwrap();
        let mut told = Told::default();
        let mut fetch = || {
            let begun = Instant::now();
            let new = runtime.block_on(source.fetch(&trust, Some(&own), &mut told)).unwrap();
            (new, begun.elapsed())
        };
        let env = || Environment {
            provider: std::sync::Arc::new(rustls::crypto::ring::default_provider()),
            clock: std::sync::Arc::new(Wall),
            key_log: None,
        };
        // Whether the node takes these certificates, and how long it took to find out.
        let trusts = |of: &Path| {
            let begun = Instant::now();
            let judge = trust.read(&chain(Some(&own))).unwrap().judge(&env()).unwrap();
            (judge.check(&chain(Some(of))).is_ok(), begun.elapsed())
        };

        let (new, whole) = fetch();
        assert_eq!(new.len(), 200_001);
        let (is_good, first) = trusts(&b);
        assert!(!is_good && trusts(&c).0 && trusts(&d).0);
        assert_eq!(fetch().0, [], "there is nothing new");
        let before = files::stamp(&crl);
        revoke("c.example");
        let (new, one) = fetch();
        assert_eq!(new, [name("c.example")]);
        assert_eq!(files::stamp(&crl), before, "the whole list stays as it is");
        let (is_good, later) = trusts(&c);
        assert!(!is_good && !trusts(&b).0 && trusts(&d).0);
        println!("fetched {whole:?}, read {first:?}; one more: fetched {one:?}, read {later:?}");
        // The limits allow for a busy machine, and for a test build, which is little optimised.
        assert!(first < Duration::from_secs(3) && later < Duration::from_millis(100), "{first:?}, {later:?}");

        // A daemon that starts now reads both the whole list and the delta. Once the whole list is replaced, the delta
        // of the earlier list has no effect.
        let restarted = TrustFiles::new(trust.roots().to_owned(), Some(crl.clone()));
        assert_eq!(restarted.have(&chain(Some(&own))), trust.have(&chain(Some(&own))));
        revoke_many(&pki, 300_000..305_000);
        revoke("d.example");
        let (new, _) = fetch();
        assert_eq!(new.len(), 5_001, "too many for a delta");
        assert_ne!(files::stamp(&crl), before);
        assert!([&b, &c, &d].iter().all(|of| !trusts(of).0));
        assert_eq!(fetch().0, []);
    }

    #[test]
    fn what_was_fetched_counts_though_it_cannot_be_written_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        ca::init(&pki, &name("example")).unwrap();
        let issue = |who: &str| Ca::open(&pki).unwrap().issue(&name(who), 30, false).unwrap().0;
        let (own, others) = (issue("a.example"), ["b.example", "c.example"].map(issue));
        // The name of a file that is about to replace this one is too long for the file system. It is as with a full
        // disk: what is there can be read, and nothing can be written.
        let crl = folder.path().join("c".repeat(240));
        std::fs::copy(pki.join("crl.pem"), &crl).unwrap();
        let mut files = Files::new(pki.join("root.pem"), Some(crl.clone()));
        let trust = files.files.clone();
        let own = chain(Some(&own));
        let env = Environment {
            provider: std::sync::Arc::new(rustls::crypto::ring::default_provider()),
            clock: std::sync::Arc::new(Wall),
            key_log: None,
        };
        let trusted =
            |roots: Roots| others.clone().map(|of| roots.judge(&env).unwrap().check(&chain(Some(&of))).is_ok());
        assert_eq!(trusted(trust.read(&own).unwrap()), [true, true]);
        for (who, whole, left) in [("b.example", false, [false, true]), ("c.example", true, [false, false])] {
            Ca::open(&pki).unwrap().revoke(&name(who)).unwrap();
            let published = Ca::open(&pki).unwrap().published().unwrap();
            if whole {
                assert!(trust.take_whole(&own, &published.whole).unwrap(), "it is newer");
            } else {
                let ca::Lacking::Since(lists, _) = published.lacking(&trust.have(&own)).unwrap() else { panic!("all") };
                trust.take_delta(&own, &lists, &std::collections::BTreeSet::new()).unwrap();
            }
            let stamps = files.due(false).expect("the daemon reads them again");
            files.were_read(stamps, true);
            assert_eq!(trusted(trust.read(&own).unwrap()), left, "{who}");
        }
        // The operator copies a list by hand.
        std::fs::write(&crl, std::fs::read(pki.join("crl.pem")).unwrap()).unwrap();
        assert!(files.due(false).is_some());
        assert_eq!(trusted(trust.read(&own).unwrap()), [false, false]);
    }

    #[test]
    fn a_revocation_is_told_once_whatever_file_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let crl = folder.path().join("crl.pem");
        let delta = folder.path().join("crl.pem.delta");
        let (a, b, c) = (name("a.example"), name("b.example"), name("c.example"));
        std::fs::write(&crl, files::lines([(&a, 1), (&b, 2)])).unwrap();
        let mut told = Told::default();
        assert_eq!(told.new_in(&crl), [a.clone(), b.clone()]);
        assert_eq!(told.new_in(&crl), []);
        std::fs::write(&delta, files::lines([(&b, 2), (&c, 3)])).unwrap();
        assert_eq!(told.new_in(&crl), std::slice::from_ref(&c));
        std::fs::write(&crl, files::lines([(&a, 1), (&b, 2), (&c, 3), (&a, 4)])).unwrap();
        assert_eq!(told.new_in(&crl), [a], "another certificate of the name");
    }
}
