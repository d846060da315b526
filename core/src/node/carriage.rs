//! What differs between the methods, as one trait: how messages reach the cloud, how tunnels are built and how packets
//! travel in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::status::TunnelStatus;
use crate::event::{DropReason, Event, Failure, Protection, Signal, TunnelUp};
use crate::header::Header;
use crate::machine::{Output, StreamId, StreamInput, Tables};
use crate::message::{LoginResponse, Message, RouteDirection};
use crate::name::Party;
use crate::time::Instant;
use crate::timing::Due;
use crate::tls::{Roots, TlsError};

/// Names a tunnel within one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TunnelId(pub(super) u32);

/// How a node's messages and packets are carried.
pub(super) trait Carriage {
    /// Logs in to the AS, by its address number `attempt` (modulo their count). Answers [`CarriageOutput::LoggedIn`] or
    /// [`CarriageOutput::LoginFailed`].
    fn login(&mut self, now: Instant, attempt: usize);

    /// Opens the way to the NMS. Answers [`CarriageOutput::NmsReady`] or [`CarriageOutput::NmsLost`].
    fn open_nms(&mut self, now: Instant, login: &LoginResponse);

    /// Sends a message to the NMS; `count` is the number of earlier transmissions of it.
    fn send_nms(&mut self, now: Instant, transaction: u32, count: u8, message: Message);

    /// Whether messages to the NMS arrive without being sent again.
    fn is_reliable(&self) -> bool;

    /// Builds the tunnel that the NMS directed. `initiator`: we asked for it. `transaction`: of the Route Direction.
    fn build(&mut self, now: Instant, tunnel: TunnelId, direction: RouteDirection, initiator: bool, transaction: u32);

    /// Forgets a tunnel, if it is there.
    fn forget(&mut self, now: Instant, tunnel: TunnelId);

    /// See [`crate::machine::Machine::tables`].
    fn tables(&self) -> Tables;

    /// When the peer was heard last on a tunnel that is up. Whoever is there answers what is sent within moments.
    fn heard_at(&self, tunnel: TunnelId) -> Option<Instant>;

    /// Whether the peer has something to answer on a tunnel that is up: who says nothing because nothing was asked is not silent.
    fn is_answer_due(&self, tunnel: TunnelId) -> bool;

    /// Where the NMS is, and when it was heard last.
    fn nms_heard(&self) -> Option<(SocketAddr, Instant)>;

    /// The round trip to the NMS, where the carrier measures it.
    fn nms_rtt(&self) -> Option<Duration>;

    /// Sends a packet through a tunnel; [`Self::settle`] has to follow, once for as many as there are.
    fn send_packet(&mut self, now: Instant, tunnel: TunnelId, packet: Bytes) -> Result<(), SendRefused>;

    /// Every tunnel and session ends; the other ends are told where there is a word for it.
    fn leave(&mut self, now: Instant);

    /// A tunnel, if it is up.
    fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus>;

    /// The other address family comes first from now on: the cloud did not answer by this one.
    fn change_family(&mut self);

    /// Trusts these from now on; what they do not vouch for any more ends.
    fn trust(&mut self, now: Instant, roots: Roots) -> Result<(), TlsError>;

    /// The node's network changed: every session from the old ones is forgotten, without a word to anyone.
    fn move_to(&mut self, now: Instant, places: &Places);

    /// Gives by [`Self::poll`] what came through tunnels so far, before it is answered.
    fn deliver(&mut self, now: Instant);

    /// Does what [`Self::handle_datagram`] and [`Self::send_packet`] have left; [`Self::poll`] then gives all there is.
    fn settle(&mut self, now: Instant);

    /// Takes a UDP datagram; [`Self::settle`] has to follow, once for as many as there are.
    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut);

    /// Takes what happened on a TCP connection.
    fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamInput);

    /// Handles timers that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// The next timer.
    fn next_timer(&self) -> Option<Due>;

    /// The next output.
    fn poll(&mut self) -> Option<CarriageOutput>;
}

/// What a [`Carriage`] has to say.
pub(super) enum CarriageOutput {
    /// For the driver, as it is.
    Pass(Output),
    /// The AS accepted us.
    LoggedIn(LoginResponse),
    /// It did not.
    LoginFailed(Failure),
    /// Messages can be sent to the NMS.
    NmsReady,
    /// They cannot any more.
    NmsLost(Failure),
    /// The NMS says.
    FromNms(Header, Message),
    /// A tunnel is ready.
    TunnelUp(TunnelId, TunnelUp),
    /// A tunnel is gone, or was not built.
    TunnelDown(TunnelId, Failure),
    /// A packet came out of a tunnel.
    Packet(TunnelId, Bytes),
}

impl CarriageOutput {
    pub(super) fn dropped(reason: DropReason) -> Self {
        Self::Pass(Output::Event(Event::Dropped(reason)))
    }

    pub(super) fn signal(from: Party, to: Party, message: &Message, protection: Protection, count: u8) -> Self {
        Self::Pass(Output::Event(Event::Signal(Signal::message(from, to, message, protection, count))))
    }

    pub(super) fn handshake(from: Party, to: Party, what: &'static str) -> Self {
        Self::Pass(Output::Event(Event::Signal(Signal::handshake(from, to, what))))
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendRefused {
    /// There is no tunnel that is up.
    NoTunnel,
    /// The queue is full.
    Full,
    /// The packet is longer than the path takes: the limit for inner packets, bytes.
    TooBig(usize),
}

/// Where a node sends from.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    /// The first 96 bits of addresses that a NAT64 of the network translates (RFC 6052 §2.1).
    pub(super) nat64: Option<Ipv6Addr>,
    /// IPv6 does not seem to lead anywhere: IPv4 comes first.
    pub(super) prefer_v4: bool,
}

impl Places {
    pub(super) fn new(config: &super::NodeConfig) -> Self {
        let (addresses, port, nat64) = (config.addresses.clone(), config.port, config.nat64);
        Self { addresses, port, nat64, prefer_v4: false }
    }

    /// Our own address for what goes to `remote`, and how that is to be addressed from here. `None` without a common family.
    pub(super) fn towards(&self, remote: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        let remote = match remote.ip() {
            IpAddr::V4(v4) if !self.has(true) => SocketAddr::new(self.through_nat64(v4)?, remote.port()),
            _ => remote,
        };
        let local = self.addresses.iter().find(|a| a.is_ipv4() == remote.is_ipv4())?;
        Some((SocketAddr::new(*local, self.port), remote))
    }

    /// The first of `remotes` that we have an address for, in the family that we prefer if there is one, and that address.
    pub(super) fn first(&self, remotes: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
        let preferred = remotes.iter().filter(|remote| self.prefer_v4 && remote.is_ipv4());
        preferred.chain(remotes).find_map(|&remote| self.towards(remote))
    }

    /// Where to try for the `attempt`th time: every second time begins with another address of each family. Which family
    /// comes first is not decided here ([`Self::prefer_v4`] changes with every failure): if both changed at once, some
    /// addresses would never have their turn.
    pub(super) fn in_turn(remotes: &[SocketAddr], attempt: usize) -> Vec<SocketAddr> {
        let is_v4_first = remotes.first().is_some_and(SocketAddr::is_ipv4);
        let (mut first, mut second): (Vec<_>, Vec<_>) = remotes.iter().partition(|r| r.is_ipv4() == is_v4_first);
        for family in [&mut first, &mut second] {
            let turn = attempt / 2 % family.len().max(1);
            family.rotate_left(turn);
        }
        first.append(&mut second);
        first
    }

    /// All of `remotes` that we have an address for.
    pub(super) fn all(&self, remotes: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        remotes.iter().filter_map(|&remote| self.towards(remote)).collect()
    }

    fn has(&self, v4: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv4() == v4)
    }

    fn through_nat64(&self, v4: Ipv4Addr) -> Option<IpAddr> {
        let mut octets = self.nat64?.octets();
        octets[12..].copy_from_slice(&v4.octets());
        Some(IpAddr::V6(octets.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_turn_whatever_the_first_failure_was() {
        let remotes: Vec<SocketAddr> =
            ["[2001:db8::2]:443", "[2001:db8::3]:443", "192.0.2.2:443"].map(|text| text.parse().unwrap()).to_vec();
        let addresses = vec!["2001:db8::5".parse().unwrap(), "198.51.100.5".parse().unwrap()];
        for begin in 0..4 {
            let mut places = Places { addresses: addresses.clone(), port: 443, nat64: None, prefer_v4: false };
            let mut tried = std::collections::BTreeSet::new();
            for attempt in begin..begin + 8 {
                tried.extend(places.first(&Places::in_turn(&remotes, attempt)).map(|(_, remote)| remote));
                places.prefer_v4 = !places.prefer_v4;
            }
            assert_eq!(tried.len(), remotes.len(), "from attempt {begin} on: {tried:?}");
        }
    }

    #[test]
    fn ipv4_is_reached_through_nat64_only_without_an_address_of_its_own() {
        let remote: SocketAddr = "192.0.2.33:443".parse().unwrap();
        let mut places = Places {
            addresses: vec!["2001:db8::5".parse().unwrap()],
            port: 443,
            nat64: Some("64:ff9b::".parse().unwrap()),
            prefer_v4: false,
        };
        let translated: SocketAddr = "[64:ff9b::192.0.2.33]:443".parse().unwrap();
        assert_eq!(places.towards(remote), Some(("[2001:db8::5]:443".parse().unwrap(), translated)));
        places.addresses.push("198.51.100.5".parse().unwrap());
        assert_eq!(places.towards(remote), Some(("198.51.100.5:443".parse().unwrap(), remote)));
        (places.addresses, places.nat64) = (vec!["2001:db8::5".parse().unwrap()], None);
        assert_eq!(places.towards(remote), None);
    }
}
