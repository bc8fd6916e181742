//! BM25 over character bigrams: an inverted index that is built document by document.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use care_core::index::Hit;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use rayon::prelude::*;

/// Saturation of a token's frequency.
const K1: f32 = 1.2;
/// Weight of a document's length.
const B: f32 = 0.75;

/// An inverted index over character bigrams, ranked by BM25 (`k1` 1.2, `b` 0.75).
///
/// Chinese has no spaces, so runs of non-ASCII letters are split into overlapping bigrams; words of ASCII letters and
/// digits are lower-cased. A document that shares no token with a query is not found. Equal scores are in the order in
/// which documents were added, so the result is the same on every machine and for any number of threads.
///
/// No text is kept: a document costs 2 to 4 bytes per distinct token.
///
/// ```
/// use care_data::bm25::Bm25;
///
/// let mut index = Bm25::default();
/// index.add(&["头痛发热", "发热咳嗽"]);
/// assert_eq!(index.search("咳嗽", 10)[0].index, 1);
/// ```
///
/// # Reference
/// Lucene's variant of BM25, `idf = ln(1 + (n - df + 0.5) / (df + 0.5))`. A token that a query has twice counts twice.
#[derive(Debug, Clone, Default)]
pub struct Bm25 {
    /// Number of tokens of each document.
    lengths: Vec<u32>,
    tokens: u64,
    postings: HashMap<u64, Postings, RandomState>,
}

/// The documents of a token in ascending order, each with the token's frequency: pairs of variable-length integers, of
/// which the first is the distance to the document before.
#[derive(Debug, Clone, Default)]
struct Postings {
    documents: u32,
    next: u32,
    bytes: Vec<u8>,
}

impl Bm25 {
    /// Adds documents, whose numbers continue those already in the index.
    ///
    /// # Panics
    /// Panics if the index would have more than 2^32 - 1 documents.
    pub fn add<S: AsRef<str> + Sync>(&mut self, texts: &[S]) {
        let counted: Vec<(u32, Vec<(u64, u32)>)> = texts.par_iter().map(|text| counts(text.as_ref())).collect();
        for (length, counts) in counted {
            let document = u32::try_from(self.lengths.len()).expect("at most 2^32 - 1 documents");
            self.lengths.push(length);
            self.tokens += u64::from(length);
            for (token, frequency) in counts {
                self.postings.entry(token).or_default().push(document, frequency);
            }
        }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The `k` best documents of a query, best first; fewer if fewer share a token with it.
    pub fn search(&self, query: &str, k: usize) -> Vec<Hit> {
        best(&self.all(query), k)
    }

    /// [`Bm25::search`] for many queries.
    pub fn search_all<S: AsRef<str> + Sync>(&self, queries: &[S], k: usize) -> Vec<Vec<Hit>> {
        queries.par_iter().map(|query| self.search(query.as_ref(), k)).collect()
    }

    /// The scores of given documents; 0 for one that shares no token with the query.
    ///
    /// # Panics
    /// Panics if a document is not in the index.
    pub fn scores(&self, query: &str, documents: &[usize]) -> Vec<f32> {
        let scores = self.all(query);
        documents.iter().map(|&document| scores[document]).collect()
    }

    /// The score of a text that is not in the index, with the index' frequencies of tokens and length of documents.
    pub fn score(&self, query: &str, text: &str) -> f32 {
        let (length, counts) = counts(text);
        let weigh = self.weigh();
        let mut score = 0f32;
        for token in tokens(query) {
            let token = hash(&token);
            let found = counts.binary_search_by_key(&token, |count| count.0);
            if let (Ok(at), Some(postings)) = (found, self.postings.get(&token)) {
                score += self.idf(postings) * weigh(counts[at].1, length);
            }
        }
        score
    }

    /// The score of every document.
    fn all(&self, query: &str) -> Vec<f32> {
        let mut scores = vec![0f32; self.len()];
        let weigh = self.weigh();
        for token in tokens(query) {
            let Some(postings) = self.postings.get(&hash(&token)) else { continue };
            let idf = self.idf(postings);
            postings.for_each(|document, frequency| {
                scores[document] += idf * weigh(frequency, self.lengths[document]);
            });
        }
        scores
    }

    fn idf(&self, postings: &Postings) -> f32 {
        let (n, df) = (self.len() as f32, postings.documents as f32);
        (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
    }

    /// The weight of a token by its frequency in a document and the document's length.
    fn weigh(&self) -> impl Fn(u32, u32) -> f32 {
        let average = match self.tokens {
            0 => 1.0,
            tokens => (tokens as f64 / self.len() as f64) as f32,
        };
        move |frequency, length| {
            let frequency = frequency as f32;
            frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * (length as f32 / average)))
        }
    }
}

impl Postings {
    fn push(&mut self, document: u32, frequency: u32) {
        write(&mut self.bytes, document - self.next);
        write(&mut self.bytes, frequency);
        self.next = document + 1;
        self.documents += 1;
    }

    fn for_each(&self, mut each: impl FnMut(usize, u32)) {
        let (mut bytes, mut next) = (self.bytes.as_slice(), 0);
        while !bytes.is_empty() {
            let document = next + read(&mut bytes) as usize;
            each(document, read(&mut bytes));
            next = document + 1;
        }
    }
}

/// Appends an integer, 7 bits per byte, the lowest first; the highest bit says that more follow.
fn write(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read(bytes: &mut &[u8]) -> u32 {
    let (mut value, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
}

/// The `k` best of all documents with a score above 0.
fn best(scores: &[f32], k: usize) -> Vec<Hit> {
    let order = |a: &Hit, b: &Hit| -> Ordering { b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)) };
    let mut hits: Vec<Hit> = Vec::new();
    let mut least = 0.0;
    for (index, &score) in scores.iter().enumerate() {
        // A later document with the score of the worst so far ranks below it.
        if score > least {
            hits.push(Hit { index, score });
            if hits.len() >= 2 * k.max(64) {
                hits.select_nth_unstable_by(k.saturating_sub(1), order);
                hits.truncate(k);
                least = hits.last().map_or(f32::INFINITY, |worst| worst.score);
            }
        }
    }
    hits.sort_unstable_by(order);
    hits.truncate(k);
    hits
}

/// The number of tokens of a text, and how often each occurs.
fn counts(text: &str) -> (u32, Vec<(u64, u32)>) {
    let mut hashes: Vec<u64> = tokens(text).iter().map(|token| hash(token)).collect();
    hashes.sort_unstable();
    let counts = hashes.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u32)).collect();
    (hashes.len() as u32, counts)
}

fn hash(token: &str) -> u64 {
    let mut hasher = FixedState::with_seed(2).build_hasher();
    hasher.write(token.as_bytes());
    hasher.finish()
}

/// Whole words of ASCII letters and digits, lower-cased, and overlapping bigrams of other letters.
fn tokens(text: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use ::bm25::{Embedder, EmbedderBuilder, TokenEmbedder, Tokenizer};
    use proptest::prelude::*;

    use super::*;

    struct Bigrams;

    impl Tokenizer for Bigrams {
        fn tokenize(&self, text: &str) -> Vec<String> {
            tokens(text)
        }
    }

    /// Ranks by the weights of the crate `bm25`, with every score sorted.
    fn reference(texts: &[String], query: &str, k: usize) -> Vec<Hit> {
        let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder: Embedder<u64, Bigrams> =
            EmbedderBuilder::with_tokenizer_and_fit_to_corpus(Bigrams, &corpus).build();
        let weights: Vec<_> = corpus.iter().map(|text| embedder.embed(text).0).collect();
        let mut scores = vec![0f32; texts.len()];
        for token in tokens(query) {
            let token = u64::embed(&token);
            let of = |document: &Vec<bm25::TokenEmbedding<u64>>| document.iter().find(|w| w.index == token).cloned();
            let found: Vec<_> = weights.iter().map(of).collect();
            let (n, df) = (texts.len() as f32, found.iter().flatten().count() as f32);
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            found.iter().enumerate().for_each(|(at, weight)| {
                scores[at] += weight.as_ref().map_or(0.0, |weight| idf * weight.value);
            });
        }
        let hits = scores.into_iter().enumerate().map(|(index, score)| Hit { index, score });
        let mut hits: Vec<Hit> = hits.filter(|hit| hit.score > 0.0).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.truncate(k);
        hits
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn scores_are_bit_for_bit_those_of_the_crate_bm25(
            texts in proptest::collection::vec("[头痛发热咳嗽a1，]{0,30}", 1..200), query in "[头痛发热咳嗽a1]{0,8}",
            k in 0usize..90, cut in 0usize..200,
        ) {
            let mut index = Bm25::default();
            let cut = cut.min(texts.len());
            index.add(&texts[..cut]);
            index.add(&texts[cut..]);
            let hits = index.search(&query, k);
            prop_assert_eq!(&hits, &reference(&texts, &query, k));
            let found: Vec<usize> = hits.iter().map(|hit| hit.index).collect();
            let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
            let texts = found.iter().map(|&found| index.score(&query, &texts[found])).collect::<Vec<_>>();
            prop_assert_eq!(&index.scores(&query, &found), &scores);
            prop_assert_eq!(texts, scores);
        }

        #[test]
        fn integers_of_any_length_are_read_as_written(values in proptest::collection::vec(any::<u32>(), 0..20)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|&value| write(&mut bytes, value));
            let mut rest = bytes.as_slice();
            prop_assert_eq!(values.iter().map(|_| read(&mut rest)).collect::<Vec<_>>(), values);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn chinese_becomes_bigrams_and_ascii_words() {
        assert_eq!(tokens("查HbA1c，维生素D 3个月。痛"), ["查", "hba1c", "维生", "生素", "d", "3", "个月", "痛"]);
        assert_eq!(tokens("，。 !?"), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        let mut index = Bm25::default();
        assert!(index.search("头痛", 5).is_empty());
        index.add(&["", "。"]);
        assert_eq!(index.len(), 2);
        assert!(index.search("头痛", 5).is_empty());
        index.add(&["头痛"]);
        assert_eq!(index.search("头痛", 5)[0].index, 2);
        assert_eq!(index.scores("头痛", &[0])[0], 0.0);
    }
}
