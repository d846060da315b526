//! The interface of every role, and how to drive it.
//!
//! A [`Machine`] is pure: inputs and time go in, outputs come out. Two programs drive it: the simulator's host, and the
//! loop of the real daemons. Both repeat two steps:
//!
//! 1. call [`turn`] with all inputs that have arrived,
//! 2. sleep until an input arrives, or until the timer that [`turn`] returned is due.
//!
//! # The order of a turn
//!
//! | step | why in this place |
//! |---|---|
//! | 1. inputs from the network, in order of arrival; commands | |
//! | 2. [`Machine::deliver`]: packets go to applications | the acknowledgement can share a datagram with an answer |
//! | 3. packets from applications | |
//! | 4. [`Machine::finish`]: the role answers all of it | so many inputs are answered by few datagrams |
//! | 5. the timer, if it is still due, and [`Machine::finish`] again | last: nothing that has arrived counts as lost |
//!
//! Outputs are carried out after steps 2, 4 and 5. The order is the same under both drivers, so the soak tests the
//! order in which the daemons run.
//!
//! Input from the network cannot fail: invalid bytes become a [`crate::event::Event::Dropped`] with a named reason.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::event::Event;
use crate::name::Fqdn;
use crate::rules::Rules;
use crate::time::Instant;
use crate::timing::Due;
use crate::tls::{Identity, Roots};

/// A protocol role as a pure state machine.
pub trait Machine {
    /// The commands of its user.
    type Command;

    /// Handles one input of a turn. [`Self::finish`] has to follow the last one. `now` never goes backwards.
    fn feed(&mut self, now: Instant, input: Input<Self::Command>);

    /// Makes the packets for applications of all inputs so far available at [`Self::poll_output`], before anything is
    /// acknowledged. [`Self::finish`] does so, too.
    fn deliver(&mut self, _now: Instant) {}

    /// Answers the inputs of the turn. After it, [`Self::poll_output`] gives all outputs.
    fn finish(&mut self, _now: Instant) {}

    /// Runs a turn that has one input.
    fn handle_input(&mut self, now: Instant, input: Input<Self::Command>) {
        self.feed(now, input);
        self.finish(now);
    }

    /// The next output. After [`Output::Wait`] there is nothing more to do until the next input.
    fn poll_output(&mut self) -> Output;

    /// The timer that [`Output::Wait`] named after the last input.
    fn next_timer(&self) -> Option<Due>;

    /// The sizes of all tables that messages of other parts can fill. Without an input no table may grow.
    fn tables(&self) -> Tables;
}

/// The surroundings of a [`Machine`]: a source of the inputs of a [`turn`], and a sink for its outputs.
pub trait Surroundings<M: Machine> {
    /// The next input of this turn from the network or from a user. `None` after the last one. Commands come before
    /// datagrams and events of TCP connections.
    fn next_arrival(&mut self, machine: &M, now: Instant) -> Option<Input<M::Command>>;

    /// The next packet of this turn from an application. `None` after the last one. It is called after the applications
    /// have received the packets that arrived in this turn.
    fn next_packet(&mut self, now: Instant) -> Option<Bytes>;

    /// Carries out an output, which is never [`Output::Wait`].
    fn carry_out(&mut self, machine: &M, now: Instant, output: Output);
}

/// One turn of a role, in the order that the [module](self) states. Returns the timer that the role waits for.
pub fn turn<M: Machine>(machine: &mut M, now: Instant, around: &mut impl Surroundings<M>) -> Option<Due> {
    while let Some(input) = around.next_arrival(machine, now) {
        machine.feed(now, input);
    }
    machine.deliver(now);
    carry_out(machine, now, around);
    while let Some(packet) = around.next_packet(now) {
        machine.feed(now, Input::Packet(packet));
    }
    machine.finish(now);
    let mut wait = carry_out(machine, now, around);
    if wait.is_some_and(|due| due.at <= now) {
        machine.feed(now, Input::Timeout);
        machine.finish(now);
        wait = carry_out(machine, now, around);
    }
    wait
}

/// Carries out all outputs of a role.
fn carry_out<M: Machine>(machine: &mut M, now: Instant, around: &mut impl Surroundings<M>) -> Option<Due> {
    loop {
        match machine.poll_output() {
            Output::Wait(wait) => return wait,
            output => around.carry_out(machine, now, output),
        }
    }
}

/// The name of each table of a role, and its number of entries.
pub type Tables = Vec<(&'static str, usize)>;

/// The identifier of a TCP connection, unique within a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// An input of a [`Machine`].
#[derive(Debug)]
pub enum Input<C> {
    /// A UDP datagram came from `remote` to `local`.
    Datagram {
        /// The address of ours to which it was sent.
        local: SocketAddr,
        /// The source address, which may be spoofed.
        remote: SocketAddr,
        /// The UDP payload.
        payload: BytesMut,
    },
    /// A whole IP packet that an application sent into the virtual interface.
    Packet(Bytes),
    /// An event on a TCP connection.
    Stream(StreamId, StreamInput),
    /// The timer last given by [`Output::Wait`] is due.
    Timeout,
    /// A command of the user.
    Command(C),
}

/// An event of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamInput {
    /// A peer connected to our listening port. The driver chose the id: at least `1 << 32`, never used before.
    Accepted {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The connection that we asked for is established.
    Connected,
    /// Bytes arrived.
    Data(Vec<u8>),
    /// The driver has handed this many more of the bytes of [`StreamOutput::Write`] to TCP.
    Written(usize),
    /// The connection is gone: closed by the peer, reset, or refused.
    Closed,
    /// The connection that we asked for was not established: nothing answered, or nothing could be sent. It counts as
    /// [`Self::Closed`].
    Unanswered,
}

impl StreamInput {
    /// Whether the connection is over.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::Unanswered)
    }
}

/// A command of the operator of AS, NMS or TRS.
#[derive(Clone, Debug)]
pub enum ServiceCommand {
    /// Trust these CAs and lists of revoked certificates from now on. Sessions of certificates that are not valid under
    /// them end.
    Trust(Roots),
    /// Use this certificate from now on. Sessions go on. If it is for the same name and key, their peers are told.
    Identity(Box<Identity>),
    /// The access of these names ends now: their certificates were revoked, or their devices removed.
    Revoked(Vec<Fqdn>),
    /// Use these access rules from now on, at the NMS. Tunnels that they do not allow end.
    Rules(Rules),
    /// Shut down gracefully: tell every connected peer, so that none has to wait for its idle timeout.
    Stop,
}

/// An output of a [`Machine`]. Each packet moves through this type, so what is larger than a packet's handle is boxed.
#[derive(Debug)]
pub enum Output {
    /// Send a UDP datagram.
    Transmit(Box<Transmit>),
    /// Hand whole IP packets to the virtual interface, in this order.
    Packets(Vec<Bytes>),
    /// Act on a TCP connection.
    Stream(StreamId, StreamOutput),
    /// An event for a user, a log or a test.
    Event(Box<Event>),
    /// No more output now. The next call has an input, or [`Input::Timeout`] when this timer is due.
    Wait(Option<Due>),
}

impl From<Transmit> for Output {
    fn from(transmit: Transmit) -> Self {
        Self::Transmit(Box::new(transmit))
    }
}

impl From<Box<Transmit>> for Output {
    fn from(transmit: Box<Transmit>) -> Self {
        Self::Transmit(transmit)
    }
}

impl From<Bytes> for Output {
    fn from(packet: Bytes) -> Self {
        Self::Packets(vec![packet])
    }
}

impl From<Event> for Output {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

/// A UDP datagram to send, or several for one destination, if the driver can send them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Our address and port.
    pub local: SocketAddr,
    /// The destination; of the same family as `local`.
    pub remote: SocketAddr,
    /// The UDP payload. If there are several, they follow each other without a gap.
    pub payload: Vec<u8>,
    /// The length of each payload if there are several, bytes. The last one may be shorter.
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

/// An action on a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOutput {
    /// Open a connection to `remote`. The role chose the id: below `1 << 32`, never used before.
    Connect {
        /// The destination.
        remote: SocketAddr,
    },
    /// Send these bytes.
    Write(Vec<u8>),
    /// Close gracefully, after all bytes are written.
    Close,
}
