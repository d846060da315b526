//! One direction of a wire: when, and whether, a packet that is sent now arrives.
//!
//! The sending box owns the wire, which computes everything at the moment of sending, in this order: whether it is up,
//! whether the packet fits the MTU, whether the queue has room (drop-tail), the transmission time at the rate, whether
//! the packet is lost, and the propagation time. Nothing is decided later, so an engine only delivers the packet at its
//! exact arrival. Loss, jitter and every fault have their own random streams.
//!
//! The delay is at least [`MIN_DELAY`], one tick of turmoil: both engines rely on it to run each box that far alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use crate::faults::{Faults, WireFaults, threshold};
use crate::limits::{MAX_DELAY, MIN_DELAY, MIN_MTU, WireError};
use crate::seed;

mod path;

use path::Path;
pub use path::{Faces, PathConfig};

/// How one direction of a wire behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WireConfig {
    /// Time from the last bit sent to the packet received.
    pub delay: Duration,
    /// Added to the delay: uniform between zero and this.
    pub jitter: Duration,
    /// Whether jitter, or a delay made shorter, lets a packet overtake an earlier one. Otherwise it arrives together
    /// with that one, as behind a queue.
    pub reorder: bool,
    /// The probability that a packet is lost, independent of others.
    pub loss: f64,
    /// Bits per second of IP packets; `None`: as fast as they come.
    pub rate_bps: Option<u64>,
    /// The limit of the queue; without `rate_bps` no packet waits.
    pub queue: QueueLimit,
    /// The largest IP packet, in bytes.
    pub mtu: usize,
    /// Whether the sender of a packet that is too big is not told, because ICMP is filtered. The sender may still
    /// fragment.
    pub black_hole: bool,
    /// Packets of this IP version, 4 or 6, are dropped before they are on the wire.
    pub swallows: Option<u8>,
    /// The faults.
    pub faults: WireFaults,
}

/// How long the queue in front of a wire may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// A packet that would wait longer than this for its first bit to be sent is dropped.
    Time(Duration),
    /// A packet that would make more than this many bytes wait, what is left of the one being sent included, is
    /// dropped. An idle wire takes any packet.
    Bytes(u64),
}

impl WireConfig {
    /// A wire with this delay and otherwise perfect: no jitter, no loss, no limit of rate, an MTU of 1,500 bytes; if it
    /// is given a rate, a queue of 100 ms.
    pub const fn new(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            reorder: false,
            loss: 0.0,
            rate_bps: None,
            queue: QueueLimit::Time(Duration::from_millis(100)),
            mtu: 1500,
            black_hole: false,
            swallows: None,
            faults: WireFaults { burst_loss: None, outages: None, reorder: None, duplicate: 0.0, corrupt: 0.0 },
        }
    }

    /// Whether this can be simulated.
    pub fn check(&self) -> Result<(), WireError> {
        if self.delay < MIN_DELAY {
            return Err(WireError::DelayTooShort(self.delay));
        }
        if let Some(&time) = [self.delay, self.jitter].iter().find(|&&time| time > MAX_DELAY) {
            return Err(WireError::DelayTooLong(time));
        }
        if !(0.0..=1.0).contains(&self.loss) {
            return Err(WireError::Loss(self.loss));
        }
        if self.rate_bps == Some(0) {
            return Err(WireError::Rate);
        }
        if !(MIN_MTU..=usize::from(u16::MAX)).contains(&self.mtu) {
            return Err(WireError::Mtu(self.mtu));
        }
        self.faults.check()
    }
}

/// Why a packet that is sent does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WireDrop {
    /// The wire is down.
    Down,
    /// It is of the family that the wire drops.
    Swallowed,
    /// It is larger than the MTU.
    TooBig,
    /// The queue is full (drop-tail).
    QueueFull,
    /// It was put on the wire, and lost there.
    Lost,
}

/// Counters of one direction of a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets put on the wire, lost ones and duplicates included.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets that were overtaken on purpose ([`WireFaults::reorder`]).
    pub held_back: u64,
    /// Packets that were doubled ([`WireFaults::duplicate`]).
    pub duplicated: u64,
    /// Packets that were damaged ([`WireFaults::corrupt`]).
    pub corrupted: u64,
}

/// When a packet arrives, and its number among all that were put on this wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When its last bit has arrived.
    pub arrives: Instant,
    /// From 1; of two packets that arrive together, the one with the lower number is first.
    pub sequence: u64,
}

/// One direction of a wire.
pub struct Wire {
    /// Seed and name, for streams that are not needed yet.
    origin: (u64, String),
    config: WireConfig,
    /// `loss` × 2³².
    loss_threshold: u64,
    up: bool,
    /// When the last bit of the last packet has been sent.
    free: Instant,
    last_arrival: Instant,
    loss: ChaCha20Rng,
    jitter: ChaCha20Rng,
    /// The numbers of packets that are lost in addition to random loss.
    doomed: BTreeSet<u64>,
    faults: Option<Box<Faults>>,
    /// By name.
    paths: BTreeMap<String, Path>,
    traffic: Traffic,
}

impl Wire {
    /// `name` is unique in the network; with `seed` it determines what is lost and delayed.
    pub fn new(seed: u64, name: &str, config: WireConfig) -> Result<Self, WireError> {
        let mut wire = Self {
            origin: (seed, name.to_owned()),
            config,
            loss_threshold: 0,
            up: true,
            free: Instant::ZERO,
            last_arrival: Instant::ZERO,
            loss: seed::stream(seed, name, "wire loss"),
            jitter: seed::stream(seed, name, "wire jitter"),
            doomed: BTreeSet::new(),
            faults: None,
            paths: BTreeMap::new(),
            traffic: Traffic::default(),
        };
        wire.configure(config)?;
        Ok(wire)
    }

    /// Changes the settings for packets sent from now on. Packets in the queue keep their times.
    pub fn configure(&mut self, config: WireConfig) -> Result<(), WireError> {
        config.check()?;
        self.config = config;
        self.loss_threshold = threshold(config.loss);
        match &mut self.faults {
            Some(faults) => faults.config = config.faults,
            None if config.faults == WireFaults::default() => {}
            None => self.faults = Some(Box::new(Faults::new(self.origin.0, &self.origin.1, config.faults))),
        }
        Ok(())
    }

    /// Gives a path through this wire settings for packets sent from now on, or removes the path. `name` names the path
    /// on this wire.
    pub fn set_path(&mut self, name: &str, path: Option<PathConfig>) -> Result<(), WireError> {
        match (self.paths.get_mut(name), path) {
            (Some(known), path) => known.configure(path),
            (None, None) => Ok(()),
            (None, Some(path)) => {
                let (seed, wire) = &self.origin;
                let path = Path::new(*seed, &format!("{wire} to {name}"), path)?;
                self.paths.insert(name.to_owned(), path);
                Ok(())
            }
        }
    }

    /// Takes it down or up. Packets on the wire still arrive.
    pub fn set_up(&mut self, up: bool) {
        self.up = up;
    }

    /// Loses these packets too, given by their numbers in the order of sending, from 1.
    pub fn doom(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.doomed.extend(numbers);
    }

    /// How it behaves now.
    pub fn config(&self) -> &WireConfig {
        &self.config
    }

    /// Its counters so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends a packet. `deliver` gets every copy that will arrive, with its time of arrival. `tap` gets, for every
    /// packet that is put on the wire: when its last bit leaves; when, and as which bytes, it arrives, unless it is
    /// lost; and the packet.
    pub fn send(
        &mut self,
        now: Instant,
        packet: Vec<u8>,
        mut tap: impl FnMut(Instant, Option<(Instant, &[u8])>, &[u8]),
        mut deliver: impl FnMut(Passage, Vec<u8>),
    ) -> Result<(), WireDrop> {
        if self.paths.is_empty() {
            return self.carry(now, Duration::ZERO, packet, &mut tap, &mut deliver);
        }
        let (mut copies, mut lost) = (vec![(Duration::ZERO, packet)], WireDrop::Lost);
        for path in self.paths.values_mut() {
            for copy in std::mem::take(&mut copies) {
                if let Err(reason) = path.pass(now, copy, &mut copies) {
                    lost = reason;
                }
            }
        }
        // The packet counts as sent if one of its copies is.
        let mut fate = Err(lost);
        for (held, packet) in copies {
            let carried = self.carry(now, held, packet, &mut tap, &mut deliver);
            fate = if fate.is_ok() { fate } else { carried };
        }
        fate
    }

    /// Sends a packet that its path delays by this much.
    fn carry(
        &mut self,
        now: Instant,
        held: Duration,
        mut packet: Vec<u8>,
        mut tap: impl FnMut(Instant, Option<(Instant, &[u8])>, &[u8]),
        mut deliver: impl FnMut(Passage, Vec<u8>),
    ) -> Result<(), WireDrop> {
        if self.config.swallows.is_some_and(|version| packet.first().is_some_and(|byte| byte >> 4 == version)) {
            return Err(WireDrop::Swallowed);
        }
        let departs = self.enqueue(now, packet.len())?;
        let Some(arrives) = self.travel(departs).map(|arrives| arrives + held) else {
            tap(departs, None, &packet);
            self.put(packet.len());
            return Err(WireDrop::Lost);
        };
        let first = self.put(packet.len());
        let Some(faults) = &mut self.faults else {
            tap(departs, Some((arrives, &packet)), &packet);
            deliver(Passage { arrives, sequence: first }, packet);
            return Ok(());
        };
        let sent = packet.clone();
        let double = faults.doubles().then(|| {
            let mut double = packet.clone();
            self.traffic.corrupted += u64::from(faults.damages(&mut double));
            double
        });
        self.traffic.corrupted += u64::from(faults.damages(&mut packet));
        tap(departs, Some((arrives, &packet)), &sent);
        if let Some(double) = double {
            self.traffic.duplicated += 1;
            tap(departs, Some((arrives, &double)), &sent);
            let second = self.put(sent.len());
            deliver(Passage { arrives, sequence: second }, double);
        }
        deliver(Passage { arrives, sequence: first }, packet);
        Ok(())
    }

    /// Counts a packet on the wire; its number.
    fn put(&mut self, len: usize) -> u64 {
        self.traffic.packets += 1;
        self.traffic.bytes += len as u64;
        self.traffic.packets
    }

    /// When its last bit has been sent.
    fn enqueue(&mut self, now: Instant, len: usize) -> Result<Instant, WireDrop> {
        if !self.up {
            return Err(WireDrop::Down);
        }
        if len > self.config.mtu {
            return Err(WireDrop::TooBig);
        }
        let Some(rate) = self.config.rate_bps else { return Ok(now.max(self.free)) };
        let wait = self.free - now;
        let fits = match self.config.queue {
            QueueLimit::Time(limit) => wait <= limit,
            QueueLimit::Bytes(limit) => {
                let waiting = (wait.as_nanos() * u128::from(rate)).div_ceil(8_000_000_000);
                waiting == 0 || waiting + len as u128 <= u128::from(limit)
            }
        };
        if !fits {
            return Err(WireDrop::QueueFull);
        }
        let nanos = (len as u64 * 8_000_000_000).div_ceil(rate);
        self.free = now.max(self.free) + Duration::from_nanos(nanos);
        Ok(self.free)
    }

    /// When it arrives, if it is not lost.
    fn travel(&mut self, departs: Instant) -> Option<Instant> {
        let lost = self.loss_threshold > 0 && u64::from(self.loss.next_u32()) < self.loss_threshold;
        let lost = lost || self.doomed.contains(&(self.traffic.packets + 1));
        let mut arrives = departs + self.config.delay;
        if !self.config.jitter.is_zero() {
            let span = self.config.jitter.as_nanos() + 1;
            let nanos = (u128::from(self.jitter.next_u64()) * span) >> 64;
            arrives += Duration::from_nanos(nanos as u64);
        }
        // Every packet changes the state of bursts, even if it is lost otherwise.
        let lost = self.faults.as_mut().is_some_and(|faults| faults.loses(departs)) || lost;
        if lost {
            return None;
        }
        if !self.config.reorder {
            arrives = arrives.max(self.last_arrival);
        }
        self.last_arrival = self.last_arrival.max(arrives);
        if let Some(by) = self.faults.as_mut().and_then(|faults| faults.holds_back()) {
            self.traffic.held_back += 1;
            arrives += by;
        }
        Some(arrives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn wire(config: WireConfig) -> Wire {
        Wire::new(1, "a:0>b:0", config).unwrap()
    }

    fn send(wire: &mut Wire, now: Instant, len: usize) -> Result<Instant, WireDrop> {
        let mut arrived = None;
        wire.send(now, vec![0; len], |_, _, _| {}, |passage, _| arrived = Some(passage.arrives))?;
        Ok(arrived.unwrap())
    }

    fn arrivals(wire: &mut Wire, now: Instant, lens: &[usize]) -> Vec<Result<u64, WireDrop>> {
        lens.iter().map(|&len| send(wire, now, len).map(Instant::as_nanos)).collect()
    }

    #[test]
    fn packets_wait_for_each_other_at_the_rate_and_then_travel() {
        // 12 Mbit/s: 1,500 bytes take 1 ms, one byte 666 2/3 ns, rounded up.
        let mut wire = wire(WireConfig { rate_bps: Some(12_000_000), ..WireConfig::new(10 * MS) });
        let sent = arrivals(&mut wire, Instant::from_millis(5), &[1500, 1500, 1]);
        assert_eq!(sent, [Ok(16_000_000), Ok(17_000_000), Ok(17_000_667)]);
        assert_eq!(arrivals(&mut wire, Instant::from_millis(100), &[750]), [Ok(110_500_000)], "idle again");
    }

    #[test]
    fn a_queue_limited_in_time_drops_its_tail() {
        let queue = QueueLimit::Time(2 * MS);
        let mut wire = wire(WireConfig { rate_bps: Some(12_000_000), queue, ..WireConfig::new(MS) });
        let sent = arrivals(&mut wire, Instant::ZERO, &[1500; 5]);
        assert_eq!(sent.iter().flatten().count(), 3, "waits of 0, 1 and 2 ms are allowed");
        assert_eq!(sent[3..], [Err(WireDrop::QueueFull); 2]);
        assert!(arrivals(&mut wire, Instant::from_millis(1), &[1500])[0].is_ok());
    }

    #[test]
    fn a_queue_limited_in_bytes_counts_what_is_left_of_the_packet_on_the_wire() {
        let queue = QueueLimit::Bytes(3000);
        let mut wire = wire(WireConfig { rate_bps: Some(12_000_000), queue, ..WireConfig::new(MS) });
        assert_eq!(arrivals(&mut wire, Instant::ZERO, &[1500; 3]).iter().flatten().count(), 2);
        let half = Instant::from_nanos(500_000);
        assert!(arrivals(&mut wire, half, &[751])[0].is_err(), "2,250 bytes are left");
        assert!(arrivals(&mut wire, half, &[750])[0].is_ok());
        let tiny = WireConfig { queue: QueueLimit::Bytes(0), ..*wire.config() };
        wire.configure(tiny).unwrap();
        assert!(arrivals(&mut wire, Instant::from_millis(50), &[1500])[0].is_ok(), "an idle wire takes any");
    }

    #[test]
    fn too_big_and_sent_while_down_never_arrive_and_are_counted() {
        let mut wire = wire(WireConfig { mtu: 1280, ..WireConfig::new(MS) });
        assert_eq!(arrivals(&mut wire, Instant::ZERO, &[1280, 1281]), [Ok(1_000_000), Err(WireDrop::TooBig)]);
        wire.set_up(false);
        assert_eq!(arrivals(&mut wire, Instant::ZERO, &[100]), [Err(WireDrop::Down)]);
        wire.set_up(true);
        assert!(arrivals(&mut wire, Instant::ZERO, &[100])[0].is_ok());
        assert_eq!((wire.traffic().packets, wire.traffic().bytes), (2, 1380));
    }

    #[test]
    fn a_family_that_is_swallowed_is_counted_and_the_other_passes() {
        let mut wire = wire(WireConfig { swallows: Some(6), ..WireConfig::new(MS) });
        let sent = [4, 6].map(|version| wire.send(Instant::ZERO, vec![version << 4; 40], |_, _, _| {}, |_, _| {}));
        assert_eq!((sent, wire.traffic().packets), ([Ok(()), Err(WireDrop::Swallowed)], 1));
    }

    #[test]
    fn loss_is_as_likely_as_stated_and_the_same_again_for_the_same_seed_and_name() {
        let config = WireConfig { loss: 0.25, ..WireConfig::new(MS) };
        let run = |name| {
            let mut wire = Wire::new(9, name, config).unwrap();
            (0..10_000).map(|i| send(&mut wire, Instant::from_millis(i), 100).is_ok()).collect::<Vec<_>>()
        };
        let arrived = run("x").iter().filter(|&&ok| ok).count();
        assert!((7_300..7_700).contains(&arrived), "{arrived}");
        assert_eq!(run("x"), run("x"));
        assert_ne!(run("x"), run("y"));
        let always = WireConfig { loss: 1.0, ..config };
        assert_eq!(arrivals(&mut wire(always), Instant::ZERO, &[100; 50]), [Err(WireDrop::Lost); 50]);
    }

    #[test]
    fn a_doomed_packet_is_lost_by_its_number_and_no_other_is() {
        let mut wire = wire(WireConfig::new(MS));
        wire.doom([2, 4]);
        let arrived: Vec<_> = arrivals(&mut wire, Instant::ZERO, &[100; 5]).iter().map(Result::is_ok).collect();
        assert_eq!(arrived, [true, false, true, false, true]);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_reorders_only_where_allowed() {
        for reorder in [false, true] {
            let mut wire = wire(WireConfig { jitter: 5 * MS, reorder, ..WireConfig::new(2 * MS) });
            let step = Duration::from_micros(100);
            let sent: Vec<_> = (0..1000u32)
                .map(|i| {
                    let now = Instant::ZERO + step * i;
                    let arrives = send(&mut wire, now, 100).unwrap();
                    assert!((2 * MS..=7 * MS).contains(&(arrives - now)), "{:?}", arrives - now);
                    arrives
                })
                .collect();
            assert_eq!(sent.is_sorted(), !reorder);
        }
    }

    #[test]
    fn what_cannot_be_simulated_is_refused() {
        let good = WireConfig::new(MS);
        let micro = Duration::from_micros(999);
        for (config, error) in [
            (WireConfig { delay: micro, ..good }, WireError::DelayTooShort(micro)),
            (WireConfig { jitter: 2 * MAX_DELAY, ..good }, WireError::DelayTooLong(2 * MAX_DELAY)),
            (WireConfig { loss: 1.5, ..good }, WireError::Loss(1.5)),
            (WireConfig { rate_bps: Some(0), ..good }, WireError::Rate),
            (WireConfig { mtu: 67, ..good }, WireError::Mtu(67)),
        ] {
            assert_eq!(config.check(), Err(error));
        }
        assert!(WireConfig { loss: f64::NAN, ..good }.check().is_err());
        assert_eq!(good.check(), Ok(()));
    }
}
