//! The scores that the CARE paper reports, beside one's own.

use care_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::results::Results;

/// The figures, in per cent, as printed there.
const PUBLISHED: &str = include_str!("../../data/published.json");

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Published {
    pub(super) source: String,
    /// The data set that the scores are of.
    pub(super) data: String,
    pub(super) rows: Vec<Row>,
}

/// The scores of a model in per cent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) model: String,
    /// Of query tower and document tower.
    pub(super) parameters: Option<String>,
    /// nDCG@10.
    pub(super) retrieval: Option<f64>,
    /// MAP@10.
    pub(super) reranking: Option<f64>,
    /// Pearson correlation.
    pub(super) sts: Option<f64>,
    pub(super) average: Option<f64>,
    /// Average of retrieval and reranking.
    pub(super) average_of_two: Option<f64>,
}

impl Published {
    pub(super) fn read() -> Result<Self> {
        serde_json::from_str(PUBLISHED).map_err(|e| Error::new(ErrorKind::Format, format!("published.json: {e}")))
    }
}

impl Row {
    /// A model's means over its tasks of each kind, in per cent, and the tasks.
    pub(super) fn of_results(model: &Results) -> (Self, Vec<&str>) {
        let mut tasks = Vec::new();
        let mut mean = |measures: &[&str], key: &str| {
            let found = model.tasks.iter().filter(|result| measures.contains(&result.measure().as_str()));
            let found: Vec<_> =
                found.filter_map(|result| Some((result.task.as_str(), *result.scores.get(key)?))).collect();
            tasks.extend(found.iter().map(|(task, _)| *task));
            (!found.is_empty()).then(|| 100.0 * found.iter().map(|(_, score)| score).sum::<f64>() / found.len() as f64)
        };
        let retrieval = mean(&["ndcg@10"], "ndcg_at_10");
        let reranking = mean(&["map@10", "map@1000"], "map_at_10");
        let sts = mean(&["cosine_spearman"], "cosine_pearson");
        let average_of_two = retrieval.zip(reranking).map(|(a, b)| (a + b) / 2.0);
        // How the paper averages over the kinds of tasks is not known.
        let row = Row {
            model: model.name.clone(),
            parameters: None,
            retrieval,
            reranking,
            sts,
            average: None,
            average_of_two,
        };
        (row, tasks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_of_two_follow_from_the_columns() {
        for row in Published::read().expect("valid").rows {
            let Some((average, (retrieval, reranking))) = row.average_of_two.zip(row.retrieval.zip(row.reranking))
            else {
                continue;
            };
            assert!((average - (retrieval + reranking) / 2.0).abs() < 0.006, "{}", row.model);
        }
    }
}
