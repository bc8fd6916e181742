//! `care index approximate`: graphs for approximate searches, and what they lose against exact search.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::index::{Approximation, GraphOptions, IndexWriter, LossSample};
use care_core::{Embedder, Embeddings, Query};

use super::shared::document_tower;
use crate::model::PairArgs;
use crate::stderr::note;
use crate::stdout::print;
use crate::texts::{GroupSize, for_each_group};

/// What a program without approximate search says.
const NONE: &str = "this program has no approximate search; build it with `--features approximate`";
/// Queries by which a loss is measured, at most.
const QUERIES: usize = 1000;
/// Texts that stand in for queries, at most.
const TEXTS: usize = 200;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    #[command(flatten)]
    graph: GraphArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct GraphArgs {
    /// Queries by which the loss is measured, 1,000 at most: one per line (.txt), or rows with `text` or `query` (.jsonl, .csv,
    /// .tsv, .parquet); by default texts of the index, a poor substitute
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Links per document, twice as many on the lowest level
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=256))]
    links: u32,
    /// Candidates kept while a document is added
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    build_expansion: u32,
    /// Candidates that a search keeps and rescores, if it says nothing else
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    expansion: u32,
}

pub(super) fn run(args: Args) -> Result<()> {
    check()?;
    let mut writer = IndexWriter::open(&args.index)?;
    let (pair, _) = args.pair.open()?;
    writer.index().check_tower(&document_tower(&pair)?)?;
    let graph = args.graph;
    let options = GraphOptions::default()
        .with_links(graph.links as usize)
        .with_build_expansion(graph.build_expansion as usize)
        .with_expansion(graph.expansion as usize);
    let approximation = link(&mut writer, &pair, &options, graph.queries.as_deref())?;
    if args.json {
        return print(&serde_json::to_string(&approximation)?);
    }
    note!("{}: {}", args.index.display(), said(&approximation, writer.index().graph_rows()));
    Ok(())
}

/// Refuses a program without approximate search.
pub(super) fn check() -> Result<()> {
    if !cfg!(feature = "approximate") {
        bail!(NONE);
    }
    Ok(())
}

/// Builds the graphs of an index of a pair and measures what is lost.
pub(super) fn link(
    writer: &mut IndexWriter,
    pair: &dyn Embedder,
    options: &GraphOptions,
    queries: Option<&Path>,
) -> Result<Approximation> {
    let (mut sample, mut texts): (LossSample, Vec<Query>) = (LossSample::Queries, Vec::new());
    match queries {
        Some(path) => for_each_group::<Query>(path, GroupSize::default(), &mut |_, group| {
            texts.extend(group.iter().take(QUERIES - texts.len()).cloned());
            Ok(())
        })?,
        None => {
            sample = LossSample::Documents;
            let index = writer.index();
            for row in index.rows().step_by(index.len().div_ceil(TEXTS).max(1)) {
                texts.extend(index.record(row)?.text.map(Query::new));
            }
        }
    }
    let vectors = match texts.is_empty() {
        true => Embeddings::zeros(0, writer.index().dim()),
        false => pair.embed_queries(&texts)?,
    };
    build(writer, options, sample, &vectors)
}

#[cfg(feature = "approximate")]
fn build(
    writer: &mut IndexWriter,
    options: &GraphOptions,
    sample: LossSample,
    queries: &Embeddings,
) -> Result<Approximation> {
    Ok(writer.build_graphs(options, sample, queries)?)
}

#[cfg(not(feature = "approximate"))]
fn build(_: &mut IndexWriter, _: &GraphOptions, _: LossSample, _: &Embeddings) -> Result<Approximation> {
    bail!(NONE)
}

/// What an index states of its graphs, for people.
pub(super) fn said(approximation: &Approximation, rows: usize) -> String {
    let Some(loss) = &approximation.loss else {
        return format!("graphs of {rows} documents, whose loss was not measured");
    };
    let percent = |part: f64| format!("{:.2} %", 100.0 * part);
    let sample = match loss.sample {
        LossSample::Queries => format!("{} queries", loss.queries),
        _ => format!("{} texts of the index in the place of queries, which differ from real ones", loss.queries),
    };
    format!(
        "graphs of {rows} documents lose {} ({} to {}) of the {} best of exact search, by {sample}, {} candidates each",
        percent(loss.mean),
        percent(loss.interval[0]),
        percent(loss.interval[1]),
        loss.k,
        loss.expansion,
    )
}
