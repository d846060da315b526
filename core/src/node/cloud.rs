//! Logging in to the AS and registering with the NMS (paper Figs. 2 and 6), again and again until it works.
//!
//! ```text
//! Idle ──start──▶ LoggingIn ──Login Response──▶ Opening ──session──▶ Registering ──Registration Response──▶ Registered
//!                     ▲                           ▲                                                            │
//!                     │ the login is doubtful     │ the login still holds                                      │
//!                     └──────────── Pausing ──────┴◀───────────── any of these failed ────────────────────────┘
//! ```
//!
//! [`Cloud`] is a [`Part`]: it sees neither the carriage that its messages take nor the routes that wait for it.

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
    CLOUD_FIRST_PAUSE, CLOUD_FIRST_STEP_TIMEOUT, CLOUD_LONGEST_PAUSE, CLOUD_RETRY, CLOUD_STEP_TIMEOUT, NMS_KEEP_ALIVE,
    NMS_KEEP_ALIVE_TRIES, REGISTRATION_STABLE,
};
use crate::timing::{Due, Timer};
use crate::tls::WallClock;

/// An input of [`Cloud`].
pub(super) enum CloudInput {
    /// The user wants the node to be registered.
    Start,
    /// The user wants the node to leave.
    Stop,
    /// The node has these addresses now, and the carriage has forgotten its sessions.
    Moved(Vec<IpAddr>),
    /// The same, but the session with the NMS moves along. [`CloudInput::NmsReady`] follows when the NMS has seen the
    /// new address.
    MovedAlong(Vec<IpAddr>),
    /// The node has another certificate. `again`: it has to log in by it, though it is registered.
    Renewed { again: bool },
    /// The AS accepted the login.
    LoggedIn(LoginResponse),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// The login failed, or the session with the NMS is lost.
    Failed(Failure),
    /// The NMS sent a message that [`Cloud::expects`].
    Message { transaction: u32, message: Message },
    /// The NMS does not answer a request of another part: find out whether it still knows this node.
    Doubt,
    /// Time has passed.
    Timeout,
}

/// An output of [`Cloud`].
pub(super) enum CloudOutput {
    /// Log in to the AS, by its address number `attempt` (modulo their count).
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
    /// The NMS acknowledged a message with this transaction. It may be one of another part.
    Acknowledged(u32),
    /// An event for the driver.
    Event(Event),
}

/// Most times that one attempt to register follows the NMS to another epoch. One is enough, unless another registration
/// of the same name comes between.
const EPOCH_TRIES: u8 = 2;

/// See the [module](self).
pub(super) struct Cloud {
    addresses: Vec<IpAddr>,
    port: u16,
    /// Whether messages to the NMS arrive without being sent again.
    reliable: bool,
    state: State,
    /// The last login, as long as it is not doubtful.
    login: Option<LoginResponse>,
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
    /// How often the NMS told this attempt another epoch.
    told: u8,
}

#[derive(Debug)]
enum State {
    /// Not started, or without an address to send from.
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
        /// When to send the next Keep Alive; `None` on a reliable carriage, which has its own.
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
            CloudInput::Stop => (self.started, self.state, self.login) = (false, State::Idle, None),
            CloudInput::Moved(addresses) => {
                self.addresses = addresses;
                if self.started && !defect!(MoveForgotten) {
                    self.failures = 0;
                    self.connect(turn);
                }
            }
            CloudInput::MovedAlong(addresses) => {
                self.addresses = addresses;
                if self.started && self.login.is_some() {
                    (self.failures, self.told) = (0, 0);
                    self.state = State::Opening { until: self.step_until(turn.now) };
                }
            }
            CloudInput::Renewed { again } => {
                // What failed by the certificate before may work by this one.
                let failed = matches!(self.state, State::Pausing { .. });
                if failed || again && !matches!(self.state, State::Idle) {
                    (self.failures, self.login) = (0, None);
                    self.connect(turn);
                }
            }
            CloudInput::LoggedIn(response) => {
                if matches!(self.state, State::LoggingIn { .. }) {
                    self.login = Some(response);
                    self.connect(turn);
                }
            }
            CloudInput::NmsReady => self.send_registration(turn),
            CloudInput::Failed(reason) => self.on_failed(turn, reason),
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
        match &self.state {
            State::Idle => None,
            State::LoggingIn { until } => Some(Timer::Login.at(*until)),
            State::Opening { until } => Some(Timer::Registration.at(*until)),
            State::Pausing { until } => Some(Timer::CloudPause.at(*until)),
            State::Registering { retry, until, .. } => {
                Some(Timer::RegistrationRetry.at(retry.next).min(Timer::Registration.at(*until)))
            }
            State::Registered { waiting: Some((_, retry)), .. } => Some(Timer::NmsKeepAliveRetry.at(retry.next)),
            State::Registered { keep_alive, waiting: None } => keep_alive.map(|at| Timer::NmsKeepAlive.at(at)),
        }
    }
}

impl Cloud {
    /// Not started. The node listens on `port` of each of `addresses`. `reliable`: messages to the NMS arrive without
    /// being sent again.
    pub(super) fn new(addresses: Vec<IpAddr>, port: u16, reliable: bool, clock: Arc<dyn WallClock>) -> Self {
        Self {
            addresses,
            port,
            reliable,
            state: State::Idle,
            login: None,
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

    /// The NMS's addresses, from the last login; none before it.
    pub(super) fn nms(&self) -> &[SocketAddr] {
        self.login.as_ref().map_or(&[], |login| &login.nms)
    }

    /// Whether the node is registered.
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// The round trip of the last Keep Alive to the NMS that was answered without being repeated.
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
            (State::Registered { .. }, Message::KeepAliveAck | Message::Error(ErrorCode::NotRegistered)) => true,
            _ => false,
        }
    }

    /// The time limit of a step that begins now. The first attempt gets less, because the other address family may
    /// answer.
    fn step_until(&self, now: Instant) -> Instant {
        now + if self.failures == 0 { CLOUD_FIRST_STEP_TIMEOUT } else { CLOUD_STEP_TIMEOUT }
    }

    /// Logs in; or opens a session with the NMS, if the last login still holds.
    fn connect(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        if self.addresses.is_empty() {
            // Nothing can be done until there is an address. That comes as `CloudInput::Moved`.
            self.state = State::Idle;
            return;
        }
        self.told = 0;
        let until = self.step_until(turn.now);
        if let Some(login) = &self.login {
            self.state = State::Opening { until };
            turn.push(CloudOutput::OpenNms(login.clone()));
        } else {
            self.state = State::LoggingIn { until };
            turn.push(CloudOutput::Login { attempt: self.failures as usize });
        }
    }

    fn on_failed(&mut self, turn: &mut Turn<'_, CloudOutput>, reason: Failure) {
        if matches!(self.state, State::Idle | State::Pausing { .. }) {
            return;
        }
        let now = turn.now;
        self.trouble = Some(if matches!(self.state, State::LoggingIn { .. }) { Party::As } else { Party::Nms });
        if !self.is_registered() && !is_verdict(&reason) {
            turn.push(CloudOutput::ChangeFamily);
        }
        // A registration that is lost as soon as it is won counts as a failure. Otherwise two nodes with one identity,
        // each of which puts the other out, would never pause.
        let was_stable = self.is_registered() && now >= self.registered_at + REGISTRATION_STABLE;
        self.failures = if was_stable { 0 } else { self.failures + 1 };
        // A login that did not lead to a registration twice, or that was refused, is doubtful.
        if self.failures >= 2 || is_verdict(&reason) {
            self.login = None;
        }
        let pause = if was_stable { Duration::ZERO } else { self.pause(turn) };
        turn.push(CloudOutput::Event(Event::Unregistered { reason }));
        if pause.is_zero() {
            self.connect(turn);
        } else {
            self.state = State::Pausing { until: now + pause };
        }
    }

    /// The pause after a failure: drawn from the upper half of a limit that doubles with each failure, so that nodes
    /// that lost one service do not all return at once.
    fn pause(&self, turn: &mut Turn<'_, CloudOutput>) -> Duration {
        let doubled = CLOUD_FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(8));
        let limit = doubled.min(CLOUD_LONGEST_PAUSE);
        limit / 2 + limit.mul_f64(f64::from(turn.random.u32()) / f64::from(u32::MAX)) / 2
    }

    fn send_registration(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        let now = turn.now;
        let transaction = turn.random.u32();
        let (addresses, port) = (self.addresses.clone(), self.port);
        let request =
            Message::RegistrationRequest(RegistrationRequest { epoch: self.epochs.next(now), addresses, port });
        turn.push(CloudOutput::Send { transaction, count: 0, message: request.clone() });
        let (retry, until) = (Backoff::start(now, CLOUD_RETRY), self.step_until(now));
        self.state = State::Registering { transaction, request, retry, until };
    }

    fn on_message(&mut self, turn: &mut Turn<'_, CloudOutput>, transaction: u32, message: Message) {
        if !self.expects(transaction, &message) {
            return;
        }
        match message {
            Message::RegistrationResponse(response) => self.on_registered(turn, response),
            Message::Error(ErrorCode::StaleEpoch(least)) if self.told < EPOCH_TRIES => self.on_told(turn, least),
            Message::Error(code) => self.on_failed(turn, Failure::Refused(code)),
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
        let RegistrationResponse { addresses, nat, survey, .. } = response;
        turn.push(CloudOutput::Event(Event::Registered { addresses, nat }));
        turn.push(CloudOutput::Registered { addresses, survey });
    }

    fn on_ack(&mut self, turn: &mut Turn<'_, CloudOutput>, transaction: u32) {
        let State::Registered { waiting, keep_alive } = &mut self.state else { return };
        turn.push(CloudOutput::Acknowledged(transaction));
        if let Some((_, retry)) = waiting.take_if(|(ours, _)| *ours == transaction) {
            // After a repetition nobody knows which transmission was answered (RFC 6298 §3).
            if retry.sent == 1 {
                self.rtt = Some(turn.now.saturating_since(self.asked_at));
            }
            *keep_alive = Some(turn.now + NMS_KEEP_ALIVE);
        }
    }

    fn on_timeout(&mut self, turn: &mut Turn<'_, CloudOutput>) {
        let now = turn.now;
        match &mut self.state {
            State::Pausing { until } => {
                if *until <= now {
                    self.connect(turn);
                }
            }
            State::LoggingIn { until } | State::Opening { until } | State::Registering { until, .. }
                if *until <= now =>
            {
                self.on_failed(turn, Failure::Timeout);
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
            Some((_, retry)) if retry.sent >= NMS_KEEP_ALIVE_TRIES => {
                return self.on_failed(turn, Failure::Timeout);
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

/// Whether a service was reached and refused the node. Another address family does not change that.
fn is_verdict(reason: &Failure) -> bool {
    matches!(reason, Failure::Refused(_) | Failure::Authentication | Failure::CertificateDates)
}
