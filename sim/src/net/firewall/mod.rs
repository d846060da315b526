//! A stateful firewall. A packet from outside passes only as part of a conversation that began inside (RFC 6092 for
//! IPv6, and the same for IPv4). Conversations from inside can be narrowed to a list of protocols and ports. Refused
//! packets are dropped in silence, unless the firewall is configured to report them to hosts inside. It may also
//! [inspect](inspect) how conversations begin.
//!
//! [`Firewall`] is two functions, as the NAT is; [`FirewallBox`] puts it into the network as a router between one
//! outside interface and all others. Fragments are held until the packet is whole, judged together, and sent on as
//! they came.

mod inspect;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::IpAddr;

use cyphonic_core::time::Instant;

use cyphonic_scenarios::{Egress, FirewallMode, Inspect, Protocol, Refusal};
use inspect::Sight;

use super::packet::{
    IcmpError, Ip, Reassembled, Reassembler, Transport, parse_icmp_error, protocol, tcp_abort, tcp_reset,
};
use super::session::{IdleTimes, Session, Way};
use super::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop};

/// How a firewall behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// The protocols and ports that inside hosts may reach; `None`: all. ICMP echo has no port, so only a rule without
    /// a port admits it.
    pub egress: Option<Vec<Egress>>,
    /// What happens to packets to other protocols and ports.
    pub refusal: Refusal,
    /// Whether conversations may begin outside.
    pub inbound: bool,
    /// The rules of inspection: what to look for in the first packets of a conversation, and how to react. The first
    /// rule that matches counts.
    pub inspection: Vec<Inspect>,
    /// Idle timeouts of conversations. Packets of both sides restart them.
    pub idle: IdleTimes,
    /// The most conversations at once.
    pub max_flows: usize,
}

impl Default for FirewallConfig {
    /// All packets may go out, only replies may come in, at most 65,536 flows.
    fn default() -> Self {
        Self {
            egress: None,
            refusal: Refusal::Drop,
            inbound: false,
            inspection: Vec::new(),
            idle: IdleTimes::default(),
            max_flows: 65_536,
        }
    }
}

impl From<FirewallMode> for FirewallConfig {
    fn from(mode: FirewallMode) -> Self {
        Self { egress: mode.egress(), ..Self::default() }
    }
}

impl FirewallConfig {
    /// Only UDP and TCP to port 443 may go out, only replies may come in.
    pub fn only_443() -> Self {
        FirewallMode::Only443.into()
    }
}

/// What happens to conversations when the firewall's configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// They go on, even those that could not begin under the new configuration.
    Kept,
    /// They are forgotten. Their next packets are judged as the first ones of a conversation.
    Forgotten,
}

/// Whether an IP protocol number is of the protocol that a rule names.
fn is_of(named: Protocol, number: u8) -> bool {
    match named {
        Protocol::Udp => number == protocol::UDP,
        Protocol::Tcp => number == protocol::TCP,
        Protocol::Icmp => number == protocol::ICMP || number == protocol::ICMPV6,
    }
}

/// A conversation; for ICMP echo the identifier is the inside port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    protocol: u8,
    inside: (IpAddr, u16),
    outside: (IpAddr, u16),
}

impl Flow {
    /// Of a packet, or of one that an ICMP error quotes.
    fn of(ip: &Ip<'_>, way: Way) -> Option<(Self, Transport)> {
        let transport = ip.transport()?;
        let (source, destination) = match (transport, way) {
            (Transport::Udp { source, destination } | Transport::Tcp { source, destination, .. }, _) => {
                (source, destination)
            }
            (Transport::Echo { id, .. }, Way::Out) => (id, 0),
            (Transport::Echo { id, .. }, Way::In) => (0, id),
            (Transport::IcmpError | Transport::Other, _) => return None,
        };
        let (source, destination) = ((ip.source, source), (ip.destination, destination));
        let (inside, outside) = if way == Way::Out { (source, destination) } else { (destination, source) };
        Some((Self { protocol: ip.protocol, inside, outside }, transport))
    }
}

/// The state of a conversation.
#[derive(Debug, Default)]
struct Known {
    session: Session,
    sight: Sight,
}

/// A firewall, pure: packets and time go in.
#[derive(Debug)]
pub struct Firewall {
    config: FirewallConfig,
    /// Expired ones included, until their place is needed.
    flows: BTreeMap<Flow, Known>,
    /// The earliest instant at which an entry expires that a sweep could reclaim.
    sweep_at: Instant,
}

impl Firewall {
    /// A firewall without conversations.
    pub fn new(config: FirewallConfig) -> Self {
        Self { config, flows: BTreeMap::new(), sweep_at: Instant::ZERO }
    }

    /// How it behaves.
    pub fn config(&self) -> &FirewallConfig {
        &self.config
    }

    /// Changes the configuration from now on.
    pub fn set_config(&mut self, config: FirewallConfig, flows: Flows) {
        self.config = config;
        if flows == Flows::Forgotten {
            self.clear();
        }
    }

    /// Forgets every conversation, as a reboot does.
    pub fn clear(&mut self) {
        self.flows.clear();
    }

    /// Whether a whole packet may go out.
    pub fn outgoing(&mut self, now: Instant, packet: &[u8]) -> Result<(), NetDrop> {
        let egress = self.config.egress.as_ref();
        let may_begin = |flow: &Flow| {
            egress.is_none_or(|list| {
                list.iter()
                    .any(|rule| is_of(rule.protocol, flow.protocol) && rule.port.is_none_or(|p| p == flow.outside.1))
            })
        };
        let may_begin =
            Ip::parse(packet).and_then(|ip| Flow::of(&ip, Way::Out)).map_or(egress.is_none(), |(flow, transport)| {
                !matches!(transport, Transport::Echo { request: false, .. }) && may_begin(&flow)
            });
        self.judge(now, packet, Way::Out, may_begin, NetDrop::EgressBlocked)
    }

    /// Whether a whole packet may come in.
    pub fn incoming(&mut self, now: Instant, packet: &[u8]) -> Result<(), NetDrop> {
        self.judge(now, packet, Way::In, self.config.inbound, NetDrop::InboundBlocked)
    }

    fn judge(
        &mut self,
        now: Instant,
        packet: &[u8],
        way: Way,
        may_begin: bool,
        refusal: NetDrop,
    ) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        if ip.transport() == Some(Transport::IcmpError) {
            return if self.is_about_a_flow(now, packet, way) { Ok(()) } else { Err(refusal) };
        }
        let Some((flow, transport)) = Flow::of(&ip, way) else {
            return if may_begin { Ok(()) } else { Err(refusal) };
        };
        if !self.flows.get(&flow).is_some_and(|known| known.session.is_live(now)) {
            if !may_begin {
                return Err(refusal);
            }
            self.flows.remove(&flow);
            self.make_room(now)?;
        }
        let known = self.flows.entry(flow).or_default();
        known.session.touch(now, way, transport, &self.config.idle);
        if self.config.inspection.is_empty() {
            Ok(())
        } else {
            known.sight.judge(now, &ip, packet.len(), &self.config.inspection)
        }
    }

    /// An ICMP error passes if it quotes a packet that went the other way in a conversation that is still remembered.
    fn is_about_a_flow(&self, now: Instant, error: &[u8], way: Way) -> bool {
        let other = if way == Way::Out { Way::In } else { Way::Out };
        parse_icmp_error(error)
            .and_then(|quote| Ip::parse_quoted(quote.packet))
            .and_then(|ip| Flow::of(&ip, other))
            .and_then(|(flow, _)| self.flows.get(&flow))
            .is_some_and(|known| known.session.is_live(now))
    }

    fn make_room(&mut self, now: Instant) -> Result<(), NetDrop> {
        if self.flows.len() >= self.config.max_flows && now >= self.sweep_at {
            self.flows.retain(|_, known| known.session.is_live(now));
            self.sweep_at = self.flows.values().map(|known| known.session.expires).min().unwrap_or(now);
        }
        if self.flows.len() < self.config.max_flows { Ok(()) } else { Err(NetDrop::FlowTableFull) }
    }
}

/// A firewall in the network.
#[derive(Debug)]
pub struct FirewallBox {
    firewall: Firewall,
    forwarder: Forwarder,
    outside: usize,
    reassembler: Reassembler,
}

impl FirewallBox {
    /// `forwarder` has the routes of all sides. Packets between `outside` and another interface are judged. Packets
    /// between two other interfaces are not.
    pub fn new(firewall: Firewall, forwarder: Forwarder, outside: usize) -> Self {
        Self { firewall, forwarder, outside, reassembler: Reassembler::default() }
    }

    /// The firewall itself, to be changed.
    pub fn firewall_mut(&mut self) -> &mut Firewall {
        &mut self.firewall
    }

    /// Routes, MTUs, counters.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Routes, MTUs, counters, to be changed.
    pub fn forwarder_mut(&mut self) -> &mut Forwarder {
        &mut self.forwarder
    }

    fn handle_packet(&mut self, now: Instant, iface: usize, packet: Vec<u8>) {
        let Some(destination) = self.forwarder.intact(&packet).map(|ip| ip.destination) else { return };
        let leaves = self.forwarder.lookup(destination) == Some(self.outside);
        let way = match (iface == self.outside, leaves) {
            (true, _) => Way::In,
            (false, true) => Way::Out,
            (false, false) => return self.forwarder.forward(packet),
        };
        match self.reassembler.push(now, packet) {
            Reassembled::Untouched(packet) => {
                if self.passes(now, way, &packet) {
                    self.forwarder.forward(packet);
                }
            }
            Reassembled::Whole { packet, fragments } => {
                if self.passes(now, way, &packet) {
                    for fragment in fragments {
                        self.forwarder.forward(fragment);
                    }
                }
            }
            Reassembled::Waiting => {}
            Reassembled::Dropped(reason) => self.forwarder.drop(reason),
        }
    }

    fn passes(&mut self, now: Instant, way: Way, packet: &[u8]) -> bool {
        let verdict = match way {
            Way::Out => self.firewall.outgoing(now, packet),
            Way::In => self.firewall.incoming(now, packet),
        };
        if let Err(reason) = verdict {
            self.forwarder.drop(reason);
            self.react(reason, packet);
        }
        verdict.is_ok()
    }
}

impl FirewallBox {
    /// Sends the resets for a refused packet, each in the name of the other end, or the ICMP error.
    fn react(&mut self, reason: NetDrop, packet: &[u8]) {
        let destination = Ip::parse(packet).map(|ip| ip.destination);
        let refusal = self.firewall.config.refusal;
        match (reason, tcp_reset(packet), tcp_abort(packet)) {
            (NetDrop::EgressBlocked, back, _) => match (refusal, back) {
                (Refusal::Drop, _) => {}
                (Refusal::Reset, Some(back)) => self.forwarder.originate(back),
                (Refusal::Reset | Refusal::Reject, _) => {
                    self.forwarder.report(IcmpError::Prohibited, destination, packet);
                }
            },
            (NetDrop::Reset, Some(back), Some(on)) => {
                self.forwarder.originate(back);
                self.forwarder.originate(on);
            }
            (NetDrop::Rejected | NetDrop::Reset, ..) => {
                self.forwarder.report(IcmpError::Prohibited, destination, packet);
            }
            _ => {}
        }
    }
}

impl NetBox for FirewallBox {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        if self.reassembler.next_expiry().is_some_and(|at| at <= now) {
            let expired = self.reassembler.expire(now);
            self.forwarder.drop_many(NetDrop::FragmentTimeout, expired);
        }
        if let BoxInput::Packet { iface, packet } = input {
            self.handle_packet(now, iface, packet);
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        self.forwarder.poll().unwrap_or_else(|| BoxOutput::Wait(self.reassembler.next_expiry()))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
