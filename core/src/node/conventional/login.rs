//! Login over TLS over TCP (paper Fig. 2).

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

/// A login under way.
pub(super) struct LoginSession {
    stream: StreamId,
    channel: TlsChannel,
    reader: FrameReader,
    transaction: u32,
    requested: bool,
}

impl LoginSession {
    /// Closes the connection without an answer.
    pub(super) fn abandon(self) -> CarriageOutput {
        CarriageOutput::Pass(Output::Stream(self.stream, StreamOutput::Close))
    }
}

impl Conventional {
    pub(super) fn start_login(&mut self, _now: Instant, attempt: usize) {
        if let Some(old) = self.session.take() {
            self.out.push_back(old.abandon());
        }
        self.nms = None;
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
        self.session = Some(LoginSession {
            stream,
            channel,
            reader: FrameReader::new(self.versions),
            transaction,
            requested: false,
        });
        self.out.push_back(CarriageOutput::Pass(Output::Stream(stream, StreamOutput::Connect { remote })));
    }

    pub(super) fn on_login_stream(&mut self, _now: Instant, id: StreamId, event: StreamInput) {
        let Some(session) = self.session.as_mut().filter(|s| s.stream == id) else { return };
        match event {
            StreamInput::Connected => self.flush_login(),
            StreamInput::Data(bytes) => {
                if let Err(failure) = session.channel.receive(&bytes) {
                    let dates = failure.is_about_dates();
                    let reason = if dates { Failure::CertificateDates } else { Failure::Authentication };
                    return self.end_login(Some(reason));
                }
                self.advance_login();
            }
            StreamInput::Closed => self.end_login(Some(Failure::ConnectionLost)),
            StreamInput::Accepted { .. } | StreamInput::Written(_) => {}
        }
    }

    fn advance_login(&mut self) {
        let (me, id) = (self.me(), self.id);
        let Some(session) = &mut self.session else { return };
        if session.channel.handshake_complete() && !session.requested {
            session.requested = true;
            let credential = match &self.login {
                Login::Certificate => Credential::Certificate,
                Login::Password(password) => Credential::Password(password.to_string()),
            };
            let request = Message::LoginRequest(LoginRequest { device: id, credential });
            let mut frame = Zeroizing::new(request.to_bytes(session.transaction, Flags(0), 0, 0, id.0));
            self.versions.towards(None).stamp(&mut frame);
            session.channel.send(&frame);
            self.out.push_back(CarriageOutput::handshake(me.clone(), Party::As, "TCP+TLS handshake"));
            self.out.push_back(CarriageOutput::signal(me, Party::As, &request, Protection::Tls, 0));
        }
        while let Some(plaintext) = session.channel.read() {
            session.reader.push(&plaintext);
        }
        let frame = session.reader.next();
        self.flush_login();
        match frame {
            None => {}
            Some(Err(unread)) => {
                let outdated = unread.header.spoken.version < self.versions.oldest;
                self.end_login(Some(if outdated { Failure::Outdated } else { Failure::Protocol }));
            }
            Some(Ok((header, body))) => match Message::decode_body(header.kind, &body) {
                Ok(Message::LoginResponse(response)) => {
                    self.end_login(None);
                    self.out.push_back(CarriageOutput::LoggedIn(response));
                }
                Ok(Message::Error(code)) => self.end_login(Some(Failure::Refused(code))),
                _ => {
                    self.dropped(DropReason::BadBody);
                    self.end_login(Some(Failure::Protocol));
                }
            },
        }
    }

    fn flush_login(&mut self) {
        let Some(session) = &mut self.session else { return };
        let bytes = session.channel.take_output();
        if !bytes.is_empty() {
            let write = Output::Stream(session.stream, StreamOutput::Write(bytes));
            self.out.push_back(CarriageOutput::Pass(write));
        }
    }

    pub(super) fn end_login(&mut self, failure: Option<Failure>) {
        self.flush_login();
        if let Some(session) = self.session.take() {
            self.out.push_back(session.abandon());
        }
        if let Some(reason) = failure {
            self.out.push_back(CarriageOutput::LoginFailed(reason));
        }
    }
}
