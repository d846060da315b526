//! Deep packet inspection: what a firewall learns about a conversation from its first packets.
//!
//! In UDP it decrypts QUIC Initials, which any host on the path can. In TCP it reads the first TLS record. From the
//! ClientHello it takes the server's name and the protocols offered. Packets pass until there is enough to decide. The
//! decision holds for the rest of the conversation:
//!
//! ```text
//! watching ─┬─ a rule fits ─→ decided: drop, reject, reset, or throttle
//!           └─ nothing fits, or too much seen ─→ of no interest
//! ```

use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Inspect, Reaction, Throttle, Trait};

use crate::dissect::frame::FrameKind;
use crate::dissect::hello::{Beginning, ClientHello};
use crate::dissect::initial::{InitialKeys, LEAST_DATAGRAM, LongHeader, VERSION_1};
use crate::net::NetDrop;
use crate::net::packet::{Ip, protocol};

/// A conversation that matched no rule within this many packets is not inspected any more.
const MAX_WATCHED: u32 = 16;
const TLS_HANDSHAKE: u8 = 22;
const TLS_RECORD_HEADER: usize = 5;

/// How far the inspection of a conversation is.
#[derive(Debug)]
pub(super) enum Sight {
    Watching(Box<Watch>),
    Decided(Verdict),
    Boring,
}

impl Default for Sight {
    fn default() -> Self {
        Self::Watching(Box::default())
    }
}

/// What was learned so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    packets: u32,
    bytes: u64,
    version: Option<u32>,
    keys: Option<InitialKeys>,
    is_quic: bool,
    /// Of the first TCP segment with data that was seen.
    first_sequence: Option<u32>,
    stream: Beginning,
    hello: Option<ClientHello>,
}

#[derive(Debug)]
pub(super) struct Verdict {
    reaction: Reaction,
    /// Of [`Reaction::Throttle`].
    throttle: Throttle,
    /// Bytes so far.
    bytes: u64,
    /// The token bucket, in bytes × 8 × 10⁹: a rate of one bit per second adds one unit per nanosecond.
    tokens: u128,
    at: Instant,
}

/// The tokens of one byte: see the field `tokens`.
const TOKENS_A_BYTE: u128 = 8_000_000_000;

impl Sight {
    /// Whether a packet of the conversation, of `len` bytes, passes.
    pub(super) fn judge(&mut self, now: Instant, ip: &Ip<'_>, len: usize, rules: &[Inspect]) -> Result<(), NetDrop> {
        if let Self::Watching(watch) = self {
            watch.look(ip);
            watch.bytes += len as u64;
            match rules.iter().find(|rule| watch.has(&rule.what)) {
                Some(rule) => *self = Self::Decided(Verdict::new(now, rule, watch.bytes - len as u64)),
                None if watch.hello.is_some() || watch.packets >= MAX_WATCHED => *self = Self::Boring,
                None => {}
            }
        }
        match self {
            Self::Decided(verdict) => verdict.apply(now, len),
            Self::Watching(_) | Self::Boring => Ok(()),
        }
    }
}

impl Watch {
    fn look(&mut self, ip: &Ip<'_>) {
        self.packets += 1;
        match ip.protocol {
            protocol::UDP => self.look_at_quic(ip.payload.get(8..).unwrap_or_default()),
            protocol::TCP => self.look_at_tcp(ip.payload),
            _ => {}
        }
    }

    fn look_at_quic(&mut self, payload: &[u8]) {
        // A server drops a client's Initial in a shorter datagram (RFC 9000 §14.1).
        if payload.len() < LEAST_DATAGRAM {
            return;
        }
        let Some(header) = LongHeader::read(payload) else { return };
        self.version.get_or_insert(header.version);
        if header.version != VERSION_1 {
            return;
        }
        // All Initials are protected by keys from the client's first destination connection ID (RFC 9001 §5.2).
        let keys = self.keys.get_or_insert_with(|| InitialKeys::of_client(&header.dcid));
        for frame in keys.open(payload).unwrap_or_default() {
            self.is_quic = true;
            if let FrameKind::Crypto { offset } = frame.kind {
                self.stream.add(offset, frame.data);
            }
        }
        self.hello = ClientHello::read(&self.stream.bytes());
    }

    fn look_at_tcp(&mut self, segment: &[u8]) {
        let Some(&[_, _, _, _, q0, q1, q2, q3, _, _, _, _, offset, ..]) = segment.first_chunk::<20>() else { return };
        let data = segment.get(usize::from(offset >> 4) * 4..).unwrap_or_default();
        if data.is_empty() {
            return;
        }
        let sequence = u32::from_be_bytes([q0, q1, q2, q3]);
        let first = *self.first_sequence.get_or_insert(sequence);
        self.stream.add(u64::from(sequence.wrapping_sub(first)), Bytes::copy_from_slice(data));
        let stream = self.stream.bytes();
        if stream.first() == Some(&TLS_HANDSHAKE) {
            self.hello = stream.get(TLS_RECORD_HEADER..).and_then(ClientHello::read);
        }
    }

    fn has(&self, what: &Trait) -> bool {
        let hello = self.hello.as_ref();
        match what {
            Trait::Quic => self.is_quic,
            Trait::Version(version) => self.version == Some(*version),
            Trait::ServerName(suffix) => hello.and_then(|hello| hello.server_name.as_deref()).is_some_and(|name| {
                name.strip_suffix(suffix.as_str()).is_some_and(|host| host.is_empty() || host.ends_with('.'))
            }),
            Trait::Alpn(protocol) => {
                hello.is_some_and(|hello| hello.alpn.iter().any(|offered| offered == protocol.as_bytes()))
            }
        }
    }
}

impl Verdict {
    fn new(now: Instant, rule: &Inspect, bytes: u64) -> Self {
        let tokens = u128::from(rule.throttle.burst_bytes) * TOKENS_A_BYTE;
        Self { reaction: rule.reaction, throttle: rule.throttle, bytes, tokens, at: now }
    }

    fn apply(&mut self, now: Instant, len: usize) -> Result<(), NetDrop> {
        match self.reaction {
            Reaction::Drop => return Err(NetDrop::Inspected),
            Reaction::Reject => return Err(NetDrop::Rejected),
            Reaction::Reset => return Err(NetDrop::Reset),
            Reaction::Throttle => {}
        }
        let Throttle { after_bytes, rate_bps, burst_bytes } = self.throttle;
        let elapsed: Duration = now - self.at;
        self.at = now;
        let full = u128::from(burst_bytes) * TOKENS_A_BYTE;
        self.tokens = (self.tokens + elapsed.as_nanos() * u128::from(rate_bps)).min(full);
        self.bytes += len as u64;
        if self.bytes <= after_bytes {
            return Ok(());
        }
        let price = len as u128 * TOKENS_A_BYTE;
        self.tokens = self.tokens.checked_sub(price).ok_or(NetDrop::Throttled)?;
        Ok(())
    }
}
