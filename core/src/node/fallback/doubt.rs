//! Doubt whether UDP still works: the node hears nothing by UDP, neither from a service nor from a peer.
//!
//! The silence of a peer does not show that UDP is blocked. So if everything that was sent by UDP is unanswered for
//! [`DOUBT`], the node sends a PING to the NMS. If the NMS is silent too, TCP is raced [`ALL_SILENT`] after the silence
//! began. That is sooner than for one silent service, because only UDP or the whole network can be the cause.

use std::time::Duration;

use super::{UNANSWERED, Unanswered};
use crate::time::Instant;
use crate::timing::proxied::{ALL_SILENT, DOUBT, DOUBT_PAUSE, LONGEST_DOUBT_PAUSE};

/// How many datagrams a service leaves unanswered before it counts as silent. They are a first one, and its repetition
/// by QUIC.
const ASKED_TWICE: u32 = 2;

/// The doubt lasts at least this many round trips to the services, and [`ALL_SILENT`] at least twice as many. On a slow
/// path answers need that long.
const ROUND_TRIPS: u32 = 2;

/// The silence of services and peers by UDP.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The datagrams to any service or peer since the last authentic one came.
    silence: Unanswered,
    /// The NMS is not asked again before this instant.
    not_before: Instant,
    pause: Duration,
}

impl Doubt {
    pub(super) fn sent(&mut self, now: Instant) {
        self.silence.sent(now);
    }

    pub(super) fn heard(&mut self) {
        self.silence = Unanswered::default();
    }

    /// When to send the NMS a PING; `None` without doubt.
    pub(super) fn ask_at(&self, round_trip: Duration) -> Option<Instant> {
        let since = self.silence.since().filter(|_| self.silence.count >= UNANSWERED)?;
        Some((since + doubt(round_trip)).max(self.not_before))
    }

    /// Notes that the NMS is asked. The pauses grow, because a peer that is silent for long would otherwise cause a
    /// PING again and again.
    pub(super) fn asked(&mut self, now: Instant) {
        let is_again = self.not_before > Instant::ZERO && now < self.not_before + LONGEST_DOUBT_PAUSE;
        self.pause = if is_again { (self.pause * 2).min(LONGEST_DOUBT_PAUSE) } else { DOUBT_PAUSE };
        self.not_before = now + self.pause;
    }

    /// When the doubt is confirmed by a service that has left these datagrams unanswered; `None` if the service was not
    /// asked often enough.
    pub(super) fn confirmed_at(&self, service: Unanswered, round_trip: Duration) -> Option<Instant> {
        let all = self.silence.since().filter(|_| self.silence.count >= UNANSWERED)?;
        let asked = service.since().filter(|_| service.count >= ASKED_TWICE)?;
        Some((all + ALL_SILENT.max(2 * ROUND_TRIPS * round_trip)).max(asked + doubt(round_trip)))
    }
}

/// [`DOUBT`], or longer where answers take longer.
fn doubt(round_trip: Duration) -> Duration {
    DOUBT.max(ROUND_TRIPS * round_trip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Duration {
        Duration::from_millis(80)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn silent(since: u64) -> Doubt {
        let mut doubt = Doubt::default();
        for ms in [since, since + 50, since + 100] {
            doubt.sent(at(ms));
        }
        doubt
    }

    #[test]
    fn two_datagrams_raise_no_doubt_and_an_answer_ends_it() {
        let mut doubt = Doubt::default();
        doubt.sent(at(0));
        doubt.sent(at(400));
        assert_eq!(doubt.ask_at(short()), None);
        doubt.sent(at(450));
        assert_eq!(doubt.ask_at(short()), Some(at(0) + DOUBT));
        doubt.heard();
        assert_eq!(doubt.ask_at(short()), None);
    }

    #[test]
    fn while_a_peer_stays_silent_the_nms_is_asked_less_and_less_often() {
        let (mut now, mut doubt, mut asked) = (0, Doubt::default(), Vec::new());
        while now < 60_000 {
            doubt.sent(at(now));
            if doubt.ask_at(short()).is_some_and(|due| due <= at(now)) {
                asked.push(now);
                doubt.asked(at(now));
                // The NMS answers.
                doubt.heard();
            }
            now += 50;
        }
        let gaps: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(gaps[..3], [1_000, 2_000, 4_000]);
        assert!(gaps[3..].iter().all(|gap| *gap == 8_000), "{gaps:?}");
    }

    #[test]
    fn a_service_is_as_silent_as_all_others_once_it_was_asked_twice() {
        let doubt = silent(0);
        let mut service = Unanswered::default();
        service.sent(at(500));
        assert_eq!(doubt.confirmed_at(service, short()), None);
        service.sent(at(700));
        assert_eq!(doubt.confirmed_at(service, short()), Some(at(1_000)));
        let mut late = Unanswered::default();
        for ms in [800, 900] {
            late.sent(at(ms));
        }
        assert_eq!(doubt.confirmed_at(late, short()), Some(at(1_300)));
    }

    #[test]
    fn a_slow_network_is_given_its_round_trips() {
        let (doubt, long) = (silent(0), Duration::from_secs(3));
        assert_eq!(doubt.ask_at(long), Some(at(6_000)));
        let mut service = Unanswered::default();
        for ms in [100, 1_000] {
            service.sent(at(ms));
        }
        assert_eq!(doubt.confirmed_at(service, long), Some(at(12_000)));
    }
}
