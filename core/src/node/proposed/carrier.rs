//! How packets of one tunnel are framed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::event::DropReason;
use crate::header::{Flags, HEADER_LEN, Header, Kind, options_len};
use crate::message::Framing;
use crate::name::PathId;
use crate::node::carriage::SendRefused;
use crate::quic::{DatagramRefused, LinkId, Links};
use crate::time::Instant;

/// Every path must take an inner packet of this size (RFC 8200 §5). If a DATAGRAM frame is too small for it, the
/// stream carries it. The stream carries larger packets only while the path's MTU is being discovered.
const MIN_IPV6_MTU: usize = 1280;

/// Packs inner packets of one tunnel into frames, and takes them out.
pub(super) struct Carrier {
    /// The framing that both nodes agreed on.
    pub(super) framing: Framing,
    path: PathId,
    sequence: u32,
    /// How long path MTU discovery may take.
    discovery: Duration,
    /// Until this time path MTU discovery may still find a larger size.
    discovering: Instant,
}

impl Carrier {
    pub(super) fn new(framing: Framing, path: PathId, discovery: Duration) -> Self {
        Self { framing, path, sequence: 0, discovery, discovering: Instant::ZERO }
    }

    /// Path MTU discovery begins.
    pub(super) fn discovers(&mut self, now: Instant) {
        self.discovering = now + self.discovery;
    }

    fn framed(&mut self, packet: &[u8]) -> Bytes {
        self.sequence = self.sequence.wrapping_add(1);
        let header = Header {
            transaction: 0,
            spoken: crate::version::Spoken::FIRST,
            flags: Flags(0),
            kind: Kind::Capsule,
            count: 0,
            sequence: self.sequence,
            length: packet.len() as u16,
            option: 0,
            id: self.path.0,
        };
        let mut frame = BytesMut::with_capacity(HEADER_LEN + packet.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(packet);
        frame.freeze()
    }

    /// Queues one packet on a link.
    pub(super) fn send(
        &mut self,
        now: Instant,
        links: &mut Links,
        link: LinkId,
        packet: Bytes,
    ) -> Result<(), SendRefused> {
        if packet.len() > usize::from(u16::MAX) {
            return Err(SendRefused::TooBig(usize::from(u16::MAX), packet));
        }
        let (queued, overhead) = match self.framing {
            Framing::Udp4501 | Framing::Stream => return self.send_on_stream(now, links, link, &packet),
            Framing::Datagram => (links.queue_datagram(now, link, self.framed(&packet)), HEADER_LEN),
            Framing::Compact => (links.queue_datagram(now, link, packet), 0),
        };
        match queued {
            Ok(()) => Ok(()),
            Err(DatagramRefused::TooLarge(limit, data)) => {
                let packet = data.slice(overhead..);
                if packet.len() <= MIN_IPV6_MTU || now < self.discovering {
                    return self.send_on_stream(now, links, link, &packet);
                }
                Err(SendRefused::TooBig(limit.saturating_sub(overhead).max(MIN_IPV6_MTU), packet))
            }
            Err(DatagramRefused::Full) => Err(SendRefused::Full),
            Err(DatagramRefused::Closed) => Err(SendRefused::NoTunnel),
        }
    }

    fn send_on_stream(
        &mut self,
        now: Instant,
        links: &mut Links,
        link: LinkId,
        packet: &[u8],
    ) -> Result<(), SendRefused> {
        let frame = self.framed(packet);
        if links.send_frame(now, link, frame) { Ok(()) } else { Err(SendRefused::Full) }
    }

    /// The packets in DATAGRAM frames, and why others have none.
    pub(super) fn open_all(&self, mut frames: Vec<Bytes>) -> (Vec<Bytes>, Vec<DropReason>) {
        let mut bad = Vec::new();
        if self.framing != Framing::Compact {
            let packets = frames.into_iter().filter_map(|data| self.open(data).map_err(|reason| bad.push(reason)).ok());
            frames = packets.collect();
        }
        (frames, bad)
    }

    /// The packet in a DATAGRAM frame.
    pub(super) fn open(&self, data: Bytes) -> Result<Bytes, DropReason> {
        if self.framing == Framing::Compact {
            return Ok(data);
        }
        let header = Header::decode(&data).map_err(|_| DropReason::BadHeader)?;
        if header.kind != Kind::Capsule || usize::from(header.length) + HEADER_LEN != data.len() {
            return Err(DropReason::BadLength);
        }
        let options = options_len(header.option, &data[HEADER_LEN..]).ok_or(DropReason::BadPacket)?;
        Ok(data.slice(HEADER_LEN + options..))
    }
}
