//! Ends the access of nodes of the conventional method when the certificates of their logins end.
//!
//! Nodes of the conventional method see no certificates of each other, so only the NMS can end their tunnels. It must
//! not wait for a message of the node itself: a node that wants to keep its tunnels would send none. So the NMS watches
//! the end of each login, also when the node's registration is over, and when the node is known only from the Peer
//! Report or the Grant Request of its peer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::registry::Session;
use super::{MAX_HOLDERS, Nms};
use crate::name::{Fqdn, NodeId};
use crate::time::Instant;
use crate::timing::quic::{CERTIFICATE_LOOK, CERTIFICATE_WAIT};
use crate::timing::{Due, Timer};
use crate::tls;

/// The ends of logins (conventional method), as times since 1970.
#[derive(Default)]
pub(super) struct Lapses {
    by_end: BTreeSet<(Duration, NodeId)>,
    by_node: BTreeMap<NodeId, (Duration, Fqdn)>,
    /// When the clock is compared with the earliest end.
    look: Option<Instant>,
}

impl Lapses {
    pub(super) fn count(&self) -> usize {
        self.by_node.len()
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Due> {
        self.look.map(|at| Timer::LoginLapse.at(at))
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some((ends, _)) = self.by_node.remove(&node) {
            self.by_end.remove(&(ends, node));
        }
    }

    fn note(&mut self, node: NodeId, name: Fqdn, ends: Duration) {
        self.forget(node);
        if self.by_node.len() < MAX_HOLDERS {
            self.by_end.insert((ends, node));
            self.by_node.insert(node, (ends, name));
        }
    }
}

impl Nms {
    /// Watches the end of a node's last login. `None`: it has none.
    pub(super) fn watch_login(&mut self, now: Instant, node: NodeId, name: &Fqdn, ends: Option<Duration>) {
        match ends {
            Some(ends) => self.lapses.note(node, name.clone(), ends),
            None => self.lapses.forget(node),
        }
        self.set_look(now);
    }

    /// As [`Self::watch_login`], for a peer that is not registered, by the store. A registered node is watched already.
    pub(super) fn watch_login_of(&mut self, now: Instant, node: NodeId, name: &Fqdn) {
        if self.nodes.contains_key(&node) {
            return;
        }
        if let Ok(Some(ends)) = self.store.common_key_ends(node) {
            self.watch_login(now, node, name, Some(ends));
        }
    }

    fn set_look(&mut self, now: Instant) {
        let Some(&(ends, _)) = self.lapses.by_end.first() else {
            self.lapses.look = None;
            return;
        };
        let left = ends.saturating_sub(tls::judging(&*self.clock)).clamp(CERTIFICATE_WAIT, CERTIFICATE_LOOK);
        let look = now + left;
        self.lapses.look = Some(self.lapses.look.map_or(look, |before| before.min(look)));
    }

    /// Ends the access of each node whose login has ended.
    pub(super) fn end_lapsed(&mut self, now: Instant) {
        if self.lapses.look.is_none_or(|look| now < look) {
            return;
        }
        let time = tls::judging(&*self.clock);
        let mut failed = Vec::new();
        while let Some(&(ends, node)) = self.lapses.by_end.first().filter(|(ends, _)| *ends <= time) {
            let Some((_, name)) = self.lapses.by_node.get(&node).cloned() else { break };
            self.lapses.forget(node);
            let session = self.nodes.get(&node).map(|registration| &registration.session);
            if matches!(session, Some(Session::Proposed { .. }))
                || defect!(LapsedLoginKept)
                || defect!(SilentLapseMissed)
            {
                continue;
            }
            match self.store.common_key_ends(node) {
                Ok(Some(later)) if later > time => self.lapses.note(node, name, later),
                Ok(Some(_)) => self.end_access(now, &name),
                Ok(None) => {}
                // A database that fails ends nobody's access.
                Err(_) => failed.push((node, name, ends)),
            }
        }
        self.lapses.look = None;
        let has_failed = !failed.is_empty();
        for (node, name, ends) in failed {
            self.lapses.note(node, name, ends);
        }
        if has_failed {
            self.lapses.look = Some(now + CERTIFICATE_LOOK);
        } else {
            self.set_look(now);
        }
    }
}
