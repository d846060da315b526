//! Answers of a listener that come from another port than the dialed one.
//!
//! A NAT whose mapping depends on the destination sends a listener's answers from a port that nobody announced. quinn's
//! client drops them: in QUIC a server does not move (RFC 9000 §9). So they are handed to it as coming from where it
//! dialed. The packet protection decides whether they are the listener's, as a peer-reflexive candidate of ICE has to
//! prove itself (RFC 8445 §7.3.1.3). The dialer goes on sending to the port that it dialed.
//!
//! That a listener answers from elsewhere is learnt during the handshake. Of such a listener later ports are accepted
//! as well, because its NAT may give its answers another mapping whenever it forgets one. Of all others none is: a path
//! that works in one direction only, because a NAT has forgotten the dialed mapping, must not look alive.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::counts::heard;
use super::{Link, LinkId, Links};
use crate::name::RelayCid;
use crate::quic::cid::{MOST_MINTED, destination_prefix};
use crate::route::answers_for;

/// Where a dialed listener answers from.
pub(super) struct Answers {
    dialed: SocketAddr,
    /// Another place, if it is not there.
    elsewhere: Option<SocketAddr>,
    /// Our connection IDs on this link.
    ids: VecDeque<RelayCid>,
}

impl Links {
    /// A link to a peer was dialed: its listener may answer from elsewhere.
    pub(super) fn expect_elsewhere(&mut self, id: LinkId, dialed: SocketAddr) {
        if let Some(link) = self.links.get_mut(&id) {
            link.answers = Some(Answers { dialed, elsewhere: None, ids: VecDeque::new() });
        }
        self.note_ids(id);
    }

    /// IDs were minted for this link.
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

    /// IDs of a link that is gone.
    pub(super) fn forget_ids(&mut self, answers: Option<Answers>) {
        for cid in answers.into_iter().flat_map(|answers| answers.ids) {
            self.ids.remove(&cid);
        }
    }

    /// Where quinn has to believe that a datagram from `remote` came from.
    pub(super) fn source_for_quinn(&self, remote: SocketAddr, datagram: &[u8]) -> SocketAddr {
        if self.ids.is_empty() {
            return remote;
        }
        let link = destination_prefix(datagram).and_then(|cid| self.links.get(self.ids.get(&cid)?));
        let Some((link, answers)) = link.and_then(|link| Some((link, link.answers.as_ref()?))) else { return remote };
        let moves = answers.elsewhere.is_some_and(|elsewhere| elsewhere.ip() == remote.ip());
        let good = moves || !link.connected && answers_for(remote, answers.dialed);
        if good { answers.dialed } else { remote }
    }
}

impl Link {
    /// A datagram from `remote` was handed to this link, which had heard so much before.
    pub(super) fn learn_elsewhere(&mut self, remote: SocketAddr, before: u64) {
        if let Some(answers) = self.answers.as_mut().filter(|_| !self.connected)
            && heard(&self.connection) > before
        {
            answers.elsewhere = (remote != answers.dialed).then_some(remote);
        }
    }
}
