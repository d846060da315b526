//! Tunnels whose paths change beneath them (`handover = "seamless"`): what is left of routing is to ask the NMS.

use super::peer::Improve;
use super::table::PeerId;
use super::{RouteOutput, Routes};
use crate::message::Want;
use crate::node::part::{TunnelId, Turn};
use crate::timing::node::FIRST_IMPROVEMENT;

impl Routes {
    /// The node has moved, and the tunnel that carries packets to this peer with it. What was being built beside it is
    /// gone. False if that tunnel is not among those that were kept.
    pub(super) fn keep(&mut self, id: PeerId, kept: &[TunnelId]) -> bool {
        let Some(peer) = self.peers.find_mut(id) else { return false };
        let Some(up) = peer.up_mut().filter(|up| kept.contains(&up.tunnel)) else { return false };
        let attempts = std::mem::take(&mut up.attempts).into_keys();
        let gone: Vec<TunnelId> = attempts.chain(up.replaced.take().map(|replaced| replaced.tunnel)).collect();
        up.moved = true;
        (peer.yielded, peer.search.relay_at) = (None, None);
        for tunnel in gone {
            self.peers.forget_tunnel(tunnel);
        }
        self.peers.rearm(id);
        true
    }

    /// A Route Direction was taken as one more path of the tunnel that carries packets.
    pub(super) fn on_merged(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        self.peers.forget_tunnel(tunnel);
        if let Some(peer) = self.peers.find_mut(id) {
            peer.end_attempt(tunnel);
            peer.search.relay_at = None;
            // Whether the path is any good shows when packets go by it. Until then the next attempt waits longer.
            peer.not_improved(turn.now);
        }
        self.peers.rearm(id);
    }

    pub(super) fn on_path_switched(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId, relayed: bool) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { return };
        if up.tunnel != tunnel {
            return;
        }
        (up.wanted, up.pathless) = (None, false);
        if up.origin.relayed != relayed {
            up.origin.relayed = relayed;
            let begin = Improve { at: turn.now + FIRST_IMPROVEMENT, wait: FIRST_IMPROVEMENT, attempt: 0 };
            up.improve = up.origin.may_improve().then_some(begin);
        }
        self.peers.rearm(id);
    }

    /// The tunnel's paths need help. Without a registration that waits for it.
    pub(super) fn on_path_wanted(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId, want: Want) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { return };
        if up.tunnel != tunnel {
            return;
        }
        (up.wanted, up.pathless) = (Some(want), true);
        if self.registered {
            self.request_wanted(turn, id);
        }
    }

    /// There is no direct path for a tunnel that has none that works: the relay is asked for. False if it has one.
    pub(super) fn relay_wanted(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) -> bool {
        let up = self.peers.find_mut(id).and_then(|peer| peer.up_mut()).filter(|up| up.pathless);
        if let Some(up) = up {
            up.wanted = Some(Want::Relayed);
            self.request_wanted(turn, id);
            return true;
        }
        false
    }

    /// The node's network is known. Where it has moved, its relayed tunnels may have a direct path now.
    pub(super) fn try_directly(&mut self, turn: &mut Turn<'_, RouteOutput>) {
        for id in self.peers.ids() {
            let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { continue };
            let tries = std::mem::take(&mut up.moved) && up.origin.relayed && up.is_seamless();
            if tries && up.request.is_none() && up.attempts.is_empty() && self.registered {
                self.request(turn, id, Want::Direct(0));
            }
        }
    }

    /// Asks for what the paths of a tunnel need, unless an answer is being waited for.
    pub(super) fn request_wanted(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) {
        let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { return };
        let busy = up.request.as_ref().is_some_and(|request| request.want == Want::Relayed)
            || up.attempts.values().any(|origin| origin.relayed);
        if busy {
            return;
        }
        if let Some(want) = up.wanted.take() {
            self.request(turn, id, want);
        }
    }
}
