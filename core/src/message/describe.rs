//! The text of a message in a sequence diagram: its fields by name, and keys by their names in the paper. It contains
//! no secret.
//!
//! The table of [`super`] names one of these functions in each row.

use super::{
    AccessEnded, AccessRules, AddressProof, Credential, DirectionRequest, ErrorCode, GrantRequest, LoginRequest,
    LoginResponse, Message, NetworkReport, PeerRef, PeerRestarted, ProbeReply, ProbeRequest, RegistrationResponse,
    RelayGrant, RelayLeg, RelayMode, RelayResponse, RouteConfirmation, RouteDirection, TunnelRequest, Want,
};
use crate::name::Party;

impl Message {
    /// The fields that are shown, such as `{ peer: bob }`. Empty if there are none. `from` is the sender of this hop.
    pub fn describe(&self, from: &Party) -> String {
        let fields = self.shown(from);
        if fields.is_empty() { String::new() } else { format!("{{ {} }}", fields.join(", ")) }
    }
}

/// A description that is the same for every message of a kind.
pub(super) fn words<T>(words: &'static [&'static str]) -> impl Fn(&T, &Party) -> Vec<String> {
    move |_, _| owned(words)
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(super) fn login_request(m: &LoginRequest, _: &Party) -> Vec<String> {
    let credential = match m.credential {
        Credential::Password(_) => "password",
        Credential::Certificate => "certificate",
    };
    owned(&["device id", credential])
}

pub(super) fn login_response(m: &LoginResponse, _: &Party) -> Vec<String> {
    if let Some(key) = m.common_key.as_ref().filter(|_| defect!(SecretInDiagram)) {
        return vec![format!("CK: {:?}", key.0)];
    }
    // Fig. 2 shows the node id. Fig. 6 does not, because there the certificate identifies the node.
    let conventional = m.common_key.is_some();
    owned(if conventional { &["node id", "FQDN", "CK", "NMS address"] } else { &["FQDN", "NMS address"] })
}

pub(super) fn registration_response(m: &RegistrationResponse, _: &Party) -> Vec<String> {
    owned(&[if m.nat { "NAT: yes" } else { "NAT: no" }, "virtual IPv4", "virtual IPv6"])
}

pub(super) fn access_ended(m: &AccessEnded, _: &Party) -> Vec<String> {
    std::iter::once(format!("peer: {}", m.peer.short())).chain(m.why.0.map(|why| why.text().to_owned())).collect()
}

pub(super) fn access_rules(m: &AccessRules, _: &Party) -> Vec<String> {
    vec![
        format!("peer: {}", m.peer.short()),
        format!("may open: {}", m.permissions.out),
        format!("may be sent: {}", m.permissions.back),
    ]
}

pub(super) fn peer_restarted(m: &PeerRestarted, _: &Party) -> Vec<String> {
    vec![format!("peer: {}", m.peer.short())]
}

pub(super) fn direction_request(m: &DirectionRequest, _: &Party) -> Vec<String> {
    let peer = match &m.peer {
        PeerRef::Name(peer) => format!("peer: {}", peer.short()),
        PeerRef::Virtual(address) => format!("peer: {address}"),
    };
    std::iter::once(peer).chain(want(m.want)).collect()
}

/// The kind of route that is asked for. `None` for any.
fn want(want: Want) -> Option<String> {
    match want {
        Want::Any => None,
        Want::Relayed => Some("relayed".to_owned()),
        Want::Direct(attempt) => Some(format!("direct, attempt {}", u16::from(attempt) + 1)),
    }
}

pub(super) fn route_direction(m: &RouteDirection, _: &Party) -> Vec<String> {
    let mut fields = vec![format!("peer: {}", m.peer.short()), format!("pattern: {}", m.pattern)];
    fields.extend(m.permissions.0.as_ref().map(|limits| format!("may open: {}", limits.out)));
    if m.dial {
        fields.push("dial".to_owned());
    }
    if !m.candidates.is_empty() {
        fields.push("addresses".to_owned());
    }
    fields.push("virtual addresses".to_owned());
    if m.keys.is_some() {
        fields.extend(owned(&["TK", "MK"]));
    }
    if let Some(relay) = &m.relay {
        fields.push("TRS address".to_owned());
        if relay.mode == RelayMode::Blind && m.keys.is_none() {
            fields.push("blind".to_owned());
        }
        fields.extend(relay.cid.map(|_| "CID_B".to_owned()));
    }
    fields
}

pub(super) fn route_confirmation(m: &RouteConfirmation, _: &Party) -> Vec<String> {
    m.leg.iter().map(|_| "CID_B".to_owned()).collect()
}

pub(super) fn relay_leg(m: &RelayLeg, _: &Party) -> Vec<String> {
    owned(&[if m.leg.is_some() { "CID" } else { "none" }])
}

pub(super) fn relay_response(m: &RelayResponse, _: &Party) -> Vec<String> {
    owned(&[if m.accepted { "accepted" } else { "refused" }])
}

pub(super) fn tunnel_request(m: &TunnelRequest, from: &Party) -> Vec<String> {
    // The Tunnel Request names the responder's leg on the way to the TRS, and the initiator's leg on the way to the
    // responder.
    let leg = if *from == Party::Trs { "CID_A" } else { "CID_B" };
    let end_key = m.wrapped_end_key.map(|_| "EK wrapped by MK".to_owned());
    end_key.into_iter().chain(m.relay_cid.map(|_| leg.to_owned())).collect()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "every description takes its body by reference")]
pub(super) fn error(code: &ErrorCode, _: &Party) -> Vec<String> {
    owned(&[code.text()])
}

pub(super) fn probe_reply(m: &ProbeReply, _: &Party) -> Vec<String> {
    vec![format!("seen: {}", m.seen)]
}

pub(super) fn relay_grant(m: &RelayGrant, _: &Party) -> Vec<String> {
    // The time is not shown, because an operator sets it, and the simulator has a short one.
    vec![format!("{} to {}", m.from.short(), m.to.short())]
}

pub(super) fn grant_request(m: &GrantRequest, _: &Party) -> Vec<String> {
    vec![format!("peer: {}", m.peer.short())]
}

pub(super) fn probe_token(m: &AddressProof, _: &Party) -> Vec<String> {
    vec![format!("seen: {}", m.seen)]
}

pub(super) fn probe_request(m: &ProbeRequest, _: &Party) -> Vec<String> {
    vec![format!("to: {}", m.to)]
}

pub(super) fn network_report(m: &NetworkReport, _: &Party) -> Vec<String> {
    let families = [m.v6.map(|_| "IPv6"), m.v4.map(|_| "IPv4")];
    families.into_iter().flatten().map(str::to_owned).collect()
}
