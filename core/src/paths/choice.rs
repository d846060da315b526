//! The choice of a path: a pure function of what is known of each.
//!
//! 1. A path that is not alive is never chosen, nor one that does not pass a QUIC datagram of 1,200 bytes.
//! 2. One that is in doubt comes after all that are not.
//! 3. The class decides next: a good direct path, a relay, a direct path on trial, one that is starved.
//! 4. Within a class the round trip decides, then the kind, then the order of the list.
//!
//! A path in use stays in use, also in doubt (everything goes by a second one then), unless another has a better class,
//! or a round trip that is shorter by a fifth and 5 ms ([`GAIN`], [`GAIN_AT_LEAST`]). So noise of less than that never
//! moves traffic.
//!
//! The two ends go by the same path: of several paths of the same class the client chooses, and the server follows
//! ([`is_equal`]). Each end learns of silence only on the path that it uses itself, and an end that only acknowledges
//! expects no answer. If the two ends used different ones, the end of the one path would go unnoticed.

use std::time::Duration;

use super::candidates::Kind;
use crate::timing::paths::GAIN_AT_LEAST;

/// Another path of the same class must need at most this part of the round trip of the one in use: four fifths.
pub const GAIN: (u32, u32) = (4, 5);

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Standing {
    /// The peer answered on it, and nothing says that it has ended since.
    pub alive: bool,
    /// Something that needs an answer was not answered in time.
    pub doubt: bool,
    /// A QUIC datagram of 1,200 bytes passes in both directions.
    pub wide: bool,
    /// Most of what is sent on it is lost.
    pub starved: bool,
    /// It came back after it had failed, and has not stood for long enough yet.
    pub trial: bool,
    /// Its kind.
    pub kind: Kind,
    /// The smoothed round trip.
    pub rtt: Duration,
}

/// How good a path is, apart from its round trip; less is better.
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

/// The path to send on. `current` is the one in use; it gives way only to one that is better by a margin, or if it
/// cannot be used any more. `None` if there is no usable one. An end that does not lead leaves its path only for one of
/// a better class.
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

/// Whether an end that does not lead may go by `new` instead of `old`, because the other end does.
pub fn is_equal(new: &Standing, old: &Standing) -> bool {
    new.alive && new.wide && !new.doubt && class(new) <= class(old)
}

/// The path to keep warm beside the one in use: the best of the others, but one that shares neither our address nor the
/// relay with it comes first, because what ends the one may end the other.
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

    /// What it is about, the path in use, what is known of all, and the path to send on.
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
            // From one choice to the next only the round trips wobble: whatever is left is never taken up again.
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
