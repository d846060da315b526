//! The search for a link's path MTU (RFC 9000 §14.3), for code that needs to know how the search affects a path.

use std::sync::Arc;
use std::time::Duration;

use super::{LinkId, Links};
use crate::time::Instant;

/// Lost probes of one size after which quinn takes that size for too large, and goes on with a smaller one.
const PROBES_OF_A_SIZE: u64 = 3;

impl Links {
    /// When the peer was heard last, if it ever was.
    pub fn was_heard(&self, id: LinkId) -> Option<Instant> {
        self.links.get(&id).filter(|l| l.heard > 0).map(|l| l.heard_at)
    }

    /// Whether a peer's handshake with us is under way.
    pub fn has_half_open(&self) -> bool {
        self.half_open.count() > 0
    }

    /// The silence on a link that is searching for its path MTU, beyond four round trips. `None` without a search, and
    /// once a size was found to be too large. During a search a probe is always under way, so an answer is due.
    pub fn silence_in_search(&self, now: Instant, id: LinkId) -> Option<Duration> {
        let link = self.links.get(&id).filter(|l| l.connected && !l.closed)?;
        let path = link.connection.stats().path;
        let began = path.sent_plpmtud_probes > 0;
        let ended = path.current_mtu >= self.config.options.max_udp_payload
            || path.lost_plpmtud_probes >= PROBES_OF_A_SIZE
            || path.black_holes_detected > 0;
        (began && !ended).then(|| (now - link.heard_at).saturating_sub(4 * link.connection.rtt()))
    }

    /// Whether a link has searched for its path MTU and found less than the largest payload.
    pub fn has_searched(&self, id: LinkId) -> bool {
        let path = self.links.get(&id).map(|link| link.connection.stats().path);
        path.is_some_and(|p| p.sent_plpmtud_probes > 0 && p.current_mtu < self.config.options.max_udp_payload)
    }

    /// Sets whether new incoming connections that carry packets search for their path MTU.
    pub fn set_search(&mut self, search: bool) {
        if search {
            self.unprobed = None;
        } else if self.unprobed.is_none() {
            self.unprobed = self.server.as_ref().map(|server| Arc::new(self.config.unprobed(server)));
        }
    }
}
