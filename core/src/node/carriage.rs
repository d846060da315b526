//! What differs between the methods, as one trait: how messages reach the cloud, how tunnels are built and how packets
//! travel in them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::peers::PeerId;
use super::status::TunnelStatus;
use crate::event::{DropReason, Event, Failure, Protection, Signal, TunnelUp};
use crate::header::Header;
use crate::machine::{Output, StreamId, StreamInput};
use crate::message::{LoginResponse, Message, RouteDirection};
use crate::name::Party;
use crate::time::Instant;

/// How long each step of a dialer may take, from the Route Direction on.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a listener waits from Route Direction to Tunnel Request: the dialer may be told later than it, and try twice.
pub(super) const LISTEN_TIMEOUT: Duration = Duration::from_secs(8);

/// How a node's messages and packets are carried.
pub(super) trait Carriage {
    /// Logs in to the AS, by its address number `attempt` (modulo their count). Answers [`CarriageOutput::LoggedIn`] or
    /// [`CarriageOutput::LoginFailed`].
    fn login(&mut self, now: Instant, attempt: usize);

    /// Opens the way to the NMS. Answers [`CarriageOutput::NmsReady`] or [`CarriageOutput::NmsLost`].
    fn open_nms(&mut self, now: Instant, login: &LoginResponse);

    /// Sends a message to the NMS; `count` is the number of earlier transmissions of it.
    fn send_nms(&mut self, now: Instant, transaction: u32, count: u8, message: Message);

    /// Whether messages to the NMS arrive without being sent again.
    fn is_reliable(&self) -> bool;

    /// Builds the tunnel that the NMS directed. `initiator`: we asked for it. `transaction`: of the Route Direction.
    fn build(&mut self, now: Instant, peer: PeerId, direction: RouteDirection, initiator: bool, transaction: u32);

    /// Forgets the tunnel to a peer, if there is one.
    fn forget(&mut self, now: Instant, peer: PeerId);

    /// Sends a packet through the tunnel to a peer.
    fn send_packet(&mut self, now: Instant, peer: PeerId, packet: Bytes) -> Result<(), SendRefused>;

    /// Every tunnel and session ends; the other ends are told where there is a word for it.
    fn leave(&mut self, now: Instant);

    /// The tunnel to a peer, if it is up.
    fn status(&self, peer: PeerId) -> Option<TunnelStatus>;

    /// The node's addresses changed: every session from the old ones is forgotten, without a word to anyone.
    fn move_to(&mut self, now: Instant, addresses: &[IpAddr]);

    /// Takes a UDP datagram.
    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut);

    /// Takes what happened on a TCP connection.
    fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamInput);

    /// Handles timers that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// The next timer.
    fn next_timeout(&self) -> Option<Instant>;

    /// The next output.
    fn poll(&mut self) -> Option<CarriageOutput>;
}

/// What a [`Carriage`] has to say.
pub(super) enum CarriageOutput {
    /// For the driver, as it is.
    Pass(Output),
    /// The AS accepted us.
    LoggedIn(LoginResponse),
    /// It did not.
    LoginFailed(Failure),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// They cannot any more.
    NmsLost(Failure),
    /// The NMS says.
    FromNms(Header, Message),
    /// A tunnel is ready.
    TunnelUp(PeerId, TunnelUp),
    /// A tunnel is gone, or was not built.
    TunnelDown(PeerId, Failure),
    /// A packet came out of a tunnel.
    Packet(PeerId, Bytes),
}

impl CarriageOutput {
    pub(super) fn dropped(reason: DropReason) -> Self {
        Self::Pass(Output::Event(Event::Dropped(reason)))
    }

    pub(super) fn signal(from: Party, to: Party, message: &Message, protection: Protection, count: u8) -> Self {
        Self::Pass(Output::Event(Event::Signal(Signal::message(from, to, message, protection, count))))
    }

    pub(super) fn handshake(from: Party, to: Party, what: &'static str) -> Self {
        Self::Pass(Output::Event(Event::Signal(Signal::handshake(from, to, what))))
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendRefused {
    /// There is no tunnel that is up.
    NoTunnel,
    /// The queue is full.
    Full,
    /// The packet is longer than the path takes: the limit for inner packets, bytes.
    TooBig(usize),
}

/// Our own address of the same family as `remote`, with our port.
pub(super) fn local_for(addresses: &[IpAddr], port: u16, remote: SocketAddr) -> Option<SocketAddr> {
    let same = addresses.iter().find(|a| a.is_ipv4() == remote.is_ipv4())?;
    Some(SocketAddr::new(*same, port))
}

/// The first of `remotes` that we have an address for, and that address.
pub(super) fn reachable(addresses: &[IpAddr], port: u16, remotes: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
    remotes.iter().find_map(|&r| local_for(addresses, port, r).map(|l| (l, r)))
}
