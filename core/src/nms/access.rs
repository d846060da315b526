//! Ends access after a revocation, the removal of a device, or the end of a certificate; and tunnels after a restart of
//! one of their nodes.
//!
//! The NMS remembers which nodes it told a peer's address: the peer's *holders*. When a peer's access ends, the NMS
//! removes its registration and sends *Access Ended* to each holder, which ends its tunnels with that peer. When a node
//! registers for the first time since it started, its earlier life may have ended without a word. Then the NMS sends
//! *Peer Restarted* to each holder, which forgets its tunnels with that peer: nothing that it sends on them is heard. A
//! holder that is not registered at that moment is told when it registers again, and one that does not answer, because
//! its machine sleeps for example, when its next Keep Alive comes.
//!
//! A restarted NMS has lost this list. So a node that registers while it has tunnels names their peers in a *Peer
//! Report*. The NMS then records the node as their holder again. It tells the node at once which of these peers are no
//! longer devices, and which have started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::rand_core::RngCore;

use super::registry::Session;
use super::{MAX_NODES, Nms};
use crate::event::DropReason;
use crate::key::Key128;
use crate::message::{AccessEnded, AccessRules, AtEnd, ErrorCode, Message, PeerRestarted};
use crate::name::{Fqdn, NodeId};
use crate::time::Instant;
use crate::timers::{Backoff, Timers};
use crate::timing::nms::{ACCESS_ENDED_RETRIES, ROUTING_RETRY};
use crate::timing::{Due, Timer};
use crate::tls;

/// Most pairs of a node and a peer that it was directed to. If there are more, the NMS tells every registered node
/// instead.
pub const MAX_HOLDERS: usize = 1 << 20;
/// Most messages *Access Ended* and *Peer Restarted* that wait for their Keep Alive Acks (conventional method).
pub const MAX_UNTOLD: usize = 65_536;

/// What other access rules say of a holder and its peer.
pub(super) enum Judged {
    /// The two may not talk. The peer's name.
    Forbidden(Fqdn),
    /// They may, and the holder is told how.
    Permitted(AccessRules),
}

/// The holders of each peer, and the notifications that are not acknowledged yet.
#[derive(Default)]
pub(super) struct Access {
    /// A peer, and a node that was told its address.
    holders: BTreeSet<(NodeId, NodeId)>,
    /// Whether there were ever more than [`MAX_HOLDERS`].
    overflowed: bool,
    /// Names whose access ended, and that have not registered since.
    ended: BTreeMap<NodeId, Fqdn>,
    /// Common keys that are void, although the database could not be written (conventional method).
    void: BTreeMap<NodeId, Key128>,
    /// Names that registered for the first time since they started, in the life of this NMS.
    afresh: BTreeSet<NodeId>,
    /// A holder that was not registered when the access of a peer ended or the peer started anew, and that peer.
    due: BTreeSet<(NodeId, NodeId)>,
    /// Told, and not acknowledged yet (conventional method), by transaction.
    untold: BTreeMap<u32, Untold>,
    /// The same by holder and peer.
    by_pair: BTreeSet<(NodeId, NodeId, u32)>,
    timers: Timers<u32>,
}

struct Untold {
    holder: NodeId,
    peer: NodeId,
    message: Message,
    retry: Backoff,
}

impl Access {
    /// The largest of the tables.
    pub(super) fn count(&self) -> usize {
        let names = self.ended.len().max(self.afresh.len()).max(self.void.len());
        self.holders.len().max(self.due.len()).max(names).max(self.untold.len())
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Due> {
        self.timers.next().map(|at| Timer::AccessEnded.at(at))
    }

    fn remember<T: Ord>(set: &mut BTreeSet<T>, item: T) -> bool {
        set.contains(&item) || set.len() < MAX_HOLDERS && set.insert(item)
    }

    fn forget_untold(&mut self, transaction: u32) {
        if let Some(untold) = self.untold.remove(&transaction) {
            self.by_pair.remove(&(untold.holder, untold.peer, transaction));
        }
        self.timers.set(transaction, None);
    }

    /// Takes all pairs of `first` out, and gives their second nodes in order.
    fn take(pairs: &mut BTreeSet<(NodeId, NodeId)>, first: NodeId) -> Vec<NodeId> {
        let range = (first, NodeId([0; 16]))..=(first, NodeId([255; 16]));
        let seconds: Vec<NodeId> = pairs.range(range).map(|&(_, second)| second).collect();
        for &second in &seconds {
            pairs.remove(&(first, second));
        }
        seconds
    }
}

impl Nms {
    /// Notes that a node is told a peer's address.
    pub(super) fn holds(&mut self, holder: NodeId, peer: NodeId) {
        if !Access::remember(&mut self.access.holders, (peer, holder)) {
            self.access.overflowed = true;
        }
        // The new tunnel will belong to the peer's present run, and the two may talk now. So earlier notifications are
        // void.
        self.access.due.remove(&(holder, peer));
        self.void_untold(holder, peer);
        self.voids.forget(holder, peer);
    }

    /// Notes that two nodes use a path at the TRS, so each was told the other's name.
    pub(super) fn are_holders(&mut self, now: Instant, a: NodeId, b: NodeId) {
        for pair in [(a, b), (b, a)] {
            if !Access::remember(&mut self.access.holders, pair) {
                self.access.overflowed = true;
            }
            if let Some(name) = self.name_of(pair.0) {
                self.watch_login_of(now, pair.0, &name);
            }
        }
    }

    /// Takes back what a node was told about a peer and has not acknowledged.
    fn void_untold(&mut self, holder: NodeId, peer: NodeId) {
        let range = (holder, peer, 0)..=(holder, peer, u32::MAX);
        let void: Vec<u32> = self.access.by_pair.range(range).map(|&(_, _, transaction)| transaction).collect();
        for transaction in void {
            self.access.forget_untold(transaction);
        }
    }

    /// Ends the access of a name: its registration, and its tunnels at its holders.
    pub(super) fn end_access(&mut self, now: Instant, name: &Fqdn) {
        let node = NodeId::of(name);
        self.lapses.forget(node);
        self.void_key(node);
        if let Some(registration) = self.nodes.remove(&node) {
            self.expiry.set(node, None);
            if let Session::Proposed { link } = registration.session {
                self.forget_link(link);
                self.links.close(now, link);
            }
            self.void_pending_of(now, node);
        }
        if self.access.ended.len() < MAX_HOLDERS {
            self.access.ended.insert(node, name.clone());
        }
        let mut holders = Access::take(&mut self.access.holders, node);
        if self.access.overflowed {
            holders.extend(self.nodes.keys().copied().filter(|&other| other != node));
        }
        if defect!(RevocationUntold) {
            return;
        }
        for holder in holders {
            self.void_paths(now, holder, name);
            if self.nodes.contains_key(&holder) {
                self.tell_ended(now, holder, name.clone(), None);
            } else if !Access::remember(&mut self.access.due, (holder, node)) {
                self.access.overflowed = true;
            }
        }
    }

    /// The common key of a node's last login is void, so the node must log in again, and the AS decides.
    pub(super) fn void_key(&mut self, node: NodeId) {
        let new = self.new_key();
        let Ok(Some(old)) = self.store.common_key(node) else { return };
        if self.store.put_common_key(node, &new, None).is_ok() {
            self.access.void.remove(&node);
        } else if self.access.void.len() < MAX_NODES {
            self.access.void.insert(node, old);
        }
    }

    /// The common key of a node's last login, unless that is void.
    pub(super) fn common_key(&mut self, node: NodeId) -> Option<Key128> {
        let key = self.store.common_key(node).ok()??;
        match self.access.void.get(&node) {
            Some(void) if *void == key => {
                // The database may be writable again.
                self.void_key(node);
                None
            }
            // The node has logged in again.
            Some(_) => {
                self.access.void.remove(&node);
                Some(key)
            }
            None => Some(key),
        }
    }

    /// Whether the certificate has ended by which a registered node logged in (conventional method).
    pub(super) fn has_lapsed(&self, node: NodeId) -> bool {
        let ends = self.nodes.get(&node).and_then(super::Registration::ends);
        ends.is_some_and(|ends| self.is_past(ends))
    }

    /// The same of the node's last login, by the store.
    pub(super) fn login_has_lapsed(&self, node: NodeId) -> bool {
        matches!(self.store.common_key_ends(node), Ok(Some(ends)) if self.is_past(ends))
    }

    fn is_past(&self, ends: Duration) -> bool {
        ends <= tls::judging(&*self.clock) && !defect!(LapsedLoginKept)
    }

    /// The certificate of a registration has ended.
    pub(super) fn lapse(&mut self, now: Instant, node: NodeId) {
        let Some(name) = self.nodes.get(&node).map(|registration| registration.name.clone()) else { return };
        if self.login_has_lapsed(node) {
            return self.end_access(now, &name);
        }
        // It has logged in again meanwhile, and is about to register.
        self.nodes.remove(&node);
        self.expiry.set(node, None);
        self.void_pending_of(now, node);
    }

    /// A node has registered: it has access again, and is sent the notifications that it missed.
    pub(super) fn access_begins(&mut self, now: Instant, node: NodeId) {
        self.access.ended.remove(&node);
        self.tell_missed(now, node);
    }

    /// A registered node is heard. It is sent the notifications that it missed, asleep for example.
    pub(super) fn tell_missed(&mut self, now: Instant, node: NodeId) {
        for peer in Access::take(&mut self.access.due, node) {
            if let Some(name) = self.access.ended.get(&peer).cloned() {
                self.tell_ended(now, node, name, None);
            } else if let Some(name) = self.forbidden_name(node, peer) {
                self.tell_ended(now, node, name, Some(ErrorCode::NotPermitted));
            } else {
                self.tell_restart_of(now, node, peer);
            }
        }
    }

    /// A node has registered for the first time since it started. Its holders have tunnels with its earlier run.
    pub(super) fn tell_restarted(&mut self, now: Instant, node: NodeId) {
        if self.access.afresh.len() < MAX_NODES {
            self.access.afresh.insert(node);
        }
        // Notifications that the node missed are about tunnels of its earlier run.
        Access::take(&mut self.access.due, node);
        for holder in Access::take(&mut self.access.holders, node) {
            if self.nodes.contains_key(&holder) {
                self.tell_restart_of(now, holder, node);
            } else {
                Access::remember(&mut self.access.due, (holder, node));
            }
        }
    }

    /// A node that registered anew names the peers of its tunnels.
    pub(super) fn on_peer_report(&mut self, now: Instant, node: NodeId, transaction: u32, peers: &[Fqdn]) {
        if !self.rates.may_report(now, node) {
            return self.dropped(DropReason::Busy);
        }
        self.send(now, node, transaction, 0, &Message::KeepAliveAck);
        for name in peers {
            let peer = NodeId::of(name);
            // This NMS may have been started after the certificate of the peer's last login ended.
            let has_lapsed = !self.nodes.contains_key(&peer) && self.login_has_lapsed(peer);
            if (has_lapsed || !self.has_access(peer)) && !defect!(RevocationUntold) {
                self.tell_ended(now, node, name.clone(), None);
            } else if self.forbids(node, name) {
                self.tell_ended(now, node, name.clone(), Some(ErrorCode::NotPermitted));
            } else if peer != node {
                self.watch_login_of(now, peer, name);
                self.tell_permissions(now, node, name);
                let is_old = self.access.afresh.contains(&peer) && !self.access.holders.contains(&(peer, node));
                if is_old && !self.access.overflowed {
                    self.tell_restart_of(now, node, peer);
                } else {
                    self.holds(node, peer);
                }
            }
        }
    }

    /// Whether a name is a device whose access has not ended. A database that fails ends nobody's access.
    pub(super) fn has_access(&self, node: NodeId) -> bool {
        !self.access.ended.contains_key(&node) && !matches!(self.store.device(node), Ok(None))
    }

    /// `why`: if not because the peer has no access any more.
    fn tell_ended(&mut self, now: Instant, holder: NodeId, peer: Fqdn, why: Option<ErrorCode>) {
        let ended = AccessEnded { peer, why: AtEnd(why) };
        self.tell(now, holder, NodeId::of(&ended.peer), Message::AccessEnded(ended));
    }

    /// Judges all pairs of a holder and its peer anew, and tells the holders what is other than it was.
    pub(super) fn judge_pairs(&mut self, now: Instant, mut judge: impl FnMut(&Self, NodeId, NodeId) -> Option<Judged>) {
        let pairs: Vec<_> = self.access.holders.iter().copied().collect();
        for (peer, holder) in pairs {
            let Some(judged) = judge(self, holder, peer) else { continue };
            if let Judged::Forbidden(name) = &judged {
                self.access.holders.remove(&(peer, holder));
                self.void_paths(now, holder, name);
            }
            match judged {
                _ if !self.nodes.contains_key(&holder) => {
                    if !Access::remember(&mut self.access.due, (holder, peer)) {
                        self.access.overflowed = true;
                    }
                }
                Judged::Forbidden(name) => self.tell_ended(now, holder, name, Some(ErrorCode::NotPermitted)),
                Judged::Permitted(rules) => self.tell_rules(now, holder, rules),
            }
        }
        if self.access.overflowed {
            // Nodes that register again report their peers.
            let all: Vec<NodeId> = self.nodes.keys().copied().collect();
            for node in all {
                self.send(now, node, 0, 0, &Message::Error(ErrorCode::NotRegistered));
            }
        }
    }

    fn tell_restart_of(&mut self, now: Instant, holder: NodeId, peer: NodeId) {
        let Some(name) = self.nodes.get(&peer).map(|registration| registration.name.clone()) else { return };
        self.tell(now, holder, peer, Message::PeerRestarted(PeerRestarted { peer: name }));
    }

    /// Tells a node what it and a peer may open to each other.
    pub(super) fn tell_rules(&mut self, now: Instant, holder: NodeId, rules: AccessRules) {
        self.tell(now, holder, NodeId::of(&rules.peer), Message::AccessRules(rules));
    }

    fn tell(&mut self, now: Instant, holder: NodeId, peer: NodeId, message: Message) {
        // What was said before about the peer is void.
        self.void_untold(holder, peer);
        let transaction = self.rng.next_u32();
        self.send(now, holder, transaction, 0, &message);
        let sealed = self.nodes.get(&holder).is_some_and(super::Registration::is_sealed);
        if sealed && self.access.untold.len() < MAX_UNTOLD {
            let retry = Backoff::start(now, ROUTING_RETRY);
            self.access.timers.set(transaction, Some(retry.next));
            self.access.by_pair.insert((holder, peer, transaction));
            self.access.untold.insert(transaction, Untold { holder, peer, message, retry });
        }
    }

    /// Takes a Keep Alive Ack of a node. It can only answer one of these messages, because the NMS sends no other that
    /// asks for one. False if it answers none.
    pub(super) fn on_told(&mut self, node: NodeId, transaction: u32) -> bool {
        let told = self.access.untold.get(&transaction).is_some_and(|untold| untold.holder == node);
        if told {
            self.access.forget_untold(transaction);
        }
        told
    }

    pub(super) fn tell_again(&mut self, now: Instant) {
        while let Some(transaction) = self.access.timers.pop_due(now) {
            let Some(untold) = self.access.untold.get_mut(&transaction) else { continue };
            let (holder, peer, count) = (untold.holder, untold.peer, untold.retry.sent);
            let message = untold.message.clone();
            untold.retry.again(now);
            let next = untold.retry.next;
            if count > ACCESS_ENDED_RETRIES || !self.nodes.contains_key(&holder) {
                self.access.forget_untold(transaction);
                // The holder is told when it is heard or registers again.
                Access::remember(&mut self.access.due, (holder, peer));
                continue;
            }
            self.access.timers.set(transaction, Some(next));
            self.send(now, holder, transaction, count, &message);
        }
    }
}
