//! How single values are written and read.
//!
//! Each type has one function that writes it, one that reads it, and one that gives its name in the layout. The table
//! of [`super`] makes bodies out of these.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::{AtEnd, Der, Kind, Padding, WrappedKey};
use crate::key::Key128;
use crate::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};

/// The longest body, in bytes. With our header, the HMAC, and the headers of UDP and IP, the packet has 1,276 bytes
/// over IPv4 and 1,296 over IPv6. The second may be fragmented: IPv6 paths carry 1,280 bytes at least (RFC 8200 §5).
pub const MAX_BODY: usize = 1200;
/// The largest number of addresses in one list.
pub const MAX_ADDRESSES: usize = 16;
/// The longest password, in bytes of UTF-8.
pub const MAX_PASSWORD: usize = 1024;

/// Why bytes are not a message body.
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
    /// A byte that selects one of several values has an unknown number.
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
    /// A name is not an [`Fqdn`], or it is not in its one spelling: it has upper case or a final dot.
    #[error("a name is no FQDN in its one spelling")]
    Fqdn,
    /// The header's type is not a signaling message but [`Kind::Capsule`].
    #[error("a {} is no signaling message", .0.name())]
    NoMessage(Kind),
}

/// The part of a body that is not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Skips the rest.
    pub(super) fn skip(&mut self) {
        self.0 = &[];
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }
}

/// A value that has exactly one encoding.
pub(super) trait Field: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the value off the front.
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// The type's name in the layout.
    fn notation() -> String;
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Field::take(r).map(Self::from_be_bytes)
            }

            fn notation() -> String {
                stringify!($type).to_owned()
            }
        }
    )+};
}
integers!(u8, u16, u64);

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.bytes(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    fn notation() -> String {
        format!("{N} bytes")
    }
}

impl Field for Padding {
    fn put(&self, out: &mut Vec<u8>) {
        [0u8; Self::LEN].put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match <[u8; Self::LEN]>::take(r)?.into_iter().find(|byte| *byte != 0) {
            None => Ok(Self),
            Some(value) => Err(DecodeError::Value { what: "padding", value }),
        }
    }

    fn notation() -> String {
        format!("{} zeros", Self::LEN)
    }
}

macro_rules! arrays {
    ($($type:ident $name:literal),+) => {$(
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Field::take(r).map(Self)
            }

            fn notation() -> String {
                $name.to_owned()
            }
        }
    )+};
}
arrays!(Key128 "key", NodeId "id", PathId "id", RelayCid "cid", WrappedKey "wrapped key");

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Value { what: "boolean", value }),
        }
    }

    fn notation() -> String {
        "bool".to_owned()
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::take(r)? { T::take(r).map(Some) } else { Ok(None) }
    }

    fn notation() -> String {
        format!("{}?", T::notation())
    }
}

/// What the layout writes behind the type of a field that may be missing at the end of a message.
pub(super) const IF_MORE: &str = " if more follows";

impl<T: Field> Field for AtEnd<T> {
    fn put(&self, out: &mut Vec<u8>) {
        if let Some(value) = &self.0 {
            value.put(out);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.remaining() == 0 { Ok(Self(None)) } else { T::take(r).map(|value| Self(Some(value))) }
    }

    fn notation() -> String {
        format!("{}{IF_MORE}", T::notation())
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        let sent = &self[..self.len().min(MAX_ADDRESSES)];
        (sent.len() as u8).put(out);
        for item in sent {
            item.put(out);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u8::take(r)?);
        if len > MAX_ADDRESSES {
            return Err(DecodeError::TooLong { what: "list", len, max: MAX_ADDRESSES });
        }
        (0..len).map(|_| T::take(r)).collect()
    }

    fn notation() -> String {
        format!("list of {}", T::notation())
    }
}

/// A password: the only text that is a `String`.
impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.len() <= MAX_PASSWORD, "a password of more than {MAX_PASSWORD} bytes");
        (self.len() as u16).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u16::take(r)?);
        if len > MAX_PASSWORD {
            return Err(DecodeError::TooLong { what: "text", len, max: MAX_PASSWORD });
        }
        str::from_utf8(r.bytes(len)?).map(str::to_owned).map_err(|_| DecodeError::Utf8)
    }

    fn notation() -> String {
        "text".to_owned()
    }
}

impl Field for Der {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.0.len() <= MAX_BODY, "a certificate of more than {MAX_BODY} bytes");
        (self.0.len() as u16).put(out);
        out.extend_from_slice(&self.0);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u16::take(r)?);
        if len > MAX_BODY {
            return Err(DecodeError::TooLong { what: "certificate", len, max: MAX_BODY });
        }
        r.bytes(len).map(|bytes| Self(bytes.to_vec()))
    }

    fn notation() -> String {
        "certificate".to_owned()
    }
}

impl Field for Fqdn {
    fn put(&self, out: &mut Vec<u8>) {
        // An `Fqdn` has at most 253 bytes.
        (self.as_str().len() as u8).put(out);
        out.extend_from_slice(self.as_str().as_bytes());
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u8::take(r)?);
        let text = str::from_utf8(r.bytes(len)?).map_err(|_| DecodeError::Utf8)?;
        let name: Self = text.parse().map_err(|_| DecodeError::Fqdn)?;
        if name.as_str() == text { Ok(name) } else { Err(DecodeError::Fqdn) }
    }

    fn notation() -> String {
        "name".to_owned()
    }
}

impl Field for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => {
                4u8.put(out);
                address.octets().put(out);
            }
            Self::V6(address) => {
                6u8.put(out);
                address.octets().put(out);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            4 => <[u8; 4]>::take(r).map(Self::from),
            6 => <[u8; 16]>::take(r).map(Self::from),
            family => Err(DecodeError::Family(family)),
        }
    }

    fn notation() -> String {
        "ip".to_owned()
    }
}

impl Field for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(IpAddr::take(r)?, u16::take(r)?))
    }

    fn notation() -> String {
        "place".to_owned()
    }
}

impl Field for Virtual {
    fn put(&self, out: &mut Vec<u8>) {
        self.v4.octets().put(out);
        self.v6.octets().put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { v4: Ipv4Addr::from(<[u8; 4]>::take(r)?), v6: Ipv6Addr::from(<[u8; 16]>::take(r)?) })
    }

    fn notation() -> String {
        "virtual".to_owned()
    }
}
