//! The settings of links: TLS, timers, sizes.

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
use super::congestion::{OpenFactory, ReopeningFactory};
use crate::message::Framing;
use crate::timing::quic::{ACK_DELAY, INITIAL_RTT, LINK_IDLE_TIMEOUT, LINK_KEEP_ALIVE, SIGNALING_KEEP_ALIVE};
use crate::tls::{self, ClientAuth, Environment, Identity, Roots, TlsError};
use crate::version::Versions;

/// Identity and trust anchors of QUIC links.
#[derive(Clone)]
pub struct QuicConfig {
    /// Cryptography and clock.
    pub tls: Environment,
    /// Trust anchors for every peer.
    pub roots: Roots,
    /// Our own certificate and key.
    pub identity: Identity,
    /// The application protocol that both sides must name.
    pub alpn: Vec<u8>,
    /// Timers and sizes.
    pub options: QuicOptions,
}

/// Timers and sizes of links.
#[derive(Clone, Debug)]
pub struct QuicOptions {
    /// Keep-alive interval of a client. It sends at least this often, so that NAT mappings do not expire.
    pub keep_alive: Duration,
    /// Idle timeout: a link on which nothing was received for this long is lost.
    pub idle_timeout: Duration,
    /// Largest UDP payload to try on links that carry packets, bytes. Path MTU discovery starts at 1,200 and ends here:
    /// 1,452 fills IPv6 over Ethernet.
    pub max_udp_payload: u16,
    /// Whether links that peers open carry packets. If not, path MTU discovery is off on them: a service that only
    /// signals needs no large datagrams.
    pub serves_packets: bool,
    /// How long a new tunnel is assumed to be still discovering its path MTU. Meanwhile a packet that does not fit a
    /// DATAGRAM frame goes on the stream. A Packet Too Big would make its sender remember an MTU that is too small.
    pub discovery: Duration,
    /// Whether a restarted service answers packets of connections from before the restart by a stateless reset (RFC
    /// 9000 §10.3), so that peers learn at once that these are gone. Its key is derived from the certificate's key.
    pub remembers: bool,
    /// The congestion control of every link.
    pub congestion: Congestion,
    /// The acknowledgement threshold on links that carry packets, for a peer with the ACK Frequency extension: the peer
    /// may receive this many packets before it acknowledges, for at most 5 ms. `None`: one, for at most 25 ms (RFC 9000
    /// §13.2.2).
    pub acks_after: Option<u32>,
    /// Datagrams for one address that may leave in one [`Transmit`](crate::machine::Transmit), on links that carry
    /// packets. All but the last are padded by up to 16 bytes to one length.
    pub segments: usize,
    /// Whether the path beneath a connection may change. After a change the congestion controller then stays open until
    /// the first acknowledgement.
    pub reopens: bool,
    /// Where qlog traces are written; `None`: nowhere.
    pub qlog: Option<QlogSink>,
    /// The protocol versions that this part speaks, in both methods.
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
            reopens: false,
            qlog: None,
            versions: Versions::OURS,
        }
    }
}

/// What a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Messages only. 1,200 bytes are enough, so there is no path MTU discovery.
    Signaling,
    /// Tunnelled packets too.
    Packets,
    /// Tunnelled packets too, but without path MTU discovery, because its probes would break this path. A packet that
    /// does not fit into 1,200 bytes goes on the stream.
    PacketsUnprobed,
}

/// The congestion control of a link's outer connection.
///
/// DATAGRAM frames are under the connection's congestion control like all others (RFC 9221 §5). So the RFCs ask for
/// [`Congestion::NewReno`] in every framing. The paper does not name a controller. A comparison of throughput has to
/// say which one each side ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// None: only the flows inside the tunnel control their rate. This departs from RFC 9221 §5.
    Open,
    /// `NewReno` (RFC 9002 §7).
    NewReno,
}

impl Congestion {
    /// The default for a framing.
    ///
    /// A stream is reliable: QUIC retransmits lost data, so the flows inside never see a loss and never slow down. Only
    /// the connection can, so it runs `NewReno`. A DATAGRAM frame that is lost stays lost: the flows inside see the
    /// loss and slow down, as they do over UDP 4501. A second controller below them would only delay their packets.
    pub const fn of(framing: Framing) -> Self {
        match framing {
            Framing::Stream => Self::NewReno,
            Framing::Udp4501 | Framing::Datagram | Framing::Compact => Self::Open,
        }
    }
}

/// The end of its connections that writes a qlog trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// The end that opened the connection.
    Client,
    /// The end that accepted the connections.
    Server,
}

impl Vantage {
    /// Its name in a trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Opens one writer for the qlog trace of each connection of a client, and one for those of a server.
#[derive(Clone)]
pub struct QlogSink(pub Arc<dyn Fn(Vantage) -> Box<dyn std::io::Write + Send + Sync> + Send + Sync>);

impl std::fmt::Debug for QlogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QlogSink(..)")
    }
}

/// Most bytes of DATAGRAM frames that a link holds before they are sent, and after they are received.
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
            Congestion::NewReno if self.options.reopens => {
                t.congestion_controller_factory(Arc::new(ReopeningFactory::default()))
            }
            Congestion::NewReno => t.congestion_controller_factory(Arc::new(NewRenoConfig::default())),
        };
        t
    }

    /// A new client configuration. The caller sets the first destination connection ID.
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
        self.trace(&mut transport, Vantage::Client);
        Arc::new(transport)
    }

    fn trace(&self, transport: &mut TransportConfig, vantage: Vantage) {
        if let Some(sink) = &self.options.qlog {
            let mut qlog = QlogConfig::default();
            qlog.writer((sink.0)(vantage)).title(Some(self.identity.name.to_string())).start_time(super::origin());
            transport.qlog_stream(qlog.into_stream());
        }
    }

    /// The server side of an endpoint. The key of its address-validation tokens is derived from `token_seed`.
    pub(super) fn server(&self, token_seed: &[u8; 32]) -> Result<ServerConfig, TlsError> {
        let tls = tls::server_config(&self.tls, &self.roots, &self.identity, ClientAuth::Required, &self.alpn)?;
        let quic = QuicServerConfig::try_from(tls).expect("the provider has TLS13_AES_128_GCM_SHA256");
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token_seed);
        let mut server = ServerConfig::new(Arc::new(quic), Arc::new(token_key));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        let mut transport = self.transport(if self.options.serves_packets { Load::Packets } else { Load::Signaling });
        self.trace(&mut transport, Vantage::Server);
        server
            .transport_config(Arc::new(transport))
            .validation_token_config(tokens)
            .time_source(self.tls.time_source())
            .max_incoming(super::MAX_HALF_OPEN);
        Ok(server)
    }

    /// The same server configuration, without path MTU discovery.
    pub(super) fn unprobed(&self, server: &ServerConfig) -> ServerConfig {
        let mut server = server.clone();
        let mut transport = self.transport(Load::PacketsUnprobed);
        self.trace(&mut transport, Vantage::Server);
        server.transport_config(Arc::new(transport));
        server
    }
}

fn derived(purpose: &[u8], key: &hmac::Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, purpose).as_ref())
}

/// The key of the hash in connection IDs.
pub(super) fn mark_key(memory: &hmac::Key) -> hmac::Key {
    derived(b"connection id", memory)
}

/// The endpoint's own settings: connection IDs and the seed of its random numbers.
///
/// `memory` is a key that survives restarts. With it, packets of connections from before a restart are answered by a
/// stateless reset.
pub(super) fn endpoint(
    scheme: CidScheme,
    cid_seed: [u8; 32],
    reset_seed: &[u8; 32],
    seed: [u8; 32],
    memory: Option<&hmac::Key>,
    minted: &Minted,
) -> EndpointConfig {
    let reset_key = match memory {
        Some(memory) => derived(b"stateless reset", memory),
        None => hmac::Key::new(hmac::HMAC_SHA256, reset_seed),
    };
    let memory = memory.map(mark_key);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    if memory.is_some() {
        // `Resets` has the limits.
        config.min_reset_interval(Duration::ZERO);
    }
    // QUIC's fixed bit tells QUIC packets from probes, which arrive at the same ports ([`crate::probe`]). So it is not
    // greased.
    config.rng_seed(Some(seed)).grease_quic_bit(false);
    // quinn calls the factory once. A second call would repeat the connection IDs of the first.
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
