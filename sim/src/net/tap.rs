//! A tap on one direction of a wire. It records the packets on it, when they were sent, and whether they arrived.
//!
//! It is behind the queue, so it sees lost packets but not packets that the queue dropped.

use cyphonic_core::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// What a tap does with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapMode {
    /// It is off, and costs nothing.
    #[default]
    Off,
    /// Counts and digests them.
    Digest,
    /// Counts, digests and keeps them.
    Keep,
}

/// What a tap has seen. Two runs with equal summaries had equal packets at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapSummary {
    /// Packets seen.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// XXH3 in 128 bits, big-endian, over, for each packet: departure, arrival (all ones if lost), both in nanoseconds
    /// and 8 bytes, its length in 8 bytes, and itself. All big-endian.
    pub digest: [u8; 16],
}

/// A packet that a tap kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// When its last bit was put on the wire.
    pub departs: Instant,
    /// When it arrives; `None` if it was lost.
    pub arrives: Option<Instant>,
    /// The IP packet, as it was sent.
    pub packet: Vec<u8>,
    /// The packet as it arrives, if it is damaged on the way.
    pub damaged: Option<Box<[u8]>>,
}

impl Tapped {
    /// When it arrives, and the packet as it arrives; `None` if it was lost.
    pub fn arrival(&self) -> Option<(Instant, &[u8])> {
        Some((self.arrives?, self.damaged.as_deref().unwrap_or(&self.packet)))
    }
}

pub(super) enum Tap {
    Off,
    On(Box<Recorder>),
}

pub(super) struct Recorder {
    packets: u64,
    bytes: u64,
    digest: Xxh3,
    kept: Option<Vec<Tapped>>,
}

impl Tap {
    pub(super) fn new(mode: TapMode) -> Self {
        let kept = match mode {
            TapMode::Off => return Self::Off,
            TapMode::Digest => None,
            TapMode::Keep => Some(Vec::new()),
        };
        Self::On(Box::new(Recorder { packets: 0, bytes: 0, digest: Xxh3::new(), kept }))
    }

    pub(super) fn record(&mut self, departs: Instant, arrival: Option<(Instant, &[u8])>, packet: &[u8]) {
        let Self::On(tap) = self else { return };
        tap.packets += 1;
        tap.bytes += packet.len() as u64;
        let arrives = arrival.map(|(at, _)| at);
        let mut head = [0; 24];
        head[..8].copy_from_slice(&departs.as_nanos().to_be_bytes());
        head[8..16].copy_from_slice(&arrives.map_or(u64::MAX, Instant::as_nanos).to_be_bytes());
        head[16..].copy_from_slice(&(packet.len() as u64).to_be_bytes());
        tap.digest.update(&head);
        tap.digest.update(packet);
        if let Some(kept) = &mut tap.kept {
            let damaged = arrival.filter(|(_, arrived)| *arrived != packet).map(|(_, arrived)| arrived.into());
            kept.push(Tapped { departs, arrives, packet: packet.to_vec(), damaged });
        }
    }

    /// The summary so far; empty for a tap that is off.
    pub(super) fn summary(&self) -> TapSummary {
        let (packets, bytes, digest) = match self {
            Self::Off => (0, 0, Xxh3::new().digest128()),
            Self::On(tap) => (tap.packets, tap.bytes, tap.digest.digest128()),
        };
        TapSummary { packets, bytes, digest: digest.to_be_bytes() }
    }

    /// The packets kept since the last [`Self::take`]; they stay here.
    pub(super) fn kept(&self) -> &[Tapped] {
        match self {
            Self::On(tap) => tap.kept.as_deref().unwrap_or_default(),
            Self::Off => &[],
        }
    }

    /// The packets kept since the last call, in the order in which they were sent.
    pub(super) fn take(&mut self) -> Vec<Tapped> {
        match self {
            Self::On(tap) => tap.kept.as_mut().map(std::mem::take).unwrap_or_default(),
            Self::Off => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(records: &[(u64, Option<u64>, &[u8])]) -> TapSummary {
        let mut tap = Tap::new(TapMode::Digest);
        for &(departs, arrives, packet) in records {
            let arrival = arrives.map(|at| (Instant::from_nanos(at), packet));
            tap.record(Instant::from_nanos(departs), arrival, packet);
        }
        assert!(tap.take().is_empty());
        tap.summary()
    }

    #[test]
    fn the_digest_covers_times_fate_and_bytes() {
        let base = summary(&[(1, Some(2), b"ab")]);
        assert_eq!(base, summary(&[(1, Some(2), b"ab")]));
        for other in [(3, Some(2), b"ab"), (1, Some(3), b"ab"), (1, None, b"ab"), (1, Some(2), b"ac")] {
            assert_ne!(base.digest, summary(&[(other.0, other.1, other.2)]).digest);
        }
    }

    #[test]
    fn kept_packets_are_handed_out_once_and_an_idle_tap_has_none() {
        let mut tap = Tap::new(TapMode::Keep);
        let arrives = Instant::from_nanos(2);
        let fates: [Option<(Instant, &[u8])>; 3] = [None, Some((arrives, b"abc")), Some((arrives, b"abd"))];
        for arrival in fates {
            tap.record(Instant::from_nanos(1), arrival, b"abc");
        }
        let kept = tap.take();
        assert!(kept.iter().all(|seen| (seen.departs, &seen.packet[..]) == (Instant::from_nanos(1), b"abc")));
        assert_eq!(kept.iter().map(Tapped::arrival).collect::<Vec<_>>(), fates);
        assert!(tap.take().is_empty());
        assert_eq!((tap.summary().packets, tap.summary().bytes), (3, 9));
        let mut off = Tap::new(TapMode::Off);
        off.record(Instant::ZERO, None, b"abc");
        assert_eq!(off.summary().packets, 0);
    }
}
