//! When the score of a negative is too high.

use care_core::{Error, Result};
use serde::Serialize;

use super::verdict::Verdict;
use crate::against::Against;

/// The rules of one scorer. A negative is suspected if any of them fires; each is off by default.
///
/// # Reference
/// `max_score`, `absolute_margin` and `relative_margin` are those of sentence-transformers' `mine_hard_negatives`: a
/// negative that it removes is one that is suspected here. `relative_margin = 0.05` is NV-Retriever's TopK-PercPos
/// (arXiv 2407.15831).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Fires above this score.
    pub max_score: Option<f64>,
    /// Fires above the positive's score minus this. With 0, above the positive; negative values ask for more than that.
    pub absolute_margin: Option<f64>,
    /// Fires above the positive's score minus this share of its absolute value, which holds for negative scores too.
    pub relative_margin: Option<f64>,
    /// Nothing fires below this score.
    pub min_score: Option<f64>,
    /// Which positive the margins count from.
    pub against: Against,
}

impl Limits {
    /// Sets [`Limits::max_score`].
    #[must_use]
    pub fn with_max_score(self, score: f64) -> Self {
        Self { max_score: Some(score), ..self }
    }

    /// Sets [`Limits::absolute_margin`].
    #[must_use]
    pub fn with_absolute_margin(self, margin: f64) -> Self {
        Self { absolute_margin: Some(margin), ..self }
    }

    /// Sets [`Limits::relative_margin`].
    #[must_use]
    pub fn with_relative_margin(self, margin: f64) -> Self {
        Self { relative_margin: Some(margin), ..self }
    }

    /// Sets [`Limits::min_score`].
    #[must_use]
    pub fn with_min_score(self, score: f64) -> Self {
        Self { min_score: Some(score), ..self }
    }

    /// Sets [`Limits::against`].
    #[must_use]
    pub fn with_against(self, against: Against) -> Self {
        Self { against, ..self }
    }

    /// Names of the rules, in the order of [`Limits::verdict`]'s flags.
    pub(super) const RULES: [&'static str; 3] = ["max-score", "absolute-margin", "relative-margin"];

    /// # Errors
    /// If a number is not finite, or no rule is set.
    pub(super) fn check(&self, scorer: &str) -> Result<()> {
        let numbers = [self.max_score, self.absolute_margin, self.relative_margin, self.min_score];
        for (name, number) in ["max_score", "absolute_margin", "relative_margin", "min_score"].iter().zip(numbers) {
            if let Some(number) = number.filter(|number| !number.is_finite()) {
                return Err(Error::setting(name, format!("{number} for `{scorer}`"), "a finite number"));
            }
        }
        if numbers[..3].iter().all(Option::is_none) {
            let allowed = "at least one of max_score, absolute_margin and relative_margin";
            return Err(Error::setting("scorer", format!("`{scorer}`, without a rule"), allowed));
        }
        Ok(())
    }

    /// The score above which each rule fires, for a row with these positive scores: `Err` if the rule needs a score of a
    /// positive that is missing.
    pub(super) fn bounds(&self, positives: &[Option<f64>]) -> [Option<std::result::Result<f64, ()>>; 3] {
        let reference = self.against.of(positives);
        let below = |margin: Option<f64>, bound: &dyn Fn(f64, f64) -> f64| {
            margin.map(|margin| reference.map(|reference| bound(reference, margin)).ok_or(()))
        };
        [
            self.max_score.map(Ok),
            below(self.absolute_margin, &|reference, margin| reference - margin),
            below(self.relative_margin, &|reference, margin| reference - reference.abs() * margin),
        ]
    }

    /// The verdict about a negative by the bounds of its row, and which rules fired. A score at the bound is clean.
    pub(super) fn verdict(
        &self,
        score: Option<f64>,
        bounds: &[Option<std::result::Result<f64, ()>>; 3],
    ) -> (Verdict, [bool; 3]) {
        let Some(score) = score else { return (Verdict::Unknown, [false; 3]) };
        if self.min_score.is_some_and(|least| score < least) {
            return (Verdict::Clean, [false; 3]);
        }
        let fired = bounds.map(|bound| matches!(bound, Some(Ok(bound)) if score > bound));
        if fired.contains(&true) {
            return (Verdict::FalseNegative, fired);
        }
        let verdict = if bounds.contains(&Some(Err(()))) { Verdict::Unknown } else { Verdict::Clean };
        (verdict, fired)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(limits: Limits, positives: &[Option<f64>], score: Option<f64>) -> Verdict {
        limits.verdict(score, &limits.bounds(positives)).0
    }

    #[test]
    fn each_rule_fires_above_its_bound() {
        use Verdict::{Clean, FalseNegative, Unknown};
        let positives = [Some(0.8), Some(0.6), Some(0.7)];
        let of = |limits: Limits, score| verdict(limits, &positives, Some(score));
        let none = Limits::default();
        assert_eq!([0.5, 0.51].map(|score| of(none.with_max_score(0.5), score)), [Clean, FalseNegative]);
        for (against, bound) in [(Against::Lowest, 0.6), (Against::Mean, 0.7), (Against::Highest, 0.8)] {
            let margin = none.with_absolute_margin(0.1).with_against(against);
            assert_eq!([bound - 0.101, bound - 0.099].map(|score| of(margin, score)), [Clean, FalseNegative]);
            let share = none.with_relative_margin(0.05).with_against(against);
            assert_eq!(
                [bound * 0.95 - 1e-9, bound * 0.95 + 1e-9].map(|score| of(share, score)),
                [Clean, FalseNegative]
            );
        }
        // A floor, and logits below 0.
        assert_eq!(of(none.with_max_score(0.5).with_min_score(0.9), 0.8), Clean);
        let logits = none.with_relative_margin(0.1);
        assert_eq!([-2.2, -2.1].map(|score| verdict(logits, &[Some(-2.0)], Some(score))), [Clean, FalseNegative]);
        // Missing scores.
        assert_eq!(verdict(none.with_max_score(0.5), &positives, None), Unknown);
        let both = none.with_max_score(0.9).with_absolute_margin(0.0);
        let one_missing = [Some(0.5), None];
        assert_eq!([0.8, 0.95].map(|score| verdict(both, &one_missing, Some(score))), [Unknown, FalseNegative]);
        assert_eq!(verdict(none.with_max_score(0.9), &one_missing, Some(0.8)), Clean);
        assert_eq!(verdict(both, &[], Some(0.1)), Unknown);
    }

    #[test]
    fn settings_are_checked() {
        let message = |limits: Limits| limits.check("bm25").expect_err("refused").to_string();
        assert_eq!(
            message(Limits::default().with_min_score(0.5)),
            "`scorer` is `bm25`, without a rule, allowed: at least one of max_score, absolute_margin and relative_margin"
        );
        assert_eq!(
            message(Limits::default().with_max_score(f64::NAN)),
            "`max_score` is NaN for `bm25`, allowed: a finite number"
        );
        for against in Against::ALL {
            assert_eq!(against.to_string().parse::<Against>().expect("a choice"), against);
        }
        assert_eq!(
            "max".parse::<Against>().expect_err("none").to_string(),
            "`against` is `max`, allowed: lowest, mean, highest"
        );
    }

    proptest! {
        #[test]
        fn more_margin_and_a_lower_reference_never_suspect_less(
            positives in prop::collection::vec(-5.0..5.0f64, 1..4),
            score in -5.0..5.0f64, margin in 0.0..2.0f64, more in 0.0..2.0f64,
        ) {
            let positives: Vec<_> = positives.into_iter().map(Some).collect();
            let is_suspect = |limits: Limits| verdict(limits, &positives, Some(score)) == Verdict::FalseNegative;
            for against in Against::ALL {
                let of = Limits::default().with_against(against);
                prop_assert!(is_suspect(of.with_absolute_margin(margin + more)) || !is_suspect(of.with_absolute_margin(margin)));
                prop_assert!(is_suspect(of.with_relative_margin(margin + more)) || !is_suspect(of.with_relative_margin(margin)));
                let both = of.with_absolute_margin(margin).with_relative_margin(more);
                prop_assert_eq!(
                    is_suspect(both),
                    is_suspect(of.with_absolute_margin(margin)) || is_suspect(of.with_relative_margin(more))
                );
            }
            let [lowest, mean, highest] = Against::ALL.map(|against| is_suspect(Limits::default().with_absolute_margin(margin).with_against(against)));
            prop_assert!((lowest || !mean) && (mean || !highest));
        }

        #[test]
        fn shifted_scores_have_the_same_verdicts_by_absolute_margin_and_scaled_ones_by_relative(
            positive in -5.0..5.0f64, score in -5.0..5.0f64, margin in -1.0..1.0f64, by in 1.0..9.0f64,
        ) {
            let absolute = Limits::default().with_absolute_margin(margin);
            // Away from the bound, where rounding decides.
            prop_assume!((score - positive + margin).abs() > 1e-9);
            prop_assert_eq!(
                verdict(absolute, &[Some(positive)], Some(score)),
                verdict(absolute, &[Some(positive + by)], Some(score + by))
            );
            let relative = Limits::default().with_relative_margin(margin);
            prop_assume!((score - positive + positive.abs() * margin).abs() > 1e-9);
            prop_assert_eq!(
                verdict(relative, &[Some(positive)], Some(score)),
                verdict(relative, &[Some(positive * by)], Some(score * by))
            );
        }
    }
}
