//! Outputs to the network: QUIC's datagrams, and the switch from one path to another.

use std::time::Duration;

use super::{Event, Output, PathNumber, Paths, Why};
use crate::machine::Transmit;
use crate::paths::budget::SilentTargets;
use crate::paths::path::LEAST_MTU;
use crate::paths::recent::Datagrams;
use crate::paths::watch::Delivery;
use crate::time::Instant;
use crate::timing::paths::{HANDSHAKE_FLIGHT, OTHER_RTT_AT_LEAST, PATH_PACE_TIME, PATH_SPREAD};

/// QUIC is told of a new round trip if it differs from the old one by this factor and by [`OTHER_RTT_AT_LEAST`].
const OTHER_RTT: u32 = 2;
/// How many packets may be overtaken when a shorter path takes over. quinn-proto drops a packet that is more than 129
/// packet numbers late as a duplicate.
const OVERTAKEN: u64 = 100;
/// Most transmits that are held back after a switch to a much shorter path, so that they do not overtake too many
/// packets on the old one.
const MAX_HELD: usize = 1_024;
/// Most transmits that wait until the amplification limit of the peer's new address admits them.
const MAX_BACKLOG: usize = 256;

/// How many datagrams QUIC sends in [`PATH_PACE_TIME`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the present period began.
    since: Instant,
    /// Datagrams in the present period.
    now: u64,
    /// Datagrams in the period before. 0 if nothing was sent for a whole period.
    before: u64,
}

impl Pace {
    fn count(&mut self, now: Instant) {
        if now - self.since >= PATH_PACE_TIME {
            self.before = if now - self.since < 2 * PATH_PACE_TIME { self.now } else { 0 };
            (self.since, self.now) = (now, 0);
        }
        self.now += 1;
    }

    /// How many datagrams leave in `time`.
    fn within(&self, time: Duration) -> u64 {
        let most = u128::from(self.before.max(self.now));
        u64::try_from(most * time.as_micros() / PATH_PACE_TIME.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Paths {
    pub(super) fn on_transmit(&mut self, now: Instant, datagrams: Datagrams, silent: &mut SilentTargets) {
        self.pace.count(now);
        self.recent.keep(now, &datagrams);
        if self.hold_until.is_some() && self.held.len() < MAX_HELD {
            return self.held.push_back(datagrams);
        }
        self.release(now, silent);
        let Some(used) = self.used else { return self.dial(now, &datagrams, silent) };
        let doubt = self.beside.is_none() && (!self.paths[&used].is_alive() || self.paths[&used].watch.in_doubt(now));
        if doubt && self.spread_at <= now && self.keys.is_some() {
            self.spread(now, used, &datagrams, silent);
        }
        match self.beside.filter(|&beside| beside != used) {
            None => self.dispatch(now, used, datagrams, silent),
            Some(beside) => {
                self.dispatch(now, used, datagrams.clone(), silent);
                self.copy(now, beside, datagrams, silent);
            }
        }
        // A packet after a silence may start the time after which the path in use is doubted.
        self.look(now, silent);
    }

    /// Sends datagrams of a handshake on every path, because no path is in use. Later datagrams wait for a path.
    fn dial(&mut self, now: Instant, datagrams: &Datagrams, silent: &mut SilentTargets) {
        if self.keys.is_some() {
            return;
        }
        let all: Vec<_> = self.paths.keys().copied().collect();
        for number in all {
            self.dispatch(now, number, datagrams.clone(), silent);
        }
    }

    /// Sends the last flight of a handshake on every path once more, because no path is in use.
    pub(super) fn dial_again(&mut self, now: Instant, silent: &mut SilentTargets) {
        for datagrams in self.recent.left(now, HANDSHAKE_FLIGHT) {
            self.dial(now, &datagrams, silent);
        }
    }

    /// Sends a datagram on every path now and then, because the path in use is in doubt and no other one is alive. The
    /// peer may still wait for the end of the handshake, and cannot read probes until then.
    fn spread(&mut self, now: Instant, used: PathNumber, datagrams: &Datagrams, silent: &mut SilentTargets) {
        if self.searches_mtu(datagrams) {
            return;
        }
        self.spread_at = now + PATH_SPREAD;
        let others = self.paths.iter().filter(|(number, path)| path.announced && **number != used);
        let others: Vec<_> = others.map(|(&number, _)| number).collect();
        for number in others {
            self.dispatch(now, number, datagrams.clone(), silent);
        }
    }

    /// Sends on a second path beside the path in use. Datagrams beyond the amplification limit of the peer's new
    /// address wait until more bytes come from that address.
    fn copy(&mut self, now: Instant, beside: PathNumber, datagrams: Datagrams, silent: &mut SilentTargets) {
        if self.searches_mtu(&datagrams) {
            return;
        }
        if self.bridge.is_some_and(|bridge| bridge.to == beside) && !self.paths[&beside].is_alive() {
            if self.backlog.len() >= MAX_BACKLOG {
                self.backlog.pop_front();
            }
            self.backlog.push_back(datagrams);
            self.flush_backlog(now, silent);
        } else {
            self.dispatch(now, beside, datagrams, silent);
        }
    }

    /// Whether a datagram belongs to QUIC's search for the path MTU: it is longer than any before. It concerns the path
    /// in use. If it went by a second, wider path as well, its acknowledgement would say that the path in use is wide.
    fn searches_mtu(&self, datagrams: &Datagrams) -> bool {
        datagrams.longest() > usize::from(self.delivery.mtu.max(LEAST_MTU))
    }

    pub(super) fn flush_backlog(&mut self, now: Instant, silent: &mut SilentTargets) {
        let Some(bridge) = self.bridge else { return self.backlog.clear() };
        while let Some(first) = self.backlog.pop_front() {
            if !self.may_send(now, bridge.to, first.payload.len(), silent) {
                return self.backlog.push_front(first);
            }
            self.emit(now, bridge.to, first);
        }
    }

    /// Sends on one path, if the limits allow it.
    fn dispatch(&mut self, now: Instant, number: PathNumber, datagrams: Datagrams, silent: &mut SilentTargets) {
        if self.may_send(now, number, datagrams.payload.len(), silent) {
            self.emit(now, number, datagrams);
        }
    }

    fn emit(&mut self, now: Instant, number: PathNumber, datagrams: Datagrams) {
        let path = self.paths.get_mut(&number).expect("asked for by number");
        path.out(now);
        // A packet that needs no acknowledgement gets none, so silence after it means nothing.
        if datagrams.asks {
            path.watch.sent(now);
        }
        let way = path.candidate.way;
        let Datagrams { payload, segment, .. } = datagrams;
        self.out.push_back(Output::Transmit(Transmit { local: way.local, remote: way.remote, payload, segment }));
    }

    /// Whether `len` bytes may go by this path. If so, they are counted.
    ///
    /// * No limit: a path that is alive, a known address, and a relay. A relay has answered our own handshake before it
    ///   becomes a candidate.
    /// * Every other address may get three times the bytes that came from it.
    /// * An address that was announced also has the budget of silent addresses.
    pub(super) fn may_send(
        &mut self,
        now: Instant,
        number: PathNumber,
        len: usize,
        silent: &mut SilentTargets,
    ) -> bool {
        let Some(path) = self.paths.get(&number) else { return false };
        let remote = path.candidate.way.remote;
        if path.is_alive() || path.is_relay() || self.is_known(now, remote) {
            return true;
        }
        let path = self.paths.get_mut(&number).expect("just there");
        path.allowance.take(len) || (path.announced && silent.take(now, remote.ip(), len))
    }

    /// Sends the last datagrams on one more path, which may deliver what the other paths lose.
    pub(super) fn repeat(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        let used = self.used.and_then(|used| self.paths.get(&used));
        let gap = used.and_then(|path| path.watch.heard_at()).map_or(Duration::MAX, |heard| now - heard);
        let rtt = used.map_or(Duration::ZERO, |path| path.watch.rtt.get());
        for datagrams in self.recent.left(now, gap.saturating_add(rtt)) {
            self.copy(now, number, datagrams, silent);
        }
    }

    /// Sends all datagrams that are kept on a path, even old ones.
    pub(super) fn repeat_all(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        for datagrams in self.recent.left(now, Duration::MAX) {
            self.dispatch(now, number, datagrams, silent);
        }
    }

    /// Makes this the path in use.
    pub(super) fn switch(&mut self, now: Instant, to: PathNumber, why: Why, silent: &mut SilentTargets) {
        let from = self.used.filter(|&from| from != to);
        if self.used == Some(to) {
            return;
        }
        let covered = self.beside == Some(to);
        let old = from.and_then(|from| self.paths.get(&from)).map(|path| (path.candidate.way, path.watch.rtt.get()));
        let new = &self.paths[&to];
        let (way, rtt) = (new.candidate.way, new.watch.rtt.get());
        let mtu = if new.is_alive() { new.mtu } else { LEAST_MTU };
        let is_other = |old: std::time::Duration| {
            let (less, more) = (old.min(rtt), old.max(rtt));
            more >= less * OTHER_RTT && more >= less + OTHER_RTT_AT_LEAST
        };
        let tell = self.delivery.mtu > mtu || old.is_some_and(|(_, rtt)| is_other(rtt));
        if why == Why::PeerMoved {
            // Datagrams that went by this path before may have gone to the peer's old address.
            self.repeat_all(now, to, silent);
        } else if why != Why::Better && !covered {
            self.repeat(now, to, silent);
        }
        if let Some(path) = from.and_then(|from| self.paths.get_mut(&from)) {
            path.left_at = Some(now);
        }
        self.used = Some(to);
        self.paths.get_mut(&to).expect("just there").watch.count_anew();
        self.beside.take_if(|beside| *beside == to);
        self.bridge.take_if(|bridge| bridge.to == to);
        if tell {
            self.delivery.mtu = LEAST_MTU;
            self.out.push_back(Output::PathChanged);
        }
        self.out.push_back(Output::Ping);
        self.event(Event::Switched { from: old.map(|(way, _)| way), to: way, why });
        if why == Why::Better
            && let Some((_, old)) = old
            && self.pace.within(old.saturating_sub(rtt) / 2) > OVERTAKEN
        {
            self.hold_until = Some(now + old.saturating_sub(rtt) / 2);
        }
    }

    /// Sends the datagrams that were held.
    pub(super) fn release(&mut self, now: Instant, silent: &mut SilentTargets) {
        self.hold_until = None;
        if let Some(used) = self.used {
            for datagrams in std::mem::take(&mut self.held) {
                self.dispatch(now, used, datagrams, silent);
            }
        }
    }

    pub(super) fn on_delivery(&mut self, now: Instant, counts: Delivery) {
        self.delivery = counts;
        let Some(used) = self.used.filter(|_| self.beside.is_none()) else { return };
        let path = self.paths.get_mut(&used).expect("in use");
        if path.is_alive() {
            // The path passes this size: QUIC's search for the path MTU, or a probe of ours, has shown it.
            path.mtu = path.mtu.max(counts.mtu);
        }
        if path.watch.delivery(now, counts) {
            let way = path.candidate.way;
            path.doubt_size(now, counts.mtu.max(LEAST_MTU));
            path.starve(now);
            self.event(Event::Starved { way });
        }
    }
}
