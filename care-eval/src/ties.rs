//! Which of two documents with equal scores ranks first.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The order of documents whose scores are equal as `f32`.
///
/// The order in which documents were added matters only under [`InputOrder`](Ties::InputOrder).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ties {
    /// By document id, descending, compared as bytes: `d2` before `d10`. The rule of trec_eval and pytrec_eval.
    #[default]
    TrecEval,
    /// By the order in which the documents were added to the run. The rule of ranx and of any stable sort.
    InputOrder,
    /// Lower grades first: the worst score that a tied run can get.
    Pessimistic,
    /// By document id, ascending, compared as bytes: `d10` before `d2`. The rule of sentence-transformers.
    DocIdAscending,
    /// No order: a value is the exact mean over every order of equal scores.
    ///
    /// # Reference
    /// McSherry and Najork, *Computing information retrieval performance measures efficiently in the presence of tied
    /// scores*, ECIR 2008.
    Expected,
}

impl Ties {
    /// Every rule.
    pub const ALL: &[Self] =
        &[Self::TrecEval, Self::InputOrder, Self::Pessimistic, Self::DocIdAscending, Self::Expected];

    /// The rule's name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrecEval => "trec_eval",
            Self::InputOrder => "input_order",
            Self::Pessimistic => "pessimistic",
            Self::DocIdAscending => "doc_id_ascending",
            Self::Expected => "expected",
        }
    }

    /// Keeps the best `depth` candidates, or all, sorted by score descending and equal scores by this rule.
    pub(crate) fn sort(self, candidates: &mut Vec<Candidate<'_>>, depth: Option<usize>) {
        let compare = |a: &Candidate<'_>, b: &Candidate<'_>| {
            // Not `total_cmp`: 0.0 and -0.0 are tied. A run contains no NaN.
            b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then_with(|| self.break_tie(a, b))
        };
        if let Some(depth) = depth.filter(|depth| (1..candidates.len()).contains(depth)) {
            candidates.select_nth_unstable_by(depth - 1, compare);
            candidates.truncate(depth);
        }
        candidates.sort_unstable_by(compare);
    }

    fn break_tie(self, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
        match self {
            Self::TrecEval => b.doc_id.cmp(a.doc_id),
            Self::InputOrder => a.position.cmp(&b.position),
            Self::Pessimistic => a.grade.cmp(&b.grade).then_with(|| b.doc_id.cmp(a.doc_id)),
            Self::DocIdAscending => a.doc_id.cmp(b.doc_id),
            // Equal scores are averaged, so their order is irrelevant.
            Self::Expected => Ordering::Equal,
        }
    }
}

impl fmt::Display for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Ties {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|ties| ties.name() == name);
        found.ok_or_else(|| Error::setting("ties", "tie rule", name, Self::ALL))
    }
}

/// A retrieved document with everything that a tie rule may depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate<'a> {
    pub(crate) doc_id: &'a str,
    pub(crate) score: f32,
    /// Its position in the input.
    pub(crate) position: usize,
    /// Its grade for the query; 0 if unjudged.
    pub(crate) grade: i32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order(ties: Ties) -> Vec<&'static str> {
        let candidate = |doc_id, score, position, grade| Candidate { doc_id, score, position, grade };
        let mut candidates = vec![
            candidate("d10", 0.0, 0, 2),
            candidate("d2", -0.0, 1, 0),
            candidate("d3", 0.0, 2, -1),
            candidate("first", 1.0, 3, 0),
        ];
        let all = candidates.clone();
        ties.sort(&mut candidates, None);
        for depth in 1..=all.len() {
            let mut first = all.clone();
            ties.sort(&mut first, Some(depth));
            assert_eq!(first, candidates[..depth], "{ties} cut at {depth}");
        }
        candidates.iter().map(|candidate| candidate.doc_id).collect()
    }

    #[test]
    fn each_rule_orders_equal_scores_its_way() {
        assert_eq!(order(Ties::TrecEval), ["first", "d3", "d2", "d10"]);
        assert_eq!(order(Ties::InputOrder), ["first", "d10", "d2", "d3"]);
        assert_eq!(order(Ties::Pessimistic), ["first", "d3", "d2", "d10"]);
        assert_eq!(order(Ties::DocIdAscending), ["first", "d10", "d2", "d3"]);
    }

    #[test]
    fn names_are_the_same_in_serde_and_on_the_command_line() {
        for &ties in Ties::ALL {
            assert_eq!(serde_json::to_value(ties).unwrap(), ties.name());
            assert_eq!(ties.name().parse::<Ties>().unwrap(), ties);
        }
        let error = "random".parse::<Ties>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown tie rule \"random\"; accepted: trec_eval, input_order, pessimistic, doc_id_ascending, expected"
        );
    }
}
