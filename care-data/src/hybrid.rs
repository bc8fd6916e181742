//! Hybrid search: BM25 and vectors over the same documents, fused.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use care_core::index::{FlatIndex, Hit, Index};
use care_core::{Embeddings, Error, ErrorKind, Result};

use crate::bm25::Bm25;

/// The constant of reciprocal rank fusion.
const K: f64 = 60.0;
/// The weight of vectors in `weighted`, if none is given.
const WEIGHT: f64 = 0.5;
/// The values that the text form has.
const ALLOWED: &str = "rrf, weighted or weighted:W, with the weight W of vectors from 0 to 1";

/// How two rankings become one. Its text form is `rrf`, `weighted` (weight 0.5) or `weighted:W`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fusion(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Kind {
    #[default]
    ReciprocalRank,
    /// The weight of vectors.
    Weighted(f64),
}

/// A document that [`Fusion::fuse`] ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HybridHit {
    /// Row of the document.
    pub index: usize,
    /// The fused score.
    pub score: f32,
    /// The document's BM25 score; `None` if it is not among the candidates of BM25.
    pub bm25: Option<f32>,
    /// The dot product of its vector and the query's; `None` if it is not among the candidates of the vectors.
    pub vector: Option<f32>,
}

impl Fusion {
    /// Reciprocal rank fusion, the default: a document scores the sum of `1 / (60 + rank)` over the rankings that have
    /// it, ranks from 1.
    ///
    /// # Reference
    /// Cormack, Clarke and Büttcher, *Reciprocal rank fusion outperforms Condorcet and individual rank learning
    /// methods*, SIGIR 2009.
    pub fn reciprocal_rank() -> Self {
        Self(Kind::ReciprocalRank)
    }

    /// A convex combination of normalised scores: `vectors` times the vectors' score plus `1 - vectors` times BM25's.
    ///
    /// The scores of each ranking are normalised to 0 to 1 by its lowest and highest (min-max), to 1 if all are equal. A
    /// document that a ranking lacks has 0 there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the weight is not from 0 to 1.
    ///
    /// # Reference
    /// Bruch, Gai and Ingber, *An analysis of fusion functions for hybrid retrieval*, TOIS 2023.
    pub fn weighted(vectors: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&vectors) {
            true => Ok(Self(Kind::Weighted(vectors))),
            false => Err(Error::setting("weight of vectors", vectors, "0 to 1")),
        }
    }

    /// The `k` best documents of two rankings: fused score descending, then row ascending, which is a total order.
    ///
    /// Each ranking is best first and has no document twice, as [`Bm25::search`] and [`Index::search`] return it. Scores are
    /// finite.
    pub fn fuse(&self, bm25: &[Hit], vectors: &[Hit], k: usize) -> Vec<HybridHit> {
        let [of_bm25, of_vectors] = match self.0 {
            Kind::ReciprocalRank => [reciprocal_ranks(bm25), reciprocal_ranks(vectors)],
            Kind::Weighted(weight) => [min_max(bm25, 1.0 - weight), min_max(vectors, weight)],
        };
        let mut sums: HashMap<usize, (f64, [Option<f32>; 2])> = HashMap::with_capacity(bm25.len() + vectors.len());
        for (half, (hits, shares)) in [(bm25, of_bm25), (vectors, of_vectors)].into_iter().enumerate() {
            for (hit, share) in hits.iter().zip(shares) {
                let (sum, scores) = sums.entry(hit.index).or_default();
                *sum += share;
                scores[half] = Some(hit.score);
            }
        }
        // Ordered by the rounded score: what looks equal is in the order of rows.
        let hits =
            sums.into_iter().map(|(index, (sum, [bm25, vector]))| HybridHit { index, score: sum as f32, bm25, vector });
        let mut hits: Vec<HybridHit> = hits.collect();
        hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        hits.truncate(k);
        hits
    }
}

/// What the document at a rank, from 1, adds to its sum in reciprocal rank fusion.
pub(crate) fn reciprocal_rank(rank: usize) -> f64 {
    1.0 / (K + rank as f64)
}

fn reciprocal_ranks(hits: &[Hit]) -> Vec<f64> {
    (1..=hits.len()).map(reciprocal_rank).collect()
}

/// The scores of hits, best first, normalised to 0 to 1 and times a weight.
fn min_max(hits: &[Hit], weight: f64) -> Vec<f64> {
    let of = |hit: Option<&Hit>| hit.map_or(0.0, |hit| f64::from(hit.score));
    let (high, low) = (of(hits.first()), of(hits.last()));
    let normalised = |hit: &Hit| if high > low { (f64::from(hit.score) - low) / (high - low) } else { 1.0 };
    hits.iter().map(|hit| weight * normalised(hit)).collect()
}

impl FromStr for Fusion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::setting("hybrid", format!("`{text}`"), ALLOWED);
        match text {
            "rrf" => Ok(Self::reciprocal_rank()),
            "weighted" => Self::weighted(WEIGHT),
            _ => {
                let weight =
                    text.strip_prefix("weighted:").and_then(|weight| weight.parse().ok()).ok_or_else(refuse)?;
                Self::weighted(weight).map_err(|_| refuse())
            }
        }
    }
}

impl fmt::Display for Fusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::ReciprocalRank => f.write_str("rrf"),
            Kind::Weighted(weight) => write!(f, "weighted:{weight}"),
        }
    }
}

/// BM25 and an index of vectors over the same documents, searched together.
///
/// ```
/// use care_core::Embeddings;
/// use care_core::index::FlatIndex;
/// use care_data::bm25::Bm25;
/// use care_data::hybrid::Hybrid;
///
/// let documents = Embeddings::from_rows(2, [[1.0, 0.0], [0.0, 1.0]])?;
/// let mut bm25 = Bm25::default();
/// bm25.add(&["头痛发热", "发热咳嗽"]);
/// let hybrid = Hybrid::new(bm25, FlatIndex::new(documents))?;
///
/// let query = Embeddings::from_rows(2, [[0.6, 0.8]])?;
/// let best = hybrid.search(&["咳嗽"], &query, 10)?[0][0];
/// assert_eq!((best.index, best.vector), (1, Some(0.8)));
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hybrid<I = FlatIndex> {
    bm25: Bm25,
    vectors: I,
    fusion: Fusion,
    depth: usize,
}

impl<I: Index> Hybrid<I> {
    /// Joins two indices whose documents are the same, in the same order; fused by [`Fusion::reciprocal_rank`] from 1000
    /// candidates of each.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if they differ in their numbers of documents.
    pub fn new(bm25: Bm25, vectors: I) -> Result<Self> {
        same("documents", bm25.len(), vectors.len())?;
        Ok(Self { bm25, vectors, fusion: Fusion::default(), depth: 1000 })
    }

    /// Sets how the rankings are fused.
    #[must_use]
    pub fn with_fusion(self, fusion: Fusion) -> Self {
        Self { fusion, ..self }
    }

    /// Sets the number of candidates that each index contributes per query. A search for more documents takes as many.
    #[must_use]
    pub fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.bm25.len()
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.bm25.is_empty()
    }

    /// Appends documents: their texts, and their vectors `[n, dim]`.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if texts and vectors differ in number, or if the vectors do not have the index's dimensions.
    pub fn add<S: AsRef<str> + Sync>(&mut self, texts: &[S], vectors: &Embeddings) -> Result<()> {
        same("documents", texts.len(), vectors.len())?;
        self.vectors.add(vectors)?;
        self.bm25.add(texts);
        Ok(())
    }

    /// The `k` best documents of each query, best first, from texts and their vectors `[n, dim]`; fewer if both indices find
    /// fewer.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if texts and vectors differ in number, or if the vectors do not have the index's dimensions.
    pub fn search<S>(&self, queries: &[S], vectors: &Embeddings, k: usize) -> Result<Vec<Vec<HybridHit>>>
    where
        S: AsRef<str> + Sync,
    {
        same("queries", queries.len(), vectors.len())?;
        let depth = self.depth.max(k);
        let by_vectors = self.vectors.search(vectors, depth)?;
        let by_words = self.bm25.search_all(queries, depth);
        Ok(by_words.iter().zip(&by_vectors).map(|(words, vectors)| self.fusion.fuse(words, vectors, k)).collect())
    }
}

fn same(what: &str, texts: usize, vectors: usize) -> Result<()> {
    match texts == vectors {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Dimension, format!("{what}: {texts} texts, but {vectors} vectors"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ranking of documents with few distinct scores, so that many tie, as an index returns it.
    fn ranking(most: usize) -> impl Strategy<Value = Vec<Hit>> {
        let scored = proptest::collection::btree_map(0usize..40, -6i8..6, 0..most);
        scored.prop_map(|scores| {
            let hits = scores.into_iter().map(|(index, score)| Hit { index, score: f32::from(score) / 4.0 });
            let mut hits: Vec<Hit> = hits.collect();
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
            hits
        })
    }

    fn score_of(hits: &[Hit], index: usize) -> Option<f32> {
        hits.iter().find(|hit| hit.index == index).map(|hit| hit.score)
    }

    /// The fused score of a document, from the definitions: each ranking is searched for it.
    fn naive(weight: Option<f64>, bm25: &[Hit], vectors: &[Hit], index: usize) -> f32 {
        let share = |hits: &[Hit], weight: Option<f64>| {
            let Some(place) = hits.iter().position(|hit| hit.index == index) else { return 0.0 };
            let Some(weight) = weight else { return 1.0 / (61.0 + place as f64) };
            let scores = || hits.iter().map(|hit| f64::from(hit.score));
            let (low, high) = (scores().fold(f64::MAX, f64::min), scores().fold(f64::MIN, f64::max));
            if low == high { weight } else { weight * ((f64::from(hits[place].score) - low) / (high - low)) }
        };
        (share(bm25, weight.map(|weight| 1.0 - weight)) + share(vectors, weight)) as f32
    }

    proptest! {
        #[test]
        fn fusing_equals_scoring_and_sorting_every_document(
            bm25 in ranking(30), vectors in ranking(30), weight in proptest::option::of(0u8..=4), k in 0usize..70,
        ) {
            let weight = weight.map(|weight| f64::from(weight) / 4.0);
            let fusion = weight.map_or(Ok(Fusion::reciprocal_rank()), Fusion::weighted).expect("0 to 1");
            let found = (0..40).filter(|&index| [&bm25, &vectors].iter().any(|hits| score_of(hits, index).is_some()));
            let mut expected: Vec<HybridHit> = found
                .map(|index| HybridHit {
                    index,
                    score: naive(weight, &bm25, &vectors, index),
                    bm25: score_of(&bm25, index),
                    vector: score_of(&vectors, index),
                })
                .collect();
            // Stable, and in the order of rows before.
            expected.sort_by(|a, b| b.score.total_cmp(&a.score));
            expected.truncate(k);
            prop_assert_eq!(fusion.fuse(&bm25, &vectors, k), expected);
        }

        #[test]
        fn a_hybrid_search_is_the_fusion_of_both_searches(
            texts in proptest::collection::vec("[头痛发热咳嗽]{0,6}", 1..40), query in "[头痛发热咳嗽]{0,6}",
            values in proptest::collection::vec(-3i8..=3, 7..20), k in 0usize..8, depth in 1usize..50, cut in 0usize..40,
        ) {
            let mut documents = Embeddings::zeros(texts.len(), 2);
            let value = |at: usize| f32::from(values[at % values.len()]);
            (0..texts.len()).for_each(|row| documents.set(row, &[value(2 * row), value(2 * row + 1)]));
            let mut vector = Embeddings::zeros(1, 2);
            vector.set(0, &[value(3), value(5)]);
            let (mut bm25, flat) = (Bm25::default(), FlatIndex::new(documents.clone()));
            bm25.add(&texts);
            let depth_of_each = depth.max(k);
            let by_vectors = flat.search(&vector, depth_of_each).expect("of 2 dimensions");
            let expected = Fusion::default().fuse(&bm25.search(&query, depth_of_each), &by_vectors[0], k);
            let whole = Hybrid::new(bm25, flat).expect("as many").with_depth(depth);
            prop_assert_eq!(&whole.search(&[&query], &vector, k).expect("found")[0], &expected);

            // Added in two groups, it finds the same.
            let empty = FlatIndex::with_capacity(2, 0, Default::default());
            let mut grown = Hybrid::new(Bm25::default(), empty).expect("empty").with_depth(depth);
            let cut = cut.min(texts.len());
            for (from, to) in [(0, cut), (cut, texts.len())] {
                let mut group = Embeddings::zeros(to - from, 2);
                (from..to).for_each(|row| group.set(row - from, &[value(2 * row), value(2 * row + 1)]));
                grown.add(&texts[from..to], &group).expect("as many");
            }
            prop_assert_eq!(&grown.search(&[&query], &vector, k).expect("found")[0], &expected);
        }
    }

    #[test]
    fn what_one_ranking_lacks_counts_zero_there() {
        let hits = |scores: &[(usize, f32)]| -> Vec<Hit> {
            scores.iter().map(|&(index, score)| Hit { index, score }).collect()
        };
        let (bm25, vectors) = (hits(&[(7, 9.0), (3, 5.0)]), hits(&[(1, 0.75), (7, 0.5), (4, 0.25)]));
        let fused = Fusion::weighted(0.75).expect("valid").fuse(&bm25, &vectors, 10);
        let fused: Vec<_> = fused.iter().map(|hit| (hit.index, hit.score, hit.bm25, hit.vector)).collect();
        let expected = [
            (1, 0.75, None, Some(0.75)),
            (7, 0.625, Some(9.0), Some(0.5)),
            (3, 0.0, Some(5.0), None),
            (4, 0.0, None, Some(0.25)),
        ];
        assert_eq!(fused, expected);
    }

    #[test]
    fn fusions_have_a_text_form() {
        for (text, fusion) in [
            ("rrf", Fusion::reciprocal_rank()),
            ("weighted:0.5", Fusion::weighted(0.5).expect("valid")),
            ("weighted:1", Fusion::weighted(1.0).expect("valid")),
        ] {
            assert_eq!((text.parse::<Fusion>().expect(text), fusion.to_string()), (fusion, text.to_owned()));
        }
        assert_eq!("weighted".parse::<Fusion>().expect("valid"), Fusion::weighted(0.5).expect("valid"));
        for text in ["", "sum", "weighted:", "weighted:2", "weighted:nan", "rrf:60"] {
            let error = text.parse::<Fusion>().expect_err(text).to_string();
            assert_eq!(error, format!("`hybrid` is `{text}`, allowed: {ALLOWED}"));
        }
        let error = Fusion::weighted(-0.5).expect_err("below 0").to_string();
        assert_eq!(error, "`weight of vectors` is -0.5, allowed: 0 to 1");
    }

    #[test]
    fn texts_and_vectors_must_be_as_many() {
        let mut bm25 = Bm25::default();
        bm25.add(&["头痛"]);
        let error = Hybrid::new(bm25.clone(), FlatIndex::new(Embeddings::zeros(2, 2))).expect_err("two");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Dimension, "documents: 1 texts, but 2 vectors")
        );
        let mut hybrid = Hybrid::new(bm25, FlatIndex::new(Embeddings::zeros(1, 2))).expect("one");
        assert!(hybrid.add(&["热"], &Embeddings::zeros(1, 3)).is_err());
        assert!(hybrid.add(&["热"], &Embeddings::zeros(2, 2)).is_err());
        assert_eq!((hybrid.len(), hybrid.vectors.len()), (1, 1));
        let error = hybrid.search(&["热"], &Embeddings::zeros(0, 2), 1).expect_err("no vector").to_string();
        assert_eq!(error, "queries: 1 texts, but 0 vectors");
    }
}
