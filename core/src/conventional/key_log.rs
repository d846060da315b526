//! Logs the keys of the conventional method into the key log of TLS, so that a capture can be decrypted.
//!
//! A line has the form of TLS key logs: a label, an id in the place of the client random, and the key. The id is that
//! in the header of messages under the key. Programs that read TLS key logs skip unknown labels.
//! `core/wireshark/cyphonic.lua` reads these lines.
//!
//! | label | id | secret | logged by |
//! |---|---|---|---|
//! | `CYPHONIC_COMMON_KEY` | the node | CK | the node |
//! | `CYPHONIC_REGISTRATION_KEY` | the node | CK ‖ epoch | the node, for each registration |
//! | `CYPHONIC_TUNNEL_KEY` | each of the two paths | TK | both nodes |
//! | `CYPHONIC_END_KEY` | each of the two paths | EK | both nodes |
//! | `CYPHONIC_SERVICE_KEY` | the TRS | SK | the NMS and the TRS |
//! | `CYPHONIC_SURVEY_KEY` | the node | the key of its Probes to the NMS, in both methods | the node |
//!
//! MK is not logged, because the end key that it wraps is logged.

use zeroize::Zeroizing;

use crate::key::Key128;
use crate::name::{NodeId, PathId};
use crate::tls::Environment;

impl Environment {
    /// Logs the common key of a node.
    pub(crate) fn log_common_key(&self, node: NodeId, key: &Key128) {
        self.log_key("CYPHONIC_COMMON_KEY", node.0, &key.0);
    }

    /// Logs the secret from which the keys of one registration are derived.
    pub(crate) fn log_registration(&self, node: NodeId, common: &Key128, epoch: u64) {
        let mut secret = Zeroizing::new([0; 24]);
        secret[..16].copy_from_slice(&common.0);
        secret[16..].copy_from_slice(&epoch.to_be_bytes());
        self.log_key("CYPHONIC_REGISTRATION_KEY", node.0, &*secret);
    }

    /// Logs the tunnel key of these two paths.
    pub(crate) fn log_tunnel_key(&self, paths: [PathId; 2], key: &Key128) {
        for path in paths {
            self.log_key("CYPHONIC_TUNNEL_KEY", path.0, &key.0);
        }
    }

    /// Logs the end key of these two paths.
    pub(crate) fn log_end_key(&self, paths: [PathId; 2], key: &Key128) {
        for path in paths {
            self.log_key("CYPHONIC_END_KEY", path.0, &key.0);
        }
    }

    /// Logs the key between the NMS and a TRS.
    pub(crate) fn log_service_key(&self, trs: NodeId, key: &Key128) {
        self.log_key("CYPHONIC_SERVICE_KEY", trs.0, &key.0);
    }

    /// Logs the key of a node's Probes to the NMS.
    pub(crate) fn log_survey_key(&self, node: NodeId, key: &Key128) {
        self.log_key("CYPHONIC_SURVEY_KEY", node.0, &key.0);
    }

    fn log_key(&self, label: &str, id: [u8; 16], secret: &[u8]) {
        if let Some(log) = &self.key_log {
            log.log(label, &id, secret);
        }
    }
}
