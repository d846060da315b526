//! Paths through a wire: packets to or from one far end have additional settings.
//!
//! A path acts beyond the wire, in the core. A packet that the path loses was never on the wire. A packet that it
//! delays arrives later by that much. So a path delays and loses nothing but its own packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use ipnet::IpNet;

use super::{Passage, Wire, WireConfig, WireDrop};
use crate::limits::{MIN_DELAY, WireError};

/// The packets of a path, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PathConfig {
    /// Every address of the far end.
    pub far: Vec<IpNet>,
    /// The position of the far end's address in a packet.
    pub faces: Faces,
    /// Its settings. A delay of [`MIN_DELAY`] stands for no delay.
    pub config: WireConfig,
}

/// The position of a far end's address in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faces {
    /// As its destination: packets go there.
    Destination,
    /// As its source: packets come from there.
    Source,
}

/// A path and its state.
pub(super) struct Path {
    far: Vec<IpNet>,
    faces: Faces,
    wire: Wire,
    is_on: bool,
}

impl Path {
    /// `name` is unique in the network.
    pub(super) fn new(seed: u64, name: &str, path: PathConfig) -> Result<Self, WireError> {
        let PathConfig { far, faces, config } = path;
        Ok(Self { far, faces, wire: Wire::new(seed, name, config)?, is_on: true })
    }

    /// Changes the settings for packets sent from now on; `None` removes them.
    pub(super) fn configure(&mut self, path: Option<PathConfig>) -> Result<(), WireError> {
        self.is_on = path.is_some();
        let Some(PathConfig { far, faces, config }) = path else { return Ok(()) };
        (self.far, self.faces) = (far, faces);
        self.wire.configure(config)
    }

    fn concerns(&self, packet: &[u8]) -> bool {
        let end = ends(packet).map(|[source, destination]| match self.faces {
            Faces::Source => source,
            Faces::Destination => destination,
        });
        self.is_on && end.is_some_and(|end| self.far.iter().any(|prefix| prefix.contains(&end)))
    }

    /// The fate of a packet: each copy with its additional delay.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        (held, packet): (Duration, Vec<u8>),
        passed: &mut Vec<(Duration, Vec<u8>)>,
    ) -> Result<(), WireDrop> {
        if !self.concerns(&packet) {
            passed.push((held, packet));
            return Ok(());
        }
        let deliver = |passage: Passage, packet| {
            passed.push((held + ((passage.arrives - now).saturating_sub(MIN_DELAY)), packet));
        };
        self.wire.send(now, packet, |_, _, _| {}, deliver)
    }
}

/// Source and destination of an IP packet.
fn ends(packet: &[u8]) -> Option<[IpAddr; 2]> {
    match packet.first()? >> 4 {
        4 => {
            let (source, rest) = packet.get(12..)?.split_first_chunk::<4>()?;
            Some([Ipv4Addr::from(*source).into(), Ipv4Addr::from(*rest.first_chunk::<4>()?).into()])
        }
        6 => {
            let (source, rest) = packet.get(8..)?.split_first_chunk::<16>()?;
            Some([Ipv6Addr::from(*source).into(), Ipv6Addr::from(*rest.first_chunk::<16>()?).into()])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::WireFaults;
    use crate::wire::QueueLimit;

    const MS: Duration = Duration::from_millis(1);

    fn packet(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&source);
        packet[16..].copy_from_slice(&destination);
        packet
    }

    const HERE: [u8; 4] = [203, 0, 113, 1];
    const FAR: [u8; 4] = [198, 51, 100, 7];
    const ELSEWHERE: [u8; 4] = [198, 51, 99, 7];

    fn path(faces: Faces, config: WireConfig) -> PathConfig {
        PathConfig { far: vec!["198.51.100.0/28".parse().unwrap()], faces, config }
    }

    /// The delays of each packet's copies; empty if it is lost.
    fn arrivals(wire: &mut Wire, packets: &[Vec<u8>]) -> Vec<Vec<u128>> {
        let now = Instant::from_millis(7);
        let one = |packet: &Vec<u8>| {
            let mut after = Vec::new();
            let _ = wire.send(
                now,
                packet.clone(),
                |_, _, _| {},
                |passage, _| after.push((passage.arrives - now).as_millis()),
            );
            after
        };
        packets.iter().map(one).collect()
    }

    #[test]
    fn only_what_goes_to_the_far_end_is_lost_held_up_or_doubled() {
        let out = [packet(HERE, FAR), packet(HERE, ELSEWHERE), packet(FAR, HERE)];
        let lost = WireConfig { loss: 1.0, ..WireConfig::new(MS) };
        let slow = WireConfig::new(31 * MS);
        let doubled = WireConfig { faults: WireFaults { duplicate: 1.0, ..WireFaults::default() }, ..slow };
        for (faces, config, expected) in [
            (Faces::Destination, lost, [vec![], vec![10], vec![10]]),
            (Faces::Source, lost, [vec![10], vec![10], vec![]]),
            (Faces::Destination, slow, [vec![40], vec![10], vec![10]]),
            (Faces::Source, doubled, [vec![10], vec![10], vec![40, 40]]),
        ] {
            let mut wire = Wire::new(1, "a:0>b:0", WireConfig::new(10 * MS)).unwrap();
            wire.set_path("b", Some(path(faces, config))).unwrap();
            assert_eq!(arrivals(&mut wire, &out), expected, "{faces:?}");
            wire.set_path("b", None).unwrap();
            assert_eq!(arrivals(&mut wire, &out), [[10]; 3], "as before");
        }
    }

    #[test]
    fn a_policer_on_a_path_leaves_the_rest_of_the_link_its_rate() {
        let policer = WireConfig { rate_bps: Some(160), queue: QueueLimit::Bytes(0), ..WireConfig::new(MS) };
        let mut wire = Wire::new(1, "a:0>b:0", WireConfig::new(10 * MS)).unwrap();
        wire.set_path("b", Some(path(Faces::Destination, policer))).unwrap();
        // 160 bit/s are one packet of 20 bytes a second.
        let sent = arrivals(&mut wire, &[packet(HERE, FAR), packet(HERE, FAR), packet(HERE, ELSEWHERE)]);
        assert_eq!(sent, [vec![1_010], vec![], vec![10]]);
    }

    #[test]
    fn a_path_draws_for_itself_and_leaves_the_links_draws_alone() {
        let half = WireConfig { loss: 0.5, ..WireConfig::new(10 * MS) };
        let run = |with_path: bool| {
            let mut wire = Wire::new(1, "a:0>b:0", half).unwrap();
            if with_path {
                wire.set_path("b", Some(path(Faces::Destination, half))).unwrap();
            }
            arrivals(&mut wire, &vec![packet(HERE, ELSEWHERE); 200])
        };
        assert_eq!(run(true), run(false));
        let mut wire = Wire::new(1, "a:0>b:0", WireConfig::new(10 * MS)).unwrap();
        wire.set_path("b", Some(path(Faces::Destination, half))).unwrap();
        let arrived = arrivals(&mut wire, &vec![packet(HERE, FAR); 1_000]).iter().filter(|a| !a.is_empty()).count();
        assert!((430..570).contains(&arrived), "{arrived}");
    }
}
