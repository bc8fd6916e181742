//! Two raters, or labels and an expert, side by side.

use std::fmt;

use serde::Serialize;

use super::ratings::Ratings;
use crate::error::Result;

/// How often one rater gave each category where another gave each.
///
/// ```
/// use care_eval::agreement::{Confusion, Ratings};
///
/// let rows = [[2, 2], [0, 1], [1, 1], [0, 0], [2, 1], [0, 0]].map(|row| row.map(|grade| Some(f64::from(grade))));
/// let confusion = Confusion::new(&Ratings::from_rows(rows)?, 0, 1)?;
/// assert_eq!(
///     confusion.to_string(),
///     "       0  1  2  total\n\
///      0      2  1  0      3\n\
///      1      0  1  0      1\n\
///      2      0  1  1      2\n\
///      total  2  3  1      6\n"
/// );
/// # Ok::<(), care_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Confusion {
    /// The categories, ascending.
    pub categories: Vec<f64>,
    /// Units by the first rater's category (row) and the second's (column).
    pub counts: Vec<Vec<u64>>,
    /// Units that only the first has rated.
    pub only_first: u64,
    /// Units that only the second has rated.
    pub only_second: u64,
}

/// The agreement of two raters on one category.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CategoryAgreement {
    /// The category.
    pub category: f64,
    /// Units to which the first rater gave it.
    pub first: u64,
    /// Units to which the second rater gave it.
    pub second: u64,
    /// Units to which both gave it.
    pub both: u64,
    /// `2 both / (first + second)`, the specific agreement: how likely one gives it where the other does. `None` if
    /// neither gave it.
    pub agreement: Option<f64>,
}

impl Confusion {
    /// Compares two raters of a table on the units that both have rated.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`](crate::ErrorKind::Rating) if there is no such rater.
    pub fn new(ratings: &Ratings, first: usize, second: usize) -> Result<Self> {
        let (categories, rows) = ratings.select(&[first, second])?.indexed();
        let counts = vec![vec![0; categories.len()]; categories.len()];
        let mut confusion = Self { categories, counts, only_first: 0, only_second: 0 };
        for (row, count) in rows {
            match (row[0], row[1]) {
                (Some(first), Some(second)) => confusion.counts[first][second] += count,
                (Some(_), None) => confusion.only_first += count,
                (None, Some(_)) => confusion.only_second += count,
                (None, None) => {}
            }
        }
        Ok(confusion)
    }

    /// The units that both have rated.
    pub fn units(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The agreement on each category, ascending.
    ///
    /// # Reference
    /// Fleiss, *Statistical methods for rates and proportions*, 1981, section 13.1.
    pub fn per_category(&self) -> Vec<CategoryAgreement> {
        let of = |(index, category): (usize, &f64)| {
            let (first, second) = (self.first(index), self.second(index));
            let both = self.counts[index][index];
            let agreement = (first + second > 0).then(|| 2.0 * both as f64 / (first + second) as f64);
            CategoryAgreement { category: *category, first, second, both, agreement }
        };
        self.categories.iter().enumerate().map(of).collect()
    }

    fn first(&self, category: usize) -> u64 {
        self.counts[category].iter().sum()
    }

    fn second(&self, category: usize) -> u64 {
        self.counts.iter().map(|row| row[category]).sum()
    }
}

impl fmt::Display for Confusion {
    /// One row per category of the first rater, one column per category of the second, and the totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = || self.categories.iter().map(f64::to_string).chain(["total".to_string()]);
        let row = |(index, counts): (usize, &Vec<u64>)| counts.iter().copied().chain([self.first(index)]).collect();
        let mut rows: Vec<Vec<u64>> = self.counts.iter().enumerate().map(row).collect();
        let totals = (0..self.categories.len()).map(|category| self.second(category));
        rows.push(totals.chain([self.units()]).collect());

        let heading = names().map(|name| name.len()).max().unwrap_or(0);
        let widest = |column: usize| rows.iter().map(|row| row[column].to_string().len()).max().unwrap_or(0);
        let widths: Vec<_> = names().enumerate().map(|(column, name)| name.len().max(widest(column))).collect();
        write!(f, "{:heading$}", "")?;
        names().zip(&widths).try_for_each(|(name, width)| write!(f, "  {name:>width$}"))?;
        writeln!(f)?;
        for (name, row) in names().zip(&rows) {
            write!(f, "{name:heading$}")?;
            row.iter().zip(&widths).try_for_each(|(count, width)| write!(f, "  {count:>width$}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}
