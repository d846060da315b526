//! Whether a path still works: its round trip, silence and loss.
//!
//! Silence is measured by a timer. It starts with the first packet that needs an answer, and later packets do not
//! restart it. Delivery is judged by the packets that QUIC counts as lost. Small acknowledgements that pass do not make
//! a path good.

use std::time::Duration;

use crate::time::Instant;
use crate::timing::paths::{ANSWER_DELAY, PATH_LIFE, PATH_LOSS_TIME, PATH_PATIENCE};
use crate::timing::quic::INITIAL_RTT;

/// A path is dead after this many times the patience. By then this many probes were lost in a row.
const LIVES: u32 = 4;
/// Least packets over which loss is judged.
const LOSS_PACKETS: u64 = 20;

/// The smoothed round trip of a path (RFC 6298 §2).
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    smoothed: Option<(Duration, Duration)>,
    /// What it is taken for before the first measurement, if not for `INITIAL_RTT`.
    assumed: Option<Duration>,
    /// What follows from both. Each packet asks for it, and few change it.
    patience: Duration,
}

impl Default for Rtt {
    fn default() -> Self {
        let mut rtt = Self { smoothed: None, assumed: None, patience: Duration::ZERO };
        rtt.settle();
        rtt
    }
}

impl Rtt {
    /// Before the first measurement the round trip is taken for this, because another path to the peer took as long.
    pub fn assume(&mut self, rtt: Duration) {
        self.assumed = Some(rtt);
        self.settle();
    }

    fn initial(&self) -> Duration {
        self.assumed.unwrap_or(INITIAL_RTT)
    }

    /// Adds a measurement.
    pub fn sample(&mut self, rtt: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (rtt, rtt / 2),
            Some((smoothed, variance)) => ((smoothed * 7 + rtt) / 8, (variance * 3 + smoothed.abs_diff(rtt)) / 4),
        });
        self.settle();
    }

    fn settle(&mut self) {
        let (smoothed, variance) = self.smoothed.unwrap_or((self.initial(), self.initial() / 2));
        self.patience = ((smoothed + 4 * variance + ANSWER_DELAY) * 3 / 2).max(PATH_PATIENCE);
    }

    /// The smoothed round trip, or [`INITIAL_RTT`] before the first measurement.
    pub fn get(&self) -> Duration {
        self.smoothed.map_or_else(|| self.initial(), |(smoothed, _)| smoothed)
    }

    /// Whether it was ever measured.
    pub fn is_measured(&self) -> bool {
        self.smoothed.is_some()
    }

    /// How long an answer may take before the path is in doubt: one and a half of QUIC's probe timeouts (RFC 9002
    /// §6.2.1). So QUIC repeats a lost packet before the path is blamed.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// How long an answer may take before the path counts as dead.
    pub fn life(&self) -> Duration {
        (self.patience() * LIVES).max(PATH_LIFE)
    }
}

/// QUIC's counts so far. They never decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Packets sent.
    pub sent: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Largest UDP payload that QUIC sends now, bytes.
    pub mtu: u16,
}

/// The measurements of one path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The path's round trip.
    pub rtt: Rtt,
    heard: Option<Instant>,
    /// The first packet sent since the peer was heard last.
    sent: Option<Instant>,
    /// The first probe sent since the last one was answered.
    asked: Option<Instant>,
    /// Whether nothing can be heard on this path, whatever was heard so far.
    deaf: bool,
    /// When the peer's probe said that it hears nothing on this path.
    told: Option<Instant>,
    loss: Option<Loss>,
}

/// A stretch of time over which losses are counted.
#[derive(Clone, Copy, Debug)]
struct Loss {
    since: Instant,
    from: Delivery,
    /// How many stretches just before lost most packets.
    bad: u8,
}

impl Watch {
    /// Notes that a datagram of QUIC left.
    pub fn sent(&mut self, now: Instant) {
        if !defect!(PathSilenceUnnoticed) {
            self.sent.get_or_insert(now);
        }
    }

    /// Notes that a probe left which needs an answer.
    pub fn asked(&mut self, now: Instant) {
        if !defect!(PathSilenceUnnoticed) {
            self.asked.get_or_insert(now);
        }
    }

    /// Notes that an authentic and new datagram came.
    pub fn heard(&mut self, now: Instant) {
        (self.heard, self.sent) = (Some(now), None);
    }

    /// Notes that a probe was answered. Both directions work.
    pub fn answered(&mut self, now: Instant, rtt: Duration) {
        self.rtt.sample(rtt);
        self.heard(now);
        (self.asked, self.deaf, self.told) = (None, false, None);
    }

    /// Notes that nothing can be heard on this path, whatever was heard so far.
    pub fn is_deaf(&mut self) {
        self.deaf = true;
    }

    /// Notes that the peer says that it hears nothing on this path. The path is in doubt until a probe is answered.
    pub fn is_told(&mut self, now: Instant) {
        self.told = Some(now);
        self.asked(now);
    }

    /// Whether the peer has to be told that we hear nothing on this path. If the path is in doubt only because the peer
    /// said so, the peer is told in return, and not again: both ends then send by two paths.
    pub fn tells(&self, now: Instant) -> bool {
        let patience = if self.deaf { Duration::ZERO } else { self.rtt.patience() };
        self.told == Some(now) || self.since().is_some_and(|since| since + patience <= now)
    }

    /// When the peer was heard last.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard
    }

    /// Starts to count losses anew: QUIC's counts from now on are this path's.
    pub fn count_anew(&mut self) {
        self.loss = None;
    }

    /// Forgets unanswered packets. The path begins a new life.
    pub fn begin(&mut self) {
        (self.sent, self.asked, self.deaf, self.told, self.loss) = (None, None, false, None, None);
    }

    fn since(&self) -> Option<Instant> {
        [self.sent, self.asked].into_iter().flatten().min()
    }

    /// When the path is in doubt, if nothing comes until then.
    pub fn doubt_at(&self) -> Option<Instant> {
        let is_known = self.deaf || self.told.is_some();
        let patience = if is_known { Duration::ZERO } else { self.rtt.patience() };
        self.since().map(|since| since + patience)
    }

    /// When the path is dead, if nothing comes until then. Only unanswered probes count, because QUIC's packets may
    /// need no answer.
    pub fn dead_at(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + self.rtt.life())
    }

    /// Whether the path is in doubt.
    pub fn in_doubt(&self, now: Instant) -> bool {
        self.doubt_at().is_some_and(|at| at <= now)
    }

    /// Takes QUIC's counts while it sends on this path alone. True if at least half of the packets were lost in two
    /// stretches in a row.
    pub fn delivery(&mut self, now: Instant, counts: Delivery) -> bool {
        let loss = self.loss.get_or_insert(Loss { since: now, from: counts, bad: 0 });
        let sent = counts.sent.saturating_sub(loss.from.sent);
        if sent < LOSS_PACKETS || now - loss.since < PATH_LOSS_TIME {
            return false;
        }
        let lost = counts.lost.saturating_sub(loss.from.lost);
        let bad = if 2 * lost >= sent { loss.bad + 1 } else { 0 };
        *loss = Loss { since: now, from: counts, bad: bad.min(1) };
        bad >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn silence_is_counted_from_the_first_thing_that_was_not_answered() {
        let mut watch = Watch::default();
        watch.answered(ms(0), Duration::from_millis(40));
        assert_eq!(watch.doubt_at(), None, "nobody asked anything");
        watch.sent(ms(10_000));
        watch.sent(ms(10_150));
        // (40 + 4 × 20 + 25) × 1.5 = 217.5 ms
        assert_eq!(watch.doubt_at(), Some(ms(10_000) + Duration::from_micros(217_500)));
        assert_eq!(watch.dead_at(), None, "QUIC's packet may have been an ACK");
        watch.asked(ms(10_218));
        assert_eq!(watch.dead_at(), Some(ms(11_218)));
        watch.heard(ms(10_300));
        assert!(watch.in_doubt(ms(10_436)), "the probe is not answered: one direction works");
        watch.answered(ms(10_500), Duration::from_millis(40));
        assert_eq!((watch.doubt_at(), watch.dead_at()), (None, None));
    }

    #[test]
    fn a_peer_that_hears_nothing_puts_the_path_in_doubt_at_once() {
        let mut watch = Watch::default();
        watch.answered(ms(0), Duration::from_millis(40));
        watch.asked(ms(50));
        assert!(!watch.in_doubt(ms(60)));
        watch.is_told(ms(60));
        assert!(watch.in_doubt(ms(60)) && watch.tells(ms(60)));
        assert!(watch.in_doubt(ms(70)) && !watch.tells(ms(70)), "it was told in return");
        assert!(watch.tells(ms(300)), "nothing was heard within the patience");
        watch.answered(ms(310), Duration::from_millis(40));
        watch.asked(ms(320));
        assert!(!watch.in_doubt(ms(320)) && !watch.tells(ms(320)));
        watch.is_deaf();
        assert!(watch.in_doubt(ms(320)) && watch.tells(ms(320)));
    }

    #[test]
    fn patience_grows_with_the_round_trip() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.sample(Duration::from_secs(6));
        }
        assert!(rtt.patience() >= Duration::from_secs(9), "GEO with congestion: {:?}", rtt.patience());
    }

    #[test]
    fn a_trickle_that_passes_does_not_make_a_path_good() {
        let mut watch = Watch::default();
        let at = |second: u64, per_second, lost_of_ten: u64, watch: &mut Watch| {
            let sent = second * per_second;
            watch.delivery(ms(second * 1_000), Delivery { sent, lost: sent * lost_of_ten / 10, mtu: 1200 })
        };
        let starved = (0..10).find(|&second| at(second, 100, 9, &mut watch));
        assert_eq!(starved, Some(2), "two stretches of one second");
        let mut fine = Watch::default();
        assert_eq!(
            (0..60).find(|&second| at(second, 100, 3, &mut fine)),
            None,
            "three of ten is a bad path, not a dead one"
        );
        let mut few = Watch::default();
        assert_eq!((0..7).find(|&second| at(second, 5, 10, &mut few)), None, "too few to judge");
    }
}
