//! The node's end of one connection: an HTTP proxy, if there is one, then TLS, the request, and datagrams.
//!
//! ```text
//! Connecting ──▶ (Proxy: CONNECT) ──▶ TLS ──▶ Asked: datagrams go ──101──▶ Open: they come, too
//! ```

use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;

use super::http::{self, BadHead};
use super::pipe::Pipe;
use crate::machine::{StreamId, StreamInput};
use crate::name::Fqdn;
use crate::time::Instant;
use crate::timing::proxied::{CONDUIT_IDLE, UPGRADE_TIMEOUT};
use crate::tls::channel::{TlsChannel, TlsFailure};
use crate::trouble::Trouble;

/// The status code of a network that wants its users to log in (RFC 6585 §6).
const NETWORK_AUTHENTICATION: u16 = 511;

/// What a connection is made for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// TLS, whose verifier requires the service's certificate.
    pub tls: Arc<ClientConfig>,
    /// The name in the ClientHello and in the Host field: the service's, or another one.
    pub outer: Fqdn,
    /// The service's name, which is the target of the request.
    pub service: Fqdn,
    /// The service's UDP port.
    pub port: u16,
    /// The request to an HTTP proxy to connect to the service, if there is a proxy.
    pub connect: Option<Vec<u8>>,
    /// Whether that request has credentials.
    pub has_credentials: bool,
}

/// Most of the first bytes that are kept for a diagnosis: the head of a redirect.
const MAX_FIRST: usize = 1024;

/// One connection.
#[derive(Debug)]
pub struct Conduit {
    stream: StreamId,
    state: ConduitState,
    pipe: Pipe,
    /// The request for UDP, until it is sent.
    request: Option<Vec<u8>>,
    /// The request for the proxy, until it is sent.
    connect: Option<Vec<u8>>,
    has_proxy: bool,
    /// The beginning of an HTTP head that is not complete.
    head: Vec<u8>,
    /// The first bytes of what should be TLS, for a diagnosis.
    first: Vec<u8>,
    /// Whether the request for the proxy has credentials.
    has_credentials: bool,
    /// The time by which it has to be open.
    deadline: Instant,
    nms: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConduitState {
    Connecting,
    /// The proxy was asked.
    Proxy,
    /// TLS is under way.
    Tls,
    /// The request was sent.
    Asked,
    /// The service has switched.
    Open,
}

impl Conduit {
    /// A connection on a stream that the caller has asked to be opened.
    ///
    /// # Errors
    /// If no TLS session can begin.
    pub fn new(now: Instant, stream: StreamId, plan: &Plan) -> Result<Self, Trouble> {
        let channel = TlsChannel::client(plan.tls.clone(), &plan.outer).map_err(|_| Trouble::NoTls)?;
        Ok(Self {
            stream,
            state: ConduitState::Connecting,
            pipe: Pipe::new(now, channel),
            request: Some(http::upgrade_request(&plan.service, plan.port, plan.outer.as_str())),
            connect: plan.connect.clone(),
            has_proxy: plan.connect.is_some(),
            head: Vec::new(),
            first: Vec::new(),
            has_credentials: plan.has_credentials,
            deadline: now + UPGRADE_TIMEOUT,
            nms: None,
        })
    }

    /// The connection's stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the service has switched to datagrams.
    pub fn is_open(&self) -> bool {
        self.state == ConduitState::Open
    }

    /// The time at which it has to be closed, if nothing more happens.
    pub fn deadline(&self) -> Instant {
        if self.is_open() { self.pipe.used + CONDUIT_IDLE } else { self.deadline }
    }

    /// The reason for which it is closed at its deadline. `None` if it was only idle.
    pub fn overdue(&self) -> Option<Trouble> {
        match self.state {
            ConduitState::Open => None,
            ConduitState::Connecting => Some(Trouble::TcpSilent),
            ConduitState::Proxy => Some(Trouble::ProxySilent),
            ConduitState::Tls | ConduitState::Asked => Some(Trouble::Silent),
        }
    }

    /// The NMS's addresses that the AS has named. They are given once.
    pub fn take_nms(&mut self) -> Option<String> {
        self.nms.take()
    }

    /// Sends a datagram. Before the connection is ready it waits.
    pub fn send(&mut self, now: Instant, payload: &[u8]) {
        self.pipe.send(now, payload);
    }

    /// Takes an event of the stream, and appends the datagrams that came.
    ///
    /// # Errors
    /// The reason for which the connection is over. What [`Self::flush`] gives afterwards is still to be written.
    pub fn handle(&mut self, now: Instant, event: StreamInput, datagrams: &mut Vec<BytesMut>) -> Result<(), Trouble> {
        match event {
            StreamInput::Connected => {
                self.state = if self.has_proxy { ConduitState::Proxy } else { ConduitState::Tls };
                Ok(())
            }
            StreamInput::Written(bytes) => {
                self.pipe.written(bytes);
                Ok(())
            }
            StreamInput::Data(bytes) => self.on_bytes(now, bytes, datagrams),
            StreamInput::Closed => Err(match self.state {
                ConduitState::Connecting => Trouble::TcpRefused,
                ConduitState::Proxy => Trouble::NoProxy,
                ConduitState::Tls => Trouble::CutOff,
                ConduitState::Asked => Trouble::NoUpgrade,
                ConduitState::Open => Trouble::Lost,
            }),
            StreamInput::Unanswered => Err(Trouble::TcpSilent),
            StreamInput::Accepted { .. } => Ok(()),
        }
    }

    fn on_bytes(&mut self, now: Instant, bytes: Vec<u8>, datagrams: &mut Vec<BytesMut>) -> Result<(), Trouble> {
        let mut bytes = bytes;
        if self.state == ConduitState::Proxy {
            self.head.extend(bytes);
            let answer = match http::answer(&self.head) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(()),
                Err(BadHead::NotHttp | BadHead::TooLong) => return Err(Trouble::NoProxy),
            };
            match answer.status {
                200..300 if !answer.is_page => {}
                407 => return Err(self.unauthenticated(&answer.schemes)),
                200..400 | NETWORK_AUTHENTICATION => return Err(Trouble::CaptivePortal(answer.location)),
                status => return Err(Trouble::ProxyRefuses(status)),
            }
            bytes = self.head.split_off(answer.length);
            self.head.clear();
            self.state = ConduitState::Tls;
        }
        if self.state == ConduitState::Tls && self.first.len() < MAX_FIRST {
            self.first.extend(bytes.iter().take(MAX_FIRST - self.first.len()));
        }
        let received = self.pipe.channel.receive(&bytes);
        if self.state == ConduitState::Tls && self.pipe.channel.handshake_complete() {
            self.state = ConduitState::Asked;
            let request = self.request.take().unwrap_or_default();
            self.pipe.channel.send(&request);
            self.pipe.begin(now);
        }
        while let Some(plaintext) = self.pipe.channel.read() {
            self.on_plaintext(now, plaintext, datagrams)?;
        }
        received.map_err(|failure| self.why(&failure))?;
        match self.state {
            _ if !self.pipe.channel.peer_closed() => Ok(()),
            ConduitState::Open => Err(Trouble::Lost),
            _ => Err(Trouble::NoUpgrade),
        }
    }

    /// Why TLS has failed.
    fn why(&self, failure: &TlsFailure) -> Trouble {
        if self.first.starts_with(b"HTTP/") || self.first.starts_with(b"<") {
            let answer = http::answer(&self.first).ok().flatten();
            return Trouble::CaptivePortal(answer.and_then(|answer| answer.location));
        }
        Trouble::of(failure, matches!(self.state, ConduitState::Asked | ConduitState::Open))
    }

    /// Why an HTTP proxy wants authentication (407).
    fn unauthenticated(&self, schemes: &[String]) -> Trouble {
        if schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
            return Trouble::ProxyWantsCredentials { given: self.has_credentials };
        }
        Trouble::ProxyWantsOther(schemes.join(" or "))
    }

    fn on_plaintext(&mut self, now: Instant, bytes: Vec<u8>, datagrams: &mut Vec<BytesMut>) -> Result<(), Trouble> {
        let mut bytes = bytes;
        if self.state == ConduitState::Asked {
            self.head.extend(bytes);
            let answer = match http::answer(&self.head) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(()),
                Err(_) => return Err(Trouble::NoUpgrade),
            };
            if !answer.upgrades {
                return Err(Trouble::Refused(answer.status));
            }
            self.nms = Some(answer.nms).filter(|nms| !nms.is_empty());
            bytes = self.head.split_off(answer.length);
            self.head.clear();
            self.state = ConduitState::Open;
        }
        if self.pipe.read(now, &bytes, datagrams) { Ok(()) } else { Err(Trouble::Lost) }
    }

    /// The bytes to write to the stream now.
    pub fn flush(&mut self, now: Instant) -> Vec<u8> {
        match self.state {
            ConduitState::Connecting => Vec::new(),
            ConduitState::Proxy => self.connect.take().unwrap_or_default(),
            ConduitState::Tls => self.pipe.flush(now, false),
            ConduitState::Asked | ConduitState::Open => self.pipe.flush(now, true),
        }
    }

    /// The number of datagrams dropped since the last call, because they were too long or had waited too long.
    pub fn take_dropped(&mut self) -> usize {
        self.pipe.take_dropped()
    }
}
