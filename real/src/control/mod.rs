//! The control socket of a running node: one JSON line each way over a Unix socket that only its owner can use.

mod capture;
mod client;
mod fleet;
mod nms;
mod ping;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

pub use capture::capture;
pub use client::{netcheck, status};
pub use fleet::{Device, Online, OtherMachine, fleet};
pub use nms::{AccessRules, NmsStatus, Twins};
pub use ping::ping;

use crate::error::{Code, Failure};
use crate::net::Notice;
use crate::tasks;

/// Where a node listens, if the settings do not say.
pub const DEFAULT_SOCKET: &str = "/run/cyphonic/node.sock";
/// Where the example configuration of the NMS lets it listen.
pub const NMS_SOCKET: &str = "/run/cyphonic/nms.sock";
/// Silence of the NMS, in seconds, after which its answer is overdue. A node asks the NMS for one every three seconds
/// at least.
const SILENT_S: f64 = 5.0;
/// The longest question, bytes.
const QUESTION_BYTES: u64 = 4096;

/// A question to a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Question {
    /// The node's registration, network and tunnels; or the NMS's access rules.
    Status,
    /// What the node's network lets through. The node asks its services.
    Netcheck,
    /// One round trip to a peer, building the tunnel if there is none.
    Ping {
        /// Its name.
        name: String,
    },
    /// All packets, as pcapng after the answer, until the client closes the connection.
    Capture {
        /// Whether every connection is built anew first, so that its beginning is in the capture.
        rebuild: bool,
    },
    /// Every device, and which of them are registered. It is for the NMS; all others but `Status` are for a node.
    Fleet,
}

/// A node's answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Question::Status`].
    Status(Box<Status>),
    /// To [`Question::Status`], of an NMS.
    Nms(NmsStatus),
    /// To [`Question::Netcheck`].
    Netcheck(Box<Netcheck>),
    /// To [`Question::Ping`].
    Pong(Pong),
    /// To [`Question::Capture`]; what follows is the capture.
    Capturing,
    /// To [`Question::Fleet`]; by name.
    Fleet {
        /// Every device.
        devices: Vec<Device>,
    },
    /// The question cannot be answered.
    Error {
        /// The exit code of the command that asked.
        code: Code,
        /// Why.
        what: String,
        /// How to mend it.
        remedy: String,
    },
}

/// The state of a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// "conventional" or "proposed".
    pub method: String,
    /// The program's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether the node is registered with the NMS.
    pub registered: bool,
    /// Whether the NMS found a NAT in front of the node. Known once the node was registered.
    pub nat: Option<bool>,
    /// Why the last registration ended, or failed.
    pub trouble: Option<String>,
    /// How to mend that.
    pub remedy: Option<String>,
    /// When its certificate ends, in seconds since 1970. None if it logs in by password.
    pub certificate_ends: Option<u64>,
    /// When the CA's own certificate ends, in seconds since 1970. No certificate counts after that.
    pub authority_ends: Option<u64>,
    /// The NMS, if there is a connection to it.
    pub nms: Option<Nms>,
    /// How the services are reached, where that is not by UDP; why they are not reached by TCP either.
    #[serde(default)]
    pub transport: Option<String>,
    /// How its network treats packets, by family. Known only if the NMS helps to find out (`policy = "optimal"`).
    pub network_behaviour: std::collections::BTreeMap<String, String>,
    /// Its virtual addresses, once the virtual interface has them.
    pub virtual_addresses: Vec<IpAddr>,
    /// The addresses of this machine that it uses.
    pub addresses: Vec<IpAddr>,
    /// Its UDP port.
    pub port: u16,
    /// The present name of the virtual interface.
    pub tun: String,
    /// Obstacles on this machine: a network that overlaps with the overlay, or a filter that cannot be made.
    pub notices: Vec<Notice>,
    /// Every peer that it has a tunnel with, or wants one with.
    pub peers: Vec<Peer>,
    /// Peers that the NMS's access rules forbid this node to talk with, as far as it has asked for them.
    #[serde(default)]
    pub not_permitted: Vec<String>,
    /// Peers that this node cannot meet, because Table 1 says that they reach each other directly and nothing gets
    /// through (`policy = "paper"`).
    #[serde(default)]
    pub stranded: Vec<String>,
    /// What was dropped, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// The timer that the node waits for.
    pub next: Option<Next>,
}

/// A timer that is set.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Next {
    /// Its purpose.
    pub timer: String,
    /// Seconds until it is due.
    pub in_s: f64,
}

/// How well the NMS is heard.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Nms {
    /// Its address.
    pub remote: SocketAddr,
    /// Seconds since it was heard last. The node asks it for an answer every few seconds.
    pub silent_s: f64,
    /// Seconds of silence after which the node gives it up and registers again.
    pub lost_after_s: f64,
    /// The round trip in milliseconds, if it is measured.
    pub rtt_ms: Option<f64>,
}

impl Nms {
    /// Whether its answer is overdue.
    pub fn is_silent(&self) -> bool {
        self.silent_s > SILENT_S
    }
}

/// The node's knowledge of its network. A field that is `None` is unknown.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Netcheck {
    /// The node's name.
    pub name: String,
    /// "conventional" or "proposed".
    pub method: String,
    /// Whether the node is registered with the NMS.
    pub registered: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// How to mend that.
    pub remedy: Option<String>,
    /// The NMS, if there is a connection to it.
    pub nms: Option<Nms>,
    /// How the services are reached, where that is not by UDP; why they are not reached by TCP either.
    #[serde(default)]
    pub transport: Option<String>,
    /// Whether the NMS found a NAT in front of the node. Known once the node was registered.
    pub nat: Option<bool>,
    /// The node's UDP port.
    pub port: u16,
    /// IPv6.
    pub ipv6: Family,
    /// IPv4.
    pub ipv4: Family,
    /// Whether UDP gets through to port 443.
    pub udp_443: Option<bool>,
    /// Whether TCP gets through to port 443.
    pub tcp_443: Option<bool>,
    /// Every address of a service that the node knows.
    pub services: Vec<Service>,
    /// Tunnels that are direct.
    pub direct: usize,
    /// Tunnels through the TRS.
    pub relayed: usize,
}

/// The node's knowledge of one address family. A field that is `None` is unknown.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Family {
    /// The node's addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether UDP gets through to a service.
    pub udp: Option<bool>,
    /// Whether the network maps a port to the same one for all destinations (RFC 4787 §4.1).
    pub mapping: Option<String>,
    /// Which senders the network lets in (RFC 4787 §5).
    pub filtering: Option<String>,
    /// The largest packet that reaches every service that answers, bytes of IP. Packets up to 1,500 bytes are tried.
    pub mtu: Option<u16>,
}

/// An address of a service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Service {
    /// "as", "nms" or "trs".
    pub service: String,
    /// The address that was asked.
    pub place: SocketAddr,
    /// Whether it answered by QUIC over UDP. `None` if it was not asked, because this machine has no address of its
    /// family.
    pub udp: Option<bool>,
    /// Whether it took a TCP connection. `None` if it need not take any, or was not asked.
    pub tcp: Option<bool>,
    /// The shortest round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// The largest packet that reached it, bytes of IP.
    pub mtu: Option<u16>,
}

/// A peer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Peer {
    /// Its name, or its virtual address if the name is not known.
    pub peer: String,
    /// Its virtual addresses.
    pub virtual_addresses: Vec<IpAddr>,
    /// Whether packets flow.
    pub up: bool,
    /// The signaling pattern: 1, 2 or 3.
    pub pattern: Option<u8>,
    /// "direct" or "trs".
    pub via: Option<String>,
    /// The address that packets go to.
    pub remote: Option<SocketAddr>,
    /// Whether this node dialed the tunnel.
    pub dialed: Option<bool>,
    /// How packets are framed.
    pub framing: Option<String>,
    /// The round trip in milliseconds, if the tunnel measures it.
    pub rtt_ms: Option<f64>,
    /// Why the tunnel is direct or relayed.
    pub why: Option<String>,
    /// The handover strategy: "rebuild", "migrate" or "seamless".
    #[serde(default)]
    pub handover: Option<String>,
    /// What the two nodes waited for while the tunnel came up: "paper", "confirmed" or "fast".
    #[serde(default)]
    pub signaling: Option<String>,
    /// Every path of the tunnel: its addresses, its state, and how it is used and why.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Bytes of packets sent.
    pub sent_bytes: u64,
    /// What the access rules let this node open to the peer, if they forbid anything.
    #[serde(default)]
    pub may_open: Option<String>,
    /// What they let the peer open to this node.
    #[serde(default)]
    pub may_be_sent: Option<String>,
    /// Bytes of packets received.
    pub received_bytes: u64,
}

/// A round trip.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pong {
    /// The peer.
    pub peer: String,
    /// Its virtual address.
    pub address: IpAddr,
    /// "direct" or "trs".
    pub via: String,
    /// The address that packets go to.
    pub remote: SocketAddr,
    /// The round trip, milliseconds.
    pub rtt_ms: f64,
}

/// An answer, and what follows it.
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// The bytes that follow the answer, until the client closes the connection.
    pub then: Option<mpsc::Receiver<Vec<u8>>>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, then: None }
    }
}

/// A question, and the sender for its answer.
pub type Asked = (Question, oneshot::Sender<Reply>);

/// The socket of a node. It is removed when this is dropped.
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Listens. Each question goes to `ask`.
    pub fn listen(path: &Path, ask: mpsc::Sender<Asked>) -> Result<Self, Failure> {
        let fail = |error: std::io::Error| {
            let remedy = "set `control` to a path that this user may write, another for each daemon";
            Failure::new(Code::Address, format!("{}: no control socket: {error}", path.display()), remedy)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let what = format!("{}: a daemon runs with this control socket", path.display());
            return Err(Failure::new(Code::Address, what, "end it, or set another `control`"));
        }
        // A file that an earlier run of the daemon left.
        let _ = std::fs::remove_file(path);
        // No other user may connect, from the first moment on.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(fail)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        tasks::forever("answers the control socket", accept(listener, ask));
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, ask: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let ask = ask.clone();
                tokio::spawn(async move {
                    // If the client has closed the connection, the answer is dropped.
                    let _ = serve(stream, ask).await;
                });
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn serve(mut stream: UnixStream, ask: mpsc::Sender<Asked>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(QUESTION_BYTES));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Question>(&line) {
        Ok(question) => {
            let (sender, receiver) = oneshot::channel();
            if ask.send((question, sender)).await.is_err() {
                return Ok(());
            }
            receiver.await.unwrap_or_else(|_| {
                let remedy = "the peer may be offline: `cyphonic status` shows how the node stands".into();
                Answer::Error { code: Code::Unreachable, what: "no answer".into(), remedy }.into()
            })
        }
        Err(error) => {
            let remedy = "use the same version of cyphonic".into();
            Answer::Error { code: Code::Other, what: format!("not understood: {error}"), remedy }.into()
        }
    };
    let mut text = serde_json::to_vec(&reply.answer)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    let Some(mut then) = reply.then else { return Ok(()) };
    let mut rest = [0];
    loop {
        tokio::select! {
            piece = then.recv() => match piece {
                Some(piece) => writer.write_all(&piece).await?,
                None => return Ok(()),
            },
            // The client sends nothing more, so a read means that it has closed the connection.
            _ = reader.read(&mut rest) => break,
        }
    }
    then.close();
    while let Ok(piece) = then.try_recv() {
        writer.write_all(&piece).await?;
    }
    Ok(())
}
