//! Tables of inputs and outputs of [`Cloud`]: [`rows`](crate::node::rows) says how to read them. After `@` stands the
//! instant of the next timer, milliseconds. The end of a pause is random, so it is not written. Rows at both limits
//! show that it lies between them.

use super::*;
use crate::key::Key128;
use crate::name::{Fqdn, NodeId};
use crate::node::rows::{Numbers, Rows, check};

#[derive(Debug)]
struct StoppedClock;

impl WallClock for StoppedClock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::ZERO
    }
}

struct Case {
    cloud: Cloud,
    numbers: Numbers,
}

impl Case {
    fn new(reliable: bool) -> Self {
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        Self { cloud: Cloud::new(addresses, 443, reliable, Arc::new(StoppedClock)), numbers: Numbers::default() }
    }
}

fn login() -> LoginResponse {
    let fqdn: Fqdn = "me.cyphonic.test".parse().unwrap();
    LoginResponse { node: NodeId::of(&fqdn), fqdn, common_key: None, nms: vec!["192.0.2.9:443".parse().unwrap()] }
}

fn failure(word: &str) -> Failure {
    match word {
        "lost" => Failure::ConnectionLost,
        "auth" => Failure::Authentication,
        "displaced" => Failure::Displaced,
        other => panic!("{other}"),
    }
}

fn code(word: &str) -> ErrorCode {
    match word {
        "stale" => ErrorCode::StaleEpoch(2 * 3_600_000_000_000),
        "unregistered" => ErrorCode::NotRegistered,
        "unknown" => ErrorCode::UnknownPeer,
        "other" => ErrorCode::OtherMachine("192.0.2.7:443".parse().unwrap()),
        other => panic!("{other}"),
    }
}

fn response() -> Message {
    let addresses = Virtual { v4: [198, 18, 0, 2].into(), v6: "2001:db8:c::2".parse().unwrap() };
    let survey = SurveyPlan { key: Key128([1; 16]), other_port: 444, others: Vec::new() };
    Message::RegistrationResponse(RegistrationResponse { nat: false, addresses, survey: Some(survey) })
}

impl Rows for Case {
    type Part = Cloud;

    fn part(&mut self) -> &mut Cloud {
        &mut self.cloud
    }

    fn input(&mut self, _now: Instant, words: &[&str]) -> CloudInput {
        let message = |transaction, message| CloudInput::Message { transaction, message };
        match *words {
            ["start"] => CloudInput::Start,
            ["stop"] => CloudInput::Stop,
            ["moved"] => CloudInput::Moved(vec!["192.0.2.2".parse().unwrap()]),
            ["moved", "nowhere"] => CloudInput::Moved(Vec::new()),
            ["logged-in"] => CloudInput::LoggedIn(login()),
            ["ready"] => CloudInput::NmsReady,
            ["failed", why] => CloudInput::Failed(failure(why)),
            ["response", number] => message(self.numbers.read(number), response()),
            ["error", number, why] => message(self.numbers.read(number), Message::Error(code(why))),
            ["ack", number] => message(self.numbers.read(number), Message::KeepAliveAck),
            ["doubt"] => CloudInput::Doubt,
            ["timeout"] => CloudInput::Timeout,
            ref other => panic!("{other:?}"),
        }
    }

    fn output(&mut self, output: CloudOutput) -> String {
        match output {
            CloudOutput::Login { attempt } => format!("login {attempt}"),
            CloudOutput::OpenNms(_) => "open".into(),
            CloudOutput::ChangeFamily => "change family".into(),
            CloudOutput::Send { transaction, count, message } => {
                let what = match message {
                    Message::RegistrationRequest(request) => {
                        let hour = 3_600_000_000_000;
                        assert_eq!(request.port, 443);
                        format!("register from {} epoch {}h", request.addresses[0], request.epoch / hour)
                    }
                    Message::KeepAlive => "keep-alive".into(),
                    other => panic!("{other:?}"),
                };
                format!("{what} {}{}", self.numbers.write(transaction), if count > 0 { " again" } else { "" })
            }
            CloudOutput::Registered { survey, .. } => {
                format!("registered{}", if survey.is_some() { " with plan" } else { "" })
            }
            CloudOutput::Unregistered => "unregistered".into(),
            CloudOutput::Displaced => "end tunnels".into(),
            CloudOutput::Acknowledged(transaction) => format!("acknowledged {}", self.numbers.write(transaction)),
            CloudOutput::Event(Event::Registered { .. }) => "tell registered".into(),
            CloudOutput::Event(Event::Unregistered { reason }) => format!("tell: {reason}"),
            CloudOutput::Event(other) => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        let name = match &self.cloud.state {
            State::Idle => "idle",
            State::LoggingIn { .. } => "logging in",
            State::Opening { .. } => "opening",
            State::Registering { .. } => "registering",
            State::Registered { .. } => "registered",
            State::Pausing { .. } => return "pausing".into(),
        };
        let timer = self.cloud.next_timer().map(|due| format!("@{}", due.at.as_millis_f64()));
        format!("{name}{}", timer.unwrap_or_default())
    }
}

#[test]
fn a_node_logs_in_and_registers_and_leaves_keep_alives_to_a_reliable_carriage() {
    check(
        Case::new(true),
        "
        0      | timeout     |                                              | idle
        0      | start       | login 0                                      | logging in@1000
        0      | start       |                                              | logging in@1000
        50     | logged-in   | open                                         | opening@1050
        50     | logged-in   |                                              | opening@1050
        90     | ready       | register from 192.0.2.1 epoch 0h #0          | registering@590
        590    | timeout     |                                              | registering@1090
        900    | response @7 |                                              | registering@1090
        950    | response #0 | tell registered; registered with plan        | registered
        950    | doubt       |                                              | registered
        100000 | timeout     |                                              | registered
        ",
    );
}

#[test]
fn an_unreliable_carriage_needs_repetitions_and_keep_alives_and_a_silent_nms_is_given_up() {
    check(
        Case::new(false),
        "
        0     | start       | login 0                                           | logging in@4000
        50    | logged-in   | open                                              | opening@4050
        90    | ready       | register from 192.0.2.1 epoch 0h #0               | registering@590
        590   | timeout     | register from 192.0.2.1 epoch 0h #0 again         | registering@1590
        1600  | response #0 | tell registered; registered with plan             | registered@4600
        4600  | timeout     | keep-alive #1                                     | registered@5100
        5100  | timeout     | keep-alive #1 again                               | registered@6100
        6000  | ack @7      | acknowledged @7                                   | registered@6100
        6050  | ack #1      | acknowledged #1                                   | registered@9050
        8000  | doubt       |                                                   | registered@8000
        8000  | timeout     | keep-alive #2                                     | registered@8500
        8100  | doubt       |                                                   | registered@8500
        8500  | timeout     | keep-alive #2 again                               | registered@9500
        9500  | timeout     | keep-alive #2 again                               | registered@10500
        10500 | timeout     | keep-alive #2 again                               | registered@11500
        11500 | timeout     | tell: no answer in time; open; unregistered       | opening@17300
        ",
    );
}

#[test]
fn pauses_grow_with_failures_and_a_doubtful_login_is_made_again() {
    check(
        Case::new(true),
        "
        0     | start       | login 0                                           | logging in@1000
        4000  | timeout     | change family; login 0; change family; tell: no answer in time | pausing
        4499  | timeout     |                                                   | pausing
        5000  | timeout     | login 1                                           | logging in@6000
        5100  | logged-in   | open                                              | opening@6100
        5200  | failed lost | change family; tell: connection lost              | pausing
        6199  | timeout     |                                                   | pausing
        7200  | timeout     | open; login 2                                     | opening@8200
        7300  | failed auth | tell: authentication failed                       | pausing
        7400  | failed lost |                                                   | pausing
        9299  | timeout     |                                                   | pausing
        11300 | timeout     | login 3                                           | logging in@12300
        ",
    );
}

#[test]
fn a_registration_lost_at_once_counts_as_a_failure_and_a_stable_one_does_not() {
    check(
        Case::new(true),
        "
        0     | start       | login 0                                           | logging in@1000
        50    | logged-in   | open                                              | opening@1050
        90    | ready       | register from 192.0.2.1 epoch 0h #0               | registering@590
        130   | response #0 | tell registered; registered with plan             | registered
        2129  | failed lost | tell: connection lost; unregistered               | pausing
        3129  | timeout     | open                                              | opening@4129
        3200  | ready       | register from 192.0.2.1 epoch 0h #1               | registering@3700
        3300  | response #1 | tell registered; registered with plan             | registered
        5300  | failed lost | tell: connection lost; open; unregistered         | opening@6300
        ",
    );
}

#[test]
fn a_refused_epoch_is_followed_at_once_and_not_for_ever() {
    check(
        Case::new(true),
        "
        0    | start           | login 0                                       | logging in@1000
        50   | logged-in       | open                                          | opening@1050
        90   | ready           | register from 192.0.2.1 epoch 0h #0           | registering@590
        130  | error @7 stale  |                                               | registering@590
        140  | error #0 stale  | register from 192.0.2.1 epoch 2h #1           | registering@640
        150  | error #1 stale  | register from 192.0.2.1 epoch 2h #2           | registering@650
        160  | error #2 stale  | tell: refused: stale epoch                    | pausing
        ",
    );
}

#[test]
fn an_nms_that_does_not_know_the_node_any_more_is_registered_with_again() {
    check(
        Case::new(true),
        "
        0     | start                 | login 0                                      | logging in@1000
        50    | logged-in             | open                                         | opening@1050
        90    | ready                 | register from 192.0.2.1 epoch 0h #0          | registering@590
        130   | response #0           | tell registered; registered with plan        | registered
        5000  | error @5 unknown      |                                              | registered
        5000  | error @5 unregistered | tell: refused: not registered; login 0; unregistered | logging in@6000
        ",
    );
}

#[test]
fn a_node_yields_to_another_machine_with_its_key_until_that_one_is_gone() {
    let refused = "tell: refused: another machine has registered with this name and key (at 192.0.2.7:443)";
    check(
        Case::new(true),
        &format!(
            "
            0     | start                 | login 0                                       | logging in@1000
            50    | logged-in             | open                                          | opening@1050
            90    | ready                 | register from 192.0.2.1 epoch 0h #0           | registering@590
            130   | response #0           | tell registered; registered with plan         | registered
            9000  | failed displaced      | end tunnels; tell: another machine has registered with this name and key; unregistered | pausing
            9249  | timeout               |                                               | pausing
            9500  | timeout               | open                                          | opening@10500
            9550  | ready                 | register from 192.0.2.1 epoch 0h #1           | registering@10050
            9600  | error #1 other        | {refused}                                     | pausing
            9610  | failed displaced      |                                               | pausing
            10099 | timeout               |                                               | pausing
            10600 | timeout               | open                                          | opening@11600
            10700 | failed lost           | change family; tell: connection lost          | pausing
            11700 | timeout               | open                                          | opening@12700
            11800 | failed lost           | change family; tell: connection lost          | pausing
            13800 | timeout               | open                                          | opening@14800
            13900 | failed lost           | change family; tell: connection lost          | pausing
            17900 | timeout               | open; login 3                                 | opening@18900
            18000 | ready                 | register from 192.0.2.1 epoch 0h #2           | registering@18500
            18100 | error #2 unregistered | tell: refused: not registered                 | pausing
            18600 | timeout               | login 0                                       | logging in@19600
            18700 | logged-in             | open                                          | opening@19700
            18800 | ready                 | register from 192.0.2.1 epoch 0h #3           | registering@19300
            18900 | response #3           | tell registered; registered with plan         | registered
            "
        ),
    );
}

#[test]
fn what_the_nms_says_of_another_machine_counts_whichever_message_it_answers() {
    check(
        Case::new(false),
        "
        0     | start          | login 0                                      | logging in@4000
        50    | logged-in      | open                                         | opening@4050
        90    | ready          | register from 192.0.2.1 epoch 0h #0          | registering@590
        130   | response #0    | tell registered; registered with plan        | registered@3130
        3130  | timeout        | keep-alive #1                                | registered@3630
        3150  | error @9 other | end tunnels; tell: refused: another machine has registered with this name and key (at 192.0.2.7:443); unregistered | pausing
        ",
    );
}

#[test]
fn a_move_registers_again_at_once_and_a_node_without_an_address_waits_for_one() {
    check(
        Case::new(true),
        "
        0    | moved         |                                              | idle
        0    | start         | login 0                                      | logging in@1000
        50   | logged-in     | open                                         | opening@1050
        90   | ready         | register from 192.0.2.2 epoch 0h #0          | registering@590
        130  | response #0   | tell registered; registered with plan        | registered
        200  | moved         | open; unregistered                           | opening@1200
        240  | ready         | register from 192.0.2.2 epoch 0h #1          | registering@740
        250  | moved nowhere |                                              | idle
        260  | failed lost   |                                              | idle
        300  | moved         | open                                         | opening@1300
        400  | stop          |                                              | idle
        410  | ready         |                                              | idle
        420  | moved         |                                              | idle
        500  | start         | login 0                                      | logging in@1500
        ",
    );
}

#[test]
fn an_error_is_taken_only_if_it_answers_a_request_of_this_part() {
    let mut case = Case::new(true);
    let at = Instant::ZERO;
    let retry = Backoff::start(at, CLOUD_RETRY);
    let registering = State::Registering { transaction: 7, request: Message::KeepAlive, retry, until: at };
    let registered = State::Registered { keep_alive: None, waiting: None };
    let error = |code| Message::Error(code);
    let rows = [
        (registering, [(7, error(ErrorCode::UnknownPeer), true), (8, error(ErrorCode::StaleEpoch(7)), false)]),
        (registered, [(7, error(ErrorCode::NotRegistered), true), (7, error(ErrorCode::UnknownPeer), false)]),
        (State::Opening { until: at }, [(7, Message::KeepAliveAck, false), (7, response(), false)]),
    ];
    for (state, answers) in rows {
        case.cloud.state = state;
        for (transaction, message, expected) in answers {
            let state = &case.cloud.state;
            assert_eq!(case.cloud.expects(transaction, &message), expected, "{state:?} {message:?}");
        }
    }
}
