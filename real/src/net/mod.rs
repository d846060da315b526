//! The operating system's network as a daemon sees and changes it.
//!
//! | | |
//! |---|---|
//! | `interface` | the virtual interface: its addresses and routes, and their losses |
//! | `routes` | the routes that a node wants, and the routes of other programs that meet them |
//! | `filter` | the packet filter around the virtual addresses |
//! | `losses` | how long to wait before an address or route is restored |

mod filter;
mod interface;
mod losses;
mod routes;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use cyphonic_core::node::Overlay;
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use interface::{Network, Shown, forget, keep};

use crate::error::{Code, Failure};
use crate::tasks;

/// How long there must be no further change before the node reacts. Several changes come together, for example when a
/// cable is plugged in.
const NO_CHANGE: Duration = Duration::from_millis(100);
/// The longest wait for further changes, because a routing daemon may make changes without end.
const CHANGES_AT_MOST: Duration = Duration::from_millis(500);

/// An obstacle to the overlay on this machine, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Notice {
    /// The obstacle.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

impl Notice {
    /// A notice from an obstacle and its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// The addresses from which these targets are reached: at most one for each family, IPv6 first. A family without a
/// target gets the address from which the Internet would be reached.
pub fn source_addresses(targets: &[SocketAddr], overlay: &Overlay) -> Vec<IpAddr> {
    // Documentation addresses (RFC 3849, RFC 5737): only the routing table is asked, and nothing is sent.
    let elsewhere =
        [SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1), 9)), ([192, 0, 2, 254], 9).into()];
    let good = |address: &IpAddr| {
        let local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        !(local || address.is_unspecified() || overlay.contains(*address))
    };
    [true, false]
        .into_iter()
        .filter_map(|v6| {
            let of_family = |target: &&SocketAddr| target.is_ipv6() == v6;
            targets.iter().chain(&elsewhere).filter(of_family).find_map(|target| source_for(*target).filter(&good))
        })
        .collect()
}

/// A notice if the kernel has a route to these targets, of one family or both, but no address of this machine's own as
/// its source. It would then use the virtual address, which must not leave.
pub fn without_source(targets: &[SocketAddr], overlay: &Overlay) -> Option<Notice> {
    let only_virtual = |target: &&SocketAddr| source_for(**target).is_some_and(|from| overlay.contains(from));
    if let Some(target) = targets.iter().find(only_virtual) {
        let (family, to) = (if target.is_ipv6() { "IPv6" } else { "IPv4" }, target.ip());
        let what = format!("this machine has no {family} address for packets to {to} but the virtual one");
        return Some(Notice::new(
            what,
            format!("give an address to the interface by which they leave: ip route get {to}"),
        ));
    }
    let none = !targets.is_empty() && source_addresses(targets, overlay).is_empty();
    none.then(|| {
        let what = "this machine has no address from which the AS could be reached; waiting for one";
        Notice::new(what, "connect it to a network: ip address; ip route")
    })
}

fn source_for(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if target.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Every address of this machine that other hosts could reach.
pub async fn interface_addresses() -> Result<Vec<IpAddr>, Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Other, format!("this machine's addresses are not known: {error}"), "set `addresses`")
    };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| fail(&error))?;
    tokio::spawn(connection);
    let mut found = std::pin::pin!(handle.address().get().execute());
    let mut addresses = BTreeSet::new();
    while let Some(message) = found.try_next().await.map_err(|error| fail(&error))? {
        addresses.extend(global(&message));
    }
    // IPv6 first.
    let mut addresses: Vec<_> = addresses.into_iter().collect();
    addresses.sort_by_key(|address| !address.is_ipv6());
    Ok(addresses)
}

fn global(message: &AddressMessage) -> Option<IpAddr> {
    let passing = AddressHeaderFlags::Tentative | AddressHeaderFlags::Deprecated;
    if message.header.scope != AddressScope::Universe || message.header.flags.intersects(passing) {
        return None;
    }
    address(message)
}

/// The address in a message. On a point-to-point interface, the attribute Address is that of the other end.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// A change in this machine's network.
#[derive(Debug)]
pub struct Change {
    /// The program that made the change, and its process number, if the kernel tells.
    pub by: Option<(String, u32)>,
}

/// Calls back when links, addresses or routes of this machine have changed and the change is `relevant`.
pub fn watch(
    relevant: impl Fn(&RouteNetlinkMessage) -> bool + Send + Sync + 'static,
) -> Result<mpsc::Receiver<Change>, Failure> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        // IPv6 of an interface was turned on or off.
        MulticastGroup::Ipv6Ifinfo,
    ];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups).map_err(|error| {
        Failure::new(Code::Other, format!("changes of addresses cannot be followed: {error}"), "set `addresses`")
    })?;
    tokio::spawn(connection);
    let (say, heard) = mpsc::channel(1);
    tasks::forever("hears of changes of this machine's network", async move {
        // The contents of lost messages are unknown, so they count as relevant.
        let concerns = |message: &NetlinkMessage<RouteNetlinkMessage>| match &message.payload {
            NetlinkPayload::InnerMessage(inner) => relevant(inner),
            _ => true,
        };
        while let Some((message, _)) = messages.next().await {
            if !concerns(&message) {
                continue;
            }
            let mut by = process(message.header.port_number);
            let end = tokio::time::Instant::now() + CHANGES_AT_MOST;
            let mut quiet = tokio::time::Instant::now() + NO_CHANGE;
            while let Ok(Some((more, _))) = tokio::time::timeout_at(quiet.min(end), messages.next()).await {
                if concerns(&more) {
                    quiet = tokio::time::Instant::now() + NO_CHANGE;
                    by = by.or_else(|| process(more.header.port_number));
                }
            }
            if say.send(Change { by }).await.is_err() {
                return;
            }
        }
    });
    Ok(heard)
}

/// The program whose netlink socket has this number, if it is not our own. The first socket of a process has the number
/// of the process.
fn process(port: u32) -> Option<(String, u32)> {
    if port == 0 || port == std::process::id() {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{port}/comm")).ok()?;
    Some((name.trim_end().to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback_and_the_overlay_is_no_address_of_ours() {
        let mut overlay = Overlay::new("example".parse().unwrap());
        let target: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let found = source_addresses(&[target], &overlay);
        assert!(found.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{found:?}");
        overlay.v4 = (Ipv4Addr::new(127, 0, 0, 0), 8);
        assert!(!source_addresses(&[target], &overlay).contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
