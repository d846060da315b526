//! The loop that drives a role on real sockets: what [`cyphonic_core::machine`] asks of a driver.
//!
//! ```text
//!   UDP sockets ─┐                                        ┌─▶ UDP sockets (one batch a turn)
//!   TUN device ──┤                                        ├─▶ TUN device  (one batch a turn)
//!   TCP streams ─┼─▶ Input ─▶ the role: a Machine ─▶ Output ─┼─▶ TCP streams
//!   timer ───────┤                                        ├─▶ events: the role's [`Shell`]
//!   requests ────┘                                        └─▶ Wait: the timer
//! ```
//!
//! One task owns the machine and everything that data passes through; there is no channel and no other task on that
//! way. A turn takes at most one batch from each source, feeds it all, lets the role settle once, and sends all that came of
//! it: no source starves another, and what a turn costs is shared by all that it carries. If a socket is full the loop waits for it, and so stops reading the TUN device: back-pressure, not
//! loss.

mod clock;
mod join;
mod streams;
mod tun;
mod udp;

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use cyphonic_core::event::Event;
use cyphonic_core::machine::{Input, Machine, Output};
use cyphonic_core::time::Instant;
use tokio::sync::mpsc;
use tokio::time::Sleep;

pub use clock::{Clock, Wall};
pub use streams::Streams;
pub use tun::Tun;
pub use udp::{PortUse, Udp, refused};

use crate::error::Failure;

/// What surrounds a role: it hears its events and may speak to it.
pub trait Shell {
    /// The role.
    type Machine: Machine;
    /// What other tasks ask for.
    type Request: Send;

    /// Something passes between the role and the network, or the role and the virtual interface.
    fn sees(&mut self, _passing: &Passing<'_>) {}

    /// The role reports something.
    fn event(&mut self, machine: &Self::Machine, now: Instant, event: Event);

    /// A packet for the virtual interface; true if it was for the shell itself.
    fn takes(&mut self, _now: Instant, _packet: &Bytes) -> bool {
        false
    }

    /// Another task asks for something; inputs that follow from it are pushed to `inputs`.
    fn request(
        &mut self,
        machine: &mut Self::Machine,
        now: Instant,
        request: Self::Request,
        inputs: &mut Vec<Input<<Self::Machine as Machine>::Command>>,
    );

    /// A packet that the shell itself sends as if an application had; asked after every turn.
    fn follow_up(&mut self, _machine: &Self::Machine) -> Option<Bytes> {
        None
    }

    /// What has to be done after a turn that reported something, outside the machine.
    fn after(&mut self) -> impl Future<Output = Result<(), Failure>> {
        async { Ok(()) }
    }
}

/// What passes through the loop.
pub enum Passing<'a> {
    /// A datagram that came in.
    Received {
        /// To where.
        local: SocketAddr,
        /// From where.
        remote: SocketAddr,
        /// The UDP payload.
        payload: &'a [u8],
    },
    /// A datagram that goes out.
    Sent {
        /// From where.
        local: SocketAddr,
        /// To where.
        remote: SocketAddr,
        /// The UDP payload.
        payload: &'a [u8],
    },
    /// An application's packet.
    FromTun(&'a [u8]),
    /// A packet for applications.
    ToTun(&'a [u8]),
}

/// A role, its sockets and its shell.
pub struct Driver<S: Shell> {
    machine: S::Machine,
    shell: S,
    clock: Clock,
    udp: Udp,
    streams: Streams,
    tun: Option<Tun>,
    requests: mpsc::Receiver<S::Request>,
    wait: Option<Instant>,
    reported: bool,
}

impl<S: Shell> Driver<S> {
    /// Puts together what [`Self::run`] runs.
    pub fn new(
        machine: S::Machine,
        shell: S,
        clock: Clock,
        udp: Udp,
        streams: Streams,
        tun: Option<Tun>,
        requests: mpsc::Receiver<S::Request>,
    ) -> Self {
        Self { machine, shell, clock, udp, streams, tun, requests, wait: None, reported: false }
    }

    /// Gives the role a command, before or between runs.
    pub fn command(&mut self, command: <S::Machine as Machine>::Command) {
        self.feed(Input::Command(command));
    }

    /// The shell.
    pub fn shell_mut(&mut self) -> &mut S {
        &mut self.shell
    }

    /// Runs until `stop` is ready, or something happens without which nothing works.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(stop);
        let mut timer = Box::pin(tokio::time::sleep_until(self.clock.to_tokio(Instant::ZERO)));
        loop {
            self.flush().await?;
            let wake = self.wake(&mut timer, stop.as_mut()).await;
            match wake {
                Wake::Stop => return Ok(()),
                Wake::Stream(id, input) => {
                    if let Some(input) = self.streams.admit(id, input) {
                        self.feed(Input::Stream(id, input));
                    }
                }
                Wake::Request(request) => self.request(request),
                Wake::Ready => {}
            }
            self.turn()?;
            while let Some(packet) = self.shell.follow_up(&self.machine) {
                self.feed(Input::Packet(packet));
            }
        }
    }

    /// Gives a last command and sends what comes of it.
    pub async fn finish(&mut self, command: <S::Machine as Machine>::Command) {
        self.feed(Input::Command(command));
        self.udp.flush().await;
    }

    async fn wake(
        &mut self,
        timer: &mut Pin<Box<Sleep>>,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Wake<S::Request> {
        if let Some(at) = self.wait {
            let at = self.clock.to_tokio(at);
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
        }
        let waits = self.wait.is_some();
        let (udp, tun) = (&self.udp, &self.tun);
        let tun_ready = async {
            match tun {
                Some(tun) => tun.readable().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop => Wake::Stop,
            () = timer, if waits => Wake::Ready,
            (id, input) = self.streams.next() => Wake::Stream(id, input),
            Some(request) = self.requests.recv() => Wake::Request(request),
            () = udp.readable() => Wake::Ready,
            () = tun_ready => Wake::Ready,
        }
    }

    /// Takes what is due and what is there, a batch from each source, and lets the role answer all of it at once.
    fn turn(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        if self.wait.is_some_and(|at| at <= now) {
            self.machine.feed(now, Input::Timeout);
        }
        for socket in 0..self.udp.sockets() {
            self.udp.receive(socket);
            while let Some((local, remote, payload)) = self.udp.next() {
                self.take(now, Input::Datagram { local, remote, payload });
            }
        }
        if let Some(tun) = &mut self.tun {
            tun.receive()?;
            while let Some(packet) = self.tun.as_mut().and_then(Tun::next) {
                self.take(now, Input::Packet(packet));
            }
        }
        self.settle(now);
        Ok(())
    }

    fn request(&mut self, request: S::Request) {
        let mut inputs = Vec::new();
        let now = self.clock.now();
        self.shell.request(&mut self.machine, now, request, &mut inputs);
        for input in inputs {
            self.feed(input);
        }
    }

    fn feed(&mut self, input: Input<<S::Machine as Machine>::Command>) {
        let now = self.clock.now();
        self.take(now, input);
        self.settle(now);
    }

    /// Gives the role one of the inputs of a turn.
    fn take(&mut self, now: Instant, input: Input<<S::Machine as Machine>::Command>) {
        match &input {
            Input::Datagram { local, remote, payload } => {
                self.shell.sees(&Passing::Received { local: *local, remote: *remote, payload });
            }
            Input::Packet(packet) => self.shell.sees(&Passing::FromTun(packet)),
            _ => {}
        }
        self.machine.feed(now, input);
    }

    /// Takes all that the role has to say.
    fn settle(&mut self, now: Instant) {
        self.machine.settle(now);
        loop {
            match self.machine.poll_output() {
                Output::Transmit(transmit) => {
                    let (local, remote) = (transmit.local, transmit.remote);
                    for payload in transmit.datagrams() {
                        self.shell.sees(&Passing::Sent { local, remote, payload });
                    }
                    self.udp.push(transmit);
                }
                Output::Packet(packet) => {
                    self.shell.sees(&Passing::ToTun(&packet));
                    if !self.shell.takes(now, &packet)
                        && let Some(tun) = &mut self.tun
                    {
                        tun.push(packet);
                    }
                }
                Output::Stream(id, output) => self.streams.apply(id, output),
                Output::Event(event) => {
                    self.reported = true;
                    self.shell.event(&self.machine, now, event);
                }
                Output::Wait(until) => {
                    self.wait = until;
                    return;
                }
            }
        }
    }

    /// Sends all that the last turn made.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.udp.flush().await;
        if let Some(tun) = &mut self.tun {
            tun.flush().await;
        }
        if std::mem::take(&mut self.reported) {
            self.shell.after().await?;
        }
        Ok(())
    }
}

enum Wake<R> {
    Stop,
    Ready,
    Stream(cyphonic_core::machine::StreamId, cyphonic_core::machine::StreamInput),
    Request(R),
}
