//! The way of packets through the node.
//!
//! ```text
//! application ─▶ Inner::destination ─┬─▶ Routes::carry ───────────────▶ Carriage::send_packet
//!                                    ├─▶ RouteInput::Packet: no tunnel is up, or the rules do not let it pass
//!                                    └─▶ InnerInput::Query: to the node's DNS
//! tunnel ──────▶ Routes::arrived ──────▶ Inner::admits ───────────────▶ application
//! ```
//!
//! There are far more packets than anything else, and with a tunnel that is up a packet changes nothing but counts. So
//! the parts are asked about it, and it is no input of theirs.

use bytes::Bytes;

use super::Node;
use super::carriage::SendRefused;
use super::inner::{Destination, InnerInput};
use super::part::TunnelId;
use super::routes::{Carried, RouteInput};
use crate::event::DropReason;
use crate::machine::Output;
use crate::time::Instant;

impl Node {
    /// A packet of an application.
    pub(super) fn on_application(&mut self, now: Instant, packet: Bytes) {
        match self.inner.destination(&packet) {
            Ok(Destination::Peer(to)) => match self.routes.carry(now, to, &packet) {
                Some(carried) => self.send_packet(now, carried, packet),
                None => self.tell_routes(now, RouteInput::Packet { to, packet }),
            },
            Ok(Destination::Dns) => self.tell_inner(now, InnerInput::Query(packet)),
            Err(reason) => self.dropped(reason),
        }
    }

    /// Sends a packet into a tunnel.
    pub(super) fn send_packet(&mut self, now: Instant, Carried { tunnel, watched }: Carried, packet: Bytes) {
        if watched {
            let heard_at = self.carriage.heard_at(tunnel);
            let answer_due = self.carriage.is_answer_due(tunnel);
            self.tell_routes(now, RouteInput::Sending { tunnel, heard_at, answer_due });
        }
        match self.carriage.send_packet(now, tunnel, packet) {
            Ok(()) => {}
            Err(SendRefused::Full) => self.dropped(DropReason::QueueFull),
            Err(SendRefused::NoTunnel) => self.dropped(DropReason::NoTunnel),
            Err(SendRefused::TooBig(limit, packet)) => {
                self.tell_inner(now, InnerInput::TooBig { tunnel, packet, limit });
            }
        }
    }

    /// Packets that came out of a tunnel.
    pub(super) fn on_tunnelled(&mut self, now: Instant, tunnel: TunnelId, packets: Vec<Bytes>) {
        let inner = &self.inner;
        let judge = |addresses, packet: &[u8]| inner.admits(addresses, packet);
        let (packets, bad) = self.routes.arrived(now, tunnel, packets, judge);
        for reason in bad {
            self.dropped(reason);
        }
        if !packets.is_empty() {
            self.out.push_back(Output::Packets(packets));
        }
    }
}
