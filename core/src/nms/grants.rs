//! Grants, by which two nodes may use the TRS for some time, and their renewal.
//!
//! In the proposed method the node takes its grant to the TRS itself ([`crate::grant`]). In the conventional method the
//! first grant is in the Relay Request. The initiator asks for the next one (*Grant Request*). If the two nodes may
//! still talk, the NMS sends the TRS a *Path Grant*. When the TRS has answered, the initiator gets the same Path Grant.
//! Otherwise the initiator asks again.
//!
//! The NMS keeps nothing of a pair for this. So an NMS that was restarted renews the grants of paths that it does not
//! know, if its database and its rules permit the two nodes to talk. It then knows the two as each other's holders.

use std::collections::BTreeMap;

use rand_chacha::rand_core::RngCore;

use super::Nms;
use crate::event::DropReason;
use crate::message::{ErrorCode, GrantRequest, Message, PathGrant};
use crate::name::{Fqdn, NodeId, PathId, RelayCid};
use crate::time::Instant;

/// Most Path Grants that wait for the TRS's answer. The oldest one gives way; its node asks again.
pub(super) const MAX_PATH_GRANTS: usize = 4_096;

/// A Path Grant that the TRS has not answered yet.
struct Asked {
    node: NodeId,
    peer: NodeId,
    /// The node's transaction.
    transaction: u32,
    grant: PathGrant,
    /// How many were asked for before.
    number: u64,
}

/// The Path Grants that wait for the TRS's answer, by transaction, and their order.
#[derive(Default)]
pub(super) struct PathGrants {
    waiting: BTreeMap<u32, Asked>,
    order: BTreeMap<u64, u32>,
    next: u64,
}

impl PathGrants {
    /// The larger of the tables.
    pub(super) fn count(&self) -> usize {
        self.waiting.len().max(self.order.len())
    }

    fn insert(&mut self, id: u32, mut asked: Asked) {
        self.remove(id);
        if let Some((_, oldest)) = self.order.first_key_value().filter(|_| self.order.len() >= MAX_PATH_GRANTS) {
            self.remove(*oldest);
        }
        asked.number = self.next;
        self.next += 1;
        self.order.insert(asked.number, id);
        self.waiting.insert(id, asked);
    }

    fn remove(&mut self, id: u32) -> Option<Asked> {
        let asked = self.waiting.remove(&id)?;
        self.order.remove(&asked.number);
        Some(asked)
    }
}

impl Nms {
    /// A grant for a registered node and a peer's leg, if the NMS gives any (proposed method).
    pub(super) fn grant(&mut self, now: Instant, node: NodeId, peer: &Fqdn, leg: RelayCid) -> Option<Message> {
        let (grants, seconds) = self.grants.as_ref()?;
        let from = self.nodes.get(&node)?.name.clone();
        let serial = self.epochs.next(now);
        Some(Message::RelayGrant(grants.grant(from, peer.clone(), leg, serial, *seconds)))
    }

    /// Answers a node whose grant at the TRS will end soon. The node gets a new grant as long as the peer has access to
    /// the overlay and the access rules permit the two nodes to talk.
    pub(super) fn on_grant_request(&mut self, now: Instant, node: NodeId, transaction: u32, request: &GrantRequest) {
        if !self.is_proved(node) {
            // The node asks again. By then it has answered the challenge.
            return self.dropped(DropReason::Unproved);
        }
        if !self.rates.may_ask(now, node) {
            return self.dropped(DropReason::Busy);
        }
        let peer = NodeId::of(&request.peer);
        let answer = if self.forbids(node, &request.peer) {
            Message::Error(ErrorCode::NotPermitted)
        } else if !self.has_access(peer) || !self.nodes.contains_key(&peer) && self.login_has_lapsed(peer) {
            Message::Error(ErrorCode::UnknownPeer)
        } else if let Some(leg) = request.leg.0 {
            self.grant(now, node, &request.peer, leg).unwrap_or(Message::Error(ErrorCode::NoRelay))
        } else if self.grants.is_some() && self.trs.is_some() {
            return self.grant_path(now, node, transaction, &request.peer);
        } else {
            Message::Error(ErrorCode::NoRelay)
        };
        self.send(now, node, transaction, 0, &answer);
    }

    /// Asks the TRS to relay between a node and its peer for another time.
    fn grant_path(&mut self, now: Instant, node: NodeId, transaction: u32, peer: &Fqdn) {
        let Some(own) = self.nodes.get(&node).map(|registration| registration.name.clone()) else { return };
        let Some(seconds) = self.grants.as_ref().map(|(_, seconds)| *seconds) else { return };
        let grant = PathGrant { epoch: 0, forward: PathId::of(&own, peer), seconds };
        let id = self.rng.next_u32();
        self.path_grants.insert(id, Asked { node, peer: NodeId::of(peer), transaction, grant, number: 0 });
        self.grant_path_again(now, id);
    }

    /// Sends the TRS a Path Grant that it has not answered.
    pub(super) fn grant_path_again(&mut self, now: Instant, id: u32) {
        let Some(asked) = self.path_grants.waiting.get_mut(&id) else { return };
        asked.grant.epoch = self.epochs.next(now);
        let grant = asked.grant.clone();
        self.note_asked(id);
        self.send_trs(id, 0, &Message::PathGrant(grant));
    }

    /// Takes the TRS's answer to a Path Grant. False if it answers none.
    pub(super) fn path_was_granted(&mut self, now: Instant, id: u32, accepted: bool) -> bool {
        let Some(Asked { node, peer, transaction, grant, .. }) = self.path_grants.remove(id) else { return false };
        if accepted {
            // The TRS has these paths, so the NMS directed the two nodes to each other, perhaps before a restart.
            self.are_holders(now, node, peer);
            self.send(now, node, transaction, 0, &Message::PathGrant(grant));
        } else {
            self.send(now, node, transaction, 0, &Message::Error(ErrorCode::NoRelay));
        }
        true
    }
}
