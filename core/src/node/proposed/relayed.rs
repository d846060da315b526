//! Tunnels through a TRS (paper Fig. 9), in both relay modes.
//!
//! ```text
//! responder  LegOpening ─handshake─▶ LegWaiting ──Tunnel Request on the leg──▶ answered ─┐
//! initiator  LegOpening ─handshake─▶ LegRequested ──Tunnel Response on the leg──────────┤
//!                                                                                        ▼
//!            terminating: Up on the leg          blind: EndToEnd ─handshake, request, response─▶ Up
//! ```
//!
//! In the blind mode initiator and responder then make an end-to-end QUIC connection. From here on this is a direct
//! tunnel, except that its datagrams go to the TRS's address.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use super::Proposed;
use super::ahead::Ahead;
use super::end::End;
use super::tunnel::{EndToEnd, Path, Tunnel, TunnelState, tunnel_request};
use crate::event::{DropReason, Failure, Protection};
use crate::header::{Flags, Header, Kind};
use crate::message::{Message, RelayMode, RouteConfirmation};
use crate::name::{Fqdn, Party, RelayCid};
use crate::node::carriage::{Carriage, CarriageOutput};
use crate::node::part::TunnelId;
use crate::paths::candidates::Way;
use crate::quic::{CidScheme, LinkId, LinkOutput, Links, Load};
use crate::signaling::Signaling;
use crate::time::Instant;

impl Proposed {
    /// The handshake with the TRS is finished: our leg has its identifier.
    pub(super) fn on_leg_open(&mut self, now: Instant, id: TunnelId, leg: LinkId) {
        let Some(cid) = self.links.relay_cid(leg) else { return self.fail(now, id, Failure::Protocol) };
        self.settle_leg(now, id, leg);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if !tunnel.initiator {
            let transaction = tunnel.transaction;
            self.wait_on_leg(now, id, leg);
            return self.send_nms(
                now,
                transaction,
                0,
                Message::RouteConfirmation(RouteConfirmation { leg: Some(cid) }),
            );
        }
        self.watch_search(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(theirs) = tunnel.relay.as_ref().and_then(|r| r.cid) else {
            return self.fail(now, id, Failure::Protocol);
        };
        tunnel.state = TunnelState::LegRequested(leg);
        tunnel.progress(now);
        let request = tunnel_request(&self.name, tunnel, Some(theirs));
        let (transaction, path, name) = (tunnel.transaction, tunnel.outbound.0, tunnel.name.clone());
        let standing = self.standing(now, &name);
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.adds_to = standing;
        }
        let flags = Flags(if standing.is_some() { Flags::ADDS } else { 0 });
        let is_granted = self.show_grant(now, leg, &name, theirs);
        let (signaling, is_blind) = self.tunnels.get(&id).map_or((Signaling::Paper, false), |tunnel| {
            (tunnel.signaling, tunnel.relay.as_ref().is_some_and(|relay| relay.mode == RelayMode::Blind))
        });
        let is_fast = signaling == Signaling::Fast && is_granted && is_blind;
        let flags = if is_fast { flags.with_signaling(signaling) } else { flags };
        self.send_flagged(now, leg, Party::Trs, (transaction, flags), path, &request);
        if is_fast && standing.is_none() {
            // The TRS binds the legs at the request. The handshake follows it.
            self.end_to_end(now, id, leg, Some(theirs));
        }
    }

    /// Responder: the peer's Tunnel Request will come on our leg.
    pub(super) fn wait_on_leg(&mut self, now: Instant, id: TunnelId, leg: LinkId) {
        self.watch_search(now, id);
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.state = TunnelState::LegWaiting(leg);
            tunnel.progress(now);
            if let Some(cid) = self.links.relay_cid(leg).filter(|_| tunnel.signaling == Signaling::Fast) {
                // The end-to-end handshake comes right behind the Tunnel Request.
                self.by_leg.insert(cid, id);
            }
        }
    }

    pub(super) fn on_leg_message(
        &mut self,
        now: Instant,
        id: TunnelId,
        leg: LinkId,
        header: &Header,
        message: &Message,
    ) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let blind = tunnel.relay.as_ref().is_some_and(|r| r.mode == RelayMode::Blind);
        match (message, &tunnel.state) {
            (Message::TunnelRequest(request), TunnelState::LegWaiting(_)) => {
                if request.from != tunnel.name || request.to != self.name {
                    return self.dropped(DropReason::WrongIdentity);
                }
                let (path, since) = (tunnel.outbound.0, tunnel.since);
                let standing = self.standing(now, &request.from);
                if let (Some(standing), Some(theirs), true) = (standing, request.relay_cid, header.flags.adds()) {
                    let answer = (header.transaction, Flags(Flags::ADDS));
                    self.send_flagged(now, leg, Party::Trs, answer, path, &Message::TunnelResponse);
                    self.merge_leg(now, id, standing, leg, theirs);
                    return;
                }
                if let Some(lost) = standing.filter(|lost| self.tunnels[lost].since < since) {
                    // The request does not add a leg to our standing tunnel, so the peer has lost that tunnel.
                    self.fail(now, lost, Failure::ConnectionLost);
                }
                self.adopt_framing(id, request.framing);
                if blind && !self.end_to_end(now, id, leg, request.relay_cid) {
                    return;
                }
                self.send(now, leg, Party::Trs, header.transaction, path, &Message::TunnelResponse);
                if !blind {
                    self.up(now, id, Path::Terminated(leg));
                }
            }
            (Message::TunnelResponse, TunnelState::LegRequested(_)) if header.transaction == tunnel.transaction => {
                let theirs = tunnel.relay.as_ref().and_then(|relay| relay.cid);
                if let Some(standing) = tunnel.adds_to.filter(|standing| self.tunnels.contains_key(standing)) {
                    if let (Some(theirs), true) = (theirs, header.flags.adds()) {
                        self.merge_leg(now, id, standing, leg, theirs);
                        return;
                    }
                    // The response does not add a leg to our standing tunnel, so the peer has lost that tunnel.
                    self.fail(now, standing, Failure::ConnectionLost);
                }
                if blind {
                    self.end_to_end(now, id, leg, theirs);
                } else {
                    self.up(now, id, Path::Terminated(leg));
                }
            }
            (Message::Error(code), TunnelState::LegRequested(_) | TunnelState::EndToEnd(_))
                if header.transaction == tunnel.transaction =>
            {
                self.fail(now, id, Failure::Refused(*code));
            }
            // The end-to-end handshake is under way, or done.
            (Message::TunnelResponse, TunnelState::EndToEnd(_) | TunnelState::Up(Path::Blind { .. }))
                if tunnel.initiator && header.transaction == tunnel.transaction => {}
            _ => self.dropped(DropReason::Unexpected),
        }
    }

    /// Makes the endpoint for the connection through a blind TRS. The initiator dials. False if that failed.
    fn end_to_end(&mut self, now: Instant, id: TunnelId, leg: LinkId, theirs: Option<RelayCid>) -> bool {
        let load = self.tunnels.get(&id).map_or(Load::Packets, |tunnel| self.load_to(&tunnel.name));
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return false };
        let place = (self.links.relay_cid(leg), self.links.local(leg), self.links.remote(leg));
        let (Some(cid), Some(local), Some(remote)) = place else {
            self.fail(now, id, Failure::Protocol);
            return false;
        };
        let scheme = if self.shared.is_some() { CidScheme::Pathed(cid) } else { CidScheme::Relayed(cid) };
        let made = Links::new(self.quic.clone(), scheme, !tunnel.initiator, &mut self.rng);
        let Ok(mut links) = made else {
            self.fail(now, id, Failure::Protocol);
            return false;
        };
        links.set_search(load == Load::Packets);
        let pathed = self.shared.is_some();
        if pathed {
            links = links.on_paths();
        }
        let mut link = None;
        if tunnel.initiator {
            let via = tunnel.relay.as_ref().and_then(|r| r.cid);
            link = if pathed {
                links.connect_pathed(now, &tunnel.name, via, load)
            } else {
                links.connect(now, local, remote, &tunnel.name, via, load)
            };
            if link.is_none() {
                self.fail(now, id, Failure::Protocol);
                return false;
            }
        }
        tunnel.progress(now);
        let (is_requested, ahead) = (false, Ahead::default());
        tunnel.state = TunnelState::EndToEnd(EndToEnd { leg, cid, links: Box::new(links), link, is_requested, ahead });
        self.by_leg.insert(cid, id);
        let client = tunnel.initiator;
        if pathed {
            self.begin_pathed(now, End::Own(id), client, &[]);
            if let Some(theirs) = theirs {
                self.bind(now, id, End::Own(id), leg, theirs);
            }
            self.tell_places(now, End::Own(id), &[]);
        }
        // The leg's last packets go first. An observer, who sees both connections on the same ports, can then tell them
        // apart: a packet of the leg after the first Initial could belong to either, until the Initial is answered.
        self.blind_touched.insert(id);
        self.take_overtaken(now, id, cid);
        true
    }

    /// Takes a datagram for the endpoint of a tunnel through a TRS. Whether it was authentic and new.
    pub(super) fn on_blind_datagram(
        &mut self,
        now: Instant,
        id: TunnelId,
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
    ) -> bool {
        if matches!(self.tunnels.get(&id), Some(Tunnel { state: TunnelState::LegWaiting(_), .. })) {
            // The Tunnel Request may be among the datagrams that were taken just before.
            self.links.finish(now);
            self.drain_main(now);
            if let Some(Tunnel { state: TunnelState::LegWaiting(leg), .. }) = self.tunnels.get(&id)
                && let Some(leg) = self.links.relay_cid(*leg)
            {
                self.hold_overtaken(now, leg, Way { local, remote }, payload);
                return false;
            }
        }
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return false };
        let (TunnelState::EndToEnd(EndToEnd { leg, links, .. }) | TunnelState::Up(Path::Blind { leg, links, .. })) =
            &mut tunnel.state
        else {
            return false;
        };
        let on_paths = self.pathed.contains_key(&End::Own(id));
        // The way leads through the relay. A packet from another address would migrate the connection to that address.
        if !on_paths && self.links.remote(*leg) != Some(remote) {
            self.dropped(DropReason::NotBound);
            return false;
        }
        let (way, len) = (Way { local, remote }, payload.len());
        let heard = links.hear_datagram(now, local, remote, payload).is_some();
        self.blind_touched.insert(id);
        if heard && on_paths {
            self.arrived(now, End::Own(id), way, len);
        }
        heard
    }

    /// Hands on what arrived at the endpoints of blind tunnels, before it is answered.
    pub(super) fn deliver_blind(&mut self, now: Instant) {
        let touched: Vec<_> = self.blind_touched.iter().copied().collect();
        for id in touched {
            if let Some(Tunnel { state: TunnelState::Up(Path::Blind { links, .. }), .. }) = self.tunnels.get_mut(&id) {
                links.deliver();
                self.drain_blind(now, id);
            }
        }
    }

    /// Moves the endpoints of blind tunnels on, in which something was taken or queued.
    pub(super) fn finish_blind(&mut self, now: Instant) {
        while let Some(id) = self.blind_touched.pop_first() {
            if let Some(Tunnel { state, .. }) = self.tunnels.get_mut(&id)
                && let TunnelState::EndToEnd(EndToEnd { links, .. }) | TunnelState::Up(Path::Blind { links, .. }) =
                    state
            {
                links.finish(now);
            }
            self.drain_blind(now, id);
        }
    }

    /// Handles every output of a blind tunnel's endpoint.
    pub(super) fn drain_blind(&mut self, now: Instant, id: TunnelId) {
        loop {
            let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
            let (TunnelState::EndToEnd(EndToEnd { links, .. }) | TunnelState::Up(Path::Blind { links, .. })) =
                &mut tunnel.state
            else {
                return;
            };
            let Some(output) = links.poll() else {
                let next = tunnel.next_timer().map(|due| due.at);
                self.timers.set(id, next);
                return;
            };
            match output {
                LinkOutput::Transmit(transmit) | LinkOutput::Bare(transmit) => {
                    self.out.push_back(CarriageOutput::Unasking(transmit));
                }
                LinkOutput::Connected { link, client, peer: names } => {
                    self.on_blind_connected(now, id, link, client, &names);
                }
                LinkOutput::Frame(link, header, body) if header.kind == Kind::Capsule => {
                    self.on_blind_packets(id, link, vec![body]);
                }
                LinkOutput::Frame(link, header, body) => match Message::decode_body(header.kind, &body) {
                    Ok(message) => self.on_blind_message(now, id, link, &header, &message),
                    Err(_) => self.dropped(DropReason::BadBody),
                },
                LinkOutput::Datagrams(link, frames) => {
                    let (packets, bad) = tunnel.carrier.open_all(frames);
                    self.take_packets(id, Vec::new(), bad);
                    self.on_blind_packets(id, link, packets);
                }
                LinkOutput::Closed(link, reason) => {
                    if blind_link(&tunnel.state) == Some(link) {
                        self.fail(now, id, reason.into());
                    }
                }
                LinkOutput::Dropped(reason) => self.dropped(reason),
                LinkOutput::Pathed(_, datagrams) => self.send_pathed(now, End::Own(id), datagrams),
                // These links never rebind. Their paths change instead.
                LinkOutput::Followed(_) => {}
            }
        }
    }

    fn on_blind_connected(&mut self, now: Instant, id: TunnelId, link: LinkId, client: bool, names: &[Fqdn]) {
        let me = self.me();
        self.watch_search(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let to = Party::Node(tunnel.name.clone());
        let known = names.contains(&tunnel.name);
        let contradicts = tunnel.contradicts(tunnel.state.links().and_then(|links| links.peer_addresses(link)));
        let TunnelState::EndToEnd(end) = &mut tunnel.state else { return };
        if !known || (!client && end.link.is_some()) {
            end.links.close(now, link);
            return self.dropped(DropReason::WrongIdentity);
        }
        if contradicts {
            return self.refuse_addresses(now, id);
        }
        if !client {
            end.link = Some(link);
            return tunnel.progress(now);
        }
        tunnel.progress(now);
        let (transaction, request) = (tunnel.transaction, tunnel_request(&self.name, tunnel, None));
        let flags = Flags(0).with_handover(self.handover).with_signaling(tunnel.signaling);
        if let TunnelState::EndToEnd(end) = &mut tunnel.state {
            end.is_requested = true;
        }
        self.out.push_back(CarriageOutput::handshake(me, to, "QUIC handshake"));
        self.send_blind(now, id, link, (transaction, flags), &request);
        self.ready(id);
    }

    /// Sends a message end to end.
    fn send_blind(
        &mut self,
        now: Instant,
        id: TunnelId,
        link: LinkId,
        (transaction, flags): (u32, Flags),
        message: &Message,
    ) {
        let me = self.me();
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let frame = message.to_bytes(transaction, flags, 0, 0, tunnel.outbound.0);
        let TunnelState::EndToEnd(EndToEnd { links, .. }) = &mut tunnel.state else { return };
        if links.send_frame(now, link, frame.into()) {
            let to = Party::Node(tunnel.name.clone());
            self.out.push_back(CarriageOutput::signal(me, to, message, Protection::Quic, 0));
        } else {
            self.dropped(DropReason::QueueFull);
        }
    }

    fn on_blind_message(&mut self, now: Instant, id: TunnelId, link: LinkId, header: &Header, message: &Message) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let building = matches!(tunnel.state, TunnelState::EndToEnd(_)) && blind_link(&tunnel.state) == Some(link);
        match message {
            Message::TunnelRequest(request) if building && !tunnel.initiator => {
                if request.from != tunnel.name || request.to != self.name {
                    return self.dropped(DropReason::WrongIdentity);
                }
                self.agree(id, header.flags);
                let flags = self.agreed(id);
                self.send_blind(now, id, link, (header.transaction, flags), &Message::TunnelResponse);
                self.blind_up(now, id);
            }
            Message::TunnelResponse if building && tunnel.initiator && header.transaction == tunnel.transaction => {
                self.agree(id, header.flags);
                self.blind_up(now, id);
            }
            _ => self.dropped(DropReason::Unexpected),
        }
    }

    fn blind_up(&mut self, now: Instant, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        match std::mem::replace(&mut tunnel.state, TunnelState::Expecting(None)) {
            TunnelState::EndToEnd(EndToEnd { leg, cid, links, link: Some(link), ahead, .. }) => {
                self.up(now, id, Path::Blind { leg, cid, links, link });
                self.take_ahead(id, ahead);
            }
            other => tunnel.state = other,
        }
    }

    fn on_blind_packets(&mut self, id: TunnelId, link: LinkId, packets: Vec<Bytes>) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if let (TunnelState::EndToEnd(end), false) = (&mut tunnel.state, tunnel.initiator)
            && end.link == Some(link)
        {
            // They came ahead of the Tunnel Request.
            let held = packets.into_iter().map(|packet| end.ahead.packet(packet));
            self.out.extend(held.filter_map(Result::err).map(CarriageOutput::dropped));
            return;
        }
        // Packets may overtake the Tunnel Response. The handshake has already proved their sender.
        let expected = blind_link(&tunnel.state) == Some(link) && (tunnel.initiator || is_up(&tunnel.state));
        if expected {
            return self.take_packets(id, packets, Vec::new());
        }
        for _ in packets {
            self.dropped(DropReason::Unexpected);
        }
    }
}

fn is_up(state: &TunnelState) -> bool {
    matches!(state, TunnelState::Up(_))
}

/// The end-to-end link of a tunnel through a blind TRS.
fn blind_link(state: &TunnelState) -> Option<LinkId> {
    match state {
        TunnelState::EndToEnd(end) => end.link,
        TunnelState::Up(Path::Blind { link, .. }) => Some(*link),
        _ => None,
    }
}
