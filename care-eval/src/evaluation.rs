//! The result of an evaluation.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::measure::Measure;
use crate::missing::Missing;
use crate::ties::Ties;

/// Means over queries, the values of each query, and the conventions behind them.
///
/// Serialises to
///
/// ```json
/// {"measures": {"ndcg@10": 0.5}, "queries": 16, "missing": "drop", "ties": "trec_eval",
///  "missing_queries": 1, "surplus_queries": 0, "longest_ranking": 100,
///  "per_query": {"q1": {"ndcg@10": 1.0}}}
/// ```
///
/// without `per_query` after [`without_per_query`](Evaluation::without_per_query).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean of each measure.
    pub measures: Scores,
    /// Number of queries that the means are over.
    pub queries: usize,
    /// How judged queries count that are not in the run.
    pub missing: Missing,
    /// How equal scores were ordered.
    pub ties: Ties,
    /// Number of judged queries that are not in the run.
    pub missing_queries: usize,
    /// Number of queries of the run without judgements, which are ignored.
    pub surplus_queries: usize,
    /// Number of documents in the longest ranking of a judged query.
    pub longest_ranking: usize,
    /// The values of each query, by query id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_query: BTreeMap<String, Scores>,
}

impl Evaluation {
    /// Remarks on measures that the rankings may be too short for, one sentence each: documents below the end of a
    /// ranking count as not retrieved.
    pub fn warnings(&self) -> Vec<String> {
        let deeper = self.measures.iter().map(|(measure, _)| measure);
        let deeper =
            deeper.filter(|measure| measure.cutoff().is_some_and(|cutoff| cutoff.get() > self.longest_ranking));
        let deeper: Vec<String> = deeper.map(|measure| measure.to_string()).collect();
        if deeper.is_empty() {
            return Vec::new();
        }
        let (measures, longest) = (deeper.join(", "), self.longest_ranking);
        vec![format!(
            "cut-offs below the end of the longest ranking, {longest} documents: {measures}; unless the rankings hold the \
             whole corpus, these are values at {longest}"
        )]
    }

    /// The same evaluation without the values of single queries.
    #[must_use]
    pub fn without_per_query(self) -> Self {
        Self { per_query: BTreeMap::new(), ..self }
    }
}

/// A value for each measure, in the order in which the measures were requested; serialises to a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores(Vec<(Measure, f64)>);

impl Scores {
    /// The value of a measure; `None` if it was not requested.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.iter().find(|(requested, _)| *requested == measure).map(|(_, value)| value)
    }

    /// Every measure and its value.
    pub fn iter(&self) -> impl Iterator<Item = (Measure, f64)> {
        self.0.iter().copied()
    }

    pub(crate) fn new(measures: &[Measure], value: impl Fn(Measure) -> f64) -> Self {
        Self(measures.iter().map(|&measure| (measure, value(measure))).collect())
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
