//! Networks that let no UDP out, on real sockets in network namespaces. The tests need root and a few tools. Without
//! them a test prints why and passes. `.ci/run` has them.

mod lab;

use std::fs;
use std::process::Stdio;

use lab::{Lab, text, until};

/// Drops all UDP into and out of a namespace, and counts the packets that would leave.
const BLOCK: &str = "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                     add chain inet fault in { type filter hook input priority 0; }; \
                     add rule inet fault out meta l4proto udp oifname eth0 counter drop; \
                     add rule inet fault in meta l4proto udp iifname eth0 drop'";
const OPEN: &str = "nft delete table inet fault";
/// Waits until something listens on TCP port 5001.
const LISTENS: &str = "for i in {1..50}; do ss -ltn | grep -q :5001 && exit; sleep 0.1; done; exit 1";

/// How many UDP packets the filter has kept from leaving.
fn kept(lab: &Lab) -> u64 {
    let rules = lab.sh("a", "nft list chain inet fault out");
    let count = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("{rules}"))
}

#[test]
fn a_node_whose_network_drops_udp_goes_by_tcp_and_comes_back_without_a_lost_byte() {
    let Some(mut lab) = Lab::up_under("udp", "2", "proposed", "as nms trs b", "optimal") else { return };
    lab.until_registered("b", 10);
    lab.sh("a", BLOCK);
    lab.start("a", &[]);
    let said = lab.until_status("a", 10, &["  registered", "UDP is blocked here; through", "by TCP 443"]);
    lab.until_reached("a", "b");
    let relayed = lab.until_status("a", 5, &["via trs", "TRS by TCP 443"]);
    assert!(said.contains("NMS") && !relayed.contains("via direct"), "{said}{relayed}");
    assert!(lab.ask("a", &["netcheck"]).contains("UDP is blocked here; through"), "netcheck");

    // No UDP leaves, except for an attempt from time to time to find out whether UDP works again.
    let before = kept(&lab);
    lab.sh("a", "ping -n -c 20 -i 0.1 b.cyphonic.test >/dev/null");
    assert!(kept(&lab) <= before + 1, "{before}, then {}", kept(&lab));

    // A client of RFC 9298 that shares no code with ours uses the TRS as its proxy.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/connect_udp.py");
    let said = lab.sh(
        "a",
        &format!(
            "python3 {script} 192.0.2.4 trs.cyphonic.test pki/a.cyphonic.test.pem pki/a.cyphonic.test.key pki/root.pem"
        ),
    );
    let words = [
        "own port: 101 connect-udp ?1",
        "answer: capsule 0 context 0 version negotiation",
        "foreign target: 403",
        "foreign port: 403",
        "no certificate: 404 text/html None",
    ];
    for line in words {
        assert!(said.contains(line), "{line:?} in {said}");
    }

    // A transfer that lasts while UDP is opened and closed again.
    let receive = "timeout 120 socat -u TCP4-LISTEN:5001,reuseaddr OPEN:got,creat,trunc";
    let mut receiver = lab.within("b", "bash").args(["-c", receive]).spawn().unwrap();
    lab.sh("b", LISTENS);
    let send = "{ head -c 20000000 /dev/urandom; while [[ ! -e enough ]]; do head -c 40000 /dev/urandom; sleep 0.1; done; } \
                | tee sent | timeout 120 socat -u - TCP4:b.cyphonic.test:5001";
    let mut sender = lab.within("a", "bash").args(["-o", "pipefail", "-c", send]).spawn().unwrap();
    lab.sh("a", OPEN);
    let opened = until(45, || (!lab.ask("a", &["status"]).contains("UDP is blocked")).then_some(()));
    assert!(opened.is_some(), "{}", lab.log("a"));
    lab.until_status("a", 20, &["via direct"]);
    lab.sh("a", BLOCK);
    let closed = lab.until_status("a", 30, &["UDP is blocked here; through", "via trs"]);
    fs::write(lab.path("enough"), "").unwrap();
    let ended = until(40, || sender.try_wait().unwrap()).zip(until(40, || receiver.try_wait().unwrap()));
    assert!(ended.is_some_and(|(one, other)| one.success() && other.success()), "the transfer broke: {closed}");
    assert!(fs::read(lab.path("sent")).unwrap() == fs::read(lab.path("got")).unwrap(), "other bytes came");
}

#[test]
fn through_an_http_proxy_and_what_is_wrong_with_one_is_named() {
    let Some(mut lab) = Lab::up_under("prx", "2", "proposed", "as nms trs b", "optimal") else { return };
    lab.until_registered("b", 10);
    lab.sh("a", BLOCK);
    // The network lets nothing out but TCP to the proxy, which is at the TRS's machine.
    lab.sh("a", "nft 'add rule inet fault out oifname eth0 tcp dport 443 drop'");
    let settings =
        "Port 3128\nListen 192.0.2.4\nTimeout 600\nAllow 192.0.2.0/24\nConnectPort 443\nBasicAuth me secret\n";
    fs::write(lab.path("tinyproxy.conf"), settings).unwrap();
    let mut proxy =
        lab.within("trs", "tinyproxy").args(["-d", "-c", "tinyproxy.conf"]).stdout(Stdio::null()).spawn().unwrap();
    fs::write(lab.path("credentials"), "me:secret\n").unwrap();
    lab.sh("a", "chmod 600 credentials");
    let options = ["--proxy", "http://192.0.2.4:3128"];
    lab.start("a", &options);
    let said = lab.until_status(
        "a",
        20,
        &["not registered", "the HTTP proxy demands authentication (407)", "proxy-credentials"],
    );
    assert!(!said.contains("secret"), "{said}");
    lab.kill("a");
    lab.start("a", &[&options[..], &["--proxy-credentials", "credentials"]].concat());
    lab.until_status("a", 20, &["  registered", "by TCP 443, by the HTTP proxy"]);
    lab.until_reached("a", "b");
    let large = 100_000_000;
    let receive = "timeout 120 socat -u TCP4-LISTEN:5001,reuseaddr OPEN:got,creat,trunc";
    let mut receiver = lab.within("b", "bash").args(["-c", receive]).spawn().unwrap();
    lab.sh("b", LISTENS);
    lab.sh("a", &format!("head -c {large} /dev/urandom | tee sent | timeout 120 socat -u - TCP4:b.cyphonic.test:5001"));
    assert!(until(20, || receiver.try_wait().unwrap()).is_some_and(|status| status.success()), "the transfer broke");
    let sent = fs::read(lab.path("sent")).unwrap();
    assert!(sent.len() == large && sent == fs::read(lab.path("got")).unwrap(), "other bytes came");
    let _ = proxy.kill();
    let _ = proxy.wait();
    let log = lab.log("a");
    assert!(!log.contains("secret"), "{}", text(log.as_bytes()));
}
