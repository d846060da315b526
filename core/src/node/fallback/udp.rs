//! Attempts at UDP in a network that blocks it, to find out whether UDP gets through now.

use std::net::{IpAddr, SocketAddr};

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
    remote: SocketAddr,
    /// If no answer has come by this instant, UDP counts as still blocked.
    pub(super) until: Instant,
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
        let is_its = |probe: &&mut Probe| probe.remote == remote && destination_prefix(payload) == Some(probe.tag);
        let Some(probe) = self.probe.as_mut().filter(is_its) else { return false };
        let is_answer = probe.links.hear_datagram(now, local, remote, payload.clone()).is_some();
        probe.links.finish(now);
        if is_answer {
            probe.links.close(now, probe.link);
        }
        while let Some(output) = probe.links.poll() {
            if let LinkOutput::Transmit(transmit) = output {
                self.out.push_back(FallbackOutput::Pass(Output::Transmit(transmit)));
            }
        }
        if is_answer {
            self.probe = None;
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
                self.out.push_back(FallbackOutput::Pass(Output::Transmit(transmit)));
            }
        }
        self.probe = Some(Probe { tag, links, link, remote, until: now + UDP_PROBE_WAIT });
        is_last
    }
}
