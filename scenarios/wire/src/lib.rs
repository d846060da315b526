//! How the links of a scenario treat packets: the model that the simulated network and the impairment router of the
//! network namespaces share, so that a link is the same link in both.
//!
//! A [`Wire`] is one direction of a link, pure: a packet and the time go in, and it says when, and whether, the packet
//! arrives. All randomness comes from seeded streams ([`seed`]). [`of_way`] makes a wire from the words of a scenario.

mod faults;
mod limits;
pub mod seed;
mod wire;

use std::time::Duration;

use cyphonic_scenarios::{Family, Queue, Way};

pub use faults::{BurstLoss, Reorder, WireFaults};
pub use limits::{MAX_DELAY, MIN_DELAY, MIN_MTU, WireError};
pub use wire::{Passage, QueueLimit, Traffic, Wire, WireConfig, WireDrop};

/// One direction of a link, less what other wires on the same way already take of its delay.
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
        faults: WireFaults {
            burst_loss: way.burst_loss.map(|burst| BurstLoss {
                enter: burst.enter,
                leave: burst.leave,
                loss_good: burst.loss_good,
                loss_bad: burst.loss_bad,
            }),
            reorder: (way.reorder > 0.0).then_some(Reorder { probability: way.reorder, by: way.reorder_by }),
            duplicate: way.duplicate,
            corrupt: way.corrupt,
        },
        ..WireConfig::new(MIN_DELAY)
    }
}
