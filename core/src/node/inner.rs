//! The packets of applications, and of peers for applications.

use std::net::SocketAddr;

use bytes::Bytes;

use super::Node;
use super::carriage::{SendRefused, TunnelId};
use super::held::HeldQuery;
use super::peers::PeerId;
use crate::dns::{self, Question};
use crate::event::DropReason;
use crate::machine::Output;
use crate::message::PeerRef;
use crate::packet::{self, Inner};
use crate::time::Instant;

/// No IPv6 link may have a smaller MTU (RFC 8200 §5), so no smaller one is ever announced.
const MIN_IPV6_MTU: usize = 1280;

impl Node {
    /// A packet that an application sent.
    pub(super) fn on_application_packet(&mut self, now: Instant, packet: Bytes) {
        let inner = match Inner::parse(&packet) {
            Ok(inner) => inner,
            Err(reason) => return self.dropped(reason),
        };
        if !self.own.is_some_and(|own| own.contains(inner.source)) {
            return self.dropped(DropReason::OwnSource);
        }
        if self.overlay.is_dns(inner.destination) {
            return self.on_dns_packet(now, &packet);
        }
        if self.own.is_some_and(|own| own.contains(inner.destination)) || !self.overlay.contains(inner.destination) {
            return self.dropped(DropReason::NotRoutable);
        }
        if let Some(id) = self.peer_for(now, PeerRef::Virtual(inner.destination)) {
            self.send_to(now, id, packet);
        }
    }

    /// Sends a packet to a peer, or holds it until there is a tunnel.
    pub(super) fn send_to(&mut self, now: Instant, id: PeerId, packet: Bytes) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        let Some(tunnel) = peer.tunnel() else {
            if let Err(reason) = peer.held.push(packet) {
                self.dropped(reason);
            }
            return;
        };
        peer.sent += packet.len() as u64;
        self.watch_silence(now, id);
        match self.carriage.send_packet(now, tunnel, packet.clone()) {
            Ok(()) => {}
            Err(SendRefused::Full) => self.dropped(DropReason::QueueFull),
            Err(SendRefused::NoTunnel) => self.dropped(DropReason::NoTunnel),
            Err(SendRefused::TooBig(limit)) => self.refuse_too_big(now, tunnel, &packet, limit),
        }
    }

    /// Tells an application that its packet is too big, or cuts it where IPv4 allows that.
    fn refuse_too_big(&mut self, now: Instant, tunnel: TunnelId, packet: &Bytes, limit: usize) {
        let from = Inner::parse(packet).map(|i| i.destination);
        let mtu = u16::try_from(limit).unwrap_or(u16::MAX);
        if let Some(fragments) = packet::fragment_v4(packet, mtu) {
            for fragment in fragments {
                if self.carriage.send_packet(now, tunnel, fragment.into()).is_err() {
                    self.dropped(DropReason::QueueFull);
                }
                self.carriage.settle(now);
            }
            return;
        }
        let mtu = if packet[0] >> 4 == 6 { limit.max(MIN_IPV6_MTU) as u16 } else { mtu };
        if let Some(error) = from.ok().and_then(|from| packet::too_big(packet, mtu, from)) {
            self.out.push_back(Output::Packet(error.into()));
        }
        self.dropped(DropReason::TooBig);
    }

    /// A packet that came out of a tunnel: only from the peer's own virtual address, only to ours.
    pub(super) fn on_tunnelled_packet(&mut self, id: PeerId, packet: Bytes) {
        let inner = match Inner::parse(&packet) {
            Ok(inner) => inner,
            Err(reason) => return self.dropped(reason),
        };
        let peer = self.peers.find_mut(id).and_then(|p| p.addresses);
        if !peer.is_some_and(|a| a.contains(inner.source)) && !defect!(InnerSourceUnchecked) {
            return self.dropped(DropReason::InnerSource);
        }
        if !self.own.is_some_and(|own| own.contains(inner.destination)) {
            return self.dropped(DropReason::InnerDestination);
        }
        if let Some(peer) = self.peers.find_mut(id) {
            peer.received += packet.len() as u64;
        }
        if defect!(InnerIpv4Lost) && inner.destination.is_ipv4()
            || defect!(LargePacketsLost) && packet.len() > 1_000
            || defect!(OnlyEchoesCarried) && ![1, 58].contains(&inner.protocol)
        {
            return;
        }
        if defect!(DeliveredTwice) {
            self.out.push_back(Output::Packet(packet.clone()));
        }
        self.out.push_back(Output::Packet(packet));
    }

    fn on_dns_packet(&mut self, now: Instant, packet: &[u8]) {
        let Some(udp) = packet::udp(packet).filter(|udp| udp.destination.port() == dns::PORT) else {
            return self.dropped(DropReason::NotRoutable);
        };
        let (client, server) = (udp.source, udp.destination);
        let question = match dns::parse(udp.payload) {
            Ok(question) => question,
            Err(reason) => return self.dropped(reason),
        };
        let query = HeldQuery { question, client, server };
        if let Some(address) = query.question.reverse().filter(|&address| self.overlay.contains(address)) {
            let own = self.own.is_some_and(|own| own.contains(address)).then(|| self.name.clone());
            // Whose it is, is known of those whom we have to do with: no more than that is told.
            return match own.or_else(|| self.peers.name_at(address)) {
                Some(name) => self.answer(&query, |q| q.pointer(&name, dns::TTL)),
                None => self.answer(&query, Question::name_error),
            };
        }
        let Some(name) = query.question.fqdn.clone().filter(|n| n.is_in(&self.overlay.zone)) else {
            return self.answer(&query, Question::refused);
        };
        if name == self.name {
            let own = self.own.expect("only a registered node's packets come here");
            return self.answer(&query, |q| q.answer(&own, dns::TTL));
        }
        let Some(id) = self.peer_for(now, PeerRef::Name(name)) else {
            return self.answer(&query, Question::server_failure);
        };
        let Some(peer) = self.peers.find_mut(id) else { return };
        if let (Some(_), Some(addresses)) = (peer.up, peer.addresses) {
            self.answer(&query, |q| q.answer(&addresses, dns::TTL));
        } else if let Err(reason) = peer.held.ask(query) {
            self.dropped(reason);
        }
    }

    pub(super) fn answer(&mut self, query: &HeldQuery, answer: impl FnOnce(&Question) -> Vec<u8>) {
        let payload = answer(&query.question);
        if let Some(packet) = build_udp(query.server, query.client, &payload) {
            self.out.push_back(Output::Packet(packet.into()));
        }
    }
}

fn build_udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    packet::build_udp(source, destination, payload)
}
