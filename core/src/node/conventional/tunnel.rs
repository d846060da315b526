//! Building and using a tunnel of the conventional method (paper Figs. 3–5).
//!
//! The dialer makes the end key and wraps it in the temporary key (MK). It sends the wrapped key in a Tunnel Request
//! under the tunnel key, and the listener answers. Both then seal capsules with the end key. A tunnel through a TRS
//! differs in one point: the responder punches a hole to the TRS first.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::rand_core::RngCore;

use super::Conventional;
use super::granted::Renewal;
use crate::conventional::keys::Direction;
use crate::conventional::session::Session;
use crate::conventional::wrap;
use crate::event::{DropReason, Failure, Protection, TunnelUp};
use crate::header::{Header, Kind, is_unknown};
use crate::key::Key128;
use crate::message::{Framing, Message, RouteConfirmation, RouteDirection, TunnelRequest};
use crate::name::{Fqdn, Party, PathId};
use crate::node::carriage::CarriageOutput;
use crate::node::part::{Asked, TunnelId};
use crate::node::status::TunnelStatus;
use crate::paths::strategy::Handover;
use crate::route::{Pattern, answers_for, is_private};
use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    DIAL_STEP_TIMEOUT, FLOW_GAP, FLOW_STOPPED, LISTEN_TIMEOUT, PUNCH_RETRY, TUNNEL_DOUBT_RETRY, TUNNEL_DOUBT_TIMEOUT,
    TUNNEL_KEEP_ALIVE, TUNNEL_RETRY, TUNNEL_SILENCE,
};
use crate::timing::{Due, Timer, patient};

fn keep_alive() -> Duration {
    if defect!(KeepAliveOff) { 1_000 * TUNNEL_KEEP_ALIVE } else { TUNNEL_KEEP_ALIVE }
}

pub(super) struct Tunnel {
    /// The peer.
    pub(super) name: Fqdn,
    pattern: Pattern,
    initiator: bool,
    dialer: bool,
    /// Our address, and the address of the peer (or the TRS), if they are known.
    pub(super) place: Option<(SocketAddr, SocketAddr)>,
    /// The possible places while the tunnel is built. The dialer sends to each, and the listener punches to each.
    candidates: Vec<(SocketAddr, SocketAddr)>,
    /// The ways by which the TRS can be reached: each of our addresses, and the TRS's of its family.
    relay: Vec<(SocketAddr, SocketAddr)>,
    /// Keep Alives in a row that were not answered.
    unanswered: usize,
    /// The listener answers from a port that was not dialed ([`Self::dialed`]).
    answers_elsewhere: bool,
    announcement: Announcement,
    /// The path that leads to us.
    pub(super) inbound: PathId,
    /// The path that leads to the peer. Its id is in the header of what we send.
    pub(super) outbound: PathId,
    /// The tunnel key.
    control: Session,
    temporary: Key128,
    transaction: u32,
    rtt: RoundTrip,
    /// The tunnel is down when the peer has owed an answer for this long.
    doubt_timeout: Duration,
    /// The next Grant Request, if this node renews the grant of the relayed path.
    pub(super) renewal: Option<Renewal>,
    /// When the last capsule came, and when to ask why there are no more (`policy = "optimal"`).
    flow: Option<Flow>,
    /// The step of the handshake; once the tunnel is up, its session.
    pub(super) state: TunnelState,
}

/// The round trip to the other end. A question is a Tunnel Request or a Keep Alive. An answer does not show which
/// question it answers, so a round trip is measured only while a single question waits (Karn's rule, RFC 6298 §3).
#[derive(Default)]
struct RoundTrip {
    /// When the last question left, and how many wait.
    asked: Option<(Instant, u32)>,
    last: Option<Duration>,
}

impl RoundTrip {
    fn ask(&mut self, now: Instant) {
        // A question that has waited for this long is never answered.
        let waiting = self.asked.filter(|(at, _)| now < *at + TUNNEL_DOUBT_TIMEOUT).map_or(0, |(_, waiting)| waiting);
        self.asked = Some((now, waiting.saturating_add(1)));
    }

    fn answered(&mut self, now: Instant) {
        match self.asked.take() {
            Some((at, 1)) => self.last = Some(now.saturating_since(at)),
            Some((at, waiting)) => self.asked = Some((at, waiting - 1)),
            None => {}
        }
    }
}

/// Packets that come out of a tunnel one after another.
#[derive(Default)]
struct Flow {
    last: Option<Instant>,
    /// When it counts as stopped, if nothing more comes.
    stopped_at: Option<Instant>,
}

impl Flow {
    fn arrived(&mut self, now: Instant) {
        let gap = self.last.map(|last| now.saturating_since(last)).filter(|gap| *gap <= FLOW_GAP);
        self.stopped_at = gap.map(|gap| now + FLOW_STOPPED.max(gap + FLOW_STOPPED / 2));
        self.last = Some(now);
    }
}

/// When the carriage reports that packets may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announcement {
    /// As soon as the end key is there.
    Due,
    /// Only once the peer was heard: a direct tunnel under `policy = "optimal"`. The dialer has heard the listener when
    /// its tunnel is up. A listener waits, because this tunnel may not work while another one does.
    WhenHeard,
    /// It was reported.
    Done,
}

#[expect(clippy::large_enum_variant, reason = "a tunnel is up for nearly all of its life")]
pub(super) enum TunnelState {
    /// Our Tunnel Request waits for the Tunnel Response.
    Dialing { end_key: Key128, retry: Backoff, until: Instant },
    /// We wait for the peer's Tunnel Request. Meanwhile we punch if the tunnel goes through a TRS, or under
    /// `policy = "optimal"`.
    Listening { punch: Option<Backoff>, until: Instant },
    /// Both nodes have the end key. `doubted`: since when the peer has not answered. A listener doubts from the start,
    /// because its Tunnel Response may be lost.
    Up { data: Session, heard: Instant, keep_alive: Instant, doubted: Option<Instant> },
}

impl Tunnel {
    fn relayed(&self) -> bool {
        self.pattern == Pattern::Relayed
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, TunnelState::Up { .. })
    }

    /// The tunnel's status, if it is up.
    pub(super) fn status(&self) -> Option<TunnelStatus> {
        let (TunnelState::Up { .. }, Some((local, remote))) = (&self.state, self.place) else { return None };
        Some(TunnelStatus {
            pattern: self.pattern,
            dialed: self.dialer,
            framing: Framing::Udp4501,
            relayed: self.relayed(),
            local,
            remote,
            rtt: self.rtt.last,
            handover: Handover::Rebuild,
            signaling: Signaling::Paper,
            paths: Vec::new(),
        })
    }

    /// The next receiver of our messages: the peer, or the TRS.
    fn hop(&self) -> Party {
        if self.relayed() { Party::Trs } else { Party::Node(self.name.clone()) }
    }

    pub(super) fn next_timer(&self) -> Due {
        let building = |until: Instant| Timer::TunnelBuilding.at(until);
        match &self.state {
            TunnelState::Dialing { retry, until, .. } => Timer::TunnelRetry.at(retry.next).min(building(*until)),
            TunnelState::Listening { punch: None, until } => building(*until),
            TunnelState::Listening { punch: Some(punch), until } => {
                let timer = if self.relayed() { Timer::TunnelRetry } else { Timer::PunchRetry };
                timer.at(punch.next).min(building(*until))
            }
            TunnelState::Up { keep_alive, doubted, .. } => {
                let lost = doubted.map(|doubted| Timer::TunnelDoubt.at(doubted + self.doubt_timeout));
                let renewal = self.renewal.as_ref().map(|renewal| Timer::GrantRenewal.at(renewal.at));
                lost.into_iter().chain(renewal).fold(Timer::TunnelKeepAlive.at(*keep_alive), Due::min)
            }
        }
    }

    /// Notes a message that a peer sends only once it has the end key.
    fn hear(&mut self, now: Instant) {
        if let TunnelState::Up { heard, keep_alive, doubted, .. } = &mut self.state {
            *heard = now;
            self.unanswered = 0;
            if doubted.take().is_some() {
                *keep_alive = now + self::keep_alive();
            }
        }
    }

    /// Notes the addresses, ours and the peer's, of an authentic message. `latest`: whether it is the peer's latest
    /// message so far.
    fn locate(&mut self, latest: bool, place: (SocketAddr, SocketAddr)) {
        if self.is_searching() {
            self.place = self.dialed(place.1).or(self.place);
            self.answers_elsewhere = self.place.is_some_and(|(_, dialed)| dialed != place.1);
        } else if latest && !self.relayed() && !self.answers_elsewhere {
            // A NAT may give the peer a source address that nobody announced. The HMAC proves the sender.
            self.place = Some(place);
        } else if latest && self.relay.contains(&place) {
            self.place = Some(place);
        }
    }

    /// Whether we are the dialer of a direct tunnel under `policy = "optimal"`, and have not heard the listener yet.
    /// The listener's first message tells us where to send, so it must answer a dialed address ([`Self::dialed`]).
    /// Under `policy = "paper"` a message from any address tells us where to send.
    fn is_searching(&self) -> bool {
        self.announcement == Announcement::WhenHeard && matches!(self.state, TunnelState::Dialing { .. })
    }

    /// The dialed address that a reply from `remote` answers. The listener's NAT may send the reply from another port
    /// than the dialed one, as a peer-reflexive candidate of ICE (RFC 8445 §7.3.1.3). The HMAC proves the sender.
    ///
    /// The dialer goes on sending to the dialed port, which let its request in. If it sent to the other port, its own
    /// NAT might use another mapping, and each end would follow the other from mapping to mapping.
    fn dialed(&self, remote: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        let mut exact = self.candidates.iter().filter(|(_, dialed)| *dialed == remote);
        let mut near = self.candidates.iter().filter(|(_, dialed)| answers_for(remote, *dialed));
        exact.next().or_else(|| near.next()).copied()
    }

    /// Whether a message from `remote` may begin the tunnel.
    fn may_begin(&self, remote: SocketAddr) -> bool {
        !self.is_searching() || self.dialed(remote).is_some()
    }

    /// Notes that a packet is about to be sent. After a long silence a Keep Alive leaves at once, to learn whether the
    /// peer is still there. Returns the new timer, if it changes.
    pub(super) fn speak(&mut self, now: Instant) -> Option<Instant> {
        let TunnelState::Up { heard, keep_alive, doubted: None, .. } = &mut self.state else { return None };
        (now >= *heard + TUNNEL_SILENCE && *keep_alive > now).then(|| {
            *keep_alive = now;
            now
        })
    }

    /// Another way to the TRS than `first`, the next one for each even number; `first` if there is no other.
    fn other_way(&self, first: Option<(SocketAddr, SocketAddr)>, number: usize) -> Option<(SocketAddr, SocketAddr)> {
        let others: Vec<_> = self.relay.iter().copied().filter(|way| Some(*way) != first).collect();
        let index = (number / 2).wrapping_sub(1).checked_rem(others.len());
        index.map(|index| others[index]).or(first)
    }

    /// Our direction of a key that both nodes have.
    fn ours(&self) -> Direction {
        if self.initiator { Direction::FromInitiator } else { Direction::FromResponder }
    }
}

/// The bytes that one attempt at a tunnel sends to an address that does not answer: six Tunnel Requests of at most 160
/// bytes within `DIAL_STEP_TIMEOUT`.
const DIALED_BYTES: usize = 6 * 160;

impl Conventional {
    pub(super) fn start_tunnel(
        &mut self,
        now: Instant,
        id: TunnelId,
        direction: &RouteDirection,
        Asked { initiator, transaction, slow, granted, .. }: Asked,
    ) -> Result<(), Failure> {
        self.remove(id);
        let keys = direction.keys.as_ref().ok_or(Failure::Protocol)?;
        let relayed = direction.pattern == Pattern::Relayed;
        let relay = direction.relay.as_ref().map_or(Vec::new(), |relay| self.places.every(&relay.addresses));
        let mut candidates: Vec<_> = match &direction.relay {
            Some(relay) => self.places.first(&relay.addresses).into_iter().collect(),
            None => self.places.all(&direction.candidates),
        };
        if direction.want.is_some() && direction.dial && !relayed {
            // An inside address is only the peer's word, so we send it a limited number of bytes. At its other
            // addresses the NMS has seen the peer.
            candidates.retain(|(_, at)| !is_private(at.ip()) || self.silent.take(now, at.ip(), DIALED_BYTES));
        }
        let place = candidates.first().copied();
        // A listener that was told no address to punch to learns the dialer's address from the Tunnel Request.
        if place.is_none() && (direction.dial || relayed || !direction.candidates.is_empty()) {
            return Err(Failure::NoAddress);
        }
        let until = now + patient(if direction.dial { DIAL_STEP_TIMEOUT } else { LISTEN_TIMEOUT }, slow);
        let punches = relayed || (direction.want.is_some() && !candidates.is_empty());
        let retry = Backoff::start(now, if direction.dial || relayed { TUNNEL_RETRY } else { PUNCH_RETRY });
        let state = if direction.dial {
            let mut end_key = Key128([0; 16]);
            self.rng.fill_bytes(&mut end_key.0);
            TunnelState::Dialing { end_key, retry, until }
        } else {
            TunnelState::Listening { punch: punches.then_some(retry), until }
        };
        let ours = if initiator { Direction::FromInitiator } else { Direction::FromResponder };
        let tunnel = Tunnel {
            name: direction.peer.clone(),
            pattern: direction.pattern,
            initiator,
            dialer: direction.dial,
            place,
            candidates,
            relay,
            unanswered: 0,
            answers_elsewhere: false,
            announcement: if direction.want.is_some() && !relayed {
                Announcement::WhenHeard
            } else {
                Announcement::Due
            },
            inbound: PathId::of(&direction.peer, &self.name),
            outbound: PathId::of(&self.name, &direction.peer),
            control: Session::new(&keys.tunnel, ours).speaking(self.versions),
            temporary: keys.temporary.clone(),
            transaction: self.random(),
            rtt: RoundTrip::default(),
            doubt_timeout: patient(TUNNEL_DOUBT_TIMEOUT, slow),
            renewal: (granted && relayed).then(|| Renewal::first(now)),
            flow: direction.want.is_some().then(Flow::default),
            state,
        };
        let paths = [tunnel.inbound, tunnel.outbound];
        self.env.log_tunnel_key(paths, &keys.tunnel);
        if let TunnelState::Dialing { end_key, .. } = &tunnel.state {
            self.env.log_end_key(paths, end_key);
        }
        self.by_path.insert((tunnel.inbound, id));
        self.timers.set(id, Some(tunnel.next_timer().at));
        self.tunnels.insert(id, tunnel);
        if direction.dial {
            self.send_tunnel_request(now, id, 0);
        } else if punches {
            self.send_control(id, 0, &Message::HolePunching);
        }
        // A responder that listens sends a Confirmation (Figs. 3 and 5). One that dials confirms by its Tunnel Request
        // (Fig. 4).
        if !initiator && !direction.dial {
            use crate::node::carriage::Carriage;
            self.send_nms(now, transaction, 0, Message::RouteConfirmation(RouteConfirmation { leg: None }));
        }
        Ok(())
    }

    fn send_tunnel_request(&mut self, now: Instant, id: TunnelId, count: u8) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let TunnelState::Dialing { end_key, .. } = &tunnel.state else { return };
        tunnel.rtt.ask(now);
        let request = Message::TunnelRequest(TunnelRequest {
            from: self.name.clone(),
            to: tunnel.name.clone(),
            wrapped_end_key: Some(wrap::wrap(&tunnel.temporary, end_key, tunnel.outbound)),
            relay_cid: None,
            framing: Framing::Udp4501,
        });
        self.send_control(id, count, &request);
    }

    /// Sends a message under the tunnel key.
    fn send_control(&mut self, id: TunnelId, count: u8, message: &Message) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let to = tunnel.hop();
        let places = match tunnel.state {
            // The first way to the TRS may be dead. Every second retransmission takes another one.
            TunnelState::Dialing { .. } | TunnelState::Listening { .. }
                if tunnel.relayed() && count >= 2 && count.is_multiple_of(2) && *message != Message::TunnelResponse =>
            {
                tunnel.other_way(tunnel.candidates.first().copied(), usize::from(count)).into_iter().collect()
            }
            TunnelState::Dialing { .. } => tunnel.candidates.clone(),
            TunnelState::Listening { .. } if *message == Message::HolePunching => tunnel.candidates.clone(),
            // The path to the TRS may be dead, and that of the other address family, or of another interface, alive.
            // Every second Keep Alive tries another one.
            TunnelState::Up { .. } if *message == Message::KeepAlive && tunnel.unanswered >= 2 => {
                let other = Some(tunnel.unanswered).filter(|number| number.is_multiple_of(2));
                let way = other.map_or(tunnel.place, |number| tunnel.other_way(tunnel.place, number));
                way.into_iter().collect()
            }
            // The reply goes to the request's source address.
            TunnelState::Listening { .. } | TunnelState::Up { .. } => tunnel.place.into_iter().collect(),
        };
        if !matches!(message, Message::KeepAlive | Message::KeepAliveAck) {
            self.out.push_back(CarriageOutput::signal(self.me(), to, message, Protection::TunnelKey, count));
        }
        for (local, remote) in places {
            let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
            if let Some(datagram) = tunnel.control.seal(tunnel.transaction, count, tunnel.outbound.0, message) {
                self.transmit(local, remote, datagram);
            }
        }
    }

    pub(super) fn on_tunnel_message(
        &mut self,
        now: Instant,
        id: TunnelId,
        local: SocketAddr,
        remote: SocketAddr,
        mut datagram: BytesMut,
    ) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return self.dropped(DropReason::UnknownId) };
        if is_unknown(&datagram) {
            if let Some((_, answer)) = tunnel.control.refuse_unknown(&mut datagram) {
                self.transmit(local, remote, answer);
            }
            return self.dropped(DropReason::UnknownType);
        }
        let (header, message) = match tunnel.control.open_message(&mut datagram) {
            Ok(opened) => opened,
            Err(reason) => return self.dropped(reason),
        };
        if !tunnel.may_begin(remote) {
            // A punch only has to be sent: it opens the NAT of its sender. Its arrival means nothing.
            if message != Message::HolePunching {
                self.dropped(DropReason::NotBound);
            }
            return;
        }
        let latest = tunnel.control.is_latest(header.sequence);
        tunnel.locate(latest, (local, remote));
        // A Tunnel Request or Hole Punching does not prove that the peer received anything from us.
        if !matches!(message, Message::TunnelRequest(_) | Message::HolePunching) {
            tunnel.hear(now);
            self.announce(id);
        }
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        match message {
            Message::TunnelRequest(request) if !tunnel.dialer => {
                self.on_tunnel_request(now, id, header.transaction, header.count, &request);
            }
            // A Keep Alive also shows that the listener has the end key. The listener's Tunnel Response was lost then.
            Message::TunnelResponse | Message::KeepAlive
                if matches!(tunnel.state, TunnelState::Dialing { .. }) && header.transaction == tunnel.transaction =>
            {
                if let TunnelState::Dialing { end_key, .. } = &tunnel.state {
                    if message == Message::TunnelResponse {
                        tunnel.rtt.answered(now);
                    }
                    let data = Session::of_tunnel(end_key, tunnel.ours(), self.cipher).speaking(self.versions);
                    self.up(now, id, data);
                }
                if message == Message::KeepAlive {
                    self.send_control(id, 0, &Message::KeepAliveAck);
                }
            }
            Message::TunnelResponse if tunnel.dialer && header.transaction == tunnel.transaction => {
                tunnel.rtt.answered(now);
            }
            Message::KeepAlive => self.send_control(id, 0, &Message::KeepAliveAck),
            Message::KeepAliveAck => tunnel.rtt.answered(now),
            Message::HolePunching if !tunnel.relayed() => {}
            _ => self.dropped(DropReason::Unexpected),
        }
    }

    fn on_tunnel_request(&mut self, now: Instant, id: TunnelId, transaction: u32, count: u8, request: &TunnelRequest) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(wrapped) = &request.wrapped_end_key else { return self.dropped(DropReason::BadBody) };
        if request.from != tunnel.name || request.to != self.name {
            return self.dropped(DropReason::WrongIdentity);
        }
        let path = if defect!(WrongPathUnwrapped) { tunnel.outbound } else { tunnel.inbound };
        let end_key = match wrap::unwrap(&tunnel.temporary, wrapped, path) {
            Ok(end_key) => end_key,
            Err(reason) => return self.dropped(reason),
        };
        tunnel.transaction = transaction;
        let first = matches!(tunnel.state, TunnelState::Listening { .. });
        // The first response is not counted as a repetition, however often the request was sent.
        self.send_control(id, if first { 0 } else { count.max(1) }, &Message::TunnelResponse);
        if first {
            let Some(tunnel) = self.tunnels.get(&id) else { return };
            self.env.log_end_key([tunnel.inbound, tunnel.outbound], &end_key);
            let data = Session::of_tunnel(&end_key, tunnel.ours(), self.cipher).speaking(self.versions);
            self.up(now, id, data);
        }
    }

    fn up(&mut self, now: Instant, id: TunnelId, data: Session) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if let Some((_, remote)) = tunnel.place.filter(|_| tunnel.dialer) {
            self.silent.answered(remote.ip());
        }
        // The dialer has just heard the listener, so it has no doubt.
        let doubted = (!tunnel.dialer).then_some(now);
        let keep_alive = now + if tunnel.dialer { keep_alive() } else { TUNNEL_DOUBT_RETRY };
        tunnel.state = TunnelState::Up { data, heard: now, keep_alive, doubted };
        tunnel.renewal = tunnel.renewal.take().map(|_| Renewal::first(now));
        self.timers.set(id, Some(tunnel.next_timer().at));
        let greet = tunnel.announcement == Announcement::WhenHeard && tunnel.dialer;
        self.announce(id);
        if greet {
            self.say_keep_alive(now, id);
        }
    }

    fn say_keep_alive(&mut self, now: Instant, id: TunnelId) {
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.rtt.ask(now);
            tunnel.unanswered += 1;
        }
        self.send_control(id, 0, &Message::KeepAlive);
    }

    /// Reports once that packets can be sent.
    fn announce(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let (TunnelState::Up { doubted, .. }, Some((_, remote))) = (&tunnel.state, tunnel.place) else { return };
        match tunnel.announcement {
            Announcement::WhenHeard if doubted.is_some() => return,
            Announcement::Done => return,
            Announcement::Due | Announcement::WhenHeard => tunnel.announcement = Announcement::Done,
        }
        let up = TunnelUp {
            peer: tunnel.name.clone(),
            pattern: tunnel.pattern,
            dialed: tunnel.dialer,
            framing: Framing::Udp4501,
            remote,
            handover: Handover::Rebuild,
            signaling: Signaling::Paper,
        };
        self.out.push_back(CarriageOutput::TunnelUp(id, Box::new(up)));
    }

    /// Whether a datagram was sealed with this tunnel's keys.
    pub(super) fn is_for(&self, id: TunnelId, header: &Header<u8>, datagram: &[u8]) -> bool {
        let Some(tunnel) = self.tunnels.get(&id) else { return false };
        let mut copy = datagram.to_vec();
        match &tunnel.state {
            _ if header.kind != Kind::Capsule as u8 => tunnel.control.would_open(&mut copy),
            TunnelState::Up { data, .. } => data.would_open(&mut copy),
            TunnelState::Dialing { end_key, .. } => {
                Session::of_tunnel(end_key, tunnel.ours(), self.cipher).speaking(self.versions).would_open(&mut copy)
            }
            TunnelState::Listening { .. } => false,
        }
    }

    pub(super) fn on_capsule(
        &mut self,
        now: Instant,
        id: TunnelId,
        place: (SocketAddr, SocketAddr),
        mut datagram: BytesMut,
    ) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return self.dropped(DropReason::UnknownId) };
        if !tunnel.may_begin(place.1) {
            return self.dropped(DropReason::NotBound);
        }
        // If we still dial, a capsule under the end key that we made shows that the listener has the key. The
        // listener's Tunnel Response was lost then.
        let mut fresh = match &tunnel.state {
            TunnelState::Dialing { end_key, .. } => {
                Some(Session::of_tunnel(end_key, tunnel.ours(), self.cipher).speaking(self.versions))
            }
            TunnelState::Listening { .. } => return self.dropped(DropReason::Unexpected),
            TunnelState::Up { .. } => None,
        };
        let ((TunnelState::Up { data, .. }, _) | (_, Some(data))) = (&mut tunnel.state, &mut fresh) else { return };
        let (header, range) = match data.open(&mut datagram) {
            Ok(opened) => opened,
            Err(reason) => return self.dropped(reason),
        };
        let latest = data.is_latest(header.sequence);
        tunnel.locate(latest, place);
        tunnel.hear(now);
        if let Some(flow) = &mut tunnel.flow {
            flow.arrived(now);
            if let (TunnelState::Up { keep_alive, doubted: None, .. }, Some(stopped_at)) =
                (&mut tunnel.state, flow.stopped_at)
                && *keep_alive > stopped_at
            {
                *keep_alive = stopped_at;
                self.timers.set(id, Some(tunnel.next_timer().at));
            }
        }
        match fresh {
            Some(data) => self.up(now, id, data),
            None => self.announce(id),
        }
        let packet = datagram.freeze().slice(range);
        match self.out.back_mut() {
            Some(CarriageOutput::Packets(last, packets)) if *last == id => packets.push(packet),
            _ => self.out.push_back(CarriageOutput::Packets(id, vec![packet])),
        }
    }

    /// Asks every peer, by a Keep Alive, whether it is still there.
    pub(super) fn check_tunnels(&mut self, now: Instant) {
        let ids: Vec<TunnelId> = self.tunnels.keys().copied().collect();
        for id in ids {
            let Some(tunnel) = self.tunnels.get_mut(&id) else { continue };
            if let TunnelState::Up { keep_alive, .. } = &mut tunnel.state {
                *keep_alive = now;
                self.timers.set(id, Some(now));
            }
        }
    }

    pub(super) fn tunnel_timeout(&mut self, now: Instant, id: TunnelId) {
        self.renew_grant(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let mut count = None;
        let mut over = false;
        let doubt_timeout = tunnel.doubt_timeout;
        match &mut tunnel.state {
            TunnelState::Dialing { until, .. } | TunnelState::Listening { until, .. } if *until <= now => over = true,
            TunnelState::Dialing { retry, .. } => {
                if retry.next <= now {
                    count = Some(retry.sent);
                    retry.again(now);
                }
            }
            TunnelState::Listening { punch: Some(punch), .. } => {
                if punch.next <= now {
                    count = Some(punch.sent);
                    punch.again(now);
                }
            }
            TunnelState::Listening { punch: None, .. } => {}
            TunnelState::Up { doubted: Some(doubted), .. } if *doubted + doubt_timeout <= now => over = true,
            TunnelState::Up { keep_alive, doubted, .. } => {
                let stopped_at = tunnel.flow.as_ref().and_then(|flow| flow.stopped_at);
                if *keep_alive <= now
                    && let Some(stopped_at) = stopped_at.filter(|at| *at > now)
                {
                    // Packets still come.
                    *keep_alive = stopped_at;
                } else if *keep_alive <= now {
                    count = Some(0);
                    doubted.get_or_insert(now);
                    *keep_alive = now + TUNNEL_DOUBT_RETRY;
                    if let Some(flow) = &mut tunnel.flow {
                        flow.stopped_at = None;
                    }
                }
            }
        }
        if over {
            self.remove(id);
            return self.out.push_back(CarriageOutput::TunnelDown(id, Failure::Timeout));
        }
        let next = tunnel.next_timer().at;
        self.timers.set(id, Some(next));
        if let Some(count) = count {
            match self.tunnels[&id].state {
                TunnelState::Dialing { .. } => self.send_tunnel_request(now, id, count),
                TunnelState::Listening { .. } => self.send_control(id, count, &Message::HolePunching),
                TunnelState::Up { .. } => self.say_keep_alive(now, id),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_measured_only_where_it_is_plain_which_question_was_answered() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut rtt = RoundTrip::default();
        rtt.answered(at(5));
        assert_eq!(rtt.last, None, "nothing was asked");
        rtt.ask(at(100));
        rtt.answered(at(130));
        assert_eq!(rtt.last, Some(Duration::from_millis(30)));
        // Two questions wait. The second answer may belong to either.
        rtt.ask(at(1_000));
        rtt.ask(at(2_000));
        rtt.answered(at(2_010));
        assert_eq!(rtt.last, Some(Duration::from_millis(30)));
        // A lost question does not spoil a measurement long after it.
        rtt.ask(at(20_000));
        rtt.answered(at(20_050));
        assert_eq!(rtt.last, Some(Duration::from_millis(50)));
    }
}
