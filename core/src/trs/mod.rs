//! The Tunnel Relay Service.
//!
//! It forwards only between two nodes that the NMS sent to it together, so it is never an open relay.
//!
//! * `conventional`: paths that the NMS announced, for a time. A node authenticates on its path with the tunnel key,
//!   and capsules are forwarded only from the address of that message. The TRS has no end key.
//! * `proposed`: legs, which are QUIC connections with mutual certificates. A Tunnel Request names the other leg by
//!   its connection ID, which only its owner, the NMS and the node that the NMS told can know; the other node's Tunnel
//!   Response binds the two, if the NMS has granted it ([`crate::grant`]). In the blind mode the TRS then forwards
//!   datagrams by the first eight bytes of their
//!   destination connection ID, from the leg's validated address only, and holds no key.
//!
//! It also answers [`Probes`](crate::probe), directly and when the NMS asks, so that nodes can learn how their networks
//! treat packets of another host than the NMS.

mod conventional;
mod granted;
mod proposed;

use std::collections::VecDeque;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use self::conventional::Paths;
use self::proposed::Legs;
use crate::event::{DropReason, Event, Protection, Signal};
use crate::grant::Grants;
use crate::key::Key128;
use crate::machine::{Input, Machine, Output, ServiceCommand, Tables};
use crate::message::{Message, RelayMode};
use crate::name::{NodeId, Party};
use crate::probe::is_not_quic;
use crate::quic::QuicConfig;
use crate::store::Store;
use crate::time::Instant;
use crate::timing::{Due, earliest};
use crate::tls::TlsError;

pub use conventional::MAX_PATHS;
pub use granted::RelayLimits;
pub use proposed::{MAX_BINDINGS_PER_LEG, MAX_LEGS_PER_NODE};

/// The configuration of the TRS.
#[derive(Clone)]
pub struct TrsConfig {
    /// Its identity, and its QUIC settings.
    pub quic: QuicConfig,
    /// The port of the conventional method; datagrams to other ports are QUIC.
    pub conventional_port: u16,
    /// The key that NMS and TRS share (conventional method).
    pub service_key: Key128,
    /// How it relays in the proposed method.
    pub mode: RelayMode,
    /// Whether it relays between two nodes only with a grant of the NMS, and for as long as it lasts.
    pub grants: bool,
    /// What each node may send through it, in each method.
    pub limits: Option<RelayLimits>,
    /// Keeps the last epoch of the NMS, or a later one, over restarts, under the TRS's own id (conventional method).
    /// Without it, the TRS relies on its clock: if the NMS's clock is ahead, requests from before a restart can be
    /// replayed.
    pub store: Option<Arc<dyn Store>>,
    /// Seeds all of its randomness.
    pub seed: [u8; 32],
}

/// The TRS. It answers both methods, by port.
pub struct Trs {
    conventional_port: u16,
    paths: Paths,
    legs: Legs,
    out: VecDeque<Output>,
}

impl Trs {
    /// A TRS without paths and legs.
    pub fn new(mut config: TrsConfig) -> Result<Self, TlsError> {
        config.quic.options.remembers = true;
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let name = config.quic.identity.name.clone();
        config.quic.tls.log_service_key(NodeId::of(&name), &config.service_key);
        let clock = config.quic.tls.clock.clone();
        let versions = config.quic.options.versions;
        Ok(Self {
            conventional_port: config.conventional_port,
            legs: Legs::new(
                config.quic,
                config.mode,
                config.grants.then(|| Grants::new(&config.service_key)),
                config.limits,
                &mut rng,
            )?,
            paths: Paths::new(&name, &config.service_key, config.store, (clock, versions), rng.next_u32() / 2)
                .limited(config.grants, config.limits),
            out: VecDeque::new(),
        })
    }
}

impl Machine for Trs {
    type Command = ServiceCommand;

    fn feed(&mut self, now: Instant, input: Input<ServiceCommand>) {
        match input {
            Input::Datagram { local, remote, payload }
                if local.port() == self.conventional_port
                    || (is_not_quic(&payload) && !self.legs.is_path_probe(&payload)) =>
            {
                self.paths.handle_datagram(now, local, remote, payload, &mut self.out);
            }
            Input::Datagram { local, remote, payload } => {
                self.legs.take_datagram(now, local, remote, payload, &mut self.out);
            }
            Input::Stream(..) | Input::Packet(_) => dropped(&mut self.out, DropReason::Unexpected),
            Input::Timeout => {
                self.paths.handle_timeout(now);
                self.legs.handle_timeout(now);
            }
            Input::Command(command) => self.legs.on_command(now, command, &mut self.out),
        }
    }

    fn finish(&mut self, now: Instant) {
        self.legs.finish(now, &mut self.out);
    }

    fn poll_output(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| Output::Wait(self.next_timer()))
    }

    fn next_timer(&self) -> Option<Due> {
        earliest([self.paths.next_timer(), self.legs.next_timer()])
    }

    fn tables(&self) -> Tables {
        let mut tables = self.legs.tables();
        tables.push(("paths", self.paths.count()));
        tables
    }
}

fn dropped(out: &mut VecDeque<Output>, reason: DropReason) {
    out.push_back(Output::from(Event::Dropped(reason)));
}

fn signal(out: &mut VecDeque<Output>, to: Party, message: &Message, protection: Protection, count: u8) {
    let signal = Signal::message(Party::Trs, to, message, protection, count);
    out.push_back(Output::from(Event::Signal(Box::new(signal))));
}

fn transmit(out: &mut VecDeque<Output>, transmit: impl Into<Output>) {
    out.push_back(transmit.into());
}
