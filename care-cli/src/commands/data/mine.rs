//! `care data mine`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::Embedder;
use care_core::Role;
use care_core::files::write_atomic;
use care_core::index::{Hit, VectorFormat};
use care_core::manifest::Input;
use care_data::mine::{
    Bm25Source, Documents, Ids, Lacking, Mix, Plan, Queries, Report, RunSource, Source, VectorSource, mine,
    read_corpus, read_judged, read_positives, read_rows,
};
use care_data::rows::{RowFormat, RowWriter};
use serde_json::{Value, json};

use super::bad_rows::{BadRows, BadRowsArgs};
use super::mine_rules::RuleArgs;
use crate::commands::manifest::write_manifest;
use crate::model::{CacheArgs, Model, PairArgs};
use crate::progress::Progress;
use crate::stderr::note;

#[derive(clap::Args)]
#[command(mut_arg("model", |arg| arg.required(false).default_value("").hide_default_value(true)))]
pub(crate) struct Args {
    /// Training rows with queries and positives, in any form; negatives that they have are replaced
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "queries", conflicts_with = "queries")]
    rows: Vec<PathBuf>,
    /// Queries: rows with `_id` (or `id`) and `text`. Those without a positive in --qrels are passed over
    #[arg(long, value_name = "FILE", requires_all = ["qrels", "corpus"])]
    queries: Option<PathBuf>,
    /// Judgements that name the positives of --queries
    #[arg(long, value_name = "FILE", requires = "queries")]
    qrels: Option<PathBuf>,
    /// Lowest grade of a positive
    #[arg(long, value_name = "N", default_value_t = 1, requires = "qrels")]
    min_grade: i32,
    /// Documents that may be negatives: rows with `text` and optionally `title` and `_id`; by default the distinct
    /// positives of --rows. No test document belongs here that a model is to be tested on
    #[arg(long, value_name = "FILE", num_args = 1..)]
    corpus: Vec<PathBuf>,
    /// Accept positives of --rows that the corpus lacks: they are scored, and are no candidates
    #[arg(long, conflicts_with = "queries")]
    allow_missing_positives: bool,
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Keep document vectors in 16 bits, which halves their memory
    #[arg(long, requires = "model")]
    half_index: bool,
    /// Find candidates with BM25 over character bigrams
    #[arg(long)]
    bm25: bool,
    /// Rankings of other systems (TREC, or .json), which need ids of queries and documents
    #[arg(long = "run", value_name = "FILE", num_args = 1..)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// Queries that are encoded and searched together; does not change the result
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    group: u32,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// Form of the output: flagembedding, triplet, n-tuple-N (e.g. n-tuple-7) or tevatron
    #[arg(long, value_name = "FORM", default_value = "flagembedding")]
    format: RowFormat,
    /// The rows with their negatives (.jsonl, .jsonl.gz or .parquet). The report is written beside them: OUTPUT.report.json,
    /// .md and .html
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// What is mined for.
struct Texts {
    documents: Documents,
    queries: Queries,
    ids: Ids,
    unjudged: usize,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let plan = args.plan()?;
    if args.model().is_none() && !args.bm25 && args.runs.is_empty() {
        bail!("no source of candidates: use --model, --bm25 or --run");
    }
    let mut writer = RowWriter::create(&args.output, args.format)?;
    let mut bad = args.bad.collect();
    let texts = args.read(&plan, &mut bad)?;
    let (report, fingerprints) = args.mine(&plan, &texts, &mut writer)?;
    let left_out = writer.left_out();
    let rows = writer.finish()?;
    bad.report(&args.output)?;
    save(&report, &args.output)?;
    args.write_manifest(&report, fingerprints, &texts, rows, &bad)?;
    note!("{}", report.to_markdown());
    if texts.unjudged > 0 {
        note!("{} queries have no positive in the qrels and were passed over", texts.unjudged);
    }
    if left_out > 0 {
        note!("warning: {left_out} queries have too few negatives for {} and were left out", args.format);
    }
    note!("{rows} rows in {}", args.output.display());
    Ok(())
}

impl Args {
    fn model(&self) -> Option<&str> {
        Some(self.pair.model.name()).filter(|name| !name.is_empty())
    }

    fn plan(&self) -> Result<Plan> {
        let mut names = Vec::new();
        names.extend(self.model().map(|_| "model".to_owned()));
        names.extend(self.bm25.then(|| "bm25".to_owned()));
        names.extend(self.runs.iter().map(|path| name_of(path)));
        let mut plan = Plan::default();
        (plan.rules, plan.group) = (self.rules.rules()?, self.group as usize);
        if let Some(quotas) = self.rules.quotas(&names)? {
            plan.rules.negatives = quotas.iter().sum();
            plan.mix = Mix::Quotas(quotas);
        }
        plan.rules.check()?;
        Ok(plan)
    }

    /// Reads all texts into temporary files beside the output.
    fn read(&self, plan: &Plan, bad: &mut BadRows) -> Result<Texts> {
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (mut documents, mut queries) = (Documents::new(folder, plan.rules.near)?, Queries::new(folder)?);
        let (mut ids, mut unjudged) = (Ids::default(), 0);
        for path in &self.corpus {
            read_corpus(path, &mut documents, &mut ids, &mut |error| bad.take(error))?;
        }
        if self.corpus.is_empty() {
            for path in &self.rows {
                read_positives(path, &mut documents)?;
            }
        }
        let lacking = if self.allow_missing_positives { Lacking::Score } else { Lacking::Refuse };
        for path in &self.rows {
            read_rows(path, &mut documents, &mut queries, lacking, &mut |error| bad.take(error))?;
        }
        if let (Some(path), Some(qrels)) = (&self.queries, &self.qrels) {
            let positives = self.positives(qrels)?;
            unjudged = read_judged(path, &positives, &ids, &mut queries, &mut |error| bad.take(error))?;
        }
        if queries.is_empty() {
            bail!("there is no query with a positive");
        }
        note!("{} queries, {} documents", queries.len(), documents.corpus());
        Ok(Texts { documents, queries, ids, unjudged })
    }

    fn positives(&self, path: &Path) -> Result<HashMap<String, Vec<String>>> {
        let mut positives: HashMap<String, Vec<String>> = HashMap::new();
        for (query_id, doc_id, grade) in care_eval::io::read_qrels(path)?.judgements() {
            if grade >= self.min_grade {
                positives.entry(query_id.to_owned()).or_default().push(doc_id.to_owned());
            }
        }
        Ok(positives)
    }

    /// Mines and writes the rows. Also returns the fingerprints of the towers.
    fn mine(&self, plan: &Plan, texts: &Texts, writer: &mut RowWriter) -> Result<(Report, Value)> {
        let (documents, queries) = (&texts.documents, &texts.queries);
        let model = self.model().map(|_| self.cache.model(self.pair.open()?.0)).transpose()?;
        let (vectors, fingerprints) = match &model {
            Some(model) => (Some(self.vectors(model, documents)?), fingerprints(model.embedder())?),
            None => (None, Value::Null),
        };
        let bm25 = self.bm25.then(|| Bm25Source::new(documents)).transpose()?;
        let runs = self.runs.iter().map(|path| read_run(path, &texts.ids)).collect::<Result<Vec<_>>>()?;
        let mut sources: Vec<&dyn Source> = Vec::new();
        sources.extend(vectors.iter().map(|source| source as &dyn Source));
        sources.extend(bm25.iter().map(|source| source as &dyn Source));
        sources.extend(runs.iter().map(|source| source as &dyn Source));

        let progress = Progress::start("mine", Some(queries.len()), "queries");
        let report = mine(queries, documents, &sources, plan, &mut |mined| {
            progress.set(mined.number + 1);
            writer.write(&mined.example(documents, queries)?)
        });
        progress.finish();
        if let Some(model) = &model {
            model.warn();
        }
        Ok((report?, fingerprints))
    }

    fn vectors<'m>(&self, model: &'m Model, documents: &Documents) -> Result<VectorSource<'m>> {
        let format = if self.half_index { VectorFormat::F16 } else { VectorFormat::F32 };
        let progress = Progress::start("documents", Some(documents.len()), "documents");
        let name = name_of(Path::new(self.pair.model.name()));
        let source = VectorSource::new(name, model.embedder(), documents, format, &mut |done| progress.set(done));
        progress.finish();
        Ok(source?)
    }

    fn write_manifest(
        &self,
        report: &Report,
        fingerprints: Value,
        texts: &Texts,
        rows: usize,
        bad: &BadRows,
    ) -> Result<()> {
        let files = [("rows", self.rows.as_slice()), ("corpus", &self.corpus), ("run", &self.runs)];
        let judged = [("queries", self.queries.as_slice()), ("qrels", self.qrels.as_slice())];
        let mut inputs = Vec::new();
        for (role, paths) in files.into_iter().chain(judged) {
            for path in paths {
                inputs.push(Input::of(role, path)?);
            }
        }
        let sources: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
        let options = json!({
            "rules": report.rules, "near_duplicates": report.rules.near.is_some(), "sources": sources,
            "scored_by": report.scored_by, "towers": fingerprints, "format": self.format.to_string(),
            "min_grade": self.min_grade, "allow_missing_positives": self.allow_missing_positives,
        });
        let counts = json!({
            "documents": texts.documents.corpus(), "queries": report.queries, "queries without positives": texts.unjudged,
            "bad rows": bad.count(), "negatives": report.negatives, "short": report.short, "without": report.without,
            "left out": report.left_out, "filled": report.filled, "rows written": rows,
        });
        write_manifest("data mine", options, counts, inputs, &self.output)
    }
}

fn fingerprints(embedder: &dyn Embedder) -> Result<Value> {
    Ok(json!({ "query": embedder.fingerprint(Role::Query)?, "document": embedder.fingerprint(Role::Document)? }))
}

fn read_run(path: &Path, ids: &Ids) -> Result<RunSource> {
    let run = care_eval::io::read_run(path)?;
    let (mut rankings, mut unknown) = (HashMap::new(), 0);
    for query_id in run.query_ids() {
        let mut hits = Vec::new();
        for (doc_id, score) in run.get(query_id).into_iter().flatten() {
            match ids.get(doc_id) {
                Some(index) => hits.push(Hit { index, score }),
                None => unknown += 1,
            }
        }
        rankings.insert(query_id.to_owned(), hits);
    }
    if rankings.values().all(Vec::is_empty) {
        bail!("{}: the corpus has none of the documents of this run; it needs the same `_id`", path.display());
    }
    if unknown > 0 {
        note!("warning: {}: {unknown} results are documents that the corpus does not have", path.display());
    }
    Ok(RunSource::new(name_of(path), rankings))
}

/// A short name for a source: no folder of this machine.
fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Writes the report in every form beside the output.
fn save(report: &Report, output: &Path) -> Result<()> {
    let beside = |suffix: &str| {
        let mut name = output.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    write_atomic(beside(".report.json"), serde_json::to_string_pretty(report)? + "\n")?;
    write_atomic(beside(".report.md"), report.to_markdown())?;
    write_atomic(beside(".report.html"), report.to_html()?)?;
    Ok(())
}
