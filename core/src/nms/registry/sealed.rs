//! Sealed messages of nodes (conventional method), and answers to those that cannot be taken.

use std::net::SocketAddr;

use rand_chacha::rand_core::RngCore;

use super::Session;
use crate::event::{DropReason, Protection};
use crate::header::{Header, Kind};
use crate::machine::{Output, Transmit};
use crate::message::{ErrorCode, Message};
use crate::name::{NodeId, Party};
use crate::nms::Nms;
use crate::time::Instant;

impl Nms {
    /// Opens a sealed message of a node: a Registration Request is under the common key, everything else under the keys
    /// of a registration. The store is asked only for an authentic message, or for a Registration Request that no
    /// known key opens. The second is limited in rate.
    pub(in crate::nms) fn open_sealed(
        &mut self,
        now: Instant,
        node: NodeId,
        (kind, transaction, from): (Kind, u32, SocketAddr),
        payload: &mut [u8],
    ) -> Result<(Header, Message), DropReason> {
        let mut known = match self.nodes.get_mut(&node).map(|registration| &mut registration.session) {
            Some(Session::Conventional(sealed)) => Some(sealed),
            Some(Session::Proposed { .. }) | None => None,
        };
        let opened = match (&mut known, kind) {
            (Some(sealed), Kind::RegistrationRequest) => match sealed.requests.open_message(payload) {
                // The request may be under the key of a newer login.
                Err(DropReason::BadHmac) => None,
                other => Some(other?),
            },
            (Some(sealed), _) => Some(sealed.session.open_message(payload)?),
            (None, Kind::RegistrationRequest) => None,
            (None, _) => return Err(DropReason::UnknownId),
        };
        if opened.is_none() && !self.rates.may_work(now, from, transaction) {
            return Err(DropReason::Busy);
        }
        // The old key is void if the node logged in again or if its device was removed.
        let known = known.map(|sealed| sealed.key.clone());
        let key = self.common_key(node).ok_or(DropReason::UnknownId)?;
        let current = known.is_some_and(|known| known == key);
        match opened {
            Some(opened) if current => Ok(opened),
            Some(_) => Err(DropReason::UnknownId),
            None if current => Err(DropReason::BadHmac),
            None => self.sealed(&key).open_message(payload),
        }
    }

    /// Answers a message of an unknown type, if it is from a registered node: the node may be of a later version.
    pub(in crate::nms) fn refuse_unknown(
        &mut self,
        node: NodeId,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &mut [u8],
    ) {
        let Some(registration) = self.nodes.get_mut(&node) else { return };
        let Session::Conventional(sealed) = &mut registration.session else { return };
        if let Some((message, answer)) = sealed.session.refuse_unknown(payload) {
            let name = registration.name.clone();
            self.out.push_back(Output::from(Transmit::new(local, remote, answer)));
            self.signal(Party::Node(name.clone()), &message, Protection::CommonKey(name), 0);
        }
    }

    /// Answers "not registered" to a node whose registration was lost, because the NMS was restarted or the node was
    /// silent for too long. The message must be authentic under the keys of the node's last registration; all others
    /// are dropped in silence.
    pub(in crate::nms) fn tell_forgotten(
        &mut self,
        now: Instant,
        node: NodeId,
        (local, remote): (SocketAddr, SocketAddr),
        payload: &mut [u8],
    ) {
        let mut answer = || {
            let asked = Header::<u8>::read(payload)?.transaction;
            let key = self.rates.may_work(now, remote, asked).then(|| self.common_key(node))??;
            let epoch = self.store.last_epoch(node).ok()??;
            let mut session = self.sealed_of(&key, epoch);
            let (header, _) = session.open_message(payload).ok()?;
            // These keys have been used before. A random start makes it unlikely that a sequence number, and so a
            // nonce, is used again.
            session.count_from(1 << 30 | self.rng.next_u32() >> 2);
            let message = Message::Error(ErrorCode::NotRegistered);
            let payload = session.seal(header.transaction, 0, node.0, &message)?;
            Some((self.store.device(node).ok()??.name, message, Transmit::new(local, remote, payload)))
        };
        if let Some((name, message, transmit)) = answer() {
            self.out.push_back(Output::from(transmit));
            self.signal(Party::Node(name.clone()), &message, Protection::CommonKey(name), 0);
        }
    }
}
