//! What a node must have to log in, and who can pass for another node.

use std::time::Duration;

use cyphonic_core::node::NodeCommand;
use cyphonic_scenarios::{Engine, Login, Method, Scenario, first_cell};

use super::{Finding, Property, SEED};
use crate::error::LabError;
use crate::host::apps::{App, Echo, EchoReport, Family, Target};
use crate::run::run_in;
use crate::world::{Actor, Watch, World, password_device};

const CONVENTIONAL: &str = "framing = \"udp4501\"";
const WITH_PASSWORD: &str = "framing = \"udp4501\"\nlogin = \"password\"";
const PROPOSED: &str = "framing = \"stream\"\nrelay_mode = \"terminating\"";

/// Three nodes with addresses of their own. Nothing happens by itself but what the steps say.
fn text(settings: &str) -> String {
    let sites: String =
        ["a", "b", "m"].map(|name| format!("[[site]]\nname = \"{name}\"\nkind = \"ipv4-global\"\n\n")).concat();
    format!(
        r#"title = "Logins and impostors"
about = "Alice wants to talk to Bob; Mallory has an account of her own."
measure = "outcome"
engine = "events"
duration_limit_s = 30
{settings}
link = {{ delay_ms = 10 }}

{sites}[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

[[node]]
name = "mallory"
site = "m"

[[step]]
do = "start"
nodes = ["alice", "bob"]
give_up_s = 8

[[step]]
do = "echo"
from = "alice"
to = "bob"
"#
    )
}

pub(super) fn texts() -> String {
    [CONVENTIONAL, WITH_PASSWORD, PROPOSED].map(text).concat()
}

/// Whether Alice registers. Without `certificate`, hers was revoked before she starts, so it counts for nobody.
fn registers(settings: &str, certificate: bool) -> Result<bool, LabError> {
    let scenario = first_cell("table2", &text(settings))?;
    let watch = Watch::default();
    let mut world = World::new(&scenario, SEED, Engine::Events, &watch);
    let alice = scenario.nodes[0].name.clone();
    if !certificate {
        world.revoke(SEED, &alice);
    }
    let run = run_in(world, &scenario, SEED, &watch);
    Ok(run.world.is_registered(&alice))
}

pub(super) fn certificates() -> Result<Vec<Finding>, LabError> {
    let mut findings = Vec::new();
    for (method, settings, certificate, case) in [
        ("conventional", WITH_PASSWORD, false, "login by password and no certificate"),
        ("conventional", CONVENTIONAL, false, "login by a revoked certificate"),
        ("conventional", CONVENTIONAL, true, "login by a certificate"),
        ("proposed", PROPOSED, false, "login by a revoked certificate"),
        ("proposed", PROPOSED, true, "login by a certificate"),
    ] {
        let holds = registers(settings, certificate)?;
        let value = if holds { "registered" } else { "refused" }.to_owned();
        let property = Property::Certificates;
        findings.push(Finding { property, method, case: case.to_owned(), counts: !certificate, holds, value });
    }
    // There is no password in the proposed method: the file format has no such scenario.
    let refused = first_cell("table2", &text(&format!("{PROPOSED}\nlogin = \"password\""))).is_err();
    let value = if refused { "no such login" } else { "possible" }.to_owned();
    let case = "login by password and no certificate".to_owned();
    let property = Property::Certificates;
    findings.push(Finding { property, method: "proposed", case, counts: true, holds: !refused, value });
    Ok(findings)
}

/// What the operators of AS and NMS do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// What the protocol says.
    Honest,
    /// They give the impostor all that they can give. In the conventional method that is a password for Bob's account.
    /// In the proposed one it is Bob's place: the NMS sends Alice to the impostor's address.
    Hostile,
}

/// How many of three echoes to Bob Mallory answers. Mallory has a good account and certificate of her own; Bob is away.
///
/// # Errors
/// The settings make no scenario.
pub fn impostor(settings: &str, services: Services) -> Result<usize, LabError> {
    let scenario = first_cell("table2", &text(settings))?;
    let watch = Watch::default();
    let mut world = World::new(&scenario, SEED, Engine::Events, &watch);
    let run = |world: &mut World, ms: u64| {
        let until = world.now() + Duration::from_millis(ms);
        world.run_until(until);
    };
    for node in [0, 1] {
        world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }
    run(&mut world, 2_000);
    let bob = scenario.nodes[1].name.clone();
    let place = act(&mut world, &scenario, services);
    let forged = place.1;
    world.restart(&forged, SEED, &watch, Actor::Node(place.0));
    world.node(place.0, |now, host| host.command(now, NodeCommand::Start));
    run(&mut world, 3_000);
    let echo = App::Echo(Target::Name(bob, Family::V6), Echo { count: 3, ..Echo::default() });
    let app = world.node(0, |now, host| host.start(now, echo));
    run(&mut world, 14_000);
    let report = world.node(0, |_, host| host.report(app).clone());
    Ok(report.echo().map_or(0, EchoReport::answered))
}

/// Bob goes away. Gives the place of the impostor, and the scenario of her process.
fn act(world: &mut World, scenario: &Scenario, services: Services) -> (usize, Scenario) {
    let (bob, mallory) = (scenario.nodes[1].name.clone(), scenario.nodes[2].name.clone());
    let mut forged = scenario.clone();
    if scenario.method == Method::Proposed && services == Services::Hostile {
        // The NMS's word leads Alice to Bob's address, where Mallory's machine is now, with Mallory's certificate.
        forged.nodes[1].name = mallory;
        return (1, forged);
    }
    world.restart(scenario, SEED, &Watch::default(), Actor::Node(1));
    // Mallory claims to be Bob, with what she has.
    if scenario.method == Method::Conventional {
        forged.nodes[2].name = bob.clone();
        forged.login = Login::Password;
        if services == Services::Hostile {
            world.store.put_device(&password_device(SEED, &bob)).expect("memory does not fail");
        }
    }
    (2, forged)
}

pub(super) fn authentication() -> Result<Vec<Finding>, LabError> {
    let mut findings = Vec::new();
    for (method, settings) in [("conventional", CONVENTIONAL), ("proposed", PROPOSED)] {
        for (services, case) in [
            (Services::Honest, "an impostor with an account of her own"),
            (Services::Hostile, "the operators of AS and NMS help the impostor"),
        ] {
            let answered = impostor(settings, services)?;
            let value = format!("the impostor answers {answered} of 3 echoes to Bob");
            let (property, holds) = (Property::Authentication, answered == 0);
            findings.push(Finding { property, method, case: case.to_owned(), counts: true, holds, value });
        }
    }
    Ok(findings)
}
