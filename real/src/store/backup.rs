//! Saves copies of the database, and restores them.
//!
//! A copy is older than the database that it replaces, so it lacks the changes in between. Three things must not happen
//! after a restore:
//!
//! | what | after a restore |
//! |---|---|
//! | a virtual address is given to another name | the replaced database's addresses stay given; or pairs are skipped |
//! | an epoch is accepted a second time | every name's last epoch is the present time, or later |
//! | a common key or an invitation is valid again | all are void: nodes log in anew, and devices are invited anew |

use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::epoch::LAST_OF_CLOCKS;
use cyphonic_core::name::NodeId;
use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::schema::MIGRATIONS;
use super::{SqliteStore, failure, protect, store_failure};
use crate::error::{Code, Failure};
use crate::files;

/// What [`SqliteStore::restore`] did.
#[derive(Debug)]
pub struct Restored {
    /// The path of the replaced database.
    pub replaced: Option<PathBuf>,
    /// The devices that may log in now.
    pub devices: usize,
    /// The number of pairs of addresses that will never be given.
    pub left_out: u32,
}

impl SqliteStore {
    /// Writes a copy of the database into a new file, which only its owner can read. AS and NMS may run meanwhile.
    pub fn backup(path: &Path, copy: &Path) -> Result<(), Failure> {
        if copy.exists() {
            let what = format!("{}: there is such a file already", copy.display());
            return Err(Failure::new(Code::Usage, what, "give the name of a new file"));
        }
        let store = Self::existing(path)?;
        protect(copy)?;
        let written = store.lock().execute("VACUUM INTO ?1", params![copy.to_string_lossy()]);
        written.map(drop).map_err(|error| failure(copy, &error))
    }

    /// Puts a copy in the place of the database. The replaced database stays beside it, and its addresses stay given.
    /// If there is none, `skip` pairs of addresses are never given, because names may have got them since the copy was
    /// made.
    pub fn restore(copy: &Path, path: &Path, skip: u32, now: Duration) -> Result<Restored, Failure> {
        let source = judged(copy)?;
        // Through a symbolic link the file takes another's place, and AS and NMS may know the file by its own path.
        let real = std::fs::canonicalize(path).ok();
        let path = real.as_deref().unwrap_or(path);
        let replaced = path.exists().then(|| set_free(path)).transpose()?;
        let fresh = files::name_of_copy(&path.with_extension("restored"), 1);
        let _ = std::fs::remove_file(&fresh);
        protect(&fresh)?;
        let written = source.execute("VACUUM INTO ?1", params![fresh.to_string_lossy()]);
        let done = written
            .map_err(|error| failure(&fresh, &error))
            .and_then(|_| Self::prepared(&fresh, path, replaced.is_some(), skip, now));
        // What was begun goes, and what is there stays.
        let (devices, left_out) = done.inspect_err(|_| {
            let _ = std::fs::remove_file(&fresh);
        })?;
        if let Some(beside) = &replaced {
            std::fs::rename(path, beside).map_err(|error| moved(path, &error))?;
        }
        // The companion files of a lost database do not belong to the copy.
        for companion in ["-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(companion);
            let _ = std::fs::remove_file(file);
        }
        std::fs::rename(&fresh, path).map_err(|error| moved(&fresh, &error))?;
        files::sync_folder(path).map_err(|error| moved(path, &error))?;
        Ok(Restored { replaced, devices, left_out })
    }

    /// Makes a copy ready to take the database's place. Gives how many devices are in it, and how many pairs of
    /// addresses were left out.
    fn prepared(fresh: &Path, path: &Path, has_old: bool, skip: u32, now: Duration) -> Result<(usize, u32), Failure> {
        let store = Self::existing(fresh)?;
        if has_old {
            let attached = store.lock().execute("ATTACH DATABASE ?1 AS old", params![path.to_string_lossy()]);
            attached.map_err(|error| failure(path, &error))?;
        }
        let leapt = store.write(|transaction| leap(transaction, has_old, skip, now));
        let left_out = leapt.map_err(|error| store_failure(fresh, &error))?;
        let devices = store.devices().map_err(|error| store_failure(fresh, &error))?.len();
        if has_old {
            store.lock().execute("DETACH DATABASE old", []).map_err(|error| failure(path, &error))?;
        }
        drop(store);
        make_one_file(fresh)?;
        Ok((devices, left_out))
    }
}

/// Opens a copy, if it is a whole one of a database of AS and NMS, and not of a newer program's.
fn judged(copy: &Path) -> Result<Connection, Failure> {
    if !copy.is_file() {
        let what = format!("{}: there is no such file", copy.display());
        return Err(Failure::new(Code::Usage, what, "give a file that `cyphonic backup save` wrote"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let fail = |error: rusqlite::Error| failure(copy, &error);
    let source = Connection::open_with_flags(copy, flags).map_err(fail)?;
    let verdict: String = source.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if verdict != "ok" {
        let what = format!("{}: the copy is damaged: {verdict}", copy.display());
        return Err(Failure::new(Code::Database, what, "use another copy"));
    }
    let version: i64 = source.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) {
        let what = format!("{}: the copy has version {version}, newer than this program", copy.display());
        return Err(Failure::new(Code::Database, what, "restore it with the newer cyphonic that wrote it"));
    }
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('devices', 'addresses', 'epochs')";
    let tables: i64 = source.query_row(sql, [], |row| row.get(0)).map_err(fail)?;
    if version < 1 || tables < 3 {
        let what = format!("{}: this is a database, but not one of AS and NMS", copy.display());
        return Err(Failure::new(Code::Database, what, "give a file that `cyphonic backup save` wrote"));
    }
    Ok(source)
}

fn moved(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Database, format!("{}: {error}", path.display()), "check that this user may write there")
}

/// Makes sure that no other program has the database open, and that it is one file. Returns its new name.
fn set_free(path: &Path) -> Result<PathBuf, Failure> {
    make_one_file(path)?;
    let free = (1..=u32::MAX).map(|number| files::name_of_copy(path, number)).find(|copy| !copy.exists());
    Ok(free.expect("a number is free"))
}

/// Writes the whole database into its main file. No other program may have it open.
fn make_one_file(path: &Path) -> Result<(), Failure> {
    let connection = Connection::open(path).map_err(|error| failure(path, &error))?;
    connection.busy_timeout(Duration::ZERO).map_err(|error| failure(path, &error))?;
    let mode = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
    match mode {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(_) | Err(_) => {
            let what = format!("{}: another program has the database open", path.display());
            Err(Failure::new(Code::Database, what, "stop AS and NMS, and start them again afterwards"))
        }
    }
}

/// Applies the three rules of this module to the copy. Returns the number of skipped pairs of addresses.
fn leap(transaction: &Transaction<'_>, has_old: bool, skip: u32, now: Duration) -> rusqlite::Result<u32> {
    let least = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).min(LAST_OF_CLOCKS).to_be_bytes();
    let mut nodes: Vec<[u8; 16]> = Vec::new();
    let mut names = transaction.prepare("SELECT name FROM devices UNION SELECT name FROM addresses")?;
    for name in names.query_map([], |row| row.get::<_, String>(0))? {
        if let Ok(name) = name?.parse() {
            nodes.push(NodeId::of(&name).0);
        }
    }
    drop(names);
    for node in nodes {
        transaction.execute("INSERT OR IGNORE INTO epochs (node, epoch) VALUES (?1, ?2)", params![node, least])?;
    }
    transaction.execute("UPDATE epochs SET epoch = ?1 WHERE epoch < ?1", params![least])?;
    transaction.execute("DELETE FROM common_keys", [])?;
    transaction.execute("DELETE FROM invitations", [])?;
    if has_old {
        // The replaced database knows better whose a pair is.
        let sql = "DELETE FROM addresses WHERE v4 IN (SELECT v4 FROM old.addresses)
                   OR v6 IN (SELECT v6 FROM old.addresses) OR name IN (SELECT name FROM old.addresses)";
        transaction.execute(sql, [])?;
        let sql = "SELECT count(*) FROM pragma_table_info('addresses', 'old') WHERE name = 'removed'";
        let has_ends = transaction.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0;
        let ends = if has_ends { "removed, until" } else { "NULL, 0" };
        let sql = format!(
            "INSERT INTO addresses (name, v4, v6, removed, until)
             SELECT name, v4, v6, {ends} FROM old.addresses ORDER BY rowid"
        );
        transaction.execute(&sql, [])?;
        let sql = "INSERT INTO epochs (node, epoch) SELECT node, epoch FROM old.epochs WHERE true
                   ON CONFLICT (node) DO UPDATE SET epoch = max(epoch, excluded.epoch)";
        transaction.execute(sql, [])?;
        return Ok(0);
    }
    for number in 0..skip {
        // No name has a space, and no address has as many bytes.
        let name = format!("left out {} {number}", now.as_nanos());
        let sql = "INSERT INTO addresses (name, v4, v6) VALUES (?1, ?2, ?2)";
        transaction.execute(sql, params![name, name.as_bytes()])?;
    }
    Ok(skip)
}

#[cfg(test)]
mod tests {
    use cyphonic_core::key::Key128;
    use cyphonic_core::name::Fqdn;
    use cyphonic_core::store::{Device, Store, VirtualRange};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    fn open(path: &Path) -> SqliteStore {
        SqliteStore::open(path, VirtualRange::default()).unwrap()
    }

    fn add(store: &SqliteStore, text: &str) -> cyphonic_core::name::Virtual {
        store.put_device(&Device { name: name(text), password: None, certificate_login: true }).unwrap();
        let node = NodeId::of(&name(text));
        store.accept_epoch(node, 7).unwrap();
        store.put_common_key(node, &Key128([1; 16]), None).unwrap();
        store.allocate(&name(text)).unwrap()
    }

    #[test]
    fn an_old_copy_gives_no_address_and_accepts_no_epoch_a_second_time() {
        for is_lost in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let [path, copy] = ["db", "copy"].map(|file| folder.path().join(file));
            let store = open(&path);
            let first = add(&store, "a.example");
            SqliteStore::backup(&path, &copy).unwrap();
            assert_eq!(SqliteStore::backup(&path, &copy).unwrap_err().code, Code::Usage);
            let second = add(&store, "b.example");
            store.accept_epoch(NodeId::of(&name("b.example")), u64::MAX).unwrap();
            let busy = SqliteStore::restore(&copy, &path, 8, NOW).unwrap_err();
            assert!(
                busy.to_string().contains("another program") && busy.remedy().contains("stop AS and NMS"),
                "{busy}"
            );
            drop(store);
            if is_lost {
                std::fs::remove_file(&path).unwrap();
            }
            let done = SqliteStore::restore(&copy, &path, 8, NOW).unwrap();
            assert_eq!((done.devices, done.left_out), (1, if is_lost { 8 } else { 0 }));
            assert_eq!(done.replaced.map(|beside| beside.exists()), (!is_lost).then_some(true));
            let store = open(&path);
            assert_eq!(store.addresses_of(&name("a.example")).unwrap(), Some(first));
            let third = add(&store, "c.example");
            assert!(third != first && third != second, "{third:?}");
            // Its copies, and theirs, count on where it stops.
            let again = folder.path().join("again");
            SqliteStore::backup(&path, &again).unwrap();
            let fourth = add(&open(&again), "d.example");
            assert!(![first, second, third].contains(&fourth), "{fourth:?}");
            let node = NodeId::of(&name("a.example"));
            let least = u64::try_from(NOW.as_nanos()).unwrap();
            assert_eq!(store.last_epoch(node).unwrap(), Some(least));
            assert!(!store.accept_epoch(node, least).unwrap() && store.accept_epoch(node, least + 1).unwrap());
            assert_eq!(store.common_key(node).unwrap(), None);
            let known = store.last_epoch(NodeId::of(&name("b.example"))).unwrap();
            assert_eq!(known, (!is_lost).then_some(u64::MAX), "the replaced database knows more");
        }
    }

    #[test]
    fn a_copy_takes_the_place_of_the_file_to_which_a_symbolic_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let [path, copy, link] = ["db", "copy", "link"].map(|file| folder.path().join(file));
        add(&open(&path), "a.example");
        SqliteStore::backup(&path, &copy).unwrap();
        add(&open(&path), "b.example");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        SqliteStore::restore(&copy, &link, 8, NOW).unwrap();
        assert!(link.is_symlink());
        assert_eq!(open(&path).devices().unwrap().len(), 1, "AS and NMS have the file by its own path");
    }

    #[test]
    fn a_copy_that_is_none_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [path, copy] = ["db", "copy"].map(|file| folder.path().join(file));
        add(&open(&path), "a.example");
        std::fs::write(&copy, "no database at all, but long enough to be looked at as one").unwrap();
        assert_eq!(SqliteStore::restore(&copy, &path, 8, NOW).unwrap_err().code, Code::Database);
        assert!(SqliteStore::restore(&folder.path().join("none"), &path, 8, NOW).is_err());
        assert_eq!(open(&path).devices().unwrap().len(), 1);
    }
}
