//! The secrets of TLS sessions, as TLS logs them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cyphonic_core::capture::key_log_line;
use rustls::KeyLog;

/// Collects what TLS logs. One for all nodes: shared in an `Arc`, it goes into
/// [`Environment::key_log`](cyphonic_core::tls::Environment::key_log) of each.
///
/// Both ends of a session log the same secrets; they are kept once. They are sorted by session and label, so that the
/// output does not depend on who logged first. A session takes about 600 bytes for as long as this value lives.
#[derive(Default)]
pub struct Secrets(Mutex<BTreeSet<Entry>>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    client_random: Vec<u8>,
    label: String,
    secret: Vec<u8>,
}

impl Secrets {
    /// The key log file that Wireshark and others read: a line of label, client random and secret for each secret
    /// (draft-ietf-tls-keylogfile).
    pub fn to_sslkeylog(&self) -> String {
        self.entries().iter().map(|entry| key_log_line(&entry.label, &entry.client_random, &entry.secret)).collect()
    }

    /// Those of `self` that are not in another log: of sessions that began after it was taken.
    #[must_use]
    pub fn without(&self, earlier: &Self) -> Self {
        Self(Mutex::new(self.entries().difference(&earlier.entries()).cloned().collect()))
    }

    /// How many secrets there are; it only grows.
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// The secrets that protect application data, of clients and of servers, in the order of the log.
    pub(super) fn application(&self) -> Vec<Vec<u8>> {
        let wanted = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"];
        let entries = self.entries();
        entries.iter().filter(|e| wanted.contains(&e.label.as_str())).map(|e| e.secret.clone()).collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeSet<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let entry = Entry { client_random: client_random.to_vec(), label: label.to_owned(), secret: secret.to_vec() };
        self.entries().insert(entry);
    }
}

impl fmt::Debug for Secrets {
    /// Only how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_log_has_a_line_for_each_secret_whoever_logged_it_first() {
        let (one, two) = (Secrets::default(), Secrets::default());
        one.log("SERVER_TRAFFIC_SECRET_0", &[0xab; 2], &[0x01, 0xff]);
        one.log("CLIENT_TRAFFIC_SECRET_0", &[0xab; 2], &[0x02]);
        one.log("CLIENT_TRAFFIC_SECRET_0", &[0xab; 2], &[0x02]);
        two.log("CLIENT_TRAFFIC_SECRET_0", &[0xab; 2], &[0x02]);
        two.log("SERVER_TRAFFIC_SECRET_0", &[0xab; 2], &[0x01, 0xff]);
        let expected = "CLIENT_TRAFFIC_SECRET_0 abab 02\nSERVER_TRAFFIC_SECRET_0 abab 01ff\n";
        assert_eq!(one.to_sslkeylog(), expected);
        assert_eq!(two.to_sslkeylog(), expected);
    }

    #[test]
    fn debug_output_has_no_secret() {
        let secrets = Secrets::default();
        secrets.log("EXPORTER_SECRET", &[1; 32], &[2; 32]);
        assert_eq!(format!("{secrets:?} {secrets:#?}"), "Secrets(1) Secrets(1)");
    }

    #[test]
    fn only_secrets_of_application_data_open_packets() {
        let secrets = Secrets::default();
        secrets.log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", &[1; 32], &[2; 32]);
        secrets.log("CLIENT_TRAFFIC_SECRET_0", &[1; 32], &[3; 32]);
        assert_eq!(secrets.application(), [vec![3; 32]]);
    }
}
