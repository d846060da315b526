//! Which external address and port a new mapping gets.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use cyphonic_core::time::Instant;
use rand_chacha::rand_core::RngCore;

use super::table::{Key, Kind, Table};
use super::{Pooling, PortChoice, PortLikeness};

/// How many times a random port is drawn before the next free one is taken.
const RANDOM_TRIES: usize = 64;
/// The system ports (RFC 6335), without port 0, which cannot be used.
const WELL_KNOWN: RangeInclusive<u16> = 1..=1023;

impl PortLikeness {
    fn allows(self, inside: u16, port: u16) -> bool {
        let is_known = |port| port <= *WELL_KNOWN.end();
        (!self.range || is_known(inside) == is_known(port)) && (!self.parity || inside % 2 == port % 2)
    }
}

impl Table {
    /// A free external address and port for a mapping of an inside address and port.
    pub(super) fn allocate(&mut self, now: Instant, kind: Kind, (host, port): (IpAddr, u16)) -> Option<Key> {
        let pool = self.config.external.len();
        let (first, tries) = match (self.config.pooling, self.paired(host)) {
            _ if pool == 1 => (0, 1),
            (Pooling::Paired, Some(address)) => (self.config.external.iter().position(|&a| a == address)?, 1),
            (Pooling::Paired, None) => {
                self.next_address = (self.next_address + 1) % pool;
                (self.next_address, pool)
            }
            (Pooling::Arbitrary, _) => (scaled(self.chance.pool.next_u32(), pool as u64) as usize, pool),
        };
        (first..first + tries).find_map(|index| {
            let address = self.config.external[index % pool];
            self.allocate_at(now, kind, address, port)
        })
    }

    fn allocate_at(&mut self, now: Instant, kind: Kind, address: IpAddr, inside: u16) -> Option<Key> {
        let range = match kind {
            Kind::Echo => 0..=u16::MAX,
            _ if self.config.likeness.range && WELL_KNOWN.contains(&inside) => WELL_KNOWN,
            _ => self.config.ports.clone(),
        };
        // Port 0 cannot be used, but 0 is a valid echo identifier.
        let may_keep = inside != 0 || kind == Kind::Echo;
        let place = |port| Key { kind, external: (address, port), copy: 0 };
        let allocation = self.config.allocation;
        match allocation {
            PortChoice::Overloading if may_keep => {
                return (0..=u32::MAX).map(|copy| Key { copy, ..place(inside) }).find(|&key| self.reclaim(now, key));
            }
            PortChoice::Preserve if may_keep && self.is_free(now, place(inside)) => return Some(place(inside)),
            PortChoice::Random => {
                let span = u64::from(*range.end()) - u64::from(*range.start()) + 1;
                for _ in 0..RANDOM_TRIES {
                    let port = range.start() + scaled(self.chance.ports.next_u32(), span) as u16;
                    if self.suits(now, place(port), inside) {
                        return Some(place(port));
                    }
                }
            }
            PortChoice::Preserve | PortChoice::Sequential | PortChoice::Overloading => {}
        }
        for _ in range.clone() {
            let port = if range.contains(&self.next_port) { self.next_port } else { *range.start() };
            self.next_port = if port == *range.end() { *range.start() } else { port + 1 };
            if self.suits(now, place(port), inside) {
                return Some(place(port));
            }
        }
        None
    }

    fn suits(&mut self, now: Instant, key: Key, inside: u16) -> bool {
        self.config.likeness.allows(inside, key.external.1) && self.is_free(now, key)
    }

    /// Whether no mapping has this port. Expired ones are removed.
    fn is_free(&mut self, now: Instant, key: Key) -> bool {
        if self.spent.contains(&(key.kind, key.external)) {
            return false;
        }
        let taken: Vec<Key> = self.mappings.range(key.copies()).map(|(&key, _)| key).collect();
        taken.into_iter().all(|key| self.reclaim(now, key))
    }

    /// Whether this key is free. An expired mapping is removed.
    fn reclaim(&mut self, now: Instant, key: Key) -> bool {
        let free = self.live(now, key).is_none();
        if free {
            self.forget(key);
        }
        free
    }
}

/// 32 random bits scaled to `0..span`, which is at most 2³².
fn scaled(bits: u32, span: u64) -> u64 {
    (u64::from(bits) * span) >> 32
}
