//! The differences between the methods, as one trait: how messages reach the cloud, how tunnels are built, and how
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
use crate::message::{LoginResponse, Message, RelayGrant, RouteDirection, Want};
use crate::name::{Party, Virtual};
use crate::time::Instant;
use crate::timing::Due;
use crate::tls::{Identity, Roots, TlsError};

/// How a node's messages and packets are carried.
pub(super) trait Carriage {
    /// Logs in to the AS, by its address number `attempt` (modulo their count). Answers [`CarriageOutput::LoggedIn`] or
    /// [`CarriageOutput::LoginFailed`]. Earlier attempts stay open beside it.
    fn login(&mut self, now: Instant, attempt: usize);

    /// Opens a session with the NMS. Answers [`CarriageOutput::NmsReady`] or [`CarriageOutput::NmsLost`]. A session
    /// that there is, and earlier attempts, stay open until another one is ready.
    fn open_nms(&mut self, now: Instant, login: &LoginResponse);

    /// The NMS has registered the node: other attempts at that are not needed any more.
    fn registered(&mut self, now: Instant);

    /// Whether all who wait for this node have to wait longer: it says so in its messages to the NMS.
    fn set_slow(&mut self, slow: bool);

    /// Sends a message to the NMS; `count` is the number of earlier transmissions of it.
    fn send_nms(&mut self, now: Instant, transaction: u32, count: u8, message: Message) {
        self.send_nms_flagged(now, (transaction, Flags(0)), count, message);
    }

    /// The same, with flags.
    fn send_nms_flagged(&mut self, now: Instant, transaction: (u32, Flags), count: u8, message: Message);

    /// Whether messages to the NMS arrive without being sent again.
    fn is_reliable(&self) -> bool;

    /// Builds the tunnel that the NMS directed. Answers [`CarriageOutput::TunnelUp`] or [`CarriageOutput::TunnelDown`].
    fn build(&mut self, now: Instant, tunnel: TunnelId, direction: RouteDirection, asked: Asked);

    /// The NMS has granted this node the TRS.
    fn granted(&mut self, _now: Instant, _grant: RelayGrant) {}

    /// The NMS offers a TRS, to keep a leg there.
    fn offered(&mut self, _now: Instant, _addresses: Vec<SocketAddr>) {}

    /// Forgets a tunnel, if it is there. There is no [`CarriageOutput::TunnelDown`] for it.
    fn forget(&mut self, now: Instant, tunnel: TunnelId);

    /// See [`crate::machine::Machine::tables`].
    fn tables(&self) -> Tables;

    /// When the peer was heard last on a tunnel that is up. A peer that is there answers every packet within moments:
    /// by a QUIC acknowledgement, or by a Keep Alive Ack once a Keep Alive asks for it.
    fn heard_at(&self, tunnel: TunnelId) -> Option<Instant>;

    /// Whether an answer of the peer is due on a tunnel that is up. Without a question the peer's silence means
    /// nothing.
    fn is_answer_due(&self, tunnel: TunnelId) -> bool;

    /// The NMS's address, and when it was heard last; `None` without a session.
    fn nms_heard(&self) -> Option<(SocketAddr, Instant)>;

    /// The round trip to the NMS, where the carrier measures it.
    fn nms_rtt(&self) -> Option<Duration>;

    /// Sends a packet through a tunnel; [`Self::finish`] has to follow, once for as many as there are.
    fn send_packet(&mut self, now: Instant, tunnel: TunnelId, packet: Bytes) -> Result<(), SendRefused>;

    /// Ends every tunnel and session. The other ends are told, if the method has a message for it.
    fn leave(&mut self, now: Instant);

    /// A tunnel, if it is up.
    fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus>;

    /// Tries the other address family first from now on, because the cloud did not answer by this one.
    fn change_family(&mut self);

    /// The node's addresses, with what was learnt of them: which family and interface reaches the services.
    fn places(&self) -> &Places;

    /// Trusts these from now on; what they do not vouch for any more ends.
    fn trust(&mut self, now: Instant, roots: Roots) -> Result<(), TlsError>;

    /// The virtual addresses in this node's certificate.
    fn own_addresses(&self) -> Option<Virtual> {
        None
    }

    /// Is another certificate of ours from now on. Whether the node has to log in by it.
    fn renew(&mut self, now: Instant, identity: Identity) -> Result<bool, TlsError>;

    /// The node's network changed. What cannot move along is forgotten, without a word to anyone, and without a
    /// [`CarriageOutput::TunnelDown`].
    fn move_to(&mut self, now: Instant, places: &Places) -> Kept;

    /// The node stood still for some seconds: looks at once whether the NMS and each peer still answer.
    fn check(&mut self, now: Instant);

    /// Nothing is heard by UDP: asks the NMS for a sign, by the session that there is.
    fn ask_nms(&mut self, now: Instant);

    /// The node stood still for long. Every session and tunnel is forgotten, without a word to anyone.
    fn start_anew(&mut self, now: Instant, places: &Places);

    /// Gives by [`Self::poll`] what came through tunnels so far, before it is answered.
    fn deliver(&mut self, now: Instant);

    /// Completes what [`Self::handle_datagram`] and [`Self::send_packet`] began. Afterwards [`Self::poll`] gives every
    /// output.
    fn finish(&mut self, now: Instant);

    /// Whether a datagram is a path probe of one of the tunnels, by its tag.
    fn has_path_probe(&self, _datagram: &[u8]) -> bool {
        false
    }

    /// Takes a UDP datagram; [`Self::finish`] has to follow, once for as many as there are. Whether QUIC found it
    /// authentic and new; false in the conventional method.
    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) -> bool;

    /// Takes an event of a TCP connection.
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
    /// The session with the NMS. [`CarriageOutput::NmsReady`] comes when the NMS has followed.
    pub(super) nms: bool,
    /// Tunnels that are up.
    pub(super) tunnels: Vec<TunnelId>,
}

/// An output of a [`Carriage`].
pub(super) enum CarriageOutput {
    /// An output for the driver, unchanged.
    Pass(Output),
    /// Send this to a peer that answers late, perhaps through a TRS.
    ToSlowPeer(Transmit),
    /// The AS accepted the login.
    LoggedIn(LoginResponse),
    /// The login failed.
    LoginFailed(Failure),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// The session with the NMS is lost, or was not opened.
    NmsLost(Failure),
    /// A message of the NMS.
    FromNms(Header, Message),
    /// Packets may go into a tunnel, though the peer has not answered yet (`signaling = "fast"`).
    TunnelReady(TunnelId),
    /// A tunnel is ready.
    TunnelUp(TunnelId, TunnelUp),
    /// A tunnel is gone, or was not built.
    TunnelDown(TunnelId, Failure),
    /// A tunnel that was to be built became one more path of another one that stands.
    Merged(TunnelId),
    /// A tunnel uses another path now. `relayed`: whether that path leads through a TRS.
    PathSwitched { tunnel: TunnelId, relayed: bool },
    /// No path of a tunnel is known to work: it needs a Route Direction of this kind.
    PathWanted(TunnelId, Want),
    /// A path of a tunnel works again, after [`Self::PathWanted`].
    PathWorks(TunnelId),
    /// A packet came out of a tunnel.
    Packet(TunnelId, Bytes),
}

impl CarriageOutput {
    /// `slow`: the peer, or this node, answers late.
    pub(super) fn to_peer(transmit: Transmit, slow: bool) -> Self {
        if slow { Self::ToSlowPeer(transmit) } else { Self::Pass(Output::Transmit(transmit)) }
    }

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
    /// The packet is too long for the path. The number is the largest inner packet that it takes, bytes.
    TooBig(usize),
}
