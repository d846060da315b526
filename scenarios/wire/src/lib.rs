//! How the links of a scenario treat packets: the model that the simulated network and the impairment router of the
//! network namespaces share, so that a link behaves the same in both.
//!
//! A [`Wire`] is one direction of a link, as a pure function of packets and time: it computes whether, and when, a
//! packet arrives. All randomness comes from seeded streams ([`seed`]). [`of_way`] makes a wire from the words of a
//! scenario.

mod faults;
mod limits;
pub mod seed;
mod wire;

use std::time::Duration;

use cyphonic_scenarios::{BurstLoss as BurstWords, Family, Outages as OutageWords, Queue, Way};

pub use faults::{BurstLoss, Outages, Reorder, WireFaults};
pub use limits::{MAX_DELAY, MIN_DELAY, MIN_MTU, WireError};
pub use wire::{Faces, Passage, PathConfig, QueueLimit, Traffic, Wire, WireConfig, WireDrop};

/// The wire of one direction of a link. `spent` is the part of its delay that other wires on the same path have
/// already.
pub fn of_way(way: &Way, spent: Duration, broken: Option<Family>) -> WireConfig {
    WireConfig {
        delay: way.delay.saturating_sub(spent).max(MIN_DELAY),
        jitter: way.jitter,
        loss: way.loss,
        rate_bps: way.rate_bps,
        queue: match way.queue {
            Queue::Time(time) => QueueLimit::Time(time),
            Queue::Bytes(bytes) => QueueLimit::Bytes(bytes),
        },
        mtu: usize::from(way.mtu),
        black_hole: way.black_hole,
        swallows: broken.map(|family| match family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        }),
        faults: faults_of(way),
        ..WireConfig::new(MIN_DELAY)
    }
}

/// The settings of a path. [`MIN_DELAY`] is added to its delay and stands for no delay.
pub fn of_path(way: &Way) -> WireConfig {
    WireConfig { delay: way.delay + MIN_DELAY, mtu: usize::from(u16::MAX), ..of_way(way, Duration::ZERO, None) }
}

fn faults_of(way: &Way) -> WireFaults {
    let burst = |burst: BurstWords| BurstLoss {
        enter: burst.enter,
        leave: burst.leave,
        loss_good: burst.loss_good,
        loss_bad: burst.loss_bad,
    };
    WireFaults {
        burst_loss: way.burst_loss.map(burst),
        outages: way.outages.map(|OutageWords { every, lasts, loss }| Outages { every, lasts, loss }),
        reorder: (way.reorder > 0.0).then_some(Reorder { probability: way.reorder, by: way.reorder_by }),
        duplicate: way.duplicate,
        corrupt: way.corrupt,
    }
}
