//! Which timer a role waits for.

use std::fmt;

use crate::time::Instant;

/// A timer that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When it fires.
    pub at: Instant,
    /// What for.
    pub timer: Timer,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.timer, self.at)
    }
}

/// Declares the timers, and their words.
macro_rules! timers {
    ($($(#[doc = $doc:literal])+ $name:ident => $text:literal,)+) => {
        /// What a role does when [`Output::Wait`](crate::machine::Output::Wait) is over, if nothing arrives before.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Timer {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Timer {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// In words, for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

timers! {
    /// A node gives its login up, and tries again later.
    Login => "login given up",
    /// A node gives the registration that is under way up.
    Registration => "registration given up",
    /// A node sends its Registration Request again.
    RegistrationRetry => "Registration Request sent again",
    /// A node tries another family or interface beside the one on which a service does not answer.
    OtherPath => "another path to a silent service tried",
    /// A node that failed to log in or to register tries again.
    CloudPause => "next attempt to register",
    /// A registered node sends the NMS a Keep Alive.
    NmsKeepAlive => "Keep Alive to the NMS",
    /// A registered node misses the answer to a Keep Alive.
    NmsKeepAliveRetry => "answer of the NMS to a Keep Alive missing",
    /// A node sends the Probes again that were not answered.
    ProbeRetry => "Probes sent again",
    /// A node reports what its survey found.
    SurveyEnd => "survey ends",
    /// A node sends its Network Report again.
    ReportRetry => "Network Report sent again",
    /// A node sends its Peer Report again.
    PeerReportRetry => "Peer Report sent again",
    /// A node asks where it is seen now.
    ProbeRefresh => "next Probe of where the node is seen",
    /// A node asks on, or about, the paths of a tunnel.
    Path => "paths of a tunnel",
    /// A node gives a peer up to which there is no tunnel.
    Route => "route given up",
    /// A name query that waits for a tunnel is answered without one.
    HeldQuery => "held name query answered",
    /// A node sends a Direction Request again.
    DirectionRetry => "Direction Request sent again",
    /// A node asks for a route again, after one that failed.
    RoutePause => "next attempt at a route",
    /// A node asks for the relay beside a direct attempt.
    DirectHeadStart => "relay asked for beside a direct attempt",
    /// A node whose tunnel is relayed tries for a direct one.
    Improvement => "next attempt at a direct path",
    /// An old connection to a peer is replaced by another one.
    Renewal => "old connection replaced",
    /// A node forgets a tunnel that was replaced.
    ReplacedTunnel => "replaced tunnel forgotten",
    /// A node forgets a Route Direction that it obeyed.
    DirectionForgotten => "obeyed Route Direction forgotten",
    /// A tunnel that is being built counts as failed.
    TunnelBuilding => "tunnel not built in time",
    /// A dialer sends its Tunnel Request again, or a responder its Hole Punching to the TRS (conventional method).
    TunnelRetry => "Tunnel Request or Hole Punching sent again",
    /// A listener punches again.
    PunchRetry => "Hole Punching sent again",
    /// A tunnel carries a Keep Alive (conventional method).
    TunnelKeepAlive => "Keep Alive on a tunnel",
    /// A tunnel whose peer owes an answer counts as lost (conventional method).
    TunnelDoubt => "silent tunnel given up",
    /// A node looks whether the search for the MTU has ended a path.
    MtuSearch => "look at a path that is searched for its MTU",
    /// A node closes a link that the NMS has announced no peer for.
    EarlyLink => "unannounced link closed",
    /// An incoming QUIC connection has not finished its handshake.
    LinkHandshake => "QUIC handshake not finished in time",
    /// A QUIC connection was silent for too long.
    LinkIdle => "idle timeout of a QUIC connection",
    /// One of QUIC's own: loss detection, acknowledgement, Keep Alive, pacing, closing.
    Quic => "timer of QUIC",
    /// The AS closes a login that takes too long.
    LoginTooLong => "login that takes too long closed",
    /// The NMS forgets a node that has said nothing.
    SilentNode => "silent node forgotten",
    /// The NMS compares its clock with the earliest end of a login (conventional method).
    LoginLapse => "look at the end of a login",
    /// The NMS sends what waits for an answer again.
    RoutingRetry => "Relay Request or Route Direction sent again",
    /// The NMS forgets a route construction.
    RouteForgotten => "route construction forgotten",
    /// The NMS tells a node again that the access of a peer has ended.
    AccessEnded => "Access Ended sent again",
    /// A service closes a TCP connection that did not ask for UDP in time, or carries nothing.
    GuestIdle => "idle TCP connection closed",
    /// A node opens a TCP connection beside UDP, gives one up, or tries UDP again.
    Fallback => "UDP or TCP",
    /// The TRS forgets a path that carried nothing.
    IdlePath => "idle path forgotten",
    /// The TRS forgets a Tunnel Request that was not answered.
    Binding => "Tunnel Request forgotten",
    /// The TRS stops relaying between two nodes.
    GrantOver => "grant of the NMS over",
    /// A node asks the NMS for another grant.
    GrantRenewal => "Grant Request",
    /// Another leg is kept at the TRS for the next relayed tunnel.
    StandingLeg => "standing leg",
}

impl Timer {
    /// This timer, at that instant.
    pub const fn at(self, at: Instant) -> Due {
        Due { at, timer: self }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The earliest of some timers.
pub fn earliest(timers: impl IntoIterator<Item = Option<Due>>) -> Option<Due> {
    timers.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_timers_have_the_same_words() {
        let texts: BTreeSet<_> = Timer::ALL.iter().map(|timer| timer.text()).collect();
        assert_eq!(texts.len(), Timer::ALL.len());
    }

    #[test]
    fn the_earliest_timer_is_the_one_that_fires_first() {
        let at = Instant::from_millis;
        let timers = [Some(Timer::Quic.at(at(7))), None, Some(Timer::Route.at(at(5))), Some(Timer::Login.at(at(9)))];
        assert_eq!(earliest(timers), Some(Timer::Route.at(at(5))));
        assert_eq!(earliest([None, None]), None);
    }
}
