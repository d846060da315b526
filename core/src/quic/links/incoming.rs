//! Datagrams from outside: for a link, for a new connection, or for none.

use std::net::SocketAddr;

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, EndpointEvent, Incoming};

use super::counts::heard;
use super::{LinkId, LinkOutput, Links, MAX_LINKS, pathed};
use crate::event::DropReason;
use crate::machine::Transmit;
use crate::quic::config::DATAGRAM_BUFFER;
use crate::quic::to_std;
use crate::time::Instant;
use crate::timing::quic::HANDSHAKE_TIMEOUT;

/// Most half-open incoming connections. From half of this number on, a client has to validate its address (Retry). When
/// it is reached, the oldest one of the source with most of them gives way.
pub const MAX_HALF_OPEN: usize = 512;

impl Links {
    /// Takes a UDP datagram.
    pub fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) {
        self.take_datagram(now, local, remote, payload);
        self.finish(now);
    }

    /// Takes a UDP datagram of several; [`Self::finish`] has to follow the last one.
    pub fn take_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) {
        self.take(now, local, remote, payload);
    }

    /// The link that a datagram is for, if there is one.
    pub(super) fn take(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
    ) -> Option<LinkId> {
        let mut buf = Vec::new();
        let len = payload.len();
        let has_long_header = payload.first().is_some_and(|first| first & 0x80 != 0);
        let (source, seen_by) = if self.on_paths {
            (self.stands_for(remote, &payload), None)
        } else {
            (self.source_for_quinn(remote, &payload), Some(local.ip()))
        };
        match self.endpoint.handle(to_std(now), source, seen_by, None, payload, &mut buf) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let id = *self.by_handle.get(&handle.0)?;
                let link = self.links.get_mut(&id)?;
                let before = (link.answers.is_some() && !link.connected).then(|| heard(&link.connection));
                let was = link.connection.remote_address();
                link.connection.handle_event(event);
                if !self.on_paths {
                    link.note_move(was, local);
                }
                if let Some(before) = before {
                    link.learn_elsewhere(remote, before);
                }
                let proved = if self.on_paths { source } else { remote };
                if let Some((received, _)) = link.unproved.as_mut().filter(|_| proved == link.proved) {
                    *received += len;
                }
                link.taken = (link.taken.0 + 1, link.taken.1 + len);
                // quinn's receive buffer holds no more than this, and drops the oldest datagram beyond it.
                if link.taken.1 > DATAGRAM_BUFFER / 2 {
                    self.move_on(now, id);
                } else if !std::mem::replace(&mut link.touched, true) {
                    self.touched.push(id);
                }
                return Some(id);
            }
            Some(DatagramEvent::NewConnection(incoming)) => return self.accept(now, (local, remote), incoming, len),
            Some(DatagramEvent::Response(transmit)) => {
                // The answer to a short header is a stateless reset (RFC 9000 §10.3): nothing was taken.
                if !has_long_header {
                    self.out.push_back(LinkOutput::Dropped(DropReason::UnknownConnection));
                    if !self.resets.may_go(now, remote) {
                        return None;
                    }
                }
                self.respond((local, remote), &transmit, buf);
            }
            None => self.out.push_back(LinkOutput::Dropped(DropReason::UnknownConnection)),
        }
        None
    }

    fn accept(
        &mut self,
        now: Instant,
        way: (SocketAddr, SocketAddr),
        incoming: Incoming,
        len: usize,
    ) -> Option<LinkId> {
        let mut buf = Vec::new();
        if self.links.len() >= MAX_LINKS || defect!(HalfOpenUnshared) && self.half_open.count() >= MAX_HALF_OPEN {
            self.endpoint.ignore(incoming);
            self.out.push_back(LinkOutput::Dropped(DropReason::Limit));
            return None;
        }
        if self.half_open.count() >= MAX_HALF_OPEN / 2 && !incoming.remote_address_validated() && incoming.may_retry() {
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut buf) {
                self.respond(way, &transmit, buf);
            }
            return None;
        }
        if self.half_open.count() >= MAX_HALF_OPEN
            && let Some(oldest) = self.half_open.gives_way()
            && let Some(link) = self.forget(oldest)
        {
            // In silence: a client that means it sends its first packet again.
            self.endpoint.handle_event(link.handle, EndpointEvent::drained());
            self.out.push_back(LinkOutput::Dropped(DropReason::Limit));
        }
        let unproved = (!incoming.remote_address_validated()).then_some((len, 0));
        match self.endpoint.accept(incoming, to_std(now), &mut buf, self.unprobed.clone()) {
            Ok((handle, connection)) => {
                let local = if self.on_paths { pathed::CONSTANT } else { way.0 };
                let id = self.insert(now, handle, connection, local, unproved);
                self.links.get_mut(&id).expect("just made").half_open = Some(now + HANDSHAKE_TIMEOUT);
                self.half_open.begin(id, way.1.ip());
                self.note_ids(id);
                self.drive(now, id);
                Some(id)
            }
            Err(error) => {
                self.out.push_back(LinkOutput::Dropped(DropReason::UnknownConnection));
                if let Some(transmit) = error.response {
                    self.respond(way, &transmit, buf);
                }
                None
            }
        }
    }

    /// Sends the endpoint's own answer to the source address of the datagram.
    fn respond(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        transmit: &quinn_proto::Transmit,
        mut buf: Vec<u8>,
    ) {
        buf.truncate(transmit.size);
        self.out.push_back(LinkOutput::Transmit(Box::new(Transmit::new(local, remote, buf))));
    }
}
