//! Path probes: small sealed datagrams by which two nodes prove a path to each other.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0 | form | `0010_00kk`; kk: 0 Hello, 1 Challenge, 2 Answer |
//! | 1–8 | tag | the destination's tag, in the place of a short header's connection ID: a relay forwards by it |
//! | 9–12 | number | counts this node's probes; it is the AEAD's nonce and guards against replay |
//! | 13–20 | token | sealed: random, to be repeated by the answer; 0 in an Answer |
//! | 21–28 | echo | sealed: the token that is answered; 0 in a Hello |
//! | 29–30 | size | sealed: length of the datagram that is answered, bytes; 0 in a Hello |
//! | 31 | flags | sealed: see [`Flags`] |
//! | 32– | padding | sealed: zeros |
//! | last 16 | tag of the AEAD | AES-128-GCM over the rest; bytes 0–12 are additional data |
//!
//! A Challenge and an Answer have [`PROBE_LEN`] bytes, and no Hello is shorter: a reply is never larger than its
//! request.
//!
//! The peer cannot predict a token either. So a peer that names a victim's address as its own cannot answer a probe
//! that was sent there.

use bytes::BytesMut;
use ring::{aead, hkdf};

use crate::conventional::replay::{ReplayWindow, Sequence};
use crate::name::RelayCid;

/// Length of a probe without padding, bytes of UDP payload.
pub const PROBE_LEN: usize = 48;
/// Label of the TLS exporter (RFC 8446 §7.5) for [`Secret`].
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-cyphonic-paths";

/// The form: the first two bits are 0, as in no QUIC packet (RFC 9443), and the third is 1.
const FORM: u8 = 0x20;
const CLEAR: usize = 13;
const SEALED: usize = 19;
const TAG_LEN: usize = 16;

/// The secret that both ends export from the TLS session of their tunnel under [`EXPORTER_LABEL`].
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Asks whether the peer hears us.
    Hello,
    /// Answers a Hello from an address that is not proved, and asks whether the peer is truly there.
    Challenge,
    /// Answers a Hello from a proved address, or a Challenge.
    Answer,
}

impl ProbeKind {
    const ALL: [Self; 3] = [Self::Hello, Self::Challenge, Self::Answer];
}

/// Facts that the sender of a probe adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// The sender has lost its former addresses. What those had proved is void.
    pub const MOVED: Self = Self(1);
    /// The sender hears nothing on this path.
    pub const DEAF: Self = Self(2);

    /// Whether all of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other` set too.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The sealed content of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it is for.
    pub kind: ProbeKind,
    /// The token that the answer has to repeat.
    pub token: u64,
    /// The token that is answered.
    pub echo: u64,
    /// Length of the datagram that is answered, bytes.
    pub size: u16,
    /// Facts that the sender adds.
    pub flags: Flags,
}

/// Whether a datagram is a path probe for the node with this tag. Check this before
/// [`is_probe`](crate::probe::is_probe), because the transaction IDs of those probes may have any first byte below
/// `0x40`.
pub fn is_path_probe(datagram: &[u8], tag: RelayCid) -> bool {
    tag_of(datagram) == Some(tag)
}

/// The destination's tag, if a datagram has the form of a path probe.
pub fn tag_of(datagram: &[u8]) -> Option<RelayCid> {
    kind_of(datagram)?;
    Some(RelayCid(datagram[1..9].try_into().expect("eight bytes")))
}

/// The kind of probe whose form a datagram has. Whether the datagram is authentic is another matter.
pub fn kind_of(datagram: &[u8]) -> Option<ProbeKind> {
    let kind = usize::from(datagram.first()? ^ FORM);
    ProbeKind::ALL.get(kind).copied().filter(|_| datagram.len() >= PROBE_LEN)
}

/// One end's keys of one tunnel, one for each direction. Each number is used once, and accepted once.
pub struct Keys {
    ours: aead::LessSafeKey,
    theirs: aead::LessSafeKey,
    numbers: Sequence,
    seen: ReplayWindow,
}

/// The tags of a tunnel's probes: ours, then the peer's. Both ends derive them from the TLS session, without a message.
pub fn tags(secret: &Secret, client: bool) -> [RelayCid; 2] {
    let tag = |label: &[u8]| {
        let label = [label];
        let mut bytes = [0; 16];
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret.0)
            .expand(&label, Length)
            .and_then(|okm| okm.fill(&mut bytes))
            .expect("16 bytes are less than 255 hashes");
        RelayCid(*bytes.first_chunk().expect("16 bytes"))
    };
    let (client_side, server_side) = (tag(b"client tag"), tag(b"server tag"));
    if client { [client_side, server_side] } else { [server_side, client_side] }
}

impl Keys {
    /// The keys of the TLS client (`client`), or of the TLS server.
    pub fn new(secret: &Secret, client: bool) -> Self {
        let key = |label: &[u8]| {
            let mut bytes = zeroize::Zeroizing::new([0; 16]);
            hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret.0)
                .expand(&[label], Length)
                .and_then(|okm| okm.fill(&mut *bytes))
                .expect("16 bytes are less than 255 hashes");
            aead::UnboundKey::new(&aead::AES_128_GCM, &*bytes).map(aead::LessSafeKey::new).expect("16 bytes")
        };
        let (up, down) = (key(b"client"), key(b"server"));
        let (ours, theirs) = if client { (up, down) } else { (down, up) };
        Self { ours, theirs, numbers: Sequence::default(), seen: ReplayWindow::default() }
    }

    /// The datagram of a probe, padded to `len` bytes. `None` once the numbers are used up.
    pub fn seal(&mut self, to: RelayCid, probe: &Probe, len: usize) -> Option<Vec<u8>> {
        let number = self.numbers.next()?;
        let len = len.max(PROBE_LEN);
        let mut out = Vec::with_capacity(len);
        out.push(FORM | probe.kind as u8);
        out.extend_from_slice(&to.0);
        out.extend_from_slice(&number.to_be_bytes());
        let mut body = Vec::with_capacity(len - CLEAR);
        body.extend_from_slice(&probe.token.to_be_bytes());
        body.extend_from_slice(&probe.echo.to_be_bytes());
        body.extend_from_slice(&probe.size.to_be_bytes());
        body.push(probe.flags.0);
        body.resize(len - CLEAR - TAG_LEN, 0);
        let aad = aead::Aad::from(&out[..]);
        self.ours.seal_in_place_append_tag(nonce(number), aad, &mut body).ok()?;
        out.append(&mut body);
        Some(out)
    }

    /// Reads a probe of the peer. `None` if it is not authentic, or not new.
    pub fn open(&mut self, mut datagram: BytesMut) -> Option<Probe> {
        tag_of(&datagram)?;
        let (clear, sealed) = datagram.split_at_mut(CLEAR);
        let number = u32::from_be_bytes(clear[9..13].try_into().expect("four bytes"));
        if !self.seen.check(number) {
            return None;
        }
        let body = self.theirs.open_in_place(nonce(number), aead::Aad::from(&*clear), sealed).ok()?;
        self.seen.set(number);
        let word = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        debug_assert!(body.len() >= SEALED);
        Some(Probe {
            kind: ProbeKind::ALL[usize::from(clear[0] ^ FORM)],
            token: word(0),
            echo: word(8),
            size: u16::from_be_bytes([body[16], body[17]]),
            flags: Flags(body[18]),
        })
    }
}

fn nonce(number: u32) -> aead::Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    aead::Nonce::assume_unique_for_key(bytes)
}

/// The length of an AES-128 key, for HKDF.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Flags as HeaderFlags, Header, Kind as HeaderKind};
    use crate::probe::is_not_quic;
    use crate::quic::destination_prefix;

    const BOB: RelayCid = RelayCid(*b"tag of b");

    fn pair() -> (Keys, Keys) {
        let secret = Secret([7; 32]);
        (Keys::new(&secret, true), Keys::new(&secret, false))
    }

    fn hello(token: u64) -> Probe {
        Probe { kind: ProbeKind::Hello, token, echo: 0, size: 0, flags: Flags::MOVED }
    }

    fn bytes(datagram: &[u8]) -> BytesMut {
        BytesMut::from(datagram)
    }

    #[test]
    fn a_probe_opens_at_the_other_end_once() {
        let (mut alice, mut bob) = pair();
        for (kind, len) in [(ProbeKind::Hello, 1200), (ProbeKind::Challenge, 0), (ProbeKind::Answer, PROBE_LEN)] {
            let probe = Probe { kind, token: 5, echo: 6, size: 1200, flags: Flags::DEAF };
            let sealed = alice.seal(BOB, &probe, len).unwrap();
            assert_eq!(sealed.len(), len.max(PROBE_LEN));
            assert_eq!(bob.open(bytes(&sealed)), Some(probe));
            assert_eq!(bob.open(bytes(&sealed)), None, "a replay");
        }
    }

    #[test]
    fn whoever_changes_a_bit_or_has_other_keys_says_nothing() {
        let (mut alice, mut bob) = pair();
        let sealed = alice.seal(BOB, &hello(9), 60).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(bob.open(bytes(&bad)), None, "bit {bit}");
        }
        assert_eq!(alice.open(bytes(&sealed)), None, "turned around by a NAT, or by anybody");
        assert_eq!(Keys::new(&Secret([8; 32]), false).open(bytes(&sealed)), None);
        for cut in 0..sealed.len() {
            assert_eq!(bob.open(bytes(&sealed[..cut])), None);
        }
        assert!(bob.open(bytes(&sealed)).is_some(), "the honest one still counts");
    }

    #[test]
    fn it_is_told_from_quic_and_forwarded_by_the_tag() {
        let (mut alice, _) = pair();
        let sealed = alice.seal(BOB, &hello(1), 0).unwrap();
        assert!(is_not_quic(&sealed) && is_path_probe(&sealed, BOB));
        assert!(!is_path_probe(&sealed, RelayCid(*b"tag of c")));
        assert_eq!(destination_prefix(&sealed), Some(BOB), "the rule by which a relay forwards");
        for first in 0x40..=0xff {
            let mut quic = sealed.clone();
            quic[0] = first;
            assert_eq!(tag_of(&quic), None, "QUIC begins with {first:02x}");
        }
    }

    #[test]
    fn a_probe_of_the_survey_has_another_tag() {
        // Bytes 4 to 7 of a header are version, flags, kind and count. Only the tag tells the two apart for certain.
        let header = Header {
            transaction: 0x2000_0000,
            spoken: crate::version::Spoken::FIRST,
            flags: HeaderFlags(0),
            kind: HeaderKind::Probe,
            count: 0,
            sequence: 0,
            length: 16,
            option: 0,
            id: [7; 16],
        };
        let mut datagram = header.encode().to_vec();
        datagram.resize(PROBE_LEN, 0);
        assert!(!is_path_probe(&datagram, BOB));
        let (_, mut bob) = pair();
        assert_eq!(bob.open(bytes(&datagram)), None);
    }

    #[test]
    fn numbers_end_rather_than_repeat_a_nonce() {
        let (mut alice, _) = pair();
        alice.numbers = Sequence::from(u32::MAX);
        assert!(alice.seal(BOB, &hello(1), 0).is_some());
        assert!(alice.seal(BOB, &hello(1), 0).is_none());
    }
}
