//! How long NAT and firewall remember a conversation.

use std::time::Duration;

use cyphonic_core::time::Instant;

use super::packet::Transport;

/// How long a conversation is remembered after its last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimes {
    /// UDP.
    pub udp: Duration,
    /// TCP after both sides have sent packets, until one closes.
    pub tcp_established: Duration,
    /// TCP while it is opened or closed.
    pub tcp_transitory: Duration,
    /// ICMP echo.
    pub icmp: Duration,
}

impl Default for IdleTimes {
    /// UDP 120 s, the least that RFC 4787 (REQ-5) allows; TCP 2 h 4 min and 4 min (RFC 5382, REQ-5); ICMP 60 s
    /// (RFC 5508, REQ-2).
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(120),
            tcp_established: Duration::from_secs(7440),
            tcp_transitory: Duration::from_secs(240),
            icmp: Duration::from_secs(60),
        }
    }
}

/// The direction of a packet through a NAT or firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

/// One remembered conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// The conversation is forgotten then. Each packet that refreshes it moves this.
    pub(super) expires: Instant,
    spoken_out: bool,
    spoken_in: bool,
    closing: bool,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

impl Session {
    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.expires > now
    }

    /// Notes a packet: the conversation is remembered for its idle timeout from `now`.
    pub(super) fn touch(&mut self, now: Instant, way: Way, transport: Transport, times: &IdleTimes) {
        match way {
            Way::Out => self.spoken_out = true,
            Way::In => self.spoken_in = true,
        }
        let idle = match transport {
            Transport::Udp { .. } => times.udp,
            Transport::Tcp { flags, .. } => {
                if flags & (SYN | RST | FIN) == SYN && self.closing {
                    *self = Self { spoken_out: way == Way::Out, spoken_in: way == Way::In, ..Self::default() };
                }
                self.closing |= flags & (FIN | RST) != 0;
                if self.spoken_out && self.spoken_in && !self.closing {
                    times.tcp_established
                } else {
                    times.tcp_transitory
                }
            }
            _ => times.icmp,
        };
        self.expires = now + idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_conversation_is_kept_long_only_while_it_is_open() {
        let times = IdleTimes::default();
        let tcp = |flags| Transport::Tcp { source: 1, destination: 2, flags };
        let mut session = Session::default();
        let mut kept = |way, flags| {
            session.touch(Instant::ZERO, way, tcp(flags), &times);
            session.expires - Instant::ZERO
        };
        assert_eq!(kept(Way::Out, SYN), times.tcp_transitory);
        assert_eq!(kept(Way::In, SYN | 16), times.tcp_established);
        assert_eq!(kept(Way::Out, 16), times.tcp_established);
        assert_eq!(kept(Way::In, FIN | 16), times.tcp_transitory);
        assert_eq!(kept(Way::Out, 16), times.tcp_transitory);
        assert_eq!(kept(Way::Out, SYN), times.tcp_transitory, "a new one on the same ports");
        assert_eq!(kept(Way::In, SYN | 16), times.tcp_established);
    }
}
