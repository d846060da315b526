//! The program's errors: each names the thing that is wrong, has a remedy, and ends with its own exit code.

mod authority;

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
