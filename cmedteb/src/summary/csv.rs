//! The summary as CSV.

use super::published::Published;
use super::tables::Summary;

/// The columns: the score of a model on a task, its difference to the first model, and where it is from.
const HEADER: [&str; 15] = [
    "task",
    "measure",
    "model",
    "score",
    "queries",
    "baseline",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "better",
    "same",
    "worse",
    "source",
];

impl Summary {
    /// One row per model and task, in full precision; a value that there is not is empty. Published scores are fractions, as
    /// the others.
    pub fn to_csv(&self) -> String {
        let mut text = line(&HEADER.map(str::to_owned));
        for task in self.tasks() {
            for model in &self.models {
                let Some(result) = model.task(task) else { continue };
                let mut cells = HEADER.map(|_| String::new());
                cells[..4].clone_from_slice(&[
                    task.into(),
                    result.measure(),
                    model.name.clone(),
                    result.main_score.to_string(),
                ]);
                cells[4] = result.single.as_ref().map(|single| single.count().to_string()).unwrap_or_default();
                let mut compared = self.corrected();
                if let Some((_, of, holm)) = compared.find(|(name, of, _)| *name == model.name && of.task == task) {
                    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
                    let [low, high] = [of.interval.map(|of| of.low), of.interval.map(|of| of.high)];
                    let values = [Some(of.difference()), low, high, of.p_value, holm];
                    cells[5] = self.baseline().to_owned();
                    cells[6..11].clone_from_slice(&values.map(number));
                    if !of.queries.is_empty() {
                        cells[11..14].clone_from_slice(&of.counts().map(|count| count.to_string()));
                    }
                }
                cells[14] = "measured".to_owned();
                text += &line(&cells);
            }
        }
        text += &self.published.as_ref().map(published).unwrap_or_default();
        text
    }
}

fn published(published: &Published) -> String {
    let mut text = String::new();
    for row in &published.rows {
        let scores = [
            ("-retrieval", "ndcg@10", row.retrieval),
            ("-reranking", "map@10", row.reranking),
            ("-sts", "cosine_pearson", row.sts),
            ("", "average", row.average),
            ("", "average of retrieval and reranking", row.average_of_two),
        ];
        for (task, measure, score) in scores {
            let Some(score) = score else { continue };
            let mut cells = HEADER.map(|_| String::new());
            // 5032 / 10000 is the number next to 0.5032, unlike 50.32 / 100.
            let score = (score * 100.0).round() / 10_000.0;
            let task = format!("{}{task}", published.data);
            cells[..4].clone_from_slice(&[task, measure.to_owned(), row.model.clone(), score.to_string()]);
            cells[14] = format!("published: {}", published.source);
            text += &line(&cells);
        }
    }
    text
}

fn line(cells: &[String]) -> String {
    let quote = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.iter().map(quote).collect::<Vec<_>>().join(",") + "\n"
}
