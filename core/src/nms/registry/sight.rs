//! What a registration tells about the network of its node.

use std::net::{IpAddr, SocketAddr};

use crate::message::RegistrationRequest;
use crate::proxied::is_guest;
use crate::route::optimal::{Reach, Sight};
use crate::route::{Network, is_private};

/// What a registration tells the optimal policy about the node:
///
/// * its source address, if that is `proved`, and whether a NAT is in front of the node;
/// * its addresses inside its network. No node can prove these, so they are told only to peers that the NMS sees at
///   the same public address. Their port must be `main_port`, or one that no system service has (RFC 6335 §6).
pub(super) fn sight(request: &RegistrationRequest, proved: Option<(SocketAddr, bool)>, main_port: u16) -> Sight {
    let mut sight = Sight::default();
    if proved.is_some_and(|(seen, _)| is_guest(seen.ip())) {
        return sight;
    }
    if let Some((seen, translated)) = proved {
        *sight.family(seen.ip()) = Some(Reach { seen, translated, behaviour: None });
    }
    if request.port == main_port || request.port >= FIRST_USER_PORT {
        let inside = request.addresses.iter().filter(|address| is_somewhere(**address) && is_private(**address));
        sight.inside = inside.map(|&address| SocketAddr::new(address, request.port)).collect();
    }
    sight
}

/// The first port that is not a system port (RFC 6335 §6).
const FIRST_USER_PORT: u16 = 1024;

/// What a registration tells Table 1 about the node's network, and whether a NAT changed the source address.
///
/// The NMS saw no source address in the address family that the request did not use. In that family the node's own
/// statement is only a claim. A claim counts for Table 1, but no peer outside the node's network is told of it. A
/// claimed IPv4 address counts as one behind a NAT, so that the node itself dials. This rule is the project's own: the
/// paper's nodes have one family. `proved`: whether the node is known to be at the address that was seen.
pub(super) fn network(request: &RegistrationRequest, observed: SocketAddr, proved: bool) -> (Network, bool) {
    let nat = !request.addresses.contains(&observed.ip()) || observed.port() != request.port;
    let mut network = Network::default();
    if is_guest(observed.ip()) {
        return (network, nat);
    }
    for &address in request.addresses.iter().filter(|address| is_somewhere(**address)) {
        match address {
            IpAddr::V6(v6) if network.v6.is_none() && !v6.is_unique_local() => {
                network.v6 = Some(SocketAddr::new(address, request.port));
                network.v6_is_claimed = !defect!(NamedAddressBelieved);
            }
            IpAddr::V4(_) if network.v4.is_none() => {
                let nat = is_private(address) || !defect!(NamedAddressBelieved);
                network.v4 = Some((SocketAddr::new(address, request.port), nat));
                network.v4_is_claimed = !defect!(NamedAddressBelieved);
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    if observed.is_ipv4() {
        (network.v4, network.v4_is_claimed) = (Some((observed, nat)), !proved);
    } else {
        // Table 1 knows no NAT for IPv6.
        (network.v6, network.v6_is_claimed) = (Some(observed), !proved);
    }
    (network, nat)
}

/// Whether an address may be told to other nodes. Unspecified, loopback, link-local, broadcast, multicast and
/// IPv4-mapped addresses may not.
fn is_somewhere(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(addresses: &[&str]) -> RegistrationRequest {
        RegistrationRequest { epoch: 1, addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), port: 443 }
    }

    #[test]
    fn a_nat_is_seen_when_the_request_comes_from_an_address_that_the_node_does_not_have() {
        let (network, nat) = network(&request(&["192.168.1.2"]), "203.0.113.1:443".parse().unwrap(), true);
        assert!(nat);
        assert_eq!(network.v4, Some(("203.0.113.1:443".parse().unwrap(), true)));
        let (network, nat) = super::network(&request(&["203.0.113.1"]), "203.0.113.1:443".parse().unwrap(), true);
        assert!(!nat);
        assert_eq!(network.v4, Some(("203.0.113.1:443".parse().unwrap(), false)));
    }

    #[test]
    fn no_peer_is_sent_to_loopback_or_a_group_whatever_a_node_says_of_itself() {
        let lies = ["127.0.0.1", "::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "fe80::1", "::ffff:127.0.0.1"];
        let (seen_by_v6, _) = network(&request(&lies), "[2001:db8:1::5]:443".parse().unwrap(), true);
        assert_eq!(
            (seen_by_v6.v6, seen_by_v6.v4),
            (Some("[2001:db8:1::5]:443".parse().unwrap()), None),
            "only where it is seen"
        );
        let (seen_by_v4, _) = network(&request(&lies), "203.0.113.1:443".parse().unwrap(), true);
        assert_eq!((seen_by_v4.v4.map(|(_, nat)| nat), seen_by_v4.v6), (Some(true), None));
    }

    #[test]
    fn a_dual_stack_node_seen_by_ipv6_has_a_nat_where_its_ipv4_address_is_private() {
        let addresses = request(&["2001:db8:1::5", "192.168.1.2"]);
        let (network, nat) = network(&addresses, "[2001:db8:1::5]:443".parse().unwrap(), true);
        assert!(!nat);
        assert_eq!(network.v6, Some("[2001:db8:1::5]:443".parse().unwrap()));
        assert_eq!(network.v4.map(|(_, nat)| nat), Some(true));
    }
}
