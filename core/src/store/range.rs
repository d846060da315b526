//! The range from which virtual addresses come.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::name::Virtual;

/// The host numbers left out at the start of the range: 0 to 9, for the network itself and for services.
const FIRST: u32 = 10;

/// An IPv4 and an IPv6 prefix whose addresses are given out in pairs: host n of the one with host n of the other.
///
/// The default is 198.18.0.0/16 and 2001:db8:c::/64, from .0.10 and ::a on: ranges that are reserved, so that no host
/// on the Internet has an address of them (RFC 2544 via RFC 6890, RFC 3849).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRange {
    v4: Ipv4Addr,
    v4_prefix: u8,
    v6: Ipv6Addr,
}

/// Why a range is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// The IPv4 prefix is longer than /27, which leaves fewer than 21 pairs, or shorter than /8, which is likely a
    /// mistake.
    #[error("an IPv4 prefix length of {0} is not in 8 to 27")]
    PrefixLength(u8),
    /// Bits are set to the right of a prefix.
    #[error("the address has bits set outside its prefix")]
    HostBits,
}

impl Default for VirtualRange {
    fn default() -> Self {
        Self { v4: Ipv4Addr::new(198, 18, 0, 0), v4_prefix: 16, v6: Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0) }
    }
}

impl VirtualRange {
    /// The range `v4`/`v4_prefix` (8 to 27) and `v6`/64.
    pub fn new(v4: Ipv4Addr, v4_prefix: u8, v6: Ipv6Addr) -> Result<Self, RangeError> {
        if !(8..=27).contains(&v4_prefix) {
            return Err(RangeError::PrefixLength(v4_prefix));
        }
        if v4.to_bits() << v4_prefix != 0 || v6.to_bits() << 64 != 0 {
            return Err(RangeError::HostBits);
        }
        Ok(Self { v4, v4_prefix, v6 })
    }

    /// The number of pairs. The first ten host numbers and the broadcast address are left out.
    pub fn capacity(&self) -> u32 {
        (1 << (32 - self.v4_prefix)) - FIRST - 1
    }

    /// The pair with this number, counted from 0; `None` from [`Self::capacity`] on.
    pub fn pair(&self, index: u32) -> Option<Virtual> {
        (index < self.capacity()).then(|| {
            let host = FIRST + index;
            Virtual {
                v4: Ipv4Addr::from_bits(self.v4.to_bits() | host),
                v6: Ipv6Addr::from_bits(self.v6.to_bits() | u128::from(host)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_range_starts_after_ten_and_ends_before_broadcast() {
        let range = VirtualRange::default();
        let first = range.pair(0).unwrap();
        assert_eq!((first.v4.to_string().as_str(), first.v6.to_string().as_str()), ("198.18.0.10", "2001:db8:c::a"));
        let last = range.pair(range.capacity() - 1).unwrap();
        assert_eq!(last.v4, Ipv4Addr::new(198, 18, 255, 254));
        assert_eq!(range.pair(range.capacity()), None);
        assert_eq!(range.pair(u32::MAX), None);
    }

    #[test]
    fn a_range_has_hosts_and_no_bits_beyond_its_prefix() {
        let (v4, v6) = (Ipv4Addr::new(10, 1, 2, 0), "fd00::".parse().unwrap());
        assert_eq!(VirtualRange::new(v4, 27, v6).unwrap().capacity(), 21);
        assert_eq!(VirtualRange::new(v4, 28, v6), Err(RangeError::PrefixLength(28)));
        assert_eq!(VirtualRange::new(v4, 16, v6), Err(RangeError::HostBits));
        assert_eq!(VirtualRange::new(v4, 24, "fd00::1".parse().unwrap()), Err(RangeError::HostBits));
        assert_eq!(
            VirtualRange::default(),
            VirtualRange::new(Ipv4Addr::new(198, 18, 0, 0), 16, "2001:db8:c::".parse().unwrap()).unwrap()
        );
    }
}
