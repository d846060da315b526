//! The differences between the methods, as one trait: how messages reach AS and NMS, how tunnels are built, and how
//! packets travel in them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::part::{Asked, TunnelId};
use super::places::Places;
use super::status::TunnelStatus;
use crate::event::{DropReason, Event, Failure, Protection, Signal, TunnelUp};
use crate::header::{Flags, Header};
use crate::machine::{Output, StreamId, StreamInput, Tables, Transmit};
use crate::message::{LoginResponse, Message, PathGrant, RelayGrant, RouteDirection, Want};
use crate::name::{Party, Virtual};
use crate::time::Instant;
use crate::timing::Due;
use crate::tls::{Identity, Roots, TlsError};

/// How a node's messages and packets are carried.
pub(super) trait Carriage {
    /// Begins a login at the AS. `attempt` selects one of the AS's addresses, modulo their number. The result is
    /// [`CarriageOutput::LoggedIn`] or [`CarriageOutput::LoginFailed`]. Earlier attempts stay open beside it.
    fn login(&mut self, now: Instant, attempt: usize);

    /// Opens a session with the NMS. The result is [`CarriageOutput::NmsReady`] or [`CarriageOutput::NmsLost`]. The
    /// present session and earlier attempts stay open until the new one is ready.
    fn open_nms(&mut self, now: Instant, login: &LoginResponse);

    /// The NMS has registered the node, so other attempts at a login or session can end.
    fn registered(&mut self, now: Instant);

    /// Sets whether this node is slow. Its messages to the NMS say so, and the NMS and peers then wait longer for it.
    fn set_slow(&mut self, slow: bool);

    /// Sends a message to the NMS. `count` is the number of its earlier transmissions.
    fn send_nms(&mut self, now: Instant, transaction: u32, count: u8, message: Message) {
        self.send_nms_flagged(now, (transaction, Flags(0)), count, message);
    }

    /// As [`Self::send_nms`], with header flags beside the transaction.
    fn send_nms_flagged(&mut self, now: Instant, transaction: (u32, Flags), count: u8, message: Message);

    /// Whether the transport retransmits messages to the NMS, so that the node need not.
    fn is_reliable(&self) -> bool;

    /// Builds the tunnel of a Route Direction. The result is [`CarriageOutput::TunnelUp`] or
    /// [`CarriageOutput::TunnelDown`].
    fn build(&mut self, now: Instant, tunnel: TunnelId, direction: RouteDirection, asked: Asked);

    /// The NMS has sent a Relay Grant, which the TRS needs before it relays for this node.
    fn granted(&mut self, _now: Instant, _grant: RelayGrant) {}

    /// The NMS has sent a Path Grant, for a path that the TRS goes on to relay (conventional method).
    fn path_granted(&mut self, _now: Instant, _transaction: u32, _grant: &PathGrant) {}

    /// The NMS has offered a TRS (Relay Offer). The node may open a leg there in advance.
    fn offered(&mut self, _now: Instant, _addresses: Vec<SocketAddr>) {}

    /// Forgets a tunnel, if it is there. There is no [`CarriageOutput::TunnelDown`] for it.
    fn forget(&mut self, now: Instant, tunnel: TunnelId);

    /// See [`crate::machine::Machine::tables`].
    fn tables(&self) -> Tables;

    /// When the peer was heard last on a tunnel that is up. A peer that is alive answers soon: each packet by a QUIC
    /// acknowledgement, or a Keep Alive by a Keep Alive Ack.
    fn heard_at(&self, tunnel: TunnelId) -> Option<Instant>;

    /// Whether the peer owes an answer on a tunnel that is up. Only then does its silence mean something.
    fn is_answer_due(&self, tunnel: TunnelId) -> bool;

    /// The address of the NMS, and when the NMS was heard last. `None` without a session.
    fn nms_heard(&self) -> Option<(SocketAddr, Instant)>;

    /// The round trip to the NMS, where the carrier measures it.
    fn nms_rtt(&self) -> Option<Duration>;

    /// Sends a packet through a tunnel. [`Self::finish`] has to follow, once after any number of packets.
    fn send_packet(&mut self, now: Instant, tunnel: TunnelId, packet: Bytes) -> Result<(), SendRefused>;

    /// Ends every tunnel and session, and notifies the other ends if the method has a message for that.
    fn leave(&mut self, now: Instant);

    /// The state of a tunnel, if it is up.
    fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus>;

    /// From now on tries the other address family first, because the services did not answer by this one.
    fn change_family(&mut self);

    /// The node's addresses, and which address family and interface reaches the services.
    fn places(&self) -> &Places;

    /// Replaces the trust anchors. Sessions and tunnels whose certificates the new ones do not cover end.
    fn trust(&mut self, now: Instant, roots: Roots) -> Result<(), TlsError>;

    /// The virtual addresses in this node's certificate.
    fn own_addresses(&self) -> Option<Virtual> {
        None
    }

    /// Replaces the node's certificate. Returns whether the node has to log in with it.
    fn renew(&mut self, now: Instant, identity: Identity) -> Result<bool, TlsError>;

    /// The node's network changed. Sessions and tunnels that cannot move along are forgotten. Nobody is notified, and
    /// there is no [`CarriageOutput::TunnelDown`].
    fn move_to(&mut self, now: Instant, places: &Places) -> Kept;

    /// The service at this address is reached by UDP again, after TCP.
    fn rerouted(&mut self, _now: Instant, _service: SocketAddr) {}

    /// The process stood still for some seconds: tests at once whether the NMS and each peer still answer.
    fn check(&mut self, now: Instant);

    /// Nothing is heard by UDP: sends the NMS a PING on the present session.
    fn ask_nms(&mut self, now: Instant);

    /// The process stood still for long. Forgets every session and tunnel, and notifies nobody.
    fn start_anew(&mut self, now: Instant, places: &Places);

    /// Makes packets that came through tunnels available by [`Self::poll`], before anything is acknowledged.
    fn deliver(&mut self, now: Instant);

    /// Completes the work of [`Self::handle_datagram`] and [`Self::send_packet`]. Afterwards [`Self::poll`] gives every
    /// output.
    fn finish(&mut self, now: Instant);

    /// Whether a datagram is a path probe of one of the tunnels, by its tag.
    fn has_path_probe(&self, _datagram: &[u8]) -> bool {
        false
    }

    /// Answers a challenge of the NMS, which a Registration Request brought about (conventional method). Whether the
    /// datagram was one.
    fn answers_challenge(&mut self, _local: SocketAddr, _remote: SocketAddr, _datagram: &[u8]) -> bool {
        false
    }

    /// Handles a UDP datagram. [`Self::finish`] has to follow, once after any number of datagrams. Returns whether QUIC
    /// found the datagram authentic and new. Of several in a row that came at the same instant by the same way, only
    /// the first may be told. False in the conventional method.
    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) -> bool;

    /// Handles an event of a TCP connection.
    fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamInput);

    /// Handles timers that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// The next timer.
    fn next_timer(&self) -> Option<Due>;

    /// The next output.
    fn poll(&mut self) -> Option<CarriageOutput>;
}

/// The sessions and tunnels that moved along with a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Whether the session with the NMS moved along. [`CarriageOutput::NmsReady`] comes when the NMS has validated the
    /// new address.
    pub(super) nms: bool,
    /// Tunnels that are up.
    pub(super) tunnels: Vec<TunnelId>,
}

/// An output of a [`Carriage`].
pub(super) enum CarriageOutput {
    /// An output for the driver, unchanged.
    Pass(Output),
    /// Send this. A peer answers it, perhaps through a TRS, or nobody does; a service does not.
    Unasking(Box<Transmit>),
    /// The AS accepted the login.
    LoggedIn(Box<LoginResponse>),
    /// The login failed.
    LoginFailed(Failure),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// The session with the NMS is lost, or was not opened.
    NmsLost(Failure),
    /// A message of the NMS. It is boxed, because each packet moves through this type, and messages are large.
    FromNms(Box<(Header, Message)>),
    /// Packets may be sent into a tunnel although the peer has not answered yet (`signaling = "fast"`).
    TunnelReady(TunnelId),
    /// A tunnel is ready.
    TunnelUp(TunnelId, Box<TunnelUp>),
    /// A tunnel is gone, or was not built.
    TunnelDown(TunnelId, Failure),
    /// A tunnel that was being built became one more path of a tunnel that is up.
    Merged(TunnelId),
    /// A tunnel uses another path now. `relayed`: whether that path leads through a TRS.
    PathSwitched { tunnel: TunnelId, relayed: bool },
    /// No path of a tunnel is known to work: it needs a Route Direction of this kind.
    PathWanted(TunnelId, Want),
    /// A path of a tunnel works again, after [`Self::PathWanted`].
    PathWorks(TunnelId),
    /// Packets came out of a tunnel.
    Packets(TunnelId, Vec<Bytes>),
}

impl CarriageOutput {
    pub(super) fn dropped(reason: DropReason) -> Self {
        Self::Pass(Output::from(Event::Dropped(reason)))
    }

    pub(super) fn signal(from: Party, to: Party, message: &Message, protection: Protection, count: u8) -> Self {
        Self::Pass(Output::from(Event::Signal(Box::new(Signal::message(from, to, message, protection, count)))))
    }

    pub(super) fn handshake(from: Party, to: Party, what: &'static str) -> Self {
        Self::Pass(Output::from(Event::Signal(Box::new(Signal::handshake(from, to, what)))))
    }
}

/// Why a packet was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SendRefused {
    /// There is no tunnel that is up.
    NoTunnel,
    /// The queue is full.
    Full,
    /// This packet is too long for the path. The number is the largest inner packet that the path takes, bytes.
    TooBig(usize, Bytes),
}
