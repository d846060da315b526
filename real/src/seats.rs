//! The connections that a TCP port serves at one time. Their number is limited, so that they use neither all memory
//! nor all file descriptors of the daemon. When all seats are taken, a new client gets a seat of the network that
//! has most of them, and in it of the source that has most: the one that was idle for longest and whose request is
//! not being processed. So silent clients do not keep others out, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cyphonic_core::shares::{network_of, source_of};
use tokio::sync::oneshot;

use crate::descriptors;

/// All seats of a port.
pub(crate) struct Seats {
    most: usize,
    most_from_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Place>,
    /// The seats of each source by the time of their last use, so the idlest comes first.
    by_source: BTreeMap<IpAddr, BTreeSet<(u64, u64)>>,
}

struct Place {
    source: IpAddr,
    /// When something came last, as a number that only grows.
    used: u64,
    /// Whether its request is being processed; it then keeps its seat.
    at_work: bool,
    /// Dropped when another client gets the seat, which tells the present one.
    _gone: oneshot::Sender<()>,
}

/// A taken seat. Dropping it frees the seat.
pub(crate) struct Seat {
    number: u64,
    all: Arc<Seats>,
}

impl Seats {
    /// At most so many seats, and so many for one source. A process with few file descriptors has fewer.
    pub(crate) fn new(most: usize, most_from_one: usize) -> Arc<Self> {
        let most = descriptors::share(most);
        Arc::new(Self { most, most_from_one: most_from_one.min(most), taken: Mutex::default() })
    }

    /// A seat for a client at this address, and a channel that closes when another client gets the seat. `None` if the
    /// requests of all seats that it could have are being processed.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Option<(Seat, oneshot::Receiver<()>)> {
        let source = source_of(from);
        let mut taken = self.lock();
        if taken.by_source.get(&source).map_or(0, BTreeSet::len) >= self.most_from_one {
            taken.displace(source)?;
        } else if taken.seats.len() >= self.most {
            let mut networks: BTreeMap<IpAddr, usize> = BTreeMap::new();
            for (source, seats) in &taken.by_source {
                *networks.entry(network_of(*source)).or_default() += seats.len();
            }
            let mut sources: Vec<_> = taken.by_source.iter().map(|(source, seats)| (seats.len(), *source)).collect();
            sources.sort_by_key(|&(seats, source)| {
                let of_network = networks.get(&network_of(source)).copied().unwrap_or(0);
                (Reverse(of_network), Reverse(seats), taken.idlest_of(source))
            });
            sources.into_iter().find_map(|(_, source)| taken.displace(source))?;
        }
        let (sender, gone) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, Place { source, used: number, at_work: false, _gone: sender });
        taken.by_source.entry(source).or_default().insert((number, number));
        Some((Seat { number, all: self.clone() }, gone))
    }

    /// A panic of another thread cannot have left the table half changed: no method panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// When the idlest seat of a source was used last.
    fn idlest_of(&self, source: IpAddr) -> Option<u64> {
        self.by_source.get(&source)?.first().map(|&(used, _)| used)
    }

    /// Frees the idlest seat of a source whose request is not being processed.
    fn displace(&mut self, source: IpAddr) -> Option<()> {
        let mut seats = self.by_source.get(&source)?.iter();
        let &(_, number) = seats.find(|(_, number)| self.seats.get(number).is_some_and(|place| !place.at_work))?;
        self.free(number);
        Some(())
    }

    fn free(&mut self, number: u64) {
        let Some(place) = self.seats.remove(&number) else { return };
        if let Some(seats) = self.by_source.get_mut(&place.source) {
            seats.remove(&(place.used, number));
            if seats.is_empty() {
                self.by_source.remove(&place.source);
            }
        }
    }
}

impl Seat {
    /// Sets whether the seat's request is being processed.
    pub(crate) fn at_work(&self, is: bool) {
        if let Some(place) = self.all.lock().seats.get_mut(&self.number) {
            place.at_work = is;
        }
    }

    /// Something came from the client: it is not idle.
    pub(crate) fn used(&self) {
        let mut taken = self.all.lock();
        let now = taken.next;
        taken.next += 1;
        let Some(place) = taken.seats.get_mut(&self.number) else { return };
        let (source, before) = (place.source, std::mem::replace(&mut place.used, now));
        if let Some(seats) = taken.by_source.get_mut(&source) {
            seats.remove(&(before, self.number));
            seats.insert((now, self.number));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.lock().free(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64;
    const MOST_FROM_ONE: usize = 8;

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_displaced(gone: &mut oneshot::Receiver<()>) -> bool {
        gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_source_displaces_its_own_oldest_that_is_not_at_work_and_nobody_elses() {
        let seats = Seats::new(MOST, MOST_FROM_ONE);
        let (_other, mut other) = seats.take(from("192.0.2.1")).unwrap();
        // All of one /64.
        let mut sits: Vec<_> =
            (0..MOST_FROM_ONE).map(|n| seats.take(from(&format!("2001:db8::{n}"))).unwrap()).collect();
        sits[0].0.at_work(true);
        sits.push(seats.take(from("2001:db8::ffff")).unwrap());
        let displaced: Vec<_> = sits.iter_mut().map(|(_, gone)| is_displaced(gone)).collect();
        assert_eq!(displaced.iter().filter(|is| **is).count(), 1);
        assert!(displaced[1] && !is_displaced(&mut other));
        for (seat, _) in &sits {
            seat.at_work(true);
        }
        assert!(seats.take(from("2001:db8::fffe")).is_none(), "all of them are at work");
        assert!(seats.take(from("2001:db8:0:1::1")).is_some(), "another network");
        drop(sits);
        assert!(seats.take(from("2001:db8::fffe")).is_some());
    }

    #[test]
    fn whoever_comes_last_from_another_source_gets_a_seat_however_many_sit_idle() {
        let seats = Seats::new(MOST, MOST_FROM_ONE);
        let mut sits: Vec<_> = (0..MOST).map(|n| seats.take(from(&format!("192.0.2.{n}"))).unwrap()).collect();
        assert!(!sits.iter_mut().any(|(_, gone)| is_displaced(gone)));
        let (_late, mut late) = seats.take(from("::ffff:198.51.100.1")).unwrap();
        assert!(is_displaced(&mut sits[0].1) && !is_displaced(&mut sits[1].1) && !is_displaced(&mut late));
    }

    #[test]
    fn a_subscriber_with_many_networks_of_ipv6_keeps_nobody_out() {
        let seats = Seats::new(MOST, MOST);
        let (_honest, mut honest) = seats.take(from("198.51.100.1")).unwrap();
        let mut flood: Vec<_> =
            (0..3 * MOST).map(|n| seats.take(from(&format!("2001:db8:1:{n:x}::1"))).unwrap()).collect();
        assert!(!is_displaced(&mut honest), "it is the idlest, but of another network");
        assert_eq!(flood.iter_mut().filter_map(|(_, gone)| is_displaced(gone).then_some(())).count(), 2 * MOST + 1);
    }

    #[test]
    fn the_idlest_of_the_source_with_most_seats_gives_way_and_honest_ones_sit_on() {
        let seats = Seats::new(MOST, MOST);
        let (_honest, mut honest) = seats.take(from("198.51.100.1")).unwrap();
        let mut flood: Vec<_> = (1..MOST).map(|_| seats.take(from("192.0.2.1")).unwrap()).collect();
        flood[0].0.used();
        let (_late, mut late) = seats.take(from("198.51.100.2")).unwrap();
        assert!(!is_displaced(&mut honest) && !is_displaced(&mut late) && !is_displaced(&mut flood[0].1));
        assert!(is_displaced(&mut flood[1].1), "the idlest, not the oldest");
    }
}
