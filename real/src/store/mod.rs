//! The database that AS and NMS share: one SQLite file.
//!
//! Both processes have it open. Every method of [`Store`] is one transaction, which is on the disk before the method
//! returns (WAL, synchronous). So a crash of a process or the machine undoes nothing that was reported, above all no
//! address and no epoch. Only the owner can read the file and its companions.

mod addresses;
mod backup;
mod schema;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cyphonic_core::epoch::LAST_OF_CLOCKS;
use cyphonic_core::key::Key128;
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, PasswordHash, Store, StoreError, VirtualRange};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::error::{Code, Failure};
use crate::{drive, files};
use addresses::addresses_of;

/// How long a command, or a daemon that starts, waits for another process's transaction. All transactions are short, so
/// a longer wait means that a program holds the file.
const BUSY: Duration = Duration::from_secs(2);
/// How long a running role waits. All its packets wait meanwhile, and a node that is refused asks again.
const BUSY_SERVING: Duration = Duration::from_millis(50);
/// How many evictions the database remembers. The NMS looks every second.
const MAX_EVICTIONS: i64 = 10_000;
/// The write-ahead log is emptied at most this often. It costs two writes to the disk.
const EMPTY_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about the same failure.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The result of checking an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invitation {
    /// It is valid.
    Good,
    /// This key used it, and got this certificate (PEM).
    Used(String),
    /// There is none, or it has expired, or the token is wrong.
    None,
    /// The name belongs to a device, and the invitation may not replace it.
    Taken,
}

/// A new invitation. Times are since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// When it is made.
    pub made: Duration,
    /// When it expires.
    pub until: Duration,
    /// Whether it is valid even if there is a device of that name, which the new device then replaces.
    pub replaces: bool,
}

/// What an evicted name had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Whether the name was a device.
    pub device: bool,
    /// Whether it had an invitation that could still be used.
    pub invitation: bool,
}

/// A store in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    range: VirtualRange,
    /// How long the pair of a removed name is kept.
    free_after: Duration,
    connection: Mutex<Connection>,
    /// When the write-ahead log was emptied last because it had a key that is void, and whether it has one again.
    emptied: Mutex<(Option<Instant>, bool)>,
    /// The last failure, when it was logged, and how often it has occurred since.
    failures: Mutex<Option<(Option<ErrorCode>, Instant, u64)>>,
}

/// What [`SqliteStore::migrate`] did.
#[derive(Debug)]
pub struct Migrated {
    /// The version of the tables before.
    pub from: i64,
    /// The version of the tables now.
    pub to: i64,
    /// The copy of the file before the migration, if the version has changed.
    pub copy: Option<PathBuf>,
    /// The number of names whose last epoch had prevented further registrations, and that can register again.
    pub readmitted: usize,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens an existing file. It is for commands that only read or remove: with a wrong path they must not make a new
    /// file.
    pub fn existing(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            let what = format!("{}: there is no database", path.display());
            let remedy = "check --database, or CYPHONIC_DATABASE: it is the file that AS and NMS have as `database`";
            return Err(Failure::new(Code::Database, what, remedy));
        }
        Self::open(path, VirtualRange::default())
    }

    /// Opens the file, makes it if it is not there, and brings its tables up to date. Virtual addresses come from
    /// `range`.
    pub fn open(path: &Path, range: VirtualRange) -> Result<Self, Failure> {
        protect(path)?;
        let mut connection = Connection::open(path).map_err(|error| failure(path, &error))?;
        schema::prepare(&mut connection, BUSY).map_err(|error| match error {
            schema::SchemaError::Sql(error) => failure(path, &error),
            schema::SchemaError::Newer(version) => {
                let what = format!("{}: the database has version {version}, newer than this program", path.display());
                Failure::new(Code::Database, what, "use the newer cyphonic that wrote it")
            }
        })?;
        let connection = Mutex::new(connection);
        let free_after = addresses::FREE_AFTER;
        let emptied = Mutex::default();
        Ok(Self { path: path.to_owned(), range, free_after, connection, emptied, failures: Mutex::new(None) })
    }

    /// Brings an existing file up to date. A copy of the file before stays beside it. Epochs that prevent registrations
    /// of their names are removed, and with them the common keys, so that no recorded registration can be replayed.
    pub fn migrate(path: &Path) -> Result<Migrated, Failure> {
        drop(
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .map_err(|error| failure(path, &error))?,
        );
        protect(path)?;
        let old = Connection::open(path).map_err(|error| failure(path, &error))?;
        let from: i64 =
            old.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| failure(path, &error))?;
        let to = i64::try_from(schema::MIGRATIONS.len()).unwrap_or(i64::MAX);
        let mut copy = None;
        if from < to {
            let free = (1..=u32::MAX).map(|number| files::name_of_copy(path, number)).find(|copy| !copy.exists());
            let free = free.expect("a number is free");
            protect(&free)?;
            let whole = old.execute("VACUUM INTO ?1", params![free.to_string_lossy()]);
            whole.map_err(|error| failure(&free, &error))?;
            copy = Some(free);
        }
        drop(old);
        let store = Self::existing(path)?;
        let last = LAST_OF_CLOCKS.to_be_bytes();
        let readmitted = store.write(|transaction| {
            let shut_out = "SELECT node FROM epochs WHERE epoch > ?1";
            let sql = format!("DELETE FROM common_keys WHERE node IN ({shut_out})");
            transaction.execute(&sql, params![last])?;
            transaction.execute("DELETE FROM epochs WHERE epoch > ?1", params![last])
        });
        let readmitted = readmitted.map_err(|error| store_failure(path, &error))?;
        Ok(Migrated { from, to, copy, readmitted })
    }

    /// As [`Self::open`], for a running role, which waits only `BUSY_SERVING` for other processes.
    pub fn serving(path: &Path, range: VirtualRange) -> Result<Self, Failure> {
        let store = Self::open(path, range)?;
        store.lock().busy_timeout(BUSY_SERVING).map_err(|error| failure(path, &error))?;
        Ok(store)
    }

    /// Every device, by name.
    pub fn devices(&self) -> Result<Vec<(Device, Option<Virtual>)>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare(
                "SELECT name, iterations, salt, hash, certificate, v4, v6
                 FROM devices LEFT JOIN addresses USING (name) ORDER BY name",
            )
            .map_err(|error| self.failed(&error))?;
        let rows = statement
            .query_map([], |row| {
                let v4: Option<[u8; 4]> = row.get(5)?;
                let v6: Option<[u8; 16]> = row.get(6)?;
                let addresses = v4.zip(v6).map(|(v4, v6)| Virtual { v4: v4.into(), v6: v6.into() });
                Ok((device_of(row)?, addresses))
            })
            .map_err(|error| self.failed(&error))?;
        rows.collect::<Result<_, _>>().map_err(|error| self.failed(&error))
    }

    /// Invites a name: the holder of the token may sign up, once. It replaces an earlier invitation; true if that one
    /// was still valid at `offer.made`.
    pub fn invite(&self, name: &Fqdn, token: &str, offer: Offer) -> Result<bool, StoreError> {
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        self.write(|transaction| {
            let was_open = is_open(transaction, name, offer.made)?;
            let sql =
                "INSERT OR REPLACE INTO invitations (name, token, made, until, replaces) VALUES (?1, ?2, ?3, ?4, ?5)";
            let (made, until) = (seconds(offer.made), seconds(offer.until));
            transaction.execute(sql, params![name.as_str(), hash.as_ref(), made, until, offer.replaces])?;
            Ok(was_open)
        })
    }

    /// Removes an invitation; true if it was still valid at `now`.
    pub fn uninvite(&self, name: &Fqdn, now: Duration) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let was_open = is_open(transaction, name, now)?;
            transaction.execute("DELETE FROM invitations WHERE name = ?1", params![name.as_str()])?;
            Ok(was_open)
        })
    }

    /// Evicts a name: removes its device and its invitation. Returns which of them it had at `now`.
    pub fn evict(&self, name: &Fqdn, now: Duration) -> Result<Evicted, StoreError> {
        self.write_keys(|transaction| {
            let invitation = is_open(transaction, name, now)?;
            Ok(Evicted { device: remove(transaction, NodeId::of(name), Some(name))?, invitation })
        })
    }

    /// The devices that were removed or replaced after the one of this number, and the number of the last one. Without
    /// a number: only that of the last one.
    pub fn evicted_since(&self, last: Option<i64>) -> Result<(i64, Vec<Fqdn>), StoreError> {
        self.read(|connection| {
            let newest = connection
                .prepare_cached("SELECT coalesce(max(number), 0) FROM evictions")?
                .query_row([], |row| row.get(0))?;
            let Some(last) = last.filter(|last| *last < newest) else { return Ok((newest, Vec::new())) };
            let mut statement = connection.prepare_cached("SELECT name FROM evictions WHERE number > ?1")?;
            let names = statement.query_map(params![last], |row| name_of(row, 0))?.collect::<Result<_, _>>()?;
            Ok((newest, names))
        })
    }

    /// The invitations that are valid at `now`: each name, and when the invitation expires (since 1970).
    pub fn invitations(&self, now: Duration) -> Result<Vec<(Fqdn, Duration)>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT name, until FROM invitations WHERE until >= ?1 AND key IS NULL ORDER BY name";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![seconds(now)], |row| {
                let until: i64 = row.get(1)?;
                Ok((name_of(row, 0)?, Duration::from_secs(until.unsigned_abs())))
            })?;
            rows.collect()
        })
    }

    /// When the invitation of a name was made, if there is one (since 1970).
    pub fn invited_at(&self, name: &Fqdn) -> Result<Option<Duration>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT made FROM invitations WHERE name = ?1";
            let made: Option<i64> = connection.query_row(sql, params![name.as_str()], |row| row.get(0)).optional()?;
            Ok(made.map(|made| Duration::from_secs(made.unsigned_abs())))
        })
    }

    /// Checks an invitation at `now`, for the device with this public key.
    pub fn invitation(
        &self,
        name: &Fqdn,
        token: &str,
        key: &[u8; 32],
        now: Duration,
    ) -> Result<Invitation, StoreError> {
        self.read(|connection| invitation(connection, name, token, key, now))
    }

    /// If the invitation is still valid, uses it up for this key and certificate, and lets its name log in by
    /// certificate. Returns the result of the check.
    pub fn take_invitation(
        &self,
        name: &Fqdn,
        token: &str,
        key: &[u8; 32],
        certificate: &str,
        now: Duration,
    ) -> Result<Invitation, StoreError> {
        self.write_keys(|transaction| {
            let worth = invitation(transaction, name, token, key, now)?;
            if worth == Invitation::Good {
                transaction.execute(
                    "UPDATE invitations SET key = ?2, certificate = ?3 WHERE name = ?1",
                    params![name.as_str(), key, certificate],
                )?;
                transaction.execute(
                    "INSERT INTO devices (node, name, certificate) VALUES (?1, ?2, 1)
                     ON CONFLICT (node) DO UPDATE SET certificate = 1",
                    params![NodeId::of(name).0, name.as_str()],
                )?;
                begin_anew(transaction, NodeId::of(name))?;
                addresses::keep(transaction, name)?;
            }
            Ok(worth)
        })
    }

    /// A poisoned lock is ignored: no method leaves a transaction half done.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a failure for the operator. The role only refuses the node's request.
    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        if let Some(unsaid) = self.shall_say(error.sqlite_error_code(), Instant::now()) {
            let database = self.path.display();
            tracing::error!(
                %database, %error, unsaid, remedy = remedy(error),
                "the database failed; who asked is refused and will ask again"
            );
        }
        StoreError::Backend(error.to_string())
    }

    /// Whether a failure has to be logged now; if so, how often it occurred since the last log line.
    fn shall_say(&self, what: Option<ErrorCode>, now: Instant) -> Option<u64> {
        let mut last = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((known, said, unsaid)) if *known == what && now < *said + LOG_EVERY => {
                *unsaid += 1;
                None
            }
            last => {
                let unsaid = last.filter(|(known, ..)| *known == what).map_or(0, |(_, _, unsaid)| unsaid);
                *last = Some((what, now, 0));
                Some(unsaid)
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        read(&self.lock()).map_err(|error| self.failed(&error))
    }

    fn write<T>(&self, write: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let done = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = write(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        if done.is_ok() {
            self.empty_log(&connection, false);
        }
        done.map_err(|error| self.failed(&error))
    }

    /// As [`Self::write`], if a common key is void afterwards. The write-ahead log still has that key, so it is
    /// emptied: at once, or (if that was done a moment ago) after the next write.
    fn write_keys<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let done = self.write(write)?;
        self.empty_log(&self.lock(), true);
        Ok(done)
    }

    /// Empties the write-ahead log if it has a key that is void: `has_more` says that it has one more now. It stays if
    /// the other process is reading, and is emptied after the next write.
    fn empty_log(&self, connection: &Connection, has_more: bool) {
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        emptied.1 |= has_more;
        let soon = emptied.0.is_some_and(|last| last.elapsed() < EMPTY_EVERY);
        if emptied.1 && !soon {
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            *emptied = (Some(Instant::now()), busy != Ok(0));
        }
    }
}

/// Lets only the owner read and write the file, before anything is written to it.
fn protect(path: &Path) -> Result<(), Failure> {
    let result =
        std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).and_then(|file| {
            let mode = file.metadata()?.permissions().mode();
            Ok(mode & 0o077)
        });
    match result {
        Ok(0) => Ok(()),
        Ok(_) => {
            let what = format!("{}: others can read the database", path.display());
            Err(Failure::new(Code::Database, what, format!("chmod 600 {}", path.display())))
        }
        Err(error) => {
            let what = format!("{}: the database cannot be opened: {error}", path.display());
            Err(Failure::new(Code::Database, what, "check `database`: its folder must exist and be this user's"))
        }
    }
}

/// The remedy for a failure of the database.
fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LOCKED,
        Some(ErrorCode::DiskFull) => FULL,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "this is no database, or it is damaged: restore it from a backup, or give another path"
        }
        Some(ErrorCode::ReadOnly) => "the file, its folder or its file system is read-only for this user: change that",
        _ => "check that the file and its folder can be written by this user, and that the disk is healthy",
    }
}

const LOCKED: &str =
    "another program holds it: end that (`fuser FILE` shows it); only AS, NMS and `cyphonic device` belong there";
const FULL: &str = "the disk is full (or a quota is used up): make room (`df FILE` shows where)";

/// The failure of a command because of an error of the database.
fn failure(path: &Path, error: &rusqlite::Error) -> Failure {
    Failure::new(Code::Database, format!("{}: {error}", path.display()), remedy(error))
}

/// The failure of a command because of an error that the store reports.
pub fn store_failure(path: &Path, error: &StoreError) -> Failure {
    let remedy = match error {
        StoreError::Exhausted => "the overlay's range is full: use a wider one",
        StoreError::Backend(text) if text.contains("locked") => LOCKED,
        StoreError::Backend(text) if text.contains("full") => FULL,
        StoreError::Backend(_) => "check the file, its folder and the disk",
    };
    Failure::new(Code::Database, format!("{}: {error}", path.display()), remedy)
}

fn invitation(
    connection: &Connection,
    name: &Fqdn,
    token: &str,
    key: &[u8; 32],
    now: Duration,
) -> rusqlite::Result<Invitation> {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let now = seconds(now);
    let sql = "SELECT replaces, key, certificate, EXISTS (SELECT 1 FROM devices WHERE devices.name = invitations.name)
               FROM invitations WHERE name = ?1 AND token = ?2 AND until >= ?3";
    connection
        .query_row(sql, params![name.as_str(), hash.as_ref(), now], |row| {
            let (replaces, user): (bool, Option<[u8; 32]>) = (row.get(0)?, row.get(1)?);
            let (certificate, is_device) = (row.get(2)?, row.get(3)?);
            Ok(match (user, certificate) {
                (Some(user), Some(certificate)) if user == *key => Invitation::Used(certificate),
                (Some(_), _) => Invitation::None,
                _ if is_device && !replaces => Invitation::Taken,
                _ => Invitation::Good,
            })
        })
        .optional()
        .map(|found| found.unwrap_or(Invitation::None))
}

/// Seconds as an SQLite integer.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a name has a valid, unused invitation at `now`.
fn is_open(connection: &Connection, name: &Fqdn, now: Duration) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM invitations WHERE name = ?1 AND until >= ?2 AND key IS NULL)";
    connection.query_row(sql, params![name.as_str(), seconds(now)], |row| row.get(0))
}

/// Removes a device, its common key, and its invitation, which could admit it again. `name` is for an invitation
/// without a device. True if there was a device.
fn remove(transaction: &Transaction<'_>, node: NodeId, name: Option<&Fqdn>) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM invitations WHERE name = ?2 OR name IN (SELECT name FROM devices WHERE node = ?1)";
    transaction.execute(sql, params![node.0, name.map(Fqdn::as_str)])?;
    transaction.execute("DELETE FROM common_keys WHERE node = ?1", params![node.0])?;
    note_eviction(transaction, node)?;
    addresses::release(transaction, node)?;
    Ok(transaction.execute("DELETE FROM devices WHERE node = ?1", params![node.0])? > 0)
}

/// Notes for the NMS that a device is removed, if there is one.
fn note_eviction(transaction: &Transaction<'_>, node: NodeId) -> rusqlite::Result<()> {
    let sql = "INSERT INTO evictions (name) SELECT name FROM devices WHERE node = ?1";
    transaction.execute(sql, params![node.0])?;
    let sql = "DELETE FROM evictions WHERE number <= (SELECT max(number) FROM evictions) - ?1";
    transaction.execute(sql, params![MAX_EVICTIONS]).map(drop)
}

fn device_of(row: &Row<'_>) -> rusqlite::Result<Device> {
    let (iterations, salt, hash) = (row.get::<_, Option<u32>>(1)?, row.get(2)?, row.get(3)?);
    let password = match (iterations.and_then(NonZeroU32::new), salt, hash) {
        (Some(iterations), Some(salt), Some(hash)) => Some(PasswordHash { iterations, salt, hash }),
        _ => None,
    };
    Ok(Device { name: name_of(row, 0)?, password, certificate_login: row.get(4)? })
}

fn name_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Fqdn> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: cyphonic_core::name::FqdnError| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Resets a new device's epoch, so that an earlier device of its name has no influence. The common key goes too:
/// without it no recorded registration of the earlier device decrypts, so none can be replayed under the new epochs.
fn begin_anew(connection: &Connection, node: NodeId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM common_keys WHERE node = ?1", params![node.0])?;
    connection.execute("DELETE FROM epochs WHERE node = ?1", params![node.0])?;
    Ok(())
}

impl Store for SqliteStore {
    fn put_device(&self, device: &Device) -> Result<(), StoreError> {
        let password = device.password.as_ref();
        self.write_keys(|transaction| {
            note_eviction(transaction, NodeId::of(&device.name))?;
            transaction.execute(
                "INSERT OR REPLACE INTO devices (node, name, iterations, salt, hash, certificate)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    NodeId::of(&device.name).0,
                    device.name.as_str(),
                    password.map(|p| p.iterations.get()),
                    password.map(|p| p.salt),
                    password.map(|p| p.hash),
                    device.certificate_login,
                ],
            )?;
            addresses::keep(transaction, &device.name)?;
            begin_anew(transaction, NodeId::of(&device.name))
        })?;
        Ok(())
    }

    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT name, iterations, salt, hash, certificate FROM devices WHERE node = ?1";
            connection.prepare_cached(sql)?.query_row(params![node.0], device_of).optional()
        })
    }

    fn remove_device(&self, node: NodeId) -> Result<(), StoreError> {
        self.write_keys(|transaction| remove(transaction, node, None).map(drop))
    }

    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError> {
        self.write_keys(|transaction| {
            let sql = "INSERT OR REPLACE INTO common_keys (node, key, ends) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![node.0, key.0, ends.map(seconds)])
        })?;
        Ok(())
    }

    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT key FROM common_keys WHERE node = ?1";
            connection.prepare_cached(sql)?.query_row(params![node.0], |row| row.get(0).map(Key128)).optional()
        })
    }

    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError> {
        let ends: Option<Option<i64>> = self.read(|connection| {
            let sql = "SELECT ends FROM common_keys WHERE node = ?1";
            connection.prepare_cached(sql)?.query_row(params![node.0], |row| row.get(0)).optional()
        })?;
        Ok(ends.flatten().map(|ends| Duration::from_secs(ends.unsigned_abs())))
    }

    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError> {
        self.allocate_at(name, drive::since_epoch())
    }

    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError> {
        self.read(|connection| addresses_of(connection, name))
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError> {
        self.read(|connection| {
            let (sql, bytes) = match address {
                IpAddr::V4(v4) => ("SELECT name FROM addresses WHERE v4 = ?1", v4.octets().to_vec()),
                IpAddr::V6(v6) => ("SELECT name FROM addresses WHERE v6 = ?1", v6.octets().to_vec()),
            };
            connection.prepare_cached(sql)?.query_row(params![bytes], |row| name_of(row, 0)).optional()
        })
    }

    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError> {
        // SQLite's integers are signed, so an epoch is stored as eight big-endian bytes, which sort like the number.
        let bytes = epoch.to_be_bytes();
        self.write(|transaction| {
            let changed = transaction.execute(
                "INSERT INTO epochs (node, epoch) VALUES (?1, ?2)
                 ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > epochs.epoch",
                params![node.0, bytes],
            )?;
            Ok(changed == 1)
        })
    }

    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT epoch FROM epochs WHERE node = ?1")?;
            let bytes: Option<[u8; 8]> = statement.query_row(params![node.0], |row| row.get(0)).optional()?;
            Ok(bytes.map(u64::from_be_bytes))
        })
    }
}

#[cfg(test)]
mod tests;
