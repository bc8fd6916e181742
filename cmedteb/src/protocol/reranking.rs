//! Reranking: each query ranks its own candidates.

use care_core::Result;
use care_eval::{Run, Ties};

use super::encode::Encoding;
use super::outcome::Outcome;
use crate::error::from_eval;
use crate::task::{RERANKING_MEASURES, RerankingTask};

pub(super) fn evaluate(task: &RerankingTask, ties: Ties, mut encoding: Encoding<'_>) -> Result<Outcome> {
    let queries = encoding.queries(task.queries())?;
    let documents = encoding.documents(task.documents())?;
    let mut run = Run::new();
    for (row, list) in task.lists().iter().enumerate() {
        for (doc_id, place) in &list.candidates {
            run.insert(&list.query_id, doc_id, queries.dot(row, &documents, *place)).map_err(from_eval)?;
        }
    }
    Outcome::of_run(&RERANKING_MEASURES, task.main_score(), task.qrels(), run, ties)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use crate::protocol::{Protocol, evaluate};
    use crate::task::{RerankingTask, Task};
    use crate::testing::{Table, row};

    #[test]
    fn scores_are_those_worked_out_by_hand() {
        let table = Table::new(1)
            .query("q", [1.0])
            .query("p", [-1.0])
            .document("high", [0.9])
            .document("middle", [0.5])
            .document("low", [0.1]);
        // The positive comes second; the positives come first and third.
        let rows = vec![row("q", &["middle"], &["high", "low"]), row("p", &["high", "low"], &["middle"])];
        let task = Task::Reranking(RerankingTask::new("t", "test", rows).expect("valid"));
        let mut last = None;
        let outcome =
            evaluate(&task, &table, &Protocol::default(), &mut |progress| last = Some(progress)).expect("evaluated");

        let map = (0.5 + (1.0 + 2.0 / 3.0) / 2.0) / 2.0;
        assert_abs_diff_eq!(outcome.main_score(), map, epsilon = 1e-12);
        assert_abs_diff_eq!(outcome.score("map_at_10").expect("asked for"), map, epsilon = 1e-12);
        assert_abs_diff_eq!(outcome.score("mrr_at_10").expect("asked for"), 0.75, epsilon = 1e-12);
        let second = (1.0 + 0.5) / (1.0 + 1.0 / 3f64.log2());
        assert_abs_diff_eq!(
            outcome.score("ndcg_at_10").expect("asked for"),
            (1.0 / 3f64.log2() + second) / 2.0,
            epsilon = 1e-12
        );
        // Six candidates are three texts.
        assert_eq!(last.map(|progress| (progress.encoded, progress.total)), Some((5, 5)));
    }

    #[test]
    fn equal_scores_put_negatives_first() {
        let table = Table::new(1).query("q", [1.0]).document("a", [1.0]).document("b", [1.0]).document("c", [1.0]);
        let rows = vec![row("q", &["a"], &["b", "c"])];
        let task = Task::Reranking(RerankingTask::new("t", "test", rows).expect("valid"));
        let outcome = evaluate(&task, &table, &Protocol::default(), &mut |_| {}).expect("evaluated");
        assert_abs_diff_eq!(outcome.main_score(), 1.0 / 3.0, epsilon = 1e-12);
    }
}
