//! `care label collect`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::manifest::Input;
use care_core::{Error, Query};
use care_eval::Run;
use care_label::collect::QueryText;
use care_label::pair::write_pairs;
use care_label::{Pair, Pool};
use cmedteb::{Corpus, Protocol, RetrievalTask, for_each_row};
use serde::Deserialize;
use serde_json::json;

use crate::commands::manifest::write_manifest;
use crate::model::{CacheArgs, PairArgs};
use crate::progress::Progress;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Queries: rows with `_id` (or `id`), `text` and optionally `group`, e.g. the department (.jsonl, .csv, .tsv,
    /// .parquet)
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title`
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// Judgements that exist already: their documents are candidates too, and their grades are kept beside the pairs
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    #[command(flatten)]
    systems: SystemArgs,
    /// Documents per query and system
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    depth: u32,
    /// The pairs (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Systems that retrieve documents.
#[derive(clap::Args)]
pub(in crate::commands) struct SystemArgs {
    /// Retrieve with BM25 over character bigrams
    #[arg(long)]
    bm25: bool,
    /// Retrieve with these models, each with its own settings
    #[arg(long = "model", value_name = "DIR|ORG/NAME", num_args = 1..)]
    models: Vec<String>,
    /// Rankings of other systems (TREC, or .json), named after the file
    #[arg(long = "run", value_name = "FILE", num_args = 1..)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
}

/// A row of the queries.
#[derive(Deserialize)]
struct QueryRow {
    #[serde(alias = "_id")]
    id: String,
    text: String,
    group: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    args.systems.require("candidates")?;
    let queries = read_queries(&args.queries)?;
    let qrels = args.qrels.as_ref().map(care_eval::io::read_qrels).transpose()?;
    let corpus = Corpus::open([&args.corpus])?;
    let texts = queries.iter().map(|query| (query.id.clone(), Query::new(query.text.clone()))).collect();
    let task = RetrievalTask::unjudged("the pool", corpus, texts)?;

    let (mut pool, depth) = (Pool::default(), args.depth as usize);
    for (name, ranking) in args.systems.rankings(&task, depth)? {
        pool.add(&name, &ranking, depth)?;
    }
    let wanted = pool.doc_ids(qrels.as_ref());
    let mut documents = HashMap::with_capacity(wanted.len());
    let mut ids = task.corpus().ids().iter();
    task.corpus().visit(1024, &mut |group| {
        for (document, id) in group.iter().zip(&mut ids) {
            if wanted.contains(id) {
                documents.insert(id.clone(), care_core::Text::content(document).into_owned());
            }
        }
        Ok(())
    })?;
    let pairs = pool.pairs(&queries, &documents, qrels.as_ref())?;
    write_pairs(&args.output, &pairs)?;

    let without = pool.without_candidates(&queries);
    if !without.is_empty() {
        note!("warning: {} of {} queries have no candidate, e.g. `{}`", without.len(), queries.len(), without[0]);
    }
    let mut inputs = vec![Input::of("queries", &args.queries)?, Input::of("corpus", &args.corpus)?];
    for (role, paths) in [("qrels", args.qrels.as_slice()), ("run", args.systems.runs.as_slice())] {
        for path in paths {
            inputs.push(Input::of(role, path)?);
        }
    }
    let options = json!({ "bm25": args.systems.bm25, "models": args.systems.models, "depth": depth });
    let counts = json!({
        "queries": queries.len(), "queries without candidates": without.len(), "pairs": pairs.len(),
    });
    write_manifest("label collect", options, counts, inputs, &args.output)?;
    note!("{} pairs of {} queries in {}", pairs.len(), queries.len() - without.len(), args.output.display());
    by_system(&pairs);
    Ok(())
}

impl SystemArgs {
    /// # Errors
    /// If there is none.
    pub(in crate::commands) fn require(&self, what: &str) -> Result<()> {
        if !self.bm25 && self.models.is_empty() && self.runs.is_empty() {
            bail!("no system retrieves {what}: use --bm25, --model or --run");
        }
        Ok(())
    }

    /// The files of rankings.
    pub(in crate::commands) fn runs(&self) -> &[PathBuf] {
        &self.runs
    }

    /// What they are, for a manifest.
    pub(in crate::commands) fn names(&self) -> Vec<String> {
        let bm25 = self.bm25.then(|| "bm25".to_owned());
        bm25.into_iter().chain(self.models.iter().cloned()).chain(self.runs.iter().map(|path| name_of(path))).collect()
    }

    /// The ranking of each system, with its name.
    pub(in crate::commands) fn rankings(&self, task: &RetrievalTask, depth: usize) -> Result<Vec<(String, Run)>> {
        let protocol = Protocol::default().with_depth(depth.max(100));
        let mut rankings = Vec::new();
        if self.bm25 {
            rankings.push(("bm25".to_owned(), cmedteb::bm25(task, &protocol)?));
        }
        for model in &self.models {
            let (pair, _) = PairArgs::alone(["--model", model])?.open()?;
            let loaded = self.cache.model(pair)?;
            let texts = task.queries().len() + task.corpus().len();
            let progress = Progress::start(model, Some(texts), "texts");
            let run = cmedteb::rank(task, loaded.embedder(), &protocol, &mut |now| progress.set(now.encoded))?;
            progress.finish();
            loaded.warn();
            rankings.push((name_of(Path::new(model)), run));
        }
        for path in &self.runs {
            rankings.push((name_of(path), care_eval::io::read_run(path)?));
        }
        Ok(rankings)
    }
}

/// A short name for a system: no folder of this machine.
fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn read_queries(path: &Path) -> Result<Vec<QueryText>> {
    let mut queries = Vec::new();
    for_each_row(path, &mut |line, row: QueryRow| {
        let text = row.text.trim().to_owned();
        if text.is_empty() {
            return Err(Error::line(path, line, "`text` is empty"));
        }
        queries.push(QueryText { id: row.id, text, group: row.group });
        Ok(())
    })?;
    Ok(queries)
}

/// Says how many pairs each system found, and how many it alone found.
fn by_system(pairs: &[Pair]) {
    let mut counts: std::collections::BTreeMap<&str, (usize, usize)> = std::collections::BTreeMap::new();
    for pair in pairs {
        for found in &pair.systems {
            let count = counts.entry(&found.system).or_default();
            count.0 += 1;
            count.1 += usize::from(pair.systems.len() == 1);
        }
    }
    for (system, (found, alone)) in counts {
        note!("  {system}: {found} pairs, {alone} of them found by no other system");
    }
}
