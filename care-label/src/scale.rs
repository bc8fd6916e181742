//! The points that a judge may give.

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Consecutive integer points, and the least one that makes a pair positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Lowest point.
    pub min: i32,
    /// Highest point, above `min` by 1 to 100.
    pub max: i32,
    /// A pair is positive from this point on: above `min`, up to `max`.
    pub threshold: i32,
}

impl Scale {
    /// A scale.
    ///
    /// # Errors
    /// If a number is out of its range.
    pub fn new(min: i32, max: i32, threshold: i32) -> Result<Self> {
        let scale = Self { min, max, threshold };
        scale.check()?;
        Ok(scale)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self { min, max, threshold } = *self;
        if !(1..=100).contains(&(i64::from(max) - i64::from(min))) {
            return Err(Error::setting(
                "scale.max",
                max,
                &format!("{} to {}", i64::from(min) + 1, i64::from(min) + 100),
            ));
        }
        if threshold <= min || threshold > max {
            return Err(Error::setting("scale.threshold", threshold, &format!("{} to {max}", i64::from(min) + 1)));
        }
        Ok(())
    }

    /// All points, lowest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = i32> + use<> {
        self.min..=self.max
    }

    /// Whether the scale has this point.
    pub fn contains(&self, point: i32) -> bool {
        (self.min..=self.max).contains(&point)
    }

    /// Whether a pair with this score is positive.
    pub fn is_positive(&self, score: i32) -> bool {
        score >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_two_points_at_least_and_its_threshold_parts_them() {
        let five = Scale::new(1, 5, 4).expect("five points");
        assert_eq!(five.points().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(five.is_positive(4) && !five.is_positive(3) && five.contains(1) && !five.contains(0));
        let message = |min, max, threshold| Scale::new(min, max, threshold).expect_err("refused").to_string();
        assert_eq!(message(1, 1, 1), "`scale.max` is 1, allowed: 2 to 101");
        assert_eq!(message(1, 5, 1), "`scale.threshold` is 1, allowed: 2 to 5");
        assert_eq!(message(1, 5, 6), "`scale.threshold` is 6, allowed: 2 to 5");
        assert!(Scale::new(i32::MIN, i32::MAX, 0).is_err());
    }
}
