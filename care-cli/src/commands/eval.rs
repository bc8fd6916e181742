//! `care eval`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::index::VectorFormat;
use care_encoders::tower_fingerprint;
use care_eval::Ties;
use cmedteb::{Protocol, Report, StsMode, Task};
use serde_json::{Value, json};

use crate::model::{CacheArgs, Model, PairArgs};
use crate::progress::Progress;
use crate::stderr::note;
use crate::tasks::{TaskArgs, warn};

/// `--model bm25`, unless there is such a folder, evaluates the baseline for retrieval tasks: BM25 over character
/// bigrams.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    tasks: TaskArgs,
    /// Folder for one result file per task, and for the rankings of retrieval and reranking tasks
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    /// Towers that encode the two sentences of STS: query-query, query-document or document-document
    #[arg(long, default_value = "query-query")]
    sts: StsMode,
    /// Order of documents with equal scores: trec_eval, input_order, pessimistic, doc_id_ascending or expected
    #[arg(long, default_value = "trec_eval")]
    ties: Ties,
    /// Number of documents in the ranking of a query of a retrieval task, at least 100
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..))]
    depth: u32,
    /// Do not rank the document with a query's own id, for data whose queries are in the corpus, e.g. ArguAna
    #[arg(long)]
    ignore_identical_ids: bool,
    /// Store document vectors with 2 bytes per dimension instead of 4 while searching
    #[arg(long)]
    half_index: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut tasks = args.tasks.open()?;
    if args.ignore_identical_ids {
        if tasks.iter().all(|task| task.as_retrieval().is_none()) {
            bail!("--ignore-identical-ids applies only to retrieval, and no task is");
        }
        let retrieval = |task: Task| match task {
            Task::Retrieval(task) => Task::Retrieval(task.with_ignore_identical_ids(true)),
            other => other,
        };
        tasks = tasks.into_iter().map(retrieval).collect();
    }
    warn(&tasks);
    let mut names: Vec<&str> = tasks.iter().map(Task::name).collect();
    names.sort_unstable();
    if let Some(duplicate) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("two tasks are named {}: their results would overwrite each other", duplicate[0]);
    }
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;
    let tested = Tested::open(&args)?;
    if matches!(tested, Tested::Bm25) && tasks.iter().all(|task| task.as_retrieval().is_none()) {
        bail!("{BM25} is a baseline for retrieval tasks only, not for {}", names.join(", "));
    }
    let index = if args.half_index { VectorFormat::F16 } else { VectorFormat::F32 };
    let protocol =
        Protocol::default().with_sts(args.sts).with_ties(args.ties).with_depth(args.depth as usize).with_index(index);
    let mut out = std::io::stdout().lock();
    let mut without_score = Vec::new();
    for task in &tasks {
        let mut progress = None;
        let outcome = match &tested {
            Tested::Model(model, _) => cmedteb::evaluate(task, model.embedder(), &protocol, &mut |now| {
                let start = || Progress::start(task.name(), Some(now.total), "texts");
                progress.get_or_insert_with(start).set(now.encoded);
            }),
            Tested::Bm25 => match task.as_retrieval() {
                Some(task) => cmedteb::score_run(task, cmedteb::bm25(task, &protocol)?, &protocol),
                None => {
                    note!("note: {} is skipped: {BM25} is a baseline for retrieval tasks only", task.name());
                    continue;
                }
            },
        };
        if let Some(progress) = progress {
            progress.finish();
        }
        if let Tested::Model(model, _) = &tested {
            model.warn();
        }
        let outcome = match outcome {
            Err(error) if cmedteb::is_undefined(&error) => {
                without_score.push(error.to_string());
                continue;
            }
            outcome => outcome?,
        };
        let file = Report::new(task, &outcome, tested.settings()).write(&args.output)?;
        for (measure, score) in &outcome.scores {
            writeln!(out, "{}\t{measure}\t{score:.4}", task.name())?;
        }
        if let Some(run) = outcome.run() {
            // TREC files are separated by spaces, so an id with a space cannot be written; the scores still are.
            let path = file.with_extension("trec");
            if let Err(error) = care_eval::io::write_trec_run(&path, run, "care") {
                note!("warning: cannot write the ranking {}: {error}", path.display());
                let _ = std::fs::remove_file(path);
            }
        }
    }
    match without_score.is_empty() {
        true => Ok(()),
        false => {
            let (count, all, problems) = (without_score.len(), tasks.len(), without_score.join("; "));
            bail!("{count} of {all} tasks have no score and no result file: {problems}")
        }
    }
}

/// The name of the baseline, given in place of a model.
const BM25: &str = "bm25";

/// The system under evaluation.
enum Tested {
    /// A model, and its settings for the report.
    Model(Model, Value),
    /// BM25 over character bigrams.
    Bm25,
}

impl Tested {
    fn open(args: &Args) -> Result<Self> {
        if args.pair.model.name() == BM25 && !Path::new(BM25).exists() {
            return Ok(Tested::Bm25);
        }
        let (pair, source) = args.pair.open()?;
        let [query_precision, document_precision] = args.pair.precisions();
        let settings = json!({
            "model": source["model"],
            "commit": source["commit"],
            "precision": document_precision,
            "query_precision": query_precision,
            "index": if args.half_index { "f16" } else { "f32" },
            "burn": BURN,
            "query": tower_settings(pair.query())?,
            "document": tower_settings(pair.document())?,
        });
        Ok(Tested::Model(args.cache.model(pair)?, settings))
    }

    fn settings(&self) -> Value {
        match self {
            Tested::Model(_, settings) => settings.clone(),
            Tested::Bm25 => json!({ "model": BM25 }),
        }
    }
}

/// The version of burn that `Cargo.lock` pins.
const BURN: &str = "0.22.1";

#[cfg(test)]
#[test]
fn the_version_of_burn_is_the_one_that_is_pinned() {
    assert!(include_str!("../../../Cargo.lock").contains(&format!("name = \"burn\"\nversion = \"{BURN}\"\n")));
}

fn tower_settings<T: care_core::Text>(
    tower: &care_encoders::Tower<T, care_encoders::AnyEncoder>,
) -> care_core::Result<serde_json::Value> {
    Ok(json!({
        "weights": tower_fingerprint(tower)?,
        "head": tower.network().head(),
        "max_length": tower.tokenizer().max_length(),
        "instruction": tower.instruction().template(),
    }))
}
