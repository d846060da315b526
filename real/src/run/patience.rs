//! A node that cannot begin yet: its clock and certificate disagree, as on a machine that has no clock of its own until it has
//! heard of the time; or the AS's name has no address, as where the network comes later. It waits, says so to who asks, and
//! goes on as soon as that is mended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::stopped;
use crate::control::{Answer, ControlSocket};
use crate::error::{Code, Failure};

/// How long after one look at clock, files and names comes the next.
const LOOK: Duration = Duration::from_secs(1);

/// What `look` gives once it does not fail for a clock or an address any more.
///
/// # Errors
/// What else `look` fails for; or clock or address, if the daemon is stopped meanwhile.
pub(super) async fn until_it_can_begin<T: Send + 'static>(
    control: &Path,
    look: impl Fn() -> Result<T, Failure> + Send + Sync + 'static,
) -> Result<T, Failure> {
    let look = Arc::new(look);
    // It may ask a DNS that does not answer for long; meanwhile others are answered.
    let look = || {
        let look = look.clone();
        async move { tokio::task::spawn_blocking(move || look()).await.map_err(Failure::other).flatten() }
    };
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
                let _ = reply.send(Answer::Error { what, remedy }.into());
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

/// The same after a pause.
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
