//! Epochs: a registration from the end of time, and clocks that are wrong by more than the NMS puts up with.

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::key::Key128;
use cyphonic_core::message::{AtEnd, ErrorCode, Message, RegistrationRequest, RelayEpoch, RelayRequest};
use cyphonic_core::name::{NodeId, PathId};
use cyphonic_core::node::NodeCommand;
use cyphonic_scenarios::Engine;
use cyphonic_sim::world::{Actor, Watch, service_key};

use crate::arena::{Arena, Arrived, Role, SEED};
use crate::common::{NAT, V4, arrows, play, scene, scene_with};
use crate::rogue::{Rogue, fqdn};

const CONVENTIONAL: &str = "method = \"conventional\"";
const PROPOSED: &str = "method = \"proposed\"";
const LINK: &str = "{ delay_ms = 2 }";
/// Ten years, less a day: certificates count that long.
const DAYS: i32 = 3_649;

/// The last registration that there can be.
fn at_the_end_of_time() -> Message {
    let addresses = vec!["198.51.100.200".parse().unwrap()];
    Message::RegistrationRequest(RegistrationRequest { epoch: u64::MAX, addresses, port: 443 })
}

/// What the attacker, with Alice's certificate for a moment, is told.
fn told(arena: &mut Arena) -> Vec<Message> {
    let alice = NodeId::of(&fqdn("alice"));
    let mut mallory = Rogue::new("alice");
    let nms = mallory.connect(arena, Role::Nms, &fqdn("nms"));
    mallory.say(arena, nms, alice.0, &at_the_end_of_time())
}

/// As [`told`], in datagrams: a login with Alice's certificate or password gave the attacker a common key.
fn told_in_datagrams(arena: &mut Arena) -> Option<Message> {
    let (alice, key) = (NodeId::of(&fqdn("alice")), Key128([7; 16]));
    arena.world.store.put_common_key(alice, &key, None).unwrap();
    let mut mallory = Session::new(&key, Direction::FromInitiator);
    let sealed = mallory.seal(77, 0, alice.0, &at_the_end_of_time()).unwrap();
    let (nms, from) = (arena.address(Role::Nms), "198.51.100.200:4501".parse().unwrap());
    arena.sent(Role::Nms);
    arena.datagram(Role::Nms, nms, from, &sealed);
    let mut answer = arena.sent(Role::Nms).into_iter().find(|sent| sent.to == from)?.payload;
    let mut registration = Session::of_registration(&key, u64::MAX, Direction::FromInitiator);
    Some(registration.open_message(&mut answer).unwrap().1)
}

fn restart_alice(arena: &mut Arena) {
    arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Node(0));
    arena.world.node(0, |now, host| host.command(now, NodeCommand::Start));
    arena.run(5_000);
}

#[test]
fn one_registration_from_the_end_of_time_shuts_nobody_out() {
    for method in [PROPOSED, CONVENTIONAL] {
        let mut arena = Arena::after(scene(method, [V4, V4], LINK));
        let alice = NodeId::of(&fqdn("alice"));
        let last = arena.world.store.last_epoch(alice).unwrap().expect("Alice registered");
        let told = if method == PROPOSED { told(&mut arena) } else { Vec::from_iter(told_in_datagrams(&mut arena)) };
        assert_eq!(told, [Message::Error(ErrorCode::StaleEpoch(last + 1))], "{method}");
        assert_eq!(arena.world.store.last_epoch(alice), Ok(Some(last)), "{method}");
        // Meanwhile Alice notices that her common key is void, and logs in anew.
        arena.run(30_000);
        arena.assert_works();
    }
}

#[test]
fn the_last_number_that_a_clock_gives_is_not_the_last() {
    let mut arena = Arena::after(scene(CONVENTIONAL, [V4, V4], LINK));
    let alice = NodeId::of(&fqdn("alice"));
    arena.world.store.accept_epoch(alice, i64::MAX as u64).unwrap();
    for _ in 0..3 {
        let before = arena.world.store.last_epoch(alice).unwrap().unwrap();
        restart_alice(&mut arena);
        let after = arena.world.store.last_epoch(alice).unwrap().unwrap();
        assert_eq!(after, before + 1, "one registration, one number");
    }
    arena.assert_works();
}

#[test]
fn one_relay_request_from_the_end_of_time_stops_no_relaying() {
    let mut arena = Arena::after(scene(CONVENTIONAL, [NAT, NAT], LINK));
    let id = NodeId::of(&fqdn("trs")).0;
    let mut heard = arena.arrived.iter().filter(|arrived| arrived.role == Role::Trs).filter_map(Arrived::udp);
    let asked = heard.find(|datagram| datagram.payload[16..32] == id).expect("the NMS asked for a relay");
    let (nms, trs) = (asked.from, asked.to);
    let (a, b) = (fqdn("alice"), fqdn("bob"));
    let mut session = Session::new(&service_key(SEED), Direction::FromInitiator);
    let mut ask = |arena: &mut Arena, epoch: u64| {
        let (forward, backward) = (PathId::of(&a, &b), PathId::of(&b, &a));
        let request = RelayRequest { epoch, forward, backward, tunnel_key: Key128([3; 16]), granted: AtEnd(None) };
        let sealed = session.seal(epoch as u32, 0, id, &Message::RelayRequest(request)).unwrap();
        arena.sent(Role::Trs);
        arena.datagram(Role::Trs, trs, nms, &sealed);
        let mut answer = arena.sent(Role::Trs).pop().expect("an answer").payload;
        session.open_unnumbered(&mut answer).unwrap().1
    };
    let Message::RelayEpoch(RelayEpoch { last }) = ask(&mut arena, u64::MAX) else { panic!("it was taken") };
    arena.run(1_000);
    let accepted = ask(&mut arena, last + 1);
    assert!(matches!(accepted, Message::RelayResponse(_)), "{accepted:?}");
    // The NMS is told where to go on, too: Alice, without a tunnel, gets one.
    restart_alice(&mut arena);
    arena.assert_works();
}

#[test]
fn a_clock_that_is_ten_years_off_costs_one_round_trip() {
    for method in [CONVENTIONAL, PROPOSED] {
        for step in [DAYS * 86_400, -DAYS * 86_400] {
            let steps = format!(
                r#"
[[step]]
at_ms = 2000
do = "clock"
what = "alice"
step_s = {step}

[[step]]
at_ms = 2500
do = "restart"
what = "alice"

[[step]]
at_ms = 6000
do = "echo"
from = "alice"
to = "bob"
"#
            );
            let scenario = scene_with(method, [V4, V4], LINK, &steps);
            let run = play(&scenario, 1, Engine::Events);
            assert!(run.complete, "{method} {step}");
            let of_alice = |what: &str| {
                let mut all =
                    arrows(&run).filter(|arrow| arrow.what == what && !arrow.repeated).map(ToString::to_string);
                all.by_ref().filter(|arrow| arrow.contains("alice")).count()
            };
            // Before the restart, refused after it, and accepted. Datagrams have no limit ahead of a clock.
            let refused = usize::from(method == PROPOSED || step < 0);
            let counts = ["Registration Request", "Error", "Registration Response"].map(of_alice);
            assert_eq!(counts, [2 + refused, refused, 2], "{method} {step}");
        }
    }
}
