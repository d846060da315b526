//! Inputs from the network: probes of paths, and datagrams that QUIC found authentic.

use super::{Bridge, Event, Output, PathNumber, Paths, Why};
use crate::paths::budget::SilentTargets;
use crate::paths::candidates::{Candidate, Kind, Way};
use crate::paths::choice;
use crate::paths::path::{LEAST_MTU, State};
use crate::paths::probe::{Flags, PROBE_LEN, Probe, ProbeKind};
use crate::time::Instant;
use crate::timing::paths::{PATH_QUIET, PATH_TOLD};

impl Paths {
    pub(super) fn on_probe(&mut self, now: Instant, way: Way, probe: &Probe, len: usize, silent: &mut SilentTargets) {
        let Some(number) = self.seen(now, way, len, silent) else { return };
        match probe.kind {
            ProbeKind::Hello if defect!(PathProbesUnanswered) => {}
            ProbeKind::Hello => self.on_hello(now, number, probe, len, silent),
            ProbeKind::Challenge | ProbeKind::Answer => self.on_reply(now, number, probe, len, silent),
        }
    }

    /// Notes that an authentic and new datagram came by `way`. Returns its path. If there is none yet, it is made.
    fn seen(&mut self, now: Instant, way: Way, len: usize, silent: &mut SilentTargets) -> Option<PathNumber> {
        let number = if let Some(number) = self.find(way) {
            number
        } else {
            let relay = self.paths.values().any(|p| p.is_relay() && p.candidate.way.remote == way.remote);
            let direct = if way.remote.is_ipv4() { Kind::V4 } else { Kind::V6 };
            let added = self.add(now, Candidate { way, kind: if relay { Kind::Relay } else { direct } }, false)?;
            // The caller decides whether the new path is probed now.
            self.paths.get_mut(&added)?.wait_longer(now);
            added
        };
        let path = self.paths.get_mut(&number)?;
        path.allowance.received(len);
        path.watch.heard(now);
        if path.is_alive() {
            self.know(now, way.remote);
        }
        self.flush_backlog(now, silent);
        Some(number)
    }

    fn on_hello(&mut self, now: Instant, number: PathNumber, probe: &Probe, len: usize, silent: &mut SilentTargets) {
        let size = u16::try_from(len).unwrap_or(u16::MAX);
        let path = self.paths.get_mut(&number).expect("seen");
        let kind = if path.is_alive() { ProbeKind::Answer } else { ProbeKind::Challenge };
        let deaf = path.is_alive() && probe.flags.has(Flags::DEAF);
        // The peer hears nothing. Only an answer to our own probe shows whether it hears us here. That probe tells the
        // peer the same, so each end would answer the other's for ever if it did not keep to its patience.
        let asks = deaf && (path.ask_at <= now || defect!(DeafnessEchoed));
        if deaf {
            path.watch.is_told(now);
        }
        if asks {
            path.ask_at = now + path.watch.rtt.patience();
        }
        self.send_probe(now, number, kind, (probe.token, size), PROBE_LEN, silent);
        if asks {
            self.hello(now, number, PROBE_LEN, silent);
        }
        let told = self.crossed_at.is_some_and(|at| now < at + PATH_TOLD);
        if probe.flags.has(Flags::MOVED) && self.used == Some(number) && !told {
            // The peer moved, and its leg to the TRS moved with it. The path stays, but packets that were sent to the
            // old address are lost. Its new network may pass less.
            self.crossed_at = Some(now);
            let size = self.delivery.mtu.max(LEAST_MTU);
            self.paths.get_mut(&number).expect("in use").doubt_size(now, size);
            self.repeat_all(now, number, silent);
            self.out.push_back(Output::Ping);
        }
        if probe.flags.has(Flags::MOVED) && self.used != Some(number) {
            let alive = self.paths[&number].is_alive();
            // The peer announces a move on every path. The first of them that is proved carries the packets from then
            // on.
            let moved = self.crossed_at.is_none_or(|at| now >= at + PATH_TOLD);
            if moved || !alive {
                self.bridge = Some(Bridge { to: number, since: now, moved });
            }
            if moved && alive {
                self.cross(now, number, silent);
            }
        }
    }

    fn on_reply(&mut self, now: Instant, number: PathNumber, probe: &Probe, len: usize, silent: &mut SilentTargets) {
        // If a NAT gives each destination another port, an answer may come by another path than its probe. It still
        // proves the path of the probe (RFC 9000 §8.2.3).
        let came = number;
        let asked = self.paths.iter().find(|(_, path)| path.has_asked(probe.echo)).map(|(&asked, _)| asked);
        let number = asked.unwrap_or(came);
        let path = self.paths.get_mut(&number).expect("seen");
        let answered = path.answered(now, probe.echo, probe.size);
        if probe.kind == ProbeKind::Challenge {
            let size = u16::try_from(len).unwrap_or(u16::MAX);
            self.send_probe(now, came, ProbeKind::Answer, (probe.token, size), PROBE_LEN, silent);
        }
        if answered {
            silent.answered(self.paths[&number].candidate.way.remote.ip());
            self.prove(now, number);
            self.cross(now, number, silent);
        }
    }

    /// Notes that the peer has answered a probe on this path.
    fn prove(&mut self, now: Instant, number: PathNumber) {
        let path = self.paths.get_mut(&number).expect("it answered");
        let (way, rtt, quiet) = (path.candidate.way, path.watch.rtt.get(), path.quiet);
        let before = path.proved(now);
        self.moved = false;
        if let (Some(absolute), Some(born)) = (self.lifetimes.absolute, path.born)
            && now - born > absolute * 11 / 10
        {
            // The path is older than a mapping can be, so the NAT has given it a new mapping.
            path.born = Some(now);
        }
        self.know(now, way.remote);
        if before == State::Dead && quiet >= PATH_QUIET {
            self.lifetimes.ended_idle(quiet);
        }
        if before != State::Alive {
            self.event(Event::Proved { way, rtt });
        }
    }

    pub(super) fn prove_by_handshake(&mut self, now: Instant, number: PathNumber) {
        let path = self.paths.get_mut(&number).expect("heard");
        path.mtu = LEAST_MTU;
        let way = path.candidate.way;
        path.proved(now);
        self.know(now, way.remote);
    }

    /// Changes to a proved path to which the peer seems to have moved, unless the peer was heard on the old path since.
    /// So a packet that an attacker copies to another address does not change the path (RFC 9000 §9.3.3).
    fn cross(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        let Some(bridge) = self.bridge.filter(|bridge| bridge.to == number) else { return };
        let old = self.used.and_then(|used| self.paths.get(&used));
        let heard = old.and_then(|path| path.watch.heard_at()).is_some_and(|at| at > bridge.since);
        self.flush_backlog(now, silent);
        self.bridge = None;
        if bridge.moved {
            self.crossed_at = Some(now);
        }
        if bridge.moved || !heard {
            if let Some(used) = self.used.filter(|&used| used != number) {
                self.end(now, used, false);
            }
            self.switch(now, number, Why::PeerMoved, silent);
        }
    }

    pub(super) fn on_arrived(&mut self, now: Instant, way: Way, len: usize, silent: &mut SilentTargets) {
        let Some(number) = self.seen(now, way, len, silent) else { return };
        if self.keys.is_none() {
            // Before there are keys for probes, the last authentic and new packet shows where the peer is. If the NMS
            // has announced an address of the server to the client, the client ignores packets from other addresses:
            // they may have left before the server moved.
            let told = self.config.client && self.paths.values().any(|path| path.announced);
            if !told || self.paths[&number].announced {
                self.used = Some(number);
            }
            return;
        }
        self.paths.get_mut(&number).expect("seen").carried = Some(now);
        if self.paths[&number].is_alive() || self.used == Some(number) {
            return self.follow(now, number, silent);
        }
        if self.bridge.is_none_or(|bridge| bridge.to != number) {
            self.hello(now, number, PROBE_LEN, silent);
            self.bridge = Some(Bridge { to: number, since: now, moved: false });
        }
    }

    /// Follows the path that the peer uses. If the two ends used different paths, an end that only acknowledges would
    /// not notice that its own path has ended. So the server changes to the client's path if it is as good. Otherwise
    /// the node probes its own path now and then.
    fn follow(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        let Some(used) = self.used.filter(|&used| used != number && self.bridge.is_none()) else { return };
        let (ours, theirs) = (&self.paths[&used], &self.paths[&number]);
        // The peer may use both paths. It may also have sent this packet before it changed to the other path.
        if ours.carried.is_some_and(|at| now < at + ours.watch.rtt.patience()) {
            return;
        }
        let (patience, life) = (ours.watch.rtt.patience(), ours.watch.rtt.life());
        if !self.config.client && choice::is_equal(&theirs.standing(now), &ours.standing(now)) {
            self.switch(now, number, Why::Followed, silent);
        } else if ours.is_alive() && ours.ask_at <= now && ours.watch.heard_at().is_none_or(|at| now >= at + life) {
            self.paths.get_mut(&used).expect("in use").ask_at = now + patience;
            self.hello(now, used, PROBE_LEN, silent);
        }
    }
}
