//! The wires of a simulated network as one pcapng file (see [`cyphonic_core::capture`]). Packets are in the order of
//! departure, then of wires. A comment marks a lost one. Simulated time 0 is [`EPOCH`], the civil time of the simulated
//! certificates.

use std::time::Duration;

use cyphonic_core::capture::{CaptureWriter, PcapError};

use crate::dissect::Secrets;
use crate::net::Tapped;
use crate::seeded::EPOCH;

/// The comment of a packet that never arrived.
const LOST: &str = "lost";

/// The capture of some wires as a file. `title` (such as scenario and seed) becomes the file's comment. Each wire, or
/// each direction of one, has its name.
///
/// With `secrets`, the file contains the secrets that decrypt it.
pub fn pcapng(title: &str, wires: &[(String, Vec<Tapped>)], secrets: Option<&Secrets>) -> Vec<u8> {
    write(title, wires, secrets).expect("writing into memory cannot fail")
}

fn write(title: &str, wires: &[(String, Vec<Tapped>)], secrets: Option<&Secrets>) -> Result<Vec<u8>, PcapError> {
    let names = wires.iter().map(|(name, _)| name.as_str());
    let mut writer = CaptureWriter::new(Vec::new(), title, "cyphonic-lab", names)?;
    if let Some(secrets) = secrets {
        writer.secrets(&secrets.to_sslkeylog())?;
    }
    for (wire, tapped) in in_order(wires) {
        let at = EPOCH + Duration::from_nanos(tapped.departs.as_nanos());
        writer.packet(wire, at, &tapped.packet, tapped.arrives.is_none().then_some(LOST))?;
    }
    Ok(writer.into_inner())
}

/// All packets by departure, then by wire. Packets of one wire at one time stay in the order of sending.
fn in_order(wires: &[(String, Vec<Tapped>)]) -> Vec<(u32, &Tapped)> {
    let tapped = wires.iter().zip(0..).flat_map(|((_, packets), wire)| packets.iter().map(move |p| (wire, p)));
    let mut packets: Vec<(u32, &Tapped)> = tapped.collect();
    packets.sort_by_key(|&(wire, packet)| (packet.departs, wire));
    packets
}

#[cfg(test)]
mod tests {
    use cyphonic_core::quic::CidScheme;
    use cyphonic_core::time::Instant;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
    use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
    use pcap_file::pcapng::{Block, PcapNgReader};
    use rustls::KeyLog;

    use super::*;
    use crate::capture::testing;
    use crate::dissect::testing::Pair;

    fn tapped(departs: u64, arrives: Option<u64>, packet: &[u8]) -> Tapped {
        let arrives = arrives.map(Instant::from_nanos);
        Tapped { departs: Instant::from_nanos(departs), arrives, packet: packet.to_vec(), damaged: None }
    }

    fn blocks(file: &[u8]) -> Vec<Block<'static>> {
        let mut reader = PcapNgReader::new(file).unwrap();
        let mut blocks = vec![Block::SectionHeader(reader.section().clone())];
        while let Some(block) = reader.next_block() {
            blocks.push(block.unwrap().into_owned());
        }
        blocks
    }

    #[test]
    fn a_capture_reads_back_as_names_secrets_and_packets_by_time() {
        let wires = [
            ("alice → router".to_owned(), vec![tapped(5, Some(9), b"first"), tapped(7, None, b"third!!")]),
            ("router → alice".to_owned(), vec![tapped(5, Some(8), b"second"), tapped(5, Some(9), b"next")]),
        ];
        let secrets = Secrets::default();
        secrets.log("CLIENT_TRAFFIC_SECRET_0", &[0xaa], &[0xbb]);
        let file = pcapng("table3, seed 7", &wires, Some(&secrets));
        let blocks = blocks(&file);

        let Block::SectionHeader(section) = &blocks[0] else { panic!("{blocks:?}") };
        assert_eq!(section.options[0], SectionHeaderOption::Comment("table3, seed 7".into()));
        let Block::Unknown(log) = &blocks[3] else { panic!("{blocks:?}") };
        assert!(log.value[8..].starts_with(b"CLIENT_TRAFFIC_SECRET_0 aa bb\n"), "secrets come before packets");

        let packets: Vec<_> = blocks[4..].iter().map(|b| b.clone().into_enhanced_packet().unwrap()).collect();
        let seen: Vec<_> = packets
            .iter()
            .map(|p| (p.interface_id, p.timestamp.saturating_sub(EPOCH).as_nanos(), &*p.data, p.options.as_slice()))
            .collect();
        let lost = [EnhancedPacketOption::Comment(LOST.into())];
        let expected: [(u32, u128, &[u8], &[_]); 4] =
            [(0, 5, b"first", &[]), (1, 5, b"second", &[]), (1, 5, b"next", &[]), (0, 7, b"third!!", &lost)];
        assert_eq!(seen, expected);
        assert!(packets.iter().all(|p| p.original_len as usize == p.data.len()));
    }

    #[test]
    fn equal_runs_give_equal_files() {
        let file = |seed| {
            let pair = Pair::new(seed, CidScheme::Direct);
            let wires = [("up".to_owned(), testing::tapped(&pair, 0)), ("down".to_owned(), testing::tapped(&pair, 1))];
            pcapng("a connection", &wires, Some(&pair.secrets))
        };
        assert!(file(1) == file(1));
        assert!(file(1) != file(2));
    }
}
