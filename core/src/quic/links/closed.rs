//! Why a link is gone.

use quinn_proto::ConnectionError;

use super::DISPLACED;
use crate::event::Failure;

/// Why a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkClosed {
    /// Nothing was received for the idle timeout, or the handshake did not finish in time.
    Timeout,
    /// TLS refused the peer, or the peer refused us, because of the certificate, the name or the application protocol.
    Authentication,
    /// As [`Self::Authentication`], because a certificate has expired or is not valid yet.
    CertificateDates,
    /// The peer speaks version 1 only, and has to be upgraded: it closed the link by the code that parts of version 1
    /// have for a message that they do not know.
    Outdated,
    /// The NMS closed the link because its node has registered on another one.
    Displaced,
    /// The peer closed the link, or broke the protocol.
    Lost,
}

impl LinkClosed {
    /// The reason as quinn gives it.
    pub(super) fn by(error: &ConnectionError) -> Self {
        /// QUIC's "cryptographic handshake failed" codes carry the TLS alert (RFC 9001 §4.8).
        const CRYPTO: std::ops::Range<u64> = 0x100..0x200;
        /// The alert certificate_expired (RFC 8446 §6.2): "expired or not currently valid".
        const EXPIRED: u64 = 0x100 + 45;
        /// The code of a part of version 1 for a header that it does not know. Later versions never send this code.
        const OUTDATED: u64 = 1;
        let code = match error {
            ConnectionError::ApplicationClosed(c) if u64::from(c.error_code) == OUTDATED => return Self::Outdated,
            ConnectionError::ApplicationClosed(c) if c.error_code == DISPLACED => return Self::Displaced,
            ConnectionError::TimedOut => return Self::Timeout,
            ConnectionError::TransportError(e) => u64::from(e.code),
            ConnectionError::ConnectionClosed(c) => u64::from(c.error_code),
            _ => return Self::Lost,
        };
        match code {
            EXPIRED => Self::CertificateDates,
            code if CRYPTO.contains(&code) => Self::Authentication,
            _ => Self::Lost,
        }
    }
}

impl From<LinkClosed> for Failure {
    /// The failure that a lost link means for its tunnel or session.
    fn from(reason: LinkClosed) -> Self {
        match reason {
            LinkClosed::Timeout => Self::Timeout,
            LinkClosed::Authentication => Self::Authentication,
            LinkClosed::CertificateDates => Self::CertificateDates,
            LinkClosed::Outdated => Self::Outdated,
            LinkClosed::Displaced => Self::Displaced,
            LinkClosed::Lost => Self::ConnectionLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn_proto::{ApplicationClose, VarInt};

    use super::*;

    #[test]
    fn the_application_error_code_says_why_a_peer_closed_a_link() {
        let closed = |code: u32| {
            let error_code = VarInt::from_u32(code);
            LinkClosed::by(&ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason: Bytes::new() }))
        };
        assert_eq!(
            [0, 1, 2, 3, 4].map(closed),
            [LinkClosed::Lost, LinkClosed::Outdated, LinkClosed::Lost, LinkClosed::Displaced, LinkClosed::Lost]
        );
    }
}
