//! Ends what the TRS relays in the conventional method between two nodes that may not talk any more.
//!
//! Two nodes that ignore *Access Ended* could use their path at the TRS until its grant ends. So the NMS takes the path
//! away: it sends a Relay Request for the same two paths with a tunnel key that it tells nobody. The
//! TRS then has no address of either node, and none of them can prove one. No other message is needed, so a TRS of any
//! version obeys. The request is sent again until the TRS answers.
//!
//! In the proposed method the grant ends by itself ([`crate::grant`]).

use std::collections::BTreeMap;

use rand_chacha::rand_core::RngCore;

use super::Nms;
use super::registry::Session;
use crate::message::{AtEnd, Message, RelayRequest};
use crate::name::{Fqdn, NodeId, PathId};
use crate::time::Instant;
use crate::timers::{Backoff, Timers};
use crate::timing::nms::{ACCESS_ENDED_RETRIES, ROUTING_RETRY};
use crate::timing::{Due, Timer};

/// Most of these requests that wait for an answer. Beyond, they are sent once.
pub(super) const MAX_VOIDS: usize = 65_536;

/// The lesser of two nodes, and the other one.
type Pair = (NodeId, NodeId);

struct Void {
    pair: Pair,
    request: RelayRequest,
    retry: Backoff,
}

/// The requests that wait for an answer, by transaction.
#[derive(Default)]
pub(super) struct Voids {
    waiting: BTreeMap<u32, Void>,
    by_pair: BTreeMap<Pair, u32>,
    timers: Timers<u32>,
}

fn pair(a: NodeId, b: NodeId) -> Pair {
    (a.min(b), a.max(b))
}

impl Voids {
    /// The largest of the tables.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Due> {
        self.timers.next().map(|at| Timer::AccessEnded.at(at))
    }

    /// The TRS has answered. False if it answers none of these.
    pub(super) fn answered(&mut self, transaction: u32) -> bool {
        self.timers.set(transaction, None);
        let Some(void) = self.waiting.remove(&transaction) else { return false };
        self.by_pair.remove(&void.pair);
        true
    }

    /// Two nodes may talk again: their next path is not taken away.
    pub(super) fn forget(&mut self, a: NodeId, b: NodeId) {
        if let Some(&transaction) = self.by_pair.get(&pair(a, b)) {
            self.answered(transaction);
        }
    }
}

impl Nms {
    /// Takes the paths of two nodes away from the TRS, if they may have some: `holder` is, or was, a node of the
    /// conventional method.
    pub(super) fn void_paths(&mut self, now: Instant, holder: NodeId, peer: &Fqdn) {
        let session = self.nodes.get(&holder).map(|registration| &registration.session);
        if self.relay.is_none() || matches!(session, Some(Session::Proposed { .. })) || defect!(PathsOutliveAccess) {
            return;
        }
        let Some(own) = self.name_of(holder) else { return };
        let (forward, backward) = (PathId::of(&own, peer), PathId::of(peer, &own));
        let (tunnel_key, transaction) = (self.new_key(), self.rng.next_u32());
        let request = RelayRequest { epoch: 0, forward, backward, tunnel_key, granted: AtEnd(None) };
        let pair = pair(holder, NodeId::of(peer));
        self.voids.forget(pair.0, pair.1);
        if self.voids.count() < MAX_VOIDS {
            let retry = Backoff::start(now, ROUTING_RETRY);
            self.voids.timers.set(transaction, Some(retry.next));
            self.voids.by_pair.insert(pair, transaction);
            self.voids.waiting.insert(transaction, Void { pair, request: request.clone(), retry });
        }
        self.send_void(now, transaction, request, 0);
    }

    fn send_void(&mut self, now: Instant, transaction: u32, request: RelayRequest, count: u8) {
        let epoch = self.epochs.next(now);
        self.note_asked(transaction);
        self.send_trs(transaction, count, &Message::RelayRequest(RelayRequest { epoch, ..request }));
    }

    /// Sends again what was not answered.
    pub(super) fn void_again(&mut self, now: Instant) {
        while let Some(transaction) = self.voids.timers.pop_due(now) {
            let Some(void) = self.voids.waiting.get_mut(&transaction) else { continue };
            let (count, request) = (void.retry.sent, void.request.clone());
            void.retry.again(now);
            let next = void.retry.next;
            if count > ACCESS_ENDED_RETRIES {
                self.voids.answered(transaction);
                continue;
            }
            self.voids.timers.set(transaction, Some(next));
            self.send_void(now, transaction, request, count);
        }
    }
}
