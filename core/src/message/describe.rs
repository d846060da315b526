//! What a sequence diagram shows of a message: fields by name, keys by their names in the paper, never a secret.

use super::{Credential, Message, PeerRef, RelayMode, RouteDirection, Want};
use crate::name::Party;

impl Message {
    /// The fields worth showing, as `{ peer: bob }`; empty if there are none. `from` is the sender of this hop.
    pub fn describe(&self, from: &Party) -> String {
        let fields = match self {
            Self::LoginRequest(m) => {
                let credential = match m.credential {
                    Credential::Password(_) => "password",
                    Credential::Certificate => "certificate",
                };
                vec!["device id".to_owned(), credential.to_owned()]
            }
            Self::LoginResponse(m) => {
                // Fig. 2 names the node id, Fig. 6 does not: there the certificate says who the node is.
                let conventional = m.common_key.is_some();
                if let Some(key) = m.common_key.as_ref().filter(|_| defect!(SecretInDiagram)) {
                    return format!("{{ CK: {:?} }}", key.0);
                }
                let fields: &[&str] =
                    if conventional { &["node id", "FQDN", "CK", "NMS address"] } else { &["FQDN", "NMS address"] };
                fields.iter().map(|&field| field.to_owned()).collect()
            }
            Self::RegistrationRequest(_) => vec!["real addresses".to_owned(), "port".to_owned()],
            Self::RegistrationResponse(m) => {
                let nat = format!("NAT: {}", if m.nat { "yes" } else { "no" });
                vec![nat, "virtual IPv4".to_owned(), "virtual IPv6".to_owned()]
            }
            Self::DirectionRequest(m) => {
                let peer = match &m.peer {
                    PeerRef::Name(peer) => format!("peer: {}", peer.short()),
                    PeerRef::Virtual(address) => format!("peer: {address}"),
                };
                std::iter::once(peer).chain(want(m.want)).collect()
            }
            Self::ProbeReply { seen } => vec![format!("seen: {seen}")],
            Self::ProbeRequest(m) => vec![format!("to: {}", m.to)],
            Self::NetworkReport(m) => {
                let families = [m.v6.map(|_| "IPv6"), m.v4.map(|_| "IPv4")];
                families.into_iter().flatten().map(str::to_owned).collect()
            }
            Self::RouteDirectionInitiator(m) | Self::RouteDirectionResponder(m) => route_direction(m),
            Self::RouteConfirmation(cid) => cid.iter().map(|_| "CID_B".to_owned()).collect(),
            Self::RelayRequest(_) => vec!["path id".to_owned(), "TK".to_owned()],
            Self::RelayResponse { accepted } => vec![if *accepted { "accepted" } else { "refused" }.to_owned()],
            Self::TunnelRequest(m) => {
                let mut fields = Vec::new();
                fields.extend(m.wrapped_end_key.map(|_| "EK wrapped by MK".to_owned()));
                // The initiator names the responder's leg to the TRS, the TRS the initiator's to the responder.
                let leg = if *from == Party::Trs { "CID_A" } else { "CID_B" };
                fields.extend(m.relay_cid.map(|_| leg.to_owned()));
                fields
            }
            Self::HolePunching => vec!["path id".to_owned()],
            Self::Error(code) => vec![code.text().to_owned()],
            Self::KeepAlive | Self::KeepAliveAck | Self::TunnelResponse | Self::Probe(_) | Self::RelayEpoch { .. } => {
                Vec::new()
            }
        };
        if fields.is_empty() { String::new() } else { format!("{{ {} }}", fields.join(", ")) }
    }
}

/// What is wanted, where it is not just any way.
fn want(want: Want) -> Option<String> {
    match want {
        Want::Any => None,
        Want::Relayed => Some("relayed".to_owned()),
        Want::Direct(attempt) => Some(format!("direct, attempt {}", u16::from(attempt) + 1)),
    }
}

fn route_direction(m: &RouteDirection) -> Vec<String> {
    let mut fields = vec![format!("peer: {}", m.peer.short()), format!("pattern: {}", m.pattern)];
    if m.dial {
        fields.push("dial".to_owned());
    }
    if !m.candidates.is_empty() {
        fields.push("addresses".to_owned());
    }
    fields.push("virtual addresses".to_owned());
    if m.keys.is_some() {
        fields.extend(["TK".to_owned(), "MK".to_owned()]);
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
