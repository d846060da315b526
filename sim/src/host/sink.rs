//! The ends of flows: a TCP sink that answers with the hash of the received bytes, and a UDP sink that counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cyphonic_core::time::Instant;
use ring::digest::{Context, SHA256};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::apps::{Arrivals, FlowHeader};
use super::count::{Loss, Losses, count};
use super::ports::{BUFFER, SILENCE, TCP_SINK_PORT};
use super::stack::{TcpStack, remote_of};

/// Most TCP connections that one host's sink serves at once.
pub const SINK_CONNECTION_LIMIT: usize = 256;
/// Most connections, and most UDP flows, that one host's sinks record. Later ones are served but not recorded.
pub const SINK_RECORD_LIMIT: usize = 4096;
/// Most half-open connections.
const BACKLOG: usize = 2;

/// One connection to the TCP sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRecord {
    /// The sender.
    pub remote: SocketAddr,
    /// When the connection was established.
    pub opened: Instant,
    /// Bytes received.
    pub bytes: u64,
    /// Their SHA-256, once the sender has closed its half.
    pub sha256: Option<[u8; 32]>,
    /// When the sender closed its half, or when the connection broke.
    pub closed: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Sinks {
    backlog: Vec<SocketHandle>,
    connections: Vec<Connection>,
    records: Vec<SinkRecord>,
    flows: BTreeMap<(SocketAddr, u64), Arrivals>,
}

struct Connection {
    handle: SocketHandle,
    /// Index of its record, unless there are too many.
    record: Option<usize>,
    hash: Context,
}

impl Sinks {
    pub(super) fn records(&self) -> &[SinkRecord] {
        &self.records
    }

    pub(super) fn flows(&self) -> &BTreeMap<(SocketAddr, u64), Arrivals> {
        &self.flows
    }

    /// Takes a datagram of a flow; false if it is not one, or if there are too many flows.
    pub(super) fn datagram(&mut self, now: Instant, from: SocketAddr, payload: &[u8]) -> bool {
        let Some(header) = FlowHeader::read(payload) else { return false };
        let key = (from, header.flow);
        if self.flows.len() >= SINK_RECORD_LIMIT && !self.flows.contains_key(&key) {
            return false;
        }
        self.flows.entry(key).or_default().note(now, header.sequence)
    }

    /// Serves the TCP connections; true if the stack must be polled again.
    pub(super) fn service(&mut self, now: Instant, stack: &mut TcpStack, losses: &mut Losses) -> bool {
        let mut again = self.accept(now, stack, losses);
        let Self { connections, records, .. } = self;
        connections.retain_mut(|connection| {
            let mut unrecorded = SinkRecord::new(SocketAddr::from(([0; 4], 0)), now);
            let record = match connection.record {
                Some(index) => &mut records[index],
                None => &mut unrecorded,
            };
            let socket = stack.socket(connection.handle);
            while socket.can_recv() {
                again = true;
                record.bytes += socket
                    .recv(|data| {
                        connection.hash.update(data);
                        (data.len(), data.len() as u64)
                    })
                    .unwrap_or(0);
            }
            match socket.state() {
                State::CloseWait => {
                    let digest = connection.hash.clone().finish();
                    let digest: [u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
                    // The hash is the only thing that is ever written, so there is room.
                    let sent = socket.send_slice(&digest);
                    debug_assert_eq!(sent, Ok(digest.len()));
                    record.sha256 = Some(digest);
                }
                State::Established => return true,
                _ => {}
            }
            record.closed = Some(now);
            stack.retire(connection.handle);
            again = true;
            false
        });
        again
    }

    fn accept(&mut self, now: Instant, stack: &mut TcpStack, losses: &mut Losses) -> bool {
        let mut again = false;
        let Self { backlog, connections, records, .. } = self;
        backlog.retain(|&handle| {
            let socket = stack.socket(handle);
            match socket.state() {
                State::Listen | State::SynReceived => true,
                State::Closed => !stack.remove_if_over(handle),
                _ => {
                    again = true;
                    let record = remote_of(socket).filter(|_| records.len() < SINK_RECORD_LIMIT).map(|remote| {
                        records.push(SinkRecord::new(remote, now));
                        records.len() - 1
                    });
                    if record.is_none() {
                        count(losses, Loss::LogFull);
                    }
                    connections.push(Connection { handle, record, hash: Context::new(&SHA256) });
                    false
                }
            }
        });
        while backlog.len() < BACKLOG && backlog.len() + connections.len() < SINK_CONNECTION_LIMIT {
            let handle = stack.listen(TCP_SINK_PORT, BUFFER).expect("a new socket can listen");
            stack.socket(handle).set_timeout(Some(SILENCE));
            backlog.push(handle);
        }
        again
    }
}

impl SinkRecord {
    fn new(remote: SocketAddr, opened: Instant) -> Self {
        Self { remote, opened, bytes: 0, sha256: None, closed: None }
    }
}
