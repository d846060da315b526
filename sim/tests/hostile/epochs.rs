//! Epochs: a registration from the end of time, and clocks that are wrong by more than the NMS puts up with.

use cyphonic_core::message::{ErrorCode, Message, RegistrationRequest};
use cyphonic_core::name::NodeId;
use cyphonic_scenarios::Engine;

use crate::common::{V4, arrows, play, scene, scene_with};
use crate::rogue::{Rogue, fqdn};
use crate::stage::{Role, Stage};

const CONVENTIONAL: &str = "method = \"conventional\"";
const PROPOSED: &str = "method = \"proposed\"";
const LINK: &str = "{ delay_ms = 2 }";

/// The last registration that there can be.
fn at_the_end_of_time() -> Message {
    let addresses = vec!["198.51.100.200".parse().unwrap()];
    Message::RegistrationRequest(RegistrationRequest { epoch: u64::MAX, addresses, port: 443 })
}

/// What the attacker, with Alice's certificate for a moment, is told.
fn told(stage: &mut Stage) -> Vec<Message> {
    let alice = NodeId::of(&fqdn("alice"));
    let mut mallory = Rogue::new("alice");
    let nms = mallory.connect(stage, Role::Nms, &fqdn("nms"));
    mallory.say(stage, nms, alice.0, &at_the_end_of_time())
}

#[test]
pub(crate) fn one_registration_from_the_end_of_time_shuts_nobody_out() {
    let mut stage = Stage::after(scene(PROPOSED, [V4, V4], LINK));
    let alice = NodeId::of(&fqdn("alice"));
    let last = stage.world.store.last_epoch(alice).unwrap().expect("Alice registered");
    assert_eq!(told(&mut stage), [Message::Error(ErrorCode::StaleEpoch(last + 1))]);
    assert_eq!(stage.world.store.last_epoch(alice), Ok(Some(last)));
    stage.assert_works();
}

#[test]
fn a_clock_that_is_a_year_off_costs_one_round_trip() {
    for method in [CONVENTIONAL, PROPOSED] {
        // The conventional method takes an epoch that is ahead.
        for step in [365 * 86_400, -365 * 86_400].into_iter().filter(|&step| method == PROPOSED || step < 0) {
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
            // Before the restart, refused after it, and accepted.
            let counts = ["Registration Request", "Error", "Registration Response"].map(of_alice);
            assert_eq!(counts, [3, 1, 2], "{method} {step}");
        }
    }
}
