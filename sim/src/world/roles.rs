//! The roles of a scenario, each with its identity and its seeds.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::auth::{self, AuthConfig};
use cyphonic_core::key::Key128;
use cyphonic_core::message::RelayMode;
use cyphonic_core::name::Fqdn;
use cyphonic_core::nms::{self, NmsConfig, RelayConfig};
use cyphonic_core::node::{FallbackConfig, Login, Node, NodeConfig, Overlay, ProxyConfig, Services};
use cyphonic_core::proxied::TCP_PORT;
use cyphonic_core::proxied::door::{DoorConfig, Served};
use cyphonic_core::quic::{QuicConfig, QuicOptions};
use cyphonic_core::rules::Rules;
use cyphonic_core::store::{Device, MemoryStore, PasswordHash, SIMULATION_ITERATIONS, Store, VirtualRange};
use cyphonic_core::time::Instant;
use cyphonic_core::tls::{Environment, Identity};
use cyphonic_core::trs::{self, TrsConfig};
use cyphonic_core::version::Versions;
use cyphonic_scenarios::{
    Login as LoginWay, Method, PROXY_PORT, Policy, Scenario, Service, Signaling, VIRTUAL_V4, VIRTUAL_V6, ZONE,
};

use super::Watch;
use super::civil::Civil;
use crate::hex;
use crate::seeded::{self, Pki};

/// The QUIC application protocol of every link.
const ALPN: &[u8] = b"h3";
/// The AS's TCP port in the conventional method.
pub(super) const LOGIN_PORT: u16 = 443;
/// The NMS's second port: that of STUN (RFC 8489 §18.6), whose work it does.
pub(super) const PROBE_PORT: u16 = 3478;
/// For how long the NMS grants the TRS: short, so that runs of a few minutes see how grants are renewed and end.
pub(crate) const GRANT_TIME: Duration = Duration::from_secs(180);

/// The AS, behind its door.
pub(super) type Auth = Served<auth::Auth>;
/// The NMS, behind its door.
pub(super) type Nms = Served<nms::Nms>;
/// The TRS, behind its door.
pub(super) type Trs = Served<trs::Trs>;

/// Whether nodes reach the services by TCP where UDP is blocked. That is this project's own, as the optimal policy is:
/// under the paper's policy the proposed method is the paper's.
pub(super) fn has_fallback(scenario: &Scenario) -> bool {
    scenario.method == Method::Proposed && scenario.policy == Policy::Optimal
}

/// Makes the roles of one scenario.
pub(super) struct Cast<'a> {
    scenario: &'a Scenario,
    seed: u64,
    watch: &'a Watch,
    pki: Arc<Pki>,
    /// The database that AS and NMS share.
    store: Arc<dyn Store>,
    /// The TRS's own, on another machine.
    own_store: Arc<dyn Store>,
    civil: Civil,
    /// The access rules that the NMS reads when it starts.
    rules: Rules,
    /// When the roles are made: another life, another clock and other randomness.
    born: Instant,
}

/// The database at the beginning: every node's device.
pub(super) fn database(scenario: &Scenario, seed: u64) -> MemoryStore {
    let range = VirtualRange::new(VIRTUAL_V4.network(), VIRTUAL_V4.prefix_len(), VIRTUAL_V6.network())
        .expect("the scenarios' ranges are good");
    let store = MemoryStore::new(range);
    for node in scenario.nodes.iter().filter(|node| node.copy_of.is_none()) {
        // Hashing takes its time on purpose, so only where one is asked for.
        let device = if scenario.login == LoginWay::Password {
            password_device(seed, &node.name)
        } else {
            Device { name: node.name.clone(), password: None, certificate_login: true }
        };
        store.put_device(&device).expect("memory does not fail");
    }
    store
}

/// The account of a node that may log in by its password, too.
pub fn password_device(seed: u64, name: &Fqdn) -> Device {
    let salt = seeded::derive(seed, name.as_str(), "salt");
    let salt = *salt.first_chunk().expect("32 bytes");
    let password = PasswordHash::new(&password(seed, name), salt, SIMULATION_ITERATIONS);
    Device { name: name.clone(), password: Some(password), certificate_login: true }
}

/// Everybody's clock and certificate at the beginning.
pub(super) fn civil(scenario: &Scenario) -> Civil {
    let nodes = scenario.nodes.iter().map(|node| node.name.clone());
    Civil::new(["as", "nms", "trs"].map(service_name).into_iter().chain(nodes))
}

impl<'a> Cast<'a> {
    /// Roles that begin their lives now, with the databases that there are: that of AS and NMS, and the TRS's own.
    pub(super) fn new(
        scenario: &'a Scenario,
        seed: u64,
        watch: &'a Watch,
        [store, own_store]: [Arc<dyn Store>; 2],
        civil: Civil,
        rules: Rules,
        born: Instant,
    ) -> Self {
        Self { scenario, seed, watch, pki: seeded::shared_pki(seed), store, own_store, civil, rules, born }
    }

    /// The label of a role's random streams: its name, and its start after a restart.
    fn label(&self, name: &Fqdn) -> String {
        if self.born == Instant::ZERO { name.to_string() } else { format!("{name} born at {}", self.born) }
    }

    fn environment(&self, name: &Fqdn) -> Environment {
        let mut environment = seeded::environment_by(self.seed, &self.label(name), self.civil.clock(name));
        let is_kept = self.watch.secrets_of.as_ref().is_none_or(|hosts| hosts.iter().any(|host| host == name.short()));
        let secrets = self.watch.secrets.clone().filter(|_| is_kept);
        environment.key_log = secrets.map(|secrets| secrets as Arc<dyn rustls::KeyLog>);
        environment
    }

    fn quic(&self, name: &Fqdn) -> QuicConfig {
        QuicConfig {
            tls: self.environment(name),
            roots: self.pki.roots(),
            identity: self.identity(name),
            alpn: ALPN.to_vec(),
            options: QuicOptions { serves_packets: false, ..self.options(name) },
        }
    }

    pub(super) fn identity(&self, name: &Fqdn) -> Identity {
        let ends = self.civil.certificate_ends(self.scenario, name);
        self.pki.renewed(name, self.civil.renewals(name), ends)
    }

    fn options(&self, name: &Fqdn) -> QuicOptions {
        let qlog = self.watch.qlog.as_ref().map(|sink| sink(name.short()));
        let versions = self.watch.versions.get(name.short()).copied().unwrap_or(Versions::OURS);
        QuicOptions { congestion: self.scenario.congestion.into(), qlog, versions, ..QuicOptions::default() }
    }

    fn seed_of(&self, name: &Fqdn) -> [u8; 32] {
        seeded::derive(self.seed, &self.label(name), "role")
    }

    pub(super) fn auth(&self) -> Auth {
        let name = service_name("as");
        let nms = both(&self.scenario.services.nms, self.scenario.port);
        let config = AuthConfig {
            quic: self.quic(&name),
            nms_conventional: nms.clone(),
            nms_proposed: nms,
            store: self.store.clone(),
            seed: self.seed_of(&name),
        };
        let service = auth::Auth::new(config).expect("a seeded identity is good");
        Served::new(service, self.door(&name, &self.scenario.services.auth)).expect("a seeded identity is good")
    }

    pub(super) fn nms(&self) -> Nms {
        let (name, trs) = (service_name("nms"), service_name("trs"));
        let relay = both(&self.scenario.services.trs, self.scenario.port);
        let config = NmsConfig {
            quic: self.quic(&name),
            conventional_port: self.conventional_port(),
            addresses: ips(&self.scenario.services.nms),
            store: self.store.clone(),
            relay: Some(RelayConfig {
                name: trs,
                conventional: relay.clone(),
                proposed: relay,
                service_key: service_key(self.seed),
                mode: self.scenario.relay_mode,
            }),
            policy: self.scenario.policy.into(),
            rules: self.rules.clone(),
            grants: self.has_grants().then_some(GRANT_TIME),
            probe_port: PROBE_PORT,
            seed: self.seed_of(&name),
        };
        let service = nms::Nms::new(config).expect("a seeded identity is good");
        Served::new(service, self.door(&name, &self.scenario.services.nms)).expect("a seeded identity is good")
    }

    pub(super) fn trs(&self) -> Trs {
        let name = service_name("trs");
        let mut quic = self.quic(&name);
        quic.options.serves_packets = self.scenario.relay_mode == RelayMode::Terminating;
        let config = TrsConfig {
            quic,
            conventional_port: self.conventional_port(),
            service_key: service_key(self.seed),
            mode: self.scenario.relay_mode,
            grants: self.has_grants(),
            limits: None,
            store: Some(self.own_store.clone()),
            seed: self.seed_of(&name),
        };
        let service = trs::Trs::new(config).expect("a seeded identity is good");
        Served::new(service, self.door(&name, &self.scenario.services.trs)).expect("a seeded identity is good")
    }

    /// The door in front of a service.
    fn door(&self, name: &Fqdn, service: &Service) -> Option<DoorConfig> {
        let is_as = *name == service_name("as");
        has_fallback(self.scenario).then(|| DoorConfig {
            tls: self.environment(name),
            roots: self.pki.roots(),
            identity: self.identity(name),
            port: self.scenario.port,
            addresses: ips(service),
            nms: if is_as { both(&self.scenario.services.nms, self.scenario.port) } else { Vec::new() },
            has_logins: is_as,
        })
    }

    /// Under the paper's policy, messages are the paper's: there are no grants. Fast signaling needs them.
    fn has_grants(&self) -> bool {
        self.scenario.policy == Policy::Optimal || self.scenario.signaling == Signaling::Fast
    }

    /// Services tell the methods apart by port: in a run of one method the other's port is one that nobody uses.
    fn conventional_port(&self) -> u16 {
        match self.scenario.method {
            Method::Conventional => self.scenario.port,
            Method::Proposed => 0,
        }
    }

    /// The HTTP proxy of a node.
    fn proxy(&self, name: &Fqdn) -> Option<ProxyConfig> {
        let is_used = self.scenario.nodes.iter().any(|node| node.name == *name && node.proxy);
        let proxy = self.scenario.services.proxy.as_ref().filter(|_| is_used)?;
        Some(ProxyConfig { addresses: both(proxy, PROXY_PORT), credentials: None, spared: Vec::new() })
    }

    /// A node. A copy has the name, the certificate and the password of its original, and randomness of its own.
    pub(super) fn node(&self, node: usize, addresses: Vec<IpAddr>, nat64: Option<Ipv6Addr>) -> Node {
        let scenario = self.scenario;
        let (name, shown) = (&scenario.nodes[node].name, scenario.shown_name(node));
        let as_port = match scenario.method {
            Method::Conventional => LOGIN_PORT,
            Method::Proposed => scenario.port,
        };
        let login = match scenario.login {
            LoginWay::Certificate => Login::Certificate,
            LoginWay::Password => Login::Password(password(self.seed, shown).into()),
        };
        let config = NodeConfig {
            name: shown.clone(),
            method: scenario.method.into(),
            port: scenario.port,
            addresses,
            nat64,
            services: Services {
                as_name: service_name("as"),
                as_addresses: both(&scenario.services.auth, as_port),
                nms_name: service_name("nms"),
                trs_name: service_name("trs"),
            },
            login,
            framing: scenario.framing,
            cipher: scenario.cipher.into(),
            handover: scenario.handover.into(),
            signaling: scenario.signaling.into(),
            tunnel_lifetime: scenario.tunnel_lifetime,
            overlay: overlay(),
            tls: self.environment(name),
            roots: self.pki.roots(),
            identity: Some(self.identity(shown)),
            alpn: ALPN.to_vec(),
            quic: self.options(name),
            fallback: has_fallback(scenario).then(|| FallbackConfig {
                port: Some(TCP_PORT),
                outer: scenario.nodes[node].tcp_name.clone(),
                proxy: self.proxy(name),
            }),
            seed: self.seed_of(name),
        };
        Node::new(config).expect("a seeded identity is good")
    }
}

/// The key that NMS and TRS share (conventional method).
pub fn service_key(seed: u64) -> Key128 {
    Key128(*seeded::derive(seed, "nms and trs", "service key").first_chunk().expect("32 bytes"))
}

/// The overlay of every scenario.
pub(super) fn overlay() -> Overlay {
    let mut overlay = Overlay::new(ZONE.parse().expect("the zone is a name"));
    overlay.v4 = (VIRTUAL_V4.network(), VIRTUAL_V4.prefix_len());
    overlay.v6 = (VIRTUAL_V6.network(), VIRTUAL_V6.prefix_len());
    overlay
}

pub(super) fn service_name(service: &str) -> Fqdn {
    format!("{service}.{ZONE}").parse().expect("a service's name is a name")
}

/// A node's password in simulation: no one else's, and the same in every run of the seed.
fn password(seed: u64, name: &Fqdn) -> String {
    hex(&seeded::derive(seed, name.as_str(), "password"))
}

/// A service's addresses, IPv6 first.
pub(super) fn ips(service: &Service) -> Vec<IpAddr> {
    vec![service.v6.into(), service.v4.into()]
}

fn both(service: &Service, port: u16) -> Vec<SocketAddr> {
    ips(service).into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}
