//! Why a link is gone.

use quinn_proto::ConnectionError;

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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn_proto::{ApplicationClose, VarInt};

    use super::*;

    #[test]
    fn only_the_code_by_which_version_1_refuses_a_header_says_outdated() {
        let closed = |code: u32| {
            let error_code = VarInt::from_u32(code);
            LinkClosed::by(&ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason: Bytes::new() }))
        };
        assert_eq!(
            [0, 1, 2, 3].map(closed),
            [LinkClosed::Lost, LinkClosed::Outdated, LinkClosed::Lost, LinkClosed::Lost]
        );
    }
}
