//! `care eval`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cmedteb::{Report, StsMode, Task};
use serde_json::json;

use crate::model::PairArgs;
use crate::progress::bar;

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
    let (pair, source) = args.pair.open()?;
    let settings = json!({
        "model": source["model"],
        "commit": source["commit"],
        "precision": args.pair.model.precision(),
        "query": tower_settings(pair.query()),
        "document": tower_settings(pair.document()),
    });
    let mut out = std::io::stdout().lock();
    for task in &tasks {
        let progress = bar(task.name(), 0);
        let outcome = cmedteb::evaluate(task, &pair, args.sts, &mut |now| {
            progress.set_length(now.total as u64);
            progress.set_position(now.encoded as u64);
        })?;
        progress.finish_and_clear();
        let file = Report::new(task, &outcome, settings.clone()).write(&args.output)?;
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

fn tower_settings<T: care_core::Text>(tower: &care_core::Tower<T, care_encoders::AnyEncoder>) -> serde_json::Value {
    json!({
        "head": tower.network().head(),
        "max_length": tower.tokenizer().max_length(),
        "instruction": tower.instruction().template(),
    })
}
