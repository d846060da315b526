//! The daemons: from settings to a running role.

mod capture;
mod dns;
mod expiry;
mod kept_open;
mod log;
mod metrics;
mod netcheck;
mod node;
mod patience;
mod plan;
mod privileges;
mod report;
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
pub use services::{auth, nms, trs};

use crate::descriptors;
use crate::drive::Wall;
use crate::error::{Code, Failure};
use crate::settings::{List, Parsed};
use crate::tasks;

/// The zone of all names, if nothing else is said.
const ZONE: &str = "cyphonic.test";
/// The QUIC application protocol, if nothing else is said.
const ALPN: &str = "h3";
/// The port of the proposed method, and of the login over TCP.
const PORT: u16 = 443;
/// The port of the conventional method.
const CONVENTIONAL_PORT: u16 = 4501;

/// Runs a daemon's task on this thread; what it spawns has another.
pub fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    descriptors::raise();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Threads for work on files are not kept: each has the privileges of when it began.
    let runtime = runtime.thread_keep_alive(Duration::from_millis(50));
    let runtime = runtime.worker_threads(1).enable_all().build().map_err(Failure::other)?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Runs a daemon until it is stopped, or something has ended without which it does not do its work.
///
/// # Errors
/// What the daemon fails for, or the task or thread that has ended.
pub fn serve(daemon: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tasks::watch_panics();
    privileges::keep_memory_private();
    let result = catch_unwind(AssertUnwindSafe(|| block_on(daemon)));
    match result {
        // What ends later, because the daemon does, is no reason.
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(())) => tasks::failure().map_or(Ok(()), Err),
        // A panic of this thread was noted by its hook.
        Err(_) => Err(tasks::failure().unwrap_or_else(|| Failure::other("the daemon panicked"))),
    }
}

/// Ready when the daemon shall end.
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
        () = tasks::death() => tracing::error!("something has ended that the daemon cannot do without: stopping"),
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells systemd, if it is there, that the daemon does its work now.
fn ready(status: &str) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

fn seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Failure::other)?;
    Ok(seed)
}

/// What TLS takes from outside; it tells its secrets to nobody but `key_log`.
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

/// The overlay of these ranges, if it can be one.
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

/// Places as an operator wrote them, see [`unmapped`].
fn places(list: List<SocketAddr>) -> Vec<SocketAddr> {
    list.0.into_iter().map(unmapped).collect()
}

/// The same places with another port.
fn with_port(places: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    places.iter().map(|place| SocketAddr::new(place.ip(), port)).collect()
}

/// A place whose address is IPv4 written as IPv6 (RFC 4291 §2.5.5.2), as IPv4; others as they are.
fn unmapped(place: SocketAddr) -> SocketAddr {
    SocketAddr::new(place.ip().to_canonical(), place.port())
}
