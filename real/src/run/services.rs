//! AS, NMS and TRS.

use std::path::PathBuf;
use std::sync::Arc;

use cyphonic_core::auth::{Auth, AuthConfig};
use cyphonic_core::event::Event;
use cyphonic_core::machine::{Input, Machine};
use cyphonic_core::message::RelayMode;
use cyphonic_core::name::{Fqdn, Party};
use cyphonic_core::nms::{Nms, NmsConfig, RelayConfig};
use cyphonic_core::quic::{QuicConfig, QuicOptions};
use cyphonic_core::route::Policy;
use cyphonic_core::time::Instant;
use cyphonic_core::trs::{Trs, TrsConfig};
use tokio::sync::mpsc;

use super::report::Report;
use super::{
    ALPN, CONVENTIONAL_PORT, PORT, environment, named, overlay, ready, seed, stopped, warn_of_end, with_port, zone,
};
use crate::drive::{Clock, Driver, PortUse, Shell, Streams, Udp};
use crate::error::Failure;
use crate::settings::{AuthSettings, NmsSettings, Relay, Settings, TrsSettings, required};
use crate::store::SqliteStore;
use crate::{files, net};

/// The NMS's second port: that of STUN (RFC 8489 §18.6), whose work it does.
const PROBE_PORT: u16 = 3478;

/// What surrounds a service: only the log.
struct Service<M> {
    report: Report,
    machine: std::marker::PhantomData<M>,
}

impl<M: Machine> Shell for Service<M> {
    type Machine = M;
    type Request = std::convert::Infallible;

    fn event(&mut self, _machine: &M, _now: Instant, event: Event) {
        self.report.event(&event);
    }

    fn request(&mut self, _machine: &mut M, _now: Instant, never: Self::Request, _inputs: &mut Vec<Input<M::Command>>) {
        match never {}
    }
}

async fn serve<M: Machine>(name: &Fqdn, report: Report, machine: M, udp: Udp, streams: Streams) -> Result<(), Failure> {
    // Nobody asks a service anything; the sender lives as long as the loop.
    let (_sender, requests) = mpsc::channel(1);
    let shell = Service { report, machine: std::marker::PhantomData };
    let mut driver = Driver::new(machine, shell, Clock::start(), udp, streams, None, requests);
    tracing::info!(%name, version = env!("CARGO_PKG_VERSION"), "ready");
    ready("ready");
    driver.run(stopped()).await
}

/// Where the certificate of a service is, and how it speaks QUIC.
struct Papers {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
    alpn: Option<String>,
    key_log: Option<PathBuf>,
}

impl Papers {
    fn quic<S: Settings>(self, name: &Fqdn, serves_packets: bool) -> Result<(QuicConfig, PathBuf), Failure> {
        let certificate = required::<S, _>(self.certificate, "certificate")?;
        let key = required::<S, _>(self.key, "key")?;
        let roots = required::<S, _>(self.roots, "roots")?;
        let credentials = files::credentials(name, &certificate, &key, &roots)?;
        warn_of_end(name, credentials.ends);
        let config = QuicConfig {
            tls: environment(self.key_log.as_deref())?,
            roots: credentials.roots,
            identity: credentials.identity,
            alpn: self.alpn.unwrap_or_else(|| ALPN.to_owned()).into_bytes(),
            options: QuicOptions { serves_packets, ..QuicOptions::default() },
        };
        Ok((config, certificate))
    }
}

/// Runs the AS until it is stopped.
pub async fn auth(settings: AuthSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::As, settings.event_log.as_deref())?;
    let zone = zone(settings.zone);
    let name = named(settings.name, "as", &zone)?;
    let (_, range) = overlay(zone, settings.overlay_v4.as_ref(), settings.overlay_v6.as_ref())?;
    let (certificate, key, roots) = (settings.certificate, settings.key, settings.roots);
    let papers = Papers { certificate, key, roots, alpn: settings.alpn, key_log: settings.key_log };
    let (quic, certificate) = papers.quic::<AuthSettings>(&name, false)?;
    let nms = required::<AuthSettings, _>(settings.nms, "nms")?.0;
    let database = required::<AuthSettings, _>(settings.database, "database")?;
    let port = settings.port.unwrap_or(PORT);
    let config = AuthConfig {
        quic,
        nms_conventional: settings.nms_conventional.map_or_else(|| with_port(&nms, CONVENTIONAL_PORT), |list| list.0),
        nms_proposed: nms,
        store: Arc::new(SqliteStore::open(&database, range)?),
        seed: seed()?,
    };
    let machine = Auth::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let udp = Udp::bind(&[(port, PortUse::Quic)])?;
    serve(&name, report, machine, udp, Streams::listen(port)?).await
}

/// Runs the NMS until it is stopped.
pub async fn nms(settings: NmsSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::Nms, settings.event_log.as_deref())?;
    let zone = zone(settings.zone);
    let name = named(settings.name, "nms", &zone)?;
    let trs_name = named(settings.trs_name, "trs", &zone)?;
    let (_, range) = overlay(zone, settings.overlay_v4.as_ref(), settings.overlay_v6.as_ref())?;
    let (certificate, key, roots) = (settings.certificate, settings.key, settings.roots);
    let papers = Papers { certificate, key, roots, alpn: settings.alpn, key_log: settings.key_log };
    let (quic, certificate) = papers.quic::<NmsSettings>(&name, false)?;
    let database = required::<NmsSettings, _>(settings.database, "database")?;
    let relay = match settings.trs {
        None => None,
        Some(trs) => Some(RelayConfig {
            name: trs_name,
            conventional: settings.trs_conventional.map_or_else(|| with_port(&trs.0, CONVENTIONAL_PORT), |list| list.0),
            proposed: trs.0,
            service_key: files::service_key(&required::<NmsSettings, _>(settings.service_key, "service_key")?)?,
            mode: settings.relay.unwrap_or(Relay::Blind).into(),
        }),
    };
    let addresses = match settings.addresses {
        Some(list) => list.0,
        None => net::interface_addresses().await?,
    };
    let (port, conventional_port) =
        (settings.port.unwrap_or(PORT), settings.conventional_port.unwrap_or(CONVENTIONAL_PORT));
    let policy = settings.policy.map_or(Policy::Paper, Policy::from);
    let probe_port = settings.probe_port.unwrap_or(PROBE_PORT);
    let config = NmsConfig {
        quic,
        conventional_port,
        addresses,
        store: Arc::new(SqliteStore::open(&database, range)?),
        relay,
        policy,
        probe_port,
        seed: seed()?,
    };
    let machine = Nms::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let mut ports = vec![(port, PortUse::Quic), (conventional_port, PortUse::Conventional)];
    if policy == Policy::Optimal {
        ports.push((probe_port, PortUse::Quic));
    }
    let udp = Udp::bind(&ports)?;
    serve(&name, report, machine, udp, Streams::outgoing()).await
}

/// Runs the TRS until it is stopped.
pub async fn trs(settings: TrsSettings) -> Result<(), Failure> {
    let report = Report::new(&Party::Trs, settings.event_log.as_deref())?;
    let zone = zone(settings.zone);
    let name = named(settings.name, "trs", &zone)?;
    let mode: RelayMode = settings.relay.unwrap_or(Relay::Blind).into();
    let (certificate, key, roots) = (settings.certificate, settings.key, settings.roots);
    let papers = Papers { certificate, key, roots, alpn: settings.alpn, key_log: settings.key_log };
    let (quic, certificate) = papers.quic::<TrsSettings>(&name, mode == RelayMode::Terminating)?;
    let (port, conventional_port) =
        (settings.port.unwrap_or(PORT), settings.conventional_port.unwrap_or(CONVENTIONAL_PORT));
    let config = TrsConfig {
        quic,
        conventional_port,
        service_key: files::service_key(&required::<TrsSettings, _>(settings.service_key, "service_key")?)?,
        mode,
        seed: seed()?,
    };
    let machine = Trs::new(config).map_err(|error| files::bad_identity(&error, &certificate))?;
    let udp = Udp::bind(&[(port, PortUse::Quic), (conventional_port, PortUse::Conventional)])?;
    serve(&name, report, machine, udp, Streams::outgoing()).await
}
