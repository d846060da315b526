//! Devices, certificates and the database: what the operator makes, looks at and takes away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{fine, refused, run, stage};

/// `fixtures/version-1` was made by the daemons and commands of version 0.1.0 (commit 10aee84): three devices, one of
/// which logs in by password, an open invitation, a revoked certificate, and a node that had registered.
#[test]
fn what_the_first_version_made_is_migrated_by_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1"));
    let (pki, database) = (path.join("pki"), path.join("cyphonic.db"));
    fs::create_dir(&pki).unwrap();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for file in fs::read_dir(old.join("pki")).unwrap().map(|entry| entry.unwrap().path()) {
        let copy = pki.join(file.file_name().unwrap());
        fs::copy(&file, &copy).unwrap();
        mode(&copy, if copy.extension().is_some_and(|end| end == "key") { 0o600 } else { 0o644 });
    }
    fs::write(pki.join("lock"), "").unwrap();
    mode(&pki.join("lock"), 0o644);
    mode(&pki, 0o755);
    fs::copy(old.join("cyphonic.db"), &database).unwrap();
    mode(&database, 0o600);
    // The invitation was open for a day. Here it is, whatever the day is.
    let renewed = rusqlite::Connection::open(&database).unwrap().execute("UPDATE invitations SET until = 1 << 40", []);
    assert_eq!(renewed, Ok(1));

    let said = fine(path, &["migrate"]);
    for words in ["cyphonic.db: version 4 is now", "a copy is cyphonic.db.~1~", "pki: only its owner", "crl.pem names"]
    {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    let list = fs::read_to_string(pki.join("crl.pem")).unwrap();
    assert!(list.contains("revoked: c.cyphonic.test "), "{list}");
    for (path, bits) in [(&pki, 0o700), (&pki.join("lock"), 0o600), (&path.join("cyphonic.db.~1~"), 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, bits, "{}", path.display());
    }
    assert_eq!(fine(path, &["migrate"]), "pki: up to date\ncyphonic.db: up to date\n");

    // Everything is as before, and works.
    let devices = fine(path, &["device", "list"]);
    for words in ["a.cyphonic.test", "b.cyphonic.test", "c.cyphonic.test", "198.18.0.10", "d.cyphonic.test"] {
        assert!(devices.contains(words), "{words:?} in {devices}");
    }
    fine(path, &["ca", "issue", "e.cyphonic.test"]);
    fine(path, &["ca", "issue", "a.cyphonic.test", "--renew"]);
    fine(path, &["ca", "revoke", "a.cyphonic.test", "--database", "cyphonic.db"]);
    refused(&run(path, &["migrate", "--database", "none.db", "--dir", "none"]), 2, &["neither none.db nor none"]);
}

#[test]
fn what_is_told_of_devices_and_certificates_is_there_for_programs_too() {
    let folder = stage();
    let json =
        |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&fine(folder.path(), arguments)).unwrap() };
    let devices = json(&["device", "list", "--json"]);
    let known = serde_json::json!(
        [{ "name": "a.cyphonic.test", "device": true, "ipv4": null, "ipv6": null, "certificate": true,
           "password": false, "invited_until": null }]
    );
    assert_eq!(devices, known);
    let invitation = json(&["device", "invite", "c.cyphonic.test", "--json"]);
    assert_eq!(invitation["name"], "c.cyphonic.test");
    assert_eq!(invitation["token"].as_str().unwrap().len(), 32);
    assert!(invitation["until"].as_u64().unwrap() > 1_700_000_000);
    let chain = json(&["ca", "print", "pki/a.cyphonic.test.pem", "--json"]);
    assert_eq!((&chain[0]["authority"], &chain[1]["authority"]), (&false.into(), &true.into()), "{chain:#}");
    assert_eq!(chain[0]["names"], serde_json::json!(["a.cyphonic.test"]));
    assert!(chain[0]["to"].as_i64() > chain[0]["from"].as_i64());
    // Errors are the same as without `--json`.
    refused(&run(folder.path(), &["ca", "print", "none.pem", "--json"]), 4, &["none.pem"]);
}

#[test]
fn a_revoked_device_is_gone_and_its_name_is_free_for_a_new_device() {
    let folder = stage();
    let path = folder.path();
    assert!(fine(path, &["device", "list"]).contains("a.cyphonic.test"));
    fine(path, &["ca", "revoke", "a.cyphonic.test", "--database", "cyphonic.db"]);
    assert_eq!(fine(path, &["device", "list"]), "");
    let again = fine(path, &["ca", "revoke", "a.cyphonic.test", "--database", "cyphonic.db"]);
    assert!(again.contains("crl.pem: 0 more; copy it") && again.contains("was no device"), "{again}");
    refused(&run(path, &["device", "remove", "a.cyphonic.test"]), 2, &["no device"]);
    fine(path, &["device", "add", "a.cyphonic.test"]);
}

#[test]
fn a_name_that_an_attacker_would_like_is_neither_issued_nor_added_nor_invited_nor_signed_up() {
    let folder = stage();
    let path = folder.path();
    let read = |file: &str| fs::read(path.join("pki").join(file)).unwrap();
    let own = ["root.key", "root.pem", "ca.key", "ca.pem", "service.key", "crl.pem"];
    let before = own.map(read);
    for name in ["root", "ca", "service", "crl", "lock", "cyphonic.test", "a.example.org"] {
        for more in [&[][..], &["--renew"]] {
            refused(&run(path, &[&["ca", "issue", name], more].concat()), 2, &[name]);
        }
    }
    refused(&run(path, &["ca", "issue", "root", "crl", "--renew"]), 2, &["root"]);
    assert!(own.map(read) == before, "a file of the authority was overwritten");
    fine(path, &["ca", "issue", "nms.cyphonic.test", "trs.cyphonic.test"]);
    fs::write(path.join("token"), "token").unwrap();
    fs::set_permissions(path.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    for name in ["as.cyphonic.test", "nms.cyphonic.test", "trs.cyphonic.test"] {
        for command in [&["device", "add"][..], &["device", "invite"], &["device", "invite", "--replace"]] {
            refused(&run(path, &[command, &[name]].concat()), 2, &[name, "service"]);
        }
        // A service may renew the certificate that it has, and get none by an invitation.
        let signup = ["signup", name, "--as", "[::1]:1", "--token-file", "token", "--roots", "pki/root.pem"];
        refused(&run(path, &signup), 2, &[name, "service"]);
    }
    for name in ["root", "b.example.org"] {
        refused(&run(path, &["device", "add", name, "--zone", "cyphonic.test"]), 2, &[name]);
        refused(&run(path, &["device", "invite", name, "--zone", "cyphonic.test"]), 2, &[name]);
    }
    assert_eq!(fine(path, &["device", "list"]).lines().count(), 1, "nothing was added or invited");
}

#[test]
fn an_invitation_is_listed_replaced_aloud_taken_back_and_gone_with_its_device() {
    let folder = stage();
    let path = folder.path();
    let invite = |name: &str, more: &[&str]| run(path, &[&["device", "invite", name], more].concat());
    assert_eq!(invite("c.cyphonic.test", &[]).err, "");
    let second = invite("c.cyphonic.test", &[]);
    assert!(second.code == 0 && second.err.contains("the earlier token does not count any more"), "{}", second.err);
    assert_eq!(second.out.trim().len(), 32, "standard output is the token's alone");
    let listed = fine(path, &["device", "list"]);
    assert!(listed.contains("c.cyphonic.test  -  no device yet  invited until 20"), "{listed}");
    assert_eq!(fine(path, &["device", "uninvite", "c.cyphonic.test"]), "c.cyphonic.test is not invited any more\n");
    refused(&run(path, &["device", "uninvite", "c.cyphonic.test"]), 2, &["c.cyphonic.test", "no invitation"]);
    // Every command that shuts a name out also cancels its invitation.
    // No certificate was ever made for this name.
    invite("d.cyphonic.test", &[]);
    fine(path, &["ca", "revoke", "d.cyphonic.test", "--database", "cyphonic.db"]);
    assert!(!fine(path, &["device", "list"]).contains("d.cyphonic.test"), "its token counts still");
    refused(
        &run(path, &["ca", "revoke", "d.cyphonic.test", "--database", "cyphonic.db"]),
        2,
        &["no certificate for d.cyphonic.test"],
    );
    // The invitation ends before the certificates are looked for. So none that it gives at this moment is left out.
    invite("d.cyphonic.test", &[]);
    let lock = fs::File::options().append(true).open(path.join("pki/lock")).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let revoke = scope.spawn(|| fine(path, &["ca", "revoke", "d.cyphonic.test", "--database", "cyphonic.db"]));
        let is_gone = || !fine(path, &["device", "list"]).contains("d.cyphonic.test");
        assert!((0..30).any(|_| is_gone() || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            false
        }));
        drop(lock);
        revoke.join().unwrap();
    });
    for evict in [&["device", "remove"][..], &["ca", "revoke", "--database", "cyphonic.db"]] {
        invite("a.cyphonic.test", &["--replace"]);
        assert!(fine(path, &["device", "list"]).contains("invited until"));
        let said = fine(path, &[evict, &["a.cyphonic.test"]].concat());
        assert!(said.contains("a.cyphonic.test may not log in any more, and is not invited any more"), "{said}");
        assert_eq!(fine(path, &["device", "list"]), "");
        fine(path, &["device", "add", "a.cyphonic.test"]);
    }
}

#[test]
fn commands_that_only_look_or_take_away_make_no_database() {
    let folder = stage();
    let path = folder.path();
    for command in [
        &["device", "list", "--database", "other.db"][..],
        &["device", "remove", "a.cyphonic.test", "--database", "other.db"],
        &["device", "uninvite", "a.cyphonic.test", "--database", "other.db"],
        &["ca", "revoke", "a.cyphonic.test", "--database", "other.db"],
    ] {
        refused(&run(path, command), 7, &["other.db", "no database"]);
        assert!(!path.join("other.db").exists(), "{command:?}");
    }
}

#[test]
fn an_authority_that_ends_soon_or_has_ended_is_named_and_not_the_days_that_were_asked_for() {
    let folder = stage();
    let path = folder.path();
    let facts = path.join("pki/ca.toml");
    let text = fs::read_to_string(&facts).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ends_at = |at: u64| {
        let lines = text.lines().filter(|line| !line.starts_with("not_after"));
        fs::write(&facts, format!("{}\nnot_after = {at}\n", lines.collect::<Vec<_>>().join("\n"))).unwrap();
    };
    ends_at(now + 10 * 86_400);
    let said = run(path, &["ca", "issue", "b.cyphonic.test", "--days", "30"]);
    assert!(said.code == 0 && said.err.contains("note: the CA ends at 20"), "{}", said.err);
    assert!(!run(path, &["ca", "issue", "c.cyphonic.test", "--days", "9"]).err.contains("ends at"));
    ends_at(now - 60);
    let ended = run(path, &["ca", "issue", "d.cyphonic.test"]);
    refused(&ended, 11, &["the CA ended at 20", "ca rotate"]);
    assert!(!ended.err.contains("--days"), "{}", ended.err);
}

/// The virtual addresses in the certificate of a name, as `ca print` shows them.
#[track_caller]
fn in_certificate(folder: &Path, name: &str) -> String {
    let shown = fine(folder, &["ca", "print", &format!("pki/{name}.pem"), "--json"]);
    let all: serde_json::Value = serde_json::from_str(&shown).unwrap();
    all[0]["virtual_addresses"].to_string()
}

#[test]
fn a_device_has_its_virtual_addresses_in_the_certificate_that_the_operator_makes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fine(path, &["ca", "init"]);
    let database = ["--database", "cyphonic.db"];
    let issue = |names: &[&str], more: &[&str]| {
        let ended = run(path, &[&["ca", "issue"][..], names, more].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.err
    };
    assert_eq!(issue(&["as.cyphonic.test", "a.cyphonic.test", "b.cyphonic.test"], &database), "");
    fine(path, &["device", "add", "a.cyphonic.test", "b.cyphonic.test"]);
    let (a, b) = (r#"["198.18.0.10","2001:db8:c::a"]"#, r#"["198.18.0.11","2001:db8:c::b"]"#);
    assert_eq!(["a", "b", "as"].map(|name| in_certificate(path, &format!("{name}.cyphonic.test"))), [a, b, "[]"]);
    assert!(fine(path, &["ca", "print", "pki/a.cyphonic.test.pem"]).contains("virtual  198.18.0.10, 2001:db8:c::a"));
    let known = fine(path, &["device", "list", "--json"]);
    let known: serde_json::Value = serde_json::from_str(&known).unwrap();
    assert_eq!((&known[1]["name"], &known[1]["ipv4"]), (&"b.cyphonic.test".into(), &"198.18.0.11".into()));

    // The next certificates have the same ones, with or without the database.
    issue(&["a.cyphonic.test"], &["--renew", "--keep-key"]);
    issue(&["b.cyphonic.test"], &["--renew"]);
    assert_eq!(["a", "b"].map(|name| in_certificate(path, &format!("{name}.cyphonic.test"))), [a, b]);

    // Without a database the program says what is missing, and the next certificate with one has them.
    let note = issue(&["c.cyphonic.test"], &[]);
    assert!(note.contains("note: no virtual addresses are in the certificate of c.cyphonic.test"), "{note}");
    assert_eq!(in_certificate(path, "c.cyphonic.test"), "[]");
    issue(&["c.cyphonic.test"], &[&["--renew", "--keep-key"][..], &database].concat());
    assert_eq!(in_certificate(path, "c.cyphonic.test"), r#"["198.18.0.12","2001:db8:c::c"]"#);

    // The range is that of AS and NMS.
    let other = ["--database", "other.db", "--overlay-v4", "10.9.0.0/16", "--overlay-v6", "fd00:9::/64"];
    issue(&["d.cyphonic.test"], &other);
    assert_eq!(in_certificate(path, "d.cyphonic.test"), r#"["10.9.0.10","fd00:9::a"]"#);
    let wrong = ["ca", "issue", "e.cyphonic.test", "--database", "other.db", "--overlay-v4", "10.9.0.0/30"];
    refused(&run(path, &wrong), 3, &["overlay-v4", "/8 to /27"]);
    let without = ["ca", "issue", "e.cyphonic.test", "--overlay-v4", "10.9.0.0/16"];
    assert_eq!(run(path, &without).code, 2);
}

#[test]
fn the_keys_of_an_authority_can_be_sealed_by_a_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let secret = |name: &str, text: &str| {
        fs::write(path.join(name), text).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret("right", "correct horse battery staple\n");
    secret("wrong", "another one\n");
    let keys = || ["pki/root.key", "pki/ca.key"].map(|key| fs::read_to_string(path.join(key)).unwrap());
    fine(path, &["ca", "init"]);
    let plain = keys();
    fine(path, &["ca", "issue", "a.cyphonic.test"]);
    assert_eq!(run(path, &["ca", "passphrase"]).code, 2);
    fine(path, &["ca", "passphrase", "--new-file", "right"]);
    for (key, plain) in keys().iter().zip(&plain) {
        assert!(key.starts_with("sealed-1 600000 ") && !key.contains(plain.trim()), "{key}");
    }
    for entry in fs::read_dir(path.join("pki")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!plain.iter().any(|key| text.contains(key.trim())), "no copy of an unsealed key is left");
    }
    for command in [&["ca", "issue", "b.cyphonic.test"][..], &["ca", "revoke", "a.cyphonic.test"], &["ca", "rotate"]] {
        refused(&run(path, command), 4, &["sealed by a passphrase", "--passphrase-file"]);
        let wrong = [command, &["--passphrase-file", "wrong"]].concat();
        refused(&run(path, &wrong), 4, &["the passphrase is not this key's"]);
    }
    assert!(!path.join("pki/b.cyphonic.test.pem").exists());
    let with = |command: &[&str]| fine(path, &[command, &["--passphrase-file", "right"]].concat());
    with(&["ca", "issue", "b.cyphonic.test"]);
    with(&["ca", "revoke", "a.cyphonic.test"]);
    // The next CA's keys are sealed too.
    with(&["ca", "rotate"]);
    assert!(fs::read_to_string(path.join("pki/next/ca.key")).unwrap().starts_with("sealed-1 "));
    secret("next", "a longer one\n");
    with(&["ca", "passphrase", "--new-file", "next"]);
    refused(&run(path, &["ca", "rotate", "--switch", "--passphrase-file", "right"]), 4, &["not this key's"]);
    fine(path, &["ca", "passphrase", "--none", "--passphrase-file", "next"]);
    assert_eq!(keys(), plain);
    fs::set_permissions(path.join("right"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&run(path, &["ca", "init", "--dir", "other", "--passphrase-file", "right"]), 4, &["others can read"]);
    assert!(!path.join("other").exists());
}

#[test]
fn a_copy_of_the_database_takes_its_place_again_and_no_bad_one_does() {
    let folder = stage();
    let path = folder.path();
    let file = |name: &str| path.join(name);
    let devices = || fine(path, &["device", "list"]);
    let before = devices();
    assert!(fine(path, &["backup", "save", "copy.db"]).contains("copy.db"));
    assert_eq!(fs::metadata(file("copy.db")).unwrap().permissions().mode() & 0o777, 0o600);
    refused(&run(path, &["backup", "save", "copy.db"]), 2, &["there is such a file already"]);
    let absent = run(path, &["backup", "save", "other.db", "--database", "none.db"]);
    refused(&absent, 7, &["none.db", "there is no database"]);
    assert!(!file("other.db").exists() && !file("none.db").exists());

    fine(path, &["device", "add", "b.cyphonic.test"]);
    fine(path, &["device", "invite", "c.cyphonic.test"]);
    let now = devices();
    // Files that are no copies of it.
    fs::write(file("text"), "no database at all, but long enough to be looked at as one").unwrap();
    fs::write(file("empty"), "").unwrap();
    let copy = fs::read(file("copy.db")).unwrap();
    fs::write(file("cut"), &copy[..copy.len() / 2]).unwrap();
    let newer = |name: &str, sql: &str| {
        fs::copy(file("copy.db"), file(name)).unwrap();
        rusqlite::Connection::open(file(name)).unwrap().execute_batch(sql).unwrap();
    };
    newer("newer", "PRAGMA user_version = 99");
    newer("foreign", "DROP TABLE devices; CREATE TABLE songs (name TEXT)");
    for (name, code, words) in [
        ("none", 2, "there is no such file"),
        ("text", 7, "text"),
        ("empty", 7, "not one of AS and NMS"),
        ("cut", 7, "cut"),
        ("newer", 7, "version 99, newer than this program"),
        ("foreign", 7, "not one of AS and NMS"),
    ] {
        refused(&run(path, &["backup", "restore", name]), code, &[words]);
        assert_eq!(devices(), now, "{name}");
    }
    // A daemon has the database open.
    let user = rusqlite::Connection::open(file("cyphonic.db")).unwrap();
    user.query_row("SELECT count(*) FROM devices", [], |row| row.get::<_, i64>(0)).unwrap();
    let busy = run(path, &["backup", "restore", "copy.db"]);
    refused(&busy, 7, &["another program has the database open", "stop AS and NMS"]);
    assert_eq!(devices(), now);
    drop(user);

    let said = fine(path, &["backup", "restore", "copy.db"]);
    assert!(said.contains("restored, 1 device;"), "{said}");
    assert_eq!(devices(), before);
    let left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().any(|name| name == "cyphonic.db.~1~"), "what was replaced is kept: {left:?}");
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("restored")), "nothing half done: {left:?}");
    // A lost database: its addresses may have been given to others.
    fs::remove_file(file("cyphonic.db")).unwrap();
    let said = fine(path, &["backup", "restore", "copy.db", "--skip", "3"]);
    assert!(said.contains('3'), "{said}");
    let issue = ["ca", "issue", "d.cyphonic.test", "--database", "cyphonic.db"];
    fine(path, &issue);
    assert_eq!(in_certificate(path, "d.cyphonic.test"), r#"["198.18.0.13","2001:db8:c::d"]"#);
}
