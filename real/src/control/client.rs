//! The client side of the control socket: `cyphonic status`, `ping` and `netcheck`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Netcheck, Nms, Pong, Question, Status};
use crate::drive;
use crate::error::{Code, Failure};
use crate::files;
use crate::net::Notice;

/// How long an answer may take. The first route may take its time: see [`cyphonic_core::timing::node::ROUTE_TIMEOUT`].
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn ask(socket: &Path, question: &Question, patience: Duration) -> Result<Answer, Failure> {
    let lost = |error: std::io::Error| lost(socket, &error);
    let mut stream = UnixStream::connect(socket).map_err(lost)?;
    stream.set_read_timeout(Some(patience)).map_err(lost)?;
    let mut line = serde_json::to_string(question).map_err(Failure::other)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(lost)?;
    let mut answer = String::new();
    match BufReader::new(&stream).read_line(&mut answer) {
        Ok(0) => Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => understand(&answer),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            let (what, remedy) = match question {
                Question::Ping { name } => (
                    format!("no answer in time from {name}"),
                    "is it running? where both are behind NATs or firewalls: is the TRS running? `cyphonic status` shows \
                     how this node stands",
                ),
                _ => ("no answer in time".to_owned(), "`cyphonic status` shows how this node stands"),
            };
            Err(Failure::new(Code::Unreachable, what, remedy))
        }
        Err(error) => Err(lost(error)),
    }
}

pub(super) fn lost(socket: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        let what = format!("{}: permission denied: only the user who runs the daemon may ask it", socket.display());
        return Failure::new(Code::Permission, what, "run with sudo, or as the user that the daemon runs as");
    }
    let what = format!("{}: no daemon answers: {error}", socket.display());
    let remedy =
        "start it (`cyphonic node`; `cyphonic nms` with `control`), as this user or root; --control says which socket";
    Failure::new(Code::NotRunning, what, remedy)
}

pub(super) fn understand(answer: &str) -> Result<Answer, Failure> {
    serde_json::from_str(answer).map_err(|error| {
        Failure::new(Code::Other, format!("the node's answer is not understood: {error}"), "use the same version")
    })
}

pub(super) fn unexpected() -> Failure {
    Failure::new(Code::Other, "the node answered something else", "use the same version of cyphonic")
}

/// `cyphonic status`: of a node, or of an NMS.
pub fn status(socket: &Path, json: bool) -> Result<String, Failure> {
    match ask(socket, &Question::Status, PATIENCE)? {
        Answer::Status(status) if json => serde_json::to_string_pretty(&status).map_err(Failure::other),
        Answer::Status(status) => Ok(describe(&status)),
        Answer::Nms(status) if json => serde_json::to_string_pretty(&status).map_err(Failure::other),
        Answer::Nms(status) => Ok(status.describe()),
        Answer::Error { code, what, remedy } => Err(Failure::new(code, what, remedy)),
        Answer::Pong(_) | Answer::Netcheck(_) | Answer::Capturing | Answer::Fleet { .. } => Err(unexpected()),
    }
}

fn join<T: ToString>(values: &[T]) -> String {
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(" ") }
}

fn describe(status: &Status) -> String {
    let standing = match (status.registered, status.nat) {
        (true, Some(true)) => "registered, behind a NAT".to_owned(),
        (true, _) => "registered".to_owned(),
        (false, _) => format!("not registered: {}", status.trouble.as_deref().unwrap_or("no answer yet")),
    };
    let remedy = status.remedy.as_ref().filter(|_| !status.registered);
    let remedy = remedy.map(|remedy| format!("  remedy   {remedy}\n")).unwrap_or_default();
    let nms = status.nms.as_ref().map(|nms| format!("  nms      {}\n", hearing(nms))).unwrap_or_default();
    let transport = status.transport.as_ref().map(|how| format!("  network  {how}\n")).unwrap_or_default();
    let left = |ends: u64| files::validity_left(drive::since_epoch(), Duration::from_secs(ends));
    let authority = status.authority_ends.map(|ends| format!("; the CA's own {}", left(ends))).unwrap_or_default();
    let certificate = status.certificate_ends.map(|ends| format!("  certificate  {}{authority}\n", left(ends)));
    let certificate = certificate.unwrap_or_default();
    let mut text = format!(
        "{}  {} ({}, up {} s)\n{remedy}  virtual  {} on {}\n  real     {} port {}\n{certificate}{nms}{transport}",
        status.name,
        standing,
        status.method,
        status.uptime_s,
        join(&status.virtual_addresses),
        status.tun,
        join(&status.addresses),
        status.port
    );
    for Notice { what, remedy } in &status.notices {
        let _ = writeln!(text, "  warning  {what}\n  remedy   {remedy}");
    }
    for peer in &status.not_permitted {
        let _ = writeln!(text, "  refused  {peer}: the access rules of the NMS forbid this node to talk with it");
    }
    for peer in &status.stranded {
        let _ = writeln!(
            text,
            "  stranded {peer}: these two networks cannot meet under Table 1; with `policy = \"optimal\"` at the NMS they \
             are relayed"
        );
    }
    if !status.dropped.is_empty() {
        let rows: Vec<_> = status.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let _ = writeln!(text, "  dropped  {}", rows.join(", "));
    }
    if status.peers.is_empty() {
        text.push_str("no peers\n");
    }
    for peer in &status.peers {
        let way = match (&peer.via, &peer.remote, peer.pattern) {
            (Some(via), Some(remote), Some(pattern)) => format!("via {via} {remote}, pattern {pattern}"),
            _ => "no tunnel yet".to_owned(),
        };
        let rtt = peer.rtt_ms.map(|rtt| format!(", {rtt:.1} ms")).unwrap_or_default();
        let why = peer.why.as_ref().map(|why| format!("  why      {why}\n")).unwrap_or_default();
        let signaling = peer.signaling.as_ref().map(|how| format!(", signaling {how}")).unwrap_or_default();
        let moves = peer.handover.as_ref().map(|how| format!("  moves    {how}{signaling}\n")).unwrap_or_default();
        let rules = peer.may_open.as_ref().zip(peer.may_be_sent.as_ref());
        let rules = rules.map(|(out, back)| format!("  rules    may open {out}; may be sent {back}\n"));
        let mut paths = rules.unwrap_or_default();
        for path in &peer.paths {
            let _ = writeln!(paths, "  path     {path}");
        }
        let _ = writeln!(
            text,
            "{}  {way}{rtt}\n{why}{moves}{paths}  virtual  {}\n  bytes    {} sent, {} received",
            peer.peer,
            join(&peer.virtual_addresses),
            peer.sent_bytes,
            peer.received_bytes
        );
    }
    text
}

/// How well the NMS is heard, in words.
fn hearing(nms: &Nms) -> String {
    if nms.is_silent() {
        format!(
            "{} has been silent for {:.0} s and is given up after {:.0} s; tunnels live on meanwhile, new ones have to wait",
            nms.remote, nms.silent_s, nms.lost_after_s
        )
    } else {
        let rtt = nms.rtt_ms.map(|rtt| format!(", {rtt:.1} ms")).unwrap_or_default();
        format!("{}, heard {:.1} s ago{rtt}", nms.remote, nms.silent_s)
    }
}

/// One echo: the reply within this time, or the reason why there was none.
pub(super) fn ping(socket: &Path, name: &str, patience: Duration) -> Result<Pong, Failure> {
    match ask(socket, &Question::Ping { name: name.to_owned() }, patience)? {
        Answer::Pong(pong) => Ok(pong),
        Answer::Error { code, what, remedy } => Err(Failure::new(code, what, remedy)),
        Answer::Status(_) | Answer::Nms(_) | Answer::Netcheck(_) | Answer::Capturing | Answer::Fleet { .. } => {
            Err(unexpected())
        }
    }
}

/// `cyphonic netcheck`: what the node knows of this machine's network.
pub fn netcheck(socket: &Path, json: bool) -> Result<String, Failure> {
    match ask(socket, &Question::Netcheck, PATIENCE)? {
        Answer::Netcheck(known) if json => serde_json::to_string_pretty(&known).map_err(Failure::other),
        Answer::Netcheck(known) => Ok(network(&known)),
        Answer::Error { code, what, remedy } => Err(Failure::new(code, what, remedy)),
        Answer::Status(_) | Answer::Nms(_) | Answer::Pong(_) | Answer::Capturing | Answer::Fleet { .. } => {
            Err(unexpected())
        }
    }
}

fn network(known: &Netcheck) -> String {
    let registered = match (&known.trouble, known.registered) {
        (_, true) => "yes".to_owned(),
        (Some(trouble), false) => {
            let remedy = known.remedy.as_deref().unwrap_or("look at the node's log");
            format!("no: {trouble}\nremedy        {remedy}")
        }
        (None, false) => "no".to_owned(),
    };
    let nms = known.nms.as_ref().map_or_else(|| "no way to it".to_owned(), hearing);
    let nat = match known.nat {
        Some(true) => "yes: the NMS sees another address or port than this node's own",
        Some(false) => "no: the NMS sees this node's own address and port",
        None => "unknown: the node was never registered",
    };
    let mut text = format!(
        "registered    {registered}\nNMS           {nms}\nNAT           {nat}\nUDP port      {}\ntunnels       {} direct, {} via the TRS\n",
        known.port, known.direct, known.relayed
    );
    if let Some(transport) = &known.transport {
        let _ = writeln!(text, "network       {transport}");
    }
    for (protocol, open) in [("UDP", known.udp_443), ("TCP", known.tcp_443)] {
        let open = match (protocol, open) {
            ("UDP", Some(true)) => "open: a service answers there",
            ("UDP", Some(false)) => "blocked: TCP connections are accepted there, and UDP is not answered",
            (_, Some(true)) => "open: connections are accepted there",
            (_, Some(false)) => "blocked: a service answers there by UDP only",
            (_, None) => "unknown: no service there answers",
        };
        let _ = writeln!(text, "{protocol} 443       {open}");
    }
    for (name, family, v6) in [("IPv6", &known.ipv6, true), ("IPv4", &known.ipv4, false)] {
        let asked = known.services.iter().any(|service| service.place.is_ipv6() == v6);
        let udp = match family.udp {
            Some(true) => "gets through",
            Some(false) => "blocked: TCP gets through, UDP does not",
            None if family.addresses.is_empty() => "unknown: this machine has no such address",
            None if !asked => "unknown: no service has such an address",
            None => "unknown: no service answers",
        };
        let unsurveyed = if family.addresses.is_empty() {
            "unknown"
        } else {
            "unknown: not surveyed (the NMS does under `policy = \"optimal\"`), or not found out"
        };
        let mtu = family.mtu.map_or_else(|| "unknown".to_owned(), |mtu| mtu.to_string());
        let _ = write!(
            text,
            "{name}          {}\n  UDP         {udp}\n  mapping     {}\n  filtering   {}\n  MTU         {mtu}\n",
            if family.addresses.is_empty() { "none".to_owned() } else { join(&family.addresses) },
            family.mapping.as_deref().unwrap_or(unsurveyed).trim_start_matches("mapping "),
            family.filtering.as_deref().unwrap_or(unsurveyed),
        );
    }
    for service in &known.services {
        let answer = match (service.udp, service.rtt_ms) {
            (None, _) => "unknown: this machine has no address of that family".to_owned(),
            (Some(_), Some(rtt)) => {
                let mtu = service.mtu.map_or_else(|| "unknown".to_owned(), |mtu| mtu.to_string());
                format!("answers in {rtt:.2} ms, MTU {mtu}")
            }
            (Some(_), None) => "RTT unknown: no answer by UDP".to_owned(),
        };
        let tcp = match service.tcp {
            Some(true) => "; TCP too",
            Some(false) => "; no TCP",
            None => "",
        };
        let _ = writeln!(text, "{:<13} {}  {answer}{tcp}", service.service.to_uppercase(), service.place);
    }
    for service in
        ["AS", "NMS", "TRS"].iter().filter(|name| !known.services.iter().any(|s| s.service.eq_ignore_ascii_case(name)))
    {
        let why = if *service == "TRS" {
            "no relayed tunnel, and no survey, has named it yet"
        } else {
            "the AS names it at the login"
        };
        let _ = writeln!(text, "{service:<13} unknown: {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Family, Service};
    use super::*;

    #[test]
    fn what_is_not_known_of_a_network_is_called_unknown() {
        let text = network(&Netcheck::default());
        assert_eq!(text.matches("unknown").count(), 1 + 2 + 2 * 4 + 3, "{text}");
        assert!(text.contains("TRS           unknown: no relayed tunnel"), "{text}");
        let family = Family {
            addresses: vec!["2001:db8::5".parse().unwrap()],
            udp: Some(true),
            mtu: Some(1500),
            ..Family::default()
        };
        let service = |service: &str, place: &str, rtt_ms: Option<f64>| Service {
            service: service.into(),
            place: place.parse().unwrap(),
            udp: Some(rtt_ms.is_some()),
            tcp: (service == "as").then_some(true),
            rtt_ms,
            mtu: rtt_ms.map(|_| 1500),
        };
        let services = vec![service("as", "[2001:db8::2]:443", Some(1.26)), service("nms", "192.0.2.3:443", None)];
        let text = network(&Netcheck { ipv6: family, services, udp_443: Some(true), ..Netcheck::default() });
        for line in [
            "UDP 443       open",
            "TCP 443       unknown",
            "IPv6          2001:db8::5\n  UDP         gets through\n",
            "  MTU         1500\n",
            "AS            [2001:db8::2]:443  answers in 1.26 ms, MTU 1500; TCP too\n",
            "NMS           192.0.2.3:443  RTT unknown: no answer by UDP\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn who_may_not_ask_is_told_to_use_sudo_and_not_that_no_node_runs() {
        let failure = lost(Path::new("node.sock"), &std::io::ErrorKind::PermissionDenied.into());
        assert_eq!(failure.code, Code::Permission);
        assert!(failure.to_string().contains("permission denied") && failure.remedy().contains("sudo"));
    }

    #[test]
    fn where_no_node_listens_the_error_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let failure = status(&folder.path().join("none.sock"), false).unwrap_err();
        assert_eq!(failure.code, Code::NotRunning);
        assert!(failure.remedy().contains("cyphonic node"));
    }
}
