//! Several models side by side, as tables of strings.

use std::collections::BTreeSet;

use care_core::{Error, ErrorKind, Result};
use care_eval::stats::{MOST_SAMPLES, holm};
use serde_json::Value;

use crate::compare::{Comparison, compare};
use crate::results::Results;

/// Models side by side, each compared with the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub(super) models: Vec<Results>,
    /// Comparisons of each model but the first.
    comparisons: Vec<Vec<Comparison>>,
    pub(super) notes: Vec<String>,
}

impl Summary {
    /// Compares each model with the first; `samples` and `seed` are those of [`compare`]. Results that cannot be compared
    /// are listed in [`notes`](Summary::notes).
    ///
    /// # Errors
    /// If there is no model, two models have the same name, or `samples` is above [`MOST_SAMPLES`].
    pub fn new(models: Vec<Results>, samples: usize, seed: u64) -> Result<Self> {
        if samples > MOST_SAMPLES {
            return Err(Error::setting("samples", samples, &format!("at most {MOST_SAMPLES}")));
        }
        let Some((first, others)) = models.split_first() else {
            return Err(Error::new(ErrorKind::Config, "there is no model to report on"));
        };
        let mut names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        names.sort_unstable();
        if let Some(equal) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::new(ErrorKind::Config, format!("two models are named {}", equal[0])));
        }
        let (mut comparisons, mut notes) = (Vec::new(), Vec::new());
        for other in others {
            let (compared, refused): (Vec<_>, Vec<_>) =
                compare(first, other, samples, seed).into_iter().partition(Result::is_ok);
            comparisons.push(compared.into_iter().flatten().collect());
            notes.extend(refused.into_iter().filter_map(|refused| Some(refused.err()?.to_string())));
        }
        Ok(Self { models, comparisons, notes })
    }

    /// The results that could not be compared, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tasks that any model has a result for.
    pub(super) fn tasks(&self) -> BTreeSet<&str> {
        self.models.iter().flat_map(|model| &model.tasks).map(|result| result.task.as_str()).collect()
    }

    /// The comparisons, each with the name of the model compared with the first.
    pub(super) fn compared(&self) -> impl Iterator<Item = (&str, &Comparison)> {
        let others = self.models.iter().skip(1).zip(&self.comparisons);
        others.flat_map(|(model, comparisons)| comparisons.iter().map(|comparison| (model.name.as_str(), comparison)))
    }

    /// The table of scores: task, measure, and each model's score.
    pub(super) fn scores(&self) -> Table {
        let header = ["task", "measure"].into_iter().chain(self.models.iter().map(|model| model.name.as_str()));
        let rows = self.tasks().into_iter().map(|task| {
            let results = self.models.iter().map(|model| model.task(task));
            let measure = results.clone().flatten().find_map(|result| result.single.as_ref()).map(|of| of.main());
            let scores =
                results.map(|result| result.map_or("–".to_owned(), |result| format!("{:.4}", result.main_score)));
            [task.to_owned(), measure.unwrap_or("main_score").to_owned()].into_iter().chain(scores).collect()
        });
        Table { header: header.map(str::to_owned).collect(), rows: rows.collect() }
    }

    /// The table of comparisons.
    pub(super) fn differences(&self) -> Table {
        let first = self.models.first().map_or("", |model| model.name.as_str());
        let header =
            ["task", "model", &format!("minus {first}"), "95 % interval", "p", "p (Holm)", "better / same / worse"];
        let p_values: Vec<f64> = self.compared().filter_map(|(_, comparison)| comparison.p_value).collect();
        // Of the same length and order; a p-value of this crate is never out of range.
        let mut corrected = holm(&p_values).unwrap_or_default().into_iter();
        let rows = self.compared().map(|(model, comparison)| {
            let interval =
                comparison.interval.map_or("–".to_owned(), |of| format!("{:+.4} to {:+.4}", of.low, of.high));
            let [p, holm] = [comparison.p_value, comparison.p_value.and_then(|_| corrected.next())]
                .map(|p| p.map_or("–".to_owned(), |p| format!("{p:.4}")));
            let counts = match comparison.queries.is_empty() {
                true => "–".to_owned(),
                false => comparison.counts().map(|count| count.to_string()).join(" / "),
            };
            let difference = format!("{:+.4}", comparison.difference());
            vec![comparison.task.clone(), model.to_owned(), difference, interval, p, holm, counts]
        });
        Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
    }

    /// The recorded data and settings of each result, as keys and values.
    pub(super) fn about(&self) -> Vec<(String, Vec<(String, String)>)> {
        let results = self.models.iter().flat_map(|model| model.tasks.iter().map(move |result| (model, result)));
        results
            .map(|(model, result)| {
                let mut facts = vec![("data".to_owned(), result.data.clone())];
                flatten("", &result.about, &mut facts);
                (format!("{} on {}", model.name, result.task), facts)
            })
            .collect()
    }
}

/// A table of strings.
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Collects the leaves of a JSON value with their paths.
fn flatten(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, facts);
            }
        }
        Value::Null => {}
        Value::String(text) => facts.push((path.to_owned(), text.clone())),
        other => facts.push((path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::Single;
    use crate::results::TaskResult;

    fn model(name: &str, shift: f64) -> Results {
        let queries =
            (0..30).map(|n| (format!("q{n:02}"), (f64::from(n % 7) / 10.0 + shift * f64::from(n % 2)).min(1.0)));
        let queries: std::collections::BTreeMap<String, f64> = queries.collect();
        let main_score = queries.values().sum::<f64>() / 30.0;
        let pairs = (0..20).map(|n| (f64::from(n), f64::from(n * (n % 3)) + shift)).collect();
        let result = |task: &str, main_score, single| TaskResult {
            task: task.to_owned(),
            data: "fnv1a-1".to_owned(),
            main_score,
            scores: Default::default(),
            single: Some(single),
            about: json!({"ties": "trec_eval", "settings": {"query": {"instruction": "a | b <c> {text}"}}}),
        };
        let ranking = Single::Queries { main: "ndcg@10".to_owned(), queries };
        let sts = Single::Pairs { main: "cosine_spearman".to_owned(), pairs };
        Results {
            name: name.to_owned(),
            tasks: vec![result("retrieval", main_score, ranking), result("sts", 0.5, sts)],
        }
    }

    #[test]
    fn markdown_holds_scores_differences_and_rules() {
        let summary = Summary::new(vec![model("base", 0.0), model("new|er", 0.2)], 500, 1).expect("comparable");
        let text = summary.to_markdown();
        assert!(text.contains("| task | measure | base | new\\|er |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| retrieval | ndcg@10 | 0.2833 | 0.3833 |"), "{text}");
        assert!(text.contains("| retrieval | new\\|er | +0.1000 | +0.0"), "{text}");
        assert!(text.contains("| 15 / 15 / 0 |"), "{text}");
        assert!(text.contains("- ties: trec_eval\n"), "{text}");
    }

    #[test]
    fn the_page_asks_nothing_of_a_network_and_shows_texts_as_they_are() {
        let summary = Summary::new(vec![model("base", 0.0), model("<b>new</b>", 0.2)], 500, 1).expect("comparable");
        let page = summary.to_html().expect("drawn");
        assert!(page.contains("&lt;b&gt;new&lt;/b&gt;") && !page.contains("<b>new"), "escaped");
        let pictures = if cfg!(feature = "plots") { [3, 1] } else { [0, 0] };
        assert_eq!(page.matches("<svg").count(), pictures[0], "scores, queries, intervals");
        for address in ["src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(address), "{address}");
        }
        let alone = Summary::new(vec![model("base", 0.0)], 500, 1).expect("one model");
        assert_eq!(alone.to_html().expect("drawn").matches("<svg").count(), pictures[1]);
    }

    #[test]
    fn what_cannot_be_compared_is_shown_without_its_comparison() {
        let mut foreign = model("theirs", 0.1);
        foreign.tasks[0].single = None;
        let summary = Summary::new(vec![model("ours", 0.0), foreign], 100, 1).expect("one task is comparable");
        let note = "ours and theirs cannot be compared on retrieval: a result file has no scores per query";
        assert_eq!(summary.notes(), [note]);
        let (text, page) = (summary.to_markdown(), summary.to_html().expect("drawn"));
        assert!(text.contains(note) && page.contains(note));
        assert!(text.contains("| retrieval | ndcg@10 | 0.2833 | 0.3333 |"), "{text}");
        assert!(text.contains("| sts | theirs |") && !text.contains("| retrieval | theirs |"), "{text}");
    }

    #[test]
    fn p_values_are_corrected_for_the_number_in_the_table() {
        let models = [("base", 0.0), ("a", 0.2), ("b", 0.05), ("c", -0.02)].map(|(name, shift)| model(name, shift));
        let summary = Summary::new(models.to_vec(), 500, 1).expect("comparable");
        let raw: Vec<f64> = summary.compared().filter_map(|(_, comparison)| comparison.p_value).collect();
        let expected: Vec<String> = holm(&raw).expect("valid").iter().map(|p| format!("{p:.4}")).collect();
        let table = summary.differences();
        assert_eq!(table.header[4..6], ["p", "p (Holm)"]);
        let ranked: Vec<_> = table.rows.iter().filter(|row| row[0] == "retrieval").collect();
        assert_eq!((raw.len(), ranked.len()), (3, 3));
        for (row, (raw, expected)) in ranked.iter().zip(raw.iter().zip(&expected)) {
            assert_eq!((&row[4], &row[5]), (&format!("{raw:.4}"), expected));
        }
        assert!(ranked.iter().any(|row| row[4] != row[5]), "{ranked:?}");
        assert!(table.rows.iter().filter(|row| row[0] == "sts").all(|row| row[4..6] == ["–", "–"]));
    }

    #[test]
    fn no_model_or_one_twice_is_refused() {
        let error = Summary::new(vec![model("base", 0.0)], 1_000_001, 1).expect_err("too many").to_string();
        assert_eq!(error, "`samples` is 1000001, allowed: at most 1000000");
        let error = Summary::new(Vec::new(), 10, 1).expect_err("none").to_string();
        assert_eq!(error, "there is no model to report on");
        let error = Summary::new(vec![model("a", 0.0), model("a", 0.1)], 10, 1).expect_err("twice").to_string();
        assert_eq!(error, "two models are named a");
    }
}
