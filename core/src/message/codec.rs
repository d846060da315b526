//! The bytes of a message body.
//!
//! Big-endian, without padding or alignment, and strict: every accepted body is the one encoding of its message, so
//! decoding and encoding again gives the same bytes. Unknown values, trailing bytes and lists that are too long are
//! errors. The layout is this project's; the paper names the fields only.
//!
//! | notation | bytes |
//! |---|---|
//! | `u8` `u16` `u64` | an unsigned integer |
//! | `bool` | 0 or 1 |
//! | `T?` | 0, or 1 and then the T |
//! | list of T | how many as a u8, at most [`MAX_ADDRESSES`], and then each |
//! | `text` | its length as a u16, at most [`MAX_PASSWORD`], and then UTF-8 |
//! | `name` | its length as a u8, and then 1 to 253 of `a-z 0-9 - .`: an [`Fqdn`], lower case, no final dot |
//! | `ip` | 4 and then 4 bytes, or 6 and then 16 bytes |
//! | `place` | ip, then the port as a u16; flow information and scope of IPv6 do not travel |
//! | `virtual` | 4 bytes of IPv4 and then 16 of IPv6 |
//! | `key` | 16 bytes |
//! | `cid` | 8 bytes |
//!
//! | type | message | body |
//! |---|---|---|
//! | 1 | Login Request | device id 16 · credential u8: 1 and then the password as text, or 2 for the certificate |
//! | 2 | Login Response | node id 16 · FQDN name · CK key? · NMS list of place |
//! | 3 | Registration Request | epoch u64 · addresses list of ip · port u16 |
//! | 4 | Registration Response | NAT bool · addresses virtual · survey? |
//! | | survey | key · other port u16 · others list of place |
//! | 5 | Keep Alive | nothing |
//! | 6 | Keep Alive Ack | nothing |
//! | 7 | Direction Request | u8: 1 and then the peer's name, or 2 and then its virtual ip · want |
//! | | want | u8: 1 any, 2 relayed, 3 direct and then the attempt u8 |
//! | 8, 9 | Route Direction | peer name · virtual addresses virtual · pattern u8 · dial bool · candidates list of place · keys? · relay? · want? |
//! | | keys | TK key · MK key |
//! | | relay | TRS list of place · mode u8 · responder's leg cid? |
//! | 10 | Route Direction Confirmation | leg cid? |
//! | 11 | Relay Request | epoch u64 · forward path id 16 · backward path id 16 · TK key |
//! | 12 | Relay Response | accepted bool |
//! | 13 | Hole Punching | nothing |
//! | 14 | Tunnel Request | from name · to name · wrapped EK (32 bytes)? · leg cid? · framing u8 |
//! | 15 | Tunnel Response | nothing |
//! | 16 | Capsule | a tunnelled packet; no [`Message`] |
//! | 17 | Error | code u8 |
//! | 18 | Probe | answer u8: 1 noted, 2 here, 3 other port, 4 other address and then the answer's id 16 |
//! | 19 | Probe Reply | seen place |
//! | 20 | Probe Request | epoch u64 · to place · id 16 |
//! | 21 | Network Report | IPv6 behaviour? · IPv4 behaviour? |
//! | | behaviour | mapping u8? · filtering u8? · hairpin bool · any port bool |
//!
//! | field | values |
//! |---|---|
//! | pattern | 1 direct, 2 one NAT, 3 relayed |
//! | mode | 1 terminating, 2 blind |
//! | framing | 1 udp4501, 2 stream, 3 datagram, 4 compact |
//! | code | 1 unauthorized, 2 not registered, 3 unknown peer, 4 peer offline, 5 no relay, 6 stale epoch, 7 no direct way |
//! | mapping | 1 independent, 2 port, 3 address |
//! | filtering | 1 independent, 2 address, 3 address and port |

mod wire;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use thiserror::Error;

use crate::header::{Flags, HEADER_LEN, Header, Kind};
use crate::message::{
    Answer, Credential, DirectionRequest, ErrorCode, Framing, LoginRequest, LoginResponse, Message, NetworkReport,
    PeerRef, ProbeRequest, RegistrationRequest, RegistrationResponse, Relay, RelayMode, RelayRequest, RouteDirection,
    SurveyPlan, TunnelKeys, TunnelRequest, Want,
};
use crate::name::Fqdn;
use crate::route::Pattern;
use crate::route::optimal::{Behaviour, Filtering, Mapping};
use wire::{Reader, Wire, codes, layout};

/// Longest body, bytes. With header, HMAC and IPv4 it stays below the 1,280 bytes that every path carries.
pub const MAX_BODY: usize = 1200;
/// Most addresses in one list.
pub const MAX_ADDRESSES: usize = 16;
/// Longest password, bytes of UTF-8.
pub const MAX_PASSWORD: usize = 1024;

/// Why bytes are no message body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body ends too early.
    #[error("the body ends too early")]
    Truncated,
    /// The message ends before the body does.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// Longer than its limit: [`MAX_BODY`], [`MAX_ADDRESSES`] or [`MAX_PASSWORD`].
    #[error("{what} of length {len}, more than {max}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it claims to be.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A byte that stands for one of a few values stands for none of them.
    #[error("{what} has no value {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// The byte.
        value: u8,
    },
    /// An address family other than 4 and 6.
    #[error("address family {0} is neither 4 nor 6")]
    Family(u8),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A name is no [`Fqdn`], or not written as one (upper case, final dot).
    #[error("a name is no FQDN in its one spelling")]
    Fqdn,
    /// The header's type has no signaling message: [`Kind::Capsule`].
    #[error("a {} is no signaling message", .0.name())]
    NoMessage(Kind),
}

impl Message {
    /// The body alone, at most [`MAX_BODY`] bytes. Of a list longer than [`MAX_ADDRESSES`] only the first ones travel:
    /// lists are sorted best first. The bytes of some messages are secret: wipe them after use.
    ///
    /// # Panics
    ///
    /// If a password is longer than [`MAX_PASSWORD`]: whoever takes one from a person checks that.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_BODY);
        self.put(&mut out);
        out
    }

    /// How long the body is, bytes.
    pub fn body_len(&self) -> usize {
        zeroize::Zeroizing::new(self.encode_body()).len()
    }

    /// Reads a whole body of the given kind.
    pub fn decode_body(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        if body.len() > MAX_BODY {
            return Err(DecodeError::TooLong { what: "body", len: body.len(), max: MAX_BODY });
        }
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let message = match kind {
            Kind::LoginRequest => Self::LoginRequest(Wire::take(r)?),
            Kind::LoginResponse => Self::LoginResponse(Wire::take(r)?),
            Kind::RegistrationRequest => Self::RegistrationRequest(Wire::take(r)?),
            Kind::RegistrationResponse => Self::RegistrationResponse(Wire::take(r)?),
            Kind::KeepAlive => Self::KeepAlive,
            Kind::KeepAliveAck => Self::KeepAliveAck,
            Kind::DirectionRequest => Self::DirectionRequest(Wire::take(r)?),
            Kind::RouteDirectionInitiator => Self::RouteDirectionInitiator(Wire::take(r)?),
            Kind::RouteDirectionResponder => Self::RouteDirectionResponder(Wire::take(r)?),
            Kind::RouteConfirmation => Self::RouteConfirmation(Wire::take(r)?),
            Kind::RelayRequest => Self::RelayRequest(Wire::take(r)?),
            Kind::RelayResponse => Self::RelayResponse { accepted: Wire::take(r)? },
            Kind::RelayEpoch => Self::RelayEpoch { last: Wire::take(r)? },
            Kind::HolePunching => Self::HolePunching,
            Kind::TunnelRequest => Self::TunnelRequest(Wire::take(r)?),
            Kind::TunnelResponse => Self::TunnelResponse,
            Kind::Capsule => return Err(DecodeError::NoMessage(kind)),
            Kind::Error => Self::Error(Wire::take(r)?),
            Kind::Probe => Self::Probe(Wire::take(r)?),
            Kind::ProbeReply => Self::ProbeReply { seen: Wire::take(r)? },
            Kind::ProbeRequest => Self::ProbeRequest(Wire::take(r)?),
            Kind::NetworkReport => Self::NetworkReport(Wire::take(r)?),
        };
        match reader.remaining() {
            0 => Ok(message),
            more => Err(DecodeError::Trailing(more)),
        }
    }

    /// Header and body: the header gets the message's type and the body's length, and the rest from the arguments.
    ///
    /// # Panics
    ///
    /// As [`Self::encode_body`].
    pub fn to_bytes(&self, transaction: u32, flags: Flags, count: u8, sequence: u32, id: [u8; 16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + MAX_BODY);
        out.resize(HEADER_LEN, 0);
        self.put(&mut out);
        let length = u16::try_from(out.len() - HEADER_LEN).expect("a body is at most MAX_BODY long");
        let header = Header { transaction, flags, kind: self.kind(), count, sequence, length, id };
        out[..HEADER_LEN].copy_from_slice(&header.encode());
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::LoginRequest(body) => body.put(out),
            Self::LoginResponse(body) => body.put(out),
            Self::RegistrationRequest(body) => body.put(out),
            Self::RegistrationResponse(body) => body.put(out),
            Self::DirectionRequest(body) => body.put(out),
            Self::RouteDirectionInitiator(body) | Self::RouteDirectionResponder(body) => body.put(out),
            Self::RouteConfirmation(leg) => leg.put(out),
            Self::RelayRequest(body) => body.put(out),
            Self::RelayResponse { accepted } => accepted.put(out),
            Self::RelayEpoch { last } => last.put(out),
            Self::TunnelRequest(body) => body.put(out),
            Self::Error(code) => code.put(out),
            Self::Probe(answer) => answer.put(out),
            Self::ProbeReply { seen } => seen.put(out),
            Self::ProbeRequest(body) => body.put(out),
            Self::NetworkReport(body) => body.put(out),
            Self::KeepAlive | Self::KeepAliveAck | Self::HolePunching | Self::TunnelResponse => {}
        }
    }
}

// The fields of each body, in the order in which they travel.
layout!(LoginRequest { device, credential });
layout!(LoginResponse { node, fqdn, common_key, nms });
layout!(RegistrationRequest { epoch, addresses, port });
layout!(RegistrationResponse { nat, addresses, survey });
layout!(SurveyPlan { key, other_port, others });
layout!(DirectionRequest { peer, want });
layout!(RouteDirection { peer, virtual_addresses, pattern, dial, candidates, keys, relay, want });
layout!(TunnelKeys { tunnel, temporary });
layout!(Relay { addresses, mode, cid });
layout!(RelayRequest { epoch, forward, backward, tunnel_key });
layout!(ProbeRequest { epoch, to, id });
layout!(NetworkReport { v6, v4 });
layout!(Behaviour { mapping, filtering, hairpin, any_port });
layout!(TunnelRequest { from, to, wrapped_end_key, relay_cid, framing });

// The wire value of each choice.
codes!(Pattern, "pattern", { Direct = 1, OneNat = 2, Relayed = 3 });
codes!(RelayMode, "relay mode", { Terminating = 1, Blind = 2 });
codes!(Framing, "framing", { Udp4501 = 1, Stream = 2, Datagram = 3, Compact = 4 });
codes!(Mapping, "mapping", { Independent = 1, Port = 2, Address = 3 });
codes!(Filtering, "filtering", { Independent = 1, Address = 2, AddressAndPort = 3 });
codes!(ErrorCode, "error code", {
    Unauthorized = 1, NotRegistered = 2, UnknownPeer = 3, PeerOffline = 4, NoRelay = 5, StaleEpoch = 6, NoDirectWay = 7,
    Unavailable = 8
});

impl Wire for Credential {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Password(password) => {
                1u8.put(out);
                password.put(out);
            }
            Self::Certificate => 2u8.put(out),
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            1 => Ok(Self::Password(String::take(r)?)),
            2 => Ok(Self::Certificate),
            value => Err(DecodeError::Value { what: "credential", value }),
        }
    }
}

impl Wire for PeerRef {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Name(name) => {
                1u8.put(out);
                name.put(out);
            }
            Self::Virtual(address) => {
                2u8.put(out);
                address.put(out);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            1 => Ok(Self::Name(Fqdn::take(r)?)),
            2 => Ok(Self::Virtual(IpAddr::take(r)?)),
            value => Err(DecodeError::Value { what: "peer reference", value }),
        }
    }
}

impl Wire for Want {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Any => 1u8.put(out),
            Self::Relayed => 2u8.put(out),
            Self::Direct(attempt) => {
                3u8.put(out);
                attempt.put(out);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            1 => Ok(Self::Any),
            2 => Ok(Self::Relayed),
            3 => Ok(Self::Direct(u8::take(r)?)),
            value => Err(DecodeError::Value { what: "want", value }),
        }
    }
}

impl Wire for Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Noted => 1u8.put(out),
            Self::Here => 2u8.put(out),
            Self::OtherPort => 3u8.put(out),
            Self::OtherAddress(id) => {
                4u8.put(out);
                id.put(out);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            1 => Ok(Self::Noted),
            2 => Ok(Self::Here),
            3 => Ok(Self::OtherPort),
            4 => Ok(Self::OtherAddress(<[u8; 16]>::take(r)?)),
            value => Err(DecodeError::Value { what: "answer", value }),
        }
    }
}
