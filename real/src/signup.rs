//! First enrolment (paper §4.3): a device that has nothing but an invitation gets its certificate from the AS, which is the
//! intermediate CA (§2.1).
//!
//! ```text
//! operator  cyphonic device invite NAME ── a token, good once ──▶ the device's owner
//! device    makes its key, which never leaves it
//! device ⇄ AS   TLS: the device verifies the AS, and has no certificate to show
//! device → AS   name, token, certificate request (RFC 2986: signed by the new key)
//! AS → device   the certificate, with those between it and the root
//! ```
//!
//! One JSON line each way. Who has no good token learns only that. On the same port everybody gets the list of revoked
//! certificates, which is no secret and signed ([`list`]): so nobody has to copy it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::conventional::login::{TlsChannel, TlsFailure};
use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::{self, PublicKey};
use cyphonic_core::store::StoreError;
use cyphonic_core::tls::{self, ClientAuth, Environment, Identity, Roots};
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::ca::{self, Ca};
use crate::drive::{self, Wall};
use crate::error::{Code, Failure};
use crate::files;
use crate::store::{Invitation, SqliteStore};

/// The port, if nothing else is said.
pub const PORT: u16 = 4433;
/// What both ends call this protocol.
const ALPN: &[u8] = b"cyphonic-signup";
/// The longest request, and the longest answer: a list of some hundred thousand certificates.
const LINE_BYTES: usize = 16 * 1024;
const LIST_BYTES: usize = 8 << 20;
/// How much of an answer is sealed at once.
const PIECE_BYTES: usize = 16 * 1024;
/// How long a sign-up may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most sign-ups under way.
const MOST: usize = 16;

/// What can be asked for.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Ask {
    /// The list of revoked certificates; the word is "revoked".
    List { list: String },
    /// A certificate.
    Certificate(Request),
}

#[derive(Deserialize, Serialize)]
struct Request {
    name: String,
    token: String,
    /// PEM.
    request: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// PEM: the certificate first.
    Certificate(String),
    /// The list of revoked certificates (PEM), and whose they were, since when.
    List { list: String, names: Vec<(String, u64)> },
    /// Why there is none.
    Refused(String),
    /// There is a device of that name already.
    Taken(String),
    /// The AS cannot do it now; later it can.
    Unavailable(String),
}

fn environment() -> Environment {
    Environment { provider: Arc::new(rustls::crypto::ring::default_provider()), clock: Arc::new(Wall), key_log: None }
}

/// TLS on a TCP connection.
struct Channel {
    tls: TlsChannel,
    tcp: TcpStream,
}

impl Channel {
    fn broken(error: impl std::fmt::Display) -> Failure {
        let remedy = "check `--as`, that the AS has `ca` set, and root.pem";
        Failure::new(Code::Unreachable, format!("the way to the AS: {error}"), remedy)
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let bytes = self.tls.take_output();
        self.tcp.write_all(&bytes).await.map_err(Self::broken)
    }

    async fn send(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(Failure::other)?;
        text.push(b'\n');
        for piece in text.chunks(PIECE_BYTES) {
            self.tls.send(piece);
            self.flush().await?;
        }
        Ok(())
    }

    /// One line; the handshake goes along by itself.
    async fn line(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            self.flush().await?;
            while let Some(piece) = self.tls.read() {
                line.extend_from_slice(&piece);
            }
            if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                line.truncate(end);
                return Ok(line);
            }
            if line.len() > most {
                return Err(Self::broken("a line without an end"));
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        let mut piece = [0; 4096];
        let length = self.tcp.read(&mut piece).await.map_err(Self::broken)?;
        if length == 0 {
            return Err(Self::broken("the other end has closed it"));
        }
        let received = self.tls.receive(&piece[..length]);
        self.flush().await?;
        received.map_err(|failure| distrust(&failure))
    }

    async fn end(&mut self) -> Result<(), Failure> {
        self.tls.close();
        self.flush().await?;
        let _ = self.tcp.shutdown().await;
        Ok(())
    }

    async fn shake_hands(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        while !self.tls.handshake_complete() {
            self.receive().await?;
        }
        Ok(())
    }
}

/// Why TLS came to nothing.
fn distrust(failure: &TlsFailure) -> Failure {
    let TlsFailure::Untrusted(why) = failure else {
        return if failure.is_about_dates() {
            clock("the other side's does not agree")
        } else {
            Channel::broken(failure)
        };
    };
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            clock(&format!("the other side's certificate counted until {}", files::civil(since(*not_after))))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            clock(&format!("the other side's certificate counts from {} on", files::civil(since(*not_before))))
        }
        why if tls::is_about_dates(why) => clock("the other side's certificate does not count at that time"),
        why => {
            let what = format!("the other side's certificate is not believed: {why}");
            let remedy = "use the root.pem of the AS's own `cyphonic ca init` (`--roots`), and its name (`--as-name`)";
            Failure::new(Code::Identity, what, remedy)
        }
    }
}

fn clock(how: &str) -> Failure {
    let now = files::civil(files::since_epoch());
    let what = format!("the clock and a certificate disagree: this machine's clock says {now}, {how}");
    Failure::new(Code::Clock, what, "compare `date -u` on both machines, set the wrong one, and try again")
}

fn since(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// What the AS needs to sign devices up.
pub struct Desk {
    folder: PathBuf,
    ca: Ca,
    store: Arc<SqliteStore>,
    tls: Arc<rustls::ServerConfig>,
}

impl Desk {
    /// With the authority's folder, the database and the AS's own papers.
    pub fn new(folder: &Path, store: Arc<SqliteStore>, roots: &Roots, identity: &Identity) -> Result<Self, Failure> {
        let tls = tls::server_config(&environment(), roots, identity, ClientAuth::Optional, ALPN);
        Ok(Self {
            folder: folder.to_owned(),
            ca: Ca::open(folder)?,
            store,
            tls: Arc::new(tls.map_err(Failure::other)?),
        })
    }

    /// Signs up whoever comes to this port of these addresses (of none: of all) and has an invitation, from now on.
    pub fn open(self, listen: &[IpAddr], port: u16) -> Result<SocketAddr, Failure> {
        let listeners = drive::listeners(listen, port, "signup-port")?;
        let place = listeners.first().map_or_else(|| Ok(([0; 4], port).into()), TcpListener::local_addr);
        let (desk, seats) = (Arc::new(self), Arc::new(Semaphore::new(MOST)));
        for listener in listeners {
            tokio::spawn(desk.clone().admit(listener, seats.clone()));
        }
        place.map_err(Failure::other)
    }

    /// Serves those who come, as long as there are seats.
    async fn admit(self: Arc<Self>, listener: TcpListener, seats: Arc<Semaphore>) {
        loop {
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            let Ok((tcp, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let desk = self.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(PATIENCE, desk.serve(tcp)).await {
                    Ok(Ok(Some(name))) => tracing::info!(%name, %from, "signed up"),
                    Ok(Ok(None)) => tracing::debug!(%from, "the list of revoked certificates was given out"),
                    Ok(Err(error)) => tracing::warn!(%from, %error, "nobody was signed up"),
                    Err(_) => tracing::warn!(%from, "nobody was signed up in time"),
                }
                drop(seat);
            });
        }
    }

    /// Who was signed up, if that is what was wanted.
    async fn serve(&self, tcp: TcpStream) -> Result<Option<Fqdn>, Failure> {
        let tls = TlsChannel::server(self.tls.clone()).map_err(Channel::broken)?;
        let mut channel = Channel { tls, tcp };
        let line = channel.line(LINE_BYTES).await?;
        if let Ok(Ask::List { .. }) = serde_json::from_slice(&line) {
            let reply = match (std::fs::read_to_string(self.folder.join("crl.pem")), self.ca.revoked()) {
                (Ok(list), Ok(names)) => {
                    let names = names.into_iter().map(|(name, since)| (name.to_string(), since)).collect();
                    Reply::List { list, names }
                }
                (Err(error), _) => Reply::Unavailable(format!("crl.pem: {error}")),
                (_, Err(error)) => Reply::Unavailable(error.to_string()),
            };
            channel.send(&reply).await?;
            return channel.end().await.map(|()| None);
        }
        let done = self.sign_up(&line);
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

    fn sign_up(&self, line: &[u8]) -> Result<(Fqdn, String), Failure> {
        let refuse = |what: &str| Failure::new(Code::Identity, what, "ask the operator for a new invitation");
        let request: Request = serde_json::from_slice(line).map_err(|_| refuse("the request is not understood"))?;
        let name: Fqdn = request.name.parse().map_err(|_| refuse("the request has no name"))?;
        let key = pem::parse(&request.request).ok().and_then(|block| key_of(block.contents()));
        let key =
            key.ok_or_else(|| refuse("the certificate request is not good: Ed25519, and signed by its own key"))?;
        let now = files::since_epoch();
        let judge = |worth: Result<Invitation, StoreError>| match worth {
            Ok(Invitation::Good) => Ok(()),
            Ok(Invitation::None) => Err(refuse("there is no such invitation, or it has ended, or it was used")),
            Ok(Invitation::Taken) => {
                let remedy = "`cyphonic device invite NAME --replace`, if a new device shall take its place";
                Err(Failure::new(Code::Duplicate, format!("{name} is another device's name"), remedy))
            }
            // The log of the AS has the database's path.
            Err(error) => Err(Failure::new(Code::Database, error.to_string(), "look at the AS's log")),
        };
        judge(self.store.invitation(&name, &request.token, now))?;
        let chain = self.ca.certify(&name, key, ca::LEAF_DAYS)?;
        // Last, so that an invitation that led to nothing still counts.
        judge(self.store.take_invitation(&name, &request.token, now))?;
        Ok((name, chain))
    }
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

/// What the AS has taken back.
pub struct Revoked {
    /// The list of certificates (PEM).
    pub list: String,
    /// Whose they were, and since when (seconds since 1970).
    pub names: BTreeSet<(Fqdn, u64)>,
}

/// What the AS has taken back, as it is now. `place` is HOST:PORT of its `signup-port`.
pub async fn list(place: &str, as_name: &Fqdn, roots: &Roots) -> Result<Revoked, Failure> {
    let tls = tls::client_config(&environment(), roots, None, ALPN).map_err(Failure::other)?;
    let tls = TlsChannel::client(Arc::new(tls), as_name).map_err(Channel::broken)?;
    let exchange = async {
        let mut channel = Channel { tls, tcp: TcpStream::connect(place).await.map_err(Channel::broken)? };
        channel.shake_hands().await?;
        channel.send(&Ask::List { list: "revoked".to_owned() }).await?;
        channel.line(LIST_BYTES).await
    };
    let line = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| Channel::broken("no answer in time"))??;
    match serde_json::from_slice(&line).map_err(Channel::broken)? {
        Reply::List { list, names } => {
            let names = names.into_iter().filter_map(|(name, since)| Some((name.parse().ok()?, since))).collect();
            Ok(Revoked { list, names })
        }
        Reply::Unavailable(why) => Err(Channel::broken(why)),
        _ => Err(Channel::broken("it answers something else")),
    }
}

/// What a device needs to sign up.
pub struct Invited {
    /// Its name.
    pub name: Fqdn,
    /// The AS's place for this.
    pub place: SocketAddr,
    /// The name in the AS's certificate.
    pub as_name: Fqdn,
    /// The certificates of the root CA.
    pub roots: PathBuf,
    /// What the operator gave.
    pub token: zeroize::Zeroizing<String>,
    /// Where certificate and key go, as NAME.pem and NAME.key.
    pub folder: PathBuf,
}

impl Invited {
    /// Makes a key, gets the certificate, writes both; where.
    pub async fn sign_up(self) -> Result<(PathBuf, PathBuf), Failure> {
        let (certificate, key) =
            (self.folder.join(format!("{}.pem", self.name)), self.folder.join(format!("{}.key", self.name)));
        if certificate.exists() || key.exists() {
            let what = format!("{}: there is one already", certificate.display());
            return Err(Failure::new(Code::Duplicate, what, "use it, or take it away first"));
        }
        let seed = ca::random::<32>()?;
        let request = pki::request(&self.name, &seed).map_err(Failure::other)?;
        let request = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", request));
        let roots = files::roots(&self.roots, None, &[])?;
        let tls = tls::client_config(&environment(), &roots, None, ALPN).map_err(Failure::other)?;
        let tls = TlsChannel::client(Arc::new(tls), &self.as_name).map_err(Channel::broken)?;
        let exchange = async {
            let mut channel = Channel { tls, tcp: TcpStream::connect(self.place).await.map_err(Channel::broken)? };
            channel.shake_hands().await?;
            let (name, token) = (self.name.to_string(), self.token.trim().to_owned());
            channel.send(&Request { name, token, request }).await?;
            channel.line(LINE_BYTES).await
        };
        let line =
            tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| Channel::broken("no answer in time"))??;
        match serde_json::from_slice(&line).map_err(Channel::broken)? {
            Reply::Refused(why) => {
                let remedy = "ask the operator for a new invitation: `cyphonic device invite NAME`";
                Err(Failure::new(Code::Identity, format!("the AS refuses: {why}"), remedy))
            }
            Reply::Taken(why) => {
                let remedy = "choose another name; if this device takes the other's place, ask the operator for \
                              `cyphonic device invite NAME --replace`";
                Err(Failure::new(Code::Duplicate, format!("the AS refuses: {why}"), remedy))
            }
            Reply::Unavailable(why) => {
                let remedy = "try again in a while: the invitation still counts; the AS's log says what is wrong";
                Err(Failure::new(Code::Unreachable, format!("the AS cannot do it now: {why}"), remedy))
            }
            Reply::List { .. } => Err(Channel::broken("it answers something else")),
            Reply::Certificate(chain) => {
                files::write_secret(&key, &ca::key_pem(&pki::private_key(&seed)))?;
                files::write_public(&certificate, &chain)?;
                // Whether all of it fits, before anybody relies on it.
                files::credentials(&self.name, &certificate, &key, &self.roots, None)?;
                Ok((certificate, key))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_core::store::VirtualRange;

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
            // Outside of what is signed there are bytes that nobody reads.
            assert!(key_of(&damaged).is_none() || key_of(&damaged) == good, "byte {at} makes it another key's");
            assert_eq!(key_of(&request[..at]), None);
        }
        let mut unsigned = request.clone();
        *unsigned.last_mut().unwrap() ^= 1;
        assert_eq!(key_of(&unsigned), None);
    }

    #[test]
    fn an_invited_device_gets_a_certificate_once_and_nobody_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        let name = |text: &str| -> Fqdn { text.parse().unwrap() };
        ca::init(&pki, &name("example")).unwrap();
        std::fs::remove_file(pki.join("root.key")).unwrap();
        let (certificate, key) = Ca::open(&pki).unwrap().issue(&name("as.example"), 1, false).unwrap();
        let roots = pki.join("root.pem");
        let papers = files::credentials(&name("as.example"), &certificate, &key, &roots, None).unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("a.db"), VirtualRange::default()).unwrap());
        let desk = Desk::new(&pki, store.clone(), &papers.roots, &papers.identity).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = desk.open(&[std::net::Ipv4Addr::LOCALHOST.into()], 0).unwrap().port();
            let invited = |who: &str, token: &str, to: &str| {
                let place = ([127, 0, 0, 1], port).into();
                let token = zeroize::Zeroizing::new(format!("{token}\n"));
                let folder = folder.path().join(to);
                std::fs::create_dir_all(&folder).unwrap();
                Invited { name: name(who), place, as_name: name("as.example"), roots: roots.clone(), token, folder }
            };
            let until = files::since_epoch() + Duration::from_secs(60);
            store.invite(&name("a.example"), "secret", until, false).unwrap();
            let refused = invited("a.example", "wrong", "1").sign_up().await.unwrap_err();
            assert!(refused.to_string().contains("no such invitation"), "{refused}");
            assert!(invited("b.example", "secret", "2").sign_up().await.is_err(), "another name");
            invited("a.example", "secret", "3").sign_up().await.unwrap();
            assert!(invited("a.example", "secret", "4").sign_up().await.is_err(), "a second time");
            assert!(store.devices().unwrap().iter().any(|(device, _)| device.name == name("a.example")));

            store.invite(&name("a.example"), "again", until, false).unwrap();
            let taken = invited("a.example", "again", "5").sign_up().await.unwrap_err();
            assert_eq!((taken.code, taken.to_string().contains("another device's name")), (Code::Duplicate, true));
            store.invite(&name("a.example"), "instead", until, true).unwrap();
            invited("a.example", "instead", "6").sign_up().await.unwrap();

            store.invite(&name("c.example"), "c", until, false).unwrap();
            let holder = rusqlite::Connection::open(folder.path().join("a.db")).unwrap();
            holder.execute_batch("BEGIN IMMEDIATE").unwrap();
            let locked = invited("c.example", "c", "7").sign_up().await.unwrap_err();
            assert_eq!((locked.code, locked.to_string().contains("locked")), (Code::Unreachable, true), "{locked}");
            holder.execute_batch("ROLLBACK").unwrap();
            invited("c.example", "c", "8").sign_up().await.unwrap();

            let place = format!("127.0.0.1:{port}");
            let list = super::list(&place, &name("as.example"), &papers.roots).await.unwrap();
            assert_eq!(list.list, std::fs::read_to_string(pki.join("crl.pem")).unwrap());
            assert!(list.names.is_empty());

            ca::init(&folder.path().join("other"), &name("example")).unwrap();
            let stranger = Invited { roots: folder.path().join("other/root.pem"), ..invited("d.example", "d", "9") };
            assert_eq!(stranger.sign_up().await.unwrap_err().code, Code::Identity, "another CA");
            assert_eq!(Ca::open(&pki).unwrap().revoke(&name("a.example")).unwrap().1, 2, "it can be revoked");
            let revoked = super::list(&place, &name("as.example"), &papers.roots).await.unwrap();
            assert_ne!(revoked.list, list.list);
            assert!(revoked.names.iter().all(|(whose, _)| *whose == name("a.example")) && !revoked.names.is_empty());
        });
    }
}
