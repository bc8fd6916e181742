//! BM25 and a model, fused.

use std::time::Instant;

use care_core::{Embedder, Result};
use care_data::hybrid::Fusion;
use care_eval::Run;

use crate::baseline;
use crate::protocol::{Outcome, Progress, Protocol, run_of, score_run, search};
use crate::task::RetrievalTask;

/// The best documents of each query, [`Protocol::depth`] at most, by BM25 and a model's vectors together, fused from as many
/// candidates of each.
///
/// The halves are [`bm25`](crate::bm25) and [`rank`](crate::rank): a query's own document is left out before fusing, if the task
/// [ignores identical ids](RetrievalTask::with_ignore_identical_ids). Equal scores are in the order of the corpus. The corpus is
/// read twice. `progress` counts the texts that the model encodes.
///
/// # Errors
/// As [`bm25`](crate::bm25) and [`evaluate`](crate::evaluate).
pub fn hybrid(
    task: &RetrievalTask,
    embedder: &dyn Embedder,
    fusion: &Fusion,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Run> {
    let by_words = baseline::search(task, protocol)?;
    let by_vectors = search(task, embedder, protocol, progress)?;
    let fused = by_words.iter().zip(&by_vectors).map(|(words, vectors)| {
        let hits = fusion.fuse(words, vectors, protocol.depth);
        hits.into_iter().map(|hit| (hit.index, hit.score))
    });
    run_of(task, fused)
}

/// [`hybrid`], scored.
///
/// # Errors
/// As [`hybrid`] and [`score_run`].
pub fn evaluate_hybrid(
    task: &RetrievalTask,
    embedder: &dyn Embedder,
    fusion: &Fusion,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = score_run(task, hybrid(task, embedder, fusion, protocol, progress)?, protocol)?;
    let (embedding_dim, seconds) = (Some(embedder.embedding_dim()), Some(start.elapsed().as_secs_f64()));
    Ok(Outcome { embedding_dim, seconds, ..outcome })
}

#[cfg(test)]
mod tests {
    use care_core::{Document, Query};
    use care_eval::{Qrels, Ties, reciprocal_rank_fusion};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Table;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_hybrid_run_is_the_fusion_of_the_runs_of_its_halves(
            texts in proptest::collection::btree_set("[头痛发热咳嗽]{1,6}", 1..20),
            values in proptest::collection::vec(-3i8..=3, 7..20),
        ) {
            let value = |at: usize| f32::from(values[at % values.len()]);
            let (mut table, mut corpus) = (Table::new(2).query("头痛发热", [1.0, 2.0]), Vec::new());
            for (row, text) in texts.iter().enumerate() {
                table = table.document(text, [value(2 * row), value(2 * row + 1)]);
                corpus.push((format!("d{row:02}"), Document::new(text)));
            }
            let queries = vec![("q".to_owned(), Query::new("头痛发热"))];
            let qrels = Qrels::from_judgements([("q", "d00", 1)]).expect("distinct");
            let task = RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid");
            let protocol = Protocol::default();
            let bm25 = crate::bm25(&task, &protocol).expect("ranked");
            let vectors = crate::rank(&task, &table, &protocol, &mut |_| {}).expect("ranked");
            let fused = |fusion: Fusion| hybrid(&task, &table, &fusion, &protocol, &mut |_| {}).expect("fused");
            // The corpus is in the order of ids.
            let expected = reciprocal_rank_fusion(&[&bm25, &vectors], 60.0, Ties::InputOrder).expect("finite");
            let found = fused(Fusion::reciprocal_rank());
            prop_assert_eq!(found.ranked("q", Ties::DocIdAscending), expected.ranked("q", Ties::DocIdAscending));
            // Every document has a vector, so BM25 adds none.
            let order = |run: &Run| run.ranked("q", Ties::DocIdAscending).iter().map(|hit| hit.0.to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(order(&fused(Fusion::weighted(1.0).expect("valid"))), order(&vectors));
        }
    }

    #[test]
    fn a_query_in_the_corpus_is_left_out_before_fusing() {
        let texts = [("q", "头痛发热"), ("a", "头痛咳嗽"), ("b", "发热")];
        let vectors = [[1.0, 0.0], [0.2, 0.0], [0.6, 0.0]];
        let mut table = Table::new(2).query("头痛发热", [1.0, 0.0]);
        for ((_, text), vector) in texts.iter().zip(vectors) {
            table = table.document(text, vector);
        }
        let corpus = texts.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let qrels = Qrels::from_judgements([("q", "b", 1)]).expect("distinct");
        let task = RetrievalTask::new("t", "test", corpus, vec![("q".to_owned(), Query::new("头痛发热"))], qrels);
        let task = task.expect("valid").with_ignore_identical_ids(true);
        let fusion = Fusion::weighted(0.5).expect("valid");
        let outcome = evaluate_hybrid(&task, &table, &fusion, &Protocol::default(), &mut |_| {}).expect("evaluated");
        // b is the best of the others by both halves, so its normalised scores are 1.
        let run = outcome.run().expect("a ranking");
        assert_eq!(run.get("q").expect("answered").collect::<Vec<_>>(), [("b", 1.0), ("a", 0.0)]);
        assert_eq!((outcome.main_score(), outcome.embedding_dim), (1.0, Some(2)));
    }
}
