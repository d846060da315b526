//! The node: the role, its virtual interface, and its control socket.
//!
//! The shell around the role has four parts. No part knows another one. What one part gives to another passes through
//! this file.

mod interface;
mod observed;
mod pings;
mod standing;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::event::Event;
use cyphonic_core::machine::Input;
use cyphonic_core::method::Method;
use cyphonic_core::name::{Fqdn, Party};
use cyphonic_core::node::{Node, NodeCommand, Overlay};
use cyphonic_core::time::Instant;
use cyphonic_core::tls::{Identity, Roots};
use tokio::sync::{Mutex, mpsc};

use self::interface::Interface;
use self::observed::Observed;
use self::pings::{Echoes, Pings};
use self::standing::{Shown, Standing};
use super::dns as system_dns;
use super::kept_open::KeptOpen;
use super::metrics::{self, Page};
use super::netcheck;
use super::own::Own;
use super::patience;
use super::plan::{Plan, plan};
use super::privileges;
use super::report::{Report, event_log};
use super::trouble::{self, Facts, Probe};
use super::{expiry, stopped};
use crate::control::{Answer, Asked, ControlSocket, DEFAULT_SOCKET, Question};
use crate::drive::{Clock, Driver, Passing, PortUse, Shell, Streams, Tun, Udp};
use crate::error::{Code, Failure};
use crate::files;
use crate::net::{self, Network, Notice};
use crate::settings::{Dns, NodeSettings};
use crate::tasks;

/// How long the NMS may be silent in the conventional method: until the next Keep Alive, and all of its
/// retransmissions.
const SEALED_PATIENCE: Duration = Duration::from_secs(7);

/// A request to the node that does not come from the network.
enum NodeRequest {
    Asked(Asked),
    Addresses(Vec<IpAddr>),
    Trust(Roots),
    Revoked(Vec<Fqdn>),
    Identity(Box<Identity>),
    /// An echo reply came, with this number and this source.
    Echoed(u16, Ipv4Addr),
    /// Each peer needs a route of its own from now on.
    Peers,
    Metrics(metrics::Asked),
    /// The result of the probe of the AS, which had not answered by UDP.
    Probed(Probe),
}

struct NodeShell {
    standing: Standing,
    pings: Pings,
    interface: Interface,
    observed: Observed,
    underlay: Underlay,
    /// Sends later requests to the shell itself.
    later: mpsc::Sender<NodeRequest>,
}

impl Shell for NodeShell {
    type Machine = Node;
    type Request = NodeRequest;

    fn sees(&mut self, passing: &Passing<'_>) {
        self.observed.sees(passing);
    }

    fn event(&mut self, machine: &Node, now: Instant, event: Event) {
        if let Some(places) = self.standing.event(machine, now, &event) {
            self.probe(places);
        }
        if matches!(event, Event::TunnelReady { .. } | Event::TunnelUp(_) | Event::TunnelDown { .. }) {
            self.interface.lead(machine);
        }
        match &event {
            Event::TunnelUp(up) => self.pings.tunnel_up(up.peer.as_str()),
            Event::TunnelDown { peer, reason } => self.pings.tunnel_down(peer, reason),
            _ => {}
        }
        self.observed.event(&event);
    }

    fn takes(&mut self, now: Instant, packet: &Bytes) -> bool {
        self.pings.takes(now, packet)
    }

    fn request(
        &mut self,
        machine: &mut Node,
        now: Instant,
        request: NodeRequest,
        inputs: &mut Vec<Input<NodeCommand>>,
    ) {
        match request {
            NodeRequest::Addresses(addresses) => inputs.extend(self.interface.moved(addresses).map(Input::Command)),
            NodeRequest::Probed(probe) => self.standing.probed(now, probe),
            NodeRequest::Echoed(number, from) => {
                self.pings.echoed(now, number, from);
            }
            NodeRequest::Peers => self.interface.lead(machine),
            NodeRequest::Revoked(names) => inputs.push(Input::Command(NodeCommand::Revoked(names))),
            NodeRequest::Identity(identity) => {
                self.standing.renewed(&identity.chain);
                inputs.push(Input::Command(NodeCommand::Identity(identity)));
            }
            NodeRequest::Trust(roots) => inputs.push(Input::Command(NodeCommand::Trust(roots))),
            NodeRequest::Metrics(asked) => {
                let _ = asked.send(self.metrics(machine, now));
            }
            NodeRequest::Asked((Question::Fleet, reply)) => {
                let remedy = "ask the NMS: --control names its socket, which it has if `control` is set".into();
                let what = "a node knows no other devices than its peers".into();
                let _ = reply.send(Answer::Error { code: Code::Usage, what, remedy }.into());
            }
            NodeRequest::Asked((Question::Status, reply)) => {
                let (addresses, _) = self.interface.underlay();
                let mut status = self.standing.status(machine, now, addresses, self.observed.drops());
                let (network, underlay) = (self.interface.network(), self.underlay.clone());
                tokio::spawn(async move {
                    let shown = network.lock().await.shown().await;
                    (status.tun, status.virtual_addresses, status.notices) =
                        (shown.name, shown.addresses, shown.notices);
                    status.notices.extend(underlay.notice());
                    let _ = reply.send(Answer::Status(Box::new(status)).into());
                });
            }
            NodeRequest::Asked((Question::Netcheck, reply)) => {
                let (known, targets) = self.standing.netcheck(machine, now, self.interface.underlay());
                tokio::spawn(async move {
                    let known = netcheck::complete(known, targets).await;
                    let _ = reply.send(Answer::Netcheck(Box::new(known)).into());
                });
            }
            NodeRequest::Asked((Question::Ping { name }, reply)) => {
                self.pings.begin(machine, now, &self.standing, &name, reply);
            }
            NodeRequest::Asked((Question::Capture { rebuild }, reply)) => {
                let answer = self.observed.capture();
                if rebuild && answer.then.is_some() {
                    inputs.extend(self.interface.rebuild().map(Input::Command));
                }
                let _ = reply.send(answer);
            }
        }
    }

    fn follow_up(&mut self, machine: &Node) -> Option<Bytes> {
        self.observed.flush();
        while let Some((number, address)) = self.pings.due() {
            let elsewhere = self.interface.elsewhere(address.into());
            self.pings.send(number, address, elsewhere);
        }
        self.pings.follow_up(machine)
    }

    async fn after(&mut self) -> Result<(), Failure> {
        self.interface.follow(self.standing.own()).await
    }
}

impl NodeShell {
    /// Probes the AS.
    fn probe(&self, places: Vec<SocketAddr>) {
        let later = self.later.clone();
        tokio::spawn(async move {
            let probe = trouble::probe(places).await;
            let _ = later.send(NodeRequest::Probed(probe)).await;
        });
    }

    fn metrics(&self, machine: &Node, now: Instant) -> String {
        let (name, traffic) = (self.standing.name().as_str(), self.observed.traffic());
        let mut page = Page::begin("node", name, now - Instant::ZERO, traffic);
        self.observed.on(&mut page);
        self.standing.on(machine, &mut page);
        page.end()
    }
}

/// The way of a tunnel, in one word.
fn via(relayed: bool) -> &'static str {
    if relayed { "trs" } else { "direct" }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs a node until it is stopped.
pub async fn run(settings: NodeSettings) -> Result<(), Failure> {
    let (event_log, key_log) = (settings.event_log.clone(), settings.key_log.clone());
    let events = event_log!(settings);
    let control = settings.control.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
    if settings.dns == Some(Dns::ResolvConf) && std::os::unix::net::UnixStream::connect(&control).is_err() {
        system_dns::clean_up();
    }
    let Plan { config, certificate, listen, tun, mtu, resolver, fixed_addresses, secrets, trust, own, metrics } =
        patience::until_it_can_begin(&control, move || plan(settings.clone())).await?;
    let port_use = match config.method {
        Method::Conventional => PortUse::Conventional,
        Method::Proposed => PortUse::Quic,
    };
    let udp = Udp::bind(&listen, &[(config.port, port_use)])?;
    let device = Tun::new(&tun, mtu)?;
    let network = Network::find(&tun, &config.overlay).await?;
    let needs_peers = network.needs_peers();
    let network = Arc::new(Mutex::new(network));
    let (sender, requests) = mpsc::channel(64);
    net::keep(network.clone(), sender.clone(), || NodeRequest::Peers).await?;
    let (ask, asked) = mpsc::channel(16);
    let _control = ControlSocket::listen(&control, ask)?;
    tasks::forever("passes questions on", forward(asked, sender.clone()));
    let echoes = Echoes::open();
    if let Some(echoes) = echoes.clone() {
        tasks::forever("hears echoes", hear(echoes, sender.clone()));
    }
    metrics::serve(metrics, sender.clone(), NodeRequest::Metrics).await?;
    let report = Report::new(&Party::Node(config.name.clone()), events)?;
    let kept_open = [&event_log, &key_log].into_iter().flatten().flat_map(|path| KeptOpen::later(path));
    let of_own = own.iter().flat_map(Own::later);
    let later: Vec<_> = trust.later().into_iter().chain(of_own).chain(resolver.later()).chain(kept_open).collect();
    privileges::give_up(privileges::NODE, &later).await?;
    trust.watch(sender.clone(), NodeRequest::Trust, Some(NodeRequest::Revoked))?;
    let underlay = Underlay {
        targets: if fixed_addresses { Vec::new() } else { config.services.as_addresses.clone() },
        overlay: config.overlay.clone(),
    };
    if !fixed_addresses {
        underlay.clone().follow(sender.clone())?;
    }
    let (name, method, port, framing) = (config.name.clone(), config.method, config.port, config.framing);
    let (addresses, nat64, overlay) = (config.addresses.clone(), config.nat64, config.overlay.clone());
    let identity = config.identity.as_ref().and_then(|identity| identity.chain.first());
    let dates = identity.map(|own| (certificate.clone(), files::Span::of(own)));
    let mut facts = Facts::new(name.clone(), method, config.services.as_addresses.clone(), dates);
    facts.ends = config.identity.as_ref().and_then(|identity| files::Ends::of(&identity.chain));
    if let (Some(own), Some(identity)) = (own, &config.identity) {
        expiry::watch(name.clone(), own.watch(&identity.chain, sender.clone(), NodeRequest::Identity));
    }
    let patience = if method == Method::Proposed { config.quic.idle_timeout } else { SEALED_PATIENCE };
    let machine = Node::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    tracing::info!(%name, method = method.name(), framing = framing.name(), ?addresses, port, %tun, "starting");
    let title = format!("{name}, {} method", method.name());
    let shell = NodeShell {
        standing: Standing::new(Shown { name, method, port, tun: tun.clone() }, facts, patience),
        pings: Pings::new(overlay.clone(), echoes),
        interface: Interface::new((network.clone(), needs_peers), resolver, addresses, nat64),
        underlay,
        observed: Observed::new(report, secrets, title, tun),
        later: sender,
    };
    let mut driver = Driver::new(machine, shell, Clock::start(), udp, Streams::outgoing(), Some(device), requests);
    driver.command(NodeCommand::Start);
    let result = driver.run(stopped());
    driver.finish(NodeCommand::Stop);
    network.lock().await.end().await;
    result
}

async fn forward(mut asked: mpsc::Receiver<Asked>, sender: mpsc::Sender<NodeRequest>) {
    while let Some(asked) = asked.recv().await {
        if sender.send(NodeRequest::Asked(asked)).await.is_err() {
            return;
        }
    }
}

async fn hear(echoes: Arc<Echoes>, sender: mpsc::Sender<NodeRequest>) {
    loop {
        let (number, from) = echoes.receive().await;
        if sender.send(NodeRequest::Echoed(number, from)).await.is_err() {
            return;
        }
    }
}

/// This machine's addresses, as seen from the AS.
#[derive(Clone)]
struct Underlay {
    /// The AS's addresses. Empty if the setting `addresses` fixes this machine's.
    targets: Vec<SocketAddr>,
    overlay: Overlay,
}

impl Underlay {
    /// A notice if there is no usable address.
    fn notice(&self) -> Option<Notice> {
        net::without_source(&self.targets, &self.overlay)
    }

    /// Tells the node this machine's addresses whenever they have changed.
    fn follow(self, sender: mpsc::Sender<NodeRequest>) -> Result<(), Failure> {
        let mut changes = net::watch(|_| true)?;
        tasks::forever("follows this machine's addresses", async move {
            let mut known = None;
            loop {
                let notice = self.notice();
                if notice != known
                    && let Some(Notice { what, remedy }) = &notice
                {
                    tracing::warn!(remedy, "{what}");
                }
                known = notice;
                if changes.recv().await.is_none() {
                    return;
                }
                let addresses = net::source_addresses(&self.targets, &self.overlay);
                if sender.send(NodeRequest::Addresses(addresses)).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}
