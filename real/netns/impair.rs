//! The impairment router: one thread that carries packets between pairs of TUN devices, through the simulator's own
//! model of a wire ([`cyphonic_wire`]). It delays, loses, duplicates, damages and reorders packets. The kernel routes
//! them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use cyphonic_core::time::Instant;
use cyphonic_wire::{PathConfig, Wire, WireConfig, WireError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

/// The largest packet, bytes.
const LARGEST: usize = 65_535;
/// The longest time until an order is carried out.
const PATIENCE: Duration = Duration::from_millis(20);
/// Most packets taken from one device before the next device has its turn.
const TURN: usize = 64;
/// Most packets on all wires together. A scenario's queues are shorter.
const UNDER_WAY: usize = 1 << 16;

/// A wire and the devices at its ends. The inner end is further from the core.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) inner: SyncDevice,
    pub(super) outer: SyncDevice,
    pub(super) up: WireConfig,
    pub(super) down: WireConfig,
}

/// An order for a wire, by the wire's number.
pub(super) enum Order {
    /// New settings: towards the core, and from it.
    Configure(usize, Box<[WireConfig; 2]>),
    /// New settings for a path through the wire: towards the core, and from it.
    Path { wire: usize, name: String, paths: Box<[Option<PathConfig>; 2]> },
    /// Takes the wire down (false), or up (true).
    Up(usize, bool),
}

/// The running router. It ends when this is dropped.
pub(super) struct Impair {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Impair {
    /// Starts the router. All randomness comes from `seed`.
    pub(super) fn start(pairs: Vec<Pair>, seed: u64) -> Result<Self, WireError> {
        let mut lanes = Vec::new();
        let mut devices = Vec::new();
        for Pair { name, inner, outer, up, down } in pairs {
            // Lane 2n leads from device 2n to device 2n + 1, lane 2n + 1 back.
            lanes.push(Wire::new(seed, &format!("{name} up"), up)?);
            lanes.push(Wire::new(seed, &format!("{name} down"), down)?);
            devices.extend([inner, outer]);
        }
        let (orders, receiver) = channel();
        let router = Router { lanes, devices, begin: StdInstant::now(), under_way: BTreeMap::new(), orders: receiver };
        let thread = std::thread::spawn(move || router.run());
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Gives an order. It is carried out within milliseconds.
    pub(super) fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Impair {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Router {
    lanes: Vec<Wire>,
    devices: Vec<SyncDevice>,
    begin: StdInstant,
    /// In the order of arrival, then of lane and number on it: device and packet.
    under_way: BTreeMap<(Instant, usize, u64), (usize, Vec<u8>)>,
    orders: Receiver<Order>,
}

impl Router {
    fn run(mut self) {
        let mut buffer = vec![0; LARGEST];
        let mut ready = vec![true; self.devices.len()];
        loop {
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            for (device, ready) in ready.iter_mut().enumerate() {
                if std::mem::take(ready) {
                    self.take(device, &mut buffer);
                }
            }
            self.deliver();
            if self.wait(&mut ready).is_err() {
                return;
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.begin.elapsed()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Configure(wire, configs) => {
                for (lane, config) in configs.into_iter().enumerate() {
                    if let Err(error) = self.lanes[2 * wire + lane].configure(config) {
                        tracing::warn!(%error, "a wire stays as it was");
                    }
                }
            }
            Order::Path { wire, name, paths } => {
                for (lane, path) in paths.into_iter().enumerate().filter(|(_, path)| path.is_some()) {
                    if let Err(error) = self.lanes[2 * wire + lane].set_path(&name, path) {
                        tracing::warn!(%error, "a path stays as it was");
                    }
                }
            }
            Order::Up(wire, up) => {
                for lane in [2 * wire, 2 * wire + 1] {
                    self.lanes[lane].set_up(up);
                }
            }
        }
    }

    /// Takes the packets of a device onto its wire.
    fn take(&mut self, device: usize, buffer: &mut [u8]) {
        for _ in 0..TURN {
            // An error means that the device has no more packets, or is down.
            let Ok(length) = self.devices[device].recv(buffer) else { return };
            let now = self.now();
            let full = self.under_way.len() >= UNDER_WAY;
            let under_way = &mut self.under_way;
            let deliver = |passage: cyphonic_wire::Passage, packet| {
                if !full {
                    under_way.insert((passage.arrives, device, passage.sequence), (device ^ 1, packet));
                }
            };
            // Nobody is told of packets that the wire drops.
            let _ = self.lanes[device].send(now, buffer[..length].to_vec(), |_, _, _| {}, deliver);
        }
    }

    /// Hands over the packets that have arrived.
    fn deliver(&mut self) {
        let now = self.now();
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now
        {
            let (device, packet) = first.remove();
            // The kernel refuses a damaged version field, as a host would.
            let _ = self.devices[device].send(&packet);
        }
    }

    /// Sleeps until a device has a packet, a packet arrives, or it is time to check for orders.
    fn wait(&self, ready: &mut [bool]) -> io::Result<()> {
        let next = self.under_way.first_key_value().map_or(PATIENCE, |((at, ..), _)| at.saturating_since(self.now()));
        let time = next.min(PATIENCE);
        let timeout = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> =
            self.devices.iter().map(|device| PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (fd, ready) in fds.iter().zip(ready) {
            *ready = fd.revents().contains(PollFlags::IN);
        }
        Ok(())
    }
}
