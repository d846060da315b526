//! Why a node has no TCP connection to a service, in words that name the other end, the finding and a remedy.

use std::fmt;
use std::net::SocketAddr;

use rustls::{AlertDescription, CertificateError};

use crate::name::Fqdn;
use crate::tls::channel::TlsFailure;
use crate::tls::{OtherCa, is_about_dates};

/// A TCP connection that could not be made, or was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTcp {
    /// The service.
    pub service: Fqdn,
    /// Its TCP port, as the node or the proxy reaches it.
    pub target: SocketAddr,
    /// The HTTP proxy, if the connection leads through one.
    pub proxy: Option<SocketAddr>,
    /// What happened.
    pub trouble: Trouble,
}

/// What happened to a connection. Text that came from the network is restricted to harmless characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// TCP to the service or the proxy was refused, or there is no route.
    TcpRefused,
    /// TCP to the service or the proxy was not answered.
    TcpSilent,
    /// The HTTP proxy demands user and password (407). `given`: the node had sent some.
    ProxyWantsCredentials {
        /// Whether the request had credentials.
        given: bool,
    },
    /// The HTTP proxy demands authentication (407) by these schemes only, and the node has Basic only.
    ProxyWantsOther(String),
    /// The HTTP proxy does not connect to the service: its status code.
    ProxyRefuses(u16),
    /// The HTTP proxy does not speak HTTP, or ended the connection.
    NoProxy,
    /// The HTTP proxy accepted the connection and then sent nothing.
    ProxySilent,
    /// A page for people, or HTTP without TLS, came in place of a service's or proxy's answer. The host to which it
    /// leads, if it is a redirect.
    CaptivePortal(Option<String>),
    /// The certificate is of another CA, whose name this is: a middlebox intercepts TLS.
    Intercepted(Option<String>),
    /// The certificate is of this CA, but for other names.
    OtherName,
    /// The service's certificate is revoked.
    Revoked,
    /// A certificate is not valid at this time: ours or the service's.
    Dates,
    /// The service refuses this node's certificate, by this alert.
    NotAccepted(AlertDescription),
    /// The service answered, but does not proxy to this port: its status code.
    Refused(u16),
    /// The service accepted TLS, and then ended the connection or answered no HTTP.
    NoUpgrade,
    /// The other end accepted TCP, and then ended the connection when TLS began.
    CutOff,
    /// The other end refused TLS before it showed a certificate, by this alert.
    TlsRefused(AlertDescription),
    /// The other end speaks no TLS 1.3, or broke it.
    NoTls,
    /// The other end accepted TCP, and then nothing came.
    Silent,
    /// The connection ended while it carried datagrams.
    Lost,
}

impl Trouble {
    /// The trouble of a TLS session that has failed. `has_begun`: the handshake was complete at our end.
    pub(crate) fn of(failure: &TlsFailure, has_begun: bool) -> Self {
        match failure {
            failure if failure.is_about_dates() => Self::Dates,
            TlsFailure::Untrusted(why) => Self::untrusted(why),
            TlsFailure::Refused(alert) if has_begun => Self::NotAccepted(*alert),
            TlsFailure::Refused(alert) => Self::TlsRefused(*alert),
            _ => Self::NoTls,
        }
    }

    fn untrusted(why: &CertificateError) -> Self {
        use CertificateError as Why;
        match why {
            why if is_about_dates(why) => Self::Dates,
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::OtherName,
            Why::Revoked => Self::Revoked,
            Why::Other(other) => Self::Intercepted(other.0.downcast_ref().and_then(|OtherCa(name)| name.clone())),
            _ => Self::Intercepted(None),
        }
    }
}

impl NoTcp {
    /// Whether this says more than that nothing answers.
    pub fn explains(&self) -> bool {
        self.proxy.is_some() || !matches!(self.trouble, Trouble::TcpRefused | Trouble::TcpSilent | Trouble::Lost)
    }

    /// The remedy, which contains no text of the network.
    pub const fn remedy(&self) -> &'static str {
        match self.trouble {
            Trouble::TcpRefused | Trouble::TcpSilent if self.proxy.is_some() => {
                "check `proxy` (or HTTPS_PROXY): no proxy answers there; `proxy = \"none\"` uses none"
            }
            Trouble::TcpRefused | Trouble::TcpSilent => {
                "if the service runs, and `tcp` is not false there: this network stops TCP port 443; ask its operator, \
                 or set `proxy` if it has an HTTP proxy"
            }
            Trouble::ProxyWantsCredentials { given: false } => {
                "write USER:PASSWORD into a file that only its owner may read, and name the file in `proxy-credentials`"
            }
            Trouble::ProxyWantsCredentials { given: true } => {
                "correct USER:PASSWORD in the file of `proxy-credentials` (or in HTTPS_PROXY), and start the node again"
            }
            Trouble::ProxyWantsOther(_) => {
                "this node knows Basic authentication only: ask the proxy's operator for it, or name another proxy in `proxy`"
            }
            Trouble::ProxyRefuses(500..) => {
                "is the service running? if so, ask the proxy's operator why the proxy does not reach it"
            }
            Trouble::ProxyRefuses(_) => "ask the proxy's operator to allow CONNECT to port 443 of the services",
            Trouble::NoProxy | Trouble::ProxySilent => {
                "check `proxy` (or HTTPS_PROXY): it must be the address of an HTTP proxy that is asked without TLS"
            }
            Trouble::CaptivePortal(_) => {
                "open http://example.com in a browser on this machine, and log in to this network; the node tries again"
            }
            Trouble::Intercepted(_) => {
                "use another network, or ask its operator not to open TLS to the services; a network with a login page may \
                 do so until you log in; if it is so in every network, compare `roots` with the CA of the services"
            }
            Trouble::OtherName => {
                "check `as-addresses` here, `nms` at the AS and `trs` at the NMS: this address belongs to another service; and \
                 `as-name`, `nms-name` and `trs-name`"
            }
            Trouble::Revoked => "the service needs another certificate: `cyphonic ca issue NAME --renew`, at its CA",
            Trouble::Dates => "check the clock, and renew the certificate",
            Trouble::NotAccepted(_) => {
                "`cyphonic ca print FILE` shows this node's certificate: it must be of the service's CA, and not revoked; for \
                 another one, `cyphonic device invite NAME` at the AS"
            }
            Trouble::Refused(503) => {
                "none needed: the service carries as many connections as it may; the node tries again"
            }
            Trouble::Refused(_) => "check that the service's `port` is the one that this node asks for, or upgrade it",
            Trouble::NoUpgrade => "remove `tcp = false` from the service's configuration, or upgrade the service",
            Trouble::CutOff | Trouble::Silent | Trouble::TlsRefused(_) => {
                "a firewall may refuse the service's name: set `tcp-name` to a name that this network allows, or set `proxy`, \
                 or use another network; the node tries again"
            }
            Trouble::NoTls => {
                "check that nothing else answers on TCP port 443 of the services; if nothing does, use another network: this \
                 one does not let TLS 1.3 through"
            }
            Trouble::Lost => "none needed: the node tries again",
        }
    }
}

impl fmt::Display for NoTcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, target, proxy, trouble } = self;
        let behind = if proxy.is_some() { " behind the HTTP proxy" } else { "" };
        let service = format_args!("{service} ({target}){behind}");
        let proxy = match proxy {
            Some(proxy) => format!("the HTTP proxy {proxy}"),
            None => service.to_string(),
        };
        match trouble {
            Trouble::TcpRefused => write!(f, "TCP to {proxy} is refused"),
            Trouble::TcpSilent => write!(f, "TCP to {proxy} is not answered"),
            Trouble::ProxyWantsCredentials { given: false } => {
                write!(f, "{proxy} demands authentication (407), and no user and password are set")
            }
            Trouble::ProxyWantsCredentials { given: true } => {
                write!(
                    f,
                    "{proxy} demands authentication (407), and does not accept the user and password that are set"
                )
            }
            Trouble::ProxyWantsOther(schemes) => {
                write!(f, "{proxy} demands authentication (407) by {schemes}, not by user and password")
            }
            Trouble::ProxyRefuses(status @ 500..) => write!(f, "{proxy} does not reach {target} ({status})"),
            Trouble::ProxyRefuses(status) => write!(f, "{proxy} refuses to connect to {target} ({status})"),
            Trouble::NoProxy => write!(f, "{proxy} does not answer as an HTTP proxy"),
            Trouble::ProxySilent => write!(f, "{proxy} accepted TCP, and then sent nothing"),
            Trouble::CaptivePortal(Some(host)) => {
                write!(f, "a captive portal answered in place of {service}: it redirects to {host}")
            }
            Trouble::CaptivePortal(None) => {
                write!(f, "a captive portal answered in place of {service}: HTTP came instead of TLS")
            }
            Trouble::Intercepted(Some(ca)) => {
                write!(f, "TLS to {service} is intercepted: the certificate is of another CA, \"{ca}\", and is refused")
            }
            Trouble::Intercepted(None) => {
                write!(f, "TLS to {service} is intercepted: the certificate is of another CA, and is refused")
            }
            Trouble::OtherName => write!(f, "{service} has a certificate of this network's CA, but for another name"),
            Trouble::Revoked => write!(f, "the certificate of {service} is revoked"),
            Trouble::Dates => write!(f, "a certificate is not valid at this time: this node's, or that of {service}"),
            Trouble::NotAccepted(alert) => write!(f, "{service} does not accept this node's certificate ({alert:?})"),
            Trouble::Refused(status) => write!(f, "{service} does not proxy UDP ({status})"),
            Trouble::NoUpgrade => write!(f, "{service} answers TLS, but does not proxy UDP"),
            Trouble::CutOff => write!(f, "{service} accepted TCP, and the connection was ended when TLS began"),
            Trouble::TlsRefused(alert) => write!(f, "{service} accepted TCP, and TLS was refused ({alert:?})"),
            Trouble::NoTls => write!(f, "{service} accepted TCP, but does not speak TLS 1.3"),
            Trouble::Silent => write!(f, "{service} accepted TCP, and then nothing came"),
            Trouble::Lost => write!(f, "the TCP connection to {service} was lost"),
        }
    }
}
