//! The loop that drives a role on real sockets, as [`cyphonic_core::machine`] describes a driver.
//!
//! ```text
//!   UDP sockets ─┐                                        ┌─▶ UDP sockets (one batch a turn)
//!   TUN device ──┤                                        ├─▶ TUN device  (one batch a turn)
//!   TCP streams ─┼─▶ Input ─▶ the role: a Machine ─▶ Output ─┼─▶ TCP streams
//!   timer ───────┤                                        ├─▶ events: the role's [`Shell`]
//!   requests ────┘                                        └─▶ Wait: the timer to sleep for
//! ```
//!
//! One thread owns the machine and the whole data path. There is no channel, no other thread and no asynchronous
//! runtime on that path. The thread sleeps in `poll(2)` only, until a socket or the TUN device is readable or the
//! role's timer is due. With few packets, a runtime on that path would cost more than everything else, because its code
//! leaves the processor's caches during each sleep. TCP streams and requests are asynchronous. They run on the
//! runtime's own thread and wake the loop by a `bell`.
//!
//! A [`turn`] takes at most one batch from each source. So no source starves another, and
//! all packets of a turn share its cost. If a socket's buffer is full, the loop waits for it. Meanwhile it does not
//! read the TUN device, so applications are slowed down and no packet is lost here.

mod bell;
mod clock;
mod gro;
mod streams;
mod tun;
mod udp;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::event::Event;
use cyphonic_core::machine::{Input, Machine, Output, Surroundings, turn};
use cyphonic_core::time::Instant;
use cyphonic_core::timing::Due;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use bell::Bell;
use clock::Alarm;
pub use clock::{Clock, Wall, since_epoch};
pub use streams::{Streams, listeners, reach};
pub use tun::Tun;
pub use udp::{PortUse, Udp, refused};

use crate::error::Failure;

/// The code around a role: it gets the role's events and may give it inputs.
pub trait Shell {
    /// The role.
    type Machine: Machine;
    /// The requests of other tasks.
    type Request: Send;

    /// A packet passes between the role and the network, or the role and the virtual interface.
    fn sees(&mut self, _passing: &Passing<'_>) {}

    /// The role reports something.
    fn event(&mut self, machine: &Self::Machine, now: Instant, event: Event);

    /// A packet for the virtual interface; true if it was for the shell itself.
    fn takes(&mut self, _now: Instant, _packet: &Bytes) -> bool {
        false
    }

    /// Handles a request of another task. Inputs for the role are pushed to `inputs`.
    fn request(
        &mut self,
        machine: &mut Self::Machine,
        now: Instant,
        request: Self::Request,
        inputs: &mut Vec<Input<<Self::Machine as Machine>::Command>>,
    );

    /// A packet that the shell sends in the place of an application. It is called after every turn.
    fn follow_up(&mut self, _machine: &Self::Machine) -> Option<Bytes> {
        None
    }

    /// Work outside the machine after a turn that reported an event.
    fn after(&mut self) -> impl Future<Output = Result<(), Failure>> {
        async { Ok(()) }
    }
}

/// A packet that passes through the loop.
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
    system: System<S>,
    clock: Clock,
    requests: mpsc::Receiver<S::Request>,
    wait: Option<Due>,
}

/// The surroundings of the role: its sockets and its shell.
struct System<S: Shell> {
    shell: S,
    udp: Udp,
    streams: Streams,
    tun: Option<Tun>,
    /// Inputs from the shell, from streams and from users, for the next turn.
    inputs: VecDeque<Input<<S::Machine as Machine>::Command>>,
    /// Whether the shell got an event.
    reported: bool,
    ready: Ready,
    /// Whether the TUN device was read in this turn.
    has_read_tun: bool,
    /// The failure of a turn, if there was one.
    failed: Option<Failure>,
}

impl<S: Shell> Driver<S> {
    /// A driver for this role, these sockets and this shell. [`Self::run`] starts it.
    pub fn new(
        machine: S::Machine,
        shell: S,
        clock: Clock,
        udp: Udp,
        streams: Streams,
        tun: Option<Tun>,
        requests: mpsc::Receiver<S::Request>,
    ) -> Self {
        let system = System {
            shell,
            udp,
            streams,
            tun,
            inputs: VecDeque::new(),
            reported: false,
            ready: Ready::default(),
            has_read_tun: false,
            failed: None,
        };
        Self { machine, system, clock, requests, wait: None }
    }

    /// Gives the role a command, before or between runs.
    pub fn command(&mut self, command: <S::Machine as Machine>::Command) {
        self.system.inputs.push_back(Input::Command(command));
        self.turn();
    }

    /// The shell.
    pub fn shell_mut(&mut self) -> &mut S {
        &mut self.system.shell
    }

    /// Runs until `stop` is ready, or until the TUN device, a poll or the shell fails. It blocks its thread, so the
    /// runtime must have another one.
    pub fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let stop = std::pin::pin!(stop);
        tokio::task::block_in_place(|| self.turns(stop))
    }

    fn turns(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), Failure> {
        let bell = Arc::new(Bell::new().map_err(Failure::other)?);
        let mut alarm = Alarm::new().map_err(Failure::other)?;
        let waker = Waker::from(bell.clone());
        let mut context = Context::from_waker(&waker);
        // Whether a stream or a request may be ready. It is true at first, so that each is polled once and gets the
        // waker.
        let mut called = true;
        loop {
            self.system.flush()?;
            self.sleep(&bell, &mut alarm, called).map_err(Failure::other)?;
            if self.system.ready.bell {
                bell.silence();
                called = true;
            }
            if called {
                match self.poll_called(stop.as_mut(), &mut context) {
                    Poll::Ready(Called::Stop) => return Ok(()),
                    Poll::Ready(Called::Stream(id, input)) => {
                        if let Some(input) = self.system.streams.admit(id, input) {
                            self.system.inputs.push_back(Input::Stream(id, input));
                        }
                    }
                    Poll::Ready(Called::Request(request)) => self.request(request),
                    Poll::Pending => called = false,
                }
            }
            self.turn();
            while let Some(packet) = self.system.shell.follow_up(&self.machine) {
                self.system.inputs.push_back(Input::Packet(packet));
                self.turn();
            }
            if let Some(failure) = self.system.failed.take() {
                return Err(failure);
            }
        }
    }

    /// Gives a last command and sends the outputs.
    pub fn finish(&mut self, command: <S::Machine as Machine>::Command) {
        self.command(command);
        self.system.udp.flush();
    }

    /// Waits until a source is ready or the timer is due, and notes what is ready. With `only_look` it does not wait.
    fn sleep(&mut self, bell: &Bell, alarm: &mut Alarm, only_look: bool) -> io::Result<()> {
        let left = match self.wait {
            _ if only_look => Some(Duration::ZERO),
            Some(due) => Some(due.at.saturating_since(self.clock.now())),
            None => None,
        };
        if let Some(due) = self.wait.filter(|_| !only_look) {
            alarm.set(&self.clock, due.at)?;
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let tun = self.system.tun.as_ref().map(AsFd::as_fd);
        let all = [bell.as_fd(), alarm.as_fd()].into_iter().chain(self.system.udp.handles()).chain(tun);
        let mut all: Vec<_> = all.map(|handle| PollFd::from_borrowed_fd(handle, PollFlags::IN)).collect();
        match poll(&mut all, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // A handle with an error counts as ready: the read then returns the error.
        let revents: Vec<bool> = all.iter().map(|one| !one.revents().is_empty()).collect();
        let mut ready = revents.into_iter();
        let noted = &mut self.system.ready;
        noted.bell = ready.next().unwrap_or(false);
        let is_alarmed = ready.next().unwrap_or(false);
        noted.udp.clear();
        noted.udp.extend(ready.by_ref().take(self.system.udp.sockets()));
        noted.tun = ready.next().unwrap_or(false);
        if is_alarmed {
            alarm.silence();
        }
        Ok(())
    }

    /// The next stop, stream input or request of other tasks.
    fn poll_called(
        &mut self,
        stop: Pin<&mut impl Future<Output = ()>>,
        context: &mut Context<'_>,
    ) -> Poll<Called<S::Request>> {
        if stop.poll(context).is_ready() {
            return Poll::Ready(Called::Stop);
        }
        if let Poll::Ready((id, input)) = self.system.streams.poll_next(context) {
            return Poll::Ready(Called::Stream(id, input));
        }
        match self.requests.poll_recv(context) {
            Poll::Ready(Some(request)) => Poll::Ready(Called::Request(request)),
            _ => Poll::Pending,
        }
    }

    /// Runs one turn of the role with a batch from each source.
    fn turn(&mut self) {
        let now = self.clock.now();
        self.system.has_read_tun = false;
        self.wait = turn(&mut self.machine, now, &mut self.system);
    }

    fn request(&mut self, request: S::Request) {
        let mut inputs = Vec::new();
        let now = self.clock.now();
        self.system.shell.request(&mut self.machine, now, request, &mut inputs);
        self.system.inputs.extend(inputs);
    }
}

impl<S: Shell> System<S> {
    /// The next datagram of one batch from each socket that has any.
    fn next_datagram(&mut self) -> Option<(SocketAddr, SocketAddr, BytesMut)> {
        loop {
            if let Some(datagram) = self.udp.next() {
                return Some(datagram);
            }
            // A socket that was opened after the last sleep was not polled yet. It waits for the next turn.
            let socket = self.ready.udp.iter().position(|&ready| ready)?;
            self.ready.udp[socket] = false;
            self.udp.receive(socket);
        }
    }

    /// Reads a batch from the TUN device, if there is one.
    fn read_tun(&mut self) -> Result<(), Failure> {
        let Some(tun) = &mut self.tun else { return Ok(()) };
        // The kernel often answers a packet at once. If the answer is read now, it shares a datagram with the
        // acknowledgement.
        let answers = tun.flush();
        if std::mem::take(&mut self.ready.tun) || answers {
            tun.receive()?;
        }
        Ok(())
    }

    /// Sends all outputs of the last turn.
    fn flush(&mut self) -> Result<(), Failure> {
        self.udp.flush();
        if let Some(tun) = &mut self.tun {
            tun.flush();
        }
        if std::mem::take(&mut self.reported) {
            Handle::current().block_on(self.shell.after())?;
        }
        Ok(())
    }
}

impl<S: Shell> Surroundings<S::Machine> for System<S> {
    fn next_arrival(&mut self, _: &S::Machine, _: Instant) -> Option<Input<<S::Machine as Machine>::Command>> {
        if let Some(input) = self.inputs.pop_front() {
            if let Input::Packet(packet) = &input {
                self.shell.sees(&Passing::FromTun(packet));
            }
            return Some(input);
        }
        let (local, remote, payload) = self.next_datagram()?;
        self.shell.sees(&Passing::Received { local, remote, payload: &payload });
        Some(Input::Datagram { local, remote, payload })
    }

    fn next_packet(&mut self, _: Instant) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_read_tun, true)
            && let Err(failure) = self.read_tun()
        {
            self.failed = Some(failure);
        }
        let packet = self.tun.as_mut().and_then(Tun::next)?;
        self.shell.sees(&Passing::FromTun(&packet));
        Some(packet)
    }

    fn carry_out(&mut self, machine: &S::Machine, now: Instant, output: Output) {
        match output {
            Output::Transmit(transmit) => {
                let (local, remote) = (transmit.local, transmit.remote);
                for payload in transmit.datagrams() {
                    self.shell.sees(&Passing::Sent { local, remote, payload });
                }
                self.udp.push(*transmit);
            }
            Output::Packets(packets) => {
                for packet in packets {
                    self.shell.sees(&Passing::ToTun(&packet));
                    if !self.shell.takes(now, &packet)
                        && let Some(tun) = &mut self.tun
                    {
                        tun.push(packet);
                    }
                }
            }
            Output::Stream(id, output) => self.streams.apply(id, output),
            Output::Event(event) => {
                self.reported = true;
                self.shell.event(machine, now, *event);
            }
            Output::Wait(_) => {}
        }
    }
}

/// The sources that [`Driver::sleep`] found ready.
#[derive(Default)]
struct Ready {
    bell: bool,
    /// By socket.
    udp: Vec<bool>,
    tun: bool,
}

/// A message of another task.
enum Called<R> {
    Stop,
    Stream(cyphonic_core::machine::StreamId, cyphonic_core::machine::StreamInput),
    Request(R),
}

/// Waits until the handle is writable.
fn wait_writable(handle: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(handle, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
