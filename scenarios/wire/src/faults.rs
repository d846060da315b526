//! Faults of a wire: loss in bursts, outages, reordering, duplicates and damage.
//!
//! Each fault has its own random stream, so that one fault does not change the others, loss or jitter. A wire without
//! faults has no such streams.

use std::ops::Range;
use std::time::Duration;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use crate::limits::{MAX_DELAY, WireError};
use crate::seed;

/// The faults of one direction of a wire. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WireFaults {
    /// Loss in bursts, in addition to independent loss.
    pub burst_loss: Option<BurstLoss>,
    /// Loss in outages, in addition to both.
    pub outages: Option<Outages>,
    /// Some packets are held back.
    pub reorder: Option<Reorder>,
    /// The probability that a packet arrives twice, both at the same time.
    pub duplicate: f64,
    /// The probability that one bit of a packet is inverted. The tap shows the packet as it was sent. Checksums let the
    /// receiving host notice the damage. A duplicate is damaged independently.
    pub corrupt: f64,
}

/// The model of Gilbert and Elliott: the wire is in a good or a bad state, and may change before each packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstLoss {
    /// The probability of a change to the bad state before a packet.
    pub enter: f64,
    /// The probability of a change to the good state before a packet. The mean length of a burst is 1 ÷ this, in
    /// packets.
    pub leave: f64,
    /// The probability that a packet is lost in the good state.
    pub loss_good: f64,
    /// The probability that a packet is lost in the bad state.
    pub loss_bad: f64,
}

/// Times in which packets are lost. They follow the clock only, not the packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outages {
    /// The mean time from the end of one outage to the beginning of the next: uniform between zero and twice this. Not
    /// zero.
    pub every: Duration,
    /// The length of each outage. Not zero.
    pub lasts: Duration,
    /// The probability that a packet is lost during an outage.
    pub loss: f64,
}

/// Packets held back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// The probability that a packet is held back.
    pub probability: f64,
    /// How long it is held back.
    pub by: Duration,
}

impl WireFaults {
    pub(crate) fn check(&self) -> Result<(), WireError> {
        let burst = self.burst_loss.map_or([0.0; 4], |b| [b.enter, b.leave, b.loss_good, b.loss_bad]);
        let outages = self.outages.map_or(0.0, |outages| outages.loss);
        let mut chances = burst.into_iter().chain([self.duplicate, self.corrupt, outages]);
        let reorder = self.reorder.map_or(0.0, |reorder| reorder.probability);
        if let Some(chance) = chances.by_ref().chain([reorder]).find(|chance| !(0.0..=1.0).contains(chance)) {
            return Err(WireError::Chance(chance));
        }
        if let Some(Outages { every, lasts, .. }) = self.outages
            && (every.is_zero() || lasts.is_zero())
        {
            return Err(WireError::Outages);
        }
        match self.reorder {
            Some(Reorder { by, .. }) if by > MAX_DELAY => Err(WireError::DelayTooLong(by)),
            _ => Ok(()),
        }
    }
}

/// A probability × 2³², exact: a multiplication by a power of two, then a rounding.
pub(crate) fn threshold(probability: f64) -> u64 {
    (probability * 4_294_967_296.0).round() as u64
}

/// The state of a wire with [`WireFaults`].
pub(crate) struct Faults {
    /// The faults that the wire has.
    pub(crate) config: WireFaults,
    is_bad: bool,
    burst: ChaCha20Rng,
    /// The present or next outage.
    outage: Range<Instant>,
    outages: ChaCha20Rng,
    /// The random stream of losses in outages. It is not that of the outages' times, which must not depend on the
    /// packets.
    outage_losses: ChaCha20Rng,
    reorder: ChaCha20Rng,
    duplicate: ChaCha20Rng,
    corrupt: ChaCha20Rng,
}

impl Faults {
    pub(crate) fn new(run_seed: u64, name: &str, config: WireFaults) -> Self {
        let stream = |purpose| seed::stream(run_seed, name, purpose);
        Self {
            config,
            is_bad: false,
            burst: stream("wire burst loss"),
            outage: Instant::ZERO..Instant::ZERO,
            outages: stream("wire outages"),
            outage_losses: stream("wire outage losses"),
            reorder: stream("wire reorder"),
            duplicate: stream("wire duplicate"),
            corrupt: stream("wire corrupt"),
        }
    }

    /// Whether the next packet, which departs then, is lost in a burst or an outage. Both are computed for every
    /// packet, so that one does not change the other.
    pub(crate) fn loses(&mut self, departs: Instant) -> bool {
        let (in_burst, in_outage) = (self.loses_in_burst(), self.loses_in_outage(departs));
        in_burst || in_outage
    }

    fn loses_in_outage(&mut self, departs: Instant) -> bool {
        let Some(Outages { every, lasts, loss }) = self.config.outages else { return false };
        while self.outage.end <= departs {
            let nanos = (u128::from(self.outages.next_u64()) * (2 * every.as_nanos() + 1)) >> 64;
            let start = self.outage.end + Duration::from_nanos(nanos as u64);
            self.outage = start..start + lasts;
        }
        self.outage.contains(&departs) && draw(&mut self.outage_losses, loss)
    }

    fn loses_in_burst(&mut self) -> bool {
        let Some(burst) = self.config.burst_loss else { return false };
        let turns = draw(&mut self.burst, if self.is_bad { burst.leave } else { burst.enter });
        self.is_bad ^= turns;
        draw(&mut self.burst, if self.is_bad { burst.loss_bad } else { burst.loss_good })
    }

    /// For how long the next packet is held back.
    pub(crate) fn holds_back(&mut self) -> Option<Duration> {
        let Reorder { probability, by } = self.config.reorder?;
        draw(&mut self.reorder, probability).then_some(by)
    }

    /// Whether the next packet arrives twice.
    pub(crate) fn doubles(&mut self) -> bool {
        self.config.duplicate > 0.0 && draw(&mut self.duplicate, self.config.duplicate)
    }

    /// Inverts a bit with the set probability. Returns whether it did.
    pub(crate) fn damages(&mut self, packet: &mut [u8]) -> bool {
        let damages = self.config.corrupt > 0.0 && draw(&mut self.corrupt, self.config.corrupt);
        if damages && !packet.is_empty() {
            let bit = (u64::from(self.corrupt.next_u32()) * (packet.len() as u64 * 8)) >> 32;
            packet[bit as usize / 8] ^= 1 << (bit % 8);
        }
        damages
    }
}

fn draw(rng: &mut ChaCha20Rng, probability: f64) -> bool {
    u64::from(rng.next_u32()) < threshold(probability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Passage, Wire, WireConfig};

    const MS: Duration = Duration::from_millis(1);

    fn run(config: WireConfig, packets: u64) -> (Vec<(u64, Instant, Vec<u8>)>, Wire) {
        let mut wire = Wire::new(5, "a:0>b:0", config).unwrap();
        let mut arrived = Vec::new();
        for i in 0..packets {
            let packet = i.to_be_bytes().to_vec();
            let deliver = |Passage { arrives, .. }, packet| arrived.push((i, arrives, packet));
            let _ = wire.send(Instant::from_millis(i), packet, |_, _, _| {}, deliver);
        }
        (arrived, wire)
    }

    fn with(faults: WireFaults) -> WireConfig {
        WireConfig { faults, ..WireConfig::new(2 * MS) }
    }

    #[test]
    fn losses_come_in_bursts_of_the_stated_length() {
        let burst = BurstLoss { enter: 0.01, leave: 0.2, loss_good: 0.0, loss_bad: 1.0 };
        let (arrived, wire) = run(with(WireFaults { burst_loss: Some(burst), ..WireFaults::default() }), 100_000);
        let lost = 100_000 - arrived.len();
        let bursts = arrived.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 1).count();
        let mean = lost as f64 / bursts as f64;
        assert!((4.6..5.4).contains(&mean), "1 ÷ 0.2 packets: {mean}");
        let share = lost as f64 / 100_000.0;
        assert!((0.042..0.053).contains(&share), "0.01 ÷ (0.01 + 0.2): {share}");
        assert_eq!(wire.traffic().packets, 100_000, "lost ones were on the wire");
    }

    #[test]
    fn an_outage_loses_what_is_sent_meanwhile_and_comes_by_the_clock() {
        let outages = Some(Outages { every: 500 * MS, lasts: 20 * MS, loss: 1.0 });
        let faults = WireFaults { outages, ..WireFaults::default() };
        // A packet each millisecond: each outage loses twenty.
        let (arrived, _) = run(with(faults), 100_000);
        let gaps: Vec<u64> = arrived.windows(2).map(|pair| pair[1].0 - pair[0].0 - 1).filter(|gap| *gap > 0).collect();
        // Two outages may follow each other at once. Nanoseconds decide whether one outage loses nineteen, twenty or
        // twenty-one.
        assert!(gaps.iter().all(|gap| *gap >= 19), "{gaps:?}");
        assert!((150..240).contains(&gaps.len()), "100 s ÷ 520 ms: {}", gaps.len());
        // A sender of a tenth of the packets has its outages at the same times.
        let lost = |every: u64| {
            let mut wire = Wire::new(5, "a:0>b:0", with(faults)).unwrap();
            let sent = (0..100_000).step_by(every as usize);
            let lost =
                sent.filter(|at| wire.send(Instant::from_millis(*at), vec![0; 40], |_, _, _| {}, |_, _| {}).is_err());
            lost.collect::<Vec<u64>>()
        };
        let all = lost(1);
        assert!(lost(10).iter().all(|at| all.contains(at)) && lost(10).len() * 8 < all.len());
        let refused =
            with(WireFaults { outages: Some(Outages { every: Duration::ZERO, lasts: MS, loss: 1.0 }), ..faults });
        assert_eq!(refused.check(), Err(WireError::Outages));
    }

    #[test]
    fn a_packet_held_back_is_overtaken_and_delays_no_other() {
        let reorder = Some(Reorder { probability: 0.1, by: 5 * MS });
        let (arrived, wire) = run(with(WireFaults { reorder, ..WireFaults::default() }), 1000);
        assert_eq!(arrived.len(), 1000);
        let late: Vec<_> = arrived.iter().filter(|(i, at, _)| *at == Instant::from_millis(i + 7)).collect();
        let prompt = arrived.iter().filter(|(i, at, _)| *at == Instant::from_millis(i + 2)).count();
        assert!((70..130).contains(&late.len()), "{}", late.len());
        assert_eq!(prompt + late.len(), 1000);
        assert_eq!(wire.traffic().held_back, late.len() as u64);
    }

    #[test]
    fn a_double_arrives_with_its_original() {
        let (arrived, wire) = run(with(WireFaults { duplicate: 0.2, ..WireFaults::default() }), 1000);
        let doubles = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((150..250).contains(&doubles), "{doubles}");
        assert_eq!((arrived.len(), wire.traffic().packets), (1000 + doubles, 1000 + doubles as u64));
        assert_eq!(wire.traffic().duplicated, doubles as u64);
    }

    #[test]
    fn damage_is_one_bit_anywhere() {
        let (arrived, wire) = run(with(WireFaults { corrupt: 0.5, ..WireFaults::default() }), 2000);
        let mut places = std::collections::BTreeSet::new();
        let mut damaged = 0;
        for (i, _, packet) in &arrived {
            let difference = u64::from_be_bytes(packet.as_slice().try_into().unwrap()) ^ i;
            assert!(difference.count_ones() <= 1);
            damaged += u64::from(difference != 0);
            places.insert(difference);
        }
        assert!((900..1100).contains(&damaged), "{damaged}");
        assert_eq!((places.len(), wire.traffic().corrupted), (65, damaged), "each of 64 bits, or none");
    }

    #[test]
    fn faults_leave_each_others_and_the_wires_own_draws_alone() {
        let plain = WireConfig { loss: 0.3, jitter: MS, ..WireConfig::new(2 * MS) };
        let all = WireFaults {
            burst_loss: Some(BurstLoss { enter: 0.1, leave: 0.5, loss_good: 0.0, loss_bad: 0.5 }),
            outages: Some(Outages { every: 50 * MS, lasts: 5 * MS, loss: 0.5 }),
            reorder: Some(Reorder { probability: 0.1, by: MS }),
            duplicate: 0.1,
            corrupt: 0.1,
        };
        let lost = |faults| {
            let (arrived, _) = run(WireConfig { faults, ..plain }, 500);
            let arrived: std::collections::BTreeSet<u64> = arrived.into_iter().map(|(i, ..)| i).collect();
            (0..500).filter(|i| !arrived.contains(i)).collect::<Vec<_>>()
        };
        assert_eq!(lost(WireFaults::default()), lost(WireFaults { burst_loss: None, outages: None, ..all }));
        let both = lost(all);
        assert!(lost(WireFaults::default()).iter().all(|i| both.contains(i)));
        let times = |faults| run(WireConfig { faults, ..plain }, 500).0.into_iter().map(|(i, at, _)| (i, at));
        let doubled: Vec<_> = times(WireFaults { duplicate: 1.0, ..WireFaults::default() }).collect();
        assert_eq!(
            doubled.into_iter().step_by(2).collect::<Vec<_>>(),
            times(WireFaults::default()).collect::<Vec<_>>()
        );
        assert_eq!(run(WireConfig { faults: all, ..plain }, 500).0, run(WireConfig { faults: all, ..plain }, 500).0);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let burst = |enter| BurstLoss { enter, leave: 0.5, loss_good: 0.0, loss_bad: 1.0 };
        for faults in [
            WireFaults { duplicate: 1.5, ..WireFaults::default() },
            WireFaults { corrupt: 1.5, ..WireFaults::default() },
            WireFaults { burst_loss: Some(burst(1.5)), ..WireFaults::default() },
            WireFaults { reorder: Some(Reorder { probability: 1.5, by: MS }), ..WireFaults::default() },
        ] {
            assert_eq!(with(faults).check(), Err(WireError::Chance(1.5)));
        }
        let forever = Some(Reorder { probability: 0.5, by: 2 * MAX_DELAY });
        let refused = with(WireFaults { reorder: forever, ..WireFaults::default() }).check();
        assert_eq!(refused, Err(WireError::DelayTooLong(2 * MAX_DELAY)));
    }
}
