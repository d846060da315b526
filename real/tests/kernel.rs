//! What a node changes in its machine's kernel, and what other programs change there. The tests use real sockets in
//! network namespaces, which needs root and a few tools. Without them a test prints why and passes. `.ci/run` has them.

mod lab;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use lab::{Lab, until};
use serde_json::Value;

/// Each node's virtual addresses, IPv4 and IPv6.
fn virtual_addresses(lab: &Lab, node: &str) -> [String; 2] {
    lab.until_registered(node, 15);
    let status: Value = serde_json::from_str(&lab.ask(node, &["status", "--json"])).unwrap();
    let address = |n: usize| status["virtual_addresses"][n].as_str().unwrap().to_owned();
    [address(0), address(1)]
}

/// The output of a script, or nothing if it fails.
fn says(lab: &Lab, host: &str, script: &str) -> String {
    let output = lab.within(host, "bash").args(["-c", script]).stderr(Stdio::null()).output().unwrap();
    lab::text(&output.stdout).trim().to_owned()
}

#[track_caller]
fn soon<T>(seconds: u64, what: &str, lab: &Lab, look: impl FnMut() -> Option<T>) -> T {
    until(seconds, look).unwrap_or_else(|| panic!("{what}\n{}\n{}", lab.ask("a", &["status"]), lab.log("a")))
}

/// Makes a host of the bridge send packets for `to` directly to `at`, a host's address on the bridge, past every
/// router.
fn send_past_the_tunnel(lab: &Lab, from: &str, to: &[String; 2], at: &str) {
    let mac = lab.sh(at, "cat /sys/class/net/eth0/address").trim().to_owned();
    let [v4, v6] = to;
    lab.sh(from, &format!("ip route replace {v4}/32 dev eth0; ip -6 route replace {v6}/128 dev eth0"));
    lab.sh(from, &format!("for to in {v4} {v6}; do ip neigh replace $to lladdr {mac} dev eth0; done"));
}

#[test]
fn neighbours_reach_no_virtual_address_past_the_tunnel_and_nothing_leaves_from_one_there() {
    let Some(mut lab) = Lab::up("flt", "1", "proposed", "as nms trs a") else { return };
    lab.sh("b", "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
    lab.sh("b", "ip addr add 192.0.2.6/24 dev eth0");
    lab.start("b", &[]);
    let (a, b) = (virtual_addresses(&lab, "a"), virtual_addresses(&lab, "b"));
    lab.until_reached("a", "b");
    // A service on b's virtual addresses, and one that receives UDP.
    let heard = lab.path("heard");
    let mut servers: Vec<_> = [
        format!("socat -u UDP6-RECV:7000 OPEN:{},creat,append", heard.display()),
        format!("socat TCP6-LISTEN:7001,bind=[{}],fork SYSTEM:'echo served'", b[1]),
    ]
    .iter()
    .map(|script| lab.within("b", "bash").args(["-c", &format!("exec {script}")]).spawn().unwrap())
    .collect();
    // The neighbour has no key, and takes a's virtual addresses as its own.
    send_past_the_tunnel(&lab, "trs", &b, "b");
    lab.sh("trs", &format!("ip addr add {}/32 dev eth0; ip addr add {}/128 dev eth0 nodad", a[0], a[1]));
    let says_past = |from: &str, words: &str| {
        says(&lab, from, &format!("echo {words}-4 | socat -u - UDP4-SENDTO:{}:7000,bind={}:5000", b[0], a[0]));
        says(&lab, from, &format!("echo {words}-6 | socat -u - UDP6-SENDTO:[{}]:7000,bind=[{}]:5000", b[1], a[1]));
    };
    let served = |from: &str, bind: &str| says(&lab, from, &format!("timeout 2 socat - TCP6:[{}]:7001{bind}", b[1]));
    let all_heard = || fs::read_to_string(&heard).unwrap_or_default();
    // To b's real addresses, at which services listen too.
    let says_beside = |words: &str| {
        says(&lab, "trs", &format!("echo {words}-4 | socat -u - UDP4-SENDTO:192.0.2.6:7000,bind={}:5000", a[0]));
        says(&lab, "trs", &format!("echo {words}-6 | socat -u - UDP6-SENDTO:[2001:db8::6]:7000,bind=[{}]:5000", a[1]));
    };
    says_past("trs", "forged");
    says_beside("forged-beside");
    says(&lab, "nms", "echo honest-4 | socat -u - UDP4-SENDTO:192.0.2.6:7000");
    says(&lab, "nms", "echo honest-6 | socat -u - UDP6-SENDTO:[2001:db8::6]:7000");
    says_past("a", "true");
    soon(5, "what comes by the tunnel is heard", &lab, || all_heard().contains("true-6").then_some(()));
    assert!(all_heard().contains("true-4") && !all_heard().contains("forged"), "{}", all_heard());
    assert!(all_heard().contains("honest-4") && all_heard().contains("honest-6"), "{}", all_heard());
    assert_eq!((served("trs", ""), served("a", "")), (String::new(), "served".to_owned()));
    // No packet leaves from b's virtual address by another interface, even if a program asks for it.
    lab.sh("nms", "ip addr add 2001:db8::77/64 dev eth0 nodad; rm -f left; true");
    let left = lab.path("left");
    let listen = format!("exec timeout 3 socat -u UDP6-RECV:7002 OPEN:{},creat,append", left.display());
    let mut listener = lab.within("nms", "bash").args(["-c", &listen]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    says(&lab, "b", &format!("echo out | socat -u - UDP6-SENDTO:[2001:db8::77]:7002,bind=[{}]", b[1]));
    says(&lab, "b", "echo real | socat -u - UDP6-SENDTO:[2001:db8::77]:7002");
    let all_left = || fs::read_to_string(&left).unwrap_or_default();
    soon(3, "what leaves from a real address arrives", &lab, || all_left().contains("real").then_some(()));
    assert!(!all_left().contains("out"));
    let _ = listener.wait();
    // Other programs flush the rules. The filter stays, or is made again.
    lab.sh("b", "nft flush ruleset");
    for family in ["ip", "ip6"] {
        lab.sh("b", &format!("nft delete table {family} cyphonic-cyphonic0 2>/dev/null || true"));
    }
    std::thread::sleep(Duration::from_secs(1));
    says_past("trs", "again");
    assert_eq!(served("trs", ""), "");
    assert!(!all_heard().contains("again"), "{}", all_heard());
    assert!(!lab.ask("b", &["status"]).contains("packet filter"), "nothing is wrong");
    // A network of the machine that has the range keeps it: its packets pass.
    lab.sh("b", "ip addr add 198.18.7.1/24 dev eth0");
    lab.sh("trs", "ip addr add 198.18.7.2/24 dev eth0");
    says(&lab, "trs", "echo neighbour | socat -u - UDP4-SENDTO:192.0.2.6:7000,bind=198.18.7.2:5000");
    soon(3, "its own network is heard", &lab, || all_heard().contains("neighbour").then_some(()));
    // The filter names b's virtual addresses and the range, and no others, and is gone in the end.
    let rules = lab.sh("b", "nft list ruleset");
    assert_eq!(rules.matches("fib saddr oif").count(), 2, "{rules}");
    let ours = [&b[0], &b[1], "198.18.0.0/16", "2001:db8:c::/64", "198.18.7.0/24 accept"];
    for line in rules.lines().filter(|line| line.contains("addr ")) {
        assert!(ours.iter().any(|own| line.contains(own)), "{line} in {rules}");
    }
    for server in &mut servers {
        let _ = server.kill();
        let _ = server.wait();
    }
    lab.kill("b");
    soon(3, "the filter ends with the node", &lab, || says(&lab, "b", "nft list ruleset").is_empty().then_some(()));
}

#[test]
fn packets_to_virtual_addresses_never_leave_in_the_clear_also_after_the_daemon_was_killed() {
    let Some(mut lab) = Lab::up("cls", "1", "proposed", "as nms trs b") else { return };
    // A default route, for both families.
    lab.sh("a", "ip addr add 192.0.2.5/24 dev eth0; ip route add default via 192.0.2.2");
    lab.sh("a", "ip -6 route add default via 2001:db8::2");
    lab.start("a", &[]);
    let b = virtual_addresses(&lab, "b");
    lab.until_reached("a", "b");
    for to in &b {
        assert!(way(&lab, to).contains("dev cyphonic0"), "{}", way(&lab, to));
    }
    // Not even if a program asks for another interface, or a rule of policy routing leads there.
    let seen = lab.path("seen");
    let script =
        format!("timeout 4 tcpdump -l -n -i eth0 net 198.18.0.0/16 or net 2001:db8:c::/64 >{} || true", seen.display());
    let mut watch = lab.within("as", "bash").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    for to in &b {
        says(&lab, "a", &format!("ping -n -c 1 -W 1 -I eth0 {to}"));
    }
    lab.sh("a", "ip rule add pref 100 lookup 52; ip route add default via 192.0.2.2 table 52");
    says(&lab, "a", &format!("ping -n -c 1 -W 1 {}", b[0]));
    lab.sh("a", "ip rule del pref 100; ip route flush table 52");
    let _ = watch.wait();
    assert_eq!(fs::read_to_string(&seen).unwrap().trim(), "", "it left in the clear");
    lab.until_reached("a", "b");
    let goes_nowhere = |lab: &Lab| {
        for to in &b {
            let way = way(lab, to);
            assert!(way.contains("nreachable") || way.contains("No route to host"), "{way}");
        }
    };
    // The node is set down by hand, killed, or ended cleanly: the range is unreachable.
    lab.sh("a", "ip link set cyphonic0 down");
    goes_nowhere(&lab);
    lab.kill("a");
    goes_nowhere(&lab);
    // A network of the machine that has the range keeps it, also while no daemon runs.
    lab.sh("a", "ip link add lan0 type veth peer name lan1; ip addr add 198.18.0.200/16 dev lan0; ip link set lan0 up");
    assert!(way(&lab, &b[0]).contains("dev lan0"), "{}", way(&lab, &b[0]));
    lab.sh("a", "ip link del lan0");
    lab.start("a", &[]);
    lab.until_reached("a", "b");
    ends(&lab, "a");
    goes_nowhere(&lab);
    // Until an operator restores the routes.
    lab.sh("a", &format!("{} restore --routes", env!("CARGO_BIN_EXE_cyphonic")));
    assert!(way(&lab, &b[0]).contains("via 192.0.2.2"), "{}", way(&lab, &b[0]));
}

/// Waits until pings from a to both addresses are answered.
fn reaches(lab: &Lab, both: &[String; 2]) {
    for to in both {
        soon(4, "it is reached", lab, || {
            let ping = lab.within("a", "ping").args(["-n", "-c", "1", "-W", "1", to]).stdout(Stdio::null()).status();
            ping.unwrap().success().then_some(())
        });
    }
}

/// The route that the kernel takes to an address.
fn way(lab: &Lab, to: &str) -> String {
    says(lab, "a", &format!("ip route get {to} 2>&1"))
}

/// Ends a node cleanly.
fn ends(lab: &Lab, node: &str) {
    let pid = fs::read_to_string(lab.path(&format!("{node}.pid"))).unwrap();
    lab.sh(node, &format!("kill {pid}"));
    soon(5, "it ends", lab, || {
        lab.sh(node, "ip link show").contains("cyphonic0").then_some(()).is_none().then_some(())
    });
}

/// The routes of an interface that a test made.
fn routes_of(lab: &Lab, interface: &str) -> String {
    lab.sh("a", &format!("ip route show dev {interface}; ip -6 route show dev {interface}"))
}

#[test]
fn a_network_with_the_overlays_range_keeps_its_routes_and_peers_are_reached_all_the_same() {
    let Some(mut lab) = Lab::up("lan", "1", "proposed", "as nms trs b") else { return };
    let b = virtual_addresses(&lab, "b");
    // The whole range, a part with the peer and the name server in it, a range around it, and the IPv6 one.
    for (network, other) in [
        ("198.18.0.200/16", "198.18.77.7"),
        ("198.18.0.200/24", "198.18.0.77"),
        ("198.19.0.200/15", "198.18.77.7"),
        ("2001:db8:c::200/64", "2001:db8:c::77:77"),
    ] {
        lab.sh("a", &format!("ip link add lan0 type veth peer name lan1; ip addr add {network} dev lan0 nodad"));
        lab.sh("a", "ip link set lan1 up; ip link set lan0 up");
        std::thread::sleep(Duration::from_millis(300));
        let before = (routes_of(&lab, "lan0"), lab.sh("a", "(ip route show; ip -6 route show) | grep -v unreachable"));
        lab.start("a", &[]);
        lab.until_registered("a", 15);
        // At the first attempt, by name, in both families, and by the node's own ping.
        lab.sh("a", &format!("ping -n -c 1 -W 12 {}; ping -n -c 1 -W 2 {}", "b.cyphonic.test", b[1]));
        let said = lab.ask("a", &["ping", "b", "--count", "1"]);
        assert!(said.contains("1 received"), "{network}: {said}");
        assert!(way(&lab, other).contains("dev lan0"), "{network}: {}", way(&lab, other));
        assert_eq!(routes_of(&lab, "lan0"), before.0, "{network}");
        let said = lab.until_status("a", 3, &["  warning  ", "leads to lan0", "  remedy   "]);
        assert!(lab.log("a").contains("leads to lan0"), "{said}");
        // The network leaves, and comes back while the node runs.
        lab.sh("a", "ip link set lan0 down");
        soon(3, "the overlay has the range", &lab, || way(&lab, other).contains("dev cyphonic0").then_some(()));
        lab.sh("a", &format!("ip link set lan0 up; ip addr replace {network} dev lan0 nodad"));
        soon(3, "the network has it again", &lab, || way(&lab, other).contains("dev lan0").then_some(()));
        reaches(&lab, &b);
        ends(&lab, "a");
        let after = (routes_of(&lab, "lan0"), lab.sh("a", "(ip route show; ip -6 route show) | grep -v unreachable"));
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((sorted(&after.0), sorted(&after.1)), (sorted(&before.0), sorted(&before.1)), "{network}");
        lab.sh("a", "ip link del lan0; ip route flush proto 233; ip -6 route flush proto 233");
    }
    // If the kernel routes packets elsewhere, the node's own ping says so, as ping(8) does.
    lab.start("a", &[]);
    lab.until_reached("a", "b");
    lab.sh("a", &format!("ip route add blackhole {}/32", b[0]));
    let said = lab.ask("a", &["ping", "b", "--count", "1"]);
    assert!(said.contains("0 received"), "{said}");
}

#[test]
fn the_virtual_address_is_no_source_outside_the_overlay_and_a_node_without_another_says_so() {
    let Some(mut lab) = Lab::up("src", "1", "proposed", "as nms trs b") else { return };
    let b = virtual_addresses(&lab, "b");
    // The only address is deprecated. There is a way out by IPv4, too, from an interface without an address.
    lab.sh("a", "ip -6 addr del 2001:db8::5/64 dev eth0; ip -6 addr add 2001:db8::5/64 dev eth0 nodad preferred_lft 0");
    lab.sh("a", "ip -6 route add default via 2001:db8::2; ip route add default dev eth0");
    lab.start("a", &[]);
    let a = virtual_addresses(&lab, "a");
    lab.until_reached("a", "b");
    for to in ["2001:db8::2", "2001:4860::1", "192.0.2.2"] {
        assert!(!a.iter().any(|own| way(&lab, to).contains(own)), "{}", way(&lab, to));
    }
    assert!(way(&lab, "2001:db8::2").contains("src 2001:db8::5"), "{}", way(&lab, "2001:db8::2"));
    for to in 0..2 {
        assert!(way(&lab, &b[to]).contains(&format!("src {}", a[to])), "{}", way(&lab, &b[to]));
    }
    lab.sh("a", &format!("ping -n -c 1 -W 2 {}; ping -n -c 1 -W 2 {}; ping -n -c 1 -W 2 2001:db8::2", b[0], b[1]));
    // Without any other the kernel takes the virtual one, because no address with less than global scope reaches that
    // far. Such packets do not go out.
    lab.sh("a", "ip -6 addr del 2001:db8::5/64 dev eth0; ip -6 addr add fe80::5/64 dev eth0 nodad");
    lab.sh("a", "ip -6 route add 2001:db8::/64 dev eth0");
    lab.until_status("a", 5, &["no IPv6 address for packets to 2001:db8::2 but the virtual one"]);
    soon(3, "it is logged", &lab, || lab.log("a").contains("but the virtual one").then_some(()));
    lab.sh("a", "ip -6 addr add 2001:db8::5/64 dev eth0 nodad");
    soon(5, "it is as before", &lab, || (!lab.ask("a", &["status"]).contains("but the virtual one")).then_some(()));
    lab.until_registered("a", 20);
}

#[test]
fn what_others_change_at_the_virtual_interface_comes_back_and_status_says_what_is_so() {
    let Some(lab) = Lab::up("mnd", "1", "proposed", "as nms trs a b") else { return };
    let b = virtual_addresses(&lab, "b");
    let a = virtual_addresses(&lab, "a");
    lab.until_reached("a", "b");
    // IPv6 turned off and on, by its setting and by the MTU; the kernel gives no other address of its own back.
    for (off, on, words) in [
        (
            "sysctl -qw net.ipv6.conf.cyphonic0.disable_ipv6=1",
            "sysctl -qw net.ipv6.conf.cyphonic0.disable_ipv6=0",
            "off",
        ),
        ("ip link set cyphonic0 mtu 1200", "ip link set cyphonic0 mtu 1414", "its MTU is 1200"),
    ] {
        lab.sh("a", off);
        let said = lab.until_status("a", 3, &["cyphonic0 has no IPv6", words]);
        assert!(said.contains(&format!("virtual  {} on", a[0])), "{said}");
        lab.sh("a", on);
        lab.until_status("a", 3, &[&format!("virtual  {} {} on", a[0], a[1])]);
        reaches(&lab, &b);
        assert!(!lab.sh("a", "ip -6 addr show dev cyphonic0").contains("fe80"), "no link-local address");
    }
    // Routes and addresses taken away, one and all of them.
    for taken in [
        format!("ip addr del {}/32 dev cyphonic0", a[0]),
        format!("ip addr del {}/128 dev cyphonic0", a[1]),
        "ip route del 198.18.0.0/16 dev cyphonic0; ip -6 route del 2001:db8:c::/64 dev cyphonic0".to_owned(),
        "ip route flush proto 233; ip -6 route flush proto 233".to_owned(),
        "ip link set cyphonic0 down; ip link set cyphonic0 up".to_owned(),
    ] {
        lab.sh("a", &taken);
        reaches(&lab, &b);
    }
    assert!(lab.sh("a", "ip route show; ip -6 route show").matches("unreachable").count() >= 2);
    // A segment size so small that one packet of the kernel has more than 128 segments: none is lost.
    for (size, ip) in [(400, 0), (88, 0), (400, 1)] {
        let (to, family) = (&b[ip], ["-4", "-6"][ip]);
        let range = ["198.18.0.0/16", "2001:db8:c::/64 metric 1024"][ip];
        lab.sh("a", &format!("ip {family} route change {range} dev cyphonic0 proto static src {} advmss 1340", a[ip]));
        lab.sh("b", &format!("ip {family} route change {range} dev cyphonic0 proto static src {to} advmss {size}"));
        let at = if ip == 0 { format!("TCP4:{to}") } else { format!("TCP6:[{to}]") };
        let listen = format!("exec timeout 20 socat -u TCP{}-LISTEN:7100,reuseaddr OPEN:got,creat,trunc", [4, 6][ip]);
        let mut server = lab.within("b", "bash").args(["-c", &listen]).spawn().unwrap();
        soon(3, "it listens", &lab, || says(&lab, "b", "ss -Hltn sport = 7100").contains("7100").then_some(()));
        let retransmitted = || says(&lab, "a", "nstat -asz TcpRetransSegs | awk '/Retrans/ { print $2 }'");
        let before = retransmitted();
        lab.sh("a", &format!("head -c 3000000 /dev/urandom >sent; timeout 15 socat -u OPEN:sent {at}:7100"));
        assert!(server.wait().unwrap().success());
        lab.sh("a", "cmp sent got");
        let again = retransmitted().parse::<u64>().unwrap_or(0) - before.parse::<u64>().unwrap_or(0);
        assert!(again < 300, "{size}: {again} segments were sent again");
    }
    assert!(lab.sh("b", "ip route show 198.18.0.0/16").contains("advmss 88"), "that is somebody's choice");
    // The machine's addresses are followed, however much else the kernel reports.
    let noise = "while :; do ip route add blackhole 203.0.113.7; ip route del blackhole 203.0.113.7; sleep 0.04; done";
    let mut noise = lab.within("a", "bash").args(["-c", noise]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    lab.sh("a", "ip -6 addr add 2001:db8::55/64 dev eth0 nodad; ip -6 addr del 2001:db8::5/64 dev eth0");
    let followed = until(1, || lab.log("a").contains("addresses=[2001:db8::55]").then_some(()));
    let _ = noise.kill();
    let _ = noise.wait();
    assert!(followed.is_some(), "{}", lab.log("a"));
    reaches(&lab, &b);
    // By its new name.
    lab.sh("a", "ip link set cyphonic0 down; ip link set cyphonic0 name other0; ip link set other0 up");
    lab.until_status("a", 3, &[&format!("virtual  {} {} on other0", a[0], a[1])]);
    reaches(&lab, &b);
    // A network manager that takes the route as often as it comes: named, and not fought over.
    let fight = "for n in {1..200}; do ip route del 198.18.0.0/16 dev other0 2>/dev/null || true; sleep 0.02; done";
    let before = lab.count("a", "took 198.18.0.0/16 from");
    lab.sh("a", fight);
    let warned = lab.count("a", "took 198.18.0.0/16 from") - before;
    assert!((1..=6).contains(&warned), "{warned} warnings in four seconds");
    assert!(
        lab.ask("a", &["status"]).contains("takes 198.18.0.0/16 from other0 again and again"),
        "{}",
        lab.ask("a", &["status"])
    );
}

#[test]
fn of_two_nodes_on_a_machine_the_second_gives_way_and_says_to_whom() {
    let Some(mut lab) = Lab::up("two", "1", "proposed", "as nms trs a") else { return };
    lab.until_registered("a", 10);
    let first = routes_of(&lab, "cyphonic0");
    // The second is b, in the first one's namespace.
    let mut command = lab.within("a", env!("CARGO_BIN_EXE_cyphonic"));
    command.args(["node", "--config"]).arg(lab.path("b.toml"));
    command.args(["--tun", "cyphonic1", "--port", "4443", "--metrics", "127.0.0.1:9465", "--dns", "none"]);
    lab.run("b", command);
    lab.until_status("b", 15, &["registered", "leads to cyphonic0", "another node of this machine", "  remedy "]);
    std::thread::sleep(Duration::from_secs(1));
    let warned = |lab: &Lab| ["a", "b"].map(|node| lab.count(node, " WARN "));
    let before = warned(&lab);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(warned(&lab), before, "{}\n{}", lab.log("a"), lab.log("b"));
    assert_eq!(routes_of(&lab, "cyphonic0"), first);
    // It takes over when the first has gone.
    ends(&lab, "a");
    soon(5, "it leads", &lab, || way(&lab, "198.18.0.99").contains("dev cyphonic1").then_some(()));
    // A route of another manager that replaced it is not replaced in turn, whatever its source.
    let own = virtual_addresses(&lab, "b")[0].clone();
    lab.sh("a", &format!("ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up; ip route replace 198.18.0.0/16 dev lan0 src {own}"));
    lab.until_status("b", 3, &["198.18.0.0/16 leads to lan0"]);
    assert!(way(&lab, "198.18.0.99").contains("dev lan0"));
}

#[test]
fn the_nodes_dns_answers_as_the_rfcs_have_it_over_udp_and_tcp_and_no_name_of_the_zone_leaves_the_machine() {
    let Some(mut lab) = Lab::up("dns", "1", "proposed", "as nms trs b") else { return };
    let b = virtual_addresses(&lab, "b");
    // The machine has another name server, which the C library asks when the first does not know, and a search list.
    let resolv = lab.namespace_file("a", "resolv.conf");
    fs::write(resolv, "nameserver 192.0.2.53\nsearch corp.example\noptions timeout:1 attempts:1\n").unwrap();
    lab.sh("a", "ip addr add 192.0.2.5/24 dev eth0; ip route add default via 192.0.2.2");
    lab.sh("nms", "ip addr add 192.0.2.53/24 dev eth0");
    let asked = lab.path("asked");
    let script =
        format!("exec tcpdump -l -n -i eth0 -w {} --immediate-mode -U 'dst 192.0.2.53 and port 53'", asked.display());
    let mut upstream = lab.within("nms", "bash").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
    lab.start("a", &[]);
    lab.until_reached("a", "b");
    let dig = |what: &str| says(&lab, "a", &format!("dig +time=3 +tries=1 {what} @198.18.0.1"));
    let short = |what: &str| dig(&format!("+short {what}"));
    // Over TCP, both families, several queries on one connection, and by the C library.
    for server in ["198.18.0.1", "2001:db8:c::1"] {
        let answer = says(&lab, "a", &format!("dig +tcp +time=3 +tries=1 +short b.cyphonic.test @{server}"));
        assert_eq!(answer, b[0], "over TCP at {server}");
    }
    let kept = "+tcp +keepopen +short b.cyphonic.test A b.cyphonic.test AAAA cyphonic.test NS";
    assert_eq!(short(kept), format!("{}\n{}\n_dns.cyphonic.test.", b[0], b[1]));
    assert!(says(&lab, "a", "RES_OPTIONS=use-vc timeout 5 getent ahosts b.cyphonic.test").contains(&b[0]));
    let drilled = says(&lab, "a", "drill -t b.cyphonic.test @198.18.0.1");
    assert!(drilled.contains("rcode: NOERROR") && drilled.contains(&b[0]), "{drilled}");
    // The first label is enough, and no other server hears of it.
    assert!(says(&lab, "a", "timeout 9 getent ahosts b").contains(&b[0]));
    // The zone itself, and what is not there.
    let soa = short("cyphonic.test SOA");
    assert!(soa.starts_with("_dns.cyphonic.test. hostmaster.cyphonic.test. 1 "), "{soa}");
    assert_eq!(short("_dns.cyphonic.test A"), "198.18.0.1");
    for (what, status) in [
        ("cyphonic.test A", "NOERROR"),
        ("b.cyphonic.test MX", "NOERROR"),
        ("_ssh._tcp.b.cyphonic.test SRV", "NXDOMAIN"),
        ("nobody.cyphonic.test", "NXDOMAIN"),
        ("nobody.cyphonic.test +tcp", "NXDOMAIN"),
    ] {
        let answer = dig(what);
        assert!(answer.contains(&format!("status: {status}")) && answer.contains(" aa "), "{what}: {answer}");
        let soa = answer.lines().find(|line| line.starts_with("cyphonic.test.") && line.contains("SOA")).unwrap_or("");
        assert_eq!(soa.split_whitespace().nth(1), Some("5"), "{what}: {answer}");
    }
    let drilled =
        says(&lab, "a", "drill cyphonic.test SOA @198.18.0.1; drill _ssh._tcp.b.cyphonic.test SRV @198.18.0.1");
    assert!(drilled.contains("rcode: NOERROR") && drilled.contains("rcode: NXDOMAIN"), "{drilled}");
    assert!(dig("www.example").contains("status: REFUSED"), "others are for others");
    // A peer that is offline, and a node without a registration.
    let ask_all = |lab: &Lab| {
        for name in ["b.cyphonic.test", "nobody.cyphonic.test", "_ssh._tcp.b.cyphonic.test", "cyphonic.test"] {
            says(lab, "a", &format!("timeout 20 getent ahosts {name}"));
        }
    };
    ask_all(&lab);
    lab.kill("b");
    lab.until_status("a", 20, &["no peers"]);
    // If the NMS does not know it yet, it still names the peer. The query is answered before the resolver turns to the
    // next server, after the 1 s that its options say.
    ask_all(&lab);
    lab.kill("nms");
    let said = lab.until_status("a", 30, &["not registered"]);
    assert!(!said.contains(", heard "), "a dead NMS is not heard: {said}");
    std::thread::sleep(Duration::from_secs(4));
    let answer = says(&lab, "a", "dig +time=2 +tries=1 b.cyphonic.test @198.18.0.1");
    assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"), "{answer}");
    ask_all(&lab);
    says(&lab, "a", "timeout 5 getent ahosts www.example");
    let leaked = |lab: &Lab| says(lab, "nms", &format!("tcpdump -n -r {} 2>/dev/null", asked.display()));
    soon(5, "other names are asked there", &lab, || leaked(&lab).contains("www.example").then_some(()));
    assert!(!leaked(&lab).contains("cyphonic"), "{}", leaked(&lab));
    let _ = upstream.kill();
    let _ = upstream.wait();
}
