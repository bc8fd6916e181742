//! mteb's descriptive statistics, `descriptive_stats.json`.
//!
//! # Reference
//! The fields and rules of mteb 2.12's `calculate_text_statistics` and its neighbours; lengths are in characters.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

/// Length statistics of texts, gathered one by one; of repeated texts only hashes are kept.
#[derive(Debug, Default)]
pub(super) struct Texts {
    count: usize,
    total: usize,
    least: Option<usize>,
    most: usize,
    unique: HashSet<u128>,
}

impl Texts {
    pub(super) fn add(&mut self, text: &str) {
        let length = text.chars().count();
        self.count += 1;
        self.total += length;
        self.least = Some(self.least.map_or(length, |least| least.min(length)));
        self.most = self.most.max(length);
        self.unique.insert(hash(text));
    }

    pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| all.add(text));
        all
    }

    fn json(&self) -> Value {
        json!({
            "total_text_length": self.total,
            "min_text_length": self.least.unwrap_or_default(),
            "average_text_length": self.total as f64 / self.count.max(1) as f64,
            "max_text_length": self.most,
            "unique_texts": self.unique.len(),
        })
    }
}

/// 128 bits of SHA-256: no two texts of a corpus share them.
fn hash(text: &str) -> u128 {
    u128::from_str_radix(&care_core::files::sha256_hex(text)[..32], 16).unwrap_or_default()
}

/// Statistics of a retrieval split, or of a reranking split with its candidates.
pub(super) fn retrieval(
    corpus: &Texts,
    queries: &Texts,
    qrels: &BTreeMap<String, BTreeMap<String, i32>>,
    candidates: Option<&BTreeMap<String, Vec<String>>>,
) -> Value {
    let judged = || qrels.values().flatten();
    let relevant = judged().filter(|(_, grade)| **grade != 0).count();
    let unique: HashSet<_> = judged().map(|(id, _)| id).collect();
    let top_ranked = candidates.map(|lists| {
        let all: usize = lists.values().map(Vec::len).sum();
        json!({
            "num_top_ranked": all,
            "min_top_ranked_per_query": lists.values().map(Vec::len).min(),
            "average_top_ranked_per_query": all as f64 / lists.len().max(1) as f64,
            "max_top_ranked_per_query": lists.values().map(Vec::len).max(),
        })
    });
    json!({
        "num_samples": corpus.count + queries.count,
        "number_of_characters": corpus.total + queries.total,
        "documents_text_statistics": corpus.json(),
        "documents_image_statistics": null,
        "documents_audio_statistics": null,
        "queries_text_statistics": queries.json(),
        "queries_image_statistics": null,
        "queries_audio_statistics": null,
        "relevant_docs_statistics": {
            "num_relevant_docs": relevant,
            "min_relevant_docs_per_query": qrels.values().map(BTreeMap::len).min(),
            "average_relevant_docs_per_query": relevant as f64 / qrels.len().max(1) as f64,
            "max_relevant_docs_per_query": qrels.values().map(BTreeMap::len).max(),
            "unique_relevant_docs": unique.len(),
        },
        "top_ranked_statistics": top_ranked,
    })
}

/// Statistics of a similarity split.
pub(super) fn sts(rows: &[(String, String, f64)]) -> Value {
    let (first, second) =
        (Texts::of(rows.iter().map(|row| row.0.as_str())), Texts::of(rows.iter().map(|row| row.1.as_str())));
    let unique: HashSet<_> = rows.iter().map(|row| (&row.0, &row.1)).collect();
    let scores = || rows.iter().map(|row| row.2);
    json!({
        "num_samples": rows.len(),
        "number_of_characters": first.total + second.total,
        "unique_pairs": unique.len(),
        "text1_statistics": first.json(),
        "text2_statistics": second.json(),
        "image1_statistics": null,
        "image2_statistics": null,
        "audio1_statistics": null,
        "audio2_statistics": null,
        "label_statistics": {
            "min_score": scores().reduce(f64::min),
            "avg_score": scores().sum::<f64>() / rows.len().max(1) as f64,
            "max_score": scores().reduce(f64::max),
        },
    })
}
