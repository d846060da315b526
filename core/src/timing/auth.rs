//! The AS's timers.

use std::time::Duration;

timings! {
    /// The AS closes a login that takes longer, over TCP from its first byte on, over QUIC from the end of the
    /// handshake on.
    ///
    /// Why: at a round trip of 6 s the Login Request comes 6 s after the first byte, or 12 s if a packet is lost. The
    /// limit bounds how long a client that sends nothing holds one of the places for logins.
    LOGIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// All sources together may save up the right to password checks for this long.
    ///
    /// Why: the AS answers nobody else while it checks passwords. In this time all sources together earn four checks of
    /// 600,000 iterations, so no burst is longer than four.
    PASSWORDS_SAVED_BY_ALL: Duration = Duration::from_secs(2);

    /// One source may save up the right to password checks for this long.
    ///
    /// Why: in this time one source earns three checks of 600,000 iterations. A person who mistypes twice does not have
    /// to wait.
    PASSWORDS_SAVED_BY_ONE: Duration = Duration::from_secs(15);
}
