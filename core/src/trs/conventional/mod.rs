//! Relaying by path id (paper Fig. 5).
//!
//! The NMS's Relay Request names the two nodes and a time (ours): it is a grant for that pair. The two paths end with
//! the time, also if they are used. A Path Grant of the NMS begins the time anew.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::granted::{RelayLimits, Used};
use super::{dropped, signal, transmit};
use crate::conventional::keys::{Direction, Sealing};
use crate::conventional::replay::ReplayWindow;
use crate::conventional::seal;
use crate::conventional::session::Session;
use crate::epoch;
use crate::event::{DropReason, Protection};
use crate::header::{Flags, HEADER_LEN, Header, Kind, is_unknown, options_len};
use crate::key::Key128;
use crate::machine::{Output, Transmit};
use crate::message::{
    Answer, Message, PathGrant, Probe, ProbeReply, ProbeRequest, RelayEpoch, RelayRequest, RelayResponse, readable,
};
use crate::name::{Fqdn, NodeId, Party, PathId};
use crate::store::Store;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::trs::{EPOCH_KEPT_AHEAD, EPOCH_TOLD_EVERY, PATH_IDLE};
use crate::timing::{Due, Timer};
use crate::tls::WallClock;
use crate::version::Versions;

/// Most paths (two for each tunnel).
pub const MAX_PATHS: usize = 65_536;

pub(super) struct Paths {
    id: NodeId,
    nms: Session,
    /// The epoch of the last Relay Request.
    epoch: u64,
    store: Option<Arc<dyn Store>>,
    /// The epoch in the store.
    kept: u64,
    /// Its source address. A replay from another address is not answered.
    nms_at: Option<SocketAddr>,
    /// When a request with an old epoch was last answered.
    told: Option<Instant>,
    paths: BTreeMap<PathId, Path>,
    timers: Timers<PathId>,
    /// Whether paths end, as the NMS says.
    granted: bool,
    limits: Option<RelayLimits>,
    used: Used,
}

/// One direction of a tunnel.
struct Path {
    /// The transaction of the Relay Request that made it.
    transaction: u32,
    /// The tunnel key, only to authenticate the sender, in the header's direction.
    sealing: Sealing,
    from: Direction,
    window: ReplayWindow,
    /// The path in the opposite direction.
    opposite: PathId,
    /// Our address and the sender's, once the sender is authenticated.
    place: Option<(SocketAddr, SocketAddr)>,
    /// The sender's name, for diagrams, known from a Tunnel Request. The path's id is a hash of both names.
    name: Option<Fqdn>,
    /// The sender, as the NMS says.
    sender: Option<NodeId>,
    /// When the grant of the NMS ends, and the path with it.
    over_at: Option<Instant>,
    /// The last message that was forwarded, so that a retransmission is recognised.
    last: Option<(u8, u32)>,
    used: Instant,
}

impl Path {
    /// Whose bytes the path's are: the sender's, or, as long as its name is not known, those of the path itself.
    fn payer(&self, id: [u8; 16]) -> NodeId {
        self.sender.or_else(|| self.name.as_ref().map(NodeId::of)).unwrap_or(NodeId(id))
    }

    /// Whether the NMS's grant has ended.
    fn is_over(&self, now: Instant) -> bool {
        self.over_at.is_some_and(|over| over <= now) && !defect!(PathsOutliveGrant)
    }

    /// When the path is forgotten, if nothing comes.
    fn ends_at(&self) -> Instant {
        let idle = self.used + PATH_IDLE;
        self.over_at.filter(|_| !defect!(PathsOutliveGrant)).map_or(idle, |over| over.min(idle))
    }
}

/// Answers a Probe with its source address. The answer is not longer than the Probe.
fn answer_probe(
    header: &Header<u8>,
    (local, remote): (SocketAddr, SocketAddr),
    payload: &[u8],
    out: &mut VecDeque<Output>,
) -> Result<(), DropReason> {
    let probe = plain(header, payload)?;
    if !matches!(probe, Message::Probe(Probe { answer: Answer::Here, .. })) || header.flags.from_responder() {
        return Err(DropReason::Unexpected);
    }
    reply_to_probe(local, remote, header.transaction, header.id, out);
    Ok(())
}

/// The message of an unprotected datagram.
fn plain(header: &Header<u8>, payload: &[u8]) -> Result<Message, DropReason> {
    let known = readable(header, Versions::OURS).map_err(|_| DropReason::UnknownVersion)?;
    let options = options_len(header.option, &payload[HEADER_LEN..]).ok_or(DropReason::BadBody)?;
    Message::decode_body(known.kind, &payload[HEADER_LEN + options..]).map_err(|_| DropReason::BadBody)
}

fn reply_to_probe(local: SocketAddr, to: SocketAddr, transaction: u32, id: [u8; 16], out: &mut VecDeque<Output>) {
    let reply = Message::ProbeReply(ProbeReply { seen: to });
    let payload = reply.to_bytes(transaction, Flags(Flags::FROM_RESPONDER), 0, 0, id);
    transmit(out, Transmit::new(local, to, payload));
}

impl Paths {
    /// The number of paths.
    pub(super) fn count(&self) -> usize {
        self.paths.len().max(self.timers.count()).max(self.used.count())
    }

    /// `clock` is the civil time, which epochs follow. An epoch that is older than the start, or not later than the
    /// stored one, is a replay or comes from an NMS whose clock is behind. Such an NMS is told the last epoch. `first`
    /// is the first sequence number of our messages to the NMS. It differs after each restart, because the key stays
    /// the same.
    pub(super) fn new(
        name: &Fqdn,
        service_key: &Key128,
        store: Option<Arc<dyn Store>>,
        (clock, versions): (Arc<dyn WallClock>, Versions),
        first: u32,
    ) -> Self {
        let mut nms = Session::new(service_key, Direction::FromResponder).speaking(versions);
        nms.count_from(first);
        let id = NodeId::of(name);
        let kept = store.as_ref().and_then(|store| store.last_epoch(id).ok().flatten()).unwrap_or_default();
        let epoch = epoch::civil(&*clock).max(kept);
        Self {
            id,
            nms,
            epoch,
            store,
            kept,
            nms_at: None,
            told: None,
            paths: BTreeMap::new(),
            timers: Timers::default(),
            granted: false,
            limits: None,
            used: Used::default(),
        }
    }

    /// With limits of what each node may send. `granted`: whether each path ends with a grant of the NMS.
    #[must_use]
    pub(super) fn limited(mut self, granted: bool, limits: Option<RelayLimits>) -> Self {
        (self.granted, self.limits) = (granted, limits);
        self
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        let (at, id) = self.timers.first()?;
        let over = self.paths.get(&id).is_some_and(|path| path.over_at == Some(at));
        Some(if over { Timer::GrantOver } else { Timer::IdlePath }.at(at))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop_due(now) {
            let Some(path) = self.paths.get(&id) else { continue };
            if path.ends_at() <= now || defect!(PathsForgottenEarly) {
                self.paths.remove(&id);
            } else {
                self.timers.set(id, Some(path.ends_at()));
            }
        }
    }

    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
        out: &mut VecDeque<Output>,
    ) {
        let result = match Header::<u8>::read(&payload) {
            None => Err(DropReason::BadHeader),
            Some(header) if header.kind == Kind::Probe as u8 => answer_probe(&header, (local, remote), &payload, out),
            Some(header) if header.id == self.id.0 => self.on_nms(now, (local, remote), payload, out),
            Some(header) if header.kind == Kind::Capsule as u8 => self.forward(now, &header, remote, payload, out),
            Some(header) => self.on_node(now, &header, (local, remote), &payload, out),
        };
        if let Err(reason) = result {
            dropped(out, reason);
        }
    }

    /// Handles a message of the NMS.
    fn on_nms(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        mut payload: BytesMut,
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        if is_unknown(&payload) {
            if let Some((_, answer)) = self.nms.refuse_unknown(&mut payload) {
                transmit(out, Transmit::new(local, remote, answer));
            }
            return Err(DropReason::UnknownType);
        }
        // The epoch protects against replay, not the sequence number, which a restarted NMS has lost.
        let (header, message) = self.nms.open_unnumbered(&mut payload)?;
        let epoch = match &message {
            Message::RelayRequest(request) => request.epoch,
            Message::ProbeRequest(request) => request.epoch,
            Message::PathGrant(grant) => grant.epoch,
            _ => return Err(DropReason::Unexpected),
        };
        // The limit does not follow this clock, so that a TRS whose clock is a day behind still relays.
        if !epoch::is_timely(Some(self.epoch), epoch, epoch::LAST_OF_CLOCKS) {
            let is_nms = self.nms_at.is_none_or(|at| at == remote);
            if is_nms && self.told.is_none_or(|told| told + EPOCH_TOLD_EVERY <= now) && !defect!(StaleEpochUntold) {
                self.told = Some(now);
                self.tell(&header, (local, remote), 0, &Message::RelayEpoch(RelayEpoch { last: self.epoch }), out);
            }
            return Err(DropReason::Replayed);
        }
        (self.epoch, self.nms_at) = (epoch, Some(remote));
        self.keep_epoch();
        let request = match message {
            Message::RelayRequest(request) => request,
            Message::ProbeRequest(ProbeRequest { to, id, .. }) => {
                reply_to_probe(local, to, header.transaction, id, out);
                return Ok(());
            }
            Message::PathGrant(grant) => {
                let accepted = self.prolong(now, &grant);
                self.tell(
                    &header,
                    (local, remote),
                    header.count,
                    &Message::RelayResponse(RelayResponse { accepted }),
                    out,
                );
                return Ok(());
            }
            _ => return Err(DropReason::Unexpected),
        };
        let known = self.paths.contains_key(&request.forward) && self.paths.contains_key(&request.backward);
        let accepted = known || self.paths.len() + 2 <= MAX_PATHS;
        let again = self.paths.get(&request.forward).is_some_and(|path| path.transaction == header.transaction);
        if accepted && !again {
            self.open(now, header.transaction, &request);
        }
        let count = if again { header.count.max(1) } else { 0 };
        self.tell(&header, (local, remote), count, &Message::RelayResponse(RelayResponse { accepted }), out);
        Ok(())
    }

    /// Stores an epoch, so that no request is accepted again after a restart. If that fails, the clock decides after a
    /// restart.
    fn keep_epoch(&mut self) {
        if let Some(store) = self.store.as_ref().filter(|_| self.epoch > self.kept) {
            let ahead = self.epoch.saturating_add(EPOCH_KEPT_AHEAD.as_nanos() as u64);
            if store.accept_epoch(self.id, ahead).is_ok() {
                self.kept = ahead;
            }
        }
    }

    /// Answers the NMS.
    fn tell(
        &mut self,
        asked: &Header,
        (local, remote): (SocketAddr, SocketAddr),
        count: u8,
        answer: &Message,
        out: &mut VecDeque<Output>,
    ) {
        if let Some(payload) = self.nms.seal(asked.transaction, count, self.id.0, answer) {
            transmit(out, Transmit::new(local, remote, payload));
            signal(out, Party::Nms, answer, Protection::ServiceKey, count);
        }
    }

    /// Begins the time of two paths anew. False if they are not here: the TRS was restarted, or they have ended.
    fn prolong(&mut self, now: Instant, grant: &PathGrant) -> bool {
        let is_there = |path: &&Path| !path.is_over(now);
        let Some(opposite) = self.paths.get(&grant.forward).filter(is_there).map(|path| path.opposite) else {
            return false;
        };
        for id in [grant.forward, opposite] {
            let Some(path) = self.paths.get_mut(&id) else { continue };
            path.over_at = Some(now + Duration::from_secs(grant.seconds.into()));
            let at = path.ends_at();
            self.timers.set(id, Some(at));
        }
        true
    }

    /// Makes or replaces the two paths of a tunnel.
    fn open(&mut self, now: Instant, transaction: u32, request: &RelayRequest) {
        let sealing = Sealing::new(&request.tunnel_key);
        let granted = request.granted.0;
        let time = granted.map(|granted| Duration::from_secs(granted.seconds.into()));
        // A request without a time takes paths away, so they need no more than the shortest one.
        let over_at = time.or_else(|| self.granted.then_some(PATH_IDLE)).map(|time| now + time);
        let ends = [
            (request.forward, request.backward, Direction::FromInitiator, granted.map(|granted| granted.initiator)),
            (request.backward, request.forward, Direction::FromResponder, granted.map(|granted| granted.responder)),
        ];
        for (id, opposite, from, sender) in ends {
            let sealing = sealing.clone();
            let path = Path {
                transaction,
                sealing,
                from,
                window: ReplayWindow::default(),
                opposite,
                place: None,
                name: None,
                sender,
                over_at,
                last: None,
                used: now,
            };
            let at = if defect!(PathsForgottenEarly) { now + PATH_IDLE / 10 } else { path.ends_at() };
            self.paths.insert(id, path);
            self.timers.set(id, Some(at));
        }
    }

    /// Handles a message under the tunnel key: it proves the node's address, and is forwarded to the other node.
    fn on_node(
        &mut self,
        now: Instant,
        header: &Header<u8>,
        place: (SocketAddr, SocketAddr),
        payload: &[u8],
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        let path = self.paths.get_mut(&PathId(header.id)).ok_or(DropReason::UnknownId)?;
        if path.is_over(now) {
            return Err(DropReason::NotGranted);
        }
        let mut copy = payload.to_vec();
        seal::is_from(path.from, &copy)?;
        let (sealed, range) = seal::open_any(&path.sealing, Versions::ANY, &mut copy)?;
        if !path.window.check_and_set(header.sequence) {
            return Err(DropReason::Replayed);
        }
        // The content is for the other node. Both nodes may be of a later version than the TRS.
        let options = options_len(sealed.option, &copy[range.clone()]).unwrap_or(range.len());
        let kind = Kind::from_number(sealed.kind);
        let message = kind.and_then(|kind| Message::decode_body(kind, &copy[range.start + options..range.end]).ok());
        if path.window.is_latest(header.sequence) {
            path.place = Some(place);
        }
        path.used = now;
        if message == Some(Message::HolePunching) {
            return Ok(());
        }
        let (opposite, payer) = (path.opposite, path.payer(header.id));
        let to = self.paths.get(&opposite).and_then(|p| p.place).ok_or(DropReason::NotBound)?;
        self.pay(now, payer, payload.len())?;
        transmit(out, Transmit::new(to.0, to.1, payload.to_vec()));
        let said = Some((header.kind, header.transaction));
        let again =
            self.paths.get_mut(&PathId(header.id)).is_some_and(|p| std::mem::replace(&mut p.last, said) == said);
        if let Some(message) = message.filter(|m| !matches!(m, Message::KeepAlive | Message::KeepAliveAck)) {
            if let Message::TunnelRequest(request) = &message
                && PathId::of(&request.from, &request.to) == PathId(header.id)
            {
                self.name(PathId(header.id), &request.from);
                self.name(opposite, &request.to);
            }
            if let Some(name) = self.paths.get(&opposite).and_then(|p| p.name.clone()) {
                signal(out, Party::Node(name), &message, Protection::TunnelKey, u8::from(again));
            }
        }
        Ok(())
    }

    /// Counts bytes that a node sends to another one.
    fn pay(&mut self, now: Instant, payer: NodeId, len: usize) -> Result<(), DropReason> {
        match self.limits {
            Some(limits) if !self.used.take(now, limits, payer, len) => Err(DropReason::RelayLimit),
            Some(_) | None => Ok(()),
        }
    }

    fn name(&mut self, path: PathId, name: &Fqdn) {
        if let Some(path) = self.paths.get_mut(&path) {
            path.name = Some(name.clone());
        }
    }

    /// Forwards a capsule if it comes from the proved address of its path's node.
    fn forward(
        &mut self,
        now: Instant,
        header: &Header<u8>,
        remote: SocketAddr,
        payload: BytesMut,
        out: &mut VecDeque<Output>,
    ) -> Result<(), DropReason> {
        let path = self.paths.get_mut(&PathId(header.id)).ok_or(DropReason::UnknownId)?;
        if path.place.map(|(_, r)| r) != Some(remote) && !defect!(RelayForwardsUnbound) {
            return Err(DropReason::NotBound);
        }
        if path.is_over(now) {
            return Err(DropReason::NotGranted);
        }
        path.used = now;
        let (opposite, payer) = (path.opposite, path.payer(header.id));
        let to = self.paths.get(&opposite).and_then(|p| p.place).ok_or(DropReason::NotBound)?;
        self.pay(now, payer, payload.len())?;
        transmit(out, Transmit::new(to.0, to.1, payload.into()));
        Ok(())
    }
}
