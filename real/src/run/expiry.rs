//! Warnings before certificates end: the daemon's own from two weeks before on, the CA's from three months before on.
//! They are logged at the start, and then once a day.

use std::time::Duration;

use cyphonic_core::name::Fqdn;
use tokio::sync::watch;

use super::metrics::Page;
use crate::drive;
use crate::files::{self, Ends, NEW_AUTHORITY, RENEW_BEFORE, ROTATE_BEFORE};
use crate::tasks;

/// How often the clock is checked. A machine that slept is warned soon after it wakes up.
const LOOK: Duration = Duration::from_secs(600);
/// The time between two equal warnings.
const SAY: Duration = Duration::from_secs(86_400);

/// Logs warnings while the daemon runs.
pub(super) fn watch(name: Fqdn, ends: watch::Receiver<Option<Ends>>) {
    tasks::forever("warns of the certificate's end", async move {
        let mut said = None;
        loop {
            let now = drive::since_epoch();
            if said.is_none_or(|said: Duration| now.abs_diff(said) >= SAY) {
                let ends = *ends.borrow();
                for words in ends.iter().flat_map(|ends| warnings(now, *ends, &name)) {
                    tracing::warn!(%name, "{words}");
                    said = Some(now);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// The warnings at `now`.
fn warnings(now: Duration, ends: Ends, name: &Fqdn) -> Vec<String> {
    let mut warnings = Vec::new();
    // A certificate that ends because the CA does would not last longer after a renewal.
    if now + RENEW_BEFORE > ends.own && !ends.is_limited() {
        warnings.push(format!(
            "{}: `cyphonic signup {name} --renew` or `cyphonic ca issue {name} --renew`; it is read without a restart",
            files::ending(now, ends.own)
        ));
    }
    if let Some(authority) = ends.authority.filter(|authority| now + ROTATE_BEFORE > *authority) {
        warnings.push(format!(
            "the CA's own certificate is {}, and no certificate counts longer: {NEW_AUTHORITY}",
            files::validity_left(now, authority)
        ));
    }
    warnings
}

/// Writes the end of the certificate to a page of numbers.
pub(super) fn on(page: &mut Page, ends: Option<Ends>) {
    let Some(ends) = ends else { return };
    let help = "When its own certificate ends, seconds since 1970.";
    page.gauge("certificate_end_timestamp_seconds", help, [(Vec::new(), ends.own.as_secs_f64())]);
    if let Some(authority) = ends.authority {
        let help = "When the CA's own certificate ends, seconds since 1970.";
        page.gauge("authority_end_timestamp_seconds", help, [(Vec::new(), authority.as_secs_f64())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificates_end_is_told_with_what_renews_it_and_the_cas_end_with_what_does() {
        let day = |n: u64| Duration::from_secs(n * 86_400);
        let name: Fqdn = "a.example".parse().unwrap();
        let said = |now: u64, own: u64, authority: u64| {
            let words = warnings(day(now), Ends { own: day(own), authority: Some(day(authority)) }, &name).join("; ");
            (words.contains("ca issue a.example --renew"), words.contains("ca rotate"))
        };
        assert_eq!(said(86, 100, 1_000), (false, false), "two weeks are left");
        assert_eq!(said(87, 100, 1_000), (true, false));
        assert_eq!(said(105, 100, 1_000), (true, false), "it has ended");
        assert_eq!(said(10, 20, 99), (true, true), "both");
        assert_eq!(said(9, 1_000, 99), (false, false), "three months are left");
        assert_eq!(said(90, 100, 100), (false, true), "it ends with the CA: to renew it is of no use");
        assert_eq!(said(110, 100, 100), (false, true));
        let words = warnings(day(87), Ends { own: day(100), authority: None }, &name);
        assert!(words[0].starts_with("the certificate ends in 13 days: "), "{words:?}");
    }
}
