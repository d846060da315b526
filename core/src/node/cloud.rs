//! Logging in to the AS and registering with the NMS (paper Figs. 2 and 6), again and again until it works.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::carriage::Places;
use crate::epoch::Epochs;
use crate::event::{Event, Failure};
use crate::header::Header;
use crate::message::{ErrorCode, LoginResponse, Message, RegistrationRequest, RegistrationResponse};
use crate::name::Party;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    CLOUD_FIRST_PAUSE, CLOUD_FIRST_STEP_TIMEOUT, CLOUD_LONGEST_PAUSE, CLOUD_RETRY, CLOUD_STEP_TIMEOUT, NMS_KEEP_ALIVE,
    NMS_KEEP_ALIVE_TRIES, REGISTRATION_STABLE,
};
use crate::timing::{Due, Timer};
use crate::tls::WallClock;

/// The node's standing with the cloud.
pub(super) struct Cloud {
    pub(super) places: Places,
    state: State,
    login: Option<LoginResponse>,
    /// The user wants us to be registered.
    started: bool,
    /// Failures in a row.
    failures: u32,
    /// With whom the last failure was.
    trouble: Option<Party>,
    /// When the last registration succeeded.
    registered_at: Instant,
    /// When the last Keep Alive went out for the first time, and how long the answer to one took.
    asked_at: Instant,
    rtt: Option<Duration>,
    epochs: Epochs,
}

enum State {
    /// Not started.
    Idle,
    LoggingIn {
        until: Instant,
    },
    /// The way to the NMS is being opened.
    Opening {
        until: Instant,
    },
    Registering {
        transaction: u32,
        /// Sent again as it is.
        request: Message,
        retry: Backoff,
        until: Instant,
    },
    Registered {
        /// When to say Keep Alive next; never on a reliable carriage.
        keep_alive: Option<Instant>,
        /// The Keep Alive that waits for its Ack.
        waiting: Option<(u32, Backoff)>,
    },
    Pausing {
        until: Instant,
    },
}

impl Cloud {
    pub(super) fn new(places: Places, clock: Arc<dyn WallClock>) -> Self {
        Self {
            places,
            state: State::Idle,
            login: None,
            started: false,
            failures: 0,
            trouble: None,
            registered_at: Instant::ZERO,
            asked_at: Instant::ZERO,
            rtt: None,
            epochs: Epochs::new(clock),
        }
    }

    /// What the AS said last.
    pub(super) fn login(&self) -> Option<&LoginResponse> {
        self.login.as_ref()
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// The round trip of the last Keep Alive to the NMS that needed no repetition.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// With whom the last failure was: AS or NMS.
    pub(super) fn trouble(&self) -> Option<&Party> {
        self.trouble.as_ref()
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
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

/// Whether a service was reached, and would not have us.
fn is_verdict(reason: &Failure) -> bool {
    matches!(reason, Failure::Refused(_) | Failure::Authentication | Failure::CertificateDates)
}

impl Node {
    pub(super) fn start(&mut self, now: Instant) {
        self.cloud.started = true;
        if matches!(self.cloud.state, State::Idle) {
            self.connect_cloud(now);
        }
    }

    /// Closes every tunnel and session in order.
    pub(super) fn stop(&mut self, now: Instant) {
        self.cloud.started = false;
        self.cloud.state = State::Idle;
        self.cloud.login = None;
        self.survey.stop();
        self.peers.clear();
        self.carriage.leave(now);
    }

    /// Logs in, or registers again where the login still stands.
    fn connect_cloud(&mut self, now: Instant) {
        if self.cloud.places.addresses.is_empty() {
            // Nothing can be done until there is an address.
            self.cloud.state = State::Idle;
            return;
        }
        let until = now + if self.cloud.failures == 0 { CLOUD_FIRST_STEP_TIMEOUT } else { CLOUD_STEP_TIMEOUT };
        if let Some(login) = &self.cloud.login {
            self.cloud.state = State::Opening { until };
            self.carriage.open_nms(now, login);
        } else {
            self.cloud.state = State::LoggingIn { until };
            self.carriage.login(now, self.cloud.failures as usize);
        }
    }

    pub(super) fn on_logged_in(&mut self, now: Instant, response: LoginResponse) {
        if matches!(self.cloud.state, State::LoggingIn { .. }) {
            self.cloud.login = Some(response);
            self.connect_cloud(now);
        }
    }

    pub(super) fn on_cloud_failed(&mut self, now: Instant, reason: Failure) {
        let cloud = &mut self.cloud;
        if matches!(cloud.state, State::Idle | State::Pausing { .. }) {
            return;
        }
        cloud.trouble = Some(if matches!(cloud.state, State::LoggingIn { .. }) { Party::As } else { Party::Nms });
        let leaps = reason == Failure::Refused(ErrorCode::StaleEpoch) && cloud.epochs.leap();
        // A registration that is lost as soon as it is won counts as none: or else two nodes with one identity, each
        // putting the other out, would never rest.
        if !cloud.is_registered() && !is_verdict(&reason) {
            self.carriage.change_family();
        }
        let was_registered = cloud.is_registered() && now >= cloud.registered_at + REGISTRATION_STABLE;
        cloud.failures = if was_registered { 0 } else { cloud.failures + 1 };
        // A login that did not lead to a registration twice, or that was refused, is worth nothing.
        if cloud.failures >= 2 || is_verdict(&reason) {
            cloud.login = None;
        }
        let pause = if was_registered {
            Duration::ZERO
        } else {
            let doubled = CLOUD_FIRST_PAUSE * if leaps { 1 } else { 2u32.saturating_pow(cloud.failures.min(8)) };
            let limit = doubled.min(CLOUD_LONGEST_PAUSE);
            limit / 2 + limit.mul_f64(f64::from(self.random_u32()) / f64::from(u32::MAX)) / 2
        };
        self.event(Event::Unregistered { reason });
        if pause.is_zero() {
            self.connect_cloud(now);
        } else {
            self.cloud.state = State::Pausing { until: now + pause };
        }
    }

    pub(super) fn send_registration(&mut self, now: Instant) {
        if !matches!(self.cloud.state, State::Opening { .. }) {
            return;
        }
        let transaction = self.random_u32();
        let request = self.registration_request(now);
        self.carriage.send_nms(now, transaction, 0, request.clone());
        let timeout = if self.cloud.failures == 0 { CLOUD_FIRST_STEP_TIMEOUT } else { CLOUD_STEP_TIMEOUT };
        let (retry, until) = (Backoff::start(now, CLOUD_RETRY), now + timeout);
        self.cloud.state = State::Registering { transaction, request, retry, until };
    }

    fn registration_request(&mut self, now: Instant) -> Message {
        let epoch = self.cloud.epochs.next(now);
        let Places { addresses, port, .. } = self.cloud.places.clone();
        Message::RegistrationRequest(RegistrationRequest { epoch, addresses, port })
    }

    /// True if the message was for us.
    pub(super) fn on_cloud_message(&mut self, now: Instant, header: &Header, message: &Message) -> bool {
        match (&mut self.cloud.state, message) {
            (State::Registering { transaction, .. }, Message::RegistrationResponse(response))
                if *transaction == header.transaction =>
            {
                self.on_registered(now, response);
                true
            }
            (State::Registering { transaction, .. }, Message::Error(code)) if *transaction == header.transaction => {
                let code = *code;
                self.on_cloud_failed(now, Failure::Refused(code));
                true
            }
            (State::Registered { waiting, keep_alive }, Message::KeepAliveAck) => {
                self.survey.acknowledged(header.transaction);
                if let Some((_, retry)) = waiting.take_if(|(t, _)| *t == header.transaction) {
                    // Which transmission was answered is plain only if there was one (RFC 6298 §3).
                    if retry.sent == 1 {
                        self.cloud.rtt = Some(now.saturating_since(self.cloud.asked_at));
                    }
                    *keep_alive = Some(now + NMS_KEEP_ALIVE);
                }
                true
            }
            (State::Registered { .. }, Message::Error(ErrorCode::NotRegistered)) => {
                self.on_cloud_failed(now, Failure::Refused(ErrorCode::NotRegistered));
                true
            }
            _ => false,
        }
    }

    fn on_registered(&mut self, now: Instant, response: &RegistrationResponse) {
        let keep_alive = (!self.carriage.is_reliable()).then(|| now + NMS_KEEP_ALIVE);
        self.cloud.state = State::Registered { keep_alive, waiting: None };
        self.cloud.registered_at = now;
        self.own = Some(response.addresses);
        self.event(Event::Registered { addresses: response.addresses, nat: response.nat });
        self.request_waiting_routes(now);
        self.start_survey(now, response.survey.as_ref());
    }

    pub(super) fn cloud_timeout(&mut self, now: Instant) {
        match &mut self.cloud.state {
            State::Idle => {}
            State::Pausing { until } => {
                if *until <= now {
                    self.connect_cloud(now);
                }
            }
            State::LoggingIn { until } | State::Opening { until } => {
                if *until <= now {
                    self.on_cloud_failed(now, Failure::Timeout);
                }
            }
            State::Registering { transaction, request, retry, until } => {
                if *until <= now {
                    self.on_cloud_failed(now, Failure::Timeout);
                } else if retry.next <= now {
                    let (transaction, count, request) = (*transaction, retry.sent, request.clone());
                    retry.again(now);
                    if !self.carriage.is_reliable() {
                        self.carriage.send_nms(now, transaction, count, request);
                    }
                }
            }
            State::Registered { .. } => self.keep_alive(now),
        }
        self.drain_carriage(now);
    }

    fn keep_alive(&mut self, now: Instant) {
        let State::Registered { keep_alive, waiting } = &mut self.cloud.state else { return };
        let (transaction, count) = match waiting {
            Some((_, retry)) if retry.next > now => return,
            Some((_, retry)) if retry.sent >= NMS_KEEP_ALIVE_TRIES => {
                self.on_cloud_failed(now, Failure::Timeout);
                return;
            }
            Some((transaction, retry)) => {
                let count = retry.sent;
                retry.again(now);
                (*transaction, count)
            }
            None if keep_alive.is_some_and(|at| at <= now) => {
                use rand_chacha::rand_core::RngCore;
                let transaction = self.rng.next_u32();
                *waiting = Some((transaction, Backoff::start(now, CLOUD_RETRY)));
                self.cloud.asked_at = now;
                (transaction, 0)
            }
            None => return,
        };
        self.carriage.send_nms(now, transaction, count, Message::KeepAlive);
    }

    /// The NMS does not answer what it should: is it there, and does it know us?
    pub(super) fn doubt_nms(&mut self, now: Instant) {
        if let State::Registered { keep_alive: Some(at), waiting: None } = &mut self.cloud.state {
            *at = (*at).min(now);
        }
    }

    /// Handover (paper §2.1, §2.2.2): the node registers again and builds every tunnel anew; what applications send
    /// meanwhile is held.
    pub(super) fn change_network(&mut self, now: Instant, addresses: Vec<IpAddr>, nat64: Option<Ipv6Addr>) {
        let before = &self.cloud.places;
        if (&before.addresses, before.nat64) == (&addresses, nat64) {
            return;
        }
        let places = Places { addresses, port: before.port, nat64, prefer_v4: false };
        self.carriage.move_to(now, &places);
        self.cloud.places = places;
        if self.cloud.started && !defect!(MoveForgotten) {
            self.cloud.failures = 0;
            // From here on we are not registered: what peers want waits for it.
            self.connect_cloud(now);
        }
        self.survey.stop();
        self.rebuild_routes(now);
    }
}
