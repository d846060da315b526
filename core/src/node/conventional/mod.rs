//! The conventional method's carriage (paper §2.2): login by TLS over TCP, everything else sealed in UDP datagrams.

mod granted;
mod login;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use self::login::LoginSession;
use self::tunnel::{Tunnel, TunnelState};
use super::carriage::{Carriage, CarriageOutput, Kept, SendRefused};
use super::part::{Asked, TunnelId};
use super::places::Places;
use super::status::TunnelStatus;
use super::{Login, NodeConfig, Services};
use crate::conventional::cipher::Cipher;
use crate::conventional::keys::Direction;
use crate::conventional::seal::MAX_PLAINTEXT;
use crate::conventional::session::Session;
use crate::event::{DropReason, Failure, Protection};
use crate::header::{Flags, Header, Kind, is_unknown};
use crate::key::Key128;
use crate::machine::{Output, StreamId, StreamInput, Tables, Transmit};
use crate::message::{LoginResponse, MAX_PASSWORD, Message, PathGrant, ProbeReply, RouteDirection};
use crate::name::{Fqdn, NodeId, Party, PathId};
use crate::paths::budget::SilentTargets;
use crate::probe;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::{Due, Timer};
use crate::tls::{self, Environment, Identity, Roots, TlsError};
use crate::version::Versions;

/// Most Keep Alives of the NMS that wait for their acknowledgement: each is acknowledged in the same turn.
const MAX_CHALLENGES: usize = 8;
/// The longest packet that fits into one UDP datagram: 65,535 bytes without IPv6, UDP and our own headers.
const MAX_PACKET: usize = MAX_PLAINTEXT - 40 - 8 - 48;

pub(super) struct Conventional {
    name: Fqdn,
    id: NodeId,
    places: Places,
    services: Services,
    login: Login,
    env: Environment,
    identity: Option<Identity>,
    roots: Roots,
    tls: std::sync::Arc<rustls::ClientConfig>,
    rng: ChaCha20Rng,
    /// Logins under way, by age.
    logins: BTreeMap<StreamId, LoginSession>,
    next_stream: u64,
    versions: Versions,
    cipher: Cipher,
    nms: Option<Nms>,
    slow: bool,
    tunnels: BTreeMap<TunnelId, Tunnel>,
    /// The tunnels by their inbound path. All tunnels of one pair of nodes have the same path: a relayed tunnel, for
    /// example, and a direct one that replaces it. Their keys tell them apart.
    by_path: BTreeSet<(PathId, TunnelId)>,
    timers: Timers<TunnelId>,
    silent: SilentTargets,
    out: VecDeque<CarriageOutput>,
}

/// The session with the NMS.
struct Nms {
    common: Key128,
    /// The session under the common key itself, for Registration Requests.
    requests: Session,
    versions: Versions,
    /// The session under the keys of one registration, for every other message, with the epoch of that registration. A
    /// restarted NMS counts its messages from zero again. Under new keys these do not look like replays.
    registration: Option<(u64, Session)>,
    addresses: Vec<SocketAddr>,
    /// The transaction of the Registration Request for which a challenge is answered.
    unproved: Option<u32>,
    heard: Option<Instant>,
    /// The transactions of Keep Alives that are not acknowledged yet, and where each came to and from.
    challenges: BTreeMap<u32, (SocketAddr, SocketAddr)>,
}

impl Nms {
    /// The session for a message. A Registration Request with a new epoch begins the session of that registration.
    fn session_for(&mut self, message: &Message) -> Option<&mut Session> {
        let Message::RegistrationRequest(request) = message else {
            return self.registration.as_mut().map(|(_, session)| session);
        };
        if self.registration.as_ref().is_none_or(|(epoch, _)| *epoch != request.epoch) {
            let session = Session::of_registration(&self.common, request.epoch, Direction::FromInitiator);
            let session = session.speaking(self.versions);
            self.registration = Some((request.epoch, session));
        }
        Some(&mut self.requests)
    }
}

impl Conventional {
    pub(super) fn new(config: &NodeConfig, rng: &mut ChaCha20Rng) -> Result<Self, TlsError> {
        if let Login::Password(password) = &config.login
            && !(1..=MAX_PASSWORD).contains(&password.len())
        {
            return Err(TlsError::BadPassword);
        }
        let identity = config.identity.as_ref().filter(|_| matches!(config.login, Login::Certificate));
        Ok(Self {
            name: config.name.clone(),
            id: NodeId::of(&config.name),
            places: Places::new(config),
            services: config.services.clone(),
            login: config.login.clone(),
            env: config.tls.clone(),
            identity: identity.cloned(),
            roots: config.roots.clone(),
            tls: std::sync::Arc::new(tls::client_config(&config.tls, &config.roots, identity, b"")?),
            rng: super::part::fork(rng),
            logins: BTreeMap::new(),
            next_stream: 0,
            versions: config.quic.versions,
            cipher: config.cipher,
            nms: None,
            slow: false,
            tunnels: BTreeMap::new(),
            by_path: BTreeSet::new(),
            timers: Timers::default(),
            silent: SilentTargets::default(),
            out: VecDeque::new(),
        })
    }

    fn me(&self) -> Party {
        Party::Node(self.name.clone())
    }

    fn transmit(&mut self, local: SocketAddr, remote: SocketAddr, payload: Vec<u8>) {
        self.out.push_back(CarriageOutput::Pass(Output::from(Transmit::new(local, remote, payload))));
    }

    fn dropped(&mut self, reason: DropReason) {
        self.out.push_back(CarriageOutput::dropped(reason));
    }

    fn on_nms_datagram(&mut self, now: Instant, (local, remote): (SocketAddr, SocketAddr), mut payload: BytesMut) {
        let Some(Nms { registration: Some((_, session)), heard, challenges, .. }) = &mut self.nms else {
            return self.dropped(DropReason::UnknownId);
        };
        if is_unknown(&payload) {
            if let Some((_, answer)) = session.refuse_unknown(&mut payload) {
                self.transmit(local, remote, answer);
            }
            return self.dropped(DropReason::UnknownType);
        }
        match session.open_message(&mut payload) {
            Ok((header, message)) => {
                *heard = Some(now);
                self.places.keep(local, remote);
                if matches!(message, Message::RegistrationResponse(_)) {
                    // The node proves that it receives packets at its address: its next numbers follow this one.
                    session.count_on_from(header.sequence);
                }
                if matches!(message, Message::KeepAlive) {
                    // A node that is heard at two addresses by turns may be asked at both at one time.
                    challenges.insert(header.transaction, (local, remote));
                    if challenges.len() > MAX_CHALLENGES {
                        challenges.pop_first();
                    }
                }
                self.out.push_back(CarriageOutput::FromNms(Box::new((header, message))));
            }
            Err(reason) => self.dropped(reason),
        }
    }

    /// The tunnel to which a datagram belongs, by its path. Of several tunnels on that path it is the newest one whose
    /// keys open the datagram.
    fn tunnel_for(&self, header: &Header<u8>, datagram: &[u8]) -> Option<TunnelId> {
        let path = PathId(header.id);
        let mut ids = self.by_path.range((path, TunnelId(0))..=(path, TunnelId(u32::MAX))).rev().map(|&(_, id)| id);
        let newest = ids.next()?;
        let Some(next) = ids.next() else { return Some(newest) };
        let mut all = [newest, next].into_iter().chain(ids);
        all.find(|&id| self.is_for(id, header, datagram)).or(Some(newest))
    }

    fn remove(&mut self, id: TunnelId) -> Option<Tunnel> {
        let tunnel = self.tunnels.remove(&id)?;
        self.by_path.remove(&(tunnel.inbound, id));
        self.timers.set(id, None);
        Some(tunnel)
    }
}

impl Carriage for Conventional {
    fn tables(&self) -> Tables {
        vec![
            ("tunnels", self.tunnels.len().max(self.timers.count())),
            ("paths", self.by_path.len()),
            ("silent addresses", self.silent.count()),
        ]
    }

    /// Replaces the trust anchors. In this method a node sees only the AS's certificate.
    fn trust(&mut self, _now: Instant, roots: Roots) -> Result<(), TlsError> {
        self.tls = std::sync::Arc::new(tls::client_config(&self.env, &roots, self.identity.as_ref(), b"")?);
        self.roots = roots;
        // The connections of logins under way still have the old trust anchors.
        if !self.logins.is_empty() {
            self.end_logins();
            self.out.push_back(CarriageOutput::LoginFailed(Failure::ConnectionLost));
        }
        Ok(())
    }

    fn renew(&mut self, _now: Instant, identity: Identity) -> Result<bool, TlsError> {
        if self.identity.is_none() {
            return Ok(false);
        }
        self.tls = std::sync::Arc::new(tls::client_config(&self.env, &self.roots, Some(&identity), b"")?);
        self.identity = Some(identity);
        // The common key ends with the certificate of the login.
        Ok(!defect!(RenewalUntold))
    }

    fn login(&mut self, now: Instant, attempt: usize) {
        self.start_login(now, attempt);
    }

    fn open_nms(&mut self, _now: Instant, login: &LoginResponse) {
        let Some(key) = &login.common_key else {
            return self.out.push_back(CarriageOutput::NmsLost(Failure::Protocol));
        };
        if self.places.first(&login.nms).is_none() {
            return self.out.push_back(CarriageOutput::NmsLost(Failure::NoAddress));
        }
        self.env.log_common_key(self.id, key);
        // The sequence numbers of requests must go on for the life of a common key, so the session of the same key is
        // kept.
        if self.nms.as_ref().is_none_or(|nms| nms.common != *key) {
            let requests = Session::new(key, Direction::FromInitiator).speaking(self.versions);
            self.nms = Some(Nms {
                common: key.clone(),
                requests,
                versions: self.versions,
                registration: None,
                addresses: login.nms.clone(),
                unproved: None,
                heard: None,
                challenges: BTreeMap::new(),
            });
        }
        self.out.push_back(CarriageOutput::NmsReady);
    }

    fn send_nms_flagged(&mut self, _now: Instant, (transaction, flags): (u32, Flags), count: u8, message: Message) {
        let Some(nms) = &mut self.nms else { return };
        // The third transmission, and each second one after it, goes by another path, if there is one.
        let other = if count >= 2 && count.is_multiple_of(2) { self.places.other(&nms.addresses) } else { None };
        // An acknowledgement proves the address from which it comes, so it goes back the way of the Keep Alive, as the
        // answer to a path challenge does (RFC 9000 §8.2.2).
        let asked = match &message {
            Message::KeepAliveAck => nms.challenges.remove(&transaction),
            _ => None,
        };
        let place = asked.or(other).or_else(|| self.places.first(&nms.addresses));
        let Some((local, remote)) = place else { return };
        if let (Message::RegistrationRequest(request), 0) = (&message, count) {
            self.env.log_registration(self.id, &nms.common, request.epoch);
        }
        nms.unproved = matches!(message, Message::RegistrationRequest(_)).then(|| probe::transaction(transaction));
        let Some(session) = nms.session_for(&message) else { return };
        let flags = flags.with_slow(self.slow);
        let Some(datagram) = session.seal_flagged(transaction, flags, count, self.id.0, &message) else {
            // Every sequence number was used. Another registration has new keys.
            nms.registration = None;
            return self.out.push_back(CarriageOutput::NmsLost(Failure::Protocol));
        };
        if !matches!(message, Message::KeepAlive) {
            let protection = Protection::CommonKey(self.name.clone());
            self.out.push_back(CarriageOutput::signal(self.me(), Party::Nms, &message, protection, count));
        }
        self.transmit(local, remote, datagram);
    }

    /// The NMS is under load. The answer tells it that a node is at this address, so that it looks at the next
    /// Registration Request. There is one answer for each request, and it is not longer than the challenge. A challenge
    /// repeats the request's transaction, so that a forged one does not use up that answer.
    fn answers_challenge(&mut self, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) -> bool {
        let Some(nms) = self.nms.as_mut().filter(|nms| nms.addresses.contains(&remote)) else { return false };
        let Ok(header) = Header::decode(datagram) else { return false };
        if header.kind != Kind::Probe || !header.flags.from_responder() || header.id == self.id.0 {
            return false;
        }
        if nms.unproved != Some(header.transaction) && !defect!(ChallengeOfAnybody) {
            self.dropped(DropReason::Unexpected);
            return true;
        }
        nms.unproved = None;
        let reply = Message::ProbeReply(ProbeReply { seen: remote });
        let reply = reply.to_bytes(header.transaction, Flags(0), 0, 0, header.id);
        if reply.len() <= datagram.len() {
            self.transmit(local, remote, reply);
        }
        true
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn registered(&mut self, _now: Instant) {
        self.end_idle_logins();
    }

    fn set_slow(&mut self, slow: bool) {
        self.slow = slow;
    }

    fn build(&mut self, now: Instant, tunnel: TunnelId, direction: RouteDirection, asked: Asked) {
        if let Err(reason) = self.start_tunnel(now, tunnel, &direction, asked) {
            self.out.push_back(CarriageOutput::TunnelDown(tunnel, reason));
        }
    }

    fn path_granted(&mut self, now: Instant, transaction: u32, grant: &PathGrant) {
        self.take_path_grant(now, transaction, grant);
    }

    fn forget(&mut self, _now: Instant, tunnel: TunnelId) {
        self.remove(tunnel);
    }

    fn heard_at(&self, tunnel: TunnelId) -> Option<Instant> {
        match self.tunnels.get(&tunnel)?.state {
            TunnelState::Up { heard, .. } => Some(heard),
            TunnelState::Dialing { .. } | TunnelState::Listening { .. } => None,
        }
    }

    fn send_packet(&mut self, now: Instant, id: TunnelId, packet: Bytes) -> Result<(), SendRefused> {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return Err(SendRefused::NoTunnel) };
        if let Some(at) = tunnel.speak(now) {
            self.timers.set(id, Some(at));
        }
        let TunnelState::Up { data, .. } = &mut tunnel.state else { return Err(SendRefused::NoTunnel) };
        if packet.len() > MAX_PACKET {
            return Err(SendRefused::TooBig(MAX_PACKET, packet));
        }
        let mut payload = Vec::with_capacity(packet.len() + crate::conventional::seal::OVERHEAD);
        if !data.seal_capsule(tunnel.outbound.0, &packet, &mut payload) {
            // Every sequence number was used. A new tunnel has a new end key.
            self.remove(id);
            self.out.push_back(CarriageOutput::TunnelDown(id, Failure::Replaced));
            return Err(SendRefused::NoTunnel);
        }
        let Some((local, remote)) = tunnel.place else { return Err(SendRefused::NoTunnel) };
        self.transmit(local, remote, payload);
        Ok(())
    }

    fn check(&mut self, now: Instant) {
        self.check_tunnels(now);
    }

    fn ask_nms(&mut self, _now: Instant) {
        // This method reaches the NMS by UDP only, so an answer would change nothing.
    }

    fn start_anew(&mut self, now: Instant, places: &Places) {
        self.move_to(now, places);
    }

    fn deliver(&mut self, _now: Instant) {}

    fn finish(&mut self, _now: Instant) {}

    fn is_answer_due(&self, tunnel: TunnelId) -> bool {
        let tunnel = self.tunnels.get(&tunnel);
        tunnel.is_some_and(|tunnel| matches!(tunnel.state, TunnelState::Up { doubted: Some(_), .. }))
    }

    fn nms_heard(&self) -> Option<(SocketAddr, Instant)> {
        let nms = self.nms.as_ref()?;
        Some((self.places.first(&nms.addresses)?.1, nms.heard?))
    }

    fn nms_rtt(&self) -> Option<Duration> {
        None
    }

    fn leave(&mut self, now: Instant) {
        // The paper has no message for a shutdown. The other ends notice the silence.
        self.move_to(now, &self.places.clone());
        self.nms = None;
    }

    fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus> {
        self.tunnels.get(&tunnel).and_then(Tunnel::status)
    }

    fn change_family(&mut self) {
        self.places.change();
    }

    fn places(&self) -> &Places {
        &self.places
    }

    fn move_to(&mut self, _now: Instant, places: &Places) -> Kept {
        self.places = places.clone();
        self.tunnels.clear();
        self.by_path.clear();
        self.timers = Timers::default();
        self.end_logins();
        Kept::default()
    }

    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) -> bool {
        match Header::<u8>::read(&payload) {
            None => self.dropped(DropReason::BadHeader),
            Some(header) if header.id == self.id.0 => self.on_nms_datagram(now, (local, remote), payload),
            Some(header) => match self.tunnel_for(&header, &payload) {
                None => self.dropped(DropReason::UnknownId),
                Some(id) if header.kind == Kind::Capsule as u8 => self.on_capsule(now, id, (local, remote), payload),
                Some(id) => self.on_tunnel_message(now, id, local, remote, payload),
            },
        }
        false
    }

    fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) {
        self.on_login_stream(now, id, event);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(tunnel) = self.timers.pop_due(now) {
            self.tunnel_timeout(now, tunnel);
        }
    }

    fn next_timer(&self) -> Option<Due> {
        let (at, id) = self.timers.first()?;
        let timer = self.tunnels.get(&id).map_or(Timer::TunnelBuilding, |tunnel| tunnel.next_timer().timer);
        Some(timer.at(at))
    }

    fn poll(&mut self) -> Option<CarriageOutput> {
        self.out.pop_front()
    }
}

impl Conventional {
    fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }
}
