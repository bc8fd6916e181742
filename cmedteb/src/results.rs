//! Result files, read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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
    /// The model's name in tables. From [`Results::read`]: `name` of mteb's `model_meta.json`, else the name of the folder.
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
    /// If the folder has none, but a single one of the folders in it has, that one is read: mteb's results are in
    /// `MODEL/REVISION/`.
    ///
    /// # Errors
    /// If the folder or a file cannot be read, if a `.json` file with a `task_name` is not a result, or if there are no
    /// results, or several folders of them.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let tasks = read_folder(folder)?;
        if !tasks.is_empty() {
            return Ok(Self { name: name_of(folder)?, tasks });
        }
        let inner = entries(folder)?.into_iter().filter(|path| path.is_dir());
        let mut inner: Vec<PathBuf> =
            inner.filter(|path| read_folder(path).is_ok_and(|tasks| !tasks.is_empty())).collect();
        match inner.len() {
            0 => Err(Error::format(folder, "the folder has no result files")),
            1 => Self::read(inner.remove(0)),
            _ => {
                let names: Vec<_> = inner.iter().map(|path| file_name(path)).collect();
                let problem =
                    format!("the folder has no result files, but folders that have some: {}", names.join(", "));
                Err(Error::format(folder, problem))
            }
        }
    }

    /// The result of a task.
    pub fn task(&self, name: &str) -> Option<&TaskResult> {
        self.tasks.iter().find(|result| result.task == name)
    }
}

impl TaskResult {
    /// The measure of the main score, e.g. `ndcg@10`. In files of other programs, which do not state it, the first usual
    /// main score that has its value, else `main_score`.
    pub(crate) fn measure(&self) -> String {
        if let Some(single) = &self.single {
            return single.main().to_owned();
        }
        let usual = ["ndcg_at_10", "map_at_1000", "map_at_10", "cosine_spearman"];
        let main = usual.into_iter().find(|key| self.scores.get(*key) == Some(&self.main_score));
        main.unwrap_or("main_score").replace("_at_", "@")
    }
}

/// The paths in a folder, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The results in a folder, ordered by task name.
fn read_folder(folder: &Path) -> Result<Vec<TaskResult>> {
    let mut tasks = Vec::new();
    for path in entries(folder)? {
        if path.extension().is_some_and(|extension| extension == "json") {
            tasks.extend(read_file(&path)?);
        }
    }
    tasks.sort_by(|a: &TaskResult, b| a.task.cmp(&b.task));
    Ok(tasks)
}

/// The name of the model whose results are in a folder. mteb's folder is named after a commit, and `model_meta.json` in it
/// has the model's name.
fn name_of(folder: &Path) -> Result<String> {
    let meta = fs::read_to_string(folder.join("model_meta.json")).ok();
    let meta: Option<Value> = meta.and_then(|text| serde_json::from_str(&text.replace(": NaN", ": null")).ok());
    if let Some(name) = meta.as_ref().and_then(|meta| meta["name"].as_str()).filter(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let real = folder.canonicalize().map_err(|e| Error::io("open the folder", folder, e))?;
    Ok(file_name(&real))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    fn a_folder_of_mteb_has_the_name_of_its_model() {
        let outer = tempfile::tempdir().expect("a folder");
        let model = outer.path().join("intfloat__multilingual-e5-small");
        let file = r#"{"task_name": "T", "scores": {"test": [{"main_score": 0.25, "ndcg_at_10": 0.25}]}}"#;
        let add = |revision: &str| {
            let folder = model.join(revision);
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join("T.json"), file).expect("written");
            fs::write(folder.join("model_meta.json"), r#"{"name": "intfloat/e5", "revision": "c007"}"#)
                .expect("written");
            folder
        };
        for folder in [add("c007d7ef6fd86656326059b28395a7a03a7c5846"), model.clone()] {
            let results = Results::read(&folder).expect("read");
            assert_eq!((results.name.as_str(), results.tasks.len()), ("intfloat/e5", 1));
            assert_eq!(results.tasks[0].measure(), "ndcg@10");
        }
        add("other");
        let error = Results::read(&model).expect_err("two revisions").to_string();
        let names = "c007d7ef6fd86656326059b28395a7a03a7c5846, other";
        assert!(
            error.ends_with(&format!("the folder has no result files, but folders that have some: {names}")),
            "{error}"
        );
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
