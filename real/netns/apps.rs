//! The applications of a scenario's steps, each a process of its own in a node's namespace: `ping`, and this program
//! again for TCP and UDP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Subcommand;
use cyphonic::error::{Code, Failure};
use cyphonic_scenarios::{Family, Probes};
use ring::digest::{Context, SHA256};

/// How long an echo waits for its answer: as in the simulator.
const ECHO_TIMEOUT_S: u32 = 10;
/// Bytes written at once.
const PIECE: usize = 1 << 16;

/// What this program does inside a namespace.
#[derive(Subcommand)]
pub(super) enum App {
    /// Takes one TCP connection's bytes and answers with their hash.
    Sink {
        /// Where it listens.
        port: u16,
        /// By which family.
        family: String,
    },
    /// Sends bytes to a sink; succeeds if all arrived.
    Send {
        /// The other node.
        name: String,
        /// Its sink's port.
        port: u16,
        /// By which family.
        family: String,
        /// How many.
        bytes: u64,
    },
    /// Sends UDP datagrams.
    Flow {
        /// The other node.
        name: String,
        /// Where to.
        port: u16,
        /// By which family.
        family: String,
        /// How many.
        count: u32,
        /// Time between two, microseconds.
        interval_us: u64,
        /// How long each is.
        payload: usize,
    },
}

impl App {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Sink { port, family } => sink(port, &family),
            Self::Send { name, port, family, bytes } => send(&name, port, &family, bytes),
            Self::Flow { name, port, family, count, interval_us, payload } => {
                flow(&name, port, &family, count, Duration::from_micros(interval_us), payload)
            }
        }
        .map_err(|error| Failure::new(Code::Unreachable, error.to_string(), "look at the nodes' logs"))
    }
}

/// `ping`, by name: complete when the last echo was answered or given up.
pub(super) fn ping(command: &mut Command, name: &str, probes: &Probes) -> io::Result<Child> {
    command.arg(if probes.pair.family == Family::Ipv6 { "-6" } else { "-4" });
    command.args(["-n", "-q", "-c", &probes.count.to_string(), "-s", &probes.payload_bytes.to_string()]);
    command.args(["-i", &probes.interval.as_secs_f64().to_string(), "-W", &ECHO_TIMEOUT_S.to_string(), name]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

/// How many echoes `ping` says were answered.
pub(super) fn answered(said: &str) -> usize {
    // 3 packets transmitted, 3 received, 0% packet loss, time 202ms
    let line = said.lines().find(|line| line.contains(" packets transmitted")).unwrap_or_default();
    let received = line.split(", ").find_map(|part| part.strip_suffix(" received"));
    received.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn sink(port: u16, family: &str) -> io::Result<()> {
    let any: IpAddr = if family == "ipv6" { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let listener = TcpListener::bind((any, port))?;
    // The parent process waits for this line.
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    let (mut hash, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
    loop {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return stream.write_all(hash.finish().as_ref());
        }
        hash.update(&piece[..length]);
    }
}

fn send(name: &str, port: u16, family: &str, bytes: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect(resolve(name, port, family)?)?;
    let (mut hash, mut left, mut piece) = (Context::new(&SHA256), bytes, vec![0; PIECE]);
    while left > 0 {
        let length = left.min(PIECE as u64) as usize;
        getrandom::fill(&mut piece[..length]).map_err(io::Error::other)?;
        hash.update(&piece[..length]);
        stream.write_all(&piece[..length])?;
        left -= length as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer == hash.finish().as_ref() { Ok(()) } else { Err(io::Error::other("other bytes arrived than were sent")) }
}

fn flow(name: &str, port: u16, family: &str, count: u32, interval: Duration, payload: usize) -> io::Result<()> {
    let to = resolve(name, port, family)?;
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    let begin = Instant::now();
    for number in 0..count {
        std::thread::sleep((begin + interval * number).saturating_duration_since(Instant::now()));
        socket.send_to(&vec![0; payload], to)?;
    }
    Ok(())
}

/// By the namespace's own resolver, which asks the node.
fn resolve(name: &str, port: u16, family: &str) -> io::Result<SocketAddr> {
    let mut found = (name, port).to_socket_addrs()?;
    found
        .find(|place| place.is_ipv6() == (family == "ipv6"))
        .ok_or_else(|| io::Error::other(format!("{name} has no {family}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ping_says_is_understood() {
        let said = "PING bob.cyphonic.test (198.18.0.11) 56(84) bytes of data.\n\n--- bob.cyphonic.test ping statistics ---\n\
                    3 packets transmitted, 2 received, 33.3333% packet loss, time 202ms\n";
        assert_eq!(answered(said), 2);
        assert_eq!(answered("ping: bob.cyphonic.test: Name or service not known\n"), 0);
    }
}
