//! A capture of a running node: every datagram of its UDP ports and every packet of its virtual interface, as one
//! stream of pcapng with the secrets that open it.
//!
//! The node's own loop shows each packet. So a datagram is whole and alone, even if the kernel joins several; its IP
//! header is made anew. A secret has to come before the first packet that needs it. TLS tells the secret while it
//! handles the packet that brought it, so a received packet waits until then.

use std::collections::VecDeque;
use std::io::Write;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::capture::CaptureWriter;
use cyphonic_core::packet;
use tokio::sync::mpsc;

use super::secrets::Kept;
use crate::drive::{self, Passing};

/// Bytes of a capture that may wait for its reader. A slower reader loses packets. It never loses secrets, because
/// later packets could not be decrypted without them.
const WAITING_BYTES: usize = 16 << 20;
/// Pieces in which these bytes wait. After that the last piece grows.
const WAITING: usize = 1024;
/// The interfaces in the file.
const UNDERLAY: u32 = 0;
const INSIDE: u32 = 1;

/// A capture that is running.
pub(super) struct Capture {
    writer: CaptureWriter<Vec<u8>>,
    secrets: Arc<Kept>,
    seen: usize,
    /// The packet that was received last.
    held: Option<(u32, Duration, Vec<u8>)>,
    to: mpsc::Sender<Vec<u8>>,
    /// The lengths of the pieces that were sent last. Some of them still wait.
    lengths: VecDeque<usize>,
    /// Their sum.
    sent: usize,
    lost: u64,
}

impl Capture {
    /// Begins a capture. The client reads from the receiver, and closes it to end the capture.
    pub(super) fn begin(title: &str, tun: &str, secrets: Arc<Kept>) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (to, from) = mpsc::channel(WAITING);
        let program = concat!("cyphonic ", env!("CARGO_PKG_VERSION"));
        let writer =
            CaptureWriter::new(Vec::new(), title, program, ["underlay", tun]).expect("memory takes everything");
        let mut capture = Self { writer, secrets, seen: 0, held: None, to, lengths: VecDeque::new(), sent: 0, lost: 0 };
        capture.flush();
        (capture, from)
    }

    /// Takes a packet that passes.
    pub(super) fn take(&mut self, passing: &Passing<'_>) {
        self.release();
        let datagram = |from: SocketAddr, to: SocketAddr, payload: &[u8]| packet::build_udp(from, to, payload);
        let (interface, whole, came_in) = match passing {
            Passing::Received { local, remote, payload } => (UNDERLAY, datagram(*remote, *local, payload), true),
            Passing::Sent { local, remote, payload } => (UNDERLAY, datagram(*local, *remote, payload), false),
            Passing::FromTun(packet) => (INSIDE, Some(packet.to_vec()), true),
            Passing::ToTun(packet) => (INSIDE, Some(packet.to_vec()), false),
        };
        let Some(whole) = whole else { return };
        self.held = Some((interface, drive::since_epoch(), whole));
        if !came_in {
            self.release();
        }
    }

    /// Sends what is ready. False if the reader has closed.
    pub(super) fn flush(&mut self) -> bool {
        self.release();
        match self.to.try_reserve() {
            Ok(place) => {
                let piece = mem::take(self.writer.get_mut());
                if !piece.is_empty() {
                    self.lengths.push_back(piece.len());
                    self.sent += piece.len();
                    place.send(piece);
                }
                true
            }
            // The piece waits, and grows.
            Err(mpsc::error::TrySendError::Full(())) => true,
            Err(mpsc::error::TrySendError::Closed(())) => false,
        }
    }

    /// The bytes that wait for the reader.
    fn waiting(&mut self) -> usize {
        let pieces = self.to.max_capacity() - self.to.capacity();
        self.sent -= self.lengths.drain(..self.lengths.len().saturating_sub(pieces)).sum::<usize>();
        self.sent + self.writer.get_mut().len()
    }

    /// Writes the packet that was held, after the secrets that came since.
    fn release(&mut self) {
        let Some((interface, at, packet)) = self.held.take() else { return };
        let (lines, seen) = self.secrets.since(self.seen);
        self.seen = seen;
        let is_full = self.waiting() > WAITING_BYTES;
        if is_full {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                tracing::warn!(packets = self.lost, "the capture's reader is too slow: packets are missing in it");
            }
        }
        let mut write = || {
            if !lines.is_empty() {
                self.writer.secrets(&lines)?;
            }
            if is_full { Ok(()) } else { self.writer.packet(interface, at, &packet, None) }
        };
        write().expect("memory takes everything");
        let _ = self.writer.get_mut().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::secrets;
    use super::*;

    #[test]
    fn a_secret_comes_before_the_packet_that_brought_it_and_a_reader_that_is_gone_ends_the_capture() {
        let (log, kept) = secrets::listen(None, true).unwrap();
        let (mut capture, mut reader) = Capture::begin("a", "tun", kept.unwrap());
        let [local, remote]: [SocketAddr; 2] = ["192.0.2.1:443", "192.0.2.2:443"].map(|text| text.parse().unwrap());
        capture.take(&Passing::Received { local, remote, payload: b"server hello" });
        log.unwrap().log("LABEL", &[1], &[2]);
        capture.take(&Passing::ToTun(b"inside"));
        assert!(capture.flush());
        let mut file = reader.try_recv().unwrap();
        file.extend(reader.try_recv().unwrap());
        let at = |what: &[u8]| file.windows(what.len()).position(|window| window == what).unwrap();
        assert!(at(b"LABEL 01 02") < at(b"server hello") && at(b"server hello") < at(b"inside"));
        drop(reader);
        capture.take(&Passing::FromTun(b"more"));
        assert!(!capture.flush());
    }

    #[test]
    fn a_reader_that_does_not_read_costs_bounded_memory_and_loses_packets_but_no_secret() {
        let (log, kept) = secrets::listen(None, true).unwrap();
        let (mut capture, mut reader) = Capture::begin("a", "tun", kept.unwrap());
        let packet = vec![b'x'; 60_000];
        for _ in 0..2 * WAITING_BYTES / packet.len() {
            capture.take(&Passing::ToTun(&packet));
            assert!(capture.flush());
        }
        assert!(capture.lost > 0);
        log.unwrap().log("LABEL", &[1], &[2]);
        capture.take(&Passing::ToTun(b"first of those that are lost"));
        assert!(capture.flush());
        let mut file = Vec::new();
        while let Ok(piece) = reader.try_recv() {
            file.extend(piece);
        }
        let has = |file: &[u8], what: &[u8]| file.windows(what.len()).any(|window| window == what);
        assert!(file.len() < WAITING_BYTES + 2 * packet.len(), "{}", file.len());
        assert!(has(&file, b"LABEL 01 02") && !has(&file, b"first of those that are lost"));
        capture.take(&Passing::ToTun(b"there is room again"));
        assert!(capture.flush() && has(&reader.try_recv().unwrap(), b"there is room again"));
    }
}
