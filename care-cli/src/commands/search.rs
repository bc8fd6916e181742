//! `care search`

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use care_core::index::{FlatIndex, Hit, VectorFormat};
use care_core::lines::text_of;
use care_core::{Document, Query, Text};
use care_data::bm25::Bm25;
use care_data::hybrid::{Fusion, Hybrid};
use cmedteb::read_corpus;
use serde::Serialize;

use crate::model::{BM25, CacheArgs, PairArgs};
use crate::progress::Progress;

/// Documents per update of the progress bar.
const GROUP: usize = 1024;

#[derive(clap::Args)]
#[command(after_help = "`--model bm25`, unless there is such a model, searches by BM25 over character bigrams.")]
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
    /// Fuse the model's hits with BM25's. rrf: by reciprocal ranks. weighted:W: by normalised scores, with the weight W of
    /// the model from 0 to 1, by default 0.5
    #[arg(long, value_name = "rrf|weighted[:W]")]
    hybrid: Option<Fusion>,
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
    #[serde(flatten)]
    halves: Option<Halves>,
    _id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    text: &'a str,
}

/// The scores of a hit of --hybrid; null where it is not among the candidates.
#[derive(Clone, Copy, Serialize)]
struct Halves {
    bm25: Option<f32>,
    vector: Option<f32>,
}

/// A document by its place in the corpus, with its scores.
type Scored = (usize, f32, Option<Halves>);

/// Finds the best documents for a query.
type Retriever = Box<dyn Fn(&str) -> Result<Vec<Scored>>>;

pub(crate) fn run(args: Args) -> Result<()> {
    let (ids, documents): (Vec<String>, Vec<Document>) = read_corpus(&args.corpus)?.into_iter().unzip();
    if documents.is_empty() {
        bail!("{}: the corpus is empty", args.corpus.display());
    }
    let retrieve = retriever(&args, &documents)?;
    let search = |query: &str| -> Result<String> {
        if query.trim().is_empty() {
            bail!("the query is empty");
        }
        let found = retrieve(query)?;
        let hits = found.iter().zip(1..).map(|(&(place, score, halves), rank)| Found {
            rank,
            score,
            halves,
            _id: &ids[place],
            title: documents[place].title(),
            text: documents[place].text(),
        });
        Ok(serde_json::to_string(&Answer { query, hits: hits.collect() })?)
    };
    match &args.query {
        Some(query) => print(&search(query)?),
        None => serve(&search, &refusal),
    }
}

/// Indexes the documents, and returns what finds the best of them for a query.
fn retriever(args: &Args, documents: &[Document]) -> Result<Retriever> {
    let k = args.top_k as usize;
    let of_hit = |hit: Hit| (hit.index, hit.score, None);
    let bm25 = || {
        let mut bm25 = Bm25::default();
        for group in documents.chunks(GROUP) {
            bm25.add(&group.iter().map(Text::content).collect::<Vec<_>>());
        }
        bm25
    };
    if args.pair.model.is_bm25() {
        if args.hybrid.is_some() {
            bail!("--hybrid fuses a model with {BM25}, so --model must be another");
        }
        let bm25 = bm25();
        return Ok(Box::new(move |query| Ok(bm25.search(query, k).into_iter().map(of_hit).collect())));
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
    let batch_tokens = args.pair.model.batch_tokens;
    let embed = move |query: &str| queries.embed(&[Query::new(query)], batch_tokens);
    let Some(fusion) = args.hybrid else {
        return Ok(Box::new(move |query| {
            Ok(index.search(&embed(query)?, k)?.into_iter().flatten().map(of_hit).collect())
        }));
    };
    let hybrid = Hybrid::new(bm25(), index)?.with_fusion(fusion);
    Ok(Box::new(move |query| {
        let hits = hybrid.search(&[query], &embed(query)?, k)?.into_iter().flatten();
        Ok(hits.map(|hit| (hit.index, hit.score, Some(Halves { bm25: hit.bm25, vector: hit.vector }))).collect())
    }))
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
