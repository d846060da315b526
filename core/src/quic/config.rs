//! How links are set up: TLS, timers, sizes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn_proto::congestion::NewRenoConfig;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, EndpointConfig, MtuDiscoveryConfig, QlogConfig, ServerConfig, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use ring::{hkdf, hmac};

use super::cid::{CidScheme, Generator, Minted};
use super::congestion::OpenFactory;
use crate::message::Framing;
use crate::timing::quic::{
    ACK_DELAY, INITIAL_RTT, LINK_IDLE_TIMEOUT, LINK_KEEP_ALIVE, RESET_EVERY, SIGNALING_KEEP_ALIVE,
};
use crate::tls::{self, ClientAuth, Environment, Identity, Roots, TlsError};
use crate::version::Versions;

/// Who we are and whom we trust on QUIC links.
#[derive(Clone)]
pub struct QuicConfig {
    /// Cryptography and clock.
    pub tls: Environment,
    /// Trust anchors for every peer.
    pub roots: Roots,
    /// Our certificate and key.
    pub identity: Identity,
    /// The application protocol that both sides must name.
    pub alpn: Vec<u8>,
    /// Timers and sizes.
    pub options: QuicOptions,
}

/// Timers and sizes of links.
#[derive(Clone, Debug)]
pub struct QuicOptions {
    /// A client sends something at least this often, so that NAT mappings live.
    pub keep_alive: Duration,
    /// A link on which nothing was heard for this long is lost.
    pub idle_timeout: Duration,
    /// Largest UDP payload to try on links that carry packets, bytes. Path MTU discovery starts at 1,200 and ends here:
    /// 1,452 fills IPv6 over Ethernet.
    pub max_udp_payload: u16,
    /// Whether links that peers open carry packets, so that their path MTU is worth discovering. A service that only
    /// signals saves the probes.
    pub serves_packets: bool,
    /// For how long a new tunnel is taken to be still discovering its path's MTU: meanwhile a packet that does not fit
    /// a DATAGRAM frame goes on the stream, rather than be answered by Packet Too Big, which its sender would remember.
    pub discovery: Duration,
    /// Whether a peer that still holds a connection of an earlier life of ours is told at once that it is gone, by a
    /// stateless reset (RFC 9000 §10.3) under a key that follows from our certificate's. For services.
    pub remembers: bool,
    /// The congestion control of every link.
    pub congestion: Congestion,
    /// On links that carry packets: how many packets a peer that knows the ACK Frequency extension may take before it
    /// has to acknowledge one, within 5 ms. `None`: one, within 25 ms, as RFC 9000 §13.2.2 has it.
    pub acks_after: Option<u32>,
    /// On links that carry packets: how many datagrams for one place may leave in one
    /// [`Transmit`](crate::machine::Transmit). Those in the middle are padded by up to 16 bytes to be of one length.
    pub segments: usize,
    /// Where qlog traces go, if anywhere.
    pub qlog: Option<QlogSink>,
    /// The versions of the protocol that this part speaks, by both methods.
    pub versions: Versions,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            keep_alive: LINK_KEEP_ALIVE,
            idle_timeout: LINK_IDLE_TIMEOUT,
            max_udp_payload: 1452,
            serves_packets: true,
            discovery: Duration::ZERO,
            remembers: false,
            congestion: Congestion::Open,
            acks_after: None,
            segments: 1,
            qlog: None,
            versions: Versions::OURS,
        }
    }
}

/// What a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Messages only: 1,200 bytes do, and the path MTU is not probed.
    Signaling,
    /// Tunnelled packets too.
    Packets,
    /// Tunnelled packets too, on a path that its probes would end: whatever fits 1,200 bytes in one piece, the rest on
    /// the stream.
    PacketsUnprobed,
}

/// The congestion control of a link's outer connection.
///
/// RFC 9221 §5 puts DATAGRAM frames under the connection's congestion control like all others, so
/// [`Congestion::NewReno`] is what the RFCs ask for in every framing. The paper does not name a controller. A
/// comparison of throughput has to say which one each side ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// None: only the flows inside the tunnel limit what they send. This departs from RFC 9221 §5.
    Open,
    /// `NewReno` (RFC 9002 §7).
    NewReno,
}

impl Congestion {
    /// The default of a framing, where no setting names another one.
    ///
    /// A stream is reliable: what is lost is sent again below the flows inside, which therefore never learn of the loss
    /// and never slow down; only the connection itself can, so it runs `NewReno`. A DATAGRAM frame that is lost stays
    /// lost: the flows inside see the loss and slow down, as they do over UDP 4501, and a second controller below them
    /// would only hold their packets back.
    pub const fn of(framing: Framing) -> Self {
        match framing {
            Framing::Stream => Self::NewReno,
            Framing::Udp4501 | Framing::Datagram | Framing::Compact => Self::Open,
        }
    }
}

/// Opens one writer for each connection's qlog trace.
#[derive(Clone)]
pub struct QlogSink(pub Arc<dyn Fn() -> Box<dyn std::io::Write + Send + Sync> + Send + Sync>);

impl std::fmt::Debug for QlogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QlogSink(..)")
    }
}

/// Bytes of not yet sent, and of not yet read, DATAGRAM frames a link may hold.
pub(super) const DATAGRAM_BUFFER: usize = 1 << 20;
/// Flow-control windows for the stream, bytes.
const STREAM_WINDOW: u32 = 1 << 20;

impl QuicConfig {
    fn transport(&self, load: Load) -> TransportConfig {
        let discovery = (load == Load::Packets).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(self.options.max_udp_payload);
            discovery
        });
        let mut t = TransportConfig::default();
        t.max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .initial_rtt(INITIAL_RTT)
            .max_idle_timeout(Some(self.options.idle_timeout.try_into().expect("below 2^62 ms")))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(2 * STREAM_WINDOW))
            .send_window(u64::from(STREAM_WINDOW))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
            .datagram_send_buffer_size(DATAGRAM_BUFFER)
            .mtu_discovery_config(discovery)
            .enable_segmentation_offload(self.options.segments > 1);
        if let (Some(threshold), Load::Packets | Load::PacketsUnprobed) = (self.options.acks_after, load) {
            let mut frequency = AckFrequencyConfig::default();
            frequency.ack_eliciting_threshold(VarInt::from_u32(threshold)).max_ack_delay(Some(ACK_DELAY));
            t.ack_frequency_config(Some(frequency));
        }
        match self.options.congestion {
            Congestion::Open => t.congestion_controller_factory(Arc::new(OpenFactory)),
            Congestion::NewReno => t.congestion_controller_factory(Arc::new(NewRenoConfig::default())),
        };
        t
    }

    /// A fresh client configuration; the caller sets the first destination connection ID.
    pub(super) fn client(&self) -> Result<ClientConfig, TlsError> {
        let tls = tls::client_config(&self.tls, &self.roots, Some(&self.identity), &self.alpn)?;
        let quic = QuicClientConfig::try_from(tls).expect("the provider has TLS13_AES_128_GCM_SHA256");
        Ok(ClientConfig::new(Arc::new(quic)))
    }

    /// The transport parameters of a new outgoing connection.
    pub(super) fn client_transport(&self, load: Load) -> Arc<TransportConfig> {
        let mut transport = self.transport(load);
        let keep_alive = match load {
            Load::Signaling => self.options.keep_alive.min(SIGNALING_KEEP_ALIVE),
            Load::Packets | Load::PacketsUnprobed => self.options.keep_alive,
        };
        transport.keep_alive_interval((!defect!(KeepAliveOff)).then_some(keep_alive));
        self.trace(&mut transport);
        Arc::new(transport)
    }

    fn trace(&self, transport: &mut TransportConfig) {
        if let Some(sink) = &self.options.qlog {
            let mut qlog = QlogConfig::default();
            qlog.writer((sink.0)()).title(Some(self.identity.name.to_string())).start_time(super::origin());
            transport.qlog_stream(qlog.into_stream());
        }
    }

    /// The server side of an endpoint. `token_seed` keys the address-validation tokens.
    pub(super) fn server(&self, token_seed: &[u8; 32]) -> Result<ServerConfig, TlsError> {
        let tls = tls::server_config(&self.tls, &self.roots, &self.identity, ClientAuth::Required, &self.alpn)?;
        let quic = QuicServerConfig::try_from(tls).expect("the provider has TLS13_AES_128_GCM_SHA256");
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token_seed);
        let mut server = ServerConfig::new(Arc::new(quic), Arc::new(token_key));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        let mut transport = self.transport(if self.options.serves_packets { Load::Packets } else { Load::Signaling });
        self.trace(&mut transport);
        server
            .transport_config(Arc::new(transport))
            .validation_token_config(tokens)
            .time_source(self.tls.time_source())
            .max_incoming(super::MAX_HALF_OPEN);
        Ok(server)
    }

    /// The same, for connections whose path MTU is not searched for.
    pub(super) fn unprobed(&self, server: &ServerConfig) -> ServerConfig {
        let mut server = server.clone();
        let mut transport = self.transport(Load::PacketsUnprobed);
        self.trace(&mut transport);
        server.transport_config(Arc::new(transport));
        server
    }
}

/// The endpoint's own settings: connection IDs and the seed of its random numbers.
///
/// With `memory`, a key that survives restarts, peers of an earlier life are told at once that their connections are
/// gone.
pub(super) fn endpoint(
    scheme: CidScheme,
    cid_seed: [u8; 32],
    reset_seed: &[u8; 32],
    seed: [u8; 32],
    memory: Option<&hmac::Key>,
    minted: &Minted,
) -> EndpointConfig {
    let key = |purpose: &[u8], key| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, purpose).as_ref());
    let reset_key = match memory {
        Some(memory) => key(b"stateless reset", memory),
        None => hmac::Key::new(hmac::HMAC_SHA256, reset_seed),
    };
    let memory = memory.map(|memory| key(b"connection id", memory));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    if memory.is_some() {
        config.min_reset_interval(RESET_EVERY);
    }
    // Probes share our ports: see [`crate::probe`].
    config.rng_seed(Some(seed)).grease_quic_bit(false);
    // quinn asks for one generator, once.
    let generator = Mutex::new(Some(Generator::new(scheme, cid_seed, memory.clone(), minted)));
    let minted = Arc::clone(minted);
    config.cid_generator(move || {
        Box::new(
            generator
                .lock()
                .expect("no panic holds this lock")
                .take()
                .unwrap_or_else(|| Generator::new(scheme, cid_seed, memory.clone(), &minted)),
        )
    });
    config
}
