//! `care audit`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::files::jsonl_files;
use care_data::rows::for_each_example;
use cmedteb::{AuditOptions, FindingKind, TrainingTexts, audit};

use crate::stderr::note;
use crate::tasks::{TaskArgs, warn};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Training files (.jsonl) or folders of them, whose queries and positives should not occur in a task
    #[arg(long, value_name = "PATH", num_args = 1..)]
    train: Vec<PathBuf>,
    /// Ranking of the task from `care eval`: unjudged documents above the first relevant one are listed
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// Maximum number of such documents per query
    #[arg(long, value_name = "N", default_value_t = 3, requires = "run")]
    most: usize,
    /// Similarity from which texts are near duplicates: the Jaccard index of their character trigrams, 0.5 to 1
    #[arg(long, value_name = "N", default_value_t = AuditOptions::default().near)]
    near: f64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let tasks = args.tasks.open()?;
    if args.run.is_some() && tasks.len() != 1 {
        bail!("--run needs a single task, not {}", tasks.len());
    }
    let run = args.run.map(care_eval::io::read_run).transpose()?;
    let mut training = TrainingTexts::default();
    for path in &args.train {
        for file in jsonl_files(path)? {
            let name = file.display().to_string();
            for_each_example(&file, &mut |line, row| {
                training.add(&row.query, format!("{name}:{line}"));
                row.positives.iter().for_each(|text| training.add(text, format!("{name}:{line}, pos")));
                Ok(())
            })?;
        }
    }
    let mut options = AuditOptions::default().with_near(args.near);
    if !args.train.is_empty() {
        options = options.with_training(&training);
    }
    if let Some(run) = &run {
        options = options.with_run(run, args.most);
    }
    // A task that is refused leaves no half of a table.
    let found = tasks.iter().map(|task| audit(task, &options)).collect::<care_core::Result<Vec<_>>>()?;
    warn(&tasks);
    let mut out = std::io::stdout().lock();
    writeln!(out, "task\tfinding\tquery\tdocument\tdetail")?;
    for (task, findings) in tasks.iter().zip(found) {
        let mut counts: BTreeMap<FindingKind, usize> = BTreeMap::new();
        findings.iter().for_each(|finding| *counts.entry(finding.kind).or_default() += 1);
        for finding in findings {
            // One row per line.
            let detail = finding.detail.replace(['\n', '\r', '\t'], " ");
            let (kind, query, document) = (finding.kind.name(), finding.query, finding.document);
            writeln!(out, "{}\t{kind}\t{query}\t{document}\t{detail}", task.name())?;
        }
        out.flush()?;
        let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        note!("{}: {}", task.name(), if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") });
    }
    Ok(out.flush()?)
}
