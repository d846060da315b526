//! Fragmentation and reassembly: RFC 791, RFC 8200 section 4.5, and RFC 5722 (overlaps discard the whole packet).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::time::Instant;

use super::checksum::checksum;
use super::{FRAGMENT, Fragment, HOP_BY_HOP, IPV6_HEADER, Ip, ROUTING};
use crate::net::NetDrop;

/// Cuts an IPv4 packet, whole or itself a fragment, into pieces of at most `mtu` bytes. `None` if it has Don't
/// Fragment set, is no IPv4 packet, or `mtu` has no room for eight bytes of payload. Options, which nothing here uses,
/// are copied into every piece.
pub fn fragment_ipv4(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let ip = Ip::parse(packet)?;
    if !ip.source.is_ipv4() || ip.dont_fragment {
        return None;
    }
    let header = &packet[..ip.header_len];
    let (first, more_after) = ip.fragment.map_or((0, false), |f| (f.offset, f.more));
    let pieces = cut(ip.payload, mtu.checked_sub(ip.header_len)?)?;
    let last = pieces.len() - 1;
    let mut offset = first;
    let mut out = Vec::with_capacity(pieces.len());
    for (i, piece) in pieces.into_iter().enumerate() {
        let mut fragment = Vec::with_capacity(header.len() + piece.len());
        fragment.extend_from_slice(header);
        fragment.extend_from_slice(piece);
        let more = i < last || more_after;
        set_ipv4_lengths(&mut fragment, header.len(), (offset / 8) as u16 | if more { 0x2000 } else { 0 });
        offset += piece.len();
        out.push(fragment);
    }
    Some(out)
}

/// Cuts an IPv6 packet into fragments of at most `mtu` bytes, as only its source may. `None` if it is no IPv6 packet,
/// is a fragment already, has a hop-by-hop or routing header, or `mtu` has no room for eight bytes of payload.
pub fn fragment_ipv6(packet: &[u8], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let ip = Ip::parse(packet)?;
    let next = packet[6];
    if !ip.source.is_ipv6() || ip.fragment.is_some() || next == HOP_BY_HOP || next == ROUTING {
        return None;
    }
    let pieces = cut(&packet[IPV6_HEADER..], mtu.checked_sub(IPV6_HEADER + 8)?)?;
    let last = pieces.len() - 1;
    let mut offset = 0;
    let mut out = Vec::with_capacity(pieces.len());
    for (i, piece) in pieces.into_iter().enumerate() {
        let mut fragment = Vec::with_capacity(IPV6_HEADER + 8 + piece.len());
        fragment.extend_from_slice(&packet[..IPV6_HEADER]);
        fragment[6] = FRAGMENT;
        fragment[4..6].copy_from_slice(&((piece.len() + 8) as u16).to_be_bytes());
        fragment.extend_from_slice(&[next, 0]);
        fragment.extend_from_slice(&(offset as u16 | u16::from(i < last)).to_be_bytes());
        fragment.extend_from_slice(&id.to_be_bytes());
        fragment.extend_from_slice(piece);
        offset += piece.len();
        out.push(fragment);
    }
    Some(out)
}

/// Pieces of at most `room` bytes, all but the last a multiple of eight long.
fn cut(payload: &[u8], room: usize) -> Option<Vec<&[u8]>> {
    if payload.len() <= room {
        return Some(vec![payload]);
    }
    let size = room / 8 * 8;
    (size > 0).then(|| payload.chunks(size).collect())
}

/// Writes total length and fragment word, and the header checksum anew.
fn set_ipv4_lengths(packet: &mut [u8], header_len: usize, fragment_word: u16) {
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment_word.to_be_bytes());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Bounds of a [`Reassembler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReassemblyLimits {
    /// Packets that may be incomplete at once.
    pub packets: usize,
    /// Fragments that one packet may have.
    pub fragments: usize,
    /// How long the first fragment to arrive waits for the last.
    pub timeout: Duration,
}

impl Default for ReassemblyLimits {
    /// 64 packets of 64 fragments, 30 s (Linux's `ipfrag_time`).
    fn default() -> Self {
        Self { packets: 64, fragments: 64, timeout: Duration::from_secs(30) }
    }
}

/// What became of a packet that was given to a [`Reassembler`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reassembled {
    /// It was not a fragment and is given back.
    Untouched(Vec<u8>),
    /// It completed a packet.
    Whole {
        /// The packet as it was before it was cut.
        packet: Vec<u8>,
        /// Its fragments as they arrived, in order of their offsets.
        fragments: Vec<Vec<u8>>,
    },
    /// It is kept until the other fragments arrive.
    Waiting,
    /// It was dropped. If it contradicts earlier fragments of the same packet, these were dropped too.
    Dropped(NetDrop),
}

/// Reassembles fragments, with limits of packets, fragments and time.
#[derive(Debug, Default)]
pub struct Reassembler {
    limits: ReassemblyLimits,
    partial: BTreeMap<Key, Partial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    /// Zero for IPv6, where only the first fragment's protocol counts (RFC 8200, section 4.5).
    protocol: u8,
}

#[derive(Debug)]
struct Partial {
    deadline: Instant,
    /// By offset into the payload; disjoint.
    fragments: BTreeMap<usize, Stored>,
    /// The length of the payload, known once the last fragment has arrived.
    total: Option<usize>,
    /// Payload bytes that have arrived.
    have: usize,
}

#[derive(Debug)]
struct Stored {
    packet: Vec<u8>,
    /// The offset of the payload in the packet.
    at: usize,
    fragment: Fragment,
}

impl Stored {
    fn payload(&self) -> &[u8] {
        &self.packet[self.at..]
    }
}

impl Reassembler {
    /// With bounds other than the default ones.
    pub fn new(limits: ReassemblyLimits) -> Self {
        Self { limits, partial: BTreeMap::new() }
    }

    /// Takes any packet. Packets whose time is over at `now` should be [expired](Self::expire) before.
    pub fn push(&mut self, now: Instant, packet: Vec<u8>) -> Reassembled {
        let Some(ip) = Ip::parse(&packet) else { return Reassembled::Dropped(NetDrop::BadPacket) };
        let Some(fragment) = ip.fragment else { return Reassembled::Untouched(packet) };
        let key = Key {
            source: ip.source,
            destination: ip.destination,
            id: fragment.id,
            protocol: if ip.source.is_ipv4() { ip.protocol } else { 0 },
        };
        let at = if ip.source.is_ipv4() { ip.header_len } else { fragment.header_at + 8 };
        let (start, length) = (fragment.offset, packet.len() - at);
        let end = start + length;
        if length == 0 || (fragment.more && length % 8 != 0) || at + end > usize::from(u16::MAX) {
            return Reassembled::Dropped(NetDrop::BadFragment);
        }
        if !self.partial.contains_key(&key) && self.partial.len() >= self.limits.packets {
            return Reassembled::Dropped(NetDrop::BadFragment);
        }
        let deadline = now + self.limits.timeout;
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            deadline,
            fragments: BTreeMap::new(),
            total: None,
            have: 0,
        });
        match partial.add(self.limits.fragments, start, end, Stored { packet, at, fragment }) {
            Ok(false) => Reassembled::Waiting,
            Ok(true) => {
                let partial = self.partial.remove(&key).expect("just added to");
                match partial.join() {
                    Some((packet, fragments)) => Reassembled::Whole { packet, fragments },
                    None => Reassembled::Dropped(NetDrop::BadFragment),
                }
            }
            Err(Contradiction) => {
                self.partial.remove(&key);
                Reassembled::Dropped(NetDrop::BadFragment)
            }
        }
    }

    /// Forgets incomplete packets whose time is over, and gives the number of their fragments.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut gone = 0;
        self.partial.retain(|_, partial| {
            let keep = partial.deadline > now;
            if !keep {
                gone += partial.fragments.len() as u64;
            }
            keep
        });
        gone
    }

    /// The next instant at which [`Self::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.partial.values().map(|partial| partial.deadline).min()
    }
}

/// A fragment that contradicts the earlier ones.
struct Contradiction;

impl Partial {
    /// True when complete.
    fn add(&mut self, limit: usize, start: usize, end: usize, stored: Stored) -> Result<bool, Contradiction> {
        if self.fragments.get(&start).is_some_and(|old| old.packet == stored.packet) {
            return Ok(false);
        }
        let before = self.fragments.range(..start).next_back();
        let overlaps_before = before.is_some_and(|(&at, old)| at + old.payload().len() > start);
        let overlaps_after = self.fragments.range(start..end).next().is_some();
        let reaches = self.fragments.last_key_value().map_or(0, |(&at, old)| at + old.payload().len());
        let beyond_end = self.total.is_some_and(|total| end > total || !stored.fragment.more);
        let short_of_end = !stored.fragment.more && end < reaches;
        if overlaps_before || overlaps_after || beyond_end || short_of_end || self.fragments.len() >= limit {
            return Err(Contradiction);
        }
        if !stored.fragment.more {
            self.total = Some(end);
        }
        self.have += end - start;
        self.fragments.insert(start, stored);
        Ok(self.total == Some(self.have))
    }

    fn join(self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        let first = self.fragments.get(&0)?;
        let fragment = first.fragment;
        let is_ipv4 = first.packet[0] >> 4 == 4;
        let header_len = if is_ipv4 { first.at } else { fragment.header_at };
        let mut packet = Vec::with_capacity(header_len + self.have);
        packet.extend_from_slice(&first.packet[..header_len]);
        if !is_ipv4 {
            packet[fragment.pointer_at] = first.packet[fragment.header_at];
        }
        for stored in self.fragments.values() {
            packet.extend_from_slice(stored.payload());
        }
        if is_ipv4 {
            set_ipv4_lengths(&mut packet, header_len, 0);
        } else {
            let length = u16::try_from(packet.len() - IPV6_HEADER).ok()?;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
        Some((packet, self.fragments.into_values().map(|stored| stored.packet).collect()))
    }
}
