//! What the model makes of each word about a link.
//!
//! Every key is taken apart by name: a new one does not compile until it is said here whether anything can be demanded
//! across such a link.

use std::time::Duration;

use cyphonic_scenarios::{Link, Way};

/// The longest one-way delay across which anything is demanded, jitter included.
const FAST: Duration = Duration::from_millis(250);

/// Whether a path does nothing beside its link.
pub(super) fn is_clear(way: &Way) -> bool {
    is_faultless(way) && way.duplicate == 0.0 && (way.delay + way.jitter).is_zero()
}

/// Whether a link loses nothing and is fast enough for whatever scenarios send.
pub(super) fn is_good(link: &Link) -> bool {
    [&link.up, &link.down].into_iter().all(|way| is_faultless(way) && way.delay + way.jitter <= FAST)
}

/// Whether nothing is lost, damaged, overtaken or slowed down.
fn is_faultless(way: &Way) -> bool {
    let &Way {
        loss,
        rate_bps,
        burst_loss,
        outages,
        reorder,
        corrupt,
        black_hole,
        // Each has its own bound, by where it is.
        delay: _,
        jitter: _,
        // Every receiver knows a duplicate; where each packet counts, `trouble` looks for them.
        duplicate: _,
        // Of a rate or a fault that is there.
        queue: _,
        reorder_by: _,
        // Nodes find it out; `permits_large` says where they cannot.
        mtu: _,
    } = way;
    let chances = [loss, reorder, corrupt];
    chances.iter().all(|chance| *chance == 0.0)
        && rate_bps.is_none()
        && burst_loss.is_none()
        && outages.is_none()
        && !black_hole
}
