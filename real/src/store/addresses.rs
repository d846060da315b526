//! The virtual addresses of devices.
//!
//! A pair has one owner. A name that is removed keeps its pair at first, because the removal may have been a mistake,
//! and because a certificate may have the pair in it. Once the range has no pair left that was never given, the one
//! whose name was removed first goes to a new name, if two things hold:
//!
//! * the name was removed longer ago than [`FREE_AFTER`], or the setting `free-after`;
//! * the last certificate with that pair has ended. It is noted when it is made.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{StoreError, VirtualRange};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{SqliteStore, seconds};
use crate::drive;

/// How long the pair of a removed name is kept: a year. It is longer than certificates last by default, and than any
/// peer, log or access list of an operator should rely on the address of a name that is gone.
pub(super) const FREE_AFTER: Duration = Duration::from_secs(365 * 86_400);

impl SqliteStore {
    /// Gives the pairs of removed names to others after this time.
    #[must_use]
    pub fn freeing_after(mut self, time: Option<Duration>) -> Self {
        self.free_after = time.unwrap_or(FREE_AFTER);
        self
    }

    /// Notes until when (since 1970) a certificate with the virtual addresses of this name counts. It has to be noted
    /// before the certificate is given out.
    pub fn note_certificate(&self, name: &Fqdn, until: Duration) -> Result<(), StoreError> {
        let sql = "UPDATE addresses SET until = max(until, ?2) WHERE name = ?1";
        self.write(|transaction| transaction.execute(sql, params![name.as_str(), seconds(until)]).map(drop))
    }

    /// The certificate (PEM) that a renewal at one of these times made for this name and key by this CA, if there was
    /// one.
    pub fn renewed(
        &self,
        name: &Fqdn,
        key: &[u8; 32],
        ca: &[u8; 32],
        times: RangeInclusive<Duration>,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT certificate FROM renewals
                   WHERE name = ?1 AND key = ?2 AND ca = ?3 AND made BETWEEN ?4 AND ?5";
        let (from, to) = (seconds(*times.start()), seconds(*times.end()));
        self.read(|connection| {
            connection.query_row(sql, params![name.as_str(), key, ca, from, to], |row| row.get(0)).optional()
        })
    }

    /// The last certificate (PEM) that a sign-up or a renewal made for this name, and its public key.
    pub fn last_certificate(&self, name: &Fqdn) -> Result<Option<([u8; 32], String)>, StoreError> {
        let sql = "SELECT key, certificate FROM renewals WHERE name = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.read(|connection| connection.query_row(sql, params![name.as_str()], row).optional())
    }

    /// Notes the certificate (PEM) that a sign-up or a renewal has made.
    pub fn note_renewal(
        &self,
        name: &Fqdn,
        key: &[u8; 32],
        ca: &[u8; 32],
        (certificate, now): (&str, Duration),
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO renewals (name, made, key, ca, certificate) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.write(|transaction| {
            transaction.execute(sql, params![name.as_str(), seconds(now), key, ca, certificate]).map(drop)
        })
    }

    /// Gives a name its pair.
    pub(super) fn allocate_at(&self, name: &Fqdn, now: Duration) -> Result<Virtual, StoreError> {
        // Reading comes first: a name that has its addresses needs no write transaction.
        if let Some(addresses) = self.read(|connection| addresses_of(connection, name))? {
            return Ok(addresses);
        }
        let given = self.write(|transaction| {
            if let Some(addresses) = addresses_of(transaction, name)? {
                return Ok(Some(addresses));
            }
            if let Some(addresses) = next(transaction, &self.range, name)? {
                return Ok(Some(addresses));
            }
            freed(transaction, name, now, self.free_after)
        })?;
        given.ok_or(StoreError::Exhausted)
    }
}

/// The next pair that was never given. Rows are never deleted, so the number of the last row is the index of the next
/// free pair, and is found by one search. A restored database may have given some pairs beyond.
fn next(transaction: &Transaction<'_>, range: &VirtualRange, name: &Fqdn) -> rusqlite::Result<Option<Virtual>> {
    let taken: u32 = transaction.query_row("SELECT coalesce(max(rowid), 0) FROM addresses", [], |row| row.get(0))?;
    let sql = "INSERT OR IGNORE INTO addresses (name, v4, v6) VALUES (?1, ?2, ?3)";
    for index in taken.. {
        let Some(pair) = range.pair(index) else { break };
        if transaction.execute(sql, params![name.as_str(), pair.v4.octets(), pair.v6.octets()])? == 1 {
            return Ok(Some(pair));
        }
    }
    Ok(None)
}

/// The pair whose name was removed first, if it is free.
fn freed(
    transaction: &Transaction<'_>,
    name: &Fqdn,
    now: Duration,
    after: Duration,
) -> rusqlite::Result<Option<Virtual>> {
    let sql = "SELECT name FROM addresses WHERE removed <= ?1 AND until < ?2 AND length(v4) = 4
               ORDER BY removed, rowid LIMIT 1";
    let limits = params![seconds(now.saturating_sub(after)), seconds(now)];
    let old: Option<String> = transaction.query_row(sql, limits, |row| row.get(0)).optional()?;
    let Some(old) = old else { return Ok(None) };
    let sql = "UPDATE addresses SET name = ?2, removed = NULL, until = 0 WHERE name = ?1";
    transaction.execute(sql, params![old, name.as_str()])?;
    addresses_of(transaction, name)
}

/// A device has this name: its pair is kept.
pub(super) fn keep(transaction: &Transaction<'_>, name: &Fqdn) -> rusqlite::Result<()> {
    let sql = "UPDATE addresses SET removed = NULL WHERE name = ?1";
    transaction.execute(sql, params![name.as_str()]).map(drop)
}

/// A device was removed: its pair may be free some day.
pub(super) fn release(transaction: &Transaction<'_>, node: NodeId) -> rusqlite::Result<()> {
    let sql = "UPDATE addresses SET removed = ?2
               WHERE removed IS NULL AND name IN (SELECT name FROM devices WHERE node = ?1)";
    transaction.execute(sql, params![node.0, seconds(drive::since_epoch())]).map(drop)
}

pub(super) fn addresses_of(connection: &Connection, name: &Fqdn) -> rusqlite::Result<Option<Virtual>> {
    let mut statement = connection.prepare_cached("SELECT v4, v6 FROM addresses WHERE name = ?1")?;
    statement
        .query_row(params![name.as_str()], |row| {
            let (v4, v6): ([u8; 4], [u8; 16]) = (row.get(0)?, row.get(1)?);
            Ok(Virtual { v4: Ipv4Addr::from(v4), v6: Ipv6Addr::from(v6) })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use cyphonic_core::store::{Device, Store};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn name(n: u32) -> Fqdn {
        format!("n{n}.example").parse().unwrap()
    }

    fn add(store: &SqliteStore, n: u32) {
        store.put_device(&Device { name: name(n), password: None, certificate_login: true }).unwrap();
    }

    #[test]
    fn the_pair_of_a_removed_name_is_free_after_its_time_and_its_last_certificate_and_none_before() {
        let folder = tempfile::tempdir().unwrap();
        let range = VirtualRange::new([10, 0, 0, 0].into(), 27, "fd00::".parse().unwrap()).unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), range).unwrap().freeing_after(Some(30 * DAY));
        let now = drive::since_epoch();
        let given: Vec<_> = (0..range.capacity())
            .map(|n| {
                add(&store, n);
                store.allocate_at(&name(n), now).unwrap()
            })
            .collect();
        let late = now + 40 * DAY;
        assert_eq!(store.allocate_at(&name(100), late), Err(StoreError::Exhausted));
        store.note_certificate(&name(3), now + 60 * DAY).unwrap();
        for n in [3, 5, 4] {
            store.evict(&name(n), now).unwrap();
        }
        // By an invitation or the operator it is a device again.
        add(&store, 5);
        assert_eq!(store.allocate_at(&name(3), now).unwrap(), given[3], "a removed name has its pair still");
        assert_eq!(store.allocate_at(&name(100), now + 29 * DAY), Err(StoreError::Exhausted), "before its time");
        assert_eq!(store.allocate_at(&name(100), late).unwrap(), given[4]);
        assert_eq!(store.owner_of(given[4].v4.into()).unwrap(), Some(name(100)));
        assert_eq!(store.addresses_of(&name(4)).unwrap(), None);
        assert_eq!(store.allocate_at(&name(101), late), Err(StoreError::Exhausted), "3 has a certificate still");
        assert_eq!(store.allocate_at(&name(101), now + 61 * DAY).unwrap(), given[3]);
        // The earlier owner is like any other new name.
        assert_eq!(store.allocate_at(&name(4), now + 61 * DAY), Err(StoreError::Exhausted));
        assert_eq!(store.allocate_at(&name(5), now + 61 * DAY).unwrap(), given[5]);
    }
}
