//! pcapng files (draft-ietf-opsawg-pcapng), as Wireshark and tshark open them.
//!
//! ```text
//! Section Header              title and program
//! Interface Description ×n    one for each wire: its name, raw IP, nanoseconds
//! Decryption Secrets          the TLS key log, so that QUIC and TLS open by themselves
//! Enhanced Packet ×m          by departure, then by wire; a lost one says so in a comment
//! ```
//!
//! Simulated time 0 is [`EPOCH`], the civil time of the simulated certificates. All is little-endian on every machine:
//! equal captures are equal files.

use std::borrow::Cow;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::{DataLink, Endianness, PcapResult};

use super::Secrets;
use crate::net::Tapped;
use crate::seeded::EPOCH;

/// Block type of a Decryption Secrets Block, which `pcap-file` does not know.
const DECRYPTION_SECRETS: u32 = 0x0a;
/// Its secrets type for a TLS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Timestamps in units of 10⁻⁹ s.
const NANOSECONDS: u8 = 9;
/// What the comment of a packet says that never arrived.
const LOST: &str = "lost";

/// The capture of some wires as a file. `title` (scenario and seed, say) becomes the file's comment; each wire, or each
/// direction of one, has its name. Text of more than 65,535 bytes, the most that the format takes, is cut.
///
/// With `secrets`, whoever has the file can read what was encrypted.
pub fn pcapng(title: &str, wires: &[(String, Vec<Tapped>)], secrets: Option<&Secrets>) -> Vec<u8> {
    write(title, wires, secrets).expect("writing into memory cannot fail")
}

fn write(title: &str, wires: &[(String, Vec<Tapped>)], secrets: Option<&Secrets>) -> PcapResult<Vec<u8>> {
    let options = vec![
        SectionHeaderOption::Comment(Cow::Owned(fitting(title).to_owned())),
        SectionHeaderOption::UserApplication(Cow::Borrowed("cyphonic-lab")),
    ];
    let section = SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() };
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
    for (name, _) in wires {
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(fitting(name))),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
    }
    if let Some(secrets) = secrets {
        let body = decryption_secrets(&secrets.to_sslkeylog());
        writer.write_pcapng_block(UnknownBlock::new(DECRYPTION_SECRETS, 0, &body))?;
    }
    for (wire, tapped) in in_order(wires) {
        let lost = tapped.arrives.is_none().then_some(EnhancedPacketOption::Comment(Cow::Borrowed(LOST)));
        writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: wire,
            timestamp: EPOCH + Duration::from_nanos(tapped.departs.as_nanos()),
            original_len: tapped.packet.len() as u32,
            data: Cow::Borrowed(&tapped.packet),
            options: lost.into_iter().collect(),
        })?;
    }
    Ok(writer.into_inner())
}

/// All packets by departure, then by wire; those of one wire at one time as they were sent.
fn in_order(wires: &[(String, Vec<Tapped>)]) -> Vec<(u32, &Tapped)> {
    let tapped = wires.iter().zip(0..).flat_map(|((_, packets), wire)| packets.iter().map(move |p| (wire, p)));
    let mut packets: Vec<(u32, &Tapped)> = tapped.collect();
    packets.sort_by_key(|&(wire, packet)| (packet.departs, wire));
    packets
}

/// The body of a Decryption Secrets Block; the writer adds the padding.
fn decryption_secrets(key_log: &str) -> Vec<u8> {
    let length = key_log.len() as u32;
    [&TLS_KEY_LOG.to_le_bytes()[..], &length.to_le_bytes(), key_log.as_bytes()].concat()
}

/// As much of `text` as an option of a block can hold.
fn fitting(text: &str) -> &str {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use cyphonic_core::quic::CidScheme;
    use cyphonic_core::time::Instant;
    use pcap_file::pcapng::{Block, PcapNgReader};
    use rustls::KeyLog;

    use super::*;
    use crate::capture::testing::Pair;

    fn tapped(departs: u64, arrives: Option<u64>, packet: &[u8]) -> Tapped {
        let arrives = arrives.map(Instant::from_nanos);
        Tapped { departs: Instant::from_nanos(departs), arrives, packet: packet.to_vec() }
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
        for (block, (name, _)) in blocks[1..3].iter().zip(&wires) {
            let Block::InterfaceDescription(interface) = block else { panic!("{blocks:?}") };
            assert_eq!(u32::from(interface.linktype), 101);
            let name = InterfaceDescriptionOption::IfName(name.as_str().into());
            assert_eq!(interface.options, [name, InterfaceDescriptionOption::IfTsResol(9)]);
        }
        let Block::Unknown(log) = &blocks[3] else { panic!("{blocks:?}") };
        let text = "CLIENT_TRAFFIC_SECRET_0 aa bb\n";
        assert_eq!(log.type_, 10);
        assert_eq!(&log.value[..8], [b'K', b'S', b'L', b'T', text.len() as u8, 0, 0, 0]);
        assert_eq!(&log.value[8..8 + text.len()], text.as_bytes());
        assert!(log.value.len() % 4 == 0 && log.value.len() < 8 + text.len() + 4, "padded to 32 bits");

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
            let wires = [("up".to_owned(), pair.sent(0).to_vec()), ("down".to_owned(), pair.sent(1).to_vec())];
            pcapng("a connection", &wires, Some(&pair.secrets))
        };
        assert!(file(1) == file(1));
        assert!(file(1) != file(2));
    }

    #[test]
    fn the_bytes_are_little_endian_on_every_machine() {
        let file = pcapng("", &[], None);
        assert_eq!(&file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert_eq!(&file[8..12], [0x4d, 0x3c, 0x2b, 0x1a]);
        assert_eq!(file, pcapng("", &[], None));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = "→".repeat(30_000);
        assert_eq!(fitting(&long).len(), 65_535);
        assert_eq!(fitting(&format!("x{long}")).len(), 65_533);
        let file = pcapng(&long, &[(long.clone(), vec![tapped(1, None, b"p")])], None);
        assert_eq!(blocks(&file).len(), 3);
    }
}
