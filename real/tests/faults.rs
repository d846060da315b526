//! Faults while daemons run, on real sockets in network namespaces. A node names each fault, and recovers without an
//! operator once the fault is over. The tests need root and a few tools. Without them a test prints why and passes.
//! `.ci/run` has them.

mod lab;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Lab, until};

/// Stops all UDP that leaves a namespace.
const BLOCK: &str = "nft 'add table inet fault; add chain inet fault out { type filter hook output priority 0; }; \
                     add rule inet fault out meta l4proto udp oifname eth0 drop'";
const OPEN: &str = "nft delete table inet fault";

#[test]
fn blocked_udp_is_called_so_by_either_method_and_nodes_register_once_it_gets_through() {
    let Some(mut lab) = Lab::up("udp", "1", "proposed", "as nms trs") else { return };
    for (node, method) in [("a", "proposed"), ("b", "conventional")] {
        lab.sh(node, BLOCK);
        lab.start(node, &["--method", method]);
    }
    let said = lab.until_status("a", 12, &["UDP is blocked: the AS ([2001:db8::2]:443", "remedy", "firewall"]);
    assert!(said.contains("can be reached by TCP"), "{said}");
    lab.until_status("b", 12, &["UDP is blocked", "the AS answers by TCP, but the NMS does not", "4501"]);
    let said = lab.ask("a", &["netcheck"]);
    assert!(said.contains("registered    no: UDP is blocked") && said.contains("remedy "), "{said}");
    for node in ["a", "b"] {
        lab.sh(node, OPEN);
    }
    for node in ["a", "b"] {
        lab.until_registered(node, 15);
    }
}

/// The command with a false wall clock. The file `clock` holds the clock's offset, and may change while the command
/// runs.
fn with_clock(mut command: Command, clock: &std::path::Path, library: &std::path::Path) -> Command {
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    command
}

#[test]
fn a_wrong_clock_is_told_beside_the_certificates_dates_and_once_it_is_set_the_node_logs_in() {
    let Some(library) = lab::faketime() else {
        lab::skipped("a wrong clock: there is no libfaketime (Debian: apt install faketime)");
        return;
    };
    let Some(mut lab) = Lab::up("clk", "1", "proposed", "as nms trs") else { return };
    let set = |lab: &Lab, node: &str, offset: &str| fs::write(lab.path(&format!("{node}.clock")), offset).unwrap();
    let start = |lab: &mut Lab, node: &str, method: &str| {
        let clock = lab.path(&format!("{node}.clock"));
        let command = with_clock(lab.daemon(node, &["--method", method]), &clock, &library);
        lab.run(node, command);
    };
    let dates = ["this machine's clock says 20", "counts from 20", " to 20"];

    // The clock is a day behind at the start: the certificate is not valid yet.
    for (node, method) in [("a", "proposed"), ("b", "conventional")] {
        set(&lab, node, "-1d");
        start(&mut lab, node, method);
        lab.until_status(node, 5, &[&dates[..], &["does not count for another 2", "timedatectl"]].concat());
        set(&lab, node, "+0");
        lab.until_registered(node, 8);
    }

    // The clock leaps ahead while the node runs: no error until the node has to prove its identity again.
    set(&lab, "a", "+100d");
    lab.kill("nms");
    lab.start("nms", &[]);
    lab.until_status(
        "a",
        20,
        &[&dates[..], &["not registered: the clock and this node's certificate disagree"]].concat(),
    );
    set(&lab, "a", "+0");
    lab.until_registered("a", 20);

    // The clock is a day ahead at the first registration, and correct after a restart. So the epochs after the restart
    // look old. The NMS states the epoch that it accepts, and the node is registered without one failure.
    for (node, method) in [("a", "proposed"), ("b", "conventional")] {
        lab.kill(node);
        set(&lab, node, "+1d");
        start(&mut lab, node, method);
        lab.until_registered(node, 10);
        lab.kill(node);
        lab.start(node, &["--method", method]);
        lab.until_registered(node, 5);
        let log = lab.log(node);
        let life = log.rsplit("starting name=").next().unwrap();
        assert!(!life.contains("not registered"), "{life}");
    }
}

#[test]
fn a_clock_that_is_never_set_ends_a_stopped_node_with_11() {
    let (Some(library), None) = (lab::faketime(), lab::obstacle()) else {
        lab::skipped("a clock that is never set: it needs root and libfaketime");
        return;
    };
    let Some(lab) = Lab::up("clx", "1", "proposed", "") else { return };
    let clock = lab.path("clock");
    fs::write(&clock, "+9000d").unwrap();
    for service in ["as", "nms", "trs"] {
        let (code, said) = lab::ends(with_clock(lab.daemon(service, &[]), &clock, &library));
        assert_eq!(code, 11, "{said}");
        assert!(
            said.contains("which counts from 20") && said.contains("ended 8") && said.contains("remedy:"),
            "{said}"
        );
    }
    let mut command = with_clock(lab.daemon("a", &[]), &clock, &library);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    lab.until_status("a", 5, &["the node waits", "this machine's clock says 20"]);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(until(5, || child.try_wait().unwrap()).unwrap().code(), Some(11));
}

#[test]
fn what_a_node_lacks_when_it_starts_is_named_with_a_code_and_absent_services_are_waited_for() {
    let Some(mut lab) = Lab::up("sta", "1", "proposed", "as nms trs a") else { return };
    let (code, said) = lab::ends(lab.daemon("a", &["--control", "other.sock"]));
    assert!(code == 5 && said.contains("UDP port 443 is taken") && said.contains("`port`"), "{code} {said}");
    let (code, said) = lab::ends(lab.daemon("a", &["--control", "other.sock", "--port", "4443"]));
    assert!(code == 5 && said.contains("another program has cyphonic0"), "{code} {said}");
    let (code, said) = lab::ends(lab.daemon("nms", &["--port", "444", "--metrics", "127.0.0.1:9465"]));
    assert!(
        code == 5 && said.contains("UDP port 4501 is taken") && said.contains("`conventional-port`"),
        "{code} {said}"
    );

    for (name, what) in
        [("nobody", "there is no node nobody.cyphonic.test"), ("b", "b.cyphonic.test is not registered now")]
    {
        let mut ping = lab.within("a", env!("CARGO_BIN_EXE_cyphonic"));
        ping.args(["ping", name, "--count", "1", "--control"]).arg(lab.path("a.sock"));
        let (code, said) = lab::ends(ping);
        assert!(code == 8 && said.contains(what) && said.contains("remedy: "), "{code} {said}");
    }

    let mut unable = lab.within("b", "setpriv");
    unable.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", env!("CARGO_BIN_EXE_cyphonic"), "node"]);
    unable.arg("--config").arg(lab.path("b.toml"));
    let (code, said) = lab::ends(unable);
    assert!(code == 6 && said.contains("CAP_NET_ADMIN"), "{code} {said}");

    // Three faults in turn: an AS that does not run, a node with the certificates of another authority, and a device
    // that an operator removed.
    lab.kill("as");
    lab.start("b", &[]);
    lab.until_status("b", 12, &["not registered: the AS (", "does not answer", "is it running?"]);
    lab.start("as", &[]);
    lab.until_registered("b", 15);
    assert!(lab.ask("a", &["status"]).contains("  registered"), "an AS is needed to log in only");
    lab.kill("b");
    let pki = lab.path("other");
    lab.sh("b", &format!("{} ca --dir other init >/dev/null", env!("CARGO_BIN_EXE_cyphonic")));
    lab.sh("b", &format!("{} ca --dir other issue b.cyphonic.test >/dev/null", env!("CARGO_BIN_EXE_cyphonic")));
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let (root, own, key) = (file("root.pem"), file("b.cyphonic.test.pem"), file("b.cyphonic.test.key"));
    let crl = file("crl.pem");
    lab.start("b", &["--roots", &root, "--certificate", &own, "--key", &key, "--crl", &crl]);
    lab.until_status("b", 8, &["do not believe each other's certificates", "ca init"]);
    lab.kill("b");
    lab.sh("b", &format!("{} device remove b.cyphonic.test >/dev/null", env!("CARGO_BIN_EXE_cyphonic")));
    lab.start("b", &[]);
    lab.until_status("b", 8, &["does not know the device b.cyphonic.test", "cyphonic device add"]);
    lab.sh("b", &format!("{} device add b.cyphonic.test >/dev/null", env!("CARGO_BIN_EXE_cyphonic")));
    lab.until_registered("b", 20);
}

#[test]
fn of_two_machines_with_one_key_one_is_served_and_the_other_and_the_nms_say_so() {
    for (name, method) in [("twp", "proposed"), ("twc", "conventional")] {
        let Some(mut lab) = Lab::up(name, "1", method, "as nms a") else { return };
        let (own, key) = (lab.path("pki/a.cyphonic.test.pem"), lab.path("pki/a.cyphonic.test.key"));
        let (own, key) = (own.to_str().unwrap(), key.to_str().unwrap());
        lab.until_registered("a", 10);
        lab.start("b", &["--name", "a.cyphonic.test", "--certificate", own, "--key", key]);
        lab.until_registered("b", 5);
        let words = [
            "another machine at [",
            "uses the name and key of a.cyphonic.test, and is served",
            "cyphonic device invite",
        ];
        let said = lab.until_status("a", 8, &words);
        let warning =
            ["warning  a.cyphonic.test is registered at [", "another machine with its name and key was refused at ["];
        lab.until_status("nms", 2, &warning);
        assert!(lab.ask("nms", &["fleet"]).contains("warning: another machine"), "{}", lab.ask("nms", &["fleet"]));
        assert!(lab.log("a").contains("another machine at ["), "{said}\n{}", lab.log("a"));

        // They do not take turns.
        let served = lab.count("b", "registered v4");
        std::thread::sleep(Duration::from_secs(10));
        lab.until_registered("b", 1);
        assert_eq!((served, lab.count("b", "registered v4"), lab.count("a", "registered v4")), (1, 1, 1), "{method}");
        assert_eq!(lab.count("nms", "two machines use one name and key"), 1, "{}", lab.log("nms"));

        // The other one takes the place of the one that is gone. A restart is no second machine.
        lab.kill("b");
        lab.until_registered("a", 50);
        lab.kill("a");
        lab.start("a", &[]);
        lab.until_registered("a", 5);
        assert_eq!(lab.count("nms", "two machines use one name and key"), 1, "{}", lab.log("nms"));
    }
}

#[test]
fn a_revoked_node_is_shut_out_by_the_list_that_everybody_fetches_from_the_as() {
    let Some(mut lab) = Lab::up("crl", "1", "proposed", "trs") else { return };
    let program = env!("CARGO_BIN_EXE_cyphonic");
    lab.start("as", &["--ca", "pki"]);
    fs::copy(lab.path("pki/crl.pem"), lab.path("nms.crl")).unwrap();
    lab.start("nms", &["--crl", "nms.crl", "--crl-from", "[2001:db8::2]:4433"]);
    for method in ["conventional", "proposed"] {
        for node in ["a", "b"] {
            let copy = format!("{node}.crl");
            fs::copy(lab.path("pki/crl.pem"), lab.path(&copy)).unwrap();
            lab.start(node, &["--method", method, "--crl", &copy, "--crl-from", "[2001:db8::2]:4433"]);
        }
        lab.until_registered("b", 10);
        lab.until_reached("a", "b");
        let fetched = |lab: &Lab| lab.log("a").matches("a newer list of revoked certificates was fetched").count();
        let before = fetched(&lab);
        lab.sh("as", &format!("{program} ca revoke b.cyphonic.test --database cyphonic.db >/dev/null"));
        lab.until_status("b", 16, &["not registered: "]);
        lab.until_status("a", 16, &["no peers"]);
        // The NMS has told node a of the revocation at once. Node a gets the list with its next fetch from the AS.
        assert!(until(16, || (fetched(&lab) > before).then_some(())).is_some(), "{}", lab.log("a"));
        lab.within("a", "ping").args(["-n", "-c", "1", "-W", "2", "b.cyphonic.test"]).output().unwrap();
        assert!(!lab.ask("a", &["status"]).contains("via "), "{}", lab.ask("a", &["status"]));
        lab.kill("b");
        let (code, said) = lab::ends(lab.daemon("b", &["--crl", "a.crl"]));
        assert!(code == 4 && said.contains("the certificate was revoked") && said.contains("--renew"), "{code} {said}");
        // The node comes back with a new certificate.
        lab.kill("a");
        lab.sh("as", &format!("{program} ca issue b.cyphonic.test --renew >/dev/null"));
        lab.sh("as", &format!("{program} device add b.cyphonic.test >/dev/null"));
    }
}

/// A TCP transfer from node a to node b that takes some seconds. The files `sent` and `got` hold the bytes so far.
struct Transfer {
    sender: Child,
    receiver: Child,
}

impl Transfer {
    fn begin(lab: &Lab) -> Self {
        lab.until_reached("a", "b");
        let receive = "timeout 60 socat -u TCP4-LISTEN:5001,reuseaddr OPEN:got,creat,trunc";
        let receiver = lab.within("b", "bash").args(["-c", receive]).spawn().unwrap();
        lab.sh("b", "for i in {1..50}; do ss -ltn | grep -q :5001 && exit; sleep 0.1; done; exit 1");
        let send = "for i in {1..70}; do head -c 40000 /dev/urandom; sleep 0.1; done | tee sent | \
                    timeout 60 socat -u - TCP4:b.cyphonic.test:5001";
        let sender = lab.within("a", "bash").args(["-o", "pipefail", "-c", send]).spawn().unwrap();
        Self { sender, receiver }
    }

    fn bytes(lab: &Lab) -> u64 {
        fs::metadata(lab.path("got")).map_or(0, |file| file.len())
    }

    /// Checks that bytes go on arriving.
    #[track_caller]
    fn goes_on(lab: &Lab, seconds: u64, why: &str) {
        let before = Self::bytes(lab);
        assert!(
            until(seconds, || (Self::bytes(lab) > before + 50_000).then_some(())).is_some(),
            "no more bytes: {why}"
        );
    }

    #[track_caller]
    fn ends_well(mut self, lab: &Lab) {
        let ends = |child: &mut Child| until(40, || child.try_wait().unwrap()).is_some_and(|status| status.success());
        assert!(ends(&mut self.sender) && ends(&mut self.receiver), "the transfer broke");
        assert!(fs::read(lab.path("sent")).unwrap() == fs::read(lab.path("got")).unwrap(), "other bytes came");
    }
}

/// The virtual addresses in a status.
fn addresses(status: &str) -> String {
    status.lines().find(|line| line.starts_with("  virtual")).unwrap().to_owned()
}

fn services_are_killed(method: &str) {
    let Some(mut lab) = Lab::up(&format!("kil{}", &method[..1]), "1", method, "as nms trs a b") else { return };
    let before = addresses(&lab.until_registered("a", 1));
    let transfer = Transfer::begin(&lab);
    Transfer::goes_on(&lab, 10, "the beginning");
    let tunnels = lab.count("a", "tunnel up");
    for service in ["as", "trs", "nms"] {
        lab.kill(service);
    }
    lab.until_status("a", 9, &["  nms ", "has been silent for", "tunnels live on"]);
    Transfer::goes_on(&lab, 2, "all services are dead");
    for service in ["as", "nms", "trs"] {
        lab.start(service, &[]);
    }
    let again = until(5, || (lab.count("a", " registered ") >= 2 && lab.count("b", " registered ") >= 2).then_some(()));
    let words = lab.ask("a", &["status"]);
    assert!(again.is_some() || words.contains("heard 0."), "not registered again: {words}\n{}", lab.log("a"));
    transfer.ends_well(&lab);
    assert_eq!(lab.count("a", "tunnel up"), tunnels, "the tunnel was built anew");
    assert_eq!(lab.count("a", "tunnel down"), 0);
    // The node is killed too. Everything that it needs is in the database.
    lab.kill("a");
    lab.start("a", &[]);
    assert_eq!(addresses(&lab.until_registered("a", 10)), before);
    lab.until_reached("a", "b");
}

#[test]
fn killed_services_leave_a_live_conventional_tunnel_alone_and_find_their_state_again() {
    services_are_killed("conventional");
}

#[test]
fn killed_services_leave_a_live_quic_tunnel_alone_and_find_their_state_again() {
    services_are_killed("proposed");
}

fn the_relay_is_killed(method: &str) -> Option<Lab> {
    let mut lab = Lab::up(&format!("trs{}", &method[..1]), "3", method, "as nms trs a b")?;
    let transfer = Transfer::begin(&lab);
    Transfer::goes_on(&lab, 10, "the beginning");
    lab.kill("trs");
    std::thread::sleep(Duration::from_millis(300));
    lab.start("trs", &[]);
    // A conventional tunnel is given up after thirteen seconds of silence. By then TCP retransmits only every 13 s.
    Transfer::goes_on(&lab, 40, "the TRS is back");
    transfer.ends_well(&lab);
    Some(lab)
}

#[test]
fn a_relay_killed_under_a_conventional_tunnel_is_used_again_when_it_is_back() {
    the_relay_is_killed("conventional");
}

#[test]
fn a_relay_killed_under_a_quic_tunnel_is_used_again_when_it_is_back() {
    let Some(mut lab) = the_relay_is_killed("proposed") else { return };
    // Without a TRS no new tunnel can be built, and the error names the settings that are needed.
    lab.kill("trs");
    lab.kill("a");
    lab.start("a", &[]);
    lab.until_registered("a", 10);
    let mut ping = lab.within("a", env!("CARGO_BIN_EXE_cyphonic"));
    ping.args(["ping", "b", "--count", "1", "--control"]).arg(lab.path("a.sock"));
    let (code, said) = lab::ends(ping);
    assert!(
        code == 8 && said.contains("no answer in time from b") && said.contains("is the TRS running?"),
        "{code} {said}"
    );
}

#[test]
fn a_database_that_is_full_or_locked_is_named_and_served_from_again_without_a_restart() {
    let Some(mut lab) = Lab::up("dbf", "1", "proposed", "trs") else { return };
    let disk = lab.path("disk");
    fs::create_dir(&disk).unwrap();
    // The mount is outside of the lab's namespaces, so the end of the lab does not unmount it.
    let mounted = Mounted::tmpfs(&disk, "320k");
    fs::copy(lab.path("cyphonic.db"), disk.join("cyphonic.db")).unwrap();
    let database = disk.join("cyphonic.db").to_str().unwrap().to_owned();
    for service in ["as", "nms"] {
        lab.start(service, &["--database", &database]);
    }
    assert!(until(5, || (lab.log("as").contains("ready") && lab.log("nms").contains("ready")).then_some(())).is_some());
    let filler = disk.join("filler");
    let _ =
        Command::new("dd").args(["if=/dev/zero", &format!("of={}", filler.display())]).stderr(Stdio::null()).status();
    let refused = ["cannot serve now: its database fails", "a disk that is full"];
    lab.start("a", &[]);
    lab.start("b", &["--method", "conventional"]);
    for node in ["a", "b"] {
        lab.until_status(node, 10, &refused);
    }
    assert!(
        lab.log("nms").contains("database or disk is full") && lab.log("nms").contains("make room"),
        "{}",
        lab.log("nms")
    );
    fs::remove_file(filler).unwrap();
    for node in ["a", "b"] {
        lab.until_registered(node, 20);
    }

    lab.kill("a");
    let holder = rusqlite::Connection::open(&database).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    lab.start("a", &[]);
    lab.until_status("a", 10, &["cannot serve now: its database fails", "a program that holds the database"]);
    assert!(lab.log("nms").contains("database is locked") && lab.log("nms").contains("fuser"), "{}", lab.log("nms"));
    assert!(lab.ask("b", &["status"]).contains("  registered"), "who is registered stays so");
    holder.execute_batch("ROLLBACK").unwrap();
    lab.until_registered("a", 15);
    drop(holder);
    drop(mounted);
    drop(lab);
}

/// A ping that goes on, and the answers so far.
struct Pings {
    child: Child,
    file: std::path::PathBuf,
}

impl Pings {
    fn begin(lab: &Lab, from: &str, to: &str) -> Self {
        lab.until_reached(from, to);
        let file = lab.path("pings");
        let out = fs::File::create(&file).unwrap();
        let mut ping = lab.within(from, "ping");
        ping.args(["-n", "-i", "0.2", &format!("{to}.cyphonic.test")]);
        Self { child: ping.stdout(out).stderr(Stdio::null()).spawn().unwrap(), file }
    }

    /// Checks that ten more pings are answered.
    #[track_caller]
    fn go_on(&self, lab: &Lab, seconds: u64, why: &str) {
        let answers = || fs::read_to_string(&self.file).unwrap().matches(" bytes from ").count();
        let before = answers();
        let more = until(seconds, || (answers() >= before + 10).then_some(()));
        assert!(more.is_some(), "no more answers: {why}\n{}\n{}", lab.log("a"), lab.log("b"));
    }
}

impl Pings {
    /// The number of unanswered pings before the last answer.
    fn lost(&self) -> usize {
        let text = fs::read_to_string(&self.file).unwrap();
        let numbers = text.split("icmp_seq=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
        let last: usize = numbers.max().unwrap();
        last - text.matches(" bytes from ").count().min(last)
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn an_address_changes(method: &str) {
    let Some(lab) = Lab::up(&format!("adr{}", &method[..1]), "1", method, "as nms trs a b") else { return };
    let pings = Pings::begin(&lab, "a", "b");
    pings.go_on(&lab, 10, "the beginning");
    for (node, old, new) in [("a", "2001:db8::5", "2001:db8::55"), ("b", "2001:db8::6", "2001:db8::66")] {
        lab.sh(node, &format!("ip addr del {old}/64 dev eth0; ip addr add {new}/64 dev eth0 nodad"));
        lab.until_status(node, 20, &["  registered", new]);
        pings.go_on(&lab, 20, &format!("{node} has another address"));
        let status = lab.ask(node, &["status"]);
        assert!(!status.contains(&format!("real     {old} ")), "{status}");
    }
    // The tunnel is built anew at once, twice. Only packets that are under way then may be lost.
    assert!(pings.lost() <= 10, "{} pings were lost\n{}\n{}", pings.lost(), lab.log("a"), lab.log("b"));
}

#[test]
fn those_who_talk_by_quic_go_on_when_either_node_gets_another_address() {
    an_address_changes("proposed");
}

#[test]
fn those_who_talk_by_the_conventional_method_go_on_when_either_node_gets_another_address() {
    an_address_changes("conventional");
}

#[test]
fn a_virtual_interface_that_was_down_has_its_routes_and_addresses_again() {
    let Some(lab) = Lab::up("dwn", "1", "proposed", "as nms a b") else { return };
    lab.until_reached("a", "b");
    let own = |what: &str| {
        lab.sh("a", &format!("ip {what} show dev cyphonic0 | grep -v '^[0-9]' | sed 's/ metric.*//' | sort"))
    };
    let routes = |family: &str| lab.sh("a", &format!("ip {family} route show dev cyphonic0"));
    let before = [own("addr"), routes("-4"), routes("-6")];
    lab.sh("a", "ip link set cyphonic0 down");
    std::thread::sleep(Duration::from_secs(1));
    let down = lab.sh("a", "ip link show dev cyphonic0");
    assert!(!down.contains("UP"), "who took it down wanted it: {down}");
    lab.sh("a", "ip link set cyphonic0 up");
    let again = until(10, || ([own("addr"), routes("-4"), routes("-6")] == before).then_some(()));
    assert!(again.is_some(), "{before:?}\n{:?}\n{}", [own("addr"), routes("-4"), routes("-6")], lab.log("a"));
    for family in ["-4", "-6"] {
        lab.sh("a", &format!("ping -n {family} -c 1 -W 5 b.cyphonic.test"));
    }
    // The node restores a route too.
    lab.sh("a", "ip -4 route flush dev cyphonic0");
    assert!(until(10, || (routes("-4") == before[1]).then_some(())).is_some(), "{}", routes("-4"));
}

#[test]
fn after_a_kill_the_next_start_takes_the_dead_server_out_of_resolv_conf_before_anything_is_asked() {
    let Some(mut lab) = Lab::up("dns", "1", "proposed", "as nms a") else { return };
    let read = |lab: &Lab| lab.sh("a", "cat /etc/resolv.conf");
    assert!(read(&lab).contains("nameserver 198.18.0.1"), "{}", read(&lab));
    lab.kill("a");
    assert!(read(&lab).contains("nameserver 198.18.0.1"), "nobody could take it back");
    lab.kill("as");
    lab.start("a", &["--as-addresses", "nowhere.invalid:443"]);
    lab.until_status("a", 20, &["the node waits: `as-addresses`: nowhere.invalid"]);
    assert_eq!(read(&lab), "options timeout:3 attempts:2\n");
    lab.kill("a");
    lab.start("as", &[]);
    lab.start("a", &[]);
    lab.until_registered("a", 15);
    assert!(until(5, || read(&lab).contains("nameserver 198.18.0.1").then_some(())).is_some());
}

#[test]
fn a_device_signs_up_and_renews_and_no_token_or_password_gets_into_a_log() {
    let Some(mut lab) = Lab::up("sgn", "1", "proposed", "trs") else { return };
    let program = env!("CARGO_BIN_EXE_cyphonic");
    for (service, more) in [("as", &["--ca", "pki"][..]), ("nms", &[])] {
        lab.start(service, &[&["--log", "trace"], more].concat());
    }
    assert!(until(5, || (lab.log("as").contains("ready") && lab.log("nms").contains("ready")).then_some(())).is_some());
    // A device signs up with an operator's invitation, and renews. A sign-up with a wrong token fails.
    let invite = format!("umask 077; {program} device invite a.cyphonic.test --replace --database cyphonic.db >token");
    lab.sh("as", &invite);
    lab.sh(
        "as",
        "umask 077; echo 0123456789abcdef0123456789abcdef >wrong; printf correct-horse-battery >password; \
                  printf incorrect-horse-battery >guess",
    );
    let sign_up =
        |rest: &str| format!("{program} signup a.cyphonic.test --as [2001:db8::2]:4433 --roots pki/root.pem {rest}");
    lab.sh("a", &format!("! {}", sign_up("--token-file wrong --out other")));
    lab.sh("a", &sign_up("--token-file token --out own/a"));
    lab.sh("a", &sign_up("--renew --out own/a"));
    let issued = fs::read_to_string(lab.path("pki/issued")).unwrap();
    assert_eq!(issued.matches(" a.cyphonic.test").count(), 3, "{issued}");
    let (own, key) = ("own/a/a.cyphonic.test.pem", "own/a/a.cyphonic.test.key");
    lab.start("a", &["--certificate", own, "--key", key, "--log", "trace"]);
    let status = lab.until_registered("a", 10);
    assert!(
        status.contains("certificate  valid for 8") || status.contains("certificate  valid for 90 more days"),
        "{status}"
    );

    lab.sh(
        "as",
        &format!("{program} device add b.cyphonic.test --replace --password-file password --database cyphonic.db"),
    );
    let by_password = ["--method", "conventional", "--login", "password", "--log", "trace", "--password-file"];
    lab.start("b", &[&by_password[..], &["guess"]].concat());
    lab.until_status("b", 20, &["does not know the device b.cyphonic.test"]);
    lab.kill("b");
    lab.start("b", &[&by_password[..], &["password"]].concat());
    lab.until_registered("b", 40);
    for host in ["as", "nms", "a", "b"] {
        assert!(lab.log(host).len() > 100);
        for secret in ["token", "wrong", "password", "guess"] {
            let secret = fs::read_to_string(lab.path(secret)).unwrap();
            assert!(!lab.log(host).contains(secret.trim()), "{host} logs {secret}");
        }
    }
}

/// A file system in memory.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &std::path::Path, size: &str) -> Self {
        let options = format!("size={size},mode=700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
        assert!(done.success(), "mount {}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
