//! `care audit`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::{Error, for_each_jsonl};
use cmedteb::{TrainingTexts, audit};
use serde::Deserialize;

use crate::tasks::TaskArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Training files (.jsonl) or folders of them, whose queries no task should ask
    #[arg(long, value_name = "PATH", num_args = 1..)]
    train: Vec<PathBuf>,
    /// Ranking of the task that `care eval` wrote: unjudged documents above the first relevant one are listed
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// Documents a query that are listed so, at most
    #[arg(long, value_name = "N", default_value_t = 3)]
    most: usize,
}

#[derive(Deserialize)]
struct Row {
    query: String,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let tasks = args.tasks.open()?;
    if args.run.is_some() && tasks.len() != 1 {
        bail!("a ranking is of one task, and there are {}", tasks.len());
    }
    let run = args.run.map(care_eval::read_run).transpose()?;
    let mut training = TrainingTexts::default();
    for path in &args.train {
        for file in jsonl_files(path)? {
            let name = file.display().to_string();
            for_each_jsonl(&file, &mut |line, row: Row| {
                training.add(&row.query, format!("{name}:{line}"));
                Ok::<_, Error>(())
            })?;
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "task\tfinding\tquery\tdocument\tdetail")?;
    for task in &tasks {
        for finding in audit(task, &training, run.as_ref(), args.most)? {
            // A row is a line.
            let detail = finding.detail.replace(['\n', '\r', '\t'], " ");
            let (kind, query, document) = (finding.kind.name(), finding.query, finding.document);
            writeln!(out, "{}\t{kind}\t{query}\t{document}\t{detail}", task.name())?;
        }
    }
    Ok(out.flush()?)
}

/// A file itself, or the `.jsonl` files of a folder in order.
fn jsonl_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    Ok(files)
}
