//! `care report` and `care compare`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use care_core::files::write_atomic;
use care_eval::stats::MOST_SAMPLES;
use cmedteb::{Results, Summary};

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Folders written by `care eval`, each compared with the first; folders of mteb are shown, but not compared. NAME=DIR
    /// sets the name in tables, which by default is the folder's, or the model's in mteb's `model_meta.json`
    #[arg(required = true, value_name = "[NAME=]RESULTS")]
    results: Vec<Named>,
    /// Folder for summary.md, summary.html, summary.tex and summary.csv
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Args)]
pub(crate) struct CompareArgs {
    /// A folder written by `care eval`; NAME=DIR sets its name in tables
    #[arg(value_name = "[NAME=]FIRST")]
    first: Named,
    /// Another such folder
    #[arg(value_name = "[NAME=]SECOND")]
    second: Named,
    /// Form of the output
    #[arg(long, default_value = "markdown")]
    format: Format,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Markdown,
    /// Tables for the package booktabs
    Latex,
    /// One row per model and task, in full precision
    Csv,
}

#[derive(clap::Args)]
struct Options {
    /// Add the scores that the CARE paper reports on CMedTEB, marked as published
    #[arg(long)]
    published: bool,
    /// Number of bootstrap samples, and of random exchanges in the randomisation test, at most a million
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=MOST_SAMPLES as u64))]
    samples: u64,
    /// Seed for both
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// A folder, and the name of its model if one is given.
#[derive(Debug, Clone)]
struct Named {
    name: Option<String>,
    folder: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            // A folder may have `=` in its name.
            Some((name, folder)) if !Path::new(text).exists() => match name.is_empty() {
                true => Err("the name before = is empty".to_owned()),
                false => Ok(Self { name: Some(name.to_owned()), folder: folder.into() }),
            },
            _ => Ok(Self { name: None, folder: text.into() }),
        }
    }
}

impl Named {
    fn read(&self) -> care_core::Result<Results> {
        let mut results = Results::read(&self.folder)?;
        if let Some(name) = &self.name {
            results.name.clone_from(name);
        }
        Ok(results)
    }
}

fn summary(folders: &[Named], options: &Options) -> Result<Summary> {
    let results = folders.iter().map(Named::read).collect::<care_core::Result<_>>()?;
    let summary = Summary::new(results, options.samples as usize, options.seed)?;
    for warning in summary.warnings() {
        note!("warning: {warning}");
    }
    Ok(if options.published { summary.with_published()? } else { summary })
}

pub(crate) fn report(args: ReportArgs) -> Result<()> {
    let summary = summary(&args.results, &args.options)?;
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;
    let files = [
        ("summary.md", summary.to_markdown()),
        ("summary.html", summary.to_html()?),
        ("summary.tex", summary.to_latex()),
        ("summary.csv", summary.to_csv()),
    ];
    for (name, text) in files {
        let path = args.output.join(name);
        write_atomic(&path, text)?;
        note!("{}", path.display());
    }
    Ok(())
}

pub(crate) fn compare(args: CompareArgs) -> Result<()> {
    let summary = summary(&[args.first, args.second], &args.options)?;
    if let Some(note) = summary.notes().first() {
        bail!("{note}");
    }
    let text = match args.format {
        Format::Markdown => summary.to_markdown(),
        Format::Latex => summary.to_latex(),
        Format::Csv => summary.to_csv(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
