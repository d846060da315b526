//! Networks that let no UDP out, on real sockets in network namespaces. The tests need root and a few tools. Without
//! them a test prints why and passes. `.ci/run` has them.

mod lab;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lab::{Lab, ends, text, until};

/// Drops all UDP into and out of a namespace, and counts the packets that would leave.
const BLOCK: &str = "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                     add chain inet fault in { type filter hook input priority 0; }; \
                     add rule inet fault out meta l4proto udp oifname eth0 counter drop; \
                     add rule inet fault in meta l4proto udp iifname eth0 drop'";
const OPEN: &str = "nft delete table inet fault";
/// Waits until something listens on TCP port 5001.
const LISTENS: &str = "for i in {1..50}; do ss -ltn | grep -q :5001 && exit; sleep 0.1; done; exit 1";

/// Gets a page of b by its name with curl.
fn curls(lab: &Lab) {
    lab.sh("b", "mkdir -p www && head -c 1000000 /dev/urandom >www/page");
    let mut server = lab.within("b", "python3");
    server.args(["-m", "http.server", "8000", "--directory", "www"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let curl = "curl -sS --retry 5 --retry-connrefused --max-time 20 -o page http://b.cyphonic.test:8000/page";
    lab.sh("a", &format!("{curl} && cmp page www/page"));
    let _ = server.kill();
    let _ = server.wait();
}

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

    // A client of RFC 9298 that shares no code with ours uses each service as its proxy.
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    lab.sh("a", &format!("python3 {fixtures}/quic_initial.py"));
    for (host, service) in [(2, "as"), (3, "nms"), (4, "trs")] {
        let name = format!("{service}.cyphonic.test");
        let papers = "pki/a.cyphonic.test.pem pki/a.cyphonic.test.key pki/root.pem";
        let said = lab.sh("a", &format!("python3 {fixtures}/connect_udp.py 192.0.2.{host} {name} {papers}"));
        let words = [
            "own port: 101 connect-udp ?1",
            "Initial: capsule 0 context 0 ServerHello with cipher suite 1301",
            "answer: capsule 0 context 0 version negotiation",
            "foreign target: 403",
            "foreign port: 403",
            "no certificate: 404 text/html None",
        ];
        for line in words {
            assert!(said.contains(line), "{service}: {line:?} in {said}");
        }
    }

    curls(&lab);
    // A transfer that lasts while UDP is opened and closed again.
    let receive = "timeout 120 socat -u TCP4-LISTEN:5001,reuseaddr OPEN:got,creat,trunc";
    let mut receiver = lab.within("b", "bash").args(["-c", receive]).spawn().unwrap();
    lab.sh("b", LISTENS);
    let send = "{ head -c 100000000 /dev/urandom; while [[ ! -e enough ]]; do head -c 40000 /dev/urandom; sleep 0.1; done; } \
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
    let mut command = lab.daemon("a", &[]);
    command.env("HTTPS_PROXY", "http://192.0.2.4:3128");
    lab.run("a", command);
    let said = lab.until_status(
        "a",
        20,
        &["not registered", "the HTTP proxy 192.0.2.4:3128 demands authentication (407)", "proxy-credentials"],
    );
    assert!(!said.contains("secret"), "{said}");
    lab.kill("a");
    lab.start("a", &["--proxy", "http://192.0.2.4:3128", "--proxy-credentials", "credentials"]);
    lab.until_status("a", 20, &["  registered", "by TCP 443, by the HTTP proxy"]);
    lab.until_reached("a", "b");
    curls(&lab);
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

/// What stands between a node and its services, and what the node has to say of it.
struct Case {
    /// TCP port 443 leads to this port of `middlebox.py`; 0: it is reset.
    redirect: Option<u16>,
    /// Options of the node.
    options: &'static [&'static str],
    /// What `status`, `netcheck` and the log say.
    said: &'static str,
    /// A part of the remedy.
    remedy: &'static str,
}

const fn direct(redirect: u16, said: &'static str, remedy: &'static str) -> Case {
    Case { redirect: Some(redirect), options: &[], said, remedy }
}

const fn proxied(options: &'static [&'static str], said: &'static str, remedy: &'static str) -> Case {
    Case { redirect: None, options, said, remedy }
}

const CASES: [Case; 16] = [
    proxied(
        &["--proxy", "http://127.0.0.1:9000"],
        "TCP to the HTTP proxy 127.0.0.1:9000 is refused",
        "no proxy answers there",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9001"],
        "the HTTP proxy 127.0.0.1:9001 does not answer as an HTTP proxy",
        "it must be the address of an HTTP proxy",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9002"],
        "the HTTP proxy 127.0.0.1:9002 does not reach 192.0.2.2:443 (502)",
        "is the service running?",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9003"],
        "the HTTP proxy 127.0.0.1:9003 refuses to connect to 192.0.2.2:443 (403)",
        "ask the proxy's operator to allow CONNECT to port 443",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9004"],
        "the HTTP proxy 127.0.0.1:9004 demands authentication (407), and no user and password are set",
        "name the file in `proxy-credentials`",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9004", "--proxy-credentials", "credentials"],
        "the HTTP proxy 127.0.0.1:9004 demands authentication (407), and does not accept the user and password",
        "correct USER:PASSWORD in the file of `proxy-credentials`",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9005", "--proxy-credentials", "credentials"],
        "the HTTP proxy 127.0.0.1:9005 demands authentication (407) by Negotiate, not by user and password",
        "Basic authentication only",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9008"],
        "TLS to as.cyphonic.test (192.0.2.2:443) behind the HTTP proxy is intercepted: the certificate is of another CA, \
         \"evil.example AS ",
        "use another network",
    ),
    proxied(
        &["--proxy", "http://127.0.0.1:9009"],
        "a captive portal answered in place of as.cyphonic.test (192.0.2.2:443) behind the HTTP proxy",
        "open http://example.com in a browser",
    ),
    direct(
        9006,
        "TLS to as.cyphonic.test (192.0.2.2:443) is intercepted: the certificate is of another CA, \
         \"evil.example AS ",
        "use another network",
    ),
    direct(
        9007,
        "as.cyphonic.test (192.0.2.2:443) accepted TCP, and TLS was refused (ProtocolVersion)",
        "use another network",
    ),
    direct(
        9009,
        "a captive portal answered in place of as.cyphonic.test (192.0.2.2:443)",
        "open http://example.com in a browser",
    ),
    direct(
        9010,
        "a captive portal answered in place of as.cyphonic.test (192.0.2.2:443): it redirects to login.hotel.example",
        "open http://example.com in a browser",
    ),
    direct(
        9001,
        "as.cyphonic.test (192.0.2.2:443) accepted TCP, but does not speak TLS 1.3",
        "check that nothing else answers on TCP port 443",
    ),
    direct(0, "TCP to as.cyphonic.test (192.0.2.2:443) is refused", "this network stops TCP port 443"),
    direct(
        9012,
        "as.cyphonic.test (192.0.2.2:443) accepted TCP, and the connection was ended when TLS began",
        "set `tcp-name` to a name that this network allows",
    ),
];

/// Sends what would leave for TCP port 443 to a port of `middlebox.py`; 0: resets it.
fn redirect(lab: &Lab, port: u16) {
    lab.sh("a", "nft delete table ip box 2>/dev/null || true");
    let rule = match port {
        0 => {
            "type filter hook output priority 0; }; add rule ip box out tcp dport 443 reject with tcp reset".to_owned()
        }
        port => format!(
            "type nat hook output priority -100; }}; add rule ip box out meta mark != 1 tcp dport 443 redirect to :{port}"
        ),
    };
    lab.sh("a", &format!("nft 'add table ip box; add chain ip box out {{ {rule}'"));
}

#[test]
fn what_stands_between_a_node_and_its_services_is_named_with_a_remedy() {
    let Some(mut lab) = Lab::up_under("box", "2", "proposed", "as nms", "optimal") else { return };
    let program = env!("CARGO_BIN_EXE_cyphonic");
    lab.sh("a", BLOCK);
    lab.sh("b", BLOCK);
    let evil =
        format!("{program} ca init --zone evil.example --dir evil; {program} ca issue as.evil.example --dir evil");
    lab.sh("a", &evil);
    fs::write(lab.path("credentials"), "me:secret\n").unwrap();
    lab.sh("a", "chmod 600 credentials");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/middlebox.py");
    let mut command = lab.within("a", "python3");
    command.args([script, "evil/as.evil.example.pem", "evil/as.evil.example.key", ".cyphonic.test"]);
    let mut boxes = command.stdout(fs::File::create(lab.path("box.log")).unwrap()).spawn().unwrap();
    lab.sh("b", "nft 'add rule inet fault out oifname eth0 tcp dport 443 drop'");
    lab.start("b", &[]);
    let listens = "for i in {1..50}; do ss -ltn | grep -q :9012 && exit; sleep 0.1; done; exit 1";
    lab.sh("a", listens);
    // What is wrong with a proxy's settings is said at once.
    fs::write(lab.path("no-colon"), "sesame\n").unwrap();
    fs::write(lab.path("open"), "me:sesame\n").unwrap();
    lab.sh("a", "chmod 600 no-colon && chmod 644 open");
    let proxy = ["--proxy", "http://127.0.0.1:9000", "--proxy-credentials"];
    for (options, code, words) in [
        (vec!["--proxy", "socks5://127.0.0.1:1080"], 3, "a proxy of `socks5://` is not supported"),
        ([&proxy[..], &["nowhere"]].concat(), 4, "nowhere"),
        ([&proxy[..], &["no-colon"]].concat(), 4, "no colon between user and password"),
        ([&proxy[..], &["open"]].concat(), 4, "open"),
    ] {
        let (ended, said) = ends(lab.daemon("a", &options));
        assert!(ended == code && said.contains(words) && said.contains("remedy"), "{options:?}: {ended}: {said}");
        assert!(!said.contains("sesame"), "{said}");
    }
    lab.start("a", &["--proxy", "http://nowhere.invalid:3128"]);
    lab.until_status("a", 8, &["the node waits: `proxy`: nowhere.invalid:3128", "check the name of the HTTP proxy"]);
    lab.kill("a");
    for case in CASES {
        redirect(&lab, case.redirect.unwrap_or(9011));
        lab.start("a", case.options);
        let said = lab.until_status("a", 5, &["not registered", case.said, case.remedy]);
        let netcheck = lab.ask("a", &["netcheck"]);
        assert!(netcheck.contains(case.said) && netcheck.contains(case.remedy), "{netcheck}");
        let log = lab.log("a");
        assert!(log.contains(case.said) && log.contains("remedy="), "{}: {log}", case.said);
        assert!(![&said, &netcheck, &log].iter().any(|text| text.contains("secret")), "{}", case.said);
        lab.kill("a");
        fs::remove_file(lab.path("a.log")).unwrap();
    }
    // The name that is refused is not the one that a node has to show.
    lab.start("a", &["--tcp-name", "www.example"]);
    lab.until_status("a", 8, &["  registered", "UDP is blocked here; through", "NMS by TCP 443"]);
    lab.kill("a");
    fs::remove_file(lab.path("a.log")).unwrap();

    // A service without TCP: the AS answers TLS nevertheless, for logins of the conventional method.
    lab.sh("a", "nft delete table ip box");
    lab.kill("as");
    lab.start("as", &["--tcp", "false"]);
    lab.start("a", &[]);
    let no_upgrade = "as.cyphonic.test (192.0.2.2:443) answers TLS, but does not proxy UDP";
    lab.until_status("a", 8, &["not registered: the AS", no_upgrade, "remove `tcp = false`"]);
    let mut ping = Command::new(program);
    ping.args(["ping", "b", "--count", "1", "--control"]).arg(lab.path("a.sock"));
    let (code, said) = ends(ping);
    assert!(code == 8 && said.contains(no_upgrade) && said.contains("remove `tcp = false`"), "{code}: {said}");

    let dropped = "TCP to as.cyphonic.test (192.0.2.2:443) is not answered";
    lab.until_status("b", 12, &["not registered", dropped, "this network stops TCP port 443"]);
    let _ = boxes.kill();
    let _ = boxes.wait();
    assert_eq!(fs::read_to_string(lab.path("box.log")).unwrap(), "", "a node accepted a certificate of another CA");
}

/// The memory of a daemon that is in use, KiB, and the number of its open files.
fn burden(lab: &Lab, host: &str) -> (u64, usize) {
    let pid = fs::read_to_string(lab.path(&format!("{host}.pid"))).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    let status = fs::read_to_string(process.join("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    (resident.unwrap(), fs::read_dir(process.join("fd")).unwrap().count())
}

/// Starts `flood.py` in a namespace, and waits until it says how many connections it has begun.
fn flood(lab: &Lab, host: &str, arguments: &str) -> (Child, usize) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/flood.py");
    let mut command = lab.within(host, "python3");
    command.arg(script).args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let count = said.trim().strip_prefix("all have begun: ").and_then(|count| count.parse().ok());
    (child, count.unwrap_or_else(|| panic!("{arguments}: {said:?}")))
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn strangers_at_the_tcp_port_are_bounded_and_an_honest_node_is_served() {
    let Some(mut lab) = Lab::up_under("fld", "2", "proposed", "as nms", "optimal") else { return };
    lab.sh("a", BLOCK);
    // Forty machines on the Internet. The second half never completes TCP's handshake.
    let sources: Vec<String> = (200..240).map(|host| format!("192.0.2.{host}")).collect();
    for source in &sources {
        lab.sh("net", &format!("ip addr add {source}/24 dev br0"));
    }
    let (whole, half) = sources.split_at(sources.len() / 2);
    let before = ["as", "nms"].map(|host| burden(&lab, host));
    let (crowd, open) = flood(&lab, "net", &format!("silent 10000 {} -- 192.0.2.2 192.0.2.3", whole.join(" ")));
    let no_ack = half.join(", ");
    lab.sh(
        "net",
        &format!(
            "nft 'add table ip half; add chain ip half out {{ type filter hook output priority 0; }}; \
             add rule ip half out ip saddr {{ {no_ack} }} tcp flags & (syn | ack | rst) != syn drop'"
        ),
    );
    let (half_open, begun) = flood(&lab, "net", &format!("half 10000 {} -- 192.0.2.2 192.0.2.3", half.join(" ")));
    assert!(open.min(begun) >= 4_000, "{open} and {begun}: the limit of descriptors is too low for this test");
    lab.start("a", &[]);
    lab.until_status("a", 8, &["  registered", "NMS by TCP 443"]);
    let held = ["as", "nms"].map(|host| burden(&lab, host));
    for ((memory, _), (more, files)) in before.into_iter().zip(held) {
        assert!(files < 1_024 + 64 && more < memory + 64 * 1024, "{before:?}, then {held:?}");
    }
    end(crowd);
    end(half_open);

    // A node with a certificate that sends capsules badly: byte by byte, none at all, and one without an end.
    let (memory, _) = burden(&lab, "nms");
    let (bad, _) =
        flood(&lab, "net", "capsules pki/b.cyphonic.test.pem pki/b.cyphonic.test.key pki/root.pem nms.cyphonic.test");
    let (after, _) = burden(&lab, "nms");
    assert!(after < memory + 16 * 1024, "{memory} KiB, then {after} KiB");
    lab.kill("a");
    lab.start("a", &[]);
    lab.until_status("a", 8, &["  registered", "NMS by TCP 443"]);
    end(bad);
}
