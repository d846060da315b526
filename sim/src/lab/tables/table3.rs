//! Table 3: the composition of the largest packet.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_core::quic::PATHED_CID_LEN;
use cyphonic_scenarios::rows::Field;
use cyphonic_scenarios::{Row, Table};

use super::layout::{grid, label};
use super::paper;

pub(super) fn print(text: &mut String, table: &Table) {
    let printed = paper::sizes();
    let mut ours: BTreeMap<(String, Field), i64> = BTreeMap::new();
    for line in &table.lines {
        if let Row::Composition(c) = &line.row {
            ours.insert((label(table, line, "framing").to_owned(), c.field), i64::from(c.bytes));
        }
    }
    let of = |framing: &str, fields: &[Field]| -> i64 {
        fields.iter().filter_map(|field| ours.get(&(framing.to_owned(), *field))).sum()
    };
    let quic = [Field::QuicShortHeader, Field::QuicFrameHeader, Field::QuicTag];
    let lines: [(&str, &str, &[Field]); 11] = [
        ("Real IPv6 Header", "real_ipv6_header", &[Field::RealIpHeader]),
        ("UDP Header", "udp_header", &[Field::UdpHeader]),
        ("QUIC Header", "quic_header", &quic),
        ("  short header", "", &[Field::QuicShortHeader]),
        ("  frame header", "", &[Field::QuicFrameHeader]),
        ("  AEAD tag", "", &[Field::QuicTag]),
        ("CYPHONIC Header", "cyphonic_header", &[Field::CyphonicHeader]),
        ("Virtual IPv6 Header", "virtual_ipv6_header", &[Field::VirtualIpHeader]),
        ("IP Payload", "ip_payload", &[Field::IpPayload]),
        ("HMAC", "hmac", &[Field::Hmac]),
        ("Sum", "sum", &[Field::Total]),
    ];
    let mut rows = Vec::new();
    for (name, key, fields) in lines {
        let paper = |method: usize| printed.get(key).map(|sizes| sizes[method]);
        let mut row = vec![name.to_owned(), bytes(paper(0))];
        let conventional = of("udp4501", fields);
        row.push(bytes(Some(conventional)));
        row.push(difference(paper(0), conventional));
        row.push(bytes(paper(1)));
        for framing in ["stream", "datagram", "compact"] {
            let size = of(framing, fields);
            row.push(bytes(Some(size)));
            row.push(difference(paper(1), size));
        }
        rows.push(row);
    }
    let header = [
        "bytes",
        "paper conv.",
        "udp4501",
        "diff",
        "paper prop.",
        "stream",
        "diff",
        "datagram",
        "diff",
        "compact",
        "diff",
    ];
    let _ = writeln!(
        text,
        "Table 3. What the largest packet is made of, 1,500-byte links, IPv6 (paper §4.3)\n{}",
        grid(&header, 1, rows)
    );
    let [stream, compact] = ["stream", "compact"].map(|framing| of(framing, &quic));
    let unused = 1500 - of("compact", &[Field::Total]);
    let _ = writeln!(
        text,
        "Ours: the largest inner packet that crossed in one packet of the underlay, found by probing (scenario table3), taken\n\
         apart on the wire with the session's secrets; each column sums to what was on the wire. Nothing here varies by seed.\n\
         The paper's 20 bytes of QUIC header can be, by RFC 9000 §17.3 and §19.8 and RFC 9221 §4: {}.\n\
         With the 8-byte connection ID by which our server tells clients apart it is at least {}. Measured: {stream} with STREAM, \
         {compact}\nwith DATAGRAM. Over a connection the header of a STREAM frame grows with the bytes sent before it, and the IP \
         payload shrinks:\n{}.\n\
         A packet number of 2 to 4 bytes, while many packets are unacknowledged, takes 1 to 3 more. The probes here come \
         after 16 KiB,\nthose in Docker before, hence 1350 there. DATAGRAM framings leave {unused} bytes of 1,500 unused: \
         quinn-proto reserves 8 bytes for\na frame length that has 2 and 4 for a packet number that has 1 \
         (Datagrams::max_size).\n\
         With handover = \"seamless\", the default of the optimal policy, the connection ID of a direct tunnel has {PATHED_CID_LEN} \
         bytes:\n{} more, so that it has 64 random bits, fits a relay, and is known after a restart.\n",
        twenties(),
        quic_header(&Header { cid: 8, number: 1, frame: stream_frame(0) }),
        over_a_connection(),
        PATHED_CID_LEN - 8,
    );
}

/// What determines the bytes before and after the payload of a packet with a short header.
struct Header {
    /// The destination connection ID.
    cid: i64,
    /// The packet number, 1 to 4.
    number: i64,
    /// The header of the only frame.
    frame: i64,
}

/// The sum of first byte, connection ID, packet number, frame header and AEAD tag (RFC 9000 §17.3.1, RFC 9001 §5.3).
fn quic_header(header: &Header) -> i64 {
    1 + header.cid + header.number + header.frame + 16
}

/// The length of the header of a STREAM frame that fills its packet, and therefore has no length field: the type, a
/// stream ID below 64, and the offset, which is left out if it is 0 (RFC 9000 §19.8).
fn stream_frame(offset: u64) -> i64 {
    2 + match offset {
        0 => 0,
        1..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Every form of a QUIC header with the paper's 20 bytes.
fn twenties() -> String {
    let mut found = Vec::new();
    for number in 1..=4 {
        for (what, frame) in [
            ("the first STREAM frame of a connection", stream_frame(0)),
            ("a STREAM frame within the first 64 bytes", stream_frame(1)),
            ("a DATAGRAM frame without length", 1),
        ] {
            for cid in 0..=20 {
                if quic_header(&Header { cid, number, frame }) == 20 {
                    let cid =
                        if cid == 0 { "no connection ID".to_owned() } else { format!("a connection ID of {cid}") };
                    found.push(format!("\n  {what}, {cid}, a packet number of {number}"));
                }
            }
        }
    }
    found.join(";")
}

/// The lengths of QUIC header and IP payload of full STREAM packets, by the number of bytes that the stream carried
/// before.
fn over_a_connection() -> String {
    let fixed = 1500 - 40 - 8 - 32 - 40;
    let name = |offset| match offset {
        0 => "at its beginning",
        1 => "below 64 bytes",
        0x40 => "below 16 KiB",
        0x4000 => "below 1 GiB",
        _ => "beyond",
    };
    let at = |offset: u64| {
        let header = quic_header(&Header { cid: 8, number: 1, frame: stream_frame(offset) });
        format!("{} {header} and {}", name(offset), fixed - header)
    };
    [0, 1, 0x40, 0x4000, 0x4000_0000].map(at).join(", ")
}

fn bytes(value: Option<i64>) -> String {
    match value {
        None | Some(0) => "–".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn difference(paper: Option<i64>, ours: i64) -> String {
    match paper {
        None => String::new(),
        Some(paper) if paper == ours => "0".to_owned(),
        Some(paper) => format!("{:+}", ours - paper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_bytes_are_a_header_without_connection_id() {
        let ways = twenties();
        assert!(
            ways.contains("the first STREAM frame of a connection, no connection ID, a packet number of 1"),
            "{ways}"
        );
        assert!(ways.contains("a DATAGRAM frame without length, no connection ID, a packet number of 2"), "{ways}");
        assert!(ways.contains("a DATAGRAM frame without length, a connection ID of 1, a packet number of 1"), "{ways}");
        assert_eq!(ways.matches("packet number").count(), 3, "{ways}");
    }

    /// The two measured values: simulated (after 16 KiB of probes) and in Docker (before).
    #[test]
    fn the_measured_payloads_are_on_the_scale() {
        let scale = over_a_connection();
        assert!(scale.contains("below 16 KiB 30 and 1350, below 1 GiB 32 and 1348"), "{scale}");
    }
}
