//! The end of a daemon's own certificate: told at the start and every day, from two weeks before on.

use std::time::Duration;

use cyphonic_core::name::Fqdn;

use super::metrics::Page;
use crate::drive;
use crate::files::{self, RENEW_BEFORE};

/// How often the clock is looked at. A machine that slept is told soon after it wakes up.
const LOOK: Duration = Duration::from_secs(600);
/// How often the same is said.
const SAY: Duration = Duration::from_secs(86_400);

/// Warns while the program runs.
pub(super) fn watch(name: Fqdn, ends: Duration) {
    tokio::spawn(async move {
        let mut said = None;
        loop {
            let now = drive::since_epoch();
            if let Some(words) = warning(now, ends, said) {
                tracing::warn!(%name, "{words}: `cyphonic signup {name} --renew` or `cyphonic ca issue {name} --renew`, \
                    then start it again");
                said = Some(now);
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// What is to be said at `now`, if the last time was `said`.
fn warning(now: Duration, ends: Duration, said: Option<Duration>) -> Option<String> {
    let is_time = said.is_none_or(|said| now.abs_diff(said) >= SAY);
    (is_time && now + RENEW_BEFORE > ends).then(|| files::ending(now, ends))
}

/// The end as a number.
pub(super) fn on(page: &mut Page, ends: Option<Duration>) {
    if let Some(ends) = ends {
        let help = "When its own certificate ends, seconds since 1970.";
        page.gauge("certificate_end_timestamp_seconds", help, [(Vec::new(), ends.as_secs_f64())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_from_two_weeks_before_on_once_a_day_and_after_it_too() {
        let day = |n: u64| Duration::from_secs(n * 86_400);
        let ends = day(100);
        assert_eq!(warning(day(86), ends, None), None, "two weeks are left");
        let words = warning(day(87), ends, None).unwrap();
        assert_eq!(words, "the certificate ends in 13 days");
        assert_eq!(warning(day(87) + LOOK, ends, Some(day(87))), None, "said today");
        assert!(warning(day(88), ends, Some(day(87))).is_some());
        assert_eq!(warning(day(105), ends, Some(day(100))).unwrap(), "the certificate ended 5 days ago");
        assert!(warning(day(90), ends, Some(day(5_000))).is_some(), "the clock was wrong when it was said");
    }
}
