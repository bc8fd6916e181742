//! `care data score`

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use care_core::manifest::Input;
use care_core::{Document, Embedder, Query, Reranker, Role};
use care_data::rows::{RowFormat, RowWriter, TrainingExample, for_each_usable_example};
use serde_json::{Value, json};

use super::bad_rows::BadRowsArgs;
use super::score_journal::{Journal, RowScores};
use crate::commands::manifest::write_manifest;
use crate::model::{CacheArgs, Model, PairArgs};
use crate::progress::Progress;
use crate::reranker::{Loaded, RerankerArgs, RunArgs};
use crate::stderr::note;

/// Texts of documents that are scored together: enough to sort them by length.
const GROUP: usize = 1024;

/// Adds a teacher's score to every positive and negative, for distillation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows in any of the forms (.jsonl, .csv, .tsv, each also .gz, or .parquet); several files are joined
    #[arg(required = true, value_name = "FILE")]
    rows: Vec<PathBuf>,
    #[command(flatten)]
    reranker: RerankerArgs,
    /// Score by the similarity of this pair of towers instead, with its saved settings
    #[arg(long, value_name = "DIR|ORG/NAME", required_unless_present = "reranker", conflicts_with = "reranker")]
    model: Option<String>,
    #[command(flatten)]
    place: RunArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Form of the output: flagembedding, triplet or n-tuple-N
    #[arg(long, value_name = "FORM", default_value = "flagembedding")]
    format: RowFormat,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// The scored rows (.jsonl, .jsonl.gz or .parquet). Scores are kept in OUTPUT.scores.jsonl meanwhile, from which an
    /// interrupted run goes on
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    if args.format == RowFormat::Tevatron {
        bail!("the form tevatron has no scores: use flagembedding, triplet or n-tuple-N");
    }
    let writer = RowWriter::create(&args.output, args.format)?;
    let inputs = args.rows.iter().map(|path| Input::of("rows", path)).collect::<care_core::Result<Vec<_>>>()?;
    let scorer = Scorer::open(&args)?;
    let read: Vec<&str> = inputs.iter().map(|input| input.file.sha256.as_str()).collect();
    let journal = Journal::open(&args.output, &json!({ "rows": read, "scorer": scorer.fingerprint()? }))?;
    if journal.kept() > 0 {
        note!("{} rows were scored by an earlier run", journal.kept());
    }
    let mut bad = args.bad.collect();
    let progress = Progress::start("score", None, "rows");
    let mut work = Work { scorer: &scorer, writer, journal, group: Vec::new(), documents: 0, done: Counts::default() };
    for path in &args.rows {
        let mut take = |_, row| {
            work.take(row)?;
            progress.set(work.done.rows);
            Ok(())
        };
        for_each_usable_example(path, &mut take, &mut |error| bad.take(error))?;
    }
    work.score_group()?;
    progress.finish();
    let Work { writer, journal, done, .. } = work;
    if done.rows == 0 {
        bail!("no training rows");
    }
    let left_out = writer.left_out();
    let written = writer.finish()?;
    if left_out > 0 {
        note!("warning: {left_out} of {} rows have too few negatives for {} and were left out", done.rows, args.format);
    }
    bad.report(&args.output)?;
    let counts = json!({
        "rows read": done.rows, "rows left out": left_out, "bad rows": bad.count(), "rows written": written,
        "positives": done.positives, "negatives": done.negatives,
        "negatives not below the lowest positive": done.above,
    });
    let options = json!({ "format": args.format.to_string(), "scorer": scorer.settings() });
    write_manifest("data score", options, counts, inputs, &args.output)?;
    journal.remove();
    note!("{written} rows in {}", args.output.display());
    done.report();
    Ok(())
}

/// What was scored.
#[derive(Default)]
struct Counts {
    rows: usize,
    positives: usize,
    negatives: usize,
    /// Negatives that score at least as well as a positive of their row.
    above: usize,
    sums: [f64; 2],
}

impl Counts {
    fn add(&mut self, scores: &RowScores) {
        self.rows += 1;
        self.positives += scores.positives.len();
        self.negatives += scores.negatives.len();
        let lowest = scores.positives.iter().copied().fold(f32::INFINITY, f32::min);
        self.above += scores.negatives.iter().filter(|score| **score >= lowest).count();
        for (sum, scores) in self.sums.iter_mut().zip([&scores.positives, &scores.negatives]) {
            *sum += scores.iter().map(|score| f64::from(*score)).sum::<f64>();
        }
    }

    /// Says how far positives and negatives are apart.
    fn report(&self) {
        let mean = |sum: f64, count: usize| sum / count.max(1) as f64;
        note!("{} positives, mean score {:.4}", self.positives, mean(self.sums[0], self.positives));
        if self.negatives > 0 {
            let share = 100.0 * self.above as f64 / self.negatives as f64;
            note!("{} negatives, mean score {:.4}", self.negatives, mean(self.sums[1], self.negatives));
            note!("{} negatives ({share:.1} %) do not score below every positive of their row", self.above);
        }
    }
}

/// The rows on their way through the scorer.
struct Work<'a> {
    scorer: &'a Scorer,
    writer: RowWriter,
    journal: Journal,
    group: Vec<TrainingExample>,
    /// Positives and negatives of the group.
    documents: usize,
    done: Counts,
}

impl Work<'_> {
    fn take(&mut self, row: TrainingExample) -> care_core::Result<()> {
        if let Some(scores) = self.journal.next_kept(&row)? {
            return self.write(row, scores);
        }
        self.documents += row.positives.len() + row.negatives.len();
        self.group.push(row);
        if self.documents >= GROUP {
            self.score_group()?;
        }
        Ok(())
    }

    fn score_group(&mut self) -> care_core::Result<()> {
        let group = std::mem::take(&mut self.group);
        self.documents = 0;
        if group.is_empty() {
            return Ok(());
        }
        let scores = self.scorer.score(&group)?;
        self.journal.append(&scores)?;
        group.into_iter().zip(scores).try_for_each(|(row, scores)| self.write(row, scores))
    }

    fn write(&mut self, row: TrainingExample, scores: RowScores) -> care_core::Result<()> {
        self.done.add(&scores);
        self.writer.write(&row.with(|row| {
            row.positive_scores = scores.positives;
            row.negative_scores = scores.negatives;
        }))
    }
}

/// What scores a document for a query.
enum Scorer {
    Reranker(Box<Loaded>),
    Pair(Box<Model>, Value),
}

impl Scorer {
    fn open(args: &Args) -> Result<Self> {
        if let Some(loaded) = args.reranker.open(&args.place)? {
            return Ok(Self::Reranker(Box::new(loaded)));
        }
        let name = args.model.as_deref().ok_or_else(|| anyhow!("--reranker or --model is required"))?;
        let (budget, device) = (args.place.batch_tokens.to_string(), args.place.device.to_string());
        let line = ["--model", name, "--batch-tokens", &budget, "--device", &device];
        let flags = [("--force-f16", args.place.force_f16), ("--ignore-custom-code", args.place.ignore_custom_code)];
        let set = flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag);
        let (pair, source) = PairArgs::alone(line.into_iter().chain(set))?.open()?;
        Ok(Self::Pair(Box::new(args.cache.model(pair)?), source))
    }

    /// Identifies everything that decides the scores.
    fn fingerprint(&self) -> Result<Value> {
        Ok(match self {
            Self::Reranker(loaded) => json!(loaded.reranker.fingerprint()?),
            Self::Pair(model, _) => {
                let pair = model.embedder();
                let keys = (pair.query_key(&Query::new("")), pair.document_key(&Document::new("")));
                json!([pair.fingerprint(Role::Query)?, pair.fingerprint(Role::Document)?, keys.0, keys.1])
            }
        })
    }

    fn settings(&self) -> Value {
        match self {
            Self::Reranker(loaded) => json!({ "reranker": loaded.settings }),
            Self::Pair(_, source) => json!({ "pair": source }),
        }
    }

    /// The scores of each row.
    fn score(&self, rows: &[TrainingExample]) -> care_core::Result<Vec<RowScores>> {
        let queries: Vec<Query> = rows.iter().map(|row| Query::new(row.query.as_str())).collect();
        let texts = |row: &TrainingExample| row.positives.iter().chain(&row.negatives).map(Document::new).collect();
        let documents: Vec<Vec<Document>> = rows.iter().map(texts).collect();
        let scores = match self {
            Self::Reranker(loaded) => {
                let of_row = queries.iter().zip(&documents);
                let pairs: Vec<(&Query, &Document)> = of_row
                    .flat_map(|(query, documents)| documents.iter().map(move |document| (query, document)))
                    .collect();
                loaded.reranker.score(&pairs)?
            }
            Self::Pair(model, _) => similarities(model.embedder(), &queries, &documents)?,
        };
        let mut scores = scores.into_iter();
        Ok(rows
            .iter()
            .map(|row| RowScores {
                positives: scores.by_ref().take(row.positives.len()).collect(),
                negatives: scores.by_ref().take(row.negatives.len()).collect(),
            })
            .collect())
    }
}

/// The dot product of each document with its query.
fn similarities(
    embedder: &dyn Embedder,
    queries: &[Query],
    documents: &[Vec<Document>],
) -> care_core::Result<Vec<f32>> {
    let of_queries = embedder.embed_queries(queries)?;
    let of_documents = embedder.embed_documents(&documents.concat())?;
    let rows = documents.iter().enumerate().flat_map(|(row, documents)| std::iter::repeat_n(row, documents.len()));
    Ok(rows.enumerate().map(|(place, row)| of_queries.dot(row, &of_documents, place)).collect())
}
