//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate decays after warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Linearly to 0.
    #[default]
    Linear,
    /// Along half a cosine to 0.
    Cosine,
    /// No decay.
    Constant,
}

impl Schedule {
    /// The fraction of the peak learning rate at a step, counted from 0.
    ///
    /// It rises from `1 / warmup` to 1 over the first `warmup` steps, so no step is wasted at 0, and then decays so
    /// that it would reach 0 at step `total`.
    pub(crate) fn factor(self, step: usize, warmup: usize, total: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_falls_as_documented() {
        let factors = |schedule: Schedule| (0..6).map(|step| schedule.factor(step, 2, 6)).collect::<Vec<_>>();
        assert_eq!(factors(Schedule::Linear), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(factors(Schedule::Constant), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert!((factors(Schedule::Cosine)[4] - 0.5).abs() < 1e-12);
        assert_eq!(Schedule::Linear.factor(0, 0, 1), 1.0);
    }
}
