//! The daemon's own certificate while it runs: read again when its files change, and renewed in time.
//!
//! A renewal signs the same key, so sessions stand: the role sends the new certificate on its links. Another key comes
//! only from the operator (`cyphonic ca issue --renew`) or by an invitation.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cyphonic_core::name::{Fqdn, NodeId};
use cyphonic_core::tls::Identity;
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

use super::privileges::Later;
use crate::error::Failure;
use crate::files::{self, Ends, Span, Stamp, stamp};
use crate::settings::Renew;
use crate::signup::{Applicant, Right};
use crate::{drive, tasks};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long after an attempt that failed the same error is logged again.
const SAY: Duration = Duration::from_secs(3_600);
/// The shortest and the longest pause after a renewal that failed. In between it is a hundredth of what is left of the
/// certificate, so that the AS may be away for long and there are attempts enough in the end.
const PAUSE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3_600)];
/// A renewal that gains less than this is of no use: the certificate ends with the CA.
const GAIN: Duration = Duration::from_secs(3_600);
/// Nodes that were enrolled together are renewed apart, by up to a twentieth of the certificate's time.
const APART: u32 = 20;

/// The files of a daemon's certificate.
#[derive(Clone)]
pub(super) struct Own {
    /// The name in the certificate.
    pub(super) name: Fqdn,
    /// The chain, as PEM. A renewal replaces the file.
    pub(super) certificate: PathBuf,
    /// The private key, as PEM.
    pub(super) key: PathBuf,
    /// The trust anchors, by which the AS is verified.
    pub(super) roots: PathBuf,
    /// Where the next certificate comes from, if it is fetched.
    pub(super) renewal: Option<Renewal>,
}

/// An AS that renews certificates.
#[derive(Clone)]
pub(super) struct Renewal {
    /// HOST:PORT of its `signup-port`, in the order in which they are tried.
    pub(super) places: Vec<String>,
    /// The name that the certificate of the AS must have.
    pub(super) as_name: Fqdn,
}

impl Own {
    /// What is read, or written, again.
    pub(super) fn later(&self) -> Vec<Later> {
        let written = self.renewal.iter().map(|_| Later::beside(&self.certificate));
        [Later::read(&self.certificate), Later::read(&self.key)].into_iter().chain(written).collect()
    }

    fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }

    /// Tells the role each certificate that is read, and everybody when it ends. `first` is the one that was read at
    /// the start.
    pub(super) fn watch<R: Send + 'static>(
        self,
        first: &[CertificateDer<'static>],
        tell: mpsc::Sender<R>,
        wrap: fn(Box<Identity>) -> R,
    ) -> watch::Receiver<Option<Ends>> {
        let (ends, told) = watch::channel(Ends::of(first));
        if let Some(renewal) = self.renewal.clone() {
            tasks::forever("renews the certificate", renewal.follow(self.clone()));
        }
        let mut known = first.to_vec();
        // What was replaced between the start and now is read too.
        let mut read = None;
        let mut said: Option<(String, Instant)> = None;
        tasks::forever("reads the certificate again", async move {
            loop {
                let stamps = Some(self.stamps());
                if stamps != read {
                    match files::credentials(&self.name, &self.certificate, &self.key, &self.roots, None) {
                        Ok(new) => {
                            (read, said) = (stamps, None);
                            if new.identity.chain != known {
                                known.clone_from(&new.identity.chain);
                                let until = files::civil(new.ends.own);
                                tracing::info!(name = %self.name, %until, "the certificate is another one now");
                                ends.send_replace(Some(new.ends));
                                if tell.send(wrap(Box::new(new.identity))).await.is_err() {
                                    return;
                                }
                            }
                        }
                        // Certificate and key are two files: they may not fit for a moment.
                        Err(error) => note(&mut said, &error, "the certificate before stays"),
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        told
    }
}

/// Logs an error, if it is another one or was not logged for a while.
fn note(said: &mut Option<(String, Instant)>, error: &Failure, meanwhile: &str) {
    let words = error.to_string();
    if said.as_ref().is_none_or(|(known, at)| *known != words || at.elapsed() >= SAY) {
        tracing::warn!(%error, remedy = error.remedy(), "{meanwhile}");
        *said = Some((words, Instant::now()));
    }
}

/// When a certificate of this time is renewed: after two thirds of it, and a little later that depends on the name.
fn due(name: &Fqdn, span: Span) -> Duration {
    let lasts = span.ends.saturating_sub(span.begins);
    let share = u32::from_be_bytes(*NodeId::of(name).0.first_chunk().expect("16 bytes"));
    span.begins + lasts * 2 / 3 + (lasts / APART).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

impl Renewal {
    /// As the settings `renew` and `renew-from` have it; `None` if certificates are not fetched.
    pub(super) fn new(renew: Option<Renew>, place: Option<String>, as_name: &Fqdn) -> Option<Self> {
        let is_on = renew != Some(Renew::Off);
        place.filter(|_| is_on).map(|place| Self { places: vec![place], as_name: as_name.clone() })
    }

    /// Renews the certificate in its file whenever that is due.
    async fn follow(self, own: Own) {
        let mut said = None;
        // By a clock that cannot be set: a civil clock that was ahead for a while would put the next try off.
        let mut next: Option<Instant> = None;
        loop {
            let now = drive::since_epoch();
            let span = files::certificates(&own.certificate).ok().and_then(|chain| Span::of(&chain[0]));
            let is_time = next.is_none_or(|next| Instant::now() >= next);
            if let Some(span) = span.filter(|span| is_time && now < span.ends && now >= due(&own.name, *span)) {
                match self.renew(&own).await {
                    Ok(()) => said = None,
                    Err(error) => note(&mut said, &error, "the certificate could not be renewed; it is tried again"),
                }
                next = Some(Instant::now() + (span.ends.saturating_sub(now) / 100).clamp(PAUSE[0], PAUSE[1]));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gets the next certificate from the first place that gives one.
    async fn renew(&self, own: &Own) -> Result<(), Failure> {
        let mut last = Failure::other("there is no AS to ask");
        for place in &self.places {
            let found = match tokio::time::timeout(PAUSE[0], tokio::net::lookup_host(place)).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => {
                    last = Failure::other(format!("{place}: {error}"));
                    continue;
                }
                Err(_) => {
                    last = Failure::other(format!("{place}: no answer of the DNS in time"));
                    continue;
                }
            };
            let applicant = Applicant {
                name: own.name.clone(),
                places: found,
                as_name: self.as_name.clone(),
                roots: own.roots.clone(),
                right: Right::Certificate { gain: GAIN },
                certificate: own.certificate.clone(),
                key: own.key.clone(),
            };
            match applicant.sign_up().await {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cyphonic_core::pki::{Authority, Validity};
    use cyphonic_core::store::{Device, Store, VirtualRange};

    use super::*;
    use crate::ca::{self, Ca};
    use crate::signup::Desk;
    use crate::store::SqliteStore;

    /// A certificate of this authority with any span, written beside its key.
    fn issue(pki: &std::path::Path, name: &Fqdn, span: [Duration; 2]) -> (PathBuf, PathBuf) {
        let facts: toml::Table = std::fs::read_to_string(pki.join("ca.toml")).unwrap().parse().unwrap();
        let time = |key: &str| Duration::from_secs(facts[key].as_integer().unwrap().unsigned_abs());
        let title = format!("example AS {}", facts["tag"].as_str().unwrap());
        let digits = std::fs::read_to_string(pki.join("ca.key")).unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        let seed: [u8; 32] = std::array::from_fn(byte);
        let lasts = Validity::new(time("not_before"), time("not_after")).unwrap();
        let own = files::certificates(&pki.join("ca.pem")).unwrap().remove(0);
        let authority = Authority::resumed(own, &seed, &title, lasts).unwrap();
        let identity = authority.issue(name, &[7; 32], 99, Validity::new(span[0], span[1]).unwrap()).unwrap();
        let (certificate, key) = (pki.join(format!("{name}.pem")), pki.join(format!("{name}.key")));
        let blocks = identity.chain.iter().map(|one| pem::encode(&pem::Pem::new("CERTIFICATE", one.to_vec())));
        files::write_public(&certificate, &blocks.collect::<String>()).unwrap();
        files::write_secret(&key, &ca::key_pem(identity.key_pkcs8())).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_certificate_in_its_last_third_is_renewed_for_the_same_key_and_the_role_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        let name = |text: &str| -> Fqdn { text.parse().unwrap() };
        ca::init(&pki, &name("example")).unwrap();
        let roots = pki.join("root.pem");
        let (certificate, key) = Ca::open(&pki).unwrap().issue(&name("as.example"), 1, false).unwrap();
        let auth = files::credentials(&name("as.example"), &certificate, &key, &roots, None).unwrap();
        let open = || SqliteStore::serving(&folder.path().join("a.db"), VirtualRange::default()).unwrap();
        open().put_device(&Device { name: name("a.example"), password: None, certificate_login: true }).unwrap();
        let now = drive::since_epoch();
        let second = Duration::from_secs;
        let (certificate, key) = issue(&pki, &name("a.example"), [now.saturating_sub(second(1_000)), now + second(60)]);
        let first = files::certificates(&certificate).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let desk = Desk::new(&pki, open(), &auth.roots, &auth.identity).unwrap();
            let port = desk.open(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap().port();
            let renewal = Renewal::new(None, Some(format!("127.0.0.1:{port}")), &name("as.example"));
            assert!(Renewal::new(Some(Renew::Off), Some(String::new()), &name("as.example")).is_none());
            let own = Own { name: name("a.example"), certificate: certificate.clone(), key, roots, renewal };
            let (tell, mut told) = mpsc::channel(4);
            let ends = own.watch(&first, tell, |identity| identity);
            let new = tokio::time::timeout(second(20), told.recv()).await.expect("it is told in time").unwrap();
            let key = |chain: &[CertificateDer<'_>]| cyphonic_core::tls::public_key(&chain[0]);
            assert_eq!(key(&new.chain), key(&first));
            assert_eq!(new.chain, files::certificates(&certificate).unwrap());
            assert!(ends.borrow().unwrap().own > now + second(80 * 86_400));
        });
    }

    #[test]
    fn certificates_are_renewed_in_the_last_third_and_not_all_at_once() {
        let day = |n: u64| Duration::from_secs(n * 86_400);
        let span = Span { begins: day(100), ends: day(190) };
        let dues: Vec<Duration> = (0..50).map(|n| due(&format!("n{n}.example").parse().unwrap(), span)).collect();
        assert!(dues.iter().all(|due| (day(160)..=day(165)).contains(due)), "{dues:?}");
        assert!(dues.iter().max().unwrap().saturating_sub(*dues.iter().min().unwrap()) > day(3));
    }
}
