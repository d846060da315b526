//! AS, NMS and TRS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::auth::{Auth, AuthConfig};
use cyphonic_core::event::Event;
use cyphonic_core::machine::{Input, Machine, ServiceCommand};
use cyphonic_core::message::RelayMode;
use cyphonic_core::name::{Fqdn, Party};
use cyphonic_core::nms::{Nms, NmsConfig, Registered, RelayConfig};
use cyphonic_core::proxied::door::{DoorConfig, Served};
use cyphonic_core::quic::{QuicConfig, QuicOptions};
use cyphonic_core::route::Policy;
use cyphonic_core::store::{Store, VirtualRange};
use cyphonic_core::time::Instant;
use cyphonic_core::timing::nms::GRANT_TIME;
use cyphonic_core::trs::{RelayLimits, Trs, TrsConfig};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

use super::fleet;
use super::kept_open::KeptOpen;
use super::metrics::{self, Page, Traffic};
use super::own::{Own, Renewal};
use super::privileges::{self, Later};
use super::report::{Report, event_log};
use super::rules::RulesFile;
use super::trust::{self, Source, Trust};
use super::{
    ALPN, CONVENTIONAL_PORT, PORT, environment, expiry, named, overlay, places, ready, secrets, seed, stopped,
    with_port, zone,
};
use crate::control::ControlSocket;
use crate::drive::{Clock, Driver, Passing, PortUse, Shell, Streams, Udp};
use crate::error::Failure;
use crate::settings::{AuthSettings, List, NmsSettings, Parsed, Relay, Renew, Settings, TrsSettings, required};
use crate::signup::{self, Desk};
use crate::store::SqliteStore;
use crate::{files, net, tasks};

/// The NMS's second port. It is the port of STUN (RFC 8489 §18.6), because Probes do what STUN does.
const PROBE_PORT: u16 = 3478;
/// Bytes a second that one node may send through the TRS, unless the configuration says otherwise: 1 Gbit/s.
const RELAY_RATE: u64 = 125_000_000;

/// A request to a service that does not come from the network.
enum ServiceRequest {
    Command(ServiceCommand),
    Metrics(metrics::Asked),
    /// The registered nodes, of the NMS.
    Registered(fleet::Asked),
}

/// The surroundings of a service: the log, and the numbers.
struct Service<M> {
    role: &'static str,
    name: Fqdn,
    report: Report,
    traffic: Traffic,
    /// When its certificate ends, and the CA's.
    ends: watch::Receiver<Option<files::Ends>>,
    /// Its registered nodes: the NMS has some.
    registered: fn(&M) -> Vec<Registered>,
}

impl<M: Machine<Command = ServiceCommand>> Shell for Service<M> {
    type Machine = Served<M>;
    type Request = ServiceRequest;

    fn sees(&mut self, passing: &Passing<'_>) {
        self.traffic.count(passing);
    }

    fn event(&mut self, _machine: &Served<M>, _now: Instant, event: Event) {
        self.report.event(&event);
    }

    fn request(
        &mut self,
        machine: &mut Served<M>,
        now: Instant,
        request: ServiceRequest,
        inputs: &mut Vec<Input<ServiceCommand>>,
    ) {
        match request {
            ServiceRequest::Command(command) => inputs.push(Input::Command(command)),
            ServiceRequest::Metrics(asked) => {
                let mut page = Page::begin(self.role, self.name.as_str(), now - Instant::ZERO, &self.traffic);
                self.report.on(&mut page);
                expiry::on(&mut page, *self.ends.borrow());
                let tables = machine.tables();
                let rows = tables.iter().map(|(table, size)| (vec![("table", *table)], *size as f64));
                page.gauge("table_entries", "Entries of each table of the role.", rows);
                if self.role == "nms" {
                    fleet::on(&mut page, now, &(self.registered)(machine));
                }
                let _ = asked.send(page.end());
            }
            ServiceRequest::Registered(asked) => {
                let _ = asked.send((now, (self.registered)(machine)));
            }
        }
    }
}

/// A service whose settings and files are read.
struct Prepared {
    name: Fqdn,
    trust: Trust,
    metrics: Option<SocketAddr>,
    /// The files that are opened again.
    later: Vec<Later>,
    /// Its certificate at the start, and the files of later ones.
    chain: Vec<CertificateDer<'static>>,
    own: Own,
    /// The store in which removed devices are looked for: the NMS's.
    evictions: Option<SqliteStore>,
    /// The access rules of the NMS.
    rules: RulesFile,
    /// Where the NMS is asked for its fleet.
    control: Option<PathBuf>,
}

/// How often removed devices are looked for. Their access ends within this time and a moment more.
const LOOK: Duration = Duration::from_secs(1);

/// Tells the role of each device that is removed from now on.
async fn follow_evictions(store: Arc<SqliteStore>, tell: mpsc::Sender<ServiceRequest>) {
    let mut last = None;
    loop {
        let (store, since) = (store.clone(), last);
        // A store that cannot be read logs why, and is asked again.
        if let Ok(Ok((newest, names))) = tokio::task::spawn_blocking(move || store.evicted_since(since)).await {
            last = Some(newest);
            let revoked = ServiceRequest::Command(ServiceCommand::Revoked(names.clone()));
            if !names.is_empty() && tell.send(revoked).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a service listens with, and serves by TCP.
struct Sockets {
    udp: Udp,
    streams: Streams,
    door: Option<DoorConfig>,
    /// For messages.
    certificate: PathBuf,
}

async fn serve<M>(
    role: &'static str,
    prepared: Prepared,
    report: Report,
    (service, registered): (M, fn(&M) -> Vec<Registered>),
    Sockets { udp, streams, door, certificate }: Sockets,
) -> Result<(), Failure>
where
    M: Machine<Command = ServiceCommand>,
{
    let machine = Served::new(service, door).map_err(|error| files::bad_identity(&error, &certificate))?;
    let Prepared { name, trust, metrics, mut later, chain, own, evictions, rules, control } = prepared;
    later.extend(own.later().into_iter().chain(rules.later()));
    let (sender, requests) = mpsc::channel(16);
    metrics::serve(metrics, sender.clone(), ServiceRequest::Metrics).await?;
    let (ask, asked) = mpsc::channel(16);
    later.extend(control.iter().map(|path| Later::beside(path)));
    let _control = control.map(|path| ControlSocket::listen(&path, ask)).transpose()?;
    privileges::give_up(privileges::SERVICE, &later).await?;
    if let Some(store) = evictions {
        let store = Arc::new(store);
        let about = (name.clone(), rules.status());
        tokio::spawn(fleet::answer(asked, store.clone(), about, sender.clone(), ServiceRequest::Registered));
        tasks::forever("looks for removed devices", follow_evictions(store, sender.clone()));
    }
    let revoked: fn(Vec<Fqdn>) -> ServiceRequest = |names| ServiceRequest::Command(ServiceCommand::Revoked(names));
    let ends =
        own.watch(&chain, sender.clone(), |identity| ServiceRequest::Command(ServiceCommand::Identity(identity)));
    rules.watch(sender.clone(), |rules| ServiceRequest::Command(ServiceCommand::Rules(rules)))?;
    trust.watch(sender, |roots| ServiceRequest::Command(ServiceCommand::Trust(roots)), Some(revoked))?;
    expiry::watch(name.clone(), ends.clone());
    let traffic = Traffic::default();
    let shell = Service { role, name: name.clone(), report, traffic, ends, registered };
    let mut driver = Driver::new(machine, shell, Clock::start(), udp, streams, None, requests);
    tracing::info!(%name, version = env!("CARGO_PKG_VERSION"), "ready");
    ready("ready");
    let result = driver.run(stopped());
    driver.finish(ServiceCommand::Stop);
    result
}

/// Where the certificate of a service is, and how it speaks QUIC.
struct CredentialSettings {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
    alpn: Option<String>,
    key_log: Option<PathBuf>,
    crl: Option<PathBuf>,
    crl_from: Option<String>,
    renew: Option<Renew>,
    renew_from: Option<String>,
    metrics: Option<Parsed<SocketAddr>>,
}

/// The credentials in a role's settings.
macro_rules! credential_settings {
    ($settings:ident) => {
        CredentialSettings {
            certificate: $settings.certificate,
            key: $settings.key,
            roots: $settings.roots,
            alpn: $settings.alpn,
            key_log: $settings.key_log,
            crl: $settings.crl,
            crl_from: $settings.crl_from,
            renew: $settings.renew,
            renew_from: $settings.renew_from,
            metrics: $settings.metrics,
        }
    };
}

impl CredentialSettings {
    fn quic<S: Settings>(
        self,
        name: &Fqdn,
        as_name: &Fqdn,
        serves_packets: bool,
    ) -> Result<(QuicConfig, PathBuf, Prepared), Failure> {
        let certificate = required::<S, _>(self.certificate, "certificate")?;
        let key = required::<S, _>(self.key, "key")?;
        let roots = required::<S, _>(self.roots, "roots")?;
        let trusted = trust::Files::new(roots, self.crl);
        let credentials = files::credentials(name, &certificate, &key, trusted.roots(), trusted.crl())?;
        let renewal = Renewal::new(self.renew, self.renew_from.or_else(|| self.crl_from.clone()), as_name);
        let (roots, chain) = (trusted.roots().to_owned(), credentials.identity.chain.clone());
        let own = Own { name: name.clone(), certificate: certificate.clone(), key, roots, renewal };
        let source = Source::new(self.crl_from, trusted.crl(), as_name)?;
        let trust = Trust::new(trusted, Some(certificate.clone()), source);
        let later =
            trust.later().into_iter().chain(self.key_log.iter().flat_map(|path| KeptOpen::later(path))).collect();
        let metrics = self.metrics.map(|place| place.0);
        let prepared = Prepared {
            name: name.clone(),
            trust,
            metrics,
            later,
            chain,
            own,
            evictions: None,
            rules: RulesFile::default(),
            control: None,
        };
        let config = QuicConfig {
            tls: environment(secrets::listen(self.key_log.as_deref(), false)?.0),
            roots: credentials.roots,
            identity: credentials.identity,
            alpn: self.alpn.unwrap_or_else(|| ALPN.to_owned()).into_bytes(),
            options: QuicOptions { serves_packets, ..QuicOptions::default() },
        };
        Ok((config, certificate, prepared))
    }
}

/// The files that SQLite opens again: the database and its companions.
fn of_database(path: &Path) -> Vec<Later> {
    let companions = ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        Later::write(Path::new(&name))
    });
    companions.into_iter().chain([Later::beside(path)]).collect()
}

/// The files that an authority opens again: all in its folder but the root's key.
fn of_authority(folder: &Path) -> Vec<Later> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let written = |path: &Path| path.ends_with("issued") || path.ends_with("lock");
    let files = entries.filter(|path| !path.ends_with("root.key"));
    let files = files.map(|path| if written(&path) { Later::write(&path) } else { Later::read(&path) });
    files.chain([Later::folder(folder)]).collect()
}

fn addresses(list: Option<List<IpAddr>>) -> Vec<IpAddr> {
    list.map_or_else(Vec::new, |list| list.0.into_iter().map(|address| address.to_canonical()).collect())
}

/// The door for nodes whose networks let no UDP out.
async fn door(quic: &QuicConfig, listen: &[IpAddr], port: u16) -> Result<DoorConfig, Failure> {
    let named = listen.iter().any(|address| !address.is_unspecified());
    let addresses = if named { listen.to_vec() } else { net::interface_addresses().await? };
    Ok(DoorConfig {
        tls: quic.tls.clone(),
        roots: quic.roots.clone(),
        identity: quic.identity.clone(),
        port,
        addresses,
        nms: Vec::new(),
        has_logins: false,
    })
}

fn days(number: u64) -> Duration {
    Duration::from_secs(number.saturating_mul(86_400))
}

/// Listens by TCP, if nodes are served by it.
fn tcp(door: Option<&DoorConfig>, listen: &[IpAddr], port: u16) -> Result<Streams, Failure> {
    if door.is_some() { Streams::listen(listen, port) } else { Ok(Streams::outgoing()) }
}

/// Runs the AS until it is stopped.
pub async fn auth(settings: AuthSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::As, event_log!(settings))?;
    let event_log = settings.event_log.clone();
    let zone = zone(settings.zone);
    let name = named(settings.name, "as", &zone)?;
    let (_, range) = overlay(zone, settings.overlay_v4.as_ref(), settings.overlay_v6.as_ref())?;
    let mut credentials = credential_settings!(settings);
    // With the authority it renews its certificate itself.
    if settings.ca.is_some() && credentials.crl_from.is_none() {
        let own = settings.listen.as_ref().and_then(|list| list.0.first().copied());
        let own = own.filter(|address| !address.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST.into());
        let port = settings.signup_port.unwrap_or(signup::PORT);
        credentials.renew_from.get_or_insert_with(|| SocketAddr::new(own, port).to_string());
    }
    let (quic, certificate, mut prepared) = credentials.quic::<AuthSettings>(&name, &name, false)?;
    prepared.later.extend(event_log.iter().flat_map(|path| KeptOpen::later(path)));
    let nms = places(required::<AuthSettings, _>(settings.nms, "nms")?);
    let database = required::<AuthSettings, _>(settings.database, "database")?;
    let (listen, port) = (addresses(settings.listen), settings.port.unwrap_or(PORT));
    let free_after = settings.free_after.map(days);
    let store = Arc::new(SqliteStore::serving(&database, range)?.freeing_after(free_after));
    prepared.later.extend(of_database(&database));
    settings.ca_passphrase_file.as_deref().map(crate::ca::use_passphrase).transpose()?;
    if let Some(folder) = settings.ca {
        prepared.later.extend(of_authority(&folder));
        let desk = Desk::new(&folder, SqliteStore::open(&database, range)?, &quic.roots, &quic.identity)?;
        let Own { certificate, key, roots, .. } = prepared.own.clone();
        let desk = desk.following(name.clone(), [certificate, key, roots]);
        desk.open(&listen, settings.signup_port.unwrap_or(signup::PORT))?;
    }
    let door = if settings.tcp.unwrap_or(true) {
        Some(DoorConfig { nms: nms.clone(), has_logins: true, ..door(&quic, &listen, port).await? })
    } else {
        None
    };
    let config = AuthConfig {
        quic,
        nms_conventional: settings.nms_conventional.map_or_else(|| with_port(&nms, CONVENTIONAL_PORT), places),
        nms_proposed: nms,
        store,
        seed: seed()?,
    };
    let machine = Auth::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let udp = Udp::bind(&listen, &[(port, PortUse::Quic)])?;
    let streams = Streams::listen(&listen, port)?;
    Box::pin(serve("as", prepared, report, (machine, |_| Vec::new()), Sockets { udp, streams, door, certificate }))
        .await
}

/// Runs the NMS until it is stopped.
pub async fn nms(settings: NmsSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::Nms, event_log!(settings))?;
    let event_log = settings.event_log.clone();
    let zone = zone(settings.zone);
    let name = named(settings.name, "nms", &zone)?;
    let trs_name = named(settings.trs_name, "trs", &zone)?;
    let as_name = named(settings.as_name, "as", &zone)?;
    let (_, range) = overlay(zone, settings.overlay_v4.as_ref(), settings.overlay_v6.as_ref())?;
    let credentials = credential_settings!(settings);
    let (quic, certificate, mut prepared) = credentials.quic::<NmsSettings>(&name, &as_name, false)?;
    prepared.later.extend(event_log.iter().flat_map(|path| KeptOpen::later(path)));
    let database = required::<NmsSettings, _>(settings.database, "database")?;
    let relay = match settings.trs {
        None => None,
        Some(trs) => Some(RelayConfig {
            name: trs_name,
            conventional: settings
                .trs_conventional
                .map_or_else(|| with_port(&places(trs.clone()), CONVENTIONAL_PORT), places),
            proposed: places(trs),
            service_key: files::service_key(&required::<NmsSettings, _>(settings.service_key, "service_key")?)?,
            mode: settings.relay.unwrap_or(Relay::Blind).into(),
        }),
    };
    let listen = addresses(settings.listen);
    prepared.later.extend(of_database(&database));
    prepared.evictions = Some(SqliteStore::open(&database, range)?);
    prepared.control = settings.control;
    let (file, rules) = RulesFile::read(settings.rules)?;
    prepared.rules = file;
    let addresses = match settings.addresses {
        Some(list) => list.0,
        None if listen.iter().any(|address| !address.is_unspecified()) => listen.clone(),
        None => net::interface_addresses().await?,
    };
    let (port, conventional_port) =
        (settings.port.unwrap_or(PORT), settings.conventional_port.unwrap_or(CONVENTIONAL_PORT));
    let policy = settings.policy.map_or(Policy::Optimal, Policy::from);
    let probe_port = settings.probe_port.unwrap_or(PROBE_PORT);
    let door = if settings.tcp.unwrap_or(true) { Some(door(&quic, &listen, port).await?) } else { None };
    let config = NmsConfig {
        quic,
        conventional_port,
        addresses,
        rules,
        store: Arc::new(SqliteStore::serving(&database, range)?.freeing_after(settings.free_after.map(days))),
        relay,
        policy,
        grants: settings.grants.unwrap_or(true).then_some(GRANT_TIME),
        probe_port,
        seed: seed()?,
    };
    let machine = Nms::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let mut ports = vec![(port, PortUse::Quic), (conventional_port, PortUse::Conventional)];
    if policy == Policy::Optimal {
        ports.push((probe_port, PortUse::Quic));
    }
    let registered: fn(&Nms) -> Vec<Registered> = |nms| nms.registered().collect();
    let (udp, streams) = (Udp::bind(&listen, &ports)?, tcp(door.as_ref(), &listen, port)?);
    Box::pin(serve("nms", prepared, report, (machine, registered), Sockets { udp, streams, door, certificate })).await
}

/// Runs the TRS until it is stopped.
pub async fn trs(settings: TrsSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::Trs, event_log!(settings))?;
    let event_log = settings.event_log.clone();
    let zone = zone(settings.zone);
    let name = named(settings.name, "trs", &zone)?;
    let as_name = named(settings.as_name, "as", &zone)?;
    let mode: RelayMode = settings.relay.unwrap_or(Relay::Blind).into();
    let credentials = credential_settings!(settings);
    let (mut quic, certificate, mut prepared) =
        credentials.quic::<TrsSettings>(&name, &as_name, mode == RelayMode::Terminating)?;
    if let Some(congestion) = settings.congestion {
        quic.options.congestion = congestion.into();
    }
    prepared.later.extend(event_log.iter().flat_map(|path| KeptOpen::later(path)));
    let (port, conventional_port) =
        (settings.port.unwrap_or(PORT), settings.conventional_port.unwrap_or(CONVENTIONAL_PORT));
    let store = match &settings.database {
        Some(database) => {
            let store: Arc<dyn Store> = Arc::new(SqliteStore::serving(database, VirtualRange::default())?);
            prepared.later.extend(of_database(database));
            Some(store)
        }
        None => None,
    };
    let listen = addresses(settings.listen);
    let door = if settings.tcp.unwrap_or(true) { Some(door(&quic, &listen, port).await?) } else { None };
    let config = TrsConfig {
        quic,
        conventional_port,
        store,
        service_key: files::service_key(&required::<TrsSettings, _>(settings.service_key, "service_key")?)?,
        mode,
        grants: settings.grants.unwrap_or(true),
        limits: Some(RelayLimits {
            rate: settings.relay_rate.unwrap_or(RELAY_RATE),
            hourly: settings.relay_hourly.unwrap_or(u64::MAX),
        }),
        seed: seed()?,
    };
    let machine = Trs::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let ports = [(port, PortUse::Quic), (conventional_port, PortUse::Conventional)];
    let (udp, streams) = (Udp::bind(&listen, &ports)?, tcp(door.as_ref(), &listen, port)?);
    Box::pin(serve("trs", prepared, report, (machine, |_| Vec::new()), Sockets { udp, streams, door, certificate }))
        .await
}
