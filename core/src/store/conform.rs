//! What every store has to do, as one test that any store can be put through.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Device, PasswordHash, SIMULATION_ITERATIONS, Store};
use crate::key::Key128;
use crate::name::{Fqdn, NodeId};

/// Puts a store through all that AS and NMS rely on. `empty` gives a new empty store with room for at least ten names.
///
/// # Panics
/// With what the store did wrong. Meant for tests.
pub fn conformance(empty: &dyn Fn() -> Box<dyn Store>) {
    devices(&*empty());
    common_keys(&*empty());
    addresses(&*empty());
    epochs(&*empty());
    removal(&*empty());
}

fn name(text: &str) -> Fqdn {
    text.parse().expect("a name")
}

fn device(text: &str) -> Device {
    Device { name: name(text), password: None, certificate_login: true }
}

fn devices(store: &dyn Store) {
    let alice = NodeId::of(&name("alice.example"));
    assert_eq!(store.device(alice), Ok(None), "an empty store knows no device");

    let password = PasswordHash::new("secret", [7; 16], SIMULATION_ITERATIONS);
    let with_password = Device { password: Some(password), certificate_login: false, ..device("alice.example") };
    store.put_device(&with_password).expect("room for a device");
    store.put_device(&device("bob.example")).expect("room for a device");
    assert_eq!(store.device(alice), Ok(Some(with_password)), "a device comes back as it was put, password included");

    store.put_device(&device("alice.example")).expect("room for a device");
    assert_eq!(store.device(alice), Ok(Some(device("alice.example"))), "a device can be replaced");
    let bob = store.device(NodeId::of(&name("bob.example")));
    assert_eq!(bob, Ok(Some(device("bob.example"))), "replacing one device leaves the others alone");
}

fn common_keys(store: &dyn Store) {
    let (alice, bob) = (NodeId::of(&name("alice.example")), NodeId::of(&name("bob.example")));
    assert_eq!(store.common_key(alice), Ok(None), "no login, no key");
    store.put_common_key(alice, &Key128([1; 16]), None).expect("room for a key");
    store.put_common_key(bob, &Key128([2; 16]), None).expect("room for a key");
    assert_eq!(store.common_key(alice), Ok(Some(Key128([1; 16]))), "the NMS reads what the AS wrote");
    store.put_common_key(alice, &Key128([3; 16]), None).expect("room for a key");
    assert_eq!(store.common_key(alice), Ok(Some(Key128([3; 16]))), "the last login's key counts");
    assert_eq!(store.common_key(bob), Ok(Some(Key128([2; 16]))), "each node has its own key");
    assert_eq!(store.common_key_ends(alice), Ok(None), "a key without an end");
    let end = Some(Duration::from_secs(1_900_000_000));
    store.put_common_key(alice, &Key128([4; 16]), end).expect("room for a key");
    assert_eq!(store.common_key_ends(alice), Ok(end), "the NMS reads the end that the AS wrote");
    assert_eq!(store.common_key_ends(bob), Ok(None), "each key has its own end");
    store.put_common_key(alice, &Key128([5; 16]), None).expect("room for a key");
    assert_eq!(store.common_key_ends(alice), Ok(None), "the last login's end counts");
}

fn addresses(store: &dyn Store) {
    let names: Vec<Fqdn> = (0..10).map(|n| name(&format!("node{n}.example"))).collect();
    assert_eq!(store.addresses_of(&names[0]), Ok(None), "asking does not allocate");
    let given: Vec<_> = names.iter().map(|name| store.allocate(name).expect("room for ten")).collect();

    let distinct: BTreeSet<IpAddr> = given.iter().flat_map(|pair| [pair.v4.into(), pair.v6.into()]).collect();
    assert_eq!(distinct.len(), 20, "a virtual address has one owner");
    for (name, pair) in names.iter().zip(given) {
        assert_eq!(store.allocate(name), Ok(pair), "a name keeps its addresses");
        assert_eq!(store.addresses_of(name), Ok(Some(pair)), "addresses are found by name");
        assert_eq!(store.owner_of(pair.v4.into()), Ok(Some(name.clone())), "a name is found by IPv4 address");
        assert_eq!(store.owner_of(pair.v6.into()), Ok(Some(name.clone())), "a name is found by IPv6 address");
    }
    assert_eq!(store.owner_of([192, 0, 2, 1].into()), Ok(None), "an address outside the range has no owner");
}

fn epochs(store: &dyn Store) {
    let (alice, bob) = (NodeId::of(&name("alice.example")), NodeId::of(&name("bob.example")));
    for (epoch, accepted, why) in [
        (0, true, "the first epoch may be any"),
        (0, false, "the same epoch again is a replay"),
        (5, true, "epochs may skip"),
        (4, false, "an older epoch is a replay"),
        (5, false, "a refused epoch changes nothing"),
        (u64::MAX, true, "an epoch has 64 bits"),
        (u64::MAX, false, "the greatest epoch too counts once"),
    ] {
        assert_eq!(store.accept_epoch(alice, epoch), Ok(accepted), "{why}");
    }
    assert_eq!(store.last_epoch(alice), Ok(Some(u64::MAX)), "the last epoch can be asked for");
    assert_eq!(store.last_epoch(bob), Ok(None), "asking accepts nothing");
    assert_eq!(store.accept_epoch(bob, 1), Ok(true), "each node has its own epoch");
}

fn removal(store: &dyn Store) {
    let alice = name("alice.example");
    let node = NodeId::of(&alice);
    store.put_device(&device("alice.example")).expect("room for a device");
    store.put_common_key(node, &Key128([1; 16]), None).expect("room for a key");
    let pair = store.allocate(&alice).expect("room for an address");
    assert_eq!(store.accept_epoch(node, 9), Ok(true));

    store.remove_device(node).expect("a device can go");
    store.remove_device(node).expect("removing twice is no error");
    assert_eq!(store.device(node), Ok(None), "a removed device is gone");
    assert_eq!(store.common_key(node), Ok(None), "a removed device's key is gone");
    assert_eq!(store.owner_of(pair.v4.into()), Ok(Some(alice.clone())), "its address has its owner for good");
    assert_ne!(store.allocate(&name("bob.example")), Ok(pair), "its address is not given to another");
    assert_eq!(store.allocate(&alice), Ok(pair), "its address waits for its return");
    assert_eq!(store.accept_epoch(node, 9), Ok(false), "its epoch does not go back");

    store.put_common_key(node, &Key128([1; 16]), None).expect("room for a key");
    assert_eq!(store.accept_epoch(node, u64::MAX), Ok(true));
    store.put_device(&device("alice.example")).expect("room for a device");
    assert_eq!(store.last_epoch(node), Ok(None), "enrolment resets the epoch");
    assert_eq!(store.common_key(node), Ok(None), "and what was recorded under the old key does not count any more");
    assert_eq!(store.allocate(&alice), Ok(pair), "its address is still its own");
}
