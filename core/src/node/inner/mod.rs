//! The packets from and to applications, and the node's own DNS.
//!
//! [`Inner`] is a [`Part`]. It classifies a packet by its addresses alone. The part [`routes`](super::routes) knows
//! which tunnel a packet takes, and which peer has a name.
//!
//! ```text
//! application ─ packet ─┬─ to the node's DNS ─ own name, other zones ──▶ answered here
//!                       │                    └ a peer's name ──────────▶ Resolve, answered when its tunnel is up
//!                       └─ to an address of the overlay ───────────────▶ Destination::Peer
//! peer ─ packet ─ from the peer's virtual address, to ours ────────────▶ admits
//! ```

mod tcp;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use bytes::Bytes;

use self::tcp::{Connections, Taken};
use super::config::Overlay;
use super::part::{Part, TunnelId, Turn};
use super::routes::{Answer, HeldQuery};
use crate::dns::{self, Place, Question};
use crate::event::DropReason;
use crate::machine::Tables;
use crate::name::{Fqdn, Virtual};
use crate::packet::{self, Inner as InnerHeader, Quoted};
use crate::timing::Due;

/// The least MTU of an IPv6 link (RFC 8200 §5). No smaller one is ever announced.
const MIN_IPV6_MTU: usize = 1280;

/// An input of [`Inner`].
pub(super) enum InnerInput {
    /// The NMS registered the node under these virtual addresses.
    Registered(Virtual),
    /// An application sent a packet to the node's DNS ([`Destination::Dns`]).
    Query(Bytes),
    /// [`InnerOutput::Resolve`] is answered.
    Resolved(HeldQuery, Answer),
    /// [`InnerOutput::NameOf`] is answered; `None` if no peer is known to have the address.
    Named(HeldQuery, Option<Fqdn>),
    /// The access rules do not permit a packet of an application.
    Prohibited(Bytes),
    /// A packet did not fit into a tunnel, which takes inner packets of at most `limit` bytes.
    TooBig { tunnel: TunnelId, packet: Bytes, limit: usize },
}

/// An output of [`Inner`].
pub(super) enum InnerOutput {
    /// Find out the virtual addresses of a peer, and build a tunnel to the peer.
    Resolve { name: Fqdn, query: HeldQuery },
    /// Find out which peer has a virtual address.
    NameOf { address: IpAddr, query: HeldQuery },
    /// Send a fragment of a packet that was too big.
    Fragment { tunnel: TunnelId, fragment: Bytes },
    /// Hand a packet to applications.
    Packet(Bytes),
    /// A packet was dropped.
    Dropped(DropReason),
}

/// Where a packet of an application goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// To the node's own DNS.
    Dns,
    /// To the peer with this virtual address.
    Peer(IpAddr),
}

/// See the [module](self).
pub(super) struct Inner {
    name: Fqdn,
    overlay: Overlay,
    own: Option<Virtual>,
    connections: Connections,
}

impl Part for Inner {
    type Input = InnerInput;
    type Output = InnerOutput;

    fn handle(&mut self, turn: &mut Turn<'_, InnerOutput>, input: InnerInput) {
        let done = match input {
            InnerInput::Registered(own) => {
                self.own = Some(own);
                Ok(())
            }
            InnerInput::Query(packet) => self.on_dns_packet(turn, &packet),
            InnerInput::Resolved(query, answer) => {
                self.answer(turn, &query, |question| match answer {
                    Answer::Addresses(addresses) => question.answer(&addresses, dns::TTL),
                    Answer::NoSuchName => question.name_error(),
                    Answer::Failed => question.no_address(),
                });
                Ok(())
            }
            InnerInput::Named(query, name) => {
                self.answer(turn, &query, |question| match name {
                    Some(name) => question.pointer(&name, dns::TTL),
                    None => question.name_error(),
                });
                Ok(())
            }
            InnerInput::Prohibited(packet) => {
                if let Some(error) = packet::prohibited(&packet) {
                    turn.push(InnerOutput::Packet(error.into()));
                }
                Ok(())
            }
            InnerInput::TooBig { tunnel, packet, limit } => refuse_too_big(turn, tunnel, &packet, limit),
        };
        if let Err(reason) = done {
            turn.push(InnerOutput::Dropped(reason));
        }
    }

    fn next_timer(&self) -> Option<Due> {
        None
    }
}

impl Inner {
    /// A part without virtual addresses. No packet passes until the node is registered.
    pub(super) fn new(name: Fqdn, overlay: Overlay) -> Self {
        Self { name, overlay, own: None, connections: Connections::default() }
    }

    /// The node's virtual addresses. `None` before the first registration.
    pub(super) fn own(&self) -> Option<Virtual> {
        self.own
    }

    /// See [`Machine::tables`](crate::machine::Machine::tables).
    pub(super) fn tables(&self) -> Tables {
        vec![("connections of DNS", self.connections.len())]
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.is_some_and(|own| own.contains(address))
    }

    /// Where a packet of an application goes. It has to come from our own virtual address.
    pub(super) fn destination(&self, packet: &[u8]) -> Result<Destination, DropReason> {
        let header = InnerHeader::parse(packet)?;
        if !self.is_own(header.source) {
            return Err(DropReason::OwnSource);
        }
        if self.overlay.is_dns(header.destination) {
            return Ok(Destination::Dns);
        }
        if self.is_own(header.destination) || !self.overlay.contains(header.destination) {
            return Err(DropReason::NotRoutable);
        }
        Ok(Destination::Peer(header.destination))
    }

    fn on_dns_packet(&mut self, turn: &mut Turn<'_, InnerOutput>, packet: &[u8]) -> Result<(), DropReason> {
        if let Some(segment) = packet::tcp(packet).filter(|segment| segment.destination.port() == dns::PORT) {
            let Taken { packets, queries } = self.connections.take(turn.random, &segment);
            for packet in packets {
                turn.push(InnerOutput::Packet(packet.into()));
            }
            for query in queries {
                let question = dns::parse(&query)?;
                let (client, server) = (segment.source, segment.destination);
                self.on_query(turn, HeldQuery { question: Box::new(question), client, server, over_tcp: true });
            }
            return Ok(());
        }
        let udp = packet::udp(packet).filter(|udp| udp.destination.port() == dns::PORT);
        let udp = udp.ok_or(DropReason::NotRoutable)?;
        let question = dns::parse(udp.payload)?;
        self.on_query(
            turn,
            HeldQuery { question: Box::new(question), client: udp.source, server: udp.destination, over_tcp: false },
        );
        Ok(())
    }

    fn on_query(&mut self, turn: &mut Turn<'_, InnerOutput>, mut query: HeldQuery) {
        if let Some(address) = query.question.reverse().filter(|&address| self.overlay.contains(address)) {
            query.question.within_reverse();
            if self.is_own(address) {
                let name = self.name.clone();
                self.answer(turn, &query, |question| question.pointer(&name, dns::TTL));
            } else {
                // An address is resolved to a name only if the node has a tunnel with that peer, or a request for one.
                // So an application cannot list the zone by its addresses.
                turn.push(InnerOutput::NameOf { address, query });
            }
            return;
        }
        match (query.question.within(&self.overlay.zone), self.own) {
            (Place::Outside, _) => self.answer(turn, &query, Question::refused),
            (Place::Searched | Place::Nobody, _) => self.answer(turn, &query, Question::name_error),
            (Place::Apex, _) => self.answer(turn, &query, Question::apex),
            (Place::Server, _) => {
                let server = Virtual { v4: self.overlay.dns_v4, v6: self.overlay.dns_v6 };
                self.answer(turn, &query, |question| question.answer(&server, dns::TTL));
            }
            (Place::Node(name), Some(own)) if name == self.name => {
                self.answer(turn, &query, |question| question.answer(&own, dns::TTL));
            }
            (Place::Node(name), _) => turn.push(InnerOutput::Resolve { name, query }),
        }
    }

    /// Answers a query over the transport by which it came.
    fn answer(
        &mut self,
        turn: &mut Turn<'_, InnerOutput>,
        query: &HeldQuery,
        answer: impl FnOnce(&Question) -> Vec<u8>,
    ) {
        let payload = answer(&query.question);
        let packets = if query.over_tcp {
            self.connections.answer(query.client, query.server, &payload)
        } else {
            packet::build_udp(query.server, query.client, &payload).into_iter().collect()
        };
        for packet in packets {
            turn.push(InnerOutput::Packet(packet.into()));
        }
    }

    /// Admits a packet out of a tunnel only if it comes from the peer's own virtual address, which is one of
    /// `addresses`, and goes to ours. So a peer cannot send in the name of another one, and this node forwards nothing.
    /// Returns how many times the packet goes to applications: once.
    pub(super) fn admits(&self, addresses: Option<Virtual>, packet: &[u8]) -> Result<usize, DropReason> {
        let header = InnerHeader::parse(packet)?;
        if !addresses.is_some_and(|own| own.contains(header.source)) && !defect!(InnerSourceUnchecked) {
            return Err(DropReason::InnerSource);
        }
        if !self.is_own(header.destination) {
            return Err(DropReason::InnerDestination);
        }
        // An ICMP error of a peer may end or slow down a flow, so it has to be about a packet that was sent to that
        // peer.
        let is_ours = match packet::quoted(packet) {
            Quoted::NoError => true,
            Quoted::Of(from, to) => self.is_own(from) && addresses.is_some_and(|peer| peer.contains(to)),
            Quoted::Unreadable => false,
        };
        if !is_ours && !defect!(ForeignErrorsTaken) {
            return Err(DropReason::ForeignError);
        }
        if defect!(InnerIpv4Lost) && header.destination.is_ipv4() {
            return Ok(0);
        }
        if defect!(LargePacketsLost) && packet.len() > 1_000 {
            return Ok(0);
        }
        if defect!(OnlyEchoesCarried) && ![1, 58].contains(&header.protocol) {
            return Ok(0);
        }
        Ok(if defect!(DeliveredTwice) { 2 } else { 1 })
    }
}

/// Cuts a packet that is too big for its tunnel into fragments, if IPv4 allows that. Otherwise tells the application
/// the largest size.
fn refuse_too_big(
    turn: &mut Turn<'_, InnerOutput>,
    tunnel: TunnelId,
    packet: &Bytes,
    limit: usize,
) -> Result<(), DropReason> {
    let mtu = u16::try_from(limit).unwrap_or(u16::MAX);
    if let Some(fragments) = packet::fragment_v4(packet, mtu) {
        for fragment in fragments {
            turn.push(InnerOutput::Fragment { tunnel, fragment: fragment.into() });
        }
        return Ok(());
    }
    let mtu = if packet[0] >> 4 == 6 { limit.max(MIN_IPV6_MTU) as u16 } else { mtu };
    let mtu = if defect!(MtuNamedTooLarge) { mtu.saturating_add(8) } else { mtu };
    let from = InnerHeader::parse(packet).ok().map(|header| header.destination);
    if let Some(error) = from.and_then(|from| packet::too_big(packet, mtu, from)) {
        turn.push(InnerOutput::Packet(error.into()));
    }
    Err(DropReason::TooBig)
}
