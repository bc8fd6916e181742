//! Settings of intervals.

use crate::error::{Error, ErrorKind, Result};

/// Level of all intervals, and the bootstrap's number of resamples and seed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct IntervalOptions {
    /// Confidence level, above 0 and below 1. Default 0.95.
    pub level: f64,
    /// Bootstrap resamples; 0 leaves the bootstrap out. Default 1000.
    pub resamples: usize,
    /// Seed of the bootstrap. Results depend on it alone, not on the number of threads. Default 42.
    pub seed: u64,
}

impl Default for IntervalOptions {
    fn default() -> Self {
        Self { level: 0.95, resamples: 1000, seed: 42 }
    }
}

impl IntervalOptions {
    /// Sets [`level`](Self::level).
    pub fn with_level(self, level: f64) -> Self {
        Self { level, ..self }
    }

    /// Sets [`resamples`](Self::resamples).
    pub fn with_resamples(self, resamples: usize) -> Self {
        Self { resamples, ..self }
    }

    /// Sets [`seed`](Self::seed).
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.level > 0.0 && self.level < 1.0 {
            return Ok(());
        }
        let message = format!("`level` is {}, allowed: above 0 and below 1", self.level);
        Err(Error::new(ErrorKind::Setting, message).of("level"))
    }
}
