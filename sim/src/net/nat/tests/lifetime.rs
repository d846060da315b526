//! Refresh, expiry and loss of mappings.

use super::*;

const REMOTE: &str = "198.51.100.1:80";

fn timed(change: impl FnOnce(&mut MappingTimes)) -> Nat {
    let mut config = config().with_behaviour(Indep, Indep);
    change(&mut config.times);
    nat(config)
}

#[test]
fn the_packets_that_refresh_are_those_the_box_is_set_to() {
    for (refresh, outward, inward, stranger) in [
        (Refresh::Outbound, true, false, false),
        (Refresh::Inbound, false, true, true),
        (Refresh::Both, true, true, true),
    ] {
        let lives = |act: fn(&mut Nat, SocketAddr) -> bool| {
            let mut nat = timed(|times| times.refresh = refresh);
            let seen = send(&mut nat, at(0), INSIDE, REMOTE).unwrap();
            assert!(act(&mut nat, seen));
            receive(&mut nat, at(150), REMOTE, seen).is_ok()
        };
        assert!(!lives(|_, _| true));
        assert_eq!(lives(|nat, _| send(nat, at(100), INSIDE, REMOTE).is_ok()), outward, "{refresh:?}");
        assert_eq!(lives(|nat, seen| receive(nat, at(100), REMOTE, seen).is_ok()), inward, "{refresh:?}");
        assert_eq!(lives(|nat, seen| receive(nat, at(100), "192.0.2.9:1", seen).is_ok()), stranger, "{refresh:?}");
    }
}

#[test]
fn an_absolute_lifetime_ends_a_mapping_in_use() {
    let mut nat = timed(|times| times.lifetime = Some(Duration::from_secs(200)));
    let seen = send(&mut nat, at(0), INSIDE, REMOTE).unwrap();
    for second in (10..200).step_by(10) {
        assert_eq!(send(&mut nat, at(second), INSIDE, REMOTE), Ok(seen));
        assert!(receive(&mut nat, at(second), REMOTE, seen).is_ok());
    }
    assert_eq!(receive(&mut nat, at(200), REMOTE, seen), Err(NetDrop::NoMapping));
    assert_eq!(nat.live_mappings(at(200)), 0);
    assert_eq!(send(&mut nat, at(201), INSIDE, REMOTE), Ok(seen), "a new one, by chance of the same port");
    assert!(receive(&mut nat, at(400), REMOTE, seen).is_err(), "idle");
}

#[test]
fn a_flush_comes_by_chance_and_the_same_for_the_same_seed() {
    let losses = || {
        let mut nat = timed(|times| times.flush = Some(Duration::from_secs(1000)));
        (0..1000)
            .filter(|i| {
                let now = at(i * 60);
                let seen = socket("203.0.113.1:5000");
                let lost = *i > 0 && receive(&mut nat, now, REMOTE, seen).is_err();
                send(&mut nat, now, INSIDE, REMOTE).unwrap();
                lost
            })
            .collect::<Vec<u64>>()
    };
    let lost = losses();
    assert!((40..80).contains(&lost.len()), "60 in 60,000 s: {lost:?}");
    assert_eq!(lost, losses());
}

#[test]
fn a_reboot_forgets_everything_and_begins_where_it_began() {
    let config = NatConfig { allocation: PortChoice::Sequential, ..config() };
    let mut nat = nat(config);
    let first = send(&mut nat, at(0), INSIDE, REMOTE).unwrap();
    nat.clear();
    assert_eq!(receive(&mut nat, at(1), REMOTE, first), Err(NetDrop::NoMapping));
    assert_ne!(send(&mut nat, at(1), INSIDE, REMOTE).unwrap(), first, "allocation goes on");
    nat.reboot();
    assert_eq!(nat.live_mappings(at(2)), 0);
    assert_eq!(send(&mut nat, at(2), INSIDE, REMOTE).unwrap(), first);
}

#[test]
fn a_reply_reuses_the_mapping_by_which_the_question_came_where_the_box_does_that() {
    let peer = "192.0.2.9:7";
    for reuses in [false, true] {
        let mut nat = nat(NatConfig { reuses_inbound: reuses, ..config().with_behaviour(PortDep, Indep) });
        let seen = send(&mut nat, at(0), INSIDE, REMOTE).unwrap();
        assert_eq!(receive(&mut nat, at(10), peer, seen), Ok(socket(INSIDE)));
        let reply = send(&mut nat, at(11), INSIDE, peer).unwrap();
        assert_eq!(reply == seen, reuses);
        assert_eq!(nat.live_mappings(at(11)), if reuses { 1 } else { 2 });
        assert_ne!(send(&mut nat, at(11), INSIDE, "192.0.2.10:7").unwrap(), seen, "nobody asked from there");
    }
}

#[test]
fn an_inbound_question_does_not_keep_a_mapping_that_only_the_inside_refreshes() {
    let mut nat = nat(NatConfig { reuses_inbound: true, ..config().with_behaviour(PortDep, Indep) });
    let seen = send(&mut nat, at(0), INSIDE, REMOTE).unwrap();
    assert!(receive(&mut nat, at(110), "192.0.2.9:7", seen).is_ok());
    assert_eq!(receive(&mut nat, at(120), "192.0.2.9:7", seen), Err(NetDrop::NoMapping));
}
