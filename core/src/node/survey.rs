//! What the network does to a node's packets, found out by Probes (`policy = "optimal"`; in the manner of RFC 5780).
//!
//! After a registration, for each address family, from three ports at once:
//!
//! | from | to | question |
//! |---|---|---|
//! | the protocol's port | NMS | where am I seen? The NMS takes note. |
//! | a second port | NMS, NMS's other port, TRS | the same from all three? Then the mapping is independent of the destination. |
//! | a third port | NMS, which has its other port, and the TRS, answer as well | who that was never sent anything gets through? |
//! | protocol's port and second port | each other, as seen from outside | does a NAT turn packets around? |
//!
//! The second and third ports are fresh ones, because what a port has done before changes the answers. What is not
//! answered after some tries counts as blocked, if other things were answered, and as unknown otherwise. The node then
//! reports, and from time to time asks again where it is seen: that keeps its mappings alive, and tells when they change.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use super::Node;
use super::carriage::Places;
use crate::conventional::keys::Direction;
use crate::conventional::session::Session;
use crate::event::{DropReason, Event};
use crate::header::{Flags, HEADER_LEN, Header, Kind};
use crate::machine::{Output, Transmit};
use crate::message::{Answer, Message, NetworkReport, ProbeReply, SurveyPlan};
use crate::name::NodeId;
use crate::probe;
use crate::route::optimal::{Behaviour, Filtering, Mapping};
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{PROBE_REFRESH, PROBE_RETRY, PROBE_TRIES, REPORT_RETRY, REPORT_TRIES, SURVEY_LENGTH};
use crate::timing::{Due, Timer};

/// Fresh ports are drawn from here on (RFC 6335 §6).
const FIRST_PORT: u16 = 49152;

/// What the node does to know its network.
pub(super) struct Survey {
    rng: ChaCha20Rng,
    run: Option<Run>,
}

/// The survey of one registration.
struct Run {
    id: NodeId,
    /// Probes between us and the NMS.
    session: Session,
    families: Vec<Family>,
    /// What was asked, by transaction.
    asked: BTreeMap<u32, (usize, Test)>,
    begun: Instant,
    stage: Stage,
}

enum Stage {
    /// Probes are under way.
    Probing { tries: u8, next: Instant, end: Instant },
    /// The NMS has to be told.
    Reporting { transaction: u32, report: NetworkReport, retry: Backoff },
    /// It was; next it is asked where we are then.
    Settled { refresh: Instant },
}

/// What a Probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    /// Where is the protocol's port seen?
    Noted,
    /// Where is the second port seen, by the NMS?
    Second,
    /// By its other port?
    SecondFromOtherPort,
    /// By the TRS?
    SecondFromOtherAddress,
    /// The third port reaches the NMS.
    Control,
    /// Its other port reaches the third port.
    LetsPortIn,
    /// The TRS does.
    LetsAddressIn,
}

const TESTS: [Test; 7] = [
    Test::Noted,
    Test::Second,
    Test::SecondFromOtherPort,
    Test::SecondFromOtherAddress,
    Test::Control,
    Test::LetsPortIn,
    Test::LetsAddressIn,
];

/// One address family.
struct Family {
    v4: bool,
    /// The protocol's port, the second and the third.
    locals: [SocketAddr; 3],
    nms: SocketAddr,
    nms_other_port: SocketAddr,
    trs: Option<SocketAddr>,
    /// Of Probes to the TRS, and of the one that the TRS answers for the NMS.
    id: [u8; 16],
    /// The answers: where we were seen.
    seen: BTreeMap<Test, SocketAddr>,
    hairpin: bool,
}

impl Survey {
    pub(super) fn new(rng: ChaCha20Rng) -> Self {
        Self { rng, run: None }
    }

    pub(super) fn stop(&mut self) {
        self.run = None;
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        self.run.as_ref().map(|run| match &run.stage {
            Stage::Probing { next, end, .. } if next < end => Timer::ProbeRetry.at(*next),
            Stage::Probing { end, .. } => Timer::SurveyEnd.at(*end),
            Stage::Reporting { retry, .. } => Timer::ReportRetry.at(retry.next),
            Stage::Settled { refresh } => Timer::ProbeRefresh.at(*refresh),
        })
    }

    /// The NMS has the report.
    pub(super) fn acknowledged(&mut self, of: u32) {
        if let Some(run) = &mut self.run
            && let Stage::Reporting { transaction, retry, .. } = &run.stage
            && *transaction == of
        {
            run.stage = Stage::Settled { refresh: retry.next + PROBE_REFRESH };
        }
    }

    /// Where the TRS is, if the plan names one.
    pub(super) fn trs_places(&self) -> impl Iterator<Item = SocketAddr> {
        self.run.iter().flat_map(|run| &run.families).filter_map(|family| family.trs)
    }

    fn family(&mut self, v4: bool, places: &Places, nms: &[SocketAddr], plan: &SurveyPlan) -> Option<Family> {
        let (local, nms) = places.towards(*nms.iter().find(|place| place.is_ipv4() == v4)?)?;
        let trs = plan.others.iter().find(|place| place.is_ipv4() == v4).and_then(|&place| places.towards(place));
        let mut locals = [local; 3];
        draw_ports(&mut self.rng, &mut locals);
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        Some(Family {
            v4,
            locals,
            nms,
            nms_other_port: SocketAddr::new(nms.ip(), plan.other_port),
            trs: trs.map(|(_, remote)| remote),
            id,
            seen: BTreeMap::new(),
            hairpin: false,
        })
    }
}

impl Family {
    /// From where a test goes to whom, and what it asks for. `None` where there is nobody to ask.
    fn question(&self, test: Test) -> Option<(SocketAddr, SocketAddr, Answer)> {
        let [main, second, third] = self.locals;
        Some(match test {
            Test::Noted => (main, self.nms, Answer::Noted),
            Test::Second => (second, self.nms, Answer::Here),
            Test::SecondFromOtherPort => (second, self.nms_other_port, Answer::Here),
            Test::SecondFromOtherAddress => (second, self.trs?, Answer::Here),
            Test::Control => (third, self.nms, Answer::Here),
            Test::LetsPortIn => (third, self.nms, Answer::OtherPort),
            Test::LetsAddressIn => self.trs.map(|_| (third, self.nms, Answer::OtherAddress(self.id)))?,
        })
    }

    fn is_open(&self, test: Test) -> bool {
        !self.seen.contains_key(&test) && self.question(test).is_some()
    }

    /// Nothing more can be learnt.
    fn is_complete(&self) -> bool {
        !TESTS.iter().any(|&test| self.is_open(test)) && (self.hairpin || !self.is_translated())
    }

    fn is_translated(&self) -> bool {
        self.seen.get(&Test::Noted).is_some_and(|seen| *seen != self.locals[0])
    }

    fn behaviour(&self) -> Behaviour {
        let seen = |test| self.seen.get(&test).copied();
        let others = [seen(Test::SecondFromOtherPort), seen(Test::SecondFromOtherAddress)];
        let mapping = seen(Test::Second).and_then(|first| {
            let mut others = others.iter().flatten().peekable();
            if first == self.locals[1] || defect!(MappingMistaken) {
                return Some(Mapping::Independent);
            }
            others.peek()?;
            let mapping = others.map(|other| compare(first, *other)).max().expect("there is one");
            // A NAT with a pool of addresses may draw the same one twice, but hardly for all of our ports.
            let ports = [Test::Noted, Test::Control].into_iter().filter_map(seen);
            let pool = ports.into_iter().any(|port| port.ip() != first.ip());
            Some(if mapping == Mapping::Port && pool { Mapping::Address } else { mapping })
        });
        let filtering = match (seen(Test::Control), seen(Test::LetsPortIn), seen(Test::LetsAddressIn)) {
            (_, _, Some(_)) => Some(Filtering::Independent),
            // Without a TRS nobody could tell this from no filter.
            (_, Some(_), None) if defect!(FilteringOffByOne) => Some(Filtering::Independent),
            (Some(_), None, None) if defect!(FilteringOffByOne) => Some(Filtering::Address),
            (_, Some(_), None) => self.trs.map(|_| Filtering::Address),
            (Some(_), None, None) => Some(Filtering::AddressAndPort),
            (None, None, None) => None,
        };
        Behaviour { mapping, filtering, hairpin: self.hairpin, any_port: others[0].is_some() }
    }
}

/// Gives the second and the third of these places other ports than they have, and than each other and the first.
fn draw_ports(rng: &mut ChaCha20Rng, locals: &mut [SocketAddr; 3]) {
    let before = *locals;
    for i in 1..locals.len() {
        while before.contains(&locals[i]) || locals[..i].contains(&locals[i]) {
            locals[i].set_port(FIRST_PORT + (rng.next_u32() % u32::from(u16::MAX - FIRST_PORT)) as u16);
        }
    }
}

fn compare(first: SocketAddr, other: SocketAddr) -> Mapping {
    match (first.ip() == other.ip(), first.port() == other.port()) {
        (true, true) => Mapping::Independent,
        (true, false) => Mapping::Port,
        (false, _) => Mapping::Address,
    }
}

impl Node {
    /// The NMS registered us, and wants to know our network if it sent a plan.
    pub(super) fn start_survey(&mut self, now: Instant, plan: Option<&SurveyPlan>) {
        self.survey.run = None;
        let (Some(plan), Some(login)) = (plan, self.cloud.login()) else { return };
        let (places, nms) = (self.cloud.places.clone(), login.nms.clone());
        let families: Vec<Family> =
            [false, true].into_iter().filter_map(|v4| self.survey.family(v4, &places, &nms, plan)).collect();
        self.survey.run = Some(Run {
            id: NodeId::of(&self.name),
            session: Session::new(&plan.key, Direction::FromInitiator),
            families,
            asked: BTreeMap::new(),
            begun: now,
            stage: Stage::Probing { tries: 0, next: now, end: now + SURVEY_LENGTH * 2 },
        });
        self.survey_timeout(now);
    }

    pub(super) fn survey_timeout(&mut self, now: Instant) {
        let Some(run) = &mut self.survey.run else { return };
        match &mut run.stage {
            Stage::Probing { end, .. } if *end <= now => self.report(now),
            Stage::Probing { tries, next, end } if *next <= now => {
                let count = *tries;
                *tries += 1;
                *next = if *tries < PROBE_TRIES { now + PROBE_RETRY } else { *end };
                self.probe_all(count);
            }
            Stage::Reporting { transaction, report, retry } if retry.next <= now => {
                if retry.sent >= REPORT_TRIES {
                    run.stage = Stage::Settled { refresh: now + PROBE_REFRESH };
                    return;
                }
                let (transaction, count, report) = (*transaction, retry.sent, report.clone());
                retry.again(now);
                if !self.carriage.is_reliable() {
                    self.carriage.send_nms(now, transaction, count, Message::NetworkReport(report));
                    self.drain_carriage(now);
                }
            }
            Stage::Settled { refresh } if *refresh <= now => {
                *refresh = now + PROBE_REFRESH;
                run.asked.clear();
                for family in 0..run.families.len() {
                    self.probe(family, Test::Noted, 0);
                }
            }
            _ => {}
        }
    }

    /// Sends every Probe that was not answered yet, after so many times before.
    fn probe_all(&mut self, count: u8) {
        let families = self.survey.run.as_ref().map_or(0, |run| run.families.len());
        for family in 0..families {
            for test in TESTS {
                self.probe(family, test, count);
            }
            self.probe_hairpin(family);
        }
    }

    fn probe(&mut self, family: usize, test: Test, count: u8) {
        let Some(run) = &mut self.survey.run else { return };
        let settled = matches!(run.stage, Stage::Settled { .. });
        let asked = &run.families[family];
        let Some((local, remote, answer)) = asked.question(test).filter(|_| settled || asked.is_open(test)) else {
            return;
        };
        let transaction = probe::transaction(self.survey.rng.next_u32());
        let message = Message::Probe(answer);
        let payload = if Some(remote) == asked.trs {
            message.to_bytes(transaction, Flags(0), count, 0, asked.id)
        } else {
            let Some(sealed) = run.session.seal(transaction, count, run.id.0, &message) else { return };
            sealed
        };
        run.asked.insert(transaction, (family, test));
        self.out.push_back(Output::Transmit(Transmit::new(local, remote, payload)));
    }

    /// The protocol's port and the second one send to where the other is seen.
    fn probe_hairpin(&mut self, family: usize) {
        let Some(run) = &self.survey.run else { return };
        let asked = &run.families[family];
        let places = (asked.seen.get(&Test::Noted), asked.seen.get(&Test::Second));
        let (Some(&main), Some(&second)) = places else { return };
        if !asked.is_translated() || asked.hairpin {
            return;
        }
        let payload = Message::Probe(Answer::Here).to_bytes(0, Flags(0), 0, 0, asked.id);
        for (local, to) in [(asked.locals[0], second), (asked.locals[1], main)] {
            if let Some((_, remote)) = self.cloud.places.towards(to) {
                self.out.push_back(Output::Transmit(Transmit::new(local, remote, payload.clone())));
            }
        }
    }

    /// An answer to a Probe, or a Probe of our own that came back.
    pub(super) fn on_probe_reply(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) {
        match self.take_probe_reply(now, local, remote, payload) {
            Ok(()) => {}
            Err(reason) => self.dropped(reason),
        }
    }

    fn take_probe_reply(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        mut payload: BytesMut,
    ) -> Result<(), DropReason> {
        let header = Header::decode(&payload).map_err(|_| DropReason::BadHeader)?;
        let run = self.survey.run.as_mut().ok_or(DropReason::Unexpected)?;
        if header.kind == Kind::Probe {
            return self.on_hairpin(now, &header, local, remote);
        }
        let sealed = header.id == run.id.0;
        let message = if sealed {
            run.session.open_message(&mut payload)?.1
        } else {
            Message::decode_body(header.kind, &payload[HEADER_LEN..]).map_err(|_| DropReason::BadBody)?
        };
        let Message::ProbeReply(ProbeReply { seen }) = message else { return Err(DropReason::Unexpected) };
        let &(index, test) = run.asked.get(&header.transaction).ok_or(DropReason::Unexpected)?;
        let family = &mut run.families[index];
        // What the NMS says of itself it seals; what the TRS says has the id that only it was told.
        let by_trs = matches!(test, Test::SecondFromOtherAddress | Test::LetsAddressIn);
        let expected = family.question(test).is_some_and(|(from, ..)| from == local);
        if sealed == by_trs || !expected || (by_trs && header.id != family.id) || seen.is_ipv4() != family.v4 {
            return Err(DropReason::Unexpected);
        }
        let before = family.seen.insert(test, seen);
        match &mut run.stage {
            Stage::Probing { end, .. } => {
                if test == Test::Noted && before.is_none() {
                    *end = run.begun + SURVEY_LENGTH + (now - run.begun) * 2;
                }
                if matches!(test, Test::Noted | Test::Second) && before.is_none() {
                    self.probe_hairpin(index);
                }
                self.report_if_complete(now);
            }
            Stage::Settled { .. } if before != Some(seen) => self.resurvey(now),
            Stage::Reporting { .. } | Stage::Settled { .. } => {}
        }
        Ok(())
    }

    /// Our own Probe came back to us: a NAT turned it around. It counts if it came from the address at which its
    /// sender is seen, and not from its inner one.
    fn on_hairpin(
        &mut self,
        now: Instant,
        header: &Header,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), DropReason> {
        let places = self.cloud.places.clone();
        let run = self.survey.run.as_mut().ok_or(DropReason::Unexpected)?;
        let family = run.families.iter_mut().find(|family| family.id == header.id).ok_or(DropReason::Unexpected)?;
        let second = family.seen.get(&Test::Second).and_then(|&seen| places.towards(seen));
        if local != family.locals[0] {
            return Ok(());
        }
        // A NAT that maps by destination has another port for this one.
        if second.map(|(_, place)| place.ip()) != Some(remote.ip()) {
            return Err(DropReason::Unexpected);
        }
        family.hairpin = true;
        self.report_if_complete(now);
        Ok(())
    }

    fn report_if_complete(&mut self, now: Instant) {
        let complete = self.survey.run.as_ref().is_some_and(|run| {
            matches!(run.stage, Stage::Probing { .. }) && run.families.iter().all(Family::is_complete)
        });
        if complete {
            self.report(now);
        }
    }

    fn report(&mut self, now: Instant) {
        let transaction = self.random_u32();
        let Some(run) = &mut self.survey.run else { return };
        let mut report = NetworkReport { v6: None, v4: None };
        for family in &run.families {
            let behaviour = Some(family.behaviour());
            *(if family.v4 { &mut report.v4 } else { &mut report.v6 }) = behaviour;
        }
        run.asked.clear();
        run.stage = Stage::Reporting { transaction, report: report.clone(), retry: Backoff::start(now, REPORT_RETRY) };
        self.event(Event::Surveyed(report.clone()));
        self.carriage.send_nms(now, transaction, 0, Message::NetworkReport(report));
        self.drain_carriage(now);
        self.improve_all(now);
    }

    /// We are seen elsewhere than before: another NAT perhaps, or one that forgot us.
    fn resurvey(&mut self, now: Instant) {
        let Some(run) = &mut self.survey.run else { return };
        for family in &mut run.families {
            family.seen.clear();
            family.hairpin = false;
            draw_ports(&mut self.survey.rng, &mut family.locals);
        }
        run.asked.clear();
        run.begun = now;
        run.stage = Stage::Probing { tries: 0, next: now, end: now + SURVEY_LENGTH * 2 };
        self.survey_timeout(now);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn each_survey_has_ports_that_none_of_its_own_and_of_the_one_before_has() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        // The protocol's port may lie among those that are drawn from, at its end too.
        for port in [443, FIRST_PORT, u16::MAX] {
            let mut locals = [SocketAddr::from(([192, 0, 2, 1], port)); 3];
            for _ in 0..20_000 {
                let before = locals;
                draw_ports(&mut rng, &mut locals);
                assert_eq!(locals[0], before[0]);
                assert!(locals[1..].iter().all(|local| local.port() >= FIRST_PORT && !before.contains(local)));
                assert_ne!(locals[1], locals[2]);
            }
        }
    }
}
