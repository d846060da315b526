//! The AS's timers.

use std::time::Duration;

timings! {
    /// A login that takes longer is closed: over TCP from its first byte, over QUIC from the end of the handshake.
    ///
    /// Why: at a round trip of 6 s the Login Request comes that long after the first byte, and once more that long
    /// after if a packet is lost. It bounds how long a client that says nothing holds one of the places for logins.
    LOGIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// All sources together may save up checks of passwords for this long.
    ///
    /// Why: four passwords of 600,000 iterations at the rate that all together earn: how long the AS may be busy with
    /// passwords, and answer nobody else, is bounded by it.
    PASSWORDS_SAVED_BY_ALL: Duration = Duration::from_secs(2);

    /// One source may save up checks of passwords for this long.
    ///
    /// Why: three passwords of 600,000 iterations at one source's rate: a person who mistypes twice is served at once.
    PASSWORDS_SAVED_BY_ONE: Duration = Duration::from_secs(15);
}
