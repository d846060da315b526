//! Links whose packets travel on [`crate::paths`]: the keys for path probes, and what QUIC is told of a switch.
//!
//! QUIC knows one constant address for every peer of such links. What a link sends goes by the path in use. What
//! arrives by any path is handed to the link as coming from the constant address.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::BytesMut;
use quinn_proto::EndpointEvent;

use super::counts::{Rebound, heard};
use super::{FIRST_PATHED, LinkId, LinkOutput, Links, MAX_HALF_OPEN};
use crate::name::{Fqdn, RelayCid};
use crate::paths::probe::{EXPORTER_LABEL, Secret};
use crate::paths::watch::Delivery;
use crate::quic::cid::mark_of;
use crate::quic::{Load, to_std};
use crate::time::Instant;

/// The address of every peer, as QUIC knows it. No packet goes there: the prefix is for documentation only (RFC 5737).
pub(super) const CONSTANT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1));

impl LinkOutput {
    /// The link that an output is about.
    fn link(&self) -> Option<LinkId> {
        match self {
            Self::Connected { link, .. }
            | Self::Pathed(link, _)
            | Self::Followed(link)
            | Self::Frame(link, ..)
            | Self::Datagrams(link, _)
            | Self::Closed(link, _) => Some(*link),
            Self::Transmit(_) | Self::Bare(_) | Self::Dropped(_) => None,
        }
    }
}

impl Links {
    /// The same endpoint, but the packets of its links travel on paths. It gives them out as
    /// [`LinkOutput::Pathed`](super::LinkOutput::Pathed), and takes them by [`Self::hear_datagram`].
    #[must_use]
    pub fn on_paths(mut self) -> Self {
        (self.on_paths, self.next_id) = (true, FIRST_PATHED);
        self
    }

    /// The same endpoint, but it tells datagrams apart that the peer does not answer, on links that were dialed for
    /// messages.
    #[must_use]
    pub fn tell_bare(mut self) -> Self {
        self.tells_bare = true;
        self
    }

    /// The identifier of this link as a leg to a TRS. Both ends draw it from the TLS session (RFC 8446 §7.5), so it
    /// needs no message, and nobody else knows it.
    pub fn relay_cid(&self, id: LinkId) -> Option<RelayCid> {
        let link = self.links.get(&id).filter(|l| l.connected)?;
        if defect!(LegsShareConnectionId) {
            return Some(RelayCid([7; 8]));
        }
        let mut cid = [0; 8];
        link.connection.crypto_session().export_keying_material(&mut cid, b"EXPORTER-cyphonic-relay-cid", b"").ok()?;
        Some(RelayCid(cid))
    }

    /// The first eight bytes of a connection ID of ours, computed from its last eight. A relay needs their place for
    /// the leg.
    pub fn full_cid(&self, datagram: &[u8]) -> Option<RelayCid> {
        let at = if datagram.first()? & 0x80 == 0 { 9..17 } else { 14..22 };
        Some(mark_of(self.marks.as_ref()?, datagram.get(at)?.try_into().ok()?))
    }

    /// As [`Self::connect`], on paths.
    pub fn connect_pathed(&mut self, now: Instant, name: &Fqdn, via: Option<RelayCid>, load: Load) -> Option<LinkId> {
        self.connect(now, CONSTANT, CONSTANT, name, via, load)
    }

    /// Whether there is such a link, open or closed.
    pub fn has(&self, id: LinkId) -> bool {
        self.links.contains_key(&id)
    }

    /// Whether a link's handshake is done and the link is not closed.
    pub fn is_up(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| link.connected && !link.closed)
    }

    /// Forgets every other link at once, without a CONNECTION_CLOSE: no address is left to send one from.
    pub fn abandon_others(&mut self, kept: &[LinkId]) {
        let gone: Vec<LinkId> = self.links.keys().copied().filter(|id| !kept.contains(id)).collect();
        for id in gone {
            let Some(link) = self.forget(id) else { continue };
            self.endpoint.handle_event(link.handle, EndpointEvent::drained());
        }
        self.touched.retain(|id| kept.contains(id));
        self.out.retain(|output| output.link().is_none_or(|link| kept.contains(&link)));
    }

    /// Whether a link goes to this address.
    pub fn leads_to(&self, remote: SocketAddr) -> bool {
        self.links.values().any(|link| link.connection.remote_address() == remote || link.reached_at == Some(remote))
    }

    /// As [`Self::connect`], to a service that has all of these addresses. [`Self::rebind`] may change between them.
    pub fn connect_service(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        places: &[SocketAddr],
        name: &Fqdn,
        load: Load,
    ) -> Option<LinkId> {
        self.dial(now, (local, remote), name, None, load, places)
    }

    /// Tells a link that our network has changed, and with it perhaps its way: our address, and that of the service.
    /// The client of a connection migrates (RFC 9000 §9.2).
    pub fn rebind(&mut self, now: Instant, id: LinkId, (local, remote): (SocketAddr, SocketAddr)) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| link.connected && !link.closed) {
            let stays = std::mem::replace(&mut link.local, local) == local && link.rebound.is_none();
            link.reached_at = Some(remote).filter(|remote| *remote != link.connection.remote_address());
            let frames = link.connection.stats().frame_rx;
            link.rebound = Some(Rebound { challenges: frames.path_challenge, acks: stays.then_some(frames.acks) });
            link.connection.local_address_changed();
            self.drive(now, id);
        }
    }

    /// The source address of a datagram, as QUIC is told: the constant one. An Initial packet keeps its true source
    /// while clients have to validate their addresses (RFC 9000 §8.1.2): the token in it proves that address.
    pub(super) fn stands_for(&self, remote: SocketAddr, payload: &[u8]) -> SocketAddr {
        let presses = self.half_open.count() >= MAX_HALF_OPEN / 2;
        if is_initial(payload) && (presses || has_token(payload)) { remote } else { CONSTANT }
    }

    /// The secret of the tunnel's path probes. A client has it when its handshake is done, a server when it has read
    /// the client's Finished. It never comes from early data.
    pub fn paths_secret(&self, id: LinkId) -> Option<Secret> {
        let link = self.links.get(&id).filter(|link| link.connected && !link.closed)?;
        let mut secret = [0; 32];
        link.connection.crypto_session().export_keying_material(&mut secret, EXPORTER_LABEL, b"").ok()?;
        Some(Secret(secret))
    }

    /// As [`Self::take_datagram`]. Returns the link if the datagram was authentic and new, and so came from the peer.
    /// [`Self::finish`] has to follow.
    pub fn hear_datagram(
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

    /// The packets that QUIC has sent and lost on a link, and its MTU.
    pub fn delivery(&self, id: LinkId) -> Option<Delivery> {
        let path = self.links.get(&id)?.connection.stats().path;
        Some(Delivery { sent: path.sent_packets, lost: path.lost_packets, mtu: path.current_mtu })
    }

    /// Tells QUIC to forget round trip, MTU and congestion window. This sends nothing; [`Self::ping`] does.
    pub fn path_changed(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| link.connected && !link.closed) {
            link.connection.path_changed(to_std(now));
            self.drive(now, id);
        }
    }
}

/// Whether a datagram begins with an Initial packet (RFC 9000 §17.2.2).
pub fn is_initial(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xf0 == 0xc0)
}

/// Whether an Initial packet carries a token.
fn has_token(initial: &[u8]) -> bool {
    let after = |at: usize| initial.get(at).map(|&len| at + 1 + usize::from(len));
    after(5).and_then(after).and_then(|at| initial.get(at)).is_some_and(|&len| len != 0)
}
