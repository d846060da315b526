//! Tasks and threads that run for as long as the daemon does. None of them ends in silence.
//!
//! A runtime keeps the panic of a task to itself, and a loop that returns is gone without a word. A daemon that has
//! lost one of them still answers, but no longer follows addresses, or the list of revoked certificates. So the end of
//! any of them ends the daemon with an error, and the service manager starts it again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::future::Future;
use std::panic::{PanicHookInfo, set_hook};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::{Code, Failure};

/// What ended first.
static DEATH: OnceLock<String> = OnceLock::new();
static TOLD: Notify = Notify::const_new();
/// The daemon was told to stop: that ends its tasks.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Spawns a task that shall never end. `what` says for people what it does.
pub fn forever(what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        // A panic passes by, and is told by its hook.
        task.await;
        if !STOPPING.load(Ordering::Relaxed) {
            note(format!("the task that {what} has ended"));
        }
    });
}

/// From now on tasks end because they shall.
pub fn stopping() {
    STOPPING.store(true, Ordering::Relaxed);
}

/// From now on a panic in any thread or task is logged, and ends the daemon.
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

/// Ready once something has ended that should not.
pub async fn death() {
    loop {
        let told = TOLD.notified();
        let mut told = std::pin::pin!(told);
        // First, so that what is noted in between is heard.
        told.as_mut().enable();
        if DEATH.get().is_some() {
            return;
        }
        told.await;
    }
}

/// What has ended, as the reason for which the daemon ends.
pub fn failure() -> Option<Failure> {
    let what = DEATH.get()?;
    let remedy = "start the daemon again; report it with the log's last lines";
    Some(Failure::new(Code::Other, what.clone(), remedy))
}
