//! `care eval`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_encoders::AsymmetricEncoder;
use cmedteb::{Report, StsMode, Task};
use serde_json::{Value, json};

use crate::model::PairArgs;
use crate::progress::bar;

/// `--model bm25`, where there is no such folder, tests the baseline of retrieval tasks: BM25 over character bigrams.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Names of built-in tasks, or folders with tasks of your own
    #[arg(long = "task", value_name = "NAME|FOLDER", required = true, num_args = 1..)]
    tasks: Vec<String>,
    /// Folder for a result file a task, and for the rankings of retrieval and reranking tasks
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Which towers read the two sentences of STS: query-query, query-document or document-document
    #[arg(long, default_value = "query-query")]
    sts: StsMode,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut tasks: Vec<Task> = Vec::new();
    for name in &args.tasks {
        if Path::new(name).is_dir() {
            tasks.extend(cmedteb::load(name)?);
        } else {
            tasks.push(cmedteb::find(name)?);
        }
    }
    let mut names: Vec<&str> = tasks.iter().map(Task::name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("two tasks are named {}: their results would overwrite each other", twice[0]);
    }
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;
    let tested = Tested::open(&args.pair)?;
    let mut out = std::io::stdout().lock();
    for task in &tasks {
        let progress = bar(task.name(), 0);
        let outcome = match &tested {
            Tested::Pair(pair, _) => cmedteb::evaluate(task, pair.as_ref(), args.sts, &mut |now| {
                progress.set_length(now.total as u64);
                progress.set_position(now.encoded as u64);
            })?,
            Tested::Bm25 => match task.as_retrieval() {
                Some(task) => cmedteb::score_run(task, cmedteb::bm25(task)?)?,
                None => bail!("{BM25} is a baseline of retrieval tasks, which {} is not", task.name()),
            },
        };
        progress.finish_and_clear();
        let file = Report::new(task, &outcome, tested.settings()).write(&args.output)?;
        for (measure, score) in &outcome.scores {
            writeln!(out, "{}\t{measure}\t{score:.4}", task.name())?;
        }
        if let Some(run) = outcome.run() {
            // TREC files separate by spaces, so an id that holds one cannot be written; scores can.
            let path = file.with_extension("trec");
            if let Err(error) = care_eval::write_trec_run(&path, run, "care") {
                eprintln!("warning: no ranking is kept in {}: {error}", path.display());
                let _ = std::fs::remove_file(path);
            }
        }
    }
    Ok(())
}

/// The name of the baseline, in place of a model's.
const BM25: &str = "bm25";

/// What is tested.
enum Tested {
    /// A model, and what a report says of it.
    Pair(Box<AsymmetricEncoder>, Value),
    /// BM25 over character bigrams.
    Bm25,
}

impl Tested {
    fn open(args: &PairArgs) -> Result<Self> {
        if args.model.name() == BM25 && !Path::new(BM25).exists() {
            return Ok(Tested::Bm25);
        }
        let (pair, source) = args.open()?;
        let settings = json!({
            "model": source["model"],
            "commit": source["commit"],
            "precision": args.model.precision(),
            "query": tower_settings(pair.query()),
            "document": tower_settings(pair.document()),
        });
        Ok(Tested::Pair(Box::new(pair), settings))
    }

    fn settings(&self) -> Value {
        match self {
            Tested::Pair(_, settings) => settings.clone(),
            Tested::Bm25 => json!({ "model": BM25 }),
        }
    }
}

fn tower_settings<T: care_core::Text>(tower: &care_core::Tower<T, care_encoders::AnyEncoder>) -> serde_json::Value {
    json!({
        "head": tower.network().head(),
        "max_length": tower.tokenizer().max_length(),
        "instruction": tower.instruction().template(),
    })
}
