//! One direction of a wire of the simulated network: the model of [`cyphonic_wire`], with a tap and counters.

use cyphonic_core::time::Instant;
use cyphonic_wire::{Passage, PathConfig, Wire as Model, WireConfig, WireDrop, WireError};

use super::tap::{Tap, TapMode, TapSummary, Tapped};
use super::{Drops, NetDrop};

/// What one direction of a wire has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireStats {
    /// Packets put on the wire, lost ones and duplicates included.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets dropped, by reason.
    pub drops: Drops,
    /// Packets that were overtaken on purpose ([`WireFaults::reorder`](cyphonic_wire::WireFaults::reorder)).
    pub held_back: u64,
    /// Packets that were doubled ([`WireFaults::duplicate`](cyphonic_wire::WireFaults::duplicate)).
    pub duplicated: u64,
    /// Packets that were damaged ([`WireFaults::corrupt`](cyphonic_wire::WireFaults::corrupt)).
    pub corrupted: u64,
}

/// One direction of a wire.
pub(super) struct Wire {
    model: Model,
    drops: Drops,
    tap: Tap,
}

impl Wire {
    /// `name` is unique in the network. Together with `seed` it determines loss and delay.
    pub(super) fn new(seed: u64, name: &str, config: WireConfig, tap: TapMode) -> Result<Self, WireError> {
        Ok(Self { model: Model::new(seed, name, config)?, drops: Drops::default(), tap: Tap::new(tap) })
    }

    /// Changes the behaviour for packets sent from now on. Packets in the queue keep their times.
    pub(super) fn configure(&mut self, config: WireConfig) -> Result<(), WireError> {
        self.model.configure(config)
    }

    /// Gives a path through the wire its own behaviour, or takes it away.
    pub(super) fn set_path(&mut self, name: &str, path: Option<PathConfig>) -> Result<(), WireError> {
        self.model.set_path(name, path)
    }

    pub(super) fn set_up(&mut self, up: bool) {
        self.model.set_up(up);
    }

    /// Loses these packets too, given by their numbers in the order of sending, from 1.
    pub(super) fn doom(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.model.doom(numbers);
    }

    pub(super) fn config(&self) -> &WireConfig {
        self.model.config()
    }

    pub(super) fn stats(&self) -> WireStats {
        let traffic = self.model.traffic();
        WireStats {
            packets: traffic.packets,
            bytes: traffic.bytes,
            drops: self.drops.clone(),
            held_back: traffic.held_back,
            duplicated: traffic.duplicated,
            corrupted: traffic.corrupted,
        }
    }

    pub(super) fn tap_summary(&self) -> TapSummary {
        self.tap.summary()
    }

    pub(super) fn tapped(&self) -> &[Tapped] {
        self.tap.kept()
    }

    pub(super) fn take_tapped(&mut self) -> Vec<Tapped> {
        self.tap.take()
    }

    /// Sends a packet. `deliver` gets every copy that will arrive, with its time of arrival.
    pub(super) fn send(&mut self, now: Instant, packet: Vec<u8>, deliver: impl FnMut(Passage, Vec<u8>)) {
        let tap = |departs, arrives: Option<(Instant, &[u8])>, packet: &[u8]| self.tap.record(departs, arrives, packet);
        if let Err(reason) = self.model.send(now, packet, tap, deliver) {
            self.drops.count(named(reason));
        }
    }
}

/// The network's name for a wire's reason.
fn named(reason: WireDrop) -> NetDrop {
    match reason {
        WireDrop::Down => NetDrop::WireDown,
        WireDrop::Swallowed => NetDrop::Swallowed,
        WireDrop::TooBig => NetDrop::TooBig,
        WireDrop::QueueFull => NetDrop::QueueFull,
        WireDrop::Lost => NetDrop::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_does_not_arrive_is_counted_by_its_reason_and_what_was_on_the_wire_is_tapped() {
        let config = WireConfig { mtu: 1280, swallows: Some(6), ..WireConfig::new(Duration::from_millis(1)) };
        let mut wire = Wire::new(1, "a:0>b:0", config, TapMode::Keep).unwrap();
        wire.doom([2]);
        let mut send = |packet: &[u8]| {
            let mut arrived = 0;
            wire.send(Instant::ZERO, packet.to_vec(), |_, _| arrived += 1);
            arrived
        };
        let sent = [send(&[0x40; 40]), send(&[0x40; 41]), send(&[0x60; 40]), send(&[0x40; 1281])];
        assert_eq!(sent, [1, 0, 0, 0]);
        let stats = wire.stats();
        assert_eq!((stats.packets, stats.bytes), (2, 81));
        let expected = [(NetDrop::Lost, 1), (NetDrop::Swallowed, 1), (NetDrop::TooBig, 1)];
        assert_eq!(stats.drops.iter().collect::<Vec<_>>(), expected);
        let fates: Vec<_> = wire.take_tapped().iter().map(|seen| seen.arrives.is_some()).collect();
        assert_eq!(fates, [true, false]);
    }
}
