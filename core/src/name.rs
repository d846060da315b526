//! Identities: names, node and path identifiers, virtual addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

/// A fully qualified domain name, lower case, without the trailing dot: the name of a node (paper §2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fqdn(Box<str>);

/// Why a text is no [`Fqdn`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FqdnError {
    /// Longer than 253 characters, or empty.
    #[error("a name has 1 to 253 characters")]
    Length,
    /// A label is empty, longer than 63 characters, or has a character other than a–z, 0–9 and inner hyphens.
    #[error("label {0:?} is not 1 to 63 of a-z, 0-9 and inner hyphens")]
    Label(String),
}

impl FromStr for Fqdn {
    type Err = FqdnError;

    fn from_str(s: &str) -> Result<Self, FqdnError> {
        let name = s.strip_suffix('.').unwrap_or(s).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return Err(FqdnError::Length);
        }
        for label in name.split('.') {
            let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            let good = (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-');
            if !good {
                return Err(FqdnError::Label(label.to_owned()));
            }
        }
        Ok(Self(name.into_boxed_str()))
    }
}

impl Fqdn {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label, by which diagrams name the node.
    pub fn short(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }

    /// Whether the name lies in `zone` (a suffix on a label boundary).
    pub fn is_in(&self, zone: &Fqdn) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identifier of a node in the header of a signaling message: a UUIDv5 over its FQDN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// The identifier of the node with this name.
    pub fn of(name: &Fqdn) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_str().as_bytes()).into_bytes())
    }
}

/// The identifier of one direction of a path between two nodes: a UUIDv5 over both FQDNs, so A→B and B→A differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub [u8; 16]);

impl PathId {
    /// The path that leads from `from` to `to`.
    pub fn of(from: &Fqdn, to: &Fqdn) -> Self {
        let text = format!("{from}>{to}");
        Self(Uuid::new_v5(&Uuid::NAMESPACE_DNS, text.as_bytes()).into_bytes())
    }
}

/// A node's leg to a TRS (CID_A and CID_B of paper Fig. 9): the first eight bytes of every connection ID by which the
/// TRS finds that node. Both ends of the leg derive it from the leg's TLS session, so no one else can know or guess it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayCid(pub [u8; 8]);

macro_rules! hex_debug {
    ($($t:ty),*) => {$(
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    )*};
}
hex_debug!(NodeId, PathId, RelayCid);

/// A node's two virtual addresses; fixed for the life of its name (paper §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Virtual {
    /// Virtual IPv4 address.
    pub v4: Ipv4Addr,
    /// Virtual IPv6 address.
    pub v6: Ipv6Addr,
}

impl Virtual {
    /// Whether `address` is one of the two.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => a == self.v4,
            IpAddr::V6(a) => a == self.v6,
        }
    }
}

/// The sender or receiver of a signaling message, as diagrams name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The Authentication Service.
    As,
    /// The Node Management Service.
    Nms,
    /// The Tunnel Relay Service.
    Trs,
    /// A node.
    Node(Fqdn),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::As => "as",
            Self::Nms => "nms",
            Self::Trs => "trs",
            Self::Node(name) => name.short(),
        })
    }
}
