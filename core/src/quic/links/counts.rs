//! What quinn's own counters say of a connection.

use quinn_proto::{Connection, FrameStats};

/// How often quinn sent a PATH_CHALLENGE, and how often a probe of the path MTU.
pub(super) fn asked(connection: &Connection) -> (u64, u64) {
    let stats = connection.stats();
    (stats.frame_tx.path_challenge, stats.path.sent_plpmtud_probes)
}

/// Frames received in authentic packets, padding aside.
pub(super) fn heard(connection: &Connection) -> u64 {
    let f = connection.stats().frame_rx;
    f.acks + f.connection_close + eliciting(&f)
}

/// Frames sent that the peer acknowledges (ack-eliciting, RFC 9002 §2).
pub(super) fn asking(connection: &Connection) -> u64 {
    eliciting(&connection.stats().frame_tx)
}

fn eliciting(f: &FrameStats) -> u64 {
    let data = f.stream + f.datagram + f.crypto + f.ack_frequency + f.immediate_ack + f.ping;
    let limits = f.max_data + f.max_stream_data + f.max_streams_bidi + f.max_streams_uni;
    let blocked = f.data_blocked + f.stream_data_blocked + f.streams_blocked_bidi + f.streams_blocked_uni;
    let ids = f.new_connection_id + f.retire_connection_id + f.new_token + u64::from(f.handshake_done);
    let ends = f.reset_stream + f.stop_sending;
    data + limits + blocked + ids + ends + f.path_challenge + f.path_response
}

/// The counts at the time of [`Links::rebind`](super::Links::rebind).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rebound {
    /// PATH_CHALLENGE frames: a peer that sees a new address of ours sends one to validate it.
    pub(super) challenges: u64,
    /// ACK frames, if our address stayed. A peer that sees the same address as before acknowledges, and challenges
    /// nothing.
    pub(super) acks: Option<u64>,
}

impl Rebound {
    /// Whether the peer has seen our present address.
    pub(super) fn is_over(self, received: &FrameStats) -> bool {
        received.path_challenge > self.challenges || self.acks.is_some_and(|acks| received.acks > acks)
    }
}
