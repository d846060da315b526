//! How single values travel, and the two macros that make a body of them.
//!
//! Each type says once how it is written and once how it is read; `layout!` and `codes!` derive both from one list,
//! so that the two cannot disagree.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{DecodeError, MAX_ADDRESSES, MAX_PASSWORD};
use crate::key::Key128;
use crate::message::WrappedKey;
use crate::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};

/// The part of a body that is not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }
}

/// A value with one encoding.
pub(super) trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the value off the front.
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A struct: its fields in this order.
macro_rules! layout {
    ($type:ident { $($field:ident),+ }) => {
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)+
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Wire::take(r)?),+ })
            }
        }
    };
}
pub(super) use layout;

/// A choice without data: one byte.
macro_rules! codes {
    ($type:ident, $what:literal, { $($variant:ident = $value:literal),+ }) => {
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $value),+ });
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match u8::take(r)? {
                    $($value => Ok(Self::$variant),)+
                    value => Err(DecodeError::Value { what: $what, value }),
                }
            }
        }
    };
}
pub(super) use codes;

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Wire::take(r).map(Self::from_be_bytes)
            }
        }
    )+};
}
integers!(u8, u16, u64);

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.bytes(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }
}

macro_rules! arrays {
    ($($type:ident),+) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Wire::take(r).map(Self)
            }
        }
    )+};
}
arrays!(Key128, NodeId, PathId, RelayCid, WrappedKey);

impl Wire for bool {
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
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::take(r)? { T::take(r).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Vec<T> {
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
}

/// A password.
impl Wire for String {
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
}

impl Wire for Fqdn {
    fn put(&self, out: &mut Vec<u8>) {
        // At most 253, by construction.
        (self.as_str().len() as u8).put(out);
        out.extend_from_slice(self.as_str().as_bytes());
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u8::take(r)?);
        let text = str::from_utf8(r.bytes(len)?).map_err(|_| DecodeError::Utf8)?;
        let name: Self = text.parse().map_err(|_| DecodeError::Fqdn)?;
        if name.as_str() == text { Ok(name) } else { Err(DecodeError::Fqdn) }
    }
}

impl Wire for IpAddr {
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
}

impl Wire for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(IpAddr::take(r)?, u16::take(r)?))
    }
}

impl Wire for Virtual {
    fn put(&self, out: &mut Vec<u8>) {
        self.v4.octets().put(out);
        self.v6.octets().put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { v4: Ipv4Addr::from(<[u8; 4]>::take(r)?), v6: Ipv6Addr::from(<[u8; 16]>::take(r)?) })
    }
}
