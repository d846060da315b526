//! Tasks and threads that run as long as the daemon. If one of them ends, the daemon ends with an error.
//!
//! Without this module nobody would notice: the runtime catches the panic of a task, and a loop that returns leaves no
//! trace. A daemon that has lost a task still answers, but may no longer follow its addresses, or the list of revoked
//! certificates. After the error the service manager starts the daemon again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::future::Future;
use std::panic::{PanicHookInfo, set_hook};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::{Code, Failure};

/// The message about the first task that ended.
static DEATH: OnceLock<String> = OnceLock::new();
static TOLD: Notify = Notify::const_new();
/// Whether the daemon was told to stop, which ends its tasks.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Spawns a task that never ends by itself. `what` describes its work, for messages.
pub fn forever(what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        // A panic passes through, and the panic hook reports it.
        task.await;
        if !STOPPING.load(Ordering::Relaxed) {
            note(format!("the task that {what} has ended"));
        }
    });
}

/// Allows tasks to end from now on, because the daemon stops.
pub fn stopping() {
    STOPPING.store(true, Ordering::Relaxed);
}

/// Installs a panic hook. From now on a panic in any thread or task is logged, and ends the daemon.
pub fn watch_panics() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str));
        let what = text.unwrap_or("no message");
        tracing::error!(%place, "a bug: panicked: {what}");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("{trace}");
        }
        note(format!("a bug at {place}: {what}"));
    }));
}

fn note(what: String) {
    if DEATH.set(what).is_ok() {
        TOLD.notify_waiters();
    }
}

/// Waits until a task has ended, or panicked.
pub async fn death() {
    loop {
        let told = TOLD.notified();
        let mut told = std::pin::pin!(told);
        // The notification is enabled before the check, so that an end between the two is not missed.
        told.as_mut().enable();
        if DEATH.get().is_some() {
            return;
        }
        told.await;
    }
}

/// The error with which the daemon ends because a task has ended. `None` while all tasks run.
pub fn failure() -> Option<Failure> {
    let what = DEATH.get()?;
    let remedy = "start the daemon again; report it with the log's last lines";
    Some(Failure::new(Code::Other, what.clone(), remedy))
}
