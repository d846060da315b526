//! Relaying between legs (paper Fig. 9), in both relay modes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha20Rng;

use super::granted::{Granted, RelayLimits, Used};
use super::{dropped, signal, transmit};
use crate::event::{DropReason, Protection};
use crate::grant::Grants;
use crate::header::{Flags, HEADER_LEN, Header, Kind};
use crate::machine::{Output, ServiceCommand, Tables, Transmit};
use crate::message::{ErrorCode, Framing, Message, RelayGrant, RelayMode, TunnelRequest};
use crate::name::{Fqdn, NodeId, Party, RelayCid};
use crate::paths::probe::tag_of;
use crate::quic::{CidScheme, DatagramRefused, LinkId, LinkOutput, Links, QuicConfig, destination_prefix};
use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::trs::BINDING_TIMEOUT;
use crate::timing::{Due, Timer, earliest};
use crate::tls::TlsError;

/// Most legs that one leg is bound to, or asked to be bound to.
pub const MAX_BINDINGS_PER_LEG: usize = 16;
/// Most legs of one certificate: a node has one for each relayed peer.
pub const MAX_LEGS_PER_NODE: usize = 1024;

pub(super) struct Legs {
    mode: RelayMode,
    links: Links,
    legs: BTreeMap<LinkId, Leg>,
    by_cid: BTreeMap<RelayCid, LinkId>,
    /// The number of legs, by their certificate's first name.
    counts: BTreeMap<Fqdn, usize>,
    /// Tunnel Requests that wait for their responses, by the asked leg and the transaction.
    asked: BTreeMap<(LinkId, u32), Asker>,
    timers: Timers<(LinkId, u32)>,
    /// `None`: legs are bound without a grant.
    granted: Option<Granted>,
    limits: Option<RelayLimits>,
    used: Used,
}

/// A leg that asks to be bound to another one.
#[derive(Clone, Copy)]
struct Asker {
    leg: LinkId,
    /// The two are bound already, though the other node has not answered (`signaling = "fast"`).
    is_bound: bool,
}

/// A node's connection to the TRS.
struct Leg {
    /// The names in its certificate; never empty.
    names: Vec<Fqdn>,
    cid: RelayCid,
    bound: BTreeSet<LinkId>,
    /// The framing on which the nodes agreed.
    framing: Option<Framing>,
}

impl Legs {
    pub(super) fn new(
        quic: QuicConfig,
        mode: RelayMode,
        grants: Option<Grants>,
        limits: Option<RelayLimits>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            mode,
            links: Links::new(quic, CidScheme::Direct, true, rng)?,
            legs: BTreeMap::new(),
            by_cid: BTreeMap::new(),
            counts: BTreeMap::new(),
            asked: BTreeMap::new(),
            timers: Timers::default(),
            granted: grants.map(Granted::new),
            limits,
            used: Used::default(),
        })
    }

    /// See [`crate::machine::Machine::tables`].
    pub(super) fn tables(&self) -> Tables {
        let bound = self.legs.values().map(|leg| leg.bound.len()).sum::<usize>();
        vec![
            ("connections", self.links.count()),
            ("legs", self.legs.len().max(self.by_cid.len()).max(self.counts.len())),
            ("legs bound to legs", bound),
            ("requests", self.asked.len().max(self.timers.count())),
            ("legs with grants", self.granted.as_ref().map_or(0, Granted::count)),
            ("nodes whose bytes count", self.used.count()),
        ]
    }

    pub(super) fn on_command(&mut self, now: Instant, command: ServiceCommand, out: &mut VecDeque<Output>) {
        match command {
            // A leg that ends also ends the legs that are bound only to it, and no more datagrams are forwarded to it.
            ServiceCommand::Trust(roots) => {
                if self.links.trust(now, roots).is_err() {
                    dropped(out, DropReason::BadTrust);
                }
            }
            ServiceCommand::Identity(identity) => {
                if self.links.renew(now, *identity).is_err() {
                    dropped(out, DropReason::BadTrust);
                }
            }
            ServiceCommand::Revoked(names) => {
                let revoked = |(_, leg): &(&LinkId, &Leg)| leg.names.iter().any(|name| names.contains(name));
                let legs: Vec<LinkId> = self.legs.iter().filter(revoked).map(|(&link, _)| link).collect();
                for link in legs {
                    self.links.close(now, link);
                    self.on_closed(now, link);
                }
            }
            ServiceCommand::Rules(_) => {}
            ServiceCommand::Stop => self.links.close_all(now),
        }
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        let over = self.granted.as_ref().and_then(Granted::next).map(|at| Timer::GrantOver.at(at));
        earliest([self.links.next_timer(), self.timers.next().map(|at| Timer::Binding.at(at)), over])
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.links.handle_timeout(now);
        while let Some(key) = self.timers.pop_due(now) {
            if let Some(Asker { leg, is_bound: true }) = self.asked.remove(&key) {
                self.part(key.0, leg);
            }
        }
        while let Some((leg, from)) = self.granted.as_mut().and_then(|granted| granted.pop_over(now)) {
            self.unbind(now, leg, from);
        }
    }

    /// Two legs are not bound to each other any more.
    fn part(&mut self, one: LinkId, other: LinkId) {
        for (of, from) in [(one, other), (other, one)] {
            if let Some(leg) = self.legs.get_mut(&of) {
                leg.bound.remove(&from);
            }
        }
    }

    /// The time of a grant is over: the legs of this node are not bound to that one any more. A leg that is bound to
    /// nothing is closed, so that its node learns that the tunnel has ended.
    fn unbind(&mut self, now: Instant, link: LinkId, from: NodeId) {
        let Some(leg) = self.legs.get(&link) else { return };
        let is_theirs = |id: &LinkId| {
            self.legs.get(id).is_some_and(|other| other.names.iter().any(|name| NodeId::of(name) == from))
        };
        let theirs: Vec<LinkId> = leg.bound.iter().copied().filter(is_theirs).collect();
        for other in theirs {
            for (of, id) in [(link, other), (other, link)] {
                let Some(leg) = self.legs.get_mut(&of) else { continue };
                leg.bound.remove(&id);
                if leg.bound.is_empty() {
                    self.links.close(now, of);
                    self.on_closed(now, of);
                }
            }
        }
    }

    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
        out: &mut VecDeque<Output>,
    ) {
        let target = destination_prefix(&payload).and_then(|cid| self.by_cid.get(&cid).copied());
        if let (RelayMode::Blind, Some(target)) = (self.mode, target) {
            let mut source = self.source_of(target, remote);
            if source.is_none() {
                // The Tunnel Request that binds the two may be among the datagrams that were taken just before.
                self.finish(now, out);
                source = self.source_of(target, remote);
            }
            return match self.forward(now, target, source, payload) {
                Ok(forwarded) => transmit(out, forwarded),
                Err(reason) => dropped(out, reason),
            };
        }
        self.links.take_datagram(now, local, remote, payload);
    }

    /// Whether a datagram is a path probe for one of our legs. It is forwarded like a QUIC packet, by the same bytes.
    pub(super) fn is_path_probe(&self, datagram: &[u8]) -> bool {
        self.mode == RelayMode::Blind && tag_of(datagram).is_some_and(|tag| self.by_cid.contains_key(&tag))
    }

    /// Forwards received frames and drives the links that send them, until there is nothing left to send.
    pub(super) fn finish(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        loop {
            self.links.finish(now);
            let Some(first) = self.links.poll() else { return };
            self.on_output(now, first, out);
            while let Some(output) = self.links.poll() {
                self.on_output(now, output, out);
            }
        }
    }

    /// Blind relaying: forwards a datagram unchanged if it came from a leg that is bound to the target.
    fn forward(
        &mut self,
        now: Instant,
        target: LinkId,
        source: Option<LinkId>,
        payload: BytesMut,
    ) -> Result<Transmit, DropReason> {
        if source.is_none() && !defect!(RelayForwardsUnbound) {
            return Err(DropReason::NotBound);
        }
        if let Some(source) = source {
            self.count(now, source, payload.len())?;
        }
        let place = self.links.local(target).zip(self.links.remote(target));
        let (local, remote) = place.ok_or(DropReason::NotBound)?;
        Ok(Transmit::new(local, remote, payload.into()))
    }

    /// The leg that is bound to this one and whose node is at this address.
    fn source_of(&self, target: LinkId, remote: SocketAddr) -> Option<LinkId> {
        // A leg's node may have moved a moment ago: an authentic packet has come from there, and the proof is under
        // way.
        let is_at = |other: LinkId| [self.links.remote(other), self.links.present(other)].contains(&Some(remote));
        self.legs.get(&target)?.bound.iter().copied().find(|&other| is_at(other))
    }

    /// Counts what a leg's node sends through the TRS.
    fn count(&mut self, now: Instant, source: LinkId, len: usize) -> Result<(), DropReason> {
        let (Some(limits), Some(leg)) = (self.limits, self.legs.get(&source)) else { return Ok(()) };
        if self.used.take(now, limits, NodeId::of(&leg.names[0]), len) { Ok(()) } else { Err(DropReason::RelayLimit) }
    }

    fn on_output(&mut self, now: Instant, output: LinkOutput, out: &mut VecDeque<Output>) {
        match output {
            LinkOutput::Transmit(t) | LinkOutput::Bare(t) => transmit(out, t),
            LinkOutput::Connected { link, peer, .. } => self.on_connected(now, link, peer, out),
            LinkOutput::Frame(link, header, body) => {
                if let Err(reason) = self.on_frame(now, link, &header, &body, out) {
                    dropped(out, reason);
                }
            }
            LinkOutput::Datagrams(link, frames) => {
                for data in frames {
                    if let Err(reason) = self.on_datagram(now, link, data) {
                        dropped(out, reason);
                    }
                }
            }
            LinkOutput::Closed(link, _) => self.on_closed(now, link),
            LinkOutput::Dropped(reason) => dropped(out, reason),
            // A service neither moves nor has paths.
            LinkOutput::Pathed(..) | LinkOutput::Followed(_) => {}
        }
    }

    fn on_connected(&mut self, now: Instant, link: LinkId, peer: Vec<Fqdn>, out: &mut VecDeque<Output>) {
        let (Some(first), Some(cid)) = (peer.first(), self.links.relay_cid(link)) else {
            return self.links.close(now, link);
        };
        let count = self.counts.get(first).copied().unwrap_or(0);
        if self.by_cid.contains_key(&cid) || count >= MAX_LEGS_PER_NODE {
            dropped(out, DropReason::Limit);
            return self.links.close(now, link);
        }
        self.counts.insert(first.clone(), count + 1);
        self.by_cid.insert(cid, link);
        self.legs.insert(link, Leg { names: peer, cid, bound: BTreeSet::new(), framing: None });
    }

    /// A leg is gone. A leg that was bound only to it is closed, so that its node learns that the tunnel has ended.
    fn on_closed(&mut self, now: Instant, link: LinkId) {
        let Some(leg) = self.legs.remove(&link) else { return };
        if let Some(granted) = &mut self.granted {
            granted.forget(link);
        }
        self.by_cid.remove(&leg.cid);
        if let Some(count) = self.counts.get_mut(&leg.names[0]) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&leg.names[0]);
            }
        }
        for id in leg.bound {
            let Some(other) = self.legs.get_mut(&id) else { continue };
            other.bound.remove(&link);
            if other.bound.is_empty() {
                self.links.close(now, id);
                self.on_closed(now, id);
            }
        }
    }

    fn on_frame(
        &mut self,
        now: Instant,
        link: LinkId,
        header: &Header,
        body: &[u8],
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        if !self.legs.contains_key(&link) {
            return Err(DropReason::UnknownId);
        }
        if header.kind == Kind::Capsule {
            return self.copy_frame(now, link, header, body);
        }
        match Message::decode_body(header.kind, body).map_err(|_| DropReason::BadBody)? {
            Message::RelayGrant(grant) => self.on_grant(now, link, &grant),
            Message::TunnelRequest(request) => self.on_tunnel_request(now, link, header, request, out),
            Message::TunnelResponse => self.on_tunnel_response(now, link, header, out),
            _ => Err(DropReason::Unexpected),
        }
    }

    /// An initiator shows what the NMS has granted.
    fn on_grant(&mut self, now: Instant, link: LinkId, grant: &RelayGrant) -> Result<(), DropReason> {
        let Some(granted) = &mut self.granted else { return Ok(()) };
        if !self.legs[&link].names.contains(&grant.from) {
            return Err(DropReason::WrongIdentity);
        }
        let target = self.by_cid.get(&grant.leg).copied().filter(|&target| target != link);
        let target = target.filter(|target| self.legs.get(target).is_some_and(|leg| leg.names.contains(&grant.to)));
        let target = target.ok_or(DropReason::NotBound)?;
        if granted.take(now, target, grant) { Ok(()) } else { Err(DropReason::NotGranted) }
    }

    /// The initiator names the other leg; the responder gets the request with the initiator's leg in it.
    fn on_tunnel_request(
        &mut self,
        now: Instant,
        link: LinkId,
        header: &Header,
        request: TunnelRequest,
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        let leg = &self.legs[&link];
        if !leg.names.contains(&request.from) {
            return Err(DropReason::WrongIdentity);
        }
        let target = request.relay_cid.and_then(|cid| self.by_cid.get(&cid).copied()).filter(|&t| t != link);
        let known = target.and_then(|t| self.legs.get(&t)).is_some_and(|l| l.names.contains(&request.to));
        let free = leg.bound.len() < self.most_bindings()
            && target.is_some_and(|t| {
                // A leg does not replace another one that asks at the same time.
                let asker = self.asked.get(&(t, header.transaction));
                asker.is_none_or(|asker| asker.leg == link)
                    && self.asked.range((t, 0)..=(t, u32::MAX)).count() < MAX_BINDINGS_PER_LEG
            });
        let granted = |&target: &LinkId| self.granted.as_ref().is_none_or(|all| all.holds(target, &request.from));
        let is_granted = target.as_ref().is_none_or(granted);
        let (Some(target), true) = (target.filter(|_| known && is_granted), free) else {
            let refusal = Message::Error(ErrorCode::NoRelay);
            let frame = refusal.to_bytes(header.transaction, Flags(Flags::FROM_RESPONDER), 0, 0, header.id);
            signal(out, Party::Node(request.from.clone()), &refusal, Protection::Quic, 0);
            self.links.send_frame(now, link, frame.into());
            return Err(if is_granted { DropReason::NotBound } else { DropReason::NotGranted });
        };
        let cid = leg.cid;
        let is_bound = self.binds_at_once(link, target, header);
        let before = self.asked.insert((target, header.transaction), Asker { leg: link, is_bound });
        if let (Some(before), Some(asker)) = (before, self.asked.get_mut(&(target, header.transaction))) {
            asker.is_bound |= before.is_bound;
        }
        self.timers.set((target, header.transaction), Some(now + BINDING_TIMEOUT));
        let framing = Some(request.framing);
        for id in [link, target] {
            self.legs.get_mut(&id).expect("both are here").framing = framing;
        }
        let to = Party::Node(request.to.clone());
        let request = Message::TunnelRequest(TunnelRequest { relay_cid: Some(cid), ..request });
        let frame = request.to_bytes(header.transaction, header.flags, 0, 0, header.id);
        if !self.links.send_frame(now, target, frame.into()) {
            return Err(DropReason::QueueFull);
        }
        signal(out, to, &request, Protection::Quic, 0);
        Ok(())
    }

    /// Binds two legs at the Tunnel Request (`signaling = "fast"`): the NMS has granted just this, and what follows the
    /// request need not wait for the answer. False if they are not bound now, or were before. Without an answer they
    /// are parted again.
    fn binds_at_once(&mut self, link: LinkId, target: LinkId, header: &Header) -> bool {
        let is_fast = header.flags.signaling() == Signaling::Fast && self.mode == RelayMode::Blind;
        if !is_fast || self.granted.is_none() || self.legs[&target].bound.len() >= self.most_bindings() {
            return false;
        }
        let mut is_new = false;
        for (of, to) in [(link, target), (target, link)] {
            is_new |= self.legs.get_mut(&of).is_some_and(|leg| leg.bound.insert(to));
        }
        is_new
    }

    /// The responder agrees, and the two legs are bound. If the initiator's leg is gone, the responder's leg is closed;
    /// otherwise the responder would send into it for ever.
    fn on_tunnel_response(
        &mut self,
        now: Instant,
        link: LinkId,
        header: &Header,
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        let bound = self.bind(now, link, header, out);
        let is_asked = self.asked.range((link, 0)..=(link, u32::MAX)).next().is_some();
        if bound.is_err() && !is_asked && self.legs[&link].bound.is_empty() {
            self.links.close(now, link);
            self.on_closed(now, link);
        }
        bound
    }

    fn bind(
        &mut self,
        now: Instant,
        link: LinkId,
        header: &Header,
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        let key = (link, header.transaction);
        let Asker { leg: asker, is_bound } = self.asked.remove(&key).ok_or(DropReason::Unexpected)?;
        self.timers.set(key, None);
        if !is_bound && self.legs[&link].bound.len() >= self.most_bindings() {
            return Err(DropReason::Limit);
        }
        let Some(other) = self.legs.get_mut(&asker) else { return Err(DropReason::NotBound) };
        if self.granted.as_ref().is_some_and(|all| !other.names.iter().any(|name| all.holds(link, name))) {
            return Err(DropReason::NotGranted);
        }
        other.bound.insert(link);
        let to = Party::Node(other.names[0].clone());
        self.legs.get_mut(&link).expect("checked").bound.insert(asker);
        let response = Message::TunnelResponse;
        let frame = response.to_bytes(header.transaction, header.flags, 0, 0, header.id);
        if !self.links.send_frame(now, asker, frame.into()) {
            return Err(DropReason::QueueFull);
        }
        signal(out, to, &response, Protection::Quic, 0);
        Ok(())
    }

    /// Most legs to which a leg may be bound. When terminating it is one, because a packet of a leg must have one
    /// destination.
    fn most_bindings(&self) -> usize {
        match self.mode {
            RelayMode::Terminating => 1,
            RelayMode::Blind => MAX_BINDINGS_PER_LEG,
        }
    }

    /// Terminating: the one leg that this one is bound to.
    fn other_end(&self, link: LinkId) -> Result<LinkId, DropReason> {
        if self.mode != RelayMode::Terminating {
            return Err(DropReason::Unexpected);
        }
        self.legs.get(&link).and_then(|l| l.bound.first().copied()).ok_or(DropReason::NotBound)
    }

    fn copy_frame(&mut self, now: Instant, link: LinkId, header: &Header, body: &[u8]) -> Result<(), DropReason> {
        let other = self.other_end(link)?;
        self.count(now, link, body.len())?;
        let mut frame = BytesMut::with_capacity(HEADER_LEN + body.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(body);
        if self.links.send_frame(now, other, frame.freeze()) { Ok(()) } else { Err(DropReason::QueueFull) }
    }

    fn on_datagram(&mut self, now: Instant, link: LinkId, data: Bytes) -> Result<(), DropReason> {
        let other = self.other_end(link)?;
        self.count(now, link, data.len())?;
        match self.links.queue_datagram(now, other, data) {
            Ok(()) => Ok(()),
            Err(DatagramRefused::TooLarge(_, data)) => self.on_stream_instead(now, link, other, data),
            Err(DatagramRefused::Full) => Err(DropReason::QueueFull),
            Err(DatagramRefused::Closed) => Err(DropReason::NotBound),
        }
    }

    /// Sends a packet that is too large for a DATAGRAM frame of the other leg on that leg's stream. The TRS cannot tell
    /// the sender to send smaller packets.
    fn on_stream_instead(&mut self, now: Instant, link: LinkId, other: LinkId, data: Bytes) -> Result<(), DropReason> {
        let frame = if self.legs[&link].framing == Some(Framing::Compact) {
            let length = u16::try_from(data.len()).map_err(|_| DropReason::TooBig)?;
            capsule(length, &data)
        } else {
            let header = Header::decode(&data).map_err(|_| DropReason::BadHeader)?;
            if header.kind != Kind::Capsule || usize::from(header.length) + HEADER_LEN != data.len() {
                return Err(DropReason::BadLength);
            }
            data
        };
        if self.links.send_frame(now, other, frame) { Ok(()) } else { Err(DropReason::QueueFull) }
    }
}

/// A packet without a header as a frame of the stream.
fn capsule(length: u16, packet: &[u8]) -> Bytes {
    let header = Header {
        transaction: 0,
        spoken: crate::version::Spoken::FIRST,
        flags: Flags(0),
        kind: Kind::Capsule,
        count: 0,
        sequence: 0,
        length,
        option: 0,
        id: [0; 16],
    };
    let mut frame = BytesMut::with_capacity(HEADER_LEN + packet.len());
    frame.extend_from_slice(&header.encode());
    frame.extend_from_slice(packet);
    frame.freeze()
}
