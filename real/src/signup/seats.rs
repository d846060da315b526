//! The connections that the sign-up port serves at one time. Their number is limited, so that they use neither all
//! memory nor all file descriptors of the AS. When all seats are taken, a new client gets the oldest seat whose request
//! is not being processed. So a silent client does not keep others out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::descriptors;

/// Most connections at one time. Each may hold a TLS session and a certificate request. A process with few file
/// descriptors has fewer seats.
const MOST: usize = 64;
/// Most connections from one source at one time: several devices may be behind one NAT.
const MOST_FROM_ONE: usize = 8;

/// All seats.
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { most: descriptors::share(MOST), taken: Mutex::default() }
    }
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// By number, so the oldest comes first.
    seats: BTreeMap<u64, Place>,
}

struct Place {
    source: IpAddr,
    /// Whether its request is being processed; it then keeps its seat.
    at_work: bool,
    /// Dropped when another client gets the seat, which tells the present one.
    _gone: oneshot::Sender<()>,
}

/// A taken seat. Dropping it frees the seat.
pub(super) struct Seat {
    number: u64,
    all: Arc<Seats>,
}

/// The source that [`MOST_FROM_ONE`] counts: an IPv4 address, or the /64 of an IPv6 address, as one subscriber has it.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Seats {
    /// A seat for a client at this address, and a channel that closes when another client gets the seat. `None` if the
    /// requests of all seats that it could have are being processed.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<(Seat, oneshot::Receiver<()>)> {
        let source = source(from);
        let mut taken = self.lock();
        let same = |place: &Place| place.source == source;
        if taken.seats.values().filter(|place| same(place)).count() >= MOST_FROM_ONE {
            taken.displace(same)?;
        } else if taken.seats.len() >= self.most {
            taken.displace(|_| true)?;
        }
        let (sender, gone) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, Place { source, at_work: false, _gone: sender });
        Some((Seat { number, all: self.clone() }, gone))
    }

    /// A panic of another thread cannot have left the table half changed: no method panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Frees the oldest of these seats whose request is not being processed.
    fn displace(&mut self, of: impl Fn(&Place) -> bool) -> Option<()> {
        let oldest = self.seats.iter().find(|(_, place)| !place.at_work && of(place)).map(|(number, _)| *number);
        self.seats.remove(&oldest?).map(drop)
    }
}

impl Seat {
    /// Sets whether the seat's request is being processed.
    pub(super) fn at_work(&self, is: bool) {
        if let Some(place) = self.all.lock().seats.get_mut(&self.number) {
            place.at_work = is;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_displaced(gone: &mut oneshot::Receiver<()>) -> bool {
        gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_source_displaces_its_own_oldest_that_is_not_at_work_and_nobody_elses() {
        let seats = Arc::<Seats>::default();
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
        let seats = Arc::<Seats>::default();
        let mut sits: Vec<_> = (0..MOST).map(|n| seats.take(from(&format!("192.0.2.{n}"))).unwrap()).collect();
        assert!(!sits.iter_mut().any(|(_, gone)| is_displaced(gone)));
        let (_late, mut late) = seats.take(from("::ffff:198.51.100.1")).unwrap();
        assert!(is_displaced(&mut sits[0].1) && !is_displaced(&mut sits[1].1) && !is_displaced(&mut late));
    }
}
