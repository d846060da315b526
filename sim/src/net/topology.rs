//! The topology: boxes, and the wires between them.
//!
//! A [`NetworkBuilder`] collects them; it builds a [`Network`], which either engine runs. Between runs, the network's
//! state can be read from it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::engine::runner::{Lane, Runner};
use super::engine::{MAX_EVENTS_PER_SECOND, Storm};
use super::wire::Wire;
use super::{NetBox, PathConfig, TapMode, TapSummary, Tapped, WireConfig, WireError, WireStats, forward};

/// The most interfaces a box may have.
pub const MAX_INTERFACES: usize = 1 << 16;

/// Names a box of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoxId(pub(super) usize);

/// Names a wire of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireId(usize);

/// Names one direction of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// The wire.
    pub wire: WireId,
    /// From the end that was given second to the one given first.
    pub backward: bool,
}

impl Direction {
    /// The other direction of the same wire.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { backward: !self.backward, ..self }
    }
}

impl WireId {
    /// From the end given first to the end given second.
    pub fn forward(self) -> Direction {
        Direction { wire: self, backward: false }
    }

    /// From the end given second to the end given first.
    pub fn backward(self) -> Direction {
        Direction { wire: self, backward: true }
    }

    /// Both directions.
    pub fn both(self) -> [Direction; 2] {
        [self.forward(), self.backward()]
    }
}

/// Why boxes and wires are not a network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TopologyError {
    /// Two boxes have one name. Names seed the wires' random numbers, so they have to be unique.
    #[error("there are two boxes named {0:?}")]
    DuplicateName(String),
    /// The box belongs to another builder.
    #[error("a wire ends at a box that this network does not have")]
    UnknownBox,
    /// Two wires end at one interface.
    #[error("interface {iface} of {name:?} has a wire already")]
    InterfaceTaken {
        /// The box.
        name: String,
        /// Its interface.
        iface: usize,
    },
    /// An interface number of [`MAX_INTERFACES`] or more.
    #[error("interface {iface} of {name:?} is beyond the last, {}", MAX_INTERFACES - 1)]
    InterfaceNumber {
        /// The box.
        name: String,
        /// Its interface.
        iface: usize,
    },
    /// Both ends of a wire are at one box.
    #[error("a wire leads from {0:?} back to itself")]
    Loop(String),
    /// The wire's behaviour cannot be simulated.
    #[error("the wire {name}: {error}")]
    Wire {
        /// The direction, as `alice:0>nat:1`.
        name: String,
        /// What is wrong with it.
        error: WireError,
    },
}

/// A box and one of its interfaces.
type End = (BoxId, usize);

/// Collects boxes and wires.
pub struct NetworkBuilder {
    seed: u64,
    tap: TapMode,
    most_events: u64,
    boxes: Vec<(String, Box<dyn NetBox>)>,
    wires: Vec<([End; 2], [WireConfig; 2])>,
}

impl NetworkBuilder {
    /// An empty network. The seed and a wire's name determine the loss and jitter of the wire.
    pub fn new(seed: u64) -> Self {
        Self { seed, tap: TapMode::Off, most_events: MAX_EVENTS_PER_SECOND, boxes: Vec::new(), wires: Vec::new() }
    }

    /// Taps every wire; off by default.
    pub fn tap(&mut self, mode: TapMode) -> &mut Self {
        self.tap = mode;
        self
    }

    /// The number of events in a second above which a box is stopped; [`MAX_EVENTS_PER_SECOND`] by default.
    pub fn most_events(&mut self, most: u64) -> &mut Self {
        self.most_events = most;
        self
    }

    /// Adds a box. Its name is unique and enters the names of its wires.
    pub fn add_box(&mut self, name: impl Into<String>, netbox: Box<dyn NetBox>) -> BoxId {
        self.boxes.push((name.into(), netbox));
        BoxId(self.boxes.len() - 1)
    }

    /// Adds a wire between two interfaces, with its behaviour from `a` to `b` and from `b` to `a`.
    pub fn add_wire(&mut self, a: (BoxId, usize), b: (BoxId, usize), there: WireConfig, back: WireConfig) -> WireId {
        self.wires.push(([a, b], [there, back]));
        WireId(self.wires.len() - 1)
    }

    /// Builds the network, and sets the MTU of every box's wires.
    pub fn build(self) -> Result<Network, TopologyError> {
        let mut names = BTreeSet::new();
        if let Some((name, _)) = self.boxes.iter().find(|(name, _)| !names.insert(name)) {
            return Err(TopologyError::DuplicateName(name.clone()));
        }
        let mut runners: Vec<_> = self.boxes.into_iter().map(|(name, netbox)| Runner::new(name, netbox)).collect();
        for runner in &mut runners {
            runner.set_most_events(self.most_events);
        }
        let mut ends = Vec::new();
        for ([a, b], [there, back]) in self.wires {
            for (from, to, config) in [(a, b, there), (b, a, back)] {
                connect(&mut runners, self.seed, self.tap, from, to, config)?;
            }
            ends.push([a, b]);
        }
        Ok(Network { runners: runners.into_iter().map(|runner| Rc::new(RefCell::new(runner))).collect(), ends })
    }
}

fn connect(
    runners: &mut [Runner],
    seed: u64,
    tap: TapMode,
    (from, iface): End,
    (to, to_iface): End,
    config: WireConfig,
) -> Result<(), TopologyError> {
    let to_name = runners.get(to.0).ok_or(TopologyError::UnknownBox)?.name().to_owned();
    let runner = runners.get_mut(from.0).ok_or(TopologyError::UnknownBox)?;
    let name = runner.name().to_owned();
    if from == to {
        return Err(TopologyError::Loop(name));
    }
    if iface >= MAX_INTERFACES {
        return Err(TopologyError::InterfaceNumber { name, iface });
    }
    if runner.lane(iface).is_some() {
        return Err(TopologyError::InterfaceTaken { name, iface });
    }
    let wire_name = format!("{name}:{iface}>{to_name}:{to_iface}");
    let wire = Wire::new(seed, &wire_name, config, tap)
        .map_err(|error| TopologyError::Wire { name: wire_name.clone(), error })?;
    runner.attach(iface, Lane { name: wire_name, wire, to: to.0, to_iface: to_iface as u32 });
    forward::tell_mtu(runner.netbox_mut(), iface, &config);
    Ok(())
}

/// Boxes joined by wires, ready to be run by an engine.
pub struct Network {
    /// Every box with its wires. A `BoxId` is an index here.
    pub(super) runners: Vec<Rc<RefCell<Runner>>>,
    ends: Vec<[End; 2]>,
}

impl Network {
    /// Every box, in the order of addition.
    pub fn boxes(&self) -> impl Iterator<Item = BoxId> + use<> {
        (0..self.runners.len()).map(BoxId)
    }

    /// The name of a box.
    pub fn box_name(&self, id: BoxId) -> String {
        self.runners[id.0].borrow().name().to_owned()
    }

    /// Every direction of every wire, in the order of addition, forward before backward.
    pub fn directions(&self) -> impl Iterator<Item = Direction> + use<> {
        (0..self.ends.len()).flat_map(|i| WireId(i).both())
    }

    /// The box and interface that send, and those that receive.
    pub fn ends(&self, direction: Direction) -> [(BoxId, usize); 2] {
        let [a, b] = self.ends[direction.wire.0];
        if direction.backward { [b, a] } else { [a, b] }
    }

    /// The name of a direction: `alice:0>nat:1`.
    pub fn wire_name(&self, direction: Direction) -> String {
        self.with_lane(direction, |lane| lane.name.clone())
    }

    /// How a direction behaves now.
    pub fn wire_config(&self, direction: Direction) -> WireConfig {
        self.with_lane(direction, |lane| *lane.wire.config())
    }

    /// What a direction has done so far.
    pub fn wire_stats(&self, direction: Direction) -> WireStats {
        self.with_lane(direction, |lane| lane.wire.stats())
    }

    /// What the tap of a direction has seen so far.
    pub fn tap_summary(&self, direction: Direction) -> TapSummary {
        self.with_lane(direction, |lane| lane.wire.tap_summary())
    }

    /// What all taps have seen so far, by the names of their directions. Equal for two runs that were the same.
    pub fn taps(&self) -> BTreeMap<String, TapSummary> {
        self.directions().map(|direction| (self.wire_name(direction), self.tap_summary(direction))).collect()
    }

    /// The packets that the tap of a direction kept since the last call.
    pub fn take_tapped(&self, direction: Direction) -> Vec<Tapped> {
        self.with_lane(direction, |lane| lane.wire.take_tapped())
    }

    /// How many packets the tap of a direction keeps now.
    pub fn tapped_len(&self, direction: Direction) -> usize {
        self.with_lane(direction, |lane| lane.wire.tapped().len())
    }

    /// Copies of the packets that the tap of a direction keeps, from this one on: the tap keeps them.
    pub fn tapped_from(&self, direction: Direction, first: usize) -> Vec<Tapped> {
        self.with_lane(direction, |lane| lane.wire.tapped().get(first..).unwrap_or_default().to_vec())
    }

    /// As [`Self::take_tapped`], of every direction.
    pub fn take_all_tapped(&self) -> BTreeMap<Direction, Vec<Tapped>> {
        self.directions().map(|direction| (direction, self.take_tapped(direction))).collect()
    }

    /// Packets that arrived at any box so far: the hops made.
    pub fn hops(&self) -> u64 {
        self.runners.iter().map(|runner| runner.borrow().packets()).sum()
    }

    /// Timeouts of all boxes so far.
    pub fn timeouts(&self) -> u64 {
        self.runners.iter().map(|runner| runner.borrow().timeouts()).sum()
    }

    /// The first box that was stopped, if any was. Results after that are meaningless.
    pub fn storm(&self) -> Option<Storm> {
        let storms = self.runners.iter().filter_map(|runner| runner.borrow().storm().cloned());
        storms.min_by_key(|storm| storm.at)
    }

    /// Packets that a box sent out of an interface without a wire.
    pub fn unwired(&self, id: BoxId) -> u64 {
        self.runners[id.0].borrow().unwired()
    }

    /// Loses these packets of a direction, in addition to its random loss. They are given by their numbers in the order
    /// of sending, from 1.
    pub fn doom(&self, direction: Direction, numbers: impl IntoIterator<Item = u64>) {
        self.with_lane(direction, |lane| lane.wire.doom(numbers));
    }

    pub(super) fn set_wire(&self, direction: Direction, config: WireConfig) -> Result<(), WireError> {
        self.with_lane(direction, |lane| lane.wire.configure(config))?;
        let [(sender, iface), _] = self.ends(direction);
        forward::tell_mtu(self.runners[sender.0].borrow_mut().netbox_mut(), iface, &config);
        Ok(())
    }

    pub(super) fn set_path(&self, direction: Direction, name: &str, path: Option<PathConfig>) -> Result<(), WireError> {
        self.with_lane(direction, |lane| lane.wire.set_path(name, path))
    }

    pub(super) fn set_wire_up(&self, direction: Direction, up: bool) {
        self.with_lane(direction, |lane| lane.wire.set_up(up));
    }

    fn with_lane<R>(&self, direction: Direction, f: impl FnOnce(&mut Lane) -> R) -> R {
        let [(sender, iface), _] = self.ends(direction);
        let mut runner = self.runners[sender.0].borrow_mut();
        f(runner.lane_mut(iface).expect("every wire has its lanes"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::{Router, Routes};

    fn router() -> Box<dyn NetBox> {
        Box::new(Router::new(Routes::new(), Vec::new()))
    }

    fn build(f: impl FnOnce(&mut NetworkBuilder, BoxId, BoxId)) -> Result<Network, TopologyError> {
        let mut builder = NetworkBuilder::new(1);
        let (a, b) = (builder.add_box("a", router()), builder.add_box("b", router()));
        f(&mut builder, a, b);
        builder.build()
    }

    #[test]
    fn impossible_networks_are_refused() {
        let wire = WireConfig::new(Duration::from_millis(1));
        let short = WireConfig::new(Duration::from_micros(1));
        let name = || "a".to_owned();
        let refused = |f: fn(&mut NetworkBuilder, BoxId, BoxId, [WireConfig; 2])| {
            build(|builder, a, b| f(builder, a, b, [wire, short])).err().unwrap()
        };
        assert_eq!(
            refused(|n, _, _, _| {
                n.add_box("a", router());
            }),
            TopologyError::DuplicateName(name())
        );
        assert_eq!(
            refused(|n, a, _, [w, _]| {
                n.add_wire((a, 0), (a, 1), w, w);
            }),
            TopologyError::Loop(name())
        );
        assert_eq!(
            refused(|n, a, b, [w, _]| {
                n.add_wire((a, 0), (b, 0), w, w);
                n.add_wire((b, 1), (a, 0), w, w);
            }),
            TopologyError::InterfaceTaken { name: name(), iface: 0 }
        );
        assert_eq!(
            refused(|n, a, b, [w, _]| {
                n.add_wire((a, MAX_INTERFACES), (b, 0), w, w);
            }),
            TopologyError::InterfaceNumber { name: name(), iface: MAX_INTERFACES }
        );
        assert_eq!(
            refused(|n, a, _, [w, _]| {
                n.add_wire((a, 0), (BoxId(9), 0), w, w);
            }),
            TopologyError::UnknownBox
        );
        let error = refused(|n, a, b, [w, short]| {
            n.add_wire((a, 0), (b, 3), w, short);
        });
        assert_eq!(error.to_string(), "the wire b:3>a:0: a delay of 1µs is too short: at least 1ms");
    }

    #[test]
    fn directions_have_ends_and_names() {
        let wire = WireConfig::new(Duration::from_millis(1));
        let network = build(|builder, a, b| {
            builder.add_wire((a, 0), (b, 3), wire, WireConfig { mtu: 1280, ..wire });
        })
        .unwrap();
        let [there, back] = WireId(0).both();
        assert_eq!(network.directions().collect::<Vec<_>>(), [there, back]);
        assert_eq!((network.wire_name(there).as_str(), network.wire_name(back).as_str()), ("a:0>b:3", "b:3>a:0"));
        assert_eq!(network.wire_config(back).mtu, 1280);
        assert_eq!(network.ends(back), [(BoxId(1), 3), (BoxId(0), 0)]);
    }
}
