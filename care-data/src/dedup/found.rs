//! Which rows duplicate which, as far as that is known.

use care_core::Error;

use super::options::Method;
use super::scan::Rows;

/// The rows of the other files, then those of the files, and what each duplicates.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) rows: Rows,
    /// How many rows are of the other files. They are never dropped.
    pub(super) against: usize,
    pub(super) duplicates: Vec<Option<Duplicate>>,
    /// Rows that could not be read.
    pub(super) bad: Vec<Error>,
}

/// What a row duplicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Duplicate {
    pub(super) of: u32,
    pub(super) similarity: f32,
    pub(super) method: Method,
}

impl Found {
    /// Whether a row is compared by the next method: none has found it to be a duplicate, and it has a text.
    pub(super) fn left(&self, row: usize) -> bool {
        self.duplicates[row].is_none() && self.rows.keys[row] != 0
    }

    /// Rows in the order in which they are considered, those of the other files first.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        let ranks = &self.rows.ranks;
        order[self.against..].sort_by_key(|row| std::cmp::Reverse(ranks[*row as usize]));
        order
    }

    /// The same order of some rows, given in ascending order, as places among them.
    pub(super) fn order_of(&self, rows: &[u32]) -> Vec<u32> {
        let mut places = vec![u32::MAX; self.rows.len()];
        rows.iter().zip(0..).for_each(|(row, place)| places[*row as usize] = place);
        self.order().into_iter().map(|row| places[row as usize]).filter(|place| *place != u32::MAX).collect()
    }

    /// Notes what a row duplicates, unless it is of the other files. Returns whether it is kept.
    pub(super) fn note(&mut self, row: u32, duplicate: Option<Duplicate>) -> bool {
        let row = row as usize;
        if row >= self.against {
            self.duplicates[row] = duplicate;
        }
        self.duplicates[row].is_none()
    }

    /// The row that stands for another one in the end: what it duplicates may have been dropped by a later method.
    pub(super) fn root(&self, mut row: usize) -> usize {
        while let Some(duplicate) = self.duplicates[row] {
            row = duplicate.of as usize;
        }
        row
    }
}
