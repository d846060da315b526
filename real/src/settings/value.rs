//! The types of values.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use cyphonic_core::message::RelayMode;
pub use cyphonic_scenarios::{Congestion, Handover, Login, Method, Policy, Signaling};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A value that is written as text: in TOML a string, on the command line itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

impl<T: FromStr> FromStr for Parsed<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.parse().map(Self)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Several values: in TOML an array, on the command line separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parse = |text: String| text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")));
        texts.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Values that may be paths.
pub trait Located {
    /// A relative path becomes relative to `folder`.
    fn locate(&mut self, _folder: &Path) {}
}

impl Located for PathBuf {
    fn locate(&mut self, folder: &Path) {
        *self = folder.join(&*self);
    }
}

impl Located for u16 {}
impl Located for u64 {}
impl Located for bool {}
impl Located for String {}
impl Located for Method {}
impl Located for Login {}
impl Located for Handover {}
impl Located for Congestion {}
impl Located for Policy {}
impl Located for Signaling {}
impl<T> Located for Parsed<T> {}
impl<T> Located for List<T> {}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }
        impl Located for $name {}
    };
}

words! {
    /// How packets are carried in QUIC.
    Framing {
        /// In DATAGRAM frames, without another header.
        Compact,
        /// In DATAGRAM frames behind the paper's 32-byte header.
        Datagram,
        /// On a stream behind that header, as in the paper.
        Stream,
    }
}

words! {
    /// Whether the certificate is renewed before it ends.
    Renew {
        /// From the AS, in the last third of its time.
        Auto,
        /// By the operator only.
        Off,
    }
}

words! {
    /// How a TRS relays in the proposed method.
    Relay {
        /// It forwards and can read nothing.
        Blind,
        /// It ends both connections, as in the paper.
        Terminating,
    }
}

words! {
    /// How the system gets the node's DNS server.
    Dns {
        /// By `resolvectl` if systemd-resolved runs. Otherwise a line in the log says how.
        Auto,
        /// By rewriting /etc/resolv.conf, for containers and namespaces.
        ResolvConf,
        /// By `resolvectl`.
        Resolved,
        /// Nothing is changed. A line in the log says how.
        None,
    }
}

words! {
    /// The format of log lines.
    LogFormat {
        /// For people.
        Text,
        /// One JSON object a line.
        Json,
    }
}

impl From<Framing> for cyphonic_core::message::Framing {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Compact => Self::Compact,
            Framing::Datagram => Self::Datagram,
            Framing::Stream => Self::Stream,
        }
    }
}

impl From<Relay> for RelayMode {
    fn from(relay: Relay) -> Self {
        match relay {
            Relay::Blind => Self::Blind,
            Relay::Terminating => Self::Terminating,
        }
    }
}

/// A network interface's name: 1 to 15 characters, as on Linux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short(pub String);

impl FromStr for Short {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err("an interface's name has 1 to 15 characters, no blank, / or :")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_list_is_separated_by_commas_on_the_command_line() {
        let list: List<IpAddr> = "192.0.2.1, 2001:db8::1".parse().unwrap();
        assert_eq!(list.0.len(), 2);
        assert!("192.0.2.1,x".parse::<List<IpAddr>>().is_err());
    }

    #[test]
    fn an_interface_name_is_what_linux_takes() {
        assert!("cyphonic0".parse::<Short>().is_ok());
        for bad in ["", "sixteen-letters-", "a b", "a/b"] {
            assert!(bad.parse::<Short>().is_err(), "{bad:?}");
        }
    }
}
