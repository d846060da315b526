//! One link: what it receives, what it may send, and its stream.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, Event, ReadError, Side, StreamEvent, StreamId, VarInt, WriteError};

use super::counts::{asked, heard};
use super::{Link, LinkClosed, LinkId, LinkOutput, MAX_STREAM_BACKLOG, MOST_UNREAD};
use crate::event::DropReason;
use crate::header::Kind;
use crate::message::{FrameReader, Unread, WhyUnread};
use crate::name::Fqdn;
use crate::quic::config::QuicConfig;
use crate::quic::to_std;
use crate::time::Instant;
use crate::tls;
use crate::version::{Spoken, Versions};

/// Room for this many DATAGRAM frames is made at once when some arrive.
const USUAL_BATCH: usize = 16;

impl Link {
    /// Notes whether the datagrams that were taken had anything authentic and new in them. Returns how many at least
    /// had not. quinn drops silently what is damaged, forged, a repetition, or too early for its keys, so only its
    /// counters tell.
    pub(super) fn hear(&mut self, now: Instant) -> usize {
        let (datagrams, _) = std::mem::take(&mut self.taken);
        if datagrams == 0 {
            return 0;
        }
        let before = std::mem::replace(&mut self.heard, heard(&self.connection));
        let frames = usize::try_from(self.heard - before).unwrap_or(usize::MAX);
        if frames > 0 {
            self.heard_at = now;
        }
        // A datagram for a link that is closed is late, not hostile.
        if self.closed { 0 } else { datagrams.saturating_sub(frames) }
    }

    /// The idle timeout of a link that is up. quinn's own is at least three times its probe timeout (RFC 9000 §10.1). A
    /// node that stood still for a while takes that pause for a long round trip, and would then wait for minutes.
    pub(super) fn silent_at(&self, config: &QuicConfig) -> Option<Instant> {
        (self.connected && !self.closed).then(|| self.heard_at + config.options.idle_timeout)
    }

    /// The counts of [`asked`], if the peer's present address is not proved. A PATH_RESPONSE alone proves nothing,
    /// because only quinn knows whether it was the right one. But quinn repeats the challenge in every packet to that
    /// address until it has the right answer, or goes back to the old address (RFC 9000 §8.2). Only probes of the path
    /// MTU have no challenge in them.
    pub(super) fn doubt(&self) -> Option<(u64, u64)> {
        (self.connection.remote_address() != self.proved && !self.closed).then(|| asked(&self.connection))
    }

    /// Notes that a packet goes to `destination`. The peer's present address is proved if quinn sends there without a
    /// challenge.
    pub(super) fn note_proof(&mut self, doubt: Option<(u64, u64)>, destination: SocketAddr) {
        if let Some(before) = doubt
            && destination == self.connection.remote_address()
            && asked(&self.connection) == before
        {
            self.proved = destination;
        }
    }

    /// Looks at the path validation in what arrived. Returns whether the peer has challenged our new address. If the
    /// peer has answered our own challenge, a PING follows at once: it shows whether the answer was right
    /// ([`Self::note_proof`]).
    pub(super) fn follow(&mut self) -> bool {
        let frames = self.connection.stats().frame_rx;
        let before = std::mem::replace(&mut self.responses, frames.path_response);
        if frames.path_response > before && self.doubt().is_some() {
            self.connection.ping();
        }
        self.rebound.take_if(|before| (*before).is_over(&frames)).is_some()
    }

    /// Whether `len` bytes may go to the peer: three for each that came from an address that is not validated yet (RFC
    /// 9000 §8.1). The caller drops a datagram that may not; QUIC takes it for lost.
    pub(super) fn may_send(&mut self, len: usize) -> bool {
        let Some((received, sent)) = &mut self.unproved else { return true };
        let good = *sent + len <= 3 * *received || defect!(UnprovedAnswered);
        *sent += if good { len } else { 0 };
        good
    }

    /// Closes the link with this application error code.
    pub(super) fn end(&mut self, now: Instant, code: VarInt) {
        self.closed = true;
        self.connection.close(to_std(now), code, Bytes::new());
    }

    /// Takes every event that quinn has.
    ///
    /// Messages come out before the packets that arrived with them. quinn gives the packets first. A packet that
    /// followed a message of the same batch would then come before the tunnel that the message sets up.
    pub(super) fn take_events(&mut self, id: LinkId, versions: Versions, out: &mut VecDeque<LinkOutput>) {
        while let Some(event) = self.connection.poll() {
            match event {
                // The packets follow below, after the messages.
                Event::DatagramReceived => {}
                // The packets come first: after [`LinkOutput::Closed`] nothing may follow for this link.
                Event::ConnectionLost { .. } => {
                    self.take_packets(id, out);
                    self.on_event(id, versions, event, out);
                }
                event => self.on_event(id, versions, event, out),
            }
        }
        self.take_packets(id, out);
    }

    fn take_packets(&mut self, id: LinkId, out: &mut VecDeque<LinkOutput>) {
        let mut datagrams = self.connection.datagrams();
        let Some(first) = datagrams.recv() else { return };
        let mut all = Vec::with_capacity(USUAL_BATCH);
        all.push(first);
        all.extend(std::iter::from_fn(|| datagrams.recv()));
        out.push_back(LinkOutput::Datagrams(id, all));
    }

    fn on_event(&mut self, id: LinkId, versions: Versions, event: Event, out: &mut VecDeque<LinkOutput>) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.unproved = None;
                self.begins();
                out.push_back(LinkOutput::Connected {
                    link: id,
                    client: self.connection.side() == Side::Client,
                    peer: self.peer_names(),
                });
            }
            Event::ConnectionLost { reason } => {
                if !self.closed {
                    self.closed = true;
                    out.push_back(LinkOutput::Closed(id, LinkClosed::by(&reason)));
                }
            }
            Event::Stream(StreamEvent::Opened { .. }) => {
                while let Some(stream) = self.connection.streams().accept(Dir::Bi) {
                    self.readers.insert(stream, FrameReader::new(versions));
                    self.send_stream.get_or_insert(stream);
                    self.read(id, versions, stream, out);
                }
            }
            Event::Stream(StreamEvent::Readable { id: stream }) => self.read(id, versions, stream, out),
            // Writable: `flush` follows every event.
            Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked | Event::DatagramReceived => {}
        }
    }

    fn peer_names(&self) -> Vec<Fqdn> {
        self.peer_chain().first().map(tls::names).unwrap_or_default()
    }

    fn read(&mut self, id: LinkId, versions: Versions, stream: StreamId, out: &mut VecDeque<LinkOutput>) {
        let Some(reader) = self.readers.get_mut(&stream) else { return };
        let mut recv = self.connection.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else { return };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => reader.push(&chunk.bytes),
                Err(ReadError::Blocked) => break,
                // A stream lives as long as its link. A peer that could end one could open another, without end.
                Ok(None) | Err(ReadError::Reset(_)) => {
                    self.broken = true;
                    break;
                }
            }
        }
        let _ = chunks.finalize();
        while let Some(frame) = self.readers.get_mut(&stream).and_then(Iterator::next) {
            match frame {
                Ok((header, body)) => {
                    (self.unread, self.theirs) = (0, Some(header.spoken));
                    if header.kind == Kind::CertificateRenewed {
                        self.lifespan.offered = Some(body);
                        continue;
                    }
                    out.push_back(LinkOutput::Frame(id, header, body));
                }
                Err(unread) => self.refuse(versions, &unread, out),
            }
        }
    }

    /// Tells the peer that a message could not be read. The link stays up, because the peer may be of a later version:
    /// parts are upgraded one at a time.
    fn refuse(&mut self, versions: Versions, unread: &Unread, out: &mut VecDeque<LinkOutput>) {
        let version = unread.why == WhyUnread::Version;
        let reason = if version { DropReason::UnknownVersion } else { DropReason::UnknownType };
        out.push_back(LinkOutput::Dropped(reason));
        self.unread += 1;
        self.broken |= self.unread > MOST_UNREAD;
        let answer = unread.answer_frame(versions).filter(|_| !self.closed && !self.broken);
        if let Some((_, frame)) = answer.filter(|(_, frame)| self.backlog_bytes + frame.len() <= MAX_STREAM_BACKLOG) {
            self.backlog_bytes += frame.len();
            self.backlog.push_back(frame.into());
        }
    }

    /// Queues a whole message, in a version that the peer speaks too.
    pub(super) fn queue(&mut self, versions: Versions, frame: Bytes) {
        let spoken = versions.towards(self.theirs);
        let frame = if spoken == Spoken::FIRST {
            frame
        } else {
            let mut stamped = BytesMut::from(&frame[..]);
            spoken.stamp(&mut stamped);
            stamped.freeze()
        };
        self.backlog_bytes += frame.len();
        self.backlog.push_back(frame);
    }

    /// Writes the backlog to the stream, as far as flow control allows.
    pub(super) fn flush(&mut self, versions: Versions) {
        if !self.connected || self.closed || self.backlog.is_empty() {
            return;
        }
        let stream = if let Some(stream) = self.send_stream {
            stream
        } else {
            let Some(stream) = self.connection.streams().open(Dir::Bi) else { return };
            self.readers.insert(stream, FrameReader::new(versions));
            *self.send_stream.insert(stream)
        };
        while let Some(front) = self.backlog.front_mut() {
            match self.connection.send_stream(stream).write(front) {
                Ok(n) => {
                    self.backlog_bytes -= n;
                    if n == front.len() {
                        self.backlog.pop_front();
                    } else {
                        let _ = front.split_to(n);
                    }
                }
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    self.broken = true;
                    self.backlog.clear();
                    self.backlog_bytes = 0;
                }
            }
        }
    }
}
