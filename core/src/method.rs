//! The two methods that the paper compares.

/// Which protocol carries signaling and packets (paper §2 and §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// CYPHONIC's own protocol on UDP 4501, login by TLS over TCP.
    Conventional,
    /// CYPHONIC-over-QUIC.
    Proposed,
}

impl Method {
    /// The name in scenarios, configuration files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conventional => "conventional",
            Self::Proposed => "proposed",
        }
    }

    /// The paper's port: 4501 for its own protocol, 443 for QUIC.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Conventional => 4501,
            Self::Proposed => 443,
        }
    }
}
