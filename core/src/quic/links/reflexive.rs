//! Answers of a listener from another port than the dialed one.
//!
//! A NAT whose mapping depends on the destination sends a listener's answers from a port that nobody announced. quinn's
//! client drops them, because a server does not migrate in QUIC (RFC 9000 §9). So quinn is told that they came from the
//! dialed address. Packet protection decides whether they are the listener's, as a peer-reflexive candidate of ICE has
//! to prove itself (RFC 8445 §7.3.1.3). The dialer goes on sending to the dialed port.
//!
//! The handshake shows whether a listener answers from elsewhere. If it does, later ports of its address are accepted
//! too, because its NAT may give the answers a new mapping after each that it forgets. From other listeners only the
//! dialed port is accepted. A path that works in one direction only, because a NAT has forgotten the dialed mapping,
//! must not look alive.
//!
//! A service has several addresses. A client that moves to a network without the family of the one that it dialed goes
//! on at another one ([`Links::rebind`]). QUIC has this for the server's preferred address only (RFC 9000 §9.6), so
//! quinn is told of the dialed address all the time. Both addresses lead to one endpoint with one key. A client takes
//! packets only from the address that it sends to.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::counts::heard;
use super::{Link, LinkId, Links};
use crate::name::RelayCid;
use crate::quic::cid::{MOST_MINTED, destination_prefix};
use crate::route::answers_for;

/// The addresses that a dialed listener answers from.
pub(super) struct Answers {
    dialed: SocketAddr,
    /// The other source address, if the listener answers from one.
    elsewhere: Option<SocketAddr>,
    /// Our connection IDs on this link.
    ids: VecDeque<RelayCid>,
    /// If a service was dialed: its addresses. It never answers from another port.
    pub(super) places: Vec<SocketAddr>,
}

impl Links {
    /// Notes that a link to a peer was dialed, whose listener may answer from another port.
    pub(super) fn expect_elsewhere(&mut self, id: LinkId, dialed: SocketAddr) {
        self.expect_at(id, dialed, &[]);
    }

    /// Notes that a service was dialed which has these addresses.
    pub(super) fn expect_at(&mut self, id: LinkId, dialed: SocketAddr, places: &[SocketAddr]) {
        if let Some(link) = self.links.get_mut(&id) {
            let places = places.to_vec();
            link.answers = Some(Answers { dialed, elsewhere: None, ids: VecDeque::new(), places });
        }
        self.note_ids(id);
    }

    /// Notes the connection IDs that were issued for this link. Each new link needs it: IDs that nobody notes would
    /// count as those of the next peer that is dialed.
    pub(super) fn note_ids(&mut self, id: LinkId) {
        let minted = std::mem::take(&mut *self.minted.lock().expect("no panic holds this lock"));
        let Some(answers) = self.links.get_mut(&id).and_then(|link| link.answers.as_mut()) else { return };
        for cid in minted {
            self.ids.insert(cid, id);
            answers.ids.push_back(cid);
            if answers.ids.len() > MOST_MINTED
                && let Some(oldest) = answers.ids.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
    }

    /// Forgets the connection IDs of a link that is gone.
    pub(super) fn forget_ids(&mut self, answers: Option<Answers>) {
        for cid in answers.into_iter().flat_map(|answers| answers.ids) {
            self.ids.remove(&cid);
        }
    }

    /// The source address that quinn is told for a datagram from `remote`.
    pub(super) fn source_for_quinn(&self, remote: SocketAddr, datagram: &[u8]) -> SocketAddr {
        if self.ids.is_empty() {
            return remote;
        }
        let link = destination_prefix(datagram).and_then(|cid| self.links.get(self.ids.get(&cid)?));
        let Some((link, answers)) = link.and_then(|link| Some((link, link.answers.as_ref()?))) else { return remote };
        if !answers.places.is_empty() {
            return if link.reached_at == Some(remote) { answers.dialed } else { remote };
        }
        let moves = answers.elsewhere.is_some_and(|elsewhere| elsewhere.ip() == remote.ip());
        let good = moves || !link.connected && answers_for(remote, answers.dialed);
        if good { answers.dialed } else { remote }
    }
}

impl Link {
    /// Learns the source of a datagram that was handed to this link. `before` is what [`heard`] gave before that.
    pub(super) fn learn_elsewhere(&mut self, remote: SocketAddr, before: u64) {
        if let Some(answers) = self.answers.as_mut().filter(|answers| !self.connected && answers.places.is_empty())
            && heard(&self.connection) > before
        {
            answers.elsewhere = (remote != answers.dialed).then_some(remote);
        }
    }

    /// Notes where a datagram arrived, if quinn sees the peer at another address since. `was`: the address before.
    pub(super) fn note_move(&mut self, was: SocketAddr, local: SocketAddr) {
        if self.connection.remote_address() != was {
            self.before = Some((was, std::mem::replace(&mut self.local, local)));
        }
    }

    /// Notes that quinn went back to the address before, because it could not validate this one.
    pub(super) fn return_from(&mut self, unproved: SocketAddr) {
        if let Some((_, local)) = self.before.filter(|(remote, _)| *remote == self.connection.remote_address()) {
            self.before = Some((unproved, std::mem::replace(&mut self.local, local)));
        }
    }

    /// Our address for packets to an address of the peer. A peer that changes its address may change the family, and
    /// for a while quinn sends to both addresses (RFC 9000 §9.3.3).
    pub(super) fn local_for(&self, remote: SocketAddr) -> SocketAddr {
        let before = self.before.filter(|(before, _)| *before == remote && remote != self.connection.remote_address());
        before.map_or(self.local, |(_, local)| local)
    }

    /// The addresses of a packet that quinn sends to `destination`.
    pub(super) fn way_to(&self, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
        let remote = self.reached_at.filter(|_| destination == self.connection.remote_address());
        (self.local_for(destination), remote.unwrap_or(destination))
    }
}
