//! One path and all that is known of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::budget::Allowance;
use super::candidates::{Candidate, Kind};
use super::choice::Standing;
use super::probe::PROBE_LEN;
use super::watch::Watch;
use crate::time::Instant;
use crate::timing::paths::{
    PATH_DWELL, PATH_FAST, PATH_FIRST_RETRY, PATH_FORGIVEN, PATH_LAST_RETRY, PATH_SIZE_AGAIN, PATH_TRIAL,
};

/// Least UDP payload that a path has to pass for QUIC (RFC 9000 §14).
pub const LEAST_MTU: u16 = 1200;
/// Unanswered probes that are remembered, the latest ones. A late answer to one of them still counts.
const MAX_PENDING: usize = 8;
/// Lost padded probes of one size, while small ones were answered, after which the size counts as too large.
const SIZE_TRIES: u8 = 3;

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The peer has never answered on it.
    New,
    /// Both directions work.
    Alive,
    /// Both directions worked, and it has not been probed for a while.
    Cold,
    /// It has ended.
    Dead,
}

/// A probe that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Drawn at random. The answer repeats it.
    pub(super) token: u64,
    at: Instant,
    len: u16,
}

/// A size that is being tried.
#[derive(Clone, Copy, Debug)]
struct Sizing {
    size: u16,
    /// Tries whose small probe was answered while the padded one was not. `missed`: the present try is one of these.
    misses: u8,
    missed: bool,
    /// The last try, and when to try again.
    tried: Instant,
    next: Instant,
}

/// The result of trying sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryOut {
    /// Probe this size now.
    Size(u16),
    /// A size that had passed does not pass any more.
    TooLarge,
}

/// A path of a tunnel, and all that its end knows of it.
#[derive(Debug)]
pub(super) struct Path {
    /// The two addresses of the path, and whether it is direct or leads through a relay.
    pub(super) candidate: Candidate,
    /// The NMS or the peer named this address. Otherwise the peer was only seen there.
    pub(super) announced: bool,
    /// Set by answers to probes, by silence, and by the end of the path.
    pub(super) state: State,
    /// The bytes that may go to the address before it is validated.
    pub(super) allowance: Allowance,
    /// The measurements of the path.
    pub(super) watch: Watch,
    /// Largest datagram that passed both ways in this life, bytes of UDP payload.
    pub(super) mtu: u16,
    pending: VecDeque<Pending>,
    /// While the path is not alive: when to probe it again, and the wait after that.
    pub(super) hello_at: Instant,
    wait: Duration,
    /// While the path is in doubt: no probe before this.
    pub(super) ask_at: Instant,
    /// When our first datagram in this life left.
    pub(super) born: Option<Instant>,
    /// When our last datagram in this life left.
    pub(super) last_out: Option<Instant>,
    /// When the last datagram of QUIC came by this path.
    pub(super) carried: Option<Instant>,
    /// The length of our last silence on this path, up to the packet that ended it.
    pub(super) quiet: Duration,
    /// When the peer proved in this life that it is at the address.
    pub(super) proved_at: Option<Instant>,
    setbacks: u32,
    trial_until: Option<Instant>,
    fasts: u32,
    starved_until: Option<Instant>,
    /// When traffic left this path.
    pub(super) left_at: Option<Instant>,
    sizing: Option<Sizing>,
    /// A size that did not pass, and when that was found.
    too_large: Option<(u16, Instant)>,
}

impl Path {
    pub(super) fn new(now: Instant, candidate: Candidate, announced: bool) -> Self {
        Self {
            candidate,
            announced,
            state: State::New,
            allowance: Allowance::default(),
            watch: Watch::default(),
            mtu: 0,
            pending: VecDeque::new(),
            hello_at: now,
            wait: PATH_FIRST_RETRY,
            ask_at: now,
            born: None,
            last_out: None,
            carried: None,
            quiet: Duration::ZERO,
            proved_at: None,
            setbacks: 0,
            trial_until: None,
            fasts: 0,
            starved_until: None,
            left_at: None,
            sizing: None,
            too_large: None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.state == State::Alive
    }

    pub(super) fn is_relay(&self) -> bool {
        self.candidate.kind == Kind::Relay
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        Standing {
            alive: self.is_alive(),
            doubt: self.watch.in_doubt(now),
            wide: self.mtu >= LEAST_MTU,
            starved: self.starved_until.is_some_and(|until| now < until),
            trial: self.trial_until.is_some_and(|until| now < until),
            kind: self.candidate.kind,
            rtt: self.watch.rtt.get(),
        }
    }

    /// Notes that a datagram of ours leaves.
    pub(super) fn out(&mut self, now: Instant) {
        if self.watch.doubt_at().is_none() {
            self.quiet = self.last_out.map_or(Duration::ZERO, |last| now - last);
        }
        self.born.get_or_insert(now);
        self.last_out = Some(now);
    }

    /// Notes that a probe of `len` bytes leaves which the peer has to answer.
    pub(super) fn asks(&mut self, now: Instant, token: u64, len: usize) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { token, at: now, len: u16::try_from(len).unwrap_or(u16::MAX) });
        // The loss of a padded probe may only mean that its size is too large.
        if len <= PROBE_LEN || !self.is_alive() {
            self.watch.asked(now);
        }
    }

    /// Whether a probe with this token left on this path and is not answered yet.
    pub(super) fn has_asked(&self, token: u64) -> bool {
        self.pending.iter().any(|pending| pending.token == token)
    }

    /// Takes the peer's answer to a probe of this path. False if no such probe is pending.
    pub(super) fn answered(&mut self, now: Instant, echo: u64, size: u16) -> bool {
        let Some(at) = self.pending.iter().position(|pending| pending.token == echo) else { return false };
        let pending = self.pending.remove(at).expect("it is there");
        self.watch.answered(now, now - pending.at);
        if let Some(sizing) = &mut self.sizing
            && usize::from(pending.len) <= PROBE_LEN
            && pending.at == sizing.tried
            && !sizing.missed
        {
            (sizing.misses, sizing.missed) = (sizing.misses + 1, true);
        }
        let passed = pending.len.min(size);
        self.mtu = self.mtu.max(passed);
        if self.sizing.is_some_and(|sizing| sizing.size <= passed) {
            self.sizing = None;
        }
        true
    }

    /// Makes the path alive. Returns the state before.
    pub(super) fn proved(&mut self, now: Instant) -> State {
        let before = std::mem::replace(&mut self.state, State::Alive);
        if before == State::Dead {
            self.trial_until = Some(now + (PATH_TRIAL * (1 << self.setbacks.min(6))).min(PATH_LAST_RETRY));
        }
        if before != State::Alive {
            self.proved_at = Some(now);
            self.ask_at = now;
            self.wait = PATH_FIRST_RETRY;
        }
        before
    }

    /// Ends the path. Its next life begins with nothing known.
    pub(super) fn died(&mut self, now: Instant) {
        let stood = self.proved_at.take().map_or(Duration::ZERO, |at| now - at);
        self.setbacks = if stood >= PATH_FORGIVEN { 1 } else { self.setbacks + 1 };
        self.state = State::Dead;
        self.watch.begin();
        (self.mtu, self.born, self.sizing, self.trial_until) = (0, None, None, None);
        self.wait = (PATH_FIRST_RETRY * (1 << self.setbacks.min(10))).min(PATH_LAST_RETRY);
        self.hello_at = now + self.wait;
    }

    /// Notes that a path that is not alive was probed just now. The next wait is twice as long.
    pub(super) fn wait_longer(&mut self, now: Instant) {
        self.hello_at = now + self.wait;
        self.wait = (self.wait * 2).min(PATH_LAST_RETRY);
    }

    /// Makes a path that is needed now due for a probe at once, and again soon.
    pub(super) fn call(&mut self, now: Instant) {
        (self.hello_at, self.wait) = (now, PATH_FIRST_RETRY);
    }

    /// Notes that most packets on this path were lost.
    pub(super) fn starve(&mut self, now: Instant) {
        let fast = (PATH_FAST * (1 << self.fasts.min(4))).min(PATH_LAST_RETRY);
        self.fasts += 1;
        self.starved_until = Some(now + fast);
    }

    /// The next size to try, if one is due: 1,200 bytes first, then what QUIC sends (`wanted`). A small probe goes with
    /// each. Without it, a size that is too large could not be told from a path that has ended.
    pub(super) fn size_to_try(&mut self, now: Instant, wanted: u16) -> Option<TryOut> {
        if self.sizing.is_none() {
            let size = if self.mtu < LEAST_MTU { LEAST_MTU } else { wanted };
            let refused = self.too_large.is_some_and(|(large, at)| size >= large && now < at + PATH_SIZE_AGAIN);
            if size <= self.mtu || refused {
                return None;
            }
            self.sizing = Some(Sizing { size, misses: 0, missed: false, tried: now, next: now });
        }
        let sizing = self.sizing.as_mut()?;
        if now < sizing.next {
            return None;
        }
        if sizing.misses >= SIZE_TRIES {
            let size = sizing.size;
            self.too_large = Some((size, now));
            self.sizing = None;
            if self.mtu >= size {
                // The size passed once. The next tries show how much of it still does.
                self.mtu = if size > LEAST_MTU { LEAST_MTU } else { 0 };
                return Some(TryOut::TooLarge);
            }
            return None;
        }
        (sizing.tried, sizing.next, sizing.missed) = (now, now + self.watch.rtt.patience(), false);
        Some(TryOut::Size(sizing.size))
    }

    /// Tries a size again that has passed before, because datagrams of QUIC's size may not pass any more.
    pub(super) fn doubt_size(&mut self, now: Instant, size: u16) {
        if self.sizing.is_none() && self.mtu >= size {
            self.too_large = None;
            self.sizing = Some(Sizing { size, misses: 0, missed: false, tried: now, next: now });
        }
    }

    /// When a size has to be tried again.
    pub(super) fn size_at(&self) -> Option<Instant> {
        self.sizing.map(|sizing| sizing.next)
    }

    /// The ends of the times in which the path is judged worse than its measurements.
    pub(super) fn pardons(&self) -> impl Iterator<Item = Instant> {
        let dwelt = self.left_at.map(|left| left + PATH_DWELL);
        [self.trial_until, self.starved_until, dwelt].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::candidates::Way;

    const fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn path() -> Path {
        let way = Way { local: "10.0.0.1:443".parse().unwrap(), remote: "10.0.0.2:443".parse().unwrap() };
        Path::new(ms(0), Candidate { way, kind: Kind::V4 }, true)
    }

    #[test]
    fn a_late_answer_still_counts_and_no_answer_counts_twice() {
        let mut path = path();
        for token in 0..4 {
            path.asks(ms(token * 100), token, 48);
        }
        assert!(path.answered(ms(350), 1, 48) && !path.answered(ms(350), 1, 48) && !path.answered(ms(350), 77, 48));
        assert_eq!(path.watch.rtt.get(), Duration::from_millis(250));
        for token in 10..100 {
            path.asks(ms(400), token, 48);
        }
        assert!(!path.answered(ms(401), 2, 48), "forgotten");
    }

    #[test]
    fn sizes_are_tried_from_the_least_up_and_given_up_after_three() {
        let mut path = path();
        path.proved(ms(0));
        assert_eq!(path.size_to_try(ms(0), 1452), Some(TryOut::Size(1200)));
        assert_eq!(path.size_to_try(ms(1), 1452), None, "it waits for the answer");
        path.asks(ms(0), 1, 1200);
        path.answered(ms(20), 1, 1200);
        let tries = |path: &mut Path, from: u64| {
            let small = |path: &mut Path, at| {
                path.asks(ms(at), at, 48);
                path.answered(ms(at + 10), at, 48);
            };
            let out: Vec<_> = (from..from + 5_000)
                .filter_map(|at| path.size_to_try(ms(at), 1452).inspect(|_| small(path, at)))
                .collect();
            out
        };
        assert_eq!((tries(&mut path, 20), path.mtu), (vec![TryOut::Size(1452); 3], 1200));
        assert!(path.size_to_try(ms(70_000), 1452).is_some(), "a minute later the route may be another");
        path.asks(ms(70_000), 2, 1452);
        path.answered(ms(70_020), 2, 1452);
        path.doubt_size(ms(71_000), 1452);
        let again = [vec![TryOut::Size(1452); 3], vec![TryOut::TooLarge]].concat();
        assert_eq!((tries(&mut path, 71_000), path.mtu), (again, 1200));
    }

    #[test]
    fn a_path_that_has_ended_is_not_called_narrow() {
        let mut path = path();
        path.proved(ms(0));
        path.asks(ms(0), 1, 1452);
        path.answered(ms(20), 1, 1452);
        path.doubt_size(ms(1_000), 1452);
        // No probe is answered, small or padded.
        let tries: Vec<_> = (1_000..9_000).filter_map(|at| path.size_to_try(ms(at), 1452)).collect();
        assert!(tries.iter().all(|t| *t == TryOut::Size(1452)), "{tries:?}");
        // The path is back. An answer to a later small probe says nothing of the padded ones that were lost before.
        path.asks(ms(9_001), 77, 48);
        assert!(path.answered(ms(9_021), 77, 48));
        let next = (9_022..12_000).find_map(|at| path.size_to_try(ms(at), 1452));
        assert_eq!((next, path.mtu), (Some(TryOut::Size(1452)), 1452));
    }

    #[test]
    fn each_failure_makes_the_trial_longer_until_the_path_has_stood_for_long() {
        let mut path = path();
        let mut trials = Vec::new();
        let mut now = ms(0);
        for _ in 0..3 {
            path.proved(now);
            now += Duration::from_secs(10);
            path.died(now);
            path.proved(now);
            trials.push(path.trial_until.unwrap() - now);
        }
        assert_eq!(trials, [2, 4, 8].map(Duration::from_secs));
        now += PATH_FORGIVEN;
        path.died(now);
        path.proved(now);
        assert_eq!(path.trial_until.unwrap() - now, Duration::from_secs(2));
    }
}
