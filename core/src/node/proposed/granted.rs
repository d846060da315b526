//! The grants of a node. With a grant of the NMS a node may use a peer's leg at the TRS for a limited time. The node
//! sends the grant to the TRS before its Tunnel Request, and asks the NMS for the next grant before this one ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Proposed;
use crate::header::Flags;
use crate::message::{AtEnd, GrantRequest, Message, RelayGrant};
use crate::name::{Fqdn, Party, RelayCid};
use crate::node::carriage::Carriage;
use crate::quic::LinkId;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::node::{GRANT_RENEWAL, GRANT_RETRY};
use crate::timing::{Due, Timer};

/// The largest number of grants that wait for a leg of this node. It is more than the tunnels that a node builds at one
/// time.
const MAX_WAITING: usize = 4_096;

/// The grants that a node has.
#[derive(Default)]
pub(super) struct Held {
    /// Grants for which this node's leg is not up yet, by peer.
    waiting: BTreeMap<Fqdn, RelayGrant>,
    /// Grants that the TRS has received, by this node's leg, and their ends.
    shown: BTreeMap<LinkId, (RelayGrant, Instant)>,
    /// When to ask the NMS for the next grant, by this node's leg.
    renewals: Timers<LinkId>,
}

impl Held {
    pub(super) fn next_timer(&self) -> Option<Due> {
        self.renewals.next().map(|at| Timer::GrantRenewal.at(at))
    }

    pub(super) fn count(&self) -> usize {
        self.waiting.len().max(self.shown.len())
    }
}

/// How long a grant lasts.
fn time_of(grant: &RelayGrant) -> Duration {
    Duration::from_secs(grant.seconds.into())
}

impl Proposed {
    /// Takes a grant of the NMS, for a leg that is up or that is being opened.
    pub(super) fn take_grant(&mut self, now: Instant, grant: RelayGrant) {
        let is_renewal = |(held, _): &(RelayGrant, Instant)| {
            (&held.to, held.leg) == (&grant.to, grant.leg) && held.from == grant.from
        };
        let leg = self.grants.shown.iter().find(|(_, held)| is_renewal(held)).map(|(&leg, _)| leg);
        match leg {
            Some(leg) => self.show(now, leg, grant),
            None if self.grants.waiting.len() < MAX_WAITING || self.grants.waiting.contains_key(&grant.to) => {
                self.grants.waiting.insert(grant.to.clone(), grant);
            }
            None => {}
        }
    }

    /// This node's leg is up. Sends the TRS the grant for the peer's leg. False if there is no such grant.
    pub(super) fn show_grant(&mut self, now: Instant, leg: LinkId, peer: &Fqdn, theirs: RelayCid) -> bool {
        let grant = self.grants.waiting.remove(peer).filter(|grant| grant.leg == theirs);
        let Some(grant) = grant else { return false };
        self.show(now, leg, grant);
        true
    }

    /// Sends a grant to the TRS, and sets the time at which the next one is asked for.
    fn show(&mut self, now: Instant, leg: LinkId, grant: RelayGrant) {
        let time = time_of(&grant);
        let message = Message::RelayGrant(grant.clone());
        let transaction = self.random();
        self.send_flagged(now, leg, Party::Trs, (transaction, Flags(0)), self.id.0, &message);
        self.grants.shown.insert(leg, (grant, now + time));
        self.grants.renewals.set(leg, Some(now + time.saturating_sub(GRANT_RENEWAL.min(time / 2))));
    }

    /// Asks the NMS for the next grant of each leg whose grant will end soon. Forgets the grants of legs that are gone.
    pub(super) fn renew_grants(&mut self, now: Instant) {
        while let Some(leg) = self.grants.renewals.pop_due(now) {
            let Some((grant, until)) = self.grants.shown.get(&leg) else { continue };
            if !self.owners.contains_key(&leg) || *until <= now {
                self.grants.shown.remove(&leg);
                continue;
            }
            let (peer, theirs) = (grant.to.clone(), grant.leg);
            let again = now + GRANT_RETRY.min(time_of(grant) / 8).max(Duration::from_secs(1));
            self.grants.renewals.set(leg, Some(again));
            let transaction = self.random();
            self.send_nms(now, transaction, 0, Message::GrantRequest(GrantRequest { peer, leg: AtEnd(Some(theirs)) }));
        }
    }
}
