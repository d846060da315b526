//! From a node's settings to what it runs with.

mod proxy;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::conventional::cipher::Cipher;
use cyphonic_core::message::Framing;
use cyphonic_core::method::Method;
use cyphonic_core::node::{self, FallbackConfig, NodeConfig, Services};
use cyphonic_core::paths::strategy::Handover;
use cyphonic_core::quic::{Congestion, PATHED_CID_LEN, QuicOptions};
use cyphonic_core::signaling::Signaling;
use cyphonic_core::timing::node::TUNNEL_LIFETIME;
use cyphonic_core::timing::quic::MTU_DISCOVERY;

use super::dns::Resolver;
use super::own::{Own, Renewal};
use super::secrets::{self, Kept};
use super::trust::{self, Source, Trust};
use super::{ALPN, environment, named, overlay, seed, unmapped, zone};
use crate::error::{Code, Failure};
use crate::settings::{self, List, NodeSettings, Parsed, Short, required};
use crate::{files, net, signup};

/// How much longer the connection IDs of `seamless` are, bytes.
const MORE_CID: u16 = PATHED_CID_LEN as u16 - 8;
/// Datagrams that leave together: as many full-sized ones as one system call can send.
const SEGMENTS: usize = 44;
/// Packets of a tunnel before an acknowledgement. The packets inside have acknowledgements of their own.
const ACKS_AFTER: u32 = 40;

/// Resolves HOST:PORT, to at least one address each. `key` is the setting that messages name.
pub fn resolve(key: &str, places: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut found = Vec::new();
    for place in places {
        let addresses = place.to_socket_addrs().map_err(|error| {
            let remedy = "write HOST:PORT, an IPv6 address in brackets; check the system's DNS";
            let code = if error.kind() == std::io::ErrorKind::InvalidInput { Code::Config } else { Code::Unreachable };
            Failure::new(code, format!("`{key}`: {place}: {error}"), remedy)
        })?;
        // An IPv4 socket reaches ::ffff:192.0.2.2. An IPv6 socket does not.
        found.extend(addresses.map(unmapped));
    }
    Ok(found)
}

/// The hosts of `as-addresses`, with the port at which the AS renews certificates unless it is told another.
fn as_hosts(places: Option<&List<String>>) -> Vec<String> {
    let hosts = places.iter().flat_map(|list| &list.0).filter_map(|place| place.rsplit_once(':'));
    hosts.map(|(host, _)| format!("{host}:{}", signup::PORT)).collect()
}

/// The MTU for applications on a 1,500-byte link with IPv6: what the method and framing leave. QUIC keeps 38 of 1,452
/// bytes for itself, with room for its largest packet number and an acknowledgement. The connection IDs of `seamless`
/// take more. A packet that does not fit a DATAGRAM frame would take the stream while the path's MTU is being found,
/// which costs six times the CPU time.
fn default_mtu(method: Method, framing: Framing, handover: Handover) -> u16 {
    let longer = if handover == Handover::Seamless { MORE_CID } else { 0 };
    match (method, framing) {
        (Method::Proposed, Framing::Compact) => 1414 - longer,
        (Method::Proposed, Framing::Datagram) => 1382 - longer,
        (Method::Proposed | Method::Conventional, _) => 1404,
    }
}

/// What a node runs with, read and checked.
pub(super) struct Plan {
    /// The role's own settings, credentials included.
    pub(super) config: NodeConfig,
    /// Its certificate chain, or its password file where it logs in by password. Errors name it.
    pub(super) certificate: PathBuf,
    /// The addresses of its sockets. Empty: all.
    pub(super) listen: Vec<IpAddr>,
    /// The name of the virtual interface.
    pub(super) tun: String,
    /// Of the virtual interface, bytes.
    pub(super) mtu: u16,
    /// How the system's DNS is directed to the node.
    pub(super) resolver: Resolver,
    /// Whether the settings name the real addresses. Otherwise the node follows those of the machine.
    pub(super) fixed_addresses: bool,
    /// TLS secrets, kept for captures by the control socket. `None` if captures are not allowed.
    pub(super) secrets: Option<Arc<Kept>>,
    /// Trust anchors and revoked certificates, read again when they change.
    pub(super) trust: Trust,
    /// The files of its certificate; `None` where it logs in by password.
    pub(super) own: Option<Own>,
    /// Where Prometheus metrics are served. `None`: nowhere.
    pub(super) metrics: Option<SocketAddr>,
}

/// Reads and checks all of it.
pub(super) fn plan(settings: NodeSettings) -> Result<Plan, Failure> {
    let zone = zone(settings.zone);
    let name = required::<NodeSettings, _>(settings.name, "name")?.0;
    let method: Method = settings.method.unwrap_or(settings::Method::Proposed).into();
    let (mut overlay, _) = overlay(zone.clone(), settings.overlay_v4.as_ref(), settings.overlay_v6.as_ref())?;
    if let Some(dns) = settings.dns_v4 {
        overlay.dns_v4 = dns.0;
    }
    if let Some(dns) = settings.dns_v6 {
        overlay.dns_v6 = dns.0;
    }
    if !overlay.contains(overlay.dns_v4.into()) || !overlay.contains(overlay.dns_v6.into()) {
        let what = "`dns-v4`, `dns-v6`: outside the overlay";
        return Err(Failure::new(Code::Config, what, "choose addresses in `overlay-v4` and `overlay-v6`"));
    }
    let by_password = settings.login == Some(settings::Login::Password);
    if by_password && method == Method::Proposed {
        let what = "`login = \"password\"`: the proposed method needs a certificate (paper §4.3)";
        return Err(Failure::new(Code::Config, what, "use `login = \"certificate\"`, or the conventional method"));
    }
    let watched = trust::Files::new(required::<NodeSettings, _>(settings.roots, "roots")?, settings.crl);
    let (roots, crl) = (watched.roots(), watched.crl());
    let as_name = named(settings.as_name, "as", &zone)?;
    let (login, identity, trusted, certificate, own) = if by_password {
        let file = required::<NodeSettings, _>(settings.password_file, "password_file")?;
        let password = files::read_password(&file)?;
        (node::Login::Password(password), None, files::roots(roots, crl, &[])?, file, None)
    } else {
        let certificate = required::<NodeSettings, _>(settings.certificate, "certificate")?;
        let key = required::<NodeSettings, _>(settings.key, "key")?;
        let credentials = files::credentials(&name, &certificate, &key, roots, crl)?;
        let hosts = || as_hosts(settings.as_addresses.as_ref());
        let renewal = match settings.renew_from.or_else(|| settings.crl_from.clone()) {
            Some(place) => Renewal::new(settings.renew, Some(place), &as_name),
            None => Renewal::new(settings.renew, Some(String::new()), &as_name)
                .map(|renewal| Renewal { places: hosts(), ..renewal }),
        };
        let own = Own { name: name.clone(), certificate: certificate.clone(), key, roots: roots.to_owned(), renewal };
        (node::Login::Certificate, Some(credentials.identity), credentials.roots, certificate, Some(own))
    };
    let source = Source::new(settings.crl_from, crl, &as_name)?;
    let trust = Trust::new(watched, own.as_ref().map(|own| own.certificate.clone()), source);
    if settings.nat64.as_ref().is_some_and(|prefix| prefix.0.prefix_len() != 96) {
        return Err(Failure::new(Code::Config, "`nat64` is no /96", "set the network's prefix, such as 64:ff9b::/96"));
    }
    let as_addresses = resolve("as-addresses", &required::<NodeSettings, _>(settings.as_addresses, "as_addresses")?.0)?;
    let listen = settings.listen.map_or_else(Vec::new, |list| list.0);
    let chosen = settings.addresses.map(|list| list.0).or_else(|| {
        let named: Vec<_> = listen.iter().copied().filter(|address| !address.is_unspecified()).collect();
        (!named.is_empty()).then_some(named)
    });
    let fixed_addresses = chosen.is_some();
    let addresses = chosen.unwrap_or_else(|| net::source_addresses(&as_addresses, &overlay));
    let framing = match method {
        Method::Conventional => Framing::Udp4501,
        Method::Proposed => settings.framing.unwrap_or(settings::Framing::Compact).into(),
    };
    let defaults = QuicOptions::default();
    let quic = QuicOptions {
        keep_alive: settings.keep_alive.map_or(defaults.keep_alive, Duration::from_secs),
        idle_timeout: settings.idle_timeout.map_or(defaults.idle_timeout, Duration::from_secs),
        max_udp_payload: settings.max_udp_payload.unwrap_or(defaults.max_udp_payload),
        congestion: settings.congestion.map_or(Congestion::of(framing), Congestion::from),
        acks_after: Some(ACKS_AFTER),
        segments: SEGMENTS,
        discovery: MTU_DISCOVERY,
        ..defaults
    };
    if quic.max_udp_payload < 1200 || quic.keep_alive >= quic.idle_timeout {
        let what = "`max-udp-payload` is below 1200, or `keep-alive` is not below `idle-timeout`";
        return Err(Failure::new(Code::Config, what, "leave the defaults: 1452, 10 and 30"));
    }
    let tun = settings.tun.map_or_else(|| "cyphonic0".to_owned(), |Parsed(Short(name))| name);
    let services = Services {
        as_name,
        as_addresses,
        nms_name: named(settings.nms_name, "nms", &zone)?,
        trs_name: named(settings.trs_name, "trs", &zone)?,
    };
    let (key_log, secrets) = secrets::listen(settings.key_log.as_deref(), settings.allow_capture.unwrap_or(false))?;
    let handover = match method {
        Method::Conventional => Handover::Rebuild,
        Method::Proposed => settings.handover.map_or(Handover::Seamless, Handover::from),
    };
    let fallback = match method {
        Method::Proposed if settings.tcp.unwrap_or(true) => Some(FallbackConfig {
            port: None,
            outer: settings.tcp_name.map(|name| name.0),
            proxy: proxy::of(settings.proxy.as_deref(), settings.proxy_credentials.as_deref())?,
        }),
        Method::Proposed | Method::Conventional => None,
    };
    Ok(Plan {
        secrets,
        trust,
        own,
        metrics: settings.metrics.map(|place| place.0),
        resolver: Resolver::new(settings.dns.unwrap_or(settings::Dns::Auto), tun.clone(), overlay.clone()),
        config: NodeConfig {
            name,
            method,
            port: settings.port.unwrap_or(method.default_port()),
            addresses,
            nat64: settings.nat64.map(|prefix| prefix.0.addr()),
            services,
            login,
            framing,
            // What the paper has room for. The other cipher is for simulated scenarios.
            cipher: Cipher::Ctr,
            handover,
            signaling: settings.signaling.map_or(Signaling::Fast, Signaling::from),
            tunnel_lifetime: TUNNEL_LIFETIME,
            overlay,
            tls: environment(key_log),
            roots: trusted,
            identity,
            alpn: settings.alpn.unwrap_or_else(|| ALPN.to_owned()).into_bytes(),
            quic,
            fallback,
            seed: seed()?,
        },
        certificate,
        listen,
        tun,
        mtu: settings.mtu.unwrap_or(default_mtu(method, framing, handover)),
        fixed_addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_port_is_called_wrong() {
        assert_eq!(resolve("as-addresses", &["[::1]:443".into(), "127.0.0.1:1".into()]).unwrap().len(), 2);
        let mapped = resolve("as-addresses", &["[::ffff:192.0.2.2]:443".into()]).unwrap();
        assert_eq!(mapped, ["192.0.2.2:443".parse().unwrap()]);
        let failure = resolve("as-addresses", &["127.0.0.1".into()]).unwrap_err();
        assert_eq!(failure.code, Code::Config);
        assert!(failure.to_string().contains("127.0.0.1") && failure.remedy().contains("HOST:PORT"));
    }

    #[test]
    fn a_password_without_the_conventional_method_is_refused() {
        let settings = NodeSettings {
            name: Some("a.cyphonic.test".parse().unwrap()),
            login: Some(settings::Login::Password),
            ..NodeSettings::default()
        };
        let failure = plan(settings).err().unwrap();
        assert_eq!(failure.code, Code::Config);
        assert!(failure.to_string().contains("needs a certificate"), "{failure}");
    }
}
