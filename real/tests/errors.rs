//! The program's errors: each names the thing that is wrong, has a remedy, and ends with its own exit code.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_cyphonic"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn fine(folder: &Path, arguments: &[&str]) -> String {
    let ended = run(folder, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
    ended.out
}

/// Checks that the program ended with this code and printed all of these words.
#[track_caller]
fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{}", ended.err);
    assert!(ended.err.contains("error: ") && ended.err.contains("\nremedy: "), "{}", ended.err);
    for word in words {
        assert!(ended.err.contains(word), "{word:?} in {}", ended.err);
    }
}

/// A folder with an authority, certificates, a database and files for an AS and a node.
fn stage() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fine(path, &["ca", "init"]);
    fine(path, &["ca", "issue", "as.cyphonic.test", "a.cyphonic.test"]);
    fine(path, &["device", "add", "a.cyphonic.test"]);
    let credentials =
        |name: &str| format!("certificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nroots = \"pki/root.pem\"\n");
    let auth = format!("{}database = \"cyphonic.db\"\nnms = [\"[::1]:2\"]\n", credentials("as.cyphonic.test"));
    fs::write(path.join("as.toml"), auth).unwrap();
    let node = format!("{}name = \"a.cyphonic.test\"\nas-addresses = [\"[::1]:1\"]\n", credentials("a.cyphonic.test"));
    fs::write(path.join("node.toml"), node).unwrap();
    folder
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["fly"][..], &[], &["node", "--wings", "2"], &["ca", "issue", "-bad-"]] {
        assert_eq!(run(folder.path(), arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn a_bad_configuration_ends_with_3_and_names_file_key_and_remedy() {
    let folder = stage();
    let path = folder.path();
    refused(&run(path, &["node", "--config", "none.toml"]), 3, &["none.toml", "config example node"]);
    fs::write(path.join("bad.toml"), "nmae = \"a.cyphonic.test\"\n").unwrap();
    refused(&run(path, &["node", "--config", "bad.toml"]), 3, &["bad.toml", "nmae", "line 1", "did you mean `name`?"]);
    fs::write(path.join("short.toml"), "name = \"a.cyphonic.test\"\n").unwrap();
    refused(&run(path, &["node", "--config", "short.toml"]), 3, &["`roots` is not set", "--roots", "CYPHONIC_ROOTS"]);
    refused(&run(path, &["node", "--config", "node.toml", "--idle-timeout", "1"]), 3, &["idle-timeout"]);
    refused(&run(path, &["as", "--config", "as.toml", "--overlay-v4", "10.0.0.0/30"]), 3, &["overlay-v4"]);
}

#[test]
fn bad_credentials_end_with_4_and_no_key_is_shown() {
    let folder = stage();
    let path = folder.path();
    let key = path.join("pki/as.cyphonic.test.key");
    let secret = fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(path, &["as", "--config", "as.toml"]);
    refused(&ended, 4, &["others can read", "chmod 600", "as.cyphonic.test.key"]);
    assert!(!ended.err.contains(line), "{}", ended.err);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let other = run(path, &["as", "--config", "as.toml", "--key", "pki/a.cyphonic.test.key"]);
    refused(&other, 4, &["one pair"]);
    let stranger = run(path, &["as", "--config", "as.toml", "--name", "x.cyphonic.test"]);
    refused(&stranger, 4, &["as.cyphonic.test", "not for x.cyphonic.test"]);
    fine(path, &["ca", "--dir", "other", "init"]);
    let foreign = run(path, &["as", "--config", "as.toml", "--roots", "other/root.pem"]);
    refused(&foreign, 4, &["not issued by the CA in other/root.pem"]);
    refused(&run(path, &["as", "--config", "as.toml", "--key", "none.key"]), 4, &["none.key"]);
}

#[test]
fn a_password_that_is_empty_or_too_long_is_refused_where_it_is_read() {
    let folder = stage();
    let path = folder.path();
    let file = path.join("password");
    for (text, bytes) in [("\n".to_owned(), "this one 0"), ("p".repeat(1_025), "this one 1025")] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let add = ["device", "add", "p.cyphonic.test", "--password-file", "password"];
        refused(&run(path, &add), 4, &["a password has 1 to 1024 bytes", bytes]);
        let node = ["--name", "p.cyphonic.test", "--method", "conventional", "--login", "password"];
        let rest = ["--password-file", "password", "--roots", "pki/root.pem", "--as-addresses", "192.0.2.2:443"];
        let node = [&["node"][..], &node, &rest].concat();
        refused(&run(path, &node), 4, &["a password has 1 to 1024 bytes", bytes]);
    }
}

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
fn a_taken_port_ends_with_5() {
    let folder = stage();
    let taken = UdpSocket::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(folder.path(), &["as", "--config", "as.toml", "--port", &port]);
    refused(&ended, 5, &[&format!("UDP port {port} is taken"), "ss -lnp"]);
    drop(taken);
    // TCP is a port of its own.
    let taken = TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(folder.path(), &["as", "--config", "as.toml", "--port", &port]);
    refused(&ended, 5, &[&format!("TCP port {port} is taken"), "`port`"]);
    let ended = run(folder.path(), &["as", "--config", "as.toml", "--ca", "pki", "--signup-port", &port]);
    refused(&ended, 5, &[&format!("TCP port {port} is taken"), "`signup-port`"]);
}

#[test]
fn addresses_to_listen_on_are_the_machines_own_and_others_keep_theirs() {
    let folder = stage();
    let taken = UdpSocket::bind("127.0.0.2:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let listen = |at: &str| run(folder.path(), &["as", "--config", "as.toml", "--port", &port, "--listen", at]);
    refused(&listen("127.0.0.2"), 5, &[&format!("UDP port {port} of 127.0.0.2 is taken"), "`listen`"]);
    refused(&listen("192.0.2.77"), 5, &["192.0.2.77", "this machine has no such address", "`listen`"]);
    assert_eq!(listen("nowhere").code, 2);
    // On other addresses the port is free, and the AS fails later, at `metrics`.
    let other = ["as", "--config", "as.toml", "--port", &port, "--listen", "127.0.0.3,::1", "--metrics", "192.0.2.1:9"];
    refused(&run(folder.path(), &other), 3, &["`metrics`"]);
}

#[test]
fn a_database_that_cannot_be_used_ends_with_7() {
    let folder = stage();
    let path = folder.path();
    refused(&run(path, &["as", "--config", "as.toml", "--database", "none/x.db"]), 7, &["none/x.db"]);
    fs::write(path.join("junk.db"), "no database ".repeat(99)).unwrap();
    fs::set_permissions(path.join("junk.db"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(&run(path, &["as", "--config", "as.toml", "--database", "junk.db"]), 7, &["junk.db", "damaged"]);
    let holder = rusqlite::Connection::open(path.join("cyphonic.db")).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
    refused(&run(path, &["device", "add", "b.cyphonic.test"]), 7, &["locked", "fuser"]);
}

#[test]
fn a_service_that_has_no_address_ends_with_8() {
    let folder = stage();
    let token = folder.path().join("token");
    fs::write(&token, "0123\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let signup = ["signup", "b.cyphonic.test", "--as", "[::1]:1", "--token-file", "token", "--roots", "pki/root.pem"];
    refused(&run(folder.path(), &signup), 8, &["the way to the AS", "--as"]);
    let signup = ["signup", "b.cyphonic.test", "--as", "nowhere.invalid:1", "--token-file", "token"];
    refused(&run(folder.path(), &signup), 8, &["nowhere.invalid", "--as"]);
}

#[test]
fn a_node_whose_as_has_no_address_yet_waits_and_says_so_and_ends_with_8_when_it_is_stopped() {
    let folder = stage();
    let path = folder.path();
    let mut node = Command::new(env!("CARGO_BIN_EXE_cyphonic"));
    node.args(["node", "--config", "node.toml", "--as-addresses", "nowhere.invalid:443", "--control", "a.sock"]);
    let mut node = node.current_dir(path).env_clear().stderr(std::process::Stdio::piped()).spawn().unwrap();
    let waits = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let said = run(path, &["status", "--control", "a.sock"]);
        said.code == 8 && said.err.contains("the node waits: `as-addresses`: nowhere.invalid")
    });
    assert!(waits);
    assert!(Command::new("kill").args(["-TERM", &node.id().to_string()]).status().unwrap().success());
    assert_eq!(node.wait().unwrap().code(), Some(8));
}

#[test]
fn a_flag_counts_before_a_variable_and_a_variable_before_the_file() {
    let folder = stage();
    let path = folder.path();
    // The error names the port that was chosen, because all three are taken.
    let taken = [(); 3].map(|()| UdpSocket::bind("[::]:0").unwrap());
    let [file, variable, flag] = [0, 1, 2].map(|n: usize| taken[n].local_addr().unwrap().port().to_string());
    let text = fs::read_to_string(path.join("as.toml")).unwrap();
    fs::write(path.join("as.toml"), format!("{text}port = {file}\n")).unwrap();
    for (by_variable, by_flag, port) in
        [(None, None, &file), (Some(&variable), None, &variable), (Some(&variable), Some(&flag), &flag)]
    {
        let mut auth = Command::new(env!("CARGO_BIN_EXE_cyphonic"));
        auth.args(["as", "--config", "as.toml"]).current_dir(path).env_clear();
        auth.envs(by_variable.map(|port| ("CYPHONIC_PORT", port)));
        auth.args(by_flag.into_iter().flat_map(|port| ["--port", port]));
        let output = auth.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(5) && said.contains(&format!("UDP port {port} is taken")), "{said}");
    }
}

#[test]
fn a_taken_name_ends_with_9() {
    let folder = stage();
    let path = folder.path();
    refused(&run(path, &["ca", "issue", "a.cyphonic.test"]), 9, &["a.cyphonic.test", "--renew"]);
    refused(&run(path, &["device", "add", "a.cyphonic.test"]), 9, &["a.cyphonic.test", "--replace"]);
    refused(&run(path, &["device", "invite", "a.cyphonic.test"]), 9, &["a.cyphonic.test", "--replace"]);
    fine(path, &["device", "invite", "a.cyphonic.test", "--replace"]);
    refused(&run(path, &["ca", "init"]), 9, &["authority already"]);
}

#[test]
fn where_no_node_runs_asking_it_ends_with_10() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["ping", "b"], &["netcheck"]] {
        let ended = run(folder.path(), &[command, &["--control", "none.sock"]].concat());
        refused(&ended, 10, &["none.sock", "cyphonic node"]);
        assert!(!ended.err.contains("--log"), "it has no such flag: {}", ended.err);
    }
}

#[test]
fn who_may_not_ask_a_node_ends_with_6_and_is_told_to_use_sudo() {
    let folder = tempfile::tempdir().unwrap();
    let _node = std::os::unix::net::UnixListener::bind(folder.path().join("node.sock")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic"));
    command.args(["status", "--control"]).arg(folder.path().join("node.sock"));
    // If we are root, the program runs as nobody. Otherwise no user, including this one, may read the folder.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    } else {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = command.output();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let output = match output {
        // The program is in a folder that only root may read.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return eprintln!("skipped: nobody may not run the program here");
        }
        output => output.unwrap(),
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    refused(&ended, 6, &["node.sock", "permission denied", "sudo"]);
}

#[test]
fn a_ping_of_no_echoes_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["ping", "b", "--count", "0"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--count"), "{}", ended.err);
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
fn access_rules_are_checked_and_asked_and_a_mistake_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |text: &str| fs::write(path.join("rules.toml"), text).unwrap();
    write(
        "default = \"closed\"\n\n[groups]\nweb = [\"web*.x.net\"]\n\n[[allow]]\nfrom = [\"*.staff.x.net\"]\nto = [\"web\"]\n\n\
         [[allow]]\nfrom = [\"web1.x.net\"]\nto = [\"db.x.net\"]\nservices = [\"tcp/5432\"]\n",
    );
    let said = fine(path, &["rules", "check", "rules.toml"]);
    assert!(
        said.contains("rules.toml: good; closed") && said.contains("rule 2: from web1.x.net to db.x.net, by tcp/5432"),
        "{said}"
    );
    let said = fine(path, &["rules", "who-may", "ann.staff.x.net", "web2.x.net"]);
    assert!(said.contains("ann.staff.x.net may open flows to web2.x.net: rule 1\n"), "{said}");
    assert!(said.contains("web2.x.net may not open flows to ann.staff.x.net"), "{said}");
    let said = fine(path, &["rules", "who-may", "web2.x.net", "db.x.net", "--rules", "rules.toml"]);
    assert!(said.contains("they have no tunnel"), "{said}");
    for (text, words) in [
        ("default = \"shut\"\n", ["rules.toml:1:11", "`default`", "\"open\", \"closed\""]),
        ("default = \"closed\"\nalow = []\n", ["rules.toml:2:1", "`alow`", "did you mean \"allow\"?"]),
        (
            "default = \"closed\"\n[[allow]]\nfrom = [\"web\"]\nto = [\"*\"]\n",
            ["rules.toml:3:9", "`allow.0.from.0`", "no group \"web\""],
        ),
        ("[[allow]]\nfrom = [\"*\"]\nto = [\"*\"]\n", ["rules.toml:1:1", "`default`", "missing"]),
        (
            "default = \"closed\"\n[groups]\na = [\"b_c.x\"]\n",
            ["rules.toml:3:6", "`groups.a.0`", "no pattern of names"],
        ),
        (
            "default = \"closed\"\n[[allow]]\nfrom = [\"*\"]\nto = [\"*\"]\nservices = [\"ssh\"]\n",
            ["rules.toml:5:13", "`allow.0.services.0`", "\"ssh\" is no service"],
        ),
        ("default = \"closed\n", ["rules.toml:1:", "not TOML", ""]),
    ] {
        write(text);
        refused(&run(path, &["rules", "check", "rules.toml"]), 3, &words);
    }
    refused(&run(path, &["rules", "who-may", "a_b", "c"]), 2, &["a_b"]);
    refused(&run(path, &["rules", "check", "none.toml"]), 3, &["none.toml"]);
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
fn check_checks_examples_and_their_certificates_and_completions_come_for_every_shell() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["as", "nms", "trs", "a"].map(|name| format!("{name}.cyphonic.test"));
    fine(folder.path(), &["ca", "init"]);
    fine(folder.path(), &["ca", "issue", &names[0], &names[1], &names[2], &names[3]]);
    for (role, name) in ["as", "nms", "trs", "node"].into_iter().zip(&names) {
        let example = fine(folder.path(), &["config", "example", role]);
        fs::write(folder.path().join("example.toml"), example).unwrap();
        let check = ["config", "check", role, "example.toml"];
        let [certificate, key] = ["pem", "key"].map(|end| format!("{name}.{end}"));
        refused(&run(folder.path(), &check), 4, &[&certificate]);
        for file in ["root.pem", &certificate, &key] {
            fs::copy(folder.path().join("pki").join(file), folder.path().join(file)).unwrap();
        }
        fine(folder.path(), &check);
        // The key of another certificate.
        let other = names.iter().find(|other| *other != name).unwrap();
        fs::copy(folder.path().join(format!("pki/{other}.key")), folder.path().join(&key)).unwrap();
        refused(&run(folder.path(), &check), 4, &[&format!("{key}: is not the key of {certificate}")]);
    }
    // A new default is named.
    let files = "certificate = \"pki/nms.cyphonic.test.pem\"\nkey = \"pki/nms.cyphonic.test.key\"\n";
    let nms = format!("{files}roots = \"pki/root.pem\"\ndatabase = \"cyphonic.db\"\n");
    fs::write(folder.path().join("nms.toml"), nms).unwrap();
    assert!(fine(folder.path(), &["config", "check", "nms", "nms.toml"]).contains("\"optimal\""));
    // The remedy for an existing file that cannot be read must not overwrite it.
    let ended = run(folder.path(), &["config", "check", "nms", "pki"]);
    refused(&ended, 3, &["pki: cannot be read"]);
    assert!(!ended.err.contains("config example"), "{}", ended.err);
    // A key without which a role does not start has to be in the file.
    fs::write(folder.path().join("short.toml"), "roots = \"root.pem\"\n").unwrap();
    for (role, key) in [("as", "certificate"), ("nms", "certificate"), ("trs", "certificate"), ("node", "name")] {
        let ended = run(folder.path(), &["config", "check", role, "short.toml"]);
        refused(&ended, 3, &[&format!("{role}: `{key}` is not set")]);
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(fine(folder.path(), &["completions", shell]).contains("netcheck"));
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
