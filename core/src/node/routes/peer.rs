//! One peer: the state of the route to it, and its data in every state.
//!
//! ```text
//!             request                Route Direction            tunnel up
//! Wanted ───────────────▶ Requested ────────────────▶ Building ───────────▶ Up
//!   ▲                        │ refused                  │ all attempts failed │ lost, and no other tunnel
//!   └────────────────────────┴──────────────────────────┘                     ▼
//!        another request, until the time limit                       Building or forgotten
//! ```
//!
//! The functions here change one peer and send nothing. [`super::Routes`] decides when they are called.

use std::collections::BTreeMap;
use std::time::Duration;

use super::held::{Held, has_room};
use crate::message::{PeerRef, Want};
use crate::name::Virtual;
use crate::node::part::TunnelId;
use crate::paths::strategy::Handover;
use crate::rules::Permissions;
use crate::rules::flows::Flows;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    DIRECT_HEAD_START, DIRECT_SILENCE, FIRST_IMPROVEMENT, KNOWN_QUERY_PATIENCE, LONGEST_IMPROVEMENT, QUERY_PATIENCE,
    RENEWAL_RETRY, REPLACED_LINGER, ROUTE_TIMEOUT,
};
use crate::timing::{Due, Timer, earliest, patient};

/// Attempts at a direct tunnel in place of an old direct one. Then the relay is asked for.
const DIRECT_RENEWALS: u8 = 3;

/// A peer.
pub(super) struct Peer {
    /// The name or virtual address by which an application asked for the peer. After a Route Direction it is the name.
    pub(super) reference: PeerRef,
    /// The peer's virtual addresses, once a Route Direction has told them.
    pub(super) addresses: Option<Virtual>,
    /// This node or the peer is slow, as the last Route Direction says, or this node finds.
    pub(super) slow: bool,
    /// How long a name query may wait for the peer's address.
    pub(super) unknown_patience: Duration,
    /// Packets and queries that wait for the first tunnel.
    pub(super) held: Held,
    /// The tunnel that carries packets before it is up, if there is one.
    pub(super) ahead: Option<Ahead>,
    /// The bytes of packets in the peer's tunnels.
    pub(super) traffic: Traffic,
    /// The flows that the access rules permit; `None` if there are no rules.
    pub(super) flows: Option<Box<Flows>>,
    /// The limits of the search for a tunnel.
    pub(super) search: Search,
    /// How many times in a row a direct tunnel replaced a relayed one and was lost while the relayed one was still
    /// kept. The wait before the next direct attempt doubles with each.
    pub(super) setbacks: u8,
    /// The transaction of our last request, if the NMS kept the peer's simultaneous request instead. A later answer to
    /// ours is still accepted.
    pub(super) yielded: Option<u32>,
    /// The state of the route to the peer.
    pub(super) state: PeerState,
}

/// A tunnel that carries packets before the peer has answered (`signaling = "fast"`).
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The tunnel, which is being built.
    pub(super) tunnel: TunnelId,
    /// How many packets were sent into it, at most as many as would be held without it. The peer holds no more either.
    pub(super) packets: usize,
    bytes: usize,
}

/// Bytes of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Sent into tunnels.
    pub(super) sent: u64,
    /// Handed to applications.
    pub(super) received: u64,
}

/// The limits of the search for a tunnel, over all attempts.
pub(super) struct Search {
    /// The search ends at this instant, if there is neither a tunnel nor an attempt then.
    pub(super) until: Instant,
    /// Attempts that failed since the last tunnel was up.
    pub(super) failures: u8,
    /// When to ask for the relay beside a direct attempt.
    pub(super) relay_at: Option<Instant>,
    /// The last attempt was at a direct way that Table 1 alone had chosen, and was not answered.
    pub(super) is_stranded: bool,
}

/// The state of the route to a peer.
pub(super) enum PeerState {
    /// Nothing is under way: the node is not registered, or it pauses after a failure.
    Wanted {
        /// When to send the next Direction Request, and for which kind of route. `None` until the node is registered.
        retry: Option<(Instant, Want)>,
    },
    /// A Direction Request waits for its answer.
    Requested(PendingRequest),
    /// Tunnels are being built.
    Building {
        /// The tunnels that are being built. There is at least one.
        attempts: Attempts,
        /// One more Direction Request, beside them.
        request: Option<PendingRequest>,
    },
    /// A tunnel carries packets.
    Up(Up),
}

/// Tunnels that are being built.
pub(super) type Attempts = BTreeMap<TunnelId, Origin>;

/// A tunnel that carries packets, and what is under way to replace it.
pub(super) struct Up {
    /// The tunnel.
    pub(super) tunnel: TunnelId,
    /// The Route Direction that it comes from.
    pub(super) origin: Origin,
    /// When this tunnel began to carry packets.
    pub(super) since: Instant,
    /// The tunnel that this one replaced. The peer changes over a little earlier or later than this node, so packets
    /// may still arrive in it.
    pub(super) replaced: Option<Replaced>,
    /// When a direct tunnel is tried next, if this one is relayed.
    pub(super) improve: Option<Improve>,
    /// When another tunnel is built to replace this one, if it is this node that asks for it.
    pub(super) renewal: Option<Box<Renewal>>,
    /// The kind of route that the tunnel's paths need, if the node could not ask for it yet.
    pub(super) wanted: Option<Want>,
    /// Whether the node has moved together with the tunnel: a direct path may exist now.
    pub(super) moved: bool,
    /// Whether none of the tunnel's paths works.
    pub(super) pathless: bool,
    /// Since when packets go into a direct tunnel, and none comes out. `None` while packets come out.
    pub(super) unheard: Option<Instant>,
    /// Tunnels that are being built beside it.
    pub(super) attempts: Attempts,
    /// A Direction Request beside it.
    pub(super) request: Option<PendingRequest>,
}

/// A tunnel that another one replaced.
pub(super) struct Replaced {
    /// The replaced tunnel. The node sends no packets into it.
    pub(super) tunnel: TunnelId,
    /// The Route Direction that it came from.
    pub(super) origin: Origin,
    /// The end of the time for which it is kept.
    pub(super) until: Instant,
}

/// A Direction Request that waits for its answer.
pub(super) struct PendingRequest {
    /// Drawn by this node. The answer of the NMS repeats it.
    pub(super) transaction: u32,
    /// The kind of route that is asked for.
    pub(super) want: Want,
    /// When it was sent first.
    pub(super) since: Instant,
    /// When it is retransmitted, and how often it was sent.
    pub(super) retry: Backoff,
}

/// The Route Direction that a tunnel comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// Whether it answers a Direction Request of this node.
    pub(super) initiator: bool,
    /// Whether the tunnel leads through a TRS.
    pub(super) relayed: bool,
    /// What was asked for; `None` under `policy = "paper"`.
    pub(super) want: Option<Want>,
    /// The transaction of the Route Direction.
    pub(super) transaction: u32,
    /// When the Route Direction came.
    pub(super) since: Instant,
    /// The handover strategy of both nodes, known once the tunnel is up.
    pub(super) handover: Handover,
    /// When to send the Direction Request again although it was answered. An initiator that waits for its peer to dial
    /// repeats its request, because only that makes the NMS repeat a lost Route Direction to the peer (Fig. 4).
    pub(super) again: Option<Backoff>,
}

impl Origin {
    /// The number of this direct attempt; 0 if it was no direct attempt.
    fn attempt(&self) -> u8 {
        match self.want {
            Some(Want::Direct(attempt)) => attempt,
            _ => 0,
        }
    }

    /// Whether this node tries to build a direct tunnel once this relayed one is up. Only the initiator does, so that
    /// not both nodes ask.
    pub(super) fn may_improve(&self) -> bool {
        self.relayed && self.initiator && self.want.is_some()
    }
}

/// When to try for a direct tunnel next.
#[derive(Clone, Copy)]
pub(super) struct Improve {
    /// When the next direct attempt begins.
    pub(super) at: Instant,
    /// The wait after the next failure.
    pub(super) wait: Duration,
    /// Counts the attempts. The NMS uses it to give each possible dialer its turn.
    pub(super) attempt: u8,
}

/// When to replace a tunnel because of its age.
pub(super) struct Renewal {
    /// When it is asked for next.
    pub(super) at: Instant,
    /// What the peer's tunnels had carried when this one came up. A tunnel that carried nothing is not replaced.
    carried: Traffic,
    /// Counts the attempts.
    tries: u8,
}

impl Renewal {
    /// The route to ask for now, if the time has come. A tunnel that leads directly is replaced by a direct one. If
    /// that fails some times, a relayed one does it, which may become direct in turn.
    pub(super) fn due(&mut self, now: Instant, relayed: bool, carried: Traffic) -> Option<Want> {
        if now < self.at {
            return None;
        }
        self.at = now + RENEWAL_RETRY;
        if carried == self.carried || defect!(OldConnectionKept) {
            return None;
        }
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        Some(if relayed || tries >= DIRECT_RENEWALS { Want::Relayed } else { Want::Direct(tries) })
    }
}

/// The effect of a tunnel that is ready.
pub(super) struct TookOver {
    /// Whether it carries packets now. A relayed tunnel beside a live direct one does not.
    pub(super) carries: bool,
    /// The tunnel that is not needed any more, if there is one.
    pub(super) displaced: Option<TunnelId>,
}

/// The state after the tunnel that carried packets was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The tunnel that it had replaced. It carries packets again.
    Replaced,
    /// Attempts that were under way beside it.
    Attempts,
    /// Nothing.
    Nothing,
}

impl Peer {
    /// Takes new access rules, unless they are older than the present ones.
    pub(super) fn permit(&mut self, permissions: Option<Permissions>) {
        match (&mut self.flows, permissions) {
            (Some(flows), Some(new)) if new.serial < flows.permissions().serial => {}
            (Some(flows), Some(new)) => flows.permit(new),
            (flows @ None, Some(new)) => *flows = Some(Box::new(Flows::new(new))),
            (flows, None) => *flows = None,
        }
    }

    /// Whether the access rules let a packet pass: one of ours to the peer (`is_ours`), or one of the peer's to us.
    pub(super) fn admits(&mut self, now: Instant, is_ours: bool, packet: &[u8]) -> bool {
        self.flows.as_mut().is_none_or(|flows| flows.admits(now, is_ours, packet)) || defect!(ServicesUnchecked)
    }

    /// A peer that was never asked for before, to be given up at `until`.
    pub(super) fn new(reference: PeerRef, until: Instant) -> Self {
        Self {
            reference,
            addresses: None,
            slow: false,
            unknown_patience: QUERY_PATIENCE,
            held: Held::default(),
            ahead: None,
            traffic: Traffic::default(),
            flows: None,
            search: Search { until, failures: 0, relay_at: None, is_stranded: false },
            setbacks: 0,
            yielded: None,
            state: PeerState::Wanted { retry: None },
        }
    }

    /// The peer's name for people: its FQDN, or its virtual address if the name was never learnt.
    pub(super) fn label(&self) -> String {
        match &self.reference {
            PeerRef::Name(name) => name.to_string(),
            PeerRef::Virtual(address) => address.to_string(),
        }
    }

    pub(super) fn up(&self) -> Option<&Up> {
        if let PeerState::Up(up) = &self.state { Some(up) } else { None }
    }

    pub(super) fn up_mut(&mut self) -> Option<&mut Up> {
        if let PeerState::Up(up) = &mut self.state { Some(up) } else { None }
    }

    pub(super) fn request(&self) -> Option<&PendingRequest> {
        match &self.state {
            PeerState::Wanted { .. } => None,
            PeerState::Requested(request) => Some(request),
            PeerState::Building { request, .. } | PeerState::Up(Up { request, .. }) => request.as_ref(),
        }
    }

    pub(super) fn request_mut(&mut self) -> Option<&mut PendingRequest> {
        match &mut self.state {
            PeerState::Wanted { .. } => None,
            PeerState::Requested(request) => Some(request),
            PeerState::Building { request, .. } | PeerState::Up(Up { request, .. }) => request.as_mut(),
        }
    }

    /// Replaces the request. Returns the one before. A pause ends with it.
    pub(super) fn replace_request(&mut self, new: Option<PendingRequest>) -> Option<PendingRequest> {
        match &mut self.state {
            PeerState::Building { request, .. } | PeerState::Up(Up { request, .. }) => std::mem::replace(request, new),
            PeerState::Wanted { .. } | PeerState::Requested(_) if new.is_some() => {
                let new = new.map_or(PeerState::Wanted { retry: None }, PeerState::Requested);
                into_request(std::mem::replace(&mut self.state, new))
            }
            PeerState::Requested(_) => {
                into_request(std::mem::replace(&mut self.state, PeerState::Wanted { retry: None }))
            }
            PeerState::Wanted { .. } => None,
        }
    }

    fn attempts_ref(&self) -> Option<&Attempts> {
        match &self.state {
            PeerState::Wanted { .. } | PeerState::Requested(_) => None,
            PeerState::Building { attempts, .. } | PeerState::Up(Up { attempts, .. }) => Some(attempts),
        }
    }

    fn attempts_mut(&mut self) -> Option<&mut Attempts> {
        match &mut self.state {
            PeerState::Wanted { .. } | PeerState::Requested(_) => None,
            PeerState::Building { attempts, .. } | PeerState::Up(Up { attempts, .. }) => Some(attempts),
        }
    }

    /// Tunnels that are being built.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (TunnelId, &Origin)> {
        self.attempts_ref().into_iter().flatten().map(|(&tunnel, origin)| (tunnel, origin))
    }

    /// The Route Directions of the tunnels that are being built.
    pub(super) fn origins_mut(&mut self) -> impl Iterator<Item = &mut Origin> {
        self.attempts_mut().into_iter().flat_map(BTreeMap::values_mut)
    }

    /// Whether a tunnel that is not relayed is being built.
    pub(super) fn tries_directly(&self) -> bool {
        self.attempts().any(|(_, origin)| !origin.relayed)
    }

    /// Every tunnel to the peer: those being built, the one that carries packets, and the one that it replaced.
    pub(super) fn tunnels(&self) -> impl Iterator<Item = (TunnelId, &Origin)> {
        let up = self.up();
        let carries = up.map(|up| (up.tunnel, &up.origin));
        let replaced = up.and_then(|up| up.replaced.as_ref()).map(|replaced| (replaced.tunnel, &replaced.origin));
        self.attempts().chain(carries).chain(replaced)
    }

    /// Whether there is neither a tunnel nor an attempt at one. Then the time limit counts.
    pub(super) fn has_no_way(&self) -> bool {
        matches!(self.state, PeerState::Wanted { .. } | PeerState::Requested(_))
    }

    /// A tunnel is being built. A pause ends with it.
    pub(super) fn begin_attempt(&mut self, tunnel: TunnelId, origin: Origin) {
        match &mut self.state {
            PeerState::Building { attempts, .. } | PeerState::Up(Up { attempts, .. }) => {
                attempts.insert(tunnel, origin);
            }
            PeerState::Wanted { .. } | PeerState::Requested(_) => {
                let request = self.replace_request(None);
                self.state = PeerState::Building { attempts: Attempts::from([(tunnel, origin)]), request };
            }
        }
    }

    /// Lets packets go into this tunnel before it is up, unless another tunnel carries packets or takes them already.
    /// Returns whether they may.
    pub(super) fn go_ahead(&mut self, tunnel: TunnelId) -> bool {
        let free = matches!(self.state, PeerState::Building { .. }) && self.ahead.is_none();
        if free {
            self.ahead = Some(Ahead { tunnel, packets: 0, bytes: 0 });
        }
        free
    }

    /// The tunnel into which a packet of this length goes before it is up.
    pub(super) fn goes_ahead(&self, len: usize) -> Option<TunnelId> {
        let takes = |ahead: &Ahead| has_room(ahead.packets, ahead.bytes, len) && self.held.is_empty();
        let ahead = self.ahead.as_ref().filter(|ahead| takes(ahead));
        ahead.filter(|_| self.up().is_none()).map(|ahead| ahead.tunnel)
    }

    /// Counts a packet that was sent into a tunnel before it is up.
    pub(super) fn sent_ahead(&mut self, len: usize) {
        self.traffic.sent += len as u64;
        if let Some(ahead) = &mut self.ahead {
            ahead.packets += 1;
            ahead.bytes += len;
        }
    }

    /// This tunnel did not come up. Returns the packets that were sent into it, which are lost.
    pub(super) fn ahead_lost(&mut self, tunnel: TunnelId) -> Option<Ahead> {
        self.ahead.take_if(|ahead| ahead.tunnel == tunnel)
    }

    /// An attempt at a tunnel succeeds, and the nodes agreed on this strategy for moves.
    pub(super) fn agree(&mut self, tunnel: TunnelId, handover: Handover) {
        if let Some(origin) = self.attempts_mut().and_then(|attempts| attempts.get_mut(&tunnel)) {
            origin.handover = handover;
        }
    }

    /// Ends an attempt at a tunnel.
    pub(super) fn end_attempt(&mut self, tunnel: TunnelId) -> Option<Origin> {
        let origin = self.attempts_mut()?.remove(&tunnel)?;
        if let PeerState::Building { attempts, request } = &mut self.state
            && attempts.is_empty()
        {
            let request = request.take();
            self.state = request.map_or(PeerState::Wanted { retry: None }, PeerState::Requested);
        }
        Some(origin)
    }

    /// Gives up every tunnel and attempt. A pending request stays. The caller forgets the tunnels themselves.
    pub(super) fn give_up_tunnels(&mut self) {
        self.search.relay_at = None;
        let request = self.replace_request(None);
        self.state = request.map_or(PeerState::Wanted { retry: None }, PeerState::Requested);
    }

    /// A tunnel that was being built is ready. It carries packets from now on, unless it is relayed and a live direct
    /// one does. `None` if no such tunnel was being built.
    pub(super) fn take_over(&mut self, now: Instant, tunnel: TunnelId, lifetime: Option<Duration>) -> Option<TookOver> {
        let origin = self.end_attempt(tunnel)?;
        let renews = origin.initiator && origin.want.is_some();
        let carried = self.traffic;
        let begin = |age| Box::new(Renewal { at: now + age, carried, tries: 0 });
        let renewal = lifetime.filter(|_| renews).map(begin);
        self.ahead = None;
        self.origins_mut().for_each(|origin| origin.again = None);
        (self.search.relay_at, self.search.failures) = (None, 0);
        let may_improve = origin.may_improve() && !defect!(ImprovementForgotten);
        let begin = |wait, attempt| may_improve.then(|| Improve { at: now + wait, wait, attempt });
        let until = now + REPLACED_LINGER;
        let PeerState::Up(up) = &mut self.state else {
            let request = self.replace_request(None);
            let attempts = self.attempts_mut().map(std::mem::take).unwrap_or_default();
            let (since, improve) = (now, begin(FIRST_IMPROVEMENT, 0));
            let (replaced, unheard, wanted, pathless, moved) = (None, None, None, false, false);
            self.state = PeerState::Up(Up {
                tunnel,
                origin,
                since,
                replaced,
                improve,
                renewal,
                wanted,
                moved,
                pathless,
                unheard,
                attempts,
                request,
            });
            return Some(TookOver { carries: true, displaced: None });
        };
        // Both ends compare with the same age, as for a dead tunnel.
        let dead = up.is_dead_beside(&origin) || lifetime.is_some_and(|age| is_old(now, up.since, age));
        let displaced = |before: Option<Replaced>| before.map(|before| before.tunnel);
        if origin.relayed && !dead && !up.origin.relayed {
            let before = up.replaced.replace(Replaced { tunnel, origin, until });
            return Some(TookOver { carries: false, displaced: displaced(before) });
        }
        let (wait, attempt) = match up.improve {
            // A direct path that came up and soon fell silent costs more than one that never comes up. So the next
            // attempt waits for the longest time.
            _ if dead && !up.origin.relayed && now < up.since + LONGEST_IMPROVEMENT => {
                (LONGEST_IMPROVEMENT, up.origin.attempt().wrapping_add(1))
            }
            Some(improve) => (improve.wait, improve.attempt),
            None => (FIRST_IMPROVEMENT, 0),
        };
        (up.improve, up.renewal) = (begin(wait, attempt), renewal);
        let before = up.replaced.replace(Replaced { tunnel: up.tunnel, origin: up.origin, until });
        (up.tunnel, up.origin, up.since, up.unheard) = (tunnel, origin, now, None);
        Some(TookOver { carries: true, displaced: displaced(before) })
    }

    /// The tunnel that carried packets is lost. After [`Left::Nothing`] the caller forgets the peer.
    pub(super) fn lose_tunnel(&mut self, now: Instant) -> Left {
        let PeerState::Up(up) = &mut self.state else { return Left::Nothing };
        if let Some(replaced) = up.replaced.take() {
            let wait = (FIRST_IMPROVEMENT * (1 << self.setbacks.min(7))).min(LONGEST_IMPROVEMENT);
            let attempt = up.origin.attempt();
            up.improve = replaced.origin.may_improve().then_some(Improve { at: now, wait, attempt });
            (up.tunnel, up.origin) = (replaced.tunnel, replaced.origin);
            self.setbacks = self.setbacks.saturating_add(1);
            return Left::Replaced;
        }
        if up.attempts.is_empty() {
            return Left::Nothing;
        }
        let (attempts, request) = (std::mem::take(&mut up.attempts), up.request.take());
        self.search.until = now + ROUTE_TIMEOUT / 2;
        // If only direct attempts are left, they are treated like first attempts: the relay is asked for after their
        // head start.
        let alone = attempts.values().all(|origin| !origin.relayed && origin.want.is_some());
        let began = attempts.values().map(|origin| origin.since).min();
        self.search.relay_at = began.filter(|_| alone).map(|began| began + DIRECT_HEAD_START);
        self.state = PeerState::Building { attempts, request };
        Left::Attempts
    }

    /// A direct attempt beside the relay failed: the wait before the next one doubles.
    pub(super) fn not_improved(&mut self, now: Instant) {
        if let Some(improve) = self.up_mut().and_then(|up| up.improve.as_mut()) {
            improve.at = now + improve.wait;
            improve.wait = (improve.wait * 2).min(LONGEST_IMPROVEMENT);
            improve.attempt = improve.attempt.wrapping_add(1);
        }
    }

    /// How long a name query for this peer may wait for a tunnel.
    pub(super) fn query_patience(&self) -> Duration {
        if self.addresses.is_some() { KNOWN_QUERY_PATIENCE } else { patient(self.unknown_patience, self.slow) }
    }

    /// The earliest instant at which something is to be done, and what.
    pub(super) fn next_timer(&self) -> Option<Due> {
        let give_up = self.has_no_way().then_some(self.search.until);
        let retry = if let PeerState::Wanted { retry } = &self.state { *retry } else { None };
        let again = self.attempts().filter_map(|(_, origin)| origin.again.map(|again| again.next)).min();
        let timers = [
            (Timer::Route, give_up),
            (Timer::HeldQuery, self.held.query_due(self.query_patience())),
            (Timer::RoutePause, retry.map(|(at, _)| at)),
            (Timer::DirectionRetry, self.request().map(|request| request.retry.next)),
            (Timer::DirectionRetry, again),
            (Timer::DirectHeadStart, self.search.relay_at),
            (Timer::Improvement, self.up().and_then(|up| up.improve.as_ref()).map(|improve| improve.at)),
            (Timer::Renewal, self.up().and_then(|up| up.renewal.as_ref()).map(|renewal| renewal.at)),
            (Timer::ReplacedTunnel, self.up().and_then(|up| up.replaced.as_ref()).map(|replaced| replaced.until)),
        ];
        earliest(timers.map(|(timer, at)| at.map(|at| timer.at(at))))
    }
}

impl Up {
    /// Whether this direct tunnel counts as dead when the relayed tunnel of `origin` comes up. It does if the relay was
    /// asked for after this tunnel had been up for some time: the reason was then its silence. Both ends have to come
    /// to the same result, or each would use another tunnel. So they compare the times of the Route Directions, and not
    /// what each has heard since.
    fn is_dead_beside(&self, origin: &Origin) -> bool {
        origin.want == Some(Want::Relayed) && origin.since >= self.since + DIRECT_SILENCE / 2
    }

    /// Whether paths change beneath this tunnel (`handover = "seamless"`).
    pub(super) fn is_seamless(&self) -> bool {
        self.origin.handover == Handover::Seamless
    }

    /// Whether this part watches the tunnel for silence: only a direct one under `policy = "optimal"`. The carriage
    /// notices the loss of a relayed one.
    pub(super) fn is_watched(&self) -> bool {
        !self.origin.relayed && self.origin.want.is_some() && !self.is_seamless()
    }
}

/// Whether a connection that began at `since` is old. Then a Route Direction is for another connection, and not for
/// more paths of this one. Both ends have to come to the same result, and learn of a Route Direction a moment apart. So
/// this begins an eighth of the lifetime before one of them asks for another connection.
pub(in crate::node) fn is_old(now: Instant, since: Instant, lifetime: Duration) -> bool {
    now >= since + lifetime / 8 * 7
}

fn into_request(state: PeerState) -> Option<PendingRequest> {
    if let PeerState::Requested(request) = state { Some(request) } else { None }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn origin(kind: &str, want: Want, since: u64) -> Origin {
        let (initiator, relayed) = (true, kind == "relayed");
        let (since, handover) = (Instant::from_millis(since), Handover::Rebuild);
        Origin { initiator, relayed, want: Some(want), transaction: 7, since, handover, again: None }
    }

    /// A peer with tunnel 0 up since second 100.
    fn with_tunnel(kind: &str) -> Peer {
        let mut peer = Peer::new(PeerRef::Virtual([198, 18, 0, 10].into()), Instant::ZERO);
        if kind != "nothing" {
            peer.begin_attempt(TunnelId(0), origin(kind, Want::Any, 99_000));
            peer.take_over(Instant::from_millis(100_000), TunnelId(0), None).unwrap();
        }
        peer
    }

    fn shown(peer: &Peer, now: u64) -> String {
        let Some(up) = peer.up() else { return "no tunnel".into() };
        let mut shown = format!("{} carries", up.tunnel.0);
        if let Some(replaced) = &up.replaced {
            write!(shown, ", {} is kept", replaced.tunnel.0).unwrap();
        }
        if let Some(improve) = up.improve {
            let wait = improve.at - Instant::from_millis(now);
            write!(shown, ", direct attempt {} in {} ms", improve.attempt, wait.as_millis()).unwrap();
        }
        shown
    }

    #[test]
    fn the_better_tunnel_carries_and_a_silent_direct_one_is_no_better() {
        const ROWS: &[(&str, u64, &str, Want, &str)] = &[
            // The tunnel that is up since second 100; the milliseconds until the next Route Direction, its kind and its
            // `want`; the tunnels one second later.
            ("nothing", 0, "direct", Want::Any, "1 carries"),
            ("nothing", 0, "relayed", Want::Any, "1 carries, direct attempt 0 in 500 ms"),
            ("direct", 2_499, "relayed", Want::Relayed, "0 carries, 1 is kept"),
            ("direct", 2_500, "relayed", Want::Relayed, "1 carries, 0 is kept, direct attempt 1 in 64000 ms"),
            ("direct", 62_999, "relayed", Want::Relayed, "1 carries, 0 is kept, direct attempt 1 in 64000 ms"),
            ("direct", 63_000, "relayed", Want::Relayed, "1 carries, 0 is kept, direct attempt 0 in 500 ms"),
            ("direct", 9_000, "direct", Want::Direct(3), "1 carries, 0 is kept"),
            ("relayed", 0, "direct", Want::Direct(0), "1 carries, 0 is kept"),
            ("relayed", 9_000, "relayed", Want::Relayed, "1 carries, 0 is kept, direct attempt 0 in 500 ms"),
        ];
        for &(before, later, kind, want, expected) in ROWS {
            let mut peer = with_tunnel(before);
            peer.begin_attempt(TunnelId(1), origin(kind, want, 100_000 + later));
            let now = 101_000 + later;
            let took_over = peer.take_over(Instant::from_millis(now), TunnelId(1), None).unwrap();
            assert_eq!(shown(&peer, now), expected, "{before}, {later} ms later {kind} for {want:?}");
            assert_eq!(took_over.carries, expected.starts_with('1'));
            assert_eq!(took_over.displaced, None);
        }
    }

    #[test]
    fn at_most_one_replaced_tunnel_is_kept() {
        let mut peer = with_tunnel("relayed");
        for tunnel in [1, 2] {
            peer.begin_attempt(TunnelId(tunnel), origin("direct", Want::Direct(0), 101_000));
        }
        let mut take_over = |tunnel| peer.take_over(Instant::from_millis(102_000), TunnelId(tunnel), None);
        assert_eq!(take_over(1).unwrap().displaced, None);
        assert_eq!(take_over(2).unwrap().displaced, Some(TunnelId(0)));
        assert!(take_over(2).is_none(), "it is up already");
        assert_eq!(shown(&peer, 102_000), "2 carries, 1 is kept");
    }

    #[test]
    fn a_lost_tunnel_leaves_the_one_that_it_replaced_or_attempts_or_nothing() {
        let at = Instant::from_millis(103_000);
        let mut peer = with_tunnel("relayed");
        assert_eq!(peer.lose_tunnel(at), Left::Nothing);
        for setback in [1, 2] {
            peer = Peer { setbacks: setback - 1, ..with_tunnel("relayed") };
            peer.begin_attempt(TunnelId(1), origin("direct", Want::Direct(4), 101_000));
            peer.take_over(at, TunnelId(1), None).unwrap();
            assert_eq!(peer.lose_tunnel(at), Left::Replaced);
            assert_eq!(shown(&peer, 103_000), "0 carries, direct attempt 4 in 0 ms");
            assert_eq!(peer.up().and_then(|up| up.improve).unwrap().wait, FIRST_IMPROVEMENT * u32::from(setback));
            assert_eq!(peer.setbacks, setback);
        }
        let mut peer = with_tunnel("relayed");
        peer.begin_attempt(TunnelId(1), origin("direct", Want::Direct(0), 102_000));
        assert_eq!(peer.lose_tunnel(at), Left::Attempts);
        assert_eq!(peer.search.relay_at, Some(Instant::from_millis(102_500)), "the direct attempt stands alone");
        let mut peer = with_tunnel("direct");
        peer.begin_attempt(TunnelId(1), origin("relayed", Want::Relayed, 102_000));
        assert_eq!(peer.lose_tunnel(at), Left::Attempts);
        assert_eq!(peer.search.relay_at, None, "the relay is asked for already");
    }
}
