//! Shared by both ends of a connection: TLS, capsules, and the queue in front of TCP.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::capsule::{Capsules, MAX_DATAGRAM, put_datagram};
use crate::time::Instant;
use crate::timing::proxied::DATAGRAM_WAIT;
use crate::tls::channel::TlsChannel;

/// Most bytes of one connection that a driver holds for TCP. Each datagram waits for these bytes, and for the unsent
/// bytes of the kernel (some 16 KiB).
pub const WINDOW: usize = 32 * 1024;
/// Most bytes of datagrams that wait for TCP, of one connection.
pub const MAX_WAITING: usize = 256 * 1024;
/// Most bytes that go into one TLS record.
const RECORD: usize = 16 * 1024;

/// One end of a connection, from TLS up.
#[derive(Debug)]
pub(super) struct Pipe {
    /// TLS over the TCP connection.
    pub(super) channel: TlsChannel,
    capsules: Capsules,
    /// Datagrams that wait for TCP, and since when.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    waiting_bytes: usize,
    /// Bytes that the driver has not handed to TCP yet.
    in_driver: usize,
    /// Datagrams dropped since [`Self::take_dropped`].
    dropped: usize,
    /// When a datagram last went, in either direction.
    pub(super) used: Instant,
}

impl Pipe {
    pub(super) fn new(now: Instant, channel: TlsChannel) -> Self {
        Self {
            channel,
            capsules: Capsules::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_driver: 0,
            dropped: 0,
            used: now,
        }
    }

    /// Sends a datagram as soon as TCP takes it.
    pub(super) fn send(&mut self, now: Instant, payload: &[u8]) {
        if payload.len() > MAX_DATAGRAM {
            self.dropped += 1;
            return;
        }
        self.used = now;
        self.waiting.push_back((now, payload.to_vec()));
        self.waiting_bytes += payload.len();
        while self.waiting_bytes > MAX_WAITING {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, payload)) = self.waiting.pop_front() {
            self.waiting_bytes -= payload.len();
            self.dropped += 1;
        }
    }

    /// Datagrams may go from now on. The time that they waited for the connection does not count as waiting for TCP.
    pub(super) fn begin(&mut self, now: Instant) {
        for (since, _) in &mut self.waiting {
            *since = now;
        }
    }

    /// Takes plaintext of the peer, which consists of capsules.
    pub(super) fn read(&mut self, now: Instant, plaintext: &[u8], datagrams: &mut Vec<BytesMut>) -> bool {
        let before = datagrams.len();
        let good = self.capsules.push(plaintext, datagrams).is_ok();
        if datagrams.len() > before {
            self.used = now;
        }
        good
    }

    /// The driver has handed this many bytes more to TCP.
    pub(super) fn written(&mut self, bytes: usize) {
        self.in_driver = self.in_driver.saturating_sub(bytes);
    }

    /// The bytes to write now. `carries`: datagrams may go.
    pub(super) fn flush(&mut self, now: Instant, carries: bool) -> Vec<u8> {
        let mut bytes = self.channel.take_output();
        while self.waiting.front().is_some_and(|&(since, _)| since + DATAGRAM_WAIT < now && carries) {
            self.drop_oldest();
        }
        let mut record = Vec::new();
        while carries && self.in_driver + bytes.len() + record.len() < WINDOW {
            let Some((_, payload)) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= payload.len();
            put_datagram(&mut record, &payload);
            if record.len() + MAX_DATAGRAM > RECORD {
                self.channel.send(&std::mem::take(&mut record));
                bytes.extend(self.channel.take_output());
            }
        }
        if !record.is_empty() {
            self.channel.send(&record);
            bytes.extend(self.channel.take_output());
        }
        self.in_driver += bytes.len();
        bytes
    }

    /// The number of datagrams dropped since the last call, because they were too long or had waited too long.
    pub(super) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }
}
