//! How the network treats a node's packets, measured by Probes (`policy = "optimal"`, in the manner of RFC 5780).
//!
//! After a registration the node sends Probes, for each address family, from three ports at once:
//!
//! | from | to | test |
//! |---|---|---|
//! | the protocol's port | NMS | External address, and the NMS's token for it. |
//! | the protocol's port | TRS | Keeps a session free: some NATs allow a host few of them, and a relay needs one. |
//! | a second port | NMS, its other port, TRS | Mapping: do all three see the same address? |
//! | a third port | NMS, and its other port and the TRS answer | Filtering: which of them gets through? |
//! | protocol's and second port | each other's external address | Hairpinning: does a NAT turn packets around? |
//!
//! The second and third ports are fresh ones, because earlier packets of a port change the answers. A test that is not
//! answered after some tries counts as blocked if other tests were answered, and as unknown otherwise. The node then
//! reports the results to the NMS. From time to time it asks for its external address again: that keeps its mapping
//! alive and shows when it changes.
//!
//! [`Survey`] is a [`Part`]: it does not see the cloud, the routes or the carriage.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use super::part::{Part, Turn};
use super::places::Places;
use crate::conventional::keys::Direction;
use crate::conventional::session::Session;
use crate::event::{DropReason, Event};
use crate::header::{Flags, HEADER_LEN, Header, Kind, options_len};
use crate::machine::Transmit;
use crate::message::{AddressProof, Answer, Message, NetworkReport, Padding, Probe, ProbeReply, SurveyPlan};
use crate::name::{Fqdn, NodeId};
use crate::probe;
use crate::route::optimal::{Behaviour, Filtering, Mapping};
use crate::time::Instant;
use crate::timers::Backoff;
use crate::timing::node::{
    CHALLENGE_RETURNED, PROBE_REFRESH, PROBE_RETRY, PROBE_TRIES, REPORT_RETRY, REPORT_TRIES, SURVEY_LENGTH,
};
use crate::timing::{Due, Timer};
use crate::tls::Environment;

/// Fresh ports are drawn from here on (RFC 6335 §6).
const FIRST_PORT: u16 = 49152;
/// How many challenges of the NMS a node remembers: those of five minutes (`CHALLENGE_EVERY`).
const MAX_CHALLENGES: usize = 32;

/// What can happen to [`Survey`].
pub(super) enum SurveyInput {
    /// The NMS registered the node. A survey begins if the NMS sent a plan for one. `nms`: the NMS's addresses. `slow`:
    /// the round trip to it, if that is long.
    Registered { plan: Option<SurveyPlan>, nms: Vec<SocketAddr>, places: Places, slow: Option<Duration> },
    /// The node's addresses changed, or the node stops.
    Stop,
    /// The NMS acknowledged a message with this transaction.
    Acknowledged(u32),
    /// A Probe Reply came, or a Probe of our own that a NAT turned around.
    Reply { local: SocketAddr, remote: SocketAddr, payload: BytesMut },
    /// Time has passed.
    Timeout,
}

/// An output of [`Survey`].
pub(super) enum SurveyOutput {
    /// Send a Probe.
    Transmit(Transmit),
    /// Send the NMS a Network Report; `count` is the number of its earlier transmissions.
    Report { transaction: u32, count: u8, report: NetworkReport },
    /// The network is better known than before: direct ways that failed may work now.
    Complete,
    /// An event for the driver.
    Event(Event),
}

/// See the [module](self).
pub(super) struct Survey {
    id: NodeId,
    /// Where the survey key is logged, if the operator asked for it.
    env: Environment,
    /// Whether messages to the NMS arrive without being sent again.
    reliable: bool,
    rng: ChaCha20Rng,
    /// The NMS's addresses, and ours, in this registration.
    registered: Option<(Vec<SocketAddr>, Places)>,
    /// The transactions of the last challenges that were answered, and when the last one was.
    challenges: (VecDeque<u32>, Instant),
    run: Option<Run>,
}

/// The survey of one registration.
struct Run {
    /// Protects Probes between the node and the NMS.
    session: Session,
    places: Places,
    families: Vec<Family>,
    /// The tests that wait for an answer, by transaction: family and test.
    asked: BTreeMap<u32, (usize, Test)>,
    begun: Instant,
    /// The round trip, if it is long.
    slow: Duration,
    state: RunState,
}

enum RunState {
    /// Probes are under way.
    Probing { tries: u8, next: Instant, end: Instant },
    /// The Network Report waits for its Ack.
    Reporting { transaction: u32, report: NetworkReport, retry: Backoff },
    /// The NMS has the report. At `refresh` the external address is asked for again.
    Reported { refresh: Instant },
}

/// The purpose of a Probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    /// The external address of the protocol's port, as the NMS sees it.
    Noted,
    /// Whether the TRS answers the protocol's port. A NAT that allows a host few sessions has one for a relay then.
    Kept,
    /// That of the second port, as the NMS sees it.
    Second,
    /// That of the second port, as the NMS's other port sees it.
    SecondFromOtherPort,
    /// The external address of the second port, as the TRS sees it.
    SecondFromOtherAddress,
    /// Whether the third port reaches the NMS at all.
    Control,
    /// Whether the NMS's other port reaches the third port, which sent it nothing.
    LetsPortIn,
    /// Whether the TRS reaches the third port, which sent it nothing.
    LetsAddressIn,
}

/// Every test, in the order in which the Probes are sent.
const TESTS: [Test; 8] = [
    Test::Noted,
    Test::Kept,
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
    /// The header id of Probes to the TRS, and of the one that the TRS answers for the NMS. Only node and TRS know it.
    id: [u8; 16],
    /// The answers: external addresses.
    seen: BTreeMap<Test, SocketAddr>,
    /// The NMS's token for the external address of the protocol's port.
    proof: Option<AddressProof>,
    hairpin: bool,
}

impl Part for Survey {
    type Input = SurveyInput;
    type Output = SurveyOutput;

    fn handle(&mut self, turn: &mut Turn<'_, SurveyOutput>, input: SurveyInput) {
        match input {
            SurveyInput::Registered { plan, nms, places, slow } => {
                self.start(turn, plan, &nms, places, slow.unwrap_or_default());
            }
            SurveyInput::Stop => (self.run, self.registered) = (None, None),
            SurveyInput::Acknowledged(transaction) => self.on_acknowledged(transaction),
            SurveyInput::Reply { local, remote, payload } => {
                if let Err(reason) = self.on_reply(turn, local, remote, payload) {
                    turn.push(SurveyOutput::Event(Event::Dropped(reason)));
                }
            }
            SurveyInput::Timeout => self.on_timeout(turn),
        }
    }

    fn next_timer(&self) -> Option<Due> {
        self.run.as_ref().map(|run| match &run.state {
            RunState::Probing { next, end, .. } if next < end => Timer::ProbeRetry.at(*next),
            RunState::Probing { end, .. } => Timer::SurveyEnd.at(*end),
            RunState::Reporting { retry, .. } => Timer::ReportRetry.at(retry.next),
            RunState::Reported { refresh } => Timer::ProbeRefresh.at(*refresh),
        })
    }
}

impl Survey {
    /// Waits for a registration. `reliable`: messages to the NMS arrive without being sent again.
    pub(super) fn new(name: &Fqdn, env: Environment, reliable: bool, rng: ChaCha20Rng) -> Self {
        Self {
            id: NodeId::of(name),
            env,
            reliable,
            rng,
            registered: None,
            challenges: (VecDeque::new(), Instant::ZERO),
            run: None,
        }
    }

    /// The TRS's addresses, if the plan names one.
    pub(super) fn trs(&self) -> impl Iterator<Item = SocketAddr> {
        self.run.iter().flat_map(|run| &run.families).filter_map(|family| family.trs)
    }

    fn on_acknowledged(&mut self, of: u32) {
        if let Some(run) = &mut self.run
            && let RunState::Reporting { transaction, retry, .. } = &run.state
            && *transaction == of
        {
            run.state = RunState::Reported { refresh: retry.next + PROBE_REFRESH };
        }
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
            proof: None,
            hairpin: false,
        })
    }
}

impl Family {
    /// A test's source, destination and question. `None` if it needs a TRS and there is none.
    fn question(&self, test: Test) -> Option<(SocketAddr, SocketAddr, Answer)> {
        let [main, second, third] = self.locals;
        Some(match test {
            Test::Noted => (main, self.nms, Answer::Noted),
            Test::Kept => (main, self.trs?, Answer::Here),
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

    /// Whether every test is answered.
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
            (_, Some(_), None) if defect!(FilteringOffByOne) => Some(Filtering::Independent),
            (Some(_), None, None) if defect!(FilteringOffByOne) => Some(Filtering::Address),
            // Without a TRS this looks the same as no filtering.
            (_, Some(_), None) => self.trs.map(|_| Filtering::Address),
            (Some(_), None, None) => Some(Filtering::AddressAndPort),
            (None, None, None) => None,
        };
        Behaviour { mapping, filtering, hairpin: self.hairpin, any_port: others[0].is_some() }
    }
}

/// Gives the second and the third place new ports, different from each other and from the first one's.
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

impl Survey {
    fn start(
        &mut self,
        turn: &mut Turn<'_, SurveyOutput>,
        plan: Option<SurveyPlan>,
        nms: &[SocketAddr],
        places: Places,
        slow: Duration,
    ) {
        self.run = None;
        self.registered = Some((nms.to_vec(), places.clone()));
        let Some(plan) = plan else { return };
        self.env.log_survey_key(self.id, &plan.key);
        let families = [false, true].into_iter().filter_map(|v4| self.family(v4, &places, nms, &plan)).collect();
        self.run = Some(Run {
            session: Session::new(&plan.key, Direction::FromInitiator),
            places,
            families,
            asked: BTreeMap::new(),
            begun: turn.now,
            slow,
            state: RunState::Probing { tries: 0, next: turn.now, end: turn.now + SURVEY_LENGTH * 2 + 2 * slow },
        });
        self.on_timeout(turn);
    }

    fn on_timeout(&mut self, turn: &mut Turn<'_, SurveyOutput>) {
        let now = turn.now;
        let Some(run) = &mut self.run else { return };
        match &mut run.state {
            RunState::Probing { end, .. } if *end <= now => self.report(turn),
            RunState::Probing { tries, next, end } if *next <= now => {
                let count = *tries;
                *tries += 1;
                *next = if *tries < PROBE_TRIES { now + PROBE_RETRY } else { *end };
                self.probe_all(turn, count);
            }
            RunState::Reporting { transaction, report, retry } if retry.next <= now => {
                if retry.sent >= REPORT_TRIES {
                    run.state = RunState::Reported { refresh: now + PROBE_REFRESH };
                    return;
                }
                let (transaction, count, report) = (*transaction, retry.sent, report.clone());
                retry.again(now);
                if !self.reliable {
                    turn.push(SurveyOutput::Report { transaction, count, report });
                }
            }
            RunState::Reported { refresh } if *refresh <= now => {
                *refresh = now + PROBE_REFRESH;
                run.asked.clear();
                for family in 0..run.families.len() {
                    self.probe(turn, family, Test::Noted, 0);
                }
            }
            _ => {}
        }
    }

    /// Sends every Probe that was not answered yet; `count` is the number of earlier transmissions.
    fn probe_all(&mut self, turn: &mut Turn<'_, SurveyOutput>, count: u8) {
        let families = self.run.as_ref().map_or(0, |run| run.families.len());
        for family in 0..families {
            for test in TESTS {
                self.probe(turn, family, test, count);
            }
            self.probe_hairpin(turn, family);
        }
    }

    fn probe(&mut self, turn: &mut Turn<'_, SurveyOutput>, family: usize, test: Test, count: u8) {
        let Some(run) = &mut self.run else { return };
        let refreshes = matches!(run.state, RunState::Reported { .. });
        let asked = &run.families[family];
        let Some((local, remote, answer)) = asked.question(test).filter(|_| refreshes || asked.is_open(test)) else {
            return;
        };
        let transaction = probe::transaction(self.rng.next_u32());
        let message = Message::Probe(Probe { answer, padding: Padding });
        let payload = if Some(remote) == asked.trs {
            message.to_bytes(transaction, Flags(0), count, 0, asked.id)
        } else {
            let Some(sealed) = run.session.seal(transaction, count, self.id.0, &message) else { return };
            sealed
        };
        run.asked.insert(transaction, (family, test));
        turn.push(SurveyOutput::Transmit(Transmit::new(local, remote, payload)));
    }

    /// The protocol's port and the second one send to each other's external address.
    fn probe_hairpin(&self, turn: &mut Turn<'_, SurveyOutput>, family: usize) {
        let Some(run) = &self.run else { return };
        let asked = &run.families[family];
        let places = (asked.seen.get(&Test::Noted), asked.seen.get(&Test::Second));
        let (Some(&main), Some(&second)) = places else { return };
        if !asked.is_translated() || asked.hairpin {
            return;
        }
        let payload =
            Message::Probe(Probe { answer: Answer::Here, padding: Padding }).to_bytes(0, Flags(0), 0, 0, asked.id);
        for (local, to) in [(asked.locals[0], second), (asked.locals[1], main)] {
            if let Some((_, remote)) = run.places.towards(to) {
                turn.push(SurveyOutput::Transmit(Transmit::new(local, remote, payload.clone())));
            }
        }
    }

    fn on_reply(
        &mut self,
        turn: &mut Turn<'_, SurveyOutput>,
        local: SocketAddr,
        remote: SocketAddr,
        mut payload: BytesMut,
    ) -> Result<(), DropReason> {
        let now = turn.now;
        let header = Header::decode(&payload).map_err(|_| DropReason::BadHeader)?;
        if header.kind == Kind::ProbeToken && payload.len() == HEADER_LEN + usize::from(header.length) {
            return self.on_challenge(turn, &header, local, remote, &payload);
        }
        let run = self.run.as_mut().ok_or(DropReason::Unexpected)?;
        if header.kind == Kind::Probe {
            return self.on_hairpin(turn, &header, local, remote);
        }
        let sealed = header.id == self.id.0;
        let message = if sealed {
            run.session.open_message(&mut payload)?.1
        } else {
            let options = options_len(header.option, &payload[HEADER_LEN..]).ok_or(DropReason::BadBody)?;
            Message::decode_body(header.kind, &payload[HEADER_LEN + options..]).map_err(|_| DropReason::BadBody)?
        };
        let (seen, proof) = match message {
            Message::ProbeReply(ProbeReply { seen }) => (seen, None),
            Message::ProbeToken(proof) => (proof.seen, Some(proof)),
            _ => return Err(DropReason::Unexpected),
        };
        let &(index, test) = run.asked.get(&header.transaction).ok_or(DropReason::Unexpected)?;
        let family = &mut run.families[index];
        // The NMS seals its own replies. A reply of the TRS has the id that only the TRS was told.
        let by_trs = matches!(test, Test::Kept | Test::SecondFromOtherAddress | Test::LetsAddressIn);
        let expected = family.question(test).is_some_and(|(from, ..)| from == local);
        if sealed == by_trs || !expected || (by_trs && header.id != family.id) || seen.is_ipv4() != family.v4 {
            return Err(DropReason::Unexpected);
        }
        let before = family.seen.insert(test, seen);
        family.proof = proof.filter(|_| test == Test::Noted).or(family.proof);
        match &mut run.state {
            RunState::Probing { end, .. } => {
                if test == Test::Noted && before.is_none() {
                    *end = run.begun + SURVEY_LENGTH + (now - run.begun) * 2;
                }
                if matches!(test, Test::Noted | Test::Second) && before.is_none() {
                    self.probe_hairpin(turn, index);
                }
                self.report_if_complete(turn);
            }
            RunState::Reported { .. } if before != Some(seen) => self.survey_again(turn),
            RunState::Reporting { .. } | RunState::Reported { .. } => {}
        }
        Ok(())
    }

    /// The NMS asks whether we are where we said that we are. What nobody but the NMS can make is returned to it.
    fn on_challenge(
        &mut self,
        turn: &mut Turn<'_, SurveyOutput>,
        header: &Header,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let (nms, places) = self.registered.as_ref().ok_or(DropReason::Unexpected)?;
        let options = options_len(header.option, &payload[HEADER_LEN..]).ok_or(DropReason::BadBody)?;
        let message = Message::decode_body(header.kind, &payload[HEADER_LEN + options..]);
        let Ok(Message::ProbeToken(proof)) = message else { return Err(DropReason::BadBody) };
        let is_ours = proof.seen == local && local.is_ipv6() && places.addresses.contains(&local.ip());
        let (answered, last) = &mut self.challenges;
        if answered.contains(&header.transaction) {
            return Err(DropReason::Replayed);
        }
        let is_due = answered.is_empty() || *last + CHALLENGE_RETURNED <= turn.now;
        if header.id != self.id.0 || !nms.iter().any(|nms| nms.ip() == remote.ip()) || !is_ours || !is_due {
            return Err(DropReason::Unexpected);
        }
        *last = turn.now;
        answered.push_back(header.transaction);
        if answered.len() > MAX_CHALLENGES {
            answered.pop_front();
        }
        let report = NetworkReport { v6: None, v4: None, at_v6: Some(proof), at_v4: None };
        let transaction = turn.random.u32();
        turn.push(SurveyOutput::Report { transaction, count: 0, report });
        Ok(())
    }

    /// Takes a Probe of our own that a NAT turned around. It counts if it came from its sender's external address. If
    /// it came from the inner address, the NAT does not translate such packets, and a peer's replies would not match.
    fn on_hairpin(
        &mut self,
        turn: &mut Turn<'_, SurveyOutput>,
        header: &Header,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), DropReason> {
        let run = self.run.as_mut().ok_or(DropReason::Unexpected)?;
        let family = run.families.iter_mut().find(|family| family.id == header.id).ok_or(DropReason::Unexpected)?;
        let second = family.seen.get(&Test::Second).and_then(|&seen| run.places.towards(seen));
        if local != family.locals[0] {
            return Ok(());
        }
        // Only the address is compared: a NAT that maps by destination uses another port for this destination.
        if second.map(|(_, place)| place.ip()) != Some(remote.ip()) {
            return Err(DropReason::Unexpected);
        }
        family.hairpin = true;
        self.report_if_complete(turn);
        Ok(())
    }

    fn report_if_complete(&mut self, turn: &mut Turn<'_, SurveyOutput>) {
        let complete = self.run.as_ref().is_some_and(|run| {
            matches!(run.state, RunState::Probing { .. }) && run.families.iter().all(Family::is_complete)
        });
        if complete {
            self.report(turn);
        }
    }

    fn report(&mut self, turn: &mut Turn<'_, SurveyOutput>) {
        let transaction = turn.random.u32();
        let Some(run) = &mut self.run else { return };
        let mut report = NetworkReport { v6: None, v4: None, at_v6: None, at_v4: None };
        for family in &run.families {
            let (behaviour, proof) =
                if family.v4 { (&mut report.v4, &mut report.at_v4) } else { (&mut report.v6, &mut report.at_v6) };
            (*behaviour, *proof) = (Some(family.behaviour()), family.proof);
        }
        run.asked.clear();
        let retry = Backoff::start(turn.now, REPORT_RETRY);
        run.state = RunState::Reporting { transaction, report: report.clone(), retry };
        turn.push(SurveyOutput::Event(Event::Surveyed(report.clone())));
        turn.push(SurveyOutput::Report { transaction, count: 0, report });
        // The report is acknowledged first, because a request for a direct path must find the NMS informed.
        turn.push(SurveyOutput::Complete);
    }

    /// The external address changed: the NAT is another one, or has lost the node's mapping.
    fn survey_again(&mut self, turn: &mut Turn<'_, SurveyOutput>) {
        let Some(run) = &mut self.run else { return };
        for family in &mut run.families {
            family.seen.clear();
            family.proof = None;
            family.hairpin = false;
            draw_ports(&mut self.rng, &mut family.locals);
        }
        run.asked.clear();
        run.begun = turn.now;
        let end = turn.now + SURVEY_LENGTH * 2 + 2 * run.slow;
        run.state = RunState::Probing { tries: 0, next: turn.now, end };
        self.on_timeout(turn);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn each_survey_has_ports_that_none_of_its_own_and_of_the_one_before_has() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        // The protocol's port may be one of the ports that are drawn, or the last of them.
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
