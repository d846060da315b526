//! Insiders that name a victim's address as their own: no node sends there.

use std::net::{IpAddr, SocketAddr};

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::key::Key128;
use cyphonic_core::message::{
    AddressProof, Answer, Message, NetworkReport, Padding, Probe, RegistrationRequest, RegistrationResponse,
};
use cyphonic_core::name::NodeId;
use cyphonic_core::route::optimal::{Behaviour, Filtering, Mapping};
use cyphonic_core::store::Device;
use cyphonic_sim::host::apps::{App, Echo, Family, Target};
use cyphonic_sim::seeded;

use crate::arena::{Arena, Role};
use crate::common::{NAT, V4, scene};
use crate::rogue::{Rogue, fqdn};

const LINK: &str = "{ delay_ms = 2 }";
const VICTIM_V4: &str = "198.51.100.77:443";
const VICTIM_V6: &str = "[2001:db8:ffff::77]:443";
/// An address of the overlay's users that only says to be inside of the same network.
const VICTIM_INSIDE: &str = "192.168.1.77:443";
/// What the NMS sends to an address that is not proved, besides three times what came from there.
const SPARE: usize = 1_200;

fn victims() -> [SocketAddr; 3] {
    [VICTIM_V4, VICTIM_V6, VICTIM_INSIDE].map(|text| text.parse().unwrap())
}

fn registration() -> (u64, Message) {
    let epoch = seeded::EPOCH.as_nanos() as u64;
    let addresses = victims().map(|victim| victim.ip()).to_vec();
    (epoch, Message::RegistrationRequest(RegistrationRequest { epoch, addresses, port: 443 }))
}

/// An application of Alice asks for Mallory. The bytes that each role sends to a victim within five seconds.
fn sent_to_victims(arena: &mut Arena) -> Vec<(Role, usize)> {
    let app = App::Echo(Target::Name(fqdn("mallory"), Family::V6), Echo::default());
    arena.world.node(0, |now, host| host.start(now, app));
    let mut sent = Vec::new();
    let until = arena.world.now() + std::time::Duration::from_secs(5);
    arena.world.run_until(until);
    let victims: Vec<IpAddr> = victims().iter().map(SocketAddr::ip).collect();
    for role in arena.roles() {
        let bytes: usize =
            arena.sent(role).iter().filter(|d| victims.contains(&d.to.ip())).map(|d| d.payload.len()).sum();
        sent.extend((bytes > 0).then_some((role, bytes)));
    }
    sent
}

fn mallory(arena: &Arena) -> Rogue {
    let rogue = Rogue::new("mallory");
    let device = Device { name: rogue.name.clone(), password: None, certificate_login: true };
    arena.world.store.put_device(&device).unwrap();
    rogue
}

#[test]
pub(crate) fn an_address_that_an_insider_only_names_is_not_dialed_by_anybody() {
    for (settings, pair) in [
        ("method = \"proposed\"", ["ipv6", "ipv6"]),
        ("method = \"proposed\"", [NAT, V4]),
        ("method = \"proposed\"\npolicy = \"optimal\"", ["ipv6", "ipv6"]),
        ("method = \"proposed\"\npolicy = \"optimal\"", [V4, V4]),
        ("method = \"proposed\"\npolicy = \"optimal\"\nhandover = \"rebuild\"", [NAT, V4]),
    ] {
        let mut arena = Arena::after(scene(settings, pair, LINK));
        let mut mallory = mallory(&arena);
        let me = NodeId::of(&mallory.name);
        let nms = mallory.connect(&mut arena, Role::Nms, &fqdn("nms"));
        let answer = mallory.say(&mut arena, nms, me.0, &registration().1);
        let [Message::RegistrationResponse(RegistrationResponse { survey, .. })] = &answer[..] else {
            panic!("{answer:?}")
        };
        if let Some(plan) = survey {
            let mut session = Session::new(&plan.key, Direction::FromInitiator);
            let probe = Message::Probe(Probe { answer: Answer::Noted, padding: Padding });
            let local = arena.address(Role::Nms);
            let sealed = session.seal(1, 0, me.0, &probe).unwrap();
            arena.datagram(Role::Nms, local, VICTIM_V4.parse().unwrap(), &sealed);
            arena.run(50);
            let (mapping, filtering) = (Some(Mapping::Independent), Some(Filtering::Independent));
            let open = Some(Behaviour { mapping, filtering, hairpin: false, any_port: true });
            let guess = |text: &str| Some(AddressProof { seen: text.parse().unwrap(), token: [7; 8] });
            let (at_v6, at_v4) = (guess(VICTIM_V6), guess(VICTIM_V4));
            let report = Message::NetworkReport(NetworkReport { v6: open, v4: open, at_v6, at_v4 });
            mallory.say(&mut arena, nms, me.0, &report);
            arena.sent(Role::Nms);
        }
        // The NMS itself challenges an address that Table 1 wants.
        let sent = sent_to_victims(&mut arena);
        assert!(sent.iter().all(|&(role, bytes)| role == Role::Nms && bytes <= SPARE), "{settings} {pair:?}: {sent:?}");
        arena.assert_works();
    }
}

#[test]
fn a_forged_registration_of_the_conventional_method_directs_nobody_and_draws_a_bounded_answer() {
    for (policy, pair) in [("", [V4, V4]), ("", [NAT, V4]), ("policy = \"optimal\"", [V4, V4])] {
        let mut arena = Arena::after(scene(&format!("method = \"conventional\"\n{policy}"), pair, LINK));
        let rogue = mallory(&arena);
        let (me, key) = (NodeId::of(&rogue.name), Key128([5; 16]));
        arena.world.store.put_common_key(me, &key, None).unwrap();
        let (epoch, request) = registration();
        let (local, victim) = (arena.address(Role::Nms), VICTIM_V4.parse().unwrap());
        let mut forged = 0;
        let mut send = |arena: &mut Arena, session: &mut Session, message: &Message| {
            let sealed = session.seal(1, 0, me.0, message).unwrap();
            forged += sealed.len();
            arena.datagram(Role::Nms, local, victim, &sealed);
        };
        arena.sent(Role::Nms);
        send(&mut arena, &mut Session::new(&key, Direction::FromInitiator), &request);
        // The insider does not see the response, so it guesses the number from which it has to count on.
        let mut session = Session::of_registration(&key, epoch, Direction::FromInitiator);
        for number in [1, 1 << 20, 1 << 29, u32::MAX - 1] {
            session.count_from(number);
            send(&mut arena, &mut session, &Message::KeepAlive);
            send(&mut arena, &mut session, &Message::KeepAliveAck);
        }
        let sent = sent_to_victims(&mut arena);
        assert!(sent.iter().all(|&(role, bytes)| role == Role::Nms && bytes <= 3 * forged + SPARE), "{sent:?}");
        arena.assert_works();
    }
}
