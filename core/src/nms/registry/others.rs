//! Two machines with one identity: a virtual machine was cloned, or a key was copied or stolen.
//!
//! A node that is restarted, or that moves, looks like a second machine when it registers. So the machine that
//! registers last is served at once, without a question. The other one is told (application error code 3 on its link,
//! or *another machine* under its last keys). From then on it sets [`Flags::YIELDS`](crate::header::Flags::YIELDS) in
//! its requests. Such a request is refused as long as the served machine is heard. It is also the proof that there are
//! two machines: a node that was restarted or has moved does not hear what is said to its earlier life.
//!
//! In the conventional method a login voids the common key of the login before. The NMS keeps the sessions of earlier
//! logins, so that it can answer the machines that still use them. It does not serve them.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};

use rand_chacha::rand_core::RngCore;

use super::{Sealed, Session};
use crate::conventional::keys::Direction;
use crate::conventional::session::Session as SealedSession;
use crate::event::{Event, Protection};
use crate::header::{Header, Kind};
use crate::key::Key128;
use crate::machine::{Output, Transmit};
use crate::message::{ErrorCode, Message};
use crate::name::{NodeId, Party};
use crate::nms::{Nms, Place};
use crate::proxied::is_guest;
use crate::time::Instant;
use crate::timing::nms::{OTHER_MACHINE_SILENCE, OTHER_MACHINE_TOLD, REGISTRATION_SILENCE};

/// Most sessions of earlier logins of one node. With two of them, three machines with one key are told apart.
const MAX_SESSIONS: usize = 2;

/// What the NMS knows of further machines with a node's name and key.
#[derive(Default)]
pub(in crate::nms) struct Others {
    /// The sessions of earlier logins, the latest last (conventional method).
    sessions: VecDeque<Box<Sealed>>,
    /// The machine that was refused last, and when.
    refused: Option<(SocketAddr, Instant)>,
    /// When an event told of it last.
    told: Option<Instant>,
}

impl Others {
    /// Keeps the session of an earlier login.
    pub(super) fn keep(&mut self, sealed: Box<Sealed>) {
        self.sessions.push_back(sealed);
        if self.sessions.len() > MAX_SESSIONS {
            self.sessions.pop_front();
        }
    }

    /// A machine has registered with this common key, so it is the one that is served.
    pub(super) fn serves(&mut self, key: &Key128) {
        self.sessions.retain(|sealed| sealed.key != *key);
    }

    /// The machine that was refused last, and when.
    pub(in crate::nms) fn refused(&self) -> Option<(SocketAddr, Instant)> {
        self.refused
    }

    /// Opens a message under the keys of an earlier login.
    fn open(&mut self, kind: Kind, payload: &mut [u8]) -> Option<(&mut Sealed, Header, Message)> {
        self.sessions.iter_mut().find_map(|sealed| {
            let session = if kind == Kind::RegistrationRequest { &mut sealed.requests } else { &mut sealed.session };
            let (header, message) = session.open_message(payload).ok()?;
            Some((&mut **sealed, header, message))
        })
    }
}

impl Nms {
    /// Where the NMS sees the machine that is registered, if that machine was heard a moment ago.
    fn served_at(&self, now: Instant, node: NodeId) -> Option<SocketAddr> {
        match &self.nodes.get(&node)?.session {
            Session::Conventional(sealed) => {
                let ends = self.expiry.at(node)?;
                (now + REGISTRATION_SILENCE < ends + OTHER_MACHINE_SILENCE).then_some(sealed.remote)
            }
            Session::Proposed { link } => {
                let is_heard = self.links.heard_at(*link).is_some_and(|at| now < at + OTHER_MACHINE_SILENCE);
                is_heard.then(|| self.links.remote(*link)).flatten()
            }
        }
    }

    /// As [`Self::served_at`], if that is another machine than the one that registers from `place`. In the conventional
    /// method a request that is authentic now is under the newest login, and voids the session of any other one. Two
    /// machines are never seen at one address and port, so a machine that is seen where the served one is, is that one.
    pub(super) fn served_elsewhere(
        &self,
        now: Instant,
        node: NodeId,
        place: Place,
        observed: SocketAddr,
    ) -> Option<SocketAddr> {
        let is_other = match (&self.nodes.get(&node)?.session, place) {
            (Session::Proposed { link }, Place::Proposed { link: asks }) => *link != asks,
            (Session::Conventional(_), Place::Conventional { .. }) => false,
            _ => true,
        };
        is_other.then(|| self.served_at(now, node)).flatten().filter(|served| *served != observed)
    }

    /// A machine that knows of another one with its name and key was refused in that one's favour.
    pub(super) fn note_other(&mut self, now: Instant, node: NodeId, served: SocketAddr, refused: SocketAddr) {
        let Some(registration) = self.nodes.get_mut(&node) else { return };
        let others = &mut registration.others;
        others.refused = Some((refused, now));
        if others.told.is_none_or(|at| now >= at + OTHER_MACHINE_TOLD) {
            others.told = Some(now);
            let name = registration.name.clone();
            self.out.push_back(Output::from(Event::OtherMachine { name, served, refused }));
        }
        if !std::mem::replace(&mut registration.afresh, true) {
            // Peers may still have tunnels with the machine that is not served any more.
            self.tell_restarted(now, node);
        }
    }

    /// Answers a message under the keys of an earlier login: another machine has logged in since. If that machine is
    /// not heard any more, the answer is "not registered", so this one logs in again. Returns whether the message was
    /// of that kind.
    pub(in crate::nms) fn tell_displaced(
        &mut self,
        now: Instant,
        node: NodeId,
        kind: Kind,
        (local, remote): (SocketAddr, SocketAddr),
        payload: &mut [u8],
    ) -> bool {
        if defect!(DisplacedUntold) {
            return false;
        }
        let served = self.served_at(now, node);
        // Keys of a registration may have been used before. A random start makes it unlikely that a sequence number,
        // and so a nonce, is used again.
        let (first, versions) = (1 << 30 | self.rng.next_u32() >> 2, self.versions);
        let Some(registration) = self.nodes.get_mut(&node) else { return false };
        let Some((other, header, message)) = registration.others.open(kind, payload) else { return false };
        let error = Message::Error(served.map_or(ErrorCode::NotRegistered, |at| ErrorCode::OtherMachine(told(at))));
        let answer = match message {
            Message::Error(_) => None,
            Message::RegistrationRequest(request) => {
                let session = SealedSession::of_registration(&other.key, request.epoch, Direction::FromResponder);
                let mut session = session.speaking(versions);
                session.count_from(first);
                session.seal(header.transaction, 0, node.0, &error)
            }
            _ => other.session.seal(header.transaction, 0, node.0, &error),
        };
        if let Some(payload) = answer {
            let name = registration.name.clone();
            self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
            self.signal(Party::Node(name.clone()), &error, Protection::CommonKey(name), 0);
        }
        // Only a machine that was told before proves that there are two: other messages may have been under way when
        // one machine logged in again.
        if let Some(served) = served.filter(|_| header.flags.yields()) {
            self.note_other(now, node, served, remote);
        }
        true
    }
}

/// The address of a machine, as another one is told. A node that came by TCP has none that means something elsewhere.
pub(super) fn told(served: SocketAddr) -> SocketAddr {
    if is_guest(served.ip()) { (Ipv6Addr::UNSPECIFIED, 0).into() } else { served }
}
