//! `care search`

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use care_core::index::{FlatIndex, VectorFormat};
use care_core::lines::text_of;
use care_core::{Document, Query};
use cmedteb::read_corpus;
use serde::Serialize;

use crate::model::{CacheArgs, PairArgs};
use crate::progress::Progress;

/// Documents per update of the progress bar.
const GROUP: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// A single query; by default queries are read from stdin, one per line
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
}

/// The output for a query, one line of JSON.
#[derive(Serialize)]
struct Answer<'a> {
    query: &'a str,
    hits: Vec<Found<'a>>,
}

/// The output for a line of stdin that cannot be answered.
#[derive(Serialize)]
struct Refusal {
    line: usize,
    error: String,
}

#[derive(Serialize)]
struct Found<'a> {
    rank: usize,
    score: f32,
    _id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    text: &'a str,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let (ids, documents): (Vec<String>, Vec<Document>) = read_corpus(&args.corpus)?.into_iter().unzip();
    if documents.is_empty() {
        bail!("{}: the corpus is empty", args.corpus.display());
    }
    let (pair, _) = args.pair.open()?;
    // Queries come one at a time and are not cached.
    let queries = pair.query().clone();
    let model = args.cache.model(pair)?;
    let progress = Progress::start("embedding the corpus", Some(documents.len()), "documents");
    let mut index = FlatIndex::with_capacity(queries.embedding_dim(), documents.len(), VectorFormat::F32);
    for group in documents.chunks(GROUP) {
        index.add(&model.embedder().embed_documents(group)?)?;
        progress.set(index.len());
    }
    progress.finish();
    model.warn();
    let search = |query: &str| -> Result<String> {
        if query.trim().is_empty() {
            bail!("the query is empty");
        }
        let vector = queries.embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let found = index.search(&vector, args.top_k as usize)?;
        let hits = found.iter().flatten().zip(1..).map(|(hit, rank)| Found {
            rank,
            score: hit.score,
            _id: &ids[hit.index],
            title: documents[hit.index].title(),
            text: documents[hit.index].text(),
        });
        Ok(serde_json::to_string(&Answer { query, hits: hits.collect() })?)
    };
    match &args.query {
        Some(query) => print(&search(query)?),
        None => serve(&search, &refusal),
    }
}

/// The answer to a line of stdin that cannot be answered.
pub(super) fn refusal(line: usize, error: String) -> Result<()> {
    print(&serde_json::to_string(&Refusal { line, error })?)
}

/// Answers every line of stdin. One that is not text or cannot be searched for is given to `refuse`, and the next is read.
pub(super) fn serve(
    search: &dyn Fn(&str) -> Result<String>,
    refuse: &dyn Fn(usize, String) -> Result<()>,
) -> Result<()> {
    let mut input = std::io::stdin().lock();
    let (mut line, mut lines, mut refused) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        lines += 1;
        let answer = text_of(&line, lines).map_err(|problem| anyhow!(problem)).and_then(search);
        match answer {
            Ok(answer) => print(&answer)?,
            Err(error) => {
                refused += 1;
                refuse(lines, format!("stdin:{lines}: {error:#}"))?;
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {lines} lines of stdin could not be answered");
    }
    Ok(())
}

pub(super) fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
