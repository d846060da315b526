//! A node that cannot begin yet. There are two reasons. Its clock and its certificate disagree, as on a machine without
//! a battery-backed clock before NTP has set it. Or the AS's name has no address, as long as the network is down. The
//! node waits, tells the reason to `cyphonic status`, and begins as soon as the cause is gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::stopped;
use crate::control::{Answer, ControlSocket};
use crate::error::{Code, Failure};

/// The time between two checks of clock, files and names. It is too short for anyone to notice the wait.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until `look` no longer fails because of the clock or an address. Returns its result.
///
/// # Errors
/// Any other failure of `look`. Clock or address, if the daemon is stopped meanwhile.
pub(super) async fn until_it_can_begin<T: Send + 'static>(
    control: &Path,
    look: impl Fn() -> Result<T, Failure> + Send + Sync + 'static,
) -> Result<T, Failure> {
    let look = Arc::new(look);
    let look = || apart(look.clone());
    let mut failure = match look().await {
        Err(failure) if may_pass(&failure) => failure,
        other => return other,
    };
    let (ask, mut asked) = mpsc::channel(16);
    let _control = ControlSocket::listen(control, ask)?;
    say(&failure);
    let mut stop = std::pin::pin!(stopped());
    let mut again = std::pin::pin!(later(look()));
    loop {
        tokio::select! {
            () = &mut stop => return Err(failure),
            Some((_, reply)) = asked.recv() => {
                let (what, remedy) = (format!("the node waits: {failure}"), failure.remedy().to_owned());
                let _ = reply.send(Answer::Error { code: failure.code, what, remedy }.into());
            }
            looked = &mut again => match looked {
                Err(next) if may_pass(&next) => {
                    if next.code != failure.code {
                        say(&next);
                    }
                    failure = next;
                    again.set(later(look()));
                }
                Ok(good) => {
                    tracing::info!("the node can begin");
                    return Ok(good);
                }
                other => return other,
            },
        }
    }
}

/// Runs `look` in a thread of its own, because a DNS query may block for long while the control socket has to answer.
/// Returns only when that thread has ended. The daemon then drops the privileges of all threads, and must not miss one.
async fn apart<T: Send + 'static>(
    look: Arc<impl Fn() -> Result<T, Failure> + Send + Sync + 'static>,
) -> Result<T, Failure> {
    let (tell, told) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::spawn(move || {
        // Some parts of `look`, such as signals, need the runtime.
        let _entered = runtime.enter();
        tell.send((look(), rustix::thread::gettid().as_raw_nonzero())).is_ok()
    });
    let (looked, thread) = told.await.map_err(Failure::other)?;
    let thread = format!("/proc/self/task/{thread}");
    while Path::new(&thread).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    looked
}

/// The same, after a pause.
async fn later<T>(look: impl Future<Output = T>) -> T {
    tokio::time::sleep(LOOK).await;
    look.await
}

fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code, Code::Clock | Code::Unreachable)
}

fn say(failure: &Failure) {
    let what = if failure.code == Code::Clock { "clock and certificate agree" } else { "the AS's name has an address" };
    tracing::error!(error = %failure, remedy = failure.remedy(), "waiting until {what}");
}
