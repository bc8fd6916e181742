//! Retrieval: each query ranks the whole corpus, by exact search.

use care_core::Result;
use care_core::index::{FlatIndex, Hit};
use care_core::{Embeddings, Error};
use care_eval::Run;

use super::encode::{Encoding, GROUP};
use super::outcome::Outcome;
use super::settings::Protocol;
use crate::error::from_eval;
use crate::task::{RETRIEVAL_MEASURES, RetrievalTask};

/// The deepest cut-off of the measures, and so the least depth of a ranking.
const DEEPEST: usize = 100;

/// Number of documents whose vectors are held at a time: a multiple of the index's own blocks, so that a score does not
/// depend on it.
const BLOCK: usize = 16 * GROUP;

/// Scores an existing run, e.g. that of [`bm25`](crate::bm25).
///
/// Every judged query counts; one that the run does not answer scores 0. If the task
/// [ignores identical ids](RetrievalTask::with_ignore_identical_ids), they are removed from the run.
///
/// # Errors
/// If there are no judgements, which a [`RetrievalTask`] rules out.
pub fn score_run(task: &RetrievalTask, run: Run, protocol: &Protocol) -> Result<Outcome> {
    let run = if task.ignores_identical_ids() { run.without_identical_ids() } else { run };
    Outcome::of_run(&RETRIEVAL_MEASURES, task.main_score(), task.qrels(), run, protocol.ties)
}

/// The best documents of each query by dot product, by their places in the corpus.
///
/// The corpus is searched block by block, so that memory is for the vectors of a block and `depth` hits a query.
pub(super) fn search(task: &RetrievalTask, protocol: &Protocol, mut encoding: Encoding<'_>) -> Result<Vec<Vec<Hit>>> {
    let depth = depth(task, protocol)?;
    let queries = encoding.queries(task.queries())?;
    let dim = encoding.dim();
    let block = || FlatIndex::with_capacity(dim, BLOCK.min(task.corpus().len()), protocol.index);
    let (mut index, mut first) = (block(), 0);
    let mut found = vec![Vec::new(); queries.len()];
    task.corpus().visit(GROUP, &mut |documents| {
        index.add(&encoding.document_group(first + index.len(), documents)?)?;
        if index.len() >= BLOCK {
            merge(&mut found, &index, first, &queries, depth)?;
            first += index.len();
            index = block();
        }
        Ok(())
    })?;
    merge(&mut found, &index, first, &queries, depth)?;
    Ok(ranked(task, protocol, found))
}

/// Adds the hits of a block, of which the first document has the row `first`, to those of all blocks before it.
fn merge(found: &mut [Vec<Hit>], block: &FlatIndex, first: usize, queries: &Embeddings, depth: usize) -> Result<()> {
    for (hits, more) in found.iter_mut().zip(block.search(queries, depth)?) {
        hits.extend(more.into_iter().map(|hit| Hit { index: first + hit.index, ..hit }));
        // Stable, and rows of earlier blocks are lower: equal scores stay in the order of the corpus.
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.truncate(depth);
    }
    Ok(())
}

/// Number of documents to retrieve for a query, so that [`Protocol::depth`] are left for its ranking.
///
/// # Errors
/// If a measure looks deeper.
pub(crate) fn depth(task: &RetrievalTask, protocol: &Protocol) -> Result<usize> {
    if protocol.depth < DEEPEST {
        let allowed = format!("at least {DEEPEST}, the deepest cut-off of the measures");
        return Err(Error::setting("depth", protocol.depth, &allowed));
    }
    Ok(protocol.depth.saturating_add(usize::from(task.ignores_identical_ids())))
}

/// Leaves out of the hits of each query what the task does not rank, and what is below [`Protocol::depth`].
pub(crate) fn ranked(task: &RetrievalTask, protocol: &Protocol, mut found: Vec<Vec<Hit>>) -> Vec<Vec<Hit>> {
    for (query_id, hits) in task.query_ids().iter().zip(&mut found) {
        hits.retain(|hit| task.ranks(query_id, &task.corpus().ids()[hit.index]));
        hits.truncate(protocol.depth);
    }
    found
}

/// The run of the documents that were found for each query: their places in the corpus and their scores, best first.
pub(crate) fn run_of<H>(task: &RetrievalTask, found: impl IntoIterator<Item = H>) -> Result<Run>
where
    H: IntoIterator<Item = (usize, f32)>,
{
    let mut run = Run::new();
    for (query_id, hits) in task.query_ids().iter().zip(found) {
        for (place, score) in hits {
            run.insert(query_id, &task.corpus().ids()[place], score).map_err(from_eval)?;
        }
    }
    Ok(run)
}

/// [`run_of`] hits.
pub(crate) fn run_of_hits(task: &RetrievalTask, found: Vec<Vec<Hit>>) -> Result<Run> {
    run_of(task, found.into_iter().map(|hits| hits.into_iter().map(|hit| (hit.index, hit.score))))
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use care_core::index::VectorFormat;
    use care_core::{Document, Embedder, ErrorKind, Query, Text};
    use care_eval::{Evaluator, Measure, Qrels};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Protocol, evaluate};
    use crate::task::Task;
    use crate::testing::{Table, documents, queries};

    #[test]
    fn a_corpus_without_judgements_is_ranked_and_not_scored() {
        let table = Table::new(2).document("a", [1.0, 0.0]).document("b", [0.0, 1.0]).query("q", [0.25, 0.75]);
        let task = RetrievalTask::unjudged("t", documents(&["a", "b"]), queries(&["q"])).expect("valid");
        let run = crate::rank(&task, &table, &Protocol::default(), &mut |_| {}).expect("ranked");
        assert_eq!(run.get("q").expect("found").collect::<Vec<_>>(), [("b", 0.75), ("a", 0.25)]);
        assert!(evaluate(&Task::Retrieval(task), &table, &Protocol::default(), &mut |_| {}).is_err());
        let none = RetrievalTask::unjudged("t", documents(&["a"]), vec![]).expect_err("no queries");
        assert_eq!(none.to_string(), "task t: there are no queries");
    }

    fn task(query_ids: &[&str], doc_ids: &[&str], judged: &[(&str, &str, i32)]) -> Task {
        let qrels = Qrels::from_judgements(judged.iter().copied()).expect("distinct");
        let task = RetrievalTask::new("t", "test", documents(doc_ids), queries(query_ids), qrels);
        Task::Retrieval(task.expect("valid"))
    }

    #[test]
    fn scores_are_those_worked_out_by_hand() {
        // The document vectors are the axes, so a query's vector is its scores.
        let table = Table::new(4)
            .document("a", [1.0, 0.0, 0.0, 0.0])
            .document("b", [0.0, 1.0, 0.0, 0.0])
            .document("c", [0.0, 0.0, 1.0, 0.0])
            .document("d", [0.0, 0.0, 0.0, 1.0])
            .query("ranks c a b d", [0.3, 0.2, 0.4, 0.1])
            .query("ranks d first", [0.1, 0.2, 0.3, 0.4]);
        let task = task(
            &["ranks c a b d", "not judged", "ranks d first"],
            &["a", "b", "c", "d"],
            &[
                ("ranks c a b d", "a", 2),
                ("ranks c a b d", "b", 1),
                ("ranks d first", "d", 1),
                ("ranks d first", "gone", 0),
            ],
        );
        // A query that is not judged is not encoded: the table has no vector for it.
        let outcome = evaluate(&task, &table, &Protocol::default(), &mut |_| {}).expect("evaluated");

        let ndcg = (2.0 / 3f64.log2() + 1.0 / 4f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        let expected = [
            ("ndcg_at_10", (ndcg + 1.0) / 2.0),
            ("ndcg_at_1", 0.5),
            ("map_at_10", ((1.0 / 2.0 + 2.0 / 3.0) / 2.0 + 1.0) / 2.0),
            ("mrr_at_10", (0.5 + 1.0) / 2.0),
            ("recall_at_10", 1.0),
            ("precision_at_10", (0.2 + 0.1) / 2.0),
            ("precision_at_1", 0.5),
        ];
        for (key, value) in expected {
            assert_abs_diff_eq!(outcome.score(key).expect(key), value, epsilon = 1e-12);
        }
        assert_eq!(outcome.main_score(), outcome.score("ndcg_at_10").expect("asked for"));
        assert_eq!(outcome.embedding_dim, Some(4));
        let ranked = outcome.run().and_then(|run| run.get("ranks c a b d")).expect("answered");
        assert_eq!(ranked.map(|(doc_id, _)| doc_id).collect::<Vec<_>>(), ["c", "a", "b", "d"]);
    }

    #[test]
    fn a_query_in_the_corpus_is_not_ranked_for_itself_on_request() {
        let mut table = Table::new(1);
        let names: Vec<String> = (0..120).map(|number| format!("t{number:03}")).collect();
        for (number, name) in names.iter().enumerate() {
            table = table.document(name, [1.0 - number as f32 / 1000.0]);
        }
        table = table.query("t000", [1.0]).query("t119", [1.0]);
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let Task::Retrieval(task) = task(&["t000", "t119"], &ids, &[("t000", "t001", 1), ("t119", "t000", 1)]) else {
            unreachable!()
        };
        let score = |task: &RetrievalTask| {
            let task = Task::Retrieval(task.clone());
            evaluate(&task, &table, &Protocol::default(), &mut |_| {}).expect("evaluated")
        };
        assert_abs_diff_eq!(score(&task).score("mrr_at_10").expect("asked for"), 0.75, epsilon = 1e-12);
        let ignoring = task.clone().with_ignore_identical_ids(true);
        let outcome = score(&ignoring);
        assert_eq!(outcome.score("mrr_at_10"), Some(1.0));
        let run = outcome.run().expect("a ranking");
        // The ranking is as deep as without the option.
        assert_eq!(["t000", "t119"].map(|id| run.get(id).map(Iterator::count)), [Some(119); 2]);
        for depth in [100, 118] {
            let cut = evaluate(
                &Task::Retrieval(ignoring.clone()),
                &table,
                &Protocol::default().with_depth(depth),
                &mut |_| {},
            );
            let cut = cut.expect("evaluated");
            let lengths = ["t000", "t119"].map(|id| cut.run().and_then(|run| run.get(id)).map(Iterator::count));
            assert_eq!(lengths, [Some(depth); 2]);
            assert_eq!(cut.scores, outcome.scores);
        }
        assert_eq!((run.score("t000", "t000"), run.score("t119", "t119")), (None, None));
        let foreign = Run::from_scores([("t000", "t000", 1.0), ("t000", "t001", 0.5)]).expect("a run");
        assert_eq!(score_run(&ignoring, foreign, &Protocol::default()).expect("scored").score("mrr_at_10"), Some(0.5));
    }

    #[test]
    fn a_query_without_an_answer_scores_zero() {
        let Task::Retrieval(task) = task(&["p", "q"], &["d"], &[("p", "d", 1), ("q", "d", 1)]) else { unreachable!() };
        let run = Run::from_scores([("p", "d", 1.0)]).expect("a run");
        assert_eq!(score_run(&task, run, &Protocol::default()).expect("scored").main_score(), 0.5);
    }

    #[test]
    fn a_vector_that_is_not_finite_is_an_error() {
        let table = Table::new(1).document("d", [f32::NAN]).query("q", [1.0]);
        let error = evaluate(&task(&["q"], &["d"], &[("q", "d", 1)]), &table, &Protocol::default(), &mut |_| {})
            .expect_err("not a number");
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        assert_eq!(error.to_string(), "the vector of document 0 of the task is not finite");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn retrieval_equals_care_eval_over_every_score(
            values in proptest::collection::vec(-3i8..=3, 9..80), grades in proptest::collection::vec(-1i32..3, 8),
        ) {
            let (mut table, mut run, mut qrels) = (Table::new(3), Run::new(), Qrels::new());
            let vector = |row: usize| [0, 1, 2].map(|column| f32::from(values[(3 * row + column) % values.len()]));
            let doc_ids = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
            for (row, doc_id) in doc_ids.iter().enumerate() {
                table = table.document(doc_id, vector(row));
            }
            for (row, query_id) in ["p", "q"].iter().enumerate() {
                let query = vector(row + 11);
                table = table.query(query_id, query);
                for (column, doc_id) in doc_ids.iter().enumerate() {
                    let score = query.iter().zip(vector(column)).map(|(a, b)| a * b).sum::<f32>();
                    run.insert(query_id, doc_id, score).expect("distinct");
                    qrels.insert(query_id, doc_id, grades[(row + column) % grades.len()]).expect("distinct");
                }
            }
            let task = RetrievalTask::new("t", "test", documents(&doc_ids), queries(&["p", "q"]), qrels.clone());
            let task = Task::Retrieval(task.expect("valid"));
            let outcome = evaluate(&task, &table, &Protocol::default(), &mut |_| {}).expect("evaluated");
            let measures: Vec<Measure> = RETRIEVAL_MEASURES.to_vec();
            let expected = Evaluator::new(measures).evaluate(&qrels, &run).expect("judged");
            for ((_, value), (_, expected)) in outcome.scores.iter().zip(expected.measures.iter()) {
                prop_assert_eq!(*value, expected);
            }
        }
    }

    #[test]
    fn no_measure_looks_below_the_ranking() {
        let cutoffs = RETRIEVAL_MEASURES.map(|measure| measure.cutoff().expect("cut off").get());
        assert_eq!(cutoffs.into_iter().max(), Some(DEEPEST));
        let table = Table::new(1).document("d", [1.0]).query("q", [1.0]);
        let task = task(&["q"], &["d"], &[("q", "d", 1)]);
        for depth in [0, 99] {
            let protocol = Protocol::default().with_depth(depth);
            let error = evaluate(&task, &table, &protocol, &mut |_| {}).expect_err("too shallow").to_string();
            let expected = format!("`depth` is {depth}, allowed: at least 100, the deepest cut-off of the measures");
            assert_eq!(error, expected);
            let bm25 = crate::bm25(task.as_retrieval().expect("retrieval"), &protocol).expect_err("too shallow");
            assert_eq!(bm25.to_string(), expected);
        }
    }

    /// Scores a text by its number: few values, so that most documents tie.
    struct Numbers {
        values: usize,
    }

    impl Embedder for Numbers {
        fn embedding_dim(&self) -> usize {
            3
        }

        fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
            Ok(self.vectors(queries.iter().map(|query| query.content().into_owned())))
        }

        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            Ok(self.vectors(documents.iter().map(|document| document.content().into_owned())))
        }
    }

    impl Numbers {
        fn vectors(&self, texts: impl ExactSizeIterator<Item = String>) -> Embeddings {
            let mut vectors = Embeddings::zeros(texts.len(), 3);
            for (row, text) in texts.enumerate() {
                let number: usize = text.parse().expect("a number");
                let value = |salt: usize| ((number * salt) % self.values) as f32 / 7.0 - 0.3;
                vectors.set(row, &[value(31), value(7), value(13)]);
            }
            vectors
        }
    }

    #[test]
    fn blocks_find_what_an_index_of_all_vectors_finds() {
        // The last block is one document, or nothing.
        for (documents, values) in [(BLOCK + 1, 5), (2 * BLOCK, 997), (BLOCK + 3000, 11)] {
            let ids: Vec<String> = (0..documents).map(|number| number.to_string()).collect();
            let corpus: Vec<_> = ids.iter().map(|id| (id.clone(), Document::new(id))).collect();
            let queries: Vec<_> = ["0", "3", "8"].map(|id| (id.to_owned(), Query::new(id))).to_vec();
            let qrels = Qrels::from_judgements([("0", "1", 1), ("3", "1", 1), ("8", "1", 1)]).expect("distinct");
            let task = RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid");
            let model = Numbers { values };
            let mut index = FlatIndex::with_capacity(3, documents, VectorFormat::F32);
            index.add(&model.vectors(ids.iter().cloned())).expect("as wide");
            let expected = index.search(&model.vectors(task.query_ids().iter().cloned()), 1000).expect("as wide");
            let task = Task::Retrieval(task);
            let outcome = evaluate(&task, &model, &Protocol::default(), &mut |_| {}).expect("evaluated");
            for (query_id, expected) in ["0", "3", "8"].iter().zip(expected) {
                let found: Vec<_> = outcome.run().and_then(|run| run.get(query_id)).expect("a ranking").collect();
                let expected: Vec<_> = expected.iter().map(|hit| (ids[hit.index].as_str(), hit.score)).collect();
                assert_eq!(found.len(), 1000);
                assert_eq!(found, expected, "{documents} documents, query {query_id}");
            }
        }
    }

    #[test]
    fn texts_of_the_two_roles_go_to_their_own_tower() {
        let table = Table::new(1).document("same", [1.0]).query("same", [2.0]);
        let qrels = Qrels::from_judgements([("q", "d", 1)]).expect("distinct");
        let corpus = vec![("d".to_owned(), Document::new("same"))];
        let task = RetrievalTask::new("t", "test", corpus, vec![("q".to_owned(), Query::new("same"))], qrels);
        let outcome = evaluate(&Task::Retrieval(task.expect("valid")), &table, &Protocol::default(), &mut |_| {})
            .expect("evaluated");
        assert_eq!(outcome.run().and_then(|run| run.score("q", "d")), Some(2.0));
    }
}
