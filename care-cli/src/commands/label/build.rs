//! `care label build`

use std::path::PathBuf;

use anyhow::{Context, Result};
use care_core::manifest::Manifest;
use care_label::build::{BuildOptions, Built, Card, CorpusDocument, Material, TaskKind, parse_splits, write_task};
use care_label::pair::read_pairs;
use care_label::resolve::read_labels;
use clap::ValueEnum;
use cmedteb::Corpus;

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs from `care label collect`
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Labels from `care label resolve`
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The whole corpus, for a retrieval task: the file that the pairs were collected from
    #[arg(long, value_name = "FILE", required_if_eq("task", "retrieval"))]
    corpus: Option<PathBuf>,
    /// The tasks to build
    #[arg(long = "task", value_enum, required = true, num_args = 1..)]
    task: Vec<Kind>,
    /// Name of the benchmark; tasks and their folders are named NAME-retrieval and so on
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What the benchmark is about, for the data card
    #[arg(long, value_name = "TEXT", default_value = "Chinese medical texts.")]
    description: String,
    /// Licence of the texts as the Hugging Face hub names it, e.g. cc-by-4.0
    #[arg(long, value_name = "ID")]
    license: Option<String>,
    /// Splits and their shares of the questions; near-duplicate questions share a split
    #[arg(long, value_name = "NAME=SHARE,..", default_value = "train=0.8,dev=0.1,test=0.1")]
    splits: String,
    /// Seed of splits, candidate orders and samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Grades 0 and 1 instead of graded relevance
    #[arg(long)]
    binary: bool,
    /// Most negatives of a reranking query
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    negatives: u32,
    /// Reports for the data card, as Markdown: from `care label resolve`, `care label agree` and `care label audit`
    #[arg(long = "report", value_name = "FILE", num_args = 1..)]
    reports: Vec<PathBuf>,
    /// Whether experts have reviewed labels
    #[arg(long)]
    reviewed: bool,
    /// Folder for the tasks, one folder each
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Retrieval,
    Reranking,
    Sts,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let (pairs, labels) = (read_pairs(&args.pairs)?, read_labels(&args.labels)?);
    let material = Material::new(&pairs, &labels)?;
    let mut options = BuildOptions::default();
    options.splits = parse_splits(&args.splits)?;
    (options.seed, options.binary, options.negatives) = (args.seed, args.binary, args.negatives as usize);
    let corpus = args.corpus.as_ref().map(|path| Corpus::open([path])).transpose()?;
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;

    let mut kinds = args.task.clone();
    kinds.dedup();
    for kind in kinds {
        let task = match kind {
            Kind::Retrieval => Built::Retrieval(material.retrieval(&options)?),
            Kind::Reranking => Built::Reranking(material.reranking(&options)?),
            Kind::Sts => Built::Sts(material.sts(&options)?),
        };
        let suffix = match task.kind() {
            TaskKind::Retrieval => "retrieval",
            TaskKind::Reranking => "reranking",
            TaskKind::Sts => "sts",
        };
        let card = card(&args, suffix)?;
        let folder = args.output.join(&card.name);
        match (&task, &corpus) {
            (Built::Retrieval(_), Some(corpus)) => {
                let mut ids = corpus.ids().iter();
                let mut visit = |each: &mut dyn FnMut(CorpusDocument) -> care_core::Result<()>| {
                    corpus.visit(1024, &mut |group| {
                        group.iter().zip(&mut ids).try_for_each(|(document, id)| {
                            let (title, text) = (document.title().to_owned(), document.text().to_owned());
                            each(CorpusDocument { id: id.clone(), title, text })
                        })
                    })
                };
                write_task(&folder, &task, &card, Some(&mut visit))?;
            }
            _ => write_task(&folder, &task, &card, None)?,
        }
        note!("{}: {}", folder.display(), counts(&task));
    }
    Ok(())
}

fn card(args: &Args, suffix: &str) -> Result<Card> {
    let mut card = Card::new(format!("{}-{suffix}", args.name), args.description.clone());
    (card.license, card.reviewed) = (args.license.clone(), args.reviewed);
    for path in &args.reports {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (title, body) = match text.trim_start().strip_prefix("# ").and_then(|rest| rest.split_once('\n')) {
            Some((title, body)) => (title.to_owned(), body.to_owned()),
            None => (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text),
        };
        // A section of the card, one level deeper.
        card = card.with_section(title, body.replace("\n## ", "\n### "));
    }
    let manifest = Manifest::path_for(&args.labels);
    if manifest.exists() {
        card.manifest = Some(Manifest::read(manifest)?);
    }
    Ok(card)
}

fn counts(task: &Built) -> String {
    let counts: Vec<String> = task.counts().iter().map(|(what, count)| format!("{what} {count}")).collect();
    counts.join(", ")
}
