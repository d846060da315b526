//! What the model demands across a link, by each key of the link.
//!
//! All keys are destructured by name. With a new key this file does not compile until it says whether delivery can be
//! demanded across such a link.

use std::time::Duration;

use cyphonic_scenarios::{Link, Way};

/// The longest one-way delay, jitter included, across which delivery is demanded.
const FAST: Duration = Duration::from_millis(250);

/// Whether a path does not impair its packets.
pub(super) fn is_clear(way: &Way) -> bool {
    is_faultless(way) && way.duplicate == 0.0 && (way.delay + way.jitter).is_zero()
}

/// Whether a link loses nothing and is fast enough for all traffic of scenarios.
pub(super) fn is_good(link: &Link) -> bool {
    [&link.up, &link.down].into_iter().all(|way| is_faultless(way) && way.delay + way.jitter <= FAST)
}

/// Whether no packet is lost, damaged, reordered or delayed by a rate.
fn is_faultless(way: &Way) -> bool {
    let &Way {
        loss,
        rate_bps,
        burst_loss,
        outages,
        reorder,
        corrupt,
        black_hole,
        // The caller has a bound for the delay.
        delay: _,
        jitter: _,
        // Every receiver recognises duplicates. `trouble` checks for them where each packet counts.
        duplicate: _,
        // Details of `rate_bps` and `reorder`.
        queue: _,
        reorder_by: _,
        // Nodes discover the MTU; `permits_large` says where they cannot.
        mtu: _,
    } = way;
    let chances = [loss, reorder, corrupt];
    chances.iter().all(|chance| *chance == 0.0)
        && rate_bps.is_none()
        && burst_loss.is_none()
        && outages.is_none()
        && !black_hole
}
