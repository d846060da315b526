//! The node: a virtual address that stays, tunnels that come and go beneath it.
//!
//! ```text
//! out  application → Packet → by virtual address → tunnel → Transmit
//! in   Datagram → tunnel → the inner source must be the peer's own virtual address → Packet → application
//! sig  DNS query or first packet → held, bounded → Direction Request → Route Direction → tunnel up → released
//! ```
//!
//! What both methods share is here: logging in and registering (`cloud`), what the network does to us (`survey`), whom we
//! talk to (`peers`) and on which way (`routes`), what waits for a tunnel (`held`), the packets of applications (`inner`). What differs is behind one trait, `carriage`:
//! `conventional` and `proposed`.

mod carriage;
mod cloud;
mod conventional;
mod held;
mod inner;
mod peers;
mod proposed;
mod routes;
mod status;
mod survey;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use self::carriage::{Carriage, CarriageOutput, Places};
use self::cloud::Cloud;
use self::peers::Peers;
use self::survey::Survey;
use crate::event::{DropReason, Event, Failure};
use crate::machine::{Input, Machine, Output, Tables};
use crate::message::{ErrorCode, Framing};
use crate::method::Method;
use crate::name::{Fqdn, Virtual};
use crate::probe::is_probe;
use crate::quic::QuicOptions;
use crate::time::Instant;
use crate::timing::{Due, earliest};
use crate::tls::{Environment, Identity, Roots, TlsError};

pub use held::{MAX_HELD_BYTES, MAX_HELD_PACKETS, MAX_HELD_QUERIES};
pub use peers::MAX_PEERS;
pub use status::{ChoiceStatus, PeerStatus, TunnelStatus};

/// What a node is told before it starts.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its name; the certificate's, where there is one.
    pub name: Fqdn,
    /// Which method it speaks.
    pub method: Method,
    /// The UDP port that it sends from and listens on.
    pub port: u16,
    /// The addresses of its interfaces.
    pub addresses: Vec<IpAddr>,
    /// The first 96 bits of addresses that a NAT64 of its network translates, as router advertisements tell them
    /// (RFC 8781); so that IPv4 can be reached without an IPv4 address.
    pub nat64: Option<Ipv6Addr>,
    /// Where and who the cloud services are.
    pub services: Services,
    /// How it logs in.
    pub login: Login,
    /// How it asks for packets to be carried.
    pub framing: Framing,
    /// The overlay's addresses and names.
    pub overlay: Overlay,
    /// Cryptography and clock.
    pub tls: Environment,
    /// Trust anchors.
    pub roots: Roots,
    /// Its certificate; required by the proposed method and by [`Login::Certificate`].
    pub identity: Option<Identity>,
    /// The QUIC application protocol, such as `h3`.
    pub alpn: Vec<u8>,
    /// QUIC timers and sizes.
    pub quic: QuicOptions,
    /// Seeds all of its randomness. In production: from the operating system.
    pub seed: [u8; 32],
}

/// Where and who the cloud services are.
#[derive(Clone, Debug)]
pub struct Services {
    /// The name in the AS's certificate.
    pub as_name: Fqdn,
    /// The AS's addresses, both families: TCP port in the conventional method, UDP port in the proposed.
    pub as_addresses: Vec<SocketAddr>,
    /// The name in the NMS's certificate. Its address comes with the Login Response.
    pub nms_name: Fqdn,
    /// The name in the TRS's certificate. Its address comes with a Route Direction.
    pub trs_name: Fqdn,
}

/// How a node logs in.
#[derive(Clone)]
pub enum Login {
    /// By its certificate.
    Certificate,
    /// By a password (conventional method only).
    Password(String),
}

/// The overlay's addresses and names.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// All virtual IPv4 addresses lie in here (address, prefix length).
    pub v4: (Ipv4Addr, u8),
    /// All virtual IPv6 addresses lie in here.
    pub v6: (Ipv6Addr, u8),
    /// Names in this zone are nodes.
    pub zone: Fqdn,
    /// Where the node itself answers DNS, IPv4.
    pub dns_v4: Ipv4Addr,
    /// Where the node itself answers DNS, IPv6.
    pub dns_v6: Ipv6Addr,
}

impl Overlay {
    /// The defaults: 198.18.0.0/16 and 2001:db8:c::/64, DNS at .0.1 and ::1.
    pub fn new(zone: Fqdn) -> Self {
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, last);
        Self {
            v4: (Ipv4Addr::new(198, 18, 0, 0), 16),
            v6: (v6(0), 64),
            zone,
            dns_v4: Ipv4Addr::new(198, 18, 0, 1),
            dns_v6: v6(1),
        }
    }

    /// Whether `address` could belong to a node.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4.1)).unwrap_or(0);
                (a.to_bits() ^ self.v4.0.to_bits()) & mask == 0
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6.1)).unwrap_or(0);
                (a.to_bits() ^ self.v6.0.to_bits()) & mask == 0
            }
        }
    }

    /// Whether `address` is where the node answers DNS.
    pub fn is_dns(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.dns_v4) || address == IpAddr::V6(self.dns_v6)
    }
}

/// What a node's user may ask.
#[derive(Clone, Debug)]
pub enum NodeCommand {
    /// Log in and register.
    Start,
    /// Leave: close what can be closed, so that peers and cloud need not wait for silence, and do nothing more.
    Stop,
    /// Trust these from now on. Tunnels to peers whose certificates do not count any more end now.
    Trust(Roots),
    /// These names' certificates were taken back: tunnels to them end now. Who comes back under such a name has been admitted
    /// anew by AS and NMS. In the conventional method nothing else says so, because nodes see no certificates of each other.
    Revoked(Vec<Fqdn>),
    /// The network is another one: a handover, if anything differs.
    Network {
        /// The addresses of the interfaces now.
        addresses: Vec<IpAddr>,
        /// As [`NodeConfig::nat64`].
        nat64: Option<Ipv6Addr>,
    },
}

/// A node; see the [module](self).
pub struct Node {
    overlay: Overlay,
    name: Fqdn,
    rng: ChaCha20Rng,
    carriage: Box<dyn Carriage + Send>,
    cloud: Cloud,
    peers: Peers,
    survey: Survey,
    own: Option<Virtual>,
    out: VecDeque<Output>,
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
        Ok(Self {
            overlay: config.overlay,
            name: config.name,
            cloud: Cloud::new(places, config.tls.clock),
            carriage,
            survey: Survey::new(fork(&mut rng)),
            rng,
            peers: Peers::default(),
            own: None,
            out: VecDeque::new(),
        })
    }

    /// The node's virtual addresses, once it was registered.
    pub fn virtual_addresses(&self) -> Option<Virtual> {
        self.own
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn dropped(&mut self, reason: DropReason) {
        self.event(Event::Dropped(reason));
    }

    fn on_command(&mut self, now: Instant, command: NodeCommand) {
        match command {
            NodeCommand::Start => self.start(now),
            NodeCommand::Stop => self.stop(now),
            NodeCommand::Trust(roots) => {
                if self.carriage.trust(now, roots).is_err() {
                    self.dropped(DropReason::BadTrust);
                }
            }
            NodeCommand::Revoked(names) => {
                for name in &names {
                    if let Some(id) = self.peers.by_name(name) {
                        self.fail_route(now, id, Failure::Refused(ErrorCode::Unauthorized));
                    }
                }
            }
            NodeCommand::Network { addresses, nat64 } => self.change_network(now, addresses, nat64),
        }
    }

    /// Takes all that the carriage has to say.
    fn drain_carriage(&mut self, now: Instant) {
        while let Some(output) = self.carriage.poll() {
            match output {
                CarriageOutput::Pass(output) => self.out.push_back(output),
                CarriageOutput::LoggedIn(response) => self.on_logged_in(now, response),
                CarriageOutput::NmsReady => self.send_registration(now),
                CarriageOutput::LoginFailed(reason) | CarriageOutput::NmsLost(reason) => {
                    self.on_cloud_failed(now, reason);
                }
                CarriageOutput::FromNms(header, message) => self.on_nms_message(now, &header, message),
                CarriageOutput::TunnelUp(tunnel, up) => self.on_tunnel_up(now, tunnel, up),
                CarriageOutput::TunnelDown(tunnel, reason) => self.on_tunnel_down(now, tunnel, reason),
                CarriageOutput::Packet(tunnel, packet) => {
                    if let Some(peer) = self.peer_on(now, tunnel) {
                        self.on_tunnelled_packet(peer, packet);
                    }
                }
            }
        }
    }

    fn random_u32(&mut self) -> u32 {
        if defect!(ProcessWideCounter) {
            static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            return CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.rng.next_u32()
    }
}

impl Machine for Node {
    type Command = NodeCommand;

    fn handle_input(&mut self, now: Instant, input: Input<NodeCommand>) {
        self.feed(now, input);
        self.settle(now);
    }

    fn feed(&mut self, now: Instant, input: Input<NodeCommand>) {
        match input {
            Input::Datagram { local, remote, payload } if is_probe(&payload) => {
                self.on_probe_reply(now, local, remote, payload);
            }
            Input::Datagram { local, remote, payload } => self.carriage.handle_datagram(now, local, remote, payload),
            Input::Stream(id, event) => self.carriage.handle_stream(now, id, event),
            Input::Packet(packet) => self.on_application_packet(now, packet),
            Input::Timeout => {
                self.carriage.handle_timeout(now);
                self.drain_carriage(now);
                self.cloud_timeout(now);
                self.peers_timeout(now);
                self.survey_timeout(now);
            }
            Input::Command(command) => self.on_command(now, command),
        }
    }

    fn deliver(&mut self, now: Instant) {
        self.carriage.deliver(now);
        self.drain_carriage(now);
    }

    fn settle(&mut self, now: Instant) {
        self.carriage.settle(now);
        self.drain_carriage(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(output) = self.out.pop_front() {
            return output;
        }
        Output::Wait(self.next_timer())
    }

    fn next_timer(&self) -> Option<Due> {
        let own = [self.cloud.next_timer(), self.peers.next_timer(), self.survey.next_timer()];
        earliest(own.into_iter().chain([self.carriage.next_timer()]))
    }

    fn tables(&self) -> Tables {
        let mut tables = self.carriage.tables();
        tables.extend(self.peers.tables());
        tables
    }
}

/// A stream of randomness of its own, so that one part never disturbs another.
fn fork(rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}
