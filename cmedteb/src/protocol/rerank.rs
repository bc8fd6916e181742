//! Evaluation of a reranker: it reorders the best documents of a run, or a query's own candidates.

use std::collections::HashMap;
use std::time::Instant;

use care_core::{Document, Error, ErrorKind, Query, Reranker, Result};
use care_eval::Run;

use super::encode::{GROUP, Progress};
use super::outcome::Outcome;
use super::retrieval::score_run;
use super::settings::Protocol;
use crate::error::{from_eval, invalid};
use crate::task::{RERANKING_MEASURES, RerankingTask, RetrievalTask};

/// Pairs per call of the reranker, i.e. between two progress reports: enough to sort them by length.
const PAIRS: usize = 256;

/// Reorders the `depth` best documents of each query of a run by a reranker. The documents behind them follow in their
/// order, so that measures with a deep cut-off still count them; their scores only express this order.
///
/// Documents of the run with equal scores are in the order of [`Protocol::ties`]. Queries that the task does not have
/// are left out. Texts of the corpus stay in memory only if they are among the best of a query. `progress` counts pairs
/// and is called at the start and after each group of them.
///
/// # Errors
/// If `depth` is 0, the run has a document that the corpus lacks, or the reranker returns an error, a wrong number of
/// scores or a score that is not finite.
pub fn rerank(
    task: &RetrievalTask,
    run: &Run,
    reranker: &dyn Reranker,
    depth: usize,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Run> {
    if depth == 0 {
        return Err(Error::setting("rerank_depth", depth, "at least 1"));
    }
    let asked = || task.query_ids().iter().zip(task.queries()).filter(|(query_id, _)| run.contains(query_id));
    let rankings: Vec<(&String, &Query, Vec<&str>)> = asked()
        .map(|(query_id, query)| {
            let ranked = run.ranked(query_id, protocol.ties).into_iter().map(|(doc_id, _)| doc_id);
            (query_id, query, ranked.filter(|doc_id| task.ranks(query_id, doc_id)).collect())
        })
        .collect();
    let texts = texts(task, &rankings, depth)?;
    let pairs: Vec<(&Query, &Document)> = rankings
        .iter()
        .flat_map(|(_, query, ranked)| ranked.iter().take(depth).map(|doc_id| (*query, &texts[doc_id])))
        .collect();
    let mut scores = score(reranker, &pairs, progress)?.into_iter();
    let mut reranked = Run::new();
    for (query_id, _, ranked) in &rankings {
        reranked.insert_query(query_id);
        let (best, rest) = ranked.split_at(depth.min(ranked.len()));
        let mut lowest = f32::INFINITY;
        for (doc_id, score) in best.iter().zip(scores.by_ref()) {
            lowest = lowest.min(score);
            reranked.insert(query_id, doc_id, score).map_err(from_eval)?;
        }
        for doc_id in rest {
            lowest = (lowest - 1.0).min(lowest.next_down());
            reranked.insert(query_id, doc_id, lowest).map_err(from_eval)?;
        }
    }
    Ok(reranked)
}

/// The texts of the best documents of all queries, by id.
fn texts<'a>(
    task: &RetrievalTask,
    rankings: &[(&'a String, &'a Query, Vec<&'a str>)],
    depth: usize,
) -> Result<HashMap<&'a str, Document>> {
    let mut wanted: HashMap<&str, &String> = HashMap::new();
    for (query_id, _, ranked) in rankings {
        wanted.extend(ranked.iter().take(depth).map(|doc_id| (*doc_id, *query_id)));
    }
    let (mut texts, mut place) = (HashMap::with_capacity(wanted.len()), 0);
    task.corpus().visit(GROUP, &mut |documents| {
        for document in documents {
            if let Some((doc_id, _)) = wanted.remove_entry(task.corpus().ids()[place].as_str()) {
                texts.insert(doc_id, document.clone());
            }
            place += 1;
        }
        Ok(())
    })?;
    match wanted.into_iter().min() {
        None => Ok(texts),
        Some((doc_id, query_id)) => {
            let problem = format!("the run ranks document {doc_id:?} for query {query_id:?}, but the corpus lacks it");
            Err(invalid(task.name(), problem))
        }
    }
}

/// Scores pairs in groups.
fn score(
    reranker: &dyn Reranker,
    pairs: &[(&Query, &Document)],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<f32>> {
    let mut done = Progress { encoded: 0, total: pairs.len() };
    progress(done);
    let mut scores = Vec::with_capacity(pairs.len());
    for group in pairs.chunks(PAIRS) {
        let (first, last) = (scores.len(), scores.len() + group.len() - 1);
        let of_group = reranker.score(group).map_err(|e| {
            // Indices in the model's message are relative to the group.
            Error::new(e.kind(), format!("pairs {first} to {last} of the task: {e}")).with_source(e)
        })?;
        if of_group.len() != group.len() {
            let message = format!("the reranker returned {} scores for {} pairs", of_group.len(), group.len());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        if let Some(place) = of_group.iter().position(|score| !score.is_finite()) {
            let message = format!("the score of pair {} of the task is not finite", first + place);
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        scores.extend(of_group);
        done.encoded = scores.len();
        progress(done);
    }
    Ok(scores)
}

/// [`rerank`]s a run and scores the result.
///
/// # Errors
/// As [`rerank`] and [`score_run`].
pub fn evaluate_reranked(
    task: &RetrievalTask,
    run: &Run,
    reranker: &dyn Reranker,
    depth: usize,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = score_run(task, rerank(task, run, reranker, depth, protocol, progress)?, protocol)?;
    Ok(Outcome { seconds: Some(start.elapsed().as_secs_f64()), ..outcome })
}

/// Scores a reranker on a reranking task: each query ranks its own candidates. `progress` counts pairs.
///
/// # Errors
/// If the reranker returns an error, a wrong number of scores or a score that is not finite.
pub fn evaluate_reranker(
    task: &RerankingTask,
    reranker: &dyn Reranker,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let lists = || task.queries().iter().zip(task.lists());
    let pairs: Vec<(&Query, &Document)> = lists()
        .flat_map(|(query, list)| list.candidates.iter().map(move |(_, place)| (query, &task.documents()[*place])))
        .collect();
    let mut scores = score(reranker, &pairs, progress)?.into_iter();
    let mut run = Run::new();
    for (_, list) in lists() {
        for ((doc_id, _), score) in list.candidates.iter().zip(scores.by_ref()) {
            run.insert(&list.query_id, doc_id, score).map_err(from_eval)?;
        }
    }
    let outcome = Outcome::of_run(&RERANKING_MEASURES, task.main_score(), task.qrels(), run, protocol.ties)?;
    Ok(Outcome { seconds: Some(start.elapsed().as_secs_f64()), ..outcome })
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use care_core::Text;
    use care_eval::Qrels;

    use super::*;
    use crate::testing::{documents, queries, row};

    /// Scores a document by the number that its text is, or by a fixed value.
    struct Number(Option<f32>);

    impl Reranker for Number {
        fn score(&self, pairs: &[(&Query, &Document)]) -> Result<Vec<f32>> {
            let score = |(_, document): &(&Query, &Document)| document.content().parse().expect("a number");
            Ok(pairs.iter().map(|pair| self.0.unwrap_or_else(|| score(pair))).collect())
        }
    }

    fn task(doc_ids: &[&str], judged: &[(&str, &str, i32)]) -> RetrievalTask {
        let qrels = Qrels::from_judgements(judged.iter().copied()).expect("distinct");
        RetrievalTask::new("t", "test", documents(doc_ids), queries(&["p", "q"]), qrels).expect("valid")
    }

    fn order(run: &Run, query_id: &str) -> Vec<(String, f32)> {
        let ranked = run.ranked(query_id, Protocol::default().ties);
        ranked.into_iter().map(|(doc_id, score)| (doc_id.to_owned(), score)).collect()
    }

    #[test]
    fn the_best_are_reordered_and_the_rest_follow_in_their_order() {
        let task = task(&["1", "2", "3", "4", "5"], &[("p", "3", 1), ("q", "1", 1)]);
        let run = Run::from_scores([
            ("p", "1", 9.0),
            ("p", "3", 8.0),
            ("p", "2", 7.0),
            ("p", "5", 7.0),
            ("p", "4", 1.0),
            ("q", "2", 0.5),
            ("unknown", "1", 1.0),
        ])
        .expect("a run");
        let rerank = |depth| {
            let mut seen = Vec::new();
            let mut progress = |progress: Progress| seen.push((progress.encoded, progress.total));
            let run = super::rerank(&task, &run, &Number(None), depth, &Protocol::default(), &mut progress);
            (run.expect("reranked"), seen)
        };
        let (two, seen) = rerank(2);
        assert_eq!(seen, [(0, 3), (3, 3)]);
        // Of 5 and 2, whose scores are equal, trec_eval's rule ranks the greater id first.
        let expected = [("3", 3.0), ("1", 1.0), ("5", 0.0), ("2", -1.0), ("4", -2.0)];
        assert_eq!(order(&two, "p"), expected.map(|(id, score)| (id.to_owned(), score)));
        assert_eq!(order(&two, "q"), [("2".to_owned(), 2.0)]);
        assert!(!two.contains("unknown"));
        let (all, _) = rerank(100);
        assert_eq!(order(&all, "p").iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["5", "4", "3", "2", "1"]);

        let outcome = |depth| {
            let progress = &mut |_| {};
            evaluate_reranked(&task, &run, &Number(None), depth, &Protocol::default(), progress).expect("scored")
        };
        assert_abs_diff_eq!(outcome(2).score("mrr_at_10").expect("reported"), 0.5, epsilon = 1e-12);
        assert_abs_diff_eq!(outcome(100).score("mrr_at_10").expect("reported"), 1.0 / 6.0, epsilon = 1e-12);
        assert_eq!(outcome(2).embedding_dim, None);
    }

    #[test]
    fn scores_of_the_rest_stay_below_however_large_the_others_are() {
        let task = task(&["-1e30", "0", "1"], &[("p", "0", 1), ("q", "1", 1)]);
        let run = Run::from_scores([("p", "-1e30", 3.0), ("p", "0", 2.0), ("p", "1", 1.0)]).expect("a run");
        let reranked = rerank(&task, &run, &Number(None), 1, &Protocol::default(), &mut |_| {}).expect("reranked");
        let ids: Vec<String> = order(&reranked, "p").into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["-1e30", "0", "1"]);
    }

    #[test]
    fn what_cannot_be_reranked_is_named() {
        let task = task(&["1", "2"], &[("p", "1", 1), ("q", "1", 1)]);
        let error = |run: &Run, reranker: &dyn Reranker, depth| {
            rerank(&task, run, reranker, depth, &Protocol::default(), &mut |_| {}).expect_err("refused").to_string()
        };
        let foreign = Run::from_scores([("p", "9", 1.0), ("p", "1", 0.5)]).expect("a run");
        assert_eq!(
            error(&foreign, &Number(None), 1),
            "task t: the run ranks document \"9\" for query \"p\", but the corpus lacks it"
        );
        let run = Run::from_scores([("q", "2", 1.0), ("q", "1", 0.5)]).expect("a run");
        assert_eq!(error(&run, &Number(None), 0), "`rerank_depth` is 0, allowed: at least 1");
        assert_eq!(error(&run, &Number(Some(f32::NAN)), 2), "the score of pair 0 of the task is not finite");
        struct Silent;
        impl Reranker for Silent {
            fn score(&self, _: &[(&Query, &Document)]) -> Result<Vec<f32>> {
                Ok(Vec::new())
            }
        }
        assert_eq!(error(&run, &Silent, 2), "the reranker returned 0 scores for 2 pairs");
    }

    #[test]
    fn candidates_are_ranked_by_the_reranker() {
        let rows = vec![row("q", &["2"], &["3", "1"]), row("p", &["3", "1"], &["2"])];
        let task = RerankingTask::new("t", "test", rows).expect("valid");
        let mut last = None;
        let progress = &mut |progress: Progress| last = Some((progress.encoded, progress.total));
        let outcome = evaluate_reranker(&task, &Number(None), &Protocol::default(), progress).expect("evaluated");
        // The positive comes second; the positives come first and third.
        assert_abs_diff_eq!(outcome.main_score(), (0.5 + (1.0 + 2.0 / 3.0) / 2.0) / 2.0, epsilon = 1e-12);
        assert_eq!(last, Some((6, 6)));
        // Equal scores put negatives first.
        let equal = evaluate_reranker(&task, &Number(Some(1.0)), &Protocol::default(), &mut |_| {}).expect("evaluated");
        assert!(equal.main_score() < outcome.main_score());
    }
}
