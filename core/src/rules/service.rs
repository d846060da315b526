//! Protocols and ports: what of a peer's services a node may use.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Most services that one node is permitted at another one: as many as fit a list on the wire. More are not permitted.
pub const MAX_SERVICES: usize = 16;

/// A protocol of the overlay's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6, but for errors: these belong to other flows.
    Icmp,
}

/// A protocol, and ports of the node that flows are opened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port; 0 for ICMP.
    pub first: u16,
    /// The last port; 65,535 for ICMP.
    pub last: u16,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => return f.write_str("icmp"),
        };
        match (self.first, self.last) {
            (0, u16::MAX) => f.write_str(name),
            (first, last) if first == last => write!(f, "{name}/{first}"),
            (first, last) => write!(f, "{name}/{first}-{last}"),
        }
    }
}

/// Why a text is no [`Service`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no service: write \"tcp\", \"tcp/443\", \"udp/5000-5010\" or \"icmp\"")]
pub struct NoService(pub String);

impl FromStr for Service {
    type Err = NoService;

    fn from_str(text: &str) -> Result<Self, NoService> {
        let bad = || NoService(text.to_owned());
        let (name, ports) = text.split_once('/').map_or((text, None), |(name, ports)| (name, Some(ports)));
        let protocol = match name {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmp" if ports.is_none() => Protocol::Icmp,
            _ => return Err(bad()),
        };
        let (first, last) = match ports {
            None => (0, u16::MAX),
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                let port =
                    |text: &str| text.parse::<u16>().ok().filter(|port| is_number(text) && *port > 0).ok_or_else(bad);
                (port(first)?, port(last)?)
            }
        };
        if first > last { Err(bad()) } else { Ok(Self { protocol, first, last }) }
    }
}

/// What one node may open to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing. Answers are permitted.
    Nothing,
    /// Everything.
    Everything,
    /// These.
    Services(Vec<Service>),
}

impl Permission {
    /// The union of services: in order, and those that touch are one.
    pub fn of(mut services: Vec<Service>) -> Self {
        services.sort_unstable();
        let mut union: Vec<Service> = Vec::new();
        for service in services {
            match union.last_mut() {
                Some(last) if last.protocol == service.protocol && service.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(service.last);
                }
                _ => union.push(service),
            }
        }
        union.truncate(MAX_SERVICES);
        if union.is_empty() { Self::Nothing } else { Self::Services(union) }
    }

    /// Whether a flow of this protocol to this port may be opened.
    pub fn admits(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Services(services) => services
                .iter()
                .any(|service| service.protocol == protocol && (service.first..=service.last).contains(&port)),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Everything => f.write_str("everything"),
            Self::Services(services) => {
                let texts: Vec<_> = services.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// What two nodes may open to each other, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Only grows: what the NMS said later counts.
    pub serial: u64,
    /// What this node may open to the peer.
    pub out: Permission,
    /// What the peer may open to this node.
    pub back: Permission,
}

impl Permissions {
    /// Whether they forbid anything.
    pub fn are_limits(&self) -> bool {
        (&self.out, &self.back) != (&Permission::Everything, &Permission::Everything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_protocol_and_perhaps_ports() {
        for (text, protocol, first, last) in [
            ("tcp", Protocol::Tcp, 0, 65_535),
            ("udp/53", Protocol::Udp, 53, 53),
            ("tcp/1-1024", Protocol::Tcp, 1, 1024),
            ("icmp", Protocol::Icmp, 0, 65_535),
        ] {
            let service: Service = text.parse().unwrap();
            assert_eq!((service, service.to_string()), (Service { protocol, first, last }, text.to_owned()));
        }
        for bad in
            ["", "sctp", "TCP", "tcp/", "tcp/0", "tcp/65536", "tcp/9-3", "icmp/1", "tcp/1-", "tcp/+1", "tcp/1-2-3"]
        {
            assert_eq!(bad.parse::<Service>(), Err(NoService(bad.to_owned())));
        }
    }

    #[test]
    fn services_that_touch_are_one_and_too_many_are_not_permitted() {
        let of = |texts: &[&str]| Permission::of(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(of(&[]), Permission::Nothing);
        assert_eq!(of(&["tcp/5", "icmp", "tcp/1-4", "udp/6", "tcp/3"]).to_string(), "tcp/1-5, udp/6, icmp");
        let many: Vec<String> = (0..20).map(|i| format!("tcp/{}", 2 * i + 1)).collect();
        let many = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(many.admits(Protocol::Tcp, 31) && !many.admits(Protocol::Tcp, 33) && !many.admits(Protocol::Udp, 1));
    }
}
