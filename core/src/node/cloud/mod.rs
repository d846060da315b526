//! Logging in to the AS and registering with the NMS (paper Figs. 2 and 6), with retries until both succeed.
//!
//! ```text
//! Idle ──start──▶ LoggingIn ──Login Response──▶ Opening ──session──▶ Registering ──Registration Response──▶ Registered
//!                     ▲                           ▲                                                            │
//!                     │ no login                  │ a login                                                    │
//!                     └──────────── Pausing ──────┴◀───────────── any of these failed ────────────────────────┘
//! ```
//!
//! * **An attempt that has timed out stays open** beside the next one, and the answer that comes first counts. An
//!   accepted login and an opened session count at any time. A Registration Response counts until another request is
//!   sent.
//! * **A login is used until a service refuses it.** Silence of a service says nothing about the login. After two
//!   failures in a row the node logs in to the AS while it also tries the NMS: the login may be void, and no service
//!   told the node so. A node that the NMS answered with `NotRegistered` asks the AS first, because it may have lost
//!   its access.
//! * **Time limits grow** with the number of failures in a row, and with the measured round trip.
//! * **Another path** (address family or interface) is tried beside the first path if no answer comes for a second, or
//!   for two round trips if that is longer.
//!
//! * **Another machine with the node's name and key** may be registered in its place. A node that was told so takes its
//!   place back only when that machine is gone. Its requests say so ([`Flags::YIELDS`](crate::header::Flags::YIELDS)).
//!
//! [`Cloud`] is a [`Part`]: it knows neither the carriage, which sends its messages, nor the routes, which wait for the
//! registration.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::part::{Part, Turn};
use crate::epoch::Epochs;
use crate::event::{Event, Failure};
use crate::message::{ErrorCode, LoginResponse, Message, RegistrationRequest, RegistrationResponse, SurveyPlan};
use crate::name::{Party, Virtual};
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    CLOUD_FIRST_PAUSE, CLOUD_FIRST_STEP_TIMEOUT, CLOUD_LONGEST_PAUSE, CLOUD_LONGEST_STEP, CLOUD_OTHER_PATH,
    CLOUD_RETRY, CLOUD_STEP_TIMEOUT, NMS_KEEP_ALIVE, NMS_KEEP_ALIVE_TRIES, REGISTRATION_STABLE, YIELDED_TRIES,
};
use crate::timing::{Due, Timer};
use crate::tls::WallClock;

/// An input of [`Cloud`].
pub(super) enum CloudInput {
    /// The user wants the node to be registered.
    Start,
    /// The user wants the node to shut down.
    Stop,
    /// The node has these addresses now, and the carriage has forgotten its sessions.
    Moved(Vec<IpAddr>),
    /// The node has these addresses now, and its session with the NMS moves to them. [`CloudInput::NmsReady`] follows
    /// when the NMS has validated the new address.
    MovedAlong(Vec<IpAddr>),
    /// The node has another certificate. `again`: the node has to log in with it, even if it is registered now.
    Renewed { again: bool },
    /// The AS accepted the login.
    LoggedIn(LoginResponse),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// The login failed.
    LoginFailed(Failure),
    /// The session with the NMS is lost, or was not opened.
    Failed(Failure),
    /// The NMS sent a message that [`Cloud::expects`].
    Message { transaction: u32, message: Message },
    /// The NMS does not answer a request of another part: find out whether the NMS still knows this node.
    Doubt,
    /// Time has passed.
    Timeout,
}

/// An output of [`Cloud`].
pub(super) enum CloudOutput {
    /// Log in to the AS. `attempt`, modulo the number of the AS's addresses, chooses the address.
    Login { attempt: usize },
    /// Open a session with the NMS that this login names.
    OpenNms(LoginResponse),
    /// Try the other address family first from now on.
    ChangeFamily,
    /// Send a message to the NMS; `count` is the number of its earlier transmissions.
    Send { transaction: u32, count: u8, message: Message },
    /// The node is registered under these virtual addresses.
    Registered { addresses: Virtual, survey: Option<SurveyPlan> },
    /// The node is not registered any more.
    Unregistered,
    /// Another machine with the node's name and key is registered in its place: end all tunnels. Their peers then find
    /// that machine.
    Displaced,
    /// The NMS acknowledged a message with this transaction. Another part may have sent that message.
    Acknowledged(u32),
    /// An event for the driver.
    Event(Event),
}

/// How often at most one attempt to register is repeated with an epoch that the NMS stated. Once is enough, unless
/// another registration of the same name comes between.
const EPOCH_TRIES: u8 = 2;

/// See the [module](self).
pub(super) struct Cloud {
    addresses: Vec<IpAddr>,
    port: u16,
    /// Whether the transport retransmits messages to the NMS, so that this part need not.
    reliable: bool,
    state: State,
    /// The last login, until a service refuses it.
    login: Option<LoginResponse>,
    /// The NMS has answered "not registered": the node asks the AS before it uses the login again.
    put_out: bool,
    /// Another machine with the node's name and key was registered in its place: the node takes its place back only
    /// when that machine is gone. Then the number of attempts in a row that nobody answered.
    yields: Option<u8>,
    /// The transaction of the last Registration Request, until that request is answered.
    asked: Option<u32>,
    /// When the step under way began. A second try of the step by another path does not change it.
    step_began: Instant,
    /// When another path is tried, if no answer has come on the present one by then.
    other_path: Option<Instant>,
    /// The last round trip to a service. Where retransmissions make it ambiguous, an upper limit of it.
    round_trip: Duration,
    /// Whether the user wants the node to be registered.
    started: bool,
    /// Failures in a row.
    failures: u32,
    /// The service that the last failure was with.
    trouble: Option<Party>,
    /// When the last registration succeeded.
    registered_at: Instant,
    /// When the last Keep Alive was sent for the first time.
    asked_at: Instant,
    rtt: Option<Duration>,
    epochs: Epochs,
    /// How often the NMS has stated another epoch in this attempt.
    told: u8,
}

#[derive(Debug)]
enum State {
    /// Not started, or without an address.
    Idle,
    LoggingIn {
        until: Instant,
    },
    /// The session with the NMS is being opened.
    Opening {
        until: Instant,
    },
    Registering {
        transaction: u32,
        /// The request is retransmitted unchanged, with its epoch, because the NMS must see one request.
        request: Message,
        retry: Backoff,
        until: Instant,
    },
    Registered {
        /// When to send the next Keep Alive. `None` on a reliable carriage: QUIC has its own keep-alive.
        keep_alive: Option<Instant>,
        /// The Keep Alive that waits for its Ack.
        waiting: Option<(u32, Backoff)>,
    },
    Pausing {
        until: Instant,
    },
}

impl Part for Cloud {
    type Input = CloudInput;
    type Output = CloudOutput;

    fn handle(&mut self, turn: &mut Turn<'_, CloudOutput>, input: CloudInput) {
        let was_registered = self.is_registered();
        match input {
            CloudInput::Start => {
                self.started = true;
                if matches!(self.state, State::Idle) {
                    self.connect(turn);
                }
            }
            CloudInput::Stop => {
                (self.started, self.state, self.login) = (false, State::Idle, None);
                (self.asked, self.put_out, self.yields) = (None, false, None);
            }
            CloudInput::Moved(addresses) => {
                self.addresses = addresses;
                if self.started && !defect!(MoveForgotten) {
                    (self.failures, self.asked, self.round_trip) = (0, None, Duration::ZERO);
                    self.connect(turn);
                }
            }
            CloudInput::MovedAlong(addresses) => {
                self.addresses = addresses;
                if self.started && self.login.is_some() {
                    (self.failures, self.told, self.asked) = (0, 0, None);
                    self.begin_step(turn.now);
                    self.state = State::Opening { until: self.step_until(turn.now) };
                }
            }
            CloudInput::Renewed { again } => {
                // An attempt that failed with the old certificate may succeed with the new one.
                let failed = matches!(self.state, State::Pausing { .. });
                if failed || again && !matches!(self.state, State::Idle) {
                    (self.failures, self.login) = (0, None);
                    self.connect(turn);
                }
            }
            CloudInput::LoggedIn(response) => self.on_logged_in(turn, response),
            CloudInput::NmsReady => {
                if self.started && self.login.is_some() && !matches!(self.state, State::Idle | State::LoggingIn { .. })
                {
                    self.round_trip = turn.now.saturating_since(self.step_began);
                    self.send_registration(turn);
                }
            }
            // A login may run beside an attempt at the NMS. If the AS does not answer, the attempt at the NMS goes on.
            CloudInput::LoginFailed(reason) => {
                if matches!(self.state, State::LoggingIn { .. }) || is_verdict(&reason) {
                    self.on_failed(turn, Party::As, reason);
                }
            }
            CloudInput::Failed(reason) => self.on_failed(turn, Party::Nms, reason),
            CloudInput::Message { transaction, message } => self.on_message(turn, transaction, message),
            CloudInput::Doubt => {
                if let State::Registered { keep_alive: Some(at), waiting: None } = &mut self.state {
                    *at = (*at).min(turn.now);
                }
            }
            CloudInput::Timeout => self.on_timeout(turn),
        }
        if was_registered && !self.is_registered() {
            turn.push(CloudOutput::Unregistered);
        }
    }

    fn next_timer(&self) -> Option<Due> {
        let soonest = |until: Due| Some(self.other_path.map_or(until, |at| Timer::OtherPath.at(at).min(until)));
        match &self.state {
            State::Idle => None,
            State::LoggingIn { until } => soonest(Timer::Login.at(*until)),
            State::Opening { until } => soonest(Timer::Registration.at(*until)),
            State::Pausing { until } => Some(Timer::CloudPause.at(*until)),
            State::Registering { retry, until, .. } => {
                soonest(Timer::RegistrationRetry.at(retry.next).min(Timer::Registration.at(*until)))
            }
            State::Registered { waiting: Some((_, retry)), .. } => Some(Timer::NmsKeepAliveRetry.at(retry.next)),
            State::Registered { keep_alive, waiting: None } => keep_alive.map(|at| Timer::NmsKeepAlive.at(at)),
        }
    }
}

impl Cloud {
    /// A part that is not started. The node listens on `port` of each of `addresses`. `reliable`: the transport
    /// retransmits messages to the NMS.
    pub(super) fn new(addresses: Vec<IpAddr>, port: u16, reliable: bool, clock: Arc<dyn WallClock>) -> Self {
        Self {
            addresses,
            port,
            reliable,
            state: State::Idle,
            login: None,
            put_out: false,
            yields: None,
            asked: None,
            step_began: Instant::ZERO,
            other_path: None,
            round_trip: Duration::ZERO,
            started: false,
            failures: 0,
            trouble: None,
            registered_at: Instant::ZERO,
            asked_at: Instant::ZERO,
            rtt: None,
            epochs: Epochs::new(clock),
            told: 0,
        }
    }

    /// The NMS's addresses, from the last login. Empty before the first login.
    pub(super) fn nms(&self) -> &[SocketAddr] {
        self.login.as_ref().map_or(&[], |login| &login.nms)
    }

    /// Whether the node is registered.
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// Whether the node was told that another machine with its name and key is registered, and has not been registered
    /// since.
    pub(super) fn yields(&self) -> bool {
        self.yields.is_some()
    }

    /// The round trip of the last Keep Alive to the NMS that was answered without a retransmission.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The service that the last failure was with: AS or NMS.
    pub(super) fn trouble(&self) -> Option<&Party> {
        self.trouble.as_ref()
    }

    /// Whether a message from the NMS is for this part. An error may also answer a request of another part.
    pub(super) fn expects(&self, transaction: u32, message: &Message) -> bool {
        match (&self.state, message) {
            (State::Registering { transaction: ours, .. }, Message::RegistrationResponse(_) | Message::Error(_)) => {
                *ours == transaction
            }
            (
                State::Registered { .. },
                Message::KeepAliveAck | Message::Error(ErrorCode::NotRegistered | ErrorCode::OtherMachine(_)),
            ) => true,
            // A late answer: the request has timed out, but no other request was sent.
            (
                State::LoggingIn { .. } | State::Opening { .. } | State::Pausing { .. },
                Message::RegistrationResponse(_),
            ) => self.asked == Some(transaction),
            _ => false,
        }
    }

    /// The last round trip to a service, or an upper limit of it. `None` before the first one.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        Some(self.round_trip).filter(|round_trip| !round_trip.is_zero())
    }

    /// The time limit of a step that begins now. That of the first attempt is shorter, because another path may answer.
    fn step_until(&self, now: Instant) -> Instant {
        let doubled = |failures: u32| CLOUD_STEP_TIMEOUT * 2u32.saturating_pow(failures.min(8));
        let limit = match self.failures.checked_sub(1) {
            None => CLOUD_FIRST_STEP_TIMEOUT,
            // The NMS answered before, so a node that yields soon asks again.
            Some(_) if self.yields() => CLOUD_STEP_TIMEOUT,
            Some(earlier) => doubled(earlier),
        };
        now + limit.min(CLOUD_LONGEST_STEP).max(4 * self.round_trip)
    }

    fn begin_step(&mut self, now: Instant) {
        self.step_began = now;
        // With QUIC a second try helps even without another path, because a new handshake starts with short
        // retransmission timeouts again.
        let is_of_use = self.reliable || self.addresses.len() > 1;
        self.other_path = is_of_use.then(|| now + CLOUD_OTHER_PATH.max(2 * self.round_trip));
    }

    /// Opens a session with the NMS if there is a login. Otherwise logs in.
    fn connect(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        if self.addresses.is_empty() {
            // Nothing can be done without an address. `CloudInput::Moved` brings the next one.
            self.state = State::Idle;
            return;
        }
        self.told = 0;
        let until = self.step_until(turn.now);
        self.begin_step(turn.now);
        let asks_as_first = std::mem::take(&mut self.put_out);
        if let Some(login) = self.login.as_ref().filter(|_| !asks_as_first) {
            self.state = State::Opening { until };
            turn.push(CloudOutput::OpenNms(login.clone()));
            // A login may end the registration of the machine for which this one waits.
            if self.yields.map_or(self.failures >= 2, |unanswered| unanswered >= YIELDED_TRIES) {
                turn.push(CloudOutput::Login { attempt: self.failures as usize });
            }
        } else {
            self.state = State::LoggingIn { until };
            turn.push(CloudOutput::Login { attempt: self.failures as usize });
        }
    }

    /// Repeats the present step by another path. The attempt by the first path stays open.
    fn try_other_path(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        self.other_path = None;
        match (&self.state, &self.login) {
            (State::LoggingIn { .. }, _) => {
                turn.push(CloudOutput::ChangeFamily);
                turn.push(CloudOutput::Login { attempt: self.failures as usize });
            }
            // The conventional method sends every second retransmission by another path anyway.
            (State::Opening { .. } | State::Registering { .. }, Some(login)) if self.reliable => {
                turn.push(CloudOutput::ChangeFamily);
                turn.push(CloudOutput::OpenNms(login.clone()));
            }
            _ => {}
        }
    }

    /// The AS accepted a login, perhaps one of an earlier attempt. A new common key replaces the previous one.
    fn on_logged_in(&mut self, turn: &mut Turn<'_, CloudOutput>, response: LoginResponse) {
        if !self.started || matches!(self.state, State::Idle) {
            return;
        }
        let waits = matches!(self.state, State::LoggingIn { .. } | State::Pausing { .. });
        if waits {
            // A login takes two round trips, or more.
            self.round_trip = turn.now.saturating_since(self.step_began) / 2;
        }
        let differs = self.login.as_ref() != Some(&response);
        self.login = Some(response);
        if waits || differs {
            self.asked = None;
            self.connect_logged_in(turn);
        }
    }

    /// Opens a session with the NMS by the login that was just accepted.
    fn connect_logged_in(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        let Some(login) = &self.login else { return };
        turn.push(CloudOutput::OpenNms(login.clone()));
        self.told = 0;
        self.put_out = false;
        self.state = State::Opening { until: self.step_until(turn.now) };
        self.begin_step(turn.now);
    }

    fn on_failed(&mut self, turn: &mut Turn<'_, CloudOutput>, party: Party, reason: Failure) {
        if matches!(self.state, State::Idle) {
            return;
        }
        if reason.is_displacement() {
            return self.on_displaced(turn, party, reason);
        }
        if let Some(unanswered) = &mut self.yields {
            *unanswered = if is_verdict(&reason) { 0 } else { unanswered.saturating_add(1) };
        }
        if is_verdict(&reason) {
            // A node that is not registered may still have a valid login.
            self.put_out = reason == Failure::Refused(ErrorCode::NotRegistered);
            self.login.take_if(|_| !self.put_out);
            self.asked = None;
        }
        if matches!(self.state, State::Pausing { .. }) {
            return;
        }
        let now = turn.now;
        self.trouble = Some(party);
        self.other_path = None;
        if !self.is_registered() && !is_verdict(&reason) {
            turn.push(CloudOutput::ChangeFamily);
        }
        // A registration that is lost at once counts as a failure. Otherwise two machines of an older version with one
        // identity, of which each ends the other's registration, would never pause.
        let was_stable = self.is_registered() && now >= self.registered_at + REGISTRATION_STABLE;
        // The other machine has gone: this one takes its place at once.
        let is_free = self.yields() && self.put_out;
        self.failures = match self.yields {
            _ if was_stable || is_free => 0,
            Some(unanswered @ 1..) => unanswered.into(),
            Some(0) | None => self.failures + 1,
        };
        let pause = if was_stable { Duration::ZERO } else { self.pause(turn) };
        turn.push(CloudOutput::Event(Event::Unregistered { reason }));
        if pause.is_zero() {
            self.connect(turn);
        } else {
            self.state = State::Pausing { until: now + pause };
        }
    }

    /// Another machine with the node's name and key is registered. The first pause is short, because only the answer to
    /// the next request says where that machine is.
    fn on_displaced(&mut self, turn: &mut Turn<'_, CloudOutput>, party: Party, reason: Failure) {
        let is_first = self.yields.replace(0).is_none();
        if matches!(self.state, State::Pausing { .. }) && !is_first {
            return;
        }
        self.failures = if is_first { 0 } else { self.failures + 1 };
        self.trouble = Some(party);
        (self.asked, self.other_path, self.put_out) = (None, None, false);
        if is_first {
            turn.push(CloudOutput::Displaced);
        }
        let pause = self.pause(turn);
        turn.push(CloudOutput::Event(Event::Unregistered { reason }));
        self.state = State::Pausing { until: turn.now + pause };
    }

    /// The pause after a failure. It is drawn from the upper half of a limit that doubles with each failure, so that
    /// the nodes of a service that failed do not all return at once.
    fn pause(&self, turn: &mut Turn<'_, CloudOutput>) -> Duration {
        let doubled = CLOUD_FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(8));
        let limit = doubled.min(CLOUD_LONGEST_PAUSE);
        limit / 2 + limit.mul_f64(f64::from(turn.random.u32()) / f64::from(u32::MAX)) / 2
    }

    fn send_registration(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        let now = turn.now;
        let transaction = turn.random.u32();
        let (addresses, port) = (self.addresses.clone(), self.port);
        let request =
            Message::RegistrationRequest(RegistrationRequest { epoch: self.epochs.next(now), addresses, port });
        turn.push(CloudOutput::Send { transaction, count: 0, message: request.clone() });
        let (retry, until) = (Backoff::start(now, CLOUD_RETRY), self.step_until(now));
        self.asked = Some(transaction);
        self.begin_step(now);
        self.state = State::Registering { transaction, request, retry, until };
    }

    fn on_message(&mut self, turn: &mut Turn<'_, CloudOutput>, transaction: u32, message: Message) {
        if !self.expects(transaction, &message) {
            return;
        }
        match message {
            Message::RegistrationResponse(response) => self.on_registered(turn, response),
            Message::Error(ErrorCode::StaleEpoch(least)) if self.told < EPOCH_TRIES => self.on_told(turn, least),
            Message::Error(code) => self.on_failed(turn, Party::Nms, Failure::Refused(code)),
            Message::KeepAliveAck => self.on_ack(turn, transaction),
            _ => {}
        }
    }

    /// The NMS refused the epoch and stated the least that it accepts: register again with that one, at once.
    fn on_told(&mut self, turn: &mut Turn<'_, CloudOutput>, least: u64) {
        let State::Registering { until, .. } = self.state else { return };
        self.told += 1;
        self.epochs.told(turn.now, least);
        self.state = State::Opening { until };
        self.send_registration(turn);
    }

    fn on_registered(&mut self, turn: &mut Turn<'_, CloudOutput>, response: RegistrationResponse) {
        let keep_alive = (!self.reliable).then(|| turn.now + NMS_KEEP_ALIVE);
        self.state = State::Registered { keep_alive, waiting: None };
        self.registered_at = turn.now;
        self.round_trip = turn.now.saturating_since(self.step_began);
        (self.asked, self.other_path, self.put_out, self.yields) = (None, None, false, None);
        let RegistrationResponse { addresses, nat, survey, .. } = response;
        turn.push(CloudOutput::Event(Event::Registered { addresses, nat }));
        turn.push(CloudOutput::Registered { addresses, survey });
    }

    fn on_ack(&mut self, turn: &mut Turn<'_, CloudOutput>, transaction: u32) {
        let State::Registered { waiting, keep_alive } = &mut self.state else { return };
        turn.push(CloudOutput::Acknowledged(transaction));
        if let Some((_, retry)) = waiting.take_if(|(ours, _)| *ours == transaction) {
            // After a retransmission it is unknown which transmission was answered (RFC 6298 §3). The time since the
            // first one is an upper limit of the round trip then.
            self.round_trip = turn.now.saturating_since(self.asked_at);
            if retry.sent == 1 {
                self.rtt = Some(self.round_trip);
            }
            *keep_alive = Some(turn.now + NMS_KEEP_ALIVE);
        }
    }

    fn on_timeout(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        let now = turn.now;
        if self.other_path.is_some_and(|at| at <= now) {
            self.try_other_path(turn);
        }
        match &mut self.state {
            State::Pausing { until } => {
                if *until <= now {
                    self.connect(turn);
                }
            }
            State::LoggingIn { until } if *until <= now => self.on_failed(turn, Party::As, Failure::Timeout),
            State::Opening { until } | State::Registering { until, .. } if *until <= now => {
                self.on_failed(turn, Party::Nms, Failure::Timeout);
            }
            State::Idle | State::LoggingIn { .. } | State::Opening { .. } => {}
            State::Registering { transaction, request, retry, .. } => {
                if retry.next <= now {
                    let (transaction, count, message) = (*transaction, retry.sent, request.clone());
                    retry.again(now);
                    if !self.reliable {
                        turn.push(CloudOutput::Send { transaction, count, message });
                    }
                }
            }
            State::Registered { .. } => self.keep_alive(turn),
        }
    }

    fn keep_alive(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        let now = turn.now;
        let State::Registered { keep_alive, waiting } = &mut self.state else { return };
        let (transaction, count) = match waiting {
            Some((_, retry)) if retry.next > now => return,
            Some((_, retry)) if retry.sent >= NMS_KEEP_ALIVE_TRIES && now >= self.asked_at + 2 * self.round_trip => {
                return self.on_failed(turn, Party::Nms, Failure::Timeout);
            }
            Some((transaction, retry)) => {
                let count = retry.sent;
                retry.again(now);
                (*transaction, count)
            }
            None if keep_alive.is_some_and(|at| at <= now) => {
                let transaction = turn.random.u32();
                *waiting = Some((transaction, Backoff::start(now, CLOUD_RETRY)));
                self.asked_at = now;
                (transaction, 0)
            }
            None => return,
        };
        turn.push(CloudOutput::Send { transaction, count, message: Message::KeepAlive });
    }
}

/// Whether a service answered, and refused the node. Another address family would not change that.
fn is_verdict(reason: &Failure) -> bool {
    matches!(reason, Failure::Refused(_) | Failure::Authentication | Failure::CertificateDates)
}
