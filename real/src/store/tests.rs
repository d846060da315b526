use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, VirtualRange::default()).unwrap()
}

/// An invitation that was made at time zero.
fn offer(until: Duration, replaces: bool) -> Offer {
    Offer { made: Duration::ZERO, until, replaces }
}

#[test]
fn the_sqlite_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    cyphonic_core::store::conformance(&|| {
        count.set(count.get() + 1);
        Box::new(open(&folder.path().join(format!("{}.db", count.get()))))
    });
    assert!(count.get() >= 5);
}

#[test]
fn what_was_written_is_there_after_the_file_is_opened_again_and_for_both_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let name: Fqdn = "alice.example".parse().unwrap();
    let node = NodeId::of(&name);
    let (first, second) = (open(&path), open(&path));
    let pair = first.allocate(&name).unwrap();
    assert_eq!(first.accept_epoch(node, u64::MAX - 1), Ok(true));
    first.put_common_key(node, &Key128([7; 16]), None).unwrap();
    assert_eq!(second.common_key(node), Ok(Some(Key128([7; 16]))));
    assert_eq!(second.allocate(&"bob.example".parse().unwrap()).unwrap().v4, Ipv4Addr::new(198, 18, 0, 11));
    drop((first, second));
    let again = open(&path);
    assert_eq!(again.addresses_of(&name), Ok(Some(pair)));
    assert_eq!(again.accept_epoch(node, u64::MAX - 1), Ok(false));
    assert_eq!(again.accept_epoch(node, u64::MAX), Ok(true));
}

#[test]
fn an_invitation_is_taken_once_in_time_by_its_token_and_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("a.db"));
    let (a, b): (Fqdn, Fqdn) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
    let seconds = Duration::from_secs;
    store.invite(&a, "old", offer(seconds(100), false)).unwrap();
    store.invite(&a, "new", offer(seconds(100), false)).unwrap();
    let take = |name, token, key, now| store.take_invitation(name, token, &[key; 32], "its certificate", now);
    for (name, token, now) in [(&a, "old", 50), (&a, "wrong", 50), (&b, "new", 50), (&a, "new", 101)] {
        assert_eq!(take(name, token, 1, seconds(now)), Ok(Invitation::None), "{name} {token} {now}");
    }
    assert_eq!(store.invitation(&a, "new", &[1; 32], seconds(100)), Ok(Invitation::Good));
    assert_eq!(store.device(NodeId::of(&a)), Ok(None));
    assert_eq!(take(&a, "new", 1, seconds(100)), Ok(Invitation::Good));
    assert!(store.device(NodeId::of(&a)).unwrap().unwrap().certificate_login);
    assert_eq!(take(&a, "new", 2, seconds(100)), Ok(Invitation::None), "another key");
    let again = Invitation::Used("its certificate".to_owned());
    assert_eq!(take(&a, "new", 1, seconds(100)), Ok(again), "its answer was lost");
    assert_eq!(take(&a, "new", 1, seconds(101)), Ok(Invitation::None), "too late");
}

#[test]
fn an_invitation_to_the_name_of_a_device_counts_only_if_it_was_made_to_replace_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("a.db"));
    let a: Fqdn = "a.example".parse().unwrap();
    let password = Some(PasswordHash::new("p", [1; 16], NonZeroU32::MIN));
    let device = Device { name: a.clone(), password, certificate_login: false };
    store.put_device(&device).unwrap();
    let until = Duration::from_secs(100);
    store.invite(&a, "x", offer(until, false)).unwrap();
    assert_eq!(store.take_invitation(&a, "x", &[1; 32], "c", until), Ok(Invitation::Taken));
    assert_eq!(store.device(NodeId::of(&a)), Ok(Some(device.clone())), "nothing has changed");
    store.invite(&a, "y", offer(until, true)).unwrap();
    assert_eq!(store.take_invitation(&a, "y", &[1; 32], "c", until), Ok(Invitation::Good));
    let now = store.device(NodeId::of(&a)).unwrap().unwrap();
    assert_eq!((now.password, now.certificate_login), (device.password, true));
}

#[test]
fn a_name_that_was_evicted_does_not_come_back_by_a_token_that_was_used_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("a.db"));
    let (a, b): (Fqdn, Fqdn) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
    let until = Duration::from_secs(100);
    let take = |token: &str| store.take_invitation(&a, token, &[1; 32], "its certificate", until).unwrap();
    store.invite(&b, "other", offer(until, false)).unwrap();

    store.invite(&a, "unused", offer(until, false)).unwrap();
    assert_eq!(store.evict(&a, until), Ok(Evicted { device: false, invitation: true }), "invited, and no device yet");
    assert_eq!(take("unused"), Invitation::None);

    store.invite(&a, "used", offer(until, false)).unwrap();
    assert_eq!(take("used"), Invitation::Good);
    assert_eq!(store.evict(&a, until), Ok(Evicted { device: true, invitation: false }));
    assert_eq!(take("used"), Invitation::None, "the same key asks again");
    assert_eq!(store.device(NodeId::of(&a)), Ok(None));

    store.invite(&a, "first", offer(until, false)).unwrap();
    take("first");
    store.invite(&a, "spare", offer(until, true)).unwrap();
    store.remove_device(NodeId::of(&a)).unwrap();
    assert_eq!(take("spare"), Invitation::None, "the other way to remove a device");
    assert_eq!(store.invitation(&b, "other", &[1; 32], until), Ok(Invitation::Good), "another's stays");
}

#[test]
fn open_invitations_are_listed_replaced_aloud_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("a.db"));
    let (a, b): (Fqdn, Fqdn) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
    let (now, until) = (Duration::from_secs(50), Duration::from_secs(100));
    assert_eq!(store.invite(&a, "1", Offer { made: now, until, replaces: false }), Ok(false));
    assert_eq!(store.invite(&a, "2", Offer { made: now, until, replaces: false }), Ok(true), "the first ends");
    store.invite(&b, "b", offer(Duration::from_secs(49), false)).unwrap();
    assert_eq!(store.invitations(now), Ok(vec![(a.clone(), until)]), "the other has ended");
    assert_eq!((store.invited_at(&a), store.invited_at(&b)), (Ok(Some(now)), Ok(Some(Duration::ZERO))));
    assert_eq!(store.uninvite(&a, now), Ok(true));
    assert_eq!((store.uninvite(&a, now), store.uninvite(&b, now)), (Ok(false), Ok(false)));
    assert_eq!(store.take_invitation(&a, "2", &[1; 32], "c", now), Ok(Invitation::None));
    assert_eq!(store.invitations(Duration::ZERO), Ok(Vec::new()));
}

#[test]
fn a_full_database_is_named_keeps_what_it_has_and_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = open(&path);
    let name = |n: u32| -> Fqdn { format!("node{n}.example").parse().unwrap() };
    let pages: u32 = store.lock().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.lock().pragma_update(None, "max_page_count", pages).unwrap();
    let (full, error) = (0..).find_map(|n| store.allocate(&name(n)).err().map(|error| (n, error))).unwrap();
    assert!(full > 1, "there was some room");
    assert!(matches!(&error, StoreError::Backend(text) if text.contains("full")), "{error}");
    let failure = store_failure(&path, &error);
    assert_eq!(failure.code, Code::Database);
    assert!(failure.remedy().contains("make room"), "{}", failure.remedy());
    let first = store.allocate(&name(0)).unwrap();
    assert_eq!(store.addresses_of(&name(full)), Ok(None), "nothing half done");
    store.lock().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    assert!(store.allocate(&name(full)).is_ok());
    assert_eq!(store.allocate(&name(0)), Ok(first));
}

#[test]
fn a_full_range_refuses_new_names() {
    let folder = tempfile::tempdir().unwrap();
    let range = VirtualRange::new([10, 0, 0, 0].into(), 27, "fd00::".parse().unwrap()).unwrap();
    let store = SqliteStore::open(&folder.path().join("a.db"), range).unwrap();
    for n in 0..range.capacity() {
        store.allocate(&format!("node{n}.example").parse().unwrap()).unwrap();
    }
    assert_eq!(store.allocate(&"late.example".parse().unwrap()), Err(StoreError::Exhausted));
}

#[test]
fn a_database_that_cannot_be_used_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let refused = |path: &Path| {
        let failure = SqliteStore::open(path, VirtualRange::default()).unwrap_err();
        assert_eq!(failure.code, Code::Database);
        assert!(failure.to_string().starts_with(&path.display().to_string()), "{failure}");
        format!("{failure}; {}", failure.remedy())
    };
    assert!(refused(&folder.path().join("none/a.db")).contains("its folder must exist"));
    let store = open(&path);
    let mut holder = Connection::open(&path).unwrap();
    let transaction = holder.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    assert!(
        matches!(store.accept_epoch(NodeId([0; 16]), 1), Err(StoreError::Backend(text)) if text.contains("locked"))
    );
    drop(transaction);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&path).contains("chmod 600"));
    let junk = folder.path().join("junk.db");
    crate::files::write_secret(&junk, &"not a database ".repeat(100)).unwrap();
    assert!(refused(&junk).contains("damaged"));
}

#[test]
fn a_role_that_runs_hardly_waits_for_who_holds_the_database_and_does_not_fill_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = SqliteStore::serving(&path, VirtualRange::default()).unwrap();
    let mut holder = Connection::open(&path).unwrap();
    let transaction = holder.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let begin = Instant::now();
    assert!(store.accept_epoch(NodeId([0; 16]), 1).is_err());
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(transaction);
    assert_eq!(store.accept_epoch(NodeId([0; 16]), 1), Ok(true));

    let (busy, full) = (Some(ErrorCode::DatabaseBusy), Some(ErrorCode::DiskFull));
    let at = |ms| begin + Duration::from_secs(60) + Duration::from_millis(ms);
    let said = [(busy, 0), (busy, 1), (busy, 9_999), (full, 9_999), (full, 19_998), (full, 19_999), (busy, 20_000)];
    let said = said.map(|(what, ms)| store.shall_say(what, at(ms)));
    assert_eq!(said, [Some(0), None, None, Some(0), None, Some(1), Some(0)]);
}

#[test]
fn a_file_of_the_first_version_keeps_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    crate::files::write_secret(&path, "").unwrap();
    let name: Fqdn = "a.example".parse().unwrap();
    let node = NodeId::of(&name);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::MIGRATIONS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let sql = "INSERT INTO devices VALUES (?1, ?2, 3, ?3, ?4, 1)";
    old.execute(sql, params![node.0, name.as_str(), [5u8; 16], [6u8; 32]]).unwrap();
    old.execute("INSERT INTO common_keys VALUES (?1, ?2)", params![node.0, [7u8; 16]]).unwrap();
    let (v4, v6) = ([198, 18, 0, 10], Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 10));
    old.execute("INSERT INTO addresses VALUES (?1, ?2, ?3)", params![name.as_str(), v4, v6.octets()]).unwrap();
    old.execute("INSERT INTO epochs VALUES (?1, ?2)", params![node.0, 9u64.to_be_bytes()]).unwrap();
    drop(old);

    let store = open(&path);
    let device = store.device(node).unwrap().unwrap();
    let password = PasswordHash { iterations: NonZeroU32::new(3).unwrap(), salt: [5; 16], hash: [6; 32] };
    assert_eq!(device, Device { name: name.clone(), password: Some(password), certificate_login: true });
    assert_eq!(store.common_key(node), Ok(Some(Key128([7; 16]))));
    assert_eq!(store.addresses_of(&name), Ok(Some(Virtual { v4: v4.into(), v6 })));
    assert_eq!(store.last_epoch(node), Ok(Some(9)));
    store.invite(&name, "t", offer(Duration::from_secs(1), true)).unwrap();
    assert_eq!(store.invitation(&name, "t", &[0; 32], Duration::ZERO), Ok(Invitation::Good));
    let version: isize = store.lock().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::MIGRATIONS.len().cast_signed());
}

#[test]
fn a_database_from_the_future_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(open(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let failure = SqliteStore::open(&path, VirtualRange::default()).unwrap_err();
    assert!(failure.to_string().contains("version 99"), "{failure}");
}

#[test]
fn a_device_that_was_removed_or_replaced_is_told_once_to_who_looks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("db"), VirtualRange::default()).unwrap();
    let device = |name: &str| Device { name: name.parse().unwrap(), password: None, certificate_login: true };
    store.put_device(&device("a.example")).unwrap();
    let (first, _) = store.evicted_since(None).unwrap();
    assert_eq!(store.evicted_since(Some(first)).unwrap(), (first, Vec::new()), "a new device evicts nobody");
    store.put_device(&device("a.example")).unwrap();
    store.remove_device(NodeId::of(&device("b.example").name)).unwrap();
    store.remove_device(NodeId::of(&device("a.example").name)).unwrap();
    let (last, names) = store.evicted_since(Some(first)).unwrap();
    assert_eq!(names, [device("a.example").name, device("a.example").name]);
    assert_eq!(store.evicted_since(Some(last)).unwrap().1, []);
}

#[test]
fn a_name_that_a_registration_had_shut_out_for_ever_is_readmitted_by_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = SqliteStore::open(&path, VirtualRange::default()).unwrap();
    let [shut_out, well] = ["a.example", "b.example"].map(|name| NodeId::of(&name.parse().unwrap()));
    for (node, epoch) in [(shut_out, u64::MAX), (well, 7)] {
        store.put_common_key(node, &Key128([1; 16]), None).unwrap();
        store.accept_epoch(node, epoch).unwrap();
    }
    drop(store);
    let done = SqliteStore::migrate(&path).unwrap();
    assert_eq!((done.readmitted, done.copy), (1, None));
    let store = SqliteStore::existing(&path).unwrap();
    assert_eq!((store.last_epoch(shut_out), store.common_key(shut_out)), (Ok(None), Ok(None)));
    assert_eq!((store.last_epoch(well), store.common_key(well)), (Ok(Some(7)), Ok(Some(Key128([1; 16])))));
}

#[test]
fn a_common_key_that_is_void_is_in_no_file_of_the_database_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let name: Fqdn = "alice.example".parse().unwrap();
    let (auth, nms) = (open(&path), open(&path));
    auth.put_device(&Device { name: name.clone(), password: None, certificate_login: true }).unwrap();
    let keys = [[0xa7; 16], [0xb8; 16]];
    for key in keys {
        auth.put_common_key(NodeId::of(&name), &Key128(key), None).unwrap();
        assert_eq!(nms.common_key(NodeId::of(&name)), Ok(Some(Key128(key))));
    }
    // `cyphonic device remove`, while AS and NMS run.
    open(&path).evict(&name, Duration::ZERO).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let (file, bytes) = file.map(|file| (file.path(), std::fs::read(file.path()).unwrap())).unwrap();
        assert!(!keys.iter().any(|key| bytes.windows(16).any(|at| at == key)), "{}", file.display());
    }
}
