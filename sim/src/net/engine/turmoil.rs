//! The driver on turmoil: every box is a host, every packet on a wire a UDP datagram.
//!
//! Turmoil's time advances in ticks of a millisecond. To be exact within a tick, each datagram carries the nanosecond
//! of its arrival, as the sending side computed it. Turmoil delays the datagram by the whole milliseconds of the wire's
//! delay less one, and by [`MAX_CARRIED`] at most, so it arrives too early rather than too late. The receiver keeps it
//! until its tick. In each tick a box handles all its events of that millisecond.
//!
//! Turmoil's own loss, partitions and spread of latency are not used: those of the wires are exact and the same for
//! both engines.

use std::cell::{Cell as Shared, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use ::turmoil::net::UdpSocket;
use ::turmoil::{Builder, Sim};
use cyphonic_core::time::Instant;
use tokio::sync::Notify;
use tokio::task::JoinError;

use super::runner::{Arrival, Flight, Runner};
use super::{Engine, check_run};
use crate::net::{BoxId, Direction, MIN_DELAY, NetBox, Network, WireConfig, WireError};

/// Turmoil moves time in steps. With a step of the least delay of a wire, nothing arrives within the step in which it
/// left.
const TICK: Duration = MIN_DELAY;
/// The port at which every box receives.
const PORT: u16 = 9;
/// So large that it is never reached: a full socket would lose packets.
const SOCKET_CAPACITY: usize = u32::MAX as usize;
/// The largest part of a wire's delay that turmoil takes over; the packet waits for the rest at the receiver. Turmoil
/// searches all packets in flight between two hosts whenever one of them sends, which is slow for long fast wires.
const MAX_CARRIED: Duration = Duration::from_millis(4);
/// Most spare buffers that a box keeps for later packets.
const MAX_SPARE: usize = 256;

/// Runs a network on turmoil.
pub struct TurmoilEngine {
    network: Network,
    sim: Sim<'static>,
    hosts: Vec<Rc<Host>>,
    /// The beginning of the tick that is being run.
    tick: Rc<Shared<Instant>>,
}

/// What the engine and the host's task share.
struct Host {
    runner: Rc<RefCell<Runner>>,
    /// Packets sent while the task was not running.
    outbox: RefCell<Vec<Flight>>,
    /// Notified when the harness changed the box.
    touched: Notify,
}

impl TurmoilEngine {
    /// Polls every box at time zero.
    pub fn new(network: Network) -> Self {
        let mut sim = Builder::new()
            .rng_seed(0)
            .epoch(UNIX_EPOCH)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .udp_capacity(SOCKET_CAPACITY)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::ZERO)
            .build();
        let tick = Rc::new(Shared::new(Instant::ZERO));
        let hosts: Vec<_> = network
            .runners
            .iter()
            .map(|runner| {
                let mut outbox = Vec::new();
                runner.borrow_mut().drain(Instant::ZERO, &mut outbox);
                Rc::new(Host { runner: runner.clone(), outbox: RefCell::new(outbox), touched: Notify::new() })
            })
            .collect();
        let addresses: Rc<[SocketAddr]> =
            (0..hosts.len()).map(|i| SocketAddr::new(sim.lookup(host_name(i)), PORT)).collect();
        for (i, host) in hosts.iter().enumerate() {
            let (host, tick, addresses) = (host.clone(), tick.clone(), addresses.clone());
            sim.host(host_name(i), move || run_host(host.clone(), tick.clone(), addresses.clone()));
        }
        let mut engine = Self { network, sim, hosts, tick };
        let pairs: BTreeMap<_, _> =
            engine.network.directions().map(|direction| (engine.pair(direction), direction)).collect();
        for direction in pairs.into_values() {
            engine.set_latency(direction);
        }
        engine.step();
        engine
    }

    /// One tick of turmoil.
    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            match error.downcast::<JoinError>().map(|error| error.try_into_panic()) {
                Ok(Ok(panic)) => std::panic::resume_unwind(panic),
                other => panic!("turmoil failed: {other:?}"),
            }
        }
    }

    /// The two boxes that a wire joins, in one order for both directions.
    fn pair(&self, direction: Direction) -> [BoxId; 2] {
        let mut pair = self.network.ends(direction).map(|(id, _)| id);
        pair.sort();
        pair
    }

    /// Sets the latency between two boxes. Turmoil has one for all wires between them, in both directions.
    fn set_latency(&self, direction: Direction) {
        let pair = self.pair(direction);
        let delays = self.network.directions().filter(|&other| self.pair(other) == pair);
        let least = delays.map(|other| self.network.wire_config(other).delay).min().unwrap_or(TICK);
        let whole = Duration::from_millis(least.as_millis() as u64).saturating_sub(TICK).min(MAX_CARRIED);
        let [a, b]: [IpAddr; 2] = pair.map(|id| self.sim.lookup(host_name(id.0)));
        self.sim.set_link_latency(a, b, whole);
    }
}

impl Engine for TurmoilEngine {
    fn now(&self) -> Instant {
        self.tick.get()
    }

    fn run_until(&mut self, until: Instant) {
        check_run(self.now(), until);
        while self.tick.get() < until {
            self.step();
            self.tick.set(self.tick.get() + TICK);
        }
    }

    fn with_box(&mut self, id: BoxId, f: &mut dyn FnMut(Instant, &mut dyn NetBox)) {
        let host = &self.hosts[id.0];
        let mut runner = host.runner.borrow_mut();
        f(self.tick.get(), runner.netbox_mut());
        runner.drain(self.tick.get(), &mut host.outbox.borrow_mut());
        host.touched.notify_one();
    }

    fn set_wire(&mut self, direction: Direction, config: WireConfig) -> Result<(), WireError> {
        self.network.set_wire(direction, config)?;
        self.set_latency(direction);
        Ok(())
    }

    fn set_wire_up(&mut self, direction: Direction, up: bool) {
        self.network.set_wire_up(direction, up);
    }

    fn network(&self) -> &Network {
        &self.network
    }
}

fn host_name(i: usize) -> String {
    format!("box-{i}")
}

/// The task of one box.
async fn run_host(host: Rc<Host>, tick: Rc<Shared<Instant>>, addresses: Rc<[SocketAddr]>) -> ::turmoil::Result {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
    // Simulated time zero is turmoil's first tick, when every socket is bound.
    tokio::time::sleep(TICK).await;
    let mut flights = std::mem::take(&mut *host.outbox.borrow_mut());
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let mut buffer = vec![0; HEAD + usize::from(u16::MAX)];
    loop {
        let elapsed = ::turmoil::sim_elapsed().ok_or("outside of the simulation")?;
        let now = Instant::ZERO + elapsed.saturating_sub(TICK);
        assert_eq!(now, tick.get(), "a task runs at the beginning of a tick");
        let wake = {
            let mut runner = host.runner.borrow_mut();
            while let Ok((len, _)) = socket.try_recv_from(&mut buffer) {
                runner.accept(decode(&buffer[..len], spare.pop().unwrap_or_default()));
            }
            flights.append(&mut host.outbox.borrow_mut());
            runner.run(now + TICK, &mut flights);
            runner.next()
        };
        for Flight { to, arrival } in flights.drain(..) {
            let len = encode(&arrival, &mut buffer);
            socket.try_send_to(&buffer[..len], addresses[to])?;
            if spare.len() < MAX_SPARE {
                spare.push(arrival.packet);
            }
        }
        tokio::select! {
            biased;
            ready = socket.readable() => ready?,
            () = host.touched.notified() => {}
            () = sleep_until_tick_of(wake, now) => {}
        }
    }
}

async fn sleep_until_tick_of(wake: Option<Instant>, now: Instant) {
    match wake {
        Some(wake) => {
            let tick = Instant::from_millis(wake.as_nanos() / 1_000_000);
            tokio::time::sleep(tick - now).await;
        }
        None => std::future::pending().await,
    }
}

/// Length of the head of a datagram: arrival, number on the wire, interface. The packet follows.
const HEAD: usize = 8 + 8 + 4;

fn encode(arrival: &Arrival, buffer: &mut [u8]) -> usize {
    let len = HEAD + arrival.packet.len();
    buffer[..8].copy_from_slice(&arrival.at.as_nanos().to_be_bytes());
    buffer[8..16].copy_from_slice(&arrival.sequence.to_be_bytes());
    buffer[16..HEAD].copy_from_slice(&arrival.iface.to_be_bytes());
    buffer[HEAD..len].copy_from_slice(&arrival.packet);
    len
}

fn decode(datagram: &[u8], mut packet: Vec<u8>) -> Arrival {
    let (at, rest) = datagram.split_first_chunk().expect("written by us");
    let (sequence, rest) = rest.split_first_chunk().expect("written by us");
    let (iface, rest) = rest.split_first_chunk().expect("written by us");
    packet.clear();
    packet.extend_from_slice(rest);
    Arrival {
        at: Instant::from_nanos(u64::from_be_bytes(*at)),
        iface: u32::from_be_bytes(*iface),
        sequence: u64::from_be_bytes(*sequence),
        packet,
    }
}
