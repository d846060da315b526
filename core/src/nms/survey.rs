//! The NMS's part in Probes and surveys of nodes' networks (`policy = "optimal"`).
//!
//! A node seals its Probes with a key of its registration, which comes in the Registration Response. The answer to a
//! Probe contains the Probe's source address. A Probe says from where the answer is wanted: from the address to which
//! it was sent, from the NMS's other port, or from the TRS, which is another host. Which answers arrive tells the node
//! how its network filters. The addresses in them tell it how its NAT maps (RFC 5780). The node reports both.
//!
//! The NMS tells peers an address of a node only if the node has received something at that address. So a Probe from
//! the node's main port is answered with a token, which the node returns in its Network Report (`proof`).
//!
//! There is no amplification: an authentic Probe gets one answer, which is not longer than the Probe.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use rand_chacha::rand_core::RngCore;

use super::registry::Session;
use super::{Nms, Place};
use crate::event::{DropReason, Protection};
use crate::header::{Flags, Header, Kind};
use crate::machine::{Output, Transmit};
use crate::message::{
    AddressProof, Answer, Message, NetworkReport, Padding, Probe, ProbeReply, ProbeRequest, SurveyPlan,
};
use crate::name::{NodeId, Party};
use crate::probe;
use crate::route::Policy;
use crate::route::optimal::Reach;
use crate::time::Instant;
use crate::timing::nms::{CHALLENGE_EVERY, CHALLENGES_AT_ONCE};

impl Nms {
    /// What a node needs for its survey. It is sent in the Registration Response.
    pub(super) fn survey_plan(&mut self, place: Place) -> SurveyPlan {
        let key = self.new_key();
        let relay = self.relay.as_ref();
        let others = match place {
            Place::Conventional { .. } => relay.map(|relay| relay.conventional.clone()),
            Place::Proposed { .. } => relay.map(|relay| relay.proposed.clone()),
        };
        SurveyPlan { key, other_port: self.probe_port, others: others.unwrap_or_default() }
    }

    /// The NMS's main port for the node's method.
    pub(super) fn main_port(&self, session: &Session) -> u16 {
        match session {
            Session::Conventional(sealed) => sealed.local.port(),
            Session::Proposed { link } => self.links.local(*link).map_or(0, |local| local.port()),
        }
    }

    /// Answers a Probe, or asks the TRS to answer it.
    pub(super) fn on_probe(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, mut payload: BytesMut) {
        let Ok(header) = Header::decode(&payload) else { return self.dropped(DropReason::BadHeader) };
        if header.kind == Kind::ProbeReply && self.tokens.is_challenge(now, remote, header.transaction, &header.id) {
            return self.rates.is_there(now, remote, header.transaction);
        }
        let node = NodeId(header.id);
        let session = self.nodes.get_mut(&node).and_then(|registration| registration.probes.as_mut());
        let Some(session) = session else { return self.dropped(DropReason::UnknownId) };
        let answer = match session.open_message(&mut payload) {
            Ok((_, Message::Probe(probe))) => probe.answer,
            Ok(_) => return self.dropped(DropReason::Unexpected),
            Err(reason) => return self.dropped(reason),
        };
        if let Answer::OtherAddress(id) = answer {
            return self.ask_trs(now, node, &header, remote, id);
        }
        let port = if answer == Answer::OtherPort { self.probe_port } else { local.port() };
        let reply = if answer == Answer::Noted && local.port() != self.probe_port {
            if defect!(NamedAddressBelieved) {
                self.note(node, remote);
            }
            let Some(registration) = self.nodes.get(&node) else { return };
            let token = self.tokens.token(now, node, registration.epoch, remote);
            Message::ProbeToken(AddressProof { seen: remote, token })
        } else {
            Message::ProbeReply(ProbeReply { seen: remote })
        };
        let session = self.nodes.get_mut(&node).and_then(|registration| registration.probes.as_mut());
        if let Some(payload) = session.and_then(|s| s.seal(header.transaction, 0, node.0, &reply)) {
            let local = SocketAddr::new(local.ip(), port);
            self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
        }
    }

    /// Challenges the source of a Registration Request of this length and transaction, for which no work may be done
    /// now: see [`rates`](super::rates). Nothing is kept, and the challenge is not longer than the request. It repeats
    /// the transaction, so that the node knows it from a forged one.
    pub(super) fn challenge_stranger(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        asked: u32,
        received: usize,
    ) {
        let transaction = probe::transaction(asked);
        let id = self.tokens.challenge(now, remote, transaction);
        let probe = Message::Probe(Probe { answer: Answer::Here, padding: Padding });
        let payload = probe.to_bytes(transaction, Flags(Flags::FROM_RESPONDER), 0, 0, id);
        if payload.len() <= received {
            self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
        }
    }

    /// Sends a Probe Token to an IPv6 address that a node only claims, if Table 1 wants that address for a route. The
    /// node returns the token in a Network Report, and asks for the route again. A node claims an IPv6 address only if
    /// it did not reach the NMS by IPv6.
    pub(super) fn challenge(&mut self, now: Instant, node: NodeId, place: SocketAddr) {
        let local = self.addresses.iter().copied().find(IpAddr::is_ipv6);
        let Some((local, registration)) = local.zip(self.nodes.get(&node)) else { return };
        let is_seen = matches!(&registration.session, Session::Conventional(sealed) if sealed.remote == place);
        let is_claimed = registration.network.is_claimed(place) && !is_seen;
        if self.policy != Policy::Paper || !place.is_ipv6() || !is_claimed {
            return;
        }
        let (epoch, port) = (registration.epoch, self.main_port(&registration.session));
        let transaction = probe::transaction(self.rng.next_u32());
        let token = self.tokens.token(now, node, epoch, place);
        let Some(registration) = self.nodes.get_mut(&node) else { return };
        let next = registration.challenged.max(now) + CHALLENGE_EVERY;
        if next > now + CHALLENGE_EVERY * u32::from(CHALLENGES_AT_ONCE) {
            return;
        }
        registration.challenged = next;
        let message = Message::ProbeToken(AddressProof { seen: place, token });
        let payload = message.to_bytes(transaction, Flags(Flags::FROM_RESPONDER), 0, 0, node.0);
        self.out.push_back(Output::from(Transmit::new(SocketAddr::new(local, port), place, payload)));
    }

    /// Notes the address at which the node's main port is seen. The node has proved that address.
    fn note(&mut self, node: NodeId, remote: SocketAddr) {
        let Some(registration) = self.nodes.get_mut(&node) else { return };
        let translated = !registration.own.contains(&remote);
        let reach = registration.sight.family(remote.ip());
        let behaviour = reach.and_then(|reach| reach.behaviour);
        *reach = Some(Reach { seen: remote, translated, behaviour });
        registration.network.seen_at(remote);
    }

    /// Asks the TRS to answer a Probe. A retransmitted Probe is passed on as a retransmission, in the same transaction.
    fn ask_trs(&mut self, now: Instant, node: NodeId, probe: &Header, to: SocketAddr, id: [u8; 16]) {
        let epoch = self.epochs.next(now);
        self.note_asked(probe.transaction);
        let Some(registration) = self.nodes.get(&node) else { return };
        let port = self.main_port(&registration.session);
        let (Some(relay), Some(session)) = (&self.relay, &mut self.trs) else { return };
        let places = match registration.session {
            Session::Conventional(_) => &relay.conventional,
            Session::Proposed { .. } => &relay.proposed,
        };
        // The TRS answers over the address family in which it is asked.
        let remote = places.iter().find(|place| place.is_ipv4() == to.is_ipv4());
        let local = self.addresses.iter().find(|address| address.is_ipv4() == to.is_ipv4());
        let (Some(&remote), Some(&local)) = (remote, local) else { return };
        let request = Message::ProbeRequest(ProbeRequest { epoch, to, id });
        let Some(payload) = session.seal(probe.transaction, probe.count, NodeId::of(&relay.name).0, &request) else {
            return;
        };
        self.out.push_back(Output::from(Transmit::new(SocketAddr::new(local, port), remote, payload)));
        self.signal(Party::Trs, &request, Protection::ServiceKey, probe.count);
    }

    /// Takes over the proofs of addresses and the behaviour of the networks in a Network Report, and acknowledges it.
    pub(super) fn on_network_report(&mut self, now: Instant, node: NodeId, transaction: u32, report: &NetworkReport) {
        for proof in [&report.at_v6, &report.at_v4].into_iter().flatten() {
            let epoch = self.nodes.get(&node).map(|registration| registration.epoch);
            if epoch.is_some_and(|epoch| self.tokens.is_good(now, node, epoch, proof)) {
                self.note(node, proof.seen);
            }
        }
        if let Some(registration) = self.nodes.get_mut(&node) {
            for (reach, behaviour) in [(&mut registration.sight.v6, report.v6), (&mut registration.sight.v4, report.v4)]
            {
                if let (Some(reach), Some(behaviour)) = (reach, behaviour) {
                    reach.behaviour = Some(behaviour);
                }
            }
        }
        self.send(now, node, transaction, 0, &Message::KeepAliveAck);
    }
}
