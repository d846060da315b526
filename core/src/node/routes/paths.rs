//! Tunnels whose paths change beneath them (`handover = "seamless"`). For these, routing only has to ask the NMS.

use super::peer::Improve;
use super::table::PeerId;
use super::{RouteOutput, Routes};
use crate::message::Want;
use crate::node::part::{TunnelId, Turn};
use crate::timing::node::FIRST_IMPROVEMENT;

impl Routes {
    /// Notes that the node has moved together with the tunnel that carries packets to this peer. Attempts beside it are
    /// gone. False if that tunnel was not kept.
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

    /// Notes that a Route Direction became one more path of the tunnel that carries packets.
    pub(super) fn on_merged(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        self.peers.forget_tunnel(tunnel);
        if let Some(peer) = self.peers.find_mut(id) {
            peer.end_attempt(tunnel);
            peer.search.relay_at = None;
            // Packets will show whether the path works. Until then the next attempt waits longer.
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

    /// Asks for help for the tunnel's paths. Without a registration the request waits.
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

    /// Notes that a path of the tunnel works. A direct path is still looked for, if that was wanted.
    pub(super) fn on_path_works(&mut self, tunnel: TunnelId) {
        let peer = self.peers.by_tunnel(tunnel).and_then(|id| self.peers.find_mut(id));
        if let Some(up) = peer.and_then(|peer| peer.up_mut()).filter(|up| up.tunnel == tunnel) {
            up.pathless = false;
            up.wanted.take_if(|want| *want == Want::Relayed);
        }
    }

    /// No direct path exists for a tunnel without a working path, so the relay is asked for. False if a path works.
    pub(super) fn relay_wanted(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId) -> bool {
        let up = self.peers.find_mut(id).and_then(|peer| peer.up_mut()).filter(|up| up.pathless);
        if let Some(up) = up {
            up.wanted = Some(Want::Relayed);
            self.request_wanted(turn, id);
            return true;
        }
        false
    }

    /// The node's network is known. Relayed tunnels that moved along may have a direct path now.
    pub(super) fn try_directly(&mut self, turn: &mut Turn<'_, RouteOutput>) {
        for id in self.peers.ids() {
            let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { continue };
            let tries = std::mem::take(&mut up.moved) && up.origin.relayed && up.is_seamless();
            if tries && up.request.is_none() && up.attempts.is_empty() && self.registered {
                self.request(turn, id, Want::Direct(0));
            }
        }
    }

    /// Asks for the route that the tunnel's paths need, unless a request is waiting.
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
