//! Counting distinct numbers.

/// The fewest numbers that are sorted at once.
const LEAST: usize = 1 << 16;

/// The distinct numbers among many, in 8 bytes each and half of that again while some are sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    sorted: Vec<u64>,
    pending: Vec<u64>,
}

impl Distinct {
    pub(super) fn add(&mut self, number: u64) {
        self.pending.push(number);
        if self.pending.len() >= LEAST.max(self.sorted.len() / 4) {
            self.merge();
        }
    }

    pub(super) fn count(&mut self) -> usize {
        self.merge();
        self.sorted.len()
    }

    /// Merges from the end, in place.
    fn merge(&mut self) {
        self.pending.sort_unstable();
        self.pending.dedup();
        let sorted = &self.sorted;
        self.pending.retain(|number| sorted.binary_search(number).is_err());
        let mut left = self.sorted.len();
        self.sorted.reserve_exact(self.pending.len());
        self.sorted.resize(left + self.pending.len(), 0);
        while let Some(&next) = self.pending.last() {
            let place = left + self.pending.len() - 1;
            if left > 0 && self.sorted[left - 1] > next {
                self.sorted[place] = self.sorted[left - 1];
                left -= 1;
            } else {
                self.sorted[place] = next;
                self.pending.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_what_a_set_counts(numbers in prop::collection::vec(0_u64..200, 0..400), every in 1_usize..50) {
            let mut distinct = Distinct::default();
            for (at, number) in numbers.iter().enumerate() {
                distinct.add(*number);
                if at % every == 0 {
                    distinct.merge();
                }
            }
            let set: BTreeSet<u64> = numbers.into_iter().collect();
            prop_assert_eq!(distinct.count(), set.len());
            prop_assert!(distinct.sorted.into_iter().eq(set));
        }
    }

    #[test]
    fn it_merges_by_itself() {
        let mut distinct = Distinct::default();
        (0..200_000_u64).for_each(|number| distinct.add(number.wrapping_mul(0x9e37_79b9) % 1000));
        assert!(distinct.pending.len() < LEAST && distinct.sorted.len() == 1000);
        assert_eq!(distinct.count(), 1000);
    }
}
