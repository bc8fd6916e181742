//! The result file of an evaluation.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::files::write_atomic;
use care_core::{Error, Result};
use care_eval::{Missing, Ties};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::protocol::{Evidence, Outcome};
use crate::task::{RetrievalTask, StsMode, Task};
use crate::tasks::names;

/// A task's scores in the form of mteb's result files, with an additional object `care`.
///
/// # Reference
/// mteb's `TaskResult`. DIFFERENCE: `mteb_version` is null, because mteb was not run; `dataset_revision` is
/// [`Task::fingerprint`], not a commit; date and emissions are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    dataset_revision: String,
    task_name: String,
    mteb_version: Option<String>,
    scores: BTreeMap<String, [Scores; 1]>,
    evaluation_time: Option<f64>,
    care: Care,
}

/// The scores of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Scores {
    main_score: f64,
    #[serde(flatten, serialize_with = "as_map")]
    scores: Vec<(String, f64)>,
    hf_subset: String,
    languages: [&'static str; 1],
}

/// The values behind a main score, per query or per pair, for comparing two models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Single {
    /// For a ranking: the main score of each query.
    Queries {
        /// The measure, e.g. `ndcg@10`.
        main: String,
        /// The score by query id.
        queries: BTreeMap<String, f64>,
    },
    /// For STS: the human score and the model's cosine of each pair.
    Pairs {
        /// The key of the main score.
        main: String,
        /// Score and cosine, in the order of the task.
        pairs: Vec<(f64, f64)>,
    },
}

impl Single {
    pub(crate) fn of(task: &Task, outcome: &Outcome) -> Self {
        match (&outcome.evidence, task) {
            (Evidence::Similarity { cosines, .. }, Task::Sts(task)) => Self::Pairs {
                main: outcome.scores[0].0.clone(),
                pairs: task.pairs().iter().map(|pair| pair.score).zip(cosines.iter().copied()).collect(),
            },
            (Evidence::Ranking { evaluation, .. }, _) => {
                let main = evaluation.measures.iter().next().map(|(measure, _)| measure);
                let of_main = |scores: &care_eval::Scores| main.and_then(|main| scores.get(main)).unwrap_or(0.0);
                let queries = evaluation.per_query.iter().map(|(id, scores)| (id.clone(), of_main(scores))).collect();
                Self::Queries { main: main.map(|main| main.to_string()).unwrap_or_default(), queries }
            }
            (Evidence::Similarity { .. }, _) => unreachable!("cosines are of an STS task"),
        }
    }

    /// Number of queries or pairs.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Queries { queries, .. } => queries.len(),
            Self::Pairs { pairs, .. } => pairs.len(),
        }
    }

    /// The measure of the main score.
    pub fn main(&self) -> &str {
        match self {
            Self::Queries { main, .. } | Self::Pairs { main, .. } => main,
        }
    }
}

/// What is needed to interpret, reproduce and compare the scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Care {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_dim: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ties: Option<Ties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Missing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sts_mode: Option<StsMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent_judged: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_rows: Option<usize>,
    /// Written only if set, so that results without it stay comparable with older ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_identical_ids: bool,
    settings: Value,
    evidence: Single,
}

impl Report {
    /// A report of an outcome; `settings` describes the model in any form.
    pub fn new(task: &Task, outcome: &Outcome, settings: Value) -> Self {
        let scores = Scores {
            main_score: outcome.main_score(),
            scores: outcome.scores.clone(),
            hf_subset: task.subset().to_owned(),
            languages: [if names().any(|name| name == task.name()) { "cmn-Hans" } else { "und" }],
        };
        let (ties, missing, sts_mode) = match &outcome.evidence {
            Evidence::Ranking { evaluation, .. } => (Some(evaluation.ties), Some(evaluation.missing), None),
            Evidence::Similarity { mode, .. } => (None, None, Some(*mode)),
        };
        let single = Single::of(task, outcome);
        let (absent_judged, dropped_rows) = match task {
            Task::Retrieval(task) => (Some(task.absent_judged()), None),
            Task::Reranking(task) => (None, Some(task.dropped())),
            Task::Sts(_) => (None, None),
        };
        Self {
            dataset_revision: task.fingerprint(),
            task_name: task.name().to_owned(),
            mteb_version: None,
            scores: BTreeMap::from([(task.split().to_owned(), [scores])]),
            evaluation_time: outcome.seconds,
            care: Care {
                version: env!("CARGO_PKG_VERSION"),
                embedding_dim: outcome.embedding_dim,
                ties,
                missing,
                sts_mode,
                absent_judged,
                dropped_rows,
                ignore_identical_ids: task.as_retrieval().is_some_and(RetrievalTask::ignores_identical_ids),
                settings,
                evidence: single,
            },
        }
    }

    /// The file's content.
    ///
    /// # Panics
    /// Never: a report consists of numbers and strings.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is JSON")
    }

    /// Writes `<task name>.json` into a folder, which is created if needed, and returns its path. The file is written
    /// atomically and replaces an older one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](care_core::ErrorKind::Io) if the folder or the file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<PathBuf> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let path = folder.join(format!("{}.json", self.task_name));
        write_atomic(&path, self.to_json())?;
        Ok(path)
    }
}

fn as_map<S: Serializer>(scores: &[(String, f64)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(scores.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::{Protocol, evaluate};
    use crate::task::{RerankingTask, StsTask};
    use crate::testing::{Table, pair, row};

    fn reported(task: &Task, model: &Table) -> Value {
        let outcome = evaluate(task, model, &Protocol::default(), &mut |_| {}).expect("evaluated");
        let report = Report::new(task, &outcome, json!({"model": "toy"}));
        let mut value: Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert!(value["evaluation_time"].take().as_f64().expect("seconds") >= 0.0);
        value
    }

    #[test]
    fn a_report_has_the_form_of_mtebs() {
        let table = Table::new(1).query("q", [1.0]).document("a", [2.0]).document("b", [1.0]);
        let rows = vec![row("q", &["a"], &["b"]), row("q", &["a"], &[])];
        let task = Task::Reranking(RerankingTask::new("toy", "test", rows).expect("valid"));
        let expected = json!({
            "dataset_revision": task.fingerprint(),
            "task_name": "toy",
            "mteb_version": null,
            "scores": {"test": [{
                "main_score": 1.0, "map_at_10": 1.0, "map_at_1000": 1.0, "mrr_at_10": 1.0, "ndcg_at_10": 1.0,
                "hf_subset": "default", "languages": ["und"],
            }]},
            "evaluation_time": null,
            "care": {
                "version": env!("CARGO_PKG_VERSION"), "embedding_dim": 1, "ties": "trec_eval", "missing": "zero",
                "dropped_rows": 1, "settings": {"model": "toy"},
                "evidence": {"main": "map@10", "queries": {"test_query0": 1.0}},
            },
        });
        assert_eq!(reported(&task, &table), expected);
    }

    #[test]
    fn only_tasks_of_the_table_are_known_to_be_chinese() {
        let table = Table::new(2).query("a", [1.0, 0.0]).query("b", [0.0, 1.0]).documents_like_queries();
        for (name, language) in
            [("mini-sts", "cmn-Hans"), ("CMedTEB-sts", "cmn-Hans"), ("clinic", "und"), ("STSB", "und")]
        {
            let pairs = vec![pair("a", "a", 5.0), pair("a", "b", 0.0)];
            let task = Task::Sts(StsTask::new(name, "test", pairs).expect("valid"));
            let report = reported(&task.with_subset("zh"), &table);
            let scores = &report["scores"]["test"][0];
            assert_eq!(scores["languages"], json!([language]), "{name}");
            assert_eq!(scores["hf_subset"], "zh", "{name}");
        }
    }

    #[test]
    fn an_sts_report_names_its_mode_and_no_rule_for_ties() {
        let table = Table::new(2).query("a", [1.0, 0.0]).query("b", [0.0, 1.0]).documents_like_queries();
        let pairs = vec![pair("a", "a", 5.0), pair("a", "b", 0.0)];
        let report = reported(&Task::Sts(StsTask::new("toy", "test", pairs).expect("valid")), &table);
        let scores = &report["scores"]["test"][0];
        for key in ["main_score", "cosine_spearman", "cosine_pearson"] {
            approx::assert_abs_diff_eq!(scores[key].as_f64().expect(key), 1.0, epsilon = 1e-12);
        }
        assert_eq!(report["care"]["sts_mode"], "query-query");
        assert_eq!(report["care"].get("ties"), None);
        assert_eq!(report["care"]["evidence"], json!({"main": "cosine_spearman", "pairs": [[5.0, 1.0], [0.0, 0.0]]}));
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let task =
            Task::Sts(StsTask::new("toy", "test", vec![pair("a", "a", 5.0), pair("a", "b", 0.0)]).expect("valid"));
        let table = Table::new(2).query("a", [1.0, 0.0]).query("b", [0.0, 1.0]).documents_like_queries();
        let outcome = evaluate(&task, &table, &Protocol::default(), &mut |_| {}).expect("evaluated");
        let results = folder.path().join("results/model");
        for settings in [json!(1), json!(2)] {
            let report = Report::new(&task, &outcome, settings);
            let path = report.write(&results).expect("written");
            assert_eq!(path, results.join("toy.json"));
            assert_eq!(fs::read_to_string(&path).expect("a file"), report.to_json());
        }
        assert_eq!(fs::read_dir(&results).expect("a folder").count(), 1);
    }
}
