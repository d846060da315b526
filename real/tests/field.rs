//! Conditions of long operation: logs that nobody reads, rotated files, links to files that do not exist yet, narrow
//! paths. The tests use real sockets in network namespaces, which needs root and a few tools. Without them a test
//! prints why and passes. `.ci/run` has them.

mod lab;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lab::{Lab, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cyphonic");

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Checks that a daemon ends cleanly within five seconds.
#[track_caller]
fn ends_in_order(mut child: Child) {
    signal(&child, "-TERM");
    let ended = until(5, || child.try_wait().unwrap());
    let _ = child.kill();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

/// A daemon whose standard error is a pipe. The test has the other end.
fn piped(lab: &Lab, host: &str, arguments: &[&str]) -> Child {
    let mut command = lab.daemon(host, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_log_whose_reader_is_gone_loses_its_lines_and_neither_revocation_nor_the_daemon() {
    let Some(mut lab) = Lab::up("gone", "1", "proposed", "as trs") else { return };
    // The logs of a service and of a node.
    let mut nms = piped(&lab, "nms", &["--log", "debug"]);
    lab.start("b", &[]);
    let mut node = piped(&lab, "a", &[]);
    lab.until_reached("a", "b");
    for child in [&mut nms, &mut node] {
        drop(child.stderr.take());
        signal(child, "-HUP");
    }
    lab.sh("as", &format!("{PROGRAM} ca revoke b.cyphonic.test --database cyphonic.db >/dev/null"));
    lab.until_status("a", 10, &["no peers"]);
    lab.until_status("b", 10, &["not registered: "]);
    for child in [&mut nms, &mut node] {
        assert!(child.try_wait().unwrap().is_none(), "it lives on");
    }
    ends_in_order(node);
    ends_in_order(nms);
}

#[test]
fn a_log_that_nobody_reads_freezes_no_packet_and_no_end() {
    let Some(lab) = Lab::up("full", "1", "proposed", "as nms trs b") else { return };
    for format in ["text", "json"] {
        // `trace` fills a pipe of 64 KiB within seconds.
        let mut node = piped(&lab, "a", &["--log", "trace", "--log-format", format]);
        lab.until_reached("a", "b");
        lab.sh("a", "ping -n -q -i 0.002 -c 2000 -w 20 b.cyphonic.test");
        let said = lab.ask("a", &["ping", "b", "--count", "2", "--interval", "0"]);
        assert!(said.contains("2 received"), "{said}");
        assert!(node.try_wait().unwrap().is_none());
        ends_in_order(node);
    }
}

#[test]
fn a_local_program_that_sends_to_unused_addresses_does_not_fill_the_log() {
    let Some(mut lab) = Lab::up("fill", "1", "proposed", "as nms trs") else { return };
    for node in ["a", "b"] {
        lab.start(node, &["--log", "info"]);
    }
    lab.until_registered("b", 15);
    lab.until_reached("a", "b");
    // To the overlay's IPv4 and IPv6 addresses, thousands of packets each.
    let v4 = "for a in 1 2 3 4 5 6 7 8; do for b in {0..255}; do echo x >/dev/udp/198.18.$((a + 100)).$b/9; done; done";
    let v6 = "for a in {1..2000}; do echo x >/dev/udp/2001:db8:c::ff:$a/9; done";
    for (node, script) in [("a", v4), ("b", v6)] {
        let before = lab.log(node).lines().count();
        lab.sh(node, &format!("({script}) 2>/dev/null || true"));
        let told = until(30, || lab.log(node).contains("more lines of this kind were left out").then_some(()));
        let lines = lab.log(node).lines().count() - before;
        assert!(told.is_some() && lines < 250, "{node}: {lines} lines\n{}", lab.log(node));
    }
}

#[test]
fn an_event_log_and_a_key_log_go_on_in_a_new_file_after_a_hangup() {
    let Some(mut lab) = Lab::up("rot", "1", "proposed", "as trs") else { return };
    lab.start("nms", &["--event-log", "nms.events"]);
    lab.start("b", &[]);
    lab.start("a", &["--event-log", "a.events", "--key-log", "a.keys"]);
    lab.until_reached("a", "b");
    let folder = lab.path("");
    let size = |file: &str| fs::metadata(folder.join(file)).map_or(0, |facts| facts.len());
    for (host, file) in [("nms", "nms.events"), ("a", "a.events"), ("a", "a.keys")] {
        fs::rename(lab.path(file), lab.path(&format!("{file}.1"))).unwrap();
        let pid = fs::read_to_string(lab.path(&format!("{host}.pid"))).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let old = ["nms.events.1", "a.events.1", "a.keys.1"];
    let before = old.map(size);
    assert!(before.iter().all(|size| *size > 0), "{before:?}");
    // An event: b starts anew, and every part is told.
    lab.kill("b");
    lab.start("b", &[]);
    lab.until_registered("b", 15);
    lab.until_reached("b", "a");
    for file in ["nms.events", "a.events", "a.keys"] {
        assert!(until(5, || (size(file) > 0).then_some(())).is_some(), "{file} is empty\n{}", lab.log("a"));
    }
    assert_eq!(old.map(size), before);
}

/// A node in a namespace whose /etc is a copy, with this link as resolv.conf. The script runs before the node begins.
fn with_own_etc(lab: &Lab, etc: &Path, link: &str, script: &str, arguments: &[&str]) -> Child {
    let _ = fs::remove_dir_all(etc);
    fs::create_dir_all(etc).unwrap();
    // Files of other labs come and go in /etc/netns.
    let mut copy = Command::new("find");
    copy.args(["/etc", "-mindepth", "1", "-maxdepth", "1", "!", "-name", "netns", "-exec", "cp", "-a", "-t"]).arg(etc);
    assert!(copy.args(["{}", "+"]).status().unwrap().success());
    let file = etc.join("resolv.conf");
    let _ = fs::remove_file(&file);
    std::os::unix::fs::symlink(link, &file).unwrap();
    let script = format!("umount /etc/resolv.conf; mount --bind {} /etc && {script} exec \"$@\"", etc.display());
    let mut command = lab.within("a", "bash");
    command.args(["-ec", &script, "bash", PROGRAM, "node", "--config"]).arg(lab.path("a.toml")).args(arguments);
    let log = fs::OpenOptions::new().append(true).create(true).open(lab.path("a.log")).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

#[test]
fn a_dangling_link_in_place_of_resolv_conf_is_there_after_an_orderly_end_and_after_a_crash() {
    let Some(lab) = Lab::up("lnk", "1", "proposed", "as nms") else { return };
    let etc = lab.path("etc-of-a");
    let file = etc.join("resolv.conf");
    for (link, target) in [("../etc/target.conf", "target.conf"), ("not/there/yet.conf", "not")] {
        for crashes in [false, true] {
            let node = with_own_etc(&lab, &etc, link, "", &["--dns", "resolv-conf"]);
            lab.until_registered("a", 15);
            let served = || fs::read_to_string(etc.join(link.trim_start_matches("../etc/"))).unwrap_or_default();
            let installed = until(5, || served().contains("nameserver 198.18.0.1").then_some(()));
            assert!(installed.is_some(), "{}", lab.log("a"));
            assert_eq!(fs::read_link(&file).unwrap(), Path::new(link), "the link stays a link");
            if crashes {
                // As the service manager does when the daemon has ended.
                let pid = node.id().to_string();
                let enter = ["-t", &pid, "-m", "--", PROGRAM, "restore", "--control", "none.sock"];
                assert!(Command::new("nsenter").args(enter).status().unwrap().success());
                signal(&node, "-KILL");
            } else {
                signal(&node, "-TERM");
            }
            let mut node = node;
            node.wait().unwrap();
            assert_eq!(fs::read_link(&file).unwrap(), Path::new(link));
            assert!(!etc.join(target).exists(), "{link}: something is left");
        }
    }
}

#[test]
fn systemd_resolved_is_told_when_it_appears_and_again_when_it_has_forgotten() {
    let Some(lab) = Lab::up("rsd", "1", "proposed", "as nms trs") else { return };
    // In place of systemd-resolved's program: it records what it was told. It knows a server as long as the file
    // `knows` exists.
    let (folder, said) = (lab.path("bin"), lab.path("said"));
    fs::create_dir(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{said}\ntest $# -gt 2 && touch {knows}\ntest -e {knows} && echo 198.18.0.1\nexit 0\n",
        said = said.display(),
        knows = lab.path("knows").display()
    );
    fs::write(folder.join("resolvectl"), script).unwrap();
    fs::set_permissions(folder.join("resolvectl"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = lab.path("run");
    fs::create_dir(&run).unwrap();
    let mount = format!("mkdir -p /run/systemd && mount --bind {} /run/systemd && ", run.display());
    let path = format!("PATH={}:$PATH ", folder.display());
    let node = with_own_etc(&lab, &lab.path("etc-of-a"), "none", &format!("{mount}{path}"), &["--dns", "auto"]);
    lab.until_registered("a", 15);
    let told = || fs::read_to_string(&said).unwrap_or_default().matches("dns cyphonic0 198.18.0.1 ").count();
    assert_eq!(told(), 0, "nobody is there");
    fs::create_dir_all(run.join("resolve")).unwrap();
    fs::write(run.join("resolve/stub-resolv.conf"), "").unwrap();
    assert!(until(10, || (told() == 1).then_some(())).is_some(), "{}", lab.log("a"));
    // systemd-resolved rewrites its files, and still knows the server. Then it restarts, and does not.
    let rewrite = || {
        fs::write(run.join("resolve/new"), "").unwrap();
        fs::rename(run.join("resolve/new"), run.join("resolve/stub-resolv.conf")).unwrap();
    };
    rewrite();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(told(), 1);
    fs::remove_file(lab.path("knows")).unwrap();
    rewrite();
    assert!(until(10, || (told() == 2).then_some(())).is_some(), "{}", lab.log("a"));
    ends_in_order(node);
}

#[test]
fn a_path_too_narrow_for_quic_is_called_so_and_a_mapped_address_is_used_as_ipv4() {
    let Some(mut lab) = Lab::up("mtu", "2", "proposed", "as nms trs") else { return };
    // Narrow at the node itself, and behind its router, which reports it by ICMP.
    lab.sh("a", "ip link set eth0 mtu 1124");
    lab.sh("rb", "ip link set eth0 mtu 1124");
    for node in ["a", "b"] {
        lab.start(node, &[]);
        let said = lab.until_status(node, 25, &["not registered: the path MTU to the AS (", " is 1124 bytes"]);
        assert!(!said.contains("UDP is blocked"), "{said}");
        lab.kill(node);
    }
    lab.sh("a", "ip link set eth0 mtu 1500");
    for mapped in ["[::ffff:192.0.2.2]:443", "[::ffff:c000:202]:443"] {
        lab.start("a", &["--as-addresses", mapped]);
        lab.until_registered("a", 10);
        lab.kill("a");
    }
}

#[test]
fn a_panic_in_a_task_ends_the_daemon_with_an_error() {
    let result = cyphonic::run::serve(async {
        cyphonic::tasks::forever("panics", async { panic!("on purpose") });
        cyphonic::tasks::death().await;
        Ok(())
    });
    assert!(result.unwrap_err().to_string().contains("on purpose"));
}
