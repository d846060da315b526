//! The Authentication Service (AS). The module is `auth` because `as` is a keyword of Rust.
//!
//! A node authenticates by certificate or (conventional method only) password. It learns its name and the addresses of
//! the NMS. In the conventional method the AS also makes the common key and puts it into the store that it shares with
//! the NMS (paper §2.2.1). In the proposed method it makes no key (paper §3.3.1).
//!
//! The rate of password checks is limited (`guesses`). A login beyond the limit is answered by "service unavailable".

mod guesses;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use guesses::Guesses;

use crate::event::{DropReason, Event, Protection, Signal};
use crate::header::{Flags, Header, Kind};
use crate::key::Key128;
use crate::machine::{Input, Machine, Output, ServiceCommand, StreamId, StreamInput, StreamOutput, Tables};
use crate::message::{Credential, ErrorCode, FrameReader, LoginRequest, LoginResponse, Message, WhyUnread};
use crate::name::{Fqdn, NodeId, Party};
use crate::quic::{CidScheme, LinkId, LinkOutput, Links, QuicConfig};
use crate::shares::Shares;
use crate::store::Store;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::auth::LOGIN_TIMEOUT;
use crate::timing::{Due, Timer, earliest};
use crate::tls::channel::TlsChannel;
use crate::tls::{self, ClientAuth, Environment, Identity, Roots, TlsError};
use crate::version::Versions;

/// The largest number of logins over TCP at one time. If it is reached, the oldest login of the source with the most
/// logins gives way.
pub const MAX_LOGINS: usize = 4096;

/// The configuration of the AS.
#[derive(Clone)]
pub struct AuthConfig {
    /// Its identity, and its TLS and QUIC settings.
    pub quic: QuicConfig,
    /// The NMS's addresses in the conventional method, both families. A node that logs in over TCP gets them.
    pub nms_conventional: Vec<SocketAddr>,
    /// The NMS's addresses in the proposed method, both families. A node that logs in over QUIC gets them.
    pub nms_proposed: Vec<SocketAddr>,
    /// The database that AS and NMS share.
    pub store: Arc<dyn Store>,
    /// Seeds all of its randomness.
    pub seed: [u8; 32],
}

/// The AS. It answers both methods: TLS over TCP, and QUIC.
pub struct Auth {
    env: Environment,
    identity: Identity,
    roots: Roots,
    tls: Arc<rustls::ServerConfig>,
    nms_conventional: Vec<SocketAddr>,
    nms_proposed: Vec<SocketAddr>,
    store: Arc<dyn Store>,
    rng: ChaCha20Rng,
    links: Links,
    names: BTreeMap<LinkId, Vec<Fqdn>>,
    link_timers: Timers<LinkId>,
    streams: BTreeMap<StreamId, Login>,
    timers: Timers<StreamId>,
    shares: Shares<StreamId>,
    guesses: Guesses,
    versions: Versions,
    out: VecDeque<Output>,
}

/// The client of a login over TCP.
#[derive(Clone, Copy)]
struct Client {
    from: IpAddr,
    /// When the client's certificate expires, since 1970. `None` without a certificate.
    ends: Option<Duration>,
}

/// A login over TCP.
struct Login {
    from: IpAddr,
    channel: TlsChannel,
    reader: FrameReader,
}

impl Auth {
    /// An AS without logins under way.
    pub fn new(config: AuthConfig) -> Result<Self, TlsError> {
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let quic = &config.quic;
        let tls = login_tls(&quic.tls, &quic.roots, &quic.identity)?;
        Ok(Self {
            env: quic.tls.clone(),
            identity: quic.identity.clone(),
            roots: quic.roots.clone(),
            tls,
            nms_conventional: config.nms_conventional,
            nms_proposed: config.nms_proposed,
            versions: config.quic.options.versions,
            store: config.store,
            links: Links::new(config.quic, CidScheme::Direct, true, &mut rng)?,
            rng,
            names: BTreeMap::new(),
            link_timers: Timers::default(),
            streams: BTreeMap::new(),
            timers: Timers::default(),
            shares: Shares::default(),
            guesses: Guesses::default(),
            out: VecDeque::new(),
        })
    }

    fn on_command(&mut self, now: Instant, command: ServiceCommand) {
        match command {
            ServiceCommand::Trust(roots) => {
                match login_tls(&self.env, &roots, &self.identity) {
                    Ok(tls) => (self.tls, self.roots) = (tls, roots.clone()),
                    Err(_) => return self.dropped(DropReason::BadTrust),
                }
                // TLS took the old lists when these connections began, and would judge them by those. The nodes log in
                // again.
                self.end_logins();
                if self.links.trust(now, roots).is_err() {
                    self.dropped(DropReason::BadTrust);
                }
            }
            ServiceCommand::Identity(identity) => {
                let tls = login_tls(&self.env, &self.roots, &identity);
                match (tls, self.links.renew(now, (*identity).clone())) {
                    (Ok(tls), Ok(())) => (self.tls, self.identity) = (tls, *identity),
                    _ => self.dropped(DropReason::BadTrust),
                }
            }
            ServiceCommand::Revoked(names) => {
                let revoked = |(_, shown): &(&LinkId, &Vec<Fqdn>)| shown.iter().any(|name| names.contains(name));
                let links: Vec<LinkId> = self.names.iter().filter(revoked).map(|(&link, _)| link).collect();
                for link in links {
                    self.names.remove(&link);
                    self.link_timers.set(link, None);
                    self.links.close(now, link);
                }
            }
            ServiceCommand::Rules(_) => {}
            ServiceCommand::Stop => {
                self.end_logins();
                self.links.close_all(now);
            }
        }
    }

    fn dropped(&mut self, reason: DropReason) {
        self.out.push_back(Output::from(Event::Dropped(reason)));
    }

    fn drain_links(&mut self, now: Instant) {
        while let Some(output) = self.links.poll() {
            match output {
                LinkOutput::Transmit(transmit) | LinkOutput::Bare(transmit) => {
                    self.out.push_back(Output::from(transmit));
                }
                LinkOutput::Connected { link, peer, .. } => {
                    self.names.insert(link, peer);
                    self.link_timers.set(link, Some(now + LOGIN_TIMEOUT));
                }
                LinkOutput::Frame(link, header, body) => {
                    let names = self.names.get(&link).cloned().unwrap_or_default();
                    let Some(answer) = self.answer(now, &header, &body, &names, None) else { continue };
                    let frame = answer.to_bytes(header.transaction, Flags(Flags::FROM_RESPONDER), 0, 0, header.id);
                    self.signal(&answer, header.id, Protection::Quic);
                    self.links.send_frame(now, link, frame.into());
                }
                LinkOutput::Datagrams(_, frames) => frames.iter().for_each(|_| self.dropped(DropReason::Unexpected)),
                LinkOutput::Closed(link, _) => {
                    self.names.remove(&link);
                    self.link_timers.set(link, None);
                }
                LinkOutput::Dropped(reason) => self.dropped(reason),
                // Only nodes have paths, and only a client moves.
                LinkOutput::Pathed(..) | LinkOutput::Followed(_) => {}
            }
        }
    }

    /// Checks a login and makes the answer. `names` are those of the client's certificate. `tcp` is the client of a
    /// login over TCP (conventional method); `None` over QUIC.
    fn answer(
        &mut self,
        now: Instant,
        header: &Header,
        body: &Bytes,
        names: &[Fqdn],
        tcp: Option<Client>,
    ) -> Option<Message> {
        let Ok(message) = Message::decode_body(header.kind, body) else {
            self.dropped(DropReason::BadBody);
            return (header.kind != Kind::Error).then(|| Message::Error(ErrorCode::Malformed(header.kind as u8)));
        };
        let Message::LoginRequest(request) = message else {
            self.dropped(DropReason::Unexpected);
            return None;
        };
        Some(match self.authenticate(now, &request, names, tcp) {
            Ok(fqdn) => {
                // A login by password does not expire.
                let by_certificate = matches!(request.credential, Credential::Certificate);
                let tcp = tcp.map(|client| Client { ends: client.ends.filter(|_| by_certificate), ..client });
                self.welcome(request.device, fqdn, tcp)
            }
            Err(code) => Message::Error(code),
        })
    }

    /// The name of the device, if it is authentic.
    fn authenticate(
        &mut self,
        now: Instant,
        request: &LoginRequest,
        names: &[Fqdn],
        tcp: Option<Client>,
    ) -> Result<Fqdn, ErrorCode> {
        let device = self.store.device(request.device).map_err(|_| ErrorCode::Unavailable)?;
        let device = device.ok_or(ErrorCode::Unauthorized)?;
        let good = match (&request.credential, tcp, &device.password) {
            (Credential::Certificate, ..) => device.certificate_login && names.contains(&device.name),
            // An empty password is never right, even if a device has it in the database.
            (Credential::Password(password), ..) if password.is_empty() => false,
            (Credential::Password(password), Some(Client { from, .. }), Some(hash)) => {
                if !self.guesses.may(now, from, hash.iterations) {
                    self.dropped(DropReason::TooManyPasswords);
                    return Err(ErrorCode::Unavailable);
                }
                let right = hash.verify(password);
                if right {
                    self.guesses.was_right(now, from);
                }
                right
            }
            (Credential::Password(_), ..) => false,
        };
        if good { Ok(device.name) } else { Err(ErrorCode::Unauthorized) }
    }

    /// The answer to a login that is accepted. In the conventional method the common key expires with the client's
    /// certificate.
    fn welcome(&mut self, node: NodeId, fqdn: Fqdn, tcp: Option<Client>) -> Message {
        let mut common_key = None;
        if let Some(Client { ends, .. }) = tcp {
            let mut key = Key128([0; 16]);
            self.rng.fill_bytes(&mut key.0);
            if self.store.put_common_key(node, &key, ends).is_err() {
                return Message::Error(ErrorCode::Unavailable);
            }
            common_key = Some(key);
        }
        let nms = if tcp.is_some() { &self.nms_conventional } else { &self.nms_proposed };
        Message::LoginResponse(LoginResponse { node, fqdn, common_key, nms: nms.clone() })
    }

    fn signal(&mut self, answer: &Message, id: [u8; 16], protection: Protection) {
        let name = self.store.device(NodeId(id)).ok().flatten().map(|d| d.name);
        if let Some(name) = name {
            let signal = Signal::message(Party::As, Party::Node(name), answer, protection, 0);
            self.out.push_back(Output::from(Event::Signal(Box::new(signal))));
        }
    }

    fn on_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) {
        match event {
            StreamInput::Accepted { remote } => {
                if let Ok(channel) = TlsChannel::server(self.tls.clone()) {
                    if self.streams.len() >= MAX_LOGINS
                        && let Some(oldest) = self.shares.gives_way()
                    {
                        self.dropped(DropReason::Limit);
                        self.end_login(oldest);
                    }
                    self.shares.begin(id, remote.ip());
                    self.streams
                        .insert(id, Login { from: remote.ip(), channel, reader: FrameReader::new(self.versions) });
                    self.timers.set(id, Some(now + LOGIN_TIMEOUT));
                } else {
                    self.dropped(DropReason::Limit);
                    self.out.push_back(Output::Stream(id, StreamOutput::Close));
                }
            }
            StreamInput::Data(bytes) => self.on_login_bytes(now, id, &bytes),
            StreamInput::Closed | StreamInput::Unanswered => {
                self.streams.remove(&id);
                self.shares.end(id);
                self.timers.set(id, None);
            }
            StreamInput::Connected | StreamInput::Written(_) => {}
        }
    }

    fn on_login_bytes(&mut self, now: Instant, id: StreamId, bytes: &[u8]) {
        let Some(login) = self.streams.get_mut(&id) else { return };
        let good = login.channel.receive(bytes).is_ok();
        while let Some(plaintext) = login.channel.read() {
            login.reader.push(&plaintext);
        }
        let frame = login.reader.next();
        let names = login.channel.peer_names();
        let ends = login.channel.peer_ends();
        let from = Some(Client { from: login.from, ends });
        let answered = match frame {
            Some(Ok((header, body))) => self.answer(now, &header, &body, &names, from).map(|answer| {
                let flags = Flags(Flags::FROM_RESPONDER);
                let mut frame = answer.to_bytes(header.transaction, flags, 0, 0, header.id);
                self.versions.towards(Some(header.spoken)).stamp(&mut frame);
                (header.id, answer, frame)
            }),
            Some(Err(unread)) => {
                let version = unread.why == WhyUnread::Version;
                self.dropped(if version { DropReason::UnknownVersion } else { DropReason::UnknownType });
                unread.answer_frame(self.versions).map(|(answer, frame)| (unread.header.id, answer, frame))
            }
            None => None,
        };
        if let Some((id, answer, _)) = &answered {
            self.signal(answer, *id, Protection::Tls);
        }
        let Some(login) = self.streams.get_mut(&id) else { return };
        if let Some((_, _, frame)) = &answered {
            login.channel.send(frame);
            login.channel.close();
        }
        let bytes = login.channel.take_output();
        if !bytes.is_empty() {
            self.out.push_back(Output::Stream(id, StreamOutput::Write(bytes)));
        }
        if !good {
            self.dropped(DropReason::WrongIdentity);
        }
        if !good || answered.is_some() {
            self.end_login(id);
        }
    }

    fn end_logins(&mut self) {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            self.end_login(stream);
        }
    }

    fn end_login(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.shares.end(id);
        self.timers.set(id, None);
        self.out.push_back(Output::Stream(id, StreamOutput::Close));
    }
}

/// The TLS settings of logins over TCP.
fn login_tls(env: &Environment, roots: &Roots, identity: &Identity) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    tls::server_config(env, roots, identity, ClientAuth::Optional, b"").map(Arc::new)
}

impl Machine for Auth {
    type Command = ServiceCommand;

    fn feed(&mut self, now: Instant, input: Input<ServiceCommand>) {
        match input {
            Input::Datagram { local, remote, payload } => self.links.handle_datagram(now, local, remote, payload),
            Input::Stream(id, event) => self.on_stream(now, id, event),
            Input::Packet(_) => self.dropped(DropReason::Unexpected),
            Input::Timeout => {
                self.links.handle_timeout(now);
                while let Some(id) = self.timers.pop_due(now) {
                    self.end_login(id);
                }
                while let Some(link) = self.link_timers.pop_due(now) {
                    self.names.remove(&link);
                    self.links.close(now, link);
                }
            }
            Input::Command(command) => self.on_command(now, command),
        }
        self.drain_links(now);
    }

    fn poll_output(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| Output::Wait(self.next_timer()))
    }

    fn next_timer(&self) -> Option<Due> {
        let login = [self.timers.next(), self.link_timers.next()].into_iter().flatten().min();
        earliest([self.links.next_timer(), login.map(|at| Timer::LoginTooLong.at(at))])
    }

    fn tables(&self) -> Tables {
        vec![
            ("connections", self.links.count().max(self.names.len()).max(self.link_timers.count())),
            ("logins over TCP", self.streams.len().max(self.timers.count())),
        ]
    }
}
