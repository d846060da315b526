//! Peer Reports: the peers of this node's tunnels, told to the NMS at each registration while there are tunnels.
//!
//! A restarted NMS does not know which nodes it directed to each other. Without the report it could not tell a node
//! that a peer's access has ended.

use std::collections::BTreeMap;

use super::part::{Part, Turn};
use crate::message::{MAX_ADDRESSES, Message, PeerReport};
use crate::name::Fqdn;
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{CLOUD_RETRY, PEER_REPORT_TRIES};
use crate::timing::{Due, Timer};

/// An input of [`Reports`].
pub(super) enum ReportInput {
    /// The node registered, and has tunnels with these peers.
    Registered(Vec<Fqdn>),
    /// The registration is lost.
    Unregistered,
    /// The NMS acknowledged a message.
    Acknowledged(u32),
    /// Time has passed.
    Timeout,
}

/// A Peer Report to send; `count` is the number of its earlier transmissions.
pub(super) struct ReportOutput {
    /// The NMS's acknowledgement repeats it.
    pub(super) transaction: u32,
    /// 0 for the first transmission.
    pub(super) count: u8,
    /// The same bytes at each transmission.
    pub(super) message: Message,
}

/// See the [module](self).
pub(super) struct Reports {
    /// Whether messages to the NMS arrive without being sent again.
    reliable: bool,
    /// Reports that are not acknowledged yet. Each names at most sixteen peers, whose number is limited.
    waiting: BTreeMap<u32, (Message, Backoff)>,
}

impl Reports {
    pub(super) fn new(reliable: bool) -> Self {
        Self { reliable, waiting: BTreeMap::new() }
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, retry)| retry.next).min()
    }
}

impl Part for Reports {
    type Input = ReportInput;
    type Output = ReportOutput;

    fn handle(&mut self, turn: &mut Turn<'_, ReportOutput>, input: ReportInput) {
        match input {
            ReportInput::Registered(peers) => {
                self.waiting.clear();
                for peers in peers.chunks(MAX_ADDRESSES) {
                    let transaction = turn.random.u32();
                    let message = Message::PeerReport(PeerReport { peers: peers.to_vec() });
                    if !self.reliable {
                        self.waiting.insert(transaction, (message.clone(), Backoff::start(turn.now, CLOUD_RETRY)));
                    }
                    turn.push(ReportOutput { transaction, count: 0, message });
                }
            }
            ReportInput::Unregistered => self.waiting.clear(),
            ReportInput::Acknowledged(transaction) => {
                self.waiting.remove(&transaction);
            }
            ReportInput::Timeout => {
                self.waiting.retain(|_, (_, retry)| retry.next > turn.now || retry.sent < PEER_REPORT_TRIES);
                for (&transaction, (message, retry)) in &mut self.waiting {
                    if retry.next <= turn.now {
                        turn.push(ReportOutput { transaction, count: retry.sent, message: message.clone() });
                        retry.again(turn.now);
                    }
                }
            }
        }
    }

    fn next_timer(&self) -> Option<Due> {
        self.next().map(|at| Timer::PeerReportRetry.at(at))
    }
}
