//! The usual case: one path is in use, it works, and no other one is tried.
//!
//! Then most datagrams change nothing but times. A driver hands over dozens of datagrams of one instant. What is due by
//! time is done for the first one only, and the next deadline is computed only if it may have changed. The outputs are
//! the same as if all was done for each datagram.

use super::Paths;
use crate::paths::budget::SilentTargets;
use crate::paths::candidates::Way;
use crate::paths::recent::Datagrams;
use crate::time::Instant;

impl Paths {
    /// Whether the path in use works, and nothing goes by another path or waits for one.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        let used = self.used.and_then(|used| self.paths.get(&used));
        let works = used.is_some_and(|path| path.is_alive() && !path.watch.in_doubt(now));
        works && self.keys.is_some() && self.beside.is_none() && self.bridge.is_none() && self.hold_until.is_none()
    }

    /// Whether everything that is due by now was done at this very instant, and nothing asks for more.
    pub(super) fn has_tended(&self, now: Instant) -> bool {
        self.tended == Some(now) && self.is_timed(now) && self.is_calm(now)
    }

    /// Whether one more datagram that comes by this way at this very instant changes only the count of bytes.
    pub fn only_counts(&self, now: Instant, way: Way) -> bool {
        self.has_tended(now) && self.used() == Some(way)
    }

    /// Whether the deadline that was given last still holds, if nothing changes now.
    fn is_timed(&self, now: Instant) -> bool {
        self.timed && self.due.is_none_or(|due| due > now)
    }

    /// Takes one more datagram that came by the path in use.
    pub(super) fn take_more(&mut self, now: Instant, way: Way, len: usize) {
        let path = self.used.and_then(|used| self.paths.get_mut(&used)).expect("calm");
        path.allowance.received(len);
        path.carried = Some(now);
        let doubt = path.watch.doubt_at();
        path.watch.heard(now);
        self.timed = path.watch.doubt_at() == doubt;
        self.know(now, way.remote);
    }

    /// Does what is due, and notes whether more could be due now. If that changed the choice of paths, there is: the
    /// size of a path that is kept from now on, for example.
    pub(super) fn tend_once(&mut self, now: Instant, silent: &mut SilentTargets) {
        let choice = |paths: &Self| (paths.used, paths.warm, paths.beside, paths.out.len());
        let before = choice(self);
        self.tend(now, silent);
        self.tended = (choice(self) == before).then_some(now);
    }

    /// Sends datagrams on the path in use.
    pub(super) fn send_more(&mut self, now: Instant, datagrams: Datagrams, silent: &mut SilentTargets) {
        let (timed, before) = (self.is_timed(now), self.deadlines());
        self.notice_sleep(now);
        self.on_transmit(now, datagrams, silent);
        let calm = self.is_calm(now);
        self.timed = timed && calm && self.deadlines() == before;
        self.tended.take_if(|_| !calm);
    }

    /// The deadlines of the path in use that depend on what leaves.
    fn deadlines(&self) -> Option<(Option<Instant>, Option<Instant>)> {
        let used = self.used?;
        Some((self.paths.get(&used)?.watch.doubt_at(), self.keep_at(used)))
    }
}
