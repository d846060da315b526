//! `cyphonic netcheck`: what a node's network lets through, as far as the node can find out.
//!
//! The role knows registration, NAT, mapping, filtering and the NMS's silence. The rest is asked now, from a port of
//! its own. Each service gets a packet of a QUIC version that does not exist, and answers with the versions that it
//! has, as every QUIC server can (RFC 9000 §6). That changes nothing at the service, and needs neither key nor
//! certificate. The time until the answer is the round trip. Packets of several sizes, sent unfragmented, give the
//! path's MTU. TCP is tried at the AS, which takes it.
//!
//! Nothing is guessed. A service that does not answer may be down. UDP is called blocked only if TCP gets through to
//! the same address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::control::{Family, Netcheck, Service};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(700);
/// Tries of one question. The round trip is the shortest of as many answers.
const TRIES: usize = 3;
/// How long the search for the largest packet may take.
const SEARCH: Duration = Duration::from_secs(8);
/// The largest packet that is tried, bytes of IP: the MTU of Ethernet.
const LARGEST: usize = 1500;
/// The smallest size of QUIC's first packet, bytes of UDP payload (RFC 9000 §14.1).
const SMALLEST: usize = 1200;
/// Length of connection IDs, bytes.
const CID: usize = 8;
/// A version reserved for forcing version negotiation (RFC 9000 §15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// The port of HTTP/3, which the proposed method uses too.
const HTTPS: u16 = 443;

/// An address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// "as", "nms" or "trs".
    pub(super) service: &'static str,
    /// The address to ask.
    pub(super) place: SocketAddr,
    /// Whether it takes TCP connections.
    pub(super) tcp: bool,
    /// Whether this machine has an address of its family.
    pub(super) own: bool,
}

/// The addresses of a service, each once, as a machine with these addresses can reach them.
pub(super) fn targets(
    service: &'static str,
    places: impl IntoIterator<Item = SocketAddr>,
    own: &[IpAddr],
    nat64: Option<Ipv6Addr>,
) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for place in places {
        let ip = match (place.ip(), nat64) {
            (IpAddr::V4(v4), Some(prefix)) if !own.iter().any(IpAddr::is_ipv4) => {
                Ipv6Addr::from_bits(prefix.to_bits() >> 32 << 32 | u128::from(v4.to_bits())).into()
            }
            (ip, _) => ip,
        };
        let has_family = own.iter().any(|own| own.is_ipv6() == ip.is_ipv6());
        let target =
            Target { service, place: SocketAddr::new(ip, place.port()), tcp: service == "as", own: has_family };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// Asks every service at once, and adds the answers to what is known.
pub(super) async fn complete(mut known: Netcheck, targets: Vec<Target>) -> Netcheck {
    let asked: Vec<_> = targets.into_iter().map(|target| tokio::spawn(ask(target))).collect();
    for one in asked {
        known.services.extend(one.await);
    }
    conclude(&mut known);
    known
}

/// Draws the conclusions from the services' answers.
fn conclude(known: &mut Netcheck) {
    let services = &known.services;
    let udp = |of: &dyn Fn(&&Service) -> bool| {
        let blocked = services.iter().filter(of).any(|service| service.tcp == Some(true));
        let answers = services.iter().filter(of).any(|service| service.udp == Some(true));
        answers.then_some(true).or(blocked.then_some(false))
    };
    let mtu = |v6| services.iter().filter(|one| one.place.is_ipv6() == v6).filter_map(|one| one.mtu).min();
    let complete = |family: &mut Family, v6: bool| {
        family.udp = udp(&|one| one.place.is_ipv6() == v6);
        family.mtu = mtu(v6);
    };
    complete(&mut known.ipv6, true);
    complete(&mut known.ipv4, false);
    known.udp_443 = udp(&|one| one.place.port() == HTTPS);
    let tcp: Vec<_> = services.iter().filter(|one| one.place.port() == HTTPS).filter_map(|one| one.tcp).collect();
    // A service that takes no TCP connection may be down.
    known.tcp_443 = tcp.contains(&true).then_some(true);
    if known.tcp_443.is_none() && !tcp.is_empty() && known.udp_443 == Some(true) {
        // UDP reaches the same machine, so TCP is blocked.
        let there = |one: &Service| one.tcp == Some(false) && one.udp == Some(true) && one.place.port() == HTTPS;
        known.tcp_443 = services.iter().any(there).then_some(false);
    }
}

async fn ask(target: Target) -> Service {
    let Target { service, place, tcp, own } = target;
    if !own {
        return Service { service: service.to_owned(), place, udp: None, tcp: None, rtt_ms: None, mtu: None };
    }
    let tcp = async {
        if tcp { Some(matches!(timeout(PATIENCE * 2, TcpStream::connect(place)).await, Ok(Ok(_)))) } else { None }
    };
    let (tcp, udp) = tokio::join!(tcp, measure(place));
    let (rtt, mtu) = udp.ok().flatten().unzip();
    Service {
        service: service.to_owned(),
        place,
        udp: Some(rtt.is_some()),
        tcp,
        rtt_ms: rtt.map(|rtt: Duration| rtt.as_secs_f64() * 1e3),
        mtu: mtu.flatten(),
    }
}

/// The shortest round trip, and the largest packet that arrives, if the search ends in time. None if nobody answers.
async fn measure(place: SocketAddr) -> io::Result<Option<(Duration, Option<u16>)>> {
    let socket = socket(place)?;
    let mut shortest = None;
    for _ in 0..TRIES {
        let took = question(&socket, SMALLEST, PATIENCE).await?;
        shortest = took.into_iter().chain(shortest).min();
    }
    let Some(rtt) = shortest else { return Ok(None) };
    let headers = if place.is_ipv6() { 48 } else { 28 };
    let mtu = timeout(SEARCH, largest(&socket, headers, rtt)).await;
    Ok(Some((rtt, mtu.ok().transpose()?)))
}

/// The largest packet that arrives, bytes of IP.
async fn largest(socket: &UdpSocket, headers: usize, rtt: Duration) -> io::Result<u16> {
    let patience = (rtt * 3).clamp(Duration::from_millis(50), PATIENCE);
    // `fits` arrives. `too_large` does not, or is more than is tried.
    let (mut fits, mut too_large) = (SMALLEST, LARGEST - headers + 1);
    let mut size = LARGEST - headers;
    while fits + 1 < too_large {
        let mut got = false;
        for _ in 0..TRIES {
            got = got || question(socket, size, patience).await?.is_some();
        }
        if got {
            fits = size;
        } else {
            too_large = size;
        }
        size = usize::midpoint(fits, too_large);
    }
    Ok(u16::try_from(fits + headers).unwrap_or(u16::MAX))
}

/// A socket that never fragments, whatever path MTU the system assumes.
fn socket(place: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if place.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    if place.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
    } else {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
    }
    socket.connect(place)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// How long the answer took, if one came in time.
async fn question(socket: &UdpSocket, size: usize, patience: Duration) -> io::Result<Option<Duration>> {
    let mut cids = [0; 2 * CID];
    getrandom::fill(&mut cids).map_err(io::Error::other)?;
    let (theirs, ours) = cids.split_at(CID);
    let begun = Instant::now();
    // An ICMP error of an earlier packet shows here. A packet too large for the interface counts as too large for the
    // path.
    if socket.send(&packet(theirs, ours, size)).await.is_err() {
        return Ok(None);
    }
    let mut answer = [0; 256];
    let got = async {
        loop {
            match socket.recv(&mut answer).await {
                Ok(length) if is_answer(&answer[..length], ours) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    Ok(timeout(patience, got).await.unwrap_or(false).then(|| begun.elapsed()))
}

/// A long header (RFC 8999 §5.1) of a version that does not exist, with padding behind it.
fn packet(theirs: &[u8], ours: &[u8], size: usize) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend_from_slice(&NO_VERSION);
    for cid in [theirs, ours] {
        packet.push(cid.len() as u8);
        packet.extend_from_slice(cid);
    }
    packet.resize(size, 0);
    packet
}

/// Whether this is a Version Negotiation packet (RFC 8999 §6) for our connection ID.
fn is_answer(datagram: &[u8], ours: &[u8]) -> bool {
    let is_negotiation = matches!(datagram, [first, 0, 0, 0, 0, ..] if first & 0x80 != 0);
    is_negotiation
        && datagram.get(5).is_some_and(|&length| usize::from(length) == ours.len())
        && datagram[6..].starts_with(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(place: &str, udp: bool, tcp: Option<bool>, mtu: Option<u16>) -> Service {
        Service { service: "as".into(), place: place.parse().unwrap(), udp: Some(udp), tcp, rtt_ms: None, mtu }
    }

    fn concluded(services: Vec<Service>) -> Netcheck {
        let mut known = Netcheck { services, ..Netcheck::default() };
        conclude(&mut known);
        known
    }

    #[test]
    fn silence_is_unknown_and_only_tcp_beside_it_makes_it_blocked() {
        let known = concluded(vec![service("192.0.2.2:443", false, Some(false), None)]);
        assert_eq!((known.ipv4.udp, known.ipv6.udp, known.udp_443, known.tcp_443), (None, None, None, None));
        let known = concluded(vec![service("192.0.2.2:443", false, Some(true), None)]);
        assert_eq!(
            (known.ipv4.udp, known.ipv6.udp, known.udp_443, known.tcp_443),
            (Some(false), None, Some(false), Some(true))
        );
        let known = concluded(vec![
            service("[2001:db8::2]:443", true, Some(false), Some(1480)),
            service("192.0.2.3:4443", true, None, Some(1500)),
        ]);
        assert_eq!(
            (known.ipv6.udp, known.ipv4.udp, known.udp_443, known.tcp_443),
            (Some(true), Some(true), Some(true), Some(false))
        );
        assert_eq!((known.ipv6.mtu, known.ipv4.mtu), (Some(1480), Some(1500)));
    }

    #[test]
    fn ipv4_places_are_asked_through_nat64_where_there_is_no_ipv4() {
        let places: [SocketAddr; 2] = ["192.0.2.2:443".parse().unwrap(), "192.0.2.2:443".parse().unwrap()];
        let own = ["2001:db8::5".parse().unwrap()];
        let found = targets("as", places, &own, Some("64:ff9b::".parse().unwrap()));
        assert_eq!(
            found,
            [Target { service: "as", place: "[64:ff9b::192.0.2.2]:443".parse().unwrap(), tcp: true, own: true }]
        );
        let both = ["2001:db8::5".parse().unwrap(), "192.0.2.5".parse().unwrap()];
        assert!(!targets("nms", places, &own, None)[0].own, "nothing leads there");
        assert_eq!(targets("nms", places, &both, Some("64:ff9b::".parse().unwrap()))[0].place, places[0]);
    }

    #[test]
    fn the_path_is_measured_by_who_answers_and_only_answers_to_us_count() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let place = server.local_addr().unwrap();
            // A QUIC server behind a path of 1,400 bytes, and an attacker that forges answers.
            tokio::spawn(async move {
                let mut buffer = [0; 2000];
                loop {
                    let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                    assert!(length >= SMALLEST && buffer[1..5] == NO_VERSION);
                    let forged = [&[0x80, 0, 0, 0, 0, 8][..], &[9; 8], &[8], &buffer[6..14], &[0, 0, 0, 1]].concat();
                    server.send_to(&forged, from).await.unwrap();
                    if length + 28 <= 1400 {
                        let answer =
                            [&[0x80, 0, 0, 0, 0, 8][..], &buffer[15..23], &[8], &buffer[6..14], &[0, 0, 0, 1]].concat();
                        server.send_to(&answer, from).await.unwrap();
                    }
                }
            });
            let (rtt, mtu) = measure(place).await.unwrap().unwrap();
            assert_eq!(mtu, Some(1400));
            assert!(rtt < PATIENCE);
            let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            assert!(measure(closed).await.unwrap().is_none());
        });
    }
}
