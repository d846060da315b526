//! How many packets one system call of the data path carries, by the kernel's counters.
//!
//! The test sends data through a tunnel. Each call must carry many packets, at the virtual interface and at the socket,
//! at both nodes. The test reads no clock, so a slow machine does not make it fail. A busy machine only makes batches
//! longer. `core/tests/batches.rs` shows what the core does with a batch.
//!
//! The test needs root and a few tools. Without them it prints the reason and passes. `.ci/run` installs the tools.

mod lab;

use std::fs;

use lab::Lab;

/// The length of the transfer, bytes. It is long enough for many thousand calls, so the first small ones hardly count.
const BYTES: u64 = 200_000_000;
/// The least mean number of bytes in a call. It is about ten packets. Usually the mean is 40,000 to 60,000.
const FLOOR: u64 = 14_000;

/// How often a node called the kernel so far.
#[derive(Clone, Copy, Debug)]
struct Calls {
    /// Reads of the virtual interface, and of little else.
    reads: u64,
    /// Writes to the virtual interface, and to little else.
    writes: u64,
    /// Datagrams that the sockets of its namespace sent.
    sent: u64,
    /// Datagrams that the sockets of its namespace received.
    received: u64,
}

impl Calls {
    fn of(lab: &Lab, node: &str) -> Self {
        let pid = fs::read_to_string(lab.path(&format!("{node}.pid"))).unwrap();
        let io = fs::read_to_string(format!("/proc/{}/io", pid.trim())).unwrap();
        let net = lab.sh(node, "cat /proc/net/snmp6");
        let number = |text: &str, key: &str| -> u64 {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            number.unwrap_or_else(|| panic!("no {key} in {text}"))
        };
        Self {
            reads: number(&io, "syscr:"),
            writes: number(&io, "syscw:"),
            // The kernel counts datagrams that GSO or GRO has joined as one.
            sent: number(&net, "Udp6OutDatagrams"),
            received: number(&net, "Udp6InDatagrams"),
        }
    }
}

#[test]
fn a_system_call_carries_many_packets_at_the_interface_and_at_the_socket() {
    for method in ["conventional", "proposed"] {
        let Some(lab) = Lab::up("bat", "1", method, "as nms trs a b") else { return };
        lab.until_reached("a", "b");
        let before = ["a", "b"].map(|node| Calls::of(&lab, node));
        let receiver = "timeout 60 socat -u TCP4-LISTEN:5001,reuseaddr - | wc -c";
        let receiver =
            lab.within("b", "bash").args(["-c", receiver]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        lab.sh("b", "until ss -ltn | grep -q :5001; do sleep 0.1; done");
        lab.sh("a", &format!("head -c {BYTES} /dev/zero | timeout 60 socat -u -b 65536 - TCP4:b.cyphonic.test:5001"));
        let got = lab::text(&receiver.wait_with_output().unwrap().stdout);
        assert_eq!(got.trim(), BYTES.to_string());
        let after = ["a", "b"].map(|node| Calls::of(&lab, node));
        let [a, b] = [0, 1].map(|node| (before[node], after[node]));
        for (what, calls) in [
            ("read of the sender's virtual interface", a.1.reads - a.0.reads),
            ("datagram of the sender, joined or not", a.1.sent - a.0.sent),
            ("datagram of the receiver, joined or not", b.1.received - b.0.received),
            ("write to the receiver's virtual interface", b.1.writes - b.0.writes),
        ] {
            let carried = BYTES / calls.max(1);
            eprintln!("{method}: {carried} bytes a {what}");
            assert!(carried >= FLOOR, "{method}: {carried} bytes a {what}, in {calls}: batches are not what they were");
        }
    }
}
