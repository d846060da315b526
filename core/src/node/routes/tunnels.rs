//! Tunnels: which one carries packets, and what follows when one is lost or silent.

use bytes::Bytes;

use super::held::Held;
use super::peer::{Improve, Left, Origin, PeerState};
use super::table::PeerId;
use super::{Answer, RouteOutput, Routes, lose};
use crate::event::{DropReason, Event, Failure, TunnelUp};
use crate::message::Want;
use crate::name::{Fqdn, Virtual};
use crate::node::part::{TunnelId, Turn};
use crate::time::Instant;
use crate::timing::node::{DIRECT_SILENCE, FIRST_IMPROVEMENT, REPLACED_LINGER, ROUTE_FIRST_PAUSE, ROUTE_LONGEST_PAUSE};

impl Routes {
    /// The peer has proved who it is, and our Tunnel Request is on its way: what waits follows it at once.
    pub(super) fn on_tunnel_ready(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(peer) = self.peers.find_mut(id) else { return };
        if !peer.go_ahead(tunnel) {
            return;
        }
        let held = std::mem::take(&mut peer.held);
        let (addresses, peer) = (peer.addresses, peer.label());
        // The driver makes the peer's route before an application learns the peer's address.
        turn.push(RouteOutput::Event(Event::TunnelReady { peer }));
        self.release(turn, id, held, addresses);
    }

    /// Sends what waited for a tunnel.
    fn release(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, held: Held, addresses: Option<Virtual>) {
        let (packets, queries) = held.into_parts();
        // Answers go first: an application can use the tunnel only once it knows the peer's address.
        for query in queries {
            if let Some(addresses) = addresses {
                turn.push(RouteOutput::Answer(query, Answer::Addresses(addresses)));
            }
        }
        for packet in packets.into_iter().skip(usize::from(defect!(HeldPacketLost))) {
            self.send(turn, id, packet);
            turn.push(RouteOutput::Flush);
        }
    }

    pub(super) fn on_tunnel_up(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId, up: TunnelUp) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.agree(tunnel, up.handover);
        let Some(took_over) = peer.take_over(turn.now, tunnel, self.lifetime) else { return };
        let held = std::mem::take(&mut peer.held);
        let addresses = peer.addresses;
        if let Some(displaced) = took_over.displaced {
            self.forget_tunnel(turn, id, displaced);
        }
        self.peers.rearm(id);
        if took_over.carries {
            turn.push(RouteOutput::Event(Event::TunnelUp(up)));
        }
        self.release(turn, id, held, addresses);
    }

    pub(super) fn on_tunnel_down(&mut self, turn: &mut Turn<'_, RouteOutput>, tunnel: TunnelId, reason: Failure) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        self.peers.forget_tunnel(tunnel);
        let Some(peer) = self.peers.find_mut(id) else { return };
        lose(turn, peer.ahead_lost(tunnel));
        if let Some(origin) = peer.end_attempt(tunnel) {
            self.on_attempt_failed(turn, id, origin, reason);
        } else if let Some(up) = peer.up_mut() {
            if up.tunnel == tunnel {
                self.on_tunnel_lost(turn, id, reason);
            } else {
                up.replaced.take_if(|replaced| replaced.tunnel == tunnel);
            }
        }
        self.peers.rearm(id);
    }

    /// A peer has started anew. It has lost its tunnels, and knows nothing of the attempts at new ones.
    pub(super) fn on_peer_restarted(&mut self, turn: &mut Turn<'_, RouteOutput>, name: &Fqdn) {
        let Some(id) = self.peers.by_name(name).filter(|_| !defect!(RestartUnheard)) else { return };
        // The one that carries packets comes last, so that no attempt takes its place.
        let mut tunnels: Vec<TunnelId> = self.peers.get(id).tunnels().map(|(tunnel, _)| tunnel).collect();
        let carries = self.peers.get(id).up().map(|up| up.tunnel);
        tunnels.sort_by_key(|tunnel| carries == Some(*tunnel));
        for tunnel in tunnels {
            turn.push(RouteOutput::Forget(tunnel));
            self.on_tunnel_down(turn, tunnel, Failure::ConnectionLost);
        }
    }

    /// An attempt at a tunnel failed.
    pub(super) fn on_attempt_failed(
        &mut self,
        turn: &mut Turn<'_, RouteOutput>,
        id: PeerId,
        origin: Origin,
        reason: Failure,
    ) {
        let now = turn.now;
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.search.is_stranded = origin.want.is_none() && !origin.relayed && reason == Failure::Timeout;
        let retry = match &mut peer.state {
            PeerState::Up(_) if !origin.relayed => return self.not_improved(turn, id, reason),
            // Another request or attempt is under way, or a tunnel carries packets.
            PeerState::Up(_) | PeerState::Building { .. } | PeerState::Requested(_) => return,
            PeerState::Wanted { retry } => retry,
        };
        let falls_back = origin.initiator && !origin.relayed && origin.want.is_some();
        if falls_back && peer.search.until > now && self.registered {
            return self.request(turn, id, Want::Relayed);
        }
        let failures = &mut peer.search.failures;
        let pause = (ROUTE_FIRST_PAUSE * (1 << (*failures).min(7))).min(ROUTE_LONGEST_PAUSE);
        // A responder asks only if packets wait here. Otherwise the initiator asks again, if it still wants a tunnel.
        if peer.search.until > now + pause && (origin.initiator || !peer.held.is_empty()) {
            *failures = failures.wrapping_add(1);
            // The NMS cannot know the obstacle, so every second time the other node may have to dial.
            let direct = origin.want.is_some() && *failures % 2 == 1;
            *retry = Some((now + pause, if direct { Want::Direct(*failures) } else { Want::Any }));
        } else {
            self.give_up(turn, id, reason);
        }
    }

    /// The tunnel that carried packets is gone.
    fn on_tunnel_lost(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, reason: Failure) {
        if defect!(LostTunnelKept) {
            return;
        }
        let Some(peer) = self.peers.find_mut(id) else { return };
        let left = peer.lose_tunnel(turn.now);
        if left == Left::Replaced {
            // The tunnel that was to be an improvement was none.
            return self.not_improved(turn, id, reason);
        }
        turn.push(RouteOutput::Event(Event::TunnelDown { peer: peer.label(), reason }));
        // Without an attempt the peer is forgotten until a packet needs it again. Perhaps no application needs the
        // tunnel.
        if left == Left::Nothing {
            self.peers.remove(id);
        }
    }

    /// A direct attempt beside the relay failed.
    pub(super) fn not_improved(&mut self, turn: &mut Turn<'_, RouteOutput>, id: PeerId, reason: Failure) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.not_improved(turn.now);
        // The attempt may have been to replace an old direct tunnel.
        if peer.up().is_some_and(|up| up.origin.relayed) {
            turn.push(RouteOutput::Event(Event::StillRelayed { peer: peer.label(), reason }));
        }
    }

    /// The node's network changed, or is better known. Failed attempts may work now.
    pub(super) fn improve_all(&mut self, now: Instant) {
        for id in self.peers.ids() {
            let up = self.peers.find_mut(id).and_then(|peer| peer.up_mut());
            if let Some(improve) = up.and_then(|up| up.improve.as_mut()) {
                *improve = Improve { at: now, wait: FIRST_IMPROVEMENT, attempt: 0 };
                self.peers.rearm(id);
            }
        }
    }

    /// A packet is about to go into a tunnel. If it is a direct one that has long been silent, the relay is asked for
    /// beside it. The relayed tunnel then takes over.
    pub(super) fn watch_silence(
        &mut self,
        turn: &mut Turn<'_, RouteOutput>,
        tunnel: TunnelId,
        heard_at: Option<Instant>,
        answer_due: bool,
    ) {
        let now = turn.now;
        let Some(id) = self.peers.by_tunnel(tunnel) else { return };
        let Some(up) = self.peers.find_mut(id).and_then(|peer| peer.up_mut()) else { return };
        if up.tunnel != tunnel || !up.is_watched() {
            return;
        }
        let silent = up.unheard.filter(|since| heard_at.is_none_or(|heard_at| heard_at <= *since));
        match silent {
            Some(since) if now < since + DIRECT_SILENCE => {}
            Some(_) if answer_due => {
                if self.registered && up.request.is_none() && up.attempts.is_empty() {
                    self.request(turn, id, Want::Relayed);
                }
            }
            Some(_) | None => up.unheard = Some(now),
        }
    }

    /// Packets came out of a tunnel. If that tunnel was replaced, the peer still uses it, so it is kept longer. `judge`
    /// says from the peer's virtual addresses how often applications get a packet. Returns what they get, and why the
    /// other packets were dropped. If the tunnel is unknown, both are empty.
    pub(in crate::node) fn arrived(
        &mut self,
        now: Instant,
        tunnel: TunnelId,
        mut packets: Vec<Bytes>,
        judge: impl Fn(Option<Virtual>, &[u8]) -> Result<usize, DropReason>,
    ) -> (Vec<Bytes>, Vec<DropReason>) {
        let Some(id) = self.peers.by_tunnel(tunnel) else { return Default::default() };
        let Some(peer) = self.peers.find_mut(id) else { return Default::default() };
        let (mut again, mut bad) = (Vec::new(), Vec::new());
        let mut is_used = false;
        packets.retain(|packet| {
            if !peer.admits(now, false, packet) {
                bad.push(DropReason::NotPermitted);
                return false;
            }
            is_used = true;
            match judge(peer.addresses, packet) {
                Ok(copies) => {
                    peer.traffic.received += packet.len() as u64;
                    again.extend((1..copies).map(|_| packet.clone()));
                    copies > 0
                }
                Err(reason) => {
                    bad.push(reason);
                    false
                }
            }
        });
        packets.append(&mut again);
        if is_used
            && let Some(replaced) = peer.up_mut().and_then(|up| up.replaced.as_mut())
            && replaced.tunnel == tunnel
        {
            replaced.until = now + REPLACED_LINGER;
            self.peers.rearm(id);
        }
        (packets, bad)
    }
}
