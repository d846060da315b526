//! Deliberate defects: who guards the guards?
//!
//! The soak of the simulator claims to find whatever breaks an invariant. Here is what holds it to that: each `Defect`
//! takes one defence of the core away, and a test demands that each is caught (`sim/tests/hostile/guards.rs`). A hook
//! is one `defect!(Name)`, a condition that is false wherever this matters.
//!
//! # No release can carry one
//!
//! * Hooks exist only under the cargo feature `defects` **and** `debug_assertions`; otherwise `defect!` is the literal
//!   `false`, and this module is empty: the code is the honest one, at no cost.
//! * No package depends on the feature but the tests of the simulator, as a dev-dependency: with the workspace's
//!   resolver no `cargo build` or `cargo install` turns it on. `cargo test --workspace` does, for everything that it
//!   builds.
//! * `cargo test --release` and `cargo bench` turn the feature on too, and put a daemon beside their tests: that is why
//!   it takes `debug_assertions` as well, and why a `compile_error!` would not do.
//! * Even where hooks exist, none is in force until a test calls `plant`: nothing that a user can say reaches it.
//!
//! # One run each
//!
//! What is planted is planted for the thread, and for as long as `Planted` lives. A simulated network runs on one
//! thread, so that runs beside each other never share a defect. A value in each role's configuration would have to be
//! handed down to pure functions of two lines, and would be seen everywhere in the honest code.

#[cfg(all(feature = "defects", debug_assertions))]
macro_rules! defect {
    ($name:ident) => {
        $crate::defects::is_planted($crate::defects::Defect::$name)
    };
}
#[cfg(not(all(feature = "defects", debug_assertions)))]
macro_rules! defect {
    ($name:ident) => {
        false
    };
}

#[cfg(all(feature = "defects", debug_assertions))]
pub use planting::{Defect, Planted, is_planted, plant};

#[cfg(all(feature = "defects", debug_assertions))]
mod planting {
    use std::cell::Cell;

    macro_rules! defects {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// What is wrong on purpose.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum Defect { $($(#[$doc])* $name,)* }

            impl Defect {
                /// Every one.
                pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            }
        };
    }

    defects! {
        /// In pattern 2 the node dials that nobody can answer.
        WrongDialer,
        /// A tunnelled packet may have any inner source (I1).
        InnerSourceUnchecked,
        /// Every virtual address is given to two names (I2).
        AddressGivenTwice,
        /// The TRS forwards whatever names a path or a leg, from wherever it comes (I3).
        RelayForwardsUnbound,
        /// An endpoint sends what quinn would to an address that proved nothing (I4).
        UnprovedAnswered,
        /// A node remembers as many peers as anybody asks for (I5).
        PeersWithoutLimit,
        /// What waits for a tunnel may grow without end (I5).
        HeldWithoutLimit,
        /// Every sequence number is new (I6).
        ReplayWindowOff,
        /// The latest sequence number is new once more (I6).
        ReplayWindowOffByOne,
        /// A packet is handed to applications twice (I6).
        DeliveredTwice,
        /// No tag of a sealed datagram is ever compared (I1).
        HmacUnchecked,
        /// Capsules go out as they are (I10).
        CapsulesInTheClear,
        /// The temporary key is the tunnel key, which the TRS is told (I10).
        TemporaryKeyToldToRelay,
        /// A common key is shown in a diagram (I8).
        SecretInDiagram,
        /// A header that does not decode ends the program (I8).
        PanicOnBadHeader,
        /// A counter of the whole process goes into transaction ids (I9).
        ProcessWideCounter,
        /// Nothing keeps mappings alive: neither Keep Alives nor QUIC's PINGs.
        KeepAliveOff,
        /// What was not answered is not sent again (conventional method).
        RetransmissionOff,
        /// All legs to a TRS have one connection ID.
        LegsShareConnectionId,
        /// The first of the packets that waited for a tunnel is lost.
        HeldPacketLost,
        /// A tunnel that is gone still counts as up: the pair never recovers (I7).
        LostTunnelKept,
        /// A repeated or old registration counts as new.
        EpochUnchecked,
        /// An epoch may be as far ahead of the clock as anybody likes.
        EpochWithoutLimit,
        /// A node that registers anew is found where it was.
        StaleRouteAnswered,
        /// Each kind of filtering is taken for the next better one.
        FilteringOffByOne,
        /// Mappings by destination are taken for mappings that are not.
        MappingMistaken,
        /// A peer to whom no way was found is never given up (I5).
        RouteNeverGivenUp,
        /// The listener unwraps the end key for the path that leads away from it.
        WrongPathUnwrapped,
        /// Where the dialer is and where the listener is are taken for each other.
        CandidatesSwapped,
        /// After a move nobody is told.
        MoveForgotten,
        /// The TRS forgets paths that are quieter than their Keep Alives are apart.
        PathsForgottenEarly,
        /// A Keep Alive is answered, and does not count.
        KeepAliveNotCounted,
        /// Nobody tries for a direct path once a relay carries.
        ImprovementForgotten,
        /// A TRS does not say that a request's epoch is too old.
        StaleEpochUntold,
        /// Certificates are judged by a clock that is two days slow.
        ExpiryMissed,
        /// A link outlives the certificate of its peer (I12).
        LapsedLinkKept,
        /// A registration outlives the certificate of its login (I12, conventional method).
        LapsedLoginKept,
        /// A node that renews its certificate tells nobody.
        RenewalUntold,
        /// Packets of IPv4 do not come out of tunnels.
        InnerIpv4Lost,
        /// A Packet Too Big names an MTU that is 8 bytes too large.
        MtuNamedTooLarge,
        /// Packets longer than 1,000 bytes do not come out of tunnels.
        LargePacketsLost,
        /// Nothing but ICMP comes out of tunnels.
        OnlyEchoesCarried,
        /// A node is not told that the access of its peer has ended (I12).
        RevocationUntold,
        /// A node keeps its tunnels with a peer that has started anew.
        RestartUnheard,
        /// An address counts as a node's as soon as the node names it, or sends one datagram in its name (I13).
        NamedAddressBelieved,
        /// A TRS binds legs without a word of the NMS (I3).
        GrantUnchecked,
        /// Half-open handshakes are refused at their limit, whatever source took all places.
        HalfOpenUnshared,
        /// A path on which nothing is heard any more is never in doubt.
        PathSilenceUnnoticed,
        /// Nobody answers the probes of paths, so that none is ever proved.
        PathProbesUnanswered,
        /// The NMS directs nodes to each other without asking the access rules (I11).
        RulesUnasked,
        /// Nodes let packets pass that the access rules do not permit (I11).
        ServicesUnchecked,
        /// A change of the access rules is told to nobody (I12).
        RuleChangeUntold,
        /// A peer that dials may be anybody with a certificate.
        DialerUnchecked,
    }

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// For as long as it lives, a defect is in force on the thread that made it.
    #[derive(Debug)]
    #[must_use = "the defect is mended when this is dropped"]
    pub struct Planted {
        before: Option<Defect>,
    }

    /// Plants a defect in every run that this thread makes from now on.
    pub fn plant(defect: Defect) -> Planted {
        Planted { before: PLANTED.replace(Some(defect)) }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    /// Whether this thread's runs have this defect.
    pub fn is_planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
    }
}
