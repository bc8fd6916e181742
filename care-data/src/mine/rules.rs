//! The rules by which hard negatives are chosen.

use care_core::{Error, Result};
use serde::Serialize;

use crate::against::Against;
use crate::near::NearDuplicates;

/// Which results of a ranking are negatives of its query, and how many are taken.
///
/// Never a negative, whatever the rules: the query's own text, its positives, documents known as positives of the same
/// query text in other rows, near-duplicates of all of these positives, and a text that is a negative already. Texts are
/// compared after [`normalise`](crate::normalise).
///
/// Rules of scores hold for the score of the [scoring source](crate::mine::Plan); `pos` is the positives' score, of
/// several as [`Rules::against`] says. Scores are compared in f64. A candidate or a positive without a score fails
/// every rule that needs one.
///
/// ```
/// use care_data::mine::Rules;
///
/// let rules = Rules::default().with(|rules| rules.absolute_margin = Some(0.05));
/// assert_eq!((rules.ranks.skip, rules.ranks.through, rules.negatives), (10, 210, 15));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rules {
    /// The ranks from which negatives are taken.
    pub ranks: Ranks,
    /// What a rank counts.
    pub count: RankCount,
    /// Results that are looked at, at least `ranks.through`; by default that many and, if ranks count what no other rule
    /// drops, one more per positive.
    pub depth: Option<usize>,
    /// Highest score of a negative.
    pub max_score: Option<f64>,
    /// Lowest score of a negative.
    pub min_score: Option<f64>,
    /// A negative's score is at most `pos - absolute_margin`; >= 0.
    pub absolute_margin: Option<f64>,
    /// A negative's score is at most `pos - relative_margin * |pos|`, which is below `pos` for a negative score too;
    /// 0 to 1.
    pub relative_margin: Option<f64>,
    /// Which of several positives the margins are measured against.
    pub against: Against,
    /// Negatives per query, >= 1.
    pub negatives: usize,
    /// Which of the candidates that are left are taken.
    pub sample: Sample,
    /// What happens to a query that gets fewer.
    pub short: Short,
    /// Near-duplicates of positives, which are no negatives; `None`: only equal texts are not.
    #[serde(skip)]
    pub near: Option<NearDuplicates>,
}

/// A range of ranks, as in `10-210`: the best `skip` results are passed over, and results up to and with rank `through`,
/// counted from 1, are candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ranks {
    /// Number of best results that are passed over.
    pub skip: usize,
    /// The last rank, > `skip`.
    pub through: usize,
}

/// What the ranks of [`Rules::ranks`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankCount {
    /// Every result, positives included: a rank is the place that a search shows, and no other rule moves the range.
    ///
    /// # Reference
    /// FlagEmbedding's `range_for_sampling`.
    #[default]
    Results,
    /// Results that no other rule drops.
    ///
    /// # Reference
    /// `range_min` and `range_max` of sentence-transformers' `mine_hard_negatives`.
    Allowed,
}

/// How negatives are taken from the candidates that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sample {
    /// The best ranked.
    #[default]
    Top,
    /// At random, without replacement.
    ///
    /// A draw follows from the seed, the query's text and the document's text alone: the candidates with the lowest
    /// priorities are taken. So it depends neither on the order of rows and documents nor on threads or groups, and a
    /// row or document that is added changes no other draw.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// What happens to a query with fewer negatives than [`Rules::negatives`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Short {
    /// It keeps what there is, be it nothing.
    #[default]
    Keep,
    /// It is left out.
    Drop,
    /// It gets random documents of the corpus, which ranks and scores do not bind. What is never a negative is none
    /// here either.
    Fill {
        /// The seed of the documents that are drawn.
        seed: u64,
    },
}

/// Why a result of a search is no negative. The first that holds is counted, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It is outside of the ranks. If ranks count only what is allowed, this is the last reason.
    Ranks,
    /// It is a positive of the query, or has the text of one.
    Positive,
    /// It is a positive of the same query text in another row.
    KnownPositive,
    /// It has the text of the query.
    OwnText,
    /// It is a near-duplicate of a positive.
    NearDuplicate,
    /// A rule needs a score that it, or the positive, does not have.
    NoScore,
    /// Its score is above `max_score`.
    MaxScore,
    /// It is nearer to the positive's score than `absolute_margin`, or above it.
    AbsoluteMargin,
    /// It is nearer to the positive's score than `relative_margin`, or above it.
    RelativeMargin,
    /// Its score is below `min_score`.
    MinScore,
    /// A better ranked candidate has its text.
    Repeated,
}

impl Reason {
    /// Every reason, in the order in which they are tried.
    pub const ALL: [Reason; 11] = [
        Reason::Ranks,
        Reason::Positive,
        Reason::KnownPositive,
        Reason::OwnText,
        Reason::NearDuplicate,
        Reason::NoScore,
        Reason::MaxScore,
        Reason::AbsoluteMargin,
        Reason::RelativeMargin,
        Reason::MinScore,
        Reason::Repeated,
    ];
}

impl Default for Rules {
    /// Ranks 10-210 of all results, 15 negatives, the best ranked, no rule of scores, near-duplicates of positives
    /// excluded.
    ///
    /// # Reference
    /// Ranks and number are those of FlagEmbedding's `hn_mine.py`.
    fn default() -> Self {
        Self {
            ranks: Ranks { skip: 10, through: 210 },
            count: RankCount::default(),
            depth: None,
            max_score: None,
            min_score: None,
            absolute_margin: None,
            relative_margin: None,
            against: Against::default(),
            negatives: 15,
            sample: Sample::default(),
            short: Short::default(),
            near: Some(NearDuplicates::default()),
        }
    }
}

impl Rules {
    /// TopK-PercPos of NV-Retriever: the 10 best results of the first 100 whose score is at most 95 % of the positive's.
    ///
    /// # Reference
    /// Moreira et al., *NV-Retriever: Improving text embedding models with effective hard-negative mining*, 2024.
    pub fn nv_retriever() -> Self {
        Self { ranks: Ranks { skip: 0, through: 100 }, relative_margin: Some(0.05), negatives: 10, ..Self::default() }
    }

    /// These rules after a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Checks that the rules are in their ranges and leave room for negatives.
    ///
    /// # Errors
    /// The rule, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        let Ranks { skip, through } = self.ranks;
        let range = format!("{skip}-{through}");
        if through <= skip {
            return Err(Error::setting("ranks", range, "FROM-TO with FROM below TO, e.g. 10-210"));
        }
        if self.negatives == 0 {
            return Err(Error::setting("negatives", 0, "at least 1"));
        }
        if self.negatives > through - skip {
            let allowed = format!("a range of at least {} ranks, the number of negatives", self.negatives);
            return Err(Error::setting("ranks", range, &allowed));
        }
        if let Some(depth) = self.depth.filter(|depth| *depth < through) {
            return Err(Error::setting("depth", depth, &format!("at least {through}, the last of the ranks")));
        }
        let not_finite = [("max_score", self.max_score), ("min_score", self.min_score)];
        if let Some((name, value)) = not_finite.into_iter().find(|(_, value)| value.is_some_and(|v| !v.is_finite())) {
            return Err(Error::setting(name, value.unwrap_or(f64::NAN), "a finite number"));
        }
        if let (Some(max), Some(min)) = (self.max_score, self.min_score)
            && min > max
        {
            return Err(Error::setting("min_score", min, &format!("at most max_score, {max}")));
        }
        if let Some(margin) = self.absolute_margin.filter(|margin| !(margin.is_finite() && *margin >= 0.0)) {
            return Err(Error::setting("absolute_margin", margin, "at least 0"));
        }
        if let Some(margin) = self.relative_margin.filter(|margin| !(0.0..=1.0).contains(margin)) {
            return Err(Error::setting("relative_margin", margin, "0 to 1"));
        }
        Ok(())
    }

    /// Number of results that are looked at, for a query with this many known positives.
    pub(super) fn depth_for(&self, positives: usize) -> usize {
        let more = if self.count == RankCount::Allowed { positives } else { 0 };
        self.depth.unwrap_or(self.ranks.through + more)
    }

    /// The bounds of a query's candidates, given the scores of its positives.
    pub(super) fn bounds(&self, positives: &[Option<f32>]) -> Bounds {
        Bounds { rules: self.clone(), positive: self.against.of(positives) }
    }
}

/// The rules of scores for one query.
pub(super) struct Bounds {
    rules: Rules,
    positive: Option<f64>,
}

impl Bounds {
    /// Why a score is that of no negative.
    pub(super) fn refuse(&self, score: Option<f32>) -> Option<Reason> {
        let Rules { max_score, min_score, absolute_margin, relative_margin, .. } = self.rules;
        let needs_positive = absolute_margin.is_some() || relative_margin.is_some();
        if !needs_positive && max_score.is_none() && min_score.is_none() {
            return None;
        }
        let (Some(score), false) = (score.map(f64::from), needs_positive && self.positive.is_none()) else {
            return Some(Reason::NoScore);
        };
        // Not used without a margin.
        let positive = self.positive.unwrap_or(f64::INFINITY);
        let above = |bound: Option<f64>| bound.is_some_and(|bound| score > bound);
        if above(max_score) {
            Some(Reason::MaxScore)
        } else if above(absolute_margin.map(|margin| positive - margin)) {
            Some(Reason::AbsoluteMargin)
        } else if above(relative_margin.map(|margin| positive - positive.abs() * margin)) {
            Some(Reason::RelativeMargin)
        } else if min_score.is_some_and(|least| score < least) {
            Some(Reason::MinScore)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_out_of_range_are_refused() {
        let refusal = |change: fn(&mut Rules)| Rules::default().with(change).check().expect_err("bad").to_string();
        for (change, message) in [
            (
                (|rules| rules.ranks = Ranks { skip: 5, through: 5 }) as fn(&mut Rules),
                "`ranks` is 5-5, allowed: FROM-TO with FROM below TO, e.g. 10-210",
            ),
            (|rules| rules.negatives = 0, "`negatives` is 0, allowed: at least 1"),
            (
                |rules| rules.negatives = 201,
                "`ranks` is 10-210, allowed: a range of at least 201 ranks, the number of negatives",
            ),
            (|rules| rules.depth = Some(209), "`depth` is 209, allowed: at least 210, the last of the ranks"),
            (|rules| rules.max_score = Some(f64::NAN), "`max_score` is NaN, allowed: a finite number"),
            (
                |rules| (rules.min_score, rules.max_score) = (Some(0.5), Some(0.4)),
                "`min_score` is 0.5, allowed: at most max_score, 0.4",
            ),
            (|rules| rules.absolute_margin = Some(-0.1), "`absolute_margin` is -0.1, allowed: at least 0"),
            (|rules| rules.relative_margin = Some(1.5), "`relative_margin` is 1.5, allowed: 0 to 1"),
        ] {
            assert_eq!(refusal(change), message);
        }
        Rules::default().check().expect("in range");
        Rules::nv_retriever().check().expect("in range");
    }

    #[test]
    fn a_relative_margin_is_below_a_negative_score_too() {
        let rules = Rules::default().with(|rules| rules.relative_margin = Some(0.1));
        let refuse = |positive: f32, score: f32| rules.bounds(&[Some(positive)]).refuse(Some(score));
        assert_eq!(refuse(0.5, 0.44), None);
        assert_eq!(refuse(0.5, 0.46), Some(Reason::RelativeMargin));
        // With `positive * (1 - margin)` a negative above the positive would pass.
        assert_eq!(refuse(-0.5, -0.46), Some(Reason::RelativeMargin));
        assert_eq!(refuse(-0.5, -0.54), Some(Reason::RelativeMargin));
        assert_eq!(refuse(-0.5, -0.56), None);
    }

    #[test]
    fn several_positives_are_compared_as_asked() {
        let scores = [Some(0.5), Some(0.75), Some(0.25)];
        assert_eq!(Against::Lowest.of(&scores), Some(0.25));
        assert_eq!(Against::Highest.of(&scores), Some(0.75));
        assert_eq!(Against::Mean.of(&scores), Some(0.5));
        for against in Against::ALL {
            assert_eq!(against.of::<f32>(&[]), None);
            assert_eq!(against.of(&[Some(1.0), None]), None);
        }
    }

    #[test]
    fn the_first_rule_that_holds_is_the_reason_and_every_bound_is_allowed() {
        let rules = Rules::default().with(|rules| {
            (rules.max_score, rules.min_score) = (Some(0.75), Some(0.125));
            (rules.absolute_margin, rules.relative_margin) = (Some(0.25), Some(0.5));
        });
        let refuse = |positive: f32, score| rules.bounds(&[Some(positive)]).refuse(score);
        assert_eq!(refuse(2.0, Some(0.8)), Some(Reason::MaxScore));
        assert_eq!(refuse(2.0, Some(0.75)), None);
        assert_eq!(refuse(0.5, Some(0.3)), Some(Reason::AbsoluteMargin));
        assert_eq!(refuse(0.5, Some(0.25)), None);
        assert_eq!(refuse(1.0, Some(0.6)), Some(Reason::RelativeMargin));
        assert_eq!(refuse(1.0, Some(0.5)), None);
        assert_eq!(refuse(1.0, Some(0.12)), Some(Reason::MinScore));
        assert_eq!(refuse(1.0, Some(0.125)), None);
        assert_eq!(refuse(1.0, None), Some(Reason::NoScore));
        assert_eq!(rules.bounds(&[None]).refuse(Some(0.2)), Some(Reason::NoScore));
        // Without rules of scores none is needed, and without margins no positive's.
        assert_eq!(Rules::default().bounds(&[None]).refuse(None), None);
        let capped = Rules::default().with(|rules| rules.max_score = Some(0.5));
        assert_eq!(capped.bounds(&[None]).refuse(Some(0.5)), None);
    }
}
