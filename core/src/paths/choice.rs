//! The choice of a path: a pure function of what is known of each.
//!
//! 1. A path that is not alive is never chosen. The same holds for one that does not pass a QUIC datagram of 1,200
//!    bytes.
//! 2. A path in doubt comes after all paths that are not.
//! 3. The class decides next, in this order: a good direct path, a relay, a direct path on trial, a starved path.
//! 4. Within a class the round trip decides, then the kind, then the order of the list.
//!
//! The path in use gives way to another one only if that one has a better class, or a round trip that is shorter by a
//! fifth and by 5 ms ([`GAIN`], [`GAIN_AT_LEAST`]). So smaller noise never moves traffic. A path in doubt stays in use
//! too, because everything goes by a second path then.
//!
//! Both ends use the same path. Of several paths of the same class the client chooses one, and the server follows
//! ([`is_equal`]). The reason: an end notices silence only on its own path, and an end that only acknowledges expects
//! no answer there. With two different paths, the end of one of them could go unnoticed.

use std::time::Duration;

use super::candidates::Kind;
use crate::timing::paths::GAIN_AT_LEAST;

/// Hysteresis: another path of the same class needs at most this part of the present path's round trip, four fifths.
pub const GAIN: (u32, u32) = (4, 5);

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Standing {
    /// The peer has answered on it, and nothing shows that it has ended since.
    pub alive: bool,
    /// A packet that needs an answer got none in time.
    pub doubt: bool,
    /// A QUIC datagram of 1,200 bytes passes in both directions.
    pub wide: bool,
    /// Most of what is sent on it is lost.
    pub starved: bool,
    /// It came back after a failure, and has not lasted for long enough yet.
    pub trial: bool,
    /// Its kind.
    pub kind: Kind,
    /// The smoothed round trip.
    pub rtt: Duration,
}

/// The class of a path, which leaves the round trip aside. Less is better.
fn class(standing: &Standing) -> u8 {
    let direct = standing.kind != Kind::Relay;
    match (direct, standing.starved, standing.trial) {
        (true, false, false) => 0,
        (false, false, _) => 1,
        (true, false, true) => 2,
        (true, true, _) => 3,
        (false, true, _) => 4,
    }
}

/// The path to send on, or `None` if none is usable. `current` is the path in use. It gives way only to a better one
/// with a margin, unless it cannot be used any more. An end that does not lead leaves it only for a path of a better
/// class.
pub fn choose(current: Option<usize>, standings: &[Standing], leads: bool) -> Option<usize> {
    let usable = |index: &usize| standings.get(*index).is_some_and(|s| s.alive && s.wide);
    let order = |index: &usize| {
        let s = &standings[*index];
        (s.doubt, class(s), s.rtt, s.kind, *index)
    };
    let best = (0..standings.len()).filter(usable).min_by_key(order)?;
    let Some(current) = current.filter(usable) else { return Some(best) };
    let (new, old) = (&standings[best], &standings[current]);
    let shorter = leads && new.rtt * GAIN.1 <= old.rtt * GAIN.0 && new.rtt + GAIN_AT_LEAST <= old.rtt;
    let better = !new.doubt && (class(new) < class(old) || (class(new) == class(old) && shorter));
    Some(if better { best } else { current })
}

/// Whether an end that does not lead may use `new` instead of `old`, because the other end does.
pub fn is_equal(new: &Standing, old: &Standing) -> bool {
    new.alive && new.wide && !new.doubt && class(new) <= class(old)
}

/// The path to keep warm beside the path in use: the best of the others. A path with another address of ours, or a
/// relay beside a direct path, comes first, because one cause is less likely to end both.
pub fn second(current: usize, standings: &[Standing], shares: impl Fn(usize) -> bool) -> Option<usize> {
    let others = (0..standings.len()).filter(|&i| i != current && standings[i].alive && standings[i].wide);
    others.min_by_key(|&i| {
        (standings[i].doubt, standings[i].starved, shares(i), class(&standings[i]), standings[i].rtt, i)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A case: its name, the path in use, what is known of each path, and the path to send on.
    type Case = (&'static str, Option<usize>, Vec<Standing>, Option<usize>);

    fn standing(kind: Kind, rtt: u64) -> Standing {
        let rtt = Duration::from_millis(rtt);
        Standing { alive: true, doubt: false, wide: true, starved: false, trial: false, kind, rtt }
    }

    #[test]
    fn the_table_of_choices() {
        let v4 = standing(Kind::V4, 50);
        let relay = standing(Kind::Relay, 20);
        let dead = Standing { alive: false, ..v4 };
        let narrow = Standing { wide: false, ..v4 };
        let starved = Standing { starved: true, ..v4 };
        let trial = Standing { trial: true, ..v4 };
        let doubt = Standing { doubt: true, ..v4 };
        let cases: [Case; 16] = [
            ("nothing", None, vec![], None),
            ("nothing alive", Some(0), vec![dead], None),
            ("too narrow for QUIC", None, vec![narrow], None),
            ("direct before a shorter relay", None, vec![relay, v4], Some(1)),
            ("direct takes over from the relay", Some(0), vec![relay, v4], Some(1)),
            ("the relay takes over from a dead path", Some(1), vec![relay, dead], Some(0)),
            ("and from a starved one", Some(1), vec![relay, starved], Some(0)),
            ("what is on trial waits", Some(0), vec![relay, trial], Some(0)),
            ("starved is better than nothing", None, vec![dead, starved], Some(1)),
            ("doubt moves nothing", Some(1), vec![relay, doubt], Some(1)),
            ("and is not gone to", Some(0), vec![relay, doubt], Some(0)),
            ("the shorter round trip", None, vec![v4, standing(Kind::V4, 30)], Some(1)),
            ("by a margin", Some(0), vec![v4, standing(Kind::V6, 41)], Some(0)),
            ("of a fifth", Some(0), vec![v4, standing(Kind::V6, 40)], Some(1)),
            ("and of 5 ms", Some(0), vec![standing(Kind::V4, 5), standing(Kind::Inside, 1)], Some(0)),
            ("the kind at equal round trips", None, vec![v4, standing(Kind::V6, 50)], Some(1)),
        ];
        for (what, current, standings, expected) in cases {
            assert_eq!(choose(current, &standings, true), expected, "{what}");
        }
    }

    #[test]
    fn the_second_path_shares_as_little_as_possible() {
        let all = [standing(Kind::V4, 10), standing(Kind::V4, 11), standing(Kind::Relay, 60)];
        assert_eq!(second(0, &all, |i| i == 1), Some(2));
        assert_eq!(second(0, &all, |_| false), Some(1));
        assert_eq!(second(0, &all[..1], |_| false), None);
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let kind = prop::sample::select(vec![Kind::Inside, Kind::V6, Kind::V4, Kind::Nat64, Kind::Relay]);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (flags, kind, 0_u64..2_000_000).prop_map(|((alive, doubt, wide, starved, trial), kind, micros)| Standing {
            alive,
            doubt,
            wide,
            starved,
            trial,
            kind,
            rtt: Duration::from_micros(micros),
        })
    }

    proptest! {
        #[test]
        fn what_was_chosen_stays_chosen(
            all in prop::collection::vec(any_standing(), 0..10),
            current in 0_usize..10,
            leads in any::<bool>(),
        ) {
            let first = choose(Some(current), &all, leads);
            prop_assert_eq!(choose(first, &all, leads), first);
            prop_assert_eq!(first.is_some(), all.iter().any(|s| s.alive && s.wide));
            prop_assert!(first.is_none_or(|i| all[i].alive && all[i].wide));
        }

        #[test]
        fn noise_within_a_tenth_never_moves_traffic_back(
            all in prop::collection::vec(any_standing(), 1..8),
            noise in prop::collection::vec(prop::collection::vec(90_u32..=110, 8), 1..50),
        ) {
            // Only the round trips vary from one choice to the next. A path that traffic has left must never be chosen
            // again.
            let mut current = choose(None, &all, true);
            let mut left = std::collections::BTreeSet::new();
            for factors in noise {
                let wobbled: Vec<_> =
                    all.iter().zip(&factors).map(|(s, f)| Standing { rtt: s.rtt * *f / 100, ..*s }).collect();
                let next = choose(current, &wobbled, true);
                if next != current {
                    left.extend(current);
                    prop_assert!(next.is_none_or(|i| !left.contains(&i)), "flapped back to {next:?}");
                }
                current = next;
            }
        }
    }
}
