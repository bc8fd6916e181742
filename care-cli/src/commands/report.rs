//! `care report` and `care compare`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use care_core::files::write_atomic;
use care_eval::stats::MOST_SAMPLES;
use cmedteb::{Results, Summary};

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Folders written by `care eval`, each compared with the first; folders of mteb are shown, but not compared
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// Folder for summary.md and summary.html
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    trust: Trust,
}

#[derive(clap::Args)]
pub(crate) struct CompareArgs {
    /// A folder written by `care eval`
    first: PathBuf,
    /// Another such folder
    second: PathBuf,
    #[command(flatten)]
    trust: Trust,
}

/// How the significance of a difference is computed.
#[derive(clap::Args)]
struct Trust {
    /// Number of bootstrap samples, and of random exchanges in the randomisation test, at most a million
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=MOST_SAMPLES as u64))]
    samples: u64,
    /// Seed for both
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn summary(folders: &[PathBuf], trust: &Trust) -> Result<Summary> {
    let results = folders.iter().map(Results::read).collect::<care_core::Result<_>>()?;
    Ok(Summary::new(results, trust.samples as usize, trust.seed)?)
}

pub(crate) fn report(args: ReportArgs) -> Result<()> {
    let summary = summary(&args.results, &args.trust)?;
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;
    for (name, text) in [("summary.md", summary.to_markdown()), ("summary.html", summary.to_html()?)] {
        let path = args.output.join(name);
        write_atomic(&path, text)?;
        note!("{}", path.display());
    }
    Ok(())
}

pub(crate) fn compare(args: CompareArgs) -> Result<()> {
    let summary = summary(&[args.first, args.second], &args.trust)?;
    if let Some(note) = summary.notes().first() {
        bail!("{note}");
    }
    let mut out = std::io::stdout().lock();
    out.write_all(summary.to_markdown().as_bytes())?;
    Ok(out.flush()?)
}
