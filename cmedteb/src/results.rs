//! Result files, read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use care_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::report::Single;
use crate::task::SPLITS;

/// A model's result on a task, read from a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's name.
    pub task: String,
    /// The fingerprint of its data.
    pub data: String,
    /// The main score.
    pub main_score: f64,
    /// Every score by its key, e.g. `ndcg_at_10`.
    pub scores: BTreeMap<String, f64>,
    /// The values behind the main score; `None` in files of other programs.
    pub single: Option<Single>,
    /// Settings of the model and of the evaluation, as recorded in the file.
    pub about: Value,
}

/// A model's results: a folder of result files, one per task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Results {
    /// The model's name in tables: the name of the folder.
    pub name: String,
    /// The results, ordered by task name.
    pub tasks: Vec<TaskResult>,
}

#[derive(Deserialize)]
struct File {
    task_name: String,
    dataset_revision: Option<String>,
    scores: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    care: Option<Value>,
}

impl Results {
    /// Reads every result file of a folder, of this crate or of mteb. Files of mteb lack the values that comparisons need.
    ///
    /// # Errors
    /// If the folder or a file cannot be read, if a `.json` file with a `task_name` is not a result, or if there are no
    /// results.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let mut tasks = Vec::new();
        for path in paths {
            tasks.extend(read_file(&path)?);
        }
        if tasks.is_empty() {
            return Err(Error::format(folder, "the folder has no result files"));
        }
        tasks.sort_by(|a: &TaskResult, b| a.task.cmp(&b.task));
        let real = folder.canonicalize().map_err(|e| Error::io("open the folder", folder, e))?;
        Ok(Self { name: real.file_name().unwrap_or_default().to_string_lossy().into_owned(), tasks })
    }

    /// The result of a task.
    pub fn task(&self, name: &str) -> Option<&TaskResult> {
        self.tasks.iter().find(|result| result.task == name)
    }
}

/// The result in a file; `None` if the file is not a result.
fn read_file(path: &Path) -> Result<Option<TaskResult>> {
    // Python writes NaN, which is not JSON.
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?.replace(": NaN", ": null");
    let value: Value = serde_json::from_str(&text).map_err(|e| Error::line(path, e.line(), &e).with_source(e))?;
    if value.get("task_name").is_none() {
        return Ok(None);
    }
    let bad = |problem: String| Error::format(path, problem);
    let file: File =
        serde_json::from_value(value).map_err(|e| bad(format!("not a result file: {e}")).with_source(e))?;
    let preferred = SPLITS.iter().filter_map(|split| file.scores.get(*split));
    let subsets = preferred.chain(file.scores.values()).find(|subsets| !subsets.is_empty());
    let scores = mean(subsets.ok_or_else(|| bad("`scores` is empty".to_owned()))?);
    let main_score = *scores.get("main_score").ok_or_else(|| bad("missing field `main_score`".to_owned()))?;
    let mut about = file.care.unwrap_or(Value::Null);
    let single = about.as_object_mut().and_then(|care| care.remove("evidence"));
    let single =
        single.map(serde_json::from_value).transpose().map_err(|e| bad(format!("`evidence`: {e}")).with_source(e))?;
    let data = file.dataset_revision.unwrap_or_default();
    Ok(Some(TaskResult { task: file.task_name, data, main_score, scores, single, about }))
}

/// The mean over the subsets of a split, as mteb's, of every score that all of them have.
fn mean(subsets: &[BTreeMap<String, Value>]) -> BTreeMap<String, f64> {
    let keys = subsets.first().into_iter().flat_map(BTreeMap::keys);
    let of = |key: &String| {
        let sum = subsets.iter().map(|subset| subset.get(key)?.as_f64()).sum::<Option<f64>>()?;
        Some((key.clone(), sum / subsets.len() as f64))
    };
    keys.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> std::result::Result<Results, String> {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("model");
        fs::create_dir(&folder).expect("made");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("written");
        }
        Results::read(&folder).map_err(|e| e.to_string().replace(&folder.display().to_string(), "F"))
    }

    #[test]
    fn files_of_mteb_are_read_and_others_left_alone() {
        let mteb = r#"{"task_name": "T", "dataset_revision": "abc", "mteb_version": "2.26",
            "scores": {"dev": [{"main_score": 0.1}], "test": [{"main_score": 0.5, "ndcg_at_10": 0.5, "naucs": NaN,
            "hf_subset": "default", "languages": []}]}}"#;
        let results = read(&[("T.json", mteb), ("meta.json", "{\"name\": 1}"), ("run.trec", "")]).expect("read");
        assert_eq!((results.name.as_str(), results.tasks.len()), ("model", 1));
        let task = results.task("T").expect("there");
        assert_eq!((task.main_score, task.scores["ndcg_at_10"], task.data.as_str()), (0.5, 0.5, "abc"));
        assert_eq!(task.single, None);
    }

    #[test]
    fn the_score_of_a_split_is_the_mean_over_its_subsets() {
        for (subsets, main_score, map) in [
            (r#"{"main_score": 0.5, "map": 1, "hf_subset": "a"}, {"main_score": 0.25, "hf_subset": "b"}"#, 0.375, None),
            (
                r#"{"main_score": 1, "map": 1}, {"main_score": 0, "map": 0}, {"main_score": 0.5, "map": 2}"#,
                0.5,
                Some(1.0),
            ),
        ] {
            let file = format!(r#"{{"task_name": "T", "scores": {{"test": [{subsets}]}}}}"#);
            let results = read(&[("T.json", &file)]).expect("read");
            assert_eq!((results.tasks[0].main_score, results.tasks[0].scores.get("map").copied()), (main_score, map));
        }
        let file = r#"{"task_name": "T", "scores": {"test": [{"main_score": 1}, {"main_score": NaN}]}}"#;
        assert_eq!(read(&[("T.json", file)]).expect_err("no mean"), "F/T.json: missing field `main_score`");
    }

    #[test]
    fn what_is_no_result_is_named() {
        for (files, message) in [
            (vec![], "F: the folder has no result files"),
            (vec![("a.json", "{")], "F/a.json:1: EOF while parsing an object at line 1 column 1"),
            (vec![("a.json", "{\"task_name\": \"T\"}")], "F/a.json: not a result file: missing field `scores`"),
            (vec![("a.json", "{\"task_name\": \"T\", \"scores\": {}}")], "F/a.json: `scores` is empty"),
            (
                vec![("a.json", "{\"task_name\": \"T\", \"scores\": {\"test\": [{\"map\": 1}]}}")],
                "F/a.json: missing field `main_score`",
            ),
        ] {
            assert_eq!(read(&files).expect_err(message), message);
        }
        let error = Results::read(Path::new("/no/such/folder")).expect_err("no folder").to_string();
        assert_eq!(error, "cannot read the folder /no/such/folder");
    }
}
