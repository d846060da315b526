//! Packets ahead of the Tunnel Response (`signaling = "fast"`).
//!
//! When the dialer sends its Tunnel Request, the handshake has shown that the peer is there, and is the one that the
//! NMS named. So the dialer's packets follow the request at once, on the same connection. The listener accepts none of
//! them before it has a Route Direction that names the dialer, and the Tunnel Request for it. Until then it holds them,
//! within limits.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Owner, Proposed};
use crate::event::DropReason;
use crate::machine::Output;
use crate::node::carriage::CarriageOutput;
use crate::node::part::TunnelId;
use crate::node::routes::has_room;
use crate::quic::LinkId;
use crate::signaling::Signaling;

/// The packets that came before the listener may accept them, in the order of arrival.
#[derive(Default)]
pub(super) struct Ahead {
    frames: VecDeque<Frame>,
    bytes: usize,
}

/// A packet, as it came.
enum Frame {
    /// On the stream.
    Packet(Bytes),
    /// In a DATAGRAM frame, whose framing the Tunnel Request tells.
    Datagram(Bytes),
}

impl Ahead {
    pub(super) fn packet(&mut self, packet: Bytes) -> Result<(), DropReason> {
        self.push(packet.len(), Frame::Packet(packet))
    }

    pub(super) fn datagram(&mut self, data: Bytes) -> Result<(), DropReason> {
        self.push(data.len(), Frame::Datagram(data))
    }

    fn push(&mut self, len: usize, frame: Frame) -> Result<(), DropReason> {
        if !has_room(self.frames.len(), self.bytes, len) {
            return Err(DropReason::QueueFull);
        }
        self.bytes += len;
        self.frames.push_back(frame);
        Ok(())
    }

    /// The packets in order. `open` extracts the packet from a DATAGRAM frame.
    fn packets(
        self,
        open: impl Fn(Bytes) -> Result<Bytes, DropReason>,
    ) -> impl Iterator<Item = Result<Bytes, DropReason>> {
        self.frames.into_iter().map(move |frame| match frame {
            Frame::Packet(packet) => Ok(packet),
            Frame::Datagram(data) => open(data),
        })
    }
}

impl Proposed {
    /// The dialer's Tunnel Request is under way to an authenticated peer.
    pub(super) fn ready(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get(&id).filter(|tunnel| tunnel.signaling == Signaling::Fast) else { return };
        if tunnel.dialer {
            self.out.push_back(CarriageOutput::TunnelReady(id));
        }
    }

    /// A packet for a tunnel came on a link that a peer opened, before the tunnel exists.
    pub(super) fn hold_ahead(&mut self, link: LinkId, hold: impl FnOnce(&mut Ahead) -> Result<(), DropReason>) {
        let Some(Owner::Inbound(inbound)) = self.owners.get_mut(&link) else {
            return self.dropped(DropReason::Unexpected);
        };
        if let Err(reason) = hold(&mut inbound.ahead) {
            self.dropped(reason);
        }
    }

    /// A link is closed. The packets that came ahead on it are dropped.
    pub(super) fn lose_ahead(&mut self, ahead: &Ahead) {
        for _ in 0..ahead.frames.len() {
            self.dropped(DropReason::NoTunnel);
        }
    }

    /// The tunnel is up. Accepts the packets that came ahead of the Tunnel Request.
    pub(super) fn take_ahead(&mut self, id: TunnelId, ahead: Ahead) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let mut bad = Vec::new();
        let packets = ahead.packets(|data| tunnel.carrier.open(data));
        let packets = packets.filter_map(|packet| packet.map_err(|reason| bad.push(reason)).ok()).collect();
        self.take_packets(id, packets, bad);
    }

    /// A packet on a link that no Route Direction has announced.
    pub(super) fn on_unannounced(&mut self, link: LinkId, packet: Bytes, is_datagram: bool) {
        if defect!(AheadUnchecked) {
            return self.out.push_back(CarriageOutput::Pass(Output::from(packet)));
        }
        self.hold_ahead(link, |ahead| if is_datagram { ahead.datagram(packet) } else { ahead.packet(packet) });
    }
}
