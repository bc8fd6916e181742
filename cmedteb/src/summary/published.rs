//! The scores that the CARE paper reports, beside one's own.

use care_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::tables::{Summary, Table, none};
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
    parameters: Option<String>,
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

impl Summary {
    /// The table of published scores after the means of these results, and what to know of it; `None` if it is not asked for.
    pub(super) fn published(&self) -> Option<(Table, String)> {
        let published = self.published.as_ref()?;
        let header = [
            "model",
            "parameters, query / document",
            "data",
            "retrieval nDCG@10",
            "reranking MAP@10",
            "STS Pearson",
            "average",
            "average of retrieval and reranking",
        ];
        let mut table = Table::new(header, 3);
        let mut foreign = false;
        for model in &self.models {
            let (row, tasks) = own(model);
            foreign |= tasks.iter().any(|task| !task.starts_with(&published.data));
            let data = if tasks.is_empty() { none() } else { tasks.join(", ") };
            table.rows.push(row.cells(data));
        }
        for row in &published.rows {
            let data = format!("published: {}", published.data);
            table.rows.push(row.cells(data));
        }
        let mut note = format!(
            "In per cent. Rows marked as published are figures of {}, on its data set {}; their averages are as printed there and \
             do not follow from the columns. The other rows are means over these results.",
            published.source, published.data
        );
        if foreign {
            note += &format!(
                " They are of other data than {}, so they cannot be compared with the published rows.",
                published.data
            );
        }
        Some((table, note))
    }
}

impl Row {
    fn cells(&self, data: String) -> Vec<String> {
        let scores = [self.retrieval, self.reranking, self.sts, self.average, self.average_of_two];
        let scores = scores.map(|score| score.map_or_else(none, |score| format!("{score:.2}")));
        [self.model.clone(), self.parameters.clone().unwrap_or_else(none), data].into_iter().chain(scores).collect()
    }
}

/// A model's means over its tasks of each kind, in per cent, and the tasks.
fn own(model: &Results) -> (Row, Vec<&str>) {
    let mut tasks = Vec::new();
    let mut mean = |measures: &[&str], key: &str| {
        let found = model.tasks.iter().filter(|result| measures.contains(&result.measure().as_str()));
        let found: Vec<_> = found.filter_map(|result| Some((result.task.as_str(), *result.scores.get(key)?))).collect();
        tasks.extend(found.iter().map(|(task, _)| *task));
        (!found.is_empty()).then(|| 100.0 * found.iter().map(|(_, score)| score).sum::<f64>() / found.len() as f64)
    };
    let retrieval = mean(&["ndcg@10"], "ndcg_at_10");
    let reranking = mean(&["map@10", "map@1000"], "map_at_10");
    let sts = mean(&["cosine_spearman"], "cosine_pearson");
    let average_of_two = retrieval.zip(reranking).map(|(a, b)| (a + b) / 2.0);
    // How the paper averages over the kinds of tasks is not known.
    let row =
        Row { model: model.name.clone(), parameters: None, retrieval, reranking, sts, average: None, average_of_two };
    (row, tasks)
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
