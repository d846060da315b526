//! The one shape every role has.
//!
//! A [`Machine`] is pure: inputs and time go in, outputs come out. Its driver (the simulator's host, or the
//! loop of the real daemon) does three things for ever:
//!
//! 1. give it one [`Input`] and the time,
//! 2. call [`Machine::poll_output`] until it answers [`Output::Wait`],
//! 3. sleep until something arrives or that instant comes, and give [`Input::Timeout`] in the latter case.
//!
//! A driver that has many inputs at once may give them all by [`Machine::feed`], and then [`Machine::settle`] once:
//! what there is to do after every input is then done once for all of them.
//!
//! Nothing that comes from the network can fail: bytes that make no sense become a
//! [`crate::event::Event::Dropped`] with a named reason.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::event::Event;
use crate::time::Instant;
use crate::timing::Due;
use crate::tls::Roots;

/// A protocol role as a pure state machine.
pub trait Machine {
    /// What its user may ask of it.
    type Command;

    /// Takes one input at `now`. `now` never goes backwards.
    fn handle_input(&mut self, now: Instant, input: Input<Self::Command>);

    /// Takes one input of several at `now`; [`Self::settle`] has to follow the last one. The same as
    /// [`Self::handle_input`] of each, but for how many datagrams it takes to say the same.
    fn feed(&mut self, now: Instant, input: Input<Self::Command>) {
        self.handle_input(now, input);
    }

    /// Gives to [`Self::poll_output`] what [`Self::feed`] has taken so far and applications wait for, before anything
    /// is answered. A driver need not call it: [`Self::settle`] does it too.
    fn deliver(&mut self, _now: Instant) {}

    /// Does what [`Self::feed`] has left: after it, [`Self::poll_output`] gives all that there is.
    fn settle(&mut self, _now: Instant) {}

    /// The next output. After [`Output::Wait`] there is nothing more to do until the next input.
    fn poll_output(&mut self) -> Output;

    /// The timer that [`Output::Wait`] names, as of the last input.
    fn next_timer(&self) -> Option<Due>;

    /// Every table whose size others have a say in, and how many entries it has now. None may grow as long as nothing
    /// but time passes.
    fn tables(&self) -> Tables;
}

/// How many entries each table of a role has, by the table's name.
pub type Tables = Vec<(&'static str, usize)>;

/// Names one TCP connection of a role; unique within the role that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What goes into a [`Machine`].
#[derive(Debug)]
pub enum Input<C> {
    /// A UDP datagram came from `remote` to `local`.
    Datagram {
        /// The address of ours it was sent to.
        local: SocketAddr,
        /// Where it claims to come from.
        remote: SocketAddr,
        /// The UDP payload.
        payload: BytesMut,
    },
    /// A whole IP packet that an application sent into the virtual interface.
    Packet(Bytes),
    /// Something happened on a TCP connection.
    Stream(StreamId, StreamInput),
    /// The timer last given by [`Output::Wait`] is due.
    Timeout,
    /// The user wants something.
    Command(C),
}

/// What can happen on a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamInput {
    /// A peer connected to our listening port. The driver chose the id: at least `1 << 32`, never used before.
    Accepted {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The connection that we asked for stands.
    Connected,
    /// Bytes arrived.
    Data(Vec<u8>),
    /// The connection is gone: closed by the peer, reset, or never established.
    Closed,
}

/// What the operator of AS, NMS or TRS may ask of it.
#[derive(Clone, Debug)]
pub enum ServiceCommand {
    /// Trust these from now on. Sessions of certificates that do not count any more end now.
    Trust(Roots),
    /// Leave: tell everybody who is connected, so that nobody has to wait for silence.
    Stop,
}

/// What comes out of a [`Machine`].
#[derive(Debug)]
pub enum Output {
    /// Send a UDP datagram.
    Transmit(Transmit),
    /// Hand a whole IP packet to the virtual interface.
    Packet(Bytes),
    /// Do something with a TCP connection.
    Stream(StreamId, StreamOutput),
    /// Something a user, a log or a test wants to know.
    Event(Event),
    /// Nothing more now. Call again on input, or with [`Input::Timeout`] when this timer is due.
    Wait(Option<Due>),
}

/// A UDP datagram to send; or several for one place, where a role was told that its driver can send them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Our address and port.
    pub local: SocketAddr,
    /// The destination; of the same family as `local`.
    pub remote: SocketAddr,
    /// The UDP payload, or several, one after another.
    pub payload: Vec<u8>,
    /// If there are several: the length of each, bytes. Only the last one may be shorter.
    pub segment: Option<usize>,
}

impl Transmit {
    /// One datagram.
    pub fn new(local: SocketAddr, remote: SocketAddr, payload: Vec<u8>) -> Self {
        Self { local, remote, payload, segment: None }
    }

    /// The payload of each datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.payload.chunks(self.segment.unwrap_or(self.payload.len()).max(1))
    }
}

/// What a role asks of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOutput {
    /// Open a connection to `remote`. The role chose the id: below `1 << 32`, never used before.
    Connect {
        /// Where to.
        remote: SocketAddr,
    },
    /// Send these bytes.
    Write(Vec<u8>),
    /// Close in order, after what was written.
    Close,
}
