//! QUIC version 1 packets with a short header (1-RTT), opened with logged secrets (RFC 9001 §5).
//!
//! ```text
//! 0      1         1+c            1+c+p                        n-16       n
//! ├ first ┼ dest. CID ┼ packet number ┼ frames (AES-128-GCM) ... ┼── tag ──┤
//!   ~~~~~   c: 8 or 12  ~~ p: 1–4 ~~~
//!   ~~~ masked by header protection
//! ```
//!
//! A short header does not contain the length of its connection ID, its connection, or the whole packet number. An
//! [`Opener`] tries the values of this project's endpoints: both lengths of connection ID, every secret, and packet
//! numbers near the last one seen with that secret. Only the right combination passes AES-GCM.
//!
//! Key updates are followed (RFC 9001 §6): quinn makes one early, after 10 to 1,000 packets, and the next only after
//! some 2²³. The log has the first secret only; the later ones come from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use cyphonic_core::quic::{PATHED_CID_LEN, RELAYED_CID_LEN};
use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

use super::Secrets;
use super::frame::{self, Frame, take, varint};

/// Length of the AEAD's tag, bytes.
pub const TAG_LEN: usize = 16;
/// The lengths of this project's connection IDs, bytes.
const CID_LENS: [usize; 3] = [8, RELAYED_CID_LEN, PATHED_CID_LEN];
/// A sample for header protection has this many bytes and begins 4 bytes after the start of the packet number.
pub(super) const SAMPLE_LEN: usize = 16;
/// How many turns of a truncated packet number are tried beyond the nearest: a packet with a one-byte number is found
/// if fewer than 16,384 before it were not seen.
const FAR: u64 = 64;

/// A 1-RTT packet, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedPacket {
    /// Length of the destination connection ID, bytes.
    pub dcid_len: usize,
    /// Length of the packet number, bytes.
    pub packet_number_len: usize,
    /// The whole packet number.
    pub packet_number: u64,
    /// Length of the short header: first byte, connection ID and packet number.
    pub header_len: usize,
    /// Length of the AEAD's tag, bytes.
    pub tag_len: usize,
    /// The frames, in order. With header and tag they make up the packet.
    pub frames: Vec<Frame>,
}

/// Opens the 1-RTT packets of all connections whose secrets are logged, also those that begin later. Packets should
/// come in the order of the wire.
pub struct Opener {
    secrets: Arc<Secrets>,
    /// How many secrets the log had when `keys` were made.
    seen: usize,
    keys: Vec<TrafficKeys>,
    /// The key and the length of connection ID that opened a packet, by the first bytes of its connection ID: the
    /// combination to try first.
    known: BTreeMap<[u8; CID_LENS[0]], (usize, usize)>,
}

/// The keys of one direction of one connection.
struct TrafficKeys {
    /// Kept through key updates.
    header: HeaderProtectionKey,
    /// The keys after each number of key updates, up to two beyond `current`.
    generations: Vec<Generation>,
    /// The latest that opened a packet.
    current: usize,
    /// One more than the greatest packet number seen.
    expected: u64,
}

/// What changes in a key update.
pub(super) struct Generation {
    secret: [u8; 32],
    packet: LessSafeKey,
    iv: [u8; 12],
}

impl Opener {
    /// For the connections that log to `secrets`.
    pub fn new(secrets: &Arc<Secrets>) -> Self {
        Self { secrets: secrets.clone(), seen: 0, keys: Vec::new(), known: BTreeMap::new() }
    }

    /// Makes the keys of secrets that were logged since the last call.
    fn learn(&mut self) {
        let logged = self.secrets.len();
        if std::mem::replace(&mut self.seen, logged) == logged {
            return;
        }
        for secret in self.secrets.application() {
            if !self.keys.iter().any(|keys| keys.generations[0].secret[..] == secret) {
                self.keys.extend(TrafficKeys::new(&secret));
            }
        }
    }

    /// Opens a packet; `None` if it has no short header, no secret fits, or it was changed on the way.
    pub fn open(&mut self, packet: &[u8]) -> Option<OpenedPacket> {
        let cid_start: [u8; CID_LENS[0]] = *packet.get(1..)?.first_chunk()?;
        // The bit after the header form is ignored: endpoints may grease it (RFC 9287).
        if packet[0] & 0x80 != 0 {
            return None;
        }
        self.learn();
        let known = self.known.get(&cid_start).copied();
        if let Some(opened) = known.and_then(|(key, cid_len)| self.keys[key].open(packet, cid_len, 0)) {
            return Some(opened);
        }
        for reach in [0, FAR] {
            for (index, keys) in self.keys.iter_mut().enumerate() {
                for cid_len in CID_LENS {
                    if let Some(opened) = keys.open(packet, cid_len, reach) {
                        self.known.insert(cid_start, (index, cid_len));
                        return Some(opened);
                    }
                }
            }
        }
        None
    }
}

impl TrafficKeys {
    /// `None` for a secret of a cipher suite that is not this project's.
    fn new(secret: &[u8]) -> Option<Self> {
        let secret: [u8; 32] = secret.try_into().ok()?;
        let header = HeaderProtectionKey::new(&AES_128, &expand::<16>(&secret, "quic hp")).ok()?;
        let mut keys = Self { header, generations: vec![Generation::new(secret)], current: 0, expected: 0 };
        keys.derive_ahead();
        Some(keys)
    }

    fn derive_ahead(&mut self) {
        while self.generations.len() <= self.current + 2 {
            let secret = self.generations[self.generations.len() - 1].secret;
            self.generations.push(Generation::new(expand(&secret, "quic ku")));
        }
    }

    fn open(&mut self, packet: &[u8], cid_len: usize, reach: u64) -> Option<OpenedPacket> {
        let number_at = 1 + cid_len;
        let sample_at = number_at + 4;
        let mask = self.header.new_mask(packet.get(sample_at..sample_at + SAMPLE_LEN)?).ok()?;
        let first = packet[0] ^ (mask[0] & 0x1f);
        // Reserved bits are zero after unmasking, so most wrong keys are detected here.
        if first & 0x18 != 0 {
            return None;
        }
        let number_len = usize::from(first & 0x03) + 1;
        let header_len = number_at + number_len;
        let mut header = packet[..header_len].to_vec();
        header[0] = first;
        header[number_at..].iter_mut().zip(&mask[1..]).for_each(|(byte, mask)| *byte ^= mask);
        let truncated = header[number_at..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));

        let phase = usize::from(first & 0x04 != 0);
        let sealed = &packet[header_len..];
        let numbers = candidates(self.expected, truncated, number_len, reach);
        let generations = (self.current.saturating_sub(1)..=self.current + 2).filter(|g| g % 2 == phase);
        let (generation, number, plaintext) = generations
            .flat_map(|generation| numbers.iter().map(move |&number| (generation, number)))
            .find_map(|(g, number)| Some((g, number, self.generations[g].open(number, &header, sealed)?)))?;
        let frames = frame::parse(plaintext.into())?;
        self.expected = self.expected.max(number + 1);
        self.current = self.current.max(generation);
        self.derive_ahead();
        Some(OpenedPacket {
            dcid_len: cid_len,
            packet_number_len: number_len,
            packet_number: number,
            header_len,
            tag_len: TAG_LEN,
            frames,
        })
    }
}

impl Generation {
    /// Packet key and IV of a traffic secret (RFC 9001 §5.1).
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, "quic key")).expect("16 bytes");
        Self { secret, packet: LessSafeKey::new(key), iv: expand(&secret, "quic iv") }
    }

    pub(super) fn open(&self, number: u64, header: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        let mut buffer = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.packet.open_in_place(nonce, Aad::from(header), &mut buffer).ok()?.len();
        buffer.truncate(length);
        Some(buffer)
    }
}

/// The packet numbers that `truncated` may stand for: the one nearest to `expected` (RFC 9000 §A.3), and those `reach`
/// turns after and, at most two, before it.
fn candidates(expected: u64, truncated: u64, number_len: usize, reach: u64) -> Vec<u64> {
    /// Packet numbers have 62 bits.
    const END: u64 = 1 << 62;
    let turn = 1 << (8 * number_len);
    let mut nearest = expected & !(turn - 1) | truncated;
    if nearest + turn / 2 <= expected && nearest + turn < END {
        nearest += turn;
    } else if nearest > expected + turn / 2 && nearest >= turn {
        nearest -= turn;
    }
    let after = (1..=reach).map(|turns| nearest + turns * turn);
    let before = (1..=reach.min(2)).filter_map(|turns| nearest.checked_sub(turns * turn));
    std::iter::once(nearest).chain(after).chain(before).filter(|&number| number < END).collect()
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
pub(super) fn expand<const N: usize>(secret: &[u8; 32], label: &str) -> [u8; N] {
    expand_prk(&hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret), label)
}

/// The same from a secret that was extracted.
pub(super) fn expand_prk<const N: usize>(secret: &hkdf::Prk, label: &str) -> [u8; N] {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    const PREFIX: &[u8] = b"tls13 ";
    let lengths = [0, N as u8, (PREFIX.len() + label.len()) as u8];
    let mut out = [0; N];
    secret
        .expand(&[&lengths, PREFIX, label.as_bytes(), &[0]], Length(N))
        .and_then(|okm| okm.fill(&mut out))
        .expect("SHA-256 gives up to 8,160 bytes");
    out
}

/// The short-header packet in a UDP payload: the whole of it, or what follows the long-header packets in front of it
/// (RFC 9000 §12.2). `None` if there is none.
pub fn one_rtt(udp_payload: &[u8]) -> Option<&[u8]> {
    let mut rest = udp_payload;
    while *rest.first()? & 0x80 != 0 {
        rest = rest.get(long_packet_len(rest)?..)?;
    }
    Some(rest)
}

/// Length of the long-header packet of version 1 at the start of `bytes`, if it says one (RFC 9000 §17.2). It may
/// exceed that of `bytes`.
fn long_packet_len(bytes: &[u8]) -> Option<usize> {
    const INITIAL: u8 = 0;
    const RETRY: u8 = 3;
    let mut rest = Bytes::copy_from_slice(bytes);
    let kind = rest.try_get_u8().ok()? >> 4 & 0x03;
    if rest.try_get_u32().ok()? != 1 || kind == RETRY {
        return None;
    }
    for _cid in 0..2 {
        let length = rest.try_get_u8().ok()?;
        take(&mut rest, length.into())?;
    }
    if kind == INITIAL {
        let token = varint(&mut rest)?;
        take(&mut rest, token)?;
    }
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    (bytes.len() - rest.len()).checked_add(length)
}

#[cfg(test)]
mod tests {
    use cyphonic_core::name::RelayCid;
    use cyphonic_core::quic::CidScheme;
    use proptest::prelude::*;

    use super::*;
    use crate::dissect::frame::FrameKind;
    use crate::dissect::testing::Pair;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> = (0..N).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn the_keys_of_a_secret_are_those_of_the_rfc() {
        // RFC 9001, appendix A.1: the client's Initial secret.
        let secret = hex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea");
        assert_eq!(expand::<16>(&secret, "quic key"), hex("1f369613dd76d5467730efcbe3b1a22d"));
        assert_eq!(expand::<12>(&secret, "quic iv"), hex("fa044b2f42a3fd3b46fb255c"));
        assert_eq!(expand::<16>(&secret, "quic hp"), hex("9f50449e04a0e810283a1e9933adedd2"));
        // Appendix A.5: the secret after a key update.
        let secret = hex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
        let next = hex("1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9");
        assert_eq!(expand::<32>(&secret, "quic ku"), next);
    }

    #[test]
    fn a_truncated_packet_number_is_taken_near_the_expected_one() {
        // RFC 9000, appendix A.3.
        assert_eq!(candidates(0xa82f_30eb, 0x9b32, 2, 0), [0xa82f_9b32]);
        assert_eq!(candidates(0, 5, 1, 0), [5]);
        assert_eq!(candidates(255, 1, 1, 0), [257]);
        assert_eq!(candidates(257, 250, 1, 0), [250]);
        assert_eq!(candidates(300, 44, 1, 3), [300, 556, 812, 1068, 44]);
    }

    #[test]
    fn every_1_rtt_packet_of_a_connection_opens_in_both_directions() {
        let relay = RelayCid(*b"a relay!");
        let schemes = [
            (CidScheme::Direct, 8),
            (CidScheme::Relayed(relay), 12),
            (CidScheme::Pathed(relay), 16),
            (CidScheme::Marked, 16),
        ];
        for (scheme, cid_len) in schemes {
            let mut pair = Pair::new(1, scheme);
            for size in [0, 1, 63, 64, 900, 1100] {
                pair.datagram(size);
                pair.message(size);
            }
            pair.run_ms(3_000);
            let mut opener = Opener::new(&pair.secrets);
            let mut numbers = [Vec::new(), Vec::new()];
            for (direction, numbers) in numbers.iter_mut().enumerate() {
                for payload in pair.udp_payloads(direction) {
                    let Some(packet) = one_rtt(&payload) else { continue };
                    let opened = opener.open(packet).expect("logged secrets open it");
                    let frames: usize = opened.frames.iter().map(Frame::len).sum();
                    assert_eq!(opened.header_len + frames + opened.tag_len, packet.len());
                    assert_eq!(opened.header_len, 1 + opened.dcid_len + opened.packet_number_len);
                    assert_eq!(opened.dcid_len, cid_len);
                    numbers.push(opened.packet_number);
                }
            }
            for numbers in numbers {
                assert!(numbers.len() > 3 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
            }
        }
    }

    #[test]
    fn what_was_sent_is_found_in_the_frames() {
        let mut pair = Pair::new(2, CidScheme::Direct);
        let datagram = pair.datagram(200);
        let message = pair.message(3_000);
        pair.run_ms(500);
        let mut opener = Opener::new(&pair.secrets);
        let payloads = pair.udp_payloads(0);
        let frames: Vec<Frame> =
            payloads.iter().filter_map(|p| opener.open(one_rtt(p)?)).flat_map(|opened| opened.frames).collect();
        let datagrams: Vec<_> = frames.iter().filter(|f| f.kind == FrameKind::Datagram).map(|f| &f.data).collect();
        assert_eq!(datagrams, [&datagram]);
        let mut stream = Vec::new();
        for frame in &frames {
            if let FrameKind::Stream { id, offset, fin } = frame.kind {
                assert_eq!((id, offset, fin), (0, stream.len() as u64, false));
                stream.extend_from_slice(&frame.data);
            }
        }
        assert_eq!(stream, message);
    }

    #[test]
    fn a_packet_opens_though_thousands_before_it_were_not_seen() {
        let mut pair = Pair::new(3, CidScheme::Direct);
        for _ in 0..3_000 {
            pair.datagram(100);
            pair.run_ms(5);
        }
        let last = pair.udp_payloads(0).pop().unwrap();
        let opened = Opener::new(&pair.secrets).open(&last).unwrap();
        assert!(opened.packet_number >= 3_000);
        assert_eq!(opened.packet_number_len, 1);
    }

    #[test]
    fn a_changed_packet_and_one_without_its_secret_stay_closed() {
        let mut pair = Pair::new(4, CidScheme::Direct);
        pair.datagram(100);
        let packet = pair.udp_payloads(0).pop().unwrap();
        let mut opener = Opener::new(&pair.secrets);
        assert!(opener.open(&packet).is_some());
        for byte in 0..packet.len() {
            let mut changed = packet.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert_eq!(opener.open(&changed), None, "byte {byte}");
            assert_eq!(opener.open(&packet[..byte]), None, "cut to {byte}");
        }
        assert_eq!(Opener::new(&Arc::default()).open(&packet), None);
        assert_eq!(Opener::new(&Pair::new(5, CidScheme::Direct).secrets).open(&packet), None);
    }

    #[test]
    fn an_opener_learns_of_connections_that_begin_after_it() {
        let log = Arc::new(Secrets::default());
        let mut opener = Opener::new(&log);
        for seed in [6, 7] {
            let mut pair = Pair::logging_to(log.clone(), seed, CidScheme::Direct);
            let data = pair.datagram(100);
            let opened = opener.open(&pair.udp_payloads(0).pop().unwrap()).unwrap();
            assert!(opened.frames.iter().any(|frame| frame.data == data), "seed {seed}");
        }
    }

    #[test]
    fn a_1_rtt_packet_is_found_behind_those_with_long_headers() {
        let long = |kind: u8, rest: &[u8]| [&[0xc0 | kind << 4, 0, 0, 0, 1, 2, 7, 7, 0], rest].concat();
        let (initial, handshake) = (long(0, &[1, 9, 3, 1, 2, 3]), long(2, &[2, 1, 2]));
        let short = [0x40, 1, 2, 3];
        let datagram = [&initial[..], &handshake, &short].concat();
        assert_eq!(one_rtt(&datagram), Some(&short[..]));
        assert_eq!(one_rtt(&short), Some(&short[..]));
        assert_eq!(one_rtt(&[&initial[..], &handshake].concat()), None);
        assert_eq!(one_rtt(&initial[..initial.len() - 1]), None);
        assert_eq!(one_rtt(&long(3, &[0x40; 40])), None, "nothing follows a Retry");
        let mut other_version = datagram;
        other_version[4] = 2;
        assert_eq!(one_rtt(&other_version), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_open_and_never_panic(mut bytes: Vec<u8>, short: bool) {
            let secrets = Arc::new(Secrets::default());
            rustls::KeyLog::log(&*secrets, "CLIENT_TRAFFIC_SECRET_0", &[1; 32], &[2; 32]);
            if let (true, Some(first)) = (short, bytes.first_mut()) {
                *first &= 0x7f;
            }
            prop_assert!(one_rtt(&bytes).and_then(|packet| Opener::new(&secrets).open(packet)).is_none());
        }
    }
}
