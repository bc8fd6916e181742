//! Result files, read back: what a model got on each task, and what on each query.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use care_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::report::Single;
use crate::task::SPLITS;

/// A task's result, as a file holds it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's name.
    pub task: String,
    /// The fingerprint of its data.
    pub data: String,
    /// The score that the task is known by.
    pub main_score: f64,
    /// Every score by its key.
    pub scores: BTreeMap<String, f64>,
    /// What the main score is made of; `None` in files of other programs.
    pub single: Option<Single>,
    /// What the file says of the model and of the rules.
    pub about: Value,
}

/// A model's results: a folder of result files, one a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Results {
    /// What tables call the model: the folder's name.
    pub name: String,
    /// In the order of the tasks' names.
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
    /// Reads every result file of a folder: ours, and mteb's `TaskResult`, which lacks what comparisons need.
    ///
    /// # Errors
    /// When the folder or a file cannot be read, when a `.json` file with a `task_name` is no result, or when
    /// there is no result.
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
            return Err(Error::format(folder, "there is no result file of a task here"));
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

/// `None` if the file is something else than a result.
fn read_file(path: &Path) -> Result<Option<TaskResult>> {
    // Python writes numbers that are none, which JSON does not know.
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?.replace(": NaN", ": null");
    let value: Value = serde_json::from_str(&text).map_err(|e| Error::line(path, e.line(), &e).with_source(e))?;
    if value.get("task_name").is_none() {
        return Ok(None);
    }
    let bad = |problem: String| Error::new(ErrorKind::Format, format!("{}: {problem}", path.display()));
    let file: File = serde_json::from_value(value).map_err(|e| bad(format!("not a task's result: {e}")))?;
    let preferred = SPLITS.iter().filter_map(|split| file.scores.get(*split));
    let scores = preferred.chain(file.scores.values()).flatten().next();
    let scores = scores.ok_or_else(|| bad("there are no scores".to_owned()))?;
    let scores: BTreeMap<String, f64> =
        scores.iter().filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect();
    let main_score = *scores.get("main_score").ok_or_else(|| bad("there is no `main_score`".to_owned()))?;
    let mut about = file.care.unwrap_or(Value::Null);
    let single = about.as_object_mut().and_then(|care| care.remove("evidence"));
    let single = single.map(serde_json::from_value).transpose().map_err(|e| bad(format!("`evidence`: {e}")))?;
    let data = file.dataset_revision.unwrap_or_default();
    Ok(Some(TaskResult { task: file.task_name, data, main_score, scores, single, about }))
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
    fn what_is_no_result_is_named() {
        for (files, message) in [
            (vec![], "F: there is no result file of a task here"),
            (vec![("a.json", "{")], "F/a.json:1: EOF while parsing an object at line 1 column 1"),
            (vec![("a.json", "{\"task_name\": \"T\"}")], "F/a.json: not a task's result: missing field `scores`"),
            (vec![("a.json", "{\"task_name\": \"T\", \"scores\": {}}")], "F/a.json: there are no scores"),
            (
                vec![("a.json", "{\"task_name\": \"T\", \"scores\": {\"test\": [{\"map\": 1}]}}")],
                "F/a.json: there is no `main_score`",
            ),
        ] {
            assert_eq!(read(&files).expect_err(message), message);
        }
        let error = Results::read(Path::new("/no/such/folder")).expect_err("no folder").to_string();
        assert_eq!(error, "cannot read the folder /no/such/folder");
    }
}
