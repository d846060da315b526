//! Links that peers open: each waits for the Route Direction that announces its peer, and for the Tunnel Request.

use super::ahead::Ahead;
use super::tunnel::Path;
use super::{Owner, Proposed};
use crate::event::{DropReason, Failure};
use crate::header::{Flags, Header};
use crate::message::{Message, TunnelRequest};
use crate::name::{Fqdn, Party};
use crate::quic::LinkId;
use crate::time::Instant;
use crate::timing::node::EARLY_LINK_TIMEOUT;

/// Most inbound links that wait until the NMS announces their peer; and most of one peer, which may dial several
/// addresses at once.
const MAX_EARLY: usize = 64;
const MAX_EARLY_OF_ONE: usize = 4;
/// A link that a peer opened.
pub(super) struct Inbound {
    names: Vec<Fqdn>,
    early: Option<Early>,
    /// What came before a Route Direction and the Tunnel Request for it.
    pub(super) ahead: Ahead,
}

/// A Tunnel Request that came before the Route Direction that announces it.
struct Early {
    transaction: u32,
    flags: Flags,
    request: TunnelRequest,
}

impl Proposed {
    pub(super) fn no_longer_inbound(&mut self, link: LinkId) {
        self.inbound.remove(&link);
        self.inbound_timers.set(link, None);
    }

    /// A peer opened a link. Its Tunnel Request will follow; it is answered once the NMS announces the peer.
    pub(super) fn on_inbound(&mut self, now: Instant, link: LinkId, names: Vec<Fqdn>) {
        let same = |l: &&LinkId| matches!(self.owners.get(*l), Some(Owner::Inbound(other)) if other.names == names);
        if self.inbound.iter().filter(same).count() >= MAX_EARLY_OF_ONE
            && let Some(&oldest) = self.inbound.iter().find(same)
        {
            self.close(now, oldest);
        }
        if self.inbound.len() >= MAX_EARLY {
            self.dropped(DropReason::Limit);
            return self.close(now, link);
        }
        self.inbound.insert(link);
        self.inbound_timers.set(link, Some(now + EARLY_LINK_TIMEOUT));
        self.owners.insert(link, Owner::Inbound(Inbound { names, early: None, ahead: Ahead::default() }));
    }

    /// A message on a link that a peer opened.
    pub(super) fn on_inbound_message(&mut self, now: Instant, link: LinkId, header: &Header, message: Message) {
        let Some(Owner::Inbound(inbound)) = self.owners.get_mut(&link) else { return };
        let Message::TunnelRequest(request) = message else { return self.dropped(DropReason::Unexpected) };
        if (!inbound.names.contains(&request.from) && !defect!(DialerUnchecked)) || request.to != self.name {
            self.dropped(DropReason::WrongIdentity);
            return self.close(now, link);
        }
        let from = request.from.clone();
        inbound.early = Some(Early { transaction: header.transaction, flags: header.flags, request });
        self.lost_by(now, &from, header.transaction);
        self.serve_early(now, &from);
    }

    /// Answers the Tunnel Request of a peer that the NMS announced, if it has come. A request for another Route
    /// Direction is not answered: the peer forgets that link when it obeys this direction.
    pub(super) fn serve_early(&mut self, now: Instant, from: &Fqdn) {
        let Some(id) = self.expected.tunnel_of(from) else { return };
        let transaction = self.tunnels[&id].transaction;
        let asked = |link: &&LinkId| {
            let Some(Owner::Inbound(Inbound { early: Some(early), .. })) = self.owners.get(*link) else { return false };
            early.request.from == *from && early.transaction == transaction
        };
        let Some(&link) = self.inbound.iter().rev().find(asked) else { return };
        self.no_longer_inbound(link);
        let Some(Owner::Inbound(Inbound { early: Some(early), ahead, .. })) =
            self.owners.insert(link, Owner::Direct(id))
        else {
            return;
        };
        self.expected.end(from);
        if self.tunnels[&id].contradicts(self.of(link).peer_addresses(link)) {
            self.lose_ahead(&ahead);
            return self.refuse_addresses(now, id);
        }
        self.adopt_framing(id, early.request.framing);
        let path = self.tunnels[&id].outbound.0;
        let to = Party::Node(from.clone());
        self.agree(id, early.flags);
        let flags = self.agreed(id);
        self.send_flagged(now, link, to, (early.transaction, flags), path, &Message::TunnelResponse);
        self.up(now, id, Path::Direct(link));
        self.take_ahead(id, ahead);
    }

    /// The peer dials for a Route Direction that we took as more addresses of a tunnel that is up. So the peer has lost
    /// that tunnel. Its request waits for the Route Direction that `routes` asks for now.
    fn lost_by(&mut self, now: Instant, peer: &Fqdn, transaction: u32) {
        let Some(standing) = self.standing(now, peer) else { return };
        if self.tunnels[&standing].merged == Some(transaction) {
            self.fail(now, standing, Failure::ConnectionLost);
        }
    }
}
