//! A transfer over TCP to the peer's sink, which answers with the hash of the bytes that it received.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ring::digest::{Context, SHA256};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::{Inbound, MARKER};
use crate::host::ports::{BUFFER, SILENCE, TCP_SINK_PORT};
use crate::host::stack::TcpStack;
use crate::net::packet::IcmpError;

/// A TCP transfer to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// How many bytes.
    pub bytes: u64,
    /// The seed of the bytes.
    pub seed: u64,
    /// The application writes no faster than this, bits per second. `None`: as fast as TCP takes it.
    pub rate_bps: Option<u64>,
}

/// How often a paced application writes. iperf3 has the same pacing timer.
const PACING: Duration = Duration::from_millis(1);

/// What a [`Transfer`] has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferReport {
    /// When the connection was established.
    pub connected: Option<Instant>,
    /// Bytes that the peer's TCP acknowledged.
    pub acknowledged: u64,
    /// When the peer's hash arrived.
    pub completed: Option<Instant>,
    /// The longest time without a new acknowledgement while bytes were outstanding.
    pub longest_stall: Duration,
    /// Packet Too Big messages that came for this connection: its segments did not fit the path, and are cut since.
    pub too_big: u64,
    /// Whether every byte arrived, once that is known.
    pub result: Option<Result<(), TransferError>>,
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// There is no address to send from.
    NoAddress,
    /// The SYN got no answer.
    NoAnswer,
    /// The SYN was answered with a reset.
    Refused,
    /// The connection broke before the hash came.
    Broken,
    /// The peer got other bytes than were sent.
    WrongHash,
}

impl TransferReport {
    /// Whether the transfer is complete and right.
    pub fn ok(&self) -> bool {
        self.result == Some(Ok(()))
    }

    pub(super) fn receive(&mut self, inbound: &Inbound<'_>) -> bool {
        let too_big = matches!(inbound, Inbound::Error { error: IcmpError::TooBig { .. }, .. });
        self.too_big += u64::from(too_big);
        too_big
    }
}

/// What the bytes of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) enum Content {
    /// Each block begins with [`MARKER`], which no wire may show.
    Marked,
    /// Sent in the clear on purpose.
    Unmarked,
}

pub(in crate::host) struct TransferTask {
    handle: SocketHandle,
    /// When it began; known from its first turn on.
    began: Option<Instant>,
    source: Source,
    hash: Context,
    written: u64,
    rate_bps: Option<u64>,
    /// When the application may write again, if it is paced.
    resumes: Option<Instant>,
    /// When the last byte was acknowledged, or the connection was established.
    progress: Instant,
    answer: Vec<u8>,
}

impl TransferTask {
    pub(in crate::host) fn new(
        stack: &mut TcpStack,
        transfer: &Transfer,
        local: SocketAddr,
        peer: IpAddr,
        content: Content,
    ) -> Option<Self> {
        let handle = stack.connect(local, SocketAddr::new(peer, TCP_SINK_PORT), BUFFER).ok()?;
        stack.socket(handle).set_timeout(Some(SILENCE));
        Some(Self {
            handle,
            began: None,
            source: Source::new(transfer, content),
            hash: Context::new(&SHA256),
            written: 0,
            rate_bps: transfer.rate_bps,
            resumes: None,
            progress: Instant::ZERO,
            answer: Vec::new(),
        })
    }

    /// Writes and reads as much as it can; true if the stack must be polled again.
    pub(in crate::host) fn service(&mut self, now: Instant, stack: &mut TcpStack, report: &mut TransferReport) -> bool {
        let began = *self.began.get_or_insert(now);
        let socket = stack.socket(self.handle);
        if report.connected.is_none() && socket.may_send() {
            report.connected = Some(now);
            self.progress = now;
        }
        let mut again = false;
        let most = match (self.rate_bps, report.connected) {
            (Some(rate), Some(connected)) => {
                let ticks = (now - connected).as_nanos() / PACING.as_nanos();
                self.resumes = Some(connected + PACING * u32::try_from(ticks + 1).unwrap_or(u32::MAX));
                let bits = u128::from(rate) * ticks * PACING.as_nanos() / 1_000_000_000;
                u64::try_from(bits / 8).unwrap_or(u64::MAX)
            }
            _ => u64::MAX,
        };
        while socket.can_send() && !self.source.is_empty() && self.written < most {
            let chunk = self.source.peek();
            let allowed = usize::try_from(most - self.written).unwrap_or(usize::MAX);
            let chunk = &chunk[..chunk.len().min(allowed)];
            let taken = socket.send_slice(chunk).unwrap_or(0);
            if taken == 0 {
                break;
            }
            self.hash.update(&chunk[..taken]);
            self.source.consume(taken);
            self.written += taken as u64;
            again = true;
        }
        if report.connected.is_some() && self.source.is_empty() && socket.may_send() {
            socket.close();
            again = true;
        }
        let acknowledged = self.written - socket.send_queue() as u64;
        // A socket that was reset has forgotten its unacknowledged bytes.
        if socket.state() != State::Closed && acknowledged > report.acknowledged {
            report.longest_stall = report.longest_stall.max(now - self.progress);
            report.acknowledged = acknowledged;
            self.progress = now;
        }
        while socket.can_recv() {
            again = true;
            let read = socket.recv(|data| {
                self.answer.extend_from_slice(data);
                (data.len(), ())
            });
            debug_assert!(read.is_ok(), "can_recv said so");
        }
        if self.answer.len() >= SHA256.output_len() {
            let right = self.hash.clone().finish().as_ref() == self.answer;
            report.completed = Some(now);
            report.result = Some(if right { Ok(()) } else { Err(TransferError::WrongHash) });
        } else if !socket.is_open() || !(socket.may_recv() || socket.may_send() || report.connected.is_none()) {
            let error = match report.connected {
                Some(_) => TransferError::Broken,
                None if now - began >= Duration::from(SILENCE) => TransferError::NoAnswer,
                None => TransferError::Refused,
            };
            report.result = Some(Err(error));
        }
        if self.source.is_empty() || report.result.is_some() {
            self.resumes = None;
        }
        if report.result.is_some() {
            stack.retire(self.handle);
            again = true;
        }
        again
    }

    /// When a paced application has something to write again.
    pub(in crate::host) fn deadline(&self) -> Option<Instant> {
        self.resumes
    }
}

/// The bytes of a transfer: blocks of pseudo-random bytes.
struct Source {
    content: Content,
    rng: ChaCha8Rng,
    /// Bytes not yet generated.
    left: u64,
    ready: VecDeque<u8>,
}

impl Source {
    const BLOCK: usize = 4096;

    fn new(transfer: &Transfer, content: Content) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(transfer.seed);
        Self { content, rng, left: transfer.bytes, ready: VecDeque::new() }
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.left == 0
    }

    /// The next bytes; empty only at the end.
    fn peek(&mut self) -> &[u8] {
        if self.ready.is_empty() {
            let mut block = [0; Self::BLOCK];
            self.rng.fill_bytes(&mut block);
            if self.content == Content::Marked {
                block[..MARKER.len()].copy_from_slice(&MARKER);
            }
            let len = usize::try_from(self.left).map_or(Self::BLOCK, |left| left.min(Self::BLOCK));
            self.left -= len as u64;
            self.ready.extend(&block[..len]);
        }
        self.ready.as_slices().0
    }

    fn consume(&mut self, len: usize) {
        self.ready.drain(..len);
    }
}
