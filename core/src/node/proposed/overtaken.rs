//! Datagrams of a handshake through a blind TRS that overtook what announces them (`signaling = "fast"`).
//!
//! The dialer's handshake follows its Tunnel Request at once. It comes from the TRS, and the Route Direction comes from
//! the NMS, so either may be first. A datagram may also overtake the Tunnel Request itself. The main endpoint must not
//! take such a datagram: its connection IDs do not begin with our leg, so the TRS could not forward the dialer's next
//! packets. So the datagram waits here for the endpoint of its tunnel.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::Proposed;
use crate::event::DropReason;
use crate::name::RelayCid;
use crate::node::part::TunnelId;
use crate::paths::candidates::Way;
use crate::time::Instant;
use crate::timing::node::EARLY_LINK_TIMEOUT;

/// Most datagrams that wait, for all legs. A handshake begins with one, and its retransmission adds one a second.
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
    /// Whether the connection ID of a datagram begins with a leg whose tunnel has no endpoint yet.
    pub(super) fn has_overtaken(&self, leg: RelayCid) -> bool {
        self.standby_cid() == Some(leg)
    }

    /// A datagram for the end-to-end connection on a leg came before that connection's endpoint can be made.
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
