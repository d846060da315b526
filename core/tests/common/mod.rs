//! What tests of single machines need: credentials, addresses, and two ends with a link between them.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod pair;
pub(crate) mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::{Authority, Validity};
use cyphonic_core::quic::{QuicConfig, QuicOptions};
use cyphonic_core::tls::{Environment, Identity, Roots, WallClock};

#[derive(Debug)]
struct Clock;

impl WallClock for Clock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(1_000_000)
    }
}

pub(crate) fn environment() -> Environment {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Environment { provider, clock: Arc::new(Clock), key_log: None }
}

/// A CA, and what it issues.
pub(crate) struct Credentials {
    root: Authority,
    authority: Authority,
}

impl Credentials {
    pub(crate) fn new() -> Self {
        let root = Authority::root(&[1; 32], "root", around()).unwrap();
        let authority = root.intermediate(&[2; 32], "as", around()).unwrap();
        Self { root, authority }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::new([self.root.certificate().clone()]).unwrap()
    }

    pub(crate) fn identity(&self, short: &str) -> Identity {
        self.authority.issue(&name(short), &[3; 32], 1, around()).unwrap()
    }

    pub(crate) fn quic(&self, short: &str, options: QuicOptions) -> QuicConfig {
        let (roots, identity) = (self.roots(), self.identity(short));
        QuicConfig { tls: environment(), roots, identity, alpn: b"test".to_vec(), options }
    }
}

fn around() -> Validity {
    Validity::new(Duration::from_secs(999_000), Duration::from_secs(1_001_000)).unwrap()
}

pub(crate) fn name(short: &str) -> Fqdn {
    format!("{short}.example").parse().unwrap()
}

pub(crate) fn address(host: u16) -> SocketAddr {
    SocketAddr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, host].into(), 443)
}
