//! Captures as pcapng files (draft-ietf-opsawg-pcapng) for Wireshark and tshark, with the secrets inside.
//!
//! ```text
//! Section Header              title and program
//! Interface Description ×n    one for each wire: its name, raw IP, nanoseconds
//! Decryption Secrets ×k       TLS key log lines, before the first packet that needs them
//! Enhanced Packet ×m          whole IP packets
//! ```
//!
//! The simulator writes a finished run, and a live node writes while packets pass. Both use this module. All is
//! little-endian on every machine, so equal captures are equal files. No file is opened here: a [`CaptureWriter`]
//! writes to the writer that it is given.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::{DataLink, Endianness};

pub use pcap_file::PcapError;

/// Block type of a Decryption Secrets Block. `pcap-file` does not know it.
const DECRYPTION_SECRETS: u32 = 0x0a;
/// Its secrets type for a TLS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Timestamps in units of 10⁻⁹ s.
const NANOSECONDS: u8 = 9;

/// Writes one capture.
pub struct CaptureWriter<W: Write>(PcapNgWriter<W>);

impl<W: Write> CaptureWriter<W> {
    /// Begins a capture of some wires. Packets name a wire by its place in `interfaces`. `title` becomes the file's
    /// comment. Text is cut at 65,535 bytes, the limit of the format.
    pub fn new<'a>(
        out: W,
        title: &str,
        program: &str,
        interfaces: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PcapError> {
        let options = vec![
            SectionHeaderOption::Comment(Cow::Owned(fitting(title).to_owned())),
            SectionHeaderOption::UserApplication(Cow::Owned(fitting(program).to_owned())),
        ];
        let section = SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() };
        let mut writer = PcapNgWriter::with_section_header(out, section)?;
        for name in interfaces {
            writer.write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::RAW,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(fitting(name))),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            })?;
        }
        Ok(Self(writer))
    }

    /// Adds lines of a TLS key log ([`key_log_line`]). They decrypt the traffic that they protect.
    pub fn secrets(&mut self, key_log: &str) -> Result<(), PcapError> {
        let length = key_log.len() as u32;
        // The writer adds the padding.
        let body = [&TLS_KEY_LOG.to_le_bytes()[..], &length.to_le_bytes(), key_log.as_bytes()].concat();
        self.0.write_pcapng_block(UnknownBlock::new(DECRYPTION_SECRETS, 0, &body)).map(drop)
    }

    /// A whole IP packet on a wire; `at` is the civil time, since 1970-01-01T00:00:00Z.
    pub fn packet(
        &mut self,
        interface: u32,
        at: Duration,
        packet: &[u8],
        comment: Option<&str>,
    ) -> Result<(), PcapError> {
        let comment = comment.map(|text| EnhancedPacketOption::Comment(Cow::Borrowed(fitting(text))));
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: at,
            original_len: packet.len() as u32,
            data: Cow::Borrowed(packet),
            options: comment.into_iter().collect(),
        };
        self.0.write_pcapng_block(block).map(drop)
    }

    /// The writer behind the capture.
    pub fn get_mut(&mut self) -> &mut W {
        self.0.get_mut()
    }

    /// Ends the capture.
    pub fn into_inner(self) -> W {
        self.0.into_inner()
    }
}

/// A line of a TLS key log, with its end: label, client random and secret (draft-ietf-tls-keylogfile).
pub fn key_log_line(label: &str, client_random: &[u8], secret: &[u8]) -> String {
    let mut line = label.to_owned();
    for part in [client_random, secret] {
        line.push(' ');
        part.iter().try_for_each(|byte| write!(line, "{byte:02x}")).expect("a String takes everything");
    }
    line.push('\n');
    line
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
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    fn blocks(file: &[u8]) -> Vec<Block<'static>> {
        let mut reader = PcapNgReader::new(file).unwrap();
        let mut blocks = vec![Block::SectionHeader(reader.section().clone())];
        while let Some(block) = reader.next_block() {
            blocks.push(block.unwrap().into_owned());
        }
        blocks
    }

    #[test]
    fn secrets_and_packets_read_back_in_the_order_in_which_they_came() {
        let mut writer = CaptureWriter::new(Vec::new(), "a title", "a program", ["wire", "tun"]).unwrap();
        writer.packet(1, Duration::from_nanos(5), b"first", None).unwrap();
        let line = key_log_line("CLIENT_TRAFFIC_SECRET_0", &[0xaa], &[0xbb]);
        assert_eq!(line, "CLIENT_TRAFFIC_SECRET_0 aa bb\n");
        writer.secrets(&line).unwrap();
        writer.packet(0, Duration::from_secs(1_700_000_000), b"second", Some("lost")).unwrap();
        let blocks = blocks(&writer.into_inner());

        let Block::SectionHeader(section) = &blocks[0] else { panic!("{blocks:?}") };
        assert_eq!(section.options[0], SectionHeaderOption::Comment("a title".into()));
        for (block, name) in blocks[1..3].iter().zip(["wire", "tun"]) {
            let Block::InterfaceDescription(interface) = block else { panic!("{blocks:?}") };
            assert_eq!(u32::from(interface.linktype), 101);
            let name = InterfaceDescriptionOption::IfName(name.into());
            assert_eq!(interface.options, [name, InterfaceDescriptionOption::IfTsResol(9)]);
        }
        let first = blocks[3].clone().into_enhanced_packet().unwrap();
        assert_eq!((first.interface_id, first.timestamp.as_nanos(), &*first.data), (1, 5, &b"first"[..]));
        let Block::Unknown(log) = &blocks[4] else { panic!("{blocks:?}") };
        assert_eq!(log.type_, 10);
        assert_eq!(&log.value[..8], [b'K', b'S', b'L', b'T', line.len() as u8, 0, 0, 0]);
        assert_eq!(&log.value[8..8 + line.len()], line.as_bytes());
        assert!(log.value.len() % 4 == 0 && log.value.len() < 8 + line.len() + 4, "padded to 32 bits");
        let second = blocks[5].clone().into_enhanced_packet().unwrap();
        assert_eq!((second.timestamp.as_secs(), second.original_len), (1_700_000_000, 6));
        assert_eq!(second.options, [EnhancedPacketOption::Comment("lost".into())]);
    }

    #[test]
    fn the_bytes_are_little_endian_on_every_machine() {
        let file = CaptureWriter::new(Vec::new(), "", "", []).unwrap().into_inner();
        assert_eq!(&file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert_eq!(&file[8..12], [0x4d, 0x3c, 0x2b, 0x1a]);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = "→".repeat(30_000);
        assert_eq!(fitting(&long).len(), 65_535);
        assert_eq!(fitting(&format!("x{long}")).len(), 65_533);
        let file = CaptureWriter::new(Vec::new(), &long, "", [long.as_str()]).unwrap().into_inner();
        assert_eq!(blocks(&file).len(), 2);
    }
}
