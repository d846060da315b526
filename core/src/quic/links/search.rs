//! The search for a link's path MTU (RFC 9000 §14.3), for those who must know what it does to a path.

use std::sync::Arc;
use std::time::Duration;

use super::{LinkId, Links};
use crate::time::Instant;

/// After so many losses quinn takes a size for too large, and the search for the path MTU goes on.
const PROBES_OF_A_SIZE: u64 = 3;

impl Links {
    /// How long nothing has been heard, four round trips apart, on a link that is searching for its path MTU and has
    /// not yet found a size to be too large. `None` if there is no search, or none any more. While there is one,
    /// something is on its way and waits for an answer.
    pub fn silence_in_search(&self, now: Instant, id: LinkId) -> Option<Duration> {
        let link = self.links.get(&id).filter(|l| l.connected && !l.closed)?;
        let path = link.connection.stats().path;
        let began = path.sent_plpmtud_probes > 0;
        let ended = path.current_mtu >= self.config.options.max_udp_payload
            || path.lost_plpmtud_probes >= PROBES_OF_A_SIZE
            || path.black_holes_detected > 0;
        (began && !ended).then(|| (now - link.heard_at).saturating_sub(4 * link.connection.rtt()))
    }

    /// Whether a link has searched for its path MTU and has not found all to fit.
    pub fn has_searched(&self, id: LinkId) -> bool {
        let path = self.links.get(&id).map(|link| link.connection.stats().path);
        path.is_some_and(|p| p.sent_plpmtud_probes > 0 && p.current_mtu < self.config.options.max_udp_payload)
    }

    /// Whether the path MTU of connections that come in from now on is searched for, where it would be.
    pub fn set_search(&mut self, search: bool) {
        if search {
            self.unprobed = None;
        } else if self.unprobed.is_none() {
            self.unprobed = self.server.as_ref().map(|server| Arc::new(self.config.unprobed(server)));
        }
    }
}
