//! The flows between two nodes, so that answers to permitted flows pass, and nothing else does.
//!
//! A packet is judged by one look into a table. A flow is in it from its first packet on, which the permission of the
//! node that sends it must admit. Both nodes judge, so a packet that is not permitted passes only if both ignore the
//! NMS.
//!
//! | packet | passes |
//! |---|---|
//! | TCP, UDP, ICMP echo | if its flow is known, or the sender may open it |
//! | an ICMP error | if the flow of the packet in it is known |
//! | other ICMP | if the sender may use ICMP |
//! | a fragment after the first | always: without the first one it is nothing |
//! | any other protocol | if either node may open everything |

use std::collections::{BTreeMap, BTreeSet};

use super::service::{Permission, Permissions, Protocol};
use crate::time::Instant;
use crate::timing::node::{FLOW_NOTED, FLOW_SILENCE, TCP_SILENCE};

/// Most flows that are remembered of one peer. The one that was silent longest gives way.
pub const MAX_FLOWS: usize = 4_096;

/// A flow, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    is_v4: bool,
    protocol: Protocol,
    /// The port of this node; of an echo that this node asks for, its identifier.
    own: u16,
    /// The port of the peer; of an echo that the peer asks for, its identifier.
    peers: u16,
}

impl Flow {
    fn turned(self) -> Self {
        Self { own: self.peers, peers: self.own, ..self }
    }
}

#[derive(Clone, Copy)]
struct Known {
    /// When its last packet passed; up to [`FLOW_NOTED`] earlier than that.
    last: Instant,
    /// Whether this node opened it.
    is_ours: bool,
}

/// What is permitted between this node and one peer, and the flows that were opened.
pub struct Flows {
    permissions: Permissions,
    known: BTreeMap<Flow, Known>,
    by_age: BTreeSet<(Instant, Flow)>,
}

/// What a packet is to the rules.
enum Kind {
    /// A packet of a flow, named from the sender's side; whether it may open the flow.
    Of(Flow, bool),
    /// An error about a packet that its receiver has sent: the flow of that, named from that sender's side.
    Error(Option<Flow>),
    /// ICMP without a flow.
    OtherIcmp,
    Fragment,
    Other,
}

impl Flows {
    /// Nothing was opened yet.
    pub fn new(permissions: Permissions) -> Self {
        Self { permissions, known: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    /// What is permitted.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// How many flows are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no flow is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The next permissions count, whatever their number. Numbers tell later permissions of one registration from
    /// earlier ones. An NMS whose clock was set back may have been restarted since, and counts from a lower number.
    pub fn follow_anew(&mut self) {
        if !defect!(EarlierRulesPreferred) {
            self.permissions.serial = 0;
        }
    }

    /// Other permissions from now on. Flows that they admit go on.
    pub fn permit(&mut self, permissions: Permissions) {
        self.permissions = permissions;
        let Permissions { out, back, .. } = &self.permissions;
        self.known.retain(|flow, known| {
            let (permission, port) = if known.is_ours { (out, flow.peers) } else { (back, flow.own) };
            permission.admits(flow.protocol, port)
        });
        let Self { known, by_age, .. } = self;
        by_age.retain(|(_, flow)| known.contains_key(flow));
    }

    /// Whether a packet may pass: one of ours to the peer (`is_ours`), or one of the peer's to us.
    pub fn admits(&mut self, now: Instant, is_ours: bool, packet: &[u8]) -> bool {
        // Flows are noted even if everything is permitted: they go on when that changes.
        self.judge(now, is_ours, packet) || !self.permissions.are_limits()
    }

    fn judge(&mut self, now: Instant, is_ours: bool, packet: &[u8]) -> bool {
        let permission = if is_ours { &self.permissions.out } else { &self.permissions.back };
        match kind(packet) {
            Kind::Fragment => true,
            Kind::Error(flow) => {
                // The receiver of the error sent the packet in it.
                let flow = flow.map(|flow| if is_ours { flow.turned() } else { flow });
                flow.is_some_and(|flow| self.known(now, flow).is_some())
            }
            Kind::OtherIcmp => permission.admits(Protocol::Icmp, 0),
            Kind::Other => [&self.permissions.out, &self.permissions.back].contains(&&Permission::Everything),
            Kind::Of(flow, may_open) => {
                let flow = if is_ours { flow } else { flow.turned() };
                let port = if is_ours { flow.peers } else { flow.own };
                if let Some(Known { last, is_ours }) = self.known(now, flow) {
                    // Each packet of a flow costs one look into the table, and few of them a change.
                    if now >= last + FLOW_NOTED {
                        self.note(now, flow, is_ours);
                    }
                    return true;
                }
                let opens = may_open && permission.admits(flow.protocol, port);
                if opens {
                    self.note(now, flow, is_ours);
                }
                opens
            }
        }
    }

    /// What is known of a flow that is not over.
    fn known(&self, now: Instant, flow: Flow) -> Option<Known> {
        let silence = if flow.protocol == Protocol::Tcp { TCP_SILENCE } else { FLOW_SILENCE };
        self.known.get(&flow).copied().filter(|known| now < known.last + silence)
    }

    fn note(&mut self, now: Instant, flow: Flow, is_ours: bool) {
        if let Some(old) = self.known.insert(flow, Known { last: now, is_ours }) {
            self.by_age.remove(&(old.last, flow));
        } else if self.known.len() > MAX_FLOWS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.known.remove(&oldest);
        }
        self.by_age.insert((now, flow));
    }
}

fn kind(packet: &[u8]) -> Kind {
    upper(packet).map_or(Kind::Other, |(is_v4, protocol, payload)| match payload {
        None => Kind::Fragment,
        Some(payload) => kind_of(is_v4, protocol, payload),
    })
}

fn kind_of(is_v4: bool, protocol: u8, payload: &[u8]) -> Kind {
    if let Some(flow) = ports(is_v4, protocol, payload) {
        return Kind::Of(flow, true);
    }
    let (Some(&kind), true) = (payload.first(), protocol == if is_v4 { 1 } else { 58 }) else { return Kind::Other };
    let identifier = payload.get(4..6).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match (is_v4, kind, identifier) {
        // Echo and its reply: RFC 792, RFC 4443 §4.
        (true, 8, Some(own)) | (false, 128, Some(own)) => {
            Kind::Of(Flow { is_v4, protocol: Protocol::Icmp, own, peers: 0 }, true)
        }
        (true, 0, Some(peers)) | (false, 129, Some(peers)) => {
            Kind::Of(Flow { is_v4, protocol: Protocol::Icmp, own: 0, peers }, false)
        }
        // Errors: RFC 792 (3, 4, 5, 11, 12); RFC 4443 §2.1 (below 128). Eight bytes are before the packet.
        (true, 3 | 4 | 5 | 11 | 12, _) | (false, 0..=127, _) => Kind::Error(payload.get(8..).and_then(inside)),
        _ => Kind::OtherIcmp,
    }
}

/// The flow of the packet inside an error, which may be cut off.
fn inside(packet: &[u8]) -> Option<Flow> {
    let (is_v4, protocol, payload) = upper(packet)?;
    match kind_of(is_v4, protocol, payload?) {
        Kind::Of(flow, _) => Some(flow),
        Kind::Error(_) | Kind::OtherIcmp | Kind::Fragment | Kind::Other => None,
    }
}

/// The flow of a TCP segment or a UDP datagram, if its ports are there.
fn ports(is_v4: bool, protocol: u8, payload: &[u8]) -> Option<Flow> {
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let [a, b, c, d] = *payload.first_chunk::<4>()?;
    Some(Flow { is_v4, protocol, own: u16::from_be_bytes([a, b]), peers: u16::from_be_bytes([c, d]) })
}

/// The family, the upper-layer protocol and the payload of a packet; no payload of a fragment after the first.
fn upper(packet: &[u8]) -> Option<(bool, u8, Option<&[u8]>)> {
    let number = |at: usize| packet.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let is_later = number(6)? & 0x1fff > 0;
            let protocol = *packet.get(9)?;
            Some((true, protocol, if is_later { None } else { Some(packet.get(header.max(20)..)?) }))
        }
        6 => {
            let (mut next, mut at) = (*packet.get(6)?, 40);
            // RFC 8200 §4.1: hop-by-hop options, routing, destination options, fragment. A packet with more is unusual.
            for _ in 0..8 {
                match next {
                    0 | 43 | 60 => {
                        let length = 8 + usize::from(*packet.get(at + 1)?) * 8;
                        (next, at) = (*packet.get(at)?, at + length);
                    }
                    44 if number(at + 2)? >> 3 > 0 => return Some((false, next, None)),
                    44 => (next, at) = (*packet.get(at)?, at + 8),
                    _ => break,
                }
            }
            Some((false, next, Some(packet.get(at..)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
