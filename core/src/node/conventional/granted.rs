//! The grant of a relayed tunnel (conventional method). The TRS relays until the grant of the NMS ends. So the
//! initiator asks the NMS for the next grant in time, as long as the tunnel is up.

use std::time::Duration;

use super::Conventional;
use crate::message::{AtEnd, GrantRequest, Message, PathGrant};
use crate::node::carriage::Carriage;
use crate::node::part::TunnelId;
use crate::time::Instant;
use crate::timing::node::{GRANT_FIRST_RENEWAL, GRANT_RENEWAL, GRANT_RETRY};

/// When the next grant is asked for.
pub(super) struct Renewal {
    /// When to ask.
    pub(super) at: Instant,
    /// How long the last grant lasts, as far as this node knows.
    time: Duration,
    /// The last Grant Request.
    transaction: u32,
}

impl Renewal {
    /// The tunnel has come up. How long its first grant lasts is not known yet.
    pub(super) fn first(now: Instant) -> Self {
        Self { at: now + GRANT_FIRST_RENEWAL, time: GRANT_FIRST_RENEWAL * 2, transaction: 0 }
    }
}

impl Conventional {
    /// Asks for the next grant, if that is due. Without an answer the node asks again.
    pub(super) fn renew_grant(&mut self, now: Instant, id: TunnelId) {
        if !self.is_renewal_due(now, id) {
            return;
        }
        let transaction = self.random();
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(renewal) = &mut tunnel.renewal else { return };
        renewal.at = now + GRANT_RETRY.min(renewal.time / 8).max(Duration::from_secs(1));
        renewal.transaction = transaction;
        let peer = tunnel.name.clone();
        self.send_nms(now, transaction, 0, Message::GrantRequest(GrantRequest { peer, leg: AtEnd(None) }));
    }

    fn is_renewal_due(&self, now: Instant, id: TunnelId) -> bool {
        let tunnel = self.tunnels.get(&id).filter(|tunnel| tunnel.is_up());
        tunnel.and_then(|tunnel| tunnel.renewal.as_ref()).is_some_and(|renewal| renewal.at <= now)
    }

    /// The TRS relays for another time.
    pub(super) fn take_path_grant(&mut self, now: Instant, transaction: u32, grant: &PathGrant) {
        let renewed = self.tunnels.iter_mut().find(|(_, tunnel)| {
            tunnel.outbound == grant.forward
                && tunnel.renewal.as_ref().is_some_and(|renewal| renewal.transaction == transaction)
        });
        let Some((&id, tunnel)) = renewed else { return };
        let time = Duration::from_secs(grant.seconds.into());
        let at = now + time.saturating_sub(GRANT_RENEWAL.min(time / 2));
        tunnel.renewal = Some(Renewal { at, time, transaction });
        let next = tunnel.next_timer().at;
        self.timers.set(id, Some(next));
    }
}
