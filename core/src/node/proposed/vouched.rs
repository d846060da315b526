//! The virtual addresses of a peer: the NMS states them, and the peer's certificate vouches for them.

use super::Proposed;
use super::tunnel::Tunnel;
use crate::event::{DropReason, Failure};
use crate::name::Virtual;
use crate::node::part::TunnelId;
use crate::time::Instant;

impl Tunnel {
    /// Whether the virtual addresses in the peer's certificate (`shown`) differ from those that the NMS stated. A
    /// certificate without addresses contradicts nothing.
    pub(super) fn contradicts(&self, shown: Option<Virtual>) -> bool {
        shown.is_some_and(|shown| shown != self.addresses) && !defect!(OtherAddressesBelieved)
    }
}

impl Proposed {
    /// Gives up the tunnel, because the peer's certificate has other virtual addresses than the NMS stated.
    pub(super) fn refuse_addresses(&mut self, now: Instant, id: TunnelId) {
        self.dropped(DropReason::WrongIdentity);
        self.fail(now, id, Failure::WrongAddresses);
    }
}
