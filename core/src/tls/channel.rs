//! A TLS session over TCP: a login to the AS (paper §2.2.1), or UDP proxied in HTTP ([`crate::proxied`]).
//!
//! [`TlsChannel`] is one end of it, and handles bytes only:
//!
//! ```text
//! TCP ── receive(bytes) ──▶ ┌────────────┐ ── read() ────────▶ plaintext
//! TCP ◀── take_output() ─── │ TlsChannel │ ◀── send(bytes) ─── plaintext
//!                           └────────────┘
//! ```
//!
//! After every call of `receive` and `send`, write the bytes of [`TlsChannel::take_output`] to the TCP connection. Do
//! so after a failure too: they are the alert that tells the other end the reason. A failure is final. All buffers are
//! bounded.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
};
use thiserror::Error;

use crate::name::Fqdn;
use crate::tls::{self, is_about_dates};

/// Most plaintext that waits for [`TlsChannel::read`], bytes.
pub const MAX_UNREAD: usize = 64 * 1024;
/// Most plaintext that waits for the handshake, and most records that wait for [`TlsChannel::take_output`], bytes.
pub const MAX_UNSENT: usize = 64 * 1024;

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TlsFailure {
    /// The other end's certificate is not valid: another root, expired, or another name.
    #[error("the peer's certificate is refused: {0}")]
    Untrusted(CertificateError),
    /// The other end had to show a certificate and did not.
    #[error("the peer shows no certificate")]
    NoCertificate,
    /// The other end refused ours, or our messages.
    #[error("the peer refuses: {0:?}")]
    Refused(AlertDescription),
    /// The other end broke TLS, or its bytes were damaged on the way.
    #[error("no TLS, or damaged: {0}")]
    Protocol(rustls::Error),
    /// [`MAX_UNREAD`] or [`MAX_UNSENT`] was exceeded.
    #[error("more bytes are waiting than the session may hold")]
    Overflow,
    /// The session cannot begin: the name cannot be in a certificate, or the configuration cannot be used.
    #[error("the session cannot begin: {0}")]
    Setup(rustls::Error),
}

impl TlsFailure {
    /// Whether the reason is that a certificate, the peer's or ours, is not valid at this time.
    pub fn is_about_dates(&self) -> bool {
        match self {
            Self::Untrusted(why) => is_about_dates(why),
            Self::Refused(alert) => *alert == AlertDescription::CertificateExpired,
            _ => false,
        }
    }
}

impl From<rustls::Error> for TlsFailure {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => Self::Untrusted(reason),
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::AlertReceived(alert) => Self::Refused(alert),
            other => Self::Protocol(other),
        }
    }
}

/// One end of a TLS session, without I/O.
#[derive(Debug)]
pub struct TlsChannel {
    connection: Connection,
    unread: Vec<u8>,
    failure: Option<TlsFailure>,
    peer_closed: bool,
}

impl TlsChannel {
    /// The client's end. Its first flight is ready in [`Self::take_output`].
    pub fn client(config: Arc<ClientConfig>, server_name: &Fqdn) -> Result<Self, TlsFailure> {
        // `ServerName::try_from` would read a name of four numbers as an IP address.
        let name = DnsName::try_from(server_name.as_str().to_owned())
            .map_err(|_| TlsFailure::Setup(rustls::Error::General(format!("{server_name} is no DNS name"))))?;
        let connection = ClientConnection::new(config, ServerName::DnsName(name)).map_err(TlsFailure::Setup)?;
        Ok(Self::new(connection.into()))
    }

    /// The server's end.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsFailure> {
        Ok(Self::new(ServerConnection::new(config).map_err(TlsFailure::Setup)?.into()))
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(MAX_UNSENT));
        Self { connection, unread: Vec::new(), failure: None, peer_closed: false }
    }

    /// Takes bytes that came over TCP.
    ///
    /// # Errors
    /// Why the session has failed; later calls give the same error. Plaintext that arrived before can still be read.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), TlsFailure> {
        while !bytes.is_empty() && self.failure.is_none() && !self.peer_closed {
            if let Err(failure) = self.receive_some(&mut bytes) {
                self.failure = Some(failure);
            }
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Takes as many bytes as rustls buffers at once, and moves the plaintext out so that it can take more.
    fn receive_some(&mut self, bytes: &mut &[u8]) -> Result<(), TlsFailure> {
        self.connection.read_tls(bytes).map_err(|_| TlsFailure::Overflow)?;
        let state = self.connection.process_new_packets()?;
        self.peer_closed = state.peer_has_closed();
        let arrived = state.plaintext_bytes_to_read();
        if self.unread.len() + arrived > MAX_UNREAD {
            return Err(TlsFailure::Overflow);
        }
        let start = self.unread.len();
        self.unread.resize(start + arrived, 0);
        self.connection.reader().read_exact(&mut self.unread[start..]).expect("rustls has as much as it says");
        Ok(())
    }

    /// Sends `plaintext` to the other end; before the handshake is complete it waits, up to [`MAX_UNSENT`].
    ///
    /// If it does not fit, the session fails with [`TlsFailure::Overflow`]. After a failure it does nothing.
    pub fn send(&mut self, plaintext: &[u8]) {
        if self.failure.is_none() && self.connection.writer().write_all(plaintext).is_err() {
            self.failure = Some(TlsFailure::Overflow);
        }
    }

    /// Tells the other end that nothing more will be sent (close_notify, RFC 8446 §6.1).
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// The bytes to write to TCP now; empty if there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut output).expect("writing to memory cannot fail");
        }
        output
    }

    /// All plaintext that has arrived since the last call; none if there is none.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        (!self.unread.is_empty()).then(|| std::mem::take(&mut self.unread))
    }

    /// Whether this end has finished the handshake.
    ///
    /// A client finishes first. It learns whether the server accepts its certificate only from the server's answer.
    pub fn handshake_complete(&self) -> bool {
        self.failure.is_none() && !self.connection.is_handshaking()
    }

    /// The names in the certificate that the other end has proved to be its own; empty before the handshake is
    /// complete, and if it showed none.
    pub fn peer_names(&self) -> Vec<Fqdn> {
        self.peer_certificate().map(tls::names).unwrap_or_default()
    }

    /// The certificate that the other end has proved to be its own; none before the handshake is complete, and if it
    /// showed none.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        let chain = self.connection.peer_certificates().filter(|_| self.handshake_complete())?;
        chain.first()
    }

    /// The chain of certificates of which [`Self::peer_certificate`] is the first.
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().filter(|_| self.handshake_complete()).unwrap_or_default()
    }

    /// The application protocol on which both ends agreed (RFC 7301), if they did.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// When the certificates of the other end count no more ([`tls::ends`]).
    pub fn peer_ends(&self) -> Option<Duration> {
        tls::ends(self.peer_chain())
    }

    /// Whether the other end said that nothing more will come (close_notify).
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Why the session is over, if it is.
    pub fn failure(&self) -> Option<&TlsFailure> {
        self.failure.as_ref()
    }
}
