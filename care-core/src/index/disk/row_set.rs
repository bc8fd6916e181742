//! Sets of a segment's rows, as bits.

/// A set of the rows `0..rows`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowSet {
    rows: usize,
    words: Vec<u64>,
}

impl RowSet {
    pub(super) fn empty(rows: usize) -> Self {
        Self { rows, words: vec![0; rows.div_ceil(64)] }
    }

    pub(super) fn all(rows: usize) -> Self {
        Self::empty(rows).complement()
    }

    pub(super) fn insert(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    /// Adds a row if `fits`, without a branch.
    pub(super) fn insert_if(&mut self, row: usize, fits: bool) {
        self.words[row / 64] |= u64::from(fits) << (row % 64);
    }

    pub(super) fn contains(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// Number of rows in the set.
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn complement(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        if !self.rows.is_multiple_of(64)
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << (self.rows % 64)) - 1;
        }
        self
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Appends the rows of the set in `start..end`, ascending.
    pub(super) fn rows_in(&self, start: usize, end: usize, rows: &mut Vec<usize>) {
        for at in start / 64..end.div_ceil(64) {
            let mut word = self.word(at, start, end);
            while word != 0 {
                rows.push(at * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }

    /// Whether the set has a row in `start..end`.
    pub(super) fn any_in(&self, start: usize, end: usize) -> bool {
        (start / 64..end.div_ceil(64)).any(|at| self.word(at, start, end) != 0)
    }

    /// The bits of a word whose rows are in `start..end`, which it overlaps.
    fn word(&self, at: usize, start: usize, end: usize) -> u64 {
        let (first, next) = (at * 64, (at + 1) * 64);
        let from = u64::MAX << start.saturating_sub(first);
        let to = u64::MAX >> next.saturating_sub(end);
        self.words[at] & from & to
    }

    /// The bits, 8 rows per byte, the first in the lowest bit.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The set of [`RowSet::to_bytes`]; `None` if it is not of so many rows.
    pub(super) fn from_bytes(rows: usize, bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let set = Self { rows, words };
        let fits = rest.is_empty() && set.words.len() == rows.div_ceil(64);
        (fits && set.clone().complement().complement() == set).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_a_set_of_numbers(
            rows in 1usize..300, left in proptest::collection::vec(0usize..300, 0..60),
            right in proptest::collection::vec(0usize..300, 0..60), range in (0usize..300, 0usize..300),
        ) {
            let numbers = |rows_of: &[usize]| rows_of.iter().map(|row| row % rows).collect::<BTreeSet<usize>>();
            let bits = |numbers: &BTreeSet<usize>| {
                let mut set = RowSet::empty(rows);
                numbers.iter().for_each(|row| set.insert(*row));
                set
            };
            let (a, b) = (numbers(&left), numbers(&right));
            let (mut both, mut either) = (bits(&a), bits(&a));
            both.intersect(&bits(&b));
            either.unite(&bits(&b));
            prop_assert_eq!(&both, &bits(&a.intersection(&b).copied().collect()));
            prop_assert_eq!(&either, &bits(&a.union(&b).copied().collect()));
            prop_assert_eq!(bits(&a).complement(), bits(&(0..rows).filter(|row| !a.contains(row)).collect()));
            prop_assert_eq!(RowSet::all(rows).len(), rows);
            let (start, end) = (range.0.min(rows), range.1.min(rows));
            let expected: Vec<usize> = a.iter().copied().filter(|row| (start..end).contains(row)).collect();
            let mut found = Vec::new();
            if start < end {
                bits(&a).rows_in(start, end, &mut found);
                prop_assert_eq!(bits(&a).any_in(start, end), !expected.is_empty());
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(RowSet::from_bytes(rows, &bits(&a).to_bytes()), Some(bits(&a)));
        }
    }

    #[test]
    fn bits_of_no_row_are_refused() {
        assert_eq!(RowSet::from_bytes(63, &[0xff; 8]), None);
        assert_eq!(RowSet::from_bytes(64, &[0xff; 8]), Some(RowSet::all(64)));
        assert_eq!(RowSet::from_bytes(65, &[0; 8]), None);
    }
}
