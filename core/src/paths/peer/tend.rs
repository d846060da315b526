//! The work of paths that is due at a time: probes, the end of paths, and the choice of the path in use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;

use super::{Event, Output, PathNumber, Paths, Why};
use crate::machine::Transmit;
use crate::paths::budget::SilentTargets;
use crate::paths::candidates::{Candidate, Kind, Way};
use crate::paths::choice::{self, Standing};
use crate::paths::path::{LEAST_MTU, Path, State, TryOut};
use crate::paths::probe::{Flags, PROBE_LEN, Probe, ProbeKind};
use crate::time::Instant;
use crate::timing::paths::{PATH_ALARM, PATH_ASLEEP, PATH_BRIDGED, PATH_COLD, PATH_DWELL, PATH_FORGOTTEN, PATH_QUIET};

impl Paths {
    pub(super) fn notice_sleep(&mut self, now: Instant) {
        if self.due.is_some_and(|due| now >= due + PATH_ASLEEP) {
            self.wake(now);
        }
    }

    /// Probes every path at once after the process stood still, because the knowledge of paths is old. Until an answer
    /// comes, packets go by two paths.
    fn wake(&mut self, now: Instant) {
        for path in self.paths.values_mut() {
            if path.is_alive() {
                path.watch.begin();
                path.watch.asked(now);
                path.watch.is_deaf();
                path.ask_at = now;
            } else {
                path.call(now);
            }
        }
    }

    pub(super) fn on_network(
        &mut self,
        now: Instant,
        locals: &[SocketAddr],
        candidates: &[Candidate],
        silent: &mut SilentTargets,
    ) {
        let gone = self.paths.iter().filter(|(_, path)| !locals.contains(&path.candidate.way.local));
        let gone: Vec<_> = gone.map(|(&number, path)| (number, path.candidate.way)).collect();
        let left = self.used.filter(|used| gone.iter().any(|(number, _)| number == used));
        if self.keys.is_none() {
            for (number, _) in gone {
                self.forget(number);
            }
            self.on_candidates(now, candidates, silent);
            if self.used.is_none() {
                self.dial_again(now, silent);
            }
            return;
        }
        self.on_candidates(now, candidates, silent);
        for path in self.paths.values_mut().filter(|path| !path.is_alive()) {
            path.call(now);
        }
        if left.is_some() {
            self.moved = true;
        }
        for (number, way) in gone {
            self.forget(number);
            self.event(Event::Died { way });
        }
        if left.is_some() {
            let alive: Vec<_> = self.paths.iter().filter(|(_, path)| path.is_alive()).map(|(&n, _)| n).collect();
            for &number in &alive {
                // A probe on each path that is left tells the peer that the other paths are gone.
                self.hello(now, number, usize::from(LEAST_MTU), silent);
            }
            // No path is proved from our new addresses. So the peer has to be told at an address that was known before.
            if let Some(to) = self.blind(now, None).filter(|_| alive.is_empty()) {
                self.switch(now, to, Why::Ended, silent);
            }
        }
    }

    /// Tries again what size passes. If the path is in use, the peer is told, so that it does the same.
    pub(super) fn on_rerouted(&mut self, now: Instant, way: Way, silent: &mut SilentTargets) {
        let Some(number) = self.find(way).filter(|number| self.paths[number].is_alive()) else { return };
        let size = self.delivery.mtu.max(LEAST_MTU);
        self.paths.get_mut(&number).expect("found").doubt_size(now, size);
        if self.used == Some(number) {
            self.moved = true;
            self.hello(now, number, usize::from(LEAST_MTU), silent);
        }
    }

    /// The best path other than `not` that is not proved and leads to an address that is known.
    pub(super) fn blind(&self, now: Instant, not: Option<PathNumber>) -> Option<PathNumber> {
        let open = self.paths.iter().filter(|(number, path)| {
            let known = path.is_relay() || self.is_known(now, path.candidate.way.remote);
            Some(**number) != not && path.announced && !path.is_alive() && known
        });
        open.min_by_key(|(number, path)| (path.candidate.kind, **number)).map(|(&number, _)| number)
    }

    pub(super) fn hello(&mut self, now: Instant, number: PathNumber, len: usize, silent: &mut SilentTargets) {
        self.send_probe(now, number, ProbeKind::Hello, (0, 0), len, silent);
    }

    /// Sends a probe of `len` bytes, or without padding where nobody has answered yet. `reply` is the token that is
    /// answered, and the length of the datagram that brought it.
    pub(super) fn send_probe(
        &mut self,
        now: Instant,
        number: PathNumber,
        kind: ProbeKind,
        reply: (u64, u16),
        len: usize,
        silent: &mut SilentTargets,
    ) {
        use rand_chacha::rand_core::RngCore;
        let Some(path) = self.paths.get(&number) else { return };
        let way = path.candidate.way;
        let trusted = path.is_alive() || path.is_relay() || self.is_known(now, way.remote);
        let deaf = path.is_alive() && path.watch.tells(now);
        let len = if trusted { len } else { PROBE_LEN };
        if self.keys.is_none() || !self.may_send(now, number, len, silent) {
            return;
        }
        let mut flags = Flags::default();
        if kind == ProbeKind::Hello && self.moved {
            flags = flags.with(Flags::MOVED);
        }
        if kind == ProbeKind::Hello && deaf {
            flags = flags.with(Flags::DEAF);
        }
        let token = if kind == ProbeKind::Answer { 0 } else { self.rng.next_u64() };
        let probe = Probe { kind, token, echo: reply.0, size: reply.1, flags };
        let keys = self.keys.as_mut().expect("looked before");
        let payload = keys.seal(self.config.theirs, &probe, len);
        let path = self.paths.get_mut(&number).expect("looked before");
        path.out(now);
        let Some(payload) = payload else { return };
        if kind != ProbeKind::Answer {
            path.asks(now, token, len);
        }
        self.out.push_back(Output::Transmit(Transmit::new(way.local, way.remote, payload)));
    }

    /// Does what is due, and chooses the path.
    pub(super) fn tend(&mut self, now: Instant, silent: &mut SilentTargets) {
        if self.hold_until.is_some_and(|until| until <= now) {
            self.release(now, silent);
        }
        if self.keys.is_none() {
            return;
        }
        let mut next = self.paths.keys().next().copied();
        while let Some(number) = next {
            if self.paths[&number].is_alive() {
                self.tend_alive(now, number, silent);
            } else {
                self.tend_silent(now, number, silent);
            }
            next = self.paths.range((Bound::Excluded(number), Bound::Unbounded)).next().map(|(&number, _)| number);
        }
        self.choose(now, silent);
        self.look(now, silent);
        self.prune(now);
    }

    fn tend_silent(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        let (moved, used) = (self.moved, self.used == Some(number) || self.beside == Some(number));
        let path = self.paths.get_mut(&number).expect("listed");
        if path.hello_at > now || path.state == State::Cold {
            return;
        }
        path.wait_longer(now);
        // The peer may answer a node that has moved with at most three times these bytes. So the Hello is padded.
        let len = if moved && used { usize::from(LEAST_MTU) } else { PROBE_LEN };
        self.hello(now, number, len, silent);
    }

    fn tend_alive(&mut self, now: Instant, number: PathNumber, silent: &mut SilentTargets) {
        let kept = self.used == Some(number) || self.warm == Some(number);
        let (keep_at, ending) = (self.keep_at(number), self.is_ending(now, number));
        let wanted = self.delivery.mtu.max(LEAST_MTU);
        let path = self.paths.get_mut(&number).expect("listed");
        if path.watch.dead_at().is_some_and(|at| at <= now) {
            return self.end(now, number, true);
        }
        if path.watch.in_doubt(now) && path.ask_at <= now {
            path.ask_at = now + path.watch.rtt.patience();
            // Small datagrams may pass where those of QUIC's size do not.
            path.doubt_size(now, wanted);
            self.hello(now, number, PROBE_LEN, silent);
        } else if keep_at.is_some_and(|at| at <= now)
            || ((ending || !path.watch.rtt.is_measured()) && path.ask_at <= now)
        {
            path.ask_at = now + path.watch.rtt.patience();
            self.hello(now, number, PROBE_LEN, silent);
        } else if !kept && path.watch.heard_at().is_none_or(|at| now >= at + PATH_COLD) {
            path.state = State::Cold;
            return;
        }
        self.try_size(now, number, if kept { wanted } else { LEAST_MTU }, silent);
    }

    fn try_size(&mut self, now: Instant, number: PathNumber, wanted: u16, silent: &mut SilentTargets) {
        let path = self.paths.get_mut(&number).expect("listed");
        match path.size_to_try(now, wanted) {
            Some(TryOut::Size(size)) => {
                self.hello(now, number, PROBE_LEN, silent);
                self.hello(now, number, usize::from(size), silent);
            }
            Some(TryOut::TooLarge) => {
                let (way, mtu) = (path.candidate.way, path.mtu);
                self.event(Event::Narrowed { way, mtu });
                if self.used == Some(number) && mtu >= LEAST_MTU {
                    self.delivery.mtu = LEAST_MTU;
                    self.out.push_back(Output::PathChanged);
                    self.out.push_back(Output::Ping);
                }
            }
            None => {}
        }
    }

    /// When the next exchange is due that keeps a path open. The server waits a quarter longer than the client, so that
    /// only one of them asks.
    pub(super) fn keep_at(&self, number: PathNumber) -> Option<Instant> {
        let path = &self.paths[&number];
        if (self.used != Some(number) && self.warm != Some(number)) || path.candidate.kind == Kind::Inside {
            return None;
        }
        let every = self.lifetimes.interval()?;
        let every = if self.config.client { every } else { every * 5 / 4 };
        path.last_out.map(|last| last + every)
    }

    /// Whether the absolute lifetime of the mapping of the path in use may end at any moment.
    fn is_ending(&self, now: Instant, number: PathNumber) -> bool {
        let path = &self.paths[&number];
        let ends = path.born.and_then(|born| self.lifetimes.ends_from(born));
        self.used == Some(number) && !path.is_relay() && ends.is_some_and(|at| at <= now)
    }

    /// Ends a path, either because of silence, which may show the lifetime of its mapping, or because the peer has left
    /// it.
    pub(super) fn end(&mut self, now: Instant, number: PathNumber, silence: bool) {
        let Some(path) = self.paths.get_mut(&number) else { return };
        let (way, quiet, age) = (path.candidate.way, path.quiet, path.born.map(|born| now - born));
        let life = path.watch.rtt.life();
        path.died(now);
        path.left_at = (self.used == Some(number)).then_some(now).or(path.left_at);
        if silence
            && quiet < PATH_QUIET
            && let Some(age) = age
        {
            self.lifetimes.ended_in_use(age.saturating_sub(life));
        }
        self.event(Event::Died { way });
    }

    fn choose(&mut self, now: Instant, silent: &mut SilentTargets) {
        let mut ranking = std::mem::take(&mut self.ranking);
        ranking.fill(now, &self.paths);
        let (numbers, standings) = (&ranking.numbers, &ranking.standings);
        let current = ranking.index(self.used);
        let usable = current.is_some_and(|i| standings[i].alive && standings[i].wide);
        if let Some(best) = choice::choose(current, standings, self.config.client)
            && Some(best) != current
        {
            let dwelt = self.paths[&numbers[best]].left_at.is_none_or(|left| now >= left + PATH_DWELL);
            let starved = current.is_some_and(|i| standings[i].starved);
            if !usable || starved || dwelt {
                let why = match current {
                    None => Why::First,
                    Some(_) if usable && !starved => Why::Better,
                    Some(_) => Why::Ended,
                };
                self.switch(now, numbers[best], why, silent);
            }
        }
        let afford = self.lifetimes.affords_warmth();
        self.warm = self.used.filter(|_| afford).and_then(|used| self.second_of(&ranking, used));
        self.ranking = ranking;
    }

    /// Decides whether everything goes by a second path too. Raises the alarm if the path in use is in doubt.
    pub(super) fn look(&mut self, now: Instant, silent: &mut SilentTargets) {
        let Some(used) = self.used.filter(|_| self.keys.is_some()) else { return };
        let path = &self.paths[&used];
        let unproved = !path.is_alive();
        let ending = self.is_ending(now, used);
        let (doubt, patience) = (unproved || path.watch.in_doubt(now), path.watch.rtt.patience());
        if doubt && self.alarm_at <= now {
            self.alarm_at = now + PATH_ALARM;
            for path in self.paths.values_mut().filter(|path| !path.is_alive()) {
                if path.state == State::Cold {
                    path.state = State::New;
                }
                path.hello_at = path.hello_at.min(now);
            }
        }
        let other = |paths: &Self| {
            let blind = || paths.blind(now, Some(used)).filter(|_| unproved);
            (doubt || ending).then(|| paths.second(now, used).or_else(blind)).flatten()
        };
        self.bridge.take_if(|bridge| now >= bridge.since + PATH_BRIDGED);
        // An address that the peer does not prove must not keep packets from a path that works.
        let wanted = match self.bridge {
            Some(bridge) if now < bridge.since + patience => Some(bridge.to),
            Some(bridge) => other(self).or(Some(bridge.to)),
            None => other(self),
        };
        if wanted != self.beside {
            self.beside = wanted;
            if let Some(beside) = wanted {
                self.repeat(now, beside, silent);
                if self.paths[&beside].is_alive() {
                    self.hello(now, beside, PROBE_LEN, silent);
                }
            }
        }
    }

    fn second(&self, now: Instant, used: PathNumber) -> Option<PathNumber> {
        let mut ranking = Ranking::default();
        ranking.fill(now, &self.paths);
        self.second_of(&ranking, used)
    }

    fn second_of(&self, ranking: &Ranking, used: PathNumber) -> Option<PathNumber> {
        let (numbers, current) = (&ranking.numbers, ranking.index(Some(used))?);
        choice::second(current, &ranking.standings, |i| {
            let (one, other) = (&self.paths[&used].candidate, &self.paths[&numbers[i]].candidate);
            one.way.local.ip() == other.way.local.ip() && (one.kind == Kind::Relay) == (other.kind == Kind::Relay)
        })
        .map(|i| numbers[i])
    }

    fn prune(&mut self, now: Instant) {
        let kept = |n: PathNumber| Some(n) == self.used || Some(n) == self.beside;
        let gone = self.paths.iter().filter(|(n, path)| {
            let unheard = path.watch.heard_at().is_none_or(|at| now >= at + PATH_FORGOTTEN);
            !path.announced && !path.is_alive() && unheard && !kept(**n)
        });
        let gone: Vec<_> = gone.map(|(&number, _)| number).collect();
        for number in gone {
            self.forget(number);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let mut next = self.hold_until;
        let mut wait = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        if self.keys.is_none() {
            return next;
        }
        for (&number, path) in &self.paths {
            if path.is_alive() {
                let kept = self.used == Some(number) || self.warm == Some(number);
                wait(self.is_ending(self.now, number).then_some(path.ask_at));
                wait(path.watch.doubt_at().map(|doubt| doubt.max(path.ask_at)));
                wait(path.watch.dead_at());
                wait(self.keep_at(number));
                wait(path.watch.heard_at().map(|heard| heard + PATH_COLD).filter(|_| !kept));
                wait(path.size_at());
            } else if path.state != State::Cold {
                wait(Some(path.hello_at));
            }
            path.pardons().filter(|&pardon| pardon > self.now).for_each(|pardon| wait(Some(pardon)));
        }
        if let Some(used) = self.used {
            let born = self.paths[&used].born.unwrap_or_default();
            wait(self.lifetimes.ends_from(born).filter(|&end| end > self.now));
        }
        next
    }
}

/// The properties of each path, in the order of their numbers. [`Paths`] reuses one value, so that a choice allocates
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    numbers: Vec<PathNumber>,
    standings: Vec<Standing>,
}

impl Ranking {
    fn fill(&mut self, now: Instant, paths: &BTreeMap<PathNumber, Path>) {
        self.numbers.clear();
        self.standings.clear();
        self.numbers.extend(paths.keys());
        self.standings.extend(paths.values().map(|path| path.standing(now)));
    }

    fn index(&self, which: Option<PathNumber>) -> Option<usize> {
        self.numbers.iter().position(|&number| Some(number) == which)
    }
}
