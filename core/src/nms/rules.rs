//! Applies the access rules, and their changes.

use std::collections::BTreeMap;

use super::Nms;
use super::access::Judged;
use crate::message::AccessRules;
use crate::name::{Fqdn, NodeId};
use crate::rules::{Permissions, Roles, Rules};
use crate::time::Instant;

impl Nms {
    /// Whether the access rules forbid a registered node to talk with the node of that name.
    pub(super) fn forbids(&self, node: NodeId, peer: &Fqdn) -> bool {
        if self.rules.is_open() || defect!(RulesUnasked) {
            return false;
        }
        // A node that is not registered gets no answer about peers. It asks again when it is registered.
        let Some(registration) = self.nodes.get(&node) else { return true };
        !self.rules.may_meet(&self.rules.roles(&registration.name), &self.rules.roles(peer))
    }

    /// The peer's name, if the access rules forbid a registered node to talk with it.
    pub(super) fn forbidden_name(&self, node: NodeId, peer: NodeId) -> Option<Fqdn> {
        if self.rules.is_open() {
            return None;
        }
        self.name_of(peer).filter(|name| self.forbids(node, name))
    }

    pub(super) fn name_of(&self, node: NodeId) -> Option<Fqdn> {
        let registered = self.nodes.get(&node).map(|registration| registration.name.clone());
        registered.or_else(|| self.store.device(node).ok().flatten().map(|device| device.name))
    }

    /// Gives the present rules a serial number above all earlier ones, those of earlier runs of this NMS included.
    pub(super) fn count_rules(&mut self, now: Instant) {
        if self.rules_serial.is_none() && self.rules.are_set() {
            self.rules_serial = Some(self.epochs.next(now));
        }
    }

    /// What two nodes may open to each other, from the view of `own`. `None` if no rules are set.
    pub(super) fn permissions(&self, own: &Fqdn, peer: &Fqdn) -> Option<Permissions> {
        let serial = self.rules_serial?;
        Some(self.rules.permissions(serial, &self.rules.roles(own), &self.rules.roles(peer)))
    }

    /// Tells a registered node what it and a peer may open to each other, if rules are set.
    pub(super) fn tell_permissions(&mut self, now: Instant, node: NodeId, peer: &Fqdn) {
        self.count_rules(now);
        let Some(own) = self.nodes.get(&node).map(|registration| registration.name.clone()) else { return };
        if let Some(permissions) = self.permissions(&own, peer) {
            self.tell_rules(now, node, AccessRules { peer: peer.clone(), permissions });
        }
    }

    /// Replaces the access rules. Every pair of nodes that were directed to each other is judged again, and every route
    /// construction under way.
    pub(super) fn change_rules(&mut self, now: Instant, rules: Rules) {
        if rules == self.rules {
            return;
        }
        let old = std::mem::replace(&mut self.rules, rules);
        self.rules_serial = None;
        self.count_rules(now);
        if defect!(RuleChangeUntold | RulesUnasked) {
            return;
        }
        let serial = self.rules_serial.unwrap_or_default();
        // Each name is looked up once: the pairs may be many more than the nodes.
        let mut known: BTreeMap<NodeId, Option<(Fqdn, [Roles; 2])>> = BTreeMap::new();
        let mut look_up = |nms: &Self, node: NodeId| {
            let with_roles = |name: Fqdn| (name.clone(), [old.roles(&name), nms.rules.roles(&name)]);
            known.entry(node).or_insert_with(|| nms.name_of(node).map(with_roles)).clone()
        };
        let mut judge = |nms: &Self, own: NodeId, peer: NodeId| {
            let (name, roles) = look_up(nms, peer)?;
            let own = look_up(nms, own).map(|(_, own)| own).unwrap_or_default();
            if !nms.rules.may_meet(&own[1], &roles[1]) {
                return Some(Judged::Forbidden(name));
            }
            let permissions = nms.rules.permissions(serial, &own[1], &roles[1]);
            let is_new = old.permissions(serial, &own[0], &roles[0]) != permissions;
            is_new.then_some(Judged::Permitted(AccessRules { peer: name, permissions }))
        };
        self.void_pending(now, |nms, a, b| matches!(judge(nms, a, b), Some(Judged::Forbidden(_))));
        self.judge_pairs(now, judge);
    }
}
