//! The daemons: from settings to a running role.

mod capture;
mod dns;
mod expiry;
mod fleet;
mod kept_open;
mod log;
mod metrics;
mod netcheck;
mod node;
mod own;
mod patience;
mod plan;
mod privileges;
mod report;
mod rules;
mod secrets;
mod services;
mod trouble;
mod trust;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::node::Overlay;
use cyphonic_core::store::VirtualRange;
use cyphonic_core::tls::Environment;
use ipnet::{Ipv4Net, Ipv6Net};
use rustls::KeyLog;
use tokio::signal::unix::{SignalKind, signal};

pub use dns::put_back;
pub use log::{last_words, log};
pub use node::run as node;
pub use plan::resolve;
pub use rules::read_rules;
pub use services::{auth, nms, trs};

use crate::descriptors;
use crate::drive::Wall;
use crate::error::{Code, Failure};
use crate::settings::{List, Parsed};
use crate::tasks;

/// The zone of all names, if the settings do not say.
const ZONE: &str = "cyphonic.test";
/// The QUIC application protocol, if the settings do not say.
const ALPN: &str = "h3";
/// The port of the proposed method, and of the login over TCP.
const PORT: u16 = 443;
/// The port of the conventional method.
const CONVENTIONAL_PORT: u16 = 4501;

/// Runs a daemon's task on this thread. Tasks that it spawns run on another one.
pub fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    descriptors::raise();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Threads for work on files end soon, because each keeps the privileges of the time when it began.
    let runtime = runtime.thread_keep_alive(Duration::from_millis(50));
    let runtime = runtime.worker_threads(1).enable_all().build().map_err(Failure::other)?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Runs a daemon until it is stopped, or until a task has ended that it needs.
///
/// # Errors
/// The daemon's own failure, or that of the task or thread that has ended.
pub fn serve(daemon: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tasks::watch_panics();
    privileges::keep_memory_private();
    let result = catch_unwind(AssertUnwindSafe(|| block_on(daemon)));
    match result {
        // A task that ends later, because the daemon does, is no reason.
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(())) => tasks::failure().map_or(Ok(()), Err),
        // The panic hook has noted the reason of a panic of this thread.
        Err(_) => Err(tasks::failure().unwrap_or_else(|| Failure::other("the daemon panicked"))),
    }
}

/// Waits until the daemon has to end.
async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {
            tasks::stopping();
            tracing::info!("SIGTERM: stopping");
        }
        _ = int.recv() => {
            tasks::stopping();
            tracing::info!("SIGINT: stopping");
        }
        () = tasks::death() => tracing::error!("a task that the daemon needs has ended: stopping"),
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells systemd, if it runs, that the daemon is ready.
fn ready(status: &str) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

fn seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Failure::other)?;
    Ok(seed)
}

/// The environment of TLS. It gives its secrets to `key_log` only.
fn environment(key_log: Option<Arc<dyn KeyLog>>) -> Environment {
    Environment { provider: Arc::new(rustls::crypto::ring::default_provider()), clock: Arc::new(Wall), key_log }
}

pub(crate) fn zone(zone: Option<Parsed<Fqdn>>) -> Fqdn {
    zone.map_or_else(|| ZONE.parse().expect("a name"), |zone| zone.0)
}

pub(crate) fn named(name: Option<Parsed<Fqdn>>, service: &str, zone: &Fqdn) -> Result<Fqdn, Failure> {
    match name {
        Some(name) => Ok(name.0),
        None => format!("{service}.{zone}").parse().map_err(Failure::other),
    }
}

/// The overlay of these address ranges, if they can make one.
fn overlay(
    zone: Fqdn,
    v4: Option<&Parsed<Ipv4Net>>,
    v6: Option<&Parsed<Ipv6Net>>,
) -> Result<(Overlay, VirtualRange), Failure> {
    let mut overlay = Overlay::new(zone);
    if let Some(Parsed(v4)) = v4 {
        overlay.v4 = (v4.addr(), v4.prefix_len());
        overlay.dns_v4 = std::net::Ipv4Addr::from_bits(v4.network().to_bits() | 1);
    }
    if let Some(Parsed(v6)) = v6 {
        overlay.v6 = (v6.addr(), v6.prefix_len());
        overlay.dns_v6 = std::net::Ipv6Addr::from_bits(v6.network().to_bits() | 1);
    }
    let bad = |what: &str| {
        let remedy = "use an IPv4 range of /8 to /27 and an IPv6 /64, the same everywhere";
        Failure::new(Code::Config, format!("`overlay-v4`, `overlay-v6`: {what}"), remedy)
    };
    if overlay.v6.1 != 64 {
        return Err(bad("the IPv6 range is no /64"));
    }
    let range = VirtualRange::new(overlay.v4.0, overlay.v4.1, overlay.v6.0).map_err(|error| bad(&error.to_string()))?;
    Ok((overlay, range))
}

/// The range from which virtual addresses come, by the settings `overlay-v4` and `overlay-v6`.
///
/// # Errors
/// [`Code::Config`] if one of them is too long, too short, or no network.
pub fn range(v4: Option<&Parsed<Ipv4Net>>, v6: Option<&Parsed<Ipv6Net>>) -> Result<VirtualRange, Failure> {
    overlay(zone(None), v4, v6).map(|(_, range)| range)
}

/// The addresses of a setting, in the form of [`unmapped`].
fn places(list: List<SocketAddr>) -> Vec<SocketAddr> {
    list.0.into_iter().map(unmapped).collect()
}

/// The same addresses with another port.
fn with_port(places: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    places.iter().map(|place| SocketAddr::new(place.ip(), port)).collect()
}

/// An IPv4 address that is written as an IPv6 one (RFC 4291 §2.5.5.2), as IPv4. Other addresses stay.
fn unmapped(place: SocketAddr) -> SocketAddr {
    SocketAddr::new(place.ip().to_canonical(), place.port())
}
