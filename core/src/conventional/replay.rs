//! Sequence numbers. The sender uses each number once, and the receiver accepts each number once.
//!
//! [`Sequence`] counts on the sender's side, and ends instead of wrapping round. [`ReplayWindow`] is the receiver's
//! sliding window (RFC 6479): it records the greatest number so far and which of the [`WIDTH`] numbers up to it were
//! seen. All older numbers are refused. Its memory is a fixed ring of bits; moving forward clears whole words.
//!
//! Call [`ReplayWindow::check`] and [`ReplayWindow::check_and_set`] only for messages with a valid HMAC. Otherwise a
//! forged number could move the window, and valid numbers would be too old.

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: u64 = 32;

/// The width of the window: how many numbers it records, counted back from the greatest one seen. One word of the ring
/// is always being filled, so it does not count.
pub const WIDTH: u64 = (WORDS - 1) * WORD_BITS;

/// The sequence numbers of one key and direction: 0, 1, 2, …
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: u64,
}

impl Sequence {
    /// A sequence that begins at `first`.
    pub fn from(first: u32) -> Self {
        Self { next: first.into() }
    }

    /// Skips the numbers below `sequence`.
    pub fn at_least(&mut self, sequence: u32) {
        self.next = self.next.max(sequence.into());
    }

    /// The next number. `None` after `u32::MAX`: the key must not be used any more, because a second use of a number
    /// would repeat keystream.
    // It is no iterator, because an adapter such as `filter` would skip numbers without a use.
    #[expect(clippy::should_implement_trait, reason = "a counter, not a collection")]
    pub fn next(&mut self) -> Option<u32> {
        let number = u32::try_from(self.next).ok()?;
        self.next += 1;
        Some(number)
    }
}

/// Which sequence numbers of one key and direction were seen.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    /// One more than the greatest number seen; 0 before the first.
    end: u64,
    seen: [u64; WORDS as usize],
}

impl ReplayWindow {
    /// Whether `sequence` is new; changes nothing.
    pub fn check(&self, sequence: u32) -> bool {
        let sequence = u64::from(sequence);
        if sequence + u64::from(defect!(ReplayWindowOffByOne)) >= self.end || defect!(ReplayWindowOff) {
            return true;
        }
        let (word, bit) = place(sequence);
        sequence + WIDTH >= self.end && self.seen[word] & bit == 0
    }

    /// Marks `sequence` as seen. A number that is older than the window is refused anyway, so nothing changes.
    pub fn set(&mut self, sequence: u32) {
        let sequence = u64::from(sequence);
        if sequence >= self.end {
            self.advance_to(sequence);
        } else if sequence + WIDTH < self.end {
            return;
        }
        let (word, bit) = place(sequence);
        self.seen[word] |= bit;
    }

    /// Whether `sequence` is new, and marks it.
    pub fn check_and_set(&mut self, sequence: u32) -> bool {
        let new = self.check(sequence);
        if new {
            self.set(sequence);
        }
        new
    }

    /// Whether no number greater than `sequence` was seen.
    pub fn is_latest(&self, sequence: u32) -> bool {
        u64::from(sequence) + 1 >= self.end
    }

    /// Clears the words that the window enters, and makes `sequence` the greatest number.
    fn advance_to(&mut self, sequence: u64) {
        let target = sequence / WORD_BITS;
        // The word of the greatest number so far is in use; before the first number, all words are clear.
        let current = self.end.saturating_sub(1) / WORD_BITS;
        for word in (current + 1..=target).take(WORDS as usize) {
            self.seen[(word % WORDS) as usize] = 0;
        }
        self.end = sequence + 1;
    }
}

/// The word and the bit within it that stand for `sequence`.
fn place(sequence: u64) -> (usize, u64) {
    ((sequence / WORD_BITS % WORDS) as usize, 1 << (sequence % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_accepted_once() {
        let mut window = ReplayWindow::default();
        for sequence in [0, 5, 3, 4_000, 3_999, u32::MAX] {
            assert!(window.check(sequence));
            assert!(window.check_and_set(sequence), "{sequence}");
            assert!(!window.check_and_set(sequence), "{sequence} again");
            assert_eq!(window.is_latest(sequence), ![3, 3_999].contains(&sequence), "{sequence}");
        }
    }

    #[test]
    fn a_number_below_the_window_is_refused_and_the_oldest_inside_is_not() {
        let mut window = ReplayWindow::default();
        let newest = 10_000;
        window.set(newest);
        let oldest = newest - (WIDTH as u32 - 1);
        assert!(!window.check(oldest - 1));
        window.set(oldest - 1);
        assert!(window.check_and_set(oldest));
        assert!(!window.check(oldest));
    }

    #[test]
    fn a_sequence_ends_instead_of_wrapping_round() {
        let mut sequence = Sequence { next: u64::from(u32::MAX) - 1 };
        assert_eq!(sequence.next(), Some(u32::MAX - 1));
        assert_eq!(sequence.next(), Some(u32::MAX));
        assert_eq!(sequence.next(), None);
        assert_eq!(sequence.next(), None);
        assert_eq!(Sequence::default().next(), Some(0));
    }

    /// Numbers that crowd around the window's edges, and some leaps.
    fn numbers() -> impl Strategy<Value = Vec<u32>> {
        let near = 0..3 * WIDTH as u32;
        vec(prop_oneof![20 => near.clone(), 5 => near.prop_map(|n| u32::MAX - n), 1 => any::<u32>()], 0..2_000)
            .prop_map(|mut numbers| {
                // Mostly upwards, as on a network that reorders; the leaps to the top would hide the rest.
                let length = numbers.len();
                numbers[..length / 2].sort_by_key(|n| n / 64);
                numbers.sort_by_key(|n| n / 2_500);
                numbers
            })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_that_remembers_everything(numbers in numbers()) {
            let mut window = ReplayWindow::default();
            let mut model = BTreeSet::new();
            for sequence in numbers {
                let too_old = model.last().is_some_and(|&newest: &u32| u64::from(newest) >= u64::from(sequence) + WIDTH);
                let expected = !too_old && !model.contains(&sequence);
                prop_assert_eq!(window.check(sequence), expected);
                prop_assert_eq!(window.check_and_set(sequence), expected);
                if expected {
                    model.insert(sequence);
                }
            }
        }
    }
}
