//! A host of the simulated network: one role of the protocol, and the operating system around it.
//!
//! ```text
//!            applications                       (host::apps, host::sink)
//!                 │ IP packets
//!          virtual interface                    (host::tun; nodes only)
//!                 │ Input::Packet / Output::Packets
//!        the role: a Machine                    (cyphonic_core)
//!   Datagram / Transmit │  │ Stream
//!                   UDP, TCP                    (host::underlay, host::streams)
//!                       │ IP packets
//!              numbered interfaces              (NetBox)
//! ```
//!
//! [`Host`] is the driver that [`cyphonic_core::machine`] describes: it runs turns of the role until there is nothing
//! to do at this instant. All packets that arrive at one instant are inputs of one turn. Between engine runs a harness
//! can give commands, change interfaces, start applications, and read reports and events. After such a call the engine
//! must poll the box again.
//!
//! A dropped packet is counted and is never an error: [`Host::losses`] counts the host's drops, [`Host::drops`] the
//! role's. All randomness comes from the seed, and every queue has a limit.

pub mod apps;
mod bare;
mod count;
pub(crate) mod headers;
mod outlet;
mod path_mtu;
mod ports;
mod proxy;
mod segments;
mod sink;
mod stack;
mod streams;
mod tun;
mod underlay;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Input, Machine, Output, Surroundings, turn};
use cyphonic_core::name::Virtual;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::Due;

use crate::net::packet::Ip;
use crate::net::{BoxInput, BoxOutput, NetBox};
use apps::{App, AppId, AppReport, Arrivals, Transfer};
use bare::Bare;
use count::count;
use streams::Streams;
use tun::Tun;
use underlay::{Arrival, Underlay};

pub use bare::BARE_LIMIT;
pub use count::{Loss, Losses};
pub use outlet::{TUN_QUEUE_LIMIT, TunConfig};
pub use ports::{TCP_SINK_PORT, UDP_ECHO_PORT, UDP_SINK_PORT};
pub use proxy::{CLIENT_LIMIT, ProxyBox};
pub use sink::{SINK_CONNECTION_LIMIT, SINK_RECORD_LIMIT, SinkRecord};
pub use stack::{ADDRESS_LIMIT, DEVICE_QUEUE_LIMIT};
pub use streams::{BACKLOG, STREAM_LIMIT, STREAM_WRITE_LIMIT, TcpUse};
pub use underlay::{DontFragment, Interface, OUTBOX_LIMIT, PORT_LIMIT, all_but_port_4501};

/// Most events that wait to be drained.
pub const EVENT_LIMIT: usize = 1 << 20;

/// Most inner source addresses that a host remembers.
pub const SOURCE_LIMIT: usize = 1 << 12;

/// Most packets that wait for a paused role: as many as fit into a socket's usual buffer.
pub const PAUSED_LIMIT: usize = 256;

/// How many turns a role may take at one instant before the host assumes an endless loop: far more than any scenario
/// causes at once.
const TURN_LIMIT: usize = 1 << 20;

/// The configuration of a host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its interfaces, by number.
    pub interfaces: Vec<Interface>,
    /// The UDP ports that the role listens on. A port from which it sends is added automatically.
    pub udp_ports: Vec<u16>,
    /// The TCP port that the role listens on.
    pub listen_tcp: Option<u16>,
    /// What the role uses TCP for.
    pub tcp: TcpUse,
    /// Which datagrams must not be fragmented.
    pub dont_fragment: DontFragment,
    /// Whether a datagram to a port that is not in use is answered by an ICMP error.
    pub port_unreachable: bool,
    /// The virtual interface, for a node.
    pub virtual_interface: Option<TunConfig>,
    /// The seed of TCP sequence numbers, ports, and the numbers of applications.
    pub seed: u64,
}

impl HostConfig {
    /// A host with these interfaces and nothing else.
    pub fn new(interfaces: Vec<Interface>, seed: u64) -> Self {
        Self {
            interfaces,
            udp_ports: Vec::new(),
            listen_tcp: None,
            tcp: TcpUse::Logins,
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
    system: System<M::Command>,
    /// The arguments of the TCP streams, to make them anew: seed, MTU, the port to listen on, their use.
    stream_config: (u64, usize, Option<u16>, TcpUse),
    /// The timer for which the role waits.
    wait: Option<Due>,
    /// When the pause of the role ends.
    paused: Option<Instant>,
    /// The suspension of the machine that is under way.
    suspended: Option<Suspension>,
}

/// A suspension of the machine.
#[derive(Clone, Copy)]
struct Suspension {
    since: Instant,
    until: Instant,
    /// Whether the role's clock stands still meanwhile.
    stops: bool,
}

/// The operating system around the role.
struct System<C> {
    underlay: Underlay,
    streams: Streams,
    tun: Option<Tun>,
    /// TCP without a tunnel, once a step asks for it.
    bare: Option<Bare>,
    /// Inputs that have arrived and that the role has not taken yet.
    arrivals: VecDeque<Input<C>>,
    events: VecDeque<(Instant, Event)>,
    drops: BTreeMap<DropReason, u64>,
    losses: Losses,
    delivered: u64,
    sources: BTreeSet<IpAddr>,
    /// By how much the role's clock is behind the network's: the suspensions that it does not count.
    behind: Duration,
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
        let stream_config = (config.seed, mtu, config.listen_tcp, config.tcp);
        let mut streams = Streams::new(config.seed, mtu, config.listen_tcp, config.tcp);
        streams.set_addresses(underlay.addresses());
        let system = System {
            underlay,
            streams,
            // Another seed, so that the two TCP stacks do not draw the same numbers.
            tun: config.virtual_interface.map(|tun| Tun::new(!config.seed, tun)),
            bare: None,
            arrivals: VecDeque::new(),
            events: VecDeque::new(),
            drops: BTreeMap::new(),
            losses: Losses::new(),
            delivered: 0,
            sources: BTreeSet::new(),
            behind: Duration::ZERO,
        };
        Self { machine, system, stream_config, wait: None, paused: None, suspended: None }
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
    ///
    /// A process that stood still takes commands before packets, as a daemon's loop does. So a rule that was set
    /// meanwhile applies to the requests that waited.
    pub fn command(&mut self, now: Instant, command: M::Command) {
        let place = self.system.arrivals.iter().take_while(|input| matches!(input, Input::Command(_))).count();
        self.system.arrivals.insert(place, Input::Command(command));
        self.turns(now);
    }

    /// Gives the role any input, in the place of driver, network or application. Packets from the network go in by
    /// [`NetBox::handle_input`]; this is for inputs that no wire would carry.
    pub fn inject(&mut self, now: Instant, input: Input<M::Command>) {
        self.system.arrivals.push_back(input);
        self.turns(now);
    }

    /// The role crashes, and another one takes its place. Its state and its TCP connections are lost, and no peer is
    /// notified. Applications and the virtual interface stay.
    pub fn restart(&mut self, now: Instant, machine: M) {
        let (seed, mtu, listen, tcp) = self.stream_config;
        // Another seed: the new stack must not repeat the old one's sequence numbers.
        let System { underlay, streams, arrivals, behind, .. } = &mut self.system;
        *streams = Streams::new(seed ^ now.as_nanos(), mtu, listen, tcp);
        streams.set_addresses(underlay.addresses());
        arrivals.clear();
        *behind = Duration::ZERO;
        self.machine = machine;
        self.wait = None;
        self.paused = None;
        self.suspended = None;
        self.turns(now);
    }

    /// Stops the role's process until this time. Its inputs wait, up to [`PAUSED_LIMIT`] packets. Its host, its TCP
    /// connections and its applications go on.
    pub fn pause(&mut self, until: Instant) {
        self.paused = self.paused.max(Some(until));
    }

    /// Suspends the whole computer until this time. Meanwhile it does nothing, and packets to it are lost. Afterwards
    /// everything that is overdue happens at once, except that the timers of TCP and of rows of echoes have stood
    /// still. With `stops` the role's clock stands still, too, and the role does not notice that time has passed. A
    /// suspension during another one can only prolong it.
    pub fn suspend(&mut self, now: Instant, until: Instant, stops: bool) {
        let before = self.suspended;
        let since = before.map_or(now, |before| before.since);
        let until = before.map_or(until, |before| before.until.max(until));
        self.suspended = Some(Suspension { since, until, stops: before.map_or(stops, |before| before.stops) });
    }

    /// The interfaces, by number.
    pub fn interfaces(&self) -> &[Interface] {
        self.system.underlay.interfaces()
    }

    /// Changes an interface: other addresses, up or down, another MTU. The role's TCP connections on an address that is
    /// gone are closed. The role is not notified: the harness does that by a command.
    ///
    /// # Panics
    /// If there is no such interface, and as [`Self::new`].
    pub fn set_interface(&mut self, now: Instant, iface: usize, interface: Interface) {
        let System { underlay, streams, bare, .. } = &mut self.system;
        *underlay.interface_mut(iface) = interface;
        streams.set_addresses(underlay.addresses());
        if let Some(bare) = bare {
            bare.set_addresses(underlay.addresses());
        }
        self.turns(now);
    }

    /// The events of the role since the last call, in order. [`Event::Dropped`] is not among them: it is only counted.
    pub fn drain_events(&mut self) -> Vec<(Instant, Event)> {
        self.system.events.drain(..).collect()
    }

    /// How often the role dropped something, by reason.
    pub fn drops(&self) -> &BTreeMap<DropReason, u64> {
        &self.system.drops
    }

    /// How often the host dropped something, by reason.
    pub fn losses(&self) -> &Losses {
        &self.system.losses
    }

    /// How many packets the role has handed to the virtual interface.
    pub fn delivered(&self) -> u64 {
        self.system.delivered
    }

    /// The source addresses of the packets that the role handed to the virtual interface; at most [`SOURCE_LIMIT`].
    pub fn sources(&self) -> &BTreeSet<IpAddr> {
        &self.system.sources
    }

    /// The addresses of the virtual interface, once the role is registered.
    pub fn virtual_addresses(&self) -> Option<Virtual> {
        self.system.tun.as_ref()?.addresses()
    }

    /// Starts an application on the virtual interface.
    ///
    /// # Panics
    /// If the host has no virtual interface, or more than [`apps::APP_LIMIT`] reports were not taken.
    pub fn start(&mut self, now: Instant, app: App) -> AppId {
        let tun = self.system.tun.as_mut().expect("applications run on a virtual interface");
        let id = tun.apps.start(now, app);
        tun.touch();
        self.turns(now);
        id
    }

    /// From now on this host has a TCP sink on its underlay addresses, too.
    pub fn serve_bare(&mut self, now: Instant) {
        self.bare();
        self.turns(now);
    }

    /// Begins a transfer without a tunnel to another host's own address. Gives its number, for [`Self::bare_report`].
    ///
    /// # Panics
    /// After [`BARE_LIMIT`] transfers.
    pub fn start_bare(&mut self, now: Instant, remote: Option<IpAddr>, transfer: &Transfer) -> usize {
        let ends = remote.and_then(|remote| Some((self.system.underlay.source_for(remote)?, remote)));
        let number = self.bare().start(now, ends, transfer);
        self.turns(now);
        number
    }

    /// What a transfer without a tunnel has seen so far.
    ///
    /// # Panics
    /// If there is no such transfer.
    pub fn bare_report(&self, number: usize) -> &AppReport {
        self.system.bare.as_ref().expect("a transfer was begun").report(number)
    }

    /// The connections without a tunnel to this host's TCP sink, in the order accepted.
    pub fn bare_records(&self) -> &[SinkRecord] {
        self.system.bare.as_ref().map_or(&[], Bare::records)
    }

    fn bare(&mut self) -> &mut Bare {
        let (seed, mtu, ..) = self.stream_config;
        let System { bare, underlay, .. } = &mut self.system;
        // Another seed than those of the other two TCP stacks.
        bare.get_or_insert_with(|| Bare::new(seed.rotate_left(32), mtu, underlay.addresses()))
    }

    /// The report of an application so far.
    ///
    /// # Panics
    /// If there is no such application, or its report was taken.
    pub fn report(&self, id: AppId) -> &AppReport {
        self.system.tun.as_ref().and_then(|tun| tun.apps.report(id)).expect("a report that was not taken")
    }

    /// Takes the report of an application that is finished, and forgets the application.
    pub fn take_report(&mut self, id: AppId) -> Option<AppReport> {
        self.system.tun.as_mut()?.apps.take_report(id)
    }

    /// How many applications still have something to do or to wait for.
    pub fn unfinished(&self) -> usize {
        self.system.tun.as_ref().map_or(0, |tun| tun.apps.unfinished())
    }

    /// The connections to this host's TCP sink ([`TCP_SINK_PORT`]), in the order accepted.
    pub fn sink_records(&self) -> &[SinkRecord] {
        self.system.tun.as_ref().map_or(&[], |tun| tun.sinks.records())
    }

    /// The datagrams of one flow that arrived at this host's UDP sink ([`UDP_SINK_PORT`]). `flow` is the sender's
    /// number for it ([`apps::FlowReport::flow`]).
    pub fn flow(&self, sender: IpAddr, flow: u64) -> Option<&Arrivals> {
        let flows = self.system.tun.as_ref()?.sinks.flows();
        flows.iter().find(|((from, id), _)| from.ip() == sender && *id == flow).map(|(_, arrivals)| arrivals)
    }

    /// Everything that arrived at this host's UDP sink, by sender and flow.
    pub fn flows(&self) -> impl Iterator<Item = (SocketAddr, u64, &Arrivals)> {
        let flows = self.system.tun.iter().flat_map(|tun| tun.sinks.flows());
        flows.map(|(&(from, flow), arrivals)| (from, flow, arrivals))
    }

    /// Runs turns until there is nothing to do at `now`.
    fn turns(&mut self, now: Instant) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if let Some(Suspension { since, stops, .. }) = self.suspended.take_if(|suspension| suspension.until <= now) {
            self.system.wake(now - since, stops);
        }
        if self.suspended.is_some() {
            return;
        }
        self.system.serve_bare(now);
        let roles_now = now - self.system.behind;
        for _ in 0..TURN_LIMIT {
            let is_due = self.wait.is_some_and(|due| due.at <= roles_now);
            let has_work = self.system.gather(now, self.paused.is_some());
            if self.paused.is_some() || !(is_due || has_work) {
                return self.system.send_streams();
            }
            self.wait = turn(&mut self.machine, roles_now, &mut self.system);
        }
        panic!("role and applications never come to rest at {now}");
    }

    fn is_suspended(&self, now: Instant) -> bool {
        self.suspended.is_some_and(|suspension| now < suspension.until)
    }

    fn deadline(&self) -> Option<Instant> {
        if let Some(suspension) = self.suspended {
            return Some(suspension.until);
        }
        let tun = self.system.tun.as_ref().and_then(Tun::deadline);
        let role = self.paused.or_else(|| self.wait.map(|due| due.at + self.system.behind));
        let bare = self.system.bare.as_ref().and_then(Bare::deadline);
        [role, self.system.streams.deadline(), tun, bare].into_iter().flatten().min()
    }
}

impl<C> System<C> {
    /// The machine wakes up after a suspension.
    fn wake(&mut self, lasted: Duration, stops: bool) {
        if stops {
            self.behind += lasted;
        }
        self.streams.wake(lasted);
        if let Some(bare) = &mut self.bare {
            bare.wake(lasted);
        }
        if let Some(tun) = &mut self.tun {
            tun.resume(lasted);
        }
    }

    /// Takes a packet that arrives at an interface.
    fn receive(&mut self, now: Instant, iface: usize, packet: Vec<u8>, is_paused: bool) {
        match self.underlay.receive(now, iface, packet, &mut self.losses) {
            Some(Arrival::Datagram { local, remote, payload }) => {
                self.arrive(Input::Datagram { local, remote, payload }, is_paused);
            }
            Some(Arrival::Tcp(packet)) => match &mut self.bare {
                Some(bare) if Bare::owns(&packet) => bare.receive(packet, &mut self.losses),
                _ => self.streams.receive(packet, &mut self.losses),
            },
            None => {}
        }
    }

    /// An input for the role.
    fn arrive(&mut self, input: Input<C>, is_paused: bool) {
        let is_packet = matches!(input, Input::Datagram { .. } | Input::Packet(_));
        if is_packet && is_paused && self.arrivals.len() >= PAUSED_LIMIT {
            count(&mut self.losses, Loss::QueueFull);
        } else {
            self.arrivals.push_back(input);
        }
    }

    /// Collects inputs from TCP and, while the role is paused, the packets of applications. True if the role has any
    /// input to take.
    fn gather(&mut self, now: Instant, is_paused: bool) -> bool {
        while let Some((id, input)) = self.streams.next(now) {
            self.arrivals.push_back(Input::Stream(id, input));
        }
        if is_paused {
            while let Some(packet) = self.tun.as_mut().and_then(|tun| tun.next(now, &mut self.losses)) {
                self.arrive(Input::Packet(packet), is_paused);
            }
        }
        !self.arrivals.is_empty() || self.tun.as_mut().is_some_and(|tun| tun.has_packet(now, &mut self.losses))
    }

    /// Does what is due of TCP without a tunnel.
    fn serve_bare(&mut self, now: Instant) {
        let Some(bare) = &mut self.bare else { return };
        bare.work(now, &mut self.losses);
        while let Some((source, packet)) = bare.sent() {
            self.underlay.send(source, packet, &mut self.losses);
        }
    }

    /// Sends the packets of TCP.
    fn send_streams(&mut self) {
        while let Some((source, packet)) = self.streams.sent() {
            self.underlay.send(source, packet, &mut self.losses);
        }
    }

    /// Gives a packet of the role to the virtual interface.
    fn deliver(&mut self, packet: Bytes) {
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
}

impl<M: Machine> Surroundings<M> for System<M::Command> {
    fn next_arrival(&mut self, _machine: &M, _now: Instant) -> Option<Input<M::Command>> {
        self.arrivals.pop_front()
    }

    fn next_packet(&mut self, now: Instant) -> Option<Bytes> {
        self.tun.as_mut()?.next(now + self.behind, &mut self.losses)
    }

    fn carry_out(&mut self, _machine: &M, now: Instant, output: Output) {
        match output {
            Output::Transmit(transmit) => self.underlay.transmit(&transmit, &mut self.losses),
            Output::Packets(packets) => packets.into_iter().for_each(|packet| self.deliver(packet)),
            Output::Stream(id, output) => self.streams.apply(id, output, &self.underlay, &mut self.losses),
            Output::Event(event) => self.note(now + self.behind, *event),
            Output::Wait(_) => {}
        }
    }
}

impl<M: Machine + 'static> NetBox for Host<M> {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        match input {
            BoxInput::Packet { .. } if self.is_suspended(now) => count(&mut self.system.losses, Loss::Suspended),
            BoxInput::Packet { iface, packet } => self.system.receive(now, iface, packet, self.paused.is_some()),
            BoxInput::Timeout => {}
        }
        self.turns(now);
    }

    fn handle_packets(&mut self, now: Instant, packets: &mut Vec<(usize, Vec<u8>)>) {
        let is_suspended = self.is_suspended(now);
        for (iface, packet) in packets.drain(..) {
            if is_suspended {
                count(&mut self.system.losses, Loss::Suspended);
                continue;
            }
            self.system.receive(now, iface, packet, self.paused.is_some());
        }
        self.turns(now);
    }

    fn poll_output(&mut self) -> BoxOutput {
        match self.system.underlay.next_packet() {
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
