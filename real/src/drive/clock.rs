//! Time for the roles: nanoseconds since the process began, and the civil time.
//!
//! The roles' time goes on while the machine is suspended (`CLOCK_BOOTTIME`). Otherwise a laptop that wakes up after an
//! hour would go on with sessions and NAT mappings that ended long ago. `poll(2)` does not count that time, so the
//! loop's longer waits have an [`Alarm`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cyphonic_core::time::Instant;
use cyphonic_core::tls::WallClock;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

/// A shorter wait gets no [`Alarm`].
///
/// Why: with traffic every wait is shorter, so the data path makes no system call for it. After a suspension a node may
/// wake up this much later, which is less than a driver needs to bring a network interface up.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The clock of a driver.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// By the time since the machine started.
    origin: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: since_boot() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::ZERO + since_boot().saturating_sub(self.origin)
    }
}

/// The time since the machine started, suspensions included.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// A timer that becomes readable when it is due, also if the machine was suspended meanwhile.
pub(super) struct Alarm {
    handle: OwnedFd,
    due: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let handle = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { handle, due: None })
    }

    /// Sets it for a wait until `due`, if that is a long one.
    pub(super) fn set(&mut self, clock: &Clock, due: Instant) -> io::Result<()> {
        if self.due == Some(due) || due.saturating_since(clock.now()) < SHORT_WAIT {
            return Ok(());
        }
        let at = clock.origin + due.saturating_since(Instant::ZERO);
        // A time that is too far for the kernel is as good as never.
        let Ok(it_value) = Timespec::try_from(at) else { return Ok(()) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.handle, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        self.due = Some(due);
        Ok(())
    }

    /// Makes it unreadable until it is set again.
    pub(super) fn silence(&mut self) {
        self.due = None;
        // It fails only if it was not due.
        let _ = rustix::io::read(&self.handle, &mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The civil time, as the system has it.
#[derive(Debug)]
pub struct Wall;

impl WallClock for Wall {
    fn since_unix_epoch(&self) -> Duration {
        since_epoch()
    }
}

/// The civil time since 1970; zero if the system's clock is before that.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds since boot, by the kernel's other account of them.
    fn uptime() -> Duration {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
    }

    /// As if the machine had been suspended for a day: in a time namespace whose `CLOCK_BOOTTIME` is ahead of its
    /// `CLOCK_MONOTONIC`. That needs root.
    #[test]
    fn the_clock_counts_the_time_for_which_the_machine_was_suspended() {
        if std::env::var_os("IN_TIME_NAMESPACE").is_none() {
            let this = std::env::current_exe().unwrap();
            let name = "drive::clock::tests::the_clock_counts_the_time_for_which_the_machine_was_suspended";
            let mut child = std::process::Command::new("unshare");
            child
                .args(["--time", "--boottime", "86400"])
                .arg(this)
                .args(["--exact", name])
                .env("IN_TIME_NAMESPACE", "1");
            match child.output() {
                Ok(output) if output.status.success() => {}
                Ok(output) if rustix::process::geteuid().is_root() => panic!("{output:?}"),
                // Without root, or without util-linux.
                _ => {}
            }
        }
        let (before, now, after) = (uptime(), since_boot(), uptime());
        let tick = Duration::from_millis(10);
        assert!(before <= now + tick && now <= after + 2 * tick, "{before:?} {now:?} {after:?}");
    }

    #[test]
    fn an_alarm_is_readable_when_it_is_due_and_not_before() {
        use rustix::event::{PollFd, PollFlags, poll};
        let (clock, mut alarm) = (Clock::start(), Alarm::new().unwrap());
        let is_due = |alarm: &Alarm, wait: Duration| {
            let mut all = [PollFd::new(alarm, PollFlags::IN)];
            poll(&mut all, Some(&Timespec::try_from(wait).unwrap())).unwrap() == 1
        };
        alarm.set(&clock, clock.now() + Duration::from_millis(900)).unwrap();
        assert!(alarm.due.is_none(), "a short wait");
        let due = clock.now() + Duration::from_millis(1_100);
        alarm.set(&clock, due).unwrap();
        assert!(!is_due(&alarm, Duration::ZERO));
        assert!(is_due(&alarm, Duration::from_secs(60)) && clock.now() >= due);
        alarm.silence();
        assert!(!is_due(&alarm, Duration::ZERO));
    }
}
