//! The list of registered nodes, for an operator.

use std::net::SocketAddr;

use super::Nms;
use super::registry::Session;
use crate::method::Method;
use crate::name::{Fqdn, NodeId};
use crate::time::Instant;
use crate::timing::nms::REGISTRATION_SILENCE;

/// A node that is registered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: Fqdn,
    /// The method by which it registered.
    pub method: Method,
    /// The address at which the NMS sees the node. `None` if its connection has just ended.
    pub remote: Option<SocketAddr>,
    /// When the NMS heard it last.
    pub heard_at: Option<Instant>,
    /// Another machine with the node's name and key that the NMS refused: where it saw that one, and when.
    pub other: Option<(SocketAddr, Instant)>,
}

impl Nms {
    /// Every registered node, in the order of their ids.
    pub fn registered(&self) -> impl Iterator<Item = Registered> {
        self.nodes.iter().map(|(&node, registration)| {
            let (method, remote, heard_at) = match &registration.session {
                Session::Conventional(sealed) => {
                    // The registration of a silent node ends `REGISTRATION_SILENCE` after the node was heard last.
                    let ends = self.expiry.at(node).map(|ends| ends - Instant::ZERO);
                    let heard = ends.and_then(|ends| ends.checked_sub(REGISTRATION_SILENCE));
                    (Method::Conventional, Some(sealed.remote), heard.map(|heard| Instant::ZERO + heard))
                }
                Session::Proposed { link } => (Method::Proposed, self.links.remote(*link), self.links.heard_at(*link)),
            };
            let other = registration.others.refused();
            Registered { node, name: registration.name.clone(), method, remote, heard_at, other }
        })
    }
}
