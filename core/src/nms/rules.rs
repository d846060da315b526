//! Asks the access rules, and carries their changes out.

use std::collections::BTreeMap;

use super::Nms;
use crate::name::{Fqdn, NodeId};
use crate::rules::{Roles, Rules};
use crate::time::Instant;

impl Nms {
    /// Whether the access rules forbid a registered node to talk with the node of that name.
    pub(super) fn forbids(&self, node: NodeId, peer: &Fqdn) -> bool {
        if self.rules.is_open() || defect!(RulesUnasked) {
            return false;
        }
        // Who is not registered is told nothing, and asks again.
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

    fn name_of(&self, node: NodeId) -> Option<Fqdn> {
        let registered = self.nodes.get(&node).map(|registration| registration.name.clone());
        registered.or_else(|| self.store.device(node).ok().flatten().map(|device| device.name))
    }

    /// Other access rules from now on. Nodes that must not talk any more are told so: both holders of Route Directions,
    /// and initiators that wait for one.
    pub(super) fn change_rules(&mut self, now: Instant, rules: Rules) {
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        if self.rules.is_open() || defect!(RuleChangeUntold) || defect!(RulesUnasked) {
            return;
        }
        // Each name is looked up once: the pairs may be many more than the nodes.
        let mut known: BTreeMap<NodeId, Option<(Fqdn, Roles)>> = BTreeMap::new();
        let mut look_up = |nms: &Self, node: NodeId| {
            let with_roles = |name: Fqdn| (name.clone(), nms.rules.roles(&name));
            let found = || nms.name_of(node).map(with_roles);
            known.entry(node).or_insert_with(found).clone()
        };
        let mut forbidden = |nms: &Self, peer: NodeId, other: NodeId| -> Option<Fqdn> {
            let (name, roles) = look_up(nms, peer)?;
            let is_allowed = look_up(nms, other).is_some_and(|(_, others)| nms.rules.may_meet(&roles, &others));
            (!is_allowed).then_some(name)
        };
        self.void_pending(now, |nms, a, b| forbidden(nms, a, b).is_some());
        self.end_pairs(now, forbidden);
    }
}
