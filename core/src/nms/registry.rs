//! Who is registered, and where (paper §2.2.1, §3.3.1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Nms, Place};
use crate::conventional::keys::Direction;
use crate::conventional::session::Session as SealedSession;
use crate::event::DropReason;
use crate::header::{Header, Kind};
use crate::message::{ErrorCode, Message, RegistrationRequest, RegistrationResponse};
use crate::name::{Fqdn, NodeId};
use crate::quic::LinkId;
use crate::route::{Network, is_private};
use crate::time::Instant;

/// Most nodes registered at one time.
pub const MAX_NODES: usize = 100_000;
/// A conventional node that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// A registered node.
pub(super) struct Registration {
    pub(super) name: Fqdn,
    pub(super) network: Network,
    pub(super) session: Session,
    /// The last answer, for a repeated request.
    answer: (u32, RegistrationResponse),
}

/// How to reach a registered node.
pub(super) enum Session {
    Conventional { local: SocketAddr, remote: SocketAddr, session: Box<SealedSession>, key: crate::key::Key128 },
    Proposed { link: LinkId },
}

impl Nms {
    /// Opens a sealed message of a node, whose key the registration or else the store has.
    pub(super) fn open_sealed(
        &mut self,
        node: NodeId,
        kind: Kind,
        payload: &mut [u8],
    ) -> Result<(Header, Message), DropReason> {
        // A node that logged in again has a new key: its first message under it is a Registration Request.
        if let Some(registration) = self.nodes.get_mut(&node) {
            let Session::Conventional { session, key, .. } = &mut registration.session else {
                return Err(DropReason::Unexpected);
            };
            let stored = self.store.common_key(node).ok().flatten();
            if stored.as_ref() == Some(key) {
                return session.open_message(payload);
            }
        }
        if kind != Kind::RegistrationRequest {
            return Err(DropReason::UnknownId);
        }
        let key = self.store.common_key(node).ok().flatten().ok_or(DropReason::UnknownId)?;
        SealedSession::new(&key, Direction::FromResponder).open_message(payload)
    }

    pub(super) fn on_registration(
        &mut self,
        now: Instant,
        node: NodeId,
        header: &Header,
        request: &RegistrationRequest,
        place: Place,
    ) {
        if let Some(registration) = self.nodes.get(&node)
            && registration.answer.0 == header.transaction
        {
            let answer = Message::RegistrationResponse(registration.answer.1.clone());
            self.send(now, node, header.transaction, header.count, &answer);
            return;
        }
        // A certificate says who a node is; the database says whether it is one of ours. Nothing else obliges a node to
        // have logged in to the AS.
        let device = self.store.device(node).ok().flatten();
        let name = match place {
            Place::Conventional { .. } => device.map(|d| d.name),
            Place::Proposed { link } => {
                let named = self.link_nodes.get(&link);
                device.filter(|d| d.certificate_login && Some(&d.name) == named).map(|d| d.name)
            }
        };
        let Some(name) = name else { return self.dropped(DropReason::UnknownId) };
        if !self.store.accept_epoch(node, request.epoch).unwrap_or(false) {
            return self.dropped(DropReason::Replayed);
        }
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            return self.dropped(DropReason::Limit);
        }
        let Ok(addresses) = self.store.allocate(&name) else {
            return self.dropped(DropReason::Limit);
        };
        let (observed, session) = match place {
            Place::Conventional { local, remote } => {
                let Some(session) = self.sealed_session(node, (local, remote), header.sequence) else {
                    return self.dropped(DropReason::UnknownId);
                };
                (Some(remote), session)
            }
            Place::Proposed { link } => (self.links.remote(link), Session::Proposed { link }),
        };
        let Some(observed) = observed else { return };
        let (network, nat) = network(request, observed);
        let answer = RegistrationResponse { nat, addresses };
        self.forget_pending_of(node);
        if let Some(Registration { session: Session::Proposed { link: old }, .. }) = self.nodes.get(&node)
            && !matches!(place, Place::Proposed { link } if link == *old)
        {
            let old = *old;
            self.link_nodes.remove(&old);
            self.links.close(now, old);
        }
        if matches!(session, Session::Conventional { .. }) {
            self.expiry.set(node, Some(now + SILENCE));
        }
        self.nodes.insert(node, Registration { name, network, session, answer: (header.transaction, answer.clone()) });
        self.send(now, node, header.transaction, 0, &Message::RegistrationResponse(answer));
    }

    /// The session of a node that registers: the one it has, if its key is the same. A new one knows the number of the
    /// request that it is made for.
    fn sealed_session(
        &mut self,
        node: NodeId,
        (local, remote): (SocketAddr, SocketAddr),
        sequence: u32,
    ) -> Option<Session> {
        let stored = self.store.common_key(node).ok().flatten()?;
        if let Some(Registration { session: Session::Conventional { session, key, .. }, .. }) = self.nodes.remove(&node)
            && key == stored
        {
            return Some(Session::Conventional { local, remote, session, key });
        }
        let session = Box::new(SealedSession::new(&stored, Direction::FromResponder).having_seen(sequence));
        Some(Session::Conventional { local, remote, session, key: stored })
    }

    pub(super) fn on_keep_alive(&mut self, now: Instant, node: NodeId, transaction: u32) {
        if self.send(now, node, transaction, 0, &Message::KeepAliveAck) {
            self.expiry.set(node, Some(now + SILENCE));
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(node) = self.expiry.pop_due(now) {
            self.nodes.remove(&node);
            self.forget_pending_of(node);
        }
    }

    pub(super) fn on_link_closed(&mut self, link: LinkId) {
        let Some(name) = self.link_nodes.remove(&link) else { return };
        let node = NodeId::of(&name);
        if matches!(
            self.nodes.get(&node),
            Some(Registration { session: Session::Proposed { link: l }, .. }) if *l == link
        ) {
            self.nodes.remove(&node);
            self.forget_pending_of(node);
        }
    }

    /// Tells a sender of a message that needs a registration that it has none.
    pub(super) fn refuse_unregistered(&mut self, now: Instant, node: NodeId, transaction: u32) {
        self.send(now, node, transaction, 0, &Message::Error(ErrorCode::NotRegistered));
    }
}

/// What a registration tells of the node's network, and whether there is a NAT before the address that we saw.
///
/// Of the family that the request did not come by nothing was seen; there a private address (RFC 1918, RFC 6598) means
/// a NAT. Our own rule: the paper's nodes have one family.
fn network(request: &RegistrationRequest, observed: SocketAddr) -> (Network, bool) {
    let nat = !request.addresses.contains(&observed.ip()) || observed.port() != request.port;
    let mut network = Network::default();
    for &address in &request.addresses {
        match address {
            IpAddr::V6(v6) if network.v6.is_none() && !v6.is_unique_local() && !v6.is_unicast_link_local() => {
                network.v6 = Some(SocketAddr::new(address, request.port));
            }
            IpAddr::V4(_) if network.v4.is_none() => {
                network.v4 = Some((SocketAddr::new(address, request.port), is_private(address)));
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    if observed.is_ipv4() {
        network.v4 = Some((observed, nat));
    } else if !nat {
        network.v6 = Some(observed);
    }
    (network, nat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(addresses: &[&str]) -> RegistrationRequest {
        RegistrationRequest { epoch: 1, addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), port: 443 }
    }

    #[test]
    fn a_nat_is_seen_when_the_request_comes_from_an_address_that_the_node_does_not_have() {
        let (network, nat) = network(&request(&["192.168.1.2"]), "203.0.113.1:443".parse().unwrap());
        assert!(nat);
        assert_eq!(network.v4, Some(("203.0.113.1:443".parse().unwrap(), true)));
        let (network, nat) = super::network(&request(&["203.0.113.1"]), "203.0.113.1:443".parse().unwrap());
        assert!(!nat);
        assert_eq!(network.v4, Some(("203.0.113.1:443".parse().unwrap(), false)));
    }

    #[test]
    fn a_dual_stack_node_seen_by_ipv6_has_a_nat_where_its_ipv4_address_is_private() {
        let addresses = request(&["2001:db8:1::5", "192.168.1.2"]);
        let (network, nat) = network(&addresses, "[2001:db8:1::5]:443".parse().unwrap());
        assert!(!nat);
        assert_eq!(network.v6, Some("[2001:db8:1::5]:443".parse().unwrap()));
        assert_eq!(network.v4.map(|(_, nat)| nat), Some(true));
    }
}
