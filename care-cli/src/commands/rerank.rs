//! `care rerank`

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use care_core::files::AtomicFile;
use care_core::{Document, Error, Query, Text};
use care_encoders::CrossEncoder;
use care_eval::{Run, Ties};
use cmedteb::{Corpus, Protocol, RetrievalTask, for_each_query};

use super::search::CorpusFile;
use crate::hits::{Answer, Form, FormArgs, Found};
use crate::progress::Progress;
use crate::reranker::{RerankerArgs, RunArgs};
use crate::stderr::note;

/// Pairs per update of the progress bar.
const GROUP: usize = 256;

/// Reorders all documents of a corpus for --query, or the best documents of each query of a ranking (--run, --queries).
#[derive(clap::Args)]
#[command(mut_arg("reranker", |reranker| reranker.required(true)))]
pub(crate) struct Args {
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title` (.jsonl, .csv, .tsv, .parquet); with
    /// --query, all further fields are printed with the hits
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// A single query, for which every document of the corpus is scored
    #[arg(long, value_name = "TEXT", required_unless_present = "run", conflicts_with_all = ["run", "queries", "depth"])]
    query: Option<String>,
    /// Ranking to reorder: TREC, or JSON {query: {document: score}}
    #[arg(long, value_name = "FILE", requires = "queries")]
    run: Option<PathBuf>,
    /// Queries of the ranking: rows with `_id` (or `id`) and `text` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE", requires = "run")]
    queries: Option<PathBuf>,
    /// Number of documents of each query that are reordered
    #[arg(long, value_name = "K", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// Number of documents to print for a query; by default all that were scored
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Rows of JSON (.jsonl), one per query, or with --run a ranking (.trec), in which the documents behind the reordered
    /// ones follow; by default stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "pretty"])]
    output: Option<PathBuf>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    reranker: RerankerArgs,
    #[command(flatten)]
    place: RunArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let target = Target::of(&args)?;
    match (&args.query, &args.run, &args.queries) {
        (Some(query), _, _) => of_query(&args, query, target),
        (None, Some(run), Some(queries)) => of_run(&args, run, queries, target),
        _ => bail!("--query, or --run with --queries, says what to rerank"),
    }
}

/// Scores every document for one query.
fn of_query(args: &Args, query: &str, target: Target) -> Result<()> {
    if query.trim().is_empty() {
        bail!("the query is empty");
    }
    let corpus = CorpusFile::read(&args.corpus)?;
    let reranker = open(args)?;
    let asked = Query::new(query);
    let pairs: Vec<(&Query, &Document)> = corpus.documents.iter().map(|document| (&asked, document)).collect();
    let progress = Progress::start("reranking", Some(pairs.len()), "pairs");
    let mut scores = Vec::with_capacity(pairs.len());
    for group in pairs.chunks(GROUP) {
        let before = scores.len();
        scores.extend(reranker.score_with_progress(group, &mut |now| progress.set(before + now.texts))?);
    }
    progress.finish();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Stable: equal scores stay in the order of the corpus.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let hits = order.into_iter().take(args.top_k.map_or(usize::MAX, |top_k| top_k as usize)).zip(1..);
    let found = hits.map(|(place, rank)| Found { rank, score: scores[place], ..corpus.found(place) });
    let answer = Answer { query_id: None, query, hits: found.collect() };
    target.write(|out| line(out, &answer, args.form()))
}

/// Reorders the best documents of each query of a ranking.
fn of_run(args: &Args, run: &Path, queries: &Path, target: Target) -> Result<()> {
    let ranking = care_eval::io::read_run(run)?;
    note!("reading {} and {}", queries.display(), args.corpus.display());
    let rows = read_queries(queries)?;
    let ids: HashSet<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
    if let Some(unknown) = ranking.query_ids().find(|id| !ids.contains(id)) {
        bail!("{}: query {unknown:?} is not in {}", run.display(), queries.display());
    }
    let without = rows.iter().filter(|(id, _)| !ranking.contains(id)).count();
    if without > 0 {
        note!("note: {without} of {} queries are not in {}", rows.len(), run.display());
    }
    let task = RetrievalTask::unjudged("the ranking", Corpus::open([&args.corpus])?, rows)?;
    let reranker = open(args)?;
    let mut progress = None;
    let depth = args.depth as usize;
    let reranked = cmedteb::rerank(&task, &ranking, &reranker, depth, &Protocol::default(), &mut |now| {
        let start = || Progress::start("reranking", Some(now.total), "pairs");
        progress.get_or_insert_with(start).set(now.encoded);
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    let reranked = reranked?;
    if let Target::Trec(path) = &target {
        return Ok(care_eval::io::write_trec_run(path, &reranked, "care")?);
    }
    let shown = depth.min(args.top_k.map_or(usize::MAX, |top_k| top_k as usize));
    target.write(|out| {
        let asked = task.query_ids().iter().zip(task.queries()).filter(|(id, _)| reranked.contains(id));
        asked.into_iter().try_for_each(|(id, query)| line(out, &answer(id, query, &reranked, shown), args.form()))
    })
}

fn answer<'a>(id: &'a str, query: &'a Query, reranked: &'a Run, shown: usize) -> Answer<'a> {
    let hits = reranked.ranked(id, Ties::default()).into_iter().take(shown).zip(1..);
    let found = hits.map(|((doc_id, score), rank)| Found { rank, score, id: doc_id.to_owned(), ..Found::default() });
    Answer { query_id: Some(id), query: query.parts().1, hits: found.collect() }
}

fn read_queries(path: &Path) -> Result<Vec<(String, Query)>> {
    let mut queries = Vec::new();
    for_each_query(path, &mut |number, id, query| {
        if query.content().trim().is_empty() {
            return Err(Error::line(path, number, "`text` is empty"));
        }
        queries.push((id, query));
        Ok(())
    })?;
    Ok(queries)
}

fn open(args: &Args) -> Result<CrossEncoder> {
    let loaded = args.reranker.open(&args.place)?;
    Ok(loaded.ok_or_else(|| anyhow!("--reranker is required"))?.reranker)
}

fn line(out: &mut dyn Write, answer: &Answer<'_>, form: Form) -> Result<()> {
    Ok(writeln!(out, "{}", answer.render(form)?)?)
}

impl Args {
    /// JSON in a file.
    fn form(&self) -> Form {
        if self.output.is_some() { Form::Json } else { self.form.form() }
    }
}

/// Where the output goes.
enum Target {
    Stdout,
    Jsonl(PathBuf),
    Trec(PathBuf),
}

impl Target {
    fn of(args: &Args) -> Result<Self> {
        let Some(path) = &args.output else { return Ok(Self::Stdout) };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Ok(Self::Jsonl(path.clone())),
            Some("trec") if args.run.is_some() => Ok(Self::Trec(path.clone())),
            _ => bail!(
                "{}: answers are written to .jsonl files, and rankings (--run) to .trec files too",
                path.display()
            ),
        }
    }

    /// Writes lines, to a file completely or not at all.
    fn write(self, lines: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                lines(&mut out)?;
                Ok(out.flush()?)
            }
            Self::Jsonl(path) | Self::Trec(path) => {
                let mut out = BufWriter::new(AtomicFile::create(&path)?);
                lines(&mut out)?;
                out.into_inner().map_err(|e| Error::io("write", &path, e.into_error()))?.commit()?;
                Ok(())
            }
        }
    }
}
