//! A node whose clock and certificate disagree when it starts, as on a machine that has no clock of its own until it has
//! heard of the time: it waits, says so to who asks, and goes on as soon as either is mended.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::stopped;
use crate::control::{Answer, ControlSocket};
use crate::error::{Code, Failure};

/// How often clock and files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What `look` gives once it does not fail for a clock any more.
///
/// # Errors
/// What else `look` fails for; or the clock, if the daemon is stopped meanwhile.
pub(super) async fn until_clock_is_right<T>(
    control: &Path,
    look: impl Fn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut failure = match look() {
        Err(failure) if failure.code == Code::Clock => failure,
        other => return other,
    };
    let (ask, mut asked) = mpsc::channel(16);
    let _control = ControlSocket::listen(control, ask)?;
    tracing::error!(error = %failure, remedy = failure.remedy(), "waiting until clock and certificate agree");
    let mut stop = std::pin::pin!(stopped());
    let mut pause = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = &mut stop => return Err(failure),
            Some((_, reply)) = asked.recv() => {
                let (what, remedy) = (format!("the node waits: {failure}"), failure.remedy().to_owned());
                let _ = reply.send(Answer::Error { what, remedy }.into());
            }
            _ = pause.tick() => match look() {
                Err(again) if again.code == Code::Clock => failure = again,
                Ok(good) => {
                    tracing::info!("clock and certificate agree");
                    return Ok(good);
                }
                other => return other,
            },
        }
    }
}
