//! Login by TLS over TCP (paper Fig. 2). A login that has timed out stays open beside the next one.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Conventional;
use crate::event::{DropReason, Failure, Protection};
use crate::header::Flags;
use crate::machine::{Output, StreamId, StreamInput, StreamOutput};
use crate::message::{Credential, FrameReader, LoginRequest, Message};
use crate::name::Party;
use crate::node::Login;
use crate::node::carriage::CarriageOutput;
use crate::node::places::Places;
use crate::time::Instant;
use crate::tls::channel::TlsChannel;

/// The largest number of logins under way. A further login ends the oldest one.
const MAX_LOGINS: usize = 4;

/// A login under way.
pub(super) struct LoginSession {
    stream: StreamId,
    channel: TlsChannel,
    reader: FrameReader,
    transaction: u32,
    began: Instant,
    /// When the Login Request was sent, and how long the handshake took before it.
    requested: Option<(Instant, Duration)>,
}

impl LoginSession {
    /// Closes the connection without an answer.
    pub(super) fn abandon(self) -> CarriageOutput {
        CarriageOutput::Pass(Output::Stream(self.stream, StreamOutput::Close))
    }

    /// Whether the answer to its request may still come, judged by the duration of the handshake, which took two round
    /// trips.
    fn is_awaited(&self, now: Instant) -> bool {
        self.requested.is_some_and(|(at, handshake)| now < at + handshake)
    }
}

impl Conventional {
    pub(super) fn start_login(&mut self, now: Instant, attempt: usize) {
        while self.logins.len() >= MAX_LOGINS
            && let Some((_, oldest)) = self.logins.pop_first()
        {
            self.out.push_back(oldest.abandon());
        }
        let remotes = Places::in_turn(&self.services.as_addresses, attempt);
        let Some((_, remote)) = self.places.first(&remotes) else {
            return self.out.push_back(CarriageOutput::LoginFailed(Failure::NoAddress));
        };
        let Ok(channel) = TlsChannel::client(self.tls.clone(), &self.services.as_name) else {
            return self.out.push_back(CarriageOutput::LoginFailed(Failure::Protocol));
        };
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let transaction = self.random();
        let reader = FrameReader::new(self.versions);
        let session = LoginSession { stream, channel, reader, transaction, began: now, requested: None };
        self.logins.insert(stream, session);
        self.out.push_back(CarriageOutput::Pass(Output::Stream(stream, StreamOutput::Connect { remote })));
    }

    pub(super) fn on_login_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) {
        let Some(session) = self.logins.get_mut(&id) else { return };
        match event {
            StreamInput::Connected => self.flush_login(id),
            StreamInput::Data(bytes) => {
                if let Err(failure) = session.channel.receive(&bytes) {
                    let dates = failure.is_about_dates();
                    let reason = if dates { Failure::CertificateDates } else { Failure::Authentication };
                    return self.end_login(id, Some(reason));
                }
                self.advance_login(now, id);
            }
            StreamInput::Closed | StreamInput::Unanswered => {
                self.end_login(id, Some(Failure::ConnectionLost));
                // The other logins need not wait for its answer any more.
                let others: Vec<StreamId> = self.logins.keys().copied().collect();
                for other in others {
                    self.request_login(now, other);
                    self.flush_login(other);
                }
            }
            StreamInput::Accepted { .. } | StreamInput::Written(_) => {}
        }
    }

    /// Sends the Login Request once the handshake is done. Each login replaces the common key of an earlier one, so
    /// only one request at a time waits for its answer.
    fn request_login(&mut self, now: Instant, id: StreamId) {
        let is_ready = |s: &LoginSession| s.channel.handshake_complete() && s.requested.is_none();
        if !self.logins.get(&id).is_some_and(is_ready) || self.logins.values().any(|other| other.is_awaited(now)) {
            return;
        }
        let given_up: Vec<StreamId> =
            self.logins.iter().filter(|(_, s)| s.requested.is_some()).map(|(&s, _)| s).collect();
        for other in given_up {
            self.end_login(other, None);
        }
        let (me, device) = (self.me(), self.id);
        let Some(session) = self.logins.get_mut(&id) else { return };
        session.requested = Some((now, now.saturating_since(session.began)));
        let credential = match &self.login {
            Login::Certificate => Credential::Certificate,
            Login::Password(password) => Credential::Password(password.to_string()),
        };
        let request = Message::LoginRequest(LoginRequest { device, credential });
        let mut frame = Zeroizing::new(request.to_bytes(session.transaction, Flags(0), 0, 0, device.0));
        self.versions.towards(None).stamp(&mut frame);
        session.channel.send(&frame);
        self.out.push_back(CarriageOutput::handshake(me.clone(), Party::As, "TCP+TLS handshake"));
        self.out.push_back(CarriageOutput::signal(me, Party::As, &request, Protection::Tls, 0));
    }

    fn advance_login(&mut self, now: Instant, id: StreamId) {
        self.request_login(now, id);
        let Some(session) = self.logins.get_mut(&id) else { return };
        while let Some(plaintext) = session.channel.read() {
            session.reader.push(&plaintext);
        }
        let frame = session.reader.next();
        self.flush_login(id);
        match frame {
            None => {}
            Some(Err(unread)) => {
                let outdated = unread.header.spoken.version < self.versions.oldest;
                self.end_login(id, Some(if outdated { Failure::Outdated } else { Failure::Protocol }));
            }
            Some(Ok((header, body))) => match Message::decode_body(header.kind, &body) {
                Ok(Message::LoginResponse(response)) => {
                    self.end_login(id, None);
                    self.end_logins();
                    self.out.push_back(CarriageOutput::LoggedIn(Box::new(response)));
                }
                Ok(Message::Error(code)) => self.end_login(id, Some(Failure::Refused(code))),
                _ => {
                    self.dropped(DropReason::BadBody);
                    self.end_login(id, Some(Failure::Protocol));
                }
            },
        }
    }

    fn flush_login(&mut self, id: StreamId) {
        let Some(session) = self.logins.get_mut(&id) else { return };
        let bytes = session.channel.take_output();
        if !bytes.is_empty() {
            let write = Output::Stream(session.stream, StreamOutput::Write(bytes));
            self.out.push_back(CarriageOutput::Pass(write));
        }
    }

    /// Ends a login. The loss of a connection is reported only if no other one is open.
    fn end_login(&mut self, id: StreamId, failure: Option<Failure>) {
        self.flush_login(id);
        if let Some(session) = self.logins.remove(&id) {
            self.out.push_back(session.abandon());
        }
        if let Some(reason) = failure.filter(|why| self.logins.is_empty() || *why != Failure::ConnectionLost) {
            self.out.push_back(CarriageOutput::LoginFailed(reason));
        }
    }

    /// Ends all logins.
    pub(super) fn end_logins(&mut self) {
        let all = std::mem::take(&mut self.logins);
        self.out.extend(all.into_values().map(LoginSession::abandon));
    }

    /// Ends the logins whose request was not sent. A login whose request was sent stays, because its answer brings the
    /// key that is valid now.
    pub(super) fn end_idle_logins(&mut self) {
        let idle: Vec<StreamId> = self.logins.iter().filter(|(_, s)| s.requested.is_none()).map(|(&s, _)| s).collect();
        for id in idle {
            self.end_login(id, None);
        }
    }
}
