//! Which checks a run of a soak gets, and in which share of the runs.

use cyphonic_scenarios::Scenario;

use super::generate::is_drill;

/// The checks of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a check of its own")]
pub struct Depth {
    /// Inspects every packet: I3, I8's secrets, I10.
    pub packets: bool,
    /// Attacks the network that the run leaves, and another network with an impostor: see `assault`.
    pub assault: bool,
    /// Includes a flood in the attacks.
    pub flood: bool,
    /// A second run must be the same.
    pub again: bool,
    /// A third run, on turmoil, must be the same.
    pub turmoil: bool,
    /// Demands, wrongly, that nothing is answered: to test that failures are caught and made small.
    pub broken: bool,
}

impl Depth {
    /// Everything.
    pub const FULL: Self =
        Self { packets: true, assault: true, flood: true, again: true, turmoil: true, broken: false };

    /// The checks of a seed: an assault on one drill in four, packets of these and of one run in eight, a second run
    /// for one in 32.
    ///
    /// Turmoil takes a hundred times as long, so it runs for one seed in 2,048, and only in small networks. Whether the
    /// engines agree depends on the kinds of boxes, of which every plan has some, and tests check it too. A flood is
    /// among the attacks of one drill in twelve: it loads only the tables of one node, so its result depends on a
    /// plan's method only.
    pub fn of(seed: u64, scenario: &Scenario) -> Self {
        let is_small = scenario.sites.len() + scenario.nodes.len() <= 6;
        let assault = is_drill(seed) && (seed / 7).is_multiple_of(4);
        Self {
            packets: seed.is_multiple_of(8) || assault,
            assault,
            flood: assault && (seed / 7).is_multiple_of(12),
            again: seed.is_multiple_of(32),
            turmoil: seed.is_multiple_of(2_048) && is_small,
            broken: false,
        }
    }
}
