//! Writes a task's folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use care_core::files::PartialFolder;
use care_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::card::Card;
use super::statistics::{self, Texts};
use super::tasks::{Built, CorpusDocument, Reranking, Retrieval, TaskKind, Visit};

/// Writes a task to a new folder, or replaces one that was written before. For a retrieval task, `corpus` visits its
/// documents; the other tasks need none.
///
/// # Errors
/// If a judged document is not in the corpus, or the folder cannot be written; nothing is then left of it.
pub fn write_task(folder: impl AsRef<Path>, task: &Built, card: &Card, corpus: Option<&mut Visit<'_>>) -> Result<()> {
    let folder = folder.as_ref();
    let replaces = !folder.exists() || folder.join("descriptive_stats.json").is_file() || is_empty(folder)?;
    if !replaces {
        let problem = format!("{} holds something else than a built task; choose a new folder", folder.display());
        return Err(Error::new(ErrorKind::Io, problem));
    }
    let partial = PartialFolder::create(folder)?;
    let at = partial.path();
    let (statistics, parts) = match task {
        Built::Retrieval(task) => write_retrieval(at, task, corpus)?,
        Built::Reranking(task) => write_reranking(at, task)?,
        Built::Sts(task) => {
            let mut statistics = Map::new();
            for (split, rows) in &task.rows {
                let row =
                    |(a, b, score): &(String, String, f64)| json!({"sentence1": a, "sentence2": b, "score": score});
                write_rows(&at.join(format!("{split}.jsonl")), rows.iter().map(row))?;
                statistics.insert(split.clone(), statistics::sts(rows));
            }
            let files = task.rows.keys().map(|split| (split.clone(), format!("{split}.jsonl"))).collect();
            (statistics, vec![("default", files)])
        }
    };
    let json = serde_json::to_string_pretty(&statistics).map_err(|e| Error::io("write", folder, e.into()))?;
    write_text(&at.join("descriptive_stats.json"), &(json + "\n"))?;
    write_text(&at.join("README.md"), &(front_matter(card, task, &parts) + &card.markdown(task, &statistics)))?;
    write_text(&at.join("task.py"), &task_class(card, task, &statistics))?;
    partial.commit()
}

/// The name of a part for the `datasets` library, and its splits with their files.
type Part = (&'static str, BTreeMap<String, String>);

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?.next().is_none())
}

fn write_retrieval(
    at: &Path,
    task: &Retrieval,
    corpus: Option<&mut Visit<'_>>,
) -> Result<(Map<String, Value>, Vec<Part>)> {
    let Some(corpus) = corpus else {
        return Err(Error::new(ErrorKind::Config, "a retrieval task needs a corpus"));
    };
    let path = at.join("corpus.jsonl");
    let mut out = BufWriter::new(File::create(&path).map_err(|e| Error::io("create", &path, e))?);
    let mut texts = Texts::default();
    let mut judged: std::collections::HashSet<&str> =
        task.qrels.values().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).map(String::as_str).collect();
    corpus(&mut |document| {
        if !task.left_out.contains(&document.id) {
            judged.remove(document.id.as_str());
            texts.add(&joined(&document));
            write_row(&mut out, &path, &document)?;
        }
        Ok(())
    })?;
    out.flush().map_err(|e| Error::io("write", &path, e))?;
    if let Some(absent) = judged.iter().min() {
        let problem = format!("{} judged documents are not in the corpus, e.g. `{absent}`", judged.len());
        return Err(Error::new(ErrorKind::Format, problem));
    }
    write_queries(at, task, &texts, None)
}

fn write_reranking(at: &Path, task: &Reranking) -> Result<(Map<String, Value>, Vec<Part>)> {
    let document =
        |(id, text): (&String, &String)| CorpusDocument { id: id.clone(), title: String::new(), text: text.clone() };
    write_rows(&at.join("corpus.jsonl"), task.documents.iter().map(document))?;
    let texts = Texts::of(task.documents.values().map(|text| text.trim()));
    let folder = at.join("top_ranked");
    fs::create_dir(&folder).map_err(|e| Error::io("create", &folder, e))?;
    for (split, lists) in &task.candidates {
        let row = |(query, ids): (&String, &Vec<String>)| json!({"query-id": query, "corpus-ids": ids});
        write_rows(&folder.join(format!("{split}.jsonl")), lists.iter().map(row))?;
    }
    let (statistics, mut parts) = write_queries(at, &task.base, &texts, Some(&task.candidates))?;
    let files = task.candidates.keys().map(|split| (split.clone(), format!("top_ranked/{split}.jsonl"))).collect();
    parts.push(("top_ranked", files));
    Ok((statistics, parts))
}

/// Writes queries and qrels; returns the statistics of each split, and the parts.
fn write_queries(
    at: &Path,
    task: &Retrieval,
    corpus: &Texts,
    candidates: Option<&BTreeMap<String, BTreeMap<String, Vec<String>>>>,
) -> Result<(Map<String, Value>, Vec<Part>)> {
    write_rows(&at.join("queries.jsonl"), task.queries.iter().map(|(id, text)| json!({"_id": id, "text": text})))?;
    let folder = at.join("qrels");
    fs::create_dir(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let (mut statistics, mut qrels) = (Map::new(), BTreeMap::new());
    for (split, judged) in &task.qrels {
        let rows = judged.iter().flat_map(|(query, grades)| {
            grades.iter().map(move |(id, grade)| json!({"query-id": query, "corpus-id": id, "score": grade}))
        });
        write_rows(&folder.join(format!("{split}.jsonl")), rows)?;
        let queries = task.queries.iter().filter(|(id, _)| judged.contains_key(id)).map(|(_, text)| text.as_str());
        let lists = candidates.and_then(|candidates| candidates.get(split));
        statistics.insert(split.clone(), statistics::retrieval(corpus, &Texts::of(queries), judged, lists));
        qrels.insert(split.clone(), format!("qrels/{split}.jsonl"));
    }
    let all = |file: &str| BTreeMap::from([("corpus".to_owned(), file.to_owned())]);
    let queries = BTreeMap::from([("queries".to_owned(), "queries.jsonl".to_owned())]);
    Ok((statistics, vec![("corpus", all("corpus.jsonl")), ("queries", queries), ("default", qrels)]))
}

/// What a tower reads of a document.
fn joined(document: &CorpusDocument) -> String {
    match document.title.is_empty() {
        true => document.text.trim().to_owned(),
        false => format!("{} {}", document.title, document.text).trim().to_owned(),
    }
}

fn front_matter(card: &Card, task: &Built, parts: &[Part]) -> String {
    let category = match task.kind() {
        TaskKind::Retrieval => "text-retrieval",
        TaskKind::Reranking => "text-ranking",
        TaskKind::Sts => "sentence-similarity",
    };
    let annotators = if card.reviewed { "machine-generated\n- expert-generated" } else { "machine-generated" };
    let mut text = format!(
        "---\nlanguage:\n- zh\nmultilinguality: monolingual\ntask_categories:\n- {category}\nannotations_creators:\n- {annotators}\n"
    );
    if let Some(license) = &card.license {
        text += &format!("license: {}\n", json!(license));
    }
    text += "tags:\n- medical\n- mteb\nconfigs:\n";
    for (name, files) in parts {
        text += &format!("- config_name: {name}\n  data_files:\n");
        files.iter().for_each(|(split, path)| text += &format!("  - split: {split}\n    path: {path}\n"));
    }
    text + "---\n"
}

/// The class that mteb needs, over the folder itself; `path` becomes the name on the hub once it is there.
fn task_class(card: &Card, task: &Built, statistics: &Map<String, Value>) -> String {
    let (module, base, kind, score) = match task.kind() {
        TaskKind::Retrieval => ("retrieval", "AbsTaskRetrieval", "Retrieval", "ndcg_at_10"),
        TaskKind::Reranking => ("retrieval", "AbsTaskRetrieval", "Reranking", "map_at_1000"),
        TaskKind::Sts => ("sts", "AbsTaskSTS", "STS", "cosine_spearman"),
    };
    let class: String = card.name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let class = if class.starts_with(|c: char| c.is_numeric()) { format!("Task{class}") } else { class };
    let splits: Vec<&String> = statistics.keys().collect();
    // One split is evaluated; the others are for training and for choosing models.
    let evaluated =
        splits.iter().find(|split| **split == "test").or(splits.last()).map_or("test", |split| split.as_str());
    let text = |value: &str| Value::from(value).to_string();
    let license = card.license.as_deref().map_or_else(|| text("not specified"), text);
    let scale = match task {
        Built::Sts(task) => {
            let scores = || task.rows.values().flatten().map(|row| row.2);
            let (low, high) = (scores().fold(f64::INFINITY, f64::min), scores().fold(f64::NEG_INFINITY, f64::max));
            format!("    min_score = {}\n    max_score = {}\n\n", low.floor(), high.ceil())
        }
        _ => String::new(),
    };
    format!(
        r#""""mteb's task over this folder: mteb.evaluate(model, tasks=[{class}()])."""

from pathlib import Path

from mteb.abstasks.{module} import {base}
from mteb.abstasks.task_metadata import TaskMetadata


class {class}({base}):
{scale}    metadata = TaskMetadata(
        name={name},
        description={description},
        # On the hub: its name there and the commit.
        dataset={{"path": str(Path(__file__).resolve().parent), "revision": "main"}},
        type="{kind}",
        category="t2t",
        modalities=["text"],
        eval_splits=["{evaluated}"],
        eval_langs=["cmn-Hans"],
        main_score="{score}",
        domains=["Medical", "Written"],
        license={license},
        annotations_creators="{annotators}",
        sample_creation="found",
    )
"#,
        name = text(&card.name),
        description = text(&card.description),
        annotators = card.annotators(),
    )
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Error::io("write", path, e))
}

fn write_rows<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).map_err(|e| Error::io("create", path, e))?);
    for row in rows {
        write_row(&mut out, path, &row)?;
    }
    out.flush().map_err(|e| Error::io("write", path, e))
}

fn write_row<T: Serialize>(out: &mut BufWriter<File>, path: &Path, row: &T) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("write", path, e);
    serde_json::to_writer(&mut *out, row).map_err(|e| failed(e.into()))?;
    out.write_all(b"\n").map_err(failed)
}
