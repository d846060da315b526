//! Deliberate defects, which test the tests.
//!
//! The simulator's soak claims to find every violation of an invariant. Each `Defect` removes one defence of the core,
//! and the test `sim/tests/hostile/guards.rs` demands that the soak or a directed attack catches it. `defect!(Name)` is
//! a condition at the place of the defence. It is false unless a test has planted that defect. `defect!(Name | Other)`
//! asks for either.
//!
//! # No release can have a defect
//!
//! * `defect!` does something only under the cargo feature `defects` **and** `debug_assertions`. Otherwise it is the
//!   literal `false`, this module is empty, and the code is the honest one at no cost.
//! * Only the tests of the simulator depend on the feature, as a dev-dependency. With the workspace's resolver no
//!   `cargo build` or `cargo install` turns it on. `cargo test --workspace` turns it on for everything that it builds.
//! * `cargo test --release` and `cargo bench` turn the feature on too, and build the daemons beside their tests. So the
//!   macro asks for `debug_assertions` as well. A `compile_error!` would forbid these two commands.
//! * No defect is in force until a test calls `plant`. No input of a user reaches that function.
//!
//! # A defect belongs to a thread
//!
//! A planted defect is in force on its thread until its `Planted` is dropped. A simulated network runs on one thread,
//! so runs beside each other never share a defect. The alternative is a value in each role's configuration. It would
//! have to be handed down to pure functions of two lines, and would clutter the honest code.

#[cfg(all(feature = "defects", debug_assertions))]
macro_rules! defect {
    ($($name:ident)|+) => {
        $($crate::defects::is_planted($crate::defects::Defect::$name))||+
    };
}
#[cfg(not(all(feature = "defects", debug_assertions)))]
macro_rules! defect {
    ($($name:ident)|+) => {
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
            /// A defence that is missing on purpose.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum Defect { $($(#[$doc])* $name,)* }

            impl Defect {
                /// Every defect.
                pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            }
        };
    }

    defects! {
        /// In pattern 2 the wrong node dials.
        WrongDialer,
        /// The source address of a packet inside a tunnel is not checked (I1).
        InnerSourceUnchecked,
        /// Every virtual address is given to two names (I2).
        AddressGivenTwice,
        /// The TRS forwards a datagram that names a path or a leg, whatever its source is (I3).
        RelayForwardsUnbound,
        /// An endpoint sends an unvalidated address more than three times the bytes that came from there (I4).
        UnprovedAnswered,
        /// A node remembers any number of peers (I5).
        PeersWithoutLimit,
        /// A node holds any number of packets that wait for a tunnel (I5).
        HeldWithoutLimit,
        /// The replay window accepts every sequence number (I6).
        ReplayWindowOff,
        /// The replay window accepts the highest sequence number twice (I6).
        ReplayWindowOffByOne,
        /// A packet is handed to applications twice (I6).
        DeliveredTwice,
        /// The HMAC of a sealed datagram is not compared (I1).
        HmacUnchecked,
        /// Capsules are sent without encryption (I10).
        CapsulesInTheClear,
        /// The temporary key is the tunnel key, which the TRS knows (I10).
        TemporaryKeyToldToRelay,
        /// A diagram shows a common key (I8).
        SecretInDiagram,
        /// A header that does not decode ends the program (I8).
        PanicOnBadHeader,
        /// Transaction ids depend on a counter of the whole process (I9).
        ProcessWideCounter,
        /// Neither Keep Alives nor QUIC's PINGs are sent.
        KeepAliveOff,
        /// A message without an answer is not sent again (conventional method).
        RetransmissionOff,
        /// All legs to a TRS have one connection ID.
        LegsShareConnectionId,
        /// The first of the packets that waited for a tunnel is lost.
        HeldPacketLost,
        /// A tunnel that is gone still counts as up: the pair never recovers (I7).
        LostTunnelKept,
        /// A repeated or old registration counts as new.
        EpochUnchecked,
        /// An epoch may be any time ahead of the clock.
        EpochWithoutLimit,
        /// After a node has registered anew, peers are told its old address.
        StaleRouteAnswered,
        /// A survey reports each kind of filtering as the next less strict one.
        FilteringOffByOne,
        /// A survey reports every mapping as endpoint-independent.
        MappingMistaken,
        /// A peer to which no path was found is never given up (I5).
        RouteNeverGivenUp,
        /// The listener unwraps the end key with the path id of the opposite direction.
        WrongPathUnwrapped,
        /// The dialer's addresses and the listener's are swapped.
        CandidatesSwapped,
        /// A node that has moved tells nobody.
        MoveForgotten,
        /// The TRS forgets a path in less time than there is between two Keep Alives.
        PathsForgottenEarly,
        /// A Keep Alive is answered, but does not count as a sign of life.
        KeepAliveNotCounted,
        /// Two nodes that are relayed do not try for a direct path.
        ImprovementForgotten,
        /// A TRS does not say that a request's epoch is too old.
        StaleEpochUntold,
        /// Certificates are judged by a clock that is two days slow.
        ExpiryMissed,
        /// A link outlives the certificate of its peer (I12).
        LapsedLinkKept,
        /// A registration outlives the certificate of its login (I12, conventional method).
        LapsedLoginKept,
        /// A tunnel outlives the certificate of a peer that says nothing to the NMS (conventional method).
        SilentLapseMissed,
        /// A node that renews its certificate tells nobody.
        RenewalUntold,
        /// A connection of two nodes carries packets for as long as it works.
        OldConnectionKept,
        /// IPv4 packets do not come out of tunnels.
        InnerIpv4Lost,
        /// A Packet Too Big names an MTU that is 8 bytes too large.
        MtuNamedTooLarge,
        /// Packets longer than 1,000 bytes do not come out of tunnels.
        LargePacketsLost,
        /// Only ICMP packets come out of tunnels.
        OnlyEchoesCarried,
        /// A node is not told that the access of its peer has ended (I12).
        RevocationUntold,
        /// A node keeps its tunnels to a peer that has started anew.
        RestartUnheard,
        /// An address counts as a node's as soon as the node names it, or sends one datagram from it (I13).
        NamedAddressBelieved,
        /// A TRS binds legs without a grant of the NMS (I3).
        GrantUnchecked,
        /// The NMS gives a node the virtual addresses of its database, whatever the node's certificate says.
        CertifiedAddressesIgnored,
        /// An address leads to the node that has it in the database, whatever certificates say.
        CertifiedOwnerForgotten,
        /// A node believes the virtual addresses that the NMS says, of itself and of a peer, whatever certificates say.
        OtherAddressesBelieved,
        /// Half-open handshakes are refused at their limit, even if one source has taken all places.
        HalfOpenUnshared,
        /// A path on which nothing arrives any more is never in doubt.
        PathSilenceUnnoticed,
        /// Probes of paths are not answered, so no path is ever proved.
        PathProbesUnanswered,
        /// Each probe of a peer that hears nothing is answered by a probe that says the same (I5).
        DeafnessEchoed,
        /// The NMS directs nodes to each other without asking the access rules (I11).
        RulesUnasked,
        /// Nodes let packets pass that the access rules do not permit (I11).
        ServicesUnchecked,
        /// Access rules of an earlier run of the NMS count more than those of the present one.
        EarlierRulesPreferred,
        /// The NMS tells no node of a change of the access rules (I12).
        RuleChangeUntold,
        /// The name in the certificate of a dialing peer is not compared.
        DialerUnchecked,
        /// The TRS relays in the conventional method between two nodes that may not talk any more.
        PathsOutliveAccess,
        /// The TRS relays in the conventional method although the grant of the NMS is over.
        PathsOutliveGrant,
        /// A peer's ICMP errors are taken, whatever packet they are about.
        ForeignErrorsTaken,
        /// A node may register, and ask for routes, as often as it likes.
        RequestsUnlimited,
        /// The NMS derives keys and asks its database for every datagram on the conventional port.
        UnprovedUnlimited,
        /// A challenge of the NMS under load counts for no certain Registration Request.
        ChallengeOfAnybody,
        /// A machine whose registration another one with its key has replaced is not told why.
        DisplacedUntold,
        /// Packets ahead of the Tunnel Response are taken without a Route Direction.
        AheadUnchecked,
    }

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// A planted defect. It is in force on the thread that planted it, until this value is dropped.
    #[derive(Debug)]
    #[must_use = "the defect is mended when this is dropped"]
    pub struct Planted {
        before: Option<Defect>,
    }

    /// Plants a defect in the runs of this thread, in place of one that was planted before.
    pub fn plant(defect: Defect) -> Planted {
        Planted { before: PLANTED.replace(Some(defect)) }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    /// Whether this defect is in force on this thread.
    pub fn is_planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
    }
}
