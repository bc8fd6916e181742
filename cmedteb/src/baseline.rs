//! BM25 over character bigrams, the baseline.

use care_core::index::Hit;
use care_core::{Result, Text};
use care_data::bm25::Bm25;
use care_eval::Run;

use crate::protocol::{Protocol, depth, ranked, run_of_hits};
use crate::task::RetrievalTask;

/// The best documents of each query, [`Protocol::depth`] at most, by BM25 (`k1` 1.2, `b` 0.75) over character bigrams.
///
/// The index is [`Bm25`]; documents that share no token with a query are not ranked, and equal scores are in the order of
/// the corpus.
///
/// # Errors
/// If the corpus cannot be read, or if [`Protocol::depth`] is too small.
pub fn bm25(task: &RetrievalTask, protocol: &Protocol) -> Result<Run> {
    run_of_hits(task, search(task, protocol)?)
}

/// [`bm25`], with documents by their places in the corpus.
pub(crate) fn search(task: &RetrievalTask, protocol: &Protocol) -> Result<Vec<Vec<Hit>>> {
    let mut index = Bm25::default();
    task.corpus().visit(1024, &mut |documents| {
        let texts: Vec<_> = documents.iter().map(Text::content).collect();
        index.add(&texts);
        Ok(())
    })?;
    let depth = depth(task, protocol)?;
    let queries: Vec<_> = task.queries().iter().map(Text::content).collect();
    Ok(ranked(task, protocol, index.search_all(&queries, depth)))
}

#[cfg(test)]
mod tests {
    use care_core::{Document, Query};
    use care_eval::Qrels;

    use super::*;
    use crate::protocol::score_run;
    use crate::tasks::find;

    #[test]
    fn the_rarer_shared_bigram_ranks_first() {
        let corpus = [("d1", "头痛发热"), ("d2", "发热咳嗽"), ("d3", "发热腹泻")];
        let corpus = corpus.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let queries = vec![("q".to_owned(), Query::new("发热咳嗽")), ("none".to_owned(), Query::new("骨折"))];
        let qrels = Qrels::from_judgements([("q", "d2", 1), ("none", "d1", 1)]).expect("distinct");
        let task = RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid");
        let run = bm25(&task, &Protocol::default()).expect("ranked");
        let ranked: Vec<_> = run.get("q").expect("answered").collect();
        // 发热 is in all three, 热咳 and 咳嗽 in one; the first and the third tie in the corpus' order.
        assert_eq!(ranked.iter().map(|(doc_id, _)| *doc_id).collect::<Vec<_>>(), ["d2", "d1", "d3"]);
        // Every document has 3 tokens, the average, so a weight is 2.2 / (1 + 1.2) = 1.
        let (common, rare) = ((1.0f32 + 0.5 / 3.5).ln(), (1.0f32 + 2.5 / 1.5).ln());
        approx::assert_abs_diff_eq!(ranked[0].1, common + 2.0 * rare, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(ranked[1].1, common, epsilon = 1e-6);
        assert!(!run.contains("none"));
    }

    #[test]
    fn a_query_in_the_corpus_is_not_ranked_for_itself_on_request() {
        let texts = [("q", "头痛发热"), ("d", "头痛咳嗽")].map(|(id, text)| (id.to_owned(), text.to_owned()));
        let corpus: Vec<_> = texts.iter().map(|(id, text)| (id.clone(), Document::new(text))).collect();
        let queries = texts.iter().take(1).map(|(id, text)| (id.clone(), Query::new(text))).collect();
        let qrels = Qrels::from_judgements([("q", "d", 1)]).expect("distinct");
        let task = RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid");
        let ranked = |task: &RetrievalTask| {
            let run = bm25(task, &Protocol::default()).expect("ranked");
            run.get("q").expect("answered").map(|(id, _)| id.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ranked(&task), ["q", "d"]);
        assert_eq!(ranked(&task.with_ignore_identical_ids(true)), ["d"]);
    }

    #[test]
    fn the_demonstration_set_is_neither_trivial_nor_hopeless() {
        let task = find("mini-retrieval").expect("built in");
        let task = task.as_retrieval().expect("retrieval");
        let outcome =
            score_run(task, bm25(task, &Protocol::default()).expect("ranked"), &Protocol::default()).expect("scored");
        assert!((0.3..0.95).contains(&outcome.main_score()), "nDCG@10 is {}", outcome.main_score());
        assert_eq!(bm25(task, &Protocol::default()).expect("ranked"), *outcome.run().expect("a ranking"));
    }
}
