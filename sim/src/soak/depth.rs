//! How closely the runs of a soak are looked at, and which share of the runs is looked at how closely.

use cyphonic_scenarios::Scenario;

use super::generate::is_drill;

/// How closely a run is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a check of its own")]
pub struct Depth {
    /// Looks into every packet: I3, I8's secrets, I10.
    pub packets: bool,
    /// Attacks the network that the run leaves, and another one that has an impostor in it: see `assault`.
    pub assault: bool,
    /// With a flood among the attacks.
    pub flood: bool,
    /// A second run must be the same.
    pub again: bool,
    /// And a third one, on turmoil.
    pub turmoil: bool,
    /// Demands, against all reason, that nothing at all is answered: to see that failures are caught and shrunk.
    pub broken: bool,
}

impl Depth {
    /// Everything.
    pub const FULL: Self =
        Self { packets: true, assault: true, flood: true, again: true, turmoil: true, broken: false };

    /// Of a seed of a soak: an assault on one drill in four, packets of these and of one in eight others, twice one in
    /// 32.
    ///
    /// Turmoil, which takes a hundred times as long, comes for one in 2,048, and only in small networks: that the
    /// engines agree depends on them and on the kinds of boxes, of which any plan has some, and tests hold them to it.
    /// A flood is among the attacks of one drill in twelve: it meets nothing but the tables of one node that hears from
    /// nobody, and so nothing of a plan but its method.
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
