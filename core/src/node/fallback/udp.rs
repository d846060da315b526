//! Attempts at UDP in a network that blocks it, to find out whether UDP gets through now.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::rand_core::RngCore;

use super::{Fallback, FallbackOutput};
use crate::machine::Output;
use crate::name::RelayCid;
use crate::quic::{CidScheme, LinkId, LinkOutput, Links, Load, destination_prefix};
use crate::time::Instant;
use crate::timing::proxied::UDP_PROBE_WAIT;

/// One attempt at UDP.
pub(super) struct Probe {
    /// The first eight bytes of its connection IDs, by which its answers are recognized.
    tag: RelayCid,
    links: Links,
    link: LinkId,
    since: Instant,
    /// If no answer has come by this instant, UDP counts as still blocked.
    pub(super) until: Instant,
}

/// The return of a service to UDP, until it is heard by UDP.
pub(super) struct Return {
    /// When the next attempt is sent, and the time until the one after it.
    pub(super) attempt_at: Instant,
    wait: Duration,
    /// UDP has had its head start, so datagrams go by TCP as well.
    pub(super) both_ways: bool,
}

impl Return {
    /// An attempt was sent, and UDP has this head start.
    pub(super) fn new(now: Instant, head_start: Duration) -> Self {
        Self { attempt_at: now + head_start, wait: 2 * head_start, both_ways: false }
    }
}

impl Fallback {
    /// Handles a UDP datagram if it belongs to the attempt under way, and returns whether it does. An answer ends the
    /// attempt; the connection is not completed.
    pub(in crate::node) fn takes(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &BytesMut,
    ) -> bool {
        let is_its = |probe: &&mut Probe| destination_prefix(payload) == Some(probe.tag);
        let Some(probe) = self.attempts.get_mut(&remote).filter(is_its) else { return false };
        let is_answer = probe.links.hear_datagram(now, local, remote, payload.clone()).is_some();
        probe.links.finish(now);
        if is_answer {
            probe.links.close(now, probe.link);
        }
        while let Some(output) = probe.links.poll() {
            if let LinkOutput::Transmit(transmit) = output {
                self.out.push_back(FallbackOutput::Pass(Output::from(transmit)));
            }
        }
        if is_answer {
            self.round_trip = self.round_trip.max(now.saturating_since(probe.since));
            self.attempts.remove(&remote);
            if let Some(service) = self.services.get_mut(&remote) {
                service.local = local;
            }
            self.gets_through(now, remote);
        }
        true
    }

    /// Sends the first packet of a QUIC connection to a service by UDP, from the `turn`th of our addresses: 0 is the
    /// one from which the service is reached. Returns whether no address is left that has not had its turn.
    pub(super) fn try_udp(&mut self, now: Instant, remote: SocketAddr, turn: usize) -> bool {
        let Some(service) = self.services.get(&remote) else { return true };
        let (mut local, name) = (service.local, service.name.clone());
        let of_family: Vec<IpAddr> = self.here.iter().copied().filter(|a| a.is_ipv4() == local.is_ipv4()).collect();
        let first = of_family.iter().position(|&address| address == local.ip()).unwrap_or_default();
        if let Some(at) = (first + turn).checked_rem(of_family.len()) {
            local.set_ip(of_family[at]);
        }
        let is_last = turn % of_family.len().max(1) + 1 >= of_family.len();
        let mut tag = RelayCid([0; 8]);
        self.rng.fill_bytes(&mut tag.0);
        let Ok(mut links) = Links::new(self.quic.clone(), CidScheme::Relayed(tag), false, &mut self.rng) else {
            return is_last;
        };
        let Some(link) = links.connect(now, local, remote, &name, None, Load::Signaling) else { return is_last };
        self.unheard.tried(now);
        while let Some(output) = links.poll() {
            if let LinkOutput::Transmit(transmit) = output {
                self.out.push_back(FallbackOutput::Pass(Output::from(transmit)));
            }
        }
        self.attempts.insert(remote, Probe { tag, links, link, since: now, until: now + UDP_PROBE_WAIT });
        is_last
    }

    /// A service does not answer by UDP, although UDP works again: datagrams go both ways from now on. UDP is tried
    /// once more, because TCP's answer may hide that of UDP.
    pub(super) fn goes_both_ways(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get_mut(&remote) else { return };
        let Some(back) = &mut service.returning else { return };
        (back.attempt_at, back.wait) = (now + back.wait, 2 * back.wait);
        let is_first = !std::mem::replace(&mut back.both_ways, true);
        if let Some(conduit) = service.conduit.as_mut().filter(|_| is_first) {
            for datagram in &service.recent {
                conduit.send(now, datagram);
            }
        }
        self.try_udp(now, remote, 0);
    }
}
