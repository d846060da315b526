//! What a link needs whose packets travel on [`crate::paths`]: keys to prove a path with, and what to tell of a switch.
//!
//! Such a link is made with one constant address for its peer. What it sends goes by the path in use, and what comes by
//! any path is handed to it as coming from there.

use std::net::SocketAddr;

use bytes::BytesMut;

use super::counts::heard;
use super::{LinkId, Links};
use crate::paths::probe::{EXPORTER_LABEL, Secret};
use crate::paths::watch::Delivery;
use crate::quic::to_std;
use crate::time::Instant;

impl Links {
    /// The secret of the tunnel's paths. A client has it when its handshake is done, a server when it has read the
    /// client's Finished. Early data never has any.
    pub fn paths_secret(&self, id: LinkId) -> Option<Secret> {
        let link = self.links.get(&id).filter(|link| link.connected && !link.closed)?;
        let mut secret = [0; 32];
        link.connection.crypto_session().export_keying_material(&mut secret, EXPORTER_LABEL, b"").ok()?;
        Some(Secret(secret))
    }

    /// As [`Self::take_datagram`], for a link with paths beneath it. The link, if the datagram was authentic and new:
    /// then it came from the peer. [`Self::finish`] has to follow.
    pub fn take_pathed(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        payload: BytesMut,
    ) -> Option<LinkId> {
        let id = self.take(now, local, remote, payload)?;
        let link = self.links.get_mut(&id)?;
        let frames = heard(&link.connection);
        let before = std::mem::replace(&mut link.pathed, frames);
        (frames > before).then_some(id)
    }

    /// What a link has counted so far.
    pub fn delivery(&self, id: LinkId) -> Option<Delivery> {
        let path = self.links.get(&id)?.connection.stats().path;
        Some(Delivery { sent: path.sent_packets, lost: path.lost_packets, mtu: path.current_mtu })
    }

    /// Round trip, MTU and congestion are not what they were. It sends nothing by itself: [`Self::ping`] does.
    pub fn path_changed(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| link.connected && !link.closed) {
            link.connection.path_changed(to_std(now));
            self.drive(now, id);
        }
    }
}
