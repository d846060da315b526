//! An attacker with a node's certificate or common key. It has its own protocol stack, at an address without a route.
//!
//! Its packets are injected as inputs. Answers are read off the wires of the service.

use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::header::Flags;
use cyphonic_core::key::Key128;
use cyphonic_core::message::{AddressProof, Answer, Message, NetworkReport, Padding, Probe, RegistrationRequest};
use cyphonic_core::name::{Fqdn, NodeId};
use cyphonic_core::node::NodeCommand;
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, QuicOptions};
use cyphonic_core::route::optimal::{Behaviour, Filtering, Mapping};
use cyphonic_scenarios::ZONE;

use super::{Assault, Datagram};
use crate::host::apps::{App, Echo, EchoSize, Family, Target};
use crate::seeded;
use crate::soak::violation::Invariant;
use crate::world::{Actor, Watch};

/// Longer than any handshake through a service's link.
const HANDSHAKE: Duration = Duration::from_millis(300);
/// Longer than an answer takes.
const ANSWER: Duration = Duration::from_millis(100);
/// In this time a peer has logged in and dialed what it was told.
const NAMED: Duration = Duration::from_secs(6);
/// What the NMS may send to an address that is not proved, besides three times what came from there: see
/// `core/src/nms/proof.rs`.
const MOST_UNPROVED: usize = 1_200;

/// QUIC with a stolen certificate.
pub(super) struct Insider {
    links: Links,
    at: SocketAddr,
}

impl Insider {
    /// An insider with a certificate of `name`, from the run's authority.
    fn new(seed: u64, name: &Fqdn, at: SocketAddr) -> Option<Self> {
        let pki = seeded::shared_pki(seed);
        let config = QuicConfig {
            tls: seeded::environment(seed, &format!("{name} in other hands")),
            roots: pki.roots(),
            identity: pki.identity(name),
            alpn: b"h3".to_vec(),
            options: QuicOptions::default(),
        };
        let mut rng = seeded::stream(seed, name.as_str(), "insider");
        Some(Self { links: Links::new(config, CidScheme::Direct, false, &mut rng).ok()?, at })
    }

    /// Opens a link to a service; `None` if the handshake fails.
    fn connect(&mut self, assault: &mut Assault<'_>, to: Actor, service: &str) -> Option<LinkId> {
        let (now, remote) = (assault.world.now(), assault.address(to));
        let name: Fqdn = format!("{service}.{ZONE}").parse().ok()?;
        self.links.connect(now, self.at, remote, &name, None, Load::Packets)?;
        self.listen(assault, to, HANDSHAKE).into_iter().find_map(|output| match output {
            LinkOutput::Connected { link, .. } => Some(link),
            _ => None,
        })
    }

    /// Sends a message to a service and gives its answer.
    fn say(
        &mut self,
        assault: &mut Assault<'_>,
        to: Actor,
        link: LinkId,
        id: NodeId,
        message: &Message,
    ) -> Vec<Message> {
        let frame = message.to_bytes(77, Flags(0), 0, 0, id.0);
        self.links.send_frame(assault.world.now(), link, frame.into());
        let heard = self.listen(assault, to, ANSWER).into_iter();
        let frames = heard.filter_map(|output| match output {
            LinkOutput::Frame(_, header, body) => Message::decode_body(header.kind, &body).ok(),
            _ => None,
        });
        frames.collect()
    }

    /// Lets time pass.
    fn listen(&mut self, assault: &mut Assault<'_>, to: Actor, time: Duration) -> Vec<LinkOutput> {
        let until = assault.world.now() + time;
        let mut heard = Vec::new();
        loop {
            while let Some(output) = self.links.poll() {
                match output {
                    LinkOutput::Transmit(sent) => {
                        let (local, from) = (sent.remote, sent.local);
                        let datagram = Datagram { to, iface: 0, from, local, payload: sent.payload.clone() };
                        assault.inject(&datagram, from, &datagram.payload);
                    }
                    other => heard.push(other),
                }
            }
            if assault.world.now() >= until {
                return heard;
            }
            assault.wait(Duration::from_millis(1));
            let now = assault.world.now();
            for (remote, payload) in assault.sent_from(to, self.at) {
                self.links.handle_datagram(now, self.at, remote, payload[..].into());
            }
            self.links.handle_timeout(now);
        }
    }
}

impl Assault<'_> {
    /// The address of a service.
    fn address(&self, service: Actor) -> SocketAddr {
        let services = &self.scenario.services;
        let service = match service {
            Actor::Auth => &services.auth,
            Actor::Trs => &services.trs,
            Actor::Nms | Actor::Node(_) => &services.nms,
        };
        SocketAddr::new(service.v4.into(), self.scenario.port)
    }

    /// The datagrams that a service sent to an address since the last call, with the address that they came from.
    fn sent_from(&self, service: Actor, to: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        let tapped = self.world.sent(self.world.station(service));
        let udp = tapped.iter().filter_map(|tapped| Datagram::parse(service, 0, &tapped.packet));
        udp.filter(|datagram| datagram.local == to).map(|datagram| (datagram.from, datagram.payload)).collect()
    }

    /// An insider registers a node with the greatest epoch that there is. The node itself, after a restart, must be
    /// able to register again.
    pub(super) fn end_of_time(&mut self, seed: u64, node: usize) {
        let name = self.scenario.nodes[node].name.clone();
        let id = NodeId::of(&name);
        let at = Self::stranger(self.address(Actor::Nms), 204);
        let request = RegistrationRequest { epoch: u64::MAX, addresses: vec![at.ip()], port: at.port() };
        let message = Message::RegistrationRequest(request);
        if self.is_sealed() {
            let key = Key128(*seeded::derive(seed, name.as_str(), "stolen").first_chunk().expect("32 bytes"));
            if self.world.store.put_common_key(id, &key, None).is_err() {
                return;
            }
            let Some(sealed) = Session::new(&key, Direction::FromInitiator).seal(77, 0, id.0, &message) else { return };
            let local = self.address(Actor::Nms);
            let datagram = Datagram { to: Actor::Nms, iface: 0, from: at, local, payload: sealed };
            self.inject(&datagram, at, &datagram.payload);
        } else {
            let Some(mut insider) = Insider::new(seed, &name, at) else { return };
            let Some(link) = insider.connect(self, Actor::Nms, "nms") else { return };
            insider.say(self, Actor::Nms, link, id, &message);
        }
        if self.world.store.last_epoch(id).is_ok_and(|last| last == Some(u64::MAX)) {
            let text = format!("one registration of {} took the last epoch that there is", name.short());
            self.break_of(Invariant::I7, text);
        }
    }
    /// An insider registers a node, which is off meanwhile, and names a victim's addresses as its own. Under the
    /// optimal policy it sends Probes in the victim's name too; in the conventional method everything. Then a peer asks
    /// for that node.
    pub(super) fn false_address(&mut self, seed: u64, watch: &Watch, from: usize, to: usize) {
        let name = self.scenario.nodes[from].name.clone();
        let id = NodeId::of(&name);
        self.world.restart(self.scenario, seed, watch, Actor::Node(from));
        let nms = self.address(Actor::Nms);
        let victims = [Self::stranger(nms, 205), Self::stranger("[::]:0".parse().expect("an address"), 205)];
        let epoch = self.world.store.last_epoch(id).ok().flatten().unwrap_or(0) + 1;
        let inside = "10.255.0.205".parse().expect("an address");
        let addresses = vec![victims[0].ip(), victims[1].ip(), inside];
        let message = Message::RegistrationRequest(RegistrationRequest { epoch, addresses, port: victims[0].port() });
        let victims = victims.map(|victim| victim.ip()).into_iter().chain([inside]).collect::<Vec<_>>();
        for actor in self.world.actors() {
            self.sent(actor);
        }
        let forged = if self.is_sealed() {
            let key = Key128(*seeded::derive(seed, name.as_str(), "stolen").first_chunk().expect("32 bytes"));
            if self.world.store.put_common_key(id, &key, None).is_err() {
                return;
            }
            let mut insider = Forger { id, at: SocketAddr::new(victims[0], nms.port()), nms, bytes: 0 };
            insider.send(self, &mut Session::new(&key, Direction::FromInitiator), &message);
            self.wait(ANSWER);
            // The response went to the victim: the insider does not know its number.
            let mut session = Session::of_registration(&key, epoch, Direction::FromInitiator);
            for _ in 0..8 {
                insider.send(self, &mut session, &Message::KeepAlive);
            }
            insider.bytes
        } else {
            let at = Self::stranger(nms, 204);
            let Some(mut insider) = Insider::new(seed, &name, at) else { return };
            let Some(link) = insider.connect(self, Actor::Nms, "nms") else { return };
            let answers = insider.say(self, Actor::Nms, link, id, &message);
            let plan = answers.iter().find_map(|answer| match answer {
                Message::RegistrationResponse(response) => response.survey.as_ref(),
                _ => None,
            });
            let mut forger = Forger { id, at: SocketAddr::new(victims[0], nms.port()), nms, bytes: 0 };
            if let Some(plan) = plan {
                let probe = Message::Probe(Probe { answer: Answer::Noted, padding: Padding });
                forger.send(self, &mut Session::new(&plan.key, Direction::FromInitiator), &probe);
            }
            let guess = |ip| Some(AddressProof { seen: SocketAddr::new(ip, 443), token: [0; 8] });
            let known = Behaviour {
                mapping: Some(Mapping::Independent),
                filtering: Some(Filtering::Independent),
                hairpin: false,
                any_port: true,
            };
            let (v6, v4) = (Some(known), Some(known));
            let (at_v6, at_v4) = (guess(victims[1]), guess(victims[0]));
            let report = Message::NetworkReport(NetworkReport { v6, v4, at_v6, at_v4 });
            insider.say(self, Actor::Nms, link, id, &report);
            forger.bytes
        };
        // The peer has forgotten its tunnel, and asks.
        self.world.restart(self.scenario, seed, watch, Actor::Node(to));
        self.world.node(to, |now, host| host.command(now, NodeCommand::Start));
        let echo = Echo {
            count: 3,
            interval: Duration::from_secs(1),
            size: EchoSize::Payload(56),
            timeout: Duration::from_secs(1),
        };
        self.world.node(to, |now, host| host.start(now, App::Echo(Target::Name(name.clone(), Family::V6), echo)));
        self.wait(NAMED);
        for actor in self.world.actors() {
            let most = if actor == Actor::Nms { 3 * forged + MOST_UNPROVED } else { 0 };
            let sent = self.sent(actor).into_iter().filter(|(to, _)| victims.contains(&to.ip()));
            let got: usize = sent.map(|(_, payload)| payload.len()).sum();
            if got > most {
                let (me, who) = (self.name(actor), name.short());
                let text = format!("{me} sent {got} bytes to a victim that {who} named as its own address");
                return self.break_of(Invariant::I13, text);
            }
        }
    }
}

/// Sends to the NMS in a victim's name, and cannot read what the victim receives.
struct Forger {
    id: NodeId,
    at: SocketAddr,
    nms: SocketAddr,
    /// What was sent so far.
    bytes: usize,
}

impl Forger {
    fn send(&mut self, assault: &mut Assault<'_>, session: &mut Session, message: &Message) {
        let Some(sealed) = session.seal(77, 0, self.id.0, message) else { return };
        self.bytes += sealed.len();
        let datagram = Datagram { to: Actor::Nms, iface: 0, from: self.at, local: self.nms, payload: sealed };
        assault.inject(&datagram, self.at, &datagram.payload);
    }
}
