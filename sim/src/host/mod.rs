//! A host of the simulated network: one role of the protocol, and the operating system around it.
//!
//! ```text
//!            applications                       (host::apps, host::sink)
//!                 │ IP packets
//!          virtual interface                    (host::tun; nodes only)
//!                 │ Input::Packet / Output::Packet
//!        the role: a Machine                    (cyphonic_core)
//!   Datagram / Transmit │  │ Stream
//!                   UDP, TCP                    (host::underlay, host::streams)
//!                       │ IP packets
//!              numbered interfaces              (NetBox)
//! ```
//!
//! [`Host`] is the driver that [`cyphonic_core::machine`] describes: it gives the role one input, takes its outputs
//! until it waits, and repeats that until nothing moves any more at this instant. A harness reaches in between engine
//! runs: it gives commands, moves interfaces, starts applications, reads reports and events. After such a call the
//! engine must ask the box for its outputs again.
//!
//! Dropped packets are counted, never an error: [`Host::losses`] for what the host dropped, [`Host::drops`] for what
//! the role did. No clock, no randomness but the seed's, and nothing unbounded: every queue has its limit here.

pub mod apps;
mod count;
mod outlet;
mod ports;
mod sink;
mod stack;
mod streams;
mod tun;
mod underlay;
mod wire;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Input, Machine, Output};
use cyphonic_core::name::Virtual;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::Due;

use crate::net::packet::Ip;
use crate::net::{BoxInput, BoxOutput, NetBox};
use apps::{App, AppId, AppReport, Arrivals};
use count::count;
use streams::Streams;
use tun::Tun;
use underlay::{Arrival, Underlay};

pub use count::{Loss, Losses};
pub use outlet::{TUN_QUEUE_LIMIT, TunConfig};
pub use ports::{TCP_SINK_PORT, UDP_ECHO_PORT, UDP_SINK_PORT};
pub use sink::{SINK_CONNECTION_LIMIT, SINK_RECORD_LIMIT, SinkRecord};
pub use stack::{ADDRESS_LIMIT, DEVICE_QUEUE_LIMIT};
pub use streams::{BACKLOG, STREAM_LIMIT, STREAM_WRITE_LIMIT};
pub use underlay::{DontFragment, Interface, OUTBOX_LIMIT, PORT_LIMIT, all_but_port_4501};

/// How many events wait to be drained.
pub const EVENT_LIMIT: usize = 1 << 20;

/// How many different inner sources a host remembers.
pub const SOURCE_LIMIT: usize = 1 << 12;

/// How many packets wait for a role that stands still: as many as fit a socket's usual buffer.
pub const PAUSED_LIMIT: usize = 256;

/// How many inputs a role may get at one instant before the host assumes an endless loop: far more than any scenario
/// causes at once.
const SETTLE_LIMIT: usize = 1 << 20;

/// The configuration of a host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its interfaces, by number.
    pub interfaces: Vec<Interface>,
    /// The UDP ports that the role listens on. Those that it sends from are added by themselves.
    pub udp_ports: Vec<u16>,
    /// The TCP port that the role listens on.
    pub listen_tcp: Option<u16>,
    /// Which datagrams must not be fragmented.
    pub dont_fragment: DontFragment,
    /// Whether a datagram to a port that is not in use is answered by an ICMP error.
    pub port_unreachable: bool,
    /// The virtual interface, for a node.
    pub virtual_interface: Option<TunConfig>,
    /// Decides TCP sequence numbers and ports, and the numbers of applications.
    pub seed: u64,
}

impl HostConfig {
    /// A host with these interfaces and nothing else.
    pub fn new(interfaces: Vec<Interface>, seed: u64) -> Self {
        Self {
            interfaces,
            udp_ports: Vec::new(),
            listen_tcp: None,
            dont_fragment: all_but_port_4501,
            port_unreachable: false,
            virtual_interface: None,
            seed,
        }
    }
}

/// A host that runs one role.
pub struct Host<M: Machine> {
    machine: M,
    underlay: Underlay,
    streams: Streams,
    /// What it takes to make them anew: seed, MTU, the port to listen on.
    stream_config: (u64, usize, Option<u16>),
    tun: Option<Tun>,
    /// When the role wants [`Input::Timeout`], and what for.
    wait: Option<Due>,
    /// Until when the role stands still, and what waits for it.
    paused: Option<(Instant, Vec<Input<M::Command>>)>,
    events: VecDeque<(Instant, Event)>,
    drops: BTreeMap<DropReason, u64>,
    losses: Losses,
    delivered: u64,
    sources: BTreeSet<IpAddr>,
}

impl<M: Machine> Host<M> {
    /// A host that runs `machine`. Underlay TCP takes its MSS from the smallest interface MTU.
    ///
    /// # Panics
    /// With more than [`ADDRESS_LIMIT`] addresses, one that is not unicast, or a TCP port of zero.
    pub fn new(config: HostConfig, machine: M) -> Self {
        let mtu = config.interfaces.iter().map(|interface| interface.mtu).min().unwrap_or(1500);
        let underlay =
            Underlay::new(config.interfaces, &config.udp_ports, config.dont_fragment, config.port_unreachable);
        let stream_config = (config.seed, mtu, config.listen_tcp);
        let mut streams = Streams::new(config.seed, mtu, config.listen_tcp);
        streams.set_addresses(underlay.addresses());
        Self {
            machine,
            underlay,
            streams,
            stream_config,
            // Another seed, so that the two TCP stacks do not draw the same numbers.
            tun: config.virtual_interface.map(|tun| Tun::new(!config.seed, tun)),
            wait: None,
            paused: None,
            events: VecDeque::new(),
            drops: BTreeMap::new(),
            losses: Losses::new(),
            delivered: 0,
            sources: BTreeSet::new(),
        }
    }

    /// The role.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The timer that the role waits for.
    pub fn waits_for(&self) -> Option<Due> {
        self.wait
    }

    /// Gives the role a command.
    pub fn command(&mut self, now: Instant, command: M::Command) {
        self.feed(now, Input::Command(command));
        self.settle(now);
    }

    /// Gives the role any input, as if driver, network or application had. Packets as they come from the network go in
    /// by [`NetBox::handle_input`]; this is for what no wire would carry.
    pub fn inject(&mut self, now: Instant, input: Input<M::Command>) {
        self.feed(now, input);
        self.settle(now);
    }

    /// The role crashes and another takes its place: all it knew is gone, its TCP connections too, without a word to
    /// anyone. Applications and the virtual interface live on.
    pub fn restart(&mut self, now: Instant, machine: M) {
        let (seed, mtu, listen) = self.stream_config;
        // Another seed: the new stack must not repeat the old one's sequence numbers.
        self.streams = Streams::new(seed ^ now.as_nanos(), mtu, listen);
        self.streams.set_addresses(self.underlay.addresses());
        self.machine = machine;
        self.wait = None;
        self.paused = None;
        self.settle(now);
    }

    /// The role stands still until then: its process is stopped. Inputs for it wait meanwhile, up to [`PAUSED_LIMIT`]
    /// packets. Its host, its TCP connections and its applications go on.
    pub fn pause(&mut self, until: Instant) {
        let (end, _) = self.paused.get_or_insert_with(|| (until, Vec::new()));
        *end = until.max(*end);
    }

    /// Lets the role go on, if it is time.
    fn resume(&mut self, now: Instant) {
        if let Some((_, waiting)) = self.paused.take_if(|(until, _)| *until <= now) {
            for input in waiting {
                self.feed(now, input);
            }
        }
    }

    /// The interfaces, by number.
    pub fn interfaces(&self) -> &[Interface] {
        self.underlay.interfaces()
    }

    /// Changes an interface: other addresses, up or down, another MTU. The role's TCP connections on an address that
    /// is gone are closed. The role is not told: that is the harness's next command.
    ///
    /// # Panics
    /// If there is no such interface, and as [`Self::new`].
    pub fn set_interface(&mut self, now: Instant, iface: usize, interface: Interface) {
        *self.underlay.interface_mut(iface) = interface;
        self.streams.set_addresses(self.underlay.addresses());
        self.settle(now);
    }

    /// What the role reported since the last call, in order, without [`Event::Dropped`], which is only counted.
    pub fn drain_events(&mut self) -> Vec<(Instant, Event)> {
        self.events.drain(..).collect()
    }

    /// How often the role dropped something, by reason.
    pub fn drops(&self) -> &BTreeMap<DropReason, u64> {
        &self.drops
    }

    /// How often the host dropped something, by reason.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// How many packets the role has handed to the virtual interface.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// From whom these packets said they were; at most [`SOURCE_LIMIT`] of them.
    pub fn sources(&self) -> &BTreeSet<IpAddr> {
        &self.sources
    }

    /// The addresses of the virtual interface, once the role is registered.
    pub fn virtual_addresses(&self) -> Option<Virtual> {
        self.tun.as_ref()?.addresses()
    }

    /// Starts an application on the virtual interface.
    ///
    /// # Panics
    /// If the host has no virtual interface, or more than [`apps::APP_LIMIT`] reports were not taken.
    pub fn start(&mut self, now: Instant, app: App) -> AppId {
        let tun = self.tun.as_mut().expect("applications run on a virtual interface");
        let id = tun.apps.start(now, app);
        tun.touch();
        self.settle(now);
        id
    }

    /// What an application has seen so far.
    ///
    /// # Panics
    /// If there is no such application, or its report was taken.
    pub fn report(&self, id: AppId) -> &AppReport {
        self.tun.as_ref().and_then(|tun| tun.apps.report(id)).expect("a report that was not taken")
    }

    /// Takes the report of an application that is finished, and forgets the application.
    pub fn take_report(&mut self, id: AppId) -> Option<AppReport> {
        self.tun.as_mut()?.apps.take_report(id)
    }

    /// How many applications still have something to do or to wait for.
    pub fn unfinished(&self) -> usize {
        self.tun.as_ref().map_or(0, |tun| tun.apps.unfinished())
    }

    /// The connections to this host's TCP sink ([`TCP_SINK_PORT`]), in the order accepted.
    pub fn sink_records(&self) -> &[SinkRecord] {
        self.tun.as_ref().map_or(&[], |tun| tun.sinks.records())
    }

    /// What arrived at this host's UDP sink ([`UDP_SINK_PORT`]) of the flow that `sender` names
    /// [`apps::FlowReport::flow`].
    pub fn flow(&self, sender: IpAddr, flow: u64) -> Option<&Arrivals> {
        let flows = self.tun.as_ref()?.sinks.flows();
        flows.iter().find(|((from, id), _)| from.ip() == sender && *id == flow).map(|(_, arrivals)| arrivals)
    }

    /// Everything that arrived at this host's UDP sink, by sender and flow.
    pub fn flows(&self) -> impl Iterator<Item = (SocketAddr, u64, &Arrivals)> {
        let flows = self.tun.iter().flat_map(|tun| tun.sinks.flows());
        flows.map(|(&(from, flow), arrivals)| (from, flow, arrivals))
    }

    /// Gives the role one input and does what it answers.
    fn feed(&mut self, now: Instant, input: Input<M::Command>) {
        if let Some((_, waiting)) = &mut self.paused {
            let is_packet = matches!(input, Input::Datagram { .. } | Input::Packet(_));
            if is_packet && waiting.len() >= PAUSED_LIMIT {
                count(&mut self.losses, Loss::QueueFull);
            } else {
                waiting.push(input);
            }
            return;
        }
        self.machine.handle_input(now, input);
        loop {
            match self.machine.poll_output() {
                Output::Transmit(transmit) => self.underlay.transmit(&transmit, &mut self.losses),
                Output::Packet(packet) => self.deliver(packet),
                Output::Stream(id, output) => self.streams.apply(id, output, &self.underlay, &mut self.losses),
                Output::Event(event) => self.note(now, event),
                Output::Wait(until) => {
                    self.wait = until;
                    return;
                }
            }
        }
    }

    /// The role hands a packet to the virtual interface.
    fn deliver(&mut self, packet: bytes::Bytes) {
        self.delivered += 1;
        if let Some(ip) = Ip::parse(&packet).filter(|_| self.sources.len() < SOURCE_LIMIT) {
            self.sources.insert(ip.source);
        }
        match &mut self.tun {
            Some(tun) => tun.receive(packet, &mut self.losses),
            None => count(&mut self.losses, Loss::InnerNotOurs),
        }
    }

    fn note(&mut self, now: Instant, event: Event) {
        match event {
            Event::Dropped(reason) => {
                *self.drops.entry(reason).or_default() += 1;
                return;
            }
            Event::Registered { addresses, .. } => {
                if let Some(tun) = &mut self.tun {
                    tun.configure(addresses);
                }
            }
            _ => {}
        }
        if self.events.len() < EVENT_LIMIT {
            self.events.push_back((now, event));
        } else {
            count(&mut self.losses, Loss::LogFull);
        }
    }

    /// Lets TCP, applications and the role work until nothing moves any more at `now`.
    fn settle(&mut self, now: Instant) {
        for _ in 0..SETTLE_LIMIT {
            if let Some((id, input)) = self.streams.next(now) {
                self.feed(now, Input::Stream(id, input));
            } else if let Some(packet) = self.tun.as_mut().and_then(|tun| tun.next(now, &mut self.losses)) {
                self.feed(now, Input::Packet(packet));
            } else {
                while let Some((source, packet)) = self.streams.sent() {
                    self.underlay.send(source, packet, &mut self.losses);
                }
                return;
            }
        }
        panic!("role and applications never come to rest at {now}");
    }

    fn deadline(&self) -> Option<Instant> {
        let tun = self.tun.as_ref().and_then(Tun::deadline);
        let role = self.paused.as_ref().map_or(self.wait.map(|due| due.at), |(until, _)| Some(*until));
        [role, self.streams.deadline(), tun].into_iter().flatten().min()
    }
}

impl<M: Machine + 'static> NetBox for Host<M> {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        match input {
            BoxInput::Packet { iface, packet } => match self.underlay.receive(now, iface, packet, &mut self.losses) {
                Some(Arrival::Datagram { local, remote, payload }) => {
                    self.feed(now, Input::Datagram { local, remote, payload });
                }
                Some(Arrival::Tcp(packet)) => self.streams.receive(packet, &mut self.losses),
                None => {}
            },
            BoxInput::Timeout => {
                self.resume(now);
                if self.paused.is_none() && self.wait.is_some_and(|due| due.at <= now) {
                    self.feed(now, Input::Timeout);
                }
            }
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> BoxOutput {
        match self.underlay.next_packet() {
            Some((iface, packet)) => BoxOutput::Send { iface, packet },
            None => BoxOutput::Wait(self.deadline()),
        }
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
