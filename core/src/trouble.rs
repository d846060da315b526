//! Why a node has no TCP connection to a service, in words that name a remedy.

use std::fmt;

use crate::tls::channel::TlsFailure;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// TCP to the service or the proxy was refused, reset or not answered.
    NoTcp,
    /// The HTTP proxy demands credentials, or other ones.
    ProxyWantsCredentials,
    /// The HTTP proxy does not connect to the service: its status code.
    ProxyRefuses(u16),
    /// The HTTP proxy does not speak HTTP.
    NoProxy,
    /// A page for people came in place of a service's or proxy's answer.
    CaptivePortal,
    /// The certificate is of another CA, or for another name: a middlebox intercepts TLS.
    Intercepted,
    /// A certificate is not valid at this time: ours or the service's.
    Dates,
    /// The service answered, but does not proxy to this port: its status code.
    Refused(u16),
    /// The other end speaks no TLS, or broke it.
    NoTls,
    /// The other end accepted the connection and then sent nothing.
    Silent,
    /// The connection ended while it carried datagrams.
    Lost,
}

impl Trouble {
    /// The remedy.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoTcp => "ask the network's operator whether TCP to port 443 is allowed, or set `proxy`",
            Self::ProxyWantsCredentials => "put `user:password` into a file, and name it in `proxy-credentials`",
            Self::ProxyRefuses(_) => "ask the proxy's operator to allow CONNECT to port 443 of the services",
            Self::NoProxy => "check `proxy` (or HTTPS_PROXY): it must be the address of an HTTP proxy",
            Self::CaptivePortal => "open any web page in a browser and log in to this network",
            Self::Intercepted => "use another network: this one breaks TLS open, and the node does not accept that",
            Self::Dates => "check the clock, and renew the certificate",
            Self::Refused(_) => "upgrade the service: it does not proxy UDP to its own port",
            Self::NoTls => "check that nothing else answers on TCP port 443 of the services",
            Self::Silent | Self::Lost => "nothing: the node tries again",
        }
    }

    /// The trouble of a TLS session that has failed. `first`: the first bytes that came.
    pub(crate) fn of(failure: &TlsFailure, first: &[u8]) -> Self {
        match failure {
            _ if first.starts_with(b"HTTP/") || first.starts_with(b"<") => Self::CaptivePortal,
            failure if failure.is_about_dates() => Self::Dates,
            TlsFailure::Untrusted(_) => Self::Intercepted,
            _ => Self::NoTls,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTcp => f.write_str("TCP port 443 was refused or not answered"),
            Self::ProxyWantsCredentials => f.write_str("the HTTP proxy demands authentication (407)"),
            Self::ProxyRefuses(status) => write!(f, "the HTTP proxy refuses to connect ({status})"),
            Self::NoProxy => f.write_str("the HTTP proxy does not speak HTTP"),
            Self::CaptivePortal => f.write_str("a captive portal answered with a page"),
            Self::Intercepted => f.write_str("TLS is intercepted: the certificate is of another CA or name"),
            Self::Dates => f.write_str("a certificate is not valid at this time"),
            Self::Refused(status) => write!(f, "the service does not proxy UDP ({status})"),
            Self::NoTls => f.write_str("TCP port 443 is answered, but not by TLS 1.3"),
            Self::Silent => f.write_str("TCP port 443 was answered, and then nothing came"),
            Self::Lost => f.write_str("the TCP connection was lost"),
        }
    }
}
