//! The operating system's network as a daemon sees and changes it: own addresses, the virtual interface, routes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::Virtual;
use cyphonic_core::node::Overlay;
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::sync::{Mutex, mpsc};

use crate::error::{Code, Failure};
use crate::tasks;

/// Several changes come together, as when a cable is plugged in: wait this long for the last of them.
const SETTLE: Duration = Duration::from_millis(100);
/// But no longer than this for all of them: a routing daemon may never be quiet.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);

/// A virtual interface that can be given addresses and routes.
pub struct Network {
    handle: Handle,
    name: String,
    index: u32,
    present: Option<Present>,
}

/// What the interface was given.
#[derive(Clone)]
struct Present {
    own: Virtual,
    overlay: Overlay,
    /// Whether packets to the overlay left from our address, by IPv4 and IPv6, once it was given. Where they never did,
    /// as on a machine without IPv6, nobody has taken it away.
    led: [bool; 2],
}

impl Present {
    /// Whether packets to the overlay leave from our address now, by family. The routing table is only asked.
    fn leads(&self) -> [bool; 2] {
        let from = |to: IpAddr, own: IpAddr| source_for(SocketAddr::new(to, 9)) == Some(own);
        let Overlay { dns_v4, dns_v6, .. } = &self.overlay;
        [from((*dns_v4).into(), self.own.v4.into()), from((*dns_v6).into(), self.own.v6.into())]
    }

    /// Whether something was taken away.
    fn lacks(&self) -> bool {
        self.led.into_iter().zip(self.leads()).any(|(led, leads)| led && !leads)
    }
}

impl Network {
    /// Finds the interface and turns its own IPv6 addresses off.
    pub async fn find(name: &str) -> Result<Self, Failure> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| denied(name, &error))?;
        tokio::spawn(connection);
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await.map_err(|error| denied(name, &error))?;
        let index = link.ok_or_else(|| denied(name, &"it is gone"))?.header.index;
        // No link-local address, so no router solicitations into the overlay. Where IPv6 is turned off, nothing is
        // lost.
        let quiet = LinkMessageBuilder::<LinkUnspec>::default()
            .index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
                AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
            ])]))
            .build();
        let _ = handle.link().set(quiet).execute().await;
        Ok(Self { handle, name: name.to_owned(), index, present: None })
    }

    /// Gives the interface its addresses, brings it up and leads the overlay into it.
    pub async fn configure(&mut self, own: Virtual, overlay: &Overlay) -> Result<(), Failure> {
        if self.present.as_ref().is_some_and(|present| present.own == own) {
            return Ok(());
        }
        self.present = None;
        self.remove_addresses().await.map_err(|error| denied(&self.name, &error))?;
        self.give(own, overlay).await
    }

    async fn give(&mut self, own: Virtual, overlay: &Overlay) -> Result<(), Failure> {
        let fail = |error: rtnetlink::Error| denied(&self.name, &error);
        let up = LinkMessageBuilder::<LinkUnspec>::default().index(self.index).up().build();
        self.handle.link().set(up).execute().await.map_err(fail)?;
        self.handle.address().add(self.index, own.v4.into(), 32).replace().execute().await.map_err(fail)?;
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(overlay.v4.0, overlay.v4.1)
            .output_interface(self.index)
            .pref_source(own.v4)
            .build();
        self.handle.route().add(v4).replace().execute().await.map_err(fail)?;
        // A machine without IPv6 can use the overlay's IPv4.
        let v6 = async {
            let mut address = self.handle.address().add(self.index, own.v6.into(), 128).replace();
            // Nobody else can have it.
            address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            address.execute().await?;
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(overlay.v6.0, overlay.v6.1)
                .output_interface(self.index)
                .build();
            self.handle.route().add(route).replace().execute().await
        };
        if let Err(error) = v6.await {
            tracing::warn!(%error, "the virtual interface has no IPv6; is it turned off on this machine?");
        }
        let mut present = Present { own, overlay: overlay.clone(), led: [false; 2] };
        present.led = present.leads();
        self.present = Some(present);
        Ok(())
    }

    /// Gives the interface again what somebody has taken from it: with `ip link set NAME down` the kernel forgets its
    /// routes and IPv6 addresses. While it is down it stays so: whoever did that wanted it.
    async fn restore(&mut self) {
        let Some(present) = self.present.clone() else { return };
        if !present.lacks() || !self.is_up().await {
            return;
        }
        match self.give(present.own, &present.overlay).await {
            Ok(()) => tracing::warn!(
                name = self.name,
                "somebody took addresses or routes from the virtual interface: it has them again"
            ),
            Err(error) => tracing::warn!(%error, remedy = error.remedy(), "the virtual interface lacks something"),
        }
    }

    async fn is_up(&self) -> bool {
        let mut links = self.handle.link().get().match_index(self.index).execute();
        matches!(links.try_next().await, Ok(Some(link)) if link.header.flags.contains(LinkFlags::Up))
    }

    async fn remove_addresses(&self) -> Result<(), rtnetlink::Error> {
        let mut found = std::pin::pin!(self.handle.address().get().set_link_index_filter(self.index).execute());
        let mut old = Vec::new();
        while let Some(message) = found.try_next().await? {
            old.push(message);
        }
        for message in old {
            self.handle.address().del(message).execute().await?;
        }
        Ok(())
    }
}

/// Watches over the interface from now on, and restores what others take from it.
pub fn keep(network: Arc<Mutex<Network>>) -> Result<(), Failure> {
    let mut changes = watch()?;
    tasks::forever("keeps the virtual interface as it was set up", async move {
        while changes.recv().await.is_some() {
            network.lock().await.restore().await;
        }
    });
    Ok(())
}

fn denied(name: &str, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("the virtual interface {name} cannot be set up: {error}");
    Failure::new(Code::Permission, what, "run as root, or give the program CAP_NET_ADMIN")
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
    // On a point-to-point interface, Address is the other end.
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

/// Says something whenever addresses or routes of this machine have changed.
pub fn watch() -> Result<mpsc::Receiver<()>, Failure> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups).map_err(|error| {
        Failure::new(Code::Other, format!("changes of addresses cannot be followed: {error}"), "set `addresses`")
    })?;
    tokio::spawn(connection);
    let (say, heard) = mpsc::channel(1);
    tasks::forever("hears of changes of this machine's network", async move {
        while messages.next().await.is_some() {
            let end = tokio::time::Instant::now() + SETTLE_AT_MOST;
            while tokio::time::Instant::now() < end
                && tokio::time::timeout(SETTLE, messages.next()).await.is_ok_and(|more| more.is_some())
            {}
            if say.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(heard)
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
