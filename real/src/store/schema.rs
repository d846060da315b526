//! The tables of the database, as a list of migrations. SQLite's `user_version` is the number of migrations that were
//! applied to a file.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

/// The migrations, one for each version. A migration never changes after its release, because files in use have it
/// already. A later change of the tables is another migration.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE devices (
        node BLOB PRIMARY KEY NOT NULL,
        name TEXT NOT NULL UNIQUE,
        iterations INTEGER,
        salt BLOB,
        hash BLOB,
        certificate INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE common_keys (node BLOB PRIMARY KEY NOT NULL, key BLOB NOT NULL) STRICT;
    -- A pair has one owner for good: rows are never deleted.
    CREATE TABLE addresses (name TEXT PRIMARY KEY NOT NULL, v4 BLOB NOT NULL UNIQUE, v6 BLOB NOT NULL UNIQUE) STRICT;
    -- Eight big-endian bytes; only grows.
    CREATE TABLE epochs (node BLOB PRIMARY KEY NOT NULL, epoch BLOB NOT NULL) STRICT;
",
    "
    -- Devices that may get a first certificate: the SHA-256 of the token, and until when (seconds since 1970).
    CREATE TABLE invitations (name TEXT PRIMARY KEY NOT NULL, token BLOB NOT NULL, until INTEGER NOT NULL) STRICT;
",
    "
    -- Whether the invitation may put a new device in the place of one of that name.
    ALTER TABLE invitations ADD COLUMN replaces INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Of a used invitation: the key and the certificate (PEM), so that a lost answer can be sent again.
    ALTER TABLE invitations ADD COLUMN key BLOB;
    ALTER TABLE invitations ADD COLUMN certificate TEXT;
",
    "
    -- When the invitation was made (seconds since 1970). A later revocation of its name ends it. If the time is not
    -- known, any revocation ends it.
    ALTER TABLE invitations ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Devices that were removed, or replaced by others of their names: the NMS looks here and ends their access.
    CREATE TABLE evictions (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL) STRICT;
",
    "
    -- When a common key ends: with the certificate of its login (seconds since 1970).
    ALTER TABLE common_keys ADD COLUMN ends INTEGER;
",
    "
    -- Of a pair of addresses (seconds since 1970): when its name was removed, if it was, and when the last certificate
    -- ends that has the pair in it. A row is never deleted, but its pair may go to another name.
    ALTER TABLE addresses ADD COLUMN removed INTEGER;
    ALTER TABLE addresses ADD COLUMN until INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX removed ON addresses (removed) WHERE removed IS NOT NULL;
    -- The last certificate of a name that was made by a renewal over the network: when (seconds since 1970), for which
    -- key, by which CA (SHA-256 of its certificate), and itself (PEM).
    CREATE TABLE renewals (
        name TEXT PRIMARY KEY NOT NULL,
        made INTEGER NOT NULL,
        key BLOB NOT NULL,
        ca BLOB NOT NULL,
        certificate TEXT NOT NULL
    ) STRICT;
",
];

pub(super) enum SchemaError {
    Sql(rusqlite::Error),
    Newer(i64),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Configures the connection and runs the missing migrations.
///
/// Every transaction is on the disk when it ends (`synchronous = FULL`), because an address or epoch that was reported
/// must survive a crash. Deleted keys and passwords are overwritten (`secure_delete`). With a write-ahead log, AS and
/// NMS can read while the other one writes.
pub(super) fn prepare(connection: &mut Connection, busy: Duration) -> Result<(), SchemaError> {
    connection.busy_timeout(busy)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(0);
    if done > MIGRATIONS.len() {
        return Err(SchemaError::Newer(version));
    }
    if done == MIGRATIONS.len() {
        // An up-to-date file is not written to, so that it can be read even if the disk is full.
        return Ok(());
    }
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    let version = u32::try_from(MIGRATIONS.len()).expect("few migrations");
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    Ok(())
}
