//! The composition of an outer packet that carries a tunnelled packet, field by field (paper Table 3).
//!
//! ```text
//! udp4501   IP ┊ UDP ┊ CYPHONIC header 32 ┊ inner IP header ┊ inner payload ┊ HMAC 16
//! stream    IP ┊ UDP ┊ short header ┊ frame header ┊ CYPHONIC header 32 ┊ inner IP header ┊ inner payload ┊ tag 16
//! datagram  as stream, in a DATAGRAM frame
//! compact   IP ┊ UDP ┊ short header ┊ frame header ┊ inner IP header ┊ inner payload ┊ tag 16
//! ```
//!
//! Every number is read from the wire: QUIC is decrypted with logged secrets, and the inner header is read from the
//! plaintext. The end keys of `udp4501` are not logged. There the caller gives the inner packet's family, and its
//! header is assumed to have no options. IPv6 extension headers count as header outside, and as payload inside.

use bytes::Bytes;
use cyphonic_core::conventional::{cipher, seal};
use cyphonic_core::header::{HEADER_LEN, Header, Kind, TAG_LEN};
use cyphonic_core::message::Framing;
use cyphonic_core::packet::Inner;
use cyphonic_scenarios::rows::Field;

use crate::dissect::frame::{Frame, FrameKind};
use crate::dissect::quic::{OpenedPacket, Opener, one_rtt};
use crate::net::packet::{Ip, protocol};

/// Length of a UDP header, bytes.
const UDP_HEADER: usize = 8;
/// Length of an IPv4 header without options, bytes.
const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header, bytes.
const IPV6_HEADER: usize = 40;

/// The fields of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composition {
    /// The bytes of each field, in the order of [`Field::ALL`]. A field that the framing does not have is 0. The last
    /// one, [`Field::Total`], is the sum of the others and the length of the packet.
    pub fields: [(Field, u32); Field::ALL.len()],
    /// The bytes of each field of [`Field::OF_CBC`], in their order.
    pub of_cbc: [u32; Field::OF_CBC.len()],
    /// The bytes of [`Field::QuicFrameHeader`] that belong to other frames than the tunnelled packet's, for example to
    /// a bundled ACK.
    pub other_frames: u32,
}

impl Composition {
    /// The bytes of a field.
    pub fn bytes(&self, field: Field) -> u32 {
        let of_cbc = Field::OF_CBC.into_iter().zip(self.of_cbc);
        self.fields.into_iter().chain(of_cbc).find(|(f, _)| *f == field).map_or(0, |(_, bytes)| bytes)
    }
}

/// Lengths of the fields that depend on the framing. A field that the framing does not have is 0.
#[derive(Default)]
struct Parts {
    quic_short_header: usize,
    quic_frame_header: usize,
    quic_tag: usize,
    cyphonic_header: usize,
    virtual_ip_header: usize,
    ip_payload: usize,
    hmac: usize,
    iv: usize,
    padding: usize,
    other_frames: usize,
}

/// Takes an outer packet apart that carries exactly one whole tunnelled packet.
///
/// `None` if it does not, cannot be decrypted, or has another framing. `inner_v6` says whether the encrypted inner
/// packet is IPv6. It matters for [`Framing::Udp4501`] only.
pub fn compose(packet: &[u8], opener: &mut Opener, framing: Framing, inner_v6: bool) -> Option<Composition> {
    let outer = Ip::parse(packet)?;
    let payload = udp_payload(&outer)?;
    let parts = match framing {
        Framing::Udp4501 => conventional(payload, inner_v6)?,
        Framing::Stream | Framing::Datagram | Framing::Compact => quic(&opener.open(payload)?, framing)?,
    };
    Some(whole(&outer, packet.len(), &parts))
}

/// As [`compose`], for a conventional capsule in AES-CBC, whose inner packet has this length.
///
/// The end key is not logged, so the length cannot be read. `None` if IV, packet and padding do not make up the
/// ciphertext.
pub fn compose_cbc(packet: &[u8], inner_v6: bool, inner: usize) -> Option<Composition> {
    let outer = Ip::parse(packet)?;
    let ciphertext = capsule(udp_payload(&outer)?)?;
    let (iv, padding) = (cipher::BLOCK, cipher::padding(inner));
    if iv + inner + padding != ciphertext.len() {
        return None;
    }
    let virtual_ip_header = if inner_v6 { IPV6_HEADER } else { IPV4_HEADER };
    let parts = Parts {
        cyphonic_header: HEADER_LEN,
        virtual_ip_header,
        ip_payload: inner.checked_sub(virtual_ip_header)?,
        hmac: TAG_LEN,
        iv,
        padding,
        ..Parts::default()
    };
    Some(whole(&outer, packet.len(), &parts))
}

/// The parts with the headers of the underlay; `len` is the length of the packet.
fn whole(outer: &Ip<'_>, len: usize, parts: &Parts) -> Composition {
    let bytes = |field| match field {
        Field::RealIpHeader => outer.header_len,
        Field::UdpHeader => UDP_HEADER,
        Field::QuicShortHeader => parts.quic_short_header,
        Field::QuicFrameHeader => parts.quic_frame_header,
        Field::QuicTag => parts.quic_tag,
        Field::CyphonicHeader => parts.cyphonic_header,
        Field::VirtualIpHeader => parts.virtual_ip_header,
        Field::IpPayload => parts.ip_payload,
        Field::Hmac => parts.hmac,
        Field::Iv => parts.iv,
        Field::Padding => parts.padding,
        Field::Total => len,
    };
    let fields = Field::ALL.map(|field| (field, bytes(field) as u32));
    let of_cbc = Field::OF_CBC.map(|field| bytes(field) as u32);
    let sum: u32 =
        fields.iter().filter(|(field, _)| *field != Field::Total).map(|(_, bytes)| bytes).chain(&of_cbc).sum();
    assert_eq!(sum as usize, len, "the fields of a packet make up the packet: {fields:?}");
    Composition { fields, of_cbc, other_frames: parts.other_frames as u32 }
}

/// The tunnelled data in a packet of the underlay: the content of each DATAGRAM frame and of each STREAM frame with
/// data or, for [`Framing::Udp4501`], the ciphertext of a capsule.
///
/// So an inner packet crossed in as many outer packets as gave a result here. Signaling on a QUIC stream looks the same
/// as a packet on it. Choose time and destination so that there is none.
pub fn data_frames(packet: &[u8], opener: &mut Opener, framing: Framing) -> Vec<Bytes> {
    let Some(payload) = Ip::parse(packet).as_ref().and_then(udp_payload) else { return Vec::new() };
    if framing == Framing::Udp4501 {
        return capsule(payload).map(Bytes::copy_from_slice).into_iter().collect();
    }
    let opened = one_rtt(payload).and_then(|packet| opener.open(packet));
    let frames = opened.map(|opened| opened.frames).unwrap_or_default();
    frames.into_iter().filter(is_data).map(|frame| frame.data).collect()
}

/// The payload of a whole UDP datagram.
fn udp_payload<'a>(outer: &Ip<'a>) -> Option<&'a [u8]> {
    let (header, payload) = outer.payload.split_first_chunk::<UDP_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let whole = outer.protocol == protocol::UDP && outer.fragment.is_none() && length == outer.payload.len();
    whole.then_some(payload)
}

/// The ciphertext of a conventional capsule.
fn capsule(payload: &[u8]) -> Option<&[u8]> {
    let header = Header::decode(payload).ok()?;
    let sealed = header.kind == Kind::Capsule && usize::from(header.length) + seal::OVERHEAD == payload.len();
    sealed.then(|| &payload[HEADER_LEN..payload.len() - TAG_LEN])
}

fn conventional(payload: &[u8], inner_v6: bool) -> Option<Parts> {
    let ciphertext = capsule(payload)?;
    let virtual_ip_header = if inner_v6 { IPV6_HEADER } else { IPV4_HEADER };
    Some(Parts {
        cyphonic_header: HEADER_LEN,
        virtual_ip_header,
        ip_payload: ciphertext.len().checked_sub(virtual_ip_header)?,
        hmac: TAG_LEN,
        ..Parts::default()
    })
}

fn is_data(frame: &Frame) -> bool {
    match frame.kind {
        FrameKind::Datagram => true,
        FrameKind::Stream { .. } => !frame.data.is_empty(),
        _ => false,
    }
}

fn quic(opened: &OpenedPacket, framing: Framing) -> Option<Parts> {
    let mut carriers = opened.frames.iter().filter(|frame| is_data(frame));
    let (Some(carrier), None) = (carriers.next(), carriers.next()) else { return None };
    if (carrier.kind == FrameKind::Datagram) == (framing == Framing::Stream) {
        return None;
    }
    let inner = if framing == Framing::Compact { &carrier.data } else { unwrap(&carrier.data)? };
    Inner::parse(inner).ok()?;
    let virtual_ip_header = if inner[0] >> 4 == 6 { IPV6_HEADER } else { usize::from(inner[0] & 0x0f) * 4 };
    let frames: usize = opened.frames.iter().map(Frame::len).sum();
    Some(Parts {
        quic_short_header: opened.header_len,
        quic_frame_header: frames - carrier.data.len(),
        quic_tag: opened.tag_len,
        cyphonic_header: carrier.data.len() - inner.len(),
        virtual_ip_header,
        ip_payload: inner.len() - virtual_ip_header,
        hmac: 0,
        iv: 0,
        padding: 0,
        other_frames: frames - carrier.len(),
    })
}

/// The packet behind a CYPHONIC header.
fn unwrap(data: &[u8]) -> Option<&[u8]> {
    let header = Header::decode(data).ok()?;
    let whole = header.kind == Kind::Capsule && usize::from(header.length) + HEADER_LEN == data.len();
    whole.then(|| &data[HEADER_LEN..])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cyphonic_core::conventional::keys::Sealing;
    use cyphonic_core::key::Key128;
    use cyphonic_core::name::RelayCid;
    use cyphonic_core::packet::build_udp;
    use cyphonic_core::quic::CidScheme;
    use proptest::prelude::*;

    use super::*;
    use crate::capture::testing::{last, packet, tapped};
    use crate::dissect::testing::{Pair, capsule as capsule_bytes};
    use crate::net::packet::{IpOptions, udp};

    /// An inner packet of this length.
    fn inner(v6: bool, len: usize) -> Vec<u8> {
        let (from, to, header) =
            if v6 { ("[fd00::1]:5", "[fd00::2]:6", 48) } else { ("198.18.0.1:5", "198.18.0.2:6", 28) };
        build_udp(from.parse().unwrap(), to.parse().unwrap(), &vec![0x11; len - header]).unwrap()
    }

    fn udp4501(v6: bool, inner: &[u8]) -> Vec<u8> {
        let header = Header::decode(&capsule_bytes(inner)).unwrap();
        let payload = seal::seal(&Sealing::new(&Key128([1; 16])), header, inner);
        let (from, to) =
            if v6 { ("[2001:db8::1]:4501", "[2001:db8::2]:4501") } else { ("192.0.2.1:4501", "192.0.2.2:4501") };
        udp(from.parse().unwrap(), to.parse().unwrap(), IpOptions::default(), &payload).unwrap()
    }

    fn bytes(composition: &Composition) -> [u32; 10] {
        assert_eq!(composition.fields.map(|(field, _)| field), Field::ALL);
        composition.fields.map(|(_, bytes)| bytes)
    }

    fn no_secrets() -> Opener {
        Opener::new(&Arc::default())
    }

    #[test]
    fn a_full_conventional_packet_is_the_papers_column() {
        let packet = udp4501(true, &inner(true, 1404));
        let composition = compose(&packet, &mut no_secrets(), Framing::Udp4501, true).unwrap();
        assert_eq!(bytes(&composition), [40, 8, 0, 0, 0, 32, 40, 1364, 16, 1500]);
        assert_eq!(composition.other_frames, 0);
    }

    #[test]
    fn the_families_inside_and_outside_are_independent() {
        let packet = udp4501(false, &inner(true, 100));
        let composition = compose(&packet, &mut no_secrets(), Framing::Udp4501, true).unwrap();
        assert_eq!(bytes(&composition), [20, 8, 0, 0, 0, 32, 40, 60, 16, 176]);
        let packet = udp4501(true, &inner(false, 100));
        let composition = compose(&packet, &mut no_secrets(), Framing::Udp4501, false).unwrap();
        assert_eq!(bytes(&composition), [40, 8, 0, 0, 0, 32, 20, 80, 16, 196]);
    }

    /// Sends an inner packet over a real connection, in this framing.
    fn send(pair: &mut Pair, framing: Framing, inner: &[u8]) {
        match framing {
            Framing::Udp4501 => unreachable!("not over QUIC"),
            Framing::Stream => pair.send_message(capsule_bytes(inner)),
            Framing::Datagram => pair.send_datagram(capsule_bytes(inner).into()),
            Framing::Compact => pair.send_datagram(Bytes::copy_from_slice(inner)),
        }
    }

    /// Sends an inner packet twice, and composes the second one, which has no acknowledgement beside it.
    fn send_and_compose(pair: &mut Pair, framing: Framing, inner: &[u8]) -> Option<Composition> {
        send(pair, framing, inner);
        let before = pair.sent(0).len();
        send(pair, framing, inner);
        let composition = compose(&packet(&pair.sent(0)[before]), &mut Opener::new(&pair.secrets), framing, false);
        pair.run_ms(100);
        composition
    }

    #[test]
    fn a_packet_over_quic_is_what_went_in_and_what_quic_added() {
        for (scheme, cid) in [(CidScheme::Direct, 8), (CidScheme::Relayed(RelayCid(*b"a relay!")), 12)] {
            for framing in [Framing::Stream, Framing::Datagram, Framing::Compact] {
                let mut pair = Pair::new(1, scheme);
                let mut stream_offset = 0;
                for (v6, len) in [(true, 50), (false, 50), (true, 576), (false, 1280), (true, 1350)] {
                    let composition = send_and_compose(&mut pair, framing, &inner(v6, len)).unwrap();
                    stream_offset += 32 + len;
                    let header = if framing == Framing::Compact { 0 } else { 32 };
                    let length = if header + len < 64 { 1 } else { 2 };
                    let frame = match framing {
                        Framing::Stream => 1 + 1 + if stream_offset < 64 { 1 } else { 2 } + length,
                        _ => 1 + length,
                    };
                    stream_offset += 32 + len;
                    let virtual_header = if v6 { 40 } else { 20 };
                    let total = 40 + 8 + (1 + cid + 1) + frame + 16 + header + len;
                    let expected =
                        [40, 8, 1 + cid + 1, frame, 16, header, virtual_header, len - virtual_header, 0, total];
                    assert_eq!(bytes(&composition), expected.map(|n| n as u32), "{framing:?}");
                    assert_eq!(composition.other_frames, 0);
                }
            }
        }
    }

    #[test]
    fn the_largest_packet_of_each_framing_is_taken_apart() {
        for (framing, expected) in [
            // quinn leaves out the length of a STREAM frame that fills the packet; the offset has 4 bytes here.
            (Framing::Stream, [40, 8, 10, 6, 16, 32, 40, 1348, 0, 1500]),
            // quinn keeps 9 bytes free for a longer packet number and a longer length.
            (Framing::Datagram, [40, 8, 10, 3, 16, 32, 40, 1342, 0, 1491]),
            (Framing::Compact, [40, 8, 10, 3, 16, 0, 40, 1374, 0, 1491]),
        ] {
            let mut pair = Pair::new(1, CidScheme::Direct);
            let most = if framing == Framing::Stream { 1400 } else { expected[6] + expected[7] };
            let composed =
                (1360..=most).filter_map(|len| send_and_compose(&mut pair, framing, &inner(true, len as usize)));
            assert_eq!(bytes(&composed.last().unwrap()), expected, "{framing:?}");
        }
    }

    #[test]
    fn frames_beside_the_tunnelled_packet_are_counted_apart() {
        let mut pair = Pair::new(2, CidScheme::Direct);
        let mut alone = 0;
        let mut bundled = 0;
        for round in 0..50 {
            let before = pair.sent(0).len();
            pair.send_datagram(inner(true, 200).into());
            if round % 2 == 0 {
                pair.send_server_datagram(inner(true, 200).into());
            }
            pair.run_ms(3);
            let mut opener = Opener::new(&pair.secrets);
            for tapped in &tapped(&pair, 0)[before..] {
                let Some(c) = compose(&tapped.packet, &mut opener, Framing::Compact, true) else { continue };
                assert_eq!(c.bytes(Field::QuicFrameHeader), 3 + c.other_frames);
                if c.other_frames == 0 { alone += 1 } else { bundled += 1 }
            }
        }
        assert!(alone > 0 && bundled > 0, "{alone} alone, {bundled} with other frames");
    }

    #[test]
    fn a_packet_that_crosses_in_pieces_or_with_another_is_not_composed_but_its_frames_are_counted() {
        let mut pair = Pair::new(3, CidScheme::Direct);
        let before = pair.sent(0).len();
        pair.send_message(capsule_bytes(&inner(true, 1500)));
        let mut opener = Opener::new(&pair.secrets);
        let pieces = &tapped(&pair, 0)[before..];
        let data: Vec<Bytes> =
            pieces.iter().flat_map(|t| data_frames(&t.packet, &mut opener, Framing::Stream)).collect();
        assert_eq!(data.len(), 2);
        assert_eq!(data.concat(), capsule_bytes(&inner(true, 1500)));
        for tapped in pieces {
            assert_eq!(compose(&tapped.packet, &mut opener, Framing::Stream, true), None);
        }
        let two = [capsule_bytes(&inner(true, 100)), capsule_bytes(&inner(true, 100))].concat();
        pair.send_message(two.clone());
        assert_eq!(data_frames(&last(&pair), &mut opener, Framing::Stream), [two]);
        assert_eq!(compose(&last(&pair), &mut opener, Framing::Stream, true), None);
    }

    #[test]
    fn a_framing_is_not_taken_for_another() {
        let mut pair = Pair::new(4, CidScheme::Direct);
        let all = [Framing::Stream, Framing::Datagram, Framing::Compact];
        for framing in all {
            pair.run_ms(100);
            send(&mut pair, framing, &inner(true, 300));
            let mut opener = Opener::new(&pair.secrets);
            for taken_for in [Framing::Udp4501, Framing::Stream, Framing::Datagram, Framing::Compact] {
                let composition = compose(&last(&pair), &mut opener, taken_for, true);
                assert_eq!(composition.is_some(), taken_for == framing, "{framing:?} as {taken_for:?}");
            }
            assert_eq!(data_frames(&last(&pair), &mut opener, framing).len(), 1);
        }
        let packet = udp4501(true, &inner(true, 300));
        let mut opener = Opener::new(&pair.secrets);
        for framing in all {
            assert_eq!(compose(&packet, &mut opener, framing, true), None);
            assert!(data_frames(&packet, &mut opener, framing).is_empty());
        }
        assert_eq!(data_frames(&packet, &mut opener, Framing::Udp4501)[0].len(), 300);
    }

    #[test]
    fn an_acknowledgement_and_the_handshake_carry_no_data() {
        let mut pair = Pair::new(5, CidScheme::Direct);
        pair.run_ms(12_000);
        let mut opener = Opener::new(&pair.secrets);
        for end in 0..2 {
            for tapped in tapped(&pair, end) {
                assert!(data_frames(&tapped.packet, &mut opener, Framing::Compact).is_empty());
                assert_eq!(compose(&tapped.packet, &mut opener, Framing::Compact, true), None);
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload: Vec<u8>, capsule: bool, v6: bool) {
            let payload = if capsule { capsule_bytes(&payload) } else { payload };
            let address = "[2001:db8::1]:443".parse().unwrap();
            let packet = udp(address, address, IpOptions::default(), &payload).unwrap();
            for framing in [Framing::Udp4501, Framing::Stream, Framing::Datagram, Framing::Compact] {
                for bytes in [&packet[..], &payload] {
                    if let Some(composition) = compose(bytes, &mut no_secrets(), framing, v6) {
                        prop_assert_eq!(composition.bytes(Field::Total) as usize, bytes.len());
                    }
                    data_frames(bytes, &mut no_secrets(), framing);
                }
            }
        }
    }
}
