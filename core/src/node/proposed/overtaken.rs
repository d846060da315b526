//! Datagrams of a handshake through a blind TRS that arrive before its Route Direction or Tunnel Request (`signaling =
//! "fast"`).
//!
//! The dialer's handshake follows its Tunnel Request at once. The handshake comes from the TRS, and the Route Direction
//! from the NMS, so either may be first. A datagram may also overtake the Tunnel Request. The main endpoint must not
//! take such a datagram. The connection IDs of that endpoint do not begin with our leg, so the TRS could not forward
//! the dialer's next packets. So the datagram waits here for the endpoint of its tunnel.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::Proposed;
use crate::event::DropReason;
use crate::name::RelayCid;
use crate::node::part::TunnelId;
use crate::paths::candidates::Way;
use crate::time::Instant;
use crate::timing::node::EARLY_LINK_TIMEOUT;

/// Most datagrams that wait, for all legs together. A handshake begins with one datagram, and its client sends that one
/// again four times within [`EARLY_LINK_TIMEOUT`]. So there is room for three peers that dial at the same time.
const MAX_OVERTAKEN: usize = 16;

/// A datagram that waits.
struct Waiting {
    leg: RelayCid,
    since: Instant,
    way: Way,
    payload: BytesMut,
}

/// The datagrams that wait, in the order of arrival.
#[derive(Default)]
pub(super) struct Overtaken(VecDeque<Waiting>);

impl Overtaken {
    /// The number of datagrams that wait.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Every leg is gone.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Proposed {
    /// Whether this is the standing leg. No tunnel has taken it yet, so a datagram for it came before its Route
    /// Direction.
    pub(super) fn has_overtaken(&self, leg: RelayCid) -> bool {
        self.standby_cid() == Some(leg)
    }

    /// Keeps a datagram that came before the endpoint of its tunnel was made. The oldest one makes room for it.
    pub(super) fn hold_overtaken(&mut self, now: Instant, leg: RelayCid, way: Way, payload: BytesMut) {
        while self.overtaken.0.front().is_some_and(|first| now >= first.since + EARLY_LINK_TIMEOUT) {
            self.overtaken.0.pop_front();
            self.dropped(DropReason::NoTunnel);
        }
        if self.overtaken.0.len() >= MAX_OVERTAKEN {
            self.overtaken.0.pop_front();
            self.dropped(DropReason::QueueFull);
        }
        self.overtaken.0.push_back(Waiting { leg, since: now, way, payload });
    }

    /// The endpoint of the tunnel on a leg is made. It takes the datagrams that came before.
    pub(super) fn take_overtaken(&mut self, now: Instant, id: TunnelId, leg: RelayCid) {
        let (ours, others) =
            std::mem::take(&mut self.overtaken.0).into_iter().partition::<VecDeque<_>, _>(|waiting| waiting.leg == leg);
        self.overtaken.0 = others;
        for Waiting { since, way, payload, .. } in ours {
            if now < since + EARLY_LINK_TIMEOUT {
                self.on_blind_datagram(now, id, way.local, way.remote, payload);
            } else {
                self.dropped(DropReason::NoTunnel);
            }
        }
    }
}
