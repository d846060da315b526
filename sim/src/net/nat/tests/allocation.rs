//! Allocation of ports and addresses, and its limits.

use super::*;

#[test]
fn an_overloaded_port_belongs_to_whoever_last_spoke_to_the_sender() {
    let config = NatConfig { allocation: PortChoice::Overloading, ..config() };
    let mut nat = nat(config.with_behaviour(Indep, AddrDep));
    let hosts = ["10.0.0.1:5000", "10.0.0.2:5000"];
    let remotes = ["198.51.100.1:80", "198.51.100.2:80"];
    let seen = hosts.map(|host| send(&mut nat, at(0), host, remotes[usize::from(host == hosts[1])]).unwrap());
    assert_eq!(seen, [socket("203.0.113.1:5000"); 2]);
    assert_eq!(nat.live_mappings(at(0)), 2);
    for (remote, host) in remotes.into_iter().zip(hosts) {
        assert_eq!(receive(&mut nat, at(1), remote, seen[0]), Ok(socket(host)));
    }
    assert_eq!(receive(&mut nat, at(1), "198.51.100.3:80", seen[0]), Err(NetDrop::NatFiltered));
    // Both hosts send to the same remote end: the later mapping takes the port over.
    send(&mut nat, at(2), hosts[1], remotes[0]).unwrap();
    assert_eq!(receive(&mut nat, at(3), remotes[0], seen[0]), Ok(socket(hosts[1])));
    send(&mut nat, at(4), hosts[0], remotes[0]).unwrap();
    assert_eq!(receive(&mut nat, at(5), remotes[0], seen[0]), Ok(socket(hosts[0])));
}

#[test]
fn paired_addresses_stay_with_a_host_and_arbitrary_ones_do_not() {
    let addresses: Vec<IpAddr> = (1..=4).map(|i| IpAddr::from([203, 0, 113, i])).collect();
    for pooling in [Pooling::Paired, Pooling::Arbitrary] {
        let mut nat = nat(NatConfig { external: addresses.clone(), pooling, ..config() });
        let mut of_host = Vec::new();
        for host in 1..=8 {
            let seen: std::collections::BTreeSet<IpAddr> = (0..20)
                .map(|i| send(&mut nat, at(0), &format!("10.0.0.{host}:{}", 2000 + i), "198.51.100.1:80").unwrap().ip())
                .collect();
            assert!(seen.iter().all(|&address| nat.is_external(address)));
            of_host.push(seen);
        }
        let all: std::collections::BTreeSet<IpAddr> = of_host.iter().flatten().copied().collect();
        assert_eq!(all.len(), 4, "{pooling:?}");
        assert_eq!(of_host.iter().all(|seen| seen.len() == 1), pooling == Pooling::Paired);
    }
}

#[test]
fn when_one_address_has_no_port_left_an_unpaired_host_gets_another() {
    let external = vec![[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
    let config = NatConfig { external, allocation: PortChoice::Sequential, ports: 3000..=3001, ..config() };
    let mut paired = nat(config.clone());
    for port in [1, 2] {
        send(&mut paired, at(0), &format!("10.0.0.1:{port}"), "198.51.100.1:80").unwrap();
    }
    assert_eq!(send(&mut paired, at(0), "10.0.0.1:3", "198.51.100.1:80"), Err(NetDrop::NatTableFull));
    assert!(send(&mut paired, at(0), "10.0.0.2:1", "198.51.100.1:80").is_ok());
    let mut arbitrary = nat(NatConfig { pooling: Pooling::Arbitrary, ..config });
    let seen: std::collections::BTreeSet<_> = (1..=4)
        .map(|port| send(&mut arbitrary, at(0), &format!("10.0.0.1:{port}"), "198.51.100.1:80").unwrap())
        .collect();
    assert_eq!(seen.len(), 4);
}

#[test]
fn one_host_cannot_take_the_room_of_all() {
    let mut nat = nat(NatConfig { max_sessions: 5, max_sessions_per_host: 2, ..config() });
    for port in [1, 2] {
        send(&mut nat, at(0), &format!("10.0.0.1:{port}"), "198.51.100.1:80").unwrap();
    }
    assert_eq!(send(&mut nat, at(1), "10.0.0.1:3", "198.51.100.1:80"), Err(NetDrop::NatTableFull));
    assert_eq!(send(&mut nat, at(1), "10.0.0.1:1", "198.51.100.2:80"), Err(NetDrop::NatTableFull), "a session more");
    for host in [2, 3] {
        send(&mut nat, at(1), &format!("10.0.0.{host}:1"), "198.51.100.1:80").unwrap();
    }
    assert!(send(&mut nat, at(121), "10.0.0.1:3", "198.51.100.1:80").is_ok(), "the others have expired");
}
