//! `care search`

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::index::{FlatIndex, VectorFormat};
use care_core::jsonl::read_jsonl;
use care_core::{Document, Query};
use serde::{Deserialize, Serialize};

use crate::model::{CacheArgs, PairArgs};
use crate::progress::bar;

/// Documents per update of the progress bar.
const GROUP: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Documents: rows with `_id`, `text` and optionally `title`
    #[arg(long, value_name = "FILE.jsonl")]
    corpus: PathBuf,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// A single query; by default queries are read from stdin, one per line
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    _id: String,
    title: Option<String>,
    text: String,
}

/// The output for a query, one line of JSON.
#[derive(Serialize)]
struct Answer<'a> {
    query: &'a str,
    hits: Vec<Found<'a>>,
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
    let (ids, documents): (Vec<String>, Vec<Document>) = read_jsonl::<Row>(&args.corpus)?
        .into_iter()
        .map(|(_, row)| (row._id, Document::with_title(row.title.unwrap_or_default(), row.text)))
        .unzip();
    if documents.is_empty() {
        bail!("{}: the corpus is empty", args.corpus.display());
    }
    let (pair, _) = args.pair.open()?;
    // Queries come one at a time and are not cached.
    let queries = pair.query().clone();
    let model = args.cache.embedder(pair)?;
    let progress = bar("embedding the corpus", documents.len());
    let mut index = FlatIndex::with_capacity(model.embedding_dim(), documents.len(), VectorFormat::F32);
    for group in documents.chunks(GROUP) {
        index.add(&model.embed_documents(group)?)?;
        progress.set_position(index.len() as u64);
    }
    progress.finish_and_clear();
    let answer = |query: &str| -> Result<()> {
        let vector = queries.embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let found = index.search(&vector, args.top_k as usize)?;
        let hits = found.iter().flatten().zip(1..).map(|(hit, rank)| Found {
            rank,
            score: hit.score,
            _id: &ids[hit.index],
            title: documents[hit.index].title(),
            text: documents[hit.index].text(),
        });
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &Answer { query, hits: hits.collect() })?;
        writeln!(out)?;
        Ok(out.flush()?)
    };
    match &args.query {
        Some(query) => answer(query),
        None => std::io::stdin().lock().lines().try_for_each(|line| answer(&line?)),
    }
}
