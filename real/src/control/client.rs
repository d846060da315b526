//! The side of the person who asks.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Nms, Pong, Question, Status};
use crate::error::{Code, Failure};
use crate::files;

/// A route may take its time the first time, see [`cyphonic_core::node::ROUTE_TIMEOUT`].
const PATIENCE: Duration = Duration::from_secs(15);

fn ask(socket: &Path, question: &Question) -> Result<Answer, Failure> {
    let lost = |error: std::io::Error| lost(socket, &error);
    let mut stream = UnixStream::connect(socket).map_err(lost)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    let mut line = serde_json::to_string(question).map_err(Failure::other)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(lost)?;
    let mut answer = String::new();
    match BufReader::new(&stream).read_line(&mut answer) {
        Ok(0) => Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => understand(&answer),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            let remedy = "is the peer running? `cyphonic status` shows how this node stands";
            Err(Failure::new(Code::Unreachable, "no answer in time", remedy))
        }
        Err(error) => Err(lost(error)),
    }
}

pub(super) fn lost(socket: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{}: no node answers: {error}", socket.display());
    let remedy = "start it with `cyphonic node`, as this user or root; --control says which socket";
    Failure::new(Code::NotRunning, what, remedy)
}

pub(super) fn understand(answer: &str) -> Result<Answer, Failure> {
    serde_json::from_str(answer).map_err(|error| {
        Failure::new(Code::Other, format!("the node's answer is not understood: {error}"), "use the same version")
    })
}

pub(super) fn refused(what: String, remedy: String) -> Failure {
    Failure::new(Code::Unreachable, what, remedy)
}

pub(super) fn unexpected() -> Failure {
    Failure::new(Code::Other, "the node answered something else", "use the same version of cyphonic")
}

fn ask_status(socket: &Path) -> Result<Status, Failure> {
    match ask(socket, &Question::Status)? {
        Answer::Status(status) => Ok(*status),
        Answer::Error { what, remedy } => Err(refused(what, remedy)),
        Answer::Pong(_) | Answer::Capturing => Err(unexpected()),
    }
}

/// `cyphonic status`.
pub fn status(socket: &Path, json: bool) -> Result<String, Failure> {
    let status = ask_status(socket)?;
    if json {
        return serde_json::to_string_pretty(&status).map_err(Failure::other);
    }
    Ok(describe(&status))
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
    let papers = status
        .certificate_ends
        .map(|ends| format!("  papers   {}\n", files::ending(files::since_epoch(), Duration::from_secs(ends))));
    let papers = papers.unwrap_or_default();
    let mut text = format!(
        "{}  {} ({}, up {} s)\n{remedy}  virtual  {} on {}\n  real     {} port {}\n{papers}{nms}",
        status.name,
        standing,
        status.method,
        status.uptime_s,
        join(&status.virtual_addresses),
        status.tun,
        join(&status.addresses),
        status.port
    );
    if status.peers.is_empty() {
        text.push_str("no peers\n");
    }
    for peer in &status.peers {
        let way = match (&peer.via, &peer.remote, peer.pattern) {
            (Some(via), Some(remote), Some(pattern)) => format!("via {via} {remote}, pattern {pattern}"),
            _ => "no tunnel yet".to_owned(),
        };
        let rtt = peer.rtt_ms.map(|rtt| format!(", {rtt:.1} ms")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{}  {way}{rtt}\n  virtual  {}\n  bytes    {} sent, {} received",
            peer.peer,
            join(&peer.virtual_addresses),
            peer.sent_bytes,
            peer.received_bytes
        );
    }
    text
}

/// How the NMS is heard, in words.
fn hearing(nms: &Nms) -> String {
    if nms.is_silent() {
        format!(
            "{} has been silent for {:.0} s and is given up after {:.0} s; tunnels live on meanwhile, new ones have to wait",
            nms.remote, nms.silent_s, nms.lost_after_s
        )
    } else {
        format!("{}, heard {:.1} s ago", nms.remote, nms.silent_s)
    }
}

/// `cyphonic ping`, once; the line to print.
pub fn ping(socket: &Path, name: &str) -> Result<String, Failure> {
    match ask(socket, &Question::Ping { name: name.to_owned() })? {
        Answer::Pong(pong) => Ok(line(&pong)),
        Answer::Error { what, remedy } => Err(refused(what, remedy)),
        Answer::Status(_) | Answer::Capturing => Err(unexpected()),
    }
}

fn line(pong: &Pong) -> String {
    let Pong { peer, address, via, remote, rtt_ms } = pong;
    let short = peer.split('.').next().unwrap_or(peer);
    format!("pong from {short} ({address}) via {via} {remote} in {rtt_ms:.1}ms")
}

/// `cyphonic netcheck`: what is known of this machine's network.
pub fn netcheck(socket: &Path) -> Result<String, Failure> {
    let status = ask_status(socket)?;
    let family = |v6: bool| {
        let found: Vec<_> = status.addresses.iter().filter(|address| address.is_ipv6() == v6).collect();
        if found.is_empty() { "none".to_owned() } else { join(&found) }
    };
    let nat = match status.nat {
        Some(true) => "yes: the NMS sees another address or port than this node's own",
        Some(false) => "no: the NMS sees this node's own address and port",
        None => "not known: the node was never registered",
    };
    let registered = match (&status.trouble, status.registered) {
        (_, true) => "yes".to_owned(),
        (Some(trouble), false) => {
            let remedy = status.remedy.as_deref().unwrap_or("look at the node's log");
            format!("no: {trouble}\nremedy        {remedy}")
        }
        (None, false) => "no".to_owned(),
    };
    let nms = status.nms.as_ref().map_or_else(|| "no way to it".to_owned(), hearing);
    let relayed = status.peers.iter().filter(|peer| peer.via.as_deref() == Some("trs")).count();
    let direct = status.peers.iter().filter(|peer| peer.via.as_deref() == Some("direct")).count();
    let mut learnt = String::new();
    for (family, how) in &status.network_behaviour {
        let _ = writeln!(learnt, "{family:<13} {how}");
    }
    if learnt.is_empty() {
        learnt.push_str("network       not surveyed; it is where the NMS has `policy = \"optimal\"`\n");
    }
    Ok(format!(
        "registered    {registered}\nNMS           {nms}\nIPv6          {}\nIPv4          {}\nUDP port      {}\nNAT           {nat}\ntunnels       {direct} direct, {relayed} via the TRS\n{learnt}",
        family(true),
        family(false),
        status.port
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_reads_as_promised() {
        let pong = Pong {
            peer: "b.cyphonic.test".into(),
            address: "198.18.0.3".parse().unwrap(),
            via: "direct".into(),
            remote: "[2001:db8::6]:443".parse().unwrap(),
            rtt_ms: 1.24,
        };
        assert_eq!(line(&pong), "pong from b (198.18.0.3) via direct [2001:db8::6]:443 in 1.2ms");
    }

    #[test]
    fn where_no_node_listens_the_error_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let failure = status(&folder.path().join("none.sock"), false).unwrap_err();
        assert_eq!(failure.code, Code::NotRunning);
        assert!(failure.remedy().contains("cyphonic node"));
    }
}
