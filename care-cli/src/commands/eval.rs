//! `care eval`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::index::VectorFormat;
use care_encoders::{CrossEncoder, tower_fingerprint};
use care_eval::{Run, Ties};
use cmedteb::{Fusion, Outcome, Protocol, Report, StsMode, Task};
use serde_json::{Value, json};

use crate::model::{BM25, CacheArgs, Model, PairArgs};
use crate::progress::Progress;
use crate::reranker::{Loaded, RerankerArgs, RunArgs};
use crate::stderr::note;
use crate::tasks::{TaskArgs, warn};

#[derive(clap::Args)]
#[command(
    after_help = "`--model bm25`, unless there is such a model, evaluates BM25 over character bigrams, a baseline for retrieval tasks."
)]
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
    /// Fuse the model's rankings with BM25's; for retrieval tasks, others are skipped. rrf: by reciprocal ranks. weighted:W:
    /// by normalised scores, with the weight W of the model from 0 to 1, by default 0.5
    #[arg(long, value_name = "rrf|weighted[:W]")]
    hybrid: Option<Fusion>,
    #[command(flatten)]
    reranker: RerankerArgs,
    /// Number of documents of each query of a retrieval task that --reranker reorders
    #[arg(long, value_name = "K", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..),
          requires = "reranker")]
    rerank_depth: u32,
    /// Folder for the results of model and reranker together; by default that of --output with `-reranked` after its name
    #[arg(long, value_name = "DIR", requires = "reranker")]
    reranked_output: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let tasks = tasks(&args)?;
    let outputs = Outputs::create(&args)?;
    let tested = Tested::open(&args)?;
    let reranker = args.reranker.open(&RunArgs::from(&args.pair.model))?;
    let retrieval = |task: &Task| task.as_retrieval().is_some();
    let reranked = |task: &Task| reranker.is_some() && !matches!(task, Task::Sts(_));
    if let Some(limit) = tested.limit()
        && !tasks.iter().any(|task| retrieval(task) || reranked(task))
    {
        let mut names: Vec<&str> = tasks.iter().map(Task::name).collect();
        names.sort_unstable();
        bail!("{limit}, not for {}", names.join(", "));
    }
    let index = if args.half_index { VectorFormat::F16 } else { VectorFormat::F32 };
    let protocol =
        Protocol::default().with_sts(args.sts).with_ties(args.ties).with_depth(args.depth as usize).with_index(index);
    let mut out = std::io::stdout().lock();
    let mut without_score = Vec::new();
    for task in &tasks {
        let outcome = match tested.evaluate(task, &protocol) {
            Err(error) if cmedteb::is_undefined(&error) => {
                without_score.push(error.to_string());
                continue;
            }
            outcome => outcome?,
        };
        if let Some(outcome) = &outcome {
            write(&mut out, task, task.name(), outcome, tested.settings(), &outputs.plain)?;
        }
        let Some(Loaded { reranker, settings }) = &reranker else { continue };
        let run = outcome.as_ref().and_then(Outcome::run);
        let depth = args.rerank_depth as usize;
        if let Some(outcome) = rerank(task, run, reranker, depth, &protocol)? {
            let settings = json!({ "model": tested.settings(), "reranker": settings, "rerank_depth": depth });
            write(&mut out, task, &format!("{} (reranked)", task.name()), &outcome, settings, &outputs.reranked)?;
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

/// Opens the tasks, with the options that apply to them.
fn tasks(args: &Args) -> Result<Vec<Task>> {
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
    Ok(tasks)
}

/// The folders of the results, one row each in a report.
struct Outputs {
    plain: PathBuf,
    reranked: PathBuf,
}

impl Outputs {
    fn create(args: &Args) -> Result<Self> {
        let beside = || {
            let mut name = args.output.file_name().unwrap_or_default().to_owned();
            name.push(RERANKED);
            args.output.with_file_name(name)
        };
        let reranked = args.reranked_output.clone().unwrap_or_else(beside);
        let outputs = Self { plain: args.output.clone(), reranked };
        let folders =
            if args.reranker.is_set() { vec![&outputs.plain, &outputs.reranked] } else { vec![&outputs.plain] };
        for folder in folders {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(outputs)
    }
}

/// Follows the name of the output folder in that of the reranked results.
const RERANKED: &str = "-reranked";

/// Evaluates a reranker on a task: on the best documents of a run, or on the candidates of a reranking task.
fn rerank(
    task: &Task,
    run: Option<&Run>,
    reranker: &CrossEncoder,
    depth: usize,
    protocol: &Protocol,
) -> Result<Option<Outcome>> {
    let mut progress = None;
    let mut report = |now: cmedteb::Progress| {
        let start = || Progress::start(&format!("{} (reranked)", task.name()), Some(now.total), "pairs");
        progress.get_or_insert_with(start).set(now.encoded);
    };
    let outcome = match (task, run) {
        (Task::Retrieval(task), Some(run)) => {
            cmedteb::evaluate_reranked(task, run, reranker, depth, protocol, &mut report)?
        }
        (Task::Reranking(task), _) => cmedteb::evaluate_reranker(task, reranker, protocol, &mut report)?,
        _ => {
            note!("note: {} is not reranked: it has no documents to rank", task.name());
            return Ok(None);
        }
    };
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(Some(outcome))
}

/// Writes the result file and the ranking of a task, and prints its scores under a name.
fn write(
    out: &mut impl Write,
    task: &Task,
    name: &str,
    outcome: &Outcome,
    settings: Value,
    folder: &Path,
) -> Result<()> {
    let file = Report::new(task, outcome, settings).write(folder)?;
    for (measure, score) in &outcome.scores {
        writeln!(out, "{name}\t{measure}\t{score:.4}")?;
    }
    if let Some(run) = outcome.run() {
        // TREC files are separated by spaces, so an id with a space cannot be written; the scores still are.
        let path = file.with_extension("trec");
        if let Err(error) = care_eval::io::write_trec_run(&path, run, "care") {
            note!("warning: cannot write the ranking {}: {error}", path.display());
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// The system under evaluation.
enum Tested {
    /// A model, its settings for the report, and how it is fused with BM25, if it is.
    Model(Model, Value, Option<Fusion>),
    /// BM25 over character bigrams.
    Bm25,
}

impl Tested {
    fn open(args: &Args) -> Result<Self> {
        if args.pair.model.is_bm25() {
            if args.hybrid.is_some() {
                bail!("--hybrid fuses a model with {BM25}, so --model must be another");
            }
            return Ok(Tested::Bm25);
        }
        let (pair, source) = args.pair.open()?;
        let mut settings = json!({
            "model": source["model"],
            "commit": source["commit"],
            "precision": pair.document().summary().precision.value,
            "query_precision": pair.query().summary().precision.value,
            "index": if args.half_index { "f16" } else { "f32" },
            "burn": BURN,
            "query": tower_settings(pair.query())?,
            "document": tower_settings(pair.document())?,
        });
        if let Some(fusion) = args.hybrid {
            settings["hybrid"] = json!(fusion.to_string());
        }
        Ok(Tested::Model(args.cache.model(pair)?, settings, args.hybrid))
    }

    /// Why tasks other than retrieval are skipped, if they are.
    fn limit(&self) -> Option<&'static str> {
        match self {
            Tested::Model(_, _, None) => None,
            Tested::Model(_, _, Some(_)) => Some("--hybrid is for retrieval tasks only"),
            Tested::Bm25 => Some("bm25 is a baseline for retrieval tasks only"),
        }
    }

    /// The outcome on a task; `None` if it is skipped.
    fn evaluate(&self, task: &Task, protocol: &Protocol) -> care_core::Result<Option<Outcome>> {
        let retrieval = task.as_retrieval();
        if let (Some(limit), None) = (self.limit(), retrieval) {
            note!("note: {} is skipped: {limit}", task.name());
            return Ok(None);
        }
        let mut progress = None;
        let mut report = |now: cmedteb::Progress| {
            let start = || Progress::start(task.name(), Some(now.total), "texts");
            progress.get_or_insert_with(start).set(now.encoded);
        };
        let outcome = match (self, retrieval) {
            (Tested::Model(model, _, Some(fusion)), Some(task)) => {
                cmedteb::evaluate_hybrid(task, model.embedder(), fusion, protocol, &mut report)
            }
            (Tested::Bm25, Some(task)) => cmedteb::score_run(task, cmedteb::bm25(task, protocol)?, protocol),
            (Tested::Model(model, ..), _) => cmedteb::evaluate(task, model.embedder(), protocol, &mut report),
            (Tested::Bm25, None) => return Ok(None),
        };
        if let Some(progress) = progress {
            progress.finish();
        }
        if let Tested::Model(model, ..) = self {
            model.warn();
        }
        outcome.map(Some)
    }

    fn settings(&self) -> Value {
        match self {
            Tested::Model(_, settings, _) => settings.clone(),
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
