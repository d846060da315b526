//! The AS's side of sign-up: it issues certificates, and distributes the list of revoked certificates.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::pki::{PublicKey, Subject};
use cyphonic_core::store::{Store, StoreError};
use cyphonic_core::tls::channel::TlsChannel;
use cyphonic_core::tls::{self, ClientAuth, Identity, Roots};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{ALPN, Ask, CertificateRequest, Channel, LINE_BYTES, LIST_PATIENCE, PATIENCE, Reply, environment};
use crate::ca::{self, Ca, Lacking, Published};
use crate::error::{Code, Failure};
use crate::files::{self, Have, Stamp};
use crate::seats::{Seat, Seats};
use crate::store::{Invitation, SqliteStore};
use crate::{drive, names, tasks};

/// The largest number of connections at one time. Each may hold a TLS session and a certificate request.
const SEATS: usize = 64;
/// A name gets one certificate by renewals in this time. Daemons renew every sixty days.
const RENEWAL_EVERY: Duration = Duration::from_secs(86_400);
/// The largest number of connections from one source at one time. It is above one, because several devices may be
/// behind one NAT.
const SEATS_FROM_ONE: usize = 8;

/// The parts of the AS that sign-up needs.
pub struct Desk {
    folder: PathBuf,
    store: SqliteStore,
    /// The present settings, and the stamps of the files from which they come.
    tls: Mutex<(Option<[Stamp; 3]>, Arc<rustls::ServerConfig>)>,
    /// The AS's name, and the files of its certificate, key and roots.
    follows: Option<(Fqdn, [PathBuf; 3])>,
    /// The revocations when they were read last.
    given: Mutex<Option<Arc<Given>>>,
    /// Held while a certificate is renewed: of two requests at one time the later one gets the certificate of the
    /// other.
    renewing: Mutex<()>,
}

impl Desk {
    /// A desk for an authority's folder. `store` is a connection of its own to the database, so that the AS never waits
    /// for it. `roots` and `identity` are the AS's.
    pub fn new(folder: &Path, store: SqliteStore, roots: &Roots, identity: &Identity) -> Result<Self, Failure> {
        let tls = tls::server_config(&environment(), roots, identity, ClientAuth::Optional, ALPN);
        Ca::open(folder)?;
        let tls = Mutex::new((None, Arc::new(tls.map_err(Failure::other)?)));
        let (given, renewing) = (Mutex::default(), Mutex::default());
        Ok(Self { folder: folder.to_owned(), store, tls, follows: None, given, renewing })
    }

    /// Reads the AS's certificate, key and roots from these files again for each client.
    #[must_use]
    pub fn following(mut self, name: Fqdn, files: [PathBuf; 3]) -> Self {
        self.follows = Some((name, files));
        self
    }

    /// The settings of TLS from the present files. If a file cannot be read, the settings before are used.
    fn tls(&self) -> Arc<rustls::ServerConfig> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, files)) = &self.follows {
            let [certificate, key, roots] = files;
            let stamps = Some([certificate, key, roots].map(|file| files::stamp(file)));
            if stamps != tls.0
                && let Ok(new) = files::credentials(name, certificate, key, roots, None)
                && let Ok(new) =
                    tls::server_config(&environment(), &new.roots, &new.identity, ClientAuth::Optional, ALPN)
            {
                *tls = (stamps, Arc::new(new));
            }
        }
        tls.1.clone()
    }

    /// Serves sign-ups on a port of these addresses from now on; with an empty list, of all addresses.
    pub fn open(self, listen: &[IpAddr], port: u16) -> Result<SocketAddr, Failure> {
        let listeners = drive::listeners(listen, port, "signup-port")?;
        let place = listeners.first().map_or_else(|| Ok(([0; 4], port).into()), TcpListener::local_addr);
        let (desk, seats) = (Arc::new(self), Seats::new(SEATS, SEATS_FROM_ONE));
        for listener in listeners {
            tasks::forever("signs devices up", desk.clone().admit(listener, seats.clone()));
        }
        place.map_err(Failure::other)
    }

    /// Serves every client that gets a seat.
    async fn admit(self: Arc<Self>, listener: TcpListener, seats: Arc<Seats>) {
        loop {
            let Ok((tcp, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some((seat, gone)) = seats.take(from.ip()) else {
                tracing::debug!(%from, "too many sign-ups from there are under way");
                continue;
            };
            let desk = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    done = tokio::time::timeout(LIST_PATIENCE, desk.serve(tcp, &seat)) => match done {
                        Ok(Ok(Some(name))) => tracing::info!(%name, %from, "signed up"),
                        Ok(Ok(None)) => tracing::debug!(%from, "the list of revoked certificates was given out"),
                        Ok(Err(error)) if error.code == Code::Unreachable => {
                            tracing::debug!(%from, %error, "nobody was signed up");
                        }
                        Ok(Err(error)) => tracing::warn!(%from, %error, "nobody was signed up"),
                        Err(_) => tracing::debug!(%from, "nobody was signed up in time"),
                    },
                    _ = gone => tracing::debug!(%from, "made room for somebody else"),
                }
            });
        }
    }

    /// Serves one client. Gives the name that was signed up; `None` if the client wanted only the list.
    async fn serve(self: Arc<Self>, tcp: TcpStream, seat: &Seat) -> Result<Option<Fqdn>, Failure> {
        let tls = TlsChannel::server(self.tls()).map_err(Channel::broken)?;
        let mut channel = Channel { tls, tcp };
        let line = tokio::time::timeout(PATIENCE, channel.line(LINE_BYTES)).await;
        let line = line.map_err(|_| Channel::broken("no request in time"))??;
        if let Ok(Ask::List { have, .. }) = serde_json::from_slice(&line) {
            let reply = tokio::task::spawn_blocking(move || self.revocations(&have)).await.map_err(Failure::other)?;
            channel.send_bytes(&reply?).await?;
            return channel.end().await.map(|()| None);
        }
        let shown = channel.tls.peer_certificate().cloned();
        // The disk and other processes may delay the answer, so the seat is protected from now on.
        seat.at_work(true);
        let done = tokio::task::spawn_blocking(move || self.sign_up(&line, shown.as_ref())).await;
        seat.at_work(false);
        let done = done.map_err(Failure::other)?;
        channel
            .send(&match &done {
                Ok((_, chain)) => Reply::Certificate(chain.clone()),
                Err(error) => match error.code {
                    Code::Identity => Reply::Refused(error.to_string()),
                    Code::Duplicate => Reply::Taken(error.to_string()),
                    _ => Reply::Unavailable(error.to_string()),
                },
            })
            .await?;
        channel.end().await?;
        done.map(|(name, _)| Some(name))
    }

    /// What is revoked, as it is now.
    fn published(&self) -> Result<Arc<Given>, Failure> {
        let stamps: Vec<Stamp> = Ca::files_of_lists(&self.folder).iter().map(|file| files::stamp(file)).collect();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(given) = given.as_ref().filter(|given| given.stamps == stamps) {
            return Ok(given.clone());
        }
        let lists = Ca::open(&self.folder)?.published()?;
        let names = lists.names().map(|(name, since)| (name.to_string(), since)).collect();
        let whole = line(&Reply::List { list: lists.whole.clone(), names })?;
        Ok(given.insert(Arc::new(Given { stamps, lists, whole })).clone())
    }

    /// The answer to a client that has this much of the revocations.
    fn revocations(&self, have: &[Have]) -> Result<Bytes, Failure> {
        let given = match self.published() {
            Ok(given) => given,
            Err(error) => return line(&Reply::Unavailable(error.to_string())),
        };
        match given.lists.lacking(have)? {
            Lacking::Whole => Ok(given.whole.clone()),
            Lacking::Nothing => line(&Reply::Same),
            Lacking::Since(lists, names) => {
                let names = names.into_iter().map(|(name, since)| (name.to_string(), since)).collect();
                line(&Reply::Since { lists, names })
            }
        }
    }

    /// The name and its new certificate. `shown` is the client's certificate as TLS has verified it.
    fn sign_up(&self, line: &[u8], shown: Option<&CertificateDer<'static>>) -> Result<(Fqdn, String), Failure> {
        let request: CertificateRequest =
            serde_json::from_slice(line).map_err(|_| refuse("the request is not understood"))?;
        let name: Fqdn = request.name.parse().map_err(|_| refuse("the request has no name"))?;
        // The CA that signs may have changed since the last client.
        let ca = Ca::open(&self.folder)?;
        let key = pem::parse(&request.request).ok().and_then(|block| key_of(block.contents()));
        let key =
            key.ok_or_else(|| refuse("the certificate request is not good: Ed25519, and signed by its own key"))?;
        let chain = match (request.token, shown) {
            (Some(token), _) => self.enrol(&ca, &name, &token, key)?,
            (None, Some(shown)) => self.renew(&ca, &name, shown, key)?,
            (None, None) => return Err(refuse("there is neither a token nor a certificate")),
        };
        Ok((name, chain))
    }

    /// Makes a first certificate, by an invitation.
    fn enrol(&self, ca: &Ca, name: &Fqdn, token: &str, key: PublicKey) -> Result<String, Failure> {
        names::of_device(name, Some(ca.zone())).map_err(|failure| refuse(&failure.to_string()))?;
        let now = drive::since_epoch();
        let judge = |worth: Result<Invitation, StoreError>| match worth {
            Ok(Invitation::Good) => Ok(None),
            Ok(Invitation::Used(chain)) => Ok(Some(chain)),
            Ok(Invitation::None) => Err(refuse("there is no such invitation, or it has ended, or it was used")),
            Ok(Invitation::Taken) => {
                let remedy = "`cyphonic device invite NAME --replace`, if a new device shall take its place";
                Err(Failure::new(Code::Duplicate, format!("{name} is another device's name"), remedy))
            }
            Err(error) => Err(failed(&error)),
        };
        let known = judge(self.store.invitation(name, token, &key.0, now))?;
        self.refuse_outlived(name)?;
        if let Some(chain) = known {
            return Ok(chain);
        }
        self.refuse_revoked_key(name, key)?;
        let subject = self.subject(name, None)?;
        self.note(name)?;
        let chain = ca.certify(subject, key, ca::LEAF_DAYS, || self.refuse_outlived(name))?;
        // The invitation is used up last, so that it stays valid if anything before fails.
        let used = judge(self.store.take_invitation(name, token, &key.0, &chain, now))?;
        if used.is_none() {
            // At the beginning of time: it is no renewal that could be given again.
            let noted = self.store.note_renewal(name, &key.0, &ca.id(), (&chain, Duration::ZERO));
            noted.map_err(|error| failed(&error))?;
        }
        Ok(used.unwrap_or(chain))
    }

    /// Makes the next certificate for a client whose present certificate is valid. It is for the same key, so a thief
    /// of the key cannot replace it by another key, and sessions survive the renewal. A service is no device, but may
    /// renew its certificate too.
    fn renew(&self, ca: &Ca, name: &Fqdn, shown: &CertificateDer<'static>, key: PublicKey) -> Result<String, Failure> {
        if !tls::names(shown).contains(name) {
            return Err(refuse("the certificate is another's"));
        }
        let is_not_revoked = || {
            let revoked = self.published()?.lists.has_revoked(shown)?;
            if revoked { Err(refuse("the certificate was revoked")) } else { Ok(()) }
        };
        is_not_revoked()?;
        if tls::public_key(shown) != Some(key.0.to_vec()) {
            return Err(refuse(
                "a renewal is for the same key; another one takes an invitation, or `cyphonic ca issue`",
            ));
        }
        let is_service = names::of_device(name, Some(ca.zone())).is_err();
        if is_service {
            names::of_zone(name, ca.zone()).map_err(|failure| refuse(&failure.to_string()))?;
        } else {
            let device = self.store.device(NodeId::of(name)).map_err(|error| failed(&error))?;
            if !device.is_some_and(|device| device.certificate_login) {
                return Err(refuse("there is no device of that name that may log in by certificate"));
            }
        }
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chain) = self.renewed_today(ca, name, key)? {
            return Ok(chain);
        }
        let chain = if is_service {
            ca.certify_again(name.into(), key, ca::LEAF_DAYS, is_not_revoked)?
        } else {
            let subject = self.subject(name, tls::addresses(shown))?;
            self.note(name)?;
            ca.certify_again(subject, key, ca::LEAF_DAYS, is_not_revoked)?
        };
        let noted = self.store.note_renewal(name, &key.0, &ca.id(), (&chain, drive::since_epoch()));
        noted.map_err(|error| failed(&error))?;
        Ok(chain)
    }

    /// The certificate of the last renewal, if that was within [`RENEWAL_EVERY`] and counts still. So a name has few
    /// certificates at one time, and a list that takes them back has few entries, however often a device asks.
    fn renewed_today(&self, ca: &Ca, name: &Fqdn, key: PublicKey) -> Result<Option<String>, Failure> {
        let now = drive::since_epoch();
        // A clock that was ahead made certificates that do not count yet.
        let times = now.saturating_sub(RENEWAL_EVERY)..=now;
        let chain = self.store.renewed(name, &key.0, &ca.id(), times).map_err(|error| failed(&error))?;
        let Some(chain) = chain else { return Ok(None) };
        let certificate = pem::parse(&chain).map_err(Failure::other)?.into_contents().into();
        Ok((!self.published()?.lists.has_revoked(&certificate)?).then_some(chain))
    }

    /// Notes that the virtual addresses of a name are about to be in a certificate.
    fn note(&self, name: &Fqdn) -> Result<(), Failure> {
        let until = drive::since_epoch() + Duration::from_secs(ca::LEAF_DAYS * 86_400);
        self.store.note_certificate(name, until).map_err(|error| failed(&error))
    }

    /// Refuses an invitation that is older than a revocation of its name: the operator may have revoked the certificate
    /// and forgotten the invitation.
    fn refuse_outlived(&self, name: &Fqdn) -> Result<(), Failure> {
        let made = self.store.invited_at(name).map_err(|error| failed(&error))?.unwrap_or_default().as_secs();
        let revoked = self.published()?.lists.has_since(name, made);
        if revoked { Err(refuse("the name was revoked after this invitation was made")) } else { Ok(()) }
    }

    /// Refuses the key of a certificate that was revoked. A thief who has the key could use the new certificate, too,
    /// because all peers see it.
    fn refuse_revoked_key(&self, name: &Fqdn, key: PublicKey) -> Result<(), Failure> {
        let last = self.store.last_certificate(name).map_err(|error| failed(&error))?;
        let last = last.and_then(|(known, chain)| (known == key.0).then(|| pem::parse(&chain).ok()).flatten());
        let issued = files::certificates(&self.folder.join(format!("{name}.pem"))).unwrap_or_default();
        let issued = issued.into_iter().next().filter(|one| tls::public_key(one) == Some(key.0.to_vec()));
        for certificate in last.map(|block| block.into_contents().into()).into_iter().chain(issued) {
            if self.published()?.lists.has_revoked(&certificate)? {
                return Err(refuse("the certificate of this key was revoked: remove the key, so that another is made"));
            }
        }
        Ok(())
    }

    /// A device with its virtual addresses: those of its present certificate, or else those of the database.
    fn subject(&self, name: &Fqdn, shown: Option<Virtual>) -> Result<Subject, Failure> {
        let addresses = match shown {
            Some(shown) => shown,
            None => self.store.allocate(name).map_err(|error| failed(&error))?,
        };
        Ok(Subject { name: name.clone(), addresses: Some(addresses) })
    }
}

/// The revocations as the desk gives them out, read once and when they change.
struct Given {
    stamps: Vec<Stamp>,
    lists: Published,
    /// The line of the whole answer, which all clients share.
    whole: Bytes,
}

/// A reply as a line.
fn line(reply: &Reply) -> Result<Bytes, Failure> {
    let mut text = serde_json::to_vec(reply).map_err(Failure::other)?;
    text.push(b'\n');
    Ok(text.into())
}

fn refuse(what: &str) -> Failure {
    Failure::new(Code::Identity, what, "ask the operator for a new invitation")
}

/// The failure that the client gets. The path of the database is only in the AS's log.
fn failed(error: &StoreError) -> Failure {
    Failure::new(Code::Database, error.to_string(), "look at the AS's log")
}

/// The key of a certificate request, if the request is signed by it. The name comes from the invitation alone.
fn key_of(request: &[u8]) -> Option<PublicKey> {
    let (rest, request) = X509CertificationRequest::from_der(request).ok()?;
    let info = &request.certification_request_info;
    let key: [u8; 32] = info.subject_pki.subject_public_key.data.as_ref().try_into().ok()?;
    let ed25519 = info.subject_pki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519;
    let signed = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key)
        .verify(info.raw, &request.signature_value.data);
    (rest.is_empty() && ed25519 && signed.is_ok()).then_some(PublicKey(key))
}

#[cfg(test)]
mod tests {
    use cyphonic_core::pki;

    use super::*;

    #[test]
    fn a_request_counts_only_with_the_signature_of_its_own_key() {
        let name: Fqdn = "a.example".parse().unwrap();
        let request = pki::request(&name, &[7; 32]).unwrap();
        assert_eq!(key_of(&request), Some(pki::public_key(&[7; 32]).unwrap()));
        let good = key_of(&request);
        for at in 0..request.len() {
            let mut damaged = request.clone();
            damaged[at] ^= 1;
            // Some bytes are not signed and not read, so a change there has no effect.
            assert!(key_of(&damaged).is_none() || key_of(&damaged) == good, "byte {at} makes it another key's");
            assert_eq!(key_of(&request[..at]), None);
        }
        let mut unsigned = request.clone();
        *unsigned.last_mut().unwrap() ^= 1;
        assert_eq!(key_of(&unsigned), None);
    }
}
