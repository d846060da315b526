//! The node: the role, its virtual interface, and those who ask it things.

mod standing;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::dns;
use cyphonic_core::event::{Event, Failure as Reason};
use cyphonic_core::machine::{Input, Machine};
use cyphonic_core::method::Method;
use cyphonic_core::name::{Fqdn, Party, Virtual};
use cyphonic_core::node::{Node, NodeCommand, Overlay};
use cyphonic_core::packet;
use cyphonic_core::route::Pattern;
use cyphonic_core::route::optimal::Behaviour;
use cyphonic_core::time::Instant;
use cyphonic_core::tls::Roots;
use tokio::sync::{Mutex, mpsc, oneshot};

use self::standing::{behaviour, both, milliseconds};
use super::capture::Capture;
use super::dns::{self as system_dns, Resolver};
use super::metrics::{self, Page, Traffic};
use super::netcheck;
use super::patience;
use super::plan::{Plan, plan};
use super::privileges;
use super::report::Report;
use super::secrets::Kept;
use super::trouble::{self, Facts, Failed, Trouble};
use super::{expiry, ready, stopped};
use crate::control::{Answer, Asked, ControlSocket, DEFAULT_SOCKET, Next, Pong, Question, Reply, Status};
use crate::drive::{Clock, Driver, Passing, PortUse, Shell, Streams, Tun, Udp};
use crate::error::{Code, Failure};
use crate::files;
use crate::net::{self, Network};
use crate::settings::{Dns, NodeSettings};

/// The port from which the shell itself asks for names. Applications may have it too: answers carry our number.
const ASK_PORT: u16 = 53;
/// Most pings under way.
const PINGS: usize = 256;
/// Most captures under way.
const CAPTURES: usize = 4;
/// For how long the NMS may be silent in the conventional method: until the next Keep Alive, and what that is tried.
const SEALED_PATIENCE: Duration = Duration::from_secs(7);
/// How long a ping is waited for.
const PING_TIMEOUT: Duration = Duration::from_secs(14);

/// What the node is asked by others than the network.
enum Request {
    Asked(Asked),
    Addresses(Vec<IpAddr>),
    Trust(Roots),
    Revoked(Vec<Fqdn>),
    Metrics(metrics::Asked),
    /// Whether the AS answers by TCP, asked because it did not by UDP.
    Probed(bool),
}

/// A ping under way, by its number.
struct Ping {
    name: Fqdn,
    address: Option<Ipv4Addr>,
    /// When the query, then the echo request, went out.
    since: Instant,
    /// Why there is no tunnel, as far as it was heard.
    reason: Option<Reason>,
    reply: oneshot::Sender<Reply>,
}

struct Shown {
    name: Fqdn,
    method: Method,
    port: u16,
    tun: String,
}

struct NodeShell {
    shown: Shown,
    overlay: Overlay,
    report: Report,
    network: Arc<Mutex<Network>>,
    resolver: Resolver,
    addresses: Vec<IpAddr>,
    nat64: Option<Ipv6Addr>,
    own: Option<Virtual>,
    nat: Option<bool>,
    facts: Facts,
    /// Why there is no registration, as the role and in words.
    trouble: Option<(Failed, Trouble)>,
    registered: bool,
    /// For how long the NMS may be silent.
    patience: Duration,
    /// Asks itself something later.
    later: mpsc::Sender<Request>,
    network_behaviour: BTreeMap<String, String>,
    /// Of IPv6 and IPv4.
    behaviours: [Option<Behaviour>; 2],
    /// Why peers are still reached through the TRS, as far as a direct way was tried.
    still_relayed: BTreeMap<String, Reason>,
    configured: Option<Virtual>,
    ready: bool,
    pings: BTreeMap<u16, Ping>,
    next_ping: u16,
    outbox: Vec<Bytes>,
    /// (number, answered from where): pongs that wait for a look at the machine.
    pongs: Vec<(u16, Instant)>,
    /// Pings whose peer has no address, until the reason was heard.
    unreached: Vec<u16>,
    /// Where captures are allowed.
    secrets: Option<Arc<Kept>>,
    captures: Vec<Capture>,
    traffic: Traffic,
}

impl Shell for NodeShell {
    type Machine = Node;
    type Request = Request;

    fn sees(&mut self, passing: &Passing<'_>) {
        self.traffic.count(passing);
        for capture in &mut self.captures {
            capture.take(passing);
        }
    }

    fn event(&mut self, machine: &Node, now: Instant, event: Event) {
        match &event {
            Event::Registered { addresses, nat } => {
                self.own = Some(*addresses);
                self.nat = Some(*nat);
                self.trouble = None;
                self.registered = true;
            }
            Event::Surveyed(report) => {
                self.behaviours = [report.v6, report.v4];
                let families = [("IPv6", report.v6), ("IPv4", report.v4)];
                let known = families.into_iter().filter_map(|(family, how)| Some((family.to_owned(), behaviour(how?))));
                self.network_behaviour = known.collect();
            }
            Event::Unregistered { reason } => {
                let stood = std::mem::take(&mut self.registered);
                if stood {
                    self.facts.lost(now);
                }
                let failed = Failed { reason: reason.clone(), with: machine.trouble_with().cloned(), stood };
                if failed.reason == Reason::Timeout
                    && failed.with == Some(Party::As)
                    && self.shown.method == Method::Proposed
                {
                    self.probe();
                }
                self.explain(now, failed, None);
            }
            Event::StillRelayed { peer, reason } => {
                self.still_relayed.insert(peer.clone(), reason.clone());
            }
            Event::TunnelUp(up) if up.pattern != Pattern::Relayed => {
                self.still_relayed.remove(up.peer.as_str());
            }
            Event::TunnelDown { peer, reason } => {
                self.still_relayed.remove(peer);
                for ping in self.pings.values_mut().filter(|ping| ping.name.as_str() == peer) {
                    ping.reason = Some(reason.clone());
                }
            }
            _ => {}
        }
        self.report.event(&event);
    }

    fn takes(&mut self, now: Instant, packet: &Bytes) -> bool {
        if self.pings.is_empty() {
            return false;
        }
        if let Some(number) = echo_reply(packet) {
            let ours = self.pings.get(&number).is_some_and(|ping| ping.address == source_v4(packet));
            if ours {
                self.pongs.push((number, now));
            }
            return ours;
        }
        let Some(udp) = packet::udp(packet) else { return false };
        if udp.destination.port() != ASK_PORT || !self.overlay.is_dns(udp.source.ip()) {
            return false;
        }
        let Ok((number, _, address)) = dns::parse_answer(udp.payload) else { return false };
        if self.pings.get(&number).is_none_or(|ping| ping.address.is_some()) {
            return false;
        }
        match address {
            Some(IpAddr::V4(address)) => self.send_echo(now, number, address),
            _ => self.unreached.push(number),
        }
        true
    }

    fn request(&mut self, machine: &mut Node, now: Instant, request: Request, inputs: &mut Vec<Input<NodeCommand>>) {
        match request {
            Request::Addresses(addresses) => {
                if addresses != self.addresses {
                    tracing::info!(?addresses, "this machine's addresses have changed");
                    self.addresses.clone_from(&addresses);
                    let nat64 = self.nat64;
                    inputs.push(Input::Command(NodeCommand::Network { addresses, nat64 }));
                }
            }
            Request::Probed(tcp) => {
                let failed = self.trouble.as_ref().map(|(failed, _)| failed.clone());
                if let Some(failed) = failed.filter(|failed| failed.reason == Reason::Timeout) {
                    self.explain(now, failed, Some(tcp));
                }
            }
            Request::Revoked(names) => inputs.push(Input::Command(NodeCommand::Revoked(names))),
            Request::Trust(roots) => inputs.push(Input::Command(NodeCommand::Trust(roots))),
            Request::Metrics(asked) => {
                let _ = asked.send(self.metrics(machine, now));
            }
            Request::Asked((Question::Status, reply)) => {
                let _ = reply.send(Answer::Status(Box::new(self.status(machine, now))).into());
            }
            Request::Asked((Question::Netcheck, reply)) => {
                let (known, targets) = self.netcheck(machine, now);
                tokio::spawn(async move {
                    let known = netcheck::complete(known, targets).await;
                    let _ = reply.send(Answer::Netcheck(Box::new(known)).into());
                });
            }
            Request::Asked((Question::Ping { name }, reply)) => self.ping(machine, now, &name, reply),
            Request::Asked((Question::Capture { rebuild }, reply)) => {
                let answer = self.capture();
                if rebuild && answer.then.is_some() {
                    // No network, and the same one again.
                    for addresses in [Vec::new(), self.addresses.clone()] {
                        inputs.push(Input::Command(NodeCommand::Network { addresses, nat64: self.nat64 }));
                    }
                }
                let _ = reply.send(answer);
            }
        }
    }

    fn follow_up(&mut self, machine: &Node) -> Option<Bytes> {
        self.captures.retain_mut(Capture::flush);
        while let Some(number) = self.unreached.pop() {
            let Some(ping) = self.pings.remove(&number) else { continue };
            let Trouble { what, remedy } = trouble::unreached(&ping.name, ping.reason.as_ref());
            let _ = ping.reply.send(Answer::Error { code: Code::Unreachable, what, remedy }.into());
        }
        while let Some((number, at)) = self.pongs.pop() {
            let Some(ping) = self.pings.remove(&number) else { continue };
            let Some(address) = ping.address else { continue };
            let peers = machine.peers();
            let tunnel = peers
                .iter()
                .find(|peer| peer.addresses.is_some_and(|known| known.v4 == address))
                .and_then(|peer| peer.tunnel.as_ref());
            let answer = match tunnel {
                Some(tunnel) => Answer::Pong(Pong {
                    peer: ping.name.to_string(),
                    address: address.into(),
                    via: via(tunnel.relayed).to_owned(),
                    remote: tunnel.remote,
                    rtt_ms: milliseconds(at - ping.since),
                }),
                None => Answer::Error {
                    code: Code::Unreachable,
                    what: "the tunnel is gone".into(),
                    remedy: "try again".into(),
                },
            };
            let _ = ping.reply.send(answer.into());
        }
        self.outbox.pop()
    }

    async fn after(&mut self) -> Result<(), Failure> {
        let Some(own) = self.own else { return Ok(()) };
        if self.configured != Some(own) {
            self.network.lock().await.configure(own, &self.overlay).await?;
            self.configured = Some(own);
            self.resolver.install();
        }
        if !self.ready {
            self.ready = true;
            ready(&format!("registered as {} {}", own.v4, own.v6));
        }
        Ok(())
    }
}

fn via(relayed: bool) -> &'static str {
    if relayed { "trs" } else { "direct" }
}

impl NodeShell {
    /// Says why there is no registration, once for each different reason.
    fn explain(&mut self, now: Instant, failed: Failed, tcp: Option<bool>) {
        let trouble = self.facts.explain(now, &failed, tcp);
        let known = self.trouble.as_ref().is_some_and(|(_, known)| *known == trouble);
        if known {
            tracing::debug!(reason = %trouble.what, "still not registered");
        } else {
            tracing::warn!(reason = %trouble.what, remedy = %trouble.remedy, "not registered; trying again");
        }
        self.trouble = Some((failed, trouble));
    }

    /// Finds out whether TCP gets through to the AS.
    fn probe(&self) {
        let (places, later) = (self.facts.auth.clone(), self.later.clone());
        tokio::spawn(async move {
            let tcp = trouble::answers_by_tcp(places).await;
            let _ = later.send(Request::Probed(tcp)).await;
        });
    }

    fn status(&self, machine: &Node, now: Instant) -> Status {
        Status {
            name: self.shown.name.to_string(),
            method: self.shown.method.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: (now - Instant::ZERO).as_secs(),
            registered: machine.is_registered(),
            nat: self.nat,
            trouble: self.trouble.as_ref().map(|(_, trouble)| trouble.what.clone()),
            remedy: self.trouble.as_ref().map(|(_, trouble)| trouble.remedy.clone()),
            certificate_ends: self.facts.certificate_ends().map(|ends| ends.as_secs()),
            nms: self.nms(machine, now),
            network_behaviour: self.network_behaviour.clone(),
            virtual_addresses: self.own.map(both).unwrap_or_default(),
            addresses: self.addresses.clone(),
            port: self.shown.port,
            tun: self.shown.tun.clone(),
            peers: machine.peers().iter().map(|status| self.peer(now, status)).collect(),
            dropped: self.report.drops().into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            next: machine
                .next_timer()
                .map(|due| Next { timer: due.timer.to_string(), in_s: due.at.saturating_since(now).as_secs_f64() }),
        }
    }

    fn metrics(&self, machine: &Node, now: Instant) -> String {
        let mut page = Page::begin("node", self.shown.name.as_str(), now - Instant::ZERO, &self.traffic);
        self.report.on(&mut page);
        expiry::on(&mut page, self.facts.certificate_ends());
        let registered = f64::from(u8::from(machine.is_registered()));
        page.gauge("registered", "Whether the NMS knows where this node is.", [(Vec::new(), registered)]);
        let peers = machine.peers();
        let up =
            |relayed| peers.iter().filter_map(|peer| peer.tunnel.as_ref()).filter(|t| t.relayed == relayed).count();
        let tunnels = [false, true].map(|relayed| (vec![("via", via(relayed))], up(relayed) as f64));
        page.gauge("tunnels", "Tunnels that are up.", tunnels);
        let bytes = peers.iter().flat_map(|peer| {
            let row = |direction, bytes| (vec![("peer", peer.peer.as_str()), ("direction", direction)], bytes);
            [row("sent", peer.sent), row("received", peer.received)]
        });
        page.counter("peer_bytes_total", "Bytes of packets exchanged with a peer.", bytes);
        page.end()
    }

    fn capture(&mut self) -> Reply {
        let refuse = |code, what: &str, remedy: &str| {
            Answer::Error { code, what: what.to_owned(), remedy: remedy.to_owned() }.into()
        };
        let Some(secrets) = &self.secrets else {
            let remedy = "set `allow-capture = true` and start it again";
            return refuse(Code::Config, "this node allows no captures", remedy);
        };
        if self.captures.len() >= CAPTURES {
            return refuse(Code::Other, "too many captures are under way", "end one of them");
        }
        tracing::warn!("A CAPTURE BEGINS: all traffic of this node is shown in clear to who asked for it");
        let title = format!("{}, {} method", self.shown.name, self.shown.method.name());
        let (capture, pieces) = Capture::begin(&title, &self.shown.tun, secrets.clone());
        self.captures.push(capture);
        Reply { answer: Answer::Capturing, then: Some(pieces) }
    }

    fn ping(&mut self, machine: &Node, now: Instant, name: &str, reply: oneshot::Sender<Reply>) {
        self.pings.retain(|_, ping| now < ping.since + PING_TIMEOUT);
        let refuse = |reply: oneshot::Sender<Reply>, what: &str, remedy: &str| {
            let (code, what, remedy) = (Code::Unreachable, what.to_owned(), remedy.to_owned());
            let _ = reply.send(Answer::Error { code, what, remedy }.into());
        };
        // A short name is one of the zone.
        let full = if name.contains('.') { name.to_owned() } else { format!("{name}.{}", self.overlay.zone) };
        let Ok(name) = full.parse::<Fqdn>() else { return refuse(reply, "that is no name", "give a node's name") };
        let Some(own) = self.own else {
            let why =
                self.trouble.as_ref().map(|(_, trouble)| (format!(": {}", trouble.what), trouble.remedy.as_str()));
            let (why, remedy) = why.unwrap_or((String::new(), "wait a moment; `cyphonic status` says how it stands"));
            return refuse(reply, &format!("this node is not registered yet{why}"), remedy);
        };
        if name == self.shown.name {
            return refuse(reply, "that is this node itself", "give another node's name");
        }
        if self.pings.len() >= PINGS {
            return refuse(reply, "too many pings are under way", "wait a little");
        }
        let number = self.next_ping;
        self.next_ping = self.next_ping.wrapping_add(1);
        let text = name.to_string();
        let known = machine.peers().into_iter().find(|peer| peer.peer == text && peer.tunnel.is_some());
        let address = known.and_then(|peer| peer.addresses).map(|addresses| addresses.v4);
        self.pings.insert(number, Ping { name: name.clone(), address: None, since: now, reason: None, reply });
        if let Some(address) = address {
            return self.send_echo(now, number, address);
        }
        let query = dns::query(number, &name, dns::QueryKind::A);
        let from = SocketAddr::new(own.v4.into(), ASK_PORT);
        let to = SocketAddr::new(self.overlay.dns_v4.into(), dns::PORT);
        self.outbox.extend(packet::build_udp(from, to, &query).map(Bytes::from));
    }

    fn send_echo(&mut self, now: Instant, number: u16, address: Ipv4Addr) {
        let (Some(own), Some(ping)) = (self.own, self.pings.get_mut(&number)) else { return };
        ping.address = Some(address);
        ping.since = now;
        let builder =
            etherparse::PacketBuilder::ipv4(own.v4.octets(), address.octets(), 64).icmpv4_echo_request(ECHO_ID, number);
        let mut packet = Vec::with_capacity(64);
        if builder.write(&mut packet, b"cyphonic ping").is_ok() {
            self.outbox.push(packet.into());
        }
    }
}

/// Marks our own echo requests.
const ECHO_ID: u16 = 0xc1f0;

/// The number of an ICMP echo reply to one of ours.
fn echo_reply(packet: &[u8]) -> Option<u16> {
    let headers = etherparse::SlicedPacket::from_ip(packet).ok()?;
    let etherparse::TransportSlice::Icmpv4(icmp) = headers.transport? else { return None };
    match icmp.icmp_type() {
        etherparse::Icmpv4Type::EchoReply(echo) if echo.id == ECHO_ID => Some(echo.seq),
        _ => None,
    }
}

fn source_v4(packet: &[u8]) -> Option<Ipv4Addr> {
    packet.get(12..16).map(|bytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
}

/// Runs a node until it is stopped.
pub async fn run(settings: NodeSettings) -> Result<(), Failure> {
    let event_log = settings.event_log.clone();
    let control = settings.control.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
    if settings.dns == Some(Dns::ResolvConf) && std::os::unix::net::UnixStream::connect(&control).is_err() {
        system_dns::clean_up();
    }
    let Plan { config, certificate, listen, tun, mtu, resolver, fixed_addresses, secrets, trust, metrics } =
        patience::until_it_can_begin(&control, move || plan(settings.clone())).await?;
    let port_use = match config.method {
        Method::Conventional => PortUse::Conventional,
        Method::Proposed => PortUse::Quic,
    };
    let udp = Udp::bind(&listen, &[(config.port, port_use)])?;
    let device = Tun::new(&tun, mtu)?;
    let network = Arc::new(Mutex::new(Network::find(&tun).await?));
    net::keep(network.clone())?;
    let (sender, requests) = mpsc::channel(64);
    let (ask, asked) = mpsc::channel(16);
    let _control = ControlSocket::listen(&control, ask)?;
    tokio::spawn(forward(asked, sender.clone()));
    metrics::serve(metrics, sender.clone(), Request::Metrics).await?;
    let report = Report::new(&Party::Node(config.name.clone()), event_log.as_deref())?;
    let later: Vec<_> = trust.later().into_iter().chain(resolver.later()).collect();
    privileges::give_up(privileges::NODE, &later).await?;
    trust.watch(sender.clone(), Request::Trust, Some(Request::Revoked))?;
    if !fixed_addresses {
        follow_addresses(config.services.as_addresses.clone(), config.overlay.clone(), sender.clone())?;
    }
    if config.addresses.is_empty() {
        tracing::warn!("this machine has no address from which the AS could be reached; waiting for one");
    }
    let (name, method, port, framing) = (config.name.clone(), config.method, config.port, config.framing);
    let (addresses, nat64, overlay) = (config.addresses.clone(), config.nat64, config.overlay.clone());
    let identity = config.identity.as_ref().and_then(|identity| identity.chain.first());
    let dates = identity.map(|own| (certificate.clone(), files::Span::of(own)));
    let facts = Facts::new(name.clone(), method, config.services.as_addresses.clone(), dates);
    if let Some(ends) = facts.certificate_ends() {
        expiry::watch(name.clone(), ends);
    }
    let patience = if method == Method::Proposed { config.quic.idle_timeout } else { SEALED_PATIENCE };
    let machine = Node::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    tracing::info!(%name, method = method.name(), framing = framing.name(), ?addresses, port, %tun, "starting");
    let shell = NodeShell {
        shown: Shown { name, method, port, tun },
        overlay,
        report,
        network,
        resolver,
        addresses,
        nat64,
        own: None,
        nat: None,
        facts,
        trouble: None,
        registered: false,
        patience,
        later: sender,
        network_behaviour: BTreeMap::new(),
        behaviours: [None, None],
        still_relayed: BTreeMap::new(),
        configured: None,
        ready: false,
        pings: BTreeMap::new(),
        next_ping: 0,
        outbox: Vec::new(),
        pongs: Vec::new(),
        unreached: Vec::new(),
        secrets,
        captures: Vec::new(),
        traffic: Traffic::default(),
    };
    let mut driver = Driver::new(machine, shell, Clock::start(), udp, Streams::outgoing(), Some(device), requests);
    driver.command(NodeCommand::Start);
    let result = driver.run(stopped());
    driver.finish(NodeCommand::Stop);
    driver.shell_mut().resolver.restore();
    result
}

async fn forward(mut asked: mpsc::Receiver<Asked>, sender: mpsc::Sender<Request>) {
    while let Some(asked) = asked.recv().await {
        if sender.send(Request::Asked(asked)).await.is_err() {
            return;
        }
    }
}

/// Tells the node its addresses whenever the machine's have changed.
fn follow_addresses(targets: Vec<SocketAddr>, overlay: Overlay, sender: mpsc::Sender<Request>) -> Result<(), Failure> {
    let mut changes = net::watch()?;
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            let addresses = net::source_addresses(&targets, &overlay);
            if sender.send(Request::Addresses(addresses)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_reply_is_recognised_by_our_mark_only() {
        let build = |id| {
            let mut packet = Vec::new();
            etherparse::PacketBuilder::ipv4([198, 18, 0, 11], [198, 18, 0, 10], 64)
                .icmpv4_echo_reply(id, 7)
                .write(&mut packet, b"x")
                .unwrap();
            packet
        };
        assert_eq!(echo_reply(&build(ECHO_ID)), Some(7));
        assert_eq!(echo_reply(&build(1)), None);
        assert_eq!(echo_reply(b"junk"), None);
        assert_eq!(source_v4(&build(1)), Some(Ipv4Addr::new(198, 18, 0, 11)));
    }
}
