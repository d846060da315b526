//! The two translations and the table between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use super::{Dependence, NatConfig, PortAllocation};
use crate::net::NetDrop;
use crate::net::packet::{End, Ip, Transport, parse_icmp_error, rewrite, rewrite_quote};
use crate::net::session::{Session, Way};

type Endpoint = (Ipv4Addr, u16);

/// How many times a random port is drawn before the next free one is taken.
const RANDOM_TRIES: usize = 64;

/// Protocols have port spaces of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Udp,
    Tcp,
    Echo,
}

/// What a mapping is found by from inside: the remote part is blank as far as mapping does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InsideKey {
    kind: Kind,
    inside: Endpoint,
    remote: Endpoint,
}

#[derive(Debug)]
struct Mapping {
    key: InsideKey,
    /// The latest expiry of its sessions.
    expires: Instant,
    sessions: BTreeMap<Endpoint, Session>,
}

impl Mapping {
    fn admits(&self, now: Instant, filtering: Dependence, remote: Endpoint) -> bool {
        let live = |session: &Session| session.is_live(now);
        match filtering {
            Dependence::EndpointIndependent => self.expires > now,
            Dependence::AddressDependent => {
                self.sessions.range((remote.0, 0)..=(remote.0, u16::MAX)).any(|(_, session)| live(session))
            }
            Dependence::AddressAndPortDependent => self.sessions.get(&remote).is_some_and(live),
        }
    }

    fn touch(&mut self, now: Instant, way: Way, remote: Endpoint, transport: Transport, config: &NatConfig) {
        let session = self.sessions.entry(remote).or_default();
        let before = session.expires;
        session.touch(now, way, transport, &config.idle);
        if session.expires >= self.expires {
            self.expires = session.expires;
        } else if before == self.expires {
            // A TCP connection closed, and its time became shorter.
            self.expires = self.sessions.values().map(|session| session.expires).max().unwrap_or(now);
        }
    }
}

/// A NAT, pure: packets and time go in.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    rng: ChaCha20Rng,
    /// Every mapping, by its external port.
    mappings: BTreeMap<(Kind, u16), Mapping>,
    ports: BTreeMap<InsideKey, u16>,
    /// In all mappings, expired ones included.
    sessions: usize,
    /// Before this, nothing more can be reclaimed.
    sweep_at: Instant,
    next_port: u16,
}

impl Nat {
    /// `rng` is for random ports.
    pub fn new(config: NatConfig, rng: ChaCha20Rng) -> Self {
        let next_port = *config.ports.start();
        Self {
            config,
            rng,
            mappings: BTreeMap::new(),
            ports: BTreeMap::new(),
            sessions: 0,
            sweep_at: Instant::ZERO,
            next_port,
        }
    }

    /// How it behaves.
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// Behaves otherwise from now on; mappings that stand remain.
    pub fn set_config(&mut self, config: NatConfig) {
        self.config = config;
    }

    /// Forgets every mapping, as a reboot does.
    pub fn clear(&mut self) {
        self.mappings.clear();
        self.ports.clear();
        self.sessions = 0;
    }

    /// Mappings that stand at `now`.
    pub fn live_mappings(&self, now: Instant) -> usize {
        self.mappings.values().filter(|mapping| mapping.expires > now).count()
    }

    /// Translates a whole packet on its way out. On an error the packet is to be dropped.
    pub fn outgoing(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (ip.source, ip.destination) else {
            return Err(NetDrop::NatUnsupported);
        };
        let transport = ip.transport().ok_or(NetDrop::NatUnsupported)?;
        let (kind, port, remote_port) = match transport {
            Transport::Udp { source, destination } => (Kind::Udp, source, destination),
            Transport::Tcp { source, destination, .. } => (Kind::Tcp, source, destination),
            Transport::Echo { request: true, id } => (Kind::Echo, id, 0),
            Transport::IcmpError => return self.outgoing_error(now, packet),
            Transport::Echo { .. } | Transport::Other => return Err(NetDrop::NatUnsupported),
        };
        let remote = (destination, remote_port);
        let external = self.map(now, kind, (source, port), remote)?;
        let mapping = self.mappings.get_mut(&(kind, external)).expect("just mapped");
        let new = !mapping.sessions.contains_key(&remote);
        mapping.touch(now, Way::Out, remote, transport, &self.config);
        self.sessions += usize::from(new);
        rewrite(packet, End::Source, self.config.external.into(), external).ok_or(NetDrop::BadPacket)
    }

    /// Translates a whole packet on its way in, whose destination is the external address. On an error the packet is
    /// to be dropped.
    pub fn incoming(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let ip = Ip::parse(packet).ok_or(NetDrop::BadPacket)?;
        let IpAddr::V4(source) = ip.source else { return Err(NetDrop::NatUnsupported) };
        let transport = ip.transport().ok_or(NetDrop::NatUnsupported)?;
        let (kind, remote_port, port) = match transport {
            Transport::Udp { source, destination } => (Kind::Udp, source, destination),
            Transport::Tcp { source, destination, .. } => (Kind::Tcp, source, destination),
            Transport::Echo { request: false, id } => (Kind::Echo, 0, id),
            Transport::IcmpError => return self.incoming_error(now, packet),
            Transport::Echo { .. } => return Err(NetDrop::NoMapping),
            Transport::Other => return Err(NetDrop::NatUnsupported),
        };
        let remote = (source, remote_port);
        let mapping = self.live(now, kind, port).ok_or(NetDrop::NoMapping)?;
        let inside = mapping.key.inside;
        if !mapping.admits(now, self.config.filtering, remote) {
            return Err(NetDrop::NatFiltered);
        }
        if kind == Kind::Tcp {
            let config = &self.config;
            let mapping = self.mappings.get_mut(&(kind, port)).expect("just found");
            if mapping.sessions.contains_key(&remote) {
                mapping.touch(now, Way::In, remote, transport, config);
            }
        }
        rewrite(packet, End::Destination, inside.0.into(), inside.1).ok_or(NetDrop::BadPacket)
    }

    /// An inside host complains about a packet that came in.
    fn outgoing_error(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let (kind, remote, inside) = quoted(packet)?;
        let key = self.inside_key(kind, inside, remote);
        let port = self.ports.get(&key).copied().ok_or(NetDrop::NoMapping)?;
        self.live(now, kind, port).ok_or(NetDrop::NoMapping)?;
        let external = self.config.external.into();
        rewrite_quote(packet, End::Destination, external, port).ok_or(NetDrop::BadPacket)?;
        rewrite(packet, End::Source, external, 0).ok_or(NetDrop::BadPacket)
    }

    /// Someone outside complains about a packet that went out; it must be one that did.
    fn incoming_error(&mut self, now: Instant, packet: &mut [u8]) -> Result<(), NetDrop> {
        let (kind, (address, port), remote) = quoted(packet)?;
        let mapping = self.live(now, kind, port).ok_or(NetDrop::NoMapping)?;
        if address != self.config.external || !mapping.admits(now, Dependence::AddressAndPortDependent, remote) {
            return Err(NetDrop::NatFiltered);
        }
        let (address, port) = mapping.key.inside;
        rewrite_quote(packet, End::Source, address.into(), port).ok_or(NetDrop::BadPacket)?;
        rewrite(packet, End::Destination, address.into(), 0).ok_or(NetDrop::BadPacket)
    }

    fn inside_key(&self, kind: Kind, inside: Endpoint, remote: Endpoint) -> InsideKey {
        let remote = match self.config.mapping {
            Dependence::EndpointIndependent => (Ipv4Addr::UNSPECIFIED, 0),
            Dependence::AddressDependent => (remote.0, 0),
            Dependence::AddressAndPortDependent => remote,
        };
        InsideKey { kind, inside, remote }
    }

    fn live(&self, now: Instant, kind: Kind, port: u16) -> Option<&Mapping> {
        self.mappings.get(&(kind, port)).filter(|mapping| mapping.expires > now)
    }

    /// The external port for a packet from `inside` to `remote`, with room for a session in its mapping.
    fn map(&mut self, now: Instant, kind: Kind, inside: Endpoint, remote: Endpoint) -> Result<u16, NetDrop> {
        let key = self.inside_key(kind, inside, remote);
        if let Some(&port) = self.ports.get(&key) {
            if let Some(mapping) = self.live(now, kind, port) {
                if !mapping.sessions.contains_key(&remote) {
                    self.make_room(now)?;
                }
                return Ok(port);
            }
            self.forget(kind, port);
        }
        self.make_room(now)?;
        let port = self.allocate(now, kind, inside.1).ok_or(NetDrop::NatTableFull)?;
        self.ports.insert(key, port);
        self.mappings.insert((kind, port), Mapping { key, expires: now, sessions: BTreeMap::new() });
        Ok(port)
    }

    fn forget(&mut self, kind: Kind, port: u16) {
        if let Some(mapping) = self.mappings.remove(&(kind, port)) {
            self.ports.remove(&mapping.key);
            self.sessions -= mapping.sessions.len();
        }
    }

    /// Room for one more session.
    fn make_room(&mut self, now: Instant) -> Result<(), NetDrop> {
        if self.sessions >= self.config.max_sessions && now >= self.sweep_at {
            for mapping in self.mappings.values_mut() {
                mapping.sessions.retain(|_, session| session.is_live(now));
            }
            let ports = &mut self.ports;
            self.mappings.retain(|_, mapping| {
                let keep = mapping.expires > now;
                if !keep {
                    ports.remove(&mapping.key);
                }
                keep
            });
            let sessions = self.mappings.values().flat_map(|mapping| mapping.sessions.values());
            self.sessions = sessions.clone().count();
            self.sweep_at = sessions.map(|session| session.expires).min().unwrap_or(now);
        }
        if self.sessions < self.config.max_sessions { Ok(()) } else { Err(NetDrop::NatTableFull) }
    }

    fn allocate(&mut self, now: Instant, kind: Kind, inside: u16) -> Option<u16> {
        let range = if kind == Kind::Echo { 0..=u16::MAX } else { self.config.ports.clone() };
        match self.config.allocation {
            PortAllocation::Preserving => {
                if (inside != 0 || kind == Kind::Echo) && self.is_free(now, kind, inside) {
                    return Some(inside);
                }
                self.next_free(now, kind, &range)
            }
            PortAllocation::Sequential => self.next_free(now, kind, &range),
            PortAllocation::Random => {
                for _ in 0..RANDOM_TRIES {
                    let span = u64::from(*range.end()) - u64::from(*range.start()) + 1;
                    let port = range.start() + ((u64::from(self.rng.next_u32()) * span) >> 32) as u16;
                    if self.is_free(now, kind, port) {
                        return Some(port);
                    }
                }
                self.next_free(now, kind, &range)
            }
        }
    }

    fn next_free(&mut self, now: Instant, kind: Kind, range: &RangeInclusive<u16>) -> Option<u16> {
        for _ in range.clone() {
            let port = if range.contains(&self.next_port) { self.next_port } else { *range.start() };
            self.next_port = if port == *range.end() { *range.start() } else { port + 1 };
            if self.is_free(now, kind, port) {
                return Some(port);
            }
        }
        None
    }

    /// Takes the place of a mapping that has expired.
    fn is_free(&mut self, now: Instant, kind: Kind, port: u16) -> bool {
        if self.live(now, kind, port).is_some() {
            return false;
        }
        self.forget(kind, port);
        true
    }
}

/// Protocol, source and destination of the packet that an ICMP error quotes.
fn quoted(packet: &[u8]) -> Result<(Kind, Endpoint, Endpoint), NetDrop> {
    let quote = parse_icmp_error(packet).ok_or(NetDrop::BadPacket)?;
    let ip = Ip::parse_quoted(quote.packet).ok_or(NetDrop::BadPacket)?;
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (ip.source, ip.destination) else {
        return Err(NetDrop::NatUnsupported);
    };
    match ip.transport() {
        Some(Transport::Udp { source: s, destination: d }) => Ok((Kind::Udp, (source, s), (destination, d))),
        Some(Transport::Tcp { source: s, destination: d, .. }) => Ok((Kind::Tcp, (source, s), (destination, d))),
        Some(Transport::Echo { request: true, id }) => Ok((Kind::Echo, (source, id), (destination, 0))),
        Some(Transport::Echo { request: false, id }) => Ok((Kind::Echo, (source, 0), (destination, id))),
        _ => Err(NetDrop::NatUnsupported),
    }
}
