//! Wakes a thread that sleeps in `poll(2)` from asynchronous code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// A waker with a file descriptor, which becomes readable when a future has to be polled again.
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it unreadable until the next wake.
    pub(super) fn silence(&self) {
        // It fails only if there was no wake.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only after 2^64 - 2 wakes without a read.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn however_often_it_rings_it_is_silenced_once() {
        let bell = Arc::new(Bell::new().unwrap());
        let rings = || {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&*bell, PollFlags::IN)], Some(&now)).unwrap() == 1
        };
        let waker = Waker::from(bell.clone());
        assert!(!rings());
        bell.silence();
        waker.wake_by_ref();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert!(rings());
        bell.silence();
        assert!(!rings());
    }
}
