//! Combining several runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::run::Run;
use crate::ties::Ties;

/// Reciprocal rank fusion: a document scores the sum of `1 / (k + rank)` over the runs that retrieved it for the query.
///
/// Ranks count from 1; the usual `k` is 60. Equal scores within a run are ordered by `ties`. There are no grades here, so
/// [`Pessimistic`](Ties::Pessimistic) and [`Expected`](Ties::Expected) act as [`TrecEval`](Ties::TrecEval). The
/// documents of the result are in the order of their fused scores, equal ones by id.
///
/// ```
/// use care_eval::{Run, Ties, reciprocal_rank_fusion};
/// let dense = Run::from_scores([("q", "a", 0.9), ("q", "b", 0.8)])?;
/// let sparse = Run::from_scores([("q", "b", 12.0), ("q", "c", 7.0)])?;
/// let fused = reciprocal_rank_fusion(&[&dense, &sparse], 60.0, Ties::TrecEval)?;
/// assert_eq!(fused.score("q", "b"), Some((1.0 / 62.0 + 1.0 / 61.0) as f32));
/// # Ok::<(), care_eval::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Score`](crate::ErrorKind::Score) if `k` makes a score NaN.
///
/// # Reference
/// Cormack, Clarke and Buettcher, *Reciprocal rank fusion outperforms Condorcet and individual rank learning methods*,
/// SIGIR 2009.
pub fn reciprocal_rank_fusion(runs: &[&Run], k: f64, ties: Ties) -> Result<Run> {
    let ties = if ties == Ties::Expected { Ties::TrecEval } else { ties };
    let query_ids: BTreeSet<&str> = runs.iter().flat_map(|run| run.query_ids()).collect();
    let mut fused = Run::new();
    for query_id in query_ids {
        fused.insert_query(query_id);
        let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
        for run in runs {
            for ((doc_id, _), rank) in run.ranked(query_id, ties).into_iter().zip(1..) {
                *scores.entry(doc_id).or_default() += 1.0 / (k + f64::from(rank));
            }
        }
        let mut scores: Vec<_> = scores.into_iter().collect();
        scores.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (doc_id, score) in scores {
            fused.insert(query_id, doc_id, score as f32)?;
        }
    }
    Ok(fused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranks_and_not_scores_count_and_each_run_keeps_its_queries() {
        let one = Run::from_scores([("q", "a", 100.0), ("q", "b", 1.0), ("only one", "x", 0.1)]).unwrap();
        let two = Run::from_scores([("q", "b", 0.2), ("q", "c", 0.1), ("q", "a", 0.0)]).unwrap();
        let fused = reciprocal_rank_fusion(&[&one, &two], 60.0, Ties::TrecEval).unwrap();
        let of = |query_id| fused.get(query_id).unwrap().collect::<Vec<_>>();
        let score = |ranks: &[f64]| ranks.iter().map(|rank| 1.0 / (60.0 + rank)).sum::<f64>() as f32;
        assert_eq!(of("q"), [("b", score(&[2.0, 1.0])), ("a", score(&[1.0, 3.0])), ("c", score(&[2.0]))]);
        assert_eq!(of("only one"), [("x", score(&[1.0]))]);
    }

    #[test]
    fn ties_are_ranked_by_their_rule() {
        let tied = Run::from_scores([("q", "b", 1.0), ("q", "c", 1.0), ("q", "a", 1.0)]).unwrap();
        let first = |ties| {
            let fused = reciprocal_rank_fusion(&[&tied], 60.0, ties).unwrap();
            fused.get("q").unwrap().next().unwrap().0.to_owned()
        };
        assert_eq!(first(Ties::InputOrder), "b");
        assert_eq!(first(Ties::DocIdAscending), "a");
        for ties in [Ties::TrecEval, Ties::Expected, Ties::Pessimistic] {
            assert_eq!(first(ties), "c");
        }
    }
}
