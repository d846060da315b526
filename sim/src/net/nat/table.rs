//! The state of a NAT: mappings and sessions. Addresses and ports go in and come out, without packets, so the table
//! serves every translation, whatever the families inside and outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use super::{Dependence, NatConfig, Refresh};
use crate::net::NetDrop;
use crate::net::packet::Transport;
use crate::net::session::{Session, Way};

/// An address and port outside.
pub(super) type Outside = (IpAddr, u16);
/// An address and port inside.
pub(super) type Inside = (IpAddr, u16);

/// The protocols. Each has its own port space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Udp,
    Tcp,
    Echo,
}

/// The key by which a mapping is found from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The protocol, because each has its own port space.
    pub(super) kind: Kind,
    /// The address and port that the NAT gave the mapping.
    pub(super) external: Outside,
    /// Zero, unless ports are overloaded.
    pub(super) copy: u32,
}

impl Key {
    /// All mappings of the same external port.
    pub(super) fn copies(self) -> RangeInclusive<Self> {
        Self { copy: 0, ..self }..=Self { copy: u32::MAX, ..self }
    }
}

/// The key by which a mapping is found from inside. The parts of the remote end on which the mapping behaviour does not
/// depend are blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InsideKey {
    kind: Kind,
    inside: Inside,
    remote: Outside,
}

/// The least remote end in the order of keys; also a blank one.
const BLANK: Outside = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const LAST: Outside = (IpAddr::V6(Ipv6Addr::new(!0, !0, !0, !0, !0, !0, !0, !0)), u16::MAX);

#[derive(Debug)]
pub(super) struct Mapping {
    key: InsideKey,
    /// The latest expiry of its sessions, or later if packets from elsewhere refresh it.
    expires: Instant,
    /// The end of its lifetime: it expires no later than this.
    ends: Option<Instant>,
    sessions: BTreeMap<Outside, Session>,
}

impl Mapping {
    fn is_live(&self, now: Instant) -> bool {
        self.expires > now
    }

    fn knows(&self, now: Instant, remote: Outside) -> bool {
        self.sessions.get(&remote).is_some_and(|session| session.is_live(now))
    }

    fn admits(&self, now: Instant, filtering: Dependence, remote: Outside) -> bool {
        match filtering {
            Dependence::Endpoint => self.is_live(now),
            Dependence::Address => {
                let of_host = self.sessions.range((remote.0, 0)..=(remote.0, u16::MAX));
                of_host.into_iter().any(|(_, session)| session.is_live(now))
            }
            Dependence::AddressAndPort => self.knows(now, remote),
        }
    }

    /// Notes a packet of a session. The session begins if it is new.
    fn touch(&mut self, now: Instant, way: Way, remote: Outside, transport: Transport, config: &NatConfig) {
        let session = self.sessions.entry(remote).or_default();
        let before = session.expires;
        session.touch(now, way, transport, &config.times.idle);
        if let Some(ends) = self.ends {
            session.expires = session.expires.min(ends);
        }
        if session.expires >= self.expires {
            self.expires = session.expires;
        } else if before == self.expires {
            // When a TCP connection closes, its idle timeout becomes shorter, so the maximum is computed anew.
            self.expires = self.sessions.values().map(|session| session.expires).max().unwrap_or(now);
        }
    }

    /// Keeps the mapping at least until then, even if all its sessions expire before.
    fn extend(&mut self, until: Instant) {
        self.expires = self.expires.max(self.ends.map_or(until, |ends| until.min(ends)));
    }
}

/// Streams of random numbers, one for each purpose.
#[derive(Debug)]
pub(super) struct Chance {
    /// Draws external ports.
    pub(super) ports: ChaCha20Rng,
    /// Draws external addresses.
    pub(super) pool: ChaCha20Rng,
    /// Draws the times at which all mappings are forgotten.
    flush: ChaCha20Rng,
}

/// The state of an inside host.
#[derive(Debug)]
struct Host {
    /// The external address of its first mapping.
    address: IpAddr,
    mappings: usize,
    sessions: usize,
}

/// Every mapping of a NAT.
#[derive(Debug)]
pub(super) struct Table {
    /// The behaviour of the NAT, with its limits and timeouts.
    pub(super) config: NatConfig,
    /// Every random choice of the NAT is drawn from here.
    pub(super) chance: Chance,
    /// Expired ones included, until a sweep takes them.
    pub(super) mappings: BTreeMap<Key, Mapping>,
    by_inside: BTreeMap<InsideKey, Key>,
    /// Hosts with mappings, expired ones included.
    hosts: BTreeMap<IpAddr, Host>,
    /// The number of sessions of all mappings, expired ones included.
    sessions: usize,
    /// The earliest instant at which an entry expires that a sweep could reclaim.
    sweep_at: Instant,
    /// The port that a sequential allocation tries next.
    pub(super) next_port: u16,
    /// The index of the external address that the last new host got.
    pub(super) next_address: usize,
    /// Ports that are not allocated any more, because a rebinding took them from their host.
    pub(super) spent: BTreeSet<(Kind, Outside)>,
    next_flush: Option<Instant>,
}

impl Table {
    /// `rng` gives all random numbers.
    pub(super) fn new(config: NatConfig, rng: ChaCha20Rng) -> Self {
        let stream = |number| {
            let mut rng = rng.clone();
            rng.set_stream(number);
            rng
        };
        let chance = Chance { pool: stream(1), flush: stream(2), ports: rng };
        Self {
            next_port: *config.ports.start(),
            next_address: config.external.len() - 1,
            config,
            chance,
            mappings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            hosts: BTreeMap::new(),
            sessions: 0,
            sweep_at: Instant::ZERO,
            spent: BTreeSet::new(),
            next_flush: None,
        }
    }

    /// Forgets every mapping.
    pub(super) fn clear(&mut self) {
        self.mappings.clear();
        self.by_inside.clear();
        self.hosts.clear();
        self.sessions = 0;
    }

    /// Forgets every mapping and restarts port allocation.
    pub(super) fn reboot(&mut self) {
        self.clear();
        self.next_port = *self.config.ports.start();
        self.next_address = self.config.external.len() - 1;
        self.spent.clear();
        self.next_flush = None;
    }

    /// Forgets the UDP mappings of an inside host to certain remote addresses, and gives it other ports from now on.
    pub(super) fn rebind(&mut self, now: Instant, host: IpAddr, is_far: impl Fn(IpAddr) -> bool) {
        let speaks = |mapping: &Mapping| mapping.sessions.iter().any(|(far, s)| s.is_live(now) && is_far(far.0));
        let of_host = self.mappings.iter().filter(|(key, m)| key.kind == Kind::Udp && m.key.inside.0 == host);
        let rebound: Vec<Key> = of_host.filter(|(_, mapping)| speaks(mapping)).map(|(&key, _)| key).collect();
        for key in rebound {
            self.forget(key);
            self.spent.insert((key.kind, key.external));
        }
    }

    /// The number of mappings that have not expired at `now`.
    pub(super) fn live_mappings(&self, now: Instant) -> usize {
        self.mappings.values().filter(|mapping| mapping.is_live(now)).count()
    }

    /// The external address and port for a packet from `inside` to `remote`.
    pub(super) fn outbound(
        &mut self,
        now: Instant,
        kind: Kind,
        inside: Inside,
        remote: Outside,
        transport: Transport,
    ) -> Result<Outside, NetDrop> {
        self.flush_by_chance(now);
        let key = self.map(now, kind, inside, remote)?;
        let mapping = self.mappings.get_mut(&key).expect("just mapped");
        let before = mapping.sessions.len();
        if kind == Kind::Tcp || self.config.times.refresh != Refresh::Inbound || !mapping.knows(now, remote) {
            mapping.touch(now, Way::Out, remote, transport, &self.config);
        }
        let begun = mapping.sessions.len() - before;
        self.count_sessions(inside.0, begun);
        Ok(key.external)
    }

    /// The inside address and port that get a packet from `remote` to `external`.
    pub(super) fn inbound(
        &mut self,
        now: Instant,
        kind: Kind,
        external: Outside,
        remote: Outside,
        transport: Transport,
    ) -> Result<Inside, NetDrop> {
        self.flush_by_chance(now);
        let key = self.find(now, kind, external, remote, self.config.filtering)?;
        let inside = self.mappings[&key].key.inside;
        let begins = self.config.reuses_inbound && !self.mappings[&key].knows(now, remote);
        let begins = begins && self.make_room(now, inside.0).is_ok();
        let config = &self.config;
        let mapping = self.mappings.get_mut(&key).expect("just found");
        let (before, stood_until) = (mapping.sessions.len(), mapping.expires);
        let knows = mapping.sessions.contains_key(&remote);
        let refreshes = kind == Kind::Tcp || config.times.refresh != Refresh::Outbound;
        if begins || refreshes && knows {
            mapping.touch(now, Way::In, remote, transport, config);
        } else if refreshes && kind != Kind::Tcp {
            mapping.extend(now + if kind == Kind::Udp { config.times.idle.udp } else { config.times.idle.icmp });
        }
        if begins && !refreshes {
            let session = mapping.sessions.get_mut(&remote).expect("just begun");
            session.expires = stood_until;
            mapping.expires = stood_until;
        }
        let begun = mapping.sessions.len() - before;
        self.count_sessions(inside.0, begun);
        Ok(inside)
    }

    /// The external address and port of `inside`, as `remote` sees them.
    pub(super) fn external_of(
        &self,
        now: Instant,
        kind: Kind,
        inside: Inside,
        remote: Outside,
    ) -> Result<Key, NetDrop> {
        let key = self.by_inside.get(&self.inside_key(kind, inside, remote)).copied();
        let key = key.filter(|&key| self.live(now, key).is_some());
        key.or_else(|| self.reused(now, kind, inside, remote)).ok_or(NetDrop::NoMapping)
    }

    /// The mapping by which a packet went from `external` to `remote`.
    pub(super) fn session(&self, now: Instant, kind: Kind, external: Outside, remote: Outside) -> Result<Key, NetDrop> {
        self.find(now, kind, external, remote, Dependence::AddressAndPort)
    }

    /// The inside address and port of a mapping.
    pub(super) fn inside_of(&self, key: Key) -> Inside {
        self.mappings[&key].key.inside
    }

    pub(super) fn live(&self, now: Instant, key: Key) -> Option<&Mapping> {
        self.mappings.get(&key).filter(|mapping| mapping.is_live(now))
    }

    pub(super) fn forget(&mut self, key: Key) {
        let Some(mapping) = self.mappings.remove(&key) else { return };
        self.by_inside.remove(&mapping.key);
        self.sessions -= mapping.sessions.len();
        let address = mapping.key.inside.0;
        let host = self.hosts.get_mut(&address).expect("it had a mapping");
        host.mappings -= 1;
        host.sessions -= mapping.sessions.len();
        if host.mappings == 0 {
            self.hosts.remove(&address);
        }
    }

    /// The external address of an inside host that has mappings.
    pub(super) fn paired(&self, host: IpAddr) -> Option<IpAddr> {
        self.hosts.get(&host).map(|host| host.address)
    }

    /// Of the mappings of an external port that admit `remote`, the one that sent to it last.
    fn find(
        &self,
        now: Instant,
        kind: Kind,
        external: Outside,
        remote: Outside,
        filtering: Dependence,
    ) -> Result<Key, NetDrop> {
        let copies = self.mappings.range(Key { kind, external, copy: 0 }.copies());
        let mut live = copies.filter(|(_, mapping)| mapping.is_live(now)).peekable();
        live.peek().ok_or(NetDrop::NoMapping)?;
        live.filter(|(_, mapping)| mapping.admits(now, filtering, remote))
            .max_by_key(|(_, mapping)| mapping.sessions.get(&remote).map(|session| session.expires))
            .map(|(&key, _)| key)
            .ok_or(NetDrop::NatFiltered)
    }

    fn inside_key(&self, kind: Kind, inside: Inside, remote: Outside) -> InsideKey {
        let remote = match self.config.mapping {
            Dependence::Endpoint => BLANK,
            Dependence::Address => (remote.0, 0),
            Dependence::AddressAndPort => remote,
        };
        InsideKey { kind, inside, remote }
    }

    /// The mapping for a packet from `inside` to `remote`, with room for a session in it.
    fn map(&mut self, now: Instant, kind: Kind, inside: Inside, remote: Outside) -> Result<Key, NetDrop> {
        if let Ok(key) = self.external_of(now, kind, inside, remote) {
            if !self.mappings[&key].sessions.contains_key(&remote) {
                self.make_room(now, inside.0)?;
            }
            return Ok(key);
        }
        let inside_key = self.inside_key(kind, inside, remote);
        if let Some(&expired) = self.by_inside.get(&inside_key) {
            self.forget(expired);
        }
        self.make_room(now, inside.0)?;
        let key = self.allocate(now, kind, inside).ok_or(NetDrop::NatTableFull)?;
        let ends = self.config.times.lifetime.map(|lifetime| now + lifetime);
        self.by_inside.insert(inside_key, key);
        self.mappings.insert(key, Mapping { key: inside_key, expires: now, ends, sessions: BTreeMap::new() });
        let address = key.external.0;
        self.hosts.entry(inside.0).or_insert(Host { address, mappings: 0, sessions: 0 }).mappings += 1;
        Ok(key)
    }

    /// A mapping in which `remote` sent first, found by its session.
    fn reused(&self, now: Instant, kind: Kind, inside: Inside, remote: Outside) -> Option<Key> {
        if !self.config.reuses_inbound {
            return None;
        }
        let key = |remote| InsideKey { kind, inside, remote };
        let all = self.by_inside.range(key(BLANK)..=key(LAST));
        all.map(|(_, &key)| key).find(|&key| self.live(now, key).is_some_and(|mapping| mapping.knows(now, remote)))
    }

    fn count_sessions(&mut self, host: IpAddr, begun: usize) {
        self.sessions += begun;
        self.hosts.get_mut(&host).expect("it has a mapping").sessions += begun;
    }

    /// Room for one more session of an inside host.
    fn make_room(&mut self, now: Instant, host: IpAddr) -> Result<(), NetDrop> {
        let is_full = |table: &Self| {
            table.sessions >= table.config.max_sessions
                || table.hosts.get(&host).map_or(0, |host| host.sessions) >= table.config.max_sessions_per_host
        };
        if is_full(self) && now >= self.sweep_at {
            self.sweep(now);
        }
        if is_full(self) { Err(NetDrop::NatTableFull) } else { Ok(()) }
    }

    fn sweep(&mut self, now: Instant) {
        let expired: Vec<Key> =
            self.mappings.iter().filter(|(_, mapping)| !mapping.is_live(now)).map(|(&key, _)| key).collect();
        for key in expired {
            self.forget(key);
        }
        for mapping in self.mappings.values_mut() {
            let before = mapping.sessions.len();
            mapping.sessions.retain(|_, session| session.is_live(now));
            let gone = before - mapping.sessions.len();
            self.sessions -= gone;
            self.hosts.get_mut(&mapping.key.inside.0).expect("it has a mapping").sessions -= gone;
        }
        let sessions = self.mappings.values().flat_map(|mapping| mapping.sessions.values());
        self.sweep_at = sessions.map(|session| session.expires).min().unwrap_or(now);
    }

    /// Loses all mappings if that is due. The first time is drawn when the first packet arrives.
    fn flush_by_chance(&mut self, now: Instant) {
        let Some(mean) = self.config.times.flush else { return };
        let due = self.next_flush.is_some_and(|at| at <= now);
        if due {
            self.clear();
        }
        if due || self.next_flush.is_none() {
            let nanos = (u128::from(self.chance.flush.next_u64()) * (2 * mean.as_nanos())) >> 64;
            self.next_flush = Some(now + Duration::from_nanos(nanos as u64));
        }
    }
}
