//! Registered nodes and their addresses (paper §2.2.1, §3.3.1).

mod others;
mod sealed;
mod sight;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::rand_core::RngCore;

use self::others::Others;
use self::sight::{network, sight};
use super::proof::{How, Proof};
use super::{Nms, Place};
use crate::conventional::keys::Direction;
use crate::conventional::seal::OVERHEAD;
use crate::conventional::session::Session as SealedSession;
use crate::epoch;
use crate::event::{DropReason, Protection};
use crate::header::{Flags, Header, Kind};
use crate::key::Key128;
use crate::machine::{Output, Transmit};
use crate::message::{ErrorCode, Message, RegistrationRequest, RegistrationResponse};
use crate::name::{Fqdn, NodeId, Party, RelayCid, Virtual};
use crate::proxied::is_guest;
use crate::quic::{LinkClosed, LinkId};
use crate::route::optimal::{Reach, Sight};
use crate::route::{Network, Policy};
use crate::signaling::Signaling;
use crate::store::StoreError;
use crate::time::Instant;
use crate::timing::nms::{PLACE_KEPT, REGISTRATION_SILENCE, ROUTING_RETRY};

/// The largest number of links with one certificate on which no node has registered yet. A node opens up to four links
/// side by side, on different paths or because the first one takes long, and several may be up at the same moment. A
/// further link replaces the oldest.
const MAX_WAITING: usize = 4;
/// The largest number of nodes that are registered at one time.
pub const MAX_NODES: usize = 100_000;
/// The largest number of remembered earlier addresses of a conventional node: one of the other family, and two that a
/// NAT has replaced.
const MAX_EARLIER: usize = 3;

/// A registered node.
pub(super) struct Registration {
    /// The FQDN that the node proved when it logged in.
    pub(super) name: Fqdn,
    /// The virtual addresses in its certificate.
    pub(super) certified: Option<Virtual>,
    /// The node's network as Table 1 sees it.
    pub(super) network: Network,
    /// The node's network as the optimal policy sees it.
    pub(super) sight: Sight,
    /// The addresses of its main port, as the node itself stated them.
    pub(super) own: Vec<SocketAddr>,
    /// The epoch of this registration.
    pub(super) epoch: u64,
    /// The rate limit of challenges to a claimed address: each challenge moves this on by `CHALLENGE_EVERY`.
    pub(super) challenged: Instant,
    /// Seals Probes between node and NMS; `None` if the NMS asked for no survey.
    pub(super) probes: Option<SealedSession>,
    /// How messages reach the node, in the method by which it registered.
    pub(super) session: Session,
    /// Whether the node says that its round trip to the services is long.
    pub(super) slow: bool,
    /// The signaling that the node wants for its tunnels.
    pub(super) signaling: Signaling,
    /// The leg to the TRS that the node keeps for its next relayed tunnel. `None` if the node keeps none.
    pub(super) leg: Option<RelayCid>,
    /// Further machines with the node's name and key.
    pub(super) others: Others,
    /// Whether the node's peers were told that it has none of its earlier tunnels.
    afresh: bool,
    /// The transaction of the last request, and the answer to it, for retransmissions of that request.
    answer: (u32, RegistrationResponse),
}

/// How to reach a registered node.
pub(super) enum Session {
    Conventional(Box<Sealed>),
    Proposed { link: LinkId },
}

/// The keys and the address of a conventional node.
pub(super) struct Sealed {
    /// The NMS's own address in this session.
    pub(super) local: SocketAddr,
    /// The source of the newest authentic message. Answers go there.
    pub(super) remote: SocketAddr,
    /// The proof that the node receives packets at `remote`.
    pub(super) proof: Proof,
    /// When the node was challenged last at an address that was not proved.
    asked_at: Option<Instant>,
    /// The earlier addresses at which the node was heard, the latest last.
    earlier: VecDeque<Earlier>,
    /// The session under the keys of this registration.
    pub(super) session: SealedSession,
    /// The common key. It protects Registration Requests only.
    key: Key128,
    requests: SealedSession,
    /// When the certificate with which the node logged in expires, as the time since 1970. `None` for a login by
    /// password.
    ends: Option<Duration>,
}

/// A source of a node's earlier messages.
struct Earlier {
    remote: SocketAddr,
    proof: Proof,
    /// When it is forgotten.
    until: Instant,
}

impl Sealed {
    /// Notes that the node is heard at another address. `challenge` is the transaction that has to prove this address,
    /// unless the node was there a moment ago: then the earlier proof is used again. Otherwise a node that tries two
    /// paths in turn would prove neither.
    fn turn_to(&mut self, now: Instant, (local, remote): (SocketAddr, SocketAddr), challenge: u32) {
        self.earlier.retain(|earlier| now < earlier.until);
        let known = self.earlier.iter().position(|earlier| earlier.remote == remote);
        let proof = match known.and_then(|index| self.earlier.remove(index)) {
            Some(earlier) => earlier.proof,
            None => Proof::open(How::Asked(challenge), 0),
        };
        let proof = std::mem::replace(&mut self.proof, proof);
        self.earlier.push_back(Earlier { remote: self.remote, proof, until: now + PLACE_KEPT });
        if self.earlier.len() > MAX_EARLIER {
            self.earlier.pop_front();
        }
        (self.local, self.remote) = (local, remote);
    }
}

impl Nms {
    /// Notes the source address of an authentic message of a conventional node: a NAT may have given the node a new
    /// address. Answers go to the new address at once. Peers are told of it once it is proved. Returns whether the
    /// message served only as the proof.
    pub(super) fn seen_at(
        &mut self,
        now: Instant,
        node: NodeId,
        header: &Header,
        (local, remote): (SocketAddr, SocketAddr),
    ) -> bool {
        let challenge = self.rng_if_moved(node, header.sequence, remote);
        let Some(registration) = self.nodes.get_mut(&node) else { return false };
        let Session::Conventional(sealed) = &mut registration.session else { return false };
        let received = OVERHEAD + usize::from(header.length);
        if let Some(challenge) = challenge {
            if !sealed.proof.is_given() {
                registration.network.left(sealed.remote);
            }
            sealed.turn_to(now, (local, remote), challenge);
            if sealed.proof.is_given() {
                registration.proved_at(remote);
                return false;
            }
        }
        if sealed.remote != remote || sealed.proof.is_given() && !defect!(NamedAddressBelieved) {
            return false;
        }
        sealed.proof.received(received);
        let acknowledged = (header.kind == Kind::KeepAliveAck).then_some(header.transaction);
        if sealed.proof.is_proved_by(header.sequence, acknowledged) || defect!(NamedAddressBelieved) {
            let was_asked = matches!(&sealed.proof, Proof::Open { how: How::Asked(_), .. });
            sealed.proof = Proof::Given;
            registration.proved_at(remote);
            return was_asked && acknowledged.is_some();
        }
        // Each message from the new address is a reason to challenge it again, because the first challenge may be lost.
        // The pause between challenges prevents a loop: if the node is heard at two addresses in turn, each of its
        // answers would be the reason for the next challenge.
        let is_recent = sealed.asked_at.is_some_and(|at| now < at + ROUTING_RETRY);
        if let Proof::Open { how: How::Asked(challenge), .. } = sealed.proof
            && !is_recent
        {
            sealed.asked_at = Some(now);
            self.send(now, node, challenge, 0, &Message::KeepAlive);
        }
        false
    }

    /// A random transaction, if this message is the latest one and comes from another address than the one before.
    fn rng_if_moved(&mut self, node: NodeId, sequence: u32, remote: SocketAddr) -> Option<u32> {
        let Some(Registration { session: Session::Conventional(sealed), .. }) = self.nodes.get(&node) else {
            return None;
        };
        (sealed.session.is_latest(sequence) && sealed.remote != remote).then(|| self.rng.next_u32())
    }

    /// Whether the address of a conventional node is proved. True for every other node.
    pub(super) fn is_proved(&self, node: NodeId) -> bool {
        match self.nodes.get(&node).map(|registration| &registration.session) {
            Some(Session::Conventional(sealed)) => sealed.proof.is_given(),
            Some(Session::Proposed { .. }) | None => true,
        }
    }

    /// As [`Self::seen_at`] for a node of the proposed method: takes over the address that QUIC has validated for its
    /// link.
    pub(super) fn look_where(&mut self, node: NodeId) {
        let Some(registration) = self.nodes.get_mut(&node) else { return };
        if let Session::Proposed { link } = registration.session
            && let Some(remote) = self.links.remote(link)
        {
            registration.proved_at(remote);
        }
    }

    /// Whether a registered node reaches the NMS by TCP, because its network lets no UDP out.
    pub(super) fn is_by_tcp(&self, node: NodeId) -> bool {
        let session = self.nodes.get(&node).map(|registration| &registration.session);
        let Some(Session::Proposed { link }) = session else { return false };
        self.links.remote(*link).is_some_and(|remote| is_guest(remote.ip()))
    }

    pub(super) fn on_registration(
        &mut self,
        now: Instant,
        node: NodeId,
        header: &Header,
        request: &RegistrationRequest,
        place: Place,
    ) {
        if let Some(registration) = self.nodes.get_mut(&node)
            && registration.answer.0 == header.transaction
        {
            if let (Session::Conventional(sealed), Place::Conventional { local, remote }) =
                (&mut registration.session, place)
            {
                let received = OVERHEAD + usize::from(header.length);
                if sealed.remote != remote {
                    if !sealed.proof.is_given() {
                        registration.network.left(sealed.remote);
                    }
                    sealed.turn_to(now, (local, remote), self.rng.next_u32());
                }
                sealed.proof.received(received);
                sealed.local = local;
            }
            let answer = Message::RegistrationResponse(registration.answer.1.clone());
            self.send(now, node, header.transaction, header.count, &answer);
            return;
        }
        if !self.rates.may_register(now, node) {
            return self.dropped(DropReason::Busy);
        }
        // A certificate proves the node's name. Only the database says whether its device may still use this overlay.
        let Ok(device) = self.store.device(node) else {
            return self.refuse(now, node, place, header, request, ErrorCode::Unavailable);
        };
        let name = match place {
            Place::Conventional { .. } => device.map(|d| d.name),
            Place::Proposed { .. } => device.filter(|d| d.certificate_login).map(|d| d.name),
        };
        let Some(name) = name else {
            self.refuse(now, node, place, header, request, ErrorCode::Unauthorized);
            return self.dropped(DropReason::UnknownId);
        };
        if matches!(place, Place::Conventional { .. }) && self.login_has_lapsed(node) {
            self.refuse(now, node, place, header, request, ErrorCode::Unauthorized);
            self.end_access(now, &name);
            return self.dropped(DropReason::UnknownId);
        }
        let observed = match place {
            Place::Conventional { remote, .. } => Some(remote),
            Place::Proposed { link } => self.links.remote(link),
        };
        let Some(observed) = observed else { return };
        if header.flags.yields()
            && let Some(served) = self.served_elsewhere(now, node, place, observed)
        {
            let code = ErrorCode::OtherMachine(others::told(served));
            self.refuse(now, node, place, header, request, code);
            return self.note_other(now, node, served, observed);
        }
        match self.accept_epoch(node, request.epoch, place) {
            Ok(None) => {}
            Ok(Some(_)) if defect!(EpochUnchecked) => {}
            Ok(Some(least)) => {
                self.refuse(now, node, place, header, request, ErrorCode::StaleEpoch(least));
                return self.dropped(DropReason::Replayed);
            }
            Err(_) => return self.refuse(now, node, place, header, request, ErrorCode::Unavailable),
        }
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            return self.dropped(DropReason::Limit);
        }
        let Ok(stored) = self.store.allocate(&name) else {
            self.refuse(now, node, place, header, request, ErrorCode::Unavailable);
            return self.dropped(DropReason::Limit);
        };
        let certified = self.certified(place, &name, stored);
        let addresses = certified.unwrap_or(stored);
        if !self.claim(now, &name, addresses, certified.is_some()) {
            self.refuse(now, node, place, header, request, ErrorCode::Unavailable);
            return self.dropped(DropReason::WrongIdentity);
        }
        let before = self.nodes.get(&node).filter(|_| defect!(StaleRouteAnswered));
        let before = before.map(|old| (old.network.clone(), old.sight.clone()));
        let Some((session, others)) = self.session(now, node, header, request.epoch, place) else {
            return self.dropped(DropReason::UnknownId);
        };
        let is_proved = matches!(session, Session::Proposed { .. });
        let (network, nat) = network(request, observed, is_proved);
        let sight = sight(request, is_proved.then_some((observed, nat)), self.main_port(&session));
        let (network, sight) = before.unwrap_or((network, sight));
        let survey = (self.policy == Policy::Optimal && !is_guest(observed.ip())).then(|| self.survey_plan(place));
        let probes = survey.as_ref().map(|plan| self.sealed(&plan.key));
        let answer = RegistrationResponse { nat, addresses, survey };
        // Only a registration of the conventional method needs an expiry. In the proposed method the idle timeout of
        // the link ends the registration.
        let sealed = matches!(session, Session::Conventional(_));
        self.expiry.set(node, sealed.then(|| now + REGISTRATION_SILENCE));
        let ends = match &session {
            Session::Conventional(sealed) => sealed.ends,
            Session::Proposed { .. } => None,
        };
        self.watch_login(now, node, &name, ends);
        if !sealed && matches!(self.store.common_key_ends(node), Ok(Some(_))) {
            // The node has changed the method. Its last login of the conventional method ends nothing any more.
            self.void_key(node);
        }
        let last = (header.transaction, answer.clone());
        let (slow, signaling) = (header.flags.is_slow(), header.flags.signaling());
        let own = request.addresses.iter().map(|&address| SocketAddr::new(address, request.port)).collect();
        let epoch = request.epoch;
        self.nodes.insert(
            node,
            Registration {
                name,
                certified,
                network,
                sight,
                own,
                epoch,
                challenged: now,
                probes,
                session,
                slow,
                signaling,
                leg: None,
                others,
                afresh: header.flags.afresh(),
                answer: last,
            },
        );
        self.send(now, node, header.transaction, 0, &Message::RegistrationResponse(answer));
        if header.flags.afresh() {
            // Peers have to learn of the restart before new Route Directions lead them to the node.
            self.tell_restarted(now, node);
        }
        self.void_pending_of(now, node);
        self.access_begins(now, node);
        if is_proved && nat && signaling == Signaling::Fast && !is_guest(observed.ip()) {
            self.offer_relay(now, node);
        }
    }

    /// Accepts the epoch of a registration and returns `None`, or returns the least epoch that would be accepted.
    ///
    /// The greatest epoch that is accepted depends on the method: only a link distinguishes a new request from a
    /// repeated one. See [`epoch`].
    fn accept_epoch(&self, node: NodeId, epoch: u64, place: Place) -> Result<Option<u64>, StoreError> {
        let last = self.store.last_epoch(node)?;
        let most = match place {
            Place::Conventional { .. } => epoch::LAST_OF_CLOCKS,
            Place::Proposed { .. } => epoch::most_on_link(&*self.clock),
        };
        let timely = epoch::is_timely(last, epoch, most);
        // The store decides: another process may have accepted an epoch meanwhile.
        if timely && self.store.accept_epoch(node, epoch)? {
            return Ok(None);
        }
        Ok(Some(epoch::least_after(self.store.last_epoch(node)?)))
    }

    /// The NMS's end of a session under a common key.
    fn sealed(&self, key: &Key128) -> SealedSession {
        SealedSession::new(key, Direction::FromResponder).speaking(self.versions)
    }

    /// The NMS's end of a session under the keys of one registration.
    fn sealed_of(&self, key: &Key128, epoch: u64) -> SealedSession {
        SealedSession::of_registration(key, epoch, Direction::FromResponder).speaking(self.versions)
    }

    /// The session of a new registration, which replaces the node's earlier session, and what is known of further
    /// machines with the node's name and key. `header`: the request's.
    fn session(
        &mut self,
        now: Instant,
        node: NodeId,
        header: &Header,
        epoch: u64,
        place: Place,
    ) -> Option<(Session, Others)> {
        let key = match place {
            Place::Conventional { .. } => Some(self.store.common_key(node).ok().flatten()?),
            Place::Proposed { .. } => None,
        };
        let old = self.nodes.remove(&node).map(|registration| (registration.session, registration.others));
        let (old, mut others) = old.map_or((None, Others::default()), |(session, others)| (Some(session), others));
        if let Some(Session::Proposed { link: old }) = old
            && !matches!(place, Place::Proposed { link } if link == old)
        {
            self.forget_link(old);
            self.links.displace(now, old);
        }
        let session = match place {
            Place::Proposed { link } => {
                self.waits_no_more(link);
                Session::Proposed { link }
            }
            Place::Conventional { local, remote } => {
                let key = key?;
                let ends = self.store.common_key_ends(node).ok()?;
                let mut session = self.sealed_of(&key, epoch);
                let first = self.tokens.first_number(node, epoch);
                session.count_from(first);
                let proof = Proof::open(How::Numbered(first), OVERHEAD + usize::from(header.length));
                others.serves(&key);
                let requests = match old {
                    Some(Session::Conventional(old)) if old.key == key => old.requests,
                    old => {
                        if let Some(Session::Conventional(old)) = old {
                            others.keep(old);
                        }
                        self.sealed(&key).having_seen(header.sequence)
                    }
                };
                Session::Conventional(Box::new(Sealed {
                    local,
                    remote,
                    proof,
                    asked_at: None,
                    earlier: VecDeque::new(),
                    session,
                    key,
                    requests,
                    ends,
                }))
            }
        };
        Some((session, others))
    }

    pub(super) fn on_keep_alive(&mut self, now: Instant, node: NodeId, transaction: u32) {
        if self.send(now, node, transaction, 0, &Message::KeepAliveAck) && !defect!(KeepAliveNotCounted) {
            self.expiry.set(node, Some(now + REGISTRATION_SILENCE));
            self.tell_missed(now, node);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(node) = self.expiry.pop_due(now) {
            if self.has_lapsed(node) {
                self.lapse(now, node);
                continue;
            }
            self.nodes.remove(&node);
            self.void_pending_of(now, node);
        }
    }

    /// A link is up, and its peer's certificate was verified.
    pub(super) fn on_link(&mut self, now: Instant, link: LinkId, names: &[Fqdn]) {
        let Some(first) = names.first() else { return self.links.close(now, link) };
        let waiting = self.waiting.entry(first.clone()).or_default();
        waiting.push_back(link);
        if let Some(old) = (waiting.len() > MAX_WAITING).then(|| waiting.pop_front()).flatten() {
            self.link_nodes.remove(&old);
            self.links.close(now, old);
        }
        self.link_nodes.insert(link, names.iter().map(|name| (NodeId::of(name), name.clone())).collect());
    }

    /// Notes that no registration is expected on a link any more: its node has registered, or the link is gone.
    fn waits_no_more(&mut self, link: LinkId) {
        let Some((_, first)) = self.link_nodes.get(&link).and_then(|names| names.first()) else { return };
        let first = first.clone();
        if let Some(waiting) = self.waiting.get_mut(&first) {
            waiting.retain(|other| *other != link);
            if waiting.is_empty() {
                self.waiting.remove(&first);
            }
        }
    }

    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.waits_no_more(link);
        self.link_nodes.remove(&link);
    }

    pub(super) fn on_link_closed(&mut self, now: Instant, link: LinkId, reason: LinkClosed) {
        let nodes: Vec<_> = self.link_nodes.get(&link).into_iter().flatten().cloned().collect();
        self.forget_link(link);
        for (node, name) in nodes {
            if self.is_on(node, link) {
                if matches!(reason, LinkClosed::Authentication | LinkClosed::CertificateDates) {
                    // The node's certificate is not valid any more.
                    self.end_access(now, &name);
                    continue;
                }
                self.nodes.remove(&node);
                self.void_pending_of(now, node);
            }
        }
    }

    /// Whether this node is registered on this link.
    pub(super) fn is_on(&self, node: NodeId, link: LinkId) -> bool {
        matches!(self.nodes.get(&node), Some(Registration { session: Session::Proposed { link: l }, .. }) if *l == link)
    }

    /// Answers a registration that is not accepted.
    fn refuse(
        &mut self,
        now: Instant,
        node: NodeId,
        place: Place,
        header: &Header,
        request: &RegistrationRequest,
        code: ErrorCode,
    ) {
        match place {
            Place::Proposed { link } => self.refuse_on(now, link, header, code),
            Place::Conventional { local, remote } => {
                self.refuse_sealed(node, local, remote, header.transaction, request.epoch, code);
            }
        }
    }

    /// As [`Self::refuse`], for the conventional method. The request was authentic under the common key. If the node is
    /// registered under this key, the request is most likely a replay and gets no answer. An answer is never longer
    /// than its request.
    fn refuse_sealed(
        &mut self,
        node: NodeId,
        local: SocketAddr,
        remote: SocketAddr,
        transaction: u32,
        epoch: u64,
        code: ErrorCode,
    ) {
        let Ok(Some(key)) = self.store.common_key(node) else { return };
        let registered = |n: &Registration| matches!(&n.session, Session::Conventional(sealed) if sealed.key == key);
        if self.nodes.get(&node).is_some_and(registered) {
            return;
        }
        let Some(name) = self.store.device(node).ok().flatten().map(|device| device.name) else { return };
        let mut session = self.sealed_of(&key, epoch);
        // These keys may have been used before. A random start makes it unlikely that a sequence number, and so a
        // nonce, is used again.
        session.count_from(1 << 30 | self.rng.next_u32() >> 2);
        let message = Message::Error(code);
        if let Some(payload) = session.seal(transaction, 0, node.0, &message) {
            self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
            self.signal(Party::Node(name.clone()), &message, Protection::CommonKey(name), 0);
        }
    }

    /// Sends an Error on a link to a peer that is not registered but has a verified certificate.
    pub(super) fn refuse_on(&mut self, now: Instant, link: LinkId, header: &Header, code: ErrorCode) {
        let Some((_, name)) = self.link_nodes.get(&link).and_then(|n| n.iter().find(|(id, _)| id.0 == header.id))
        else {
            return;
        };
        let (name, message) = (name.clone(), Message::Error(code));
        let frame = message.to_bytes(header.transaction, Flags(Flags::FROM_RESPONDER), 0, 0, header.id);
        if self.links.send_frame(now, link, frame.into()) {
            self.signal(Party::Node(name), &message, Protection::Quic, 0);
        }
    }
}

impl Registration {
    /// When the certificate with which the node logged in expires, as the time since 1970 (conventional method). `None`
    /// in the proposed method, where the link ends when the certificate expires.
    pub(super) fn ends(&self) -> Option<Duration> {
        match &self.session {
            Session::Conventional(sealed) => sealed.ends,
            Session::Proposed { .. } => None,
        }
    }

    /// Whether the node uses the conventional method.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.session, Session::Conventional(_))
    }

    /// The node has proved that it is at this address now.
    pub(super) fn proved_at(&mut self, remote: SocketAddr) {
        if is_guest(remote.ip()) {
            return;
        }
        self.network.seen_at(remote);
        let translated = !self.own.contains(&remote);
        match self.sight.family(remote.ip()) {
            Some(reach) => reach.seen = remote,
            reach @ None => *reach = Some(Reach { seen: remote, translated, behaviour: None }),
        }
    }
}
