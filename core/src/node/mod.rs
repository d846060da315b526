//! The node: a virtual address that stays, and tunnels that come and go beneath it.
//!
//! ```text
//! out  application → Packet → by virtual address → tunnel → Transmit
//! in   Datagram → tunnel → the inner source must be the peer's own virtual address → Packet → application
//! sig  DNS query or first packet → held, bounded → Direction Request → Route Direction → tunnel up → released
//! ```
//!
//! # Parts
//!
//! | part | owns |
//! |---|---|
//! | `cloud` | login, registration, the session with the NMS |
//! | `reports` | which peers the NMS has to be reminded of |
//! | `survey` | how the network treats the node's packets |
//! | `routes` | peers, requests, the choice of the tunnel, and what waits for one |
//! | `inner` | packets of applications, DNS |
//! | `fallback` | the services by TCP, where UDP is blocked |
//!
//! Each has one type of input and one of output (`part`). No part sees another part or the carriage. This file is their
//! composition: it takes each output at once and in order, and carries it out or makes it an input of another part.
//! What differs between the two methods is behind one trait, `carriage`: `conventional` and `proposed` carry messages
//! and build tunnels.
//!
//! | output of | | becomes input of |
//! |---|---|---|
//! | carriage | logins, sessions and messages of the NMS | `cloud` |
//! | carriage | Route Directions, tunnels up and down | `routes` |
//! | `cloud` | registered, not registered | `inner`, `routes`, `survey`, `reports` |
//! | `cloud` | an acknowledged message | `survey`, `reports` |
//! | `survey` | the network is known | `routes` |
//! | `routes` | the NMS is in doubt | `cloud` |
//! | `routes` | the answer to a query | `inner` |
//! | `inner` | a query for a peer | `routes` |
//!
//! All other outputs go to the carriage or to the driver. Packets go by a shorter way: see `packets`.
//!
//! # Paths beneath QUIC
//!
//! Under `handover = "rebuild"` a tunnel is a connection on one pair of addresses, in both methods. Another pair is
//! another tunnel: `routes` builds it beside the first one and changes over. Under `"seamless"` (proposed method) a
//! tunnel is one QUIC connection, and its paths change beneath it ([`crate::paths`]).
//!
//! 1. **The carriage merges.** `routes` asks the NMS and hands Route Directions to `Carriage::build` as ever. If the
//!    peer's tunnel stands, the carriage takes the direction's places, or the leg that it builds, as more paths of that
//!    tunnel, and says `Merged`: the attempt has ended.
//! 2. **The choice is the carriage's.** It says `PathSwitched` when packets go by another path, and `PathWanted` when
//!    none works: then `routes` asks for a direct path or for the relay, until it says `PathWorks`. Silence and loss
//!    are judged by `paths`, so `routes` does not watch such a tunnel.
//! 3. **A move keeps tunnels.** `Carriage::move_to` says which tunnels moved along, and whether the session with the
//!    NMS did. `routes` builds all others anew, and `cloud` registers again without a login. If no path is proved in
//!    time, the carriage says `TunnelDown`, and `routes` builds anew.
//!
//! The two nodes agree on the lower of both strategies when the tunnel is set up, so the strategy belongs to the
//! tunnel's origin, not to `Routes`.

mod carriage;
mod cloud;
mod config;
mod conventional;
mod fallback;
mod inner;
mod packets;
mod part;
mod places;
mod proposed;
mod report;
mod routes;
#[cfg(test)]
mod rows;
mod status;
mod survey;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use self::carriage::{Carriage, CarriageOutput};
use self::cloud::{Cloud, CloudInput, CloudOutput};
use self::fallback::{Fallback, FallbackOutput};
use self::inner::{Inner, InnerInput, InnerOutput};
use self::part::{Asked, Part, Random, Turn, fork};
use self::places::Places;
use self::report::{ReportInput, ReportOutput, Reports};
use self::routes::{RouteInput, RouteOutput, Routes};
use self::survey::{Survey, SurveyInput, SurveyOutput};
use crate::event::{DropReason, Event, Failure};
use crate::header::{Flags, Header};
use crate::machine::{Input, Machine, Output, Tables, Transmit};
use crate::message::{ErrorCode, Message, RouteConfirmation};
use crate::method::Method;
use crate::name::{Fqdn, Virtual};
use crate::paths::strategy::Handover;
use crate::probe::is_probe;
use crate::signaling::Signaling;
use crate::time::Instant;
use crate::timing::node::{SLEPT, SLEPT_LONG, SLOW_ROUND_TRIP};
use crate::timing::{Due, earliest};
use crate::tls::TlsError;

pub use config::{FallbackConfig, Login, NodeCommand, NodeConfig, Overlay, ProxyConfig, Services, Spared};
pub use fallback::FallbackStatus;
pub use routes::{MAX_HELD_BYTES, MAX_HELD_PACKETS, MAX_HELD_QUERIES, MAX_PEERS};
pub use status::{ChoiceStatus, PeerStatus, TunnelStatus};

/// A node; see the [module](self).
pub struct Node {
    places: Places,
    random: Random,
    services: Services,
    carriage: Box<dyn Carriage + Send>,
    /// TCP, where UDP is blocked (proposed method).
    fallback: Option<Fallback>,
    /// What this node wants to wait for while a tunnel comes up.
    signaling: Signaling,
    cloud: Cloud,
    survey: Survey,
    routes: Routes,
    reports: Reports,
    inner: Inner,
    out: VecDeque<Output>,
    /// When the next timer is due, as the driver was told. A timer that was overdue by then was due at that moment.
    expected: Option<Instant>,
    /// The time of the last turn.
    now: Instant,
    /// Emptied buffers, so that no packet costs an allocation.
    spare_routes: Vec<RouteOutput>,
    spare_inner: Vec<InnerOutput>,
}

impl Node {
    /// A node that does nothing until [`NodeCommand::Start`].
    pub fn new(config: NodeConfig) -> Result<Self, TlsError> {
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let carriage: Box<dyn Carriage + Send> = match config.method {
            Method::Conventional => Box::new(conventional::Conventional::new(&config, &mut rng)?),
            Method::Proposed => Box::new(proposed::Proposed::new(&config, &mut rng)?),
        };
        let places = Places::new(&config);
        let reliable = carriage.is_reliable();
        let lifetime = (config.method == Method::Proposed).then_some(config.tunnel_lifetime);
        let fallback = (config.method == Method::Proposed).then(|| Fallback::new(&config)).flatten();
        Ok(Self {
            services: config.services,
            fallback,
            signaling: if config.method == Method::Proposed { config.signaling } else { Signaling::Paper },
            cloud: Cloud::new(config.addresses, config.port, reliable, config.tls.clock.clone()),
            survey: Survey::new(&config.name, config.tls, reliable, fork(&mut rng)),
            routes: Routes::new(config.name.clone(), config.overlay.clone(), reliable, lifetime),
            reports: Reports::new(reliable),
            inner: Inner::new(config.name, config.overlay),
            places,
            random: Random::new(rng),
            carriage,
            out: VecDeque::new(),
            expected: None,
            now: Instant::ZERO,
            spare_routes: Vec::new(),
            spare_inner: Vec::new(),
        })
    }

    /// How the services are reached; `None` without a fallback.
    pub fn fallback(&self) -> Option<FallbackStatus> {
        self.fallback.as_ref().map(Fallback::status)
    }

    /// The node's virtual addresses, once it was registered.
    pub fn virtual_addresses(&self) -> Option<Virtual> {
        self.inner.own()
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::from(event));
    }

    fn dropped(&mut self, reason: DropReason) {
        self.event(Event::Dropped(reason));
    }

    fn on_command(&mut self, now: Instant, command: NodeCommand) {
        match command {
            NodeCommand::Start => self.tell_cloud(now, CloudInput::Start),
            NodeCommand::Stop => {
                self.tell_cloud(now, CloudInput::Stop);
                self.tell_survey(now, SurveyInput::Stop);
                self.tell_routes(now, RouteInput::Stop);
                self.carriage.leave(now);
                self.drain_carriage(now);
                if let Some(fallback) = &mut self.fallback {
                    fallback.flush(now);
                    fallback.moved(&self.places);
                }
                self.drain_fallback(now);
            }
            NodeCommand::Trust(roots) => {
                if let Some(fallback) = &mut self.fallback {
                    fallback.trust(roots.clone());
                }
                if self.carriage.trust(now, roots).is_err() {
                    self.dropped(DropReason::BadTrust);
                }
            }
            NodeCommand::Identity(identity) => match self.carriage.renew(now, (*identity).clone()) {
                Ok(again) => {
                    if let Some(fallback) = &mut self.fallback {
                        fallback.renew(*identity);
                    }
                    self.tell_cloud(now, CloudInput::Renewed { again });
                }
                Err(_) => self.dropped(DropReason::BadTrust),
            },
            NodeCommand::Revoked(names) => {
                for name in names {
                    self.tell_routes(now, RouteInput::Revoked(name, ErrorCode::Unauthorized));
                }
            }
            NodeCommand::Network { addresses, nat64 } => self.change_network(now, addresses, nat64),
        }
    }

    /// Handover (paper §2.1, §2.2.2): the node registers again and builds every tunnel anew. Packets that applications
    /// send meanwhile are held.
    fn change_network(&mut self, now: Instant, addresses: Vec<IpAddr>, nat64: Option<Ipv6Addr>) {
        if (&self.places.addresses, self.places.nat64) == (&addresses, nat64) {
            return;
        }
        self.places = Places { addresses, port: self.places.port, nat64, prefer_v4: false, turn: 0 };
        if let Some(fallback) = &mut self.fallback {
            fallback.moved(&self.places);
        }
        self.drain_fallback(now);
        let places = self.places.clone();
        self.hand_over(now, &places);
    }

    /// The services are reached by the other way, UDP or TCP, from now on: a handover without new addresses.
    fn switch(&mut self, now: Instant, way: Option<(SocketAddr, SocketAddr)>) {
        if self.cloud.is_registered() {
            let mut places = self.carriage.places().clone();
            if let Some((local, remote)) = way {
                places.keep(local, remote);
            }
            self.hand_over(now, &places);
        }
    }

    fn hand_over(&mut self, now: Instant, places: &Places) {
        // The carriage moves first: what the parts send next has to leave from the new addresses.
        let mut kept = self.carriage.move_to(now, places);
        if self.fallback.as_ref().is_some_and(Fallback::is_blocked) {
            // Without UDP a direct tunnel cannot go on, unless its packets travel on paths, of which the relay is one.
            let is_kept = |status: TunnelStatus| status.relayed || status.handover == Handover::Seamless;
            for tunnel in std::mem::take(&mut kept.tunnels) {
                if self.carriage.status(tunnel).is_some_and(is_kept) {
                    kept.tunnels.push(tunnel);
                } else {
                    self.carriage.forget(now, tunnel);
                }
            }
        }
        let addresses = self.places.addresses.clone();
        self.tell_cloud(now, if kept.nms { CloudInput::MovedAlong(addresses) } else { CloudInput::Moved(addresses) });
        self.tell_survey(now, SurveyInput::Stop);
        self.tell_routes(now, RouteInput::Moved(kept.tunnels));
    }

    /// Sends a datagram: by UDP, or to a service by TCP.
    fn transmit(&mut self, now: Instant, transmit: Box<Transmit>) {
        let by_udp = match &mut self.fallback {
            Some(fallback) => fallback.transmit(now, transmit),
            None => Some(transmit),
        };
        self.out.extend(by_udp.map(Output::Transmit));
    }

    /// Tells the fallback where a service is.
    fn knows(&mut self, name: &Fqdn, remotes: &[SocketAddr]) {
        if let Some(fallback) = &mut self.fallback {
            fallback.knows(&self.places, name, remotes);
        }
    }

    /// Carries out every output of the fallback.
    fn drain_fallback(&mut self, now: Instant) {
        while let Some(output) = self.fallback.as_mut().and_then(Fallback::poll) {
            match output {
                FallbackOutput::Pass(output) => self.out.push_back(output),
                FallbackOutput::Datagram { local, remote, payload } => {
                    self.carriage.handle_datagram(now, local, remote, payload);
                }
                FallbackOutput::Nms(remotes) => {
                    self.knows(&self.services.nms_name.clone(), &remotes);
                    let first = self.places.first(&remotes);
                    if let (Some(fallback), Some((_, remote))) = (&mut self.fallback, first) {
                        fallback.expect(now, remote);
                    }
                }
                FallbackOutput::Ask => {
                    self.carriage.ask_nms(now);
                    self.drain_carriage(now);
                }
                FallbackOutput::Switched(way) => self.switch(now, way),
                FallbackOutput::ByUdp(service) => {
                    self.carriage.rerouted(now, service);
                    self.drain_carriage(now);
                }
            }
        }
    }

    /// A timer fires far too late: the machine stood still, and its mappings, sessions and tunnels may be gone.
    fn wake(&mut self, now: Instant, late: Duration) {
        if late < SLEPT_LONG {
            self.carriage.check(now);
            return self.tell_cloud(now, CloudInput::Doubt);
        }
        self.carriage.start_anew(now, &self.places);
        let addresses = self.places.addresses.clone();
        self.tell_cloud(now, CloudInput::Moved(addresses));
        self.tell_survey(now, SurveyInput::Stop);
        self.tell_routes(now, RouteInput::Moved(Vec::new()));
        self.drain_carriage(now);
    }

    /// Carries out every output of the carriage.
    fn drain_carriage(&mut self, now: Instant) {
        while let Some(output) = self.carriage.poll() {
            match output {
                CarriageOutput::Pass(Output::Transmit(transmit)) => self.transmit(now, transmit),
                CarriageOutput::Unasking(transmit) => {
                    let by_udp = match &mut self.fallback {
                        Some(fallback) => fallback.forward(now, transmit),
                        None => Some(transmit),
                    };
                    self.out.extend(by_udp.map(Output::Transmit));
                }
                CarriageOutput::Pass(output) => self.out.push_back(output),
                CarriageOutput::LoggedIn(response) => {
                    self.knows(&self.services.nms_name.clone(), &response.nms);
                    self.tell_cloud(now, CloudInput::LoggedIn(*response));
                }
                CarriageOutput::NmsReady => self.tell_cloud(now, CloudInput::NmsReady),
                CarriageOutput::LoginFailed(reason) => self.tell_cloud(now, CloudInput::LoginFailed(reason)),
                CarriageOutput::NmsLost(reason) => self.tell_cloud(now, CloudInput::Failed(reason)),
                CarriageOutput::FromNms(said) => {
                    let (header, message) = *said;
                    self.on_nms_message(now, &header, message);
                }
                CarriageOutput::TunnelReady(tunnel) => self.tell_routes(now, RouteInput::TunnelReady(tunnel)),
                CarriageOutput::TunnelUp(tunnel, up) => self.tell_routes(now, RouteInput::TunnelUp(tunnel, *up)),
                CarriageOutput::TunnelDown(tunnel, reason) => {
                    self.tell_routes(now, RouteInput::TunnelDown(tunnel, reason));
                }
                CarriageOutput::Merged(tunnel) => self.tell_routes(now, RouteInput::Merged(tunnel)),
                CarriageOutput::PathSwitched { tunnel, relayed } => {
                    self.tell_routes(now, RouteInput::PathSwitched { tunnel, relayed });
                }
                CarriageOutput::PathWanted(tunnel, want) => {
                    self.tell_routes(now, RouteInput::PathWanted(tunnel, want));
                }
                CarriageOutput::PathWorks(tunnel) => self.tell_routes(now, RouteInput::PathWorks(tunnel)),
                CarriageOutput::Packets(tunnel, packets) => self.on_tunnelled(now, tunnel, packets),
            }
        }
    }

    fn on_nms_message(&mut self, now: Instant, header: &Header, message: Message) {
        let (transaction, count) = (header.transaction, header.count);
        if self.cloud.expects(transaction, &message) {
            if let Message::RegistrationResponse(response) = &message
                && self.carriage.own_addresses().is_some_and(|own| own != response.addresses)
                && !defect!(OtherAddressesBelieved)
            {
                return self.tell_cloud(now, CloudInput::Failed(Failure::WrongAddresses));
            }
            return self.tell_cloud(now, CloudInput::Message { transaction, message });
        }
        let (direction, initiator) = match message {
            Message::RouteDirectionInitiator(direction) => (direction, true),
            Message::RouteDirectionResponder(direction) => (direction, false),
            Message::AccessEnded(ended) => {
                if !self.carriage.is_reliable() {
                    self.carriage.send_nms(now, transaction, count, Message::KeepAliveAck);
                }
                return self
                    .tell_routes(now, RouteInput::Revoked(ended.peer, ended.why.0.unwrap_or(ErrorCode::Unauthorized)));
            }
            Message::AccessRules(rules) => {
                if !self.carriage.is_reliable() {
                    self.carriage.send_nms(now, transaction, count, Message::KeepAliveAck);
                }
                return self.tell_routes(now, RouteInput::Permitted(rules.peer, rules.permissions));
            }
            Message::PeerRestarted(restarted) => {
                if !self.carriage.is_reliable() {
                    self.carriage.send_nms(now, transaction, count, Message::KeepAliveAck);
                }
                return self.tell_routes(now, RouteInput::PeerRestarted(restarted.peer));
            }
            Message::RelayGrant(grant) => return self.carriage.granted(now, grant),
            Message::PathGrant(grant) => return self.carriage.path_granted(now, transaction, &grant),
            Message::RelayOffer(offer) => {
                self.knows(&self.services.trs_name.clone(), &offer.addresses);
                return self.carriage.offered(now, offer.addresses);
            }
            Message::KeepAlive if !self.carriage.is_reliable() => {
                return self.carriage.send_nms(now, transaction, count, Message::KeepAliveAck);
            }
            Message::Error(code) => return self.tell_routes(now, RouteInput::Refused { transaction, code }),
            _ => return self.dropped(DropReason::Unexpected),
        };
        if let Some(relay) = &direction.relay {
            self.knows(&self.services.trs_name.clone(), &relay.addresses);
        }
        let (slow, signaling) = (header.flags.is_slow(), self.signaling.agreed(header.flags.signaling()));
        let granted = initiator && header.flags.is_granted();
        let asked = Asked { initiator, transaction, slow, signaling, granted, searches: Duration::ZERO };
        self.tell_routes(now, RouteInput::Direction { count, asked, direction: Box::new(direction) });
    }

    fn tell_cloud(&mut self, now: Instant, input: CloudInput) {
        let mut out = Vec::new();
        self.cloud.handle(&mut Turn::new(now, &mut self.random, &mut out), input);
        for output in out {
            self.on_cloud_output(now, output);
        }
    }

    fn on_cloud_output(&mut self, now: Instant, output: CloudOutput) {
        match output {
            CloudOutput::Login { attempt } => {
                self.knows(&self.services.as_name.clone(), &self.services.as_addresses.clone());
                self.carriage.login(now, attempt);
            }
            CloudOutput::OpenNms(login) => self.carriage.open_nms(now, &login),
            CloudOutput::ChangeFamily => self.carriage.change_family(),
            CloudOutput::Send { transaction, count, message } => {
                let is_first = self.inner.own().is_none() && matches!(message, Message::RegistrationRequest(_));
                let registers = matches!(message, Message::RegistrationRequest(_));
                // A node that yields has ended its tunnels.
                let flags = match (registers, self.cloud.yields()) {
                    (true, true) => Flags(Flags::AFRESH | Flags::YIELDS),
                    _ => Flags(if is_first { Flags::AFRESH } else { 0 }),
                };
                let flags = if registers { flags.with_signaling(self.signaling) } else { flags };
                self.carriage.set_slow(self.is_slow());
                self.carriage.send_nms_flagged(now, (transaction, flags), count, message);
            }
            CloudOutput::Registered { addresses, survey } => {
                self.carriage.set_slow(self.is_slow());
                self.carriage.registered(now);
                self.tell_inner(now, InnerInput::Registered(addresses));
                self.tell_routes(now, RouteInput::Slow(self.is_slow()));
                self.tell_routes(now, RouteInput::Registered(addresses));
                let (nms, places, slow) =
                    (self.cloud.nms().to_vec(), self.places.clone(), self.round_trip().filter(|_| self.is_slow()));
                self.tell_survey(now, SurveyInput::Registered { plan: survey, nms, places, slow });
                self.tell_reports(now, ReportInput::Registered(self.routes.tunnelled()));
            }
            CloudOutput::Unregistered => {
                self.tell_routes(now, RouteInput::Unregistered);
                self.tell_reports(now, ReportInput::Unregistered);
            }
            CloudOutput::Displaced => self.tell_routes(now, RouteInput::Displaced),
            CloudOutput::Acknowledged(transaction) => {
                self.tell_reports(now, ReportInput::Acknowledged(transaction));
                self.tell_survey(now, SurveyInput::Acknowledged(transaction));
            }
            CloudOutput::Event(event) => self.event(event),
        }
    }

    /// The round trip to the services, as far as it is known: QUIC measures it, whatever was lost.
    fn round_trip(&self) -> Option<Duration> {
        self.carriage.nms_rtt().or_else(|| self.cloud.round_trip())
    }

    /// Whether all who wait for this node have to wait longer.
    fn is_slow(&self) -> bool {
        self.round_trip().is_some_and(|round_trip| round_trip >= SLOW_ROUND_TRIP)
    }

    fn tell_reports(&mut self, now: Instant, input: ReportInput) {
        let mut out = Vec::new();
        self.reports.handle(&mut Turn::new(now, &mut self.random, &mut out), input);
        for ReportOutput { transaction, count, message } in out {
            self.carriage.send_nms(now, transaction, count, message);
        }
    }

    fn tell_survey(&mut self, now: Instant, input: SurveyInput) {
        let mut out = Vec::new();
        self.survey.handle(&mut Turn::new(now, &mut self.random, &mut out), input);
        for output in out {
            match output {
                SurveyOutput::Transmit(transmit) => {
                    if self.fallback.as_ref().is_none_or(|fallback| fallback.lets_survey(transmit.remote)) {
                        self.out.push_back(Output::from(transmit));
                    }
                }
                SurveyOutput::Report { transaction, count, report } => {
                    self.carriage.send_nms(now, transaction, count, Message::NetworkReport(report));
                    self.drain_carriage(now);
                }
                SurveyOutput::Complete => self.tell_routes(now, RouteInput::Surveyed),
                SurveyOutput::Event(event) => self.event(event),
            }
        }
    }

    fn tell_routes(&mut self, now: Instant, input: RouteInput) {
        let mut out = std::mem::take(&mut self.spare_routes);
        self.routes.handle(&mut Turn::new(now, &mut self.random, &mut out), input);
        for output in out.drain(..) {
            self.on_route_output(now, output);
        }
        self.spare_routes = out;
    }

    fn on_route_output(&mut self, now: Instant, output: RouteOutput) {
        match output {
            RouteOutput::Request { transaction, count, request } => {
                self.carriage.send_nms(now, transaction, count, Message::DirectionRequest(request));
            }
            RouteOutput::Confirm { transaction, count } => {
                self.carriage.send_nms(
                    now,
                    transaction,
                    count,
                    Message::RouteConfirmation(RouteConfirmation { leg: None }),
                );
            }
            RouteOutput::DoubtNms => self.tell_cloud(now, CloudInput::Doubt),
            RouteOutput::Build { tunnel, asked, mut direction } => {
                // In place of an address that is not proved, the NMS says nothing in as many bytes.
                direction.candidates.retain(|place| !place.ip().is_unspecified());
                self.carriage.build(now, tunnel, *direction, asked);
            }
            RouteOutput::Forget(tunnel) => self.carriage.forget(now, tunnel),
            RouteOutput::Send(carried, packet) => self.send_packet(now, carried, packet),
            RouteOutput::Flush => self.carriage.finish(now),
            RouteOutput::Prohibited(packet) => self.tell_inner(now, InnerInput::Prohibited(packet)),
            RouteOutput::Answer(query, answer) => self.tell_inner(now, InnerInput::Resolved(query, answer)),
            RouteOutput::Event(event) => self.event(event),
        }
    }

    fn tell_inner(&mut self, now: Instant, input: InnerInput) {
        let mut out = std::mem::take(&mut self.spare_inner);
        self.inner.handle(&mut Turn::new(now, &mut self.random, &mut out), input);
        for output in out.drain(..) {
            self.on_inner_output(now, output);
        }
        self.spare_inner = out;
    }

    fn on_inner_output(&mut self, now: Instant, output: InnerOutput) {
        match output {
            InnerOutput::Resolve { name, query } => self.tell_routes(now, RouteInput::Query { name, query }),
            InnerOutput::NameOf { address, query } => {
                let name = self.routes.name_at(address).cloned();
                self.tell_inner(now, InnerInput::Named(query, name));
            }
            InnerOutput::Fragment { tunnel, fragment } => {
                if self.carriage.send_packet(now, tunnel, fragment).is_err() {
                    self.dropped(DropReason::QueueFull);
                }
                // Each fragment leaves at once: the receiver treats it as a packet of its own.
                self.carriage.finish(now);
            }
            InnerOutput::Packet(packet) => self.out.push_back(Output::from(packet)),
            InnerOutput::Dropped(reason) => self.dropped(reason),
        }
    }
}

impl Machine for Node {
    type Command = NodeCommand;

    fn feed(&mut self, now: Instant, input: Input<NodeCommand>) {
        self.now = now;
        let late = self.expected.take().map_or(Duration::ZERO, |due| now.saturating_since(due));
        if late >= SLEPT {
            self.wake(now, late);
        }
        if let (Some(fallback), Input::Datagram { local, remote, payload }) = (&mut self.fallback, &input)
            && fallback.takes(now, *local, *remote, payload)
        {
            return self.drain_fallback(now);
        }
        match input {
            // The tag of a path probe may make it look like a Probe of the survey, so tunnels are asked first.
            Input::Datagram { local, remote, payload }
                if is_probe(&payload) && !self.carriage.has_path_probe(&payload) =>
            {
                if self.carriage.answers_challenge(local, remote, &payload) {
                    self.drain_carriage(now);
                    return;
                }
                self.tell_survey(now, SurveyInput::Reply { local, remote, payload });
            }
            Input::Datagram { local, remote, payload } => {
                let is_heard = self.carriage.handle_datagram(now, local, remote, payload);
                if let Some(fallback) = self.fallback.as_mut().filter(|_| is_heard) {
                    fallback.heard(now, remote);
                    self.drain_fallback(now);
                }
            }
            Input::Stream(id, event) => match &mut self.fallback {
                Some(fallback) => {
                    if !fallback.on_stream(now, id, event) {
                        self.dropped(DropReason::Unexpected);
                    }
                    self.drain_fallback(now);
                }
                None => self.carriage.handle_stream(now, id, event),
            },
            Input::Packet(packet) => self.on_application(now, packet),
            Input::Timeout => {
                self.carriage.handle_timeout(now);
                self.drain_carriage(now);
                self.tell_cloud(now, CloudInput::Timeout);
                self.drain_carriage(now);
                self.tell_routes(now, RouteInput::Timeout);
                self.drain_carriage(now);
                self.tell_survey(now, SurveyInput::Timeout);
                self.tell_reports(now, ReportInput::Timeout);
                if let Some(fallback) = &mut self.fallback {
                    fallback.handle_timeout(now);
                }
                self.drain_fallback(now);
            }
            Input::Command(command) => self.on_command(now, command),
        }
    }

    fn deliver(&mut self, now: Instant) {
        self.carriage.deliver(now);
        self.drain_carriage(now);
    }

    fn finish(&mut self, now: Instant) {
        self.carriage.finish(now);
        self.drain_carriage(now);
        let round_trip = self.round_trip();
        if let Some(fallback) = &mut self.fallback {
            fallback.note_round_trip(round_trip);
            fallback.flush(now);
        }
        self.drain_fallback(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(output) = self.out.pop_front() {
            return output;
        }
        let next = self.next_timer();
        // A timer may be set for a time that is past: it is due at once, and nothing slept.
        self.expected = next.map(|due| due.at.max(self.now));
        Output::Wait(next)
    }

    fn next_timer(&self) -> Option<Due> {
        let (survey, reports) = (self.survey.next_timer(), self.reports.next_timer());
        let parts = [self.cloud.next_timer(), self.routes.next_timer(), survey, reports];
        let fallback = self.fallback.as_ref().and_then(Fallback::next_timer);
        earliest(parts.into_iter().chain([self.carriage.next_timer(), fallback]))
    }

    fn tables(&self) -> Tables {
        let mut tables = self.carriage.tables();
        tables.extend(self.routes.tables());
        tables.extend(self.inner.tables());
        tables
    }
}
