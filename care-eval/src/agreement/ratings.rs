//! A table of units and raters.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};

/// Ratings of units (rows) by raters (columns), any of which may be missing.
///
/// A rating is a finite number, and a category is a value: 0, 1 and 3 are three categories, and 3 is two away from 1. A
/// missing rating is no category. Equal rows are stored once with their count, so memory depends on the number of
/// *different* rows, and so do the times of all coefficients and resamples.
///
/// ```
/// use care_eval::agreement::{Coefficient, IntervalOptions, Ratings, Weights};
///
/// let mut ratings = Ratings::new(3);
/// ratings.push(&[Some(2.0), Some(2.0), Some(2.0)])?;
/// ratings.push(&[Some(0.0), Some(1.0), None])?;
/// ratings.push(&[Some(0.0), Some(0.0), Some(0.0)])?;
/// ratings.push(&[None, Some(1.0), Some(1.0)])?;
///
/// let kappa = Coefficient::Fleiss(Weights::Identity).estimate(&ratings, &IntervalOptions::default())?;
/// assert!((kappa.value - 13.0 / 21.0).abs() < 1e-12);
/// assert_eq!((kappa.units, kappa.raters), (4, 3));
/// # Ok::<(), care_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    raters: usize,
    patterns: BTreeMap<Box<[Option<Value>]>, u64>,
    declared: Option<BTreeSet<Value>>,
    /// The row that is being added.
    row: Vec<Option<Value>>,
}

impl Ratings {
    /// An empty table for a number of raters.
    pub fn new(raters: usize) -> Self {
        Self { raters, patterns: BTreeMap::new(), declared: None, row: Vec::with_capacity(raters) }
    }

    /// A table of rows, each with one entry per rater; the first row sets the number of raters.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn from_rows<R: AsRef<[Option<f64>]>>(rows: impl IntoIterator<Item = R>) -> Result<Self> {
        let mut rows = rows.into_iter().peekable();
        let mut ratings = Self::new(rows.peek().map_or(0, |row| row.as_ref().len()));
        rows.try_for_each(|row| ratings.push(row.as_ref()))?;
        Ok(ratings)
    }

    /// Adds a unit: one rating per rater, `None` where it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`] if the row has another number of raters, or if a rating is not finite or is outside the
    /// declared categories.
    pub fn push(&mut self, row: &[Option<f64>]) -> Result<()> {
        if row.len() != self.raters {
            let unit = self.units();
            return Err(refused(format!("unit {unit} has {} raters, the table has {}", row.len(), self.raters)));
        }
        self.row.clear();
        for (rater, rating) in row.iter().enumerate() {
            match self.entry(*rating) {
                Ok(entry) => self.row.push(entry),
                Err(problem) => return Err(refused(format!("unit {}, rater {rater}: {problem}", self.units()))),
            }
        }
        if let Some(count) = self.patterns.get_mut(self.row.as_slice()) {
            *count += 1;
        } else {
            self.patterns.insert(self.row.as_slice().into(), 1);
        }
        Ok(())
    }

    /// Declares the possible categories. Without it, they are the values that occur.
    ///
    /// The coefficients of Gwet and of Brennan and Prediger depend on the number of categories, and weighted agreement on
    /// their range, so a category that happens not to occur must be declared. Kappa and alpha do not depend on it.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`] if a category is not finite, or if a rating is outside the categories.
    pub fn with_categories(mut self, categories: impl IntoIterator<Item = f64>) -> Result<Self> {
        let declared = categories.into_iter().map(Value::new).collect::<std::result::Result<BTreeSet<_>, _>>();
        let declared = declared.map_err(|problem| refused(format!("category {problem}")))?;
        if let Some(value) = self.values().find(|value| !declared.contains(value)) {
            return Err(refused(format!("the rating {} is not a declared category", value.0)));
        }
        self.declared = Some(declared);
        Ok(self)
    }

    /// The table of some raters, in the given order, with the same declared categories. Units that none of them has rated
    /// stay, without a rating.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`] if there is no such rater.
    pub fn select(&self, raters: &[usize]) -> Result<Self> {
        if let Some(rater) = raters.iter().find(|rater| **rater >= self.raters) {
            return Err(refused(format!("there is no rater {rater}, the table has {} (from 0)", self.raters)));
        }
        let mut selected = Self { declared: self.declared.clone(), ..Self::new(raters.len()) };
        for (row, count) in &self.patterns {
            let row = raters.iter().map(|rater| row[*rater]).collect();
            *selected.patterns.entry(row).or_insert(0) += count;
        }
        Ok(selected)
    }

    /// The number of raters.
    pub fn raters(&self) -> usize {
        self.raters
    }

    /// The number of units, those without a rating included.
    pub fn units(&self) -> u64 {
        self.patterns.values().sum()
    }

    /// The declared categories, or the values that occur, ascending.
    pub fn categories(&self) -> Vec<f64> {
        match &self.declared {
            Some(declared) => declared.iter().map(|value| value.0).collect(),
            None => self.values().collect::<BTreeSet<_>>().into_iter().map(|value| value.0).collect(),
        }
    }

    /// The different rows with the number of their units, in a fixed order that does not depend on the order of units.
    pub fn patterns(&self) -> impl Iterator<Item = (Vec<Option<f64>>, u64)> {
        let plain = |row: &[Option<Value>]| row.iter().map(|rating| rating.map(|value| value.0)).collect();
        self.patterns.iter().map(move |(row, count)| (plain(row), *count))
    }

    fn entry(&self, rating: Option<f64>) -> std::result::Result<Option<Value>, String> {
        let value = rating.map(Value::new).transpose()?;
        match (value, &self.declared) {
            (Some(value), Some(declared)) if !declared.contains(&value) => {
                Err(format!("{} is not a declared category", value.0))
            }
            _ => Ok(value),
        }
    }

    fn values(&self) -> impl Iterator<Item = Value> {
        self.patterns.keys().flat_map(|row| row.iter().copied().flatten())
    }

    /// The ratings as indices of [`categories`](Self::categories), and the categories.
    pub(super) fn indexed(&self) -> (Vec<f64>, Vec<(IndexedRow, u64)>) {
        let categories = self.categories();
        // Every rating is a category.
        let index = |value: Value| categories.partition_point(|category| *category < value.0);
        let row = |row: &[Option<Value>]| row.iter().map(|rating| rating.map(index)).collect();
        let rows = self.patterns.iter().map(|(pattern, count)| (row(pattern), *count)).collect();
        (categories, rows)
    }
}

/// One entry per rater: the index of the category, `None` where the rating is missing.
pub(super) type IndexedRow = Vec<Option<usize>>;

/// A finite number, never -0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value(pub(super) f64);

impl Value {
    pub(super) fn new(value: f64) -> std::result::Result<Self, String> {
        if value.is_finite() { Ok(Self(value + 0.0)) } else { Err(format!("{value} is not a finite number")) }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Rating, message)
}
