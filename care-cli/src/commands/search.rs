//! `care search`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::index::{FlatIndex, Hit, VectorFormat};
use care_core::{Document, Query, Text};
use care_data::bm25::Bm25;
use care_data::hybrid::{Fusion, Hybrid};
use cmedteb::for_each_document;
use serde_json::{Map, Value};

use crate::asking::QueryArgs;
use crate::embedding::Embedding;
use crate::hits::{Answer, FormArgs, Found, Halves, documents};
use crate::model::{BM25, CacheArgs, PairArgs};
use crate::progress::Progress;
use crate::stderr::note;

/// Documents that are embedded or counted together.
const GROUP: usize = 1024;

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title` (.jsonl, .csv, .tsv, .parquet); all further
    /// fields are printed with the hits
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    #[command(flatten)]
    query: QueryArgs,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Fuse the model's hits with BM25's. rrf: by reciprocal ranks. weighted:W: by normalised scores, with the weight W of
    /// the model from 0 to 1, by default 0.5
    #[arg(long, value_name = "rrf|weighted[:W]")]
    hybrid: Option<Fusion>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pair: PairArgs,
}

const AFTER_HELP: &str = "\
The corpus is read and embedded on every start; --cache keeps the vectors. For a corpus that stays, or filters on its \
fields, build an index once: `care index build`, then `care index search`.

`--model bm25`, unless there is such a model, searches by BM25 over character bigrams.

Examples:
  care search --corpus corpus.jsonl --model mini                        # asks for queries
  care search --corpus corpus.jsonl --model mini --hybrid weighted:0.8 --query 头痛怎么办
  care search --corpus corpus.parquet --model bm25 < queries.txt        # a line of JSON per query";

/// A document by its place in the corpus, with its scores.
type Scored = (usize, f32, Option<Halves>);

/// Finds the best documents for a query.
type Retriever = Box<dyn Fn(&str) -> Result<Vec<Scored>>>;

pub(crate) fn run(args: Args) -> Result<()> {
    args.query.check()?;
    let form = args.form.form();
    let corpus = CorpusFile::read(&args.corpus)?;
    let retrieve = retriever(&args, &corpus.documents)?;
    let search = |query: &str| -> Result<String> {
        let found = retrieve(query)?;
        let hits = found.into_iter().zip(1..).map(|((place, score, halves), rank)| {
            let found = corpus.found(place);
            Found { rank, score, halves, ..found }
        });
        Answer { query_id: None, query, hits: hits.collect() }.render(form)
    };
    args.query.answer(&documents(corpus.documents.len()), form, &search)
}

/// The documents of a file, each with its id and its further fields.
#[derive(Default)]
pub(super) struct CorpusFile {
    pub(super) documents: Vec<Document>,
    ids: Vec<String>,
    fields: Vec<Map<String, Value>>,
}

impl CorpusFile {
    /// Reads a file, and warns of documents without text.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            bail!("{}: a folder; --corpus is a file of documents, e.g. a corpus.jsonl in it", path.display());
        }
        note!("reading {}", path.display());
        let (mut corpus, mut blank, mut first) = (Self::default(), 0, 0);
        for_each_document(path, &mut |number, id, document, mut fields| {
            if document.content().trim().is_empty() {
                blank += 1;
                first = if blank == 1 { number } else { first };
            }
            fields.retain(|_, value| !value.is_null());
            corpus.documents.push(document);
            corpus.ids.push(id);
            corpus.fields.push(fields);
            Ok(())
        })?;
        match blank {
            0 => {}
            1 => note!("warning: {}:{first}: the document is empty", path.display()),
            _ => note!("warning: {}:{first}: the document is empty, the first of {blank}", path.display()),
        }
        if corpus.documents.is_empty() {
            bail!("{}: the corpus is empty", path.display());
        }
        Ok(corpus)
    }

    /// A document as a hit, without rank and score.
    pub(super) fn found(&self, place: usize) -> Found {
        Found {
            id: self.ids[place].clone(),
            title: self.documents[place].title().to_owned(),
            text: Some(self.documents[place].text().to_owned()),
            metadata: self.fields[place].clone(),
            ..Found::default()
        }
    }
}

/// Indexes the documents, and returns what finds the best of them for a query.
fn retriever(args: &Args, documents: &[Document]) -> Result<Retriever> {
    let k = args.top_k as usize;
    let of_hit = |hit: Hit| (hit.index, hit.score, None);
    if args.pair.model.is_bm25() {
        if args.hybrid.is_some() {
            bail!("--hybrid fuses a model with {BM25}, so --model must be another");
        }
        let bm25 = bm25(documents);
        return Ok(Box::new(move |query| Ok(bm25.search(query, k).into_iter().map(of_hit).collect())));
    }
    let (pair, _) = args.pair.open()?;
    let batch_tokens = args.pair.model.batch_tokens;
    let store = args.cache.store(pair.document())?;
    let progress = Progress::start("embedding the corpus", Some(documents.len()), "documents");
    let mut index = FlatIndex::with_capacity(pair.query().embedding_dim(), documents.len(), VectorFormat::F32);
    let mut embedding = Embedding::start(pair.document(), batch_tokens, store, &args.corpus, progress);
    for group in documents.chunks(GROUP) {
        index.add(&embedding.embed(group)?)?;
    }
    if let (_, Some(stored)) = embedding.finish() {
        note!("{stored} of {} vectors came from the cache", documents.len());
    }
    // Queries come one at a time and are not cached.
    let embed = move |query: &str| pair.query().embed(&[Query::new(query)], batch_tokens);
    let Some(fusion) = args.hybrid else {
        return Ok(Box::new(move |query| {
            Ok(index.search(&embed(query)?, k)?.into_iter().flatten().map(of_hit).collect())
        }));
    };
    let hybrid = Hybrid::new(bm25(documents), index)?.with_fusion(fusion);
    Ok(Box::new(move |query| {
        let hits = hybrid.search(&[query], &embed(query)?, k)?.into_iter().flatten();
        Ok(hits.map(|hit| (hit.index, hit.score, Some(Halves { bm25: hit.bm25, vector: hit.vector }))).collect())
    }))
}

fn bm25(documents: &[Document]) -> Bm25 {
    let progress = Progress::start("indexing words", Some(documents.len()), "documents");
    let (mut bm25, mut done) = (Bm25::default(), 0);
    for group in documents.chunks(GROUP) {
        bm25.add(&group.iter().map(Text::content).collect::<Vec<_>>());
        done += group.len();
        progress.set(done);
    }
    progress.finish();
    bm25
}
