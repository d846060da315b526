//! First enrolment (paper §4.3): a device with only an invitation gets its certificate from the AS, which is the
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
//! Request and answer are one JSON line each. A client without a valid token learns only that the token is not valid. A
//! lost answer does no harm: the key is on the device's disk before the invitation is used, and the AS gives the same
//! key the same answer while the invitation is valid.
//!
//! With a certificate that is still valid, a device gets the next one for the same key. It shows the certificate in
//! place of a token.
//!
//! On the same port every client gets the list of revoked certificates ([`list`]), so that operators need not copy it.
//! The list is public and signed.

mod desk;
#[cfg(test)]
mod fleet;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::pki;
use cyphonic_core::tls::channel::{TlsChannel, TlsFailure};
use cyphonic_core::tls::{self, Environment, Identity, Roots};
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use desk::Desk;

use crate::drive::{self, Wall};
use crate::error::{Code, Failure};
use crate::files::{Ends, Have};
use crate::{ca, files, names};

/// The default of `signup-port`.
pub const PORT: u16 = 4433;
/// The application protocol (ALPN) of both ends.
const ALPN: &[u8] = b"cyphonic-signup";
/// The longest request, and the longest answer: a list of half a million certificates.
const LINE_BYTES: usize = 16 * 1024;
const LIST_BYTES: usize = 64 << 20;
/// The longest certificate, and how long it may take.
const LINE: (usize, Duration) = (LINE_BYTES, PATIENCE);
/// The length of the pieces in which an answer is encrypted, bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// How long a sign-up may take once there is a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a list, which may be of many megabytes. It is fetched whole once, and then what is new.
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// How long one address of the AS may take to answer before the next one is tried.
const ATTEMPT: Duration = Duration::from_secs(3);

/// A request.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Ask {
    /// The list of revoked certificates; the word is "revoked". `have`: what is there of it. An AS of 0.1.0 gives the
    /// whole list nevertheless.
    List {
        list: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        have: Vec<Have>,
    },
    /// A certificate.
    Certificate(CertificateRequest),
}

#[derive(Deserialize, Serialize)]
struct CertificateRequest {
    name: String,
    /// `None` if the device shows its present certificate.
    token: Option<String>,
    /// PEM.
    request: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// PEM: the certificate first.
    Certificate(String),
    /// The list of revoked certificates (PEM), with the names, and since when.
    List { list: String, names: Vec<(String, u64)> },
    /// What was revoked since the list that the client has: delta lists (PEM) and the names.
    Since { lists: String, names: Vec<(String, u64)> },
    /// The client has all.
    Same,
    /// Why the request is refused.
    Refused(String),
    /// There is a device of that name already.
    Taken(String),
    /// The AS cannot do it now, but may later.
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
        self.send_bytes(&text).await
    }

    async fn send_bytes(&mut self, text: &[u8]) -> Result<(), Failure> {
        for piece in text.chunks(PIECE_BYTES) {
            self.tls.send(piece);
            self.flush().await?;
        }
        Ok(())
    }

    /// Reads one line. The handshake is done on the way.
    async fn line(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            self.flush().await?;
            let known = line.len();
            while let Some(piece) = self.tls.read() {
                line.extend_from_slice(&piece);
            }
            // What was there before has no end.
            if let Some(end) = line[known..].iter().position(|&byte| byte == b'\n') {
                line.truncate(known + end);
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

/// The failure of a command because of an error of TLS.
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
    let now = files::civil(drive::since_epoch());
    let what = format!("the clock and a certificate disagree: this machine's clock says {now}, {how}");
    Failure::new(Code::Clock, what, "compare `date -u` on both machines, set the wrong one, and try again")
}

fn since(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// The revocations of the AS.
pub enum Revoked {
    /// All of them.
    Whole {
        /// The list of revoked certificates (PEM).
        list: String,
        /// The names, and since when they are revoked (seconds since 1970).
        names: BTreeSet<(Fqdn, u64)>,
    },
    /// Those since the list that is there.
    Since {
        /// Delta lists (PEM).
        lists: String,
        /// As above.
        names: BTreeSet<(Fqdn, u64)>,
    },
    /// There is nothing new.
    Same,
}

/// Fetches the revocations of the AS that are not in what is there. `place` is HOST:PORT of its `signup-port`.
pub async fn list(place: &str, as_name: &Fqdn, roots: &Roots, have: Vec<Have>) -> Result<Revoked, Failure> {
    let places = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(place)).await;
    let places = places.map_err(|_| Channel::broken(format!("{place}: no answer of the DNS in time")))?;
    let places: Vec<_> = places.map_err(|error| Channel::broken(format!("{place}: {error}")))?.collect();
    let ask = Ask::List { list: "revoked".to_owned(), have };
    let reply = exchange(&places, as_name, roots, None, &ask, (LIST_BYTES, LIST_PATIENCE)).await?;
    let read = |names: Vec<(String, u64)>| {
        names.into_iter().filter_map(|(name, since)| Some((name.parse().ok()?, since))).collect()
    };
    match reply {
        Reply::List { list, names } => Ok(Revoked::Whole { list, names: read(names) }),
        Reply::Since { lists, names } => Ok(Revoked::Since { lists, names: read(names) }),
        Reply::Same => Ok(Revoked::Same),
        Reply::Unavailable(why) => Err(Channel::broken(why)),
        _ => Err(Channel::broken("it answers something else")),
    }
}

/// Sends one request to the AS and reads its answer of at most this many bytes, for at most this time. `identity` is
/// shown, if there is one.
async fn exchange(
    places: &[SocketAddr],
    as_name: &Fqdn,
    roots: &Roots,
    identity: Option<&Identity>,
    ask: &Ask,
    (most, patience): (usize, Duration),
) -> Result<Reply, Failure> {
    let tls = tls::client_config(&environment(), roots, identity, ALPN).map_err(Failure::other)?;
    let tls = TlsChannel::client(Arc::new(tls), as_name).map_err(Channel::broken)?;
    let mut channel = Channel { tls, tcp: connect(places).await? };
    let exchange = async {
        channel.shake_hands().await?;
        channel.send(ask).await?;
        channel.line(most).await
    };
    let line = tokio::time::timeout(patience, exchange).await.map_err(|_| Channel::broken("no answer in time"))??;
    let reply = tokio::task::spawn_blocking(move || serde_json::from_slice(&line)).await;
    reply.map_err(Failure::other)?.map_err(Channel::broken)
}

/// A connection to the first of these addresses that accepts one.
async fn connect(places: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut troubles = Vec::new();
    for place in alternating(places) {
        match drive::reach(place, ATTEMPT).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                troubles.push(format!("{place}: no answer in {} s", ATTEMPT.as_secs()));
            }
            Err(error) => troubles.push(format!("{place}: {error}")),
        }
    }
    Err(Channel::broken(troubles.join("; ")))
}

/// The addresses in an order that alternates the families, because one family may not work.
fn alternating(places: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = places.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = places.iter().partition(|place| place.is_ipv6() == first);
    let turns = one.len().max(other.len());
    (0..turns).flat_map(|turn| [one.get(turn), other.get(turn)]).flatten().copied().collect()
}

/// What entitles a device to a certificate.
pub enum Right {
    /// The token that the operator gave.
    Invitation(zeroize::Zeroizing<String>),
    /// The certificate that it has. The next one is for the same key.
    Certificate {
        /// By how much later than the present one the next one has to end.
        gain: Duration,
    },
}

/// A device that wants a certificate.
pub struct Applicant {
    /// Its name.
    pub name: Fqdn,
    /// The addresses of the AS's `signup-port`.
    pub places: Vec<SocketAddr>,
    /// The name in the AS's certificate.
    pub as_name: Fqdn,
    /// The certificates of the root CA.
    pub roots: PathBuf,
    /// Its token or its present certificate.
    pub right: Right,
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl Applicant {
    /// Gets the certificate and writes it. If there is no key yet, the key is made and written first. Returns the files
    /// of both.
    pub async fn sign_up(self) -> Result<(PathBuf, PathBuf), Failure> {
        if matches!(self.right, Right::Invitation(_)) {
            names::of_device(&self.name, None)?;
        }
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        let mut new = certificate.clone().into_os_string();
        new.push(".part");
        let new = PathBuf::from(new);
        let roots = files::roots(&self.roots, None, &[])?;
        let (identity, token) = match &self.right {
            Right::Certificate { .. } => {
                let own = files::credentials(&self.name, &certificate, &key, &self.roots, None)?;
                (Some(own.identity), None)
            }
            Right::Invitation(_) if certificate.exists() => {
                let what = format!("{}: there is one already", certificate.display());
                let remedy = "use it, or renew it (--renew); for a new key take it and the key away first";
                return Err(Failure::new(Code::Duplicate, what, remedy));
            }
            Right::Invitation(token) => {
                let folder = certificate.parent().unwrap_or(Path::new("."));
                std::fs::create_dir_all(folder).map_err(|error| {
                    let what = format!("{}: {error}", folder.display());
                    Failure::new(Code::Config, what, "give a folder that you may write in: --out")
                })?;
                (None, Some(token.trim().to_owned()))
            }
        };
        // The key of an earlier try is used again, because the AS may know it already.
        if !key.exists() {
            files::write_secret(&key, &ca::key_pem(&pki::private_key(&*ca::random::<32>()?)))?;
        }
        let request = pki::request(&self.name, &*files::ed25519_seed(&key)?).map_err(Failure::other)?;
        let request = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", request));
        let ask = Ask::Certificate(CertificateRequest { name: self.name.to_string(), token, request });
        let reply = exchange(&self.places, &self.as_name, &roots, identity.as_ref(), &ask, LINE).await?;
        let chain = self.judge(reply)?;
        files::write_derived(&new, &chain)?;
        // Certificate and key are checked before they are used.
        let good = files::credentials(&self.name, &new, &key, &self.roots, None)?;
        if let (Right::Certificate { gain }, Some(own)) = (&self.right, &identity)
            && Ends::of(&own.chain).is_some_and(|before| good.ends.own < before.own + *gain)
        {
            let _ = std::fs::remove_file(&new);
            let what = "the next certificate would end when this one does: the CA ends then";
            return Err(Failure::new(Code::Clock, what, files::NEW_AUTHORITY));
        }
        files::replace(&certificate, &new).map_err(|error| {
            Failure::new(Code::Config, format!("{}: {error}", certificate.display()), "check that you may write there")
        })?;
        Ok((certificate, key))
    }

    fn judge(&self, reply: Reply) -> Result<String, Failure> {
        match reply {
            Reply::Certificate(chain) => Ok(chain),
            Reply::Refused(why) => {
                let remedy = match self.right {
                    Right::Invitation(_) => "ask the operator for a new invitation: `cyphonic device invite NAME`",
                    Right::Certificate { .. } => {
                        "ask the operator for an invitation: `cyphonic device invite NAME --replace`"
                    }
                };
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
            Reply::List { .. } | Reply::Since { .. } | Reply::Same => Err(Channel::broken("it answers something else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_core::store::{Store, VirtualRange};

    use super::*;
    use crate::ca::Ca;
    use crate::store::{Offer, SqliteStore};

    #[test]
    fn the_families_are_tried_in_turn() {
        let places = ["[::1]:1", "[::1]:2", "[::1]:3", "1.1.1.1:1"].map(|place| place.parse().unwrap());
        let order: Vec<_> = alternating(&places).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "1.1.1.1:1", "[::1]:2", "[::1]:3"]);
        assert!(alternating(&[]).is_empty());
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
        let credentials = files::credentials(&name("as.example"), &certificate, &key, &roots, None).unwrap();
        let open = || SqliteStore::serving(&folder.path().join("a.db"), VirtualRange::default()).unwrap();
        let (desk, store) = (Desk::new(&pki, open(), &credentials.roots, &credentials.identity).unwrap(), open());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = desk.open(&[std::net::Ipv4Addr::LOCALHOST.into()], 0).unwrap().port();
            let invited = |who: &str, token: &str, to: &str| {
                // Nobody is at the first place.
                let places = vec![([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], port).into()];
                let right = Right::Invitation(zeroize::Zeroizing::new(format!("{token}\n")));
                let file = |end: &str| folder.path().join(to).join(format!("{who}.{end}"));
                let (certificate, key) = (file("pem"), file("key"));
                let (name, as_name) = (name(who), name("as.example"));
                Applicant { name, places, as_name, roots: roots.clone(), right, certificate, key }
            };
            let until = drive::since_epoch() + Duration::from_secs(60);
            let invite = |who: &str, token: &str, replaces: bool| {
                store.invite(&name(who), token, Offer { made: drive::since_epoch(), until, replaces })
            };
            invite("a.example", "secret", false).unwrap();
            let refused = invited("a.example", "wrong", "1").sign_up().await.unwrap_err();
            assert!(refused.to_string().contains("no such invitation"), "{refused}");
            assert!(invited("b.example", "secret", "2").sign_up().await.is_err(), "another name");
            invited("a.example", "secret", "3").sign_up().await.unwrap();
            assert!(invited("a.example", "secret", "4").sign_up().await.is_err(), "a second time, with another key");
            let (certificate, key) = (folder.path().join("3/a.example.pem"), folder.path().join("3/a.example.key"));
            let before = [&certificate, &key].map(|file| std::fs::read(file).unwrap());
            std::fs::remove_file(&certificate).unwrap();
            invited("a.example", "secret", "3").sign_up().await.unwrap();
            assert_eq!([&certificate, &key].map(|file| std::fs::read(file).unwrap()), before, "its answer was lost");
            assert!(store.devices().unwrap().iter().any(|(device, _)| device.name == name("a.example")));

            invite("a.example", "again", false).unwrap();
            let taken = invited("a.example", "again", "5").sign_up().await.unwrap_err();
            assert_eq!((taken.code, taken.to_string().contains("another device's name")), (Code::Duplicate, true));
            invite("a.example", "instead", true).unwrap();
            invited("a.example", "instead", "6").sign_up().await.unwrap();

            invite("c.example", "c", false).unwrap();
            let holder = rusqlite::Connection::open(folder.path().join("a.db")).unwrap();
            holder.execute_batch("BEGIN IMMEDIATE").unwrap();
            let locked = invited("c.example", "c", "7").sign_up().await.unwrap_err();
            assert_eq!((locked.code, locked.to_string().contains("locked")), (Code::Unreachable, true), "{locked}");
            holder.execute_batch("ROLLBACK").unwrap();
            invited("c.example", "c", "8").sign_up().await.unwrap();

            // A certificate that counts gets the next one, for its own device only.
            let renew = |who: &str, to: &str| Applicant {
                right: Right::Certificate { gain: Duration::ZERO },
                ..invited(who, "", to)
            };
            let (certificate, key) = renew("c.example", "8").sign_up().await.unwrap();
            let serials = |name: &str| {
                let text = std::fs::read_to_string(pki.join("issued")).unwrap();
                text.lines().filter(|line| line.ends_with(name)).count()
            };
            assert_eq!(serials(" c.example"), 2, "none was made while the database was locked");
            let good = files::credentials(&name("c.example"), &certificate, &key, &roots, None).unwrap();
            let addresses = |identity: &Identity| tls::addresses(&identity.chain[0]);
            let given = store.addresses_of(&name("c.example")).unwrap();
            assert!(given.is_some() && addresses(&good.identity) == given);
            // The database gives another address now: the next certificate has that of the present one.
            let other = "UPDATE addresses SET v4 = x'C6124D07' WHERE name = 'c.example'";
            assert_eq!(holder.execute(other, []).unwrap(), 1);
            renew("c.example", "8").sign_up().await.unwrap();
            assert_eq!(serials(" c.example"), 2, "one renewal a day makes a certificate");
            holder.execute("UPDATE renewals SET made = made - 90000", []).unwrap();
            renew("c.example", "8").sign_up().await.unwrap();
            assert_eq!(serials(" c.example"), 3);
            let good = files::credentials(&name("c.example"), &certificate, &key, &roots, None).unwrap();
            assert_eq!(addresses(&good.identity), given);
            // It was made while the clock was ahead, so it does not count yet.
            holder.execute("UPDATE renewals SET made = made + 90000", []).unwrap();
            renew("c.example", "8").sign_up().await.unwrap();
            assert_eq!(serials(" c.example"), 4);
            // Many renewals at one time make one certificate.
            holder.execute("UPDATE renewals SET made = 0", []).unwrap();
            let again = Ask::Certificate(CertificateRequest {
                name: "c.example".to_owned(),
                token: None,
                request: pem::encode(&pem::Pem::new(
                    "CERTIFICATE REQUEST",
                    pki::request(&name("c.example"), &files::ed25519_seed(&key).unwrap()).unwrap(),
                )),
            });
            let (desks, as_is) = ([([127, 0, 0, 1], port).into()], name("as.example"));
            let ask = || exchange(&desks, &as_is, &credentials.roots, Some(&good.identity), &again, LINE);
            // All have come when the first one is served.
            let lock = std::fs::File::options().append(true).open(pki.join("lock")).unwrap();
            lock.lock().unwrap();
            let begin = async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                drop(lock);
            };
            let (a, b, c, ()) = tokio::join!(ask(), ask(), ask(), begin);
            assert!([a, b, c].iter().all(|reply| matches!(reply, Ok(Reply::Certificate(_)))));
            assert_eq!(serials(" c.example"), 5);
            // A revocation that comes while a renewal waits for the authority's lock.
            invite("e.example", "e", false).unwrap();
            invited("e.example", "e", "13").sign_up().await.unwrap();
            let lock = std::fs::File::options().append(true).open(pki.join("lock")).unwrap();
            lock.lock().unwrap();
            let revoke = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let issued = std::fs::read_to_string(pki.join("issued")).unwrap();
                let line = issued.lines().find(|line| line.ends_with(" e.example")).unwrap();
                std::fs::write(pki.join("revoked"), format!("{line}\n")).unwrap();
                drop(lock);
            };
            let (outlived, ()) = tokio::join!(renew("e.example", "13").sign_up(), revoke);
            assert!(outlived.unwrap_err().to_string().contains("revoked"));
            assert_eq!(serials(" e.example"), 1, "a certificate after its revocation");
            std::fs::rename(&certificate, certificate.with_file_name("x.example.pem")).unwrap();
            std::fs::copy(&key, key.with_file_name("x.example.key")).unwrap();
            assert!(renew("x.example", "8").sign_up().await.is_err(), "it is not in its certificate");
            let ask = Ask::Certificate(CertificateRequest {
                name: "x.example".to_owned(),
                token: None,
                request: pem::encode(&pem::Pem::new(
                    "CERTIFICATE REQUEST",
                    pki::request(&name("x.example"), &files::ed25519_seed(&key).unwrap()).unwrap(),
                )),
            });
            let places = [([127, 0, 0, 1], port).into()];
            let (as_name, shown) = (name("as.example"), Some(&good.identity));
            for shown in [None, shown] {
                let reply = exchange(&places, &as_name, &credentials.roots, shown, &ask, LINE).await.unwrap();
                assert!(matches!(reply, Reply::Refused(_)), "another's name");
            }
            std::fs::rename(certificate.with_file_name("x.example.pem"), &certificate).unwrap();
            store.remove_device(cyphonic_core::name::NodeId::of(&name("c.example"))).unwrap();
            let gone = renew("c.example", "8").sign_up().await.unwrap_err();
            assert!(gone.to_string().contains("no device"), "{gone}");
            invite("c.example", "d", false).unwrap();
            invited("c.example", "d", "10").sign_up().await.unwrap();
            Ca::open(&pki).unwrap().revoke(&name("c.example")).unwrap();
            let revoked = renew("c.example", "10").sign_up().await.unwrap_err();
            assert!(revoked.to_string().contains("revoked"), "{revoked}");
            // The thief has the key, and would see the new certificate.
            invite("c.example", "g", true).unwrap();
            std::fs::create_dir(folder.path().join("14")).unwrap();
            std::fs::copy(folder.path().join("10/c.example.key"), folder.path().join("14/c.example.key")).unwrap();
            let known = invited("c.example", "g", "14").sign_up().await.unwrap_err();
            assert!(known.to_string().contains("certificate of this key was revoked"), "{known}");
            std::fs::remove_file(folder.path().join("14/c.example.key")).unwrap();
            invited("c.example", "g", "14").sign_up().await.unwrap();

            // A token that was forgotten when its name was revoked, and a service's name.
            let earlier = drive::since_epoch().saturating_sub(Duration::from_secs(5));
            store.invite(&name("c.example"), "e", Offer { made: earlier, until, replaces: true }).unwrap();
            let outlived = invited("c.example", "e", "11").sign_up().await.unwrap_err();
            assert!(outlived.to_string().contains("revoked after this invitation"), "{outlived}");
            invite("nms.example", "n", true).unwrap();
            let ask = Ask::Certificate(CertificateRequest {
                name: "nms.example".to_owned(),
                token: Some("n".to_owned()),
                request: pem::encode(&pem::Pem::new(
                    "CERTIFICATE REQUEST",
                    pki::request(&name("nms.example"), &[9; 32]).unwrap(),
                )),
            });
            let reply = exchange(&places, &as_name, &credentials.roots, None, &ask, LINE).await.unwrap();
            assert!(matches!(&reply, Reply::Refused(why) if why.contains("the name of a service")));
            assert_eq!(invited("nms.example", "n", "12").sign_up().await.unwrap_err().code, Code::Usage);

            // A silent client does not keep others out.
            let mut idle = Vec::new();
            for _ in 0..100 {
                idle.push(TcpStream::connect(places[0]).await.unwrap());
            }
            let place = format!("127.0.0.1:{port}");
            let as_name = name("as.example");
            let fetch = |have| super::list(&place, &as_name, &credentials.roots, have);
            let Revoked::Whole { list, names } = fetch(Vec::new()).await.unwrap() else { panic!("all of them") };
            assert_eq!(list, std::fs::read_to_string(pki.join("crl.pem")).unwrap());
            assert!(names.iter().all(|(whose, _)| ["c.example", "e.example"].contains(&whose.as_str())));

            ca::init(&folder.path().join("other"), &name("example")).unwrap();
            let stranger = Applicant { roots: folder.path().join("other/root.pem"), ..invited("d.example", "d", "9") };
            assert_eq!(stranger.sign_up().await.unwrap_err().code, Code::Identity, "another CA");
            assert_eq!(Ca::open(&pki).unwrap().revoke(&name("a.example")).unwrap().1, 2, "it can be revoked");
            let Revoked::Whole { list: longer, names } = fetch(Vec::new()).await.unwrap() else { panic!("all") };
            assert_ne!(longer, list);
            assert!(names.iter().any(|(whose, _)| *whose == name("a.example")));
        });
    }
}
