//! The virtual interface: its addresses, the routes into it, and the filter around its addresses.
//!
//! The kernel's state is compared with the wanted state, and mended: at the start, when the node is registered, and
//! whenever the kernel reports a change ([`keep`]). An obstacle is a [`Notice`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cyphonic_core::name::Virtual;
use cyphonic_core::node::Overlay;
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::sync::{Mutex, mpsc};

use super::filter::{Filter, Guarded};
use super::losses::Losses;
use super::routes::{Known, Meets, PROTOCOL, Plan, Route, Way};
use super::{Notice, watch};
use crate::error::{Code, Failure};
use crate::tasks;

/// How often the interface is checked without a report.
const LOOK: Duration = Duration::from_secs(10);
/// The least MTU with which the kernel lets an interface have IPv6 (RFC 8200 §5).
const LEAST_IPV6_MTU: u32 = 1280;
/// Address lifetimes of this many seconds never end (RFC 4862 §5.5.3).
const FOREVER: u32 = u32::MAX;
/// Most addresses and routes whose losses are counted.
const LOSSES: usize = 1024;
/// Most conflicts that are named one by one.
const NAMED: usize = 8;

/// A virtual interface that can be given addresses and routes.
pub struct Network {
    handle: Handle,
    index: u32,
    overlay: Overlay,
    own: Option<Virtual>,
    peers: BTreeSet<IpAddr>,
    filter: Option<Filter>,
    /// The present obstacles.
    notices: BTreeSet<Notice>,
    /// How often other programs removed an address or route.
    losses: BTreeMap<IpNet, Losses>,
    /// What the interface was given. If some of it is missing later, another program removed it.
    given: BTreeSet<IpNet>,
    /// Whether peers need routes of their own.
    needs_peers: Arc<AtomicBool>,
    /// Whether the daemon ends. Then nothing is mended any more.
    ended: bool,
}

/// The virtual interface as the kernel shows it.
#[derive(Debug)]
pub struct Shown {
    /// Its present name. Other programs may rename it.
    pub name: String,
    /// The node's virtual addresses that it has.
    pub addresses: Vec<IpAddr>,
    /// The present obstacles.
    pub notices: Vec<Notice>,
}

/// The facts about a link.
struct Link {
    name: String,
    up: bool,
    mtu: u32,
}

/// The state of one address family.
struct Family {
    v6: bool,
    /// The virtual address.
    own: Option<IpAddr>,
    /// Whether the interface has it.
    has: bool,
    /// The routes that meet the range.
    routes: Vec<Route>,
    plan: Plan,
}

impl Network {
    /// Finds the interface. Turns off the IPv6 addresses that the kernel gives it. Makes the overlay's range
    /// unreachable until there are routes into it.
    pub async fn find(name: &str, overlay: &Overlay) -> Result<Self, Failure> {
        // Older kernels have no strict checks, and dump more than is asked for.
        let connected = rtnetlink::new_connection_with_strict_check().or_else(|_| rtnetlink::new_connection());
        let (connection, handle, _) = connected.map_err(|error| denied(name, &error))?;
        tokio::spawn(connection);
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await.map_err(|error| denied(name, &error))?;
        let index = link.ok_or_else(|| denied(name, &"it is gone"))?.header.index;
        let mut network = Self {
            handle,
            index,
            overlay: overlay.clone(),
            own: None,
            peers: BTreeSet::new(),
            filter: None,
            notices: BTreeSet::new(),
            losses: BTreeMap::new(),
            given: BTreeSet::new(),
            needs_peers: Arc::default(),
            ended: false,
        };
        network.quieten().await;
        network.mend(None).await;
        Ok(network)
    }

    /// Whether peers need routes of their own: a network of this machine has the overlay's range or a part of it.
    /// [`Self::lead`] then has to be told of every peer.
    pub fn needs_peers(&self) -> Arc<AtomicBool> {
        self.needs_peers.clone()
    }

    /// Gives the interface its addresses, brings it up and routes the overlay into it.
    ///
    /// # Errors
    /// The kernel does not let it come up, or have its IPv4 address.
    pub async fn configure(&mut self, own: Virtual) -> Result<(), Failure> {
        if self.own == Some(own) {
            return Ok(());
        }
        let name = self.name_of(self.index).await;
        let fail = |error: Error| denied(&name, &error);
        self.remove_addresses().await.map_err(fail)?;
        self.given.clear();
        self.own = Some(own);
        // The filter comes before the addresses, so that no address is ever without one.
        let families = [self.look(true, &[]).await, self.look(false, &[]).await];
        self.guard(own, &name, &families);
        let up = LinkMessageBuilder::<LinkUnspec>::default().index(self.index).up().build();
        self.handle.link().set(up).execute().await.map_err(fail)?;
        self.give(own.v4.into()).await.map_err(fail)?;
        self.mend(None).await;
        Ok(())
    }

    /// Routes these peers into the interface one by one, if that is needed, and no other peers.
    pub async fn lead(&mut self, peers: BTreeSet<IpAddr>) {
        if self.peers != peers {
            self.peers = peers;
            self.mend(None).await;
        }
    }

    /// Removes what would hinder a network of this machine that has a part of the overlay's range. Without such a
    /// network the range stays unreachable. Packets to virtual addresses must not leave unencrypted while the daemon is
    /// restarted, and no other host has these addresses.
    pub async fn end(&mut self) {
        self.ended = true;
        for v6 in [true, false] {
            let family = self.look(v6, &[]).await;
            if !family.plan.meet.is_empty() {
                for route in family.routes.iter().filter(|route| route.keeps_in()) {
                    let _ = self.remove(route).await;
                }
            }
        }
    }

    /// The interface as the kernel has it now.
    pub async fn shown(&self) -> Shown {
        let has = self.addresses().await;
        let addresses = self.own_addresses().into_iter().filter(|own| has.contains(own)).collect();
        let notices = self.notices.iter().cloned().collect();
        Shown { name: self.name_of(self.index).await, addresses, notices }
    }

    /// Where packets to this address go, if not into the virtual interface.
    pub async fn elsewhere(&self, to: IpAddr) -> Option<String> {
        match self.way_to(to).await {
            Some((index, _)) if index == self.index => None,
            Some((index, _)) => Some(format!("leave by {}, not through the overlay", self.name_of(index).await)),
            None => Some("go nowhere: there is no route".to_owned()),
        }
    }

    /// Whether all seems well, as far as a few questions show.
    async fn seems_fine(&self) -> bool {
        let filtered = self.own.is_none() || self.filter.as_ref().is_some_and(Filter::stands);
        let mut fine = filtered && self.notices.is_empty();
        for dns in self.own_addresses().into_iter().map(|own| self.dns(own.is_ipv6())) {
            fine = fine && self.way_to(dns).await.is_some_and(|(index, _)| index == self.index);
        }
        fine
    }

    /// Compares the state with the wanted one, and mends it. `by` is the program that changed something. Returns when
    /// to check again.
    async fn mend(&mut self, by: Option<(String, u32)>) -> Duration {
        if self.ended {
            return LOOK;
        }
        let link = self.link(self.index).await;
        let up = link.as_ref().is_some_and(|link| link.up);
        let name = link.as_ref().map_or("the virtual interface", |link| link.name.as_str()).to_owned();
        let mut notices = BTreeSet::new();
        if self.own.is_some() {
            if self.filter.as_ref().is_some_and(|filter| !filter.stands()) {
                tracing::warn!("somebody removed the packet filter of the virtual addresses: it is made again");
                self.filter = None;
            }
            if !up {
                notices.insert(Notice::new(format!("{name} is down"), format!("ip link set {name} up")));
            }
        }
        if !up {
            // When a link goes down the kernel forgets its addresses and routes. No program has removed them.
            self.given.clear();
        }
        let has = self.addresses().await;
        let families = [self.look(true, &has).await, self.look(false, &has).await];
        if let Some(own) = self.own {
            notices.extend(self.guard(own, &name, &families));
            notices.extend(self.unguarded());
        }
        let taken: Vec<_> = families.iter().flat_map(|family| self.taken(family, link.as_ref())).collect();
        let mut later = BTreeMap::new();
        if self.losses.len() > LOSSES {
            self.losses.clear();
        }
        for what in taken {
            let losses = self.losses.entry(what).or_default();
            let wait = losses.lost(Instant::now());
            let who = by.as_ref().map_or("somebody", |(name, _)| name);
            if wait.is_zero() {
                let number = by.as_ref().map(|(_, number)| number);
                tracing::warn!(process = number, "{who} took {what} from {name}: it has it again");
            } else {
                later.insert(what, wait);
            }
            if losses.is_a_fight() {
                let remedy = format!("let that program leave {name} alone; until then the node insists less and less");
                notices.insert(Notice::new(format!("{who} takes {what} from {name} again and again"), remedy));
            }
        }
        let mut needs_peers = false;
        for family in families {
            needs_peers |= family.plan.meet.iter().any(|(meets, _)| *meets != Meets::Node);
            notices.extend(self.apply(family, link.as_ref(), &later).await);
        }
        self.needs_peers.store(needs_peers, Ordering::Relaxed);
        self.tell(notices);
        later.into_values().min().unwrap_or(LOOK)
    }

    /// The addresses and routes of a family that were given and are missing without an explanation.
    fn taken(&self, family: &Family, link: Option<&Link>) -> Vec<IpNet> {
        let Some(own) = family.own else { return Vec::new() };
        if family.has {
            let routes = family.plan.add.iter().filter(|route| !route.keeps_in()).map(|route| route.to);
            return routes.filter(|to| self.given.contains(to)).collect();
        }
        let explained = family.v6 && no_ipv6(link).is_some();
        let own = Some(IpNet::from(own)).filter(|own| !explained && self.given.contains(own));
        own.into_iter().collect()
    }

    /// Gives a family what is missing, except for what has to wait. Returns the obstacles.
    async fn apply(
        &mut self,
        mut family: Family,
        link: Option<&Link>,
        later: &BTreeMap<IpNet, Duration>,
    ) -> Vec<Notice> {
        let up = link.is_some_and(|link| link.up);
        let mut notices = Vec::new();
        if let Some(own) = family.own.filter(|own| !family.has && up && !later.contains_key(&IpNet::from(*own))) {
            if family.v6 {
                self.quieten().await;
            }
            match self.give(own).await {
                Ok(()) => {
                    if family.v6 {
                        self.remove_link_local().await;
                    }
                    family.has = true;
                    family.plan = self.known(family.v6, Some(own), &family.routes).plan();
                }
                Err(error) => notices.push(no_ipv6(link).unwrap_or_else(|| {
                    let what = format!("the virtual interface cannot be given {own}: {error}");
                    Notice::new(what, "is IPv6 turned off on this machine? the overlay's IPv4 works without it")
                })),
            }
        }
        for route in &family.plan.remove {
            let _ = self.remove(route).await;
        }
        let now = |route: &&Route| route.keeps_in() || (up && !later.contains_key(&route.to));
        for route in family.plan.add.iter().filter(now) {
            match self.handle.route().add(route.message()).execute().await {
                Ok(()) => {}
                Err(error) if is(&error, rustix::io::Errno::EXIST) => {
                    if !route.keeps_in() && family.plan.meet.is_empty() {
                        let what = format!("another route of {} stands in the way of the overlay's", route.to);
                        notices.push(Notice::new(what, format!("ip route show {}", route.to)));
                    }
                }
                // Without IPv6 no packet leaves by IPv6.
                Err(_) if route.keeps_in() && family.v6 => {}
                Err(error) => {
                    let what = format!("no route of {} can be set: {error}", route.to);
                    notices.push(Notice::new(what, "run as root, or give the program CAP_NET_ADMIN"));
                }
            }
        }
        let range = self.range(family.v6);
        if up {
            let wanted =
                family.plan.wanted.iter().filter(|route| !route.keeps_in() && family.has).map(|route| route.to);
            let given: Vec<_> = wanted.chain(family.own.filter(|_| family.has).map(IpNet::from)).collect();
            // What has to wait stays, and so does an address whose loss has no explanation.
            self.given.retain(|old| old.addr().is_ipv6() != range.addr().is_ipv6() || later.contains_key(old));
            self.given.extend(given);
        }
        notices.extend(self.conflicts(&family, later.is_empty() && up).await);
        notices
    }

    /// The routes of other programs that meet the range of a family.
    async fn conflicts(&self, family: &Family, is_complete: bool) -> Vec<Notice> {
        let range = self.range(family.v6);
        let key = if family.v6 { "overlay-v6" } else { "overlay-v4" };
        let mut notices = Vec::new();
        for (meets, route) in family.plan.meet.iter().take(NAMED) {
            let place = match route.way {
                Way::Interface { index, .. } => self.name_of(index).await,
                Way::Several => "several gateways".to_owned(),
                Way::Unreachable | Way::Other => "nowhere".to_owned(),
            };
            let (rest, remedy) = match meets {
                Meets::Node => (
                    "another node of this machine: this node leads nothing into the overlay".to_owned(),
                    "end one of the nodes, or run it in a network namespace of its own".to_owned(),
                ),
                _ => (
                    format!(
                        "the overlay has {range}: of it this node takes its peers and its DNS, and the rest stays as it is"
                    ),
                    format!("give the overlay a range that no network of its nodes has (`{key}`, the same everywhere)"),
                ),
            };
            notices.push(Notice::new(format!("{} leads to {place}, and {rest}", route.to), remedy));
        }
        let more = family.plan.meet.len().saturating_sub(NAMED);
        if more > 0 {
            notices.push(Notice::new(format!("{more} more routes meet {range}"), "ip route show"));
        }
        if is_complete && family.has && !family.plan.meet.iter().any(|(meets, _)| *meets == Meets::Node) {
            notices.extend(self.dns_conflict(family.v6).await);
        }
        notices
    }

    /// The reason why queries do not reach the node's DNS, if they do not.
    async fn dns_conflict(&self, v6: bool) -> Option<Notice> {
        let dns = self.dns(v6);
        let key = if v6 { "dns-v6" } else { "dns-v4" };
        match self.way_to(dns).await {
            Some((index, _)) if index == self.index => None,
            Some((_, true)) => Some(Notice::new(
                format!("{dns}, at which this node answers DNS, is an address of this machine: it gets no queries"),
                format!("set `{key}` to an address of the overlay that nobody has"),
            )),
            Some((index, false)) => Some(Notice::new(
                format!("packets to {dns} leave by {}, not through the overlay", self.name_of(index).await),
                format!("ip rule; ip route get {dns}"),
            )),
            None => Some(Notice::new(format!("packets to {dns} go nowhere"), format!("ip rule; ip route get {dns}"))),
        }
    }

    /// Remembers the present obstacles, and logs the changes.
    fn tell(&mut self, notices: BTreeSet<Notice>) {
        for Notice { what, remedy } in notices.difference(&self.notices) {
            tracing::warn!(remedy, "{what}");
        }
        for Notice { what, .. } in self.notices.difference(&notices) {
            tracing::info!("no longer so: {what}");
        }
        self.notices = notices;
    }

    /// Makes the packet filter, if it is not there or is about something else. Returns the reason if there is none.
    fn guard(&mut self, own: Virtual, name: &str, families: &[Family]) -> Option<Notice> {
        let ranges = [self.range(false), self.range(true)];
        let others = families.iter().flat_map(|family| &family.plan.meet).map(|(_, route)| route.to.trunc()).collect();
        let guarded = Guarded { own, ranges, others };
        let done = match &mut self.filter {
            Some(filter) => filter.replace(guarded),
            none => Filter::make(name, self.index, guarded).map(|filter| *none = Some(filter)),
        };
        done.err().map(|error| {
            self.filter = None;
            let what = "there is no packet filter, so neighbours reach the virtual addresses past the tunnel";
            Notice::new(format!("{what}: {error}"), "use a kernel with nf_tables (CONFIG_NF_TABLES_INET)")
        })
    }

    /// What the filter lacks.
    fn unguarded(&self) -> Option<Notice> {
        let lacks = self.filter.as_ref().is_some_and(|filter| !filter.looks_up());
        lacks.then(|| {
            let what = "neighbours on the LAN can send packets from peers' virtual addresses to this machine's real \
                        addresses: the kernel has no `fib` for packet filters";
            Notice::new(what.to_owned(), "use a kernel with CONFIG_NFT_FIB_INET, or set rp_filter to 1 (IPv4)")
        })
    }

    /// What a family lacks if the interface has these addresses.
    async fn look(&self, v6: bool, has: &[IpAddr]) -> Family {
        let own = self.own_addresses().into_iter().find(|own| own.is_ipv6() == v6);
        let has = own.is_some_and(|own| has.contains(&own));
        let routes = self.routes(v6).await;
        let plan = self.known(v6, own.filter(|_| has), &routes).plan();
        Family { v6, own, has, routes, plan }
    }

    fn known<'a>(&'a self, v6: bool, own: Option<IpAddr>, routes: &'a [Route]) -> Known<'a> {
        Known { range: self.range(v6), dns: self.dns(v6), own, index: self.index, peers: &self.peers, routes }
    }

    fn range(&self, v6: bool) -> IpNet {
        let Overlay { v4: four, v6: six, .. } = &self.overlay;
        let range = if v6 { IpNet::new(six.0.into(), six.1) } else { IpNet::new(four.0.into(), four.1) };
        range.unwrap_or_default().trunc()
    }

    fn dns(&self, v6: bool) -> IpAddr {
        if v6 { self.overlay.dns_v6.into() } else { self.overlay.dns_v4.into() }
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        self.own.map(|own| vec![IpAddr::from(own.v4), own.v6.into()]).unwrap_or_default()
    }

    /// Turns off the addresses that the kernel gives by itself. Without a link-local address no router solicitation
    /// goes into the overlay. If IPv6 is off, nothing is lost.
    async fn quieten(&self) {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let quiet = LinkMessageBuilder::<LinkUnspec>::default()
            .index(self.index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            .build();
        let _ = self.handle.link().set(quiet).execute().await;
    }

    /// Gives the interface an address that the kernel never chooses as a source, except by a route. Otherwise the
    /// kernel could choose it for any packet. It prefers an IPv6 address to a deprecated one of another interface (RFC
    /// 6724 §5, rule 3 comes before rule 5), and takes an IPv4 address if the other interface has none.
    async fn give(&self, own: IpAddr) -> Result<(), Error> {
        let length = if own.is_ipv6() { 128 } else { 32 };
        let mut address = self.handle.address().add(self.index, own, length).replace();
        let message = address.message_mut();
        if own.is_ipv6() {
            // No other host can have it, so duplicate address detection is off.
            message.header.flags |= AddressHeaderFlags::Nodad;
            let mut life = CacheInfo::default();
            (life.ifa_preferred, life.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(life));
        } else {
            message.header.scope = AddressScope::Link;
        }
        address.execute().await
    }

    /// Removes a route of ours.
    async fn remove(&self, route: &Route) -> Result<(), Error> {
        let mut message = route.message();
        if route.to.addr().is_ipv4() {
            // The scope does not matter.
            message.header.scope = RouteScope::NoWhere;
        }
        self.handle.route().del(message).execute().await
    }

    /// The routes of the main table that meet the range.
    async fn routes(&self, v6: bool) -> Vec<Route> {
        let message = if v6 {
            RouteMessageBuilder::<Ipv6Addr>::new().build()
        } else {
            RouteMessageBuilder::<Ipv4Addr>::new().build()
        };
        let message = question(message, RouteHeader::RT_TABLE_MAIN);
        let range = self.range(v6);
        let mut found = std::pin::pin!(self.handle.route().get(message).execute());
        let mut routes = Vec::new();
        while let Ok(Some(message)) = found.try_next().await {
            routes.extend(Route::read(&message).filter(|route| meet(route.to, range)));
        }
        routes
    }

    /// The interface by which packets to an address leave, and whether the address is one of this machine's own.
    async fn way_to(&self, to: IpAddr) -> Option<(u32, bool)> {
        let message = match to {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
        };
        let message = question(message, RouteHeader::RT_TABLE_UNSPEC);
        let mut found = std::pin::pin!(self.handle.route().get(message).execute());
        let message = found.try_next().await.ok().flatten()?;
        let local = match message.header.kind {
            RouteType::Local => true,
            RouteType::Unicast => false,
            _ => return None,
        };
        let oif = message.attributes.iter().find_map(|one| match one {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        Some((oif?, local))
    }

    async fn link(&self, index: u32) -> Option<Link> {
        let mut links = self.handle.link().get().match_index(index).execute();
        links.try_next().await.ok().flatten().map(|message| Link::read(&message))
    }

    /// An interface's name, for messages.
    async fn name_of(&self, index: u32) -> String {
        self.link(index).await.map_or_else(|| format!("interface {index}"), |link| link.name)
    }

    /// The interface's addresses.
    async fn addresses(&self) -> Vec<IpAddr> {
        let messages = self.address_messages().await.unwrap_or_default();
        messages.iter().filter_map(super::address).collect()
    }

    async fn address_messages(&self) -> Result<Vec<AddressMessage>, Error> {
        self.handle.address().get().set_link_index_filter(self.index).execute().try_collect().await
    }

    /// Removes the link-local addresses that the kernel gave before it was told to give none, for example when IPv6
    /// comes back.
    async fn remove_link_local(&self) {
        for message in self.address_messages().await.unwrap_or_default() {
            if matches!(super::address(&message), Some(IpAddr::V6(v6)) if v6.is_unicast_link_local()) {
                let _ = self.handle.address().del(message).execute().await;
            }
        }
    }

    async fn remove_addresses(&self) -> Result<(), Error> {
        for message in self.address_messages().await? {
            self.handle.address().del(message).execute().await?;
        }
        Ok(())
    }
}

impl Link {
    fn read(message: &LinkMessage) -> Self {
        let up = message.header.flags.contains(LinkFlags::Up);
        let (mut name, mut mtu) = (String::new(), 0);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => text.clone_into(&mut name),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                _ => {}
            }
        }
        Self { name, up, mtu }
    }
}

/// The known reason why the kernel lets an interface have no IPv6.
fn no_ipv6(link: Option<&Link>) -> Option<Notice> {
    let Link { name, mtu, .. } = link?;
    if *mtu < LEAST_IPV6_MTU {
        let what = format!("{name} has no IPv6: its MTU is {mtu}");
        return Some(Notice::new(what, format!("ip link set {name} mtu {LEAST_IPV6_MTU}   # or more")));
    }
    let setting = format!("net/ipv6/conf/{name}/disable_ipv6");
    let off = std::fs::read_to_string(format!("/proc/sys/{setting}")).is_ok_and(|text| text.trim() != "0");
    off.then(|| Notice::new(format!("{name} has no IPv6: it is turned off there"), format!("sysctl -w {setting}=0")))
}

/// A query for routes: of any protocol and kind, in this table.
fn question(mut message: RouteMessage, table: u8) -> RouteMessage {
    message.header.protocol = RouteProtocol::Unspec;
    message.header.kind = RouteType::Unspec;
    message.header.table = table;
    message
}

fn is(error: &Error, errno: rustix::io::Errno) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}

fn meet(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Watches the interface from now on, and mends what other programs change. Sends `ask` to `sender` when peers begin to
/// need routes of their own: [`Network::lead`] then has to be told of them.
pub async fn keep<R: Send + 'static>(
    network: Arc<Mutex<Network>>,
    sender: mpsc::Sender<R>,
    ask: fn() -> R,
) -> Result<(), Failure> {
    let (index, ranges) = {
        let network = network.lock().await;
        (network.index, [network.range(false), network.range(true)])
    };
    let mut changes = watch(move |message| concerns(message, index, ranges))?;
    tasks::forever("keeps the virtual interface as it was set up", async move {
        let mut wait = LOOK;
        loop {
            let change = match tokio::time::timeout(wait, changes.recv()).await {
                Ok(Some(change)) => Some(change),
                Ok(None) => return,
                Err(_) => None,
            };
            let mut network = network.lock().await;
            if change.is_none() && wait == LOOK && network.seems_fine().await {
                continue;
            }
            let by = change.and_then(|change| change.by);
            let needed = network.needs_peers.load(Ordering::Relaxed);
            wait = network.mend(by).await;
            let needs = network.needs_peers.load(Ordering::Relaxed);
            drop(network);
            if needs && !needed && sender.send(ask()).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Removes the routes by which ended nodes made an overlay's range unreachable. Returns how many there were.
///
/// # Errors
/// The kernel does not let this user remove them.
pub async fn forget() -> Result<usize, Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        let what = format!("the routes of ended nodes cannot be removed: {error}");
        Failure::new(Code::Permission, what, "run with sudo")
    };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| fail(&error))?;
    tokio::spawn(connection);
    let mut removed = 0;
    for message in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let found: Vec<_> = handle.route().get(message).execute().try_collect().await.map_err(|error| fail(&error))?;
        for message in found {
            if Route::read(&message).is_some_and(|route| route.keeps_in() && route.protocol == PROTOCOL) {
                handle.route().del(message).execute().await.map_err(|error| fail(&error))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether a message of the kernel is about the virtual interface or the overlay's ranges.
fn concerns(message: &RouteNetlinkMessage, index: u32, ranges: [IpNet; 2]) -> bool {
    use RouteNetlinkMessage as M;
    let in_range = |route: &RouteMessage| {
        let range = ranges[usize::from(route.header.address_family == rtnetlink::packet_route::AddressFamily::Inet6)];
        Route::read(route).is_some_and(|route| meet(route.to, range) && route.to.prefix_len() > 0)
    };
    match message {
        M::NewRoute(route) | M::DelRoute(route) => in_range(route),
        M::NewAddress(address) | M::DelAddress(address) => {
            address.header.index == index
                || super::address(address).is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
        }
        // Routes of an interface that goes down are not reported one by one.
        M::NewLink(_) | M::DelLink(_) => true,
        _ => false,
    }
}

fn denied(name: &str, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("the virtual interface {name} cannot be set up: {error}");
    Failure::new(Code::Permission, what, "run as root, or give the program CAP_NET_ADMIN")
}
