//! The operator's view: the README's quick start as it is written, the privileges that daemons keep, and the output of
//! the tools on a running network. The tests use real sockets in network namespaces, which needs root and a few tools.
//! Without them a test prints why and passes. `.ci/run` has them.

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Lab, text, until};
use serde_json::Value;

const README: &str = include_str!("../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_cyphonic");

/// The blocks of commands of a section of the README.
fn blocks(section: &str) -> Vec<&'static str> {
    let begin = README.find(section).expect("the section is there") + section.len();
    let section = &README[begin..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    section.split("```").skip(1).step_by(2).map(|block| block.trim_start_matches("sh")).collect()
}

/// Runs a script in a namespace as an operator types it: in a folder, with the program in the path. Each node has a
/// control socket of its own, because the machines share their files.
fn types(lab: &Lab, host: &str, folder: &Path, script: &str) -> (bool, String) {
    let path = format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let (log, errors) = (folder.join("terminal"), folder.join("errors"));
    let status = lab
        .within(host, "bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("CYPHONIC_CONTROL", folder.join("node.sock"))
        .stdout(fs::File::create(&log).unwrap())
        .stderr(fs::OpenOptions::new().append(true).create(true).open(&errors).unwrap())
        .status()
        .unwrap();
    let said = fs::read_to_string(log).unwrap() + &fs::read_to_string(errors).unwrap();
    (status.success(), said)
}

#[test]
fn the_quick_start_works_as_it_is_written() {
    let Some(lab) = Lab::up("qs", "1", "proposed", "") else { return };
    let [services, node, use_it] = blocks("\n## Quick start\n")[..] else { panic!("the quick start has three blocks") };
    // One machine has all services. It has their addresses once the README's commands have added them.
    for host in ["nms", "trs"] {
        lab.sh(host, "ip address flush dev eth0");
    }
    let folder = |host: &str| -> PathBuf {
        let folder = lab.path(&format!("at-{host}"));
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let home = folder("as");
    let (done, said) = types(&lab, "as", &home, services);
    assert!(done, "{said}");
    for (host, address) in [("a", "192.0.2.5/24"), ("b", "192.0.2.6/24")] {
        lab.sh(host, &format!("ip address add {address} dev eth0"));
        let name = format!("{host}.cyphonic.test");
        for file in ["root.pem".to_owned(), format!("{name}.pem"), format!("{name}.key")] {
            fs::copy(home.join("pki").join(&file), folder(host).join(&file)).unwrap();
        }
        let (done, said) = types(&lab, host, &folder(host), &node.replace("a.cyphonic.test", &name));
        assert!(done, "{said}");
    }
    for host in ["a", "b"] {
        let mut said = String::new();
        let registered = until(15, || {
            said = types(&lab, host, &folder(host), "cyphonic status").1;
            said.contains("  registered").then_some(())
        });
        assert!(registered.is_some(), "{host}: {said}");
    }
    let (done, said) = types(&lab, "a", &folder("a"), use_it);
    assert!(done, "{said}");
    for words in ["a.cyphonic.test  registered", "pong from b (198.18.0.", " 0 % lost", " 0% packet loss"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    // Revocation ends access by default: no node here follows a list.
    let (done, said) = types(&lab, "as", &home, "cyphonic ca revoke b.cyphonic.test");
    assert!(done, "{said}");
    let echo = "ping -c 1 -W 1 b.cyphonic.test >/dev/null";
    let silent = until(5, || (!types(&lab, "a", &folder("a"), echo).0).then_some(()));
    assert!(silent.is_some(), "it still answers: {}", types(&lab, "a", &folder("a"), "cyphonic status").1);
    // Each service has its own address, and no other's.
    let bound = lab.sh("as", "ss -lnupH; ss -lntpH");
    for address in ["192.0.2.2:443", "192.0.2.3:443", "192.0.2.3:4501", "192.0.2.4:443", "192.0.2.4:4501"] {
        assert!(bound.contains(address), "{address} in {bound}");
    }
    assert!(!bound.contains("0.0.0.0:443") && !bound.contains("*:443") && !bound.contains("[::]:443"), "{bound}");
}

#[test]
fn services_share_one_address_by_different_ports() {
    let Some(mut lab) = Lab::up("one", "3", "proposed", "") else { return };
    for (service, arguments) in [
        ("as", &["--nms", "192.0.2.2:4443", "--nms-conventional", "192.0.2.2:4501", "--metrics", "127.0.0.1:9465"][..]),
        ("nms", &["--port", "4443", "--trs", "192.0.2.2:4444", "--trs-conventional", "192.0.2.2:4502"]),
        ("trs", &["--port", "4444", "--conventional-port", "4502", "--metrics", "127.0.0.1:9466"]),
    ] {
        let mut command = lab.within("as", PROGRAM);
        command.arg(service).arg("--config").arg(lab.path(&format!("{service}.toml")));
        command.args(["--listen", "192.0.2.2"]).args(arguments);
        lab.run(service, command);
    }
    for method in ["conventional", "proposed"] {
        for node in ["a", "b"] {
            lab.start(node, &["--method", method]);
        }
        lab.until_registered("b", 15);
        lab.until_reached("a", "b");
        lab.until_status("a", 1, &["via trs 192.0.2.2:"]);
        lab.kill("a");
        lab.kill("b");
    }
}

#[test]
fn services_have_the_names_that_the_operator_gives_them() {
    let Some(mut lab) = Lab::up("nam", "3", "proposed", "") else { return };
    lab.sh(
        "as",
        &format!("{PROGRAM} ca issue login.cyphonic.test manager.cyphonic.test relay.cyphonic.test >/dev/null"),
    );
    // The NMS fetches the list from the AS, so it has to know it, too.
    fs::copy(lab.path("pki/crl.pem"), lab.path("nms.crl")).unwrap();
    let as_name = ["--as-name", "login.cyphonic.test"];
    let list = ["--crl", "nms.crl", "--crl-from", "192.0.2.2:4433"];
    for (service, name, more) in [
        ("as", "login", &["--ca", "pki"][..]),
        ("nms", "manager", &[&as_name[..], &["--trs-name", "relay.cyphonic.test"], &list].concat()),
        ("trs", "relay", &[]),
    ] {
        let paper = |end: &str| format!("pki/{name}.cyphonic.test.{end}");
        let own = format!("{name}.cyphonic.test");
        lab.start(service, &[&["--name", &own, "--certificate", &paper("pem"), "--key", &paper("key")], more].concat());
    }
    assert!(until(5, || lab.log("as").contains("ready").then_some(())).is_some(), "{}", lab.log("as"));
    let invite = format!("umask 077; {PROGRAM} device invite c.cyphonic.test --database cyphonic.db >token");
    lab.sh("as", &invite);
    let sign_up = "signup c.cyphonic.test --as 192.0.2.2:4433 --roots pki/root.pem --token-file token --out own";
    lab.sh("a", &format!("! {PROGRAM} {sign_up} && {PROGRAM} {sign_up} --as-name login.cyphonic.test"));
    let names = [&as_name[..], &["--nms-name", "manager.cyphonic.test", "--trs-name", "relay.cyphonic.test"]].concat();
    for method in ["conventional", "proposed"] {
        // The default name is as.ZONE. A server with another name is refused, and the error gives its name.
        lab.start("a", &["--method", method]);
        let said = lab.until_status("a", 15, &["not registered: ", "remedy"]);
        let why = said.lines().find(|line| line.contains("not registered: "));
        assert!(why.is_some_and(|why| why.contains("certificate")), "{said}");
        lab.kill("a");
        for node in ["a", "b"] {
            lab.start(node, &[&["--method", method][..], &names].concat());
        }
        lab.until_registered("b", 15);
        lab.until_reached("a", "b");
        lab.until_status("a", 1, &["via trs "]);
        lab.kill("a");
        lab.kill("b");
    }
    lab.sh("as", &format!("{PROGRAM} ca revoke b.cyphonic.test >/dev/null"));
    let told = || lab.log("nms").contains("a newer list of revoked certificates was fetched").then_some(());
    assert!(until(15, told).is_some(), "{}", lab.log("nms"));
}

/// A set of capabilities of every thread of a daemon, and whether the thread can gain others.
fn threads(lab: &Lab, host: &str) -> Vec<(String, String, u64)> {
    let pid = fs::read_to_string(lab.path(&format!("{host}.pid"))).unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.trim())).unwrap();
    let mut found = Vec::new();
    for task in tasks {
        let task = task.unwrap().path();
        let status = fs::read_to_string(task.join("status")).unwrap();
        for (key, value) in status.lines().filter_map(|line| line.split_once(":\t")) {
            if key.starts_with("Cap") || key == "NoNewPrivs" {
                let value = u64::from_str_radix(value.trim(), 16).unwrap();
                found.push((task.display().to_string(), key.to_owned(), value));
            }
        }
    }
    found
}

/// Whether this thread, a folder of `/proc`, is the one that writes the log. It needs no capability.
fn writes_the_log(thread: &str) -> bool {
    fs::read_to_string(Path::new(thread).join("comm")).is_ok_and(|name| name.trim() == "log")
}

const NET_ADMIN: u64 = 1 << 12;
const DAC_OVERRIDE: u64 = 1 << 1;

#[test]
fn a_node_keeps_cap_net_admin_alone_and_services_nothing_in_every_thread() {
    let Some(mut lab) = Lab::up("cap", "1", "proposed", "as nms trs a b") else { return };
    // Later work needs no more than these: addresses, names, lists of revoked certificates.
    lab.until_reached("a", "b");
    for (host, kept) in [("as", 0), ("nms", 0), ("trs", 0), ("a", NET_ADMIN), ("b", NET_ADMIN)] {
        let threads = threads(&lab, host);
        assert!(threads.iter().filter(|(_, key, _)| key == "CapEff").count() >= 2, "{threads:?}");
        for (thread, key, value) in threads {
            let is_log = writes_the_log(&thread);
            let wanted = match key.as_str() {
                "NoNewPrivs" => 1,
                "CapEff" | "CapPrm" | "CapBnd" if !is_log => kept,
                _ => 0,
            };
            assert_eq!(value, wanted, "{host}: {thread} {key}");
        }
    }
    let revoke =
        Command::new(PROGRAM).args(["ca", "revoke", "b.cyphonic.test"]).current_dir(lab.path("")).output().unwrap();
    assert!(revoke.status.success(), "{}", text(&revoke.stderr));
    until(5, || (lab.count("nms", "were read again") > 0).then_some(()))
        .expect("the list is read without capabilities");
    assert!(!lab.log("a").contains("CAP_DAC_OVERRIDE"), "{}", lab.log("a"));

    // A list of revoked certificates that only its owner, who is not root, may read.
    let list = lab.path("pki/crl.pem");
    std::os::unix::fs::chown(&list, Some(65_534), None).unwrap();
    fs::set_permissions(&list, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    lab.kill("trs");
    lab.start("trs", &[]);
    until(5, || lab.log("trs").contains("CAP_DAC_OVERRIDE is kept").then_some(())).expect("a warning");
    until(5, || {
        let threads = threads(&lab, "trs");
        let wanted = |thread: &str| if writes_the_log(thread) { 0 } else { DAC_OVERRIDE };
        threads.iter().all(|(thread, key, value)| key != "CapEff" || *value == wanted(thread)).then_some(())
    })
    .expect("what opens it, and nothing else");
}

#[test]
fn a_program_that_a_node_starts_later_has_what_it_needs_and_no_more() {
    let Some(mut lab) = Lab::up("res", "1", "proposed", "as nms trs") else { return };
    // In place of systemd-resolved's program: it records what it was told and what it may do, and does something that
    // needs CAP_NET_ADMIN.
    let program = lab.path("resolvectl");
    let said = lab.path("said");
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; grep CapEff /proc/self/status; }} >>{}\nip link set dev cyphonic0 txqueuelen 501\n",
        said.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = lab.daemon("a", &["--dns", "resolved"]);
    command.env("PATH", format!("{}:{}", lab.path("").display(), std::env::var("PATH").unwrap()));
    lab.run("a", command);
    lab.until_registered("a", 10);
    until(5, || lab.log("a").contains("resolved by systemd-resolved").then_some(())).expect("it was run");
    let said = fs::read_to_string(said).unwrap();
    for words in ["dns cyphonic0 198.18.0.1", "domain cyphonic0 cyphonic.test", &format!("CapEff:\t{NET_ADMIN:016x}")] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    assert!(lab.sh("a", "ip link show cyphonic0").contains("qlen 501"));
}

/// What a command prints as JSON.
#[track_caller]
fn json(lab: &Lab, node: &str, what: &[&str]) -> Value {
    let said = lab.ask(node, &[what, &["--json"]].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn netcheck_measures_what_it_can_and_calls_the_rest_unknown() {
    let Some(lab) = Lab::up("net", "2", "proposed", "as nms trs a b") else { return };
    // A path that is narrower than its ends.
    lab.sh("rb", "ip link set eth0 mtu 1400");
    let known = json(&lab, "b", &["netcheck"]);
    assert_eq!((&known["registered"], &known["nat"]), (&true.into(), &true.into()), "{known:#}");
    assert_eq!((&known["ipv4"]["udp"], &known["ipv4"]["mtu"]), (&true.into(), &1400.into()), "{known:#}");
    assert_eq!((&known["udp_443"], &known["tcp_443"]), (&true.into(), &true.into()), "{known:#}");
    assert_eq!((&known["ipv6"]["udp"], &known["ipv4"]["mapping"]), (&Value::Null, &Value::Null), "{known:#}");
    let rtt = |known: &Value, service: &str| {
        let services = known["services"].as_array().unwrap().iter();
        services.filter(|one| one["service"] == service).find_map(|one| one["rtt_ms"].as_f64())
    };
    assert!(rtt(&known, "as").is_some() && rtt(&known, "nms").is_some() && rtt(&known, "trs").is_none(), "{known:#}");
    let said = lab.ask("b", &["netcheck"]);
    for words in ["TRS           unknown", "mapping     unknown", "IPv6          none", "MTU         1400"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    // If only UDP is blocked, the output says so. If everything is blocked, it says that nothing is known.
    lab.sh(
        "b",
        "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                 add rule inet fault out meta l4proto udp oifname eth0 drop'",
    );
    let known = json(&lab, "b", &["netcheck"]);
    assert_eq!(
        (&known["ipv4"]["udp"], &known["udp_443"], &known["tcp_443"]),
        (&false.into(), &false.into(), &true.into())
    );
    lab.sh("b", "nft 'add rule inet fault out oifname eth0 drop'");
    let known = json(&lab, "b", &["netcheck"]);
    assert_eq!(
        (&known["ipv4"]["udp"], &known["udp_443"], &known["tcp_443"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[test]
fn status_says_why_a_path_is_as_it_is_and_ping_sums_up() {
    for method in ["conventional", "proposed"] {
        let Some(lab) = Lab::up("why", "3", method, "as nms trs a b") else { return };
        lab.until_reached("a", "b");
        let said = lab.until_status("a", 5, &["via trs"]);
        assert!(said.contains("why      relayed: Table 1 has no direct pattern for these two networks"), "{said}");
        // In the conventional method the first Keep Alive is answered after 15 s at the latest.
        let peer = || json(&lab, "a", &["status"])["peers"][0].clone();
        let rtt = until(17, || peer()["rtt_ms"].as_f64()).unwrap_or_else(|| panic!("{:#}", peer()));
        assert!((0.0..1_000.0).contains(&rtt), "{rtt}");
        // A tunnel was relayed, so the TRS is known, in either method.
        let known = json(&lab, "a", &["netcheck"]);
        let trs = known["services"].as_array().unwrap().iter().find(|one| one["service"] == "trs");
        assert!(trs.is_some_and(|trs| trs["rtt_ms"].is_f64()), "{known:#}");

        let said = lab.ask("a", &["ping", "b", "--count", "3", "--interval", "0.05"]);
        assert_eq!(said.lines().filter(|line| line.starts_with("pong from b ")).count(), 3, "{said}");
        assert!(said.contains("--- b: 3 sent, 3 received, 0 % lost, rtt min/avg/max "), "{said}");
        let sum = json(&lab, "a", &["ping", "b", "--count", "2", "--interval", "0"]);
        assert_eq!((&sum["sent"], &sum["received"], &sum["echoes"][1]["via"]), (&2.into(), &2.into(), &"trs".into()));

        // The NMS knows both, and where it sees them.
        let fleet = json(&lab, "nms", &["fleet"]);
        let (a, b) = (&fleet[0], &fleet[1]);
        assert_eq!((&a["name"], &b["name"]), (&"a.cyphonic.test".into(), &"b.cyphonic.test".into()), "{fleet:#}");
        assert_eq!((&a["online"]["method"], a["registered"].is_u64()), (&method.into(), true), "{fleet:#}");
        assert!(b["online"]["remote"].as_str().unwrap().starts_with("192.0.2.102:"), "{fleet:#}");
        assert!(b["online"]["silent_s"].as_f64().is_some_and(|s| s < 40.0), "{fleet:#}");
        assert!(lab.ask("nms", &["fleet"]).starts_with("2 devices, 2 online\n"), "{fleet:#}");
        assert!(lab.ask("a", &["fleet"]).contains("a node knows no other devices than its peers"));

        rules_that_change(&lab);

        // No reply comes: the output shows every echo, and the exit code tells it.
        let mut command = Command::new(PROGRAM);
        command.args(["ping", "nobody", "--count", "2", "--interval", "0", "--control"]).arg(lab.path("a.sock"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = text(&output.stdout);
        assert_eq!(
            (output.status.code(), said.matches("no pong: there is no node nobody").count()),
            (Some(8), 2),
            "{said}"
        );
        assert!(said.ends_with("--- nobody: 2 sent, 0 received, 100 % lost\n"), "{said}");
    }
}

/// The operator closes the network and opens it again while everybody runs.
fn rules_that_change(lab: &Lab) {
    let file = lab.path("rules.toml");
    let one = "default = \"closed\"\n[[allow]]\nfrom = [\"c.*\"]\nto = [\"*\"]\n";
    fs::write(&file, one).unwrap();
    lab.until_status("a", 5, &["refused  b.cyphonic.test: the access rules of the NMS forbid"]);
    assert!(!lab.ask("b", &["status"]).contains("via "), "the tunnel has ended at both nodes");
    let said = lab.ask("a", &["ping", "b", "--count", "1"]);
    assert!(
        said.contains("no pong: the access rules of the NMS forbid this node to talk with b.cyphonic.test"),
        "{said}"
    );
    lab.until_status("nms", 1, &["closed, but for one rule"]);
    fs::write(&file, one.replace("\"*\"", "\"*")).unwrap();
    let said = lab.until_status("nms", 5, &["closed, but for one rule", "rules.toml:4:10", "not TOML"]);
    assert!(lab.log("nms").contains("access rules stay as read before"), "{said}");
    fs::write(&file, one.replace("c.*", "b.*") + "services = [\"icmp\"]\n").unwrap();
    lab.until_status("nms", 5, &["closed, but for one rule (/"]);
    lab.until_reached("b", "a");
    let said = lab.ask("b", &["status"]);
    assert!(said.contains("rules    may open icmp; may be sent nothing") && !said.contains("refused"), "{said}");
    let echo = lab.within("a", "ping").args(["-n", "-c", "1", "-W", "1", "b.cyphonic.test"]).output().unwrap();
    assert!(!echo.status.success(), "{}", text(&echo.stdout));
    lab.until_status("a", 1, &["not-permitted 1"]);
    fs::write(&file, "default = \"open\"\n").unwrap();
    lab.until_status("nms", 5, &["open: everybody"]);
    lab.until_reached("a", "b");
}

#[test]
fn under_the_optimal_policy_status_says_what_came_of_the_direct_way() {
    for method in ["conventional", "proposed"] {
        let Some(lab) = Lab::up_under("opt", "3", method, "as nms trs a b", "optimal") else { return };
        // An obstacle between both networks that no host knows of.
        for (router, other) in [("ra", "192.0.2.102"), ("rb", "192.0.2.101")] {
            lab.sh(
                router,
                &format!(
                    "nft 'add table inet fault; add chain inet fault out {{ type filter hook forward priority -10; }}; \
                 add rule inet fault out ip daddr {other} drop'"
                ),
            );
        }
        lab.until_reached("a", "b");
        let said = lab.until_status("a", 25, &["via trs", "why      relayed: no direct address answered; one is "]);
        assert!(said.contains(" again in ") || said.contains("being tried now"), "{said}");
        // The obstacle is gone.
        for router in ["ra", "rb"] {
            lab.sh(router, "nft delete table inet fault");
        }
        lab.until_status("a", 40, &["via direct", "why      direct: the NMS knew a direct way, and it was answered"]);
        // On a busy machine answers to a survey come too late. The node makes another one by itself.
        let known = until(30, || {
            let known = json(&lab, "a", &["netcheck"]);
            (known["ipv4"]["mapping"].is_string() && known["ipv4"]["filtering"].is_string()).then_some(())
        });
        assert!(known.is_some(), "{:#}", json(&lab, "a", &["netcheck"]));
    }
}

#[test]
fn two_networks_that_cannot_meet_under_table_1_are_told_so() {
    let Some(lab) = Lab::up_under("stranded", "1", "proposed", "as nms trs a b", "paper") else { return };
    // A host firewall at each, as many have: what nobody here has asked for is dropped.
    for node in ["a", "b"] {
        lab.sh(
            node,
            "nft 'add table inet fault; add chain inet fault in { type filter hook input priority 0; }; \
             add rule inet fault in ct state established,related accept; add rule inet fault in udp dport 443 drop'",
        );
    }
    lab.ask("a", &["ping", "b", "--count", "1"]);
    lab.until_status("a", 20, &["stranded b.cyphonic.test: these two networks cannot meet under Table 1"]);
    let said = lab.ask("a", &["ping", "b", "--count", "1"]);
    assert!(said.contains("cannot meet under Table 1") && said.contains("policy = \"optimal\""), "{said}");
    assert_eq!(lab.count("a", "this node and a peer cannot meet under Table 1"), 1, "{}", lab.log("a"));
}

#[test]
fn ctrl_c_ends_a_ping_with_its_summary_and_the_usual_code() {
    let Some(mut lab) = Lab::up("int", "1", "proposed", "as nms trs a b") else { return };
    lab.until_reached("a", "b");
    let interrupted = |peer: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["ping", peer, "--count", "1000", "--interval", "0.2", "--control"]).arg(lab.path("a.sock"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ended = until(2, || child.try_wait().unwrap());
        let _ = child.kill();
        (ended.and_then(|status| status.code()), text(&child.wait_with_output().unwrap().stdout))
    };
    let (code, said) = interrupted("b");
    let pongs = said.matches("pong from b ").count();
    assert!(code == Some(0) && (2..20).contains(&pongs), "{code:?}: {said}");
    assert!(said.lines().last().unwrap().contains(&format!(" sent, {pongs} received, ")), "{said}");
    // No reply comes from a peer that has gone.
    lab.sh(
        "b",
        "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                 add rule inet fault out meta l4proto udp oifname eth0 drop'",
    );
    let (code, said) = interrupted("b");
    assert_eq!((code, said.lines().last().unwrap()), (Some(8), "--- b: 1 sent, 0 received, 100 % lost"), "{said}");
    // A node's refusal has the exit code of its reason.
    lab.kill("a");
    lab.start("a", &["--allow-capture", "false"]);
    lab.until_registered("a", 10);
    let mut capture = Command::new(PROGRAM);
    capture.args(["capture", "never.pcapng", "--control"]).arg(lab.path("a.sock")).current_dir(lab.path(""));
    let (code, said) = lab::ends(capture);
    assert!(code == 3 && said.contains("allows no captures") && said.contains("allow-capture = true"), "{code} {said}");
}

#[test]
fn an_echo_that_is_lost_on_the_way_is_shown_soon_and_counted() {
    let Some(lab) = Lab::up("los", "1", "proposed", "as nms trs a b") else { return };
    lab.until_reached("a", "b");
    let mut command = Command::new(PROGRAM);
    command.args(["ping", "b", "--count", "5", "--interval", "1", "--control"]).arg(lab.path("a.sock"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(500));
    lab.sh(
        "b",
        "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                 add rule inet fault out meta l4proto udp oifname eth0 drop'",
    );
    // One or two pings are lost.
    std::thread::sleep(std::time::Duration::from_secs(2));
    lab.sh("b", "nft delete table inet fault");
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (pongs, lost) = (said.matches("pong from b ").count(), said.matches("no pong: no answer in time").count());
    assert!(pongs >= 2 && lost >= 1 && pongs + lost == 5, "{said}");
    assert!(
        said.contains(&format!("--- b: 5 sent, {pongs} received, {:.0} % lost, rtt", lost as f64 * 20.0)),
        "{said}"
    );
    assert!(begun.elapsed().as_secs() < 14, "{said}");
}
