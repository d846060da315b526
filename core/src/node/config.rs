//! A node's configuration, and the commands that it takes later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::conventional::cipher::Cipher;
use crate::message::Framing;
use crate::method::Method;
use crate::name::Fqdn;
use crate::paths::strategy::Handover;
use crate::quic::QuicOptions;
use crate::signaling::Signaling;
use crate::tls::{Environment, Identity, Roots};

/// The configuration of a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its name. It is the certificate's name, if there is a certificate.
    pub name: Fqdn,
    /// The method that it uses.
    pub method: Method,
    /// The UDP port that it sends from and listens on.
    pub port: u16,
    /// The addresses of its interfaces.
    pub addresses: Vec<IpAddr>,
    /// The first 96 bits of addresses that a NAT64 of its network translates, from router advertisements (RFC 8781).
    /// With it a node without an IPv4 address reaches IPv4.
    pub nat64: Option<Ipv6Addr>,
    /// The addresses and names of the cloud services.
    pub services: Services,
    /// How it logs in.
    pub login: Login,
    /// How packets are carried in the tunnels that it dials.
    pub framing: Framing,
    /// How the conventional method seals what it sends in tunnels. Both ends need the same: it is not negotiated.
    pub cipher: Cipher,
    /// What the node wants to do when it or a peer moves. Two nodes use the lower of their two values. The conventional
    /// method always uses [`Handover::Rebuild`].
    pub handover: Handover,
    /// Which messages the node wants to wait for while a tunnel comes up. Two nodes use the lower of their two values.
    /// The conventional method always uses [`Signaling::Paper`].
    pub signaling: Signaling,
    /// How long a connection to a peer carries packets before another one replaces it (proposed method,
    /// `policy = "optimal"`). It has to be the same at all nodes.
    pub tunnel_lifetime: Duration,
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
    /// How it reaches the services by TCP where UDP is blocked (proposed method); `None`: not at all.
    pub fallback: Option<FallbackConfig>,
    /// The seed of all of its randomness. In the daemon it comes from the operating system.
    pub seed: [u8; 32],
}

/// How a node reaches the services by TCP where UDP is blocked.
#[derive(Clone, Debug, Default)]
pub struct FallbackConfig {
    /// The services' TCP port; `None`: each one's UDP port.
    pub port: Option<u16>,
    /// The name in the ClientHello and in the Host field, in place of the service's name. The certificate must still
    /// name the service.
    pub outer: Option<Fqdn>,
    /// An HTTP proxy through which TCP goes.
    pub proxy: Option<ProxyConfig>,
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Clone)]
pub struct ProxyConfig {
    /// The addresses of the proxy. The one of the service's address family is preferred.
    pub addresses: Vec<SocketAddr>,
    /// User and password with a colon between them (RFC 7617).
    pub credentials: Option<Zeroizing<String>>,
    /// The services that are reached without the proxy.
    pub spared: Vec<Spared>,
}

/// Services that an HTTP proxy is not used for: an entry of `NO_PROXY`, as curl reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spared {
    /// All services.
    All,
    /// The services at these addresses.
    Network(IpNet),
    /// The services with this name, or with a name below it, in lower case.
    Domain(String),
}

impl ProxyConfig {
    /// Whether a service is reached through the proxy.
    pub(super) fn is_for(&self, name: &Fqdn, address: IpAddr) -> bool {
        !self.spared.iter().any(|spared| match spared {
            Spared::All => true,
            Spared::Network(network) => network.contains(&address),
            Spared::Domain(domain) => {
                name.as_str().strip_suffix(domain.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
            }
        })
    }
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The addresses and names of the cloud services.
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
    /// By a password of 1 to [`MAX_PASSWORD`](crate::message::MAX_PASSWORD) bytes (conventional method only).
    Password(Zeroizing<String>),
}

/// The overlay's addresses and names.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The prefix of all virtual IPv4 addresses: address and length.
    pub v4: (Ipv4Addr, u8),
    /// The prefix of all virtual IPv6 addresses: address and length.
    pub v6: (Ipv6Addr, u8),
    /// The zone of all nodes' names.
    pub zone: Fqdn,
    /// The virtual IPv4 address at which each node answers DNS queries of its own applications.
    pub dns_v4: Ipv4Addr,
    /// The virtual IPv6 address at which each node answers DNS queries of its own applications.
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

    /// Whether the node answers DNS at `address`.
    pub fn is_dns(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.dns_v4) || address == IpAddr::V6(self.dns_v6)
    }
}

/// A command of the node's user.
#[derive(Clone, Debug)]
pub enum NodeCommand {
    /// Log in and register.
    Start,
    /// Shut down gracefully: close every session that can be closed, so that the other ends need not wait for a
    /// timeout. Then do nothing more.
    Stop,
    /// Replace the trust anchors. Tunnels to peers whose certificates they do not cover end now.
    Trust(Roots),
    /// Replace the node's certificate. Tunnels stay up, and their peers are told if the certificate is for the same
    /// name and key. In the conventional method the node logs in with it.
    Identity(Box<Identity>),
    /// The certificates of these names were revoked: tunnels to them end now. A later tunnel to such a name is allowed,
    /// because AS and NMS have then admitted the name again. In the conventional method this command is the only way to
    /// learn of a revocation, because nodes do not see each other's certificates.
    Revoked(Vec<Fqdn>),
    /// The node's addresses changed. If they differ from before, this is a handover.
    Network {
        /// The addresses of the interfaces.
        addresses: Vec<IpAddr>,
        /// As [`NodeConfig::nat64`].
        nat64: Option<Ipv6Addr>,
    },
}
