//! The operating system's network as a daemon sees and changes it.
//!
//! | | |
//! |---|---|
//! | `interface` | the virtual interface: what it has, and who takes it away |
//! | `routes` | which routes a node wants, and which of others it meets |
//! | `filter` | the packet filter around the virtual addresses |
//! | `losses` | how long to wait before something is given back again |

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

/// Several changes come together, as when a cable is plugged in: wait this long for the last of them.
const SETTLE: Duration = Duration::from_millis(100);
/// But no longer than this for all of them: a routing daemon may never be quiet.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);

/// What stands in the way of the overlay on this machine, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Notice {
    /// What is so.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

impl Notice {
    /// For people.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// The addresses from which these targets are reached, one for each family at most, IPv6 first. For a family without a
/// target: the one from which the Internet would be.
pub fn source_addresses(targets: &[SocketAddr], overlay: &Overlay) -> Vec<IpAddr> {
    // Documentation addresses (RFC 3849, RFC 5737): nothing is sent, the routing table is only asked.
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

/// That no address of this machine's own can be the source of packets to these targets, of both families or of one,
/// though the kernel finds a way there. Then it takes the virtual address, which must not go out.
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

/// Every address of this machine that others could reach.
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

/// The address of a message. On a point-to-point interface, the attribute Address is the other end's.
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

/// Something has changed in this machine's network.
#[derive(Debug)]
pub struct Change {
    /// Which program changed it, and its number, as far as the kernel tells.
    pub by: Option<(String, u32)>,
}

/// Says something whenever links, addresses or routes of this machine have changed, as far as they are `relevant`.
pub fn watch(
    relevant: impl Fn(&RouteNetlinkMessage) -> bool + Send + Sync + 'static,
) -> Result<mpsc::Receiver<Change>, Failure> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        // IPv6 of an interface turned on or off.
        MulticastGroup::Ipv6Ifinfo,
    ];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups).map_err(|error| {
        Failure::new(Code::Other, format!("changes of addresses cannot be followed: {error}"), "set `addresses`")
    })?;
    tokio::spawn(connection);
    let (say, heard) = mpsc::channel(1);
    tasks::forever("hears of changes of this machine's network", async move {
        // Of messages that were lost nobody knows what they said.
        let concerns = |message: &NetlinkMessage<RouteNetlinkMessage>| match &message.payload {
            NetlinkPayload::InnerMessage(inner) => relevant(inner),
            _ => true,
        };
        while let Some((message, _)) = messages.next().await {
            if !concerns(&message) {
                continue;
            }
            let mut by = process(message.header.port_number);
            let end = tokio::time::Instant::now() + SETTLE_AT_MOST;
            let mut quiet = tokio::time::Instant::now() + SETTLE;
            while let Ok(Some((more, _))) = tokio::time::timeout_at(quiet.min(end), messages.next()).await {
                if concerns(&more) {
                    quiet = tokio::time::Instant::now() + SETTLE;
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

/// The program whose netlink socket has this number, if it is another's. The first socket of a process has the number
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
