//! BM25 over character bigrams, the baseline.

use std::collections::HashMap;

use bm25::{Embedder, EmbedderBuilder, TokenEmbedder, Tokenizer};
use care_core::{Result, Text};
use care_eval::Run;
use rayon::prelude::*;

use crate::protocol::{Protocol, depth, run_of};
use crate::task::RetrievalTask;

/// The best documents of each query, [`Protocol::depth`] at most, by BM25 (`k1` 1.2, `b` 0.75) over character bigrams.
///
/// Chinese has no spaces, so runs of non-ASCII letters are split into overlapping bigrams; words of ASCII letters and
/// digits are lower-cased. Documents that share no token with a query are not ranked. Equal scores are in the order of
/// the corpus, so the result is the same on every machine.
///
/// # Errors
/// If the corpus cannot be read, or if [`Protocol::depth`] is too small.
///
/// # Reference
/// Lucene's variant of BM25, `idf = ln(1 + (n - df + 0.5) / (df + 0.5))`.
pub fn bm25(task: &RetrievalTask, protocol: &Protocol) -> Result<Run> {
    let mut texts = Vec::with_capacity(task.corpus().len());
    task.corpus().visit(1024, &mut |documents| {
        texts.extend(documents.iter().map(|document| document.content().into_owned()));
        Ok(())
    })?;
    let index = Index::new(&texts);
    let depth = depth(task, protocol)?;
    let found: Vec<_> = task.queries().par_iter().map(|query| index.search(&query.content(), depth)).collect();
    run_of(task, protocol, found)
}

/// An inverted index: the documents and weights of each token.
///
/// The weights are those of the `bm25` crate. Its scorer is not used, because it visits every token of every document and
/// orders equal scores by a hash map.
struct Index {
    documents: usize,
    postings: HashMap<u64, Vec<(usize, f32)>>,
}

impl Index {
    fn new<S: AsRef<str> + Sync>(texts: &[S]) -> Self {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let embedder: Embedder<u64, Bigrams> =
            EmbedderBuilder::with_tokenizer_and_fit_to_corpus(Bigrams, &texts).build();
        let weights: Vec<_> = texts.par_iter().map(|text| embedder.embed(text).0).collect();
        let mut postings: HashMap<u64, Vec<(usize, f32)>> = HashMap::new();
        for (document, mut weights) in weights.into_iter().enumerate() {
            // A token is listed once per occurrence, with the same weight.
            weights.sort_unstable_by_key(|token| token.index);
            weights.dedup_by_key(|token| token.index);
            for token in weights {
                postings.entry(token.index).or_default().push((document, token.value));
            }
        }
        Self { documents: texts.len(), postings }
    }

    fn search(&self, query: &str, k: usize) -> Vec<(usize, f32)> {
        let mut scores = vec![0f32; self.documents];
        for token in Bigrams.tokenize(query) {
            let Some(postings) = self.postings.get(&u64::embed(&token)) else { continue };
            let (n, df) = (self.documents as f32, postings.len() as f32);
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            postings.iter().for_each(|&(document, weight)| scores[document] += idf * weight);
        }
        let mut hits: Vec<_> = scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0).collect();
        hits.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        hits.truncate(k);
        hits
    }
}

/// Whole words of ASCII letters and digits, overlapping bigrams of other letters.
struct Bigrams;

impl Tokenizer for Bigrams {
    fn tokenize(&self, text: &str) -> Vec<String> {
        let class = |character: &char| (character.is_alphanumeric(), character.is_ascii());
        let characters: Vec<char> = text.chars().collect();
        let runs = characters.chunk_by(|a, b| class(a) == class(b));
        runs.flat_map(|run| match class(&run[0]) {
            (false, _) => Vec::new(),
            (true, true) => vec![run.iter().collect::<String>().to_ascii_lowercase()],
            (true, false) if run.len() == 1 => vec![run.iter().collect()],
            (true, false) => run.windows(2).map(|bigram| bigram.iter().collect()).collect(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use care_core::{Document, Query};
    use care_eval::Qrels;

    use super::*;
    use crate::protocol::score_run;
    use crate::tasks::find;

    #[test]
    fn chinese_becomes_bigrams_and_ascii_words() {
        assert_eq!(
            Bigrams.tokenize("查HbA1c，维生素D 3个月。痛"),
            ["查", "hba1c", "维生", "生素", "d", "3", "个月", "痛"]
        );
        assert_eq!(Bigrams.tokenize("，。 !?"), Vec::<String>::new());
    }

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
