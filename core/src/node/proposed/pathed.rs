//! Tunnels with paths beneath their connection (`handover = "seamless"`; see [`crate::paths`]).
//!
//! ```text
//! datagram ──tag──▶ End ──▶ Links: authentic and new? ──▶ Paths: Arrived
//!          (own, probe, leg)
//! Links: Pathed(link, datagrams) ──▶ Paths: Transmit ──▶ by the path in use
//!                                                        (through a TRS: the peer's leg in front)
//! ```
//!
//! One more endpoint serves all direct tunnels of the node. Each of its connection IDs is `hash(8) ‖ random(8)`: a hash
//! of the random bytes under a key that is derived from the key of the node's certificate. So two IDs cannot be linked
//! by their bytes. A restarted node recognises the IDs of its earlier run, and answers them by stateless resets. A
//! tunnel that began through a TRS keeps an endpoint of its own, whose IDs begin with the node's leg.
//!
//! A TRS forwards by the first eight bytes of a connection ID, which must name the receiver's leg. On a path through a
//! TRS, the sender puts the receiver's leg into the place of the hash. The receiver puts the hash back before QUIC or
//! the probe's seal is checked. So the relay adds no byte, and a leg can be replaced while the tunnel is up.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rand_chacha::rand_core::RngCore;

use super::end::End;
use super::tunnel::{EndToEnd, Path, TunnelState};
use super::{Owner, Proposed};
use crate::event::{DropReason, Event, Failure};
use crate::machine::{Output, Transmit};
use crate::message::Want;
use crate::name::RelayCid;
use crate::node::carriage::{Carriage, CarriageOutput, SendRefused};
use crate::node::part::TunnelId;
use crate::node::routes::has_room;
use crate::paths::candidates::{Announced, Candidate, Kind, MAX_CANDIDATES, Way, pair};
use crate::paths::lifetime::Lifetimes;
use crate::paths::peer::{Config, Event as PathEvent, Input, Output as PathOutput, Paths, Why};
use crate::paths::probe::{kind_of, tag_of, tags};
use crate::paths::recent::Datagrams;
use crate::paths::strategy::Handover;
use crate::probe::is_not_quic;
use crate::quic::{Congestion, LinkId, LinkOutput, Links};
use crate::route::Pattern;
use crate::time::Instant;
use crate::timing::node::{DIRECT_HEAD_START, PATH_COUNTED, PATH_WANTED, PATHLESS_LIMIT};
use crate::timing::patient;

/// A connection with paths beneath it.
pub(super) struct Pathed {
    /// Every path of the connection, and which of them is in use.
    pub(super) paths: Paths,
    client: bool,
    /// The tunnel, once it is up.
    pub(super) tunnel: Option<TunnelId>,
    /// The peer's tag of probes and our own, once there are keys.
    probe_tag: Option<RelayCid>,
    /// The peer's own addresses, as the NMS told them last.
    direct: Vec<SocketAddr>,
    /// The way through a TRS, if there is one.
    pub(super) bound: Option<Bound>,
    /// When QUIC's counts were passed on last, and the MTU in them.
    counted: (Instant, u16),
    /// Whether the path in use led through a TRS at the last report.
    relayed: bool,
    /// Since when no path works, and when to report that again.
    pathless: Option<(Instant, Instant)>,
    /// Packets of applications that wait for a path, and their bytes.
    held: (VecDeque<Bytes>, usize),
    /// Whether the connection is closing.
    pub(super) closing: bool,
}

/// Datagrams of one instant that came by one way, of which the paths have not been told yet.
pub(super) struct More {
    at: Instant,
    end: End,
    way: Way,
    /// The length of all of them, bytes.
    len: usize,
    /// The beginning of the connection ID of the last datagram, if it alone tells which endpoint the datagram is for.
    prefix: Option<RelayCid>,
}

impl More {
    fn is_by(&self, now: Instant, way: Way) -> bool {
        self.at == now && self.way == way
    }

    /// Whether a datagram is for the same endpoint, because it has the same connection ID: a packet with a short header
    /// (RFC 9000 §17.3), and no path probe.
    fn has_same_cid(&self, datagram: &[u8]) -> bool {
        let prefix = datagram.get(1..9).filter(|_| datagram[0] & 0xc0 == 0x40 && kind_of(datagram).is_none());
        self.prefix.is_some_and(|known| prefix == Some(&known.0))
    }
}

/// A leg to a TRS that is a path of a tunnel.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// Our link to the TRS.
    pub(super) leg: LinkId,
    /// The leg that the peer puts in front of its packets.
    pub(super) ours: RelayCid,
    /// The leg that we put in front of ours.
    pub(super) theirs: RelayCid,
    /// The leg's two addresses.
    pub(super) way: Way,
}

impl Pathed {
    pub(super) fn new(now: Instant, client: bool, rng: &mut impl RngCore, relayed: bool) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let nobody = RelayCid([0; 8]);
        let config = Config { ours: nobody, theirs: nobody, client, lifetimes: Lifetimes::guarded(), seed };
        Self {
            paths: Paths::new(config),
            client,
            tunnel: None,
            probe_tag: None,
            direct: Vec::new(),
            bound: None,
            counted: (now, 0),
            relayed,
            pathless: None,
            held: (VecDeque::new(), 0),
            closing: false,
        }
    }

    /// Whether a packet has to wait, because there is no path to send it on.
    pub(super) fn has_to_hold(&self) -> bool {
        self.probe_tag.is_some() && !self.paths.has_used()
    }

    /// Holds a packet.
    pub(super) fn hold(&mut self, packet: Bytes) -> Result<(), SendRefused> {
        let (packets, bytes) = &mut self.held;
        if !has_room(packets.len(), *bytes, packet.len()) {
            return Err(SendRefused::Full);
        }
        *bytes += packet.len();
        packets.push_back(packet);
        Ok(())
    }

    /// Whether the path in use leads through a TRS.
    pub(super) fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Puts the peer's leg in front of packets that go through the TRS.
    fn address(&self, transmit: &mut Transmit) {
        if let Some(bound) = self.bound.filter(|bound| bound.way.remote == transmit.remote) {
            let len = transmit.segment.unwrap_or(transmit.payload.len()).max(1);
            transmit.payload.chunks_mut(len).for_each(|datagram| retag(datagram, bound.theirs));
        }
    }
}

/// Replaces the tag of a datagram.
fn retag(datagram: &mut [u8], tag: RelayCid) {
    let at = if datagram.first().is_some_and(|first| first & 0x80 != 0) { 6..14 } else { 1..9 };
    if let Some(place) = datagram.get_mut(at) {
        place.copy_from_slice(&tag.0);
    }
}

impl Proposed {
    /// The endpoint of a link of the main endpoint or of the shared one.
    pub(super) fn of(&self, link: LinkId) -> &Links {
        self.shared.as_ref().filter(|_| link.is_pathed()).unwrap_or(&self.links)
    }

    /// As [`Self::of`], mutable.
    pub(super) fn of_mut(&mut self, link: LinkId) -> &mut Links {
        self.shared.as_mut().filter(|_| link.is_pathed()).unwrap_or(&mut self.links)
    }

    /// The endpoint and the link of an end.
    fn end_of_link(&mut self, end: End) -> Option<(&mut Links, LinkId)> {
        match end {
            End::Shared(link) => Some((self.shared.as_mut()?, link)),
            End::Own(id) => match &mut self.tunnels.get_mut(&id)?.state {
                TunnelState::EndToEnd(EndToEnd { links, link: Some(link), .. })
                | TunnelState::Up(Path::Blind { links, link, .. }) => Some((links, *link)),
                _ => None,
            },
        }
    }

    /// The end of a tunnel that is up.
    pub(super) fn end_of(&self, id: TunnelId) -> Option<End> {
        let end = end_of(id, &self.tunnels.get(&id)?.state)?;
        (matches!(end, End::Shared(_)) || self.pathed.contains_key(&end)).then_some(end)
    }

    /// All addresses of the node.
    fn locals(&self) -> Vec<SocketAddr> {
        self.places.addresses.iter().map(|&address| SocketAddr::new(address, self.places.port)).collect()
    }

    /// Every way to the peer that is known now.
    fn candidates(&self, end: End) -> Vec<Candidate> {
        let Some(pathed) = self.pathed.get(&end) else { return Vec::new() };
        let locals = self.locals();
        let inside = |place: &SocketAddr| is_private(*place) && locals.iter().any(|local| is_private(*local));
        let announced: Vec<_> = (pathed.direct.iter())
            .map(|&place| if inside(&place) { Announced::Inside(place) } else { Announced::Seen(place) })
            .collect();
        let mut all = pair(&locals, self.places.nat64, &announced);
        all.extend(pathed.bound.map(|bound| Candidate { way: bound.way, kind: Kind::Relay }));
        all
    }

    /// Tells an end the addresses of its peer. An empty list tells nothing.
    pub(super) fn tell_places(&mut self, now: Instant, end: End, direct: &[SocketAddr]) {
        if let Some(pathed) = self.pathed.get_mut(&end)
            && !direct.is_empty()
        {
            pathed.direct = direct.to_vec();
        }
        let candidates = self.candidates(end);
        self.give(now, end, Input::Candidates(candidates));
    }

    /// Tells an end the node's new addresses. The paths that it had may be the only source of the peer's addresses.
    pub(super) fn tell_network(&mut self, now: Instant, end: End) {
        if let Some(pathed) = self.pathed.get_mut(&end) {
            let relay = pathed.bound.map(|bound| bound.way.remote);
            for place in pathed.paths.places() {
                if Some(place) != relay && !pathed.direct.contains(&place) && pathed.direct.len() < MAX_CANDIDATES {
                    pathed.direct.push(place);
                }
            }
        }
        let (locals, candidates) = (self.locals(), self.candidates(end));
        self.give(now, end, Input::Network { locals, candidates });
    }

    /// Begins a link of the shared endpoint, on these ways.
    pub(super) fn begin_pathed(&mut self, now: Instant, end: End, client: bool, direct: &[SocketAddr]) {
        let relayed = matches!(end, End::Own(_));
        self.pathed.insert(end, Pathed::new(now, client, &mut self.rng, relayed));
        if !direct.is_empty() {
            self.tell_places(now, end, direct);
        }
    }

    /// Notes that the tunnel is up. If both nodes want it, its paths are proved from now on.
    pub(super) fn pathed_up(&mut self, now: Instant, id: TunnelId, end: End, agreed: Handover, direct: &[SocketAddr]) {
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        pathed.tunnel = Some(id);
        let client = pathed.client;
        if agreed != Handover::Seamless {
            return;
        }
        let Some(secret) = self.end_of_link(end).and_then(|(links, link)| links.paths_secret(link)) else { return };
        let [ours, theirs] = tags(&secret, client);
        if let Some(pathed) = self.pathed.get_mut(&end) {
            pathed.probe_tag = Some(ours);
            pathed.paths.tagged(ours, theirs);
        }
        self.by_probe.insert(ours, end);
        if self.tunnels.get(&id).is_some_and(|tunnel| tunnel.slow)
            && let Some(rtt) = self.end_of_link(end).and_then(|(links, link)| links.rtt(link))
        {
            self.give(now, end, Input::RoundTrip(rtt));
        }
        self.give(now, end, Input::Keys(secret));
        self.tell_places(now, end, direct);
    }

    /// Forgets an end. Its connection sends nothing more.
    pub(super) fn forget_end(&mut self, end: End) {
        if let Some(pathed) = self.pathed.remove(&end) {
            self.unlist(&pathed);
        }
        self.path_timers.set(end, None);
        self.closing.remove(&end);
    }

    /// Begins to close an end. It sends its last packets, and accepts no more.
    pub(super) fn close_end(&mut self, end: End) {
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        pathed.closing = true;
        let pathed = &self.pathed[&end];
        if let Some(tag) = pathed.probe_tag {
            self.by_probe.remove(&tag);
        }
        if let Some(bound) = pathed.bound {
            self.by_bound.remove(&bound.ours);
        }
        self.path_timers.set(end, None);
        self.closing.insert(end);
    }

    /// Sends the last packets of an endpoint that is being forgotten.
    pub(super) fn farewell(&mut self, now: Instant, end: End, links: &mut Links) {
        self.close_end(end);
        while let Some(output) = links.poll() {
            if let LinkOutput::Pathed(_, datagrams) = output {
                self.give(now, end, Input::Transmit(datagrams));
            }
        }
    }

    fn unlist(&mut self, pathed: &Pathed) {
        if let Some(tag) = pathed.probe_tag {
            self.by_probe.remove(&tag);
        }
        if let Some(bound) = pathed.bound {
            self.by_bound.remove(&bound.ours);
        }
    }

    /// Forgets the ends whose connections are gone.
    pub(super) fn bury(&mut self) {
        let gone = |end: &End| match end {
            End::Shared(link) => self.shared.as_ref().is_none_or(|links| !links.has(*link)),
            End::Own(id) => !self.tunnels.contains_key(id),
        };
        let gone: Vec<End> = self.closing.iter().copied().filter(gone).collect();
        for end in gone {
            self.forget_end(end);
        }
    }

    /// Handles a datagram that is not for the main endpoint. Returns as [`Carriage::handle_datagram`] does. `Err`: the
    /// datagram is for the main endpoint.
    pub(super) fn take_pathed(&mut self, now: Instant, way: Way, mut payload: BytesMut) -> Result<bool, BytesMut> {
        let Some(shared) = &self.shared else { return Err(payload) };
        if self.has_more(now, way).is_some_and(|more| more.has_same_cid(&payload)) {
            self.take_more(now, way, payload);
            return Ok(false);
        }
        if let Some(tag) = tag_of(&payload) {
            let end = self.by_probe.get(&tag).or_else(|| self.by_bound.get(&tag)).copied();
            let own = end.and_then(|end| Some((end, self.pathed.get(&end)?.probe_tag?)));
            if let Some((end, own)) = own {
                retag(&mut payload, own);
                self.give(now, end, Input::Probe { way, payload });
                return Ok(false);
            }
        }
        let Some(prefix) = crate::quic::destination_prefix(&payload) else { return Err(payload) };
        match self.by_bound.get(&prefix).copied() {
            // The leg that the tunnel began with is its tag.
            Some(End::Own(id)) => {
                if let Some(cid) = self.tunnels.get(&id).and_then(|tunnel| tunnel.state.own_cid()) {
                    retag(&mut payload, cid);
                }
                Ok(self.on_blind_datagram(now, id, way.local, way.remote, payload))
            }
            Some(End::Shared(_)) => {
                if let Some(hash) = shared.full_cid(&payload) {
                    retag(&mut payload, hash);
                }
                self.set_search();
                Ok(self.take_shared(now, way, None, payload))
            }
            // Datagrams that do not come from a service are for the tunnels. A stateless reset has random bytes in
            // place of a prefix.
            None if self.by_leg.contains_key(&prefix) || self.has_overtaken(prefix) => Err(payload),
            None if self.has_more(now, way).is_some() || !self.links.leads_to(way.remote) => {
                if is_not_quic(&payload) {
                    return Err(payload);
                }
                self.set_search();
                Ok(self.take_shared(now, way, Some(prefix), payload))
            }
            None => Err(payload),
        }
    }

    /// Sets whether new links of the shared endpoint search for their path MTU.
    fn set_search(&mut self) {
        let search = !self.expected.has_unsearched();
        if let Some(shared) = &mut self.shared {
            shared.set_search(search);
        }
    }

    /// Takes one more datagram for the shared endpoint.
    fn take_more(&mut self, now: Instant, way: Way, payload: BytesMut) {
        let Some(shared) = &mut self.shared else { return };
        let len = payload.len();
        let Some(link) = shared.hear_datagram(now, way.local, way.remote, payload) else { return };
        match &mut self.more {
            Some(more) if more.end == End::Shared(link) => more.len += len,
            _ => self.arrived(now, End::Shared(link), way, len),
        }
    }

    /// Takes a datagram for the shared endpoint; `prefix` is the beginning of its connection ID, if only that was
    /// looked at.
    fn take_shared(&mut self, now: Instant, way: Way, prefix: Option<RelayCid>, payload: BytesMut) -> bool {
        let Some(shared) = &mut self.shared else { return false };
        let len = payload.len();
        let Some(link) = shared.hear_datagram(now, way.local, way.remote, payload) else { return false };
        let end = End::Shared(link);
        if !self.pathed.contains_key(&end) {
            self.begin_pathed(now, end, false, &[]);
        }
        self.arrived(now, end, way, len);
        if let Some(more) = &mut self.more {
            more.prefix = prefix;
        }
        true
    }

    /// Passes on the datagrams that QUIC wants to send on an end.
    pub(super) fn send_pathed(&mut self, now: Instant, end: End, datagrams: Datagrams) {
        let Some(pathed) = self.pathed.get(&end) else { return };
        let (at, mtu) = pathed.counted;
        if pathed.probe_tag.is_some() && (now >= at + PATH_COUNTED || datagrams.longest() > usize::from(mtu)) {
            self.count(now, end);
        }
        self.give(now, end, Input::Transmit(datagrams));
    }

    fn count(&mut self, now: Instant, end: End) {
        let Some(counts) = self.end_of_link(end).and_then(|(links, link)| links.delivery(link)) else { return };
        if let Some(pathed) = self.pathed.get_mut(&end) {
            pathed.counted = (now, counts.mtu);
        }
        self.give(now, end, Input::Delivery(counts));
    }

    /// QUIC found a datagram authentic and new that came by this way. More of them that come at the same instant and by
    /// the same way may change nothing but the count of bytes. Then the paths are told of all of them at once.
    pub(super) fn arrived(&mut self, now: Instant, end: End, way: Way, len: usize) {
        if let Some(more) = self.more.as_mut().filter(|more| more.end == end && more.is_by(now, way)) {
            more.len += len;
            return;
        }
        self.give(now, end, Input::Arrived { way, len });
        if self.pathed.get(&end).is_some_and(|pathed| pathed.paths.only_counts(now, way)) {
            self.more = Some(More { at: now, end, way, len: 0, prefix: None });
        }
    }

    /// The datagrams for a tunnel of the shared endpoint that came by this way at this instant, if there are any.
    fn has_more(&self, now: Instant, way: Way) -> Option<&More> {
        self.more.as_ref().filter(|more| more.is_by(now, way) && matches!(more.end, End::Shared(_)))
    }

    /// Tells the paths of an end of the datagrams that they have not been told of yet.
    pub(super) fn give_more(&mut self) {
        if let Some(More { at, end, way, len, .. }) = self.more.take().filter(|more| more.len > 0) {
            self.give_one(at, end, Input::Arrived { way, len });
        }
    }

    /// Gives the paths of an end one input, and carries out their outputs.
    pub(super) fn give(&mut self, now: Instant, end: End, input: Input) {
        self.give_more();
        self.give_one(now, end, input);
    }

    fn give_one(&mut self, now: Instant, end: End, input: Input) {
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        let has_arrived = matches!(input, Input::Probe { .. } | Input::Arrived { .. });
        pathed.paths.handle(now, input, &mut self.silent);
        loop {
            let Some(pathed) = self.pathed.get_mut(&end) else { return };
            match pathed.paths.poll() {
                PathOutput::Transmit(mut transmit) => {
                    pathed.address(&mut transmit);
                    self.out.push_back(CarriageOutput::Unasking(Box::new(transmit)));
                }
                PathOutput::PathChanged => self.tell_quic(end, |links, link| links.path_changed(now, link)),
                PathOutput::Ping => self.tell_quic(end, |links, link| links.ping(now, link)),
                PathOutput::Event(event) => self.on_path_event(now, end, event),
                PathOutput::Wait(due) => return self.assess(now, end, due, has_arrived),
            }
        }
    }

    /// The pattern that the path in use belongs to.
    pub(super) fn pattern_of(&self, id: TunnelId) -> Pattern {
        let Some(tunnel) = self.tunnels.get(&id) else { return Pattern::Direct };
        let relayed = self.end_of(id).and_then(|end| self.pathed.get(&end)).map(|pathed| pathed.relayed);
        match relayed {
            None => tunnel.pattern,
            Some(true) => Pattern::Relayed,
            Some(false) => tunnel.direct,
        }
    }

    fn tell_quic(&mut self, end: End, tell: impl FnOnce(&mut Links, LinkId)) {
        if let Some((links, link)) = self.end_of_link(end) {
            tell(links, link);
        }
        match end {
            End::Own(id) => _ = self.blind_touched.insert(id),
            End::Shared(_) => self.shared_touched = true,
        }
    }

    fn on_path_event(&mut self, now: Instant, end: End, event: PathEvent) {
        let PathEvent::Switched { to, why, .. } = event else {
            if event == PathEvent::BadProbe {
                self.dropped(DropReason::NotAuthentic);
            }
            return;
        };
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        let relayed = pathed.bound.is_some_and(|bound| bound.way.remote == to.remote);
        pathed.relayed = relayed;
        if matches!(why, Why::Ended | Why::PeerMoved) && self.quic.options.congestion == Congestion::NewReno {
            // Otherwise the packets in flight on the path before would keep the window closed until a probe timeout
            // (RFC 9000 §9.4).
            self.tell_quic(end, |links, link| links.path_changed(now, link));
        }
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        let Some(tunnel) = pathed.tunnel.filter(|_| !pathed.closing) else { return };
        let Some(peer) = self.tunnels.get(&tunnel).map(|tunnel| tunnel.name.clone()) else { return };
        let pattern = self.pattern_of(tunnel);
        let event = Event::PathSwitched { peer, remote: to.remote, pattern };
        self.out.push_back(CarriageOutput::Pass(Output::from(event)));
        self.out.push_back(CarriageOutput::PathSwitched { tunnel, relayed });
        let held = self.pathed.get_mut(&end).map(|pathed| std::mem::take(&mut pathed.held.0));
        for packet in held.into_iter().flatten() {
            if self.send_packet(now, tunnel, packet).is_err() {
                self.dropped(DropReason::QueueFull);
            }
            self.tell_quic(end, |_, _| {});
        }
        if let Some(pathed) = self.pathed.get_mut(&end) {
            pathed.held.1 = 0;
        }
    }

    /// Checks whether a tunnel has a path that works, and asks for help if not. `has_arrived`: a datagram was taken. If
    /// the timer is overdue then, the process stood still, and more datagrams wait. An answer among them must not count
    /// as lost, so the timer judges the silence: it comes last in a turn.
    fn assess(&mut self, now: Instant, end: End, due: Option<Instant>, has_arrived: bool) {
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        let (Some(tunnel), Some(_), false) = (pathed.tunnel, pathed.probe_tag, pathed.closing) else {
            return self.path_timers.set(end, due.filter(|_| !self.pathed[&end].closing));
        };
        if pathed.paths.is_well(now) {
            if pathed.pathless.take().is_some() {
                self.out.push_back(CarriageOutput::PathWorks(tunnel));
            }
            return self.path_timers.set(end, due);
        }
        let slow = self.tunnels.get(&tunnel).is_some_and(|tunnel| tunnel.slow);
        let (limit, wait) = (patient(PATHLESS_LIMIT, slow), patient(PATH_WANTED, slow));
        let (since, again) = *pathed.pathless.get_or_insert((now, now));
        if has_arrived && self.path_timers.at(end).is_some_and(|at| at < now) {
            return;
        }
        if now >= since + limit && !pathed.paths.is_proved() {
            return self.fail(now, tunnel, Failure::Timeout);
        }
        if again <= now {
            let direct = pathed.paths.has_moved() && pathed.paths.used().is_some() && now < since + DIRECT_HEAD_START;
            let next = if direct { since + DIRECT_HEAD_START } else { now + wait };
            pathed.pathless = Some((since, next));
            let want = if direct { Want::Direct(0) } else { Want::Relayed };
            // A leg without an answer for this long is replaced.
            if direct || pathed.bound.is_none() || now >= since + 2 * wait {
                self.out.push_back(CarriageOutput::PathWanted(tunnel, want));
            }
            if !direct {
                // A NAT may have given us another port. A packet on the leg, and one to the NMS, show it to both.
                if let Some(bound) = self.pathed.get(&end).and_then(|pathed| pathed.bound) {
                    self.links.ping(now, bound.leg);
                }
                self.try_elsewhere(now);
            }
        }
        let pathless = self.pathed.get(&end).and_then(|pathed| pathed.pathless);
        // Once the limit has passed, a proved path keeps the tunnel: there is nothing to wake up for at the limit.
        let limit = Some(since + limit).filter(|&limit| now < limit);
        let next = pathless.map(|(_, again)| limit.map_or(again, |limit| again.min(limit)));
        self.path_timers.set(end, due.into_iter().chain(next).min());
    }

    pub(super) fn path_timeout(&mut self, now: Instant, end: End) {
        if self.pathed.get(&end).is_some_and(|pathed| pathed.probe_tag.is_some()) {
            self.count(now, end);
        }
        self.give(now, end, Input::Timeout);
    }

    /// A path of a tunnel uses this leg from now on. The earlier leg is closed.
    pub(super) fn bind(&mut self, now: Instant, id: TunnelId, end: End, leg: LinkId, theirs: RelayCid) {
        let known = (self.links.relay_cid(leg), self.links.local(leg), self.links.remote(leg));
        let (Some(ours), Some(local), Some(remote)) = known else { return };
        let Some(pathed) = self.pathed.get_mut(&end) else { return };
        let bound = Bound { leg, ours, theirs, way: Way { local, remote } };
        let old = pathed.bound.replace(bound).filter(|old| old.leg != leg);
        if let Some(old) = old {
            self.by_bound.remove(&old.ours);
            self.close(now, old.leg);
        }
        self.by_bound.insert(ours, end);
        self.owners.insert(leg, Owner::Leg(id));
        self.give(now, end, Input::Renewed(bound.way));
    }

    /// The leg of a tunnel that is up is gone. Another path may take over.
    pub(super) fn leg_gone(&mut self, now: Instant, id: TunnelId, leg: LinkId) -> bool {
        let Some(end) = self.end_of(id) else { return false };
        let Some(pathed) = self.pathed.get_mut(&end).filter(|pathed| pathed.probe_tag.is_some()) else { return false };
        if let Some(bound) = pathed.bound.take_if(|bound| bound.leg == leg) {
            self.by_bound.remove(&bound.ours);
            self.tell_places(now, end, &[]);
        }
        true
    }
}

/// The end of a tunnel in this state, if it is up. One through a blind TRS may have no paths.
pub(super) fn end_of(id: TunnelId, state: &TunnelState) -> Option<End> {
    match state {
        TunnelState::Up(Path::Direct(link)) if link.is_pathed() => Some(End::Shared(*link)),
        TunnelState::Up(Path::Blind { .. }) => Some(End::Own(id)),
        _ => None,
    }
}

/// Whether an address is one of a private network (RFC 1918, RFC 6598, RFC 4193).
fn is_private(place: SocketAddr) -> bool {
    match place.ip() {
        std::net::IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        std::net::IpAddr::V6(v6) => v6.is_unique_local(),
    }
}
